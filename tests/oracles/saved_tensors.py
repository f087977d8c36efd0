"""Bytes that autograd keeps between the forward pass and the backward pass of tiny models of transformers.

    python tests/oracles/saved_tensors.py tests/data/activation_oracle_more.jsonl  # torch, transformers

Every storage counts once, at its whole size; parameters and buffers do not. One line a setting: a
configuration, and the bytes by number of layers (the configuration cut to so many). `kernel` says whether
fused attention ran on this CPU or the composite one; a GPU chooses by its own rules.
"""

import argparse
import json
from pathlib import Path

import torch
import transformers
from tiny_families import FAMILIES, FULL_HEADS, SHAPES, SMALL, WIDE
from torch.utils._python_dispatch import TorchDispatchMode

NAMES = {"bf16": torch.bfloat16, "fp32": torch.float32}

ADAPTED = {
    "llama": (
        ["q_proj", "v_proj"],
        ["q_proj", "k_proj", "v_proj", "o_proj"],
        ["gate_proj", "up_proj", "down_proj"],
        ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
        ["down_proj"],
        ["o_proj"],
    ),
    "qwen3": (
        ["q_proj", "v_proj"],
        ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
    ),
    "phi3": (["qkv_proj"], ["qkv_proj", "o_proj", "gate_up_proj", "down_proj"], ["gate_up_proj"]),
    "mixtral": (["q_proj", "v_proj"], ["q_proj", "k_proj", "v_proj", "o_proj"]),
}
"""Sets of linears with adapters."""


def configuration(kind, fields, layers):
    """The configuration with so many layers."""
    own = fields | {"num_hidden_layers": layers}
    if "layer_types" in own:
        own["layer_types"] = own["layer_types"][:layers]
    return transformers.CONFIG_MAPPING[kind](**own)


def build(kind, fields, layers, attention, dtype, experts=None):
    """The model with random weights, ready to train."""
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
        """What both give together."""
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
    """Bytes of distinct storages kept by a forward pass with its loss; whether attention was fused. [B]"""
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
        "model_type": kind,
        "attention": attention,
        "dtype": dtype,
        "checkpointing": checkpointing,
        "batch": shape["batch"],
        "seq": shape["seq"],
        "padded": padded,
        "frozen_layers": frozen,
        "lora": lora,
        "experts": experts,
        "kernel": "fused" if fused else "composite",
        "bytes": totals,
        "parameters": parameters,
        "config": {"model_type": kind, "num_hidden_layers": max(map(int, totals)), **fields},
    }


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
    """The same before what a family lacks is left out."""
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
    """Measure all, or some families."""
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
