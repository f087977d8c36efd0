"""GGUF mixtures: types and sizes of llama.cpp's own quantizer, tensors of its own converter."""

import json
import re
from pathlib import Path

import pytest

import llmcalc
from llmcalc.catalog import Catalog
from llmcalc.errors import ConfigError, InputError
from llmcalc.model.dialects import gguf_name
from llmcalc.model.inventory import size
from llmcalc.precision import mixtures
from llmcalc.precision.gguf import File

DATA = Path(__file__).parent / "data"
GOLDEN = json.loads((DATA / "gguf_mixtures.json").read_text())
CONVERTED = json.loads((DATA / "gguf_conversions.json").read_text())
BOOK = Catalog.shipped()
NAMES = {
    "llama2-7b": "llama-2-7b", "llama2-13b": "llama-2-13b", "llama2-70b": "llama-2-70b",
    "mistral-7b-v0.1": "mistral-7b-v0.1", "mixtral-8x7b": "mixtral-8x7b", "llama3-8b": "llama-3-8b",
    "llama3.1-8b": "llama-3.1-8b", "llama3.1-70b": "llama-3.1-70b", "llama3.2-1b": "llama-3.2-1b",
    "llama3.2-3b": "llama-3.2-3b", "gemma2-9b": "gemma-2-9b", "gemma2-27b": "gemma-2-27b",
    "gemma3-1b": "gemma-3-1b", "gemma3-4b": "gemma-3-4b", "gemma3-12b": "gemma-3-12b",
    "gemma3-27b": "gemma-3-27b", "deepseek-v2-lite-mla": "deepseek-v2-lite", "deepseek-v3-mla": "deepseek-v3",
}  # fmt: skip
# Two shapes of the quantizer's runs are no catalog model: an old layout, and one with rounded widths.
SHAPES = [name for name in GOLDEN["sizes"] if name not in ("deepseek-v2-lite-legacy", "falcon-h1-1.5b")]


def scheme(file_type):
    name, _, imatrix = file_type.lower().partition("+")
    return (
        f"gguf-{name}" + ("+imatrix" if imatrix else "")
        if name in mixtures.FLOATS
        else (name + ("+imatrix" if imatrix else ""))
    )


@pytest.mark.parametrize("shape", SHAPES)
def test_bytes_of_every_file_type(shape):
    model = llmcalc.model(NAMES.get(shape, shape))
    for file_type, wanted in GOLDEN["sizes"][shape].items():
        weights = llmcalc.vram(model, quant=scheme(file_type))["weights"]
        assert weights.bytes == wanted, file_type
        assert weights.grade == "exact"


@pytest.mark.parametrize(
    ("name", "quant", "mib"),
    [  # figures that llama.cpp printed for real files
        ("llama-3-8b", "q4_k_m", 4685.30), ("qwen3-30b-a3b", "q4_k_m", 17691.34),
        ("qwen3-30b-a3b", "Q5_K_M", 20713.44), ("deepseek-r1", "q8_0", 680237.97),
    ],
)  # fmt: skip
def test_sizes_of_real_logs(name, quant, mib):
    assert round(llmcalc.vram(name, quant=quant)["weights"].bytes / 2**20, 2) == mib


