"""The documentation says what the program does."""

import contextlib
import doctest
import io
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import jsonschema
import numpy as np
import pytest

import llmcalc
from llmcalc.cli import cli

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(DOCS.glob("*.md"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page, language):
    text = page.read_text(encoding="utf-8")
    return [body for kind, body in FENCE.findall(text) if kind == language]


def llmcalc_run(command, folder):
    """Run one ``llmcalc ...`` line with this interpreter."""
    words = [sys.executable, "-m", "llmcalc", *shlex.split(command)[1:]]
    environment = {**os.environ, "XDG_CONFIG_HOME": str(folder), "PYTHONIOENCODING": "utf-8"}
    return subprocess.run(
        words, cwd=folder, env=environment, capture_output=True, text=True, encoding="utf-8", check=False
    )


# -- commands ----------------------------------------------------------------------------------


def all_commands(command=cli, path=("llmcalc",)):
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            yield from all_commands(command.get_command(context, name), (*path, name))


COMMANDS = {" ".join(path): command for path, command in all_commands()}


@pytest.mark.parametrize("path", COMMANDS)
def test_command_has_help_and_is_documented(path):
    command = COMMANDS[path]
    assert command.help
    assert f"\n## {path}\n" in (DOCS / "commands.md").read_text(encoding="utf-8")
    command = command.whole() if hasattr(command, "whole") else command
    for option in (one for one in command.params if not getattr(one, "hidden", False)):
        if isinstance(option, click.Option):
            assert option.help, f"{path} {option.name} has no help"


def test_generated_pages_are_up_to_date():
    done = subprocess.run(
        [sys.executable, str(DOCS / "generate.py"), "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_stale_page_is_named(tmp_path):
    (tmp_path / "docs").mkdir()
    for page in [ROOT / "README.md", DOCS / "generate.py", *DOCS.glob("*.md")]:
        (tmp_path / page.relative_to(ROOT)).write_text(page.read_text(encoding="utf-8"), encoding="utf-8")
    page = tmp_path / "docs" / "formulas.md"
    page.write_text(page.read_text(encoding="utf-8") + "\nOld.\n", encoding="utf-8")
    script = [sys.executable, str(tmp_path / "docs" / "generate.py")]
    done = subprocess.run([*script, "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "docs/formulas.md is stale" in done.stdout


# -- README ------------------------------------------------------------------------------------


def test_the_first_two_blocks_are_one_line_each_and_make_a_venv():
    first, second = FENCE.findall((ROOT / "README.md").read_text(encoding="utf-8"))[:2]
    for language, body in (first, second):
        assert language == "sh"
        assert body.count("\n") == 1
        assert body.startswith("python3 -m venv .venv && .venv/bin/pip install -q ")
    assert first[1].endswith(".venv/bin/llmcalc vram --params 13b --bits 4\n")
    assert second[1].endswith(".venv/bin/python -m pytest\n")


README_COMMANDS = [
    line
    for body in blocks(ROOT / "README.md", "sh")
    for line in body.splitlines()
    if line.startswith("llmcalc ")
]


@pytest.mark.parametrize("command", README_COMMANDS)
def test_readme_command_runs(command, tmp_path):
    done = llmcalc_run(command, tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


OUTPUTS = [
    (page, *body.split("\n", 1)) for page in PAGES for body in blocks(page, "text") if body.startswith("$ ")
]


@pytest.mark.parametrize(("page", "prompt", "printed"), OUTPUTS, ids=[one[1] for one in OUTPUTS])
def test_output_shown_is_what_is_printed(page, prompt, printed, tmp_path):
    for body in blocks(page, "yaml"):
        name = re.match(r"# (\w+\.yaml)\n", body)
        if name:
            (tmp_path / name[1]).write_text(body, encoding="utf-8")
    done = llmcalc_run(prompt.removeprefix("$ "), tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == printed


def test_outputs_were_found():
    assert {page.name for page, *_ in OUTPUTS} == {"README.md", "catalogs.md", "concepts.md", "scaling.md"}
    assert len(README_COMMANDS) >= 5


@pytest.mark.parametrize("page", [ROOT / "README.md", DOCS / "scaling.md"], ids=lambda page: page.name)
def test_python_examples(page):
    text = "\n".join(blocks(page, "pycon"))
    test = doctest.DocTestParser().get_doctest(text, {}, page.name, str(page), 0)
    report = io.StringIO()
    with contextlib.redirect_stdout(report):
        result = doctest.DocTestRunner().run(test)
    assert result.attempted
    assert not result.failed, report.getvalue()


# -- JSON --------------------------------------------------------------------------------------

SCHEMA = json.loads((DOCS / "schema" / "report.schema.json").read_text(encoding="utf-8"))
CONTEXTS = np.array([1024, 8192, 32768])
EXAMPLES = {
    "model": lambda: llmcalc.vram("llama-3.1-8b", context="32k", gpu="rtx-4090"),
    "no gpu": lambda: llmcalc.vram("qwen3-next-80b", context="128k"),
    "count": lambda: llmcalc.vram(params="13b", bits=4),
    "count with gpu": lambda: llmcalc.vram("13b", gpu="24GiB"),
    "several gpus": lambda: llmcalc.vram("llama-3.1-70b", gpu="rtx-4090,8xh100-80gb"),
    "stages": lambda: llmcalc.vram("llama-3.1-70b", gpu="8xh100-80gb", tp=2, pp=4),
    "prompt and output": lambda: llmcalc.vram("gemma-3-27b", prompt="8k", output=512),
    "state only": lambda: llmcalc.vram("mamba2-2.7b", gpu="rtx-4090"),
    "contexts": lambda: llmcalc.vram("llama-3.1-8b", context=CONTEXTS),
    "contexts with gpu": lambda: llmcalc.vram("gemma-3-27b", context=CONTEXTS, gpu="a100-80gb-sxm"),
    "contexts and sequences": lambda: llmcalc.vram(
        "qwen3-next-80b", context=CONTEXTS, sequences=np.array([1, 2, 3]), gpu="4xh100-80gb", pp=4
    ),
    "contexts on several gpus": lambda: llmcalc.vram("llama-3.1-8b", context=CONTEXTS, gpu="a10g,l4"),
    "what would help": lambda: llmcalc.vram("llama-3.1-70b", engine="vllm", gpu="h100"),
    "fit of several gpus": lambda: llmcalc.fit("llama-3.1-8b", engine="vllm", gpu="rtx-3060,h100"),
    "compared, one refused": lambda: llmcalc.compare("gpt2", quant="q8_0,awq", engine="none,llama.cpp"),
    "a slice": lambda: llmcalc.vram("qwen3-0.6b", engine="vllm", gpu="h100:1g.10gb"),
    "pools": lambda: llmcalc.vram("gpt-oss-20b", gpu="h100", engine="sglang"),
    "slots": lambda: llmcalc.vram("qwen3.5-27b", gpu="h100,rtx-4090", engine="sglang"),
    "blocks": lambda: llmcalc.vram("llama-3.1-70b", gpu="2xh200", engine="tensorrt-llm"),
    "training": lambda: llmcalc.train("llama-3.2-1b", precision="bf16", seq_len=512, gpu="rtx-4090"),
    "adapters": lambda: llmcalc.train("llama-3.2-1b", method="qlora", seq_len=512, gpu="rtx-4090,rtx-3060"),
    "training lengths": lambda: llmcalc.train("llama-3.2-1b", method="lora", seq_len=CONTEXTS, gpu="a10g"),
    "training of a count": lambda: llmcalc.train("13b", gpu="h200"),
    "training, what would help": lambda: llmcalc.train("llama-3.2-3b", seq_len=2048, gpu="rtx-4090"),
    "an iteration": lambda: llmcalc.train("llama-3.2-1b", rl="ppo", gpu="h100", sleep="on", seq_len=256),
    "an iteration apart": lambda: llmcalc.train(
        "llama-3.2-1b", rl="grpo", gpu="2xrtx-3090", placement="separate", rollout_gpus=1, seq_len=256
    ),
    "params": lambda: llmcalc.params("mixtral-8x7b"),
    "params of a count": lambda: llmcalc.params("13b"),
}


@pytest.mark.parametrize("make", EXAMPLES.values(), ids=EXAMPLES.keys())
def test_json_follows_the_schema(make):
    validator = jsonschema.Draft202012Validator(SCHEMA)
    document = json.loads(make().to_json())
    validator.validate(document)
    assert document == json.loads(json.dumps(make().to_dict()))
    for report in document.get("rows", [document]):
        validator.validate(report)


def test_the_schema_is_sound_and_strict():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    validator = jsonschema.Draft202012Validator(SCHEMA)
    good = llmcalc.vram("llama-3.1-8b", gpu="rtx-4090").to_dict()
    assert validator.is_valid({**good, "added_later": 1})
    for key in ("model", "scenario", "total_bytes", "range_bytes", "peak", "items", "device", "verdict"):
        assert not validator.is_valid({name: value for name, value in good.items() if name != key}), key
    assert not validator.is_valid({**good, "total_bytes": "21 GB"})
    assert not validator.is_valid({**good, "verdict": "maybe"})


def test_json_of_the_command_line_follows_the_schema(tmp_path):
    done = llmcalc_run("llmcalc vram llama-3.1-8b --ctx 32k --gpu rtx-4090,a10g --json", tmp_path)
    document = json.loads(done.stdout)
    jsonschema.Draft202012Validator(SCHEMA).validate(document)
    assert len(document["rows"]) == 2


# -- pages -------------------------------------------------------------------------------------


def anchors(page):
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    for link in re.findall(r"\]\(([^)]+)\)", text):
        if link.startswith(("https:", "mailto:")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{page.name}: {link}"
        if anchor:
            assert anchor in anchors(target), f"{page.name}: {link}"


def test_every_catalog_field_is_documented():
    shapes = pytest.importorskip("llmcalc.catalog_schemas")
    text = (DOCS / "catalogs.md").read_text(encoding="utf-8")
    for schema in (*shapes.SCHEMAS.values(), shapes.ServerMeasurement, shapes.TrainingMeasurement):
        for field in schema.model_fields:
            assert f"| `{field}` |" in text, f"{schema.__name__}.{field}"


def test_the_rooms_are_those_of_the_source():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rooms = set(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE))
    source = ROOT / "src" / "llmcalc"
    if not source.is_dir():
        pytest.skip("not a source checkout")
    found = {
        path.stem for path in source.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    assert found - {"_version", "__main__", "catalog_build", "catalog_schemas"} <= rooms


def test_the_walk_through_shows_the_real_family():
    shown = blocks(ROOT / "CONTRIBUTING.md", "python")
    family = ROOT / "src" / "llmcalc" / "model" / "families" / "olmo2.py"
    assert family.read_text(encoding="utf-8") in shown
