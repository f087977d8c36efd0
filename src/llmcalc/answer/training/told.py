"""What a report tells of several GPUs: the layout, and what each class of ranks needs."""

from __future__ import annotations

from typing import Any

from llmcalc.answer.training.question import Estimate, Question
from llmcalc.formula import is_array
from llmcalc.memory.training.parallel.ranks import waiting_most
from llmcalc.report import Report


def tell_ranks(report: Report, question: Question, made: Estimate) -> None:
    """Set GPUs and classes of ranks on a report."""
    mesh = question.asked.mesh
    assert mesh is not None
    report.gpus = mesh.gpus
    for stage, one in made.ranks:
        if is_array(one.total):
            continue
        report.ranks.append(
            {
                "name": stage.name,
                "gpus": stage.ranks,
                "layers": stage.layers,
                "embedding": stage.is_first,
                "head": stage.is_last,
                "micro_batches": 1 + max(waiting_most(mesh, stage.index)),
                "total_bytes": one.total,
                "range_bytes": [one.low, one.high],
                "phase": one.phase,
                "where": one.where,
                "activation_share": round(one.shares.get("activations", 0) / max(one.total, 1), 4),
                "items": dict(one.shares) | {"runtime": one.runtime.amounts[0]},
            }
        )
    if mesh.pp > 1:
        report.hints.append(
            f"A stage waits {100 * mesh.bubble:.3g} % of its working time for others (the bubble); more "
            "micro-batches (--grad-accum) or chunks (--vpp) lower that."
        )


def layout_told(asked: Any) -> list[str]:
    """The layout for the heading."""
    mesh = asked.mesh
    words = [f"{mesh.gpus} GPU{'s' if mesh.gpus > 1 else ''}: {mesh.told}"]
    if mesh.sequence_parallel:
        words.append("sequence parallel")
    if mesh.pp > 1:
        words.append("gpipe" if mesh.schedule == "gpipe" else "interleaved 1F1B" if mesh.vpp > 1 else "1F1B")
    return [*words, *([asked.sharding_name] if asked.sharding_name else [])]


def spread_values(asked: Any) -> dict[str, Any]:
    """The layout as resolved, for the scenario."""
    mesh = asked.mesh
    return {
        "tp": mesh.tp, "pp": mesh.pp, "vpp": mesh.vpp, "cp": mesh.cp, "ep": mesh.ep, "etp": mesh.etp,
        "dp": mesh.dp, "sequence_parallel": mesh.sequence_parallel, "schedule": mesh.schedule,
        "stage_layers": ",".join(map(str, mesh.stage_layers)) or None,
        "sharding": asked.sharding_name or "none", **_policy_told(asked.policy),
        "zero": None if asked.zero is None else asked.zero.stage,
        "global_batch": asked.batch * mesh.dp * asked.accumulate, "bubble": round(mesh.bubble, 4),
        "capacity_factor": mesh.capacity, "imbalance": mesh.imbalance, "cp_comm": mesh.cp_comm,
    }  # fmt: skip


def _policy_told(policy: Any) -> dict[str, Any]:
    """How FSDP is set up, where it is."""
    if policy is None:
        return {}
    widths = {2: "16 bit", 4: "fp32"}
    return {
        "shard_degree": policy.degree, "reshard_after_forward": policy.reshard,
        "reduce_dtype": widths[policy.reduce or policy.element], "fsdp_units": policy.wrap,
        "grad_sync": "last" if policy.whole_gradients else "each",
    }  # fmt: skip
