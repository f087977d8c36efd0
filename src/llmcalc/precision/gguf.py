"""A model as a GGUF file of a file type: tensors renamed, stacked and split as llama.cpp's converter does.

The converter keeps vectors and a few small matrices in fp32, splits what llama.cpp reads apart (latent
attention's up-projection, fused gates of experts) and leaves vision and audio towers to a file of their
own (`mmproj`). What each tensor then becomes is said by `llmcalc.precision.mixtures`.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from llmcalc.model.dialects import gguf_name, module_name
from llmcalc.model.inventory import Cache, Group, Inventory, Tensor, dim, size
from llmcalc.precision.mixtures import DEFAULTS, FLOATS, FP32, NEEDS_IMATRIX, Entry, Shape, types

KEPT = ("text", "encoder")
"""Components of the file; towers go into another."""

ARCHITECTURES = {
    "falcon": "falcon", "qwen2": "qwen2", "olmo": "olmo", "nemotron-nas": "deci", "jais2": "jais2",
    "llama": "llama", "mistral": "llama",
}  # fmt: skip
"""llama.cpp's names, of the families that a rule names."""

MTP_KEPT = (
    "glm4_moe", "glm4_moe_lite", "glm_moe_dsa", "qwen3_5", "qwen3_5_text", "qwen3_5_moe", "qwen3_5_moe_text",
    "deepseek_v32", "exaone4_5", "exaone_moe", "mimo_v2_flash", "nemotron_h", "step3p5", "step3p7",
)  # fmt: skip
"""Families whose prediction layers the converter keeps, so that the quantizer counts them."""

DROPPED = ("pooler", "activation_positive", "activation_negative")
"""Roles that the converter leaves out, or writes into the metadata."""

POSITIONS = {"roberta": 2, "xlm-roberta": 2}
"""Rows of the position table that the converter cuts off."""

ONE_NUMBER = ("qwen3_next", "qwen3_5", "qwen3_5_moe")
"""Hybrids whose file gives one number of KV heads, though not every layer has them."""

FACTORS = {
    "llama3": ("rope_freqs",),
    "proportional": ("rope_freqs",),
    "longrope": ("rope_factors_long", "rope_factors_short"),
}
"""Tensors that scale rotary positions, by the configuration's word for it."""


def shape_of(inventory: Inventory) -> Shape:
    """What the quantizer's rules ask of a model."""
    kept = ("text", "mtp") if inventory.family in MTP_KEPT else ("text",)
    layers = {i for g in inventory.groups if g.component in kept for i in g.layers}
    experts = max((op.stored for g in inventory.groups for op in g.ops if op.stored > 1), default=0)
    heads = next(iter(inventory.split.values()), 0)
    text = [g for g in inventory.groups if g.component == "text" and g.layers]
    if inventory.family not in ONE_NUMBER:
        text = [g for g in text if 0 in g.layers]
    kv = max((_kv_heads(cache) for group in text for cache in group.caches), default=0)
    return Shape(ARCHITECTURES.get(inventory.family, inventory.family), len(layers), experts, heads, kv)


def _kv_heads(cache: Cache) -> int:
    if cache.kind == "latent":
        return 1
    return dict(cache.parts[0][1][0]).get("kv_heads", 0)


def converted(group: Group) -> Iterator[Tensor]:
    """The tensors of a group as the converter writes them, under roles that have GGUF names.

    A family says of a fused matrix that the converter splits it: ``"gguf:qkv": "query+key+value"``.
    """
    routed = any(t.role == "router" for t in group.tensors) and "gguf:dense" not in group.names
    ops = {op.role: op for op in group.ops if op.kind == "linear"}
    for tensor in group.tensors:
        op = ops.get(tensor.role)
        if op and tensor.dims[-2:] == (op.inp, op.out) and op.inp != op.out and tensor.part == "weight":
            turned = (*tensor.dims[:-2], op.out, op.inp)
            tensor = Tensor(tensor.role, turned, tensor.part, tensor.tag, tensor.dtype)
        if tensor.tag not in ("main", "buffer", "mtp"):
            continue
        hint = group.names.get(f"gguf:{tensor.role}", "")
        if tensor.role == "kv_b" and tensor.part == "weight" and not hint:
            yield from _split_latent(tensor, group)
        elif tensor.role.startswith("expert") and tensor.role.endswith("gate_up") and not hint:
            yield from _split_gates(tensor)
        elif tensor.role == "delta_qkvz":
            yield from _split_delta(tensor)
        elif "+" in hint:
            for place, role in enumerate(hint.split("+")):
                body = (tensor.dims[0][place : place + 1], *tensor.dims[1:])
                yield _shared(Tensor(role, body, tensor.part, tensor.tag, tensor.dtype), routed)
        else:
            yield _shared(tensor, routed)


