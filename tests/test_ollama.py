"""Ollama: what it tells llama-server, and what its scheduler expects."""

import json
import subprocess
import sys

import pytest

import llmcalc
from llmcalc.errors import InputError
from llmcalc.memory.engines.llamacpp.projector import projector_bytes
from llmcalc.memory.engines.ollama import (
    batch_of,
    default_context,
    one_is_enough,
    predicted_bytes,
)
from llmcalc.planning.fitting import TARGET
from llmcalc.units import GIB, MIB


def vram(model="llama-3.1-8b", gpu="rtx-3060", **keywords):
    return llmcalc.vram(model, engine="ollama", gpu=gpu, **keywords)


# -- the rules -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gib", "context"),
    [(0, 4096), (8, 4096), (22.9, 4096), (23, 32_768), (46.9, 32_768), (47, 262_144), (192, 262_144)],
)
def test_the_default_context_goes_by_all_memory(gib, context):
    assert default_context(int(gib * GIB), None) == context
    assert default_context(int(gib * GIB), 8192) == min(context, 8192)


@pytest.mark.parametrize(
    ("n_ctx", "predicted", "free", "flash", "cuda", "batch"),
    [
        (4096, 5 * GIB, [24 * GIB], True, True, 512),
        (4097, 5 * GIB, [24 * GIB], True, True, 1024),
        (32_769, 5 * GIB, [24 * GIB], True, True, 2048),
        (32_769, 15 * GIB, [24 * GIB], True, True, 1024),  # 62.5 %: no room for 2048
        (32_769, 19 * GIB, [24 * GIB], True, True, 512),  # 79 %
        (8192, 18 * GIB, [24 * GIB], True, True, 1024),  # 75 % exactly
        (8192, 18 * GIB + 1, [24 * GIB], True, True, 512),
        (8192, GIB, [2 * GIB], True, True, 512),  # 1 GiB and 768 MiB are above 80 % of 2 GiB
        (65_536, 0, [], True, True, 2048),  # nothing known
        (65_536, GIB, [24 * GIB], False, True, 512),
        (65_536, GIB, [8 * GIB], False, True, 256),
        (4096, GIB, [8 * GIB], False, True, 512),
        (65_536, GIB, [24 * GIB], False, False, 2048),  # not CUDA
    ],
)
def test_the_batch(n_ctx, predicted, free, flash, cuda, batch):
    assert batch_of(n_ctx, predicted, free, flash, cuda) == batch


def test_the_prediction():
    assert predicted_bytes(100, 32, 8, 128, 4096) == 100 + 512 * MIB
    assert predicted_bytes(0, 10, 0, 64, 100) == predicted_bytes(0, 10, 1, 64, 100)


def test_one_of_several_gpus():
    assert one_is_enough(80, 100)
    assert not one_is_enough(81, 100)


def test_the_projector_is_what_its_file_holds():
    # SigLIP of Gemma 3, 27 layers of 1,152 and 4,304, by hand: matrices in fp16, the rest in fp32.
    wide, inner = 1152, 4304
    matrices = 27 * (4 * wide * wide + 2 * wide * inner) + wide * 3 * 14 * 14 + wide * 2560
    vectors = 27 * (4 * wide + inner + wide + 4 * wide) + wide + 2 * wide + wide + 4096 * wide
    assert projector_bytes(llmcalc.model("gemma-3-4b-it")) == 2 * matrices + 4 * vectors
    assert projector_bytes(llmcalc.model("deepseek-v3")) == 0  # a prediction layer is no tower


# -- the answer ----------------------------------------------------------------------------------


def test_defaults():
    report = vram()
    told = report.scenario
    assert (told["context"], told["n_ctx"], told["ubatch"]) == (4096, 4096, 512)
    assert told["quant"] == "q4_k_m"
    assert told["kv_dtype_k"] == told["kv_dtype_v"] == "fp16"
    assert told["flash_attn"] is True
    assert told["gpu_layers"] == 33
    assert report.origins["quant"] == "default of Ollama"
    assert report["kv_cache"].bytes == 512 * MIB
    assert told["predicted_bytes"] == pytest.approx(
        report["weights"].bytes + report["host_weights"].bytes + 512 * MIB, abs=8192
    )
    assert report.origins["context"] == "default of Ollama"


