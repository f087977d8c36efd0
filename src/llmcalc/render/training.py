"""A training step in text: when each item is alive, what fits, memory over the step."""

from __future__ import annotations

from typing import Any

from llmcalc.formula import is_array
from llmcalc.units import DISPLAY

ORDER = ("load", "forward", "loss", "backward", "step")
SIGNS = {
    "weights": "W",
    "master_weights": "M",
    "gradients": "G",
    "optimizer": "O",
    "activations": "A",
    "logits": "L",
    "gathered": "S",
    "buffers": "B",
    "rollout_engine": "E",
}
WIDTH = 40
MOST = 18
"""Lines of the chart: layers that are alike are told by the first, the middle and the last of them."""


def alive(phases: Any) -> str:
    """When an item is alive, in few words.

    Examples
    --------
    >>> alive(["forward", "loss", "backward"]), alive(["step"]), alive(ORDER)
    ('forward to backward', 'step', 'always')
    """
    if not any(phase in ORDER for phase in phases):
        from llmcalc.render.rl import PHASES

        known = [PHASES[phase] for phase in PHASES if phase in phases]
        return "always" if len(known) >= 4 else ", ".join(known)
    phases = {*phases}
    if {"forward", "backward"} <= phases:  # a rank without the head has no loss of its own between
        phases.add("loss")
    known = [phase for phase in ORDER if phase in phases]
    if len(known) >= len(ORDER) - 1:
        return "always"
    places = [ORDER.index(phase) for phase in known]
    if len(known) > 2 and places == list(range(places[0], places[-1] + 1)):
        return f"{known[0]} to {known[-1]}"
    return ", ".join(known)


def note_of(item: Any, units: str) -> str:
    """Phases, the item's own maximum where it is larger than at the peak, and what it is."""
    from llmcalc.render.words import amount

    words = [alive(item.phases)]
    most = amount(item.bytes, units)
    if not is_array(item.bytes) and most != amount(item.bytes_at_peak, units):
        words.append(f"at most {most}")
    return "; ".join([*words, item.note]) if item.note else "; ".join(words)


def capacity_lines(report: Any) -> list[str]:
    """The largest micro-batch, sequence and rank that fit."""
    found = report.capacity
    lines: list[str] = []
    if found is None:
        return lines
    seq, batch = report.scenario["context"], report.scenario["micro_batch"]
    for label, most, safe, unit in (
        ("largest batch", found.max_micro_batch, found.safe_micro_batch, f"x {seq:,} tokens"),
        ("longest sequence", found.max_seq_len, found.safe_seq_len, f"tokens x {batch:,}"),
    ):
        text = f"{most:,} {unit}".strip() if most else "none: the rest leaves no room"
        if label == "longest sequence" and report.context_limit and most >= report.context_limit // 8 * 8:
            text += " (the model's limit)"
        if most and safe is not None and safe < most:
            text += f"; {safe:,} to be safe" if safe else "; none to be safe"
        lines.append(f"  {label:<16} {text}")
    return lines


def peak_line(report: Any) -> str:
    """Where the peak is."""
    phase, made = report.peak.phase, report.timeline
    if not isinstance(phase, str):
        return f"  {'peak':<14} where it is depends on the input"
    where = f", {made.where}" if made is not None and made.where not in (phase, "optimizer") else ""
    if report.rl is not None:
        from llmcalc.render.rl import words

        phase = words(phase)
    return f"  {'peak':<14} in the {phase}{where}"


MOST_RANKS = 8
"""Classes of ranks that are told; of more the first, the last and the worst."""


def rank_lines(report: Any, units: str) -> list[str]:
    """What each class of ranks needs, where there are several."""
    from llmcalc.render.words import amount

    ranks = report.ranks
    if len(ranks) < 2 or is_array(report.total_bytes):
        return []
    worst = max(range(len(ranks)), key=lambda place: ranks[place]["total_bytes"])
    places = range(len(ranks))
    if len(ranks) > MOST_RANKS:
        places = sorted({0, 1, 2, worst, len(ranks) - 2, len(ranks) - 1})  # type: ignore[assignment]
    lines, last = [], -1
    for place in places:
        if place > last + 1:
            lines.append(f"{'':<14} ...")
        last, rank = place, ranks[place]
        number = f"{rank['layers']} layer{'s' if rank['layers'] != 1 else ''}"
        parts = [number, *(name for name in ("embedding", "head") if rank[name])]
        waiting = f", {rank['micro_batches']} micro-batches at once" if rank["micro_batches"] > 1 else ""
        name = rank["name"].partition(",")[0]
        lines.append(
            f"{name:<14} {amount(rank['total_bytes'], units)} on {rank['gpus']} GPUs: "
            f"{' + '.join(parts)}{waiting}"
        )
    return lines