def _shared(tensor: Tensor, routed: bool) -> Tensor:
    """A feed-forward beside routed experts is their shared expert, whatever the checkpoint calls it."""
    if not routed or tensor.role not in ("gate", "up", "down"):
        return tensor
    return Tensor(f"shared_{tensor.role}", tensor.dims, tensor.part, tensor.tag, tensor.dtype)


def _split_latent(tensor: Tensor, group: Group) -> Iterator[Tensor]:
    """Keys and values of the latent apart, a matrix for each head; keys transposed."""
    out, latent = tensor.dims
    many = dict(out[0])["heads"]
    rows = size(out) // many
    output = next(t for t in group.tensors if t.role == "output")
    value = size(output.dims[1]) // many
    heads = dim(heads=many)
    yield Tensor("key_b", (heads, latent, dim(head_dim=rows - value)), "weight", tensor.tag)
    yield Tensor("value_b", (heads, dim(head_dim=value), latent), "weight", tensor.tag)


def _split_gates(tensor: Tensor) -> Iterator[Tensor]:
    """Gate and up of all experts apart, rows first."""
    if tensor.part == "bias":
        for role in ("expert_gate", "expert_up"):
            yield Tensor(role, (tensor.dims[0], tensor.dims[1][:1]), "bias", tensor.tag)
        return
    lead, *body = tensor.dims
    out, inp = (body[0], body[1]) if len(body[0]) == 2 else (body[1], body[0])
    for role in ("expert_gate", "expert_up"):
        yield Tensor(role, (lead, out[:1], inp), "weight", tensor.tag)


def _split_delta(tensor: Tensor) -> Iterator[Tensor]:
    """Qwen3-Next's fused projection: query, key and value together, the gate apart."""
    out, hidden = tensor.dims
    yield Tensor("delta_qkv", (out[:-1], hidden), "weight", tensor.tag)
    yield Tensor("delta_gate", (out[-1:], hidden), "weight", tensor.tag)


def added(inventory: Inventory) -> list[Tensor]:
    """Tensors that the converter adds: the factors by which rotary frequencies are scaled."""
    kind, share = inventory.rope
    if inventory.family.startswith("gemma4"):
        kind, share = "proportional", 1.0  # of its full layers, whatever the configuration says
    heads = [
        dict(tensor.dims[0][0]).get("head_dim", 0)
        for group in inventory
        for tensor in group.tensors
        if tensor.role in ("query", "qkv") and tensor.part == "weight" and group.component == "text"
    ]
    if not heads or kind not in FACTORS:
        return []
    half = int(max(heads) * share) // 2
    return [Tensor(role, (dim(pairs=half),), "weight", "buffer", "fp32") for role in FACTORS[kind]]


def row_first(tensor: Tensor) -> tuple[int, ...]:
    """The shape as ggml counts it."""
    return tuple(map(size, reversed(tensor.dims)))


def name_of(group: Group, tensor: Tensor, layer: int | None) -> str:
    """The GGUF name of a tensor; where llama.cpp has none, one that no rule takes for another tensor's."""
    return gguf_name(group, tensor, layer) or f"?{group.component}.{layer}.{tensor.role}?{tensor.part}"


