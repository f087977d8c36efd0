"""A model of the catalog as llama.cpp reads it: its configuration as GGUF keys, and its tensors.

llama.cpp refuses a file whose tensors have other names or shapes than its own code expects, or more of them.
"""

from llmcalc.catalog import Catalog
from llmcalc.model.dialects import gguf_name
from llmcalc.precision.gguf import File

ARCHITECTURES = {
    "llama": "llama", "mixtral": "llama", "qwen2": "qwen2", "qwen3": "qwen3", "qwen3_moe": "qwen3moe",
    "deepseek_v2": "deepseek2", "deepseek_v3": "deepseek2", "glm4_moe": "glm4moe", "phi3": "phi3",
    "gemma": "gemma", "gemma2": "gemma2", "gemma3_text": "gemma3", "gemma4_text": "gemma4",
    "cohere2": "cohere2", "granite": "granite", "olmo2": "olmo2", "gpt_oss": "gpt-oss", "lfm2": "lfm2",
    "mamba": "mamba", "mamba2": "mamba2", "falcon_h1": "falcon-h1", "granitemoehybrid": "granitehybrid",
    "qwen3_next": "qwen3next", "qwen3_5_text": "qwen35",
}  # fmt: skip
"""llama.cpp's name of a `model_type`."""

FIXED = {
    "cohere2": {"attention.layer_norm_epsilon": 1e-5, "logit_scale": 0.25},
    "deepseek_v3": {"expert_weights_norm": True, "expert_group_count": 8, "expert_group_used_count": 4},
    "gemma4_text": {"final_logit_softcapping": 30.0},
    "glm4_moe": {"expert_gating_func": 2},
    "granite": {
        "logit_scale": 16.0, "residual_scale": 0.22, "embedding_scale": 12.0, "attention.scale": 0.0078125,
    },
    "granitemoehybrid": {"rope.scaling.finetuned": False},
    "qwen3_5_text": {"rope.dimension_sections": [11, 11, 10, 0]},
}  # fmt: skip
"""Keys that the catalog has no field for: they decide how llama.cpp calculates, not how much."""

ROTATED = {"qwen3_next": 4, "qwen3_5_text": 4, "glm4_moe": 2}
"""Where but one of so many elements of a head rotates."""

PREDICTED = {"glm4_moe": "num_nextn_predict_layers", "qwen3_5_text": "mtp_num_hidden_layers"}
"""How many prediction layers the file has, where it has them: they count as layers."""

EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts")


def metadata(name):
    """The keys that the converter writes of a model's sizes."""
    entry = Catalog.shipped().lookup("models", name)
    config = {**entry["config"], **entry["config"].get("text_config", {})}
    family = config["model_type"]
    keys = sizes(config) | experts(config) | attention(config) | state(config) | FIXED.get(family, {})
    if "layer_types" in config:
        keys |= per_layer(config)
    if family in PREDICTED:
        more = config[PREDICTED[family]]
        keys |= {"block_count": keys["block_count"] + more, "nextn_predict_layers": more}
    if family in ROTATED:
        keys["rope.dimension_count"] = config["head_dim"] // ROTATED[family]
    architecture = ARCHITECTURES[family]
    words = {"general.architecture": architecture, "tokenizer.ggml.model": "no_vocab"}
    return words | {f"{architecture}.{key}": given for key, given in keys.items()}


def per_layer(config):
    """What differs from layer to layer."""
    kinds, heads = config["layer_types"], config["num_key_value_heads"]
    if config["model_type"] in ("granitemoehybrid", "lfm2"):
        return {"attention.head_count_kv": [heads * (kind.endswith("attention")) for kind in kinds]}
    if config["model_type"] != "gemma4_text":
        return {}
    wide, narrow = config["global_head_dim"], config["head_dim"]
    of_full = config.get("num_global_key_value_heads") or heads
    windowed = [kind == "sliding_attention" for kind in kinds]
    return {
        "attention.sliding_window_pattern": windowed,
        "attention.head_count_kv": [heads if one else of_full for one in windowed],
        "attention.shared_kv_layers": config.get("num_kv_shared_layers") or 0,
        "embedding_length_per_layer_input": config.get("hidden_size_per_layer_input") or 0,
        **{f"attention.{part}_length": wide for part in ("key", "value")},
        **{f"attention.{part}_length_swa": narrow for part in ("key", "value")},
        "rope.dimension_count": wide,
        "rope.dimension_count_swa": narrow,
    }


