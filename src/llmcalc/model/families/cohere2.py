"""Cohere Command A and R7B: Cohere's layers with three windows to one full layer."""

from llmcalc.model.configuration import Config
from llmcalc.model.families._blocks import dense, windowed
from llmcalc.model.layers import Block, gqa, norm

INTERVAL = ("sliding_window_pattern", "_sliding_window_pattern")


def head_dim(c: Config) -> int:
    """The class divides, whatever `head_dim` says."""
    c.read.add("head_dim")
    return int(c.hidden_size // c.num_attention_heads)


def block(c: Config, layer: int) -> Block:
    bias, window = c.flag("attention_bias"), c.window()
    attention = gqa(
        c.hidden_size,
        c.num_attention_heads,
        c.num_key_value_heads,
        head_dim(c),
        bias=bias,
        out_bias=bias,
        window=window if windowed(c, layer, *INTERVAL, known=4) else None,
    )
    return norm("attn_norm", c.hidden_size) + attention + dense(c)
