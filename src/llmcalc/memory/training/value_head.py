"""A language model's trunk with one number for each token instead of logits: critics and reward models."""

from __future__ import annotations

from llmcalc.model.inventory import Group, Inventory, Op, Tensor, dim

HEADS = ("embedding", "unembedding", "classifier")
"""Roles of a head's matrix; an embedding there is a tied one."""


def scored(inventory: Inventory) -> Inventory:
    """The same model with a scalar head.

    Parameters
    ----------
    inventory : Inventory
        A language model, or one that has such a head already.

    Examples
    --------
    Llama-3.1-8B as a critic: no head of 128,256 words, but 4,096 weights and a bias:

    >>> import llmcalc
    >>> policy = llmcalc.model("llama-3.1-8b")
    >>> policy.params - scored(policy).params == 128_256 * 4096 - 4097
    True
    """
    table = next((t for g in inventory for t in g.tensors if t.role == "embedding"), None)
    width = table.shape[-1] if table is not None else 0
    groups, done = [], False
    for group in inventory.groups:
        if group.place != "head" or group.component != "text":
            groups.append(group)
            continue
        ops = [op for op in group.ops if op.role not in HEADS]
        tensors = [t for t in group.tensors if t.role not in HEADS]
        groups.append(_with_head(group, ops, tensors, width))
        done = True
    if not done:
        groups.append(_with_head(Group("text", "head", (), ()), [], [], width))
    return inventory.with_groups(groups)


def _with_head(group: Group, ops: list[Op], tensors: list[Tensor], width: int) -> Group:
    """A group with the scalar head added."""
    out, inp = dim(score=1), dim(hidden=width)
    return Group(
        group.component, group.place, group.layers,
        [*tensors, Tensor("classifier", (out, inp)), Tensor("classifier", (out,), "bias")],
        group.caches, [*ops, Op("linear", "classifier", out, inp)], group.prefix, group.names, group.stored,
    )  # fmt: skip
