"""What validation answers: predictions beside published runs, or beside a user's own log."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llmcalc.catalog import Catalog
from llmcalc.errors import InputError, UnknownNameError, one_of
from llmcalc.validation import training
from llmcalc.validation.measured import ERAS, Row, Summary, compare, summarise
from llmcalc.validation.servers import (
    ENGINES,
    WAYS,
    ServerRow,
    ServerSummary,
    compare_starts,
    summarise_starts,
)


class Validation:
    """Errors of predictions for runs that were measured.

    Attributes
    ----------
    rows : list of Row
        One figure of one run each.
    summaries : list of Summary
        Errors by year and quantity.
    starts : list of ServerRow
        One figure of one start of a server each.
    server_summaries : list of ServerSummary
        Their errors by engine, release or source, as `by` says, and quantity.
    trainings : list of TrainingRow
        One training run each.
    training_summaries : list of TrainingSummary
        Their errors by method and quality.
    date : str
        Of the measurements.
    """

    def __init__(
        self, rows: Sequence[Row], date: str, starts: Sequence[ServerRow] = (), by: str = "engine",
        trainings: Sequence[training.TrainingRow] = (),
    ) -> None:  # fmt: skip
        self.rows, self.date, self.starts, self.by = list(rows), date, list(starts), by
        self.trainings = list(trainings)
        self.summaries: list[Summary] = summarise(rows)
        self.server_summaries: list[ServerSummary] = summarise_starts(starts, by)
        self.training_summaries = training.summarise(trainings)

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "schema": 1,
            "command": "validate",
            "date": self.date,
            "summary": [summary.to_dict() for summary in self.summaries],
            "rows": [row.to_dict() for row in self.rows],
            "servers": {
                "by": self.by,
                "summary": [summary.to_dict() for summary in self.server_summaries],
                "rows": [row.to_dict() for row in self.starts],
            },
            "training": {
                "summary": [summary.to_dict() for summary in self.training_summaries],
                "rows": [row.to_dict() for row in self.trainings],
            },
        }

    def to_json(self) -> str:
        """The same as JSON."""
        import json

        return json.dumps(self.to_dict(), indent=2) + "\n"

    def to_text(self, rows: bool = False) -> str:
        """Tables for a terminal; `rows` lists every figure."""
        from llmcalc.render.validation import as_text

        return as_text(self, rows)

    def to_markdown(self, rows: bool = True) -> str:
        """The page of the documentation."""
        from llmcalc.render.validation import as_markdown

        return as_markdown(self, rows)

    def to_csv(self) -> str:
        """A row a figure."""
        from llmcalc.render.validation import as_csv

        return as_csv(self)

    def plot(self, file: str) -> None:
        """Predicted against measured (needs the ``plot`` extra)."""
        from llmcalc.render.validation import as_plot

        as_plot(self, file)

    def __str__(self) -> str:
        return self.to_text()


class LogValidation:
    """A log's lines, each with what was predicted.

    Attributes
    ----------
    log : Log
        As read.
    rows : list of Compared
        What was printed and predicted.
    report : Report
        The prediction.
    notes : list of str
        What is not predicted and why, and what was taken for granted.
    doubt : str or None
        How the model was found, where the log does not name it.
    """

    def __init__(
        self, log: Any, rows: list[Any], report: Any, notes: Sequence[str] = (), doubt: str | None = None
    ) -> None:
        self.log, self.rows, self.report = log, rows, report
        self.notes, self.doubt = list(notes), doubt

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "schema": 1,
            "command": "validate",
            "program": self.log.program,
            "build": self.log.build,
            "model": self.report.model,
            "scenario": {key: value for key, value in self.report.scenario.items() if value is not None},
            "missing": list(self.log.missing),
            "notes": self.notes,
            "doubt": self.doubt,
            "open": self.open,
            "rows": [row.to_dict() for row in self.rows],
        }

    @property
    def open(self) -> list[str]:
        """Options that the log leaves open, and that lines depend on."""
        return list(dict.fromkeys(option for row in self.rows for option in row.open))

    def to_json(self) -> str:
        """The same as JSON."""
        import json

        return json.dumps(self.to_dict(), indent=2) + "\n"

    def to_text(self, rows: bool = False) -> str:
        """A table for a terminal; `rows` adds the lines themselves."""
        from llmcalc.render.validation import log_as_text

        return log_as_text(self, rows)

    def __str__(self) -> str:
        return self.to_text()


BUILDS = ("llama.cpp", "mlx")
"""Engines whose runs are told by the year of the build."""


def validate_runs(
    book: Catalog, predict: Any, eras: Any = None, engines: Any = None, by: str = "engine", train: Any = None
) -> Validation:
    """Predict every published run.

    Parameters
    ----------
    book : Catalog
        With the measurements.
    predict, train : callable
        `llmcalc.vram` and `llmcalc.train`.
    eras, engines : str or sequence of str, optional
        Years of builds, and engines; ``training`` for the runs of training.
    by : str
        How starts of servers are summed up: by ``engine``, ``version`` or ``source``.

    Raises
    ------
    InputError
        For a year or an engine that no run is of.
    """
    chosen = ERAS if eras is None else tuple(str(era).strip().lower() for era in _listed(eras))
    for era in chosen:
        if era not in ERAS:
            raise InputError(f"--era {era[:20]!r} has no runs.", f"Use {one_of(ERAS)}.")
    if by not in WAYS:
        raise InputError(f"--by is {str(by)[:20]!r}.", f"Use {one_of(WAYS)}.")
    runs = book.entries("measurements")
    known = [
        name for name in (*BUILDS, *ENGINES, training.ENGINE) if any(run["engine"] == name for run in runs)
    ]
    if engines is None:
        wanted = known if eras is None else list(BUILDS)
    else:
        wanted = [str(name).strip().lower() for name in _listed(engines)]
    for name in wanted:
        if name not in known:
            raise InputError(f"--engine {name[:20]!r} has no runs.", f"Use {one_of(known)}.")
    rows = compare([run for run in runs if run["engine"] in wanted], predict, chosen)
    starts = compare_starts(runs, predict, [name for name in wanted if name in ENGINES])
    trained = training.compare(runs, train) if training.ENGINE in wanted and train is not None else []
    return Validation(rows, book.date("measurements"), starts, by, trained)


def _listed(words: Any) -> list[Any]:
    return words.split(",") if isinstance(words, str) else list(words)


class ServerLogValidation(LogValidation):
    """Figures of a server's log, each with what was predicted."""

    def to_text(self, rows: bool = False) -> str:
        """A table for a terminal; `rows` adds the lines themselves."""
        from llmcalc.render.servers import log_as_text

        return log_as_text(self, rows)


