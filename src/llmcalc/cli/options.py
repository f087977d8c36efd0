"""The options that mean the same in every command: one stack for each subject."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click

from llmcalc.errors import InputError, Problems

F = TypeVar("F", bound=Callable[..., Any])

FORMATS = ("text", "markdown", "json", "csv", "latex", "html")
UNITS = ("gib", "gb", "mib", "bytes")
OUTPUT_KEYS = (
    "format_",
    "json_",
    "units",
    "explain",
    "output_file",
    "plot",
    "check",
    "python",
    "serve_command",
    "timeline",
)


def stack(*decorators: Callable[[Any], Any]) -> Callable[[F], F]:
    """Apply decorators in the order in which they read."""

    def apply(function: F) -> F:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return apply


model_options = stack(
    click.argument("model", required=False),
    click.option(
        "--params", metavar="N", help="A bare number of parameters instead of a model: 13b, 7.24e9."
    ),
    click.option(
        "--config", metavar="PATH|-", help="A config.json, a folder with one, or - for standard input."
    ),
    click.option("--assume", metavar="FAMILY", help="Read an unknown model_type as this family."),
    click.option(
        "--catalog", metavar="FILE", multiple=True, help="A YAML file with models and GPUs of your own."
    ),
)

weight_options = stack(
    click.option("--dtype", metavar="DTYPE", help="Dtype of the weights.  [checkpoint's, else bf16]"),
    click.option("--bits", metavar="N", help="N / 8 bytes for every parameter (assumed)."),
    click.option(
        "--quant",
        "--quantization",
        "quant",
        metavar="SCHEME",
        help="Quantization: q4_k_m, awq, gptq-8bit, nf4-dq, fp8 ...  [checkpoint's own, else none]",
    ),
)

workload_options = stack(
    click.option(
        "--context", "--ctx", "-ctx", "--seq-len", "context", metavar="TOKENS",
        help="Tokens of one sequence; k = 1024.  [model's limit, at most 8192]",
    ),
    click.option("--max-model-len", metavar="TOKENS", help="The same as vLLM reads it: k = 1000, K = 1024."),
    click.option(
        "--sequences", "--batch", "--concurrency", "sequences", metavar="N",
        help="Sequences held at once, each of that length.  [1]",
    ),
    click.option(
        "--prompt", metavar="TOKENS",
        help="With --output, instead of --context: 512; a list '512, 1k'; 'lognormal(mean=1k, p95=3k)', "
        "'uniform(128, 2k)', exponential, normal; or a CSV or JSON file of lengths.",
    ),
    click.option("--output", metavar="TOKENS", help="Tokens to generate, written alike."),
    click.option(
        "--shared-prefix", metavar="TOKENS", help="Start of all prompts, held once for all of them.  [0]"
    ),
    click.option("--samples", metavar="N", help="Outputs of each prompt, held together (best of N).  [1]"),
    click.option("--beams", metavar="N", help="Beams of each prompt: a beam search, at worst.  [1]"),
    click.option(
        "--kv-dtype", "--kv-cache-dtype", "kv_dtype", metavar="DTYPE",
        help="Format of keys and values.  [16 bit]",
    ),
    click.option("--kv-dtype-k", "-ctk", "kv_dtype_k", metavar="DTYPE", help="Format of keys alone."),
    click.option("--kv-dtype-v", "-ctv", "kv_dtype_v", metavar="DTYPE", help="Format of values alone."),
    click.option("--encoder-tokens", metavar="TOKENS", help="Tokens that the encoder reads.  [the model's]"),
    click.option("--image-tokens", metavar="TOKENS", help="Tokens of one image.  [the model's]"),
    click.option("--images", metavar="N", help="Images of one request.  [0; cross-attention: 1]"),
    click.option(
        "--with", "with_models", metavar="MODEL", multiple=True,
        help="Another model on the same GPUs at the same time, MODEL@SCHEME if quantized otherwise; several.",
    ),
    click.option("--ensemble", metavar="N", help="Members of an ensemble of such models, all resident.  [1]"),
    click.option("--allow-overlong", is_flag=True, help="Allow a context above the model's limit."),
)  # fmt: skip

hardware_options = stack(
    click.option(
        "--engine",
        metavar="NAME",
        help="none (the architecture's minimum), transformers, llama.cpp, ollama, mlx, "
        "vllm, sglang or tensorrt-llm.  [none]",
    ),
    click.option("--engine-version", metavar="V", help="Its build or release: b6000, 0.19.0.  [newest]"),
    click.option(
        "--gpu",
        metavar="GPU[,GPU]",
        help="rtx-4090, 8xh100-80gb, h100:3g.40gb (MIG), a40:ecc-off, 24GiB, or auto: this machine's; commas "
        "give one row each.",
    ),
    click.option(
        "--reserve",
        metavar="SIZE",
        help="Memory that others use on each GPU.  [0]",
    ),
    click.option("--tp", "--tensor-parallel-size", "tp", metavar="N", help="Tensor ranks.  [number of GPUs]"),
    click.option("--pp", "--pipeline-parallel-size", "pp", metavar="N", help="Pipeline stages.  [1]"),
    click.option("--dp", "--data-parallel-size", "dp", metavar="N", help="Replicas.  [1]"),
)

_format = click.option(
    "--format", "format_", metavar="FORMAT", default="text", show_default=True, help=f"{', '.join(FORMATS)}."
)
_json = click.option("--json", "json_", is_flag=True, help="Same as --format json.")
_file = click.option("--output-file", metavar="FILE", help="Write there instead of to the terminal.")
_units = click.option(
    "--units",
    metavar="UNIT",
    default="gib",
    show_default=True,
    help=f"{', '.join(UNITS)}; JSON is always bytes.",
)

list_output_options = stack(_format, _json, _file)

picture_options = stack(
    _format,
    _json,
    click.option("--explain", is_flag=True, help="Add formula, values, validity and source of each line."),
    _units,
    _file,
    click.option("--plot", metavar="FILE", help="Draw a picture (needs the plot extra)."),
    click.option("--python", is_flag=True, help="Print the call of the Python API instead."),
)

output_options = stack(
    picture_options,
    click.option("--check", is_flag=True, help="Exit 1 if it does not fit, 3 if too close to call."),
)

serve_option = click.option(
    "--serve-command", is_flag=True, help="Print the command that starts the engine by this plan, alone."
)


class EngineCommand(click.Command):
    """A command that also takes the options of single engines.

    There are more of them than of all others together, so they are made only where a word asks for one of
    them, or for help.
    """

    is_whole = False

    def whole(self) -> EngineCommand:
        """The same with all its options."""
        if not self.is_whole:
            from llmcalc.cli.engine_options import made_options

            place = next(n for n, one in enumerate(self.params) if one.name in AFTER_ENGINES)
            self.params[place:place] = made_options()
            self.is_whole = True
        return self

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse, with all options where the usual ones are not enough."""
        usual = {name for one in self.params for name in (*one.opts, *one.secondary_opts)}
        if any(word.startswith("-") and word.partition("=")[0] not in usual for word in args):
            self.whole()
        return super().parse_args(ctx, args)

    def get_help(self, ctx: click.Context) -> str:
        """Help on all options."""
        return super(EngineCommand, self.whole()).get_help(ctx)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[Any]:
        """Complete all options."""
        self.whole()
        return super().shell_complete(ctx, incomplete)


