"""chinchilla and hparams: budgets, prices, inference, repeats, mixtures; what contradicts is refused."""

import json
import subprocess
import sys
from pathlib import Path

import jsonschema
import numpy as np
import pytest

import llmcalc
from llmcalc.cli import run
from llmcalc.errors import InputError

SCHEMA = json.loads(
    (Path(__file__).parents[1] / "docs" / "schema" / "scaling.schema.json").read_text(encoding="utf-8")
)


def spawn(*arguments):
    command = [sys.executable, "-m", "llmcalc", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL, check=False
    )


# -- the optimum -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "law", ["besiroglu-2024", "hoffmann-2022-3", "muennighoff-2023", "hoffmann-2022-1", "llama-3"]
)
def test_any_one_of_the_four_gives_the_same_optimum(law):
    first = llmcalc.chinchilla(compute=1e22, law=law)
    for given in ({"params": first.params}, {"tokens": first.tokens}):
        again = llmcalc.chinchilla(law=law, **{key: round(value) for key, value in given.items()})
        assert again.compute == pytest.approx(1e22, rel=1e-6)
        assert again.tokens_per_param == pytest.approx(first.tokens_per_param, rel=1e-6)
    if first.loss is not None:
        assert llmcalc.chinchilla(loss=first.loss, law=law).compute == pytest.approx(1e22, rel=1e-6)


def test_the_contract_names_this_call():
    found = llmcalc.chinchilla(compute=1e21, law="hoffmann-2022-3")
    assert found.params == pytest.approx(2.217e9, rel=1e-3)
    assert found.tokens == pytest.approx(7.518e10, rel=1e-3)
    assert llmcalc.chinchilla(params="70b").params == 70e9
    assert llmcalc.chinchilla(tokens="15t").tokens == 15e12


def test_gpus_days_and_mfu_are_a_budget():
    found = llmcalc.chinchilla(gpu="8xh100-80gb", days=30, mfu="40%")
    assert found.compute == pytest.approx(8 * 30 * 86400 * 989.4e12 * 0.4)
    assert found["hardware"]["days"] == pytest.approx(30)
    assert found.warnings == [] or "assumed" not in " ".join(found.warnings)
    asked = llmcalc.chinchilla(gpu="8xh100-80gb", params="7b")
    used = asked["hardware"]["mfu"]
    assert asked["hardware"]["days"] == pytest.approx(asked.compute / (8 * 86400 * 989.4e12 * used))
    assert any(f"{100 * used:.0f} %" in warning for warning in asked.warnings)
    fast = llmcalc.chinchilla(gpu="8xh100-80gb", days=30, mfu=0.4, dtype="fp8")
    assert fast.compute == pytest.approx(2 * found.compute, rel=1e-3)


@pytest.mark.parametrize("given", [
    {"params": "7b"}, {"days": 30}, {"compute": 1e23}, {"tokens": "1t"}, {"loss": 2.1},
    {"params": "7b", "tokens": "2t"},
])  # fmt: skip
@pytest.mark.parametrize("gpu", ["8xh100-80gb", "1024xa100-80gb", "64xmi300x"])
def test_the_default_utilization_is_that_of_cost(gpu, given):
    """Days, or the budget of given days, are those of `cost` for the same parameters and tokens."""
    found = llmcalc.chinchilla(gpu=gpu, **given)
    cost = llmcalc.cost(params=round(found.params), tokens=round(found.tokens), gpu=gpu)
    assert found["hardware"]["days"] == pytest.approx(cost["days"].value, rel=0.02)
    assert found["hardware"]["mfu_range"] == pytest.approx(
        [cost["utilization"].low, cost["utilization"].high], rel=0.02
    )
    if "days" in given:
        assert found["hardware"]["days"] == pytest.approx(30)


def test_default_laws_and_all_of_them():
    found = llmcalc.chinchilla(compute=5.76e23)
    assert [row["law"] for row in found["laws"]] == [
        "besiroglu-2024", "hoffmann-2022-3", "muennighoff-2023", "hoffmann-2022-1",
    ]  # fmt: skip
    assert found["rule_of_20"]["params"] == pytest.approx(69.3e9, rel=1e-3)
    every = llmcalc.chinchilla(compute=5.76e23, law="all")
    assert len(every["laws"]) == 15
    apart = " ".join(every.left_out)
    assert all(name in apart for name in ("sardana-2024", "krajewski-2024", "tao-2024", "busbridge-2025"))
    ratios = [row["tokens_per_param"] for row in every["laws"]]
    assert min(ratios) < 1
    assert max(ratios) == pytest.approx(192)
    assert any("besiroglu-2024 was fitted" in warning for warning in every.warnings)


