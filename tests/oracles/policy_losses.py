"""What log-probabilities of answers hold, as three frameworks compute them, storage by storage on a CPU.

    python tests/oracles/policy_losses.py tests/data/policy_losses.jsonl  # torch; a minute

The head of a small model with a large vocabulary is run with the operations of TRL (logits of the answers,
divided by the temperature in place, one sequence after the other), of verl (all tokens, a cross-entropy that
writes its gradient over the logits) and of OpenRLHF (all tokens in fp32, a gradient of its own). Every
storage that an operation returns is counted from birth to death. What kernels take inside is not seen.
"""

import json
import sys
import weakref

import torch
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

WIDTH, VOCABULARY, SEQ, ANSWERS, CHUNK = 64, 50_000, 500, 400, 128


class Watch(TorchDispatchMode):
    """Counts storages that are alive."""

    def __init__(self):
        super().__init__()
        self.now = self.most = 0
        self.known = set()

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        made = operation(*args, **(kwargs or {}))
        for one in tree_flatten(made)[0]:
            if isinstance(one, torch.Tensor):
                self.meet(one.untyped_storage())
        return made

    def meet(self, storage):
        key, size = storage._cdata, storage.nbytes()
        if key in self.known:
            return
        self.known.add(key)
        self.now += size
        self.most = max(self.most, self.now)
        weakref.finalize(storage, self.leave, key, size)

    def leave(self, key, size):
        self.known.discard(key)
        self.now -= size


class CrossEntropy(torch.autograd.Function):
    """Stands for flash-attn's kernel: it saves the logits, and its gradient is as large as they are."""

    @staticmethod
    def forward(ctx, logits, targets, in_place):
        ctx.save_for_backward(logits, logits.new_zeros(len(logits), dtype=torch.float32), targets)
        ctx.in_place = in_place
        return logits.new_zeros(len(logits), dtype=torch.float32)

    @staticmethod
    def backward(ctx, gradient):
        logits = ctx.saved_tensors[0]
        return (logits if ctx.in_place else torch.empty_like(logits)), None, None


def chosen(logits, answers):
    """Log-probabilities of the answers' tokens, a sequence at a time."""
    if logits.dtype == torch.float32:
        own = logits.gather(-1, answers[..., None])
        return own - torch.stack([torch.logsumexp(one, -1) for one in logits])[..., None]
    return torch.stack(
        [
            functional.log_softmax(one, -1).gather(-1, ids[:, None])
            for one, ids in zip(logits, answers, strict=True)
        ]
    )


def entropy(logits):
    """Of each token, without gradients."""
    parts = []
    with torch.no_grad():
        for part in logits.reshape(-1, VOCABULARY).split(CHUNK):
            likely = functional.log_softmax(part, -1)
            parts.append(-(likely.exp() * likely).sum(-1))
    return torch.cat(parts)


def trl(hidden, weight, answers, wide, watched):
    logits = functional.linear(hidden[:, -(ANSWERS + 1) :], weight)
    logits = logits.float() if wide else logits
    logits = logits[:, :-1][:, -ANSWERS:]
    logits.div_(1.0)
    found = chosen(logits, answers)
    if watched:
        entropy(logits)
    return found, None


def verl(hidden, weight, answers, wide, watched):
    logits = functional.linear(hidden.reshape(1, -1, WIDTH), weight).squeeze(0)
    logits.div_(1.0)
    return CrossEntropy.apply(logits, answers, True), None


def openrlhf(hidden, weight, answers, wide, watched):
    logits = functional.linear(hidden, weight).float()
    return CrossEntropy.apply(logits.reshape(-1, VOCABULARY), answers, False), logits


LOSSES = {"log-probs": trl, "log-probs-in-place": verl, "log-probs-wide": openrlhf}


def run(loss, sequences, wide, trains):
    """Peaks of one loss, without the weight. [B]"""
    weight = torch.randn(VOCABULARY, WIDTH).bfloat16().requires_grad_(trains)
    hidden = torch.randn(sequences, SEQ, WIDTH).bfloat16().requires_grad_(trains)
    length = ANSWERS if loss == "log-probs" else SEQ
    answers = torch.zeros(sequences, length, dtype=torch.int64)
    answers = answers if loss == "log-probs" else answers.reshape(-1)
    own, watch = weight.untyped_storage().nbytes(), Watch()
    with watch, torch.set_grad_enabled(trains):
        found, output = LOSSES[loss](hidden * 1, weight, answers, wide, trains)
        forward, saved, watch.most = watch.most, watch.now, watch.now
        if trains:
            found.mean().backward()
        backward = watch.most
    del output
    return {
        "loss": loss, "sequences": sequences, "wide": wide, "trains": trains, "seq": SEQ, "answers": ANSWERS,
        "vocabulary": VOCABULARY, "width": WIDTH, "forward": forward - own,
        "saved": saved - own if trains else None, "backward": backward - own if trains else None,
    }  # fmt: skip


if __name__ == "__main__":
    with open(sys.argv[1], "w", encoding="utf-8") as stream:
        for loss in LOSSES:
            for sequences in (1, 2, 4):
                for wide in (True, False) if loss == "log-probs" else (loss == "log-probs-wide",):
                    for trains in (True, False):
                        stream.write(json.dumps(run(loss, sequences, wide, trains)) + "\n")
