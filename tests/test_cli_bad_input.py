"""Bad input: one clear message with its remedy last, exit code 2, no traceback; good input stays clean.

Most calls run inside this process. Those that need a process of their own (pipes, encodings,
terminals, signals, limits of time and memory) get one.
"""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys

import pytest

import llmcalc
from llmcalc.catalog import Catalog
from llmcalc.cli import run

TIMEOUT = 20
LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 14336,
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
    "torch_dtype": "bfloat16",
}
LLAMA_PARAMS = 8_030_261_248
posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX")

# -- helpers ------------------------------------------------------------------------------------


def short(value: object) -> str | None:
    if isinstance(value, (list, tuple)):
        value = " ".join(map(str, value))
    return re.sub(r"[^\x21-\x7e]", "_", str(value)[:40]) or "empty"


def cases(*rows: tuple) -> list:
    """Parameters that are named after their first value."""
    return [pytest.param(*row, id=short(row[0])) for row in rows]


def check_refusal(code: int, out: str, err: str, names: list[str], remedy: str) -> None:
    assert code == 2, f"exit code {code}: {err[-500:]}"
    assert out == ""
    assert err.startswith("Error: ")
    assert "Traceback" not in err
    assert "Internal error" not in err, f"bad input is no bug of the program: {err}"
    assert err.endswith("\n")
    assert len(err) < 4000, "the message is flooded by what was given"
    problem, _, last = err.rstrip("\n").rpartition("\n")
    assert problem, f"no remedy on a line of its own: {err}"
    for name in names:
        assert name in problem, f"{name!r} is not named in: {problem}"
    assert remedy in last, f"{remedy!r} is not in the remedy: {last}"


def spawn(*arguments: str | bytes, **options) -> subprocess.CompletedProcess:
    """Run the command in a process of its own; it may not hang."""
    command = [sys.executable, "-m", "llmcalc", *arguments]
    options = {"stdin": subprocess.DEVNULL} | options if "input" not in options else options
    return subprocess.run(command, capture_output=True, timeout=TIMEOUT, check=False, **options)


def capture(command: list[str], **options) -> subprocess.CompletedProcess:
    """Run a command line; text comes back, and it may not hang."""
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    return subprocess.run(command, text=True, encoding="utf-8", timeout=TIMEOUT, check=False, **pipes)


def spawn_refused(*arguments: str | bytes, names: list[str], remedy: str, **options) -> None:
    done = spawn(*arguments, **options)
    out, err = (
        stream.decode("utf-8", "replace").replace("\r\n", "\n") for stream in (done.stdout, done.stderr)
    )
    check_refusal(done.returncode, out, err, names, remedy)


@pytest.fixture
def refused(capsys):
    """Call the command in this process and hold its refusal against the rules."""

    def call(arguments: list[str], names: list[str], remedy: str) -> str:
        code = run(arguments)
        out, err = capsys.readouterr()
        check_refusal(code, out, err, names, remedy)
        return err

    return call


@pytest.fixture
def answered(capsys):
    """Call the command in this process; it must answer. Returns its output and its notes."""

    def call(*arguments: str, code: int = 0) -> tuple[str, str]:
        found = run(list(arguments))
        out, err = capsys.readouterr()
        assert found == code, err
        assert "Error" not in err
        return out, err

    return call


@pytest.fixture
def config(tmp_path):
    """Write a configuration; Llama-3.1-8B's with changes, or raw text or bytes."""

    def write(changes: dict | str | bytes, name: str = "config.json") -> str:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(changes, dict):
            merged = {**LLAMA, **changes}
            changes = json.dumps({key: value for key, value in merged.items() if value is not ...})
        path.write_bytes(changes.encode() if isinstance(changes, str) else changes)
        return os.fspath(path)

    return write


# -- numbers ------------------------------------------------------------------------------------

COUNT, MODEL = ["vram", "--params", "13b"], ["vram", "llama-3.1-8b"]
NUMBERS = {
    "--params": (["vram"], "13b"),
    "--bits": (COUNT, "16"),
    "--overhead": (COUNT, "1.2"),
    "--context": (MODEL, "8k"),
    "--max-model-len": (MODEL, "8K"),
    "--prompt": (MODEL, "8k"),
    "--output": (MODEL, "8k"),
    "--sequences": (MODEL, "8"),
    "--tp": (MODEL, "8"),
    "--pp": (MODEL, "8"),
    "--dp": (MODEL, "8"),
    "--reserve": (MODEL, "24GiB"),
}
NOT_NUMBERS = [
    "", "  ", "abc", "13x", "-5", "inf", "-inf", "nan", "1e400", "1e999999999999", "9" * 5000, "0x10",
    "1.2.3", "1e", "13 b c",
]  # fmt: skip


@pytest.mark.parametrize("value", NOT_NUMBERS, ids=short)
@pytest.mark.parametrize("option", NUMBERS)
def test_numbers(refused, option, value):
    base, remedy = NUMBERS[option]
    refused([*base, option, value], [option, value[:30]], remedy)


@pytest.mark.parametrize("option", [option for option in NUMBERS if option != "--reserve"])
def test_zero(refused, option):
    base, remedy = NUMBERS[option]
    refused([*base, option, "0"], [option, "0"], remedy)


@pytest.mark.parametrize("option", ["--params", "--context", "--sequences", "--tp", "--pp", "--dp"])
def test_fractions(refused, option):
    base, remedy = NUMBERS[option]
    refused([*base, option, "1.5"], [option, "1.5", "whole number"], remedy)


@pytest.mark.parametrize("bits", ["0", "65", "-4", "64.5", "1e3"])
@pytest.mark.parametrize("base", [COUNT, MODEL, ["params", "gpt-3"]], ids=short)
def test_bits(refused, base, bits):
    refused([*base, "--bits", bits], ["--bits", bits], "64")


@pytest.mark.parametrize(
    ("arguments", "names", "remedy"),
    [
        (["--params", "13x"], ["--params", "13x"], "13b"),
        (["--params", "-5"], ["--params", "-5"], "13b"),
        (["--params", "1e400"], ["--params", "1e400"], "13b"),
        (["--params", ""], ["--params"], "13b"),
        (["--params", "9" * 5000], ["--params"], "13b"),
        (["--params", "13b", "--bits", "65"], ["--bits", "65"], "64"),
        (["llama-3.1-8b", "--ctx", "nan"], ["--context", "nan"], "8k"),
    ],
    ids=short,
)
def test_numbers_in_a_process_of_their_own(arguments, names, remedy):
    spawn_refused("vram", *arguments, names=names, remedy=remedy)


def test_a_bare_negative_number_is_no_model(refused):
    refused(["vram", "-5"], ["-5"], "llmcalc vram --help")