class File:
    """What a scheme's `apply` needs: a file type, with or without an importance matrix."""

    __slots__ = ("entry", "fallbacks", "file_type", "grade", "imatrix", "name", "notes", "source")

    def __init__(self, file_type: str, imatrix: bool = False) -> None:
        self.file_type, self.imatrix = file_type, imatrix
        self.name = file_type + ("+imatrix" if imatrix else "")
        self.grade, self.source = "exact", "llama.cpp v0.5.0, llama-quant.cpp"
        self.notes: list[str] = []
        self.entry: dict[str, Any] = {}
        self.fallbacks: dict[str, str] = {}

    def apply(self, inventory: Inventory, model: str) -> Inventory:
        """The inventory as this file holds it."""
        kept = (*KEPT, "mtp") if inventory.family in MTP_KEPT else KEPT
        groups = [_renamed(group, inventory) for group in inventory.groups if group.component in kept]
        groups[0].tensors += tuple(added(inventory))
        entries = [
            Entry(name_of(g, t, layer), row_first(t))
            for g in groups
            for layer in (g.layers[: g.stored] or (None,))
            for t in g.tensors
        ]
        found, self.fallbacks = types(entries, self.file_type, shape_of(inventory), self.imatrix)
        made = copy.copy(inventory)
        made.groups = tuple(part for group in groups for part in self._typed(group, found))
        made.loaded = (*inventory.loaded, "buffer")
        unnamed = [t.role for g in groups for t in g.tensors if gguf_name(g, t, 0) is None]
        self.notes = []
        self._tell(inventory, list(dict.fromkeys(unnamed)))
        return made

    def _typed(self, group: Group, found: dict[str, str]) -> list[Group]:
        """A group with its types, split where layers differ."""
        kinds: dict[tuple[str, ...], list[int]] = {}
        for layer in group.layers[: group.stored] or (None,):
            chosen = tuple(self._type(name_of(group, t, layer), t, found) for t in group.tensors)
            kinds.setdefault(chosen, []).append(-1 if layer is None else layer)
        parts = []
        for chosen, layers in kinds.items():
            tensors = [
                Tensor(t.role, t.dims, t.part, t.tag, kind)
                for t, kind in zip(group.tensors, chosen, strict=True)
            ]
            parts.append(group.with_layers(group.layers if len(kinds) == 1 else tuple(layers), tensors))
        return parts

    def _type(self, name: str, tensor: Tensor, found: dict[str, str]) -> str:
        if name in found:
            return found[name]
        if len(tensor.dims) < 2 or not name.endswith("weight") or FP32.search(name):
            return "fp32"
        return DEFAULTS[self.file_type] if self.file_type in FLOATS else "fp16"

    def _tell(self, inventory: Inventory, unnamed: list[str]) -> None:
        """Notes of what the reader should know, and how sure the file is."""
        towers = sorted({g.component for g in inventory.groups} - {*KEPT, "mtp"})
        no_decoder = bool(towers) and not any(group.caches for group in inventory.groups)
        self.grade = "assumed" if unnamed or no_decoder else "exact"
        if unnamed:
            told = ", ".join(unnamed[:3]) + (f" and {len(unnamed) - 3} more" if len(unnamed) > 3 else "")
            self.notes.append(
                f"No GGUF names are known for tensors of {inventory.family} ({told}): llama.cpp may not make "
                "such a file, and their types are assumed."
            )
        if no_decoder:
            self.notes.append(f"{inventory.family} has no decoder: llama.cpp may not make such a file.")
        if towers:
            many = len(towers) > 1
            self.notes.append(
                f"The {' and '.join(towers)} {'are' if many else 'is'} in a GGUF file of "
                f"{'their' if many else 'its'} own (mmproj), not counted."
            )
        if self.fallbacks:
            name, kind = next(iter(self.fallbacks.items()))
            self.notes.append(
                f"{len(self.fallbacks)} tensors have rows that no block of {kind} divides, {name} for one: "
                "llama.cpp stores them in a larger type, as counted here."
            )
        if self.file_type in NEEDS_IMATRIX and not self.imatrix:
            self.notes.append(
                f"llama.cpp makes {self.file_type} with an importance matrix only: --quant "
                f"{self.file_type}+imatrix, which may differ in some tensors."
            )
        if self.file_type in FLOATS:
            self.notes.append("Vectors and routers stay in fp32, as llama.cpp's converter writes them.")


def _renamed(group: Group, inventory: Inventory) -> Group:
    made = copy.copy(group)
    made.tensors = tuple(t for t in converted(group) if not _is_dropped(group, t))
    cut = POSITIONS.get(inventory.family)
    if cut:
        made.tensors = tuple(_shortened(t, cut) if t.role == "position" else t for t in made.tensors)
    return made


def _is_dropped(group: Group, tensor: Tensor) -> bool:
    """Whether the converter leaves a tensor out: also the heads that BERT was trained with."""
    return tensor.role in DROPPED or module_name(group, tensor, 0).startswith("cls.")


def _shortened(tensor: Tensor, cut: int) -> Tensor:
    rows = dim(position=size(tensor.dims[0]) - cut)
    return Tensor(tensor.role, (rows, *tensor.dims[1:]), tensor.part, tensor.tag, tensor.dtype)