def validate_server_log(
    book: Catalog, predict: Any, text: str, log: Any, model: Any, **more: Any
) -> ServerLogValidation | None:
    """Predict what a log of vLLM or SGLang prints; None for one of neither.

    Raises
    ------
    InputError, UnknownNameError
        For a log without sizes, and one whose model is not known.
    """
    from llmcalc.validation.sglang_log import compare_sglang, is_sglang, read_sglang_log
    from llmcalc.validation.vllm_log import is_vllm

    of_vllm, of_sglang = is_vllm(text), is_sglang(text)
    text, cut = whole_lines(text)
    if of_vllm:
        from llmcalc.validation.against_vllm import compare_vllm
        from llmcalc.validation.vllm_log import read_vllm_log

        read: Any = read_vllm_log(text, str(log))
        compare_with: Any = compare_vllm
    elif of_sglang:
        read, compare_with = read_sglang_log(text, str(log)), compare_sglang
    else:
        return None
    chosen, is_own, doubt = _served_model(book, read, model)
    known = {name: more[name] for name in ("quant", "engine_version", "context") if name in more}
    rows, report = compare_with(read, chosen, predict, is_own, **known)
    return ServerLogValidation(read, rows, report, cut, doubt)


UNITS = ("gib", "gb", "mib", "mb", "tokens", "seconds", "secs", "sec", "s", "x")
CLOSED = (")", "]", "}", ".", "%")
"""How lines with figures end; any other end without a line break may be one that was cut."""


