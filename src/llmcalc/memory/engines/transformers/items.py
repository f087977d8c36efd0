"""The items of an estimate for transformers, in the contract's order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llmcalc.estimate import Item, worst_grade
from llmcalc.formula import Quantity, is_array, larger
from llmcalc.memory import caches, folds
from llmcalc.memory.engines.transformers.caches import as_kept
from llmcalc.memory.engines.transformers.model import Held, Loaded, largest_experts, largest_packed
from llmcalc.memory.workload import Precision, Workload
from llmcalc.model.inventory import Inventory
from llmcalc.units import MIB

SERVING = ("prefill", "decode")
SOURCE = "transformers 5.24.0, modelling code and cache_utils.py"

CONTEXT_LOW, CONTEXT, CONTEXT_HIGH = 300 * MIB, 500 * MIB, 900 * MIB
"""CUDA's context and the kernels it loads, and the workspace of matrix products. Assumed."""

SLACK_LOW, SLACK, SLACK_HIGH = 0, 5, 20
"""What PyTorch's allocator reserves beyond tensors, in percent of what comes and goes. Assumed."""

SEGMENT = 20 * MIB
"""Its smallest reserve for tensors above 1 MiB. [B]"""


def prompt_of(context: int, prompt: int | None, output: int | None) -> int:
    """Tokens of the prompt: all of the context where nobody said. [tokens]

    Examples
    --------
    >>> prompt_of(2176, 2048, 128), prompt_of(8192, None, None), prompt_of(512, None, 512)
    (2048, 8192, 1)
    """
    return prompt if prompt is not None else max(context - (output or 0), 1)


class Moments:
    """Peaks of every stage for each workload asked about: a number each, or arrays of them."""

    def __init__(
        self, loaded: Loaded, context: Quantity, prompt: int | None, output: int | None, sequences: Quantity
    ) -> None:
        self.shape: Any = None
        pairs = [(context, sequences)]
        if is_array(context) or is_array(sequences):
            import numpy as np

            both = np.broadcast_arrays(context, sequences)
            self.shape = both[0].shape
            pairs = list(zip(both[0].ravel().tolist(), both[1].ravel().tolist(), strict=True))
        self.rows: list[list[tuple[Held, Held]]] = []
        for tokens, many in pairs:
            read = prompt_of(int(tokens), prompt, output)
            alike = loaded.alike
            made = {stage: held(loaded, int(tokens), read, int(many), stage) for stage in set(alike)}
            self.rows.append([made[stage] for stage in alike])

    def at(self, pick: Callable[[int, int], int]) -> Quantity:
        """One figure of every workload, by its place and its row. [B]"""
        values = [pick(place, 0) for place in range(len(self.rows))]
        if self.shape is None:
            return values[0]
        import numpy as np

        return np.array(values, dtype=np.int64).reshape(self.shape)


def held(loaded: Loaded, tokens: int, prompt: int, sequences: int, stage: int = 0) -> tuple[Held, Held]:
    """The peaks of both phases on a stage, caches and states among them.

    Parameters
    ----------
    loaded : Loaded
        The model.
    tokens, prompt, sequences : int
        Of one sequence: all, and those of its prompt; and how many are generated together. [-]
    stage : int
        Which of the GPUs of a `device_map`.

    Returns
    -------
    tuple of Held
        Of the prefill and of decoding: the first step, when windows still hold the whole prompt, or the
        last. [B]
    """
    prefill = loaded.prefill(sequences, prompt, stage)
    last = loaded.decode(sequences, max(tokens - 1, 1), 1, stage)
    if not loaded.slides:
        return prefill, last
    chunk = min(loaded.options.chunk or prompt, prompt)
    first = loaded.decode(sequences, min(prompt, max(tokens - 1, 1)), chunk, stage)
    return prefill, first if first.bytes >= last.bytes else last


def transformers_items(
    inventory: Inventory, loaded: Loaded, moments: Moments, precision: Precision, workload: Workload
) -> list[Item]:
    """Weights, caches, states, what each phase holds beside them, and the process."""
    options, placement = loaded.options, loaded.placement
    stages = range(placement.pp)
    kept = as_kept(inventory, options)
    weights = folds.weights_item(inventory, placement, precision)
    kv = caches.kv_item(kept, placement, precision, workload)
    state = caches.state_item(kept, placement, precision, workload)
    host = None
    if options.is_offloaded:
        kv, host = _offloaded(kv, loaded)
    grade = worst_grade([inventory.grade, "derived", *(["assumed"] if _assumes(loaded) else [])])

    def beyond(phase: int) -> list[Quantity]:
        def of(stage: int) -> Quantity:
            peaks = moments.at(lambda place, _: moments.rows[place][stage][phase].bytes)
            rest = peaks - kv.amounts[stage] - state.amounts[stage]
            return (rest > 0) * rest

        return [of(stage) for stage in stages]

    inputs = {"tokens": workload.streams["decoder"], "sequences": workload.sequences}
    prefill, decode = beyond(0), beyond(1)
    made = [
        weights, kv, state,
        Item("activations", prefill, phases=("prefill",), grade=grade, formula="tensors of a pass",
             inputs=inputs, source=SOURCE, note=_words(moments, 0, loaded.attention),
             items=_parts(moments, 0, prefill, grade)),
        Item("cuda_graphs", [0] * placement.pp, phases=("decode",), formula="none", note="none are captured"),
        _runtime(prefill, decode),
        Item("decode_buffers", decode, phases=("decode",), grade=grade, formula="tensors of a pass",
             inputs=inputs, source=SOURCE, note=_words(moments, 1, loaded.attention)),
        _load(inventory, loaded, precision),
    ]  # fmt: skip
    return [*made, host] if host is not None else made