@pytest.mark.parametrize("text", ["0", "1e400", "1.5", "-0"])
def test_counts_in_the_place_of_the_model(refused, text):
    arguments = ["vram", "--", text] if text.startswith("-") else ["vram", text]
    refused(arguments, [text], "13b")


@pytest.mark.parametrize("text", ["13x", "inf", "nan", "b"])
def test_what_is_neither_model_nor_count(refused, text):
    refused(["vram", text], [text], "13b")


# -- context, placement, formats ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "names", "remedy"),
    cases(
        (["--context", "131073"], ["131,073", "131,072", "llama-3.1-8b"], "--allow-overlong"),
        (["--context", "200k"], ["204,800", "131,072"], "131072"),
        (["--max-model-len", "132k"], ["132,000", "131,072"], "131072"),
        (["--prompt", "128k", "--output", "1"], ["131,073", "131,072"], "131072"),
        (["--context", "8k", "--max-model-len", "8k"], ["--context", "--max-model-len"], "context"),
        (["--context", "8k", "--prompt", "8k"], ["--context", "--prompt"], "prompt"),
        (["--tp", "3"], ["--tp 3", "32", "llama-3.1-8b"], "--tp 1, 2, 4, 8"),
        (["--tp", "64"], ["--tp 64", "32"], "--tp 1, 2, 4, 8"),
        (["--pp", "33"], ["--pp 33", "32", "llama-3.1-8b"], "--pp 1 to 32"),
        (["--tp", "2", "--gpu", "3xh100-80gb"], ["tp 2", "3"], "GPUs"),
        (["--kv-dtype", "fp99"], ["--kv-dtype", "fp99"], "q8_0"),
        (["--kv-cache-dtype", "fp99"], ["fp99"], "q8_0"),
        (["-ctk", "q4_9"], ["-ctk", "q4_9"], "q4_0"),
        (["-ctv", "q4_9"], ["-ctv", "q4_9"], "q4_0"),
        (["--kv-dtype", "q8_00"], ["--kv-dtype", "q8_00"], "Did you mean q8_0"),
        (["--kv-dtype", ""], ["--kv-dtype"], "q8_0"),
        (["--dtype", "bf15"], ["--dtype", "bf15"], "Did you mean bf16"),
        (["--dtype", "q4_0"], ["--dtype", "q4_0"], "fp16"),
        (["--dtype", ""], ["--dtype"], "bf16"),
        (["--dtype", "bf16", "--bits", "4"], ["--dtype", "--bits"], "one of them"),
        (["--overhead", "1.2"], ["--overhead", "llama-3.1-8b"], "--overhead"),
        (["--engine", "vlm"], ["--engine", "vlm"], "none"),
        (["--engine", ""], ["--engine"], "none"),
        (["--format", "xml"], ["--format", "xml"], "markdown"),
        (["--format", "jsn"], ["--format", "jsn"], "Did you mean json"),
        (["--format", ""], ["--format"], "markdown"),
        (["--units", "gigs"], ["--units", "gigs"], "gib"),
        (["--check"], ["--check"], "--gpu"),
        (["--check", "--json"], ["--check"], "--gpu"),
        (["--plot", "picture.txt"], ["--plot", "picture.txt"], ".png"),
        (["--plot", "picture"], ["--plot", "picture"], ".png"),
        (["--assume", ""], ["--assume"], "llama"),
    ),
)
def test_options_of_a_known_model(refused, arguments, names, remedy):
    refused([*MODEL, *arguments], names, remedy)


def test_an_unknown_kv_dtype_is_told_once(refused):
    assert refused([*MODEL, "--kv-dtype", "fp99"], ["fp99"], "q8_0").count("fp99") == 1


def test_kv_heads_and_tensor_ranks(refused):
    """28 heads allow 7 and 14 ranks, 4 KV heads do not."""
    refused(["vram", "qwen2.5-7b", "--tp", "7"], ["--tp 7", "4 KV heads"], "--tp 1, 2, 4")


def test_a_count_takes_no_context_of_zero(refused):
    refused([*COUNT, "--context", "0"], ["--context", "0"], "8k")


def test_params_never_asks_for_an_option_that_it_lacks(refused):
    assert "--gpu" not in refused(["params", "llama-3.1-8b", "--check"], ["--check"], "")


# -- names --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "names", "remedy"),
    cases(
        (["vram", "lama-3.1-8b"], ["lama-3.1-8b"], "Did you mean llama-3.1-8b"),
        (["params", "gtp-3"], ["gtp-3"], "Did you mean gpt-3"),
        (["vram", "meta-lama/Llama-3.1-8B"], ["meta-lama/Llama-3.1-8B"], "llama-3.1-8b"),
        (["models", "show", "lama-3.1-8b"], ["lama-3.1-8b"], "Did you mean llama-3.1-8b"),
        (["vram", "zzzzzzzzzzzz"], ["zzzzzzzzzzzz"], "llmcalc models --search"),
        (["vram", ""], ["empty"], "llama-3.1-8b"),
        (["vram", "   "], ["empty"], "llama-3.1-8b"),
        (["vram", "x" * 5000], ["x" * 40], "llmcalc models --search"),
        (["vram", "llama\n3.1"], ["llama\\n3.1"], "llmcalc models"),
        (["vram", "\x1b[31mred"], ["\\x1b[31mred"], "llmcalc models"),
        (["vram"], ["No model"], "--params 13b"),
        (["params"], ["No model"], "--params 13b"),
        (["vram", "llama-3.1-8b", "--params", "13b"], ["MODEL", "--params"], "one"),
        (["vram", "llama-3.1-8b", "--config", "c.json"], ["MODEL", "--config"], "one"),
        (["vram", "--params", "8b", "--config", "c.json"], ["--params", "--config"], "one"),
        (["vram", "llama-3.1-8b", "gpt-3"], ["gpt-3"], "llmcalc vram --help"),
        ([*MODEL, "--gpu", "rtx-409"], ["rtx-409"], "RTX 4090"),
        ([*MODEL, "--gpu", "h10-80gb"], ["h10-80gb"], "H100"),
        ([*MODEL, "--gpu", "8xh10-80gb"], ["h10-80gb"], "H100"),
        (["gpus", "show", "rtx-409"], ["rtx-409"], "RTX 4090"),
        ([*MODEL, "--gpu", "rtx4091,fooo,h100"], ["rtx4091", "fooo"], "RTX 4090"),
        ([*MODEL, "--gpu", ""], ["--gpu"], "rtx-4090"),
        ([*MODEL, "--gpu", "rtx-4090,"], ["--gpu"], "rtx-4090"),
        ([*MODEL, "--gpu", "8x"], ["8x"], "8xh100-80gb"),
        ([*MODEL, "--gpu", "0xh100-80gb"], ["0xh100-80gb"], "8xh100-80gb"),
        ([*MODEL, "--gpu", "9999999xh100-80gb"], ["9999999xh100-80gb"], "8xh100-80gb"),
        ([*MODEL, "--gpu", "2x3xh100-80gb"], ["2x3xh100-80gb"], "8xh100-80gb"),
        ([*MODEL, "--gpu", "3xh100-80gb"], ["--gpu", "3", "32"], "1, 2, 4, 8"),
        ([*MODEL, "--gpu", "0GiB"], ["0GiB"], "24GiB"),
        ([*MODEL, "--gpu", "-24GiB"], ["-24GiB"], "24GiB"),
        ([*MODEL, "--gpu", "infGiB"], ["infGiB"], "24GiB"),
        ([*MODEL, "--gpu", "1e400GiB"], ["1e400GiB"], "24GiB"),
        ([*MODEL, "--gpu", "24"], ["24"], "24GiB"),
        ([*MODEL, "--gpu", "2xauto"], ["2xauto"], "--gpu auto"),
        ([*MODEL, "--gpu", "x" * 5000], ["x" * 40], "llmcalc gpus"),
        (["models", "--search", "zzzzzz"], ["zzzzzz"], "llmcalc models"),
        (["gpus", "--search", "zzzzzz"], ["zzzzzz"], "llmcalc gpus"),
        (["gpus", "--min-memory", "13x"], ["--min-memory", "13x"], "24GiB"),
        (["models", "--min-params", "13x"], ["--min-params", "13x"], "13b"),
        (["models", "--format", "xml"], ["--format", "xml"], "markdown"),
        (["explain", "kv_cach_bytes"], ["kv_cach_bytes"], "Did you mean kv_cache_bytes"),
        (["completion", "fsh"], ["fsh"], "Did you mean fish"),
        (["vrm"], ["vrm"], "Did you mean vram"),
        (["xyzzy"], ["xyzzy"], "llmcalc --help"),
        (["models", "shw"], ["shw", "show"], "llmcalc models --help"),
        ([*MODEL, "--contxt", "8k"], ["--contxt", "--context"], "llmcalc vram --help"),
        (["--nope"], ["--nope"], "llmcalc --help"),
        ([*MODEL, "--ctx"], ["--ctx"], "llmcalc vram --help"),
        ([*MODEL, "--json=5"], ["--json"], "llmcalc vram --help"),
        (["models", "show"], ["NAME"], "llmcalc models show --help"),
        (["completion"], ["SHELL"], "llmcalc completion --help"),
    ),
)
def test_names(refused, arguments, names, remedy):
    refused(arguments, names, remedy)


