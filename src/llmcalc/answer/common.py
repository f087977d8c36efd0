"""What the answers share: placement, precision, the heading, the report itself."""

from __future__ import annotations

from typing import Any

from llmcalc.catalog import Catalog
from llmcalc.errors import ConfigError, InputError, one_of
from llmcalc.estimate import INFERENCE_PHASES, Item, find_peak, worst_grade
from llmcalc.formula import ceil_div, is_array
from llmcalc.hardware import Device
from llmcalc.memory import engines, folds, inference
from llmcalc.memory.workload import Precision, Workload
from llmcalc.model.inventory import FLOATS, Inventory
from llmcalc.placement import Placement, place
from llmcalc.precision import Format, find_format
from llmcalc.report import Report
from llmcalc.scenario import Scenario
from llmcalc.units import format_count


def placement_of(inventory: Inventory, scenario: Scenario, device: Device | None) -> Placement:
    """Tensor ranks, stages and replicas for a device: with N GPUs and no placement, tp = N."""
    count = device.count if device else None
    tp, pp, dp = scenario.tp, scenario.pp, scenario.dp
    if count is not None and tp is None and pp is None and dp is None:
        return _across(inventory, count)
    if count is not None:
        rest, over = divmod(count, (tp or 1) * (pp or 1) * (dp or 1))
        if over or not rest or (rest > 1 and tp is not None and pp is not None and dp is not None):
            raise InputError(
                f"tp {tp or 1} x pp {pp or 1} x dp {dp or 1} does not use the {count} GPUs of --gpu.",
                "Make the product equal the number of GPUs.",
            )
        if tp is None:
            tp = rest
        elif dp is None:
            dp = rest
        elif pp is None:
            pp = rest
    return place(inventory, tp or 1, pp or 1, dp or 1)


def _across(inventory: Inventory, count: int) -> Placement:
    """N GPUs without a placement are N tensor ranks."""
    try:
        return place(inventory, count, 1)
    except InputError as error:
        ways = [str(n) for n in range(1, 65) if divides(inventory, n)]
        raise InputError(
            f"The {count} GPUs of --gpu can't share {inventory.name} as tensor ranks: "
            f"{error.problem.replace(f'--tp {count}', str(count))}",
            f"Use {one_of(ways)} GPUs, or pipeline stages: --pp {count}.",
        ) from None


def divides(inventory: Inventory, tp: int) -> bool:
    """Whether a number of tensor ranks can share a model."""
    try:
        place(inventory, tp, 1)
    except InputError:
        return False
    return True


def needs_layers(inventory: Inventory, engine: str, without: str = "") -> None:
    """Refuse a model of which only a count or the weights are known.

    Raises
    ------
    InputError, ConfigError
        With what to give; `without` adds what works as it is.
    """
    if inventory.is_opaque:
        raise InputError(
            f"--engine {engine} needs a model with layers, not a bare count.",
            "Name a model or its config.json, or leave --engine out.",
        )
    if inventory.family == "header":
        raise ConfigError(
            f"{inventory.name}: the header tells the weights, not the layers and their caches.",
            f"Put the model's config.json beside it{without}.",
        )


def check_formats(scenario: Scenario) -> None:
    """Refuse formats that the engine keeps no cache in."""
    formats = getattr(engines.load(scenario.engine), "KV_FORMATS", None)
    for kept in (scenario.key, scenario.value):
        if formats is not None and kept.name not in formats:
            raise InputError(
                f"{scenario.engine} keeps no cache in {kept.name} here.",
                f"Use --kv-dtype {one_of(formats)}, or --engine none.",
            )


def precision_of(
    inventory: Inventory, scenario: Scenario, book: Catalog, tags: tuple[str, ...] | None = None
) -> Precision:
    """The formats of an estimate, weights as the scenario's scheme stores them."""
    bits = scenario.bits if scenario.bits is not None else scenario.dtype.bits
    label = f"{float(bits):g}-bit" if scenario.bits is not None else scenario.dtype.name
    grades = ["assumed" if scenario.bits is not None else "exact"]
    scheme, source = scenario.scheme, "Transformer Math 101, 2023"
    if scheme is not None:
        grades.append(scheme.grade)
        source = scheme.source or source
    own = _own_formats(inventory, tags or inventory.loaded)
    if scenario.dtype_assumed and "" in own:
        grades.append("assumed")
    native = None if scenario.bits is not None else _native_bits(own, book)
    return Precision(
        bits, label, worst_grade(grades), _model_dtype(scenario, book), scenario.key, scenario.value, native,
        source,
    )  # fmt: skip


