"""What vLLM's profiling run finds: the peak of a dummy batch, and what PyTorch does not see.

The constants are measured on some fifty start-up logs, 45 of them of one source (llm-d-planner, PR 205:
vLLM 0.15 to 0.19 on an H100). The forms are structural: the
sampler over the whole vocabulary, rows of a batch, the buffers of fused experts.
"""

from __future__ import annotations

from llmcalc.engine_options.vllm_era import Era
from llmcalc.hardware import Device
from llmcalc.model.inventory import Inventory, size
from llmcalc.units import GIB, MIB

SOURCE = "llm-d-planner PR 205 and vLLM's issues: start-up logs of 0.6 to 0.19"

LARGE, HUGE = 70 * GIB, 160 * GIB
"""GPUs from these sizes take larger batches by default. [B]"""

SMALL_BATCH, LARGE_BATCH, HUGE_BATCH = (2048, 256), (8192, 1024), (16_384, 1024)
"""Tokens and sequences of a server's batch by the size of the GPU. [tokens], [-]"""

CHUNKED = 32_768
"""Longer sequences V0 read in chunks of 2,048 tokens by default; up to this, whole. [tokens]"""

SAMPLER_OLD, SAMPLER = 38.0, 14.4
"""Bytes of the sampler for each sequence and entry of the vocabulary, before 0.17 and since. [B]"""

SAMPLER_REST = 68 * MIB
"""What is alive beside the sampler whatever the model. [B]"""

NEAR = 0.65
"""From this share of the sampler's moment on, the forward pass has a say in the peak. [-]"""

ROWS = 4.3
"""Rows of the hidden width that a layer's forward pass holds for each token, beside the MLP's. [-]"""

MOE_ROWS = 3
"""Rows of an MLP: gate, up and their product. [-]"""

NON_TORCH = (((0, 18), 255 * MIB), ((0, 0), 133 * MIB))
"""What a single rank takes beside PyTorch, from a release on. [B]"""

NCCL = (((0, 18), 2130 * MIB), ((0, 0), 560 * MIB))
"""The same where tensor ranks talk to each other. [B]"""

NCCL_MORE = 100 * MIB
"""The same for each doubling of the ranks beyond two. [B]"""

PIPE = 72 * MIB
"""The same for stages alone. [B]"""

CONTEXT = 525 * MIB
"""The CUDA context, which vLLM does not count. [B]"""

CONTEXT_MANY = 1280 * MIB
"""The same with several tensor ranks. [B]"""

GRAPH_BASE, GRAPH_LAYER, GRAPH_EXPERTS = 380 * MIB, 9 * MIB + MIB // 2, 460 * MIB
"""CUDA graphs: whatever the model, for each layer, and more with routed experts. [B]"""

GRAPH_WIDTH = 57 << 10
"""The same for each element of the hidden width. [B]"""

GRAPH_OLD = 384 * MIB
"""CUDA graphs before 0.8, of decoding alone: no pattern in six logs from 0.13 to 1.77 GiB. [B]"""


class Batch:
    """Tokens and sequences of one batch. [tokens], [-]"""

    __slots__ = ("seqs", "tokens")

    def __init__(self, tokens: int, seqs: int) -> None:
        self.tokens, self.seqs = tokens, seqs


def default_batch(device: Device | None, era: Era, length: int) -> Batch:
    """The batch that a server profiles, by the size of its GPU.

    Examples
    --------
    >>> from llmcalc.catalog import Catalog
    >>> from llmcalc.engine_options.vllm_era import era_of
    >>> from llmcalc.hardware import parse_gpu
    >>> book = Catalog()
    >>> for name in ("rtx-4090", "h100", "b200"):
    ...     batch = default_batch(parse_gpu(name, book), era_of(None), 8192)
    ...     print(batch.tokens, batch.seqs)
    2048 256
    8192 1024
    16384 1024

    References
    ----------
    vLLM 0.33.0, engine/arg_utils.py (``get_batch_defaults``); V0 took the longest sequence.
    """
    if not era.is_v1:
        return Batch(max(2048, length if length <= CHUNKED else 0), 256)
    if device is None:
        return Batch(*SMALL_BATCH)
    whole = device.memory_bytes
    if whole >= HUGE:
        return Batch(*HUGE_BATCH)
    if whole >= LARGE and not any(name in device.name.upper() for name in ("A100", "GB10")):
        return Batch(*LARGE_BATCH)
    return Batch(*SMALL_BATCH)


def activation_bytes(
    inventory: Inventory,
    batch: Batch,
    era: Era,
    tp: int,
    samples: bool = True,
    dtype_bytes: int = 2,
    image_tokens: int = 0,
) -> int:
    """The peak of `peak_of` alone. [B]"""
    return peak_of(inventory, batch, era, tp, samples, dtype_bytes, image_tokens)[0]


