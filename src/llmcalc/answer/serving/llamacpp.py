"""``llama-server`` with every choice spelled out."""

from __future__ import annotations

import copy
import shlex
from typing import Any

from llmcalc.answer.offload import command_line
from llmcalc.answer.serving import Plan


def file_of(plan: Plan) -> str:
    """The GGUF file: the one that was read, else a name that says which to fetch."""
    if plan.inventory.source == "gguf" and not plan.is_stated("quant"):
        return plan.inventory.origin.partition(", which holds")[0]
    scheme = str(plan.get("quant") or "bf16").removeprefix("gguf-").upper()
    name = f"{plan.inventory.name}-{scheme}.gguf"
    plan.notes.append(f"{name} stands for the path of your GGUF file ({plan.model} as {scheme}).")
    return name


def words(plan: Plan) -> list[Any]:
    """The words of ``llama-server``."""
    options = copy.copy(plan.scenario.options)
    slots = int(options.parallel or plan.scenario.sequences)
    if options.n_ctx is None:
        options.n_ctx = int(plan.scenario.context) * slots
    line = command_line(plan.report, options, slots, shlex.quote(file_of(plan)))
    if any(word in line.split() for word in ("MMPROJ.gguf", "ADAPTER.gguf", "DRAFT.gguf")):
        plan.notes.append("Words such as MMPROJ.gguf stand for paths of your files.")
    return shlex.split(line)
