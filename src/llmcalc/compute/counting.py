"""The conventions of publications for a given model: what each would call its operations of one token."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llmcalc.compute import conventions as leaf
from llmcalc.compute.ops import TOWERS, Line, Work, count, recomputed, total
from llmcalc.formula import Quantity
from llmcalc.model.inventory import Inventory, size


class Shape:
    """What the formulas of publications ask of a model.

    Attributes
    ----------
    params, active : int
        All parameters of the text model, and those that one token uses. [-]
    embedding, outside : int
        Parameters of the token embedding, and of all embeddings, positions and the head. [-]
    layers, attending : int
        Layers, and how often attention runs. [-]
    hidden, vocabulary, ffn, heads : int
        Width, tokens of the vocabulary, width of the widest feed-forward layer, query heads. [elements], [-]
    attention_width : float
        Width of all heads of one attention layer, on average. [elements]
    gpt_like : bool
        Whether it is a GPT as the closed formulas suppose: a feed-forward layer of four times the width
        without a gate, as many key heads as query heads.
    """

    __slots__ = (
        "active", "attending", "attention_width", "embedding", "ffn", "gpt_like", "heads", "hidden", "layers",
        "outside", "params", "vocabulary",
    )  # fmt: skip

    def __init__(self, inventory: Inventory) -> None:
        towers = embedding = outside = 0
        width: float = 0
        self.attending = self.ffn = self.heads = self.hidden = self.vocabulary = 0
        gated = False
        for group in inventory.groups:
            for tensor in group.tensors:
                if tensor.tag != "main":
                    continue
                own = group.count * tensor.numel
                if group.component in TOWERS:
                    towers += own
                elif tensor.role == "embedding":
                    embedding += own
                    self.vocabulary, self.hidden = tensor.shape[0], tensor.shape[-1]
                if group.component == "text" and tensor.role in OUTSIDE:
                    outside += own
            for op in group.ops if group.component in ("text", "encoder") else ():
                if op.role == "attention":
                    self.attending += len(group.layers)
                    width += len(group.layers) * (size(op.out) + size(op.inp)) / 2
                    self.heads = max(self.heads, int(dict(op.out[0]).get("heads", 1)))
                elif op.role in ("up", "expert_up", "gate_up", "expert_gate_up"):
                    self.ffn = max(self.ffn, size(op.out))
                gated |= op.role in GATED
        self.params = inventory.params - towers
        routed_away = inventory.params - inventory.active_params
        self.active = self.params - routed_away
        self.embedding, self.outside = embedding, outside
        self.layers = inventory.layers
        mean = width / self.attending if self.attending else 0
        self.attention_width = int(mean) if mean == int(mean) else mean
        grouped = any(tensor.role == "key" and tensor.shape[0] != width / max(self.attending, 1)
                      for group in inventory.groups if group.component == "text"
                      for tensor in group.tensors)  # fmt: skip
        self.gpt_like = (
            not gated and not grouped and self.ffn == 4 * self.hidden and self.attending == self.layers
        )


OUTSIDE = ("embedding", "position", "unembedding", "token_type", "layer_embedding")
GATED = ("gate", "gate_up", "expert_gate", "expert_gate_up")


class Counted:
    """Operations of training one token by one convention.

    Attributes
    ----------
    convention : Convention
        The rule.
    model, executed : float or ndarray
        With recomputation left out, and with it. [FLOP]
    """

    __slots__ = ("convention", "executed", "model")

    def __init__(self, convention: Convention, model: Any, executed: Any) -> None:
        self.convention, self.model, self.executed = convention, model, executed


class Convention:
    """How one publication or program counts.

    Attributes
    ----------
    name, words, source : str
        What it is called, what it counts in a few words, and where it stands.
    formula : str
        The leaf formula; empty where it is a sum over ops.
    """

    __slots__ = ("find", "formula", "name", "source", "words")

    def __init__(
        self, name: str, words: str, source: str, formula: str,
        find: Callable[[Inventory, Shape, Any, str], tuple[Any, Any]],
    ) -> None:  # fmt: skip
        self.name, self.words, self.source, self.formula, self.find = name, words, source, formula, find


Pair = tuple[Any, Any]


def _ops(mask: str, head: str = "all", prediction: bool = False) -> Callable[..., Pair]:
    """A convention that is a sum over ops."""

    def find(inventory: Inventory, shape: Shape, sequence: Any, recompute: str) -> Pair:
        work = Work("train", sequence, mask, head, encoder=sequence, prediction=prediction)
        return per_token(count(inventory, work), sequence, recompute)

    return find


def per_token(lines: list[Line], sequence: Quantity, recompute: str) -> Pair:
    """Operations of one token: of the model, and executed. [FLOP]"""
    forward, backward = total(lines)
    return (forward + backward) / sequence, (forward + backward + recomputed(lines, recompute)) / sequence


def _executed(model: Any, again: Any, recompute: str) -> Pair:
    """A closed formula's operations, and with the layers' forward pass once more."""
    return model, model + (again if recompute == "full" else 0)


def _six(_: Inventory, shape: Shape, sequence: Any, recompute: str) -> Pair:
    found = leaf.training_flops(shape.active, 1)
    return _executed(found, found / 3, recompute)


def _palm(_: Inventory, shape: Shape, sequence: Any, recompute: str) -> Pair:
    found = leaf.palm_flops(shape.active, shape.attending, shape.attention_width, sequence)
    return _executed(found, found / 3, recompute)


def _kaplan(_: Inventory, shape: Shape, sequence: Any, recompute: str) -> Pair:
    inner = shape.active - shape.outside
    found = leaf.kaplan_flops(inner, shape.attending, shape.attention_width, sequence)
    return _executed(found, found / 3, recompute)


def _narayanan(_: Inventory, shape: Shape, sequence: Any, recompute: str) -> Pair:
    given = (1, sequence, shape.layers, shape.hidden, shape.vocabulary)
    again = leaf.narayanan_flops(*given) / sequence
    return leaf.korthikanti_flops(*given) / sequence, again


def _korthikanti(_: Inventory, shape: Shape, sequence: Any, recompute: str) -> Pair:
    found = leaf.korthikanti_flops(1, sequence, shape.layers, shape.hidden, shape.vocabulary) / sequence
    layers = found - 6 * shape.vocabulary * shape.hidden
    core = 4 * shape.layers * shape.hidden * sequence
    return found, found + {"full": layers / 3, "selective": core}.get(recompute, 0)


def _foundry(_: Inventory, shape: Shape, sequence: Any, recompute: str) -> Pair:
    given = (shape.active, shape.layers, shape.hidden, sequence)
    return leaf.foundry_flops(*given, 3), leaf.foundry_flops(*given, 4 if recompute == "full" else 3)


def _torchtitan(_: Inventory, shape: Shape, sequence: Any, recompute: str) -> Pair:
    given = (shape.attending, shape.attention_width, sequence)
    found = leaf.torchtitan_flops(shape.active, shape.embedding, *given)
    return _executed(found, found / 3, recompute)


def _hoffmann(vocabulary: bool) -> Callable[..., Pair]:
    def find(_: Inventory, shape: Shape, sequence: Any, recompute: str) -> Pair:
        width = shape.attention_width
        layer = leaf.hoffmann_layer_flops(sequence, shape.hidden, width, shape.heads, shape.ffn)
        layers = shape.layers * layer / sequence
        outside = leaf.hoffmann_vocabulary_flops(sequence, shape.hidden, shape.vocabulary) / sequence
        return _executed(3 * (layers + (outside if vocabulary else 0)), layers, recompute)

    return find


CLOSED = ("narayanan", "korthikanti", "hoffmann", "hoffmann-a4")
"""Closed formulas of a GPT's shape, which know no gate, no grouped keys and no experts."""

