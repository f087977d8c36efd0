"""A model in transformers: its layers, and the most that prefill and decode hold beside the weights."""

from __future__ import annotations

from llmcalc.engine_options.transformers import TransformersOptions
from llmcalc.memory import caches
from llmcalc.memory.engines.transformers.caches import as_run
from llmcalc.memory.engines.transformers.layer import Kept, Layer
from llmcalc.memory.engines.transformers.ledger import Block, Ledger
from llmcalc.memory.engines.transformers.passes import Pass
from llmcalc.memory.engines.transformers.traits import Traits
from llmcalc.memory.workload import Precision
from llmcalc.model.inventory import Inventory, size
from llmcalc.placement import Placement, rank_numel

BUCKETS = 49
"""Bytes of a pair of tokens while its distance becomes a row of T5's table: six integers and a truth. [B]"""

BEAM_COPIES = 3
"""Copies of the logits in fp32 while beams are scored: as they are, as logarithms, as sums. [-]"""

INPUTS = 24
"""Ids, mask and positions of a token, 8 bytes each, which `generate` makes. [B]"""


class Held:
    """What one rank holds beside its weights at the peak of a phase.

    Attributes
    ----------
    bytes : int
        Of all together. [B]
    parts : dict
        By what they are for. [B]
    """

    __slots__ = ("bytes", "parts")

    def __init__(self, bytes_: int = 0, parts: dict[str, int] | None = None) -> None:
        self.bytes, self.parts = bytes_, parts or {}

    def or_worse(self, ledger: Ledger) -> Held:
        """The worse of this and what a pass held."""
        return Held(ledger.peak, ledger.parts) if ledger.peak > self.bytes else self


