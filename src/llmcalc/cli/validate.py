"""``llmcalc validate``."""

from __future__ import annotations

from typing import Any

import click

from llmcalc.cli.options import FORMATS, choose, stack, write
from llmcalc.errors import InputError

LOG = (
    "quant", "context", "n_ctx", "parallel", "gpu_layers", "ubatch", "n_cpu_moe", "override_tensor",
    "tensor_split", "flash_attn", "kv_unified", "kv_dtype_k", "kv_dtype_v", "mla", "engine_version",
)  # fmt: skip
"""What a log may leave open."""

log_options = stack(
    click.option("--quant", metavar="SCHEME", help="With --log, if it lacks it: the file's type."),
    click.option("--context", "--ctx", "context", metavar="TOKENS", help="The same: tokens of a slot."),
    click.option("--n-ctx", "-c", "n_ctx", metavar="TOKENS", help="The same: context over all slots."),
    click.option("--parallel", "-np", "parallel", metavar="N", help="The same: slots."),
    click.option("--gpu-layers", "-ngl", "gpu_layers", metavar="N", help="The same: layers on GPUs."),
    click.option("--ubatch", "-ub", "ubatch", metavar="N", help="The same: physical batch."),
    click.option("--n-cpu-moe", metavar="N", help="The same: layers whose experts stay on the CPU."),
    click.option(
        "--override-tensor", "-ot", "override_tensor", metavar="PATTERN=BUFFER",
        help="The same: tensors put elsewhere.",
    ),
    click.option("--tensor-split", "-ts", "tensor_split", metavar="A,B", help="The same: GPUs' shares."),
    click.option("--flash-attn", "-fa", "flash_attn", metavar="on|off", help="The same: flash attention."),
    click.option(
        "--kv-unified/--no-kv-unified", default=None, help="The same: one cache for all slots, or one each."
    ),
    click.option("--kv-dtype-k", "-ctk", "kv_dtype_k", metavar="DTYPE", help="The same: format of keys."),
    click.option("--kv-dtype-v", "-ctv", "kv_dtype_v", metavar="DTYPE", help="The same: format of values."),
    click.option("--mla", metavar="on|off", help="The same: cache latents, not full heads."),
    click.option("--engine-version", metavar="V", help="The same: its build, or ik."),
)  # fmt: skip


@click.command("validate", short_help="Predictions beside measurements.")
@click.argument("model", required=False)
@click.option("--log", metavar="FILE", help="A log of llama.cpp, ik_llama.cpp, Ollama, vLLM or SGLang.")
@click.option("--era", metavar="YEAR[,YEAR]", help="Builds of 2026, 2025, 2024, 2023, ik or mlx.  [all]")
@click.option("--engine", metavar="NAME[,NAME]", help="Only runs of llama.cpp, vllm, training ...  [all]")
@click.option(
    "--by",
    metavar="WAY",
    default="engine",
    help="Sum up starts of servers by engine, version or source.  [engine]",
)
@click.option("--rows", is_flag=True, help="List every figure, or the lines of the log.")
@log_options
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
    by line; name the model if the log's own name for it is not in the catalog. What the log leaves open
    is not predicted, and named below the table with the option that settles it.

    \b
    llmcalc validate
    llmcalc validate --era 2025,2026 --rows
    llmcalc validate --engine vllm --by version
    llmcalc validate --engine training
    llmcalc validate --log server.log
    llmcalc validate llama-3.1-8b --log server.log --quant q4_k_m -c 8192
    """
    import gc

    from llmcalc.api.validation import validate

    gc.enable()  # hundreds of estimates leave much behind
    kind = "json" if options["json_"] else choose(options["format_"], FORMATS[:4], "--format")
    found = validate(
        options["model"], log=options["log"], era=options["era"], engine=options["engine"],
        by=options["by"], catalog=list(options["catalog"]) or None,
        **{name: options[name] for name in LOG},
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
