"""Vector stores: the leaf formulas."""

from __future__ import annotations

from llmcalc.formula import Quantity, ceil_div, formula, larger


@formula
def vector_bytes(vectors: Quantity, dim: Quantity, bits: Quantity) -> Quantity:
    """Bytes of vectors whose every component takes the same number of bits.

    Parameters
    ----------
    vectors : int or ndarray
        Vectors. [-]
    dim : int or ndarray
        Components of one vector. [-]
    bits : int or ndarray
        Bits of a component: 32 for fp32, 16 for fp16, 8, 6 or 4 for a scalar quantizer, 1 for binary. [bit]

    Returns
    -------
    int or ndarray of int64
        Bytes; each vector is rounded up to whole bytes. [B]

    Notes
    -----
    Codes alone: ranges of a scalar quantizer, headers and graphs are counted apart.

    Examples
    --------
    A million vectors of 768 fp32 components take 3.07 GB, in 8 bits a quarter:

    >>> vector_bytes(1_000_000, 768, 32), vector_bytes(1_000_000, 768, 8)
    (3072000000, 768000000)

    References
    ----------
    .. [1] faiss wiki, "Faiss indexes": 4*d bytes per vector for IndexFlat, d for SQ8, 2*d for SQfp16.
    """
    return vectors * ceil_div(dim * bits, 8)


@formula
def pq_code_bytes(vectors: Quantity, subvectors: Quantity, bits: Quantity) -> Quantity:
    """Bytes of the codes of a product quantizer.

    Parameters
    ----------
    vectors : int or ndarray
        Vectors. [-]
    subvectors : int or ndarray
        Parts that a vector is cut into, M. [-]
    bits : int or ndarray
        Bits of the code of one part. [bit]

    Returns
    -------
    int or ndarray of int64
        Bytes; each code is rounded up to whole bytes. [B]

    Examples
    --------
    64-bit codes: SIFT vectors of 128 components in 8 parts of 8 bits take 8 bytes, 512 in fp32:

    >>> pq_code_bytes(1, 8, 8), vector_bytes(1, 128, 32)
    (8, 512)

    References
    ----------
    .. [1] H. Jegou, M. Douze, C. Schmid, "Product Quantization for Nearest Neighbor Search", 2011,
       section 2.2.
    """
    return vectors * ceil_div(subvectors * bits, 8)


@formula
def pq_codebook_bytes(dim: Quantity, bits: Quantity) -> Quantity:
    """Bytes of the centroids of a product quantizer, in fp32.

    Parameters
    ----------
    dim : int or ndarray
        Components of a vector. [-]
    bits : int or ndarray
        Bits of the code of one part. [bit]

    Returns
    -------
    int or ndarray of int64
        Bytes: 2^bits centroids for each part, whatever the number of parts. [B]

    Examples
    --------
    >>> pq_codebook_bytes(128, 8)
    131072

    References
    ----------
    .. [1] H. Jegou, M. Douze, C. Schmid, "Product Quantization for Nearest Neighbor Search", 2011, Table I:
       k* x D values for the codebooks.
    """
    return 4 * dim * 2**bits


@formula
def hnsw_links(vectors: Quantity, m: Quantity) -> Quantity:
    """Places for links in an HNSW graph, expected: 2 M on the ground level, M on each above.

    Parameters
    ----------
    vectors : int or ndarray
        Vectors. [-]
    m : int or ndarray
        Links of a vector on a level, M. [-]

    Returns
    -------
    float or ndarray
        Links over all vectors. [-]

    Notes
    -----
    A vector reaches each next level with a chance of 1 in M, so it has 1 / (M - 1) levels above the ground
    on average. Needs M of 2 or more.

    Examples
    --------
    M = 32: 64 links on the ground and 1.03 above:

    >>> round(hnsw_links(1, 32), 3)
    65.032

    References
    ----------
    .. [1] Y. Malkov, D. Yashunin, "Efficient and robust approximate nearest neighbor search using
       Hierarchical Navigable Small World graphs", 2018, sections 4.1 (mL = 1/ln M, Mmax0 = 2 M) and 4.2.3.
    """
    return 2 * m * vectors + vectors * m / (m - 1)


@formula
def precomputed_table_bytes(lists: Quantity, subvectors: Quantity, bits: Quantity) -> Quantity:
    """Bytes of the table that faiss computes for an IVF index with a product quantizer: memory, no disk.

    Parameters
    ----------
    lists : int or ndarray
        Inverted lists. [-]
    subvectors : int or ndarray
        Parts that a vector is cut into, M. [-]
    bits : int or ndarray
        Bits of the code of one part. [bit]

    Returns
    -------
    int or ndarray of int64
        Bytes. [B]

    Notes
    -----
    For the L2 metric with residuals, which is the default; above 2^31 bytes faiss does without.

    Examples
    --------
    >>> precomputed_table_bytes(4096, 64, 8) / 2**20
    256.0

    References
    ----------
    .. [1] faiss, IndexIVFPQ.cpp, initialize_IVFPQ_precomputed_table and precomputed_table_max_bytes.
    """
    return 4 * lists * subvectors * 2**bits


@formula
def chunks_of_document(tokens: Quantity, chunk: Quantity, overlap: Quantity) -> Quantity:
    """Chunks that a document is cut into, each repeating the end of the one before.

    Parameters
    ----------
    tokens : int or ndarray
        Tokens of the document. [tokens]
    chunk : int or ndarray
        Tokens of a chunk. [tokens]
    overlap : int or ndarray
        Tokens that neighbours share. [tokens]

    Returns
    -------
    int or ndarray of int64
        Chunks, at least one. [-]

    Examples
    --------
    10,000 tokens in chunks of 512 with 64 in common:

    >>> chunks_of_document(10_000, 512, 64)
    23

    References
    ----------
    .. [1] The first chunk covers `chunk` tokens, each later one `chunk` - `overlap` more.
    """
    return larger(ceil_div(tokens - overlap, chunk - overlap), 1)
