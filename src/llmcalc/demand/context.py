"""The context of an estimate: as given, or what the requests take."""

from __future__ import annotations

from typing import Any

from llmcalc.demand import demand_of
from llmcalc.errors import InputError
from llmcalc.formula import Quantity, is_array
from llmcalc.model.inventory import Inventory
from llmcalc.units import MAX_TOKENS, parse_length, parse_max_model_len


def array_of(value: Any, what: str, most: int) -> Any:
    """Check an array (or list) of whole numbers above 0.

    Raises
    ------
    InputError
        If it is empty, not numeric, not whole, or out of range.
    """
    import numpy as np

    remedy = "Use whole numbers above 0."
    try:
        array = np.asarray(value)
    except (ValueError, OverflowError):
        raise InputError(f"{what} is a ragged list.", remedy) from None
    if array.size == 0 or array.dtype.kind not in "iuf":
        raise InputError(
            f"{what} is an array of {array.dtype}, not of numbers." if array.size else f"{what} is empty.",
            remedy,
        )
    if array.dtype.kind == "f" and (not np.isfinite(array).all() or (array != np.floor(array)).any()):
        raise InputError(f"{what} holds values that are not whole numbers.", remedy)
    if array.ndim > 1:
        raise InputError(f"{what} has {array.ndim} dimensions.", "Give a flat list; ravel a grid first.")
    least, largest = array.min(), array.max()
    if least < 1 or largest > most:
        raise InputError(f"{what} holds {least if least < 1 else largest}; allowed is 1 to {most:,}.", remedy)
    return array.astype(np.int64, copy=False)


def length_of(value: Any, what: str) -> Quantity:
    """Read a length, or an array of them. [tokens]"""
    return array_of(value, what, MAX_TOKENS) if is_array(value) else parse_length(value, what)


def settle_context(inventory: Inventory, scenario: Any, given: dict[str, Any]) -> Quantity:
    """Tokens of a request, the longest where they vary; its prompt, output and demand are set.

    Parameters
    ----------
    inventory : Inventory
        The model; its limit binds.
    scenario : Scenario
        Whose `context` is the default.
    given : dict
        Keywords; None means not given.

    Raises
    ------
    InputError
        For lengths that can't be, contradict each other, or are above the model's limit.
    """
    stated = [name for name in ("context", "max_model_len") if given[name] is not None]
    lengths = [name for name in ("prompt", "output") if given[name] is not None]
    given_context: Quantity | None = None
    if given["max_model_len"] is not None:
        given_context = parse_max_model_len(given["max_model_len"])
    elif given["context"] is not None:
        given_context = length_of(given["context"], "--context")
    limit = inventory.context
    context = scenario.context if given_context is None else given_context
    most = None if scenario.allow_overlong else limit
    demand = demand_of(given, context if stated or not lengths else None, most)
    if len(stated) > 1 or (stated and lengths and not (demand and demand.varies)):
        options = " and ".join(f"--{name.replace('_', '-')}" for name in stated + lengths)
        raise InputError(f"{options} are given together.", "Give the context, or prompt and output.")
    if demand is not None:
        if lengths:
            scenario.prompt, scenario.output = int(demand.prompt) or None, int(demand.output) or None
        if stated and lengths and demand.total > context:
            raise InputError(
                f"Requests of up to {demand.total:,} tokens are longer than the context, {context:,}.",
                f"Use --context {demand.total} or more, or leave it out.",
            )
        context = demand.total
        scenario.demand = None if demand.is_plain else demand
    elif not stated:
        return context
    longest = context if limit is None or not is_array(context) else int(context.max())
    if limit is not None and longest > limit and not scenario.allow_overlong:
        raise InputError(
            f"--context {longest:,} is above the {limit:,} tokens that {inventory.name} was made for"
            f"{' (an unverified figure)' if 'context' in inventory.unproven else ''}.",
            f"Use --context {limit} or less, or --allow-overlong.",
        )
    return context
