"""Which model of a catalog has the shape that a log prints."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from llmcalc.validation.loads import Load

KEYS = {
    "n_layer": ("num_hidden_layers", "n_layer", "n_layers", "num_layers"),
    "n_embd": ("hidden_size", "n_embd", "d_model"),
    "n_vocab": ("vocab_size",),
    "n_head": ("num_attention_heads", "n_head", "n_heads"),
    "n_head_kv": ("num_key_value_heads",),
    "n_ff": ("intermediate_size", "n_inner", "ffn_dim"),
    "n_expert": ("num_local_experts", "num_experts", "n_routed_experts"),
}
"""Hyperparameters as llama.cpp prints them, and the keys of configurations that mean the same."""

NEEDED = {"n_layer", "n_embd", "n_vocab", "n_ff"}
"""Without these a shape tells too little."""

SAME_GRAPH = {"mistral": "llama"}
"""Families that llama.cpp runs as another's."""


def models_of_shape(load: Load, entries: Iterable[dict[str, Any]]) -> list[str]:
    """Names of the catalog's models with a log's hyperparameters, the most popular first.

    Parameters
    ----------
    load : Load
        The model that the log loads.
    entries : iterable of dict
        Entries of the catalog of models.
    """
    told = {name: load.hyper(name) for name in KEYS}
    known = {name: value for name, value in told.items() if value is not None}
    if not known.keys() >= NEEDED or not load.arch:
        return []
    found = [entry for entry in entries if _is_alike(load.arch, known, entry.get("config", {}))]
    return [str(entry["name"]) for entry in sorted(found, key=lambda entry: len(str(entry["name"])))]


def _is_alike(arch: str, known: dict[str, int], config: dict[str, Any]) -> bool:
    family = str(config.get("model_type", ""))
    if _plain(SAME_GRAPH.get(family, family))[:5] != _plain(arch)[:5]:
        return False
    inner = config.get("text_config")
    flat = {**config, **inner} if isinstance(inner, dict) else config
    for name, value in known.items():
        stated = next((flat[key] for key in KEYS[name] if isinstance(flat.get(key), int)), None)
        if stated is None and name == "n_head_kv":
            stated = next((flat[key] for key in KEYS["n_head"] if isinstance(flat.get(key), int)), None)
        if stated != value and not (stated is None and (name not in NEEDED or not value)):
            return False
    return True


def _plain(word: str) -> str:
    """A family's name without signs: ``qwen3_moe`` is ``qwen3moe``."""
    return re.sub(r"[^a-z0-9]", "", word.lower())
