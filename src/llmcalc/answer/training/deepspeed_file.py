"""A DeepSpeed configuration: stages, buckets, precision, batches, as its engine and transformers read it."""

from __future__ import annotations

from typing import Any

from llmcalc.answer.training.files import Told
from llmcalc.engine_options.framework_file import Section, load
from llmcalc.errors import InputError
from llmcalc.memory.training.parallel.zero_settings import DEVICES, Offload, ZeroSettings
from llmcalc.model.inventory import Inventory, size

KNOWN = (
    "zero_optimization", "bf16", "bfloat16", "fp16", "torch_autocast", "amp", "optimizer", "data_types",
    "train_batch_size", "train_micro_batch_size_per_gpu", "gradient_accumulation_steps",
    "activation_checkpointing", "communication_data_type",
)  # fmt: skip
IRRELEVANT = (
    "gradient_clipping", "scheduler", "steps_per_print", "wall_clock_breakdown", "memory_breakdown",
    "dump_state", "prescale_gradients", "gradient_predivide_factor", "gradient_allreduce_op",
    "sparse_gradients", "disable_allgather", "zero_allow_untested_optimizer", "zero_force_ds_cpu_optimizer",
    "flops_profiler", "tensorboard", "wandb", "csv_monitor", "comet", "comms_logger", "checkpoint", "aio",
    "nebula", "datastates_ckpt", "dataloader_drop_last", "seq_parallel_communication_data_type", "log_level",
    "timers", "autotuning", "compile", "managed_gradient_accumulation", "vocabulary_size",
    "graph_harvesting", "comms_config", "monitor_config", "use_data_before_expert_parallelism", "eigenvalue",
)  # fmt: skip
"""Keys that need no memory worth telling."""

REFUSED = {
    "elasticity": "which sets the batch anew at run time",
    "sparse_attention": "whose activations are not known",
    "compression_training": "whose copies are not known",
    "quantize_training": "whose copies are not known",
    "progressive_layer_drop": "which drops layers at random",
    "curriculum_learning": "under which lengths change",
    "data_efficiency": "under which lengths and layers change",
    "hybrid_engine": "whose inference containers are not known",
    "pipeline": "whose buffers are not known from here",
    "tensor_parallel": "which is --tp here",
    "expert_parallel": "which is --ep here",
    "weight_quantization": "whose copies are not known",
    "sequence_parallel_size": "which is --cp here",
}
SIZES = {
    "reduce_bucket_size": "reduce_bucket",
    "allgather_bucket_size": "allgather_bucket",
    "sub_group_size": "sub_group",
    "stage3_prefetch_bucket_size": "prefetch_bucket",
    "prefetch_bucket_size": "prefetch_bucket",
    "stage3_param_persistence_threshold": "persistence",
    "param_persistence_threshold": "persistence",
    "stage3_model_persistence_threshold": "model_persistence",
    "model_persistence_threshold": "model_persistence",
    "stage3_max_live_parameters": "max_live",
    "max_live_parameters": "max_live",
    "stage3_max_reuse_distance": "max_reuse",
    "max_reuse_distance": "max_reuse",
    "zero_hpz_partition_size": "secondary",
}
AUTOMATIC = {
    "reduce_bucket_size": (True, 10),
    "stage3_prefetch_bucket_size": (True, 9),
    "stage3_param_persistence_threshold": (False, 100),
}
"""What transformers makes of ``"auto"``: whether of the hidden size's square, and tenths of it."""

