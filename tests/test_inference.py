"""Inference memory: golden values, and the properties that hold for every model."""

import numpy as np
import pytest

import llmcalc
from llmcalc.errors import InputError, SizeOverflowError
from llmcalc.memory import inference
from llmcalc.units import GIB, MIB

MODELS = [
    "llama-3.1-8b", "mistral-7b-v0.1", "mixtral-8x7b", "qwen2.5-7b", "qwen3-30b-a3b", "qwen3-next-80b",
    "gemma-2-9b", "gemma-3-27b", "gemma-3-1b", "phi-2", "phi-3-mini-4k", "gpt2", "gpt-3", "pythia-6.9b",
    "opt-350m", "olmo-2-1124-7b", "granite-3.1-8b-instruct", "deepseek-v2-lite", "deepseek-v3",
    "gpt-oss-20b", "mamba2-1.3b", "falcon-7b", "glm-4.5-air", "kimi-k2",
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "context", "gib"),
    [
        ("Llama-3.1-8B", "8k", 1.0),
        ("Llama-3.1-70B", "8k", 2.5),
        ("Mixtral-8x7B", "8k", 1.0),
        ("DeepSeek-V3", "32k", 2.14453125),
        ("Gemma-3-27B", "128k", 10.40625),
        ("gpt-oss-20b", "128k", 3.0029296875),
        ("Qwen3-Next-80B", "128k", 3.0),
    ],
)
def test_kv_cache(name, context, gib):
    report = llmcalc.vram(name, context=context)
    assert report["kv_cache"].bytes == gib * GIB
    assert report["kv_cache"].grade == "exact"


def test_qwen3_next_state():
    state = llmcalc.vram("Qwen3-Next-80B", context="128k")["state"].bytes
    assert state == 72 * MIB + 36 * 8192 * 3 * 2  # 73.69 MiB
    assert round(state / MIB, 2) == 73.69


def test_state_in_another_precision():
    entry = llmcalc.catalog.Catalog().lookup("models", "mamba2-1.3b")["config"]
    default = llmcalc.vram(entry)["state"]
    half = llmcalc.vram({**entry, "mamba_ssm_dtype": "bfloat16"})["state"]
    assert 2 * half.items[0].bytes == default.items[0].bytes
    assert half.items[1].bytes == default.items[1].bytes


@pytest.mark.parametrize(("bits", "total"), [(16, 31_200_000_000), (4, 7_800_000_000), (8, 15_600_000_000)])
def test_rule_of_thumb(bits, total):
    report = llmcalc.vram(params="13b", bits=bits)
    assert report.total_bytes == total
    low, high = report.range_bytes
    assert low <= total <= high
    assert low < high
    assert report["weights"].bytes == 13_000_000_000 * bits // 8


@pytest.mark.parametrize(("size", "gb"), [("7b", 14), ("70b", 140)])
def test_fp16_weights(size, gb):
    assert llmcalc.vram(params=size, dtype="fp16")["weights"].bytes == gb * 10**9


def test_rule_of_thumb_formula():
    assert inference.rule_of_thumb(13e9, 2) == 31.2e9
    assert inference.rule_of_thumb(13e9, 0.5) == 7.8e9


@pytest.mark.parametrize("bits", ["4.5", 4.5, "0.5", 64, "5.21"])
def test_fractional_bits_round_up_once(bits):
    from fractions import Fraction

    weights = llmcalc.vram(params=1_000_003, bits=bits, overhead=1)["weights"].bytes
    exact = Fraction(str(bits)) * 1_000_003 / 8
    assert exact <= weights < exact + 1


def test_real_models_stand_beside_the_rule():
    report = llmcalc.vram(params="13b", bits=4)
    assert any(name.startswith("llama-2-13b") for name, _ in report.neighbours)
    assert all(5 * GIB < total < 16 * GIB for _, total in report.neighbours)
    # Each is what vram says of that model.
    for name, total in report.neighbours[:4]:
        assert llmcalc.vram(name, bits=4, context=4096, allow_overlong=True).total_bytes == total


