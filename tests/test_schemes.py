"""Schemes: by name, as configurations state them, and what published repositories hold."""

import json
import pickle
import time
from fractions import Fraction
from pathlib import Path

import pytest

import llmcalc
from llmcalc.catalog import Catalog
from llmcalc.errors import ConfigError, InputError, LlmcalcError
from llmcalc.precision.declared import declared
from llmcalc.precision.named import find_scheme
from llmcalc.precision.patterns import Patterns
from llmcalc.precision.scheme import nominal_bits

BOOK = Catalog.shipped()
TOTALS = [
    json.loads(line)
    for line in (Path(__file__).parent / "data" / "quantized_totals.jsonl").read_text().splitlines()
]


@pytest.mark.parametrize("row", TOTALS, ids=lambda row: row["hf"])
def test_totals_of_quantized_repositories(row):
    model = llmcalc.model(row["base"])
    stored = declared(row["quantization"], BOOK).apply(model, "bf16")
    copy = next(t.numel for g in model for t in g.tensors if t.role == "embedding") if row["head"] else 0
    if row["scheme"] == "nvfp4":  # ModelOpt's index counts packed parameters, not the scales beside them
        main = [(g.count, t) for g in stored for t in g.tensors if t.tag == "main"]
        assert sum(count * (t.stored or (t,))[0].numel for count, t in main) + copy == row["total"]
    else:
        assert stored.known_params + copy == row["total"]


@pytest.mark.parametrize(
    ("name", "total"),
    [
        ("deepseek-v3", 671_026_404_352 + 13_463_426_304 + 14_848 + 41_540_496),
        ("gpt-oss-safeguard-20b", 21_511_953_984),
        ("glm-5-nvfp4", 435_238_854_912),
        ("mistral-small-4-119b-2603", 119_401_317_952),
        ("devstral-small-2-24b-instruct-2512", 24_011_361_280 + 560),
        ("deepseek-v4-flash", 158_069_433_298),
    ],
)
def test_stored_elements_of_quantized_models(name, total):
    model = llmcalc.model(name)
    assert model.stored_params == total
    assert model.unexplained_params == 0


@pytest.mark.parametrize(
    ("name", "total"), [("deepseek-v4-flash", 166_726_476_754), ("deepseek-v4-pro", 909_964_405_662)]
)
def test_experts_quantized_anew_beside_those_of_the_checkpoint(name, total):
    """nvidia/DeepSeek-V4-*-NVFP4 as published: experts of the prediction layer stay MXFP4, attention FP8."""
    config = BOOK.lookup("models", name)["config"]
    layers = {f"layers.{n}.ffn.experts": {"group_size": 16, "quant_algo": "NVFP4"}
              for n in range(config["num_hidden_layers"])}  # fmt: skip
    stated = {**config["quantization_config"], "quantized_layers": layers, "moe_quant_algo": "NVFP4",
              "ignore": ["*.attn.*", "*.ffn.shared_experts.*", "head", "mtp.*"]}  # fmt: skip
    assert llmcalc.model({**config, "quantization_config": stated}).stored_params == total


@pytest.mark.parametrize(
    ("quant", "gib"),
    [  # of Llama-3.1-8B: 6.98 B parameters in linear layers, 2.10 GB of 16 bit beside them
        ("nf4", 5.61), ("nf4-dq", 5.31), ("awq", 5.33), ("gptq", 5.34), ("fp8", 8.46), ("int8", 8.46),
        ("mlx-4bit", 4.21), ("nvfp4", 5.61), ("none", 14.96), ("exl3-4.0", 4.60),
    ],
)  # fmt: skip
def test_an_8b_model(quant, gib):
    weights = llmcalc.vram("llama-3.1-8b", quant=quant)["weights"]
    assert round(weights.bytes / 2**30, 2) == gib
    assert sum(part.bytes for part in weights.items) in (weights.bytes, 0)


def test_awq_is_explained_line_by_line():
    """5.7 GB, where 4 bits for all would be 4.0."""
    weights = llmcalc.vram("llama-3.1-8b", quant="awq")["weights"]
    parts = {part.name: part.bytes for part in weights.items}
    linear = 32 * (2 * 4096 * 4096 + 2 * 1024 * 4096 + 3 * 14336 * 4096)
    assert parts["int4"] == linear // 2
    assert parts["scales"] == linear // 128 * 2 + linear // 128 // 2  # fp16 scales, packed zero points
    assert parts["bf16"] == 2 * (8_030_261_248 - linear)


