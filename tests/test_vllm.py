"""vLLM: pages and budgets of published logs, properties, what it refuses."""

import json
import subprocess
import sys
from functools import cache

import numpy as np
import pytest

import llmcalc
from llmcalc.engine_options.vllm_era import era_of
from llmcalc.errors import LlmcalcError
from llmcalc.units import GIB

H100 = "79.19GiB"
"""An H100 as the logs of llm-d-planner's PR 205 print it."""


@cache
def report(model, **more):
    return llmcalc.vram(model, engine="vllm", **more)


def pages(found):
    """Caches and states of all sequences. [GiB]"""
    return (found["kv_cache"].bytes + found["state"].bytes) / GIB


# "To serve at least one request ... (N GiB KV cache is needed)": model, keywords, GiB as printed.
NEEDED = [
    ("gpt-oss-20b", {"context": 131_072, "max_num_batched_tokens": 2048}, 3.097),
    ("gpt-oss-20b", {"context": 131_072, "disable_hybrid_kv_cache_manager": True}, 6.000),
    ("gemma-3-27b", {"context": 131_072, "disable_hybrid_kv_cache_manager": True}, 62.0),
    ("gemma-4-26b-a4b", {"context": 262_144, "max_num_batched_tokens": 2048}, 5.98),
    ("qwen3-4b", {"context": 40_960}, 5.62),
    ("qwen3-0.6b", {"context": 40_960}, 4.38),
    ("qwen3.5-27b", {"context": 131_072}, 8.18),
    ("qwen3.5-27b", {"context": 262_144, "kv_dtype": "fp8"}, 8.18),
    ("qwen3.5-27b", {"context": 204_800, "kv_dtype": "fp8", "enable_prefix_caching": True}, 6.56),
    (
        "qwen3.5-27b",
        {"context": 131_072, "kv_dtype": "fp8", "enable_prefix_caching": True, "tp": 2},
        2.15,
    ),
    ("qwen3.5-27b", {"context": 262_144, "num_speculative_tokens": 3}, 17.64),
]


@pytest.mark.parametrize(("model", "keywords", "printed"), NEEDED)
def test_needed_for_one_request(model, keywords, printed):
    assert pages(report(model, **keywords)) == pytest.approx(printed, abs=0.0051)


def test_the_minimum_stands_beside_it():
    assert llmcalc.vram("gpt-oss-20b", context=131_072)["kv_cache"].bytes / GIB == pytest.approx(
        3.00293, abs=1e-5
    )
    found = report("gpt-oss-20b", context=131_072)
    assert found.minimum_bytes < found.total_bytes - found["activations"].bytes
    assert "minimum" in found.to_text()


