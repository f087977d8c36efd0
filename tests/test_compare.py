"""Models, formats, engines and GPUs in one table; what can't be is a row of dashes."""

import csv
import io
import itertools
import json
import subprocess
import sys

import pytest

import llmcalc
from llmcalc.errors import LlmcalcError

KINDS = ("text", "markdown", "json", "csv", "latex", "html")


def run(*words):
    done = subprocess.run([sys.executable, "-m", "llmcalc", *words], capture_output=True, text=True)
    assert "Traceback" not in done.stderr
    return done


def test_every_row_is_the_single_estimate():
    asked = {"quant": ["none", "fp8"], "engine": ["none", "vllm"], "gpu": ["h100", "2xa100-80gb"]}
    models = ["llama-3.1-8b", "qwen3-14b"]
    found = llmcalc.compare(models, context=16_384, **asked)
    cells = list(itertools.product(models, *asked.values()))
    assert len(found) == len(cells) == 16
    for report, (model, quant, engine, gpu) in zip(found, cells, strict=True):
        own = llmcalc.vram(model, quant=quant, engine=engine, gpu=gpu, context=16_384)
        assert report.total_bytes == own.total_bytes
        assert report.verdict == own.verdict
        assert report.minimum_bytes == own.minimum_bytes <= own.total_bytes


def test_commas_are_lists():
    one = llmcalc.compare("llama-3.1-8b", quant="q4_k_m, awq", gpu="h100,l4")
    other = llmcalc.compare(["llama-3.1-8b"], quant=["q4_k_m", "awq"], gpu=["h100", "l4"])
    assert [r.total_bytes for r in one] == [r.total_bytes for r in other]


def test_what_an_engine_refuses_is_a_dash_with_its_reason():
    words = ["compare", "llama-3.1-8b", "--quant", "q4_k_m,awq", "--engine", "none,llama.cpp"]
    for kind in KINDS:
        done = run(*words, "--format", kind)
        assert done.returncode == 0
        assert "GGUF" in done.stdout
    (row,) = [line.split() for line in run(*words).stdout.splitlines() if line.startswith("  awq     llama")]
    assert row == ["awq", "llama.cpp", *["-"] * 4]
    data = json.loads(run(*words, "--json").stdout)
    assert len(data["rows"]) == 3
    (refused,) = data["refused"]
    assert (refused["quant"], refused["engine"]) == ("awq", "llama.cpp")
    rows = list(csv.DictReader(io.StringIO(run(*words, "--format", "csv", "--units", "bytes").stdout)))
    assert {row["engine"] for row in rows} == {"none", "llama.cpp"}
    assert [row["note"] for row in rows if row["item"] == "refused"] == [refused["reason"]]
    totals = {row["quant"] + row["engine"]: int(row["peak_bytes"]) for row in rows if row["item"] == "total"}
    own = llmcalc.vram("llama-3.1-8b", quant="awq")
    assert totals["awqnone"] == own.total_bytes


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["llama-3.1-8b"], "nothing to compare"),
        ([], "nothing to compare"),
        (["llama-3.1-8b", "--quant", "q4_k_m,,awq"], "empty name"),
        (["llama-3.1-8b", "--engine", "none,vllm", "--ctx", "-3"], "--context"),
        (["llama-3.1-8b", "--engine", "mlx", "--quant", "awq,fp8"], "does not run"),
        (["gpt2", "--quant", "q4_k_m,q5_k_m,q6_k,q8_0,awq,gptq,fp8,nf4,q2_k,q3_k_m,mxfp4", "--gpu",
          "h100,a100-80gb,l4,t4,rtx-4090,rtx-3090"], "66 rows"),
    ],
)  # fmt: skip
def test_bad_input(words, told):
    done = run("compare", *words)
    assert done.returncode == 2
    assert told in done.stderr
    assert done.stdout == ""


def test_all_refused_is_an_error_and_one_left_is_rows():
    with pytest.raises(LlmcalcError):
        llmcalc.compare(["nosuch-1", "nosuch-2"])
    found = llmcalc.compare(["nosuch-1", "gpt2"])
    assert len(found) == 1
    assert len(found.to_dict()["rows"]) == 1
    assert found.to_dict()["refused"][0]["model"] == "nosuch-1"


def test_an_option_of_one_engine_is_no_mistake_for_the_others():
    found = llmcalc.compare("llama-3.1-8b", engine="none,vllm", max_num_seqs=32, gpu="l4")
    assert found[1].scenario["max_num_seqs"] == 32
    with pytest.raises(LlmcalcError):
        llmcalc.compare("llama-3.1-8b", engine="none,mlx", max_num_seqs=32)


def test_eighty_columns_and_a_context_where_it_differs():
    done = run("compare", "llama-3.1-8b", "gemma-3-27b", "--quant", "q4_k_m,awq", "--engine",
               "none,vllm,llama.cpp,ollama", "--gpu", "h100,2xrtx-4090")  # fmt: skip
    assert done.returncode == 0
    assert all(len(line) <= 80 for line in done.stdout.splitlines())
    assert "context" in done.stdout.splitlines()[1] or "context" in done.stdout
    assert "minimum" in done.stdout


def test_the_command_is_repeatable():
    found = llmcalc.compare(["gpt2"], quant=["q8_0", "q4_k_m"])
    assert found[0].call.shell() == "llmcalc compare gpt2 --quant q8_0,q4_k_m"
    assert found[0].call.python() == "llmcalc.compare(['gpt2'], quant=['q8_0', 'q4_k_m'])"


def test_check_counts_the_rows_that_are_there():
    words = ["compare", "llama-3.1-8b", "--engine", "none,vllm", "--check", "--gpu"]
    assert run(*words, "h100").returncode == 0
    assert run(*words, "rtx-3060").returncode == 1
