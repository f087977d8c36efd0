"""The start command of a plan: parsed back it is the same plan; quoting; what it refuses."""

import json
import shlex
import subprocess
import sys

import pytest

import llmcalc
from llmcalc.errors import LlmcalcError
from llmcalc.render.data import plain

VLLM = [
    ("llama-3.1-70b", "4xh100", {"context": 32_768, "kv_dtype": "fp8", "quant": "fp8"}),
    ("llama-3.1-8b", "l4", {"sequences": 4, "enforce_eager": True, "gpu_memory_utilization": "0.85"}),
    ("gpt-oss-20b", "h100", {"context": 131_072, "disable_hybrid_kv_cache_manager": True}),
    ("gemma-3-27b", "8xh100", {"tp": 4, "pp": 2, "max_num_seqs": 64, "max_num_batched_tokens": 4096}),
    ("deepseek-v3", "16xh200", {"tp": 8, "pp": 2, "dcp": 8}),
    ("qwen3-32b", "2xh100", {"quant": "awq", "block_size": 32, "kv_dtype": "int8-token-head"}),
    ("qwen3-32b", "4xh100", {"tp": 2, "dp": 2, "dtype": "fp16", "kv_cache_memory": "20GiB"}),
    ("qwen3.5-27b", "h100", {"enable_prefix_caching": True, "num_speculative_tokens": 3}),
    ("qwen3-14b", "h100", {"async_scheduling": "off", "prompt": 3000, "output": 1000}),
    ("qwen3-14b", "h100", {"async_scheduling": "on", "max_model_len": "16K"}),
    ("llama-2-7b", "h100", {"context": 8192, "allow_overlong": True}),
]


def run(*words):
    done = subprocess.run([sys.executable, "-m", "llmcalc", *words], capture_output=True, text=True)
    assert "Traceback" not in done.stderr
    return done


def read_back(words, asked):
    """The command line of llmcalc that vLLM's words ask for."""
    words = words[2:] if words[0] == "env" else words
    assert words[:2] == ["vllm", "serve"]
    found, rest = [words[2]], iter(words[3:])
    for word in rest:
        if word == "--speculative-config":
            found += ["--num-speculative-tokens", str(json.loads(next(rest))["num_speculative_tokens"])]
        elif word in ("--async-scheduling", "--no-async-scheduling"):
            found += ["--async-scheduling", "off" if "-no-" in word else "on"]
        else:
            found.append(word)
    for keyword in ("sequences", "allow_overlong"):  # a server has no such option
        if keyword in asked:
            found += [
                f"--{keyword.replace('_', '-')}",
                *([] if asked[keyword] is True else [str(asked[keyword])]),
            ]
    return found


@pytest.mark.parametrize(("model", "gpu", "asked"), VLLM, ids=lambda v: v if isinstance(v, str) else "")
def test_vllm_read_back_is_the_same_plan(model, gpu, asked):
    plan = llmcalc.vram(model, engine="vllm", gpu=gpu, **asked)
    command = llmcalc.serve_command(plan)
    assert "\n" not in command
    assert shlex.split(command) == command.words
    back = read_back(command.words, asked)
    data = json.loads(run("vram", *back, "--engine", "vllm", "--gpu", gpu, "--json").stdout)
    assert data["total_bytes"] == plan.total_bytes
    assert data["capacity"] == {**plain(plan.capacity.to_dict()), "as_placed": False}
    mine = plain(plan.scenario)
    for name in ("prompt", "output"):  # a server knows their sum
        assert mine.pop(name) in (None, asked.get(name))
        data["scenario"].pop(name)
    assert data["scenario"] == mine


