"""Images in a prompt."""

import pytest

import llmcalc
from llmcalc.errors import LlmcalcError


@pytest.mark.parametrize("engine", ["none", "vllm"])
def test_images_are_tokens_of_the_context(engine):
    found = llmcalc.vram("gemma-3-27b-it", engine=engine, images=4, context=4096, sequences=2)
    plain = llmcalc.vram("gemma-3-27b-it", engine=engine, context=4096 + 4 * 256, sequences=2)
    assert found.total_bytes == plain.total_bytes
    assert found.scenario["context"] == 5120
    assert (found.scenario["images"], found.scenario["image_tokens"]) == (4, 256)


def test_images_of_requests():
    """Each request has them, behind what is shared."""
    row = 2 * 28 * 4 * 128 * 2  # Qwen2.5-VL-7B
    asked = {"prompt": "512, 1k", "output": 100, "shared_prefix": 200, "images": 2, "image_tokens": 1000}
    found = llmcalc.vram("qwen2.5-vl-7b-instruct", sequences=3, **asked)
    rows = {case["case"]: case["cache_bytes"] for case in found.workload["cases"]}
    assert rows["worst"] == row * (200 + 3 * (824 + 100 + 2000))
    assert rows["expected"] == row * (200 + 3 * (568 + 100 + 2000))


def test_a_default_context_makes_room():
    found = llmcalc.vram("gemma-3-27b-it", images=1)
    assert found.scenario["context"] == 8192 + 256


def test_a_large_image_widens_the_cache_of_embeddings():
    """vLLM keeps the embeddings of one image at least: 16,384 x 3,584 in 16 bit above a batch of 2,048."""
    asked = {"engine": "vllm", "context": 4096, "images": 1}
    small = llmcalc.vram("qwen2.5-vl-7b-instruct", image_tokens=1000, **asked)["activations"].bytes
    large = llmcalc.vram("qwen2.5-vl-7b-instruct", image_tokens=16_384, **asked)["activations"].bytes
    assert large - small == (16_384 - 2048) * 3584 * 2


def test_cross_attention_remembers_images_beside_the_context():
    one, two = (llmcalc.vram("llama-3.2-11b-vision", images=n, context=4096) for n in (1, 2))
    assert one.scenario["context"] == two.scenario["context"] == 4096
    assert two["kv_cache"].bytes > one["kv_cache"].bytes


BAD = [
    ("llama-3.1-8b", {"images": 1}, "reads text alone"),
    ("llama-3.1-8b", {"image_tokens": 576}, "reads text alone"),
    ("voxtral-mini-3b-2507", {"images": 1, "image_tokens": 5}, "reads text alone"),
    ("qwen2.5-vl-7b-instruct", {"images": 3}, "--image-tokens"),
    ("gemma-3-27b-it", {"images": 600, "context": 4096}, "Use --images 496 or fewer"),
    ("gemma-3-27b-it", {"images": 1, "context": 131_072}, "less text"),
    ("gemma-3-27b-it", {"images": -1}, "above 0"),
    ("gemma-3-27b-it", {"images": 1.5}, "whole number"),
]


@pytest.mark.parametrize(("model", "keywords", "told"), BAD)
def test_bad_input(model, keywords, told):
    with pytest.raises(LlmcalcError) as caught:
        llmcalc.vram(model, **keywords)
    assert told in str(caught.value)


@pytest.mark.parametrize("keywords", [{"images": 0}, {"image_tokens": 0}, {"images": 0, "image_tokens": 50}])
def test_no_images(keywords):
    for model in ("llama-3.1-8b", "gemma-3-27b-it"):
        if "image_tokens" in keywords and keywords["image_tokens"] and model == "llama-3.1-8b":
            continue
        plain = llmcalc.vram(model)
        assert llmcalc.vram(model, **keywords).total_bytes == plain.total_bytes
