"""Which modules an adapter stands on: names as users and frameworks write them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from llmcalc.errors import InputError, did_you_mean
from llmcalc.model.dialects import gguf_name, module_name
from llmcalc.model.inventory import Group, Inventory, Op, Tensor, size

Key = tuple[str, str, str]
"""Component, place and role of a linear."""

ALL = ("all-linear", "all_linear", "all", "linear")
ROLES = {
    "q": ("query",),
    "k": ("key",),
    "v": ("value",),
    "o": ("output",),
    "query": ("query",),
    "key": ("key",),
    "value": ("value",),
    "proj": ("output",),
    "projection": ("output",),
    "output_proj": ("output",),
    "mlp": ("gate", "up", "down", "gate_up"),
    "head": ("unembedding",),
    "lm_head": ("unembedding",),
    "attention": ("query", "key", "value", "qkv", "output"),
    "attn": ("query", "key", "value", "qkv", "output"),
    "w1": ("gate",),
    "w2": ("down",),
    "w3": ("up",),
    "linear_qkv": ("qkv", "query", "key", "value"),
    "linear_proj": ("output",),
    "linear_fc1": ("gate", "up", "gate_up"),
    "linear_fc2": ("down",),
}
"""Names of other dialects (litgpt, torchtune, Megatron), where a model has no module of that name."""

SEGMENTS = {"q": 0, "query": 0, "k": 1, "key": 1, "v": 2, "value": 2}
"""litgpt adapts the queries, keys or values of a fused projection by themselves."""


class Linear:
    """One linear of a group of equal layers.

    Attributes
    ----------
    group, role : Group, str
        Where it stands.
    outputs, inputs, copies : int
        Its widths, and how many of it a layer has. [-]
    tensor : Tensor or None
        Its weight; None of a tied head.
    """

    __slots__ = ("copies", "group", "inputs", "op", "outputs", "role", "tensor")

    def __init__(self, group: Group, op: Op, tensor: Tensor | None) -> None:
        self.group, self.op, self.role = group, op, op.role
        self.outputs, self.inputs, self.copies = size(op.out), size(op.inp), op.stored
        self.tensor = tensor
        if tensor is None:  # a tied head multiplies by the embedding
            self.role = "unembedding"

    @property
    def names(self) -> tuple[str, str]:
        """Its module's name and GGUF's."""
        if self.tensor is None:
            return "lm_head", "output"
        layer = self.group.layers[0] if self.group.layers else None
        gguf = gguf_name(self.group, self.tensor, layer) or ""
        return module_name(self.group, self.tensor, layer), gguf.removesuffix(".weight")

    @property
    def key(self) -> Key:
        """What tells it apart."""
        return self.group.component, self.group.place, self.role

    @property
    def last(self) -> str:
        """The last word of its module's name, as PEFT takes it."""
        return self.names[0].rsplit(".", 1)[-1]

    def called(self, word: str) -> bool:
        """Whether a word is its name, or the end of it."""
        return any(name == word or name.endswith(f".{word}") for name in self.names)


def linears(inventory: Inventory) -> Iterator[Linear]:
    """Every linear of a model."""
    for group in inventory.groups:
        held = {tensor.role: tensor for tensor in group.tensors if tensor.part in ("weight", "")}
        for op in group.ops:
            tied = op.role == "embedding" and group.place == "head"
            if tied or (op.kind == "linear" and op.role in held):
                yield Linear(group, op, held.get(op.role))


def find_targets(inventory: Inventory, words: Any, experts: bool = False) -> dict[Key, tuple[int, ...]]:
    """The linears that carry an adapter, with the parts of a fused one that do; none means all of it.

    Parameters
    ----------
    inventory : Inventory
        The model.
    words : str or sequence of str
        ``all-linear``, or names of modules: ``q_proj,v_proj``.
    experts : bool
        Whether ``all-linear`` means routed experts too, as where each is a module of its own (Megatron).

    Raises
    ------
    InputError
        If a word is no module's name, with the nearest and what there is.

    Examples
    --------
    >>> import llmcalc
    >>> found = find_targets(llmcalc.model("llama-3.2-3b"), "q_proj,v_proj")
    >>> sorted(role for _, _, role in found)
    ['query', 'value']
    """
    asked = _words(words)
    there = list(linears(inventory))
    found: dict[Key, tuple[int, ...]] = {}
    wrong = []
    for word in asked:
        if word.lower() in ALL:
            found |= {one.key: () for one in there if is_plain(one) or (experts and _is_expert(one))}
            continue
        hits = [one for one in there if one.called(word)]
        if hits:
            found |= {one.key: () for one in hits}
        elif not _other_dialect(word.lower(), there, found):
            wrong.append(word)
    if wrong:
        raise _unknown(inventory, wrong, there)
    return found


def _words(words: Any) -> list[str]:
    parts = words.split(",") if isinstance(words, str) else list(words or ())
    asked = [str(word).strip() for word in parts if str(word).strip()]
    if not asked:
        raise InputError("--lora-targets names no module.", "Use all-linear, or names such as q_proj,v_proj.")
    return asked


def is_plain(one: Linear) -> bool:
    """Whether ``all-linear`` means it: no head, no router, no experts that share one tensor."""
    if one.tensor is not None and one.tensor.part != "weight":
        return False  # a bare parameter is no module
    routed = one.role.startswith("expert_") or one.role in ("router", "shared_router")
    return one.group.place != "head" and not routed


def _is_expert(one: Linear) -> bool:
    return one.role.startswith("expert_")


def _other_dialect(word: str, there: Sequence[Linear], found: dict[Key, tuple[int, ...]]) -> bool:
    """Take a word as another framework's name, a part of a fused projection included."""
    roles = ROLES.get(word, ())
    hits = [one for one in there if one.role in roles]
    found |= {one.key: () for one in hits}
    if hits or word not in SEGMENTS:
        return bool(hits)
    fused = [one for one in there if one.role == "qkv" and len(one.op.out) == 3]
    for one in fused:
        found[one.key] = tuple(sorted({*found.get(one.key, ()), SEGMENTS[word]}))
    return bool(fused)


def _unknown(inventory: Inventory, wrong: list[str], there: Sequence[Linear]) -> InputError:
    names = list(dict.fromkeys(one.last for one in there))
    near = did_you_mean(wrong[0], [*names, "all-linear"], 2)
    if not near:  # "qproj" for q_proj
        near = [name for name in names if name.replace("_", "") == wrong[0].replace("_", "").lower()]
    hint = f"Did you mean {' or '.join(near)}? " if near else ""
    which = f"{wrong[0]!r}" if len(wrong) == 1 else ", ".join(map(repr, wrong[:4]))
    return InputError(
        f"--lora-targets: {inventory.name} has no module {which}.",
        f"{hint}Use all-linear, or of {', '.join(names[:16])}.",
    )
