"""The largest moments of a training step sharded by FSDP2, seen from one rank: no other process, no GPU.

    python tests/oracles/fsdp_peaks.py tests/data/fsdp_peaks.jsonl  # torch, transformers; 15 minutes

The process group is PyTorch's fake one, that answers every collective at once and moves nothing; its
FSDPMemTracker says what each byte is for. Of each phase of the second step, when the optimizer's states are
there, the largest moment is kept, with the unit of FSDP that was at work and what it did. Layers are a unit
each, and what is left (embedding, last norm, head) is the root's, unless `units` says otherwise. Tensors are
fake, unless `real`: where sizes don't divide, the tracker loses sight of fake shards.

The tracker names a gradient a temporary (TEMP) until its unit has run through backward, and a collective's
buffer by what it was made for before it is handed over.
"""

import argparse
import contextlib
import json
import time
from pathlib import Path

import torch
import torch.distributed as dist
import transformers
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed._tools.fsdp2_mem_tracker import FSDPMemTracker
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor._sharding_prop import ShardingPropagator
from torch.testing._internal.distributed.fake_pg import FakeStore
from training_peaks import CHECKPOINTING, OPTIMIZERS, fields_of, packing_known

DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32, None: None}

PUBLISHED = {"h": 256, "a": 8, "kv": 4, "d": 32, "f": 768, "v": 1024}
UNEVEN = {"h": 300, "a": 6, "kv": 2, "d": 50, "f": 811, "v": 1003}
LOGITS = {"h": 512, "a": 8, "kv": 8, "d": 64, "f": 1408, "v": 32000}
PARAMETERS = {"h": 1024, "a": 16, "kv": 8, "d": 64, "f": 2816, "v": 4096}
LARGE = {"h": 2048, "a": 32, "kv": 8, "d": 64, "f": 5632, "v": 32000}
VOCABULARY = {"h": 512, "a": 8, "kv": 8, "d": 64, "f": 1408, "v": 128256}
MIXTURE = {"h": 512, "a": 8, "kv": 4, "d": 64, "f": 768, "v": 8192}

WHEN = {
    "PRE_FW": "gathers for forward", "FW": "forward", "POST_FW": "after its forward",
    "PRE_BW": "gathers for backward", "BW": "backward", "POST_BW": "after its backward",
}  # fmt: skip


def run(kind, shape, layers, batch, seq, **options):
    """Everything about one run.

    mesh: (ranks that shard,) or (replicas, ranks that shard); parameter, reduce: dtypes of FSDP's mixed
    precision, None is none; reshard: of the layers; root_reshard: None is FSDP's own choice; no_sync: the
    gradients of all micro-batches but the last stay whole on every rank.
    """
    return {
        "kind": kind, "shape": shape, "layers": layers, "batch": batch, "seq": seq, "mesh": (8,), "rank": 0,
        "dtype": "fp32", "parameter": "bf16", "reduce": "fp32", "reshard": True, "root_reshard": None,
        "units": "layers", "attention": "sdpa", "checkpointing": False, "optimizer": "adamw-loop",
        "micro_batches": 1, "no_sync": False, "tied": False, "keep_output": False,
        "real": False, "masked": False,
    } | options  # fmt: skip


