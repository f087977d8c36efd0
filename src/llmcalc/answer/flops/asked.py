"""What was asked about operations: keywords resolved and checked, defaults included."""

from __future__ import annotations

from typing import Any

from llmcalc.answer.numbers import real, share, word
from llmcalc.catalog import Catalog
from llmcalc.compute.counting import CONVENTIONS
from llmcalc.compute.ops import MASKS, PHASES, Work, has_towers
from llmcalc.compute.peaks import PRECISIONS, Accelerator, accelerators
from llmcalc.errors import InputError, Problems
from llmcalc.formula import is_array
from llmcalc.model.inventory import Inventory
from llmcalc.units import MAX_TOKENS, parse_count, parse_integer, parse_length

DEFAULT_CONTEXT = 8192
RECOMPUTE = ("none", "selective", "full")
METHODS = ("full", "lora", "qlora")
HEADS = ("all", "last", "none")
RATES = ("throughput", "tflops", "mfu", "hfu")
"""Ways to state a speed; one of them."""


class Asked:
    """Resolved inputs of a question about operations.

    Attributes
    ----------
    phase, mask, head, recompute, method, by, precision : str
        As in the options.
    context, tokens, sequences : int
        Tokens of a sequence; of the whole run, or None; sequences of a step. [tokens], [-]
    gpus : list of Accelerator
        As named.
    rate : tuple of (str, float) or None
        A speed: how it was stated, and its value.
    convention : str
        What a stated MFU, HFU or TFLOP/s counts by.
    """

    def __init__(self) -> None:
        self.phase, self.mask, self.head = "train", "causal", "all"
        self.recompute, self.method, self.by, self.precision = "none", "full", "part", "bf16"
        self.context: Any = DEFAULT_CONTEXT
        self.tokens: int | None = None
        self.sequences = 1
        self.encoder: Any = 0
        self.image: Any = 0
        self.mtp = self.embedding = False
        self.rank, self.targets = 16, "all-linear"
        self.adapters: dict[tuple[str, str, str], int] | None = None
        self.gpus: list[Accelerator] = []
        self.rate: tuple[str, float] | None = None
        self.convention = "exact"
        self.notes: list[str] = []
        self.element = 2.0

    def work(self, phase: str = "", sequence: Any = None) -> Work:
        """What is run once, in a phase of its own if named."""
        phase = phase or self.phase
        head = self.head if phase == self.phase else "all" if phase == "train" else "last"
        return Work(
            phase, self.context if sequence is None else sequence, self.mask, head, self.encoder, self.image,
            self.mtp, self.adapters, self.embedding,
        )  # fmt: skip

    @property
    def per_pass(self) -> Any:
        """Tokens that one pass over a sequence makes or reads. [tokens]"""
        return 1 if self.phase == "decode" else self.context


def resolve(inventory: Inventory, book: Catalog, given: dict[str, Any]) -> Asked:
    """Check keywords against the model, telling all mistakes together."""
    asked, problems = Asked(), Problems()
    for name, allowed in (
        ("phase", PHASES), ("mask", MASKS), ("recompute", RECOMPUTE), ("method", METHODS),
        ("by", ("part", "role")), ("precision", PRECISIONS), ("convention", tuple(CONVENTIONS)),
    ):  # fmt: skip
        with problems:
            if given[name] is not None:
                setattr(asked, name, word(given[name], allowed, f"--{name}"))
    asked.head = "all" if asked.phase == "train" else "last"
    with problems:
        if given["head"] is not None:
            asked.head = word(given["head"], HEADS, "--head")
    with problems:
        asked.context = _context(inventory, given)
    with problems:
        if given["tokens"] is not None:
            asked.tokens = parse_count(given["tokens"], "--tokens")
    with problems:
        if given["sequences"] is not None:
            asked.sequences = parse_integer(given["sequences"], "--sequences")
    with problems:
        if given["lora_r"] is not None:
            asked.rank = parse_integer(given["lora_r"], "--lora-r")
    with problems:
        _streams(asked, inventory, given)
    asked.mtp, asked.embedding = bool(given["mtp"]), bool(given["embedding"])
    with problems:
        _together(asked, inventory, given)
    with problems:
        if given["gpu"] is not None:
            asked.gpus = accelerators(given["gpu"], book, asked.precision)
    with problems:
        _rate(asked, inventory, given)
    problems.check()
    return asked


def _context(inventory: Inventory, given: dict[str, Any]) -> Any:
    value = given["context"]
    if value is None:
        return min(inventory.context or DEFAULT_CONTEXT, DEFAULT_CONTEXT)
    if is_array(value):
        from llmcalc.demand.context import array_of

        return array_of(value, "--context", MAX_TOKENS).astype(float)  # operations outgrow 64 bits
    tokens = parse_length(value)
    if inventory.context and tokens > inventory.context and not given["allow_overlong"]:
        raise InputError(
            f"--context {tokens:,} is above the limit of {inventory.name}: {inventory.context:,}.",
            "Use at most that, or add --allow-overlong.",
        )
    return tokens