SWITCHES = {
    "contiguous_gradients": "contiguous",
    "overlap_comm": "overlap",
    "reduce_scatter": "reduce_scatter",
    "use_multi_rank_bucket_allreduce": "all_ranks_at_once",
    "zero_quantized_weights": "quantized_gather",
    "zero_quantized_nontrainable_weights": "quantized_frozen",
    "stage3_allgather_sequential": "sequential",
    "allgather_sequential": "sequential",
}
NO_MEMORY = (
    "allgather_partitions", "load_from_fp32_weights", "elastic_checkpoint", "ignore_unused_parameters",
    "legacy_stage1", "round_robin_gradients", "stage3_gather_16bit_weights_on_model_save",
    "gather_16bit_weights_on_model_save", "stage3_gather_fp16_weights_on_model_save",
    "stage3_module_granularity_threshold", "module_granularity_threshold",
    "stage3_use_all_reduce_for_fetch_params", "use_all_reduce_for_fetch_params", "zero_quantized_gradients",
    "mics_hierarchical_params_gather", "memory_efficient_linear", "pipeline_loading_checkpoint",
    "override_module_apply", "log_trace_cache_warnings", "enable_sanity_checks", "leaf_module",
    "save_muon_momentum_buffer_in_memory", "cpu_offload_use_pin_memory",
)  # fmt: skip
ELEMENTS = {"fp32": 4, "float32": 4, "float": 4, "fp16": 2, "float16": 2, "half": 2, "bf16": 2, "bfloat16": 2}
OPTIMIZERS = {
    "adam": "adamw-fused", "adamw": "adamw-fused", "lamb": "lamb", "lion": "lion", "adagrad": "adagrad",
    "sgd": "sgd-momentum", "muon": "muon",
}  # fmt: skip
"""DeepSpeed's types; Adam and AdamW are its own fused one."""

NO_ZERO = ("onebitadam", "zerooneadam", "onebitlamb", "muadam", "muadamw", "musgd")


def read_deepspeed(source: Any, given: dict[str, Any], inventory: Inventory) -> Told:
    """Read a DeepSpeed file, or a dict that stands for one.

    Raises
    ------
    InputError
        If a key is not known, values contradict each other, or an ``"auto"`` needs a number.
    """
    name, content = load(source, "--deepspeed", "DeepSpeed")
    return tell(name, content, given, inventory)


def tell(name: str, content: dict[str, Any], given: dict[str, Any], inventory: Inventory) -> Told:
    """What a configuration says, as keywords and settings."""
    told, top = Told(name), Section(name, "", content)
    for key, why in REFUSED.items():
        value = top.take(key)
        if value is not None and not (isinstance(value, dict) and value.get("enabled") is False):
            raise InputError(f"{key} in {name}, {why}, is not modelled.", f"Leave {key} out of {name}.")
    told.zero = _zero(top, inventory)
    _precision(told, top, given)
    _batches(told, top, given)
    _optimizer(told, top)
    _checkpointing(told, top)
    word = top.word("communication_data_type", tuple(ELEMENTS))
    told.zero.communication_element = ELEMENTS[word] if word else None
    types = top.section("data_types")
    if types is not None:
        word = types.word("grad_accum_dtype", tuple(ELEMENTS))
        told.zero.gradient_element = ELEMENTS[word] if word else None
        types.done(("grad_accum_dtype",), ("param_dtype", "buffer_dtype"))
    top.done(KNOWN, IRRELEVANT)
    told.values["zero"] = told.zero.stage
    return told