@pytest.mark.parametrize(
    ("arguments", "names", "remedy"),
    cases(
        (["vram", "lama-3.1-8b"], ["lama-3.1-8b"], "Did you mean llama-3.1-8b"),
        (["vram", "llama-3.1-8b", "--gpu", "rtx-409"], ["rtx-409"], "Did you mean RTX 4090"),
        (["vram", "llama-3.1-8b", "--tp", "3"], ["--tp 3"], "Use --tp 1, 2, 4, 8"),
        (["vram", "llama-3.1-8b", "--context", "200k"], ["204,800"], "131072"),
    ),
)
def test_names_in_a_process_of_their_own(arguments, names, remedy):
    spawn_refused(*arguments, names=names, remedy=remedy)


def test_a_remedy_says_nothing_twice(refused):
    err = refused([*MODEL, "--gpu", "rtx4091,fooo"], ["rtx4091", "fooo"], "llmcalc gpus")
    assert err.count("llmcalc gpus lists all") == 1


@posix
@pytest.mark.parametrize(
    ("arguments", "remedy"),
    [
        ([b"vram", b"l\xff"], "llmcalc models"),
        ([b"vram", b"gpt-3", b"--gpu", b"l\xff"], "llmcalc gpus"),
        ([b"vram", b"gpt-3", b"--kv-dtype", b"l\xff"], "q8_0"),
        ([b"vram", b"--params", b"l\xff"], "13b"),
    ],
    ids=["model", "gpu", "kv-dtype", "params"],
)
def test_words_that_are_no_text(arguments, remedy):
    """A word of a shell may hold any bytes."""
    spawn_refused(*arguments, names=["l"], remedy=remedy)


# -- several mistakes ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "names"),
    cases(
        ([*MODEL, "--tp", "3", "--context", "0"], ["--tp 3", "--context"]),
        ([*MODEL, "--bits", "65", "--kv-dtype", "fp99"], ["65", "fp99"]),
        ([*MODEL, "--gpu", "rtx-409", "--reserve", "abc"], ["rtx-409", "abc"]),
        ([*COUNT, "--bits", "65", "--overhead", "0"], ["--bits", "--overhead"]),
        ([*MODEL, "--overhead", "1.2", "--tp", "3"], ["--overhead", "--tp 3"]),
        (["vram", "lama-3.1-8b", "--gpu", "rtx-409"], ["lama-3.1-8b", "rtx-409"]),
        ([*MODEL, "--format", "xml", "--units", "gigs"], ["xml", "gigs"]),
        ([*MODEL, "--format", "xml", "--tp", "3"], ["xml", "--tp 3"]),
        ([*MODEL, "--check", "--bits", "65"], ["--check", "--bits"]),
    ),
)
def test_two_mistakes_are_told_together(refused, arguments, names):
    refused(arguments, names, "llmcalc gpus" if "lama-3.1-8b" in names else "Use")


def test_many_mistakes_are_numbered_once(refused):
    options = {
        "--tp": "3", "--bits": "65", "--gpu": "rtx-409", "--context": "0", "--kv-dtype": "fp99",
        "--reserve": "abc", "--engine": "foo",
    }  # fmt: skip
    arguments = [word for pair in options.items() for word in pair]
    err = refused([*MODEL, *arguments], [*options.values()], "Use")
    lines = err.removeprefix("Error: ").splitlines()[:-1]
    assert [line.partition(". ")[0] for line in lines] == [str(n) for n in range(1, len(options) + 1)]


# -- output files -------------------------------------------------------------------------------


@pytest.mark.parametrize("option", ["--output-file", "--plot"])
def test_a_folder_that_does_not_exist(refused, tmp_path, option):
    path = os.fspath(tmp_path / "nowhere" / "out.png")
    refused([*MODEL, option, path], [path], "folder")


def test_a_folder_as_the_output_file(refused, tmp_path):
    refused([*MODEL, "--output-file", os.fspath(tmp_path)], ["--output-file", os.fspath(tmp_path)], "Check")


def test_a_bad_call_leaves_an_existing_file_alone(refused, tmp_path):
    path = tmp_path / "kept.txt"
    path.write_text("kept")
    refused([*MODEL, "--tp", "3", "--output-file", os.fspath(path)], ["--tp 3"], "Use --tp")
    assert path.read_text() == "kept"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk():
    with open("/dev/full", "wb") as full:
        done = capture([sys.executable, "-m", "llmcalc", *MODEL], stdout=full)
    check_refusal(done.returncode, "", done.stderr, ["space"], "Check")


