"""`llmcalc.hparams`: learning rate, batch size and critical batch, by the laws that give them."""

from __future__ import annotations

from typing import Any

from llmcalc.answer.scaling.advice import KINDS, Advice, Run, advise
from llmcalc.answer.scaling.asked import Asked, bare_counts, law_names, read
from llmcalc.answer.scaling.chinchilla import ModelLike, _book, read_counts
from llmcalc.answer.scaling.plan import reachable
from llmcalc.answer.scaling.shown import SHORT, count, flop, plain
from llmcalc.compute.conventions import training_flops
from llmcalc.errors import InputError, LlmcalcError, Problems
from llmcalc.report.call import Call
from llmcalc.report.sheet import Fact, Sheet, Table
from llmcalc.scaling.index import silent_laws
from llmcalc.scaling.laws import DEFAULT, Law, all_laws, find_law
from llmcalc.scaling.rates import steps_over_least, tokens_over_least
from llmcalc.units import parse_count, parse_integer


def hparams(
    model: ModelLike = None,
    *,
    compute: Any = None,
    params: Any = None,
    tokens: Any = None,
    loss: Any = None,
    law: Any = None,
    batch: Any = None,
    sequence: Any = None,
    active_ratio: Any = None,
    experts: Any = None,
    config: Any = None,
    assume: str | None = None,
    catalog: Any = None,
) -> Sheet:
    """Learning rate, batch size and critical batch of a training run, by laws side by side.

    Parameters
    ----------
    model, params, config : str, number, dict or Inventory, optional
        A model, or a bare number of parameters, which every law then takes as it counts. [params]
    compute : float or str, optional
        Training compute; 6 N D if parameters and tokens are given. [FLOP]
    tokens : int or str, optional
        Training tokens. [tokens]
    loss : float, optional
        Loss at the end, for laws of it; that of ``besiroglu-2024`` if left out. Alone: the optimum that
        reaches it. [nats/token]
    law : str or sequence of str, optional
        Only these laws.
    batch : int or str, optional
        A batch to hold against the critical one: steps and tokens over the least. [tokens]
    sequence : int, optional
        Tokens of a sequence, to tell batches in sequences too. [tokens]
    active_ratio, experts : optional
        Of a mixture. [-]
    assume : str, optional
        Family of an unknown `model_type`.
    catalog : str or sequence of str, optional
        YAML files of your own.

    Returns
    -------
    Sheet
        ``advice``, a row for each law and quantity, and the run it holds for.

    Raises
    ------
    LlmcalcError
        With every mistake of the call and its remedy.

    Notes
    -----
    Laws disagree by several times: they were fitted with other schedules, optimizers and data. Take them as
    where to begin a sweep.

    Examples
    --------
    Step Law for 7 B parameters on 1.4 T tokens:

    >>> found = hparams(params="7b", tokens="1.4t", law="step-law-2025")
    >>> [plain(row["value"]) for row in found["advice"]]
    ['9.166e-4', '4.999e6']
    """
    given = dict(locals())
    book = _book(catalog)
    run = _run(given, book)
    asked = run.asked
    found, left_out = _advice(given, run)
    sheet = Sheet("hparams")
    asked.laws = list(dict.fromkeys(one.law for one in found))
    assert asked.counts is not None
    active = asked.counts.by["active"]
    run_data = {"compute": run.compute, "params": active, "tokens": run.tokens, "loss": run.loss}
    sheet.left_out = left_out
    rows = [one.to_dict() for one in found]
    for row, one in zip(rows, found, strict=True):
        if one.kind != "learning-rate" and sequence is not None:
            row["sequences"] = one.value / parse_integer(sequence, "--sequence")
    sheet.data = {
        "scenario": {**asked.scenario(), **run_data},
        **run_data,
        "interval_percent": 80,
        "advice": rows,
        "at_batch": _at_batch(given.get("batch"), found),
    }
    sheet.frame = [
        {
            **{k: v for k, v in row.items() if k not in ("interval", "outside_range")},
            "low": (row["interval"] or (None, None))[0],
            "high": (row["interval"] or (None, None))[1],
            "outside": "; ".join(row["outside_range"]),
        }
        for row in rows
    ]
    sheet.sign(Call("hparams", given), book)
    _fill(sheet, run, found)
    return sheet


