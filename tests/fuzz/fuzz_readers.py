"""Coverage-guided fuzzing of the readers of weight files and configurations.

    pip install atheris
    python tests/fuzz/fuzz_readers.py corpus/ -max_total_time=3600

Each input's first byte picks the reader; whatever follows is the file. An input must end in an
inventory or in an `LlmcalcError` with a remedy, within two seconds.
"""

from __future__ import annotations

import json
import os
import struct
import sys
import tempfile

import atheris

with atheris.instrument_imports(include=["llmcalc"]):
    from llmcalc.catalog import Catalog
    from llmcalc.errors import LlmcalcError
    from llmcalc.model.readers import gguf, gguf_model, read, safetensors, stored, weights  # noqa: F401
    from llmcalc.model.readers.config import read_path

CATALOG = Catalog.shipped()
FOLDER = tempfile.mkdtemp()
SUFFIXES = (".gguf", ".safetensors", ".json", ".safetensors.index.json")


def seeds(folder: str) -> None:
    """Small valid files to start from."""
    os.makedirs(folder, exist_ok=True)
    head = json.dumps({"a.weight": {"dtype": "BF16", "shape": [2, 2], "data_offsets": [0, 8]}}).encode()
    key, value = b"general.architecture", b"llama"
    pair = struct.pack("<Q", len(key)) + key + struct.pack("<IQ", 8, len(value)) + value
    tensor = struct.pack("<Q", 1) + b"t" + struct.pack("<IQIQ", 1, 4, 0, 0)
    files = [
        b"GGUF" + struct.pack("<IQQ", 3, 1, 1) + pair + tensor + bytes(64),
        struct.pack("<Q", len(head)) + head + bytes(8),
        *(json.dumps(entry["config"]).encode() for entry in CATALOG.entries("models")[::12]),
        json.dumps({"weight_map": {"a": "x.safetensors"}}).encode(),
    ]
    for number, data in enumerate(files):
        kind = 0 if data[:4] == b"GGUF" else 1 if number == 1 else 3 if b"weight_map" in data else 2
        with open(os.path.join(folder, f"seed{number}"), "wb") as stream:
            stream.write(bytes([kind]) + data)


def one_input(data: bytes) -> None:
    """Run one input through the reader that its first byte picks."""
    if not data:
        return
    path = os.path.join(FOLDER, "input" + SUFFIXES[data[0] % len(SUFFIXES)])
    with open(path, "wb") as stream:
        stream.write(data[1:])
    try:
        inventory = read_path(path, CATALOG) if path.endswith("input.json") else read(path, CATALOG)
        sound = inventory.params >= 0
    except LlmcalcError as error:
        sound = bool(error.remedy)
    assert sound


def main() -> None:
    folders = [word for word in sys.argv[1:] if not word.startswith("-")]
    if folders:
        seeds(folders[0])
    atheris.Setup([*sys.argv, "-timeout=2", "-max_len=20000"], one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
