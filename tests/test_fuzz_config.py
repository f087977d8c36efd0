"""Mutated configurations, texts, numbers and catalogs: an answer, or an error with its remedy."""

from __future__ import annotations

import copy
import json
import math
import os
import time

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import llmcalc
from llmcalc import units
from llmcalc.catalog import Catalog
from llmcalc.errors import LlmcalcError
from llmcalc.hardware import Device, device_of, parse_gpu, parse_gpus
from llmcalc.model.inventory import Inventory
from llmcalc.model.readers.catalog import read_entry
from llmcalc.model.readers.config import read_dict

FUZZ = settings(
    derandomize=True,
    deadline=None,
    max_examples=200,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
SECONDS = 1.0
CATALOG = Catalog.shipped()


def one_of_each_family() -> list[dict]:
    found: dict[str, dict] = {}
    for entry in CATALOG.entries("models"):
        found.setdefault(str(entry["config"].get("model_type")), entry["config"])
    return list(found.values())


BASES = one_of_each_family()
TEXTS = [json.dumps(base) for base in BASES]


def test_there_is_something_to_mutate():
    assert len(BASES) >= 20
    for base in BASES:
        assert answer(lambda base=base: read_dict(base, CATALOG, check_keys=False)) is not None


# -- what must hold -----------------------------------------------------------------------------


def answer(call):
    """The result of a call, or None where it is refused with a remedy; nothing else may happen."""
    start = time.process_time()
    refusal = None
    try:
        result = call()
    except LlmcalcError as error:
        result, refusal = None, error
    assert time.process_time() - start < SECONDS
    if refusal is not None:
        assert refusal.problem
        assert refusal.remedy
        assert refusal.exit_code == 2
        assert len(str(refusal)) < 5000
    return result


def numbers(value):
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for one in value:
            yield from numbers(one)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield value


def hold(inventory: Inventory) -> None:
    """A model that was read counts in positive integers, and can be estimated."""
    counts = (inventory.params, inventory.active_params, inventory.stored_params)
    assert all(type(count) is int and count > 0 for count in counts)
    assert inventory.active_params <= inventory.params
    assert inventory.params <= inventory.stored_params
    assert inventory.context is None or (type(inventory.context) is int and inventory.context > 0)
    assert sum(inventory.by_role().values()) == inventory.params
    report = answer(lambda: llmcalc.vram(inventory, gpu="rtx-4090"))
    if report is None:
        return
    assert type(report.total_bytes) is int
    assert report.total_bytes > 0
    found = report.to_dict()
    assert all(math.isfinite(number) for number in numbers(found))
    assert sum(item["bytes_at_peak"] for item in found["items"]) == found["total_bytes"]
    assert all(item["bytes_at_peak"] >= 0 for item in found["items"])
    json.dumps(found, allow_nan=False)


# -- mutations of a configuration ---------------------------------------------------------------

WORDS = st.sampled_from(
    ["hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim",
     "vocab_size", "intermediate_size", "n_embd", "n_layer", "n_head", "num_experts", "num_local_experts",
     "num_experts_per_tok", "sliding_window", "layer_types", "text_config", "vision_config", "model_type",
     "architectures", "torch_dtype", "dtype", "quantization_config", "tie_word_embeddings", "kv_lora_rank",
     "max_position_embeddings", "rope_scaling", "id2label", "use_cache", "mlp_only_layers", "state_size",
     "conv_kernel", "full_attention", "sliding_attention", "llama", "qwen3_moe", "bfloat16", "float99"]
)  # fmt: skip
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from([0, 1, -1, 2, 3, 7, 8, 64, 128, 4096, 10**8, 10**9, 10**30, -(10**30), 2**63, 2**64]),
    st.integers(-(10**6), 10**6),
    st.integers(),
    st.floats(allow_nan=True, allow_infinity=True),
    st.sampled_from([0.5, 4096.0, 4096.5, 1e308, -0.0]),
    WORDS,
    st.text(max_size=8),
    st.sampled_from(["\ud800", "\udcff.json", "a\0b", "x" * 10_000]),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=5), st.dictionaries(st.one_of(WORDS, st.text(max_size=8)), inner, max_size=4)
    ),
    max_leaves=8,
)
KEYS = st.one_of(
    WORDS, st.text(max_size=8), st.sampled_from(["größe", "層", "\u202e", "", " ", "\0", "a" * 300])
)


def places(value: dict) -> list[tuple[dict, str]]:
    """Every key of a configuration, with the (nested) object it stands in."""
    found = []
    for key, inner in value.items():
        found.append((value, key))
        if isinstance(inner, dict):
            found += places(inner)
    return found


