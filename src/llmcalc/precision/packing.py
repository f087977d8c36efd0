"""How each method stores one matrix: packed elements first, then scales, zero points and tables.

Every function takes a `Matrix` and the method's options and returns the tensors of the checkpoint with
their names, dtypes and axes, so that bytes, shapes and shares of tensor ranks all follow from it. Layouts
are those of the methods' own layer classes (`data/schemes.yaml` names the source of each).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llmcalc.errors import InputError
from llmcalc.formula import ceil_div
from llmcalc.model.inventory import SPLIT_AXES, Dim, Segment, Tensor, dim, size


class GroupError(InputError):
    """Groups that do not divide a matrix; a scheme knows which would."""


Layout = tuple[str, list[Tensor]]
"""Format of an element, and the tensors stored."""


class Matrix:
    """One weight matrix as a method sees it.

    Attributes
    ----------
    role : str
        Its role in the inventory.
    out, inp : Dim
        Its rows and columns.
    lead : tuple of Dim
        What stands before them: experts. A method stores each expert by itself.
    model : str
        Dtype of the model's unquantized weights, which some scales share.
    """

    __slots__ = ("inp", "lead", "model", "out", "role")

    def __init__(
        self, role: str, out: Dim, inp: Dim, lead: tuple[Dim, ...] = (), model: str = "bf16"
    ) -> None:
        self.role, self.out, self.inp, self.lead, self.model = role, out, inp, lead, model

    @property
    def rows(self) -> int:
        """Outputs. [-]"""
        return size(self.out)

    @property
    def columns(self) -> int:
        """Inputs. [-]"""
        return size(self.inp)

    def tensor(self, part: str, dtype: str, *dims: Dim, tag: str = "scale") -> Tensor:
        """A stored tensor of this matrix, once for each expert."""
        return Tensor(self.role, (*self.lead, *dims), part, tag, dtype)

    def scalar(self, part: str, dtype: str = "fp32") -> Tensor:
        """A single number without a shape, which counts of a checkpoint's elements pass over."""
        return self.tensor(part, dtype, tag="scalar")

    def packed(self, part: str, dtype: str, *dims: Dim) -> Tensor:
        """The stored tensor that holds the elements."""
        return self.tensor(part, dtype, *dims, tag="main")


def shrunk(dimension: Dim, by: int) -> Dim:
    """A dimension of a `by`-th of the elements, rounded up, along the same axes where they divide.

    Examples
    --------
    >>> shrunk(dim(heads=32, head_dim=128), 8)
    ((('heads', 32), ('head_dim', 16)),)
    """
    if by == 1:
        return dimension
    if all(size((segment,)) % by == 0 for segment in dimension):
        return tuple(_shrunk(segment, by) for segment in dimension)
    return dim(**{_axis(*dimension): ceil_div(size(dimension), by)})


def _axis(*segments: Segment) -> str:
    """The axis that a run of elements is shared along: the first that tensor ranks divide, else the first."""
    axes = [axis for segment in segments for axis, _ in segment]
    return next((axis for axis in axes if axis in SPLIT_AXES), axes[0] if axes else "block")


