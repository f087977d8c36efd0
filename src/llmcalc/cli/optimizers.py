"""``llmcalc optimizers``."""

from __future__ import annotations

from typing import Any

import click

from llmcalc.cli.options import list_output_options, stack

_list_options = stack(
    click.option("--search", metavar="WORD", help="Only those whose name or alias has this word."),
    click.option("--catalog", metavar="FILE", multiple=True, help="A YAML file with optimizers of your own."),
    list_output_options,
)

ROWS, COLUMNS = 4096, 4096


@click.group("optimizers", invoke_without_command=True, short_help="The catalog of optimizers.")
@_list_options
@click.pass_context
def command(ctx: click.Context, /, **options: Any) -> int | None:
    """List optimizers; `llmcalc optimizers show NAME` shows one.

    Bytes are those of the states of one parameter of a matrix of 4096 x 4096 that is trained in 16 bit
    and in fp32.

    \b
    llmcalc optimizers --search 8bit
    llmcalc optimizers show muon
    """
    ctx.obj = options
    return None if ctx.invoked_subcommand else _list(options)


def _bytes(entry: dict[str, Any], element: int, hidden: bool = True) -> float:
    """Bytes of states for a parameter of a matrix. [B]"""
    from llmcalc.memory.training.optimizers import Optimizer, Shape

    kinds = {"all", "matrix", "hidden"} if hidden else {"all", "matrix", "outside", "embedding"}
    shape = Shape(1, ROWS, COLUMNS, frozenset(kinds))
    return float(sum(size for _, size, _ in Optimizer(entry).states(shape, element)) / shape.numel)


def _list(options: dict[str, Any]) -> int:
    from llmcalc.cli.listing import catalog_of, matches, show_list
    from llmcalc.memory.training.optimizers import Optimizer

    rows = []
    for entry in catalog_of(options["catalog"]).entries("optimizers"):
        if options["search"] and not matches(entry, options["search"]):
            continue
        rows.append(
            {
                "name": entry["name"],
                "16_bit": f"{_bytes(entry, 2):.3f}",
                "fp32": f"{_bytes(entry, 4):.3f}",
                "embedding": f"{_bytes(entry, 2, hidden=False):.3f}",
                "step": Optimizer(entry).step_note,
                "paged": "yes" if entry.get("paged") else "",
            }
        )
    return show_list(rows, options, "optimizers", options["search"], wrapped=("step",))


@command.command("list")
@_list_options
def list_(**options: Any) -> int:
    """List optimizers."""
    return _list(options)


@command.command("show")
@click.argument("name")
@click.option("--catalog", metavar="FILE", multiple=True, help="A YAML file with optimizers of your own.")
@list_output_options
def show(name: str, **options: Any) -> int:
    """Show one optimizer: each state, of which tensors, in which dtype; its step; its sources in full."""
    from llmcalc.cli.listing import catalog_of, show_entry

    catalog = catalog_of(options["catalog"])
    entry = catalog.require("optimizers", name, "optimizer", "llmcalc optimizers lists all.")
    extra = {
        "bytes_per_parameter": {
            "hidden matrix, 16 bit": round(_bytes(entry, 2), 4),
            "hidden matrix, fp32": round(_bytes(entry, 4), 4),
            "embedding, 16 bit": round(_bytes(entry, 2, hidden=False), 4),
        }
    }
    return show_entry(entry, extra, options, "optimizers", lambda word: catalog.lookup("sources", word))
