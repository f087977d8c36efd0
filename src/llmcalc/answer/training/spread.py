"""How a training step is spread over GPUs: keywords turned into a layout and a way of sharing states."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llmcalc.answer.training.sharded import fsdp_policy, views_of
from llmcalc.answer.training.words import flag, one_word
from llmcalc.errors import InputError
from llmcalc.memory.training.parallel.mesh import EXCHANGES, SCHEDULES, Mesh, check_mesh, check_tensors
from llmcalc.model.inventory import Inventory
from llmcalc.units import parse_decimal, parse_integer, shown

DEGREES = ("tp", "pp", "cp", "ep", "etp", "vpp", "dp")
SPREAD = (
    *DEGREES,
    "sequence_parallel", "schedule", "stage_layers", "zero", "fsdp", "reshard_after_forward",
    "shard_degree", "reduce_dtype", "fsdp_units", "grad_sync", "bucket_views", "global_batch",
    "capacity_factor", "imbalance", "cp_comm",
)  # fmt: skip
"""Keywords about several GPUs."""


def choose_mesh(asked: Any, inventory: Inventory, given: dict[str, Any], count: int | None) -> None:
    """Set the layout and the way of sharing states, where there is more than one GPU.

    Parameters
    ----------
    asked : Asked
        What was resolved before; gets `mesh` and `sharding`.
    inventory : Inventory
        The model.
    given : dict
        Keywords.
    count : int or None
        GPUs that were named. [-]

    Raises
    ------
    InputError
        If degrees don't multiply to the GPUs, or the model doesn't allow them.
    """
    degree = {
        key: None if given[key] is None else parse_integer(given[key], f"--{key}", 1 << 20) for key in DEGREES
    }
    one = (degree["tp"] or 1) * (degree["pp"] or 1) * (degree["cp"] or 1)
    processes = None if asked.told is None or degree["dp"] is not None else asked.told.gpus
    world = count or processes or one * (degree["dp"] or 1)
    pads = asked.implementation == "megatron"
    check_tensors(degree["tp"] or 1, inventory, pads, count or 0)
    told = " x ".join(f"{key} {degree[key]}" for key in ("tp", "pp", "cp", "dp") if degree[key]) or "tp 1"
    if world % one or (degree["dp"] is not None and one * degree["dp"] != world):
        product = one * (degree["dp"] or 1)
        raise InputError(
            f"{told} is {product} GPU{'s' if product > 1 else ''}; there are {world}.",
            f"Use --dp {world // one}, or --gpu {product}xNAME." if world % one == 0
            else f"Make tp x pp x cp a divisor of {world}.",
        )  # fmt: skip
    blocks = str(asked.recompute).startswith("first-")  # which needs the layers of a stage one by one
    alone = world == 1 and not blocks and asked.zero is None
    if alone and not any(value not in (None, 1) for value in degree.values()):
        _refuse_alone(given)
        if given["global_batch"] is not None:
            _batches(asked, Mesh(micro_batches=asked.accumulate), given["global_batch"])
        return
    dp = degree["dp"] or world // one
    tp = degree["tp"] or 1
    parallel = given["sequence_parallel"]
    default = tp > 1 and asked.implementation in ("megatron", "torchtitan")
    stage_layers = _stage_layers(given["stage_layers"])
    mesh = Mesh(
        tp, degree["pp"] or 1, degree["cp"] or 1, degree["ep"] or 1, dp, degree["etp"], degree["vpp"] or 1,
        default if parallel is None else flag(parallel, "--sequence-parallel") and tp > 1,
        "1f1b" if given["schedule"] is None else one_word(given["schedule"], SCHEDULES, "--schedule"),
        asked.accumulate, stage_layers,
        None if given["capacity_factor"] is None else _factor(given["capacity_factor"], "--capacity-factor"),
        1.0 if given["imbalance"] is None else _factor(given["imbalance"], "--imbalance"),
        "p2p" if given["cp_comm"] is None else one_word(given["cp_comm"], EXCHANGES, "--cp-comm"),
    )  # fmt: skip
    _batches(asked, mesh, given["global_batch"])
    check_mesh(mesh, inventory, pads)
    asked.mesh = mesh
    asked.bucket_views = views_of(asked, given)
    asked.policy = fsdp_policy(asked, given, mesh)
    if asked.zero is not None:
        from llmcalc.answer.training.deepspeed import refuse_mesh

        refuse_mesh(mesh, asked.zero)
    for key in SPREAD:
        asked.origins.setdefault(key, "default" if given[key] is None else "given")
    asked.sharding, asked.sharding_name = _sharding(asked, given)


def _refuse_alone(given: dict[str, Any]) -> None:
    """One GPU has nothing to share."""
    for key in ("sequence_parallel", "stage_layers", "schedule"):
        if given[key] is not None:
            raise InputError(
                f"--{key.replace('_', '-')} is about several GPUs, and there is one.",
                "Add --gpu 8xNAME, --tp or --pp.",
            )


def _stage_layers(value: Any) -> tuple[int, ...]:
    if value is None:
        return ()
    words = value.split(",") if isinstance(value, str) else list(value)
    return tuple(0 if str(word).strip() == "0" else parse_integer(word, "--stage-layers") for word in words)


def _factor(value: Any, option: str) -> float:
    parsed = parse_decimal(str(value))
    if parsed is None or parsed[0] <= 0:
        raise InputError(f"{option} is {shown(value)}.", "Use a factor such as 1 or 1.25.")
    return parsed[0] / parsed[1]


def _batches(asked: Any, mesh: Mesh, total: Any) -> None:
    """A batch over all GPUs must be micro-batch x accumulation x data ranks."""
    filed = asked.told.total if asked.told is not None else None
    if total is None and filed is not None:
        _filed_batch(asked, mesh, filed)
    if total is None:
        return
    wanted = parse_integer(total, "--global-batch")
    each = int(asked.batch) * mesh.dp
    if asked.origins.get("grad_accum") == "default" and wanted % each == 0:
        asked.accumulate = asked.values["grad_accum"] = mesh.micro_batches = wanted // each
        return
    if each * asked.accumulate != wanted:
        raise InputError(
            f"--global-batch {wanted} contradicts micro-batch {asked.batch} x grad-accum "
            f"{asked.accumulate} x dp {mesh.dp}, which is {each * asked.accumulate}.",
            f"Use --global-batch {each * asked.accumulate}, or another --micro-batch or --grad-accum.",
        )


def _filed_batch(asked: Any, mesh: Mesh, wanted: int) -> None:
    """A file's batch of all GPUs, from which DeepSpeed works out what else is not said."""
    name, unsaid = asked.told.name, {"default", f"--like {asked.like}"}
    lacks = {key for key in ("micro_batch", "grad_accum") if asked.origins[key] in unsaid}
    remedy = f"Make train_batch_size {int(asked.batch) * mesh.dp * asked.accumulate}, or leave it out."
    if "micro_batch" in lacks:
        each = wanted // (mesh.dp * (1 if "grad_accum" in lacks else asked.accumulate))
        asked.batch = asked.values["micro_batch"] = each
        asked.origins["micro_batch"] = name
    elif "grad_accum" in lacks:
        asked.accumulate = asked.values["grad_accum"] = wanted // (int(asked.batch) * mesh.dp)
        asked.origins["grad_accum"] = name
    mesh.micro_batches = asked.accumulate
    made = int(asked.batch) * mesh.dp * asked.accumulate
    if not made or made != wanted:
        raise InputError(
            f"train_batch_size {wanted} of {name} contradicts micro-batch {asked.batch} x accumulation "
            f"{asked.accumulate} x {mesh.dp} GPUs, which is {made}.",
            remedy if made else f"Make it a multiple of the {mesh.dp} GPUs.",
        )


