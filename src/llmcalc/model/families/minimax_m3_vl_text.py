"""MiniMax M3, the text model: q/k norms per head; most layers choose blocks of positions by an indexer.

Dense first layers, then experts with a shared one.
"""

from collections.abc import Mapping
from typing import Any

from llmcalc.model.configuration import Config
from llmcalc.model.families._blocks import each, grouped, pre_norm
from llmcalc.model.families.minimax_m2 import NAMES as M2_NAMES
from llmcalc.model.layers import Block, mlp, moe
from llmcalc.model.layers.variants import block_indexer

NAMES = {
    **M2_NAMES,
    "index_query": "self_attn.index_q_proj",
    "index_key": "self_attn.index_k_proj",
    "index_query_norm": "self_attn.index_q_norm",
    "index_key_norm": "self_attn.index_k_norm",
    "shared_gate": "block_sparse_moe.shared_experts.gate_proj",
    "shared_up": "block_sparse_moe.shared_experts.up_proj",
    "shared_down": "block_sparse_moe.shared_experts.down_proj",
}
SPARSE = "minimax_m3_sparse"


def indexed(c: Config) -> Mapping[str, Any]:
    """`sparse_attention_config`, which the class spreads over keys of its own; empty where absent."""
    stated = c.lookup("sparse_attention_config")
    return stated if isinstance(stated, dict) else {}


def attention(c: Config, layer: int) -> Block:
    c.read |= {
        "index_n_heads",
        "index_head_dim",
        "index_block_size",
        "index_topk_blocks",
        "index_local_blocks",
    }
    made = grouped(c, qk_norm="head" if c.flag("use_qk_norm", True) else "")
    kinds, older = c.layer_types(known=("full_attention", SPARSE)), indexed(c)
    if kinds is not None:
        chooses = kinds[layer] == SPARSE
    else:
        listed = older.get("sparse_attention_freq")
        chooses = isinstance(listed, list) and layer < len(listed) and bool(listed[layer])
    if not chooses:
        return made
    heads, width = older.get("sparse_num_index_heads"), older.get("sparse_index_dim")
    return made + block_indexer(
        c.hidden_size,
        c._checked("sparse_num_index_heads", heads) if heads else c.index_n_heads,
        c._checked("sparse_index_dim", width) if width else c.index_head_dim,
    )


def feed_forward(c: Config, layer: int) -> Block:
    c.read |= {"dense_intermediate_size", "first_k_dense_replace", "moe_intermediate_size"}
    c.read |= {"num_mtp_modules", "num_nextn_predict_layers", "mtp_transformer_layers"}
    words, numbers = each(c, "mlp_layer_types", "dense", "sparse"), each(c, "moe_layer_freq", 0, 1)
    dense = words[layer] == "dense" if words is not None else numbers is not None and not numbers[layer]
    if dense:
        return mlp(c.hidden_size, c.dense_intermediate_size)
    return moe(
        c.hidden_size,
        c.num_local_experts,
        c.num_experts_per_tok,
        c.intermediate_size,
        correction=True,
        shared_ffn=c.number("n_shared_experts", 1) * c.number("shared_intermediate_size"),
    )


def block(c: Config, layer: int) -> Block:
    return pre_norm(c, attention(c, layer), feed_forward(c, layer))
