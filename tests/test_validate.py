"""Predictions beside measurements: the published runs, a user's own log, and what can't be compared."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import llmcalc
from llmcalc.api.validation import validate
from llmcalc.catalog import Catalog
from llmcalc.errors import LlmcalcError
from llmcalc.validation.measured import QUANTITIES, Row, Summary, quantile

LOGS = Path(__file__).parent / "data" / "logs"


def cli(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "llmcalc", "validate", *arguments], capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def published():
    return validate()


# -- published runs: errors may shrink, and never grow -------------------------------------------

RATCHET = {
    # builds, quantity: figures at least, median, 90th percentile, not exact at most
    ("2026", "weights"): (1, 0.001, 0.001, 0),
    ("2026", "kv_cache"): (5, 0.0, 0.0, 0),
    ("2026", "state"): (5, 0.0001, 0.0001, 0),
    ("2026", "activations"): (3, 0.0001, 0.21, 1),
    ("2026", "host_activations"): (2, 0.001, 0.001, 0),
    ("2025", "weights"): (2, 0.001, 0.001, 0),
    ("2025", "kv_cache"): (14, 0.0, 0.0001, 0),
    ("2025", "activations"): (3, 0.0001, 0.12, 1),
    ("2025", "host_activations"): (8, 0.001, 0.22, 1),
    ("2024", "weights"): (5, 0.001, 0.001, 0),
    ("2024", "kv_cache"): (7, 0.0, 0.0, 0),
    ("2024", "activations"): (7, 0.0001, 0.036, 1),
    ("2024", "host_activations"): (6, 0.001, 0.0011, 1),
    ("2023", "weights"): (13, 0.001, 0.001, 0),
    ("2023", "kv_cache"): (36, 0.0, 0.0, 0),
    ("ik", "weights"): (1, 0.001, 0.001, 0),
    ("ik", "kv_cache"): (58, 0.0, 0.0001, 1),
    ("mlx", "peak"): (32, 0.004, 0.015, 26),
}


def test_every_quantity_of_every_year_has_a_bound(published):
    assert {(one.era, one.quantity) for one in published.summaries} == set(RATCHET)


@pytest.mark.parametrize(("era", "quantity"), RATCHET, ids="-".join)
def test_errors_do_not_grow(published, era, quantity):
    figures, median, p90, inexact = RATCHET[era, quantity]
    one = next(s for s in published.summaries if (s.era, s.quantity) == (era, quantity))
    assert one.rows >= figures
    assert one.refused == 0
    assert one.median <= median + 5e-6  # half of the last printed digit
    assert one.p90 <= p90 + 5e-6
    assert one.rows - one.exact <= inexact


def test_compute_buffers_of_2024_to_2026(published):
    rows = [
        r for r in published.rows if r.quantity == "activations" and r.run["era"] in ("2024", "2025", "2026")
    ]
    errors = [abs(row.error) for row in rows]
    assert quantile(errors, 0.5) <= 0.0001
    assert quantile(errors, 0.75) <= 0.02


def test_ranges_hold(published):
    """The range of GPU buffers is the 5th to 95th percentile of these residuals."""
    rows = [r for r in published.rows if r.quantity == "activations"]
    assert sum(row.inside for row in rows) / len(rows) >= 0.8
    assert all((row.high - row.low) / row.predicted <= 0.2501 for row in rows)


def test_every_run_names_its_source():
    for run in Catalog.shipped().entries("measurements"):
        assert run["source"]
        if run["engine"] in ("llama.cpp", "mlx"):
            assert set(run["measured"]) <= {*QUANTITIES, "scratch"}


# -- the arithmetic -----------------------------------------------------------------------------


def row(measured, predicted, low=None, high=None, refusal=""):
    run = {"name": "x", "era": "2026", "model": "m", "program": "p", "build": "b", "source": "s"}
    return Row(run, "kv_cache", measured, predicted, low or predicted, high or predicted, refusal)


def test_errors_are_relative_to_what_was_measured():
    assert row(100.0, 110.0).error == pytest.approx(0.1)
    assert row(0.0, 0.0).error == 0
    assert row(0.0, 5.0).error == 1


def test_a_refusal_is_a_miss():
    refused = row(100.0, 0.0, refusal="no such model")
    one = Summary("2026", "kv_cache", [row(100.0, 100.0), refused])
    assert (one.rows, one.refused, one.exact, one.covered) == (2, 1, 1, 0.5)
    assert refused.to_dict()["predicted_mib"] is None


def test_a_range_covers_what_lies_in_it():
    one = Summary("2026", "kv_cache", [row(100.0, 90.0, 80.0, 101.0), row(100.0, 90.0, 80.0, 95.0)])
    assert one.covered == 0.5
    assert one.width == pytest.approx((21 / 90 + 15 / 90) / 2)


def test_a_model_that_is_not_known_is_told(tmp_path):
    from llmcalc.validation.measured import compare_run

    run = {
        "name": "x", "era": "2026", "model": "no-such-model", "engine": "llama.cpp", "options": {}, "gpus": 1,
        "measured": {"kv_cache": 100.0},
    }  # fmt: skip
    (one,) = compare_run(run, llmcalc.vram)
    assert "no-such-model" in one.refusal


# -- a user's own log ---------------------------------------------------------------------------


def errors_of(found):
    return {(row.kind, row.device): row.error for row in found.rows}


def test_two_gpus_of_2024_to_the_digit():
    found = validate("llama-3-8b", log=LOGS / "2024-05-cuda-two-gpus.log")
    assert len(found.rows) == 9
    for row in found.rows:
        assert row.predicted == pytest.approx(row.printed, abs=0.0051), row.kind


def test_a_mac_of_2024_to_the_digit():
    for row in validate(log=LOGS / "2024-05-metal.log").rows:
        assert row.predicted == pytest.approx(row.printed, abs=0.011), row.kind


def test_a_window_on_the_cpu_in_2026_to_the_digit():
    for row in validate(log=LOGS / "2026-09-cpu-window.log").rows:
        assert row.predicted == pytest.approx(row.printed, abs=0.0051), row.kind


def test_latents_were_cached_twice_in_2025():
    found = validate("deepseek-v3-0324", log=LOGS / "2025-05-cuda-experts-on-cpu.log")
    caches = [(row.printed, row.predicted) for row in found.rows if row.kind == "kv_cache"]
    assert caches == [(510.0, 510.0), (408.0, 408.0), (408.0, 408.0), (748.0, 748.0)]


def test_layers_came_before_the_output_and_cells_in_steps_of_32_in_2025():
    found = validate(log=LOGS / "2025-08-vulkan-window.log", n_cpu_moe=14)
    errors = errors_of(found)
    assert abs(errors["weights", "Vulkan0"]) < 1e-4
    assert errors["kv_cache", "Vulkan0"] == 0
    assert abs(errors["activations", "Vulkan0"]) < 0.01


def test_a_draft_is_not_counted_with_the_model():
    log = LOGS / "2026-05-cuda-draft-and-projector.log"
    errors = errors_of(validate("qwen3.5-27b", log=log, quant="q4_k_m", engine_version="b9200"))
    assert errors["kv_cache", "CUDA0"] == 0
    assert errors["state", "CUDA0"] == 0
    assert abs(errors["activations", "CUDA0"]) < 0.025


def test_scratch_buffers_of_2023_are_not_predicted():
    found = validate(log=LOGS / "2023-12-cuda-two-gpus.log")
    assert "llama-7b" in found.doubt  # by its shape: the log does not name it
    told = {row.kind: row.predicted for row in found.rows}
    assert told["activations"] is None
    assert told["kv_cache"] == 256


def test_a_log_says_what_it_lacks():
    found = validate(log=LOGS / "2025-08-vulkan-window.log")
    assert "hyperparameters" in found.to_text()
    assert found.to_dict()["missing"] == ["the model's hyperparameters"]


def test_a_log_without_a_known_name_or_shape():
    with pytest.raises(LlmcalcError, match="not in the catalog"):
        validate(log=LOGS / "2025-08-metal-window-full.log")


# -- the command --------------------------------------------------------------------------------


def test_the_table():
    done = cli("--era", "2026")
    assert done.returncode == 0, done.stderr
    assert "recurrent state" in done.stdout
    assert "in range" in done.stdout
    assert "2025" not in done.stdout.partition("\n")[2]


def test_formats(tmp_path):
    markdown = cli("--era", "2026", "--format", "markdown", "--rows").stdout
    assert markdown.startswith("| builds |")
    assert "| run | build |" in markdown
    table = cli("--era", "2026", "--format", "csv").stdout
    assert table.splitlines()[0].startswith("name,era,program")
    told = json.loads(cli("--era", "2026", "--json").stdout)
    assert told["command"] == "validate"
    assert {one["era"] for one in told["summary"]} == {"2026"}


def test_a_log_by_the_command(tmp_path):
    done = cli("--log", str(LOGS / "2024-05-metal.log"), "--rows")
    assert done.returncode == 0, done.stderr
    assert "258.50" in done.stdout
    assert "compute buffer size" in done.stdout  # the line itself
    told = json.loads(cli("--log", str(LOGS / "2024-05-metal.log"), "--json").stdout)
    assert told["build"] == 2797


def test_the_plot(tmp_path):
    pytest.importorskip("matplotlib")
    picture = tmp_path / "errors.png"
    done = cli("--era", "2026", "--plot", str(picture))
    assert done.returncode == 0, done.stderr
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--era", "2022"], "no runs"),
        (["llama-3-8b"], "needs a log"),
        (["--log", "nowhere.log"], "can't be read"),
        (["--log", str(LOGS / "README.md")], "a log of another program"),
        (["--log", str(LOGS / "2024-05-metal.log"), "--format", "csv"], "has no csv"),
        (["--log", str(LOGS / "2024-05-metal.log"), "--plot", "x.png"], "Leave --log out"),
        (["no-such-model", "--log", str(LOGS / "2024-05-metal.log")], "no-such-model"),
        (["--plot", "picture.xyz", "--era", "2026"], "suffix"),
    ],
)
def test_bad_input(arguments, words):
    done = cli(*arguments)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr
