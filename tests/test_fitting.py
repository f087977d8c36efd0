"""What llama-server chooses by itself, and the most that fits where a model does not."""

import json
import re
import subprocess
import sys

import pytest

import llmcalc
from llmcalc.answer.llamacpp import builder
from llmcalc.answer.offload import free_bytes
from llmcalc.catalog import Catalog
from llmcalc.errors import InputError
from llmcalc.hardware import Device, parse_gpus
from llmcalc.planning.fitting import ALL_EXPERTS, SPILLS, TARGET, _step, fit, shortened
from llmcalc.scenario import resolve
from llmcalc.units import GIB, MIB

BOOK = Catalog()


def card(gib, count=1):
    size = int(gib * GIB)
    return Device("card", count, size, size, size, size, "", "NVIDIA")


def searched(model, device, **keywords):
    """The choice, and what makes deployments of that model."""
    inventory = llmcalc.model(model)
    keywords = {"engine": "llama.cpp", "quant": "q4_k_m", "fit": True, **keywords}
    scenario = resolve(inventory, BOOK, keywords)
    options = scenario.options
    if "context" in keywords:
        options.n_ctx = scenario.context * scenario.sequences
    make, _ = builder(inventory, scenario, device, BOOK)
    free = [free_bytes(device)] * (device.count or 1)
    return fit(make, options, int(scenario.sequences), free, inventory.context), make


def used(make, options, slots=1):
    deployment = make(options)
    amounts = deployment.amounts(options.n_ctx, slots)
    return [amounts.on_device(place) for place in range(deployment.devices)]


def vram(model="llama-3.1-8b", gpu="rtx-4090", **keywords):
    return llmcalc.vram(model, **{"engine": "llama.cpp", "quant": "q4_k_m", "gpu": gpu, **keywords})


# -- the search ----------------------------------------------------------------------------------


def test_a_log_of_a_context_that_llama_cpp_shortened():
    # Metal, 2026: 36,845 MiB projected at 262,144 tokens, 37,739 MiB free, shortened to 260,096.
    token = 65 * 1024  # 64 KiB of caches, 1 KiB of mask
    most = 36_845 * MIB
    target = 37_739 * MIB - TARGET
    assert shortened(4096, 262_144, most - 258_048 * token, most, target) == 260_096


def test_what_fits_is_left_alone():
    chosen, _ = searched("llama-3.1-8b", card(80))
    assert chosen.options.n_ctx == 131_072
    assert chosen.options.gpu_layers is None
    assert not chosen.shares
    chosen, _ = searched("llama-3.1-8b", card(200), parallel=2)
    assert chosen.options.n_ctx == 2 * 131_072  # each slot as long as the model allows


@pytest.mark.parametrize("gib", [8, 10, 12, 16])
def test_an_open_context_shrinks_first(gib):
    chosen, make = searched("llama-3.1-8b", card(gib))
    options = chosen.options
    assert options.gpu_layers is None
    assert 4096 <= options.n_ctx < 131_072
    assert options.n_ctx % 256 == 0
    room = chosen.targets[0] - used(make, options)[0]
    assert room >= 0
    options.n_ctx += 1024  # the line between two lengths is not quite straight
    assert used(make, options)[0] > chosen.targets[0]


def test_a_given_context_is_kept_and_layers_go():
    chosen, make = searched("llama-3.1-8b", card(6), context=16_384)
    options = chosen.options
    assert options.n_ctx == 16_384
    assert 0 < options.gpu_layers < 33
    assert used(make, options)[0] <= chosen.targets[0]
    options.gpu_layers += 1
    assert used(make, options)[0] > chosen.targets[0]


@pytest.mark.parametrize("model", ["llama-3.1-70b", "gemma-2-27b", "qwen3-32b"])
def test_dense_layers_fill_the_device_to_the_last_that_fits(model):
    chosen, make = searched(model, card(16))
    options = chosen.options
    assert options.n_ctx == 4096
    assert used(make, options)[0] <= chosen.targets[0]
    options.gpu_layers += 1
    assert used(make, options)[0] > chosen.targets[0]


@pytest.mark.parametrize("model", ["qwen3-30b-a3b", "gpt-oss-20b", "mixtral-8x7b-v0.1"])
def test_experts_come_back_while_there_is_room(model):
    chosen, make = searched(model, card(10))
    options, (share,) = chosen.options, chosen.shares
    layers = len(make(options).layers)
    assert options.gpu_layers == share.layers == layers + 1
    assert 0 < share.partial < layers
    assert used(make, options)[0] <= chosen.targets[0]
    # One more layer with all its experts does not fit.
    first = layers + 1 - share.partial
    options.overrides = [
        (re.sub(rf"\b{first + 1}\|", "", pattern), where)
        for pattern, where in options.overrides
        if f"blk\\.{first}\\." not in pattern
    ]
    assert used(make, options)[0] > chosen.targets[0]


