"""Memory of training and fine-tuning: one question, from keywords to reports."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from llmcalc.answer.training.asked import Asked, resolve
from llmcalc.answer.training.ignored import refuse_idle
from llmcalc.answer.training.question import Question
from llmcalc.answer.training.report import train_report
from llmcalc.answer.training.settings import as_word
from llmcalc.answer.training.understood import nothing, understand
from llmcalc.catalog import Catalog
from llmcalc.errors import InputError
from llmcalc.model.inventory import Inventory
from llmcalc.report import Call, Report, Reports

if TYPE_CHECKING:
    from llmcalc.hardware import Device

ModelLike = Any
"""As in `llmcalc.api`."""


def train(
    model: ModelLike = None,
    *,
    params: Any = None,
    config: Any = None,
    method: str | None = None,
    precision: str | None = None,
    optimizer: str | None = None,
    optimizer_rank: Any = None,
    micro_batch: Any = None,
    grad_accum: Any = None,
    seq_len: Any = None,
    context: Any = None,
    dtype: str | None = None,
    quant: str | None = None,
    recompute: Any = None,
    recompute_modules: Any = None,
    attention: str | None = None,
    loss: str | None = None,
    recipe: str | None = None,
    padded: Any = None,
    keep_logits: Any = None,
    compile: Any = None,
    lora_r: Any = None,
    lora_targets: Any = None,
    lora_dropout: Any = None,
    adapter_dtype: str | None = None,
    rslora: bool = False,
    modules_to_save: Any = None,
    adapter_size: Any = None,
    adapter_kind: str | None = None,
    virtual_tokens: Any = None,
    kbit_upcast: Any = None,
    trainable: Any = None,
    freeze: Any = None,
    last_layers: Any = None,
    optimizer_in_backward: bool = False,
    wide_embedding: Any = None,
    untied_head: Any = None,
    bitsandbytes: Any = None,
    longest_first: Any = None,
    ema: bool = False,
    offload: Any = None,
    offload_to: str | None = None,
    zero_init: Any = None,
    deepspeed: Any = None,
    accelerate: Any = None,
    tp: Any = None,
    pp: Any = None,
    cp: Any = None,
    ep: Any = None,
    etp: Any = None,
    vpp: Any = None,
    dp: Any = None,
    sequence_parallel: Any = None,
    schedule: str | None = None,
    stage_layers: Any = None,
    zero: Any = None,
    fsdp: Any = None,
    reshard_after_forward: Any = None,
    shard_degree: Any = None,
    reduce_dtype: str | None = None,
    fsdp_units: str | None = None,
    grad_sync: str | None = None,
    bucket_views: Any = None,
    global_batch: Any = None,
    capacity_factor: Any = None,
    imbalance: Any = None,
    cp_comm: str | None = None,
    reference: Any = None,
    teacher: Any = None,
    rl: str | None = None,
    critic: Any = None,
    reward: Any = None,
    rollout: str | None = None,
    placement: Any = None,
    rollout_gpus: Any = None,
    rollout_tp: Any = None,
    gpu_memory_utilization: Any = None,
    sleep: Any = None,
    enforce_eager: bool = False,
    idle_offload: Any = None,
    sync_bucket: Any = None,
    prompt: Any = None,
    output: Any = None,
    group_size: Any = None,
    prompts: Any = None,
    forward_batch: Any = None,
    like: str | None = None,
    expandable_segments: Any = None,
    metric: str | None = None,
    gpu: Any = None,
    reserve: Any = None,
    allow_overlong: bool = False,
    assume: str | None = None,
    catalog: Any = None,
) -> Report | Reports:
    """Memory of a training step on one GPU: every item, the moment of the peak, what would lower it.

    Parameters
    ----------
    model, params, config : str, number, dict or Inventory
        The model (one of the three): anything `llmcalc.model` takes. A bare count tells states alone.
    method : str
        ``full`` (the default), ``lora``, ``qlora``, ``dora``, ``freeze``, ``prompt``, ``prefix`` or
        ``bottleneck``.
    precision : str
        ``bf16-mixed`` (the default: fp32 weights, gradients and states, bf16 compute), ``bf16``,
        ``bf16-fp32-states``, ``megatron-bf16``, ``megatron-fp16``, ``deepspeed-bf16`` (the default with
        `zero`), ``deepspeed-fp16``, ``fp16-mixed``, ``fp16``, ``fp8``, ``fp32``.
    optimizer : str
        One of the catalog: ``adamw`` (the default), ``adamw-fused``, ``adamw-8bit``, ``adafactor`` ...
    optimizer_rank : int, optional
        Of optimizers that project gradients. [-]
    micro_batch, grad_accum : int or ndarray, int
        Sequences of a forward pass, and passes of a step; 1 and 1. [-]
    seq_len, context : int, str or ndarray
        Tokens of a sequence (two names of one thing); the model's limit, at most 8,192. [tokens]
    dtype, quant : str, optional
        How frozen weights are stored; 16 bit, and for ``qlora`` ``nf4-dq``.
    recompute, recompute_modules : optional
        ``none`` (the default), ``selective``, ``ops`` (torchtitan's: what attention makes and every second
        product of a matrix is kept), ``full``, ``every-N``, ``first-N`` (of each stage, as Megatron's
        ``block``); which parts ``selective`` means, by Megatron's names: ``core_attn`` (the default),
        ``mlp``, ``moe``, ``shared_experts``, ``layernorm``, ``moe_act``, ``mla_up_proj``.
    attention, loss, recipe : str
        ``flash``, ``flash3`` (its third version and later), ``sdpa`` or ``eager``; ``eager``, ``shifted`` (as
        in transformers before 4.45), ``compiled``, ``chunked``, ``fused``, ``vocab-parallel`` or ``none``;
        whose code runs: ``hf``, ``torchtune``, ``torchtitan``, ``megatron``, ``liger`` or ``litgpt``.
    padded, keep_logits, compile : bool, optional
        Whether there is a padding mask; whether the output object keeps the logits through the backward
        pass (as transformers' does); whether the code is compiled.
    lora_r, lora_targets, lora_dropout, adapter_dtype : optional
        Rank 16, ``all-linear`` or names of modules, 0, and ``fp32`` (PEFT's default) or ``bf16``. [-]
    rslora : bool
        Whether the product is scaled by the root of the rank, which needs no memory.
    modules_to_save : str or sequence of str, optional
        Modules trained whole beside adapters.
    adapter_size, adapter_kind, virtual_tokens : optional
        Inner width of bottleneck adapters (64), ``houlsby`` or ``pfeiffer``; tokens of a prompt or prefix
        (20). [-], [tokens]
    kbit_upcast : bool, optional
        Whether what is not quantized is cast to fp32, as PEFT's `prepare_model_for_kbit_training` does; True
        with fp32 adapters.
    bitsandbytes : str, optional
        Its release where adapters stand on 4-bit linears: until 0.43.1 these kept their inputs for the
        backward pass. The newest.
    longest_first : bool, optional
        Whether the longest micro-batch comes first, so that no other has left anything before it: litgpt's
        loop holds logits, and what hangs on them, until the next ones are there.
    trainable, freeze, last_layers : optional
        What is trained or not: ``last-8``, ``head``, ``embedding``, ``norms``, ``bias``, ``vision`` ...;
        layers from the end. [-]
    optimizer_in_backward, wide_embedding, untied_head, ema : bool
        The optimizer steps in the backward pass; embeddings keep fp32 states beside 8-bit ones; the head
        is a matrix of its own; an average of the weights is kept.
    tp, pp, cp, ep, etp, vpp, dp : int, optional
        GPUs that share each tensor, the layers, each sequence, the experts, an expert's tensors; chunks of
        layers on a pipeline's stage; replicas. 1 each; `dp` is what is left of the GPUs. [-]
    sequence_parallel : bool, optional
        Whether tensor ranks share the tokens between matrices too; True for Megatron and torchtitan.
    schedule, stage_layers : optional
        ``1f1b`` (the default) or ``gpipe``; layers of each stage where they are uneven: ``"20,22,22,16"``.
    zero : int, optional
        DeepSpeed's stage of sharing, 0 to 3; with Megatron's code 1 is its distributed optimizer. [-]
    fsdp : str, optional
        PyTorch's sharding of everything: ``2``, ``1`` (its first version) or ``off``.
    reshard_after_forward, shard_degree, reduce_dtype : optional
        Of FSDP: whether a block is let go after its forward pass (True); GPUs that share one copy, fewer than
        all with HSDP; ``fp32`` or ``bf16`` for sums of gradients. [-]
    fsdp_units, grad_sync, bucket_views : optional
        FSDP's units: ``layers``, or ``all``: embedding and head are units too; whether gradients are summed
        over ranks after ``each`` micro-batch (FSDP's default) or the ``last`` one, until which they stay
        whole; whether DDP's gradients are views of its buckets (False).
    global_batch : int, optional
        Sequences of a step over all GPUs; sets `grad_accum`. [-]
    capacity_factor, imbalance : float, optional
        Tokens that an expert takes at most, padded to it, and those that the busiest rank gets, as multiples
        of an equal share. [-]
    cp_comm : str, optional
        How context ranks exchange keys and values: ``p2p`` (the default) or ``a2a``.
    offload : str or sequence of str, optional
        What lies on the host: ``optimizer``, ``gradients``, ``params``, ``activations``.
    offload_to : str, optional
        Where DeepSpeed puts it: ``cpu`` (the default) or ``nvme``.
    zero_init : bool, optional
        Whether stage 3 cuts each tensor as it is made (True, as transformers' Trainer does), and not a model
        that is whole on every GPU.
    deepspeed, accelerate : str, path or dict, optional
        A DeepSpeed configuration (JSON), or an Accelerate one (YAML); what is given besides wins over it.
    reference, teacher : optional
        A frozen model beside the trained one, for preferences (``same`` is a copy of it; with adapters it
        shares the weights) or for distillation.
    rl, critic, reward : optional
        ``grpo`` or ``ppo``: one iteration of it; PPO's model of values (``same`` as the policy's), a reward
        model or ``rule``. With `rl` the `reference` is ``same``, a model or ``none``.
    rollout, placement, rollout_gpus, rollout_tp : optional
        ``vllm``, ``sglang``, ``transformers`` or ``none``; ``colocated``, ``separate``, or roles that stand
        apart; GPUs of the engine there, and those that share its tensors. [-]
    gpu_memory_utilization, sleep, enforce_eager : optional
        The engine's share (0.3 beside training), whether it sleeps meanwhile (``on``, ``off``, 1, 2), and
        whether it goes without CUDA graphs. [-]
    idle_offload, sync_bucket : optional
        What waits on the host: ``optimizer``, ``params``, ``reference``, ``reward``; the buffer through which
        weights go to the engine. [B]
    prompt, output, group_size, prompts, forward_batch : optional
        Tokens of a prompt and an answer, answers of each, prompts of an iteration, and sequences of a pass
        without gradients. [tokens], [-]
    like : str, optional
        A framework's settings: ``trainer``, ``trl``, ``verl``, ``openrlhf``, ``torchtune``, ``torchtitan``,
        ``litgpt``, ``llama-factory``, ``unsloth``, ``deepspeed`` or ``megatron``.
    expandable_segments : bool, optional
        Whether PyTorch's allocator may grow its segments, so that less is reserved in vain.
    metric : str
        What the total means: ``nvidia-smi`` (the default), ``reserved``, ``allocated``, or ``memtracker``:
        what PyTorch's tool of that name sees.
    gpu : str or sequence of str, optional
        One GPU, or several to compare.
    reserve : int or str
        Memory that others use; 0. [B]
    allow_overlong : bool
        Whether sequences may be longer than the model's limit.
    assume : str, optional
        Family of an unknown `model_type`.
    catalog : str or sequence of str, optional
        YAML files of your own.

    Returns
    -------
    Report or Reports
        Items ``weights``, ``master_weights``, ``gradients``, ``optimizer``, ``activations``, ``logits``,
        ``gathered``, ``buffers``, ``runtime``; ``peak`` names the phase; ``timeline`` holds the moments.

    Raises
    ------
    LlmcalcError
        With every mistake of the call and its remedy.

    Notes
    -----
    States are exact. Activations are what PyTorch's autograd keeps, counted op by op; temporaries of GPU
    kernels may differ. Context and allocator are ranges.

    Examples
    --------
    Gradients and Adam states of 13 B parameters in 16 bit are 78 GB:

    >>> report = train(params="13b", precision="bf16")
    >>> (report["gradients"].bytes + report["optimizer"].bytes) / 1e9
    78.0
    """
    asked = {key: as_word(key, value) for key, value in locals().items()}
    files = [catalog] if isinstance(catalog, str) else catalog or ()
    book = catalog if isinstance(catalog, Catalog) else Catalog(files)
    if rl is not None:
        from llmcalc.answer.training.rl.ask import rl_train

        return rl_train((model, params, config, assume), asked, book)
    if any(asked[key] not in (None, False) for key in ("critic", "reward", "rollout", *OF_RL)):
        from llmcalc.answer.training.rl.asked import refuse_without

        refuse_without(asked)
    if model is None and params is None and config is None and gpu is not None:
        return _largest(asked, book)
    given = {
        key: value
        for key, value in asked.items()
        if key not in ("model", "params", "config", "catalog", "assume", "reference", "teacher")
    }
    inventory, resolved, others = understand(model, params, config, assume, book, given, reference, teacher)
    refuse_idle(resolved, inventory, given)
    devices: list[Device | None] = [*resolved.devices] or [None]
    reports = []
    for device in devices:
        report = _answer(inventory, resolved, device, book, others)
        report.later = partial(_help, report, inventory, resolved, device, book, given, others)
        report.sign(Call("train", asked), book)
        reports.append(report)
    return reports[0] if len(reports) == 1 else Reports(reports)


OF_RL = (
    "placement", "rollout_gpus", "rollout_tp", "gpu_memory_utilization", "sleep", "enforce_eager",
    "idle_offload", "sync_bucket", "prompt", "output", "group_size", "prompts", "forward_batch",
)  # fmt: skip
"""Keywords that mean something only with `rl`."""


def _largest(asked: dict[str, Any], book: Catalog) -> Reports:
    """The largest models of the catalog that each GPU trains so."""
    from llmcalc.answer.training.room import largest_models

    given = {key: value for key, value in asked.items() if key not in ("catalog", "reference", "teacher")}
    devices = resolve(nothing(), book, {"gpu": given["gpu"], "reserve": given["reserve"]}).devices
    reports = []
    for device in devices:
        for name, question in largest_models(given, device, book):
            report = train_report(question, device)
            report.hints.clear()  # a table has no room for what each could try
            report.sign(Call("train", {**asked, "model": name, "gpu": device.name}), book)
            reports.append(report)
    if not reports:
        raise InputError("No model of the catalog surely fits so.", "Use --method qlora, or a larger --gpu.")
    return Reports(reports)


def _answer(
    inventory: Inventory, asked: Asked, device: Device | None, book: Catalog, others: list[Any]
) -> Report:
    """One report."""
    if inventory.is_opaque:
        if asked.choice.leaves_model or asked.method == "freeze" or others:
            raise InputError(
                f"--method {asked.method} needs a model with layers, not a bare count.",
                "Name a model or its config.json.",
            )
        from llmcalc.answer.training.count import count_report

        return count_report(inventory, asked, device)
    question = Question(inventory, asked, book, device, others)
    report = train_report(question, device)
    if device is not None:
        from llmcalc.answer.training.room import room

        report.capacity = room(question, device, report)
        report.context_limit = inventory.context
    return report


def _help(report: Report, *asked: Any) -> None:
    """What would help where it does not surely fit; without a GPU the smallest cards."""
    if report.device is None:
        if isinstance(report.total_bytes, int):
            from llmcalc.hardware import smallest_cards

            report.told.cards = smallest_cards(int(report.range_bytes[1]) + asked[1].reserve, report.book)
        return
    fits = isinstance(report.verdict, str) and report.verdict == "fits"
    if not fits or asked[1].mesh is not None:
        from llmcalc.answer.training.fewest import fewest_gpus

        report.told.fewest = fewest_gpus(*asked)
    if fits:
        return
    from llmcalc.answer.training.advice import help_it

    help_it(report, *asked)
