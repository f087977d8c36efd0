"""The cost of training: operations, time, energy, price, disk, and the data it needs."""

from __future__ import annotations

from llmcalc.answer.cost.asked import LARGEST, SHIPPED, Asked
from llmcalc.compute import cost as leaf
from llmcalc.compute.utilization import GOODPUT, GOODPUT_HIGH, GOODPUT_LOW, HIGH, LOW, usual
from llmcalc.errors import InputError
from llmcalc.model.inventory import Inventory
from llmcalc.report.figures import Figures, Grid
from llmcalc.units import format_count

STATES = 12
"""An fp32 copy of the weights and two Adam states. [B]"""

STOCKS = (
    ("Dolma", 3e12, None, None, "Soldaini et al. 2024"),
    ("FineWeb", 15e12, None, None, "Penedo et al. 2024; English, GPT-2's tokens"),
    (
        "public text by people",
        300e12,
        100e12,
        1000e12,
        "Villalobos et al. 2024; 90 % interval; epochs counted",
    ),
)
"""What there is to train on: name, tokens, low, high, source. [tokens]"""

FEW_EPOCHS = 4
"""Passes over the same data that are worth nearly as much as new data (Muennighoff et al. 2023)."""


class Run:
    """Numbers that one part of the answer hands to the next.

    Attributes
    ----------
    flops : float
        Of the whole run, by the convention. [FLOP]
    used, low, high : float
        Of the peak, over all hours. [-]
    hours, hours_low, hours_high : float
        GPU-hours. [h]
    model_share : float
        Operations of the model for each that is executed, as the convention counts. [-]
    """

    __slots__ = ("flops", "high", "hours", "hours_high", "hours_low", "low", "model_share", "used")

    def __init__(self) -> None:
        self.flops = self.used = self.low = self.high = 0.0
        self.hours = self.hours_low = self.hours_high = 0.0
        self.model_share = 1.0


def training_answer(answer: Figures, inventory: Inventory, asked: Asked) -> None:
    """Fill in all parts of the cost of a training run."""
    run = Run()
    _work(answer, inventory, asked, run)
    if asked.gpu is not None:
        _time(answer, inventory, asked, run)
        _energy(answer, asked, run)
    else:
        answer.hints.append("Add --gpu, such as 1024xh100, for hours, days, energy and price.")
    _price(answer, asked, run)
    _disk(answer, inventory, asked)
    _data(answer, asked)


def active_of(inventory: Inventory, asked: Asked) -> int:
    """Parameters that one token uses. [-]"""
    return asked.active or inventory.active_params