@pytest.mark.parametrize("name", MODELS)
def test_linear_in_sequences(name):
    one, two, five = (llmcalc.vram(name, context=1000, sequences=n) for n in (1, 2, 5))
    for item in ("kv_cache", "state"):
        assert two[item].bytes == 2 * one[item].bytes
        assert five[item].bytes == 5 * one[item].bytes
    assert two.total_bytes - one.total_bytes == (five.total_bytes - two.total_bytes) // 3


@pytest.mark.parametrize("name", MODELS)
def test_monotone_in_context(name):
    totals = [
        llmcalc.vram(name, context=c, allow_overlong=True).total_bytes for c in (1, 17, 128, 4097, 70_000)
    ]
    assert totals == sorted(totals)
    if llmcalc.model(name).caches and not all(c.is_state for _, c in llmcalc.model(name).caches):
        assert totals[0] < totals[-1]


@pytest.mark.parametrize("name", MODELS)
def test_tp_and_pp(name):
    model = llmcalc.model(name)
    alone = llmcalc.vram(model, context=1000)
    same = llmcalc.vram(model, context=1000, tp=1, pp=1)
    assert same.total_bytes == alone.total_bytes
    units = model.split
    ways = [tp for tp in (2, 4, 8) if all(n % tp == 0 for n in units.values())]
    for tp in ways:
        try:
            split = llmcalc.vram(model, context=1000, tp=tp)
        except InputError:
            continue  # KV heads that tp neither divides nor is a multiple of
        for item in ("weights", "kv_cache", "state"):
            assert tp * split[item].bytes >= alone[item].bytes
            assert split[item].bytes <= alone[item].bytes
    for pp in (2, 3):
        split = llmcalc.vram(model, context=1000, pp=pp)
        for item in ("weights", "kv_cache", "state"):
            amounts = split[item].amounts
            assert len(amounts) == pp
            assert sum(amounts) >= alone[item].bytes
        assert sum(split["kv_cache"].amounts) == alone["kv_cache"].bytes
        assert sum(split["state"].amounts) == alone["state"].bytes


@pytest.mark.parametrize(
    ("name", "kinds", "context", "mib"),
    [  # as ik_llama.cpp printed: llog-0068, llog-0093, llog-0105, llog-0165
        ("deepseek-v3-0324", {"kv_dtype_k": "q8_0"}, 2048, 72.91),
        ("deepseek-v3-0324", {"kv_dtype_k": "q8_0"}, 32768, 1166.62),
        ("deepseek-r1-0528", {"kv_dtype_k": "q8_0"}, 61440, 2187.42),
        ("kimi-k2-instruct", {"kv_dtype_k": "q8_0", "kv_dtype_v": "q4_0"}, 2048, 72.91),
        ("deepseek-r1-0528", {"kv_dtype_v": "q8_0"}, 2048, 61 * 576 * 2 * 2048 / 2**20),
    ],
)  # fmt: skip
def test_latent_caches_are_keys_alone(name, kinds, context, mib):
    """Latent and rotary key lie in one K cache; the format of values changes nothing."""
    kept = llmcalc.vram(name, quant="none", context=context, **kinds)["kv_cache"]
    assert kept.bytes / 2**20 == pytest.approx(mib, abs=0.006)


def test_kv_heads_are_replicated_beyond_their_number():
    eight, sixteen = (llmcalc.vram("llama-3.1-70b", context="8k", tp=tp)["kv_cache"].bytes for tp in (8, 16))
    assert eight == sixteen == 2.5 * GIB / 8
    # One latent serves all heads: every rank holds it whole.
    assert llmcalc.vram("deepseek-v3", context="32k", tp=8)["kv_cache"].bytes == 2.14453125 * GIB


def test_a_tied_head_on_a_later_stage_is_a_copy():
    model = llmcalc.model("gemma-2-9b")
    split = llmcalc.vram(model, pp=2, dtype="bf16")["weights"]
    assert sum(split.amounts) == 2 * (model.params + model.by_role()["embedding"])


