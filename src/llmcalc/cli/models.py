"""``llmcalc models``."""

from __future__ import annotations

from typing import Any

import click

from llmcalc.cli.options import list_output_options, stack

_list_options = stack(
    click.option(
        "--search", metavar="WORD", help="Only those whose name, alias, maker or family has this word."
    ),
    click.option("--family", metavar="FAMILY", help="Only this model_type."),
    click.option("--organisation", metavar="NAME", help="Only this maker."),
    click.option("--min-params", metavar="N", help="At least this many parameters."),
    click.option("--max-params", metavar="N", help="At most this many parameters."),
    click.option("--catalog", metavar="FILE", multiple=True, help="A YAML file with models of your own."),
    list_output_options,
)


@click.group("models", invoke_without_command=True, short_help="The catalog of models.")
@_list_options
@click.pass_context
def command(ctx: click.Context, /, **options: Any) -> int | None:
    """List the models of the catalog; `llmcalc models show NAME` shows one.

    \b
    llmcalc models --search llama
    llmcalc models --max-params 9b --family qwen3
    llmcalc models show gemma-3-27b
    """
    ctx.obj = options
    return None if ctx.invoked_subcommand else _list(options)


def _list(options: dict[str, Any]) -> int:
    from llmcalc.catalog import fold
    from llmcalc.cli.listing import catalog_of, matches, show_list
    from llmcalc.units import parse_count

    catalog = catalog_of(options["catalog"])
    sizes = {name: int(size) for size, _, name in catalog.table("model_spans")}
    least = parse_count(options["min_params"], "--min-params") if options["min_params"] else 0
    most = parse_count(options["max_params"], "--max-params") if options["max_params"] else None
    rows = []
    for entry in catalog.entries("models"):
        config = entry["config"]
        family, maker = config.get("model_type", ""), entry.get("organisation", "")
        size = sizes.get(entry["name"]) or _size(entry, catalog)
        if options["search"] and not matches(entry, options["search"]):
            continue
        if options["family"] and fold(options["family"]) != fold(family):
            continue
        if options["organisation"] and fold(options["organisation"]) not in fold(maker):
            continue
        if size < least or (most is not None and size > most):
            continue
        context = entry.get("context") or config.get("max_position_embeddings") or config.get("n_positions")
        rows.append(
            {
                "name": entry["name"], "params": size, "family": family, "organisation": maker,
                "context": context, "proven": entry.get("proven", "all"), "released": entry.get("released"),
            }
        )  # fmt: skip
    return show_list(rows, options, "models", options["search"])


def _size(entry: dict[str, Any], catalog: Any) -> int:
    from llmcalc.model.readers.catalog import read_entry

    return read_entry(entry, catalog).params


@command.command("list")
@_list_options
def list_(**options: Any) -> int:
    """List the models of the catalog."""
    return _list(options)


@command.command("show")
@click.argument("name")
@click.option("--catalog", metavar="FILE", multiple=True, help="A YAML file with models of your own.")
@list_output_options
def show(name: str, **options: Any) -> int:
    """Show one model: every field, and its sources in full."""
    from llmcalc.cli.listing import catalog_of, show_entry
    from llmcalc.model.readers.catalog import read_entry

    catalog = catalog_of(options["catalog"])
    entry = catalog.require("models", name, "model", "llmcalc models --search WORD lists models.")
    inventory = read_entry(entry, catalog)
    extra = {
        "params": inventory.params,
        "active_params": inventory.active_params,
        "layers": inventory.layers,
        "kv_cache": [f"{len(g.layers)} layers {c.kind}" for g in inventory for c in g.caches],
    }
    return show_entry(entry, extra, options, "models", lambda word: catalog.lookup("sources", word))
