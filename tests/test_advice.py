"""What would help where a model does not fit: changes, each estimated anew; fewest GPUs, smallest card."""

import json
import subprocess
import sys

import pytest

import llmcalc
from llmcalc.planning.levers import LENGTHS

CASES = [
    ("llama-3.1-70b", {"engine": "vllm", "gpu": "h100"}),
    ("llama-3.1-8b", {"engine": "vllm", "gpu": "rtx-4090", "context": 65_536, "sequences": 2}),
    ("llama-3.1-8b", {"engine": "vllm", "gpu": "l4", "context": 32_768}),
    ("deepseek-v3", {"engine": "vllm", "gpu": "8xh100"}),
    ("gemma-3-27b", {"engine": "vllm", "gpu": "a100-80gb", "context": 131_072,
                     "disable_hybrid_kv_cache_manager": True}),
    ("qwen3-14b", {"engine": "llama.cpp", "gpu": "rtx-3060", "quant": "q8_0"}),
    ("qwen3-14b", {"engine": "mlx", "gpu": "m4-max-36gb"}),
    ("qwen3-14b", {"gpu": "rtx-3060", "reserve": "1GiB"}),
]  # fmt: skip


def llmcalc_run(*words):
    done = subprocess.run([sys.executable, "-m", "llmcalc", *words], capture_output=True, text=True)
    assert "Traceback" not in done.stderr
    return done


@pytest.mark.parametrize(("model", "asked"), CASES, ids=lambda v: v if isinstance(v, str) else "")
def test_each_change_does_what_it_says(model, asked):
    """A change, made by hand, gives the verdict and the gain that are told of it."""
    found = llmcalc.vram(model, **asked)
    assert found.verdict != "fits"
    assert 1 <= len(found.alternatives) <= 5
    assert len(found.advice) <= 5
    enough = [one["verdict"] == "fits" for one in found.alternatives]
    assert enough == sorted(enough, reverse=True)
    for one in found.alternatives:
        changes = one["keywords"]
        dropped = LENGTHS if "context" in changes else ()
        keywords = {key: value for key, value in asked.items() if key not in dropped} | changes
        by_hand = llmcalc.vram(model, **keywords)
        assert by_hand.verdict == one["verdict"], one
        assert by_hand.headroom_bytes - found.headroom_bytes == one["gain_bytes"], one
        assert one["price"]


@pytest.mark.parametrize(("model", "asked"), CASES, ids=lambda v: v if isinstance(v, str) else "")
def test_the_fewest_gpus_are_the_fewest(model, asked):
    found = llmcalc.vram(model, **asked)
    fewest = found.fewest
    if fewest is None:
        assert asked.get("engine") == "mlx"
        return
    card = asked["gpu"].removeprefix("8x")
    rest = {key: value for key, value in asked.items() if key != "gpu"}
    split = {} if asked.get("engine") == "llama.cpp" else {"tp": fewest["tp"], "pp": fewest["pp"]}
    own = llmcalc.vram(model, gpu=f"{fewest['gpus']}x{card}", **rest, **split)
    assert own.verdict == "fits"
    if fewest["gpus"] > 1:
        half = llmcalc.vram(model, gpu=f"{fewest['gpus'] // 2}x{card}", **rest)
        assert half.verdict != "fits"
        assert (half.verdict == "too_close") == (fewest["close"] is not None)


def test_the_smallest_card_holds_it_and_a_smaller_one_does_not():
    found = llmcalc.vram("llama-3.1-8b", engine="vllm", context=32_768)
    name, memory = found.cards[0]
    assert llmcalc.vram("llama-3.1-8b", engine="vllm", context=32_768, gpu=name).verdict == "fits"
    book = llmcalc.vram("gpt2").book
    for low, total, other in book.table("gpu_sizes"):
        if int(total) < memory * 0.97:
            own = llmcalc.vram("llama-3.1-8b", engine="vllm", context=32_768, gpu=other)
            assert own.verdict != "fits", (other, low)


def test_a_manager_switched_off_is_the_first_thing_to_mend():
    found = llmcalc.vram("gpt-oss-20b", engine="vllm", gpu="rtx-4090", context=131_072,
                         disable_hybrid_kv_cache_manager=True)  # fmt: skip
    first = found.alternatives[0]
    assert first["change"] == "without --disable-hybrid-kv-cache-manager"
    assert (first["verdict"], first["price"]) == ("fits", "costs nothing")


