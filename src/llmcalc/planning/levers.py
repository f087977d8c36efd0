"""Settings that make room, from the cheapest to the dearest, each with what it costs in plain words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

FREE, REACH, SPEED, QUALITY, WORKLOAD, MONEY = range(6)
"""What a change costs, in the order in which people would rather pay: nothing, slack that nobody uses now,
speed, quality, a smaller workload, more hardware."""

LENGTHS = ("context", "max_model_len", "prompt", "output", "n_ctx")
"""Keywords that set a context: a new one takes the place of them all."""

UTILISATION = 0.95
"""A share of the GPU that servers commonly run with when nothing else uses it. [-]"""


class Lever:
    """One setting to change.

    Attributes
    ----------
    changes : dict
        Keywords and their new values; None takes one away.
    cost : int
        `FREE` to `MONEY`.
    price : str
        What it costs, in plain words.
    """

    __slots__ = ("changes", "cost", "price")

    def __init__(self, changes: Mapping[str, Any], cost: int, price: str) -> None:
        self.changes, self.cost, self.price = dict(changes), cost, price

    @property
    def option(self) -> str:
        """The change as it is typed.

        Examples
        --------
        >>> Lever({"kv_dtype": "fp8"}, QUALITY, "").option, Lever({"enforce_eager": True}, SPEED, "").option
        ('--kv-dtype fp8', '--enforce-eager')
        >>> Lever({"swa_full": None}, FREE, "").option
        'without --swa-full'
        """
        words, dropped = [], []
        for keyword, value in self.changes.items():
            name = f"--{keyword.replace('_', '-')}"
            if value is None:
                dropped.append(name)
            else:
                words.append(name if value is True else f"{name} {value}")
        if words or not dropped:
            return " ".join(words)
        return f"without {' '.join(dropped)}"


def context_lever(tokens: int) -> Lever:
    """A shorter context in the place of every keyword that sets one."""
    made = Lever({"context": tokens}, WORKLOAD, "longer requests are refused")
    return made


def settings(engine: str, now: Mapping[str, Any], model: Mapping[str, Any]) -> list[list[Lever]]:
    """The settings that an engine offers; of each inner list one is chosen, the mildest first.

    Parameters
    ----------
    engine : str
        Whose settings.
    now : mapping
        The scenario as resolved, by keyword.
    model : mapping
        ``latent``: whether attention caches latents; ``sequences``: how many must run at once.

    Examples
    --------
    >>> now = {"max_num_seqs": 256, "kv_dtype_k": "bf16", "enforce_eager": True, "tp": 1}
    >>> [kind[0].option for kind in settings("vllm", now, {"latent": False, "sequences": 1})]
    ['--max-num-seqs 128', '--kv-dtype fp8']
    """
    found: list[list[Lever]] = []
    for keyword, price in (
        ("disable_hybrid_kv_cache_manager", "costs nothing"),
        ("swa_full", "prompts that left the window are read again"),
    ):
        if now.get(keyword):
            found.append([Lever({keyword: None}, FREE, price)])
    found += _slack(now, int(model["sequences"]))
    if now.get("enforce_eager") is False:
        found.append([Lever({"enforce_eager": True}, SPEED, "slower decoding, no CUDA graphs")])
    tp = now.get("tp") or 1
    if model["latent"] and "dcp" in now and tp > 1 and now["dcp"] == 1:
        found.append([Lever({"dcp": tp}, SPEED, "more traffic between GPUs for each token")])
    smaller = CACHES.get(engine, "fp8")
    if smaller and now.get("kv_dtype_k") in ("bf16", "fp16", "fp32"):
        found.append([Lever({"kv_dtype": smaller}, QUALITY, "accuracy to be tested")])
    return found


CACHES = {"llama.cpp": "q8_0", "ollama": "q8_0", "mlx": "mlx-8bit", "transformers": ""}
"""The mildest smaller format of a cache; fp8 for engines not named, "" for those that have none."""


def _slack(now: Mapping[str, Any], sequences: int) -> list[list[Lever]]:
    """What an engine keeps ready beyond this workload."""
    found: list[list[Lever]] = []
    share = now.get("gpu_memory_utilization")
    if share is not None and float(share) < UTILISATION and not now.get("kv_cache_memory"):
        price = f"leaves others {100 - 100 * UTILISATION:.0f} % of the GPU"
        found.append([Lever({"gpu_memory_utilization": UTILISATION}, REACH, price)])
    most = now.get("max_num_seqs")
    if most:
        steps = [n for n in (512, 256, 128, 64, 32, 16) if max(sequences, 16) <= n < int(most)]
        found.append(
            [Lever({"max_num_seqs": n}, REACH, f"no more than {n} requests run at once") for n in steps]
        )
    for keyword, least in (("max_num_batched_tokens", 2048), ("ubatch", 128)):
        if now.get(keyword) and int(now[keyword]) > least:
            price = "long prompts are read in smaller pieces, slower"
            found.append([Lever({keyword: least}, SPEED, price)])
    return [levers for levers in found if levers]
