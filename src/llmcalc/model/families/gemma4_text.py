"""Gemma 4, the text model: windows with a full layer between, of another head width.

Small ones add an embedding for each layer and let the last layers read the caches of earlier ones;
large ones make keys and values of one matrix in full layers; one runs experts beside its dense MLP.
"""

from llmcalc.model.configuration import Config
from llmcalc.model.families import gemma2
from llmcalc.model.families._blocks import windowed
from llmcalc.model.layers import Block, embedding, mlp, moe, norm
from llmcalc.model.layers.encoders import buffer
from llmcalc.model.layers.sharing import layer_embeddings, layer_input, router_scales, sharing_attention

NAMES = {
    **gemma2.NAMES,
    "layer_embedding": "model.embed_tokens_per_layer",
    "layer_projection": "model.per_layer_model_projection",
    "layer_projection_norm": "model.per_layer_projection_norm",
    "input_gate": "per_layer_input_gate",
    "input_projection": "per_layer_projection",
    "input_norm": "post_per_layer_input_norm",
    "dense_norm": "post_feedforward_layernorm_1",
    "before_experts_norm": "pre_feedforward_layernorm_2",
    "post_experts_norm": "post_feedforward_layernorm_2",
    "router": "router.proj",
    "router_scale": "router.scale",
    "router_output_scale": "router.per_expert_scale",
    "expert_gate_up": "experts.gate_up_proj",
    "gguf:expert_gate_up": "ffn_gate_up_exps",
    "gguf:dense": "yes",
    "expert_down": "experts.down_proj",
}
GLOBAL_HEAD_DIM = 512
"""Head width of full layers where the file omits it: transformers, Gemma4TextConfig."""


def is_windowed(c: Config, layer: int) -> bool:
    # The last layer is full whatever the list says.
    last = layer == c.num_hidden_layers - 1
    return windowed(c, layer, "sliding_window_pattern") and not last


def borrows(c: Config, layer: int) -> bool:
    """Whether a layer reads the cache of an earlier layer of its kind."""
    return bool(layer >= c.num_hidden_layers - c.number("num_kv_shared_layers"))


def attention(c: Config, layer: int) -> Block:
    sliding, window = is_windowed(c, layer), c.window()
    heads, width = c.num_key_value_heads, c.head_dim
    wide, few = c.size("global_head_dim", GLOBAL_HEAD_DIM), c.optional("num_global_key_value_heads")
    as_values = c.flag("attention_k_eq_v")
    if not sliding:
        width = wide
        heads = few if few and as_values else heads
    return sharing_attention(
        c.hidden_size,
        c.num_attention_heads,
        heads,
        width,
        bias=c.flag("attention_bias"),
        window=window if sliding else None,
        one_projection=as_values and not sliding,
        borrowed=borrows(c, layer),
    )


def feed_forward(c: Config, layer: int) -> Block:
    """The dense MLP, with routed experts beside it in one of the sizes."""
    width = c.hidden_size
    double = c.flag("use_double_wide_mlp") and borrows(c, layer)
    made = norm("ffn_norm", width) + mlp(width, c.intermediate_size * (2 if double else 1))
    c.read |= {"num_experts", "top_k_experts", "moe_intermediate_size"}
    if not c.flag("enable_moe_block"):
        return made
    experts = moe(
        width, c.num_experts, c.size("top_k_experts"), c.moe_intermediate_size, fused=True, upright=True
    )
    return (
        made
        + norm("dense_norm", width)
        + norm("before_experts_norm", width)
        + experts
        + router_scales(width, c.num_experts)
        + norm("post_experts_norm", width)
    )


def embed(c: Config) -> Block:
    made = embedding(c.vocab_size, c.hidden_size)
    own, rows = c.optional("hidden_size_per_layer_input"), c.size("vocab_size_per_layer_input", c.vocab_size)
    if own:
        made += layer_embeddings(rows, c.num_hidden_layers, own, c.hidden_size)
    return made


def block(c: Config, layer: int) -> Block:
    width, own = c.hidden_size, c.optional("hidden_size_per_layer_input")
    made = norm("attn_norm", width) + attention(c, layer) + norm("post_attn_norm", width)
    made += feed_forward(c, layer) + norm("post_ffn_norm", width)
    if own:
        made += layer_input(width, own)
    return made + buffer("layer_scalar", 1)
