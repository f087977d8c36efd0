"""Cost: worked figures of model cards and papers, published runs predicted from each other, bad input."""

import json
import math
import statistics
import subprocess
import sys

import numpy as np
import pytest

import llmcalc
from llmcalc.catalog import Catalog
from llmcalc.compute import cost as leaf
from llmcalc.compute import utilization
from llmcalc.compute.peaks import peak_of

RUNS = Catalog.shipped().entries("trainings")
FITTED = [run for run in RUNS if run.get("use") == "fit"]
SEVERAL_PASSES = {"llama3-8b", "llama31-8b", "llama31-70b", "llama32-3b"}
"""Model cards whose hours cover more than the final pass."""


def run(*words):
    """A real process."""
    return subprocess.run(
        [sys.executable, "-m", "llmcalc", "cost", *words], capture_output=True, text=True, check=False
    )


def entry_of(published):
    return Catalog.shipped().lookup("gpus", published["gpu"])


def implied(published):
    """MFU over all hours by 6 N D and the 16-bit peak."""
    active = published.get("active") or published["params"]
    peak = peak_of(entry_of(published), "bf16")
    return 6.0 * active * published["tokens"] / (published["hours"] * 3600 * peak)


# -- published runs ---------------------------------------------------------------------------------

IMPLIED = {
    # As the data's own column has it, in percent.
    "llama1-7b": 43.4, "llama1-13b": 51.4, "llama1-33b": 45.8, "llama2-34b": 35.0, "llama3-8b": 15.6,
    "llama31-8b": 13.9, "llama31-70b": 25.5, "llama32-3b": 10.6, "llama4-scout": 22.9,
    "llama4-maverick": 26.5,
    "pythia-70m": 22.1, "pythia-160m": 25.2, "pythia-410m": 25.6, "pythia-1b": 33.6, "pythia-1.4b": 31.8,
    "pythia-2.8b": 31.2, "pythia-6.9b": 32.8, "pythia-12b": 26.2, "palm-540b": 30.4, "falcon-180b": 47.9,
    "smollm3-3b": 26.2, "bloomberggpt-50b": 23.6, "starcoderbase-15b": 25.9, "deepseek-v3": 34.6,
    "deepseek-v2": 20.5, "deepseek-67b": 37.5, "phi-4": 25.1, "tinyllama-300b": 51.0, "pythia-1b-tl": 33.5,
    "mpt-1.3b-tl": 26.3,
}  # fmt: skip


def test_implied_utilization_of_every_run_with_hours_and_tokens():
    for name, printed in IMPLIED.items():
        published = next(one for one in RUNS if one["name"] == name)
        assert 100 * implied(published) == pytest.approx(printed, abs=0.06)


def test_the_cards_that_cover_more_than_one_pass_are_named():
    named = {one["name"] for one in RUNS if "more than the final pass" in one.get("left_out", "")}
    assert named == SEVERAL_PASSES
    assert all(100 * implied(one) < 26 for one in RUNS if one["name"] in SEVERAL_PASSES)
    for one in RUNS:
        assert (one.get("use") == "fit") != bool(one.get("left_out"))


def columns(published):
    """One column for Ampere, one for all others; the logarithm of the size."""
    ampere = entry_of(published)["architecture"] == "Ampere"
    size = min(max(published.get("active") or published["params"], 7e7), 1e11)
    return [float(ampere), float(not ampere), math.log(size / 1e10)]


def fit(runs):
    made = np.linalg.lstsq(np.array([columns(one) for one in runs]),
                           np.log([implied(one) for one in runs]), rcond=None)  # fmt: skip
    return made[0]


def test_the_default_utilization_is_the_fit_of_these_runs():
    ampere, others, slope = fit(FITTED)
    assert math.exp(ampere) == pytest.approx(utilization.BASES["Ampere"], abs=0.001)
    assert math.exp(others) == pytest.approx(utilization.BASES["Hopper"], abs=0.001)
    hopper = utilization.BASES["Hopper"]
    assert hopper == utilization.OTHERS
    assert len(FITTED) == 25
    for family, number in utilization.RUNS.items():
        assert sum(entry_of(one)["architecture"] == family for one in FITTED) == number
    tenfold = math.exp(slope * math.log(10))
    assert leaf.default_utilization(1.0, 1e11) == pytest.approx(tenfold, rel=0.002)


def test_gpu_hours_of_each_run_from_the_others():
    errors = []
    for left in FITTED:
        found = fit([one for one in FITTED if one is not left])
        expected = math.exp(float(np.dot(columns(left), found)))
        errors.append(implied(left) / expected - 1)  # hours predicted over hours published
    assert len(errors) == 25
    assert statistics.median(map(abs, errors)) < 0.18  # the target was 0.25
    assert sorted(map(abs, errors))[22] < 0.51


