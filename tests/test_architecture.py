"""The house: what may import what, and what a start-up may not import."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import llmcalc

PACKAGE = Path(llmcalc.__file__).parent
ROOMS = [
    "_version", "errors", "units", "formula", "estimate", "catalog", "model", "precision", "hardware",
    "placement", "machine", "engine_options", "demand", "scenario", "memory", "compute", "scaling", "text",
    "planning", "validation", "render", "runs", "report", "answer", "api", "cli", "__main__",
]  # fmt: skip
"""From the ground up: a module imports only from rooms before its own."""

OUTSIDE = {"catalog_build", "catalog_schemas", "__init__"}
"""The build step, and the lazily importing front door."""

HEAVY = (
    "fractions",
    "json",
    "numpy",
    "pandas",
    "scipy",
    "pydantic",
    "yaml",
    "tabulate",
    "importlib.metadata",
    "matplotlib",
)
ESTIMATORS = {
    "model",
    "precision",
    "hardware",
    "placement",
    "demand",
    "scenario",
    "memory",
    "scaling",
    "planning",
    "estimate",
    "formula",
    "units",
    "answer",
}


def room(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path):
    """Modules that a file imports anywhere, functions included, type-checking blocks excluded."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    skipped = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for node in ast.walk(block)
    }
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module
            if node.module == "llmcalc":
                yield from (f"llmcalc.{alias.name}" for alias in node.names)


FILES = sorted(PACKAGE.rglob("*.py"))


def test_the_rooms_are_all_here():
    assert {room(path) for path in FILES} <= set(ROOMS) | OUTSIDE


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_module_imports_only_from_rooms_above(path):
    here = room(path)
    if here in OUTSIDE:
        return
    for name in imports(path):
        if not name.startswith("llmcalc."):
            continue
        there = name.split(".")[1]
        if there == "catalog_build":
            assert here == "catalog"  # the one that compiles on demand
        elif name == "llmcalc.api" and path.name == "__init__.py" and here == "model":
            continue  # calling the package reads a model: the public function's other name
        elif there in ROOMS:
            assert ROOMS.index(there) <= ROOMS.index(here), f"{path.name} imports {name}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_estimators_know_no_interface(path):
    if room(path) in ESTIMATORS:
        outside = {name.split(".")[0] for name in imports(path)}
        assert not outside & {"click", "pydantic", "yaml", "pandas", "tabulate", "matplotlib"}
    if room(path) == "render":
        assert not any(name.startswith(("llmcalc.memory", "llmcalc.planning")) for name in imports(path))


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_files_and_functions_stay_readable(path):
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 420
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            documented = isinstance(node.body[0], ast.Expr) and isinstance(node.body[0].value, ast.Constant)
            first = node.body[1] if documented and len(node.body) > 1 else node.body[0]
            assert node.end_lineno - first.lineno <= 60, node.name


@pytest.mark.parametrize(
    "arguments",
    [
        ["vram", "--params", "13b", "--bits", "4"],
        ["vram", "llama-3.1-8b", "--ctx", "32k", "--gpu", "rtx-4090"],
        ["vram", "qwen3-next-80b", "--ctx", "128k", "--gpu", "8xh100,4xh200"],
        ["vram", "gpt-oss-20b", "--engine", "vllm", "--gpu", "h100", "--quant", "mxfp4"],
        ["train", "llama-3.1-8b", "--seq-len", "2k", "--gpu", "h200"],
        ["train", "llama-3.1-8b", "--method", "qlora", "--seq-len", "2k", "--gpu", "rtx-4090"],
        ["params", "gpt-3"],
        ["chinchilla", "--compute", "5.76e23"],
        ["chinchilla", "llama-3.1-8b", "--tokens", "15t", "--law", "all"],
        ["chinchilla", "--gpu", "8xh100-80gb", "--days", "30", "--inference-tokens", "1t"],
        ["chinchilla", "--compute", "1e22", "--unique-tokens", "20b"],
        ["hparams", "--params", "7b", "--tokens", "1.4t"],
    ],
)
def test_the_hot_path_imports_nothing_heavy(arguments):
    script = (
        "import sys\n"
        "from llmcalc.cli import run\n"
        f"code = run({arguments!r})\n"
        f"print([code, [m for m in {HEAVY!r} if m in sys.modules]])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    code, loaded = ast.literal_eval(done.stdout.splitlines()[-1])
    assert code == 0
    assert loaded == []


def test_importing_the_package_is_light():
    script = "import sys, llmcalc; print(sorted(m for m in sys.modules if m.startswith('llmcalc')))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['llmcalc', 'llmcalc._version']"


def test_model_is_a_package_and_a_function():
    import llmcalc.model.inventory

    assert llmcalc.model("13b").params == 13_000_000_000
    assert llmcalc.model.inventory.size is not None


def test_public_names():
    assert set(llmcalc.__all__) <= set(dir(llmcalc))
    for name in llmcalc.__all__:
        assert getattr(llmcalc, name) is not None
    with pytest.raises(AttributeError):
        llmcalc.nothing_of_that_name  # noqa: B018