@pytest.mark.parametrize(
    "name", ["llama-3.1-8b", "gemma-3-27b", "deepseek-v3", "qwen3-next-80b", "mamba2-1.3b"]
)
@pytest.mark.parametrize("keywords", [{}, {"gpu": "h100"}, {"pp": 3}, {"kv_dtype": "q8_0"}, {"sequences": 7}])
def test_arrays_equal_scalars(name, keywords):
    contexts = np.array([1, 100, 127, 128, 129, 1024, 4096, 8191, 8192])
    swept = llmcalc.vram(name, context=contexts, **keywords)
    for index, context in enumerate(contexts.tolist()):
        single = llmcalc.vram(name, context=context, **keywords)
        assert np.ravel(np.broadcast_to(swept.total_bytes, 9))[index] == single.total_bytes
        for one, many in zip(single.items, swept.items, strict=True):
            assert np.broadcast_to(many.bytes_at_peak, 9)[index] == one.bytes_at_peak
            assert np.broadcast_to(many.bytes, 9)[index] == one.bytes
        if single.device is not None:
            assert np.broadcast_to(swept.verdict, 9)[index] == single.verdict
            for figure, value in single.capacity.to_dict().items():
                many = swept.capacity.to_dict()[figure]
                assert (many if many is None else np.broadcast_to(many, 9)[index]) == value


def test_array_of_sequences():
    counts = np.array([1, 2, 64])
    swept = llmcalc.vram("llama-3.1-8b", context=4096, sequences=counts, gpu="rtx-4090")
    for index, count in enumerate(counts.tolist()):
        single = llmcalc.vram("llama-3.1-8b", context=4096, sequences=count, gpu="rtx-4090")
        assert swept.total_bytes[index] == single.total_bytes
        assert swept.capacity.max_context[index] == single.capacity.max_context


def test_int32_arrays_do_not_wrap():
    contexts = np.array([131_072], dtype=np.int32)
    assert inference.kv_cache_bytes(80, 8, 128, contexts, 64, 2)[0] == 80 * 8 * 128 * 2 * 2 * 131_072 * 64


def test_an_overflow_of_64_bits_is_an_error():
    with pytest.raises(SizeOverflowError):
        inference.kv_cache_bytes(126, 8, 128, np.array([10**12]), 10**6, 2)
    with pytest.raises(SizeOverflowError):
        llmcalc.vram("llama-3.1-8b", context=np.array([10**12]), sequences=10**6, allow_overlong=True)
    assert (
        llmcalc.vram("llama-3.1-8b", context=10**12, sequences=10**6, allow_overlong=True).total_bytes > 2**63
    )


@pytest.mark.parametrize(
    "name", ["llama-3.1-8b", "gemma-3-27b", "deepseek-v2-lite", "qwen3-next-80b", "gpt-oss-20b"]
)
@pytest.mark.parametrize("gpu", ["8xh100", "24GiB", "4xrtx-4090", "h200"])
def test_capacity_is_the_edge(name, gpu):
    """At the longest context the expected total still fits, one token later it does not."""
    report = llmcalc.vram(name, gpu=gpu, sequences=3)
    longest = report.capacity.max_context
    if longest == 0:
        assert report["weights"].bytes + report["runtime"].bytes >= report.device.usable_bytes - 2**21 * 3
        return
    assert llmcalc.vram(name, gpu=gpu, sequences=3, context=longest).headroom_bytes >= 0
    if longest < llmcalc.model(name).context:
        assert llmcalc.vram(name, gpu=gpu, sequences=3, context=longest + 1).headroom_bytes < 0
    most = report.capacity.max_concurrency
    if most:
        assert llmcalc.vram(name, gpu=gpu, sequences=most).headroom_bytes >= 0
    assert llmcalc.vram(name, gpu=gpu, sequences=most + 1).headroom_bytes < 0
    safe = report.capacity.safe_context
    assert 0 <= safe <= longest
    if safe:
        assert llmcalc.vram(name, gpu=gpu, sequences=3, context=safe).verdict == "fits"


def test_bytes_per_token_is_the_difference():
    for context in (100, 1023, 1024, 5000):
        report = llmcalc.vram("gemma-3-27b", context=context, gpu="h200")
        more = llmcalc.vram("gemma-3-27b", context=context + 1)
        assert more["kv_cache"].bytes - report["kv_cache"].bytes == report.capacity.kv_bytes_per_token


