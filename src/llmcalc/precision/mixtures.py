"""GGUF mixtures: which type llama.cpp's quantizer gives each tensor of a file.

The rules are those of `llama-quant.cpp`, release v0.5.0, applied to names and shapes alone; with equal
inputs they give the types and sizes of its dry run. Types are the lower-case names of ggml.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from llmcalc.errors import InputError

DEFAULTS = {
    "q4_0": "q4_0", "q4_1": "q4_1", "q5_0": "q5_0", "q5_1": "q5_1", "q8_0": "q8_0", "q6_k": "q6_k",
    "f16": "fp16", "bf16": "bf16", "f32": "fp32", "tq1_0": "tq1_0", "tq2_0": "tq2_0",
    "q1_0": "q1_0", "q2_0": "q2_0", "iq2_xxs": "iq2_xxs", "iq2_xs": "iq2_xs", "iq3_xxs": "iq3_xxs",
    "iq1_s": "iq1_s", "iq1_m": "iq1_m", "iq4_nl": "iq4_nl", "iq4_xs": "iq4_xs",
    "q2_k": "q2_k", "q2_k_s": "q2_k", "q3_k_s": "q3_k", "q3_k_m": "q3_k", "q3_k_l": "q3_k",
    "q4_k_s": "q4_k", "q4_k_m": "q4_k", "q5_k_s": "q5_k", "q5_k_m": "q5_k",
    "iq2_s": "iq2_xs", "iq2_m": "iq2_s", "iq3_xs": "iq3_s", "iq3_s": "iq3_s", "iq3_m": "iq3_s",
    "mxfp4_moe": "mxfp4",
}  # fmt: skip
"""The type that a file type gives to whatever no rule names."""

FLOATS = ("f32", "f16", "bf16")
NEEDS_IMATRIX = ("iq1_s", "iq1_m", "iq2_xxs", "iq2_xs", "iq2_s", "iq2_m", "iq3_xxs", "q2_k_s")
"""File types that the quantizer refuses to make without an importance matrix."""

LOW = ("iq1_s", "iq1_m", "iq2_xxs", "iq2_xs", "iq2_s", "iq2_m")
EIGHT_EXPERTS = ("q2_k", "iq3_xs", "iq3_xxs", "iq3_s", "iq3_m", "q3_k_s", "q3_k_m", "iq4_nl", "iq4_xs",
                 "q4_k_s", "q4_k_m")  # fmt: skip
"""File types whose attention output gets more bits in a model of eight experts, as Mixtral has."""

FP32 = re.compile(
    r"_norm\.weight|ffn_gate_inp\.weight|ffn_gate_inp_shexp\.weight|ssm_conv1d|shortconv\.conv\.weight"
    r"|altup_(correct|predict)_coef|(^|\.)position_embd|token_types|ffn_gate_tid2eid"
    r"|time_mix_(first|w1|w2|decay_w1|decay_w2|lerp_fused)|v\.patch|v\.position"
)
"""Names of tensors that the converter writes in fp32 and the quantizer leaves alone."""

SIXTEEN = re.compile(r"altup_|laurel_[lr]|per_layer_model_proj|attn_rel_b\.weight|time_mix_[avg][0-9]")
"""Names of tensors that the quantizer leaves in 16 bit."""

CONVERTED = re.compile(r"indexer\.proj\.weight")
"""Names of tensors that the converter writes in fp32, but the quantizer takes on."""

BLOCKS = {"q4_0": 32, "q4_1": 32, "q5_0": 32, "q5_1": 32, "q8_0": 32, "iq4_nl": 32, "mxfp4": 32,
          "q1_0": 128, "q2_0": 64, "fp16": 1, "bf16": 1, "fp32": 1}  # fmt: skip
SMALLER = {
    "iq4_xs": "iq4_nl", "q2_k": "q4_0", "q3_k": "q4_0", "tq1_0": "q4_0", "tq2_0": "q4_0", "q2_0": "q4_0",
    "q4_k": "q5_0", "q5_k": "q5_1", "q6_k": "q8_0",
}  # fmt: skip
"""What stands in for a type whose block does not divide the rows."""


class Shape:
    """What the rules ask of a model.

    Parameters
    ----------
    architecture : str
        llama.cpp's name.
    layers : int
        Blocks of the file, prediction layers included. [-]
    experts : int
        Routed experts; 0 of a dense model. [-]
    heads, kv_heads : int
        Of the first layer; `kv_heads` is 0 where it has no attention. [-]
    """

    __slots__ = ("architecture", "experts", "layers", "ratio", "seventy")

    def __init__(self, architecture: str, layers: int, experts: int, heads: int, kv_heads: int) -> None:
        self.architecture, self.layers, self.experts = architecture, layers, experts
        self.ratio = heads // kv_heads if kv_heads else 0
        self.seventy = (
            (architecture == "llama" and layers == 80 and heads != kv_heads)
            or (architecture in ("qwen2", "olmo", "deci") and layers == 80)
            or (architecture == "jais2" and layers == 68)
        )


class Entry:
    """One tensor of a file: its name, and its shape with the row length first, as ggml counts."""

    __slots__ = ("category", "layer", "name", "shape")

    def __init__(self, name: str, shape: Sequence[int]) -> None:
        self.name, self.shape = name, tuple(shape)
        match = re.match(r"blk\.(\d+)\.", name)
        self.layer = int(match.group(1)) if match else -1
        self.category = category(name)

    @property
    def is_quantized(self) -> bool:
        """Whether the quantizer touches it at all."""
        left = FP32.search(self.name) or SIXTEEN.search(self.name)
        return any(n > 1 for n in self.shape[1:]) and self.name.endswith("weight") and not left


def category(name: str) -> str:
    """What a tensor is to the rules, by the first name that fits.

    Examples
    --------
    >>> category("blk.3.ffn_down_exps.weight")
    'down'
    """
    if name == "output.weight":
        return "out"
    if name in ("token_embd.weight", "per_layer_token_embd.weight"):
        return "embedding"
    for part, found in (
        ("attn_qkv.weight", "v"), ("attn_kv_b.weight", "v"), ("attn_v.weight", "v"), ("attn_k.weight", "k"),
        ("attn_q.weight", "q"), ("attn_output.weight", "o"), ("ffn_up", "up"), ("ffn_gate", "gate"),
        ("ffn_down", "down"),
    ):  # fmt: skip
        if part in name:
            return found
    return "other"


def more(i: int, n: int) -> bool:
    """Whether a tensor is one of those that get more bits: the first and last eighth, every third between."""
    return i < n // 8 or i >= 7 * n // 8 or (i - n // 8) % 3 == 2


def types(
    entries: Iterable[Entry], file_type: str, shape: Shape, imatrix: bool = False
) -> tuple[dict[str, str], dict[str, str]]:
    """The type of every tensor of a file.

    Parameters
    ----------
    entries : iterable of Entry
        All tensors of the file.
    file_type : str
        ``q4_k_m``, ``iq3_xxs`` ... in lower case.
    shape : Shape
        What the rules ask of the model.
    imatrix : bool
        Whether an importance matrix is given.

    Returns
    -------
    dict of str to str, dict of str to str
        Types of the tensors that the quantizer touches, by name; and of those whose rows a block does
        not divide, the type that the rules had chosen first.
    """
    listed = sorted((e for e in entries if e.is_quantized), key=lambda e: (e.layer, e.name))
    if file_type in FLOATS:
        kept = {
            entry.name: "fp32" if CONVERTED.search(entry.name) else DEFAULTS[file_type] for entry in listed
        }
        return kept, {}
    rules = _Rules(file_type, shape, imatrix, listed)
    chosen = {entry.name: rules.choose(entry) for entry in listed}
    return chosen, rules.fallbacks


def fits(kind: str, row: int) -> bool:
    """Whether a type's block divides a row."""
    return row % BLOCKS.get(kind, 256) == 0


