"""DeepSpeed: stages of sharing, its files and Accelerate's, the allocator, and the literature."""

import json
import subprocess
import sys

import pytest

import llmcalc
from llmcalc.answer.training.accelerate_file import read_accelerate
from llmcalc.errors import LlmcalcError
from llmcalc.memory.training.allocator import Allocator, Pool
from llmcalc.memory.training.parallel.prefetch import Fetches, run_order, sums, widest_overlap
from llmcalc.memory.training.parallel.zero_settings import ZeroSettings
from llmcalc.units import GIB, MIB

SMALL = {
    "model_type": "llama", "hidden_size": 1024, "num_attention_heads": 16, "num_key_value_heads": 4,
    "intermediate_size": 2816, "vocab_size": 32000, "num_hidden_layers": 8, "max_position_embeddings": 4096,
}  # fmt: skip
MIXED = {"precision": "deepspeed-bf16", "optimizer": "adamw-fused", "metric": "allocated", "seq_len": 512}


def zero(stage, ranks=8, model=SMALL, **keywords):
    return llmcalc.train(model, **{**MIXED, "zero": stage, "dp": ranks} | keywords)


def states(report):
    """Bytes of weights, masters and the optimizer's states before the step."""
    held = next(m.held for m in report.timeline.moments if m.phase == "forward")
    return {name: held[name] for name in ("weights", "master_weights", "optimizer")} | {
        "gradients": report.timeline.states.gradients
    }


def config(**changes):
    return {
        "bf16": {"enabled": True}, "train_micro_batch_size_per_gpu": 1,
        "zero_optimization": {"stage": 3},
    } | changes  # fmt: skip


# -- states --------------------------------------------------------------------------------------


def test_zero_3_on_one_rank_is_zero_0():
    assert states(zero(3, 1)) == states(zero(0, 1))


@pytest.mark.parametrize("ranks", [2, 3, 8, 64])
@pytest.mark.parametrize("stage", [1, 2, 3])
def test_parts_of_all_ranks_are_the_whole_and_what_is_named(stage, ranks):
    """What is cut adds up to the whole, but for tensors kept whole and parts filled up to equal lengths."""
    whole, part = states(zero(0, ranks)), zero(stage, ranks)
    own = states(part)
    params = llmcalc.model(SMALL).params
    cut = {1: ("master_weights", "optimizer"), 2: ("master_weights", "optimizer", "gradients"), 3: tuple(own)}
    tensors = sum(g.count * len(g.tensors) for g in llmcalc.model(SMALL))
    named = dict.fromkeys(own, 0)
    named["weights"] = ranks * part.timeline.weights.get("small tensors, whole on every GPU", 0)
    for name in own:
        if name not in cut[stage]:
            assert own[name] == whole[name]
            continue
        filled = ranks * own[name] - named[name] - whole[name]
        most = {"weights": 2, "gradients": 2, "master_weights": 4, "optimizer": 8}[name]
        assert 0 <= filled <= most * ranks * (tensors + 1), name
    assert whole["master_weights"] == 4 * params
    assert whole["optimizer"] == 8 * params


def test_more_ranks_never_need_more():
    for stage in (1, 2, 3):
        held = [zero(stage, ranks).total_bytes for ranks in (2, 4, 8, 16)]
        assert held == sorted(held, reverse=True)


