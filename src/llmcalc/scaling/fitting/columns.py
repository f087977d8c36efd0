"""Which column is what, and whether its cells can be used."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from llmcalc.errors import InputError, Problems, did_you_mean
from llmcalc.scaling.fitting.powers import Array
from llmcalc.scaling.fitting.tables import Table

ROLES: dict[str, tuple[str, tuple[str, ...]]] = {
    "params": ("--params-col", ("n", "params", "parameters", "n_params", "num_params", "n_parameters",
               "num_parameters", "param_count", "model_size", "model_params", "size", "n_opt", "n_nominal")),
    "tokens": ("--tokens-col", ("d", "tokens", "n_tokens", "num_tokens", "training_tokens", "train_tokens",
               "tokens_seen", "total_tokens", "d_total", "t", "d_opt", "dataset_size")),
    "loss": ("--loss-col", ("loss", "l", "val_loss", "validation_loss", "eval_loss", "test_loss",
             "final_loss", "train_loss", "xent", "cross_entropy", "bpb", "bits_per_byte", "val_bpb", "nll")),
    "compute": ("--compute-col", ("c", "flops", "flop", "compute", "training_flop", "training_flops",
                "train_flops", "total_flops", "budget")),
    "unique": ("--unique-col", ("u", "unique_tokens", "u_unique", "unique", "u_d", "tokens_unique")),
    "experts": ("--experts-col", ("experts", "e", "n_experts", "num_experts", "nume")),
    "spread": ("--sd-col", ("n_star_std", "sd", "std", "log_sd")),
    "runs": ("--run-col", ("run", "run_name", "run_id", "model", "model_name", "name", "experiment")),
}  # fmt: skip
"""Option and usual names of each role, folded; the first that is there is taken."""

VARIANTS = {
    "total": ("n_total", "total_params", "params_total", "n_with_embedding"),
    "non-embedding": ("n_non_embedding", "non_embedding_params", "n_no_embed", "n_nonembedding",
                      "params_non_embedding", "non_vocabulary_params", "non_vocab_params", "n_nv",
                      "non_embed_params"),
    "active": ("n_active", "active_params", "n_act", "na", "params_active"),
}  # fmt: skip
"""Columns whose names say how parameters are counted."""

CONVENTIONS = ("total", "non-embedding", "active", "matmul")
REQUIRED = ("params", "tokens", "loss", "compute")
SUFFIXED = {"k": 1e3, "m": 1e6, "b": 1e9, "g": 1e9, "t": 1e12}


def folded(name: str) -> str:
    """A column's name without case and signs.

    Examples
    --------
    >>> folded("Training FLOP"), folded("D/N")
    ('training_flop', 'd_n')
    """
    return re.sub(r"[^a-z0-9]+", "_", name.strip().lower()).strip("_")


def find(table: Table, role: str, told: str | None, convention: str | None = None) -> str | None:
    """The column of a role: as told, else by its usual names; None where there is none.

    Raises
    ------
    InputError
        If the column told is not there, or several may be meant.
    """
    option, names = ROLES[role]
    columns = list(table.columns)
    if told is not None:
        if told in columns:
            return told
        alike = [name for name in columns if folded(name) == folded(told)]
        if len(alike) == 1:
            return alike[0]
        near = did_you_mean(told, columns)
        hint = f"Did you mean {' or '.join(near)}? " if near else ""
        raise InputError(f"There is no column {told[:40]!r} for {option}.", f"{hint}{_listed(columns)}")
    by_name: dict[str, list[str]] = {}
    for name in columns:
        by_name.setdefault(folded(name), []).append(name)
    if role == "params":
        found = _variant(by_name, convention)
        if found is not None:
            return found
    for name in names:
        if name in by_name:
            if len(by_name[name]) > 1 and role in REQUIRED:
                raise InputError(
                    f"Columns {_quoted(by_name[name])} may both be the {role}.", f"Choose with {option}."
                )
            return by_name[name][0]
    if role == "loss":
        alike = [name for name in columns if re.search(r"loss|bpb|(^|_)ce(_|$)|xent", folded(name))]
        if len(alike) == 1:
            return alike[0]
        if alike:
            raise InputError(f"The loss may be any of {_quoted(alike)}.", f"Choose with {option} {alike[0]}.")
    return None


def _variant(by_name: Mapping[str, Sequence[str]], convention: str | None) -> str | None:
    """A column that says how it counts: the one asked for; the only one, where none has a plain name."""
    plain = [name for name in ROLES["params"][1] if name in by_name]
    there = {kind: by_name[name][0] for kind, names in VARIANTS.items() for name in names if name in by_name}
    if convention in there:
        return there[convention]
    if plain or not there:
        return None
    if len(there) > 1:
        raise InputError(
            f"Parameters are counted in {len(there)} ways: columns {_quoted(list(there.values()))}.",
            f"Choose one: --params-convention {' or '.join(there)}.",
        )
    return next(iter(there.values()))


def counted_by(name: str | None) -> str | None:
    """What a column's name says of how it counts parameters."""
    for kind, names in VARIANTS.items():
        if name is not None and folded(name) in names:
            return kind
    return None


def _quoted(names: Sequence[str]) -> str:
    shown = ", ".join(names[:6])
    return f"{shown} and {len(names) - 6} more" if len(names) > 6 else shown


def _listed(columns: Sequence[str]) -> str:
    return f"The columns are {_quoted(columns)}."


# -- cells --------------------------------------------------------------------------------------


