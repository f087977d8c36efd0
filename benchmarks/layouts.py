"""Layouts: 100,000 of a model of 405 billion parameters on 1,024 GPUs, in one process.

    python benchmarks/layouts.py

They may take 20 seconds of CPU, all together. Fails where that is broken.
"""

from __future__ import annotations

import gc
import sys
import time

import llmcalc

LAYOUTS, BOUND = 100_000, 20.0
"""At least so many [-], in so much CPU. [s]"""

ASKED = {
    "recipe": "megatron",
    "precision": "megatron-bf16",
    "optimizer": "adamw-fused",
    "loss": "vocab-parallel",
    "seq_len": "128k",
    "global_batch": 8192,
    "tp": "1,2,4,8,16,32",
    "cp": "1,2,4,8,16,32,64",
    "vpp": "1,3,7,9,21",
    "micro_batch": "1,2,4,8,16,32,64",
    "recompute": ["none", "selective", "full", *(f"first-{number}" for number in (*range(1, 9), 10))],
}


def main() -> int:
    gc.disable()  # as the command line does
    start = time.process_time()
    table = llmcalc.layouts("llama-3.1-405b", gpu="1024xh100-80gb", **ASKED)
    taken = time.process_time() - start
    number = len(table)
    best = table.found[0]
    held = number >= LAYOUTS and taken <= BOUND
    print(f"{number:,} layouts, {table.number('fits'):,} surely fit; the best: {best.mesh.told}")
    print(f"{taken:.1f} s of CPU, {1e6 * taken / number:.0f} us each; bound {BOUND:g} s: "
          f"{'held' if held else 'BROKEN'}")  # fmt: skip
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