def whole_lines(text: str) -> tuple[str, list[str]]:
    """A log without a last line that was cut, of which half a number could be believed; and a note.

    Examples
    --------
    >>> whole_lines("GPU KV cache size: 208,320 tokens\\nestimated maximum model length is 35")
    ('GPU KV cache size: 208,320 tokens\\n', ['The last line is cut off, and left out.'])
    """
    head, line_break, last = text.rpartition("\n")
    words = last.split()
    if (
        not line_break
        or not words
        or words[-1].endswith(CLOSED)
        or words[-1].lower().lstrip("0123456789.,") in UNITS
    ):
        return text, []
    return head + line_break, ["The last line is cut off, and left out."]


def _served_model(book: Catalog, read: Any, model: Any) -> tuple[Any, bool, str | None]:
    """The model of a server's log, whether it says itself how it is quantized, and a doubt."""
    import os

    from llmcalc.validation.against_vllm import names_of

    told = names_of(read)
    chosen = model if model is not None else next((n for n in told if os.path.exists(n)), None)
    if chosen is None:
        chosen = next((name for name in told if book.lookup("models", name) is not None), None)
    if chosen is None:
        raise UnknownNameError(
            f"The log's model is not in the catalog{f' ({told[0][:120]})' if told else ''}.",
            "Name it, or its config.json: llmcalc validate MODEL --log FILE.",
        )
    entry = book.lookup("models", chosen) if isinstance(chosen, str) else None
    is_own = "quantization_config" in ((entry or {}).get("config") or {})
    doubt = None
    if model is None and chosen != told[0]:
        doubt = f"The log's model, {told[0][:120]}, is taken to have the layers of {chosen}."
    return chosen, is_own, doubt


def validate_log(
    book: Catalog, read_model: Any, predict: Any, log: Any, model: Any, **more: Any
) -> LogValidation:
    """Predict what a log prints.

    Raises
    ------
    InputError, UnknownNameError
        For a log of another program, one without sizes, and one whose model is not known.
    """
    from llmcalc.validation.against_log import compare_log
    from llmcalc.validation.log import read_log, read_text

    if not str(log).strip():
        raise InputError("--log names no file.", "Give the log's path: --log server.log.")
    text = read_text(str(log))
    served = validate_server_log(book, predict, text, log, model, **more)
    if served is not None:
        return served
    read = read_log(text, str(log))
    if read.main is None:
        raise InputError(f"{log} loads no model.", "Give the log from the start of the program.")
    chosen, doubt = (model, None) if model is not None else _known_model(read.main, book)
    rows, report, notes = compare_log(read, read_model(chosen), predict, **more)
    if not rows:
        raise InputError(
            f"{log} prints none of {', '.join(('weights', 'caches', 'compute buffers'))}.",
            "Recent llama.cpp prints them only with -lv 4.",
        )
    return LogValidation(read, rows, report, notes, doubt)


def _known_model(load: Any, book: Catalog) -> tuple[str, str | None]:
    """The catalog's model that a log names, by its own name, its file's or its shape; and a doubt."""
    import os

    from llmcalc.validation.shapes import models_of_shape

    tried = []
    for name in _names(load):
        tried.append(name)
        if os.path.isfile(name) or book.lookup("models", name) is not None:
            return name, None
    alike = models_of_shape(load, book.entries("models"))
    if alike:
        others = f" and {len(alike) - 1} more" if len(alike) > 1 else ""
        return alike[0], f"The log's shape is that of {alike[0]}{others}: taken to be it."
    raise UnknownNameError(
        f"The log's model is not in the catalog ({tried[0]})."
        if tried
        else "The log does not name its model.",
        "Name it, or its file: llmcalc validate MODEL --log FILE.",
    )


def _names(load: Any) -> list[str]:
    """What a log calls its model: the path, its name, the file without its type."""
    import re

    found = [load.path] if load.path else []
    if load.name:
        found += [load.name, re.sub(r"(?i)^(meta|google|mistralai|qwen)[ -_]+", "", load.name)]
    if load.path:
        base = load.path.replace("\\", "/").rpartition("/")[2]
        base = re.sub(r"(-\d{5}-of-\d{5})?\.gguf$", "", base)
        found.append(re.sub(r"(?i)[-_.](ud-)?(i?q\d\w*|f16|bf16|f32|mxfp4\w*|nvfp4)$", "", base))
    return [name for name in found if name]
