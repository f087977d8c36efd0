"""What the pools of a server hold, under the names that its log gives them."""

from __future__ import annotations

from typing import Any

from llmcalc.planning.solve import Capacity

LONGEST = 1 << 24
"""Where a search for the longest request ends. [tokens]"""


class PoolCapacity(Capacity):
    """What an engine's pool holds, under the names of its log.

    Attributes
    ----------
    kv_tokens, pool_tokens : int
        The pool as that release counts it: "GPU KV cache size", "max_total_num_tokens". [tokens]
    kv_bytes_per_token : int
        Bytes of the pool behind one of those tokens. [B]
    kv_blocks : int
        Blocks (vLLM, TensorRT-LLM) or pages (SGLang) of the pool. [-]
    kv_budget_range_bytes : list of int
        Low and high of the budget. [B]
    concurrency : float
        "Maximum concurrency" at this context. [-]
    longest_request : int
        The longest single request, the model's limit aside. [tokens]
    """

    __slots__ = ("concurrency", "kv_blocks", "kv_budget_range_bytes", "longest_request", "pool_tokens")

    def __init__(self, plain: dict[str, Any], own: dict[str, Any]) -> None:
        for name, value in {**plain, **own}.items():
            setattr(self, name, value)

    def to_dict(self) -> dict[str, Any]:
        """The figures by name."""
        names = [name for kind in reversed(type(self).__mro__) for name in getattr(kind, "__slots__", ())]
        return {name: getattr(self, name) for name in names}


class SlotCapacity(PoolCapacity):
    """What SGLang's pools hold, by name.

    Attributes
    ----------
    full_tokens, window_tokens : int or None
        Slots of the pool of layers without and with a window; None where there is one pool. [tokens]
    state_slots : int or None
        Slots for recurrent states; None without any. [-]
    running_requests : int
        Requests that may run at once ("max_running_requests"). [-]
    """

    __slots__ = ("full_tokens", "running_requests", "state_slots", "window_tokens")
