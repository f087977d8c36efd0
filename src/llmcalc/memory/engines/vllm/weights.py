"""What a rank of vLLM holds once it has loaded: the checkpoint's share, padded, and tables beside it."""

from __future__ import annotations

from copy import copy

from llmcalc.engine_options.vllm_era import Era
from llmcalc.estimate import Item, add_up, worst_grade
from llmcalc.memory.engines.vllm.allocator import is_repacked, unused_ends
from llmcalc.memory.engines.vllm.spreads import SMALL
from llmcalc.memory.engines.vllm.spreads import ends as ends_of
from llmcalc.memory.folds import weights_item
from llmcalc.memory.inference import weight_bytes
from llmcalc.memory.workload import Precision
from llmcalc.model.inventory import Group, Inventory, Tensor
from llmcalc.placement import Placement, rank_numel

PADDING = 64
"""A vocabulary is padded to a multiple of this, then shared by the tensor ranks. [rows]"""

MXFP4_FFN, MXFP4_HIDDEN = 128, 256
"""Widths of MXFP4 experts are padded to multiples of these for their kernel. [elements]"""

SOURCE = "vLLM 0.33.0, model_executor/layers"

QUARTER = ("qwen3_next", "qwen3_5", "qwen3_5_moe", "qwen3_5_text", "qwen3_5_moe_text")
"""Families that turn a quarter of a head where the configuration does not say."""

SECTIONED = (
    "qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe", "qwen3_5", "qwen3_5_moe", "glm4v", "glm4v_moe",
    "ernie4_5_vl_moe",
)  # fmt: skip
"""Families whose positions have three parts, of time, height and width."""

SECTIONED_TIMES = 4
"""So many times the positions have their tables of cosines and sines."""

ALLOCATOR = "PyTorch, c10/cuda/CUDACachingAllocator.cpp"

UNTURNED = ("baichuan", "bloom", "falcon_mamba", "jamba", "mamba", "mamba2", "mpt", "nemotron_h", "whisper")
"""Families without rotary positions; those with a learned table are known by it."""


