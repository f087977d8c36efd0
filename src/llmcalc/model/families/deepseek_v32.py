"""DeepSeek V3.2: V3's layers, and in each an indexer that chooses the positions to attend to."""

from llmcalc.model.configuration import Config
from llmcalc.model.families._blocks import pre_norm
from llmcalc.model.families.deepseek_v2 import attention as latent_attention
from llmcalc.model.families.deepseek_v2 import feed_forward
from llmcalc.model.families.deepseek_v3 import prediction_module
from llmcalc.model.layers import Block
from llmcalc.model.layers.variants import indexer

NAMES = {
    "index_query": "self_attn.indexer.wq_b",
    "index_key": "self_attn.indexer.wk",
    "index_key_norm": "self_attn.indexer.k_norm",
    "index_weights": "self_attn.indexer.weights_proj",
}


def attention(c: Config, own_indexer: bool = True) -> Block:
    """Latent attention to chosen positions, by an indexer of its own or by that of an earlier layer."""
    c.read |= {"layer_types", "index_n_heads", "index_head_dim"}
    made = latent_attention(c, chosen=c.index_topk)
    if own_indexer:
        made += indexer(c.hidden_size, c.q_lora_rank, c.index_n_heads, c.index_head_dim)
    return made


def block(c: Config, layer: int) -> Block:
    return pre_norm(c, attention(c), feed_forward(c, layer, correction=True))


def mtp(c: Config) -> tuple[int, Block]:
    """How many prediction modules the checkpoint holds, and what one of them is."""
    module = prediction_module(c, block(c, c.num_hidden_layers), tables=True)
    return c.number("num_nextn_predict_layers", stated_only=True), module
