"""Bytes of serialized faiss indexes of small sets: writes tests/data/faiss_sizes.csv.

    python tests/oracles/faiss_sizes.py

Needs faiss-cpu and numpy. The vectors are random; sizes do not depend on them, but for the number of
inverted lists that stay empty, which is written beside.
"""

from __future__ import annotations

import csv
from pathlib import Path

import faiss
import numpy as np

OUT = Path(__file__).parent.parent / "data" / "faiss_sizes.csv"
CASES = [
    ("Flat", 64, 1000), ("Flat", 768, 100), ("Flat", 3, 0), ("Flat", 1536, 1),
    ("SQ8", 64, 1000), ("SQ4", 64, 1000), ("SQ6", 65, 1000), ("SQ4", 65, 333),
    ("SQfp16", 64, 1000),
    ("SQbf16", 96, 100), ("SQ8_direct", 64, 100), ("SQ8_direct_signed", 64, 100),
    ("PQ8", 64, 1000), ("PQ16x4", 64, 1000), ("PQ2x10", 8, 3000), ("PQ12", 192, 500), ("PQ5x6", 35, 400),
    ("HNSW16", 64, 1000), ("HNSW32", 64, 1000), ("HNSW32", 128, 5000), ("HNSW4", 16, 3000),
    ("HNSW64", 8, 200),
    ("HNSW32,Flat", 64, 1), ("HNSW48", 32, 2500),
    ("HNSW32_SQ8", 64, 1000), ("HNSW32,SQ8", 64, 1000), ("HNSW16,SQfp16", 64, 700), ("HNSW32,PQ8", 64, 1000),
    ("IVF16,Flat", 64, 1000), ("IVF100,Flat", 32, 4000), ("IVF64,Flat", 32, 64), ("IVF64,Flat", 32, 20),
    ("IVF16,SQ8", 64, 1000), ("IVF16,SQfp16", 64, 1000), ("IVF16,SQ4", 63, 1000),
    ("IVF16,PQ8", 64, 1000), ("IVF32,PQ16x4", 64, 2000), ("IVF64,PQ24", 96, 3000),
    ("IVF64_HNSW32,Flat", 32, 3000), ("IVF64_HNSW32,PQ8", 32, 3000),
    ("IDMap,Flat", 64, 1000), ("IDMap2,Flat", 64, 500), ("IDMap,SQ8", 64, 500), ("IDMap,HNSW32", 64, 500),
    ("IDMap,PQ8", 64, 1000),
    ("OPQ4,PQ4", 16, 1000), ("OPQ4_8,IVF16,PQ4", 16, 1000), ("PCA32,Flat", 64, 1000),
    ("PCAR32,SQ8", 64, 1000),
    ("L2norm,Flat", 64, 100), ("PQ8,RFlat", 64, 1000),
    ("IVF16,PQ8,RFlat", 64, 1000), ("IVF16,PQ8,Refine(SQ8)", 64, 1000),
    ("IVF16,PQ8x4fs", 64, 1000), ("PQ8x4fs", 64, 1000), ("LSH", 64, 500), ("LSH128", 64, 500),
]  # fmt: skip
"""Factory text, dimension, vectors."""


def built(factory: str, d: int, n: int, metric: int) -> faiss.Index:
    """An index of random vectors, added in two goes."""
    random = np.random.default_rng(n + d)
    index = faiss.index_factory(d, factory, metric)
    quick(index)
    if not index.is_trained:
        index.train(random.standard_normal((max(n, 2000), d), dtype=np.float32))
    for part in np.array_split(random.standard_normal((n, d), dtype=np.float32), 2):
        if len(part) and "IDMap" in factory:
            index.add_with_ids(part, np.arange(index.ntotal, index.ntotal + len(part)))
        elif len(part):
            index.add(part)
    return index


def quick(index: faiss.Index) -> None:
    """One round of each clustering is enough: it moves centroids, no sizes."""
    index = faiss.downcast_index(index)
    if hasattr(index, "do_polysemous_training"):
        index.do_polysemous_training = False
    for name in ("index", "base_index", "quantizer", "storage"):
        if getattr(index, name, None) is not None:
            quick(getattr(index, name))
    for clustering in (getattr(index, "cp", None), getattr(getattr(index, "pq", None), "cp", None)):
        if clustering is not None:
            clustering.niter = 1
    if isinstance(index, faiss.IndexPreTransform):
        for place in range(index.chain.size()):
            transform = faiss.downcast_VectorTransform(index.chain.at(place))
            if isinstance(transform, faiss.OPQMatrix):
                transform.niter = transform.niter_pq = transform.niter_pq_0 = 1


def filled(index: faiss.Index) -> int | str:
    """Inverted lists that hold something."""
    try:
        lists = faiss.extract_index_ivf(index).invlists
    except RuntimeError:
        return ""
    return sum(lists.list_size(i) > 0 for i in range(lists.nlist))


def table(index: faiss.Index) -> int | str:
    """Bytes of the table that an inverted file with a product quantizer computes; it is not stored."""
    try:
        inner = faiss.downcast_index(faiss.extract_index_ivf(index))
    except RuntimeError:
        return ""
    return 4 * inner.precomputed_table.size() if isinstance(inner, faiss.IndexIVFPQ) else ""


def main() -> None:
    with OUT.open("w", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["faiss", "factory", "metric", "d", "n", "filled_lists", "bytes", "table_bytes"])
        for factory, d, n in CASES:
            for name, metric in (("l2", faiss.METRIC_L2), ("ip", faiss.METRIC_INNER_PRODUCT)):
                try:
                    print(factory, d, n, name, flush=True)
                    index = built(factory, d, n, metric)
                    size = len(faiss.serialize_index(index))
                except RuntimeError as error:
                    print(factory, d, n, name, str(error)[-80:])
                    continue
                stream.flush()
                writer.writerow([faiss.__version__, factory, name, d, n, filled(index), size, table(index)])


if __name__ == "__main__":
    main()
