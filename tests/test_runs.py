"""The measured run that is nearest to an estimate: which one is taken, and that the table is fresh."""

import json
import subprocess
import sys
import time

import pytest

import llmcalc
from llmcalc.catalog import Catalog
from llmcalc.runs import FIELDS

BOOK = Catalog.shipped()


def test_every_row_names_its_run_and_source():
    runs = {run["name"]: run for run in BOOK.entries("measurements")}
    for entry in BOOK.entries("runs"):
        for row in entry["rows"]:
            told = dict(zip(FIELDS, row, strict=True))
            assert told["source"] == runs[told["run"]]["source"]
            assert told["model"] == runs[told["run"]]["model"]


def test_the_table_is_what_the_program_predicts():
    """A sample; docs/generate.py --check compares all."""
    from llmcalc.validation.servers import compare_start

    runs = {run["name"]: run for run in BOOK.entries("measurements")}
    row = dict(zip(FIELDS, BOOK.lookup("runs", "vllm Qwen2.5-7B-Instruct")["rows"][0], strict=True))
    found = {one.quantity: one for one in compare_start(runs[row["run"]], llmcalc.vram)}
    assert row["predicted"] == pytest.approx(found["kv_budget"].predicted, abs=1e-3)


def test_the_same_model_first_then_its_family():
    own = llmcalc.vram("qwen2.5-7b-instruct", engine="vllm", tp=4).nearest
    assert (own["is_same_model"], own["tp"], own["model"]) == (True, 4, "qwen2.5-7b-instruct")
    alike = llmcalc.vram("qwen2.5-coder-7b-instruct", engine="vllm").nearest
    assert (alike["is_same_model"], alike["model"]) == (False, "qwen2.5-7b-instruct")


def test_a_scheme_goes_before_ranks():
    found = llmcalc.vram("llama-3.1-8b-instruct", engine="vllm", quant="w8a8", tp=2).nearest
    assert found["quant"] == "w8a8"


@pytest.mark.parametrize("asked", [{"model": "llama-3.1-8b"}, {"model": "qwen3-235b-a22b", "engine": "vllm"}])
def test_none_where_none_is_near(asked):
    assert llmcalc.vram(**asked).nearest is None


def test_other_engines_have_theirs():
    assert llmcalc.vram("qwen3-8b", engine="mlx", quant="mlx-4bit").nearest["quantity"] == "peak"
    assert llmcalc.vram("llama-2-7b-hf", engine="llama.cpp").nearest["run"].startswith("llog")


def test_terminal_and_json():
    words = [
        sys.executable,
        "-m",
        "llmcalc",
        "vram",
        "qwen2.5-7b-instruct",
        "--engine",
        "vllm",
        "--gpu",
        "h100",
    ]
    shown = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    assert "nearest run      KV budget" in shown
    assert "github.com/llm-d-incubation/llm-d-planner" in shown
    assert max(map(len, shown[shown.index("nearest run") :].splitlines())) <= 80
    told = json.loads(subprocess.run([*words, "--json"], capture_output=True, text=True, check=True).stdout)
    assert told["nearest"]["source"].startswith("https://github.com/")


def test_a_look_is_cheap():
    report = llmcalc.vram("qwen2.5-7b-instruct", engine="vllm")
    assert report.nearest
    start = time.process_time()
    for _ in range(50):
        assert report.nearest
    assert (time.process_time() - start) / 50 < 0.005
