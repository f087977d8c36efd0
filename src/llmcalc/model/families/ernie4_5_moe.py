"""ERNIE 4.5 with experts: dense first layers; the router's correction is a parameter here."""

from llmcalc.model.configuration import Config
from llmcalc.model.families import unembed
from llmcalc.model.families._blocks import dense, grouped, pre_norm
from llmcalc.model.layers import Block, moe, norm

NAMES = {"router_correction": "mlp.moe_statics.e_score_correction_bias"}


def is_sparse(c: Config, layer: int) -> bool:
    """Experts from a first to a last layer, at an interval counted from 1; -1 is to the end."""
    first, last, every = (
        c.number("moe_layer_start_index"),
        c.lookup("moe_layer_end_index"),
        c.moe_layer_interval,
    )
    end = last if isinstance(last, int) and last >= 0 else c.num_hidden_layers - 1
    return first <= layer <= end and (layer + 1) % every == 0


def block(c: Config, layer: int) -> Block:
    bias = c.flag("use_bias")
    attention = grouped(c, bias=bias, out_bias=bias)
    if not is_sparse(c, layer):
        return pre_norm(c, attention, dense(c, bias=bias))
    experts = moe(
        c.hidden_size,
        c.moe_num_experts,
        c.moe_k,
        c.moe_intermediate_size,
        correction=True,
        correction_tag="main",
        shared_ffn=c.number("moe_num_shared_experts") * c.moe_intermediate_size,
    )
    return pre_norm(c, attention, experts)


def head(c: Config) -> Block:
    return norm("final_norm", c.hidden_size) + unembed(c, bias=c.flag("use_bias"))
