"""What engines keep: the transformers engine against caches of models that were run."""

import numpy as np
import pytest

import llmcalc

TINY = {
    "vocab_size": 128, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 4,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 256,
}  # fmt: skip

RUNS = [
    # Elements of the cache after a prefill of 40 tokens, transformers 5.23.0.
    ({"model_type": "llama", **TINY}, 10_240),
    (
        {
            "model_type": "qwen2", **TINY, "use_sliding_window": True, "sliding_window": 16,
            "max_window_layers": 2,
        },
        7040,
    ),
    (
        {
            "model_type": "falcon", "vocab_size": 128, "hidden_size": 64, "num_hidden_layers": 2,
            "num_attention_heads": 4, "num_kv_heads": 2, "new_decoder_architecture": True,
        },
        10_240,
    ),
]  # fmt: skip


@pytest.mark.parametrize(("config", "elements"), RUNS, ids=[config["model_type"] for config, _ in RUNS])
def test_transformers_caches(config, elements):
    report = llmcalc.vram(config, engine="transformers", context=40, dtype="bf16")
    assert report["kv_cache"].bytes + report["state"].bytes == 2 * elements


def test_a_window_keeps_one_less_and_a_convolution_one_more():
    minimum = llmcalc.vram("gemma-3-1b", context=8192)["kv_cache"].items[0]
    kept = llmcalc.vram("gemma-3-1b", context=8192, engine="transformers")["kv_cache"].items[0]
    assert kept.bytes * 512 == minimum.bytes * 511
    states = {
        e: llmcalc.vram("mamba2-1.3b", engine=e, dtype="bf16")["state"] for e in ("none", "transformers")
    }
    recurrence, convolution = (item.bytes for item in states["none"].items)
    assert [item.bytes for item in states["transformers"].items] == [recurrence // 2, convolution * 4 // 3]


def test_engines_take_arrays():
    contexts = np.array([100, 8192])
    swept = llmcalc.vram("gemma-3-1b", context=contexts, engine="transformers", gpu="h100")
    for index, context in enumerate(contexts.tolist()):
        single = llmcalc.vram("gemma-3-1b", context=context, engine="transformers", gpu="h100")
        assert swept.total_bytes[index] == single.total_bytes
        assert swept.capacity.max_context == single.capacity.max_context
