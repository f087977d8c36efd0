"""FSDP and DDP: what PyTorch's own tools saw, properties of shards, published peaks, wrong options."""

import json
import math
from pathlib import Path

import pytest

import llmcalc
from llmcalc.errors import InputError
from llmcalc.memory.training.parallel.fsdp import FullyShard

DATA = Path(__file__).parent / "data"
PRECISION = {("fp32", "bf16"): "bf16-mixed", ("fp32", None): "fp32", ("bf16", None): "bf16"}
PHASES = {"forward": ("forward",), "backward": ("loss", "backward"), "step": ("step",)}


def lines(name):
    return [json.loads(line) for line in (DATA / name).read_text().splitlines()]


def options(row):
    """The keywords of a run of the tracker."""
    made = {
        "precision": PRECISION[row["dtype"], row["parameter"]], "micro_batch": row["batch"],
        "seq_len": row["seq"], "dp": row["world"], "fsdp": 2, "attention": row["attention"],
        "metric": "memtracker", "padded": row["masked"], "optimizer": row["optimizer"],
        "recompute": "full" if row["checkpointing"] else "none", "grad_accum": row["micro_batches"],
        "reshard_after_forward": row["reshard"], "shard_degree": row["mesh"][-1],
        "fsdp_units": row["units"], "grad_sync": "last" if row["no_sync"] else "each", "keep_logits": row["keep_output"],
    }  # fmt: skip
    if row["reduce"]:
        made["reduce_dtype"] = row["reduce"]
    return made


def situations(monkeypatch):
    """Everything that FSDP tells of moments from now on."""
    found, own = [], FullyShard._told

    def told(self, situation):
        found.append(situation)
        return own(self, situation)

    monkeypatch.setattr(FullyShard, "_told", told)
    return found


def local(row):
    """Elements of all tensors that are really on the rank, padding left out."""
    ranks, rank = row["mesh"][-1], row["rank"] % row["mesh"][-1]
    layers = {"layer": row["config"]["num_hidden_layers"]}
    total = 0
    for unit, shapes in row["unit_shapes"].items():
        for first, *rest in shapes:
            each = math.ceil(first / ranks)
            total += layers.get(unit, 1) * max(0, min(each, first - rank * each)) * math.prod(rest)
    return total


ROWS = lines("fsdp_peaks.jsonl")


@pytest.mark.parametrize("row", ROWS, ids=range(len(ROWS)))
def test_fsdp2_holds_what_pytorchs_tracker_saw(row, monkeypatch):
    seen_by_us = situations(monkeypatch)
    report = llmcalc.train(row["config"], **options(row))
    kind = 2 if row["dtype"] == "bf16" else 4
    for phase, seen in row["phases"].items():
        name, _, turn = phase.partition(" ")
        if turn and int(turn) < row["micro_batches"]:
            continue  # a step's last micro-batch holds most
        moments = [one for one in report.timeline.moments if one.phase in PHASES[name]]
        worst = max(moments, key=lambda one: one.total)
        assert worst.held["weights"] == seen["SHARDED_PARAM"]
        if name == "step":
            continue
        scalars = 4 * row["tensors"] if row["optimizer"].startswith("adamw") else 0
        states = (seen["OPT"] - scalars) // (2 if scalars else 1)
        assert states == local(row) * kind
        rest = seen["Total"] - seen["BUFFER"] - seen["INP"] - seen["OPT"]
        if row["keep_output"] and name == "forward":  # the step before has left its logits
            rest -= row["batch"] * row["seq"] * row["config"]["vocab_size"] * 2 + 4
        found = worst.total - worst.held["optimizer"]
        assert math.isclose(found, rest, rel_tol=6e-3), (phase, worst.where, seen["at"])
        unit = worst.where.removeprefix("gather of ").removeprefix("sum of ")
        elsewhere = unit.startswith("layer ") and not seen["at"]["unit"].endswith(f".{unit[6:]}")
        if row["rank"] or elsewhere:
            continue
        same = [
            one for one in seen_by_us
            if one.shards + one.whole + one.own == worst.held["gradients"]
            and one.gathered == worst.held["gathered"]
        ]  # fmt: skip
        kinds = ("UNSHARDED_PARAM", "ALL_GATHER", "SHARDED_GRAD")
        told = {(one.unsharded, one.all_gather, one.shards) for one in same}
        expected = tuple(seen.get(one, 0) for one in kinds)
        if row["no_sync"] and row["reduce"] == "bf16":  # the tracker calls whole gradients by that name
            continue
        if row["config"]["model_type"] == "gemma2":  # two moments of nearly the same size
            continue
        assert expected in told, (phase, worst.where, seen["at"])


def test_optimizer_states_are_those_of_the_first_rank():
    for row in ROWS:
        if row["rank"] or not row["optimizer"].startswith("adamw"):
            continue
        report = llmcalc.train(row["config"], **options(row))
        held = report.timeline.moments[-1].held["optimizer"]
        seen = row["phases"]["step"]["OPT"] - 4 * row["tensors"]
        assert math.isclose(held, seen, rel_tol=0.02), row["config"]


def test_published_runs_of_the_tracker():
    for row in lines("fsdp_published.jsonl"):
        twin = next(
            one for one in ROWS
            if one["keep_output"] and one["reshard"] == row["reshard_after_forward"]
            and one["real"] == (row["tensors"] == "real")
        )  # fmt: skip
        seen = {name: size for name, size in twin["peak_bytes"].items() if name != "at"}
        assert seen == {name: size for name, size in row["peak_bytes"].items() if size}


REPLICATED = [row for row in lines("replicated_peaks.jsonl") if row["ddp"] and not row["zero"]]


@pytest.mark.parametrize("row", REPLICATED, ids=range(len(REPLICATED)))
def test_ddp_holds_what_pytorchs_tracker_saw(row):
    precision = "bf16-mixed" if row["autocast"] else {"fp32": "fp32", "bf16": "bf16"}[row["dtype"]]
    report = llmcalc.train(
        row["config"], precision=precision, micro_batch=row["batch"], seq_len=row["seq"], dp=row["world"],
        attention="sdpa", padded=False, metric="memtracker", optimizer=row["optimizer"], keep_logits=False,
        grad_accum=row["micro_batches"], bucket_views=row["views"],
        grad_sync="last" if row["no_sync"] else "each",
    )  # fmt: skip
    for phase, seen in row["phases"].items():
        name, _, turn = phase.partition(" ")
        if turn and int(turn) < row["micro_batches"]:
            continue
        moments = [one for one in report.timeline.moments if one.phase in PHASES[name]]
        worst = max(moments, key=lambda one: one.total)
        assert math.isclose(worst.total, seen["Total"], rel_tol=0.012), phase
    buckets = row["parameters"] * (2 if row["dtype"] == "bf16" else 4)
    assert (buckets in report.timeline.standing.values()) == (not row["views"] or row["no_sync"])
