"""From a table to rows: columns found, conventions checked, what is missing derived."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from llmcalc.errors import InputError, Problems, one_of
from llmcalc.scaling.fitting.columns import (
    CONVENTIONS,
    ROLES,
    counted_by,
    filtered,
    find,
    folded,
    number_of,
    numbers,
)
from llmcalc.scaling.fitting.powers import Array
from llmcalc.scaling.fitting.rows import Rows
from llmcalc.scaling.fitting.tables import Table, read_table

FACTOR = 6.0
"""FLOP of a parameter and token in training, where compute is not given. [FLOP]"""

SAME = 0.02
"""How far compute may lie from 6 N D and be taken for it. [-]"""

MIXED = 3.0
"""Factor between the 5th and 95th percentiles of C / (N D) that is not one convention. [-]"""

EXACT, OFF = 1e-3, 0.03
"""How near some rows are to 6 N D, and how far others, where two conventions are mixed. [-]"""


class Reading:
    """Rows, and how they were read.

    Attributes
    ----------
    rows : Rows
        As arrays.
    columns : dict
        Column of each role that was used.
    convention : str or None
        How parameters are counted, where it is known.
    notes : list of str
        What the reader should know.
    name : str
        What the table is called.
    """

    def __init__(self, rows: Rows, columns: dict[str, str], convention: str | None, name: str) -> None:
        self.rows, self.columns, self.convention, self.name = rows, columns, convention, name
        self.notes: list[str] = []


def read_rows(
    source: Any, wanted: Sequence[str], told: Mapping[str, str | None], convention: str | None = None,
    where: Sequence[str] = (), units: Mapping[str, float] | None = None, skip: bool = False,
    need_loss: bool = True,
) -> Reading:  # fmt: skip
    """Read runs.

    Parameters
    ----------
    source : object
        As for `read_table`.
    wanted : sequence of str
        What the form needs: ``params``, ``tokens``, ``compute``, ``unique``, ``experts``.
    told : mapping
        Columns by role where they are named.
    convention : str, optional
        How parameters are counted.
    where : sequence of str
        Conditions on rows.
    units : mapping of str to float, optional
        What one of a column stands for: 1e6 for parameters in millions.
    skip : bool
        Whether rows that can't be used are left out instead of refused.
    need_loss : bool
        Whether there must be losses.

    Raises
    ------
    InputError
        With all that is wrong, and what to do.
    """
    table = filtered(read_table(source), where)
    problems = Problems()
    if convention is not None and convention not in CONVENTIONS:
        with problems:
            raise InputError(f"--params-convention is {convention[:20]!r}.", f"Use {one_of(CONVENTIONS)}.")
    columns: dict[str, str] = {}
    roles = ["params", "tokens", "compute", *(["loss"] if need_loss else []), "runs"]
    roles += [role for role in (*wanted, *(key for key, name in told.items() if name)) if role not in roles]
    for role in roles:
        if told.get(role) == "none" and role not in ("params", "tokens", "loss"):
            continue
        with problems:
            found = find(table, role, told.get(role), convention)
            if found is not None:
                columns[role] = found
    counted = counted_by(columns.get("params"))
    with problems:
        if convention and counted and convention != counted:
            raise InputError(
                f"Column {columns['params'][:40]} counts {counted} parameters; "
                f"--params-convention is {convention}.",
                "Name the column that is meant (--params-col), or leave the convention out.",
            )
    problems.check()
    _present(table, columns, wanted, need_loss)
    _one_setting(table, columns)
    arrays, dropped = _arrays(table, columns, units or {}, skip)
    kept = table.take(list(np.flatnonzero(dropped == 0))) if dropped.any() else table
    reading = Reading(
        Rows(**arrays, places=kept.places),
        columns,
        convention or counted_by(columns.get("params")),
        table.name,
    )
    if dropped.any():
        left = int(dropped.sum())
        gone = f"{left} rows that can't be used are" if left > 1 else "1 row that can't be used is"
        reading.notes.append(f"{gone} left out (--skip-invalid).")
    _compute(reading)
    _plausible(reading)
    _repeated(reading)
    reading.notes += _mixture(kept, columns)
    return reading


def _present(table: Table, columns: dict[str, str], wanted: Sequence[str], need_loss: bool) -> None:
    """Whether all that is needed is there or can be derived."""
    have = {role for role in ("params", "tokens", "compute") if role in columns}
    missing = [role for role in wanted if role not in columns]
    if len(have) >= 2:
        missing = [role for role in missing if role not in ("params", "tokens", "compute")]
    if need_loss and "loss" not in columns:
        missing.append("loss")
    if missing:
        names = list(table.columns)
        shown = ", ".join(name[:30] for name in names[:8]) + (" ..." if len(names) > 8 else "")
        options = ", ".join(f"{ROLES[role][0]} NAME" for role in missing)
        raise InputError(
            f"{table.name} has no column for {one_of(missing, 'and')}; its columns are {shown}.",
            f"Name {'it' if len(missing) == 1 else 'them'}: {options}.",
        )


def _one_setting(table: Table, columns: dict[str, str]) -> None:
    """Refuse a table whose rows count parameters in several ways."""
    for name, cells in table.columns.items():
        word = folded(name)
        if name in columns.values() or not (
            "convention" in word or word in ("param_count", "params_counted")
        ):
            continue
        values = list(dict.fromkeys(str(cell) for cell in cells))
        if len(values) > 1 and number_of(values[0]) is None:
            raise InputError(
                f"{table.name} mixes conventions: column {name[:40]} has {', '.join(values[:4])}.",
                f"Choose one: --where {name}={values[0]}.",
            )


def _arrays(
    table: Table, columns: dict[str, str], units: Mapping[str, float], skip: bool
) -> tuple[dict[str, Any], Array]:
    """Columns as arrays of the rows that can be used, and which can't."""
    problems = Problems()
    found: dict[str, Array] = {}
    for role, name in columns.items():
        if role == "runs":
            continue
        with problems:
            found[role] = numbers(
                table, name, role, suffixed=role in ("params", "tokens", "unique"), skip=skip
            )
            found[role] = found[role] * units.get(role, 1.0)
    problems.check()
    bad = np.zeros(len(table), dtype=bool)
    for values in found.values():
        bad |= np.isnan(values)
    if bad.all():
        raise InputError(f"{table.name} has no row that can be used.", "Look at its columns, or name others.")
    arrays: dict[str, Any] = {role: values[~bad] for role, values in found.items()}
    arrays["losses"] = arrays.pop("loss", np.ones(int((~bad).sum())))
    if "runs" in columns:
        labels = np.array([str(cell) for cell in table.columns[columns["runs"]]])[~bad]
        arrays["runs"] = np.unique(labels, return_inverse=True)[1]
    return arrays, bad.astype(float)


