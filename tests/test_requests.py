"""Requests: lengths that vary, shared prefixes, several outputs of one prompt."""

import json
import math
import subprocess
import sys

import numpy as np
import pytest

import llmcalc
from llmcalc.demand.lengths import lengths_of
from llmcalc.demand.sums import Amounts
from llmcalc.errors import LlmcalcError

TOKEN = 131_072
"""A token of Llama-3.1-8B in 16 bit: 2 x 32 layers x 8 heads x 128 x 2. [B]"""
BLOCK = 16 * TOKEN


def kept(model="llama-3.1-8b", **keywords):
    found = llmcalc.vram(model, **keywords)
    return found["kv_cache"].bytes + found["state"].bytes


def cases(model="llama-3.1-8b", **keywords):
    rows = llmcalc.vram(model, **keywords).workload["cases"]
    return {row["case"]: row["cache_bytes"] for row in rows}


# -- lengths -----------------------------------------------------------------------------------


def test_a_list_by_hand():
    """Two requests of 512 or 1,024 tokens: 1,024, 1,536 (twice) or 2,048 tokens together."""
    found = cases(prompt="512, 1k", sequences=2)
    assert found["expected"] == 1536 * TOKEN
    assert found["p95"] == found["worst"] == 2048 * TOKEN  # a quarter of the time


def test_the_percentile_is_of_the_sum():
    """Of 100 requests that are 1,000 tokens long one time in ten, else 100, about 15 are long at the 95th
    percentile (binomial), not all."""
    found = cases(prompt=[100] * 9 + [1000], sequences=100)
    assert found["expected"] == 100 * 190 * TOKEN
    assert found["worst"] == 100 * 1000 * TOKEN
    assert 15 <= (found["p95"] / TOKEN - 10_000) / 900 <= 16


@pytest.mark.parametrize("many", [2, 5, 64])
def test_convolution_is_exact(many):
    """Binomial tails, by their own formula."""
    share, done, successes = 0.3, 0.0, -1
    while done < 0.95:
        successes += 1
        done += math.comb(many, successes) * share**successes * (1 - share) ** (many - successes)
    assert Amounts([7, 10], [0.7, 0.3]).percentile(many) == 7 * many + 3 * successes


def test_convolution_and_expansion_meet():
    one = Amounts(list(range(1, 2000, 7)), [1 / 286] * 286)
    assert one._expanded(64) == pytest.approx(one._convolved(64), rel=2e-3)


@pytest.mark.parametrize(
    ("text", "mean", "p95"),
    [
        ("lognormal(mean=1k, p95=3k)", 1024, 3072),
        ("lognormal(median=1000, p95=4000)", 1000 * math.exp((math.log(4) / 1.6448536) ** 2 / 2), 4000),
        ("uniform(100, 300)", 200, 290),
        ("exponential(1000)", 1000, 2996),
        ("normal(mean=1000, sd=100)", 1000, 1164),
    ],
)
def test_distributions_are_what_they_say(text, mean, p95):
    found = lengths_of(text, "--prompt", 10**6)
    own = sum(v * w for v, w in zip(found.values, found.weights, strict=True))
    assert own == pytest.approx(mean, rel=3e-3)
    assert Amounts(found.values, found.weights).percentile(1) == pytest.approx(p95, rel=4e-3)
    assert sum(found.weights) == pytest.approx(1)


ASKED = [
    {"prompt": "lognormal(mean=1k, p95=3k)", "output": 512},
    {"prompt": "uniform(1, 4k)", "output": "exponential(300)"},
    {"prompt": [1, 10_000], "output": "uniform(1, 10)", "samples": 3},
    {"prompt": "512, 1k, 4k", "output": "1k, 2k", "shared_prefix": 600, "beams": 2},
    {"prompt": [1] * 99 + [100_000]},
]


@pytest.mark.parametrize("engine", ["none", "vllm"])
@pytest.mark.parametrize("asked", ASKED)
def test_expected_to_worst(engine, asked):
    for many in (1, 3, 100):
        found = cases(engine=engine, sequences=many, **asked)
        assert found["expected"] <= found["p95"] <= found["worst"]
        assert found.get("over_time", 0) <= found["worst"]


