"""A model in many formats: bits, bytes, the smallest card, and whether it fits the cards asked about."""

from __future__ import annotations

import copy
from typing import Any

from llmcalc.answer.common import matrix_bits, precision_of, size_of, stored_bytes, workload_of
from llmcalc.answer.kernels import runner
from llmcalc.answer.vram import model_report
from llmcalc.catalog import Catalog
from llmcalc.errors import InputError, LlmcalcError
from llmcalc.model.inventory import Inventory
from llmcalc.precision.named import find_scheme
from llmcalc.report import Report
from llmcalc.scenario import Scenario
from llmcalc.units import format_bytes

USUAL = (
    "none", "q8_0", "q6_k", "q5_k_m", "q4_k_m", "iq4_xs", "q3_k_m", "iq3_xxs", "q2_k", "iq2_m", "fp8",
    "fp8-block", "int8", "gptq", "awq", "nf4", "nf4-dq", "nvfp4", "mxfp4", "hqq", "mlx-8bit", "mlx-4bit",
    "exl3-4.0", "exl3-3.0",
)  # fmt: skip
"""What people choose among; ``--all`` adds the rest of the catalog."""

ORDERS = ("size", "bits", "name")


def scheme_names(schemes: Any) -> tuple[str, ...]:
    """Names of a list, or of a text with commas.

    Raises
    ------
    InputError
        If it is neither, or names nothing.
    """
    listed = schemes.split(",") if isinstance(schemes, str) else schemes
    fitting = isinstance(listed, (list, tuple)) and all(isinstance(one, str) for one in listed)
    if not fitting or not any(one.strip() for one in listed):
        raise InputError(
            f"--schemes {str(schemes)[:40]!r} names no scheme.", "Name some, such as q4_k_m,awq,nf4."
        )
    return tuple(one.strip() for one in listed if one.strip())


def quant_reports(
    inventory: Inventory,
    scenario: Scenario,
    book: Catalog,
    given: dict[str, Any],
    names: tuple[str, ...],
    sort: str,
    most: int | None,
) -> list[Report]:
    """One report a scheme, with what it comes to; schemes that can't hold the model are told as notes.

    Raises
    ------
    InputError
        If none is left.
    """
    if inventory.is_opaque:
        raise InputError(
            f"{inventory.name} is a bare count, which has no layers to quantize.",
            "Name a model, or use llmcalc vram --params with --quant.",
        )
    reports: dict[str, Report] = {}
    refused = []
    for name in dict.fromkeys(names):
        own = copy.copy(scenario)
        own.scheme, own.bits = find_scheme(name, book), None
        own.stated = (scenario.stated - {"bits"}) | {"quant"}
        try:
            report = _report(inventory, own, book, given)
            reports.setdefault(report.scheme["name"], report)  # awq and awq-4bit are one
        except LlmcalcError as error:
            refused.append(f"{name}: {error.problem.removeprefix(f'{name}: ')}")
    fitting = [one for one in reports.values() if most is None or one.scheme["weights_bytes"] <= most]
    if not fitting:
        smallest = min((one.scheme["weights_bytes"] for one in reports.values()), default=0)
        raise InputError(
            f"No scheme is left: {refused[0] if refused and not reports else 'all are larger.'}",
            f"Allow {format_bytes(smallest, 'gib')} with --max-size, or name others with --schemes."
            if reports
            else "Name others with --schemes.",
        )
    fitting.sort(key=_order(sort))
    fitting[0].left_out = refused
    return fitting


def _order(sort: str) -> Any:
    if sort == "name":
        return lambda report: report.scheme["name"]
    key = "weights_bytes" if sort == "size" else "bits"
    return lambda report: (-report.scheme[key], report.scheme["name"])


def _report(inventory: Inventory, scenario: Scenario, book: Catalog, given: dict[str, Any]) -> Report:
    """The estimate of one scheme, without a card and on each of those asked about."""
    report = model_report(inventory, scenario, None, book, given)
    scheme = scenario.scheme
    stored = scenario.stored(inventory)
    precision = precision_of(stored, scenario, book)
    size = stored_bytes(stored, precision)
    plain = 2 * stored.params
    report.command = "quant"
    report.header = [stored.title, f"{size_of(stored)} params", workload_of(scenario)]
    report.scheme = {
        "name": scenario.dtype.name if scheme.name == "none" else scheme.name,
        "bits_of_linear_layers": matrix_bits(stored, precision),
        "bits": 8 * size / max(stored.params, 1),
        "weights_bytes": size,
        "share_of_16_bit": size / max(plain, 1),
        "hardware": scheme.entry.get("hardware", "" if scheme.entry else "everything"),
        "runtime": scheme.entry.get("runtime", ""),
        "note": scheme.entry.get("note", ""),
        "grade": scheme.grade,
        "source": scheme.source,
        "fits": [_fit(inventory, scenario, device, book, given) for device in scenario.devices],
    }
    if scenario.devices:
        report.hints = [hint for hint in report.hints if not hint.startswith("No single card")]
    return report


def _fit(
    inventory: Inventory, scenario: Scenario, device: Any, book: Catalog, given: dict[str, Any]
) -> dict[str, Any]:
    report = model_report(inventory, scenario, device, book, given)
    return {
        "gpu": device.name,
        "count": report.gpus,
        "verdict": report.verdict,
        "runs": runner(scenario.scheme, book)(device.name),
        "total_bytes": report.total_bytes,
        "headroom_bytes": report.headroom_bytes,
        "max_context": report.capacity.max_context,
    }
