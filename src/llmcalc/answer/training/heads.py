"""Heads: how many outputs they have, and models whose head is not the embedding's table."""

from __future__ import annotations

from copy import copy

from llmcalc.model.inventory import Inventory, Op, Tensor, size


def vocabulary(inventory: Inventory) -> int:
    """Outputs of the head. [-]"""
    heads = [size(op.out) for g in inventory if g.place == "head" for op in g.ops if op.kind == "linear"]
    if heads:
        return max(heads)
    tables = [t.shape[0] for g in inventory for t in g.tensors if t.role == "embedding" and len(t.dims) == 2]
    return max(tables, default=0)


def untied(inventory: Inventory) -> Inventory:
    """The model with a head of its own, where a framework does not tie it to the embedding (litgpt)."""
    table = next((t for g in inventory for t in g.tensors if t.role == "embedding"), None)
    groups, changed = [], False
    for group in inventory.groups:
        tied = [op for op in group.ops if op.role == "embedding"] if group.place == "head" else []
        if not tied or table is None:
            groups.append(group)
            continue
        head = Tensor("unembedding", table.dims)
        ops = [
            Op("linear", "unembedding", table.dims[0], table.dims[1]) if op in tied else op
            for op in group.ops
        ]
        own = copy(group)
        own.tensors, own.ops = (*group.tensors, head), tuple(ops)
        groups.append(own)
        changed = True
    return inventory.with_groups(groups) if changed else inventory
