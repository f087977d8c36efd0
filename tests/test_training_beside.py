"""Frozen models beside the trained one on several GPUs: references for preferences, teachers."""

import math

import pytest

import llmcalc
from llmcalc.errors import InputError

MODEL = "llama-3.2-1b"
SHORT = {"seq_len": 512, "precision": "bf16"}


def frozen(report, label="reference model"):
    """Bytes of a frozen model on one rank."""
    return next((p.bytes for p in report["weights"].items if p.name == f"{label}, frozen"), 0)


def passes(report):
    """Moments of the frozen model."""
    return [moment for moment in report.timeline.moments if moment.where.endswith("'s forward")]


@pytest.mark.parametrize(
    ("layout", "among"),
    [
        ({"dp": 8}, 1), ({"dp": 8, "zero": 1}, 1), ({"dp": 8, "zero": 2}, 1), ({"dp": 8, "zero": 3}, 8),
        ({"dp": 8, "fsdp": 1}, 8), ({"dp": 8, "fsdp": 2}, 8), ({"dp": 8, "fsdp": 2, "shard_degree": 2}, 2),
        ({"dp": 4, "cp": 2, "fsdp": 2}, 8),
    ],
)  # fmt: skip
def test_replicas_share_it_where_they_share_weights(layout, among):
    own = dict(SHORT, precision="deepspeed-bf16") if "zero" in layout else SHORT
    report = llmcalc.train(MODEL, **own, **layout, reference="same")
    assert frozen(report) == 2 * math.ceil(llmcalc.model(MODEL).params / among)
    (moment,) = passes(report)
    assert (moment.held["gathered"] > 0) == (among > 1)
    plain = llmcalc.train(MODEL, **own, **layout, micro_batch=2)
    assert report["activations"].bytes == plain["activations"].bytes


def test_tensor_ranks_and_stages_hold_parts():
    whole = frozen(llmcalc.train(MODEL, **SHORT, dp=2, teacher="llama-3.2-3b"), "teacher")
    half = frozen(llmcalc.train(MODEL, **SHORT, tp=2, teacher="llama-3.2-3b"), "teacher")
    assert whole / 2 < half < 0.51 * whole
    report = llmcalc.train(MODEL, **SHORT, pp=2, grad_accum=2, teacher="llama-3.2-3b")
    parts = [one.weights["teacher, frozen"] for _, one in report.timeline.ranks]
    table = 128256 * 3072 * 2  # a tied one is on both ends
    assert sum(parts) == whole + table
    first, last = (passes_of(one) for _, one in report.timeline.ranks)
    assert first.held["buffers"] < last.held["buffers"]  # where the logits are


def passes_of(estimate):
    return next(moment for moment in estimate.moments if moment.where.endswith("'s forward"))


def test_experts_are_shared_too():
    made = llmcalc.train("mixtral-8x7b", **SHORT, dp=8, ep=8, fsdp=2, reference="same")
    inventory = llmcalc.model("mixtral-8x7b")
    assert frozen(made) == pytest.approx(2 * inventory.params / 8, rel=1e-6)


def test_adapters_share_the_weights():
    plain = llmcalc.train(MODEL, seq_len=512, method="lora", dp=8, fsdp=2)
    made = llmcalc.train(MODEL, seq_len=512, method="lora", dp=8, fsdp=2, reference="same")
    assert made["weights"].bytes == plain["weights"].bytes
    assert passes(made)


def test_offloaded_it_lies_on_the_host():
    for way in ({"zero": 3, "offload": "params,optimizer"}, {"fsdp": 2, "offload": "params"}):
        own = {"seq_len": 512, "dp": 8, **way}
        plain, made = llmcalc.train(MODEL, **own), llmcalc.train(MODEL, **own, teacher="llama-3.2-3b")
        part = 2 * math.ceil(llmcalc.model("llama-3.2-3b").params / 8)
        assert made["host_weights"].bytes - plain["host_weights"].bytes == 8 * part  # of a machine of 8
        assert made["weights"].bytes == plain["weights"].bytes


