"""Options of single engines: read and checked, each with what the engine itself takes for granted."""

from __future__ import annotations

from typing import Any

from llmcalc.errors import InputError, Problems, one_of
from llmcalc.formula import is_array
from llmcalc.units import parse_integer, parse_length, shown

LLAMA_CPP = (
    "n_ctx", "parallel", "gpu_layers", "ubatch", "n_cpu_moe", "override_tensor", "flash_attn", "kv_unified",
    "swa_full", "tensor_split", "mla", "fit",
)  # fmt: skip
"""Keywords that are llama.cpp's own."""

OLLAMA = {
    "parallel": "OLLAMA_NUM_PARALLEL",
    "gpu_layers": "num_gpu",
    "ubatch": "num_batch",
    "flash_attn": "OLLAMA_FLASH_ATTENTION",
}
"""Keywords that Ollama has too, with its names for them."""

VLLM = (
    "gpu_memory_utilization", "max_num_seqs", "max_num_batched_tokens", "enforce_eager", "block_size",
    "disable_hybrid_kv_cache_manager", "enable_prefix_caching", "num_speculative_tokens",
    "async_scheduling", "dcp", "kv_cache_memory",
)  # fmt: skip
"""Keywords that are vLLM's own."""

OWNERS = {
    keyword: ("llama.cpp", "ollama") if keyword in OLLAMA else ("llama.cpp",) for keyword in LLAMA_CPP
} | dict.fromkeys(VLLM, ("vllm",))
"""The engines that know each keyword."""

OLLAMA_BUILD = 10_488
"""The llama.cpp build that Ollama of August 2026 starts."""

MAX_PARALLEL = 256
"""llama.cpp's LLAMA_MAX_SEQ."""
MAX_BATCH = 1 << 20
MAX_PATTERN = 500
NEWEST = 11_258
"""The newest llama.cpp build that real logs were compared with (October 2026)."""

IK_BUILD = 5_400
"""What ik_llama.cpp's graphs resemble most: it left llama.cpp in 2024 and took over much since."""

LATENT_FROM = 5_130
"""The build that began to cache latents of latent attention (April 2025)."""

ALL_OUTPUTS_UNTIL = 9_500
"""Builds up to about mid-2026 reserve logits of every position of a batch."""

YES, NO = ("true", "yes", "on", "1", "auto", "enabled"), ("false", "no", "off", "0", "disabled")


class LlamaOptions:
    """What llama.cpp is told, defaults resolved.

    Attributes
    ----------
    n_ctx : int or None
        Its total context over all slots; None where a context is given instead. [tokens]
    parallel : int or None
        Slots; None means as many as sequences. [-]
    gpu_layers : int or None
        Layers on devices, the output layer counted first; None is all. [-]
    batch, ubatch : int
        Logical and physical batch. [tokens]
    flash_attn, kv_unified, swa_full : bool
        Flash attention, one cache for all slots, and window caches of full length.
    n_cpu_moe : int
        First layers whose experts stay on the host. [-]
    overrides : list of (str, str)
        Patterns of tensor names, and ``host`` or the number of a device.
    mla : bool
        Whether latent attention caches its latent; files of before April 2025 cache full heads.
    split : list of float
        Shares of the devices; empty for equal ones. [-]
    build : int
        llama.cpp's build number. [-]
    fork : str
        ``ik`` for ik_llama.cpp, whose caches are llama.cpp's and whose compute buffers are not.
    fit : bool
        Whether llama-server chooses what the user did not.
    """

    __slots__ = (
        "batch", "build", "fit", "flash_attn", "fork", "gpu_layers", "kv_unified", "mla", "n_cpu_moe",
        "n_ctx", "overrides", "parallel", "split", "swa_full", "ubatch",
    )  # fmt: skip

    def __init__(self) -> None:
        self.n_ctx: int | None = None
        self.parallel: int | None = None
        self.gpu_layers: int | None = None
        self.batch, self.ubatch = 2048, 512
        self.flash_attn, self.kv_unified, self.swa_full = True, False, False
        self.n_cpu_moe = 0
        self.overrides: list[tuple[str, str]] = []
        self.split: list[float] = []
        self.build = NEWEST
        self.fork = ""
        self.mla = True
        self.fit = False

    @property
    def all_outputs(self) -> bool:
        """Whether logits of every position of a batch are reserved."""
        return self.build < ALL_OUTPUTS_UNTIL

    def to_dict(self) -> dict[str, Any]:
        """The options by their keywords."""
        return {
            "n_ctx": self.n_ctx,
            "parallel": self.parallel,
            "gpu_layers": self.gpu_layers,
            "ubatch": self.ubatch,
            "n_cpu_moe": self.n_cpu_moe,
            "override_tensor": [f"{pattern}={where}" for pattern, where in self.overrides] or None,
            "flash_attn": self.flash_attn,
            "kv_unified": self.kv_unified,
            "swa_full": self.swa_full,
            "tensor_split": self.split or None,
            "mla": self.mla,
            "fit": self.fit,
            "engine_version": self.fork or f"b{self.build}",
        }


