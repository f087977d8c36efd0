"""Quantization that is stated wrongly: in configurations, by name, in catalogs of a user's own."""

import json
import pickle
import time

import pytest

import llmcalc
from llmcalc.catalog import Catalog
from llmcalc.cli import run
from llmcalc.errors import ConfigError, InputError, LlmcalcError
from llmcalc.precision.checks import RULES
from llmcalc.precision.named import find_scheme
from llmcalc.precision.packing import METHODS
from llmcalc.precision.patterns import Patterns, backtracks

BOOK = Catalog.shipped()
LLAMA = BOOK.lookup("models", "llama-3.1-8b")["config"]


def stated(quantization):
    key = "quantization_config" if "quant_method" in quantization else "quantization"
    return {**LLAMA, key: quantization}


def grouped(weights, **more):
    groups = {"group_0": {"targets": ["Linear"], "weights": weights}}
    return {"quant_method": "compressed-tensors", "format": "pack-quantized", "config_groups": groups, **more}


def float8(**weights):
    return grouped({"num_bits": 8, "type": "float", **weights}, format="float-quantized")


def mlx(**more):
    return {"bits": 4, "group_size": 64, **more}


TORCHAO = {"quant_method": "torchao", "quant_type": "int4_weight_only"}
GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": 128}


@pytest.mark.parametrize(
    ("quantization", "what", "remedy"),
    [
        (mlx(bits=0), "mlx has no 0 bits", "2, 3, 4, 5, 6 or 8"), (mlx(bits=-1), "no -1 bits", "2, 3, 4"),
        (mlx(bits=1 << 20), "1048576 bits", "2, 3, 4"), (mlx(bits=7), "no 7 bits", "2, 3, 4"),
        (mlx(group_size=0), "groups of 0", "32, 64 or 128"), (mlx(group_size=7), "groups of 7", "64 or 128"),
        (mlx(mode="bogus"), "mode is 'bogus'", "affine, mxfp4"), (mlx(mode=[1]), "mode is", "affine"),
        (mlx(mode="mxfp8", group_size=32), "4 bits in mode mxfp8", "Use 8 bits"),
        (mlx(lm_head={"bits": 0}), "lm_head: mlx has no 0 bits", "2, 3, 4"),
        (mlx(lm_head={"bits": 4, "group_size": 0}), "groups of 0", "64"),
        (mlx(lm_head={"mode": "bogus"}), "mode of lm_head", "affine"),
        ({**TORCHAO, "quant_type_kwargs": {"group_size": 0}}, "groups of 0", "32, 64, 128 or 256"),
        ({**TORCHAO, "quant_type_kwargs": {"group_size": 3}}, "groups of 3", "32, 64, 128 or 256"),
        ({"quant_method": "torchao", "quant_type": {"default": {"_type": "Int4", "_data": 7}}},
         "_data is '7', not an object", "group_size"),
        ({"quant_method": "hqq", "quant_config": {"weight_quant_params": None}}, "not an object", "nbits"),
        ({"quant_method": "hqq", "quant_config": {"weight_quant_params": [4]}}, "not an object", "nbits"),
        ({"quant_method": "hqq", "quant_config": 4}, "not an object", "nbits"),
        ({"quant_method": "aqlm", "in_group_size": 0}, "groups of 0", "8"),
        ({"quant_method": "aqlm", "in_group_size": -1}, "groups of -1", "8"),
        ({"quant_method": "aqlm", "nbits_per_codebook": -1}, "codes of -1 bits", "1 to 16"),
        ({"quant_method": "aqlm", "nbits_per_codebook": 1 << 20}, "codes of 1048576", "1 to 16"),
        ({"quant_method": "aqlm", "num_codebooks": 10000}, "10000 codebooks", "1 to 16"),
        (float8(strategy="block", block_structure=5), "block_structure is '5'", "128, 128"),
        (float8(strategy="block", block_structure=[0, 0]), "block_structure", "128, 128"),
        (float8(strategy="block", block_structure=[[1]]), "block_structure", "128, 128"),
        (float8(strategy="block", block_structure=[1]), "block_structure", "128, 128"),
        ({"quant_method": "fp8", "weight_block_size": [3, 5]}, r"blocks of \(3, 5\)", "128, 128"),
        ({**GPTQ, "group_size": 0}, "groups of 0", "multiple of 8"),
        ({**GPTQ, "group_size": 3}, "groups of 3", "multiple of 8"),
        ({**GPTQ, "group_size": 1 << 20}, "groups of 1048576", "multiple of 8"),
        ({"quant_method": "exl3", "bits": 3.0, "head_bits": 0}, "head of 0 bits", "1 to 8"),
        ({"quant_method": "exl2", "bits": 3.0, "head_bits": -1}, "head of -1 bits", "2 to 8"),
        ({"quant_method": "exl3", "bits": 3.0, "head_bits": 10**6}, "head of 1000000 bits", "1 to 8"),
        ({"quant_method": "exl2", "bits": 1.5}, "exl2 has no 1.5 bits", "2 to 8 bits"),
        # What contradicts itself.
        ({**GPTQ, "q_group_size": 64}, "group_size 128 and q_group_size 64", "Keep one"),
        ({**GPTQ, "w_bit": 8}, "bits 4 and w_bit 8", "Keep one"),
        ({"quant_method": "awq", "bits": 4, "group_size": 128, "q_group_size": 64}, "states", "Keep one"),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True, "load_in_8bit": True}, "both", "Keep one"),
        ({"quant_method": "bitsandbytes", "load_in_4bit": "yes"}, "load_in_4bit is 'yes'", "true or false"),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_use_double_quant": "false"},
         "double_quant is 'false'", "true or false"),
        (grouped({"num_bits": 4, "type": "int", "strategy": "channel", "group_size": 128}),
         "strategy channel has no groups", "leave group_size out"),
        (grouped({"num_bits": 4, "type": "int", "strategy": "group"}), "group_size of null", "channel"),
        (grouped({"num_bits": 4, "type": "int", "strategy": "bogus"}), "strategy is 'bogus'", "Use tensor"),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4", "group_size": 64}, "groups of 16", "Use 16"),
        # What says nothing.
        (grouped(None), "no group of config_groups", "--quant none"),
    ],
    ids=lambda value: json.dumps(value)[:50] if isinstance(value, dict) else "",
)  # fmt: skip
def test_numbers_that_no_method_has(quantization, what, remedy):
    with pytest.raises(LlmcalcError, match=what) as caught:
        llmcalc.vram(stated(quantization))
    assert remedy in caught.value.remedy
    assert llmcalc.params(stated(quantization)).model["params"] == 8_030_261_248


