"""Stored tensors of one quantized matrix against those of the methods' own layer classes."""

import json
from pathlib import Path

import pytest

import llmcalc
from llmcalc.errors import InputError
from llmcalc.model.inventory import Tensor, dim
from llmcalc.placement import rank_stored
from llmcalc.precision.packing import METHODS, Matrix

LAYOUTS = json.loads((Path(__file__).parent / "data" / "stored_layouts.json").read_text())
BITS = {"bits", "group"}


def packer(method, options):
    """Our packer and its options for a package's layer."""
    bits, group = options.get("bits"), options.get("group")
    if group == "channel":
        group = -1
    if method.startswith("bnb-"):
        double = options.get("double_quant", False)
        return (
            ("int8_rows", {})
            if "int8" in method
            else ("bitsandbytes4", {"kind": method[4:], "double": double})
        )
    if method == "gptq":
        return "gptq", {"bits": bits, "group": group}
    if method == "awq-gemm":
        return "awq", {"bits": bits, "group": group, "zero_point": options.get("zero_point", True)}
    if method.startswith("mlx-"):
        return "mlx", {"bits": bits, "group": group, "mode": options.get("mode", "affine")}
    if method == "hqq":
        return "hqq", {"bits": 2 if bits == 1.58 else bits, "group": group or -1}
    if method.startswith("quanto-"):
        return "quanto", {"bits": bits, "group": 128, "number": "float" if "float" in method else "int"}
    if method.startswith("torchao-"):
        return "torchao", {"bits": bits, "group": group, "number": "float" if "float" in method else "int"}
    if method == "aqlm":
        return "aqlm", {
            "books": options["num_codebooks"], "code": options["nbits_per_codebook"],
            "group": options["in_group_size"],
        }  # fmt: skip
    if method.startswith("fp8-finegrained"):
        found = {"dialect": "transformers", "static": options.get("activation_scheme") == "static"}
        if options.get("block"):
            found |= {"strategy": "block", "block": tuple(options["block"])}
        return "fp8", found | {"scale": "e8m0" if options.get("scale_fmt") == "ue8m0" else "fp32"}
    if method == "eetq-int8":
        return "eetq", {}
    if method == "fbgemm-fp8":
        return "fp8", {"strategy": "channel"}
    if method == "bitnet":
        return "bitnet", {}
    if method.startswith("ct-mxfp"):
        return "mx", {"bits": bits}
    if method.startswith("ct-nvfp4"):
        return "nvfp4", {"dialect": "compressed", "static": method == "ct-nvfp4"}
    if method in ("ct-fp8", "ct-fp8_dynamic", "ct-fp8_block"):
        kind = {"ct-fp8": "tensor", "ct-fp8_dynamic": "channel", "ct-fp8_block": "block"}[method]
        return "fp8", {"strategy": kind, "static": kind == "tensor", "dialect": "compressed"}
    if method == "ct-int8":
        return "int8_channel", {}
    assert method.startswith("ct-"), method
    return "pack_quantized", {"bits": bits, "group": group, "symmetric": options.get("symmetric", True)}


def label(row):
    words = [f"{key}={value}" for key, value in row["options"].items() if key != "preset"]
    return f"{row['method']}-{row['out']}x{row['in']}-{','.join(words)}"


@pytest.mark.parametrize("row", LAYOUTS, ids=label)
def test_tensors_of_the_layer(row):
    name, options = packer(row["method"], row["options"])
    model = row["options"].get("source_dtype", "bf16")
    matrix = Matrix("up", dim(ffn=row["out"]), dim(hidden=row["in"]), model=model)
    if row["refused"]:
        with pytest.raises(InputError, match=r"do not divide|no multiple"):
            METHODS[name](matrix, **options)
        return
    _, stored = METHODS[name](matrix, **options)
    found = {t.part: [t.dtype, list(t.shape)] for t in stored}
    wanted = {
        t["name"]: [t["dtype"], t["shape"]]
        for t in row["tensors"]
        # The bias stays as it is, and bitsandbytes' state is a JSON text of some 80 or 170 bytes.
        if t["name"] != "bias" and "quant_state" not in t["name"]
    }
    assert found == wanted


SIDES = {
    "column": (dim(ffn=14336), dim(hidden=4096)),
    "row": (dim(hidden=4096), dim(ffn=14336)),
    "output": (dim(hidden=4096), dim(heads=32, head_dim=128)),
    "fused": (dim(heads=32, head_dim=128) + dim(kv_heads=8, head_dim=128) * 2, dim(hidden=4096)),
    "head": (dim(vocab=128256), dim(hidden=4096)),
}
EVERY = [
    (name, options)
    for name in METHODS
    for options in {
        "bitsandbytes4": [{}, {"double": True}],
        "fp8": [{}, {"strategy": "channel"}, {"strategy": "block"}],
        "gptq": [{}, {"bits": 3}, {"group": -1}],
        "hqq": [{}, {"bits": 3}, {"bits": 8}, {"bits": 2, "group": 16}, {"group": -1}],
        "mlx": [{}, {"bits": 3}, {"mode": "mxfp4", "group": 32}],
        "quanto": [{}, {"bits": 2}, {"bits": 8}],
        "pack_quantized": [{}, {"bits": 3}, {"group": -1}, {"symmetric": False}],
        "exl2": [{"bits": 2}, {"bits": 6}],
        "exl3": [{"bits": 2}, {"bits": 3}],
    }.get(name, [{}])
]


@pytest.mark.parametrize("tp", [1, 2, 4, 8])
@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize(("name", "options"), EVERY, ids=lambda value: str(value))
def test_all_tensor_ranks_together_are_the_whole(name, options, side, tp):
    """But for vectors along one side and tables, which each rank keeps."""
    out, inp = SIDES[side]
    matrix = Matrix("up", out, inp)
    kind, stored = METHODS[name](matrix, **options)
    tensor = Tensor("up", (out, inp), "weight", "main", kind, stored)
    for place, (part, number) in enumerate(zip(stored, rank_stored(tensor, tp), strict=True)):
        table = place and (part.numel <= matrix.rows + matrix.columns or part.part == "codebooks")
        assert number * tp >= part.numel
        assert number * tp <= (part.numel * tp if table else part.numel + tp * 64), part


@pytest.mark.parametrize("tp", [2, 4, 8])
@pytest.mark.parametrize("quant", ["nf4", "nf4-dq", "fp4", "hqq", "quanto", "exl2-4.0", "exl3-4.0", "awq"])
def test_a_rank_of_a_model_is_its_share(quant, tp):
    one = llmcalc.vram("llama-3.1-8b", quant=quant)["weights"].bytes
    share = llmcalc.vram("llama-3.1-8b", quant=quant, tp=tp)["weights"].bytes
    assert one / tp <= share < one / tp * 1.005
