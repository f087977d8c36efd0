"""Dia: a text encoder and a speech decoder that writes nine channels of codes at once."""

from llmcalc.catalog import Catalog
from llmcalc.model import families
from llmcalc.model.configuration import Config
from llmcalc.model.families._blocks import dense, grouped
from llmcalc.model.inventory import Group
from llmcalc.model.layers import Block, embedding, norm, projection
from llmcalc.model.layers.encoders import cross_attention, table

ENCODER, DECODER = "model.encoder.", "model.decoder."
NAMES = {
    "code_embedding": "embeddings.embed",
    "embedding": "embedding",
    "attn_norm": "pre_sa_norm",
    "query": "self_attention.q_proj",
    "key": "self_attention.k_proj",
    "value": "self_attention.v_proj",
    "output": "self_attention.o_proj",
    "cross_norm": "pre_ca_norm",
    "cross_query": "cross_attention.q_proj",
    "cross_key": "cross_attention.k_proj",
    "cross_value": "cross_attention.v_proj",
    "cross_output": "cross_attention.o_proj",
    "final_norm": "norm",
    "code_head": "logits_dense",
}


def encoder_block(e: Config, layer: int) -> Block:
    width = e.hidden_size
    made = norm("attn_norm", width) + grouped(e, cached=False)
    return made + norm("ffn_norm", width) + dense(e, fused=True)


def block(c: Config, layer: int) -> Block:
    width = c.hidden_size
    cross = cross_attention(
        width,
        c.size("cross_num_attention_heads"),
        c.size("cross_num_key_value_heads"),
        c.size("cross_head_dim"),
        source=c.size("cross_hidden_size"),
    )
    return (
        norm("attn_norm", width)
        + grouped(c)
        + norm("cross_norm", width)
        + cross
        + norm("ffn_norm", width)
        + dense(c, fused=True)
    )


def describe(c: Config, catalog: Catalog) -> list[Group]:
    encoder = families.part(c, "encoder_config", "dia_encoder", catalog)
    decoder = families.part(c, "decoder_config", "dia_decoder", catalog, main=True)
    c.read |= {"delay_pattern"}
    encoder.read |= {"max_position_embeddings"}
    codes = decoder.size("num_channels") * decoder.vocab_size
    inner, outer = {**NAMES, "ffn_norm": "post_sa_norm"}, {**NAMES, "ffn_norm": "pre_mlp_norm"}
    head = projection("code_head", codes, decoder.hidden_size, out_axis="vocab")
    words, width = embedding(encoder.vocab_size, encoder.hidden_size), decoder.hidden_size
    return [
        families.outside("encoder", "embedding", words, ENCODER, inner),
        *families.layers(
            encoder_block, encoder, encoder.num_hidden_layers, "encoder", ENCODER + "layers.{layer}.", inner
        ),
        families.outside("encoder", "embedding", norm("final_norm", encoder.hidden_size), ENCODER, inner),
        families.outside("text", "embedding", table("code_embedding", codes, width), DECODER, outer),
        *families.layers(
            block, decoder, decoder.num_hidden_layers, "text", DECODER + "layers.{layer}.", outer
        ),
        families.outside("text", "head", norm("final_norm", width), DECODER, outer),
        families.outside("text", "head", head, "", outer),
    ]
