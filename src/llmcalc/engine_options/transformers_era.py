"""What changed between releases of transformers, as far as memory shows it."""

from __future__ import annotations

from llmcalc.errors import InputError
from llmcalc.units import shown

NEWEST, OLDEST = (5, 24), (4, 36)
UNRELEASED = ("dev", "main", "latest")


class Era:
    """One release, and what it does.

    Attributes
    ----------
    version : tuple of int
        Major and minor number of the release that is modelled. [-]
    note : str
        What the reader should know where the release is not known.

    Notes
    -----
    Read off the published packages 4.40.2, 4.44.2, 4.45.2, 4.46.3, 4.47.1, 4.48.3, 4.50.3, 4.53.3, 4.54.1,
    4.55.4, 4.56.2, 4.57.1, 5.0.0, 5.5.0, 5.12.0, 5.17.0, 5.20.0, 5.22.0 and 5.24.0; a change between two of
    them is dated to the later one.

    Examples
    --------
    >>> old, new = era_of("4.44.2"), era_of(None)
    >>> old.widens_logits, new.widens_logits, old.slides, new.slides
    (True, False, False, True)
    """

    __slots__ = ("asked", "note", "version")

    def __init__(self, version: tuple[int, int], asked: str = "", note: str = "") -> None:
        self.version, self.asked, self.note = version, asked, note

    @property
    def name(self) -> str:
        """The release as its package is named."""
        return self.asked or f"{self.version[0]}.{self.version[1]}.0"

    @property
    def doubles_caches(self) -> bool:
        """Whether the caches of the step before live to the end of a step (PR 30536)."""
        return self.version < (4, 42)

    @property
    def widens_logits(self) -> bool:
        """Whether `forward` copies its logits to fp32."""
        return self.version < (4, 46)

    @property
    def keeps_last_logits(self) -> bool:
        """Whether `generate` has the head applied to the last token alone."""
        return self.version >= (4, 45)

    @property
    def slides(self) -> bool:
        """Whether a dynamic cache lets go what lies behind a window."""
        return self.version >= (4, 56)

    @property
    def shares_heads(self) -> bool:
        """Whether sdpa shares key heads among query heads without a copy, where there is no mask."""
        return self.version >= (4, 54)

    @property
    def packs_heads(self) -> bool:
        """Whether one token's query heads are packed beside their key head, with a mask too."""
        return self.version >= (5, 23)

    @property
    def keeps_latents(self) -> bool:
        """Whether latent attention caches the latent; before, keys and values of every head."""
        return self.version >= (5, 17)

    @property
    def keeps_wide_states(self) -> bool:
        """Whether recurrent states stay as they are computed, fp32; before, in the model's dtype."""
        return self.version >= (5, 17)

    @property
    def groups_experts(self) -> bool:
        """Whether experts share one tensor and run in groups."""
        return self.version >= (5, 0)


def era_of(value: object) -> Era:
    """The release that a version names; the newest where none is named.

    Parameters
    ----------
    value : str or None
        ``4.57.1``, ``v5.0``, ``5.24.0.dev0``, ``main`` ...

    Raises
    ------
    InputError
        If it is no version of transformers.

    Examples
    --------
    >>> era_of("4.57.1").version
    (4, 57)
    >>> era_of("5.90").note
    'transformers 5.90 is not known here; the nearest release, 5.24, is modelled.'
    """
    if value is None:
        return Era(NEWEST)
    text = str(value).strip()
    if text.lower() in UNRELEASED:
        return Era(NEWEST, "", f"transformers {text} is taken for the newest release that is modelled, 5.24.")
    parts = text.lower().removeprefix("v").split(".")
    if len(parts) < 2 or not all(part.isdecimal() and part.isascii() and len(part) < 4 for part in parts[:2]):
        raise InputError(
            f"--engine-version {shown(value)} is no version of transformers.", "Write it as 5.24.0 or 4.57."
        )
    version = (int(parts[0]), int(parts[1]))
    known = min(max(version, OLDEST), NEWEST)
    if known == version:
        return Era(version, text[:40])
    near = f"{known[0]}.{known[1]}"
    note = f"transformers {text[:20]} is not known here; the nearest release, {near}, is modelled."
    return Era(known, "", note)
