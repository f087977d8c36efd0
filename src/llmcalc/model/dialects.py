"""Names of a tensor in each dialect: the Hugging Face checkpoint and GGUF.

Roles are ours; a family says where its modules or GGUF tensors are called otherwise than usual
(gguf-py, `constants.py`, table of tensor names).
"""

from __future__ import annotations

from collections.abc import Iterator

from llmcalc.model.inventory import Group, Inventory, Tensor

HUGGING_FACE = {
    "embedding": "model.embed_tokens",
    "final_norm": "model.norm",
    "unembedding": "lm_head",
    "classifier": "score",
    "attn_norm": "input_layernorm",
    "query": "self_attn.q_proj",
    "key": "self_attn.k_proj",
    "value": "self_attn.v_proj",
    "qkv": "self_attn.qkv_proj",
    "output": "self_attn.o_proj",
    "query_norm": "self_attn.q_norm",
    "key_norm": "self_attn.k_norm",
    "sinks": "self_attn.sinks",
    "query_a": "self_attn.q_a_proj",
    "query_a_norm": "self_attn.q_a_layernorm",
    "query_b": "self_attn.q_b_proj",
    "kv_a": "self_attn.kv_a_proj_with_mqa",
    "kv_a_norm": "self_attn.kv_a_layernorm",
    "kv_b": "self_attn.kv_b_proj",
    "ffn_norm": "post_attention_layernorm",
    "gate": "mlp.gate_proj",
    "up": "mlp.up_proj",
    "down": "mlp.down_proj",
    "gate_up": "mlp.gate_up_proj",
    "router": "mlp.gate",
    "router_correction": "mlp.gate.e_score_correction_bias",
    "expert_gate": "mlp.experts.{expert}.gate_proj",
    "expert_up": "mlp.experts.{expert}.up_proj",
    "expert_down": "mlp.experts.{expert}.down_proj",
    "shared_gate": "mlp.shared_experts.gate_proj",
    "shared_up": "mlp.shared_experts.up_proj",
    "shared_down": "mlp.shared_experts.down_proj",
    "shared_router": "mlp.shared_expert_gate",
}

