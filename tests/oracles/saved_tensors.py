"""Bytes that autograd keeps between the forward pass and the backward pass of tiny models of transformers.

    python tests/oracles/saved_tensors.py tests/data/activation_oracle_more.jsonl      # torch, transformers, some minutes

Every storage counts once, at its whole size; parameters and buffers do not. One line a setting: a configuration, and
the bytes by number of layers (the configuration cut to so many). `kernel` says whether fused attention ran on this CPU
or the composite one; GPUs choose by their own rules, which the tests state where they differ.
"""

import argparse
import json
from pathlib import Path

import torch
import transformers
from torch.utils._python_dispatch import TorchDispatchMode

SMALL = {"h": 128, "a": 8, "kv": 4, "d": 16, "f": 384, "v": 512, "batch": 2, "seq": 64}
WIDE = {"h": 192, "a": 6, "kv": 2, "d": 32, "f": 448, "v": 640, "batch": 1, "seq": 96}
FULL_HEADS = {"h": 256, "a": 8, "kv": 8, "d": 32, "f": 640, "v": 768, "batch": 3, "seq": 40}
SHAPES = (SMALL, WIDE, FULL_HEADS)
NAMES = {"bf16": torch.bfloat16, "fp32": torch.float32}


def usual(s, **more):
    """Fields that most families share."""
    return {
        "hidden_size": s["h"], "num_attention_heads": s["a"], "num_key_value_heads": s["kv"], "vocab_size": s["v"],
        "intermediate_size": s["f"], "max_position_embeddings": 4096, "tie_word_embeddings": False, **more,
    }  # fmt: skip


def headed(s, **more):
    """The same with the width of a head, where it is a field."""
    return usual(s, head_dim=s["d"], **more)


def mixed(kinds, n=4):
    """Kinds of layers in turn."""
    return [kinds[i % len(kinds)] for i in range(n)]


def latent(s, kind):
    """DeepSeek: equal widths of values and of queries on the small shape, others on the rest."""
    value = s["d"] + 16 if s is SMALL else s["d"]
    fields = usual(
        s, kv_lora_rank=48, q_lora_rank=None if s is WIDE else 56, qk_nope_head_dim=s["d"], qk_rope_head_dim=16,
        v_head_dim=value, n_routed_experts=4, n_shared_experts=1, num_experts_per_tok=2, moe_intermediate_size=96,
        first_k_dense_replace=1, n_group=2, topk_group=1, norm_topk_prob=True, routed_scaling_factor=1.0,
    )  # fmt: skip
    fields["num_key_value_heads"] = s["a"]
    if kind == "deepseek_v2":
        fields |= {"topk_method": "group_limited_greedy"}
    return fields


def mamba2(s):
    return {
        "hidden_size": s["h"], "vocab_size": s["v"], "num_heads": 2 * s["h"] // 32, "head_dim": 32, "expand": 2,
        "state_size": 16, "n_groups": 2, "conv_kernel": 4, "chunk_size": 16, "use_conv_bias": True, "use_bias": False,
        "tie_word_embeddings": False, "rms_norm": True,
    }  # fmt: skip


def falcon_h1(s):
    return headed(
        s, mamba_d_ssm=2 * s["h"], mamba_n_heads=2 * s["h"] // 32, mamba_d_head=32, mamba_n_groups=1, mamba_d_state=16,
        mamba_d_conv=4, mamba_chunk_size=16, mamba_expand=2, mamba_conv_bias=True, mamba_proj_bias=False,
        mamba_rms_norm=False, mamba_norm_before_gate=True, projectors_bias=False,
    )  # fmt: skip


def qwen3_next(s):
    return headed(
        s, layer_types=mixed(["full_attention", "linear_attention"]), linear_num_value_heads=4, linear_num_key_heads=2,
        linear_key_head_dim=16, linear_value_head_dim=16, linear_conv_kernel_dim=4, num_experts=4, num_experts_per_tok=2,
        moe_intermediate_size=96, shared_expert_intermediate_size=112, decoder_sparse_step=1, norm_topk_prob=True,
        mlp_only_layers=[], partial_rotary_factor=0.25,
    )  # fmt: skip