def test_an_old_way_to_write_blocks():
    report = llmcalc.vram(stated(float8(strategy="block", block_structure="128x128")))
    assert report.scenario["quant"] == "fp8-block"


def test_a_command_tells_it_and_exits_with_2(tmp_path, capsys):
    (tmp_path / "config.json").write_text(json.dumps(stated(mlx(bits=0))))
    assert run(["vram", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert "Internal" not in error
    assert error.splitlines()[-1] == "Use 2, 3, 4, 5, 6 or 8."


def test_rules_are_there_for_every_packer():
    assert set(RULES) == set(METHODS)
    import inspect

    for method, rules in RULES.items():
        assert set(rules) - {"head"} <= set(inspect.signature(METHODS[method]).parameters)


@pytest.mark.parametrize(
    ("quantization", "what"),
    [
        ({**GPTQ, "modules_to_not_convert": ["re:(.*)*x$"]}, "could take hours"),
        ({**GPTQ, "modules_to_not_convert": ["re:([a-z._0-9]+)+!"]}, "could take hours"),
        ({**GPTQ, "modules_to_not_convert": ["re:.*.*.*.*.*.*.*.*!"]}, "could take hours"),
        ({**GPTQ, "dynamic": {"-:(.*)*x$": {}}}, "could take hours"),
        ({"quant_method": "compressed-tensors", "config_groups": {
            "a": {"targets": ["re:^(\\w+\\.?)+!$"], "weights": {"num_bits": 4, "group_size": 128}}}},
         "could take hours"),
        ({**GPTQ, "modules_to_not_convert": [f"re:model.layers.{i}.*" for i in range(100_000)]}, "more than"),
        ({**GPTQ, "modules_to_not_convert": [f"*.{i}.*" for i in range(10_000)]}, "more than"),
        ({**GPTQ, "modules_to_not_convert": [f"layers.{i}.x" for i in range(300_000)]}, "300,000 names"),
        ({**GPTQ, "modules_to_not_convert": ["*a" * 1000]}, "2,000 characters"),
        ({"quant_method": "compressed-tensors", "config_groups": {
            f"g{i}": {"targets": ["Linear"], "weights": {"num_bits": 4}} for i in range(100_000)}},
         "100,000 groups"),
    ],
    ids=lambda value: json.dumps(value)[:70] if isinstance(value, dict) else "",
)  # fmt: skip
def test_lists_that_would_take_hours(quantization, what):
    started = time.process_time()
    with pytest.raises(ConfigError, match=what) as caught:
        llmcalc.vram(stated(quantization))
    assert time.process_time() - started < 2
    assert caught.value.remedy


@pytest.mark.parametrize(
    "names",
    [
        [f"model.layers.{i}.x" for i in range(100_000)],
        [f"model.layers.{i}.x*" for i in range(100_000)],
        ["*a*a*a*a*a*a*a*a*a*a*a*a*a*b"],
        ["re:(a{1000}){1000}"],
        [".".join("a" * 20_000)],
        ["re:.*.*.*x$"],
    ],
    ids=lambda names: names[0][:20],
)  # fmt: skip
def test_lists_that_are_long_take_their_time_and_no_more(names):
    started = time.process_time()
    assert llmcalc.vram(stated({**GPTQ, "modules_to_not_convert": names}))["weights"].bytes > 0
    assert time.process_time() - started < 4


@pytest.mark.parametrize(
    "expression",
    [
        ".*self_attn.*", r".*\.mlp\.experts\.\d+\.(gate|up|down)_proj$", r"^(?!.*experts).*$",
        r"(?:.*\.)?layers\.\d+\..*", ".*mlp\\.(gate|up|gate_up|down)_proj.*", ".*a.*|.*b.*|.*c.*|.*d.*",
        r"^model\..*\.layers\.\d+\.mlp\.experts\.\d+\.(gate|up|down)_proj\..*$",
        r"model\.layers\.(0|1|2|10|11)\..*", "[^.]*norm", r"visual\.blocks\.\d{1,2}\.(qkv|proj)",
    ],
)  # fmt: skip
def test_expressions_that_people_write_are_taken(expression):
    assert backtracks(expression) == ""


@pytest.mark.parametrize(
    "expression",
    ["(a|a)*b", "(a+)+$", "(.*a){20}$", "(((a{0,9}){0,9}){0,9})x", "a?" * 30 + "a" * 30, "(aa|aa)" * 30,
     "(a*?)+?b", "((a|b)c?){9}d", "(?:x.*y)+"],
)  # fmt: skip
def test_expressions_that_backtrack_are_not(expression):
    assert backtracks(expression)


def test_globs_and_names_match_as_before():
    listed = Patterns(["model.layers.1.mlp*", "*.k_proj", "lm_head", "model.layers.3"], "ignore")
    inside = ["model.layers.1.mlp.up_proj", "model.layers.7.self_attn.k_proj", "lm_head",
              "model.language_model.layers.3.mlp.up_proj"]  # fmt: skip
    assert all(name in listed for name in inside)
    assert "model.layers.10.mlp.up_proj" not in listed
    assert listed.unused == []


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("gptq-4bit-8bit", "states bits twice"), ("fp8-static-dynamic", "means nothing"),
        ("nf4-dq-dq", "means nothing"), ("awq-h8", "'h8' means nothing to awq"),
        ("gptq-asym", "'asym' means nothing"), ("int8-static", "'static' means nothing"),
        ("fp8-block-dynamic", "'dynamic' means nothing"), ("exl3-h0", "head of 0 bits"),
        ("exl3-3.0-h64", "head of 64 bits"), ("exl3-" + "9" * 5000, "5,005 characters"),
        ("gptq-g" + "9" * 5000, "5,006 characters"), ("awq (purple)", "'purple' means nothing"),
        ("fp8-static+nvfp4", "mixes schemes"), ("exl2-1.5", "2 to 8 bits"), ("nf4-g32", "no groups of 32"),
    ],
)  # fmt: skip
def test_names_that_no_scheme_has(name, what, capsys):
    with pytest.raises(InputError, match=what):
        find_scheme(name, BOOK)
    assert run(["vram", "llama-3.1-8b", "--quant", name]) == 2
    assert "Internal" not in capsys.readouterr().err


