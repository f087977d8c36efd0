"""Drafting heads as models of their own: prediction layers, and EAGLE's."""

from __future__ import annotations

from copy import copy

from llmcalc.errors import InputError
from llmcalc.model.inventory import Group, Inventory, Tensor, dim

ATTENDING = ("full", "latent", "indexer")
WIDENED = ("query", "key", "value", "query_key_value")
"""Projections of EAGLE-3's first layer, which read the embedding beside the hidden state."""


def prediction_layers(inventory: Inventory) -> Inventory | None:
    """The prediction layers as a model, with caches like those of the model's last full layers.

    Returns
    -------
    Inventory or None
        None where the checkpoint has none.
    """
    groups = [group for group in inventory.groups if group.component == "mtp"]
    if not groups:
        return None
    caches = [c for g in _text_layers(inventory) for c in g.caches if c.kind in ATTENDING]
    last = _text_layers(inventory)
    kept = next(
        (tuple(c for c in g.caches if c.kind in ATTENDING) for g in reversed(last)
         if any(c.kind in ATTENDING for c in g.caches)), (),
    ) if caches else ()  # fmt: skip
    made = copy(inventory)
    made.loaded = ("mtp", *inventory.loaded)
    taken: set[int] = set()
    rows = []
    for group in groups:
        own = copy(group)
        # Parts of one layer may be groups of their own: its cache counts once.
        fresh = [layer for layer in group.layers if layer not in taken]
        own.caches = kept if fresh else ()
        taken.update(fresh)
        rows.append(own)
    made.groups = tuple(rows)
    made.published = None
    return made


def _text_layers(inventory: Inventory) -> list[Group]:
    return [g for g in inventory.groups if g.place == "layer" and g.component == "text"]


def like_its_own(inventory: Inventory) -> Inventory:
    """One dense layer of the model's own shape, as heads that nobody described are taken to have.

    Raises
    ------
    InputError
        If its layers are no plain ones.
    """
    layers = [g for g in _text_layers(inventory) if any(c.kind == "full" for c in g.caches)]
    if not layers or inventory.routed_params or len(layers[-1].caches) > 1:
        raise InputError(
            f"An EAGLE head of {inventory.name} has a shape of its own.",
            "Give the head's config.json: --draft path/to/config.json.",
        )
    last = max(layers, key=lambda group: group.layers[-1])
    made = copy(inventory)
    made.groups = (last.with_layers((0,), last.tensors),)
    made.published = None
    return made


def eagle_head(layers: Inventory, target: Inventory, three: bool, vocabulary: int) -> Inventory:
    """EAGLE's head: layers, a projection that joins what they read, and for EAGLE-3 a head of its own.

    Embedding, and for EAGLE-1 the unembedding, are the model's.

    Parameters
    ----------
    layers : Inventory
        The head's layers, as its configuration or the model's own shape says.
    target : Inventory
        The model it drafts for.
    three : bool
        Whether it is EAGLE-3, which reads three hidden states, and the embedding in its first layer.
    vocabulary : int
        Tokens that EAGLE-3 may draft. [-]

    References
    ----------
    Li et al., "EAGLE-3", 2025; vLLM 0.33.0, model_executor/models/llama_eagle.py, llama_eagle3.py.
    """
    wide, own = hidden_of(target), hidden_of(layers)
    made = copy(layers)
    rows = []
    for place, group in enumerate(_text_layers(layers)):
        tensors = list(group.tensors)
        if three and not place:
            tensors += [
                Tensor(t.role, t.dims, t.part) for t in tensors if t.role in WIDENED and len(t.dims) > 1
            ]
            tensors.append(Tensor("hidden_norm", (dim(hidden=own),)))
        if three and not place and len(group.layers) > 1:
            rows.append(group.with_layers(group.layers[:1], tensors))
            rows.append(group.with_layers(group.layers[1:], group.tensors))
        else:
            rows.append(group.with_layers(group.layers, tensors))
    joined = [Tensor("projection", (dim(hidden=own), dim(hidden=wide * (3 if three else 2))))]
    if three:
        joined += [
            Tensor("final_norm", (dim(hidden=own),)),
            Tensor("unembedding", (dim(vocab=vocabulary), dim(hidden=own))),
        ]
    made.groups = (*rows, Group("text", "head", (), joined))
    made.quantization, made.published = None, None
    return made


def hidden_of(inventory: Inventory) -> int:
    """Width of the residual stream. [elements]"""
    for group in _text_layers(inventory):
        for tensor in group.tensors:
            if tensor.role.endswith("norm") and len(tensor.shape) == 1:
                return int(tensor.shape[0])
    return 0
