"""What MLX holds while a GPU works: buffers of the command buffers that are still under way.

MLX evaluates lazily: the processor encodes kernels into command buffers far ahead of the GPU, and a
buffer that a kernel reads is freed only when the command buffer it was encoded in is done. A command
buffer is sent off once its kernels have touched some 50 million elements or dispatched some 50 kernels;
ten may be under way before the processor waits for the oldest. In prefill the GPU is always behind, so
the peak follows from the sizes alone (mlx 0.32: `backend/metal/device.cpp`, `transforms.cpp`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

UNDER_WAY = 10
"""Command buffers that are sent off before the processor waits: MAX_ACTIVE_TASKS. [-]"""

ELEMENTS, KERNELS = 50, 50
"""A command buffer ends above so many 2^20 elements, or kernels: Max and Ultra chips. [-]"""

SMALL_ELEMENTS, SMALL_KERNELS = 40, 40
"""The same on base and Pro chips. [-]"""


class Buffer:
    """A piece of memory: elements, bytes of one, and how many still need it."""

    __slots__ = ("elements", "holders", "size", "users")

    def __init__(self, elements: int, size: int, users: int = 1) -> None:
        self.elements, self.size, self.users, self.holders = elements, size, users, 0


class Encoder:
    """Encodes kernels and follows the memory that is held.

    Parameters
    ----------
    elements, kernels : int
        When a command buffer ends: 2^20 elements touched, kernels dispatched. [-]
    under_way : int
        Command buffers that the GPU may be behind. [-]

    Attributes
    ----------
    active, peak : int
        Bytes held now, and at most so far; weights not counted. [B]

    Examples
    --------
    A kernel that reads what nobody else needs writes into it; else the input is held until its command
    buffer is done:

    >>> encoder = Encoder()
    >>> hidden = encoder.kernel([], 1000)
    >>> wide = encoder.kernel([hidden], 4000)
    >>> encoder.drop(hidden)
    >>> narrow = encoder.kernel([wide], 4000, donate=wide)
    >>> encoder.peak, encoder.active
    (10000, 10000)
    """

    __slots__ = (
        "active", "elements", "held", "kernels", "limits", "peak", "sent", "touched", "under_way",
    )  # fmt: skip

    def __init__(self, elements: int = ELEMENTS, kernels: int = KERNELS, under_way: int = UNDER_WAY) -> None:
        self.limits, self.under_way = (elements, kernels), under_way
        self.active = self.peak = 0
        self.held: list[Buffer] = []
        self.touched: set[Buffer] = set()
        self.elements = self.kernels = 0
        self.sent: deque[list[Buffer]] = deque()

    def new(self, elements: int, width: int = 2) -> Buffer:
        """Allocate a buffer. [elements], [B]"""
        made = Buffer(elements, elements * width)
        self.active += made.size
        if self.active > self.peak:
            self.peak = self.active
        return made

    def drop(self, *buffers: Buffer) -> None:
        """Say that nothing will read these any more."""
        for buffer in buffers:
            buffer.users -= 1
            if not buffer.users and not buffer.holders:
                self.active -= buffer.size
                buffer.size = 0

    def kernel(
        self, inputs: Iterable[Buffer], elements: int, *, donate: Buffer | None = None, weights: int = 0,
        width: int = 2, count: int = 1,
    ) -> Buffer:  # fmt: skip
        """Encode a kernel (or `count` of them) and give its output.

        Parameters
        ----------
        inputs : iterable of Buffer
            What it reads.
        elements : int
            Elements of its output. [-]
        donate : Buffer, optional
            An input that it may write into, which passes to the output where nothing else needs it.
        weights : int
            Stored words of weights that it reads. [-]
        width : int
            Bytes of one element of the output. [B]
        count : int
            Kernels that this stands for. [-]

        Returns
        -------
        Buffer
            The output, which its maker must drop.
        """
        read = list(inputs)
        given = donate is not None and donate.users == 1 and not donate.holders
        out = donate if given and donate is not None else self.new(elements, width)
        if donate is not None and not given:
            self.drop(donate)
        touched, held = self.touched, self.held
        for buffer in read:
            if buffer not in touched:
                touched.add(buffer)
                self.elements += buffer.elements
            if buffer is not out:
                buffer.holders += 1
                held.append(buffer)
        if out not in touched:
            touched.add(out)
            self.elements += out.elements
        self.elements += weights
        self.kernels += count
        if self.elements >> 20 > self.limits[0] or self.kernels > self.limits[1]:
            self._send()
        return out

    def _send(self) -> None:
        self.sent.append(self.held)
        self.held, self.touched, self.elements, self.kernels = [], set(), 0, 0
        if len(self.sent) > self.under_way:
            for buffer in self.sent.popleft():
                buffer.holders -= 1
                if not buffer.holders and not buffer.users:
                    self.active -= buffer.size
                    buffer.size = 0
