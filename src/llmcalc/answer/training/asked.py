"""What was asked of a training step: keywords resolved and checked, defaults included."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from llmcalc.answer.training.ignored import refuse_ignored
from llmcalc.answer.training.settings import (
    read_keeps_inputs,
    read_modules,
    read_offload,
    read_recompute,
    settle_optimizer,
)
from llmcalc.answer.training.spread import SPREAD, choose_mesh
from llmcalc.answer.training.words import array, flag, number, one_word
from llmcalc.catalog import Catalog
from llmcalc.errors import ConfigError, InputError, Problems, one_of
from llmcalc.formula import Quantity, is_array
from llmcalc.memory.training.optimizers import Optimizer
from llmcalc.memory.training.plan import CORE, LOSSES
from llmcalc.memory.training.precisions import RECIPES, Recipe, find_recipe
from llmcalc.memory.training.trainable import METHODS, Choice
from llmcalc.model.inventory import Inventory
from llmcalc.precision import Format, find_format
from llmcalc.units import GIB, MAX_TOKENS, parse_bytes, parse_integer, parse_length

if TYPE_CHECKING:
    from llmcalc.answer.training.files import Told
    from llmcalc.hardware import Device
    from llmcalc.memory.training.parallel.mesh import Mesh
    from llmcalc.memory.training.parallel.units import Policy
    from llmcalc.memory.training.parallel.zero_settings import ZeroSettings

ATTENTIONS = ("flash", "flash3", "sdpa", "eager")
IMPLEMENTATIONS = ("hf", "torchtune", "torchtitan", "megatron", "liger", "litgpt")
METRICS = ("nvidia-smi", "reserved", "allocated", "memtracker")
DEFAULTS: dict[str, Any] = {
    "method": "full",
    "precision": "bf16-mixed",
    "optimizer": "adamw",
    "micro_batch": 1,
    "grad_accum": 1,
    "recompute": "none",
    "recompute_modules": None,
    "attention": "flash",
    "loss": "eager",
    "recipe": "hf",
    "lora_r": 16,
    "lora_targets": "all-linear",
    "adapter_dtype": "fp32",
    "lora_dropout": 0,
    "metric": "nvidia-smi",
    "adapter_size": 64,
    "adapter_kind": "houlsby",
    "virtual_tokens": 20,
    "padded": False,
    "quant": None,
    "wide_embedding": False,
    "untied_head": False,
    "keep_logits": None,
    "compile": False,
    "kbit_upcast": None,
    "bitsandbytes": None,
    "longest_first": False,
    "expandable_segments": False,
    "seq_len": None,
}
DEFAULT_SEQ = 8192
SHARES = ("zero", "offload_to", "zero_init", "deepspeed", "accelerate")
"""Keywords of DeepSpeed's sharing, and of files that may ask for it."""

KEYWORDS = (
    *DEFAULTS,
    "dtype", "gpu", "reserve", "context", "allow_overlong", "like", "optimizer_rank", "rslora",
    "modules_to_save", "trainable", "freeze", "last_layers", "optimizer_in_backward", "ema", "offload",
    *SHARES[1:], *SPREAD, "reference", "teacher",
)  # fmt: skip


LITGPT = {"untied_head": True, "bitsandbytes": "0.42.0"}
"""What goes along with litgpt's code: a head of its own, and the release of bitsandbytes that it pins."""

PARTS = ("trainable", "freeze", "last_layers", "modules_to_save", "adapter_dtype", "lora_targets", "lora_r")
"""Keywords about the trained part."""


