"""FSDP and DDP: what PyTorch's own tools saw, properties of shards, published peaks, wrong options."""

import json
import math
from pathlib import Path

import pytest

import llmcalc
from llmcalc.memory.training.parallel.fsdp import FullyShard

DATA = Path(__file__).parent / "data"
PRECISION = {("fp32", "bf16"): "bf16-mixed", ("fp32", None): "fp32", ("bf16", None): "bf16"}
PHASES = {"forward": ("forward",), "backward": ("loss", "backward"), "step": ("step",)}


def lines(name):
    return [json.loads(line) for line in (DATA / name).read_text().splitlines()]


def options(row):
    """The keywords of a run of the tracker."""
    made = {
        "precision": PRECISION[row["dtype"], row["parameter"]], "micro_batch": row["batch"],
        "seq_len": row["seq"], "dp": row["world"], "fsdp": 2, "attention": row["attention"],
        "metric": "memtracker", "padded": row["masked"], "optimizer": row["optimizer"],
        "recompute": "full" if row["checkpointing"] else "none", "grad_accum": row["micro_batches"],
        "reshard_after_forward": row["reshard"], "shard_degree": row["mesh"][-1],
        "fsdp_units": row["units"], "grad_sync": "last" if row["no_sync"] else "each",
        "keep_logits": row["keep_output"],
    }  # fmt: skip
    if row["reduce"]:
        made["reduce_dtype"] = row["reduce"]
    return made


def situations(monkeypatch):
    """Everything that FSDP tells of moments from now on."""
    found, own = [], FullyShard._told

    def told(self, situation):
        found.append(situation)
        return own(self, situation)

    monkeypatch.setattr(FullyShard, "_told", told)
    return found


def local(row):
    """Elements of all tensors that are really on the rank, padding left out."""
    ranks, rank = row["mesh"][-1], row["rank"] % row["mesh"][-1]
    layers = {"layer": row["config"]["num_hidden_layers"]}
    total = 0
    for unit, shapes in row["unit_shapes"].items():
        for first, *rest in shapes:
            each = math.ceil(first / ranks)
            total += layers.get(unit, 1) * max(0, min(each, first - rank * each)) * math.prod(rest)
    return total


ROWS = lines("fsdp_peaks.jsonl")


@pytest.mark.parametrize("row", ROWS, ids=range(len(ROWS)))
def test_fsdp2_holds_what_pytorchs_tracker_saw(row, monkeypatch):
    seen_by_us = situations(monkeypatch)
    report = llmcalc.train(row["config"], **options(row))
    kind = 2 if row["dtype"] == "bf16" else 4
    for phase, seen in row["phases"].items():
        name, _, turn = phase.partition(" ")
        if turn and int(turn) < row["micro_batches"]:
            continue  # a step's last micro-batch holds most
        moments = [one for one in report.timeline.moments if one.phase in PHASES[name]]
        worst = max(moments, key=lambda one: one.total)
        assert worst.held["weights"] == seen["SHARDED_PARAM"]
        if name == "step":
            continue
        scalars = 4 * row["tensors"] if row["optimizer"].startswith("adamw") else 0
        states = (seen["OPT"] - scalars) // (2 if scalars else 1)
        assert states == local(row) * kind
        rest = seen["Total"] - seen["BUFFER"] - seen["INP"] - seen["OPT"]
        if row["keep_output"] and name == "forward":  # the step before has left its logits
            rest -= row["batch"] * row["seq"] * row["config"]["vocab_size"] * 2 + 4
        found = worst.total - worst.held["optimizer"]
        assert math.isclose(found, rest, rel_tol=6e-3), (phase, worst.where, seen["at"])
        unit = worst.where.removeprefix("gather of ").removeprefix("sum of ")
        elsewhere = unit.startswith("layer ") and not seen["at"]["unit"].endswith(f".{unit[6:]}")
        if row["rank"] or elsewhere:
            continue
        same = [
            one for one in seen_by_us
            if one.shards + one.whole + one.own == worst.held["gradients"]
            and one.gathered == worst.held["gathered"]
        ]  # fmt: skip
        kinds = ("UNSHARDED_PARAM", "ALL_GATHER", "SHARDED_GRAD")
        told = {(one.unsharded, one.all_gather, one.shards) for one in same}
        expected = tuple(seen.get(one, 0) for one in kinds)
        if row["no_sync"] and row["reduce"] == "bf16":  # the tracker calls whole gradients by that name
            continue
        if row["config"]["model_type"] == "gemma2":  # two moments of nearly the same size
            continue
        assert expected in told, (phase, worst.where, seen["at"])


def test_optimizer_states_are_those_of_the_first_rank():
    for row in ROWS:
        if row["rank"] or not row["optimizer"].startswith("adamw"):
            continue
        report = llmcalc.train(row["config"], **options(row))
        held = report.timeline.moments[-1].held["optimizer"]
        seen = row["phases"]["step"]["OPT"] - 4 * row["tensors"]
        assert math.isclose(held, seen, rel_tol=0.02), row["config"]


