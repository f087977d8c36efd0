"""Scaling laws: every published number that the catalog's laws must give, and what they refuse."""

import json
from pathlib import Path

import numpy as np
import pytest

import llmcalc
from llmcalc.cli import run
from llmcalc.errors import InputError, UnknownNameError
from llmcalc.scaling import forms
from llmcalc.scaling.index import SILENT
from llmcalc.scaling.laws import all_laws, find_law
from llmcalc.scaling.numeric import minimum, root, spread
from llmcalc.scaling.rates import batch_of_loss, product_law
from llmcalc.scaling.terms import power_law

GOLDEN = json.loads((Path(__file__).parent / "data" / "scaling_golden.json").read_text(encoding="utf-8"))
LAWS = all_laws()
CASES = [(name, row) for name, rows in GOLDEN.items() for row in rows]


def given(name, row):
    """What a law gives for a golden row: pairs of (given, expected)."""
    law = find_law(name)
    c = law.coefficients
    if "tokens_per_param" in row:
        N, D = law.optimum(row["C"])
        return [(N, row["N"]), (D, row["D"]), (D / N, row["tokens_per_param"]), (law.loss(N, D), row["loss"])]
    if "F" in row:
        return list(zip(law.optimum(row["F"], experts=row["E"]), (row["N"], row["D"]), strict=True))
    if "U" in row:
        return [(law.loss(row["N"], row["D"], unique=row["U"]), row["L"])]
    if name == "kaplan2020.B_crit":
        return [(batch_of_loss(row["L"], c["B_star"], 1 / c["alpha_B"]), row["B_tokens"])]
    if name == "kaplan2020.alloc":
        C = row["C_flop"] if "C_flop" in row else row["C_pfdays"] * forms.PF_DAY
        N, D = law.optimum(C)
        return [(N, row["N_from_table6"])] if "C_flop" in row else [(N, row["N"]), (D, row["D"])]
    if name == "deepseek2024":
        return [
            (6 * law.optimum(row["C"])[0], row["M"]),
            (law.optimum(row["C"])[1], row["D"]),
            (power_law(row["C"], c["k_lr"], c["p_lr"]), row["lr"]),
            (power_law(row["C"], c["k_B"], c["p_B"]), row["B_tokens"]),
        ]
    if name == "llama3_2024":
        text = find_law("llama-3:text")
        return [(law.optimum(row["C"])[1], row["D_fig"]), (text.optimum(row["C"])[1], row["D_text"])]
    if name == "steplaw2025":
        rate = product_law(row["N"], row["D"], c["k_lr"], c["p_N"], c["p_D"])
        return [(rate, row["lr"]), (power_law(row["D"], c["k_B"], c["p_B"]), row["B_tokens"])]
    if name == "tao2024" and "N_nv" in row:
        sizes = forms.vocabulary_sizes(c, row["N_nv"])
        return [(int(size), row[f"V_app{n}"]) for n, size in enumerate(sizes, 1)]
    if name == "tao2024":
        share = forms.characters_to_tokens(c, row["V"])
        return [(share, row["tokens_per_char"]), (1 / share, row["chars_per_token"])]
    if name == "zhang2024cbs":
        return [(power_law(row["N_millions"], c["k"], c["p"]), row["B_seq"])]
    return [(law.loss(row.get("N"), row.get("D"), row.get("C")), row["L"])]


@pytest.mark.parametrize(("name", "row"), CASES, ids=[f"{name}-{n}" for n, (name, _) in enumerate(CASES)])
def test_golden_numbers(name, row):
    rounded = "tokens_per_param" in row  # printed with six or seven digits
    for value, expected in given(name, row):
        assert value == pytest.approx(expected, rel=5e-6 if rounded else 1e-12)


# -- tables of the papers ----------------------------------------------------------------------