class Asked:
    """Resolved inputs of a training estimate.

    Attributes
    ----------
    choice, recipe, optimizer : Choice, Recipe, Optimizer
        What is trained, in which precision, by what.
    batch, seq : int or ndarray
        Sequences of a micro-batch, and tokens of each. [-], [tokens]
    accumulate : int
        Micro-batches of a step. [-]
    dtype : Format
        Of unquantized frozen weights.
    scheme : Scheme or None
        How frozen weights are quantized.
    upcast : bool
        Whether what is not quantized is cast to fp32 (PEFT's preparation for k-bit training).
    recompute : str or int
        ``none``, ``selective``, ``full`` or N.
    values : dict
        Every setting as resolved, for the report.
    origins : dict
        Where each came from: ``given``, the preset, or ``default``.
    """

    def __init__(self) -> None:
        self.choice = Choice()
        self.recipe: Recipe = RECIPES["bf16-mixed"]
        self.optimizer: Optimizer
        self.batch: Quantity = 1
        self.seq: Quantity = DEFAULT_SEQ
        self.accumulate = 1
        self.dtype: Format
        self.scheme: Any = None
        self.upcast = self.keeps_inputs = self.longest_first = False
        self.recompute: str | int = "none"
        self.modules = CORE
        self.attention, self.loss, self.implementation = "flash", "eager", "hf"
        self.keep_logits = True
        self.padded = self.compile = self.ema = self.in_backward = self.untied = False
        self.expandable = False
        self.offload: frozenset[str] = frozenset()
        self.metric = "nvidia-smi"
        self.devices: list[Device] = []
        self.reserve = 0
        self.mesh: Mesh | None = None
        self.sharding: Any = None
        self.policy: Policy | None = None
        self.bucket_views = self.shares = False
        self.sharding_name = ""
        self.zero: ZeroSettings | None = None
        self.takes_gradients = False
        self.told: Told | None = None
        self.like: str | None = None
        self.answers: Quantity = 0
        self.no_grad = False
        self.reference: Any = None
        self.teacher: Any = None
        self.values: dict[str, Any] = {}
        self.origins: dict[str, str] = {}
        self.notes: list[str] = []

    @property
    def method(self) -> str:
        """What is trained, in one word."""
        return self.choice.method


def resolve(inventory: Inventory, book: Catalog, given: dict[str, Any]) -> Asked:
    """Turn keywords into what was asked, telling all mistakes together.

    Parameters
    ----------
    inventory : Inventory
        The model.
    book : Catalog
        For optimizers, formats and GPUs.
    given : dict
        Keywords of `llmcalc.train`; absent or None means not given.
    """
    given = {key: given.get(key) for key in KEYWORDS}
    asked, problems = Asked(), Problems()
    shares = any(given[key] is not None for key in SHARES)
    with problems:
        asked.choice = Choice(one_word(given["method"] or "full", METHODS, "--method"))
    with problems:
        preset: dict[str, Any] = {}
        if given["like"] is not None:
            from llmcalc.answer.training.presets import settings_of

            preset = settings_of(given["like"], asked.method)
        asked.like = given["like"]
        if shares or "zero" in preset:
            from llmcalc.answer.training.files import settle_with_files

            settle_with_files(asked, given, inventory, preset, partial(_settle, asked, given, preset))
            asked.shares = True
        else:
            _settle(asked, given, preset)
    problems.check()
    values = asked.values
    with problems:
        asked.recipe = find_recipe(values["precision"])
    with problems:
        settle_optimizer(asked, book, given)
    with problems:
        refuse_ignored(asked.method, given)
    with problems:
        asked.batch = number(values["micro_batch"], "--micro-batch")
    with problems:
        asked.accumulate = parse_integer(values["grad_accum"], "--grad-accum")
    with problems:
        asked.seq = _tokens(inventory, given, values)
    _words(asked, values, given, problems)
    with problems:
        _weights(asked, inventory, book, values, given)
    with problems:
        _hardware(asked, book, given)
    with problems:
        if asked.method != "full" or any(given[key] is not None for key in PARTS):
            from llmcalc.answer.training.part import choose_part

            choose_part(asked, inventory, values, given)
    problems.check()
    counts = {device.count or 1 for device in asked.devices}
    if len(counts) > 1:
        told = one_of([str(count) for count in sorted(counts)])
        raise InputError(
            f"--gpu names {told} GPUs, which are different layouts.",
            "Compare the same number of GPUs.",
        )
    place(asked, inventory, given, counts.pop() if counts else None)
    return asked


def place(asked: Asked, inventory: Inventory, given: dict[str, Any], count: int | None) -> None:
    """Set the layout of so many GPUs on what is otherwise resolved, and refuse what can't go together."""
    if asked.shares or any(given.get(key) is not None for key in SHARES):
        from llmcalc.answer.training.deepspeed import choose_zero  # a plain step pays for none of it

        choose_zero(asked, {key: given.get(key) for key in KEYWORDS})
    choose_mesh(asked, inventory, given, count)
    _together(asked, inventory)


