"""The largest moments of a training step at full size, under fake tensors: nothing is allocated.

    python tests/oracles/training_peaks.py tests/data/training_peaks.jsonl  # torch, transformers; 30 minutes

PyTorch's MemTracker says what each byte is for: parameters, gradients, activations (whatever the forward
pass made), temporaries (whatever backward made), optimizer (states and what a step adds). Of each phase of
the second step, when the optimizer's states are there, the largest moment is kept; a phase begins with what
the one before left. Logits that nobody needs for backward are dropped after the loss, as trainers do, unless
`keep_logits`.

Fake tensors can't be asked whether sequences are packed, so that transformers makes a mask to be safe, and
with it repeats keys and values. A real run without padding has neither: the question is answered here, unless
`masked`.
"""

import argparse
import contextlib
import json
import time
from pathlib import Path

import torch
import transformers
from saved_tensors import Adapted
from tiny_families import FAMILIES
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed._tools.mem_tracker import MemTracker
from transformers import masking_utils
from transformers.optimization import Adafactor

CHECKPOINTING = {"use_reentrant": False}

MEDIUM = {"h": 1024, "a": 16, "kv": 8, "d": 64, "f": 3072, "v": 50304}
SMALL = {"h": 768, "a": 12, "kv": 12, "d": 64, "f": 2048, "v": 32000}
DEEP_VOCABULARY = {"h": 640, "a": 4, "kv": 1, "d": 256, "f": 2048, "v": 262144}
NARROW_VOCABULARY = {"h": 1024, "a": 16, "kv": 8, "d": 64, "f": 4096, "v": 4096}
TINY = {"h": 384, "a": 6, "kv": 6, "d": 64, "f": 1024, "v": 8192}
LARGE = {"h": 2048, "a": 32, "kv": 8, "d": 64, "f": 5632, "v": 32000}

ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def adafactor(parameters):
    """That of transformers, as its trainer asks for it."""
    return Adafactor(parameters, lr=1e-4, scale_parameter=False, relative_step=False)


def muon(parameters):
    """Muon for the matrices of the layers, AdamW for the rest."""
    matrices = [p for p in parameters if p.ndim == 2 and p.shape[0] < 30_000]
    ours = {id(p) for p in matrices}
    rest = [p for p in parameters if id(p) not in ours]
    return torch.optim.Muon(matrices, lr=1e-4), torch.optim.AdamW(rest, lr=1e-4, foreach=True)


OPTIMIZERS = {
    "adamw": lambda p: torch.optim.AdamW(p, lr=1e-4, foreach=True),
    "adamw-loop": lambda p: torch.optim.AdamW(p, lr=1e-4, foreach=False),
    "sgd": lambda p: torch.optim.SGD(p, lr=1e-4, foreach=True),
    "sgd-momentum": lambda p: torch.optim.SGD(p, lr=1e-4, momentum=0.9, foreach=True),
    "sgd-momentum-loop": lambda p: torch.optim.SGD(p, lr=1e-4, momentum=0.9, foreach=False),
    "adafactor-loop": lambda p: torch.optim.Adafactor(p, lr=1e-4, foreach=False),
    "adafactor": lambda p: torch.optim.Adafactor(p, lr=1e-4, foreach=True),
    "adafactor-transformers": adafactor,
    "muon": muon,
    "adagrad": lambda p: torch.optim.Adagrad(p, lr=1e-4, foreach=True),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=1e-4, foreach=True),
    "adamw-amsgrad": lambda p: torch.optim.AdamW(p, lr=1e-4, amsgrad=True, foreach=True),
}
"""By the names of this file; foreach is what torch takes by itself on a GPU.

torch's own Adafactor asks tensors for their values, so it can't be run without them: tiny, and `real`.
"""


def run(kind, shape, layers, batch, seq, **options):
    """Everything about one run; see `settings`."""
    return {
        "kind": kind, "shape": shape, "layers": layers, "batch": batch, "seq": seq, "dtype": "bf16",
        "attention": "sdpa", "checkpointing": False, "autocast": False, "optimizer": "adamw", "lora": None,
        "frozen_layers": 0, "tied": False, "micro_batches": 1, "keep_logits": False,
        "real": False, "masked": False,
    } | options  # fmt: skip


def adapters(targets, rank, dtype="fp32"):
    """What LoRA is asked for."""
    return {"targets": targets, "rank": rank, "dtype": dtype}


