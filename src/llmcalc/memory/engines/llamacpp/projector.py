"""The projector: vision and audio towers in a GGUF file of their own (mmproj), and its buffer.

Read off llama.cpp v0.5.0: conversion/base.py (``MmprojModel``) for the types, tools/mtmd/clip.cpp for
where it lies and for the image of its warm-up.
"""

from __future__ import annotations

from math import isqrt, prod
from typing import TYPE_CHECKING, Any

from llmcalc.memory.engines.llamacpp.extras import Extra, Shown
from llmcalc.model.inventory import Inventory
from llmcalc.units import MIB

if TYPE_CHECKING:
    from llmcalc.memory.engines.llamacpp.deployment import Deployment

MAIN = ("text", "encoder", "mtp")
"""Components that are no part of a projector file."""

SIDES = {
    "dots_ocr": 46, "dots3note_v": 46, "exaone4_5": 46, "gemma4uv": 16, "gemma4v": 16, "glm4v": 46,
    "hunyuanvl": 32, "kimivl": 16, "lightonocr": 16, "mimovl": 46, "minimax_m3": 16, "muse-glimmer": 32,
    "paddleocr": 28, "phi4": 16, "pixtral": 16, "qwen2.5vl_merger": 46, "qwen2vl_merger": 46,
    "qwen3vl_merger": 46, "youtuvl": 16,
}  # fmt: skip
"""Tokens along each side of the image of the warm-up, by type of projector; others take the model's image."""

TYPES = (
    ("qwen2_5_vl", "qwen2.5vl_merger"), ("qwen2_vl", "qwen2vl_merger"), ("qwen3", "qwen3vl_merger"),
    ("gemma4", "gemma4v"), ("glm4", "glm4v"), ("mistral3", "pixtral"), ("pixtral", "pixtral"),
    ("llava", "mlp"), ("phi4", "phi4"), ("kimi", "kimivl"), ("exaone4_5", "exaone4_5"),
)  # fmt: skip
"""Types of projector by what the name of a family starts with."""

MERGES = {
    "exaone4_5": 2, "gemma4v": 3, "glm4v": 2, "kimivl": 2, "pixtral": 2, "qwen2.5vl_merger": 2,
    "qwen2vl_merger": 2, "qwen3vl_merger": 2,
}  # fmt: skip
"""Patches along each side that become one token, where the tensors do not say it."""

UNKNOWN = 128 * MIB
"""Taken for a tower whose graph is not known, sound for one. Assumed. [B]"""

SOURCE = "llama.cpp v0.5.0, tools/mtmd/clip.cpp and conversion/base.py"


def projector_bytes(inventory: Inventory) -> int:
    """Size of the vision and audio towers as a file of their own, in fp16. [B]

    Vectors and tables of positions stay in fp32, as the converter writes them; what single families keep
    in fp32 besides (Gemma 3 its patches) is below 0.2 %.

    Examples
    --------
    >>> import llmcalc
    >>> projector_bytes(llmcalc.model("llama-3.1-8b"))
    0
    """
    return sum(
        group.count * tensor.numel * (2 if len(tensor.shape) > 1 and tensor.role != "position" else 4)
        for group in inventory.groups
        if group.component not in MAIN
        for tensor in group.tensors
        if tensor.tag == "main"
    )


def patch_bytes(inventory: Inventory) -> int:
    """What the matrix of patches takes more in a file of bf16, where it is kept in fp32. [B]

    Examples
    --------
    A log of Qwen3.6-27B with such a file prints 887.99 MiB:

    >>> import llmcalc
    >>> model = llmcalc.model("qwen3.6-27b")
    >>> f"{(projector_bytes(model) + patch_bytes(model)) / 2**20:.2f}"
    '887.99'
    """
    return sum(
        2 * group.count * tensor.numel
        for group in inventory.groups
        if group.component not in MAIN
        for tensor in group.tensors
        if tensor.tag == "main" and tensor.role == "patch" and len(tensor.shape) > 1
    )


