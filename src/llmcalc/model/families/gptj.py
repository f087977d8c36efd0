"""GPT-J: attention and MLP side by side after one LayerNorm; biases on the MLP and the head only."""

from llmcalc.model.configuration import Config
from llmcalc.model.families import unembed
from llmcalc.model.families._blocks import multi_head
from llmcalc.model.layers import Block, mlp, norm

PREFIX = "transformer.h.{layer}"
NAMES = {
    "embedding": "transformer.wte",
    "attn_norm": "ln_1",
    "query": "attn.q_proj",
    "key": "attn.k_proj",
    "value": "attn.v_proj",
    "output": "attn.out_proj",
    "up": "mlp.fc_in",
    "down": "mlp.fc_out",
    "final_norm": "transformer.ln_f",
}


def block(c: Config, layer: int) -> Block:
    feed_forward = mlp(c.hidden_size, c.optional("n_inner") or 4 * c.hidden_size, gated=False, bias=True)
    return norm("attn_norm", c.hidden_size, bias=True) + multi_head(c) + feed_forward


def head(c: Config) -> Block:
    return norm("final_norm", c.hidden_size, bias=True) + unembed(c, bias=True)
