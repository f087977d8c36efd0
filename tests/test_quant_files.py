"""Quantized folders: a configuration and a weight file together, as each method's own writer leaves them."""

import json
import struct

import pytest

import llmcalc
from llmcalc.catalog import Catalog

WIDTHS = {
    "F32": 4,
    "BF16": 2,
    "F16": 2,
    "U8": 1,
    "I32": 4,
    "U32": 4,
    "F8_E4M3": 1,
    "I8": 1,
    "I16": 2,
    "I64": 8,
}
HIDDEN, FFN, VOCAB, LAYERS = 512, 1024, 1000, 2
CONFIG = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": HIDDEN,
    "intermediate_size": FFN, "num_hidden_layers": LAYERS, "num_attention_heads": 8, "num_key_value_heads": 4,
    "vocab_size": VOCAB, "max_position_embeddings": 2048, "rms_norm_eps": 1e-5, "torch_dtype": "bfloat16",
    "tie_word_embeddings": False,
}  # fmt: skip
MATRICES = [
    (f"model.layers.{layer}.{name}", rows, columns)
    for layer in range(LAYERS)
    for name, rows, columns in (
        ("self_attn.q_proj", HIDDEN, HIDDEN), ("self_attn.k_proj", 256, HIDDEN),
        ("self_attn.v_proj", 256, HIDDEN), ("self_attn.o_proj", HIDDEN, HIDDEN),
        ("mlp.gate_proj", FFN, HIDDEN), ("mlp.up_proj", FFN, HIDDEN), ("mlp.down_proj", HIDDEN, FFN),
    )
]  # fmt: skip


def plain(dtype="BF16"):
    """What no method touches."""
    tables = {"model.embed_tokens.weight": [VOCAB, HIDDEN], "lm_head.weight": [VOCAB, HIDDEN]}
    norms = {
        f"model.layers.{layer}.{norm}_layernorm.weight": [HIDDEN]
        for layer in range(LAYERS)
        for norm in ("input", "post_attention")
    }
    return {
        name: (dtype, shape) for name, shape in {**tables, **norms, "model.norm.weight": [HIDDEN]}.items()
    }


def packed(make, dtype="BF16"):
    """All tensors, matrices as `make(out, in)` says by their endings."""
    tensors = plain(dtype)
    for name, rows, columns in MATRICES:
        tensors |= {f"{name}.{end}": one for end, one in make(rows, columns).items()}
    return tensors


