"""MiniCPM 3: latent attention in a small dense model; embeddings tied."""

from llmcalc.model.configuration import Config
from llmcalc.model.families._blocks import dense, pre_norm
from llmcalc.model.layers import Block, mla


def block(c: Config, layer: int) -> Block:
    c.read |= {"num_key_value_heads", "head_dim", "qk_head_dim"}
    attention = mla(
        c.hidden_size,
        c.num_attention_heads,
        c.kv_lora_rank,
        c.qk_nope_head_dim,
        c.qk_rope_head_dim,
        c.optional("v_head_dim") or c.hidden_size // c.num_attention_heads,
        q_rank=c.optional("q_lora_rank"),
        bias=c.flag("attention_bias"),
    )
    return pre_norm(c, attention, dense(c, bias=c.flag("mlp_bias")))
