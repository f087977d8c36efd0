"""Ollama: what it tells the llama-server that it starts, and what its scheduler expects.

Memory is llama.cpp's; Ollama chooses context, batch and GPUs, and leaves layers to ``--fit``. Read off
its sources of August 2026 (fb3076099687, llama.cpp b10488): server/routes.go for the default context,
server/sched.go for batches and GPUs, llm/llama_server.go for the prediction and the projector.
"""

from __future__ import annotations

from collections.abc import Sequence

from llmcalc.memory.engines.llamacpp.layer import Layer
from llmcalc.model.inventory import Cache, Inventory
from llmcalc.precision.gguf import ONE_NUMBER, shape_of
from llmcalc.units import GIB, MIB

VERSIONS = "fb3076099687 (August 2026)"
SOURCE = "Ollama fb3076099687, llm/llama_server.go"

CONTEXTS = ((47 * GIB, 262_144), (23 * GIB, 32_768), (0, 4096))
"""The default context by the memory of all GPUs together. [B], [tokens]"""

LEAST_WITH_IMAGES = 2048
"""A multimodal model gets at least this context. [tokens]"""

BATCHES = ((32_768, 2048), (4096, 1024))
"""Batches of contexts longer than these. [tokens]"""

BATCH = 512
"""The batch of shorter contexts, and what batches step down to. [tokens]"""

SMALL_BATCH = 256
"""With CUDA, no flash attention, a context above 4,096 and a GPU of at most 8 GiB. [tokens]"""

SMALL = 8 * GIB
SURCHARGE = {2048: 2 * GIB, 1024: 768 * MIB}
"""What the scheduler adds for a batch. [B]"""

SHARE = {2048: 60, 1024: 75}
"""Percent of free memory that the prediction may take for a batch."""

THRESHOLD = 80
"""Percent of free memory above which other models are evicted, or a single GPU is not enough."""

HEADROOM = GIB
"""Left free beside a projector; without one llama-server's own target. [B]"""

ONE_SLOT = (
    "lfm2", "lfm2_moe", "lfm2_vl", "mllama", "nemotron_h", "qwen3_5", "qwen3_5_moe", "qwen3_5_moe_text",
    "qwen3_5_text", "qwen3_next", "qwen3_vl", "qwen3_vl_moe", "qwen3_vl_moe_text", "qwen3_vl_text",
)  # fmt: skip
"""Families that Ollama serves one request at a time, whatever it is told."""


def layout(cache: Cache) -> Cache:
    """What the architecture needs, as it is: llama.cpp's deployment lays it out."""
    return cache


def default_context(memory: int, limit: int | None) -> int:
    """The context where nobody sets one. [tokens]

    Parameters
    ----------
    memory : int
        Of all GPUs together; 0 without one. [B]
    limit : int or None
        The model's longest context. [tokens]

    Examples
    --------
    Two cards of 24 GB count as one of 48:

    >>> default_context(2 * 24_080 * 2**20, 131_072), default_context(24_080 * 2**20, 131_072)
    (131072, 32768)

    References
    ----------
    Ollama, server/routes.go (``Serve``) and llm/server.go (``NewLlamaServer``).
    """
    found = next(context for least, context in CONTEXTS if memory >= least)
    return min(found, limit or found)


def predicted_bytes(file: int, layers: int, kv_heads: int, width: int, n_ctx: int) -> int:
    """What the scheduler expects a model to take, before it starts it. [B]

    Windows, latent attention, states and quantized caches are ignored: it errs on the high side.

    Parameters
    ----------
    file : int
        Size of the model's file. [B]
    layers, kv_heads : int
        Blocks, and the least number of KV heads of any; 0 counts as 1. [-]
    width : int
        Width of the model over its largest number of heads. [elements]
    n_ctx : int
        Context over all slots. [tokens]

    Examples
    --------
    Llama-3.1-8B at 8,192 tokens: 1 GiB beside the file.

    >>> predicted_bytes(0, 32, 8, 128, 8192)
    1073741824

    References
    ----------
    Ollama, llm/llama_server.go (``PredictServerVRAM``).
    """
    return file + 2 * layers * max(1, kv_heads) * width * n_ctx * 2


def batch_of(
    n_ctx: int, predicted: int, free: Sequence[int], flash: bool = True, cuda: bool = True
) -> int:  # fmt: skip
    """The batch, logical and physical alike. [tokens]

    Parameters
    ----------
    n_ctx : int
        Context over all slots. [tokens]
    predicted : int
        What the scheduler expects. [B]
    free : sequence of int
        Free memory of each GPU; empty without one. [B]
    flash, cuda : bool
        Whether flash attention is used, and whether the GPUs are NVIDIA's.

    Examples
    --------
    >>> batch_of(4096, 5 * GIB, [23 * GIB]), batch_of(32_768, 9 * GIB, [23 * GIB])
    (512, 1024)
    >>> batch_of(131_072, 21 * GIB, [23 * GIB])  # too close to all of it
    512

    References
    ----------
    Ollama, server/sched.go (``automaticGenerationBatch``).
    """
    if cuda and free and not flash:
        is_small = n_ctx > 4096 and any(0 < own <= SMALL for own in free)
        return SMALL_BATCH if is_small else BATCH
    available = sum(free)
    for above, batch in BATCHES:
        if n_ctx > above and _has_room(batch, predicted, available):
            return batch
    return BATCH


def _has_room(batch: int, predicted: int, available: int) -> bool:
    """Whether the scheduler gives a batch to so much memory."""
    if not predicted or not available:
        return True
    return (
        predicted <= available * SHARE[batch] // 100
        and predicted + SURCHARGE[batch] <= available * THRESHOLD // 100
    )


def one_is_enough(predicted: int, free: int) -> bool:
    """Whether one of several GPUs takes the model alone."""
    return 0 < predicted <= free * THRESHOLD // 100


def heads_of(inventory: Inventory, layers: Sequence[Layer], hidden: int) -> tuple[int, int, int]:
    """Blocks, KV heads and width of the scheduler's prediction. [-], [-], [elements]"""
    heads = max((layer.heads for layer in layers), default=0) or next(iter(inventory.split.values()), 0)
    attending = [layer for layer in layers if layer.cache is not None]
    kv = min((layer.kv_heads for layer in attending), default=0)
    if len(attending) < len(layers) and inventory.family not in ONE_NUMBER:
        kv = 0
    return shape_of(inventory).layers, kv, hidden // heads if heads else 0