def gptq(group):
    return packed(
        lambda o, i: {
            "qweight": ("I32", [i // 8, o]), "qzeros": ("I32", [i // group, o // 8]),
            "scales": ("F16", [i // group, o]), "g_idx": ("I32", [i]),
        }, "F16")  # fmt: skip


def nested(o, i):
    blocks = o * i // 64
    return {
        "weight": ("U8", [o * i // 2, 1]),
        "weight.absmax": ("U8", [blocks]), "weight.quant_map": ("F32", [16]),
        "weight.nested_absmax": ("F32", [-(-blocks // 256)]), "weight.nested_quant_map": ("F32", [256]),
        "weight.quant_state.bitsandbytes__nf4": ("U8", [80]),
    }  # fmt: skip


def mlx():
    tensors = {name: one for name, one in plain().items() if "norm" in name}
    for name, rows, columns in [*MATRICES, ("model.embed_tokens", VOCAB, HIDDEN), ("lm_head", VOCAB, HIDDEN)]:
        tensors[f"{name}.weight"] = ("U32", [rows, columns // 8])
        tensors[f"{name}.scales"] = tensors[f"{name}.biases"] = ("BF16", [rows, columns // 64])
    return tensors


INT4 = {"targets": ["Linear"], "weights": {"num_bits": 4, "type": "int", "symmetric": True, "group_size": 32,
                                           "strategy": "group"}}  # fmt: skip
FOLDERS = {
    "gptq": (gptq(128), {"quant_method": "gptq", "bits": 4, "group_size": 128}, "gptq-4bit-g128"),
    "awq": (
        packed(lambda o, i: {"qweight": ("I32", [i, o // 8]), "qzeros": ("I32", [i // 64, o // 8]),
                             "scales": ("F16", [i // 64, o])}, "F16"),
        {"quant_method": "awq", "bits": 4, "group_size": 64, "zero_point": True}, "awq-4bit-g64"),
    "nf4-dq": (
        packed(nested), {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4",
                         "bnb_4bit_use_double_quant": True}, "nf4-dq"),
    "int8": (
        packed(lambda o, i: {"weight": ("I8", [o, i]), "SCB": ("F32", [o]), "weight_format": ("U8", [])}),
        {"quant_method": "bitsandbytes", "load_in_8bit": True}, "int8"),
    "fp8": (
        packed(lambda o, i: {"weight": ("F8_E4M3", [o, i]),
                             "weight_scale_inv": ("F32", [-(-o // 128), -(-i // 128)])}),
        {"quant_method": "fp8", "weight_block_size": [128, 128]}, "fp8-block"),
    "mlx": (mlx(), {"bits": 4, "group_size": 64}, "mlx-4bit-g64"),
    "hqq": (
        packed(lambda o, i: {"W_q": ("U8", [o * i // 64 // 2, 64]), "scale": ("F16", [o * i // 64, 1]),
                             "zero": ("F16", [o * i // 64, 1])}),
        {"quant_method": "hqq", "quant_config": {"weight_quant_params": {"nbits": 4, "group_size": 64}}},
        "hqq-4bit-g64"),
    "quanto": (
        packed(lambda o, i: {"weight._data": ("I8", [o, i]), "weight._scale": ("BF16", [o, 1]),
                             "input_scale": ("BF16", []), "output_scale": ("BF16", [])}),
        {"quant_method": "quanto", "weights": "int8"}, "quanto-int8"),
    "aqlm": (
        packed(lambda o, i: {"codes": ("I16", [o, i // 8, 1]), "codebooks": ("F16", [1, 65536, 1, 8]),
                             "scales": ("F16", [o, 1, 1, 1])}, "F16"),
        {"quant_method": "aqlm", "num_codebooks": 1, "nbits_per_codebook": 16, "in_group_size": 8},
        "aqlm-g8"),
    "exl3": (
        packed(lambda o, i: {"trellis": ("I16", [i // 16, o // 16, 48]), "suh": ("F16", [i]),
                             "svh": ("F16", [o])}),
        {"quant_method": "exl3", "bits": 3.0, "head_bits": 6}, "exl3-3.00"),
    "w4a16": (
        packed(lambda o, i: {"weight_packed": ("I32", [o, i // 8]), "weight_scale": ("BF16", [o, i // 32]),
                             "weight_shape": ("I64", [2])}),
        {"quant_method": "compressed-tensors", "format": "pack-quantized", "ignore": ["lm_head"],
         "config_groups": {"group_0": INT4}}, "w4a16-g32"),
    "eetq": (
        packed(lambda o, i: {"weight": ("I8", [i, o]), "weight_scales": ("F16", [o])}, "F16"),
        {"quant_method": "eetq"}, "eetq"),
}  # fmt: skip


def folder(path, tensors, quantization):
    """A folder with a configuration and a weight file; how many bytes its tensors take."""
    key = "quantization_config" if "quant_method" in (quantization or {}) else "quantization"
    (path / "config.json").write_text(json.dumps({**CONFIG, **({key: quantization} if quantization else {})}))
    header, at = {}, 0
    for name, (dtype, shape) in tensors.items():
        numel = 1
        for length in shape:
            numel *= length
        size = numel * WIDTHS[dtype]
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    with open(path / "model.safetensors", "wb") as stream:
        stream.write(struct.pack("<Q", len(text)) + text)
        stream.truncate(8 + len(text) + at)
    return at


@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder_goes_by_its_scheme(name, tmp_path):
    tensors, quantization, scheme = FOLDERS[name]
    size = folder(tmp_path, tensors, quantization)
    report = llmcalc.vram(str(tmp_path))
    assert report["weights"].bytes == size
    assert report.scenario["quant"] == scheme
    assert report.header[2].startswith(f"{scheme} (")
    assert report["weights"].grade == "exact"
    told = [line for line in report.warnings if "lm_head" not in line]  # which ExLlama quantizes
    assert told == []
    assert llmcalc.params(str(tmp_path)).model["params"] == 5_745_152
    two = llmcalc.vram(str(tmp_path), tp=2)["weights"].bytes
    if name not in ("aqlm", "nf4-dq", "int8"):  # whose tables every rank holds
        assert size / 2 <= two < size / 2 * 1.02


@pytest.mark.parametrize(
    ("tensors", "label"), [(gptq(128), "int4"), (mlx(), "int4")], ids=["gptq", "mlx"]
)  # fmt: skip
def test_a_file_without_a_stated_quantization(tensors, label, tmp_path):
    size = folder(tmp_path, tensors, None)
    report = llmcalc.vram(str(tmp_path))
    assert report["weights"].bytes == size
    assert report.header[2].startswith(f"{label} (")
    assert report.warnings == []


def test_a_file_that_its_configuration_contradicts(tmp_path):
    size = folder(tmp_path, gptq(128), {"quant_method": "awq", "bits": 4, "group_size": 64})
    report = llmcalc.vram(str(tmp_path))
    assert report["weights"].bytes == size
    assert report.scenario["quant"] is None
    assert any(
        "says awq-4bit-g64" in line and "q_proj.qweight is 64 x 512" in line for line in report.warnings
    )
    size = folder(tmp_path, gptq(128), {"quant_method": "gptq", "bits": 4, "group_size": 64})
    report = llmcalc.vram(str(tmp_path))
    assert report["weights"].bytes == size
    assert any("says gptq-4bit-g64" in line for line in report.warnings)


def test_a_method_that_is_not_known_does_not_matter_to_a_file(tmp_path):
    size = folder(tmp_path, gptq(128), {"quant_method": "sorcery"})
    assert llmcalc.vram(str(tmp_path))["weights"].bytes == size


def test_matrices_that_the_file_holds_as_they_are(tmp_path):
    tensors, quantization, _ = FOLDERS["gptq"]
    stem = "model.layers.1.mlp.up_proj"
    tensors = {name: one for name, one in tensors.items() if not name.startswith(stem)}
    tensors[f"{stem}.weight"] = ("F16", [FFN, HIDDEN])
    size = folder(tmp_path, tensors, quantization)
    report = llmcalc.vram(str(tmp_path))
    assert report["weights"].bytes == size
    assert report.scenario["quant"] == "gptq-4bit-g128"
    assert any(stem in line for line in report.warnings)


def test_published_lists_that_name_what_is_not_there_are_not_told():
    """Long lists that a program wrote; parts that a text model lacks; parameters that are no modules."""
    config = Catalog.shipped().lookup("models", "llama-3.1-8b")["config"]

    def told(names):
        stated = {"quant_method": "fp8", "weight_block_size": [128, 128], "modules_to_not_convert": names}
        return " ".join(llmcalc.vram({**config, "quantization_config": stated}).warnings)

    silent = [
        "model.vision_tower",
        "model.multi_modal_projector",
        "lm_head",
        "model.layers.0.mlp.up_proj.bias",
    ]
    assert told(silent) == ""
    short = told([*silent, "model.layers.0.mlp.gate"])
    assert "mlp.gate" in short
    assert "vision" not in short
    real = [f"model.layers.{i}.{name}" for i in range(32) for name in ("self_attn.q_proj", "mlp.up_proj")]
    odd = [f"model.layers.{i}.self_attn.indexers_proj" for i in range(32)]
    assert told(real + odd) == ""
    assert "29 more" in told(odd)