class Loaded:
    """A model as transformers runs it.

    Parameters
    ----------
    inventory : Inventory
        Stored as its scheme says.
    placement : Placement
        Stages and tensor ranks.
    precision : Precision
        Formats.
    options : TransformersOptions
        Cache, attention, release.
    streams : dict, optional
        Tokens of other streams of one sequence. [tokens]
    unpacked : int
        Bytes of an element of a packed matrix that is made whole before it is multiplied with more than one
        token; 0 where kernels read it as it is. [B]
    outputs : int
        Outputs of one prompt, each a row of the batch: samples or beams. [-]
    beams : bool
        Whether they are those of a beam search, which sorts its caches after each token.

    Attributes
    ----------
    attention : str
        ``eager``, ``sdpa`` or ``flash``: as asked, else what `from_pretrained` would choose.
    """

    __slots__ = (
        "_orders", "attention", "beams", "element", "encoder", "groups", "hidden", "options", "outputs",
        "placement", "rotary", "streams", "traits", "unpacked", "vocabulary",
    )  # fmt: skip

    def __init__(
        self, inventory: Inventory, placement: Placement, precision: Precision, options: TransformersOptions,
        streams: dict[str, int] | None = None, unpacked: int = 0, outputs: int = 1, beams: bool = False,
    ) -> None:  # fmt: skip
        self.outputs, self.beams = outputs, beams
        self.options, self.placement, self.streams = options, placement, streams or {}
        self.element = int(precision.model.block_bytes)
        self.traits = Traits(inventory.family)
        self._orders: dict[int, list[tuple[int, Layer]]] = {}
        self.hidden = self.vocabulary = 0
        self.unpacked = unpacked * largest_packed(inventory, placement)
        self.groups: list[Layer] = []
        self.encoder: list[Layer] = []
        learned = False
        for group in as_run(inventory, options).groups:
            if group.place == "layer" and group.component in ("text", "encoder"):
                made = self.groups if group.component == "text" else self.encoder
                made.append(Layer(group, placement.tp))
            elif group.component == "text":
                for op in group.ops:
                    if op.kind == "embedding":
                        learned = learned or op.role == "position"
                        if op.role == "embedding":
                            self.hidden, self.vocabulary = size(op.out), size(op.inp)
        self.rotary = 0 if learned or self.traits.unrotated else self._rotary(inventory)
        self.attention = options.attention or ("sdpa" if self.has_sdpa(inventory) else "eager")

    @property
    def slides(self) -> bool:
        """Whether windows let go of what lies behind them."""
        windowed = any(layer.window is not None for layer in self.groups)
        return windowed and self.options.era.slides and not self.options.is_static

    @property
    def pads_masks(self) -> bool:
        """Whether masks go to a fused kernel, which copies those whose rows are not whole."""
        windowed = any(layer.window is not None for layer in self.groups)
        masked = self.options.padding or self.options.is_static or self.options.chunk or windowed
        return self.attention == "sdpa" and bool(masked or self.traits.position_bias)

    def has_sdpa(self, inventory: Inventory) -> bool:
        """Whether the class can do without all scores at once: no sinks, no cap."""
        return not self.traits.capped and not any(layer.sinks for layer in self.groups)

    def _rotary(self, inventory: Inventory) -> int:
        """Width of one head that rotates: of a latent the part of its own. [elements]"""
        for group in inventory.groups:
            for op in group.ops:
                if op.role == "kv_a":
                    return size(op.out[1:])
        width = max((layer.width for layer in self.groups), default=0)
        return int(width * inventory.rope[1]) // 2 * 2

    # -- what caches hold ----------------------------------------------------------------------

    def _layer_bytes(self, layer: Layer, tokens: int, last: int) -> int:
        """A sequence's caches and states of one layer, after a pass of the `last` of so many tokens. [B]"""
        if not tokens:
            return 0
        total = sum(self._kept_bytes(kept, tokens, last) for kept in layer.caches)
        total += sum(kept.row * self.streams.get(kept.stream, 0) * self.element for kept in layer.crossed)
        for kept in layer.states:
            wide = caches.STATE_BYTES.get(kept.precision, self.element)
            total += kept.row * (kept.window or 1) * wide
        return total

    def _kept_bytes(self, kept: Kept, tokens: int, last: int) -> int:
        options = self.options
        if options.cache == "quantized":
            return options.packed(kept.row * tokens)
        return kept.row * options.stored(kept, tokens, last) * self.element

    # -- passes --------------------------------------------------------------------------------

    def prefill(self, batch: int, tokens: int, stage: int = 0, sampled: bool = True) -> Held:
        """The most that reading prompts holds beside the weights.

        Parameters
        ----------
        batch, tokens : int
            Prompts, and tokens of each. [-]
        stage : int
            Which of the GPUs of a `device_map`.
        sampled : bool
            Whether `generate` runs it: its inputs, and the copy of the logits that it samples from.

        Returns
        -------
        Held
            Caches and all else at the peak. [B]

        Examples
        --------
        See `answer.transformers`; tests compare it with storages that PyTorch made.
        """
        chunk = min(self.options.chunk or tokens, tokens)
        worst = self._pass_of(batch, chunk, 0, 0, stage, sampled)
        if chunk < tokens:
            rest = (tokens - 1) % chunk + 1
            for length, before in ((rest, tokens - rest), (chunk, tokens - rest - chunk)):
                found = self._pass_of(batch, length, before, chunk, stage, sampled)
                worst = found if found.bytes > worst.bytes else worst
        return self._with_encoder(worst, batch, stage)

    def decode(self, batch: int, before: int, last: int = 1, stage: int = 0, sampled: bool = True) -> Held:
        """The most that one more token of each sequence holds beside the weights.

        Parameters
        ----------
        batch, before : int
            Sequences, and tokens of each that are cached. [-]
        last : int
            Tokens of the pass before: after a prompt, windows still hold all of it. [tokens]
        stage, sampled
            As in `prefill`.
        """
        return self._pass_of(batch, 1, before, last, stage, sampled)

    def _pass_of(self, batch: int, tokens: int, before: int, last: int, stage: int, sampled: bool) -> Held:
        """The worst moment of a pass: what layers before hold, and the most that a layer holds beside it.

        Equal layers hold the same beside it, so each kind is run once; the first of all has no input
        beside the embeddings.
        """
        order, offloaded = self._order(stage), self.options.is_offloaded
        sizes = {
            id(layer): (
                self._layer_bytes(layer, before, last) * batch,
                self._layer_bytes(layer, before + tokens, tokens) * batch,
            )
            for layer in self._kinds(stage)
        }
        olds = [sizes[id(layer)][0] for _, layer in order]
        base = max(olds, default=0) if offloaded else sum(olds)
        most: dict[int, int] = {}
        opening = None
        for index, layer in order:
            old, new = sizes[id(layer)]
            if index:
                most[id(layer)] = max(most.get(id(layer), 0), base + (old if offloaded else 0))
            else:
                opening = layer, base + (old if offloaded else 0)
            if not offloaded:
                base += new - (0 if self.options.era.doubles_caches else old)
        worst = Held()

        def run(layer: Layer, below: int, first: bool) -> None:
            nonlocal worst
            made = self._start(batch, tokens, before, last, below, sampled)
            made.run(layer, first)
            worst = worst.or_worse(made.ledger)

        if opening is not None:
            run(*opening, True)
        for layer in self._kinds(stage):
            if id(layer) in most:
                run(layer, most[id(layer)], False)
        if self.placement.stages[stage][1] == self.placement.stages[-1][1]:
            worst = worst.or_worse(
                self._head(self._start(batch, tokens, before, last, base, sampled), sampled)
            )
        return (
            worst.or_worse(self._sorted(batch, before + tokens, tokens, stage, base)) if self.beams else worst
        )

    def _sorted(self, batch: int, tokens: int, last: int, stage: int, base: int) -> Ledger:
        """A beam search sorts its rows after each token: keys or values of a layer are copied at a time.

        Before 4.42 the sorted caches were a second set of tuples beside the first.
        """
        ledger = Ledger(base)
        if self.placement.stages[stage][1] == self.placement.stages[-1][1]:
            ledger.make(4 * BEAM_COPIES * batch * self.vocabulary, "logits")
        parts = [
            self._kept_bytes(kept, tokens, last) * max(kept.first, kept.row - kept.first) // kept.row
            for layer in self._kinds(stage)
            for kept in layer.caches
        ]
        copied = base if self.options.era.doubles_caches else batch * max(parts, default=0)
        ledger.make(copied, "sorted caches")
        return ledger

    def _order(self, stage: int) -> list[tuple[int, Layer]]:
        """The layers of a stage, in order."""
        found = self._orders.get(stage)
        if found is None:
            start, end = self.placement.stages[stage]
            pairs = [(i, layer) for layer in self.groups for i in layer.indices if start <= i < end]
            found = self._orders[stage] = sorted(pairs, key=lambda pair: pair[0])
        return found

    def _kinds(self, stage: int) -> list[Layer]:
        """One layer of each kind on a stage, in order."""
        return list({id(layer): layer for _, layer in self._order(stage)}.values())

    @property
    def alike(self) -> list[int]:
        """For each stage the first that holds the same: of equal layers, neither being the first or last."""
        found: dict[tuple[int, ...], int] = {}
        made, last = [], self.placement.pp - 1
        for stage in range(last + 1):
            ends = (int(stage == 0), int(stage == last))
            key = (*ends, *(id(layer) for _, layer in self._order(stage)))
            made.append(found.setdefault(key, stage))
        return made

    def _start(self, batch: int, tokens: int, before: int, last: int, base: int, sampled: bool) -> Pass:
        run = Pass(
            self.options, self.attention, batch, tokens, before, last, self.hidden, self.element, self.rotary,
            self.traits, base,
        )  # fmt: skip
        if self.unpacked and batch * tokens > 1:
            run.ledger.make(self.unpacked, "a matrix unpacked")
        if sampled:
            run.ledger.make(INPUTS * batch * (before + tokens), "inputs")
        run.shared = self._masks(run)
        return run

    def _masks(self, run: Pass) -> list[Block | None]:
        """Masks and rotations, made before the first layer and alive to the last."""
        made: list[Block | None] = []
        kinds: dict[int | None, Kept | None] = {}
        for layer in self.groups:
            if layer.heads:
                kinds.setdefault(layer.window, layer.caches[0] if layer.caches else None)
        for window, kept in kinds.items():
            seen = run.keys_seen(kept)
            cells = run.rows * seen
            if self.attention == "eager":
                run.masks[window] = run.ledger.make(cells * run.element, "masks")
            elif self.attention == "sdpa" and self._needs_mask(run, window, seen):
                run.masks[window] = run.ledger.make(cells, "masks")
            made.append(run.masks.get(window))
        self._bias(run, run.before + run.tokens)
        if self.rotary:
            angles = 4 if self.traits.wide_angles else run.element
            sets = 2 if self.traits.two_rotations else 1
            made.append(run.ledger.make(2 * sets * run.rows * self.rotary * angles, "masks"))
        if self.options.is_static:
            longest = max((run.keys_seen(kept) for kept in kinds.values()), default=0)
            run.ledger.drop(run.ledger.make(16 * longest, "masks"))  # positions
        return made

    def _needs_mask(self, run: Pass, window: int | None, seen: int) -> bool:
        """Whether causal order alone does not say who sees whom."""
        if self.options.padding or (window is not None and seen >= window):
            return True
        return self.options.is_static if run.tokens == 1 else run.before > 0

    def _head(self, run: Pass, sampled: bool) -> Ledger:
        """The last norm, the logits, and the copy that is sampled from."""
        ledger = run.ledger
        embedded, last = run.make(self.hidden, "hidden states"), run.make(self.hidden, "hidden states")
        normed = run.norm(self.hidden, "hidden states", last)
        ledger.drop(embedded, *run.shared)
        number = run.batch * self.options.logits_of(run.tokens) * self.vocabulary
        logits = ledger.make(number * run.element, "logits")
        if self.options.era.widens_logits:
            logits = ledger.op(4 * number, "logits", logits)
        ledger.drop(normed)
        if sampled:
            copies = BEAM_COPIES if self.beams else 1
            ledger.drop(ledger.make(4 * copies * run.batch * self.vocabulary, "logits"))
        ledger.drop(logits)
        return ledger

    def _with_encoder(self, worst: Held, batch: int, stage: int) -> Held:
        """An encoder runs before the decoder's prefill, and its output stays."""
        tokens = self.streams.get("encoder", 0)
        if not self.encoder or not tokens or stage:
            return worst
        kept = tokens * batch * self.hidden * self.element
        prompts = -(-batch // self.outputs)  # each is read once, then repeated for its outputs
        parts = {**worst.parts, "encoder output": kept}
        worst = Held(worst.bytes + kept, parts)
        for layer in self.encoder:
            run = Pass(
                self.options, self.attention, prompts, tokens, 0, 0, self.hidden, self.element, self.rotary,
                self.traits, 0,
            )  # fmt: skip
            self._bias(run, tokens)
            run.run(layer, False)
            worst = worst.or_worse(run.ledger)
        return worst

    def _bias(self, run: Pass, seen: int) -> None:
        """A bias for every head and pair of tokens, and the distances that it is made of."""
        if not self.traits.position_bias:
            return
        pairs = run.tokens * seen
        run.ledger.drop(run.ledger.make(BUCKETS * pairs, "masks"))
        heads = max((layer.heads for layer in (*self.encoder, *self.groups)), default=0)
        run.ledger.make(heads * pairs * self.element, "masks")


def largest_experts(inventory: Inventory, placement: Placement) -> int:
    """Elements of the largest tensor of all experts of a layer, on one rank. [elements]"""
    sizes = [
        rank_numel(tensor, placement.tp)
        for group in inventory.groups
        for tensor in group.tensors
        if tensor.role.startswith("expert_") and not tensor.stored
    ]
    return max(sizes, default=0)


def largest_packed(inventory: Inventory, placement: Placement) -> int:
    """Elements of the largest matrix that is stored packed, on one rank; one of many experts. [elements]"""
    most = 0
    for group in inventory.groups:
        for tensor in group.tensors:
            if tensor.stored:
                lead = size(tensor.dims[0]) if len(tensor.dims) > 2 else 1
                most = max(most, rank_numel(tensor, placement.tp) // lead)
    return most
