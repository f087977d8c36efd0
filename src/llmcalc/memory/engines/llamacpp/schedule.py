"""Which backend runs what: ggml's scheduler, as far as memory goes.

A node runs where its weight lies, one without a weight beside its neighbours, and what is read on
another backend is copied there. Inputs start on the host. Large batches over weights of the host run on
the first device all the same, with the weight copied there for the time being.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from llmcalc.memory.engines.llamacpp.ggml import Graph, Node
from llmcalc.memory.engines.llamacpp.vulkan import reordered

VIEWS = frozenset(("view", "reshape", "permute", "transpose"))

OFFLOADED_ROWS = 32
"""Rows from which an operation over a weight of the host is worth a device."""

NORMS = frozenset(("norm", "rms_norm"))
"""What llama.cpp itself puts on its layer's device in small batches, or where all layers are on devices."""

PRODUCTS = ("mul_mat", "mul_mat_id", "get_rows")
"""Operations whose weight comes before what it is applied to."""

COPIES = 4
"""Copies of what crosses backends where several devices work as a pipeline."""


class Plan:
    """Where weights and caches lie.

    Attributes
    ----------
    devices : int
        Backends beside the host, which is the last. [-]
    layers : dict
        Backend of each layer; -1 is the embedding's, the number of layers the head's.
    elsewhere : dict
        Backend of single weights, by layer and role.
    sizes : callable
        Bytes of a weight by layer and role. [B]
    offload : bool
        Whether large batches over weights of the host run on the first device.
    pipeline : bool
        Whether devices work as a pipeline.
    reorders : bool
        Whether devices run in an order of their own (Vulkan).
    pins : bool
        Whether norms are kept on their layer's device: where no layer is on the host or the batch is
        small, and not in the dry run by which llama.cpp estimates itself.
    widens : bool
        Whether flash attention on a device keeps 16-bit copies of a cache in another type (CUDA).
    """

    __slots__ = (
        "devices",
        "elsewhere",
        "layers",
        "offload",
        "pins",
        "pipeline",
        "reorders",
        "sizes",
        "widens",
    )

    def __init__(
        self,
        devices: int,
        layers: Mapping[int, int],
        sizes: Callable[[int, str], int],
        elsewhere: Mapping[tuple[int, str], int] | None = None,
        offload: bool = True,
        pipeline: bool = False,
        reorders: bool = False,
        pins: bool = True,
        widens: bool = False,
        tokens: int = OFFLOADED_ROWS,
    ) -> None:
        self.devices, self.layers, self.sizes = devices, dict(layers), sizes
        self.elsewhere = dict(elsewhere or {})
        self.offload, self.pipeline, self.reorders = offload, pipeline, reorders
        self.widens = widens
        above = all(at != devices for layer, at in self.layers.items() if layer >= 0)
        self.pins = pins and (above or tokens < OFFLOADED_ROWS)

    @property
    def host(self) -> int:
        """The host's backend."""
        return self.devices

    def of_weight(self, node: Node) -> int:
        """Where a node's weight lies."""
        return self.elsewhere.get((node.layer, node.weight), self.layers[node.layer])


def _rows(node: Node) -> int:
    """Rows of a node that make it worth a device."""
    if node.op == "get_rows":
        return 0
    if node.op == "mul_mat":
        return node.ne[1]
    if node.op in ("mul_mat_id", "rope"):
        return node.ne[2]
    return node.ne[1] * node.ne[2] * node.ne[3]


def assign(graph: Graph, plan: Plan) -> None:
    """Give every node its backend."""
    host = plan.host
    for node in graph.inputs:
        node.backend = host if node.placed else plan.layers[node.layer]
    for node in graph.nodes:
        node.backend = _first(node, plan)
    working = [node for node in graph.nodes if node.op not in VIEWS]
    for order, spares_host in ((1, True), (-1, True), (1, False), (-1, False)):
        current = -1
        for node in working[::order]:
            if node.backend < 0:
                node.backend = current
            else:
                current = -1 if spares_host and node.backend == host else node.backend
    for node in graph.nodes:
        if node.root is not None and node.backend < 0:
            node.backend = node.root.backend


def _first(node: Node, plan: Plan) -> int:
    """The backend that a node's memory or weight decides; -1 if neither does."""
    if node.root is not None and not node.root.placed and not node.root.op:
        return node.root.backend
    if node.op in NORMS and plan.pins and 0 <= node.layer < len(plan.layers) - 2:
        return plan.layers[node.layer]
    if not node.weight:
        return -1
    lies = plan.of_weight(node)
    if lies == plan.host and plan.devices and plan.offload and _rows(node) >= OFFLOADED_ROWS:
        return 0
    return lies