def test_nine_runs_of_ten_lie_in_the_range():
    inside = 0
    for published in FITTED:
        active = published.get("active") or published["params"]
        made = llmcalc.cost(
            params=published["params"], active=active, tokens=published["tokens"], gpu=published["gpu"]
        )
        hours = made["gpu_hours"]
        inside += hours.low <= published["hours"] <= hours.high
    assert inside >= 22


# -- worked figures ---------------------------------------------------------------------------------


def test_llama_2_70b_in_12_days_for_2_million():
    """1,720,320 hours are the card's; 6,000 GPUs, 12 days and 2 M$ are what is told of it."""
    card = llmcalc.cost("llama-2-70b", tokens="2t", gpu="6000xa100-80gb", mfu=0.4285, goodput=1, price=1.16)
    assert card["gpu_hours"].value == pytest.approx(1_720_320, rel=0.001)
    assert card["days"].value == pytest.approx(12, abs=0.1)
    assert card["price"].value == pytest.approx(2e6, rel=0.01)
    usual = llmcalc.cost("llama-2-70b", tokens="2t", gpu="6000xa100-80gb")
    assert usual["gpu_hours"].value == pytest.approx(1_720_320, rel=0.10)
    assert usual["gpu_hours"].low < 1_720_320 < usual["gpu_hours"].high
    assert usual["price"].low < 2e6 < usual["price"].high
    # Operations do not differ; utilization and the price of an hour do.
    assert usual["flops_6nd"].value == card["flops_6nd"].value


def test_energy_and_carbon_of_llama():
    made = llmcalc.cost("llama-7b", tokens="1t", gpu="a100-80gb", mfu=0.43, goodput=1, carbon=385)
    hours = made["gpu_hours"].value
    assert made["energy"].value == pytest.approx(hours * 400 * 1.1 / 1e6)
    assert made["energy"].unit == "MWh"
    assert made["co2"].value == pytest.approx(made["energy"].value * 0.385)
    assert round(leaf.energy_kwh(530_432, 400, 1, 1.1) / 1000) == 233  # LLaMA 33B, table 15
    assert round(leaf.emissions_t(233_390, 385)) == 90


def test_deepseek_v3s_price():
    made = llmcalc.cost("deepseek-v3", tokens="14.8t", gpu="2048xh800", mfu=0.3515, goodput=1, price="$2")
    assert made["price"].value == pytest.approx(5_328_000, rel=0.002)
    assert made["days"].value == pytest.approx(2_664_000 / 2048 / 24, rel=0.002)


def test_hfu_is_mfu_and_the_forward_pass_once_more():
    mfu = llmcalc.cost("gpt-3", tokens="300b", gpu="a100-80gb", mfu=0.375, goodput=1)
    hfu = llmcalc.cost("gpt-3", tokens="300b", gpu="a100-80gb", hfu=0.5, recompute="full", goodput=1)
    assert hfu["gpu_hours"].value == pytest.approx(mfu["gpu_hours"].value)
    # Narayanan et al. 2021, section 5.3: 8 T P / (n X), 34 days on 1,024 GPUs at 140 TFLOP/s.
    days = llmcalc.cost(params="175b", tokens="300b", gpu="1024xa100-80gb", hfu=140 / 312, recompute="full",
                        goodput=1)["days"].value  # fmt: skip
    assert days == pytest.approx(34, abs=0.5)


def test_what_a_stated_hfu_recomputes_goes_by_the_convention():
    given = {"tokens": "1t", "gpu": "h100", "hfu": 0.5, "context": 8192}
    bare = llmcalc.cost("llama-3.1-8b", recompute="selective", **given)
    assert bare["mfu"].value == 0.5  # 6 N D knows no attention
    assert "counts nothing of what is recomputed" in bare["mfu"].note
    for recompute in ("selective", "full"):
        made = llmcalc.cost("llama-3.1-8b", recompute=recompute, convention="exact", **given)
        counted = llmcalc.flops("llama-3.1-8b", context=8192, recompute=recompute)
        model, executed = (counted[name].value for name in ("flops_per_token", "executed_per_token"))
        assert made["mfu"].value == pytest.approx(0.5 * model / executed)
    lora = llmcalc.cost("llama-3.1-8b", method="lora", recompute="full", **given)
    assert 0.375 > lora["mfu"].value > 0.3  # the backward pass of frozen weights is once the forward one


