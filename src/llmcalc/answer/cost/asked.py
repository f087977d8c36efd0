"""What was asked of a run's cost: keywords resolved and checked, defaults included."""

from __future__ import annotations

from typing import Any

from llmcalc.answer.cost.money import Price, find_price
from llmcalc.answer.numbers import real, share, word
from llmcalc.catalog import Catalog
from llmcalc.compute.counting import CONVENTIONS
from llmcalc.compute.peaks import PRECISIONS, Accelerator, accelerators
from llmcalc.errors import InputError, Problems
from llmcalc.model.inventory import Inventory
from llmcalc.units import parse_count, parse_integer, parse_length

METHODS = ("full", "lora", "qlora")
RECOMPUTE = ("none", "selective", "full")
TUNING = ("examples", "epochs", "batch", "steps")
SERVING = ("samples", "reasoning_tokens", "output", "requests", "busy")
TRAINING = (
    *TUNING, "mfu", "hfu", "goodput", "pp", "micro_batches", "vpp", "days", "checkpoints", "unique",
    "recompute", "convention",
)  # fmt: skip
OF_GPUS = (
    "days", "mfu", "hfu", "goodput", "pp", "micro_batches", "vpp", "tdp_share", "pue", "carbon", "price",
    "currency",
)  # fmt: skip
"""What says nothing about a training run whose GPUs are not named."""

DEFAULT_CONTEXT = 2048
"""Tokens of an example that is fine-tuned on, where nobody says; of pre-training the model's limit counts."""

SHIPPED = 3_760_000
"""Data-center GPUs that NVIDIA shipped in 2023, as TechInsights counts (2024): no run can have more. [-]"""

LARGEST = 200_000
"""GPUs of the largest clusters of one site that are told of. [-]"""


class Asked:
    """Resolved inputs of a question about cost.

    Attributes
    ----------
    tokens : int or None
        Of the whole run. [tokens]
    steps, batch : int or None
        Optimizer steps, and sequences of one. [-]
    context : int
        Tokens of a sequence. [tokens]
    gpu : Accelerator or None
        With its number.
    days : float or None
        A deadline. [d]
    mfu, hfu, goodput : float or None
        As stated. [-]
    serving : bool
        Whether it is about inference at a stated throughput.
    """

    def __init__(self) -> None:
        self.tokens: int | None = None
        self.steps: int | None = None
        self.examples: int | None = None
        self.epochs = 1.0
        self.batch: int | None = None
        self.context = DEFAULT_CONTEXT
        self.gpu: Accelerator | None = None
        self.days: float | None = None
        self.mfu: float | None = None
        self.hfu: float | None = None
        self.goodput: float | None = None
        self.precision, self.convention, self.recompute, self.method = "bf16", "6nd", "none", "full"
        self.rank, self.targets = 16, "all-linear"
        self.pp, self.micro_batches, self.vpp = 1, None, 1
        self.share, self.pue = 1.0, 1.1
        self.carbon: float | None = None
        self.price: Price | None = None
        self.checkpoints = 1
        self.unique: int | None = None
        self.active: int | None = None
        self.serving = False
        self.throughput = 0.0
        self.samples, self.reasoning, self.output = 1, 0, 0
        self.requests: int | None = None
        self.busy = 1.0
        self.stated: set[str] = set()


