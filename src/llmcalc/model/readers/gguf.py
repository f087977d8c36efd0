"""Headers of GGUF files, versions 2 and 3, single and split. No weight is read, no vocabulary decoded.

Layout after the GGUF specification of ggml: magic, version, counts, key-value pairs, tensor
descriptions, then data at offsets from an aligned start.
"""

from __future__ import annotations

import mmap
import os
import re
import stat
import struct
from collections.abc import Callable
from typing import Any

from llmcalc.catalog import Catalog
from llmcalc.errors import ConfigError
from llmcalc.model.readers.stored import StoredTensor

REMEDY = "Is the download complete? Give the model's config.json instead."
SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
STRING, ARRAY = 8, 9
MOST_STRINGS = 4_000_000
"""Strings in arrays that are walked in one file; the largest vocabularies have some 260,000. [-]"""

MOST_PAIRS, MOST_TENSORS = 20_000, 200_000
"""Far above what any model has, and read at once. [-]"""

KEPT_VALUES = 4096
"""Longest array of numbers, and longest text, that is kept: per-layer lists, not vocabularies. [-]"""

MAX_DIMS = 4
MAX_NUMEL = 1 << 62
SMALLEST_TENSOR, SMALLEST_PAIR = 24, 13
"""Bytes that a tensor's description and a pair take at least. [B]"""


class Header:
    """What a GGUF file says of itself.

    Attributes
    ----------
    metadata : dict
        Scalars, texts and short lists by key.
    tensors : list of StoredTensor
        With shapes in the usual order (GGUF stores them reversed).
    """

    __slots__ = ("metadata", "tensors")

    def __init__(self) -> None:
        self.metadata: dict[str, Any] = {}
        self.tensors: list[StoredTensor] = []

    def get(self, key: str, default: Any = None) -> Any:
        """A value under the architecture's own prefix."""
        return self.metadata.get(f"{self.architecture}.{key}", default)

    @property
    def architecture(self) -> str:
        """llama.cpp's name of the architecture."""
        return str(self.metadata.get("general.architecture", ""))


class _Cursor:
    """A position in a file that never leaves it."""

    __slots__ = ("at", "data", "path", "size", "strings")

    def __init__(self, data: Any, path: str) -> None:
        self.data, self.path, self.size, self.at = data, path, len(data), 0
        self.strings = MOST_STRINGS

    def cut(self) -> ConfigError:
        return ConfigError(f"{self.path} ends within its header ({self.size:,} bytes).", REMEDY)

    def scalar(self, code: str) -> Any:
        width = struct.calcsize("<" + code)
        if self.at + width > self.size:
            raise self.cut()
        value = struct.unpack_from("<" + code, self.data, self.at)[0]
        self.at += width
        return value

    def text(self, keep: int = KEPT_VALUES) -> str:
        length = self.scalar("Q")
        if length > self.size - self.at:
            raise self.cut()
        start = self.at
        self.at += length
        return bytes(self.data[start : start + min(length, keep)]).decode("utf-8", "replace")

    def value(self, kind: int) -> Any:
        if kind in SCALARS:
            return self.scalar(SCALARS[kind])
        if kind == STRING:
            return self.text()
        if kind == ARRAY:
            return self._array()
        raise ConfigError(f"{self.path}: unknown value type {kind} in the metadata.", REMEDY)

    def _array(self) -> Any:
        kind, count = self.scalar("I"), self.scalar("Q")
        if kind == STRING:
            return self._skip_strings(count)
        if kind not in SCALARS:
            raise ConfigError(f"{self.path}: an array of type {kind}, which no model uses.", REMEDY)
        width = struct.calcsize("<" + SCALARS[kind])
        if count > (self.size - self.at) // width:
            raise self.cut()
        start = self.at
        self.at += count * width
        if count > KEPT_VALUES:
            return None
        return list(struct.unpack_from(f"<{count}{SCALARS[kind]}", self.data, start))

    def _skip_strings(self, count: int) -> None:
        """Step over the vocabulary by its lengths alone."""
        if count > (self.size - self.at) // 8 or count > self.strings:
            raise ConfigError(f"{self.path}: an array of {count:,} strings.", REMEDY)
        self.strings -= count
        at, size, data, unpack = self.at, self.size, self.data, struct.Struct("<Q").unpack_from
        for _ in range(count):
            if at + 8 > size:
                raise self.cut()
            at += 8 + unpack(data, at)[0]
        if at > size:
            raise self.cut()
        self.at = at


def read_header(path: str, catalog: Catalog) -> Header:
    """Read a GGUF file, with the other parts of a split one.

    Raises
    ------
    ConfigError
        If it is no GGUF, is cut, of an unknown version or type, or contradicts itself.
    """
    header = _read_one(path, catalog)
    count = header.metadata.get("split.count", 1)
    parts = _split_paths(path, count if isinstance(count, int) else 1)
    names = {tensor.name for tensor in header.tensors}
    for part in parts:
        for tensor in _read_one(part, catalog).tensors:
            if tensor.name in names:
                raise ConfigError(f"{part}: {tensor.name[:80]!r} stands in two parts.", REMEDY)
            names.add(tensor.name)
            header.tensors.append(tensor)
    return header


