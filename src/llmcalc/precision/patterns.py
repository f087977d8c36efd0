"""Lists of module names in configurations: what is quantized, what is left alone.

Each method matches names in its own way; together they come to four: the name itself or a run of its
parts (``lm_head``, ``mlp.gate``), a glob, a regular expression after ``re:``, the class ``Linear``.
A list comes from somebody else's file, so the work it makes is bounded: names and globs that end in a
star are looked up, all others are counted, and expressions that could backtrack without end are refused.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from fnmatch import translate
from typing import Any

from llmcalc.errors import ConfigError

OTHERS = ("vision", "visual", "audio", "mtp", "embed_vision", "multi_modal", "image")
"""Words before the layers that tell a tower from the language model."""

TOWERS = (*OTHERS, "projector", "patch_merger", "adapter")
"""Words of parts that a text-only configuration lacks."""

NO_MODULE = ("lm_head", "e_score_correction_bias", ".bias", "norm", "norm.weight")
"""How names end that are no module of their own, or none that any method takes."""

LONG_LIST = 50
"""Names of a list that nobody writes by hand."""

MOST_NAMES = 200_000
"""Names of one list: every expert of every layer of the largest models fits several times."""

MOST_PATTERNS = 1_000
"""Globs and expressions of one list, each of which is tried on every module."""

LONGEST = 1_000
"""Characters of one glob or expression."""

NAME = 100
"""Length of a module's name, for what an expression may cost. [characters]"""

STEPS = 50_000_000
"""Steps that matching one name may take: a second or two."""

SECONDS = 2.0
"""CPU time that one list's expressions may take."""


ONE_EXPERT = re.compile(r"experts\\?\.[\d\\(\[?]")
"""A name or pattern with the number of an expert, or what stands for some of them."""


def tail(name: str) -> str:
    """A name from its layers on: what stands before them differs between versions of one model."""
    at = name.find("layers.")
    if at < 0 or any(word in name[:at] for word in OTHERS):
        return name.removeprefix("model.")
    return name[at:]


class Patterns:
    """A list of names and patterns.

    Parameters
    ----------
    stated : iterable of str
        As the configuration has them.
    label : str
        The key they stand under, for errors.

    Examples
    --------
    >>> ignored = Patterns(["lm_head", "re:.*self_attn.*", "model.layers.0*", "mlp.gate"], "ignore")
    >>> ["model.layers.7.mlp.gate" in ignored, "model.layers.7.mlp.gate_proj" in ignored]
    [True, False]
    """

    __slots__ = (
        "expressions", "found", "label", "lengths", "names", "spent", "starts", "tails", "used", "widths",
    )  # fmt: skip

    def __init__(self, stated: Any, label: str) -> None:
        self.label, self.names, self.expressions = label, set[str](), dict[str, re.Pattern[str]]()
        self.used: set[str] = set()
        self.tails: dict[str, str] = {}
        self.starts: dict[str, list[str]] = {}
        self.found: dict[str, frozenset[str]] = {}
        self.spent = 0.0
        self.lengths: set[int] = set()
        listed = [stated] if isinstance(stated, str) else [] if stated is None else stated
        if not isinstance(listed, Iterable) or isinstance(listed, dict):
            raise ConfigError(f"{label} is not a list of names.", "Write it as a list of module names.")
        listed = list(listed)
        if not all(isinstance(one, str) for one in listed):
            raise ConfigError(f"{label} is not a list of names.", "Write it as a list of module names.")
        if len(listed) > MOST_NAMES:
            raise ConfigError(
                f"{label} lists {len(listed):,} names.",
                f"Shorten it to {MOST_NAMES:,} or fewer; a glob such as model.layers.0.* stands for many.",
            )
        for one in dict.fromkeys(listed):
            self._add(one)
            if len(self.expressions) > MOST_PATTERNS:
                raise ConfigError(
                    f"{label} lists more than {MOST_PATTERNS:,} globs and expressions.",
                    f"Shorten it to {MOST_PATTERNS:,} or fewer: join them with |, or list plain names.",
                )
        self.widths = sorted({len(start) for start in self.starts})

    def _add(self, one: str) -> None:
        if one.startswith("re:"):
            self.expressions.setdefault(one, compiled(one[3:], self.label))
        elif any(mark in one for mark in "*?["):
            start = tail(one)[:-1]
            if one.endswith("*") and not any(mark in start for mark in "*?["):
                self.starts.setdefault(start, []).append(one)
                return
            if len(one) > LONGEST:
                raise _too_long(one, self.label)
            whole = translate(tail(one))
            self.expressions.setdefault(
                one, _compiled(f"{whole}|{translate(tail(one) + '.*')}", self.label, one)
            )
        else:
            self.names.add(one)
            self.tails[tail(one)] = one
            self.lengths.add(one.count(".") + 1)

    def __contains__(self, name: str) -> bool:
        return bool(self.matches(name))

    def matches(self, name: str) -> frozenset[str]:
        """The patterns that a module's name matches."""
        found = self.found.get(name)
        if found is None:
            found = self.found[name] = frozenset(self._matches(name))
            self.used |= found
        return found

    def _matches(self, name: str) -> set[str]:
        short, found = tail(name), set[str]()
        for whole in {name, short} if self.names else ():
            parts = whole.split(".")
            for length in self.lengths:
                for start in range(len(parts) - length + 1):
                    run = ".".join(parts[start : start + length])
                    if run in self.names:
                        found.add(run)
        if not found and self.tails:
            parts = short.split(".")
            for end in range(1, len(parts) + 1):
                one = self.tails.get(".".join(parts[:end]))
                if one is not None:
                    found.add(one)
        for length in self.widths:
            for whole in {name, short}:
                found |= set(self.starts.get(whole[:length], ()) if len(whole) >= length else ())
        if self.expressions:
            before = time.process_time()
            for one, expression in self.expressions.items():
                if expression.match(name) or expression.match(short):
                    found.add(one)
            self.spent += time.process_time() - before
            if self.spent > SECONDS:
                raise ConfigError(
                    f"{self.label}: its expressions take more than {SECONDS:g} s to match.",
                    "Use fewer wildcards, or list plain names.",
                )
        return found

    @property
    def single(self) -> bool:
        """Whether some of them tell one expert from another."""
        globs = (one for listed in self.starts.values() for one in listed)
        return any(ONE_EXPERT.search(one) for one in (*self.names, *self.expressions, *globs))

    @property
    def unused(self) -> list[str]:
        """Those that have matched nothing so far."""
        globs = {one for listed in self.starts.values() for one in listed}
        return sorted({*self.names, *self.expressions, *globs} - self.used)

    def __len__(self) -> int:
        return len(self.names) + len(self.expressions) + sum(map(len, self.starts.values()))


