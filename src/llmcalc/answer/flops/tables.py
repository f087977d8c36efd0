"""Tables of an answer about operations: by part or role, by convention, by phase."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from llmcalc.catalog import Catalog
from llmcalc.compute.counting import CLOSED, Shape, by_convention
from llmcalc.compute.moved import (
    activations_moved,
    arithmetic_intensity,
    caches_moved,
    roofline_seconds,
    weights_read,
)
from llmcalc.compute.ops import Line, adapter_lines, count, total
from llmcalc.model.inventory import Inventory
from llmcalc.precision import find_format
from llmcalc.report.figures import Figures, Grid

if TYPE_CHECKING:
    from llmcalc.answer.flops.asked import Asked

PARTS = {
    "layers": "matrix products of the layers",
    "attention": "attention: scores and sums",
    "state": "recurrent states, convolutions",
    "embedding": "embedding as a product",
    "head": "head (vocabulary)",
    "adapters": "adapters",
}


def formats(
    inventory: Inventory, book: Catalog, dtype: str | None, quant: str | None, kv_dtype: str | None
) -> tuple[Inventory, Callable[[str], Any], float]:
    """The model as its weights are stored, the bits of each format, and bytes of a cache's element."""
    name = dtype or inventory.dtype or "bf16"
    plain = find_format(name, book, "weights", "--dtype")
    if quant is not None:
        from llmcalc.precision.named import find_scheme

        inventory = find_scheme(quant, book).apply(inventory, plain.name)
    known: dict[str, Any] = {"": plain.bits}

    def bits(word: str) -> Any:
        if word not in known:
            known[word] = find_format(word, book, "stored", "--dtype").bits
        return known[word]

    kept = 2.0 if kv_dtype is None else float(find_format(kv_dtype, book, "kv", "--kv-dtype").bits) / 8
    return inventory, bits, kept


def operations_grid(lines: list[Line], asked: Asked) -> Grid:
    """Forward and backward operations of one token, by part or by role."""
    tokens = asked.per_pass
    rows: dict[str, dict[str, Any]] = {}
    whole = sum(line.forward + line.backward for line in lines) or 1
    for line in lines:
        own = line.role if line.component == "text" else f"{line.component} {line.role}"
        key = PARTS[line.part] if asked.by == "part" else own
        row = rows.setdefault(key, {"part": key, "forward": 0, "backward": 0, "active": line.share})
        row["forward"] += line.forward / tokens
        row["backward"] += line.backward / tokens
    for row in rows.values():
        row["share"] = (row["forward"] + row["backward"]) * tokens / whole
    columns = [
        ("part", "part" if asked.by == "part" else "op", ""),
        ("forward", "forward GFLOP", "FLOP/token|G"),
    ]
    if asked.phase == "train":
        columns.append(("backward", "backward GFLOP", "FLOP/token|G"))
    columns.append(("share", "share", "%"))
    if asked.by == "role" and any(row["active"] for row in rows.values()):
        columns.append(("active", "experts", ""))
    return Grid("operations", "", columns, [row for row in rows.values() if row["forward"]])


def conventions_grid(inventory: Inventory, shape: Shape, asked: Asked) -> Grid:
    """What each convention counts for a token, and what a stated speed is by each."""
    found = by_convention(inventory, asked.context, asked.recompute)
    exact = found[0].model
    rows = []
    speed = tokens_per_second(inventory, asked)
    gpu = asked.gpus[0] if asked.gpus else None
    for one in found:
        row: dict[str, Any] = {
            "convention": one.convention.name, "model": one.model, "executed": one.executed,
            "ratio": one.model / exact, "counts": one.convention.words, "source": one.convention.source,
        }  # fmt: skip
        if speed is not None and gpu is not None:
            row["rate"] = speed * one.model
            row["mfu"] = leaf_utilization(speed * one.model, gpu.peak)
            row["hfu"] = leaf_utilization(speed * one.executed, gpu.peak)
        rows.append(row)
    columns = [("convention", "convention", ""), ("model", "GFLOP", "FLOP/token|G")]
    if asked.recompute != "none":
        columns.append(("executed", "executed", "FLOP/token|G"))
    below = []
    if speed is None:
        columns += [("ratio", "of exact", "%"), ("counts", "what it counts", "")]
    else:
        columns += [("rate", "TFLOP/s", "FLOP/s|T"), ("mfu", "MFU", "%")]
        if asked.recompute != "none":
            columns.append(("hfu", "HFU", "%"))
        assert asked.rate is not None
        assert gpu is not None
        assert gpu.peak is not None
        below.append(
            f"{speed:,.0f} tokens/s on each GPU, by --{asked.rate[0]} {asked.rate[1]:g} as "
            f"{asked.convention} counts; peak {gpu.peak / 1e12:g} TFLOP/s ({gpu.name}, {asked.precision})."
        )
    if not shape.gpt_like:
        below.append(
            f"{', '.join(CLOSED)} are for a GPT's shape: no gate, a feed-forward layer of four times the "
            "width, as many key heads as query heads. This model has another."
        )
    return Grid("conventions", "One token of training as publications count it", columns, rows, below)


