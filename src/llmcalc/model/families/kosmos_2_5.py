"""Kosmos 2.5: a decoder with a norm inside its MLP, an image encoder, and 2,048 queries between them."""

import sys

from llmcalc.catalog import Catalog
from llmcalc.model import families
from llmcalc.model.configuration import Config
from llmcalc.model.families._blocks import multi_head
from llmcalc.model.families.whisper import NAMES as WHISPER_NAMES
from llmcalc.model.inventory import Group
from llmcalc.model.layers import Block, embedding, mlp, norm
from llmcalc.model.layers import head as unembedding
from llmcalc.model.layers.encoders import linear, table, tower_attention, tower_mlp

PREFIX = "text_model.model.layers.{layer}"
NAMES = {
    **WHISPER_NAMES,
    "embedding": "text_model.model.embed_tokens",
    "segment": "text_model.model.segment_emb",
    "up": "ffn.fc1",
    "down": "ffn.fc2",
    "inner_norm": "ffn.ffn_layernorm",
    "final_norm": "text_model.model.layer_norm",
}
VISION = "vision_model."
VISION_NAMES = {
    "patch": "embeddings.patch_projection",
    "row": "embeddings.row_embedder",
    "column": "embeddings.column_embedder",
    "attn_norm": "pre_attention_layer_norm",
    "query": "attention.query",
    "key": "attention.key",
    "value": "attention.value",
    "output": "attention.output",
    "ffn_norm": "pre_mlp_layer_norm",
    "gate": "mlp.wi_0",
    "up": "mlp.wi_1",
    "down": "mlp.wo",
    "final_norm": "layernorm",
}
PROJECTOR_NAMES = {
    "latents": "latent_query",
    "project": "dense",
    "query": "x_attn.q_proj",
    "key": "x_attn.k_proj",
    "value": "x_attn.v_proj",
    "output": "x_attn.out_proj",
}


def embed(c: Config) -> Block:
    return embedding(c.vocab_size, c.hidden_size) + table("segment", 2, c.hidden_size)


def block(c: Config, layer: int) -> Block:
    width, ffn = c.hidden_size, c.size("ffn_dim")
    return (
        norm("attn_norm", width, True)
        + multi_head(c, bias=True, out_bias=True)
        + norm("ffn_norm", width, True)
        + mlp(width, ffn, gated=False, bias=True)
        + norm("inner_norm", ffn, True)
    )


def head(c: Config) -> Block:
    tied = c.flag("tie_word_embeddings", True)
    return norm("final_norm", c.hidden_size, True) + unembedding(c.vocab_size, c.hidden_size, tied=tied)


def tower_block(v: Config, layer: int) -> Block:
    width = v.hidden_size
    return (
        norm("attn_norm", width)
        + tower_attention(width, v.num_attention_heads, head_dim=v.head_dim, bias=False)
        + norm("ffn_norm", width)
        + tower_mlp(width, v.intermediate_size, gated=True, bias=False)
    )


def tower(v: Config) -> list[Group]:
    width, side = v.hidden_size, v.size("max_num_patches")
    before = (
        linear("patch", width, v.size("patch_embed_hidden_size"), bias=True)
        + table("row", side, width)
        + table("column", side, width)
        + norm("final_norm", width)
    )
    place = VISION + "encoder.layer.{layer}."
    return [
        families.outside("vision", "embedding", before, VISION, VISION_NAMES),
        *families.layers(tower_block, v, v.num_hidden_layers, "vision", place, VISION_NAMES),
    ]


def describe(c: Config, catalog: Catalog) -> list[Group]:
    text = families.part(c, "text_config", "kosmos_2_5_text_model", catalog, main=True)
    vision = families.part(c, "vision_config", "kosmos_2_5_vision_model", catalog)
    width = text.hidden_size
    between = (
        table("latents", c.size("latent_query_num"), width, part="")
        + linear("project", width, vision.hidden_size, bias=True)
        + tower_attention(width, text.num_attention_heads)
    )
    return [
        *families.decoder(sys.modules[__name__], text, c),
        *tower(vision),
        families.outside("projector", "embedding", between, "image_to_text_projection.", PROJECTOR_NAMES),
    ]