def _work(answer: Figures, inventory: Inventory, asked: Asked, run: Run) -> None:
    """Tokens, steps and operations."""
    assert asked.tokens is not None
    tokens, part = asked.tokens, "work"
    if asked.examples is not None:
        answer.add("tokens", tokens, "tokens", section=part, formula="tuning_tokens", inputs={
            "examples": asked.examples, "context": asked.context, "epochs": asked.epochs,
        }, note=f"{asked.examples:,} x {asked.context:,} x {asked.epochs:g}, padding counted")  # fmt: skip
        if asked.batch is not None:
            made = leaf.tuning_steps(asked.examples, asked.epochs, asked.batch)
            answer.add("steps", int(made), "steps", section=part, formula="tuning_steps", inputs={
                "examples": asked.examples, "epochs": asked.epochs, "batch": asked.batch,
            }, note=f"{asked.batch:,} sequences each")  # fmt: skip
    else:
        told = f"{asked.steps:,} steps x {asked.batch:,} x {asked.context:,}" if asked.steps else ""
        answer.add("tokens", tokens, "tokens", section=part, note=told or format_count(tokens))
        if asked.batch is not None and not asked.steps:
            answer.add("steps", -(-tokens // (asked.batch * asked.context)), "steps", section=part,
                       note=f"{asked.batch:,} sequences of {asked.context:,} each")  # fmt: skip
    active = active_of(inventory, asked)
    six = 6.0 * active * tokens
    run.flops = six
    run.model_share = 0.75 if asked.recompute == "full" else 1.0  # 6 N D knows no attention
    note = f"6 x {format_count(active)} x {format_count(tokens)}"
    answer.add("flops_6nd", six, "FLOP", label="6 N D", section=part, grade="derived",
               formula="training_flops", inputs={"parameters": active, "tokens": tokens},
               source="Kaplan et al. 2020, section 2.1", note=note)  # fmt: skip
    if not inventory.is_opaque:
        _counted(answer, inventory, asked, run)


def _counted(answer: Figures, inventory: Inventory, asked: Asked, run: Run) -> None:
    """The operations counted op by op, and those of the convention that the MFU goes by."""
    from llmcalc.compute.counting import by_convention
    from llmcalc.compute.ops import Work, adapter_lines, count, recomputed, total

    assert asked.tokens is not None
    adapters = None
    if asked.method != "full":
        from llmcalc.memory.training.targets import find_targets

        adapters = dict.fromkeys(find_targets(inventory, asked.targets), asked.rank)
    work = Work("train", asked.context, encoder=asked.context, adapters=adapters)
    lines = [*count(inventory, work), *adapter_lines(inventory, work)]
    forward, backward = total(lines)
    exact = float((forward + backward) / asked.context * asked.tokens)
    told = "frozen weights have no gradients" if adapters is not None else "attention and head included"
    answer.add("flops", exact, "FLOP", label="op by op", section="work", formula="sum over ops",
               grade="exact" if adapters is None else "derived",
               note=f"{told}, at {asked.context:,} tokens")  # fmt: skip
    if adapters is not None:
        run.flops = exact
        again = recomputed(lines, asked.recompute)
        run.model_share = float((forward + backward) / (forward + backward + again))
    elif asked.convention == "6nd" and not 0.75 < exact / run.flops < 1.33:
        answer.hints.append(
            f"Op by op it is {exact / run.flops:.2f} times 6 N D: --convention exact goes by that."
        )
    elif asked.convention != "6nd":
        one = by_convention(inventory, asked.context, asked.recompute, [asked.convention])[0]
        run.flops = float(one.model * asked.tokens)
        run.model_share = float(one.model / one.executed)
        answer.add("flops_convention", run.flops, "FLOP", label=f"as {asked.convention} counts",
                   section="work", grade="derived", formula=one.convention.formula or "sum over ops",
                   source=one.convention.source, note=one.convention.words)  # fmt: skip


def _utilization(answer: Figures, inventory: Inventory, asked: Asked, run: Run) -> None:
    """MFU of a step, goodput, bubble, and what that leaves over all hours."""
    gpu, part = asked.gpu, "time"
    assert gpu is not None
    bubble, inputs = 0.0, {}
    if asked.pp > 1 and asked.micro_batches:
        from llmcalc.memory.training.parallel.formulas import pipeline_bubble

        bubble = float(pipeline_bubble(asked.pp, asked.micro_batches, asked.vpp))
    stated = asked.mfu if asked.mfu is not None else asked.hfu
    if stated is None:
        found = usual(gpu.entry, active_of(inventory, asked), asked.precision, asked.goodput)
        run.used, run.low, run.high, inputs = found.run, found.low, found.high, found.inputs
        answer.add("mfu", found.step, "%", label="MFU of a step", low=found.step * LOW,
                   high=min(found.step * HIGH, 0.95), section=part, grade=found.grade,
                   formula=f"of published runs over all hours / {GOODPUT:g}", note=found.note)  # fmt: skip
        kept, grade = (GOODPUT, "assumed") if asked.goodput is None else (asked.goodput, "exact")
        low, high = (GOODPUT_LOW, GOODPUT_HIGH) if asked.goodput is None else (kept, kept)
        answer.add("goodput", kept, "%", low=low, high=high, section=part, grade=grade,
                   note="share of the hours that steps take; published runs")  # fmt: skip
        if bubble:
            answer.add("bubble", bubble, "%", section=part, grade="derived", formula="pipeline_bubble",
                       inputs={"stages": asked.pp, "micro_batches": asked.micro_batches, "chunks": asked.vpp},
                       note="of the working time; runs that the MFU is from had theirs")  # fmt: skip
    else:
        _stated(answer, asked, run, stated, bubble)
    answer.add("utilization", run.used, "%", label="over all hours", low=run.low, high=run.high,
               section=part, grade="derived" if stated is not None else answer["mfu"].grade,
               note="of the peak", inputs=inputs,
               formula="default_utilization" if inputs else "MFU of a step x goodput")  # fmt: skip


def _stated(answer: Figures, asked: Asked, run: Run, stated: float, bubble: float) -> None:
    """A stated MFU or HFU, less goodput and bubble."""
    part = "time"
    if asked.mfu is not None:
        answer.add("mfu", stated, "%", label="MFU of a step", section=part,
                   note=f"stated; operations as {_counts(asked)} counts")  # fmt: skip
        step = stated
    else:
        step = stated * run.model_share
        answer.add("hfu", stated, "%", label="HFU of a step", section=part, note="stated")
        how = (
            f"{100 * run.model_share:.3g} % of what is executed, as {_counts(asked)} counts"
            if run.model_share < 1
            else "nothing recomputed"
            if asked.recompute == "none"
            else f"{_counts(asked)} counts nothing of what is recomputed"
        )
        answer.add("mfu", step, "%", label="MFU of a step", section=part, grade="derived", note=how)
    kept = GOODPUT if asked.goodput is None else asked.goodput
    low, high = (GOODPUT_LOW, GOODPUT_HIGH) if asked.goodput is None else (kept, kept)
    answer.add("goodput", kept, "%", low=low, high=high, section=part,
               grade="assumed" if asked.goodput is None else "exact",
               note="share of the hours that steps take")  # fmt: skip
    if bubble:
        answer.add("bubble", bubble, "%", section=part, grade="derived", formula="pipeline_bubble",
                   inputs={"stages": asked.pp, "micro_batches": asked.micro_batches, "chunks": asked.vpp},
                   note="of the working time, on top of the stated figure")  # fmt: skip
    run.used, run.low, run.high = (step * one / (1 + bubble) for one in (kept, low, high))


def _counts(asked: Asked) -> str:
    return "each op" if asked.method != "full" else asked.convention


def _time(answer: Figures, inventory: Inventory, asked: Asked, run: Run) -> None:
    """GPU-hours, days, and GPUs for a deadline."""
    gpu, part = asked.gpu, "time"
    assert gpu is not None
    if gpu.peak is None:
        raise InputError(
            f"The catalog has no {asked.precision} peak of {gpu.name}.",
            "Use another --precision, or put the peak in a catalog of your own: tflops_dense.",
        )
    _utilization(answer, inventory, asked, run)
    run.hours, run.hours_low, run.hours_high = (
        float(leaf.gpu_hours(run.flops, gpu.peak, used)) for used in (run.used, run.high, run.low)
    )
    grade = answer["utilization"].grade
    answer.picture = {
        "hours": (run.hours_low, run.hours, run.hours_high), "count": gpu.count, "gpu": gpu.name,
    }  # fmt: skip
    answer.add("gpu_hours", run.hours, "GPU-h", label="GPU-hours", low=run.hours_low, high=run.hours_high,
               section=part, grade=grade, formula="gpu_hours", note=f"peak {gpu.peak / 1e12:g} TFLOP/s",
               inputs={"flops": run.flops, "peak": gpu.peak, "used": run.used})  # fmt: skip
    if gpu.count is not None:
        days = [
            float(leaf.wall_days(hours, gpu.count)) for hours in (run.hours, run.hours_low, run.hours_high)
        ]
        answer.add("days", days[0], "days", low=days[1], high=days[2], section=part, grade=grade,
                   formula="wall_days", inputs={"hours": run.hours, "gpus": gpu.count},
                   note=f"on {gpu.count:,} GPUs")  # fmt: skip
    if asked.days is not None:
        _deadline(answer, asked, run, grade)


def _deadline(answer: Figures, asked: Asked, run: Run, grade: str) -> None:
    """GPUs that meet it; refused where there are not so many."""
    gpu, days = asked.gpu, asked.days
    assert gpu is not None
    assert days is not None
    assert asked.tokens is not None
    need = [int(leaf.deadline_gpus(hours, days)) for hours in (run.hours, run.hours_low, run.hours_high)]
    if need[1] > SHIPPED:
        share = LARGEST * days * 24 / run.hours
        raise InputError(
            f"--days {days:g} takes {need[0]:,} {gpu.name}; all data-center GPUs that NVIDIA shipped in 2023 "
            f"were {SHIPPED:,} (TechInsights, 2024).",
            f"{LARGEST:,} of them, a very large cluster, take {run.hours / LARGEST / 24:,.3g} days (--days), "
            f"or train on {format_count(asked.tokens * share)} tokens (--tokens) in {days:g}.",
        )
    answer.add("deadline_gpus", need[0], "GPUs", label=f"GPUs for {days:g} days", low=need[1], high=need[2],
               section="time", grade=grade, formula="deadline_gpus",
               inputs={"hours": run.hours, "days": days}, note="as if more GPUs lost nothing")  # fmt: skip
    if need[0] > LARGEST:
        answer.warnings.append(f"More than {LARGEST:,} GPUs, the largest clusters that are told of.")
    if gpu.count is not None and gpu.count < need[0]:
        answer.warnings.append(
            f"{gpu.count:,} GPUs take {run.hours / gpu.count / 24:,.1f} days, more than --days {days:g}."
        )


def _energy(answer: Figures, asked: Asked, run: Run) -> None:
    """Energy of all hours; CO2 where the grid is stated."""
    gpu = asked.gpu
    assert gpu is not None
    if not gpu.power:
        answer.warnings.append(f"The catalog has no power of {gpu.name}: energy is left out.")
        return
    given = asked.stated & {"tdp_share", "pue"}
    kwh, low, high = (
        float(leaf.energy_kwh(hours, gpu.power, asked.share, asked.pue))
        for hours in (run.hours, run.hours_low, run.hours_high)
    )
    scale, unit = (1000, "MWh") if kwh >= 1000 else (1, "kWh")
    answer.add("energy", kwh / scale, unit, low=low / scale, high=high / scale, section="energy",
               grade="derived" if len(given) == 2 else "assumed", formula="energy_kwh",
               inputs={"hours": run.hours, "watts": gpu.power, "share": asked.share, "pue": asked.pue},
               note=f"{gpu.power:g} W x {asked.share:g} x PUE {asked.pue:g}; measured nodes draw 0.7 to 1.1 "
                    "of their GPUs' TDP")  # fmt: skip
    if asked.carbon is not None:
        tonnes = [float(leaf.emissions_t(one, asked.carbon)) for one in (kwh, low, high)]
        answer.add("co2", tonnes[0], "t CO2e", label="CO2", low=tonnes[1], high=tonnes[2], section="energy",
                   grade="derived", formula="emissions_t", inputs={"kwh": kwh, "grams": asked.carbon},
                   note=f"{asked.carbon:g} g/kWh, stated")  # fmt: skip


def _price(answer: Figures, asked: Asked, run: Run) -> None:
    """Dollars, or what else is stated."""
    price = asked.price
    if price is None:
        if asked.gpu is not None:
            answer.hints.append(f"The catalog has no price of {asked.gpu.name}: add --price.")
        return
    answer.add("gpu_hour_price", price.value, f"{price.currency}/GPU-h", label="GPU-hour", low=price.low,
               high=price.high, section="price", grade=price.grade, source=price.source,
               note=price.note)  # fmt: skip
    if not run.hours:
        return
    low, high = run.hours_low * price.low, run.hours_high * price.high
    answer.add("price", float(leaf.run_price(run.hours, price.value)), price.currency, label="run", low=low,
               high=high, section="price", formula="run_price",
               inputs={"hours": run.hours, "price": price.value},
               grade="assumed" if price.grade == "assumed" else answer["gpu_hours"].grade)  # fmt: skip


def _disk(answer: Figures, inventory: Inventory, asked: Asked) -> None:
    """Checkpoints and files of tokens."""
    assert asked.tokens is not None
    params = inventory.params
    trained = params
    if asked.method != "full":
        from llmcalc.memory.training.targets import find_targets, linears

        chosen = find_targets(inventory, asked.targets)
        trained = sum(
            asked.rank * (one.outputs + one.inputs) * one.copies * max(len(one.group.layers), 1)
            for one in linears(inventory)
            if one.key in chosen
        )
        answer.add("adapter_bytes", trained * 4, "B", label="adapter", section="disk", grade="derived",
                   formula="parameters x 4", inputs={"parameters": trained},
                   note=f"{format_count(trained)} parameters in fp32, PEFT's default")  # fmt: skip
    else:
        answer.add("weights_bytes", leaf.checkpoint_file_bytes(params, 0, 2, 0), "B", label="weights",
                   section="disk", grade="derived", formula="checkpoint_file_bytes", note="16 bit",
                   inputs={"parameters": params, "trained": 0, "width": 2, "states": 0})  # fmt: skip
        whole = asked.checkpoints * leaf.checkpoint_file_bytes(params, trained, 2, STATES)
        many = f"{asked.checkpoints:,} kept; " if asked.checkpoints > 1 else ""
        answer.add("checkpoint_bytes", whole, "B", label="checkpoints" if many else "checkpoint",
                   section="disk", grade="assumed", formula="checkpoint_file_bytes",
                   inputs={"parameters": params, "trained": trained, "width": 2, "states": STATES},
                   note=f"{many}16-bit weights, fp32 copy, two Adam states")  # fmt: skip
    unique = asked.unique or round(asked.tokens / asked.epochs)
    width, grade, told = _id_width(inventory)
    answer.add("token_file_bytes", leaf.token_file_bytes(unique, width), "B", label="token file",
               section="disk", grade=grade, formula="token_file_bytes",
               inputs={"tokens": unique, "width": width}, note=told)  # fmt: skip


def _id_width(inventory: Inventory) -> tuple[int, str, str]:
    """Bytes of a token id, by the vocabulary. [B]"""
    rows = max(
        (
            t.shape[0]
            for g in inventory.groups
            for t in g.tensors
            if t.role == "embedding" and len(t.shape) == 2
        ),
        default=0,
    )
    if not rows:
        return 4, "assumed", "4 bytes a token; 2 if the vocabulary is at most 65,536"
    width = 2 if rows <= 65536 else 4
    return width, "derived", f"{width} bytes a token: {rows:,} words"


def _data(answer: Figures, asked: Asked) -> None:
    """The tokens asked for beside what there is; passes over the same data."""
    assert asked.tokens is not None
    if asked.unique is not None and asked.unique < asked.tokens:
        passes = asked.tokens / asked.unique
        answer.add(
            "epochs", passes, "passes", section="data", note=f"over {format_count(asked.unique)} tokens"
        )
        if passes > FEW_EPOCHS:
            answer.warnings.append(
                f"{passes:.1f} passes over the same data: up to {FEW_EPOCHS} are worth nearly as much as new "
                "data, later ones less and less (Muennighoff et al. 2023)."
            )
    fresh = min(asked.unique or asked.tokens, asked.tokens)
    if fresh < 1e12:
        return
    rows = [
        {"stock": name, "tokens": tokens, "low": low, "high": high, "share": fresh / tokens, "source": source}
        for name, tokens, low, high, source in STOCKS
    ]
    columns = [("stock", "what there is", ""), ("tokens", "T tokens", "tokens|T"),
               ("low", "low", "tokens|T"), ("high", "high", "tokens|T"),
               ("share", "asked for", "%"), ("source", "source", "")]  # fmt: skip
    answer.grids.append(Grid("stocks", "Tokens asked for beside estimates of what there is", columns, rows))
    if fresh > 300e12:
        answer.warnings.append(
            f"{format_count(fresh)} tokens are more than all public text by people: some 300 T, 100 to 1,000 "
            "(Villalobos et al. 2024)."
        )