def test_adapters_are_cut_and_the_frozen_model_with_them_at_stage_3():
    two, three = (zero(stage, 4, method="lora", lora_r=8).timeline.weights for stage in (2, 3))
    frozen = next(label for label in two if label.endswith("frozen"))
    assert three[frozen] == -(-two[frozen] // 4)
    assert sum(two.values()) > sum(three.values())


@pytest.mark.parametrize(("stage", "gigabytes"), [(0, 120), (1, 31.4), (2, 16.6), (3, 1.9)])
def test_states_of_the_papers_model(stage, gigabytes):
    """7.5 B parameters on 64 GPUs: figure 1 of the ZeRO paper."""
    report = llmcalc.train(params="7.5b", zero=stage, dp=64, precision="deepspeed-bf16")
    names = ("weights", "master_weights", "gradients", "optimizer")
    assert round(sum(report[name].bytes for name in names) / 1e9, 1) == gigabytes


def test_a_bare_count_is_not_cut_into_tensors():
    with pytest.raises(LlmcalcError, match="how a bare count is cut is not known"):
        llmcalc.train(params="7.5b", tp=8)


def test_offloaded_weights_come_back_on_one_gpu_too():
    report = zero(3, 1, offload="params,optimizer")
    gathered = max(m.held["gathered"] for m in report.timeline.moments if "gathered" in m.held)
    assert gathered >= 2 * 32000 * 1024


# -- what is whole when --------------------------------------------------------------------------


def test_weights_are_fetched_up_to_the_limit_and_let_go():
    layers = [[[(f"{layer}.a", 40)], [(f"{layer}.b", 60)]] for layer in range(10)]
    settings = ZeroSettings(3)
    settings.max_live, settings.prefetch_bucket, settings.max_reuse = 300, 50, 100
    found = Fetches(run_order([[("e", 100)]], layers, [[("h", 100)]], False), settings)
    assert max(found.most.values()) <= 300 + 100 + 60  # one tensor beyond the limit, and one buffer
    assert found.most["forward", 5] >= 200
    assert sum(size for _, size in found.events) > 0


def test_a_layer_that_is_computed_again_stays_until_its_backward():
    layers = [[[(f"{layer}.a", 40)], [(f"{layer}.b", 60)]] for layer in range(10)]
    settings = ZeroSettings(3)
    settings.prefetch_bucket, settings.max_reuse = 0, 1000
    once, twice = (
        Fetches(run_order([], layers, [], again), settings).most["backward", 2] for again in (False, True)
    )
    assert (once, twice) == (60, 100)


def test_a_bucket_of_one_gradient_is_summed_as_it_is():
    order = [(("backward", layer), 10) for layer in (2, 1, 0)]
    assert sums(order, 5, False) == {}
    assert max(sums(order, 5, True).values()) == 10
    assert max(sums(order, 20, False).values()) == 20


def test_tensors_that_reach_into_a_part_are_counted_whole():
    assert widest_overlap([10, 10, 10, 10], 4) == 10
    assert widest_overlap([40], 4) == 40
    assert widest_overlap([], 4) == 0


def test_buckets_count_elements():
    small, large = (
        zero(3, deepspeed=config(zero_optimization={"stage": 3, "reduce_bucket_size": size}))
        for size in (1_000_000, 500_000_000)
    )
    assert small.timeline.standing["reduce bucket"] == 2_000_000
    assert large.timeline.standing["reduce bucket"] == 1_000_000_000


def test_small_tensors_stay_whole():
    report = zero(
        3, deepspeed=config(zero_optimization={"stage": 3, "stage3_param_persistence_threshold": 2000})
    )
    norms = (2 * 8 + 1) * 1024
    assert report.timeline.weights["small tensors, whole on every GPU"] == 2 * norms


def test_stage_2_sums_gradients_in_one_bucket_or_two():
    def buffers(overlap):
        zero_ = {"stage": 2, "overlap_comm": overlap, "reduce_bucket_size": 100_000_000}
        report = zero(2, deepspeed=config(zero_optimization=zero_))
        return max(m.held["buffers"] for m in report.timeline.moments if m.phase == "backward")

    assert buffers(True) - buffers(False) == 200_000_000


def test_stage_1_in_bf16_with_sums_in_fp32_has_fp32_gradients_all_the_time():
    plain = zero(1)
    wide = zero(1, deepspeed=config(
        zero_optimization={"stage": 1}, data_types={"grad_accum_dtype": "fp32"},
    ))  # fmt: skip
    assert states(wide)["gradients"] == 3 * states(plain)["gradients"]


def test_accumulated_gradients_are_kept_by_their_owner():
    one, more = (zero(2, grad_accum=n) for n in (1, 4))
    held = next(m.held for m in more.timeline.moments if m.phase == "forward")
    assert held["gradients"] == -(-2 * llmcalc.model(SMALL).params // 8)
    assert next(m.held for m in one.timeline.moments if m.phase == "forward")["gradients"] == 0


# -- offloading ----------------------------------------------------------------------------------


def test_the_optimizer_on_the_host_takes_18_bytes_there():
    params = llmcalc.model(SMALL).params
    for stage in (1, 2, 3):
        report = zero(stage, 4, offload="optimizer")
        host = {
            k: v for k, v in report.timeline.host.items() if not k.startswith(("rounding", "gradient buffer"))
        }
        assert sum(host.values()) == pytest.approx(18 * params / 4, rel=1e-3)
        assert states(report)["optimizer"] == states(report)["master_weights"] == 0


def test_pinned_memory_comes_in_powers_of_two():
    pinned, plain = (
        zero(3, 4, deepspeed=config(zero_optimization={
            "stage": 3, "offload_optimizer": {"device": "cpu", "pin_memory": pin},
        })).timeline.host
        for pin in (True, False)
    )  # fmt: skip
    assert pinned["rounding of pinned memory"] > 0
    assert "rounding of pinned memory" not in plain


def test_nvme_holds_the_states_and_the_host_buffers():
    report = zero(3, 4, offload="optimizer,params", offload_to="nvme")
    where = {item.name: item.where for item in report.items}
    assert where["nvme_optimizer"] == where["nvme_weights"] == "disk"
    assert report.timeline.host["buffers to NVMe"] == 4 * 4 * -(-llmcalc.model(SMALL).params // 4)
    assert next(m.held for m in report.timeline.moments if m.phase == "forward")["weights"] < MIB


# -- files ---------------------------------------------------------------------------------------


def test_a_file_says_what_options_say():
    file = {
        "bf16": {"enabled": True}, "optimizer": {"type": "AdamW"}, "train_micro_batch_size_per_gpu": 2,
        "gradient_accumulation_steps": 4, "zero_optimization": {"stage": 2}, "gradient_clipping": 1.0,
    }  # fmt: skip
    told = llmcalc.train(SMALL, deepspeed=file, dp=8, seq_len=512)
    said = llmcalc.train(SMALL, zero=2, micro_batch=2, grad_accum=4, dp=8, seq_len=512)
    assert told.total_bytes == said.total_bytes
    assert told.scenario["micro_batch"] == 2
    assert told.origins["micro_batch"] == "the DeepSpeed settings"


def test_what_is_given_wins_and_is_told():
    report = zero(2, deepspeed=config(), micro_batch=3)
    assert report.scenario["micro_batch"] == 3
    assert report.scenario["zero"] == 2
    assert any("--micro-batch 3 is used" in line for line in report.warnings)
    assert any("--zero 2 is used" in line for line in report.warnings)


def test_auto_follows_the_model_as_in_transformers():
    zero_ = {
        "stage": 3, "reduce_bucket_size": "auto", "stage3_prefetch_bucket_size": "auto",
        "stage3_param_persistence_threshold": "auto",
    }  # fmt: skip
    report = zero(3, deepspeed=config(zero_optimization=zero_))
    assert report.timeline.standing["reduce bucket"] == 2 * 1024 * 1024


def test_auto_precision_follows_the_option():
    file = {"bf16": {"enabled": "auto"}, "fp16": {"enabled": "auto"}, "train_micro_batch_size_per_gpu": 1}
    names = [
        llmcalc.train(SMALL, deepspeed=file, dp=2, seq_len=512, **more).scenario["precision"]
        for more in ({}, {"precision": "deepspeed-fp16"})
    ]
    assert names == ["deepspeed-bf16", "deepspeed-fp16"]


def test_the_batch_of_all_gpus_gives_what_is_not_said():
    file = {"bf16": {"enabled": True}, "train_batch_size": 32, "zero_optimization": {"stage": 1}}
    assert llmcalc.train(SMALL, deepspeed=file, dp=8, seq_len=512).scenario["micro_batch"] == 4
    file["train_micro_batch_size_per_gpu"] = 2
    assert llmcalc.train(SMALL, deepspeed=file, dp=8, seq_len=512).scenario["grad_accum"] == 2


def test_masters_in_16_bit_need_their_states_there_too():
    sixteen = {"enabled": True, "bf16_master_weights_and_grads": True, "bf16_optimizer_states": True}
    report = zero(1, deepspeed=config(bf16=sixteen, zero_optimization={"stage": 1}), precision=None)
    assert states(report)["optimizer"] == -(-4 * llmcalc.model(SMALL).params // 8)
    del sixteen["bf16_optimizer_states"]
    with pytest.raises(LlmcalcError, match="on the host"):
        zero(1, deepspeed=config(bf16=sixteen, zero_optimization={"stage": 1}), precision=None)


def test_accelerate_names_deepspeed():
    report = llmcalc.train(SMALL, seq_len=512, accelerate={
        "distributed_type": "DEEPSPEED", "num_processes": 8, "num_machines": 1, "mixed_precision": "bf16",
        "deepspeed_config": {
            "zero_stage": 3, "offload_optimizer_device": "cpu", "offload_param_device": "none",
            "gradient_accumulation_steps": 2, "zero3_init_flag": True,
        },
    })  # fmt: skip
    scenario = report.scenario
    assert (scenario["sharding"], scenario["dp"], scenario["grad_accum"]) == ("ZeRO-3", 8, 2)
    assert (scenario["precision"], scenario["offload"]) == ("deepspeed-bf16", "optimizer")


def test_a_model_that_is_whole_before_it_is_cut():
    file = {
        "distributed_type": "DEEPSPEED", "num_processes": 8, "mixed_precision": "bf16",
        "deepspeed_config": {"zero_stage": 3, "zero3_init_flag": False},
    }  # fmt: skip
    report = llmcalc.train(SMALL, seq_len=512, accelerate=file)
    load = next(m.held for m in report.timeline.moments if m.phase == "load")
    whole, widest = 2 * llmcalc.model(SMALL).params, 2 * 32000 * 1024
    assert load["weights"] + load["buffers"] == whole + widest // 8
    said = zero(3, 8, zero_init="off")
    assert next(m.held for m in said.timeline.moments if m.phase == "load") == load


def test_accelerate_names_a_file_of_deepspeed(tmp_path):
    (tmp_path / "ds.json").write_text(json.dumps(config()))
    file = tmp_path / "accelerate.yaml"
    file.write_text(
        "distributed_type: DEEPSPEED\nnum_processes: 4\nmixed_precision: bf16\n"
        "deepspeed_config:\n  deepspeed_config_file: ds.json\n"
    )
    report = llmcalc.train(SMALL, seq_len=512, accelerate=str(file))
    assert report.scenario["sharding"] == "ZeRO-3"
    assert report.scenario["dp"] == 4


def test_accelerate_names_megatron():
    report = llmcalc.train(SMALL, seq_len=512, accelerate={
        "distributed_type": "MEGATRON_LM", "num_processes": 8, "mixed_precision": "bf16",
        "megatron_lm_config": {
            "megatron_lm_tp_degree": 2, "megatron_lm_pp_degree": 2, "megatron_lm_num_micro_batches": 2,
            "megatron_lm_sequence_parallelism": True, "megatron_lm_use_distributed_optimizer": True,
        },
    })  # fmt: skip
    scenario = report.scenario
    assert (scenario["tp"], scenario["pp"], scenario["dp"]) == (2, 2, 2)
    assert scenario["recipe"] == "megatron"
    assert scenario["sharding"] == "distributed optimizer"


@pytest.mark.parametrize(
    ("config_", "values"),
    [
        ({"fsdp_version": 2, "fsdp_reshard_after_forward": True, "fsdp_offload_params": True},
         {"fsdp": "2", "reshard_after_forward": True, "offload": "params,gradients,optimizer"}),
        ({"fsdp_version": 2, "fsdp_reshard_after_forward": False, "fsdp_activation_checkpointing": True},
         {"fsdp": "2", "reshard_after_forward": False, "recompute": "full"}),
        ({"fsdp_sharding_strategy": "SHARD_GRAD_OP"}, {"fsdp": "1", "reshard_after_forward": False}),
        ({"fsdp_sharding_strategy": 1, "fsdp_auto_wrap_policy": "TRANSFORMER_BASED_WRAP"},
         {"fsdp": "1", "reshard_after_forward": True}),
        ({"fsdp_sharding_strategy": "HYBRID_SHARD"},
         {"fsdp": "1", "reshard_after_forward": True, "shard_degree": 8}),
        ({"fsdp_sharding_strategy": "NO_SHARD"}, {"fsdp": "off"}),
        ({"fsdp_reshard_after_forward": "FULL_SHARD"}, {"fsdp": "1", "reshard_after_forward": True}),
    ],
)  # fmt: skip
def test_accelerate_names_fsdp(config_, values):
    file = {
        "distributed_type": "FSDP", "num_processes": 16, "num_machines": 2, "mixed_precision": "bf16",
        "dynamo_config": {"dynamo_backend": "INDUCTOR"}, "fsdp_config": config_,
    }  # fmt: skip
    told = read_accelerate(file, {}, llmcalc.model(SMALL))
    sums = {} if values["fsdp"] == "off" else {"grad_sync": "last", "reduce_dtype": "bf16"}
    assert told.values == {"precision": "bf16-mixed", "compile": "on"} | sums | values
    assert told.gpus == 16


def test_accelerate_names_degrees():
    file = {
        "distributed_type": "FSDP", "parallelism_config": {
            "parallelism_config_dp_replicate_size": 2, "parallelism_config_dp_shard_size": 4,
            "parallelism_config_tp_size": 2,
        },
    }  # fmt: skip
    told = read_accelerate(file, {}, llmcalc.model(SMALL))
    assert (told.gpus, told.values["tp"], told.values["shard_degree"]) == (16, 2, 4)


def test_a_trainers_precision_fills_auto():
    file = {
        "bf16": {"enabled": "auto"},
        "train_micro_batch_size_per_gpu": 1,
        "zero_optimization": {"stage": 2},
    }
    report = llmcalc.train(SMALL, deepspeed=file, dp=2, seq_len=512, precision="bf16-mixed")
    assert report.scenario["precision"] == "deepspeed-bf16"
    assert not any("--precision" in line for line in report.warnings)


def test_a_second_copy_of_the_weights_within_a_machine():
    file = config(zero_optimization={"stage": 3, "zero_hpz_partition_size": 4})
    report = zero(3, 8, deepspeed=file)
    params = llmcalc.model(SMALL).params
    assert report.timeline.standing["second copy of the weights (hpZ)"] == -(-2 * params // 4)
    with pytest.raises(LlmcalcError, match="does not divide"):
        zero(3, 6, deepspeed=file)


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ({"zero_optimisation": {}}, "Did you mean zero_optimization"),
        ({"zero_optimization": {"stage": 3, "overlap_com": True}}, "Did you mean overlap_comm"),
        ({"zero_optimization": {"stage": 4}}, "Use 0, 1, 2 or 3"),
        ({"zero_optimization": {"stage": 3, "stage3_max_live_parameters": "auto"}}, "Write a number"),
        ({"zero_optimization": {"stage": 3, "reduce_bucket_size": -1}}, "no whole number"),
        ({"zero_optimization": {"stage": 3, "offload_optimizer": {"device": "disk"}}}, "Use none, cpu, nvme"),
        ({"zero_optimization": {"stage": 2, "offload_param": {"device": "cpu"}}}, "Use --zero 3"),
        ({"zero_optimization": {"stage": 0, "offload_optimizer": {"device": "cpu"}}}, "Use --zero 1, 2 or 3"),
        ({"fp16": {"enabled": True}}, "turns on bf16 and fp16"),
        ({"optimizer": {"type": "AdamX"}}, "Did you mean Adam"),
        ({"optimizer": {"type": "OneBitAdam"}}, "states are not known"),
        ({"train_batch_size": 7}, "contradicts"),
        ({"train_batch_size": 8, "gradient_accumulation_steps": 2}, "contradicts"),
        ({"elasticity": {"enabled": True}}, "not modelled"),
        ({"bf16": 3}, "no mapping"),
    ],
)
def test_a_wrong_file_is_refused(file, words):
    with pytest.raises(LlmcalcError) as caught:
        llmcalc.train(SMALL, seq_len=512, dp=8, deepspeed=config() | file)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ({}, "no distributed_type"),
        ({"distributed_type": "DEEPSPED"}, "Did you mean deepspeed"),
        ({"distributed_type": "FSDP", "fsdp_confg": {}}, "Did you mean fsdp_config"),
        ({"distributed_type": "MULTI_CPU"}, "no GPUs"),
        ({"distributed_type": "NO", "num_processes": 4}, "distributed_type NO and 4 processes"),
        ({"distributed_type": "MULTI_GPU", "num_processes": 7, "num_machines": 2}, "no multiple"),
        ({"distributed_type": "DEEPSPEED",
          "deepspeed_config": {"zero_stage": 2, "deepspeed_config_file": "x"}}, "Keep the file alone"),
        ({"distributed_type": "FSDP",
          "fsdp_config": {"fsdp_version": 2, "fsdp_sharding_strategy": "FULL_SHARD"}},
         "fsdp_reshard_after_forward"),
        ({"distributed_type": "FSDP", "num_processes": 4,
          "parallelism_config": {"parallelism_config_tp_size": 3}}, "num_processes says 4"),
    ],
)  # fmt: skip
def test_a_wrong_accelerate_file_is_refused(file, words):
    with pytest.raises(LlmcalcError) as caught:
        llmcalc.train(SMALL, seq_len=512, accelerate=file)
    assert words in str(caught.value)


# -- what does not go together -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keywords", "words"),
    [
        ({"zero": 3, "pp": 2, "dp": 4}, "Use --zero 1, or --pp 1"),
        ({"zero": 2, "pp": 2, "dp": 4}, "Use --zero 1, or --pp 1"),
        ({"zero": 4, "dp": 4}, "--zero '4' is not known"),
        ({"zero": 2, "dp": 4, "precision": "bf16"}, "Use --precision deepspeed-bf16"),
        ({"zero": 2, "dp": 4, "optimizer": "adafactor"}, "needs whole matrices"),
        ({"zero": 2, "dp": 4, "optimizer_in_backward": True}, "not in the backward pass"),
        ({"zero": 2, "dp": 4, "offload": "params"}, "Use --zero 3"),
        ({"zero": 2, "dp": 4, "offload": "gradients"}, "Use --offload optimizer"),
        ({"zero": 2, "dp": 4, "offload": "optimizer", "offload_to": "nvme"}, "Use --zero 3"),
        ({"zero": 3, "dp": 4, "offload_to": "nvme"}, "nothing is offloaded"),
        ({"offload": "optimizer", "offload_to": "nvme"}, "is DeepSpeed's"),
        ({"zero": 3, "dp": 4, "fsdp": "2"}, "Keep one of them"),
        ({"deepspeed": {}, "accelerate": {}}, "Keep --accelerate"),
        ({"zero_init": False}, "is about ZeRO-3"),
        ({"zero": 3, "dp": 4, "shard_degree": 2}, "--shard-degree is FSDP's"),
        ({"zero": 3, "dp": 4, "reduce_dtype": "fp64"}, "Use fp32, bf16 or fp16"),
    ],
)
def test_what_does_not_go_together_is_refused(keywords, words):
    with pytest.raises(LlmcalcError) as caught:
        llmcalc.train(SMALL, seq_len=512, **keywords)
    assert words in str(caught.value)


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_metrics_count_more_and_more(stage):
    totals = [zero(stage, metric=name).total_bytes for name in ("allocated", "reserved", "nvidia-smi")]
    assert totals == sorted(totals)


