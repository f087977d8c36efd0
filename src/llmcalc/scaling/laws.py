"""The laws of the catalog: find one by name, ask it for a loss, an optimum, an interval.

The formulas underneath are importable from here as well: ``llmcalc.scaling.laws.chinchilla_loss``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from llmcalc.catalog import Catalog
from llmcalc.errors import InputError, UnknownNameError, did_you_mean, one_of
from llmcalc.scaling import forms
from llmcalc.scaling.forms import Terms
from llmcalc.scaling.index import SILENT, row_of
from llmcalc.scaling.numeric import root, spread

DEFAULT = "besiroglu-2024"
BESIDE = ("hoffmann-2022-3", "muennighoff-2023", "hoffmann-2022-1")
"""What stands beside the default: no law is the truth."""

STATUS = {
    "two-sources": "digits seen in two independent places or more",
    "one-source": "digits seen in one place",
    "secondary": "seen only in somebody else's table: no numbers",
    "from-memory": "some constants were not seen again: no numbers",
    "exponents-only": "only its exponents were seen: no numbers",
    "form-only": "only its form was seen: no numbers; fit it to your own runs",
    "user": "of your own catalog",
}

COUNTS = {
    "total": "all parameters",
    "non-embedding": "non-embedding parameters",
    "no-input-embedding": "all but the input embedding",
    "matmul": "transformer matrices and head",
    "active": "active parameters",
    "active-non-embedding": "active non-embedding parameters",
    "flops-per-token": "non-embedding FLOPs per token, shown / 6",
    "non-zero": "non-zero parameters",
    "none": "",
}

LEAST, MOST = 1e-2, 1e40
"""Budgets between which an optimum is searched. [FLOP]"""

PERCENT, DEVIATIONS = 80, 1.2815515655446004
"""Intervals shown, and how many standard deviations they reach to each side. [%], [-]"""


class Law:
    """One scaling law, ready to compute.

    Attributes
    ----------
    entry : dict
        Its entry in the catalog.
    name : str
        With the variant after a colon, where one was named.
    coefficients : dict
        Those that count, a variant's in the place of the law's own.

    Examples
    --------
    >>> law = find_law("besiroglu-2024")
    >>> N, D = law.optimum(5.76e23)
    >>> round(D / N, 1), round(law.loss(N, D), 3)
    (18.4, 1.974)
    """

    def __init__(self, entry: Mapping[str, Any], variant: str = "") -> None:
        self.entry = dict(entry)
        self.name = str(entry["name"]) + (f":{variant}" if variant else "")
        self.form: str = entry["form"]
        self.answers = tuple(entry.get("answers", ()))
        self.coefficients: dict[str, float] = dict(entry.get("coefficients", {}))
        if variant:
            self.coefficients |= entry["variants"][variant]
            if self.form == "chinchilla" and "k_N" in entry["variants"][variant]:
                self.form, self.answers = "power-allocation", ("optimum",)
        self.own = not variant
        self.convention: str = entry["convention"]

    def __repr__(self) -> str:
        return f"<Law {self.name}: {self.entry['equation']}>"

    @property
    def is_silent(self) -> bool:
        """Whether it gives no numbers, since its constants were not seen well enough."""
        return self.entry["status"] in SILENT

    def speak(self, answer: str) -> None:
        """Refuse what this law does not give.

        Raises
        ------
        InputError
            Naming why, and laws that do give it.
        """
        if self.is_silent:
            raise InputError(
                f"{self.name} gives no numbers: {STATUS[self.entry['status']].partition(':')[0]}.",
                f"Use --law {DEFAULT}, or fit the form to your own runs; llmcalc laws show {self.name} says "
                "more.",
            )
        if answer not in self.answers:
            gives = one_of([word.replace("-", " ") for word in self.answers], "and")
            raise InputError(
                f"{self.name} gives no {answer.replace('-', ' ')}: it is a law of {gives}.",
                f"llmcalc laws --answers {answer} lists those that do.",
            )

    # -- loss ----------------------------------------------------------------------------------

    def terms(self, **given: Any) -> Any:
        """The law as E + (A/N^alpha + B/D^beta)^gamma; None where it has another form."""
        if not self.coefficients:
            return None
        asked = {key: value for key, value in given.items() if key in ("experts", "granularity") and value}
        return forms.chinchilla_terms(self.form, self.coefficients, **asked)

    def loss(self, params: Any = None, tokens: Any = None, compute: Any = None, **given: Any) -> Any:
        """Loss of a training run.

        Parameters
        ----------
        params, tokens : number or ndarray, optional
            Parameters as the law counts them, and training tokens. [params], [tokens]
        compute : number or ndarray, optional
            For laws of compute alone; 6 N D if left out. [FLOP]
        **given
            ``experts``, ``granularity`` or ``sparsity`` of a mixture, ``unique`` tokens of repeated data.

        Returns
        -------
        float or ndarray
            Loss. [nats/token]

        Raises
        ------
        InputError
            If the law gives no loss, or needs what was not given.
        """
        self.speak("loss")
        need = forms.ONLY.get(self.form, "parameters and tokens")
        if self.form == "routed":
            need = "parameters"
        if compute is None and params is not None and tokens is not None:
            compute = 6.0 * params * tokens
        lacking = ("parameters" in need and params is None) or ("tokens" in need and tokens is None)
        if lacking or ("compute" in need and compute is None):
            raise InputError(f"{self.name} needs {need}.", f"Give {need}.")
        if self.form == "repeated" and given.get("unique") is not None:
            return self.repeated(params, tokens, given["unique"])["loss"]
        found = self.terms(**given)
        if found is not None:
            return forms.loss_of_terms(found, params, tokens)
        return forms.other_loss(self.form, self.coefficients, params, tokens, compute, given)

    def repeated(self, params: float, tokens: float, unique: float) -> dict[str, float]:
        """Of repeated data: what tokens and parameters are worth, and the loss.

        Returns
        -------
        dict
            ``epochs``, ``effective_tokens``, ``effective_params``, ``loss``.
        """
        from llmcalc.scaling.optimum import balanced_params
        from llmcalc.scaling.repeated import repeated_value

        c, t = self.coefficients, self.terms()
        seen = min(unique, tokens)
        suits = min(params, balanced_params(seen, t.A, t.B, t.alpha, t.beta))
        D = repeated_value(seen, tokens / seen - 1, c["R_D"])
        N = repeated_value(suits, max(params / suits - 1, 0.0), c["R_N"])
        made = {"epochs": tokens / seen, "effective_tokens": D, "effective_params": N}
        return {**made, "loss": forms.loss_of_terms(t, N, D)}

    # -- the optimum -----------------------------------------------------------------------------

    def optimum(self, compute: Any, **given: Any) -> tuple[Any, Any]:
        """Parameters and tokens of a training budget.

        Parameters
        ----------
        compute : number or ndarray
            Training compute. [FLOP]
        **given
            ``experts`` or ``granularity`` of a mixture.

        Returns
        -------
        tuple of (float or ndarray)
            Parameters as the law counts them, and tokens. [params], [tokens]

        Raises
        ------
        InputError
            If the law gives no optimum.
        """
        self.speak("optimum")
        found = self.terms(**given)
        if found is not None:
            return forms.optimum_of_terms(found, compute)
        pair = forms.split(self.form, self.coefficients, compute)
        assert pair is not None
        return pair

    def compute(self, params: Any = None, tokens: Any = None, loss: Any = None, **given: Any) -> float:
        """The budget whose optimum has these parameters, these tokens or this loss. [FLOP]"""
        self.speak("optimum")
        found = self.terms(**given)
        if loss is not None:
            self.speak("loss")
            return float(forms.compute_of_terms(found, loss))
        place, wanted = (0, params) if params is not None else (1, tokens)
        assert wanted is not None
        if found is not None:
            from llmcalc.scaling.optimum import balanced_params, balanced_tokens

            other = (balanced_params if place else balanced_tokens)(
                wanted, found.A, found.B, found.alpha, found.beta
            )
            return 6.0 * float(wanted) * float(other)
        return root(lambda C: self.optimum(C)[place] / wanted - 1, LEAST, MOST)

    def vocabulary(self, params: float, compute: float | None = None) -> list[float]:
        """Words of the best vocabulary for a size, by the three approaches of Tao et al.

        Parameters
        ----------
        params : float
            Parameters without the vocabulary's. [params]
        compute : float, optional
            For the third approach: training compute; that which suits the size if left out. [FLOP]

        Returns
        -------
        list of float
            By IsoFLOP, derivative and parametric loss. [tokens]

        Raises
        ------
        InputError
            If the law is no law of vocabularies.
        """
        self.speak("vocabulary")
        return forms.vocabulary_sizes(self.coefficients, params, compute)

    # -- how sure --------------------------------------------------------------------------------

    def _fitted(self) -> tuple[list[float], list[list[float]]] | None:
        """Values as fitted and their covariance: (ln A, ln B, E, alpha, beta)."""
        own = self.entry.get("covariance")
        if own is None or self.form != "chinchilla" or not self.own:
            return None
        c = self.coefficients
        return [math.log(c["A"]), math.log(c["B"]), c["E"], c["alpha"], c["beta"]], own["values"]

    def loss_interval(self, params: float, tokens: float) -> tuple[float, float] | None:
        """An 80 % interval of the loss by the law's own uncertainty; None where it has none. [nats/token]"""
        fitted = self._fitted()
        if fitted is None:
            return None
        middle = float(self.loss(params, tokens))
        wide = DEVIATIONS * spread(lambda v: float(forms.loss_of_terms(_terms(v), params, tokens)), *fitted)
        return middle - wide, middle + wide

    def params_interval(self, compute: float) -> tuple[float, float] | None:
        """An 80 % interval of the optimal parameters; None where the law has no uncertainty. [params]"""
        fitted, N = self._fitted(), float(self.optimum(compute)[0])
        if fitted is not None:
            wide = DEVIATIONS * spread(
                lambda v: math.log(forms.optimum_of_terms(_terms(v), compute)[0]), *fitted
            )
            return N * math.exp(-wide), N * math.exp(wide)
        ends = self.entry.get("intervals", {}).get("a")
        reach = self.entry.get("range", {}).get("compute")
        if not (self.form == "power-allocation" and ends and reach and self.own):
            return None
        if self.entry.get("interval_percent") != PERCENT:
            return None
        lever = math.log(compute) - (math.log(reach[0]) + math.log(reach[1])) / 2
        found = [N * math.exp((end - self.coefficients["a"]) * lever) for end in ends]
        return min(*found, N), max(*found, N)

    def tokens_interval(self, params: float) -> tuple[float, float] | None:
        """An 80 % interval of the tokens for which a size is optimal; None without uncertainty. [tokens]"""
        fitted = self._fitted()
        if fitted is None:
            return None

        def tokens(t: Any) -> float:
            return math.log(balanced_tokens(params, t.A, t.B, t.alpha, t.beta))

        from llmcalc.scaling.optimum import balanced_tokens

        middle, wide = tokens(self.terms()), DEVIATIONS * spread(lambda v: tokens(_terms(v)), *fitted)
        return math.exp(middle - wide), math.exp(middle + wide)

    def curves(self) -> list[Any]:
        """Lines to draw; see `llmcalc.scaling.curves`."""
        from llmcalc.scaling.curves import curves_of

        return curves_of(self)

    def outside(self, **values: float | None) -> list[str]:
        """What lies outside the range fitted, in words: ``compute``, ``tokens`` ..."""
        found = []
        for name, ends in self.entry.get("range", {}).items():
            value = values.get(name)
            if name == "tokens_per_param" and values.get("params") and values.get("tokens"):
                value = values["tokens"] / values["params"]  # type: ignore[operator]
            if value is None:
                continue
            low, high = ends
            for end, word, out in (
                (low, "below", low is not None and value < low * 0.999),
                (high, "above", high is not None and value > high * 1.001),
            ):
                if out:
                    times = value / end if word == "above" else end / value
                    much = f", {times:,.3g} times" if times >= 1.05 else ""
                    found.append(f"{name.replace('_', ' ')} {value:.3g} is {word} {end:.3g}{much}")
        return found