def _assumes(loaded: Loaded) -> bool:
    """Whether a recurrent layer's kernels, or one expert's share of tokens, are taken for granted."""
    return any(
        layer.states or (layer.experts and not loaded.options.groups_experts) for layer in loaded.groups
    )


def _words(moments: Moments, phase: int, attention: str) -> str:
    """What there is most of at the peak, in a few words."""
    worst = max(moments.rows[-1], key=lambda pair: pair[phase].bytes)[phase]
    ranked = sorted(((n, label) for label, n in worst.parts.items() if label != "caches"), reverse=True)
    most = ", ".join(label for number, label in ranked[:2] if number)
    return f"{attention} attention; most: {most}" if most else f"{attention} attention"


def _parts(moments: Moments, phase: int, amounts: list[Quantity], grade: str) -> list[Item]:
    """The peak by what tensors are for, where it is one number; caches beyond those at rest are the rest."""
    if moments.shape is not None:
        return []
    rows = moments.rows[0]
    labels = dict.fromkeys(label for pair in rows for label in pair[phase].parts if label != "caches")
    parts = [
        Item(label, [pair[phase].parts.get(label, 0) for pair in rows], phases=("prefill",), grade=grade,
             formula="tensors of a pass", source=SOURCE)
        for label in sorted(labels)
    ]  # fmt: skip
    rest = [amounts[stage] - sum(part.amounts[stage] for part in parts) for stage in range(len(rows))]
    if any(number < 0 for number in rest):
        return []
    parts.append(Item("caches as they are made", rest, phases=("prefill",), grade=grade, source=SOURCE,
                      formula="tensors of a pass"))  # fmt: skip
    return [part for part in parts if any(part.amounts)]


def share_on_device(whole: Quantity, loaded: Loaded) -> Quantity:
    """What of a stage's caches lies on its device: two layers where they are offloaded, else all. [B]"""
    if not loaded.options.is_offloaded:
        return whole
    layers = max(sum(len(layer.indices) for layer in loaded.groups if layer.caches), 1)
    return 2 * whole // max(layers // loaded.placement.pp, 1)


def _offloaded(kv: Item, loaded: Loaded) -> tuple[Item, Item]:
    """Two layers on the device, the one at work and the next; all of them in host memory."""
    share = [share_on_device(amount, loaded) for amount in kv.amounts]
    device = Item(
        "kv_cache", share, phases=SERVING, grade="derived", formula="sum of caches", inputs=kv.inputs,
        source=kv.source, note="the layer at work and the next",
    )  # fmt: skip
    host = Item(
        "kv_cache_on_host", kv.amounts, phases=SERVING, where="host", grade=kv.grade, formula=kv.formula,
        inputs=kv.inputs, source=kv.source, note="all layers",
    )  # fmt: skip
    return device, host


def runtime_of(prefill: Quantity, decode: Quantity) -> tuple[Quantity, Quantity, Quantity]:
    """The process and the allocator's reserve, by what comes and goes: low, expected and high. [B]"""
    moving = larger(prefill, decode)
    ends = (CONTEXT_LOW, SLACK_LOW), (CONTEXT, SLACK), (CONTEXT_HIGH, SLACK_HIGH)
    low, expected, high = (base + SEGMENT + percent * moving // 100 for base, percent in ends)
    return low, expected, high


def _runtime(prefill: list[Quantity], decode: list[Quantity]) -> Item:
    """The process, and the allocator's own reserve: what nvidia-smi shows beyond tensors."""
    low, expected, high = zip(*map(runtime_of, prefill, decode), strict=True)
    return Item(
        "runtime", list(expected), low=list(low), high=list(high), grade="assumed", formula="constant",
        inputs={"bytes": CONTEXT}, source="assumed: CUDA context, workspaces, the allocator's reserve",
        note="CUDA context, the allocator's reserve",
    )  # fmt: skip


def _load(inventory: Inventory, loaded: Loaded, precision: Precision) -> Item:
    """A tensor is copied to the device whole, then packed; experts are joined into one tensor."""
    joins = loaded.options.era.groups_experts
    number = largest_packed(inventory, loaded.placement)
    if joins:
        number = max(number, largest_experts(inventory, loaded.placement))
    number *= loaded.element
    stages = loaded.placement.pp
    return Item(
        "load_buffers", [number] * stages, low=[0] * stages, high=[2 * number] * stages, phases=("load",),
        grade="assumed" if number else "exact", formula="largest tensor", inputs={"bytes": number},
        source=SOURCE,
        note="the largest tensor before it is packed or joined" if number else "tensors go where they stay",
    )  # fmt: skip
