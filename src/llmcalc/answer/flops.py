"""Operations of a model: one question, from keywords to figures."""

from __future__ import annotations

from typing import Any

from llmcalc.answer.numbers import real, share, word
from llmcalc.catalog import Catalog
from llmcalc.compute import conventions as leaf
from llmcalc.compute.counting import CONVENTIONS, Shape
from llmcalc.compute.ops import MASKS, PHASES, Work, adapter_lines, count, has_towers, recomputed, total
from llmcalc.compute.peaks import PRECISIONS, Accelerator, accelerators
from llmcalc.errors import ConfigError, InputError, Problems
from llmcalc.formula import is_array
from llmcalc.model import readers
from llmcalc.model.inventory import Inventory
from llmcalc.precision import stored_as_declared
from llmcalc.report.call import Call
from llmcalc.report.figures import Figures
from llmcalc.units import MAX_TOKENS, format_count, parse_count, parse_integer, parse_length

DEFAULT_CONTEXT = 8192
RECOMPUTE = ("none", "selective", "full")
METHODS = ("full", "lora", "qlora")
HEADS = ("all", "last", "none")
RATES = ("throughput", "tflops", "mfu", "hfu")
"""Ways to state a speed; one of them."""


class Asked:
    """Resolved inputs of a question about operations.

    Attributes
    ----------
    phase, mask, head, recompute, method, by, precision : str
        As in the options.
    context, tokens, sequences : int
        Tokens of a sequence; of the whole run, or None; sequences of a step. [tokens], [-]
    gpus : list of Accelerator
        As named.
    rate : tuple of (str, float) or None
        A speed: how it was stated, and its value.
    convention : str
        What a stated MFU, HFU or TFLOP/s counts by.
    """

    def __init__(self) -> None:
        self.phase, self.mask, self.head = "train", "causal", "all"
        self.recompute, self.method, self.by, self.precision = "none", "full", "part", "bf16"
        self.context: Any = DEFAULT_CONTEXT
        self.tokens: int | None = None
        self.sequences = 1
        self.encoder: Any = 0
        self.image: Any = 0
        self.mtp = False
        self.rank, self.targets = 16, "all-linear"
        self.adapters: dict[tuple[str, str, str], int] | None = None
        self.gpus: list[Accelerator] = []
        self.rate: tuple[str, float] | None = None
        self.convention = "exact"
        self.notes: list[str] = []
        self.element = 2.0

    def work(self, phase: str = "", sequence: Any = None) -> Work:
        """What is run once, in a phase of its own if named."""
        phase = phase or self.phase
        head = self.head if phase == self.phase else "all" if phase == "train" else "last"
        return Work(
            phase, self.context if sequence is None else sequence, self.mask, head, self.encoder, self.image,
            self.mtp, self.adapters,
        )  # fmt: skip

    @property
    def per_pass(self) -> Any:
        """Tokens that one pass over a sequence makes or reads. [tokens]"""
        return 1 if self.phase == "decode" else self.context


def resolve(inventory: Inventory, book: Catalog, given: dict[str, Any]) -> Asked:
    """Check keywords against the model, telling all mistakes together."""
    asked, problems = Asked(), Problems()
    for name, allowed in (
        ("phase", PHASES), ("mask", MASKS), ("recompute", RECOMPUTE), ("method", METHODS),
        ("by", ("part", "role")), ("precision", PRECISIONS), ("convention", tuple(CONVENTIONS)),
    ):  # fmt: skip
        with problems:
            if given[name] is not None:
                setattr(asked, name, word(given[name], allowed, f"--{name}"))
    asked.head = "all" if asked.phase == "train" else "last"
    with problems:
        if given["head"] is not None:
            asked.head = word(given["head"], HEADS, "--head")
    with problems:
        asked.context = _context(inventory, given)
    with problems:
        if given["tokens"] is not None:
            asked.tokens = parse_count(given["tokens"], "--tokens")
    with problems:
        if given["sequences"] is not None:
            asked.sequences = parse_integer(given["sequences"], "--sequences")
    with problems:
        if given["lora_r"] is not None:
            asked.rank = parse_integer(given["lora_r"], "--lora-r")
    with problems:
        _streams(asked, inventory, given)
    asked.mtp = bool(given["mtp"])
    with problems:
        _together(asked, inventory, given)
    with problems:
        if given["gpu"] is not None:
            asked.gpus = accelerators(given["gpu"], book, asked.precision)
    with problems:
        _rate(asked, given)
    problems.check()
    return asked


