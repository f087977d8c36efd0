"""Start-up logs of llama.cpp, ik_llama.cpp and Ollama."""

import contextlib
import time
from pathlib import Path

import pytest

from llmcalc.errors import InputError
from llmcalc.validation.log import is_host, read_log, read_log_file

LOGS = Path(__file__).parent / "data" / "logs"

# What the logs print, typed from them: kind and device to MiB, for the model that answers.
PRINTED = {
    "2023-cuda-partial": {
        ("weights", "CPU"): 4321.77,
        ("compute", "VRAM"): 512,
        ("kv_cache", None): 512,
    },
    "2023-12-cuda-two-gpus": {
        ("weights", "CPU"): 70.42,
        ("weights", "VRAM"): 3577.55,
        ("kv_cache", "VRAM"): 256,
        ("compute", "CPU"): 73.69,
        ("compute", "VRAM"): 70.5,
    },
    "2023-12-metal": {
        ("weights", "CPU"): 3647.97,
        ("kv_cache", None): 256,
        ("compute", "CPU"): 73.57,
    },
    "2024-01-ollama-journal-cut": {
        ("weights", "CPU"): 70.31,
        ("weights", "CUDA0"): 4695.56,
        ("weights", "CUDA1"): 3912.97,
    },
    "2024-05-cuda-two-gpus": {
        ("weights", "CPU"): 281.81,
        ("weights", "CUDA0"): 2113.28,
        ("weights", "CUDA1"): 2290.21,
        ("kv_cache", "CUDA0"): 544,
        ("kv_cache", "CUDA1"): 480,
        ("output", "CUDA_Host"): 0.49,
        ("compute", "CUDA0"): 640.01,
        ("compute", "CUDA1"): 640.02,
        ("compute", "CUDA_Host"): 72.02,
    },
    "2024-05-metal": {
        ("weights", "Metal"): 4403.5,
        ("weights", "CPU"): 281.81,
        ("kv_cache", "Metal"): 64,
        ("output", "CPU"): 0.49,
        ("compute", "Metal"): 258.5,
        ("compute", "CPU"): 9.01,
    },
    "2025-03-ollama-cpu": {
        ("kv_cache", "CPU"): 4048,
        ("output", "CPU"): 2.02,
        ("compute", "CPU"): 2119.26,
    },
    "2025-04-rocm-eight-gpus": {
        ("weights", "ROCm0"): 35642.36,
        ("weights", "ROCm1"): 52215.3,
        ("weights", "ROCm2"): 51287.7,
        ("weights", "ROCm3"): 52215.3,
        ("weights", "ROCm4"): 52215.3,
        ("weights", "ROCm5"): 51287.7,
        ("weights", "ROCm6"): 46963.85,
        ("weights", "ROCm7"): 43364.99,
        ("weights", "CPU"): 497.11,
        **{("kv_cache", f"ROCm{gpu}"): 5120 for gpu in range(6)},
        ("kv_cache", "ROCm6"): 4480,
        ("kv_cache", "ROCm7"): 3840,
        ("output", "ROCm_Host"): 2.08,
        **{("compute", f"ROCm{gpu}"): 2322.01 for gpu in range(7)},
        ("compute", "ROCm7"): 2322.02,
        ("compute", "ROCm_Host"): 78.02,
    },
    "2025-05-ik-mla": {
        ("weights", "CPU"): 142690.3,
        ("weights", "CUDA_Host"): 497.11,
        ("weights", "CUDA0"): 18265.88,
        ("weights", "CUDA1"): 17471.11,
        ("weights", "CUDA2"): 17472.86,
        ("weights", "CUDA3"): 42378.83,
        ("kv_cache", "CUDA0"): 510,
        ("kv_cache", "CUDA1"): 408,
        ("kv_cache", "CUDA2"): 408,
        ("kv_cache", "CUDA3"): 748,
        ("output", "CUDA_Host"): 0.99,
        ("compute", "CUDA0"): 4522,
        ("compute", "CUDA1"): 4481,
        ("compute", "CUDA2"): 4481,
        ("compute", "CUDA3"): 4481,
        ("compute", "CUDA_Host"): 78.5,
    },
    "2025-05-cuda-experts-on-cpu": {
        ("weights", "CUDA0"): 22412.07,
        ("weights", "CUDA1"): 17714.47,
        ("weights", "CUDA2"): 21610.08,
        ("weights", "CUDA3"): 42786.36,
        ("weights", "CPU"): 134253.11,
        ("kv_cache", "CUDA0"): 510,
        ("kv_cache", "CUDA1"): 408,
        ("kv_cache", "CUDA2"): 408,
        ("kv_cache", "CUDA3"): 748,
        ("output", "CUDA_Host"): 0.49,
        ("compute", "CUDA0"): 3285,
        ("compute", "CUDA1"): 788,
        ("compute", "CUDA2"): 788,
        ("compute", "CUDA3"): 788.01,
        ("compute", "CUDA_Host"): 92.01,
    },
    "2025-08-metal-window-full": {
        ("output", "CPU"): 0.77,
        ("kv_cache", "Metal"): 144,
        ("kv_swa", "Metal"): 144,
        ("compute", "Metal"): 819.26,
        ("compute", "CPU"): 25.64,
    },
    "2025-08-vulkan-window": {
        ("weights", "Vulkan0"): 4699.9,
        ("weights", "CPU_Mapped"): 7218.45,
        ("output", "CPU"): 0.77,
        ("kv_cache", "Vulkan0"): 96,
        ("kv_swa", "Vulkan0"): 15,
        ("compute", "Vulkan0"): 985.2,
        ("compute", "Vulkan_Host"): 58.33,
    },
    "2025-09-ollama-engine": {
        ("weights", "ROCm0"): 61235.2,  # 59.8 GiB
        ("weights", "CPU"): 1126.4,  # 1.1 GiB
        ("kv_cache", "ROCm0"): 450,
        ("compute", "ROCm0"): 121.8,
        ("compute", "CPU"): 5.6,
    },
    "2025-hexagon-table": {
        ("weights", "CPU"): 225.49,
        ("weights", "HTP0"): 504.26,
    },
    "2026-05-cuda-draft-and-projector": {
        ("weights", "CPU_Mapped"): 682.03,
        ("weights", "CUDA0"): 16386.94,
        ("output", "CUDA_Host"): 3.79 + 3.79,
        ("kv_cache", "CUDA0"): 4352 + 272,
        ("state", "CUDA0"): 598.5,
        ("compute", "CUDA0"): 495 + 495,
        ("compute", "CUDA_Host"): 276.29 + 276.28,
    },
    "2026-vulkan-hybrid-draft": {
        ("weights", "CPU_Mapped"): 682.03,
        ("weights", "Vulkan0"): 15009.2,
        ("output", "Vulkan_Host"): 3.79 + 3.79,
        ("kv_cache", "Vulkan0"): 512 + 32,
        ("state", "Vulkan0"): 1795.5,
        ("compute", "Vulkan0"): 568.53 + 520.06,
        ("compute", "Vulkan_Host"): 112.07 + 112.07,
    },
    "2026-rocm-measuring-pass": {
        ("weights", "CPU_Mapped"): 322.07,
        ("weights", "ROCm0"): 6539.67,
        ("kv_cache", "ROCm0"): 2176,
        ("state", "ROCm0"): 149.62,
        ("compute", "ROCm0"): 410.28,
        ("compute", "ROCm_Host"): 84.28,
    },
    "2026-09-cpu-window": {
        ("weights", "CPU_Mapped"): 1907.39,
        ("output", "CPU"): 2,
        ("kv_cache", "CPU"): 16,
        ("kv_swa", "CPU"): 44,
        ("compute", "CPU"): 52.27,
    },
    "2026-09-cpu-window-measured": {
        ("weights", "CPU"): 0,
        ("output", "CPU"): 2,
        ("kv_cache", None): 16,
        ("kv_swa", None): 44,
        ("compute", "CPU"): 52.27,
    },
}

