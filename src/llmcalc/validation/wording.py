"""How llama.cpp, ik_llama.cpp and Ollama word their start-up lines, 2023 to 2026.

All patterns read a line whose runs of blanks were made single, from where the name of the function
that printed it ends. They begin there or with a literal, and lengths are bounded, so that time is
linear in the length of the log.
"""

from __future__ import annotations

import re

NUMBER = r"-?\d{1,12}(?:[.,]\d{1,6})?"
"""Some systems print a decimal comma."""

SIZE = re.compile(rf"({NUMBER}) (B|[KMGT]i?B)\b")
SCALE = {
    "B": 1 / 2**20, "KiB": 1 / 1024, "KB": 1 / 1024, "MiB": 1.0, "MB": 1.0, "GiB": 1024.0, "GB": 1024.0,
    "TiB": 1048576.0, "TB": 1048576.0,
}  # fmt: skip
"""Logs of 2023 write MB for 2^20 bytes."""

META = {"print_info", "llm_load_print_meta", "llama_model_load_internal"}
TENSORS = {"load_tensors", "llm_load_tensors"}
CONTEXT = {
    "llama_context", "llama_new_context_with_model", "llama_init_from_model", "llama_init_from_file",
    "sched_reserve", "resolve_fused_ops",
}  # fmt: skip
CACHE = ("llama_kv_cache", "llama_memory", "llama_dsv4")
"""Beginnings of names; in April 2025 such lines came from a bare `init`."""
CLIP = {
    "clip_model_loader", "clip_model_load", "clip_ctx", "load_hparams", "alloc_compute_meta",
    "reserve_compute_meta",
}  # fmt: skip
GLUED = ("llama_new_context_with_model", "llama_context", "llama_init_from_model")
LOADER = {"llama_model_loader", "llama.cpp"}
TABLE = {"llama_memory_breakdown_print", "common_memory_breakdown_print"}
FIT = {"llama_params_fit_impl", "common_params_fit_impl"}
BUILD = {"build", "version", "main", "common_params_print_info", "common_init"}

COLOUR = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
FUNCTION = re.compile(r"([A-Za-z_][A-Za-z0-9_]*|llama\.cpp)\Z")

BUFFER = re.compile(
    r"(\S+) (?:DSV4 \S+ )?(model |KV |RS |LoRA |state |output |input |compute )?buffer size = "
    rf"({NUMBER}) ([KMG]i?B)"
)
CACHE_SIZE = re.compile(
    rf"(?:KV self )?size = ({NUMBER}) (M[i]?B)"
    r"(?: \( ?(\d{1,12}) cells, (\d{1,6}) layers?, (\d{1,6})(?:/(\d{1,6}))? seqs(?: (\d{1,6}) rs_seq)?\))?",
    re.IGNORECASE,
)
CACHE_PART = re.compile(rf"(K-only|c\^KV|kv\^T|[KVRSP]) \((\w{{1,12}})\): ({NUMBER})")
STATE_SIZE = re.compile(rf"(\S[^=]*) ratio = .* size = ({NUMBER}) (MiB)")
CREATING = re.compile(r"creating (.+?) ?KV cache(?:, size = (\d{1,12}) cells)?")
CELLS = re.compile(r"kv_size = (\d{1,12})")
CACHE_TYPES = re.compile(r"type_([kv]) = '(\w+)'")
OFFLOADED = re.compile(r"offloaded (\d{1,6})/(\d{1,6}) layers to GPU")
SETTING = re.compile(r"([A-Za-z_][\w. ]{0,40}?) = (.+)")
FLASH = re.compile(r"Flash Attention (?:was auto, set to |not supported, set to )?(enabled|disabled)")
OVERRIDDEN = re.compile(
    r"[Tt]ensor (\S{1,200}) (?:\(\d{1,12} MiB \S{1,20}\) )?buffer type overridd?en to (\S{1,64})"
)
SLOTS = re.compile(r"n_slots = (\d{1,6})(?:, n_ctx_slot = (\d{1,12}), kv_unified = '(\w{1,8})')?")
TARGET = re.compile(r"against the target model '([^']{1,1000})'")
LOADED = re.compile(r"loaded meta data with \d+ key-value pairs and (\d{1,7}) tensors from (.+) \(version ")
KEY = re.compile(r"- kv +\d+: (\S+) (\S+) = (.*)")
TENSOR_TYPE = re.compile(r"- type (\S+): (\d+) tensors")
BITS = re.compile(rf"\(({NUMBER}) BPW\)")
PARAMS = re.compile(rf"({NUMBER}) ([KMBT])\b")

