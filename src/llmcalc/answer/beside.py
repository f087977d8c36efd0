"""What llama.cpp is asked to load beside a model: files and names turned into what takes memory."""

from __future__ import annotations

import copy
import os
from typing import Any

from llmcalc.answer.common import precision_of
from llmcalc.catalog import Catalog
from llmcalc.engine_options.llama import is_prediction
from llmcalc.errors import ConfigError, InputError
from llmcalc.estimate import worst_grade
from llmcalc.formula import is_array
from llmcalc.memory.engines.llamacpp.adapters import Adapter, Pair, pairs_of
from llmcalc.memory.engines.llamacpp.deployment import Deployment
from llmcalc.memory.engines.llamacpp.drafts import (
    MOST_APART,
    ROLLS_BACK,
    WRITTEN,
    Draft,
    Prediction,
    is_recurrent,
    vocabulary_of,
)
from llmcalc.memory.engines.llamacpp.extras import Extra
from llmcalc.memory.engines.llamacpp.projector import (
    MAIN,
    Projector,
    patch_bytes,
    projector_bytes,
    tower_in,
    tower_of,
)
from llmcalc.memory.engines.llamacpp.repack import Repacked
from llmcalc.memory.workload import Precision
from llmcalc.model.inventory import Inventory
from llmcalc.precision import find_format
from llmcalc.scenario import Scenario, resolve
from llmcalc.units import parse_integer


class Built:
    """The model as it is deployed: its file, formats, devices, and their backend."""

    __slots__ = ("backend", "devices", "precision", "stored")

    def __init__(self, stored: Inventory, precision: Precision, devices: int, backend: str) -> None:
        self.stored, self.precision, self.devices, self.backend = stored, precision, devices, backend


def extras_of(inventory: Inventory, built: Built, scenario: Scenario, book: Catalog) -> list[Extra]:
    """All that is loaded beside a model.

    Raises
    ------
    InputError, ConfigError
        For files that are not what they should be, and models without the part that is asked for.
    """
    options = scenario.options
    found: list[Extra] = []
    if options.mmproj is not None:
        found.append(_projector(inventory, options, book))
    if options.lora:
        found.append(_adapter(options.lora, book))
    if is_prediction(options.draft):
        found.append(_prediction(inventory, built, options, book))
    elif options.draft is not None:
        found.append(_draft(inventory, built, scenario, book))
    if options.repack not in (None, "off"):
        found.append(Repacked(options.repack, built.devices, built.backend))
    return found


def header_of(path: str, option: str, kind: str, book: Catalog) -> Any:
    """The header of a GGUF file that an option names, and that must be of a kind.

    Raises
    ------
    InputError, ConfigError
        If there is no such file, it is no GGUF, or a GGUF of another kind.
    """
    from llmcalc.model.readers.gguf import read_header

    if not os.path.exists(path):
        raise InputError(f"{option} {path[:200]!r} does not exist.", f"Give {option} a GGUF file.")
    header = read_header(path, book)
    own = str(header.metadata.get("general.type", "model"))
    if kind == "mmproj":  # older converters wrote no type, but this architecture
        own = "mmproj" if header.architecture == "clip" else own
    if own != kind:
        raise ConfigError(
            f"{option} {path}: the file is a GGUF of type {own[:40]!r}, not {kind!r}.",
            f"Give {option} a file that llama.cpp's converter made as {kind}.",
        )
    return header


def _adapter(words: list[str], book: Catalog) -> Adapter:
    """Adapters: files, and ranks of such as are no files yet."""
    files: list[tuple[str, dict[str, Pair]]] = []
    ranks = []
    for word in words:
        mark, _, number = word.partition("=")
        if mark.strip().lower() == "r" and number:
            ranks.append(parse_integer(number, "--lora r", 65_536))
            continue
        header = header_of(word, "--lora", "adapter", book)
        kind = str(header.metadata.get("adapter.type", ""))
        if kind != "lora":
            raise ConfigError(f"--lora {word} is an adapter of type {kind[:40]!r}.", "Give a LoRA adapter.")
        files.append((word, pairs_of(header.tensors, word)))
    return Adapter(files, ranks)