def _context(inventory: Inventory, given: dict[str, Any]) -> Any:
    value = given["context"]
    if value is None:
        return min(inventory.context or DEFAULT_CONTEXT, DEFAULT_CONTEXT)
    if is_array(value):
        from llmcalc.demand.context import array_of

        return array_of(value, "--context", MAX_TOKENS).astype(float)  # operations outgrow 64 bits
    tokens = parse_length(value)
    if inventory.context and tokens > inventory.context and not given["allow_overlong"]:
        raise InputError(
            f"--context {tokens:,} is above the limit of {inventory.name}: {inventory.context:,}.",
            "Use at most that, or add --allow-overlong.",
        )
    return tokens


def _streams(asked: Asked, inventory: Inventory, given: dict[str, Any]) -> None:
    """Tokens of the encoder and of images."""
    encodes = any(group.component == "encoder" for group in inventory.groups)
    crossing = any(cache.kind == "cross" for group in inventory.groups for cache in group.caches)
    for name, there in (("encoder_tokens", encodes), ("image_tokens", crossing and not encodes)):
        option = f"--{name.replace('_', '-')}"
        if given[name] is not None and not there:
            raise InputError(f"{inventory.name} has no layers that read {option}.", f"Leave {option} out.")
    if encodes:
        known = inventory.streams.get("encoder")
        stated = given["encoder_tokens"]
        asked.encoder = known or asked.context if stated is None else parse_length(stated, "--encoder-tokens")
        if stated is None and not known:
            asked.notes.append(
                "The encoder is taken to read as many tokens as the decoder: --encoder-tokens."
            )
    if given["image_tokens"] is not None:
        asked.image = parse_length(given["image_tokens"], "--image-tokens")
    latent = any(cache.kind == "latent" for group in inventory.groups for cache in group.caches)
    if latent and asked.phase == "decode":
        asked.notes.append("Latent attention decodes on the latent itself (absorbed), as engines do.")
    if has_towers(inventory):
        asked.notes.append("Text alone: towers for images or sound are not counted.")


def _together(asked: Asked, inventory: Inventory, given: dict[str, Any]) -> None:
    """What goes only with training, and what an adapter stands on."""
    if asked.phase != "train":
        for name in ("recompute", "method", "lora_r", "lora_targets"):
            if given[name] not in (None, "none", "full"):
                option = f"--{name.replace('_', '-')}"
                raise InputError(f"{option} is for training.", "Leave it out, or use --phase train.")
    lora = [name for name in ("lora_r", "lora_targets") if given[name] is not None]
    if asked.method == "full":
        if lora:
            option = f"--{lora[0].replace('_', '-')}"
            raise InputError(f"{option} is for adapters.", "Add --method lora.")
        return
    if inventory.is_opaque:
        raise InputError("--method lora needs the model's matrices.", "Name a model or its config.json.")
    from llmcalc.memory.training.targets import find_targets

    asked.targets = given["lora_targets"] or asked.targets
    asked.adapters = dict.fromkeys(find_targets(inventory, asked.targets), asked.rank)


