"""What families of mixed layers share: reading the kind of each layer, and their prediction modules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from llmcalc.errors import ConfigError
from llmcalc.model.configuration import MISSING, Config
from llmcalc.model.inventory import Group
from llmcalc.model.layers import Block, lower

WORDS = {
    "mamba": "linear",
    "linear_attention": "linear",
    "attention": "full",
    "full_attention": "full",
    "hybrid": "hybrid",
    "conv": "conv",
    "moe": "moe",
    "mlp": "mlp",
}
"""The words for a layer that configurations use, and ours."""


def layer_kinds(c: Config, *keys: str, words: Mapping[str, str] = WORDS) -> tuple[str, ...] | None:
    """The kind of each layer by the first of `keys` that is there: a list of words, or one of letters.

    Raises
    ------
    ConfigError
        For a word that nobody knows, or another number of layers than `num_hidden_layers`.
    """
    if "_layer_kinds" not in c.__dict__:
        c.__dict__["_layer_kinds"] = _layer_kinds(c, keys, words)
    kinds: tuple[str, ...] | None = c.__dict__["_layer_kinds"]
    return kinds


def _layer_kinds(c: Config, keys: Sequence[str], words: Mapping[str, str]) -> tuple[str, ...] | None:
    stated = [(key, c.lookup(key)) for key in keys]  # all of them are read
    for key, value in stated:
        if value is MISSING or value is None:
            continue
        if not isinstance(value, (list, str)) or not all(isinstance(word, str) for word in value):
            raise ConfigError(f"{c.label}: {key} is not a list of words.", f"Correct {key}.")
        strange = sorted(set(value) - set(words))
        if strange:
            raise ConfigError(
                f"{c.label}: {key} has the unknown word {strange[0][:40]!r}.",
                f"Known are {', '.join(words)}.",
            )
        layers = c.__dict__.get("num_hidden_layers", c.lookup("num_hidden_layers"))
        if isinstance(layers, int) and layers != len(value):
            raise ConfigError(
                f"{c.label}: {key} names {len(value)} layers, num_hidden_layers says {layers}.",
                "Make them agree.",
            )
        if not c.trusted:
            c.unproven[key] = f"{key} comes from an unverified copy of the configuration"
        return tuple(words[word] for word in value)
    return None


def stated_kinds(c: Config, *keys: str, words: Mapping[str, str] = WORDS) -> tuple[str, ...]:
    """The same, refused where none of the keys is there: there is no pattern that all models follow."""
    kinds = layer_kinds(c, *keys, words=words)
    if kinds is None:
        raise ConfigError(
            f"{c.label} does not say which layers have attention.", f'Add "{keys[0]}", one entry a layer.'
        )
    return kinds


def shared(
    names: Mapping[str, str], prefix: str, indices: Sequence[int], block: Block, stored: int | None = None
) -> Group:
    """One kind of layer; `stored` once where the layers share their tensors."""
    made = lower(block)
    return Group("text", "layer", tuple(indices), made.tensors, made.caches, made.ops, prefix, names, stored)


def state_dtype(c: Config, key: str) -> str:
    """Precision of the states by a key other than `mamba_ssm_dtype`; fp32 unless it says otherwise."""
    value = c.lookup(key)
    if value is MISSING or value is None:
        return c.state_dtype()
    short = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}.get(str(value))
    if short is None:
        raise ConfigError(f"{c.label}: {key} is {value!r}.", "Use float32, bfloat16 or float16.")
    return short


def rank(c: Config, key: str) -> int:
    """Rank of Mamba's step projection: ``auto`` is a sixteenth of the width, rounded up."""
    value = c.lookup(key)
    if value is MISSING or value is None or value == "auto":
        return -(-int(c.hidden_size) // 16)
    return c.size(key)


def head_width(c: Config, key: str, inner: int, heads: int) -> int:
    """Width of a state head; ``auto`` shares the inner width out.

    Raises
    ------
    ConfigError
        If the heads do not add up to the inner width.
    """
    value = c.lookup(key)
    width = inner // heads if value is MISSING or value in (None, "auto") else c.size(key)
    if width * heads != inner:
        raise ConfigError(
            f"{c.label}: {heads} state heads of {width} are not the inner width {inner}.",
            f"Correct {key} or the number of heads.",
        )
    return width


def prediction(
    c: Config, key: str, around: Block, blocks: Sequence[Block], prefix: str, names: Mapping[str, str]
) -> list[Group]:
    """Multi-token prediction modules as the checkpoint stores them: layers, and what stands around them."""
    count = c.number(key, stated_only=True)
    if not count:
        return []
    groups = []
    first = c.num_hidden_layers
    for number, block in enumerate((*blocks, around)):
        made = lower(block)
        for tensor in made.tensors:
            tensor.tag = "mtp" if tensor.tag == "main" else tensor.tag
        inside = number < len(blocks)
        indices = tuple(range(first, first + count)) if inside else (first,)
        root = f"{prefix}layers.{number}." if inside else prefix
        # GGUF folds the blocks into one layer, where the norm of a second one stands after attention.
        own = {**names, "gguf:mixer_norm": "post_attention_norm"} if inside and number else names
        groups.append(Group("mtp", "layer", indices, made.tensors, (), made.ops, root, own))
    return groups
