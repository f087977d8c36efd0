"""What a start-up log tells of llama.cpp's options, and what it leaves open."""

from __future__ import annotations

from typing import Any

from llmcalc.validation.loads import Load, Log
from llmcalc.validation.records import Context, Line

FLASH_FROM = 2_775
"""The first build with flash attention."""

UBATCH_FROM = 2_400
"""The first build with a physical batch of its own (March 2024)."""

GRAPHS_FROM = 1_850
"""Builds of 2023 kept one scratch buffer, which is not modelled."""

STREAMS_FROM = 5_912
"""Before this build all slots shared one cache (llama.cpp #14363)."""

WORDINGS = (
    ("sched_reserve:", 9_000, "2026"),
    ("llama_kv_cache_unified", 6_000, "mid-2025"),
    ("llama_init_from_model:", 4_700, "early 2025"),
    ("VRAM used", 1_700, "2023"),
    ("mem required", 1_700, "2023"),
    ("kv self size", 1_700, "2023"),
    ("compute buffer total size", 1_700, "2023"),
    ("llm_load_tensors:", 3_000, "2024"),
    ("llama_new_context_with_model:", 3_000, "2024"),
    ("llama_kv_cache_init:", 4_700, "early 2025"),
    ("llama_kv_cache:", 7_000, "late 2025"),
)
"""Words of a log, a build that printed them, and when that was; the first that is found decides."""

WORDS = {
    "quant": ("the file's type", "--quant"),
    "gpu_layers": ("the layers on GPUs", "-ngl"),
    "tensor_split": ("the GPUs' shares", "-ts"),
    "override_tensor": ("which tensors were put elsewhere", "--n-cpu-moe or -ot"),
    "n_ctx": ("the context", "-c"),
    "parallel": ("the slots", "-np"),
    "kv_dtype_k": ("the format of keys", "-ctk"),
    "kv_dtype_v": ("the format of values", "-ctv"),
    "ubatch": ("the physical batch", "-ub"),
    "flash_attn": ("whether flash attention is on", "-fa"),
    "engine_version": ("the build", "--engine-version"),
}
"""What each option is, and how it is written."""

CACHE = ("gpu_layers", "n_ctx", "kv_dtype_k", "kv_dtype_v")
NEEDS = {
    "weights": ("quant", "gpu_layers"),
    "kv_cache": CACHE,
    "state": ("gpu_layers", "parallel"),
    "activations": (*CACHE, "parallel", "ubatch", "flash_attn", "engine_version"),
    "host_logits": ("parallel",),
}
"""Options that each kind of line depends on."""


def options_of(log: Log, load: Load) -> dict[str, Any]:
    """What llama.cpp was told, as keywords of `llmcalc.vram`; absent where the log does not say."""
    found: dict[str, Any] = {}
    gpus = gpus_of(log, load)
    build = build_of(log, load)
    if build is not None:
        found["engine_version"] = build
    if load.context is not None:
        found |= _context(load.context)
    era = dated(load)
    old = number_of(build) or (era[0] if build is None and era is not None else None)
    if old is not None:
        found = _of_their_time(old, load.context) | found
    if load.gpu_layers is not None:
        found["gpu_layers"] = load.gpu_layers[0]
    elif not gpus:
        found["gpu_layers"] = 0
    if load.overridden:
        found["override_tensor"] = [
            f"^{name.replace('.', chr(92) + '.')}$={_buffer(buffer, gpus)}"
            for name, buffer in load.overridden
        ]
    split = _split(log, load, gpus)
    if split:
        found["tensor_split"] = split
    return found


def build_of(log: Log, load: Load) -> str | None:
    """The build as ``--engine-version`` takes it; None where neither number nor wording tells it."""
    if log.program == "ik_llama.cpp":
        return "ik"
    if log.build is not None:
        return f"b{log.build}"
    if load.context is not None and "n_outputs_max" in load.context.settings:
        return "2026"
    return None


def dated(load: Load) -> tuple[int, str] | None:
    """A build that words its lines like this log, and when it was made; None if they tell nothing."""
    texts = [line.text for line in load.lines]
    texts += [line.text for context in load.contexts for line in context.lines]
    return next(
        ((build, when) for word, build, when in WORDINGS if any(word in text for text in texts)), None
    )


def number_of(version: Any) -> int | None:
    """A build's number; None for names and years."""
    word = str(version).removeprefix("b")
    return int(word) if word.isdigit() and str(version).startswith("b") else None


