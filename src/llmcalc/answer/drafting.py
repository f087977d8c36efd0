"""A draft beside a model: another model, the model's prediction layers, or an EAGLE head."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from llmcalc.answer.common import precision_of
from llmcalc.catalog import Catalog
from llmcalc.demand.needs import Needs
from llmcalc.engine_options.beside import HEADS
from llmcalc.errors import ConfigError, InputError
from llmcalc.estimate import Item
from llmcalc.memory.caches import kv_item, state_item
from llmcalc.memory.folds import weights_item
from llmcalc.memory.heads import eagle_head, like_its_own, prediction_layers
from llmcalc.memory.workload import Precision, Workload
from llmcalc.model.inventory import Inventory
from llmcalc.placement import Placement, place
from llmcalc.scenario import Scenario, resolve

SERVERS = {"vllm": "vLLM", "sglang": "SGLang", "tensorrt-llm": "TensorRT-LLM"}
"""Engines whose drafts must have the model's own tokens."""

STRIPPED = (
    "architectures", "draft_vocab_size", "target_hidden_size", "eagle_config", "fc_bias", "norm_before_fc",
    "norm_before_residual", "eagle_aux_hidden_state_layer_ids", "target_layer_count", "embed_requires_grad",
    "speculators_config", "speculators_model_type", "speculators_version", "tie_word_embeddings",
)  # fmt: skip
"""Keys of a head's configuration that its layers do not need."""


class Drafting:
    """A draft as it is loaded.

    Attributes
    ----------
    inventory, precision : Inventory, Precision
        What it is and in which formats.
    kind : str
        ``mtp``, ``eagle``, ``eagle3`` or ``model``.
    placement : Placement
        The tensor ranks that share it; it lies on the last stage.
    """

    __slots__ = ("inventory", "kind", "placement", "precision")

    def __init__(self, inventory: Inventory, kind: str, precision: Precision, tp: int) -> None:
        self.inventory, self.kind, self.precision = inventory, kind, precision
        self.placement = (
            place(inventory, tp, 1) if kind == "model" else Placement(tp, 1, 1, _layers(inventory))
        )

    @property
    def title(self) -> str:
        """What drafts, in a few words."""
        words = {"mtp": "prediction layers", "eagle": "EAGLE head", "eagle3": "EAGLE-3 head"}
        return words.get(self.kind, self.inventory.title)

    def weights(self, stages: int) -> Item:
        """Its weights, on the last stage."""
        return _last(
            weights_item(self.inventory, self.placement, self.precision), "draft_weights", stages, self
        )

    def caches(self, workload: Workload, demand: Any, stages: int) -> tuple[list[Item], list[Needs] | None]:
        """Its KV cache and states for the same requests, and what these need in each case."""
        if demand is not None:
            from llmcalc.memory.requests import request_items

            items, needs = request_items(self.inventory, self.placement, self.precision, workload, demand)
        else:
            made = (self.inventory, self.placement, self.precision, workload)
            items, needs = [kv_item(*made), state_item(*made)], None
        names = ("draft_kv_cache", "draft_state")
        rows = [_last(item, name, stages, self) for item, name in zip(items, names, strict=True)]
        held = any(cache.is_state for group in self.inventory.groups for cache in group.caches)
        return rows if held else rows[:1], needs


def _layers(inventory: Inventory) -> int:
    return max((layer + 1 for group in inventory.groups for layer in group.layers), default=1)


def _last(item: Item, name: str, stages: int, drafting: Drafting) -> Item:
    """An item of one rank class, on the last of several stages."""
    rest = [item.amounts[0] * 0] * (stages - 1)
    return Item(
        name, [*rest, *item.amounts], low=[*rest, *item.low], high=[*rest, *item.high], phases=item.phases,
        grade=item.grade, formula=item.formula, inputs=item.inputs, source=item.source,
        note=f"{drafting.title}: {item.note}",
    )  # fmt: skip


def drafting_of(
    stored: Inventory, precision: Precision, scenario: Scenario, placement: Placement, book: Catalog
) -> Drafting | None:
    """The draft that a scenario asks for.

    Parameters
    ----------
    stored, precision : Inventory, Precision
        The model as it is stored.
    scenario : Scenario
        With the draft, if there is one.
    placement : Placement
        Of the model; the draft is shared by as many tensor ranks.
    book : Catalog
        For models and formats.

    Raises
    ------
    InputError, ConfigError
        For a draft that can't be, with what to do instead.
    """
    asked = scenario.beside
    if asked is None or asked.draft is None:
        return None
    if asked.word == "mtp":
        found = prediction_layers(stored)
        if found is None:
            raise InputError(
                f"--draft mtp needs prediction layers, and {stored.name} has none.",
                "Name a draft model, or eagle, eagle3: --draft MODEL.",
            )
        return Drafting(found, "mtp", precision, placement.tp)
    if asked.word in HEADS:
        made = eagle_head(like_its_own(stored), stored, asked.word == "eagle3", vocabulary(stored))
        return Drafting(made, asked.word, _plain(made, scenario, precision, book), placement.tp)
    raw = _configuration(asked.draft)
    kind = _eagle(raw) if raw is not None else ""
    if raw is not None and kind:
        return _described(raw, kind, stored, scenario, precision, placement, book)
    return _model(asked, stored, scenario, precision, placement, book)


