"""What a weight file stores, and how it compares with what the configuration promises."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from llmcalc.model.dialects import NamedTensor
from llmcalc.model.inventory import FLOATS, Group, Inventory, Tensor, dim

SCALES = (
    "_scale", "_scale_inv", "_scales", "_scale_2", "_zeros", "_zero_point", ".scales", ".qzeros", ".g_idx",
    "_absmax", "quant_map", "quant_state", "_blocks_scales", ".SCB", "_amax", "weight_shape",
)  # fmt: skip
"""How names of scales, zero points and packing tables end."""

BUFFERS = (
    "inv_freq", ".attn.bias", ".attn.masked_bias", ".attention.bias", ".attention.masked_bias",
    "position_ids",
    "e_score_correction_bias", "expert_bias", "layer_scalar", "rope_freqs", ".std_bias", ".std_scale",
)  # fmt: skip
"""How names of buffers that some checkpoints save end."""


TIED = ("lm_head.weight", "proj_out.weight", "output.weight", "embed_out.weight", "embed_tokens.weight",
        "shared.weight", "wte.weight")  # fmt: skip
"""How names of tied tensors end that some checkpoints save once more."""

PACKED = (".qweight", ".weight_packed", ".weight", "_blocks")
"""How names of tensors end that hold several narrow elements in each integer."""

NARROW = {2: "int2", 3: "int3", 4: "int4", 8: "int8"}
"""Formats of packed elements by their bits."""

PREFIXES = ("model.", "language_model.", "model.language_model.", "transformer.", "language_model.model.")
"""What a checkpoint saved from a part of a model lacks, or has too much, before its names."""

INTEGERS = ("uint8", "int8", "int16", "int32", "int64")


class StoredTensor:
    """One tensor of a weight file.

    Parameters
    ----------
    name, dtype : str
        As the file has them (dtype by our names).
    shape : tuple of int
        Its shape, in the order of the file.
    nbytes : int
        Bytes that it takes. [B]
    """

    __slots__ = ("dtype", "name", "nbytes", "shape")

    def __init__(self, name: str, dtype: str, shape: tuple[int, ...], nbytes: int) -> None:
        self.name, self.dtype, self.shape, self.nbytes = name, dtype, shape, nbytes

    @property
    def numel(self) -> int:
        """Its elements."""
        product = 1
        for length in self.shape:
            product *= length
        return product

    def __repr__(self) -> str:
        return f"<{self.name} {self.dtype} {list(self.shape)}>"


class Comparison:
    """A weight file held against a configuration, tensor by tensor.

    Attributes
    ----------
    matched : list of (NamedTensor, StoredTensor)
        Same name and same shape.
    reshaped : list of (NamedTensor, StoredTensor)
        Same name, another shape: packed, padded, or another model.
    packed : list of (NamedTensor, StoredTensor, str)
        Quantized elements of the promised tensor in integers, with their format.
    missing : list of NamedTensor
        Promised, not stored.
    extra : dict
        Stored, not promised, by tag: ``mtp``, ``buffer``, ``scale``, ``duplicate``, ``unknown``.
    """

    __slots__ = ("extra", "matched", "missing", "packed", "reshaped")

    def __init__(self) -> None:
        self.matched: list[tuple[NamedTensor, StoredTensor]] = []
        self.reshaped: list[tuple[NamedTensor, StoredTensor]] = []
        self.packed: list[tuple[NamedTensor, StoredTensor, str]] = []
        self.missing: list[NamedTensor] = []
        self.extra: dict[str, list[StoredTensor]] = {}

    @property
    def agrees(self) -> bool:
        """Whether every tensor of the main model is stored as promised."""
        main = [t for t in self.missing if t.tag == "main"]
        return not main and not self.reshaped and not self.extra.get("unknown")

    def lines(self) -> list[str]:
        """What differs, in words."""
        told = []
        for tag, tensors in sorted(self.extra.items()):
            total = sum(tensor.numel for tensor in tensors)
            names = ", ".join(tensor.name for tensor in tensors[:3]) + (", ..." if len(tensors) > 3 else "")
            told.append(f"{tag}: {len(tensors)} tensors, {total:,} elements ({names})")
        for label, count, missing in (
            ("missing", len(self.missing), [tensor.name for tensor in self.missing[:3]]),
            ("other shape", len(self.reshaped), [tensor.name for tensor, _ in self.reshaped[:3]]),
        ):
            if count:
                told.append(f"{label}: {count} tensors ({', '.join(missing)}{', ...' if count > 3 else ''})")
        return told


def compare(promised: Iterable[NamedTensor], stored: Sequence[StoredTensor], layers: int) -> Comparison:
    """Hold stored tensors against promised ones by name."""
    result, promised = Comparison(), list(promised)
    by_name = {tensor.name: tensor for tensor in aligned({tensor.name for tensor in promised}, stored)}
    used, tied = set(), set()
    for tensor in promised:
        if tensor.role in ("embedding", "unembedding"):
            tied.add(tensor.shape)
        found = by_name.get(tensor.name)
        if found is not None and found.shape == tensor.shape:
            used.add(found.name)
            result.matched.append((tensor, found))
            continue
        integers = _packed(tensor, by_name)
        if integers is not None:
            used.add(integers[0].name)
            result.packed.append((tensor, *integers))
        elif found is None:
            result.missing.append(tensor)
        else:
            used.add(found.name)
            result.reshaped.append((tensor, found))
    stems = {tensor.name.removesuffix(".weight") for tensor, _, _ in result.packed}
    for name, one in by_name.items():
        if name not in used:
            tag = "scale" if name.rpartition(".")[0] in stems else tag_of(name, layers)
            if tag == "unknown" and one.shape in tied and name.endswith(TIED):
                tag = "duplicate"
            result.extra.setdefault(tag, []).append(one)
    return result


def aligned(names: set[str], stored: Sequence[StoredTensor]) -> Sequence[StoredTensor]:
    """The stored tensors, renamed where all their names lack a prefix or have one too much."""
    best, most = stored, sum(tensor.name in names for tensor in stored)
    if 2 * most >= len(names):
        return stored
    for prefix in PREFIXES:
        for renamed in (
            [prefix + tensor.name for tensor in stored],
            [tensor.name.removeprefix(prefix) for tensor in stored],
        ):
            hits = sum(name in names for name in renamed)
            if hits > most and len(set(renamed)) == len(renamed):
                most = hits
                best = [
                    StoredTensor(name, tensor.dtype, tensor.shape, tensor.nbytes)
                    for name, tensor in zip(renamed, stored, strict=True)
                ]
    return best


def _packed(tensor: NamedTensor, stored: dict[str, StoredTensor]) -> tuple[StoredTensor, str] | None:
    """Integers that hold the elements of a promised tensor, and the format of an element."""
    stem, numel = tensor.name.removesuffix(".weight"), 1
    for length in tensor.shape:
        numel *= length
    for end in PACKED:
        found = stored.get(stem + end)
        if found is not None and numel and found.dtype in INTEGERS:
            bits, rest = divmod(8 * found.nbytes, numel)
            if not rest and bits in NARROW:
                return found, NARROW[bits]
    return None


def tag_of(name: str, layers: int | None = None) -> str:
    """The tag of a stored tensor that no family describes, by its name."""
    if any(name.endswith(end) for end in SCALES):
        return "scale"
    if any(name.endswith(end) for end in BUFFERS):
        return "buffer"
    if "mtp" in name.split(".") or name.startswith("mtp"):
        return "mtp"
    if layers is not None:
        for before, after in zip(name.split("."), name.split(".")[1:], strict=False):
            if before in ("layers", "h", "blk") and after.isdigit() and int(after) >= layers:
                return "mtp"
    if name in ("lm_head.weight", "output.weight", "embed_out.weight"):
        return "duplicate"
    return "unknown"


def from_header(name: str, stored: Sequence[StoredTensor], source: str) -> Inventory:
    """An inventory of a file that no configuration explains: tensors by name, no caches.

    Names that differ only in their numbers, with equal shapes, count as copies of one tensor.
    """
    alike: dict[tuple[str, str, tuple[int, ...]], int] = {}
    for tensor in stored:
        key = re.sub(r"\d+", "*", tensor.name), tensor.dtype, tensor.shape
        alike[key] = alike.get(key, 0) + 1
    tensors = []
    for (words, dtype, shape), copies in alike.items():
        tag = tag_of(words)
        role, _, part = words.rpartition(".")
        dims = tuple(dim(size=length) for length in shape)
        lead = (dim(copies=copies),) if copies > 1 else ()
        tensors.append(Tensor(role or words, lead + dims, part, "main" if tag == "unknown" else tag, dtype))
    return Inventory(name, "header", source, [Group("text", "embedding", (), tensors)])


def adopt(inventory: Inventory, stored: Sequence[StoredTensor], label: str) -> Comparison:
    """Give a configuration's inventory the dtypes of its weight file, and what the file holds beside.

    Parameters
    ----------
    inventory : Inventory
        Read from the configuration; changed in place.
    stored : sequence of StoredTensor
        Read from the header.
    label : str
        What to call the file in warnings.

    Returns
    -------
    Comparison
        How the two agree.
    """
    result = compare(inventory.tensors, stored, inventory.layers)
    inventory.dtype = main_dtype([found for _, found in result.matched] or stored) or inventory.dtype
    _give_dtypes(inventory, result)
    extra = [
        Tensor("stored", tuple(dim(size=length) for length in tensor.shape), tensor.name, tag, tensor.dtype)
        for tag, tensors in result.extra.items()
        for tensor in tensors
        if tag != "unknown"
    ]
    kept = {tensor.name for tensor in result.missing if tensor.tag != "main"}
    _drop_missing(inventory, kept)
    if extra:
        inventory.groups = (*inventory.groups, Group("stored", "embedding", (), extra))
    if result.agrees:
        # The file confirms every size, whatever the configuration left to defaults.
        inventory.grade = "exact" if inventory.grade == "derived" else inventory.grade
        inventory.warnings = [line for line in inventory.warnings if "class's defaults" not in line]
        inventory.quantization = None  # every tensor has its own format now
    else:
        inventory.grade = "assumed"
        inventory.warnings += [f"{label} and its configuration differ; {line}." for line in result.lines()]
    return result


def main_dtype(stored: Iterable[StoredTensor]) -> str | None:
    """The float dtype of most elements that are kept in one."""
    elements: dict[str, int] = {}
    for found in stored:
        if found.dtype in FLOATS:
            elements[found.dtype] = elements.get(found.dtype, 0) + found.numel
    return max(elements, key=lambda dtype: elements[dtype]) if elements else None


def _give_dtypes(inventory: Inventory, result: Comparison) -> None:
    """Mark tensors whose dtype is not the model's, splitting groups whose layers differ in it."""
    own: dict[tuple[str, int | None], dict[tuple[str, str], str]] = {}
    formats = [(tensor, found.dtype) for tensor, found in result.matched]
    for tensor, dtype in formats + [(tensor, dtype) for tensor, _, dtype in result.packed]:
        if dtype != inventory.dtype:
            own.setdefault((tensor.component, tensor.layer), {})[tensor.role, tensor.part] = dtype
    if not own:
        return
    groups = []
    for group in inventory.groups:
        kinds: dict[tuple[Any, ...], list[int]] = {}
        for layer in group.layers:
            signature = tuple(sorted(own.get((group.component, layer), {}).items()))
            kinds.setdefault(signature, []).append(layer)
        if not group.layers:
            kinds[tuple(sorted(own.get((group.component, None), {}).items()))] = []
        for signature, layers in kinds.items():
            dtypes = dict(signature)
            tensors = [
                Tensor(t.role, t.dims, t.part, t.tag, dtypes.get((t.role, t.part), t.dtype))
                for t in group.tensors
            ]
            groups.append(group.with_layers(tuple(layers), tensors))
    inventory.groups = tuple(groups)


def _drop_missing(inventory: Inventory, names: set[str]) -> None:
    """Take modules that the file does not hold (a prediction module left out) off the inventory."""
    if names:
        tags: dict[str, Any] = {}
        for tensor in inventory.tensors:
            tags.setdefault(tensor.tag, set()).add(tensor.name)
        gone = {tag for tag, all_names in tags.items() if tag != "main" and all_names <= names}
        for group in inventory.groups:
            group.tensors = tuple(tensor for tensor in group.tensors if tensor.tag not in gone)
