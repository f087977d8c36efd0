"""DeepSeek V2: latent attention, with or without a low-rank query; dense first layers, then experts."""

from llmcalc.model.configuration import Config
from llmcalc.model.families._blocks import dense, pre_norm, sparse
from llmcalc.model.layers import Block, mla, moe


def attention(c: Config, chosen: int | None = None) -> Block:
    # MLA uses neither: one latent serves all heads, whatever these say.
    c.read |= {"num_key_value_heads", "head_dim", "qk_head_dim"}
    return mla(
        c.hidden_size,
        c.num_attention_heads,
        c.kv_lora_rank,
        c.qk_nope_head_dim,
        c.qk_rope_head_dim,
        c.v_head_dim,
        q_rank=c.optional("q_lora_rank"),
        bias=c.flag("attention_bias"),
        chosen=chosen,
    )


def feed_forward(
    c: Config, layer: int, correction: bool = False, dense_first: int = 0, fused: bool = False
) -> Block:
    routed = c.optional("n_routed_experts")
    c.read |= {"num_nextn_predict_layers", "num_experts_per_tok", "moe_intermediate_size", "n_shared_experts"}
    if not sparse(c, layer, dense_first) or routed is None:
        return dense(c)
    return moe(
        c.hidden_size,
        routed,
        c.num_experts_per_tok,
        c.moe_intermediate_size,
        correction=correction,
        fused=fused,
        upright=fused,
        shared_ffn=(c.optional("n_shared_experts") or 0) * c.moe_intermediate_size,
    )


def block(c: Config, layer: int) -> Block:
    return pre_norm(c, attention(c), feed_forward(c, layer))
