"""DeepSeek V4: one vector is key and value of all heads, in a window of 128 and compressed beyond it.

Layers with rate 4 choose among the compressed entries by an indexer, those with rate 128 read all,
those with 0 have the window alone. Four residual streams; the first layers route by a fixed table.
"""

from llmcalc.errors import ConfigError
from llmcalc.model.configuration import Config
from llmcalc.model.families import unembed
from llmcalc.model.families._blocks import each, pre_norm
from llmcalc.model.families.deepseek_v3 import prediction_module
from llmcalc.model.layers import Block, moe, norm
from llmcalc.model.layers.variants import (
    compressed_indexer,
    compressor,
    hash_routing,
    hyper_connection,
    shared_vector_attention,
)

PREFIX = "layers.{layer}"
NAMES = {
    "embedding": "embed",
    "final_norm": "norm",
    "unembedding": "head",
    "attn_norm": "attn_norm",
    "query_a": "attn.wq_a",
    "query_a_norm": "attn.q_norm",
    "query_b": "attn.wq_b",
    "kv": "attn.wkv",
    "kv_norm": "attn.kv_norm",
    "output_a": "attn.wo_a",
    "output_b": "attn.wo_b",
    "sinks": "attn.attn_sink",
    "compressor_kv": "attn.compressor.wkv",
    "compressor_gate": "attn.compressor.wgate",
    "compressor_norm": "attn.compressor.norm",
    "compressor_position": "attn.compressor.ape",
    "index_query": "attn.indexer.wq_b",
    "index_weights": "attn.indexer.weights_proj",
    "index_compressor_kv": "attn.indexer.compressor.wkv",
    "index_compressor_gate": "attn.indexer.compressor.wgate",
    "index_compressor_norm": "attn.indexer.compressor.norm",
    "index_compressor_position": "attn.indexer.compressor.ape",
    "ffn_norm": "ffn_norm",
    "router": "ffn.gate",
    "router_correction": "ffn.gate.bias",
    "router_table": "ffn.gate.tid2eid",
    "expert_gate": "ffn.experts.{expert}.w1",
    "expert_up": "ffn.experts.{expert}.w3",
    "expert_down": "ffn.experts.{expert}.w2",
    "shared_gate": "ffn.shared_experts.w1",
    "shared_up": "ffn.shared_experts.w3",
    "shared_down": "ffn.shared_experts.w2",
}
SPARSE, HEAVY = "compressed_sparse_attention", "heavily_compressed_attention"
KINDS = ("sliding_attention", SPARSE, HEAVY)
KEYS = {SPARSE: ("compress_rate_csa", 4), HEAVY: ("compress_rate_hca", 128)}


def rate(c: Config, layer: int) -> int:
    """Tokens to a compressed entry: by `layer_types` or `compress_ratios`; 0 is a window alone."""
    rates = c.lookup("compress_rates")
    kinds = c.layer_types("compress_ratios", known=KINDS)
    if kinds is not None:
        stated = rates.get(kinds[layer]) if isinstance(rates, dict) else None
        key, usual = KEYS.get(kinds[layer], ("", 0))
        return c._checked("compress_rates", stated) if stated else (c.size(key, usual) if key else 0)
    ratios = each(c, "compress_ratios", 0, 4, 128)
    if ratios is None:
        raise ConfigError(
            f"{c.label} says neither compress_ratios nor layer_types.", 'Add "compress_ratios".'
        )
    return int(ratios[layer])


def attention(c: Config, tokens: int) -> Block:
    """Attention with the window, and with a compressed entry for that many tokens unless 0."""
    c.read |= {"num_key_value_heads", "qk_rope_head_dim", "index_topk", "index_n_heads", "index_head_dim"}
    width, heads = c.hidden_size, c.num_attention_heads
    made = shared_vector_attention(
        width, heads, c.head_dim, c.q_lora_rank, c.o_groups, c.o_lora_rank, c.window()
    )
    if not tokens:
        return made
    chooses = tokens == KEYS[SPARSE][1]
    made += compressor(width, heads, c.head_dim, tokens, chooses)
    if chooses:
        made += compressed_indexer(
            width, c.q_lora_rank, c.index_n_heads, c.index_head_dim, tokens, c.index_topk, heads, c.head_dim
        )
    return made


def feed_forward(c: Config, layer: int) -> Block:
    c.read |= {"num_nextn_predict_layers", "intermediate_size", "hc_sinkhorn_iters"}
    kinds = each(c, "mlp_layer_types", "hash_moe", "moe")
    hashed = kinds.count("hash_moe") if kinds else c.number("num_hash_layers", 3)
    by_table = kinds[layer] == "hash_moe" if kinds and layer < len(kinds) else layer < hashed
    experts = moe(
        c.hidden_size,
        c.n_routed_experts,
        c.num_experts_per_tok,
        c.moe_intermediate_size,
        correction=not by_table,
        shared_ffn=c.number("n_shared_experts") * c.moe_intermediate_size,
    )
    return experts + hash_routing(c.vocab_size, c.num_experts_per_tok) if by_table else experts


def block(c: Config, layer: int, tokens: int | None = None) -> Block:
    tokens = rate(c, layer) if tokens is None else tokens
    mixed = [hyper_connection(role, c.hidden_size, c.hc_mult) for role in ("hc_attn", "hc_ffn")]
    return pre_norm(c, attention(c, tokens), feed_forward(c, layer)) + mixed[0] + mixed[1]


def head(c: Config) -> Block:
    before = hyper_connection("hc_head", c.hidden_size, c.hc_mult, mixing=False)
    return before + norm("final_norm", c.hidden_size) + unembed(c)


def mtp(c: Config) -> tuple[int, Block]:
    """A layer with the window alone, which reads four streams as the head does; tables are the model's."""
    module = prediction_module(c, block(c, c.num_hidden_layers, tokens=0), tables=False)
    module += hyper_connection("hc_head", c.hidden_size, c.hc_mult, mixing=False)
    return c.number("num_nextn_predict_layers", stated_only=True), module
