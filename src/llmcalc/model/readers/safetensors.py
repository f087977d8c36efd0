"""Headers of safetensors files: one file, a sharded index, a folder. No weight is read.

A file starts with the length of its header (8 bytes, little endian) and the header, a JSON object of
name to dtype, shape and offsets (format description of the safetensors project, version 0.4).
"""

from __future__ import annotations

import os
import stat
from typing import Any

from llmcalc.errors import ConfigError
from llmcalc.model.readers.stored import StoredTensor

MAX_HEADER = 100_000_000
"""The format's own limit. [B]"""

MAX_INDEX = 256 << 20
MAX_BYTES = 1 << 62
MAX_DIMS = 32
MOST_TENSORS = 1_000_000
SLACK = 100_000
"""Marks of JSON that a header may have beyond those of its tensors: metadata, names. [-]"""

DTYPES = {
    "F64": ("fp64", 8), "F32": ("fp32", 4), "F16": ("fp16", 2), "BF16": ("bf16", 2), "C64": ("complex64", 8),
    "F8_E4M3": ("fp8", 1), "F8_E5M2": ("fp8", 1), "F8_E4M3FNUZ": ("fp8", 1), "F8_E5M2FNUZ": ("fp8", 1),
    "F8_E8M0": ("e8m0", 1), "I64": ("int64", 8), "I32": ("int32", 4), "I16": ("int16", 2), "I8": ("int8", 1),
    "U64": ("int64", 8), "U32": ("int32", 4), "U16": ("int16", 2), "U8": ("uint8", 1), "BOOL": ("bool", 1),
}  # fmt: skip
REMEDY = "Is the download complete? Give the model's config.json instead."


def read_header(path: str) -> list[StoredTensor]:
    """Read the header of one file.

    Parameters
    ----------
    path : str
        A ``*.safetensors`` file.

    Returns
    -------
    list of StoredTensor
        In the order of their offsets.

    Raises
    ------
    ConfigError
        If the header is missing, cut, or contradicts itself or the file.
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise ConfigError(f"{path} is not a regular file.", "Give a safetensors file.")
        with open(path, "rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            head = stream.read(8)
            if len(head) < 8:
                raise ConfigError(f"{path} is too short for a safetensors file ({size} bytes).", REMEDY)
            length = int.from_bytes(head, "little")
            if length > MAX_HEADER or length > size - 8:
                raise ConfigError(
                    f"{path}: its header would be {length:,} bytes, of a file of {size:,}; "
                    "this is no safetensors file, or it is cut.",
                    REMEDY,
                )
            text = stream.read(length)
    except OSError as error:
        raise ConfigError(f"{path} can't be read: {error.strerror}.", "Check the path.") from None
    return _tensors(_object(text, path), path, size - 8 - length)


def _object(data: bytes, path: str) -> dict[str, Any]:
    import json

    tensors = data.count(b'"data_offsets"')
    # Parsing takes twenty times the memory of the text, so a header of something else is not parsed.
    if (
        tensors > MOST_TENSORS
        or data.count(b"{") > 2 * tensors + SLACK
        or data.count(b"[") > 3 * tensors + SLACK
    ):
        raise ConfigError(f"{path}: its header does not describe tensors.", REMEDY)
    try:
        value = json.loads(data)
        # Duplicate keys show in the count; looking for them in every object would cost more than parsing.
        if isinstance(value, dict) and tensors != len(value) - ("__metadata__" in value):
            json.loads(data, object_pairs_hook=_unique)
    except _TwiceError as error:
        raise ConfigError(f"{path}: its header names {str(error)!r} twice.", REMEDY) from None
    except (ValueError, RecursionError):
        raise ConfigError(f"{path}: its header is not valid JSON.", REMEDY) from None
    if not isinstance(value, dict):
        raise ConfigError(f"{path}: its header is not a JSON object.", REMEDY)
    return value


class _TwiceError(Exception):
    """A name that stands twice."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise _TwiceError(name[:80])
            seen.add(name)
    return found


