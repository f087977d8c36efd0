"""Phi 1, 1.5 and 2: attention and MLP side by side after one norm; biases everywhere, on the head too."""

from llmcalc.model.configuration import Config
from llmcalc.model.families import unembed
from llmcalc.model.families._blocks import dense, grouped
from llmcalc.model.layers import Block, norm

NAMES = {
    "output": "self_attn.dense",
    "up": "mlp.fc1",
    "down": "mlp.fc2",
    "final_norm": "model.final_layernorm",
}


def block(c: Config, layer: int) -> Block:
    qk_norm = "head" if c.flag("qk_layernorm") else ""
    return (
        norm("attn_norm", c.hidden_size, bias=True)
        + grouped(c, bias=True, out_bias=True, qk_norm=qk_norm, norm_bias=True)
        + dense(c, gated=False, bias=True)
    )


def head(c: Config) -> Block:
    return norm("final_norm", c.hidden_size, bias=True) + unembed(c, bias=True)