@pytest.mark.parametrize("name", ["llama-3.2-1b", "qwen3-4b", "gemma-3-1b"])
@pytest.mark.parametrize(("quant", "bits"), [("exl3-4.0", 6), ("exl3-4.0-h8", 8), ("exl2-4.0", 6.344)])
def test_exllama_stores_a_tied_head_for_itself(name, quant, bits):
    """ExLlamaV2's compile.py and ExLlamaV3's `alt_key` quantize the embedding into a head of its own."""
    model = llmcalc.model(name)
    rows, columns = next(t.shape for g in model for t in g.tensors if t.role == "embedding")
    report = llmcalc.vram(name, quant=quant)
    stored = find_scheme(quant, BOOK).apply(model, "bf16")
    head = [part for g in stored for t in g.tensors if t.role == "unembedding" for part in t.stored]
    words = {"int16": 2, "int32": 4, "fp16": 2}
    own = sum(part.numel * words[part.dtype] for part in head)
    assert own == pytest.approx(rows * columns * bits / 8, rel=0.005)
    beside = sum(part.bytes for part in report["weights"].items if part.name == "bf16")
    assert beside == 2 * (rows * columns + sum(
        g.count * t.numel for g in model for t in g.tensors if t.tag == "main" and len(t.dims) == 1
    ))  # fmt: skip
    assert stored.params == model.params
    assert report["weights"].bytes == pytest.approx(
        beside + own + (model.params - rows * columns) * 4 / 8, rel=0.01
    )
    both = llmcalc.vram(name, quant=quant, pp=2)["weights"]
    assert sum(both.amounts) == report["weights"].bytes  # no second copy on the last stage


NOMINAL = {
    "gptq": Fraction(4) + Fraction(20, 128) + Fraction(32, 8192), "awq": Fraction(4) + Fraction(20, 128),
    "w4a16": Fraction(4) + Fraction(16, 128) + Fraction(128, 8192**2), "hqq": Fraction(9, 2),
    "mlx-4bit": Fraction(9, 2), "mlx-8bit": Fraction(17, 2),
    "mxfp4": Fraction(17, 4), "mxfp8": Fraction(33, 4), "mxfp6": Fraction(25, 4),
    "nf4": Fraction(9, 2) + Fraction(16 * 32, 8192**2), "fp8-block": Fraction(8) + Fraction(32, 128 * 128),
    "q4_k_m": Fraction("4.84"),
}  # fmt: skip


@pytest.mark.parametrize("name", NOMINAL)
def test_bits_of_a_large_matrix(name):
    assert nominal_bits(find_scheme(name, BOOK)) == NOMINAL[name]


def test_a_bare_count_takes_the_nominal_bits():
    report = llmcalc.vram("13b", quant="awq")
    assert report["weights"].bytes == 13_000_000_000 * 133 // 32 // 8


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("AWQ-4bit-g128", "awq-4bit-g128"), ("gptq_8bit_g32", "gptq-8bit-g32"), ("bnb-nf4", "nf4"),
        ("gguf:Q4_K_M", "q4_k_m"), ("IQ3_XXS+imatrix", "iq3_xxs+imatrix"), ("w8a8-int8", "w8a8"),
        ("fp8-block128", "fp8-block"), ("int4 autoround", "gptq-4bit-g128"), ("exl3-3.0", "exl3-3.00"),
        ("awq int4 (group size not known)", "awq-4bit-g128"), ("mlx-4bit-g64", "mlx-4bit-g64"),
        ("fp8-block128 + mxfp4 experts", "fp8-block128 + mxfp4 experts"), ("mxfp4-experts", "mxfp4"),
        ("fp4 TRT-LLM engine", "nvfp4"), ("F16", "gguf-f16"), ("f32", "gguf-f32"), ("gguf:BF16", "gguf-bf16"),
    ],
)  # fmt: skip
def test_spellings(spelling, name):
    assert find_scheme(spelling, BOOK).name == name


