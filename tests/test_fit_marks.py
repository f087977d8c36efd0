"""Published runs of llama.cpp: what ran is never called too large, what failed is never said to fit."""

import csv

import numpy as np
import pytest

import llmcalc
from llmcalc.catalog import Catalog
from llmcalc.units import GIB

CLOSE = 15
"""The most verdicts that may leave it open. [%]"""


@pytest.fixture(scope="module")
def judged(request):
    """Marks with the verdicts, and how many published rows each stands for."""
    book, models, found = Catalog(), {}, []
    path = request.path.parent / "data" / "fit_marks.csv"
    with path.open(encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream):
            if row["model"] not in models:
                models[row["model"]] = llmcalc.model(row["model"], catalog=book)
            model = models[row["model"]]
            size = row["quant"].removesuffix("GiB")
            known = size == row["quant"]
            stored = {"quant": size} if known else {"bits": float(size) * GIB * 8 / model.params}
            report = llmcalc.vram(
                model, engine="llama.cpp", gpu=row["gpu"], context=np.array([int(row["context"])]),
                gpu_layers=row["ngl"], engine_version=row["build"], flash_attn=row["flash_attn"],
                ubatch=row["ubatch"], allow_overlong=True, catalog=book, **stored,
            )  # fmt: skip
            found.append((row, str(report.verdict[0])))
    return found


def test_no_mark_is_contradicted(judged):
    wrong = {"fits": "does_not_fit", "oom": "fits"}
    assert [row for row, verdict in judged if verdict == wrong[row["mark"]]] == []
    assert {row["mark"] for row, _ in judged} == set(wrong)


def test_few_verdicts_are_too_close(judged):
    for weigh in (lambda row: 1, lambda row: int(row["rows"])):
        close = sum(weigh(row) for row, verdict in judged if verdict == "too_close")
        assert close * 100 <= CLOSE * sum(weigh(row) for row, _ in judged)