# Program, build, commit; then of the model: architecture, file type, GiB, bits, parameters, layers on GPUs.
MODELS = {
    "2023-cuda-partial": ("llama.cpp", None, None, None, "Q4_0", None, None, None, (10, 35)),
    "2023-12-cuda-two-gpus": ("llama.cpp", 1691, "7082d24", "llama", "Q4_0", 3.56, 4.54, 6.74e9, (33, 33)),
    "2023-12-metal": ("llama.cpp", None, None, "llama", "Q4_0", 3.56, 4.54, 6.74e9, None),
    "2024-01-ollama-journal-cut": ("ollama", None, None, None, None, 24.62, 4.53, None, (33, 33)),
    "2024-05-cuda-two-gpus": (
        "llama.cpp", 2833, "d46dbc76", "llama", "Q4_K - Medium", 4.58, 4.89, 8.03e9, (33, 33),
    ),
    "2025-03-ollama-cpu": ("ollama", None, None, None, None, None, None, None, None),
    "2025-04-rocm-eight-gpus": ("llama.cpp", None, None, None, None, None, None, None, (62, 62)),
    "2025-05-ik-mla": ("ik_llama.cpp", None, None, None, None, None, None, None, (62, 62)),
    "2025-05-cuda-experts-on-cpu": (
        "llama.cpp", 5331, "33eff402", "deepseek2", "Q2_K - Medium", 233.18, 2.98, 671.03e9, (62, 62),
    ),
    "2025-08-vulkan-window": (
        "llama.cpp", 6182, "1fe00296f", None, "MXFP4 MoE", 11.27, 4.63, None, (24, 25),
    ),
    "2025-09-ollama-engine": ("ollama", None, None, None, None, None, None, None, (37, 37)),
    "2026-05-cuda-draft-and-projector": (
        "llama.cpp", None, None, None, None, None, None, 27.32e9, (66, 66),
    ),
    "2026-09-cpu-window": ("llama.cpp", None, None, "gemma3", "F16", 1.86, 16, 999.89e6, None),
}  # fmt: skip