@pytest.mark.parametrize(
    ("model", "gpu", "asked"),
    [
        ("qwen3-14b", "rtx-4090", {"quant": "q4_k_m", "sequences": 2, "kv_dtype": "q8_0"}),
        ("qwen3-14b", "2xrtx-3090", {"quant": "q8_0", "tensor_split": "3,2", "ubatch": 1024}),
        ("qwen3-30b-a3b", "rtx-3060", {"quant": "q4_k_m", "n_cpu_moe": 30, "kv_unified": True}),
        ("gemma-3-27b", "h100", {"swa_full": True, "flash_attn": "off"}),
        ("qwen3-14b", "rtx-3060", {"quant": "q8_0", "fit": True}),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_llama_server_read_back_is_the_same_plan(model, gpu, asked):
    plan = llmcalc.vram(model, engine="llama.cpp", gpu=gpu, **asked)
    words = list(llmcalc.serve_command(plan).words)
    assert words[:2] == ["llama-server", "-m"]
    assert words[-2:] == ["--fit", "off"]
    found = words[3:-2]
    if "-b" in found:
        place = found.index("-b")
        assert found[place + 1] == str(max(int(asked["ubatch"]), 2048))
        found = found[:place] + found[place + 2 :]
    quant = ["--quant", asked["quant"]] if "quant" in asked else []
    done = run("vram", model, *found, *quant, "--engine", "llama.cpp", "--gpu", gpu, "--json")
    data = json.loads(done.stdout)
    assert data["total_bytes"] == plan.total_bytes
    assert data["host_bytes"] == plan.host_bytes
    assert data["scenario"]["context"] == plan.scenario["context"]


def test_ollama_and_mlx():
    plan = llmcalc.vram("qwen3-8b", engine="ollama", gpu="rtx-3060", context=8192, kv_dtype="q8_0")
    command = llmcalc.serve_command(plan)
    assert command == (
        "env OLLAMA_CONTEXT_LENGTH=8192 OLLAMA_NUM_PARALLEL=1 OLLAMA_FLASH_ATTENTION=1 "
        "OLLAMA_KV_CACHE_TYPE=q8_0 ollama serve"
    )
    assert "PARAMETER num_ctx 8192" in command.notes[0]
    plan = llmcalc.vram("qwen3-8b", engine="mlx", gpu="m4-max-64gb", sequences=4)
    assert llmcalc.serve_command(plan) == (
        "mlx_lm.server --model Qwen/Qwen3-8B --decode-concurrency 4 --prompt-concurrency 4"
    )


def test_a_path_is_quoted(tmp_path):
    folder = tmp_path / "it's a model; rm -rf"
    folder.mkdir()
    config = {"model_type": "llama", "vocab_size": 32000, "hidden_size": 64, "intermediate_size": 128,
              "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 4,
              "max_position_embeddings": 2048}  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    done = run("vram", str(folder), "--engine", "vllm", "--gpu", "l4", "--serve-command")
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == 1
    assert shlex.split(done.stdout)[2] == str(folder)


def test_it_is_the_only_line_and_notes_go_beside():
    done = run("fit", "llama-3.1-70b", "--engine", "vllm", "--gpu", "h100", "--quant", "gptq",
               "--ctx", "128k", "--serve-command")  # fmt: skip
    assert done.returncode == 1
    assert done.stdout.startswith("vllm serve meta-llama/Llama-3.1-70B ")
    assert done.stdout.count("\n") == 1
    assert "checkpoint stored so" in done.stderr
    assert "does not fit" in done.stderr


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["llama-3.1-8b", "--gpu", "h100"], "needs an engine"),
        (["13b"], "needs an engine"),
        (["llama-3.1-8b", "--engine", "vllm", "--gpu", "h100,l4"], "one kind of GPU"),
        (["llama-3.1-8b", "--engine", "vllm", "--gpu", "nosuch"], "no GPU"),
    ],
)
def test_bad_input(words, told):
    done = run("vram", *words, "--serve-command")
    assert done.returncode == 2
    assert told in done.stderr
    assert done.stdout == ""


def test_arrays_are_no_plan():
    with pytest.raises(LlmcalcError, match="one context"):
        llmcalc.serve_command(llmcalc.vram("llama-3.1-8b", engine="vllm", context=[1024, 2048]))


SGLANG = [
    ("qwen3-8b", "rtx-4090", {"quant": "fp8", "kv_dtype": "fp8", "page_size": 16, "sequences": 4}),
    ("llama-3.1-70b", "4xh100", {"context": 32_768, "tp": 2, "pp": 2, "chunked_prefill_size": 4096}),
    ("deepseek-v3", "16xh200", {"tp": 16, "dp": 4, "enable_dp_attention": True, "cuda_graph_max_bs": 64}),
    ("deepseek-v3", "8xh200", {"speculative_num_draft_tokens": 4, "max_running_requests": 32}),
    ("qwen3.5-27b", "h200", {"mamba_full_memory_ratio": 0.5, "mamba_ssm_dtype": "bf16"}),
    ("qwen3.5-27b", "h200", {"max_mamba_cache_size": 100, "disable_radix_cache": True}),
    ("gpt-oss-20b", "h100", {"swa_full_tokens_ratio": 0.5, "disable_cuda_graph": True, "context": 65_536}),
    ("gpt-oss-20b", "h100", {"disable_hybrid_swa_memory": True, "max_total_tokens": 200_000}),
    ("gemma-3-27b", "2xh100", {"engine_version": "0.5.9", "mem_fraction_static": 0.85}),
    ("llama-2-7b", "h100", {"context": 8192, "allow_overlong": True, "dtype": "fp16"}),
]
"""Plans of SGLang."""