def number_of(cell: Any, suffixed: bool = False) -> float | None:
    """A cell as a number; nan where it is empty, None where it is text.

    Examples
    --------
    >>> number_of("1e9"), number_of("70M", True), number_of("70M"), number_of("")
    (1000000000.0, 70000000.0, None, nan)
    """
    if cell is None:
        return math.nan
    if isinstance(cell, bool):
        return None
    if not isinstance(cell, str):
        try:
            return float(cell)
        except (TypeError, ValueError, OverflowError):
            return None
    text = cell.strip()
    if not text or text.lower() in ("na", "n/a", "nan", "null", "none", "-"):
        return math.nan
    factor = 1.0
    if suffixed and text[-1:].lower() in SUFFIXED and len(text) > 1:
        factor, text = SUFFIXED[text[-1].lower()], text[:-1]
    try:
        return float(text) * factor
    except ValueError:
        return None


def numbers(
    table: Table, column: str, what: str, positive: bool = True, suffixed: bool = False, skip: bool = False
) -> Array:
    """A column as numbers.

    Parameters
    ----------
    table : Table
        Where it is.
    column : str
        Its name.
    what : str
        What it means, for errors.
    positive : bool
        Whether all must be above 0.
    suffixed : bool
        Whether ``70M`` is a number.
    skip : bool
        Whether cells that can't be used become nan instead of an error.

    Raises
    ------
    InputError
        With the first rows that can't be used.
    """
    found = [number_of(cell, suffixed) for cell in table.columns[column]]
    values = np.array([math.nan if one is None else one for one in found])
    checks = (
        ("text", np.array([one is None for one in found]), "not a number", "Mend those cells"),
        ("empty", np.isnan(values), "missing (empty or NaN)", "Mend those cells"),
        ("infinite", np.isinf(values), "infinite", "Mend those cells"),
        ("negative", positive & (values <= 0), "not above 0", _sign_remedy(what, values)),
    )
    problems, usable = Problems(), np.ones(len(found), dtype=bool)
    for _, bad, told, remedy in checks:
        bad = bad & usable
        if not bad.any():
            continue
        usable &= ~bad
        if skip:
            values = np.where(bad, math.nan, values)
            continue
        with problems:
            _refuse(table, column, what, np.flatnonzero(bad), told, remedy)
    problems.check()
    return values


def _refuse(table: Table, column: str, what: str, places: Any, told: str, remedy: str) -> None:
    first = table.places[places[0]]
    cell = table.columns[column][places[0]]
    shown = "" if told.startswith("missing") else f" ({str(cell)[:20]!r})"
    rest = len(places) - 1
    more = f" and {rest} more row{'s' if rest > 1 else ''}" if rest else ""
    raise InputError(
        f"{table.name}, {first}{more}: the {what} in column {column[:40]} is {told}{shown}.",
        f"{remedy}, or leave such rows out with --skip-invalid.",
    )


def _sign_remedy(what: str, values: Array) -> str:
    if what == "loss":
        return "A law of losses needs them above 0: choose another column with --loss-col"
    if what == "compute" and (np.abs(values) > 2**60).any():
        return (
            "6 x N x D in 64-bit integers ends at 9.2e18 and turns negative: compute it in floating point, "
            "let it follow from N and D (--compute-col none)"
        )
    return "Mend those cells"


OPERATORS = ("!=", "<=", ">=", "=", "<", ">")


def filtered(table: Table, conditions: Sequence[str]) -> Table:
    """The rows that meet all conditions, such as ``condition=raw_loss`` or ``C<1e21``.

    Raises
    ------
    InputError
        For a condition that can't be read, or that leaves nothing.
    """
    problems = Problems()
    for condition in conditions:
        with problems:
            table = _filtered(table, str(condition))
    problems.check()
    return table


def _filtered(table: Table, condition: str) -> Table:
    found = re.match(r"(.+?)(!=|<=|>=|=|<|>)(.*)", condition)
    example = "Write --where COLUMN=VALUE, or with !=, <, <=, >, >=."
    if found is None:
        raise InputError(f"--where {condition[:40]!r} is no condition.", example)
    name, sign, value = found[1].strip(), found[2], found[3].strip()
    if name not in table.columns:
        near = did_you_mean(name, table.columns)
        hint = f"Did you mean {' or '.join(near)}? " if near else ""
        raise InputError(
            f"--where: there is no column {name[:40]!r}.", f"{hint}{_listed(list(table.columns))}"
        )
    cells, limit = table.columns[name], number_of(value)
    kept = []
    for place, cell in enumerate(cells):
        own = number_of(cell)
        if limit is not None and own is not None and not math.isnan(limit):
            good = {"=": own == limit, "!=": own != limit, "<": own < limit, "<=": own <= limit,
                    ">": own > limit, ">=": own >= limit}[sign]  # fmt: skip
        elif sign in ("=", "!="):
            good = (str(cell).strip() == value) == (sign == "=")
        else:
            raise InputError(f"--where {condition[:40]!r} compares text by size.", example)
        if good:
            kept.append(place)
    if not kept:
        sizes = [one for one in map(number_of, cells) if one is not None and math.isfinite(one)]
        values = list(dict.fromkeys(str(cell)[:20] for cell in cells))
        known = f"{min(sizes):.4g} to {max(sizes):.4g}" if sizes else ", ".join(values[:6])
        raise InputError(f"--where {condition[:40]!r} leaves no rows.", f"Column {name[:40]} has {known}.")
    return table.take(kept)
