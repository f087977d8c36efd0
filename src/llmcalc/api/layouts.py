"""`llmcalc.layouts`: all layouts of a model on a number of GPUs, as one table."""

from __future__ import annotations

from inspect import signature
from typing import Any

from llmcalc.answer.training.ask import train
from llmcalc.answer.training.asked import KEYWORDS
from llmcalc.answer.training.layout_space import Space, space_of
from llmcalc.answer.training.layouts import Search, several
from llmcalc.answer.training.report import bytes_told, how_told, size_told
from llmcalc.answer.training.settings import as_word
from llmcalc.answer.training.understood import understand
from llmcalc.catalog import Catalog
from llmcalc.errors import InputError, did_you_mean
from llmcalc.formula import is_array
from llmcalc.hardware import Device, parse_gpus
from llmcalc.report import Call
from llmcalc.report.layouts import LayoutTable
from llmcalc.units import parse_bytes, parse_integer

TOP = 20
"""Rows of a table. [-]"""

SEARCHED = ("tp", "pp", "vpp", "cp", "ep", "etp", "dp", "micro_batch", "recompute", "zero")
"""Keywords that may name several values with commas."""


def layouts(
    model: Any = None,
    *,
    params: Any = None,
    config: Any = None,
    assume: str | None = None,
    catalog: Any = None,
    gpu: Any = None,
    reserve: Any = None,
    top: Any = None,
    **settings: Any,
) -> LayoutTable:
    """Every layout of a model on a number of GPUs that holds its training step, the best first.

    Parameters
    ----------
    model, params, config, assume, catalog
        The model, as in `train`: with layers, not a bare count.
    gpu : str
        The cluster: ``64xh100-80gb``.
    reserve : int or str
        Memory that others use on each GPU; 0. [B]
    top : int
        Rows that tables show; 20. JSON and `found` have all. [-]
    **settings
        Others of `train`. What is given stays as it is: degrees (`tp`, `pp`, `vpp`, `cp`, `ep`, `etp`, `dp`),
        `sequence_parallel`, `zero` or `fsdp`, `micro_batch`, `recompute`; each may name several values with
        commas. What is not given is tried: tensor ranks up to the 8 GPUs of a machine, stages up to the
        layers, chunks of a stage (Megatron and torchtitan) up to 8, context ranks for sequences of 32,768
        tokens and more, expert ranks of experts, micro-batches of 1, 2, 4 and 8 sequences, recomputation of
        nothing, of attention and of all, and the recipe's ways of sharing states. Of a step there are
        `global_batch` sequences, one for each GPU unless that or `grad_accum` is given.

    Returns
    -------
    LayoutTable
        ``found`` has a row for each layout: its ``mesh``, ``total``, range and ``verdict``.

    Raises
    ------
    LlmcalcError
        With what is wrong, or why not one layout is allowed.

    Notes
    -----
    Figures are those that `train` tells of the same layout, to the byte.

    Examples
    --------
    The fewest tensor ranks that hold Llama-2-70B on 64 GPUs of 80 GiB without a bubble:

    >>> found = layouts("llama-2-70b", gpu="64xh100-80gb", like="megatron", global_batch=512)
    >>> found.verdict, found.shown[0].mesh.pp, found.shown[0].mesh.tp
    ('fits', 1, 8)
    """
    asked = {key: value for key, value in locals().items() if key != "settings"} | settings
    settings = _known(settings)
    files = [catalog] if isinstance(catalog, str) else catalog or ()
    book = catalog if isinstance(catalog, Catalog) else Catalog(files)
    number = TOP if top is None else parse_integer(top, "--top")
    device = _cluster(gpu, reserve, book)
    given = dict.fromkeys(KEYWORDS) | {key: as_word(key, value) for key, value in settings.items()}
    given["gpu"], given["reserve"] = f"{device.count}x{device.name}", None
    neutral = {key: None if key in OPEN or several_of(key, given[key]) else given[key] for key in given}
    inventory, _, _ = understand(model, params, config, assume, book, neutral | {"gpu": None}, None, None)
    _refuse(inventory, given)
    search = Search(inventory, book, given, device)
    base = search.resolved()
    if any(is_array(value) for value in (base.seq, base.choice.rank)):
        raise InputError("--layouts takes single numbers for lengths and ranks.", "Give one of each.")
    space = space_of(base, given, inventory, search.gpus)
    made = LayoutTable(search.rows(space), device, number)
    made.refused, made.refine = search.refused, search.refine
    _describe(made, inventory, base, space)
    made.given = {
        **{key: value for key, value in asked.items() if key != "top"},
        **{key: None for key in SEARCHED if several(given[key])},
    }
    made.sign(Call("layouts", asked), book)
    return made


