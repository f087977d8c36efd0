"""GGUF headers: against the configuration, from the gguf package, split, and broken in every way."""

import json
import struct
import time

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import llmcalc
from llmcalc.errors import ConfigError, LlmcalcError
from oracles.gguf_writer import text, write


def converted(model):
    """The tensors of a model as a converter writes them: experts stacked, fused ones split."""
    found = {}
    for tensor in model.tensors:
        if tensor.role == "expert_gate_up":
            half = (*tensor.shape[:-1], tensor.shape[-1] // 2)
            for word in ("gate", "up"):
                found[f"blk.{tensor.layer}.ffn_{word}_exps.{tensor.part or 'weight'}"] = [half]
        else:
            found.setdefault(tensor.gguf, []).append(tensor.shape)
    return [
        (name, shapes[0] if len(shapes) == 1 else (len(shapes), *shapes[0])) for name, shapes in found.items()
    ]


def metadata(model, architecture, config):
    """What a converter writes of the sizes."""
    heads = config.get("num_attention_heads", config.get("n_head", 0))
    experts = [config.get(key, 0) for key in ("num_experts", "num_local_experts", "n_routed_experts")]
    known = {
        "block_count": model.layers,
        "context_length": 4096,
        "embedding_length": config.get("hidden_size", config.get("n_embd")),
        "attention.head_count": heads,
        "attention.head_count_kv": config.get("num_key_value_heads", heads),
        "attention.key_length": config.get("head_dim", 0),
        "attention.value_length": config.get("head_dim", 0),
        "attention.sliding_window": config.get("sliding_window") or 0,
        "attention.kv_lora_rank": config.get("kv_lora_rank", 0),
        "rope.dimension_count": config.get("qk_rope_head_dim", 0),
        "expert_count": max(experts),
        "expert_used_count": config.get("num_experts_per_tok", 0),
    }
    if config.get("use_sliding_window") is False or architecture == "phi3":
        known["attention.sliding_window"] = 0
    if architecture == "mamba2":
        known |= {
            "attention.head_count": 0, "attention.key_length": 0, "ssm.conv_kernel": config["conv_kernel"],
            "ssm.inner_size": config["num_heads"] * config["head_dim"], "ssm.group_count": config["n_groups"],
            "ssm.state_size": config["state_size"],
        }  # fmt: skip
    kept = {f"{architecture}.{key}": value for key, value in known.items() if value}
    words = {"tokenizer.ggml.tokens": ["a", "bc"] * 50}
    return {"general.architecture": architecture, "general.name": "Test", **kept, **words}


FAMILIES = {
    "llama-3.1-8b": "llama", "mixtral-8x7b": "llama", "qwen2.5-7b": "qwen2", "qwen3-8b": "qwen3",
    "qwen3-30b-a3b": "qwen3moe", "gemma-2-9b": "gemma2", "gemma-3-1b": "gemma3", "phi-2": "phi2",
    "phi-4": "phi3", "gpt2": "gpt2", "olmo-2-1124-7b": "olmo2", "deepseek-v2-lite": "deepseek2",
    "gpt-oss-20b": "gpt-oss", "mamba2-1.3b": "mamba2", "glm-4.5-air": "glm4moe",
}  # fmt: skip


@pytest.mark.parametrize(("name", "architecture"), FAMILIES.items(), ids=list(FAMILIES))
def test_header_and_configuration_agree(tmp_path, name, architecture):
    model = llmcalc.model(name)
    config = llmcalc.catalog.Catalog.shipped().lookup("models", name)["config"]
    path = tmp_path / "model.gguf"
    write(path, metadata(model, architecture, config), converted(model))
    read = llmcalc.model(str(path))
    assert (read.source, read.family) == ("gguf", architecture)
    for tag in ("main", "buffer"):
        assert read.count(tag) == model.count(tag), tag
    assert read.active_params == model.active_params
    wanted, found = (
        llmcalc.vram(m, context=4000, dtype="bf16", quant="none", allow_overlong=True) for m in (model, read)
    )
    assert found["kv_cache"].bytes == wanted["kv_cache"].bytes
    assert found["weights"].bytes == wanted["weights"].bytes + 2 * model.count("buffer")
    if name != "mamba2-1.3b":  # llama.cpp keeps convolution columns in fp32
        assert found["state"].bytes == wanted["state"].bytes


def test_a_configuration_beside_it_is_compared(tmp_path):
    model = llmcalc.model("smollm2-135m")
    config = llmcalc.catalog.Catalog.shipped().lookup("models", "smollm2-135m")["config"]
    path, beside = tmp_path / "model.gguf", tmp_path / "config.json"
    write(path, metadata(model, "llama", config), converted(model))
    beside.write_text(json.dumps(config))
    read = llmcalc.model(str(path))
    assert read.params == model.params
    assert not read.warnings
    assert "promises" in read.origin
    assert llmcalc.model(str(tmp_path)).params == model.params  # the folder's only model
    beside.write_text(json.dumps(config | {"num_hidden_layers": 29}))
    (warning,) = llmcalc.model(str(path)).warnings
    assert f"holds {model.params:,} elements" in warning
    assert "gate 26,542,080 against 25,657,344" in warning
    for short in ('{"model_type": "llama"}', "{"):  # some conversions carry the first
        beside.write_text(short)
        (warning,) = llmcalc.model(str(path)).warnings
        assert "not compared" in warning
    beside.unlink()
    write(tmp_path / "other.gguf", metadata(model, "llama", config), converted(model))
    with pytest.raises(ConfigError, match="holds 2 GGUF models") as caught:
        llmcalc.model(str(tmp_path))
    assert "model.gguf, other.gguf" in caught.value.remedy


def test_written_by_the_package(tmp_path):
    gguf = pytest.importorskip("gguf")
    path = tmp_path / "tiny.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(1)
    writer.add_embedding_length(256)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_context_length(512)
    writer.add_token_list(["a", "b"])
    weight = np.zeros((256, 256), np.float32)
    writer.add_tensor("token_embd.weight", weight)
    quantized = gguf.quantize(weight, gguf.GGMLQuantizationType.Q8_0)
    writer.add_tensor("blk.0.attn_q.weight", quantized, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    for word in ("k", "v"):
        writer.add_tensor(f"blk.0.attn_{word}.weight", weight[:128])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    model = llmcalc.model(str(path))
    assert model.params == 256 * 256 * 3
    assert model.context == 512
    report = llmcalc.vram(str(path), context=100)
    assert report["weights"].bytes == 4 * 2 * 256 * 256 + 256 * 256 * 34 // 32
    assert report["kv_cache"].bytes == 2 * 2 * 64 * 100 * 2


SIZES = {
    "block_count": 2, "embedding_length": 64, "attention.head_count": 4, "attention.head_count_kv": 2,
    "context_length": 4096,
}  # fmt: skip
EMBEDDING = [("token_embd.weight", (100, 64))]
ATTENTION = [
    (f"blk.{layer}.{word}.weight", (64, 64))
    for layer in range(2)
    for word in ("attn_q", "attn_k", "attn_v", "attn_output")
]
GATES = [(f"blk.{layer}.attn_gate.weight", (64, 64)) for layer in range(2)]
WINDOWS = {"attention.sliding_window": 100}
FIRST = {"attention.sliding_window_pattern": [1, 0]}
KINDS = {  # architecture, further metadata, tensors, bytes of keys and values for 1,000 tokens, of states
    "full": ("llama", {}, ATTENTION, 256_000, 0),
    "gated attention": ("afmoe", {}, ATTENTION + GATES, 256_000, 0),
    "gate for each head": ("step35", {}, ATTENTION + GATES, 256_000, 0),
    "encoder": ("bert", {}, ATTENTION, 0, 0),
    "shared": ("gemma3n", {"attention.shared_kv_layers": 1}, ATTENTION, 128_000, 0),
    "listed windows": ("mimo2", {**WINDOWS, **FIRST}, ATTENTION, 140_800, 0),
    "first layer full": ("smallthinker", WINDOWS, ATTENTION, 140_800, 0),
    "last layer full": ("gemma2", WINDOWS, ATTENTION, 140_800, 0),
    "all windows": ("phi3", WINDOWS, ATTENTION, 25_600, 0),
    "narrow windows": (
        "gemma4",
        {
            **WINDOWS, **FIRST, "attention.key_length": 32, "attention.value_length": 32,
            "attention.key_length_swa": 16, "attention.value_length_swa": 16,
        },
        ATTENTION, 100 * 2 * 32 * 2 + 1000 * 2 * 64 * 2, 0,
    ),
    "short convolution": (
        "lfm2", {"attention.head_count_kv": [0, 2], "shortconv.l_cache": 3},
        [("blk.0.shortconv.conv.weight", (64, 3)), *ATTENTION[4:]], 128_000, 64 * 2 * 4,
    ),
    "token shift": (
        "rwkv6", {"wkv.head_size": 16}, [("blk.0.time_mix_key.weight", (64, 64))],
        0, 64 * 16 * 4 + 2 * 64 * 4,
    ),
    "delta attention": (
        "kimi-linear", {"kda.head_dim": 16, "ssm.conv_kernel": 4},
        [("blk.0.ssm_conv1d_q.weight", (64, 4)), *ATTENTION[:4]], 0, 64 * 16 * 4 + 3 * 3 * 64 * 4,
    ),
    "both at once": (
        "falcon-h1", {"ssm.inner_size": 64, "ssm.state_size": 16, "ssm.group_count": 1, "ssm.conv_kernel": 4},
        [("blk.0.ssm_conv1d.weight", (96, 4)), *ATTENTION[:4]], 128_000, 64 * 16 * 4 + 3 * 96 * 4,
    ),
    "latent, its rotary part from the tensor": (
        "deepseek2", {"attention.kv_lora_rank": 32}, [("blk.0.attn_kv_a_mqa.weight", (40, 64))], 80_000, 0,
    ),
    "indexer": (
        "glm-dsa", {"attention.kv_lora_rank": 32},
        [("blk.0.attn_kv_a_mqa.weight", (40, 64)), ("blk.0.indexer.attn_k.weight", (16, 64))], 112_000, 0,
    ),
    "encoder and decoder": (
        "t5", {},
        [(f"{stack}.blk.0.attn_k.weight", (64, 64)) for stack in ("enc", "dec")]
        + [("dec.blk.0.cross_attn_k.weight", (64, 64))], (1000 + 24) * 2 * 32 * 2, 0,
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_what_each_architecture_remembers(tmp_path, kind):
    architecture, more, tensors, keys, states = KINDS[kind]
    path = tmp_path / "model.gguf"
    meta = {f"{architecture}.{key}": value for key, value in {**SIZES, **more}.items()}
    write(path, {"general.architecture": architecture, **meta}, EMBEDDING + tensors)
    encoder = {"encoder_tokens": 24} if architecture == "t5" else {}
    report = llmcalc.vram(str(path), context=1000, dtype="bf16", **encoder)
    assert (report["kv_cache"].bytes, report["state"].bytes) == (keys, states)
    assert report["kv_cache"].grade == "exact"


def test_an_unknown_architecture_is_assumed(tmp_path):
    path = tmp_path / "model.gguf"
    for architecture, more in (("novel", {}), ("mimo2", WINDOWS)):
        meta = {f"{architecture}.{key}": value for key, value in {**SIZES, **more}.items()}
        write(path, {"general.architecture": architecture, **meta}, EMBEDDING + ATTENTION)
        report = llmcalc.vram(str(path), context=1000)
        assert report["kv_cache"].grade == "assumed"
        assert any(architecture in warning for warning in report.warnings)


@pytest.mark.parametrize("value", ["abc", -1, 0.5, float("nan"), [2], ["a"]])
@pytest.mark.parametrize("key", ["attention.head_count", "attention.head_count_kv", "embedding_length"])
def test_metadata_of_a_wrong_type(tmp_path, key, value):
    path = tmp_path / "model.gguf"
    meta = {f"llama.{name}": given for name, given in {**SIZES, key: value}.items()}
    write(path, {"general.architecture": "llama", **meta}, EMBEDDING + ATTENTION)
    if (key, value) == ("embedding_length", [2]):
        assert llmcalc.model(str(path)).params  # one length for all layers
        return
    with pytest.raises(ConfigError, match=key):
        llmcalc.model(str(path))


def test_split_files(tmp_path):
    model = llmcalc.model("gpt2")
    config = llmcalc.catalog.Catalog.shipped().lookup("models", "gpt2")["config"]
    tensors = converted(model)
    first = tmp_path / "m-00001-of-00002.gguf"
    write(first, {**metadata(model, "gpt2", config), "split.count": 2}, tensors[:50])
    with pytest.raises(ConfigError, match="00002-of-00002"):
        llmcalc.model(str(first))
    write(tmp_path / "m-00002-of-00002.gguf", {"split.count": 2}, tensors[50:])
    assert llmcalc.model(str(first)).params == model.params


def test_a_large_header_is_read_in_a_blink(tmp_path):
    """671 B parameters: some 1,000 tensors and a vocabulary of 129,280 with as many merges."""
    tensors = [(f"blk.{n // 18}.t{n % 18}.weight", (4096, 64)) for n in range(1080)]
    words = [f"token{n}" for n in range(129_280)]
    path = tmp_path / "large.gguf"
    meta = {
        "general.architecture": "deepseek2", "deepseek2.block_count": 61, "tokenizer.ggml.tokens": words,
        "tokenizer.ggml.merges": words,
    }  # fmt: skip
    write(path, meta, tensors)
    start = time.process_time()
    model = llmcalc.model(str(path))
    assert time.process_time() - start < 1.0  # a tenth of that is usual; see benchmarks/
    assert model.params == 1080 * 4096 * 64


META = {
    "general.architecture": "llama", "llama.block_count": 1, "llama.embedding_length": 8,
    "llama.attention.head_count": 2,
}  # fmt: skip


def broken(tmp_path, data):
    path = tmp_path / "broken.gguf"
    path.write_bytes(data)
    with pytest.raises(ConfigError) as caught:
        llmcalc.model(str(path))
    assert caught.value.remedy
    return str(caught.value)


def good(tmp_path):
    path = tmp_path / "good.gguf"
    write(path, META, [("token_embd.weight", (16, 8)), ("blk.0.attn_k.weight", (8, 8))])
    return path.read_bytes()


def test_every_cut_is_noticed(tmp_path):
    data = good(tmp_path)
    for length in range(0, len(data), 7):
        broken(tmp_path, data[:length])


def start(tensors, pairs, version="<I", number=3):
    return b"GGUF" + struct.pack(version, number) + struct.pack("<QQ", tensors, pairs)


KEY = start(0, 1) + text("k")
ONE = start(1, 0) + text("t")
TENSOR = text("t") + struct.pack("<IQIQ", 1, 4, 0, 0)
HOSTILE = {
    "not a GGUF": b"GGML",
    "version 1": start(0, 0, number=1),
    "byte-swapped": start(0, 0, version=">I"),
    "claims": start(2**60, 0),
    "keys in": start(0, 2**60),
    "ends within": start(0, 1) + struct.pack("<Q", 2**63),
    "within its header": KEY + struct.pack("<IIQ", 9, 4, 2**62),
    "strings": KEY + struct.pack("<IIQ", 9, 8, 2**62),
    "array of type": KEY + struct.pack("<IIQ", 9, 9, 1),
    "value type": KEY + struct.pack("<I", 77),
    "overflows": ONE + struct.pack("<IQQIQ", 2, 2**40, 2**40, 0, 0),
    "a key has no name": start(0, 1) + struct.pack("<QIB", 0, 0, 0),
    "'k' stands twice": start(0, 2) + (text("k") + struct.pack("<IB", 0, 0)) * 2,
    "1,000,000 keys": start(0, 1_000_000) + bytes(13_000_000),
    "1,000,000 tensors": start(1_000_000, 0) + bytes(24_000_000),
    "4,000,000 strings": start(0, 2)
    + b"".join(text(key) + struct.pack("<IIQ", 9, 8, 4_000_000) + bytes(32_000_000) for key in "ab"),
    "unknown type": ONE + struct.pack("<IQIQ", 1, 4, 999, 0),
    "dimensions": ONE + struct.pack("<I", 9),
    "behind the file": ONE + struct.pack("<IQIQ", 1, 4, 0, 2**50),
    "twice": start(2, 0) + TENSOR + TENSOR,
    "multiple": ONE + struct.pack("<IQIQ", 1, 5, 12, 0),
}


@pytest.mark.parametrize(("word", "head"), HOSTILE.items(), ids=list(HOSTILE))
def test_hostile_headers(tmp_path, word, head):
    assert word in broken(tmp_path, head + bytes(90))


@given(st.lists(st.tuples(st.integers(0, 400), st.binary(min_size=1, max_size=9)), min_size=1, max_size=5))
@settings(
    derandomize=True,
    deadline=None,
    max_examples=300,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_mutated_files_end_well(tmp_path, changes):
    data = bytearray(good(tmp_path))
    for at, patch in changes:
        data[at : at + len(patch)] = patch
    path = tmp_path / "mutated.gguf"
    path.write_bytes(bytes(data))
    try:
        params = llmcalc.model(str(path)).params
    except LlmcalcError as error:
        params = len(error.remedy)
    assert params >= 0


def test_factors_of_rotary_positions_are_loaded(tmp_path):
    """32 of them, as in the prediction from the configuration and in what llama.cpp prints."""
    config = dict(llmcalc.catalog.Catalog.shipped().lookup("models", "llama-3.2-1b")["config"])
    model = llmcalc.model("llama-3.2-1b")
    path = tmp_path / "model.gguf"
    tensors = [("rope_freqs.weight", (32,)), *converted(model)]
    write(path, metadata(model, "llama", config), tensors)
    alone = tmp_path / "alone.gguf"
    write(alone, metadata(model, "llama", config), tensors[1:])
    with_them, without = (llmcalc.vram(str(one))["weights"].bytes for one in (path, alone))
    assert with_them - without == 32 * 2  # this file has 16 bits for all
    assert llmcalc.model(str(path)).params == model.params