AFTER_ENGINES = ("serve_command", "format_")
"""The options of single engines stand before the first of these."""


def choose(value: str, allowed: tuple[str, ...], what: str) -> str:
    """Check a word against a list, with the nearest one in the error."""
    folded = value.strip().lower()
    if folded in allowed:
        return folded
    from llmcalc.errors import did_you_mean

    near = did_you_mean(folded, allowed, 1)
    hint = f"Did you mean {near[0]}? " if near else ""
    raise InputError(f"{what} {value[:40]!r} is not known.", f"{hint}Use {', '.join(allowed)}.")


def given(options: dict[str, Any]) -> dict[str, Any]:
    """The keywords of the API call: what the user set, output options apart."""
    found = {key: value for key, value in options.items() if key not in OUTPUT_KEYS}
    for many in ("catalog", "lora", "with_models"):
        if many in found:
            found[many] = list(found[many]) or None
    return found


def respond(question: Callable[..., Any], options: dict[str, Any]) -> int:
    """Ask the API, telling mistakes of the question and of the output options together; show the answer.

    Returns
    -------
    int
        The exit code.
    """
    problems = Problems()
    kind, units, report = "text", "gib", None
    with problems:
        kind = "json" if options["json_"] else choose(options["format_"], FORMATS, "--format")
    with problems:
        units = choose(options["units"], UNITS, "--units")
    with problems:
        if options.get("check") and options.get("gpu") is None:
            raise InputError(
                "--check needs a GPU to check against.", "Add --gpu, for example --gpu rtx-4090."
            )
    with problems:
        report = question(**given(options))
    problems.check()
    return show(report, kind, units, options)


