"""Write the generated documentation, or check that it is up to date.

    python docs/generate.py            writes what is stale
    python docs/generate.py --check    names what is stale and exits 1

Three pages are generated whole: commands.md, formulas.md and families.md. In README.md and the other
pages, a ``text`` block whose first line is ``$ llmcalc ...`` holds what that command prints, a ``yaml``
block whose first line is ``# NAME.yaml`` is a file that such commands may read, and what stands
between ``<!-- NAME -->`` and ``<!-- end -->`` is filled in. validation.png is drawn anew with its page.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import importlib
import inspect
import io
import json
import os
import re
import shlex
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click

os.environ["XDG_CONFIG_HOME"] = os.devnull  # the pages know the shipped catalogs only
os.environ.setdefault("MPLCONFIGDIR", tempfile.gettempdir())

from llmcalc import cli, formula, model
from llmcalc.api.cost import cost
from llmcalc.api.validation import validate
from llmcalc.catalog import Catalog
from llmcalc.cli.explain import MODULES
from llmcalc.model import families
from llmcalc.render.servers import NAMES as SERVER_NAMES
from llmcalc.render.servers import summary_table
from llmcalc.render.validation import NAMES
from llmcalc.units import format_count
from llmcalc.validation.servers import QUANTITIES

DOCS = Path(__file__).resolve().parent
README = DOCS.parent / "README.md"
WIDTH = 100
NOTE = "<!-- Written by docs/generate.py from the program itself; do not edit. -->\n"
CLICK = f"<!-- Laid out by click {'.'.join(version('click').split('.')[:2])}. -->\n"
OUTPUT = re.compile(r"^```text\n\$ (llmcalc .*)\n(?:.*\n)*?```$", re.MULTILINE)
FILE = re.compile(r"^```yaml\n# (\w+\.yaml)\n((?:.*\n)*?)```$", re.MULTILINE)
FILLED = re.compile(
    r"<!-- (families|sizes|validation|servers|releases|sources|starts|training|trainings) -->.*?<!-- end -->",
    re.DOTALL,
)
PICTURE = DOCS / "validation.png"
SERVERS = ("vllm", "sglang", "tensorrt-llm")
RUNS = DOCS.parent / "data" / "runs.yaml"
SERVER_TABLES = {"servers": "engine", "releases": "version", "sources": "source"}


# -- commands ----------------------------------------------------------------------------------


def walk(name: str, command: click.Command, parent: click.Context | None = None) -> Iterator[click.Context]:
    """A command and all below it, each with a context of fixed width."""
    context = command.make_context(
        name, [], parent, resilient_parsing=True, terminal_width=WIDTH, max_content_width=WIDTH
    )
    yield context
    if isinstance(command, click.Group):
        for word in command.list_commands(context):
            below = command.get_command(context, word)
            if below is not None:
                yield from walk(word, below, context)


def commands() -> str:
    """The help of every command."""
    parts = [
        "# Commands\n",
        NOTE + CLICK,
        "What `--help` prints, for every command. The terms are explained in [concepts](concepts.md).\n",
    ]
    for context in walk("llmcalc", cli.cli):
        parts.append(f"## {context.command_path}\n\n```text\n{context.get_help()}\n```\n")
    return "\n".join(parts)


# -- formulas ----------------------------------------------------------------------------------


def sections(text: str) -> dict[str, str]:
    """The parts of a numpydoc docstring; the lead stands under the empty name."""
    pieces = re.split(r"^(\w+)\n-+\n", text, flags=re.MULTILINE)
    return {
        "": pieces[0].strip(),
        **{n: b.strip("\n") for n, b in zip(pieces[1::2], pieces[2::2], strict=True)},
    }


def markdown(text: str) -> str:
    """Plain prose: double backticks become single ones."""
    return text.replace("``", "`")


def table(body: str) -> str:
    """Parameters as a table."""
    rows = []
    for entry in re.split(r"\n(?=\S)", body):
        head, _, meaning = entry.partition("\n")
        name, _, kind = head.partition(" : ")
        rows.append(f"| `{name}` | {kind} | {markdown(' '.join(meaning.split()))} |")
    return "\n".join(["| name | type | meaning [unit] |", "| --- | --- | --- |", *rows])


def returns(body: str) -> str:
    """The type and the meaning in one line."""
    kind, _, meaning = body.partition("\n")
    return f"{kind}: {markdown(' '.join(meaning.split()))}"


def examples(body: str) -> str:
    """Doctests as code, the words between them as prose."""
    parts = []
    for block in re.split(r"\n\n+", body):
        parts.append(f"```pycon\n{block}\n```" if block.startswith(">>>") else markdown(block))
    return "\n\n".join(parts)


def references(body: str) -> str:
    """A numbered list."""
    found = re.split(r"^\.\. \[\d+\] ", body, flags=re.MULTILINE)[1:]
    return "\n".join(f"{number}. {markdown(' '.join(one.split()))}" for number, one in enumerate(found, 1))


LAYOUT: dict[str, Callable[[str], str]] = {
    "Parameters": table,
    "Returns": returns,
    "Notes": markdown,
    "Examples": examples,
    "References": references,
}


def formulas() -> str:
    """Every formula: its expression, and its documentation."""
    for module in MODULES:
        importlib.import_module(module)
    parts = [
        "# Formulas\n",
        NOTE,
        "Each is one small function that takes numbers or numpy arrays. The expression is read from the "
        "function's own source, so it is what the program computes. `llmcalc explain NAME` prints it.\n",
    ]
    for name, function in formula.REGISTRY.items():
        found = sections(inspect.getdoc(function) or "")
        parts.append(f"## {name}\n\n{markdown(found.pop(''))}\n")
        parts.append(f"```text\n{name} = {formula.expression(function)}\n```\n")
        parts.append(f"From `{function.__module__}`.\n")
        parts += [f"**{title}**\n\n{LAYOUT[title](body)}\n" for title, body in found.items()]
    return "\n".join(parts)


# -- families ----------------------------------------------------------------------------------


def family_pages() -> str:
    """Every family: what its module says, and the models of the catalog that use it."""
    users: dict[str, list[str]] = defaultdict(list)
    for entry in Catalog.shipped().entries("models"):
        users[str(entry["config"]["model_type"]).replace("-", "_")].append(str(entry["name"]))
    parts = [
        "# Families\n",
        NOTE,
        "A family is the layout of a `model_type`: any model of a family can be read from its "
        "`config.json`, in the catalog or not. `llmcalc models show NAME` shows one of those below.\n",
    ]
    for name in families.known():
        module = importlib.import_module(f"{families.__name__}.{name}")
        parts.append(f"## {name}\n\n{markdown(inspect.getdoc(module) or '')}\n")
        models = sorted(users[name])
        parts.append(f"In the catalog: {', '.join(models)}.\n" if models else "None in the catalog.\n")
    return "\n".join(parts)


# -- measured runs ------------------------------------------------------------------------------

HEADLINES = ("peak", "kv_budget", "weights", "kv_cache", "kv_needed", "kv_bytes_per_token", "kv_tokens",
             "concurrency", "activations", "state")  # fmt: skip
MANY = 6


@functools.cache
def validated(engine: tuple[str, ...], by: str = "engine") -> Any:
    """Published runs beside their predictions."""
    return validate(engine=engine, by=by)


def runs() -> str:
    """The table of measured runs, one figure each, by engine and model and by engine and family."""
    found = validated(("llama.cpp", "mlx", *SERVERS))
    best: dict[str, Any] = {}
    for row in (*found.rows, *found.starts):
        if row.refusal or row.quantity not in HEADLINES:
            continue
        old = best.get(row.run["name"])
        if old is None or HEADLINES.index(row.quantity) < HEADLINES.index(old.quantity):
            best[row.run["name"]] = row
    entries: dict[str, list[list[Any]]] = defaultdict(list)
    for row in best.values():
        run, options = row.run, row.run["options"]
        inventory = model(run["model"])
        server = row.quantity in SERVER_NAMES and run["engine"] in SERVERS
        label = (SERVER_NAMES if server else NAMES)[row.quantity]
        line = [
            run["name"], run["model"], inventory.params, run["build"], int(options.get("tp", 1)),
            options.get("quant"), label, (QUANTITIES[row.quantity] if server else "MiB"),
            round(row.measured, 4), round(row.predicted, 4), run["source"], run.get("memory"),
        ]  # fmt: skip
        for key in (f"{run['engine']} {inventory.name}", f"{run['engine']} of {inventory.family}"):
            alike = [
                old for old in entries[key] if (old[1], *old[4:7], old[11]) == (line[1], *line[4:7], line[11])
            ]
            if not alike and (" of " in key or len(entries[key]) < MANY):
                entries[key].append(line)
    lines = ["# Written by docs/generate.py from the measurements and the program itself; do not edit."]
    lines += [f"date: '{found.date}'", "runs:"]
    for key in sorted(entries):
        lines += [f"  - name: {key}", "    rows:"]
        lines += [f"      - {json.dumps(row)}" for row in entries[key]]
    return "\n".join(lines) + "\n"


def trainings() -> str:
    """Published training runs: the share of the peak of their hours, and the hours that are expected."""
    lines = [
        "| run | parameters | tokens | GPU | hours | of the peak | predicted | left out because |",
        "|---|--:|--:|---|--:|--:|--:|---|",
    ]
    for run in Catalog.shipped().entries("trainings"):
        active = run.get("active") or run.get("params")
        if not (active and run.get("tokens") and run.get("hours")):
            continue
        made = cost(params=run["params"], active=active, tokens=run["tokens"], gpu=run["gpu"])
        hours = made["gpu_hours"].value
        implied = made["utilization"].value * hours / run["hours"]
        tokens, size = format_count(run["tokens"]), format_count(active)
        cells = [
            run["name"], size, tokens, run["gpu"], f"{run['hours']:,.0f}", f"{100 * implied:.1f} %",
            f"{100 * (hours / run['hours'] - 1):+.0f} %", run.get("left_out", ""),
        ]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


# -- parts of pages that people write ----------------------------------------------------------


def fill(name: str) -> str:
    """A list of what the program knows."""
    if name == "families":
        return ", ".join(f"`{family}`" for family in families.known())
    if name == "validation":
        return f"\n{validated(('llama.cpp', 'mlx')).to_markdown(rows=True)}"
    if name in SERVER_TABLES:
        found = validated(SERVERS, SERVER_TABLES[name])
        return "\n" + "\n".join(summary_table(found)) + "\n"
    if name == "starts":
        text = validated(SERVERS).to_markdown(rows=True)
        return "\n" + text[text.index("| run |") :]
    if name == "trainings":
        return f"\n{trainings()}\n"
    if name == "training":
        return f"\n{validated(('training',)).to_markdown(rows=True)}"
    catalog = Catalog.shipped()
    models, gpus = (len(catalog.entries(kind)) for kind in ("models", "gpus"))
    return f"{models} models and {gpus} GPUs and other accelerators"


def output(command: str) -> str:
    """What a command prints to standard output."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
        cli.run(shlex.split(command)[1:])
    return out.getvalue()