# Bytes of the pool behind one token of "GPU KV cache size", release by release.
PER_TOKEN = [
    ("qwen3-8b", "0.19.0", {}, 147_456),
    ("llama-3.1-8b", "0.19.0", {"kv_dtype": "fp8"}, 65_536),
    ("qwen2.5-7b", "0.19.0", {"tp": 4}, 14_336),
    ("deepseek-v2-lite", "0.19.0", {"tp": 2}, 31_104),  # a latent lies whole on every rank
    ("gemma-3-27b", "0.19.0", {}, 573_440),  # 62 layers and 8 that pad
    ("gemma-3-4b", "0.19.0", {}, 143_360),
    ("gpt-oss-20b", "0.19.0", {"tp": 2}, 24_576),
    ("llama-4-scout", "0.19.0", {"tp": 4}, 49_152),
    ("deepseek-v3.2", "0.33.0", {"tp": 8}, 61 * (656 + 132)),
    ("glm-5", "0.33.0", {"tp": 8, "kv_dtype": "bf16"}, 78 * (1152 + 132)),
    ("kimi-k2-instruct", "0.33.0", {"tp": 8, "dcp": 8}, 61 * 1152 // 8),
    ("llama-3.1-8b", "0.19.0", {"tp": 16}, 32 * 2 * 128 * 2),  # 8 heads on 16 ranks: one whole head each
]


@pytest.mark.parametrize(("model", "version", "keywords", "expected"), PER_TOKEN)
def test_bytes_per_token(model, version, keywords, expected):
    gpu = f"{keywords.get('tp', 1)}x1000GiB"
    found = report(model, engine_version=version, gpu=gpu, context=8192, **keywords)
    assert found.capacity.kv_bytes_per_token == expected


# Model, keywords, pool (within its printed decimals), tokens, concurrency, block: to the printed digit.
HYBRIDS = [
    ("granite-4.0-h-1b", {"context": 4096, "engine_version": "0.19"}, "4.087GiB", 53_200, 66.95, 400),
    ("qwen3-next-80b-a3b", {"context": 32_768, "engine_version": "0.14", "tp": 2, "kv_dtype": "fp8"},
     "17.582GiB", 767_552, 84.29, 1072),
    ("qwen3.5-27b", {"context": 131_072, "num_speculative_tokens": 3}, "9.67GiB", 138_519, 1.06, 800),
    ("qwen3.5-27b", {"context": 262_144, "num_speculative_tokens": 3, "kv_dtype": "int8_per_token_head"},
     "9.67GiB", 272_453, 1.04, 1584),
    ("qwen3.5-27b", {"context": 262_144, "num_speculative_tokens": 3, "kv_dtype": "int4_per_token_head"},
     "9.67GiB", 502_667, 1.92, 3104),
    ("qwen3.5-27b", {"context": 131_072, "tp": 2, "kv_dtype": "fp8", "enable_prefix_caching": True},
     "4.99GiB", 302_921, 2.31, 1568),
]  # fmt: skip


@pytest.mark.parametrize(("model", "keywords", "pool", "tokens", "many", "block"), HYBRIDS)
def test_hybrids_to_the_digit(model, keywords, pool, tokens, many, block):
    found = report(model, gpu=f"{keywords.get('tp', 1)}x80GiB", kv_cache_memory=pool, **keywords)
    assert found.scenario["block_size"] == block
    assert (found.capacity.pool_tokens, found.capacity.concurrency) == (tokens, many)


def test_longest_single_request():
    found = report("qwen3.5-27b", gpu="80GiB", kv_cache_memory="6.66GiB", kv_dtype="fp8", context=262_144)
    assert found.capacity.longest_request == 213_248
    assert found.capacity.max_context == 213_248


# Weights and KV budget as logged by vLLM 0.19 on an H100: model, tensor ranks, GiB, GiB.
LOGGED = [
    ("codellama-7b", 1, 12.56, 61.66),
    ("qwen2.5-7b", 1, 14.25, 58.53),
    ("qwen2.5-7b", 4, 3.55, 67.34),
    ("qwen3-8b", 1, 15.27, 57.50),
    ("qwen2.5-72b", 2, 67.80, 3.04),
    ("mixtral-8x7b", 2, 43.51, 28.44),
    ("gpt-oss-20b", 1, 13.64, 58.47),
    ("gemma-2-9b", 1, 17.22, 54.12),
    ("deepseek-v2-lite", 1, 29.43, 43.61),
]


@pytest.mark.parametrize(("model", "tp", "weights", "budget"), LOGGED)
def test_weights_and_budget_of_logs(model, tp, weights, budget):
    found = report(
        model, gpu=f"{tp}x{H100}", tp=tp, engine_version="0.19.0", gpu_memory_utilization=0.95, context=8192
    )
    assert found["weights"].bytes / GIB == pytest.approx(weights, rel=0.01)
    assert abs(found.capacity.kv_budget_bytes / GIB - budget) < 0.015 * 79.19
    low, high = found["activations"].range_bytes
    assert low <= found["activations"].bytes <= high


# -- properties ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "model", ["llama-3.1-8b", "gemma-3-27b", "qwen3.5-27b", "gpt-oss-20b", "deepseek-v3"]
)
def test_more_context_never_needs_less_and_arrays_are_single_estimates(model):
    contexts = np.array([1, 15, 16, 17, 4096, 40_000, 131_072])
    swept = llmcalc.vram(model, engine="vllm", context=contexts)
    assert (np.diff(swept.total_bytes) >= 0).all()
    for index, context in enumerate(contexts.tolist()):
        assert report(model, context=context).total_bytes == swept.total_bytes[index]


def test_capacity_solves_its_own_estimate():
    found = report("gemma-3-27b", gpu="h200", context=8192, sequences=4)
    longest = found.capacity.max_context
    budget = found.capacity.kv_budget_bytes
    assert pages(report("gemma-3-27b", gpu="h200", context=longest, sequences=4)) * GIB <= budget
    if longest < found.context_limit:
        assert pages(report("gemma-3-27b", gpu="h200", context=longest + 64, sequences=4)) * GIB > budget
    assert found.capacity.safe_context <= longest


