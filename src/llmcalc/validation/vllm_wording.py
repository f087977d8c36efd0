"""How vLLM words the lines of its start that tell of memory, 0.2 to 0.33, both engines.

Every pattern begins with a literal that a line must hold before it is searched, and lengths are bounded, so
that time is linear in the length of the log. vLLM's GB of old lines are GiB.
"""

from __future__ import annotations

import re

N = r"(-?\d{1,9}(?:\.\d{1,6})?)"
COUNT = r"(-?\d[\d,]{0,14})"

MARKS = (
    "Initializing an LLM engine", "Initializing a V0 LLM engine", "Initializing a V1 LLM engine",
    "vLLM API server version",
)  # fmt: skip
"""What only vLLM prints at its start."""

FIGURES: tuple[tuple[str, re.Pattern[str], tuple[str, ...]], ...] = tuple(
    (literal, re.compile(pattern), kinds)
    for literal, pattern, kinds in (
        ("Loading model weights took", rf"Loading model weights took {N} G", ("weights",)),
        ("Model loading took", rf"Model loading took {N} Gi?B", ("weights",)),
        (
            "peak_torch_memory=",
            rf"total_gpu_memory={N}GiB.{{0,80}}peak_torch_memory={N}GiB.{{0,80}}non_torch_memory={N}GiB "
            rf"kv_cache_size={N}GiB gpu_memory_utilization={N}",
            ("memory", "peak_torch", "non_torch", "kv_budget", "share"),
        ),
        (
            "total_gpu_memory (",
            rf"total_gpu_memory \({N}GiB\) x gpu_memory_utilization \({N}\)",
            ("memory", "share"),
        ),
        (
            "model weights take",
            rf"non_torch_memory takes {N}GiB; PyTorch activation peak memory takes {N}GiB; the rest of the "
            rf"memory reserved for KV Cache is {N}GiB",
            ("non_torch", "activations", "kv_budget"),
        ),
        (
            "Requested memory:",
            rf"Requested memory: {N} \(util\), {N} ?GiB",
            ("share", "requested"),
        ),
        (
            "torch peak memory increase:",
            rf"torch peak memory increase: {N} ?GiB(?:; non-torch forward increase memory: {N} ?GiB)?",
            ("activations", "non_torch"),
        ),
        (
            "Free memory on device",
            rf"Free memory on device .{{0,24}}?\({N}/{N} GiB\) on startup",
            ("free", "memory"),
        ),
        ("Desired GPU memory utilization", rf"utilization is \({N}, {N} GiB\)", ("share", "requested")),
        (
            "for peak activation",
            rf"{N} GiB for peak activation(?:, {N} GiB for non-torch memory)?",
            ("activations", "non_torch"),
        ),
        ("Available KV cache memory", rf"Available KV cache memory: {N} GiB", ("kv_budget",)),
        ("GPU KV cache size", rf"GPU KV cache size: {COUNT} tokens", ("kv_tokens",)),
        ("GPU blocks:", rf"# GPU blocks: {COUNT}, # CPU blocks: {COUNT}", ("blocks", "cpu_blocks")),
        ("cuda blocks:", rf"# cuda blocks: {COUNT}, # CPU blocks: {COUNT}", ("blocks", "cpu_blocks")),
        ("CUDA blocks:", rf"# CUDA blocks: {COUNT}, # CPU blocks: {COUNT}", ("blocks", "cpu_blocks")),
        (
            "Maximum concurrency for",
            rf"Maximum concurrency for {COUNT} tokens per request: {N}x",
            ("length", "concurrency"),
        ),
        ("Graph capturing finished", rf"Graph capturing finished in .{{1,20}}took {N} GiB", ("cuda_graphs",)),
        ("Setting attention block size", rf"Setting attention block size to {COUNT} tokens", ("block",)),
        ("padding layers, may waste", rf"Add {COUNT} padding layers, may waste", ("padding",)),
        (
            "KV cache is needed",
            rf"max seq len \({COUNT}\), \(?{N} GiB KV cache is needed",
            ("length", "kv_needed"),
        ),
        (
            "available KV cache memory (",
            rf"available KV cache memory \({N} GiB\)",
            ("kv_budget",),
        ),
        (
            "estimated maximum model length",
            rf"estimated maximum model length is {COUNT}",
            ("longest",),
        ),
    )
)
"""A literal, the pattern, and what its groups are."""

VERSION = re.compile(r"(?:LLM engine \(v|server version |vLLM version )(\d{1,2}\.\d{1,3}[\w.+-]{0,60})")
MODEL = re.compile(r"config: model=(['\"])([^'\"]{1,400})\1")
SETTING = re.compile(r"\b([a-z_]{4,40})=(?:torch\.)?([\w.+-]{1,60})")
ARGUMENT = re.compile(r"'([a-z_]{4,40})': (?:'([^']{0,400})'|([\w.+-]{1,60}))")
CHUNKS = re.compile(r"max_num_batched_tokens=(\d{1,9})")
COLOUR = re.compile(r"\x1b\[[0-9;]{0,20}[A-Za-z]")

OLD_ENGINE = ("Initializing a V0 LLM engine", "Initializing an LLM engine")