def _zero(top: Section, inventory: Inventory) -> ZeroSettings:
    made = ZeroSettings()
    section = top.left.get("zero_optimization")
    if isinstance(section, bool):  # the old spelling of stage 1
        top.take("zero_optimization")
        made.stage = int(section)
        return made
    zero = top.section("zero_optimization")
    if zero is None:
        return made
    stage = zero.number("stage") or 0
    if stage > 3:
        raise InputError(f"zero_optimization.stage of {top.file} is {stage}.", "Use 0, 1, 2 or 3.")
    made.stage = stage
    _automatic(zero, inventory)
    for key, name in SIZES.items():
        number = zero.number(key)
        if number is not None:
            setattr(made, name, number)
    for key, name in SWITCHES.items():
        value = zero.flag(key)
        if value is not None:
            setattr(made, name, value)
    shard = zero.take("mics_shard_size")
    made.shard = int(shard) if isinstance(shard, int) and not isinstance(shard, bool) else -1
    for key in ("zenflow", "zeropp_loco_param"):
        if zero.take(key) is not None:
            raise InputError(f"{key} in {top.file} keeps copies that are not known.", f"Leave {key} out.")
    for key, target in (("offload_optimizer", made.optimizer), ("offload_param", made.params)):
        _offload(zero, key, target)
    for key, target in (("cpu_offload", made.optimizer), ("cpu_offload_param", made.params)):
        if zero.flag(key):
            target.device = "cpu"
    zero.done((*SIZES, *SWITCHES, "stage", "offload_optimizer", "offload_param"), NO_MEMORY)
    if made.sequential:
        made.prefetch_bucket = 1
    return made


def _automatic(zero: Section, inventory: Inventory) -> None:
    """Sizes that transformers sets by the width of the model."""
    for key, (square, tenths) in AUTOMATIC.items():
        if str(zero.left.get(key)).strip().lower() != "auto":
            continue
        widths = [
            size(op.out)
            for g in inventory
            for op in g.ops
            if g.place == "embedding" and op.role == "embedding"
        ]
        if not widths:
            raise InputError(
                f'{zero.path}{key} of {zero.file} is "auto", which follows the model\'s hidden size.',
                f"Name a model with layers, or write a number for {key}.",
            )
        zero.left[key] = (widths[0] * widths[0] if square else widths[0]) * tenths // 10


def _offload(zero: Section, key: str, target: Offload) -> None:
    part = zero.section(key)
    if part is None:
        return
    target.device = part.word("device", DEVICES) or "none"
    target.pinned = bool(part.flag("pin_memory", True))
    target.buffers = part.number("buffer_count") or target.buffers
    target.buffer_size = part.number("buffer_size") or target.buffer_size
    target.most_on_host = part.number("max_in_cpu") or target.most_on_host
    ratio = part.take("ratio")
    if isinstance(ratio, (int, float)) and not isinstance(ratio, bool):
        target.ratio = float(ratio)
    part.done(
        ("device", "pin_memory", "buffer_count", "buffer_size", "max_in_cpu", "ratio"),
        ("nvme_path", "pipeline_read", "pipeline_write", "pipeline", "fast_init", "super_offload",
         "cpuadam_cores_perc"),
    )  # fmt: skip


def _precision(told: Told, top: Section, given: dict[str, Any]) -> None:
    """Which of bf16 and fp16 is on; ``auto`` follows --precision."""
    asked = str(given.get("precision") or "").lower()
    on: dict[str, bool] = {}
    for key in ("bf16", "bfloat16", "fp16"):
        part = top.section(key)
        if part is None:
            continue
        kind = "bf16" if key != "fp16" else "fp16"
        value = part.left.get("enabled")
        automatic = isinstance(value, str) and value.strip().lower() == "auto"
        on[kind] = bool(part.flag("enabled", False))
        if automatic:
            on[kind] = kind in asked or (not asked and kind == "bf16")
            told.dtypes["auto"] = True
        checks = part.flag("check_grad_overflow")
        masters = part.flag(f"{kind}_master_weights_and_grads", False)
        states = part.flag("bf16_optimizer_states", False)
        if on[kind]:
            told.zero.checks_overflow = checks is not False
            told.dtypes |= {"masters": 2 if masters else 4, "states": 2 if states else 4}
        if states and not masters:
            raise InputError(
                f"bf16_optimizer_states of {top.file} needs bf16_master_weights_and_grads.", "Turn both on."
            )
        part.done(
            ("enabled", f"{kind}_master_weights_and_grads", "bf16_optimizer_states"),
            ("auto_cast", "loss_scale", "initial_scale_power", "loss_scale_window", "hysteresis",
             "consecutive_hysteresis", "min_loss_scale", "immediate_grad_update", "opt_level"),
        )  # fmt: skip
    if on.get("bf16") and on.get("fp16"):
        raise InputError(f"{top.file} turns on bf16 and fp16.", "Turn one of them off.")
    cast = top.section("torch_autocast")
    amp = top.section("amp")
    kind = "bf16" if on.get("bf16") else "fp16" if on.get("fp16") else ""
    if cast is not None and cast.flag("enabled", False):
        if kind:
            raise InputError(f"{top.file} turns on torch_autocast and {kind}.", "Turn one of them off.")
        word = cast.word("dtype", tuple(ELEMENTS)) or "bf16"
        told.values["precision"] = "fp16-mixed" if word in ("fp16", "float16", "half") else "bf16-mixed"
        told.dtypes = {}
    elif amp is not None and amp.flag("enabled", False) is True:
        raise InputError(f"amp in {top.file} is Apex's, which is not modelled.", "Use fp16 or bf16.")
    elif kind:
        told.values["precision"] = f"deepspeed-{kind}"
    else:
        told.values["precision"] = "fp32"