def settings():
    """The runs."""
    published = ("llama", PUBLISHED, 4, 2, 128)
    for real in (True, False):
        for reshard in (True, False):
            yield run(*published, reshard=reshard, real=real, masked=not real, keep_output=True)
    logits, parameters = ("llama", LOGITS, 8, 2, 1024), ("llama", PARAMETERS, 12, 1, 16)
    yield run(*logits, mesh=(2,))
    yield run(*logits, mesh=(4,), reshard=False)
    yield run(*logits, mesh=(16,))
    yield run(*logits, mesh=(64,), reshard=False)
    yield run(*parameters, mesh=(2,))
    yield run(*parameters, mesh=(4,), reshard=False)
    yield run(*parameters, mesh=(16,))
    yield run(*parameters, mesh=(64,), reshard=False)
    yield run(*parameters, mesh=(16,), root_reshard=True)
    yield run(*published, mesh=(16,), reshard=4, real=True)
    yield run(*parameters, mesh=(2, 4))
    yield run(*parameters, mesh=(2, 4), reduce="bf16")
    yield run(*logits, mesh=(4, 16), reshard=False, reduce="bf16")
    yield run(*logits, mesh=(4, 16), optimizer="adamw")
    for mesh, rank in (((16,), 0), ((16,), 15), ((64,), 63), ((2, 4), 7)):
        yield run("llama", UNEVEN, 6, 2, 96, mesh=mesh, rank=rank, real=True)
        yield run(
            "llama", UNEVEN, 6, 2, 16, mesh=mesh, rank=rank, reshard=False, optimizer="adamw", real=True
        )
    yield run("qwen3", LOGITS, 8, 2, 1024, mesh=(4,), tied=True)
    yield run("qwen3", PARAMETERS, 12, 1, 16, mesh=(16,), tied=True)
    for more in (
        {"reduce": "bf16"},
        {"parameter": None, "reduce": None},
        {"dtype": "bf16", "parameter": None, "reduce": None},
        {"dtype": "bf16", "parameter": None},
        {"dtype": "bf16", "parameter": None, "reduce": "fp32", "micro_batches": 2},
    ):
        yield run(*parameters, **more)
    yield run(*logits, parameter=None, reduce=None, reshard=False)
    yield run(*logits, checkpointing=True)
    yield run(*logits, checkpointing=True, reshard=False, mesh=(64,))
    yield run("llama", PARAMETERS, 12, 4, 1024, checkpointing=True, mesh=(16,))
    yield run(*parameters, micro_batches=2)
    yield run(*parameters, micro_batches=3, no_sync=True)
    yield run(*parameters, micro_batches=2, no_sync=True, reduce="bf16")
    yield run(*logits, micro_batches=2, no_sync=True, reshard=False)
    yield run(*parameters, micro_batches=2, mesh=(2, 4), no_sync=True)
    yield run(*logits, units="all")
    yield run(*parameters, units="all", mesh=(16,))
    yield run("mixtral", MIXTURE, 6, 1, 512, mesh=(4,))
    yield run("qwen3_moe", MIXTURE, 6, 1, 512, mesh=(16,), reshard=False)
    yield run("gemma2", PARAMETERS, 8, 1, 512, attention="eager", tied=True, mesh=(4,))
    yield run("gpt_neox", PARAMETERS, 12, 2, 512, mesh=(16,))
    yield run(*parameters, optimizer="sgd-momentum", mesh=(4,))
    yield run("llama", LARGE, 16, 1, 2048, mesh=(64,), optimizer="adamw")
    yield run("llama", LARGE, 16, 1, 2048, mesh=(8, 8), checkpointing=True, reduce="bf16")
    yield run("llama", VOCABULARY, 4, 1, 16, mesh=(64,))
    yield run("llama", VOCABULARY, 4, 1, 16, mesh=(64,), tied=True, reduce="bf16")
    yield run("llama", VOCABULARY, 4, 1, 16, mesh=(16,), reshard=False, root_reshard=True)
    yield run("llama", VOCABULARY, 4, 1, 16, mesh=(16,), units="all")
    yield run("llama", VOCABULARY, 4, 1, 16, mesh=(2,))


class Watched(FSDPMemTracker):
    """The tracker, with a note of where the largest moment was."""

    def __init__(self, model, optimizer):
        """Of `model`, whose units are known by their names."""
        super().__init__(model, optimizer)
        self.names = {m: name or "root" for name, m in model.named_modules() if isinstance(m, FSDPModule)}
        self.unit, self.op, self.where = None, None, None
        self.asking = False

    def _noted(self, module, made):
        def inner(*given, **named):
            self.unit = self.names[module]
            return made(*given, **named)

        return inner

    def _fsdp_state_pre_forward(self, module, own):
        return self._noted(module, super()._fsdp_state_pre_forward(module, own))

    def _fsdp_state_post_forward(self, module, own):
        return self._noted(module, super()._fsdp_state_post_forward(module, own))

    def _fsdp_param_group_pre_backward(self, module, own):
        return self._noted(module, super()._fsdp_param_group_pre_backward(module, own))

    def _fsdp_param_group_post_backward(self, module, own):
        return self._noted(module, super()._fsdp_param_group_post_backward(module, own))

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        """Keep the operator's name for the note; what a DTensor asks itself about shapes is no memory."""
        if self.asking:
            return func(*args, **kwargs or {})
        self.op = str(func)
        return super().__torch_dispatch__(func, types, args, kwargs or {})

    def _update_peak_stats(self, peak_state):
        before = dict(self._peak_mem)
        super()._update_peak_stats(peak_state)
        if before != self._peak_mem:
            when = "step" if self._in_opt else WHEN[self._fsdp_state.name]
            self.where = {"unit": self.unit, "when": when, "op": self.op}

    def forget(self):
        """Begin a phase."""
        self._peak_mem.clear()
        self._peak_mem_snap.clear()

    def largest(self):
        """The largest moment since the last call, by category, and where it was; forgotten by this. [B]"""
        (moment,) = self.get_tracker_snapshot("peak").values()
        self.forget()
        sizes = {str(kind).split(".")[-1]: size for kind, size in moment.items() if size}
        where, self.where = self.where, None
        return sizes | {"at": where}


@contextlib.contextmanager
def shapes_unseen(tracker):
    """Under fake tensors, DTensors ask for shapes with tensors of the whole size: not for the tracker."""
    own = ShardingPropagator._propagate_tensor_meta_non_cached

    def careful(*given, **named):
        before, tracker.asking = tracker.asking, True
        try:
            return own(*given, **named)
        finally:
            tracker.asking = before

    ShardingPropagator._propagate_tensor_meta_non_cached = careful
    yield
    ShardingPropagator._propagate_tensor_meta_non_cached = own


