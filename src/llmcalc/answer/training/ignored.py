"""What a training step would ignore is refused: options of adapters without any, of ranks that are one."""

from __future__ import annotations

from typing import Any

from llmcalc.answer.training.words import flag
from llmcalc.errors import InputError

ADAPTER_KEYS = ("lora_r", "lora_targets", "adapter_dtype", "lora_dropout", "rslora")
"""Keywords of adapters."""

BARE = ("full", "freeze", "prompt", "prefix")
"""Methods without adapters."""


def refuse_ignored(method: str, given: dict[str, Any]) -> None:
    """Refuse options that would do nothing.

    Raises
    ------
    InputError
        With the method that knows the option.
    """
    own = next((key for key in ADAPTER_KEYS if given[key] is not None and given[key] is not False), None)
    if own is not None and method in BARE:
        option = f"--{own.replace('_', '-')}"
        raise InputError(
            f"{option} is for adapters; --method {method} has none.",
            f"Add --method lora, or leave {option} out.",
        )
    if method == "qlora" and str(given["quant"] or "").lower() == "none":
        raise InputError("--method qlora without a quantized base is lora.", "Use --method lora.")


OF_REPLICAS = (
    "grad_sync",
    "bucket_views",
    "reduce_dtype",
    "shard_degree",
    "fsdp_units",
    "reshard_after_forward",
)
"""Keywords of how several replicas share or sum states."""


def refuse_idle(asked: Any, inventory: Any, given: dict[str, Any]) -> None:
    """Refuse options about several ranks, stages or experts where there is one or none.

    Raises
    ------
    InputError
        With what would give the option a meaning.
    """
    mesh = asked.mesh
    named = {key for key, value in given.items() if value is not None and value is not False}
    if inventory.layers and not inventory.routed_params:
        _idle(named & {"capacity_factor", "imbalance"}, f"{inventory.name} has no experts.", "")
        if mesh is not None and "etp" in named and mesh.etp != mesh.tp:
            _idle({"etp"}, f"{inventory.name} has no experts.", "")
    if mesh is None or mesh.cp == 1:
        _idle(named & {"cp_comm"}, "there is one context rank.", "Add --cp 2, or leave")
    parallel = given["sequence_parallel"]
    if parallel is not None and flag(parallel, "--sequence-parallel") and (mesh is None or mesh.tp == 1):
        _idle({"sequence_parallel"}, "there is one tensor rank.", "Add --tp 2, or leave")
    if mesh is None and given["fsdp"] is None:
        _idle(named & set(OF_REPLICAS), "there is one GPU.", "Add --gpu 8xNAME or --dp, or leave")
    elif mesh is not None and "grad_sync" in named and asked.policy is None:
        own = (
            "DeepSpeed"
            if asked.zero is not None
            else "Megatron"
            if asked.implementation == "megatron"
            else ""
        )
        if own:
            _idle({"grad_sync"}, f"{own} decides when gradients are summed.", "")
        elif mesh.replicas == 1:
            _idle({"grad_sync"}, "there is one replica.", "Add --dp 2, or leave")


def _idle(keys: set[str], why: str, remedy: str) -> None:
    for key in sorted(keys):
        option = f"--{key.replace('_', '-')}"
        raise InputError(f"{option} would change nothing: {why}", f"{remedy or 'Leave'} {option} out.")