def test_verdicts():
    assert llmcalc.vram("llama-3.1-8b", gpu="rtx-4090").verdict == "fits"
    assert llmcalc.vram("llama-3.1-8b", gpu="rtx-3060").verdict == "does_not_fit"
    # 14.96 + 1.0 GiB of need on 17 GiB: the runtime's range straddles it.
    assert llmcalc.vram("llama-3.1-8b", gpu="17GiB").verdict == "too_close"
    assert llmcalc.vram("llama-3.1-8b").verdict is None


def test_never_fits_on_the_bare_minimum():
    need = llmcalc.vram("llama-3.1-8b").minimum_bytes
    assert llmcalc.vram("llama-3.1-8b", gpu=f"{need}b").verdict == "does_not_fit"


def test_reserve_is_taken_from_the_gpu():
    plain = llmcalc.vram("llama-3.1-8b", gpu="rtx-4090")
    shared = llmcalc.vram("llama-3.1-8b", gpu="rtx-4090", reserve="2GiB")
    assert plain.headroom_bytes - shared.headroom_bytes == 2 * GIB
    assert shared.total_bytes == plain.total_bytes


def test_n_gpus_without_placement_are_tensor_ranks():
    assert llmcalc.vram("llama-3.1-70b", gpu="4xa100-80gb").scenario["tp"] == 4
    report = llmcalc.vram("llama-3.1-70b", gpu="8xa100-80gb", tp=2)
    assert (report.scenario["tp"], report.scenario["dp"]) == (2, 4)
    assert llmcalc.vram("llama-3.1-70b", gpu="8xa100-80gb", pp=2).scenario["tp"] == 4


def test_prompt_and_output_make_the_context():
    assert llmcalc.vram("llama-3.1-8b", prompt="3k", output="1k").scenario["context"] == 4096
    assert llmcalc.vram("llama-3.1-8b", max_model_len="8k").scenario["context"] == 8000
    assert llmcalc.vram("gpt2").scenario["context"] == 1024  # the model's limit
    assert llmcalc.vram("llama-3.1-8b").scenario["context"] == 8192


def test_dtypes():
    weights = {
        d: llmcalc.vram("llama-3.1-8b", dtype=d)["weights"].bytes for d in ("fp32", "f16", "bfloat16", "fp8")
    }
    assert weights["fp32"] == 2 * weights["f16"] == 2 * weights["bfloat16"] == 4 * weights["fp8"]
    caches = {
        d: llmcalc.vram("llama-3.1-8b", context="8k", kv_dtype=d)["kv_cache"].bytes / GIB
        for d in ("fp16", "fp8", "q8_0", "q4_0", "fp32")
    }
    assert caches == {"fp16": 1, "fp8": 0.5, "q8_0": 17 / 32, "q4_0": 9 / 32, "fp32": 2}
    mixed = llmcalc.vram("llama-3.1-8b", context="8k", kv_dtype_k="q8_0", kv_dtype_v="q4_0")["kv_cache"].bytes
    assert mixed == (17 / 32 + 9 / 32) / 2 * GIB


def test_grades():
    assert llmcalc.vram("llama-3.1-8b")["weights"].grade == "exact"
    assert llmcalc.vram("llama-3.1-8b", bits=4)["weights"].grade == "assumed"
    assert llmcalc.vram("gpt2")["weights"].grade == "assumed"  # its file states no dtype
    assert llmcalc.vram("gpt2", dtype="fp16")["weights"].grade == "exact"


def test_an_unknown_window_is_assumed_full_and_said():
    config = {
        "model_type": "mistral", "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32,
        "num_key_value_heads": 8, "intermediate_size": 14336, "vocab_size": 32000,
        "max_position_embeddings": 32768, "tie_word_embeddings": False, "torch_dtype": "bfloat16",
    }  # fmt: skip
    report = llmcalc.vram(config, context="32k")
    assert report["kv_cache"].grade == "assumed"
    assert any("sliding_window" in warning for warning in report.warnings)
    windowed = llmcalc.vram({**config, "sliding_window": 4096}, context="32k")
    assert windowed["kv_cache"].bytes * 8 == report["kv_cache"].bytes
    full = llmcalc.vram({**config, "sliding_window": None}, context="32k")
    assert full["kv_cache"].grade == "exact"