def test_precisions_without_published_runs_are_said_so():
    made = llmcalc.cost("llama-3.1-8b", tokens="1t", gpu="h100", precision="fp8")["mfu"]
    assert made.grade == "assumed"
    assert made.note == "0.6 of that of bf16 on Hopper; no published runs in fp8"


def test_an_mfu_just_above_1_is_no_percentage():
    for mfu, hint in ((1.2, False), (1, None), (40, True)):
        if hint is None:
            assert llmcalc.cost(params="8b", tokens="1t", gpu="h100", mfu=mfu)["mfu"].value == 1
            continue
        with pytest.raises(llmcalc.LlmcalcError) as caught:
            llmcalc.cost(params="8b", tokens="1t", gpu="h100", mfu=mfu)
        assert ("Write" in str(caught.value.remedy)) == hint


def test_the_bubble_is_on_top_of_a_stated_mfu():
    bare = llmcalc.cost("llama-3.1-8b", tokens="1t", gpu="64xh100", mfu=0.4, goodput=1)
    piped = llmcalc.cost(
        "llama-3.1-8b", tokens="1t", gpu="64xh100", mfu=0.4, goodput=1, pp=8, micro_batches=64
    )
    assert piped["bubble"].value == pytest.approx(7 / 64)
    assert piped["gpu_hours"].value == pytest.approx(bare["gpu_hours"].value * (1 + 7 / 64))
    usual = llmcalc.cost("llama-3.1-8b", tokens="1t", gpu="64xh100", pp=8, micro_batches=64)
    assert (
        usual["gpu_hours"].value
        == llmcalc.cost("llama-3.1-8b", tokens="1t", gpu="64xh100")["gpu_hours"].value
    )


def test_a_deadline_is_met_by_as_many_gpus():
    made = llmcalc.cost("llama-3.1-8b", tokens="1t", gpu="h100", mfu=0.4, goodput=0.9, days=30)
    gpus = made["deadline_gpus"].value
    again = llmcalc.cost("llama-3.1-8b", tokens="1t", gpu=f"{gpus}xh100", mfu=0.4, goodput=0.9)
    assert again["days"].value <= 30 < again["days"].value * gpus / (gpus - 1)
    late = llmcalc.cost("llama-3.1-8b", tokens="1t", gpu="8xh100", days=30)
    assert any("more than --days 30" in warning for warning in late.warnings)


def test_fine_tuning_counts_examples():
    made = llmcalc.cost("llama-3.1-8b", examples="52k", epochs=3, context=512, batch=128, gpu="8xh100")
    assert made["tokens"].value == 52_000 * 512 * 3
    assert made["steps"].value == 1219
    steps = llmcalc.cost("llama-3.1-8b", steps=1000, batch=32, context=2048, gpu="h100")
    assert steps["tokens"].value == 1000 * 32 * 2048
    lora = llmcalc.cost("llama-3.1-8b", examples="52k", method="lora", gpu="h100")
    full = llmcalc.cost("llama-3.1-8b", examples="52k", gpu="h100")
    assert 0.6 < lora["gpu_hours"].value / full["gpu_hours"].value < 0.72
    assert lora["adapter_bytes"].value == 4 * 41_943_040  # rank 16 on all linears


def test_the_convention_of_an_mfu_changes_the_hours():
    plain = llmcalc.cost("llama-3.1-8b", tokens="1t", gpu="h100", mfu=0.4, context=8192)
    palm = llmcalc.cost("llama-3.1-8b", tokens="1t", gpu="h100", mfu=0.4, convention="palm", context=8192)
    assert palm["gpu_hours"].value / plain["gpu_hours"].value == pytest.approx(61.066 / 48.182, rel=1e-3)


def test_disk():
    made = llmcalc.cost("llama-3.1-8b", tokens="1t", checkpoints=3)
    assert made["weights_bytes"].value == 2 * 8_030_261_248
    assert made["checkpoint_bytes"].value == 3 * 14 * 8_030_261_248
    assert made["token_file_bytes"].value == 4 * 10**12
    assert llmcalc.cost("gpt2", tokens="10b")["token_file_bytes"].value == 2 * 10**10


def test_serving():
    made = llmcalc.cost(throughput=2500, price=2, output=500, reasoning_tokens=1500, samples=4, requests="1m")
    assert made["price_per_million"].value == pytest.approx(2 / 9)
    assert made["multiplier"].value == 16
    assert made["price_per_million_shown"].value == pytest.approx(16 * 2 / 9)
    assert made["price_per_answer"].value == pytest.approx(8000 * 2 / 9 / 1e6)
    assert made["price_requests"].value == pytest.approx(8000 * 2 / 9)
    half = llmcalc.cost(throughput=2500, price=2, busy="50%")
    assert half["price_per_million"].value == pytest.approx(4 / 9)


