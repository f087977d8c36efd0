"""Starts of servers: predictions beside what their logs print, and how errors are told."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

import llmcalc
from llmcalc.api.validation import validate
from llmcalc.catalog import Catalog
from llmcalc.errors import LlmcalcError
from llmcalc.validation.servers import (
    QUANTITIES,
    ServerRow,
    ServerSummary,
    compare_start,
    group_of,
    summarise_starts,
)

RUNS = [run for run in Catalog.shipped().entries("measurements") if run["engine"] == "vllm"]


@pytest.fixture(scope="module")
def published():
    return validate(engine="vllm")


def cli(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "llmcalc", "validate", *arguments], capture_output=True, text=True, check=False
    )


# -- published starts: errors may shrink, and never grow ------------------------------------------

RATCHET = {
    # quantity: figures at least, median, 90th percentile, share that is close
    "kv_bytes_per_token": (91, 0.0001, 0.001, 1.0),
    "kv_needed": (17, 0.0005, 0.002, 0.94),
    "kv_tokens": (14, 0.0, 0.0062, 0.92),
    "concurrency": (88, 0.0, 0.001, 0.98),
    "longest": (16, 0.0001, 0.003, 1.0),
    "weights": (100, 0.0003, 0.0133, 0.88),
    "activations": (49, 0.004, 0.036, 0.95),
    "cuda_graphs": (51, 0.091, 0.5, 0.68),
    "non_torch": (49, 0.01, 0.46, 0.85),
    "kv_budget": (49, 0.0006, 0.0061, 0.97),
}


def test_every_quantity_has_a_bound():
    assert set(RATCHET) == set(QUANTITIES)


@pytest.mark.parametrize("quantity", RATCHET)
def test_errors_do_not_grow(published, quantity):
    figures, median, p90, close = RATCHET[quantity]
    one = next(s for s in published.server_summaries if s.quantity == quantity)
    assert one.rows >= figures
    assert one.refused == 0
    assert one.median <= median
    assert one.p90 <= p90
    assert one.close / one.rows >= close


def test_what_pages_need_is_within_half_a_percent(published):
    """Bytes per token and the need of a length, refusals counted as misses: 97 % of the rows."""
    rows = [r for r in published.starts if r.quantity in ("kv_bytes_per_token", "kv_needed")]
    assert sum(r.error is not None and abs(r.error) <= 0.005 for r in rows) / len(rows) >= 0.97


@pytest.mark.parametrize(("quantity", "median", "p90"), [("weights", 0.01, 0.04), ("kv_budget", 0.015, 0.05)])
def test_the_bounds_that_were_asked_for(published, quantity, median, p90):
    one = next(s for s in published.server_summaries if s.quantity == quantity)
    assert one.median <= median
    assert one.p90 <= p90


COVERED = {
    # quantity: share in range, at most so many times the median error is the median width
    "weights": (0.92, 3.4),
    "activations": (0.89, 1.0),
    "cuda_graphs": (0.92, 5.6),
    "kv_budget": (0.91, 2.1),
}


@pytest.mark.parametrize("quantity", COVERED)
def test_ranges_hold_what_they_should(published, quantity):
    share, times = COVERED[quantity]
    one = next(s for s in published.server_summaries if s.quantity == quantity)
    assert share <= one.covered <= 0.95
    assert one.width <= times * one.median


def test_the_ranges_are_those_of_the_residuals(capsys):
    """Whoever changes a formula or adds a log computes them anew: python benchmarks/vllm_ranges.py."""
    path = Path(__file__).parents[1] / "benchmarks" / "vllm_ranges.py"
    if not path.exists():
        pytest.skip("not a source checkout")
    spec = importlib.util.spec_from_file_location("vllm_ranges", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.main(["--check"]) == 0, capsys.readouterr().out


def test_hybrids_to_the_printed_digit(published):
    """Tokens and concurrency of a hybrid's pool of the printed size."""
    hybrids = ("qwen3.5", "qwen3.6", "qwen3-next", "nemotron", "granite-4")
    rows = [
        r for r in published.starts
        if r.quantity in ("kv_tokens", "concurrency") and r.run["model"].startswith(hybrids)
        and "pool" in r.run["measured"]
    ]  # fmt: skip
    assert len(rows) >= 21
    assert all(row.inside for row in rows)


# -- the data -------------------------------------------------------------------------------------


