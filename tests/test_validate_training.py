"""Published peaks of training beside predictions: the entries, the floor, the misses, the errors."""

import subprocess
import sys
from types import SimpleNamespace

import pytest

import llmcalc
from llmcalc.api.validation import validate
from llmcalc.catalog import Catalog
from llmcalc.catalog_build import check_entries
from llmcalc.errors import CatalogError, InputError
from llmcalc.units import GIB
from llmcalc.validation.training import TARGETS, TrainingSummary, compare_run, summarise

RUN = {
    "name": "a", "engine": "training", "program": "litgpt", "build": "1", "date": "2024",
    "model": "llama-3.2-1b", "source": "https://example.org", "group": "full", "quality": 1,
    "options": {"micro_batch": 2},
    "metric": "active", "published": "10 GiB", "measured": {"peak": 10.0},
}  # fmt: skip
FAILED = {
    **{key: value for key, value in RUN.items() if key not in ("quality", "metric", "published", "measured")},
    "measured": {}, "out_of_memory": True, "card": "a10g",
}  # fmt: skip


def predicted(total, floor=1.0, spread=0.0):
    """A stand-in for `llmcalc.train`: it says how much, and remembers what it was asked."""

    def train(model, **options):
        train.asked = (model, options)
        held = {"weights": floor * GIB / 2, "optimizer": floor * GIB / 4, "activations": 9 * GIB}
        return SimpleNamespace(
            total_bytes=int(total * GIB),
            range_bytes=(int((total - spread) * GIB), int((total + spread) * GIB)),
            device=SimpleNamespace(usable_bytes=22 * GIB),
            peak=SimpleNamespace(phase="loss"),
            timeline=SimpleNamespace(
                moments=[
                    SimpleNamespace(phase="forward", held=held),
                    SimpleNamespace(phase="step", held={**held, "gradients": floor * GIB / 4}),
                ]
            ),
        )

    return train


@pytest.fixture(scope="module")
def entries():
    return [run for run in Catalog.shipped().entries("measurements") if run["engine"] == "training"]


@pytest.fixture(scope="module")
def published():
    return validate(engine="training")


# -- the entries ---------------------------------------------------------------------------------


def test_every_group_has_its_runs(entries):
    count = {}
    for run in entries:
        key = (run["group"], bool(run.get("out_of_memory")))
        count[key] = count.get(key, 0) + 1
    assert count == {
        ("full", False): 7, ("lora", False): 23, ("qlora", False): 18, ("lora", True): 4, ("qlora", True): 2,
        ("sharded full", False): 26, ("sharded lora", False): 12, ("megatron", False): 6,
        ("megatron-b200", False): 19,
    }  # fmt: skip


def test_published_figures_are_normalised(entries):
    for run in entries:
        if "published" in run:
            value, unit = run["published"].split()
            wanted = float(value) * {"GB": 10**9, "GiB": GIB}[unit] / GIB
            assert run["measured"]["peak"] == pytest.approx(wanted, abs=5e-5), run["name"]


def test_quality_1_infers_nothing_and_quality_2_says_what(entries):
    for run in entries:
        if run.get("quality") == 1:
            assert "inferred" not in run, run["name"]
        if run.get("quality") == 2 and run["name"] != "torchtune-readme-01":
            assert run["inferred"], run["name"]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"measured": {}}, "ran out of memory"),
        ({"quality": None}, "quality"),
        ({"metric": "resident"}, "metric"),
        ({"measured": {"peak": 1.0, "average": 2.0}}, "average"),
    ],
)
def test_an_entry_that_says_too_little_is_refused(change, told):
    with pytest.raises(CatalogError, match=told):
        check_entries("f.yaml", "measurements", [RUN | change])


def test_a_run_out_of_memory_names_its_card():
    assert check_entries("f.yaml", "measurements", [FAILED])
    with pytest.raises(CatalogError, match="card"):
        check_entries("f.yaml", "measurements", [{k: v for k, v in FAILED.items() if k != "card"}])


# -- one run -------------------------------------------------------------------------------------


def test_what_is_asked_is_what_was_published():
    train = predicted(11.0)
    row = compare_run(RUN, train)
    assert train.asked == ("llama-3.2-1b", {"allow_overlong": True, "metric": "allocated", "micro_batch": 2})
    assert row.error == pytest.approx(0.1)
    assert row.phase == "loss"


def test_a_configuration_stands_for_a_model_that_the_catalog_lacks():
    train = predicted(11.0)
    compare_run(RUN | {"config": {"model_type": "llama"}}, train)
    assert train.asked[0] == {"model_type": "llama"}


def test_a_peak_below_weights_gradients_and_states_is_marked_and_not_counted():
    low, fair = compare_run(RUN, predicted(30.0, floor=10.2)), compare_run(RUN, predicted(11.0, floor=9.9))
    assert (low.consistent, fair.consistent) == (False, True)
    summary = TrainingSummary("full", 1, [low, fair])
    assert (summary.rows, summary.inconsistent, summary.median) == (2, 1, pytest.approx(0.1))


