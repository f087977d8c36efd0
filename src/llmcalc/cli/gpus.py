"""``llmcalc gpus``."""

from __future__ import annotations

from typing import Any

import click

from llmcalc.cli.options import list_output_options, stack

_list_options = stack(
    click.option("--search", metavar="WORD", help="Only those whose name, alias or maker has this word."),
    click.option("--vendor", metavar="NAME", help="Only this maker."),
    click.option("--kind", metavar="KIND", help="Only this kind: gpu, soc, cpu, tpu ..."),
    click.option("--min-memory", metavar="SIZE", help="At least this much memory: 24GiB."),
    click.option("--popular", is_flag=True, help="Only those that are suggested when no GPU is named."),
    click.option("--catalog", metavar="FILE", multiple=True, help="A YAML file with GPUs of your own."),
    list_output_options,
)


@click.group("gpus", invoke_without_command=True, short_help="The catalog of GPUs.")
@_list_options
@click.pass_context
def command(ctx: click.Context, /, **options: Any) -> int | None:
    """List the GPUs of the catalog; `llmcalc gpus show NAME` shows one.

    Memory is what the driver reports; usable is what a process can take.

    \b
    llmcalc gpus --search 4090
    llmcalc gpus --vendor amd --min-memory 24GiB
    llmcalc gpus show h100-80gb
    """
    ctx.obj = options
    return None if ctx.invoked_subcommand else _list(options)


def _list(options: dict[str, Any]) -> int:
    from llmcalc.catalog import fold
    from llmcalc.cli.listing import catalog_of, matches, show_list
    from llmcalc.errors import InputError
    from llmcalc.hardware import usable_memory
    from llmcalc.units import MIB, parse_bytes

    catalog = catalog_of(options["catalog"])
    least = parse_bytes(options["min_memory"], "--min-memory") if options["min_memory"] else 0
    rows = []
    for entry in catalog.entries("gpus"):
        if options["search"] and not matches(entry, options["search"]):
            continue
        if options["vendor"] and fold(options["vendor"]) != fold(entry["vendor"]):
            continue
        if options["kind"] and fold(options["kind"]) != fold(entry.get("kind", "gpu")):
            continue
        if options["popular"] and not entry.get("popular"):
            continue
        try:
            memory, usable, *_ = usable_memory(entry)
        except InputError:
            memory = usable = 0
        if memory < least:
            continue
        rows.append(
            {
                "name": entry["name"],
                "marketed_gb": entry.get("memory_gb"),
                "memory_mib": memory // MIB or None,
                "usable_mib": usable // MIB or None,
                "bandwidth_gb_s": entry.get("bandwidth_gb_s"),
                "confidence": entry.get("confidence", "user"),
                "released": entry.get("released"),
            }
        )
    return show_list(rows, options, "gpus", options["search"])


@command.command("list")
@_list_options
def list_(**options: Any) -> int:
    """List the GPUs of the catalog."""
    return _list(options)


@command.command("show")
@click.argument("name")
@click.option("--catalog", metavar="FILE", multiple=True, help="A YAML file with GPUs of your own.")
@list_output_options
def show(name: str, **options: Any) -> int:
    """Show one GPU: every memory total, every field, its flags, and its sources in full.

    \b
    llmcalc gpus show h100-80gb
    llmcalc gpus show h100-80gb:3g.40gb     a MIG slice
    llmcalc gpus show a40:ecc-off           error correction switched off
    """
    from llmcalc.cli.listing import catalog_of, show_entry
    from llmcalc.errors import InputError
    from llmcalc.hardware import usable_memory
    from llmcalc.hardware.parts import base_of, part_of, totals_of
    from llmcalc.units import GIB, MIB

    catalog = catalog_of(options["catalog"])
    base, part = base_of(name, catalog)
    entry = catalog.require("gpus", base, "GPU", "llmcalc gpus --search WORD lists GPUs.")
    extra: dict[str, Any] = {}
    try:
        memory, usable, low, high, basis = usable_memory(entry)
        if part:
            device = part_of(entry, part)
            memory, usable, basis = device.memory_bytes, device.usable_bytes, device.basis
            low, high = device.usable_low, device.usable_high
            extra["part"] = device.name
        extra |= {
            "memory_bytes": memory,
            "usable_bytes": usable,
            "usable_range_bytes": [low, high],
            "usable_basis": basis,
        }
    except InputError as error:
        if part:
            raise
        extra = {"usable_basis": error.problem}
    kind = "json" if options["json_"] else options["format_"]
    totals = totals_of(entry)
    if kind == "json":
        extra["totals"] = totals
    else:  # as people read them
        extra["memory"] = {
            row["total"]: f"{row['bytes'] / GIB:,.2f} GiB ({row['bytes'] // MIB:,} MiB), {row['grade']}: "
            f"{row['source']}"
            for row in totals
        }
    return show_entry(entry, extra, options, "gpus", lambda word: catalog.lookup("sources", word))
