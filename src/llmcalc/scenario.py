"""The scenario of an estimate: what the user asked, resolved and checked, defaults included."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llmcalc.catalog import Catalog
from llmcalc.demand import ENGINES as DEMANDS
from llmcalc.demand import KEYWORDS as REQUESTS
from llmcalc.demand import PADDED, TOGETHER, Demand
from llmcalc.demand.context import array_of, settle_context
from llmcalc.engine_options import OWNERS, beside_of, check_owners, engine_options
from llmcalc.errors import ConfigError, InputError, Problems, one_of
from llmcalc.formula import Quantity, is_array
from llmcalc.hardware import Device, parse_gpus
from llmcalc.model.inventory import Inventory
from llmcalc.placement import place
from llmcalc.precision import Format, find_format
from llmcalc.units import (
    GIB,
    parse_bits,
    parse_bytes,
    parse_decimal,
    parse_integer,
    parse_length,
    shown,
)

if TYPE_CHECKING:
    from llmcalc.demand.company import Company
    from llmcalc.engine_options.beside import Beside

ENGINES = ("none", "transformers", "llama.cpp", "ollama", "mlx", "vllm", "sglang", "tensorrt-llm")
SERVERS = ("vllm", "sglang", "tensorrt-llm")
DEFAULT_CONTEXT = 8192
DEFAULT_OVERHEAD = (6, 5)
"""1.2: EleutherAI, "Transformer Math 101", 2023."""
MAX_SEQUENCES = 10**9
KEYWORDS = (
    "allow_overlong", "bits", "context", "dp", "dtype", "encoder_tokens", "engine", "gpu",
    "image_tokens", "images", "kv_dtype", "kv_dtype_k",
    "kv_dtype_v", "max_model_len", "output", "overhead", "pp", "prompt", "quant", "reserve",
    "sequences", "tp", "engine_version",
    *REQUESTS, *TOGETHER, *OWNERS,
)  # fmt: skip


class Scenario:
    """Resolved inputs of an inference estimate.

    Attributes
    ----------
    context, sequences : int or ndarray
        Tokens of one sequence, and sequences held at once. [tokens], [-]
    dtype : Format
        Of unquantized weights and of states in the model's dtype.
    dtype_assumed : bool
        Whether the dtype is a default that nobody stated.
    bits : int, Fraction or None
        Bits of every parameter, where the user set them. [bit]
    key, value : Format
        Of the KV cache.
    scheme : Scheme, File or None
        How weights are quantized: as asked, else as the checkpoint says of itself.
    notes : list of str
        What the reader should know of it.
    overhead : tuple of int
        Factor of the rule of thumb, as numerator and denominator. [-]
    devices : list of Device
        GPUs asked about; empty if none.
    tp, pp, dp : int or None
        Placement as asked; None where left to a default. [-]
    reserve : int
        Memory that others use on each GPU. [B]
    streams : dict
        Tokens of the encoder and of images. [tokens]
    images : tuple of int or None
        Images of a request and tokens of one, where they are part of the context. [-], [tokens]
    beside : Beside or None
        Drafts and adapters, where they are no files of the engine's own.
    company : Company or None
        Models that are resident with it.
    demand : Demand or None
        Requests, where a context and a number of sequences do not say it all.
    options : LlamaOptions or None
        The engine's own options, where it has any.
    quick : bool
        Whether only the verdict is asked for, not what fits.
    stated : set of str
        Keywords that the user gave; all others are defaults.
    """

    __slots__ = (
        "allow_overlong", "beside", "bits", "company", "context", "demand", "devices", "dp", "dtype",
        "dtype_assumed", "encoder_assumed", "engine", "images", "key", "options", "output", "overhead", "pp",
        "prompt", "quick", "reserve", "scheme", "sequences", "stated", "streams", "tp", "value",
    )  # fmt: skip

    def __init__(self) -> None:
        self.context: Quantity = DEFAULT_CONTEXT
        self.sequences: Quantity = 1
        self.prompt: int | None = None
        self.output: int | None = None
        self.images: tuple[int, int] | None = None
        self.demand: Demand | None = None
        self.beside: Beside | None = None
        self.company: Company | None = None
        self.bits: Any = None
        self.scheme: Any = None
        self.devices: list[Device] = []
        self.tp: int | None = None
        self.pp: int | None = None
        self.dp: int | None = None
        self.reserve = 0
        self.engine = "none"
        self.options: Any = None
        self.quick = False
        self.stated: set[str] = set()
        self.streams: dict[str, int] = {}
        self.allow_overlong = False
        self.dtype_assumed = False
        self.encoder_assumed = False
        self.overhead: tuple[int, int] = DEFAULT_OVERHEAD
        self.dtype: Format
        self.key: Format
        self.value: Format

    @property
    def notes(self) -> list[str]:
        """What the reader should know of the scheme."""
        return list(self.scheme.notes) if self.scheme is not None else []

    def stored(self, inventory: Inventory) -> Inventory:
        """The model as its weights are priced: stored as `--quant` says, else as the checkpoint is."""
        if "quant" in self.stated and self.scheme is not None:
            made: Inventory = self.scheme.apply(inventory, self.dtype.name)
            made.published = None  # that total is of another file
            return made
        alike = self.bits is not None and any(t.stored or t.dtype for g in inventory for t in g.tensors)
        if alike or ("dtype" in self.stated and self.scheme is None):
            from llmcalc.precision.scheme import PLAIN, retyped

            return PLAIN.apply(inventory, self.dtype.name) if alike else retyped(inventory)
        return inventory


def resolve(inventory: Inventory, catalog: Catalog, given: dict[str, Any], strict: bool = True) -> Scenario:
    """Turn keywords into a scenario, telling all mistakes together.

    Parameters
    ----------
    inventory : Inventory
        The model; its limit and dtype give defaults.
    catalog : Catalog
        For formats and GPUs.
    given : dict
        Keywords of `llmcalc.vram`; absent or None means not given.
    strict : bool
        Whether a checkpoint's unknown quantization is an error: what is counted in bytes must know it.
    """
    given = {**dict.fromkeys(KEYWORDS), **given}
    if given["engine"] in SERVERS and str(given["kv_dtype"]).lower() == "auto":
        given["kv_dtype"] = None  # a server's word for its default
    scenario, problems = Scenario(), Problems()
    scenario.context = min(inventory.context or DEFAULT_CONTEXT, DEFAULT_CONTEXT)
    scenario.stated = {name for name, value in given.items() if value is not None and value is not False}
    scenario.allow_overlong = bool(given["allow_overlong"])
    with problems:
        scenario.context = settle_context(inventory, scenario, given)
    with problems:
        many = given["sequences"]
        scenario.sequences = (
            array_of(many, "--sequences", MAX_SEQUENCES)
            if is_array(many)
            else parse_integer(1 if many is None else many, "--sequences", MAX_SEQUENCES)
        )
    with problems:
        _precision(inventory, catalog, scenario, given, strict)
    for keyword in ("tp", "pp", "dp"):
        with problems:
            if given[keyword] is not None:
                setattr(scenario, keyword, parse_integer(given[keyword], f"--{keyword}", 10**6))
    with problems:
        if given["reserve"] is not None:
            scenario.reserve = parse_bytes(given["reserve"], "--reserve")
    with problems:
        if given["gpu"] is not None:
            devices = parse_gpus(given["gpu"], catalog, _this_machine)
            scenario.devices = [device.less(scenario.reserve) for device in devices]
    with problems:
        scenario.overhead = _overhead(inventory, given["overhead"])
    with problems:
        if scenario.tp is not None or scenario.pp is not None:
            most = max((device.count or 1 for device in scenario.devices), default=1)
            place(inventory, scenario.tp or 1, scenario.pp or 1, most=most)
    with problems:
        engine = given["engine"]
        if engine not in (None, *ENGINES):
            raise InputError(
                f"--engine {str(engine)[:40]!r} is not modelled.",
                f"Use {one_of(ENGINES)}; none is the architecture's minimum.",
            )
        scenario.engine = engine or "none"
        _check_demand(scenario)
        check_owners(scenario.engine, given)
        scenario.beside = beside_of(scenario.engine, given)
        if any(given[keyword] is not None for keyword in TOGETHER):
            from llmcalc.demand.company import company_of

            scenario.company = company_of(scenario.engine, given)
        scenario.options = engine_options(scenario, given)
    with problems:
        scenario.streams = _streams(inventory, scenario, given)
    problems.check()
    _encoder(inventory, scenario)
    _check_together(scenario)
    return scenario


def _check_demand(scenario: Scenario) -> None:
    """Refuse requests of an engine that they are not modelled for."""
    demand = scenario.demand
    if demand is None or scenario.engine in DEMANDS:
        return
    if scenario.engine in PADDED and (demand.varies or demand.prefix):
        raise InputError(
            f"{scenario.engine} fills the prompts of a batch up to the longest: lengths that vary and shared "
            "prefixes save nothing.",
            "Give the longest request's --prompt and --output, without --shared-prefix.",
        )
    if scenario.engine not in PADDED:
        raise InputError(
            f"Lengths that vary, shared prefixes and several outputs are not modelled for {scenario.engine}.",
            f"Give one --prompt and --output, or use --engine {one_of(DEMANDS)}.",
        )


def _this_machine(catalog: Catalog) -> list[Device]:
    from llmcalc.machine import find_gpus

    return find_gpus(catalog)


def _streams(inventory: Inventory, scenario: Scenario, given: dict[str, Any]) -> dict[str, int]:
    """Tokens of the encoder and of images: given, else what the model fixes; 0 is text alone."""
    streams = dict(inventory.streams)
    images = 1 if given["images"] is None else _count(given["images"], "--images")
    for stream in ("encoder", "image"):
        value = given[f"{stream}_tokens"]
        if value is not None:
            streams[stream] = _count(value, f"--{stream}-tokens")
    if given["images"] is not None or given["image_tokens"] is not None:
        from llmcalc.demand.images import remembers_images, settle_images

        own = streams.get("image") if given["image_tokens"] is not None else None
        settle_images(inventory, scenario, given, images, own)
        if not remembers_images(inventory):
            streams.pop("image", None)  # these are tokens of the context
    if "image" in streams:
        streams["image"] *= images
    return streams


def _count(value: Any, what: str) -> int:
    if str(value).strip() == "0":
        return 0
    return parse_integer(value, what, 10**6) if what == "--images" else parse_length(value, what)


def _encoder(inventory: Inventory, scenario: Scenario) -> None:
    """An encoder that fixes no length is assumed to read as much as the decoder may."""
    if "encoder" in scenario.streams or is_array(scenario.context):
        return
    if any(cache.stream == "encoder" for group in inventory.groups for cache in group.caches):
        scenario.streams["encoder"], scenario.encoder_assumed = int(scenario.context), True


def _check_together(scenario: Scenario) -> None:
    """Refuse arrays that can't be paired, and a reserve that leaves nothing."""
    if is_array(scenario.context) and is_array(scenario.sequences):
        lengths = scenario.context.size, scenario.sequences.size
        if lengths[0] != lengths[1]:
            raise InputError(
                f"--context has {lengths[0]} values and --sequences {lengths[1]}.", "Give as many of each."
            )
    for device in scenario.devices:
        if device.usable_bytes <= 0 and not scenario.reserve:
            raise InputError(
                f"{device.name} has no memory left: {device.basis}.",
                "End what uses it, or name the card instead of --gpu auto: then all of it counts.",
            )
        if device.usable_bytes <= 0:
            raise InputError(
                f"--reserve {scenario.reserve / GIB:g} GiB leaves nothing of {device.name}.",
                "Reserve less, or name a larger GPU.",
            )