def test_a_refusal_counts_as_a_miss():
    def refuse(model, **options):
        raise InputError("No.", "Use something else.")

    rows = [compare_run(RUN, refuse), compare_run(RUN, predicted(10.1)), compare_run(RUN, predicted(10.2))]
    one, two = TrainingSummary("full", 1, rows), TrainingSummary("full", 1, rows[:1])
    assert (one.refused, one.median, one.p90) == (1, pytest.approx(0.02), None)
    assert (two.refused, two.median) == (1, None)


def test_a_run_out_of_memory_is_an_inequality():
    above, below = compare_run(FAILED, predicted(22.5)), compare_run(FAILED, predicted(21.5))
    assert (above.too_large, below.too_large) == (True, False)
    assert above.error is None
    assert summarise([above, below]) == []


# -- all of them ---------------------------------------------------------------------------------


def test_nothing_is_refused(published):
    assert [row.run["name"] for row in published.trainings if row.refusal] == []


def test_out_of_memory_is_predicted_above_the_card(published):
    failed = [row for row in published.trainings if row.out_of_memory]
    assert len(failed) == 6
    assert [row.run["name"] for row in failed if not row.too_large] == []


RATCHET = {
    # method, quality: runs at least; median, 90th percentile, worst at most
    ("lora", 1): (8, 0.002, 0.003, 0.004),
    ("qlora", 1): (6, 0.014, 0.056, 0.076),
    ("all", 1): (14, 0.003, 0.031, 0.076),
    ("sharded full", 1): (7, 0.048, 0.066, 0.079),
    ("all sharded", 1): (7, 0.048, 0.066, 0.079),
    ("full", 2): (7, 0.015, 0.08, 0.163),
    ("lora", 2): (15, 0.003, 0.03, 0.206),
    ("qlora", 2): (12, 0.003, 0.014, 0.032),
    ("all", 2): (34, 0.004, 0.029, 0.206),
    ("sharded full", 2): (19, 0.018, 0.06, 0.10),
    ("sharded lora", 2): (12, 0.033, 0.102, 0.116),
    ("megatron", 2): (6, 0.18, 0.21, 0.215),
    ("megatron-b200", 2): (19, 0.0005, 0.003, 0.004),
    ("all sharded", 2): (37, 0.03, 0.16, 0.215),
}
"""Errors may shrink, and never grow."""


def test_every_group_has_a_bound(published):
    assert {(one.group, one.quality) for one in published.training_summaries} == set(RATCHET)


@pytest.mark.parametrize(("group", "quality"), RATCHET)
def test_errors_do_not_grow(published, group, quality):
    runs, median, p90, worst = RATCHET[group, quality]
    (found,) = [one for one in published.training_summaries if (one.group, one.quality) == (group, quality)]
    assert found.rows >= runs
    assert found.median <= median
    assert found.p90 <= p90
    assert found.worst <= worst


UNEXPLAINED = {
    "mswift-088", "litgpt-rt-050", "torchtune-readme-07", "fsdpqlora-13",
    "mswift-003", "mswift-027", "mswift-029",
    "mswift-030", "mswift-093",
}  # fmt: skip
"""Runs more than 10 % off; docs/validation.md says what is known of them."""


def test_large_errors_are_known(published):
    far = {row.run["name"] for row in published.trainings if row.error is not None and abs(row.error) > 0.1}
    assert far <= UNEXPLAINED


@pytest.mark.parametrize(("group", "quality"), [(g, q) for g, own in TARGETS.items() for q in own])
def test_errors_are_within_the_aim(published, group, quality):
    found = next(
        (one for one in published.training_summaries if (one.group, one.quality) == (group, quality)), None
    )
    if found is None:
        pytest.skip(f"no runs of quality {quality} among {group}")
    median, p90 = TARGETS[group][quality]
    assert found.median <= median
    assert p90 is None or found.p90 <= p90


def test_ranges_hold_what_they_promise(published):
    """The 5th to the 95th percentile: nine in ten, of narrow ranges."""
    held = [
        row.to_dict() for row in published.trainings
        if row.error is not None and row.run["group"] != "megatron"  # authors' remarks, which lie higher
    ]  # fmt: skip
    inside = [row for row in held if row["range_gib"][0] <= row["measured_gib"] <= row["range_gib"][1]]
    assert len(inside) / len(held) >= 0.9
    widths = sorted((row["range_gib"][1] - row["range_gib"][0]) / row["predicted_gib"] for row in held)
    assert widths[len(widths) // 2] < 0.05


def test_engines_are_chosen_by_name(published):
    assert published.rows == []
    assert validate(engine="mlx").trainings == []
    with pytest.raises(InputError, match="no runs"):
        validate(engine="trainer")


def test_every_format_has_the_runs(published):
    assert "out of memory" in published.to_text(rows=True)
    assert published.to_markdown().count("| litgpt |") == sum(
        r.run["program"] == "litgpt" for r in published.trainings
    )
    assert published.to_csv().count("\n") == len(published.trainings) + 1
    assert len(published.to_dict()["training"]["rows"]) == len(published.trainings)


def test_command():
    done = subprocess.run(
        [sys.executable, "-m", "llmcalc", "validate", "--engine", "training"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Training" in done.stdout
    assert "builds" not in done.stdout
    assert llmcalc.__version__