def leaf_utilization(rate: float, peak: Any) -> float:
    """MFU or HFU of one GPU. [-]"""
    from llmcalc.compute.conventions import utilization

    return float(utilization(rate, 1, 1, peak))


def tokens_per_second(inventory: Inventory, asked: Asked) -> float | None:
    """The stated speed as tokens/s of one GPU; None where none is stated. [tokens/s]"""
    if asked.rate is None:
        return None
    name, value = asked.rate
    gpu = asked.gpus[0]
    if name == "throughput":
        return value / gpu.gpus
    one = by_convention(inventory, asked.context, asked.recompute, [asked.convention])[0]
    assert gpu.peak is not None
    per_second = value * 1e12 if name == "tflops" else value * gpu.peak
    return float(per_second / (one.executed if name == "hfu" else one.model))


STEPS = (1, 64)
"""Sequences of a decode step that are shown where none are asked for."""


def phases_grid(answer: Figures, inventory: Inventory, asked: Asked, bits: Any, kv_bytes: float) -> Grid:
    """Bytes moved and operations done with each, phase by phase; on named GPUs what limits them."""
    many = asked.sequences
    steps = STEPS if many == 1 else (1, many) if asked.phase == "decode" else STEPS
    wanted = [(phase, many if phase == asked.phase else 1) for phase in ("train", "prefill")]
    wanted += [("decode", number) for number in steps]
    rows = []
    for phase, sequences in wanted:
        work = asked.work(phase)
        lines = [*count(inventory, work), *adapter_lines(inventory, work)]
        forward, backward = total(lines)
        done = (forward + backward) * sequences
        passing = sequences * (1 if phase == "decode" else asked.context)
        times = 1 if phase != "train" else 2 if asked.adapters is not None else 3  # read twice, one gradient
        weights = weights_read(inventory, bits, passing, work) * times
        read, written = (0, 0) if phase == "train" else caches_moved(inventory, work, kv_bytes, sequences)
        other = activations_moved(lines, work, sequences)
        moved = weights + read + written + other
        row = {
            "phase": f"{phase} x{sequences}", "flops": done, "weights": weights, "caches": read + written,
            "activations": other, "intensity": arithmetic_intensity(done, moved), "moved": moved,
        }  # fmt: skip
        for number, gpu in enumerate(asked.gpus):
            if gpu.peak and gpu.bandwidth:
                row[f"limit_{number}"] = "peak" if done / gpu.peak >= moved / gpu.bandwidth else "memory"
                row[f"least_{number}"] = 1e3 * roofline_seconds(done, moved, gpu.peak, gpu.bandwidth)
        rows.append(row)
    columns = [
        ("phase", "a pass", ""), ("flops", "operations", "FLOP"), ("weights", "weights", "B"),
        ("caches", "caches", "B"), ("activations", "in and out", "B"), ("intensity", "FLOP/B", "#"),
    ]  # fmt: skip
    below = ["Weights, caches, and inputs and outputs of each op move once; attention's scores never do."]
    if len(asked.gpus) == 1 and asked.gpus[0].peak and asked.gpus[0].bandwidth:
        gpu = asked.gpus[0]
        columns[4:5] = []  # a terminal is too narrow for all
        columns += [("limit_0", "limit", ""), ("least_0", "least ms", "#")]
        assert gpu.peak is not None
        assert gpu.bandwidth is not None
        below.append(
            f"{gpu.name}: {gpu.peak / 1e12:g} TFLOP/s in {asked.precision}, {gpu.bandwidth / 1e12:g} TB/s: "
            f"above {gpu.peak / gpu.bandwidth:,.0f} FLOP/B its peak is the limit. One GPU."
        )
    answer.picture = {
        "points": [(row["phase"], row["intensity"]) for row in rows],
        "gpus": [(g.name, g.peak, g.bandwidth) for g in asked.gpus if g.peak and g.bandwidth],
        "precision": asked.precision,
    }
    return Grid("phases", "Bytes that a pass moves, and operations for each", columns, rows, below)