def _run(given: dict[str, Any], book: Any) -> Run:
    """Parameters, tokens, compute and loss: what is missing follows from the default law."""
    problems = Problems()
    counts = None
    with problems:
        counts = read_counts(given, book)
    try:
        asked = read(book, {**given, "law": None}, counts, "learning-rate")
    except LlmcalcError as error:
        problems.found += error.parts or (error,)
    for name in ("batch", "sequence"):
        with problems:
            if given.get(name) is not None:
                parse_count(given[name], f"--{name}")
    problems.check()
    law = find_law(DEFAULT, book)
    N, C, D = _missing(asked, law)
    if asked.counts is None:
        asked.counts = bare_counts(N)
    L = asked.loss
    if L is None:
        L = float(law.loss(N, D))
        asked.origins["loss"] = f"by {law.name}"
    return Run(asked, C, D, L)


def _missing(asked: Asked, law: Law) -> tuple[float, float, float]:
    """Parameters, compute and tokens of the run; where each came from is noted. [params], [FLOP], [tokens]"""
    C, D = asked.compute, asked.tokens
    N = None if asked.counts is None else asked.counts.by["active"]
    if N is None and D is None and C is None:
        if asked.loss is None:
            raise InputError(
                "There is no run to advise on.",
                "Give --params and --tokens, or one of them, or --compute or --loss; a model may stand for "
                "--params.",
            )
        reachable(law, law.terms(), asked.loss)
        C = law.compute(loss=asked.loss)
    if N is not None and D is not None:
        return N, C if C is not None else float(training_flops(N, D)), D
    if asked.compute is not None and N is not None:
        asked.origins["tokens"] = "compute / 6 / parameters"
        return N, asked.compute, asked.compute / (6 * N)
    if asked.compute is not None and D is not None:
        asked.origins["params"] = "compute / 6 / tokens"
        return asked.compute / (6 * D), asked.compute, D
    if C is None:
        C = law.compute(params=N, tokens=D)
    best_N, best_D = map(float, law.optimum(C))
    if N is None:
        N, asked.origins["params"] = best_N, f"by {law.name}"
    if D is None:
        D, asked.origins["tokens"] = best_D, f"by {law.name}"
    return N, C, D


def _advice(given: dict[str, Any], run: Run) -> tuple[list[Advice], list[str]]:
    book = run.asked.book
    if given.get("law") in (None, "all"):
        named = {law.name: law for kind in KINDS for law in all_laws(book, kind)}
        laws = list(named.values())
        if not run.asked.is_mixture:
            laws.sort(key=lambda law: law.name != "step-law-2025")
    else:
        laws, problems = [], Problems()
        for word in dict.fromkeys(law_names(given["law"])):
            with problems:
                law = find_law(word, book)
                law.speak(next((kind for kind in KINDS if kind in law.answers), "learning-rate"))
                laws.append(law)
        problems.check()
    found = [one for law in laws for one in advise(law, run)]
    silent = silent_laws(book, RATE_FORMS)
    left = (
        [f"Listed without numbers: {', '.join(silent)}; llmcalc laws show NAME says why."] if silent else []
    )
    return sorted(found, key=lambda one: KINDS.index(one.kind)), left if given.get("law") in (
        None,
        "all",
    ) else []


RATE_FORMS = ("log-rate", "compute-rates", "product-rate", "power-batch")


def _at_batch(batch: Any, found: list[Advice]) -> list[dict[str, Any]]:
    """What a batch costs against each critical one."""
    if batch is None:
        return []
    B = float(parse_count(batch, "--batch"))
    return [
        {
            "law": one.law.name, "batch": B, "critical_batch": one.value,
            "steps_over_least": float(steps_over_least(B, one.value)),
            "tokens_over_least": float(tokens_over_least(B, one.value)),
        }
        for one in found if one.kind == "critical-batch"
    ]  # fmt: skip


