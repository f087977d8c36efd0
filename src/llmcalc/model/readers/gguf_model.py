"""A GGUF header as an inventory: roles from tensor names, caches from the metadata.

A GGUF names every tensor by its role, so the tensors need no family. What must be remembered is in the
metadata; a layer without keys and values keeps none, one with state-space tensors keeps a state. What
llama.cpp knows only in its code (which layers a window applies to) is stated here by architecture.
"""

from __future__ import annotations

import os
import re
from typing import Any

from llmcalc.catalog import Catalog
from llmcalc.errors import ConfigError
from llmcalc.model.dialects import GGUF, GGUF_WHOLE
from llmcalc.model.inventory import Cache, Dim, Group, Inventory, Op, Tensor, dim
from llmcalc.model.readers.gguf import Header, read_header
from llmcalc.model.readers.stored import StoredTensor

WINDOW_EVERY = {
    "gemma2": 2, "gemma3": 6, "gpt-oss": 2, "cohere2": 4, "exaone4": 4, "olmo2": 4, "phi3": 1,
    "smallthinker": 4,
}  # fmt: skip
"""Architectures with windows: every n-th layer is full (1: none is). llama.cpp, llama-model.cpp."""

ROLES = {word: role for role, word in reversed(GGUF.items())}
WHOLE = {word: role for role, word in GGUF_WHOLE.items()}
OUT_AXES = {
    "query": "heads", "key": "kv_heads", "value": "kv_heads", "gate": "ffn", "up": "ffn", "gate_up": "ffn",
    "expert_gate": "ffn", "expert_up": "ffn", "shared_gate": "ffn", "shared_up": "ffn", "embedding": "vocab",
    "unembedding": "vocab", "query_b": "heads", "kv_b": "heads",
}  # fmt: skip
IN_AXES = {"output": "heads", "down": "ffn", "expert_down": "ffn", "shared_down": "ffn"}
BUFFERS = ("rope_freqs", "rope_factors_long", "rope_factors_short", "exp_probs_b")


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
    inventory = Inventory(
        name,
        header.architecture,
        "gguf",
        _groups(header, path),
        title=str(header.metadata.get("general.name") or name)[:80],
        context=_number(header, "context_length", path, required=False) or None,
    )
    inventory.origin = path
    heads = _heads(header, path)
    if heads and min(heads) > 0:
        inventory.split = {"attention heads": max(heads)}
    return inventory


def _number(header: Header, key: str, path: str, required: bool = True) -> int:
    value = header.get(key)
    if isinstance(value, list) and value and all(isinstance(one, int) for one in value):
        value = max(value)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 40:
        return value
    if required:
        raise ConfigError(
            f"{path}: its metadata lack {header.architecture}.{key}.", "Give the model's config.json instead."
        )
    return 0


def _heads(header: Header, path: str) -> list[int]:
    value = header.get("attention.head_count", 0)
    return [one for one in value if one] if isinstance(value, list) else [int(value or 0)]


def _groups(header: Header, path: str) -> list[Group]:
    """Layers grouped by equal tensors and caches, and what stands outside them."""
    blocks: dict[int, list[tuple[str, StoredTensor]]] = {}
    outside: list[tuple[str, StoredTensor]] = []
    for tensor in header.tensors:
        match = re.match(r"blk\.(\d{1,6})\.(.+)$", tensor.name)
        if match:
            blocks.setdefault(int(match.group(1)), []).append((match.group(2), tensor))
        else:
            outside.append((tensor.name, tensor))
    layers = _number(header, "block_count", path)
    if layers > 10_000:
        raise ConfigError(f"{path}: block_count is {layers:,}.", "Give the model's config.json instead.")
    predicted = _number(header, "nextn_predict_layers", path, required=False)
    kinds: dict[Any, list[int]] = {}
    for layer, tensors in sorted(blocks.items()):
        is_mtp = layer >= layers - predicted
        signature = tuple((word, t.dtype, t.shape) for word, t in sorted(tensors, key=lambda pair: pair[0]))
        kinds.setdefault((signature, is_mtp, _window(header, layer, path)), []).append(layer)
    before = [_tensor(word, stored) for word, stored in outside if word.startswith(_BEFORE)]
    after = [_tensor(word, stored) for word, stored in outside if not word.startswith(_BEFORE)]
    groups = [Group("text", "embedding", (), before)]
    for (_, is_mtp, window), indices in kinds.items():
        words = blocks[indices[0]]
        made = [_tensor(word, stored, "mtp" if is_mtp else "") for word, stored in words]
        caches = [] if is_mtp else _caches(header, {word for word, _ in words}, window, indices[0], path)
        component = "mtp" if is_mtp else "text"
        ops = _ops(header, made)
        groups.append(Group(component, "layer", tuple(indices), made, caches, ops, "blk.{layer}."))
    tied = not any(tensor.role == "unembedding" for tensor in after)
    head = [Op("linear", "embedding", dim(vocab=1), dim(hidden=1))] if tied else []
    groups.append(Group("text", "head", (), after, (), head))
    return groups


