"""Configurations of tiny models, as their classes in transformers take them."""

SMALL = {"h": 128, "a": 8, "kv": 4, "d": 16, "f": 384, "v": 512, "batch": 2, "seq": 64}
WIDE = {"h": 192, "a": 6, "kv": 2, "d": 32, "f": 448, "v": 640, "batch": 1, "seq": 96}
FULL_HEADS = {"h": 256, "a": 8, "kv": 8, "d": 32, "f": 640, "v": 768, "batch": 3, "seq": 40}
SHAPES = (SMALL, WIDE, FULL_HEADS)
"""Widths, heads, vocabulary, and what is run: sequences and their tokens."""


def usual(s, **more):
    """Fields that most families share."""
    return {
        "hidden_size": s["h"],
        "num_attention_heads": s["a"],
        "num_key_value_heads": s["kv"],
        "vocab_size": s["v"],
        "intermediate_size": s["f"],
        "max_position_embeddings": 4096,
        "tie_word_embeddings": False,
        **more,
    }


def headed(s, **more):
    """The same with the width of a head, where it is a field."""
    return usual(s, head_dim=s["d"], **more)


def mixed(kinds, n=4):
    """Kinds of layers in turn."""
    return [kinds[i % len(kinds)] for i in range(n)]


def latent(s, kind):
    """DeepSeek: equal widths of values and of queries on the small shape, others on the rest."""
    value = s["d"] + 16 if s is SMALL else s["d"]
    fields = usual(
        s,
        kv_lora_rank=48,
        q_lora_rank=None if s is WIDE else 56,
        qk_nope_head_dim=s["d"],
        qk_rope_head_dim=16,
        v_head_dim=value,
        n_routed_experts=4,
        n_shared_experts=1,
        num_experts_per_tok=2,
        moe_intermediate_size=96,
        first_k_dense_replace=1,
        n_group=2,
        topk_group=1,
        norm_topk_prob=True,
        routed_scaling_factor=1.0,
    )
    fields["num_key_value_heads"] = s["a"]
    if kind == "deepseek_v2":
        fields |= {"topk_method": "group_limited_greedy"}
    return fields


def mamba2(s):
    """Mamba-2, without attention."""
    return {
        "hidden_size": s["h"],
        "vocab_size": s["v"],
        "num_heads": 2 * s["h"] // 32,
        "head_dim": 32,
        "expand": 2,
        "state_size": 16,
        "n_groups": 2,
        "conv_kernel": 4,
        "chunk_size": 16,
        "use_conv_bias": True,
        "use_bias": False,
        "tie_word_embeddings": False,
        "rms_norm": True,
    }


def falcon_h1(s):
    """Attention and a state space side by side."""
    return headed(
        s,
        mamba_d_ssm=2 * s["h"],
        mamba_n_heads=2 * s["h"] // 32,
        mamba_d_head=32,
        mamba_n_groups=1,
        mamba_d_state=16,
        mamba_d_conv=4,
        mamba_chunk_size=16,
        mamba_expand=2,
        mamba_conv_bias=True,
        mamba_proj_bias=False,
        mamba_rms_norm=False,
        mamba_norm_before_gate=True,
        projectors_bias=False,
    )


def qwen3_next(s):
    """Gated delta rule and gated attention in turn, all with experts."""
    return headed(
        s,
        layer_types=mixed(["full_attention", "linear_attention"]),
        linear_num_value_heads=4,
        linear_num_key_heads=2,
        linear_key_head_dim=16,
        linear_value_head_dim=16,
        linear_conv_kernel_dim=4,
        num_experts=4,
        num_experts_per_tok=2,
        moe_intermediate_size=96,
        shared_expert_intermediate_size=112,
        decoder_sparse_step=1,
        norm_topk_prob=True,
        mlp_only_layers=[],
        partial_rotary_factor=0.25,
    )


