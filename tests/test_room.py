"""What is left on a GPU, and on a machine whose GPU and host have one memory."""

import json
import struct
from pathlib import Path

import jsonschema
import pytest

import llmcalc
from llmcalc.answer.offload import free_bytes
from llmcalc.cli import run
from llmcalc.errors import ConfigError, InputError
from llmcalc.hardware import Device
from llmcalc.planning.fitting import TARGET
from llmcalc.planning.solve import TrialCapacity, most_that_fits, settled
from llmcalc.render.rows import notes_of
from llmcalc.units import GIB, MIB

SCHEMA = json.loads((Path(__file__).parents[1] / "docs/schema/report.schema.json").read_text())


def vram(model="llama-3.1-8b", engine="llama.cpp", **keywords):
    return llmcalc.vram(model, engine=engine, **keywords)


# -- one memory ----------------------------------------------------------------------------------


def test_a_mac_counts_its_memory_once():
    report = vram(gpu="m2-16gb", gpu_layers=0)
    assert report.total_bytes < report.device.usable_low  # the GPU alone would do
    assert report.total_bytes + report.host_bytes > 16 * GIB
    assert report.verdict == "does_not_fit"
    both = report.total_bytes + report.host_bytes
    assert report.headroom_bytes == report.device.shared_low - both < 0
    assert (report.capacity.max_context, report.capacity.max_concurrency) == (0, 0)
    assert report.capacity.kv_budget_bytes < report.host_bytes
    assert any("GPU and host share 16.00 GiB" in line for line in report.warnings)
    assert any("one memory" in line for line in report.hints)


def test_a_card_with_its_own_memory_does_not_count_the_host():
    report = vram(gpu="rtx-3060", gpu_layers=0)
    assert (report.verdict, report.is_shared) == ("fits", False)
    assert report.headroom_bytes == report.device.usable_bytes - report.total_bytes
    assert not any("share" in line for line in report.warnings)


@pytest.mark.parametrize(
    "keywords", [{"engine": "ollama"}, {"quant": "q4_k_m"}, {"quant": "q4_k_m", "fit": True}]
)
def test_a_file_larger_than_the_machine_never_fits(keywords):
    report = vram("llama-3.3-70b", gpu="m2-16gb", **keywords)
    assert report.verdict == "does_not_fit"
    assert not any("is the most that fits" in line for line in report.hints)


def test_layers_move_while_both_together_have_room():
    """13 GiB on a Mac of 16 whose GPU takes 11.8: fewer layers on the GPU help."""
    report = vram(gpu="m2-16gb", quant="q8_0", context=26_624)
    assert report.headroom_bytes < 0
    told = next(line for line in report.hints if "is the most that fits" in line)
    layers = int(told.split()[1])
    assert vram(gpu="m2-16gb", quant="q8_0", context=26_624, gpu_layers=layers).headroom_bytes >= 0
    more = vram(gpu="m2-16gb", quant="q8_0", context=26_624, gpu_layers=layers + 1)
    assert more.headroom_bytes < 0


def test_the_longest_context_of_one_memory():
    keywords = {"gpu": "m2-16gb", "quant": "q8_0", "gpu_layers": 8}
    report = vram(**keywords)
    longest = report.capacity.max_context
    assert 0 < longest < 131_072
    fits = [vram(context=n, **keywords).headroom_bytes >= 0 for n in (longest, longest + 256)]
    assert fits == [True, False]
    assert vram(context=report.capacity.safe_context, **keywords).verdict == "fits"


def test_arrays_on_one_memory():
    import numpy as np

    lengths = np.array([1024, 131_072])
    report = vram(gpu="m2-16gb", quant="q8_0", gpu_layers=8, context=lengths)
    assert list(report.verdict) == ["fits", "does_not_fit"]
    assert [bool(left >= 0) for left in report.headroom_bytes] == [True, False]


def test_check_and_fit_go_by_both_together():
    for command, *more in (["fit"], ["vram", "--check"]):
        assert run([command, "llama-3.3-70b", *more, "--engine", "ollama", "--gpu", "m2-16gb"]) == 1
        assert run([command, "llama-3.3-70b", *more, "--engine", "ollama", "--gpu", "rtx-3060"]) == 0


@pytest.mark.parametrize(
    ("keywords", "shared", "as_placed"),
    [
        ({"gpu": "m2-16gb", "engine": "ollama"}, 14 * GIB, True),
        ({"gpu": "m2-16gb", "quant": "q4_k_m"}, 14 * GIB, False),
        ({"gpu": "rtx-3060", "quant": "q4_k_m", "fit": True}, None, True),
    ],
)
def test_json_tells_both(keywords, shared, as_placed):
    answer = json.loads(vram(**keywords).to_json())
    assert (answer["device"]["shared_bytes"], answer["capacity"]["as_placed"]) == (shared, as_placed)
    jsonschema.validate(answer, SCHEMA)


