"""Headers: CPU of reading large files, in this process.

    python benchmarks/headers.py

A GGUF header of 671 B parameters (1,086 tensors, 129,280 words and as many merges) under 100 ms, an
index of 100,000 tensors under 500 ms, a config.json under 5 ms.
"""

from __future__ import annotations

import gc
import json
import struct
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import llmcalc
from llmcalc.catalog import Catalog


def best(function: Callable[[], object], runs: int = 5) -> float:
    """Least CPU of some runs. [ms]"""
    least = float("inf")
    for _ in range(runs):
        start = time.process_time()
        function()
        least = min(least, time.process_time() - start)
    return least * 1000


def text(word: str) -> bytes:
    data = word.encode()
    return struct.pack("<Q", len(data)) + data


def write_gguf(path: Path) -> None:
    words = b"".join(text(f"token{n}") for n in range(129_280))
    pairs = [
        text("general.architecture") + struct.pack("<I", 8) + text("deepseek2"),
        text("deepseek2.block_count") + struct.pack("<II", 4, 61),
        text("tokenizer.ggml.tokens") + struct.pack("<IIQ", 9, 8, 129_280) + words,
        text("tokenizer.ggml.merges") + struct.pack("<IIQ", 9, 8, 129_280) + words,
        text("tokenizer.ggml.token_type") + struct.pack("<IIQ", 9, 5, 129_280) + bytes(4 * 129_280),
    ]
    head = b"GGUF" + struct.pack("<IQQ", 3, 1086, len(pairs)) + b"".join(pairs)
    at = 0
    for number in range(1086):
        head += text(f"blk.{number // 18}.tensor{number % 18}.weight")
        head += struct.pack("<IQQIQ", 2, 7168, 86_000, 12, at)
        at += 7168 * 86_000 // 256 * 144
    with path.open("wb") as stream:
        stream.write(head)
        stream.truncate(-(-len(head) // 32) * 32 + at)


def write_index(folder: Path, tensors: int, shards: int) -> Path:
    mapping: dict[str, str] = {}
    for shard in range(shards):
        file = f"model-{shard + 1:05d}-of-{shards:05d}.safetensors"
        entries, at = {}, 0
        for number in range(shard, tensors, shards):
            name = f"model.layers.{number % 61}.mlp.experts.{number // 61}.up_proj.weight"
            entries[name] = {"dtype": "BF16", "shape": [64, 32], "data_offsets": [at, at + 4096]}
            mapping[name] = file
            at += 4096
        head = json.dumps(entries).encode()
        with (folder / file).open("wb") as stream:
            stream.write(struct.pack("<Q", len(head)) + head)
            stream.truncate(8 + len(head) + at)
    path = folder / "model.safetensors.index.json"
    path.write_text(json.dumps({"weight_map": mapping}))
    return path


def main() -> int:
    gc.disable()  # as the command line does
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_gguf(folder / "large.gguf")
        index = write_index(folder, 100_000, 100)
        config = folder / "only" / "config.json"
        config.parent.mkdir()
        entry = Catalog.shipped().lookup("models", "deepseek-v3")
        config.write_text(json.dumps(entry["config"] if entry else {}))
        cases = {
            "GGUF header of 671 B": (100.0, lambda: llmcalc.model(str(folder / "large.gguf"))),
            "index of 100,000 tensors": (500.0, lambda: llmcalc.model(str(index))),
            "config.json": (5.0, lambda: llmcalc.model(str(config))),
        }
        broken = 0
        for label, (bound, function) in cases.items():
            took = best(function)
            broken += took > bound
            print(f"{took:7.1f} ms  (bound {bound:g})  {label}")
    return int(broken > 0)


if __name__ == "__main__":
    sys.exit(main())