TABLE_3 = [
    (400e6, 1.92e19, 8.0e9), (1e9, 1.21e20, 20.2e9), (10e9, 1.23e22, 205.1e9), (67e9, 5.76e23, 1.5e12),
    (175e9, 3.85e24, 3.7e12), (280e9, 9.90e24, 5.9e12), (520e9, 3.43e25, 11.0e12), (1e12, 1.27e26, 21.2e12),
    (10e12, 1.30e28, 216.2e12),
]  # fmt: skip
TABLE_A3_2 = [
    (400e6, 1.84e19, 7.7e9), (1e9, 1.20e20, 20.0e9), (10e9, 1.32e22, 219.5e9), (67e9, 6.88e23, 1.7e12),
    (175e9, 4.54e24, 4.3e12), (280e9, 1.18e25, 7.1e12), (520e9, 4.19e25, 13.4e12), (1e12, 1.59e26, 26.5e12),
    (10e12, 1.75e28, 292.0e12),
]  # fmt: skip
TABLE_A3_3 = [
    (400e6, 2.21e19, 9.2e9), (1e9, 1.62e20, 27.1e9), (10e9, 2.46e22, 410.1e9), (67e9, 1.71e24, 4.1e12),
    (175e9, 1.26e25, 12.0e12), (280e9, 3.52e25, 20.1e12), (520e9, 1.36e26, 43.5e12), (1e12, 5.65e26, 94.1e12),
    (10e12, 8.55e28, 1425.5e12),
]  # fmt: skip


@pytest.mark.parametrize(("N", "C", "D"), TABLE_3)
def test_hoffmann_table_3(N, C, D):
    params, tokens = find_law("hoffmann-2022-1").optimum(C)
    assert params == pytest.approx(N, rel=0.013)
    assert tokens == pytest.approx(D, rel=0.062 if N == 67e9 else 0.013)


@pytest.mark.parametrize(("N", "C", "D"), TABLE_A3_2)
def test_hoffmann_table_a3_approach_2(N, C, D):
    params, tokens = find_law("hoffmann-2022-2").optimum(C)
    assert params == pytest.approx(N, rel=0.034)
    assert tokens == pytest.approx(D, rel=0.04)


@pytest.mark.parametrize(("N", "C", "D"), TABLE_A3_3)
def test_hoffmann_table_a3_approach_3(N, C, D):
    c = find_law("hoffmann-2022-3:table-a3").coefficients
    assert power_law(C, c["k_N"], c["a"]) == pytest.approx(N, rel=0.04)
    assert pytest.approx(C, rel=0.045) == 6 * N * D


def test_the_misprint_of_table_a3_is_named():
    note = find_law("hoffmann-2022-3").entry["note"]
    assert "1.26e24" in note
    assert "misprint of 1.26e25" in note
    assert pytest.approx(1.26e25, rel=1e-3) == 6 * 175e9 * 12.0e12


def test_rounded_parameters_are_the_notebook_puzzle():
    """Table A3 has 9.2 B tokens at 400 M; the printed parameters give 57 % more."""
    law = find_law("hoffmann-2022-3-rounded")
    assert law.compute(params=400e6) / (6 * 400e6) == pytest.approx(14.5e9, rel=0.01)


def test_gopher_and_kaplan_budgets():
    assert find_law("hoffmann-2022-3").optimum(5.76e23)[0] == pytest.approx(40.36e9, rel=1e-3)
    assert find_law("hoffmann-2022-3-rounded").optimum(5.76e23)[0] == pytest.approx(32.19e9, rel=1e-3)
    assert find_law("hoffmann-2022-1").optimum(1e21)[0] == pytest.approx(2.86e9, rel=2e-3)


def test_muennighoff_to_the_last_digits():
    law = find_law("muennighoff-2023")
    assert law.loss(6.34e9, 242e9, unique=25e9) == pytest.approx(2.2256440889984477, abs=1e-12)
    assert law.loss(8.67e9, 178e9, unique=25e9) == pytest.approx(2.2269634075087867, abs=1e-12)
    assert law.loss(1e9, 20e9, unique=1e12) == law.loss(1e9, 20e9)  # unique tokens that are not needed


LUDZIEJEWSKI = [
    (1e20, 1, 1.7e9, 9.7e9), (1e20, 8, 990e6, 17e9), (1e21, 1, 5.7e9, 29.3e9), (1e21, 8, 3.8e9, 44.3e9),
    (1e22, 1, 18.8e9, 88.6e9), (1e22, 8, 14.4e9, 115.8e9), (1e22, 32, 12.2e9, 136.9e9),
]  # fmt: skip


@pytest.mark.parametrize(("C", "E", "N", "D"), LUDZIEJEWSKI)
def test_ludziejewski_table_1(C, E, N, D):
    params, tokens = find_law("ludziejewski-2025").optimum(C, experts=E)
    assert params == pytest.approx(N, rel=0.02)
    assert tokens == pytest.approx(D, rel=0.02)


