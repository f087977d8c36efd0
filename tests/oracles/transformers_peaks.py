"""Peaks of live bytes when transformers runs tiny models on a CPU: every storage that PyTorch makes.

    python -m tests.oracles.transformers_peaks > tests/data/transformers_peaks.jsonl

needs torch and transformers. A dispatch mode sees each operation; a storage counts from the operation
that made it until Python lets it go, exactly as with a caching allocator without rounding. Weights
and buffers are built outside the mode and don't count. Composite operations are seen as their parts.
Fused attention is replaced by what it makes on a GPU, where no head width falls back to all scores:
the output, the logarithms of the sums and, of a mask, a copy in the model's dtype padded to 16 columns.
"""

from __future__ import annotations

import contextlib
import inspect
import json
import sys
import weakref
from typing import Any

from .tiny_models import CONFIGS, KEPT_BACK

SHAPES = (
    (1, 512, 1, "bf16", False),
    (2, 96, 1, "bf16", False),
    (1, 250, 0, "bf16", False),
    (1, 64, 1, "fp32", False),
    (3, 130, 1, "bf16", True),
)
"""Sequences and tokens of the prompt, logits kept (0 is all), dtype, and whether a prompt is padded."""
KINDS = ("dynamic", "static")


class Live:
    """Counts live storages; `peak` is the most since the last `reset`, `held` who held it. [B]"""

    def __init__(self) -> None:
        from torch.utils._python_dispatch import TorchDispatchMode

        live = self

        class Mode(TorchDispatchMode):
            def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
                out = func(*args, **(kwargs or {}))
                live.see(out, str(func))
                return out

        self.mode, self.now, self.peak = Mode(), 0, 0
        self.known: dict[int, tuple[int, str]] = {}
        self.ignored: set[int] = set()
        self.held: dict[int, tuple[int, str]] = {}
        self.watch: int | None = None

    def see(self, out: Any, name: str) -> None:
        """Count what an operation made."""
        import torch

        for tensor in out if isinstance(out, (tuple, list)) else (out,):
            if not isinstance(tensor, torch.Tensor):
                continue
            storage = tensor.untyped_storage()
            key, size = id(storage), storage.nbytes()
            if key in self.known or key in self.ignored or not size:
                continue
            self.known[key] = (size, f"{name} {tuple(tensor.shape)} {str(tensor.dtype)[6:]}")
            weakref.finalize(storage, self.gone, key)
            self.now += size
            if self.now > self.peak:
                self.peak = self.now
                if self.watch is not None and self.now >= self.watch:
                    self.held = dict(self.known)

    def gone(self, key: int) -> None:
        """A storage was let go."""
        self.now -= self.known.pop(key)[0]

    def ignore(self, model: Any) -> None:
        """Leave weights and buffers out."""
        self.keep = [t.untyped_storage() for t in (*model.parameters(), *model.buffers())]
        self.ignored |= {id(storage) for storage in self.keep}

    def reset(self, watch: int | None = None) -> None:
        """Start a new peak."""
        self.peak, self.watch, self.held = self.now, watch, {}


@contextlib.contextmanager
def fused_attention() -> Any:
    """Have sdpa make what PyTorch's fused kernels for CUDA make; values are of no interest here."""
    import torch
    from torch.nn import functional

    def fused(query: Any, key: Any, value: Any, attn_mask: Any = None, **_: Any) -> Any:
        copies = []
        if attn_mask is not None and attn_mask.dtype == torch.bool:
            copies.append(torch.where(attn_mask, 0.0, torch.tensor(-1.0, dtype=query.dtype)))
        if attn_mask is not None and attn_mask.shape[-1] % 16:
            copies.append(functional.pad(copies[0], (0, -attn_mask.shape[-1] % 16)))
        batch, heads, rows, _ = query.shape
        out = query.new_zeros(batch, rows, heads, value.shape[-1]).transpose(1, 2)
        sums = query.new_empty(batch, heads, rows, dtype=torch.float32)
        del sums, copies
        return out

    before = functional.scaled_dot_product_attention
    functional.scaled_dot_product_attention = fused
    try:
        yield
    finally:
        functional.scaled_dot_product_attention = before


