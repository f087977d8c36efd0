"""Attention in transformers: projections, rotation, the cache, and eager, sdpa or flash kernels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmcalc.memory.engines.transformers.layer import Kept, Layer
from llmcalc.memory.engines.transformers.ledger import Block

if TYPE_CHECKING:
    from llmcalc.memory.engines.transformers.passes import Pass

LABEL, SCORES, COPIES, CACHES = "attention", "scores", "copies of caches", "caches"
WIDEST = 256
"""Head width up to which a fused kernel shares key heads among query heads."""
PACKING = {"quanto": 3, "hqq": 80, "fp8": 16}
"""Half bytes of scratch for each element that is packed, as measured: HQQ searches for its scales in fp32."""
COLUMNS = 16
"""A mask's rows are padded to a multiple of this for the fused kernels (PyTorch, `attention.cpp`)."""


def rotate(run: Pass, heads: int, width: int, source: Block | None, label: str = LABEL) -> Block:
    """Queries or keys turned by their positions; of a part of each head, the rest is put beside it."""
    share = min(run.rotary, width) * heads
    wide = 4 // run.element if run.traits.wide_rotation else 1
    left = run.make(wide * share, label)  # q * cos
    halves = run.make(share // 2, label)  # -x2
    turned = run.make(wide * share, label, halves)
    right = run.make(wide * share, label, turned)  # rotate_half(q) * sin
    out = run.make(wide * share, label, left, right)
    if wide > 1:
        out = run.make(share, label, out)
    if share < heads * width:
        out = run.make(heads * width, label, out)
    run.ledger.drop(source)
    return out


def attend(run: Pass, layer: Layer) -> Block:
    """One layer's attention, from the normed input to the output projection."""
    query, key, value = _latent(run, layer) if layer.latent else _projected(run, layer)
    ledger = run.ledger
    kept = layer.caches[0] if layer.caches else None
    expanded: list[Block] = []
    if kept is None:  # keys of another layer, or of the same pass alone
        expanded = [block for block in (key, value) if block is not None]
    else:
        stored = _update(run, kept, [key, value])
        if layer.latent and kept.kind == "latent":
            expanded = _expand(run, layer, run.keys_seen(kept), stored)
        else:
            expanded = stored
    seen = run.keys_seen(kept)
    core = {"eager": _eager, "sdpa": _sdpa, "flash": _flash}[run.attention]
    out = core(run, layer, seen)
    if layer.gated:
        out = run.make(layer.heads * layer.value, LABEL, out)
    made = run.make(run.hidden, "hidden states")
    ledger.drop(out, query, *expanded)
    return made


def _projected(run: Pass, layer: Layer) -> tuple[Block, Block | None, Block | None]:
    """Queries, keys and values, normed and rotated; what lives to the end goes with the queries."""
    q, k = layer.heads * layer.width, layer.kv_heads * layer.width
    v = layer.kv_heads * layer.value
    lasting = Block(0, LABEL)
    key: Block | None = None
    value: Block | None = None
    if "qkv" in layer.out:  # named to the end; queries, keys and values are views of it
        query, lasting = Block(0, LABEL), run.make(q + k + v, LABEL)
        key = value = Block(0, LABEL)
    else:
        query = run.make(layer.out.get("query", q), LABEL)
        if layer.gated:
            query, lasting = Block(0, LABEL), query
    if "query_norm" in layer.norms:
        query = run.norm(q, LABEL, query, _vectors(layer, "query_norm", layer.heads))
    if key is None and "key" in layer.out:
        key = run.make(k, LABEL)
        if "key_norm" in layer.norms:
            key = run.norm(k, LABEL, key, _vectors(layer, "key_norm", layer.kv_heads))
        value = run.make(layer.out.get("value", 0), LABEL)
    if run.rotary:
        turned = rotate(run, layer.heads, layer.width, None)
        turned_key = rotate(run, layer.kv_heads, layer.width, None) if key is not None else None
        run.ledger.drop(query, key)
        query, key = turned, turned_key
    return _merge(query, lasting), key, value


def _vectors(layer: Layer, role: str, heads: int) -> int:
    """How many vectors of a token a norm goes over: one for each head, or all heads at once."""
    return heads if dict(layer.ops[role].out[0]).get("heads", 1) == 1 and heads > 1 else 1


def _merge(one: Block, other: Block) -> Block:
    """Two tensors that end together."""
    made = Block(one.bytes + other.bytes, one.label)
    one.bytes = other.bytes = 0
    return made


def _latent(run: Pass, layer: Layer) -> tuple[Block, Block, Block]:
    """Multi-head latent attention: queries, the latent and the rotary key, or both expanded."""
    q = layer.heads * layer.width
    turning = run.rotary
    if "query_a" in layer.out:
        low = run.make(layer.out["query_a"], LABEL)
        low = run.norm(layer.out["query_a"], LABEL, low)
        raw = run.make(q, LABEL, low)
    else:
        raw = run.make(q, LABEL)
    rank = layer.out["kv_a"] - turning
    whole = run.make(rank + turning, LABEL)
    latent = run.norm(rank, LABEL)
    turned = rotate(run, layer.heads, turning, None)
    key = rotate(run, 1, turning, None)
    if layer.caches and layer.caches[0].kind == "latent":
        return _merge3(raw, turned, whole), latent, key
    made = run.make(layer.heads * (layer.width - turning + layer.value), LABEL, latent)
    query = run.make(q, LABEL)
    wide = run.make(q, LABEL, key)
    return _merge3(query, _merge3(raw, turned, whole), Block(0, LABEL)), wide, made


def _merge3(one: Block, two: Block, three: Block) -> Block:
    return _merge(_merge(one, two), three)


def _expand(run: Pass, layer: Layer, seen: int, stored: list[Block]) -> list[Block]:
    """Keys and values of every head, made of the latents of all positions."""
    size = run.batch * seen * run.element
    query = run.make(layer.heads * layer.width, LABEL)  # both parts of the query side by side
    both = run.ledger.make(layer.heads * (layer.width - run.rotary + layer.value) * size, LABEL)
    keys = run.ledger.make(layer.heads * layer.width * size, LABEL)
    return [*stored, query, both, keys]


def _update(run: Pass, kept: Kept, fresh: list[Block | None]) -> list[Block]:
    """Write what is new to the cache; returns what lives beyond it until attention is done."""
    lasting = _write(run, kept)
    windowed = kept.window is not None and kept.kind in ("window", "chunk")
    if windowed and run.options.is_static and run.before + run.tokens > (kept.window or 0) and run.tokens > 1:
        return [block for block in fresh if block is not None]  # attention reads them, not the cache
    run.ledger.drop(*fresh)
    return lasting


def _write(run: Pass, kept: Kept) -> list[Block]:
    """The cache's own tensors, and copies that outlive the update."""
    ledger, size = run.ledger, run.batch * run.element
    first, rest = kept.first * size, (kept.row - kept.first) * size
    options = run.options
    seen = run.keys_seen(kept)
    old = options.stored(kept, run.before, run.last) if run.before else 0
    if options.is_static:
        if not run.before:
            ledger.make((first + rest) * options.stored(kept, run.tokens, run.tokens), CACHES)
        elif kept.window is not None and run.before >= kept.window:  # rolled by one, then copied back
            ledger.drop(ledger.make((first + rest) * min(kept.window, seen), COPIES))
        return []
    if options.cache == "quantized" and kept.kind in ("full", "latent"):
        return _requantize(run, kept, seen)
    if kept.kind in ("window", "chunk") and options.era.slides:
        ledger.make((first + rest) * seen, CACHES)  # both are joined before the old ones are let go
        ledger.drop(Block((first + rest) * old, CACHES))
        return []
    for part in (first, rest):
        ledger.make(part * seen, CACHES)
        if not options.era.doubles_caches:
            ledger.drop(Block(part * old, CACHES))
    return []


def _requantize(run: Pass, kept: Kept, seen: int) -> list[Block]:
    """A quantized cache is read whole in 16 bit, and packed anew once the newest tokens are many."""
    ledger, backend, cells = run.ledger, run.options.backend, run.batch * seen
    both, packing = kept.row * run.batch * run.element, PACKING[backend] * kept.first * cells // 2
    if not run.before:
        ledger.drop(ledger.make(packing, COPIES))
        ledger.make(run.options.packed(kept.row * cells), CACHES)
        return []
    if backend == "fp8":  # read part by part, in fp32 and scaled before it is 16-bit
        keys = ledger.make(kept.first * cells * run.element, COPIES)
        rest = (kept.row - kept.first) * cells
        return [keys, ledger.op(rest * run.element, COPIES, ledger.make(packing, COPIES))]
    read = ledger.make(both * run.before, COPIES)
    whole = ledger.make(both * seen, COPIES)
    ledger.drop(ledger.make(packing, COPIES))
    ledger.drop(read)
    return [whole]


def _repeated(run: Pass, layer: Layer, seen: int) -> list[Block]:
    """Keys and values copied for every query head."""
    if not layer.repeats:
        return []
    size = layer.heads * run.batch * seen * run.element
    return [run.ledger.make(layer.width * size, LABEL), run.ledger.make(layer.value * size, LABEL)]


def _eager(run: Pass, layer: Layer, seen: int) -> Block:
    """All scores of all heads; the softmax in fp32, but with sinks in the model's dtype."""
    ledger, element = run.ledger, run.element
    repeated = _repeated(run, layer, seen)
    if layer.latent and run.batch > 1:  # a part of a wider tensor, which a batched product copies
        repeated.append(ledger.make(layer.heads * layer.value * run.batch * seen * element, LABEL))
    number = layer.heads * run.rows * seen
    scores = ledger.make(element * number, SCORES)
    scores = ledger.op(element * number, SCORES, scores)  # scaled
    scores = ledger.op(element * number, SCORES, scores)  # masked
    if layer.sinks:
        more = number + layer.heads * run.rows
        beside = ledger.make(element * more, SCORES)
        lowered = ledger.op(element * more, SCORES, beside)
        weights = ledger.op(element * more, SCORES, lowered)
    else:
        narrow = run.traits.narrow_softmax or element == 4
        wide = ledger.make(0 if narrow else 4 * number, SCORES)
        chances = ledger.op(number * (element if narrow else 4), SCORES, wide)
        weights = chances if narrow else ledger.op(element * number, SCORES, chances)
        ledger.drop(scores)
        scores = Block(0, SCORES)
    out = run.make(layer.heads * layer.value, LABEL)
    out = run.make(layer.heads * layer.value, LABEL, out)  # heads side by side
    ledger.drop(scores, *repeated)
    run.weights = weights  # the layer keeps a name for them
    return out


def _sdpa(run: Pass, layer: Layer, seen: int) -> Block:
    """A fused kernel; a mask is copied to the model's dtype, and shared key heads are copied with it."""
    ledger, era = run.ledger, run.options.era
    masked = run.masks.get(layer.window) is not None or run.traits.position_bias
    shares = era.shares_heads and not masked and layer.width == layer.value and layer.width <= WIDEST
    packs = era.packs_heads and run.tokens == 1
    repeated = [] if shares or packs else _repeated(run, layer, seen)
    copies = []
    if masked:
        columns = run.rows * run.element * (layer.heads if run.traits.position_bias else 1)
        copies.append(ledger.make(columns * seen, SCORES))
        if seen % COLUMNS:
            copies.append(ledger.make(columns * -(-seen // COLUMNS) * COLUMNS, SCORES))
    out = run.make(layer.heads * layer.value, LABEL)
    ledger.drop(ledger.make(4 * layer.heads * run.rows, LABEL), *copies, *repeated)
    return out


def _flash(run: Pass, layer: Layer, seen: int) -> Block:
    """flash-attn: no mask, no scores; padded sequences are packed first, which copies what they hold."""
    ledger, copies = run.ledger, []
    if run.options.padding:
        copies.append(run.make(layer.heads * layer.width, LABEL))
        size = layer.kv_heads * run.batch * seen * run.element
        copies.append(ledger.make((layer.width + layer.value) * size, LABEL))
    out = run.make(layer.heads * layer.value, LABEL)
    if run.options.padding:
        out = run.make(layer.heads * layer.value, LABEL, out)
    ledger.drop(ledger.make(4 * layer.heads * run.rows, LABEL), *copies)
    return out