# n_ctx, n_ctx_seq, n_batch, n_ubatch, n_seq_max, flash_attn, kv_unified, type_k, type_v
SETTINGS = {
    "2023-cuda-partial": (1024, None, None, None, None, None, None, None, None),
    "2023-12-cuda-two-gpus": (512, None, None, None, None, None, None, "f16", "f16"),
    "2024-05-cuda-two-gpus": (8192, None, 2048, 512, None, False, None, "f16", "f16"),
    "2025-04-rocm-eight-gpus": (8192, 2048, 2048, 512, 4, False, None, "f16", "f16"),
    "2025-05-ik-mla": (16384, None, 2048, 512, None, False, None, "f16", "f16"),
    "2025-05-cuda-experts-on-cpu": (16384, 16384, 2048, 1024, 1, True, None, "f16", "f16"),
    "2025-08-vulkan-window": (4096, 4096, 2048, 512, 1, False, False, "f16", "f16"),
    "2026-05-cuda-draft-and-projector": (131072, 131072, 2048, 512, 4, True, True, "q8_0", "q8_0"),
    "2026-vulkan-hybrid-draft": (8192, 8192, None, None, None, None, True, None, None),
    "2026-09-cpu-window": (4096, 2048, 2048, 512, 2, True, False, "f16", "f16"),
}


def load(name):
    return read_log_file(LOGS / f"{name}.log")


def sizes(model):
    found = {}
    for line in model.counted:
        found[line.kind, line.device] = found.get((line.kind, line.device), 0) + line.mib
    return found