def _settle(asked: Asked, given: dict[str, Any], preset: dict[str, Any]) -> None:
    """Each setting: given, else the preset's, else the default; and which of them."""
    filed, file = ({}, "") if asked.told is None else (asked.told.values, asked.told.name)
    for key, default in DEFAULTS.items():
        value, origin = default, "default"
        if preset.get(key) is not None:
            value, origin = preset[key], f"--like {asked.like}"
        if filed.get(key) is not None:
            value, origin = filed[key], file
        if given[key] is not None:
            value, origin = given[key], "given"
        asked.values[key], asked.origins[key] = value, origin
    asked.values["method"] = asked.method
    words = asked.values["metric"], asked.values["attention"], asked.origins["padded"]
    if words == ("memtracker", "sdpa", "default"):  # under fake tensors transformers always makes a mask
        asked.values["padded"], asked.origins["padded"] = True, "as under fake tensors"
    if str(asked.values["recipe"]).strip().lower() == "litgpt":
        for key, value in LITGPT.items():
            if asked.origins[key] == "default":
                asked.values[key], asked.origins[key] = value, "as litgpt does"


def _tokens(inventory: Inventory, given: dict[str, Any], values: dict[str, Any]) -> Quantity:
    """Tokens of a sequence: given, else the preset's, else the model's limit, at most 8,192."""
    if given["context"] is not None and given["seq_len"] is not None:
        raise InputError("--seq-len is given twice.", "Keep one of seq_len and context.")
    value = given["context"] if given["context"] is not None else values["seq_len"]
    limit = inventory.context
    if value is None:
        return min(limit or DEFAULT_SEQ, DEFAULT_SEQ)
    option = "--seq-len"
    seq: Any = array(value, option, MAX_TOKENS) if is_array(value) else parse_length(value, option)
    longest = int(seq.max()) if is_array(seq) else int(seq)
    if limit is not None and longest > limit and not given["allow_overlong"]:
        if given["context"] is None and given["seq_len"] is None:
            return limit  # a preset's length is cut
        raise InputError(
            f"--seq-len {longest:,} is above the {limit:,} tokens that {inventory.name} was made for.",
            f"Use --seq-len {limit} or less, or --allow-overlong.",
        )
    return seq


def _words(asked: Asked, values: dict[str, Any], given: dict[str, Any], problems: Problems) -> None:
    """Settings that are one word of a list, and switches."""
    for key, allowed, name in (
        ("attention", ATTENTIONS, "attention"),
        ("loss", LOSSES, "loss"),
        ("recipe", IMPLEMENTATIONS, "implementation"),
        ("metric", METRICS, "metric"),
    ):
        with problems:
            setattr(asked, name, one_word(values[key], allowed, f"--{key}"))
    with problems:
        asked.recompute = read_recompute(values["recompute"])
        asked.modules = read_modules(values["recompute_modules"], asked.recompute)
    for key, name in (
        ("padded", "padded"),
        ("compile", "compile"),
        ("untied_head", "untied"),
        ("longest_first", "longest_first"),
        ("expandable_segments", "expandable"),
    ):
        with problems:
            setattr(asked, name, flag(values[key], f"--{key.replace('_', '-')}"))
    keeps = values["keep_logits"]
    with problems:
        # The output object of transformers holds the logits while the loss is differentiated.
        kept = asked.implementation in ("hf", "litgpt") if keeps is None else flag(keeps, "--keep-logits")
        asked.keep_logits = values["keep_logits"] = kept
    with problems:
        asked.keeps_inputs = read_keeps_inputs(values["bitsandbytes"])
    asked.ema = bool(given["ema"])
    asked.in_backward = bool(given["optimizer_in_backward"])
    with problems:
        asked.offload = read_offload(given["offload"])