def _scheme(inventory: Inventory, catalog: Catalog, given: dict[str, Any], strict: bool) -> Any:
    """The scheme asked for, else the checkpoint's own; None where weights are not quantized."""
    if given["quant"] is not None:
        if given["bits"] is not None:
            raise InputError("--quant and --bits are given together.", "Keep one of them.")
        from llmcalc.precision.named import find_scheme

        scheme = find_scheme(given["quant"], catalog)
        if inventory.routed_params and scheme.entry.get("leaves_experts"):
            scheme.notes.append(
                "transformers 5 leaves experts that share one tensor in 16 bit with this method; they are "
                "counted as quantized, as by vLLM and transformers 4."
            )
        return scheme
    stated = inventory.quantization
    if stated is None or given["bits"] is not None:
        return None
    if "refused" in stated and strict:
        raise ConfigError(*stated["refused"])
    return stated.get("applied")


def _precision(
    inventory: Inventory, catalog: Catalog, scenario: Scenario, given: dict[str, Any], strict: bool
) -> None:
    problems = Problems()
    with problems:
        scenario.scheme = _scheme(inventory, catalog, given, strict)
    with problems:
        if given["bits"] is not None:
            scenario.bits = parse_bits(given["bits"])
            if given["dtype"] is not None:
                raise InputError("--dtype and --bits are given together.", "Keep one of them.")
    with problems:
        scenario.dtype = _weights_format(inventory, catalog, scenario, given["dtype"])
    with problems:
        usual = "fp16" if given["engine"] in ("llama.cpp", "ollama") else "bf16"
        common = given["kv_dtype"] if given["kv_dtype"] is not None else usual
        scenario.key = scenario.value = find_format(common, catalog, "kv", "--kv-dtype")
    with problems:
        if given["kv_dtype_k"] is not None:
            scenario.key = find_format(given["kv_dtype_k"], catalog, "kv", "-ctk")
    with problems:
        if given["kv_dtype_v"] is not None:
            scenario.value = find_format(given["kv_dtype_v"], catalog, "kv", "-ctv")
    problems.check()
    if inventory.is_opaque and scenario.scheme is not None:
        from llmcalc.precision.scheme import nominal_bits

        scenario.bits = nominal_bits(scenario.scheme)  # None where weights stay in the dtype