def test_intervals_are_of_what_was_not_given():
    by_compute = llmcalc.chinchilla(compute=1e22)
    low, high = by_compute.params_range
    assert low < by_compute.params < high
    low, high = by_compute.tokens_per_param_range
    assert low < by_compute.tokens_per_param < high
    by_params = llmcalc.chinchilla(params="9b")
    assert by_params.params_range is None
    low, high = by_params.tokens_range
    assert low < by_params.tokens < high
    by_tokens = llmcalc.chinchilla(tokens="180b")
    low, high = by_tokens.params_range
    assert low < by_tokens.params < high
    assert by_tokens.tokens_range is None


def test_arrays_in_arrays_out():
    budgets = np.geomspace(1e20, 1e24, 5)
    found = llmcalc.chinchilla(compute=budgets)
    singles = [llmcalc.chinchilla(compute=C) for C in budgets]
    assert found.params.tolist() == [one.params for one in singles]
    assert found.loss.tolist() == [one.loss for one in singles]
    assert found["laws"][2]["tokens"].tolist() == [one["laws"][2]["tokens"] for one in singles]
    assert found.params_range[1].tolist() == [one.params_range[1] for one in singles]
    assert len(found.to_frame()) == 20
    assert found.to_dict()["compute"] == budgets.tolist()
    both = llmcalc.chinchilla(params=["1b", "7b"], tokens="1t")
    assert both.compute.tolist() == [6e21, 4.2e22]
    assert llmcalc.chinchilla(params="7,000,000,000").params == 7e9


def test_the_price_of_being_off_the_optimum():
    found = llmcalc.chinchilla("llama-3.1-8b", tokens="15t")
    off = found.off_optimum
    assert found.params == 8_030_261_248
    assert 6 * off["params"] * off["tokens"] == pytest.approx(found.compute)
    assert off["excess_loss"] > 0
    assert 0.5 < off["wasted_share"] < 0.95
    best = llmcalc.chinchilla(compute=off["compute_for_same_loss"], law="besiroglu-2024")
    assert best.loss == pytest.approx(found.loss)
    at_best = llmcalc.chinchilla(params=round(off["params"]), tokens=round(off["tokens"]))
    assert at_best.off_optimum["excess_loss"] == pytest.approx(0, abs=1e-9)


def test_a_loss_and_a_size_give_the_tokens():
    found = llmcalc.chinchilla(params="7b", loss=2.2, law="besiroglu-2024")
    assert llmcalc.law("besiroglu-2024").loss(7e9, found.tokens) == pytest.approx(2.2)
    again = llmcalc.chinchilla(tokens=round(found.tokens), loss=2.2, law="besiroglu-2024")
    assert again.params == pytest.approx(7e9, rel=1e-6)


def test_models_are_counted_as_each_law_counts():
    found = llmcalc.chinchilla("qwen2.5-0.5b", tokens="1t", law="all")
    by_law = {row["law"]: row["params"] for row in found["laws"]}
    assert by_law["besiroglu-2024"] == 494_032_768
    assert by_law["kaplan-2020-allocation"] == 494_032_768 - 136_134_656


def test_more_tokens_than_people_wrote():
    assert any("stock" in warning for warning in llmcalc.chinchilla(params="70b", tokens="500t").warnings)


# -- inference, repeats, mixtures --------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "served", "params", "ratio"), [("7b", "100b", 6.0e9, 1.18), ("30b", "10t", 13.6e9, 2.84)]
)
def test_sardana_examples(size, served, params, ratio):
    found = llmcalc.chinchilla(params=size, law="hoffmann-2022-3", inference_tokens=served)
    assert found.inference["params"] == pytest.approx(params, rel=0.04)
    assert found.inference["tokens_ratio"] == pytest.approx(ratio, rel=0.04)


@pytest.mark.parametrize(
    ("law", "params", "ratio", "saving"),
    [
        ("hoffmann-2022-3", 1.393e10, 2.739, 0.266),
        ("hoffmann-2022-3-rounded", 1.586e10, 2.211, 0.182),
        ("besiroglu-2024", 1.162e10, 4.250, 0.427),
    ],
)
def test_the_answer_depends_on_the_law(law, params, ratio, saving):
    found = llmcalc.chinchilla(params="30b", law=law, inference_tokens="10t").inference
    assert found["params"] == pytest.approx(params, rel=1e-3)
    assert found["tokens_ratio"] == pytest.approx(ratio, rel=1e-3)
    assert found["saving"] == pytest.approx(saving, abs=1e-3)