# -- the allocator -------------------------------------------------------------------------------


def test_free_neighbours_become_one():
    pool = Allocator()
    whole = pool.take(40 * MIB)
    pool.free(whole)
    a, b = pool.take(20 * MIB), pool.take(20 * MIB)
    pool.free(a)
    pool.free(b)
    pool.take(40 * MIB)
    assert pool.reserved == 40 * MIB


def test_segments_are_those_of_pytorch():
    assert [_reserved(size) for size in (1, MIB, MIB + 1, 9 * MIB, 10 * MIB, 11 * MIB)] == [
        2 * MIB, 2 * MIB, 20 * MIB, 20 * MIB, 10 * MIB, 12 * MIB,
    ]  # fmt: skip


def _reserved(size):
    pool = Allocator()
    pool.take(size)
    return pool.reserved


def test_segments_that_grow_leave_no_pieces():
    def play(expandable):
        pool = Pool(expandable)
        for size in (60, 40, 20):
            pool.take("first", size * MIB)
            pool.drop("first")
        for number in range(6):
            pool.take(number, 35 * MIB)
        return pool.reserved

    assert play(True) <= 220 * MIB < play(False)


def test_what_is_reserved_is_never_less_than_what_is_in_use():
    pool, blocks = Allocator(), []
    for size in (3, 70, 11, 200, 5, 33, 64, 1, 90):
        blocks.append(pool.take(size * MIB))
        if len(blocks) % 3 == 0:
            pool.free(blocks.pop(0))
        assert pool.reserved >= pool.allocated


