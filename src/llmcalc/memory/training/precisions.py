"""Precision of training: which copies of a parameter there are, and in how many bytes."""

from __future__ import annotations

from llmcalc.errors import InputError, did_you_mean


class Recipe:
    """What one trained parameter takes.

    Attributes
    ----------
    name : str
        As in ``--precision``.
    weights, gradients, master : int
        Bytes of a trained parameter in the model, in its gradient, in an fp32 copy. [B]
    states : int or None
        Bytes of an element of the optimizer's states; None follows the parameter. [B]
    element : int
        Bytes of an activation in the compute dtype. [B]
    autocast : bool
        Whether wider weights are cast where they are used.
    persistent : bool
        Whether gradients have a buffer of their own that is there from the start.
    copies : int
        Bytes of narrow copies of the matrices that stay. [B]
    note : str
        Who trains so.
    source : str
        Where it is told.
    """

    __slots__ = (
        "autocast", "copies", "element", "gradients", "master", "name", "note", "persistent", "source",
        "states", "weights",
    )  # fmt: skip

    def __init__(
        self, name: str, weights: int, gradients: int, master: int, states: int | None, element: int,
        note: str, *, autocast: bool = False, persistent: bool = False, copies: int = 0, source: str = "",
    ) -> None:  # fmt: skip
        self.name, self.weights, self.gradients, self.master = name, weights, gradients, master
        self.states, self.element, self.note, self.autocast = states, element, note, autocast
        self.persistent, self.copies, self.source = persistent, copies, source

    @property
    def state_element(self) -> int:
        """Bytes of an element of the optimizer's states. [B]"""
        return self.weights if self.states is None else self.states

    def per_parameter(self, states: int = 2) -> int:
        """Bytes that a trained parameter takes with so many states of the optimizer. [B]

        Examples
        --------
        >>> RECIPES["megatron-bf16"].per_parameter(), RECIPES["bf16-mixed"].per_parameter()
        (18, 16)
        """
        return self.weights + self.copies + self.gradients + self.master + states * self.state_element


_MEGATRON = "megatron-dist-optimizer"
RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe("bf16-mixed", 4, 4, 0, None, 2, "fp32 weights, autocast to bf16", autocast=True,
               source="torch-amp"),
        Recipe("fp16-mixed", 4, 4, 0, None, 2, "fp32 weights, autocast to fp16, loss scaling", autocast=True,
               source="torch-amp"),
        Recipe("bf16", 2, 2, 0, None, 2, "everything in bf16", source="torchtune-memory"),
        Recipe("fp16", 2, 2, 0, None, 2, "everything in fp16", source="torchtune-memory"),
        Recipe("bf16-fp32-states", 2, 2, 0, 4, 2, "bf16 with the optimizer's states in fp32",
               source="torchtune-memory"),
        Recipe("megatron-bf16", 2, 4, 4, 4, 2, "bf16 weights, fp32 master, gradients and states",
               persistent=True, source=_MEGATRON),
        Recipe("megatron-fp16", 2, 2, 4, 4, 2, "fp16 weights and gradients, fp32 master and states",
               persistent=True, source=_MEGATRON),
        Recipe("deepspeed-bf16", 2, 2, 4, 4, 2, "bf16 weights and gradients, fp32 master and states",
               source="deepspeed-zero"),
        Recipe("deepspeed-fp16", 2, 2, 4, 4, 2, "fp16 weights and gradients, fp32 master and states",
               source="deepspeed-zero"),
        Recipe("fp8", 2, 4, 4, 4, 2, "megatron-bf16 with fp8 copies of matrices, plain and transposed",
               persistent=True, copies=2, source="te-fp8"),
        Recipe("fp32", 4, 4, 0, None, 4, "everything in fp32", source=_MEGATRON),
    )
}  # fmt: skip
ALIASES = {
    "bf16-true": "bf16", "pure-bf16": "bf16", "16-mixed": "fp16-mixed", "amp": "bf16-mixed",
    "mixed": "bf16-mixed", "32": "fp32", "32-true": "fp32", "megatron": "megatron-bf16",
}  # fmt: skip


def find_recipe(name: object) -> Recipe:
    """Look a precision up by name.

    Raises
    ------
    InputError
        If there is none, with the nearest.

    Examples
    --------
    >>> find_recipe("BF16").note
    'everything in bf16'
    """
    word = str(name).strip().lower().replace("_", "-")
    word = ALIASES.get(word, word)
    if word in RECIPES:
        return RECIPES[word]
    near = did_you_mean(word, [*RECIPES, *ALIASES], 1)
    hint = f"Did you mean {near[0]}? " if near else ""
    raise InputError(f"--precision {str(name)[:40]!r} is not known.", f"{hint}Use {', '.join(RECIPES)}.")
