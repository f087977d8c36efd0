"""Servers at their limits: capacities at their own figure, huge batches, cards that no log covers."""

import subprocess
import sys

import pytest

import llmcalc
from llmcalc.engine_options.reading import release
from llmcalc.errors import LlmcalcError
from llmcalc.memory.engines.sglang.reserve import prefill_sizes


def ask(model, engine, **more):
    return llmcalc.vram(model, engine=engine, allow_overlong=True, **more)


# -- the longest context holds, and a little more does not ---------------------------------------------

LONGEST = [
    ("granite-3.3-8b-instruct", "tensorrt-llm", {"gpu": "24GiB", "sequences": 7}),
    ("mediphi-clinical", "tensorrt-llm", {"gpu": "16GiB"}),
    ("llama-3.1-70b", "tensorrt-llm", {"gpu": "4xl4", "pp": 4, "quant": "awq"}),
    ("falcon-h1r-7b", "sglang",
     {"gpu": "h100-sxm", "disable_cuda_graph": True, "speculative_num_draft_tokens": 4}),
    ("falcon-h1-0.5b-base", "sglang", {"gpu": "b200", "sequences": 7, "speculative_num_draft_tokens": 2}),
    ("qwen3.5-27b", "sglang", {"gpu": "h200", "sequences": 4, "speculative_num_draft_tokens": 8}),
    ("qwen3.5-27b", "sglang", {"gpu": "2xh100", "pp": 2, "sequences": 3}),
    ("llama-3.1-8b", "sglang", {"gpu": "rtx-4090", "mem_fraction_static": 0.95}),
    ("gpt-oss-20b", "sglang", {"gpu": "h100", "sequences": 32}),
]  # fmt: skip


@pytest.mark.parametrize(("model", "engine", "asked"), LONGEST, ids=lambda v: v if isinstance(v, str) else "")
def test_the_longest_context_holds_and_more_does_not(model, engine, asked):
    found = ask(model, engine, **asked).capacity
    longest, safe = found.max_context, found.safe_context
    assert 0 < safe <= longest
    at = ask(model, engine, context=longest, **asked)
    assert at.headroom_bytes >= 0
    assert at.verdict != "does_not_fit"
    assert at.capacity.max_context == longest
    beyond = ask(model, engine, context=longest + 64, **asked)
    assert beyond.headroom_bytes < 0
    assert beyond.verdict != "fits"
    assert ask(model, engine, context=safe, **asked).verdict == "fits"


def test_pools_of_states_with_drafts_are_what_the_budget_makes():
    found = ask("falcon-h1r-7b", "sglang", gpu="h100-sxm", speculative_num_draft_tokens=4, sequences=2)
    budget = found.capacity.kv_budget_bytes
    at = ask("falcon-h1r-7b", "sglang", gpu="h100-sxm", speculative_num_draft_tokens=4, sequences=2,
             context=found.capacity.max_context)  # fmt: skip
    assert 0.98 * budget < at["kv_cache"].bytes + at["state"].bytes <= budget


# -- sizes that no server takes ------------------------------------------------------------------------

HUGE = [
    ("sglang", "chunked_prefill_size"), ("sglang", "max_num_batched_tokens"),
    ("tensorrt-llm", "max_num_tokens"), ("vllm", "max_num_batched_tokens"),
]  # fmt: skip


@pytest.mark.parametrize(("engine", "keyword"), HUGE)
def test_a_batch_has_bounds(engine, keyword):
    option = f"--{keyword.replace('_', '-')}"
    with pytest.raises(LlmcalcError, match=f"{option} is 1,000,000,000,000; a batch of more than 16,777,216"):
        ask("llama-3.1-8b", engine, gpu="h100", **{keyword: 10**12})
    assert ask("llama-3.1-8b", engine, gpu="h100", **{keyword: 1 << 24}).total_bytes > 0