def _rate(asked: Asked, given: dict[str, Any]) -> None:
    """The one speed that is stated, and what it needs."""
    stated = [name for name in RATES if given[name] is not None]
    if not stated:
        if given["convention"] is not None:
            raise InputError(
                "--convention tells how a stated speed was counted.", "Add --mfu, --hfu or --tflops."
            )
        return
    if len(stated) > 1:
        told = " and ".join(f"--{name}" for name in stated)
        raise InputError(f"{told} state one speed twice.", "Give one of them.")
    name = stated[0]
    if asked.phase != "train":
        raise InputError(f"--{name} compares conventions of training.", "Leave --phase out.")
    if not asked.gpus:
        raise InputError(
            f"--{name} needs the GPU whose peak it is held against.", "Add --gpu, such as 8xh100."
        )
    if len(asked.gpus) > 1:
        raise InputError(f"--{name} was measured on one kind of GPU.", "Name one with --gpu.")
    gpu = asked.gpus[0]
    if gpu.peak is None:
        raise InputError(
            f"The catalog has no {asked.precision} peak of {gpu.name}.",
            "Use another --precision, or put the peak in a catalog of your own: tflops_dense.",
        )
    if name in ("mfu", "hfu"):
        asked.rate = name, share(given[name], f"--{name}", name.upper())
        return
    value = real(given[name], f"--{name}", "2500" if name == "throughput" else "400")
    if name == "tflops" and value * 1e12 > gpu.peak:
        raise InputError(
            f"--tflops {value:g} is above the peak of {gpu.name}: {gpu.peak / 1e12:g} in {asked.precision}.",
            "It is per GPU. Use --precision fp8 if that is what ran.",
        )
    asked.rate = name, value


# -- the answer -----------------------------------------------------------------------------------


def flops_answer(inventory: Inventory, asked: Asked, book: Catalog, bits: Any, kv_bytes: Any) -> Figures:
    """Operations op by op, beside the rules of thumb and the conventions; bytes moved and intensity."""
    answer = Figures("flops")
    answer.model = {
        "name": inventory.name, "params": inventory.params, "active_params": inventory.active_params,
        "source": inventory.source,
    }  # fmt: skip
    total_, active = format_count(inventory.params), format_count(inventory.active_params)
    size = f"{total_} ({active} active) params" if inventory.routed_params else f"{total_} params"
    answer.header = [inventory.title, size, asked.phase, _told(asked)]
    if asked.method != "full":
        answer.header.append(f"{asked.method} r={asked.rank}")
    answer.scenario = {
        "phase": asked.phase, "context": asked.context, "tokens": asked.tokens, "sequences": asked.sequences,
        "mask": asked.mask, "head": asked.head, "recompute": asked.recompute, "method": asked.method,
        "lora_r": asked.rank if asked.method != "full" else None, "mtp": asked.mtp,
        "encoder_tokens": asked.encoder or None, "image_tokens": asked.image or None,
        "precision": asked.precision, "gpu": [gpu.shown for gpu in asked.gpus] or None,
        "convention": asked.convention if asked.rate else None,
    }  # fmt: skip
    if inventory.is_opaque:
        _thumb(answer, inventory.params, inventory.params, asked, None)
        answer.hints.append("Name a model, and attention, head and every convention are counted too.")
        return answer
    work = asked.work()
    lines = [*count(inventory, work), *adapter_lines(inventory, work)]
    forward, backward = total(lines)
    again = recomputed(lines, asked.recompute)
    _totals(answer, asked, forward, backward, again)
    shape = Shape(inventory)
    _thumb(answer, shape.active, shape.active - shape.embedding, asked, (forward + backward) / asked.per_pass)
    if not is_array(asked.context):
        from llmcalc.answer.flops_tables import conventions_grid, operations_grid, phases_grid

        answer.grids.append(operations_grid(lines, asked))
        if asked.phase == "train" and asked.method == "full":
            answer.grids.append(conventions_grid(inventory, shape, asked))
        answer.grids.append(phases_grid(answer, inventory, asked, bits, kv_bytes))
    answer.warnings += asked.notes
    return answer


def _told(asked: Asked) -> str:
    tokens = f"{int(asked.context.min()):,} to {int(asked.context.max()):,}" if is_array(asked.context) else (
        f"{asked.context:,}"
    )  # fmt: skip
    return f"after {tokens} tokens" if asked.phase == "decode" else f"sequences of {tokens} tokens"