def _weights_format(inventory: Inventory, catalog: Catalog, scenario: Scenario, given: str | None) -> Format:
    """The dtype asked for, else that of the scheme, else the checkpoint's, else bf16 (assumed)."""
    named = getattr(scenario.scheme, "dtype", "")
    if named or given is not None:
        found = find_format(named if given is None else given, catalog, "weights", "--dtype")
        if named in ("", found.name):
            return found
        raise InputError(f"--quant {named} and --dtype {given} contradict each other.", "Keep one of them.")
    # A checkpoint may name a dtype that only a scheme explains (fp8): priced at 16 bit.
    own = catalog.lookup("formats", inventory.dtype) if inventory.dtype is not None else None
    scenario.dtype_assumed = not (own and own.get("weights") and own["bytes"] >= 2 * own["elements"])
    return find_format("bf16" if scenario.dtype_assumed else inventory.dtype, catalog, "weights", "--dtype")


def _overhead(inventory: Inventory, value: Any) -> tuple[int, int]:
    """The factor of the rule of thumb, exactly."""
    if value is None:
        return DEFAULT_OVERHEAD
    if not inventory.is_opaque:
        raise InputError(
            f"--overhead is for bare counts; {inventory.name} is counted item by item.",
            "Leave --overhead out.",
        )
    parsed = parse_decimal(value if isinstance(value, str) else str(value))
    if parsed is None or parsed[0] < parsed[1] or parsed[0] > 100 * parsed[1]:
        raise InputError(f"--overhead is {shown(value)}.", "Use a factor from 1 to 100, such as 1.2.")
    return parsed
