"""The start command that matches a plan: one module for each engine that serves.

A module has ``words(plan)``, which returns the words of the command, unquoted, and may add to
``plan.notes``. `SERVERS` names the modules; a new engine is one line there and one file.
"""

from __future__ import annotations

import os
from typing import Any

from llmcalc.errors import InputError, one_of
from llmcalc.formula import is_array
from llmcalc.model.inventory import Inventory
from llmcalc.report import Report
from llmcalc.scenario import Scenario

SERVERS = {
    "vllm": "llmcalc.answer.serving.vllm",
    "sglang": "llmcalc.answer.serving.sglang",
    "tensorrt-llm": "llmcalc.answer.serving.tensorrt_llm",
    "llama.cpp": "llmcalc.answer.serving.llamacpp",
    "ollama": "llmcalc.answer.serving.ollama",
    "mlx": "llmcalc.answer.serving.mlx",
}
"""The module of each engine that has a server."""


class Plan:
    """What is to be served, and how.

    Attributes
    ----------
    inventory : Inventory
        The model as read.
    scenario : Scenario
        As resolved, and as the engine then chose where it chooses.
    report : Report
        The estimate; its ``scenario`` holds every setting by name.
    model : str
        The Hugging Face id, else the path that it was read from, else its name.
    notes : list of str
        What the reader must do besides.
    """

    __slots__ = ("inventory", "model", "notes", "report", "scenario")

    def __init__(self, inventory: Inventory, scenario: Scenario, report: Report) -> None:
        self.inventory, self.scenario, self.report = inventory, scenario, report
        self.notes: list[str] = []
        self.model = _named(inventory, report.book)

    def get(self, name: str) -> Any:
        """A setting as resolved."""
        return self.report.scenario.get(name)

    def is_stated(self, *names: str) -> bool:
        """Whether the user gave one of these."""
        return bool(self.scenario.stated & set(names))


def _named(inventory: Inventory, book: Any) -> str:
    """What a server finds the model by."""
    path = inventory.origin
    if inventory.source == "catalog" and book is not None:
        entry = book.lookup("models", inventory.name)
        return str((entry or {}).get("hf") or inventory.name)
    if os.path.exists(path):
        return os.path.dirname(path) or "." if path.endswith(".json") else path
    return inventory.name


def sizes(found: dict[str, Any]) -> list[Any]:
    """Options of placement with their values, where there is more than one rank.

    Examples
    --------
    >>> sizes({"--tp-size": 2, "--pp-size": 1})
    ['--tp-size', 2]
    """
    return [word for option, n in found.items() if n not in (None, 1) for word in (option, n)]


def checkpoint(plan: Plan, program: str, online: dict[str, str]) -> list[Any]:
    """Options of the weights' format: the dtype, and what a server quantizes to while it loads.

    Parameters
    ----------
    plan : Plan
        Whose notes name a checkpoint that has to be found.
    program : str
        The server's name.
    online : dict
        Methods that it quantizes to by itself, and its names of them.
    """
    scheme, scenario = plan.scenario.scheme, plan.scenario
    names = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}
    found = (
        ["--dtype", names.get(scenario.dtype.name, scenario.dtype.name)] if plan.is_stated("dtype") else []
    )
    if plan.is_stated("bits"):
        plan.notes.append("--bits names no format: choose one with --quant.")
    if not plan.is_stated("quant") or scheme is None or scheme.name == "none":
        return found
    own = getattr(scheme, "dtype", "")
    entry = getattr(scheme, "entry", None) or {}
    method, strategy = str(entry.get("method", "")), entry.get("options", {}).get("strategy", "tensor")
    if own:
        return ["--dtype", names.get(own, own)]
    if method in online and strategy == "tensor":
        return [*found, "--quantization", online[method]]
    plan.notes.append(
        f"{program} does not quantize to {scheme.name} by itself: put a checkpoint stored so in the place of "
        f"{plan.model}."
    )
    return found


def serve_words(inventory: Inventory, scenario: Scenario, report: Report) -> tuple[list[str], list[str]]:
    """The words of the command that starts a server by a plan, and what to do besides.

    Raises
    ------
    InputError
        For what no single server does: no engine, arrays, a bare count.
    """
    import importlib

    if scenario.engine not in SERVERS:
        what = "needs an engine" if scenario.engine == "none" else f"knows no server of {scenario.engine}"
        raise InputError(f"--serve-command {what}.", f"Use --engine {one_of(list(SERVERS))}.")
    if is_array(report.total_bytes) or is_array(scenario.context) or is_array(scenario.sequences):
        raise InputError("--serve-command is for one context at a time.", "Give one value.")
    plan = Plan(inventory, report.settled or scenario, report)
    words = [str(word) for word in importlib.import_module(SERVERS[scenario.engine]).words(plan)]
    if report.verdict not in (None, "fits"):
        word = "does not fit" if report.verdict == "does_not_fit" else "is too close to call"
        plan.notes.append(f"By this plan it {word}: llmcalc fit tells what would help.")
    return words, plan.notes
