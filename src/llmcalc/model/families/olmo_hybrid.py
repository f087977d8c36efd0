"""OLMo Hybrid: three Gated DeltaNet layers with norms before, to one of attention with norms after."""

from llmcalc.model.configuration import Config
from llmcalc.model.families._blocks import dense, grouped, pre_norm
from llmcalc.model.families.qwen3_next import is_linear
from llmcalc.model.layers import Block, norm
from llmcalc.model.layers.hybrid import delta_net

NAMES = {
    "attn_norm": "attention_layer_norm",
    "ffn_norm": "feedforward_layer_norm",
    "post_attn_norm": "post_attention_layernorm",
    "post_ffn_norm": "post_feedforward_layernorm",
    "delta_query": "linear_attn.q_proj",
    "delta_key": "linear_attn.k_proj",
    "delta_value": "linear_attn.v_proj",
    "delta_gate": "linear_attn.g_proj",
    "delta_a": "linear_attn.a_proj",
    "delta_b": "linear_attn.b_proj",
    "conv_query": "linear_attn.q_conv1d",
    "conv_key": "linear_attn.k_conv1d",
    "conv_value": "linear_attn.v_conv1d",
    "dt_bias": "linear_attn.dt_bias",
    "a_log": "linear_attn.A_log",
    "delta_norm": "linear_attn.o_norm",
    "delta_out": "linear_attn.o_proj",
}


def heads(c: Config, key: str) -> int:
    return c.optional(key) or int(c.num_attention_heads)


def mixer(c: Config) -> Block:
    keys = heads(c, "linear_num_key_heads")
    key_dim = c.optional("linear_key_head_dim") or int(0.75 * c.hidden_size / keys)
    return delta_net(
        c.hidden_size,
        keys,
        heads(c, "linear_num_value_heads"),
        key_dim,
        c.optional("linear_value_head_dim") or 2 * key_dim,
        c.linear_conv_kernel_dim,
        apart=True,
        state=c.state_dtype(),
    )


def block(c: Config, layer: int) -> Block:
    if is_linear(c, layer):
        return pre_norm(c, mixer(c), dense(c))
    bias = c.flag("attention_bias")
    return (
        grouped(c, bias=bias, out_bias=bias, qk_norm="width")
        + norm("post_attn_norm", c.hidden_size)
        + dense(c)
        + norm("post_ffn_norm", c.hidden_size)
    )


def split(c: Config) -> dict[str, int]:
    return {
        "attention heads": c.num_attention_heads,
        "linear key heads": heads(c, "linear_num_key_heads"),
        "linear value heads": heads(c, "linear_num_value_heads"),
    }
