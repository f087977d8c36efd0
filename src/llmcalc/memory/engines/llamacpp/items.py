"""The items of an estimate for llama.cpp: what its log prints, device by device, and the host's share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llmcalc.estimate import INFERENCE_PHASES, Item, worst_grade
from llmcalc.formula import Quantity, is_array
from llmcalc.memory.engines.llamacpp.amounts import Amounts
from llmcalc.memory.engines.llamacpp.deployment import Deployment
from llmcalc.memory.engines.llamacpp.extras import Shown
from llmcalc.units import MIB

SERVING = ("prefill", "decode")

RUNTIME = {
    "NVIDIA": (100 * MIB, 250 * MIB, 600 * MIB),
    "AMD": (200 * MIB, 500 * MIB, 1800 * MIB),
    "Apple": (0, 50 * MIB, 300 * MIB),
    "": (100 * MIB, 250 * MIB, 600 * MIB),
}
"""What a process takes beside its printed buffers, low, expected, high: context, workspaces, pools.

An RTX log that adds up to the last MiB leaves 153 MiB; three RTX 4090 whose memory llama.cpp broke down
itself 451 to 456 MiB; a 375 MiB embedder on an MI300 grew its memory by 1.7 GiB. Assumed: most breakdowns
that people publish also hold what other programs took.
"""


GPU_LOW, GPU_HIGH = 95, 120
"""Percent of the predicted compute buffer of a GPU: its range.

Measured by predicted of 13 start-up logs of 2024 to 2026, 5th to 95th percentile, each source left out once;
11 of them are equal to the digit. Buffers of CPUs have no range: they equal the program's own everywhere.
"""

DOUBTS = {"family": (80, 150), "fork": (50, 200), "build": (30, 200)}
"""Percent of the predicted buffers: their range where the graph is another (assumed).