def test_what_a_system_keeps_and_a_reserve_takes():
    mac = Device("Mac", 1, 64 * GIB, 48 * GIB, 48 * GIB, 50 * GIB, "", "Apple")
    assert (mac.shared_bytes, mac.shared_low) == (64 * GIB, 62 * GIB)
    less = mac.less(4 * GIB)
    assert (less.shared_bytes, less.shared_low) == (60 * GIB, 58 * GIB)
    assert mac.less(80 * GIB).shared_bytes  # still one memory, with nothing left of it
    small = Device("board", 1, 8 * GIB, 7 * GIB, 7 * GIB, 7 * GIB, "", "NVIDIA", True)
    assert small.shared_low == 7 * GIB
    assert Device("card", 1, 8 * GIB, 7 * GIB, 7 * GIB, 7 * GIB, "", "NVIDIA").shared_bytes == 0


# -- slots that share a cache --------------------------------------------------------------------


def test_slots_that_share_cells_are_counted_as_such():
    report = vram(gpu="rtx-4060", quant="q4_k_m", n_ctx=16_384, parallel=4, kv_unified=True)
    assert "4 slots share 16,384 tokens" in report.to_text()
    found = report.capacity
    assert found.kv_bytes_per_token == 131_072  # 32 layers x 8 heads x 128 x (2 + 2) bytes
    assert found.max_concurrency == found.kv_tokens // 16_384 == 1
    apart = vram(gpu="rtx-4060", quant="q4_k_m", n_ctx=16_384, parallel=4)
    assert "4 x 4,096 tokens" in apart.to_text()
    assert apart.capacity.kv_bytes_per_token == 131_072
    assert apart.capacity.max_concurrency >= 4


def test_a_shared_context_longer_than_the_model_keeps_the_schema():
    report = vram("qwen3-30b-a3b", gpu="rtx-3090", quant="q4_k_m", fit=True, parallel=4, kv_unified=True)
    assert report.scenario["n_ctx"] > report.scenario["context"] == 40_960
    assert report.capacity.kv_bytes_per_token == 98_304  # 48 layers x 4 heads x 128 x (2 + 2) bytes
    jsonschema.validate(json.loads(report.to_json()), SCHEMA)


# -- to be safe ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "keywords"),
    [
        ("gemma-3-27b-it", {"quant": "q8_0", "gpu": "2xrtx-3090", "parallel": 4}),
        ("deepseek-v2-lite", {"quant": "q8_0", "gpu": "rtx-3090", "flash_attn": False}),
        ("llama-3.1-8b", {"quant": "q4_k_m", "gpu": "rtx-3060", "lora": "r=64"}),
        ("llama-3.1-8b", {"engine": "ollama", "gpu": "rtx-3060"}),
    ],
)
def test_the_safe_context_is_safe(model, keywords):
    report = vram(model, context=8192, **keywords)
    safe = report.capacity.safe_context
    assert 0 < safe <= report.capacity.max_context
    assert vram(model, context=safe, **keywords).verdict == "fits"
    if keywords.get("engine") == "ollama":  # the margin that keeps layers in place ends it before
        assert safe == report.capacity.max_context
    else:
        assert vram(model, context=safe + 512, **keywords).verdict != "fits"


def test_a_margin_for_placing_is_no_need():
    """Ollama's answer fits with its 1 GiB to spare, so its own context is safe."""
    report = vram("gpt-oss-20b", engine="ollama", gpu="rtx-4060")
    assert report.verdict == "fits"
    assert report.capacity.safe_context >= report.scenario["context"]


@pytest.mark.parametrize("gpu", ["rtx-3060", "m2-16gb"])
def test_a_projector_takes_room_from_a_longer_context(gpu):
    keywords = {"engine": "ollama", "gpu": gpu, "gpu_layers": 49}
    found = vram("gemma-3-12b-it", context=8192, **keywords).capacity
    assert "projector" in vram("gemma-3-12b-it", context=8192, **keywords).names
    fits = [
        vram("gemma-3-12b-it", context=n, **keywords).headroom_bytes >= 0
        for n in (found.max_context, found.max_context + 256)
    ]
    assert fits == [True, False]
    assert vram("gemma-3-12b-it", context=found.safe_context, **keywords).verdict == "fits"


