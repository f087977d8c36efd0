"""How much memory a graph's intermediate tensors take, laid out as ggml lays them out.

Tensors are placed in the order of evaluation, each where it fits best among the gaps that finished ones
left, else at the end; an operation that can writes over an argument nobody else reads. The buffer is as
large as the furthest end. A graph spread over backends has a buffer on each.
"""

from __future__ import annotations

from llmcalc.memory.engines.llamacpp.ggml import IN_PLACE, Graph, Node

ENDLESS = 1 << 60


class Buffer:
    """One backend's memory: gaps in order of their place, the last without end.

    Attributes
    ----------
    size : int
        The furthest end so far. [B]
    """

    __slots__ = ("align", "gaps", "size")

    def __init__(self, align: int) -> None:
        self.align = align
        self.gaps: list[list[int]] = [[0, ENDLESS]]
        self.size = 0

    def padded(self, size: int) -> int:
        """A size as it is placed. [B]"""
        return -(-size // self.align) * self.align

    def take(self, size: int) -> int:
        """Place so many bytes in the smallest gap that holds them; its offset. [B]"""
        size = self.padded(size)
        best, room = len(self.gaps) - 1, ENDLESS
        for place in range(len(self.gaps) - 1):
            length = self.gaps[place][1]
            if size <= length <= room:
                best, room = place, length
        gap = self.gaps[best]
        offset = gap[0]
        gap[0] += size
        gap[1] -= size
        if not gap[1]:
            del self.gaps[best]
        self.size = max(self.size, offset + size)
        return offset

    def free(self, offset: int, size: int) -> None:
        """Give bytes back, joining the gaps beside them."""
        size = self.padded(size)
        if not size:
            return
        place = 0
        while place < len(self.gaps) and self.gaps[place][0] < offset:
            place += 1
        self.gaps.insert(place, [offset, size])
        for left in (place, place - 1):
            if 0 <= left < len(self.gaps) - 1:
                first, second = self.gaps[left], self.gaps[left + 1]
                if first[0] + first[1] == second[0]:
                    first[1] += second[1]
                    del self.gaps[left + 1]


def buffers(graph: Graph, aligns: tuple[int, ...] = (32,)) -> list[int]:
    """Bytes of the compute buffer on each backend. [B]

    Parameters
    ----------
    graph : Graph
        Its nodes say which backend they are on.
    aligns : tuple of int
        Alignment on each backend: 32 on the CPU, 128 with CUDA. [B]
    """
    made = [Buffer(align) for align in aligns]
    for node in graph.inputs:
        _place(node, made)
    for node in graph.nodes:
        if node.root is not None and node.op != "dep":
            node.root.views += 1
        for source in node.sources:
            source.readers += 1
    for node in graph.nodes:
        _place(node, made)
        for source in node.sources:
            source.readers -= 1
            if source.readers or source.views:
                continue
            owner = source
            if source.root is not None:
                owner = source.root
                owner.views -= 1
                if owner.views or owner.readers:
                    continue
            if owner.held and not owner.kept:
                made[owner.backend].free(owner.home, owner.bytes)
                owner.held = False
    return [buffer.size for buffer in made]


def _place(node: Node, made: list[Buffer]) -> None:
    """Give a tensor its memory, an argument's where that can be."""
    if not node.placed or node.held:
        return
    node.held = True
    if node.op in IN_PLACE:
        for source in node.sources:
            if (
                source.held
                and not source.kept
                and source.readers == 1
                and not source.views
                and node.is_like(source)
            ):
                node.home, node.backend = source.home, source.backend
                source.held = False
                return
    node.home = made[node.backend].take(node.bytes)
