"""What would make a model fit that does not, each change estimated anew and with its price."""

from __future__ import annotations

import copy
from typing import Any

from llmcalc.answer.common import divides
from llmcalc.answer.fit import BY_QUALITY
from llmcalc.answer.kernels import runner
from llmcalc.answer.vram import model_report
from llmcalc.catalog import Catalog
from llmcalc.errors import LlmcalcError
from llmcalc.formula import is_array
from llmcalc.hardware import Device, device_of, usable_memory
from llmcalc.model.inventory import Inventory
from llmcalc.planning.levers import LENGTHS, MONEY, QUALITY, REACH, WORKLOAD, Lever, context_lever, settings
from llmcalc.report import Report
from llmcalc.scenario import Scenario, resolve
from llmcalc.units import MIB, format_bytes

MOST = 5
"""Changes that are told."""

WORTH = 16 * MIB
"""A change that gains less is not told. [B]"""

LAYER_SPLIT = ("llama.cpp", "ollama", "transformers")
"""Engines that take any number of GPUs, for they share layers where no placement is given."""

SINGLE = ("mlx",)
"""Engines that are modelled on one device."""

SERVERS = ("vllm", "sglang", "tensorrt-llm")
"""Engines that nobody runs on a processor with a GPU in it."""

VENDORS = {
    "vllm": ("NVIDIA", "AMD"), "sglang": ("NVIDIA", "AMD"), "tensorrt-llm": ("NVIDIA",), "mlx": ("Apple",),
}  # fmt: skip
"""Whose cards an engine's memory is modelled on; all where it is not named."""


def shares_layers(scenario: Scenario) -> bool:
    """Whether several GPUs share the layers of a model by themselves."""
    return scenario.engine in LAYER_SPLIT and not scenario.stated & {"tp", "pp", "dp"}


class Trial:
    """Estimates of the same question with other settings.

    Parameters
    ----------
    inventory, scenario, device, book
        What was asked.
    given : dict
        Its keywords.
    """

    def __init__(
        self, inventory: Inventory, scenario: Scenario, device: Device | None, book: Catalog,
        given: dict[str, Any],
    ) -> None:  # fmt: skip
        self.inventory, self.scenario, self.device, self.book = inventory, scenario, device, book
        self.given = {key: value for key, value in given.items() if key not in ("gpu", "reserve", "fit")}

    def __call__(self, changes: dict[str, Any], device: Device | None = None) -> Report | None:
        """The report with some keywords changed; None where the engine or the model refuses."""
        given = dict(self.given)
        if "context" in changes:
            given |= dict.fromkeys(LENGTHS)
        if "quant" in changes:
            given |= {"bits": None, "dtype": None}
        try:
            scenario = resolve(self.inventory, self.book, {**given, **changes})
            scenario.reserve, scenario.quick = self.scenario.reserve, True
            if getattr(scenario.options, "fit", False):
                scenario.options.fit = False  # all of it on the GPUs
            return model_report(self.inventory, scenario, device or self.device, self.book, given)
        except LlmcalcError:
            return None


class Found:
    """A change and what it came to."""

    __slots__ = ("gain", "lever", "report")

    def __init__(self, lever: Lever, report: Report, gain: int) -> None:
        self.lever, self.report, self.gain = lever, report, gain

    @property
    def fits(self) -> bool:
        """Whether it is enough by itself."""
        return bool(self.report.verdict == "fits")

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "change": self.lever.option,
            "keywords": dict(self.lever.changes),
            "gain_bytes": self.gain,
            "verdict": self.report.verdict,
            "price": self.lever.price,
        }

    def line(self) -> str:
        """One line for a terminal."""
        if self.lever.cost == MONEY:
            return f"{self.lever.option} fits; {self.lever.price}"
        more = f"{format_bytes(self.gain, 'gib')} more room"
        if self.fits:
            gain = f": {more}" if self.gain >= WORTH else ""
            return f"{self.lever.option} fits{gain}; {self.lever.price}"
        close = "too close to call" if self.report.verdict == "too_close" else "not enough alone"
        return f"{self.lever.option}: {more}, {close}; {self.lever.price}"


