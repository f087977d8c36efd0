"""Headers of safetensors files: with a configuration, alone, sharded, and broken in every way."""

import json
import struct

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import llmcalc
from llmcalc.catalog import Catalog
from llmcalc.errors import ConfigError, LlmcalcError
from llmcalc.model.readers.safetensors import read_header

WIDTHS = {"BF16": 2, "F16": 2, "F32": 4, "F8_E4M3": 1, "U8": 1, "I32": 4}
FAMILIES = [
    "llama-3.1-8b", "mistral-7b-v0.1", "mixtral-8x7b", "qwen2.5-7b", "qwen3-30b-a3b", "qwen3-next-80b",
    "gemma-2-9b", "gemma-3-27b", "phi-2", "phi-4", "gpt2", "pythia-6.9b", "opt-350m", "olmo-2-1124-7b",
    "deepseek-v2-lite", "gpt-oss-20b", "mamba2-1.3b", "falcon-40b", "glm-4.5-air",
]  # fmt: skip


def header_bytes(tensors):
    """A header, and the length of the data behind it."""
    entries, at = {}, 0
    for name, dtype, shape in tensors:
        end = at + WIDTHS[dtype] * int(np.prod(shape, dtype=object))
        entries[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, end]}
        at = end
    return json.dumps(entries).encode(), at


def write(path, tensors):
    """A sparse file of true length."""
    head, length = header_bytes(tensors)
    with path.open("wb") as stream:
        stream.write(struct.pack("<Q", len(head)) + head)
        stream.truncate(8 + len(head) + length)


def raw(path, head, length=0):
    path.write_bytes(struct.pack("<Q", len(head)) + head + bytes(length))


@pytest.mark.parametrize("name", FAMILIES)
def test_a_folder_agrees_with_its_configuration(tmp_path, name):
    model = llmcalc.model(name)
    (tmp_path / "config.json").write_text(json.dumps(Catalog.shipped().lookup("models", name)["config"]))
    write(tmp_path / "model.safetensors", [(t.name, "BF16", t.shape) for t in model.tensors])
    read = llmcalc.model(str(tmp_path))
    for tag in ("main", "mtp", "buffer"):
        assert read.count(tag) == model.count(tag)
    assert (read.source, read.dtype, read.warnings) == ("safetensors", "bf16", [])
    report = llmcalc.vram(str(tmp_path), context=1000)
    assert report["weights"].bytes == 2 * model.params
    assert report["kv_cache"].bytes == llmcalc.vram(model, context=1000)["kv_cache"].bytes


def test_written_by_the_package(tmp_path):
    numpy_file = pytest.importorskip("safetensors.numpy")
    path = tmp_path / "model.safetensors"
    numpy_file.save_file({"a.weight": np.zeros((3, 5), np.float32), "b": np.zeros(7, np.int8)}, path)
    found = {t.name: (t.dtype, t.shape, t.nbytes) for t in read_header(str(path))}
    assert found == {"a.weight": ("fp32", (3, 5), 60), "b": ("int8", (7,), 7)}


def test_mixed_dtypes_scales_and_what_is_stored_besides(tmp_path):
    """Linear layers in fp8 with scales, the rest in 16 bit, a tied head saved again, a rotary buffer."""
    entry = Catalog.shipped().lookup("models", "llama-3.2-1b")["config"]
    model = llmcalc.model(entry)
    tensors = []
    for t in model.tensors:
        linear = len(t.shape) == 2 and t.role not in ("embedding",)
        tensors.append((t.name, "F8_E4M3" if linear else "BF16", t.shape))
        if linear:
            tensors.append((t.name + "_scale_inv", "F32", (1, 1)))
    tensors += [
        ("lm_head.weight", "BF16", (128256, 2048)),
        ("model.layers.0.self_attn.rotary_emb.inv_freq", "F32", (32,)),
    ]
    (tmp_path / "config.json").write_text(json.dumps(entry))
    write(tmp_path / "model.safetensors", tensors)
    read = llmcalc.model(str(tmp_path))
    assert read.params == model.params
    assert read.count("duplicate") == 128256 * 2048
    assert read.count("buffer") == 32
    scales = read.count("scale")
    assert scales == 16 * 7
    linear = sum(
        t.shape[0] * t.shape[1] for t in model.tensors if len(t.shape) == 2 and t.role != "embedding"
    )
    weights = llmcalc.vram(str(tmp_path))["weights"]
    assert weights.bytes == linear + 2 * (model.params - linear) + 4 * scales
    assert sum(part.bytes for part in weights.items) == weights.bytes
    # --dtype is that of unquantized weights; --quant none prices all alike.
    floats = llmcalc.vram(str(tmp_path), dtype="fp32")["weights"].bytes
    assert floats == linear + 4 * (model.params - linear + scales)
    plain = llmcalc.vram(str(tmp_path), dtype="fp32", quant="none")["weights"].bytes
    assert plain == 4 * model.params