def padded_rows(vocab: int, tp: int) -> int:
    """Rows of the vocabulary that a tensor rank holds beyond its share of the real ones. [rows]

    Examples
    --------
    >>> padded_rows(128_256, 1), padded_rows(50_257, 1), padded_rows(151_655, 4)
    (0, 47, 6)

    References
    ----------
    vLLM 0.33.0, model_executor/layers/vocab_parallel_embedding.py.
    """
    whole = -(-vocab // PADDING) * PADDING
    return -(-whole // tp) - -(-vocab // tp)


def loaded_item(inventory: Inventory, placement: Placement, precision: Precision, era: Era) -> Item:
    """Weights as loaded: of the checkpoint, padding, rotary tables, copies, ends of segments."""
    inventory = with_shares(inventory, placement)
    stored = weights_item(inventory, placement, precision)
    bits = precision.model.bits
    parts = [
        Item(
            "checkpoint", stored.amounts, grade=stored.grade, formula=stored.formula, inputs=stored.inputs,
            source=stored.source, note=stored.note, items=stored.items,
        )
    ]  # fmt: skip
    rows = [_padding(inventory, placement, stage) for stage in range(placement.pp)]
    tables = rotary_elements(inventory, era)
    repacked = [_repacked(inventory, placement, stage) for stage in range(placement.pp)]
    if any(repacked):
        parts.append(
            Item(
                "expert padding", repacked, grade="derived", formula="sum of tensors", source=SOURCE,
                note=f"widths to multiples of {MXFP4_FFN} and {MXFP4_HIDDEN}",
            )
        )  # fmt: skip
    copies = [_absorbed(inventory, placement, stage) if era.absorbs else 0 for stage in range(placement.pp)]
    ends = [unused_ends(inventory, placement, precision, stage) for stage in range(placement.pp)]
    if precision.native is not None and any(ends):
        parts.append(
            Item(
                "ends of segments", ends, grade="derived", formula="sum of tensors", source=ALLOCATOR,
                note="large tensors, rounded up to 2 MiB",
            )
        )  # fmt: skip
    for name, numbers, note in (
        ("vocabulary padding", rows, f"to a multiple of {PADDING} rows"),
        ("rotary tables", [tables] * placement.pp, "cosines and sines of all positions"),
        ("latent projections", copies, "a 16-bit copy of kv_b, for queries and values"),
    ):
        if any(numbers):
            parts.append(
                Item(
                    name, [weight_bytes(number, bits) for number in numbers], grade="derived",
                    formula="weight_bytes", inputs={"parameters": max(numbers), "bits": bits},
                    source=SOURCE, note=note,
                )
            )  # fmt: skip
    amounts = [int(add_up([part.amounts[stage] for part in parts])) for stage in range(placement.pp)]
    kind = _kind(inventory)
    low, high = ends_of("weights", kind, amounts, SMALL)
    return Item(
        "weights", amounts, low=low, high=high, inputs={"range": kind},
        grade=worst_grade(["calibrated", *(part.grade for part in parts)]), formula="sum of parts",
        source=stored.source, note=stored.note, items=parts,
    )  # fmt: skip


def _kind(inventory: Inventory) -> str:
    """Which spread a load has: of plain weights, of 8-bit ones, of smaller ones, laid out anew, of towers."""
    if any(group.component in ("vision", "audio") for group in inventory.groups):
        return "towers"
    packed = [
        tensor.stored[0].dtype or ""
        for group in inventory.groups
        for tensor in group.tensors
        if tensor.tag in inventory.loaded and tensor.stored
    ]
    if not packed:
        return "plain"
    return "eight" if all(dtype.startswith(EIGHT) for dtype in packed) else "packed"


EIGHT = ("fp8", "int8", "f8")
"""Formats of one byte an element, which stay as they are."""


def _absorbed(inventory: Inventory, placement: Placement, stage: int) -> int:
    """Elements of latent attention's up-projections, which vLLM keeps a second time, turned. [-]"""
    return sum(
        placement.stored(group, stage) * rank_numel(tensor, placement.tp)
        for group in inventory.groups
        for tensor in group.tensors
        if tensor.role == "kv_b" and tensor.tag in inventory.loaded
    )


def _padding(inventory: Inventory, placement: Placement, stage: int) -> int:
    """Elements that pad embedding and head of a stage. [-]"""
    total = 0
    for group in inventory.groups:
        if group.component == "text" and group.place in ("embedding", "head"):
            count = placement.count(group, stage)
            for tensor in group.tensors:
                vocab = _vocab(tensor)
                if count and vocab and tensor.tag == "main" and tensor.numel:
                    total += padded_rows(vocab, placement.tp) * (tensor.numel // vocab)
    return total


def _vocab(tensor: Tensor) -> int:
    """Rows of a table of the vocabulary; 0 for another tensor."""
    axes = [dict(segment) for dimension in tensor.dims for segment in dimension]
    return next((own["vocab"] for own in axes if "vocab" in own), 0)


def rotary_elements(inventory: Inventory, era: Era) -> int:
    """Elements of the tables of rotary positions: cosine and sine for half the turned width each. [-]

    One for each width of heads, windowed and full layers apart; every rank holds them whole.

    Examples
    --------
    Llama-3.1-8B has 131,072 positions, 32 MiB in 16 bit; Qwen2.5-VL-7B has four times its 128,000:

    >>> import llmcalc
    >>> from llmcalc.engine_options.vllm_era import era_of
    >>> [2 * rotary_elements(llmcalc.model(name), era_of(None)) // 2**20
    ...  for name in ("llama-3.1-8b", "qwen2.5-vl-7b-instruct")]
    [32, 125]
    """
    learned = any(t.role == "position" for g in inventory.groups if g.component == "text" for t in g.tensors)
    if not inventory.context or learned or inventory.family in UNTURNED:
        return 0
    share = inventory.rope[1]
    if share == 1 and inventory.family in QUARTER:
        share = 0.25
    widths = set()
    for group in inventory.groups:
        for cache in group.caches:
            for name, dimension in cache.parts:
                axes = dict(dimension[0])
                if name == "rotary":
                    widths.add(("", axes["rotary"]))
                elif name == "k" and cache.stream == "decoder" and "head_dim" in axes:
                    turned = int(axes["head_dim"] * share)
                    widths.add(("window" if cache.kind == "window" else "", turned))
    times = SECTIONED_TIMES if era.sections and inventory.family in SECTIONED else 1
    return int(inventory.context) * times * sum(width for _, width in widths)


def with_shares(inventory: Inventory, placement: Placement) -> Inventory:
    """The model as ranks share it beyond its layers' axes: towers, and experts among replicas.

    Tensor ranks share a tower where its heads divide among them; routed experts are dealt to the ranks
    of all replicas.

    Examples
    --------
    >>> import llmcalc
    >>> model = llmcalc.model("llama-3.1-8b")
    >>> with_shares(model, Placement(2, 1, 1, 32)) is model
    True
    """
    groups = [_shared(group, placement) for group in inventory.groups]
    if all(old is new for old, new in zip(inventory.groups, groups, strict=True)):
        return inventory
    made = copy(inventory)
    made.groups = tuple(groups)
    return made


def _shared(group: Group, placement: Placement) -> Group:
    axes = [
        (axis, n) for tensor in group.tensors for dimension in tensor.dims for segment in dimension
        for axis, n in segment
    ]  # fmt: skip
    heads = [n for axis, n in axes if axis == "tower_heads"]
    is_split = placement.tp > 1 and heads and not any(n % placement.tp for n in heads)
    is_dealt = placement.dp > 1 and any(axis == "expert" for axis, _ in axes)
    if not (is_split or is_dealt):
        return group
    return group.with_layers(group.layers, [_held(t, bool(is_split), placement.dp) for t in group.tensors])


def _held(tensor: Tensor, is_split: bool, dp: int) -> Tensor:
    """The same tensor with axes that tensor parallelism divides, and its replica's share of experts."""
    names = {"tower_heads": "heads", "tower_ffn": "ffn"} if is_split else {}
    share = dp if tensor.role.startswith("expert_") else 1

    def axis_of(axis: str, length: int) -> tuple[str, int]:
        return names.get(axis, axis), -(-length // share) if axis == "expert" else length

    dims = tuple(
        tuple(tuple(axis_of(axis, n) for axis, n in segment) for segment in dimension)
        for dimension in tensor.dims
    )
    stored = [_held(part, is_split, dp) for part in tensor.stored]
    return Tensor(tensor.role, dims, tensor.part, tensor.tag, tensor.dtype, stored)


def _repacked(inventory: Inventory, placement: Placement, stage: int) -> int:
    """Bytes that pad MXFP4 experts on a rank: 4 bits an element and a byte of scale for 32. [B]"""
    total = 0
    for group in inventory.groups:
        count = placement.count(group, stage)
        for tensor in group.tensors if count else ():
            axes = [dict(segment) for dimension in tensor.dims for segment in dimension]
            ffn = next((own["ffn"] for own in axes if "ffn" in own), 0)
            hidden = next((own["hidden"] for own in axes if "hidden" in own), 0)
            if not (is_repacked(tensor) and ffn and hidden):
                continue
            own = -(-ffn // placement.tp)
            wide = -(-own // MXFP4_FFN) * MXFP4_FFN * (-(-hidden // MXFP4_HIDDEN) * MXFP4_HIDDEN)
            extra = tensor.numel // (ffn * hidden) * (wide - own * hidden)
            total += count * extra * 17 // 32
    return total