def retype(value):
    """The value as another type, still saying the same."""
    if isinstance(value, bool):
        return [int(value), str(value).lower(), [value]]
    if isinstance(value, int):
        return [
            str(value),
            float(value) if abs(value) < 10**300 else 1.0,
            [value],
            {"value": value},
            value + 0.5,
        ]
    if isinstance(value, str):
        return [[value], {"value": value}, len(value), value.upper(), value + "\0"]
    if isinstance(value, list):
        return [
            dict(enumerate(map(str, value))),
            value * 2,
            value[:1],
            [value],
            len(value),
            [None] * len(value),
        ]
    return [[], {}, str(value), [value]]


@st.composite
def mutated(draw):
    config = copy.deepcopy(draw(st.sampled_from(BASES)))
    for _ in range(draw(st.integers(1, 4))):
        spots = places(config)
        if not spots:
            break
        owner, key = draw(st.sampled_from(spots))
        kind = draw(
            st.sampled_from(["delete", "replace", "retype", "scale", "insert", "rename", "swap", "null"])
        )
        value = owner[key]
        if kind == "delete":
            del owner[key]
        elif kind == "replace":
            owner[key] = draw(VALUES)
        elif kind == "null":
            owner[key] = None
        elif kind == "retype":
            owner[key] = draw(st.sampled_from(retype(value)))
        elif kind == "scale" and isinstance(value, (int, float)):
            owner[key] = value * draw(st.sampled_from([-1, 0, 2, 3, 7, 10**6, 10**30]))
        elif kind == "insert":
            owner[draw(KEYS)] = draw(VALUES)
        elif kind == "rename":
            owner[draw(KEYS)] = owner.pop(key)
        elif kind == "swap":
            other, name = draw(st.sampled_from(spots))
            owner[key] = copy.deepcopy(other.get(name))
    return config


@FUZZ
@given(mutated(), st.booleans())
def test_a_mutated_configuration(config, check_keys):
    inventory = answer(lambda: read_dict(config, CATALOG, check_keys=check_keys))
    if inventory is not None:
        hold(inventory)


@FUZZ
@given(mutated())
def test_reading_changes_nothing_and_gives_the_same_again(config):
    before = repr(config)
    first = answer(lambda: read_dict(config, CATALOG))
    second = answer(lambda: read_dict(config, CATALOG))
    assert repr(config) == before
    assert (first is None) == (second is None)
    if first is not None:
        assert first.params == second.params


@FUZZ
@given(st.dictionaries(KEYS, VALUES, max_size=8))
def test_any_object(config):
    inventory = answer(lambda: read_dict(config, CATALOG))
    if inventory is not None:
        hold(inventory)


@FUZZ
@given(
    st.dictionaries(
        st.one_of(st.text(max_size=3), st.integers(), st.none(), st.floats()), SCALARS, max_size=4
    )
)
def test_any_mapping_of_python(config):
    answer(lambda: llmcalc.model(config))


@FUZZ
@given(st.sampled_from(BASES), st.one_of(WORDS, st.text(max_size=20)))
def test_any_family_can_be_assumed_or_is_refused(config, family):
    inventory = answer(lambda: read_dict(config, CATALOG, assume=family))
    if inventory is not None:
        hold(inventory)


@FUZZ
@given(
    st.sampled_from(BASES),
    st.dictionaries(
        st.sampled_from(["num_hidden_layers", "hidden_size", "vocab_size"]), st.integers(1, 10**8), min_size=1
    ),
)
def test_large_sizes_stay_fast(config, sizes):
    inventory = answer(lambda: read_dict({**config, **sizes}, CATALOG, check_keys=False))
    if inventory is not None:
        hold(inventory)


# -- mutations of its text ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz")


def read_bytes(folder, data: bytes) -> None:
    path = folder / "config.json"
    path.write_bytes(data)
    inventory = answer(lambda: llmcalc.model(os.fspath(path), catalog=CATALOG))
    if inventory is not None:
        hold(inventory)


@FUZZ
@given(data=st.binary(max_size=300))
def test_random_bytes(folder, data):
    read_bytes(folder, data)


@FUZZ
@given(text=st.text(max_size=300))
def test_random_text(folder, text):
    read_bytes(folder, text.encode())


@FUZZ
@given(value=VALUES)
def test_random_json(folder, value):
    read_bytes(folder, json.dumps(value).encode())