# -- configurations: text -----------------------------------------------------------------------

TRUNCATED = json.dumps(LLAMA)[:100]
DEEP = 100_000


@pytest.mark.parametrize(
    ("text", "problem", "remedy"),
    [
        pytest.param("", "empty", "config.json", id="empty"),
        pytest.param(" \n\t", "empty", "config.json", id="blank"),
        pytest.param(TRUNCATED, "not valid JSON", "complete", id="truncated"),
        pytest.param(TRUNCATED.encode("utf-16"), "binary", "config.json", id="utf-16"),
        pytest.param(bytes(range(256)), "binary", "config.json", id="binary"),
        pytest.param(b"GGUF\x03\x00\x00\x00\xff\xff", "binary", "config.json", id="weights"),
        pytest.param("\0" * 1000, "not valid JSON", "config.json", id="zeros"),
        pytest.param("model_type: llama", "not valid JSON", "config.json", id="not JSON"),
        pytest.param("{'model_type': 'llama'}", "not valid JSON", "config.json", id="Python"),
        pytest.param('{"model_type": "llama",}', "not valid JSON", "config.json", id="comma"),
        pytest.param("[1, 2]", "list", "{", id="list"),
        pytest.param('"llama"', "not a JSON object", "{", id="text"),
        pytest.param("13", "not a JSON object", "{", id="number"),
        pytest.param("null", "not a JSON object", "{", id="null"),
        pytest.param("[" * DEEP, "nested too deeply", "config.json", id="open brackets"),
        pytest.param("[" * DEEP + "]" * DEEP, "nested too deeply", "config.json", id="brackets"),
        pytest.param('{"a":' * DEEP + "1" + "}" * DEEP, "nested too deeply", "config.json", id="braces"),
        pytest.param("{}", "model_type", "--assume", id="nothing"),
        pytest.param('{"model_type": "llama"}', "hidden_size", "hidden_size", id="no sizes"),
        pytest.param('{"hidden_size": ' + "9" * 5000 + "}", "digits", "number", id="5000 digits"),
        pytest.param(json.dumps(LLAMA) * 2, "not valid JSON", "config.json", id="twice"),
    ],
)
def test_configuration_text(refused, config, text, problem, remedy):
    path = config(text)
    refused(["vram", path], [path, problem], remedy)
    refused(["params", "--config", path], [path, problem], remedy)


def test_a_huge_file_is_not_read(refused, tmp_path):
    path = tmp_path / "config.json"
    with path.open("wb") as stream:
        stream.truncate(65 << 20)
    refused(["vram", os.fspath(path)], [os.fspath(path), "64 MiB"], "config.json")


# -- configurations: fields ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "names", "remedy"),
    cases(
        ({"hidden_size": ...}, ["lacks hidden_size"], "hidden_size"),
        ({"num_hidden_layers": ...}, ["lacks num_hidden_layers"], "num_hidden_layers"),
        ({"vocab_size": None}, ["lacks vocab_size"], "vocab_size"),
        ({"hidden_size": ..., "vocab_size": ...}, ["lacks hidden_size", "lacks vocab_size"], "vocab_size"),
        ({"model_type": ...}, ["model_type"], "--assume"),
        ({"model_type": None}, ["model_type"], "--assume"),
        ({"model_type": ""}, ["model_type"], "--assume"),
        ({"model_type": 3}, ["model_type"], "--assume"),
        ({"num_key_value_heads": 64}, ["num_key_value_heads is 64", "32"], "Correct"),
        ({"num_key_value_heads": 5}, ["num_key_value_heads is 5", "32"], "Correct"),
        ({"num_key_value_heads": 0}, ["num_key_value_heads is 0"], "num_key_value_heads"),
        ({"num_key_value_heads": -8}, ["num_key_value_heads is -8"], "num_key_value_heads"),
        ({"num_attention_heads": 0}, ["num_attention_heads is 0"], "num_attention_heads"),
        ({"num_attention_heads": -32}, ["num_attention_heads is -32"], "num_attention_heads"),
        ({"num_hidden_layers": 0}, ["num_hidden_layers is 0"], "num_hidden_layers"),
        ({"num_hidden_layers": -1}, ["num_hidden_layers is -1"], "num_hidden_layers"),
        ({"hidden_size": 0}, ["hidden_size is 0"], "hidden_size"),
        ({"hidden_size": -4096}, ["hidden_size is -4096"], "hidden_size"),
        ({"hidden_size": "4096"}, ["hidden_size is '4096'", "whole number"], "hidden_size"),
        ({"hidden_size": 4096.5}, ["hidden_size is 4096.5", "whole number"], "hidden_size"),
        ({"hidden_size": True}, ["hidden_size is True", "whole number"], "hidden_size"),
        ({"hidden_size": [4096]}, ["hidden_size is [4096]", "whole number"], "hidden_size"),
        ({"hidden_size": {}}, ["hidden_size is {}", "whole number"], "hidden_size"),
        ({"hidden_size": float("nan")}, ["hidden_size", "nan", "whole number"], "hidden_size"),
        ({"hidden_size": float("inf")}, ["hidden_size", "inf", "whole number"], "hidden_size"),
        ({"vocab_size": "many"}, ["vocab_size is 'many'"], "vocab_size"),
        ({"intermediate_size": -1}, ["intermediate_size is -1"], "intermediate_size"),
        ({"intermediate_size": "x"}, ["intermediate_size is 'x'"], "intermediate_size"),
        ({"head_dim": 0}, ["head_dim is 0"], "head_dim"),
        ({"head_dim": -128}, ["head_dim is -128"], "head_dim"),
        ({"head_dim": 128.5}, ["head_dim is 128.5"], "head_dim"),
        ({"hidden_size": 4097}, ["4097", "32", "head_dim"], "head_dim"),
        ({"num_attention_heads": 30, "num_key_value_heads": 30}, ["4096", "30", "head_dim"], "head_dim"),
        ({"max_position_embeddings": 0}, ["max_position_embeddings is 0"], "max_position_embeddings"),
        ({"max_position_embeddings": "8k"}, ["max_position_embeddings is '8k'"], "max_position_embeddings"),
        ({"tie_word_embeddings": "yes"}, ["tie_word_embeddings is 'yes'"], "true or false"),
        ({"n_embd": 5}, ["hidden_size = 4096", "n_embd = 5"], "one of these"),
        ({"num_layers": 31}, ["num_hidden_layers = 32", "num_layers = 31"], "one of these"),
        ({"hidden_size": 10**30}, ["hidden_size is 1000000", "100,000,000"], "hidden_size"),
        ({"vocab_size": 10**30}, ["vocab_size is 1000000", "100,000,000"], "vocab_size"),
        ({"intermediate_size": 10**30}, ["intermediate_size is 1000000"], "intermediate_size"),
        ({"num_hidden_layers": 10**9}, ["num_hidden_layers is 1000000000", "10,000"], "num_hidden_layers"),
        ({"num_hidden_layers": 10**30}, ["num_hidden_layers is 1000000"], "num_hidden_layers"),
        ({"num_attention_heads": 10**30}, ["num_attention_heads is 1000000"], "num_attention_heads"),
        ({"hidden_size": int("9" * 4000)}, ["hidden_size is 9999999"], "hidden_size"),
        ({"max_position_embeddings": 10**30}, ["max_position_embeddings"], "max_position_embeddings"),
        ({"extra_heads": 7}, ["extra_heads = 7", "llama"], "--assume llama"),
        ({"expert_sizes": [4, 8] * 16}, ["expert_sizes = [4, 8"], "--assume llama"),
        ({"mtp_layers": 3, "extra_heads": 7}, ["extra_heads = 7", "mtp_layers = 3"], "--assume llama"),
        ({"model_type": "lama"}, ["'lama'", "The nearest is llama"], "--assume llama"),
        ({"model_type": "qwen3moe"}, ["'qwen3moe'", "The nearest is qwen3_moe"], "--assume qwen3_moe"),
        ({"model_type": "zzzzzz"}, ["'zzzzzz'"], "--assume"),
        ({"model_type": "../../llama"}, ["'../../llama'"], "--assume"),
        ({"model_type": "__init__"}, ["'__init__'"], "--assume"),
        ({"model_type": "os"}, ["'os'"], "--assume"),
        ({"model_type": "x" * 5000}, ["x" * 40], "--assume"),
    ),
)
def test_configuration_fields(refused, config, changes, names, remedy):
    path = config(changes)
    refused(["vram", path], [path, *names], remedy)