def _terms(v: Sequence[float]) -> Any:
    return Terms(v[2], math.exp(v[0]), math.exp(v[1]), v[3], v[4], 1.0)


def find_law(name: str, catalog: Catalog | None = None) -> Law:
    """The law of a name or alias; a variant stands after a colon.

    Parameters
    ----------
    name : str
        ``besiroglu-2024``, ``hoffmann-2022-3``, ``llama-3:text`` ...
    catalog : Catalog, optional
        The shipped one if left out.

    Returns
    -------
    Law
        Also one that gives no numbers: it refuses when asked.

    Raises
    ------
    UnknownNameError
        With the nearest names.

    Examples
    --------
    Llama 3's tokens at its own budget, by the line of its Figure 3:

    >>> round(find_law("llama-3").optimum(3.8e25)[1] / 1e12, 1)
    16.3
    """
    book = catalog or Catalog()
    word, _, variant = name.partition(":")
    entry = book.require("laws", word, "scaling law", "llmcalc laws lists all.")
    variants = list(entry.get("variants", {}))
    if variant and variant not in variants:
        near = did_you_mean(variant, variants, 1)
        hint = f"Did you mean {entry['name']}:{near[0]}? " if near else ""
        has = f"It has {', '.join(variants)}." if variants else "It has none."
        raise UnknownNameError(f"{entry['name']} has no variant {variant[:40]!r}.", f"{hint}{has}")
    return Law(entry, variant)