@st.composite
def mutated_text(draw):
    data = draw(st.sampled_from(TEXTS)).encode()
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.integers(0, 30)))
        kind = draw(st.sampled_from(["cut", "insert", "double", "truncate", "replace", "nest"]))
        if kind == "cut":
            data = data[:start] + data[end:]
        elif kind == "insert":
            data = data[:start] + draw(st.binary(max_size=8)) + data[start:]
        elif kind == "double":
            data = data[:end] + data[start:]
        elif kind == "truncate":
            data = data[:start]
        elif kind == "replace":
            word = draw(
                st.sampled_from([b"null", b"-1", b"0", b"1e999", b"NaN", b'"', b"{", b"[", b",", b"9" * 5000])
            )
            data = data[:start] + word + data[end:]
        else:
            data = b'{"text_config": ' * 50 + data + b"}" * 50
    return data


@FUZZ
@given(data=mutated_text())
def test_mutated_text(folder, data):
    read_bytes(folder, data)


# -- numbers, names and sizes -------------------------------------------------------------------

NUMBERISH = st.one_of(
    st.text(max_size=12),
    st.text("0123456789.,_+-eE kmbgtqKMBGTQiIxX∞½٣\0\n", max_size=14),
    st.from_regex(r"[+-]?[0-9]{0,20}(\.[0-9]{0,20})?(e[+-]?[0-9]{1,6})?[a-zA-Z]{0,3}", fullmatch=True),
    st.integers(),
    st.floats(allow_nan=True, allow_infinity=True),
    st.fractions(),
    st.decimals(allow_nan=True, allow_infinity=True),
    SCALARS,
)


@FUZZ
@given(NUMBERISH)
def test_counts_and_lengths(value):
    for parse, most in (
        (units.parse_count, units.MAX_COUNT),
        (units.parse_length, units.MAX_TOKENS),
        (units.parse_max_model_len, units.MAX_TOKENS),
        (lambda text: units.parse_integer(text, "--tp"), 10**9),
    ):
        found = answer(lambda parse=parse: parse(value))
        assert found is None or (type(found) is int and 1 <= found <= most)


@FUZZ
@given(NUMBERISH)
def test_sizes_and_bits(value):
    size = answer(lambda: units.parse_bytes(value, "--reserve"))
    assert size is None or (type(size) is int and 0 <= size <= 10**18)
    bits = answer(lambda: units.parse_bits(value))
    assert bits is None or 0 < bits <= 64


@FUZZ
@given(
    NUMBERISH.filter(lambda value: not isinstance(value, list)),
    st.sampled_from(
        ["params", "context", "sequences", "bits", "tp", "pp", "dp", "reserve", "overhead", "prompt"]
    ),
)
def test_any_value_of_an_option(value, option):
    keywords = {option: value} if option == "params" else {"params": "13b", option: value}
    report = answer(lambda: llmcalc.vram(catalog=CATALOG, **keywords))
    if report is not None:
        assert type(report.total_bytes) is int
        assert all(math.isfinite(number) for number in numbers(report.to_dict()))


GPUISH = st.one_of(
    st.text(max_size=15),
    st.builds(
        lambda count, cross, name: f"{count}{cross}{name}",
        st.one_of(st.integers(-2, 10**7), st.sampled_from(["", "0", "8", "9" * 30, "٣", "1.5"])),
        st.sampled_from(["x", " x ", "X", "*", "×", "xx", " ", ""]),
        st.sampled_from(["h100-80gb", "rtx-4090", "RTX_4090", "24GiB", "0GiB", "-1GB", "infGiB", "auto", ""]),
    ),
    st.from_regex(r"[0-9.e+-]{1,12} ?(k|m|g|t)?i?b", fullmatch=True),
    SCALARS,
)  # fmt: skip


@FUZZ
@given(GPUISH)
def test_gpus(text):
    device = answer(lambda: parse_gpu(text, CATALOG))
    if device is not None:
        check_device(device)


@FUZZ
@given(st.lists(GPUISH, max_size=4))
def test_lists_of_gpus(words):
    text = ",".join(map(str, words))
    for given_words in (words, text):
        for device in answer(lambda one=given_words: parse_gpus(one, CATALOG)) or []:
            check_device(device)


def check_device(device: Device) -> None:
    assert device.name
    assert device.count is None or 1 <= device.count <= 10**6
    assert all(type(size) is int for size in (device.memory_bytes, device.usable_bytes, device.usable_low))
    assert device.memory_bytes > 0
    assert 0 <= device.usable_low <= device.usable_bytes <= device.usable_high


@FUZZ
@given(st.one_of(st.text(max_size=20), st.text("0123456789.xbk-_/\\~ \0\udcff", max_size=12)))
def test_names_of_models_and_paths(folder, text):
    if text.strip() == "-" or os.path.exists(text.strip().replace("\0", "")):
        return
    inventory = answer(lambda: llmcalc.model(text, catalog=CATALOG))
    assert inventory is None or inventory.params > 0
    assert answer(lambda: llmcalc.vram(config=text, catalog=CATALOG)) is None
    assert answer(lambda: llmcalc.vram("gpt-3", catalog=text)) is None


