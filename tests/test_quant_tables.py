"""What the table of formats, the list of formats and the explanation show, and how wide they are."""

import json
import sys

import pytest

import llmcalc
from llmcalc.answer.kernels import runs_on
from llmcalc.catalog import Catalog
from llmcalc.cli import run
from llmcalc.render.grid import grid


def output(capsys, arguments, code=0):
    assert run(arguments) == code
    return capsys.readouterr()


def width(text):
    return max(map(len, text.splitlines()))


def test_one_format_is_a_table_too(capsys):
    """Named alone, or the only one that --max-size leaves."""
    for more in (["--schemes", "nf4"], ["--max-size", "2.8GiB", "--sort", "bits"]):
        text = output(capsys, ["quant", "llama-3.1-8b", *more]).out
        assert "bits/w" in text
        assert "smallest card" in text
        data = json.loads(output(capsys, ["quant", "llama-3.1-8b", *more, "--json"]).out)
        assert len(data["rows"]) == 1
        assert data["rows"][0]["scheme"]["hardware"]
        for kind in ("markdown", "csv", "html", "latex"):
            text = output(capsys, ["quant", "llama-3.1-8b", *more, "--format", kind]).out
            assert "smallest" in text
            assert "CUDA" in text
    assert list(llmcalc.quant("llama-3.1-8b", schemes="nf4").to_frame()["format"]) == ["nf4"]


def test_the_schema_holds():
    jsonschema = pytest.importorskip("jsonschema")
    from pathlib import Path

    schema = json.loads((Path(__file__).parents[1] / "docs/schema/report.schema.json").read_text())
    for schemes in ("nf4", "nf4,awq,q4_k_m"):
        table = llmcalc.quant("mamba-2.8b", schemes=schemes, gpu="t4,2xrtx-3090")
        jsonschema.validate(json.loads(table.to_json()), schema)


def test_gpus_are_headed_with_their_number(capsys):
    gpus = "rtx-3090,2xrtx-3090,4xrtx-3090"
    rows = output(capsys, ["quant", "llama-3.1-8b", "--gpu", gpus, "--format", "csv"]).out.splitlines()
    assert rows[0].endswith("RTX 3090,2 x RTX 3090,4 x RTX 3090")
    text = output(capsys, ["quant", "llama-3.1-8b", "--gpu", gpus]).out
    assert "2 x   4 x" in text
    assert width(text) <= 80


def test_names_of_one_scheme_are_one_row():
    table = llmcalc.quant("llama-3.1-8b", schemes="awq,AWQ,awq-4bit,bnb-nf4,nf4")
    assert [row.scheme["name"] for row in table] == ["nf4", "awq-4bit-g128"]


def test_notes_say_which_format(capsys):
    told = output(capsys, ["quant", "mamba-2.8b", "--schemes", "awq,nf4,q4_k_m"]).err
    assert "Note: awq: groups of 128 do not divide the 160 columns of ssm_dt." in told
    assert "awq: awq" not in told
    told = output(capsys, ["quant", "gpt-oss-20b", "--schemes", "torchao-int4,nf4"]).err
    assert "Note: torchao-int4-g128 leaves 19,470,827,520" in told
    told = output(capsys, ["quant", "llama-3.1-405b", "--schemes", "none,nf4", "--gpu", "8xh200"]).err
    assert "No single card" not in told


def test_the_smallest_card_has_kernels():
    table = {row.scheme["name"]: row for row in llmcalc.quant("qwen3-4b", schemes="eetq,exl3-4.0,nf4,nvfp4")}
    book = Catalog.shipped()
    for name, row in table.items():
        assert row.cards, name
        for card, _ in row.cards:
            assert runs_on(row.scheme["hardware"], book.lookup("gpus", card)), (name, card)
    small = llmcalc.vram("llama-3.1-8b", quant="eetq").cards
    assert small
    assert not any("50" in name for name, _ in small)  # Blackwell is beyond 8.9