def resolve(inventory: Inventory, book: Catalog, given: dict[str, Any]) -> Asked:
    """Check keywords against the model, telling all mistakes together."""
    asked, problems = Asked(), Problems()
    asked.stated = {name for name, value in given.items() if value is not None and value is not False}
    asked.serving = given["throughput"] is not None
    for name, allowed in (
        ("precision", PRECISIONS), ("convention", tuple(CONVENTIONS)), ("recompute", RECOMPUTE),
        ("method", METHODS),
    ):  # fmt: skip
        with problems:
            if given[name] is not None:
                setattr(asked, name, word(given[name], allowed, f"--{name}"))
    with problems:
        if given["context"] is not None:
            asked.context = parse_length(given["context"])
        elif given["examples"] is None:
            asked.context = min(inventory.context or DEFAULT_CONTEXT, 8192)
    with problems:
        if given["gpu"] is not None:
            found = accelerators(given["gpu"], book, asked.precision)
            if len(found) > 1:
                raise InputError("--gpu names several kinds of GPU.", "Cost is of one kind: name one.")
            asked.gpu = found[0]
    with problems:
        _speed(asked, given)
    with problems:
        _surroundings(asked, given)
    with problems:
        asked.price = find_price(given, asked.gpu, book)
    with problems:
        idle = [f"--{name.replace('_', '-')}" for name in OF_GPUS if given[name] is not None]
        if idle and given["gpu"] is None and not asked.serving:
            raise InputError(
                f"{' and '.join(idle)} need{'s' if len(idle) == 1 else ''} GPUs.",
                "Add --gpu, such as h100 or 1024xh100.",
            )
    with problems:
        (_serving if asked.serving else _work)(asked, inventory, given)
    problems.check()
    return asked


def _speed(asked: Asked, given: dict[str, Any]) -> None:
    """MFU or HFU, goodput, pipeline, deadline."""
    if given["mfu"] is not None and given["hfu"] is not None:
        raise InputError("--mfu and --hfu state one speed twice.", "Give one of them.")
    if given["hfu"] is None and given["recompute"] not in (None, "none"):
        raise InputError(
            "--recompute tells what a stated HFU counts; MFU leaves it out.", "Add --hfu, or leave it out."
        )
    problems = Problems()
    for name, what in (("mfu", "MFU"), ("hfu", "HFU"), ("goodput", "goodput")):
        with problems:
            if given[name] is not None:
                setattr(asked, name, share(given[name], f"--{name}", what))
    for name in ("pp", "micro_batches", "vpp"):
        with problems:
            if given[name] is not None:
                setattr(asked, name, parse_integer(given[name], f"--{name.replace('_', '-')}"))
    with problems:
        if asked.pp > 1 and asked.micro_batches is None:
            raise InputError(f"--pp {asked.pp} has a bubble that depends on the micro-batches of a step.",
                             "Add --micro-batches N.")  # fmt: skip
        if asked.pp == 1 and (asked.micro_batches or asked.vpp > 1):
            raise InputError("--micro-batches and --vpp are of a pipeline.", "Add --pp N, or leave them out.")
    with problems:
        if given["days"] is not None:
            asked.days = real(given["days"], "--days", "30")
    problems.check()


def _surroundings(asked: Asked, given: dict[str, Any]) -> None:
    """Power, building, grid, disk."""
    problems = Problems()
    with problems:
        if given["tdp_share"] is not None:
            asked.share = real(given["tdp_share"], "--tdp-share", "0.8", most=2)
    with problems:
        if given["pue"] is not None:
            asked.pue = real(given["pue"], "--pue", "1.1", most=5)
            if asked.pue < 1:
                raise InputError(
                    f"--pue {asked.pue:g} is below 1: a building takes no less than its machines.",
                    "Use 1.05 to 2, such as 1.1.",
                )
    with problems:
        if given["carbon"] is not None:
            asked.carbon = real(given["carbon"], "--carbon", "385 (g/kWh)", zero=True, most=3000)
    with problems:
        if given["checkpoints"] is not None:
            asked.checkpoints = parse_integer(given["checkpoints"], "--checkpoints")
    with problems:
        if given["unique"] is not None:
            asked.unique = parse_count(given["unique"], "--unique")
    with problems:
        if given["active"] is not None:
            asked.active = parse_count(given["active"], "--active")
    problems.check()