@pytest.mark.parametrize("engine", ["none", "vllm"])
@pytest.mark.parametrize("model", ["llama-3.1-8b", "gpt-oss-20b", "qwen3-next-80b", "deepseek-v2-lite"])
def test_identities(engine, model):
    """One length, one sample, no prefix: nothing changes."""
    plain = llmcalc.vram(model, engine=engine, prompt=3000, output=500, sequences=3)
    for more in (
        {"samples": 1},
        {"beams": 1},
        {"shared_prefix": 0},
        {"prompt": [3000]},
        {"output": [500, 500]},
    ):
        found = llmcalc.vram(model, engine=engine, **{"prompt": 3000, "output": 500, "sequences": 3, **more})
        assert found.total_bytes == plain.total_bytes
    # A list of one kind is priced as the plain request is.
    both = cases(model, engine=engine, prompt=[3000, 2999], output=500, sequences=1)
    assert both["worst"] == plain_of(model, engine, 3500)


def plain_of(model, engine, context):
    return kept(model, engine=engine, context=context)


@pytest.mark.parametrize("engine", ["none", "vllm"])
@pytest.mark.parametrize("model", ["llama-3.1-8b", "gpt-oss-20b", "gemma-3-27b"])
def test_monotone(engine, model):
    asked = {"engine": engine, "prompt": 6000, "output": 900, "sequences": 4}
    by_samples = [kept(model, samples=n, **asked) for n in (1, 2, 3, 8)]
    assert by_samples == sorted(by_samples)
    assert by_samples[3] <= 8 * by_samples[0]
    by_prefix = [kept(model, shared_prefix=n, **asked) for n in (0, 600, 3000, 6000)]
    if model == "llama-3.1-8b":
        assert by_prefix == sorted(by_prefix, reverse=True)
    assert max(by_prefix) <= by_prefix[0]


def test_the_longest_request_ends_where_the_model_does():
    found = llmcalc.vram("llama-3.1-8b", prompt=512, output="exponential(300)", samples=2)
    assert (found.scenario["prompt"], found.scenario["output"]) == (512, 131_072 - 512)
    worst = {row["case"]: row["cache_bytes"] for row in found.workload["cases"]}["worst"]
    assert worst == (512 + 2 * (131_072 - 512)) * TOKEN
    shorter = cases(prompt="lognormal(mean=1k, p95=3k)", output=512, max_model_len=4096)
    assert shorter["worst"] == 4096 * TOKEN


# -- prefixes, samples, beams ------------------------------------------------------------------


def test_a_prefix_once():
    assert kept(prompt=4096, output=1024, shared_prefix=1024, sequences=10) == (1024 + 10 * 4096) * TOKEN


def test_samples_share_their_prompt():
    assert kept(prompt=4096, output=1024, samples=8, sequences=2) == 2 * (4096 + 8 * 1024) * TOKEN
    assert kept(prompt=4096, output=1024, beams=8) == (4096 + 8 * 1024) * TOKEN


def test_blocks_of_samples():
    """4,000 tokens are 249 full blocks before the last token, and 1,016 are left for each of 8: 64 blocks."""
    asked = {"engine": "vllm", "prompt": 4000, "output": 1000}
    assert kept(samples=8, **asked) == (249 + 8 * 64) * BLOCK
    # 1,000 shared tokens are 62 full blocks.
    assert kept(shared_prefix=1000, sequences=10, **asked) == (62 + 10 * (313 - 62)) * BLOCK


def test_windows_share_what_they_reach():
    """gpt-oss: half of the layers look back 128 tokens, which outputs of 200 leave nothing of a prompt."""
    row = 12 * 2 * 8 * 64 * 2
    assert kept("gpt-oss-20b", prompt=4096, output=200, samples=4) == row * (4096 + 4 * 200 + 4 * 128)
    assert kept("gpt-oss-20b", prompt=4096, output=100, samples=4) == row * (4096 + 4 * 100 + 4 * 100 + 28)