def mxfp4(tensor):
    """Experts as OpenAI stores them: blocks of 32 elements in 16 bytes, and a scale for each."""
    if ".experts." not in tensor.name or tensor.part == "bias" or tensor.name.endswith("bias"):
        return [(tensor.name, "BF16", tensor.shape)]
    experts, inner, outer = tensor.shape
    return [
        (tensor.name + "_blocks", "U8", (experts, outer, inner // 32, 16)),
        (tensor.name + "_scales", "U8", (experts, outer, inner // 32)),
    ]


def awq(tensor):
    """Linear layers in 4 bits, eight to an integer, with scales and zero points of 128 elements."""
    if tensor.layer is None or len(tensor.shape) != 2:
        return [(tensor.name, "F16", tensor.shape)]
    stem, (outer, inner) = tensor.name.removesuffix(".weight"), tensor.shape
    return [
        (stem + ".qweight", "I32", (inner, outer // 8)),
        (stem + ".qzeros", "I32", (inner // 128, outer // 8)),
        (stem + ".scales", "F16", (inner // 128, outer)),
    ]


def gptq3(tensor):
    """Linear layers in 3 bits: 32 elements in three integers."""
    if tensor.layer is None or len(tensor.shape) != 2:
        return [(tensor.name, "F16", tensor.shape)]
    stem, (outer, inner) = tensor.name.removesuffix(".weight"), tensor.shape
    return [(stem + ".qweight", "I32", (inner * 3 // 32, outer)), (stem + ".scales", "F16", (1, outer))]


def nvfp4(tensor):
    """Linear layers in 4 bits, two to a byte, under their own name."""
    if tensor.layer is None or len(tensor.shape) != 2:
        return [(tensor.name, "BF16", tensor.shape)]
    outer, inner = tensor.shape
    return [
        (tensor.name, "U8", (outer, inner // 2)),
        (tensor.name + "_scale", "F8_E4M3", (outer, inner // 16)),
    ]


@pytest.mark.parametrize(
    ("name", "convert", "nbytes"),
    [
        ("gpt-oss-20b", mxfp4, 13_761_264_768),  # as published
        ("llama-3.1-8b", awq, None),
        ("llama-3.1-8b", gptq3, None),
        ("llama-3.1-8b", nvfp4, None),
    ],
)
def test_packed_elements(tmp_path, name, convert, nbytes):
    config = dict(Catalog.shipped().lookup("models", name)["config"])
    model = llmcalc.model(config)
    tensors = [one for tensor in model.tensors for one in convert(tensor)]
    config["quantization_config"] = {"quant_method": convert.__name__}
    (tmp_path / "config.json").write_text(json.dumps(config))
    write(tmp_path / "model.safetensors", tensors)
    read = llmcalc.model(str(tmp_path))
    report = llmcalc.vram(read, context=1000)
    stored = sum(WIDTHS[dtype] * int(np.prod(shape, dtype=object)) for _, dtype, shape in tensors)
    assert report["weights"].bytes == stored
    assert nbytes in (None, stored)
    assert (read.params, report["weights"].grade) == (model.params, "exact")
    assert llmcalc.params(read, by="tag").total_bytes == stored
    assert not read.warnings
    assert not any("16 bit here" in warning for warning in report.warnings)
    # Another dtype is that of the model; scales and packed elements are what they are.
    floats = 0
    for tensor in model.tensors:
        one, *scales = convert(tensor)
        if one[0] == tensor.name and not scales:
            floats += int(np.prod(one[2], dtype=object))
    assert llmcalc.vram(read, context=1000, dtype="fp32")["weights"].bytes == stored + 2 * floats


def saved(tmp_path, name, tensors):
    (tmp_path / "config.json").write_text(json.dumps(Catalog.shipped().lookup("models", name)["config"]))
    write(tmp_path / "model.safetensors", tensors)
    return llmcalc.model(str(tmp_path))


def test_names_without_their_prefix(tmp_path):
    model = llmcalc.model("gemma-2-9b")
    read = saved(
        tmp_path, "gemma-2-9b", [(t.name.removeprefix("model."), "BF16", t.shape) for t in model.tensors]
    )
    assert (read.grade, read.dtype, read.warnings) == ("exact", "bf16", [])
    assert read.count("main", "scale") == read.stored_params == model.params


@pytest.mark.parametrize(
    ("name", "again"),
    [
        ("gemma-3-27b-it", ["language_model.lm_head.weight"]),
        ("t5-base", ["encoder.embed_tokens.weight", "decoder.embed_tokens.weight"]),
        ("whisper-large-v3", ["proj_out.weight"]),
    ],
)
def test_tied_tensors_saved_again(tmp_path, name, again):
    model = llmcalc.model(name)
    embedding = next(t for t in model.tensors if t.role == "embedding" and t.component == "text")
    same = [(t.name, "F16", t.shape) for t in model.tensors]
    read = saved(tmp_path, name, same + [(word, "F16", embedding.shape) for word in again])
    assert read.count("duplicate") - model.count("duplicate") == len(again) * int(np.prod(embedding.shape))
    assert (read.params, read.grade) == (model.params, "exact")


def test_a_file_that_disagrees_is_assumed(tmp_path):
    model = llmcalc.model("gpt2")
    tensors = [(t.name, "F32", t.shape) for t in model.tensors]
    assert saved(tmp_path, "gpt2", tensors[:-1]).grade == "assumed"
    assert saved(tmp_path, "gpt2", [*tensors, ("novel.weight", "F32", (8, 8))]).grade == "assumed"


def test_a_sharded_index(tmp_path):
    model = llmcalc.model("gpt2")
    tensors = [(t.name, "BF16", t.shape) for t in model.tensors]
    (tmp_path / "config.json").write_text(json.dumps(Catalog.shipped().lookup("models", "gpt2")["config"]))
    files = {
        "model-00001-of-00002.safetensors": tensors[::2],
        "model-00002-of-00002.safetensors": tensors[1::2],
    }
    for file, part in files.items():
        write(tmp_path / file, part)
    index = {"weight_map": {name: file for file, part in files.items() for name, _, _ in part}}
    path = tmp_path / "model.safetensors.index.json"
    path.write_text(json.dumps(index))
    assert llmcalc.model(str(path)).params == llmcalc.model(str(tmp_path)).params == model.params
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(ConfigError, match="00002"):
        llmcalc.model(str(path))
    partial = llmcalc.model(str(tmp_path))  # the configuration still describes it
    assert partial.params == model.params
    assert any("not there" in warning for warning in partial.warnings)


def test_another_models_weights_are_told(tmp_path):
    (tmp_path / "config.json").write_text(
        json.dumps(Catalog.shipped().lookup("models", "gpt2-medium")["config"])
    )
    write(tmp_path / "model.safetensors", [(t.name, "BF16", t.shape) for t in llmcalc.model("gpt2").tensors])
    warnings = llmcalc.model(str(tmp_path)).warnings
    assert any("other shape" in warning for warning in warnings)
    assert any("missing" in warning for warning in warnings)


def test_a_file_without_a_configuration(tmp_path):
    path = tmp_path / "weights.safetensors"
    write(path, [("x.weight", "BF16", (4, 8)), ("x.weight_scale", "F32", (1,))])
    model = llmcalc.model(str(path))
    assert (model.params, model.count("scale")) == (32, 1)
    with pytest.raises(LlmcalcError, match=r"config\.json"):
        llmcalc.vram(str(path))


GOOD = {"a": {"dtype": "BF16", "shape": [2, 2], "data_offsets": [0, 8]}}


@pytest.mark.parametrize(
    ("head", "length", "word"),
    [
        (b"[]", 0, "object"),
        (b"{", 0, "JSON"),
        (b"\xff\xfe", 0, "JSON"),
        (b"[" * 100_000, 0, "JSON"),
        (json.dumps(GOOD).encode(), 7, "behind the file"),
        (json.dumps({"a": {**GOOD["a"], "data_offsets": [0, 6]}}).encode(), 8, "shape"),
        (json.dumps({"a": {**GOOD["a"], "data_offsets": [8, 0]}}).encode(), 8, "offsets"),
        (json.dumps({"a": {**GOOD["a"], "dtype": "Q9"}}).encode(), 8, "dtype"),
        (json.dumps({"a": {**GOOD["a"], "shape": [-1, 2]}}).encode(), 8, "shape"),
        (json.dumps({"a": {**GOOD["a"], "shape": [2**40, 2**40]}}).encode(), 8, "overflows"),
        (json.dumps({"a": {**GOOD["a"], "shape": [2.0, 2]}}).encode(), 8, "shape"),
        (json.dumps({"a": GOOD["a"], "b": GOOD["a"]}).encode(), 16, "overlaps"),
        (b'{"a": 1, "a": 2}', 0, "twice"),
        (json.dumps({"a": 3}).encode(), 0, "object"),
        (json.dumps({"a": {**GOOD["a"], "shape": [2] * 300_000}}).encode(), 8, "shape"),
        (b'{"a": {"dtype": "F32", "data_offsets": [0, 8], "shape": [' + b"9" * 4200 + b"]}}", 8, "shape"),
        (b'{"a": [' + b",".join([b"{}"] * 1_000_000) + b"]}", 0, "does not describe tensors"),
    ],
)
def test_broken_headers(tmp_path, head, length, word):
    path = tmp_path / "broken.safetensors"
    raw(path, head, length)
    with pytest.raises(ConfigError, match=word) as caught:
        llmcalc.model(str(path))
    assert caught.value.remedy


@pytest.mark.parametrize(
    "data", [b"", b"abc", struct.pack("<Q", 2**63) + b"{}", struct.pack("<Q", 10) + b"{}"]
)
def test_broken_files(tmp_path, data):
    path = tmp_path / "broken.safetensors"
    path.write_bytes(data)
    with pytest.raises(ConfigError):
        llmcalc.model(str(path))


@pytest.mark.parametrize("index", [[], {}, {"weight_map": 3}, {"weight_map": {"a": "../x.safetensors"}}])
def test_broken_indices(tmp_path, index):
    path = tmp_path / "model.safetensors.index.json"
    path.write_text(json.dumps(index))
    with pytest.raises(ConfigError):
        llmcalc.model(str(path))


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "model.pth"])
def test_pickles_are_not_opened(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(b"\x80\x04.")
    with pytest.raises(ConfigError, match="pickle") as caught:
        llmcalc.model(str(path))
    assert "config.json" in caught.value.remedy


HEAD, LENGTH = header_bytes(
    [("model.layers.0.mlp.up_proj.weight", "BF16", (8, 4)), ("norm.weight", "F32", (4,))]
)
WHOLE = struct.pack("<Q", len(HEAD)) + HEAD + bytes(LENGTH)


@given(
    st.lists(st.tuples(st.integers(0, len(WHOLE) - 1), st.binary(max_size=6)), max_size=6), st.integers(0, 40)
)
@settings(
    derandomize=True,
    deadline=None,
    max_examples=300,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_mutated_files_end_well(tmp_path, changes, cut):
    data = bytearray(WHOLE)
    for at, patch in changes:
        data[at : at + len(patch)] = patch
    path = tmp_path / "mutated.safetensors"
    path.write_bytes(bytes(data[: len(data) - cut]))
    try:
        params = llmcalc.model(str(path)).params
    except LlmcalcError as error:
        params = len(error.remedy)
    assert params >= 0
