"""compressed-tensors and ModelOpt: groups of targets, algorithms by layer."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from llmcalc.errors import ConfigError, InputError, one_of
from llmcalc.precision.checks import blocks
from llmcalc.precision.named import make
from llmcalc.precision.patterns import Patterns, tail
from llmcalc.precision.scheme import TOWERS, Module, Scheme
from llmcalc.precision.stated import (
    Choice,
    Stated,
    checked,
    entry_of,
    finished,
    flag_of,
    integer_of,
    patterns_of,
)

if TYPE_CHECKING:
    from llmcalc.catalog import Catalog


def weights_of(weights: Stated, style: str, static: bool, dialect: str) -> Choice:
    """The packer of one group of compressed-tensors or ModelOpt."""
    bits, kind = integer_of(weights, "num_bits", default=16), str(weights.get("type", "int"))
    group = integer_of(weights, "group_size")
    strategy = str(weights.get("strategy") or ("channel" if group == -1 else "group" if group else "tensor"))
    symmetric = flag_of(weights, "symmetric", default=True)
    _contradiction(strategy, group)
    if kind == "float" and bits == 4:
        if group == 32 or "mxfp4" in style:
            return "mx", {"bits": 4}
        return checked(("nvfp4", {"dialect": dialect, "static": static, "group": group or 16}))
    if kind == "float" and bits in (6, 8) and (group == 32 or "mxfp" in style):
        return "mx", {"bits": bits}
    if kind == "float" and bits == 8:
        own = {"static": static, "dialect": "compressed" if dialect == "compressed" else ""}
        if strategy == "block":
            return "fp8", {**own, "strategy": "block", "block": _block(weights.get("block_structure")),
                           "scale": "bf16"}  # fmt: skip
        if strategy == "group" and group:
            return checked(("fp8", {**own, "strategy": "block", "block": (1, group), "scale": "bf16"}))
        return "fp8", {**own, "strategy": "channel" if strategy == "channel" else "tensor"}
    if kind == "int" and bits == 8 and style in ("int-quantized", "naive-quantized", "") and not group:
        return "int8_channel", {"static": static}
    if kind == "int" and bits in (2, 3, 4, 5, 6, 7, 8):
        order = weights.get("actorder") in ("group", True)
        packed = {"bits": bits, "group": group or -1, "symmetric": symmetric, "order": order}
        return checked(("pack_quantized", packed))
    raise ConfigError(
        f"quantization: {bits} bits of type {kind[:20]!r} are not known.", "Name the scheme with --quant."
    )


STRATEGIES = ("tensor", "channel", "group", "block", "token", "tensor_group", "attn_head")
"""How compressed-tensors shares scales."""


def _contradiction(strategy: str, group: int | None) -> None:
    """Refuse a group that the strategy does not use, as compressed-tensors does, and the other way round."""
    if strategy not in STRATEGIES:
        raise ConfigError(f"quantization: strategy is {strategy[:40]!r}.", f"Use {one_of(STRATEGIES)}.")
    if group and group > 0 and strategy not in ("group", "tensor_group"):
        raise ConfigError(
            f"quantization: strategy {strategy} has no groups, but group_size is {group}.",
            "Use strategy group, or leave group_size out.",
        )
    if group == 0 or (strategy in ("group", "tensor_group") and (group is None or group < 0)):
        raise ConfigError(
            f"quantization: strategy {strategy} with a group_size of {'null' if group is None else group}.",
            "Give group_size, such as 128, or use strategy channel.",
        )


def _block(stated: Any) -> tuple[int, int]:
    """Rows and columns of a block: ``[128, 128]``, or ``"128x128"`` as older files write it."""
    sides = [128, 128] if stated is None else stated
    if isinstance(sides, str) and re.fullmatch(r"\d{1,6}x\d{1,6}", sides):
        sides = [int(side) for side in sides.split("x")]
    remedy = blocks(sides)
    if remedy:
        raise ConfigError(f"quantization: block_structure is {str(stated)[:40]!r}.", remedy)
    return sides[0], sides[1]


MOST_GROUPS = 1_000
"""Groups of one configuration: real ones have a few."""


def _groups(stated: Stated, catalog: Catalog, dialect: str) -> Scheme:
    """compressed-tensors and ModelOpt: groups of targets, each with its numbers, and what is ignored."""
    listed = stated.get("config_groups")
    if not isinstance(listed, dict) or not listed:
        raise ConfigError("quantization: config_groups is empty.", "Name the scheme with --quant.")
    if len(listed) > MOST_GROUPS:
        raise ConfigError(
            f"quantization: config_groups has {len(listed):,} groups.",
            f"Shorten it to {MOST_GROUPS:,} or fewer: groups of equal numbers are one.",
        )
    choices: list[Choice] = []
    order: dict[str, int] = {}  # each target, and the first group that names it
    shared = integer_of(stated, "group_size")
    for name, group in listed.items():
        weights = group.get("weights") if isinstance(group, dict) else None
        if not isinstance(weights, dict):
            continue
        own = integer_of(weights, "group_size")
        if shared and own and shared != own:
            raise ConfigError(
                f"quantization: group_size is {shared}, but {own} in config_groups.{name}.",
                "Keep one of them.",
            )
        incoming = group.get("input_activations")
        # "local" means scales of groups as they come, and one stored for the whole.
        static = isinstance(incoming, dict) and incoming.get("dynamic") in (None, False, "local")
        style = str(group.get("format") or stated.get("format") or "")
        choice = weights_of(weights, style, static, dialect)
        own_targets = group.get("targets") or ["Linear"]
        Patterns(own_targets, f"config_groups.{name}")
        for target in [own_targets] if isinstance(own_targets, str) else own_targets:
            order.setdefault(target, len(choices))
        choices.append(choice)
    if not choices:
        raise ConfigError(
            "quantization: no group of config_groups says how weights are quantized.",
            "Add weights to it, or use --quant none for unquantized weights.",
        )
    targets, ignored = Patterns(list(order), "config_groups"), patterns_of(stated)

    def choose(module: Module) -> Choice | None:
        skipped = module.name in ignored
        if skipped or module.kind not in ("linear", "expert", "head", "router"):
            return None
        named = targets.matches(module.name)
        if named:
            return choices[min(order[one] for one in named)]
        if module.kind in ("head", "router") or module.component in TOWERS:
            return None
        return choices[order["Linear"]] if "Linear" in order else None

    name = "+".join(dict.fromkeys(_word(choice) for choice in choices))
    like = Scheme(name, choose, source="compressed-tensors" if dialect != "modelopt" else "nvfp4-docs")
    return finished(name, choose, like, ignored, targets)


def _word(choice: Choice) -> str:
    method, options = choice
    if method == "pack_quantized":
        group = options["group"]
        word = f"w{options['bits']}a16-" + ("channel" if group == -1 else f"g{group}")
        return word if options.get("symmetric", True) else f"{word}-asym"
    if method == "fp8":
        return "fp8-" + {"tensor": "static" if options.get("static") else "tensor"}.get(
            options["strategy"], {"channel": "dynamic", "block": "block"}.get(options["strategy"], "")
        )
    return {"int8_channel": "w8a8", "mx": f"mxfp{options.get('bits', 4)}"}.get(method, method)


def compressed(stated: Stated, catalog: Catalog) -> Scheme:
    """compressed-tensors, as llm-compressor writes it."""
    if stated.get("quantization_status") not in (None, "compressed", "frozen", "initialized"):
        raise ConfigError("quantization: its status is not compressed.", "Name the scheme with --quant.")
    return _groups(stated, catalog, "compressed")


ALGORITHMS = {
    "nvfp4": "nvfp4", "nvfp4-awq": "nvfp4", "w4a16-nvfp4": "nvfp4", "fp8": "fp8-static",
    "fp8-per-tensor": "fp8-static", "fp8-pb-wo": "fp8-block", "fp8-per-channel-per-token": "fp8-dynamic",
    "int4-awq": "modelopt-awq", "w4a16-awq": "modelopt-awq", "mxfp4": "mxfp4", "mxfp8": "mxfp8",
    "w4a8-awq": "modelopt-w4a8",
}  # fmt: skip
"""ModelOpt's algorithms by our names."""


