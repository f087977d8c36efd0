"""Drafts and adapters beside a model: the minimum and vLLM."""

import json
import subprocess
import sys

import pytest

import llmcalc
from llmcalc.errors import LlmcalcError

LLAMA = {
    "model_type": "llama", "hidden_size": 4096, "intermediate_size": 14336, "num_attention_heads": 32,
    "num_key_value_heads": 8, "num_hidden_layers": 1, "vocab_size": 128256, "head_dim": 128,
    "max_position_embeddings": 2048, "rms_norm_eps": 1e-5, "torch_dtype": "float16",
}  # fmt: skip
EAGLE = {**LLAMA, "architectures": ["EagleLlamaForCausalLM"]}
EAGLE3 = {**LLAMA, "architectures": ["LlamaForCausalLMEagle3"], "draft_vocab_size": 32_000}
LAYER = 4096 * (4096 + 1024 + 1024 + 4096) + 3 * 4096 * 14336 + 2 * 4096
"""Parameters of one layer of Llama-3.1-8B."""


def vram(model="llama-3.1-8b", **keywords):
    return llmcalc.vram(model, **keywords)


def test_an_eagle_head_is_one_more_layer():
    """51.63 GiB were 410,128 tokens: 33/32 of the model's own (vLLM issue 19996)."""
    found = vram(engine="vllm", engine_version="0.9", draft="eagle", gpu="h100", context=131_072)
    assert found.capacity.kv_bytes_per_token == 131_072 * 33 // 32
    assert 51.63 * 2**30 // found.capacity.kv_bytes_per_token == pytest.approx(410_128, rel=1e-4)


@pytest.mark.parametrize("engine", ["none", "vllm"])
def test_weights_of_heads(engine):
    """EAGLE: a layer and a projection of two hidden states; EAGLE-3: of three, a first layer that reads
    twice as much, norms, and a head of its own (the 8B head is published with 0.42 B parameters)."""
    plain = LAYER + 2 * 4096 * 4096
    three = LAYER + 4096 * (4096 + 1024 + 1024) + 3 * 4096 * 4096 + 2 * 4096 + 32_000 * 4096
    for draft, parameters in (("eagle", plain), (EAGLE, plain), (EAGLE3, three)):
        assert vram(engine=engine, draft=draft)["draft_weights"].bytes == 2 * parameters


def test_a_head_from_a_file(tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(EAGLE3))
    for name in (str(path), str(tmp_path)):
        found = vram(draft=name)
        assert found["draft_weights"].bytes == vram(draft=EAGLE3)["draft_weights"].bytes
        assert any("EAGLE-3" in line for line in found.header)


def test_a_draft_model_is_a_sum():
    alone = vram("llama-3.2-1b", context=8192, sequences=3)
    both, plain = vram(draft="llama-3.2-1b", sequences=3), vram(sequences=3)
    added = alone["weights"].bytes + alone["kv_cache"].bytes
    assert both.total_bytes - plain.total_bytes == added
    assert both["draft_kv_cache"].bytes == alone["kv_cache"].bytes
    assert vram(draft="llama-3.2-1b", draft_quant="int8")["draft_weights"].bytes < alone["weights"].bytes


def test_a_draft_model_shares_the_pool():
    """32 layers of 8 x 128 and 16 of 8 x 64 in one block."""
    found = vram(engine="vllm", draft="llama-3.2-1b", gpu="h100")
    assert found.capacity.kv_bytes_per_token == 131_072 + 2 * 16 * 8 * 64 * 2
    halves = vram(engine="vllm", draft="llama-3.2-1b", gpu="2xh100")
    assert halves["draft_weights"].bytes == pytest.approx(found["draft_weights"].bytes / 2, rel=0.01)
    stages = vram(engine="vllm", draft="llama-3.2-1b", pp=2)
    assert stages["draft_weights"].amounts[0] == 0 < stages["draft_weights"].amounts[1]


def test_prediction_layers():
    found, plain = vram("deepseek-v3", draft="mtp"), vram("deepseek-v3")
    assert found["draft_weights"].bytes > 0
    assert found["draft_kv_cache"].bytes == plain["kv_cache"].bytes // 61
    served = vram("qwen3.5-27b", engine="vllm", draft="mtp", num_speculative_tokens=3, context=262_144)
    before = vram("qwen3.5-27b", engine="vllm", num_speculative_tokens=3, context=262_144)
    assert served.total_bytes == before.total_bytes


def test_requests_of_a_drafted_model():
    asked = {"prompt": "512, 4k", "output": 100, "sequences": 4}
    for engine in ("none", "vllm"):
        found = vram(draft="eagle", engine=engine, **asked)
        rows = {row["case"]: row["cache_bytes"] for row in found.workload["cases"]}
        plain = {row["case"]: row["cache_bytes"] for row in vram(engine=engine, **asked).workload["cases"]}
        assert rows["expected"] == pytest.approx(plain["expected"] * 33 / 32, rel=1e-6)
        assert rows["worst"] == plain["worst"] * 33 // 32


