"""Images in a prompt: each takes so many tokens of the context."""

from __future__ import annotations

from typing import Any

from llmcalc.errors import InputError
from llmcalc.formula import is_array
from llmcalc.model.inventory import Inventory

FIXED = {"gemma3": 256, "llava": 576}
"""Tokens of one image where the family fixes them: ``mm_tokens_per_image`` of Gemma 3; 24 x 24 patches of the
336-pixel tower of LLaVA-1.5. Others cut images by their size. [tokens]"""

SEEING = ("vision", "projector")
AUDIBLE = ("whisper", "voxtral")
"""Families whose projector is for sound."""


def settle_images(
    inventory: Inventory, scenario: Any, given: dict[str, Any], images: int, tokens: int | None
) -> None:
    """Add the tokens of images to what every request holds.

    Parameters
    ----------
    inventory : Inventory
        The model: it must see, and its limit binds.
    scenario : Scenario
        Whose context, prompt and demand grow.
    given : dict
        Keywords; None means not given.
    images : int
        Images of one request. [-]
    tokens : int or None
        Tokens of one of them, where they were given. [tokens]

    Raises
    ------
    InputError
        For a model that reads text alone, images of unknown size, or more than its context takes.
    """
    asked = given["images"] is not None and images
    if not asked and not tokens:
        return
    if not _sees(inventory):
        option = f"--images {images}" if asked else f"--image-tokens {tokens}"
        raise InputError(
            f"{option}: {inventory.name} reads text alone.",
            "Name a model with a vision tower, or leave --images and --image-tokens out.",
        )
    if remembers_images(inventory) or not images:
        return  # a cross-attention of its own remembers them, beside the context
    own = tokens or FIXED.get(inventory.family)
    if own is None:
        raise InputError(
            f"--images {images}: {inventory.name} makes more tokens of a larger image, and their number is "
            "not given.",
            "Add --image-tokens N, such as --image-tokens 1k.",
        )
    if given.get("n_ctx") is not None:
        return  # llama.cpp's total, images included
    scenario.images = (images, own)
    _grow(inventory, scenario, images, own)


def _sees(inventory: Inventory) -> bool:
    """Whether a model has what images need; of a GGUF file nobody knows, its projector is another file."""
    if inventory.source in ("gguf", "count") or inventory.family == "header":
        return True
    parts = {group.component for group in inventory.groups}
    return remembers_images(inventory) or (bool(parts & set(SEEING)) and inventory.family not in AUDIBLE)


def remembers_images(inventory: Inventory) -> bool:
    """Whether a cross-attention of its own remembers images, beside the context."""
    return any(cache.stream == "image" for group in inventory.groups for cache in group.caches)


def _grow(inventory: Inventory, scenario: Any, images: int, own: int) -> None:
    """Longer prompts, within the model's limit."""
    extra, limit = images * own, inventory.context
    text = int(scenario.context.max()) if is_array(scenario.context) else int(scenario.context)
    stated = scenario.stated & {"context", "max_model_len", "prompt", "output"}
    if limit is not None and not stated:  # a default makes room
        text = min(text, max(limit - extra, 1))
        scenario.context = text
    if limit is not None and text + extra > limit and not scenario.allow_overlong:
        most = max((limit - text) // own, 0)
        raise InputError(
            f"--images {images}: {images} x {own:,} tokens and {text:,} of text are above the {limit:,} that "
            f"{inventory.name} takes.",
            f"Use --images {most} or fewer, or less text." if most else "Use less text, or --allow-overlong.",
        )
    scenario.context = scenario.context + extra
    if scenario.prompt is not None:
        scenario.prompt += extra
    if scenario.demand is not None:
        scenario.demand.lengthen(extra)