def test_states_are_not_shared():
    one = llmcalc.vram("qwen3-next-80b", prompt=4096, output=100)
    many = llmcalc.vram("qwen3-next-80b", prompt=4096, output=100, samples=4, sequences=2)
    assert many["state"].bytes == 8 * one["state"].bytes
    assert any("states are not shared" in note for note in many.warnings)
    found = llmcalc.vram("qwen3.5-27b", engine="vllm", prompt=4096, output=100, samples=4)
    assert any("--enable-prefix-caching" in note for note in found.warnings)
    assert found["kv_cache"].bytes == 4 * kept_cache("qwen3.5-27b", prompt=4096, output=100)


def kept_cache(model, **keywords):
    return llmcalc.vram(model, engine="vllm", **keywords)["kv_cache"].bytes


def test_before_v1_outputs_forked():
    asked = {"engine": "vllm", "engine_version": "0.6.3", "prompt": 4000, "output": 1000}
    assert kept(samples=8, **asked) < 8 * kept(**asked)
    assert kept(shared_prefix=1000, sequences=4, **asked) == kept(sequences=4, **asked)
    cached = kept(shared_prefix=1000, sequences=4, enable_prefix_caching=True, **asked)
    assert cached < kept(sequences=4, **asked)


def test_over_time():
    """A request of 1,000 and 1,000 tokens holds 1,500 on average."""
    found = cases(prompt=1000, output=1000, samples=1, shared_prefix=10, sequences=2)
    assert found["over_time"] == (10 + 2 * 1490) * TOKEN
    assert found["worst"] == (10 + 2 * 1990) * TOKEN


# -- arrays, stages, files, capacity -----------------------------------------------------------


def test_arrays():
    lengths = {"prompt": "uniform(100, 2000)", "output": 300}
    found = llmcalc.vram("llama-3.1-8b", sequences=np.array([1, 4, 100]), **lengths)
    single = [llmcalc.vram("llama-3.1-8b", sequences=n, **lengths).total_bytes for n in (1, 4, 100)]
    assert found.total_bytes.tolist() == single
    contexts = np.array([2048, 4096, 100_000])
    found = llmcalc.vram("gpt-oss-20b", context=contexts, shared_prefix=1000, sequences=5)
    single = [
        llmcalc.vram("gpt-oss-20b", context=int(n), shared_prefix=1000, sequences=5).total_bytes
        for n in contexts
    ]
    assert found.total_bytes.tolist() == single
    assert json.loads(found.to_json())["total_bytes"] == single


@pytest.mark.parametrize("engine", ["none", "vllm"])
def test_stages_and_replicas(engine):
    asked = {"prompt": "uniform(100, 2000)", "output": 300, "sequences": 8, "engine": engine}
    whole = cases(**asked)
    assert cases(tp=2, **asked)["p95"] == whole["p95"] // 2
    assert cases(dp=2, **asked)["worst"] == whole["worst"] // 2
    assert cases(pp=2, **asked)["worst"] == whole["worst"] // 2


@pytest.mark.parametrize("engine", ["none", "vllm"])
def test_capacity_is_what_fits(engine):
    asked = {"prompt": "lognormal(mean=1k, p95=3k)", "output": 512, "engine": engine, "gpu": "l40s"}
    found = llmcalc.vram("llama-3.1-8b", **asked)
    most = found.capacity.max_concurrency
    fits = llmcalc.vram("llama-3.1-8b", sequences=most, **asked)
    over = llmcalc.vram("llama-3.1-8b", sequences=most + 1, **asked)
    if engine == "none":
        assert fits.headroom_bytes >= 0 > over.headroom_bytes
    assert "95th percentile" in found.to_text()
    verdicts = {row["case"]: row["verdict"] for row in found.workload["cases"]}
    assert verdicts["p95"] == found.verdict


FILES = {
    "plain.csv": "512\n1024\n",
    "named.csv": "prompt,output\n512,10\n1024,20\n",
    "list.json": "[512, 1024]",
    "rows.json": '[{"prompt": 512, "output": 10}, {"prompt": 1024, "output": 20}]',
    "columns.json": '{"prompt": [512, 1024], "output": [10, 20]}',
    "tabs.tsv": "id\tprompt\toutput\na\t512\t10\nb\t1024\t20\n",
}