def test_ranges_hold_the_expected_figures():
    for model, gpu in (("llama-3.1-8b", "rtx-4090"), ("gemma-3-27b", "h200"), ("gpt-oss-120b", "h100")):
        found = report(model, gpu=gpu)
        low, high = found.capacity.kv_budget_range_bytes
        assert low < found.capacity.kv_budget_bytes < high
        for item in found:
            assert item.range_bytes[0] <= item.bytes <= item.range_bytes[1]


def test_a_pool_set_by_hand_is_what_fits():
    found = report("llama-3.1-8b", gpu="rtx-4090", kv_cache_memory="2GiB", context=32_768)
    assert (found.verdict, found.capacity.longest_request) == ("does_not_fit", 16_384)
    assert report("llama-3.1-8b", gpu="rtx-4090", kv_cache_memory="5GiB", context=32_768).verdict == "fits"
    auto = report("llama-3.1-8b", kv_dtype="auto")
    assert auto["kv_cache"].bytes == report("llama-3.1-8b")["kv_cache"].bytes


def test_items_add_up_and_eager_captures_nothing():
    found = report("qwen3-8b", gpu="h100", enforce_eager=True)
    assert found["cuda_graphs"].bytes == 0
    assert sum(item.bytes_at_peak for item in found) == found.total_bytes
    assert report("qwen3-8b", gpu="h100").capacity.kv_budget_bytes < found.capacity.kv_budget_bytes


def test_utilisation_and_graphs_by_release():
    old, new = (report("qwen3-8b", gpu="h100", engine_version=v) for v in ("0.19", "0.33"))
    assert old.scenario["gpu_memory_utilization"] == 0.9
    assert new.scenario["gpu_memory_utilization"] == 0.92
    total = 81_080 * 2**20
    for found, share in ((old, 0.9), (new, 0.92)):
        used = sum(item.bytes for item in found if item.name not in ("kv_cache", "state", "cuda_graphs"))
        outside = 525 * 2**20
        graphs = found["cuda_graphs"].bytes if found is new else 0
        assert found.capacity.kv_budget_bytes == pytest.approx(share * total - used + outside - graphs, abs=2)


def test_replicas_share_experts():
    one, eight = (report("mixtral-8x7b", dp=dp)["weights"].bytes for dp in (1, 8))
    dense = [report("llama-3.1-8b", dp=dp)["weights"].bytes for dp in (1, 8)]
    assert dense[0] == dense[1]
    assert eight < one / 4


def test_the_engine_before_v1_keeps_windows_whole():
    old = report("gemma-2-9b", engine_version="0.6.3", gpu="80GiB", context=8192)
    assert old.capacity.kv_bytes_per_token == 344_064
    whisper = report("whisper-large-v3", engine_version="0.10.0", gpu="80GiB", context=448)
    assert whisper.capacity.kv_bytes_per_token == 163_840  # the decoder's own layers alone


# -- input ---------------------------------------------------------------------------------------------

REFUSED = [
    ({"gpu_memory_utilization": 0}, "share above 0 and up to 1"),
    ({"gpu_memory_utilization": "1.01"}, "share above 0 and up to 1"),
    ({"gpu_memory_utilization": "nan"}, "share above 0 and up to 1"),
    ({"kv_dtype": "q8_0"}, "vLLM keeps no cache in q8_0"),
    ({"engine_version": "newest"}, "is no version of vLLM"),
    ({"quant": "exl3"}, "vLLM does not run exl3"),
    ({"tp": 3}, "does not divide 32 attention heads"),
    ({"tp": 4, "dcp": 3}, "does not divide the 4 tensor ranks"),
    ({"block_size": "x"}, "--block-size"),
    ({"max_num_seqs": 0}, "--max-num-seqs"),
    ({"ubatch": 512}, "option of llama.cpp"),
]


@pytest.mark.parametrize(("keywords", "problem"), REFUSED)
def test_refused(keywords, problem):
    with pytest.raises(LlmcalcError, match=problem):
        llmcalc.vram("llama-3.1-8b", engine="vllm", **keywords)


