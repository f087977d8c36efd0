"""Single settings of a training step whose words need more than a list."""

from __future__ import annotations

from typing import Any

from llmcalc.answer.training.words import one_word
from llmcalc.catalog import Catalog
from llmcalc.errors import InputError, one_of
from llmcalc.memory.training.optimizers import find_optimizer
from llmcalc.memory.training.plan import CORE, MODULES
from llmcalc.units import parse_integer


def read_recompute(value: Any) -> str | int:
    """What is computed again: a word, or N of every-N."""
    if isinstance(value, bool):
        return "full" if value else "none"
    word = str(value).strip().lower()
    if word in ("none", "selective", "ops", "full"):
        return word
    start, _, number = word.partition("-")
    number = word if word.isdigit() else number
    if (start == "every" or word.isdigit()) and number.isdigit() and int(number) > 0:
        return "full" if int(number) == 1 else int(number)
    if start == "first" and number.isdigit() and int(number) > 0:
        return f"first-{int(number)}"
    raise InputError(
        f"--recompute {word[:40]!r} is not known.", "Use none, selective, ops, full, every-N or first-N."
    )


def read_modules(value: Any, recompute: str | int) -> frozenset[str]:
    """Parts of a layer that are recomputed."""
    if value is None:
        return CORE
    if recompute != "selective":
        raise InputError(
            f"--recompute-modules goes with --recompute selective, not {recompute}.",
            "Use --recompute selective.",
        )
    words = value.replace("+", ",").split(",") if isinstance(value, str) else list(value)
    return frozenset(one_word(str(word).replace("-", "_"), MODULES, "--recompute-modules") for word in words)


def read_keeps_inputs(version: Any) -> bool:
    """Whether a release of bitsandbytes keeps the inputs of 4-bit linears for backward: until 0.43.1."""
    if version is None:
        return False
    parts = str(version).strip().removeprefix("v").split(".")
    if not all(part.isdigit() for part in parts):
        raise InputError(
            f"--bitsandbytes {str(version)[:20]!r} is no release.", "Use a number such as 0.41.1."
        )
    return tuple(map(int, parts)) < (0, 43, 2)


OFFLOADS = ("optimizer", "gradients", "params", "activations")


def read_offload(away: Any) -> frozenset[str]:
    """What lies on the host: words of a list, with commas or plus signs."""
    if away is not None and not isinstance(away, (str, list, tuple, set, frozenset)):
        raise InputError(f"--offload is {away!r}.", f"Use {one_of(OFFLOADS)}, or several with commas.")
    parts = away.replace("+", ",").split(",") if isinstance(away, str) else list(away or ())
    return frozenset(
        one_word(word, OFFLOADS, "--offload") for word in parts if str(word).strip() not in ("", "none")
    )


SWITCHES = (
    "padded",
    "keep_logits",
    "compile",
    "kbit_upcast",
    "wide_embedding",
    "untied_head",
    "longest_first",
    "expandable_segments",
)
"""Settings that a preset may turn on, so that off has to be said."""


def as_word(key: str, value: Any) -> Any:
    """On and off as words, which a shell takes too."""
    return ("on" if value else "off") if key in SWITCHES and isinstance(value, bool) else value


def settle_optimizer(asked: Any, book: Catalog, given: dict[str, Any]) -> None:
    """Look the optimizer up, with its rank where it projects to one."""
    rank = given["optimizer_rank"]
    rank = None if rank is None else parse_integer(rank, "--optimizer-rank")
    values = asked.values
    asked.optimizer = find_optimizer(values["optimizer"], book, rank, bool(values["wide_embedding"]))
    if rank is not None and not asked.optimizer.takes_rank:
        raise InputError(f"{asked.optimizer.name} projects to no rank.", "Leave --optimizer-rank out.")