def help_it(
    report: Report, inventory: Inventory, scenario: Scenario, device: Device | None, book: Catalog,
    given: dict[str, Any],
) -> None:  # fmt: skip
    """Add what would help a report that does not surely fit, the fewest GPUs and the smallest card.

    Parameters
    ----------
    report : Report
        The estimate with its verdict; what it is `told` is set.
    inventory, scenario, device, book
        What it was made of; without a device only the smallest card is looked for.
    given : dict
        The keywords of the call.
    """
    if inventory.is_opaque or is_array(report.total_bytes):
        return
    trial = Trial(inventory, scenario, device, book, given)
    told = report.told
    if device is None:
        if not told.cards and scenario.engine != "none" and report.gpus == 1:
            told.cards = smallest_cards(trial, report)
        return
    told.fewest = fewest_gpus(trial, report)
    told.cards = smallest_cards(trial, report)
    if report.verdict == "fits":
        return
    found = _changes(trial, report)
    told.alternatives = [one.to_dict() for one in found]
    kept = [line for line in told.advice if not _said_better(line, found)]
    more = [one.line() for one in found if not (kept and "quant" in one.lever.changes and one.fits)]
    told.advice = [*kept, *more][:MOST]


def _said_better(line: str, found: list[Found]) -> bool:
    """Whether a general line of advice is also there as a change with figures."""
    if line.startswith("No common format"):
        return any(one.fits for one in found)
    return line.startswith("as it is") and any("context" in one.lever.changes for one in found)


def _changes(trial: Trial, report: Report) -> list[Found]:
    """Changes worth telling: those that suffice alone, cheapest first, then those that gain most."""
    now = {**report.scenario, "kv_dtype_k": trial.scenario.key.name}
    kinds = {cache.kind for group in trial.inventory.groups for cache in group.caches}
    model = {"latent": "latent" in kinds, "sequences": int(trial.scenario.sequences)}
    found = _lower_share(trial, report) + [
        one
        for levers in settings(trial.scenario.engine, now, model)
        if (one := _mildest(trial, report, levers)) is not None
    ]
    together = _together(trial, report, found)
    coarser = _coarser(trial, report, BY_QUALITY.get(trial.scenario.engine, BY_QUALITY[""]))
    if coarser is not None and not coarser.fits:  # with it the settings may do
        found.append(coarser)
        together = together or _together(trial, report, found)
    elif coarser is not None:
        found.append(coarser)
    found += [together] if together is not None else []
    found += _smaller_workload(trial, report)
    if report.fewest is not None and report.fewest["gpus"] > report.gpus:
        found.append(_more_gpus(trial, report))
    enough = sorted((one for one in found if one.fits), key=lambda one: one.lever.cost)
    named = set(together.lever.changes) if together is not None else set()
    others = [one for one in found if not one.fits and not set(one.lever.changes) <= named]
    others.sort(key=lambda one: -one.gain)
    return [*enough, *others][:MOST]


def _lower_share(trial: Trial, report: Report) -> list[Found]:
    """The share of a GPU that others' memory leaves, where the engine does not start for want of it."""
    if not report.refusal or report.device is None or "gpu_memory_utilization" not in report.scenario:
        return []
    free = report.device.usable_bytes if trial.device is None else trial.device.usable_bytes
    share = free * 100 // (free + trial.scenario.reserve) / 100
    made = trial({"gpu_memory_utilization": share})
    if made is None or made.refusal:
        return []
    gain = int(made.headroom_bytes or 0) - int(report.headroom_bytes or 0)
    return [Found(Lever({"gpu_memory_utilization": share}, REACH, "what the others leave"), made, gain)]


def _try(trial: Trial, report: Report, lever: Lever) -> Found | None:
    """What a change gains; None where it is refused or gains next to nothing."""
    made = trial(lever.changes)
    if made is None or is_array(made.total_bytes):
        return None
    gain = int(made.headroom_bytes or 0) - int(report.headroom_bytes or 0)
    return Found(lever, made, gain) if gain >= WORTH or made.verdict == "fits" else None


