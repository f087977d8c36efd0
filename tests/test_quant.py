"""The table of formats and the catalog of them, through the API and the command line."""

import json

import pytest

import llmcalc
from llmcalc.cli import run
from llmcalc.errors import InputError


def output(capsys, arguments, code=0):
    assert run(arguments) == code
    return capsys.readouterr()


def test_rows_are_what_vram_says():
    table = llmcalc.quant("llama-3.1-8b", schemes="q4_k_m,awq,none", context="8k", gpu="rtx-4060,rtx-4090")
    assert [row.scheme["name"] for row in table] == ["bf16", "awq-4bit-g128", "q4_k_m"]
    for row, quant in zip(table, ("none", "awq", "q4_k_m"), strict=True):
        single = llmcalc.vram("llama-3.1-8b", quant=quant, context="8k", gpu="rtx-4060")
        assert row.scheme["weights_bytes"] == single["weights"].bytes
        assert row.scheme["fits"][0]["verdict"] == single.verdict
        assert row.scheme["fits"][0]["max_context"] == single.capacity.max_context
    assert table[1].scheme["bits_of_linear_layers"] == pytest.approx(4.156, abs=1e-3)
    assert table[1].scheme["bits"] == pytest.approx(5.71, abs=5e-3)
    assert table[1].scheme["share_of_16_bit"] == pytest.approx(0.357, abs=1e-3)


def test_orders_and_limits():
    names = [row.scheme["name"] for row in llmcalc.quant("qwen3-8b", sort="name")]
    assert names == sorted(names)
    sizes = [row.scheme["weights_bytes"] for row in llmcalc.quant("qwen3-8b")]
    assert sizes == sorted(sizes, reverse=True)
    small = llmcalc.quant("qwen3-8b", max_size="4GiB")
    assert 0 < len(small) < len(sizes)
    assert all(row.scheme["weights_bytes"] <= 4 * 2**30 for row in small)
    bits = [row.scheme["bits"] for row in llmcalc.quant("qwen3-8b", sort="bits")]
    assert bits == sorted(bits, reverse=True)


@pytest.mark.parametrize(
    ("keywords", "what"),
    [
        ({"model": "13b"}, "bare count"), ({"model": "qwen3-8b", "sort": "beauty"}, "sort"),
        ({"model": "qwen3-8b", "max_size": "1MiB"}, "No scheme is left"),
        ({"model": "qwen3-8b", "schemes": "awq,awk"}, "awk"),
        ({"model": "gpt-oss-20b", "schemes": "q1_0"}, "q1_0"),
        ({"model": "qwen3-8b", "context": [1, 2]}, "one context"),
    ],
)  # fmt: skip
def test_questions_that_are_refused(keywords, what):
    with pytest.raises(InputError, match=what):
        llmcalc.quant(**keywords)


def test_every_scheme_of_the_catalog_on_every_kind_of_model():
    for name in (
        "llama-3.1-8b",
        "mixtral-8x7b",
        "qwen3-next-80b-a3b",
        "deepseek-v3",
        "mamba-2.8b",
        "gemma-3-4b",
        "gpt2",
    ):
        table = llmcalc.quant(name, all_schemes=True)
        assert len(table) >= 60, name
        plain = next(row for row in table if row.scheme["share_of_16_bit"] == 1)
        # Scales make no scheme but fp32 larger than 16 bit; EXL stores a tied head once more.
        larger = [
            row.scheme["name"] for row in table if row.scheme["weights_bytes"] > plain.scheme["weights_bytes"]
        ]
        assert set(larger) <= {"gguf-f32", "gguf-f16", "gguf-bf16"}, name


def test_the_command(capsys):
    text = output(capsys, ["quant", "llama-3.1-8b", "--gpu", "rtx-4060,rtx-4090", "--ctx", "16k"]).out
    assert max(map(len, text.splitlines())) <= 80
    assert "q4_k_m" in text
    assert "CUDA 7.5 and up" in text
    data = json.loads(output(capsys, ["quant", "llama-3.1-8b", "--schemes", "nf4", "--json"]).out)
    assert data["command"] == "quant"
    assert [row["scheme"]["name"] for row in data["rows"]] == ["nf4"]
    rows = json.loads(output(capsys, ["quant", "llama-3.1-8b", "--json"]).out)["rows"]
    assert len(rows) > 15
    for kind in ("markdown", "html", "latex", "csv"):
        text = output(capsys, ["quant", "llama-3.1-8b", "--format", kind]).out
        assert "nf4-dq" in text
        assert "CUDA 7.5 and up" in text
    frame = llmcalc.quant("llama-3.1-8b").to_frame()
    assert {"format", "bits", "weights_bytes"} <= set(frame.columns)
    python = output(capsys, ["quant", "llama-3.1-8b", "--sort", "name", "--python"]).out
    assert "llmcalc.quant('llama-3.1-8b', sort='name')" in python


