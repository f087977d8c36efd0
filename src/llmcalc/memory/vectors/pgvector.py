"""pgvector: pages of the table, of its TOAST table, and of hnsw and ivfflat indexes, in PostgreSQL's pages.

Sizes of tuples are those of the structs in pgvector's hnsw.h and ivfflat.h (the same from 0.5 to 0.8), pages
are filled as CreateGraphPages in hnswbuild.c and InsertTuples in ivfbuild.c do it; heap, TOAST and B-tree are
PostgreSQL's.
"""

from __future__ import annotations

import math
from collections import defaultdict

from llmcalc.errors import InputError
from llmcalc.formula import Quantity, ceil_div, formula, larger
from llmcalc.memory.vectors.parts import Part

PAGE = 8192
HEAP_ROOM = PAGE - 24
INDEX_ROOM = PAGE - 24 - 8
ROW_HEAD, LINE = 24, 4
TOAST_LIMIT, CHUNK, POINTER = 2032, 1996, 18
LEAF_FULL, LEAF_USUAL, INNER_USUAL = 407, 366, 284
"""Keys of 8 bytes on a B-tree page: full; as insertion in order leaves a leaf (90 %), an inner one "
"(70 %). [-]"""

TYPES = {"fp32": ("vector", 32, 2000), "fp16": ("halfvec", 16, 4000), "binary": ("bit", 1, 64_000)}
"""Type, bits of a component, most components of an index. [-], [bit], [-]"""

TRIED = 512
"""Values that are laid into TOAST pages one by one. [-]"""


@formula
def hnsw_tuples_bytes(value: Quantity, m: Quantity, level: Quantity) -> Quantity:
    """Bytes of a vector and its links in an hnsw index of pgvector, with their two line pointers.

    Parameters
    ----------
    value : int or ndarray
        Bytes of the vector as a value: 8 + 4 d for vector, 8 + 2 d for halfvec. [B]
    m : int or ndarray
        Links of a level, m. [-]
    level : int or ndarray
        Its highest level, 0 for most. [-]

    Returns
    -------
    int or ndarray of int64
        Bytes of a page that it takes. [B]

    Notes
    -----
    72 bytes before the vector, 4 before the links, 6 for a link, each tuple aligned to 8, and a line pointer
    of 4. Both go on one page of 8,160 usable bytes where they fit.

    Examples
    --------
    1536 components in fp32 with m = 16: one on each page of 8 KiB:

    >>> hnsw_tuples_bytes(8 + 4 * 1536, 16, 0)
    6432

    References
    ----------
    .. [1] pgvector 0.8, src/hnsw.h, HNSW_ELEMENT_TUPLE_SIZE and HNSW_NEIGHBOR_TUPLE_SIZE.
    """
    return 8 * ceil_div(72 + value, 8) + 8 * ceil_div(4 + 6 * m * (level + 2), 8) + 8


