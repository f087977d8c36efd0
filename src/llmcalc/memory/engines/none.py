"""No engine: the architecture's minimum."""

from llmcalc.model.inventory import Cache

VERSIONS = ""


def layout(cache: Cache) -> Cache:
    """What the architecture needs, as it is."""
    return cache
