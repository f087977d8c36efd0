"""A quantized checkpoint whose configuration and weight file are both there: held together, module by module.

The configuration says which scheme; the file says what is stored. Where they agree the file's tensors are
those of the scheme, with its name; where they do not, the file counts, and the difference is told.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from llmcalc.errors import LlmcalcError
from llmcalc.model.inventory import FLOATS, Group, Inventory, Tensor, dim
from llmcalc.model.readers.stored import StoredTensor, adopt, aligned, main_dtype, tag_of
from llmcalc.precision.declared import apply, declared
from llmcalc.precision.scheme import WIDTHS

if TYPE_CHECKING:
    from llmcalc.catalog import Catalog

Place = tuple[str, "int | None", str, str]
"""Component, layer, role and part of a tensor."""


class Settled:
    """What a scheme promises, held against a file.

    Attributes
    ----------
    plain : dict
        Dtypes of tensors that the file holds as they are, by place.
    kept : int
        Matrices that the file holds as the scheme says. [-]
    unpacked : list of str
        Matrices that the scheme quantizes and the file does not.
    lacking : set
        Scalars that the file lacks, by place and name of the part.
    odd : list of str
        Tensors that the file lacks, or holds in another shape, in words.
    dtype : str or None
        Of most tensors that the file holds as they are.
    extra : list of (StoredTensor, str)
        What the file holds beside, with its tag.
    """

    __slots__ = ("dtype", "extra", "kept", "lacking", "odd", "plain", "unpacked")

    def __init__(self) -> None:
        self.dtype: str | None = None
        self.plain: dict[Place, str] = {}
        self.kept = 0
        self.unpacked: list[str] = []
        self.lacking: set[tuple[Place, str]] = set()
        self.odd: list[str] = []
        self.extra: list[tuple[StoredTensor, str]] = []

    @property
    def agrees(self) -> bool:
        """Whether the file holds what the scheme promises, and nothing unknown."""
        return self.kept > 0 and not self.odd and all(tag != "unknown" for _, tag in self.extra)


def settle(inventory: Inventory, stated: dict[str, Any], catalog: Catalog) -> Inventory:
    """The inventory stored as its file is, under the name of the scheme that its configuration states."""
    assert inventory.beside is not None
    label, stored = inventory.beside
    inventory.beside, plain = None, copy.copy(inventory)
    plain.warnings = list(inventory.warnings)
    plain.dtype = main_dtype(stored) or inventory.dtype
    try:
        scheme = declared(stated, catalog)
        promised = scheme.apply(plain, plain.dtype if plain.dtype in FLOATS else "bf16")
    except LlmcalcError:
        return _by_file(plain, stored, label, stated, catalog)
    held = hold(promised, stored, plain.layers)
    if not held.agrees:
        if held.odd:
            plain.warnings.append(
                f"The configuration says {scheme.name}, but {label} holds other tensors: {held.odd[0]}. "
                "The file counts."
            )
        return _by_file(plain, stored, label, stated, catalog)
    scheme.grade = "exact"
    held.dtype = plain.dtype
    made = _stored(promised, held)
    made.grade = "exact" if made.grade == "derived" else made.grade
    made.warnings = [line for line in plain.warnings if "class's defaults" not in line]
    made.quantization = {**stated, "applied": scheme}
    if held.unpacked:
        many = len(held.unpacked)
        scheme.notes.append(
            f"The configuration quantizes {held.unpacked[0]}{f' and {many - 1} more' if many > 1 else ''}, "
            f"which {label} holds as {'they are' if many > 1 else 'it is'}."
        )
    return made


def _by_file(
    plain: Inventory, stored: Sequence[StoredTensor], label: str, stated: dict[str, Any], catalog: Catalog
) -> Inventory:
    """The inventory with the file's dtypes alone; by the configuration where the file is not understood."""
    return plain if adopt(plain, stored, label).agrees else apply(plain, stated, catalog)