A family whose own graph isn't written, ik_llama.cpp, whose graphs are its own (one log reads 81 % more),
and builds of 2023, which had one scratch buffer.
"""


class Held:
    """Amounts of every moment asked about: numbers, or arrays of them."""

    def __init__(self, deployment: Deployment, context: Quantity, slots: Quantity) -> None:
        self.places = deployment.places
        if not is_array(context) and not is_array(slots):
            self.rows = [deployment.asked(int(context), int(slots))]
            self.shape: Any = None
            return
        import numpy as np

        pairs = np.broadcast_arrays(context, slots)
        self.rows = [
            deployment.amounts(int(tokens), int(many))
            for tokens, many in zip(pairs[0].ravel(), pairs[1].ravel(), strict=True)
        ]
        self.shape = pairs[0].shape

    def at(self, pick: Callable[[Amounts], int]) -> Quantity:
        """One figure of every moment. [B]"""
        if self.shape is None:
            return pick(self.rows[0])
        import numpy as np

        return np.array([pick(row) for row in self.rows], dtype=np.int64).reshape(self.shape)

    def spread(self, name: str) -> tuple[list[Quantity], Quantity]:
        """A figure on each device, and on the host. [B]"""
        values = [self.at(lambda row, i=i: getattr(row, name)[i]) for i in range(self.places)]  # type: ignore[misc]
        return values[:-1] or [0], values[-1]


def llama_items(
    deployment: Deployment, context: Quantity, slots: Quantity, vendor: str, grade: str, notes: dict[str, str]
) -> list[Item]:
    """Weights, caches, buffers and runtime, in the contract's order; the host's share after them.

    Parameters
    ----------
    deployment : Deployment
        The model where it lies.
    context, slots : int or ndarray
        Tokens of one slot, and slots. [tokens], [-]
    vendor : str
        Of the GPU, for its runtime.
    grade : str
        How sure the model's shape and formats are.
    notes : dict
        A few words for each item's table line.
    """
    held = Held(deployment, context, slots)
    many = max(deployment.devices, 1)
    inputs = _inputs(deployment, context, slots)
    items, hosts = [], []
    for name, field, phases in (
        ("weights", "weights", INFERENCE_PHASES),
        ("kv_cache", "kv", SERVING),
        ("state", "state", SERVING),
        ("activations", "compute", SERVING),
    ):
        amounts, host = held.spread(field)
        sure = _buffer_grade(deployment, grade) if name == "activations" else grade
        items.append(_item(name, name, amounts, "device", phases, inputs[name], sure, notes))
        if is_array(host) or host:
            apart = [x.shown["host_repack"].grade for x in deployment.extras if "host_repack" in x.shown]
            sure = worst_grade([sure, *apart]) if name == "weights" else sure
            host_of = [host] * many
            hosts.append(_item(f"host_{name}", name, host_of, "host", phases, inputs[name], sure, notes))
    activations = items[-1]
    if deployment.devices:
        _widen(activations, GPU_LOW, GPU_HIGH)
    if deployment.doubt:
        for item in [activations, *(one for one in hosts if one.name == "host_activations")]:
            _widen(item, *DOUBTS[deployment.doubt])
    output = held.at(lambda row: row.output)
    hosts.append(
        Item("host_logits", [output] * many, where="host", phases=SERVING, grade=grade,
             formula=RULES["output"], inputs={"vocabulary": deployment.vocabulary, "slots": slots},
             source=SOURCES["output"], note="logits of each slot")
    )  # fmt: skip
    more, more_hosts = _beside(deployment, held)
    graphs = Item("cuda_graphs", [0] * many, formula="none")
    return [*items, graphs, _runtime(deployment, vendor), *more, *hosts, *more_hosts]


def _beside(deployment: Deployment, held: Held) -> tuple[list[Item], list[Item]]:
    """What is loaded beside the model, on devices and on the host."""
    many, items, hosts = max(deployment.devices, 1), [], []
    for extra in deployment.extras:
        for name, shown in extra.shown.items():
            values = [held.at(lambda row, n=name, i=i: row.beside[n][i]) for i in range(held.places)]  # type: ignore[misc]
            amounts, host = values[:-1] or [0], values[-1]
            on_host = shown.host_only or not deployment.devices
            if not on_host:
                items.append(_one_beside(name, amounts, "device", shown))
            if on_host or is_array(host) or host:
                title = name if shown.host_only else f"host_{name}"
                hosts.append(_one_beside(title, [host] * many, "host", shown))
    return items, hosts


def _one_beside(title: str, amounts: Sequence[Quantity], where: str, shown: Shown) -> Item:
    present = [amount * 0 + shown.more if is_array(amount) or amount else 0 for amount in amounts]
    return Item(
        title, amounts, where=where, phases=shown.phases, grade=shown.grade, formula=shown.formula,
        inputs=shown.inputs, source=shown.source, note=shown.note,
        low=[amount * shown.low // 100 for amount in amounts],
        high=[amount * shown.high // 100 + more for amount, more in zip(amounts, present, strict=True)],
    )  # fmt: skip


def _item(
    title: str, name: str, values: list[Quantity], where: str, phases: tuple[str, ...],
    inputs: dict[str, Any], grade: str, notes: dict[str, str],
) -> Item:  # fmt: skip
    return Item(
        title, values, where=where, phases=phases, grade=grade, formula=RULES[name], inputs=inputs,
        source=SOURCES[name], note=notes.get(title, ""),
    )  # fmt: skip


def _widen(item: Item, low: int, high: int) -> None:
    """Give an item a range around what is expected. [%]"""
    item.low = tuple(amount * low // 100 for amount in item.amounts)
    item.high = tuple(amount * high // 100 for amount in item.amounts)


def _buffer_grade(deployment: Deployment, grade: str) -> str:
    return worst_grade([grade, "assumed" if deployment.doubt else "derived"])


RULES = {
    "weights": "sum of the file's tensors that lie there",
    "kv_cache": "sum over layers of streams x cells x (bytes of a key row + bytes of a value row)",
    "state": "4 B x slots x elements of the layers' states",
    "activations": "the most that the graph's tensors take at once, placed by ggml's allocator",
    "output": "4 B x vocabulary x slots",
}
"""How each item comes about, in words."""

SOURCES = {
    "weights": "llama.cpp v0.5.0, src/llama-model.cpp (where layers go), gguf (sizes of types)",
    "kv_cache": "llama.cpp v0.5.0, src/llama-kv-cache.cpp and llama-kv-cache-iswa.cpp",
    "state": "llama.cpp v0.5.0, src/llama-memory-recurrent.cpp",
    "activations": "llama.cpp v0.5.0, src/models/, ggml/src/ggml-alloc.c, ggml-backend.cpp",
    "output": "llama.cpp v0.5.0, src/llama-context.cpp",
}


def _inputs(deployment: Deployment, context: Quantity, slots: Quantity) -> dict[str, dict[str, Any]]:
    """What each item depends on."""
    options = deployment.options
    placed = f"{deployment.offloaded} of {len(deployment.layers) + 1}"
    found: dict[str, dict[str, Any]] = {
        "weights": {"layers on GPUs": placed},
        "kv_cache": {"context": context, "slots": slots},
        "state": {"slots": slots},
        "activations": {
            "context": context, "slots": slots, "ubatch": options.ubatch, "flash_attn": options.flash_attn,
            "layers on GPUs": placed,
        },
    }  # fmt: skip
    if not is_array(context) and not is_array(slots):
        settings = deployment.settings(int(context), int(slots))
        cached = [layer for layer in deployment.layers if layer.group.caches]
        windowed = sum(layer.is_windowed for layer in cached)
        found["kv_cache"] |= {
            "streams": settings.streams, "cells": settings.cells, "layers with a cache": len(cached),
            "keys": settings.key.kind, "values": settings.value.kind,
        }  # fmt: skip
        if windowed:
            found["kv_cache"] |= {"of them windows": windowed, "cells of a window": settings.window_cells}
        found["activations"] |= {"tokens of a batch": settings.tokens, "logits of": settings.outputs}
    return found


def _runtime(deployment: Deployment, vendor: str) -> Item:
    """The driver's context and the backend's pools on each device."""
    many = max(deployment.devices, 1)
    if not deployment.devices:
        return Item("runtime", [0], formula="none", note="no GPU")
    low, expected, high = RUNTIME.get(vendor, RUNTIME[""])
    return Item(
        "runtime",
        [expected] * many,
        low=[low] * many,
        high=[high] * many,
        grade="assumed",
        formula="constant",
        inputs={"bytes": expected},
        source="RTX logs that leave 153 MiB and 451 to 456 MiB (ggml-org/llama.cpp#15860), one of an MI300 "
        "(1.7 GiB); the rest assumed",
        note="context, workspaces",
    )


def rank_names(deployment: Deployment) -> Sequence[str]:
    """Names of the devices."""
    if deployment.devices < 2:
        return ["all"]
    return [f"GPU {place + 1} of {deployment.devices}" for place in range(deployment.devices)]