def test_every_start_names_a_source_that_others_can_find():
    for run in RUNS:
        assert run["source"].startswith("https://") or "public GitHub repository" in run["source"]
        assert set(run["measured"]) - {"pool", "blocks"}
        if "kv_budget" in run["measured"]:
            assert run["memory"]


def test_what_was_inferred_is_said():
    for run in RUNS:
        if run["options"].get("enable_prefix_caching"):
            assert "not printed" in run["note"]
        if run["build"] == "not printed" and "engine_version" in run["options"]:
            assert run["options"]["engine_version"].count(".") == 1  # a release by date has no patch number


# -- the arithmetic -------------------------------------------------------------------------------


def start(measured, **more):
    return {
        "name": "x", "engine": "vllm", "program": "vLLM", "build": "0.19.0", "model": "llama-3.1-8b",
        "source": "s", "options": {"context": 8192, "engine_version": "0.19"}, "measured": measured, **more,
    }  # fmt: skip


def test_errors_of_a_budget_are_a_share_of_the_gpu():
    row = ServerRow(start({"kv_budget": 10.0}, memory=80.0), "kv_budget", 12.0, 9.0, 13.0)
    assert row.error == pytest.approx(2 / 80)
    assert row.inside
    assert not row.is_close


def test_a_refusal_is_a_miss():
    rows = compare_start(start({"weights": 15.0, "kv_needed": 1.0}, model="no-such-model"), llmcalc.vram)
    assert [row.error for row in rows] == [None, None]
    assert "no-such-model" in rows[0].refusal
    one = ServerSummary("vllm", "weights", [rows[1]])
    assert (one.rows, one.refused, one.close, one.covered) == (1, 1, 0, 0.0)


def test_a_wrong_figure_is_told():
    """Twice the bytes per token, a tenth of the weights: nothing hides that."""
    rows = compare_start(
        start({"kv_bytes_per_token": 262144.0, "weights": 150.0}, memory=79.19), llmcalc.vram
    )
    assert [round(row.error, 2) for row in rows] == [-0.5, -0.9]
    assert not any(row.is_close or row.inside for row in rows)


def test_tokens_of_a_pool_are_those_of_its_printed_size():
    run = start({"pool": 10.0, "kv_tokens": 81920.0, "concurrency": 10.0}, memory=79.19)
    assert [row.predicted for row in compare_start(run, llmcalc.vram)] == [81920, 10]


def test_the_last_digit_of_a_pool_is_allowed_for():
    run = start({"pool": 10.0, "kv_tokens": 81904.0}, memory=79.19)
    (row,) = compare_start(run, llmcalc.vram)
    assert row.low < 81904 < row.high
    assert row.is_close


def test_groups():
    run = start({"weights": 15.0})
    assert group_of(run, "version") == "vllm 0.15 to 0.20"
    assert group_of(run | {"options": {}}, "version") == "vllm newest"
    assert group_of(run | {"source": "https://github.com/a/b/issues/3"}, "source") == "a/b"
    assert group_of(run, "source") == "other public logs"


def test_all_ways_hold_all_rows(published):
    for by in ("engine", "version", "source"):
        assert sum(one.rows for one in summarise_starts(published.starts, by)) == len(published.starts)


# -- the command ----------------------------------------------------------------------------------


def test_the_table_by_release():
    done = cli("--engine", "vllm", "--by", "version")
    assert done.returncode == 0, done.stderr
    assert "vllm until 0.7" in done.stdout
    assert "recurrent state" not in done.stdout


def test_formats():
    told = json.loads(cli("--engine", "vllm", "--json").stdout)
    assert told["rows"] == []
    assert {one["quantity"] for one in told["servers"]["summary"]} == set(QUANTITIES)
    table = cli("--engine", "vllm", "--format", "csv").stdout
    assert table.splitlines()[0].startswith("name,engine,program")
    page = cli("--engine", "vllm", "--format", "markdown", "--rows").stdout
    assert page.startswith("| engine | quantity |")
    assert "| run | build | model |" in page


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["--engine", "tgi"], "has no runs"), (["--by", "colour"], "engine, version or source")],
)
def test_bad_input(arguments, words):
    done = cli(*arguments)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_one_call_tells_all():
    with pytest.raises(LlmcalcError, match="no runs"):
        validate(engine="nothing")