def test_a_quantized_checkpoint_is_priced_as_it_is():
    entry = llmcalc.catalog.Catalog().lookup("models", "llama-3.1-8b")["config"]
    config = {**entry, "quantization_config": {"quant_method": "awq", "bits": 4, "group_size": 128}}
    report = llmcalc.vram(config)
    assert report["weights"].bytes == llmcalc.vram(entry, quant="awq")["weights"].bytes == 5_727_854_592
    assert report.scenario["quant"] == "awq-4bit-g128"
    assert llmcalc.vram(config, quant="none")["weights"].bytes == 2 * 8_030_261_248
    assert llmcalc.vram(config, bits=4)["weights"].bytes == 8_030_261_248 // 2


def test_a_sum_beyond_64_bits_is_an_error_too():
    """Each kind of cache fits 64 bits, their sum does not."""
    many = np.array([850_000_000])
    with pytest.raises(SizeOverflowError):
        llmcalc.vram("gemma-3-27b", sequences=many, context=131_072)
    assert llmcalc.vram("gemma-3-27b", sequences=850_000_000, context=131_072).total_bytes > 2**63


LLAMA = {
    "model_type": "llama", "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32,
    "num_key_value_heads": 8, "intermediate_size": 14336, "vocab_size": 128256, "torch_dtype": "bfloat16",
    "max_position_embeddings": 8192, "tie_word_embeddings": False,
}  # fmt: skip


def test_an_assumed_family_is_graded_assumed():
    config = {**LLAMA, "model_type": "cohere-like", "sliding_window": 4096}
    report = llmcalc.vram(config, assume="llama")
    assert report["weights"].grade == report["kv_cache"].grade == "assumed"
    assert any("sliding_window" in warning for warning in report.warnings)


def test_sizes_from_class_defaults_are_graded_derived():
    config = {**LLAMA, "model_type": "mistral", "sliding_window": None}
    del config["num_key_value_heads"]
    report = llmcalc.vram(config)
    assert report["weights"].grade == "derived"
    assert any("num_key_value_heads = 8" in warning for warning in report.warnings)


@pytest.mark.parametrize(
    "extra",
    [
        {"num_experts": 8},
        {"n_shared_experts": 1},
        {"ffn_dim_multiplier": 1.3},
        {"attn_config": {"kv_n_heads": 2}},
        {"layer_kinds": ["a"] * 32},
        {"n_head": 16},
    ],
)
def test_a_key_that_could_shape_memory_is_refused(extra):
    with pytest.raises(llmcalc.LlmcalcError) as caught:
        llmcalc.vram({**LLAMA, **extra})
    assert next(iter(extra)) in str(caught.value)


def test_unknown_layer_types_are_refused():
    config = {**llmcalc.catalog.Catalog().lookup("models", "gemma-2-9b")["config"]}
    with pytest.raises(llmcalc.LlmcalcError, match="foo"):
        llmcalc.vram({**config, "layer_types": ["foo"] * 42})


def test_yarn_stretches_the_context():
    scaling = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 8192}
    assert llmcalc.model({**LLAMA, "rope_scaling": scaling}).context == 32_768
    assert llmcalc.model({**LLAMA, "rope_scaling": {**scaling, "type": "linear"}}).context == 8192


def test_a_window_from_the_last_layer_on_is_read():
    config = {
        **LLAMA, "model_type": "qwen2", "use_sliding_window": True, "sliding_window": 4096,
        "max_window_layers": 32,
    }  # fmt: skip
    assert {cache.kind for _, cache in llmcalc.model(config).caches} == {"full"}
    windowed = llmcalc.model({**config, "max_window_layers": 28})
    assert [cache.kind for _, cache in windowed.caches].count("window") == 4


def test_suggested_cards_allow_for_the_reserve():
    plain, shared = llmcalc.vram("llama-3.1-8b"), llmcalc.vram("llama-3.1-8b", reserve="10GiB")
    assert shared.cards[0][1] >= plain.cards[0][1] + 9 * GIB


