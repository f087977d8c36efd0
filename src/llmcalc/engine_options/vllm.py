"""Options that are vLLM's own, under its own names."""

from __future__ import annotations

from typing import Any

from llmcalc.engine_options.reading import batch_tokens, flag, share
from llmcalc.engine_options.vllm_era import era_of
from llmcalc.errors import InputError, Problems
from llmcalc.units import parse_bytes, parse_integer, shown

MAX_SEQS = 1 << 20
MAX_BLOCK = 1 << 16
STEP = 16
"""Blocks are multiples of this. [tokens]"""

MAX_DRAFTS = 1024
MAX_RANKS = 1024

DRAFTED = 3
"""Tokens drafted ahead where a draft is named and their number is not: assumed. [tokens]"""


class VllmOptions:
    """What vLLM is told; None stands for the release's default.

    Attributes
    ----------
    era : Era
        The release, and what it does.
    utilisation : tuple of int or None
        Share of the GPU's memory, as numerator and denominator.
    seqs, batched, block : int or None
        Sequences and tokens of one batch, tokens of a block. [-], [tokens]
    eager, whole_windows, prefix : bool
        No CUDA graphs; window layers that keep all tokens; states kept for prefix caching.
    overlap : bool or None
        Whether two batches are in flight.
    drafts, dcp : int
        Tokens drafted ahead; ranks that share a cache's tokens. [tokens], [-]
    pool : int or None
        Size of the pool where it is set by hand. [B]
    """

    __slots__ = (
        "batched", "block", "dcp", "drafts", "eager", "era", "overlap", "pool", "prefix", "seqs",
        "utilisation", "whole_windows",
    )  # fmt: skip

    def __init__(self) -> None:
        self.era = era_of(None)
        self.utilisation: tuple[int, int] | None = None
        self.seqs: int | None = None
        self.batched: int | None = None
        self.block: int | None = None
        self.pool: int | None = None
        self.eager = self.whole_windows = self.prefix = False
        self.overlap: bool | None = None
        self.drafts, self.dcp = 0, 1


def vllm_options(given: dict[str, Any]) -> VllmOptions:
    """Read vLLM's options, telling all mistakes together.

    Parameters
    ----------
    given : dict
        Keywords; absent or None means not given.

    Examples
    --------
    >>> vllm_options({"gpu_memory_utilization": "0.95", "block_size": "16"}).utilisation
    (95, 100)
    """
    options, problems = VllmOptions(), Problems()
    with problems:
        options.era = era_of(given.get("engine_version"))
    with problems:
        if given.get("gpu_memory_utilization") is not None:
            options.utilisation = share(given["gpu_memory_utilization"], "--gpu-memory-utilization", "vLLM")
    with problems:
        if given.get("max_num_batched_tokens") is not None:
            options.batched = batch_tokens(given["max_num_batched_tokens"], "--max-num-batched-tokens")
    for keyword, name, most in (
        ("max_num_seqs", "seqs", MAX_SEQS), ("block_size", "block", MAX_BLOCK),
        ("num_speculative_tokens", "drafts", MAX_DRAFTS), ("dcp", "dcp", MAX_RANKS),
    ):  # fmt: skip
        with problems:
            if given.get(keyword) is not None:
                option = f"--{keyword.replace('_', '-')}"
                is_none = keyword == "num_speculative_tokens" and str(given[keyword]).strip() == "0"
                setattr(options, name, 0 if is_none else parse_integer(given[keyword], option, most))
    for keyword, name in (
        ("enforce_eager", "eager"), ("disable_hybrid_kv_cache_manager", "whole_windows"),
        ("enable_prefix_caching", "prefix"), ("async_scheduling", "overlap"),
    ):  # fmt: skip
        with problems:
            if given.get(keyword) is not None:
                setattr(options, name, flag(given[keyword], f"--{keyword.replace('_', '-')}"))
    if given.get("draft") is not None and given.get("num_speculative_tokens") is None:
        options.drafts = 1 if str(given["draft"]).strip().lower() == "mtp" else DRAFTED
    with problems:
        if given.get("kv_cache_memory") is not None:
            options.pool = _pool(given["kv_cache_memory"])
    with problems:
        _check_block(options)
    problems.check()
    return options


LEAST_POOL = 1 << 20
"""A smaller pool has no room for a page: a number without its unit. [B]"""


def _pool(value: Any) -> int:
    """Size of a pool set by hand; a bare number is bytes, as vLLM reads it. [B]"""
    size = parse_bytes(value, "--kv-cache-memory")
    if size < LEAST_POOL:
        raise InputError(
            f"--kv-cache-memory {shown(value)} is {size:,} bytes, less than one page.",
            "Add the unit: --kv-cache-memory 4GiB.",
        )
    return size


def _check_block(options: VllmOptions) -> None:
    """Blocks are multiples of 16 tokens; before V1 there were some of 8."""
    block = options.block
    if block is None or not block % STEP or (block == STEP // 2 and not options.era.is_v1):
        return
    near = max(STEP, (block + STEP // 2) // STEP * STEP)
    raise InputError(
        f"--block-size is {block}; vLLM's blocks are multiples of {STEP} tokens.", f"Use --block-size {near}."
    )