def test_options_that_a_scheme_has():
    asked = ("awq", "awq-sym", "awq-asym", "nf4", "nf4-dq", "nf4 (double quant)", "w8a8-static")
    plain, symmetric, asymmetric, nf4, double, spoken, _ = (
        llmcalc.vram("llama-3.1-8b", quant=name)["weights"].bytes for name in asked
    )
    assert asymmetric == plain
    assert plain - symmetric == 6_979_321_856 // 128 // 2  # packed zero points, half a byte each
    assert spoken == double < nf4


def test_every_name_shown_can_be_typed():
    for row in llmcalc.quant("llama-3.1-8b", all_schemes=True):
        shown = row.scheme["name"]
        again = llmcalc.quant("llama-3.1-8b", schemes=[shown])[0].scheme
        assert (again["name"], again["weights_bytes"]) == (shown, row.scheme["weights_bytes"])
    for name in ("gptq-channel", "awq-g-1", "w8a16-channel", "w4a16-g32-asym", "w5a16-g64", "exl3-3.25-h8",
                 "awq-sym", "fp8-block-64x64", "aqlm-2x8", "w8a8-static"):  # fmt: skip
        shown = find_scheme(name, BOOK).name
        assert find_scheme(shown, BOOK).name == shown


@pytest.mark.parametrize("schemes", [5, [], "", ",", [5], {"awq": 1}])
def test_lists_of_schemes_that_name_none(schemes):
    with pytest.raises(InputError, match="names no scheme"):
        llmcalc.quant("qwen3-8b", schemes=schemes)


