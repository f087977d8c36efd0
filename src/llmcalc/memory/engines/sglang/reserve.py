"""What SGLang leaves outside the share for weights and caches, and how large that share is by default.

Its own heuristics, read off its releases in our own words: a table by tensor ranks until 0.4.7, sizes by
the class of GPU until 0.5.2, since then a sum for activations, graphs and ranks. All in MiB of what
nvidia-smi reports, not of what the runtime does.
"""

from __future__ import annotations

from llmcalc.engine_options.sglang import SglangOptions
from llmcalc.hardware import Device
from llmcalc.model.inventory import Inventory, size
from llmcalc.units import GIB, MIB

BY_RANKS = (
    ((0, 4, 0), ((16, 79), (8, 81), (4, 85), (2, 87), (1, 88))),
    ((0, 3, 0), ((16, 79), (8, 82), (4, 85), (2, 87), (1, 88))),
    ((0, 2, 0), ((16, 79), (8, 83), (4, 85), (2, 87), (1, 88))),
    ((0, 0, 0), ((8, 80), (4, 82), (2, 85), (1, 90))),
)
"""Shares by tensor ranks until 0.4.7. [%]"""

CLASSES = ((20, 28, 1), (35, 28, 1), (90, 95, 5), (160, 120, 5))
"""From 0.4.8 to 0.5.2: GPUs up to so many GiB reserve tenths of GiB, and more a rank; larger ones 32 GiB."""

STEPS = (
    ((0, 5, 23), ((20, 2048, 8, 8), (35, 4096, 48, 160), (60, 4096, 32, 160), (160, 8192, 256, 512))),
    ((0, 5, 6), ((20, 2048, 8, 8), (35, 2048, 24, 80), (60, 4096, 32, 160), (160, 8192, 256, 512))),
    ((0, 5, 3), ((20, 2048, 8, 8), (35, 2048, 16, 80), (60, 4096, 32, 160), (160, 8192, 256, 512))),
    ((0, 4, 8), ((35, 2048, 8, 80), (90, 8192, 160, 160), (160, 8192, 256, 256))),
    ((0, 0, 0), ((24.5, 2048, 8, 80), (80, 8192, 160, 160), (176, 8192, 256, 256))),
)
"""GPUs up to so many GiB: tokens of a chunk, largest captured batch below four tensor ranks and from four."""

LARGEST, UNKNOWN = (16_384, 512, 512), (4096, 160, 160)
"""The same above all steps, and where the GPU is not known."""

PREFILL_STEPS = ((32, 4), (256, 16), (512, 32), (1024, 64), (4096, 256))
"""Prefill is captured up to so many tokens in such steps; beyond, in steps of 512. [tokens]"""

TOKEN = 3
"""Halves of a MiB that each token of a chunk is reserved with. [MiB / 2]"""

FLOOR, LARGE = 10 * 1024, 60 * 1024
"""The least reserve of GPUs above 60 GiB. [MiB]"""

TOWERS, TOWERS_DEFAULT = (((0, 4, 6), 90), ((0, 3, 0), 95), ((0, 0, 0), 100)), (0, 4, 9)
"""Until 0.4.9 what a vision tower leaves of the share [%]; before 0.4.9 also of one that the user set."""

IMAGES = 100 * MIB
"""Embeddings of images, allocated when the pools have been sized (SGLANG_VLM_CACHE_SIZE_MB). [B]"""


class Plan:
    """What SGLang decides before it loads anything.

    Attributes
    ----------
    chunk, graphs : int
        Tokens of a prefill chunk, and the largest captured batch. [tokens], [-]
    sizes : int
        Batch sizes that are captured. [-]
    fraction : tuple of int
        Share of the free memory for weights and caches, as numerator and denominator.
    """

    __slots__ = ("chunk", "fraction", "graphs", "sizes")

    def __init__(self, chunk: int, graphs: int, fraction: tuple[int, int]) -> None:
        self.chunk, self.graphs, self.fraction = chunk, graphs, fraction
        self.sizes = len(captured(graphs))


def captured(most: int) -> list[int]:
    """Batch sizes of which decoding is captured.

    Examples
    --------
    "Capture cuda graph bs [1, 2, 4, 8]" of a small card, and the 36 sizes up to 256:

    >>> captured(8), len(captured(256))
    ([1, 2, 4, 8], 36)
    """
    steps = [1, 2, 4, 8, 12, *range(16, 257, 8), *range(272, 512, 16), *range(512, most + 1, 32)]
    return [n for n in steps if n <= most]


