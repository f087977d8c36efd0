"""``sglang.launch_server`` with the options that define a plan, and those that are no default."""

from __future__ import annotations

from typing import Any

from llmcalc.answer.serving import Plan, checkpoint, sizes

ONLINE = {"fp8": "fp8"}
"""Methods that SGLang quantizes to while it loads, by its names."""

CACHES = {"fp8": "fp8_e4m3", "nvfp4": "fp4_e2m1", "bf16": "bf16"}
"""Formats of the cache by SGLang's names; the others follow the dtype."""

STATES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}

FRACTION_FROM = (0, 4, 9)
"""The release since which a share that is set is taken as it is, also of models with a vision tower."""


def words(plan: Plan) -> list[Any]:
    """The words of ``python -m sglang.launch_server``."""
    options, scenario = plan.scenario.options, plan.scenario
    found: list[Any] = ["python", "-m", "sglang.launch_server", "--model-path", plan.model]
    limit = plan.inventory.context
    if limit and int(scenario.context) > limit:
        found = ["env", "SGLANG_ALLOW_OVERWRITE_LONGER_CONTEXT_LEN=1", *found]
    tp = (plan.get("tp") or 1) * (plan.get("dp") or 1 if options.shares_batch else 1)
    found += sizes({"--tp-size": tp, "--pp-size": plan.get("pp"), "--dp-size": plan.get("dp")})
    found += ["--context-length", int(scenario.context)]
    share = plan.get("mem_fraction_static")
    if share is not None and (options.fraction is not None or options.era.version >= FRACTION_FROM):
        found += ["--mem-fraction-static", f"{float(share):g}"]
    for value, option in (
        (options.chunk, "--chunked-prefill-size"), (options.graphs, "--cuda-graph-max-bs"),
        (options.requests, "--max-running-requests"), (options.tokens, "--max-total-tokens"),
        (options.page, "--page-size"), (options.slots, "--max-mamba-cache-size"),
    ):  # fmt: skip
        found += [] if value is None else [option, value]
    for ratio, option in (
        (options.window_ratio, "--swa-full-tokens-ratio"), (options.state_ratio, "--mamba-full-memory-ratio"),
    ):  # fmt: skip
        found += [] if ratio is None else [option, f"{ratio[0] / ratio[1]:g}"]
    found += ["--mamba-ssm-dtype", STATES[options.state_dtype]] if options.state_dtype else []
    for is_on, option in (
        (not options.prefix, "--disable-radix-cache"), (options.eager, "--disable-cuda-graph"),
        (options.whole_windows, "--disable-hybrid-swa-memory"),
        (options.shares_batch, "--enable-dp-attention"),
    ):  # fmt: skip
        found += [option] if is_on else []
    found += checkpoint(plan, "SGLang", ONLINE)
    if plan.is_stated("kv_dtype", "kv_dtype_k", "kv_dtype_v") and scenario.key.name in CACHES:
        found += ["--kv-cache-dtype", CACHES[scenario.key.name]]
    return found + _speculation(plan)


def _speculation(plan: Plan) -> list[Any]:
    """The draft: prediction layers, a head, or a model whose id the reader knows."""
    options = plan.scenario.options
    if not options.drafts:
        return []
    found: list[Any] = ["--speculative-algorithm"]
    asked = plan.scenario.beside
    word = "" if asked is None else asked.word
    has_own = any(group.component == "mtp" for group in plan.inventory.groups)
    if word == "mtp" or (has_own and (asked is None or asked.draft is None)):
        found += ["NEXTN"]
    else:
        kind = {"eagle": "EAGLE", "eagle3": "EAGLE3"}.get(word, "EAGLE3" if asked is None else "STANDALONE")
        found += [kind, "--speculative-draft-model-path", "DRAFT"]
        plan.notes.append("DRAFT stands for the id of your draft model.")
    # One branch of as many steps as tokens less the root.
    return [
        *found, "--speculative-num-steps", max(options.drafts - 1, 1), "--speculative-eagle-topk", 1,
        "--speculative-num-draft-tokens", options.drafts,
    ]  # fmt: skip
