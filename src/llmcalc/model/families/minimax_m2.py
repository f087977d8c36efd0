"""MiniMax M2: full attention in all layers, q/k norms over the whole width; routed experts only."""

from llmcalc.errors import ConfigError
from llmcalc.model.configuration import Config
from llmcalc.model.families._blocks import each, grouped, pre_norm
from llmcalc.model.families.mixtral import NAMES as EXPERT_NAMES
from llmcalc.model.layers import Block, moe

NAMES = {**EXPERT_NAMES, "router_correction": "block_sparse_moe.e_score_correction_bias"}


def block(c: Config, layer: int) -> Block:
    c.read |= {"num_mtp_modules", "mtp_transformer_layers", "sliding_window"}
    kinds = each(c, "attn_type_list", 0, 1)
    if kinds is not None and not kinds[layer]:
        raise ConfigError(
            f"{c.label}: attn_type_list names linear layers, which M2 does not have.",
            "Is it MiniMax-01? That is model_type minimax.",
        )
    qk_norm = "width" if c.flag("use_qk_norm", True) else ""
    experts = moe(
        c.hidden_size, c.num_local_experts, c.num_experts_per_tok, c.intermediate_size, correction=True
    )
    return pre_norm(c, grouped(c, qk_norm=qk_norm), experts)