def test_capacity_pays_for_the_draft():
    found = vram(draft="llama-3.2-1b", gpu="rtx-4090")
    most = found.capacity.max_context
    assert vram(draft="llama-3.2-1b", gpu="rtx-4090", context=most).headroom_bytes >= 0
    assert vram(draft="llama-3.2-1b", gpu="rtx-4090", context=most + 1).headroom_bytes < 0


# -- adapters ----------------------------------------------------------------------------------


def test_an_adapter_by_its_rank():
    """PEFT counts 41,943,040 parameters of rank 16 in all linear layers of Llama-3.1-8B."""
    assert vram(lora="r=16")["lora"].bytes == 2 * 41_943_040
    assert vram(lora=["r=16", "r=32"])["lora"].bytes == 3 * 2 * 41_943_040


def test_room_for_adapters():
    """Qwen2.5-7B: 40,370,176 parameters of rank 16; on two ranks one side of each pair is halved."""
    whole = vram("qwen2.5-7b", engine="vllm", max_loras=4)["lora"].bytes
    assert whole == 4 * 2 * 40_370_176
    hidden, kv, ffn = 3584, 512, 18_944
    column = [(hidden, hidden), (hidden, kv), (hidden, kv), (hidden, ffn), (hidden, ffn)]
    row = [(hidden, hidden), (hidden, ffn)]
    half = sum(whole + split // 2 for whole, split in column + row)
    found = vram("qwen2.5-7b", engine="vllm", max_loras=1, tp=2)["lora"].bytes
    assert found == 2 * 28 * 16 * half
    assert vram("qwen2.5-7b", engine="vllm", max_loras=1, max_lora_rank=64)["lora"].bytes == whole
    assert vram("qwen2.5-7b", engine="vllm", lora="r=20")["lora"].inputs["max_lora_rank"] == 32


def test_llama_has_room_beside_its_embedding():
    """vLLM's Llama makes room for embedding and head as well: 128,256 rows each, on every rank."""
    found = vram(engine="vllm", max_loras=1)["lora"].bytes
    assert found == 2 * (41_943_040 + 2 * 16 * (128_256 + 4096))


def test_experts_have_room_too():
    """Qwen3-30B-A3B: 128 experts of three matrices, 2,048 x 768."""
    found = vram("qwen3-30b-a3b", engine="vllm", max_loras=1)["lora"].bytes
    before = vram("qwen3-30b-a3b", engine="vllm", max_loras=1, engine_version="0.10")["lora"].bytes
    experts = 2 * 48 * 16 * (128 * 3 * (2048 + 768) + 2048 + 128)
    assert found - before == experts


def test_adapters_take_from_the_pool():
    found, plain = (vram(engine="vllm", gpu="rtx-4090", max_loras=n) for n in (2, None))
    assert plain.capacity.kv_budget_bytes - found.capacity.kv_budget_bytes == found["lora"].bytes


BAD = [
    (["--draft", "mtp"], "has none"),
    (["--draft", "no-such-model-x"], "no-such-model-x"),
    (["--draft", "13b"], "tells no layers"),
    (["--draft", "qwen3-0.6b", "--engine", "vllm"], "same vocabulary"),
    (["--draft-quant", "awq"], "for a draft model"),
    (["--draft", "eagle", "--engine", "mlx"], "not of --engine mlx"),
    (["--lora", "file.gguf"], "is no rank"),
    (["--lora", "r=0"], "above 0"),
    (["--max-loras", "2"], "an option of vllm"),
    (["--max-lora-rank", "20", "--engine", "vllm"], "--max-lora-rank 32"),
    (["--max-lora-rank", "900", "--engine", "vllm"], "512"),
    (["--lora", "r=64", "--max-lora-rank", "16", "--engine", "vllm"], "--max-lora-rank 64"),
    (["--max-loras", "0", "--engine", "vllm"], "above 0"),
]


@pytest.mark.parametrize(("words", "told"), BAD)
def test_bad_input(words, told):
    done = subprocess.run(
        [sys.executable, "-m", "llmcalc", "vram", "llama-3.1-8b", *words],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2, done.stdout
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_heads_that_nobody_can_guess():
    with pytest.raises(LlmcalcError, match="shape of its own"):
        vram("gpt-oss-20b", draft="eagle3")
    with pytest.raises(LlmcalcError, match="draft_vocab_size"):
        vram(draft={**EAGLE3, "draft_vocab_size": "many"})
    with pytest.raises(LlmcalcError, match="bare count"):
        vram("13b", draft="eagle")
