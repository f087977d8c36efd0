"""vLLM's pool for DeepSeek V4: published start-up logs, the groups that an issue lists, properties."""

import pytest

import llmcalc
from llmcalc.units import GIB

FLASH, PRO = "deepseek-v4-flash", "deepseek-v4-pro"


def report(model, **more):
    return llmcalc.vram(model, engine="vllm", **more)


def test_a_refusal_of_022_and_its_longest_length():
    """vLLM issue 44376: 6.66 GiB needed for 30,000 tokens; 13,528 of them in 5.44 GiB."""
    asked = {"engine_version": "0.22", "gpu": "2xgh200-96gb", "context": 30_000, "kv_dtype": "fp8"}
    assert round(report(FLASH, **asked)["kv_cache"].bytes / GIB, 2) == 6.66
    found = [report(FLASH, kv_cache_memory=f"{size} GiB", **asked) for size in (5.435, 5.445)]
    shortest, longest = (one.capacity.longest_request for one in found)
    assert shortest <= 13_528 <= longest


def test_without_the_hybrid_manager_all_layers_keep_all_tokens():
    """vLLM issue 43755: DeepSeek-V4-Pro, 223.68 GiB for a million tokens on two stages."""
    found = report(
        PRO, engine_version="0.21", tp=8, pp=2, context=1_000_000, disable_hybrid_kv_cache_manager=True
    )
    assert found["kv_cache"].bytes / GIB == pytest.approx(223.68, rel=1e-3)


def test_groups_of_028():
    """vLLM issue 54703: groups of 1,002,240, 823,680, 786,240, 870,912 and 656,640 bytes of a block."""
    found = report(FLASH, engine_version="0.28.0", context=272_000)
    inputs = found["kv_cache"].inputs
    assert (inputs["block_bytes"], inputs["groups"], inputs["block"]) == (1_002_240, 5, 256)
    flight = inputs["in_flight"]
    windows = sum(
        -(-(limit - 1 + flight) // block) + 1 for limit, block in ((128, 64),) * 2 + ((8, 4), (128, 8))
    )
    assert found["kv_cache"].bytes == 1_002_240 * (-(-272_000 // 256) + windows)


def test_compressed_pages_follow_the_options():
    short, long = (report(FLASH, context=context)["kv_cache"].bytes for context in (262_144, 524_288))
    assert long - short == 1024 * 1_002_240
    fewer = report(FLASH, context=262_144, max_num_batched_tokens=1024)["kv_cache"].bytes
    assert fewer < short
    wide = report(FLASH, context=262_144, kv_dtype="bf16")["kv_cache"].bytes
    assert wide > short
    one, two = (report(PRO, tp=8, pp=pp, context=65_536)["kv_cache"].bytes for pp in (1, 2))
    assert one / 2 < two < one
    drafted = report(FLASH, context=262_144, draft="mtp", engine_version="0.22")
    assert drafted["weights"].bytes > report(FLASH, context=262_144)["weights"].bytes
    assert sum(item.bytes_at_peak for item in drafted) == drafted.total_bytes


def test_capacity_is_true():
    found = report(FLASH, gpu="2xh200", tp=2, sequences=3)
    most = found.capacity.max_context
    assert report(FLASH, gpu="2xh200", tp=2, sequences=3, context=most).headroom_bytes >= 0
    assert most == found.context_limit or (
        report(FLASH, gpu="2xh200", tp=2, sequences=3, context=most + 256).headroom_bytes < 0
    )
    assert found.minimum_bytes < found.total_bytes
    assert any("rows of 584 bytes" in line for line in found.warnings)