def test_inference_pulls_to_smaller_models_and_is_least():
    from llmcalc.scaling.terms import tokens_for_loss

    sizes = []
    for served in (1, 10**10, 10**12, 10**14):
        found = llmcalc.chinchilla(params="7b", law="besiroglu-2024", inference_tokens=served)
        sizes.append(found.inference["params"])
        t = llmcalc.law("besiroglu-2024").terms()
        left = found.loss - t.E
        for factor in (0.98, 1.02):
            N = found.inference["params"] * factor
            D = tokens_for_loss(N, left, t.A, t.B, t.alpha, t.beta)
            assert 6 * N * D + 2 * N * served > found.inference["total_flops"]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] == pytest.approx(7e9, rel=1e-6)


def test_repeated_tokens():
    found = llmcalc.chinchilla(compute=1e22, unique_tokens="20b")
    again = found.repeated
    assert found["law"] == "muennighoff-2023"
    assert again["epochs"] == pytest.approx(again["tokens"] / 20e9)
    assert again["loss"] > again["loss_of_fresh_tokens"]
    assert again["effective_tokens"] < again["worth_at_most"]
    law = llmcalc.law("muennighoff-2023")
    for factor in (0.9, 1.1):
        N = again["params"] * factor
        assert law.loss(N, 1e22 / 6 / N, unique=20e9) > again["loss"]
    assert law.optimum(again["runs_out_at_compute"])[1] == pytest.approx(20e9)
    plenty = llmcalc.chinchilla(compute=1e20, unique_tokens="1t")
    assert plenty.repeated["epochs"] == 1
    assert plenty.repeated["excess_loss"] == pytest.approx(0, abs=1e-12)
    assert not any("epochs" in word for word in found["outside_range"])
    worn = llmcalc.chinchilla(compute=1e22, unique_tokens="10m")
    assert "epochs" in worn["outside_range"][-1]
    assert any("epochs" in warning for warning in worn.warnings)
    own = llmcalc.chinchilla(params="7b", unique_tokens="20b")
    assert own.repeated["params"] == 7e9
    fixed = llmcalc.chinchilla(params=6_340_000_000, tokens="242b", unique_tokens="25b")
    assert fixed.repeated["loss"] == pytest.approx(2.2256440889984477, abs=1e-12)


def test_mixtures():
    found = llmcalc.chinchilla(compute=1e21, experts=8)
    assert found["law"] == "ludziejewski-2025"
    assert found.params == pytest.approx(3.8e9, rel=0.02)
    assert found.tokens == pytest.approx(44.3e9, rel=0.02)
    assert found.total_params > found.params
    ratio = llmcalc.chinchilla(compute=1e21, active_ratio=found.params / found.total_params)
    assert ratio.params == pytest.approx(found.params)
    model = llmcalc.chinchilla("mixtral-8x7b", tokens="1t")
    assert model.params == 12_879_925_248
    assert model.total_params == pytest.approx(46_702_792_704)
    dense = llmcalc.chinchilla(compute=1e21, active_ratio=1)
    assert dense["law"] == "besiroglu-2024"


# -- hyperparameters ---------------------------------------------------------------------------


def advice(found, kind):
    return {row["law"]: row["value"] for row in found["advice"] if row["kind"] == kind}


def test_hparams_side_by_side():
    found = llmcalc.hparams(params="7b", tokens="1.4t")
    assert advice(found, "learning-rate")["step-law-2025"] == pytest.approx(9.17e-4, rel=1e-3)
    assert advice(found, "batch")["step-law-2025"] == pytest.approx(5.0e6, rel=1e-3)
    assert len(advice(found, "learning-rate")) == 5
    assert len(advice(found, "batch")) == 4
    assert len(advice(found, "critical-batch")) == 3
    row = next(row for row in found["advice"] if row["law"] == "step-law-2025")
    assert row["interval"][0] < row["value"] < row["interval"][1]
    assert row["outside_range"]
    deepseek = llmcalc.hparams(compute=1e20, law="deepseek-2024")
    assert advice(deepseek, "learning-rate")["deepseek-2024"] == pytest.approx(9.86e-4, rel=1e-3)
    assert advice(deepseek, "batch")["deepseek-2024"] == pytest.approx(1.017e6, rel=1e-3)


