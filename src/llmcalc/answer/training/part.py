"""Which part of a model is trained, or which adapters stand beside it: read and checked."""

from __future__ import annotations

from typing import Any

from llmcalc.answer.training.words import number, one_word
from llmcalc.errors import InputError
from llmcalc.formula import is_array
from llmcalc.memory.training.targets import ALL, find_targets, linears
from llmcalc.memory.training.trainable import ADAPTED, check_words
from llmcalc.model.inventory import Inventory
from llmcalc.units import parse_decimal, parse_integer, shown


def choose_part(asked: Any, inventory: Inventory, values: dict[str, Any], given: dict[str, Any]) -> None:
    """Adapters, or the part of the model that is trained."""
    choice, method = asked.choice, asked.method
    if given["last_layers"] is not None:
        choice.last_layers = parse_integer(given["last_layers"], "--last-layers")
        if choice.last_layers > inventory.layers and not inventory.is_opaque:
            raise InputError(
                f"--last-layers {choice.last_layers}: {inventory.name} has {inventory.layers} layers.",
                f"Use 1 to {inventory.layers}.",
            )
    choice.trained, choice.frozen = _list(given["trainable"]), _list(given["freeze"])
    choice.saved = _list(given["modules_to_save"])
    choice.adapter_bytes = _adapter_bytes(values["adapter_dtype"])
    if inventory.is_opaque:
        return
    for words, option in (
        (choice.trained, "--trainable"),
        (choice.frozen, "--freeze"),
        (choice.saved, "--modules-to-save"),
    ):
        check_words(words, inventory, option)
    if method == "freeze" and choice.last_layers is not None:
        choice.trained = (*choice.trained, f"last-{choice.last_layers}")
    if method == "freeze" and not choice.trained and not choice.frozen:
        raise InputError(
            "--method freeze does not say what is trained.",
            "Add --trainable last-8,head, or --freeze embedding, for example.",
        )
    if method not in ("full", "freeze") and (choice.trained or choice.frozen):
        raise InputError(
            f"--method {method} leaves the model frozen; --trainable and --freeze say nothing.",
            "Use --modules-to-save for modules trained beside adapters, or --method freeze.",
        )
    if method in ADAPTED:
        _adapters(asked, inventory, values)
    elif method in ("prompt", "prefix"):
        choice.tokens = parse_integer(values["virtual_tokens"], "--virtual-tokens", 10**6)


def _adapters(asked: Any, inventory: Inventory, values: dict[str, Any]) -> None:
    choice = asked.choice
    choice.dropout = _dropout(values["lora_dropout"])
    if choice.method == "bottleneck":
        kind = one_word(values["adapter_kind"], ("houlsby", "pfeiffer"), "--adapter-kind")
        choice.rank = number(values["adapter_size"], "--adapter-size")
        ends = ("output", "down") if kind == "houlsby" else ("down",)
        choice.targets = {
            one.key: () for one in linears(inventory) if one.role in ends and one.group.place == "layer"
        }
        if not choice.targets:
            raise InputError(
                f"{inventory.name} has no plain feed-forward for bottleneck adapters.", "Use --method lora."
            )
        return
    choice.rank = number(values["lora_r"], "--lora-r")
    choice.targets = find_targets(inventory, values["lora_targets"], asked.implementation == "megatron")
    widths = [
        (min(one.inputs, one.outputs), one.last) for one in linears(inventory) if one.key in choice.targets
    ]
    words = values["lora_targets"]
    if str(words if isinstance(words, str) else words[0]).strip().lower() in ALL:
        # Helpers of a few columns are among all linears too; PEFT takes them as they are.
        widths = [one for one in widths if one[0] >= HELPER] or widths
    narrow = min(widths)
    most = int(choice.rank.max()) if is_array(choice.rank) else choice.rank
    if most > narrow[0]:
        raise InputError(
            f"--lora-r {most:,} is above the width of {narrow[1]}, {narrow[0]:,}: that is no low rank.",
            f"Use --lora-r {narrow[0]} or less, or leave {narrow[1]} out of --lora-targets.",
        )


HELPER = 64
"""Narrower linears are helpers: gates, mixers of streams. [-]"""


def _list(value: Any) -> tuple[str, ...]:
    words = value.split(",") if isinstance(value, str) else list(value or ())
    return tuple(str(word).strip() for word in words if str(word).strip())


def _adapter_bytes(value: Any) -> int:
    word = str(value).strip().lower()
    if word in ("fp32", "float32", "32", "f32"):
        return 4
    if word in ("bf16", "fp16", "bfloat16", "float16", "16", "f16"):
        return 2
    raise InputError(
        f"--adapter-dtype {word[:40]!r} is not known.", "Use fp32 (PEFT's default), bf16 or fp16."
    )


def _dropout(value: Any) -> bool:
    parsed = parse_decimal(str(value))
    if parsed is None or not 0 <= parsed[0] < parsed[1]:
        raise InputError(f"--lora-dropout is {shown(value)}.", "Use a share from 0 to below 1, such as 0.05.")
    return parsed[0] > 0