def _projector(inventory: Inventory, options: Any, book: Catalog) -> Projector:
    """The projector: a file's, or the model's towers as the converter writes them."""
    if options.mmproj != "on":
        header = header_of(options.mmproj, "--mmproj", "mmproj", book)
        sizes = [tensor.nbytes for tensor in header.tensors]
        name = os.path.basename(options.mmproj)
        made = Projector(sizes, tower_in(header.metadata), options.mmproj_offload, "exact", name)
    else:
        if not projector_bytes(inventory):
            is_file = inventory.source == "gguf"
            raise InputError(
                f"{inventory.name} has no vision or audio tower{' in this file' if is_file else ''}.",
                "Give the projector's own file: --mmproj FILE." if is_file else "Leave --mmproj out.",
            )
        tensors = [
            (tensor, group.count)
            for group in inventory.groups
            if group.component not in MAIN
            for tensor in group.tensors
            if tensor.tag == "main"
        ]
        sizes = [
            tensor.numel * (2 if len(tensor.shape) > 1 and tensor.role != "position" else 4)
            for tensor, count in tensors
            for _ in range(count)
        ]
        made = Projector(
            sizes, tower_of(inventory), options.mmproj_offload, "derived",
            "vision and audio towers, mmproj in fp16", patch_bytes(inventory),
        )  # fmt: skip
    made.warnings.append(
        "The projector's buffer is that of llama.cpp's warm-up; larger images, and sound, may take more."
    )
    return made


def _draft(inventory: Inventory, built: Built, scenario: Scenario, book: Catalog) -> Draft:
    """A draft model on the same devices, in the file type asked for."""
    from llmcalc.answer.llamacpp import as_file
    from llmcalc.model.readers import read
    from llmcalc.precision import stored_as_declared

    options = scenario.options
    model = stored_as_declared(read(options.draft, book), book)
    own = resolve(model, book, {"engine": "llama.cpp", "quant": options.draft_quant})
    if model.is_opaque or model.family == "header":
        raise InputError(
            f"--draft {model.name} tells no layers.", "Name a model, a config.json or a whole GGUF file."
        )
    if inventory.is_opaque is False and not any(group.caches for group in model.groups):
        raise InputError(f"--draft {model.name} has no decoder.", "Name a smaller model of the same family.")
    theirs, ours = vocabulary_of(model), vocabulary_of(inventory)
    if abs(theirs - ours) > MOST_APART:
        raise InputError(
            f"--draft {model.name} has {theirs:,} tokens, {inventory.name} {ours:,}: llama.cpp refuses "
            f"a draft that differs by more than {MOST_APART}.",
            "Name a smaller model with the same tokenizer, usually of the same family.",
        )
    stored = as_file(model, own, book)
    precision = precision_of(stored, own, book)
    drafting = copy.copy(options)
    drafting.gpu_layers, drafting.n_cpu_moe, drafting.overrides = None, 0, []
    deployment = Deployment(stored, precision, drafting, built.devices, built.backend)
    made = Draft(deployment, options.draft_max, worst_grade([precision.grade, stored.grade]))
    if is_recurrent(built.stored):
        made.warnings.append(
            "A draft model keeps no snapshots of recurrent states: llama-server keeps checkpoints on the "
            "host instead, which are not counted."
        )
    context = scenario.context
    if model.context and not is_array(context) and context > model.context:
        made.warnings.append(
            f"The draft {model.name} was made for {model.context:,} tokens; llama.cpp gives it "
            f"{context:,} all the same."
        )
    return made


def _prediction(inventory: Inventory, built: Built, options: Any, book: Catalog) -> Prediction:
    """The model's own prediction layers, where its file has them."""
    groups = [group for group in built.stored.groups if group.component == "mtp"]
    if not groups:
        has_some = any(group.component == "mtp" for group in inventory.groups)
        why = "llama.cpp's converter leaves its prediction layers out" if has_some else "it has none"
        raise InputError(
            f"--draft mtp needs prediction layers of {inventory.name}: {why}.",
            "Name a draft model: --draft MODEL.",
        )
    precision = copy.copy(built.precision)
    precision.key = precision.value = find_format("fp16", book, "kv", "--draft")
    family = built.stored.family
    rolls_back = family in ROLLS_BACK and is_recurrent(built.stored)
    grade = worst_grade([precision.grade, built.stored.grade])
    made = Prediction(precision, groups, options.draft_max, grade, rolls_back, family in WRITTEN)
    if made.snapshots:
        made.warnings.append(
            f"Drafting keeps {made.snapshots} snapshots of recurrent states beside each slot's own "
            "(--draft-max): `state` counts them."
        )
    return made
