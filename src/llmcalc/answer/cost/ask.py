"""What a run costs: one question, from keywords to figures."""

from __future__ import annotations

from typing import Any

from llmcalc.answer.cost.asked import Asked, resolve
from llmcalc.catalog import Catalog
from llmcalc.errors import ConfigError, Problems
from llmcalc.model import readers
from llmcalc.model.inventory import Inventory
from llmcalc.precision import stored_as_declared
from llmcalc.report.call import Call
from llmcalc.report.figures import Figures
from llmcalc.units import format_count


def cost(
    model: Any = None,
    *,
    params: Any = None,
    config: Any = None,
    active: Any = None,
    tokens: Any = None,
    examples: Any = None,
    epochs: Any = None,
    steps: Any = None,
    batch: Any = None,
    context: Any = None,
    unique: Any = None,
    method: str | None = None,
    lora_r: Any = None,
    lora_targets: Any = None,
    gpu: Any = None,
    days: Any = None,
    precision: str | None = None,
    mfu: Any = None,
    hfu: Any = None,
    recompute: str | None = None,
    convention: str | None = None,
    goodput: Any = None,
    pp: Any = None,
    micro_batches: Any = None,
    vpp: Any = None,
    tdp_share: Any = None,
    pue: Any = None,
    carbon: Any = None,
    price: Any = None,
    currency: Any = None,
    exchange: Any = None,
    checkpoints: Any = None,
    throughput: Any = None,
    output: Any = None,
    reasoning_tokens: Any = None,
    samples: Any = None,
    requests: Any = None,
    busy: Any = None,
    assume: str | None = None,
    catalog: Any = None,
) -> Figures:
    """Time, energy, price and disk of training or fine-tuning; the price of tokens at a throughput.

    Parameters
    ----------
    model, params, config : str, number, dict or Inventory
        The model (one of the three): anything `llmcalc.model` takes.
    active : int or str, optional
        Of a bare count: parameters that one token uses. [-]
    tokens : int or str, optional
        Tokens that are trained on, such as ``15t``; of serving those that are made. [tokens]
    examples, epochs, context, batch : optional
        Fine-tuning: examples, passes over them, tokens of each, sequences of a step. [-], [tokens]
    steps : int, optional
        Steps, with `batch` and `context`, instead of tokens. [-]
    unique : int or str, optional
        Tokens that there are, where several passes are made. [tokens]
    method, lora_r, lora_targets : optional
        ``full`` (the default), ``lora`` or ``qlora``.
    gpu : str, optional
        ``6000xa100-80gb``; without a number only GPU-hours are told.
    days : float, optional
        A deadline: how many GPUs meet it. [d]
    precision : str
        Whose peak: ``bf16`` (the default), ``fp8`` ...
    mfu, hfu, recompute, convention : optional
        Utilization of a step as stated, what is recomputed, and how its operations are counted (``6nd``).
        Where nothing is stated it is what published runs of that size reach. [-]
    goodput : float, optional
        Share of the hours that steps take; 0.88. [-]
    pp, micro_batches, vpp : int, optional
        A pipeline, whose bubble is on top of a stated MFU. [-]
    tdp_share, pue, carbon : float, optional
        Share of the GPU's power limit that is drawn (1), the building's factor (1.1), the grid. [-], [g/kWh]
    price, currency, exchange : optional
        Of a GPU-hour (``2.5`` or ``2.5EUR``), its currency, and what a dollar is in it. [money/h]
    checkpoints : int
        That are kept; 1. [-]
    throughput : float, optional
        Serving: tokens/s of all GPUs together. [tokens/s]
    output, reasoning_tokens, samples, requests, busy : optional
        Serving: tokens of an answer and of the reasoning before it, answers drawn for each that is shown,
        requests, share of the time that the GPUs work. [tokens], [-]
    assume, catalog : optional
        As in `llmcalc.vram`.

    Returns
    -------
    Figures
        ``answer["gpu_hours"].value``, ``answer["price"].low`` and others.

    Raises
    ------
    LlmcalcError
        With every mistake of the call and its remedy.

    Examples
    --------
    DeepSeek-V3's pre-training as its report has it, 2,664,000 hours at $2:

    >>> found = cost("deepseek-v3", tokens="14.8t", gpu="2048xh800", mfu=0.3514, goodput=1, price=2)
    >>> round(found["gpu_hours"].value, -4), round(found["price"].value / 1e6, 2)
    (2660000.0, 5.33)
    """
    stated = dict(locals())
    given = {
        key: value for key, value in stated.items() if key not in ("model", "params", "config", "catalog")
    }
    book = catalog if isinstance(catalog, Catalog) else Catalog(
        [catalog] if isinstance(catalog, str) else list(catalog or ())
    )  # fmt: skip
    problems = Problems()
    inventory = None
    with problems:
        if model is None and params is None and config is None and throughput is not None:
            inventory = readers.read("1b", book)  # a price of tokens needs no model
        else:
            inventory = stored_as_declared(readers.read_only(model, params, config, assume, book), book)
        if inventory.family == "header":
            raise ConfigError(
                f"{inventory.name}: the header tells the weights, not the layers and their operations.",
                "Put the model's config.json beside it.",
            )
    with problems:
        asked = resolve(inventory or readers.read("1b", book), book, given)
    problems.check()
    assert inventory is not None
    answer = _answer(inventory, asked, given, model is None and params is None and config is None)
    answer.sign(Call("cost", stated), book)
    return answer


def _answer(inventory: Inventory, asked: Asked, given: dict[str, Any], nameless: bool) -> Figures:
    """The heading, what was asked, and all parts."""
    answer = Figures("cost")
    answer.model = {"name": "", "params": None, "active_params": None, "source": "none"}
    if not nameless:
        total, active = format_count(inventory.params), format_count(asked.active or inventory.active_params)
        answer.model = {
            "name": inventory.name, "params": inventory.params,
            "active_params": asked.active or inventory.active_params, "source": inventory.source,
        }  # fmt: skip
        answer.header = [inventory.title] if not inventory.is_opaque else []
        answer.header.append(f"{total} ({active} active) params" if total != active else f"{total} params")
    if asked.serving:
        answer.header.append("serving")
    elif asked.method != "full":
        answer.header.append(f"{asked.method} r={asked.rank}")
    if asked.gpu is not None:
        answer.header.append(f"{asked.gpu.shown} ({asked.precision})")
    answer.scenario = {
        key: value for key, value in given.items() if value is not None and value is not False
    } | {
        "precision": asked.precision, "gpu": None if asked.gpu is None else asked.gpu.shown,
        "convention": asked.convention, "method": asked.method, "context": asked.context, "pue": asked.pue,
        "tdp_share": asked.share,
    }  # fmt: skip
    if asked.serving:
        from llmcalc.answer.cost.serving import serving_answer

        serving_answer(answer, asked)
    else:
        from llmcalc.answer.cost.training import training_answer

        training_answer(answer, inventory, asked)
    return answer
