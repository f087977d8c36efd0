"""What is to be stored: vectors, their width, the store and its settings, read and checked."""

from __future__ import annotations

import math
from typing import Any

from llmcalc.errors import InputError, Problems, did_you_mean
from llmcalc.memory.vectors import pgvector
from llmcalc.memory.vectors.faiss import Index
from llmcalc.memory.vectors.formulas import chunks_of_document
from llmcalc.units import DECIMAL, parse_bytes, parse_whole, shown

STORES = ("faiss", "pgvector")
METRICS = {"l2": "l2", "ip": "ip", "cosine": "ip"}
USUAL = {
    "faiss": ("flat", "fp16", "sq8", "pq", "hnsw", "hnsw-sq8", "ivf-flat", "ivf-sq8", "ivf-pq"),
    "pgvector": ("none", "hnsw", "ivfflat"),
}
"""Kinds of index that have a name."""

MOST_VECTORS = 10**13
SUBVECTOR = 4
"""Components of a part of a product quantizer, where nothing is said. [-]"""


class Wanted:
    """What is to be stored."""

    __slots__ = (
        "bits",
        "dim",
        "dtype",
        "ids",
        "in_memory",
        "lists",
        "m",
        "metadata",
        "metric",
        "origins",
        "pq",
        "store",
        "text",
        "vectors",
    )

    def __init__(self) -> None:
        self.vectors = self.dim = self.m = self.lists = self.pq = self.text = self.metadata = 0
        self.bits, self.dtype, self.metric, self.store = 8, "fp32", "l2", "faiss"
        self.ids = self.in_memory = False
        self.origins: dict[str, str] = {}

    def scenario(self) -> dict[str, Any]:
        """Every input as resolved."""
        return {
            "store": self.store,
            "vectors": self.vectors,
            "dim": self.dim,
            "dtype": self.dtype,
            "metric": self.metric,
            "m": self.m,
            "lists": self.lists,
            "pq": self.pq,
            "pq_bits": self.bits,
            "ids": self.ids,
            "text_bytes": self.text,
            "metadata_bytes": self.metadata,
            "documents_in": "memory" if self.in_memory else "disk",
        }


def _else(given: dict[str, Any], name: str, usual: str) -> Any:
    return usual if given.get(name) is None else given[name]


def _whole(given: dict[str, Any], name: str, problems: Problems, most: int = MOST_VECTORS) -> int | None:
    value = given.get(name)
    if value is None:
        return None
    found: int | None = None
    with problems:
        found = parse_whole(value, f"--{name.replace('_', '-')}", DECIMAL, "1m, 250k or 1536", most)
    return found


def read(given: dict[str, Any]) -> Wanted:
    """Read the keywords, telling all mistakes together.

    Raises
    ------
    InputError
        With every mistake.
    """
    wanted, problems = Wanted(), Problems()
    with problems:
        wanted.store = _choice(_else(given, "store", "faiss"), STORES, "--store")
    with problems:
        wanted.metric = METRICS[_choice(_else(given, "metric", "l2"), tuple(METRICS), "--metric")]
    with problems:
        wanted.dtype = _dtype(given.get("dtype"), wanted.store)
    dim = _whole(given, "dim", problems, 1 << 20)
    for name in ("m", "lists", "pq", "pq_bits"):
        found = _whole(given, name, problems, 1 << 40)
        if found is not None:
            setattr(wanted, "bits" if name == "pq_bits" else name, found)
            wanted.origins[name] = "given"
    for name in ("text_bytes", "metadata_bytes"):
        if given.get(name) is not None:
            with problems:
                setattr(
                    wanted,
                    name.removesuffix("_bytes"),
                    parse_bytes(given[name], f"--{name.replace('_', '-')}"),
                )
    with problems:
        wanted.in_memory = (
            _choice(_else(given, "documents_in", "disk"), ("disk", "memory"), "--documents-in") == "memory"
        )
    with problems:
        if dim is None and given.get("dim") is None:
            raise InputError(
                "The vectors have no dimension.", "Give --dim 1536, the width of your embeddings."
            )
    vectors = _vectors(given, problems)
    problems.check()
    wanted.vectors, wanted.dim, wanted.ids = vectors or 0, dim or 0, bool(given.get("ids"))
    if wanted.in_memory and not (wanted.text or wanted.metadata):
        raise InputError(
            "--documents-in has no documents.", "Give --text-bytes or --metadata-bytes of a vector."
        )
    if wanted.in_memory and wanted.store == "pgvector":
        raise InputError("pgvector keeps documents in tables.", "Leave --documents-in out.")
    if wanted.ids and wanted.store == "pgvector":
        raise InputError("--ids is faiss's IDMap; pgvector's rows have keys.", "Leave --ids out.")
    _defaults(wanted)
    return wanted


