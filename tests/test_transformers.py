"""transformers: live tensors of models that were run, caches, properties, what it refuses."""

import json
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest

import llmcalc
from llmcalc.engine_options.transformers import TransformersOptions, transformers_options
from llmcalc.engine_options.transformers_era import era_of
from llmcalc.errors import LlmcalcError
from llmcalc.memory.engines.transformers.model import Loaded
from llmcalc.memory.workload import Precision
from llmcalc.placement import Placement
from llmcalc.precision import Format
from llmcalc.units import GIB
from oracles.tiny_models import CONFIGS, KEPT_BACK

LINES = (Path(__file__).parent / "data" / "transformers_peaks.jsonl").read_text().splitlines()
RUNS = [json.loads(line) for line in LINES[1:]]
RECURRENT = ("falcon_h1", "jamba", "lfm2", "mamba", "mamba2", "qwen3_next")
"""Families whose scans were run as the PyTorch reference."""

WORST = {
    "cohere": 0.07, "ernie4_5": 0.05, "exaone4": 0.05, "gemma3": 0.03, "hunyuan": 0.06, "opt": 0.06,
    "phi": 0.07, "stablelm": 0.1,
}  # fmt: skip
"""Largest error of a family's prefill peaks where it is above 2.5 %."""


@cache
def inventory(name):
    return llmcalc.model((CONFIGS | KEPT_BACK)[name])


@cache
def report(model, **more):
    return llmcalc.vram(model, engine="transformers", **more)


def loaded(run):
    options = TransformersOptions()
    options.cache, options.attention, options.keep = run["cache"], run["attention"], run["logits_to_keep"]
    options.padding, options.kernels = run["padding"], False
    options.max_length = run["tokens"] + 8 if run["cache"] == "static" else 0
    kept = Format("bf16", 1, 2) if run["dtype"] == "bf16" else Format("fp32", 1, 4)
    model = inventory(run["model"])
    precision = Precision(kept.bits, kept.name, "exact", kept, kept, kept)
    return Loaded(model, Placement(1, 1, 1, model.layers), precision, options)


def errors(runs):
    """Relative errors of both phases' peaks."""
    found = []
    for run in runs:
        model, many, tokens = loaded(run), run["sequences"], run["tokens"]
        prefill = model.prefill(many, tokens, sampled=False).bytes / run["prefill_peak"] - 1
        decode = model.decode(many, tokens, tokens, sampled=False).bytes / run["decode_peak"] - 1
        found.append((abs(prefill), abs(decode)))
    return np.array(found)


def test_most_peaks_are_those_of_pytorch():
    """Attention, caches, experts, dense layers, logits: half of the runs to the hundredth of a percent."""
    found = errors([r for r in RUNS if r["model"] in CONFIGS and r["model"] not in RECURRENT])
    assert len(found) > 250
    assert (np.median(found, axis=0) <= 0.0005).all()
    assert (np.quantile(found, 0.9, axis=0) <= 0.02).all()


def test_families_that_the_rules_were_not_derived_from():
    """Two of them, once seen, corrected a rule: rotation in fp32, and when a shared expert runs."""
    found = errors([r for r in RUNS if r["model"] in KEPT_BACK and r["model"] not in RECURRENT])
    assert len(found) > 100
    assert (np.median(found, axis=0) <= 0.005).all()
    assert (np.quantile(found, 0.9, axis=0) <= 0.06).all()


@pytest.mark.parametrize("name", [n for n in CONFIGS | KEPT_BACK if n not in RECURRENT])
def test_no_peak_of_a_family_is_far_off(name):
    found = errors([run for run in RUNS if run["model"] == name])
    assert found[:, 0].max() <= WORST.get(name, 0.025)
    assert found[:, 1].max() <= 0.04


@pytest.mark.parametrize("name", CONFIGS | KEPT_BACK)
def test_what_stays_after_the_prefill(name):
    """Storages that the cache holds on to: a window's still hold the whole prompt."""
    for run in (run for run in RUNS if run["model"] == name):
        model, tokens = loaded(run), run["tokens"]
        kept = sum(model._layer_bytes(layer, tokens, tokens) * len(layer.indices) for layer in model.groups)
        counters = 8 * sum(len(layer.indices) for layer in model.groups)
        assert kept * run["sequences"] == pytest.approx(run["after_prefill"], abs=counters)