def show(report: Any, kind: str, units: str, options: dict[str, Any]) -> int:
    """Write a report as the output options ask, notes to stderr; return the exit code."""
    rows = list(getattr(report, "rows", [report]))
    if options["python"]:
        write("import llmcalc\n\n" + rows[0].call.python() + "\n", options["output_file"])
        return 0
    if options.get("serve_command"):
        return _serve(report, rows, options)
    color = kind == "text" and options["output_file"] is None and _color()
    text = render(report, kind, units, color)
    if options.get("timeline") and kind in ("text", "markdown"):
        drawn = "".join(row.timeline_text(units) for row in rows)
        text += f"\n```text{drawn}```\n" if kind == "markdown" else drawn
    if options["explain"] and kind in ("text", "markdown"):
        explained = report.explain(units)
        text += "\n" + (f"```\n{explained}```\n" if kind == "markdown" else explained)
    elif options["explain"] and kind != "json":
        click.echo(f"Note: --explain is for text and markdown; {kind} has no room for it.", err=True)
    if options["plot"] is not None:
        report.plot(options["plot"])
    write(text, options["output_file"])
    if kind != "json":
        from llmcalc.render.rows import notes_of

        for note in notes_of(rows):
            click.echo(for_terminal(f"Note: {note}"), err=True)
    return _code(rows, options)


def _code(rows: list[Any], options: dict[str, Any]) -> int:
    """The exit code of an answer."""
    if rows[0].command == "fit":  # one card that holds it is enough
        codes = [exit_code([row]) for row in rows]
        return 0 if 0 in codes else 3 if 3 in codes else 1
    return exit_code(rows) if options.get("check") else 0


def _serve(report: Any, rows: list[Any], options: dict[str, Any]) -> int:
    """The start command alone on one line, what to do besides on stderr."""
    from llmcalc.api.serve import serve_command

    line = serve_command(report)
    write(f"{line}\n", options["output_file"])
    for note in line.notes:
        click.echo(for_terminal(f"Note: {note}"), err=True)
    return _code(rows, options)


def render(report: Any, kind: str, units: str, color: bool) -> str:
    """A report in one of the formats."""
    if kind == "text":
        return str(report.to_text(units, color))
    if kind == "json":
        return str(report.to_json())
    return str(getattr(report, f"to_{kind}")(units))


def for_terminal(text: str) -> str:
    """A message on lines of 80 characters where a person reads it; as it is in files and pipes."""
    if sys.stderr is None or not sys.stderr.isatty():
        return text
    import shutil
    import textwrap

    width = min(80, shutil.get_terminal_size().columns)
    lines = [
        textwrap.fill(
            line, max(width, 20), subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
        )
        for line in text.split("\n")
    ]
    return "\n".join(lines)


def exit_code(rows: list[Any]) -> int:
    """0 where all fit, 1 where one does not, 3 where one is too close to call."""
    verdicts = {row.verdict for row in rows}
    return 1 if "does_not_fit" in verdicts else 3 if "too_close" in verdicts else 0


def write(text: str, file: str | None) -> None:
    """Write text to standard output (if there is one) or to a file."""
    if file is None:
        if sys.stdout is not None:
            sys.stdout.write(text if _encodable(text) else _ascii(text))
        return
    try:
        with open(file, "w", encoding="utf-8", errors="replace", newline="\n") as stream:
            stream.write(text)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(
            f"--output-file {file!r}: {reason}.", "Check the folder and its permissions."
        ) from None


def _ascii(text: str) -> str:
    """Text for a terminal that knows ASCII alone; JSON keeps its meaning."""
    if text.startswith("{"):
        import json

        return json.dumps(json.loads(text), indent=2) + "\n"
    return text.encode("ascii", "replace").decode()


def _encodable(text: str) -> bool:
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _color() -> bool:
    import os

    return (
        sys.stdout is not None
        and sys.stdout.isatty()
        and not os.environ.get("NO_COLOR")
        and os.environ.get("TERM") != "dumb"
    )