def test_published_runs_of_the_tracker():
    for row in lines("fsdp_published.jsonl"):
        twin = next(
            one for one in ROWS
            if one["keep_output"] and one["reshard"] == row["reshard_after_forward"]
            and one["real"] == (row["tensors"] == "real")
        )  # fmt: skip
        seen = {name: size for name, size in twin["peak_bytes"].items() if name != "at"}
        assert seen == {name: size for name, size in row["peak_bytes"].items() if size}


REPLICATED = [row for row in lines("replicated_peaks.jsonl") if row["ddp"] and not row["zero"]]


@pytest.mark.parametrize("row", REPLICATED, ids=range(len(REPLICATED)))
def test_ddp_holds_what_pytorchs_tracker_saw(row):
    precision = "bf16-mixed" if row["autocast"] else {"fp32": "fp32", "bf16": "bf16"}[row["dtype"]]
    report = llmcalc.train(
        row["config"], precision=precision, micro_batch=row["batch"], seq_len=row["seq"], dp=row["world"],
        attention="sdpa", padded=False, metric="memtracker", optimizer=row["optimizer"], keep_logits=False,
        grad_accum=row["micro_batches"], bucket_views=row["views"],
        grad_sync="last" if row["no_sync"] else "each",
    )  # fmt: skip
    for phase, seen in row["phases"].items():
        name, _, turn = phase.partition(" ")
        if turn and int(turn) < row["micro_batches"]:
            continue
        moments = [one for one in report.timeline.moments if one.phase in PHASES[name]]
        worst = max(moments, key=lambda one: one.total)
        assert math.isclose(worst.total, seen["Total"], rel_tol=0.012), phase
    buckets = row["parameters"] * (2 if row["dtype"] == "bf16" else 4)
    assert (buckets in report.timeline.standing.values()) == (not row["views"] or row["no_sync"])


# -- properties ----------------------------------------------------------------------------------

SMALL = {
    "model_type": "llama", "hidden_size": 256, "num_attention_heads": 8, "num_key_value_heads": 4,
    "vocab_size": 1000, "intermediate_size": 771, "num_hidden_layers": 3, "tie_word_embeddings": False,
}  # fmt: skip


def test_fsdp_on_one_rank_is_no_fsdp():
    asked = {"seq_len": 512, "precision": "bf16", "metric": "allocated"}
    plain = llmcalc.train("llama-3.2-1b", **asked)
    assert llmcalc.train("llama-3.2-1b", fsdp=2, dp=1, **asked).total_bytes == plain.total_bytes


@pytest.mark.parametrize("ranks", [2, 3, 7, 16])
@pytest.mark.parametrize("degree", [None, 1])
def test_shards_of_all_ranks_are_the_whole_and_padding(ranks, degree):
    whole = llmcalc.train(SMALL, seq_len=64, metric="allocated")["weights"].bytes
    report = llmcalc.train(SMALL, seq_len=64, metric="allocated", dp=ranks, fsdp=2, shard_degree=degree)
    by = degree or ranks
    layer = [*(2 * [(256, 256)]), *(2 * [(128, 256)]), *(2 * [(771, 256)]), (256, 771), *(2 * [(256, 1)])]
    shapes = [(1000, 256), (1000, 256), (256, 1), *(3 * layer)]
    padding = sum((-first % by) * rest for first, rest in shapes) * 4
    assert by * report["weights"].bytes == whole + padding


@pytest.mark.parametrize("version", [1, 2])
def test_more_ranks_hold_less_and_letting_go_saves(version):
    def total(**keywords):
        return llmcalc.train(
            "llama-3.2-1b", seq_len=1024, metric="allocated", fsdp=version, **keywords
        ).total_bytes

    assert total(dp=2) > total(dp=8) > total(dp=64)
    assert total(dp=8, reshard_after_forward=False) >= total(dp=8)
    assert total(dp=8, shard_degree=4) > total(dp=8)
    assert total(dp=8, grad_accum=4, grad_sync="last") > total(dp=8, grad_accum=4) >= total(dp=8)
    assert total(dp=8, offload="params") < total(dp=8)


def test_metrics_count_more_and_more():
    asked = {"seq_len": 1024, "dp": 8, "fsdp": 2}
    totals = [
        llmcalc.train("llama-3.2-1b", metric=metric, **asked).total_bytes
        for metric in ("memtracker", "allocated", "reserved", "nvidia-smi")
    ]
    assert totals == sorted(totals)


def test_arrays_are_as_single_values():
    import numpy as np

    asked = {"dp": 8, "fsdp": 2, "precision": "bf16", "metric": "allocated"}
    report = llmcalc.train("llama-3.2-1b", seq_len=np.array([128, 4096]), **asked)
    for place, seq in enumerate((128, 4096)):
        one = llmcalc.train("llama-3.2-1b", seq_len=seq, **asked)
        assert report.total_bytes[place] == one.total_bytes