def test_recurrent_layers_as_the_reference_runs_them():
    long = [r for r in RUNS if r["model"] in RECURRENT and r["tokens"] == 512 and r["model"] != "lfm2"]
    assert np.median(errors(long)[:, 0]) < 0.03


def test_the_oracle_itself():
    """The recorded peaks, measured anew where PyTorch and transformers can be imported."""
    pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    if transformers.__version__ != json.loads(LINES[0])["versions"]["transformers"]:
        pytest.skip("another release")
    from oracles.transformers_peaks import measure

    for name in ("llama", "mixtral", "deepseek_v3"):
        run = next(r for r in RUNS if r["model"] == name and r["tokens"] == 96)
        found = measure(name, run["attention"], run["sequences"], run["tokens"])
        assert found["prefill_peak"] == run["prefill_peak"]
        assert found["decode_peak"] == run["decode_peak"]


def test_eager_scores_by_hand():
    """Ten bytes a score in bf16: themselves, in fp32, and their softmax; fused kernels hold none."""
    eager = report("llama-3.1-8b", attention="eager", context=8192)
    scores = next(part for part in eager["activations"].items if part.name == "scores")
    assert scores.bytes == 10 * 32 * 8192**2
    assert eager["activations"].bytes > 20 * GIB
    assert report("llama-3.1-8b", attention="flash", context=8192)["activations"].bytes < GIB


OCTOCODER = {
    "model_type": "gpt_bigcode",
    "vocab_size": 49_152,
    "n_embd": 6144,
    "n_layer": 40,
    "n_head": 48,
    "n_inner": 24_576,
    "n_positions": 8192,
    "multi_query": True,
    "torch_dtype": "bfloat16",
}
# transformers' guide "Optimizing LLMs for Speed and Memory" (docs/source/en/llm_tutorial_optimization.md at
# 008f5c8c): torch.cuda.max_memory_allocated of bigcode/octocoder, a question of some 20 tokens, 60 new ones.
MEASURED = [({}, 29.0261), ({"quant": "int8"}, 15.2192), ({"quant": "fp4", "dtype": "fp16"}, 9.5436)]


@pytest.mark.parametrize(("keywords", "gib"), MEASURED)
def test_a_published_measurement(keywords, gib):
    found = llmcalc.vram(
        OCTOCODER,
        engine="transformers",
        attention="eager",
        engine_version="4.36",
        prompt=20,
        output=60,
        **keywords,
    )
    tensors = found.total_bytes - found["runtime"].bytes_at_peak
    assert tensors / GIB == pytest.approx(gib, rel=0.015)


def test_logits_of_the_whole_prompt():
    """Until 4.44 `generate` made them all, and a copy in fp32: six bytes for each of 128,256."""
    old, new = (report("llama-3.1-8b", engine_version=v, context=8192) for v in ("4.44.2", "5.24.0"))
    logits = next(part for part in old["activations"].items if part.name == "logits")
    assert logits.bytes == 6 * 8192 * 128_256
    assert new["activations"].bytes < logits.bytes / 5
    asked = report("llama-3.1-8b", logits_to_keep=0, context=8192)
    assert next(p for p in asked["activations"].items if p.name == "logits").bytes == 2 * 8192 * 128_256


def test_caches_by_kind():
    dynamic = report("gemma-3-27b", context=32_768)["kv_cache"].bytes
    static = report("gemma-3-27b", context=32_768, cache="static")["kv_cache"].bytes
    assert static - dynamic == 52 * 2 * 16 * 128 * 2  # a position more in each window
    whole = report("gemma-3-27b", context=32_768, engine_version="4.55.4")["kv_cache"].bytes
    assert whole == 62 * 2 * 16 * 128 * 2 * 32_768  # windows slide from 4.56 on
    longer = report("llama-3.1-8b", context=8192, cache="static", max_cache_len=16_384)["kv_cache"].bytes
    assert longer == 2 * report("llama-3.1-8b", context=8192)["kv_cache"].bytes
    latent, heads = (
        report("deepseek-v3", context=4096, engine_version=v)["kv_cache"].bytes for v in ("5.24", "5.12")
    )
    assert (latent, heads) == (61 * 576 * 2 * 4096, 61 * 128 * (192 + 128) * 2 * 4096)