CONVENTIONS = {
    one.name: one
    for one in (
        Convention("exact", "each op; masks and windows as they are; head in, embedding out", "", "",
                   _ops("causal")),
        Convention("exact-full", "each op; all pairs of positions; head in, embedding out", "", "",
                   _ops("full")),
        Convention("6nd", "6 N; all active parameters; no attention", "Kaplan et al. 2020, section 2.1",
                   "training_flops", _six),
        Convention("kaplan", "6 N without embeddings and head; half of all pairs",
                   "Kaplan et al. 2020, equation 2.2 and table 1", "kaplan_flops", _kaplan),
        Convention("palm", "6 N of all parameters; all pairs", "Chowdhery et al. 2022, appendix B",
                   "palm_flops", _palm),
        Convention("narayanan", "GPT's shape; all pairs; executed with all layers recomputed",
                   "Narayanan et al. 2021, equation 3", "narayanan_flops", _narayanan),
        Convention("korthikanti", "GPT's shape; all pairs; head in", "Korthikanti et al. 2022, appendix A",
                   "korthikanti_flops", _korthikanti),
        Convention("llm-foundry", "6 N of all parameters; all pairs",
                   "llm-foundry, scripts/train/benchmarking, 2023", "foundry_flops", _foundry),
        Convention("torchtitan", "6 N without the embedding; all pairs",
                   "torchtitan, get_nparams_and_flops, 2025", "torchtitan_flops", _torchtitan),
        Convention("megatron", "each op; half of all pairs; head in; prediction layers in",
                   "Megatron-Bridge, training/utils/flop_utils.py, 2025", "", _ops("half", "all", True)),
        Convention("maxtext", "each op; half of all pairs; head in",
                   "MaxText, maxtext_utils.py, since July 2025", "", _ops("half")),
        Convention("maxtext-2024", "each op; all pairs of positions; head in",
                   "MaxText, maxtext_utils.py, until July 2025", "", _ops("full")),
        Convention("hoffmann", "GPT's shape; all pairs and softmax; embedding as a product; head in",
                   "Hoffmann et al. 2022, appendix F", "hoffmann_layer_flops", _hoffmann(True)),
        Convention("hoffmann-a4", "the same without embedding and head", "Hoffmann et al. 2022, table A4",
                   "hoffmann_layer_flops", _hoffmann(False)),
    )
}  # fmt: skip
"""Each by its name, the exact counts first."""


def by_convention(inventory: Inventory, sequence: Any, recompute: str, names: Any = None) -> list[Counted]:
    """Operations of training one token of a sequence, by each convention. [FLOP]"""
    shape = Shape(inventory)
    return [
        Counted(CONVENTIONS[name], *CONVENTIONS[name].find(inventory, shape, sequence, recompute))
        for name in names or CONVENTIONS
    ]
