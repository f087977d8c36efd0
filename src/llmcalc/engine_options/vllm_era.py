"""What changed between releases of vLLM, as far as memory shows it."""

from __future__ import annotations

from llmcalc.engine_options.reading import PRE_RELEASES
from llmcalc.errors import InputError
from llmcalc.units import shown

NEWEST = (0, 33)
OLDEST = (0, 2)

PATCHES = {
    2: 7, 3: 3, 4: 3, 5: 5, 6: 6, 7: 3, 8: 5, 9: 2, 10: 2, 11: 2, 14: 1, 15: 1, 17: 1, 18: 1, 19: 1, 20: 2,
    22: 1, 25: 1, 27: 1,
}  # fmt: skip
"""The last patch of each 0.x that had any, as published; the others have 0.x.0 alone."""

UTILISATION = (((0, 33), 0.92), ((0, 0), 0.90))
"""The default of ``--gpu-memory-utilization`` from a release on. [-]"""


class Era:
    """One release, and what it does.

    Attributes
    ----------
    version : tuple of int
        Major and minor number of the release that is modelled. [-]
    asked : str
        What the user wrote; empty for the newest.
    note : str
        What the reader should know where the release is not known.
    is_v1 : bool
        Whether it runs the engine that unifies pages; the one before ("V0", default until 0.8) keeps all
        layers whole.

    Examples
    --------
    >>> old, new = era_of("0.19.0"), era_of(None)
    >>> old.utilisation, new.utilisation, old.counts_graphs, new.counts_graphs
    (0.9, 0.92, False, True)
    """

    __slots__ = ("asked", "is_v1", "note", "version")

    def __init__(self, version: tuple[int, int], asked: str = "", note: str = "", old: bool = False) -> None:
        self.version, self.asked, self.note = version, asked, note
        self.is_v1 = version >= (0, 8) and not old

    @property
    def name(self) -> str:
        """The release as vLLM writes it."""
        return self.asked or f"{self.version[0]}.{self.version[1]}.0"

    @property
    def encodes(self) -> bool:
        """Whether models with an encoder run on it; until 0.11 they fell back to the one before."""
        return self.is_v1 and self.version >= (0, 11)

    @property
    def is_hybrid(self) -> bool:
        """Whether layers with a window give back what lies behind it (PR 17996)."""
        return self.is_v1 and self.version >= (0, 10)

    @property
    def gives_back_chunks(self) -> bool:
        """Whether the same holds for chunked attention by default."""
        return self.version >= (0, 12)

    @property
    def counts_async(self) -> bool:
        """Whether windows allow for two batches in flight."""
        return self.version >= (0, 21)

    @property
    def counts_requests(self) -> bool:
        """Whether the log's KV cache size is the concurrency times the length, not blocks times tokens."""
        return self.version >= (0, 21)

    @property
    def sections(self) -> bool:
        """Whether tables of positions with three parts hold four times the positions."""
        return self.version >= (0, 7)

    @property
    def absorbs(self) -> bool:
        """Whether latent attention keeps turned copies of its up-projections."""
        return self.version >= (0, 7)

    @property
    def counts_pages(self) -> bool:
        """Whether the log's concurrency counts pages of a request; before, it was tokens by length."""
        return self.version >= (0, 9)

    @property
    def counts_graphs(self) -> bool:
        """Whether CUDA graphs are estimated and taken off the budget."""
        return self.version >= (0, 21)

    @property
    def utilisation(self) -> float:
        """The default share of a GPU's memory. [-]"""
        return next(share for start, share in UTILISATION if self.version >= start)


def era_of(value: object) -> Era:
    """The release that a version names; the newest where none is named.

    Parameters
    ----------
    value : str or None
        ``0.19.0``, ``v0.11``, ``0.9.1.dev287+g89b1388d8``, ``0.10.0 V0``, ``nightly`` ...

    Raises
    ------
    InputError
        If it is no version of vLLM.

    Examples
    --------
    >>> era_of("0.9.1.dev287+g89b1388d8").version
    (0, 9)
    >>> era_of("0.40").note
    'vLLM 0.40 is not known here; the nearest release, 0.33, is modelled.'
    >>> era_of("0.9.99").note
    'vLLM 0.9.99 is not known here; the nearest release, 0.9.2, is modelled.'
    """
    if value is None:
        return Era(NEWEST)
    text = str(value).strip()
    if text.lower() in PRE_RELEASES:
        return Era(NEWEST, "", f"vLLM {text} is taken for the newest release that is modelled, 0.33.")
    old = "v0" in text.lower()[1:]
    parts = text.lower().removeprefix("v").split(".")
    digits = [part[: len(part) - len(part.lstrip("0123456789"))] for part in parts[:3]]
    if len(digits) < 2 or not all(digits[:2]) or any(len(part) > 4 for part in digits[:2]):
        raise InputError(
            f"--engine-version {shown(value)} is no version of vLLM.", "Write it as 0.33.0 or 0.19."
        )
    version = (int(digits[0]), int(digits[1]))
    known = min(max(version, OLDEST), NEWEST)
    if known == version:
        note = _unpublished(text, version, digits[2] if len(digits) > 2 else "")
        return Era(version, text[:60], note, old=old)
    note = f"vLLM {text[:20]} is not known here; the nearest release, {known[0]}.{known[1]}, is modelled."
    return Era(known, "", note)


def _unpublished(text: str, version: tuple[int, int], patch: str) -> str:
    """What to say of a patch that was never published; builds on the way to the next one are none."""
    last = PATCHES.get(version[1], 0)
    built = any(word in text.lower() for word in ("dev", "rc", "+"))
    if not patch or int(patch[:6]) <= last + built:
        return ""
    name = f"0.{version[1]}.{last}"
    return f"vLLM {text[:20]} is not known here; the nearest release, {name}, is modelled."
