"""GLM 4.5 to 4.7: biases on query, key and value; q/k norms in the large one.

Dense first layers, then experts with a shared one.
"""

from llmcalc.model.configuration import Config
from llmcalc.model.families.deepseek_v2 import feed_forward
from llmcalc.model.layers import Block, gqa, norm


def block(c: Config, layer: int) -> Block:
    return (
        norm("attn_norm", c.hidden_size)
        + gqa(
            c.hidden_size,
            c.num_attention_heads,
            c.num_key_value_heads,
            c.head_dim,
            bias=c.flag("attention_bias"),
            qk_norm="head" if c.flag("use_qk_norm") else "",
        )
        + norm("ffn_norm", c.hidden_size)
        + feed_forward(c, layer, correction=True)
    )