def _sharding(asked: Any, given: dict[str, Any]) -> tuple[Callable[[Any], Any], str]:
    """What makes the way of sharing for one class of ranks, and what it is called."""
    from llmcalc.memory.training.parallel.sharding import DistributedOptimizer, Sharding

    if asked.policy is not None:
        from llmcalc.memory.training.parallel.flat import FlatShard
        from llmcalc.memory.training.parallel.fsdp import FullyShard

        kind = FlatShard if asked.policy.version == 1 else FullyShard
        repeats = 1 < asked.policy.degree < asked.mesh.replicas
        return lambda asked: kind(asked.policy), "hsdp" if repeats else asked.policy.name.lower()
    if asked.zero is not None:
        from llmcalc.memory.training.parallel.zero import zero_sharding

        return lambda asked: zero_sharding(asked.zero), f"ZeRO-{asked.zero.stage}"
    zero = int(one_word(given["zero"] or 0, ("0", "1", "2", "3"), "--zero"))
    if asked.implementation == "megatron":
        if given["zero"] is None:
            zero = 1
        if zero > 1:
            raise InputError(
                f"--zero {zero}: Megatron's distributed optimizer shares masters and states, which is 1.",
                "Use --zero 1, or another --recipe.",
            )
        return lambda asked: DistributedOptimizer(
            zero == 1
        ), "distributed optimizer" if zero else "replicated"
    if asked.mesh.replicas == 1:
        return lambda asked: Sharding(), ""
    from llmcalc.memory.training.parallel.ddp import DataParallel

    silent = str(given["grad_sync"] or "last").strip().lower() != "each"
    return lambda asked: DataParallel(asked.bucket_views, silent), "ddp"
