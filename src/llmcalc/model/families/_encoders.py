"""What encoder families share: a stack without caches, and where a checkpoint with a head puts it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from llmcalc.model import families
from llmcalc.model.configuration import Config
from llmcalc.model.inventory import Group
from llmcalc.model.layers import Block


def root(c: Config, name: str) -> str:
    """Prefix of the encoder's names: the bare model stands at the root, one with a head does not."""
    kind = c.architecture
    bare = not kind or (kind.endswith("Model") and not kind.endswith("LMHeadModel"))
    return "" if bare else f"{name}."


def encoder(
    c: Config,
    name: str,
    embed: Block,
    block: Callable[[Config, int], Block],
    head: Block,
    prefix: str,
    names: Mapping[str, Any],
    gguf: Mapping[str, str],
) -> list[Group]:
    """An encoder called `name` in checkpoints that have a head; the pooler belongs to the encoder."""
    c.check("hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size")
    at = root(c, name)
    roles = {**names, **{f"gguf:{role}": word for role, word in gguf.items()}}
    outer = {**roles, "pooler": at + names["pooler"]} if "pooler" in names else roles
    return [
        families.outside("text", "embedding", embed, at, roles),
        *families.layers(block, c, c.num_hidden_layers, "text", f"{at}{prefix}.", roles),
        families.outside("text", "head", head, "", outer),
    ]
