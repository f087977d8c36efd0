"""SGLang: pools, weights and budgets of published logs, defaults by release, properties, what it refuses."""

import json
import subprocess
import sys
from functools import cache

import numpy as np
import pytest

import llmcalc
from llmcalc.engine_options.sglang import sglang_options
from llmcalc.engine_options.sglang_era import sglang_era
from llmcalc.errors import LlmcalcError
from llmcalc.hardware import Device
from llmcalc.memory.engines.sglang import reserve
from llmcalc.memory.engines.sglang.pools import Pool
from llmcalc.memory.engines.sglang.weights import segments
from llmcalc.units import GIB, MIB


@cache
def report(model, **more):
    return llmcalc.vram(model, engine="sglang", allow_overlong=True, **more)


# "Load weight end" and the memory before and after, the share, the tokens ("max_total_num_tokens"): issues
# of sgl-project/sglang by number. Free memory before loading [GiB], ranks, weights [GiB], share, tokens.
LOGGED = [
    ("deepseek-v2-lite", "0.4.3", 43.85, 1, 29.51, 0.88, 313_444),  # 3451
    ("qwq-32b", "0.4.3", 21.63, 4, 15.54, 0.85, 46_611),  # 4127
    ("qwen2.5-7b-instruct", "0.4.3", 38.97, 1, 14.38, 0.88, 372_945),  # 4094
    ("llama-3-8b-instruct", "0.4.6", 139.2, 1, 14.98, 0.8717961202189594, 871_371),  # 6753
    ("mixtral-8x7b-instruct-v0.1", "0.2.10", 21.65, 8, 10.90, 0.83, 463_405),  # 1191
    ("mistral-7b-v0.1", "0.3.3", 23.16, 1, 13.57, 0.88, 55_807),  # 1612
    ("llama-3-8b-instruct", "0.1.17", 21.52, 4, 3.76, 0.75, 405_784),  # 565
    ("deepseek-r1", "0.4.3", 76.97, 16, 40.46, 0.7, None),  # 4161
]


@pytest.mark.parametrize(("model", "version", "free", "tp", "weights", "share", "tokens"), LOGGED)
def test_weights_and_budget_of_logs(model, version, free, tp, weights, share, tokens):
    found = report(
        model, gpu=f"{tp}x{free}GiB", tp=tp, mem_fraction_static=share, engine_version=version, context=4096
    )
    assert found["weights"].bytes / GIB == pytest.approx(weights, rel=0.015)
    low, high = found["weights"].range_bytes
    assert low - 0.01 * GIB < weights * GIB < high + 0.01 * GIB or model == "llama-3-8b-instruct"
    if tokens:
        rest = found.capacity.kv_bytes_per_token * (found.capacity.kv_tokens - tokens) / GIB
        assert abs(rest) < 0.005 * free