@pytest.mark.parametrize(
    ("name", "changes", "names"),
    [
        ("gemma-3-27b", {"text_config": 5}, ["text_config"]),
        ("gemma-3-27b", {"text_config": {"num_hidden_layers": 10**9}}, ["num_hidden_layers", "1000000000"]),
        ("mixtral-8x7b", {"num_local_experts": 0}, ["num_local_experts", "0"]),
        ("mixtral-8x7b", {"num_local_experts": 10**30}, ["num_local_experts"]),
        ("mixtral-8x7b", {"num_experts_per_tok": 9}, ["num_experts_per_tok", "9"]),
        ("gpt-oss-20b", {"layer_types": ["full_attention"]}, ["layer_types"]),
        ("gpt-oss-20b", {"layer_types": "full_attention"}, ["layer_types"]),
        ("gpt-oss-20b", {"sliding_window": -5}, ["sliding_window", "-5"]),
        ("gpt-oss-20b", {"sliding_window": "128"}, ["sliding_window", "'128'"]),
        ("deepseek-v3", {"kv_lora_rank": -1}, ["kv_lora_rank", "-1"]),
        ("deepseek-v3", {"n_routed_experts": "256"}, ["n_routed_experts", "'256'"]),
    ],
    ids=short,
)
def test_fields_of_other_families(refused, config, name, changes, names):
    real = Catalog().lookup("models", name)["config"]
    path = config(json.dumps({**real, **changes}))
    refused(["vram", path], [path, *names], "")


@pytest.mark.parametrize("layers", [1, 10_000])
def test_the_most_layers_that_are_allowed(answered, config, layers):
    out, _ = answered("params", config({"num_hidden_layers": layers}), "--json")
    assert json.loads(out)["model"]["layers"] == layers


@pytest.mark.parametrize(
    "changes", [{"model_type": "zzzzzz"}, {"model_type": ...}, {"extra_heads": 7}], ids=short
)
def test_the_remedy_that_assumes_a_family_works(refused, answered, config, changes):
    path = config(changes)
    err = refused(["params", path], [path], "--assume llama")
    family = re.search(r"--assume (\w+)\.?$", err.rstrip())
    out, _ = answered("params", path, "--assume", family[1], "--json")
    assert json.loads(out)["model"]["params"] == LLAMA_PARAMS


@pytest.mark.parametrize("family", ["lama", "", "../llama", "x" * 5000], ids=short)
def test_an_unknown_family_is_not_assumed(refused, config, family):
    refused(
        ["vram", config({"model_type": "zzzzzz"}), "--assume", family], ["--assume", family[:40]], "llama"
    )


# -- configurations that could hang or take all memory ------------------------------------------

LIMITED = """
import sys
try:
    import resource
    resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
except (ImportError, ValueError, OSError):
    pass
from llmcalc.cli import main
main()
"""


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        pytest.param({"hidden_size": 10**30}, "hidden_size", id="10^30 hidden"),
        pytest.param({"num_hidden_layers": 10**9}, "num_hidden_layers", id="10^9 layers"),
        pytest.param({"num_hidden_layers": 10**30}, "num_hidden_layers", id="10^30 layers"),
        pytest.param('{"hidden_size": ' + "9" * 5000 + "}", "digits", id="5000 digits"),
        pytest.param("[" * DEEP, "nested too deeply", id="100,000 brackets"),
        pytest.param("", "empty", id="empty"),
    ],
)
def test_absurd_configurations_end_soon_in_little_memory(config, changes, problem):
    path = config(changes)
    done = capture([sys.executable, "-c", LIMITED, "vram", path])
    check_refusal(done.returncode, done.stdout, done.stderr, [path, problem], "")


# -- paths --------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [["vram"], ["vram", "--config"]], ids=short)
def test_paths_that_lead_nowhere(refused, tmp_path, monkeypatch, how):
    monkeypatch.chdir(tmp_path)
    refused([*how, "./nowhere/config.json"], ["./nowhere/config.json"], "Check")
    refused([*how, "config.json"], ["config.json"], "Check")
    os.mkdir("empty folder")
    refused([*how, "empty folder"], ["empty folder", "without a config.json"], "config.json")
    (tmp_path / "empty folder" / "tokenizer.json").write_text("{}")
    refused([*how, "empty folder"], ["tokenizer.json"], "config.json")
    os.makedirs("folder/config.json")
    refused([*how, "folder"], ["folder"], "config.json")


def test_a_file_that_vanishes(refused, config, monkeypatch):
    """It is there when the name is looked up and gone when it is opened."""
    path = config({})
    monkeypatch.setattr(os.path, "exists", lambda _: True)
    os.remove(path)
    refused(["vram", path], [path], "Check")


def test_an_empty_path(refused):
    refused(["vram", "--config", ""], ["--config"], "config.json")


