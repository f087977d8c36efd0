"""What `llmcalc fit-law` reads and refuses, and the shapes of its answer, mostly through real processes."""

import csv
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import jsonschema
import numpy as np
import pytest

import llmcalc
from llmcalc import fit_law
from llmcalc.errors import InputError

ROOT = Path(__file__).parents[1]
EPOCH = ROOT / "tests" / "data" / "scaling" / "epoch_chinchilla_245.csv"
SCHEMA = json.loads((ROOT / "docs" / "schema" / "fit-law.schema.json").read_text(encoding="utf-8"))


def runs(rows: int = 6) -> list[tuple[float, float, float]]:
    n, d = np.meshgrid(np.geomspace(1e8, 1e10, rows), np.geomspace(2e9, 1e12, rows))
    n, d = n.ravel(), d.ravel()
    return list(zip(n, d, 1.69 + 406.4 / n**0.34 + 410.7 / d**0.28, strict=True))


GOOD = runs()


def table(rows: list, head: str = "N,D,loss") -> str:
    return "\n".join([head, *(",".join(map(str, row)) for row in rows)]) + "\n"


def run(folder: Path, *words: str, stdin: bytes | None = None) -> subprocess.CompletedProcess:
    environment = {**os.environ, "XDG_CONFIG_HOME": str(folder), "PYTHONIOENCODING": "utf-8", "COLUMNS": "80"}
    return subprocess.run(
        [sys.executable, "-m", "llmcalc", "fit-law", *words], cwd=folder, env=environment, input=stdin,
        capture_output=True, timeout=120, check=False,
    )  # fmt: skip


def refused(done: subprocess.CompletedProcess, *words: str) -> None:
    told = done.stderr.decode()
    assert done.returncode == 2, told
    assert done.stdout == b""
    assert told.startswith("Error: ")
    assert told.count("Error: ") == 1
    assert "Traceback" not in told
    assert "Internal error" not in told
    for word in words:
        assert word in told, told


def swapped(place: int, row: tuple) -> list:
    return [*GOOD[:place], row, *GOOD[place + 1 :]]


N = np.geomspace(1e8, 1e10, 12)
ONE_BUDGET = [(n, 1e20 / 6 / n, 1.69 + 406.4 / n**0.34 + 410.7 / (1e20 / 6 / n) ** 0.28) for n in N]
ONE_RATIO = [(n, 20 * n, 1.69 + 406.4 / n**0.34 + 410.7 / (20 * n) ** 0.28) for n in N]
TABLES = {
    "other columns": (table(GOOD, "x,y,z"), ("no column for params, tokens and loss", "--params-col")),
    "text": (table(swapped(5, (1e9, 2e10, "abc"))), ("line 7", "loss", "'abc'", "--skip-invalid")),
    "NaN": (table(swapped(5, (1e9, 2e10, "nan"))), ("line 7", "missing", "--skip-invalid")),
    "empty cell": (table(swapped(5, (1e9, "", 3.0))), ("line 7", "tokens", "missing")),
    "infinite": (table(swapped(5, (1e9, 2e10, "inf"))), ("line 7", "infinite")),
    "all of a column": (
        table([*swapped(0, (1e9, 1e10, "abc"))[:-2], (1e9, 1e10, "nan"), (1e9, 2e10, -2)]),
        ("line 2: the loss", "not a number ('abc')", "line 36: the loss", "missing", "line 37", "0 ('-2')"),
    ),
    "6ND wrapped in 64 bits": (
        table([(n, d, int(6 * n * d + 2**63) % 2**64 - 2**63, v) for n, d, v in GOOD], "N,D,C,loss"),
        ("compute in column C is not above 0", "64-bit", "--compute-col none"),
    ),
    "negative losses": (table([(n, d, -v) for n, d, v in GOOD]), ("not above 0", "--loss-col")),
    "zero params": (table(swapped(0, (0, 2e10, 3.0))), ("line 2", "params", "not above 0")),
    "two kinds of mistake": (table(swapped(3, ("x", "nan", 3.0))), ("1. ", "2. ", "params", "tokens")),
    "few rows": (table(GOOD[::9]), ("4 rows", "5 parameters", "--fix")),
    "one row": (table(GOOD[:1]), ("1 rows", "5 parameters")),
    "one IsoFLOP": (table(ONE_BUDGET), ("one budget", "1e+20", "other budgets")),
    "one ratio": (table(ONE_RATIO), ("move together", "20 tokens", "power-law")),
    "one size": (table([(1e9, d, v) for _, d, v in GOOD]), ("params take 1 value",)),
    "equal losses": (table([(n, d, 3.0) for n, d, _ in GOOD]), ("All losses are equal",)),
    "millions": (table([(n / 1e6, d / 1e9, v) for n, d, v in GOOD]), ("--params-unit", "--tokens-unit 1e9")),
    "beyond sense": (table([(n * 1e12, d, v) for n, d, v in GOOD]), ("above the largest that makes sense",)),
    "a column of conventions": (
        table([(*row, "total" if place % 2 else "non-embedding") for place, row in enumerate(GOOD)],
              "N,D,loss,param_convention"),
        ("mixes conventions", "--where param_convention="),
    ),
    "two columns of conventions": (
        table([(n, 0.8 * n, d, v) for n, d, v in GOOD], "N_total,N_non_embedding,D,loss"),
        ("counted in 2 ways", "--params-convention total or non-embedding"),
    ),
    "compute of two conventions": (
        table([(n, d, 6 * n * d * (1 + 0.3 * (place % 2)), v) for place, (n, d, v) in enumerate(GOOD)],
              "N,D,C,loss"),
        ("mixes conventions", "--compute-col"),
    ),
    "several losses": (table([(*row, row[2]) for row in GOOD], "N,D,loss_c4,loss_pile"),
                       ("--loss-col loss_c4",)),
    "a ragged row": (table(swapped(3, (1e9, 2e10, 3.0, 1))), ("line 5", "4 cells under 3")),
    "no heading": (table(GOOD[1:], "1e8,2e9,3.4"), ("no heading",)),
    "one name twice": (table(GOOD, "N,N,loss"), ("two columns 'N'",)),
    "a heading alone": ("N,D,loss\n", ("no rows",)),
    "empty": ("", ("is empty",)),
    "blank": ("  \n\n", ("is empty",)),
    "broken JSON lines": ('{"N": 1}\n{"N":\n', ("line 2", "not JSON")),
    "JSON that is no table": ("[1, 2, 3]", ("no record",)),
}  # fmt: skip


