"""Options that are SGLang's own, under its own names."""

from __future__ import annotations

from typing import Any

from llmcalc.engine_options.reading import batch_tokens, flag, own_names, share
from llmcalc.engine_options.sglang_era import sglang_era
from llmcalc.errors import InputError, Problems, one_of
from llmcalc.formula import is_array
from llmcalc.units import parse_decimal, parse_integer, parse_length, shown

MAX_REQUESTS = 1 << 20
MAX_PAGE = 1 << 16
MAX_DRAFTS = 1024
DRAFTED = 4
"""Draft tokens of one step where a draft is named and their number is not: assumed, three steps and the
root, as it takes for DeepSeek's layers. [tokens]"""
STATE_DTYPES = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}
"""SGLang's names of what states are kept in, and llmcalc's."""

ALIASES = {
    "gpu_memory_utilization": "mem_fraction_static",
    "max_num_seqs": "max_running_requests",
    "max_num_batched_tokens": "chunked_prefill_size",
    "enforce_eager": "disable_cuda_graph",
    "block_size": "page_size",
    "num_speculative_tokens": "speculative_num_draft_tokens",
}
"""Options of vLLM that ask for the same."""


class SglangOptions:
    """What SGLang is told; None stands for the release's default.

    Attributes
    ----------
    era : SglangEra
        The release, and what it does.
    fraction : tuple of int or None
        Share of the free memory for weights and caches, as numerator and denominator.
    chunk, graphs, requests, page : int or None
        Tokens of a prefill chunk, the largest captured batch, running requests, tokens of a page.
    window_ratio, state_ratio : tuple of int or None
        Tokens of the window pool for each of the full pool; state memory for each byte of the KV cache.
    slots, tokens : int or None
        State slots and tokens of the pool, where they are set by hand. [-], [tokens]
    prefix, eager, whole_windows, shares_batch : bool
        Prefix caching; no CUDA graphs; windows kept whole; attention in replicas (``dp-attention``).
    drafts : int
        Draft tokens of one step. [tokens]
    state_dtype : str
        What states are kept in, where it is set; else empty.
    ranks, replicas : int
        Tensor ranks as asked, and replicas that share them. [-]
    """

    __slots__ = (
        "chunk", "drafts", "eager", "era", "fraction", "graphs", "page", "prefix", "ranks", "replicas",
        "requests", "shares_batch", "slots", "state_dtype", "state_ratio", "tokens", "whole_windows",
        "window_ratio",
    )  # fmt: skip

    def __init__(self) -> None:
        self.era = sglang_era(None)
        self.fraction: tuple[int, int] | None = None
        self.chunk: int | None = None
        self.graphs: int | None = None
        self.requests: int | None = None
        self.page: int | None = None
        self.slots: int | None = None
        self.tokens: int | None = None
        self.window_ratio: tuple[int, int] | None = None
        self.state_ratio: tuple[int, int] | None = None
        self.prefix, self.eager, self.whole_windows, self.shares_batch = True, False, False, False
        self.drafts, self.ranks, self.replicas = 0, 0, 1
        self.state_dtype = ""


def _ratio(value: Any, what: str, most: int) -> tuple[int, int]:
    """A positive ratio, exactly."""
    parsed = parse_decimal(value if isinstance(value, str) else str(value))
    if parsed is None or parsed[0] <= 0 or parsed[0] > most * parsed[1]:
        raise InputError(f"{what} is {shown(value)}.", f"Use a number above 0 and up to {most}, such as 0.8.")
    return parsed


