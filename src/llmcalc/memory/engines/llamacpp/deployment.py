"""Where llama.cpp puts a model: layers on devices and host, weights, caches, compute buffers.

Offloading starts at the output: ``-ngl N`` puts the head and the last N - 1 layers on devices. Token
embeddings stay on the host; a head tied to them is a second copy on its device.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from typing import Any

from llmcalc.engine_options.llama import GRAPHS_FROM
from llmcalc.errors import ConfigError, InputError
from llmcalc.formula import ceil_div
from llmcalc.memory.engines.llamacpp import caches
from llmcalc.memory.engines.llamacpp.allocator import buffers
from llmcalc.memory.engines.llamacpp.amounts import Amounts
from llmcalc.memory.engines.llamacpp.batch import Kept, Settings
from llmcalc.memory.engines.llamacpp.decoder import write
from llmcalc.memory.engines.llamacpp.era import Era
from llmcalc.memory.engines.llamacpp.extras import Extra
from llmcalc.memory.engines.llamacpp.ggml import Graph, adapter_role
from llmcalc.memory.engines.llamacpp.layer import Layer, Outside, bias_of
from llmcalc.memory.engines.llamacpp.overrides import has_patterns, patterns_of, target_of
from llmcalc.memory.engines.llamacpp.sample import sample
from llmcalc.memory.engines.llamacpp.schedule import Plan, spread
from llmcalc.memory.engines.llamacpp.traits import ABSENT, UNREAD, traits_of
from llmcalc.memory.inference import weight_bytes
from llmcalc.memory.workload import Precision
from llmcalc.model.dialects import gguf_name
from llmcalc.model.inventory import Group, Inventory, Tensor
from llmcalc.precision.gguf import converted

ALIGN = {"cpu": 32, "cuda": 128, "metal": 32, "vulkan": 64}
"""Alignment of a tensor in a buffer, by backend. [B]"""

ROW = 512
"""CUDA reads rows of quantized weights in steps of this. [elements]"""


class Deployment:
    """One model on so many devices.

    Parameters
    ----------
    inventory : Inventory
        As it is priced: a GGUF file's tensors.
    precision : Precision
        Formats of its weights and caches.
    options : LlamaOptions
        What llama.cpp is told.
    devices : int
        Devices; 0 runs on the host alone. [-]
    backend : str
        ``cuda``, ``metal`` or ``vulkan``.
    extras : sequence of Extra
        What is loaded beside it.
    """

    def __init__(
        self, inventory: Inventory, precision: Precision, options: Any, devices: int, backend: str = "cuda",
        extras: Sequence[Extra] = (),
    ) -> None:  # fmt: skip
        self.extras = tuple(extras)
        self.inventory, self.precision, self.options = inventory, precision, options
        self.devices, self.backend = devices, backend
        if inventory.family in ABSENT:
            raise ConfigError(
                f"llama.cpp runs no {inventory.family} model.",
                "Use --engine transformers, or leave --engine out.",
            )
        self.doubt = _doubt(inventory.family, options)
        self.component = _component(inventory)
        self.layers, self.outside = _layers(inventory), _outside(inventory)
        corrects = any(layer.has("router_correction") for layer in self.layers)
        self.traits = traits_of(inventory.family, corrects)
        self.places = devices + 1
        self.where = self._places()
        self._sizes: dict[tuple[int, str], int] = {}
        self._elsewhere: dict[tuple[int, str], int] = {}
        self._weights = [0] * self.places
        self.hidden = self.vocabulary = 0
        self._weigh()
        heads = [layer for layer in self.layers if layer.kv_heads]
        caches.check_types(heads, options, precision, inventory)
        self._ranks: dict[tuple[int, str], list[int]] = {}
        self.estimated: dict[tuple[int, int], Amounts] = {}
        for extra in self.extras:
            for key, rank, sizes in extra.adapts(self):
                self._adapt(key, rank, sizes)

    def _adapt(self, key: tuple[int, str], rank: int, sizes: tuple[int, int]) -> None:
        """Note an adapter of a weight: its parts lie where the weight lies."""
        layer, role = key
        ranks = self._ranks.setdefault(key, [])
        for part, size in zip("ab", sizes, strict=True):
            name = adapter_role(role, part, len(ranks))
            self._sizes[layer, name] = size
            if key in self._elsewhere:
                self._elsewhere[layer, name] = self._elsewhere[key]
        ranks.append(rank)

    # -- placement -----------------------------------------------------------------------------

    def _places(self) -> dict[int, int]:
        """Backend of each layer: devices from 0, the host last; -1 the embedding, the last the head."""
        count, host = len(self.layers), self.devices
        asked = self.options.gpu_layers
        offloaded = min(count + 1 if asked is None else asked, count + 1) if self.devices else 0
        start = max(count + 1 - offloaded, 0)
        if not Era(self.options.build).output_first:
            start = max(count - offloaded, 0)
        found = {-1: host}
        bounds = self._bounds()
        for layer in range(count + 1):
            if layer < start or layer - start >= offloaded:
                found[layer] = host
            else:
                share = (layer - start) / offloaded
                found[layer] = next((i for i, bound in enumerate(bounds) if bound > share), self.devices - 1)
        return found

    def _bounds(self) -> list[float]:
        shares = self.options.split or [1.0] * self.devices
        if len(shares) != self.devices and self.devices:
            raise InputError(
                f"--tensor-split gives {len(shares)} shares for {self.devices} device"
                f"{'s' if self.devices != 1 else ''}.",
                "Give one share for each GPU of --gpu.",
            )
        total, upto, bounds = sum(shares), 0.0, []
        for share in shares[: self.devices]:
            upto += share
            bounds.append(upto / total)
        return bounds

    @property
    def offloaded(self) -> int:
        """Layers on devices, the head among them. [-]"""
        return sum(1 for layer, place in self.where.items() if layer >= 0 and place != self.devices)

    @property
    def bare(self) -> int:
        """Layers on devices whose experts, or some of them, lie on the host. [-]"""
        return len(
            {
                layer
                for (layer, role), place in self._elsewhere.items()
                if place == self.devices and role.startswith("expert")
            }
        )

    # -- weights -------------------------------------------------------------------------------

    def _weigh(self) -> None:
        patterns = patterns_of(self.options, len(self.layers))
        used: set[int] = set()
        for group in self.inventory.groups:
            for tensor in group.tensors:
                if tensor.tag not in self.inventory.loaded:
                    continue
                for layer in _indices(group, len(self.layers), self.component):
                    self._add(group, tensor, layer, patterns, used)
        self._tie(patterns)
        for place, (pattern, _) in enumerate(self.options.overrides):
            if place not in used:
                raise InputError(
                    f"-ot {pattern!r} matches no tensor of {self.inventory.name}.",
                    "llmcalc params MODEL --tensors lists the names; experts are 'ffn_.*_exps'.",
                )

    def _add(
        self, group: Group, tensor: Tensor, layer: int, patterns: Sequence[tuple[re.Pattern[str], str]],
        used: set[int],
    ) -> None:  # fmt: skip
        if tensor.role == "embedding" and tensor.part == "weight":
            self.vocabulary, self.hidden = tensor.shape
        size = self._bytes(tensor)
        place = self.where[layer]
        if patterns:
            own = layer if group.place == "layer" else None
            name = gguf_name(group, tensor, own) or ""
            for number, (pattern, target) in enumerate(patterns):
                if pattern.search(name):
                    used.add(number)
                    moved = target_of(target, self.devices)
                    if moved != place:
                        self._elsewhere[layer, _key(tensor)] = place = moved
                    break
        if tensor.part in ("weight", "", "bias"):
            key = layer, _key(tensor)
            self._sizes[key] = self._sizes.get(key, 0) + size
        self._weights[place] += self._aligned(tensor, size, place)

    def _bytes(self, tensor: Tensor) -> int:
        """Bytes of a tensor in the file. [B]"""
        return sum(
            int(weight_bytes(part.numel, self.precision.bits(part.dtype or "")))
            for part in tensor.stored or (tensor,)
        )

    def _aligned(self, tensor: Tensor, size: int, place: int) -> int:
        """Bytes of a tensor in a device's buffer; on the host it is a piece of the file. [B]"""
        if place == self.devices:
            return size
        row = tensor.shape[-1] if tensor.shape else 1
        if self.backend == "cuda" and row % ROW and len(tensor.shape) > 1 and size * 8 < 16 * tensor.numel:
            size += size // tensor.numel * (ROW - row % ROW) if size >= tensor.numel else 0
        align = ALIGN[self.backend]
        return int(ceil_div(size, align)) * align

    def _tie(self, patterns: Sequence[tuple[re.Pattern[str], str]]) -> None:
        """A tied head is the embedding once more where it runs; where ``-ot`` puts both they are one."""
        head = len(self.layers)
        tied = any(op.role == "embedding" for g in self.inventory.groups if g.place == "head" for op in g.ops)
        if not tied:
            return
        size = self._sizes.get((-1, "embedding"), 0)
        self._sizes[head, "unembedding"] = size
        place = self.where[head]
        target = next((target for pattern, target in patterns if pattern.search("token_embd.weight")), None)
        if target is not None:
            self._elsewhere[head, "unembedding"] = target_of(target, self.devices)
        elif place != self.devices:
            self._weights[place] += int(ceil_div(size, ALIGN[self.backend])) * ALIGN[self.backend]

    def size_of(self, layer: int, role: str) -> int:
        """Bytes of a weight. [B]"""
        return self._sizes.get((layer, role), 0)

    def indices(self, group: Group) -> Sequence[int]:
        """The layers that a group's tensors belong to: -1 is the embedding, the last the head."""
        return _indices(group, len(self.layers), self.component)

    def place_of(self, layer: int, role: str) -> int:
        """Where a weight lies."""
        return self._elsewhere.get((layer, role), self.where[layer])

    def weight(self, tensor: Tensor, place: int) -> int:
        """Bytes of a tensor of the file where it lies. [B]"""
        return self._aligned(tensor, self._bytes(tensor), place)

    def padded(self, size: int, place: int) -> int:
        """Bytes of a tensor of its own in a buffer. [B]"""
        align = ALIGN[self.backend] if place != self.devices else ALIGN["cpu"]
        return int(ceil_div(size, align)) * align

    # -- what a context takes ------------------------------------------------------------------

    def settings(self, context: int, slots: int) -> Settings:
        """The batch that llama.cpp reserves its graphs for."""
        options = self.options
        cells = caches.cells_of(context, slots, options)
        tokens = min(caches.asked_of(context, slots, options), options.ubatch)
        every = options.all_outputs or self.traits.encodes
        drafted = max((extra.drafted for extra in self.extras), default=0)
        outputs = tokens if every else min(tokens, slots * (1 + drafted))
        tokens = ceil_div(tokens, slots) * slots
        key, value = (
            Kept(kept.name, kept.bytes_per_element, kept.elements > 1)
            for kept in (self.precision.key, self.precision.value)
        )
        return Settings(
            tokens=tokens, seqs=slots, outputs=outputs, flash=options.flash_attn,
            streams=1 if options.kv_unified else slots, cells=cells,
            window_cells=caches.window_cells(self.layers, cells, slots, options), key=_named(key),
            value=_named(value), latent=options.mla, era=Era(options.build, options.fork),
            snapshots=self.snapshots,
        )  # fmt: skip

    @property
    def snapshots(self) -> int:
        """States of each slot that a rejected draft can go back to. [-]"""
        return max((extra.snapshots for extra in self.extras), default=0)

    def asked(self, context: int, slots: int) -> Amounts:
        """Bytes everywhere by the options as they are, estimated once. [B]"""
        if (context, slots) not in self.estimated:
            self.estimated[context, slots] = self.amounts(context, slots)
        return self.estimated[context, slots]

    def amounts(self, context: int, slots: int, exact: bool = True) -> Amounts:
        """Bytes everywhere for slots of a context. [B]

        Without `exact` equal layers are written out a few times only: faster, and off by a tensor at most.
        """
        found = self.kept(context, slots)
        found.compute = self.compute(self.settings(context, slots), exact)
        for extra in self.extras:
            for name, row in extra.amounts(self, context, slots, exact).items():
                if name == "weights":
                    found.weights = [own + more for own, more in zip(found.weights, row, strict=True)]
                else:
                    found.beside[name] = row
        return found

    def kept(self, context: int, slots: int) -> Amounts:
        """The same without compute buffers and what lies beside the model: at least so much. [B]"""
        found = Amounts(self.places)
        settings = self.settings(context, slots)
        found.weights = list(self._weights)
        for place, layer in enumerate(self.layers):
            found.kv[self.where[place]] += caches.layer_bytes(
                layer, self.layers, settings, self.precision, self.traits
            )
            found.state[self.where[place]] += caches.state_bytes(layer, slots, settings.snapshots)
        found.output = 4 * self.vocabulary * max(slots, 1)
        return found

    def graph(
        self, layers: Sequence[Layer], settings: Settings, ranks: Mapping[tuple[int, str], Sequence[int]]
    ) -> Graph:
        """The graph of some of the layers, with the ranks of their adapters."""
        return write(layers, settings, self.hidden, self.vocabulary, self.traits, self.outside, ranks)

    def compute(self, settings: Settings, exact: bool = True) -> list[int]:
        """Compute buffers on each device and the host. [B]"""
        places = list(range(len(self.layers)))
        if not exact:
            marked = {(layer, f"{role} {ranks}"): 0 for (layer, role), ranks in self._ranks.items()}
            places = sample(self.layers, self.where, self._elsewhere | marked)
        chosen = [self.layers[place] for place in places]
        head = len(self.layers)
        where = {index: self.where[place] for index, place in enumerate(places)}
        where |= {-1: self.devices, len(places): self.where[head]}
        names = dict(enumerate(places)) | {-1: -1, len(places): head}
        elsewhere = {
            (index, role): place
            for index, real in names.items()
            for (layer, role), place in self._elsewhere.items()
            if layer == real
        }
        ranks = {
            (index, role): own
            for index, real in names.items()
            for (layer, role), own in self._ranks.items()
            if layer == real
        }
        graph = self.graph(chosen, settings, ranks)
        plan = Plan(
            self.devices, where, lambda layer, role: self.size_of(names[layer], role), elsewhere,
            pipeline=self.devices > 1 and self.offloaded == head + 1 and not has_patterns(self.options),
            reorders=self.backend == "vulkan", widens=self.backend == "cuda" and settings.era.widens,
            tokens=settings.tokens,
        )  # fmt: skip
        align = ALIGN[self.backend]
        return buffers(spread(graph, plan), (*[align] * self.devices, 64 if self.devices else 32))


