"""Every format of every command says the same numbers."""

import csv
import io
import json
import re

import numpy as np
import pytest

import llmcalc
from llmcalc.cli import run
from llmcalc.units import GIB

CALLS = [
    ["vram", "--params", "13b", "--bits", "4"],
    ["vram", "llama-3.1-8b", "--ctx", "32k", "--gpu", "rtx-4090"],
    ["vram", "gemma-3-27b", "--ctx", "128k", "--pp", "4", "--tp", "2"],
    ["vram", "qwen3-next-80b", "--ctx", "128k", "--sequences", "3", "--gpu", "8xh100"],
    ["vram", "mamba2-1.3b"],
    ["params", "gpt-3"],
    ["params", "mixtral-8x7b"],
]


def output(capsys, arguments):
    assert run(arguments) == 0
    return capsys.readouterr().out


def numbers(text):
    return [float(word.replace(",", "")) for word in re.findall(r"(?<![\w.])[\d,]+\.\d+", text)]


@pytest.mark.parametrize("arguments", CALLS, ids=" ".join)
def test_items_add_up_in_every_format(capsys, arguments):
    data = json.loads(output(capsys, [*arguments, "--json"]))
    device = [item for item in data["items"] if item["where"] == "device"]
    total = data["total_bytes"]
    assert sum(item["bytes_at_peak"] for item in device) == total
    for item in data["items"]:
        if item["items"]:
            assert sum(part["bytes_at_peak"] for part in item["items"]) == item["bytes_at_peak"]
            assert sum(part["bytes"] for part in item["items"]) >= item["bytes"]
    low, high = data["range_bytes"]
    assert low <= total <= high

    rows = list(
        csv.DictReader(io.StringIO(output(capsys, [*arguments, "--format", "csv", "--units", "bytes"])))
    )
    assert sum(int(row["peak_bytes"]) for row in rows if row["item"] != "total") == total
    assert int(rows[-1]["peak_bytes"]) == total

    for kind in ("text", "markdown", "latex", "html"):
        text = output(capsys, [*arguments, "--format", kind, "--units", "bytes"])
        assert f"{total:,}" in text
        for item in device:
            if item["bytes_at_peak"]:
                assert f"{item['bytes_at_peak']:,}" in text
        gib = output(capsys, [*arguments, "--format", kind])
        assert f"{total / GIB:,.2f}" in gib
        assert "GiB" in gib


@pytest.mark.parametrize("kind", ["markdown", "latex", "html"])
def test_tables_end_with_how_to_make_them_again(capsys, kind):
    text = output(capsys, ["vram", "llama-3.1-8b", "--ctx", "32k", "--gpu", "h100", "--format", kind])
    last = text.rstrip().splitlines()[-1]
    for part in ("llmcalc vram llama-3.1-8b", "32k", "h100", llmcalc.__version__, "2026", "assumed"):
        assert part in last


def test_the_command_of_a_table_makes_it_again(capsys):
    arguments = ["vram", "llama-3.1-8b", "--ctx", "32k", "-ctk", "q8_0", "--gpu", "2xh100", "--json"]
    first = json.loads(output(capsys, arguments))
    words = first["llmcalc"]["call"].split()[1:]
    assert json.loads(output(capsys, [*words, "--json"])) == first


def test_python_prints_the_call(capsys):
    text = output(capsys, ["vram", "llama-3.1-8b", "--ctx", "32k", "--gpu", "rtx-4090", "--python"])
    report = eval(text.splitlines()[-1], {"llmcalc": llmcalc})
    assert report.total_bytes == llmcalc.vram("llama-3.1-8b", context="32k").total_bytes


def test_several_gpus_are_one_table(capsys):
    arguments = ["vram", "llama-3.1-70b", "--ctx", "32k", "--gpu", "4xh100,8xa100-40gb,rtx-4090"]
    data = json.loads(output(capsys, [*arguments, "--json"]))
    assert [row["verdict"] for row in data["rows"]] == ["fits", "fits", "does_not_fit"]
    for kind in ("text", "markdown", "html", "latex"):
        text = output(capsys, [*arguments, "--format", kind])
        for name in ("4 x H100 SXM", "8 x A100 40GB SXM", "RTX 4090", "DOES NOT FIT"):
            assert name in text
    assert len(llmcalc.vram("llama-3.1-70b", gpu="4xh100,h200").to_frame()) == 2


def test_text_stays_within_80_columns(capsys):
    for arguments in [*CALLS, ["vram", "kimi-k2", "--gpu", "8xh200,8xb200", "--ctx", "128k"]]:
        for line in output(capsys, arguments).splitlines():
            assert len(line) <= 80, line


def test_arrays_become_lists():
    contexts = np.array([4096, 8192])
    data = llmcalc.vram("llama-3.1-8b", context=contexts, gpu="rtx-4090").to_dict()
    json.dumps(data)
    assert data["total_bytes"] == [llmcalc.vram("llama-3.1-8b", context=int(c)).total_bytes for c in contexts]
    assert data["verdict"] == ["fits", "fits"]
    assert data["items"][0]["bytes"] == 16_060_522_496
    assert len(data["items"][1]["bytes"]) == 2