MASK_NOTES = {
    "causal": "masks and windows as they are",
    "half": "half of all pairs of positions",
    "full": "all pairs of positions",
}


def _totals(answer: Figures, asked: Asked, forward: Any, backward: Any, again: Any) -> None:
    """Of one token, one sequence, and all tokens. [FLOP]"""
    tokens = asked.per_pass
    rule = {"formula": "sum over ops", "source": "linear_flops, attention_flops, scan_flops"}
    grade = "exact" if asked.method == "full" else "derived"
    note = f"matrix products and attention: {MASK_NOTES[asked.mask]}"
    answer.add("forward_per_token", forward / tokens, "FLOP/token", label="forward", section="one token",
               grade=grade, note=note, **rule)  # fmt: skip
    if asked.phase == "train":
        frozen = "no gradients of frozen weights" if asked.method != "full" else "two products for each one"
        answer.add("backward_per_token", backward / tokens, "FLOP/token", label="backward",
                   section="one token", grade=grade, note=frozen, **rule)  # fmt: skip
        answer.add("flops_per_token", (forward + backward) / tokens, "FLOP/token", label="model",
                   section="one token", grade=grade, note="forward and backward", **rule)  # fmt: skip
    else:
        answer.add("flops_per_token", forward / tokens, "FLOP/token", label="-", section="one token",
                   grade=grade, **rule)  # fmt: skip
    if asked.recompute != "none":
        what = "all layers once more" if asked.recompute == "full" else "attention once more"
        answer.add("executed_per_token", (forward + backward + again) / tokens, "FLOP/token",
                   label="executed", section="one token", grade=grade, note=what, **rule)  # fmt: skip
    made = forward + backward
    answer.add("flops_per_sequence", made if is_array(made) else int(made), "FLOP", label="one sequence",
               section="one token", grade=grade, note="" if asked.phase != "decode" else "one step",
               **rule)  # fmt: skip


def _thumb(answer: Figures, params: int, inner: int, asked: Asked, exact: Any) -> None:
    """The rules of thumb beside it: 2 N or 6 N, and times all tokens."""
    train = asked.phase == "train"
    rule, name, each = (
        (leaf.training_flops, "6 N", 6) if train else (leaf.forward_flops, "2 N", 2)
    )  # fmt: skip
    source = "Kaplan et al. 2020, section 2.1"
    found = rule(params, 1)
    beside = "" if exact is None or is_array(exact) else f"op by op {exact / found:.3f} times that"
    how: dict[str, Any] = {"formula": rule.__name__, "grade": "derived", "source": source}
    answer.add("thumb_per_token", found, "FLOP/token", label=name, section="one token",
               inputs={"parameters": params, "tokens": 1}, note=beside, **how)  # fmt: skip
    if asked.tokens is None:
        return
    if exact is not None:
        answer.add("flops", exact * float(asked.tokens), "FLOP", label="counted", section="all tokens",
                   formula="flops_per_token x tokens", note=f"{format_count(asked.tokens)} tokens",
                   )  # fmt: skip
    answer.add("thumb", rule(params, asked.tokens), "FLOP", label=f"{name} D", section="all tokens",
               inputs={"parameters": params, "tokens": asked.tokens},
               note=f"{each} x {format_count(params)} x {format_count(asked.tokens)}", **how)  # fmt: skip
    if inner != params:
        answer.add("thumb_without_embedding", rule(inner, asked.tokens), "FLOP", section="all tokens",
                   label=f"{name} D, N without embedding",
                   inputs={"parameters": inner, "tokens": asked.tokens}, note=f"N = {format_count(inner)}", **how)  # fmt: skip


