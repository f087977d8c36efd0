"""Where ``-ot`` and ``--n-cpu-moe`` put tensors."""

from __future__ import annotations

import re
from typing import Any

from llmcalc.errors import InputError

EXPERTS = r"\.ffn_(up|down|gate|gate_up)_(ch|)exps"
"""llama.cpp's own pattern of the experts of a layer, after its number."""


def has_patterns(options: Any) -> bool:
    """Whether anything is moved by name: llama.cpp runs no pipeline then."""
    return bool(options.overrides or options.n_cpu_moe)


def patterns_of(options: Any, layers: int) -> list[tuple[re.Pattern[str], str]]:
    """Patterns of names, and where they put them: ``host`` or a device's number."""
    found = [(re.compile(pattern), target) for pattern, target in options.overrides]
    for layer in range(min(options.n_cpu_moe, layers)):
        found.append((re.compile(rf"blk\.{layer}{EXPERTS}"), "host"))
    return found


def target_of(target: str, devices: int) -> int:
    """The backend that a pattern names.

    Raises
    ------
    InputError
        For a device that there is not.
    """
    if target == "host":
        return devices
    if int(target) >= devices:
        there = f"the devices are 0 to {devices - 1}" if devices > 1 else "there is one, 0"
        raise InputError(
            f"-ot puts tensors on device {int(target)}, but {there if devices else 'there is none'}.",
            "Name one of them, such as CUDA0, or CPU.",
        )
    return int(target)