def test_memory_is_that_of_llama_cpp():
    ollama = vram(context=4096, quant="q8_0")
    plain = llmcalc.vram("llama-3.1-8b", engine="llama.cpp", gpu="rtx-3060", context=4096, quant="q8_0")
    assert ollama.total_bytes == plain.total_bytes
    assert ollama["weights"].grade == "exact"
    long = vram(gpu="rtx-4090", context=16_384, quant="q8_0")
    plain = llmcalc.vram(
        "llama-3.1-8b", engine="llama.cpp", gpu="rtx-4090", context=16_384, quant="q8_0", ubatch=1024
    )
    assert long.total_bytes == plain.total_bytes


def test_context_follows_memory_and_asking():
    assert vram(gpu="rtx-4090").scenario["context"] == 32_768
    assert vram(gpu="2xrtx-4090").scenario["context"] == 131_072  # the model's limit
    assert vram(gpu="rtx-4090", context=8192).scenario["context"] == 8192
    assert vram("gemma-2-27b", gpu="rtx-4090").scenario["context"] == 8192
    assert vram("gemma-3-4b-it", context=512).scenario["context"] == 2048  # images need more
    over = vram("gemma-2-27b", gpu="rtx-4090", context=16_384, allow_overlong=True)
    assert over.scenario["context"] == 8192


def test_slots_multiply_the_context():
    report = vram(context=8192, parallel=4)
    assert report.scenario["n_ctx"] == 32_768
    assert report["kv_cache"].bytes == 4 * GIB
    one = vram("qwen3.5-27b", gpu="rtx-4090", context=8192, parallel=4)
    assert one.scenario["n_ctx"] == 8192
    assert any("one request at a time" in told for told in one.warnings)


def test_windows_grow_with_the_batch():
    # A log of Ollama: a window of 2,048 at 32,768 tokens has 2,560 cells with a batch of 512.
    small = vram("gemma-3-4b-it", gpu="rtx-4090", context=4096)
    large = vram("gemma-3-4b-it", gpu="rtx-4090", context=32_768)
    assert "1,536 for windows" in small["kv_cache"].note
    assert "2,048 for windows" in large["kv_cache"].note  # 1,024 and a batch of 1,024


def test_layers_go_to_the_cpu_until_the_margin_is_kept():
    report = vram("llama-3.1-70b", gpu="rtx-4090", context=8192)
    on = report.scenario["gpu_layers"]
    assert 0 < on < 81
    assert report.headroom_bytes >= TARGET
    more = vram("llama-3.1-70b", gpu="rtx-4090", context=8192, gpu_layers=on + 1)
    assert more.headroom_bytes < TARGET
    assert more.scenario["fit"] is False
    told = [vram("llama-3.1-70b", gpu=gpu, context=8192).scenario["gpu_layers"] for gpu in ("8GiB", "16GiB")]
    assert told == sorted(told)
    assert told[1] <= on
    assert vram("llama-3.1-70b", gpu="rtx-4090", context=8192, gpu_layers="auto").scenario["gpu_layers"] == on


def test_a_small_model_takes_one_of_two_gpus():
    report = vram(gpu="2xrtx-4090", context=8192)
    assert report.gpus == 1
    assert any("One of the 2 GPUs" in told for told in report.warnings)
    assert vram("llama-3.1-70b", gpu="2xrtx-4090", context=4096).gpus == 2


def test_the_projector_goes_where_it_has_room():
    there = vram("gemma-3-4b-it")
    size = projector_bytes(llmcalc.model("gemma-3-4b-it"))
    assert there["projector"].bytes == size
    assert there.total_bytes == sum(i.bytes_at_peak for i in there.items if i.where == "device")
    assert there.scenario["fit_target"] - size - GIB in range(MIB)
    assert not any("is not counted" in told for told in there.warnings)
    for away in (
        vram("gemma-3-4b-it", gpu="2GiB"),
        vram("gemma-3-4b-it", gpu_layers=10),
        vram("gemma-3-4b-it", gpu_layers=0),
    ):
        assert away["host_projector"].bytes == size
        assert away.scenario["fit_target"] == TARGET