def test_the_data_wall():
    made = llmcalc.cost("llama-3.1-8b", tokens="400t")
    assert made.grid("stocks").rows[-1]["share"] == pytest.approx(400 / 300)
    assert any("more than all public text" in warning for warning in made.warnings)
    repeated = llmcalc.cost("llama-3.1-8b", tokens="10t", unique="1t")
    assert repeated["epochs"].value == 10
    assert any("Muennighoff" in warning for warning in repeated.warnings)
    assert not llmcalc.cost("llama-3.1-8b", tokens="300b").grids


# -- prices -----------------------------------------------------------------------------------------


def test_prices_carry_date_and_source_and_a_stated_one_wins():
    made = llmcalc.cost("llama-3.1-8b", tokens="1t", gpu="h100")["gpu_hour_price"]
    assert made.grade == "assumed"
    assert "2026" in made.note
    assert made.low < made.value < made.high
    assert llmcalc.cost("llama-3.1-8b", tokens="1t", gpu="h100", price=9)["gpu_hour_price"].value == 9
    gpus = {str(entry["name"]) for entry in Catalog.shipped().entries("gpus")}
    for entry in Catalog.shipped().entries("prices"):
        assert entry["name"] in gpus
        for offer in entry["offers"]:
            assert offer["date"]
            assert offer["source"]


def test_currencies():
    euro = llmcalc.cost("llama-3.1-8b", tokens="1t", gpu="h100", currency="eur", exchange=0.9)
    dollar = llmcalc.cost("llama-3.1-8b", tokens="1t", gpu="h100")
    assert euro["price"].value == pytest.approx(0.9 * dollar["price"].value)
    assert euro["price"].unit == "EUR"
    for text in ("2.5EUR", "2.5 eur", "€2.5"):
        assert llmcalc.cost(throughput=100, price=text)["gpu_hour_price"].unit == "EUR/GPU-h"


def test_a_user_catalog_brings_prices(tmp_path):
    own = tmp_path / "own.yaml"
    own.write_text(
        "prices:\n  - name: H100 SXM\n    offers:\n      - {from: us, kind: on-demand, usd: [1.5], "
        "date: '2026-11', source: our contract}\n"
    )
    made = llmcalc.cost("llama-3.1-8b", tokens="1t", gpu="h100", catalog=str(own))
    assert made["gpu_hour_price"].value == 1.5


# -- showing it -------------------------------------------------------------------------------------


def test_every_format():
    made = llmcalc.cost("llama-2-70b", tokens="2t", gpu="6000xa100-80gb", carbon=385)
    for kind in ("markdown", "latex", "html", "csv"):
        assert "2T tokens" in getattr(made, f"to_{kind}")() or "tokens" in getattr(made, f"to_{kind}")()
    assert json.loads(made.to_json())["figures"]["gpu_hours"]["unit"] == "GPU-h"
    assert "gpu_hours = flops / (peak * used) / 3600" in made.explain()
    assert max(map(len, made.to_text().splitlines())) <= 80
    frame = pytest.importorskip("pandas") and made.to_frame()
    assert frame.loc["gpu_hours", "unit"] == "GPU-h"


def test_the_default_utilization_is_explained_with_its_values():
    made = llmcalc.cost("llama-2-70b", tokens="2t", gpu="6000xa100-80gb")
    assert "0.347 * (68,976,648,192 / 10000000000.0) ** 0.0634" in made.explain()
    used = made["utilization"]
    assert used.value == pytest.approx(leaf.default_utilization(**used.inputs))
    assert made["mfu"].value * made["goodput"].value == pytest.approx(used.value)
    other = llmcalc.cost("llama-2-70b", tokens="2t", gpu="6000xa100-80gb", goodput=0.8)
    assert other["mfu"].value * 0.8 == pytest.approx(other["utilization"].value)
    assert "MFU of a step x goodput" in other.explain()


def test_the_picture_of_days(tmp_path):
    pytest.importorskip("matplotlib")
    made = llmcalc.cost("llama-2-70b", tokens="2t", gpu="6000xa100-80gb")
    made.plot(str(tmp_path / "days.png"))
    assert (tmp_path / "days.png").stat().st_size > 10_000
    with pytest.raises(llmcalc.LlmcalcError, match="nothing to draw"):
        llmcalc.cost(throughput=2500, price=2).plot(str(tmp_path / "none.png"))