def test_sizes_of_prefill_by_arithmetic():
    # 4 to 32 by 4, 48 to 256 by 16, 288 to 512 by 32, 576 to 1,024 by 64, 1,280 to 4,096 by 256, then 512
    sizes = [*range(4, 33, 4), *range(48, 257, 16), *range(288, 513, 32), *range(576, 1025, 64),
             *range(1280, 4097, 256), *range(4608, 20_001, 512)]  # fmt: skip
    for most in range(1, 20_000, 7):
        assert prefill_sizes(most) == sum(n <= most for n in sizes)
    assert prefill_sizes(10**12) > 10**9


# -- cards ---------------------------------------------------------------------------------------------

TOLD = [
    ("vllm", "m2-ultra-192gb", "No log of vLLM on Apple M2 Ultra 192GB is known"),
    ("vllm", "mi300x", "No log of vLLM on MI300X"),
    ("sglang", "mi300x", "No log of SGLang on MI300X"),
    ("vllm", "p4", "vLLM needs compute capability 7.0; P4 has 6.1"),
    ("sglang", "v100-32gb", "SGLang needs compute capability 7.5"),
    ("tensorrt-llm", "t4", "TensorRT-LLM needs compute capability 8.0"),
    ("vllm", "t4", "T4 has no bf16"),
    ("sglang", "t4", "--dtype fp16 asks for it"),
]


@pytest.mark.parametrize(("engine", "gpu", "told"), TOLD)
def test_what_no_log_covers_is_said(engine, gpu, told):
    assert any(told in note for note in ask("llama-3.1-8b", engine, gpu=gpu).warnings)


def test_what_is_covered_is_not_remarked():
    for engine in ("vllm", "sglang", "tensorrt-llm"):
        for asked in ({"gpu": "h100"}, {"gpu": "24GiB"}):
            notes = ask("llama-3.1-8b", engine, **asked).warnings
            assert not any("No log of" in note or "compute capability" in note for note in notes)
    notes = ask("llama-3.1-8b", "vllm", gpu="t4", dtype="fp16").warnings
    assert not any("bf16" in note for note in notes)


@pytest.mark.parametrize(
    ("engine", "gpu", "told"),
    [
        ("sglang", "m2-ultra-192gb", "keeps its memory in MLX"),
        ("tensorrt-llm", "m2-ultra-192gb", "NVIDIA's GPUs alone"),
        ("tensorrt-llm", "mi300x", "NVIDIA's GPUs alone"),
        ("tensorrt-llm", "gaudi-2", "NVIDIA's GPUs alone"),
    ],
)
def test_what_can_not_run_is_refused(engine, gpu, told):
    with pytest.raises(LlmcalcError, match=told):
        ask("llama-3.1-8b", engine, gpu=gpu)


# -- words ---------------------------------------------------------------------------------------------


def text(*words):
    done = subprocess.run(
        [sys.executable, "-m", "llmcalc", "vram", *words], capture_output=True, text=True, check=True
    )
    return done.stdout + done.stderr


def test_states_alone_are_called_states():
    told = text("falcon-mamba-7b", "--engine", "sglang", "--gpu", "h100")
    assert "tokens as the log counts" not in told
    slots = llmcalc.vram("falcon-mamba-7b", engine="sglang", gpu="h100").capacity.state_slots
    assert f"state pool       51.70 GiB, {slots:,} states" in told
    other = llmcalc.vram("falcon-mamba-7b", engine="tensorrt-llm", gpu="h100")
    assert other.capacity.concurrency > 1
    assert "states alone" in text("falcon-mamba-7b", "--engine", "tensorrt-llm", "--gpu", "h100")


def test_a_version_of_one_number_is_the_nearest_said_aloud():
    assert release("3", "TensorRT-LLM", "1.2.1") == (3, 0, 0)
    for engine, newest in (("tensorrt-llm", "1.2.1"), ("sglang", "0.5.23")):
        notes = ask("llama-3.1-8b", engine, engine_version="3").warnings
        assert any(f"3 is not known here; the nearest release, {newest}" in note for note in notes)
    with pytest.raises(LlmcalcError, match="is no version"):
        ask("llama-3.1-8b", "tensorrt-llm", engine_version="x")
