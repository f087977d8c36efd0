"""Adapters (LoRA): their tensors lie beside the tensors that they change, and widen the graph.

Read off llama.cpp v0.5.0, src/llama-adapter.cpp (where, and what is refused) and src/llama-graph.cpp
(``build_lora_mm``). They are set after the first reservation; the graph is reserved again with them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from llmcalc.errors import ConfigError
from llmcalc.memory.engines.llamacpp.extras import Adapted, Extra, Shown
from llmcalc.model.dialects import gguf_name
from llmcalc.model.inventory import Tensor
from llmcalc.model.readers.stored import StoredTensor

if TYPE_CHECKING:
    from llmcalc.memory.engines.llamacpp.deployment import Deployment

SOURCE = "llama.cpp v0.5.0, src/llama-adapter.cpp"
REMEDY = "Give an adapter that convert_lora_to_gguf.py made for this model."
LEFT_ALONE = ("router", "shared_router", "conv", "router_scale")
"""Matrices of a layer that an adapter of all linear layers leaves alone, as it does experts."""

Pair = tuple[tuple[int, ...], tuple[int, ...], int, int]
"""Shapes of both parts, rows first, and their bytes. [elements], [B]"""

EMBEDDING = "token_embd.weight"


def pairs_of(tensors: Iterable[StoredTensor], path: str) -> dict[str, Pair]:
    """The two parts of each change in a file, by the name of the tensor that they change.

    Raises
    ------
    ConfigError
        For a tensor that is no part of an adapter, and a part without the other.
    """
    parts: dict[str, dict[str, StoredTensor]] = {}
    for tensor in tensors:
        name, _, kind = tensor.name.rpartition(".lora_")
        if kind in ("a", "b") and name:
            parts.setdefault(name, {})[kind] = tensor
        elif not tensor.name.endswith("_norm.weight"):  # these llama.cpp passes over
            raise ConfigError(f"--lora {path}: {tensor.name[:80]!r} is no part of an adapter.", REMEDY)
    for name, found in parts.items():
        if len(found) < 2:
            raise ConfigError(f"--lora {path}: {name[:80]!r} lacks one of its two parts.", REMEDY)
    if not parts:
        raise ConfigError(f"--lora {path} has no tensors of an adapter.", REMEDY)
    return {
        name: (found["a"].shape, found["b"].shape, found["a"].nbytes, found["b"].nbytes)
        for name, found in parts.items()
    }


def targets(deployment: Deployment) -> Iterator[tuple[str, tuple[int, str], Tensor]]:
    """The matrices of a model: GGUF name, layer and role, tensor."""
    for group in deployment.inventory.groups:
        for tensor in group.tensors:
            if tensor.tag not in deployment.inventory.loaded or tensor.part not in ("weight", ""):
                continue
            for layer in deployment.indices(group):
                name = gguf_name(group, tensor, layer if group.place == "layer" else None)
                if name is not None:
                    yield name, (layer, tensor.role), tensor


def ranked(deployment: Deployment, rank: int) -> dict[str, Pair]:
    """An adapter of all linear layers in fp16, experts and routers aside."""
    found: dict[str, Pair] = {}
    for name, (layer, role), tensor in targets(deployment):
        inside = 0 <= layer < len(deployment.layers) and len(tensor.shape) == 2
        if inside and min(tensor.shape) > 1 and role not in LEFT_ALONE and "norm" not in role:
            rows, columns = tensor.shape
            found[name] = ((rank, columns), (rows, rank), 2 * rank * columns, 2 * rows * rank)
    return found


class Adapter(Extra):
    """One adapter or several, all of them applied.

    Parameters
    ----------
    files : sequence of (str, dict)
        Path and parts of each.
    ranks : sequence of int
        Ranks of those that are no file. [-]
    """

    def __init__(self, files: Sequence[tuple[str, dict[str, Pair]]], ranks: Sequence[int]) -> None:
        super().__init__()
        self.files, self.ranks = files, ranks
        self._last: tuple[Deployment | None, list[int]] = (None, [])
        many = len(files) + len(ranks)
        note = f"{many} adapter{'s' if many > 1 else ''}, each beside what it changes"
        inputs = {"rank": ranks[0]} if len(ranks) == 1 else {"adapters": many}
        self.shown["lora"] = Shown(
            "its tensors", SOURCE, note, "derived" if ranks else "exact", inputs=inputs
        )  # fmt: skip
        if ranks:
            self.warnings.append(
                "An adapter by its rank changes all linear layers but experts and routers, in fp16 (assumed)."
            )

    def _changes(self, deployment: Deployment) -> Iterator[tuple[tuple[int, str], int, Pair]]:
        """Each change: layer and role, rank, parts; checked against the model."""
        known = {name: (key, tensor) for name, key, tensor in targets(deployment)}
        for path, pairs in self.files:
            for name, pair in pairs.items():
                if name not in known:
                    raise ConfigError(
                        f"--lora {path}: {deployment.inventory.name} has no tensor {name[:80]!r}.", REMEDY
                    )
                key, tensor = known[name]
                yield key, _rank(path, name, pair, tensor), pair
        for rank in self.ranks:
            for name, pair in ranked(deployment, rank).items():
                yield known[name][0], rank, pair

    def adapts(self, deployment: Deployment) -> Iterable[Adapted]:
        """The weights that are changed."""
        return [(key, rank, pair[2:]) for key, rank, pair in self._changes(deployment)]

    def amounts(
        self, deployment: Deployment, context: int, slots: int, exact: bool
    ) -> dict[str, list[int]]:  # fmt: skip
        """Its tensors, each beside the one it changes."""
        if self._last[0] is deployment:
            return {"lora": self._last[1]}
        found = [0] * deployment.places
        for (layer, role), _, pair in self._changes(deployment):
            place = deployment.place_of(layer, role)
            found[place] += sum(deployment.padded(size, place) for size in pair[2:])
        self._last = deployment, found
        return {"lora": found}


def _rank(path: str, name: str, pair: Pair, tensor: Tensor) -> int:
    """The rank of a change, if its parts fit the tensor."""
    a, b = pair[:2]
    rows, columns = tensor.shape[-2:] if len(tensor.shape) > 1 else (0, 0)
    if len(a) > 1 and len(b) > 1:
        if name == EMBEDDING and (b[-2], a[-2]) == (columns, rows):
            return a[-1]
        if name != EMBEDDING and (a[-1], b[-2]) == (columns, rows) and a[-2] == b[-1]:
            return a[-2]
    raise ConfigError(
        f"--lora {path}: the parts of {name[:80]!r} are {_shown(a)} and {_shown(b)}; the model's is "
        f"{_shown(tensor.shape)}.",
        REMEDY,
    )


def _shown(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))
