"""Options that are transformers' own, under its own names where it has them."""

from __future__ import annotations

from typing import Any

from llmcalc.engine_options.reading import flag
from llmcalc.engine_options.transformers_era import era_of
from llmcalc.errors import InputError, Problems, did_you_mean, one_of
from llmcalc.units import parse_integer, parse_length, shown

CACHES = ("dynamic", "static", "quantized", "offloaded", "offloaded_static")
"""Names of `cache_implementation` that `generate` takes."""
STATIC_NAMES = ("sliding_window", "hybrid", "hybrid_chunked")
"""Older names of a static cache."""
ATTENTIONS = {
    "eager": "eager", "sdpa": "sdpa", "flash": "flash", "flash_attention_2": "flash",
    "flash_attention_3": "flash",
}  # fmt: skip
BITS = {"quanto": (2, 4), "hqq": (1, 2, 3, 4, 8), "fp8": (8,)}
"""Bits that each backend of a quantized cache takes."""
EXPERTS = ("grouped_mm", "eager")
MAX_TOKENS = 1 << 40


class TransformersOptions:
    """What transformers is told.

    Attributes
    ----------
    era : Era
        The release, and what it does.
    cache : str
        ``dynamic``, ``static``, ``quantized`` ...
    attention : str
        ``eager``, ``sdpa``, ``flash``; empty for what the model's class would get.
    backend : str
        Of a quantized cache.
    bits, group, residual : int
        Of a quantized cache: bits of an element, elements that share a scale, tokens kept whole.
    max_length : int
        Tokens of a static cache; 0 for as many as the context. [tokens]
    keep : int or None
        Tokens that logits are made for: 0 is all, None what `generate` does. [tokens]
    chunk : int
        Tokens of the prompt in one pass; 0 for all. [tokens]
    padding : bool
        Whether prompts differ in length, so that a mask is needed.
    kernels : bool
        Whether recurrent layers run with kernels of their own, not with the PyTorch reference.
    experts : str
        How experts are run; empty for the release's default.
    """

    __slots__ = (
        "attention", "backend", "bits", "cache", "chunk", "era", "experts", "group", "keep", "kernels",
        "max_length",
        "padding", "residual",
    )  # fmt: skip

    def __init__(self) -> None:
        self.era = era_of(None)
        self.cache, self.attention, self.backend, self.experts = "dynamic", "", "quanto", ""
        self.bits, self.group, self.residual = 4, 64, 128
        self.max_length = self.chunk = 0
        self.keep: int | None = None
        self.padding, self.kernels = False, True

    @property
    def is_static(self) -> bool:
        """Whether the cache has its full length from the start."""
        return self.cache in ("static", "offloaded_static")

    @property
    def is_offloaded(self) -> bool:
        """Whether caches lie in host memory but for the layer at work and the next."""
        return self.cache.startswith("offloaded")

    @property
    def groups_experts(self) -> bool:
        """Whether experts run in groups."""
        return self.experts == "grouped_mm" if self.experts else self.era.groups_experts

    def logits_of(self, tokens: int) -> int:
        """Tokens of a pass that logits are made for. [tokens]"""
        keep = self.keep if self.keep is not None else int(self.era.keeps_last_logits)
        return min(keep, tokens) if keep else tokens

    def packed(self, elements: int) -> int:
        """Bytes of quantized elements; each group has a scale and a zero point in 16 bit. [B]

        Examples
        --------
        >>> TransformersOptions().packed(64)
        36
        """
        groups = 0 if self.backend == "fp8" else -(-elements // self.group)
        return -(-elements * self.bits // 8) + 4 * groups

    def stored(self, kept: Any, tokens: int, last: int) -> int:
        """Positions in a layer's tensors after a pass of the `last` of so many tokens. [tokens]

        A dynamic cache names its window's newest positions, in a tensor that holds all of the pass.
        """
        slides = kept.kind in ("window", "chunk") and kept.window is not None
        if kept.rate > 1:
            return tokens // int(kept.rate)
        if self.is_static:
            length = max(self.max_length, tokens)
            return int(min(length, kept.window)) if slides else length
        return int(min(tokens, kept.window - 1 + last)) if slides and self.era.slides else tokens


def _choice(value: Any, allowed: tuple[str, ...], option: str) -> str:
    word = str(value).strip().lower()
    if word not in allowed:
        near = did_you_mean(word, allowed, 1)
        hint = f"Did you mean {near[0]}? " if near else ""
        raise InputError(f"{option} {shown(value)} is not known.", f"{hint}Use {option} {one_of(allowed)}.")
    return word


def transformers_options(given: dict[str, Any]) -> TransformersOptions:
    """Read transformers' options, telling all mistakes together.

    Parameters
    ----------
    given : dict
        Keywords; absent or None means not given.

    Examples
    --------
    >>> transformers_options({"cache": "quantized", "cache_bits": 2}).bits
    2
    """
    options, problems = TransformersOptions(), Problems()
    with problems:
        options.era = era_of(given.get("engine_version"))
    with problems:
        if given.get("cache") is not None:
            word = _choice(given["cache"], CACHES + STATIC_NAMES, "--cache")
            options.cache = "static" if word in STATIC_NAMES else word
    with problems:
        if given.get("attention") is not None:
            options.attention = ATTENTIONS[_choice(given["attention"], tuple(ATTENTIONS), "--attention")]
    with problems:
        if given.get("experts_implementation") is not None:
            options.experts = _choice(given["experts_implementation"], EXPERTS, "--experts-implementation")
            if options.experts == "grouped_mm" and not options.era.groups_experts:
                raise InputError(
                    f"transformers {options.era.name} runs experts one after the other.",
                    "Leave --experts-implementation out, or use --engine-version 5.0 or newer.",
                )
    _lengths(options, given, problems)
    with problems:
        _quantized(options, given)
    for name, keyword in (("padding", "padding"), ("kernels", "state_kernels")):
        with problems:
            if given.get(keyword) is not None:
                setattr(options, name, flag(given[keyword], f"--{keyword.replace('_', '-')}"))
    problems.check()
    return options


def _lengths(options: TransformersOptions, given: dict[str, Any], problems: Problems) -> None:
    with problems:
        if given.get("max_cache_len") is not None:
            if not options.is_static:
                raise InputError(
                    "--max-cache-len is the length of a static cache.", "Add --cache static, or leave it out."
                )
            options.max_length = parse_length(given["max_cache_len"], "--max-cache-len")
    with problems:
        if given.get("logits_to_keep") is not None:
            is_all = str(given["logits_to_keep"]).strip() in ("0", "all")
            options.keep = (
                0 if is_all else parse_integer(given["logits_to_keep"], "--logits-to-keep", MAX_TOKENS)
            )
    with problems:
        if given.get("prefill_chunk_size") is not None:
            options.chunk = parse_length(given["prefill_chunk_size"], "--prefill-chunk-size")


def _quantized(options: TransformersOptions, given: dict[str, Any]) -> None:
    """Backend, bits, group and residual of a quantized cache."""
    names = ("cache_backend", "cache_bits", "cache_group", "cache_residual")
    own = [name for name in names if given.get(name) is not None]
    if own and options.cache != "quantized":
        raise InputError(
            f"--{own[0].replace('_', '-')} is an option of a quantized cache.",
            "Add --cache quantized, or leave it out.",
        )
    if given.get("cache_backend") is not None:
        options.backend = _choice(given["cache_backend"], tuple(BITS), "--cache-backend")
    if options.backend == "fp8":
        options.bits, options.residual = 8, 0
        if len(own) > 1:
            raise InputError(
                "The fp8 backend has one scale for a tensor: no bits, groups or residual.",
                "Leave them out, or use --cache-backend hqq.",
            )
        return
    for name, keyword in (("bits", "cache_bits"), ("group", "cache_group"), ("residual", "cache_residual")):
        if given.get(keyword) is not None:
            setattr(options, name, parse_integer(given[keyword], f"--{keyword.replace('_', '-')}", 1 << 20))
    if options.bits not in BITS[options.backend]:
        raise InputError(
            f"--cache-bits {options.bits} is not one of the {options.backend} backend's.",
            f"Use --cache-bits {one_of([str(n) for n in BITS[options.backend]])}.",
        )
    if options.group & (options.group - 1) or not 8 <= options.group <= 1024:
        raise InputError(
            f"--cache-group {options.group} does not divide keys and values into groups.",
            "Use a power of two: --cache-group 64.",
        )