def test_the_first_layer_keeps_its_experts_where_nothing_else_has_room():
    # llama.cpp counts the output layer first, so its patterns start one layer late.
    chosen, make = searched("qwen3-30b-a3b", card(2.2))
    deployment = make(chosen.options)
    assert chosen.options.gpu_layers < 49  # not even without experts do all layers fit
    assert deployment.bare == chosen.options.gpu_layers - 2


def test_a_part_of_a_layer_is_tried():
    kinds = set()
    for tenth in range(80, 140, 4):
        chosen, _ = searched("qwen3-30b-a3b", card(tenth / 10))
        kinds |= {share.kept for share in chosen.shares}
    assert kinds - {"experts"}
    assert kinds <= set(SPILLS)


def test_more_memory_never_gives_less():
    lengths, layers, experts = [], [], []
    for gib in (6, 8, 12, 16, 24):
        lengths.append(searched("llama-3.1-8b", card(gib))[0].options.n_ctx)
        layers.append(searched("llama-3.1-70b", card(gib))[0].options.gpu_layers)
        chosen, make = searched("qwen3-235b-a22b", card(gib))
        experts.append(-make(chosen.options).amounts(4096, 1, False).weights[-1])
    assert lengths == sorted(lengths)
    assert layers == sorted(layers)
    assert experts == sorted(experts)


@pytest.mark.parametrize("model", ["llama-3.1-70b", "qwen3-235b-a22b"])
@pytest.mark.parametrize("count", [2, 3])
def test_several_devices_all_keep_their_margin(model, count):
    device = card(12, count)
    chosen, make = searched(model, device)
    options = chosen.options
    amounts = used(make, options)
    assert len(options.split) == len(amounts) == count
    assert sum(options.split) == options.gpu_layers
    assert all(amount <= target for amount, target in zip(amounts, chosen.targets, strict=True))
    assert chosen.fits


def test_a_quick_trial_is_as_good_as_a_full_one():
    for model in ("llama-3.1-70b", "qwen3-30b-a3b", "deepseek-v3"):
        chosen, make = searched(model, card(20))
        assert chosen.used == pytest.approx(used(make, chosen.options), rel=1e-3)


def test_steps_are_unsigned_as_in_llama_cpp():
    assert _step(10, 500, 100, 900) == 5
    assert _step(10, 50, 100, 900) == 1  # truncated to 0, then one at least
    assert _step(100, 50, 100, 900) == 99  # below 0: the most
    assert _step(10, 500, 700, 700) == 1


def test_all_experts_are_those_of_the_flag():
    assert re.search(ALL_EXPERTS, "blk.12.ffn_gate_exps.weight")
    assert re.search(ALL_EXPERTS, "blk.12.ffn_up_chexps.weight")
    assert not re.search(ALL_EXPERTS, "blk.12.ffn_up_shexp.weight")


# -- the answer ----------------------------------------------------------------------------------


def test_the_report_shows_what_was_chosen():
    report = vram("llama-3.1-70b", fit=True)
    assert report.scenario["fit"] is True
    assert report.scenario["fit_target"] == TARGET
    assert report.scenario["n_ctx"] == report.scenario["context"] == 4096
    on = report.scenario["gpu_layers"]
    assert f"{on} of 81 layers on GPU" in report.to_text()
    assert any(f"-c 4096 -np 1 -ngl {on} --fit off" in hint for hint in report.hints)
    assert report.verdict == "fits"
    assert report.headroom_bytes >= TARGET


def test_the_command_line_does_the_same():
    report = vram("qwen3-30b-a3b", "rtx-3060", fit=True, kv_dtype="q8_0", ubatch=1024)
    hint = next(hint for hint in report.hints if "llama-server -m" in hint)
    pattern = re.search(r"-ot '([^']+)'", hint).group(1)
    same = vram(
        "qwen3-30b-a3b", "rtx-3060", kv_dtype="q8_0", ubatch=1024, n_ctx=report.scenario["n_ctx"],
        gpu_layers=report.scenario["gpu_layers"], override_tensor=pattern,
    )  # fmt: skip
    assert same.total_bytes == report.total_bytes
    assert same.host_bytes == report.host_bytes
    assert "-ctk q8_0 -ctv q8_0" in hint
    assert "-b 2048 -ub 1024" in hint


def test_a_part_of_a_layer_may_lie_on_the_next_gpu():
    report = vram("qwen3-30b-a3b", "2xrtx-3060", fit=True)
    assert report.scenario["override_tensor"] == [r"blk\.24\.ffn_(gate|up|gate_up|down).*=1"]
    assert any("=CUDA1' --fit off" in hint for hint in report.hints)
    assert "host_kv_cache" not in {item.name for item in report.items}


