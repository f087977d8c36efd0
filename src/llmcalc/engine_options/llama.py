"""Options of llama.cpp, read and checked, each with what llama.cpp itself takes for granted."""

from __future__ import annotations

import re
from typing import Any

from llmcalc.engine_options.reading import NO, YES, flag
from llmcalc.errors import InputError, Problems
from llmcalc.units import parse_integer, parse_length, shown

MAX_PARALLEL = 256
"""llama.cpp's LLAMA_MAX_SEQ."""
MAX_BATCH = 1 << 20
MAX_PATTERN = 500
DEVICES = ("", "cuda", "rocm", "hip", "musa", "vulkan", "mtl", "metal", "sycl", "opencl", "cann", "gpu")
"""How backends call their devices, before the number."""

NEWEST = 11_258
"""The newest llama.cpp build that real logs were compared with (October 2026)."""

IK_BUILD = 5_400
"""What ik_llama.cpp's graphs resemble most: it left llama.cpp in 2024 and took over much since."""

LATENT_FROM = 5_130
"""The build that began to cache latents of latent attention (April 2025)."""

FIRST_YEAR = 2023
YEARS = {2023: 1_700, 2024: 3_000, 2025: 5_500}
"""A build of the middle of each year."""

GRAPHS_FROM = 1_850
"""Builds of 2023 kept one scratch buffer, which is not modelled."""

ALL_OUTPUTS_UNTIL = 9_500
"""Builds up to about mid-2026 reserve logits of every position of a batch."""

DRAFTED = 3
"""Tokens that are drafted at once by default: ``--spec-draft-n-max``. [-]"""

