"""What llama.cpp is asked to load beside a model: files and names turned into what takes memory."""

from __future__ import annotations

import os
from typing import Any

from llmcalc.catalog import Catalog
from llmcalc.errors import ConfigError, InputError
from llmcalc.memory.engines.llamacpp.adapters import Adapter, Pair, pairs_of
from llmcalc.memory.engines.llamacpp.extras import Extra
from llmcalc.memory.engines.llamacpp.projector import (
    MAIN,
    Projector,
    patch_bytes,
    projector_bytes,
    tower_in,
    tower_of,
)
from llmcalc.model.inventory import Inventory
from llmcalc.scenario import Scenario
from llmcalc.units import parse_integer


def extras_of(inventory: Inventory, scenario: Scenario, book: Catalog) -> list[Extra]:
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
