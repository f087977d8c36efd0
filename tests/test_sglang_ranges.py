"""SGLang's ranges: those of the residuals, what they cover, and their widths."""

import importlib.util
import sys
from pathlib import Path

import pytest

import llmcalc
from llmcalc.catalog import Catalog
from llmcalc.validation.servers import compare_start, summarise_starts

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def summaries():
    runs = [run for run in Catalog.shipped().entries("measurements") if run["engine"] == "sglang"]
    rows = [row for run in runs for row in compare_start(run, llmcalc.vram)]
    return {one.quantity: one for one in summarise_starts(rows)}


@pytest.mark.parametrize("quantity", ["weights", "kv_budget"])
def test_coverage_and_width(summaries, quantity):
    one = summaries[quantity]
    assert 0.85 <= one.covered <= 0.95
    assert one.width <= 3 * one.median


def test_the_ranges_are_those_of_the_residuals(capsys, monkeypatch):
    """Whoever changes a formula or adds a log computes them anew: python benchmarks/sglang_ranges.py."""
    path = BENCHMARKS / "sglang_ranges.py"
    if not path.exists():
        pytest.skip("not a source checkout")
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    spec = importlib.util.spec_from_file_location("sglang_ranges", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.main(["--check"]) == 0, capsys.readouterr().out
    sys.modules.pop("vllm_ranges", None)


def test_few_logs_are_assumed():
    def grade(version):
        return llmcalc.vram("llama-3-8b", engine="sglang", engine_version=version)["weights"].grade

    assert grade("0.1.17") == "assumed"
    assert grade("0.4.6") == "calibrated"
    items = {item.name: item.grade for item in llmcalc.vram("llama-3-8b", engine="tensorrt-llm")}
    assert {items[name] for name in ("weights", "activations", "cuda_graphs", "runtime")} == {"assumed"}
