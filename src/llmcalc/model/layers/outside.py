"""What stands outside the layers: norms, embeddings, positions, heads, projections."""

from __future__ import annotations

from llmcalc.model.inventory import Op, Tensor, dim
from llmcalc.model.layers.core import Lowered, builder


@builder
def norm(role: str, width: int, bias: bool = False, weight: bool = True) -> Lowered:
    """A norm over the hidden width: RMSNorm, or LayerNorm with its bias."""
    made = Lowered()
    made.norm(role, dim(hidden=width), bias, weight)
    return made


@builder
def embedding(vocab: int, width: int) -> Lowered:
    """The token embedding."""
    made = Lowered()
    made.tensors.append(Tensor("embedding", (dim(vocab=vocab), dim(hidden=width))))
    made.ops.append(Op("embedding", "embedding", dim(hidden=width), dim(vocab=vocab)))
    return made


@builder
def positions(rows: int, width: int) -> Lowered:
    """Learned absolute positions."""
    made = Lowered()
    made.tensors.append(Tensor("position", (dim(position=rows), dim(hidden=width))))
    made.ops.append(Op("embedding", "position", dim(hidden=width), dim(position=rows)))
    return made


@builder
def projection(role: str, out: int, inp: int, bias: bool = False, out_axis: str = "hidden") -> Lowered:
    """A plain matrix outside the layers, such as OPT's between embedding and hidden width."""
    made = Lowered()
    made.linear(role, dim(**{out_axis: out}), dim(hidden=inp), bias)
    return made


@builder
def head(vocab: int, width: int, *, tied: bool = False, bias: bool = False) -> Lowered:
    """The unembedding; tied to the embedding it is executed but not stored again."""
    made = Lowered()
    if tied:
        made.ops.append(Op("linear", "embedding", dim(vocab=vocab), dim(hidden=width)))
        if bias:
            made.tensors.append(Tensor("unembedding", (dim(vocab=vocab),), "bias"))
    else:
        made.linear("unembedding", dim(vocab=vocab), dim(hidden=width), bias)
    return made
