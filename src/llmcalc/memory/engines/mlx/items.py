"""The items of an estimate for mlx-lm: one device, whose memory the processor shares."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llmcalc.estimate import Item, worst_grade
from llmcalc.formula import Quantity, is_array
from llmcalc.memory.engines.mlx.caches import CHUNK, STEP
from llmcalc.memory.engines.mlx.metal import UNDER_WAY
from llmcalc.memory.engines.mlx.model import Held, Loaded
from llmcalc.memory.folds import weights_item
from llmcalc.model.inventory import Inventory
from llmcalc.placement import Placement
from llmcalc.units import MIB

SERVING = ("prefill", "decode")
SOURCE = "mlx-lm d78bf58e and mlx 846d1762 (August 2026), sources"

SPREAD = 2
"""Command buffers by which the GPU may be nearer or further behind than ten: the range. [-]"""

RUNTIME_LOW, RUNTIME, RUNTIME_HIGH = 0, 50 * MIB, 300 * MIB
"""Kernels, and what other programs keep on the GPU; MLX's own peak does not count it. Assumed."""


class Moments:
    """What is held for every workload asked about: a number each, or arrays of them."""

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
        self.rows: list[tuple[Held, Held, Held]] = []
        for tokens, many in pairs:
            read = prompt_of(int(tokens), prompt, output)
            low, expected, high = (
                loaded.held(int(tokens), read, int(many), UNDER_WAY + away) for away in (-SPREAD, 0, SPREAD)
            )
            self.rows.append((low, expected, high))

    def at(self, pick: Callable[[Held], int], end: int = 1) -> Quantity:
        """One figure of every moment: low (0), expected (1) or high (2). [B]"""
        values = [pick(row[end]) for row in self.rows]
        if self.shape is None:
            return values[0]
        import numpy as np

        return np.array(values, dtype=np.int64).reshape(self.shape)


def prompt_of(context: int, prompt: int | None, output: int | None) -> int:
    """Tokens of the prompt: all of the context where nobody said. [tokens]

    Examples
    --------
    >>> prompt_of(2176, 2048, 128), prompt_of(8192, None, None), prompt_of(512, None, 512)
    (2048, 8192, 1)
    """
    if prompt is not None:
        return prompt
    return max(context - (output or 0), 1)


def mlx_items(
    inventory: Inventory, loaded: Loaded, moments: Moments, context: Quantity, sequences: Quantity
) -> list[Item]:
    """Weights, caches, states, and what each phase holds beside them, in the contract's order."""
    precision = loaded.precision
    grade = worst_grade([inventory.grade, "assumed" if _doubtful(inventory) else "exact"])
    inputs = {"context": context, "sequences": sequences}
    derived = worst_grade([grade, "derived"])

    def item(name: str, pick: Callable[[Held], int], phases: tuple[str, ...], **more: Any) -> Item:
        return Item(name, [moments.at(pick)], phases=phases, inputs=inputs, source=SOURCE, **more)

    def buffers(name: str, pick: Callable[[Held], int], phase: str, note: str) -> Item:
        return item(
            name, pick, (phase,), grade=derived, formula="mlx command buffers", note=note,
            low=[moments.at(pick, 0)], high=[moments.at(lambda held: max(pick(held), 0), 2)],
        )  # fmt: skip

    kinds = sorted({kept.kind for layer in loaded.layers for kept in layer.caches if kept.kind != "state"})
    words = {"grow": f"in steps of {STEP} tokens", "rotate": "rotating windows", "chunk": "chunks"}
    kept = ", ".join(words[kind] for kind in kinds) or "no attention to remember"
    return [
        weights_item(inventory, Placement(1, 1, 1, inventory.layers), precision),
        item("kv_cache", lambda held: held.kv, SERVING, grade=grade, formula="mlx caches", note=kept),
        item("state", lambda held: held.state, SERVING, grade=grade, formula="mlx caches",
             note="of recurrences and convolutions" if _states(loaded) else "no recurrent layers"),
        buffers("activations", lambda held: held.prefill, "prefill",
                f"prefill in chunks of {CHUNK:,} tokens, buffers of kernels under way"),
        Item("cuda_graphs", [0], formula="none"),
        Item("runtime", [RUNTIME], low=[RUNTIME_LOW], high=[RUNTIME_HIGH], grade="assumed",
             formula="constant", inputs={"bytes": RUNTIME}, source="assumed: MLX's own peak leaves it out",
             note="kernels, the screen"),
        buffers("decode_buffers", lambda held: held.decode, "decode",
                "caches copied as they grow, logits"),
    ]  # fmt: skip


def _states(loaded: Loaded) -> bool:
    return any(kept.kind == "state" for layer in loaded.layers for kept in layer.caches)


def _doubtful(inventory: Inventory) -> bool:
    return any(key != "context" for key in inventory.unproven)