def test_critical_batches():
    found = llmcalc.hparams(params="151m", tokens="3b", loss=3, batch="500k")
    critical = advice(found, "critical-batch")
    assert critical["zhang-2024"] == pytest.approx(985 * 512, rel=1e-3)
    assert critical["kaplan-2020-critical-batch"] == pytest.approx(1_122_570, rel=1e-6)
    for row in found["at_batch"]:
        assert (row["steps_over_least"] - 1) * (row["tokens_over_least"] - 1) == pytest.approx(1)


def test_minicpm_batch_is_by_loss():
    found = llmcalc.hparams(params="1b", tokens="100b", loss=2.5, law="minicpm-2024")
    assert advice(found, "batch")["minicpm-2024"] == pytest.approx(1.21e9 / 2.5**6.24)


def test_hparams_of_a_model_and_of_less():
    found = llmcalc.hparams("llama-3.2-1b", tokens="100b", sequence=4096)
    step = advice(found, "learning-rate")["step-law-2025"]
    assert step == pytest.approx(1.79 * (1_235_814_400 - 262_668_288) ** -0.713 * 100e9**0.307)
    batch = next(row for row in found["advice"] if row["kind"] == "batch")
    assert batch["sequences"] == pytest.approx(batch["value"] / 4096)
    alone = llmcalc.hparams(compute=1e21)
    best = llmcalc.chinchilla(compute=1e21)
    assert (alone.params, alone.tokens) == pytest.approx((best.params, best.tokens))
    alone = llmcalc.hparams(loss=2.2)
    best = llmcalc.chinchilla(loss=2.2)
    assert (alone.params, alone.tokens, alone.loss) == pytest.approx((best.params, best.tokens, 2.2))
    assert llmcalc.hparams(params="1b").tokens == pytest.approx(llmcalc.chinchilla(params="1b").tokens)


@pytest.mark.parametrize(
    ("call", "params", "tokens"),
    [
        ("--compute 1e20", "by besiroglu-2024", "by besiroglu-2024"),
        ("--loss 2.2", "by besiroglu-2024", "by besiroglu-2024"),
        ("--params 1b", "as given", "by besiroglu-2024"),
        ("--tokens 20b", "by besiroglu-2024", "as given"),
        ("--params 1b --compute 1e20", "as given", "compute / 6 / parameters"),
        ("--tokens 20b --compute 1e20", "compute / 6 / tokens", "as given"),
        ("--params 1b --tokens 20b", "as given", "as given"),
    ],
)
def test_hparams_says_where_the_run_comes_from(call, params, tokens, capsys):
    assert run(["hparams", *call.split()]) == 0
    lines = capsys.readouterr().out.splitlines()
    for label, origin in (("parameters", params), ("tokens", tokens)):
        line = next(line for line in lines if line.split()[:1] == [label])
        assert line.endswith("exact" if origin == "as given" else "derived")
        assert origin in line


# -- shapes ------------------------------------------------------------------------------------

CALLS = [
    ["chinchilla", "--compute", "5.76e23", "--law", "all"],
    ["chinchilla", "llama-3.1-8b", "--tokens", "15t"],
    ["chinchilla", "--gpu", "8xh100-80gb", "--days", "30", "--mfu", "40%", "--inference-tokens", "1t"],
    ["chinchilla", "--compute", "1e22", "--unique-tokens", "20b"],
    ["chinchilla", "--compute", "1e21", "--active-ratio", "10%"],
    ["chinchilla", "--loss", "2.2"],
    ["chinchilla", "--compute", "1e20,1e21,1e22"],
    ["hparams", "--params", "7b", "--tokens", "1.4t", "--batch", "4m", "--sequence", "4096"],
]