def test_what_is_not_known_is_refused():
    with pytest.raises(LlmcalcError, match="compressed cache in fp8"):
        llmcalc.vram("deepseek-v4-pro", engine="vllm", kv_dtype="nvfp4")
    with pytest.raises(LlmcalcError, match="Drafts of another model"):
        llmcalc.vram("deepseek-v4-pro", engine="vllm", draft="deepseek-v4-flash")
    with pytest.raises(LlmcalcError, match="not a bare count"):
        llmcalc.vram("13b", engine="vllm")
    with pytest.raises(LlmcalcError, match="option of vllm"):
        llmcalc.vram("llama-3.1-8b", engine="llama.cpp", max_num_seqs=4)


def test_an_unknown_release_is_the_nearest_said_aloud():
    found = report("llama-3.1-8b", engine_version="0.50.1")
    assert found.scenario["engine_version"] == "0.33.0"
    assert any("nearest release, 0.33" in told for told in found.warnings)
    assert era_of("v0.11").version == (0, 11)
    assert era_of("nightly").version == (0, 33)
    assert era_of("nightly").note
    assert era_of("0.9.2").is_v1
    assert not era_of("0.9.2 (V0 engine)").is_v1


def test_a_budget_below_the_weights_says_what_is_missing():
    found = report("llama-3.1-70b", gpu="h100")
    assert found.capacity.kv_budget_bytes < 0
    assert found.capacity.max_context == 0
    assert any("GiB are missing" in told for told in found.warnings)
    assert found.verdict == "does_not_fit"


def test_a_reserve_stops_the_start():
    found = report("llama-3.1-8b", gpu="h100", reserve="20GiB", gpu_memory_utilization=0.9)
    assert any("would not start: it asks for" in told for told in found.warnings)


def test_command_line():
    command = [sys.executable, "-m", "llmcalc", "vram", "gpt-oss-20b", "--engine", "vllm"]
    more = ["--max-model-len", "131072", "--gpu", "h100", "--gpu-memory-utilization", "0.9", "--json"]
    done = subprocess.run([*command, *more], capture_output=True, text=True, check=True)
    answer = json.loads(done.stdout)
    assert [item["name"] for item in answer["items"]] == [
        "weights", "kv_cache", "state", "activations", "cuda_graphs", "runtime",
    ]  # fmt: skip
    assert {"pool_tokens", "concurrency", "longest_request", "kv_blocks"} <= set(answer["capacity"])
    assert answer["scenario"]["gpu_memory_utilization"] == 0.9
    wrong = subprocess.run([*command, "--gpu-memory-utilization", "2"], capture_output=True, text=True)
    assert wrong.returncode == 2
    assert wrong.stderr.endswith("Use --gpu-memory-utilization 0.9.\n")


def test_fit_and_explain():
    found = llmcalc.fit("llama-3.1-70b", gpu="h100", engine="vllm", context=8192)
    assert found.advice
    assert "vllm pages" in report("llama-3.1-8b").explain()


def test_mlx_weights_run_in_the_plugin():
    """vllm-metal loads them: 4.21 GiB for Llama-3.1-8B, said to be another program."""
    found = llmcalc.vram("llama-3.1-8b-instruct", engine="vllm", quant="mlx-4bit")
    assert found["weights"].bytes / 2**30 == pytest.approx(4.21, rel=0.01)
    assert any("vllm-metal" in warning for warning in found.warnings)


def test_concurrency_was_tokens_by_length():
    """Until 0.8: 335,360 tokens at 138 each are 2,430.14, though a request fills 144."""
    size = 335_360 * 61 * 576 * 2
    old, new = (
        llmcalc.vram(
            "deepseek-r1", engine="vllm", tp=16, gpu="16x80GiB", context=138, kv_cache_memory=f"{size} B",
            engine_version=version,
        ).capacity.concurrency
        for version in ("0.8.4", "0.9")
    )  # fmt: skip
    assert (old, new) == (2430.14, 2328.89)


@pytest.mark.parametrize(
    ("model", "tp", "version", "printed"),
    [  # logs: llm-d-planner PR 205; vLLM's issues 13061 and 16692
        ("qwen2.5-7b-instruct", 1, "0.19.0", 14.25),
        ("qwen2.5-7b-instruct", 2, "0.19.0", 7.12),
        ("qwen2.5-72b-instruct", 2, "0.19.0", 67.80),
        ("deepseek-r1-distill-qwen-14b", 2, "0.7.2", 13.9476),
        ("deepseek-r1", 16, "0.8.4", 40.3174),
        ("qwen2.5-vl-7b-instruct", 1, "0.10.1", 15.6269),
    ],
)
def test_loads_to_the_allocators_segments(model, tp, version, printed):
    """Ends of segments, turned copies of latent attention and fourfold tables, to four parts in 10,000."""
    found = llmcalc.vram(model, engine="vllm", tp=tp, gpu=f"{tp}x80GiB", engine_version=version)
    assert found["weights"].bytes / GIB == pytest.approx(printed, rel=0.0004)