def settings():
    """The runs: where the peak lies, families, optimizers, adapters, precision."""
    llama = ("llama", SMALL, 12)
    yield run("qwen3", MEDIUM, 12, 2, 1024, tied=True)
    yield run("qwen3", MEDIUM, 12, 2, 1024, tied=True, masked=True)
    yield run("gpt_neox", MEDIUM, 12, 4, 512, masked=True)
    yield run("llama", NARROW_VOCABULARY, 12, 1, 8192, optimizer="adamw-loop", masked=True)
    yield run("qwen3", MEDIUM, 12, 2, 1024, tied=True, keep_logits=True)
    yield run("qwen3", MEDIUM, 12, 2, 1024, tied=True, checkpointing=True)
    yield run("qwen3", MEDIUM, 12, 1, 64, tied=True)
    yield run("gemma3_text", DEEP_VOCABULARY, 18, 1, 512, tied=True)
    yield run("gemma", DEEP_VOCABULARY, 6, 1, 256, attention="eager", tied=True, keep_logits=True)
    yield run("gemma2", MEDIUM, 8, 1, 1024, attention="eager", checkpointing=True, tied=True)
    yield run("phi3", MEDIUM, 12, 1, 2048, optimizer="adamw-loop")
    yield run("gpt_neox", MEDIUM, 12, 4, 512)
    yield run("gpt_neox", MEDIUM, 12, 4, 512, dtype="fp32")
    yield run("gpt_neox", MEDIUM, 12, 4, 512, dtype="fp32", autocast=True)
    yield run("olmo2", MEDIUM, 12, 1, 4096, checkpointing=True)
    yield run("starcoder2", MEDIUM, 12, 2, 1024)
    yield run("granite", MEDIUM, 12, 2, 1024, attention="eager")
    yield run("cohere", MEDIUM, 8, 1, 1024, tied=True)
    yield run("glm4", MEDIUM, 8, 1, 1024)
    yield run("phi", MEDIUM, 8, 2, 512, dtype="fp32")
    yield run("mistral", LARGE, 8, 1, 2048)
    yield run("falcon", MEDIUM, 8, 1, 1024)
    yield run("mixtral", SMALL, 6, 1, 512)
    for optimizer in OPTIMIZERS:
        if optimizer in ("adafactor", "adafactor-loop"):
            for dtype in ("bf16", "fp32"):
                yield run("llama", TINY, 3, 1, 16, optimizer=optimizer, dtype=dtype, real=True)
        else:
            yield run(*llama, 1, 32, optimizer=optimizer)
    yield run(*llama, 1, 32, optimizer="adamw", dtype="fp32")
    yield run(*llama, 1, 32, optimizer="muon", dtype="fp32")
    yield run(*llama, 1, 32, optimizer="adamw-loop", dtype="fp32", autocast=True)
    yield run(*llama, 4, 1024, dtype="fp32", autocast=True)
    yield run(*llama, 4, 1024, dtype="fp32", autocast=True, checkpointing=True)
    yield run(*llama, 4, 1024, dtype="fp32", checkpointing=True)
    yield run("llama", NARROW_VOCABULARY, 12, 1, 8192, optimizer="adamw-loop")
    yield run("llama", NARROW_VOCABULARY, 12, 1, 8192, optimizer="adamw-loop", checkpointing=True)
    yield run("llama", NARROW_VOCABULARY, 12, 1, 2048, attention="eager", checkpointing=True)
    yield run(*llama, 2, 512, micro_batches=2)
    yield run(*llama, 1, 32, micro_batches=2, optimizer="adamw-loop")
    yield run(*llama, 2, 512, frozen_layers=8)
    yield run("llama", MEDIUM, 12, 2, 1024, lora=adapters(["q_proj", "v_proj"], 8))
    yield run("llama", MEDIUM, 12, 2, 1024, lora=adapters(ALL, 16))
    yield run("llama", MEDIUM, 12, 2, 1024, lora=adapters(ALL, 16, "bf16"))
    yield run("llama", MEDIUM, 12, 2, 1024, lora=adapters(ALL, 16), checkpointing=True)
    yield run("llama", NARROW_VOCABULARY, 12, 1, 4096, lora=adapters(ALL, 64), optimizer="adamw-loop")
    yield run("llama", NARROW_VOCABULARY, 12, 1, 4096, lora=adapters(ALL, 64), checkpointing=True)
    yield run("qwen3", MEDIUM, 12, 1, 1024, lora=adapters(ALL, 16), attention="eager", tied=True)
    yield run(
        "phi3", MEDIUM, 12, 1, 2048, lora=adapters(["qkv_proj", "o_proj", "gate_up_proj", "down_proj"], 32)
    )
    yield run(
        "llama", LARGE, 16, 1, 1024, lora=adapters(["q_proj", "k_proj", "v_proj", "o_proj"], 256, "bf16")
    )


def fields_of(asked):
    """The configuration's fields."""
    fields = FAMILIES[asked["kind"]](asked["shape"] | {"batch": asked["batch"], "seq": asked["seq"]})
    if "layer_types" in fields:
        kinds = fields["layer_types"]
        fields["layer_types"] = [kinds[i % len(kinds)] for i in range(asked["layers"])]
    longest = max(asked["seq"], fields["max_position_embeddings"])
    return fields | {
        "num_hidden_layers": asked["layers"], "tie_word_embeddings": asked["tied"],
        "max_position_embeddings": longest,
    }  # fmt: skip