def test_what_is_left_in_16_bit_is_told():
    notes = llmcalc.vram("gpt-oss-20b", quant="torchao-int4").warnings
    assert any("groups of 128 do not divide 2,880 columns" in note for note in notes)
    notes = llmcalc.vram("llama-3.1-8b", quant="fp8 experts").warnings
    assert any("Nothing of this model is quantized by fp8 experts" in note for note in notes)
    groups = {"a": {"targets": ["Foo"], "weights": {"num_bits": 4, "group_size": 128}}}
    notes = llmcalc.vram(stated({"quant_method": "compressed-tensors", "config_groups": groups})).warnings
    assert any("Nothing of this model" in note for note in notes)
    assert any("match no tensor: Foo" in note for note in notes)
    assert not llmcalc.vram("llama-3.1-8b", quant="torchao-int4").warnings
    assert not llmcalc.vram("gpt-oss-20b", quant="mxfp4").warnings


@pytest.mark.parametrize(
    ("name", "quant", "remedy"),
    [
        ("gpt-oss-20b", "awq", "Use --quant awq-g32 or awq-g64."),
        ("mamba-2.8b", "awq", "Use --quant awq-g32."),
        ("smollm2-135m", "w4a16", "Use --quant w4a16-g16, w4a16-g32 or w4a16-g64."),
    ],
)
def test_groups_that_do_not_divide_name_those_that_do(name, quant, remedy):
    with pytest.raises(InputError, match="do not divide") as caught:
        llmcalc.vram(name, quant=quant)
    assert caught.value.remedy == remedy
    for word in remedy.removeprefix("Use --quant ").rstrip(".").replace(" or", ",").split(", "):
        assert llmcalc.vram(name, quant=word)["weights"].bytes > 0


