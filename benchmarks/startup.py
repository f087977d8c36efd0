"""Start-up: CPU of everyday commands against a bare interpreter.

    python benchmarks/startup.py [--runs 25]

Builds a wheel, installs it into a fresh virtual environment, and takes user plus system CPU of each
process by getrusage: the minimum of interleaved runs. Fails above 5 times `python -c pass`, with --quant
and for train above 6.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BOUND, QUANT_BOUND, TRAIN_BOUND = 5.0, 6.0, 6.0
COMMANDS = {
    "python -c pass": ["python", "-c", "pass"],
    "import click": ["python", "-c", "import click"],
    "vram --params 13b --bits 4": ["llmcalc", "vram", "--params", "13b", "--bits", "4"],
    "vram llama-3.1-8b --ctx 32k --gpu rtx-4090": [
        "llmcalc", "vram", "llama-3.1-8b", "--ctx", "32k", "--gpu", "rtx-4090",
    ],
    "vram llama-3.1-8b --ctx 32k --gpu rtx-4090 --quant awq": [
        "llmcalc", "vram", "llama-3.1-8b", "--ctx", "32k", "--gpu", "rtx-4090", "--quant", "awq",
    ],
    "vram llama-3.1-8b --ctx 32k --gpu rtx-4090 --quant q4_k_m": [
        "llmcalc", "vram", "llama-3.1-8b", "--ctx", "32k", "--gpu", "rtx-4090", "--quant", "q4_k_m",
    ],
    "train llama-3.1-8b --seq-len 2k": ["llmcalc", "train", "llama-3.1-8b", "--seq-len", "2k"],
    "train llama-3.1-8b --method lora --seq-len 2k --gpu rtx-4090": [
        "llmcalc", "train", "llama-3.1-8b", "--method", "lora", "--seq-len", "2k", "--gpu", "rtx-4090",
    ],
    "chinchilla --compute 5.76e23": ["llmcalc", "chinchilla", "--compute", "5.76e23"],
    "chinchilla --gpu 8xh100-80gb --days 30": [
        "llmcalc", "chinchilla", "--gpu", "8xh100-80gb", "--days", "30",
    ],
    "hparams --params 7b --tokens 1.4t": ["llmcalc", "hparams", "--params", "7b", "--tokens", "1.4t"],
    "vram gemma-3-27b --ctx 128k": ["llmcalc", "vram", "gemma-3-27b", "--ctx", "128k"],
}  # fmt: skip
BOUNDED = {name: QUANT_BOUND if "--quant" in name else BOUND for name in list(COMMANDS)[2:6]}
BOUNDED |= {name: BOUND for name in COMMANDS if name.startswith(("chinchilla", "hparams"))}
BOUNDED["train llama-3.1-8b --seq-len 2k"] = TRAIN_BOUND


def cpu_ms(command: list[str]) -> float:
    """User plus system CPU of one process. [ms]"""
    null = (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    process = os.posix_spawn(command[0], command, clean, file_actions=[null])
    _, status, usage = os.wait4(process, 0)
    if status:
        raise SystemExit(f"{command} failed with status {status}")
    return (usage.ru_utime + usage.ru_stime) * 1000


def main() -> int:
    if not hasattr(os, "wait4"):
        raise SystemExit("getrusage of a child needs a POSIX system.")
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=25)
    runs = parser.parse_args().runs
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        binaries = Path(folder) / "bin"
        subprocess.run([binaries / "pip", "install", "-q", "--no-deps", str(ROOT)], check=True)
        subprocess.run([binaries / "pip", "install", "-q", "click"], check=True)
        commands = {name: [str(binaries / words[0]), *words[1:]] for name, words in COMMANDS.items()}
        for words in commands.values():
            cpu_ms(words)
        best = dict.fromkeys(commands, float("inf"))
        for _ in range(runs):
            for name, words in commands.items():
                best[name] = min(best[name], cpu_ms(words))
    bare = best["python -c pass"]
    for name, value in best.items():
        print(f"{value:7.1f} ms  {value / bare:5.2f} x  {name}")
    broken = [name for name, bound in BOUNDED.items() if best[name] > bound * bare]
    told = f"bounds {BOUND} x, with --quant {QUANT_BOUND} x, train {TRAIN_BOUND} x"
    print(f"{told}: {'BROKEN by ' + broken[0] if broken else 'held'}")
    return int(bool(broken))


if __name__ == "__main__":
    sys.exit(main())