class Tower:
    """The shape of a vision tower, as far as its buffer goes; zeros where it is not known.

    Attributes
    ----------
    width, inner : int
        Of a hidden state, and of the feed-forward. [elements]
    patch, side : int
        Pixels along a side of a patch, and of the image of the warm-up. [-]
    """

    __slots__ = ("inner", "patch", "side", "width")

    def __init__(self, width: int, inner: int, patch: int, image: int, merge: int, kind: str) -> None:
        self.width, self.inner, self.patch = width, inner, patch
        self.side = SIDES[kind] * patch * merge if kind in SIDES else image

    @property
    def is_known(self) -> bool:
        """Whether there is enough to go by."""
        return min(self.width, self.inner, self.patch, self.side) > 0

    @property
    def inputs(self) -> int:
        """The image and the places of its patches, on the host. [B]"""
        return 12 * self.side * self.side + 16 * self._patches

    @property
    def inner_bytes(self) -> int:
        """What a layer holds at once: the state, q, k, v and two of them rotated; or the feed-forward. [B]"""
        return 4 * self._patches * max(6 * self.width, self.inner + 2 * self.width)

    @property
    def _patches(self) -> int:
        return (self.side // self.patch) ** 2


def tower_of(inventory: Inventory) -> Tower:
    """The vision tower of a model, from its tensors."""
    shapes: dict[str, tuple[int, ...]] = {}
    for group in inventory.groups:
        if group.component == "vision":
            for tensor in group.tensors:
                if tensor.part in ("weight", ""):
                    shapes.setdefault(tensor.role, tensor.shape)
    patch = shapes.get("patch", (0,))
    width = patch[0]
    places = prod(shapes.get("position", (0,))) // max(width, 1)
    kind = next((word for start, word in TYPES if inventory.family.startswith(start)), "")
    size = patch[-1] if len(patch) > 3 else _flat(patch)
    image = isqrt(places) * size if places > 1 else 0
    return Tower(width, shapes.get("up", (0,))[0], size, image, MERGES.get(kind, 1), kind)


def _flat(patch: tuple[int, ...]) -> int:
    """Pixels along a side of a patch whose three colours lie in one row; 0 if they don't."""
    side = isqrt(patch[-1] // 3) if len(patch) == 2 else 0
    return side if 3 * side * side == patch[-1] else 0


def tower_in(metadata: dict[str, Any]) -> Tower:
    """The vision tower of a projector file, from its metadata."""

    def number(key: str, default: int = 0) -> int:
        found = metadata.get(f"clip.vision.{key}", default)
        return found if isinstance(found, int) and 0 <= found < 1 << 20 else default

    kind = str(metadata.get("clip.vision.projector_type", metadata.get("clip.projector_type", "")))
    merge = number("spatial_merge_size") or number("projector.scale_factor")
    return Tower(
        number("embedding_length"), number("feed_forward_length"), number("patch_size"),
        number("image_size"), merge or MERGES.get(kind, 1), kind,
    )  # fmt: skip


class Projector(Extra):
    """A projector on the first device, or on the host.

    Parameters
    ----------
    sizes : sequence of int
        Bytes of its tensors. [B]
    tower : Tower
        Its shape.
    offload : bool
        Whether it goes to a device where there is one: ``-ngl`` does not matter.
    grade, note : str
        Of its weights.
    more : int
        What the file may have above that. [B]
    """

    def __init__(
        self, sizes: list[int], tower: Tower, offload: bool, grade: str, note: str, more: int = 0
    ) -> None:  # fmt: skip
        super().__init__()
        self.sizes, self.tower, self.offload = sizes, tower, offload
        inputs = {"bytes": sum(sizes)}
        self.shown["projector"] = Shown("its tensors", SOURCE, note, grade, more=more, inputs=inputs)
        seen = {"side of the image": tower.side, "patch": tower.patch, "width": tower.width}
        known = tower.is_known
        self.shown["projector_activations"] = Shown(
            "image + 4 x patches x max(6 width, inner + 2 width)" if known else "constant",
            f"{SOURCE}; one log (Qwen3.6-27B, CUDA), where it is exact; the rest assumed", "its warm-up",
            "assumed", low=50 if known else 0, high=200 if known else 400, inputs=seen if known else {},
            serving=True,
        )  # fmt: skip

    def amounts(
        self, deployment: Deployment, context: int, slots: int, exact: bool
    ) -> dict[str, list[int]]:  # fmt: skip
        """Weights and buffer on the first device; the image is an input of the host."""
        place = 0 if self.offload and deployment.devices else deployment.devices
        weights, buffers = [0] * deployment.places, [0] * deployment.places
        weights[place] = sum(deployment.padded(size, place) for size in self.sizes)
        if self.tower.is_known:
            buffers[deployment.devices] = self.tower.inputs
            buffers[place] += self.tower.inner_bytes
            if place != deployment.devices:
                buffers[place] += self.tower.inputs
        else:
            buffers[place] = UNKNOWN
        return {"projector": weights, "projector_activations": buffers}