def _own_formats(inventory: Inventory, tags: tuple[str, ...]) -> set[str]:
    """Names of the formats that tensors are stored in; "" for the model's dtype."""
    return {
        part.dtype or ""
        for group in inventory
        for tensor in group.tensors
        if tensor.tag in tags
        for part in tensor.stored or (tensor,)
    }


def _native_bits(own: set[str], book: Catalog) -> dict[str, Any]:
    """Bits of the formats that single tensors have for themselves."""
    return {name: find_format(name, book, "stored", "--dtype").bits for name in own - {""}}


def priced(inventory: Inventory, scenario: Scenario, precision: Precision) -> str:
    """What the weights are stored in, for the heading: with a scheme its bits per weight overall."""
    scheme = scenario.scheme
    if scenario.bits is not None:
        return precision.label
    if scheme is not None and scheme.name != "none" and not getattr(scheme, "dtype", ""):
        return f"{scenario.scheme.name} ({bits_per_weight(inventory, precision):.2f} b/w)"
    held = _by_format(inventory)
    most = max(held, key=lambda name: held[name], default="")
    if most and most not in FLOATS:  # a file whose tensors say it, and no configuration
        return f"{most} ({bits_per_weight(inventory, precision):.2f} b/w)"
    if most and "" not in held and "dtype" not in scenario.stated:
        return most
    return precision.label + (" (assumed)" if scenario.dtype_assumed else "")


def _by_format(inventory: Inventory) -> dict[str, int]:
    """Elements of the main tensors by their own format; "" is the model's dtype."""
    held: dict[str, int] = {}
    for group in inventory:
        for tensor in group.tensors:
            if tensor.tag == "main":
                name = tensor.dtype or ""
                held[name] = held.get(name, 0) + group.count * tensor.numel
    return held


def stored_bytes(inventory: Inventory, precision: Precision) -> int:
    """Bytes of all that an engine loads, on one device. [B]"""
    words: dict[str, int] = {}
    for by_format in folds.rank_storage(inventory, Placement(1, 1, 1, inventory.layers)):
        for kept in by_format.values():
            for name, number in kept.words.items():
                words[name] = words.get(name, 0) + number
    return sum(int(inference.weight_bytes(number, precision.bits(name))) for name, number in words.items())


def matrix_bits(inventory: Inventory, precision: Precision) -> float:
    """Bits of a weight in the linear layers alone: no embedding, head or tower. [bit]"""
    bytes_ = number = 0
    for group in inventory.groups:
        linear = {op.role for op in group.ops if op.kind == "linear"}
        if group.place != "layer" or group.component not in ("text", "encoder"):
            continue
        for tensor in group.tensors:
            # GGUF splits some matrices that no op names: those with a weight and two dimensions count too.
            is_matrix = tensor.role in linear or (len(tensor.dims) > 2 and tensor.part == "weight")
            if (
                tensor.tag == "main"
                and is_matrix
                and tensor.part in ("weight", "")
                and "conv" not in tensor.role
            ):
                number += group.count * tensor.numel
                for part in tensor.stored or (tensor,):
                    words = group.count * part.numel
                    bytes_ += int(inference.weight_bytes(words, precision.bits(part.dtype or "")))
    return 8 * bytes_ / number if number else 0.0


def bits_per_weight(inventory: Inventory, precision: Precision) -> float:
    """Bits that a parameter takes on average, scales and unquantized tensors included. [bit]"""
    return 8 * stored_bytes(inventory, precision) / max(inventory.params, 1)


def size_of(inventory: Inventory) -> str:
    """Parameters for the heading, active ones too where they differ."""
    total = format_count(inventory.params)
    if inventory.routed_params:
        return f"{total} ({format_count(inventory.active_params)} active)"
    return total


def workload_of(scenario: Scenario) -> str:
    """Sequences and tokens for the heading."""
    if scenario.demand is not None and (scenario.demand.varies or not is_array(scenario.context)):
        from llmcalc.answer.requests import requests_of

        return requests_of(scenario.demand, scenario.sequences)

    def span(values: Any) -> str:
        return f"{int(values.min()):,} to {int(values.max()):,}"

    many, tokens, options = scenario.sequences, scenario.context, scenario.options
    if (
        getattr(options, "kv_unified", False)
        and options.n_ctx is not None
        and not is_array(many)
        and many > 1
    ):
        return f"{many:,} slots share {options.n_ctx:,} tokens"
    if is_array(many) and is_array(tokens):
        return f"{span(many)} sequences x {span(tokens)} tokens ({tokens.size:,} pairs)"
    if is_array(tokens):
        return f"{many:,} x {span(tokens)} tokens ({tokens.size:,} values)"
    if is_array(many):
        return f"{span(many)} sequences x {tokens:,} tokens ({many.size:,} values)"
    return f"{many:,} x {tokens:,} tokens"


