"""The largest moments of a training step on several ranks that each hold the whole model, seen from one.

    python tests/oracles/replicated_peaks.py tests/data/replicated_peaks.jsonl  # torch, transformers

DistributedDataParallel (DDP) under MemTracker, with PyTorch's fake process group, and its
ZeroRedundancyOptimizer, that keeps each parameter's states on one rank. Tensors are real and small: DDP looks
at their data. The fake group's answers are not of the kind that DDP waits for, so a hook hands each bucket
back as it is; an all-reduce takes place in the bucket as well. Of each phase of the third step the largest
moment is kept: DDP sorts its buckets anew after the first.

MemTracker calls buckets activations (ACT), and gradients that are views of them with them.
"""

import argparse
import contextlib
import json
import time
from pathlib import Path

import torch
import torch.distributed as dist
import transformers
from torch.distributed._tools.mem_tracker import MemTracker
from torch.distributed.optim import ZeroRedundancyOptimizer
from torch.nn.parallel import DistributedDataParallel
from torch.testing._internal.distributed.fake_pg import FakeStore
from training_peaks import OPTIMIZERS, fields_of, largest

DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}
SMALL = {"h": 256, "a": 8, "kv": 4, "d": 32, "f": 768, "v": 1024}
WIDE = {"h": 512, "a": 8, "kv": 8, "d": 64, "f": 1408, "v": 8192}


def run(shape, layers, batch, seq, **options):
    """Everything about one run; views: gradients are views of buckets; zero: each state is on one rank."""
    return {
        "kind": "llama", "shape": shape, "layers": layers, "batch": batch, "seq": seq, "world": 4, "rank": 0,
        "ddp": True, "views": False, "bucket_mb": 25, "zero": False, "dtype": "fp32", "attention": "sdpa",
        "autocast": False,
        "optimizer": "adamw", "micro_batches": 1, "no_sync": False, "tied": False, "static": False,
    } | options  # fmt: skip


def settings():
    """The runs."""
    for views in (False, True):
        yield run(SMALL, 4, 2, 128, views=views)
        yield run(SMALL, 4, 2, 16, views=views)
        yield run(WIDE, 8, 2, 16, views=views, bucket_mb=1, world=64)
        yield run(SMALL, 4, 2, 16, views=views, dtype="bf16")
        yield run(SMALL, 4, 2, 16, views=views, micro_batches=2, no_sync=True)
        yield run(SMALL, 4, 2, 16, views=views, autocast=True, tied=True)
        yield run(SMALL, 4, 2, 16, views=views, static=True, optimizer="adamw-loop")
    for rank in (0, 1, 3):
        yield run(SMALL, 4, 2, 16, zero=True, views=True, rank=rank)
    yield run(WIDE, 8, 2, 16, zero=True, world=8)
    yield run(WIDE, 8, 2, 16, zero=True, world=2, views=True, optimizer="adamw-loop")
    yield run(SMALL, 4, 2, 16, ddp=False, world=1)


def handed_back(state, bucket):
    """In place of an all-reduce: the bucket itself, at once."""
    done = torch.futures.Future()
    done.set_result(bucket.buffer())
    return done


def steps(asked, model, ids):
    """Three steps; the phases of the third."""
    tracker, phases = MemTracker(), {}
    tracker.track_external(model)
    with tracker:
        module, parameters = model, list(model.parameters())
        if asked["ddp"]:
            module = DistributedDataParallel(
                model,
                gradient_as_bucket_view=asked["views"],
                bucket_cap_mb=asked["bucket_mb"],
                static_graph=asked["static"],
            )
            module.register_comm_hook(None, handed_back)
        make = OPTIMIZERS[asked["optimizer"]]
        if asked["zero"]:
            optimizer = ZeroRedundancyOptimizer(
                parameters, torch.optim.AdamW, lr=1e-4, foreach=asked["optimizer"] == "adamw"
            )
        else:
            optimizer = make(parameters)
        built = largest(tracker)
        for _ in range(3):
            for turn in range(asked["micro_batches"]):
                last = turn == asked["micro_batches"] - 1
                silent = module.no_sync if asked["no_sync"] and not last else contextlib.nullcontext
                name = f" {turn + 1}" if asked["micro_batches"] > 1 else ""
                with silent(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=asked["autocast"]):
                    loss = module(input_ids=ids, labels=ids, use_cache=False).loss
                    phases[f"forward{name}"] = largest(tracker)
                with silent():
                    loss.backward()
                phases[f"backward{name}"] = largest(tracker)
                del loss
                tracker.reset_mod_stats()
            optimizer.step()
            phases["step"] = largest(tracker)
            optimizer.zero_grad()
            tracker._peak_mem.clear()
            tracker._peak_mem_snap.clear()
        local = optimizer.optim if asked["zero"] else optimizer
        mine = [p for group in local.param_groups for p in group["params"]]
    return built, phases, mine


def measure(asked):
    """One line of the data."""
    began, fields = time.time(), fields_of(asked)
    dist.init_process_group("fake", store=FakeStore(), rank=asked["rank"], world_size=asked["world"])
    try:
        config = transformers.CONFIG_MAPPING[asked["kind"]](**fields)
        model = transformers.AutoModelForCausalLM.from_config(
            config, dtype=DTYPES[asked["dtype"]], attn_implementation=asked["attention"]
        ).train()
        ids = torch.randint(0, fields["vocab_size"], (asked["batch"], asked["seq"]))
        built, phases, mine = steps(asked, model, ids)
    finally:
        dist.destroy_process_group()
    told = {name: value for name, value in asked.items() if name not in ("kind", "shape", "layers", "tied")}
    where = max(phases, key=lambda name: phases[name]["Total"])
    return told | {
        "parameters": sum(p.numel() for p in model.parameters()), "stepped": sum(p.numel() for p in mine),
        "stepped_tensors": len(mine), "built": built, "peak_phase": where, "phases": phases,
        "seconds": round(time.time() - began, 1), "config": {"model_type": asked["kind"], **fields},
    }  # fmt: skip


def main():
    """Measure all."""
    parser = argparse.ArgumentParser()
    parser.add_argument("file", type=Path)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    with asked.file.open("w", encoding="utf-8") as out:
        for one in settings():
            try:
                out.write(json.dumps(measure(one)) + "\n")
                out.flush()
            except (RuntimeError, ValueError, TypeError, NotImplementedError, AssertionError) as error:
                print(one, type(error).__name__, str(error)[:200])


if __name__ == "__main__":
    main()
