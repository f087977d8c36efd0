"""mlx-lm: measured peaks, exact caches, properties, what it refuses."""

import json
import statistics
import subprocess
import sys
from functools import cache

import pytest

import llmcalc
from llmcalc.catalog import Catalog
from llmcalc.errors import LlmcalcError
from llmcalc.hardware import parse_gpu
from llmcalc.memory.engines.mlx.caches import Kept
from llmcalc.memory.engines.mlx.metal import Encoder
from llmcalc.units import GIB, MIB

# mx.get_peak_memory() as published: model, scheme, prompt, output, sequences, MiB.
PEAKS = [
    (
        run["model"], run["options"].get("quant"), run["options"]["prompt"], run["options"]["output"],
        run["options"]["sequences"], run["measured"]["peak"],
    )
    for run in Catalog.shipped().entries("measurements")
    if run["engine"] == "mlx"
]  # fmt: skip


@cache
def report(name, quant, prompt, output, sequences=1, **more):
    return llmcalc.vram(
        name, quant=quant, prompt=prompt, output=output, sequences=sequences, engine="mlx", **more
    )


def peak_of(found):
    """What MLX reports: the process's own share is not in it. [B]"""
    return found.total_bytes - found["runtime"].bytes_at_peak


def error_of(row):
    *key, measured = row
    return peak_of(report(*key)) / (measured * MIB) - 1


@pytest.mark.parametrize("row", PEAKS, ids=lambda row: f"{row[0]}-{row[1]}-{row[2]}x{row[4]}")
def test_measured_peak(row):
    assert abs(error_of(row)) < 0.07


def test_errors_over_all_rows():
    errors = sorted(abs(error_of(row)) for row in PEAKS)
    assert statistics.median(errors) < 0.005
    assert errors[int(0.9 * len(errors))] < 0.02


def test_most_rows_lie_in_the_range():
    inside = 0
    for *key, measured in PEAKS:
        found = report(*key)
        low, high = found.range_bytes
        inside += low / MIB <= measured + 5 and measured - 5 <= high / MIB
    assert inside >= len(PEAKS) - 5


def test_weights_are_exact():
    # 4.5 bits for matrices, 16 for the 196,096 elements of norms.
    matrices = 4_022_468_096 - 196_096
    weights = report("qwen3-4b", "mlx-4bit", 2048, 128)["weights"].bytes
    assert weights == matrices * 9 // 16 + 2 * 196_096


@pytest.mark.parametrize(("context", "positions"), [(1, 256), (256, 256), (257, 512), (2176, 2304)])
def test_caches_grow_in_steps(context, positions):
    found = llmcalc.vram("qwen3-4b", quant="mlx-4bit", engine="mlx", context=context)
    assert found["kv_cache"].bytes == 36 * 2 * 8 * 128 * 2 * positions


def test_windows_rotate():
    found = llmcalc.vram("gpt-oss-20b", engine="mlx", context=8192)
    assert found["kv_cache"].bytes == 12 * 2 * 8 * 64 * 2 * (8192 + 128)


def test_families_without_rotating_caches_keep_all():
    found = llmcalc.vram("phi-3-mini-4k-instruct", engine="mlx", context=4096)
    assert found["kv_cache"].bytes == 32 * 2 * 32 * 96 * 2 * 4096


def test_a_rotating_cache_takes_a_chunk_whole():
    kept = Kept("rotate", 1, 128)
    assert kept.filled(0, 2048) == 2048
    assert kept.filled(2048, 2048) == 127 + 2048
    assert kept.positions(4096) == 128


def test_states_of_hybrids():
    found = llmcalc.vram("qwen3.5-9b", quant="mlx-4bit", engine="mlx", context=1000, sequences=3)
    assert found["state"].bytes == 3 * 24 * (32 * 128 * 128 * 4 + 3 * 8192 * 2)


def test_quantized_caches_have_scales_and_biases():
    found = llmcalc.vram("qwen3-8b", quant="mlx-4bit", engine="mlx", context=8192, kv_dtype="mlx-kv-8bit")
    assert found["kv_cache"].bytes == 36 * 2 * 8 * 128 * 8192 * 68 // 64
    plain = llmcalc.vram("qwen3-8b", quant="mlx-4bit", engine="mlx", context=8192)
    # Attention is unfused then: scores of 32 heads for a chunk, 1 GiB at 8,192 tokens.
    assert found["activations"].bytes > plain["activations"].bytes + GIB


def test_phases_are_a_maximum():
    found = report("qwen3-4b", "mlx-4bit", 16, 8000)
    assert found.peak.phase == "decode"
    assert found["activations"].bytes_at_peak == 0
    assert sum(item.bytes_at_peak for item in found.items if item.where == "device") == found.total_bytes
    assert report("qwen3-4b", "mlx-4bit", 8000, 16).peak.phase == "prefill"