def test_a_search_settles_what_its_quick_trials_miss():
    assert settled(lambda n, exact: (99 if exact else 103) - n, 1000) == 99
    assert settled(lambda n, exact: (103 if exact else 99) - n, 1000) == 103
    assert settled(lambda n, exact: -1, 1000) == 0


def test_contexts_come_in_steps_up_to_the_limit():
    def room(tokens, sequences, safe, exact):
        return (5000 if safe else 8000) - tokens * sequences

    found = TrialCapacity(room, 2, 4000, 256, 10_000, 255)
    assert (found.kv_tokens, found.max_context, found.safe_context) == (7936, 3840, 2304)
    assert TrialCapacity(room, 1, 4000, 256, 10_000, 255).max_context == 4000  # the model's limit
    assert TrialCapacity(lambda *_: 1, 1, None, 256, 10_000, 255).max_context is None

    def kept(tokens, sequences, safe, exact):
        return (9000 if safe else 8000) - tokens

    assert TrialCapacity(kept, 1, None, 256, 10_000, 255).safe_context == 7936  # never above what is expected


@pytest.mark.parametrize(
    "left",
    [
        lambda n: 10**6 - n * n, lambda n: 10**7 - 37 * n, lambda n: 10**6 - 900 * int(n**0.5),
        lambda n: 5000 - n - (4000 if n > 777 else 0), lambda n: -1, lambda n: 1 - n, lambda n: 10**9 - n,
    ],
)  # fmt: skip
def test_searches_find_the_last_that_holds_in_few_trials(left):
    tried = []

    def room(n):
        tried.append(n)
        return left(n)

    most = 1 << 20
    found = most_that_fits(room, most)
    assert not found or left(found) >= 0
    assert found == most or left(found + 1) < 0
    assert len(tried) <= 36


def test_a_line_takes_five_trials():
    tried = []

    def room(n):
        tried.append(n)
        return 40_000_000 - 131 * n - n // 1000

    assert most_that_fits(room, 1 << 20) == 305_341
    assert len(tried) <= 6


def test_what_is_sure_is_not_tried_again():
    asked = []

    def room(n, exact):
        asked.append(exact)
        return 1000 - n

    assert settled(room, 10, sure=900) == 10
    assert not any(asked)
    assert settled(room, 10, sure=1000) == 10
    assert any(asked)


# -- what llama-server chose ---------------------------------------------------------------------


def test_longest_as_placed():
    report = vram("gpt-oss-20b", engine="ollama", gpu="rtx-4060")
    longest = report.capacity.max_context
    assert f"{longest:,} tokens as placed" in report.to_text()
    longer = vram("gpt-oss-20b", engine="ollama", gpu="rtx-4060", context=2 * longest)
    assert longer.verdict == "fits"  # with more experts on the CPU
    assert longer["host_weights"].bytes > report["host_weights"].bytes
    told = "With a longer context --fit leaves more of the model to the CPU."
    report = vram(gpu="rtx-3060", quant="q4_k_m", fit=True)
    assert "as placed" in report.to_text()
    assert told in report.hints
    for keywords in ({"fit": True, "gpu_layers": 20}, {}):  # placed by hand: there it ends
        report = vram(gpu="rtx-3060", quant="q4_k_m", context=8192, **keywords)
        assert report.capacity.max_context < 131_072
        assert "as placed" not in report.to_text()
        assert told not in report.hints


def test_what_a_gpu_lacks_and_why():
    report = vram("llama-3.3-70b", gpu="2xrtx-3090", quant="q4_k_m", fit=True)
    (told,) = [line for line in report.warnings if line.startswith("Not even so")]
    device = report.device
    runtime = report["runtime"].bytes
    lacks = [
        sum(item.amounts[place] for item in report.items if item.where == "device")
        - runtime - (free_bytes(device) - TARGET)
        for place in range(2)
    ]  # fmt: skip
    assert lacks[0] <= 0 < lacks[1]
    assert f"GPU 2 lacks {-(-lacks[1] // MIB)} MiB" in told
    assert "a pipeline" in told
    # The copies of a pipeline are what GPU 2 grew by: with one layer less on GPU 1 there is none.
    keywords = {"n_ctx": report.scenario["n_ctx"], "tensor_split": "39,41", "gpu_layers": 80}
    less = vram("llama-3.3-70b", gpu="2xrtx-3090", quant="q4_k_m", **keywords)
    for name in ("weights", "kv_cache"):
        assert less[name].amounts[1] == report[name].amounts[1]
    grown = report["activations"].amounts[1] - less["activations"].amounts[1]
    assert grown >= lacks[1]