@pytest.mark.parametrize(
    ("entry", "what"),
    [
        ("{name: my, method: nosuch}", "schemes entry my, field method: 'nosuch' is no packer"),
        ("{name: my, method: gptqq}", "did you mean gptq?"),
        ("{name: my, method: gguf, nominal: 4}", "entry my, field name: 'my' is no file type"),
        ("{name: q4_k_m, method: gguf}", "entry q4_k_m, field nominal"),
        ("{name: my, method: gptq, options: {bits: 0, group: 0}}", "field options.bits: gptq has no 0 bits"),
        ("{name: my, method: gptq, options: {bits: 0, group: 0}}", "field options.group: gptq has no groups"),
        ("{name: my, method: mlx, options: {group: 0}}", "field options.group"),
        ("{name: my, method: mlx, options: {mode: zzz}}", "field options.mode"),
        ("{name: my, method: aqlm, options: {code: 99}}", "field options.code"),
        (
            "{name: my, method: awq, options: {grup: 64}}",
            "options.grup: unknown to awq (did you mean group?)",
        ),
        ("{name: my, method: awq, group: [3]}", "field group: awq has no groups of 3"),
        ("{name: none, method: awq}", "field name: 'none' stands for unquantized"),
    ],
)
def test_catalogs_with_a_wrong_scheme(entry, what, tmp_path, capsys):
    path = tmp_path / "own.yaml"
    path.write_text(f"schemes:\n  - {entry}\n")
    for command in (["formats"], ["vram", "llama-3.1-8b", "--quant", "my"]):
        assert run([*command, "--catalog", str(path)]) == 2
        error = capsys.readouterr().err
        assert what in " ".join(error.split())
        assert str(path) in error
        assert "Mend the fields named" in error.splitlines()[-1]


def test_a_scheme_that_says_only_its_method(tmp_path, capsys):
    path = tmp_path / "own.yaml"
    path.write_text("schemes:\n  - {name: my, method: awq}\n")
    own = llmcalc.vram("llama-3.1-8b", quant="my", catalog=str(path))
    assert own["weights"].bytes == llmcalc.vram("llama-3.1-8b", quant="awq")["weights"].bytes
    assert run(["formats", "--catalog", str(path), "--search", "my"]) == 0
    assert run(["formats", "show", "my", "--catalog", str(path)]) == 0
    capsys.readouterr()


def test_a_quantized_model_can_be_pickled():
    model = llmcalc.model("deepseek-v3")
    copy = pickle.loads(pickle.dumps(model))
    assert llmcalc.vram(copy).scenario == llmcalc.vram(model).scenario
    assert llmcalc.vram(copy)["weights"].bytes == llmcalc.vram(model)["weights"].bytes


def test_what_is_refused_is_refused_each_time():
    model = llmcalc.model(stated({"quant_method": "sorcery"}))
    depths = []
    for _ in range(3):
        with pytest.raises(ConfigError, match="sorcery") as caught:
            llmcalc.vram(model)
        depths.append(len(list(iter_frames(caught.value.__traceback__))))
    assert len(set(depths)) == 1  # an exception that is kept grows with each raise
    pickle.dumps(model)


def iter_frames(trace):
    while trace is not None:
        yield trace
        trace = trace.tb_next