def hold(promised: Inventory, stored: Sequence[StoredTensor], layers: int) -> Settled:
    """Hold what a scheme promises against what a file holds, by name, shape and bytes."""
    named, result, used = promised.tensors, Settled(), set[str]()
    names = {part[0] for tensor in named for part in tensor.stored} | {tensor.name for tensor in named}
    files = {tensor.name: tensor for tensor in aligned(names, stored)}
    stems = set()
    for tensor in named:
        place = (tensor.component, tensor.layer, tensor.role, tensor.part)
        found = files.get(tensor.name)
        if found is not None and found.dtype in FLOATS and found.shape == tensor.shape:
            result.plain[place] = found.dtype
            used.add(found.name)
            if tensor.stored:
                result.unpacked.append(tensor.name)
            continue
        if not tensor.stored:
            if found is not None:
                used.add(found.name)
                result.odd.append(_shapes(tensor.name, found.shape, tensor.shape))
            elif tensor.tag == "main":
                result.odd.append(f"{tensor.name} is missing")
            continue
        stems.add(tensor.name.removesuffix(".weight"))
        result.kept += 1
        for number, (name, dtype, shape) in enumerate(tensor.stored):
            one = files.get(name)
            if one is not None:
                used.add(name)
                if not _alike(one, dtype, shape):
                    result.odd.append(_shapes(name, one.shape, shape))
            elif number and not shape:
                result.lacking.add((place, name[len(tensor.name.removesuffix(".weight")) :].lstrip(".")))
            else:
                result.odd.append(f"{name} is missing")
    result.extra = [(one, _tag(one, stems, layers)) for name, one in files.items() if name not in used]
    return result


def _shapes(name: str, found: Iterable[int], promised: Iterable[int]) -> str:
    return f"{name} is {' x '.join(map(str, found))}, not {' x '.join(map(str, promised))}"


def _alike(found: StoredTensor, dtype: str, shape: tuple[int, ...]) -> bool:
    """Whether a stored tensor is the promised one: as many bytes, and no other shape of as many sides."""
    numel = 1
    for length in shape:
        numel *= length
    same = found.shape == shape or len(found.shape) != len(shape) or dtype == "fp4"
    return same and found.nbytes == -(-numel * WIDTHS.get(dtype, 8) // 8)


def _tag(found: StoredTensor, stems: set[str], layers: int) -> str:
    """The tag of what a scheme did not promise: more of a quantized module's is a scale."""
    stem = found.name
    while "." in stem:
        stem = stem.rpartition(".")[0]
        if stem in stems:
            return "scale"
    return tag_of(found.name, layers)


def _stored(promised: Inventory, held: Settled) -> Inventory:
    """The promised inventory with the file's own dtypes, and what it holds beside."""
    made = copy.copy(promised)
    groups: list[Group] = []
    for group in promised.groups:
        kinds: dict[Any, list[int]] = {}
        for layer in group.layers or (None,):
            tensors = tuple(_as_held(group, tensor, layer, held) for tensor in group.tensors)
            signature = tuple((t.dtype, tuple(part.part for part in t.stored)) for t in tensors)
            kinds.setdefault(signature, []).append(-1 if layer is None else layer)
        for layers in kinds.values():
            first = None if layers == [-1] else layers[0]
            own = [_as_held(group, tensor, first, held) for tensor in group.tensors]
            groups.append(group.with_layers(group.layers if len(kinds) == 1 else tuple(layers), own))
    extra = [
        Tensor("stored", tuple(dim(size=length) for length in one.shape), one.name, tag, one.dtype)
        for one, tag in held.extra
    ]
    made.groups = (*groups, Group("stored", "embedding", (), extra)) if extra else tuple(groups)
    return made


def _as_held(group: Group, tensor: Tensor, layer: int | None, held: Settled) -> Tensor:
    place = (group.component, layer, tensor.role, tensor.part)
    dtype = held.plain.get(place)
    if dtype is not None:
        own = None if dtype == held.dtype else dtype  # what has the model's dtype may be given another
        return Tensor(tensor.role, tensor.dims, tensor.part, tensor.tag, own)
    parts = [part for part in tensor.stored if (place, part.part) not in held.lacking]
    return Tensor(tensor.role, tensor.dims, tensor.part, tensor.tag, tensor.dtype, parts)