def _streams(asked: Asked, inventory: Inventory, given: dict[str, Any]) -> None:
    """Tokens of the encoder and of images."""
    encodes = any(group.component == "encoder" for group in inventory.groups)
    crossing = any(cache.kind == "cross" for group in inventory.groups for cache in group.caches)
    for name, there in (("encoder_tokens", encodes), ("image_tokens", crossing and not encodes)):
        option = f"--{name.replace('_', '-')}"
        if given[name] is not None and not there:
            raise InputError(f"{inventory.name} has no layers that read {option}.", f"Leave {option} out.")
    if encodes:
        known = inventory.streams.get("encoder")
        stated = given["encoder_tokens"]
        asked.encoder = known or asked.context if stated is None else parse_length(stated, "--encoder-tokens")
        if stated is None and not known:
            asked.notes.append(
                "The encoder is taken to read as many tokens as the decoder: --encoder-tokens."
            )
    if given["image_tokens"] is not None:
        asked.image = parse_length(given["image_tokens"], "--image-tokens")
    latent = any(cache.kind == "latent" for group in inventory.groups for cache in group.caches)
    if latent and asked.phase == "decode":
        asked.notes.append("Latent attention decodes on the latent itself (absorbed), as engines do.")
    if has_towers(inventory):
        asked.notes.append("Text alone: towers for images or sound are not counted.")


def _together(asked: Asked, inventory: Inventory, given: dict[str, Any]) -> None:
    """What goes only with training, and what an adapter stands on."""
    if asked.phase != "train":
        usual = {"recompute": "none", "method": "full"}
        for name in ("recompute", "method", "lora_r", "lora_targets"):
            if given[name] not in (None, usual.get(name)):
                option = f"--{name.replace('_', '-')}"
                raise InputError(f"{option} is for training.", "Leave it out, or use --phase train.")
    lora = [name for name in ("lora_r", "lora_targets") if given[name] is not None]
    if asked.method == "full":
        if lora:
            option = f"--{lora[0].replace('_', '-')}"
            raise InputError(f"{option} is for adapters.", "Add --method lora.")
        return
    if inventory.is_opaque:
        raise InputError("--method lora needs the model's matrices.", "Name a model or its config.json.")
    from llmcalc.memory.training.targets import find_targets

    asked.targets = given["lora_targets"] or asked.targets
    asked.adapters = dict.fromkeys(find_targets(inventory, asked.targets), asked.rank)


def _rate(asked: Asked, inventory: Inventory, given: dict[str, Any]) -> None:
    """The one speed that is stated, and what it needs."""
    stated = [name for name in RATES if given[name] is not None]
    if not stated:
        if given["convention"] is not None:
            raise InputError(
                "--convention tells how a stated speed was counted.", "Add --mfu, --hfu or --tflops."
            )
        return
    if len(stated) > 1:
        told = " and ".join(f"--{name}" for name in stated)
        raise InputError(f"{told} state one speed twice.", "Give one of them.")
    name = stated[0]
    if asked.phase != "train":
        raise InputError(f"--{name} compares conventions of training.", "Leave --phase out.")
    if asked.method != "full":
        raise InputError(f"--{name}: the conventions are of full training.", "Leave --method out.")
    if inventory.is_opaque and asked.convention not in ("exact", "6nd"):
        raise InputError(
            f"--convention {asked.convention} needs the model's shape.", "Name a model or its config.json."
        )
    if inventory.is_opaque:
        asked.convention = "6nd"  # a bare count has nothing else
    if not asked.gpus:
        raise InputError(
            f"--{name} needs the GPU whose peak it is held against.", "Add --gpu, such as 8xh100."
        )
    if len(asked.gpus) > 1:
        raise InputError(f"--{name} was measured on one kind of GPU.", "Name one with --gpu.")
    gpu = asked.gpus[0]
    if gpu.peak is None:
        raise InputError(
            f"The catalog has no {asked.precision} peak of {gpu.name}.",
            "Use another --precision, or put the peak in a catalog of your own: tflops_dense.",
        )
    if name in ("mfu", "hfu"):
        asked.rate = name, share(given[name], f"--{name}", name.upper())
        return
    value = real(given[name], f"--{name}", "2500" if name == "throughput" else "400")
    if name == "tflops" and value * 1e12 > gpu.peak:
        raise InputError(
            f"--tflops {value:g} is above the peak of {gpu.name}: {gpu.peak / 1e12:g} in {asked.precision}.",
            "It is per GPU. Use --precision fp8 if that is what ran.",
        )
    asked.rate = name, value