def test_what_the_engine_refuses_is_no_advice():
    """MLX has no cache in fp8, llama.cpp no AWQ, and 40 heads no tp 3."""
    for model, asked in CASES:
        found = llmcalc.vram(model, **asked)
        for one in found.alternatives:
            if asked.get("engine") == "llama.cpp":
                assert one["keywords"].get("quant", "q4") not in ("awq", "fp8", "w8a8")
            assert one["keywords"].get("tp", 1) in (1, 2, 4, 8)


def test_settings_together_come_before_a_dearer_one_alone():
    """A share of 0.95 and fewer requests cost no accuracy; fp8 keys and values alone would do too."""
    found = llmcalc.vram("llama-3.1-8b", engine="vllm", gpu="l4", context=36_864)
    first, second = found.alternatives[:2]
    assert first["keywords"].keys() == {"gpu_memory_utilization", "max_num_seqs"}
    assert second["keywords"] == {"kv_dtype": "fp8"}
    assert first["verdict"] == second["verdict"] == "fits"


def test_nothing_is_searched_for_where_it_fits():
    found = llmcalc.vram("llama-3.1-8b", engine="vllm", gpu="h100")
    assert (found.advice, found.alternatives, found.fewest) == ([], [], None)


@pytest.mark.parametrize(
    ("gpu", "code"),
    [
        ("h100", 0),
        ("rtx-3060", 1),
        ("22.5GiB", 3),
        ("rtx-3060,h100", 0),
        ("rtx-3060,22.5GiB", 3),
        ("nosuch", 2),
    ],
)
def test_exit_codes_of_fit(gpu, code):
    done = llmcalc_run("fit", "llama-3.1-8b", "--engine", "vllm", "--ctx", "32k", "--gpu", gpu)
    assert done.returncode == code
    if "," in gpu:
        assert len([line for line in done.stdout.splitlines() if "131,072" in line or "CLOSE" in line])
    assert all(len(line) <= 80 for line in done.stdout.splitlines())


def test_json_has_the_changes():
    done = llmcalc_run("fit", "llama-3.1-70b", "--engine", "vllm", "--gpu", "h100", "--json")
    data = json.loads(done.stdout)
    assert data["fewest_gpus"]["gpus"] == 4
    assert data["fewest_gpus"]["close"] == 2
    assert data["alternatives"][0]["verdict"] == "fits"
    assert data["advice"]
    assert data["smallest_cards"]


def test_a_reserve_lowers_the_default_share():
    found = llmcalc.vram("llama-3.1-8b", engine="vllm", gpu="l4", reserve="4GiB")
    share = found.scenario["gpu_memory_utilization"]
    total = found.device.usable_bytes
    assert share == 0.79
    outside = found["runtime"].items[1].bytes  # the CUDA context, which vLLM does not count
    assert total - 0.01 * (total + 4 * 2**30) < share * (total + 4 * 2**30) + outside <= total
    assert any("taken to be 0.79" in told for told in found.warnings)
    stated = llmcalc.vram(
        "llama-3.1-8b", engine="vllm", gpu="h100", reserve="20GiB", gpu_memory_utilization=0.95
    )
    assert stated.verdict == "does_not_fit"
    assert "more asked for than is free" in str(stated)
    assert stated.alternatives[0]["change"] == "--gpu-memory-utilization 0.74"
    assert stated.alternatives[0]["verdict"] == "fits"
    assert all(one["keywords"].get("gpu_memory_utilization") is None for one in found.alternatives)


def test_figures_of_what_is_missing_agree():
    """What the note, the pool and the verdict call missing differs by this workload's pages alone."""
    found = llmcalc.vram("llama-3.1-70b", engine="vllm", gpu="h100")
    pool = -found.capacity.kv_budget_bytes
    assert abs(-found.headroom_bytes - (pool + found["kv_cache"].bytes)) <= 1
    text = str(found)
    assert f"none: {pool / 2**30:.2f} GiB missing before its first page" in text
    assert any(f"{pool / 2**30:.2f} GiB are missing before its first page" in one for one in found.warnings)
    assert "0.00x" not in text
    assert "-" not in text.split("KV pool")[1].split("\n")[0]


def test_a_solve_costs_little_more_than_an_estimate():
    """At most 1.5 times an estimate and 5 ms, for what fits and for what does not."""
    from time import perf_counter

    def best(**asked):
        times = []
        for _ in range(9):
            start = perf_counter()
            llmcalc.vram("llama-3.1-70b", engine="vllm", **asked)
            times.append(perf_counter() - start)
        return min(times)

    plain = best(tp=4)
    for gpu in ("h100", "4xh100"):
        assert best(gpu=gpu) <= 1.5 * plain + 0.005
