"""MiniMax-Text-01 and M1: seven layers of lightning attention to one of softmax attention; experts in all."""

from llmcalc.errors import ConfigError
from llmcalc.model.configuration import MISSING, Config
from llmcalc.model.families._blocks import grouped, pre_norm
from llmcalc.model.families._hybrid import stated_kinds
from llmcalc.model.layers import Block, moe
from llmcalc.model.layers.hybrid import lightning

NAMES = {
    "linear_qkv": "self_attn.qkv_proj",
    "linear_norm": "self_attn.norm",
    "linear_gate": "self_attn.output_gate",
    "linear_out": "self_attn.out_proj",
    "router": "block_sparse_moe.gate",
    "expert_gate": "block_sparse_moe.experts.{expert}.w1",
    "expert_up": "block_sparse_moe.experts.{expert}.w3",
    "expert_down": "block_sparse_moe.experts.{expert}.w2",
}


def is_linear(c: Config, layer: int) -> bool:
    """By `layer_types`, or by the original list with 1 for softmax attention; there is no safe default."""
    marks = c.lookup("attn_type_list")
    if marks in (MISSING, None) or c.lookup("layer_types") not in (MISSING, None):
        return stated_kinds(c, "layer_types", "attn_type_list")[layer] == "linear"
    if (
        not isinstance(marks, list)
        or len(marks) != c.num_hidden_layers
        or any(mark not in (0, 1) for mark in marks)
    ):
        raise ConfigError(f"{c.label}: attn_type_list is not a list of 0 and 1.", "Give one mark a layer.")
    return bool(marks[layer] == 0)


def block(c: Config, layer: int) -> Block:
    if is_linear(c, layer):
        mixer = lightning(c.hidden_size, c.num_attention_heads, c.head_dim, state=c.state_dtype())
    else:
        mixer = grouped(c, window=c.optional("sliding_window"))
    experts = moe(c.hidden_size, c.num_local_experts, c.num_experts_per_tok, c.intermediate_size)
    return pre_norm(c, mixer, experts)