@pytest.mark.parametrize("name", ["model.gguf", "model.safetensors", "pytorch_model.bin"])
def test_weight_files(refused, config, name):
    refused(["vram", config(b"GGUF\xff", name)], [name], "config.json")


@posix
@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_may_not_be_read(config):
    path = config({})
    os.chmod(path, 0)
    spawn_refused("vram", path, names=[path], remedy="permissions")


@pytest.mark.skipif(not os.path.exists("/dev/zero"), reason="needs /dev/zero")
@pytest.mark.parametrize(
    "arguments", [["/dev/zero"], ["--config", "/dev/zero"], ["gpt-3", "--catalog", "/dev/zero"]], ids=short
)
def test_a_device_file_is_not_read(arguments):
    spawn_refused("vram", *arguments, names=["/dev/zero"], remedy="Give")


@posix
@pytest.mark.parametrize("arguments", [[], ["--config"], ["gpt-3", "--catalog"]], ids=short)
def test_a_fifo_does_not_hang(tmp_path, arguments):
    path = os.fspath(tmp_path / "pipe")
    os.mkfifo(path)
    spawn_refused("vram", *arguments, path, names=[path], remedy="Give")


# -- standard input -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"garbage", "not valid JSON"),
        (b"", "empty"),
        (b"\xff\xfe\x00\x01", "binary"),
        (b"[1]", "list"),
        (b"[" * DEEP, "nested too deeply"),
        (b'{"model_type": "llama"}', "hidden_size"),
    ],
    ids=short,
)
@pytest.mark.parametrize("where", [["-"], ["--config", "-"]], ids=short)
def test_bad_standard_input(refused, monkeypatch, data, problem, where):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    refused(["vram", *where], ["standard input", problem], "")


def test_garbage_through_a_pipe():
    spawn_refused(
        "vram", "--config", "-", input=b"garbage", names=["standard input", "JSON"], remedy="config.json"
    )


def test_a_configuration_through_a_pipe():
    done = spawn("vram", "--config", "-", "--json", input=json.dumps(LLAMA).encode())
    assert done.returncode == 0
    assert json.loads(done.stdout)["model"]["params"] == LLAMA_PARAMS


@posix
def test_closed_standard_input():
    command = ["sh", "-c", 'exec "$@" <&-', "sh", sys.executable, "-m", "llmcalc", "vram", "--config", "-"]
    done = capture(command)
    check_refusal(done.returncode, done.stdout, done.stderr, ["standard input"], "config.json")


# -- catalogs of one's own ----------------------------------------------------------------------

CARD = "gpus:\n  - name: my-card\n    vendor: NVIDIA\n    memory_gb: 24\n"
ALIASES = "".join(f"{chr(98 + n)}: &{chr(98 + n)} [{','.join([f'*{chr(97 + n)}'] * 9)}]\n" for n in range(9))


CATALOGS = {
    "wrong key": (CARD.replace("memory_gb", "memoy_gb"), ["my-card", "memoy_gb", "memory_gb"], "fields"),
    "wrong type": (CARD.replace("24", '"24"'), ["my-card", "memory_gb", "number"], "fields"),
    "list for a number": (CARD.replace("24", "[24]"), ["my-card", "memory_gb", "number"], "fields"),
    "negative": (CARD.replace("24", "-1"), ["my-card", "memory_gb", "greater than 0"], "fields"),
    "zero": (CARD.replace("24", "0"), ["my-card", "memory_gb", "greater than 0"], "fields"),
    "infinite": (CARD.replace("24", ".inf"), ["my-card", "memory_gb"], "fields"),
    "not a number": (CARD.replace("24", ".nan"), ["my-card", "memory_gb"], "fields"),
    "number for a name": (CARD.replace("my-card", "5"), ["number 1", "name", "string"], "fields"),
    "empty name": (CARD.replace("my-card", '""'), ["name", "character"], "fields"),
    "no name": ("gpus:\n  - vendor: NVIDIA\n", ["number 1", "name"], "fields"),
    "no vendor": ("gpus:\n  - name: x\n", ["entry x", "vendor"], "fields"),
    "duplicate key": (CARD + "    memory_gb: 25\n", ["memory_gb", "twice", "line 5"], "line"),
    "duplicate section": (CARD + CARD, ["gpus", "twice", "line 5"], "line"),
    "not UTF-8": (b"gpus:\n  - name: \xff\xfe\n", ["UTF-8"], "YAML"),
    "list": ("- name: my-card\n", ["no catalog"], "gpus:"),
    "word": ("my-card", ["no catalog"], "gpus:"),
    "wrong section": ("gpu:\n  - name: x\n", ["'gpu'", "gpus"], "gpus"),
    "section is a number": ("gpus: 5\n", ["gpus", "list"], "- name"),
    "section is a mapping": ("gpus: {my-card: 24}\n", ["gpus", "list"], "- name"),
    "entry is a number": ("gpus:\n  - 5\n", ["number 1", "mapping"], "fields"),
    "no config": ("models:\n  - name: mine\n", ["mine", "config"], "fields"),
    "config is a number": ("models:\n  - {name: mine, config: 5}\n", ["mine", "config"], "fields"),
    "format": ("formats:\n  - {name: f, elements: 0, bytes: 2}\n", ["f", "elements"], "fields"),
    "truncated": ("gpus: [", ["not valid YAML", "line"], "line"),
    "recursive": ("gpus: &a [*a]", ["not valid YAML"], "line"),
    "Python object": ("!!python/object:os.system x", ["not valid YAML"], "line"),
    "100,000 brackets": ("[" * DEEP, ["YAML"], ""),
    "a billion aliases": ("a: &a [l,l,l,l,l,l,l,l,l]\n" + ALIASES, ["'a'"], "gpus"),
    "tab": ("gpus:\n\t- name: x\n", ["not valid YAML", "line 2"], "line"),
}


@pytest.mark.parametrize(("text", "names", "remedy"), CATALOGS.values(), ids=CATALOGS)
def test_catalogs(refused, config, text, names, remedy):
    path = config(text, "my catalog.yaml")
    refused([*MODEL, "--catalog", path], [path, *names], remedy)
    refused(["gpus", "--catalog", path], [path, *names], remedy)


def test_several_wrong_fields_are_told_together(refused, config):
    text = CARD.replace("memory_gb", "memoy_gb") + "  - name: other\n    vendor: 5\n"
    refused([*MODEL, "--catalog", config(text, "c.yaml")], ["memoy_gb", "other", "vendor"], "fields")


def test_a_catalog_in_a_process_of_its_own(config):
    path = config(CARD.replace("vendor", "vendr"), "c.yaml")
    spawn_refused("gpus", "--catalog", path, names=[path, "my-card", "vendr", "vendor"], remedy="fields")


