"""Optimizers of the catalog: the bytes of their states by the shape of a tensor, and of a step."""

from __future__ import annotations

from typing import Any

from llmcalc.catalog import Catalog
from llmcalc.errors import UnknownNameError
from llmcalc.formula import Quantity, ceil_div, is_array, larger, smaller, where
from llmcalc.memory.training.formulas import blockwise_state_bytes

PLAIN = {"fp32": 4, "bf16": 2}
BLOCKS = {"int8": 8, "fp8": 8, "int4": 4}
PAGED_LEAST = 100_000
"""bitsandbytes keeps states of fewer elements on the GPU (optimizer.py, get_state_buffer). [-]"""

HEADS = ("query", "key", "qkv")


class Shape:
    """A trained tensor as an optimizer sees it.

    Attributes
    ----------
    lead, rows, columns : int or ndarray
        A batch of so many matrices; a vector has one column and ``matrix`` is False. [-]
    heads : int
        Heads of queries and keys. [-]
    kinds : set of str
        What the rules of an optimizer choose by.
    """

    __slots__ = ("columns", "heads", "kinds", "lead", "rows")

    def __init__(
        self, lead: int, rows: Quantity, columns: Quantity, kinds: frozenset[str], heads: int = 1
    ) -> None:
        self.lead, self.rows, self.columns, self.kinds, self.heads = lead, rows, columns, kinds, heads

    @property
    def numel(self) -> Quantity:
        """Elements. [-]"""
        return self.lead * self.rows * self.columns

    def cut(self, ranks: int) -> Shape:
        """One rank's part where the first dimension is cut."""
        if self.lead > 1:
            return Shape(ceil_div(self.lead, ranks), self.rows, self.columns, self.kinds, self.heads)
        return Shape(1, ceil_div(self.rows, ranks), self.columns, self.kinds, self.heads)


def shape_of(role: str, dims: tuple[Any, ...], place: str, component: str = "text") -> Shape:
    """The shape and the kinds of a tensor of the inventory.

    Examples
    --------
    >>> from llmcalc.model.inventory import dim
    >>> sorted(shape_of("up", (dim(ffn=8), dim(hidden=4)), "layer").kinds)
    ['all', 'hidden', 'matrix']
    """
    from llmcalc.model.inventory import size

    sizes = [size(one) for one in dims] or [1]
    kinds = {"all"}
    if len(sizes) == 1:
        lead, rows, columns = 1, sizes[0], 1
        kinds.add("vector")
    else:
        *first, rows, columns = sizes
        lead = 1
        for one in first:
            lead *= one
        kinds.add("matrix")
    if role in ("embedding", "unembedding", "position", "segment"):
        kinds.add("embedding")
    heads = 1
    if role in HEADS and "matrix" in kinds:
        kinds.add("query_key")
        heads = sum(n for one in dims[0] for axis, n in one if axis in ("heads", "kv_heads")) or 1
    kinds.add("hidden" if place == "layer" and "matrix" in kinds else "outside")
    return Shape(lead, rows, columns, frozenset(kinds), heads)