def test_every_log_is_tested():
    own = {path.stem for path in LOGS.glob("*.log") if not path.stem.startswith(("vllm", "sglang"))}
    assert own == set(PRINTED)
    named = (LOGS / "README.md").read_text(encoding="utf-8")
    assert all(f"`{name}.log`" in named for name in PRINTED)


@pytest.mark.parametrize("name", PRINTED)
def test_printed_sizes(name):
    assert sizes(load(name).main) == pytest.approx(PRINTED[name], abs=1e-6)


@pytest.mark.parametrize("name", MODELS)
def test_model(name):
    log = load(name)
    main = log.main
    program, build, commit, arch, file_type, gib, bits, params, layers = MODELS[name]
    assert (log.program, log.build, log.commit) == (program, build, commit)
    assert (main.arch, main.file_type, main.bits_per_weight) == (arch, file_type, bits)
    assert main.size_bytes == (gib and round(gib * 2**30))
    assert main.params == params
    assert main.gpu_layers == layers


@pytest.mark.parametrize("name", SETTINGS)
def test_settings(name):
    context = load(name).main.context
    assert SETTINGS[name] == (
        context.n_ctx, context.n_ctx_seq, context.n_batch, context.n_ubatch, context.n_seq_max,
        context.flash_attn, context.kv_unified, context.type_k, context.type_v,
    )  # fmt: skip


@pytest.mark.parametrize("name", PRINTED)
def test_every_size_is_a_line_of_the_file(name):
    raw = (LOGS / f"{name}.log").read_text(encoding="utf-8").split("\n")
    log = load(name)
    assert log.lines
    for line in log.lines:
        assert line.text == raw[line.number - 1].strip()
        assert line.step > 0


def test_hyperparameters_and_keys():
    main = load("2024-05-metal").main
    assert main.path == "./models/8B-v3/ggml-model-Q4_K_M.gguf"
    assert main.name == "Meta-Llama-3-8B"
    assert main.keys == {
        "general.architecture": "llama", "general.name": "Meta-Llama-3-8B", "llama.block_count": "32",
    }  # fmt: skip
    main = load("2024-05-cuda-two-gpus").main
    assert main.tensor_types == {"f32": 65, "q4_K": 193, "q6_K": 33}
    assert (main.hyper("n_vocab"), main.hyper("n_ff"), main.model_type) == (128256, 14336, "8B")
    assert "BOS token" not in main.meta


def test_hyperparameters_for_each_layer():
    log = read_log("print_info: arch = gemma4\nprint_info: n_embd_k_gqa          = [512, 512, 1024]\n"
                   "load_tensors: CPU model buffer size = 1.00 MiB\n")  # fmt: skip
    assert log.main.per_layer("n_embd_k_gqa") == [512, 512, 1024]
    assert log.main.hyper("n_embd_k_gqa") is None


def test_caches():
    window, full = load("2026-09-cpu-window").main.context.caches[::-1]
    assert (full.label, full.cells, full.layers, full.sequences, full.streams) == ("non-SWA", 2048, 4, 2, 2)
    assert (window.label, window.cells, window.layers) == ("SWA", 1024, 22)
    assert (window.parts, window.mib) == ({"K": ("f16", 22), "V": ("f16", 22)}, 44)
    state = load("2026-vulkan-hybrid-draft").main.context.caches[1]
    assert (state.kind, state.cells, state.layers, state.sequences) == ("state", 4, 64, 4)
    assert state.parts == {"R": ("f32", 67.5), "S": ("f32", 1728)}
    latent = load("2025-05-ik-mla").main.context.caches[0]
    assert latent.parts == {"c^KV": ("f16", 1098), "kv^T": ("f16", 976)}
    assert (latent.total.mib, latent.mib) == (2074, 2074)


def test_windows_that_keep_the_whole_context():
    assert load("2025-08-metal-window-full").main.context.swa_full is True
    assert load("2025-08-vulkan-window").main.context.swa_full is False
    assert load("2024-05-metal").main.context.swa_full is None