@pytest.mark.parametrize("name", TABLES)
def test_a_table_that_can_not_be_fitted(name, tmp_path):
    text, words = TABLES[name]
    (tmp_path / "runs.csv").write_text(text, encoding="utf-8")
    refused(run(tmp_path, "runs.csv", "--bootstrap", "0"), *words)


@pytest.mark.parametrize(
    ("content", "word"),
    [(bytes(range(256)) * 20, "binary"), (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "binary"),
     (b"PAR1" + b"x" * 99, "Parquet"),
     (b"N,D,loss\n1e9,2e10,\0\n", "binary")],
)  # fmt: skip
def test_a_binary_file(content, word, tmp_path):
    (tmp_path / "runs.csv").write_bytes(content)
    refused(run(tmp_path, "runs.csv"), word)


def test_a_file_that_is_not_there(tmp_path):
    refused(run(tmp_path, "nothing.csv"), "nothing.csv", "No such file")
    refused(run(tmp_path, "."), "folder")
    refused(run(tmp_path, "-", stdin=b""), "Standard input is empty")


OPTIONS = [
    ("--form chinchila", "Did you mean chinchilla?"),
    ("--loss hubr", "huber, l1 or l2"),
    ("--loss l1 --delta 0.1", "--delta is for --loss huber"),
    ("--delta 0", "above 0"),
    ("--residual square", "log or linear"),
    ("--approach 4", "1 (envelope)"),
    ("--approach 2 --form kaplan", "Use one of both"),
    ("--approach 2 --loss l1", "--loss is for --approach 3"),
    ("--form allocation --approach 2", "Use one of both"),
    ("--form kaplan --tied", "--tied is not for"),
    ("--tied --fix beta=0.3", "contradict"),
    ("--along params", "--along is for --form power-law"),
    ("--fix gamma=1", "no parameter 'gamma'"),
    ("--fix alpha", "no value"),
    ("--fix alpha=x", "not a number"),
    ("--bootstrap 3", "0 for none"),
    ("--bootstrap many", "0 for none"),
    ("--level 2", "0.5 to 0.999"),
    ("--seed -1", "--seed is '-1'"),
    ("--resample runs", "--run-col"),
    ("--workers 0", "1 to 1024"),
    ("--compute 0", "above 0"),
    ("--compute 1e40", "above the largest that makes sense"),
    ("--compute 1e21,x", "'x'"),
    ("--form power-law --compute 1e22", "does not split compute"),
    ("--holdout 1e30", "one side"),
    ("--where size=1", "no column 'size'"),
    ("--where N", "no condition"),
    ("--where N<1", "leaves no rows"),
    ("--loss-col los", "Did you mean loss?"),
    ("--params-convention heads", "non-embedding"),
    ("--form moe", "--experts-col"),
    ("--form data-constrained", "--unique-col"),
    ("--format docx", "text, markdown"),
    ("--plot fit.xyz", ".png"),
    ("--output-file no/such/folder", "no/such/folder"),
    ("--loss x --level y --format z", "3. "),
]


