"""The answer to a training budget in words: facts, a table of laws, warnings, hints."""

from __future__ import annotations

from typing import Any

from llmcalc.answer.scaling.asked import Asked
from llmcalc.answer.scaling.plan import Plan
from llmcalc.report.sheet import Fact, Sheet, Table
from llmcalc.scaling.laws import COUNTS
from llmcalc.scaling.optimum import optimum_ratio
from llmcalc.units import format_count


def flop(value: float) -> str:
    """Compute as people write it.

    Examples
    --------
    >>> flop(5.76e23), flop(1e21)
    ('5.76e23 FLOP', '1e21 FLOP')
    """
    return f"{plain(value)} FLOP"


def plain(value: float) -> str:
    """Four digits, and an exponent without zeros.

    Examples
    --------
    >>> plain(5.76e23), plain(0.000917), plain(18.391)
    ('5.76e23', '9.17e-4', '18.39')
    """
    if 1e-3 <= abs(value) < 1e5 or not value:
        return f"{value:.4g}"
    head, _, power = f"{value:.4e}".partition("e")
    return f"{float(f'{float(head):.4g}'):g}e{int(power)}"


def count(value: float) -> str:
    """Parameters or tokens, with three digits."""
    if value >= 9.995e14:
        return plain(value)
    return format_count(float(f"{value:.3g}"))


def fill(sheet: Sheet, asked: Asked, plans: list[Plan]) -> None:
    """Write facts, tables, warnings and hints."""
    first = plans[0]
    sheet.header = [
        "Training run" if first.given else "Compute-optimal training",
        flop(first.compute),
        f"{first.law.name} ({COUNTS[first.law.convention] or 'parameters'})",
    ]
    if asked.counts is not None and asked.counts.name:
        sheet.header.insert(0, asked.counts.name)
    _origins(sheet, asked, first)
    sheet.facts = [
        *_main(asked, first),
        *_mixture(asked, first),
        *_time(asked, first),
        *_price(first),
        *_rule(sheet, first),
    ]
    sheet.facts += [*_inference(first), *_repeated(first), *_nearest(sheet)]
    sheet.explained = [*_constant(first), *sheet.facts]
    if len(plans) > 1:
        sheet.tables.append(_given_table(plans) if first.given else _optimum_table(plans))
    _notes(sheet, asked, plans)

    def draw(figure: Any) -> None:
        from llmcalc.render.scaling import draw_plan

        draw_plan(figure, plans)

    if first.law.terms() is not None:
        sheet.drawing = draw


def _origins(sheet: Sheet, asked: Asked, first: Plan) -> None:
    law = f"the law {first.law.name}"
    sheet.origins = dict.fromkeys(
        (*first.law.coefficients, "A", "B", "E", "alpha", "beta", "gamma", "coefficient", "exponent"), law
    )
    sheet.origins |= {"G": "optimum_ratio", "C": asked.origins.get("compute", "6 N D")}
    if asked.counts is not None:
        sheet.origins["N"] = asked.counts.name or "--params"
    sheet.origins["D"] = asked.origins.get("tokens", "the budget")
    sheet.origins |= {"D_inf": "--inference-tokens", "U": "--unique-tokens"}


def _span(pair: tuple[float, float] | None, write: Any) -> str:
    return f"80 %: {write(pair[0])} to {write(pair[1])}" if pair is not None else ""


def _constant(p: Plan) -> list[Fact]:
    """The constant G, for explanations alone."""
    t = p.law.terms(**p.mixture)
    if t is None or p.given:
        return []
    inputs = {"A": t.A, "B": t.B, "alpha": t.alpha, "beta": t.beta}
    return [Fact("G", f"{optimum_ratio(**inputs):.6g}", "", "derived", "optimum_ratio", inputs)]


def _notes_and_grades(asked: Asked, p: Plan) -> tuple[dict[str, str], dict[str, str]]:
    """Of parameters and tokens: their interval or why they are what they are; given or derived."""
    follows = "so that 6 N D is the compute" if asked.loss is None else "so that the loss is reached"
    notes = {"params": _span(p.params_range, count), "tokens": _span(p.tokens_range, count)}
    grades = {"params": "derived", "tokens": "derived"}
    for name, value in (("params", asked.counts), ("tokens", asked.tokens)):
        if value is not None:
            grades[name], notes[name] = "exact", "as given"
        elif p.given:
            notes[name] = follows
    return notes, grades


