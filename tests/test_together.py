"""Several models on one GPU, ensembles."""

import json
import subprocess
import sys

import numpy as np
import pytest

import llmcalc
from llmcalc.errors import LlmcalcError
from llmcalc.units import GIB


def vram(model="llama-3.1-8b", **keywords):
    return llmcalc.vram(model, **keywords)


@pytest.mark.parametrize("engine", ["none", "vllm"])
def test_the_sum_of_all(engine):
    """Each model by itself, with a process of its own."""
    names = ("llama-3.1-8b", "qwen3-0.6b", "llama-3.2-1b")
    asked = {"engine": engine, "context": 4096, "sequences": 3, "gpu": "h100"}
    alone = [vram(name, **asked) for name in names]
    both = vram(with_models=names[1:], **asked)
    assert both.total_bytes == sum(found.total_bytes for found in alone)
    assert both.minimum_bytes == sum(found.minimum_bytes for found in alone)
    assert both.range_bytes[1] == sum(found.range_bytes[1] for found in alone)
    assert [row["total_bytes"] for row in both.together] == [found.total_bytes for found in alone]
    assert sum(item.bytes_at_peak for item in both) == both.total_bytes
    part = both["with qwen3-0.6b"]
    assert part.bytes == sum(item.bytes for item in part.items)


def test_schemes_of_their_own():
    found = vram(with_models="qwen3-0.6b@int8, qwen3-0.6b")
    own = [item for item in found if item.name == "with qwen3-0.6b"]
    assert own[0].bytes < own[1].bytes
    everyone = vram(with_models="qwen3-0.6b", quant="int8")
    assert everyone["with qwen3-0.6b"].bytes == own[0].bytes


def test_the_first_has_what_the_others_leave():
    found = vram(with_models="qwen3-0.6b", gpu="rtx-4090")
    rest = vram(gpu="rtx-4090", reserve=found["with qwen3-0.6b"].bytes)
    assert found.capacity.max_context == rest.capacity.max_context
    assert found.headroom_bytes == rest.headroom_bytes


def test_an_ensemble_in_one_process():
    one, three = vram(context=8192), vram(context=8192, ensemble=3)
    held = one["weights"].bytes + one["kv_cache"].bytes
    assert three.total_bytes == one.total_bytes + 2 * held
    assert any("Merged into one model" in hint and "31.92 GiB less" in hint for hint in three.hints)
    assert vram(ensemble=1).total_bytes == vram().total_bytes


def test_shares_of_servers():
    found = vram(engine="vllm", ensemble=2, gpu="h100", context=32_768)
    one = vram(engine="vllm", gpu="h100", context=32_768)
    assert found.total_bytes == 2 * one.total_bytes
    shares = [row["gpu_memory_utilization"] for row in found.together]
    assert shares[0] == shares[1]
    # A server that is told its share starts, and holds the workload.
    alone = vram(engine="vllm", gpu="h100", context=32_768, gpu_memory_utilization=shares[0])
    assert alone.capacity.max_context >= 32_768
    assert sum(shares) <= 1
    many = vram(engine="vllm", ensemble=5, gpu="h100", context=32_768)
    assert any("1 at most" in told for told in many.warnings)
    assert many.verdict == "does_not_fit"


def test_stages_and_arrays():
    two = vram(with_models="llama-3.2-1b", pp=2)
    parts = [vram(pp=2), vram("llama-3.2-1b", pp=2)]
    assert two.total_bytes <= sum(found.total_bytes for found in parts)
    contexts = np.array([1024, 4096])
    found = vram(with_models="llama-3.2-1b", context=contexts, gpu="rtx-4090")
    single = [vram(with_models="llama-3.2-1b", context=int(n)).total_bytes for n in contexts]
    assert found.total_bytes.tolist() == single


def run(*words):
    return subprocess.run(
        [sys.executable, "-m", "llmcalc", *words], capture_output=True, text=True, check=False
    )


def test_the_command_line():
    done = run(
        "vram",
        "llama-3.1-8b",
        "--with",
        "qwen3-0.6b",
        "--with",
        "llama-3.2-1b@int8",
        "--gpu",
        "h100",
        "--json",
    )
    found = json.loads(done.stdout)
    assert done.returncode == 0, done.stderr
    assert [row["name"] for row in found["together"]] == ["llama-3.1-8b", "qwen3-0.6b", "llama-3.2-1b"]
    assert found["scenario"]["with_models"] == ["qwen3-0.6b", "llama-3.2-1b"]
    assert "--with" in found["llmcalc"]["call"]
    again = run(*found["llmcalc"]["call"].split()[1:], "--json")
    assert json.loads(again.stdout)["total_bytes"] == found["total_bytes"]
    fits = run("fit", "llama-3.1-8b", "--with", "qwen3-8b", "--gpu", "rtx-4090")
    assert fits.returncode == 1, fits.stderr


BAD = [
    ({"with_models": "no-such-model-x"}, "no-such-model-x"),
    ({"with_models": "13b"}, "tells no layers"),
    ({"with_models": ","}, "names no model"),
    ({"with_models": "qwen3-0.6b@nonsense"}, "nonsense"),
    ({"with_models": "qwen3-0.6b", "engine": "llama.cpp"}, "not modelled for llama.cpp"),
    ({"with_models": "qwen3-0.6b", "engine": "vllm", "gpu_memory_utilization": 0.5}, "one server's"),
    ({"ensemble": 0}, "above 0"),
    ({"ensemble": -2}, "above 0"),
    ({"ensemble": 1000}, "above the largest"),
    ({"with_models": "qwen3-0.6b", "tp": 32}, "does not divide"),
]


@pytest.mark.parametrize(("keywords", "told"), BAD)
def test_bad_input(keywords, told):
    with pytest.raises(LlmcalcError) as caught:
        vram(**keywords)
    assert told in str(caught.value)
    assert caught.value.remedy
    with pytest.raises(LlmcalcError, match="bare count"):
        vram("13b", with_models="qwen3-0.6b")


def test_a_shorter_model_keeps_to_its_own_limit():
    found = vram(with_models="llama-2-7b", context=32_768)
    assert found["with llama-2-7b-hf"].bytes / GIB == pytest.approx(
        vram("llama-2-7b", context=4096).total_bytes / GIB
    )