def test_one_replica_is_one_gpu():
    one = llmcalc.train(MODEL, **SHORT, reference="same", metric="allocated")
    made = llmcalc.train(MODEL, **SHORT, reference="same", metric="allocated", tp=1, recompute="first-1")
    assert frozen(made) == frozen(one)


def test_a_layout_that_it_does_not_allow_is_refused():
    with pytest.raises(InputError, match="teacher: --tp 4 does not divide 14 attention heads"):
        llmcalc.train("llama-3.1-8b", tp=4, teacher="qwen2.5-0.5b", **SHORT)


def test_offloaded_shards_take_no_step_back():
    report = llmcalc.train(MODEL, seq_len=512, dp=8, fsdp=2, offload="params")
    assert all(part.bytes >= 0 for part in report["optimizer"].items)


@pytest.mark.parametrize("model", ["gemma-2-9b", "llama-3.2-1b"])
@pytest.mark.parametrize("method", ["full", "lora"])
def test_compiled_layers_keep_what_a_norm_reads(model, method):
    made = llmcalc.train(model, seq_len=512, recompute="ops", compile=True, method=method)
    plain = llmcalc.train(model, seq_len=512, recompute="ops", method=method)
    assert 0 < made["activations"].bytes <= plain["activations"].bytes


@pytest.mark.parametrize(
    ("model", "asked", "words"),
    [
        (MODEL, {"gpu": "8xh100", "tp": 3}, "--tp 3 does not divide 32 attention heads"),
        ("gpt2", {"tp": 4}, "--tp 4 does not divide the vocabulary of gpt2, 50,257"),
        (MODEL, {"dp": 4, "capacity_factor": 1.5}, "--capacity-factor would change nothing"),
        (MODEL, {"dp": 4, "imbalance": 2}, "--imbalance would change nothing"),
        (MODEL, {"dp": 4, "etp": 2}, "--etp would change nothing"),
        (MODEL, {"dp": 4, "cp_comm": "a2a"}, "--cp-comm would change nothing"),
        (MODEL, {"dp": 4, "sequence_parallel": True}, "--sequence-parallel would change nothing"),
        (MODEL, {"dp": 4, "zero": 2, "grad_sync": "each"}, "DeepSpeed decides"),
        (MODEL, {"reduce_dtype": "bf16"}, "there is one GPU"),
        (MODEL, {"grad_sync": "last"}, "there is one GPU"),
        (MODEL, {"global_batch": 7, "micro_batch": 2}, "contradicts micro-batch 2"),
    ],
)
def test_what_would_change_nothing_is_refused(model, asked, words):
    with pytest.raises(InputError, match=words):
        llmcalc.train(model, seq_len=512, **asked)


def test_a_global_batch_on_one_gpu_sets_the_micro_batches():
    made = llmcalc.train(MODEL, seq_len=512, micro_batch=2, global_batch=8)
    assert made.total_bytes == llmcalc.train(MODEL, seq_len=512, micro_batch=2, grad_accum=4).total_bytes


@pytest.mark.parametrize("layout", [{"zero": 2}, {"zero": 3}, {"fsdp": 2}, {}])
def test_arrays_are_what_single_numbers_are(layout):
    np = pytest.importorskip("numpy")
    own = {"seq_len": 512, "dp": 8, "metric": "allocated", **layout}
    many = llmcalc.train(MODEL, **own, micro_batch=np.array([1, 2, 3]), reference="same").total_bytes
    assert many.tolist() == [
        llmcalc.train(MODEL, **own, micro_batch=batch, reference="same").total_bytes for batch in (1, 2, 3)
    ]


def test_arrays_of_ranks_do_not_overflow():
    np = pytest.importorskip("numpy")
    own = {"seq_len": 512, "dp": 8, "zero": 3, "method": "lora", "metric": "allocated"}
    many = llmcalc.train("mixtral-8x7b", **own, lora_r=np.array([8, 64])).total_bytes
    single = [llmcalc.train("mixtral-8x7b", **own, lora_r=rank).total_bytes for rank in (8, 64)]
    assert many.tolist() == pytest.approx(single, rel=1e-4)