def peak_of(
    inventory: Inventory,
    batch: Batch,
    era: Era,
    tp: int,
    samples: bool = True,
    dtype_bytes: int = 2,
    image_tokens: int = 0,
) -> tuple[int, str]:
    """The peak of a dummy batch above the weights, and what decides it. [B]

    The larger of two moments: the forward pass of the widest layer, and the sampler over full logits of
    all sequences, which tensor ranks do not share. Fused experts of 8 bits and more keep their buffer through
    both.

    Parameters
    ----------
    inventory : Inventory
        The model.
    batch : Batch
        Tokens and sequences of the profiling run.
    era : Era
        The release.
    tp : int
        Tensor ranks. [-]
    samples : bool
        Whether the rank has the head.
    dtype_bytes : int
        Bytes of an activation. [B]
    image_tokens : int
        Tokens of the largest image: the cache of embeddings holds one at least. [tokens]

    Examples
    --------
    Llama-3.1-8B with 1,024 sequences on an H100; its log says 1.89 GiB:

    >>> import llmcalc
    >>> from llmcalc.engine_options.vllm_era import era_of
    >>> found, kind = peak_of(llmcalc.model("llama-3.1-8b"), Batch(8192, 1024), era_of("0.19"), 1)
    >>> round(found / 2**30, 2), kind
    (1.89, 'sampler')

    References
    ----------
    llm-d-planner, PR 205: debug logs of vLLM 0.19 on an H100.
    """
    hidden, dense, experts = _widths(inventory, tp)
    row = batch.tokens * dtype_bytes
    buffers = row * experts
    forward = int(row * (dense + ROWS * hidden)) + buffers
    towers = any(g.component in ("vision", "audio") for g in inventory.groups)
    images = max(image_tokens - batch.tokens, 0) * dtype_bytes * hidden if towers else 0
    kind = "old" if not era.is_v1 else "towers" if towers else "experts" if experts else ""
    forward += images
    if not samples:
        return forward, kind or "forward"
    rate = SAMPLER if era.version >= (0, 17) else SAMPLER_OLD
    sampler = int(rate * _vocab(inventory) * batch.seqs) + SAMPLER_REST + row * hidden * (3 if towers else 1)
    sampler += images
    sampler += 0 if _is_packed(inventory) else buffers
    return max(forward, sampler), kind or ("forward" if forward > NEAR * sampler else "sampler")


def _is_packed(inventory: Inventory) -> bool:
    """Whether routed experts are stored in fewer than 8 bits: other kernels, without a lasting buffer."""
    return any(
        tensor.role.startswith("expert_") and tensor.stored and (tensor.dtype or "").endswith("4")
        for group in inventory.groups
        for tensor in group.tensors
    )


def _vocab(inventory: Inventory) -> int:
    """Entries of the vocabulary: the width of the head. [-]"""
    return max(
        (
            dict(segment).get("vocab", 0)
            for group in inventory.groups
            if group.component == "text" and group.place != "layer"
            for tensor in group.tensors
            for dimension in tensor.dims
            for segment in dimension
        ),
        default=0,
    )


def _widths(inventory: Inventory, tp: int) -> tuple[int, int, int]:
    """Elements of a token in a forward pass on one rank: hidden width, MLP, buffers of fused experts. [-]

    Fused experts keep two buffers for all tokens: one for gate and up or the result, one for the product.
    """
    hidden = dense = experts = 0
    for group in inventory.groups:
        if group.component != "text":
            continue
        for op in group.ops:
            if op.kind == "embedding":
                hidden = max(hidden, size(op.out))
            if op.kind != "linear":
                continue
            ffn = sum(n for segment in op.inp for axis, n in segment if axis == "ffn")
            if ffn and op.stored > 1:
                wide, out = -(-ffn // tp), size(op.out)
                experts = max(experts, op.active * (max(2 * wide, out) + wide))
            elif ffn:
                dense = max(dense, MOE_ROWS * -(-ffn // tp))
    return hidden, dense, experts


def non_torch_bytes(era: Era, tp: int, pp: int) -> int:
    """What a rank takes beside PyTorch once it is profiled: NCCL, workspaces, kernels. [B]

    Examples
    --------
    >>> from llmcalc.engine_options.vllm_era import era_of
    >>> [non_torch_bytes(era_of("0.19"), tp, 1) // 2**20 for tp in (1, 2, 4)]
    [255, 2130, 2230]

    References
    ----------
    llm-d-planner, PR 205.
    """
    table = NCCL if tp > 1 else NON_TORCH
    found = next(amount for start, amount in table if era.version >= start)
    if tp > 2:
        found += NCCL_MORE * ((tp - 1).bit_length() - 1)
    return min(found, PIPE) if pp > 1 and tp == 1 else found


CAPTURED = (1, 2, 4, *range(8, 256, 8), *range(256, 513, 16))
"""Batch sizes for which graphs are captured, up to twice the sequences. [tokens]"""


def graph_bytes(inventory: Inventory, layers: int, era: Era, seqs: int) -> int:
    """CUDA graphs of all batch sizes, full and piecewise. [B]

    Each batch size takes the same share; batches of fewer sequences have fewer sizes.

    Examples
    --------
    Qwen2.5-7B; its log says 0.87 GiB:

    >>> import llmcalc
    >>> from llmcalc.engine_options.vllm_era import era_of
    >>> round(graph_bytes(llmcalc.model("qwen2.5-7b"), 28, era_of("0.19"), 1024) / 2**30, 2)
    0.83

    References
    ----------
    llm-d-planner, PR 205: 42 logs of vLLM 0.19 on an H100, fitted by least squares of relative errors.
    """
    if not era.is_v1:
        return GRAPH_OLD
    hidden, _, experts = _widths(inventory, 1)
    whole = GRAPH_BASE + GRAPH_LAYER * layers + GRAPH_WIDTH * hidden + (GRAPH_EXPERTS if experts else 0)
    captured = sum(size <= 2 * seqs for size in CAPTURED)
    return int(whole * captured // len(CAPTURED))