def _key(tensor: Tensor) -> str:
    """What the graph calls a tensor."""
    return bias_of(tensor.role) if tensor.part == "bias" else tensor.role


def _named(kept: Kept) -> Kept:
    """Types of caches as ggml calls them."""
    kept.kind = {"fp16": "f16", "fp32": "f32"}.get(kept.kind, kept.kind)
    return kept


def _layers(inventory: Inventory) -> list[Layer]:
    """The layers of the main model in order, as llama.cpp reads them."""
    found: dict[int, Layer] = {}
    component = _component(inventory)
    for group in inventory.groups:
        if group.place == "layer" and group.component == component:
            layer = Layer(_converted(group))
            for index in group.layers:
                found[index] = layer
    return [found[index] for index in sorted(found)]


def _converted(group: Group) -> Group:
    """A group with its tensors as the converter names and splits them."""
    made = copy.copy(group)
    made.tensors = tuple(converted(group))
    return made


def _component(inventory: Inventory) -> str:
    """What runs: the text model, or the encoder where that is all there is."""
    found = {group.component for group in inventory.groups if group.place == "layer"}
    return "text" if "text" in found else "encoder"


def _outside(inventory: Inventory) -> Outside:
    """The tensors outside the layers, of the model that runs alone."""
    own = (_component(inventory), "text")
    return Outside(_converted(group) for group in inventory.groups if group.component in own)


def _indices(group: Group, layers: int, component: str) -> Sequence[int]:
    """The layers that a group's tensors belong to: -1 is the embedding, the last the head."""
    if group.place == "embedding":
        return (-1,)
    if group.place == "head":
        return (layers,)
    if group.component != component:
        return (-1,) * len(group.layers)
    return group.layers[: group.stored]


def _doubt(family: str, options: Any) -> str:
    """Why compute buffers are not certain: the ``family``, the ``fork``, the ``build``; else empty."""
    if family in UNREAD:
        return "family"
    return "fork" if options.fork else "build" if options.build < GRAPHS_FROM else ""
