"""What is loaded beside a model where no file format of the engine is meant: drafts and adapters."""

from __future__ import annotations

from typing import Any

from llmcalc.errors import InputError, Problems, one_of
from llmcalc.units import parse_integer

HEADS = ("eagle", "eagle3")
"""Drafting heads by their method: a layer shaped like the model's own."""

RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""Ranks that vLLM makes room for (vLLM 0.33.0, config/lora.py). [-]"""

SLOTS = 8
"""Adapters of one batch that SGLang makes room for by default (``--max-loras-per-batch``). [-]"""

MAX_LORAS, MAX_RANK = 10_000, 65_536


class Beside:
    """Drafts and adapters, as asked.

    Attributes
    ----------
    draft : Any
        A model, ``mtp``, ``eagle``, ``eagle3``, or None.
    draft_quant : str or None
        Its scheme.
    ranks : list of int
        Ranks of adapters. [-]
    slots : int
        Adapters that the engine makes room for; 0 where it serves none. [-]
    """

    __slots__ = ("draft", "draft_quant", "ranks", "slots")

    def __init__(self) -> None:
        self.draft: Any = None
        self.draft_quant: str | None = None
        self.ranks: list[int] = []
        self.slots = 0

    @property
    def word(self) -> str:
        """``mtp``, ``eagle`` or ``eagle3`` where the draft is one of these words; else empty."""
        word = self.draft.strip().lower() if isinstance(self.draft, str) else ""
        return {"draft-mtp": "mtp"}.get(word, word) if word in ("mtp", "draft-mtp", *HEADS) else ""

    def to_dict(self) -> dict[str, Any]:
        """For JSON, what was asked."""
        found: dict[str, Any] = {}
        if self.draft is not None:
            name = (
                self.draft.get("_name_or_path", "a configuration")
                if isinstance(self.draft, dict)
                else self.draft
            )
            found |= {"draft": str(getattr(name, "name", name)), "draft_quant": self.draft_quant}
        if self.ranks:
            found |= {"lora": [f"r={rank}" for rank in self.ranks], "max_loras": self.slots}
        return found


def beside_options(engine: str, given: dict[str, Any]) -> Beside:
    """Read drafts and adapters.

    Raises
    ------
    InputError
        With all mistakes together.

    Examples
    --------
    >>> beside_options("vllm", {"max_loras": 4, "max_lora_rank": 20}).ranks
    Traceback (most recent call last):
    ...
    llmcalc.errors.InputError: --max-lora-rank 20 is not one of vLLM's ranks.
    Use --max-lora-rank 32, which holds it; there are 1, 8, 16, 32, 64, 128, 256, 320 and 512.
    """
    made, problems = Beside(), Problems()
    with problems:
        made.draft, made.draft_quant = given.get("draft"), given.get("draft_quant")
        if made.draft is None and made.draft_quant is not None:
            raise InputError("--draft-quant is for a draft model.", "Name one: --draft MODEL.")
        if made.word == "mtp" and made.draft_quant is not None:
            raise InputError(
                "The prediction layers of --draft mtp are part of the checkpoint.", "Leave --draft-quant out."
            )
        if isinstance(made.draft, str) and not made.draft.strip():
            raise InputError("--draft is empty.", "Name a model, mtp, eagle or eagle3.")
    with problems:
        made.ranks = _ranks(given.get("lora"))
    with problems:
        _slots(made, engine, given)
    problems.check()
    return made


def _ranks(value: Any) -> list[int]:
    """``--lora r=16``, several times or separated by commas."""
    words = list(value) if isinstance(value, (list, tuple)) else [] if value is None else [value]
    found = []
    for word in (part.strip() for text in words for part in str(text).split(",")):
        mark, _, number = word.partition("=")
        if mark.strip().lower() not in ("r", "rank") or not number:
            raise InputError(
                f"--lora {word[:60]!r} is no rank; adapter files are read for llama.cpp alone.",
                "Give the rank, which adapter_config.json names r: --lora r=16.",
            )
        found.append(parse_integer(number, "--lora r", MAX_RANK))
    return found


def _slots(made: Beside, engine: str, given: dict[str, Any]) -> None:
    """A server's places for adapters: so many, each of the largest rank."""
    if engine not in ("vllm", "sglang"):
        made.slots = len(made.ranks)
        return
    many, rank = given.get("max_loras"), given.get("max_lora_rank")
    if many is None and rank is None and not made.ranks:
        return
    if engine == "sglang":  # it takes any rank, the largest of its adapters where none is named
        most, largest = max(made.ranks, default=0), max(made.ranks, default=16)
        own = largest if rank is None else parse_integer(rank, "--max-lora-rank", MAX_RANK)
        if most > own:
            raise InputError(
                f"--lora r={most} is above --max-lora-rank {own}.", f"Use --max-lora-rank {most}."
            )
        made.slots = parse_integer(SLOTS if many is None else many, "--max-loras", MAX_LORAS)
        made.ranks = [own]
        return
    made.slots = parse_integer(len(made.ranks) or 1 if many is None else many, "--max-loras", MAX_LORAS)
    largest = max(made.ranks, default=16)
    own = parse_integer(rank, "--max-lora-rank", MAX_RANK) if rank is not None else _room(largest)
    if own not in RANKS:
        held = _room(own)
        raise InputError(
            f"--max-lora-rank {own} is not one of vLLM's ranks.",
            f"Use --max-lora-rank {held}, which holds it; there are {one_of([str(n) for n in RANKS], 'and')}."
            if held >= own
            else f"Use {one_of([str(n) for n in RANKS])}.",
        )
    if largest > own:
        raise InputError(
            f"--lora r={largest} is above --max-lora-rank {own}.", f"Use --max-lora-rank {_room(largest)}."
        )
    made.ranks = [own]


def _room(rank: int) -> int:
    """The smallest of vLLM's ranks that holds one; the largest where none does. [-]"""
    found = next((own for own in RANKS if own >= rank), None)
    if found is None:
        raise InputError(
            f"A LoRA rank of {rank} is above vLLM's largest, {RANKS[-1]}.", f"Use {RANKS[-1]} or less."
        )
    return found