def test_several_cards_are_suggested_where_none_is_large_enough():
    report = llmcalc.vram("deepseek-v3")
    assert not report.cards
    hint = next(hint for hint in report.hints if "--gpu" in hint)
    gpu = hint.split("--gpu ")[1].rstrip(".")
    assert llmcalc.vram("deepseek-v3", gpu=gpu).verdict == "fits"


def test_counts_are_shared_by_gpus():
    two = llmcalc.vram("70b", bits=4, gpu="2xh100")
    assert two.to_dict()["device"]["count"] == 2
    assert two["weights"].bytes == 17_500_000_000
    kept = [kept for _, kept, _ in llmcalc.memory.spans.near(70 * 10**9, llmcalc.catalog.Catalog())]
    assert two.range_bytes[1] - two["weights"].bytes == -(-max(kept) // 2) + 3 * GIB // 2


def test_replicas_share_the_sequences():
    one = llmcalc.vram("llama-3.1-8b", sequences=8)
    four = llmcalc.vram("llama-3.1-8b", sequences=32, dp=4, gpu="4xh100")
    assert four["kv_cache"].bytes == one["kv_cache"].bytes
    assert four.capacity.max_concurrency % 4 == 0


def test_memory_that_does_not_grow_has_no_longest_context():
    report = llmcalc.vram("mamba2-2.7b", gpu="rtx-4090")
    assert report.capacity.max_context is None
    assert "any" in report.to_text()


def test_ranges_are_arrays():
    assert len(llmcalc.vram("llama-3.1-8b", context=range(1, 5)).total_bytes) == 4


def test_an_encoder_of_no_fixed_length_reads_the_context():
    report = llmcalc.vram("t5-base", context=512, dtype="bf16")
    assert report["kv_cache"].grade == "assumed"
    assert any("--encoder-tokens" in warning for warning in report.warnings)
    given = llmcalc.vram("t5-base", context=512, dtype="bf16", encoder_tokens=512)
    assert given["kv_cache"].grade == "exact"
    assert given["kv_cache"].bytes == report["kv_cache"].bytes == 2 * 12 * 2 * 12 * 64 * 512 * 2


@pytest.mark.parametrize("keywords", [{"image_tokens": 0}, {"images": 0}, {"images": "0"}])
def test_text_alone(keywords):
    """Llama 3.2 Vision without a picture: its 32 layers of self-attention."""
    report = llmcalc.vram("llama-3.2-11b-vision", context=1000, **keywords)
    assert report["kv_cache"].bytes == 32 * 2 * 8 * 128 * 1000 * 2


def test_an_engine_refuses_formats_that_it_does_not_keep():
    with pytest.raises(InputError, match="q8_0") as caught:
        llmcalc.vram("llama-3.1-8b", engine="transformers", kv_dtype="q8_0")
    assert "bf16" in caught.value.remedy


@pytest.mark.parametrize("kv", ["bf16", "q8_0", "kivi-4bit", "kivi-2bit", "quantized-int4", "quantized-int2"])
@pytest.mark.parametrize("name", ["deepseek-v4-flash", "t5-large", "gemma-3-1b"])
@pytest.mark.parametrize("room", [0.05, 0.7, 3])
def test_the_longest_context_fits_and_one_more_does_not(name, kv, room):
    weights = llmcalc.vram(name, quant="none", context=1)["weights"].bytes
    size = f"{weights + GIB + int(room * GIB)}B"
    asked = {"quant": "none", "kv_dtype": kv, "gpu": size, "sequences": 3, "allow_overlong": True}
    longest = llmcalc.vram(name, context=1000, **asked).capacity.max_context
    assert longest > 0
    at, over = (llmcalc.vram(name, context=longest + more, **asked) for more in (0, 1))
    assert at.headroom_bytes >= 0
    assert over.headroom_bytes < 0 or longest == llmcalc.model(name).context
    assert over["kv_cache"].bytes - at["kv_cache"].bytes == 3 * at.capacity.kv_bytes_per_token
