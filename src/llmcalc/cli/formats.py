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
    Llama-2-7B as a whole; of caches with scales for each head those of a head of 128.

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
                    "name": entry["name"], "bits": f"{_bits(entry):.3f}", "for": "quant",
                    "method": entry["method"], "hardware": entry.get("hardware", ""),
                }
            )  # fmt: skip
    for entry in catalog.entries("formats"):
        uses = [word for key, word in (("weights", "dtype"), ("kv", "kv")) if entry.get(key)]
        if (use is None or use in uses) and (not options["search"] or matches(entry, options["search"])):
            rows.append(
                {
                    "name": entry["name"], "bits": f"{format_bits(entry):.3f}",
                    "for": ", ".join(uses) or "files", "method": _layout(entry), "hardware": "",
                }
            )  # fmt: skip
    return show_list(rows, options, "formats", options["search"], wrapped=("hardware", "method"))


HEAD = 128
"""Elements of a head, where scales are kept for each."""


def format_bits(entry: dict[str, Any]) -> float:
    """Bits of an element, with its share of a head's scales."""
    return float(8 * entry["bytes"] / entry["elements"] + 8 * int(entry.get("head_bytes", 0)) / HEAD)


def _layout(entry: dict[str, Any]) -> str:
    head = f" + {entry['head_bytes']} B/head" if entry.get("head_bytes") else ""
    return f"{entry['elements']} in {entry['bytes']} B{head}"


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
@click.option("--use", metavar="USE", help="Where a name means several: quant, dtype or kv.")
@click.option("--catalog", metavar="FILE", multiple=True, help="A YAML file with formats of your own.")
@list_output_options
def show(name: str, use: str | None, **options: Any) -> int:
    """Show one format or scheme: every field, what it stores of a matrix, and its sources in full.

    A name of both, such as fp8 or q8_0, shows both; --use picks one. Of a mix both parts are shown.
    """
    from llmcalc.cli.listing import catalog_of, show_entries
    from llmcalc.errors import InputError, UnknownNameError

    if use is not None and use not in USES:
        raise InputError(f"--use {use[:40]!r} is not known.", f"Use {', '.join(USES)}.")
    catalog = catalog_of(options["catalog"])
    found = _schemes(name, catalog) if use in (None, "quant") else []
    number = catalog.lookup("formats", name)
    if number is not None and (use is None or number.get({"dtype": "weights"}.get(use, use))):
        found.append((number, {"bits_per_element": format_bits(number)}))
    if not found:
        near = [*catalog.nearest("schemes", name), *catalog.nearest("formats", name)][:3]
        hint = f"Did you mean {' or '.join(dict.fromkeys(near))}? " if near else ""
        what = f" for {USES[use]}" if use else ""
        raise UnknownNameError(
            f"There is no format {name[:60]!r}{what}.", f"{hint}llmcalc formats lists all."
        )
    return show_entries(found, options, "formats", lambda word: catalog.lookup("sources", word))


def _schemes(name: str, catalog: Any) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Entries of a scheme, or of both parts of a mix, with what they store."""
    from llmcalc.errors import LlmcalcError
    from llmcalc.precision.named import find_scheme

    entry = catalog.lookup("schemes", name)
    if entry is not None:
        return [_with_stored(entry)]
    try:
        scheme = find_scheme(name, catalog)
    except LlmcalcError:
        return []
    parts = [part for part in getattr(scheme, "parts", ()) if part.entry] or [scheme]
    return [_with_stored({**part.entry, "name": part.name}) for part in parts if part.entry]


def _with_stored(entry: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    options = entry.get("options") or {}
    plain = {key: float(value) if hasattr(value, "denominator") and not isinstance(value, int) else value
             for key, value in options.items()}  # fmt: skip
    shown = {**entry, "options": plain} if plain else entry
    return shown, {"bits_per_weight": round(_bits(entry), 4), **_stored(entry)}


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
