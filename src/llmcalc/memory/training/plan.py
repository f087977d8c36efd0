"""How a step is run, as far as it decides what autograd keeps and what is alive when."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmcalc.formula import Quantity
from llmcalc.model.inventory import Group

if TYPE_CHECKING:
    from llmcalc.memory.training.parallel.mesh import Mesh

RECIPES = ("hf", "torchtune", "torchtitan", "megatron", "liger", "litgpt")
"""Implementations whose order of operations is known."""

LOSSES = (
    "eager",
    "shifted",
    "compiled",
    "chunked",
    "fused",
    "vocab-parallel",
    "vocab-parallel-fused",
    "vocab-parallel-te",
    "none",
)


MODULES = ("core_attn", "mlp", "moe", "shared_experts", "layernorm", "moe_act", "mla_up_proj")
"""Parts of a layer that can be recomputed by themselves; of the last three what they make is dropped and made
again when it is needed."""

CORE = frozenset({"core_attn"})


class Adapter:
    """One adapter on one linear.

    Parameters
    ----------
    kind : str
        ``lora``, ``dora`` or ``bottleneck``.
    rank : int or ndarray
        Width between its two matrices. [-]
    bytes_ : int
        Of one of its elements: 4 is PEFT's default. [B]
    dropout : bool
        Whether its input goes through dropout.
    parts : tuple of int
        Outputs of the parts of a fused product that it stands on, each with such a rank; none means all. [-]
    """

    __slots__ = ("bytes", "dropout", "kind", "parts", "rank")

    def __init__(
        self, kind: str, rank: Quantity, bytes_: int = 4, dropout: bool = False, parts: tuple[int, ...] = ()
    ) -> None:
        self.kind, self.rank, self.bytes, self.dropout, self.parts = kind, rank, bytes_, dropout, parts


class Plan:
    """A step: shapes, precision, attention, recomputation, loss; subclasses say what trains.

    Parameters
    ----------
    batch, seq : int or ndarray
        Sequences, and tokens of each. [-]
    element : int
        Bytes of an activation in the compute dtype. [B]
    weight_element : int
        Bytes of a stored weight element where it is not quantized. [B]
    autocast : bool
        fp32 weights are cast to 16 bit where they are used.
    attention : str
        ``flash``, ``flash3`` (its third version and later), ``sdpa`` or ``eager``.
    padded : bool
        Whether a padding mask is there: sdpa then repeats keys and values and saves a mask a layer.
    recompute : str or int
        ``none``, ``selective`` (the attention core), ``full`` (a layer keeps its input), or N: the
        input of every N-th layer is kept.
    loss : str
        ``eager``, ``chunked``, ``fused``, ``vocab-parallel`` or ``none``.
    recipe : str
        ``hf``, ``torchtune``, ``megatron``, ``liger`` or ``litgpt``.
    keep_logits : bool
        Whether the output object, and with it the logits, outlives the forward pass.
    in_backward : bool
        Whether each gradient is used and freed as soon as it is made.
    accumulates : bool
        Whether gradients of earlier micro-batches are there already; each new one is added and freed.
    inputs_require_grad : bool
        Whether the embedding's output requires a gradient although nothing below it trains, as PEFT asks
        for with checkpointing.
    watched : bool
        Whether a dispatch mode such as PyTorch's MemTracker looks on: gradients are then never added in
        place, and what kernels take for themselves is not seen.
    keeps_inputs : bool
        Whether packed linears keep their inputs although they do not train, as bitsandbytes did before
        0.43.2.
    compiled : bool
        Whether the loss is compiled: one kernel each way then, which keeps the logits as they come.
    modules : frozenset of str
        Parts of a layer that are recomputed with ``selective``, by Megatron's names.
    mesh : Mesh or None
        GPUs that share the model; None is one. `seq` is then what one context rank holds of a sequence.
    logs : bool
        Whether everything that comes and goes is written down, to be played through an allocator.
    earlier : int or ndarray
        What the micro-batch before has left until this one's logits replace its own. [B]
    answers : int or ndarray
        Tokens at the end of each sequence that need logits; 0 is all. [tokens]
    no_grad : bool
        Whether nothing is kept for a backward pass.
    """

    __slots__ = (
        "accumulates", "answers", "attention", "autocast", "batch", "compiled", "earlier", "element",
        "in_backward", "inputs_require_grad", "keep_logits", "keeps_inputs", "logs", "loss", "mesh",
        "modules", "no_grad", "padded", "recipe", "recompute", "seq", "watched", "weight_element",
    )  # fmt: skip

    def __init__(
        self, batch: Quantity = 1, seq: Quantity = 1, *, element: int = 2, weight_element: int | None = None,
        autocast: bool = False, attention: str = "sdpa", padded: bool = False, recompute: str | int = "none",
        loss: str = "eager", recipe: str = "hf", keep_logits: bool = False, in_backward: bool = False,
        accumulates: bool = False, inputs_require_grad: bool = False, watched: bool = False,
        keeps_inputs: bool = False, earlier: Quantity = 0, compiled: bool = False,
        mesh: Mesh | None = None, modules: frozenset[str] = CORE,
        answers: Quantity = 0, no_grad: bool = False,
    ) -> None:  # fmt: skip
        self.batch, self.seq, self.element = batch, seq, element
        self.weight_element = weight_element or element
        self.autocast, self.attention, self.padded = autocast, attention, padded
        self.recompute, self.loss, self.recipe = recompute, loss, recipe
        self.keep_logits, self.in_backward, self.accumulates = keep_logits, in_backward, accumulates
        self.inputs_require_grad, self.watched = inputs_require_grad, watched
        self.keeps_inputs, self.earlier, self.compiled = keeps_inputs, earlier, compiled
        self.mesh, self.logs = mesh, False
        self.answers, self.no_grad = answers, no_grad
        self.modules = modules if recompute == "selective" else frozenset()

    @property
    def shares_tokens(self) -> int:
        """Ranks that share the residual stream's tokens (sequence parallelism). [-]"""
        return self.mesh.tp if self.mesh is not None and self.mesh.sequence_parallel else 1

    @property
    def alike(self) -> bool:
        """Whether all layers of a group are trained alike, so that one tells of all."""
        return False

    def trains(self, group: Group, layer: int | None, role: str, part: str) -> bool:
        """Whether a tensor of the base model gets a gradient; all do unless a subclass says otherwise."""
        return True

    def adapter(self, group: Group, layer: int | None, role: str) -> Adapter | None:
        """The adapter on a linear, if there is one."""
        return None

    def dequant(self, group: Group, layer: int | None, role: str) -> int:
        """Bytes of an element of the matrix that is unpacked where it is used; 0 if it is not packed. [B]"""
        return 0

    def grad_bytes(self, group: Group, layer: int | None, role: str, part: str) -> int:
        """Bytes of an element of a tensor's gradient. [B]"""
        return self.weight_element