# Bytes of the pool behind one token: model, keywords, bytes.
PER_TOKEN = [
    ("kimi-k2.5", {"tp": 8}, 61 * 1152),  # 160.63 GiB for 2,454,421 tokens; whole on every rank
    ("deepseek-v3.2", {"tp": 8}, 61 * (656 + 132)),  # PR 11309: 43.67 GiB for 975,424 tokens
    ("glm-5", {"tp": 8, "kv_dtype": "bf16"}, 78 * (1152 + 132)),
    ("qwen3.5-27b", {}, 16 * 2 * 4 * 256 * 2),  # the full-attention layers alone
    ("llama-3.1-8b", {"tp": 16}, 32 * 2 * 128 * 2),  # 8 heads on 16 ranks: one whole head each
    ("llama-3.1-8b", {"kv_dtype": "fp8"}, 65_536),
    ("gemma-3-27b", {}, 62 * 2 * 16 * 128 * 2),  # windows kept whole
    ("gpt-oss-20b", {}, (12 * 10 + 12 * 8) * 2048 // 10 + 1),  # 0.8 window slots for each full one
    ("gpt-oss-20b", {"swa_full_tokens_ratio": 0.5}, 18 * 2048),
    ("gpt-oss-20b", {"disable_hybrid_swa_memory": True}, 24 * 2048),
    ("gpt-oss-20b", {"engine_version": "0.4.9"}, 24 * 2048),
    ("llama-3.1-8b", {"kv_dtype": "nvfp4"}, 32 * 2 * 8 * 72),
]


@pytest.mark.parametrize(("model", "keywords", "expected"), PER_TOKEN)
def test_bytes_per_token(model, keywords, expected):
    gpu = f"{keywords.get('tp', 1)}x1000GiB"
    assert report(model, gpu=gpu, context=8192, **keywords).capacity.kv_bytes_per_token == expected


def test_window_pool_of_a_log():
    # PR 18039: 300,288 slots of 39 layers with windows on 4 ranks, K 8.38 GiB, V 5.59 GiB.
    found = report(
        "mimo-v2-flash", gpu="4x192GiB", tp=4, page_size=64, max_total_tokens=375_360, context=8192
    )
    assert (found.capacity.kv_tokens, found.capacity.window_tokens) == (375_360, 300_288)
    assert pytest.approx(8.38 + 5.59, abs=0.011) == 300_288 * 39 * 2 * (192 + 128) * 2 / GIB


def test_state_pool_of_a_log():
    # Qwen3.8-27B-FP8 on an H100 at 0.85: 124 slots, 17.58 + 0.34 GiB of states, 330,323 tokens.
    found = report("qwen3.5-27b", gpu="h100", quant="fp8-block", mem_fraction_static=0.85, context=8192)
    assert found["weights"].bytes / GIB == pytest.approx(28.47, rel=0.005)
    assert abs(found.capacity.state_slots - 124) <= 2
    assert found.capacity.kv_tokens == pytest.approx(330_323, rel=0.01)
    slot = next(iter(found["state"].inputs.items()))
    assert slot == ("bytes_per_slot", 48 * (48 * 128 * 128 * 4 + 3 * 10_240 * 2))
    assert 125 * slot[1] / GIB == pytest.approx(17.58 + 0.34, abs=0.011)


def test_states_of_granite():
    # granite-4.0-h-micro on 16 GB in January 2026: 38 slots of 2.77 GiB, 399,740 tokens of 3.04 GiB.
    found = report(
        "granite-4.0-h-micro",
        gpu="15.24GiB",
        mem_fraction_static=0.77,
        engine_version="0.5.9",
        context=8192,
    )
    assert found.capacity.state_slots == 38
    assert found.capacity.kv_tokens == pytest.approx(399_740, rel=0.01)
    assert found["weights"].bytes / GIB == pytest.approx(5.98, rel=0.005)


# -- defaults ------------------------------------------------------------------------------------------

DRIVERS = {"rtx-4090": 24_564, "a100-40gb": 40_960, "h100": 81_559, "h200": 143_771, "b200": 183_359}

# Share by release, GPU and tensor ranks, read off each release's own code.
SHARES = [
    ("0.1.17", "h100", 1, 0.90), ("0.2.10", "h100", 8, 0.83), ("0.3.6", "h100", 8, 0.82),
    ("0.4.3", "h100", 8, 0.81), ("0.4.6", "h100", 16, 0.79), ("0.4.6.post2", "h200", 1, 0.8717961202189594),
    ("0.4.6", "h200", 1, (143_771 - 13_312) / 143_771), ("0.4.9", "h100", 1, 0.874),
    ("0.4.10", "rtx-4090", 1, 0.879), ("0.5.2", "h200", 8, 0.886), ("0.5.3", "h100", 1, 0.835),
    ("0.5.3", "h100", 8, 0.818), ("0.5.3", "rtx-4090", 1, 0.848), ("0.5.23", "h100", 1, 0.83),
    ("0.5.23", "rtx-4090", 1, 0.704), ("0.5.23", "b200", 8, 0.849),
]  # fmt: skip


@pytest.mark.parametrize(("version", "gpu", "tp", "share"), SHARES)
def test_default_share(version, gpu, tp, share):
    options = sglang_options({"engine_version": version})
    options.ranks = tp
    size = DRIVERS[gpu] * MIB
    device = Device(gpu, None, size, size, size, size, "")
    above, below = reserve.plan(options, device, llmcalc.model("llama-3.1-8b"), 1).fraction
    assert above / below == pytest.approx(share, abs=0.00051)


def test_chunks_and_graphs_follow_the_card():
    small, large = (report("llama-3.1-8b", gpu=gpu).scenario for gpu in ("rtx-4090", "b200"))
    assert (small["chunked_prefill_size"], small["cuda_graph_max_bs"]) == (4096, 48)
    assert (large["chunked_prefill_size"], large["cuda_graph_max_bs"]) == (16_384, 512)
    assert report("llama-3.1-8b", gpu="rtx-4090", disable_cuda_graph=True)["cuda_graphs"].bytes == 0
    fewer = report("llama-3.1-8b", gpu="h100", max_running_requests=16)
    assert fewer.scenario["cuda_graph_max_bs"] == 16
    assert fewer.capacity.running_requests == 16


def test_towers_lower_the_share():
    plain = report("gemma-3-1b", gpu="h100").scenario["mem_fraction_static"]
    seeing = report("gemma-3-27b", gpu="h100")
    assert seeing.scenario["mem_fraction_static"] < plain
    assert any(part.name == "images" and part.bytes == 100 * MIB for part in seeing["runtime"].items)


def test_a_tower_of_2025():
    # PR 4826: Gemma-3-4B on an H200, 131.08 GiB free after 8.13 of weights, 834,615 tokens at 0.88 x 0.95.
    found = report("gemma-3-4b-it", gpu="139.21GiB", engine_version="0.4.4", mem_fraction_static=0.88)
    assert found.scenario["mem_fraction_static"] == pytest.approx(0.836)
    assert found["weights"].bytes / GIB == pytest.approx(8.13, rel=0.01)
    assert found.capacity.kv_tokens == pytest.approx(834_615, rel=0.002)


def test_allocator_segments():
    assert segments([35 * MIB]) == 36 * MIB  # own segments are multiples of 2 MiB
    assert segments([8 * MIB, 8 * MIB, 8 * MIB]) == 40 * MIB  # two to a segment of 20 MiB
    assert segments([7168] * 10) == 2 * MIB
    assert segments([]) == 0
    # QwQ-32B on four ranks: 3.5 MiB a layer
    parts = {part.name: part.bytes for part in report("qwq-32b", tp=4)["weights"].items}
    assert parts["allocator"] / MIB == pytest.approx(64 * 3.5, abs=6)


def test_latent_copies():
    parts = {part.name: part.bytes for part in report("deepseek-r1", tp=16)["weights"].items}
    assert parts["latent copies"] == 61 * 128 * 256 * 512 * 2 // 16


def test_dp_attention_shares_ranks():
    found = report("deepseek-v3", tp=8, dp=8, enable_dp_attention=True, gpu="8xh200")
    whole = report("deepseek-v3", tp=8, gpu="8xh200")
    assert found.scenario["attention_tp"] == 1
    assert found.gpus == whole.gpus == 8
    assert found.scenario["chunked_prefill_size"] == 8192 // 8
    assert whole["weights"].bytes < found["weights"].bytes < 1.3 * whole["weights"].bytes
    assert found.scenario["mem_fraction_static"] < whole.scenario["mem_fraction_static"]


def test_speculation():
    plain = report("deepseek-v3", tp=8, gpu="8xh200")
    drafted = report("deepseek-v3", tp=8, gpu="8xh200", speculative_num_draft_tokens=4)
    assert drafted.capacity.kv_bytes_per_token == plain.capacity.kv_bytes_per_token * 62 // 61
    assert drafted["weights"].bytes > plain["weights"].bytes
    states = [
        report("qwen3.5-27b", gpu="h200", speculative_num_draft_tokens=n).capacity.state_slots
        for n in (0, 4, 8)
    ]
    assert states[0] > states[1] > states[2]


# -- properties ----------------------------------------------------------------------------------------

KINDS = ["llama-3.1-8b", "gemma-3-27b", "qwen3.5-27b", "gpt-oss-20b", "deepseek-v3.2", "gemma-4-26b-a4b"]


@pytest.mark.parametrize("model", KINDS)
def test_more_never_needs_less_and_arrays_are_single_estimates(model):
    contexts = np.array([1, 63, 64, 65, 4096, 40_000, 131_072])
    swept = llmcalc.vram(model, engine="sglang", context=contexts, allow_overlong=True)
    assert (np.diff(swept.total_bytes) >= 0).all()
    for index, context in enumerate(contexts.tolist()):
        assert report(model, context=context).total_bytes == swept.total_bytes[index]
    many = llmcalc.vram(model, engine="sglang", context=4096, sequences=np.array([1, 2, 8, 64]))
    assert (np.diff(many.total_bytes) > 0).all()


@pytest.mark.parametrize("model", KINDS[:4] + KINDS[5:])
def test_capacity_solves_its_own_estimate(model):
    asked = {"gpu": "h200", "sequences": 4}
    found = report(model, context=8192, **asked)
    longest, budget = found.capacity.max_context, found.capacity.kv_budget_bytes

    def need(context):
        one = report(model, context=context, **asked)
        return one["kv_cache"].bytes + one["state"].bytes

    assert need(longest) <= budget
    assert found.capacity.safe_context <= longest
    assert found.capacity.max_concurrency >= 4
    if longest < 1 << 24 and not found.capacity.state_slots:
        assert need(longest + 1) > budget


@pytest.mark.parametrize("model", KINDS[:4])
def test_verdict_follows_the_budget(model):
    found = report(model, gpu="h100", context=8192)
    most = found.capacity.max_concurrency
    assert report(model, gpu="h100", context=8192, sequences=max(most * 9 // 10, 1)).verdict == "fits"
    assert report(model, gpu="h100", context=8192, sequences=most * 12 // 10 + 2).verdict == "does_not_fit"


def test_items_add_up_and_ranges_hold():
    for model in KINDS[:4]:
        found = report(model, gpu="h100")
        assert sum(item.bytes_at_peak for item in found) == found.total_bytes
        low, high = found.capacity.kv_budget_range_bytes
        assert low < found.capacity.kv_budget_bytes < high
        assert found.minimum_bytes < found.total_bytes
        for item in found:
            assert item.range_bytes[0] <= item.bytes <= item.range_bytes[1]
            assert sum(part.bytes for part in item.items) in (0, item.bytes)


def test_stages_share_layers():
    one, two = report("llama-3.1-70b", gpu="2xh200", tp=2), report("llama-3.1-70b", gpu="2xh200", pp=2)
    assert two.capacity.kv_bytes_per_token == one.capacity.kv_bytes_per_token
    assert two.capacity.kv_tokens == pytest.approx(one.capacity.kv_tokens, rel=0.1)


def test_a_share_set_by_hand():
    budgets = [
        report("llama-3.1-8b", gpu="h100", mem_fraction_static=x).capacity.kv_budget_bytes
        for x in (0.5, 0.7, 0.9)
    ]
    assert budgets == sorted(budgets)
    free = 79.19 * GIB - 470 * MIB  # a named card: the CUDA context is gone before anything loads
    assert budgets[2] - budgets[1] == pytest.approx(0.2 * free, rel=0.002)
    full = report("llama-3.1-8b", gpu="24GiB", mem_fraction_static=0.99)
    assert any("may run out of memory" in told for told in full.warnings)


# -- input ---------------------------------------------------------------------------------------------

REFUSED = [
    ({"mem_fraction_static": 0}, "share above 0 and up to 1"),
    ({"mem_fraction_static": "1.01"}, "share above 0 and up to 1"),
    ({"gpu_memory_utilization": "nan"}, "--gpu-memory-utilization is 'nan'; SGLang takes a share"),
    ({"mem_fraction_static": 0.8, "gpu_memory_utilization": 0.8}, "given together"),
    ({"swa_full_tokens_ratio": 2}, "--swa-full-tokens-ratio is 2"),
    ({"mamba_full_memory_ratio": -1}, "--mamba-full-memory-ratio is -1"),
    ({"mamba_ssm_dtype": "int8"}, "--mamba-ssm-dtype is 'int8'"),
    ({"kv_dtype": "q8_0"}, "SGLang keeps no cache in q8_0"),
    ({"engine_version": "newest"}, "is no version of SGLang"),
    ({"quant": "mlx-4bit"}, "SGLang does not run mlx-4bit"),
    ({"tp": 3}, "does not divide 32 attention heads"),
    ({"tp": 8, "dp": 3, "enable_dp_attention": True}, "shares 8 tensor ranks among 3 replicas"),
    ({"page_size": 0}, "--page-size"),
    ({"max_running_requests": 8, "sequences": 64}, "more than the 8 of --max-running-requests"),
    ({"ubatch": 512}, "option of llama.cpp"),
    ({"tokens_per_block": 64}, "option of tensorrt-llm"),
    ({"disable_hybrid_kv_cache_manager": True}, "option of vllm"),
]


@pytest.mark.parametrize(("keywords", "problem"), REFUSED)
def test_refused(keywords, problem):
    with pytest.raises(LlmcalcError, match=problem):
        llmcalc.vram("llama-3.1-8b", engine="sglang", **keywords)


def test_what_is_not_known_is_refused():
    for model, problem in (
        ("whisper-large-v3", "encoder"),
        ("13b", "not a bare count"),
    ):
        with pytest.raises(LlmcalcError, match=problem):
            llmcalc.vram(model, engine="sglang")


def test_an_unknown_release_is_the_nearest_said_aloud():
    found = report("llama-3.1-8b", engine_version="0.9.1")
    assert found.scenario["engine_version"] == "0.5.23"
    assert any("nearest release, 0.5.23" in told for told in found.warnings)
    assert sglang_era("0.0.3").version == (0, 1, 17)
    assert sglang_era("v0.5.2").version == (0, 5, 2)
    assert sglang_era("nightly").note


def test_a_budget_below_the_weights_says_what_is_missing():
    found = report("llama-3.1-70b", gpu="h100")
    assert found.capacity.kv_budget_bytes < 0
    assert (found.capacity.max_context, found.capacity.kv_tokens, found.verdict) == (0, 0, "does_not_fit")
    assert any("GiB are missing" in told for told in found.warnings)


def test_states_alone():
    found = report("mamba2-2.7b", gpu="rtx-4090", context=8192)
    assert found["kv_cache"].bytes == found.capacity.kv_tokens == 0
    assert found.capacity.max_concurrency > 0
    assert found.capacity.longest_request is None


def test_pools_set_by_hand():
    small = report("llama-3.1-8b", gpu="h200", max_total_tokens=5000, context=8192)
    assert (small.verdict, small.capacity.max_context) == ("does_not_fit", 5000)
    assert report("llama-3.1-8b", gpu="h200", max_total_tokens=5000, context=5000).verdict == "fits"
    slots = report("qwen3.5-27b", gpu="h200", max_mamba_cache_size=10, sequences=3)
    assert (slots.verdict, slots.capacity.running_requests) == ("does_not_fit", 2)
    assert report("qwen3.5-27b", gpu="h200", max_mamba_cache_size=10, sequences=2).verdict == "fits"


def test_pool_arithmetic():
    options = sglang_options({"engine_version": "0.5.9"})
    pool = Pool(options, 1, 3)
    pool.full, pool.state = 8192, 75 * MIB
    assert pool.slots(int(5.82 * GIB)) == int(5.82 * 1024 * 9 / 19 / 75)
    assert pool.state_bytes(pool.slots(int(5.82 * GIB))) + pool.room(int(5.82 * GIB)) == int(5.82 * GIB)
    drafted = Pool(sglang_options({"speculative_num_draft_tokens": 4, "max_running_requests": 1000}), 1, 5)
    drafted.full, drafted.state = 65_536, 147 * MIB
    slots = drafted.slots(40 * GIB)
    assert drafted.state_bytes(slots) <= 40 * GIB * 9 // 19 < drafted.state_bytes(slots + 5)


def test_command_line():
    command = [sys.executable, "-m", "llmcalc", "vram", "gpt-oss-20b", "--engine", "sglang"]
    more = ["--context", "131072", "--gpu", "h100", "--mem-fraction-static", "0.8", "--json"]
    done = subprocess.run([*command, *more], capture_output=True, text=True, check=True)
    answer = json.loads(done.stdout)
    assert [item["name"] for item in answer["items"]] == [
        "weights", "kv_cache", "state", "activations", "cuda_graphs", "runtime",
    ]  # fmt: skip
    capacity = answer["capacity"]
    assert capacity["window_tokens"] == capacity["full_tokens"] * 8 // 10
    assert answer["scenario"]["mem_fraction_static"] == 0.8
    wrong = subprocess.run([*command, "--mem-fraction-static", "2"], capture_output=True, text=True)
    assert wrong.returncode == 2
    assert wrong.stderr.endswith("Use --mem-fraction-static 0.9.\n")


def test_fit_and_explain():
    found = llmcalc.fit("llama-3.1-70b", gpu="h100", engine="sglang", context=8192)
    assert found.advice
    assert "sglang pools" in report("llama-3.1-8b").explain()


def test_compressed_caches_by_sglangs_own_sum():
    """`_get_bytes_per_full_token` of pool_configurator.py, with a tenth of the tokens in windows."""
    found = report("deepseek-v4-flash", tp=4, gpu="4xh200")
    four, many, layers = 21, 20, 43  # layers that compress 4 and 128 tokens, and all, which have windows
    kept = four * (584 + 132) / 4 + many * 584 / 128
    rings = four * 8 * (2 * 2 * 512 + 2 * 2 * 128) * 4 / 128 + many * 2 * 512 * 4
    exact = kept + 0.1 * (layers * 584 + rings)
    assert found.capacity.kv_bytes_per_token == pytest.approx(exact, rel=1e-3)
    assert (found.scenario["page_size"], found.scenario["swa_full_tokens_ratio"]) == (256, 0.1)
    assert found["kv_cache"].grade == "assumed"
    low, high = found["kv_cache"].range_bytes
    assert (2 * low, 2 * high) == pytest.approx((found["kv_cache"].bytes, 3 * found["kv_cache"].bytes), abs=4)
    assert any("no log" in line for line in found.warnings)
    assert found["weights"].bytes > 30 * GIB
    safe = found.capacity.safe_context
    assert report("deepseek-v4-flash", tp=4, gpu="4xh200", context=safe).verdict == "fits"
