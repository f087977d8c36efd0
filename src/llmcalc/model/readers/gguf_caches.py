"""What a layer of a GGUF remembers: by its tensors, the metadata, and what llama.cpp knows in its code.

Which layers a window applies to, and which models have no cache at all, are not in every file; they are
stated here by architecture (llama.cpp, `src/llama-model.cpp`, hyperparameters of each architecture). For
an architecture that is not listed the caches follow the tensors, and are called assumed.
"""

from __future__ import annotations

from typing import Any

from llmcalc.errors import ConfigError
from llmcalc.model.inventory import Cache, dim
from llmcalc.model.readers.gguf import Header
from llmcalc.model.readers.stored import StoredTensor

FULL = (
    "apertus", "arcee", "arctic", "arwkv7", "axk1", "baichuan", "bailingmoe", "bailingmoe2", "bitnet",
    "bloom", "chameleon", "chatglm", "codeshell", "command-r", "dbrx", "deci", "deepseek", "deepseek2",
    "deepseek32", "dots1", "ernie4_5", "ernie4_5-moe", "exaone", "falcon", "falcon-h1", "gemma",
    "glm-dsa", "glm4", "glm4moe", "gpt2", "gptj", "gptneox", "granite", "granitehybrid", "granitemoe",
    "grok", "hunyuan-dense", "hunyuan-moe", "internlm2", "jais", "jamba", "kimi-linear", "lfm2",
    "lfm2moe", "llama", "maincoder", "mamba", "mamba2", "minicpm", "minicpm3", "minimax-m2", "mistral3",
    "mpt", "nemotron", "nemotron_h", "nemotron_h_moe", "olmo", "olmoe", "openelm", "orion", "phi2",
    "phimoe", "plamo", "plamo2", "plm", "qwen", "qwen2", "qwen2moe", "qwen2vl", "qwen3", "qwen35",
    "qwen35moe", "qwen3moe", "qwen3next", "qwen3vl", "qwen3vlmoe", "refact", "rwkv6", "rwkv6qwen2",
    "rwkv7", "seed_oss", "smollm3", "stablelm", "starcoder", "starcoder2", "t5", "xverse",
)  # fmt: skip
"""Architectures whose attention is full wherever a layer has keys."""

WINDOW_EVERY = {
    "afmoe": 4, "cohere2": 4, "exaone-moe": 4, "exaone4": 4, "gemma2": 2, "gemma3": 6, "gemma3n": 5,
    "gemma4": 6, "gpt-oss": 2, "llama4": 4, "mimo2": 0, "olmo2": 4, "phi3": 1, "smallthinker": 4, "step35": 0,
}  # fmt: skip
"""Architectures with windows: every n-th layer is full (1: none is, 0: the file lists them)."""

FULL_FIRST = ("smallthinker",)
"""Architectures where the first of each n layers is the full one."""

CHUNKS = {"llama4": 8192}
"""Architectures that attend within chunks, whatever the file says. [tokens]"""

ENCODERS = (
    "bert", "dream", "eurobert", "gemma-embedding", "jina-bert-v2", "jina-bert-v3", "llada", "llada-moe",
    "modern-bert", "neo-bert", "nomic-bert", "nomic-bert-moe", "rnd1", "t5encoder",
)  # fmt: skip
"""Architectures that llama.cpp runs without any cache."""

REMEDY = "Give the model's config.json instead."


def number(header: Header, key: str, path: str, required: bool = True) -> int:
    """A length in the metadata, the largest where they list one for each layer; 0 if it may lack.

    Raises
    ------
    ConfigError
        If it lacks though required, or is no length.
    """
    value = header.get(key)
    known = f"{header.architecture}.{key}" in header.metadata
    if not known and not required:
        return 0
    listed = value if isinstance(value, list) else [value]
    if not listed or not all(type(one) is int and 0 <= one < 1 << 40 for one in listed):
        what = f"have {str(value)[:40]!r} for" if known else "lack"
        raise ConfigError(f"{path}: its metadata {what} {header.architecture}.{key}.", REMEDY)
    return int(max(listed))


def at_layer(header: Header, key: str, layer: int, path: str) -> int:
    """A length in the metadata at one layer; 0 if there is none."""
    most = number(header, key, path, required=False)
    value = header.get(key)
    if not isinstance(value, list):
        return most
    if layer >= len(value):
        raise ConfigError(
            f"{path}: {header.architecture}.{key} lists {len(value)} layers, but there is layer {layer}.",
            REMEDY,
        )
    return int(value[layer])