def doubtful(unused: list[str], many: int) -> list[str]:
    """Names of a list that have matched nothing and should have: what a reader may want to know.

    A tied head is no module of its own, bare parameters are none, towers may be left out; and of the long
    lists that programs write, a few names that match nothing are usual.
    """
    odd = [
        one for one in unused
        if one != "Linear" and not one.endswith(NO_MODULE) and not any(word in one for word in TOWERS)
    ]  # fmt: skip
    return [] if many > LONG_LIST and 2 * len(odd) <= many else odd


class Names:
    """Modules by their own names, wherever in a larger model they stand.

    Examples
    --------
    >>> Names(["language_model.model.layers.3.mlp.up_proj"]).find("model.layers.3.mlp.up_proj")
    'language_model.model.layers.3.mlp.up_proj'
    """

    __slots__ = ("stated", "used")

    def __init__(self, stated: Iterable[str]) -> None:
        self.stated = {_inner(one): one for one in stated}
        self.used: set[str] = set()

    def find(self, *names: str) -> str | None:
        """The stated name of a module that has one of these names."""
        found = [self.stated[inner] for inner in map(_inner, names) if inner in self.stated]
        self.used.update(found)
        return found[0] if found else None

    def __len__(self) -> int:
        return len(self.stated)

    @property
    def single(self) -> bool:
        """Whether some of them tell one expert from another."""
        return any(ONE_EXPERT.search(one) for one in self.stated)

    @property
    def unused(self) -> list[str]:
        """Those that have matched nothing so far."""
        return sorted({*self.stated.values()} - self.used)


def _inner(name: str) -> str:
    return tail(name).removeprefix("language_model.").removeprefix("model.")


def compiled(expression: str, label: str) -> re.Pattern[str]:
    """A regular expression whose matching is bounded.

    Raises
    ------
    ConfigError
        If it is none, or could backtrack without end: a repetition inside a repetition.

    Examples
    --------
    >>> bool(compiled(r".*layers\\.\\d+\\.mlp\\.(gate|up)_proj", "ignore").match("layers.3.mlp.up_proj"))
    True
    """
    if len(expression) > LONGEST:
        raise _too_long(expression, label)
    made = _compiled(expression, label, expression)
    reason = backtracks(expression)
    if reason:
        raise ConfigError(
            f"{label}: {expression[:60]!r} could take hours to match: {reason}.",
            "Write it without, as in re:.*self_attn.*, or list plain names.",
        )
    return made


