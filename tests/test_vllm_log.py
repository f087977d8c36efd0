"""Logs of vLLM: what is read of them, what is predicted beside it, and what can't be compared."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from llmcalc.api.validation import validate
from llmcalc.errors import LlmcalcError
from llmcalc.validation.against_vllm import names_of, options_of, scheme_of
from llmcalc.validation.vllm_log import VllmLog, is_vllm, read_vllm_log

LOGS = Path(__file__).parent / "data" / "logs"


def rows(name, model=None, **more):
    found = validate(model, log=LOGS / f"vllm-{name}.log", **more)
    return {row.kind: row for row in found.rows}, found


def cli(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "llmcalc", "validate", *arguments], capture_output=True, text=True, check=False
    )


# -- what is predicted ----------------------------------------------------------------------------


def test_one_gpu_of_2026():
    found, whole = rows("2026-04-one-gpu")
    assert whole.log.build == "0.19.0"
    assert whole.log.memory == 79.19
    assert set(found) == {
        "weights", "activations", "non_torch", "cuda_graphs", "kv_budget", "kv_tokens", "concurrency",
    }  # fmt: skip
    for kind in ("weights", "activations", "kv_budget", "kv_tokens", "concurrency"):
        assert abs(found[kind].error) < 0.001, kind
    assert found["cuda_graphs"].error == pytest.approx(0, abs=0.1)


def test_two_ranks_print_one_figure():
    found, whole = rows("2026-04-two-gpus")
    assert [number for number, _ in found["weights"].figure.lines] == [3, 4]
    assert abs(found["weights"].error) < 0.001
    assert (found["kv_tokens"].predicted, found["concurrency"].predicted) == (244_304, 29.82)
    assert "Llama-3.3-70B-Instruct-fp8-dynamic" in whole.doubt


def test_the_engine_before():
    found, whole = rows("2025-03-before-v1")
    assert whole.report.scenario["gpu_memory_utilization"] == 0.9
    assert found["cpu_blocks"].predicted == 9362  # 4 GiB of swap space over 458,752 bytes a block
    assert abs(found["blocks"].error) < 0.001
    assert abs(found["kv_budget"].error) < 0.01


def test_the_profile_in_one_line():
    found, _ = rows("2024-12-profile-line")
    assert found["kv_budget"].printed == 3.81
    assert found["non_torch"].printed == 0.35
    assert abs(found["kv_budget"].error) < 0.01
    assert found["concurrency"].error == 0


def test_a_refusal_of_vllm_is_compared():
    found, whole = rows("2026-03-refused")
    assert found["kv_needed"].predicted == pytest.approx(5.625)
    assert found["longest"].predicted == 35_600
    assert found["kv_budget"].predicted is None  # without the GPU's memory
    assert "the GPU's memory" in whole.log.missing


def test_a_hybrid_with_drafts_to_the_digit():
    found, _ = rows("2026-hybrid-drafts")
    for kind in ("block", "padding", "kv_tokens", "concurrency"):
        assert found[kind].error == 0, kind


# -- what is read ---------------------------------------------------------------------------------


def log_of(**told):
    log = VllmLog()
    log.told = told
    return log


@pytest.mark.parametrize(
    ("told", "own", "scheme"),
    [
        ({"model": "a/B"}, False, "none"),
        ({"model": "a/B"}, True, None),
        ({"model": "a/B-AWQ", "quantization": "awq_marlin"}, False, "awq"),
        ({"model": "a/B-GPTQ-Int4", "quantization": "gptq_marlin"}, False, "gptq"),
        ({"model": "RedHatAI/B-quantized.w8a8", "quantization": "compressed-tensors"}, False, "w8a8"),
        ({"model": "RedHatAI/B-quantized.w4a16", "quantization": "compressed-tensors"}, False, "w4a16"),
        ({"model": "RedHatAI/B-FP8-dynamic", "quantization": "compressed-tensors"}, False, "fp8-dynamic"),
        ({"model": "RedHatAI/B-NVFP4", "quantization": "compressed-tensors"}, False, "nvfp4"),
        ({"model": "a/B-FP8", "quantization": "fp8"}, True, None),
        ({"model": "unsloth/B-bnb-4bit", "quantization": "bitsandbytes"}, False, "nf4-dq"),
        ({"model": "/m/B-Q4_K_M.gguf", "quantization": "gguf"}, False, "q4_k_m"),
        ({"model": "openai/gpt-oss-20b", "quantization": "mxfp4"}, True, None),
    ],
)
def test_schemes(told, own, scheme):
    assert scheme_of(log_of(**told), own) == scheme


def test_names():
    told = names_of(log_of(model="hugging-quants/Meta-Llama-3.1-405B-Instruct-AWQ-INT4"))
    assert "Llama-3.1-405B-Instruct" in told
    assert names_of(log_of(model="/data/Qwen2___5-7B-Instruct/"))[1] == "Qwen2.5-7B-Instruct"
    assert names_of(log_of()) == []


def test_options():
    log = read_vllm_log(
        "non-default args: {'kv_cache_dtype': 'fp8_e5m2', 'block_size': 64, 'swap_space': 8.0, "
        "'decode_context_parallel_size': 8, 'disable_hybrid_kv_cache_manager': True}\n"
        "Initializing a V0 LLM engine (v0.8.5) with config: model='x', dtype=torch.float16, max_seq_len=100\n"
        "Model loading took 1.5 GiB and 2 seconds",
        "x",
    )
    assert options_of(log, False) == {
        "context": "100", "dtype": "fp16", "dcp": "8", "disable_hybrid_kv_cache_manager": True,
        "kv_dtype": "fp8", "block_size": "64", "engine_version": "0.8.5 V0", "quant": "none",
    }  # fmt: skip
    assert log.told["swap_space"] == "8.0"


@pytest.mark.parametrize(
    ("line", "kind", "value"),
    [
        ("Model loading took 10.24 GiB memory and 2.623740 seconds", "weights", 10.24),
        ("Loading model weights took 17.98 GB", "weights", 17.98),
        ("GPU KV cache size: 172,032 tokens, Maximum concurrency for 172,032 tokens per request: 1.00x",
         "concurrency", 1.0),
        ("# cuda blocks: 27,893, # CPU blocks: 4096", "blocks", 27893),
        ("Available KV cache memory: -2.14 GiB", "kv_budget", -2.14),
        ("Actual usage is 10.47 GiB for consumed memory (weights + non-torch), 0.79 GiB for peak activation, "
         "and 0.04 GiB for CUDAGraph memory", "activations", 0.79),
        ("Setting attention block size to 3072 tokens to ensure that", "block", 3072),
        ("max seq len (131072), (16.00 GiB KV cache is needed, which", "kv_needed", 16.0),
        ("max seq len (4096), 1.0 GiB KV cache is needed, which", "kv_needed", 1.0),
    ],
)  # fmt: skip
def test_lines(line, kind, value):
    log = read_vllm_log(
        f"\x1b[1;36m(EngineCore pid=1)\x1b[0;0m INFO 01-01 [x.py:1] {line}\r\nGPU blocks: x", "x"
    )
    assert log.first(kind) == value


def test_old_lines_are_of_vllm():
    assert is_vllm("INFO # GPU blocks: 37375, # CPU blocks: 7281")
    assert not is_vllm("llama_context: n_ctx = 4096")


# -- what can't be compared -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "is empty"),
        (
            b"INFO [core.py:1] Initializing a V1 LLM engine (v0.19.0) with config: model='a/b', dtyp",
            "no size",
        ),
        (b"vLLM API server version 0.19.0", "no size"),
        (b"\x00\x01\x02GPU KV cache size: 1 tokens" * 40, "not text"),
        (b"INFO 09-01 [server.py] sglang: mem_fraction_static=0.88", "SGLang"),
        (b"nothing of it", "another program"),
        (b"GPU KV cache size: 4,096 tokens", "not in the catalog"),
        (b"config: model='no/such'\nInitializing a V1 LLM engine\nModel loading took 1 GiB", "no/such"),
    ],
)
def test_bad_logs(tmp_path, text, words):
    file = tmp_path / "x.log"
    file.write_bytes(text)
    with pytest.raises(LlmcalcError) as caught:
        validate(log=file)
    assert words in str(caught.value)


def test_a_log_cut_in_the_middle(tmp_path):
    """What was printed before the cut is compared all the same."""
    text = (LOGS / "vllm-2026-04-one-gpu.log").read_text(encoding="utf-8")
    file = tmp_path / "cut.log"
    file.write_text(text[: text.index("Available KV")], encoding="utf-8")
    found = {row.kind for row in validate(log=file).rows}
    assert {"weights", "activations"} <= found
    assert "kv_tokens" not in found


def test_a_huge_log_takes_a_moment(tmp_path):
    file = tmp_path / "huge.log"
    noise = (
        "(EngineCore pid=1) INFO 01-01 10:00:00 [loggers.py:1] Avg prompt throughput: 1.0 tokens/s " * 3
        + "\n"
    )
    head = (LOGS / "vllm-2026-04-one-gpu.log").read_text(encoding="utf-8")
    file.write_text(head + noise * 100_000 + "x" * 3_000_000, encoding="utf-8")
    start = time.process_time()
    assert len(validate(log=file).rows) == 7
    assert time.process_time() - start < 10


def test_another_release_than_any_known(tmp_path):
    text = (LOGS / "vllm-2026-04-one-gpu.log").read_text(encoding="utf-8").replace("v0.19.0", "v0.99.0")
    file = tmp_path / "new.log"
    file.write_text(text, encoding="utf-8")
    assert any("0.99.0 is not known" in warning for warning in validate(log=file).report.warnings)


def test_the_command():
    done = cli("--log", str(LOGS / "vllm-2026-hybrid-drafts.log"), "--rows")
    assert done.returncode == 0, done.stderr
    assert "padding layers" in done.stdout
    assert "Setting attention block size to 1600" in done.stdout  # the line itself
    told = json.loads(cli("--log", str(LOGS / "vllm-2026-04-one-gpu.log"), "--json").stdout)
    assert told["program"] == "vLLM"
    assert {row["kind"]: row["unit"] for row in told["rows"]}["kv_tokens"] == "tokens"


def test_the_model_may_be_named():
    found, _ = rows("2026-03-refused", "qwen3-4b")
    assert found["longest"].error == 0


def test_half_a_number_is_not_believed(tmp_path):
    whole = (LOGS / "vllm-2026-03-refused.log").read_text()
    cut = whole[
        : whole.index("estimated maximum model length is") + len("estimated maximum model length is 35")
    ]
    file = tmp_path / "cut.log"
    file.write_text(cut)
    done = cli("qwen3-4b", "--log", str(file), "--json")
    if done.returncode == 0:
        told = json.loads(done.stdout)
        assert "longest" not in {row["kind"] for row in told["rows"]}
        assert told["notes"] == ["The last line is cut off, and left out."]
    else:
        assert "no size" in done.stderr


def test_a_damaged_setting_is_left_out(tmp_path):
    whole = (LOGS / "vllm-2026-04-one-gpu.log").read_text()
    file = tmp_path / "damaged.log"
    file.write_text(whole.replace("tensor_parallel_size=1", "tensor_parallel_size=1-"))
    assert cli("--log", str(file)).returncode == 0


def test_options_of_the_published_runs_are_not_for_logs():
    file = str(LOGS / "vllm-2026-04-one-gpu.log")
    done = cli("--log", file, "--engine", "sglang")
    assert (done.returncode, "chooses among the published runs" in done.stderr) == (2, True)
    assert "names no file" in cli("--log", "").stderr