def test_a_catalog_in_the_user_directory_is_checked_too(refused, config, monkeypatch, tmp_path):
    path = config(CARD.replace("vendor", "vendr"), "llmcalc/mine.yaml")
    monkeypatch.setenv("XDG_CONFIG_HOME", os.fspath(tmp_path))
    refused([*MODEL, "--gpu", "rtx-4090"], [path, "vendr"], "fields")


@pytest.mark.parametrize("name", ["nowhere.yaml", ""])
def test_a_catalog_that_is_not_there(refused, name):
    refused([*MODEL, "--catalog", name], [name or "--catalog"], "YAML")


def test_a_missing_catalog_is_called_missing(refused):
    assert "not a regular file" not in refused(
        [*MODEL, "--catalog", "nowhere.yaml"], ["nowhere.yaml"], "YAML"
    )


def test_an_empty_catalog_changes_nothing(answered, config):
    plain, _ = answered(*MODEL, "--format", "csv")
    assert (
        answered(*MODEL, "--format", "csv", "--catalog", config("", "c.yaml"))[0].splitlines()[:3]
        == (plain.splitlines()[:3])
    )


def test_a_catalog_with_a_card_works(answered, config):
    out, _ = answered(*MODEL, "--gpu", "2x My_Card", "--catalog", config(CARD, "c.yaml"), "--json")
    device = json.loads(out)["device"]
    assert (device["name"], device["count"], device["memory_bytes"]) == ("my-card", 2, 24 << 30)


def test_a_wrong_model_of_one_s_own_names_its_file(refused, config):
    text = "models:\n  - name: mine\n    config: {model_type: llama, hidden_size: 64}\n"
    path = config(text, "c.yaml")
    refused(["vram", "mine", "--catalog", path], [path, "mine", "num_hidden_layers"], "num_hidden_layers")


def test_a_card_without_memory(refused, config):
    path = config("gpus:\n  - name: my-card\n    vendor: NVIDIA\n", "c.yaml")
    refused([*MODEL, "--catalog", path, "--gpu", "my-card"], ["my-card", "memory"], "GiB")


# -- good behaviour -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [["models"], ["vram", "gpt-3"], ["vram", "llama-3.1-8b", "--gpu", "rtx-4090", "--check"], ["--help"]],
    ids=short,
)
def test_a_closed_pipe_ends_quietly(arguments):
    """An exit code of 1 would say that the model does not fit."""
    reader, writer = os.pipe()
    os.close(reader)
    done = capture([sys.executable, "-m", "llmcalc", *arguments], stdout=writer)
    os.close(writer)
    for word in ("Traceback", "Error", "Exception"):
        assert word not in done.stderr
    assert done.returncode == 0


def test_a_reader_that_leaves_early():
    with subprocess.Popen(
        [sys.executable, "-m", "llmcalc", "models", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout.readline().strip() == b"{"
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(TIMEOUT) == 0


@posix
@pytest.mark.parametrize("arguments", [MODEL, ["models"], [*MODEL, "--json"]], ids=short)
def test_closed_standard_output(arguments):
    command = ["sh", "-c", 'exec "$@" >&-', "sh", sys.executable, "-m", "llmcalc", *arguments]
    done = capture(command)
    for word in ("Traceback", "Internal error"):
        assert word not in done.stderr
    assert done.returncode in (0, 2)


@posix
def test_an_interrupt_gives_130():
    script = "from llmcalc.cli import main\nprint('ready', flush=True)\nmain()"
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen([sys.executable, "-c", script, "vram", "-"], **pipes) as process:
        assert process.stdout.readline() == b"ready\n"
        process.stdin.write(b"{")
        process.stdin.flush()
        try:
            process.wait(1)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=TIMEOUT)
        assert process.returncode == 130
        assert b"Traceback" not in err


UNMATCHED = {"quant_method": "awq", "modules_to_not_convert": ["nowhere"]}


def test_notes_go_to_stderr(answered, config):
    path = config({"quantization_config": UNMATCHED})
    out, err = answered("vram", path)
    assert "nowhere" in err
    assert err.startswith("Note: ")
    assert "nowhere" not in out
    assert "Note" not in out


@pytest.mark.parametrize("kind", ["markdown", "csv", "latex", "html"])
def test_notes_stay_out_of_tables(answered, config, kind):
    path = config({"quantization_config": UNMATCHED})
    out, err = answered("vram", path, "--format", kind)
    assert "Note: Patterns of the quantization's lists match no tensor: nowhere." in err
    assert "Note: " not in out


def test_json_is_pure_json_even_with_warnings(config):
    path = config({"model_type": "mistral", "quantization_config": UNMATCHED, "num_key_value_heads": ...})
    done = spawn("vram", path, "--json")
    answer = json.loads(done.stdout)
    assert done.returncode == 0
    assert any("nowhere" in warning for warning in answer["warnings"])
    assert any("num_key_value_heads" in warning for warning in answer["warnings"])
    assert b"{" not in done.stderr


def test_json_of_the_lists_is_pure_json(answered):
    for what in ("models", "gpus"):
        out, _ = answered(what, "--json")
        assert len(json.loads(out)["rows"]) > 100


@pytest.mark.parametrize("arguments", [[*MODEL, "--gpu", "rtx-4090"], ["vram", "nothing-like-it"]], ids=short)
def test_no_escape_codes_into_a_pipe(arguments):
    done = spawn(*arguments, env={**os.environ, "TERM": "xterm-256color"})
    assert b"\x1b" not in done.stdout + done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="needs a pseudo-terminal")