def _shrunk(segment: Segment, by: int) -> Segment:
    """Divide the last axis, else the only one that is left."""
    for place in range(len(segment) - 1, -1, -1):
        axis, length = segment[place]
        if length % by == 0:
            return (*segment[:place], (axis, length // by), *segment[place + 1 :])
    product = 1
    for _, length in segment:
        product *= length
    return ((_axis(segment), product // by),)


def flat(rows: Dim, columns: Dim) -> Dim:
    """A matrix as one dimension, row by row, along the axes of both sides.

    Examples
    --------
    >>> flat(dim(hidden=4096), dim(ffn=448))
    ((('hidden', 4096), ('ffn', 448)),)
    """
    return tuple((*row, *column) for row in rows for column in columns)


def run(m: Matrix, by: int) -> Dim:
    """A `by`-th of all elements of a matrix in one dimension, over the ends of rows where `by` is no part."""
    if m.columns % by == 0:
        return flat(m.out, shrunk(m.inp, by))
    return dim(**{_axis(*m.out, *m.inp): ceil_div(m.rows * m.columns, by)})


def words(dimension: Dim, bits: int, width: int = 32) -> Dim:
    """Words of `width` bits that hold a dimension of `bits`-bit values without gaps."""
    if width % bits == 0:
        return shrunk(dimension, width // bits)
    return dim(**{_axis(*dimension): ceil_div(size(dimension) * bits, width)})


def groups(m: Matrix, group: int, method: str) -> Dim:
    """Groups along the columns; one where `group` is -1."""
    if group in (-1, 0):
        return dim(group=1)
    if m.columns % group and method not in PADS:
        raise GroupError(
            f"{method}: groups of {group} do not divide the {m.columns:,} columns of {m.role}.",
            "Use another group size, or a method that leaves such layers alone.",
        )
    return shrunk(m.inp, group)


PADS = ("gptq",)
"""Methods whose last group may be shorter."""


def gptq(m: Matrix, bits: int = 4, group: int = 128, index: bool = True, **_: Any) -> Layout:
    """Elements packed down the columns, fp16 scales, packed zero points and an index of groups."""
    many = groups(m, group, "gptq")
    made = [
        m.packed("qweight", "int32", words(m.inp, bits), m.out),
        m.tensor("qzeros", "int32", many, words(m.out, bits)),
        m.tensor("scales", "fp16", many, m.out),
    ]
    if index:
        made.append(m.tensor("g_idx", "int32", m.inp))
    return f"int{bits}", made


def awq(m: Matrix, bits: int = 4, group: int = 128, zero_point: bool = True, **_: Any) -> Layout:
    """Elements packed along the rows of outputs, zero points likewise, fp16 scales."""
    many = groups(m, group, "awq")
    made = [
        m.packed("qweight", "int32", m.inp, words(m.out, bits)),
        m.tensor("qzeros", "int32", many, words(m.out, bits)),
        m.tensor("scales", "fp16", many, m.out),
    ]
    return f"int{bits}", made if zero_point else [made[0], made[2]]


def int4_awq(m: Matrix, group: int = 128, static: bool = False, **_: Any) -> Layout:
    """ModelOpt's INT4: two rows a byte, fp32 scales, what AWQ multiplies the columns by; W4A8 scales too."""
    made = [
        m.packed("weight", "uint8", shrunk(m.out, 2), m.inp),
        m.tensor("weight_scale", "fp32", m.out, groups(m, group, "modelopt-awq")),
        m.tensor("pre_quant_scale", m.model, m.inp),
    ]
    return "int4", [*made, m.scalar("weight_scale_2"), m.scalar("input_scale")] if static else made


def bitsandbytes4(
    m: Matrix, kind: str = "nf4", double: bool = False, block: int = 64, nested: int = 256, **_: Any
) -> Layout:
    """Two elements a byte, one fp32 maximum for each block, or that maximum in 8 bits once more."""
    absmax = run(m, block)
    made = [
        m.packed("weight", "uint8", run(m, 2), dim(one=1)),
        m.tensor("weight.absmax", "uint8" if double else "fp32", absmax),
        m.tensor("weight.quant_map", "fp32", dim(code=16)),
    ]
    if double:
        made += [
            m.tensor("weight.nested_absmax", "fp32", shrunk(absmax, nested)),
            m.tensor("weight.nested_quant_map", "fp32", dim(code=256)),
        ]
    return kind, made


def int8_rows(m: Matrix, **_: Any) -> Layout:
    """LLM.int8(): one byte an element, an fp32 maximum for each row."""
    return "int8", [
        m.packed("weight", "int8", m.out, m.inp),
        m.tensor("SCB", "fp32", m.out),
        m.scalar("weight_format", "uint8"),
    ]


def fp8(
    m: Matrix, strategy: str = "tensor", block: tuple[int, int] = (128, 128), static: bool = False,
    dialect: str = "", scale: str = "fp32", **_: Any,
) -> Layout:  # fmt: skip
    """One byte an element; a scale for the matrix, a row, or a block of 128 x 128.

    compressed-tensors keeps scales in the model's dtype, all others in fp32 (or as bare exponents);
    transformers calls them inverse.
    """
    compressed = dialect == "compressed"
    dtype, one = (m.model, (dim(one=1),)) if compressed else (scale, ())
    own = (
        ("weight_scale_inv", "activation_scale")
        if dialect == "transformers"
        else ("weight_scale", "input_scale")
    )
    made = [m.packed("weight", "fp8", m.out, m.inp)]
    if strategy == "block":
        blocks = shrunk(m.out, block[0]), shrunk(m.inp, block[1])
        made.append(m.tensor("weight_scale" if compressed else "weight_scale_inv", dtype, *blocks))
    elif strategy == "channel":
        made.append(m.tensor("weight_scale", dtype, m.out, dim(one=1)))
    else:
        made.append(m.tensor(own[0], dtype, *one, tag="scale" if dialect else "scalar"))
    if static:
        made.append(m.tensor(own[1], dtype, *one, tag="scale" if dialect else "scalar"))
    return "fp8", made


def int8_channel(m: Matrix, static: bool = False, scale: str = "", **_: Any) -> Layout:
    """W8A8: one byte an element and a scale for each row."""
    made = [
        m.packed("weight", "int8", m.out, m.inp),
        m.tensor("weight_scale", scale or m.model, m.out, dim(one=1)),
    ]
    return "int8", [*made, m.tensor("input_scale", "fp32")] if static else made


def pack_quantized(
    m: Matrix, bits: int = 4, group: int = 128, symmetric: bool = True, order: bool = False, **_: Any
) -> Layout:
    """compressed-tensors' integers: packed along the columns, scales in the model's dtype."""
    many = groups(m, group, "compressed-tensors")
    made = [
        m.packed("weight_packed", "int32", m.out, words(m.inp, bits)),
        m.tensor("weight_scale", m.model, m.out, many),
        m.tensor("weight_shape", "int64", dim(two=2)),
    ]
    if not symmetric:
        made.append(m.tensor("weight_zero_point", "int32", words(m.out, bits), many))
    if order:
        made.append(m.tensor("weight_g_idx", "int32", m.inp))
    return f"int{bits}", made


def nvfp4(m: Matrix, dialect: str = "modelopt", static: bool = True, group: int = 16, **_: Any) -> Layout:
    """Two FP4 elements a byte, an FP8 scale for 16 of them, one fp32 scale for all."""
    halves, scales = shrunk(m.inp, 2), m.tensor("weight_scale", "fp8", m.out, groups(m, group, "nvfp4"))
    if dialect == "modelopt":
        made = [m.packed("weight", "uint8", m.out, halves), scales, m.scalar("weight_scale_2")]
        return "fp4", [*made, m.scalar("input_scale")] if static else made
    one = dim(one=1)
    made = [
        m.packed("weight_packed", "uint8", m.out, halves),
        scales,
        m.tensor("weight_global_scale", "fp32", one),
    ]
    return "fp4", [*made, m.tensor("input_global_scale", "fp32", one)] if static else made


def mx(
    m: Matrix, bits: int = 4, names: tuple[str, str] = ("weight_packed", "weight_scale"), **_: Any
) -> Layout:
    """OCP microscaling: narrow floats and one shared exponent byte for 32 of them."""
    scales = m.tensor(names[1], "uint8", m.out, groups(m, 32, f"mxfp{bits}"))
    if bits == 8:
        return "fp8", [m.packed("weight", "fp8", m.out, m.inp), scales]
    kind = f"fp{bits}"
    return kind, [m.packed(names[0], "uint8", m.out, words(m.inp, bits, 8)), scales]


def gpt_oss(m: Matrix, **_: Any) -> Layout:
    """MXFP4 as gpt-oss stores its experts: blocks of 32 elements in 16 bytes, one exponent each.

    The blocks are given by element, as counts of the checkpoint take them: half as many bytes.
    """
    many = groups(m, 32, "mxfp4")
    return "fp4", [
        m.packed("_blocks", "fp4", m.out, many, dim(block=32)),
        m.tensor("_scales", "uint8", m.out, many),
    ]


def mlx(m: Matrix, bits: int = 4, group: int = 64, mode: str = "affine", **_: Any) -> Layout:
    """MLX: 32-bit words along the columns; scales and biases in the model's dtype, or exponents alone."""
    many = groups(m, group, "mlx")
    packed = m.packed("weight", "uint32", m.out, words(m.inp, bits))
    if mode != "affine":
        return f"fp{bits}", [packed, m.tensor("scales", "uint8", m.out, many)]
    return f"int{bits}", [
        packed,
        m.tensor("scales", m.model, m.out, many),
        m.tensor("biases", m.model, m.out, many),
    ]


def hqq(m: Matrix, bits: int = 4, group: int = 64, **_: Any) -> Layout:
    """HQQ: groups as rows, packed down them; 5 and 6 bits lie in bytes, 3 bits ten to a word."""
    width = m.columns if group in (-1, 0) else group
    if m.rows * m.columns % width:
        raise GroupError(
            f"hqq: groups of {group} do not divide the {m.rows * m.columns:,} elements of {m.role}.",
            "Use another group size.",
        )
    rows = run(m, width)
    dtype, held = {8: ("uint8", 1), 6: ("uint8", 1), 5: ("uint8", 1), 3: ("int32", 10)}.get(
        bits, ("uint8", 8 // bits)
    )
    return f"int{bits}", [
        m.packed("W_q", dtype, shrunk(rows, held), dim(group=width)),
        m.tensor("scale", "fp16", rows, dim(one=1)),
        m.tensor("zero", "fp16", rows, dim(one=1)),
    ]


def quanto(m: Matrix, bits: int = 4, group: int = 128, number: str = "int", **_: Any) -> Layout:
    """optimum-quanto: a scale for each row at 8 bits, scale and shift for each group below."""
    ends = [m.scalar("input_scale", m.model), m.scalar("output_scale", m.model)]
    if bits == 8:
        dtype = "fp8" if number == "float" else "int8"
        scale = m.tensor("weight._scale", m.model, m.out, dim(one=1))
        return dtype, [m.packed("weight._data", dtype, m.out, m.inp), scale, *ends]
    fitting = next((g for g in range(group, 0, -32) if m.columns % g == 0), m.columns)
    many = groups(m, fitting, "quanto")
    rows = flat(m.out, many)
    return f"int{bits}", [
        m.packed("weight._data._data", "uint8", shrunk(rows, 8 // bits), dim(group=m.columns // size(many))),
        m.tensor("weight._scale", m.model, rows, dim(one=1)),
        m.tensor("weight._shift", m.model, rows, dim(one=1)),
        *ends,
    ]


def eetq(m: Matrix, **_: Any) -> Layout:
    """EETQ: bytes, columns first, and an fp16 scale for each row."""
    return "int8", [m.packed("weight", "int8", m.inp, m.out), m.tensor("weight_scales", "fp16", m.out)]


def torchao(m: Matrix, bits: int = 4, group: int = 128, number: str = "int", **_: Any) -> Layout:
    """torchao, weights only: fp32 scales for each row at 8 bits, scale and zero point for each group at 4."""
    scale, zero = "_weight_scale", "_weight_zero_point"
    if bits == 8:
        dtype = "fp8" if number == "float" else "int8"
        made = [m.packed("_weight_qdata", dtype, m.out, m.inp), m.tensor(scale, "fp32", m.out, dim(one=1))]
        return dtype, made if number == "float" else [*made, m.tensor(zero, "int8", m.out, dim(one=1))]
    many = groups(m, group, "torchao")
    return f"int{bits}", [
        m.packed("_weight_qdata", "int8", m.out, shrunk(m.inp, 8 // bits)),
        m.tensor(scale, m.model, many, m.out),
        m.tensor(zero, m.model, many, m.out),
    ]


def aqlm(m: Matrix, books: int = 1, code: int = 16, group: int = 8, **_: Any) -> Layout:
    """AQLM: a code (of each codebook) for a group of columns, the codebooks of the layer, row scales."""
    return f"vq{books}x{code}", [
        m.packed("codes", "int16" if code > 8 else "int8", m.out, shrunk(m.inp, group), dim(book=books)),
        m.tensor("codebooks", "fp16", dim(book=books), dim(code=1 << code), dim(one=1), dim(group=group)),
        m.tensor("scales", "fp16", m.out, dim(one=1), dim(two=1), dim(three=1)),
    ]


def quip(m: Matrix, bits: int = 2, **_: Any) -> Layout:
    """QuIP#: 64-bit words of lattice indices, and the signs of the incoherence transform as fp16 vectors."""
    packed = m.packed("Qidxs", "int64", m.out, words(m.inp, bits, 64))
    signs = [m.tensor("SU", "fp16", m.inp), m.tensor("SV", "fp16", m.out)]
    return f"vq{bits}", [packed, *signs, m.scalar("Wscale"), m.scalar("codebook_id", "int64")]


def exl3(m: Matrix, bits: Any = 4, **_: Any) -> Layout:
    """EXL3: a trellis of `bits` for each element of a matrix padded to 128, and two fp16 vectors of signs."""
    rows, columns = (128 * ceil_div(size(side), 128) for side in (m.out, m.inp))
    tiles = dim(tile=ceil_div(rows * columns * bits, 16))
    return f"trellis{float(bits):g}", [
        m.packed("trellis", "int16", tiles),
        m.tensor("suh", "fp16", m.inp),
        m.tensor("svh", "fp16", m.out),
        m.scalar("mul1", "int32"),
    ]


def exl2(m: Matrix, bits: Any = 4, **_: Any) -> Layout:
    """EXL2: groups of unlike widths that average to `bits`, scales and the order of columns included."""
    words_ = dim(word=ceil_div(m.rows * m.columns * bits, 32))
    return f"exl{float(bits):g}", [m.packed("q_weight", "int32", words_)]


def bitnet(m: Matrix, **_: Any) -> Layout:
    """BitNet: four ternary elements a byte and one scale."""
    return "int2", [
        m.packed("weight", "uint8", shrunk(m.out, 4), m.inp),
        m.tensor("weight_scale", m.model, dim(one=1)),
    ]


METHODS: dict[str, Callable[..., Layout]] = {
    "aqlm": aqlm, "awq": awq, "bitnet": bitnet, "bitsandbytes4": bitsandbytes4, "eetq": eetq, "exl2": exl2,
    "exl3": exl3, "fp8": fp8, "gpt_oss": gpt_oss, "gptq": gptq, "hqq": hqq, "int4_awq": int4_awq,
    "int8_channel": int8_channel, "int8_rows": int8_rows, "mlx": mlx, "mx": mx, "nvfp4": nvfp4,
    "pack_quantized": pack_quantized, "quanto": quanto, "quip": quip, "torchao": torchao,
}  # fmt: skip
"""Packers by the word that `data/schemes.yaml` calls them by."""