def _tensors(header: dict[str, Any], path: str, room: int) -> list[StoredTensor]:
    """Check every entry against its own shape and the file's length."""
    placed = []
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        try:
            dtype, width = DTYPES[entry["dtype"]]
            shape = entry["shape"]
            start, stop = entry["data_offsets"]
            nbytes = width
            if len(shape) > MAX_DIMS:
                raise ValueError
            for length in shape:
                if not _is_length(length):
                    raise ValueError
                nbytes *= length
        except (TypeError, KeyError, ValueError):
            raise _strange(name, entry, path) from None
        if type(start) is not int or type(stop) is not int or start < 0 or stop < start:
            raise _strange(name, entry, path)
        if nbytes > MAX_BYTES:
            raise ConfigError(f"{path}: the shape of {name[:80]!r} overflows 64 bits.", REMEDY)
        if stop - start != nbytes:
            raise ConfigError(
                f"{path}: {name[:80]!r} has {stop - start:,} bytes for a shape of {nbytes:,}.", REMEDY
            )
        placed.append((start, stop, StoredTensor(name, dtype, tuple(shape), nbytes)))
    placed.sort(key=_span)
    end = 0
    for start, stop, tensor in placed:
        if start < end:
            raise ConfigError(f"{path}: {tensor.name[:80]!r} overlaps another tensor.", REMEDY)
        end = stop
    if end > room:
        raise ConfigError(f"{path}: its tensors end {end - room:,} bytes behind the file; it is cut.", REMEDY)
    return [tensor for _, _, tensor in placed]


def _span(placed: tuple[int, int, StoredTensor]) -> tuple[int, int]:
    return placed[0], placed[1]


def _is_length(value: Any) -> bool:
    return type(value) is int and 0 <= value <= MAX_BYTES


def _strange(name: str, entry: Any, path: str) -> ConfigError:
    """What is wrong with an entry that can't be read."""
    shown = f"{path}: {name[:80]!r}"
    if not isinstance(entry, dict):
        return ConfigError(f"{shown} is not described by an object.", REMEDY)
    dtype, shape = entry.get("dtype"), entry.get("shape")
    if not isinstance(dtype, str) or dtype not in DTYPES:
        return ConfigError(f"{shown} has the unknown dtype {str(dtype)[:40]!r}.", REMEDY)
    if not isinstance(shape, list) or len(shape) > MAX_DIMS or not all(_is_length(n) for n in shape):
        return ConfigError(f"{shown} has no valid shape.", REMEDY)
    return ConfigError(f"{shown} has no valid offsets.", REMEDY)


def read_index(path: str) -> list[StoredTensor]:
    """Read all shards that an index names.

    Raises
    ------
    ConfigError
        If the index is no index, points outside its folder, or names missing shards or tensors.
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode) or os.path.getsize(path) > MAX_INDEX:
            raise ConfigError(f"{path} is not a safetensors index.", "Give model.safetensors.index.json.")
        with open(path, "rb") as stream:
            index = _object(stream.read(), path)
    except OSError as error:
        raise ConfigError(f"{path} can't be read: {error.strerror}.", "Check the path.") from None
    mapping = index.get("weight_map")
    if not isinstance(mapping, dict) or not all(isinstance(file, str) for file in mapping.values()):
        raise ConfigError(f"{path} has no weight_map.", "Give model.safetensors.index.json.")
    folder = os.path.dirname(os.path.abspath(path))
    found: dict[str, StoredTensor] = {}
    files = sorted(set(mapping.values()))
    for file in files:
        if {"/", "\\", "\0"} & set(file) or file in ("", ".", ".."):
            raise ConfigError(
                f"{path} points outside its folder: {file[:80]!r}.", "Use the index as published."
            )
    missing = [file for file in files if not os.path.isfile(os.path.join(folder, file))]
    if missing:
        told = ", ".join(missing[:3]) + (f" and {len(missing) - 3} more" if len(missing) > 3 else "")
        raise ConfigError(
            f"{path} names shards that are not there: {told}.", "Put them beside it, or give the config.json."
        )
    for file in files:
        for tensor in read_header(os.path.join(folder, file)):
            if tensor.name in found:
                raise ConfigError(f"{path}: {tensor.name[:80]!r} stands in two shards.", REMEDY)
            found[tensor.name] = tensor
    absent = [name for name in mapping if name not in found]
    if absent:
        raise ConfigError(f"{path} names tensors that no shard has: {', '.join(absent[:3])}.", REMEDY)
    return list(found.values())


def files_in(folder: str) -> tuple[str, ...]:
    """The index of a folder, else its safetensors files; empty if there are none."""
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return ()
    indices = [name for name in names if name.endswith(".safetensors.index.json")]
    if indices:
        return (os.path.join(folder, indices[0]),)
    return tuple(os.path.join(folder, name) for name in names if name.endswith(".safetensors"))


def read_files(paths: tuple[str, ...]) -> list[StoredTensor]:
    """Read an index, or one or several files whose names are disjoint."""
    found: dict[str, StoredTensor] = {}
    for path in paths:
        read = read_index(path) if path.endswith(".json") else read_header(path)
        for tensor in read:
            if tensor.name in found:
                raise ConfigError(f"{path}: {tensor.name[:80]!r} stands in another file too.", REMEDY)
            found[tensor.name] = tensor
    return list(found.values())