def _vectors(given: dict[str, Any], problems: Problems) -> int | None:
    """Vectors, or documents times their chunks."""
    vectors, documents = _whole(given, "vectors", problems), _whole(given, "documents", problems)
    chunks = _whole(given, "chunks", problems, 10**9)
    tokens, chunk = _whole(given, "document_tokens", problems), _whole(given, "chunk_tokens", problems)
    overlap: int | None = None
    if str(given.get("overlap")) not in ("None", "0"):
        overlap = _whole(given, "overlap", problems)
    if problems.found:
        return None
    with problems:
        if vectors is not None and documents is not None and vectors != documents * (chunks or 0):
            raise InputError(
                "--vectors and --documents contradict each other.",
                "Give --vectors alone, or --documents and --chunks.",
            )
        if vectors is not None:
            return vectors
        if documents is None:
            raise InputError(
                "There is nothing to store.", "Give --vectors 1m, or --documents 100k --chunks 12."
            )
        if chunks is not None and tokens is not None:
            raise InputError(
                "--chunks and --document-tokens both say how many chunks a document has.", "Give one."
            )
        if chunks is not None:
            return documents * chunks
        if tokens is None:
            return documents
        if chunk is None:
            raise InputError("--document-tokens needs the size of a chunk.", "Add --chunk-tokens 512.")
        if overlap is not None and overlap >= chunk:
            raise InputError(
                f"--overlap {overlap:,} leaves nothing new in chunks of {chunk:,}.",
                "Use less, such as an eighth.",
            )
        return documents * int(chunks_of_document(tokens, chunk, overlap or 0))
    return None


def _choice(value: Any, allowed: tuple[str, ...], what: str) -> str:
    folded = str(value).strip().lower()
    if folded in allowed:
        return folded
    near = did_you_mean(folded, allowed, 1)
    hint = f"Did you mean {near[0]}? " if near else ""
    raise InputError(f"{what} {shown(value)} is not known.", f"{hint}Use {', '.join(allowed)}.")


def _dtype(value: Any, store: str) -> str:
    if value is None:
        return "fp32"
    named = {
        "float32": "fp32",
        "float": "fp32",
        "vector": "fp32",
        "float16": "fp16",
        "halfvec": "fp16",
        "half": "fp16",
        "bit": "binary",
        "1bit": "binary",
    }
    folded = _choice(named.get(str(value).lower(), value), tuple(pgvector.TYPES), "--dtype")
    if store == "faiss" and folded != "fp32":
        raise InputError(
            f"--dtype {folded} is for pgvector: faiss takes fp32 and codes it by the index.",
            "Use --index fp16 or --index sq8, or --store pgvector.",
        )
    return folded


def _defaults(wanted: Wanted) -> None:
    """Settings that were not given, as the stores and their guides have them."""
    n = wanted.vectors
    if not wanted.m:
        wanted.m = 32 if wanted.store == "faiss" else 16
        wanted.origins["m"] = "the store's default"
    if not wanted.lists:
        if wanted.store == "faiss":
            wanted.lists = max(1, round(4 * math.sqrt(n)))
            wanted.origins["lists"] = (
                "4 x the root of the vectors, the least that faiss's guide names (assumed)"
            )
        else:
            wanted.lists = min(max(1, n // 1000 if n <= 10**6 else round(math.sqrt(n))), 32_768)
            wanted.origins["lists"] = "pgvector's README: rows / 1000, above 1 M their root (assumed)"
    if not wanted.pq:
        wanted.pq = max(
            part
            for part in range(1, wanted.dim + 1)
            if wanted.dim % part == 0 and (part <= wanted.dim // SUBVECTOR or part == 1)
        )
        wanted.origins["pq"] = f"{wanted.dim // wanted.pq:,} components a part (assumed)"


def kinds_of(value: Any, wanted: Wanted) -> list[str]:
    """Names of indexes, or factory texts."""
    usual = USUAL[wanted.store]
    if value is None:
        return list(usual)
    listed = (
        [value]
        if isinstance(value, str)
        else list(value)
        if isinstance(value, (list, tuple))
        else [str(value)]
    )
    found, problems = [], Problems()
    for one in listed:
        with problems:
            text = str(one).strip()
            folded = text.lower().replace("_", "-")
            folded = {"ivf": "ivf-flat", "ivfpq": "ivf-pq", "sqfp16": "fp16", "exact": usual[0]}.get(
                folded, folded
            )
            if folded in usual:
                found.append(folded)
            elif wanted.store == "faiss" and text[:1].isupper():
                Index(text)
                found.append(text)
            else:
                near = did_you_mean(folded, usual, 1)
                hint = f"Did you mean {near[0]}? " if near else ""
                more = (
                    ", or a text of faiss.index_factory such as IVF4096,PQ64"
                    if wanted.store == "faiss"
                    else ""
                )
                raise InputError(
                    f"--index {shown(text)} is no index of {wanted.store} that llmcalc knows.",
                    f"{hint}Use {', '.join(usual)}{more}.",
                )
    problems.check()
    if not found:
        raise InputError("--index names nothing.", f"Use {', '.join(usual)}.")
    return list(dict.fromkeys(found))