OPEN = (
    "tp", "pp", "vpp", "cp", "ep", "etp", "dp", "sequence_parallel", "stage_layers", "schedule",
    "global_batch", "zero", "fsdp", "deepspeed", "accelerate", "reshard_after_forward", "shard_degree",
    "reduce_dtype", "capacity_factor", "imbalance", "cp_comm", "fsdp_units", "grad_sync",
)  # fmt: skip
"""Keywords that mean something on several GPUs alone."""


def _known(settings: dict[str, Any]) -> dict[str, Any]:
    """Keywords of a step; others are refused where they are given."""
    for key, value in settings.items():
        if key in KEYWORDS or value is None or value is False:
            continue
        if key in signature(train).parameters:
            raise InputError(
                f"--{key.replace('_', '-')} is about more than the plain step that --layouts searches.",
                "Leave it or --layouts out.",
            )
        near = did_you_mean(key, KEYWORDS, 1)
        hint = f"Did you mean {near[0]}? " if near else ""
        raise InputError(f"layouts() knows no keyword {key!r}.", f"{hint}It takes those of train().")
    return {key: value for key, value in settings.items() if key in KEYWORDS}


def several_of(key: str, value: Any) -> bool:
    """Whether a searched keyword names several values."""
    return key in SEARCHED and several(value)


def _cluster(gpu: Any, reserve: Any, book: Catalog) -> Device:
    """The GPUs, all of one type and more than one."""
    remedy = "Name them with their number, as in --gpu 64xh100-80gb."
    if gpu is None:
        raise InputError("--layouts needs the GPUs that a layout is for.", remedy)
    devices = parse_gpus(gpu, book)
    if len(devices) > 1:
        raise InputError("--layouts takes GPUs of one type, and --gpu names several.", remedy)
    if (devices[0].count or 1) < 2:
        raise InputError("--layouts is about several GPUs, and --gpu names one.", remedy)
    less = parse_bytes(reserve, "--reserve") if reserve is not None else 0
    device = devices[0].less(less)
    if device.usable_bytes <= 0:
        raise InputError(f"--reserve leaves nothing of {device.name}.", "Reserve less, or name a larger GPU.")
    return device


def _refuse(inventory: Any, given: dict[str, Any]) -> None:
    if inventory.is_opaque:
        raise InputError(
            "--layouts needs a model with layers, not a bare count.", "Name a model or its config.json."
        )
    for key in ("reference", "teacher"):
        if given[key] is not None:
            raise InputError(
                f"--{key}: --layouts counts no frozen model beside the trained one.",
                f"Leave --{key} out, or ask of one layout.",
            )


def _describe(made: LayoutTable, inventory: Any, asked: Any, space: Space) -> None:
    """Heading, scenario, and what was tried."""
    batch = space.global_batch
    made.model = {
        "name": inventory.name,
        "params": inventory.params,
        "active_params": inventory.active_params,
        "stored_params": inventory.stored_params,
        "source": inventory.source,
    }
    made.scenario = {
        "method": asked.method,
        "precision": asked.recipe.name,
        "optimizer": asked.optimizer.name,
        "context": int(asked.seq),
        "global_batch": batch,
        "grad_accum": None if batch else asked.accumulate,
        "recipe": asked.implementation,
        "attention": asked.attention,
        "loss": asked.loss,
        "metric": asked.metric,
        "like": asked.like,
        "gpu": made.device.name,
        "gpus": made.gpus,
    }
    made.searched = {
        "tp": list(space.tp), "pp": list(space.pp), "cp": list(space.cp), "ep": list(space.ep),
        "sequence_parallel": list(space.parallel), "sharing": [dict(one) for one in space.sharings],
        "micro_batch": list(space.batches), "recompute": list(space.recompute),
        "vpp": sorted({row.mesh.vpp for row in made.found}),
    }  # fmt: skip
    steps = f"{batch:,} sequences a step" if batch else f"{asked.accumulate:,} micro-batches a step"
    made.header = [
        inventory.title, f"{size_told(inventory)} params", how_told(asked),
        f"{asked.recipe.name}: {bytes_told(asked)}", asked.optimizer.name, f"{int(asked.seq):,} tokens",
        steps, f"{asked.attention} attention", f"{asked.loss} loss", asked.implementation,
        f"{made.gpus:,} x {made.device.name}",
    ]  # fmt: skip
    made.warnings = [*space.notes, *asked.notes, *inventory.warnings]