def sizes(config):
    heads = config.get("num_attention_heads", 0)
    keys = {
        "vocab_size": config["vocab_size"],
        "context_length": config.get("max_position_embeddings", 131_072),
        "embedding_length": config["hidden_size"],
        "block_count": config["num_hidden_layers"],
        "feed_forward_length": feed_forward(config),
        "attention.head_count": heads,
        "attention.head_count_kv": config.get("num_key_value_heads", heads),
        "attention.layer_norm_rms_epsilon": 1e-6,
    }
    width = config.get("head_dim") or (config["hidden_size"] // heads if heads else 0)
    if heads:
        keys |= {
            "rope.dimension_count": width,
            "attention.key_length": width,
            "attention.value_length": width,
        }
    return keys


def feed_forward(config):
    width = config.get("intermediate_size", 0)
    if not config.get("block_auto_adjust_ff_dim"):
        return width
    step = config["block_multiple_of"]
    return -(-int(2 * width / 3 * config["block_ffn_dim_multiplier"]) // step) * step


def experts(config):
    many = next((config[key] for key in EXPERTS if config.get(key)), 0)
    if not many:
        return {}
    shared = config.get("shared_intermediate_size") or config.get("shared_expert_intermediate_size")
    return {
        "expert_count": many,
        "expert_used_count": config["num_experts_per_tok"],
        "expert_feed_forward_length": config.get("moe_intermediate_size") or config["intermediate_size"],
        "expert_shared_feed_forward_length": shared or 0,
        "expert_shared_count": config.get("n_shared_experts", 0),
        "leading_dense_block_count": config.get("first_k_dense_replace", 0),
    }


def attention(config):
    """Windows, soft caps and latents."""
    keys = {}
    if config.get("sliding_window") and config.get("use_sliding_window") is not False:
        keys["attention.sliding_window"] = config["sliding_window"]
    if config.get("kv_lora_rank"):
        latent, rotated = config["kv_lora_rank"], config["qk_rope_head_dim"]
        keys |= {
            "attention.head_count_kv": 1,
            "attention.q_lora_rank": config.get("q_lora_rank") or 0,
            "attention.kv_lora_rank": latent,
            "attention.key_length": latent + rotated,
            "attention.value_length": latent,
            "attention.key_length_mla": config["qk_nope_head_dim"] + rotated,
            "attention.value_length_mla": config["v_head_dim"],
            "rope.dimension_count": rotated,
            "expert_weights_scale": 1.0,
            "expert_gating_func": 2 if config["model_type"] == "deepseek_v3" else 1,
        }
    return keys


def state(config):
    """Of recurrent layers: kernel, width, state, heads and groups."""
    if config["model_type"] == "lfm2":
        return {"shortconv.l_cache": config["conv_L_cache"]}
    if config["model_type"] == "mamba":
        return {
            "ssm.conv_kernel": config["conv_kernel"],
            "ssm.inner_size": config["intermediate_size"],
            "ssm.state_size": config["state_size"],
            "ssm.time_step_rank": -(-config["hidden_size"] // 16),
        }
    if config["model_type"] == "mamba2":
        names = ("conv_kernel", "head_dim", "state_size", "num_heads", "n_groups")
    elif "linear_conv_kernel_dim" in config:
        names = ("conv_kernel_dim", "value_head_dim", "key_head_dim", "num_value_heads", "num_key_heads")
        names = tuple(f"linear_{name}" for name in names)
    elif "mamba_d_state" in config:
        names = ("mamba_d_conv", "mamba_d_head", "mamba_d_state", "mamba_n_heads", "mamba_n_groups")
    else:
        return {}
    kernel, width, states, heads, groups = (config[name] for name in names)
    return {
        "ssm.conv_kernel": kernel,
        "ssm.inner_size": heads * width,
        "ssm.state_size": states,
        "ssm.time_step_rank": heads,
        "ssm.group_count": groups,
    }


def tensors(inventory, file_type):
    """Name, shape and type of every tensor, as the converter writes them."""
    file = File(file_type).apply(inventory, "bf16")
    return [
        (spelled(inventory.family, gguf_name(group, tensor, layer)), shaped(inventory, tensor), tensor.dtype)
        for group in file.groups
        for layer in (group.layers or (None,))
        for tensor in group.tensors
    ]


def spelled(family, name):
    return name.removesuffix(".weight") if family == "falcon_h1" and ".ffn_norm." in name else name


def shaped(inventory, tensor):
    """The shape in the file, where ggml has no place for an axis of one, or makes one."""
    shape = tensor.shape
    if tensor.role in ("conv", "short_conv") and tensor.part == "weight":
        return (shape[0], shape[-1])
    if tensor.role == "shared_router":
        return shape[-1:]
    if inventory.family not in ("mamba2", "falcon_h1", "granitemoehybrid"):
        return shape
    if tensor.role in ("a_log", "skip"):
        return (*shape, 1)
    return (1, *shape) if tensor.role == "ssm_norm" else shape
