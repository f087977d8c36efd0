"""GPT-Neo: GPT-2's layers with separate query, key and value; every other layer attends to a window."""

from llmcalc.errors import ConfigError
from llmcalc.model.configuration import MISSING, Config
from llmcalc.model.families._blocks import multi_head, pre_norm
from llmcalc.model.families.gpt2 import embed, head
from llmcalc.model.layers import Block, mlp

__all__ = ["NAMES", "PREFIX", "block", "embed", "head"]

PREFIX = "transformer.h.{layer}"
NAMES = {
    "embedding": "transformer.wte",
    "position": "transformer.wpe",
    "attn_norm": "ln_1",
    "query": "attn.attention.q_proj",
    "key": "attn.attention.k_proj",
    "value": "attn.attention.v_proj",
    "output": "attn.attention.out_proj",
    "ffn_norm": "ln_2",
    "up": "mlp.c_fc",
    "down": "mlp.c_proj",
    "final_norm": "transformer.ln_f",
}


def is_local(c: Config, layer: int) -> bool:
    """By `attention_types`, such as ``[[["global", "local"], 12]]``: what is repeated, and how often."""
    c.read.add("attention_layers")
    stated = c.lookup("attention_types")
    if stated is MISSING or stated is None:
        return layer % 2 == 1
    try:
        kinds = [
            kind for kinds, times in stated for _ in range(min(times, c.num_hidden_layers)) for kind in kinds
        ]
        return bool(kinds[layer] == "local")
    except (TypeError, ValueError, IndexError):
        raise ConfigError(
            f"{c.label}: attention_types does not name {c.num_hidden_layers} layers.",
            'Write it as [[["global", "local"], 12]].',
        ) from None


def block(c: Config, layer: int) -> Block:
    window = c.window("window_size")
    window = window if is_local(c, layer) else None
    # transformers keeps all positions of local layers too.
    attention = multi_head(c, out_bias=True, window=window, broadcast=window is not None)
    width = c.optional("intermediate_size") or 4 * c.hidden_size
    return pre_norm(c, attention, mlp(c.hidden_size, width, gated=False, bias=True), bias=True)
