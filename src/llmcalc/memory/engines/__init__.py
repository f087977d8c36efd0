"""Engines: one file each, stating what that engine really keeps.

An engine module offers ``layout(cache)``, the cache that the engine holds for what the architecture
needs, and may name ``KV_FORMATS``, the formats that it keeps keys and values in. A layer says what must
be remembered; how it is laid out is the engine's business.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any


def load(name: str) -> Any:
    """The module of an engine by its name."""
    return import_module(f"{__name__}.{name.replace('.', '').replace('-', '_')}")