@FUZZ
@given(
    st.one_of(st.text(max_size=12), SCALARS),
    st.sampled_from(["kv_dtype", "kv_dtype_k", "dtype", "engine", "gpu"]),
)
def test_any_word_of_an_option(word, option):
    report = answer(lambda: llmcalc.vram("gpt-3", catalog=CATALOG, **{option: word}))
    assert report is None or report.total_bytes > 0


# -- catalogs of one's own ----------------------------------------------------------------------

USER = {
    "gpus": [
        {"name": "my-card", "vendor": "NVIDIA", "memory_gb": 24, "memory_mib_driver": 24564,
         "aliases": ["mine"]},
        {"name": "other", "vendor": "AMD", "kind": "gpu", "memory_gb": 16.5, "tflops_dense": {"bf16": 100}},
    ],
    "models": [
        {"name": "my-model", "hf": "me/My-Model", "context": 4096, "config": BASES[0], "sources": ["me"]},
        {"name": "small", "config": {"model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2,
                                     "num_attention_heads": 4, "vocab_size": 100, "intermediate_size": 128}},
    ],
    "formats": [{"name": "q7", "elements": 32, "bytes": 30, "kv": True}],
    "sources": {"me": {"title": "T", "kind": "log", "reference": "R"}},
}  # fmt: skip


def slots(value) -> list[tuple]:
    """Every place in nested lists and mappings."""
    found = []
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in list(pairs):
        found.append((value, key))
        if isinstance(inner, (dict, list)):
            found += slots(inner)
    return found


@st.composite
def mutated_catalog(draw):
    document = copy.deepcopy(USER)
    for _ in range(draw(st.integers(1, 3))):
        spots = slots(document)
        if not spots:
            break
        owner, key = draw(st.sampled_from(spots))
        kind = draw(st.sampled_from(["delete", "replace", "insert", "rename"]))
        if kind == "delete":
            del owner[key]
        elif kind == "replace":
            owner[key] = draw(VALUES)
        elif isinstance(owner, list):
            owner.append(draw(VALUES))
        elif kind == "insert":
            owner[draw(st.one_of(KEYS, st.integers(), st.none()))] = draw(VALUES)
        else:
            owner[draw(KEYS)] = owner.pop(key)
    return yaml.safe_dump(document, allow_unicode=True)


def use_catalog(path: str) -> None:
    """A catalog is refused, or everything in it can be looked up, shown and used."""
    book = answer(lambda: Catalog([path]))
    if book is None:
        return
    for entry in book._own.get("gpus", {}).values():
        device = answer(lambda entry=entry: device_of(entry))
        if device is not None:
            check_device(device)
    for entry in book._own.get("models", {}).values():
        inventory = answer(lambda entry=entry: read_entry(entry, book))
        if inventory is not None:
            hold(inventory)
    answer(lambda: parse_gpu("my-card", book))
    answer(lambda: llmcalc.vram("my-model", gpu="mine", kv_dtype="q7", catalog=book))


@FUZZ
@given(text=mutated_catalog())
def test_mutated_catalogs(folder, text):
    path = folder / "mutated.yaml"
    path.write_text(text, encoding="utf-8")
    use_catalog(os.fspath(path))


@FUZZ
@given(
    data=st.one_of(
        st.binary(max_size=200), st.text("gpus:models -\n{}[]&*!|>'\"#0123 ", max_size=80).map(str.encode)
    )
)
def test_any_text_as_a_catalog(folder, data):
    path = folder / "any.yaml"
    path.write_bytes(data)
    use_catalog(os.fspath(path))


@FUZZ
@given(data=st.data())
def test_a_damaged_catalog(folder, data):
    text = yaml.safe_dump(USER).encode()
    start = data.draw(st.integers(0, len(text)))
    end = min(len(text), start + data.draw(st.integers(0, 40)))
    path = folder / "damaged.yaml"
    path.write_bytes(text[:start] + data.draw(st.binary(max_size=6)) + text[end:])
    use_catalog(os.fspath(path))


def test_the_catalog_that_is_mutated_is_good(folder):
    path = folder / "good.yaml"
    path.write_text(yaml.safe_dump(USER), encoding="utf-8")
    book = Catalog([os.fspath(path)])
    assert parse_gpu("mine", book).name == "my-card"
    assert llmcalc.model("small", catalog=book).params > 0
    assert llmcalc.vram("my-model", gpu="other", kv_dtype="q7", context=4096, catalog=book).total_bytes > 0
