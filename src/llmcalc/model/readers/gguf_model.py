"""A GGUF header as an inventory: roles from tensor names, caches from the metadata.

A GGUF names every tensor by its role, so the tensors need no family. What must be remembered is in the
metadata and in what llama.cpp knows of the architecture (`gguf_caches`).
"""

from __future__ import annotations

import os
import re
from typing import Any

from llmcalc.catalog import Catalog
from llmcalc.errors import ConfigError
from llmcalc.model.dialects import GGUF, GGUF_WHOLE
from llmcalc.model.inventory import LOADED, Cache, Dim, Group, Inventory, Op, Tensor, dim
from llmcalc.model.readers.gguf import Header, read_header
from llmcalc.model.readers.gguf_caches import Memory, number
from llmcalc.model.readers.stored import StoredTensor

ROLES = {word: role for role, word in reversed(GGUF.items())} | {"ssm_dt": "ssm_dt"}
WHOLE = {word: role for role, word in GGUF_WHOLE.items()}
DELTA = {
    "attn_qkv": "delta_qkv", "attn_gate": "delta_gate", "ssm_out": "delta_out", "ssm_norm": "delta_norm",
}  # fmt: skip
KIMI_DELTA = {
    "attn_q": "delta_query", "attn_k": "delta_key", "attn_v": "delta_value", "attn_output": "delta_out",
    "ssm_norm": "delta_norm",
}  # fmt: skip
"""Roles of a delta net, where its tensors have the names of attention's or of a state space's."""

OUT_AXES = {
    "query": "heads", "key": "kv_heads", "value": "kv_heads", "gate": "ffn", "up": "ffn", "gate_up": "ffn",
    "expert_gate": "ffn", "expert_up": "ffn", "shared_gate": "ffn", "shared_up": "ffn", "embedding": "vocab",
    "unembedding": "vocab", "query_b": "heads", "kv_b": "heads",
}  # fmt: skip
IN_AXES = {"output": "heads", "down": "ffn", "expert_down": "ffn", "shared_down": "ffn"}
BUFFERS = ("rope_freqs", "rope_factors_long", "rope_factors_short", "exp_probs_b")


FILE_TYPES = {
    2: "q4_0", 3: "q4_1", 7: "q8_0", 8: "q5_0", 9: "q5_1", 10: "q2_k", 11: "q3_k_s", 12: "q3_k_m",
    13: "q3_k_l", 14: "q4_k_s", 15: "q4_k_m", 16: "q5_k_s", 17: "q5_k_m", 18: "q6_k", 19: "iq2_xxs",
    20: "iq2_xs", 21: "q2_k_s", 22: "iq3_xs", 23: "iq3_xxs", 24: "iq1_s", 25: "iq4_nl", 26: "iq3_s",
    27: "iq3_m", 28: "iq2_s", 29: "iq2_m", 30: "iq4_xs", 31: "iq1_m", 36: "tq1_0", 37: "tq2_0",
    38: "mxfp4_moe", 40: "q1_0", 41: "q2_0",
}  # fmt: skip
"""llama.cpp's numbers of file types (`llama.h`); those of floats need no name."""


def read_gguf(path: str, catalog: Catalog) -> Inventory:
    """Read a GGUF file into an inventory.

    Raises
    ------
    ConfigError
        If the header is broken, or its metadata do not say what the caches need.
    """
    header = read_header(path, catalog)
    if not header.architecture:
        raise ConfigError(f"{path}: its metadata name no general.architecture.", "Convert it again.")
    if header.metadata.get("general.type", "model") not in ("model", ""):
        raise ConfigError(
            f"{path} holds {header.metadata['general.type']}, not a model.", "Give the model's own GGUF."
        )
    name = os.path.splitext(os.path.basename(path))[0]
    doubts: dict[str, str] = {}
    inventory = Inventory(
        name,
        header.architecture,
        "gguf",
        _groups(header, path, doubts),
        title=str(header.metadata.get("general.name") or name)[:80],
        context=number(header, "context_length", path, required=False) or None,
    )
    inventory.origin, inventory.unproven = path, doubts
    kind = header.metadata.get("general.file_type")
    if isinstance(kind, int) and kind in FILE_TYPES:
        inventory.quantization = {"quant_method": "gguf", "file_type": FILE_TYPES[kind]}
    inventory.loaded = (*LOADED, "buffer")  # llama.cpp loads the factors of rotary positions too
    heads = number(header, "attention.head_count", path, required=False)
    if heads:
        inventory.split = {"attention heads": heads}
    return inventory