@pytest.mark.parametrize(("words", "told"), OPTIONS, ids=[words for words, _ in OPTIONS])
def test_options_that_are_wrong_or_contradict(words, told, tmp_path):
    (tmp_path / "runs.csv").write_text(table(GOOD), encoding="utf-8")
    bootstrap = () if "--bootstrap" in words else ("--bootstrap", "0")
    refused(run(tmp_path, "runs.csv", *words.split(), *bootstrap), told)


# -- ways to give the same data ------------------------------------------------------------------


def same(found: llmcalc.answer.fit_law.LawFit) -> bool:
    return found.params == pytest.approx(
        {"E": 1.69, "A": 406.4, "B": 410.7, "alpha": 0.34, "beta": 0.28}, rel=1e-4
    )


def test_every_kind_of_file(tmp_path):
    frame = __import__("pandas").DataFrame(GOOD, columns=["N", "D", "loss"])
    records = frame.to_dict("records")
    texts = {
        "runs.csv": table(GOOD),
        "semicolons.csv": "\ufeff" + table(GOOD).replace(",", ";"),
        "tabs.tsv": table(GOOD).replace(",", "\t").replace("\n", "\r\n"),
        "remarks.csv": "# runs of a summer\n\n" + table(GOOD) + "\n",
        "runs.jsonl": "\n".join(map(json.dumps, records)) + "\n\n",
        "runs.json": json.dumps(records),
        "columns.json": json.dumps(frame.to_dict("list")),
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text, encoding="utf-8", newline="")
        assert same(fit_law(tmp_path / name, bootstrap=0)), name
    (tmp_path / "wide.csv").write_text(table(GOOD), encoding="utf-16")
    assert same(fit_law(tmp_path / "wide.csv", bootstrap=0))


def test_parquet(tmp_path):
    pytest.importorskip("pyarrow")
    frame = __import__("pandas").DataFrame(GOOD, columns=["N", "D", "loss"])
    frame.to_parquet(tmp_path / "runs.parquet")
    assert same(fit_law(tmp_path / "runs.parquet", bootstrap=0))


def test_tables_in_memory():
    frame = __import__("pandas").DataFrame(GOOD, columns=["N", "D", "loss"])
    assert same(fit_law(frame, bootstrap=0))
    assert same(fit_law(frame.to_dict("records"), bootstrap=0))
    assert same(fit_law({name: frame[name].to_numpy() for name in frame}, bootstrap=0))
    assert same(fit_law(frame.to_records(), bootstrap=0))
    for wrong in (3, None, [], "", {"N": 1}, {"N": [1], "D": [1, 2]}, np.ones(3)):
        with pytest.raises(InputError):
            fit_law(wrong)


def test_standard_input(tmp_path):
    done = run(tmp_path, "-", "--bootstrap", "0", "--json", stdin=table(GOOD).encode())
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["data"]["name"] == "Standard input"


def test_columns_by_other_names_and_units():
    n, d, loss = (np.array(one) for one in zip(*GOOD, strict=True))
    assert same(fit_law({"Model Size": n, "Training Tokens": d, "val_loss": loss}, bootstrap=0))
    assert same(fit_law({"params": n, "flops": 6 * n * d, "bpb": loss}, bootstrap=0))
    assert same(fit_law({"tokens": d, "C": 6 * n * d, "loss": loss}, bootstrap=0))
    assert same(
        fit_law({"x": n, "y": d, "z": loss}, params_col="x", tokens_col="y", loss_col="z", bootstrap=0)
    )
    assert same(
        fit_law({"N": n / 1e6, "D": d / 1e9, "loss": loss}, params_unit=1e6, tokens_unit=1e9, bootstrap=0)
    )
    words = [f"{one / 1e6}M" for one in n], [f"{one / 1e9}b" for one in d]
    assert same(fit_law({"N": words[0], "D": words[1], "loss": loss}, bootstrap=0))