def all_laws(catalog: Catalog | None = None, answer: str | None = None, beside: bool = False) -> list[Law]:
    """The laws of the catalog, in its order.

    Parameters
    ----------
    catalog : Catalog, optional
        The shipped one if left out.
    answer : str, optional
        Only those that give this: ``optimum``, ``loss``, ``learning-rate``, ``batch`` ...
    beside : bool
        Only those that stand in a table of all.

    Returns
    -------
    list of Law
        Silent ones too, unless `answer` is given.

    Examples
    --------
    >>> len(all_laws())
    45
    """
    book = catalog or Catalog()
    if answer is None and not beside:
        return [Law(entry) for entry in book.entries("laws")]
    own = {str(entry["name"]): entry for entry in book.own("laws")}
    rows = [*map(row_of, own.values()), *(row for row in book.table("law_answers") if row[0] not in own)]
    found = []
    for name, answers, listed, *_ in rows:
        if (answer is None or answer in answers.split()) and (not beside or listed):
            found.append(Law(own.get(name) or book.require("laws", name, "scaling law", "")))
    return found


def __getattr__(name: str) -> Callable[..., Any]:
    """The formulas of this room, by name."""
    from llmcalc.scaling import experts, loss, optimum, rates, repeated, terms

    for module in (loss, optimum, terms, repeated, experts, rates):
        if name in module.__dict__ and not name.startswith("_"):
            found: Callable[..., Any] = module.__dict__[name]
            return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
