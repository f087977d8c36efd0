"""What runs: tokens of how many sequences, over caches of which length and type."""

from __future__ import annotations

from typing import Any

from llmcalc.memory.engines.llamacpp.ggml import Graph, Node
from llmcalc.memory.engines.llamacpp.layer import Layer
from llmcalc.memory.engines.llamacpp.traits import Traits


class Kept:
    """How a cache holds an element: its type, bytes of one (blocks shared out), whether in blocks."""

    __slots__ = ("kind", "quantized", "width")

    def __init__(self, kind: str, width: Any, quantized: bool) -> None:
        self.kind, self.width, self.quantized = kind, width, quantized


class Settings:
    """What a graph is reserved for.

    Attributes
    ----------
    tokens, seqs, outputs : int
        Tokens of one physical batch, sequences among them, and positions whose logits are asked for.
    flash : bool
        Flash attention.
    streams : int
        Caches of the batch: one for each sequence, or one for all where the cache is unified. [-]
    cells, window_cells : int
        Positions of one stream, in full and in window layers. [tokens]
    key, value : Kept
        Types of the caches.
    snapshots : int
        Copies of a recurrent state that speculative decoding can roll back to. [-]
    latent : bool
        Whether latent attention keeps its latent; files of older converters keep full heads.
    """

    __slots__ = (
        "cells", "flash", "key", "latent", "outputs", "seqs", "snapshots", "streams", "tokens", "value",
        "window_cells",
    )  # fmt: skip

    def __init__(
        self, *, tokens: int, seqs: int, outputs: int, flash: bool, streams: int, cells: int,
        window_cells: int, key: Kept, value: Kept, snapshots: int = 0, latent: bool = True,
    ) -> None:  # fmt: skip
        self.tokens, self.seqs, self.outputs, self.flash = tokens, seqs, outputs, flash
        self.streams, self.cells, self.window_cells = streams, cells, window_cells
        self.key, self.value, self.snapshots, self.latent = key, value, snapshots, latent