class Optimizer:
    """An optimizer of the catalog.

    Parameters
    ----------
    entry : dict
        Its catalog entry.
    rank : int or ndarray, optional
        Of a projection, where it has one; the entry's own. [-]
    wide_embedding : bool
        Whether embeddings keep their states in fp32 where others are quantized, as the Trainer asks for.
    """

    def __init__(
        self, entry: dict[str, Any], rank: Quantity | None = None, wide_embedding: bool = False
    ) -> None:
        self.entry, self.wide_embedding = entry, wide_embedding
        self.name = str(entry["name"])
        self.rank: Quantity = entry.get("rank", 0) if rank is None else rank
        self.paged = bool(entry.get("paged"))
        self.in_backward = bool(entry.get("always_in_backward"))
        self.grade = str(entry.get("grade", "derived"))
        self.source = ", ".join(entry.get("sources", []))

    @property
    def takes_rank(self) -> bool:
        """Whether it projects gradients to a rank."""
        return "rank" in self.entry

    def states(self, shape: Shape, element: int) -> list[tuple[str, Quantity, bool]]:
        """Name and bytes of each state of a tensor, and whether it is on the device. [B]

        Parameters
        ----------
        shape : Shape
            The tensor.
        element : int
            Bytes of a state that follows the parameter. [B]
        """
        found = []
        for rule in self.entry.get("states", []):
            if rule.get("of", "all") not in shape.kinds or shape.kinds & set(rule.get("not_of", ())):
                continue
            elements = self._elements(rule.get("shape", "full"), shape)
            size = self._bytes(rule.get("dtype", "parameter"), elements, shape, element)
            resident = not self.paged or bool(_below(elements, PAGED_LEAST))
            found.append((str(rule["name"]), size, resident))
        return found

    def _elements(self, kind: str, shape: Shape) -> Quantity:
        lead, rows, columns = shape.lead, shape.rows, shape.columns
        if kind == "full":
            return shape.numel
        if kind == "rows_columns":
            return lead * (rows + columns)
        if kind in ("rows", "columns"):
            return lead * (rows if kind == "rows" else columns)
        if kind in ("low_rank", "projector"):
            short, long = smaller(rows, columns), larger(rows, columns)
            return lead * smaller(self.rank, short) * (long if kind == "low_rank" else short)
        if kind == "squares":
            most = self.entry.get("most", 1 << 62)
            return lead * sum(side * side for side in (rows, columns) if _below(side, most + 1))
        return shape.heads if kind == "heads" else 1

    def _bytes(self, dtype: str, elements: Quantity, shape: Shape, element: int) -> Quantity:
        if dtype == "parameter":
            return elements * element
        if dtype in PLAIN:
            return elements * PLAIN[dtype]
        if self.wide_embedding and "embedding" in shape.kinds:
            return elements * 4
        narrow = blockwise_state_bytes(elements, BLOCKS[dtype], self.entry["block"])
        return where(shape.numel < self.entry.get("least", 0), elements * 4, narrow)

    def is_small(self, shape: Shape) -> bool:
        """Whether a tensor is too small for narrow states, which then stay in fp32."""
        return bool(self.entry.get("block")) and bool(_below(shape.numel, self.entry.get("least", 0)))

    def step_bytes(self, trained: Quantity, largest: Quantity, element: int) -> Quantity:
        """What a step holds besides, at most. [B]

        Parameters
        ----------
        trained : int
            Bytes of all trained parameters. [B]
        largest : int
            Elements of the largest trained tensor. [-]
        element : int
            Bytes of a parameter. [B]
        """
        copies = self.entry.get("step_copies", 1)
        if self.entry.get("step") == "foreach":
            return int(copies) * trained
        if self.entry.get("step") == "largest":
            return ceil_div(int(16 * copies) * largest * (self.entry.get("step_bytes") or element), 16)
        return 0

    @property
    def step_note(self) -> str:
        """What a step holds besides, in words."""
        copies = self.entry.get("step_copies", 1)
        if self.entry.get("step") == "foreach":
            return f"{copies:g} x all that is trained"
        if self.entry.get("step") == "largest":
            return f"{copies:g} x the largest tensor"
        return "in place"


def _below(value: Quantity, bound: int) -> Any:
    return (value < bound).all() if is_array(value) else value < bound


def find_optimizer(
    name: Any, catalog: Catalog, rank: Quantity | None = None, wide_embedding: bool = False
) -> Optimizer:
    """Look an optimizer up by name.

    Raises
    ------
    UnknownNameError
        If there is none, with the nearest.

    Examples
    --------
    Adafactor keeps a row and a column of a matrix:

    >>> matrix = Shape(1, 4096, 4096, frozenset({"all", "matrix", "hidden"}))
    >>> find_optimizer("adafactor", Catalog.shipped()).states(matrix, 2)
    [('exp_avg_sq', 32768, True)]
    """
    entry = catalog.lookup("optimizers", name) if isinstance(name, str) and name.strip() else None
    if entry is None:
        near = catalog.nearest("optimizers", str(name)[:60] or "adamw")
        hint = f"Did you mean {' or '.join(near)}? " if near else ""
        raise UnknownNameError(
            f"--optimizer {str(name)[:40]!r} is not in the catalog.", f"{hint}llmcalc optimizers lists all."
        )
    return Optimizer(entry, rank, wide_embedding)