FAMILIES = {
    "gemma": lambda s: headed(s, hidden_activation="gelu_pytorch_tanh"),
    "gemma2": lambda s: headed(
        s, layer_types=mixed(["sliding_attention", "full_attention"]), sliding_window=4096,
        query_pre_attn_scalar=s["d"], hidden_activation="gelu_pytorch_tanh",
    ),
    "gemma3_text": lambda s: headed(
        s, layer_types=mixed(["sliding_attention", "full_attention"]), sliding_window=32 if s is SMALL else 4096,
        query_pre_attn_scalar=s["d"], hidden_activation="gelu_pytorch_tanh",
    ),
    "phi3": lambda s: usual(s, sliding_window=None, pad_token_id=0, resid_pdrop=0.0, embd_pdrop=0.0),
    "qwen3_moe": lambda s: headed(
        s, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=96, decoder_sparse_step=1, norm_topk_prob=True,
        mlp_only_layers=[], sliding_window=None, use_sliding_window=False,
    ),
    "deepseek_v2": lambda s: latent(s, "deepseek_v2"),
    "deepseek_v3": lambda s: latent(s, "deepseek_v3"),
    "gpt_neox": lambda s: {
        "hidden_size": s["h"], "num_attention_heads": s["a"], "intermediate_size": s["f"], "vocab_size": s["v"],
        "max_position_embeddings": 4096, "tie_word_embeddings": False, "use_parallel_residual": s is not WIDE,
        "rotary_pct": 0.25, "attention_dropout": 0.0, "hidden_dropout": 0.0, "hidden_act": "gelu", "attention_bias": True,
    },
    "mamba2": mamba2,
    "olmo2": lambda s: usual(s),
    "gpt_oss": lambda s: headed(
        s, layer_types=mixed(["sliding_attention", "full_attention"]), sliding_window=32 if s is SMALL else 4096,
        num_local_experts=4, num_experts_per_tok=2,
    ),
    "falcon": lambda s: {
        "hidden_size": s["h"], "num_attention_heads": s["a"], "vocab_size": s["v"], "ffn_hidden_size": 4 * s["h"],
        "tie_word_embeddings": False, "multi_query": True, "new_decoder_architecture": s is WIDE, "num_kv_heads": s["kv"],
        "parallel_attn": s is not FULL_HEADS, "bias": s is FULL_HEADS, "alibi": False, "attention_dropout": 0.0,
        "hidden_dropout": 0.0, "max_position_embeddings": 4096,
    },
    "phi": lambda s: usual(s, hidden_act="gelu_new", partial_rotary_factor=0.5, resid_pdrop=0.0, embd_pdrop=0.0),
    "cohere": lambda s: usual(s, use_qk_norm=s is WIDE, logit_scale=0.0625),
    "starcoder2": lambda s: usual(
        s, hidden_act="gelu_pytorch_tanh", use_bias=True, residual_dropout=0.0, embedding_dropout=0.0, sliding_window=None
    ),
    "glm4": lambda s: headed(s, attention_bias=True, partial_rotary_factor=0.5, pad_token_id=0),
    "granite": lambda s: usual(s, embedding_multiplier=12.0, residual_multiplier=0.22, logits_scaling=8.0),
    "qwen3_next": qwen3_next,
    "falcon_h1": falcon_h1,
    "lfm2": lambda s: usual(
        s, layer_types=mixed(["full_attention", "conv"]), conv_L_cache=3, conv_bias=False,
        block_auto_adjust_ff_dim=False, norm_eps=1e-5,
    ),
    "llama": lambda s: usual(s),
    "qwen3": lambda s: headed(s, sliding_window=None, use_sliding_window=False),
    "mistral": lambda s: headed(s, sliding_window=32),
    "mixtral": lambda s: headed(s, num_local_experts=4, num_experts_per_tok=2, sliding_window=None),
    "qwen2": lambda s: usual(s, sliding_window=None, use_sliding_window=False),
}  # fmt: skip
"""Fields of a configuration by `model_type`, for a shape."""

