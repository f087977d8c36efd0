"""llama.cpp's own library asked, where it can be had: whole models by their headers, on the CPU."""

import functools
import os
import tempfile
from pathlib import Path

import pytest

import llmcalc
from llmcalc.units import MIB
from oracles import gguf_model, gguf_writer, llama_cpp

MODELS = {
    "llama-2-7b": "f16", "llama-3.1-8b": "q4_k_m", "qwen2.5-0.5b": "q8_0", "qwen3-8b": "f16",
    "olmo-2-1124-7b": "q4_k_m", "granite-3.3-8b-base": "f16", "gemma-2b": "bf16",
    "mixtral-8x7b-v0.1": "f16", "qwen3-30b-a3b": "q4_k_m", "gpt-oss-20b": "f16", "glm-4.5-air": "q8_0",
    "deepseek-v2-lite": "f16", "deepseek-v3": "q8_0", "gemma-2-9b": "f16", "gemma-3-4b": "f16",
    "gemma-4-e4b-it": "f16", "gemma-4-31b": "q8_0", "command-r7b": "f16", "lfm2-1.2b": "f16",
    "mamba-370m-hf": "f16", "mamba2-370m": "f16", "falcon-h1-1.5b": "f16", "granite-4.0-h-tiny": "q8_0",
    "qwen3-next-80b": "f16", "qwen3.5-9b": "f16",
}  # fmt: skip
"""Models of the catalog, and the file type of their weights."""

SETTINGS = [
    {"n_ctx": 512, "flash_attn": False},
    {"n_ctx": 1000, "parallel": 3, "ubatch": 2048},
    {"n_ctx": 4096},
    {"n_ctx": 4096, "parallel": 4, "ubatch": 128, "flash_attn": False},
    {"n_ctx": 8192, "ubatch": 2048, "kv_dtype": "q8_0"},
    {"n_ctx": 16_384, "parallel": 4, "kv_unified": True},
    {"n_ctx": 32_768, "parallel": 4, "kv_dtype": "q4_0", "swa_full": True},
    {"n_ctx": 131_072, "swa_full": True},
    {"n_ctx": 131_072, "ubatch": 128, "kv_unified": True, "flash_attn": False},
]
"""Keywords of `llmcalc.vram` that differ from the usual ones."""

USUAL = {
    "parallel": 1,
    "ubatch": 512,
    "kv_dtype": "f16",
    "flash_attn": True,
    "kv_unified": False,
    "swa_full": False,
}
FIELDS = {
    "n_ctx": ["n_ctx"], "parallel": ["n_seq_max", "n_outputs_max"], "ubatch": ["n_ubatch"],
    "kv_dtype": ["type_k", "type_v"], "flash_attn": ["flash_attn_type"], "kv_unified": ["kv_unified"],
    "swa_full": ["swa_full"],
}  # fmt: skip
"""What llama.cpp's library calls them."""

ROUNDED = 0.005 + 1e-6
"""What rounding to two digits hides in one printed figure. [MiB]"""


def written(model, folder):
    """The header of a model's file."""
    inventory, file = llmcalc.model(model), folder / "model.gguf"
    tensors = gguf_model.tensors(inventory, MODELS[model])
    gguf_writer.write(file, gguf_model.metadata(inventory.name), tensors)
    return file


def predicted(model, setting, **more):
    """What the program says of a model at a setting, on the CPU."""
    return llmcalc.vram(
        model, engine="llama.cpp", gpu_layers=0, allow_overlong=True, **(USUAL | setting), **more
    )


@functools.cache
def printed(model):
    """What llama.cpp prints for a model at all settings."""
    folder, reason = llama_cpp.libraries()
    if folder is None:
        (pytest.fail if os.environ.get(llama_cpp.VARIABLE) else pytest.skip)(reason)
    asked = [
        {field: value for key, value in (USUAL | setting).items() for field in FIELDS[key]}
        for setting in SETTINGS
    ]
    with tempfile.TemporaryDirectory() as place:
        return llama_cpp.ask(folder, written(model, Path(place)), asked)


def words(place):
    return ",".join(f"{key}={value}" for key, value in SETTINGS[place].items())


@pytest.mark.parametrize("place", range(len(SETTINGS)), ids=words)
@pytest.mark.parametrize("model", MODELS)
def test_every_buffer_is_what_llama_cpp_prints(model, place):
    told = printed(model)[place]
    report = predicted(model, SETTINGS[place], quant=f"gguf-{MODELS[model]}")
    found = {item.name: item.bytes for item in report}
    assert found["host_weights"] == told["weights"]
    for name in llama_cpp.SIZES:
        size, lines = found.get(f"host_{name}", 0) / MIB, told[name]
        assert size == pytest.approx(sum(lines), abs=len(lines) * ROUNDED), name


@pytest.mark.parametrize("model", MODELS)
def test_the_header_alone_tells_the_same(model, tmp_path):
    file = str(written(model, tmp_path))
    for setting in SETTINGS:
        by_name = predicted(model, setting, quant=f"gguf-{MODELS[model]}")
        by_file = predicted(file, setting)
        assert {i.name: i.bytes for i in by_file} == {i.name: i.bytes for i in by_name}, setting