def _compute(reading: Reading) -> None:
    """Derive the one of parameters, tokens and compute that is missing; check all three where given."""
    rows, name = reading.rows, reading.name
    if rows.params is not None and rows.tokens is not None and rows.compute is not None:
        ratio = rows.compute / rows.params / rows.tokens
        middle = float(np.median(ratio))
        low, high = (float(one) for one in np.percentile(ratio, [5, 95]))
        exact = np.abs(ratio / FACTOR - 1) < EXACT
        parted = 0.2 < exact.mean() < 0.95 and bool((np.abs(ratio[~exact] / FACTOR - 1) > OFF).all())
        if high / low > MIXED or parted:
            raise InputError(
                f"{name} mixes conventions: compute is {low:.3g} to {high:.3g} x N x D over its "
                f"rows (6 is usual).",
                "Name columns that belong together (--params-col, --compute-col), choose rows "
                "with --where, or "
                "leave compute out with --compute-col none.",
            )
        if abs(middle / FACTOR - 1) <= SAME:
            return
        rows.factor = middle
        reading.notes.append(
            f"Compute is {middle:.3g} x N x D in the median ({low:.3g} to {high:.3g}), not 6: "
            f"optima use that."
        )
    elif rows.params is not None and rows.tokens is None and rows.compute is not None:
        rows.tokens = rows.compute / rows.factor / rows.params
        reading.notes.append("Tokens are derived: D = C / (6 N).")
    elif rows.params is None and rows.tokens is not None and rows.compute is not None:
        rows.params = rows.compute / rows.factor / rows.tokens
        reading.notes.append("Parameters are derived: N = C / (6 D).")


def _plausible(reading: Reading) -> None:
    """Counts too small to be counts are in other units."""
    problems = Problems()
    for role, least in (("params", 1e5), ("tokens", 1e5)):
        values = getattr(reading.rows, role)
        if values is None:
            continue
        with problems:
            low, high = float(values.min()), float(values.max())
            if high < least:
                unit = "1e6" if role == "params" and high >= 10 else "1e9"
                raise InputError(
                    f"{reading.name}: the {role} are {low:.3g} to {high:.3g}, too few to be a count.",
                    f"Say what one stands for (1e6 or 1e9): --{role}-unit {unit}.",
                )
            if high > 1e18:
                raise InputError(
                    f"{reading.name}: the {role} reach {high:.3g}, above the largest that makes "
                    f"sense (10^18).",
                    f"Check the column ({ROLES[role][0]}) and --{role}-unit.",
                )
    problems.check()


def _repeated(reading: Reading) -> None:
    """Rows that are there twice count twice."""
    rows = reading.rows
    columns = [one for one in (rows.params, rows.tokens, rows.compute, rows.losses) if one is not None]
    again = len(rows) - len(np.unique(np.stack(columns, axis=1), axis=0))
    if again:
        told = f"{again} rows repeat others" if again > 1 else "1 row repeats another"
        reading.notes.append(f"{told}; each counts as often as it is there.")


def _mixture(table: Table, columns: dict[str, str]) -> list[str]:
    """Columns of words that split the rows into settings, which one law can't tell apart."""
    notes = []
    for name, cells in table.columns.items():
        if name in columns.values():
            continue
        values = list(dict.fromkeys(str(cell) for cell in cells))
        words = [value for value in values if number_of(value) is None]
        if words and 2 <= len(values) <= 6 and len(cells) >= 4 * len(values):
            notes.append(
                f"Column {name[:40]} has {', '.join(value[:20] for value in values)}: one law is "
                f"fitted to all; "
                f"--where {name}={values[0]} chooses."
            )
    return notes
