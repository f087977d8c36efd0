"""RWKV-4: no attention; each layer mixes time and channels, and remembers five vectors."""

from llmcalc.model.configuration import Config
from llmcalc.model.families import unembed
from llmcalc.model.layers import Block, norm
from llmcalc.model.layers.hybrid import channel_mixing, time_mixing

PREFIX = "rwkv.blocks.{layer}"
CHECK = ()
NAMES = {
    "embedding": "rwkv.embeddings",
    "before_norm": "pre_ln",
    "attn_norm": "ln1",
    "ffn_norm": "ln2",
    "time_decay": "attention.time_decay",
    "time_first": "attention.time_first",
    **{f"time_mix_{word}": f"attention.time_mix_{word}" for word in ("key", "value", "receptance", "gate")},
    **{f"time_{word}": f"attention.{word}" for word in ("key", "value", "receptance", "gate")},
    "time_out": "attention.output",
    "time_norm": "attention.ln_x",
    "channel_mix_key": "feed_forward.time_mix_key",
    "channel_mix_receptance": "feed_forward.time_mix_receptance",
    **{f"channel_{word}": f"feed_forward.{word}" for word in ("key", "value", "receptance")},
    "final_norm": "rwkv.ln_out",
    "unembedding": "head",
}


def inner(c: Config) -> int:
    return c.optional("attention_hidden_size") or int(c.hidden_size)


def layer_of(c: Config, layer: int, ffn: int, head_size: int = 0) -> Block:
    """A layer; the first also norms the embedding."""
    width = c.hidden_size
    return (
        (norm("before_norm", width, True) if layer == 0 else ())
        + norm("attn_norm", width, True)
        + time_mixing(width, inner(c), head_size=head_size)
        + norm("ffn_norm", width, True)
        + channel_mixing(width, ffn)
    )


def block(c: Config, layer: int) -> Block:
    return layer_of(c, layer, c.optional("intermediate_size") or 4 * int(c.hidden_size))


def head(c: Config) -> Block:
    return norm("final_norm", c.hidden_size, True) + unembed(c)


def split(c: Config) -> dict[str, int]:
    return {"state channels": inner(c)}