@pytest.mark.parametrize(
    ("hardware", "card", "runs"),
    [
        ("CUDA 7.0 to 8.9", "rtx-4090", True), ("CUDA 7.0 to 8.9", "rtx-5090", False),
        ("CUDA 8.0 and up", "t4", False), ("CUDA 8.0 and up", "rtx-3090", True),
        ("CUDA 10.0 and up (7.5 weights only)", "t4", True),
        ("CUDA 10.0 and up, ROCm MI350", "h100-sxm", False),
        ("CUDA 10.0 and up, ROCm MI350", "mi355x", True), ("CUDA 10.0 and up, ROCm MI350", "mi300x", False),
        ("CUDA 7.5 and up, ROCm, CPU", "mi300x", True), ("CUDA 8.0 and up", "mi300x", False),
        ("CUDA 8.9 and up (7.5 weights only), ROCm MI300 and up, TPU", "rx-7900-xtx", False),
        ("Apple silicon, CUDA and CPU by MLX", "rtx-3090", True),
        ("CPU, CUDA, ROCm, Metal, Vulkan, SYCL by llama.cpp", "arc-b580", True),
        ("", "t4", True), ("mine", "t4", True),
    ],
)  # fmt: skip
def test_what_runs_where(hardware, card, runs):
    assert runs_on(hardware, Catalog.shipped().lookup("gpus", card)) is runs


def test_a_card_without_kernels_is_told(capsys):
    told = output(capsys, ["vram", "llama-3.1-8b", "--quant", "exl3-4.0", "--gpu", "t4"]).err
    assert "exl3-4.00 has no kernels for T4: it runs on CUDA 8.0 and up." in told
    text = output(capsys, ["quant", "llama-3.1-8b", "--schemes", "exl3-4.0,nf4", "--gpu", "t4"]).out
    assert "(fits)" in text
    assert "In parentheses" in text
    assert (
        "no kernels" not in output(capsys, ["vram", "llama-3.1-8b", "--quant", "nf4", "--gpu", "24GiB"]).err
    )