ADAPTED = {
    "llama": (
        ["q_proj", "v_proj"], ["q_proj", "k_proj", "v_proj", "o_proj"], ["gate_proj", "up_proj", "down_proj"],
        ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"], ["down_proj"], ["o_proj"],
    ),
    "qwen3": (
        ["q_proj", "v_proj"], ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
    ),
    "phi3": (["qkv_proj"], ["qkv_proj", "o_proj", "gate_up_proj", "down_proj"], ["gate_up_proj"]),
    "mixtral": (["q_proj", "v_proj"], ["q_proj", "k_proj", "v_proj", "o_proj"]),
}  # fmt: skip
"""Sets of linears with adapters."""


def configuration(kind, fields, layers):
    """The configuration with so many layers."""
    own = fields | {"num_hidden_layers": layers}
    if "layer_types" in own:
        own["layer_types"] = own["layer_types"][:layers]
    return transformers.CONFIG_MAPPING[kind](**own)


def build(kind, fields, layers, attention, dtype, experts=None):
    more = {"experts_implementation": experts} if experts else {}
    config = configuration(kind, fields, layers)
    model = transformers.AutoModelForCausalLM.from_config(
        config, dtype=dtype, attn_implementation=attention, **more
    )
    return model.train()


class Adapted(torch.nn.Module):
    """A frozen linear beside a low-rank pair; the pair reads its input in its own dtype, as PEFT's does."""

    def __init__(self, linear, rank, dtype):
        super().__init__()
        self.linear = linear
        self.down = torch.nn.Linear(linear.in_features, rank, bias=False, dtype=dtype)
        self.up = torch.nn.Linear(rank, linear.out_features, bias=False, dtype=dtype)

    def forward(self, x):
        plain = self.linear(x)
        return (plain + self.up(self.down(x.to(self.down.weight.dtype))) * 2.0).to(plain.dtype)


def adapt(model, targets, rank, dtype):
    """Freeze everything, and put adapters on the linears of these names."""
    model.requires_grad_(False)
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if name in targets and isinstance(child, torch.nn.Linear):
                setattr(parent, name, Adapted(child, rank, dtype))


def freeze(model, layers):
    """Freeze the embedding and the first layers."""
    base = model.base_model
    base.get_input_embeddings().requires_grad_(False)
    for layer in (base.layers if hasattr(base, "layers") else base.h)[:layers]:
        layer.requires_grad_(False)


class Kernels(TorchDispatchMode):
    """Notes fused attention."""

    fused = False

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.fused = self.fused or "scaled_dot_product" in str(function)
        return function(*args, **(kwargs or {}))


