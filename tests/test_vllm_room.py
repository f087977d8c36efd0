"""vLLM: what a server leaves for pages at each length, pools set by hand, and where it does not start."""

import json

import pytest

import llmcalc
from llmcalc.errors import LlmcalcError
from llmcalc.units import GIB


def report(model, **more):
    return llmcalc.vram(model, engine="vllm", **more)


def adds_up(found):
    return sum(item.bytes_at_peak for item in found if item.where == "device") == found.total_bytes


BESIDE = [
    ("qwen2.5-vl-7b-instruct", "rtx-4090", {"tp": 1, "pp": 2, "draft": "eagle"}),
    ("gemma-2-9b-it", "l4", {"pp": 4, "max_loras": 4}),
    ("llama-3.1-8b", "rtx-4090", {"pp": 2, "draft": "llama-3.2-1b", "max_loras": 2}),
    (
        "qwen3-30b-a3b",
        "a100-80gb",
        {"tp": 2, "pp": 2, "max_loras": 3, "prompt": "uniform(10, 4000)", "output": 100},
    ),
    (
        "qwen3-8b",
        "rtx-4090",
        {"pp": 3, "max_loras": 1, "draft": "eagle", "samples": 3, "prompt": 500, "output": 100},
    ),
]


@pytest.mark.parametrize(("model", "gpu", "more"), BESIDE)
def test_items_beside_a_model_add_up_on_every_stage(model, gpu, more):
    ranks = more.get("tp", 1) * more["pp"]
    for keywords in (more, {**more, "gpu": f"{ranks}x{gpu}"}):
        found = report(model, sequences=4, **keywords)
        assert adds_up(found)
        for item in found:
            parts = sum(part.bytes_at_peak for part in item.items)
            assert not item.items or parts == item.bytes_at_peak
    assert adds_up(llmcalc.vram(model, **{k: v for k, v in more.items() if k in ("tp", "pp", "draft")}))


SOLVED = [
    ("yi-1.5-34b-chat", {"engine_version": "0.7.3", "gpu": "h100-sxm", "allow_overlong": True}),
    ("llama-3.1-8b", {"engine_version": "0.6.6", "gpu": "rtx-4090"}),
    ("yi-6b-200k", {"engine_version": "0.9.2", "gpu": "rtx-4090", "reserve": "4GiB"}),
    ("yi-6b-200k", {"engine_version": "0.7.3", "gpu": "rtx-4090", "reserve": "2GiB"}),
    ("qwen2.5-7b", {"engine_version": "0.6.3", "gpu": "rtx-4090", "sequences": 3}),
    ("gemma-2-9b-it", {"engine_version": "0.8.5", "gpu": "l40s"}),
    ("gemma-3-27b", {"engine_version": "0.19", "gpu": "2xl40s", "gpu_memory_utilization": 0.97}),
    ("llama-3.1-8b", {"gpu": "rtx-4090", "kv_cache_memory": "3GiB", "sequences": 2}),
    ("llama-3.1-8b", {"gpu": "rtx-4090", "gpu_memory_utilization": 0.99}),
    ("flan-ul2", {"gpu": "a100-80gb", "engine_version": "0.19", "allow_overlong": True}),
]  # fmt: skip


@pytest.mark.parametrize(("model", "keywords"), SOLVED)
def test_the_longest_context_is_true_and_one_block_more_is_not(model, keywords):
    longest = {}
    for asked in (1024, 4096, 8192):
        found = report(model, context=asked, **keywords)
        longest[asked] = (found.capacity.max_context, found.capacity.safe_context)
    assert len(set(longest.values())) == 1, "it does not depend on what is asked"
    most, safe = longest[4096]
    limit = 1 << 24 if keywords.get("allow_overlong") else found.context_limit
    assert 0 < safe <= most <= limit
    at = report(model, context=most, **keywords)
    assert at.headroom_bytes >= 0
    assert at.verdict != "does_not_fit"
    assert report(model, context=safe, **keywords).verdict == "fits"
    if most < limit:
        assert report(model, context=most + 16, **keywords).headroom_bytes < 0
    if safe < min(most, limit):
        assert report(model, context=safe + 16, **keywords).verdict != "fits"


def test_before_v1_prompts_beyond_32k_are_read_in_chunks():
    found = report("qwen2.5-7b-instruct-1m", engine_version="0.7.3", gpu="a100-80gb")
    assert found.capacity.max_context > 2**15
    short = report("yi-1.5-34b-chat-16k", engine_version="0.7.3", gpu="h100-sxm")
    assert short.capacity.max_context <= 16_384


def test_a_default_share_leaves_room_for_what_is_not_counted():
    found = report("yi-6b-200k", engine_version="0.9.2", gpu="rtx-4090", reserve="4GiB")
    assert found.scenario["gpu_memory_utilization"] < 0.82
    assert found.verdict == "fits"
    assert any("--gpu-memory-utilization is taken to be" in line for line in found.warnings)


