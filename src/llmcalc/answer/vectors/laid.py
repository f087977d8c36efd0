"""The parts of an index, and how many vectors fit."""

from __future__ import annotations

from typing import Any

from llmcalc.answer.vectors.asked import MOST_VECTORS, Wanted
from llmcalc.estimate import worst_grade
from llmcalc.memory.vectors import pgvector
from llmcalc.memory.vectors.faiss import Index
from llmcalc.memory.vectors.parts import Part

SOURCES = {
    "faiss": "faiss 1.15.1, faiss/impl/index_write.cpp, write_index",
    "pgvector": "pgvector 0.8.6, src/hnsw.h, hnswbuild.c, ivfflat.h, ivfbuild.c; PostgreSQL 16 pages "
    "of 8 KiB",
}


def factory(kind: str, wanted: Wanted) -> str:
    """The factory text of a named index of faiss."""
    product = f"PQ{wanted.pq}" + ("" if wanted.bits == 8 else f"x{wanted.bits}")
    text = {
        "flat": "Flat",
        "fp16": "SQfp16",
        "sq8": "SQ8",
        "pq": product,
        "hnsw": f"HNSW{wanted.m},Flat",
        "hnsw-sq8": f"HNSW{wanted.m},SQ8",
        "ivf-flat": f"IVF{wanted.lists},Flat",
        "ivf-sq8": f"IVF{wanted.lists},SQ8",
        "ivf-pq": f"IVF{wanted.lists},{product}",
    }.get(kind, kind)
    plain = wanted.ids and not text.startswith(("IDMap", "IVF"))
    return f"IDMap,{text}" if plain else text


def layout(kind: str, wanted: Wanted, vectors: int | None = None) -> list[Part]:
    """The parts of an index of so many vectors, documents with it.

    Raises
    ------
    InputError
        If the store would refuse it.
    """
    n = wanted.vectors if vectors is None else vectors
    if wanted.store == "faiss":
        parts = Index(factory(kind, wanted)).parts(n, wanted.dim, wanted.metric)
        size = n * (wanted.text + wanted.metadata)
        if size:
            note = f"{wanted.text + wanted.metadata:,} B a vector, uncompressed, in a store of your own"
            parts.append(Part("documents", size if wanted.in_memory else 0, size, note, "assumed"))
        return parts
    parts = pgvector.table_parts(n, pgvector.value_bytes(wanted.dim, wanted.dtype), "table")
    if kind == "none":
        pgvector.check_type(wanted.dim)
    else:
        made = (
            pgvector.hnsw_part(n, wanted.dim, wanted.dtype, wanted.m)
            if kind == "hnsw"
            else pgvector.ivfflat_part(n, wanted.dim, wanted.dtype, wanted.lists)
        )
        for part in parts:  # a search reads the index and a few rows
            part.memory = 0
        parts.insert(0, made)
    if wanted.text + wanted.metadata:
        for part in pgvector.table_parts(n, 4 + wanted.text + wanted.metadata, "documents", "assumed"):
            part.memory = 0
            part.name = part.name if part.name.startswith("documents") else f"documents, {part.name}"
            parts.append(part)
    return parts


def row_of(kind: str, parts: list[Part], wanted: Wanted, memory: int | None) -> dict[str, Any]:
    """One index as data."""
    total, disk, spread = (
        sum(p.memory for p in parts),
        sum(p.disk for p in parts),
        sum(p.spread for p in parts),
    )
    own = [part for part in parts if not part.name.startswith("documents")]
    row: dict[str, Any] = {
        "index": kind,
        "factory": factory(kind, wanted) if wanted.store == "faiss" else None,
        "total_bytes": total,
        "range_bytes": [total - min(spread, total), total + spread],
        "growing_bytes": total + sum(p.memory for p in parts if p.grows) if wanted.store == "faiss" else None,
        "disk_bytes": disk,
        "index_file_bytes": sum(part.disk for part in own),
        "bytes_per_vector": total / wanted.vectors if wanted.vectors else 0.0,
        "grade": worst_grade(part.grade for part in parts if part.memory),
        "disk_grade": worst_grade(part.grade for part in parts if part.disk),
        "most_vectors": None if memory is None else _most(kind, wanted, memory),
        "items": [
            {
                "name": p.name,
                "memory_bytes": p.memory,
                "disk_bytes": p.disk,
                "grade": p.grade,
                "note": p.note,
                "formula": p.formula or None,
                "inputs": p.inputs,
                "range_bytes": [p.memory - p.spread, p.memory + p.spread],
                "source": SOURCES[wanted.store],
            }
            for p in parts
        ],
    }
    return row


def _most(kind: str, wanted: Wanted, memory: int) -> int:
    """The most vectors whose index surely fits."""

    def fits(n: int) -> bool:
        return sum(part.memory + part.spread for part in layout(kind, wanted, n)) <= memory

    if not fits(1):
        return 0
    low, high = 1, 2
    while high < MOST_VECTORS and fits(high):
        low, high = high, 2 * high
    while high - low > 1 and high - low > low // 10**6:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low