UNTOLD = ("sequences", "allow_overlong", "engine_version")
"""What no option of a server says."""


def told_again(asked):
    """Options of llmcalc that a server has none for."""
    rest = {name: value for name, value in asked.items() if name in UNTOLD}
    return [
        word
        for name, value in rest.items()
        for word in [f"--{name.replace('_', '-')}", *([] if value is True else [str(value)])]
    ]


def from_sglang(words):
    """The command line of llmcalc that SGLang's words ask for."""
    words = words[2:] if words[0] == "env" else words
    assert words[:4] == ["python", "-m", "sglang.launch_server", "--model-path"]
    found, rest = [words[4]], iter(words[5:])
    names = {"--tp-size": "--tp", "--pp-size": "--pp", "--dp-size": "--dp", "--context-length": "--context",
             "--quantization": "--quant", "--kv-cache-dtype": "--kv-dtype"}  # fmt: skip
    for word in rest:
        if word in ("--speculative-algorithm", "--speculative-num-steps", "--speculative-eagle-topk"):
            next(rest)
            continue
        found.append(names.get(word, word))
    return found


@pytest.mark.parametrize(("model", "gpu", "asked"), SGLANG, ids=lambda v: v if isinstance(v, str) else "")
def test_sglang_read_back_is_the_same_plan(model, gpu, asked):
    plan = llmcalc.vram(model, engine="sglang", gpu=gpu, **asked)
    command = llmcalc.serve_command(plan)
    assert shlex.split(command) == command.words
    back = [*from_sglang(command.words), *told_again(asked)]
    data = json.loads(run("vram", *back, "--engine", "sglang", "--gpu", gpu, "--json").stdout)
    assert data["total_bytes"] == plan.total_bytes
    assert data["capacity"] == {**plain(plan.capacity.to_dict()), "as_placed": False}
    assert data["scenario"] == plain(plan.scenario)


TRT = [
    ("qwen3-8b", "rtx-4090", {"context": 4096, "max_batch_size": 64, "enforce_eager": True}),
    ("llama-3.1-70b", "4xh100", {"tp": 2, "pp": 2, "kv_dtype": "fp8", "free_gpu_memory_fraction": 0.8}),
    ("gemma-3-27b", "2xh100", {"tokens_per_block": 64, "max_num_tokens": 4096, "kv_dtype": "fp8"}),
]
"""Plans of TensorRT-LLM."""


def from_trtllm(command):
    """The command line of llmcalc that trtllm-serve's words and its file ask for."""
    words = command.words
    assert words[0] == "trtllm-serve"
    found, rest = [words[1]], iter(words[2:])
    for word in rest:
        if word == "--extra_llm_api_options":
            assert next(rest) == "options.yaml"
            continue
        name = {"--tp_size": "--tp", "--pp_size": "--pp", "--max_seq_len": "--context"}.get(word, word)
        found.append(name.replace("_", "-") if name.startswith("--") else name)
    for note in command.notes:
        for line in note.partition(" holds: ")[2].split("; "):
            if line == "cuda_graph_config: null":
                found.append("--enforce-eager")
            elif line.startswith("kv_cache_config"):
                for pair in line.partition("{")[2].rstrip("}").split(", "):
                    name, value = pair.split(": ")
                    option = {"dtype": "--kv-dtype", "tokens_per_block": "--tokens-per-block"}[name]
                    found += [option, value]
    return found


@pytest.mark.parametrize(("model", "gpu", "asked"), TRT, ids=lambda v: v if isinstance(v, str) else "")
def test_trtllm_read_back_is_the_same_plan(model, gpu, asked):
    plan = llmcalc.vram(model, engine="tensorrt-llm", gpu=gpu, **asked)
    back = from_trtllm(llmcalc.serve_command(plan))
    data = json.loads(run("vram", *back, "--engine", "tensorrt-llm", "--gpu", gpu, "--json").stdout)
    assert data["total_bytes"] == plan.total_bytes
    assert data["scenario"] == plain(plan.scenario)


def test_what_a_server_does_not_do_by_itself_is_told():
    plan = llmcalc.vram("llama-3.1-8b", engine="sglang", gpu="h100", draft="eagle3", quant="awq")
    command = llmcalc.serve_command(plan)
    assert "--speculative-algorithm EAGLE3 --speculative-draft-model-path DRAFT" in command
    assert any("checkpoint stored so" in note for note in command.notes)
    assert any("DRAFT stands for" in note for note in command.notes)
    served = llmcalc.vram("llama-3.1-8b", engine="tensorrt-llm", gpu="2xh100", dp=2)
    assert any("Start 2 of them" in note for note in llmcalc.serve_command(served).notes)
