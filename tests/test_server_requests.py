"""SGLang and TensorRT-LLM: requests that vary or share, drafts, adapters, servers beside each other."""

import numpy as np
import pytest

import llmcalc
from llmcalc.errors import LlmcalcError

CELL = 131_072  # of Llama-3.1-8B
BOTH = ["sglang", "tensorrt-llm"]


def ask(engine, model="llama-3.1-8b", **more):
    return llmcalc.vram(model, engine=engine, **more)


def caches(report):
    return report["kv_cache"].bytes + report["state"].bytes


# -- what is shared ------------------------------------------------------------------------------------


def test_radix_cache_shares_tokens_and_pages():
    asked = {"prompt": 3000, "output": 500, "sequences": 10}
    assert caches(ask("sglang", **asked)) == 10 * 3500 * CELL
    # one prefix, and what follows of each
    shared = ask("sglang", shared_prefix=1000, **asked)
    assert caches(shared) == (1000 + 10 * 2500) * CELL
    # only whole pages: 960 of 1,000 tokens, each request in pages of its own
    paged = ask("sglang", shared_prefix=1000, page_size=64, **asked)
    assert caches(paged) == (960 + 10 * (3520 - 960)) * CELL
    off = ask("sglang", shared_prefix=1000, disable_radix_cache=True, **asked)
    assert caches(off) == 10 * 3500 * CELL
    assert any("shares no prompt" in told for told in off.warnings)


def test_the_last_token_of_a_prompt_is_each_outputs_own():
    found = ask("sglang", prompt=3000, output=500, samples=4, sequences=2)
    assert caches(found) == 2 * (2999 + 4 * 501) * CELL
    blocks = ask("tensorrt-llm", prompt=3008, output=500, samples=4, sequences=2)
    # 93 full blocks of 94 are shared; the last one is computed anew
    assert caches(blocks) == 2 * (2976 + 4 * (3520 - 2976)) * CELL
    beams = ask("tensorrt-llm", prompt=3008, output=500, beams=4, sequences=2)
    assert caches(beams) == caches(blocks)
    old = ask("tensorrt-llm", prompt=3000, output=500, samples=4, engine_version="0.12")
    assert caches(old) == 4 * 3520 * CELL  # blocks of 64, none reused
    assert any("reuses no blocks" in told for told in old.warnings)


def test_states_are_each_outputs_own():
    one = ask("tensorrt-llm", "qwen3.5-27b", prompt=3000, output=500)
    four = ask("tensorrt-llm", "qwen3.5-27b", prompt=3000, output=500, samples=4)
    assert four["state"].bytes == 4 * one["state"].bytes
    slots = ask("sglang", "qwen3.5-27b", prompt=3000, output=500, samples=4, sequences=2, gpu="h200")
    assert slots.capacity.running_requests == slots.capacity.state_slots // 5 // 4