def _algorithm(name: Any, catalog: Catalog, group: int | None = None) -> Scheme:
    word = str(name).lower().replace("_", "-")
    if word not in ALGORITHMS:
        raise ConfigError(
            f"quantization: quant_algo {word[:40]!r} is not known.", "Name the scheme with --quant."
        )
    entry = entry_of(catalog, ALGORITHMS[word])
    usual = {"nvfp4": 16, "gpt_oss": 32, "mx": 32}.get(entry["method"])
    if usual is not None and group not in (None, usual):
        raise ConfigError(
            f"quantization: group_size is {group}, but {word} has groups of {usual}.", f"Use {usual}."
        )
    try:
        found = {"group": group} if group is not None and entry.get("group") else None
        return make(entry, found, "quantization")
    except InputError as error:
        raise ConfigError(error.problem, error.remedy) from None


def modelopt(stated: Stated, catalog: Catalog, rest: Scheme | None = None) -> Scheme:
    """NVIDIA ModelOpt: groups, one algorithm for all, or one for each layer named and `rest` for others."""
    ignored = patterns_of(stated)
    layers = stated.get("quantized_layers")
    if isinstance(layers, dict) and layers:
        return _by_layer(layers, catalog, rest)
    algorithm = stated.get("quant_algo")
    if stated.get("config_groups") and str(algorithm).lower() not in ("fp8",):
        return _groups(stated, catalog, "modelopt")
    plain = _algorithm(algorithm, catalog, integer_of(stated, "group_size"))

    def choose(module: Module) -> Choice | None:
        return None if module.name in ignored else plain.choose(module)

    return finished(plain.name, choose, plain, ignored)


def _by_layer(layers: Stated, catalog: Catalog, rest: Scheme | None) -> Scheme:
    """One algorithm for each module named, experts by their first."""
    rules: dict[str, Scheme] = {}
    made: dict[tuple[str, int | None], Scheme] = {}
    for name, one in layers.items():
        word = str(one.get("quant_algo")) if isinstance(one, dict) else str(one)
        group = integer_of(one, "group_size") if isinstance(one, dict) else None
        if (word, group) not in made:
            made[word, group] = _algorithm(word, catalog, group)
        rules[tail(str(name))] = made[word, group]

    def choose(module: Module) -> Choice | None:
        name = tail(module.name)
        while name:
            if name in rules:
                return rules[name].choose(module)
            name = name.rpartition(".")[0]
        return None if rest is None else rest.choose(module)

    return finished(
        "+".join(dict.fromkeys(scheme.name for scheme in made.values())), choose, made[next(iter(made))]
    )
