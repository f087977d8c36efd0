"""What was asked of a training step together with the models that it is about."""

from __future__ import annotations

from typing import Any

from llmcalc.answer.training.asked import Asked, resolve
from llmcalc.catalog import Catalog
from llmcalc.errors import InputError, Problems
from llmcalc.model import readers
from llmcalc.model.inventory import Inventory
from llmcalc.precision import stored_as_declared


def understand(
    model: Any,
    params: Any,
    config: Any,
    assume: str | None,
    book: Catalog,
    given: dict[str, Any],
    reference: Any,
    teacher: Any,
) -> tuple[Inventory, Asked, list[Any]]:
    """Read the models and resolve the rest, telling the mistakes of all together."""
    problems = Problems()
    inventory = None
    others: list[Any] = []
    with problems:
        inventory = stored_as_declared(readers.read_only(model, params, config, assume, book), book)
        if inventory.family == "header":
            raise InputError(
                f"{inventory.name}: the header tells the weights, not the layers.",
                "Put the model's config.json beside it.",
            )
    with problems:
        resolved = resolve(inventory or nothing(), book, given)
    for label, source in (("reference model", reference), ("teacher", teacher)):
        with problems:
            if source is not None and inventory is not None:
                others.append(_other(label, source, inventory, book, assume))
    problems.check()
    assert inventory is not None
    if resolved.mesh is not None and others:
        from llmcalc.answer.training.beside import check_beside

        for label, other, _ in others:
            with problems:
                check_beside(resolved, label, other)
        problems.check()
    resolved.reference, resolved.teacher = reference, teacher
    made = []
    for label, other, same in others:
        made.append((label, other, same and resolved.choice.leaves_model))
    return inventory, resolved, made


def nothing() -> Inventory:
    """What stands for a model that could not be read, or that is not named."""
    from llmcalc.model.readers.count import read_count

    return read_count(1)


def _other(
    label: str, source: Any, inventory: Inventory, book: Catalog, assume: str | None
) -> tuple[str, Inventory, bool]:
    """A frozen model beside the trained one, and whether it is the same."""
    if isinstance(source, str) and source.strip().lower() == "same":
        return label, inventory, True
    other = stored_as_declared(readers.read(source, book, assume), book)
    if other.is_opaque:
        raise InputError(f"The {label} {source!r} is a bare count.", "Name a model, or same.")
    return label, other, False
