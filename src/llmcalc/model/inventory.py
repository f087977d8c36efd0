"""The inventory: what a model is, as tensors, caches and ops in groups of equal layers.

The tags of its tensors say which bytes belong to the model proper.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from llmcalc.model.parts import FLOATS, SPLIT_AXES, Cache, Dim, Op, Segment, Tensor, dim, size

if TYPE_CHECKING:
    from llmcalc.model.dialects import NamedTensor

__all__ = [
    "FLOATS", "LOADED", "SPLIT_AXES", "TAGS", "Cache", "Dim", "Group", "Inventory", "Op", "Segment", "Tensor",
    "dim", "size",
]  # fmt: skip

TAGS = ("main", "mtp", "buffer", "scale", "duplicate")
LOADED = ("main", "scale")
"""Tags that an engine loads by default; prediction modules and buffers stay on disk."""


class Group:
    """Equal layers, or the parts of a model outside its layers.

    Parameters
    ----------
    component : str
        ``text``, ``vision``, ``projector`` ...
    place : str
        ``embedding``, ``layer`` or ``head``: where a pipeline puts it.
    layers : tuple of int
        Indices of the layers that are equal; empty outside the layers.
    tensors, caches, ops : sequence
        Of one layer.
    prefix : str
        What stands before the Hugging Face names of its modules, with ``{layer}``.
    names : mapping
        Names of each role that differ from the usual ones.
    stored : int, optional
        How often its tensors are stored, where that is not once a layer: a shared block is stored
        once, and executed and cached at every layer it stands at.
    """

    __slots__ = ("caches", "component", "layers", "names", "ops", "place", "prefix", "stored", "tensors")

    def __init__(
        self,
        component: str,
        place: str,
        layers: tuple[int, ...],
        tensors: Sequence[Tensor],
        caches: Sequence[Cache] = (),
        ops: Sequence[Op] = (),
        prefix: str = "",
        names: Mapping[str, str] | None = None,
        stored: int | None = None,
    ) -> None:
        self.stored = stored
        self.component, self.place, self.layers = component, place, layers
        self.prefix, self.names = prefix, names or {}
        self.tensors, self.caches, self.ops = tuple(tensors), tuple(caches), tuple(ops)

    @property
    def count(self) -> int:
        """How many times its tensors are stored."""
        if self.stored is not None:
            return self.stored
        return len(self.layers) if self.place == "layer" else 1

    def with_layers(self, layers: tuple[int, ...], tensors: Sequence[Tensor]) -> Group:
        """The same kind of layer at other places, with tensors of its own."""
        return Group(
            self.component,
            self.place,
            layers,
            tensors,
            self.caches,
            self.ops,
            self.prefix,
            self.names,
            self.stored,
        )

    def __repr__(self) -> str:
        return f"<{self.component} {self.place} x{self.count}: {len(self.tensors)} tensors>"


class Inventory:
    """A model, wherever it was read from.

    Attributes
    ----------
    name, title : str
        Catalog name (or file, or count) and how it is written in a heading.
    family, source, origin : str
        Family that described it; ``catalog``, ``config`` ...; and where exactly that was.
    groups : tuple of Group
        Everything that is stored, remembered and executed.
    context : int or None
        Longest sequence the model was made for. [tokens]
    dtype : str or None
        The checkpoint's own dtype.
    published : int or None
        Elements of all tensors of the checkpoint, where its publisher's total is known. [-]
    stored_note : str
        How that total comes about, where the tags alone do not say.
    streams : dict
        Tokens of streams other than the decoder's, where the model fixes them: ``{"encoder": 1500}``.
    split : dict
        What tensor parallelism must divide, by its name: ``{"attention heads": 32}``.
    unproven : dict
        Fields that the caches rest on but that nobody has confirmed, with the reason.
    defaulted : dict
        Sizes the configuration omits, filled with the class's default.
    grade : str
        ``exact``; ``derived`` where sizes are the class's defaults, ``assumed`` where the family is.
    quantization : dict or None
        What the configuration says of the checkpoint's quantization.
    beside : tuple of str and list, or None
        Name and tensors of its weight file, where a quantization is still to be held against them.
    loaded : tuple of str
        Tags of the tensors that an engine loads by default.
    rope : tuple of (str, float)
        How positions are scaled (``llama3``, ``longrope`` ...), and the share of a head that rotates.
    facts : dict
        What else the configuration says of how layers run, for engines whose code asks it: ``hidden_act``,
        ``norm_topk_prob`` ...
    state_dtype : str
        Precision of recurrent states where the configuration names one; else empty.
    warnings : list of str
        What a reader should know.
    """

    __slots__ = (
        "beside", "context", "defaulted", "dtype", "facts", "family", "grade", "groups", "loaded", "name",
        "origin", "published", "quantization", "rope", "source", "split", "state_dtype", "stored_note",
        "streams", "title", "unproven", "warnings",
    )  # fmt: skip

    def __init__(
        self,
        name: str,
        family: str,
        source: str,
        groups: Sequence[Group],
        *,
        title: str = "",
        context: int | None = None,
        dtype: str | None = None,
        split: Mapping[str, int] | None = None,
    ) -> None:
        self.name, self.title, self.family, self.source = name, title or name, family, source
        self.groups = tuple(groups)
        self.context, self.dtype, self.origin = context, dtype, source
        self.split = dict(split or {})
        self.grade = "exact"
        self.quantization: dict[str, Any] | None = None
        self.beside: tuple[str, Any] | None = None
        self.loaded: tuple[str, ...] = LOADED
        self.rope: tuple[str, float] = ("", 1.0)
        self.streams: dict[str, int] = {}
        self.facts: dict[str, Any] = {}
        self.state_dtype = ""
        self.published: int | None = None
        self.stored_note = ""
        self.unproven: dict[str, str] = {}
        self.defaulted: dict[str, Any] = {}
        self.warnings: list[str] = []

    def count(self, *tags: str) -> int:
        """Elements of all tensors with one of these tags. [-]"""
        return sum(
            group.count * tensor.numel
            for group in self.groups
            for tensor in group.tensors
            if tensor.tag in tags
        )

    @property
    def params(self) -> int:
        """Unique parameters of the main model, tied tensors once. [-]"""
        return self.count("main")

    @property
    def stored_params(self) -> int:
        """Elements of all tensors of the checkpoint: as published, else all that are known of. [-]"""
        return self.published or self.known_params

    @property
    def known_params(self) -> int:
        """Elements of all tensors that are known of: packed ones as words, scalars not counted. [-]"""
        return sum(
            group.count * part.numel
            for group in self.groups
            for tensor in group.tensors
            for part in tensor.stored or (tensor,)
            if part.tag != "scalar"
        )

    @property
    def unexplained_params(self) -> int:
        """What the published total holds beyond all tensors that are known of. [-]"""
        return self.stored_params - self.known_params

    @property
    def active_params(self) -> int:
        """Parameters that one token uses: all but the experts it is not routed to. [-]"""
        return self.params - self.routed_params + self._active_routed()

    @property
    def routed_params(self) -> int:
        """Parameters of routed experts, all of them. [-]"""
        return sum(
            group.count * tensor.numel
            for group in self.groups
            for tensor in group.tensors
            if tensor.tag == "main" and tensor.role.startswith("expert_")
        )

    def _active_routed(self) -> int:
        total = 0
        for group in self.groups:
            share = {op.role: op for op in group.ops if op.stored > 1}
            for tensor in group.tensors:
                if tensor.tag == "main" and tensor.role in share:
                    op = share[tensor.role]
                    total += group.count * tensor.numel * op.active // op.stored
        return total

    def breakdown(self, by: str = "role", stored: bool = False) -> dict[str, dict[str, int]]:
        """Elements by role, layer or tag, and in each by dtype; `stored` counts packed words. [-]"""
        from llmcalc.model.breakdown import breakdown

        return breakdown(self, by, stored)

    def by_role(self) -> dict[str, int]:
        """Elements of the main model by role, in the order in which the roles appear. [-]"""
        return {row: sum(own.values()) for row, own in self.breakdown("role").items()}

    def by_layer(self) -> dict[str, int]:
        """Elements of the main model by layer, and by component outside the text layers. [-]"""
        return {row: sum(own.values()) for row, own in self.breakdown("layer").items()}

    def by_tag(self) -> dict[str, int]:
        """Elements by tag: of the model, and of what is stored beside it. [-]"""
        return {row: sum(own.values()) for row, own in self.breakdown("tag").items()}

    def with_groups(self, groups: Sequence[Group]) -> Inventory:
        """The same model of other groups, whose published total is then another one's."""
        from copy import copy

        made = copy(self)
        made.groups, made.published = tuple(groups), None
        return made

    @property
    def is_opaque(self) -> bool:
        """Whether nothing but a count is known."""
        return self.source == "count"

    @property
    def layers(self) -> int:
        """Decoder layers. [-]"""
        indices = {i for g in self.groups if g.place == "layer" and g.component == "text" for i in g.layers}
        return len(indices)

    @property
    def caches(self) -> list[tuple[int, Cache]]:
        """Every cache with its layer, in layer order."""
        found = [(layer, cache) for group in self.groups for layer in group.layers for cache in group.caches]
        return sorted(found, key=lambda pair: pair[0])

    @property
    def tensors(self) -> list[NamedTensor]:
        """Every tensor of every layer with its Hugging Face and GGUF name."""
        from llmcalc.model.dialects import named_tensors

        return list(named_tensors(self))

    def _repr_html_(self) -> str:
        rows = [("parameters", self.params), ("active", self.active_params), ("stored", self.stored_params)]
        rows += [("layers", self.layers), ("context", self.context or 0)]
        cells = "".join(f"<tr><th>{name}</th><td>{number:,}</td></tr>" for name, number in rows)
        return f"<p><b>{self.title}</b> {self.family}, from {self.source}</p><table>{cells}</table>"

    def __iter__(self) -> Iterator[Group]:
        return iter(self.groups)

    def __repr__(self) -> str:
        return f"<{self.title}: {self.params:,} parameters, {self.family}, read from {self.source}>"
