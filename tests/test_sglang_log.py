"""Logs of SGLang: what is read of them, and what is predicted beside it."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from llmcalc.api.validation import validate
from llmcalc.errors import LlmcalcError
from llmcalc.validation.sglang_log import is_sglang, options_of, read_sglang_log

LOGS = Path(__file__).parent / "data" / "logs"


def rows(name, model=None, **more):
    found = validate(model, log=LOGS / f"sglang-{name}.log", **more)
    return {row.kind: row for row in found.rows}, found


def test_four_ranks():
    found, whole = rows("2025-03-four-gpus", engine_version="0.4.3")
    assert set(found) == {"weights", "kv_tokens", "cuda_graphs"}
    assert abs(found["weights"].error) < 0.005
    assert abs(found["kv_tokens"].error) < 0.025  # the pool is 2.84 of 21.63 GiB
    assert whole.log.memory == 21.63
    assert whole.report.scenario["mem_fraction_static"] == 0.85
    assert whole.report.scenario["speculative_num_draft_tokens"] == 0
    assert [number for number, _ in found["weights"].figure.lines] == [5, 6]
    assert "21.63" not in whole.to_text()
    assert "free when loading began" in whole.to_text(rows=True)


def test_slots_of_a_hybrid():
    found, whole = rows("2026-02-hybrid", engine_version="0.5.9")
    assert (found["state_slots"].printed, found["state_slots"].predicted) == (38, 38)
    assert abs(found["kv_tokens"].error) < 0.01
    assert abs(found["weights"].error) < 0.005
    assert "the release" in whole.log.missing


def test_windows():
    text = (
        "sglang==0.5.13\nserver_args=ServerArgs(model_path='openai/gpt-oss-20b', mem_fraction_static=0.8)\n"
        "Load weight begin. avail mem=78.70 GB\n"
        "Use sliding window memory pool. full_layer_tokens=1000000, swa_layer_tokens=800000\n"
        "max_total_num_tokens=1000000, context_len=131072\n"
    )
    log = read_sglang_log(text, "it")
    assert (log.build, log.first("window_tokens")) == ("0.5.13", 800_000)
    assert options_of(log, True) == {
        "mem_fraction_static": "0.8", "context": 131_072, "engine_version": "0.5.13",
    }  # fmt: skip


def test_what_is_no_log_of_it():
    assert not is_sglang("INFO vLLM API server version 0.19.0")
    with pytest.raises(LlmcalcError, match="holds no size"):
        read_sglang_log("server_args=ServerArgs(model_path='a')", "cut.log")


def test_an_unknown_model(tmp_path):
    file = tmp_path / "a.log"
    file.write_text(
        "server_args=ServerArgs(model_path='/m/unheard-of')\n"
        "Load weight end. avail mem=1.00 GB, mem usage=2.00 GB\n"
    )
    with pytest.raises(LlmcalcError, match="unheard-of"):
        validate(log=file)
    assert validate("llama-3.2-1b", log=file).rows


def test_time_is_linear():
    line = "KV Cache is allocated. #tokens: 1, K size: 1.0 GB, " + "9" * 60_000 + "\n"
    start = time.perf_counter()
    read_sglang_log("Load weight end. avail mem=1.00 GB, mem usage=2.00 GB\n" + line * 200, "it")
    assert time.perf_counter() - start < 2


def test_command_line():
    done = subprocess.run(
        [sys.executable, "-m", "llmcalc", "validate", "--log", str(LOGS / "sglang-2025-03-four-gpus.log")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "SGLang" in done.stdout
    assert "15.54" in done.stdout


def test_a_damaged_number_of_ranks_is_left_out(tmp_path):
    whole = (LOGS / "sglang-2025-03-four-gpus.log").read_text()
    assert "tp_size=4" in whole
    file = tmp_path / "damaged.log"
    file.write_text(whole.replace("tp_size=4", "tp_size=4-"))
    done = subprocess.run(
        [sys.executable, "-m", "llmcalc", "validate", "--log", str(file)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "Internal error" not in done.stderr
