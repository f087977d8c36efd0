"""Speculative decoding: a draft model beside the model, or prediction layers (MTP) of its own.

Read off llama.cpp v0.5.0: common/speculative.cpp and tools/server/server-context.cpp. The draft's
context is as long as the model's, with caches of its own in 16 bit; the model judges all that is
drafted at once, so logits of more positions are reserved. Drafts by prediction layers also keep
snapshots of recurrent states to go back to (src/llama-memory-recurrent.cpp); drafts by a model don't:
llama-server then keeps checkpoints on the host, which are not counted.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

from llmcalc.memory.engines.llamacpp.amounts import Amounts
from llmcalc.memory.engines.llamacpp.batch import Settings
from llmcalc.memory.engines.llamacpp.decoder import predict
from llmcalc.memory.engines.llamacpp.deployment import Deployment
from llmcalc.memory.engines.llamacpp.extras import Extra, Shown
from llmcalc.memory.engines.llamacpp.ggml import Graph
from llmcalc.memory.engines.llamacpp.layer import Layer
from llmcalc.memory.workload import Precision
from llmcalc.model.inventory import Group, Inventory

SOURCE = "llama.cpp v0.5.0, common/speculative.cpp"

MOST_APART = 128
"""Tokens by which the vocabularies of a model and its draft may differ: SPEC_VOCAB_MAX_SIZE_DIFFERENCE."""

ROLLS_BACK = (
    "deepseek_v4", "kimi_k3", "lfm2", "lfm2_moe", "nemotron_h", "qwen3_5", "qwen3_5_moe",
    "qwen3_5_moe_text", "qwen3_5_text",
)  # fmt: skip
"""Families whose recurrent states llama.cpp can set back (``llm_arch_supports_rs_rollback``)."""

WRITTEN = ("qwen3_5", "qwen3_5_text")
"""Families whose prediction graph is the one written here (src/models/qwen35.cpp); others resemble it."""

KINDS = ("full", "window", "chunk", "latent")
"""Caches of a prediction layer: an indexer has none there."""


def vocabulary_of(inventory: Inventory) -> int:
    """Rows of the table of tokens; 0 if there is none. [-]"""
    for group in inventory.groups:
        for tensor in group.tensors:
            if (group.component, tensor.role, tensor.part) == ("text", "embedding", "weight"):
                return tensor.shape[0]
    return 0


class _Drafting(Extra):
    """What both ways have in common."""

    def __init__(self, drafted: int, note: str, grade: str, buffer: tuple[str, int, int]) -> None:
        super().__init__()
        self.drafted = drafted
        looks = {
            "draft_weights": Shown("its tensors", SOURCE, note, grade),
            "draft_kv_cache": Shown("cells x layers", SOURCE, "as long as the model's, 16 bit", grade,
                                    serving=True),
            "draft_state": Shown("states of each slot", SOURCE, "", grade, serving=True),
            "draft_activations": Shown("llama.cpp activations", SOURCE, "its compute buffer", buffer[0],
                                       low=buffer[1], high=buffer[2], serving=True),
            "host_draft_logits": Shown("llama.cpp output", SOURCE, "logits of each slot", grade,
                                       serving=True, host_only=True),
        }  # fmt: skip
        self.shown |= looks

    def _rows(self, held: Amounts, weights: list[int], kv: list[int]) -> dict[str, list[int]]:
        output = [0] * len(kv)
        output[-1] = held.output
        rows = {
            "draft_weights": weights, "draft_kv_cache": kv, "draft_state": held.state,
            "draft_activations": held.compute, "host_draft_logits": output,
        }  # fmt: skip
        return {name: row for name, row in rows.items() if name in self.shown}


class Draft(_Drafting):
    """A model that drafts.

    Parameters
    ----------
    deployment : Deployment
        The draft on the same devices.
    drafted : int
        Tokens drafted at once. [-]
    grade : str
        How sure its shape and formats are.
    """

    def __init__(self, deployment: Deployment, drafted: int, grade: str) -> None:
        super().__init__(drafted, deployment.inventory.title, grade, ("derived", 100, 100))
        self.deployment = deployment
        if not any(layer.states for layer in deployment.layers):
            del self.shown["draft_state"]

    def amounts(
        self, deployment: Deployment, context: int, slots: int, exact: bool
    ) -> dict[str, list[int]]:  # fmt: skip
        """What the draft takes for as many slots of the same context."""
        self.deployment.options.n_ctx = deployment.options.n_ctx
        held = self.deployment.amounts(context, slots, exact)
        return self._rows(held, held.weights, held.kv)


class Prediction(_Drafting):
    """Prediction layers that draft: their weights, caches, and a buffer like that of one layer.

    Parameters
    ----------
    precision : Precision
        Formats of the model, with the caches of the draft. [-]
    groups : list of Group
        The prediction layers.
    drafted : int
        Tokens drafted at once. [-]
    grade : str
        How sure the model's shape and formats are.
    rolls_back : bool
        Whether recurrent states can be set back.
    is_written : bool
        Whether its graph is known.
    """

    def __init__(
        self, precision: Precision, groups: list[Group], drafted: int, grade: str, rolls_back: bool,
        is_written: bool,
    ) -> None:  # fmt: skip
        many = len({layer for group in groups for layer in group.layers})
        note = f"{many} prediction layer{'s' if many > 1 else ''}"
        buffer = ("derived", 100, 100) if is_written else ("assumed", 90, 150)
        super().__init__(drafted, note, grade, buffer)
        del self.shown["draft_state"]
        self.precision, self.groups, self.many = precision, groups, many
        self.snapshots = drafted if rolls_back else 0
        self._alone: dict[int, Deployment] = {}

    def amounts(
        self, deployment: Deployment, context: int, slots: int, exact: bool
    ) -> dict[str, list[int]]:  # fmt: skip
        """What prediction takes beside the model, where its head lies."""
        place = deployment.where[len(deployment.layers)]
        weights, kv = [0] * deployment.places, [0] * deployment.places
        weights[place] = sum(
            len(group.layers) * deployment.weight(tensor, place)
            for group in self.groups
            for tensor in group.tensors
        )
        if place not in self._alone:
            self._alone[place] = self._one_layer(deployment, place)
        alone = self._alone[place]
        alone.options.n_ctx = deployment.options.n_ctx
        held = alone.amounts(context, slots, exact)
        kv[place] = self.many * sum(held.kv)
        return self._rows(held, weights, kv)

    def _one_layer(self, deployment: Deployment, place: int) -> Deployment:
        """A model of the last layer that attends, all of it in one place."""
        attends = [layer for layer in deployment.layers if layer.cache is not None]
        layer = next((one for one in reversed(attends) if not one.is_windowed), attends[-1])
        inventory = copy.copy(deployment.inventory)
        outside = [group for group in inventory.groups if group.place != "layer"]
        inventory.groups = (*outside, _first(layer))
        options = copy.copy(deployment.options)
        on_host = place == deployment.devices
        options.gpu_layers, options.n_cpu_moe, options.overrides = (0 if on_host else None), 0, []
        options.split = [] if on_host else [float(one == place) for one in range(deployment.devices)]
        return _Predicting(inventory, self.precision, options, deployment.devices, deployment.backend)


class _Predicting(Deployment):
    """One layer that predicts from a token and the state before it."""

    def graph(
        self, layers: Sequence[Layer], settings: Settings, ranks: Mapping[tuple[int, str], Sequence[int]]
    ) -> Graph:
        """The graph of a prediction layer."""
        return predict(layers[0], settings, self.hidden, self.vocabulary, self.traits, self.outside)


def _first(layer: Layer) -> Group:
    """A layer's group as the first and only one, without states and indexers."""
    group: Group = layer.group.with_layers((0,), layer.group.tensors)
    group.caches = tuple(cache for cache in group.caches if cache.kind in KINDS)
    return group


def is_recurrent(inventory: Inventory) -> bool:
    """Whether a model has states."""
    return any(cache.is_state for group in inventory.groups for cache in group.caches)