def _split_paths(path: str, count: int) -> list[str]:
    """The other files of a split model."""
    if count <= 1:
        return []
    match = re.search(r"-(\d{5})-of-(\d{5})\.gguf$", path)
    if match is None or int(match.group(2)) != count or count > 1000:
        raise ConfigError(
            f"{path} is one of {count} parts, but not named so.", "Name it ...-00001-of-0000N.gguf."
        )
    if match.group(1) != "00001":
        raise ConfigError(f"{path} is not the first part.", "Give the one that ends in -00001-of-....gguf.")
    stem = path[: match.start()]
    others = [f"{stem}-{number:05d}-of-{count:05d}.gguf" for number in range(2, count + 1)]
    missing = [os.path.basename(other) for other in others if not os.path.isfile(other)]
    if missing:
        raise ConfigError(f"{path} lacks its other parts: {', '.join(missing[:3])}.", "Put them beside it.")
    return others


def _read_one(path: str, catalog: Catalog) -> Header:
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise ConfigError(f"{path} is not a regular file.", "Give a GGUF file.")
        with open(path, "rb") as stream:
            if os.fstat(stream.fileno()).st_size < SMALLEST_TENSOR:
                raise ConfigError(f"{path} is too short for a GGUF file.", REMEDY)
            with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
                return _parse(_Cursor(data, path), catalog)
    except OSError as error:
        raise ConfigError(f"{path} can't be read: {error.strerror}.", "Check the path.") from None


def _parse(cursor: _Cursor, catalog: Catalog) -> Header:
    path, header = cursor.path, Header()
    if bytes(cursor.data[:4]) != b"GGUF":
        raise ConfigError(f"{path} is not a GGUF file.", REMEDY)
    cursor.at = 4
    version = cursor.scalar("I")
    if version not in (2, 3):
        swapped = int.from_bytes(version.to_bytes(4, "little"), "big") in (2, 3)
        what = "is byte-swapped (big endian)" if swapped else f"is of version {version}"
        raise ConfigError(
            f"{path} {what}; versions 2 and 3 are read.", "Convert it with a current llama.cpp."
        )
    tensors, pairs = cursor.scalar("Q"), cursor.scalar("Q")
    room = cursor.size - cursor.at
    if tensors > room // SMALLEST_TENSOR or pairs > room // SMALLEST_PAIR:
        raise ConfigError(f"{path} claims {tensors:,} tensors and {pairs:,} keys in {room:,} bytes.", REMEDY)
    if tensors > MOST_TENSORS or pairs > MOST_PAIRS:
        raise ConfigError(f"{path} claims {tensors:,} tensors and {pairs:,} keys.", REMEDY)
    for _ in range(pairs):
        key = cursor.text()
        if not key or key in header.metadata:
            what = f"{key[:80]!r} stands twice" if key else "a key has no name"
            raise ConfigError(f"{path}: {what} in the metadata.", REMEDY)
        header.metadata[key] = cursor.value(cursor.scalar("I"))
    placed = _tensors(cursor, tensors, _types(catalog))
    alignment = header.metadata.get("general.alignment", 32)
    if not isinstance(alignment, int) or not 1 <= alignment <= 1 << 20:
        raise ConfigError(f"{path}: general.alignment is {alignment!r}.", REMEDY)
    start = -(-cursor.at // alignment) * alignment
    end = 0
    for offset, tensor in sorted(placed, key=lambda pair: pair[0]):
        if offset < end:
            raise ConfigError(f"{path}: {tensor.name[:80]!r} overlaps another tensor.", REMEDY)
        end = offset + tensor.nbytes
    if start + end > cursor.size:
        over = start + end - cursor.size
        raise ConfigError(f"{path}: its tensors end {over:,} bytes behind the file; it is cut.", REMEDY)
    header.tensors = [tensor for _, tensor in placed]
    return header


def _types(catalog: Catalog) -> Callable[[int], tuple[str, int, int] | None]:
    """Look a ggml type up by its number: name, elements and bytes of a block."""
    known: dict[int, tuple[str, int, int] | None] = {}

    def find(number: int) -> tuple[str, int, int] | None:
        if number not in known:
            entry = catalog.lookup("formats", f"ggml-{number}")
            known[number] = None
            if entry is not None:
                known[number] = str(entry["name"]), int(entry["elements"]), int(entry["bytes"])
        return known[number]

    return find


def _tensors(
    cursor: _Cursor, count: int, types: Callable[[int], tuple[str, int, int] | None]
) -> list[tuple[int, StoredTensor]]:
    """Descriptions of all tensors, each with its offset."""
    found: dict[str, tuple[int, StoredTensor]] = {}
    for _ in range(count):
        name = cursor.text()
        shown = f"{cursor.path}: {name[:80]!r}"
        dims = cursor.scalar("I")
        if not 0 <= dims <= MAX_DIMS:
            raise ConfigError(f"{shown} has {dims} dimensions.", REMEDY)
        shape = [cursor.scalar("Q") for _ in range(dims)]
        number, offset = cursor.scalar("I"), cursor.scalar("Q")
        kind = types(number)
        if kind is None:
            raise ConfigError(f"{shown} has the unknown type {number}.", "Is llmcalc older than the file?")
        numel = 1
        for length in shape:
            numel *= length
            if numel > MAX_NUMEL:
                raise ConfigError(f"{shown} has a shape that overflows 64 bits.", REMEDY)
        dtype, elements, nbytes = kind
        if shape and shape[0] % elements:
            raise ConfigError(f"{shown} has rows of {shape[0]}, no multiple of {elements} ({dtype}).", REMEDY)
        if name in found:
            raise ConfigError(f"{shown} stands twice.", REMEDY)
        found[name] = offset, StoredTensor(name, dtype, tuple(reversed(shape)), numel // elements * nbytes)
    return list(found.values())
