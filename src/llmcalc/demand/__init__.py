"""What requests ask of a server: lengths that vary, prefixes they share, several outputs of one prompt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llmcalc.errors import InputError, Problems
from llmcalc.formula import Quantity, is_array, larger
from llmcalc.units import parse_integer, parse_length

if TYPE_CHECKING:
    from llmcalc.demand.lengths import Lengths

ENGINES = ("none", "vllm")
"""Engines for which all of this is modelled; the others take one length for all sequences."""

PADDED = ("transformers",)
"""Engines that run a batch padded to its longest request, each output a row of its own."""

MAX_OUTPUTS = 100_000
PAIRS = 20_000
"""Pairs of prompt and output that are priced one by one. [-]"""

KEYWORDS = ("shared_prefix", "samples", "beams")
TOGETHER = ("with_models", "ensemble")


class Demand:
    """Requests as they come.

    Attributes
    ----------
    pairs : list of (int, int, float)
        Prompt, output and probability of each kind of request; empty where all are alike.
        [tokens], [tokens], [-]
    prompt, output : int or ndarray
        Of the longest request, or of all. [tokens]
    cap : int or None
        Where a request ends at the latest. [tokens]
    prefix : int
        Tokens at the start that all share. [tokens]
    outputs : int
        Outputs of one prompt that are held together. [-]
    beams : bool
        Whether they are those of a beam search.
    labels : dict
        How lengths were written.
    notes : list of str
        What the reader should know.
    """

    __slots__ = ("beams", "cap", "labels", "notes", "output", "outputs", "pairs", "prefix", "prompt")

    def __init__(self, prompt: Quantity, output: Quantity = 0) -> None:
        self.prompt, self.output = prompt, output
        self.pairs: list[tuple[int, int, float]] = []
        self.cap: int | None = None
        self.prefix, self.outputs, self.beams = 0, 1, False
        self.labels: dict[str, str] = {}
        self.notes: list[str] = []

    @property
    def varies(self) -> bool:
        """Whether requests differ in length."""
        return bool(self.pairs)

    @property
    def is_plain(self) -> bool:
        """Whether a context and a number of sequences say it all."""
        return not self.pairs and not self.prefix and self.outputs == 1

    @property
    def total(self) -> Quantity:
        """Tokens of the longest request. [tokens]"""
        return self.prompt + self.output

    def rows(self) -> list[tuple[Any, Any, float]]:
        """Kinds of requests: prompt, output, probability. [tokens], [tokens], [-]"""
        return self.pairs or [(self.prompt, self.output, 1.0)]

    @property
    def least(self) -> Quantity:
        """Tokens behind the shared prefix in the shortest request. [tokens]"""
        if self.pairs:
            return min(max(p - self.prefix, 0) + o for p, o, _ in self.pairs)
        return larger(self.prompt - self.prefix, 0) + self.output

    def lengthen(self, tokens: int) -> None:
        """Add tokens to every prompt: images, behind what is shared. [tokens]"""
        self.prompt = self.prompt + tokens
        self.pairs = [(p + tokens, o, w) for p, o, w in self.pairs]
        self.cap = None if self.cap is None else self.cap + tokens

    def shaped(self, total: int) -> Demand:
        """Requests of one length that are otherwise the same, for a search of the longest."""
        output = min(int(self.output), max(total - self.prefix, 0))
        made = Demand(total - output, output)
        made.prefix, made.outputs, made.beams = min(self.prefix, total - output), self.outputs, self.beams
        return made

    def to_dict(self) -> dict[str, Any]:
        """What was asked, for JSON."""
        found: dict[str, Any] = dict(self.labels)
        if self.prefix:
            found["shared_prefix"] = self.prefix
        if self.outputs > 1:
            found["beams" if self.beams else "samples"] = self.outputs
        return found


def demand_of(given: dict[str, Any], context: Quantity | None, most: int | None) -> Demand | None:
    """What requests ask, where it is more than one length for all.

    Parameters
    ----------
    given : dict
        Keywords; None means not given.
    context : int, ndarray or None
        A context that was given: of every request, or the cap of lengths that vary. [tokens]
    most : int or None
        The longest that the model takes. [tokens]

    Returns
    -------
    Demand or None
        None where neither lengths nor outputs nor a prefix were given.

    Raises
    ------
    InputError
        With all mistakes together.
    """
    asked = [name for name in ("prompt", "output", *KEYWORDS) if given.get(name) is not None]
    if not asked:
        return None
    problems = Problems()
    outputs, beams, prefix = 1, False, 0
    with problems:
        outputs, beams = _outputs(given)
    with problems:
        value = given.get("shared_prefix")
        if value is not None and str(value).strip() != "0":
            prefix = parse_length(value, "--shared-prefix")
    made = None
    with problems:
        made = _requests(given, context, most)
    problems.check()
    assert made is not None
    made.outputs, made.beams, made.prefix = outputs, beams, prefix
    _check(made, given)
    return made


def _outputs(given: dict[str, Any]) -> tuple[int, bool]:
    samples = parse_integer(given.get("samples") or 1, "--samples", MAX_OUTPUTS)
    beams = parse_integer(given.get("beams") or 1, "--beams", MAX_OUTPUTS)
    for name in ("samples", "beams"):
        if str(given.get(name)).strip() == "0":
            raise InputError(f"--{name} is 0; it must be above 0.", f"Use --{name} 1 for one output.")
    if samples > 1 and beams > 1:
        raise InputError(
            "--samples and --beams are given together: a beam search keeps beams, best-of-N samples.",
            "Keep one of them.",
        )
    return max(samples, beams), beams > 1


def _requests(given: dict[str, Any], context: Quantity | None, most: int | None) -> Demand:
    """Lengths of prompts and outputs, as one or as many kinds of requests."""
    if given.get("prompt") is None and given.get("output") is None:
        return Demand(context)
    cap = most if context is None or is_array(context) else int(context)
    if isinstance(given.get("prompt"), str) and given.get("output") in (None, given["prompt"]):
        joint = _joint(given["prompt"], cap, context is not None)
        if joint is not None:
            return joint
    from llmcalc.demand.lengths import lengths_of

    found: dict[str, Lengths] = {}
    problems = Problems()
    for name in ("prompt", "output"):
        value = given.get(name)
        with problems:
            if value is not None:
                found[name] = lengths_of(value, f"--{name}", cap)
    problems.check()
    return _paired(found, cap)


def _joint(path: str, cap: int | None, cuts: bool) -> Demand | None:
    """Requests of a file with columns prompt and output: pairs stay together."""
    import os

    if not os.path.isfile(path.strip()):
        return None
    from llmcalc.demand.files import file_pairs

    pairs = file_pairs(path.strip(), "--prompt")
    if pairs is None:
        return None
    counts: dict[tuple[int, int], int] = {}
    for pair in pairs:
        counts[pair] = counts.get(pair, 0) + 1
    rows = [(p, o, many / len(pairs)) for (p, o), many in counts.items()]
    longest = max(pairs, key=lambda pair: (sum(pair), pair[1]))
    made = Demand(*longest)
    made.labels = {"prompt": f"{len(pairs):,} requests of {os.path.basename(path.strip())}"}
    made.pairs = _fewer(rows) if len(rows) > 1 else []
    made.cap = cap if cuts else None
    _cut(made, cap if cuts else None)
    return made


def _fewer(rows: list[tuple[int, int, float]]) -> list[tuple[int, int, float]]:
    """At most so many kinds of requests: neighbours in length together, at their mean, rounded up."""
    if len(rows) <= PAIRS:
        return rows
    rows = sorted(rows, key=lambda row: (row[0] + row[1], row[0]))
    made = []
    for start in range(0, len(rows), size := -(-len(rows) // PAIRS)):
        part = rows[start : start + size]
        mass = sum(w for _, _, w in part)
        prompt, output = (-int(-sum(row[i] * row[2] for row in part) / mass // 1) for i in (0, 1))
        made.append((prompt, output, mass))
    return made


def _paired(found: dict[str, Lengths], cap: int | None) -> Demand:
    """Prompts and outputs that do not depend on each other, as kinds of requests."""
    from llmcalc.demand.lengths import STRATA_OF_TWO, Lengths

    nothing = Lengths([0], [1.0], "0")
    prompt, output = found.get("prompt", nothing), found.get("output", nothing)
    made = Demand(prompt.longest, output.longest)
    made.labels = {name: lengths.label for name, lengths in found.items() if not lengths.is_fixed}
    made.notes = [note for lengths in found.values() for note in lengths.notes]
    if prompt.is_fixed and output.is_fixed:
        return made
    if not prompt.is_fixed and not output.is_fixed:
        prompt, output = prompt.thinned(STRATA_OF_TWO), output.thinned(STRATA_OF_TWO)
    made.pairs = [
        (p, o, v * w)
        for p, v in zip(prompt.values, prompt.weights, strict=True)
        for o, w in zip(output.values, output.weights, strict=True)
    ]
    made.cap = cap
    endless = any(
        "(" in lengths.label and not lengths.label.startswith("uniform") for lengths in found.values()
    )
    _cut(made, cap if endless else None)
    return made


def _cut(made: Demand, cap: int | None) -> None:
    """End requests where the model ends: prompts that leave room for a token, then outputs."""
    if cap is None or made.total <= cap:
        return
    least = 1 if made.output else 0
    over = sum(w for p, o, w in made.pairs if p + o > cap)

    def cut(prompt: int, output: int) -> tuple[int, int]:
        prompt = min(prompt, cap - least)
        return prompt, min(output, cap - prompt)

    made.pairs = [(*cut(p, o), w) for p, o, w in made.pairs]
    # The longest request has the longest output that its prompt leaves: outputs are what samples multiply.
    shortest = min((p for p, _, _ in made.pairs), default=1)
    made.output = max(min(made.output, cap - max(shortest, 1)), 0)
    made.prompt = min(made.prompt, cap - made.output)
    if over >= 0.0005:
        made.notes.append(f"{100 * over:.2g} % of the requests are longer than {cap:,} tokens and end there.")


def _check(made: Demand, given: dict[str, Any]) -> None:
    """Refuse a prefix that no prompt has, and several outputs of requests without any."""
    option = "--beams" if made.beams else "--samples"
    problems = Problems()
    with problems:
        if made.outputs > 1 and given.get("output") is None and not made.varies:
            raise InputError(
                f"{option} {made.outputs} needs the lengths of prompt and output.",
                "Give --prompt and --output in place of the context.",
            )
    with problems:
        longest = made.prompt if not is_array(made.prompt) else int(made.prompt.min())
        longest = max([longest, *(p for p, _, _ in made.pairs)])
        if made.prefix > longest:
            raise InputError(
                f"--shared-prefix {made.prefix:,} is longer than the prompt ({longest:,} tokens).",
                "The prefix is part of the prompt: give a longer --prompt, or a shorter prefix.",
            )
    problems.check()
    shorter = sum(w for p, _, w in made.pairs if p < made.prefix)
    if shorter >= 0.0005:
        made.notes.append(
            f"{100 * shorter:.2g} % of the prompts are shorter than the shared prefix: they are part of it."
        )


__all__ = ["ENGINES", "KEYWORDS", "PADDED", "TOGETHER", "Demand", "demand_of"]