class Memory:
    """What the layers of one file remember.

    Attributes
    ----------
    doubts : dict
        What the file leaves open, with what is assumed instead.
    """

    __slots__ = ("doubts", "header", "layers", "path")

    def __init__(self, header: Header, layers: int, path: str) -> None:
        self.header, self.layers, self.path = header, layers, path
        self.doubts: dict[str, str] = {}

    def window(self, layer: int) -> int | None:
        """The window of one layer: tokens, or None where attention is full."""
        architecture = self.header.architecture
        width = CHUNKS.get(architecture) or number(self.header, "attention.sliding_window", self.path, False)
        if architecture in CHUNKS and self.header.get("attention.sliding_window") == 0:
            return None  # the file switches chunks off
        if not width:
            return None
        pattern = self.header.get("attention.sliding_window_pattern")
        if isinstance(pattern, list):
            return width if layer < len(pattern) and pattern[layer] else None
        every = WINDOW_EVERY.get(architecture)
        if type(pattern) is int and pattern > 0 and architecture not in CHUNKS:
            every = pattern
        if not every:
            self.doubts["sliding_window_pattern"] = (
                f"The metadata give {architecture} a window of {width:,} but not the layers it applies to; "
                "full attention is assumed"
            )
            return None
        full = layer % every == 0 if architecture in FULL_FIRST else (layer + 1) % every == 0
        return None if every > 1 and full else width

    def caches(self, tensors: dict[str, StoredTensor], layer: int, window: int | None) -> list[Cache]:
        """What one layer keeps.

        Parameters
        ----------
        tensors : dict
            Its tensors by name without block and ending.
        layer : int
            Its index.
        window : int or None
            From `window`. [tokens]
        """
        header, path = self.header, self.path
        architecture = header.architecture
        if architecture in ENCODERS or header.get("attention.causal") is False:
            return []
        made: list[Cache] = []
        shared = number(header, "attention.shared_kv_layers", path, False)
        linear = tensors.keys() & {"ssm_conv1d_q", "ssm_beta", "ssm_ba", "ssm_beta_alpha"}
        if "attn_kv_a_mqa" in tensors:
            made += self._latent(tensors)
        elif tensors.keys() & {"attn_k", "attn_qkv"} and not linear and layer < self.layers - shared:
            made.append(self._keys(layer, window))
        if "cross_attn_k" in tensors:
            key = self._heads(layer)
            made.append(Cache("cross", (("k", key), ("v", key)), None, stream="encoder"))
        made += self._states(tensors, layer)
        if made and architecture not in FULL and architecture not in WINDOW_EVERY:
            self.doubts["architecture"] = (
                f"What {architecture} remembers is not known; its tensors are taken at their word"
            )
        return made

    def _heads(self, layer: int, which: str = "key", windowed: bool = False) -> Any:
        """KV heads and their length at a layer."""
        header, path = self.header, self.path
        heads = at_layer(header, "attention.head_count", layer, path)
        kv_heads = at_layer(header, "attention.head_count_kv", layer, path) or heads
        length = number(header, f"attention.{which}_length", path, False)
        if windowed:
            length = number(header, f"attention.{which}_length_swa", path, False) or length
        if not length:
            if not heads:
                raise ConfigError(
                    f"{path}: its metadata lack {header.architecture}.attention.head_count.", REMEDY
                )
            length = number(header, "embedding_length", path) // heads
        return dim(kv_heads=kv_heads, head_dim=length)

    def _keys(self, layer: int, window: int | None) -> Cache:
        parts = (
            ("k", self._heads(layer, "key", window is not None)),
            ("v", self._heads(layer, "value", window is not None)),
        )
        kind = "full" if window is None else "chunk" if self.header.architecture in CHUNKS else "window"
        return Cache(kind, parts, window)

    def _latent(self, tensors: dict[str, StoredTensor]) -> list[Cache]:
        """Multi-head latent attention, with the keys of its indexer."""
        rank = number(self.header, "attention.kv_lora_rank", self.path)
        rows = tensors["attn_kv_a_mqa"].shape[0] if tensors["attn_kv_a_mqa"].shape else 0
        if rows <= rank:
            raise ConfigError(
                f"{self.path}: attn_kv_a_mqa has {rows:,} rows for a latent of {rank:,}.", REMEDY
            )
        made = [Cache("latent", (("latent", dim(latent=rank)), ("rotary", dim(rotary=rows - rank))))]
        index = tensors.get("indexer.attn_k")
        if index is not None and index.shape:
            made.append(Cache("indexer", (("index_key", dim(index=index.shape[0])),)))
        return made

    def _states(self, tensors: dict[str, StoredTensor], layer: int) -> list[Cache]:
        """States, and columns of convolutions and token shifts, in fp32 as llama.cpp keeps them."""
        header, path = self.header, self.path
        if "ssm_conv1d_q" in tensors:  # Kimi delta attention
            heads = at_layer(header, "attention.head_count", layer, path)
            length = number(header, "kda.head_dim", path)
            return _state(heads * length, length, 3 * heads * length, number(header, "ssm.conv_kernel", path))
        if "ssm_conv1d" in tensors:
            inner, state = number(header, "ssm.inner_size", path), number(header, "ssm.state_size", path)
            channels = inner + 2 * number(header, "ssm.group_count", path, False) * state
            return _state(inner, state, channels, number(header, "ssm.conv_kernel", path))
        width = number(header, "embedding_length", path, False)
        if "shortconv.conv" in tensors:
            kernel = number(header, "shortconv.l_cache", path)
            return [Cache("conv", (("columns", dim(state_heads=width)),), kernel - 1, "fp32")]
        if any(name.startswith("time_mix_") for name in tensors):
            shifts = number(header, "token_shift_count", path, False) or 2
            return _state(width, number(header, "wkv.head_size", path), shifts * width, 2)
        return []


def _state(inner: int, state: int, channels: int, kernel: int) -> list[Cache]:
    made = [Cache("recurrent", (("state", dim(state_heads=inner, state=state)),), 1, "fp32")]
    if kernel > 1:
        made.append(Cache("conv", (("columns", dim(state_heads=channels)),), kernel - 1, "fp32"))
    return made