def held(model, batch, seq, vocab, padded=False):
    """Bytes of distinct storages kept by a forward pass with its loss, and whether fused attention ran. [B]"""
    own = {t.untyped_storage().data_ptr() for t in (*model.parameters(), *model.buffers())}
    kept, sizes = [], {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            sizes[storage.data_ptr()] = storage.nbytes()
            kept.append(tensor)
        return tensor

    ids = torch.randint(1, vocab, (batch, seq))
    inputs = {"input_ids": ids, "labels": ids, "use_cache": False}
    if padded:
        mask = torch.ones_like(ids)
        mask[0, : seq // 4] = 0
        inputs["attention_mask"] = mask
    watch = Kernels()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), watch:
        model(**inputs)
    return sum(sizes.values()), watch.fused


def measure(
    kind,
    shape,
    attention="sdpa",
    dtype="bf16",
    checkpointing=False,
    padded=False,
    frozen=0,
    lora=None,
    experts=None,
):
    """One line of the data."""
    torch.manual_seed(0)
    fields = FAMILIES[kind](shape)
    totals, parameters, fused = {}, {}, False
    least = 2 if kind in ("lfm2", "qwen3_next") else 1  # one layer would not say what kinds there are
    for layers in range(least, len(fields.get("layer_types", "123")) + 1):
        if frozen >= layers:
            continue
        model = build(kind, fields, layers, attention, NAMES[dtype], experts)
        parameters[str(layers)] = sum(p.numel() for p in model.parameters())
        if lora:
            adapt(model, lora["targets"], lora["rank"], NAMES[lora["dtype"]])
        if frozen:
            freeze(model, frozen)
        if checkpointing:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
            if lora:
                model.enable_input_require_grads()
        totals[str(layers)], fused = held(model, shape["batch"], shape["seq"], shape["v"], padded)
    return {
        "model_type": kind, "attention": attention, "dtype": dtype, "checkpointing": checkpointing,
        "batch": shape["batch"], "seq": shape["seq"], "padded": padded, "frozen_layers": frozen, "lora": lora,
        "experts": experts, "kernel": "fused" if fused else "composite", "bytes": totals, "parameters": parameters,
        "config": {"model_type": kind, "num_hidden_layers": max(map(int, totals)), **fields},
    }  # fmt: skip


EAGER_ONLY = ("gemma2", "gpt_oss", "mamba2")


def settings():
    """Everything that is measured."""
    for kind, shape, options in _wanted():
        if options.get("attention", "sdpa") == "sdpa" and kind in EAGER_ONLY:
            if "dtype" in options and len(options) == 2:
                continue  # the same with eager attention is there
            options = options | {"attention": "eager"}
        yield kind, shape, options


def _wanted():
    for kind in FAMILIES:
        known = kind in ("llama", "qwen2", "qwen3", "mixtral", "gemma2")
        for shape in SHAPES[2:] if known else SHAPES:
            for attention in ("sdpa", "eager"):
                for dtype in NAMES:
                    yield kind, shape, {"attention": attention, "dtype": dtype}
        yield kind, WIDE, {"attention": "eager", "checkpointing": True}
        yield kind, SMALL, {"checkpointing": True}
        yield kind, WIDE, {"checkpointing": True, "dtype": "fp32"}
        for shape in (SMALL, FULL_HEADS):
            yield kind, shape, {"padded": True}
        yield kind, SMALL, {"padded": True, "attention": "eager", "dtype": "fp32"}
        yield kind, SMALL, {"frozen": 1}
        yield kind, WIDE, {"frozen": 2, "attention": "eager"}
    for kind, sets in ADAPTED.items():
        for targets in sets:
            for dtype in NAMES:
                yield kind, SMALL, {"lora": {"targets": targets, "rank": 8, "dtype": dtype}}
                yield (
                    kind,
                    WIDE,
                    {"lora": {"targets": targets, "rank": 4, "dtype": dtype}, "attention": "eager"},
                )
            yield (
                kind,
                FULL_HEADS,
                {"lora": {"targets": targets, "rank": 16, "dtype": "fp32"}, "dtype": "fp32"},
            )
            yield (
                kind,
                SMALL,
                {"lora": {"targets": targets, "rank": 8, "dtype": "fp32"}, "checkpointing": True},
            )
    for kind in ("mixtral", "qwen3_moe", "deepseek_v3", "gpt_oss"):
        for name in ("eager", "grouped_mm"):
            for shape in SHAPES:
                yield kind, shape, {"experts": name, "attention": "eager"}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("file", type=Path)
    parser.add_argument("--only", help="One model type.")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    with asked.file.open("w", encoding="utf-8") as out:
        for kind, shape, options in settings():
            if asked.only and kind not in asked.only.split(","):
                continue
            try:
                out.write(json.dumps(measure(kind, shape, **options)) + "\n")
                out.flush()
            except (ValueError, RuntimeError, AttributeError, TypeError, ImportError, KeyError) as error:
                print(kind, options, type(error).__name__, str(error)[:140])


if __name__ == "__main__":
    main()