def test_more_never_needs_less():
    for name in ("qwen3-4b", "qwen3.5-9b", "gpt-oss-20b"):
        kept = [
            llmcalc.vram(name, engine="mlx", context=context)["kv_cache"].bytes
            for context in (100, 1000, 10_000, 30_000)
        ]
        assert kept == sorted(kept)
        totals = [
            llmcalc.vram(name, engine="mlx", context=4096, sequences=many).total_bytes
            for many in (1, 2, 4, 9)
        ]
        assert totals == sorted(totals)


def test_arrays_equal_single_numbers():
    import numpy as np

    contexts = np.array([1000, 5000, 20_000])
    found = llmcalc.vram("qwen3-4b", quant="mlx-4bit", engine="mlx", context=contexts)
    single = [llmcalc.vram("qwen3-4b", quant="mlx-4bit", engine="mlx", context=int(n)) for n in contexts]
    assert found.total_bytes.tolist() == [one.total_bytes for one in single]


def test_the_longest_context_fits_and_no_more():
    ask = {"quant": "mlx-4bit", "engine": "mlx", "gpu": "m4-max-64gb"}
    longest = llmcalc.vram("llama-3.3-70b-instruct", **ask).capacity.max_context
    usable = 48 * GIB
    assert llmcalc.vram("llama-3.3-70b-instruct", context=longest, **ask).total_bytes <= usable
    more = llmcalc.vram("llama-3.3-70b-instruct", context=longest + 256, **ask)
    assert more.total_bytes > usable


def test_a_command_buffer_holds_what_it_reads():
    encoder = Encoder(elements=1, kernels=100, under_way=1)
    wide = encoder.kernel([], 1 << 20)
    for _ in range(3):
        following = encoder.kernel([wide], 1 << 20)
        encoder.drop(wide)
        wide = following
    # The last output, and the input of the one command buffer that is not done.
    assert encoder.active == 2 * 2 << 20


def test_towers_are_left_out():
    found = llmcalc.vram("gemma-4-31b", engine="mlx", context=1000)
    assert any("mlx-vlm" in warning for warning in found.warnings)
    assert found["weights"].bytes < llmcalc.vram("gemma-4-31b", context=1000)["weights"].bytes


def test_working_set_is_a_range_over_releases():
    device = parse_gpu("m4-16gb", Catalog())
    assert device.usable_low == 16 * GIB * 2 // 3
    # A 16 GB Mac on a newer system reports 12,124 MiB, an M5 Max of 48 GB 40,200.90 MB.
    assert device.usable_high >= 12_100 * MIB
    assert parse_gpu("m5-max-48gb", Catalog()).usable_high >= 40_200 * 10**6


@pytest.mark.parametrize(
    ("given", "problem", "remedy"),
    [
        ({"gpu": "rtx-4090"}, "not on RTX 4090", "m4-max-64gb"),
        ({"tp": 2}, "without --tp", "Leave --tp out"),
        ({"gpu": "2xm4-max-64gb"}, "not on 2", "--gpu m4-max-64gb"),
        ({"quant": "q4_k_m"}, "does not run q4_k_m", "--quant mlx-4bit"),
        ({"quant": "awq"}, "does not run awq", "--quant mlx-4bit"),
        ({"kv_dtype": "fp8"}, "no cache in fp8", "mlx-kv-8bit"),
        ({"kv_dtype_k": "mlx-kv-8bit", "kv_dtype_v": "mlx-kv-4bit"}, "alike", "mlx-kv-8bit"),
        ({"ubatch": 512}, "option of llama.cpp", "--engine llama.cpp"),
        ({"engine_version": "0.28"}, "no versions", "Leave --engine-version out"),
    ],
)
def test_refusals(given, problem, remedy):
    with pytest.raises(LlmcalcError) as caught:
        llmcalc.vram("qwen3-4b", engine="mlx", **given)
    assert problem in str(caught.value)
    assert remedy in str(caught.value)


@pytest.mark.parametrize(
    ("model", "given", "problem"),
    [
        ("8b", {}, "bare count"),
        ("gpt-oss-20b", {"kv_dtype": "mlx-kv-8bit"}, "rotating caches"),
        ("glm-4.7-flash", {"kv_dtype": "mlx-kv-8bit"}, "does not quantize the caches"),
        ("t5-base", {}, "encoder"),
    ],
)
def test_models_that_it_refuses(model, given, problem):
    with pytest.raises(LlmcalcError, match=problem):
        llmcalc.vram(model, engine="mlx", **given)


def test_command_line():
    done = subprocess.run(
        [sys.executable, "-m", "llmcalc", "vram", "qwen3-4b", "--quant", "mlx-4bit", "--engine", "mlx",
         "--gpu", "m4-max-64gb", "--prompt", "2048", "--output", "128", "--json"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    answer = json.loads(done.stdout)
    assert answer["verdict"] == "fits"
    assert answer["scenario"]["engine"] == "mlx"
    assert answer["peak"]["phase"] == "prefill"
    assert answer["capacity"]["max_context"] == 40_960
    refused = subprocess.run(
        [sys.executable, "-m", "llmcalc", "vram", "qwen3-4b", "--engine", "mlx", "--gpu", "h200"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert refused.returncode == 2
    assert "Apple silicon" in refused.stderr