@pytest.mark.parametrize(
    ("spelling", "what"),
    [
        ("awk", "Did you mean awq"), ("awq-3bit", "Use 4 bits"), ("gptq-g100", "Use a group of"),
        ("awq-g64-g128", "states group twice"), ("awq-purple", "means nothing"), ("exl3-9.5", "1 to 8 bits"),
        ("", "names no scheme"), ("awq + q4_k_m experts", "mixes what no checkpoint does"),
    ],
)  # fmt: skip
def test_names_that_are_refused(spelling, what):
    with pytest.raises(InputError, match=what):
        find_scheme(spelling, BOOK)


def grouped(weights, **more):
    groups = {"group_0": {"targets": ["Linear"], "weights": weights}}
    return {"quant_method": "compressed-tensors", "format": "pack-quantized", "config_groups": groups, **more}


LLAMA = BOOK.lookup("models", "llama-3.1-8b")["config"]


@pytest.mark.parametrize(
    ("stated", "name"),
    [
        ({"quant_method": "gptq", "bits": 8, "group_size": 32}, "gptq-8bit-g32"),
        ({"quant_method": "awq", "w_bit": 4, "q_group_size": 64, "zero_point": True}, "awq-4bit-g64"),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4",
          "bnb_4bit_use_double_quant": True}, "nf4-dq"),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, "int8"),
        ({"quant_method": "fp8", "weight_block_size": [128, 128]}, "fp8-block"),
        ({"quant_method": "fp8", "activation_scheme": "static"}, "fp8-static"),
        ({"quant_method": "fbgemm_fp8"}, "fbgemm-fp8"),
        ({"quant_method": "hqq", "quant_config": {"weight_quant_params": {"nbits": 2, "group_size": 64}}},
         "hqq-2bit-g64"),
        ({"quant_method": "quanto", "weights": "int8"}, "quanto-int8"),
        ({"quant_method": "torchao", "quant_type": "int8_weight_only"}, "torchao-int8"),
        ({"quant_method": "eetq"}, "eetq"),
        ({"quant_method": "aqlm", "num_codebooks": 2, "nbits_per_codebook": 8}, "aqlm-2x8-g8"),
        ({"quant_method": "exl3", "bits": 3.5, "head_bits": 6}, "exl3-3.50"),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4", "exclude_modules": ["lm_head"]}, "nvfp4"),
        ({"bits": 4, "group_size": 64}, "mlx-4bit-g64"),
        ({"bits": 8, "group_size": 32, "mode": "mxfp8"}, "mlx-mxfp8"),
        ({"quant_method": "bitnet"}, "bitnet"),
        (grouped({"num_bits": 4, "type": "int", "group_size": 32}, ignore=["lm_head"]), "w4a16-g32"),
        (grouped({"num_bits": 8, "type": "int", "strategy": "channel"}, format="int-quantized"), "w8a8"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_stated_in_a_configuration(stated, name):
    key = "quantization" if "quant_method" not in stated else "quantization_config"
    report = llmcalc.vram({**LLAMA, key: stated})
    assert report.scenario["quant"] == name
    assert report["weights"].bytes < 2 * 8_030_261_248
    assert report["kv_cache"].bytes == llmcalc.vram(LLAMA)["kv_cache"].bytes
    assert llmcalc.model({**LLAMA, key: stated}).params == 8_030_261_248


def test_layers_that_are_left_alone():
    whole = {"quant_method": "awq", "bits": 4, "group_size": 128}
    most = {**whole, "modules_to_not_convert": ["model.layers.0.mlp", "re:.*layers\\.1\\.self_attn.*"]}
    less, more = (llmcalc.vram({**LLAMA, "quantization_config": q})["weights"].bytes for q in (whole, most))
    mlp, attention = 3 * 14336 * 4096, 2 * 4096 * 4096 + 2 * 1024 * 4096
    assert more - less == (mlp + attention) * 2 - (mlp + attention) * 133 // 256


def test_exceptions_of_mlx():
    stated = {
        "bits": 4,
        "group_size": 64,
        "lm_head": {"bits": 8, "group_size": 64},
        "model.layers.0.mlp.down_proj": False,
    }
    plain = {"bits": 4, "group_size": 64}
    found, base = (llmcalc.vram({**LLAMA, "quantization": q})["weights"].bytes for q in (stated, plain))
    assert found - base == 128_256 * 4096 // 2 + 14336 * 4096 * 2 - 14336 * 4096 * 9 // 16


Q, MLP = 4096 * 4096, 3 * 14336 * 4096


def weights_of(stated, config=LLAMA):
    return llmcalc.vram({**config, "quantization_config": stated})["weights"].bytes


@pytest.mark.parametrize(("key", "own", "more"), [
    # GPTQModel: the first rule that fits; "-:" leaves a module alone (vLLM, gptq_utils.get_dynamic_override).
    ("dynamic", {"-:.*\\.self_attn\\.q_proj": {}}, 32 * (Q * 2 - Q * 133 // 256 - 4 * 4096)),
    ("dynamic", {"+:model.layers.0.self_attn.q_proj": {"bits": 8}}, Q // 2 + Q // 128 // 2),
    ("dynamic", {".*layers\\.1\\.self_attn\\.q_proj": {"bits": 8, "group_size": 32}},
     Q // 2 + Q // 32 * 3 - Q // 128 * 5 // 2),
    ("dynamic", {"-:.*q_proj": {}, ".*": {"bits": 4}}, 32 * (Q * 2 - Q * 133 // 256 - 4 * 4096)),
    # AutoRound: by name or by pattern, 16 bits for what is left alone.
    ("extra_config", {"model.layers.0.self_attn.q_proj": {"bits": 16}}, Q * 2 - Q * 133 // 256 - 4 * 4096),
    ("extra_config", {"model.layers.0.self_attn.q_proj": {"bits": 8, "group_size": 128}},
     Q // 2 + Q // 128 // 2),
    ("extra_config", {".*q_proj": {"bits": 8}}, 32 * (Q // 2 + Q // 128 // 2)),
    # Only what is listed is quantized.
    ("modules_in_block_to_quantize",
     [["self_attn.k_proj", "self_attn.v_proj", "self_attn.q_proj", "self_attn.o_proj"]],
     32 * (MLP * 2 - MLP * 133 // 256 - 4 * (4096 * 2 + 14336))),
])  # fmt: skip
@pytest.mark.parametrize("method", ["gptq", "auto-round"])
def test_settings_of_single_modules(method, key, own, more):
    stated = {"quant_method": method, "bits": 4, "group_size": 128}
    assert weights_of({**stated, key: own}) - weights_of(stated) == more


@pytest.mark.parametrize(("key", "own", "what"), [
    ("dynamic", {"-:[": {}}, "no regular expression"), ("dynamic", ["x"], "does not name modules"),
    ("extra_config", {"lm_head": 7}, "has no settings"), ("dynamic", {".*": {"bits": 11}}, "no 11 bits"),
])  # fmt: skip
def test_settings_of_single_modules_that_are_refused(key, own, what):
    with pytest.raises(ConfigError, match=what):
        weights_of({"quant_method": "gptq", "bits": 4, "group_size": 128, key: own})


def test_settings_of_modules_that_are_not_there_are_told():
    stated = {"quant_method": "gptq", "bits": 4, "dynamic": {"+:.*layers\\.40\\..*": {"bits": 8}}}
    warnings = llmcalc.vram({**LLAMA, "quantization_config": stated}).warnings
    assert any("layers" in warning and "match no tensor" in warning for warning in warnings)


def test_modelopt_keeps_its_group_and_layout():
    """ModelOpt's int4: fp32 scales for each group, and a vector of its columns; no zero points."""
    linear, vectors = 32 * (2 * Q + 2 * 1024 * 4096 + MLP), 32 * (6 * 4096 + 14336)
    for group in (64, 128):
        stated = {"quant_method": "modelopt", "quant_algo": "W4A16_AWQ", "group_size": group}
        assert weights_of(stated) == linear // 2 + linear // group * 4 + 2 * vectors + 2 * (
            8_030_261_248 - linear
        )


@pytest.mark.parametrize(("dynamic", "scalars"), [("local", 224), (False, 224), (True, 0), (None, 224)])
def test_nvfp4_of_compressed_tensors_stores_a_scale_of_its_inputs(dynamic, scalars):
    weights = {"num_bits": 4, "type": "float", "group_size": 16, "strategy": "tensor_group"}
    stated = grouped(weights, ignore=["lm_head"], format="nvfp4-pack-quantized")
    alone = weights_of(stated)
    stated["config_groups"]["group_0"]["input_activations"] = {**weights, "dynamic": dynamic}
    assert weights_of(stated) - alone == 4 * scalars


def test_fp8_in_groups_stores_a_scale_for_each():
    linear = 32 * (2 * Q + 2 * 1024 * 4096 + MLP)
    weights = {"num_bits": 8, "type": "float", "strategy": "group", "group_size": 128}
    found = weights_of(grouped(weights, format="float-quantized"))
    assert found == linear + linear // 128 * 2 + 2 * (8_030_261_248 - linear)


@pytest.mark.parametrize(("name", "inside"), [
    ("qwen3-235b-a22b", "mlp.switch_mlp"), ("mixtral-8x7b", "block_sparse_moe.switch_mlp"),
    ("gpt-oss-20b", "mlp.experts"),
])  # fmt: skip
def test_exceptions_of_mlx_for_experts(name, inside):
    """MLX stacks the experts of a layer: all 8 bits, where the rest has 4."""
    config = BOOK.lookup("models", name)["config"]
    config = {key: value for key, value in config.items() if key != "quantization_config"}
    model = llmcalc.model(config)
    eight = {
        f"model.layers.{layer}.{inside}.{part}_proj": {"bits": 8, "group_size": 64}
        for layer in range(model.layers)
        for part in ("gate", "up", "down")
    }
    started = time.perf_counter()
    base, more = (
        llmcalc.vram({**config, "quantization": {"bits": 4, "group_size": 64, **own}}) for own in ({}, eight)
    )
    assert time.perf_counter() - started < 5  # some 0.2 s; 6.4 s where each walked the list
    routed = sum(
        g.count * t.numel
        for g in model
        for t in g.tensors
        if t.role.startswith("expert_") and t.part != "bias"
    )
    assert more["weights"].bytes - base["weights"].bytes == routed // 2
    assert not any("match no tensor" in warning for warning in more.warnings)


DEEPSEEK = {
    k: v for k, v in BOOK.lookup("models", "deepseek-r1")["config"].items() if k != "quantization_config"
}
ONE = 2048 * 7168


@pytest.mark.parametrize(("ignored", "alone"), [
    (["model.layers.3.mlp.experts.0.up_proj"], 1),
    (["model.layers.3.mlp.experts.5.up_proj"], 1),
    (["model.layers.3.mlp.experts.5"], 3),
    ([f"model.layers.3.mlp.experts.{n}.down_proj" for n in range(256)], 256),
    ([f"model.layers.{layer}.mlp.experts.{n}.{part}_proj" for layer in range(3, 10) for n in range(256)
      for part in ("gate", "up", "down")], 7 * 256 * 3),
    (["re:.*layers\\.4\\.mlp\\.experts\\.[0-3]\\..*"], 12),
    (["re:.*layers\\.4\\.mlp\\.experts\\..*"], 768),
])  # fmt: skip
def test_single_experts_are_left_alone(ignored, alone):
    weights = {"num_bits": 4, "type": "int", "group_size": 128}
    plain, report = (
        llmcalc.vram({**DEEPSEEK, "quantization_config": grouped(weights, ignore=["lm_head", *names])})
        for names in ([], ignored)
    )
    own = ONE // 2 + ONE // 128 * 2 + 16  # elements, scales, the shape
    assert report["weights"].bytes - plain["weights"].bytes == alone * (2 * ONE - own)
    stated = grouped(weights, ignore=["lm_head", *ignored])
    names = [tensor.name for tensor in llmcalc.model({**DEEPSEEK, "quantization_config": stated}).tensors]
    assert len(set(names)) == len(names)
    assert not any("match no tensor" in warning for warning in report.warnings)


def test_modelopt_beside_the_configuration(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(LLAMA))
    stated = {"quant_algo": "FP8", "exclude_modules": ["lm_head"]}
    (tmp_path / "hf_quant_config.json").write_text(json.dumps({"quantization": stated}))
    assert llmcalc.vram(str(tmp_path)).scenario["quant"] == "fp8-static"


@pytest.mark.parametrize(
    ("stated", "what"),
    [
        ({"quant_method": "sorcery"}, "sorcery"),
        ({"quant_method": "awq", "group_size": "many"}, "group_size"),
        ({"quant_method": "awq", "modules_to_not_convert": 7}, "not a list of names"),
        ({"quant_method": "awq", "modules_to_not_convert": ["re:["]}, "no regular expression"),
        ({"quant_method": "awq", "bits": 5}, "no 5 bits"),
        ({"quant_method": "gptq", "bits": 11}, "no 11 bits"),
        ({"quant_method": "awq", "bits": 4, "group_size": 96}, "do not divide"),
        ({"quant_method": "fp8", "weight_block_size": [128]}, "weight_block_size"),
        ({"quant_method": "compressed-tensors"}, "config_groups is empty"),
        (grouped({"num_bits": 4, "type": "float", "group_size": 32}, quant_method="modelopt", group_size=16),
         "group_size is 16, but 32"),
        ({"quant_method": "bitsandbytes"}, "neither"),
        ({"quant_method": "torchao", "quant_type": "magic"}, "magic"),
    ],
)  # fmt: skip
def test_quantizations_that_are_refused(stated, what):
    config = {**LLAMA, "quantization_config": stated}
    with pytest.raises(LlmcalcError, match=what):
        llmcalc.vram(config)
    # Counts do not depend on it, and any scheme may be named instead.
    assert llmcalc.params(config).model["params"] == 8_030_261_248
    assert llmcalc.vram(config, quant="nf4")["weights"].bytes > 0
    assert llmcalc.vram(config, quant="none")["weights"].bytes == 2 * 8_030_261_248


def test_patterns_that_match_nothing_are_told():
    stated = {"quant_method": "awq", "modules_to_not_convert": ["model.layers.40.mlp", "lm_head"]}
    warnings = llmcalc.vram({**LLAMA, "quantization_config": stated}).warnings
    assert any("model.layers.40.mlp" in warning for warning in warnings)
    assert not any("lm_head" in warning for warning in warnings)


def test_patterns():
    ignored = Patterns(
        ["lm_head", "mlp.gate", "model.layers.1.*", "re:.*shared.*", "vision_tower*"], "ignore"
    )
    inside = ["lm_head", "model.layers.4.mlp.gate", "model.layers.1.mlp.up_proj", "x.shared_experts.up_proj",
              "vision_tower.encoder.layers.0.fc1"]  # fmt: skip
    outside = ["model.layers.4.mlp.gate_proj", "model.layers.10.mlp.up_proj", "model.layers.0.mlp.up_proj"]
    assert all(name in ignored for name in inside)
    assert not any(name in ignored for name in outside)


def test_experts_and_the_rest_apart():
    base = llmcalc.vram("mixtral-8x7b")["weights"].bytes
    routed = llmcalc.model("mixtral-8x7b").routed_params
    only = llmcalc.vram("mixtral-8x7b", quant="mxfp4-experts")["weights"].bytes
    assert only == base - 2 * routed + routed * 17 // 32
    mixed = llmcalc.vram("mixtral-8x7b", quant="fp8-block128 + mxfp4 experts")["weights"].bytes
    assert mixed < only


def test_tensor_ranks_share_scales_too():
    one = llmcalc.vram("llama-3.1-70b", quant="awq")["weights"].bytes
    two = llmcalc.vram("llama-3.1-70b", quant="awq", gpu="2xh100")["weights"].bytes
    assert one / 2 <= two < one / 2 * 1.001


def test_quant_and_bits_contradict():
    with pytest.raises(InputError, match="together"):
        llmcalc.vram("llama-3.1-8b", quant="awq", bits=4)


@pytest.mark.parametrize("name", ["deepseek-v3", "gpt-oss-20b", "llama-3.1-8b"])
def test_models_can_be_pickled(name):
    model = llmcalc.model(name)
    again = pickle.loads(pickle.dumps(model))
    assert again.params == model.params
    for quant in (None, "nf4", "q4_k_m"):
        one, two = (llmcalc.vram(m, quant=quant) for m in (model, again))
        assert two["weights"].bytes == one["weights"].bytes
        assert two.header == one.header


def test_a_refused_quantization_can_be_asked_for_again():
    model = llmcalc.model({**LLAMA, "quantization_config": {"quant_method": "sorcery"}})
    again = pickle.loads(pickle.dumps(model))
    seen = []
    for one in (model, model, again):
        with pytest.raises(ConfigError, match="sorcery") as caught:
            llmcalc.vram(one)
        seen.append(caught.value)
    assert len(set(map(id, seen))) == 3  # one object would gather the traces of all calls


def test_unknown_method_names_the_way_out():
    with pytest.raises(ConfigError, match="--quant"):
        llmcalc.vram({**LLAMA, "quantization_config": {"quant_method": "sorcery"}})