def test_ranks_of_adapters_as_an_array():
    import numpy as np

    asked = {"dp": 8, "fsdp": 2, "method": "lora", "seq_len": 512, "metric": "allocated"}
    report = llmcalc.train("llama-3.2-1b", lora_r=np.array([8, 64]), **asked)
    for place, rank in enumerate((8, 64)):
        assert report.total_bytes[place] == llmcalc.train("llama-3.2-1b", lora_r=rank, **asked).total_bytes


@pytest.mark.parametrize(("seq", "peak"), [(512, 8.28), (2048, 9.16)])
def test_flat_parameters_as_fsdp_qlora_printed_what_was_allocated(seq, peak):
    """LoRA of Llama-2-7B on two cards: benchmarks_03_2024.md of AnswerDotAI/fsdp_qlora."""
    found = llmcalc.train(
        "llama-2-7b", method="lora", precision="bf16", recompute="full", attention="sdpa", fsdp=1, dp=2,
        lora_r=64, lora_targets="q,k,v,up_proj,down_proj,gate_proj", lora_dropout=0.1, adapter_dtype="bf16",
        seq_len=seq, metric="allocated",
    )  # fmt: skip
    assert found.total_bytes / 2**30 == pytest.approx(peak, rel=0.01)


def test_packed_weights_leave_their_scales_on_every_rank():
    asked = {"method": "qlora", "precision": "bf16", "seq_len": 512, "fsdp": 1, "metric": "allocated"}
    two, four = (llmcalc.train("llama-2-7b", dp=dp, **asked)["weights"].bytes for dp in (2, 4))
    whole = llmcalc.train("llama-2-7b", method="qlora", precision="bf16", seq_len=512)["weights"].bytes
    assert 2 * (two - four) < whole / 2  # else twice the difference would be half of all
    away = llmcalc.train("llama-2-7b", dp=2, offload="params", **asked)
    assert away.timeline.standing["scales of packed weights"] > 6.4e9 / 64


def test_torchtitan_on_8_and_on_128_gpus():
    """82.4 and 67.0 GiB reserved of Llama-3.1-8B: torchtitan's table of December 2024."""
    asked = {"like": "torchtitan", "micro_batch": 2, "metric": "reserved"}
    eight, more = (llmcalc.train("llama-3.1-8b", dp=dp, **asked).total_bytes / 2**30 for dp in (8, 128))
    assert eight == pytest.approx(82.4, rel=0.02)
    assert more == pytest.approx(67.0, rel=0.02)


def test_what_the_compiler_drops_of_torchtitans_selection():
    asked = {"like": "torchtitan", "micro_batch": 2, "dp": 8}
    plain = llmcalc.train("llama-3.1-8b", **asked)["activations"].bytes
    other = llmcalc.train("llama-3.1-8b", compile=True, **asked)["activations"].bytes
    assert plain - other == 32 * 2 * 8192 * 4096 * 2  # what the last matrix of each layer makes


# -- the allocator -------------------------------------------------------------------------------


def test_a_card_without_room_gives_free_segments_back():
    from llmcalc.memory.training.allocator import Card, Pool
    from llmcalc.units import MIB

    card = Card(100 * MIB)
    pool = Pool(card=card)
    other = pool.another()
    pool.take("one", 60 * MIB)
    pool.drop("one")
    other.take("two", 30 * MIB)
    pool.take("three", 64 * MIB)
    assert (card.reserved, card.most) == (94 * MIB, 94 * MIB)
    pool.take("four", 600)
    pool.take("five", 600)
    assert pool.reserved == 66 * MIB


# -- bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keywords", "words"),
    [
        ({"fsdp": 3}, "--fsdp 3"),
        ({"fsdp": 2, "shard_degree": 3}, "does not divide the 8 ranks"),
        ({"shard_degree": 4}, "is for FSDP"),
        ({"fsdp": 2, "reduce_dtype": "int8"}, "--reduce-dtype"),
        ({"fsdp": 2, "reshard_after_forward": 3}, "does not divide 8"),
        ({"fsdp": 2, "precision": "megatron-bf16"}, "which FSDP has not"),
        ({"fsdp": 2, "bucket_views": True}, "every rank holds whole"),
        ({"fsdp": 2, "fsdp_units": "blocks"}, "--fsdp-units"),
        ({"fsdp": 2, "grad_sync": "never", "grad_accum": 2}, "--grad-sync"),
    ],
)
def test_mistakes_are_told(keywords, words):
    with pytest.raises(llmcalc.LlmcalcError) as caught:
        llmcalc.train("llama-3.2-1b", seq_len=512, dp=8, **keywords)
    assert words in str(caught.value)