FAMILIES = {
    "gemma": lambda s: headed(s, hidden_activation="gelu_pytorch_tanh"),
    "gemma2": lambda s: headed(
        s,
        layer_types=mixed(["sliding_attention", "full_attention"]),
        sliding_window=4096,
        query_pre_attn_scalar=s["d"],
        hidden_activation="gelu_pytorch_tanh",
    ),
    "gemma3_text": lambda s: headed(
        s,
        layer_types=mixed(["sliding_attention", "full_attention"]),
        sliding_window=32 if s is SMALL else 4096,
        query_pre_attn_scalar=s["d"],
        hidden_activation="gelu_pytorch_tanh",
    ),
    "phi3": lambda s: usual(s, sliding_window=None, pad_token_id=0, resid_pdrop=0.0, embd_pdrop=0.0),
    "qwen3_moe": lambda s: headed(
        s,
        num_experts=4,
        num_experts_per_tok=2,
        moe_intermediate_size=96,
        decoder_sparse_step=1,
        norm_topk_prob=True,
        mlp_only_layers=[],
        sliding_window=None,
        use_sliding_window=False,
    ),
    "deepseek_v2": lambda s: latent(s, "deepseek_v2"),
    "deepseek_v3": lambda s: latent(s, "deepseek_v3"),
    "gpt_neox": lambda s: {
        "hidden_size": s["h"],
        "num_attention_heads": s["a"],
        "intermediate_size": s["f"],
        "vocab_size": s["v"],
        "max_position_embeddings": 4096,
        "tie_word_embeddings": False,
        "use_parallel_residual": s is not WIDE,
        "rotary_pct": 0.25,
        "attention_dropout": 0.0,
        "hidden_dropout": 0.0,
        "hidden_act": "gelu",
        "attention_bias": True,
    },
    "mamba2": mamba2,
    "olmo2": lambda s: usual(s),
    "gpt_oss": lambda s: headed(
        s,
        layer_types=mixed(["sliding_attention", "full_attention"]),
        sliding_window=32 if s is SMALL else 4096,
        num_local_experts=4,
        num_experts_per_tok=2,
    ),
    "falcon": lambda s: {
        "hidden_size": s["h"],
        "num_attention_heads": s["a"],
        "vocab_size": s["v"],
        "ffn_hidden_size": 4 * s["h"],
        "tie_word_embeddings": False,
        "multi_query": True,
        "new_decoder_architecture": s is WIDE,
        "num_kv_heads": s["kv"],
        "parallel_attn": s is not FULL_HEADS,
        "bias": s is FULL_HEADS,
        "alibi": False,
        "attention_dropout": 0.0,
        "hidden_dropout": 0.0,
        "max_position_embeddings": 4096,
    },
    "phi": lambda s: usual(
        s, hidden_act="gelu_new", partial_rotary_factor=0.5, resid_pdrop=0.0, embd_pdrop=0.0
    ),
    "cohere": lambda s: usual(s, use_qk_norm=s is WIDE, logit_scale=0.0625),
    "starcoder2": lambda s: usual(
        s,
        hidden_act="gelu_pytorch_tanh",
        use_bias=True,
        residual_dropout=0.0,
        embedding_dropout=0.0,
        sliding_window=None,
    ),
    "glm4": lambda s: headed(s, attention_bias=True, partial_rotary_factor=0.5, pad_token_id=0),
    "granite": lambda s: usual(s, embedding_multiplier=12.0, residual_multiplier=0.22, logits_scaling=8.0),
    "qwen3_next": qwen3_next,
    "falcon_h1": falcon_h1,
    "lfm2": lambda s: usual(
        s,
        layer_types=mixed(["full_attention", "conv"]),
        conv_L_cache=3,
        conv_bias=False,
        block_auto_adjust_ff_dim=False,
        norm_eps=1e-5,
    ),
    "llama": lambda s: usual(s),
    "qwen3": lambda s: headed(s, sliding_window=None, use_sliding_window=False),
    "mistral": lambda s: headed(s, sliding_window=32),
    "mixtral": lambda s: headed(s, num_local_experts=4, num_experts_per_tok=2, sliding_window=None),
    "qwen2": lambda s: usual(s, sliding_window=None, use_sliding_window=False),
}
"""Fields of a configuration by `model_type`, for a shape."""