def test_all_reduce_takes_more_of_more_ranks():
    parts = {
        tp: next(part for part in report("llama-3.1-70b", tp=tp, gpu=f"{tp}x80GiB")["runtime"].items)
        for tp in (2, 4, 8)
    }
    assert [part.name for part in parts.values()] == ["non_torch"] * 3
    assert parts[2].bytes < parts[4].bytes < parts[8].bytes


BLOCKS = [
    # model, keywords, blocks, block, tokens, concurrency: start-up logs in public repositories, and vLLM's
    # pull request 46329 and issue 49011
    ("nemotron-3-nano-4b", {"context": 8192, "kv_dtype": "fp8", "engine_version": "0.19"},
     1473, 992, 208_320, 98.20),
    ("nemotron-cascade-2-30b", {"context": 256_000, "kv_dtype": "fp8"},
     311, 4176, 1_206_303, 4.71),
    ("qwen3.8-27b", {"context": 262_144, "kv_dtype": "nvfp4", "num_speculative_tokens": 2,
                     "enable_prefix_caching": True}, 106, 2832, 264_640, 1.01),
    ("qwen3.6-27b", {"context": 1_048_576, "kv_dtype": "nvfp4", "num_speculative_tokens": 2,
                     "enable_prefix_caching": True}, 666, 2832, 1_823_372, 1.74),
]  # fmt: skip


@pytest.mark.parametrize(("model", "keywords", "blocks", "block", "tokens", "many"), BLOCKS)
def test_pools_of_so_many_blocks(model, keywords, blocks, block, tokens, many):
    def ask(pool):
        return llmcalc.vram(
            model, engine="vllm", gpu="80GiB", kv_cache_memory=pool, allow_overlong=True, **keywords
        )

    size = ask("8GiB")["kv_cache"].inputs["block_bytes"]
    found = ask(f"{blocks * size} B")
    assert found.scenario["block_size"] == block
    assert (found.capacity.kv_blocks, found.capacity.pool_tokens) == (blocks, tokens)
    assert found.capacity.concurrency == many


def test_kimi_vl_keeps_one_latent_on_every_tensor_rank():
    """llm-d-planner, PR 205, runs 38 and 39: weights, and bytes of a token of both."""
    for tp, weights in ((1, 30.74), (2, 15.53)):
        found = report("kimi-vl-a3b", engine_version="0.19", gpu=f"{tp}x79.19GiB", tp=tp)
        assert found.capacity.kv_bytes_per_token == 27 * 576 * 2 == 31_104
        assert found["weights"].bytes / GIB == pytest.approx(weights, rel=0.01)


@pytest.mark.parametrize(
    ("kv_dtype", "drafts", "block", "padding"), [("bf16", 15, 480, 1.27), ("int8-token-head", 7, 864, 1.09)]
)
def test_states_in_16_bit_with_many_drafts(kv_dtype, drafts, block, padding):
    """A 27B hybrid on an RTX 3090 (qwen38-27b-rtx3090, issue 102): blocks of 480 and 864 tokens."""
    config = {**catalog_config("qwen3.6-27b")}
    config["text_config"] = {**config["text_config"], "mamba_ssm_dtype": "bfloat16"}
    asked = {"kv_dtype": kv_dtype, "num_speculative_tokens": drafts, "context": 32_768}
    found = report_of_dict(config, **asked)
    assert found.scenario["block_size"] == block
    row = {"bf16": 4096, "int8-token-head": 2080}[kv_dtype]
    state = STATE_HEADS + (3 + drafts) * CONV_ROW
    assert round(100 * (block * row / state - 1), 2) == padding


STATE_HEADS, CONV_ROW = 48 * 128 * 128 * 2, (2 * 16 * 128 + 48 * 128) * 2
"""Of one layer: 48 heads of 128 x 128, and one row of the convolution, both in 16 bit. [B]"""


def catalog_config(name):
    from llmcalc.catalog import Catalog

    return Catalog().lookup("models", name)["config"]


def report_of_dict(config, **more):
    return llmcalc.vram(config, engine="vllm", **more)
