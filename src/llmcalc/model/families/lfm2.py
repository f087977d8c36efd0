"""LFM2: short convolutions that remember two positions, and attention with q/k norms in some layers."""

from llmcalc.model.configuration import MISSING, Config
from llmcalc.model.families import unembed
from llmcalc.model.families._blocks import grouped, pre_norm
from llmcalc.model.families._hybrid import stated_kinds
from llmcalc.model.layers import Block, mlp, norm
from llmcalc.model.layers.hybrid import short_convolution

NAMES = {
    "attn_norm": "operator_norm",
    "ffn_norm": "ffn_norm",
    "short_in": "conv.in_proj",
    "short_conv": "conv.conv",
    "short_out": "conv.out_proj",
    "output": "self_attn.out_proj",
    "query_norm": "self_attn.q_layernorm",
    "key_norm": "self_attn.k_layernorm",
    "gate": "feed_forward.w1",
    "up": "feed_forward.w3",
    "down": "feed_forward.w2",
    "final_norm": "model.embedding_norm",
}
GGUF_NAMES = {"final_norm": "token_embd_norm"}


def is_convolution(c: Config, layer: int) -> bool:
    if c.lookup("full_attn_idxs") not in (MISSING, None) and c.lookup("layer_types") in (MISSING, None):
        return layer not in c.indices("full_attn_idxs")
    return stated_kinds(c, "layer_types")[layer] == "conv"


def mixer(c: Config, layer: int) -> Block:
    if is_convolution(c, layer):
        return short_convolution(c.hidden_size, c.size("conv_L_cache"), bias=c.flag("conv_bias"))
    return grouped(c, qk_norm="head")


def width(c: Config) -> int:
    """Width of the feed-forward layer: as stated, or two thirds of it rounded up to a multiple."""
    stated = c.optional("block_ff_dim") or c.size("intermediate_size")
    c.read |= {"intermediate_size", "block_ffn_dim_multiplier", "block_multiple_of"}
    if not c.flag("block_auto_adjust_ff_dim"):
        return stated
    adjusted = 2 * stated // 3
    multiplier = c.lookup("block_ffn_dim_multiplier")
    if isinstance(multiplier, (int, float)) and not isinstance(multiplier, bool):
        adjusted = int(multiplier * adjusted)
    multiple = c.size("block_multiple_of")
    return -(-adjusted // multiple) * multiple


def block(c: Config, layer: int) -> Block:
    return pre_norm(c, mixer(c, layer), mlp(c.hidden_size, width(c)))


def head(c: Config) -> Block:
    return norm("final_norm", c.hidden_size) + unembed(c)
