"""Vector stores: byte for byte what faiss writes, page for page what PostgreSQL gives pgvector."""

import csv
import json
import re
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import llmcalc
from llmcalc.errors import InputError
from llmcalc.memory.vectors import pgvector
from llmcalc.memory.vectors.faiss import Index
from llmcalc.memory.vectors.formulas import hnsw_links
from llmcalc.memory.vectors.levels import links

DATA = Path(__file__).parent / "data"
SCHEMA = json.loads((Path(__file__).parents[1] / "docs/schema/index.schema.json").read_text(encoding="utf-8"))


def rows(name):
    with (DATA / name).open(newline="") as stream:
        return list(csv.DictReader(stream))


FAISS = rows("faiss_sizes.csv")
REFUSED = {"IVF16,PQ8x4fs", "LSH"}


# -- faiss -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "row", FAISS, ids=lambda row: f"{row['factory']} {row['metric']} {row['n']} x {row['d']}"
)
def test_faiss_serialized_to_the_byte(row):
    if row["factory"] in REFUSED:
        with pytest.raises(InputError):
            Index(row["factory"])
        return
    filled = int(row["filled_lists"]) if row["filled_lists"] else None
    parts = Index(row["factory"]).parts(int(row["n"]), int(row["d"]), row["metric"], filled)
    assert sum(part.disk for part in parts) == int(row["bytes"])
    table = sum(part.memory for part in parts if part.name == "table")
    assert table == int(row["table_bytes"] or 0)
    assert sum(part.memory for part in parts) - table <= int(row["bytes"]) + 200 * Index(row["factory"]).lists


def test_enough_cases_of_faiss():
    assert len({row["factory"] for row in FAISS} - REFUSED) >= 45


def test_levels_of_graphs_meet_their_expectation():
    for m in (8, 16, 32, 64):
        exact = links(20_000, m)
        assert abs(exact / hnsw_links(20_000, m) - 1) < 0.004


def test_a_table_above_two_gib_is_not_computed():
    small = Index("IVF4096,PQ64").parts(10**6, 1024)
    large = Index("IVF65536,PQ64").parts(10**7, 1024)
    assert next(part.memory for part in small if part.name == "table") == 2**28
    assert not any(part.name == "table" for part in large)


@settings(deadline=None, max_examples=60)
@given(
    n=st.integers(1, 5000),
    d=st.sampled_from([8, 64, 96, 1536]),
    text=st.sampled_from(
        ["Flat", "SQ8", "SQfp16", "PQ8", "HNSW32,Flat", "IVF64,Flat", "IDMap,PQ8x4", "OPQ8,PQ8"]
    ),
)
def test_more_vectors_never_need_less(n, d, text):
    one, more = (Index(text).parts(count, d) for count in (n, n + 1))
    assert sum(part.disk for part in one) <= sum(part.disk for part in more)
    assert all(part.memory >= 0 and part.disk >= 0 for part in one)