_BEFORE = ("token_embd", "position_embd", "token_types", "per_layer_token_embd", "per_layer_model_proj")


def _tensor(word: str, stored: StoredTensor, tag: str = "") -> Tensor:
    """A stored tensor with its role and named axes."""
    stem, _, part = word.rpartition(".")
    if word in WHOLE:
        role, part = WHOLE[word], ""
    else:
        role = ROLES.get(stem, stem or word)
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


def _window(header: Header, layer: int, path: str) -> int | None:
    """The window of one layer, by the metadata and by what llama.cpp knows of the architecture."""
    width = _number(header, "attention.sliding_window", path, required=False)
    if not width:
        return None
    pattern = header.get("attention.sliding_window_pattern")
    if isinstance(pattern, list) and layer < len(pattern):
        return width if pattern[layer] else None
    every = pattern if isinstance(pattern, int) and pattern > 0 else WINDOW_EVERY.get(header.architecture)
    if every is None:
        return None
    return width if every == 1 or (layer + 1) % every else None


def _per_layer(value: Any, layer: int) -> int:
    if isinstance(value, list):
        value = value[layer] if layer < len(value) else 0
    return int(value) if isinstance(value, int) else 0


def _caches(header: Header, words: set[str], window: int | None, layer: int, path: str) -> list[Cache]:
    """What a layer remembers, by the tensors it has and the metadata."""
    caches = []
    stems = {word.rpartition(".")[0] for word in words}
    if "attn_kv_a_mqa" in stems:
        rank = _number(header, "attention.kv_lora_rank", path)
        rotary = _number(header, "rope.dimension_count", path)
        caches.append(Cache("latent", (("latent", dim(latent=rank)), ("rotary", dim(rotary=rotary)))))
    elif stems & {"attn_k", "attn_qkv"} and "attn_gate" not in stems:
        heads = _per_layer(header.get("attention.head_count", 0), layer)
        kv_heads = _per_layer(header.get("attention.head_count_kv", heads), layer) or heads
        width = _number(header, "embedding_length", path)
        own = width // heads if heads else 0
        key = _number(header, "attention.key_length", path, required=False) or own
        value = _number(header, "attention.value_length", path, required=False) or own
        parts = (("k", dim(kv_heads=kv_heads, head_dim=key)), ("v", dim(kv_heads=kv_heads, head_dim=value)))
        caches.append(Cache("window" if window else "full", parts, window))
    if "ssm_conv1d" in stems:
        caches += _states(header, path)
    return caches


def _states(header: Header, path: str) -> list[Cache]:
    """State and convolution columns of a state-space layer, as llama.cpp sizes them."""
    inner, state = _number(header, "ssm.inner_size", path), _number(header, "ssm.state_size", path)
    kernel = _number(header, "ssm.conv_kernel", path)
    groups = _number(header, "ssm.group_count", path, required=False)
    channels = inner + 2 * groups * state
    return [
        Cache("recurrent", (("state", dim(state_heads=inner, state=state)),), 1, "fp32"),
        Cache("conv", (("columns", dim(state_heads=channels)),), kernel - 1, "fp32"),
    ]