# -- a pool set by hand -------------------------------------------------------------------------


def test_a_pool_set_by_hand_needs_room():
    found = report("baichuan-m3-235b", gpu="rtx-4080-super", kv_cache_memory="4GiB")
    assert found.verdict == "does_not_fit"
    assert found.headroom_bytes < -400 * GIB
    capacity = found.capacity
    assert (capacity.max_context, capacity.safe_context, capacity.max_concurrency) == (0, 0, 0)
    text = found.to_text() + " ".join(found.warnings)
    assert "--gpu-memory-utilization" not in text
    assert "longest context" not in text
    assert "no pool has room" in text


def test_a_smaller_pool_is_named_and_fits():
    found = report("llama-3.1-8b", gpu="h100", kv_cache_memory="70GiB")
    assert (found.verdict, found.headroom_bytes < 0) == ("does_not_fit", True)
    helped = llmcalc.fit("llama-3.1-8b", engine="vllm", gpu="h100", kv_cache_memory="70GiB").alternatives
    own = next(one for one in helped if "kv_cache_memory" in one["keywords"])
    assert own["verdict"] == "fits"
    assert own["keywords"]["kv_cache_memory"] in " ".join(found.warnings)
    made = report("llama-3.1-8b", gpu="h100", **own["keywords"])
    assert made.verdict == "fits"
    assert (
        made.capacity.kv_budget_bytes == found.most_pool // (GIB // 100) * (GIB // 100) or made.headroom_bytes
    )


def test_a_pool_without_its_unit_is_refused():
    for value in ("4", 4, "80"):
        with pytest.raises(LlmcalcError, match="less than one page") as caught:
            report("llama-3.1-8b", gpu="h100", kv_cache_memory=value)
        assert "--kv-cache-memory 4GiB" in caught.value.remedy
    plain = report("llama-3.1-8b", gpu="h100", kv_cache_memory=4 * GIB)
    assert plain.capacity.kv_budget_bytes == 4 * GIB


def test_where_it_does_not_start_nothing_is_free():
    asked = {"gpu": "rtx-4090", "reserve": "4GiB", "gpu_memory_utilization": 0.9}
    found = report("smollm-135m-instruct", **asked)
    assert (found.verdict, found.headroom_bytes < 0) == ("does_not_fit", True)
    assert found.capacity.max_context == 0
    text = found.to_text()
    assert "more asked for than is free" in text
    assert "KV pool" not in text
    assert "most sequences" not in text
    more = report("qwen2-7b", gpu="4xrtx-5060-ti-8gb", kv_cache_memory="7GiB")
    assert (more.verdict, more.headroom_bytes < 0) == ("does_not_fit", True)


# -- the minimum, versions, mistakes ------------------------------------------------------------


@pytest.mark.parametrize("engine", ["none", "vllm", "sglang", "transformers", "llama.cpp"])
def test_json_has_the_minimum_of_the_architecture(engine):
    found = llmcalc.vram("llama-3.1-8b", engine=engine, context=4096)
    told = json.loads(found.to_json())["minimum_bytes"]
    assert told == found.minimum_bytes
    assert 0 < told < found.total_bytes
    if engine not in ("llama.cpp", "none"):  # in 16 bit: weights, and 128 KiB for each token
        assert told == 2 * 8_030_261_248 + 4096 * 131_072


@pytest.mark.parametrize(
    ("version", "nearest"),
    [("0.9.99", "0.9.2"), ("0.33.7", "0.33.0"), ("0.16.3", "0.16.0"), ("0.9.2", ""), ("0.6.6.post1", ""),
     ("0.10.1.1", ""), ("0.9.3.dev12+g123", ""), ("0.12.1rc1", ""), ("0.20", ""), ("0.25.1", "")],
)  # fmt: skip
def test_releases_in_between_are_told(version, nearest):
    told = [line for line in report("llama-3.1-8b", engine_version=version).warnings if "not known" in line]
    assert bool(told) == bool(nearest)
    assert not nearest or f"the nearest release, {nearest}," in told[0]


def test_all_mistakes_are_told_together():
    with pytest.raises(LlmcalcError) as caught:
        report("llama-3.1-8b", gpu_layers=10, n_cpu_moe=3, block_size=13, max_num_seqs=0)
    for option in ("--gpu-layers", "--n-cpu-moe", "--block-size is 13", "--max-num-seqs is 0"):
        assert option in str(caught.value)
    with pytest.raises(LlmcalcError, match="multiples of 16") as caught:
        report("llama-3.1-8b", block_size=8)
    assert caught.value.remedy == "Use --block-size 16."
    assert report("llama-3.1-8b", block_size=8, engine_version="0.6").scenario["block_size"] == 8
    assert report("llama-3.1-8b", block_size=48).scenario["block_size"] == 48