# -- pgvector --------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", rows("pgvector_pages.csv"), ids=lambda row: f"{row['n']} x {row['d']}")
def test_pages_of_pgvector(row):
    n, d, m, lists = (int(row[key]) for key in ("n", "d", "m", "lists"))
    found = {part.name: part.disk // pgvector.PAGE for part in pgvector.table_parts(n, 8 + 4 * d, "table")}
    assert found["table"] == int(row["table"])
    assert found["primary key"] == int(row["primary_key"])
    assert abs(found.get("table, TOAST", 0) - int(row["toast"])) <= (1 if n > pgvector.TRIED else 0)
    assert found.get("TOAST index", 1) == int(row["toast_index"])
    hnsw = pgvector.hnsw_part(n, d, "fp32", m)
    assert abs(hnsw.disk // pgvector.PAGE - int(row["hnsw"])) <= max(1, hnsw.spread / pgvector.PAGE)
    assert abs(hnsw.disk / pgvector.PAGE / int(row["hnsw"]) - 1) < 0.01
    ivfflat = pgvector.ivfflat_part(n, d, "fp32", lists)
    assert abs(ivfflat.disk - pgvector.PAGE * int(row["ivfflat"])) <= ivfflat.spread


def test_types_of_pgvector():
    sizes = [pgvector.value_bytes(1536, dtype) for dtype in ("fp32", "fp16", "binary")]
    assert sizes == [6152, 3080, 200]
    found = [
        llmcalc.index(vectors="1m", dim=1536, store="pgvector", index="hnsw", dtype=dtype).total_bytes
        for dtype in ("fp32", "fp16", "binary")
    ]
    assert found == sorted(found, reverse=True)


# -- the answer ------------------------------------------------------------------------------------


def test_documents_and_chunks():
    whole = llmcalc.index(
        documents=1000, document_tokens=10_000, chunk_tokens=512, overlap=64, dim=8, index="flat"
    )
    assert whole.scenario["vectors"] == 23_000
    assert llmcalc.index(documents=1000, chunks=23, dim=8, index="flat").total_bytes == whole.total_bytes
    kept = llmcalc.index(vectors=10, dim=8, index="flat", text_bytes="2kB", metadata_bytes=100)
    assert kept.disk_bytes - llmcalc.index(vectors=10, dim=8, index="flat").disk_bytes == 21_000
    assert kept.total_bytes == 320
    held = llmcalc.index(vectors=10, dim=8, index="flat", text_bytes="2kB", documents_in="memory")
    assert held.total_bytes == 20_320
    assert kept.disk_grade == held.grade == "assumed"


def test_what_fits_a_memory():
    for kind in ("flat", "pq", "hnsw", "ivf-pq"):
        most = llmcalc.index(vectors="1m", dim=64, index=kind, memory="1GiB", lists=1000).most_vectors
        there = llmcalc.index(vectors=most, dim=64, index=kind, lists=1000)
        beyond = llmcalc.index(vectors=round(most * 1.001), dim=64, index=kind, lists=1000)
        assert there.range_bytes[1] <= 2**30 < beyond.range_bytes[1]
    assert llmcalc.index(vectors=1, dim=64, index="ivf-pq", lists=1000, memory="1kB").most_vectors == 0


@pytest.mark.parametrize("store", ["faiss", "pgvector"])
def test_items_add_up_and_the_schema_holds(store):
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    for options in ({}, {"index": "hnsw"}, {"text_bytes": 500, "memory": "8GiB"}):
        found = llmcalc.index(vectors="1m", dim=768, store=store, **options)
        document = json.loads(found.to_json())
        jsonschema.Draft202012Validator(SCHEMA).validate(document)
        for row in document["indexes"]:
            assert sum(item["memory_bytes"] for item in row["items"]) == row["total_bytes"]
            assert sum(item["disk_bytes"] for item in row["items"]) == row["disk_bytes"]


def test_ids_of_ones_own():
    plain, mapped = (llmcalc.index(vectors=1000, dim=64, index="flat", ids=ids) for ids in (False, True))
    assert mapped.factory == "IDMap,Flat"
    assert mapped.total_bytes - plain.total_bytes == 8000
    assert llmcalc.index(vectors=1000, dim=64, index="ivf-flat", ids=True).factory.startswith("IVF")


def test_every_shape():
    for options in ({}, {"index": "IVF4096,PQ64"}):
        found = llmcalc.index(vectors="1m", dim=768, **options)
        for text in (found.to_text(), found.to_markdown(), found.to_latex(), found.to_html(), found.to_csv()):
            assert "IVF4" in text
        assert "vector_bytes = vectors * ceil_div(dim * bits, 8)" in found.explain()
        assert len(found.to_frame()) == len(found.indexes)
    assert all(len(line) <= 80 for line in llmcalc.index(vectors="1m", dim=768).to_text().splitlines())


def test_a_picture(tmp_path):
    pytest.importorskip("matplotlib")
    llmcalc.index(vectors="1m", dim=768).plot(str(tmp_path / "index.png"))
    assert (tmp_path / "index.png").stat().st_size > 1000


# -- bad input -------------------------------------------------------------------------------------


def call(*words):
    return subprocess.run(
        [sys.executable, "-m", "llmcalc", "index", *words], capture_output=True, text=True, timeout=60
    )


@pytest.mark.parametrize(
    ("words", "names", "remedy"),
    [
        ("", "no dimension", "--dim"),
        ("--dim 768", "nothing to store", "--vectors"),
        ("--vectors -1 --dim x", "1. --dim is 'x'", "whole number"),
        ("--vectors 0 --dim 8", "above 0", "whole number"),
        ("--vectors 1m --dim 768 --index PQ7", "do not divide", "6, 8"),
        ("--vectors 1m --dim 768 --index hsnw", "'hsnw'", "Did you mean hnsw?"),
        ("--vectors 1m --dim 768 --index Bogus12", "'Bogus12'", "PQ64"),
        ("--vectors 1m --dim 768 --index IVF0,Flat", "0 lists", "4096"),
        ("--vectors 1m --dim 768 --index IVF9999999999999999,Flat", "lists", "4096"),
        ("--vectors 1m --dim 768 --index PQ8x30", "30 bits", "1 to 24"),
        ("--vectors 1m --dim 768 --index IVF64,PQ8x4fs", "fast-scan", "without fs"),
        ("--vectors 3b --dim 768 --index hnsw", "32 bits", "2,147,483,647"),
        ("--vectors 1m --dim 3000 --store pgvector --index hnsw", "2,000 components", "--dtype fp16"),
        ("--vectors 1m --dim 17000 --store pgvector --index none", "16,000", "fewer"),
        ("--vectors 1m --dim 768 --store pgvector --index hnsw --m 1", "from 2 to 100", "--m 16"),
        ("--vectors 1m --dim 768 --store pgvector --index ivfflat --lists 40000", "32,768", "--lists"),
        ("--vectors 1m --dim 768 --store milvus", "'milvus'", "pgvector"),
        ("--vectors 1m --dim 768 --dtype fp16", "pgvector", "--index fp16"),
        ("--vectors 10 --documents 3 --dim 4", "contradict", "--chunks"),
        ("--documents 3 --document-tokens 100 --dim 4", "size of a chunk", "--chunk-tokens"),
        ("--documents 3 --document-tokens 100 --chunk-tokens 10 --overlap 10 --dim 4", "nothing new", "less"),
        ("--vectors 9 --dim 4 --index HNSW1", "2 links", "HNSW32"),
        ("--vectors 9 --dim 4 --memory 0", "--memory", "64GiB"),
        ("--vectors 9 --dim 4 --documents-in memory", "no documents", "--text-bytes"),
        ("--vectors 9 --dim 4 --text-bytes -5", "negative", "24GiB"),
    ],
)
def test_bad_input(words, names, remedy):
    done = call(*words.split())
    assert done.returncode == 2
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert "Internal error" not in done.stderr
    problem, _, last = done.stderr.strip().rpartition("\n")
    assert names in problem
    assert remedy in last


def test_python_repeats_the_call():
    done = call(*["--vectors", "1m", "--dim", "768", "--index", "hnsw", "--python"])
    assert re.search(r"llmcalc\.index\(vectors='1m', dim=768, index='hnsw'\)", done.stdout)
    asked = ["--vectors", "1m", "--dim", "768", "--index", "hnsw"]
    done = call(*asked, "--index", "IVF64,PQ8", "--format", "markdown")
    assert "llmcalc index --vectors 1m --dim 768 --index hnsw --index IVF64,PQ8 (" in done.stdout


def test_lists_that_the_text_names_are_told():
    made = llmcalc.index(vectors=100, dim=768, index="IVF4096,PQ64")
    assert any("few for 4,096 lists" in warning for warning in made.warnings)
    assert not llmcalc.index(vectors="1m", dim=768, index="IVF64,PQ64").warnings


def test_small_parts_are_drawn_as_one():
    figure = pytest.importorskip("matplotlib.figure").Figure()
    from llmcalc.render.index import OTHERS, draw_parts

    draw_parts(figure, llmcalc.index(vectors="1m", dim=1536)["indexes"])
    words = [text.get_text() for text in figure.axes[1].get_legend().get_texts()]
    assert words == ["vectors", "codes", "graph", "table", OTHERS]
