"""Host memory of ZeRO's offloading."""

from __future__ import annotations

from collections.abc import Iterable

from llmcalc.formula import Quantity, is_array


def pinned(sizes: Iterable[Quantity]) -> Quantity:
    """What PyTorch takes more than was asked for: pinned memory comes in powers of two. [B]

    Parameters
    ----------
    sizes : iterable of int or ndarray
        Of each buffer. [B]

    Examples
    --------
    >>> pinned([3 << 30, 4 << 30]) >> 30
    1
    """
    more: Quantity = 0
    for size in sizes:
        if is_array(size):
            import numpy as np

            whole = 2 ** np.ceil(np.log2(np.maximum(size, 1))).astype(np.int64)
        else:
            whole = 1 << (int(size) - 1).bit_length() if size > 0 else 0
        more = more + whole - size
    return more