def _main(asked: Asked, p: Plan) -> list[Fact]:
    """Parameters, tokens, their ratio, the loss."""
    law, source = p.law, ", ".join(p.law.entry.get("sources", []))
    t = law.terms()
    notes, grades = _notes_and_grades(asked, p)
    split: dict[str, dict[str, Any]] = {"params": {}, "tokens": {}}
    if t is not None and not p.given and law.form != "joint-moe":
        G = optimum_ratio(t.A, t.B, t.alpha, t.beta)
        own = {"C": p.compute, "G": G, "alpha": t.alpha, "beta": t.beta}
        split = {
            "params": {"formula": "optimal_params", "inputs": own, "source": source},
            "tokens": {"formula": "optimal_tokens", "inputs": own},
        }
    elif not p.given:
        split["params"] = {"formula": law.entry["equation"], "source": source}
    ratio = _span(p.ratio_range, lambda v: f"{v:.3g}")
    facts = [
        Fact("parameters", count(p.params), notes["params"], grades["params"], **split["params"]),
        Fact("tokens", count(p.tokens), notes["tokens"], grades["tokens"], **split["tokens"]),
        Fact("tokens per param", f"{p.ratio:.4g}", ratio),
    ]
    if asked.compute is None:
        own = {"parameters": p.params, "tokens": p.tokens}
        facts.append(
            Fact("compute", flop(p.compute), "6 x parameters x tokens", "derived", "training_flops", own)
        )
    if p.loss is not None:
        more: dict[str, Any] = {"formula": law.entry["equation"], "source": source}
        if law.form in ("chinchilla", "repeated"):
            own = {
                "N": p.params,
                "D": p.tokens,
                **{k: getattr(t, k) for k in ("E", "A", "B", "alpha", "beta")},
            }
            more = {"formula": "chinchilla_loss", "inputs": own, "source": source}
        note = _span(p.loss_range, lambda v: f"{v:.3f}") or f"{t.E:.3f} of it irreducible"
        facts.append(Fact("loss", f"{p.loss:.4f} nats/tok", note, "derived", **more))
    return facts


def _mixture(asked: Asked, p: Plan) -> list[Fact]:
    if asked.active_ratio is None or asked.active_ratio >= 1 or p.total is None:
        return []
    exact = asked.origins.get("active_ratio", "")
    how = f"{asked.active_ratio:.1%} active"
    if p.law.form == "joint-moe":
        how += f"; {asked.experts:.3g} experts, one active, two thirds of active parameters in it"
    else:
        own = p.law.convention.startswith("active")
        how += "; the law has experts of its own" if own else "; a dense law, parameters taken as active"
    return [
        Fact(
            "all parameters",
            count(p.total),
            how,
            "exact" if exact and p.law.form != "joint-moe" else "assumed",
        )
    ]


def _time(asked: Asked, p: Plan) -> list[Fact]:
    if asked.hardware is None:
        return []
    h = asked.hardware
    days = h.days_for(p.compute)
    value = f"{days:,.3g} days" if days >= 1 else f"{days * 24:.3g} hours"
    note = f"{h.count} x {h.name}, {h.peak / 1e12:.4g} TFLOP/s {h.dtype} each, {h.mfu:.0%} of it used"
    if h.usual is not None:
        note += f" over all hours ({h.usual.low:.0%} to {h.usual.high:.0%}; {h.usual.note})"
    inputs = {"gpus": h.count, "days": days, "peak": h.peak, "mfu": h.mfu}
    return [Fact("time", value, note, h.usual.grade if h.usual else "derived", "gpu_flops", inputs)]


def _price(p: Plan) -> list[Fact]:
    if p.off is None:
        return []
    off = p.off
    note = (
        f"this run has {off['params_ratio']:.3g} x the parameters and {off['tokens_ratio']:.3g} x the tokens"
    )
    facts = [Fact("optimum of it", f"{count(off['params'])} on {count(off['tokens'])} tokens", note)]
    if "excess_loss" in off:
        facts.append(
            Fact(
                "price",
                f"+{off['excess_loss']:.4f} nats/tok",
                f"{off['wasted_share']:.0%} of the compute is lost: {flop(off['compute_for_same_loss'])} "
                "well spent reach the same loss",
            )
        )
    return facts


def _rule(sheet: Sheet, p: Plan) -> list[Fact]:
    rule = sheet.data["rule_of_20"]
    note = "20 tokens per parameter"
    if "loss" in rule and p.loss is not None:
        best = p.off["loss"] if p.off is not None else p.loss
        over = rule["loss"] - best
        note += f": loss {rule['loss']:.4f}, " + (
            f"{over:.4f} above the optimum" if over > 5e-5 else "as the optimum"
        )
    inputs = {"C": p.compute, "ratio": 20}
    value = f"{count(rule['params'])} on {count(rule['tokens'])} tokens"
    return [Fact("rule of 20", value, note, "derived", "ratio_params", inputs, "hoffmann-2022-paper")]


def _inference(p: Plan) -> list[Fact]:
    if p.inference is None:
        return []
    found = p.inference
    value = f"{count(found['params'])} on {count(found['tokens'])} tokens"
    note = (
        f"least compute to train and to serve {count(found['inference_tokens'])} tokens at this loss: "
        f"{found['params_ratio']:.3g} x the parameters, {found['tokens_ratio']:.4g} x the tokens, "
        f"{found['saving']:.1%} less in all"
    )
    rule = "inference_balance(N, D) = 1 + D_inf / (3 D) at the same loss"
    return [Fact("with inference", value, note, "derived", rule, None, "sardana-2024-paper")]


