"""LoRA adapters that are served: two small matrices beside each one that they change."""

from __future__ import annotations

from llmcalc.estimate import Item
from llmcalc.memory.inference import weight_bytes
from llmcalc.model.inventory import Group, Inventory, Tensor, size
from llmcalc.placement import Placement, split_dim

EMBEDDED = ("llama", "mistral", "mixtral", "granite", "granitemoe", "phi3")
"""Families whose embedding and head vLLM makes room for as well, by ``embedding_modules`` of their classes;
those of Qwen, Gemma and OLMo have none."""

SERVED_SOURCE = "vLLM 0.33.0, lora/layers and lora/model_manager.py"
ADAPTER_SOURCE = "Hu et al. 2021, section 4.1"


def pair_elements(tensor: Tensor, rank: int, tp: int) -> int:
    """Elements of both matrices beside one, on one tensor rank. [-]

    The side that tensor parallelism divides is divided in the adapter, the other lies whole on every
    rank, once for each projection that is fused on the divided side.

    Examples
    --------
    Key projection of Llama-3.1-8B, 1,024 x 4,096, with rank 16 on two ranks: 16 x (4,096 + 512).

    >>> from llmcalc.model.inventory import Tensor, dim
    >>> pair_elements(Tensor("key", (dim(kv_heads=8, head_dim=128), dim(hidden=4096))), 16, 2)
    73728
    """
    experts = 1
    sides = []
    for dimension in tensor.dims:
        if dimension[0][0][0] == "expert" and len(tensor.dims) > 2:
            experts *= size(dimension)
        else:
            sides.append(dimension)
    split = [split_dim(side, 2) for side in sides]
    divided = next((place for place, (_, was) in enumerate(split) if was), None)
    if divided is None:
        return experts * rank * sum(map(size, sides))
    whole = sum(size(side) for place, side in enumerate(sides) if place != divided)
    return experts * rank * (whole * len(sides[divided]) + split_dim(sides[divided], tp)[0])


def changed(group: Group, experts: bool) -> list[Tensor]:
    """Matrices of a layer that adapters change: all linear ones of the text layers."""
    if group.component != "text" or group.place != "layer":
        return []
    linear = {op.role: op for op in group.ops if op.kind == "linear"}
    return [
        tensor
        for tensor in group.tensors
        if tensor.role in linear and tensor.part in ("weight", "") and len(tensor.dims) > 1
        and tensor.tag == "main"
        and (experts or (linear[tensor.role].stored == 1 and tensor.role != "router"))
    ]  # fmt: skip


def lora_elements(inventory: Inventory, placement: Placement, stage: int, rank: int, experts: bool) -> int:
    """Elements of one adapter on a tensor rank of a stage. [-]"""
    return sum(
        placement.count(group, stage)
        * sum(pair_elements(t, rank, placement.tp) for t in changed(group, experts))
        for group in inventory.groups
    )


def embedded_elements(inventory: Inventory, rank: int, first: bool, last: bool) -> int:
    """Elements beside embedding and head, which are not divided, where vLLM makes room for them. [-]"""
    if inventory.family not in EMBEDDED:
        return 0
    total = 0
    for group in inventory.groups:
        for tensor in group.tensors:
            axes = {axis for dimension in tensor.dims for segment in dimension for axis, _ in segment}
            if (
                group.component == "text"
                and tensor.tag == "main"
                and "vocab" in axes
                and len(tensor.dims) == 2
            ):
                is_head = group.place == "head"
                total += rank * sum(tensor.shape) * (last if is_head else first)
    return total


def adapters_item(inventory: Inventory, placement: Placement, ranks: list[int]) -> Item:
    """Adapters in 16 bit, each by its rank, all linear layers but experts and routers changed."""
    own = [
        sum(lora_elements(inventory, placement, stage, rank, False) for rank in ranks)
        for stage in range(placement.pp)
    ]
    many = len(ranks)
    return Item(
        "lora", [weight_bytes(n, 16) for n in own], grade="assumed", formula="weight_bytes",
        inputs={"parameters": max(own), "bits": 16}, source=ADAPTER_SOURCE,
        note=f"{many} adapter{'s' if many > 1 else ''} of all linear layers but experts, 16 bit",
    )  # fmt: skip


def adapter_slots(inventory: Inventory, placement: Placement, rank: int, slots: int) -> Item:
    """The buffers that SGLang makes when it loads: so many adapters of the largest rank, in 16 bit.

    They lie there before the pools are sized, so they are taken off the budget. Which matrices have some
    is the union of what the adapters change: all linear layers but experts is assumed.

    References
    ----------
    SGLang 0.5.23, srt/lora/mem_pool.py (``init_buffers``), srt/model_executor/model_runner.py.

    Examples
    --------
    >>> import llmcalc
    >>> found = adapter_slots(llmcalc.model("qwen2.5-7b"), Placement(1, 1, 1, 28), 16, 8)
    >>> found.bytes == 8 * 80_740_352
    True
    """
    own = [slots * lora_elements(inventory, placement, n, rank, False) for n in range(placement.pp)]
    return Item(
        "lora", [weight_bytes(n, 16) for n in own], grade="assumed", formula="weight_bytes",
        inputs={"parameters": max(own), "bits": 16, "max_loras": slots, "max_lora_rank": rank},
        source="SGLang 0.5.23, srt/lora/mem_pool.py", note=f"buffers for {slots:,} of rank {rank}, 16 bit",
    )  # fmt: skip


def slots_item(inventory: Inventory, placement: Placement, rank: int, slots: int, experts: bool) -> Item:
    """The room that vLLM makes when it loads: so many adapters of the largest rank, in 16 bit.

    Examples
    --------
    >>> import llmcalc
    >>> found = slots_item(llmcalc.model("qwen2.5-7b"), Placement(1, 1, 1, 28), 16, 1, True)
    >>> found.bytes  # rank 16 of all linear layers: 40,370,176 parameters
    80740352
    """
    last = placement.pp - 1
    own = [
        slots * (
            lora_elements(inventory, placement, stage, rank, experts)
            + embedded_elements(inventory, rank, stage == 0, stage == last)
        )
        for stage in range(placement.pp)
    ]  # fmt: skip
    return Item(
        "lora", [weight_bytes(n, 16) for n in own], grade="derived", formula="weight_bytes",
        inputs={"parameters": max(own), "bits": 16, "max_loras": slots, "max_lora_rank": rank},
        source=SERVED_SOURCE, note=f"room for {slots:,} of rank {rank}, 16 bit",
    )  # fmt: skip