def _batches(told: Told, top: Section, given: dict[str, Any]) -> None:
    """Micro-batch, accumulation and their product with the GPUs."""
    automatic = {
        key: str(top.left.get(key)).strip().lower() == "auto"
        for key in ("train_micro_batch_size_per_gpu", "gradient_accumulation_steps", "train_batch_size")
    }
    for key, is_auto in automatic.items():
        if is_auto:
            top.take(key)
    unsaid = given.get("micro_batch") is None and given.get("like") is None
    if automatic["train_micro_batch_size_per_gpu"] and unsaid:
        raise InputError(
            f'train_micro_batch_size_per_gpu of {top.file} is "auto": the training script sets it.',
            "Give --micro-batch.",
        )
    micro = top.number("train_micro_batch_size_per_gpu", 1)
    steps = top.number("gradient_accumulation_steps", 1)
    told.total = top.number("train_batch_size", 1)
    if micro is not None:
        told.values["micro_batch"] = micro
    if steps is not None:
        told.values["grad_accum"] = steps


def _optimizer(told: Told, top: Section) -> None:
    part = top.section("optimizer")
    if part is None:
        return
    kind = part.take("type")
    params = part.take("params", {})
    part.done(("type", "params"), ("legacy_fusion",))
    if kind is None or str(kind).strip().lower() == "auto":
        return
    word = str(kind).strip().lower().replace("_", "")
    torch = isinstance(params, dict) and params.get("torch_adam") is True
    if word in NO_ZERO:
        raise InputError(
            f"optimizer.type of {top.file} is {kind}, whose states are not known.", "Use AdamW or Lion."
        )
    if word not in OPTIMIZERS:
        top.left["optimizer.type"] = kind
        Section(top.file, "optimizer.type ", {kind: 1}).done(
            ("Adam", "AdamW", "Lamb", "Lion", "Adagrad", "SGD")
        )
    made = OPTIMIZERS[word]
    if made == "sgd-momentum" and not (isinstance(params, dict) and params.get("momentum")):
        made = "sgd"
    told.values["optimizer"] = "adamw" if torch and word in ("adam", "adamw") else made


def _checkpointing(told: Told, top: Section) -> None:
    """DeepSpeed's own checkpointing, which only models that call it have."""
    part = top.section("activation_checkpointing")
    if part is None:
        return
    names = ("partition_activations", "cpu_checkpointing", "contiguous_memory_optimization")
    on = [name for name in names if part.flag(name, False)]
    part.done(names, ("number_checkpoints", "synchronize_checkpoint_boundary", "profile"))
    if on:
        told.notes.append(
            f"activation_checkpointing.{on[0]} of {told.name} has an effect only in models that call "
            "DeepSpeed's checkpointing themselves; transformers' do not. Say --recompute and --offload here."
        )
