"""One forward pass of transformers' modelling code, tensor by tensor.

What each line makes, and which names keep it alive, follow `modeling_llama.py` and its kin; layers differ
in what their inventory says: norms, heads, latents, windows, experts.
"""

from __future__ import annotations

from llmcalc.engine_options.transformers import TransformersOptions
from llmcalc.memory.engines.transformers import experts, states
from llmcalc.memory.engines.transformers.attention import attend
from llmcalc.memory.engines.transformers.layer import Kept, Layer
from llmcalc.memory.engines.transformers.ledger import Block, Ledger
from llmcalc.memory.engines.transformers.traits import Traits

HIDDEN, ATTENTION, FFN = "hidden states", "attention", "feed-forward"


class Pass:
    """Some tokens of some sequences on their way through the layers.

    Parameters
    ----------
    options : TransformersOptions
        Attention, release, cache.
    attention : str
        ``eager``, ``sdpa`` or ``flash``.
    batch, tokens, before, last : int
        Sequences, tokens of each, tokens that are cached already, and those of the pass before. [-]
    hidden : int
        Width of the model. [elements]
    element : int
        Bytes of one element. [B]
    rotary : int
        Width that rotates, of one head; 0 without. [elements]
    traits : Traits
        Of the family.
    base : int
        What other layers' caches hold. [B]

    Attributes
    ----------
    rows : int
        Tokens of all sequences. [tokens]
    shared : list of Block
        What all layers read: masks and rotations.
    weights : Block or None
        What eager attention returns beside its output; a layer holds it to its end.
    ledger : Ledger
        What is alive.
    """

    __slots__ = (
        "attention", "batch", "before", "element", "hidden", "last", "ledger", "masks", "options",
        "rotary", "rows", "shared", "tokens", "traits",
        "weights",
    )  # fmt: skip

    def __init__(
        self, options: TransformersOptions, attention: str, batch: int, tokens: int, before: int, last: int,
        hidden: int, element: int, rotary: int, traits: Traits, base: int,
    ) -> None:  # fmt: skip
        self.options, self.attention = options, attention
        self.batch, self.tokens, self.before, self.hidden = batch, tokens, before, hidden
        self.last = last
        self.rows, self.element, self.rotary = batch * tokens, element, rotary
        self.traits = traits
        self.ledger = Ledger(base)
        self.weights: Block | None = None
        self.shared: list[Block | None] = []
        self.masks: dict[int | None, Block | None] = {}

    def make(self, elements: int, label: str, *consumed: Block | None) -> Block:
        """A tensor in the model's dtype with so many elements for each token."""
        return self.ledger.op(elements * self.rows * self.element, label, *consumed)

    def keys_seen(self, kept: Kept | None) -> int:
        """Positions whose keys attention reads. [tokens]"""
        seen = self.before + self.tokens
        static = self.options.is_static
        length = self.options.max_length or seen
        if kept is None:
            return seen
        if kept.window is None or kept.kind == "latent":
            return max(length, seen) if static else seen
        if not self.options.era.slides and not static:
            return seen
        if static:
            return max(min(kept.window, length), min(seen, kept.window - 1 + self.tokens))
        return min(self.before, kept.window - 1) + self.tokens  # a window's own tokens and those before

    # -- norms -------------------------------------------------------------------------------

    def norm(self, elements: int, label: str, source: Block | None = None, vectors: int = 1) -> Block:
        """RMSNorm over each of a token's vectors: in fp32, then back, then times its weight."""
        ledger, size = self.ledger, elements * self.rows
        wide = ledger.make(4 * size if self.element < 4 else 0, label)
        ledger.drop(ledger.make(4 * size, label))
        means = ledger.make(8 * vectors * self.rows, label)  # of the squares, and one over their root
        scaled = ledger.op(4 * size, label, wide, means)
        half = ledger.op(2 * size, label, scaled) if self.element < 4 else scaled
        return ledger.op(self.element * size, label, half, source)

    # -- one layer ---------------------------------------------------------------------------

    def run(self, layer: Layer, first: bool) -> None:
        """A layer, with its input alive to the end as its caller still names it."""
        ledger = self.ledger
        embedded = self.make(self.hidden * (2 if self.traits.lingers else 1), HIDDEN)
        entered = None if first else self.make(self.hidden, HIDDEN)
        x: Block | None = None
        normed = self.norm(self.hidden, HIDDEN) if layer.norms & BEFORE_ATTENTION else None
        mixed = self._mix(layer)
        if "post_attn_norm" in layer.norms:
            mixed = self.norm(self.hidden, HIDDEN, mixed)
        parallel = normed is not None and "ffn_norm" not in layer.norms and mixed is not None
        has_ffn = any(role in layer.out for role in ("down", "expert_down"))
        if parallel and has_ffn and not layer.norms & AFTER:
            out = self._feed_forward(layer)
            x = self.make(self.hidden, HIDDEN)
            ledger.drop(out, mixed, normed)
        else:
            x = self.make(self.hidden, HIDDEN)
            ledger.drop(None if self.traits.lingers else mixed, normed)
            if has_ffn:
                normed = self.norm(self.hidden, HIDDEN) if layer.norms & BEFORE_FFN else None
                out = self._feed_forward(layer)
                if "post_ffn_norm" in layer.norms:
                    out = self.norm(self.hidden, HIDDEN, out)
                ledger.drop(normed)
                ledger.drop(self.make(self.hidden, HIDDEN), out)
        ledger.drop(x, entered, embedded, self.weights, mixed)

    def _mix(self, layer: Layer) -> Block | None:
        """Attention, a recurrence, or both side by side."""
        outs: list[Block] = []
        if "scan" in layer.ops or "conv" in layer.ops:
            outs.append(states.scan(self, layer))
        if layer.heads:
            outs.append(attend(self, layer))
        if len(outs) == 2:
            outs = [self.make(self.hidden, HIDDEN, *outs)]
        return outs[0] if outs else None

    def _feed_forward(self, layer: Layer) -> Block:
        """Dense, experts, or experts and a shared one."""
        if "expert_down" not in layer.out:
            return self.dense(layer, "")
        has_shared = "shared_down" in layer.out
        shared = self.dense(layer, "shared_") if has_shared and "shared_router" in layer.out else None
        out = experts.routed(self, layer)
        if has_shared and shared is None:  # after the others, where no gate weighs it
            shared = self.dense(layer, "shared_")
        if "down" in layer.out:  # a dense branch beside the experts
            out = self.make(self.hidden, HIDDEN, out, self.dense(layer, ""))
        return self.make(self.hidden, HIDDEN, shared, out) if shared is not None else out

    def dense(self, layer: Layer, prefix: str) -> Block:
        """``down(act(gate(x)) * up(x))``."""
        inner = layer.out.get(f"{prefix}up", layer.out.get(f"{prefix}gate_up", 0) // 2)
        both = f"{prefix}gate_up" in layer.out
        if both:  # one matrix; its halves are views that keep it
            whole: Block | None = self.make(2 * inner, FFN)
            acted = self.make(inner, FFN)
            wide = self.make(inner, FFN, acted)
        elif f"{prefix}gate" in layer.out:
            whole = None
            acted = self.make(inner, FFN, self.make(inner, FFN))
            wide = self.make(inner, FFN, acted, self.make(inner, FFN))
        else:
            whole, wide = None, self.make(inner, FFN)
            if self.traits.long_gelu:  # half of it, its cube, and that times a constant
                self.ledger.drop(self.make(3 * inner, FFN))
            wide = self.make(inner, FFN, wide)
        return self.make(self.hidden, HIDDEN, wide, whole)


BEFORE_ATTENTION = {"attn_norm", "mixer_norm", "first_norm"}
BEFORE_FFN = {"ffn_norm", "before_norm"}
AFTER = {"post_attn_norm", "post_ffn_norm"}