def _weights(
    asked: Asked, inventory: Inventory, book: Catalog, values: dict[str, Any], given: dict[str, Any]
) -> None:
    """The dtype of what is frozen, and how it is quantized."""
    name = given["dtype"]
    if name is None:
        name = "fp32" if asked.recipe.element == 4 else "fp16" if "fp16" in asked.recipe.name else "bf16"
    asked.dtype = find_format(name, book, "weights", "--dtype")
    stated, method, quant = inventory.quantization, asked.method, values["quant"]
    if stated is not None and "refused" in stated and quant is None:
        raise ConfigError(*stated["refused"])
    own: Any = None if stated is None else stated.get("applied")
    named = own is not None and own.name != "none"
    if named and (quant is None or str(quant).lower() != "none"):
        if method == "qlora":
            raise InputError(
                f"{inventory.name} is already stored as {own.name}; QLoRA quantizes 16-bit weights.",
                "Use --method lora to train adapters over it as it is, or name the model it was made from.",
            )
        if not asked.choice.leaves_model:
            raise InputError(
                f"{inventory.name} is stored as {own.name}, which can't be trained itself.",
                "Use --method lora, or --quant none to train its weights unpacked.",
            )
    if method == "qlora" and quant is None:
        quant = "nf4-dq"
    values["quant"] = own.name if quant is None and named else quant
    if quant is not None:
        from llmcalc.precision.named import find_scheme

        scheme = find_scheme(quant, book)
        if asked.implementation == "litgpt" and scheme.name in ("nf4", "nf4-dq"):
            scheme = find_scheme(f"{scheme.name}-head", book)  # Fabric's plugin quantizes every linear
            values["quant"] = scheme.name
        if scheme.name != "none" and not asked.choice.leaves_model:
            raise InputError(
                f"--quant {quant} is for frozen weights; --method {method} trains them.",
                "Use --method qlora, or leave --quant out.",
            )
        asked.scheme = scheme if scheme.name != "none" else None
        if asked.scheme is not None:
            asked.notes += scheme.notes


def _this_machine(book: Catalog) -> list[Device]:
    from llmcalc.machine import find_gpus

    return find_gpus(book)


def _hardware(asked: Asked, book: Catalog, given: dict[str, Any]) -> None:
    if given["reserve"] is not None:
        asked.reserve = parse_bytes(given["reserve"], "--reserve")
    if given["gpu"] is None:
        return
    from llmcalc.hardware import parse_gpus

    for device in parse_gpus(given["gpu"], book, _this_machine):
        asked.devices.append(device.less(asked.reserve))
        if asked.devices[-1].usable_bytes <= 0:
            raise InputError(
                f"--reserve {asked.reserve / GIB:g} GiB leaves nothing of {device.name}.",
                "Reserve less, or name a larger GPU.",
            )


def _together(asked: Asked, inventory: Inventory) -> None:
    """Refuse what can't go together; say what follows from what was asked."""
    optimizer = asked.optimizer
    asked.in_backward = asked.in_backward or optimizer.in_backward
    if asked.in_backward and asked.accumulate > 1:
        raise InputError(
            f"--grad-accum {asked.accumulate} needs gradients that last; an optimizer that steps in the "
            "backward pass frees them.",
            "Use --grad-accum 1 with a larger --micro-batch, or "
            + ("another --optimizer." if optimizer.in_backward else "leave --optimizer-in-backward out."),
        )
    arrays = {
        option: len(value)
        for option, value in (
            ("--micro-batch", asked.batch),
            ("--seq-len", asked.seq),
            ("--lora-r", asked.choice.rank),
        )
        if is_array(value)
    }
    if len(set(arrays.values())) > 1:
        told = " and ".join(f"{option} {number:,}" for option, number in arrays.items())
        raise InputError(f"Arrays of different lengths: {told} values.", "Give as many of each.")
    quantized = asked.scheme is not None
    wish = asked.values["kbit_upcast"]
    asked.upcast = quantized and (
        asked.choice.adapter_bytes == 4 if wish is None else flag(wish, "--kbit-upcast")
    )
    asked.values["kbit_upcast"] = asked.upcast
    if (
        asked.recompute != "none"
        and isinstance(asked.recompute, int)
        and asked.recompute > max(inventory.layers, 1)
    ):
        raise InputError(
            f"--recompute every-{asked.recompute}: {inventory.name} has {inventory.layers} layers.",
            f"Use every-2 to every-{inventory.layers}.",
        )
