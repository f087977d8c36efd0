"""RWKV-5 "Eagle": RWKV-4 with a square state per head, a gate, and a norm after mixing."""

from llmcalc.errors import ConfigError
from llmcalc.model.configuration import Config
from llmcalc.model.families import rwkv
from llmcalc.model.families.rwkv import CHECK, PREFIX, head, inner
from llmcalc.model.layers import Block

__all__ = ["CHECK", "NAMES", "PREFIX", "block", "head", "split"]

NAMES = {**rwkv.NAMES, "time_first": "attention.time_faaaa"}


def block(c: Config, layer: int) -> Block:
    size = c.size("head_size", 64)
    if inner(c) % size:
        raise ConfigError(
            f"{c.label}: the attention width {inner(c)} is no multiple of head_size {size}.", "Correct one."
        )
    ffn = c.optional("intermediate_size") or int(c.hidden_size * 3.5) // 32 * 32
    return rwkv.layer_of(c, layer, ffn, size)


def split(c: Config) -> dict[str, int]:
    return {"state heads": inner(c) // c.size("head_size", 64)}
