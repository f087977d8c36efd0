"""A model in mlx-lm: its layers, and the most that prefill and decode hold beside the weights."""

from __future__ import annotations

from llmcalc.memory.engines.mlx.caches import CHUNK, kept_of, text_groups
from llmcalc.memory.engines.mlx.metal import ELEMENTS, KERNELS, Encoder
from llmcalc.memory.engines.mlx.passes import Layer, Pass, grown_at
from llmcalc.memory.workload import Precision
from llmcalc.model.inventory import Inventory, size

PREFILL_BATCH = 8
"""Prompts that a batch generation reads at once. [-]"""


class Held:
    """Bytes beside the weights. [B]"""

    __slots__ = ("decode", "kv", "prefill", "state")

    def __init__(self, kv: int, state: int, prefill: int, decode: int) -> None:
        self.kv, self.state, self.prefill, self.decode = kv, state, prefill, decode


class Loaded:
    """A model as mlx-lm runs it.

    Parameters
    ----------
    inventory : Inventory
        Stored as its scheme says; only the text model is loaded.
    precision : Precision
        Formats of weights, keys, values and states.
    limits : tuple of int
        Elements and kernels of one command buffer on this chip. [-]
    """

    __slots__ = ("_peaks", "hidden", "layers", "limits", "precision", "vocabulary")

    def __init__(
        self, inventory: Inventory, precision: Precision, limits: tuple[int, int] = (ELEMENTS, KERNELS)
    ) -> None:
        self.precision, self.limits = precision, limits
        self._peaks: dict[tuple[int, int, int, int | None], int] = {}
        layers: dict[int, Layer] = {}
        self.hidden = self.vocabulary = 0
        for group in text_groups(inventory):
            if group.place == "embedding":
                for op in group.ops:
                    if op.kind == "embedding":
                        self.hidden, self.vocabulary = size(op.out), size(op.inp)
            elif group.place == "layer":
                kept = [kept_of(cache, group, inventory, precision) for cache in group.caches]
                made = Layer(group, kept, inventory.family)
                layers.update(dict.fromkeys(group.layers, made))
        self.layers = [layers[index] for index in sorted(layers)]

    def cached(self, tokens: int, sequences: int, states: bool) -> int:
        """Bytes of all caches, or of all states, once `tokens` of each sequence are in. [B]"""
        return sequences * sum(
            kept.row * kept.positions(tokens)
            for layer in self.layers
            for kept in layer.caches
            if (kept.kind == "state") == states
        )

    def kept(self, tokens: int, sequences: int) -> int:
        """Bytes of all caches and states at the end. [B]"""
        return self.cached(tokens, sequences, False) + self.cached(tokens, sequences, True)

    def held(self, tokens: int, prompt: int, sequences: int, under_way: int | None = None) -> Held:
        """What a generation holds at most, phase by phase.

        Parameters
        ----------
        tokens, prompt : int
            Of one sequence: all, and those of its prompt. [tokens]
        sequences : int
            Generated together. [-]
        under_way : int, optional
            Command buffers that the GPU is behind; ten by default. [-]

        Returns
        -------
        Held
            Caches and states at the end, and what each phase holds beyond them at most. [B]

        Notes
        -----
        Holds while the GPU is slower than the processor that feeds it, which it is from some hundred
        tokens a chunk on. Of more than eight sequences, eight prompts are read at once.

        Examples
        --------
        The keys and values of Qwen3-4B, 36 layers x 8 heads x 128 in 16 bit, for 2,048 tokens and 128
        more, in steps of 256:

        >>> from llmcalc import vram
        >>> vram("qwen3-4b", engine="mlx", prompt=2048, output=128)["kv_cache"].bytes
        339738624

        References
        ----------
        .. [1] mlx-lm at d78bf58e, `mlx_lm/generate.py` and `mlx_lm/models/cache.py`.
        .. [2] mlx at 846d1762, `mlx/transforms.cpp` and `mlx/backend/metal/`.
        """
        kv, state = self.cached(tokens, sequences, False), self.cached(tokens, sequences, True)
        rest = max(prompt - 1, 1)
        last = (rest - 1) // CHUNK * CHUNK
        moments = [(last, rest - last)]
        if last and rest - last < CHUNK:
            moments.append((last - CHUNK, CHUNK))
        batch = min(sequences, PREFILL_BATCH)
        others = self.cached(prompt, sequences - batch, False) + self.cached(prompt, sequences - batch, True)
        prefill = max(self._peak(batch, chunk, before, under_way) for before, chunk in moments) + others
        decode = self._peak(sequences, 1, grown_at(tokens), under_way)
        return Held(kv, state, max(prefill - kv - state, 0), max(decode - kv - state, 0))

    def _peak(self, batch: int, tokens: int, before: int, under_way: int | None) -> int:
        """The most that one pass holds beside the weights, counted once. [B]"""
        key = batch, tokens, before, under_way
        if key not in self._peaks:
            self._peaks[key] = self._counted(*key)
        return self._peaks[key]

    def _counted(self, batch: int, tokens: int, before: int, under_way: int | None) -> int:
        encoder = Encoder(*self.limits) if under_way is None else Encoder(*self.limits, under_way)
        run = Pass(encoder, batch, tokens, before, self.hidden)
        if before:
            for index, layer in enumerate(self.layers):
                for place, kept in enumerate(layer.caches):
                    now = (
                        kept.positions(before) if tokens == 1 else kept.filled(max(before - CHUNK, 0), CHUNK)
                    )
                    run.hold(index, place, kept, now)
        if batch > 1 and tokens > 1:  # which tokens are padding, for each sequence
            encoder.new(batch * tokens * (before + tokens), 1)
        x = encoder.new(self.hidden * run.rows)
        for index, layer in enumerate(self.layers):
            x = run.run(layer, index, x)
        if tokens == 1:
            for _ in range(3):  # logits, their logarithms, and the sampler's copy
                encoder.new(self.vocabulary * batch)
        return encoder.peak