def flag(value: Any, what: str) -> bool:
    """Read a switch: True, ``on``, ``off``, ``auto`` ..."""
    if isinstance(value, bool):
        return value
    word = str(value).strip().lower()
    if word in YES or word in NO:
        return word in YES
    raise InputError(f"{what} is {shown(value)}.", f"Use {what} on or {what} off.")


def _gpu_layers(value: Any) -> int | None:
    """``-ngl``: a number, ``all`` or ``-1``; above the layers it means all, as llama.cpp reads it."""
    word = str(value).strip().lower()
    if word in ("all", "auto", "-1", "-2"):
        return None
    return 0 if word == "0" else parse_integer(value, "-ngl", 100_000)


def _overrides(value: Any) -> list[tuple[str, str]]:
    """``-ot``: ``pattern=buffer``, several separated by commas."""
    found = []
    for text in value if isinstance(value, (list, tuple)) else str(value).split(","):
        pattern, mark, where = str(text).rpartition("=")
        place = where.strip().lower()
        if not mark or not pattern or not place:
            raise InputError(
                f"-ot {str(text)[:60]!r} names no buffer.",
                "Write pattern=CPU, such as -ot '\\.ffn_.*_exps\\.=CPU', or pattern=CUDA0.",
            )
        if len(pattern) > MAX_PATTERN:
            raise InputError("-ot has a pattern of over 500 characters.", "Write a shorter one.")
        digits = place.lstrip("abcdefghijklmnopqrstuvwxyz_")
        if "host" in place or place.startswith("cpu"):
            found.append((pattern, "host"))
        elif digits.isdigit() and digits.isascii():
            found.append((pattern, digits))
        else:
            raise InputError(f"-ot puts tensors on {where.strip()[:30]!r}.", "Use CPU, or a device: CUDA0.")
    return found


def _split(value: Any) -> list[float]:
    """``-ts``: shares such as ``3,1``."""
    words = value if isinstance(value, (list, tuple)) else str(value).replace("/", ",").split(",")
    try:
        shares = [float(word) for word in words]
    except ValueError:
        shares = []
    if not shares or min(shares) < 0 or not 0 < sum(shares) < float("inf"):
        raise InputError(f"--tensor-split {shown(value)} is no list of shares.", "Write them as 3,1.")
    return shares


def _build(value: Any) -> int:
    """A build (``b6000``), a release (``v0.5.0``) or a year."""
    word = str(value).strip().lower().lstrip("bv")
    if word.split("-")[0].isdigit() and len(word) < 8:
        number = int(word.split("-")[0])
        if 2023 <= number <= 2030 and not str(value).strip().lower().startswith("b"):
            return {2023: 1700, 2024: 3000, 2025: 5500}.get(number, NEWEST)
        return number
    if word.startswith("0."):
        return NEWEST
    raise InputError(f"--engine-version {shown(value)} is no build of llama.cpp.", "Write it as b6000.")