@pytest.mark.parametrize("name", FILES)
def test_files(name, tmp_path):
    path = tmp_path / name
    path.write_text(FILES[name])
    found = cases(prompt=str(path))
    pairs = "output" in FILES[name]
    assert found["worst"] == (1044 if pairs else 1024) * TOKEN
    assert found["expected"] == (783 if pairs else 768) * TOKEN
    if pairs:
        alone = cases(prompt=str(path), output=100)
        assert alone["worst"] == 1124 * TOKEN


BAD = [
    (["--prompt", "-5"], "above 0"),
    (["--prompt", "zipf(2)"], "uniform, lognormal"),
    (["--prompt", "lognormal(mean=1k)"], "takes mean and p95"),
    (["--prompt", "lognormal(mean=1k, p95=9k)"], "3.87 times"),
    (["--prompt", "uniform(9, 2)"], "upside down"),
    (["--prompt", "uniform(1, 1m)"], "End it at"),
    (["--prompt", "128,512"], "may be one number"),
    (["--prompt", "5, ,6"], "empty place"),
    (["--prompt", "1e30, 5"], "above the largest"),
    (["--prompt", "512, 200k"], "131,072"),
    (["--prompt", "nowhere.csv"], "No such file"),
    (["--prompt", "512", "--output", "5", "--samples", "2", "--beams", "2"], "Keep one of them"),
    (["--samples", "4"], "--prompt and --output"),
    (["--samples", "0", "--prompt", "5", "--output", "5"], "above 0"),
    (["--shared-prefix", "-1"], "above 0"),
    (["--shared-prefix", "600", "--prompt", "512"], "longer than the prompt"),
    (["--shared-prefix", "9k", "--ctx", "8k"], "longer than the prompt"),
    (["--prompt", "512, 1k", "--ctx", "600"], "longer than the context"),
    (["--prompt", "512", "--ctx", "4k"], "given together"),
    (["--prompt", "512, 1k", "--engine", "llama.cpp"], "not modelled for llama.cpp"),
]


@pytest.mark.parametrize(("words", "told"), BAD)
def test_bad_input(words, told):
    done = run("llama-3.1-8b", *words)
    assert done.returncode == 2, done.stdout
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def run(*words):
    return subprocess.run(
        [sys.executable, "-m", "llmcalc", "vram", *words], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("a.csv", "", "holds no lengths"),
        ("b.csv", "prompt,output\n", "holds no lengths"),
        ("c.csv", "a,b\n1,2\n", "has columns 'a', 'b'"),
        ("d.csv", "prompt\n512\nnan\n", "row 3"),
        ("e.csv", "512\n1e40\n", "row 2"),
        ("f.csv", "prompt,output\n512\n", "cut short"),
        ("g.json", "[512, ", "no JSON"),
        ("h.json", '{"prompt": [1], "output": [1, 2]}', "equal length"),
        ("i.json", '[{"a": 1}]', "no prompt or output"),
        ("j.json", "[NaN]", "no length"),
        ("k.csv", "1,2\n3,4\n", "without names"),
        ("l.csv", "\x00\x01\xff", "no length"),
    ],
)
def test_bad_files(name, text, told, tmp_path):
    path = tmp_path / name
    path.write_text(text, encoding="latin-1")
    with pytest.raises(LlmcalcError) as caught:
        llmcalc.vram("llama-3.1-8b", prompt=str(path))
    assert told in str(caught.value) or "is no text" in str(caught.value)
    assert caught.value.remedy


def test_bad_lists():
    for value in ([], [[1], [2]], [1, -2], [1, float("nan")], np.array([]), ["x"], [True]):
        with pytest.raises(LlmcalcError):
            llmcalc.vram("llama-3.1-8b", prompt=value)


def test_the_command_line_says_all_of_it():
    done = run("llama-3.1-8b", "--prompt", "lognormal(mean=1k, p95=4k)", "--output", "512", "--json",
               "--sequences", "8", "--gpu", "h100")  # fmt: skip
    found = json.loads(done.stdout)
    assert done.returncode == 0, done.stderr
    assert found["workload"]["requests"] == 8
    assert [row["case"] for row in found["workload"]["cases"]] == ["expected", "p95", "worst", "over_time"]
    assert any("3.868 times" in note for note in found["warnings"])
    assert found["scenario"]["context"] == 131_072