def _work(asked: Asked, inventory: Inventory, given: dict[str, Any]) -> None:
    """How many tokens are trained on."""
    alone = [name for name in SERVING if given[name] is not None]
    if alone:
        option = f"--{alone[0].replace('_', '-')}"
        raise InputError(f"{option} is for serving.", "Add --throughput TOKENS/S, or leave it out.")
    if asked.active is not None and not inventory.is_opaque:
        raise InputError("--active is for a bare count; a named model tells it.", "Leave --active out.")
    if asked.active is not None and asked.active > inventory.params:
        raise InputError(f"--active {asked.active:,} is above all {inventory.params:,} parameters.",
                         "Give what one token uses.")  # fmt: skip
    if asked.method != "full":
        if inventory.is_opaque:
            raise InputError(f"--method {asked.method} needs the model's matrices.",
                             "Name a model or its config.json.")  # fmt: skip
        asked.rank = 16 if given["lora_r"] is None else parse_integer(given["lora_r"], "--lora-r")
        asked.targets = given["lora_targets"] or asked.targets
    elif given["lora_r"] is not None or given["lora_targets"] is not None:
        raise InputError("--lora-r and --lora-targets are for adapters.", "Add --method lora.")
    if inventory.is_opaque and asked.convention != "6nd":
        raise InputError(f"--convention {asked.convention} needs the model's shape.",
                         "Name a model or its config.json, or leave --convention out.")  # fmt: skip
    ways = [name for name in ("tokens", "examples", "steps") if given[name] is not None]
    if len(ways) != 1:
        told = " and ".join(f"--{name}" for name in ways)
        raise InputError(
            f"{told} state the work twice." if ways else "How much is trained on is not said.",
            "Give --tokens 2t, --examples 50k (with --epochs and --context), or --steps (with --batch).",
        )
    if given["batch"] is not None:
        asked.batch = parse_integer(given["batch"], "--batch")
    if given["epochs"] is not None:
        asked.epochs = real(given["epochs"], "--epochs", "3", most=1e6)
    if ways[0] == "tokens":
        asked.tokens = parse_count(given["tokens"], "--tokens")
        if given["epochs"] is not None:
            asked.unique = asked.unique or asked.tokens
            asked.tokens = round(asked.tokens * asked.epochs)
    elif ways[0] == "examples":
        asked.examples = parse_count(given["examples"], "--examples")
        asked.tokens = round(asked.examples * asked.context * asked.epochs)
    else:
        if asked.batch is None:
            raise InputError("--steps needs the sequences of a step.", "Add --batch N.")
        asked.steps = parse_count(given["steps"], "--steps")
        asked.tokens = asked.steps * asked.batch * asked.context


def _serving(asked: Asked, inventory: Inventory, given: dict[str, Any]) -> None:
    """Inference at a stated throughput."""
    alone = [name for name in TRAINING if given[name] is not None]
    if alone:
        option = f"--{alone[0].replace('_', '-')}"
        raise InputError(
            f"{option} is for training; --throughput asks about serving.", f"Leave {option} out."
        )
    asked.throughput = real(given["throughput"], "--throughput", "2500")
    if asked.price is None:
        told = "" if asked.gpu is None else f" of {asked.gpu.name}"
        raise InputError(f"The price{told} is not known.", "Add --gpu NAME, or --price 2.5 (per GPU-hour).")
    if given["samples"] is not None:
        asked.samples = parse_integer(given["samples"], "--samples")
    if given["reasoning_tokens"] is not None:
        asked.reasoning = parse_length(given["reasoning_tokens"], "--reasoning-tokens")
        if given["output"] is None:
            raise InputError(
                "--reasoning-tokens needs the tokens of the answer beside it.", "Add --output N."
            )
    if given["output"] is not None:
        asked.output = parse_length(given["output"], "--output")
    if given["requests"] is not None:
        asked.requests = parse_count(given["requests"], "--requests")
        if not asked.output:
            raise InputError("--requests needs the tokens of an answer.", "Add --output N.")
    if given["tokens"] is not None:
        asked.tokens = parse_count(given["tokens"], "--tokens")
    if given["busy"] is not None:
        asked.busy = share(given["busy"], "--busy", "the busy share")
