"""One pass of a model through MLX: the kernels of each layer, and what they leave in memory.

The order of kernels and their outputs follow mlx-lm's models; the rules by which an output reuses an
input's buffer follow MLX's Metal backend (`rope.cpp`, `normalization.cpp`, `binary.h`,
`scaled_dot_product_attention.cpp`).
"""

from __future__ import annotations

from llmcalc.memory.engines.mlx.caches import EXPANDS, STEP, Kept
from llmcalc.memory.engines.mlx.metal import Buffer, Encoder
from llmcalc.model.inventory import Group, size

FUSED = (64, 72, 80, 96, 128)
"""Head widths whose attention over a chunk runs in one kernel; for 192 and 256 MLX picks the plain path."""

SHORT = (64, 96, 128, 192, 256)
"""The same for up to 8 tokens."""

FFN = ("gate", "up", "gate_up", "down")
OUTPUTS = ("output", "delta_out", "ssm_out")


class Layer:
    """Equal layers, read once for many passes.

    Attributes
    ----------
    linears : dict
        Elements of the output for each token, and stored words of the weight, by role. [-]
    caches : list of Kept
        What one layer remembers.
    """

    __slots__ = ("biased", "caches", "heads", "indices", "latent", "linears", "ops", "value", "width")

    def __init__(self, group: Group, caches: list[Kept], family: str) -> None:
        self.indices, self.caches = group.layers, caches
        self.ops = {op.role: op for op in group.ops}
        words: dict[str, int] = {}
        self.biased: set[str] = set()
        for tensor in group.tensors:
            if tensor.tag == "main" and tensor.part == "bias":
                self.biased.add(tensor.role)
            elif tensor.tag == "main":
                own = sum(part.numel for part in tensor.stored or (tensor,))
                words[tensor.role] = words.get(tensor.role, 0) + own
        self.linears = {
            op.role: (size(op.out), words.get(op.role, 0)) for op in group.ops if op.kind == "linear"
        }
        attention = next((op for op in group.ops if op.kind == "attention"), None)
        self.heads = self.width = self.value = 0
        if attention is not None:
            self.heads, self.width = _heads(attention.out)
            self.value = _heads(attention.inp)[1]
        absorbed = "kv_b" in self.ops and family not in EXPANDS
        self.latent = absorbed
        if absorbed:  # queries without the rotary part, against keys made anew from the latents
            self.width -= size(self.ops["kv_a"].out[1:])


def _heads(dimension: tuple[tuple[tuple[str, int], ...], ...]) -> tuple[int, int]:
    """Heads and the width of one."""
    axes = dict(dimension[0])
    heads = axes.get("heads", 1)
    return heads, size(dimension) // heads


