"""Operations of matrix products and attention by PyTorch's own counter: tests/data/flop_counts.jsonl.

    python tests/oracles/flop_counts.py > tests/data/flop_counts.jsonl

Needs torch and transformers. Each small model runs one forward and one backward pass with eager attention, so
that every matrix product is an operation of its own that `torch.utils.flop_counter` knows; prefill and a
decode step run under the same counter. What a counter on a dense kernel sees is all pairs of
positions, whatever the mask.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import torch
import transformers
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoModelForSeq2SeqLM

TOKENS = 64

SMALL: dict[str, dict[str, Any]] = {
    "llama": {
        "hidden_size": 64, "intermediate_size": 176, "num_hidden_layers": 3, "num_attention_heads": 4,
        "num_key_value_heads": 2, "vocab_size": 320, "tie_word_embeddings": False,
    },
    "qwen3": {
        "hidden_size": 64, "intermediate_size": 160, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "head_dim": 24, "vocab_size": 320, "tie_word_embeddings": True,
    },
    "gemma2": {
        "hidden_size": 64, "intermediate_size": 160, "num_hidden_layers": 4, "num_attention_heads": 4,
        "num_key_value_heads": 2, "head_dim": 32, "vocab_size": 320, "sliding_window": 16,
    },
    "gpt2": {"n_embd": 64, "n_layer": 3, "n_head": 4, "vocab_size": 320, "n_positions": 128},
    "gpt_neox": {
        "hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4,
        "vocab_size": 320, "max_position_embeddings": 128,
    },
    "opt": {
        "hidden_size": 64, "ffn_dim": 256, "num_hidden_layers": 2, "num_attention_heads": 4,
        "vocab_size": 320, "max_position_embeddings": 128, "word_embed_proj_dim": 64,
    },
    "bloom": {"hidden_size": 64, "n_layer": 2, "n_head": 4, "vocab_size": 320},
    "falcon": {
        "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 320,
        "multi_query": True, "parallel_attn": True, "bias": False, "new_decoder_architecture": False,
        "alibi": False,
    },
    "phi3": {
        "hidden_size": 64, "intermediate_size": 160, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "vocab_size": 320, "pad_token_id": 0, "tie_word_embeddings": False,
    },
    "olmo2": {
        "hidden_size": 64, "intermediate_size": 160, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 4, "vocab_size": 320, "tie_word_embeddings": False,
    },
    "deepseek_v2": {
        "hidden_size": 64, "intermediate_size": 160, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 4, "kv_lora_rank": 32, "q_lora_rank": 48, "qk_nope_head_dim": 16,
        "qk_rope_head_dim": 8, "v_head_dim": 24, "first_k_dense_replace": 1, "vocab_size": 320,
        "n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "n_shared_experts": 1,
        "n_group": 1, "topk_group": 1, "head_dim": 8, "topk_method": "greedy",
    },
    "mixtral": {
        "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "vocab_size": 320, "num_local_experts": 4, "num_experts_per_tok": 2,
        "head_dim": 16,
    },
    "mamba2": {
        "hidden_size": 64, "num_heads": 8, "head_dim": 16, "state_size": 16, "n_groups": 2,
        "num_hidden_layers": 2,
        "vocab_size": 320, "expand": 2, "chunk_size": 32, "tie_word_embeddings": False,
    },
    "falcon_h1": {
        "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "head_dim": 16, "vocab_size": 320, "mamba_d_ssm": 128, "mamba_n_heads": 8,
        "mamba_d_head": 16, "mamba_d_state": 16, "mamba_n_groups": 2, "mamba_chunk_size": 32,
        "tie_word_embeddings": False,
    },
    "qwen3_next": {
        "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 4, "num_attention_heads": 4,
        "num_key_value_heads": 2, "head_dim": 16, "vocab_size": 320, "linear_num_key_heads": 2,
        "linear_num_value_heads": 4, "linear_key_head_dim": 16, "linear_value_head_dim": 16, "num_experts": 4,
        "num_experts_per_tok": 2, "moe_intermediate_size": 32, "shared_expert_intermediate_size": 32,
    },
    "bert": {
        "hidden_size": 64, "intermediate_size": 160, "num_hidden_layers": 2, "num_attention_heads": 4,
        "vocab_size": 320, "max_position_embeddings": 128,
    },
    "modernbert": {
        "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4,
        "vocab_size": 320, "local_attention": 16, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
        "cls_token_id": 1, "sep_token_id": 2,
    },
    "t5": {
        "d_model": 64, "d_kv": 16, "d_ff": 160, "num_layers": 2, "num_decoder_layers": 2, "num_heads": 4,
        "vocab_size": 320, "decoder_start_token_id": 0,
    },
    "bart": {
        "d_model": 64, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4,
        "decoder_attention_heads": 4, "encoder_ffn_dim": 160, "decoder_ffn_dim": 160, "vocab_size": 320,
        "max_position_embeddings": 128,
    },
}  # fmt: skip
KIND = {
    "bert": AutoModel,
    "modernbert": AutoModel,
    "t5": AutoModelForSeq2SeqLM,
    "bart": AutoModelForSeq2SeqLM,
}
LORA = ("q_proj", "v_proj")


class Low(torch.nn.Module):
    """A frozen linear with a low-rank pair beside it, as PEFT has it."""

    def __init__(self, base: torch.nn.Linear, rank: int) -> None:
        super().__init__()
        self.base = base
        self.a = torch.nn.Linear(base.in_features, rank, bias=False)
        self.b = torch.nn.Linear(rank, base.out_features, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.base(x) + self.b(self.a(x))


def built(family: str) -> tuple[Any, Any]:
    """A small model with random weights, and its configuration."""
    config = AutoConfig.for_model(family, **SMALL[family])
    config._attn_implementation = "eager"
    config.use_cache = False
    config._experts_implementation = "eager"  # the counter does not know grouped products
    with torch.random.fork_rng():
        model = KIND.get(family, AutoModelForCausalLM).from_config(config, attn_implementation="eager")
    return model, config


def counted(run: Any) -> tuple[int, dict[str, int]]:
    """Operations of a call, and by kind of operation."""
    counter = FlopCounterMode(display=False)
    with counter:
        run()
    kinds = counter.get_flop_counts()["Global"]
    return counter.get_total_flops(), {str(name): int(number) for name, number in kinds.items()}


def adapted(model: Any, rank: int) -> None:
    """Freeze a model and put adapters beside its query and value projections."""
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    for module in list(model.modules()):
        for name in LORA:
            inner = getattr(module, name, None)
            if isinstance(inner, torch.nn.Linear):
                setattr(module, name, Low(inner, rank))


def loss(made: Any) -> torch.Tensor:
    """The loss of a model with a head; of a bare one the sum of all that it returns."""
    found: Any = getattr(made, "loss", None)
    return found if found is not None else sum(one.sum() for one in made.to_tuple())


def rows(family: str) -> list[dict[str, Any]]:
    """What the counter says of one family."""
    model, config = built(family)
    ids = torch.randint(4, 300, (1, TOKENS))
    given: dict[str, Any] = {"input_ids": ids}
    if KIND.get(family) is not AutoModel:
        given["labels"] = ids
    told = {"family": family, "config": json.loads(config.to_json_string(use_diff=False)), "tokens": TOKENS}
    for key in ("transformers_version", "sparse_pred_ignore_index", "sparse_prediction"):
        told["config"].pop(key, None)
    found = []
    with torch.no_grad():
        forward, kinds = counted(lambda: model(**given))
    found.append({**told, "case": "forward", "flops": forward, "kinds": kinds})
    model.train()
    whole, kinds = counted(lambda: loss(model(**given)).backward())
    found.append({**told, "case": "train", "flops": whole, "kinds": kinds})
    if family == "llama":
        adapted(model, 8)
        both, kinds = counted(lambda: model(**given).loss.backward())
        found.append(
            {**told, "case": "lora", "rank": 8, "targets": list(LORA), "flops": both, "kinds": kinds}
        )
    if family in ("llama", "qwen3", "mixtral"):
        model, config = built(family)
        config.use_cache = True
        with torch.no_grad():
            kept = model(input_ids=ids[:, :-1], use_cache=True).past_key_values
            step, kinds = counted(lambda: model(input_ids=ids[:, -1:], past_key_values=kept, use_cache=True))
        found.append({**told, "case": "decode", "flops": step, "kinds": kinds})
    return found


def main() -> None:
    """Print one line for each case."""
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    for family in sys.argv[1:] or SMALL:
        for row in rows(family):
            print(json.dumps({**row, **versions}))


if __name__ == "__main__":
    main()