def ranks_of(placement: Placement) -> list[str]:
    """The placement for the heading."""
    parts = [
        f"{name} {n}"
        for name, n in (("tp", placement.tp), ("pp", placement.pp), ("dp", placement.dp))
        if n > 1
    ]
    return [" ".join(parts)] if parts else []


def report_of(
    command: str,
    inventory: Inventory,
    scenario: Scenario,
    placement: Placement,
    items: list[Item],
    device: Device | None,
) -> Report:
    """A report with what was asked, each input as resolved."""
    report = Report(command, items, find_peak(items, placement.ranks, INFERENCE_PHASES))
    report.model = {
        "name": inventory.name,
        "params": inventory.params,
        "active_params": inventory.active_params,
        "stored_params": inventory.stored_params,
        "source": inventory.source,
    }
    report.family = inventory.family
    report.scenario = {
        "dtype": scenario.dtype.name,
        "bits": None if scenario.bits is None else float(scenario.bits),
        "quant": None if scenario.scheme is None else scenario.scheme.name,
        "context": scenario.context,
        "sequences": scenario.sequences,
        "prompt": scenario.prompt,
        "output": scenario.output,
        "encoder_tokens": scenario.streams.get("encoder"),
        "image_tokens": scenario.streams.get("image"),
        "kv_dtype_k": scenario.key.name,
        "kv_dtype_v": scenario.value.name,
        "engine": scenario.engine,
        "gpu": None if device is None else device.name,
        "reserve": scenario.reserve,
        "tp": placement.tp,
        "pp": placement.pp,
        "dp": placement.dp,
        "allow_overlong": scenario.allow_overlong,
    }
    if scenario.images is not None:
        report.scenario |= {"images": scenario.images[0], "image_tokens": scenario.images[1]}
        report.warnings.append(
            f"The context holds {scenario.images[0]} x {scenario.images[1]:,} tokens of images."
        )
    if scenario.demand is not None:
        report.scenario |= {
            "shared_prefix": scenario.demand.prefix,
            "samples": 1 if scenario.demand.beams else scenario.demand.outputs,
            "beams": scenario.demand.outputs if scenario.demand.beams else 1,
        }
    report.read_from = inventory.origin
    report.origins = _origins(inventory, scenario)
    report.device = device
    report.gpus = placement.gpus * placement.dp
    return report


def _origins(inventory: Inventory, scenario: Scenario) -> dict[str, str]:
    """Where each input came from, for ``--explain``."""
    weights = "given" if scenario.bits is not None or "dtype" in scenario.stated else "the checkpoint's dtype"
    if scenario.dtype_assumed and scenario.bits is None:
        weights = "assumed: 16 bit"
    cache = "given" if scenario.stated & {"kv_dtype", "kv_dtype_k", "kv_dtype_v"} else "default: 16 bit"
    asked = scenario.stated & {"context", "max_model_len", "prompt", "output"}
    tokens = "given" if asked else "default: the model's limit, at most 8,192"
    origins = {
        "bits": weights,
        "bytes_per_parameter": weights,
        "dtype": weights,
        "bytes_per_element": cache,
        "row_bytes": cache,
        "kv_dtype_k": cache,
        "kv_dtype_v": cache,
        "tokens": tokens,
        "positions": tokens,
        "context": tokens,
        "overhead": "given" if "overhead" in scenario.stated else "default",
    }
    for name in (
        "sequences",
        "gpu",
        "reserve",
        "tp",
        "pp",
        "dp",
        "engine",
        "prompt",
        "output",
        "allow_overlong",
    ):
        origins[name] = "given" if name in scenario.stated else "default"
    return origins


def remembered(scenario: Scenario, placement: Placement) -> Workload:
    """What one replica remembers, as the engine lays it out."""
    streams = {**scenario.streams, "decoder": scenario.context}
    held = ceil_div(scenario.sequences, placement.dp)
    return Workload(streams, held, engines.load(scenario.engine).layout, scenario.encoder_assumed)


def _model_dtype(scenario: Scenario, book: Catalog) -> Format:
    """The dtype of states kept "in the model's dtype": 16 bit where all weights are priced alike."""
    if scenario.bits is None and scenario.dtype.bits >= 16:
        return scenario.dtype
    return find_format("bf16", book, "weights", "--dtype")
