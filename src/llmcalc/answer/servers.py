"""What the answers for servers share: what they refuse, the dtype they choose, the minimum beside them."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from typing import Any

from llmcalc.answer.common import needs_layers, priced, ranks_of, report_of, size_of, workload_of
from llmcalc.demand.needs import Needs
from llmcalc.errors import InputError, Problems, one_of
from llmcalc.estimate import INFERENCE_PHASES, Item, find_peak
from llmcalc.hardware import Device
from llmcalc.memory import caches, folds
from llmcalc.memory.engines.vllm.weights import with_shares
from llmcalc.memory.workload import Precision, Workload
from llmcalc.model.inventory import Inventory
from llmcalc.placement import Placement
from llmcalc.precision import Format
from llmcalc.report import Report
from llmcalc.scenario import Scenario


def check_server(
    inventory: Inventory, scenario: Scenario, program: str, formats: Sequence[str], foreign: Sequence[str],
    usual: str,
) -> None:  # fmt: skip
    """Refuse what a server can't do, all of it together.

    Parameters
    ----------
    inventory, scenario
        What is asked.
    program : str
        The server's name.
    formats, foreign : sequence of str
        Formats that it keeps a cache in, and methods of other engines.
    usual : str
        Schemes to use instead of those.

    Raises
    ------
    InputError, ConfigError
        With what to do instead.
    """
    needs_layers(inventory, scenario.engine)
    problems = Problems()
    with problems:
        wrong = sorted({scenario.key.name, scenario.value.name} - set(formats))
        if wrong:
            raise InputError(f"{program} keeps no cache in {wrong[0]}.", f"Use --kv-dtype {one_of(formats)}.")
        if scenario.key.name != scenario.value.name:
            raise InputError(
                f"{program} keeps keys and values in one type.",
                f"Use one: --kv-dtype {scenario.key.name}.",
            )
    with problems:
        method = str((getattr(scenario.scheme, "entry", None) or {}).get("method", ""))
        if "quant" in scenario.stated and method in foreign:
            raise InputError(
                f"{program} does not run {scenario.scheme.name} weights.", f"Use --quant {usual}, or none."
            )
    problems.check()


def auto_dtype(scenario: Scenario, program: str) -> tuple[Scenario, list[str]]:
    """The scenario in the dtype that a server chooses by itself: never fp32; and what to say of it."""
    if "dtype" in scenario.stated or scenario.bits is not None or scenario.dtype.name != "fp32":
        return scenario, []
    made = copy(scenario)
    made.dtype = Format("bf16", 1, 2)
    return made, [f"{program} loads fp32 checkpoints in 16 bit unless --dtype fp32 is given."]


def server_report(
    program: str, stored: Inventory, scenario: Scenario, placement: Placement, precision: Precision,
    items: list[Item], device: Device | None, beside: Any = None,
) -> Report:  # fmt: skip
    """A server's report with its heading, its minimum and what the model has to say."""
    report = report_of("vram", stored, scenario, placement, items, device)
    report.header = [
        stored.title, f"{size_of(stored)} params", priced(stored, scenario, precision), program,
        workload_of(scenario),
    ]  # fmt: skip
    report.placement = ranks_of(placement)
    report.floor_bytes = floor_of(stored, scenario, placement, precision, beside)
    report.context_limit = stored.context
    report.warnings += scenario.notes + stored.warnings
    return report


def tell_requests(
    report: Report, scenario: Scenario, items: list[Item], needs: Sequence[Needs], ranks: Sequence[str]
) -> None:
    """Each case of what requests need, in a report that knows its verdict."""
    from llmcalc.answer.requests import attach_requests, cases_of

    assert scenario.demand is not None
    drafts = [item for item in items if item.name == "draft_kv_cache"]
    cases = cases_of(items, needs, ranks, drafts)
    attach_requests(report, scenario.demand, cases, needs, scenario.sequences)


def floor_of(
    stored: Inventory, scenario: Scenario, placement: Placement, precision: Precision, beside: Any = None
) -> Any:
    """The architecture's minimum on the worst rank: weights, caches, states, and what lies beside. [B]"""
    streams = {**scenario.streams, "decoder": scenario.context}
    workload = Workload(streams, -(-scenario.sequences // placement.dp))
    items = [folds.weights_item(with_shares(stored, placement), placement, precision)]
    if scenario.demand is not None:
        from llmcalc.memory.requests import request_items

        held, _ = request_items(stored, placement, precision, workload, scenario.demand)
        items += held
    else:
        items += [
            make(stored, placement, precision, workload) for make in (caches.kv_item, caches.state_item)
        ]
    if beside is not None:
        items += [*beside.items, *beside.caches(workload, scenario.demand, placement.pp)]
    return find_peak(items, placement.ranks, INFERENCE_PHASES).total


def settle_cache(scenario: Scenario, indexed: bool) -> bool:
    """Settle the cache's format as ``auto`` does; whether latents are fp8 rows of sparse attention."""
    stated = bool(scenario.stated & {"kv_dtype", "kv_dtype_k", "kv_dtype_v"})
    if not stated and scenario.bits is None and scenario.dtype.name in ("fp16", "fp32"):
        scenario.key = scenario.value = scenario.dtype
    if indexed and not stated:
        scenario.key = scenario.value = Format("fp8", 1, 1)
    return indexed and scenario.key.name in ("fp8", "nvfp4")


def keeps_index(inventory: Inventory) -> bool:
    """Whether latent attention is sparse: an indexer keeps keys of its own."""
    return any(cache.kind == "indexer" for group in inventory.groups for cache in group.caches)