def build(name: str, attention: str, dtype: str) -> Any:
    """A tiny model with random weights."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    config = AutoConfig.for_model(**(CONFIGS | KEPT_BACK)[name])
    kind = getattr(torch, {"bf16": "bfloat16", "fp32": "float32"}[dtype])
    return AutoModelForCausalLM.from_config(config, dtype=kind, attn_implementation=attention).eval()


def measure(
    name: str, attention: str, batch: int, tokens: int, dtype: str = "bf16", cache: str = "dynamic",
    keep: int = 1, padded: bool = False, watch: dict[str, int] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Peaks of the prefill and of the step after it, and what the cache holds after each. [B]"""
    import torch
    from transformers import StaticCache

    model, live = build(name, attention, dtype), Live()
    live.ignore(model)
    row: dict[str, Any] = {
        "model": name, "attention": attention, "sequences": batch, "tokens": tokens, "dtype": dtype,
        "cache": cache, "logits_to_keep": keep, "padding": padded,
    }  # fmt: skip
    watch = watch or {}
    with torch.no_grad(), fused_attention(), live.mode:
        ids = torch.ones(batch, tokens, dtype=torch.long)
        ids.random_(3, 200)
        mask = torch.ones(batch, tokens + 1, dtype=torch.long)
        if padded:
            mask[0, 0] = 0
        more: dict[str, Any] = {}
        if keep:
            more["logits_to_keep"] = keep
        positions = torch.ones(batch, tokens + 1, dtype=torch.long).cumsum(-1) - 1
        placed = "position_ids" in inspect.signature(model.forward).parameters  # as `generate` does
        if cache == "static":
            more["cache"] = StaticCache(config=model.config, max_cache_len=tokens + 8)
        before = live.now
        live.reset(watch.get("prefill"))
        if placed:
            more["position_ids"] = positions[:, :-1]
        out = model(input_ids=ids, attention_mask=mask[:, :-1], use_cache=True, **more)
        row["prefill_peak"], kept = live.peak - before, live.held
        row["logits"] = out.logits.untyped_storage().nbytes()
        cached = getattr(out, "cache", None) or getattr(out, "past_key_values", None) or out.cache_params
        del out
        row["after_prefill"] = live.now - before
        more["cache_params" if "mamba" in name and name[:5] == "mamba" else "cache"] = cached
        before = live.now - row["after_prefill"]
        live.reset(watch.get("decode"))
        if placed:
            more["position_ids"] = positions[:, -1:]
        if name[:5] != "mamba":  # `generate` gives Mamba no mask then
            more["attention_mask"] = mask
        out = model(input_ids=ids[:, -1:], use_cache=True, **more)
        row["decode_peak"] = live.peak - before
        del out
        row["after_decode"] = live.now - before
        row["held"] = {"prefill": kept, "decode": live.held}
    return row


def show(name: str, attention: str, batch: int, tokens: int, **more: Any) -> None:
    """Print who holds the peak, for whoever writes the formulas."""
    first = measure(name, attention, batch, tokens, **more)
    at = {"prefill": first["prefill_peak"], "decode": first["decode_peak"]}
    row = measure(name, attention, batch, tokens, **more, watch=at)
    held = row.pop("held")
    print(row)
    for phase, storages in held.items():
        print(phase)
        for size, what in sorted(storages.values(), reverse=True):
            print(f"{size:12,} {what}")


def main() -> None:
    """Measure everything that a class supports; one JSON object a line."""
    import torch
    import transformers

    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    print(json.dumps({"versions": versions}))
    for name in sys.argv[1:] or CONFIGS | KEPT_BACK:
        for attention in ("sdpa", "eager"):
            for cache in KINDS:
                for batch, tokens, keep, dtype, padded in SHAPES if cache == "dynamic" else SHAPES[:2]:
                    try:
                        row = measure(name, attention, batch, tokens, dtype, cache, keep, padded)
                    except Exception as error:  # a class refuses it: the reason is worth seeing
                        print(f"{name} {attention} {cache}: {error!r}"[:160], file=sys.stderr)
                        break
                    row.pop("held")
                    print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
