"""What older builds of llama.cpp did otherwise, as far as buffers go.

Dates of the changes are those of the pull requests in its repository; builds between are taken as
the nearest. Builds of 2023 had one scratch buffer, which is not modelled: the graphs of
later ones stand for it, and the answer says so.
"""

from __future__ import annotations


class Era:
    """How a build writes its graphs.

    Attributes
    ----------
    indexed : bool
        Whether caches are written by row numbers, which are inputs (August 2025); values that are not
        for flash attention take a number an element.
    takes_embeddings : bool
        Whether every graph has room for embeddings beside tokens (January 2026).
    half_mask : bool
        Whether the mask of flash attention comes in 16 bit; before it was cast in the graph (mid-2026).
    turns : bool
        Whether quantized caches are rotated (April 2026).
    values_first : bool
        Whether values are computed before keys (mid-2026).
    caches_encoders : bool
        Whether encoders had a cache that they never read (until June 2025).
    copies_fused : bool
        Whether queries, keys and values of one fused matrix are copied apart (until August 2025).
    widens : bool
        Whether CUDA keeps 16-bit copies of a quantized cache in the buffer (mid-2026).
    doubles_latents : bool
        Whether a latent cache holds its latent once more, as values (until January 2026; never in
        ik_llama.cpp).
    output_first : bool
        Whether ``-ngl`` offloads the output before the last layers, not after all (January 2026).
    """

    __slots__ = (
        "caches_encoders", "copies_fused", "doubles_latents", "half_mask", "indexed", "output_first",
        "takes_embeddings", "turns", "values_first", "widens",
    )  # fmt: skip

    def __init__(self, build: int, fork: str = "") -> None:
        self.indexed = build >= INDEXED
        self.copies_fused = build < INDEXED
        self.caches_encoders = build < ENCODERS_CACHELESS
        self.takes_embeddings = build >= TAKES_EMBEDDINGS
        self.turns = build >= TURNS
        self.doubles_latents = build < VALUELESS and not fork
        self.output_first = build >= OUTPUT_FIRST
        self.half_mask = self.values_first = self.widens = build >= MID_2026


ENCODERS_CACHELESS = 5_600
INDEXED = 6_072
TAKES_EMBEDDINGS = 7_700
OUTPUT_FIRST = 7_650
"""llama.cpp #18148."""

VALUELESS = 7_830
"""llama.cpp #19067."""

TURNS = 8_700
MID_2026 = 9_500

PADDINGS = ((6_970, 256, 256), (6_870, 1, 1), (2_880, 256, 32), (2_775, 256, 256), (0, 32, 32))
"""From build on: steps of cells with flash attention, and without (llama.cpp #7257, #16812, #17046)."""


def padding(build: int, flash: bool) -> int:
    """Cells of a cache come in steps of this. [tokens]

    Examples
    --------
    >>> padding(6182, flash=False)
    32
    """
    return next(fused if flash else plain for start, fused, plain in PADDINGS if build >= start)


TODAY = Era(1 << 30)
