"""Servers on cards that no log covers: what can't run is refused, what was not measured is said."""

from __future__ import annotations

from typing import Any

from llmcalc.catalog import Catalog
from llmcalc.errors import InputError
from llmcalc.hardware import Device
from llmcalc.report import Report

PROGRAMS = {"vllm": "vLLM", "sglang": "SGLang", "tensorrt-llm": "TensorRT-LLM"}
"""Servers whose logs are of NVIDIA's cards."""

LEAST = {"vllm": (7, 0), "sglang": (7, 5), "tensorrt-llm": (8, 0)}
"""The compute capability that each needs (vLLM 0.33's build list, SGLang's check of sm75 at its start,
TensorRT-LLM 1.2's support matrix)."""

BF16 = (8, 0)
"""The compute capability since which there is bf16."""

PLUGINS = {("vllm", "Apple"): " it runs there as vllm-metal, a plugin;", ("vllm", "Intel"): " it has plugins "
           "for Gaudi and XPU;"}  # fmt: skip


def card_of(device: Device, book: Catalog) -> dict[str, Any]:
    """The catalog's entry of a device, or of the card that a slice is of; empty for a bare size."""
    return book.lookup("gpus", device.name.partition(" MIG ")[0]) or {}


def check_card(engine: str, device: Device, book: Catalog) -> None:
    """Refuse a server where it can't run, or runs with another account of memory.

    Raises
    ------
    InputError
        TensorRT-LLM beside NVIDIA; SGLang on Apple silicon, where MLX holds its memory.
    """
    vendor = str(card_of(device, book).get("vendor") or device.vendor)
    if engine == "tensorrt-llm" and vendor not in ("", "NVIDIA"):
        raise InputError(
            f"TensorRT-LLM runs on NVIDIA's GPUs alone, not on {device.name}.",
            f"Use --engine {'mlx or llama.cpp' if vendor == 'Apple' else 'vllm or llama.cpp'}.",
        )
    if engine == "sglang" and vendor == "Apple":
        raise InputError(
            f"SGLang on {device.name} keeps its memory in MLX, without these pools; that is not modelled.",
            "Use --engine mlx or llama.cpp.",
        )


def tell_card(report: Report, engine: str, device: Device, book: Catalog) -> None:
    """Say what of a card was not measured, and what it lacks."""
    card, program = card_of(device, book), PROGRAMS[engine]
    vendor, level = str(card.get("vendor") or ""), _level(card)
    if vendor not in ("", "NVIDIA"):
        report.warnings.append(
            f"No log of {program} on {device.name} is known:{PLUGINS.get((engine, vendor), '')} context, "
            "graphs and reserve are those of NVIDIA's cards."
        )
    if not level:
        return
    if level < LEAST[engine]:
        least = ".".join(map(str, LEAST[engine]))
        report.warnings.append(
            f"{program} needs compute capability {least}; {device.name} has "
            f"{card['compute_capability']}. The figures are what it would take."
        )
    elif level < BF16 and report.scenario["dtype"] == "bf16":
        report.warnings.append(
            f"{device.name} has no bf16 (compute capability {card['compute_capability']}): {program} runs "
            "fp16 there, of the same size; --dtype fp16 asks for it."
        )


def _level(card: dict[str, Any]) -> tuple[int, int] | None:
    """The compute capability to compare by; None where there is none."""
    above, _, below = str(card.get("compute_capability") or "").partition(".")
    return (int(above), int(below or 0)) if above.isdigit() else None
