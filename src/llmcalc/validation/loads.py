"""What a start-up log says as a whole: models that were loaded, devices, the table at the end."""

from __future__ import annotations

from llmcalc.validation.records import Context, Line, sum_mib
from llmcalc.validation.wording import whole

CACHELESS = ("bert", "t5encoder")
"""Ends of the names of architectures that read a text at once and cache nothing."""


class Load:
    """One model that was loaded, with the contexts that use it.

    Attributes
    ----------
    role : str
        `model`, `draft`, `mmproj` (a projector for images or sound) or `vocab` (no tensors read).
    engine : str
        `llama.cpp`; `ollama` for the sizes that Ollama's own engine or its planner prints.
    dry : bool
        A pass that only measures, before the real load.
    path, name, arch, model_type, file_type : str or None
        As printed.
    size_bytes : int or None
        Tensor bytes, to the digits printed. [B]
    bits_per_weight : float or None
        As printed. [bits]
    params : int or None
        Parameters, to the digits printed. [-]
    meta : dict
        Hyperparameters as printed: name to text.
    keys : dict
        Keys of the GGUF file as printed, the tokenizer's left out.
    tensor_types : dict
        Number format to tensors. [-]
    tensors : int or None
        Tensors of the file. [-]
    overridden : list of (str, str)
        Tensors that were put elsewhere, with the buffer: what ``-ot`` and ``--n-cpu-moe`` did.
    gpu_layers : tuple of int or None
        Layers on GPUs, and all. [-]
    lines : list of Line
        Weights and adapters.
    contexts : list of Context
        In the order of the log.
    """

    __slots__ = (
        "bits_per_weight", "contexts", "dry", "engine", "file_type", "gpu_layers", "keys", "latest", "lines",
        "meta", "overridden", "params", "path", "role", "size_bytes", "tensor_types", "tensors",
    )  # fmt: skip

    def __init__(self, role: str = "model", engine: str = "llama.cpp", path: str | None = None) -> None:
        self.role, self.engine, self.path, self.dry = role, engine, path, False
        self.file_type: str | None = None
        self.size_bytes: int | None = None
        self.bits_per_weight: float | None = None
        self.params: int | None = None
        self.meta: dict[str, str] = {}
        self.keys: dict[str, str] = {}
        self.tensor_types: dict[str, int] = {}
        self.tensors: int | None = None
        self.overridden: list[tuple[str, str]] = []
        self.gpu_layers: tuple[int, int] | None = None
        self.lines: list[Line] = []
        self.latest: dict[tuple[str, str | None], Line] = {}
        self.contexts: list[Context] = []

    @property
    def arch(self) -> str | None:
        """Name of the architecture."""
        return self.meta.get("arch") or self.keys.get("general.architecture")

    @property
    def name(self) -> str | None:
        """Name that the file gives itself."""
        return self.meta.get("general.name") or self.keys.get("general.name") or self.meta.get("model name")

    @property
    def model_type(self) -> str | None:
        """Size class as llama.cpp names it, such as 8B."""
        return self.meta.get("model type")

    def hyper(self, name: str) -> int | None:
        """A hyperparameter as a whole number; None if absent or given per layer. [-]"""
        return whole(self.meta[name]) if name in self.meta else None

    def per_layer(self, name: str) -> list[int] | None:
        """A hyperparameter that is printed as one number per layer. [-]"""
        value = self.meta.get(name, "")
        if not (value.startswith("[") and value.endswith("]")):
            return None
        return [int(part) for part in value[1:-1].replace(",", " ").split() if part.lstrip("-").isdigit()]

    @property
    def context(self) -> Context | None:
        """The first context, which is the one that answers."""
        return self.contexts[0] if self.contexts else None

    @property
    def counted(self) -> list[Line]:
        """Lines that add up to what the model and its contexts hold."""
        own = [line for line in self.lines if not line.total and not line.superseded]
        return own + [line for context in self.contexts for line in context.counted]

    def mib(self, *kinds: str, device: str | None = None) -> float:
        """Sum of the counted lines of these kinds (all if none is named), on one device or all. [MiB]"""
        return sum_mib(
            line
            for line in self.counted
            if (not kinds or line.kind in kinds) and (device is None or line.device == device)
        )

    @property
    def missing(self) -> tuple[str, ...]:
        """What a complete start-up log has and this one lacks, in words."""
        kinds = {line.kind for line in self.counted}
        caches = not kinds.isdisjoint(("kv_cache", "kv_swa", "state"))
        settings = any(context.n_ctx for context in self.contexts)
        cacheless = (self.arch or "").endswith(CACHELESS)
        found = {
            "the model's hyperparameters": bool(self.arch and self.size_bytes),
            "the weights of each device": "weights" in kinds,
            "the settings of the context": settings or self.engine == "ollama",
            "the cache": caches or cacheless,
            "the compute buffers": "compute" in kinds,
        }
        return tuple(name for name, there in found.items() if not there)


class Device:
    """One device.

    Attributes
    ----------
    name : str
        Such as `CUDA0`.
    description : str
        Such as `NVIDIA GeForce RTX 3090`; empty where only sizes were printed.
    total_mib, free_mib : float or None
        Memory, where printed; free as first printed. [MiB]
    """

    __slots__ = ("description", "free_mib", "name", "total_mib")

    def __init__(self, name: str) -> None:
        self.name, self.description = name, ""
        self.total_mib: float | None = None
        self.free_mib: float | None = None


class Breakdown:
    """A row of the table that llama.cpp prints when it ends. [MiB]"""

    __slots__ = (
        "compute",
        "context",
        "description",
        "device",
        "free",
        "model",
        "total",
        "unaccounted",
        "used",
    )

    def __init__(self, device: str, description: str, used: tuple[int, int, int, int]) -> None:
        self.device, self.description = device, description
        self.used, self.model, self.context, self.compute = used
        self.total: int | None = None
        self.free: int | None = None
        self.unaccounted: int | None = None


class Log:
    """A whole log.

    Attributes
    ----------
    program : str
        `llama.cpp`, `ollama` or `ik_llama.cpp`.
    build : int or None
        Number of the build.
    commit, version : str or None
        As printed.
    devices : dict
        Name to Device.
    loads : list of Load
        In the order of the log, passes that only measure included.
    breakdown : list of Breakdown
        The table at the end, if it is there.
    lines : list of Line
        Every size of the log, in its order; those of no model (`projected`) included.
    """

    __slots__ = ("breakdown", "build", "commit", "devices", "lines", "loads", "program", "version")

    def __init__(self) -> None:
        self.program = "llama.cpp"
        self.build: int | None = None
        self.commit: str | None = None
        self.version: str | None = None
        self.devices: dict[str, Device] = {}
        self.loads: list[Load] = []
        self.breakdown: list[Breakdown] = []
        self.lines: list[Line] = []

    @property
    def main(self) -> Load | None:
        """The model that answers: the first real load; of Ollama's own plans the last."""
        models = [load for load in self.loads if load.role == "model" and (load.counted or load.size_bytes)]
        real = [load for load in models if load.engine == "llama.cpp" and load.counted]
        for loads in ([load for load in real if not load.dry], real):
            if loads:
                return loads[0]
        plans = [load for load in models if load.counted]
        return plans[-1] if plans else models[0] if models else None

    @property
    def missing(self) -> tuple[str, ...]:
        """What the log lacks of the model that answers, in words; empty for a complete log."""
        return self.main.missing if self.main is not None else ()
