"""EXAONE 3 and 3.5: Llama's layers under GPT-2's names."""

from llmcalc.model.configuration import Config
from llmcalc.model.families._blocks import dense, grouped, pre_norm
from llmcalc.model.layers import Block

PREFIX = "transformer.h.{layer}"
NAMES = {
    "embedding": "transformer.wte",
    "attn_norm": "ln_1",
    "query": "attn.attention.q_proj",
    "key": "attn.attention.k_proj",
    "value": "attn.attention.v_proj",
    "output": "attn.attention.out_proj",
    "ffn_norm": "ln_2",
    "gate": "mlp.c_fc_0",
    "up": "mlp.c_fc_1",
    "down": "mlp.c_proj",
    "final_norm": "transformer.ln_f",
}


def block(c: Config, layer: int) -> Block:
    return pre_norm(c, grouped(c), dense(c))