def _mildest(trial: Trial, report: Report, levers: list[Lever]) -> Found | None:
    """Of one setting's values the mildest that suffices, else the one that gains most."""
    last = _try(trial, report, levers[-1])
    if last is None or not last.fits:
        return last
    low, high, best = 0, len(levers) - 1, last
    while low < high:
        middle = (low + high) // 2
        one = _try(trial, report, levers[middle])
        if one is not None and one.fits:
            best, high = one, middle
        else:
            low = middle + 1
    return best


def _together(trial: Trial, report: Report, found: list[Found]) -> Found | None:
    """Settings that suffice together and are cheaper than any that does alone, as few as can be."""
    alone = min((one.lever.cost for one in found if one.fits), default=MONEY)
    parts = sorted((one for one in found if one.lever.cost < alone), key=lambda one: one.lever.cost)
    if len(parts) < 2:
        return None

    def made(some: list[Found]) -> Found | None:
        changes: dict[str, Any] = {}
        for one in some:
            changes |= one.lever.changes
        price = "; ".join(dict.fromkeys(one.lever.price for one in some))
        return _try(trial, report, Lever(changes, max(one.lever.cost for one in some), price))

    best = made(parts)
    if best is None or not best.fits:
        return None
    for one in reversed(list(parts)):
        fewer = [other for other in parts if other is not one]
        tried = made(fewer) if len(fewer) > 1 else None
        if tried is not None and tried.fits:
            best, parts = tried, fewer
    return best


def _coarser(trial: Trial, report: Report, names: tuple[str, ...]) -> Found | None:
    """The finest usual format of the weights that suffices, else the one that gains most."""
    used = str(report.scenario.get("quant") or "none")
    left = names[names.index(used) + 1 :] if used in names else names
    levers = [Lever({"quant": name}, QUALITY, "accuracy to be tested") for name in left]
    return _mildest(trial, report, levers) if levers else None


def _smaller_workload(trial: Trial, report: Report) -> list[Found]:
    """Fewer sequences, or a shorter context, as the capacity has them."""
    capacity, found = report.capacity, []
    if capacity is None:
        return []
    many, longest = capacity.max_concurrency, capacity.safe_context
    levers = []
    if many and many < trial.scenario.sequences:
        levers.append(Lever({"sequences": int(many)}, WORKLOAD, "the others wait"))
    if longest and longest < trial.scenario.context:
        levers.append(context_lever(int(longest)))
    for lever in levers:
        one = _try(trial, report, lever)
        if one is not None:
            found.append(one)
    return found


# -- hardware ----------------------------------------------------------------------------------


