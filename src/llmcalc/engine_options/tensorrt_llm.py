"""Options that are TensorRT-LLM's own, under its own names."""

from __future__ import annotations

from typing import Any

from llmcalc.engine_options.reading import PRE_RELEASES, batch_tokens, flag, own_names, release, share
from llmcalc.errors import InputError, Problems
from llmcalc.units import parse_integer

NEWEST, OLDEST = (1, 2, 1), (0, 5, 0)
MAX_BATCH = 1 << 20

FRACTION_OLD, FRACTION = (85, 100), (9, 10)
"""The default share of what is left, until 0.8 and since."""

BLOCK_OLD, BLOCK = 64, 32
"""Tokens of a block, until 0.17 and since. [tokens]"""

BATCH, TOKENS = 2048, 8192
"""Sequences and tokens of a batch by default. [-], [tokens]"""

ALIASES = {
    "gpu_memory_utilization": "free_gpu_memory_fraction",
    "max_num_seqs": "max_batch_size",
    "max_num_batched_tokens": "max_num_tokens",
    "block_size": "tokens_per_block",
}
"""Options of vLLM that ask for the same."""


class TensorrtLlmOptions:
    """What TensorRT-LLM is told, defaults resolved.

    Attributes
    ----------
    version : str
        The release that is modelled.
    note : str
        What the reader should know where it is not known.
    fraction : tuple of int
        Share of what weights and a dummy batch leave, as numerator and denominator.
    block, batch, tokens : int
        Tokens of a block, sequences and tokens of a batch. [tokens], [-], [tokens]
    eager, reuses : bool
        No CUDA graphs; full blocks are reused by other requests, by default since blocks have 32 tokens.
    """

    __slots__ = ("batch", "block", "eager", "fraction", "note", "reuses", "tokens", "version")

    def __init__(self) -> None:
        self.version, self.note = ".".join(map(str, NEWEST)), ""
        self.fraction, self.block, self.batch, self.tokens = FRACTION, BLOCK, BATCH, TOKENS
        self.eager, self.reuses = False, True


def _settle_release(options: TensorrtLlmOptions, value: object) -> None:
    """Take the defaults of a release; of the nearest one that is known, and say so."""
    text = str(value).strip()
    newest = options.version
    if text.lower() in PRE_RELEASES:
        options.note = f"TensorRT-LLM {text} is taken for the newest release that is modelled, {newest}."
        return
    version = release(text, "TensorRT-LLM", "1.2.1 or 0.21")
    known = min(max(version[:3], OLDEST), NEWEST)
    options.version = text.removeprefix("v")[:60]
    if known != version[:3]:
        options.version = ".".join(map(str, known))
        nearest = f"the nearest release, {options.version}, is modelled."
        options.note = f"TensorRT-LLM {text[:20]} is not known here; {nearest}"
    options.fraction = FRACTION if known >= (0, 9, 0) else FRACTION_OLD
    options.reuses = known >= (0, 18, 0)
    options.block = BLOCK if options.reuses else BLOCK_OLD


def tensorrt_llm_options(given: dict[str, Any]) -> TensorrtLlmOptions:
    """Read TensorRT-LLM's options, telling all mistakes together.

    Parameters
    ----------
    given : dict
        Keywords; absent or None means not given.

    Examples
    --------
    >>> found = tensorrt_llm_options({"engine_version": "0.8.0"})
    >>> found.fraction, found.block
    ((85, 100), 64)
    """
    options, problems = TensorrtLlmOptions(), Problems()
    asked, called = own_names(given, ALIASES, problems)
    with problems:
        if "engine_version" in asked:
            _settle_release(options, asked["engine_version"])
    with problems:
        if "free_gpu_memory_fraction" in asked:
            name = "free_gpu_memory_fraction"
            options.fraction = share(asked[name], called[name], "TensorRT-LLM")
    with problems:
        if "tokens_per_block" in asked:
            block = parse_integer(asked["tokens_per_block"], called["tokens_per_block"], 1 << 16)
            if block < 2 or block & (block - 1):
                raise InputError(
                    f"{called['tokens_per_block']} {block} is no power of two above 1.",
                    "Use --tokens-per-block 32.",
                )
            options.block = block
    with problems:
        if "max_batch_size" in asked:
            options.batch = parse_integer(asked["max_batch_size"], called["max_batch_size"], MAX_BATCH)
    with problems:
        if "max_num_tokens" in asked:
            options.tokens = batch_tokens(asked["max_num_tokens"], called["max_num_tokens"])
    with problems:
        options.eager = "enforce_eager" in asked and flag(asked["enforce_eager"], "--enforce-eager")
    problems.check()
    return options