def spread(graph: Graph, plan: Plan) -> Graph:
    """The graph as it is allocated: cut where the backend changes, copies first in each piece."""
    assign(graph, plan)
    if plan.widens:
        for node in graph.nodes:
            if node.op == "flash" and node.backend != plan.host:
                node.bytes = _widened(node)
    made = Graph()
    made.inputs = list(graph.inputs)
    copies: dict[tuple[int, int], Node] = {}
    piece: list[Node] = []
    incoming: list[tuple[Node, Node]] = []
    current = next((node.backend for node in graph.nodes if node.op not in VIEWS), plan.host)

    def close() -> None:
        for original, copy in incoming:
            reader = Node(
                "dep",
                original.kind,
                original.ne,
                (original,),
                original.root or original,
                original.strides,
                width=original.width,
            )
            reader.backend = original.backend
            made.nodes.extend((reader, copy))
        if plan.reorders and current != plan.host:
            piece[:] = reordered(piece)
        made.nodes.extend(piece)
        piece.clear()
        incoming.clear()

    for node in graph.nodes:
        if node.op in VIEWS:
            piece.append(node)
            continue
        crosses = bool(node.weight) and plan.of_weight(node) not in (node.backend,)
        if node.backend != current or (incoming and crosses):
            close()
            current = node.backend
        sources = [_weight(node, plan, copies, incoming)] if crosses and node.op in PRODUCTS else []
        for source in node.sources:
            if source.backend == current:
                sources.append(source)
                continue
            sources.append(_copied(source, current, copies, incoming))
        if crosses and node.op not in PRODUCTS:
            sources.append(_weight(node, plan, copies, incoming))
        node.sources = tuple(sources)
        piece.append(node)
    close()
    if plan.pipeline:
        _multiply(made, copies)
    return made


def _widened(node: Node) -> int:
    """Bytes of flash attention's result with the copies behind it. [B]"""
    key, value = node.sources[1:3]
    total = node.bytes
    for part in (key,) if value.root is key.root else (key, value):
        if part.kind != "f16":
            total = -(-total // 128) * 128 + 2 * part.ne[0] * part.ne[1] * part.ne[2] * part.ne[3]
    return total


def _copied(
    source: Node, backend: int, copies: dict[tuple[int, int], Node], incoming: list[tuple[Node, Node]]
) -> Node:
    key = (id(source), backend)
    if key not in copies:
        copy = Node("copy", source.kind, source.ne, (), strides=source.strides, width=source.width)
        copy.bytes, copy.backend = _span(source), backend
        copies[key] = copy
        incoming.append((source, copy))
    return copies[key]


def _span(node: Node) -> int:
    """Bytes from the first to the last element: a copy keeps the gaps. [B]"""
    first = node.width * node.ne[0] if node.strides[0] == node.width else node.strides[0] * node.ne[0]
    return int(first + sum((node.ne[i] - 1) * node.strides[i] for i in (1, 2, 3)))


def _weight(
    node: Node, plan: Plan, copies: dict[tuple[int, int], Node], incoming: list[tuple[Node, Node]]
) -> Node:
    """The copy of a weight on the backend that uses it."""
    lies = Node("", "f32", (1, 1, 1, 1), placed=False)
    lies.backend = plan.of_weight(node)
    copy = Node("copy", "f32", (1, 1, 1, 1))
    copy.bytes, copy.backend = plan.sizes(node.layer, node.weight), node.backend
    incoming.append((lies, copy))
    return copy


def _multiply(graph: Graph, copies: dict[tuple[int, int], Node]) -> None:
    """A pipeline keeps several copies of inputs and of what crosses, all the time."""
    read = {id(source) for node in graph.nodes for source in node.sources}
    kept = [node for node in graph.inputs if node.placed and id(node) in read] + list(copies.values())
    firsts = set(map(id, copies.values()))
    graph.nodes = [node for node in graph.nodes if id(node) not in firsts]
    extra = []
    for node in kept:
        node.kept = True
        number = COPIES if id(node) in firsts else COPIES - 1
        for _ in range(number - (id(node) in firsts)):
            twin = Node("copy", node.kind, node.ne, (), width=node.width)
            twin.backend, twin.kept = node.backend, True
            extra.append(twin)
    graph.inputs = [*graph.inputs, *copies.values(), *extra]
