"""Bytes that autograd keeps of tiny models of litgpt, a checkout of which has to be there.

    python tests/oracles/litgpt_tensors.py CHECKOUT tests/data/activation_litgpt.jsonl   # torch

As in ``saved_tensors``, with litgpt's own model and its loss: the head runs on 128 tokens at a time, and
Fabric turns the logits into fp32, which the training loop holds until the next ones are there (`logits`, not
in `bytes`). On a GPU dropout saves a mask of one byte an element; a CPU saves it in the dtype of the
activation, so adapters run without dropout here.
"""

import argparse
import json
import sys
import types
from pathlib import Path
from unittest.mock import MagicMock

import torch

COMMIT = "adcaaa4d"
"""Of 2024-06-14: the code that config_hub's figures are of."""

LLAMA = {
    "bias": False, "norm_class_name": "RMSNorm", "mlp_class_name": "LLaMAMLP", "parallel_residual": False,
    "rotary_percentage": 1.0,
}  # fmt: skip
SHAPE = {"n_embd": 128, "n_head": 8, "vocab_size": 512, "padded_vocab_size": 512}
SAME = {"hidden_size": 128, "num_attention_heads": 8, "vocab_size": 512, "max_position_embeddings": 4096,
        "tie_word_embeddings": False}  # fmt: skip
MODELS = {
    "llama": (
        {**LLAMA, "intermediate_size": 384},
        {"num_key_value_heads": 8, "intermediate_size": 384},
    ),
    "llama-grouped": (
        {**LLAMA, "intermediate_size": 384, "n_query_groups": 2},
        {"num_key_value_heads": 2, "intermediate_size": 384},
    ),
    "gemma": (
        {
            **LLAMA, "intermediate_size": 512, "n_query_groups": 1, "head_size": 32,
            "mlp_class_name": "GemmaMLP", "scale_embeddings": True, "gelu_approximate": "tanh",
        },
        {
            "num_key_value_heads": 1, "intermediate_size": 512, "head_dim": 32,
            "hidden_activation": "gelu_pytorch_tanh", "tie_word_embeddings": True,
        },
    ),
    "phi": (
        {
            "shared_attention_norm": True, "rotary_percentage": 0.5, "lm_head_bias": True,
            "gelu_approximate": "tanh",
        },
        {
            "num_key_value_heads": 8, "intermediate_size": 512, "hidden_act": "gelu_new",
            "partial_rotary_factor": 0.5,
        },
    ),
    "gpt_neox": (
        {"rotary_percentage": 0.25},
        {"intermediate_size": 512, "hidden_act": "gelu", "use_parallel_residual": True, "rotary_pct": 0.25},
    ),
    "falcon": (
        {"bias": False, "rotary_percentage": 1.0, "n_query_groups": 1, "shared_attention_norm": True},
        {
            "ffn_hidden_size": 512, "multi_query": True, "new_decoder_architecture": False,
            "parallel_attn": True, "bias": False, "alibi": False, "num_kv_heads": 1,
            "tie_word_embeddings": True,
        },
    ),
}  # fmt: skip
"""litgpt's fields, and those of the same model in transformers."""

ADAPTED = {"": (), "q,v": ("query", "value"), "q,k,v,projection,mlp,head": (
    "query", "key", "value", "projection", "mlp", "head")}  # fmt: skip


def load(checkout):
    """litgpt's adapters and models, without Lightning."""
    for name in ("lightning", "lightning.fabric", "lightning.fabric.loggers", "lightning.fabric.strategies",
                 "lightning.fabric.utilities", "lightning.fabric.utilities.load", "lightning.pytorch",
                 "lightning.pytorch.loggers", "lightning.pytorch.cli"):  # fmt: skip
        sys.modules[name] = MagicMock()
    package = types.ModuleType("litgpt")
    package.__path__ = [str(Path(checkout) / "litgpt")]
    sys.modules["litgpt"] = package
    import importlib

    model = importlib.import_module("litgpt.model")
    package.GPT, package.model = model.GPT, model
    package.lora = importlib.import_module("litgpt.lora")
    return package.lora


def held(lora, fields, layers, batch, seq, targets, rank):
    """Bytes kept for backward, and bytes of the logits that the loop holds. [B]"""
    adapted = (
        {"lora_r": rank, "lora_alpha": 16, **{f"lora_{name}": True for name in targets}} if targets else {}
    )
    config = lora.Config(name="tiny", n_layer=layers, **SHAPE, **fields, **adapted)
    torch.set_default_dtype(torch.bfloat16)
    model = lora.GPT(config)
    torch.set_default_dtype(torch.float32)
    model.max_seq_length = seq
    if targets:
        lora.mark_only_lora_as_trainable(model)
    own = {t.untyped_storage().data_ptr() for t in (*model.parameters(), *model.buffers())}
    kept, sizes = [], {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            sizes[storage.data_ptr()] = storage.nbytes()
            kept.append(tensor)
        return tensor

    ids = torch.randint(0, 500, (batch, seq))
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        logits = [part.float() for part in model(ids, lm_head_chunk_size=128)]
        size = sum(part.untyped_storage().nbytes() for part in logits)
        logits[-1] = logits[-1][..., :-1, :]
        parts = zip(logits, ids[..., 1:].split(128, dim=1), strict=True)
        losses = [
            torch.nn.functional.cross_entropy(part.flatten(0, 1), wanted.flatten(), reduction="none")
            for part, wanted in parts
        ]
        torch.cat(losses).mean()
    return sum(sizes.values()), size


def main():
    """Measure all."""
    parser = argparse.ArgumentParser()
    parser.add_argument("checkout", type=Path)
    parser.add_argument("file", type=Path)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    lora = load(asked.checkout)
    with asked.file.open("w", encoding="utf-8") as out:
        for name, (fields, same) in MODELS.items():
            for word, targets in ADAPTED.items():
                for batch, seq in ((2, 64), (1, 320)):
                    pairs = [held(lora, fields, layers, batch, seq, targets, 8) for layers in (1, 2, 3)]
                    kind = name.partition("-")[0]
                    row = {
                        "model_type": kind, "lora_targets": word, "rank": 8, "batch": batch, "seq": seq,
                        "bytes": {str(n + 1): pair[0] for n, pair in enumerate(pairs)}, "logits": pairs[0][1],
                        "config": {"model_type": kind, "num_hidden_layers": 3, **SAME, **same},
                    }  # fmt: skip
                    out.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