def flops(
    model: Any = None,
    *,
    params: Any = None,
    config: Any = None,
    tokens: Any = None,
    context: Any = None,
    phase: str | None = None,
    sequences: Any = None,
    mask: str | None = None,
    head: str | None = None,
    mtp: bool = False,
    encoder_tokens: Any = None,
    image_tokens: Any = None,
    recompute: str | None = None,
    method: str | None = None,
    lora_r: Any = None,
    lora_targets: Any = None,
    by: str | None = None,
    dtype: str | None = None,
    quant: str | None = None,
    kv_dtype: str | None = None,
    gpu: Any = None,
    precision: str | None = None,
    throughput: Any = None,
    tflops: Any = None,
    mfu: Any = None,
    hfu: Any = None,
    convention: str | None = None,
    allow_overlong: bool = False,
    assume: str | None = None,
    catalog: Any = None,
) -> Figures:
    """Operations of a model, op by op, beside 2N, 6ND and the conventions of publications.

    Parameters
    ----------
    model, params, config : str, number, dict or Inventory
        The model (one of the three): anything `llmcalc.model` takes.
    tokens : int or str, optional
        Tokens of the whole run, such as ``15t``. [tokens]
    context : int, str or ndarray, optional
        Tokens of one sequence; in decode the positions before the new token. [tokens]
    phase : str
        ``train`` (the default), ``prefill`` or ``decode``.
    sequences : int
        Sequences of a step, for the bytes that it moves. [-]
    mask : str
        ``causal`` (the default): pairs of positions that masks and windows let through; ``half``; ``full``.
    head : str
        The product with the vocabulary for ``all`` positions (the default of training), the ``last`` one or
        ``none``.
    mtp : bool
        Whether prediction layers run too.
    encoder_tokens, image_tokens : int or str, optional
        Tokens of the stream that cross-attention reads. [tokens]
    recompute : str
        ``none`` (the default), ``selective`` (attention) or ``full`` (all layers).
    method, lora_r, lora_targets : optional
        ``full`` (the default), ``lora`` or ``qlora``, with rank and modules.
    by : str
        Rows of the table: ``part`` (the default) or ``role``.
    dtype, quant, kv_dtype : str, optional
        What weights and caches are read in; the checkpoint's dtype, and 16 bit.
    gpu, precision : str, optional
        GPUs for the roofline and for MFU, and the precision of their peak (bf16).
    throughput, tflops, mfu, hfu : number or str, optional
        One published speed: tokens/s of all GPUs, TFLOP/s of one, or a share of its peak.
    convention : str, optional
        What that figure counts by; ``exact`` if left out.
    allow_overlong : bool
        Whether the context may exceed the model's limit.
    assume, catalog : optional
        As in `llmcalc.vram`.

    Returns
    -------
    Figures
        ``answer["flops_per_token"].value`` and others; ``answer.grid("conventions").rows``.

    Raises
    ------
    LlmcalcError
        With every mistake of the call and its remedy.

    Notes
    -----
    Counted are matrix products, attention, convolutions and scans; not norms, activations, softmax and
    biases. In training the backward pass is twice the forward one, less what frozen weights save.

    Examples
    --------
    Llama-3.1-405B at 8,192 tokens: 2,524 GFLOP a token, which is what Megatron-Bridge publishes.

    >>> round(flops("llama-3.1-405b", context=8192)["flops_per_token"].value / 1e9)
    2524
    """
    asked = dict(locals())
    given = {
        key: value for key, value in asked.items() if key not in ("model", "params", "config", "catalog")
    }
    book = catalog if isinstance(catalog, Catalog) else Catalog(
        [catalog] if isinstance(catalog, str) else list(catalog or ())
    )  # fmt: skip
    problems = Problems()
    inventory = None
    with problems:
        inventory = stored_as_declared(readers.read_only(model, params, config, assume, book), book)
        if inventory.family == "header":
            raise ConfigError(
                f"{inventory.name}: the header tells the weights, not the layers and their operations.",
                "Put the model's config.json beside it.",
            )
    with problems:
        question = resolve(inventory or readers.read("1b", book), book, given)
    problems.check()
    assert inventory is not None
    from llmcalc.answer.flops_tables import formats

    stored, bits, kv_bytes = formats(inventory, book, dtype, quant, kv_dtype)
    answer = flops_answer(stored, question, book, bits, kv_bytes)
    answer.sign(Call("flops", asked), book)
    return answer
