"""``llmcalc formats``."""

from __future__ import annotations

from typing import Any

import click

from llmcalc.cli.options import list_output_options, stack

_list_options = stack(
    click.option("--search", metavar="WORD", help="Only those whose name or alias has this word."),
    click.option("--use", metavar="USE", help="Only those for quant, dtype or kv."),
    click.option("--catalog", metavar="FILE", multiple=True, help="A YAML file with formats of your own."),
    list_output_options,
)

USES = {"quant": "--quant", "dtype": "--dtype", "kv": "--kv-dtype"}


@click.group("formats", invoke_without_command=True, short_help="Number formats and schemes.")
@_list_options
@click.pass_context
def command(ctx: click.Context, /, **options: Any) -> int | None:
    """List number formats and quantization schemes; `llmcalc formats show NAME` shows one.

    Bits are those of a weight in a large matrix as it is stored, scales included; of GGUF types those of
    Llama-2-7B as a whole.

    \b
    llmcalc formats --use quant
    llmcalc formats --search q4
    llmcalc formats show nf4-dq
    """
    ctx.obj = options
    return None if ctx.invoked_subcommand else _list(options)


def _list(options: dict[str, Any]) -> int:
    from llmcalc.cli.listing import catalog_of, matches, show_list
    from llmcalc.errors import InputError

    catalog = catalog_of(options["catalog"])
    use = options["use"]
    if use is not None and use not in USES:
        raise InputError(f"--use {use[:40]!r} is not known.", f"Use {', '.join(USES)}.")
    rows = []
    for entry in catalog.entries("schemes"):
        if use in (None, "quant") and (not options["search"] or matches(entry, options["search"])):
            rows.append(
                {
                    "name": entry["name"], "bits": f"{_bits(entry):.3f}", "for": "--quant",
                    "method": entry["method"], "hardware": entry.get("hardware", ""),
                }
            )  # fmt: skip
    for entry in catalog.entries("formats"):
        uses = [word for key, word in (("weights", "--dtype"), ("kv", "--kv-dtype")) if entry.get(key)]
        if (use is None or USES[use] in uses) and (
            not options["search"] or matches(entry, options["search"])
        ):
            rows.append(
                {
                    "name": entry["name"], "bits": f"{8 * entry['bytes'] / entry['elements']:.3f}",
                    "for": ", ".join(uses) or "files", "method": f"{entry['elements']} in {entry['bytes']} B",
                    "hardware": "",
                }
            )  # fmt: skip
    return show_list(rows, options, "formats", options["search"])


def _bits(entry: dict[str, Any]) -> float:
    from llmcalc.precision.named import make
    from llmcalc.precision.scheme import nominal_bits

    return float(entry["nominal"] if entry["method"] == "gguf" else nominal_bits(make(entry)))


@command.command("list")
@_list_options
def list_(**options: Any) -> int:
    """List number formats and quantization schemes."""
    return _list(options)


@command.command("show")
@click.argument("name")
@click.option("--catalog", metavar="FILE", multiple=True, help="A YAML file with formats of your own.")
@list_output_options
def show(name: str, **options: Any) -> int:
    """Show one format or scheme: every field, what it stores of a matrix, and its sources in full."""
    from llmcalc.cli.listing import catalog_of, show_entry
    from llmcalc.errors import LlmcalcError, UnknownNameError

    catalog = catalog_of(options["catalog"])
    entry, extra = catalog.lookup("schemes", name), {}
    if entry is None:
        entry = catalog.lookup("formats", name)
        if entry is None:
            from llmcalc.precision.named import find_scheme

            try:
                scheme = find_scheme(name, catalog)
            except LlmcalcError:
                near = [*catalog.nearest("schemes", name), *catalog.nearest("formats", name)][:3]
                hint = f"Did you mean {' or '.join(dict.fromkeys(near))}? " if near else ""
                raise UnknownNameError(
                    f"There is no format {name[:60]!r}.", f"{hint}llmcalc formats lists all."
                ) from None
            entry = {**scheme.entry, "name": scheme.name}
        else:
            extra = {"bits_per_element": 8 * entry["bytes"] / entry["elements"]}
    if "method" in entry:
        options_ = entry.get("options") or {}
        plain = {key: float(value) if hasattr(value, "denominator") and not isinstance(value, int) else value
                 for key, value in options_.items()}  # fmt: skip
        entry = {**entry, "options": plain} if plain else entry
        extra = {"bits_per_weight": round(_bits(entry), 4), **_stored(entry)}
    return show_entry(entry, extra, options, "formats", lambda word: catalog.lookup("sources", word))


def _stored(entry: dict[str, Any]) -> dict[str, Any]:
    """What a scheme stores of a matrix of 4,096 rows and columns."""
    if entry["method"] == "gguf":
        return {}
    from llmcalc.model.inventory import dim
    from llmcalc.precision.packing import METHODS, Matrix

    matrix = Matrix("weight", dim(ffn=4096), dim(hidden=4096))
    _, tensors = METHODS[entry["method"]](matrix, **(entry.get("options") or {}))
    return {
        "stored of 4096 x 4096": [
            f"{tensor.part} {tensor.dtype} [{', '.join(map(str, tensor.shape))}]" for tensor in tensors
        ]
    }