def _groups(header: Header, path: str, doubts: dict[str, str]) -> list[Group]:
    """Layers grouped by equal tensors and caches, and what stands outside them."""
    blocks: dict[tuple[str, int], list[tuple[str, StoredTensor]]] = {}
    outside: list[tuple[str, StoredTensor]] = []
    for tensor in header.tensors:
        match = re.match(r"(enc\.|dec\.|)blk\.(\d{1,6})\.(.+)$", tensor.name)
        if match:
            key = match.group(1), int(match.group(2))
            blocks.setdefault(key, []).append((match.group(3), tensor))
        else:
            outside.append((tensor.name, tensor))
    layers = number(header, "block_count", path)
    if layers > 10_000:
        raise ConfigError(f"{path}: block_count is {layers:,}.", "Give the model's config.json instead.")
    predicted = number(header, "nextn_predict_layers", path, required=False)
    memory = Memory(header, layers, path)
    text = "dec." if any(stack == "dec." for stack, _ in blocks) else ""
    kinds: dict[Any, tuple[list[Cache], list[int]]] = {}
    for (stack, layer), tensors in sorted(blocks.items()):
        is_mtp = not stack and layer >= layers - predicted
        signature = tuple((word, t.dtype, t.shape) for word, t in sorted(tensors, key=lambda pair: pair[0]))
        caches: list[Cache] = []
        if not is_mtp and not (stack == "enc." and text):
            # Weights last: a stem's shape is that of its weight, not of its bias.
            ordered = sorted(tensors, key=lambda pair: pair[0].endswith(".weight"))
            by_stem = {word.rpartition(".")[0] or word: one for word, one in ordered}
            caches = memory.caches(by_stem, layer, memory.window(layer))
        kept = tuple((c.kind, c.parts, c.positions, c.stream) for c in caches)
        kinds.setdefault((stack, signature, is_mtp, kept), (caches, []))[1].append(layer)
    doubts |= memory.doubts
    before = [_tensor(word, stored, ROLES) for word, stored in outside if word.startswith(_BEFORE)]
    after = [_tensor(word, stored, ROLES) for word, stored in outside if not word.startswith(_BEFORE)]
    groups = [Group("text", "embedding", (), before)]
    for (stack, _, is_mtp, _), (caches, indices) in kinds.items():
        words = blocks[stack, indices[0]]
        roles = _roles({word.rpartition(".")[0] or word for word, _ in words})
        made = [_tensor(word, stored, roles, "mtp" if is_mtp else "") for word, stored in words]
        component = "mtp" if is_mtp else "encoder" if stack == "enc." and text else "text"
        ops = _ops(header, made)
        groups.append(Group(component, "layer", tuple(indices), made, caches, ops, stack + "blk.{layer}."))
    tied = not any(tensor.role == "unembedding" for tensor in after)
    head = [Op("linear", "embedding", dim(vocab=1), dim(hidden=1))] if tied else []
    groups.append(Group("text", "head", (), after, (), head))
    return groups


_BEFORE = ("token_embd", "position_embd", "token_types", "per_layer_token_embd", "per_layer_model_proj")


def _roles(stems: set[str]) -> dict[str, str]:
    """What a layer's names mean beside each other: llama.cpp uses some of them for two things."""
    roles = ROLES
    if "ssm_conv1d_q" in stems:
        roles = roles | KIMI_DELTA
    elif stems & {"ssm_ba", "ssm_beta"}:
        roles = roles | DELTA
    if "post_attention_norm" in stems and not stems & {"ffn_norm", "post_ffw_norm"}:
        roles = roles | {"post_attention_norm": "ffn_norm"}
    return roles


def _tensor(word: str, stored: StoredTensor, roles: dict[str, str], tag: str = "") -> Tensor:
    """A stored tensor with its role and named axes."""
    stem, _, part = word.rpartition(".")
    if word in WHOLE:
        role, part = WHOLE[word], ""
    else:
        role = roles.get(stem, stem or word)
    shape = stored.shape
    dims: list[Dim] = []
    if role.startswith("expert_") and len(shape) > 1:
        dims, shape = [dim(expert=shape[0])], shape[1:]
    for place, length in enumerate(shape):
        axis = f"axis{place}"
        if place == 0 and role in OUT_AXES:
            axis = OUT_AXES[role]
        elif place == len(shape) - 1 and len(shape) > 1 and role in IN_AXES:
            axis = IN_AXES[role]
        dims.append(dim(**{axis: length}))
    if not tag:
        tag = "buffer" if (stem or word).startswith(BUFFERS) else "main"
    return Tensor(role, tuple(dims), part, tag, stored.dtype)


def _ops(header: Header, tensors: list[Tensor]) -> list[Op]:
    """The products of a layer, with the share of experts that a token runs."""
    used, experts = header.get("expert_used_count"), header.get("expert_count")
    ops = []
    for tensor in tensors:
        if tensor.part == "weight" and len(tensor.dims) > 1:
            routed = tensor.role.startswith("expert_") and isinstance(used, int) and isinstance(experts, int)
            shares = (used, experts) if routed and 0 < used <= experts else (1, 1)
            ops.append(Op("linear", tensor.role, tensor.dims[-2], tensor.dims[-1], *shares))
    return ops