@pytest.mark.parametrize("call", CALLS, ids=" ".join)
def test_every_format(call, capsys, tmp_path):
    assert run([*call, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    jsonschema.Draft202012Validator(SCHEMA).validate(document)
    assert document["llmcalc"]["call"].startswith(f"llmcalc {call[0]}")
    for kind in ("text", "markdown", "csv", "latex", "html"):
        assert run([*call, "--format", kind]) == 0
        text = capsys.readouterr().out
        assert "None" not in text
        assert " nan" not in text.replace(" nanochat", "")
        if kind == "text":
            assert max(map(len, text.splitlines())) <= 80
        else:
            assert f"llmcalc {call[0]}" in text
    assert run([*call, "--explain"]) == 0
    explained = capsys.readouterr().out
    assert "How these numbers come about" in explained
    assert "(the law " in explained or "," in call[2]
    assert run([*call, "--python"]) == 0
    assert f"llmcalc.{call[0]}(" in capsys.readouterr().out
    file = tmp_path / "plan.png"
    assert run([*call, "--plot", str(file)]) == 0
    assert file.stat().st_size > 5000


def test_the_schema_is_sound():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


def test_the_python_call_gives_the_same(capsys):
    assert run(["chinchilla", "--compute", "1e22", "--law", "llama-3", "--python"]) == 0
    line = capsys.readouterr().out.splitlines()[-1]
    assert eval(line, {"llmcalc": llmcalc}).tokens == pytest.approx(0.299 * 1e22**0.537)


def test_frames_and_notebooks():
    found = llmcalc.chinchilla(compute=1e22, law="all")
    frame = found.to_frame()
    assert frame["law"].iloc[0] == "besiroglu-2024"
    assert frame["tokens_per_param"].notna().all()
    assert "<table>" in found._repr_html_()
    assert "params" in dir(found)
    with pytest.raises(AttributeError):
        found.nothing_of_that_name  # noqa: B018


def test_64_bits_do_not_limit_6nd():
    found = llmcalc.chinchilla(params=70_000_000_000, tokens=15_000_000_000_000)
    assert found.compute == pytest.approx(6.3e24)
    done = spawn("chinchilla", "--params", "6.9e9", "--tokens", "1.4e11", "--json")
    assert json.loads(done.stdout)["compute"] == pytest.approx(5.796e21)


# -- bad input, each in a process of its own ---------------------------------------------------

BAD = [
    ("chinchilla", "There is no budget", "Give one of --compute"),
    ("chinchilla --compute 0", "--compute is '0'", "such as 1e21"),
    ("chinchilla --compute 1e40", "above the largest", "such as 1e21"),
    ("chinchilla --compute -1e21", "above 0", "such as 1e21"),
    ("chinchilla --compute lots", "not a number", "such as 1e21"),
    ("chinchilla --compute nan", "not a number", "such as 1e21"),
    ("chinchilla --compute inf", "not a number", "such as 1e21"),
    ("chinchilla --compute 1e20,x", "compute x: --compute is 'x'", "such as 1e21"),
    ("chinchilla --compute 1e20,1e21 --tokens 1b,2b,3b", "one length", "as many"),
    ("chinchilla --params 0", "above 0", "13b"),
    ("chinchilla --params -7b", "above 0", "13b"),
    ("chinchilla --params 1e19", "above the largest", "13b"),
    ("chinchilla --tokens many", "not a number", "13b"),
    ("chinchilla --params 1e18 --tokens 1e18", "6e+36 FLOP", "fewer"),
    ("chinchilla --compute 1e21 --params 7b --tokens 1t", "contradict: 6 x 7 B x 1 T", "Give two"),
    ("chinchilla --compute 1e23 --gpu 8xh100-80gb --days 30", "contradicts --gpu", "Leave one"),
    ("chinchilla --compute 1e21 --loss 2", "does not reach a loss of 2", "2.475e+23"),
    ("chinchilla --compute 1e21 --loss 2.5", "does better", "Give one"),
    ("chinchilla --params 7b --tokens 1t --loss 2.5", "contradicts parameters", "Leave --loss out"),
    ("chinchilla --loss 1.5", "irreducible loss of 1.8172", "above 1.8172"),
    ("chinchilla --loss 1.8172", "irreducible", "above 1.8172"),
    ("chinchilla --loss 1.81720001", "above the largest", "higher loss"),
    ("chinchilla --tokens 1", "below the smallest", "more parameters or tokens"),
    ("chinchilla --params 7 --tokens 100", "below the smallest", "more parameters or tokens"),
    ("chinchilla --loss 0", "above 0", "2.1"),
    ("chinchilla --loss -2", "above 0", "2.1"),
    ("chinchilla --loss high", "not a number", "2.1"),
    ("chinchilla --loss 2 --params 1b", "however many tokens", "more than 6.86e+09"),
    ("chinchilla --loss 2.2 --tokens 10b", "however many parameters", "more than 1.636e+10"),
    ("chinchilla --gpu 24GiB --days 3", "no bf16 or fp16 peak", "--compute"),
    ("chinchilla --gpu h100,a100 --days 3", "more than one", "8xh100"),
    ("chinchilla --gpu nothing-9000 --days 3", "no GPU", "llmcalc gpus"),
    ("chinchilla --days 30", "--days needs GPUs", "--gpu"),
    ("chinchilla --gpu 8xh100-80gb --days 0", "--days is '0'", "30"),
    ("chinchilla --gpu 8xh100-80gb --days 3 --mfu 140%", "--mfu", "40%"),
    ("chinchilla --gpu 8xh100-80gb --days 3 --mfu 40", "--mfu", "40%"),
    ("chinchilla --gpu 8xh100-80gb --days 3 --dtype int3", "--dtype", "bf16"),
    ("chinchilla --compute 1e21 --law farseer-2025", "only its form was seen", "besiroglu-2024"),
    ("chinchilla --compute 1e21 --law moonlight-2025", "somebody else's table", "besiroglu-2024"),
    ("chinchilla --compute 1e21 --law kaplan-2020-curve", "not seen again", "besiroglu-2024"),
    ("chinchilla --compute 1e21 --law kaplan-2020-params", "gives no optimum", "llmcalc laws"),
    ("chinchilla --compute 1e21 --law hofmann-2022-1", "no scaling law", "hoffmann-2022-1"),
    ("chinchilla --compute 1e21 --law hoffmann-2022", "several", "hoffmann-2022-1"),
    ("chinchilla --compute 1e21 --unique-tokens 0", "above 0", "13b"),
    ("chinchilla --compute 1e21 --unique-tokens 1b --law llama-3", "repeated", "muennighoff-2023"),
    ("chinchilla --loss 2.2 --unique-tokens 1b", "together", "--compute"),
    ("chinchilla --compute 1e21 --inference-tokens -5", "above 0", "13b"),
    ("chinchilla --compute 1e21 --active-ratio 2", "above the largest", "40%"),
    ("chinchilla --compute 1e21 --active-ratio 10% --experts 8", "the same of a mixture", "Give one"),
    ("chinchilla --compute 1e21 --format xml", "--format", "json"),
    ("chinchilla --compute 1e21 --plot plan.doc", "suffix", ".png"),
    ("chinchilla --compute 1e21 --law llama-3 --plot plan.png", "nothing to draw", "--plot"),
    ("chinchilla no-such-model --tokens 1t", "no-such-model", "llmcalc models"),
    ("chinchilla --params 0 --tokens x --law foo", "3. There is no scaling law 'foo'", "llmcalc laws"),
    ("hparams", "no run", "--params"),
    ("hparams --loss 1.5", "irreducible", "above 1.8172"),
    ("hparams --params 7b --tokens x", "not a number", "13b"),
    ("hparams --params 7b --tokens 1t --law hoffmann-2022-1", "gives no learning rate", "llmcalc laws"),
    ("hparams --params 7b --tokens 1t --law moonlight-2025", "gives no numbers", "besiroglu-2024"),
    ("hparams --params 7b --tokens 1t --batch 0", "--batch", "13b"),
    ("hparams --params 7b --tokens 1t --compute 1e21", "contradict", "Give two"),
    ("hparams --compute 1e40", "above the largest", "1e21"),
    ("laws --search zzzz", "No laws", "llmcalc laws"),
    ("laws --answers everything", "--answers", "optimum"),
    ("laws show nothing-2024", "no scaling law", "llmcalc laws"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "problem", "remedy"), BAD, ids=[case[0] for case in BAD])
def test_bad_input(call, problem, remedy):
    done = spawn(*call.split())
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("Error: ")
    assert "Traceback" not in done.stderr
    assert "Internal error" not in done.stderr
    told, _, last = done.stderr.rstrip("\n").rpartition("\n")
    assert problem in told
    assert remedy in last


def test_mistakes_are_told_together():
    with pytest.raises(InputError) as caught:
        llmcalc.chinchilla(compute=-1, tokens="x", loss=True, law="nothing")
    for part in ("--compute", "--tokens", "--loss", "nothing"):
        assert part in str(caught.value)


def test_numbers_that_python_gives():
    with pytest.raises(InputError, match="finite"):
        llmcalc.chinchilla(compute=float("nan"))
    with pytest.raises(InputError, match="finite"):
        llmcalc.chinchilla(compute=float("inf"))
    assert llmcalc.chinchilla(compute=10**22).params == llmcalc.chinchilla(compute="1e22").params
    assert llmcalc.chinchilla(compute="1 PF-day").compute == 8.64e19
    for odd in (5, [], [5], "a,,b", {"llama-3": 1}):
        for call in (llmcalc.chinchilla, llmcalc.hparams):
            with pytest.raises(InputError, match="names no law"):
                call(compute=1e21, law=odd)
