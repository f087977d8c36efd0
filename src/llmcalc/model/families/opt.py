"""OPT: learned positions with two rows more; 350m embeds at half width and has no final norm."""

from llmcalc.model.configuration import Config
from llmcalc.model.families import unembed
from llmcalc.model.layers import Block, embedding, gqa, mlp, norm, positions, projection

PREFIX = "model.decoder.layers.{layer}"
NAMES = {
    "embedding": "model.decoder.embed_tokens",
    "position": "model.decoder.embed_positions",
    "attn_norm": "self_attn_layer_norm",
    "output": "self_attn.out_proj",
    "ffn_norm": "final_layer_norm",
    "up": "fc1",
    "down": "fc2",
    "final_norm": "model.decoder.final_layer_norm",
    "project_in": "model.decoder.project_in",
    "project_out": "model.decoder.project_out",
}
PADDING_ROWS = 2
"""OPT's position table starts at 2."""


def embed(c: Config) -> Block:
    width = c.optional("word_embed_proj_dim") or c.hidden_size
    table = embedding(c.vocab_size, width) + positions(
        c.max_position_embeddings + PADDING_ROWS, c.hidden_size
    )
    return table if width == c.hidden_size else table + projection("project_in", c.hidden_size, width)


def block(c: Config, layer: int) -> Block:
    bias = c.flag("enable_bias", True)
    affine = c.flag("layer_norm_elementwise_affine", True)
    heads = c.num_attention_heads
    return (
        norm("attn_norm", c.hidden_size, bias=True, weight=affine)
        + gqa(c.hidden_size, heads, heads, c.head_dim, bias=bias, out_bias=bias)
        + norm("ffn_norm", c.hidden_size, bias=True, weight=affine)
        + mlp(c.hidden_size, c.size("ffn_dim"), gated=False, bias=bias)
    )


def head(c: Config) -> Block:
    width = c.optional("word_embed_proj_dim") or c.hidden_size
    made: Block = ()
    if c.flag("do_layer_norm_before", True) and not c.flag("_remove_final_layer_norm"):
        made += norm(
            "final_norm", c.hidden_size, bias=True, weight=c.flag("layer_norm_elementwise_affine", True)
        )
    if width != c.hidden_size:
        made += projection("project_out", width, c.hidden_size)
    return made + unembed(c, width=width)