def _too_long(pattern: str, label: str) -> ConfigError:
    return ConfigError(
        f"{label}: {pattern[:40]!r}... has {len(pattern):,} characters.",
        f"Use patterns of {LONGEST:,} characters or fewer.",
    )


def _compiled(expression: str, label: str, shown: str) -> re.Pattern[str]:
    try:
        return re.compile(expression)
    except (re.error, RecursionError, OverflowError) as error:
        raise ConfigError(
            f"{label}: {shown[:60]!r} is no regular expression: {error}.", "Correct the pattern."
        ) from None


class _Piece:
    """What the scan knows of an atom, a group, or an alternative of an expression."""

    __slots__ = ("alternatives", "factor", "start", "varies", "wide", "widest")

    def __init__(self, wide: bool = False, start: int = 0) -> None:
        self.wide, self.varies, self.start = wide, False, start
        self.alternatives, self.factor, self.widest = 1, 1, 0

    @property
    def cost(self) -> int:
        """Steps that matching it may take, at most."""
        steps: int = self.factor * NAME**self.widest
        return steps // (1, 1, 2, 6, 24, 120)[min(self.widest, 5)]


QUANTIFIER = re.compile(r"[*+?]|\{(\d*)(,?)(\d*)\}")
OPENING = re.compile(r"\(\?(?:P<\w+>|P=\w+|<?[=!]|[aiLmsux-]*:|>|#[^)]*)")
REPEATED = "it repeats a group that holds a repetition or alternatives"


def backtracks(expression: str) -> str:
    """Why a valid expression could take exponential (or high polynomial) time; empty if it can't.

    Repeated is only what has one length: a group that holds a repetition or alternatives of its own
    must not be. All else multiplies: wide sets that repeat (``.``, ``\\w``, ``[^x]``) by the length of a
    name, alternatives and options by their number.
    """
    stack, last, at, total = [_Piece()], _Piece(), 0, 0
    while at < len(expression):
        char, match = expression[at], QUANTIFIER.match(expression, at)
        if match and match.group(0) not in ("{}", "{,}"):
            least, most = _span(match)
            at = match.end() + (expression[match.end() : match.end() + 1] in ("?", "+"))
            if most > 1 and (last.varies or last.alternatives > 1):
                return REPEATED
            if least != most:
                stack[-1].varies = True
                if last.wide and most > 1:
                    stack[-1].widest += 1
                else:
                    stack[-1].factor *= 2
            last = _Piece()
        elif char == "\\":
            last, at = _Piece(expression[at + 1 : at + 2] in ("w", "W", "S", "D")), at + 2
        elif char == "[":
            end = _class_end(expression, at)
            last, at = _Piece(_is_wide(expression[at + 1 : end])), end + 1
        elif char == "(":
            head = OPENING.match(expression, at)
            at = head.end() if head else at + 1
            stack.append(_Piece(start=at))
        elif char == ")" and len(stack) > 1:
            last = stack.pop()
            stack[-1].varies |= last.varies
            stack[-1].widest += last.widest
            stack[-1].factor *= last.factor * _overlapping(expression[last.start : at], last.alternatives)
            at += 1
        elif char == "|" and len(stack) == 1:
            total += stack[0].cost
            stack, last, at = [_Piece()], _Piece(), at + 1
        else:
            stack[-1].alternatives += char == "|"
            last, at = _Piece(char == "."), at + 1
    return "it combines too many wildcards" if total + stack[0].cost > STEPS else ""


def _overlapping(group: str, alternatives: int) -> int:
    """How many alternatives of a group may match at one place: one of plain words that none begins."""
    words = group.split("|")
    if not re.fullmatch(r"[\w|]*", group):
        return alternatives
    apart = not any(a.startswith(b) for i, a in enumerate(words) for j, b in enumerate(words) if i != j)
    return 1 if alternatives < 200 and apart else alternatives


def _span(match: re.Match[str]) -> tuple[int, int]:
    """Least and most of a quantifier."""
    text = match.group(0)
    if text in "*+?":
        return (1 if text == "+" else 0), (1 if text == "?" else 1 << 30)
    least = int(match.group(1) or 0)
    return least, int(match.group(3)) if match.group(3) else 1 << 30 if match.group(2) else least


def _class_end(expression: str, at: int) -> int:
    """Where a set of characters ends."""
    place = at + 1
    if expression[place : place + 1] == "^":
        place += 1
    if expression[place : place + 1] == "]":
        place += 1
    while place < len(expression) and expression[place] != "]":
        place += 2 if expression[place] == "\\" else 1
    return place


def _is_wide(members: str) -> bool:
    """Whether a set holds letters or is a negation: digits alone stop at the next dot."""
    return members.startswith("^") or any(c.isalpha() for c in members.replace("\\d", ""))
