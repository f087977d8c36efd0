"""What changed between releases of SGLang, as far as memory shows it."""

from __future__ import annotations

from llmcalc.engine_options.reading import PRE_RELEASES, release

NEWEST, OLDEST = (0, 5, 23), (0, 1, 17)

TWO_POOLS = (
    ((0, 5, 23), ("granite_swa",)),
    ((0, 5, 18), ("mellum", "muse_glimmer", "muse_glimmer_text")),
    ((0, 5, 13), ("gemma4", "gemma4_text", "laguna", "step3p7")),
    ((0, 5, 9), ("llama4", "llama4_text", "step3p5")),
    ((0, 5, 6), ("mimo_v2_flash",)),
    ((0, 5, 0), ("gpt_oss",)),
)
"""Families whose windows have a pool of their own, from a release on; others keep windows whole."""


class SglangEra:
    """One release, and what it does.

    The boundaries are the first of the releases read that shows a change: 0.1.17, 0.2.10, 0.3.6, 0.4.3,
    0.4.4, 0.4.6 (and its post-releases), 0.4.7 to 0.4.10, 0.5.1 to 0.5.3, 0.5.6, 0.5.9, 0.5.10, 0.5.13,
    0.5.15, 0.5.18 and 0.5.23.

    Attributes
    ----------
    version : tuple of int
        The release that is modelled. [-]
    asked : str
        What the user wrote; empty for the newest.
    note : str
        What the reader should know where the release is not known.

    Examples
    --------
    >>> old, new = sglang_era("0.4.3.post2"), sglang_era(None)
    >>> old.pads_states, new.pads_states, new.name
    (False, True, '0.5.23')
    """

    __slots__ = ("asked", "note", "version")

    def __init__(self, version: tuple[int, ...], asked: str = "", note: str = "") -> None:
        self.version, self.asked, self.note = version, asked, note

    @property
    def name(self) -> str:
        """The release as SGLang writes it."""
        return self.asked or ".".join(map(str, self.version[:3]))

    def splits(self, family: str) -> bool:
        """Whether a family's windows lie in a pool of their own."""
        return any(family in names for start, names in TWO_POOLS if self.version >= start)

    @property
    def shares_by_ratio(self) -> bool:
        """Whether states get a share of the pool; until 0.5.3 as many slots as requests, 512 by default."""
        return self.version >= (0, 5, 4)

    @property
    def pads_states(self) -> bool:
        """Whether the padding slot of a state pool is part of its budget."""
        return self.version >= (0, 5, 18)

    @property
    def buffers_states(self) -> bool:
        """Whether prefix caching takes two more slots a request, so that batches overlap ("extra buffer")."""
        return self.version >= (0, 5, 15)

    @property
    def counts_draft(self) -> bool:
        """Whether the caches of a draft are part of the budget, with its weights."""
        return self.version >= (0, 5, 18)

    @property
    def reserves_images(self) -> bool:
        """Whether 100 MiB for embeddings of images are taken off the budget."""
        return self.version >= (0, 5, 18)

    @property
    def shares_graphs(self) -> bool:
        """Whether graphs of all batch sizes share their buffers (PR 12978)."""
        return self.version >= (0, 5, 6)

    @property
    def captures_prefill(self) -> bool:
        """Whether prefill is captured by default, which the reserve allows for."""
        return self.version >= (0, 5, 10)


def sglang_era(value: object) -> SglangEra:
    """The release that a version names; the newest where none is named.

    Raises
    ------
    InputError
        If it is no version of SGLang.

    Examples
    --------
    >>> sglang_era("0.4.6.post5").version
    (0, 4, 6, 5)
    >>> sglang_era("0.7").note
    'SGLang 0.7 is not known here; the nearest release, 0.5.23, is modelled.'
    """
    newest = ".".join(map(str, NEWEST))
    if value is None:
        return SglangEra(NEWEST)
    text = str(value).strip()
    if text.lower() in PRE_RELEASES:
        return SglangEra(
            NEWEST, "", f"SGLang {text} is taken for the newest release that is modelled, {newest}."
        )
    version = release(text, "SGLang", "0.5.23 or 0.4.6.post5")
    if version >= OLDEST and version[:3] <= NEWEST:
        return SglangEra(version, text.removeprefix("v")[:60])
    known = NEWEST if version > NEWEST else OLDEST
    named = ".".join(map(str, known))
    note = f"SGLang {text[:20]} is not known here; the nearest release, {named}, is modelled."
    return SglangEra(known, "", note)