class _Rules:
    """The quantizer's counters and choices, tensor by tensor in its own order."""

    def __init__(self, file_type: str, shape: Shape, imatrix: bool, listed: Sequence[Entry]) -> None:
        self.file_type, self.shape, self.imatrix = file_type, shape, imatrix
        self.default = DEFAULTS[file_type]
        self.tied = not any(entry.category == "out" for entry in listed)
        self.values = sum(entry.category == "v" for entry in listed)
        self.seen = dict.fromkeys(("v", "down", "gate", "up"), 0)
        self.fallbacks: dict[str, str] = {}

    def choose(self, entry: Entry) -> str:
        """The type of the next tensor."""
        kind = self._ruled(entry)
        if entry.category in self.seen:
            self.seen[entry.category] += 1
        row = entry.shape[0]
        if fits(kind, row):
            return kind
        self.fallbacks[entry.name] = kind
        if kind == "q1_0":
            raise InputError(
                f"q1_0 has no rows of {row:,}, which {entry.name} has; llama.cpp refuses the whole file.",
                "Use another type, such as iq1_s or q2_k.",
            )
        smaller = SMALLER.get(kind, "iq4_nl" if kind.startswith("iq") else "fp16")
        return smaller if fits(smaller, row) else "fp16"

    def _place(self, entry: Entry) -> int:
        """Layer index of a feed-forward matrix: its block in a mixture of experts, else a counter."""
        return entry.layer if self.shape.experts > 1 else self.seen[entry.category]

    def _ruled(self, entry: Entry) -> str:
        """Rules by file type, before the check of shapes."""
        ft, kind = self.file_type, entry.category
        if kind == "out" or (kind == "embedding" and self.tied):
            return self._output(entry)
        if ft == "mxfp4_moe":
            return "mxfp4" if len(entry.shape) > 2 and entry.shape[2] > 1 else "q8_0"
        if kind == "embedding":
            return self._embedding()
        if ft in LOW:
            return self._low(entry)
        if kind == "v":
            return self._value()
        if kind in ("q", "k"):
            if kind == "k" and self.shape.experts == 8:
                return "q8_0"
            return {"iq3_xs": "iq3_xxs", "iq3_xxs": "iq2_s"}.get(ft, self.default)
        if kind == "down":
            return self._down(self._place(entry))
        if kind == "o":
            return self._o()
        if kind in ("gate", "up") and ft == "iq3_xs":
            place, layers = self._place(entry), self.shape.layers
            return "iq3_xxs" if layers // 8 <= place < 7 * layers // 8 else self.default
        return self.default

    def _output(self, entry: Entry) -> str:
        ft = self.file_type
        if ft == "mxfp4_moe" or self.shape.architecture == "falcon" or not fits(self.default, entry.shape[0]):
            return "q8_0"
        if ft in (*LOW, "iq3_xxs"):
            return "q5_k"
        return self.default if self.default == "q8_0" else "q6_k"

    def _embedding(self) -> str:
        ft = self.file_type
        if ft in ("iq1_s", "iq1_m", "iq2_xxs", "iq2_xs"):
            return "q2_k"
        if ft in ("iq2_s", "iq2_m", "iq3_xxs"):
            return "iq3_s"
        return "q4_k" if ft in ("tq1_0", "tq2_0", "q2_0") else self.default

    def _low(self, entry: Entry) -> str:
        """File types of about two bits: everything but values and the first matrices stays low."""
        ft, kind, experts = self.file_type, entry.category, self.shape.experts
        better = "iq3_s" if ft in ("iq2_s", "iq2_m") else "q2_k"
        if kind == "v":
            return "q4_k" if self.shape.ratio >= 4 or experts >= 4 else better
        if kind == "k" and experts == 8:
            return "q4_k"
        if kind == "down" and self.seen["down"] < self.shape.layers // 8:
            return better
        if kind == "o":
            if experts == 8:
                return "q5_k"
            return {"iq1_s": "iq2_xxs", "iq1_m": "iq2_xxs", "iq2_s": "iq3_s", "iq2_m": "iq3_s"}.get(
                ft, self.default
            )
        return self.default

    def _value(self) -> str:
        ft, many, place = self.file_type, self.shape.ratio >= 4, self.seen["v"]
        kind = self.default
        if ft == "q2_k":
            kind = "q4_k" if many else "q3_k"
        elif ft in ("q2_k_s", "iq3_xs", "iq3_s") and many:
            kind = "q4_k"
        elif ft == "iq3_xxs":
            kind = "q4_k" if many else "iq3_xxs" if self.imatrix else "iq3_s"
        elif ft == "iq3_m":
            kind = "q4_k"
        elif ft == "q3_k_m":
            kind = "q5_k" if place < 2 else "q4_k"
        elif ft == "q3_k_l" or (ft in ("iq4_nl", "iq4_xs") and many) or (ft == "q4_k_s" and place < 4):
            kind = "q5_k"
        elif ft in ("q4_k_m", "q5_k_m") and more(place, self.values):
            kind = "q6_k"
        if self.shape.seventy and kind in ("q3_k", "q4_k"):
            kind = "q5_k"
        return "q8_0" if self.shape.experts == 8 else kind

    def _down(self, i: int) -> str:
        ft, layers, falcon = self.file_type, self.shape.layers, self.shape.architecture == "falcon"
        first = i < layers // 8
        if ft == "q2_k":
            return "q3_k"
        if ft == "q2_k_s" and first:
            return "q4_k"
        if ft == "iq3_xxs" and not self.imatrix:
            return "q4_k" if first else "q3_k"
        if ft == "q3_k_m":
            if i < layers // 16:
                return "q5_k"
            return "q4_k" if not falcon or more(i, layers) else "q3_k"
        if ft == "q3_k_l":
            return "q4_k" if falcon else "q5_k"
        if ft == "iq3_m" and (first or (self.shape.experts == 8 and more(i, layers))):
            return "q4_k"
        if ft == "q4_k_m":
            if falcon:
                return "q6_k" if i < layers // 16 else "q5_k" if more(i, layers) else "q4_k"
            return "q6_k" if more(i, layers) else self.default
        if ft == "q5_k_m" and more(i, layers):
            return "q6_k"
        if ft == "q4_k_s" and first and not falcon:
            return "q5_k"
        if ft in ("iq4_nl", "iq4_xs") and first and not self.imatrix:
            return "q5_k"
        if ft in ("q4_0", "q5_0") and first and self.imatrix:
            return "q4_1" if ft == "q4_0" else "q5_1"
        return self.default

    def _o(self) -> str:
        ft = self.file_type
        if self.shape.architecture == "falcon":
            return "q4_k" if ft == "q3_k_l" else self.default
        if self.shape.experts == 8:
            return "q5_k" if ft in EIGHT_EXPERTS else self.default
        found = {"q2_k": "q3_k", "iq3_xxs": "iq3_s", "q3_k_m": "q4_k", "iq3_m": "q4_k", "q3_k_l": "q5_k"}
        return found.get(ft, self.default)
