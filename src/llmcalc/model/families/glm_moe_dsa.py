"""GLM 5: DeepSeek V3.2's layers; from 5.2 on most use the indexer of an earlier layer."""

from llmcalc.errors import ConfigError
from llmcalc.model.configuration import MISSING, Config
from llmcalc.model.families._blocks import each, pre_norm
from llmcalc.model.families.deepseek_v2 import feed_forward
from llmcalc.model.families.deepseek_v3 import prediction_module
from llmcalc.model.families.deepseek_v32 import NAMES, attention
from llmcalc.model.layers import Block

__all__ = ["NAMES", "block", "mtp"]


def has_indexer(c: Config, layer: int) -> bool:
    """By `indexer_types`, or a word such as ``FFSS``, or an interval after the first few; else all."""
    c.read |= {"index_topk_freq", "index_skip_topk_offset", "index_topk_pattern"}
    kinds = each(c, "indexer_types", "full", "shared")
    if kinds is not None:
        return bool(kinds[layer] == "full")
    word = c.lookup("index_topk_pattern")
    if word not in (MISSING, None):
        if not isinstance(word, (str, list)) or layer >= len(word):
            raise ConfigError(f"{c.label}: index_topk_pattern names too few layers.", "Correct it.")
        return word[layer] in ("F", "full")
    skipped = c.number("index_skip_topk_offset", 2)
    return max(layer - skipped + 1, 0) % c.size("index_topk_freq", 1) == 0


def block(c: Config, layer: int) -> Block:
    c.read |= {"num_experts", "mlp_bias"}
    made = attention(c, own_indexer=has_indexer(c, layer))
    return pre_norm(c, made, feed_forward(c, layer, correction=True))


def mtp(c: Config) -> tuple[int, Block]:
    """Its layer has an indexer of its own; embedding and head are the model's."""
    layer = pre_norm(c, attention(c), feed_forward(c, c.num_hidden_layers, correction=True))
    return c.number("num_nextn_predict_layers", stated_only=True), prediction_module(c, layer, tables=False)
