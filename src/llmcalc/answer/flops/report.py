"""Figures of an answer about operations: of a token, a sequence, a run; beside them the rules of thumb."""

from __future__ import annotations

from typing import Any

from llmcalc.answer.flops.asked import Asked
from llmcalc.compute import conventions as leaf
from llmcalc.compute.counting import Shape
from llmcalc.compute.ops import adapter_lines, count, recomputed, total
from llmcalc.formula import is_array
from llmcalc.model.inventory import Inventory
from llmcalc.report.figures import Figures
from llmcalc.units import format_count


def flops_answer(inventory: Inventory, asked: Asked, bits: Any, kv_bytes: Any) -> Figures:
    """Operations op by op, beside the rules of thumb and the conventions; bytes moved and intensity."""
    answer = Figures("flops")
    answer.model = {
        "name": inventory.name, "params": inventory.params, "active_params": inventory.active_params,
        "source": inventory.source,
    }  # fmt: skip
    total_, active = format_count(inventory.params), format_count(inventory.active_params)
    size = f"{total_} ({active} active) params" if inventory.routed_params else f"{total_} params"
    answer.header = [inventory.title, size, asked.phase, _told(asked)]
    if asked.method != "full":
        answer.header.append(f"{asked.method} r={asked.rank}")
    answer.scenario = {
        "phase": asked.phase, "context": asked.context, "tokens": asked.tokens, "sequences": asked.sequences,
        "mask": asked.mask, "head": asked.head, "embedding": asked.embedding, "recompute": asked.recompute,
        "method": asked.method,
        "lora_r": asked.rank if asked.method != "full" else None, "mtp": asked.mtp,
        "encoder_tokens": asked.encoder or None, "image_tokens": asked.image or None,
        "precision": asked.precision, "gpu": [gpu.shown for gpu in asked.gpus] or None,
        "convention": asked.convention if asked.rate else None,
    }  # fmt: skip
    if inventory.is_opaque:
        _thumb(answer, inventory.params, inventory.params, asked, None)
        _speed(answer, asked, 6.0 * inventory.params, 6.0 * inventory.params)
        answer.hints.append("Name a model, and attention, head and every convention are counted too.")
        return answer
    work = asked.work()
    lines = [*count(inventory, work), *adapter_lines(inventory, work)]
    forward, backward = total(lines)
    again = recomputed(lines, asked.recompute)
    _totals(answer, asked, forward, backward, again)
    if asked.rate is not None:
        from llmcalc.compute.counting import by_convention

        one = by_convention(inventory, asked.context, asked.recompute, [asked.convention])[0]
        _speed(answer, asked, one.model, one.executed)
    shape = Shape(inventory)
    _thumb(answer, shape.active, shape.active - shape.embedding, asked, (forward + backward) / asked.per_pass)
    if not is_array(asked.context):
        from llmcalc.answer.flops.tables import conventions_grid, operations_grid, phases_grid

        answer.grids.append(operations_grid(lines, asked))
        if asked.phase == "train" and asked.method == "full":
            answer.grids.append(conventions_grid(inventory, shape, asked))
        answer.grids.append(phases_grid(answer, inventory, asked, bits, kv_bytes))
    answer.warnings += asked.notes
    return answer


def _told(asked: Asked) -> str:
    tokens = f"{int(asked.context.min()):,} to {int(asked.context.max()):,}" if is_array(asked.context) else (
        f"{asked.context:,}"
    )  # fmt: skip
    return f"after {tokens} tokens" if asked.phase == "decode" else f"sequences of {tokens} tokens"


MASK_NOTES = {
    "causal": "masks and windows as they are",
    "half": "half of all pairs of positions",
    "full": "all pairs of positions",
}


