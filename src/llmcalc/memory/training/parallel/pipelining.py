"""What PyTorch's pipeline stages keep beside their layers: tensors sent, received and returned."""

from __future__ import annotations

from typing import Any

from llmcalc.formula import Quantity, ceil_div
from llmcalc.memory.training.parallel.mesh import Mesh
from llmcalc.memory.training.parallel.pipeline import Stage
from llmcalc.memory.training.parallel.ranks import waiting_most
from llmcalc.model.inventory import Inventory, size


def stage_buffers(mesh: Mesh, stage: Stage, plan: Any, model: Inventory) -> dict[str, Quantity]:
    """Buffers of `torch.distributed.pipelining`, by what they are. [B]

    Parameters
    ----------
    mesh : Mesh
        The layout.
    stage : Stage
        Which stage.
    plan : Plan
        How a micro-batch is run.
    model : Inventory
        One tensor rank's part of the model.

    Notes
    -----
    Read from `stage.py` of PyTorch 2.6: every micro-batch has a place of its own to receive into, for inputs
    and for gradients of outputs; outputs of micro-batches under way are held, those of the last stage all.
    """
    if mesh.pp == 1:
        return {}
    tokens = plan.batch * plan.seq
    hidden = next(
        size(op.out) for g in model for op in g.ops if g.place == "embedding" and op.role == "embedding"
    )
    sent = ceil_div(tokens * hidden * plan.element, plan.shares_tokens)
    found: dict[str, Quantity] = {}
    waiting = waiting_most(mesh, stage.index)
    for (_, is_first, is_last), others in zip(stage.chunks, waiting, strict=True):
        under_way = 1 + others
        if not is_first:
            _add(found, "inputs received", (mesh.micro_batches - min(under_way, mesh.micro_batches)) * sent)
        if not is_last:
            _add(found, "gradients received", mesh.micro_batches * sent)
            _add(found, "outputs sent", under_way * sent)
        else:
            heads = [size(op.out) for g in model if g.place == "head" for op in g.ops if op.kind == "linear"]
            logits = tokens * max(heads, default=0) * plan.element
            _add(found, "logits returned", (mesh.micro_batches - 1) * logits)
    return found


def _add(found: dict[str, Quantity], name: str, bytes_: Quantity) -> None:
    found[name] = found.get(name, 0) + bytes_
