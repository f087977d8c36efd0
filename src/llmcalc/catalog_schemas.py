"""What one entry of each catalog holds: the fields, their kinds and their bounds.

Imported by `catalog_build` alone, and as rarely: pydantic is no part of an estimate.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pydantic


class Entry(pydantic.BaseModel):
    """What all catalog entries share: a name, aliases, no unknown keys."""

    model_config = pydantic.ConfigDict(extra="forbid", strict=True)

    name: str = pydantic.Field(min_length=1, max_length=120)
    aliases: list[str] = []
    note: str | None = None


Kind = Literal["all", "matrix", "vector", "hidden", "outside", "embedding", "query_key"]
Positive = pydantic.confloat(gt=0, allow_inf_nan=False)
Finite = Annotated[float, pydantic.Field(allow_inf_nan=False)]


class Gpu(Entry):
    """One accelerator: marketed, driver-reported and runtime memory apart."""

    vendor: str
    kind: Literal["gpu", "soc", "cpu", "tpu", "npu", "accelerator"] = "gpu"
    architecture: str | None = None
    compute_capability: str | None = None
    memory_gb: float | None = pydantic.Field(None, gt=0, le=1e6)
    memory_type: str | None = None
    memory_mib_driver: float | None = pydantic.Field(None, gt=0, le=1e9)
    memory_mib_driver_source: str | list[str] | None = None
    ecc_of_driver_total: Literal["enabled", "disabled"] | None = None
    memory_mib_runtime: float | None = pydantic.Field(None, gt=0, le=1e9)
    memory_mib_runtime_source: str | list[str] | None = None
    working_set_gib: float | None = pydantic.Field(None, gt=0, le=1e6)
    working_set_source: str | list[str] | None = None
    usable_gib: float | None = pydantic.Field(None, gt=0, le=1e6)
    usable_low_gib: float | None = pydantic.Field(None, gt=0, le=1e6)
    usable_high_gib: float | None = pydantic.Field(None, gt=0, le=1e6)
    usable_source: str | None = None
    mig: dict[str, float] | None = None
    mig_source: str | list[str] | None = None
    mig_assumed: list[str] = []
    bandwidth_gb_s: float | None = pydantic.Field(None, gt=0)
    tflops_dense: dict[str, float] | None = None
    achievable: Any = None
    interconnect: str | None = None
    scale_up_domain: int | None = pydantic.Field(None, ge=1)
    tdp_w: float | None = pydantic.Field(None, gt=0)
    released: str | None = None
    price_usd_h: float | None = pydantic.Field(None, gt=0)
    confidence: Literal["verified", "single-source", "medium", "low", "derived", "user"] = "user"
    sources: dict[str, Any] = {}
    flags: list[str] = []
    notes: str | None = None
    popular: bool = False


class Model(Entry):
    """One model: names, where it comes from, and the configuration fields themselves."""

    hf: str | None = None
    organisation: str | None = None
    licence: str | None = None
    released: str | None = None
    context: int | None = pydantic.Field(None, gt=0)
    proven: Literal["all", "shapes"] = "all"
    stored_params: int | None = pydantic.Field(None, gt=0)
    stored_note: str | None = None
    sources: list[str] = []
    config: dict[str, Any]


class Format(Entry):
    """One number format: elements and bytes of a block."""

    elements: int = pydantic.Field(gt=0)
    bytes: int = pydantic.Field(gt=0)
    weights: bool = False
    kv: bool = False
    head_bytes: int = pydantic.Field(0, ge=0, le=1024)
    residual: int = pydantic.Field(0, ge=0, le=1 << 20)
    sources: list[str] = []


class Scheme(Entry):
    """One quantization scheme: how it stores a matrix, and which matrices it touches."""

    method: str
    options: dict[str, Any] = {}
    bits: list[float] = []
    group: list[int] = []
    touches: list[Literal["linear", "small", "expert", "head", "embedding", "router"]] = []
    towers: bool = False
    continuous: bool = False
    words: list[Literal["sym", "asym", "dq", "static", "dynamic"]] = []
    unties: bool = False
    skips: bool = False
    leaves_experts: bool = False
    nominal: float | None = pydantic.Field(None, gt=0, le=64)
    hardware: str | None = None
    runtime: str | None = None
    grade: Literal["exact", "derived", "assumed"] = "exact"
    sources: list[str] = []


class Text(Entry):
    """A text that tokenizers were measured on."""

    kind: Literal["declaration", "file"]
    characters: int = pydantic.Field(gt=0)
    bytes: int = pydantic.Field(gt=0)
    words: int | None = pydantic.Field(None, gt=0)
    sources: list[str] = []


class Tokenizer(Entry):
    """A tokenizer: tokens of texts, and its published characters per token of English."""

    vocabulary: int | None = pydantic.Field(None, gt=0)
    english_characters_per_token: float = pydantic.Field(gt=0, le=100)
    tokens: dict[str, int]
    sources: list[str] = []


class Source(Entry):
    """One publication, package or log that figures come from."""

    title: str
    kind: Literal["paper", "package", "repository", "documentation", "log", "vendor", "standard"]
    reference: str
    read: str | None = None


class Measurement(Entry):
    """One run of an engine: what it was told, and what it printed."""

    engine: Literal["llama.cpp", "mlx"]
    program: str
    build: str
    era: Literal["2023", "2024", "2025", "2026", "ik", "mlx"]
    date: str
    model: str
    source: str
    options: dict[str, Any]
    gpus: int = pydantic.Field(ge=0, le=1024)
    devices: str | None = None
    measured: dict[
        Literal[
            "weights", "kv_cache", "kv_cache_full", "state", "activations", "host_activations", "scratch",
            "peak",
        ],
        float | list[float],
    ]  # fmt: skip
    refusal: str | None = None


class ServerMeasurement(Entry):
    """One start of a server: what it was told, and what its log says of memory."""

    engine: Literal["vllm", "sglang", "tensorrt-llm", "transformers"]
    program: str
    build: str
    date: str
    model: str
    checkpoint: str | None = None
    source: str
    options: dict[str, Any]
    devices: str | None = None
    memory: float | None = pydantic.Field(None, gt=0, le=4096)
    tokens_from: str | None = None
    measured: dict[
        Literal[
            "weights", "activations", "cuda_graphs", "non_torch", "kv_budget", "pool", "kv_bytes_per_token",
            "kv_needed", "kv_tokens", "blocks", "concurrency", "longest",
        ],
        float,
    ]  # fmt: skip


class Runs(Entry):
    """Measured runs of a model, or of a family, in one engine: one figure each, and its prediction."""

    rows: list[list[str | int | float | None]]


class TrainingMeasurement(Entry):
    """One training run: what it was told, and its published peak on one GPU, or that it ran out of memory."""

    engine: Literal["training"]
    program: str
    build: str
    date: str
    model: str
    config: dict[str, Any] | None = None
    source: str
    group: Literal["full", "lora", "qlora", "sharded full", "sharded lora", "megatron", "megatron-b200"]
    quality: Literal[1, 2] | None = None
    options: dict[str, Any]
    devices: str | None = None
    rank: Literal["first", "last"] | None = None
    metric: Literal["allocated", "active", "reserved", "unknown"] | None = None
    published: str | None = None
    measured: dict[Literal["peak"], float]
    out_of_memory: bool = False
    card: str | None = None
    inferred: list[str] = []
    note: str | None = None

    @pydantic.model_validator(mode="after")
    def _peak_or_card(self) -> TrainingMeasurement:
        if self.out_of_memory == ("peak" in self.measured):
            raise ValueError("a run has a measured peak, or ran out of memory")
        if self.out_of_memory and self.card is None:
            raise ValueError("a run out of memory names its card")
        if not self.out_of_memory and None in (self.quality, self.metric, self.published):
            raise ValueError("a measured run has quality, metric and published")
        return self


class State(pydantic.BaseModel):
    """One state of an optimizer: of which tensors, how many elements, in which dtype."""

    model_config = pydantic.ConfigDict(extra="forbid", strict=True)

    name: str = pydantic.Field(min_length=1, max_length=40)
    of: Kind = "all"
    not_of: list[Kind] = []
    shape: Literal[
        "full", "rows", "columns", "rows_columns", "low_rank", "projector", "squares", "heads", "scalar"
    ] = "full"
    dtype: Literal["parameter", "fp32", "bf16", "fp8", "int8", "int4"] = "parameter"


class Optimizer(Entry):
    """One optimizer: its states by the shape of a tensor, and what a step takes besides."""

    states: list[State] = []
    step: Literal["none", "foreach", "largest"] = "none"
    step_copies: float = pydantic.Field(1, ge=0, le=16)
    step_bytes: int | None = pydantic.Field(None, ge=1, le=8)
    block: int | None = pydantic.Field(None, gt=0, le=1 << 20)
    least: int = pydantic.Field(0, ge=0, le=1 << 30)
    paged: bool = False
    rank: int | None = pydantic.Field(None, gt=0, le=1 << 20)
    most: int | None = pydantic.Field(None, gt=0)
    always_in_backward: bool = False
    grade: Literal["exact", "derived", "calibrated", "assumed"] = "derived"
    sources: list[str] = []


class Offer(pydantic.BaseModel):
    """What somebody asks for one GPU and hour, or the span of what several ask."""

    model_config = pydantic.ConfigDict(extra="forbid", strict=True, populate_by_name=True)

    seller: str = pydantic.Field(alias="from", min_length=1)
    kind: Literal["on-demand", "reserved", "lowest", "market"]
    usd: list[float] = pydantic.Field(min_length=1, max_length=2)
    date: str
    source: str


class Price(Entry):
    """Offers of one accelerator of the catalog."""

    offers: list[Offer] = pydantic.Field(min_length=1)


class Training(Entry):
    """One published training run: what it did, and how long it took."""

    model: str
    params: int | None = pydantic.Field(None, gt=0)
    active: int | None = pydantic.Field(None, gt=0)
    tokens: int | None = pydantic.Field(None, gt=0)
    gpu: str
    gpus: int | None = pydantic.Field(None, gt=0)
    hours: float | None = pydantic.Field(None, gt=0)
    hours_note: str | None = None
    step_mfu: float | None = pydantic.Field(None, gt=0, le=100)
    step_hfu: float | None = pydantic.Field(None, gt=0, le=100)
    energy_mwh: float | None = pydantic.Field(None, gt=0)
    tco2e: float | None = pydantic.Field(None, gt=0)
    cost_usd: float | None = pydantic.Field(None, gt=0)
    date: str
    source: str
    use: Literal["fit"] | None = None
    left_out: str | None = None


class Covariance(pydantic.BaseModel):
    """A covariance matrix of coefficients, or of their logarithms."""

    model_config = pydantic.ConfigDict(extra="forbid", strict=True)

    of: list[str] = pydantic.Field(min_length=1, max_length=16)
    values: list[list[float]]

    @pydantic.model_validator(mode="after")
    def _square(self) -> Covariance:
        size = len(self.of)
        if len(self.values) != size or any(len(row) != size for row in self.values):
            raise ValueError(f"values must be {size} rows of {size} numbers")
        return self


Ends = Annotated[list[Finite | None], pydantic.Field(min_length=2, max_length=2)]


class Law(Entry):
    """One scaling law: form, coefficients with units, what it was fitted to, and how far it was seen."""

    title: str
    year: int = pydantic.Field(ge=1990, le=2100)
    answers: list[
        Literal[
            "optimum", "loss", "learning-rate", "batch", "critical-batch", "data", "vocabulary", "conversion",
            "objective",
        ]
    ] = []  # fmt: skip
    beside: bool = False
    form: str = pydantic.Field(min_length=1, max_length=40)
    equation: str
    coefficients: dict[str, Finite] = {}
    units: dict[str, str] = {}
    variants: dict[str, dict[str, Finite]] = {}
    errors: dict[str, Finite] = {}
    intervals: dict[str, Ends] = {}
    interval_percent: int | None = pydantic.Field(None, ge=1, le=99)
    covariance: Covariance | None = None
    batch_covariance: Covariance | None = None
    uncertainty: str | None = None
    range: dict[
        Literal[
            "compute",
            "params",
            "tokens",
            "tokens_per_param",
            "epochs",
            "experts",
            "granularity",
            "vocabulary",
        ],
        Ends,
    ] = {}
    convention: Literal[
        "total", "non-embedding", "no-input-embedding", "matmul", "active", "active-non-embedding",
        "flops-per-token", "non-zero", "none",
    ]  # fmt: skip
    tokenizer: str | None = None
    data: str | None = None
    estimator: str | None = None
    status: Literal[
        "two-sources", "one-source", "secondary", "from-memory", "exponents-only", "form-only", "user"
    ]
    where: str | None = None
    sources: list[str] = []

    @pydantic.model_validator(mode="after")
    def _whole(self) -> Law:
        silent = self.status in ("secondary", "from-memory", "exponents-only", "form-only")
        if silent and (self.coefficients or self.answers):
            raise ValueError(f"a law of status {self.status} gives no numbers: no coefficients, no answers")
        named = {*self.coefficients, *(key for own in self.variants.values() for key in own)}
        if named != set(self.units):
            odd = ", ".join(sorted(named ^ set(self.units)))
            raise ValueError(f"coefficients and units must name the same: {odd}")
        if not {*self.errors, *self.intervals} <= named:
            raise ValueError("errors and intervals are of coefficients")
        return self


SCHEMAS: dict[str, type[Entry]] = {
    "gpus": Gpu, "models": Model, "formats": Format, "schemes": Scheme, "sources": Source,
    "measurements": Measurement, "runs": Runs, "optimizers": Optimizer, "laws": Law, "prices": Price,
    "trainings": Training,
    "texts": Text, "tokenizers": Tokenizer,
}  # fmt: skip

SERVERS = ("vllm", "sglang", "tensorrt-llm", "transformers")
"""Engines whose measurements are starts of a server."""


def schema_of(kind: str, entry: dict[str, Any]) -> type[Entry]:
    """The schema that an entry of a catalog is checked against."""
    if kind == "measurements" and entry.get("engine") in SERVERS:
        return ServerMeasurement
    if kind == "measurements" and entry.get("engine") == "training":
        return TrainingMeasurement
    return SCHEMAS[kind]
