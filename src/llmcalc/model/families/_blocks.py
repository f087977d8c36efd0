"""What most families are made of: the builders of `layers` fed with the usual configuration keys."""

from __future__ import annotations

from typing import Any

from llmcalc.errors import ConfigError
from llmcalc.model.configuration import MISSING, Config
from llmcalc.model.layers import Block, gqa, mlp, norm


def pre_norm(c: Config, attention: Block, feed_forward: Block, *, bias: bool = False) -> Block:
    """A norm before attention and one before the feed-forward layer; with `bias` LayerNorms."""
    width = c.hidden_size
    return norm("attn_norm", width, bias) + attention + norm("ffn_norm", width, bias) + feed_forward


def sandwich_norm(c: Config, attention: Block, feed_forward: Block) -> Block:
    """A norm before and after both: four a layer."""
    width = c.hidden_size
    return (
        norm("attn_norm", width)
        + attention
        + norm("post_attn_norm", width)
        + norm("ffn_norm", width)
        + feed_forward
        + norm("post_ffn_norm", width)
    )


def grouped(c: Config, **traits: Any) -> Block:
    """Grouped-query attention by the usual keys; `traits` are those of `layers.gqa`."""
    return gqa(c.hidden_size, c.num_attention_heads, c.num_key_value_heads, c.head_dim, **traits)


def multi_head(c: Config, **traits: Any) -> Block:
    """Attention with a key and value for each query head."""
    return gqa(c.hidden_size, c.num_attention_heads, c.num_attention_heads, c.head_dim, **traits)


def dense(c: Config, **traits: Any) -> Block:
    """A feed-forward layer of `intermediate_size`; `traits` are those of `layers.mlp`."""
    return mlp(c.hidden_size, c.intermediate_size, **traits)


def post_norm(c: Config, attention: Block, feed_forward: Block) -> Block:
    """A norm after attention and one after the feed-forward layer, none before."""
    width = c.hidden_size
    return attention + norm("post_attn_norm", width) + feed_forward + norm("post_ffn_norm", width)


def windowed(c: Config, layer: int, *keys: str, known: int | None = None) -> bool:
    """Whether a layer attends to a window: as `layer_types` says, else all but every n-th.

    The interval n stands under one of `keys`, or is `known` from what the makers published.
    """
    kinds = c.layer_types(*keys)
    if kinds is not None:
        return kinds[layer] == "sliding_attention"
    return (layer + 1) % c.pattern(*keys, known=known) != 0


def each(c: Config, key: str, *known: Any) -> list[Any] | None:
    """One of the `known` values for each layer, as `mlp_layer_types` lists them; None if it doesn't."""
    value = c.lookup(key)
    if value is MISSING or value is None:
        return None
    layers = c.num_hidden_layers
    if not isinstance(value, list) or len(value) < layers or any(one not in known for one in value):
        raise ConfigError(
            f"{c.label}: {key} is no list of {layers} out of {', '.join(map(str, known))}.", f"Correct {key}."
        )
    return value


def at(c: Config, key: str, layer: int, default: Any = MISSING) -> int:
    """A size that is either one number for all layers or a list with one for each."""
    value = c.lookup(key)
    if not isinstance(value, list):
        return c.size(key, default)
    if layer >= len(value):
        raise ConfigError(f"{c.label}: {key} has {len(value)} numbers, too few.", f"Correct {key}.")
    return c._checked(key, value[layer])


def sparse(c: Config, layer: int, dense_first: int = 0) -> bool:
    """Whether a layer has experts: by `mlp_layer_types`, else all after the first few."""
    listed = each(c, "mlp_layer_types", "dense", "sparse")
    if listed is not None:
        c.read |= {"first_k_dense_replace", "moe_layer_freq"}
        return bool(listed[min(layer, len(listed) - 1)] == "sparse")  # a prediction module is as the last
    frequent = c.size("moe_layer_freq", 1)
    return layer >= c.number("first_k_dense_replace", dense_first) and layer % frequent == 0


def nested(c: Config, key: str) -> Config:
    """A part such as `attn_config`, the same one for every layer."""
    for part in c.parts:
        if part.label == f"{c.label} {key}":
            return part
    return c.part(key, None)
