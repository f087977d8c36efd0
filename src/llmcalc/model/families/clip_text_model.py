"""CLIP's text encoder: learned positions, LayerNorms, biases; no KV cache."""

from llmcalc.model.configuration import Config
from llmcalc.model.families._blocks import dense, multi_head, pre_norm
from llmcalc.model.families.gemma3 import TOWER_NAMES
from llmcalc.model.layers import Block, embedding, norm, positions, projection

PREFIX = "text_model.encoder.layers.{layer}"
NAMES = {
    **TOWER_NAMES,
    "embedding": "text_model.embeddings.token_embedding",
    "position": "text_model.embeddings.position_embedding",
    "final_norm": "text_model.final_layer_norm",
    "text_projection": "text_projection",
}


def embed(c: Config) -> Block:
    return embedding(c.vocab_size, c.hidden_size) + positions(c.max_position_embeddings, c.hidden_size)


def block(c: Config, layer: int) -> Block:
    c.read |= {"projection_dim"}
    attention = multi_head(c, bias=True, out_bias=True, cached=False)
    return pre_norm(c, attention, dense(c, gated=False, bias=True), bias=True)


def head(c: Config) -> Block:
    made = norm("final_norm", c.hidden_size, True)
    if c.architecture.endswith("WithProjection"):
        made += projection("text_projection", c.size("projection_dim"), c.hidden_size)
    return made