def _configuration(draft: Any) -> Mapping[str, Any] | None:
    """The configuration that a draft is given as: a dict, a file, or a folder with one."""
    if isinstance(draft, Mapping):
        return draft
    if not isinstance(draft, (str, os.PathLike)):
        return None
    path = os.fspath(draft)
    if os.path.isdir(path):
        path = os.path.join(path, "config.json")
    if not path.endswith(".json") or not os.path.isfile(path):
        return None
    import json

    try:
        with open(path, encoding="utf-8") as stream:
            found = json.load(stream)
    except (OSError, ValueError, RecursionError):
        return None  # the reader tells what is wrong with it
    return found if isinstance(found, dict) else None


def _eagle(raw: Mapping[str, Any]) -> str:
    """Which EAGLE a configuration is of; empty for a model."""
    words = [raw.get("model_type"), *(raw.get("architectures") or []), raw.get("speculators_model_type")]
    text = " ".join(str(word).lower() for word in words if word)
    if "eagle3" in text or "draft_vocab_size" in raw:
        return "eagle3"
    return "eagle" if "eagle" in text else ""


def _described(
    raw: Mapping[str, Any], kind: str, stored: Inventory, scenario: Scenario, precision: Precision,
    placement: Placement, book: Catalog,
) -> Drafting:  # fmt: skip
    """A head by its configuration."""
    from llmcalc.model.readers import read

    nested = raw.get("transformer_layer_config")
    plain = {**raw, **(nested if isinstance(nested, Mapping) else {})}
    plain.pop("transformer_layer_config", None)
    own = {key: value for key, value in plain.items() if key not in STRIPPED}
    if "eagle" in str(own.get("model_type", "eagle")).lower() or "speculator" in str(own.get("model_type")):
        own["model_type"] = "llama"
    layers = read(own, book)
    tokens = raw.get("draft_vocab_size") or vocabulary(stored)
    if not isinstance(tokens, int) or isinstance(tokens, bool) or tokens < 1:
        raise ConfigError("--draft: draft_vocab_size is no positive number.", "Mend the head's config.json.")
    made = eagle_head(layers, stored, kind == "eagle3", tokens)
    place(layers, placement.tp, 1)
    return Drafting(made, kind, _plain(made, scenario, precision, book), placement.tp)


def _plain(made: Inventory, scenario: Scenario, precision: Precision, book: Catalog) -> Precision:
    """Formats of a head: 16 bit, with the model's cache."""
    own = resolve(made, book, {"dtype": "bf16"}, strict=False)
    found = precision_of(made, own, book)
    found.key, found.value = precision.key, precision.value
    return found


def _model(
    asked: Any,
    stored: Inventory,
    scenario: Scenario,
    precision: Precision,
    placement: Placement,
    book: Catalog,
) -> Drafting:
    """A model that drafts."""
    from llmcalc.model.readers import read
    from llmcalc.precision import stored_as_declared

    model = stored_as_declared(read(asked.draft, book), book)
    if model.is_opaque or model.family == "header":
        raise InputError(f"--draft {model.name} tells no layers.", "Name a model or a config.json.")
    own = resolve(model, book, {"quant": asked.draft_quant})
    theirs, ours = vocabulary(model), vocabulary(stored)
    if scenario.engine in SERVERS and theirs != ours:
        raise InputError(
            f"--draft {model.name} has {theirs:,} tokens, {stored.name} {ours:,}: "
            f"{SERVERS[scenario.engine]} takes a draft of the "
            "same vocabulary alone.",
            "Name a smaller model of the same family and tokenizer, or a head: eagle, eagle3.",
        )
    made = own.stored(model)
    found = precision_of(made, own, book)
    found.key, found.value = precision.key, precision.value
    return Drafting(made, "model", found, placement.tp)


def vocabulary(inventory: Inventory) -> int:
    """Rows of the embedding. [-]"""
    return max(
        (
            n
            for group in inventory.groups
            if group.component == "text" and group.place != "layer"
            for tensor in group.tensors
            for dimension in tensor.dims
            for segment in dimension
            for axis, n in segment
            if axis == "vocab"
        ),
        default=0,
    )