def refreshed(text: str) -> str:
    """A page with its outputs and lists brought up to date."""
    before = os.getcwd()
    with tempfile.TemporaryDirectory() as folder:
        for name, body in FILE.findall(text):
            Path(folder, name).write_text(body, encoding="utf-8")
        os.chdir(folder)
        try:
            text = OUTPUT.sub(lambda found: f"```text\n$ {found[1]}\n{output(found[1])}```", text)
        finally:
            os.chdir(before)
    return FILLED.sub(lambda found: f"<!-- {found[1]} -->{fill(found[1])}<!-- end -->", text)


def pages() -> dict[Path, str]:
    """Every page as it should be."""
    whole: dict[str, Any] = {"commands": commands, "formulas": formulas, "families": family_pages}
    made = {DOCS / f"{name}.md": make() for name, make in whole.items()}
    written = [README, *sorted(page for page in DOCS.glob("*.md") if page not in made)]
    return made | {page: refreshed(page.read_text(encoding="utf-8")) for page in written}


def main(arguments: list[str]) -> int:
    """Write, or with ``--check`` compare."""
    gc.enable()  # which the command line has off
    if arguments not in ([], ["--check"]):
        print((__doc__ or "").partition("\n\nThree")[0], file=sys.stderr)
        return 2
    stale = []
    text = runs()
    if not RUNS.exists() or RUNS.read_text(encoding="utf-8") != text:
        stale.append(RUNS)  # first: pages show what is read from it
        if not arguments:
            RUNS.write_text(text, encoding="utf-8", newline="\n")
    for page, text in pages().items():
        old = page.read_text(encoding="utf-8") if page.exists() else ""
        if arguments and page.name == "commands.md" and old and CLICK not in old:
            continue  # another click lays the same help out in another way
        if old != text:
            stale.append(page)
            if not arguments:
                page.write_text(text, encoding="utf-8", newline="\n")
    if not arguments and (DOCS / "validation.md" in stale or not PICTURE.exists()):
        validated(("llama.cpp", "mlx", *SERVERS)).plot(str(PICTURE))
    for page in stale:
        name = page.relative_to(DOCS.parent).as_posix()
        print(f"{name} is stale: run python docs/generate.py" if arguments else f"wrote {name}")
    return int(bool(arguments and stale))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