def _of_their_time(build: int, context: Context | None) -> dict[str, Any]:
    """What older builds did not print, since there was no choice."""
    found: dict[str, Any] = {}
    if build < FLASH_FROM:
        found["flash_attn"] = False
    if build < UBATCH_FROM:
        found["ubatch"] = (context.n_batch if context is not None else None) or 512
    if build < GRAPHS_FROM:
        found |= {"kv_dtype_k": "f16", "kv_dtype_v": "f16", "parallel": 1}
    if build < STREAMS_FROM:
        found["kv_unified"] = True
    return found


def _context(context: Context) -> dict[str, Any]:
    """Settings of the context that answers."""
    found: dict[str, Any] = {
        "n_ctx": _cells(context), "ubatch": context.n_ubatch, "parallel": _slots(context),
        "kv_dtype_k": context.type_k, "kv_dtype_v": context.type_v, "mla": _latent(context),
        "flash_attn": context.flash_attn, "kv_unified": context.kv_unified, "swa_full": context.swa_full,
    }  # fmt: skip
    if any(cache.part("K-only") for cache in context.caches):
        found["kv_dtype_v"] = found["kv_dtype_k"]  # no values are stored
    kept = max((cache.snapshots or 0 for cache in context.caches), default=0)
    if kept:
        found |= {"draft": "mtp", "draft_max": kept}
    return {name: value for name, value in found.items() if value is not None}


def _cells(context: Context) -> int | None:
    """The context over all slots: as set, as the server counts it, or by the cache's cells. [tokens]"""
    if context.n_ctx is not None:
        return context.n_ctx
    each, slots = context.number("n_ctx_slot"), context.number("n_slots")
    if each and slots:
        return each if context.kv_unified else each * slots
    full = [cache for cache in context.caches if cache.kind == "kv_cache" and cache.cells]
    if full:
        return int(full[0].cells or 0) * (full[0].streams or 1)
    return context.number("kv_size")


def _slots(context: Context) -> int | None:
    """Sequences at once. Builds that print their batch but not this took one if not told. [-]"""
    seen = [cache.sequences for cache in context.caches if cache.sequences]
    found = context.n_seq_max or context.number("n_slots") or (seen[0] if seen else None)
    return found or (1 if context.n_batch is not None else None)


def _latent(context: Context) -> bool | None:
    """Whether latents are cached: by the names of the parts, or by keys half again as wide as values."""
    for cache in context.caches:
        if cache.part("c^KV", "K-only"):
            return True
        key, value = cache.part("K"), cache.part("V")
        if key and value and key[0] == value[0] and value[1] and key[1] != value[1]:
            return key[1] / value[1] < 1.3
    return None


def gpus_of(log: Log, load: Load) -> list[str]:
    """Devices that hold something, in the order of the log."""
    names = [line.device for line in load.counted if line.device and not line.host]
    plain = dict.fromkeys(device_of(name) for name in names)
    known = [name for name in log.devices if name in plain]
    return known or list(plain)


def device_of(name: str) -> str:
    """A buffer's device."""
    return name.removesuffix("_Mapped").removesuffix("_Private")


def _buffer(name: str, gpus: list[str]) -> str:
    """A buffer as ``-ot`` names it: the host, or a device by its place."""
    return f"GPU{gpus.index(name)}" if name in gpus else "CPU"


def _split(log: Log, load: Load, gpus: list[str]) -> list[float] | None:
    """Shares of several GPUs: their free memory, or the layers that equal caches show."""
    if len(gpus) < 2:
        return None
    free = [device.free_mib for device in log.devices.values() if device.free_mib]
    if len(free) == len(gpus):
        return free
    caches = [cache for cache in (load.context.caches if load.context else ()) if cache.kind != "state"]
    if load.gpu_layers is None or load.gpu_layers[0] != load.gpu_layers[1] or len(caches) != 1:
        return None
    held = [sum(line.mib for line in caches[0].lines if line.device == gpu) for gpu in gpus]
    layers = load.gpu_layers[0] - 1
    shares = [own * layers / (sum(held) or 1) for own in held]
    if sum(held) == 0 or any(abs(share - round(share)) > 0.001 for share in shares):
        return None
    return [float(round(share) + (gpu == gpus[-1])) for share, gpu in zip(shares, gpus, strict=True)]


def open_of(kind: str, lines: list[Line], given: dict[str, Any], on_host: bool) -> list[str]:
    """Options that a line depends on, and that neither log nor user tells.

    Parameters
    ----------
    kind : str
        Item of the estimate.
    lines : list of Line
        What was printed.
    given : dict
        What is told.
    on_host : bool
        Whether weights lie on the host, so that GPUs copy them into their buffers.
    """
    needed = list(NEEDS[kind])
    if any(line.kind == "kv_swa" for line in lines):
        needed += ["parallel", "ubatch"]
    if kind == "activations" and on_host:
        needed.append("quant")
    told = set(given) | ({"n_ctx"} if "context" in given else set())
    return [name for name in needed if name not in told]