def test_slots_share_what_is_chosen():
    apart = vram(gpu="rtx-3060", fit=True, parallel=4)
    shared = vram(gpu="rtx-3060", fit=True, parallel=4, kv_unified=True)
    assert apart.scenario["context"] == apart.scenario["n_ctx"] // 4
    assert shared.scenario["context"] == shared.scenario["n_ctx"]
    assert apart.scenario["n_ctx"] % 1024 == 0


def test_placed_layers_stay():
    report = vram("llama-3.1-70b", fit=True, gpu_layers=20)
    assert report.scenario["gpu_layers"] == 20
    assert report.scenario["n_ctx"] > 4096
    report = vram("llama-3.1-70b", fit=True, gpu_layers=70)
    assert any("-ngl is given" in told for told in report.warnings)
    report = vram("llama-3.1-70b", fit=True, gpu_layers="auto")
    assert report.scenario["gpu_layers"] < 81


def test_dense_hints_name_the_most_layers():
    report = vram("llama-3.1-70b")
    hint = next(hint for hint in report.hints if hint.startswith("-ngl"))
    most = int(hint.split()[1])
    assert "then stay on the CPU" in hint
    there = vram("llama-3.1-70b", gpu_layers=most)
    assert there.headroom_bytes >= 0
    assert f"{there['host_weights'].bytes / GIB:.2f} GiB of weights" in hint
    assert f"{there['host_kv_cache'].bytes / GIB:.2f} GiB of caches" in hint
    assert vram("llama-3.1-70b", gpu_layers=most + 1).headroom_bytes < 0


@pytest.mark.parametrize("model", ["qwen3-30b-a3b", "qwen3-235b-a22b", "deepseek-v3"])
def test_sparse_hints_name_the_fewest_experts(model):
    report = vram(model, "16GiB" if model == "qwen3-30b-a3b" else "rtx-4090", context=4096)
    gpu = report.device.name
    hint = next(hint for hint in report.hints if hint.startswith("--n-cpu-moe"))
    least = int(hint.split()[1])
    assert vram(model, gpu, context=4096, n_cpu_moe=least).headroom_bytes >= 0
    assert vram(model, gpu, context=4096, n_cpu_moe=least - 1).headroom_bytes < 0


def test_hints_of_what_never_fits():
    report = vram("deepseek-v3", "8GiB", context=4096)
    assert any("with --n-cpu-moe 61" in hint for hint in report.hints)
    report = vram("llama-3.1-70b", "2GiB", context=131_072, flash_attn=False)
    assert any("Not even -ngl 0" in hint for hint in report.hints)


def test_what_fits_needs_no_hint():
    assert vram(context=4096).hints == []


def test_a_total_context_is_searched_too():
    given = vram(gpu="rtx-3060", n_ctx=8192)
    plain = vram(gpu="rtx-3060", context=8192)
    assert given.capacity.to_dict() == plain.capacity.to_dict()
    assert given.capacity.max_context < 131_072


@pytest.mark.parametrize(
    ("keywords", "words"),
    [
        ({"gpu": None}, "--fit needs a GPU"),
        ({"context": [4096, 8192]}, "one context at a time"),
        ({"engine": "none"}, "not of --engine none"),
        ({"engine": "ollama"}, "not of --engine ollama"),
        ({"fit": "perhaps"}, "--fit is 'perhaps'"),
    ],
)
def test_bad_input(keywords, words):
    with pytest.raises(InputError, match=words):
        vram(**{"fit": True, **keywords})


def test_free_memory_is_what_logs_say():
    # RTX 3090: 24,123 MiB in all, 23,832 free; RTX 2000 Ada: 7,807 and 7,627; RTX 5090: 32,111 and 31,605.
    for name, free in (("rtx-3090", 23_832), ("rtx-5090", 31_605)):
        device = parse_gpus(name, BOOK, None)[0]
        assert free_bytes(device) / MIB == pytest.approx(free, rel=0.01)


def test_the_command_line_of_a_shell():
    command = [
        sys.executable, "-m", "llmcalc", "vram", "qwen3-30b-a3b", "--engine", "llama.cpp", "--fit",
        "--quant", "q4_k_m", "--gpu", "rtx-3060", "--json",
    ]  # fmt: skip
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    told = json.loads(ran.stdout)
    assert told["scenario"]["fit"] is True
    assert told["scenario"]["override_tensor"]
    assert told["headroom_bytes"] >= TARGET
    assert any("llama-server -m MODEL.gguf" in hint for hint in told["hints"])