GGUF = {
    "embedding": "token_embd",
    "position": "position_embd",
    "final_norm": "output_norm",
    "unembedding": "output",
    "attn_norm": "attn_norm",
    "mixer_norm": "attn_norm",
    "ln_attn": "attn_norm_2",
    "ln_mlp": "attn_norm",
    "query": "attn_q",
    "key": "attn_k",
    "value": "attn_v",
    "qkv": "attn_qkv",
    "output": "attn_output",
    "query_norm": "attn_q_norm",
    "key_norm": "attn_k_norm",
    "sinks": "attn_sinks",
    "query_a": "attn_q_a",
    "query_a_norm": "attn_q_a_norm",
    "query_b": "attn_q_b",
    "kv_a": "attn_kv_a_mqa",
    "kv_a_norm": "attn_kv_a_norm",
    "kv_b": "attn_kv_b",
    "key_b": "attn_k_b",
    "value_b": "attn_v_b",
    "post_attn_norm": "post_attention_norm",
    "ffn_norm": "ffn_norm",
    "post_ffn_norm": "post_ffw_norm",
    "gate": "ffn_gate",
    "up": "ffn_up",
    "down": "ffn_down",
    "gate_up": "ffn_up",
    "router": "ffn_gate_inp",
    "router_correction": "exp_probs_b",
    "expert_gate": "ffn_gate_exps",
    "expert_up": "ffn_up_exps",
    "expert_down": "ffn_down_exps",
    "shared_gate": "ffn_gate_shexp",
    "shared_up": "ffn_up_shexp",
    "shared_down": "ffn_down_shexp",
    "shared_router": "ffn_gate_inp_shexp",
    "ssm_in": "ssm_in",
    "conv": "ssm_conv1d",
    "dt_bias": "ssm_dt",
    "a_log": "ssm_a",
    "skip": "ssm_d",
    "ssm_norm": "ssm_norm",
    "delta_norm": "ssm_norm",
    "delta_ba": "ssm_ba",
    "delta_qkvz": "ssm_in",
    "ssm_out": "ssm_out",
    "delta_out": "ssm_out",
    "ssm_x": "ssm_x",
    "ssm_dt": "ssm_dt",
    "dt_norm": "ssm_dt_norm",
    "b_norm": "ssm_b_norm",
    "c_norm": "ssm_c_norm",
    "delta_qkv": "attn_qkv",
    "delta_query": "attn_q",
    "delta_key": "attn_k",
    "delta_value": "attn_v",
    "delta_gate": "attn_gate",
    "attn_gate": "attn_gate",
    "embed_norm": "token_embd_norm",
    "index_query": "indexer.attn_q_b",
    "index_key": "indexer.attn_k",
    "index_key_norm": "indexer.k_norm",
    "index_weights": "indexer.proj",
    "delta_gate_a": "ssm_g_a",
    "delta_gate_b": "ssm_g_b",
    "delta_forget_a": "ssm_f_a",
    "delta_forget_b": "ssm_f_b",
    "delta_a": "ssm_alpha",
    "delta_b": "ssm_beta",
    "conv_query": "ssm_conv1d_q",
    "conv_key": "ssm_conv1d_k",
    "conv_value": "ssm_conv1d_v",
    "short_in": "shortconv.in_proj",
    "short_conv": "shortconv.conv",
    "short_out": "shortconv.out_proj",
    "latent_down": "ffn_latent_down",
    "latent_up": "ffn_latent_up",
    "rope_freqs": "rope_freqs",
    "rope_factors_long": "rope_factors_long",
    "rope_factors_short": "rope_factors_short",
    "segment": "token_types",
    "relative_position": "attn_rel_b",
    "cross_norm": "cross_attn_norm",
    "cross_query": "cross_attn_q",
    "cross_key": "cross_attn_k",
    "cross_value": "cross_attn_v",
    "cross_output": "cross_attn_o",
    "layer_embedding": "per_layer_token_embd",
    "layer_projection": "per_layer_model_proj",
    "layer_projection_norm": "per_layer_proj_norm",
    "input_gate": "inp_gate",
    "input_projection": "proj",
    "input_norm": "post_norm",
    "layer_scalar": "layer_output_scale",
    "before_experts_norm": "pre_ffw_norm_2",
    "post_experts_norm": "post_ffw_norm_2",
    "dense_norm": "post_ffw_norm_1",
    "altup_scale": "altup_correct_scale",
    "altup_correct": "altup_correct_coef",
    "altup_predict": "altup_predict_coef",
    "altup_router": "altup_router",
    "altup_router_norm": "altup_router_norm",
    "laurel_left": "laurel_l",
    "laurel_right": "laurel_r",
    "laurel_norm": "laurel_post_norm",
    **{f"altup_in_{n}": f"altup_proj.{n}" for n in range(8)},
    **{f"altup_out_{n}": f"altup_unembd_proj.{n}" for n in range(8)},
}


PREDICTION = {
    "embedding_norm": ("enorm", "nextn.enorm"),
    "hidden_norm": ("hnorm", "nextn.hnorm"),
    "projection": ("eh_proj", "nextn.eh_proj"),
    "final_norm": ("shared_head.norm", "nextn.shared_head_norm"),
    "embedding": ("embed_tokens", "nextn.embed_tokens"),
    "unembedding": ("shared_head.head", "nextn.shared_head_head"),
}
"""What stands around the layer of a prediction module: its usual Hugging Face name, and GGUF's."""

GGUF_WHOLE = {
    "a_log": "ssm_a",
    "skip": "ssm_d",
    "dt_bias": "ssm_dt.bias",
    "router_correction": "exp_probs_b.bias",
    "router_scale": "ffn_gate_inp.scale",
    "router_output_scale": "ffn_down_exps.scale",
    "layer_scalar": "layer_output_scale.weight",
}
"""Bare parameters: names that take no ``.weight``."""