class Pass:
    """A chunk of a prompt, or one token, of some sequences through all layers.

    Parameters
    ----------
    encoder : Encoder
        Follows the memory.
    batch, tokens, before : int
        Sequences, tokens of each in this pass, and tokens that their caches hold already. [-]
    hidden : int
        Width of the model. [elements]

    Attributes
    ----------
    late : list of Buffer
        What is held until the pass is done.
    """

    __slots__ = ("batch", "before", "caches", "encoder", "hidden", "late", "rows", "tokens")

    def __init__(self, encoder: Encoder, batch: int, tokens: int, before: int, hidden: int) -> None:
        self.encoder, self.batch, self.tokens, self.before = encoder, batch, tokens, before
        self.rows, self.hidden = batch * tokens, hidden
        self.caches: dict[tuple[int, int], Buffer] = {}
        self.late: list[Buffer] = []

    def hold(self, layer: int, place: int, kept: Kept, positions: int) -> None:
        """Have a cache from passes before."""
        size_ = kept.row * positions * self.batch
        made = Buffer(size_ // (4 if kept.quantized else 2), size_)
        self.encoder.active += size_
        self.encoder.peak = max(self.encoder.peak, self.encoder.active)
        self.caches[layer, place] = made

    def linear(self, layer: Layer, role: str, source: Buffer) -> Buffer:
        """One matrix product."""
        width, words = layer.linears[role]
        return self.encoder.kernel([source], width * self.rows, weights=words)

    def run(self, layer: Layer, index: int, x: Buffer) -> Buffer:
        """One layer: mixers, then the feed-forward part, each added to the residual."""
        encoder, width = self.encoder, self.hidden * self.rows
        if layer.heads or "scan" in layer.ops:
            normed = encoder.kernel([x], width)
            out = self._mix(layer, index, normed)
            x = self._add(x, out, width)
        if any(role in layer.linears for role in ("down", "expert_down")):
            normed = encoder.kernel([x], width)
            out = self._feed_forward(layer, normed)
            encoder.drop(normed)
            x = self._add(x, out, width)
        return x

    def _add(self, x: Buffer, out: Buffer, width: int) -> Buffer:
        made = self.encoder.kernel([x, out], width, donate=out)
        self.encoder.drop(x)
        return made

    def _mix(self, layer: Layer, index: int, normed: Buffer) -> Buffer:
        """Attention, a recurrence, or both side by side."""
        outs = []
        if "scan" in layer.ops:
            outs.append(self._scan(layer, index, normed))
        if layer.heads:
            outs.append(self._attention(layer, index, normed))
        self.encoder.drop(normed)
        if len(outs) == 2:
            return self._add(outs[0], outs[1], self.hidden * self.rows)
        return outs[0]

    # -- attention -----------------------------------------------------------------------------

    def _attention(self, layer: Layer, index: int, normed: Buffer) -> Buffer:
        encoder, rows = self.encoder, self.rows
        made: list[Buffer] = []
        for role in layer.linears:
            if role in OUTPUTS or role in FFN or "expert" in role or "shared" in role or role == "router":
                continue
            if role.startswith(("delta_", "ssm_")) or role == "kv_b":
                continue
            source = made.pop() if role == "query_b" else normed
            made.append(self.linear(layer, role, source))
            if source is not normed:
                encoder.drop(source)
        query = encoder.kernel(made[:1], layer.heads * layer.width * rows)  # rotated, heads first
        encoder.drop(made[0])
        fresh = sum(kept.row for kept in layer.caches if kept.kind != "state") // 2
        keys = encoder.kernel(made[1:] or made[:1], max(fresh, 1) * rows // 2) if fresh else query
        read = [self._remember(kept, index, place, keys)
                for place, kept in enumerate(layer.caches) if kept.kind != "state"]  # fmt: skip
        encoder.drop(*made[1:])
        if keys is not query:
            encoder.drop(keys)
        out = self._attend(layer, query, read)
        result = self.linear(layer, "output", out) if "output" in layer.linears else out
        if result is not out:
            encoder.drop(out)
        return result

    def _remember(self, kept: Kept, index: int, place: int, fresh: Buffer) -> Buffer:
        """Write new keys and values behind the old ones; a cache that is full is copied to a larger."""
        encoder, old = self.encoder, self.caches.get((index, place))
        decode = self.tokens == 1
        now = kept.positions(self.before + 1) if decode else kept.filled(self.before, self.tokens)
        total = kept.row * now * self.batch
        elements = total // (4 if kept.quantized else 2)
        if old is not None and old.size >= total and (decode or kept.kind != "rotate"):
            made = encoder.kernel([fresh, old], elements, donate=old, count=2)
        else:
            width = 4 if kept.quantized else 2
            if old is not None and kept.kind != "rotate":
                grown = encoder.kernel([], max(elements - old.elements, 0), width=width, count=2)
                made = encoder.kernel([old, grown], elements, width=width, count=4)
                encoder.drop(grown)
            else:
                made = encoder.kernel([fresh, *([old] if old else [])], elements, width=width, count=2)
            if old is not None:
                encoder.drop(old)
            made = encoder.kernel([fresh, made], elements, donate=made, count=2)
        self.caches[index, place] = made
        return made

    def _attend(self, layer: Layer, query: Buffer, read: list[Buffer]) -> Buffer:
        """Attention itself: one kernel, or scores of every head."""
        encoder, rows = self.encoder, self.rows
        kept = next((kept for kept in layer.caches if kept.kind != "state"), None)
        seen = self.before + self.tokens
        if kept is not None and kept.most:
            seen = min(seen, kept.most - 1 + self.tokens)
        scores = layer.heads * rows * seen
        extra: list[Buffer] = []
        if layer.latent:  # scores of the rotary part, as a mask; keys and values per head
            turned = encoder.kernel([query, *read], scores)
            extra.append(encoder.kernel([turned], scores, donate=turned))
            if self.tokens > 1:
                each = layer.heads * seen * self.batch
                extra.append(encoder.kernel(read, each * layer.width))
                extra.append(encoder.kernel(read, each * layer.value))
        fused = FUSED if self.tokens > 8 else SHORT
        plain = layer.width == layer.value and layer.width in fused
        out_width = layer.heads * layer.value * rows
        if plain and not (kept is not None and kept.quantized):
            out = encoder.kernel([query, *read, *extra], out_width)
        else:
            weighed = encoder.kernel([query, *read, *extra[1:2]], scores)
            weighed = encoder.kernel([weighed, *extra[:1]], scores, donate=weighed)  # mask
            weighed = encoder.kernel([weighed], scores, donate=weighed)  # softmax
            out = encoder.kernel([weighed, *read, *extra[2:]], out_width)
            encoder.drop(weighed)
        encoder.drop(query, *extra)
        return out

    # -- recurrences ---------------------------------------------------------------------------

    def _scan(self, layer: Layer, index: int, normed: Buffer) -> Buffer:
        """Projections, a short convolution, and the recurrence over the chunk in one kernel."""
        encoder, rows = self.encoder, self.rows
        made = [self.linear(layer, role, normed) for role in layer.linears
                if role.startswith(("delta_", "ssm_")) and role not in OUTPUTS]  # fmt: skip
        inner = size(layer.ops["scan"].inp) * rows
        mixed = made[0]
        if "conv" in layer.ops:
            channels = size(layer.ops["conv"].out) * rows
            for step in range(3):  # with the columns of before, the convolution, its parts apart
                following = encoder.kernel([mixed], channels)
                if step == 1:  # its last columns are taken when the whole pass is done: it waits till then
                    self.late.append(mixed)
                elif mixed is not made[0]:
                    encoder.drop(mixed)
                mixed = following
        read = [mixed]
        for place, kept in enumerate(layer.caches):
            if kept.kind == "state":
                old = self.caches.get((index, place))
                state = encoder.kernel([mixed], kept.row * self.batch // 4, width=4)
                if old is not None:
                    read.append(old)
                    encoder.drop(old)
                self.caches[index, place] = state
        out = encoder.kernel(read, inner)
        encoder.drop(*made, *([mixed] if mixed is not made[0] else []))
        role = next((role for role in OUTPUTS[1:] if role in layer.linears), "")
        if not role:
            return out
        result = self.linear(layer, role, out)
        encoder.drop(out)
        return result

    # -- feed-forward --------------------------------------------------------------------------

    def _feed_forward(self, layer: Layer, normed: Buffer) -> Buffer:
        outs = []
        if "expert_down" in layer.linears:
            outs.append(self._experts(layer, normed))
        for prefix in ("shared_", ""):
            if f"{prefix}down" in layer.linears:
                outs.append(self._dense(layer, prefix, normed))
        out = outs[0]
        for other in outs[1:]:
            out = self._add(out, other, self.hidden * self.rows)
        return out

    def _dense(self, layer: Layer, prefix: str, normed: Buffer) -> Buffer:
        """Gate and up, their product in the gate's place, and down."""
        roles = [prefix + role for role in ("gate", "up", "gate_up") if prefix + role in layer.linears]
        made = [self.linear(layer, role, normed) for role in roles]
        inner = size(layer.ops[f"{prefix}down"].inp) * self.rows
        wide = self.encoder.kernel(made, inner, donate=made[0])
        self.encoder.drop(*made[1:])
        out = self.linear(layer, f"{prefix}down", wide)
        self.encoder.drop(wide)
        return out

    def _experts(self, layer: Layer, normed: Buffer) -> Buffer:
        """Tokens sorted by expert, their products, and the sum over each token's experts."""
        encoder, rows, active = self.encoder, self.rows, layer.ops["expert_down"].active
        chosen: list[Buffer] = []
        if "router" in layer.linears:
            scores = self.linear(layer, "router", normed)
            experts = layer.linears["router"][0] * rows
            order = encoder.kernel([scores], experts, width=4, count=3)
            chosen = [encoder.kernel([order], active * rows, width=4, count=6)]
            encoder.drop(scores, order)
        copies = encoder.kernel([normed, *chosen], self.hidden * active * rows)

        def expert(role: str, source: Buffer) -> Buffer:
            width, words = layer.linears[role]
            made = encoder.kernel([source, *chosen], width * active * rows, weights=words)
            if role in layer.biased:
                bias = encoder.kernel(chosen, width * active * rows)
                made = encoder.kernel([made, bias], width * active * rows, donate=made)
                encoder.drop(bias)
            return made

        roles = [f"expert_{role}" for role in ("up", "gate", "gate_up") if f"expert_{role}" in layer.linears]
        made = [expert(role, copies) for role in roles]
        encoder.drop(copies)
        inner = size(layer.ops["expert_down"].inp) * active * rows
        wide = encoder.kernel(made, inner, donate=made[0])
        encoder.drop(*made[1:])
        down = expert("expert_down", wide)
        encoder.drop(wide)
        back = encoder.kernel([down, *chosen], self.hidden * active * rows)
        encoder.drop(down)
        back = encoder.kernel([back], self.hidden * active * rows, donate=back)
        out = encoder.kernel([back], self.hidden * rows)
        encoder.drop(back, *chosen)
        return out


def grown_at(tokens: int) -> int:
    """Tokens held when a growing cache last had to grow, with `tokens` at the end. [tokens]

    Examples
    --------
    >>> grown_at(2176), grown_at(2048)
    (2048, 1792)
    """
    return max((tokens - 1) // STEP * STEP, 0)