def test_a_quantized_cache_reads_whole_layers():
    """4 bits and a scale and a zero point for 64; the newest 128 in 16 bit; decoding unpacks a layer."""
    found = report("llama-3.1-8b", context=32_768, cache="quantized")
    row = 2 * 8 * 128
    assert found["kv_cache"].bytes == 32 * row * (32_768 * 36 // 64 + 128 * (2 - 36 / 64))
    layer = row * 2 * 32_768
    assert 2 * layer < found["decode_buffers"].bytes < 3 * layer
    same = report("llama-3.1-8b", context=32_768, kv_dtype="quantized-int4")
    assert same["kv_cache"].bytes == found["kv_cache"].bytes


# Runs of transformers 5.24.0 with optimum-quanto 0.2.7 and hqq 0.2.8 on the tiny llama, 512 tokens: bytes of
# the cache after the prefill, and the peak of a step that packs it anew (quanto: 511 and 1, groups of 32).
PACKED = [
    ({"cache_backend": "quanto"}, 55_296, None),
    ({"cache_backend": "quanto", "cache_group": 32}, None, 228_036),
    ({"cache_backend": "hqq"}, 55_296, None),
    ({"cache_backend": "fp8"}, 98_328, 296_352),
]


@pytest.mark.parametrize(("keywords", "kept", "peak"), PACKED)
def test_quantized_caches_that_were_run(keywords, kept, peak):
    half = Format("bf16", 1, 2)
    options = transformers_options({"cache": "quantized", "attention": "sdpa", **keywords})
    precision = Precision(16, "bf16", "exact", half, half, half)
    model = Loaded(inventory("llama"), Placement(1, 1, 1, 3), precision, options)
    if kept is not None:
        held = sum(model._layer_bytes(layer, 512, 512) * len(layer.indices) for layer in model.groups)
        assert held == pytest.approx(kept, abs=24)
    if peak is not None:
        tokens = 511 if keywords["cache_backend"] == "quanto" else 512
        assert model.decode(1, tokens, tokens, sampled=False).bytes == pytest.approx(peak, rel=0.06)


@pytest.mark.parametrize(("attention", "peak"), [("sdpa", 35_913_728), ("eager", 52_101_120)])
def test_an_encoder_with_a_bias_for_every_score(attention, peak):
    """A tiny T5 of 32 heads over 512 tokens, as it was run: the bias, and sdpa's copy of it."""
    config = {
        "model_type": "t5", "vocab_size": 256, "d_model": 64, "d_ff": 160, "num_layers": 3,
        "num_decoder_layers": 3, "num_heads": 32, "d_kv": 16, "feed_forward_proj": "relu", "n_positions": 512,
    }  # fmt: skip
    found = llmcalc.vram(
        config, engine="transformers", attention=attention, context=64, encoder_tokens=512, dtype="bf16"
    )
    held = found["activations"].bytes + found["kv_cache"].bytes
    assert held == pytest.approx(peak, rel=0.01)


def test_an_offloaded_cache_lies_in_host_memory():
    found, plain = (report("llama-3.1-8b", context=32_768, cache=c) for c in ("offloaded", "dynamic"))
    assert found.host_bytes == plain["kv_cache"].bytes
    assert found["kv_cache"].bytes == plain["kv_cache"].bytes // 16


def test_latent_attention_expands_a_layer_for_every_token():
    """128 heads of 192 + 128 and the matrix product they come from: 3.4 GiB beside a cache of 2.1."""
    found = report("deepseek-v3", context=32_768)
    each = 128 * ((128 + 128) + 192) * 2 * 32_768
    assert each < found["decode_buffers"].bytes < 1.2 * each


def test_experts_stay_in_16_bit_from_5_on():
    old, new = (report("qwen3-30b-a3b", quant="nf4", engine_version=v) for v in ("4.57.1", "5.24.0"))
    assert old["weights"].bytes < 18 * GIB < 50 * GIB < new["weights"].bytes
    assert any("experts" in note for note in new.warnings)


def test_gpus_share_layers():
    one, two = report("llama-3.1-8b", gpu="h100"), report("llama-3.1-8b", gpu="2xh100")
    assert two.scenario["pp"] == 2
    assert two["weights"].bytes < one["weights"].bytes
    split = report("llama-3.1-8b", gpu="2xh100", tp=2)
    assert split["kv_cache"].bytes == one["kv_cache"].bytes // 2


@pytest.mark.parametrize(
    "model", ["llama-3.1-8b", "gemma-3-4b", "gpt-oss-20b", "qwen3-30b-a3b", "mamba2-1.3b"]
)
def test_more_never_needs_less(model):
    totals = [report(model, context=n).total_bytes for n in (128, 1024, 2048, 4096)]
    assert totals == sorted(totals)
    many = [report(model, context=1024, sequences=n).total_bytes for n in (1, 2, 8)]
    assert many == sorted(many)
    for found in (report(model, context=1024), report(model, context=1024, prompt=None)):
        assert sum(item.bytes_at_peak for item in found.items if item.where == "device") == found.total_bytes


def test_arrays_are_single_estimates():
    contexts = np.array([256, 1000, 4096])
    swept = llmcalc.vram("gemma-3-4b", engine="transformers", context=contexts)
    assert swept.total_bytes.tolist() == [report("gemma-3-4b", context=int(n)).total_bytes for n in contexts]


@pytest.mark.parametrize("more", [{}, {"attention": "eager"}, {"cache": "static"}, {"sequences": 4}])
def test_the_longest_context_fits_and_one_more_does_not(more):
    most = report("llama-3.1-8b", gpu="24GiB", context=1024, **more).capacity.max_context
    assert 1024 < most < 131_072
    for tokens, fits in ((most, True), (most + 64, False)):
        found = report("llama-3.1-8b", gpu="24GiB", context=tokens, **more)
        assert (found.total_bytes <= found.device.usable_bytes) is fits


def test_chunks_of_a_prompt_hold_less():
    whole, parts = (report("llama-3.1-8b", context=32_768, prefill_chunk_size=n) for n in (None, 2048))
    assert parts["activations"].bytes < whole["activations"].bytes / 4


REFUSED = [
    ({"cache": "paged"}, "is not known", "dynamic, static"),
    ({"cache_bits": 2}, "option of a quantized cache", "--cache quantized"),
    ({"cache": "quantized", "cache_bits": 3}, "quanto backend", "2 or 4"),
    ({"cache": "quantized", "cache_group": 48}, "--cache-group 48", "64"),
    ({"cache": "quantized", "cache_backend": "fp8", "cache_bits": 4}, "fp8 backend", "hqq"),
    ({"max_cache_len": 100}, "static cache", "--cache static"),
    ({"attention": "paged"}, "--attention", "eager, sdpa"),
    ({"attention": "flash", "dtype": "fp32"}, "16 bit", "--dtype bf16"),
    ({"engine_version": "newest"}, "no version of transformers", "5.24.0"),
    ({"experts_implementation": "grouped_mm", "engine_version": "4.57"}, "one after the other", "5.0"),
    ({"kv_dtype": "q8_0"}, "keeps no cache in q8_0", "--kv-dtype"),
    ({"quant": "mlx-4bit"}, "does not run", "--quant nf4"),
    ({"padding": "perhaps"}, "--padding", "on or"),
]


@pytest.mark.parametrize(("keywords", "problem", "remedy"), REFUSED)
def test_what_it_refuses(keywords, problem, remedy):
    with pytest.raises(LlmcalcError) as caught:
        report("llama-3.1-8b", **keywords)
    assert problem in str(caught.value)
    assert remedy in str(caught.value).splitlines()[-1]


@pytest.mark.parametrize(
    ("model", "keywords", "problem"),
    [
        ("gpt-oss-20b", {"attention": "sdpa"}, "no sdpa"),
        ("gemma-3-4b", {"cache": "quantized"}, "windows"),
        ("13b", {}, "layers"),
        ("qwen2.5-0.5b", {"cache": "quantized", "cache_group": 256}, "does not divide the 128 elements"),
    ],
)
def test_what_it_refuses_of_a_model(model, keywords, problem):
    with pytest.raises(LlmcalcError, match=problem):
        report(model, **keywords)


def test_releases():
    assert era_of("v4.57.1").version == (4, 57)
    assert "nearest" in era_of("6.0").note
    assert report("llama-3.1-8b", engine_version="4.20").scenario["engine_version"] == "4.36.0"


def test_command_line():
    words = "fit llama-3.1-8b --engine transformers --gpu rtx-4090 --attention eager --ctx 8k --json"
    call = [sys.executable, "-m", "llmcalc", *words.split()]
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    found = json.loads(done.stdout)
    assert done.returncode == 1
    assert found["verdict"] == "does_not_fit"
    assert found["scenario"]["attention"] == "eager"
    wrong = subprocess.run([*call[:-1], "--cache", "paged"], capture_output=True, text=True, check=False)
    assert wrong.returncode == 2
    assert "Traceback" not in wrong.stderr
    assert wrong.stderr.strip().splitlines()[-1].startswith("Use --cache")
