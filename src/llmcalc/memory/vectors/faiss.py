"""faiss: an index by its factory text, and the bytes of each part as `faiss.write_index` stores it.

The text is what `faiss.index_factory` takes: ``Flat``, ``SQ8``, ``PQ64``, ``HNSW32,Flat``, ``IVF4096,PQ64``,
``IVF65536_HNSW32,SQ8``, with ``IDMap,``, ``OPQ64,``, ``PCA256,`` or ``L2norm,`` before it, and ``,RFlat`` or
``,Refine(SQ8)`` behind it.
"""

from __future__ import annotations

import math
import re

from llmcalc.errors import InputError
from llmcalc.memory.vectors.formulas import (
    hnsw_links,
    pq_code_bytes,
    pq_codebook_bytes,
    precomputed_table_bytes,
    vector_bytes,
)
from llmcalc.memory.vectors.levels import EXACT, chances, links
from llmcalc.memory.vectors.parts import Part

HEAD = 37
"""Four letters of the kind, dimension, vectors, two idle words, trained, metric. [B]"""

WORD = 8
SCALAR = {"4": (4, 2), "6": (6, 2), "8": (8, 2), "fp16": (16, 0), "bf16": (16, 0), "8_direct": (8, 0),
          "8_direct_signed": (8, 0)}  # fmt: skip
"""Scalar quantizers: bits of a component, and fp32 numbers that training finds for each."""

TABLE_LIMIT = 1 << 31
"""Bytes above which faiss computes no table. [B]"""

MOST_LISTS, MOST_NODES = 1 << 30, (1 << 31) - 1
"""Lists that somebody may want; vectors that a graph of faiss can number. [-]"""

RECORD = 200
"""Of an inverted list in memory beside what it holds; 4,096 lists that were loaded took 220 each more than
their file, on x86-64 Linux. [B]"""

FULL = 10
"""Vectors a list above which hardly half of the lists stay empty. [-]"""

KNOWN = "Flat, SQ8, SQfp16, PQ64, HNSW32,Flat, IVF4096,Flat or IVF4096,PQ64"