def _counts(trial: Trial) -> list[tuple[int, dict[str, Any]]]:
    """Numbers of GPUs to try, with the placement of each: tensor ranks up to 8, then stages."""
    device = trial.device
    assert device is not None
    # Slices of a card and Macs do not talk to each other.
    if trial.scenario.engine in SINGLE or " MIG " in device.name or device.vendor == "Apple":
        return [(1, {})]
    if shares_layers(trial.scenario):
        return [(n, {}) for n in (1, 2, 3, 4, 5, 6, 7, 8, 12, 16)]
    found = []
    for n in (1, 2, 4, 8, 16, 32, 64):
        tp = min(n, 8)
        while tp > 1 and not divides(trial.inventory, tp):
            tp //= 2
        if n // tp <= max(trial.inventory.layers, 1):
            found.append((n, {"tp": tp, "pp": n // tp, "dp": None}))
    return found


def fewest_gpus(trial: Trial, report: Report) -> dict[str, Any] | None:
    """The least number of GPUs of this type that surely holds it; None where none up to 64 does.

    Returns
    -------
    dict or None
        ``gpus``, ``tp`` and ``pp``; ``close``: a smaller number that is too close to call, else None.
    """
    assert trial.device is not None
    weights = int(report["weights"].bytes) if report.gpus == 1 else 0
    if shares_layers(trial.scenario):
        weights = sum(int(part) for part in report["weights"].amounts)
    close = None
    for count, placed in _counts(trial):
        if weights > count * trial.device.usable_high:
            continue  # the weights alone are more than all of it
        device = copy.copy(trial.device)
        device.count = count
        made = trial(placed, device)
        if made is None:
            continue
        if made.verdict == "fits":
            return {
                "gpus": made.gpus, "tp": made.scenario["tp"], "pp": made.scenario["pp"], "close": close,
                "headroom_bytes": made.headroom_bytes,
            }  # fmt: skip
        if made.verdict == "too_close" and close is None:
            close = count
    return None


def _more_gpus(trial: Trial, report: Report) -> Found:
    """The fewest GPUs as a change."""
    assert trial.device is not None
    fewest: dict[str, Any] = report.fewest or {}
    word = trial.device.name.lower().translate(str.maketrans(" ", "-", "()"))
    changes: dict[str, Any] = {"gpu": f"{fewest['gpus']}x{word}"}
    is_placed = bool(trial.scenario.stated & {"tp", "pp", "dp"})
    if not shares_layers(trial.scenario) and (fewest["pp"] > 1 or is_placed):
        changes |= {"tp": fewest["tp"], "pp": fewest["pp"], **({"dp": 1} if is_placed else {})}
    device = copy.copy(trial.device)
    device.count = fewest["gpus"]
    placed = {} if shares_layers(trial.scenario) else {"tp": fewest["tp"], "pp": fewest["pp"]}
    made = trial({**placed, "dp": None} if placed else {}, device)
    more = fewest["gpus"] - report.gpus
    price = f"{more} more GPU{'s' if more > 1 else ''}"
    gain = int(fewest["headroom_bytes"] or 0) - int(report.headroom_bytes or 0)
    return Found(Lever(changes, MONEY, price), made if made is not None else report, gain)


def _cards(book: Catalog, vendors: tuple[str, ...] | None) -> list[tuple[int, int, str]]:
    """Cards to suggest by size: usable bytes, total, name; of Apple all that the catalog has."""
    if vendors != VENDORS["mlx"]:
        return sorted((int(low), int(memory), name) for low, memory, name in book.table("gpu_sizes"))
    found = []
    for entry in book.entries("gpus"):
        if entry.get("vendor") in vendors and entry.get("memory_gb"):
            memory, _, low, *_ = usable_memory(entry)
            found.append((low, memory, str(entry["name"])))
    return sorted(found)


def smallest_cards(trial: Trial, report: Report | None, limit: int = 3) -> list[tuple[str, int]]:
    """The smallest single cards of one size class that surely hold it, each estimated: names and totals.

    Parameters
    ----------
    trial : Trial
        The question.
    report : Report or None
        An estimate of it on one device, whose weights no smaller card can hold.
    limit : int
        How many to name.
    """
    least = int(report["weights"].bytes) if report is not None and report.gpus == 1 else 0
    vendors = VENDORS.get(trial.scenario.engine)
    runs = runner(trial.scenario.scheme, trial.book)
    plain = trial.scenario.engine in SINGLE or shares_layers(trial.scenario)
    alone = {} if plain else {"tp": 1, "pp": 1, "dp": 1}
    found: list[tuple[str, int]] = []
    failed: set[tuple[int, int]] = set()
    for low, memory, name in _cards(trial.book, vendors):
        if low < least or (low, memory) in failed:
            continue
        if found and (len(found) == limit or memory > found[0][1] * 103 // 100):
            break
        entry = trial.book.lookup("gpus", name)
        if entry is None or (vendors and entry.get("vendor") not in vendors) or not runs(name):
            continue
        if trial.scenario.engine in SERVERS and entry.get("kind") == "soc":
            continue
        made = trial(alone, device_of(entry).less(trial.scenario.reserve))
        if made is not None and made.verdict == "fits":
            found.append((name, memory))
        else:
            failed.add((low, memory))
    return found
