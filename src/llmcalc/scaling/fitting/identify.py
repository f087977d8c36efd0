"""What the data can tell: checks before a fit, and doubts after it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from llmcalc.errors import InputError
from llmcalc.scaling.fitting.powers import Array
from llmcalc.scaling.fitting.rows import Rows

THIN = 0.05
"""Width of the cloud of (ln N, ln D) across, at least: a standard deviation. [-]"""

SEVERAL = 3
"""Values of N and of D that tell an exponent and an offset. [-]"""


def check(form: Any, rows: Rows) -> None:
    """Refuse data that can't tell the parameters asked for.

    Raises
    ------
    InputError
        With the reason, and what would do.
    """
    if len(rows) <= form.free:
        raise InputError(
            f"{len(rows)} rows can't tell the {form.free} parameters of the form {form.name}.",
            f"Give {2 * form.free} rows or more, or hold parameters with --fix NAME=VALUE.",
        )
    if np.ptp(rows.losses) <= 1e-9 * rows.losses.max():
        raise InputError("All losses are equal: there is nothing to fit.", "Check --loss-col.")
    if form.along:
        _spread(form.of(rows), form.along, SEVERAL)
        return
    assert rows.params is not None
    assert rows.tokens is not None
    for name, values, exponent in (("params", rows.params, "alpha"), ("tokens", rows.tokens, "beta")):
        if exponent not in form.fixed:
            _spread(values, name, SEVERAL)
    if "alpha" in form.fixed and "beta" in form.fixed:
        return
    _collinear(rows)
    if "experts" in form.needs:
        assert rows.experts is not None
        if len(np.unique(rows.experts)) > 1:
            for name, values in (("params", rows.params), ("tokens", rows.tokens)):
                _crossed(np.log(rows.experts), np.log(values), name)
        else:
            raise InputError(
                f"All rows have {rows.experts[0]:g} experts: what experts change can't be told.",
                "Use --form chinchilla, or add runs with other numbers of experts.",
            )
    if "unique" in form.needs:
        assert rows.unique is not None
        if float((rows.tokens / rows.unique).max()) < 1.5:
            raise InputError(
                "No run repeats its data: what repetition costs can't be told.",
                "Use --form chinchilla, or add runs with more tokens than unique ones.",
            )


def _spread(values: Array, name: str, least: int) -> None:
    """Whether a column has enough values to tell an exponent."""
    number = len(np.unique(np.round(np.log(values), 6)))
    if number < least or np.ptp(np.log(values)) < THIN:
        raise InputError(
            f"The {name} take {number} value{'s' if number > 1 else ''}: their exponent can't be "
            f"told from an offset.",
            f"Add runs with other {name} (at least {least}), or hold exponents with --fix alpha=0.34.",
        )


def _collinear(rows: Rows) -> None:
    """Whether parameters and tokens vary apart from each other."""
    assert rows.params is not None
    assert rows.tokens is not None
    cloud = np.stack([np.log(rows.params), np.log(rows.tokens)], axis=1)
    cloud -= cloud.mean(axis=0)
    _, sizes, axes = np.linalg.svd(cloud, full_matrices=False)
    across = float(sizes[1]) / np.sqrt(len(rows))
    if across >= THIN:
        return
    slope = axes[0, 1] / axes[0, 0] if axes[0, 0] else np.inf
    budget = float(np.exp(np.log(rows.params * rows.tokens).mean())) * rows.factor
    ratio = float(np.exp(np.log(rows.tokens / rows.params).mean()))
    if abs(slope + 1) < 0.2:
        raise InputError(
            f"All rows have one budget of compute, {budget:.3g} FLOP: one IsoFLOP profile can't "
            f"tell the parameters.",
            "Add runs at other budgets.",
        )
    told = (
        f"all rows have about {ratio:.3g} tokens a parameter"
        if abs(slope - 1) < 0.2
        else "one follows from the other"
    )
    raise InputError(
        f"Parameters and tokens move together ({told}): their terms can't be told apart.",
        "Add runs with other tokens for the same parameters, or fit --form power-law --along compute.",
    )


def _crossed(experts: Array, values: Array, name: str) -> None:
    """Whether experts and another column vary apart, products included."""
    columns: list[Array] = []
    for column in (experts, values, experts * values):
        for other in columns:
            column = column - other * (other @ column) / (other @ other)
        column = column - column.mean()
        size = float(np.sqrt((column**2).mean()))
        if size < THIN / 5:
            raise InputError(
                f"Experts and {name} hardly vary apart from each other: what experts change can't be told.",
                f"Add runs with other {name} for the same experts, or use --form chinchilla.",
            )
        columns.append(column)


def doubts(form: Any, values: Mapping[str, float], samples: Mapping[str, Array], rows: Rows) -> list[str]:
    """Parameters that the data do not settle, of a fit and its resamples."""
    told = []
    least = 1e-4 * float(rows.losses.min())
    for name in ("E", "c"):
        if name not in values or name in form.fixed:
            continue
        share = float(np.mean(samples[name] < least)) if name in samples else 0.0
        if values[name] < least:
            told.append(f"{name} is 0 within the data: the loss is not seen to level off.")
        elif share > 0.025:
            told.append(f"{name} is not settled: it is 0 in {100 * share:.0f} % of the resamples.")
    for name in form.positive:
        if name in form.fixed:
            continue
        if values[name] <= 0:
            told.append(f"{name} is {values[name]:.3g}: the loss does not fall with more of it.")
        elif name in samples:
            low, high = np.nanpercentile(samples[name], [2.5, 97.5])
            if low <= 0 or high / max(low, 1e-12) > 3:
                told.append(f"{name} is hardly settled: {low:.2g} to {high:.2g}.")
    for name in form.negative:
        if name not in form.fixed and values[name] >= 0:
            told.append(f"{name} is {values[name]:.3g}: the loss does not fall with more of it.")
    return told


def edges(built: Any, theta: Array, samples: Array | None) -> list[str]:
    """Coordinates that end where the search ends, in the fit or in many resamples."""
    told = []
    low, high = built.limits
    for place, name in enumerate(built.names):
        if name in ("E", "c"):
            continue  # told by `doubts`
        pad = 0.005 * (high[place] - low[place])

        def out(values: Any, place: int = place, pad: float = pad) -> Any:
            return (values < low[place] + pad) | (values > high[place] - pad)

        share = 0.0 if samples is None else float(np.mean(out(samples[:, place])))
        if out(theta[place]):
            told.append(f"{name} is not settled by these runs: the search ends where its range does.")
        elif share > 0.025:
            told.append(
                f"{name} is not settled: in {100 * share:.0f} % of the resamples the search ends "
                f"where its range does."
            )
    return told