REPACKS = ("avx2", "avx512", "neon")
"""Kinds of CPU that ``--repack`` tells apart."""


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
    mmproj : str or None
        The projector: ``on`` for the model's own, or a file; None is none.
    mmproj_offload : bool
        Whether it lies on a GPU where there is one.
    lora : list of str
        Adapters: files, or ``r=N``.
    draft, draft_quant : str or None
        The draft model, or ``mtp`` for the model's own prediction layers; its file type.
    draft_max : int
        Tokens drafted at once. [-]
    repack : str or None
        The CPU's instructions that weights of the host are re-laid out for; ``off``; None is not told apart.
    """

    __slots__ = (
        "batch", "build", "draft", "draft_max", "draft_quant", "fit", "flash_attn", "fork", "gpu_layers",
        "kv_unified", "lora", "mla", "mmproj", "mmproj_offload", "n_cpu_moe", "n_ctx", "overrides",
        "parallel", "repack", "split", "swa_full", "ubatch",
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
        self.mmproj: str | None = None
        self.mmproj_offload = True
        self.lora: list[str] = []
        self.draft: Any = None
        self.draft_quant: str | None = None
        self.draft_max = DRAFTED
        self.repack: str | None = None

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
            **self._beside(),
        }

    def _beside(self) -> dict[str, Any]:
        """What is loaded beside the model, where anything is."""
        found: dict[str, Any] = {}
        if self.mmproj is not None:
            found |= {"mmproj": self.mmproj, "mmproj_offload": self.mmproj_offload}
        if self.lora:
            found["lora"] = self.lora
        if self.draft is not None:
            found |= {
                "draft": str(getattr(self.draft, "name", self.draft)), "draft_quant": self.draft_quant,
                "draft_max": self.draft_max,
            }  # fmt: skip
        if self.repack is not None:
            found["repack"] = self.repack
        return found


def _gpu_layers(value: Any) -> int | None:
    """``-ngl``: a number, ``all`` or ``-1``; above the layers it means all, as llama.cpp reads it."""
    word = str(value).strip().lower()
    if word in ("all", "auto", "-1", "-2"):
        return None
    if word == "0":
        return 0
    try:
        return parse_integer(value, "-ngl", 100_000)
    except InputError:
        raise InputError(
            f"-ngl is {shown(value)}.", "Give the layers on GPUs: 0, 20, all (the output counts as one)."
        ) from None


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
        _check_pattern(pattern)
        digits = place.lstrip("abcdefghijklmnopqrstuvwxyz_")
        if "host" in place or place.startswith("cpu"):
            found.append((pattern, "host"))
        elif digits.isdigit() and digits.isascii() and place.removesuffix(digits) in DEVICES:
            found.append((pattern, str(int(digits))))
        else:
            raise InputError(f"-ot puts tensors on {where.strip()[:30]!r}.", "Use CPU, or a device: CUDA0.")
    return found


def _check_pattern(pattern: str) -> None:
    """Refuse what is no regular expression, and what could take hours to match."""
    from llmcalc.precision.patterns import backtracks

    if len(pattern) > MAX_PATTERN:
        raise InputError("-ot has a pattern of over 500 characters.", "Write a shorter one.")
    try:
        re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise InputError(f"-ot {pattern[:60]!r} is no pattern: {error}.", "Escape dots: '\\.'.") from None
    reason = backtracks(pattern)
    if reason:
        raise InputError(
            f"-ot {pattern[:60]!r} could take hours to match: {reason}.", "Write it without: 'ffn_.*_exps'."
        )


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
    """A build (``b6000``, ``b6000-1a2b3c4d``), a release (``v0.5.0``) or a year.

    Examples
    --------
    >>> [_build(word) for word in ("b6000-1a2b3c4d", "2024", "v0.5.0")]
    [6000, 3000, 11258]
    """
    word = str(value).strip().lower()
    number = word.lstrip("bv").partition("-")[0]
    if word.lstrip("v").startswith("0."):
        return NEWEST
    if number.isdigit() and number.isascii() and len(number) < 6 and int(number):
        build = int(number)
        if word.startswith("b") or not 2000 <= build < 2100:
            return build
        if build >= FIRST_YEAR:
            return YEARS.get(build, NEWEST)
    raise InputError(
        f"--engine-version {shown(value)} is no build of llama.cpp.", "Write it as b6000, or a year: 2024."
    )


def llama_options(given: dict[str, Any]) -> LlamaOptions:
    """Read llama.cpp's options, telling all mistakes together.

    Parameters
    ----------
    given : dict
        Keywords; absent or None means not given.
    """
    options, problems = LlamaOptions(), Problems()

    def ask(keyword: str) -> Any:
        value = given.get(keyword)
        return None if getattr(value, "ndim", 0) else value  # an array is refused by its owner

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
    _beside(options, given, problems)
    problems.check()
    return options


def _beside(options: LlamaOptions, given: dict[str, Any], problems: Problems) -> None:
    """Read what is loaded beside the model, and how the host lays out weights."""
    with problems:
        word = given.get("mmproj")
        if word is not None:
            text = word if isinstance(word, bool) else str(word).strip()
            is_file = isinstance(text, str) and bool(text) and text.lower() not in (*YES, *NO)
            options.mmproj = str(text) if is_file else "on" if flag(text, "--mmproj") else None
        options.mmproj_offload = not given.get("no_mmproj_offload")
        if options.mmproj is None and not options.mmproj_offload:
            raise InputError("--no-mmproj-offload is for a projector.", "Add --mmproj on, or --mmproj FILE.")
    with problems:
        options.lora = _adapters(given.get("lora"))
    with problems:
        options.draft = given.get("draft")
        options.draft_quant = given.get("draft_quant")
        if given.get("draft_max") is not None:
            options.draft_max = parse_integer(given["draft_max"], "--draft-max", 1024)
        alone = [key for key in ("draft_quant", "draft_max") if given.get(key) is not None]
        if options.draft is None and alone:
            raise InputError(
                f"--{alone[0].replace('_', '-')} is for a draft model.",
                "Name one: --draft MODEL, or --draft mtp.",
            )
        if is_prediction(options.draft) and options.draft_quant is not None:
            raise InputError(
                "The prediction layers of --draft mtp are part of the model's file.",
                "Leave --draft-quant out.",
            )
        if options.draft is not None and not is_prediction(options.draft) and options.draft_quant is None:
            options.draft_quant = given.get("quant")
    with problems:
        if given.get("repack") is not None:
            options.repack = _repack(given["repack"])


def has_extras(options: LlamaOptions) -> bool:
    """Whether anything is asked for beside the model, or how the host lays it out."""
    asked = (options.mmproj, options.draft, options.repack)
    return bool(options.lora) or any(value is not None for value in asked)


def is_prediction(draft: Any) -> bool:
    """Whether the model drafts with prediction layers of its own."""
    return isinstance(draft, str) and draft.strip().lower() in ("mtp", "draft-mtp")


def _adapters(value: Any) -> list[str]:
    """``--lora``: files or ranks, several separated by commas."""
    words = list(value) if isinstance(value, (list, tuple)) else [] if value is None else [value]
    names = [name.strip() for word in words for name in str(word).split(",")]
    if not all(names):
        raise InputError("--lora names no adapter.", "Give a GGUF file, or a rank: --lora r=16.")
    return names


def _repack(value: Any) -> str:
    """``--repack``: on, off, or the kind of CPU."""
    word = str(value).strip().lower()
    if word in REPACKS:
        return word
    if not isinstance(value, bool) and word not in (*YES, *NO):
        raise InputError(f"--repack is {shown(value)}.", f"Use on, off, {', '.join(REPACKS)}.")
    return "on" if flag(value, "--repack") else "off"