def test_ludziejewski_table_4():
    terms = find_law("ludziejewski-2025").terms()
    assert pytest.approx(30.364, rel=2e-3) == terms.A
    assert terms.alpha == pytest.approx(0.1817, rel=1e-3)


@pytest.mark.parametrize(
    ("variant", "N"),
    [
        ("kaplan-reproduction", 2.97e12),
        ("last-layer", 7.36e11),
        ("warmup", 2.97e11),
        ("decay", 1.83e11),
        ("", 7.70e10),
    ],
)
def test_porian_steps(variant, N):
    law = find_law(f"porian-2024:{variant}" if variant else "porian-2024")
    assert law.optimum(5.88e23)[0] == pytest.approx(N, rel=0.013)


def test_tao_vocabularies():
    law = llmcalc.law("tao-2024")
    assert [int(size) for size in law.vocabulary(7e9)] == [62280, 67450, 59547]
    starved, overfed = (law.vocabulary(302e6, factor * 1e20)[2] for factor in (0.2, 5))
    assert starved < overfed  # more training deserves more words
    with pytest.raises(InputError, match="no vocabulary"):
        llmcalc.law("besiroglu-2024").vocabulary(7e9)


KRAJEWSKI = [
    (1e8, 4.37e9, 8, 2.95e18, 3.133), (1e9, 28.94e9, 16, 1.93e20, 2.491), (3e9, 72.90e9, 16, 1.41e21, 2.245),
    (7e9, 137.60e9, 32, 6.46e21, 2.076), (7e10, 941.07e9, 32, 4.16e23, 1.694),
    (1e12, 7.94e12, 64, 4.97e25, 1.367),
]  # fmt: skip


@pytest.mark.parametrize(("N", "D", "G", "C", "L"), KRAJEWSKI)
def test_krajewski_table_2(N, D, G, C, L):
    """Its N is of all parameters, 64 times the active ones; read as active ones losses are 20 % too high."""
    law = find_law("krajewski-2024")
    assert law.loss(N, D, granularity=G) == pytest.approx(L, rel=0.03)
    best, tokens = law.optimum(C, granularity=G)
    assert best == pytest.approx(N, rel=0.21)  # the table's FLOPs are routing's too
    assert tokens == pytest.approx(D, rel=0.42)
    dense = find_law("krajewski-2024:dense")
    assert dense.loss(1e9, 2e10) == pytest.approx(0.47 + 16.3 / 1e9**0.126 + 26.7 / 2e10**0.127)


def test_porian_batch_is_in_tokens():
    """Of the size of other laws' batches; as sequences of 2,048 it would be billions of tokens."""
    c = find_law("porian-2024").coefficients
    assert 1e6 < power_law(1e9, c["k_B"], c["p_B"]) < 2e6


def test_llama_3():
    tokens = find_law("llama-3").optimum(3.8e25)[1]
    assert tokens == pytest.approx(16.3e12, rel=2e-3)
    assert find_law("llama-3").optimum(3.8e25)[0] == pytest.approx(389e9, rel=2e-3)


def test_minicpm_and_nanochat_ratios():
    for name, ratio in (("minicpm-2024", 192), ("nanochat-2026", 10.5)):
        N, D = find_law(name).optimum(1e19)
        assert pytest.approx(ratio) == D / N
        assert pytest.approx(1e19) == 6 * N * D


def test_tokens_per_parameter_at_the_gopher_budget():
    expected = {
        "besiroglu-2024-huber": 17.9, "besiroglu-2024": 18.4, "muennighoff-2023": 19.6,
        "hoffmann-2022-1": 20.9, "hoffmann-2022-2": 23.9, "hoffmann-2022-3": 58.9,
        "hoffmann-2022-3-rounded": 92.6,
    }  # fmt: skip
    for name, ratio in expected.items():
        N, D = find_law(name).optimum(5.76e23)
        assert pytest.approx(ratio, rel=3e-3) == D / N, name


# -- properties --------------------------------------------------------------------------------


@pytest.mark.parametrize("law", [law for law in LAWS if law.terms() is not None], ids=str)
def test_the_optimum_is_the_least_loss_of_its_compute(law):
    if "optimum" not in law.answers:
        return
    N, D = law.optimum(1e21)
    assert pytest.approx(1e21) == 6 * N * D
    least = law.loss(N, D)
    for factor in (0.5, 0.9, 1.1, 2.0):
        assert law.loss(N * factor, D / factor) > least
    assert law.compute(params=N) == pytest.approx(1e21)
    assert law.compute(tokens=D) == pytest.approx(1e21)
    assert law.compute(loss=least) == pytest.approx(1e21)