def test_the_scheduler_is_quoted():
    tight = vram("gpt-oss-20b")
    assert tight.scenario["quant"] == "mxfp4_moe"  # the tag keeps the checkpoint's format
    assert any("evicts other models: 80 % of what is free" in hint for hint in tight.hints)
    assert any("keeps other models" in hint for hint in vram().hints)
    # Latent attention is one KV head to it: 61 layers x 56 x 2 x 2 bytes a token.
    report = vram("deepseek-v3", gpu="8xh200", context=8192, parallel=1)
    weights = sum(report["weights"].amounts) + report["host_weights"].bytes
    assert report.scenario["predicted_bytes"] - weights == pytest.approx(
        61 * 56 * 4 * 8192 + 768 * MIB, rel=0.02
    )


def test_without_flash_attention():
    report = vram(context=8192, flash_attn=False, gpu="rtx-4060-ti-8gb")
    assert report.scenario["ubatch"] == 256
    assert vram(context=8192, flash_attn=False, gpu="rtx-4090").scenario["ubatch"] == 512
    assert vram(context=8192, ubatch=2048).scenario["ubatch"] == 2048  # num_batch


def test_the_longest_context_keeps_every_layer():
    report = vram(context=4096)
    longest = report.capacity.max_context
    assert vram(context=longest).scenario["gpu_layers"] == 33
    assert vram(context=longest + 2048).scenario["gpu_layers"] < 33


def test_rows_of_gpus_are_independent():
    both = llmcalc.vram("llama-3.1-8b", engine="ollama", gpu="rtx-3060,rtx-4090")
    assert [row.scenario["context"] for row in both] == [4096, 32_768]
    assert [row.total_bytes for row in both] == [vram(gpu=g).total_bytes for g in ("rtx-3060", "rtx-4090")]


@pytest.mark.parametrize(
    ("keywords", "words"),
    [
        ({"model": "13b"}, "not a bare count"),
        ({"quant": "awq"}, "ollama reads GGUF"),
        ({"bits": 4}, "types have names"),
        ({"n_ctx": 8192}, "Use --context for num_ctx"),
        ({"n_cpu_moe": 3}, "not of --engine ollama"),
        ({"override_tensor": "x=CPU"}, "not of --engine ollama"),
        ({"kv_unified": True}, "not of --engine ollama"),
        ({"tensor_split": "1,1"}, "not of --engine ollama"),
        ({"engine_version": "0.12"}, "August 2026"),
        ({"kv_dtype_k": "q8_0"}, "in one type"),
        ({"kv_dtype": "q8_0", "flash_attn": False}, "Leave --flash-attn off out"),
        ({"kv_dtype": "f32"}, "f16, q8_0 or q4_0"),
        ({"kv_dtype": "q4_1"}, "keeps no cache in q4_1"),
        ({"context": [4096, 8192]}, "one context at a time"),
        ({"tp": 2, "gpu": "2xrtx-3090"}, "splits layers"),
        ({"context": 10**6}, "above the 131,072"),
        ({"gpu_layers": "many"}, "-ngl"),
    ],
)
def test_bad_input(keywords, words):
    with pytest.raises(InputError, match=words):
        llmcalc.vram(**{"model": "llama-3.1-8b", "engine": "ollama", "gpu": "rtx-4090", **keywords})


def test_the_command_line():
    command = [
        sys.executable, "-m", "llmcalc", "vram", "gemma-3-12b-it", "--engine", "ollama", "--gpu", "rtx-3060",
        "--ctx", "16k", "--kv-dtype", "q8_0", "--json",
    ]  # fmt: skip
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    told = json.loads(ran.stdout)
    assert told["scenario"]["engine"] == "ollama"
    assert told["scenario"]["context"] == 16_384
    shares = [item["bytes_at_peak"] for item in told["items"] if item["where"] == "device"]
    assert sum(shares) == told["total_bytes"]
    assert told["host_bytes"] == sum(item["bytes"] for item in told["items"] if item["where"] == "host")
