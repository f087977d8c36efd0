"""llama.cpp's options: what is refused, what is told, what an option moves."""

import numpy as np
import pytest

import llmcalc
from llmcalc.errors import LlmcalcError


def vram(model="llama-3.1-8b", **more):
    return llmcalc.vram(model, **{"engine": "llama.cpp", "gpu": "rtx-4090", "quant": "q4_k_m", **more})


REFUSED = [
    ({"override_tensor": "ffn_up=CUDA5"}, "CUDA0"),
    ({"override_tensor": "ffn_up=foo0"}, "CUDA0"),
    ({"override_tensor": "(((.*)*)*)*!=CPU"}, "(((.*)*)*)*!"),
    ({"override_tensor": np.array(["a=CPU", "b=CPU"])}, "not an array"),
    ({"parallel": np.array([1, 2])}, "not an array"),
    ({"gpu_layers": [1, 2]}, "not an array"),
    ({"engine_version": "0"}, "b6000"),
    ({"engine_version": "b9999999"}, "b6000"),
    ({"gpu_layers": "-5"}, "the output counts as one"),
    ({"model": "whisper-large-v3"}, "llama.cpp"),
]


@pytest.mark.parametrize(("keywords", "words"), REFUSED)
def test_refused_with_a_remedy(keywords, words):
    with pytest.raises(LlmcalcError) as caught:
        vram(**keywords)
    assert words in str(caught.value)


def test_a_build_may_carry_its_commit():
    assert vram(engine_version="b6000-abcdef12").scenario["engine_version"] == "b6000"


@pytest.mark.parametrize(("version", "words"), [("2023", "scratch buffer"), ("ik", "ik_llama.cpp")])
def test_graphs_of_other_programs_are_assumed_and_told(version, words):
    found = vram(engine_version=version)
    assert found["activations"].grade == "assumed"
    assert any(words in told for told in found.warnings)
    low, high = found["activations"].range_bytes
    assert high - low > 0.25 * found["activations"].bytes
    assert vram()["activations"].grade == "derived"


def test_a_tied_head_is_one_tensor_wherever_it_is_put():
    plain = vram("gemma-3-27b-it")
    on_device = vram("gemma-3-27b-it", override_tensor="token_embd=CUDA0")
    on_host = vram("gemma-3-27b-it", override_tensor="token_embd=CPU")
    table = plain["host_weights"].bytes
    assert on_device["weights"].bytes == plain["weights"].bytes
    assert "host_weights" not in [item.name for item in on_device]
    assert on_host["weights"].bytes == plain["weights"].bytes - table
    assert on_host["host_weights"].bytes == table


def test_more_layers_of_experts_than_there_are():
    assert any("has no routed experts" in told for told in vram(n_cpu_moe=3).warnings)
    every = vram("qwen3-30b-a3b", n_cpu_moe=48)
    more = vram("qwen3-30b-a3b", n_cpu_moe=100_000)
    assert more.total_bytes == every.total_bytes
    assert any("above the 48 layers" in told for told in more.warnings)
    assert not any("above the" in told for told in every.warnings)


def test_what_was_left_open_is_told_as_resolved():
    told = vram(context=4096, sequences=3).scenario
    assert (told["parallel"], told["n_ctx"], told["gpu_layers"]) == (3, 12_288, 33)


def test_the_batch_is_never_longer_than_the_context():
    assert vram(context=256)["activations"].note == "flash attention, 256 tokens"
    assert vram(context=4096)["activations"].note == "flash attention, 512 tokens"


def test_explain_tells_each_line_by_its_own_inputs():
    found = vram()
    assert {"cells", "layers"} & set(found["kv_cache"].inputs)
    assert "context" not in found["weights"].inputs
