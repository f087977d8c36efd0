"""MiniCPM 1 and 2: Llama's layers, with scaled embeddings and residuals; or experts for the MLP."""

from llmcalc.model.configuration import Config
from llmcalc.model.families._blocks import dense, grouped, pre_norm
from llmcalc.model.layers import Block, moe

NAMES = {
    "expert_gate": "mlp.experts.{expert}.w1",
    "expert_up": "mlp.experts.{expert}.w3",
    "expert_down": "mlp.experts.{expert}.w2",
}


def block(c: Config, layer: int) -> Block:
    bias, experts = c.flag("attention_bias"), c.optional("num_experts")
    feed_forward = dense(c)
    if experts:
        feed_forward = moe(c.hidden_size, experts, c.num_experts_per_tok, c.intermediate_size)
    return pre_norm(c, grouped(c, bias=bias, out_bias=bias), feed_forward)