@pytest.mark.parametrize("law", all_laws(answer="optimum"), ids=str)
def test_an_optimum_is_inverted_and_takes_arrays(law):
    N, D = law.optimum(3e20)
    assert law.compute(params=N) == pytest.approx(3e20, rel=1e-9)
    assert law.compute(tokens=D) == pytest.approx(3e20, rel=1e-9)
    both = law.optimum(np.array([3e20, 3e24]))
    assert both[0] == pytest.approx([N, law.optimum(3e24)[0]])
    assert both[1] == pytest.approx([D, law.optimum(3e24)[1]])


@pytest.mark.parametrize("law", all_laws(answer="loss"), ids=str)
def test_losses_take_arrays(law):
    N, D = np.array([1e9, 2e9]), np.array([20e9, 40e9])
    found = law.loss(N, D)
    assert found == pytest.approx([law.loss(1e9, 20e9), law.loss(2e9, 40e9)])
    assert found[1] < found[0]


def test_intervals_agree_with_the_bootstrap():
    """80 % of tokens per parameter over 1,000 resamples, at two budgets."""
    law = find_law("besiroglu-2024-huber")
    for C, low, high in ((1e21, 17.1, 26.1), (5.76e23, 10.1, 28.2)):
        small, large = law.params_interval(C)
        assert C / 6 / large**2 == pytest.approx(low, rel=0.08)
        assert C / 6 / small**2 == pytest.approx(high, rel=0.08)
        N, D = law.optimum(C)
        least, most = law.loss_interval(N, D)
        assert least < law.loss(N, D) < most


def test_intervals_widen_away_from_the_data():
    for name in ("besiroglu-2024", "hoffmann-2022-1", "hoffmann-2022-2"):
        law = find_law(name)
        widths = [high / low for low, high in map(law.params_interval, (1e21, 1e23, 1e25))]
        assert widths == sorted(widths)
    assert find_law("hoffmann-2022-3").params_interval(1e21) is None
    assert find_law("sardana-2024:up-to-100").loss_interval(1e9, 1e11) is None


def test_the_range_fitted():
    law = find_law("besiroglu-2024")
    assert law.outside(compute=1e20) == []
    assert "above 1.3e+22" in law.outside(compute=5.76e23)[0]
    assert "below" in find_law("zhang-2024").outside(params=1e6)[0]


def test_repeating_is_worth_ever_less():
    law = find_law("muennighoff-2023")
    losses = [law.loss(7e9, D, unique=20e9) for D in (20e9, 40e9, 80e9, 400e9, 4e12)]
    assert losses == sorted(losses, reverse=True)
    for D in (40e9, 80e9, 400e9):
        found = law.repeated(7e9, D, 20e9)
        assert 20e9 < found["effective_tokens"] < D
        assert found["epochs"] == D / 20e9


def test_numeric_helpers():
    assert root(lambda x: x**3 - 8, 1e-6, 1e6) == pytest.approx(2)
    assert minimum(lambda x: (np.log(x) - 3) ** 2, 1e-6, 1e6) == pytest.approx(np.exp(3), rel=1e-6)
    assert spread(lambda v: 3 * v[0], [2.0], [[0.25]]) == pytest.approx(1.5)


# -- the catalog -------------------------------------------------------------------------------


def test_all_laws_are_there():
    assert len(LAWS) == 45
    assert sum(law.is_silent for law in LAWS) == 10
    assert {law.entry["status"] for law in LAWS} <= {*SILENT, "two-sources", "one-source"}
    for law in LAWS:
        assert law.entry["sources"]
        assert law.entry["equation"]
        assert set(law.entry.get("units", {})) >= set(law.coefficients)


@pytest.mark.parametrize("law", [law for law in LAWS if law.is_silent], ids=str)
def test_a_silent_law_gives_no_numbers(law):
    assert law.coefficients == {}
    with pytest.raises(InputError, match=rf"{law.name} gives no numbers"):
        law.loss(1e9, 1e10)
    with pytest.raises(InputError, match=law.name):
        llmcalc.chinchilla(compute=1e21, law=law.name)


