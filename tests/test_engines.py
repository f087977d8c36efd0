"""What engines keep: the transformers engine against caches of models that were run."""

import json
from pathlib import Path

import numpy as np
import pytest

import llmcalc

RUNS = [
    json.loads(line)
    for line in (Path(__file__).parent / "data" / "cache_runs.jsonl").read_text().splitlines()
]


@pytest.mark.parametrize("run", RUNS, ids=[f"{run['config']['model_type']} {run['note']}" for run in RUNS])
def test_caches_of_models_that_were_run(run):
    """Elements after a prefill: transformers 5.23.0, which keeps states as they are computed."""
    keywords = {"engine": "transformers", "context": run["tokens"], "dtype": "bf16", **run["streams"]}
    report = llmcalc.vram(run["config"], **keywords)
    if run["config"]["model_type"] == "rwkv":  # two fifths in the model's dtype, the rest in fp32
        assert report["state"].bytes == run["elements"] * (2 * 2 + 3 * 4) // 5
        return
    states = sum(part.bytes // part.inputs["bytes_per_element"] for part in report["state"].items)
    assert report["kv_cache"].bytes // 2 + states == run["elements"]


def test_a_window_keeps_one_less_and_a_convolution_one_more():
    minimum = llmcalc.vram("gemma-3-1b", context=8192)["kv_cache"].items[0]
    kept = llmcalc.vram("gemma-3-1b", context=8192, engine="transformers")["kv_cache"].items[0]
    assert kept.bytes * 512 == minimum.bytes * 511
    states = {
        e: llmcalc.vram("mamba2-1.3b", engine=e, dtype="bf16")["state"] for e in ("none", "transformers")
    }
    recurrence, convolution = (item.bytes for item in states["none"].items)
    assert [item.bytes for item in states["transformers"].items] == [recurrence, convolution * 4 // 3]
    old = llmcalc.vram("mamba2-1.3b", engine="transformers", engine_version="5.12", dtype="bf16")["state"]
    assert old.items[0].bytes == recurrence // 2


def test_engines_take_arrays():
    contexts = np.array([100, 8192])
    swept = llmcalc.vram("gemma-3-1b", context=contexts, engine="transformers", gpu="h100")
    for index, context in enumerate(contexts.tolist()):
        single = llmcalc.vram("gemma-3-1b", context=context, engine="transformers", gpu="h100")
        assert swept.total_bytes[index] == single.total_bytes
        assert swept.capacity.max_context == single.capacity.max_context
