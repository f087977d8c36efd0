"""An Accelerate configuration: how many processes, which way of sharing, in which precision."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from llmcalc.answer.training.files import Told
from llmcalc.engine_options.framework_file import Section, load
from llmcalc.errors import InputError
from llmcalc.model.inventory import Inventory

KINDS = ("no", "multi_gpu", "fsdp", "deepspeed", "megatron_lm", "tp")
ELSEWHERE = (
    "multi_cpu",
    "multi_xpu",
    "multi_npu",
    "multi_mlu",
    "multi_hpu",
    "multi_musa",
    "multi_sdaa",
    "xla",
)
KNOWN = (
    "distributed_type", "num_processes", "num_machines", "mixed_precision", "fsdp_config", "deepspeed_config",
    "megatron_lm_config", "parallelism_config", "dynamo_config", "tp_config", "dynamo_backend", "fp16",
)  # fmt: skip
IRRELEVANT = (
    "compute_environment", "debug", "use_cpu", "machine_rank", "main_process_ip", "main_process_port",
    "main_training_function", "rdzv_backend", "rdzv_conf", "same_network", "gpu_ids", "downcast_bf16",
    "enable_cpu_affinity", "mpirun_config", "tpu_env", "tpu_use_cluster", "tpu_use_sudo", "tpu_name",
    "tpu_zone", "tpu_vm", "command_file", "commands", "fp8_config", "ipex_config",
)  # fmt: skip
PRECISIONS = {"no": "fp32", "fp16": "fp16-mixed", "bf16": "bf16-mixed", "fp8": ""}
STRATEGIES = ("full_shard", "shard_grad_op", "no_shard", "hybrid_shard", "hybrid_shard_zero2")
FSDP_IRRELEVANT = (
    "fsdp_auto_wrap_policy", "fsdp_transformer_layer_cls_to_wrap", "fsdp_backward_prefetch",
    "fsdp_backward_prefetch_policy", "fsdp_state_dict_type", "fsdp_forward_prefetch", "fsdp_use_orig_params",
    "fsdp_cpu_ram_efficient_loading", "fsdp_sync_module_states", "fsdp_min_num_params",
    "fsdp_ignored_modules", "fsdp_mixed_precision_policy", "fsdp_enable_memory_efficient_loading",
)  # fmt: skip
MEGATRON = {
    "megatron_lm_tp_degree": "tp",
    "megatron_lm_pp_degree": "pp",
    "megatron_lm_expert_model_parallel_size": "ep",
    "megatron_lm_expert_tensor_parallel_size": "etp",
    "megatron_lm_context_parallel_size": "cp",
    "megatron_lm_num_micro_batches": "grad_accum",
}
MEGATRON_IRRELEVANT = (
    "megatron_lm_gradient_clipping", "megatron_lm_no_load_optim", "megatron_lm_no_save_optim",
    "megatron_lm_eod_mask_loss", "megatron_lm_attention_softmax_in_fp32",
    "megatron_lm_calculate_per_token_loss", "megatron_lm_use_rotary_position_embeddings",
    "megatron_lm_recompute_method", "megatron_lm_recompute_num_layers",
)  # fmt: skip
PARALLEL = "parallelism_config_"


def read_accelerate(source: Any, given: dict[str, Any], inventory: Inventory) -> Told:
    """Read an Accelerate file, or a dict that stands for one.

    Raises
    ------
    InputError
        If a key is not known, or values contradict each other.
    """
    name, content = load(source, "--accelerate", "Accelerate")
    top = Section(name, "", content)
    kind = str(top.take("distributed_type") or "").strip().lower().removeprefix("distributedtype.")
    if kind in ELSEWHERE:
        raise InputError(
            f"distributed_type of {name} is {kind.upper()}, no GPUs of NVIDIA.", "Use MULTI_GPU."
        )
    if not kind:
        raise InputError(f"{name} has no distributed_type, which Accelerate asks for.", "Add it.")
    top.left["distributed_type"] = kind
    kind = top.word("distributed_type", KINDS) or "no"
    told = _deepspeed(name, top, given, inventory, source) if kind == "deepspeed" else Told(name)
    if kind != "deepspeed":
        top.take("deepspeed_config")
    _precision(told, top, kind, given)
    told.gpus = top.number("num_processes", 1)
    machines = top.number("num_machines", 1) or 1
    if kind == "no" and (told.gpus or 1) > 1:
        raise InputError(
            f"{name} says distributed_type NO and {told.gpus} processes.", "Use MULTI_GPU, FSDP or DEEPSPEED."
        )
    if told.gpus is not None and told.gpus % machines:
        raise InputError(
            f"num_processes {told.gpus} of {name} is no multiple of its {machines} machines.",
            f"Use a multiple of {machines}.",
        )
    if kind == "fsdp":
        _fsdp(told, top, machines)
    else:
        top.take("fsdp_config")
    if kind == "megatron_lm":
        _megatron(told, top)
    else:
        top.take("megatron_lm_config")
    part = top.section("tp_config")
    if part is not None:
        degree = part.number("tp_size", 1)
        part.done(("tp_size",))
        if degree is not None:
            told.values["tp"] = degree
    _parallel(told, top)
    _compiled(told, top)
    top.done(KNOWN, IRRELEVANT)
    return told


def _precision(told: Told, top: Section, kind: str, given: dict[str, Any]) -> None:
    old = top.flag("fp16")
    word = top.take("mixed_precision")
    if word is False:  # an unquoted no of YAML
        word = "no"
    top.left["mixed_precision"] = word
    asked = top.word("mixed_precision", tuple(PRECISIONS)) or ("fp16" if old else "no" if word else None)
    if asked is None or (kind == "deepspeed" and told.dtypes.get("said")):
        return
    made = PRECISIONS[asked]
    if asked == "fp8" and given.get("precision") is None:
        raise InputError(
            f"mixed_precision of {top.file} is fp8, whose copies differ by backend.",
            "Give --precision, such as fp8 for Transformer Engine's under Megatron.",
        )
    if asked == "fp8":
        return
    if kind == "deepspeed" and asked in ("fp16", "bf16"):
        made = f"deepspeed-{asked}"
    if kind == "megatron_lm":
        made = f"megatron-{asked}" if asked in ("fp16", "bf16") else made
    told.values["precision"] = made


def _deepspeed(name: str, top: Section, given: dict[str, Any], inventory: Inventory, source: Any) -> Told:
    """The plugin's few settings, or a file of DeepSpeed's own."""
    from llmcalc.answer.training.deepspeed_file import tell

    part = top.section("deepspeed_config") or Section(name, "deepspeed_config.", {})
    file = part.take("deepspeed_config_file")
    plain = {
        "stage": part.number("zero_stage"),
        "optimizer": part.word("offload_optimizer_device", ("none", "cpu", "nvme")),
        "params": part.word("offload_param_device", ("none", "cpu", "nvme")),
        "accumulate": part.number("gradient_accumulation_steps", 1),
        "clipping": part.take("gradient_clipping"),
    }
    cuts_early = part.flag("zero3_init_flag", True)
    part.done(
        ("deepspeed_config_file", "zero_stage", "offload_optimizer_device", "offload_param_device",
         "gradient_accumulation_steps", "gradient_clipping"),
        ("zero3_save_16bit_model", "deepspeed_multinode_launcher", "deepspeed_hostfile",
         "deepspeed_exclusion_filter", "deepspeed_inclusion_filter", "deepspeed_moe_layer_cls_names",
         "offload_optimizer_nvme_path", "offload_param_nvme_path"),
    )  # fmt: skip
    if file is not None:
        twice = [key for key, value in plain.items() if value is not None]
        if twice:
            raise InputError(
                f"{name} names a deepspeed_config_file and settings of its own beside it.",
                "Keep the file alone, as Accelerate asks.",
            )
        path = Path(str(file)).expanduser()
        if not path.is_absolute() and not isinstance(source, dict):
            beside = Path(str(source)).expanduser().parent / path
            path = path if path.exists() else beside
        inner, content = load(path, "--deepspeed", "DeepSpeed")
        made = tell(inner, content, given, inventory)
        made.zero.loads_whole = not cuts_early
        made.dtypes["said"] = not made.dtypes.get("auto", False)
        return made
    zero: dict[str, Any] = {"stage": 2 if plain["stage"] is None else plain["stage"]}
    for key, option in (("optimizer", "offload_optimizer"), ("params", "offload_param")):
        if plain[key] not in (None, "none") and (key == "optimizer" or zero["stage"] == 3):
            zero[option] = {"device": plain[key]}
    content = {"zero_optimization": zero}
    if plain["accumulate"] is not None:
        content["gradient_accumulation_steps"] = plain["accumulate"]
    made = tell(name, content, given, inventory)
    made.zero.loads_whole = not cuts_early
    made.values.pop("precision", None)
    return made


def _fsdp(told: Told, top: Section, machines: int) -> None:
    part = top.section("fsdp_config") or Section(top.file, "fsdp_config.", {})
    version = part.number("fsdp_version", 1) or 1
    if version > 2:
        raise InputError(f"fsdp_version of {top.file} is {version}.", "Use 1 or 2.")
    strategy = _strategy(part, version)
    told.values["fsdp"] = "off" if strategy == "no_shard" else str(version)
    value = part.take("fsdp_reshard_after_forward")
    word = str(value).strip().lower() if value is not None else None
    if version == 1 and word in STRATEGIES:  # older files say the strategy here
        strategy, word = word, None
    if word is not None and word not in ("true", "false"):
        raise InputError(
            f"fsdp_config.fsdp_reshard_after_forward of {top.file} is {str(value)[:40]!r}.",
            "Write true or false." if version == 2 else f"Use {', '.join(STRATEGIES)}.",
        )
    if version == 2:
        told.values["reshard_after_forward"] = word != "false"
    else:
        told.values["reshard_after_forward"] = strategy in ("full_shard", "hybrid_shard")
    if strategy == "no_shard":
        del told.values["reshard_after_forward"]
    if strategy != "no_shard":
        # Accelerate sums in the dtype that it computes in, after a step's last micro-batch.
        told.values["grad_sync"] = "last"
        name, mixed, _ = str(told.values.get("precision")).partition("-mixed")
        if mixed:
            told.values["reduce_dtype"] = name
    if part.flag("fsdp_offload_params", False):
        told.values["offload"] = "params,gradients,optimizer"
    if part.flag("fsdp_activation_checkpointing", False):
        told.values["recompute"] = "full"
    if strategy in ("hybrid_shard", "hybrid_shard_zero2") and told.gpus is not None and machines > 1:
        told.values["shard_degree"] = told.gpus // machines
    part.done(
        ("fsdp_version", "fsdp_sharding_strategy", "fsdp_reshard_after_forward", "fsdp_offload_params",
         "fsdp_activation_checkpointing"),
        FSDP_IRRELEVANT,
    )  # fmt: skip


def _strategy(part: Section, version: int) -> str:
    value = part.take("fsdp_sharding_strategy")
    if value is None:
        return "full_shard"
    if version == 2:
        raise InputError(
            f"fsdp_sharding_strategy in {part.file} is of FSDP 1; with fsdp_version 2 it is "
            "fsdp_reshard_after_forward.",
            "Write fsdp_reshard_after_forward: true or false.",
        )
    word = str(value).strip().lower()
    if word.isdigit() and 1 <= int(word) <= len(STRATEGIES):
        return STRATEGIES[int(word) - 1]
    part.left["fsdp_sharding_strategy"] = word
    return part.word("fsdp_sharding_strategy", STRATEGIES) or "full_shard"


def _megatron(told: Told, top: Section) -> None:
    told.values |= {"recipe": "megatron", "loss": "vocab-parallel", "optimizer": "adamw-fused"}
    part = top.section("megatron_lm_config") or Section(top.file, "megatron_lm_config.", {})
    for key, name in MEGATRON.items():
        number = part.number(key, 1)
        if number is not None:
            told.values[name] = number
    parallel = part.flag("megatron_lm_sequence_parallelism")
    if parallel is not None:
        told.values["sequence_parallel"] = parallel
    shares = part.flag("megatron_lm_use_distributed_optimizer")
    if shares is not None:
        told.values["zero"] = int(shares)
    granularity = part.word("megatron_lm_recompute_granularity", ("full", "selective"))
    again = part.flag("megatron_lm_recompute_activations", False)
    if granularity or again:
        told.values["recompute"] = granularity or "selective"
    if part.flag("megatron_lm_optimizer_cpu_offload", False):
        told.values["offload"] = "optimizer"
    for key in ("megatron_lm_use_custom_fsdp", "megatron_lm_use_precision_aware_optimizer"):
        if part.flag(key, False):
            raise InputError(f"{key} of {top.file} is not modelled.", "Turn it off.")
    part.take("megatron_lm_overlap_cpu_optimizer_d2h_h2d")
    for key in (
        "megatron_lm_attention_dropout",
        "megatron_lm_hidden_dropout",
        "megatron_lm_attention_backend",
    ):
        part.take(key)
    layers = part.take("megatron_lm_decoder_last_pipeline_num_layers")
    if layers is not None:
        told.notes.append(f"{top.file} gives the last stage {layers} layers; --stage-layers says so here.")
    part.done((*MEGATRON, "megatron_lm_sequence_parallelism", "megatron_lm_use_distributed_optimizer"),
              MEGATRON_IRRELEVANT)  # fmt: skip


def _parallel(told: Told, top: Section) -> None:
    part = top.section("parallelism_config")
    if part is None:
        return
    degrees = {
        key: part.number(f"{PARALLEL}{key}_size", 1) for key in ("tp", "cp", "dp_replicate", "dp_shard", "sp")
    }
    if (degrees["sp"] or 1) > 1:
        raise InputError(f"{PARALLEL}sp_size of {top.file} is not modelled.", "Use 1.")
    for key in ("tp", "cp"):
        if degrees[key] is not None:
            told.values[key] = degrees[key]
    if (degrees["dp_replicate"] or 1) > 1 and (degrees["dp_shard"] or 1) > 1:
        told.values["shard_degree"] = (degrees["dp_shard"] or 1) * (degrees["cp"] or 1)
    product = 1
    for value in degrees.values():
        product *= value or 1
    if told.gpus is None:
        told.gpus = product
    elif told.gpus != product:
        raise InputError(
            f"parallelism_config of {top.file} is {product} GPUs; num_processes says {told.gpus}.",
            f"Make num_processes {product}.",
        )
    names = ("tp_size", "cp_size", "dp_replicate_size", "dp_shard_size", "sp_size")
    others = ("cp_backend", "cp_comm_strategy", "sp_backend", "sp_seq_length", "sp_seq_length_is_variable",
              "sp_attn_implementation")  # fmt: skip
    part.done(tuple(PARALLEL + name for name in names), tuple(PARALLEL + name for name in others))


def _compiled(told: Told, top: Section) -> None:
    part = top.section("dynamo_config")
    backend = top.take("dynamo_backend")
    if part is not None:
        backend = part.take("dynamo_backend", backend)
        names = (
            "dynamo_mode",
            "dynamo_use_fullgraph",
            "dynamo_use_dynamic",
            "dynamo_use_regional_compilation",
        )
        part.done(("dynamo_backend",), names)
    if backend is not None and str(backend).strip().lower() not in ("no", "false", "eager", "none"):
        told.values["compile"] = "on"