def test_conventions():
    n, d, loss = (np.array(one) for one in zip(*GOOD, strict=True))
    both = {"N_total": n, "N_non_embedding": 0.8 * n, "D": d, "loss": loss}
    assert fit_law(both, params_convention="total", bootstrap=0).reading.convention == "total"
    other = fit_law(both, params_convention="non-embedding", bootstrap=0)
    assert other.params["A"] < 406
    with pytest.raises(InputError, match="counts non-embedding"):
        fit_law(both, params_convention="total", params_col="N_non_embedding")
    alone = fit_law({"n_active": n, "D": d, "loss": loss}, bootstrap=0)
    assert alone.reading.convention == "active"


def test_compute_that_is_not_6_n_d_is_told_and_used():
    n, d, loss = (np.array(one) for one in zip(*GOOD, strict=True))
    found = fit_law({"N": n, "D": d, "C": 7.5 * n * d, "loss": loss}, bootstrap=0)
    assert any("7.5 x N x D" in note for note in found.notes)
    best = found.optimum(1e21)
    assert best.params * best.tokens == pytest.approx(1e21 / 7.5)
    plain = fit_law(
        {"N": n, "D": d, "C": 7.5 * n * d, "loss": loss}, compute_col="none", bootstrap=0
    ).optimum(1e21)
    assert plain.params * plain.tokens == pytest.approx(1e21 / 6)


def test_rows_that_can_not_be_used_are_left_out_on_request(tmp_path):
    rows = [*GOOD, (1e9, "", 3.0), (1e9, 2e10, "abc"), (1e9, 2e10, -1)]
    (tmp_path / "runs.csv").write_text(table(rows), encoding="utf-8")
    found = fit_law(tmp_path / "runs.csv", skip_invalid=True, bootstrap=0)
    assert same(found)
    assert any("3 rows" in note for note in found.notes)


def test_settings_that_are_mixed_and_rows_that_repeat_are_told():
    rows = [{"N": n, "D": d, "loss": v, "data": "abc"[k % 2]} for k, (n, d, v) in enumerate(GOOD)]
    found = fit_law([*rows, rows[0]], bootstrap=0)
    assert any("--where data=a" in note for note in found.notes)
    assert any("1 row repeats another" in note for note in found.notes)


# -- doubts --------------------------------------------------------------------------------------


def test_what_is_not_settled_is_told():
    random = np.random.default_rng(2)
    n, d = 10 ** random.uniform(8, 8.6, 40), 10 ** random.uniform(9, 9.6, 40)
    loss = (1.69 + 406.4 / n**0.34 + 410.7 / d**0.28) * np.exp(0.02 * random.standard_normal(40))
    found = fit_law({"N": n, "D": d, "loss": loss}, bootstrap=200)
    assert any("settled" in doubt for doubt in found.doubts)


def test_a_loss_that_rises_with_size_is_told():
    n, d, _ = (np.array(one) for one in zip(*GOOD, strict=True))
    found = fit_law({"N": n, "D": d, "loss": 1 + 1e-3 * n**0.2 + 410.7 / d**0.28}, bootstrap=0)
    assert any(doubt.startswith("alpha is") or "no optimum" in doubt for doubt in found.doubts)


def test_too_few_runs_to_hold_out():
    found = fit_law([dict(zip(("N", "D", "loss"), row, strict=True)) for row in runs(3)], bootstrap=0)
    assert found.holdout is None
    assert found.no_holdout


# -- shapes --------------------------------------------------------------------------------------

SHAPES = {
    "chinchilla": {}, "no bootstrap": {"bootstrap": 0}, "kaplan": {"form": "kaplan"},
    "held": {"fix": {"E": 1.7}},
    "power-law": {"form": "power-law", "along": "tokens"}, "tied": {"tied": True},
}  # fmt: skip


@pytest.mark.parametrize("name", SHAPES)
def test_every_format(name):
    found = fit_law(EPOCH, where="excluded_by_besiroglu=0", **{"bootstrap": 40, **SHAPES[name]})
    jsonschema.Draft202012Validator(SCHEMA).validate(json.loads(found.to_json()))
    assert max(map(len, found.to_text().splitlines())) <= 80
    assert found.to_markdown().count("| E") <= 1
    assert "\\begin{tabular}" in found.to_latex()
    rows = list(csv.DictReader(io.StringIO(found.to_csv())))
    assert {row["name"] for row in rows if row["kind"] == "parameter"} == set(found.params)
    assert len(found.to_frame()) == 240
    assert found.to_frame()["residual"].abs().max() == pytest.approx(np.abs(found.residuals).max())
    assert "from " in found.explain()
    assert f"{found.objective:.12g}" in found.explain()
    assert "Huber" in found.to_text()  # the estimator is named in every output
    assert all("Huber" in getattr(found, f"to_{kind}")() for kind in ("markdown", "latex", "csv", "json"))