def test_windows_are_counted_for_each():
    one = ask("tensorrt-llm", "gemma-3-27b", prompt=30_000, output=500)
    two = ask("tensorrt-llm", "gemma-3-27b", prompt=30_000, output=500, samples=2)
    full = 10 * 2 * 16 * 128 * 2  # bytes of one token in the layers without a window
    assert caches(two) == 2 * caches(one) - full * (29_999 // 32 * 32)


# -- requests that vary --------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", BOTH)
@pytest.mark.parametrize("model", ["llama-3.1-8b", "gpt-oss-20b", "qwen3.5-27b", "gemma-3-27b"])
def test_cases_are_in_order_and_one_length_is_the_plain_estimate(engine, model):
    varied = ask(engine, model, gpu="h200", prompt="uniform(1000,5000)", output=500, sequences=16)
    rows = {row["case"]: row for row in varied.workload["cases"]}
    kept = [rows[case]["cache_bytes"] for case in ("expected", "p95", "worst")]
    assert kept == sorted(kept)
    assert rows["p95"]["verdict"] == varied.verdict
    assert rows["p95"]["total_bytes"] == varied.total_bytes
    assert rows["worst"]["cache_bytes"] >= caches(ask(engine, model, context=5000, sequences=15))
    plain = ask(engine, model, context=4096, sequences=8)
    same = ask(engine, model, prompt=3500, output=596, samples=1, sequences=8)
    assert same.total_bytes == plain.total_bytes
    prefixed = ask(engine, model, prompt=3500, output=596, shared_prefix=1, sequences=8)
    assert abs(caches(prefixed) - caches(plain)) <= 0.03 * caches(plain)


@pytest.mark.parametrize("engine", BOTH)
@pytest.mark.parametrize("model", ["llama-3.1-8b", "gpt-oss-20b", "qwen3.5-27b"])
@pytest.mark.parametrize("more", [{"samples": 3}, {"shared_prefix": 1500}])
def test_capacity_of_requests_holds_and_one_more_does_not(engine, model, more):
    asked = {"prompt": 3000, "output": 500, "gpu": "h200", **more}
    most = ask(engine, model, sequences=2, **asked).capacity.max_concurrency
    assert ask(engine, model, sequences=most, **asked).headroom_bytes >= 0
    assert ask(engine, model, sequences=most * 11 // 10 + 2, **asked).headroom_bytes < 0
    longest = ask(engine, model, sequences=4, allow_overlong=True, **asked).capacity.max_context
    over = {**asked, "allow_overlong": True, "sequences": 4}
    assert ask(engine, model, **{**over, "prompt": longest - 500}).headroom_bytes >= 0
    if longest < 1 << 24:
        assert ask(engine, model, **{**over, "prompt": longest - 500 + 256}).headroom_bytes < 0


@pytest.mark.parametrize("engine", BOTH)
def test_arrays_of_requests_are_single_estimates(engine):
    asked = {"prompt": 3000, "output": 500, "samples": 2, "shared_prefix": 500}
    swept = ask(engine, "gpt-oss-20b", sequences=np.array([1, 4, 9]), **asked)
    single = [ask(engine, "gpt-oss-20b", sequences=n, **asked).total_bytes for n in (1, 4, 9)]
    assert swept.total_bytes.tolist() == single


# -- drafts and adapters -------------------------------------------------------------------------------


def test_a_drafts_slots_lie_in_the_pool_since_0_5_18():
    new = ask("sglang", draft="eagle3", gpu="h100", context=8192)
    assert new.capacity.kv_bytes_per_token == CELL + 2 * 8 * 128 * 2
    assert new["draft_weights"].bytes > 1e9
    plain = ask("sglang", gpu="h100", context=8192, speculative_num_draft_tokens=4, mem_fraction_static=0.8)
    named = ask("sglang", gpu="h100", context=8192, draft="eagle3", mem_fraction_static=0.8)
    assert plain.capacity.kv_budget_bytes - named.capacity.kv_budget_bytes == named["draft_weights"].bytes
    old = ask("sglang", draft="eagle3", gpu="h100", context=8192, engine_version="0.5.3")
    assert old.capacity.kv_bytes_per_token == CELL
    assert old["draft_kv_cache"].bytes == 8192 * 4096
    assert any("4 draft tokens a step are assumed" in told for told in old.warnings)


def test_a_draft_model_and_prediction_layers():
    draft = ask("sglang", "llama-3.1-70b", draft="llama-3.2-1b", tp=4, gpu="4xh100")
    assert draft.capacity.kv_bytes_per_token == (80 * 2 * 8 * 128 * 2 + 16 * 2 * 8 * 64 * 2) // 4
    mtp = ask("sglang", "deepseek-v3", draft="mtp", tp=8, gpu="8xh200")
    assert mtp.capacity.kv_bytes_per_token == 62 * 576 * 2
    rows = ask("tensorrt-llm", "deepseek-v3", draft="mtp", tp=8, gpu="8xh200").capacity.kv_bytes_per_token
    assert rows == 62 * 576 * 2
    eagle = ask("tensorrt-llm", draft="eagle3", gpu="h100")
    assert eagle.capacity.kv_bytes_per_token == CELL + 4096
    assert sum(item.bytes_at_peak for item in eagle) == eagle.total_bytes


@pytest.mark.parametrize("engine", BOTH)
def test_items_add_up_with_stages_and_a_draft(engine):
    found = ask(engine, "llama-3.1-70b", draft="eagle3", pp=2, gpu="2xh200")
    assert sum(item.bytes_at_peak for item in found) == found.total_bytes


def test_buffers_of_adapters_come_off_the_budget():
    plain, served = ask("sglang", gpu="h100"), ask("sglang", gpu="h100", lora="r=16", max_loras=4)
    # rank 16 of all linear layers of Llama-3.1-8B: 41,943,040 parameters
    assert served["lora"].bytes == 4 * 41_943_040 * 2
    assert plain.capacity.kv_budget_bytes - served.capacity.kv_budget_bytes == served["lora"].bytes
    assert ask("sglang", lora="r=8").scenario["max_loras"] == 8
    assert ask("sglang", max_lora_rank=24)["lora"].bytes == 8 * 24 * 41_943_040 * 2 // 16


@pytest.mark.parametrize(
    ("engine", "model", "asked", "told"),
    [
        ("sglang", "llama-3.1-8b", {"prompt": 100, "output": 10, "beams": 4}, "beam search in SGLang"),
        ("sglang", "llama-3.1-8b", {"draft": "qwen3-0.6b"}, "SGLang takes a draft of the same vocabulary"),
        ("sglang", "llama-3.1-8b", {"lora": "r=32", "max_lora_rank": 16}, "above --max-lora-rank 16"),
        ("sglang", "llama-3.1-8b", {"draft": "mtp"}, "has none"),
        ("tensorrt-llm", "llama-3.1-8b", {"lora": "r=16"}, "option of"),
        ("sglang", "llama-3.1-8b", {"with_models": "qwen3-4b", "mem_fraction_static": 0.5}, "one server's"),
        ("llama.cpp", "llama-3.1-8b", {"with_models": "qwen3-4b"}, "not modelled for llama.cpp"),
    ],
)
def test_refused(engine, model, asked, told):
    with pytest.raises(LlmcalcError, match=told):
        ask(engine, model, **asked)


# -- several servers -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("engine", "option"),
    [("sglang", "mem_fraction_static"), ("tensorrt-llm", "free_gpu_memory_fraction")],
)
def test_servers_one_after_the_other(engine, option):
    own = {"gpu": "h100", "context": 8192}
    both = ask(engine, with_models="qwen3-4b", **own)
    alone = ask(engine, **own).total_bytes + ask(engine, "qwen3-4b", **own).total_bytes
    assert both.total_bytes == alone
    assert sum(item.bytes_at_peak for item in both) == both.total_bytes
    shares = [row[option] for row in both.together]
    assert 0 < min(shares) <= max(shares) < 0.5
    # with its share the first one holds its own
    first = ask(engine, gpu="h100", context=8192, **{option: shares[0]})
    assert first.verdict == "fits"
    assert any("started in this order" in line for line in both.advice)
    assert ask(engine, ensemble=3, **own).total_bytes == 3 * ask(engine, **own).total_bytes


def test_a_long_name_beside_another_is_shown():
    name = "llama-3.1-nemotron-8b-ultralong-2m-instruct"
    shown = str(ask("tensorrt-llm", name, gpu="h100", ensemble=2, context=100))
    assert f"with {name}" in shown
