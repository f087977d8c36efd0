"""`llmcalc.index`: memory and disk of embeddings for retrieval."""

from __future__ import annotations

from typing import Any

from llmcalc.answer.vectors.question import answer
from llmcalc.catalog import Catalog
from llmcalc.report.call import Call
from llmcalc.report.sheet import Sheet


def index(
    *,
    vectors: Any = None,
    dim: Any = None,
    index: Any = None,
    documents: Any = None,
    chunks: Any = None,
    document_tokens: Any = None,
    chunk_tokens: Any = None,
    overlap: Any = None,
    store: str | None = None,
    dtype: str | None = None,
    metric: str | None = None,
    m: Any = None,
    lists: Any = None,
    pq: Any = None,
    pq_bits: Any = None,
    ids: bool = False,
    text_bytes: Any = None,
    metadata_bytes: Any = None,
    documents_in: str | None = None,
    memory: Any = None,
) -> Sheet:
    """Memory and disk of a vector store, as faiss and pgvector lay it out.

    Parameters
    ----------
    vectors : int or str, optional
        Vectors: ``1m`` is decimal. [-]
    dim : int
        Components of a vector. [-]
    index : str or sequence of str, optional
        ``flat``, ``fp16``, ``sq8``, ``pq``, ``hnsw``, ``hnsw-sq8``, ``ivf-flat``, ``ivf-sq8``, ``ivf-pq``, or
        a text of `faiss.index_factory` such as ``IVF4096,PQ64``; of pgvector ``none``, ``hnsw``,
        ``ivfflat``. All, if left out.
    documents, chunks : int or str, optional
        Instead of vectors: documents, and chunks of each (1). [-]
    document_tokens, chunk_tokens, overlap : int or str, optional
        Instead of chunks: tokens of a document, of a chunk, and what neighbours share. [tokens]
    store : str, optional
        ``faiss`` (the default) or ``pgvector``.
    dtype : str, optional
        Of pgvector: ``fp32`` (vector), ``fp16`` (halfvec) or ``binary`` (bit).
    metric : str, optional
        ``l2`` (the default), ``ip`` or ``cosine``.
    m : int, optional
        Links of an HNSW graph; 32 in faiss, 16 in pgvector. [-]
    lists : int, optional
        Lists of an inverted file. [-]
    pq, pq_bits : int, optional
        Parts of a product quantizer and bits of each. [-], [bit]
    ids : bool
        Whether faiss keeps ids of your own (IDMap).
    text_bytes, metadata_bytes : int or str, optional
        Kept beside each vector. [B]
    documents_in : str, optional
        ``disk`` (the default) or ``memory``, for faiss.
    memory : int or str, optional
        How many vectors fit into this. [B]

    Returns
    -------
    Sheet
        ``indexes``, one for each index, with ``total_bytes`` (memory), ``disk_bytes``, ``items``; of a single
        index these are attributes as well.

    Raises
    ------
    LlmcalcError
        With every mistake and its remedy.

    Examples
    --------
    A million vectors of 768 components, plain, as `faiss.write_index` stores them:

    >>> index(vectors="1m", dim=768, index="flat").disk_bytes
    3072000045

    pgvector's hnsw of 1536 components holds one vector on a page of 8 KiB:

    >>> index(vectors=500, dim=1536, index="hnsw", store="pgvector").total_bytes / 8192
    501.0
    """
    given = dict(locals())
    sheet = answer(given)
    sheet.sign(Call("index", given), Catalog.shipped(), "formats")
    return sheet