def test_approaches_follow_the_schema():
    llama = ROOT / "tests" / "data" / "scaling" / "llama3_isoflop_digitised.csv"
    found = fit_law(llama, approach=2, where="condition=raw_loss", bootstrap=40)
    document = json.loads(found.to_json())
    jsonschema.Draft202012Validator(SCHEMA).validate(document)
    assert len(document["budgets"]) == 10
    assert max(map(len, found.to_text().splitlines())) <= 80


def test_pictures(tmp_path):
    pytest.importorskip("matplotlib")
    found = fit_law(EPOCH, where="excluded_by_besiroglu=0", bootstrap=40)
    found.plot(str(tmp_path / "fit.png"))
    assert (tmp_path / "fit.png").read_bytes().startswith(b"\x89PNG")
    page = found.to_html()
    assert page.count("data:image/png;base64,") == 4
    for title in ("Predicted against measured", "Residuals over compute", "IsoFLOP profiles", "Bootstrap"):
        assert title in page
    assert not re.search(r"https?://", page.split("<img")[0].replace("http://www.w3.org", ""))


def test_the_command_line(tmp_path):
    words = (str(EPOCH), "--where", "excluded_by_besiroglu=0", "--bootstrap", "60")
    text = run(tmp_path, *words)
    assert text.returncode == 0, text.stderr
    assert "Objective 0.001018274" in text.stdout.decode()
    assert text.stderr.decode().startswith("Note: ")  # no bar where nobody looks
    document = json.loads(run(tmp_path, *words, "--json", "--workers", "2", "--compute", "1e21,1e24").stdout)
    jsonschema.Draft202012Validator(SCHEMA).validate(document)
    assert [one["compute"] for one in document["optima"]] == [1e21, 1e24]
    alone = json.loads(run(tmp_path, *words, "--json", "--compute", "1e21,1e24").stdout)
    assert {**alone, "call": ""} == {**document, "call": ""}
    made = run(tmp_path, *words, "--format", "html", "--output-file", "fit.html", "--plot", "fit.png")
    assert made.returncode == 0, made.stderr
    assert (tmp_path / "fit.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert (tmp_path / "fit.png").stat().st_size > 10_000


def test_the_python_call_repeats_the_fit(tmp_path):
    (tmp_path / "runs.csv").write_text(table(GOOD), encoding="utf-8")
    words = (
        "runs.csv",
        "--tied",
        "--fix",
        "E=1.7",
        "--bootstrap",
        "0",
        "--where",
        "N<1e10",
        "--compute",
        "1e21",
    )
    done = run(tmp_path, *words, "--python")
    assert done.returncode == 0, done.stderr
    script = done.stdout.decode().strip()
    line = script.splitlines()[-1]
    assert line.startswith("llmcalc.fit_law('runs.csv', ")
    repeated = subprocess.run(
        [sys.executable, "-c", script.replace(line, f"print({line}.to_json())")], cwd=tmp_path,
        capture_output=True,
        check=True,
    )  # fmt: skip
    assert (
        json.loads(repeated.stdout)["parameters"]
        == json.loads(run(tmp_path, *words, "--json").stdout)["parameters"]
    )


def test_the_shown_call_repeats_the_fit(tmp_path):
    (tmp_path / "my runs.csv").write_text(table(GOOD), encoding="utf-8")
    words = ("my runs.csv", "--where", "N<1e10", "--where", "D>3e9", "--fix", "E=1.7", "--bootstrap", "0")
    document = json.loads(run(tmp_path, *words, "--json").stdout)
    import shlex

    again = shlex.split(document["call"])
    assert again[:2] == ["llmcalc", "fit-law"]
    assert json.loads(run(tmp_path, *again[2:], "--json").stdout) == document


def test_nothing_heavy_is_imported_for_the_help():
    script = (
        "import sys\nfrom llmcalc.cli import run\nrun(['fit-law', '--help'])\n"
        "print([m for m in ('numpy', 'scipy', 'pandas', 'matplotlib') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