def test_a_second_context_drafts():
    main = load("2026-05-cuda-draft-and-projector").main
    assert [context.role for context in main.contexts] == ["model", "draft"]
    assert [cache.mib for cache in main.contexts[1].caches] == [272]


def test_a_buffer_that_is_printed_again_counts_once():
    lines = load("2026-vulkan-hybrid-draft").main.contexts[1].lines
    compute = [
        (line.mib, line.superseded) for line in lines if line.device == "Vulkan0" and line.kind == "compute"
    ]
    assert compute == [(520.06, True), (520.06, False)]


def test_a_projector_is_a_load_of_its_own():
    main, projector = load("2026-05-cuda-draft-and-projector").loads
    assert (main.role, projector.role, projector.name) == ("model", "mmproj", "Qwen3.6-27B")
    assert sizes(projector) == {
        ("mmproj", "CUDA0"): 887.99, ("mmproj_compute", "CUDA0"): 248.1, ("mmproj_compute", "CPU"): 24.93,
    }  # fmt: skip


def test_a_pass_that_measures_is_not_the_model():
    log = load("2026-rocm-measuring-pass")
    assert [load.dry for load in log.loads] == [True, False]
    assert log.main is log.loads[1]
    assert load("2026-09-cpu-window-measured").main.dry is True


def test_draft_models_and_adapters():
    log = read_log(
        "load_tensors:        CUDA0 model buffer size =  100.00 MiB\n"
        "llama_context: n_ctx = 512\n"
        "llama_adapter_lora_init_impl:      CUDA0 LoRA buffer size =    40.62 MiB\n"
        "srv    load_model: loading draft model './draft.gguf'\n"
        "llama_model_loader: loaded meta data with 3 key-value pairs and 4 tensors from ./draft.gguf "
        "(version GGUF V3 (latest))\n"
        "load_tensors:        CUDA0 model buffer size =   10.00 MiB\n"
    )
    assert [(load.role, load.path, load.mib()) for load in log.loads] == [
        ("model", None, 140.62), ("draft", "./draft.gguf", 10),
    ]  # fmt: skip
    assert log.main.mib("lora") == 40.62


def test_files_in_parts_print_a_device_more_than_once():
    log = read_log(
        "llm_load_tensors: CPU buffer size = 37803.47 MiB\nllm_load_tensors: CPU buffer size = 39040.50 MiB"
    )
    assert log.main.mib("weights", device="CPU") == 76843.97


def test_devices():
    found = {
        device.name: (device.description, device.total_mib, device.free_mib)
        for device in load("2025-05-cuda-experts-on-cpu").devices.values()
    }
    assert found == {
        "CUDA0": ("NVIDIA GeForce RTX 5090", None, 29249),
        "CUDA1": ("NVIDIA GeForce RTX 4090", None, 23633),
        "CUDA2": ("NVIDIA GeForce RTX 4090", None, 23698),
        "CUDA3": ("NVIDIA RTX A6000", None, 48280),
    }
    assert load("2025-04-rocm-eight-gpus").devices["ROCm7"].description == "AMD Instinct MI250X"
    vulkan = load("2025-08-vulkan-window").devices["Vulkan0"]
    assert (vulkan.description, vulkan.free_mib) == ("Apple M2 Pro (G14S B1) (Honeykrisp)", 7789)
    assert load("2026-vulkan-hybrid-draft").devices["Vulkan0"].description == "NVIDIA GeForce RTX 3090"
    assert load("2023-12-metal").devices["Metal"].total_mib == 147456
    assert load("2024-05-metal").devices["Metal"].total_mib == pytest.approx(5461.34, abs=0.005)


