"""Frameworks' settings: what `--like NAME` stands for where the user says nothing else.

Each is what the framework does by default, or its own example configuration; a setting that is given wins.
"""

from __future__ import annotations

from typing import Any

from llmcalc.errors import InputError, did_you_mean

PRESETS: dict[str, dict[str, Any]] = {
    # transformers Trainer: training_args.py of 5.x; bf16 as most scripts set it.
    "trainer": {
        "precision": "bf16-mixed",
        "optimizer": "adamw-fused",
        "micro_batch": 8,
        "recompute": "none",
        "attention": "sdpa",
        "loss": "eager",
        "recipe": "hf",
        "padded": True,
        "wide_embedding": True,
        "kbit_upcast": False,
    },
    # TRL SFTTrainer: sft_config.py; gradient checkpointing is on, sequences are cut at 1024 tokens.
    "trl": {
        "precision": "bf16-mixed",
        "optimizer": "adamw-fused",
        "micro_batch": 8,
        "seq_len": 1024,
        "recompute": "full",
        "attention": "sdpa",
        "loss": "eager",
        "recipe": "hf",
        "padded": True,
        "wide_embedding": True,
        "lora_r": 16,
        "lora_targets": "all-linear",
    },
    # verl: FSDP engine and actor of trainer/config; fp32 weights, gathered and computed with in bf16.
    "verl": {
        "precision": "bf16-mixed",
        "optimizer": "adamw",
        "micro_batch": 1,
        "recompute": "full",
        "attention": "flash",
        "loss": "eager",
        "recipe": "hf",
        "keep_logits": False,
        "padded": False,
        "kbit_upcast": False,
    },
    # OpenRLHF: train_ppo_ray.py; DeepSpeed with 16-bit weights and fp32 masters, flash attention.
    "openrlhf": {
        "precision": "megatron-fp16",
        "optimizer": "adamw-fused",
        "micro_batch": 1,
        "recompute": "full",
        "attention": "flash",
        "loss": "eager",
        "recipe": "hf",
        "padded": False,
        "kbit_upcast": False,
    },
    # torchtune: recipes/configs, *_single_device.yaml.
    "torchtune": {
        "precision": "bf16",
        "optimizer": "adamw-fused",
        "micro_batch": 2,
        "recompute": "full",
        "attention": "sdpa",
        "loss": "chunked",
        "recipe": "torchtune",
        "adapter_dtype": "bf16",
        "lora_r": 8,
        "quant": "nf4-dq",
        "kbit_upcast": False,
    },
    # litgpt: config_hub/finetune; bf16-true, LoRA on queries and values.
    "litgpt": {
        "precision": "bf16",
        "optimizer": "adamw",
        "micro_batch": 1,
        "recompute": "none",
        "attention": "sdpa",
        "loss": "chunked",
        "recipe": "litgpt",
        "adapter_dtype": "bf16",
        "lora_r": 8,
        "lora_targets": "q,v",
        "lora_dropout": 0.05,
        "padded": False,
        "kbit_upcast": False,
    },
    # LLaMA-Factory: hparams; rank 8 on all linears, checkpointing unless it is disabled.
    "llama-factory": {
        "precision": "bf16-mixed",
        "optimizer": "adamw-fused",
        "micro_batch": 1,
        "grad_accum": 8,
        "seq_len": 2048,
        "recompute": "full",
        "attention": "sdpa",
        "loss": "eager",
        "recipe": "hf",
        "padded": True,
        "lora_r": 8,
        "lora_targets": "all-linear",
        "wide_embedding": True,
        "kbit_upcast": False,
    },
    # Unsloth: its notebooks; 4-bit base, its own checkpointing and fused loss, 8-bit AdamW.
    "unsloth": {
        "precision": "bf16-mixed",
        "optimizer": "adamw-8bit",
        "micro_batch": 2,
        "grad_accum": 4,
        "seq_len": 2048,
        "recompute": "full",
        "attention": "flash",
        "loss": "fused",
        "recipe": "liger",
        "lora_r": 16,
        "lora_targets": "all-linear",
        "quant": "nf4",
        "kbit_upcast": False,
        "padded": False,
    },
    # DeepSpeed under transformers' Trainer: ZeRO-2 and bf16, as DeepSpeed's own example; its fused Adam.
    "deepspeed": {
        "zero": 2,
        "precision": "deepspeed-bf16",
        "optimizer": "adamw-fused",
        "micro_batch": 1,
        "recompute": "full",
        "attention": "sdpa",
        "loss": "eager",
        "recipe": "hf",
        "adapter_dtype": "bf16",
        "wide_embedding": True,
        "kbit_upcast": False,
        "padded": True,
    },
    # Megatron-LM: arguments.py at 23e00ed0 and the examples' distributed optimizer; FusedAdam of Apex or
    # Transformer Engine, flash attention, the loss over each rank's share of the vocabulary.
    "megatron": {
        "precision": "megatron-bf16",
        "optimizer": "adamw-fused",
        "micro_batch": 1,
        "recompute": "none",
        "attention": "flash",
        "loss": "vocab-parallel",
        "recipe": "megatron",
        "keep_logits": False,
        "padded": False,
        "adapter_dtype": "bf16",
        "kbit_upcast": False,
    },
    # torchtitan: train_configs/llama3_8b.toml; FSDP2 over shards in fp32, gathered in bf16.
    "torchtitan": {
        "precision": "bf16-mixed",
        "optimizer": "adamw",
        "micro_batch": 1,
        "seq_len": 8192,
        "recompute": "ops",
        "attention": "sdpa",
        "loss": "eager",
        "recipe": "torchtitan",
        "keep_logits": False,
        "padded": False,
    },
}
ALIASES = {
    "transformers": "trainer",
    "hf": "trainer",
    "zero": "deepspeed",
    "sft": "trl",
    "megatron-lm": "megatron",
    "titan": "torchtitan",
    "megatron-core": "megatron",
    "mcore": "megatron",
    "lit-gpt": "litgpt",
    "llamafactory": "llama-factory",
}
ADAPTERS_ONLY = ("quant", "lora_r", "lora_targets", "lora_dropout", "adapter_dtype", "kbit_upcast")
"""Settings that mean something only with adapters."""


def settings_of(name: str | None, method: str) -> dict[str, Any]:
    """The settings of a framework for a method.

    Raises
    ------
    InputError
        If there is no such preset, with the nearest.

    Examples
    --------
    >>> settings_of("torchtune", "full")["loss"]
    'chunked'
    """
    if name is None:
        return {}
    word = str(name).strip().lower().replace("_", "-")
    word = ALIASES.get(word, word)
    if word not in PRESETS:
        near = did_you_mean(word, [*PRESETS, *ALIASES], 1)
        hint = f"Did you mean {near[0]}? " if near else ""
        raise InputError(f"--like {str(name)[:40]!r} is not known.", f"{hint}Use {', '.join(PRESETS)}.")
    made = dict(PRESETS[word])
    if method not in ("lora", "qlora", "dora"):
        for key in ADAPTERS_ONLY:
            made.pop(key, None)
    if method != "qlora":
        made.pop("quant", None)
    return made