WORDS = {"learning-rate": "learning rate", "batch": "batch", "critical-batch": "critical batch"}


def _fill(sheet: Sheet, run: Run, found: list[Advice]) -> None:
    """Write facts, tables, warnings and hints."""
    asked = run.asked
    assert asked.counts is not None
    origin = asked.origins
    sheet.header = [asked.counts.name or "Hyperparameters of a run", flop(run.compute)]
    for label, value, key in (
        ("parameters", count(asked.counts.by["active"]), "params"),
        ("tokens", count(run.tokens), "tokens"),
        ("loss", f"{run.loss:.3f} nats/tok", "loss"),
    ):
        by = origin.get(key, "as given")
        derived = by.startswith(("by ", "compute / "))
        by = by if derived else "as given"
        sheet.facts.append(Fact(label, value, by, "derived" if derived else "exact"))
    for one in found:
        batch = one.kind != "learning-rate"
        value = f"{count(one.value)} tokens" if batch else plain(one.value)
        note = ", ".join(word for word in (one.law.name, one.note) if word)
        origins = dict.fromkeys(one.inputs, f"the law {one.law.name}") | {
            "N": asked.counts.name or origin.get("params", "--params"), "D": origin.get("tokens", "--tokens"),
            "L": origin.get("loss", "--loss"), "x": f"{one.by} of the run", "E": "--experts",
        }  # fmt: skip
        cited = ", ".join(one.law.entry["sources"])
        sheet.facts.append(
            Fact(WORDS[one.kind], value, note, "derived", one.formula, one.inputs, cited, origins)
        )
    shown = sheet.facts[3:]
    _tables(sheet, found)
    sheet.facts[3:] = []
    sheet.explained = [*sheet.facts, *shown]
    if not asked.counts.name:
        sheet.hints.append(
            "Every law takes a bare number of parameters as it counts; name the model to count each way."
        )
    sheet.hints.append("Laws differ by several times: they are where a sweep begins, not where it ends.")
    for note in dict.fromkeys(one.note for one in found if one.note):
        names = ", ".join(dict.fromkeys(one.law.name for one in found if one.note == note))
        sheet.hints.append(f"{names}: {note}.")
    outside = [one.law.name for one in found if one.outside]
    if outside:
        names = ", ".join(dict.fromkeys(outside))
        sheet.warnings.append(f"Outside the range fitted: {names}.")

    def draw(figure: Any) -> None:
        from llmcalc.render.scaling import draw_advice

        draw_advice(figure, found, run)

    sheet.drawing = draw


TITLES = {
    "learning-rate": "Peak learning rate",
    "batch": "Batch, tokens",
    "critical-batch": "Critical batch, tokens",
}


def _tables(sheet: Sheet, found: list[Advice]) -> None:
    """A table a quantity, and one of a batch against the critical ones."""
    for kind in KINDS:
        rows = []
        for one in (one for one in found if one.kind == kind):
            write = plain if kind == "learning-rate" else count
            span = (
                "-"
                if one.interval is None
                else " to ".join(write(float(f"{end:.3g}")) for end in one.interval)
            )
            fitted = "-" if not one.law.entry.get("range") else "no" if one.outside else "yes"
            by = one.by
            if "N" in by.split(", "):
                counted = "no emb." if one.law.form == "joint-moe" else SHORT[one.law.convention]
                by = by.replace("N", f"N ({counted})", 1)
            rows.append([one.law.name, write(one.value), span, by, fitted])
        if rows:
            sheet.tables.append(Table(TITLES[kind], ["law", "value", "80 %", "of", "fitted"], rows))
    at = sheet.data["at_batch"]
    if at:
        rows = [
            [
                one["law"],
                count(one["critical_batch"]),
                f"{one['steps_over_least']:.3g}",
                f"{one['tokens_over_least']:.3g}",
            ]
            for one in at
        ]
        title = (
            f"A batch of {count(at[0]['batch'])} tokens: steps and tokens over the least that any batch needs"
        )
        sheet.tables.append(Table(title, ["critical batch by", "tokens", "steps x", "tokens x"], rows))