@pytest.mark.parametrize(
    ("line", "name", "total", "free"),
    [
        ("  Device 0: NVIDIA GeForce RTX 3090, compute capability 8.6, VMM: yes, VRAM: 24575 MiB",
         "CUDA0", 24575, None),
        ("  - CUDA0   : NVIDIA GeForce RTX 4090 (24080 MiB, 23000 MiB free)", "CUDA0", 24080, 23000),
        ("0.00.1 I common_params_fit_impl:   - CUDA1 (RTX A6000):  48550 total,  30000 used,  18000 free vs. "
         "target of   1024", "CUDA1", 48550, None),
        ('time=2025-12-01 level=INFO source=types.go:42 msg="inference compute" id=GPU-1 library=CUDA '
         'name=CUDA0 description="NVIDIA A10" total="22.5 GiB" available="22.0 GiB"', "CUDA0", 23040, 22528),
    ],
)  # fmt: skip
def test_memory_of_devices(line, name, total, free):
    device = read_log(f"{line}\nload_tensors: CPU model buffer size = 1.00 MiB").devices[name]
    assert (device.total_mib, device.free_mib) == (total, free)


def test_the_table_at_the_end():
    npu, host = load("2025-hexagon-table").breakdown
    assert (npu.device, npu.total, npu.free, npu.used, npu.unaccounted) == ("HTP0", 2048, 2048, 0, 0)
    assert (host.device, host.used, host.model, host.context, host.compute) == ("Host", 439, 225, 136, 77)
    assert (host.total, host.free) == (None, None)
    row = read_log(
        "llama_memory_breakdown_print: |   - CUDA0 (RTX 5090)   | 32606 = 1057 + "
        "(29365 = 28609 +     397 +     358) +        2183 |"
    ).breakdown[0]
    assert (row.total, row.free, row.used, row.model, row.context, row.compute, row.unaccounted) == (
        32606, 1057, 29365, 28609, 397, 358, 2183,
    )  # fmt: skip


def test_the_projection_of_fit():
    projected = [line for line in load("2026-vulkan-hybrid-draft").lines if line.kind == "projected"]
    assert [(line.number, line.device, line.mib, line.total) for line in projected] == [
        (3, "device", 17885, True)
    ]


@pytest.mark.parametrize(
    ("line", "build", "commit", "version"),
    [
        ("build: 4202 (9f912511) with cc (Ubuntu) 13.2.0 for x86_64-linux-gnu", 4202, "9f912511", None),
        ("main: build = 3608 (98a264a2)", 3608, "98a264a2", None),
        ('INFO [  main] build info | tid="1" timestamp=1746819238 build=3679 commit="43a154d8"',
         3679, "43a154d8", None),
        ('{"function":"main","level":"INFO","build":2755,"commit":"e9095ac","msg":"build info"}',
         2755, "e9095ac", None),
        ("0.00.1 T common_params_print_info: build 11258 (abcdef12) with GNU 14 for Linux x86_64",
         11258, "abcdef12", None),
        ("version: v0.5.0 (build 11300, commit 0123abcd)", 11300, "0123abcd", "v0.5.0"),
        ('time=2025-01-01 level=INFO source=routes.go:1 msg="Listening on 127.0.0.1:11434 (version 0.5.1)"',
         None, None, "0.5.1"),
    ],
)  # fmt: skip
def test_builds(line, build, commit, version):
    log = read_log(f"{line}\nload_tensors: CPU model buffer size = 1.00 MiB")
    assert (log.build, log.commit, log.version) == (build, commit, version)