OLD_SIZES = (
    (re.compile(rf"(?:mem required|system memory used) = ({NUMBER}) (M[i]?B)"), "weights", "CPU"),
    (re.compile(rf"VRAM used(?: =|:) ({NUMBER}) (M[i]?B)"), "weights", "VRAM"),
    (re.compile(rf"VRAM kv self = ({NUMBER}) (M[i]?B)"), "kv_cache", "VRAM"),
    (re.compile(rf"VRAM scratch buffer: ({NUMBER}) (M[i]?B)"), "compute", "VRAM"),
    (
        re.compile(rf"allocating batch_size .* = ({NUMBER}) (MB) VRAM for the scratch buffer"),
        "compute",
        "VRAM",
    ),
    (re.compile(rf"compute buffer total size = ({NUMBER}) (M[i]?B)"), "compute", "CPU"),
    (re.compile(rf"total VRAM used: ({NUMBER}) (M[i]?B)"), "vram", "VRAM"),
)
"""Lines of 2023 that name no buffer: pattern, kind, and the name we give."""

BUILD_NUMBER = re.compile(r"build(?::| =)? ?(\d{1,9}) \((?:commit )?([0-9a-f]{6,40})\)")
BUILD_INFO = re.compile(r"build\"?[=:] ?(\d{1,9}),? ?\"?commit\"?[=:] ?\"?([0-9a-f]{6,40})")
BUILD_TAG = re.compile(r"\bb(\d{3,6})-([0-9a-f]{6,40})\b")
VERSION = re.compile(r"(\S+) \((?:build (\d{1,9}), commit )?([0-9a-f]{6,40})\)")
OLLAMA_VERSION = re.compile(r"\(version (\d[\w.+-]*)\)")

FOUND = re.compile(r"found \d+ (\w+) devices")
DEVICE = re.compile(r"Device (\d{1,3}): ([^,]{1,100}),(.*)")
DEVICE_TOTAL = re.compile(r"VRAM: (\d{1,12}) (MiB)")
USING = re.compile(r"using device (\S+) (?:\((.+)\) )?- (\d{1,12}) MiB free")
LISTED = re.compile(r"- (\S+) ?: (.+) \((\d{1,12}) MiB, (\d{1,12}) MiB free\)")
PCI = re.compile(r"\) \((?:[0-9a-f]{4}:[0-9a-f:.]+|unknown id)\Z")
VULKAN = re.compile(r"(\d{1,3}) = (.+?) \| ")
METAL = re.compile(r"GPU name: (\S.*)")
METAL_SIZE = re.compile(rf"recommendedMaxWorkingSetSize = ({NUMBER}) (M[i]?B)")
FIT_DEVICE = re.compile(r"- (\S+) \((.+)\) ?: (\d{1,12}) total, ")
PROJECTED = re.compile(r"projected to use (\d{1,12}) (MiB) of (device|host) memory")
ROW = re.compile(r"\| ?- (\S+)(?: \(([^|]*)\))? \| ([^|]*)\|")
DIGITS = re.compile(r"-?\d{1,18}")
CLIP_BACKEND = re.compile(r"CLIP using (\S+) backend")
CLIP_SIZE = re.compile(
    rf"(model size:|params backend buffer size =|compute allocated memory:) ({NUMBER}) (M[i]?B)"
)
FIELD = re.compile(r"\b([\w.]{1,64})=(\"[^\"]*\"|\S+)")

OTHERS = (
    ("vLLM", ("vllm",)),
    ("SGLang", ("sglang",)),
    ("TensorRT-LLM", ("tensorrt_llm", "tensorrt-llm")),
    ("Text Generation Inference", ("text_generation_launcher", "text-generation-inference")),
    ("ExLlama", ("exllama",)),
    ("MLX", ("mlx_lm", "mlx-lm")),
    ("Hugging Face Transformers", ("loading checkpoint shards", "transformers")),
)


def function_of(word: str) -> str | None:
    """The name of the printing function at the end of a word such as `....llama_context:`.

    Examples
    --------
    >>> function_of("......llama_context:"), function_of('msg="load_tensors:'), function_of("12:")
    ('llama_context', 'load_tensors', None)
    """
    found = FUNCTION.search(word[-64:-1])
    if not found:
        return None
    # What two threads print at once is glued together.
    return next((name for name in GLUED if found[1].endswith(name)), found[1])


def amount(number: str, unit: str) -> tuple[float, float]:
    """A printed size and the worth of its last digit. [MiB]

    Examples
    --------
    >>> amount("16.2", "GiB")
    (16588.8, 102.4)
    >>> amount("37,25", "MiB")
    (37.25, 0.01)
    """
    number = number.replace(",", ".")
    decimals = len(number.partition(".")[2])
    scale = SCALE[unit]
    return round(float(number) * scale, 6), round(scale / 10**decimals, 6)


def size_in(text: str) -> tuple[float, float] | None:
    """The first size in a text, with the worth of its last digit; None if there is none. [MiB]"""
    found = SIZE.search(text)
    return amount(found[1], found[2]) if found else None


def whole(text: str) -> int | None:
    """A whole number at the start of a text; None if there is none.

    Examples
    --------
    >>> whole("4096"), whole("-1, 0"), whole("[1, 2]"), whole("enabled")
    (4096, -1, None, None)
    """
    found = DIGITS.match(text)
    return int(found[0]) if found else None
