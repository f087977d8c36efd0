"""compressed-tensors and ModelOpt: groups of targets, algorithms by layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llmcalc.errors import ConfigError
from llmcalc.precision.named import make
from llmcalc.precision.patterns import Patterns, tail
from llmcalc.precision.scheme import TOWERS, Module, Scheme
from llmcalc.precision.stated import Choice, Stated, entry_of, finished, integer_of, patterns_of

if TYPE_CHECKING:
    from llmcalc.catalog import Catalog


def weights_of(weights: Stated, style: str, static: bool, dialect: str) -> Choice:
    """The packer of one group of compressed-tensors or ModelOpt."""
    bits, kind = integer_of(weights, "num_bits", default=16), str(weights.get("type", "int"))
    group = integer_of(weights, "group_size")
    strategy = str(weights.get("strategy") or ("group" if group else "tensor"))
    symmetric = weights.get("symmetric", True) is not False
    if kind == "float" and bits == 4:
        if group == 32 or "mxfp4" in style:
            return "mx", {"bits": 4}
        return "nvfp4", {"dialect": dialect, "static": static, "group": group or 16}
    if kind == "float" and bits in (6, 8) and (group == 32 or "mxfp" in style):
        return "mx", {"bits": bits}
    if kind == "float" and bits == 8:
        own = {"static": static, "dialect": "compressed" if dialect == "compressed" else ""}
        if strategy == "block":
            block = weights.get("block_structure") or [128, 128]
            return "fp8", {**own, "strategy": "block", "block": tuple(block), "scale": "bf16"}
        if strategy == "group" and group:
            return "fp8", {**own, "strategy": "block", "block": (1, group), "scale": "bf16"}
        return "fp8", {**own, "strategy": "channel" if strategy == "channel" else "tensor"}
    if kind == "int" and bits == 8 and style in ("int-quantized", "naive-quantized", "") and not group:
        return "int8_channel", {"static": static}
    if kind == "int" and bits in (2, 3, 4, 5, 6, 7, 8):
        order = weights.get("actorder") in ("group", True)
        return "pack_quantized", {"bits": bits, "group": group or -1, "symmetric": symmetric, "order": order}
    raise ConfigError(
        f"quantization: {bits} bits of type {kind[:20]!r} are not known.", "Name the scheme with --quant."
    )


def _groups(stated: Stated, catalog: Catalog, dialect: str) -> Scheme:
    """compressed-tensors and ModelOpt: groups of targets, each with its numbers, and what is ignored."""
    listed = stated.get("config_groups")
    if not isinstance(listed, dict) or not listed:
        raise ConfigError("quantization: config_groups is empty.", "Name the scheme with --quant.")
    rules: list[tuple[Patterns, Choice]] = []
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
        rules.append((Patterns(group.get("targets") or ["Linear"], f"config_groups.{name}"), choice))
    ignored = patterns_of(stated)

    def choose(module: Module) -> Choice | None:
        skipped = module.name in ignored
        if skipped or module.kind not in ("linear", "expert", "head", "router"):
            return None
        named = [choice for targets, choice in rules if module.name in targets]
        if named:
            return named[0]
        if module.kind in ("head", "router") or module.component in TOWERS:
            return None
        return next((choice for targets, choice in rules if "Linear" in targets.names), None)

    name = "+".join(dict.fromkeys(_word(choice) for _, choice in rules))
    like = Scheme(name, choose, source="compressed-tensors" if dialect != "modelopt" else "nvfp4-docs")
    return finished(name, choose, like, ignored)


def _word(choice: Choice) -> str:
    method, options = choice
    if method == "pack_quantized":
        group = options["group"]
        return f"w{options['bits']}a16-" + ("channel" if group == -1 else f"g{group}")
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
    return make(entry, {"group": group} if group and entry.get("group") else None)


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