def test_frames():
    frame = llmcalc.vram("llama-3.1-8b").to_frame()
    assert frame.loc["weights", "bytes"] == 16_060_522_496
    swept = llmcalc.vram("llama-3.1-8b", context=np.array([4096, 8192])).to_frame()
    assert list(swept["context"]) == [4096, 8192]
    assert (swept[["weights", "kv_cache", "runtime"]].sum(axis=1) == swept["total_bytes"]).all()


def test_notebook_representation():
    html = llmcalc.vram("llama-3.1-8b", gpu="h100")._repr_html_()
    assert "<table>" in html
    assert "KV cache" in html


@pytest.mark.parametrize("kind", ["png", "svg"])
def test_plots(tmp_path, kind):
    file = tmp_path / f"memory.{kind}"
    llmcalc.vram("llama-3.1-8b", gpu="rtx-4090,h100").plot(str(file))
    assert file.stat().st_size > 5000
    llmcalc.vram("gemma-3-27b", context=np.array([1024, 65_536, 131_072]), gpu="h100").plot(str(file))
    assert file.stat().st_size > 5000


@pytest.mark.parametrize("command", ["models", "gpus"])
def test_lists(capsys, command):
    rows = json.loads(output(capsys, [command, "--json"]))["rows"]
    assert len(rows) > 150
    for kind in ("text", "markdown", "csv", "html", "latex"):
        assert rows[0]["name"] in output(capsys, [command, "--format", kind])
    assert len(json.loads(output(capsys, [command, "list", "--json"]))["rows"]) == len(rows)


def test_filters(capsys):
    small = json.loads(output(capsys, ["models", "--family", "qwen3", "--max-params", "5b", "--json"]))[
        "rows"
    ]
    assert small
    assert all(row["params"] <= 5e9 and row["family"] == "qwen3" for row in small)
    big = json.loads(output(capsys, ["gpus", "--vendor", "amd", "--min-memory", "100GiB", "--json"]))["rows"]
    assert "MI300X" in [row["name"] for row in big]
    found = json.loads(output(capsys, ["models", "--search", "GPT-3", "--json"]))["rows"]
    assert [row["name"] for row in found] == ["gpt-3"]


def test_show(capsys):
    gpu = json.loads(output(capsys, ["gpus", "show", "h100", "--json"]))
    assert gpu["memory_bytes"] == 81559 * 2**20
    assert gpu["sources"]
    model = json.loads(output(capsys, ["models", "show", "gemma-3-27b", "--json"]))
    assert model["params"] == 27_432_406_640
    assert "window" in output(capsys, ["models", "show", "gemma-3-27b"])


def test_explain_command(capsys):
    assert "kv_cache_bytes" in output(capsys, ["explain"])
    text = output(capsys, ["explain", "kv_cache_bytes"])
    assert "= 2 * layers * kv_heads * head_dim" in text
    assert "Ainslie" in text


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(capsys, shell):
    assert "_LLMCALC_COMPLETE" in output(capsys, ["completion", shell])


def test_compare(capsys):
    arguments = ["compare", "llama-3.1-8b", "qwen3-next-80b", "--ctx", "8k"]
    rows = json.loads(output(capsys, [*arguments, "--json"]))["rows"]
    assert [row["model"]["name"] for row in rows] == ["llama-3.1-8b", "qwen3-next-80b-a3b-instruct"]
    for row, name in zip(rows, arguments[1:3], strict=True):
        assert row["total_bytes"] == llmcalc.vram(name, context=8192).total_bytes
    for kind in ("text", "markdown", "html", "latex", "csv"):
        text = output(capsys, [*arguments, "--format", kind])
        assert "llama-3.1-8b" in text
        assert "qwen3-next-80b" in text
    assert run([*arguments, "--gpu", "h100", "--check"]) == 1
    assert len(llmcalc.compare(["gpt2", "gpt2-xl"]).to_frame()) == 2


def test_params_by_layer_and_tag(capsys):
    data = json.loads(output(capsys, ["params", "gpt2", "--by", "layer", "--json"]))
    counts = {item["name"]: item["inputs"]["parameters"] for item in data["items"]}
    assert counts["layer 0"] == counts["layer 11"] == 7_087_872
    assert sum(counts.values()) == 124_439_808
    tags = json.loads(output(capsys, ["params", "deepseek-r1", "--by", "tag", "--json"]))
    counts = {item["name"]: item["inputs"]["parameters"] for item in tags["items"]}
    assert sum(counts.values()) == 684_489_845_504 + 41_540_496
    assert counts["scale"] == 41_540_496  # fp32, for blocks of 128 x 128


def test_the_list_of_tensors(capsys):
    rows = json.loads(output(capsys, ["params", "gpt2", "--tensors", "--json"]))["rows"]
    assert len(rows) == 148
    assert rows[0]["shape"] == "50257 x 768"
    assert "blk.11.ffn_down.weight" in output(capsys, ["params", "gpt2", "--tensors", "--format", "csv"])
    text = output(capsys, ["params", "gpt2", "--tensors"])  # 80 columns have room for one of the names
    assert "transformer.h.11.mlp.c_proj.weight" in text
    assert max(map(len, text.splitlines())) <= 80
    text = output(capsys, ["params", "gpt2", "--quant", "q4_0", "--tensors"])
    assert "blk.11.ffn_down.weight" in text
    assert max(map(len, text.splitlines())) <= 80
