"""The order in which Vulkan runs a piece of a graph: independent work is pulled together.

The order decides who is alive beside whom, and so the size of the buffer. Other backends keep the
order of the graph. (`ggml-vulkan.cpp`, `ggml_vk_graph_optimize`.)
"""

from __future__ import annotations

from collections.abc import Sequence

from llmcalc.memory.engines.llamacpp.ggml import Node

EMPTY = frozenset(("view", "reshape", "permute", "transpose"))
WINDOW = 20
"""How far ahead it looks. [nodes]"""
REACH = 15
"""How far ahead it looks for what joins a fusion. [nodes]"""

TOGETHER = tuple(
    tuple(words.split())
    for words in (
        "soft_max reshape argsort view get_rows reshape sum_rows clamp div reshape",
        "unary reshape add argsort view get_rows reshape sum_rows clamp div reshape",
        "unary sqrt reshape add argsort view get_rows reshape sum_rows clamp div reshape",
        "soft_max reshape argsort view get_rows",
        "argsort view get_rows reshape soft_max reshape",
        "rms_norm mul add mul",
        "rms_norm mul add",
        "rms_norm mul rope view set_rows",
        "rms_norm view set_rows",
        "rope view set_rows",
    )
)
"""Sequences that are fused and never torn apart."""

PAIRS = (
    ("mul_mat", "add"), ("mul_mat_id", "add_id"), ("mul_mat_id", "mul"), ("add", "add"),
    ("ssm_conv", "add"), ("ssm_conv", "unary"),
)  # fmt: skip
"""Neighbours that may follow one another though the second needs the first."""


def _base(node: Node) -> Node:
    return node.root or node


def _needs(later: Node, earlier: Node) -> bool:
    """Whether a node must stay behind another."""
    if earlier in later.sources:
        return True
    if later.op not in EMPTY and earlier.op not in EMPTY:
        if any(_base(source) is _base(earlier) for source in later.sources):
            return True
        if any(_base(source) is _base(later) for source in earlier.sources):
            return True
    return _base(later) is _base(earlier)


class _Order:
    """The search for one piece."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        self.nodes = nodes
        self.used = [False] * len(nodes)
        self.order: list[Node] = []
        self.done: set[int] = set()
        self.first = 0

    def matches(self, pattern: tuple[str, ...], start: int) -> bool:
        if start + len(pattern) > len(self.nodes):
            return False
        return all(
            self.nodes[start + place].op == op and not self.used[start + place]
            for place, op in enumerate(pattern)
        )

    def take(self, places: Sequence[int]) -> None:
        for place in places:
            self.order.append(self.nodes[place])
            self.done.add(id(self.nodes[place]))
            self.used[place] = True
        while self.first < len(self.nodes) and self.used[self.first]:
            self.first += 1

    def run(self) -> list[Node]:
        while self.first < len(self.nodes):
            for pattern in TOGETHER:
                if self.matches(pattern, self.first):
                    self.take(range(self.first, self.first + len(pattern)))
                    break
            else:
                self.take(self.gather())
        return self.order

    def gather(self) -> list[int]:
        """The next node and what may run beside it."""
        chosen = [self.first]
        end = min(self.first + WINDOW, len(self.nodes))
        for place in range(self.first + 1, end):
            if self.used[place] or self.nodes[place].op in EMPTY:
                continue
            if any(self.matches(pattern, place) for pattern in TOGETHER):
                continue
            if all(self._may_pass(place, before, chosen[-1]) for before in range(self.first, place)):
                chosen.append(place)
                self._join(place, chosen)
        if self.nodes[chosen[-1]].op != "add":
            taken = set(chosen)
            for place in range(self.first + 1, end):
                if self.used[place] or self.nodes[place].op not in EMPTY:
                    continue
                if not any(
                    not self.used[before] and before not in taken
                    and _needs(self.nodes[place], self.nodes[before])
                    for before in range(self.first, place)
                ):  # fmt: skip
                    chosen.append(place)
                    taken.add(place)
        return chosen

    def _may_pass(self, place: int, before: int, last: int) -> bool:
        """Whether a node may run before one that comes earlier, or directly after it."""
        if self.used[before] or not _needs(self.nodes[place], self.nodes[before]):
            return True
        if before != last:
            return False
        pair = self.nodes[before].op, self.nodes[place].op
        if pair in (("rms_norm", "mul"), ("unary", "mul")):
            between = range(before + 1, place)
            return all(self.used[n] or self.nodes[n].op in EMPTY for n in between)
        return place == before + 1 and pair in PAIRS

    def _join(self, place: int, chosen: list[int]) -> None:
        """Pull forward what is fused with the node just chosen."""
        node, before = self.nodes[place], self.nodes[place - 1]
        ahead = range(place + 1, min(place + REACH, len(self.nodes)))
        end = place
        if node.op == "mul" and before.op == "rms_norm":
            for later in ahead:
                if self.nodes[later].op == "rope" and self.nodes[later].sources[0] is node:
                    end = later
                    chosen.append(later)
                    self.used[later] = True
                    break
        if self.nodes[end].op in ("rope", "rms_norm"):
            self._join_store(end, chosen)
        follows = {("add_id", "mul_mat_id"): "mul", ("add", "mul_mat"): "add", ("add", "ssm_conv"): "unary"}
        wanted = follows.get((node.op, before.op))
        if node.op == "unary":
            wanted = "mul"
        for later in ahead:
            other = self.nodes[later]
            if wanted is None or other.op != wanted or node not in other.sources:
                continue
            if node.op != "unary" and other.sources[0] is not node:
                continue
            rest = [source for source in other.sources if source is not node]
            if wanted == "unary" or all(not s.op or s.op == "copy" or id(s) in self.done for s in rest):
                chosen.append(later)
                self.used[later] = True
                break

    def _join_store(self, end: int, chosen: list[int]) -> None:
        view = -1
        for later in range(end + 1, min(end + REACH, len(self.nodes))):
            if self.used[later]:
                continue
            node = self.nodes[later]
            if view < 0 and node.op == "view" and node.sources[0] is self.nodes[end]:
                view = later
            elif view >= 0 and node.op == "set_rows" and node.sources[0] is self.nodes[view]:
                between = range(end + 1, later)
                if any(
                    not self.used[n] and n != view and self.nodes[n].op not in EMPTY
                    and _needs(node, self.nodes[n])
                    for n in between
                ):  # fmt: skip
                    return
                chosen += [view, later]
                self.used[view] = self.used[later] = True
                return


def reordered(piece: Sequence[Node]) -> list[Node]:
    """The nodes of a piece in the order in which Vulkan runs them."""
    return _Order(piece).run()