def prefill_sizes(most: int) -> int:
    """Token counts of which prefill is captured. [-]

    Examples
    --------
    >>> prefill_sizes(8192)
    58
    """
    total = start = 0
    for end, step in PREFILL_STEPS:
        total += (min(most, end) - start) // step if most > start else 0
        start = end
    return total + (max(most - start, 0) // 512)


def plan(options: SglangOptions, device: Device | None, inventory: Inventory, pp: int) -> Plan:
    """The chunk, the graphs and the share, as set or by the size of the GPU.

    Parameters
    ----------
    options : SglangOptions
        The release and what the user set.
    device : Device or None
        Its driver's total decides.
    inventory : Inventory
        Towers and latent attention change the share.
    pp : int
        Pipeline stages. [-]

    Examples
    --------
    An H100 of 81,559 MiB since 0.5.3: 512 MiB, 1.5 MiB a token of the chunk, 2 MiB a captured batch and
    128 MiB for one rank, 13,440 MiB in all:

    >>> import llmcalc
    >>> from llmcalc.catalog import Catalog
    >>> from llmcalc.engine_options.sglang import sglang_options
    >>> from llmcalc.hardware import parse_gpu
    >>> model, h100 = llmcalc.model("llama-3.1-8b"), parse_gpu("h100", Catalog())
    >>> found = plan(sglang_options({"engine_version": "0.5.3"}), h100, model, 1)
    >>> found.chunk, found.graphs, found.fraction
    (8192, 256, (835, 1000))
    """
    era, ranks = options.era, options.ranks or 1
    chunk, few, many = LARGEST if device is not None else UNKNOWN
    if device is not None:
        rows = next(rows for start, rows in STEPS if era.version >= start)
        for limit, *row in rows:
            if device.memory_bytes < limit * GIB:
                chunk, few, many = row
                break
    graphs = options.graphs or (few if ranks < 4 else many)
    if options.graphs is None and options.requests is not None and era.version >= (0, 5, 18):
        graphs = min(graphs, options.requests)
    chunk = options.chunk or chunk
    found = options.fraction or _default(options, device, inventory, pp, chunk, graphs)
    if options.fraction is None or era.version < TOWERS_DEFAULT:
        found = _for_towers(found, inventory, era.version)
    return Plan(max(chunk // options.replicas, 1) if options.shares_batch else chunk, graphs, found)


def _default(
    options: SglangOptions, device: Device | None, inventory: Inventory, pp: int, chunk: int, graphs: int
) -> tuple[int, int]:
    """The share where nobody sets it."""
    era, ranks = options.era, (options.ranks or 1) * pp
    total = 0 if device is None else device.memory_bytes // MIB
    if era.version < (0, 4, 8):
        share = _by_ranks(era.version, ranks, total, bool(options.drafts))
    elif not total:
        return 88, 100
    elif era.version < (0, 5, 3):
        share = _rounded(total, _by_class(options, total, ranks))
    else:
        share = _rounded(total, _by_sum(options, total, ranks, chunk, graphs, _is_latent(inventory)))
    return share


def _rounded(total: int, reserved: float) -> tuple[int, int]:
    """What is left of the GPU, to three digits; at least one of a thousand."""
    return max(round(1000 * (total - reserved) / total), 1), 1000


def _by_ranks(version: tuple[int, ...], ranks: int, total: int, drafts: bool) -> tuple[int, int]:
    """Until 0.4.7: by tensor ranks, and from 0.4.6 by what a large GPU has beyond them."""
    table = next(table for start, table in BY_RANKS if version >= start)
    share = next(percent for least, percent in table if ranks >= least)
    if version >= (0, 4, 6) and total > 80 * 1024:
        if version < (0, 4, 6, 2):
            return total - 13 * 1024, total
        if total > 96 * 1024:
            kept = total - (20 if drafts and version >= (0, 4, 7) else 18) * 1024
            return kept, total
        return 88, 100
    return share, 100


def _by_class(options: SglangOptions, total: int, ranks: int) -> float:
    """From 0.4.8 to 0.5.2: by the class of GPU. [MiB]"""
    reserved = 32 * 1024.0
    for limit, tenths, more in CLASSES:
        if total < limit * 1024:
            reserved = (tenths + more * ranks) * 1024 / 10
            break
    return reserved + (2048 if options.drafts else 0) + (4096 if options.shares_batch else 0)


def _by_sum(
    options: SglangOptions, total: int, ranks: int, chunk: int, graphs: int, is_latent: bool
) -> float:
    """Since 0.5.3: activations of a chunk, graphs, ranks. [MiB]"""
    version = options.era.version
    reserved = 512 + max(chunk, 2048) * TOKEN / 2 + ranks * 128.0
    if not options.eager or version < (0, 5, 15):
        reserved += graphs * 2
    if options.shares_batch:
        reserved += graphs * options.replicas * (4.5 if graphs > 300 else 3)
    if options.era.captures_prefill and not options.eager:
        reserved += 1536 if is_latent else 8 * prefill_sizes(chunk)
    if total > LARGE:
        reserved = max(reserved, FLOOR)
    if options.drafts and version < (0, 5, 18):
        reserved += 4096 if (0, 5, 10) <= version < (0, 5, 15) else 2048
    return reserved


def _is_latent(inventory: Inventory) -> bool:
    return any(cache.kind == "latent" for group in inventory.groups for cache in group.caches)


def _for_towers(share: tuple[int, int], inventory: Inventory, version: tuple[int, ...]) -> tuple[int, int]:
    """Less for models with a vision tower, since 0.4.10 by its layers and width against ViT-L/14's."""
    towers = [g for g in inventory.groups if g.component == "vision" and g.place == "layer" and g.ops]
    if not towers:
        return share
    if version < (0, 4, 10):
        percent = next(percent for start, percent in TOWERS if version >= start)
        return share[0] * percent, share[1] * 100
    layers, width = sum(len(group.layers) for group in towers), size(towers[0].ops[0].out)
    if inventory.family.startswith("qwen"):
        layers = 24  # its configuration calls them depth, which SGLang does not read
    complexity = layers * width * width / (24 * 1024 * 1024)
    factor = 0.95 * max(0.8, min(1.05, 1.1 - 0.1 * complexity))
    return max(round(1000 * factor * share[0] / share[1]), 1), 1000