@pytest.mark.parametrize(("no_color", "colours"), [("1", False), ("", True)])
def test_colour_only_on_a_terminal_and_without_no_color(no_color, colours):
    import pty

    reader, writer = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "NO_COLOR": no_color}
    environment.pop("COLORTERM", None)
    done = capture(
        [sys.executable, "-m", "llmcalc", *MODEL, "--gpu", "rtx-4090"], stdout=writer, env=environment
    )
    os.close(writer)
    shown = b""
    while True:
        try:
            chunk = os.read(reader, 4096)
        except OSError:  # Linux says so at the end
            break
        if not chunk:
            break
        shown += chunk
    os.close(reader)
    assert done.returncode == 0
    assert b"Llama-3.1-8B" in shown
    assert (b"\x1b[" in shown) is colours


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ([*MODEL, "--gpu", "rtx-4090", "--explain"], 0),
        (["models", "--search", "qwen"], 0),
        (["vram", "lläma-模型"], 2),
    ],
    ids=short,
)
def test_an_ascii_terminal_does_not_crash(arguments, code):
    done = spawn(*arguments, env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert done.returncode == code
    assert b"Traceback" not in done.stderr
    done.stdout.decode("ascii")


def test_a_name_beyond_ascii_on_an_ascii_terminal(config):
    path = config({}, "模型 ä/config.json")
    done = spawn("vram", path, "--json", env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["model"]["name"] == "模型 ä"


@pytest.mark.parametrize(
    "name", ["my model/config.json", "模型 ä/config.json", "x y.json", "-.json", "13b/config.json"]
)
def test_names_with_spaces_and_unicode(answered, config, name):
    path = config({}, name)
    folder, _, file = name.rpartition("/")
    for given in [path, os.path.dirname(path)] if file == "config.json" else [path]:
        out, _ = answered("vram", given, "--json")
        model = json.loads(out)["model"]
        assert (model["params"], model["source"]) == (LLAMA_PARAMS, "config")
        assert model["name"] == (folder or file.removesuffix(".json"))


def test_a_unicode_path_in_a_process_of_its_own(config):
    done = spawn("vram", config({}, "模型 ä/config.json"), env={**os.environ, "PYTHONIOENCODING": "utf-8"})
    assert done.returncode == 0, done.stderr
    assert "模型 ä" in done.stdout.decode()


@pytest.mark.skipif(sys.platform != "linux", reason="needs file names of any bytes")
@pytest.mark.parametrize("into_file", [False, True])
def test_a_file_name_that_is_no_text(tmp_path, into_file):
    folder = os.fsencode(tmp_path) + b"/m\xff"
    os.mkdir(folder)
    with open(folder + b"/config.json", "w") as stream:
        json.dump(LLAMA, stream)
    more = [b"--output-file", os.fsencode(tmp_path) + b"/out.txt"] if into_file else []
    done = spawn(b"vram", folder, *more)
    assert b"Traceback" not in done.stderr
    assert done.returncode == 0
    shown = (tmp_path / "out.txt").read_bytes() if into_file else done.stdout
    assert b"8.03 B" in shown


def test_a_byte_order_mark_does_not_matter(answered, config):
    out, _ = answered("params", config(b"\xef\xbb\xbf" + json.dumps(LLAMA).encode()), "--json")
    assert json.loads(out)["model"]["params"] == LLAMA_PARAMS


@pytest.mark.parametrize("name", ["gemma-3-27b", "gemma-3-4b"])
def test_a_nested_text_config(answered, config, name):
    real = Catalog().lookup("models", name)["config"]
    assert "text_config" in real
    out, _ = answered("params", config(json.dumps(real)), "--json")
    assert json.loads(out)["model"]["params"] == llmcalc.model(name).params


@pytest.mark.parametrize(
    ("arguments", "code", "verdict"),
    [
        (["llama-3.1-8b", "--ctx", "8k", "--gpu", "rtx-4090"], 0, "fits"),
        (["llama-3.1-8b", "--ctx", "58k", "--gpu", "rtx-4090"], 3, "too_close"),
        (["llama-3.1-70b", "--ctx", "8k", "--gpu", "rtx-4090"], 1, "does_not_fit"),
        (["llama-3.1-70b", "--ctx", "8k", "--gpu", "4xh100-80gb"], 0, "fits"),
        (["--params", "70b", "--gpu", "rtx-4090"], 1, "does_not_fit"),
    ],
    ids=short,
)
def test_check(answered, arguments, code, verdict):
    out, _ = answered("vram", *arguments, "--check", "--json", code=code)
    assert json.loads(out)["verdict"] == verdict
    answered("vram", *arguments, "--json", code=0)


def test_check_of_several_cards_tells_the_worst(answered):
    answered(*MODEL, "--gpu", "rtx-4090,h100-80gb", "--check", code=0)
    answered(*MODEL, "--ctx", "58k", "--gpu", "rtx-4090,h100-80gb", "--check", code=3)
    answered(*MODEL, "--gpu", "rtx-3060,rtx-4090", "--check", code=1)


@pytest.mark.parametrize(("context", "code"), [("8k", 0), ("58k", 3), ("128k", 1)])
def test_check_in_a_process_of_its_own(context, code):
    done = spawn(*MODEL, "--ctx", context, "--gpu", "rtx-4090", "--check")
    assert done.returncode == code
    assert b"RTX 4090" in done.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ["--params", "13b", "--bits", "4"],
        ["--params", "13b", "--bits", "4.5", "--overhead", "1.3"],
        ["13b"],
        ["llama-3.1-8b", "--ctx", "32k", "--gpu", "rtx-4090"],
        [
            "llama-3.1-70b",
            "--sequences",
            "4",
            "--kv-dtype",
            "q8_0",
            "--gpu",
            "4x h100-80gb",
            "--reserve",
            "1GiB",
        ],
        ["gpt-oss-20b", "-ctk", "fp8", "--max-model-len", "100K", "--dtype", "fp16", "--engine", "none"],
        ["gpt-3", "--context", "4k", "--allow-overlong", "--pp", "2"],
    ],
    ids=short,
)
def test_the_python_call_gives_the_same_total(answered, arguments):
    code, _ = answered("vram", *arguments, "--python")
    out, _ = answered("vram", *arguments, "--json")
    *head, call = code.rstrip("\n").split("\n")
    assert head == ["import llmcalc", ""]
    report = eval(call, {"llmcalc": llmcalc})
    assert report.total_bytes == json.loads(out)["total_bytes"]
    assert report.scenario == {key: json.loads(out)["scenario"][key] for key in report.scenario}


def test_the_python_call_of_a_file_and_of_params(answered, config):
    path = config({}, "it's my model/config.json")
    for command in ("vram", "params"):
        code, _ = answered(command, path, "--python")
        out, _ = answered(command, path, "--json")
        report = eval(code.rstrip("\n").split("\n")[-1], {"llmcalc": llmcalc})
        assert report.total_bytes == json.loads(out)["total_bytes"]


def test_the_python_call_runs_as_a_script():
    code = spawn(*MODEL, "--ctx", "32k", "--python").stdout.decode().rstrip()
    head, _, call = code.rpartition("\n")
    script = f"{head}\nprint({call}.total_bytes)"
    done = capture([sys.executable, "-c", script])
    assert int(done.stdout) == llmcalc.vram("llama-3.1-8b", context=32768).total_bytes


def test_debug_shows_the_traceback():
    done = spawn("--debug", "vram", "lama-3.1-8b")
    assert b"Traceback" in done.stderr
    assert b"lama-3.1-8b" in done.stderr
    assert done.returncode == 2


@pytest.mark.parametrize(
    "name", ["vLLM", "VLLM", "SGLang", "TensorRT-LLM", "trtllm", "hf", "LlamaCpp", "mlx_lm"]
)
def test_engines_by_the_names_people_write(name):
    assert llmcalc.vram("qwen3-0.6b", engine=name, quant="q8_0" if "ama" in name else None).total_bytes > 0


def test_an_engine_that_is_none_of_them_is_told_with_the_nearest():
    with pytest.raises(llmcalc.LlmcalcError, match="Did you mean vllm"):
        llmcalc.vram("qwen3-0.6b", engine="vlm")