class NamedTensor:
    """One tensor of one layer with its names."""

    __slots__ = ("component", "dtype", "gguf", "layer", "name", "part", "role", "shape", "stored", "tag")

    def __init__(
        self,
        name: str,
        gguf: str | None,
        shape: tuple[int, ...],
        tensor: Tensor,
        component: str,
        layer: int | None,
    ) -> None:
        self.name, self.gguf, self.shape = name, gguf, shape
        self.role, self.part, self.tag = tensor.role, tensor.part, tensor.tag
        self.component, self.layer = component, layer
        self.dtype = tensor.dtype
        self.stored = _stored_as(name, len(tensor.dims) - len(shape), tensor)

    def __repr__(self) -> str:
        return f"<{self.name} {list(self.shape)}>"


def _module(group: Group, tensor: Tensor) -> str:
    return group.prefix + group.names.get(tensor.role, HUGGING_FACE.get(tensor.role, tensor.role))


def _stored_as(name: str, lead: int, tensor: Tensor) -> list[tuple[str, str, tuple[int, ...]]]:
    """Name, dtype and shape of each tensor stored in place of a quantized one."""
    stem = name.removesuffix(".weight")
    return [
        (
            f"{name}{part.part}" if part.part.startswith("_") else f"{stem}.{part.part}",
            part.dtype or "",
            part.shape[lead:],
        )
        for part in tensor.stored
    ]


def module_name(group: Group, tensor: Tensor, layer: int | None) -> str:
    """The Hugging Face module of a tensor: of experts the first."""
    return _module(group, tensor).replace("{layer}", str(layer)).replace("{expert}", "0")


def is_apart(group: Group, tensor: Tensor) -> bool:
    """Whether the checkpoint stores the experts of a tensor one by one."""
    return ".experts.{expert}." in _module(group, tensor)


def _suffix(module: str, tensor: Tensor) -> str:
    if ".experts." in module and "{expert}" not in module:  # fused experts are bare parameters
        return "_bias" if tensor.part == "bias" else ""
    return f".{tensor.part}" if tensor.part else ""


def named_tensors(inventory: Inventory) -> Iterator[NamedTensor]:
    """Every tensor of every layer, experts one by one where the checkpoint stores them so."""
    if inventory.is_opaque:
        return
    for group in inventory.groups:
        named: dict[tuple[str, str], int] = {}
        for tensor in group.tensors:
            module = _module(group, tensor)
            full = module + _suffix(module, tensor)
            apart = "{expert}" in module
            shape = tensor.shape[1:] if apart else tensor.shape
            # Experts of one layer may be stored in several ways, each a tensor of so many of them.
            first = named.get((tensor.role, tensor.part), 0)
            if apart:
                named[tensor.role, tensor.part] = first + tensor.dims[0][0][0][1]
            for layer in group.layers[: group.stored] or (None,):
                gguf = gguf_name(group, tensor, layer)
                name = full.replace("{layer}", str(layer))
                if not apart:
                    yield NamedTensor(name, gguf, shape, tensor, group.component, layer)
                    continue
                before, _, after = name.partition("{expert}")
                for expert in range(first, first + tensor.dims[0][0][0][1]):
                    one = f"{before}{expert}{after}"
                    yield NamedTensor(one, gguf, shape, tensor, group.component, layer)


def gguf_name(group: Group, tensor: Tensor, layer: int | None) -> str | None:
    """The GGUF tensor of a text layer or prediction module; None where llama.cpp has no name for the role.

    A family with two stacks says under ``gguf:stack`` what stands before the names of each.
    """
    word = group.names.get(f"gguf:{tensor.role}", GGUF.get(tensor.role))
    stack = group.names.get("gguf:stack", "")
    if group.component == "mtp" and tensor.role in PREDICTION:
        word = PREDICTION[tensor.role][1]
    if (group.component not in ("text", "mtp") and not stack) or (
        word is None and tensor.role not in GGUF_WHOLE
    ):
        return None
    alone = layer is None and tensor.role in ("embedding", "unembedding", "second_head")
    block = ("" if alone else stack) + (f"blk.{layer}." if layer is not None else "")
    if tensor.role in GGUF_WHOLE:
        return f"{block}{GGUF_WHOLE[tensor.role]}"
    return f"{block}{word}.{tensor.part or 'weight'}"