def sglang_options(given: dict[str, Any]) -> SglangOptions:
    """Read SGLang's options, telling all mistakes together.

    Parameters
    ----------
    given : dict
        Keywords; absent or None means not given.

    Examples
    --------
    >>> sglang_options({"mem_fraction_static": "0.88", "engine_version": "0.4.6"}).fraction
    (88, 100)
    """
    options, problems = SglangOptions(), Problems()
    asked, called = own_names(given, ALIASES, problems)
    with problems:
        options.era = sglang_era(given.get("engine_version"))
    with problems:
        if "mem_fraction_static" in asked:
            options.fraction = share(asked["mem_fraction_static"], called["mem_fraction_static"], "SGLang")
    for keyword, name, most in (
        ("cuda_graph_max_bs", "graphs", MAX_REQUESTS), ("max_running_requests", "requests", MAX_REQUESTS),
        ("page_size", "page", MAX_PAGE), ("max_mamba_cache_size", "slots", MAX_REQUESTS),
        ("speculative_num_draft_tokens", "drafts", MAX_DRAFTS),
    ):  # fmt: skip
        with problems:
            if keyword in asked:
                is_none = name == "drafts" and str(asked[keyword]).strip() == "0"
                setattr(options, name, 0 if is_none else parse_integer(asked[keyword], called[keyword], most))
    for keyword, name, read in (
        ("chunked_prefill_size", "chunk", batch_tokens), ("max_total_tokens", "tokens", parse_length)
    ):  # fmt: skip
        with problems:
            if keyword in asked:
                setattr(options, name, read(asked[keyword], called[keyword]))
    for keyword, name, most in (
        ("swa_full_tokens_ratio", "window_ratio", 1), ("mamba_full_memory_ratio", "state_ratio", 1000),
    ):  # fmt: skip
        with problems:
            if keyword in asked:
                setattr(options, name, _ratio(asked[keyword], called[keyword], most))
    for keyword, name in (
        ("disable_cuda_graph", "eager"), ("disable_hybrid_swa_memory", "whole_windows"),
        ("enable_dp_attention", "shares_batch"),
    ):  # fmt: skip
        with problems:
            if keyword in asked:
                setattr(options, name, flag(asked[keyword], called[keyword]))
    if given.get("draft") is not None and "speculative_num_draft_tokens" not in asked:
        options.drafts = DRAFTED
    with problems:
        if given.get("beams") is not None and str(given["beams"]).strip() not in ("0", "1"):
            raise InputError(
                "--beams: beam search in SGLang is not modelled.",
                "Use --samples for outputs of one prompt, or --engine vllm.",
            )
    with problems:
        if "disable_radix_cache" in asked:
            options.prefix = not flag(asked["disable_radix_cache"], called["disable_radix_cache"])
    with problems:
        if "mamba_ssm_dtype" in asked:
            options.state_dtype = _state_dtype(asked["mamba_ssm_dtype"])
    problems.check()
    return options


def _state_dtype(value: Any) -> str:
    word = str(value).strip().lower()
    if word not in STATE_DTYPES and word not in STATE_DTYPES.values():
        raise InputError(
            f"--mamba-ssm-dtype is {shown(value)}.", f"Use --mamba-ssm-dtype {one_of(list(STATE_DTYPES))}."
        )
    return STATE_DTYPES.get(word, word)


def share_ranks(scenario: Any, options: SglangOptions) -> None:
    """Settle ranks and replicas: with attention in replicas these share the tensor ranks.

    Raises
    ------
    InputError
        If the replicas do not divide the ranks, or more is asked for at once than may run.
    """
    options.ranks, options.replicas = scenario.tp or 1, scenario.dp or 1
    many = scenario.sequences.max() if is_array(scenario.sequences) else scenario.sequences
    many = many * (scenario.demand.outputs if scenario.demand is not None else 1)
    many = many if options.shares_batch else -(-int(many) // options.replicas)
    if options.requests is not None and many > options.requests:
        raise InputError(
            f"--sequences asks for {many} at once, more than the {options.requests} of "
            "--max-running-requests.",
            f"Use --max-running-requests {many}.",
        )
    if not options.shares_batch:
        return
    if scenario.tp is None or scenario.dp is None or scenario.tp % scenario.dp:
        raise InputError(
            f"--enable-dp-attention shares {options.ranks} tensor ranks among {options.replicas} replicas.",
            "Name both, --dp a divisor of --tp: --tp 8 --dp 8.",
        )
    scenario.tp //= scenario.dp