def prepare(asked, fields, mesh):
    """The model, sharded as asked."""
    config = transformers.CONFIG_MAPPING[asked["kind"]](**fields)
    model = transformers.AutoModelForCausalLM.from_config(
        config, dtype=DTYPES[asked["dtype"]], attn_implementation=asked["attention"]
    ).train()
    if asked["checkpointing"]:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs=CHECKPOINTING)
    policy = MixedPrecisionPolicy(
        param_dtype=DTYPES[asked["parameter"]], reduce_dtype=DTYPES[asked["reduce"]]
    )
    told = {"mesh": mesh, "mp_policy": policy}
    body = model.base_model
    if asked["units"] == "all":
        fully_shard(body.get_input_embeddings(), reshard_after_forward=asked["reshard"], **told)
    for layer in body.layers:
        fully_shard(layer, reshard_after_forward=asked["reshard"], **told)
    if asked["units"] == "all":
        fully_shard(model.get_output_embeddings(), reshard_after_forward=False, **told)
    if asked["root_reshard"] is None:
        fully_shard(model, **told)
    else:
        fully_shard(model, reshard_after_forward=asked["root_reshard"], **told)
    return model


def steps(asked, model, optimizer, ids):
    """Two steps; the phases of the second."""
    tracker, phases, output = Watched(model, optimizer), {}, None
    tracker.track_inputs((ids,))
    with tracker, shapes_unseen(tracker):
        for _ in range(2):
            for turn in range(asked["micro_batches"]):
                if asked["no_sync"]:
                    model.set_requires_gradient_sync(turn == asked["micro_batches"] - 1)
                name = f" {turn + 1}" if asked["micro_batches"] > 1 else ""
                output = model(input_ids=ids, labels=ids, use_cache=False)
                loss = output.loss
                if not asked["keep_output"]:
                    del output
                phases[f"forward{name}"] = tracker.largest()
                loss.backward()
                phases[f"backward{name}"] = tracker.largest()
                del loss
                tracker.reset_mod_stats()
            optimizer.step()
            phases["step"] = tracker.largest()
            optimizer.zero_grad()
            tracker.forget()
    return phases


def shapes_of(model):
    """The shapes of each unit's parameters; those of one layer, as all are alike."""
    units = {}
    for name, module in model.named_modules():
        if isinstance(module, FSDPModule):
            group = module._get_fsdp_state()._fsdp_param_group
            kind = "layer" if ".layers." in name else name.split(".")[-1] or "root"
            shapes = [list(p._orig_size) for p in group.fsdp_params]
            if units.setdefault(kind, shapes) != shapes:
                raise ValueError(f"layers of several kinds: {name}")
    return units


def measure(asked):
    """One line of the data."""
    began, fields = time.time(), fields_of(asked)
    world = 1
    for ranks in asked["mesh"]:
        world *= ranks
    dist.init_process_group("fake", store=FakeStore(), rank=asked["rank"], world_size=world)
    names = ("shard",) if len(asked["mesh"]) == 1 else ("replicate", "shard")
    mesh = init_device_mesh("cpu", tuple(asked["mesh"]), mesh_dim_names=names)
    try:
        with contextlib.nullcontext() if asked["real"] else FakeTensorMode(), packing_known(asked["masked"]):
            model = prepare(asked, fields, mesh)
            parameters = list(model.parameters())
            optimizer = OPTIMIZERS[asked["optimizer"]](parameters)
            ids = torch.randint(0, fields["vocab_size"], (asked["batch"], asked["seq"]))
            units, whole = shapes_of(model), sum(p.numel() for p in parameters)
            phases = steps(asked, model, optimizer, ids)
    finally:
        dist.destroy_process_group()
    told = {name: value for name, value in asked.items() if name not in ("kind", "shape", "layers", "tied")}
    where = max(phases, key=lambda name: phases[name]["Total"])
    return told | {
        "world": world, "parameters": whole, "tensors": len(parameters), "unit_shapes": units,
        "peak_phase": where, "peak_bytes": phases[where], "phases": phases,
        "seconds": round(time.time() - began, 1),
        "config": {"model_type": asked["kind"], **fields},
    }  # fmt: skip


def main():
    """Measure all."""
    parser = argparse.ArgumentParser()
    parser.add_argument("file", type=Path)
    parser.add_argument("--first", type=int, default=0, help="Number of the run to begin with.")
    parser.add_argument("--last", type=int, help="Number of the run to stop before.")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    with asked.file.open("w", encoding="utf-8") as out:
        for one in list(settings())[asked.first : asked.last]:
            try:
                out.write(json.dumps(measure(one)) + "\n")
                out.flush()
            except (
                RuntimeError,
                ValueError,
                TypeError,
                NotImplementedError,
                KeyError,
                AssertionError,
            ) as error:
                print(one, type(error).__name__, str(error)[:200])


if __name__ == "__main__":
    main()