@pytest.mark.parametrize(
    ("keywords", "words"),
    [
        ({"gpu": "1GiB", "context": 65_536}, "even without a layer"),
        ({"gpu": "12GiB", "context": 65_536, "gpu_layers": 33}, "the GPU lacks"),
        ({"gpu": "2x8GiB", "context": 65_536, "gpu_layers": 33}, "GPU 1 lacks"),
    ],
)
def test_other_reasons(keywords, words):
    report = vram(quant="q8_0", fit=True, **keywords)
    (told,) = [line for line in report.warnings if line.startswith("Not even so")]
    assert words in told
    assert "does not measure it again" not in told


# -- tables --------------------------------------------------------------------------------------


def test_each_row_has_its_context():
    reports = vram("qwen3-30b-a3b", gpu="rtx-4070,2xrtx-4070,24GiB", quant="q4_k_m", fit=True)
    lengths = [report.scenario["context"] for report in reports]
    assert len(set(lengths)) == 3
    for text in (reports.to_text(), reports.to_markdown()):
        head, *rows = [line for line in text.splitlines() if "RTX 4070" in line or "24GiB " in line][:3]
        for row, length in zip([head, *rows], lengths, strict=True):
            assert f" {length:,} " in row
        assert f"1 x {lengths[0]:,}" not in text  # a heading for the first row alone
    short = f"{reports[0].capacity.max_context:,}"
    assert f"{short} as placed" in reports.to_text()


def test_rows_of_one_context_have_it_in_the_heading():
    text = vram(gpu="rtx-4060,rtx-4090", context=4096).to_text()
    assert "1 x 4,096 tokens" in text
    assert "max context" in text
    assert " context  " not in text.replace("max context", "")


def test_slots_of_rows():
    keywords = {"gpu": "rtx-4070,24GiB", "quant": "q4_k_m", "fit": True, "parallel": 4}
    apart = vram("qwen3-30b-a3b", **keywords)
    for report in apart:
        assert f" 4 x {report.scenario['context']:,} " in apart.to_text()
    shared = vram("qwen3-30b-a3b", kv_unified=True, **keywords)
    for report in shared:
        assert f" {report.scenario['n_ctx']:,} for 4 " in shared.to_text()


def test_models_of_other_limits_have_their_context():
    rows = llmcalc.compare(["llama-3.1-8b", "gpt2", "13b"], bits=4).to_text().splitlines()
    for name, length in (("llama-3.1-8b", "8,192"), ("gpt2", "1,024"), ("13b", "-")):
        assert next(row for row in rows if f" {name} " in row).split()[-1] == length


def test_notes_name_their_rows():
    reports = vram("llama-3.3-70b", gpu="rtx-4060,rtx-4090")
    notes = notes_of(list(reports))
    for name in ("RTX 4060", "RTX 4090"):
        assert any(note.startswith(f"{name}: -ngl ") for note in notes)
    assert "Vectors and routers stay in fp32, as llama.cpp's converter writes them." in notes  # of all
    assert not any(note.startswith("RTX") for note in notes_of([reports[0]]))
    pairs = llmcalc.compare(["llama-3.1-8b", "qwen3-8b"], engine="ollama", gpu="rtx-4060,rtx-4090")
    for note in notes_of(list(pairs)):
        if "scheduler expects" in note:
            assert note.startswith(("llama-3.1-8b on RTX 40", "qwen3-8b on RTX 40"))


# -- errors --------------------------------------------------------------------------------------


@pytest.mark.parametrize("more", [[], ["--check"]])
def test_fit_without_a_gpu_is_one_mistake(capsys, more):
    assert run(["fit", "llama-3.1-8b", *more]) == 2
    told = capsys.readouterr().err
    assert told == "Error: fit needs a GPU to try.\nAdd --gpu, such as --gpu rtx-4090 or --gpu auto.\n"


@pytest.mark.parametrize("engine", ["llama.cpp", "ollama", "mlx"])
def test_engines_need_layers(engine, tmp_path):
    with pytest.raises(InputError, match=f"--engine {engine} needs a model with layers"):
        vram("13b", engine=engine)
    head = json.dumps({"w": {"dtype": "F16", "shape": [4, 4], "data_offsets": [0, 32]}}).encode()
    file = tmp_path / "model.safetensors"
    file.write_bytes(struct.pack("<Q", len(head)) + head + bytes(32))
    for own in (engine, "none"):
        with pytest.raises(ConfigError, match=r"tells the weights.*\n.*config\.json beside it"):
            vram(str(file), engine=own)