def test_bars_are_named_by_format():
    pytest.importorskip("matplotlib")
    figure = llmcalc.quant("llama-3.1-8b", schemes="nf4,awq").plot()
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels == ["nf4", "awq-4bit-g128"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["formats"], ["formats", "--use", "kv"], ["formats", "show", "gptq"],
        ["formats", "show", "fp8-block + mxfp4 experts"],
        ["quant", "llama-3.1-8b", "--all"],
        ["quant", "llama-3.1-8b", "--gpu", "rtx-3090,RTX PRO 6000 Blackwell Workstation,h100-sxm,t4,l4"],
        ["quant", "llama-3.1-8b", "--gpu", ",".join(["RTX PRO 6000 Blackwell Workstation", "h100-sxm"] * 6)],
        ["params", "qwen3-8b", "--tensors"], ["params", "llama-3.1-8b", "--quant", "awq", "--tensors"],
        ["params", "llama-3.1-8b", "--quant", "q4_k_m", "--tensors"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_tables_keep_within_80_columns(arguments, capsys):
    assert width(output(capsys, arguments).out) <= 80


def test_a_table_that_is_too_wide():
    """Headings break first, then spare columns go, cells break, and what finds no room stands below."""
    head, align = ["name", "a long heading", "spare"], ["left", "right", "left"]
    rows = [["one", "1", "xx"], ["two", "2", "yy"]]
    assert grid(head, rows, align, 40)[0] == "name  a long heading  spare"
    assert grid(head, rows, align, 22, ["spare"])[1] == "name  heading  spare"
    assert grid(head, rows, align, 14, ["spare"])[1] == "name  heading"
    text = grid(["n", "value"], [["x", "some words " * 4]], ["left", "left"], 30, wrapped=["value"])
    assert max(map(len, text)) <= 30
    assert grid(head, rows, align, 12)[-4:] == ["name  spare", "-----------", "one   xx", "two   yy"]


def test_tensors_stand_in_the_order_of_layers():
    rows = [t for t in llmcalc.model("llama-3.1-8b").tensors if t.layer is not None]
    from llmcalc.cli.tensors import in_order

    stored = llmcalc.params("llama-3.1-8b", quant="q4_k_m").inventory.tensors
    assert [t.layer for t in stored if t.layer is not None] != sorted(t.layer for t in rows)
    layers = [t.layer for t in in_order(stored) if t.layer is not None]
    assert layers == sorted(layers)
    assert in_order(stored)[0].layer is None
    assert in_order(stored)[-1].layer is None


def test_long_messages_break_where_a_person_reads_them(capsys, monkeypatch):
    arguments = ["vram", "llama-3.1-8b", "--quant", "fp8-static+nvfp4"]
    assert width(output(capsys, arguments, 2).err) > 80  # a pipe: lines stay whole
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    error = output(capsys, arguments, 2).err
    assert width(error) <= 80
    assert "Give its config.json without --quant" in error


def test_names_that_mean_two_things(capsys):
    for name in ("int8", "fp8", "nvfp4", "mxfp4", "q8_0"):
        text = output(capsys, ["formats", "show", name]).out
        assert "bits_per_element" in text
        assert "method" in text
        data = json.loads(output(capsys, ["formats", "show", name, "--json"]).out)
        assert "method" in data["entry"]
        assert "elements" in data["more"][0]["entry"]
    assert "method" not in output(capsys, ["formats", "show", "int8", "--use", "kv"]).out
    assert "elements" not in output(capsys, ["formats", "show", "int8", "--use", "quant"]).out
    assert "for --dtype" in output(capsys, ["formats", "show", "nf4", "--use", "dtype"], 2).err
    assert output(capsys, ["formats", "show", "nf4", "--use", "art"], 2).err


def test_a_mix_shows_both_parts(capsys):
    text = output(capsys, ["formats", "show", "fp8-block + mxfp4 experts"]).out
    assert "weight_scale_inv fp32" in text
    assert "_blocks fp4" in text


def test_scales_of_heads_count_in_the_bits_of_a_cache(capsys):
    rows = json.loads(output(capsys, ["formats", "--use", "kv", "--json"]).out)["rows"]
    bits = {row["name"]: row["bits"] for row in rows}
    assert (bits["int8-token-head"], bits["int4-token-head"], bits["q8_0"]) == ("8.250", "4.250", "8.500")
    assert "a head of 128" in output(capsys, ["formats", "--help"]).out


def test_llm_int8_needs_turing():
    """Its integer products do; NF4's kernels run from Pascal on (bitsandbytes' documentation)."""
    book = Catalog.shipped()
    assert book.lookup("schemes", "int8")["hardware"].startswith("CUDA 7.5")
    assert book.lookup("schemes", "nf4")["hardware"].startswith("CUDA 6.0")


def test_scales_are_explained_one_by_one(capsys):
    weights = llmcalc.vram("llama-3.1-8b", quant="awq")["weights"]
    (scales,) = [part for part in weights.items if part.name == "scales"]
    linear = 6_979_321_856
    assert {part.name: part.bytes for part in scales.items} == {
        "qzeros (int32)": linear // 128 // 2, "scales (fp16)": linear // 128 * 2,
    }  # fmt: skip
    assert sum(part.bytes for part in scales.items) == scales.bytes
    text = output(capsys, ["vram", "llama-3.1-8b", "--quant", "nf4-dq", "--explain"]).out
    assert "parameters = 109,051,904  (the scheme's layout of the model's matrices)" in text
    assert "bits = 4  (the scheme nf4-dq)" in text
    assert "bits = 16  (the checkpoint's dtype)" in text
    assert "validity: Exact for plain dtypes, and for packed elements" in text
    assert "QLoRA: Efficient Finetuning of Quantized LLMs, 2023; arXiv:2305.14314" in text
    two = llmcalc.vram("llama-3.1-8b", quant="nf4-dq", pp=2)["weights"]
    assert sum(part.bytes_at_peak for part in two.items) == two.bytes_at_peak
    for part in two.items:
        assert sum(one.bytes_at_peak for one in part.items) in (0, part.bytes_at_peak)
