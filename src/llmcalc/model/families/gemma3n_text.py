"""Gemma 3n, the text model: four streams of residuals, an embedding for each layer, shared caches.

The last layers read the caches of earlier ones and remember nothing themselves.
"""

from llmcalc.model.configuration import Config
from llmcalc.model.families import gemma4_text, unembed
from llmcalc.model.families._blocks import at, windowed
from llmcalc.model.families.gemma4_text import borrows
from llmcalc.model.layers import Block, embedding, mlp, norm, projection
from llmcalc.model.layers.sharing import (
    alternating_updates,
    laurel,
    layer_embeddings,
    layer_input,
    sharing_attention,
)

NAMES = {
    **gemma4_text.NAMES,
    "altup_scale": "altup.correct_output_scale",
    "altup_correct": "altup.correction_coefs",
    "altup_predict": "altup.prediction_coefs",
    "altup_router": "altup.modality_router",
    "altup_router_norm": "altup.router_norm",
    "laurel_left": "laurel.linear_left",
    "laurel_right": "laurel.linear_right",
    "laurel_norm": "laurel.post_laurel_norm",
    **{f"altup_in_{n}": f"model.altup_projections.{n}" for n in range(8)},
    **{f"altup_out_{n}": f"model.altup_unembed_projections.{n}" for n in range(8)},
}
PATTERN = 5
"""Every fifth layer is full: the makers' own files, 2025."""


def embed(c: Config) -> Block:
    width, streams = c.hidden_size, c.size("altup_num_inputs")
    made = embedding(c.vocab_size, width)
    made += layer_embeddings(
        c.size("vocab_size_per_layer_input"),
        c.num_hidden_layers,
        c.size("hidden_size_per_layer_input"),
        width,
    )
    for one in range(streams - 1):
        made += projection(f"altup_in_{one}", width, width)
    return made


def block(c: Config, layer: int) -> Block:
    c.read |= {"altup_active_idx", "activation_sparsity_pattern"}
    width, window = c.hidden_size, c.window()
    sliding = windowed(c, layer, "sliding_window_pattern", known=PATTERN)
    attention = sharing_attention(
        width,
        c.num_attention_heads,
        c.num_key_value_heads,
        c.head_dim,
        bias=c.flag("attention_bias"),
        window=window if sliding else None,
        borrowed=borrows(c, layer),
    )
    return (
        alternating_updates(width, c.size("altup_num_inputs"))
        + norm("attn_norm", width)
        + laurel(width, c.size("laurel_rank"))
        + attention
        + norm("post_attn_norm", width)
        + norm("ffn_norm", width)
        + mlp(width, at(c, "intermediate_size", layer))
        + norm("post_ffn_norm", width)
        + layer_input(width, c.size("hidden_size_per_layer_input"))
    )


def head(c: Config) -> Block:
    made: Block = ()
    for one in range(c.size("altup_num_inputs") - 1):
        made += projection(f"altup_out_{one}", c.hidden_size, c.hidden_size)
    return made + norm("final_norm", c.hidden_size) + unembed(c)