def test_a_law_refuses_what_it_does_not_give():
    with pytest.raises(InputError, match="gives no optimum"):
        find_law("kaplan-2020-params").optimum(1e21)
    with pytest.raises(InputError, match="needs parameters and tokens"):
        find_law("besiroglu-2024").loss(1e9)
    with pytest.raises(UnknownNameError, match="no variant"):
        find_law("llama-3:figure")
    with pytest.raises(UnknownNameError, match="hoffmann-2022-1"):
        find_law("hoffmann-2022")
    with pytest.raises(UnknownNameError, match="no scaling law"):
        find_law("hofmann-2022-9")


def test_formulas_are_importable_from_laws():
    from llmcalc.scaling import laws

    loss = laws.chinchilla_loss(70e9, 1.4e12, 1.8172, 482.01, 2085.43, 0.3478, 0.3658)
    assert loss == pytest.approx(1.9739, abs=1e-4)
    assert laws.training_flops(6_900_000_000, 140_000_000_000) == 5.796e21
    with pytest.raises(AttributeError):
        laws.nothing_of_that_name  # noqa: B018


def test_compute_outgrows_64_bits_quietly():
    from llmcalc.compute.conventions import training_flops

    N, D = np.array([6_900_000_000]), np.array([140_000_000_000])
    assert training_flops(N, D)[0] == pytest.approx(5.796e21)
    assert training_flops(70_000_000_000, 15_000_000_000_000) == pytest.approx(6.3e24)


def test_python_lists_laws():
    assert [law.name for law in llmcalc.laws("llama")] == ["llama-3"]
    assert "deepseek-2024" in [law.name for law in llmcalc.laws(answers="learning-rate")]
    assert llmcalc.law("chinchilla").name == "hoffmann-2022-3"


def test_laws_command(capsys):
    assert run(["laws", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["rows"]) == 45
    assert run(["laws", "--search", "vocabulary", "--format", "csv"]) == 0
    assert "tao-2024" in capsys.readouterr().out
    assert run(["laws", "--answers", "critical-batch", "--json"]) == 0
    assert {row["name"] for row in json.loads(capsys.readouterr().out)["rows"]} == {
        "kaplan-2020-critical-batch", "kaplan-2020-allocation", "zhang-2024",
    }  # fmt: skip
    assert run(["laws", "show", "besiroglu2024", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["entry"]["coefficients"]["A"] == 482.01
    assert shown["entry"]["units"]["E"] == "nats/token"
    assert "epoch-replication-code" in shown["sources"]
    assert run(["laws", "show", "farseer-2025"]) == 0
    assert "no numbers" in capsys.readouterr().out
    assert run(["laws", "show", "porian-2024:warmup", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["coefficients_of_variant"]["a"] == 0.6035


@pytest.mark.parametrize(
    "name", ["besiroglu-2024", "kaplan-2020-params", "step-law-2025", "zhang-2024", "clark-2022"]
)
def test_laws_are_drawn(name, tmp_path, capsys):
    file = tmp_path / "law.png"
    assert run(["laws", "show", name, "--plot", str(file)]) == 0
    assert file.stat().st_size > 5000


@pytest.mark.parametrize("name", ["farseer-2025", "villalobos-2024", "no-such-law"])
def test_what_can_not_be_drawn(name, capsys, tmp_path):
    assert run(["laws", "show", name, "--plot", str(tmp_path / "law.png")]) == 2
    assert name in capsys.readouterr().err


def test_a_law_of_ones_own(tmp_path):
    file = tmp_path / "own.yaml"
    file.write_text(
        "laws:\n  - name: acme-law\n    title: Our fit\n    year: 2026\n    answers: [optimum, loss]\n"
        "    form: chinchilla\n    equation: L = E + A/N^alpha + B/D^beta\n"
        "    coefficients: {E: 1.5, A: 400.0, B: 400.0, alpha: 0.34, beta: 0.34}\n"
        "    units: {E: nats, A: nats, B: nats, alpha: '-', beta: '-'}\n"
        "    convention: total\n    status: user\n",
        encoding="utf-8",
    )
    found = llmcalc.chinchilla(compute=6e20, law="acme-law", catalog=str(file))
    assert found.tokens_per_param == pytest.approx(1)
    broken = file.read_text(encoding="utf-8").replace("beta: '-'", "gamma: '-'")
    file.write_text(broken, encoding="utf-8")
    with pytest.raises(llmcalc.LlmcalcError, match="units must name the same"):
        llmcalc.law("acme-law", catalog=str(file))
