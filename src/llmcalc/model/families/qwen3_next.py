"""Qwen3-Next: three Gated DeltaNet layers to one of gated full attention; experts with a gated shared one."""

from llmcalc.model.configuration import Config
from llmcalc.model.families._blocks import pre_norm
from llmcalc.model.families.qwen2_moe import NAMES as EXPERT_NAMES
from llmcalc.model.families.qwen2_moe import feed_forward
from llmcalc.model.families.qwen3 import attention
from llmcalc.model.layers import Block, gated_delta_net

NAMES = {
    **EXPERT_NAMES,
    "delta_qkvz": "linear_attn.in_proj_qkvz",
    "delta_ba": "linear_attn.in_proj_ba",
    "conv": "linear_attn.conv1d",
    "dt_bias": "linear_attn.dt_bias",
    "a_log": "linear_attn.A_log",
    "delta_norm": "linear_attn.norm",
    "delta_out": "linear_attn.out_proj",
}
GGUF_NAMES = {"ffn_norm": "post_attention_norm"}


def is_linear(c: Config, layer: int) -> bool:
    kinds = c.layer_types("full_attention_interval", known=("full_attention", "linear_attention"))
    if kinds is not None:
        return kinds[layer] == "linear_attention"
    return (layer + 1) % c.pattern("full_attention_interval", known=4) != 0


def delta_net(c: Config) -> Block:
    return gated_delta_net(
        c.hidden_size,
        c.linear_num_key_heads,
        c.linear_num_value_heads,
        c.linear_key_head_dim,
        c.linear_value_head_dim,
        c.linear_conv_kernel_dim,
        state=c.state_dtype(),
    )


def block(c: Config, layer: int) -> Block:
    mixer = delta_net(c) if is_linear(c, layer) else attention(c, layer, gated=True)
    return pre_norm(c, mixer, feed_forward(c, layer))


def split(c: Config) -> dict[str, int]:
    return {
        "attention heads": c.num_attention_heads,
        "linear key heads": c.linear_num_key_heads,
        "linear value heads": c.linear_num_value_heads,
    }