class Streams:
    """The cache that a kind of layer reads, as the graph's inputs see it.

    Attributes
    ----------
    cells : int
        Positions of one stream. [tokens]
    key, value : Kept
        Types of keys and values.
    key_rows, value_rows, mask : Node
        Where to write, and who sees whom.
    key_turn, value_turn : Node or None
        The rotation before a quantized cache.
    widest : int
        Values of the widest layer. [elements]
    mixed : bool
        Whether the model has a cache of windows beside this one or before it.
    """

    __slots__ = (
        "cells", "key", "key_rows", "key_turn", "mask", "mixed", "value", "value_rows", "value_turn",
        "widest",
    )  # fmt: skip

    def __init__(self, graph: Graph, settings: Settings, cells: int, mixed: bool, widest: int) -> None:
        tokens, many, flash = settings.tokens, settings.streams, settings.flash
        self.cells, self.widest, self.mixed = cells, widest, mixed
        self.key, self.value = settings.key, settings.value
        self.key_rows = graph.input("i64", tokens)
        self.value_rows = graph.input("i64", tokens if flash else tokens * widest)
        self.mask = graph.input("f16" if flash else "f32", cells, tokens // many, 1, many)
        self.key_turn: Node | None = None
        self.value_turn: Node | None = None

    def turn(self, graph: Graph, key_width: int, value_width: int) -> None:
        """Rotate what a quantized cache keeps, where heads are multiples of 64."""
        if self.key.quantized and key_width and key_width % 64 == 0:
            side = 64
            while key_width % (2 * side) == 0:
                side *= 2
            self.key_turn = graph.input("f32", side, side)
        if self.value.quantized and value_width and value_width % 64 == 0:
            self.value_turn = graph.input("f32", 64, 64)


class Indexed:
    """The inputs of an indexer: where to write, who sees whom, and the rotation before its cache."""

    __slots__ = ("cells", "key", "mask", "rows", "turn")

    def __init__(self, graph: Graph, settings: Settings, width: int) -> None:
        tokens, many = settings.tokens, settings.streams
        self.cells, self.key = settings.cells, settings.key
        self.rows = graph.input("i64", tokens)
        self.mask = graph.input("f16", self.cells, tokens // many, 1, many)
        self.turn = graph.input("f32", width, width)


class Blocks:
    """The inputs of block-sparse attention.

    Attributes
    ----------
    seen : int
        Positions that are scored when the graph is reserved, before there are any. [tokens]
    """

    __slots__ = ("bias", "cells", "mask", "places", "rows", "seen", "slots")

    def __init__(self, graph: Graph, settings: Settings, mask: Node) -> None:
        tokens, many = settings.tokens, settings.streams
        self.seen = 256
        self.rows = graph.input("i64", tokens)
        self.bias = graph.input("f32", self.seen // 128, tokens)
        self.places = graph.input("f32", self.seen, tokens)
        self.slots = graph.input("i32", self.seen, many)
        self.cells = graph.input("i32", settings.cells, many)
        self.mask = graph.result("cpy", "f32", mask.ne, mask)


class Batch:
    """The inputs of one graph.

    Attributes
    ----------
    positions, out_rows, state_rows, other_rows, temper : Node
        Inputs that layers share.
    indexed : Indexed
        Those of its indexers.
    blocks : Blocks
        Those of block-sparse attention, where `has_blocks`.
    best : Node or None
        What the last indexer chose.
    """

    __slots__ = (
        "_full", "_lenders", "_window", "best", "blocks", "depth", "flash", "has_blocks", "indexed",
        "latent", "norms_rotated", "other_rows", "out_rows", "positions", "seq_tokens", "seqs", "settings",
        "state_rows", "streams", "temper", "traits",
    )  # fmt: skip

    def __init__(self, graph: Graph, settings: Settings, layers: list[Layer], traits: Traits) -> None:
        self.traits = traits
        self.settings, self.flash, self.streams = settings, settings.flash, settings.streams
        self.seqs, self.seq_tokens = settings.seqs, settings.tokens // settings.seqs
        self.positions = graph.input("i32", settings.tokens * traits.axes)
        # Of the two sizes of Llama 4, the one with 128 experts has no such norms.
        self.norms_rotated = traits.norms_rotated and all(layer.rows("router") != 128 for layer in layers)
        self.temper = graph.input("f32", 1, 1, settings.tokens)
        self.out_rows = graph.input("i32", settings.outputs)
        self.indexed = Indexed(graph, settings, max((layer.rows("index_key") for layer in layers), default=0))
        self.best: Node | None = None
        rows = graph.input("i32", settings.seqs)
        self.state_rows, self.other_rows = graph.view(rows, (settings.seqs,)), graph.view(rows, (0,))
        windowed = traits.windows and any(layer.is_windowed for layer in layers)
        self.latent = settings.latent and not traits.full_heads
        self.depth = len(layers)
        widths = [kept_widths(layer, self.latent) for layer in layers]
        widest = max((many * value for many, _, value in widths), default=0)
        self._full = Streams(graph, settings, settings.cells, windowed, widest)
        self._window = Streams(graph, settings, settings.window_cells, windowed, widest) if windowed else None
        self.has_blocks = traits.blocks and settings.flash and settings.seqs == settings.streams
        self.blocks = Blocks(graph, settings, self._full.mask)
        self._lenders = {layer.is_windowed: layer for layer in layers if layer.kv_heads}
        for streams in (self._full, self._window):
            own = {
                (key, value)
                for layer, (many, key, value) in zip(layers, widths, strict=True)
                if many and self.streams_of(layer) is streams
            }
            if streams is not None and len(own) == 1:
                streams.turn(graph, *own.pop())

    def streams_of(self, layer: Layer) -> Streams:
        """The cache that a layer reads."""
        if self._window is not None and layer.sees_window:
            return self._window
        return self._full

    def lender(self, layer: Layer) -> Layer:
        """The layer whose keys and values a layer reads: the last of its kind that keeps any."""
        return layer if layer.kv_heads else self._lenders[layer.sees_window]

    def rotates(self, layer: Layer, place: int) -> bool:
        """Whether a layer has rotary positions."""
        traits = self.traits
        if traits.nope_every and (place + 1) % traits.nope_every == 0:
            return False
        if traits.unrotated or traits.unrotated_at == self.depth:
            return False
        return not (traits.nope_full and self._window is not None and not layer.is_windowed)


def kept_widths(layer: Layer, latent: bool) -> tuple[int, int, int]:
    """Heads that a layer keeps, and the widths of a key and of a value; none where it keeps a latent."""
    if layer.has("value_b") and not latent:
        heads, width, _ = layer.shapes["value_b"]
        rotary = layer.rows("kv_a") - layer.shapes["value_b"][2]
        return heads, layer.shapes["key_b"][2] + rotary, width
    return layer.kv_heads, layer.head_width, layer.value_width