@pytest.mark.parametrize(
    "line",
    [
        "load_tensors:        CUDA0 model buffer size =  4403.49 MiB",
        "load_tensors:        CUDA0 model buffer size =  4403,49 MiB",
        "> load_tensors:        CUDA0 model buffer size =  4403.49 MiB\r",
        "0.00.123.456 I load_tensors:        CUDA0 model buffer size =  4403.49 MiB",
        "\x1b[34m0.00.123.456\x1b[0m \x1b[32mI \x1b[0mload_tensors: CUDA0 model buffer size =  4403.49 MiB",
        "2026-05-14 22:14:27.974 | load_tensors:        CUDA0 model buffer size =  4403.49 MiB",
        "May 01 10:00:00 host llama-server[12]: load_tensors:        CUDA0 model buffer size =  4403.49 MiB",
        "llama-1  | load_tensors:        CUDA0 model buffer size =  4403.49 MiB",
        "[llama Info]: load_tensors:        CUDA0 model buffer size =  4403.49 MiB",
        '{"log":"load_tensors:        CUDA0 model buffer size =  4403.49 MiB\\n","stream":"stderr"}',
        '{"type":"log","level":"info","msg":"load_tensors: CUDA0 model buffer size =  4403.49 MiB\\n"}',
        "......load_tensors:        CUDA0 model buffer size =  4403.49 MiB",
        "llm_load_tensors:      CUDA0 buffer size =  4403.49 MiB",
    ],
)
def test_prefixes(line):
    found = read_log(line).lines[0]
    assert (found.number, found.kind, found.device, found.mib, found.host) == (
        1,
        "weights",
        "CUDA0",
        4403.49,
        False,
    )


def test_words_that_threads_glued():
    log = read_log("Computed blk.53.attn_v_b.weightllama_new_context_with_model: n_ctx      = 2048\n"
                   "llama_kv_cache_init:        CPU KV buffer size =    72.91 MiB")  # fmt: skip
    assert log.main.context.n_ctx == 2048


def test_ollamas_plan_stands_beside_the_load():
    plan = (
        'time=2026-02-25T18 level=INFO source=device.go:240 msg="model weights" device=Metal size="4.7 GiB"'
    )
    log = read_log(f"{plan}\nload_tensors: Metal_Mapped model buffer size = 4403.50 MiB")
    assert [load.engine for load in log.loads] == ["ollama", "llama.cpp"]
    assert log.main.mib() == 4403.5
    assert log.loads[0].lines[0].step == pytest.approx(102.4)


def test_a_reading_of_the_vocabulary_is_not_the_model():
    loader = (
        "llama_model_loader: loaded meta data with 3 key-value pairs and 4 tensors from a (version GGUF V3)"
    )
    log = read_log(
        f"{loader}\n"
        "print_info: file size   = 1.00 GiB (4.00 BPW)\nprint_info: vocab_only       = 1\n"
        f"{loader}\n"
        "print_info: file size   = 1.00 GiB (4.00 BPW)\nprint_info: vocab_only       = 0\n"
    )
    assert [load.role for load in log.loads] == ["vocab", "model"]
    assert log.main is log.loads[1]


@pytest.mark.parametrize(
    ("name", "missing"),
    [
        ("2024-05-cuda-two-gpus", ()),
        ("2026-09-cpu-window", ()),
        ("2023-12-cuda-two-gpus", ()),
        ("2025-05-cuda-experts-on-cpu", ()),
        ("2025-09-ollama-engine", ("the model's hyperparameters",)),
        ("2025-03-ollama-cpu", (
            "the model's hyperparameters", "the weights of each device", "the settings of the context",
        )),
        ("2024-01-ollama-journal-cut", (
            "the model's hyperparameters", "the settings of the context", "the cache", "the compute buffers",
        )),
    ],
)  # fmt: skip
def test_what_is_missing(name, missing):
    assert load(name).missing == missing


