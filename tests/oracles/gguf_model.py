"""A model of the catalog as llama.cpp reads it: its configuration as GGUF keys, and its tensors.

llama.cpp refuses a file whose tensors have other names or shapes than its own code expects, or more of them.
"""

from llmcalc.catalog import Catalog
from llmcalc.model.dialects import gguf_name
from llmcalc.precision.gguf import File

ARCHITECTURES = {
    "llama": "llama", "mixtral": "llama", "qwen2": "qwen2", "qwen3": "qwen3", "qwen3_moe": "qwen3moe",
    "deepseek_v2": "deepseek2", "deepseek_v3": "deepseek2", "gemma2": "gemma2", "gemma3_text": "gemma3",
    "gpt_oss": "gpt-oss", "mamba2": "mamba2", "falcon_h1": "falcon-h1", "granitemoehybrid": "granitehybrid",
    "qwen3_next": "qwen3next",
}  # fmt: skip
"""llama.cpp's name of a `model_type`."""

EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts")


def metadata(name):
    """The keys that the converter writes of a model's sizes."""
    entry = Catalog.shipped().lookup("models", name)
    config = {**entry["config"], **entry["config"].get("text_config", {})}
    family = config["model_type"]
    architecture = ARCHITECTURES[family]
    keys = sizes(config) | experts(config) | attention(config) | state(config)
    if family == "granitemoehybrid":
        heads = config["num_key_value_heads"]
        keys["attention.head_count_kv"] = [heads * (kind == "attention") for kind in config["layer_types"]]
        keys["rope.scaling.finetuned"] = False
    if family == "qwen3_next":
        keys["rope.dimension_count"] = config["head_dim"] // 4
    words = {"general.architecture": architecture, "tokenizer.ggml.model": "no_vocab"}
    return words | {f"{architecture}.{key}": given for key, given in keys.items()}


def sizes(config):
    heads = config.get("num_attention_heads", 0)
    keys = {
        "vocab_size": config["vocab_size"],
        "context_length": config.get("max_position_embeddings", 131_072),
        "embedding_length": config["hidden_size"],
        "block_count": config["num_hidden_layers"],
        "feed_forward_length": config.get("intermediate_size", 0),
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


def experts(config):
    many = next((config[key] for key in EXPERTS if config.get(key)), 0)
    if not many:
        return {}
    shared = config.get("shared_intermediate_size") or config.get("shared_expert_intermediate_size")
    return {
        "expert_count": many,
        "expert_used_count": config["num_experts_per_tok"],
        "expert_feed_forward_length": config.get("moe_intermediate_size") or config["intermediate_size"],
        **({"expert_shared_feed_forward_length": shared} if shared else {}),
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
            "leading_dense_block_count": config["first_k_dense_replace"],
            "expert_shared_count": config["n_shared_experts"],
            "expert_weights_scale": 1.0,
            "expert_gating_func": 2 if config["model_type"] == "deepseek_v3" else 1,
        }
    return keys


def state(config):
    """Of recurrent layers: kernel, width, state, heads and groups."""
    if config["model_type"] == "mamba2":
        names = ("conv_kernel", "head_dim", "state_size", "num_heads", "n_groups")
    elif config["model_type"] == "qwen3_next":
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
    if tensor.role == "conv" and tensor.part == "weight":
        return (shape[0], shape[-1])
    if tensor.role == "shared_router":
        return shape[-1:]
    if inventory.family == "qwen3_next":
        return shape
    if tensor.role in ("a_log", "skip"):
        return (*shape, 1)
    return (1, *shape) if tensor.role == "ssm_norm" else shape