def _totals(answer: Figures, asked: Asked, forward: Any, backward: Any, again: Any) -> None:
    """Of one token, one sequence, and all tokens. [FLOP]"""
    tokens = asked.per_pass
    rule = {"formula": "sum over ops", "source": "linear_flops, attention_flops, scan_flops"}
    grade = "exact" if asked.method == "full" else "derived"
    note = f"matrix products and attention: {MASK_NOTES[asked.mask]}"
    answer.add("forward_per_token", forward / tokens, "FLOP/token", label="forward", section="one token",
               grade=grade, note=note, **rule)  # fmt: skip
    if asked.phase == "train":
        frozen = "no gradients of frozen weights" if asked.method != "full" else "two products for each one"
        answer.add("backward_per_token", backward / tokens, "FLOP/token", label="backward",
                   section="one token", grade=grade, note=frozen, **rule)  # fmt: skip
        answer.add("flops_per_token", (forward + backward) / tokens, "FLOP/token", label="model",
                   section="one token", grade=grade, note="forward and backward", **rule)  # fmt: skip
    else:
        answer.add("flops_per_token", forward / tokens, "FLOP/token", label="-", section="one token",
                   grade=grade, **rule)  # fmt: skip
    if asked.recompute != "none":
        what = "all layers once more" if asked.recompute == "full" else "attention once more"
        answer.add("executed_per_token", (forward + backward + again) / tokens, "FLOP/token",
                   label="executed", section="one token", grade=grade, note=what, **rule)  # fmt: skip
    made = forward + backward
    answer.add("flops_per_sequence", made if is_array(made) else int(made), "FLOP", label="one sequence",
               section="one token", grade=grade, note="" if asked.phase != "decode" else "one step",
               **rule)  # fmt: skip


def _speed(answer: Figures, asked: Asked, model: Any, executed: Any) -> None:
    """A stated speed as tokens/s, TFLOP/s, MFU and HFU by its own convention."""
    if asked.rate is None:
        return
    name, value = asked.rate
    gpu, section = asked.gpus[0], "speed"
    assert gpu.peak is not None
    each = executed if name == "hfu" else model
    second = value / gpu.gpus if name == "throughput" else value * (
        1e12 if name == "tflops" else gpu.peak
    ) / each  # fmt: skip
    grade = "exact" if asked.convention.startswith("exact") else "derived"
    told = f"by --{name} {value:g}, as {asked.convention} counts"
    answer.add("tokens_per_second", second, "tokens/s/GPU", label="of each GPU", section=section, grade=grade,
               note=told)  # fmt: skip
    answer.add("flops_per_second", second * model, "FLOP/s/GPU", label="operations", section=section,
               grade=grade)  # fmt: skip
    inputs = {"flops": second * model, "seconds": 1, "gpus": 1, "peak": gpu.peak}
    answer.add("mfu", leaf.utilization(second * model, 1, 1, gpu.peak), "%", label="MFU", section=section,
               grade=grade, formula="utilization", inputs=inputs,
               note=f"of {gpu.peak / 1e12:g} TFLOP/s, {asked.precision}")  # fmt: skip
    if asked.recompute != "none":
        inputs = {**inputs, "flops": second * executed}
        answer.add("hfu", leaf.utilization(second * executed, 1, 1, gpu.peak), "%", label="HFU",
                   section=section, grade=grade, formula="utilization", inputs=inputs)  # fmt: skip


def _thumb(answer: Figures, params: int, inner: int, asked: Asked, exact: Any) -> None:
    """The rules of thumb beside it: 2 N or 6 N, and times all tokens."""
    train = asked.phase == "train"
    rule, name, each = (
        (leaf.training_flops, "6 N", 6) if train else (leaf.forward_flops, "2 N", 2)
    )  # fmt: skip
    source = "Kaplan et al. 2020, section 2.1"
    found = rule(params, 1)
    beside = "" if exact is None or is_array(exact) else f"op by op {exact / found:.3f} times that"
    how: dict[str, Any] = {"formula": rule.__name__, "grade": "derived", "source": source}
    answer.add("thumb_per_token", found, "FLOP/token", label=name, section="one token",
               inputs={"parameters": params, "tokens": 1}, note=beside, **how)  # fmt: skip
    if asked.tokens is None:
        return
    if exact is not None:
        answer.add("flops", exact * float(asked.tokens), "FLOP", label="counted", section="all tokens",
                   formula="flops_per_token x tokens", note=f"{format_count(asked.tokens)} tokens",
                   )  # fmt: skip
    answer.add("thumb", rule(params, asked.tokens), "FLOP", label=f"{name} D", section="all tokens",
               inputs={"parameters": params, "tokens": asked.tokens},
               note=f"{each} x {format_count(params)} x {format_count(asked.tokens)}", **how)  # fmt: skip
    if inner != params:
        told = f"{inner / 1e9:,.4g} B" if inner >= 1e9 else format_count(inner)
        answer.add("thumb_without_embedding", rule(inner, asked.tokens), "FLOP", section="all tokens",
                   label=f"{name} D, N without embedding",
                   inputs={"parameters": inner, "tokens": asked.tokens},
                   note=f"N = {told}", **how)  # fmt: skip
