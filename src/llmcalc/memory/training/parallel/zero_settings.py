"""What DeepSpeed is told of its stages: one object with the defaults of its own code."""

from __future__ import annotations

import sys

DEVICES = ("none", "cpu", "nvme")


class Offload:
    """Where a part of the states lies, and through which buffers it comes.

    Attributes
    ----------
    device : str
        ``none``, ``cpu`` or ``nvme``.
    pinned : bool
        Whether host memory is page-locked.
    buffers : int
        Buffers between host and NVMe. [-]
    buffer_size : int
        Elements of one, of parameters. [-]
    most_on_host : int
        Elements of parameters that stay on the host although the rest lies on NVMe. [-]
    ratio : float
        Share of the optimizer that is offloaded (stage 3). [-]
    """

    __slots__ = ("buffer_size", "buffers", "device", "most_on_host", "pinned", "ratio")

    def __init__(self, device: str = "none", buffers: int = 4) -> None:
        self.device, self.buffers, self.pinned = device, buffers, True
        self.buffer_size, self.most_on_host, self.ratio = 100_000_000, 1_000_000_000, 1.0

    @property
    def away(self) -> bool:
        """Whether it lies off the device."""
        return self.device != "none"


class ZeroSettings:
    """Stage and sizes. Buckets and thresholds count elements, not bytes.

    Attributes
    ----------
    stage : int
        0 to 3. [-]
    reduce_bucket, allgather_bucket, prefetch_bucket : int
        Elements of gradients that are summed at once, of weights gathered at once after the step, and of
        weights fetched ahead of their use. [-]
    persistence, model_persistence : int
        Tensors up to so many elements stay whole on every GPU, at most so many in all. [-]
    max_live, max_reuse : int
        Elements of weights that may be whole at once; those used again within so many stay. [-]
    sub_group : int
        Elements of states that one step of the optimizer updates at once. [-]
    contiguous, reduce_scatter, all_ranks_at_once : bool
        Gradients go through a bucket of their own; are summed for their owner alone; for all in one go.
    overlap : bool or None
        Whether gradients are summed while others are made; None is stage 3's default alone.
    optimizer, params : Offload
        Where they lie.
    gradient_element, communication_element : int or None
        Bytes in which gradients are accumulated and summed; None follows the model. [B]
    checks_overflow : bool
        Whether gradients are searched for infinities before the step.
    secondary : int
        GPUs of one machine that keep a second copy of the weights between them (hpZ); 1 is none. [-]
    shard : int
        GPUs that share one copy (MiCS); -1 is all. [-]
    quantized_frozen, quantized_gather : bool
        Frozen weights are kept in 8 bit; weights are gathered in 8 bit.
    sequential : bool
        Weights are gathered one tensor at a time.
    loads_whole : bool
        Stage 3 cuts a model that is whole on every GPU, and not each tensor as it is made.
    """

    __slots__ = (
        "all_ranks_at_once", "allgather_bucket", "checks_overflow", "communication_element", "contiguous",
        "gradient_element", "loads_whole",
        "max_live", "max_reuse", "model_persistence", "optimizer", "overlap", "params",
        "persistence", "prefetch_bucket", "quantized_frozen", "quantized_gather", "reduce_bucket",
        "reduce_scatter", "secondary", "sequential", "shard", "stage", "sub_group",
    )  # fmt: skip

    def __init__(self, stage: int = 0) -> None:
        self.stage = stage
        self.reduce_bucket = self.allgather_bucket = 500_000_000
        self.prefetch_bucket, self.persistence = 50_000_000, 100_000
        self.model_persistence = sys.maxsize
        self.max_live = self.max_reuse = self.sub_group = 1_000_000_000
        self.contiguous = self.reduce_scatter = self.all_ranks_at_once = self.checks_overflow = True
        self.overlap: bool | None = None
        self.optimizer, self.params = Offload(), Offload(buffers=5)
        self.gradient_element: int | None = None
        self.communication_element: int | None = None
        self.secondary, self.shard = 1, -1
        self.quantized_frozen = self.quantized_gather = self.sequential = False
        self.loads_whole = False

    @property
    def overlaps(self) -> bool:
        """Whether gradients are summed while others are made."""
        return self.stage == 3 if self.overlap is None else self.overlap