def _repeated(p: Plan) -> list[Fact]:
    if p.repeated is None:
        return []
    found = p.repeated
    value = f"{count(found['params'])} on {count(found['tokens'])} tokens"
    note = (
        f"{found['epochs']:.3g} epochs of {count(found['unique_tokens'])}, worth "
        f"{count(found['effective_tokens'])} fresh tokens; loss {found['loss']:.4f}, "
        f"{found['excess_loss']:.4f} above fresh ones"
    )
    if found["epochs"] <= 1:
        note = f"{count(found['unique_tokens'])} unique tokens are enough: nothing is repeated"
    rule = "D' = U + U R* (1 - exp(-R/R*)), R = D/U - 1; N' likewise"
    out = f"compute whose optimum takes {count(found['unique_tokens'])}; repeated for ever they are worth "
    out += count(found["worth_at_most"])
    return [
        Fact("repeated data", value, note, "derived", rule, None, "muennighoff-2023-paper"),
        Fact("tokens run out", flop(found["runs_out_at_compute"]), out),
    ]


def _nearest(sheet: Sheet) -> list[Fact]:
    models = sheet.data["nearest_models"]
    if not models:
        return []
    names = ", ".join(f"{one['name']} ({count(one['params'])})" for one in models)
    return [Fact("nearest models", "", names, "")]


def _in_range(p: Plan) -> str:
    if not p.law.entry.get("range"):
        return "-"
    return "no" if p.outside else "yes"


SIDE = "Laws side by side (D/N: tokens per parameter; fitted: inside the range fitted)"
SHORT = {
    "total": "all",
    "non-embedding": "no emb.",
    "no-input-embedding": "no input",
    "matmul": "matrices",
    "active": "active",
    "active-non-embedding": "active, no emb.",
    "flops-per-token": "FLOPs/6",
    "non-zero": "non-zero",
    "none": "-",
}
"""Which parameters a law counts, in a column's words."""


def _optimum_table(plans: list[Plan]) -> Table:
    rows = [
        [
            p.law.name,
            count(p.params),
            count(p.tokens),
            f"{p.ratio:.3g}",
            "-" if p.ratio_range is None else f"{p.ratio_range[0]:.3g}-{p.ratio_range[1]:.3g}",
            "-" if p.loss is None else f"{p.loss:.3f}",
            _in_range(p),
            SHORT[p.law.convention],
        ]
        for p in plans
    ]
    head = ["law", "params", "tokens", "D/N", "80 %", "loss", "fitted", "counts"]
    return Table(SIDE, head, rows, spare=("80 %",))


def _given_table(plans: list[Plan]) -> Table:
    rows = []
    for p in plans:
        off = p.off or {}
        lost = "excess_loss" in off
        rows.append(
            [
                p.law.name,
                "-" if p.loss is None else f"{p.loss:.3f}",
                f"+{off['excess_loss']:.3f}" if lost else "-",
                f"{off['wasted_share']:.0%}" if lost else "-",
                count(off["params"]),
                count(off["tokens"]),
                f"{off['tokens_per_param']:.3g}",
                _in_range(p),
            ]
        )
    head = ["law", "loss", "excess", "waste", "best params", "best tokens", "D/N", "fitted"]
    return Table(SIDE, head, rows)


def _notes(sheet: Sheet, asked: Asked, plans: list[Plan]) -> None:
    first = plans[0]
    if first.outside:
        sheet.warnings.append(
            f"Outside the range that {first.law.name} was fitted to: {'; '.join(first.outside)}."
        )
    if first.given and asked.compute is not None and abs(first.compute / asked.compute - 1) > 0.005:
        sheet.warnings.append(
            f"6 N D is {flop(first.compute)}, which counts; {flop(asked.compute)} was given."
        )
    expected = None if asked.hardware is None else asked.hardware.usual
    if expected is not None:
        sheet.warnings.append(
            f"{100 * expected.run:.0f} % of the GPUs' peak is what such runs reach over all hours, "
            f"{100 * expected.low:.0f} to {100 * expected.high:.0f} %, as in llmcalc cost; --mfu says what "
            "yours reach."
        )
    stock = asked.book.lookup("laws", "villalobos-2024")
    if stock is not None and first.tokens > stock["coefficients"]["stock"]:
        low, high = (count(end) for end in stock["intervals"]["stock"])
        sheet.warnings.append(
            f"{count(first.tokens)} tokens are more than the stock of public human text, some "
            f"{count(stock['coefficients']['stock'])} ({low} to {high}; villalobos-2024)."
        )
    if sum(p.loss is not None for p in plans) > 1:
        sheet.hints.append("Losses are of each law's own data and tokenizer: compare ratios, not losses.")
    if not asked.named and not first.given:
        sheet.hints.append("Laws differ in the ratio by ten times and more: --law all shows them.")
    if asked.inference is not None and first.inference is None:
        sheet.hints.append(f"{first.law.name} gives no loss, so it can't weigh inference.")