def _thinned(moments: list[Any]) -> list[Any]:
    """The moments worth a line: ends of each phase, and the largest."""
    if len(moments) <= MOST:
        return moments
    keep = {0, len(moments) - 1, max(range(len(moments)), key=lambda index: moments[index].total)}
    for phase in dict.fromkeys(moment.phase for moment in moments):
        own = [index for index, moment in enumerate(moments) if moment.phase == phase]
        if not own:
            continue
        share = 5 if phase in ("forward", "backward") else 2
        keep |= {
            own[round(step * (len(own) - 1) / max(share - 1, 1))] for step in range(min(share, len(own)))
        }
    return [moments[index] for index in sorted(keep)]


def timeline_text(report: Any, units: str = "gib") -> str:
    """Memory over the step as a small chart: one line a moment, one letter for each part."""
    from llmcalc.render.words import bare, label

    made = report.timeline
    if made is None or is_array(report.total_bytes):
        return "\nNo timeline: name one model with layers, and single values.\n"
    unit = DISPLAY[units][0]
    shown = _thinned(made.moments)
    most = max(moment.total for moment in made.moments) or 1
    used = {name for moment in made.moments for name, value in moment.held.items() if value}
    legend = [f"{sign} {name.replace('_', ' ')}" for name, sign in SIGNS.items() if name in used]
    first, *rest = _wrapped(legend)
    lines = ["", f"  Memory over a step, without the {label(report, report['runtime'])}:", f"  {first}"]
    lines += [f"  {line}" for line in rest]
    for moment in shown:
        bar, total, drawn = "", 0, 0
        for name, sign in SIGNS.items():
            total += moment.held.get(name, 0)
            until = round(WIDTH * total / most)
            bar += sign * (until - drawn)
            drawn = until
        place = moment.where if moment.where != moment.phase else ""
        name = f"{_phase(report, moment.phase)} {place}".strip()[:21]
        mark = " <- peak" if moment.total == most else ""
        amount = bare(moment.total, units)
        lines.append(f"  {name:<21} {amount:>7} {bar}{mark}"[:80])
    return "\n".join([*lines, f"  in {unit}"]) + "\n"


def _phase(report: Any, phase: str) -> str:
    """A phase in a narrow place."""
    return phase if report.rl is None else phase.replace("_", " ").replace("policy update", "update")


def _wrapped(words: list[str]) -> list[str]:
    lines, line = [], ""
    for word in words:
        if line and len(line) + 3 + len(word) > 76:
            lines.append(line)
            line = word
        else:
            line = f"{line}   {word}" if line else word
    return [*lines, line]


def _places(report: Any, moments: list[Any]) -> list[float]:
    """Where moments begin: side by side; the phases of an iteration are equally wide."""
    if report.rl is None:
        return [float(place) for place in range(len(moments) + 1)]
    phases = [moment.phase for moment in moments]
    places = [0.0]
    for phase in phases:
        places.append(places[-1] + 1 / phases.count(phase))
    return places


def draw(axes: Any, report: Any, palette: Any) -> None:
    """Memory over the step, stacked, against what the GPU has."""
    from llmcalc.units import GIB

    moments = report.timeline.moments
    names = [name for name in SIGNS if any(moment.held.get(name, 0) for moment in moments)]
    places = _places(report, moments)
    layers = [[moment.held.get(name, 0) / GIB for moment in moments] for name in names]
    runtime = report["runtime"].bytes / GIB
    layers.append([runtime] * len(moments))
    stacked = [[*layer, layer[-1]] for layer in layers]  # steps reach to the end of the last moment
    colors = [palette[index % len(palette)] for index in range(len(stacked))]
    axes.stackplot(
        places,
        stacked,
        labels=[*(name.replace("_", " ") for name in names), "runtime"],
        colors=colors,
        step="post",
        linewidth=0,
    )
    if report.device is not None:
        axes.axhline(report.device.usable_bytes / GIB, color="black", linewidth=1, linestyle="--")
        axes.text(0, report.device.usable_bytes / GIB, f" {report.device.name}", va="bottom", fontsize=8)
    starts = [0] + [n for n in range(1, len(moments)) if moments[n].phase != moments[n - 1].phase]
    words = [_phase(report, moments[n].phase) for n in starts]
    axes.set_xticks([places[n] for n in starts], words, fontsize=8, rotation=30, ha="left")
    axes.set_ylabel("GiB")
    axes.set_xlim(0, places[-1])
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize=8, frameon=False)