class Codes:
    """How one vector is coded: plain, by a scalar quantizer or by a product quantizer."""

    __slots__ = ("bits", "fast", "kind", "m", "text")

    def __init__(self, text: str) -> None:
        self.text, self.fast = text, False
        self.m = self.bits = 0
        product = re.fullmatch(r"PQ(\d+)(?:x(\d+))?(fs)?(np)?", text)
        scalar = re.fullmatch(r"SQ(\w+)", text)
        if text == "Flat":
            self.kind, self.bits = "flat", 32
        elif scalar and scalar[1] in SCALAR:
            self.kind, self.bits = "sq", SCALAR[scalar[1]][0]
        elif product:
            self.kind, self.m = "pq", int(product[1])
            self.bits, self.fast = int(product[2] or 8), bool(product[3])
        else:
            raise InputError(
                f"{text[:40]!r} is no code of faiss that llmcalc knows.",
                f"Use Flat, {', '.join(f'SQ{name}' for name in SCALAR)} or PQ64, PQ64x4.",
            )

    def check(self, dim: int) -> None:
        """Refuse what faiss refuses.

        Raises
        ------
        InputError
            For parts that do not divide the dimension, and bits that no code has.
        """
        if self.kind != "pq":
            return
        if not 1 <= self.bits <= 24 or (self.fast and self.bits != 4):
            allowed = "4 bits for fast scan (x4fs)" if self.fast else "1 to 24 bits"
            raise InputError(f"{self.text} has codes of {self.bits} bits.", f"Use {allowed}; 8 is usual.")
        if self.m < 1 or dim % self.m:
            near = [part for part in range(1, dim + 1) if dim % part == 0]
            told = ", ".join(map(str, sorted(near, key=lambda part: abs(part - self.m))[:3]))
            raise InputError(
                f"{self.text}: {self.m} parts do not divide a vector of {dim:,} components.",
                f"Use a divisor of the dimension, such as {told}.",
            )

    def code_bytes(self, dim: int) -> int:
        """Bytes of one vector. [B]"""
        size = pq_code_bytes(1, self.m, self.bits) if self.kind == "pq" else vector_bytes(1, dim, self.bits)
        return int(size)

    def trained(self, dim: int) -> list[Part]:
        """What training leaves: codebooks or ranges."""
        if self.kind == "pq":
            size = pq_codebook_bytes(dim, self.bits)
            return [
                Part("codebooks", size, size, f"2^{self.bits} centroids a part, fp32",
                     formula="pq_codebook_bytes", inputs={"dim": dim, "bits": self.bits})
            ]  # fmt: skip
        if self.kind == "sq" and SCALAR[self.text[2:]][1]:
            return [Part("ranges", 8 * dim, 8 * dim, "least value and span of each component, fp32")]
        return []

    def fixed(self) -> int:
        """Numbers of the quantizer beside what it learnt: sizes and kinds. [B]"""
        return {"flat": 0, "sq": 36, "pq": 32}[self.kind]

    def codes(self, vectors: int, dim: int) -> Part:
        """The codes of all vectors."""
        size = self.code_bytes(dim) * vectors
        if self.kind == "pq":
            inputs = {"vectors": vectors, "subvectors": self.m, "bits": self.bits}
            note = f"{self.code_bytes(dim):,} B each: {self.m} part{'s' * (self.m != 1)} of {self.bits} bits"
            return Part("codes", size, size, note, formula="pq_code_bytes", inputs=inputs, grows=True)
        inputs = {"vectors": vectors, "dim": dim, "bits": self.bits}
        name = "vectors" if self.kind == "flat" else "codes"
        note = f"{self.code_bytes(dim):,} B each: {dim:,} x {self.bits} bits"
        return Part(name, size, size, note, formula="vector_bytes", inputs=inputs, grows=True)

    def stored(self, vectors: int, dim: int) -> list[Part]:
        """An index of these codes alone."""
        if self.fast:
            padded = -(-vectors // 32) * 32
            size = padded * (self.m + self.m % 2) // 2
            note = "4 bits a part, in blocks of 32 vectors"
            return [Part("codes", size, size, note, grows=True), *self.trained(dim), _head(HEAD + 68)]
        tail = {"flat": WORD, "sq": WORD, "pq": WORD + 9}[self.kind]
        return [self.codes(vectors, dim), *self.trained(dim), _head(HEAD + self.fixed() + tail)]


def _head(size: int) -> Part:
    return Part("headers", 0, size, "kinds, sizes and settings in the file")


def _graph(vectors: int, m: int) -> list[Part]:
    """Links, levels and offsets of an HNSW graph."""
    if m < 2:
        raise InputError(f"HNSW{m}: a graph needs 2 links a vector or more.", "Use HNSW32 or HNSW16.")
    if vectors > MOST_NODES:
        raise InputError(
            f"A graph of faiss numbers its vectors in 32 bits, so {vectors:,} are too many.",
            f"Use up to {MOST_NODES:,} vectors in each of several indexes.",
        )
    exact = vectors <= EXACT
    places = links(vectors, m) if exact else round(hnsw_links(vectors, m))
    spread = 0 if exact else round(4 * 3 * m * math.sqrt(vectors * m) / (m - 1))
    levels = len(chances(m))
    return [
        Part("graph", 4 * places, 4 * places, f"{2 * m} links of 4 B each, {m} more on each upper level",
             "exact" if exact else "derived", spread=spread, grows=True,
             formula="" if exact else "hnsw_links", inputs={} if exact else {"vectors": vectors, "m": m}),
        Part("levels", 12 * vectors, 12 * vectors, "a level of 4 B and an offset of 8 B each", grows=True),
        _head(12 * levels + 5 * WORD + 4 + WORD + 20),
    ]  # fmt: skip


class Index:
    """An index as its factory text says.

    Raises
    ------
    InputError
        For text that is not known.
    """

    __slots__ = ("coarse_m", "codes", "ids", "lists", "m", "refine", "text", "transforms")

    def __init__(self, text: str) -> None:
        self.text = text
        words = [word.strip() for word in text.split(",") if word.strip()]
        self.ids = bool(words) and words[0] in ("IDMap", "IDMap2")
        words = words[1:] if self.ids else words
        self.transforms: list[tuple[str, int, int]] = []
        while words and (found := re.fullmatch(r"(OPQ|PCAW?R?)(\d+)(?:_(\d+))?|(L2norm)", words[0])):
            self.transforms.append((found[1] or found[4], int(found[2] or 0), int(found[3] or 0)))
            words.pop(0)
        self.refine = None
        if words and (found := re.fullmatch(r"R(Flat)|Refine\((\w+)\)", words[-1])):
            self.refine = Codes(found[1] or found[2])
            words.pop()
        self.m = self.lists = self.coarse_m = 0
        if words and (found := re.fullmatch(r"HNSW(\d*)(?:_(\w+))?", words[0])):
            self.m = int(found[1] or 32)
            words = [found[2]] if found[2] else words[1:] or ["Flat"]
        elif words and (found := re.fullmatch(r"IVF(\d+[kM]?)(?:_HNSW(\d*))?", words[0])):
            number = found[1]
            self.lists = int(number.rstrip("kM")) * {"k": 1 << 10, "M": 1 << 20}.get(number[-1], 1)
            if not 1 <= self.lists <= MOST_LISTS:
                raise InputError(
                    f"{text[:60]}: {self.lists:,} lists.", f"Use 1 to {MOST_LISTS:,}, such as 4096."
                )
            self.coarse_m = 0 if found[2] is None else int(found[2] or 32)
            words.pop(0)
        if len(words) != 1:
            raise InputError(f"{text[:60]!r} is no index of faiss that llmcalc knows.", f"Use {KNOWN}.")
        self.codes = Codes(words[0])
        if self.codes.fast and (self.m or self.lists):
            raise InputError(
                f"{text[:60]}: inverted lists of fast-scan codes depend on how vectors fall into them.",
                f"Ask for the same without fs: {text[:60].replace('fs', '')}.",
            )

    def parts(self, vectors: int, dim: int, metric: str = "l2", filled: int | None = None) -> list[Part]:
        """Every part, those of equal name together.

        Parameters
        ----------
        vectors, dim : int
            Vectors and their components. [-]
        metric : str
            ``l2`` or ``ip``.
        filled : int, optional
            Lists that hold something; all. [-]

        Raises
        ------
        InputError
            If faiss would refuse the dimension.
        """
        found: list[Part] = []
        inner = dim
        for kind, number, out in self.transforms:
            found.append(_transform(kind, inner, out or (inner if kind == "OPQ" else number or inner)))
            inner = out or (inner if kind == "OPQ" else number or inner)
        if self.transforms:
            found.append(_head(HEAD + 4))
        self.codes.check(inner)
        if self.lists:
            found += self._inverted(vectors, inner, metric, filled)
        else:
            found += self.codes.stored(vectors, inner)
            if self.m:
                found += [*_graph(vectors, self.m), _head(HEAD)]
        if self.ids:
            found += [Part("ids", 8 * vectors, 8 * vectors, "8 B each", grows=True), _head(HEAD + WORD)]
        if self.refine is not None:
            self.refine.check(dim)
            more = self.refine.stored(vectors, dim)
            more[0].name = "vectors to re-rank"
            found += [*more, _head(HEAD + 4)]
        return _merged(found)

    def _inverted(self, vectors: int, dim: int, metric: str, filled: int | None) -> list[Part]:
        size = vector_bytes(self.lists, dim, 32)
        found = [
            self.codes.codes(vectors, dim),
            Part("ids", 8 * vectors, 8 * vectors, "8 B each", grows=True),
            Part("centroids", size, size, f"{self.lists:,} lists x {dim:,} x 32 bits",
                 formula="vector_bytes", inputs={"vectors": self.lists, "dim": dim, "bits": 32}),
            *self.codes.trained(dim),
        ]  # fmt: skip
        if self.coarse_m:
            found += [*_graph(self.lists, self.coarse_m), _head(HEAD)]
        # A few lists in use are stored as pairs, most of them as one row of sizes.
        pairs = filled is not None and filled <= self.lists // 2
        sizes = 16 * filled if pairs and filled is not None else 8 * self.lists
        sure = filled is not None or vectors >= FULL * self.lists
        grade = "exact" if sure else "derived"
        found.append(Part("lists", 0, sizes, "length of each list", grade))
        size = RECORD * self.lists
        note = f"some {RECORD} B a list for its two arrays"
        found.append(Part("list records", size, 0, note, "calibrated", spread=size // 2))
        extra = {"flat": 0, "sq": 9, "pq": 9}[self.codes.kind]
        found.append(_head(HEAD + 16 + HEAD + WORD + 9 + 32 + self.codes.fixed() + extra))
        if self.codes.kind == "pq" and metric == "l2":
            inputs = {"lists": self.lists, "subvectors": self.codes.m, "bits": self.codes.bits}
            table = precomputed_table_bytes(**inputs)
            if table <= TABLE_LIMIT:
                found.append(
                    Part("table", table, 0, "computed when it is loaded", formula="precomputed_table_bytes",
                         inputs=inputs)
                )  # fmt: skip
        return found


def _transform(kind: str, inner: int, out: int) -> Part:
    """The matrix of a rotation or projection, or a norm."""
    if kind == "L2norm":
        return _head(4 + 4 + 9)
    note = f"{out:,} x {inner:,} numbers in fp32"
    if kind == "OPQ":
        size = 4 * inner * out
        return Part("transform", size, size + 4 + 1 + 2 * WORD + 9, note)
    size = 4 * (inner * out + out + 2 * inner + inner * inner)
    return Part("transform", size, size + 4 + 13 + 3 * WORD + 1 + 2 * WORD + 9, f"{note}, with its PCA")


def _merged(parts: list[Part]) -> list[Part]:
    """Parts of equal name as one, headers last."""
    found: dict[str, Part] = {}
    for part in parts:
        old = found.get(part.name)
        if old is None:
            found[part.name] = part
            continue
        old.memory, old.disk = old.memory + part.memory, old.disk + part.disk
        old.spread += part.spread
    last = found.pop("headers", None)
    return [*found.values(), *([last] if last is not None else [])]