def llama_options(given: dict[str, Any]) -> LlamaOptions:
    """Read llama.cpp's options, telling all mistakes together.

    Parameters
    ----------
    given : dict
        Keywords; absent or None means not given.
    """
    options, problems = LlamaOptions(), Problems()

    def ask(keyword: str) -> Any:
        return given.get(keyword)

    with problems:
        if ask("n_ctx") is not None:
            options.n_ctx = parse_length(ask("n_ctx"), "--n-ctx")
    with problems:
        if ask("parallel") is not None:
            options.parallel = parse_integer(ask("parallel"), "--parallel", MAX_PARALLEL)
    with problems:
        if ask("gpu_layers") is not None:
            options.gpu_layers = _gpu_layers(ask("gpu_layers"))
    with problems:
        if ask("ubatch") is not None:
            options.ubatch = parse_integer(ask("ubatch"), "--ubatch", MAX_BATCH)
            options.batch = max(options.batch, options.ubatch)
    with problems:
        if ask("n_cpu_moe") is not None:
            number = str(ask("n_cpu_moe")).strip()
            options.n_cpu_moe = 0 if number == "0" else parse_integer(number, "--n-cpu-moe", 100_000)
    for keyword in ("flash_attn", "kv_unified", "swa_full", "mla", "fit"):
        with problems:
            if ask(keyword) is not None:
                setattr(options, keyword, flag(ask(keyword), f"--{keyword.replace('_', '-')}"))
    with problems:
        if ask("override_tensor"):
            options.overrides = _overrides(ask("override_tensor"))
    with problems:
        if ask("tensor_split") is not None:
            options.split = _split(ask("tensor_split"))
    with problems:
        if str(ask("engine_version")).strip().lower() in ("ik", "ik_llama.cpp"):
            options.fork, options.build = "ik", IK_BUILD
        elif ask("engine_version") is not None:
            options.build = _build(ask("engine_version"))
            if ask("mla") is None:
                options.mla = options.build >= LATENT_FROM
    problems.check()
    return options


def check_owners(engine: str, given: dict[str, Any]) -> None:
    """Refuse options that are another engine's.

    Raises
    ------
    InputError
        With the engines that know the option.
    """
    for keyword, owners in OWNERS.items():
        if given.get(keyword) not in (None, False) and engine not in owners:
            option = "-ot" if keyword == "override_tensor" else f"--{keyword.replace('_', '-')}"
            remedy = f"Add --engine {one_of(owners)}, or leave {option} out."
            if engine == "ollama":
                remedy = f"Use --engine llama.cpp, or leave {option} out."
                if keyword == "n_ctx":
                    remedy = "Use --context for num_ctx, the tokens of one sequence, and --parallel."
            raise InputError(
                f"{option} is an option of {' and '.join(owners)}, not of --engine {engine}.", remedy
            )


def engine_options(scenario: Any, given: dict[str, Any]) -> Any:
    """The engine's own options; llama.cpp's slots and total context settle sequences and context.

    Parameters
    ----------
    scenario : Scenario
        With engine, sequences and context; the latter two may be changed.
    given : dict
        Keywords; None means not given.
    """
    if scenario.engine == "vllm":
        from llmcalc.engine_options.vllm import vllm_options

        return vllm_options(given)
    if scenario.engine not in ("llama.cpp", "ollama"):
        if given["engine_version"] is not None:
            raise InputError(
                f"--engine {scenario.engine} has no versions.",
                "Leave --engine-version out, or name an engine.",
            )
        return None
    if scenario.engine == "ollama" and given["engine_version"] is not None:
        raise InputError(
            "--engine ollama is Ollama as of August 2026; other versions are not modelled.",
            "Leave --engine-version out.",
        )
    options = llama_options(given)
    if scenario.engine == "ollama":
        options.fit, options.build = options.gpu_layers is None, OLLAMA_BUILD
    many = scenario.sequences
    if options.parallel is not None and not is_array(many):
        if "sequences" in scenario.stated and many > options.parallel:
            raise InputError(
                f"--sequences {many} is more than the {options.parallel} slots of --parallel.",
                f"Use --parallel {many}.",
            )
        scenario.sequences = options.parallel
    if options.n_ctx is not None:
        if scenario.stated & {"context", "max_model_len", "prompt", "output"}:
            raise InputError("--n-ctx and --context are given together.", "Keep one of them.")
        slots = options.parallel or scenario.sequences
        scenario.context = options.n_ctx if options.kv_unified else options.n_ctx // slots
    return options