@formula
def ivfflat_pages(vectors: Quantity, lists: Quantity, on_page: Quantity) -> Quantity:
    """Pages of the vectors of an ivfflat index: each list begins a page, so half a page is empty at its end.

    Parameters
    ----------
    vectors : int or ndarray
        Vectors. [-]
    lists : int or ndarray
        Lists. [-]
    on_page : int or ndarray
        Vectors of a page. [-]

    Returns
    -------
    int or ndarray of int64
        Pages, expected. [-]

    Notes
    -----
    For lists of many pages or of different lengths; at least a page a list. It may lie half a page a list
    above or below.

    Examples
    --------
    >>> ivfflat_pages(1_000_000, 1000, 1)
    1000500

    References
    ----------
    .. [1] pgvector 0.8, src/ivfbuild.c, InsertTuples.
    """
    return larger(ceil_div(vectors, on_page) + lists // 2, lists)


def value_bytes(dim: int, dtype: str) -> int:
    """Bytes of a vector as PostgreSQL passes it: length, dimension, components. [B]

    Examples
    --------
    >>> value_bytes(1536, "fp32"), value_bytes(1536, "fp16")
    (6152, 3080)
    """
    return 8 + int(ceil_div(dim * TYPES[dtype][1], 8))


def _aligned(size: int) -> int:
    return -(-size // 8) * 8


def _inline(value: int) -> int:
    """In a row: values of up to 126 bytes have a length of one byte."""
    return value - 3 if value - 3 <= 127 else value


def btree_pages(keys: int) -> int:
    """Pages of a B-tree over 8-byte keys that were inserted in order, the metapage with them. [-]

    Examples
    --------
    >>> btree_pages(20_000)
    57
    """
    pages, level, usual = 1, max(keys, 1), LEAF_USUAL
    while True:
        level = 1 if level <= LEAF_FULL else 1 + -(-(level - LEAF_FULL) // usual)
        pages, usual = pages + level, INNER_USUAL
        if level == 1:
            return pages


def table_parts(rows: int, value: int, what: str, grade: str = "exact") -> list[Part]:
    """A table of an 8-byte key and one value: its pages, those of TOAST for a long value, the key's index."""
    row = ROW_HEAD + 8 + _inline(value)
    pages, toasted = 0, row > TOAST_LIMIT
    if toasted:
        row = ROW_HEAD + 8 + POINTER
    on_page = HEAP_ROOM // (_aligned(row) + LINE)
    pages = -(-rows // on_page)
    found = [
        Part(what, PAGE * pages, PAGE * pages, f"{pages:,} pages of {on_page} rows", grade),
        Part("primary key", PAGE * btree_pages(rows), PAGE * btree_pages(rows), "a B-tree of 8-byte keys"),
    ]
    if toasted:
        chunks = -(-(value - 4) // CHUNK)
        exact = rows <= TRIED
        stored = toast_pages(rows, value - 4)
        index = btree_pages(rows * chunks)
        found += [
            Part(
                f"{what}, TOAST",
                PAGE * stored,
                PAGE * stored,
                f"values of {value - 4:,} B in {chunks} pieces of up to {CHUNK:,}",
                grade if exact else "derived" if grade == "exact" else grade,
            ),
            Part("TOAST index", PAGE * index, PAGE * index, f"{chunks} keys a value"),
        ]
    return found


def toast_pages(values: int, size: int) -> int:
    """Pages of the pieces of equal values, laid one after another into the page in hand or one with room. [-]

    Examples
    --------
    >>> toast_pages(500, 8 + 4 * 1536 - 4), toast_pages(300, 8 + 4 * 2000 - 4)
    (500, 303)
    """
    full, rest = divmod(size, CHUNK)
    pieces = [_aligned(36 + CHUNK) + LINE] * full + ([_aligned(36 + rest) + LINE] if rest else [])
    half = _laid(pieces, TRIED // 2) if values > TRIED else 0
    tried = _laid(pieces, min(values, TRIED))
    if values <= TRIED:
        return tried
    return tried + -(-(values - TRIED) * (tried - half) // (TRIED // 2))


def _laid(pieces: list[int], values: int) -> int:
    pages, room = 1, HEAP_ROOM
    open_pages: dict[int, int] = defaultdict(int)
    for _ in range(values):
        for piece in pieces:
            if piece > room:
                open_pages[room] += 1
                fitting = [free for free, count in open_pages.items() if count and free >= piece]
                if fitting:
                    room = min(fitting)
                    open_pages[room] -= 1
                else:
                    pages, room = pages + 1, HEAP_ROOM
            room -= piece
    return pages if values else 0


def hnsw_part(vectors: int, dim: int, dtype: str, m: int) -> Part:
    """An hnsw index.

    Raises
    ------
    InputError
        For an m that pgvector refuses, or too many components.
    """
    value = value_bytes(dim, dtype)
    _check(dim, dtype)
    if not 2 <= m <= 100:
        raise InputError(f"pgvector's hnsw takes m from 2 to 100, not {m}.", "Use --m 16, its default.")
    alone = hnsw_tuples_bytes(value, m, 0)
    if alone - LINE > INDEX_ROOM - LINE:
        pages = 1 + 2 * vectors
        note = "a page for each vector, one for its links"
        return Part("hnsw index", PAGE * pages, PAGE * pages, note)
    on_page = _on_page([hnsw_tuples_bytes(value, m, level) for level in range(6)], m)
    pages = 1 + max(1, math.ceil(vectors / on_page - 1e-9))
    size = PAGE * pages
    most = INDEX_ROOM // alone
    least = on_page < most - 1e-9
    spread = round(size * 0.015) if least and vectors > most else 0
    note = f"{alone:,} B each with {2 * m} links, {on_page:.4g} on a page of 8 KiB"
    return Part(
        "hnsw index",
        size,
        size,
        note,
        "derived",
        "hnsw_tuples_bytes",
        {"value": value, "m": m, "level": 0},
        spread,
    )


def _on_page(sizes: list[int], m: int) -> float:
    """Vectors that fit a page on average, for a level has a chance of 1 in m of another above."""
    chances = [(1 - 1 / m) / m**level for level in range(len(sizes))]
    first, mean = list(chances), 0.0
    for _ in range(3):  # what did not fit begins the next page, and is more often large
        held: dict[int, float] = defaultdict(float)
        next_first, mean = [0.0] * len(sizes), 1.0
        for size, chance in zip(sizes, first, strict=True):
            held[size] += chance
        while held:
            grown: dict[int, float] = defaultdict(float)
            for total, weight in held.items():
                for level, size in enumerate(sizes):
                    if total + size <= INDEX_ROOM:
                        grown[total + size] += weight * chances[level]
                    else:
                        next_first[level] += weight * chances[level]
            mean += sum(grown.values())
            held = {total: weight for total, weight in grown.items() if weight > 1e-9}
        whole = sum(next_first)
        first = [one / whole for one in next_first]
    return mean


def ivfflat_part(vectors: int, dim: int, dtype: str, lists: int) -> Part:
    """An ivfflat index.

    Raises
    ------
    InputError
        For lists that pgvector refuses, or too many components.
    """
    _check(dim, dtype)
    if not 1 <= lists <= 32_768:
        raise InputError(f"pgvector's ivfflat takes 1 to 32,768 lists, not {lists:,}.", "Use --lists 1000.")
    value = value_bytes(dim, dtype)
    centre = INDEX_ROOM // (_aligned(8 + value) + LINE)
    on_page = INDEX_ROOM // (_aligned(8 + _inline(value)) + LINE)
    rows = 1 if vectors <= lists and on_page > 1 else 0
    held = lists if rows else ivfflat_pages(vectors, lists, on_page)
    if on_page == 1:
        held = max(vectors, lists)
    pages = 1 + -(-lists // centre) + held
    spread = 0 if on_page == 1 else PAGE * min(lists // 2, held // 2)
    note = f"{on_page} vectors on a page, {lists:,} lists"
    return Part(
        "ivfflat index",
        PAGE * pages,
        PAGE * pages,
        note,
        "derived",
        "ivfflat_pages",
        {"vectors": vectors, "lists": lists, "on_page": on_page},
        spread,
    )


def check_type(dim: int) -> None:
    """Refuse vectors that the type can't hold.

    Raises
    ------
    InputError
        Above 16,000 components.
    """
    if dim > 16_000:
        raise InputError(f"pgvector's vectors have up to 16,000 components, not {dim:,}.", "Use fewer.")


def _check(dim: int, dtype: str) -> None:
    name, _, most = TYPES[dtype]
    if dim > most:
        larger_type = next((key for key, one in TYPES.items() if one[2] >= dim), None)
        told = f"Use --dtype {larger_type}, or fewer components." if larger_type else "Use fewer components."
        raise InputError(f"pgvector indexes a {name} of up to {most:,} components, not {dim:,}.", told)