# -- the literature ------------------------------------------------------------------------------


def test_tokens_cost_what_a_published_sweep_found():
    """0.00043 GiB a token: Llama-3.1-8B, ZeRO-3, Adam on the host, checkpoints, Liger, 8 GPUs."""
    common = {
        "zero": 3, "gpu": "8xh200", "offload": "optimizer", "recompute": "full", "loss": "fused",
        "recipe": "liger", "metric": "reserved",
    }  # fmt: skip
    short, long = (
        llmcalc.train("llama-3.1-8b", seq_len=n, **common).total_bytes / GIB for n in (8192, 131072)
    )
    assert (long - short) / (131072 - 8192) == pytest.approx(0.00043, rel=0.05)


def test_the_third_flash_attention_sums_shared_keys_once():
    """hopper/flash_api.cpp: fp32 sums of 8 key heads instead of 16-bit copies for 32 query heads."""
    second, third = (
        llmcalc.train("llama-3.1-8b", seq_len=65536, attention=name, recompute="full", loss="fused",
                      recipe="liger", metric="allocated")
        for name in ("flash", "flash_attention_3")
    )  # fmt: skip
    assert third.total_bytes <= second.total_bytes
    assert third.scenario["attention"] == "flash3"


# -- the command line ----------------------------------------------------------------------------


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "llmcalc", "train", "llama-3.2-1b", "--seq-len", "512", *arguments],
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_a_file_on_the_command_line(tmp_path):
    file = tmp_path / "ds.json"
    file.write_text(json.dumps(config()))
    done = run("--deepspeed", str(file), "--gpu", "8xh100")
    assert done.returncode == 0, done.stderr
    assert "ZeRO-3" in done.stdout


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "No such file"),
        ("{", "is no JSON"),
        ("[1, 2]", "is a list"),
        ('{"bf16": {"enabled": true}, "bf16": {}}', "says bf16 twice"),
        ('{"train_micro_batch_size_per_gpu": "auto"}', "Give --micro-batch"),
        ('{"train_micro_batch_size_per_gpu": 1, "unknown_key": 1}', "'unknown_key' in ds.json is not known"),
        ('{"train_batch_size": 9, "train_micro_batch_size_per_gpu": 2, "gradient_accumulation_steps": 1}',
         "contradicts"),
        ('{"train_micro_batch_size_per_gpu": 1, "zero_optimization": {"stage": "auto"}}', 'is "auto"'),
    ],
)  # fmt: skip
def test_a_wrong_file_is_one_error_with_its_remedy(tmp_path, text, words):
    file = tmp_path / "ds.json"
    if text is not None:
        file.write_text(text)
    done = run("--deepspeed", str(file), "--gpu", "8xh100")
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_stage_3_with_a_pipeline_is_refused_on_the_command_line():
    done = run("--zero", "3", "--pp", "2", "--gpu", "8xh100")
    assert (done.returncode, "Use --zero 1, or --pp 1." in done.stderr) == (2, True)


def test_the_preset_is_deepspeed():
    done = run("--like", "deepspeed", "--gpu", "8xh100")
    assert done.returncode == 0, done.stderr
    assert "ZeRO-2" in done.stdout
