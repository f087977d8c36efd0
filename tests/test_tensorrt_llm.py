"""TensorRT-LLM: bytes a token and the pool's share of published logs, properties, what it refuses."""

import json
import subprocess
import sys
from functools import cache

import numpy as np
import pytest

import llmcalc
from llmcalc.engine_options.tensorrt_llm import tensorrt_llm_options
from llmcalc.errors import LlmcalcError
from llmcalc.units import GIB


@cache
def report(model, **more):
    return llmcalc.vram(model, engine="tensorrt-llm", **more)


# Pools of logs: model, keywords, bytes of the pool, tokens it held.
POOLS = [
    ("llama-2-7b", {"context": 4096}, 69_524_783_104, 132_608),  # issue 1400
    ("llama-2-70b", {"context": 4096, "kv_dtype": "fp8", "quant": "nvfp4"}, 122.61 * GIB, 803_520),  # MLPerf
    ("kimi-k2.5", {"tp": 8, "kv_dtype": "fp8"}, 35_137, 1),
]


@pytest.mark.parametrize(("model", "keywords", "pool", "tokens"), POOLS)
def test_bytes_per_token(model, keywords, pool, tokens):
    found = report(model, gpu=f"{keywords.get('tp', 1)}x1000GiB", **keywords)
    assert found.capacity.kv_bytes_per_token == pytest.approx(pool / tokens, rel=0.0005)


def test_the_share_of_what_is_left():
    # total 178.36, available 136.23 GiB after load, pool 122.61
    found = report("llama-2-70b", gpu="b200", quant="nvfp4", kv_dtype="fp8", context=4096)
    assert found.capacity.kv_budget_bytes / GIB == pytest.approx(122.61, abs=0.02 * 178.36)
    low, high = found.capacity.kv_budget_range_bytes
    assert low / GIB < 122.61 < high / GIB
    left = [report("llama-3.1-8b", gpu="h100", free_gpu_memory_fraction=x).capacity.kv_budget_bytes
            for x in (0.45, 0.9)]  # fmt: skip
    assert left[1] == pytest.approx(2 * left[0], abs=2)


def test_blocks_and_releases():
    assert report("llama-3.1-8b", context=33)["kv_cache"].bytes == 64 * 131_072
    assert report("llama-3.1-8b", context=33, tokens_per_block=128)["kv_cache"].bytes == 128 * 131_072
    old = tensorrt_llm_options({"engine_version": "0.8"})
    assert (old.fraction, old.block, old.note) == ((85, 100), 64, "")
    assert "nearest release, 1.2.1" in tensorrt_llm_options({"engine_version": "3.0"}).note
    assert any("nearest release" in told for told in report("llama-3.1-8b", engine_version="9.9").warnings)


@pytest.mark.parametrize("model", ["llama-3.1-8b", "gemma-3-27b", "qwen3.5-27b", "deepseek-v3"])
def test_more_context_never_needs_less_and_arrays_are_single_estimates(model):
    contexts = np.array([1, 31, 32, 33, 4096, 40_000, 131_072])
    swept = llmcalc.vram(model, engine="tensorrt-llm", context=contexts)
    assert (np.diff(swept.total_bytes) >= 0).all()
    for index, context in enumerate(contexts.tolist()):
        assert report(model, context=context).total_bytes == swept.total_bytes[index]


def test_capacity_solves_its_own_estimate():
    found = report("gemma-3-27b", gpu="h200", context=8192, sequences=8)
    longest, budget = found.capacity.max_context, found.capacity.kv_budget_bytes
    assert report("gemma-3-27b", gpu="h200", context=longest, sequences=8)["kv_cache"].bytes <= budget
    if longest < found.context_limit:
        assert report("gemma-3-27b", gpu="h200", context=longest + 32, sequences=8)["kv_cache"].bytes > budget
    assert found.capacity.safe_context <= longest
    assert sum(item.bytes_at_peak for item in found) == found.total_bytes


REFUSED = [
    ({"free_gpu_memory_fraction": 1.5}, "share above 0 and up to 1"),
    ({"tokens_per_block": 48}, "is no power of two"),
    ({"engine_version": "ten"}, "is no version of TensorRT-LLM"),
    ({"kv_dtype": "q8_0"}, "TensorRT-LLM keeps no cache in q8_0"),
    ({"quant": "q4_k_m"}, "TensorRT-LLM does not run q4_k_m"),
    ({"mem_fraction_static": 0.8}, "option of sglang"),
    ({"num_speculative_tokens": 3}, "option of vllm and sglang"),
]


@pytest.mark.parametrize(("keywords", "problem"), REFUSED)
def test_refused(keywords, problem):
    with pytest.raises(LlmcalcError, match=problem):
        llmcalc.vram("llama-3.1-8b", engine="tensorrt-llm", **keywords)


def test_a_pool_below_nothing_says_what_is_missing():
    found = report("llama-3.1-70b", gpu="h100")
    assert (found.capacity.max_context, found.verdict) == (0, "does_not_fit")
    assert any("GiB are missing" in told for told in found.warnings)
    with pytest.raises(LlmcalcError, match="not modelled"):
        llmcalc.vram("whisper-large-v3", engine="tensorrt-llm")


def test_command_line():
    command = [sys.executable, "-m", "llmcalc", "vram", "llama-3.1-8b", "--engine", "tensorrt-llm"]
    more = ["--gpu", "h100", "--kv-cache-free-gpu-memory-fraction", "0.8", "--json"]
    done = subprocess.run([*command, *more], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["scenario"]["free_gpu_memory_fraction"] == 0.8
    wrong = subprocess.run([*command, "--tokens-per-block", "3"], capture_output=True, text=True)
    assert wrong.returncode == 2
    assert wrong.stderr.endswith("Use --tokens-per-block 32.\n")
