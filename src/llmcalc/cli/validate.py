"""``llmcalc validate``."""

from __future__ import annotations

from typing import Any

import click

from llmcalc.cli.options import FORMATS, choose, write
from llmcalc.errors import InputError


@click.command("validate", short_help="Predictions beside measurements.")
@click.argument("model", required=False)
@click.option("--log", metavar="FILE", help="A log of llama.cpp, ik_llama.cpp, Ollama, vLLM or SGLang.")
@click.option("--era", metavar="YEAR[,YEAR]", help="Builds of 2026, 2025, 2024, 2023, ik or mlx.  [all]")
@click.option("--engine", metavar="NAME[,NAME]", help="Only runs of llama.cpp, mlx, vllm ...  [all]")
@click.option(
    "--by",
    metavar="WAY",
    default="engine",
    help="Sum up starts of servers by engine, version or source.  [engine]",
)
@click.option("--rows", is_flag=True, help="List every figure, or the lines of the log.")
@click.option("--quant", metavar="SCHEME", help="With --log: the file's type, if the log lacks it.")
@click.option("--flash-attn", "flash_attn", metavar="on|off", help="With --log: if it lacks it.")
@click.option("--engine-version", metavar="V", help="With --log: the build, if it lacks it.")
@click.option("--n-cpu-moe", metavar="N", help="With --log: layers whose experts stay on the CPU.")
@click.option("--catalog", metavar="FILE", multiple=True, help="A YAML file with models of your own.")
@click.option(
    "--format",
    "format_",
    metavar="FORMAT",
    default="text",
    show_default=True,
    help="text, markdown, json or csv.",
)
@click.option("--json", "json_", is_flag=True, help="Same as --format json.")
@click.option("--output-file", metavar="FILE", help="Write there instead of to the terminal.")
@click.option("--plot", metavar="FILE", help="Draw predicted against measured (needs the plot extra).")
def command(**options: Any) -> int:
    """What llmcalc predicts for real runs, beside what they printed, with the errors.

    Without --log: every published run in data/measurements. With --log: your own start-up log, line
    by line; name the model if the log's own name for it is not in the catalog.

    \b
    llmcalc validate
    llmcalc validate --era 2025,2026 --rows
    llmcalc validate --engine vllm --by version
    llmcalc validate --log server.log
    llmcalc validate llama-3.1-8b --log server.log
    """
    from llmcalc.api.validation import validate

    kind = "json" if options["json_"] else choose(options["format_"], FORMATS[:4], "--format")
    if options["log"] is None and options["model"] is not None:
        raise InputError("A model needs a log to be compared with.", "Add --log FILE.")
    found = validate(
        options["model"], log=options["log"], era=options["era"], engine=options["engine"],
        by=options["by"], quant=options["quant"],
        flash_attn=options["flash_attn"], engine_version=options["engine_version"],
        n_cpu_moe=options["n_cpu_moe"], catalog=list(options["catalog"]) or None,
    )  # fmt: skip
    if kind not in ("text", "json") and options["log"] is not None:
        raise InputError(f"--log has no {kind}.", "Use --format text or json.")
    if options["plot"] is not None:
        if options["log"] is not None:
            raise InputError("--plot draws the published runs.", "Leave --log out.")
        found.plot(options["plot"])  # type: ignore[union-attr]
    text = (
        found.to_json()
        if kind == "json"
        else getattr(found, f"to_{kind}")(**({} if kind == "csv" else {"rows": options["rows"]}))
    )
    write(text, options["output_file"])
    return 0