def test_the_list_of_formats(capsys):
    text = output(capsys, ["formats", "--use", "quant"]).out
    assert "nf4-dq" in text
    assert "4.127" in text
    shown = output(capsys, ["formats", "show", "gptq-8bit-g32"]).out
    assert "qweight int32 [1024, 4096]" in shown
    assert "8.7539" in shown
    assert (
        json.loads(output(capsys, ["formats", "show", "exl3-3.5", "--json"]).out)["entry"]["name"]
        == "exl3-3.50"
    )
    assert "kivi-2bit" in output(capsys, ["formats", "--use", "kv"]).out
    error = output(capsys, ["formats", "show", "nf5"], 2).err
    assert "nf4" in error
    assert run(["formats", "--use", "art"]) == 2


def test_tensors_as_they_are_stored(capsys):
    text = output(capsys, ["params", "smollm2-135m", "--quant", "awq-g64", "--tensors", "--json"]).out
    rows = {row["name"]: row for row in json.loads(text)["rows"]}
    assert rows["model.layers.0.mlp.up_proj.qweight"]["shape"] == "576 x 192"
    assert rows["model.layers.0.mlp.up_proj.scales"]["dtype"] == "fp16"
    assert rows["model.embed_tokens.weight"]["dtype"] == "bf16"
    text = output(capsys, ["params", "smollm2-135m", "--quant", "q4_k_m", "--tensors", "--json"]).out
    kinds = {row["gguf"]: row["dtype"] for row in json.loads(text)["rows"]}
    assert kinds["blk.0.attn_v.weight"] == "q8_0"  # 576 is no multiple of 256
    assert kinds["output_norm.weight"] == "fp32"


@pytest.mark.parametrize("word", ["fp32", "float32", "F32", "gguf-f32"])
def test_thirty_two_bits_are_thirty_two(word):
    report = llmcalc.vram("llama-3.1-8b", quant=word)
    assert report["weights"].bytes == pytest.approx(4 * 8_030_261_248, rel=1e-6)
    assert "32" in report.header[2]
    assert report.scenario["quant"] in ("fp32", "gguf-f32")
    assert llmcalc.vram("13b", quant=word)["weights"].bytes == 52_000_000_000
    file = llmcalc.vram("llama-3.1-8b", quant=word, engine="llama.cpp")["weights"].bytes
    assert file == pytest.approx(4 * (8_030_261_248 - 128_256 * 4096), rel=1e-6)  # the table is the host's


def test_unquantized_weights_are_headed_by_their_dtype():
    for word, label in (("none", "bf16"), ("fp16", "fp16"), ("bfloat16", "bf16"), ("16bit", "bf16")):
        assert llmcalc.vram("llama-3.1-8b", quant=word).header[2] == label
    assert llmcalc.vram("llama-3.1-8b", quant="none", dtype="fp32").header[2] == "fp32"
    with pytest.raises(InputError, match="contradict"):
        llmcalc.vram("llama-3.1-8b", quant="fp32", dtype="bf16")


def test_names_of_files_can_be_typed():
    table = llmcalc.quant("smollm2-135m", all_schemes=True)
    names = [row.scheme["name"] for row in table]
    assert len(set(names)) == len(names)
    for row in table:
        if not row.scheme["hardware"].startswith(("CPU", "everything")):
            continue
        again = llmcalc.vram("smollm2-135m", quant=row.scheme["name"])
        assert again["weights"].bytes == row.scheme["weights_bytes"], row.scheme["name"]


@pytest.mark.parametrize(
    "name",
    ["whisper-large-v3", "bart-base", "dia-1.6b", "rwkv-5-world-3b", "deepseek-v4-flash",
     "clip-vit-large-patch14"],
)  # fmt: skip
def test_files_that_llama_cpp_may_not_make_are_assumed(name):
    report = llmcalc.vram(name, quant="q4_k_m")
    assert report["weights"].grade == "assumed"
    assert any("llama.cpp may not make such a file" in warning for warning in report.warnings)


def test_a_bare_count_has_nominal_bits():
    report = llmcalc.vram("13b", quant="q4_k_m")
    assert report["weights"].grade == "assumed"
    assert report.header[1] == "q4_k_m (nominally 4.84 b/w)"