def test_the_call_is_printed_for_python():
    done = run("llama-2-70b", "--tokens", "2t", "--gpu", "6000xa100-80gb", "--python")
    assert done.returncode == 0
    assert "llmcalc.cost('llama-2-70b', tokens='2t', gpu='6000xa100-80gb')" in done.stdout


# -- bad input --------------------------------------------------------------------------------------

BAD = [
    (["llama-3.1-8b", "--tokens", "2t", "--gpu", "h100", "--mfu", "1.01"], "above 1", "40%"),
    (["llama-3.1-8b", "--tokens", "2t", "--gpu", "h100", "--mfu", "45"], "above 1", "Write 45% or 0.45"),
    (["llama-3.1-8b", "--tokens", "-2t", "--gpu", "h100"], "must be above 0", "13b"),
    (["llama-3.1-8b", "--gpu", "h100"], "is not said", "--tokens"),
    (["llama-3.1-8b", "--tokens", "1t", "--examples", "5k"], "twice", "--tokens"),
    (["llama-3.1-8b", "--tokens", "1t", "--currency", "EURO"], "not known", "EUR"),
    (["llama-3.1-8b", "--tokens", "1t", "--price", "2XAU"], "not known", "USD"),
    (["llama-3.1-8b", "--tokens", "1t", "--gpu", "h100", "--currency", "EUR"], "not known", "--exchange"),
    (["llama-3.1-8b", "--tokens", "1t", "--price", "-1"], "can't be", "2.5"),
    (["llama-3.1-405b", "--tokens", "15t", "--gpu", "h100", "--days", "0.01"], "3,760,000", "--days"),
    (["llama-3.1-8b", "--tokens", "1t", "--gpu", "h100", "--days", "0"], "must be above 0", "30"),
    (["llama-3.1-8b", "--tokens", "1t", "--gpu", "h100", "--days", "-3"], "can't be negative", "30"),
    (["llama-3.1-8b", "--tokens", "1t", "--gpu", "h100,a100-80gb"], "several kinds", "name one"),
    (["llama-3.1-8b", "--tokens", "1t", "--gpu", "80GiB"], "tells no speed", "h100"),
    (["llama-3.1-8b", "--tokens", "1t", "--days", "30", "--pue", "1.2"], "--days and --pue need", "--gpu"),
    (["llama-3.1-8b", "--tokens", "1t", "--mfu", "0.4", "--hfu", "0.5"], "twice", "one of them"),
    (["llama-3.1-8b", "--tokens", "1t", "--pue", "0.9"], "below 1", "1.1"),
    (["llama-3.1-8b", "--tokens", "1t", "--pp", "8"], "bubble", "--micro-batches"),
    (["--params", "7b", "--tokens", "1t", "--active", "9b"], "above all", "one token"),
    (["--params", "7b", "--tokens", "1t", "--method", "lora"], "needs the model", "config.json"),
    (["--params", "7b", "--tokens", "1t", "--convention", "palm"], "shape", "config.json"),
    (["llama-3.1-8b", "--throughput", "2500"], "price", "--price"),
    (["llama-3.1-8b", "--throughput", "0", "--price", "2"], "must be above 0", "2500"),
    (["llama-3.1-8b", "--throughput", "9", "--price", "2", "--mfu", "0.4"], "serving", "Leave"),
    (["llama-3.1-8b", "--tokens", "1t", "--samples", "4"], "for serving", "--throughput"),
    (["llama-3.1-8b", "--tokens", "1t", "--recompute", "full"], "stated HFU", "--hfu"),
    (["llama-3.1-8b", "--tokens", "1t", "--gpu", "h100", "--exchange", "0.9"], "dollars", "--currency"),
    (["llama-3.1-8b", "--steps", "100"], "sequences of a step", "--batch"),
    (["gpt2", "--tokens", "1t", "--gpu", "tpu-v5e", "--precision", "fp4"], "no fp4 peak", "--precision"),
]  # fmt: skip


@pytest.mark.parametrize(("words", "problem", "remedy"), BAD, ids=[" ".join(words) for words, _, _ in BAD])
def test_bad_input(words, problem, remedy):
    done = run(*words)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert problem in done.stderr
    assert remedy in done.stderr.strip().splitlines()[-1]


def test_all_mistakes_together():
    done = run(
        "llama-3.1-8b", "--tokens", "-1", "--gpu", "h100", "--mfu", "2", "--price", "2XYZ", "--days", "-1"
    )
    assert done.returncode == 2
    for word in ("--tokens", "--mfu", "XYZ", "--days"):
        assert word in done.stderr