LOGS = [json.loads(line) for line in (DATA / "gguf_logs.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("row", LOGS, ids=lambda row: f"{row['id']}-{row['quant']}")
def test_files_of_real_logs(row):
    """Size and bits per weight, to the digit that llama.cpp printed."""
    model = llmcalc.model(row["model"])
    size = llmcalc.vram(model, quant=row["quant"])["weights"].bytes
    digits = len(str(row["gib"]).partition(".")[2])
    assert size / 2**30 == pytest.approx(row["gib"], abs=0.51 * 10**-digits)
    if row["bpw"]:
        assert 8 * size / model.params == pytest.approx(row["bpw"], abs=0.0101)


def runs(kinds):
    """Types in layer order as a run-length text: ``q6_k*4 q4_k``."""
    found = []
    for kind in kinds:
        if found and found[-1][0] == kind:
            found[-1][1] += 1
        else:
            found.append([kind, 1])
    return " ".join(f"{kind}*{n}" if n > 1 else kind for kind, n in found)


def tensors_of(file, model):
    """Names, types and shapes (row first) of a file's tensors."""
    for group in file.apply(model, "bf16").groups:
        for layer in group.layers[: group.stored] or (None,):
            for tensor in group.tensors:
                name = gguf_name(group, tensor, layer) or f"?{tensor.role}"
                shape = [size(d) for d in reversed(tensor.dims)]
                yield layer, name, {"fp32": "f32", "fp16": "f16"}.get(tensor.dtype, tensor.dtype), shape


@pytest.mark.parametrize("shape", GOLDEN["types"])
def test_type_of_every_tensor(shape):
    model = llmcalc.model(NAMES.get(shape, shape))
    for file_type, stems in GOLDEN["types"][shape].items():
        name, _, imatrix = file_type.lower().partition("+")
        found = {}
        for layer, tensor, kind, _ in tensors_of(File(name, bool(imatrix)), model):
            found.setdefault(re.sub(r"blk\.\d+", "blk.N", tensor), []).append((layer or 0, kind))
        texts = {stem: runs([kind for _, kind in sorted(kinds)]) for stem, kinds in found.items()}
        for stem, index in stems.items():
            assert texts[stem] == GOLDEN["runs"][index], (file_type, stem)


PREDICTING = [  # the quantizer's own dry run (v0.5.0) over files that hold a prediction layer
    ("qwen3.5-0.8b", "q4_k_m", "token_embd.weight", "q6_k"),
    ("qwen3.5-0.8b", "q4_k_m", "attn_v.weight", "q4_k*2 q6_k q4_k*2 q6_k*2"),
    ("qwen3.5-0.8b", "q4_k_m", "attn_qkv.weight",
     "q6_k*3 q4_k q6_k q4_k q6_k q4_k*4 q6_k q4_k q6_k q4_k q6_k*3"),
    ("qwen3.5-0.8b", "q4_k_m", "nextn.eh_proj.weight", "q4_k"),
    ("qwen3.5-0.8b", "iq2_m", "token_embd.weight", "q5_k"),
    ("qwen3.5-0.8b", "iq2_m", "ffn_down.weight", "iq3_s*3 iq2_s*22"),
    ("qwen3.5-4b", "q4_k_m", "token_embd.weight", "q6_k"),
    ("qwen3.5-4b", "q4_k_m", "attn_v.weight", "q6_k q4_k*2 q6_k q4_k*2 q6_k*3"),
    ("qwen3.5-397b-a17b", "q4_k_m", "token_embd.weight", "q4_k"),
    ("qwen3.5-397b-a17b", "q4_k_m", "output.weight", "q6_k"),
    ("qwen3.5-397b-a17b", "q4_k_m", "attn_qkv.weight",
     "q6_k*6 q4_k q6_k q4_k q6_k q4_k*4 q6_k q4_k q6_k q4_k q6_k q4_k*4 q6_k q4_k q6_k q4_k q6_k q4_k*4 q6_k "
     "q4_k q6_k q4_k q6_k q4_k*3 q6_k*5"),
    ("qwen3.5-397b-a17b", "iq2_m", "ffn_down_exps.weight", "iq3_s*4 iq2_s*57"),
    ("glm-4.5-air", "q4_k_m", "attn_v.weight", "q6_k*5" + " q4_k*2 q6_k" * 11 + " q4_k*2 q6_k*7"),
    ("glm-4.5-air", "q4_k_m", "ffn_down_exps.weight", "q8_0*4" + " q5_0*2 q8_0" * 11 + " q5_0*2 q8_0*7"),
    ("glm-4.7-flash", "q4_k_m", "ffn_down_exps.weight", "q6_k*5" + " q4_k*2 q6_k" * 11 + " q4_k*2 q6_k*7"),
    ("glm-4.7-flash", "iq2_m", "ffn_down_shexp.weight", "iq3_s*2 iq2_s*45"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "file_type", "stem", "kinds"), PREDICTING)
def test_prediction_layers_are_counted_by_the_quantizer(name, file_type, stem, kinds):
    found = [
        (layer or 0, kind)
        for layer, tensor, kind, _ in tensors_of(File(file_type), llmcalc.model(name))
        if re.sub(r"blk\.\d+\.", "", tensor) == stem
    ]
    assert runs([kind for _, kind in sorted(found)]) == kinds


@pytest.mark.parametrize(
    "name",
    ["qwen3.5-0.8b", "qwen3.5-122b-a10b", "deepseek-v3.2", "glm-5.2", "glm-4.6", "exaone-4.5-33b",
     "nvidia-nemotron-3.5-lightning-30b-a3b-bf16"],
)  # fmt: skip
def test_every_tensor_of_a_prediction_module_has_a_name_of_its_own(name):
    names = [tensor for _, tensor, _, _ in tensors_of(File("q4_k_m"), llmcalc.model(name))]
    assert len(set(names)) == len(names)
    assert not [tensor for tensor in names if tensor.startswith("?")]
    assert sum("nextn" in tensor for tensor in names) >= 4


@pytest.mark.parametrize("case", CONVERTED, ids=lambda case: case["name"])
def test_tensors_of_the_converter(case):
    config = dict(case["config"])  # whole, with keys of the tiny models' generator
    if not any("nextn" in name for name in case["gguf"]):
        config.pop("num_nextn_predict_layers", None)  # written by transformers, which saves no such layer
    model = llmcalc.model(config, assume=config["model_type"])
    found = {
        name: [kind, *(n for n in shape if n != 1)]
        for _, name, kind, shape in tensors_of(File(case["type"]), model)
    }
    assert found == {
        name: [kind, *(n for n in shape if n != 1)] for name, (kind, *shape) in case["gguf"].items()
    }


def test_more_is_the_first_the_last_and_every_third():
    assert [i for i in range(32) if mixtures.more(i, 32)] == [
        0, 1, 2, 3, 6, 9, 12, 15, 18, 21, 24, 27, 28, 29, 30, 31,
    ]  # fmt: skip


def test_larger_file_types_are_larger():
    model = llmcalc.model("llama-3.1-8b")
    order = [
        "iq1_s",
        "iq2_xxs",
        "iq2_m",
        "q2_k",
        "q3_k_s",
        "q3_k_m",
        "q4_k_s",
        "q4_k_m",
        "q5_k_m",
        "q6_k",
        "q8_0",
    ]
    sizes = [llmcalc.vram(model, quant=name)["weights"].bytes for name in order]
    assert sizes == sorted(sizes)


def test_rows_that_no_block_divides_fall_back_and_are_told():
    report = llmcalc.vram("gpt-oss-20b", quant="q4_k_m")  # rows of 2,880
    assert any("no block of q4_k divides" in warning for warning in report.warnings)
    with pytest.raises((ConfigError, InputError), match="q1_0"):
        llmcalc.vram("gpt-oss-20b", quant="q1_0")


def test_towers_are_a_file_of_their_own():
    report = llmcalc.vram("gemma-3-4b", quant="q4_k_m")
    assert any("mmproj" in warning for warning in report.warnings)


def test_file_types_that_need_an_importance_matrix_say_so():
    assert any("importance matrix" in w for w in llmcalc.vram("llama-3.1-8b", quant="iq2_xxs").warnings)
    assert not llmcalc.vram("llama-3.1-8b", quant="iq2_xxs+imatrix").warnings