class _Nothing:
    """A hook that was never set."""

    def remove(self):
        """Nothing to take away."""


@contextlib.contextmanager
def frozen_parameters():
    """MemTracker hooks every parameter, and a frozen one can't be."""
    names = ("register_hook", "register_post_accumulate_grad_hook")
    own = {name: getattr(torch.Tensor, name) for name in names}
    for name, method in own.items():

        def careful(tensor, hook, method=method):
            return method(tensor, hook) if tensor.requires_grad else _Nothing()

        setattr(torch.Tensor, name, careful)
    yield
    for name, method in own.items():
        setattr(torch.Tensor, name, method)


@contextlib.contextmanager
def packing_known(masked):
    """Whether transformers may ask if sequences are packed; they are not."""
    own = masking_utils.find_packed_sequence_indices
    if not masked:
        masking_utils.find_packed_sequence_indices = lambda *given, **named: None
    yield
    masking_utils.find_packed_sequence_indices = own


def prepare(asked, fields):
    """The model, trainable as asked."""
    dtype = {"bf16": torch.bfloat16, "fp32": torch.float32}
    config = transformers.CONFIG_MAPPING[asked["kind"]](**fields)
    model = transformers.AutoModelForCausalLM.from_config(
        config, dtype=dtype[asked["dtype"]], attn_implementation=asked["attention"]
    ).train()
    if asked["lora"]:
        lora = asked["lora"]
        model.requires_grad_(False)
        for parent in list(model.modules()):
            for name, child in list(parent.named_children()):
                if name in lora["targets"]:
                    setattr(parent, name, Adapted(child, lora["rank"], dtype[lora["dtype"]]))
    if asked["frozen_layers"]:
        model.base_model.get_input_embeddings().requires_grad_(False)
        for layer in model.base_model.layers[: asked["frozen_layers"]]:
            layer.requires_grad_(False)
    if asked["checkpointing"]:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs=CHECKPOINTING)
        if asked["lora"]:
            model.enable_input_require_grads()
    return model


def largest(tracker):
    """The largest moment since the last call, by category; the tracker forgets it. [B]"""
    (moment,) = tracker.get_tracker_snapshot("peak").values()
    tracker._peak_mem.clear()
    tracker._peak_mem_snap.clear()
    return {str(kind).split(".")[-1]: size for kind, size in moment.items() if size}


def measure(asked):
    """One line of the data."""
    began, fields = time.time(), fields_of(asked)
    imagined = contextlib.nullcontext() if asked["real"] else FakeTensorMode()
    with imagined, frozen_parameters(), packing_known(asked["masked"]):
        model = prepare(asked, fields)
        trained = [p for p in model.parameters() if p.requires_grad]
        made = OPTIMIZERS[asked["optimizer"]](trained)
        optimizers = made if isinstance(made, tuple) else (made,)
        ids = torch.randint(0, fields["vocab_size"], (asked["batch"], asked["seq"]))
        tracker, phases = MemTracker(), {}
        tracker.track_external(model, *optimizers)
        cast = contextlib.nullcontext
        if asked["autocast"]:
            cast = lambda: torch.autocast("cpu", dtype=torch.bfloat16)  # noqa: E731
        with tracker:
            for step in range(2):
                if step:
                    largest(tracker)
                for turn in range(asked["micro_batches"]):
                    with cast():
                        output = model(input_ids=ids, labels=ids, use_cache=False)
                    loss, kept = output.loss, output if asked["keep_logits"] else None
                    del output
                    name = f" {turn + 1}" if asked["micro_batches"] > 1 else ""
                    phases[f"forward{name}"] = largest(tracker)
                    loss.backward()
                    phases[f"backward{name}"] = largest(tracker)
                    del loss, kept
                    tracker.reset_mod_stats()
                for optimizer in optimizers:
                    optimizer.step()
                phases["step"] = largest(tracker)
                for optimizer in optimizers:
                    optimizer.zero_grad()
    total = sum(p.numel() for p in model.parameters())
    told = {name: value for name, value in asked.items() if name not in ("kind", "shape", "layers", "tied")}
    where = max(phases, key=lambda name: phases[name]["Total"])
    return told | {
        "parameters": total, "trained": sum(p.numel() for p in trained), "peak_phase": where,
        "phases": phases, "seconds": round(time.time() - began, 1),
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
            except (RuntimeError, ValueError, TypeError, NotImplementedError) as error:
                print(one, type(error).__name__, str(error)[:200])


if __name__ == "__main__":
    main()