@pytest.mark.parametrize(
    ("device", "host"),
    [("CPU", True), ("CPU_Mapped", True), ("CPU_REPACK", True), ("CUDA_Host", True), ("AMX", True),
     ("CUDA0", False), ("CUDA_Split", False), ("Metal_Mapped", False), ("MTL0", False),
     ("HTP0-REPACK", False), (None, False)],
)  # fmt: skip
def test_host_memory(device, host):
    assert is_host(device) is host


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_encodings(tmp_path, encoding):
    text = (LOGS / "2024-05-metal.log").read_text(encoding="utf-8")
    path = tmp_path / "log"
    path.write_bytes(text.replace("\n", "\r\n").encode(encoding))
    assert sizes(read_log_file(path).main) == pytest.approx(PRINTED["2024-05-metal"])


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "is empty"),
        (b" \n\n", "is empty"),
        (b"GGUF\3\0\0\0" + bytes(100), "is a model file"),
        (bytes(range(256)) * 40, "is not text"),
        (b"INFO 06-01 10:00:00 [core.py:64] Initializing a V1 LLM engine with vllm config", "a log of vLLM"),
        (b"[2025-06-01] server_args=ServerArgs(model_path='a'), sglang is ready", "a log of SGLang"),
        (b"Loading checkpoint shards: 100%|####| 4/4", "a log of Hugging Face Transformers"),
        (b"GET / 200\n", "a log of another program"),
        (b"main: build = 1691 (7082d24)\nllama_context: n_ctx = 4096\n", "holds no size"),
    ],
)
def test_what_is_no_such_log(tmp_path, data, problem):
    path = tmp_path / "my.log"
    path.write_bytes(data)
    with pytest.raises(InputError) as caught:
        read_log_file(path)
    assert "my.log" in caught.value.problem
    assert problem in caught.value.problem
    assert caught.value.remedy


def test_files_that_are_not_there_or_too_long(tmp_path):
    with pytest.raises(InputError, match="can't be read"):
        read_log_file(tmp_path / "none.log")
    long = tmp_path / "long.log"
    with open(long, "wb") as file:
        file.truncate((64 << 20) + 1)
    with pytest.raises(InputError, match="longer than 64 MiB"):
        read_log_file(long)


HOSTILE = [
    "a: " * 40_000,
    "llama_context: " * 10_000,
    "llama_context: " + "a" * 200_000,
    "1" * 200_000,
    "=" * 200_000,
    "load_tensors: " + "buffer size = " * 20_000,
    "load_tensors: " + "9" * 200_000 + " model buffer size = 1.00 MiB",
    "print_info: n_layer = " + "9" * 200_000,
    "using device " * 10_000 + "MiB free",
    "llama_kv_cache: " + "creating " * 10_000,
    "llama_memory_breakdown_print: | - a (" + ") | " * 20_000,
    "\x1b[" * 50_000,
    '{"msg": ' * 10_000,
    "source=a.go:1 " + "a." * 50_000,
    " \t" * 100_000 + "x",
]


@pytest.mark.parametrize("line", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_lines_take_no_time(line):
    start = time.perf_counter()
    log = read_log(f"load_tensors: CPU model buffer size = 1.00 MiB\n{line}")
    assert time.perf_counter() - start < 1
    assert log.main.lines[0].mib == 1


@pytest.mark.parametrize(
    "line",
    [
        "sched_reserve: CUDA{n} compute buffer size = 1.00 MiB",
        "llama_kv_cache: CUDA{n} KV buffer size = 1.00 MiB",
        "llama_kv_cache: CUDA0 KV buffer size = 1.00 MiB",
        "load_tensors: CUDA{n} model buffer size = 1.00 MiB",
        "llama_context: n_ctx = {n}",
        "print_info: arch = a{n}",
    ],
)
def test_time_is_linear_in_lines(line):
    def seconds(count):
        text = "\n".join(line.format(n=n) for n in range(count))
        start = time.process_time()
        log = read_log(f"load_tensors: CPU model buffer size = 1.00 MiB\n{text}")
        assert log.missing is not None
        return time.process_time() - start

    assert seconds(20_000) < 20 * seconds(4_000) + 0.5


@pytest.mark.parametrize("name", sorted(PRINTED))
def test_a_log_that_stops_anywhere_is_read_or_refused(name):
    text = (LOGS / f"{name}.log").read_text(encoding="utf-8")
    for end in range(0, len(text), max(1, len(text) // 60)):
        with contextlib.suppress(InputError):
            assert all(line.mib >= 0 for line in read_log(text[:end]).lines)
