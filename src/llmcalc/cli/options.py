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
    click.option("--prompt", metavar="TOKENS", help="With --output, instead of --context."),
    click.option("--output", metavar="TOKENS", help="Tokens to generate; context = prompt + output."),
    click.option(
        "--kv-dtype", "--kv-cache-dtype", "kv_dtype", metavar="DTYPE",
        help="Format of keys and values.  [16 bit]",
    ),
    click.option("--kv-dtype-k", "-ctk", "kv_dtype_k", metavar="DTYPE", help="Format of keys alone."),
    click.option("--kv-dtype-v", "-ctv", "kv_dtype_v", metavar="DTYPE", help="Format of values alone."),
    click.option("--encoder-tokens", metavar="TOKENS", help="Tokens that the encoder reads.  [the model's]"),
    click.option("--image-tokens", metavar="TOKENS", help="Tokens of one image.  [the model's]"),
    click.option("--images", metavar="N", help="Images held at once.  [1]"),
    click.option("--allow-overlong", is_flag=True, help="Allow a context above the model's limit."),
)  # fmt: skip

hardware_options = stack(
    click.option(
        "--engine",
        metavar="NAME",
        help="none (the architecture's minimum), transformers, llama.cpp, ollama, mlx or vllm.  [none]",
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

llama_options = stack(
    click.option("--n-ctx", "-c", "n_ctx", metavar="TOKENS", help="llama.cpp: context over all slots."),
    click.option("--parallel", "-np", "parallel", metavar="N", help="llama.cpp: slots.  [sequences]"),
    click.option(
        "--gpu-layers", "-ngl", "gpu_layers", metavar="N",
        help="llama.cpp: layers on GPUs, the output first.  [all]",
    ),
    click.option("--ubatch", "-ub", "ubatch", metavar="N", help="llama.cpp: physical batch.  [512]"),
    click.option("--n-cpu-moe", metavar="N", help="llama.cpp: layers whose experts stay on the CPU.  [0]"),
    click.option(
        "--override-tensor", "-ot", "override_tensor", metavar="PATTERN=BUFFER",
        help="llama.cpp: put tensors elsewhere: '\\.ffn_.*_exps\\.=CPU'.",
    ),
    click.option("--tensor-split", "-ts", "tensor_split", metavar="A,B", help="llama.cpp: GPUs' shares."),
    click.option(
        "--flash-attn", "-fa", "flash_attn", metavar="on|off", help="llama.cpp: flash attention.  [on]"
    ),
    click.option("--kv-unified", is_flag=True, help="llama.cpp: one cache for all slots."),
    click.option("--swa-full", is_flag=True, help="llama.cpp: window caches of full length."),
    click.option("--mla", metavar="on|off", help="llama.cpp: cache latents, not full heads.  [on]"),
    click.option("--fit", is_flag=True, help="llama.cpp: context and layers as llama-server chooses them."),
    click.option(
        "--mmproj", "-mm", "mmproj", metavar="on|off|FILE",
        help="llama.cpp: the projector for images and sound: the model's own, or a GGUF file.  [off]",
    ),
    click.option("--no-mmproj-offload", is_flag=True, help="llama.cpp: keep the projector on the CPU."),
    click.option(
        "--lora", metavar="FILE|r=N", multiple=True,
        help="llama.cpp: an adapter, a GGUF file or the rank of one; may be given more than once.",
    ),
    click.option(
        "--draft", "--model-draft", "-md", "draft", metavar="MODEL|mtp",
        help="llama.cpp: a draft model, or the model's own prediction layers.",
    ),
    click.option("--draft-quant", metavar="SCHEME", help="llama.cpp: file type of the draft.  [--quant]"),
    click.option(
        "--draft-max", "--spec-draft-n-max", "draft_max", metavar="N",
        help="llama.cpp: tokens drafted at once.  [3]",
    ),
    click.option(
        "--repack", metavar="on|off|CPU",
        help="llama.cpp: tell apart what the CPU re-lays out: avx2 (on), avx512 or neon.",
    ),
)  # fmt: skip

vllm_options = stack(
    click.option(
        "--gpu-memory-utilization", metavar="X", help="vLLM: its share of the GPU.  [0.92; 0.9 before 0.33]"
    ),
    click.option("--max-num-seqs", metavar="N", help="vLLM: sequences of one batch.  [by GPU: 1024 or 256]"),
    click.option(
        "--max-num-batched-tokens", metavar="TOKENS", help="vLLM: tokens of a batch.  [by GPU: 8192 or 2048]"
    ),
    click.option("--enforce-eager", is_flag=True, help="vLLM: no CUDA graphs."),
    click.option("--block-size", metavar="TOKENS", help="vLLM: tokens of a block.  [16]"),
    click.option(
        "--disable-hybrid-kv-cache-manager", is_flag=True, help="vLLM: window layers keep all tokens."
    ),
    click.option("--enable-prefix-caching", is_flag=True, help="vLLM: states kept for prefix caching."),
    click.option("--num-speculative-tokens", metavar="N", help="vLLM: tokens drafted ahead.  [0]"),
    click.option(
        "--async-scheduling", metavar="on|off", help="vLLM: two batches in flight.  [on from 0.21]"
    ),
    click.option(
        "--dcp", "--decode-context-parallel-size", "dcp", metavar="N",
        help="vLLM: tensor ranks that share a cache's tokens.  [1]",
    ),
    click.option(
        "--kv-cache-memory", "--kv-cache-memory-bytes", "kv_cache_memory", metavar="SIZE",
        help="vLLM: the pool's size, whatever is left.",
    ),
)  # fmt: skip

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
    for many in ("catalog", "lora"):
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
