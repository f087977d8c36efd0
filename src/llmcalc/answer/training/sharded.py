"""FSDP's settings: keywords turned into how a model is shared."""

from __future__ import annotations

from typing import Any

from llmcalc.answer.training.words import flag, one_word
from llmcalc.errors import InputError
from llmcalc.memory.training.parallel.mesh import Mesh
from llmcalc.memory.training.parallel.units import WRAPS, Policy
from llmcalc.units import parse_integer, shown

OFF = ("0", "off", "none", "false", "no")
OF_FSDP = ("reshard_after_forward", "shard_degree", "reduce_dtype", "fsdp_units")
REDUCED = {"fp32": 4, "float32": 4, "bf16": 2, "bfloat16": 2, "fp16": 2, "float16": 2}


def version_of(value: Any) -> int:
    """Which FSDP, 0 for none.

    Examples
    --------
    >>> version_of("2"), version_of(None), version_of("off")
    (2, 0, 0)
    """
    word = str(value if value is not None else "off").strip().lower().removeprefix("fsdp")
    if word in OFF:
        return 0
    if word in ("1", "2", "on", "true", "yes", ""):
        return int(word) if word in ("1", "2") else 2
    raise InputError(f"--fsdp {shown(value)} is not known.", "Use 2, 1 or off.")


def fsdp_policy(asked: Any, given: dict[str, Any], mesh: Mesh) -> Policy | None:
    """How FSDP shares the model; None without it.

    Raises
    ------
    InputError
        If an option means nothing, or the precision keeps copies that FSDP has not.
    """
    titan = asked.implementation == "torchtitan"
    version = version_of(given["fsdp"])
    if given["fsdp"] is None and titan and mesh.replicas > 1:
        version = 2
    if not version:
        for key in OF_FSDP:
            if given[key] is not None:
                option = f"--{key.replace('_', '-')}"
                raise InputError(f"{option} is for FSDP.", f"Add --fsdp 2, or leave {option} out.")
        return None
    recipe = asked.recipe
    if recipe.master or recipe.persistent:
        raise InputError(
            f"--precision {recipe.name} keeps fp32 copies in buffers, which FSDP has not.",
            "Use --precision bf16-mixed: FSDP's shards are then in fp32.",
        )
    reshard = _reshard(given["reshard_after_forward"], mesh)
    units = given["fsdp_units"]
    policy = Policy(
        version, recipe, recipe.autocast, _degree(given["shard_degree"], mesh),
        _reduced(given["reduce_dtype"], recipe.autocast), reshard,
        wrap="layers" if units is None else one_word(units, WRAPS, "--fsdp-units"),
        outside=titan or asked.implementation == "torchtune",
        whole_gradients=mesh.pp > 1 or _whole(given["grad_sync"]),
        offload="params" in asked.offload, keeps_last=titan,
    )  # fmt: skip
    return policy


def views_of(asked: Any, given: dict[str, Any]) -> bool:
    """Whether DDP's gradients are views of its buckets."""
    value = given["bucket_views"]
    if value is None:
        return False
    if asked.implementation == "megatron" or version_of(given["fsdp"]) or given["zero"]:
        raise InputError(
            "--bucket-views is for gradients that every rank holds whole (DDP).",
            "Leave --bucket-views out.",
        )
    return flag(value, "--bucket-views")


def _whole(value: Any) -> bool:
    return value is not None and one_word(value, ("each", "last"), "--grad-sync") == "last"


def _degree(value: Any, mesh: Mesh) -> int:
    """GPUs that share one copy. [-]"""
    if value is None:
        return mesh.replicas
    degree = parse_integer(value, "--shard-degree", 1 << 20)
    if mesh.replicas % degree:
        raise InputError(
            f"--shard-degree {degree} does not divide the {mesh.replicas} ranks that hold the same weights.",
            f"Use a divisor of {mesh.replicas}.",
        )
    return degree


def _reduced(value: Any, mixed: bool) -> int | None:
    """Bytes of an element as gradients are summed. [B]"""
    if value is None:
        return 4 if mixed else None
    word = str(value).strip().lower()
    if word in REDUCED:
        return REDUCED[word]
    raise InputError(f"--reduce-dtype {shown(value)} is not known.", "Use fp32, bf16 or fp16.")


def _reshard(value: Any, mesh: Mesh) -> bool | int:
    """Whether layers are let go; of a pipeline they are not unless that is asked for."""
    if value is None:
        return mesh.pp == 1
    if not isinstance(value, bool) and str(value).strip().isdigit() and int(str(value)) > 1:
        number = int(str(value))
        if mesh.replicas % number:
            raise InputError(
                f"--reshard-after-forward {number} does not divide {mesh.replicas} ranks.",
                f"Use on, off or a divisor of {mesh.replicas}.",
            )
        return number
    return flag(value, "--reshard-after-forward")


__all__ = ["OF_FSDP", "fsdp_policy", "version_of", "views_of"]
