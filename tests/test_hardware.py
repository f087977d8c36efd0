"""GPUs: the three totals, what is usable, the grammar, placement."""

import pytest

import llmcalc
from llmcalc.catalog import Catalog
from llmcalc.errors import InputError, UnknownNameError
from llmcalc.hardware import device_of, parse_gpu, parse_gpus
from llmcalc.model.inventory import Tensor, dim
from llmcalc.placement import place, rank_numel
from llmcalc.units import GIB, MIB

CATALOG = Catalog.shipped()


@pytest.mark.parametrize(
    ("name", "driver_mib", "usable_mib"),
    [
        ("h100-80gb", 81559, 81080),  # the runtime's total as read
        ("rtx-4090", 24564, 24564 - 600),  # the driver's less the assumed reserve
        ("b200", 183359, 182630),
        ("a10g", 23028, 23028 - 600),
    ],
)
def test_usable_memory(name, driver_mib, usable_mib):
    device = parse_gpu(name, CATALOG)
    assert device.memory_bytes == driver_mib * MIB
    assert abs(device.usable_bytes - usable_mib * MIB) <= MIB
    assert device.usable_low <= device.usable_bytes <= device.usable_high


def test_apple_takes_the_working_set():
    device = parse_gpu("m3-max-64gb", CATALOG)
    assert device.usable_bytes == 48 * GIB


def test_amd_exposes_almost_all():
    assert parse_gpu("mi300x", CATALOG).usable_bytes == 206_141_652_992


def test_every_gpu_has_a_usable_figure_or_says_why_not():
    entries = CATALOG.entries("gpus")
    assert len(entries) == 271
    without = []
    for entry in entries:
        if not any(entry.get(key) for key in ("memory_gb", "memory_mib_driver", "memory_mib_runtime")):
            with pytest.raises(InputError, match="size"):
                device_of(entry)
            without.append(entry)
            continue
        device = device_of(entry)
        assert 0 < device.usable_low <= device.usable_bytes <= device.usable_high
        assert device.usable_bytes <= device.memory_bytes
        marketed = entry.get("memory_gb")
        if marketed:
            assert 0.60 < device.usable_bytes / (marketed * GIB) < 1.08, entry["name"]
    assert len(without) == 12  # CPUs, whose memory is the machine's, and one GPU without a published size


@pytest.mark.parametrize(
    ("text", "count", "name"),
    [
        ("8xh100-80gb", 8, "H100 SXM"),
        ("4x rtx-4090", 4, "RTX 4090"),
        ("4 X RTX 4090", 4, "RTX 4090"),
        ("2*h200", 2, "H200 SXM"),
        ("rtx4090", None, "RTX 4090"),
        ("GeForce RTX 4090", None, "RTX 4090"),
        ("7900xtx", None, "RX 7900 XTX"),
        ("4090", None, "RTX 4090"),
        ("2x7900xtx", 2, "RX 7900 XTX"),
    ],
)
def test_grammar(text, count, name):
    device = parse_gpu(text, CATALOG)
    assert (device.count, device.name) == (count, name)


@pytest.mark.parametrize(
    ("text", "size"), [("24GiB", 24 * GIB), ("24GB", 24 * 10**9), ("24576MiB", 24 * GIB)]
)
def test_a_size_is_taken_as_written(text, size):
    device = parse_gpu(text, CATALOG)
    assert (device.memory_bytes, device.usable_bytes) == (size, size)
    assert parse_gpu(f"3x{text}", CATALOG).count == 3


@pytest.mark.parametrize(
    "text", ["", " ", "h1000", "0xh100", "x", "-4xh100", "2x3xh100", "0GiB", "auto", "24"]
)
def test_bad_names(text):
    with pytest.raises((InputError, UnknownNameError)) as caught:
        parse_gpu(text, CATALOG)
    assert caught.value.remedy


def test_an_ambiguous_name_lists_the_choices():
    with pytest.raises(UnknownNameError, match="A100 40GB"):
        parse_gpu("a100", CATALOG)


def test_all_wrong_names_are_told_together():
    with pytest.raises(UnknownNameError) as caught:
        parse_gpus("foo,h100,bar", CATALOG)
    assert "foo" in str(caught.value)
    assert "bar" in str(caught.value)


def test_smallest_cards_hold_the_need():
    report = llmcalc.vram("llama-3.1-8b")
    assert report.cards
    for name, _ in report.cards:
        assert llmcalc.vram("llama-3.1-8b", gpu=name).verdict == "fits"


@pytest.mark.parametrize(
    ("tensor", "tp", "numel"),
    [
        (Tensor("query", (dim(heads=32, head_dim=128), dim(hidden=4096))), 8, 4 * 128 * 4096),
        (Tensor("key", (dim(kv_heads=8, head_dim=128), dim(hidden=4096))), 16, 128 * 4096),
        (Tensor("qkv", (dim(heads=32, head_dim=2) + dim(kv_heads=2, head_dim=2), dim(hidden=8))), 4, 18 * 8),
        (Tensor("norm", (dim(hidden=4096),)), 8, 4096),
        (Tensor("embedding", (dim(vocab=50257), dim(hidden=8))), 2, 25129 * 8),
        (Tensor("expert_up", (dim(expert=8), dim(ffn=64), dim(hidden=16))), 4, 8 * 16 * 16),
    ],
)
def test_what_a_tensor_rank_holds(tensor, tp, numel):
    assert rank_numel(tensor, tp) == numel


def test_stages_hold_every_layer_once():
    model = llmcalc.model("gemma-3-27b")
    for pp in (1, 3, 7, 62):
        placement = place(model, 1, pp)
        assert placement.stages[0][0] == 0
        assert placement.stages[-1][1] == 62
        for group in model.groups:
            total = sum(placement.count(group, stage) for stage in range(pp))
            assert total == group.count


@pytest.mark.parametrize(("name", "keywords", "allowed"), [
    ("llama-3.1-8b", {"tp": 3}, "1, 2, 4, 8"),
    ("llama-3.1-8b", {"pp": 33}, "1 to 32"),
    ("qwen2.5-7b", {"tp": 5}, "1, 2, 4"),
    ("mamba2-1.3b", {"tp": 3}, "1, 2, 4"),
])  # fmt: skip
def test_a_placement_that_does_not_divide(name, keywords, allowed):
    with pytest.raises(InputError) as caught:
        llmcalc.vram(name, **keywords)
    assert allowed in caught.value.remedy


# -- parts: MIG slices, ECC, limits --------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "gib"),
    [
        ("h100-80gb:1g.10gb", 9.75),
        ("h100-80gb:3g.40gb", 39.5),
        ("h100-nvl:3g.47gb", 46.38),
        ("a100-80gb:3g.40gb", 39.25),
        ("a100-40gb:1g.5gb", 4.75),
        ("NVIDIA A100-SXM4-40GB MIG 1g.5gb", 4.75),  # as CUDA names it
        ("a30:2g.12gb", 11.69),
        ("h200:1g.18gb", 16),
        ("rtx-pro-6000-server:2g.48gb+gfx", 47.38),
    ],
)
def test_slices_of_a_card(name, gib):
    """As nvidia-smi mig -lgip prints them."""
    device = parse_gpu(name, CATALOG)
    assert device.usable_bytes == device.memory_bytes == int(gib * GIB)
    assert " MIG " in device.name
    assert parse_gpu(device.name, CATALOG).memory_bytes == device.memory_bytes
    assert parse_gpu(f"2x{name}", CATALOG).count == 2


def test_every_slice_is_smaller_than_its_card_and_in_order():
    for entry in CATALOG.entries("gpus"):
        profiles = entry.get("mig") or {}
        whole = device_of(entry) if profiles else None
        for profile, size in profiles.items():
            assert size * GIB <= whole.memory_bytes
            marketed = float(profile.partition(".")[2].removesuffix("gb"))
            assert 0.84 < size / marketed < 1.05, (entry["name"], profile)
        assert set(entry.get("mig_assumed", [])) <= set(profiles)


def test_a_slice_whose_size_is_assumed_is_a_range():
    device = parse_gpu("b200:1g.23gb", CATALOG)
    assert device.usable_low < device.usable_bytes < device.usable_high
    assert "assumed" in device.basis


def test_vllm_takes_a_slice_for_a_small_gpu():
    whole = llmcalc.vram("llama-3.1-8b", engine="vllm", gpu="h100-80gb")
    part = llmcalc.vram("llama-3.1-8b", engine="vllm", gpu="h100-80gb:3g.40gb")
    assert (whole.scenario["max_num_seqs"], part.scenario["max_num_seqs"]) == (1024, 256)
    assert (whole.scenario["max_num_batched_tokens"], part.scenario["max_num_batched_tokens"]) == (8192, 2048)


@pytest.mark.parametrize(
    ("name", "mib"),
    [("a40", 46068), ("a40:ecc-on", 46068), ("a40:ecc-off", 49140), ("rtx-a6000:ecc-on", 46068),
     ("rtx-6000-ada:ecc-on", 46068), ("l40s:ecc-off", 49140), ("A40 ECC off", 49140)],
)  # fmt: skip
def test_error_correction_costs_a_sixteenth(name, mib):
    """Pairs as nvidia-smi prints them: 49,140 MiB without, 46,068 with."""
    assert abs(parse_gpu(name, CATALOG).memory_bytes / MIB - mib) <= 1


def test_a_limit_set_by_hand():
    device = parse_gpu("m4-max-64gb:56GiB", CATALOG)
    assert device.usable_low == device.usable_bytes == device.usable_high == 56 * GIB
    assert device.memory_bytes == 64 * GIB


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("h100:5g.50gb", "h100sxm:1g.10gb"),
        ("rtx-4090:1g.10gb", "Give a limit"),
        ("a100-80gb:ecc-off", "Leave :ecc-off out"),
        ("m4-max-64gb:100GiB", "64 GiB there are"),
        ("nosuch:1g.10gb", "no GPU"),
        ("h100:", "no GPU"),
        (":3g.40gb", "no GPU"),
        ("a40:ecc-maybe", "a40:ecc-off"),
    ],
)
def test_parts_that_are_not_there(name, told):
    with pytest.raises((InputError, UnknownNameError), match=told.replace(".", r"\.")):
        parse_gpu(name, CATALOG)


def test_show_lists_every_total_with_grade_and_source(capsys):
    import json

    from llmcalc.cli import run

    assert run(["gpus", "show", "a40", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    totals = {row["total"]: row for row in data["totals"]}
    assert totals["marketed"]["bytes"] == 48 * GIB
    assert totals["driver, ECC on"]["bytes"] == 46068 * MIB
    assert totals["driver, ECC off"]["grade"] == "derived"
    assert totals["usable"]["bytes"] == data["usable_bytes"]
    assert all(row["source"] for row in data["totals"])
    assert run(["gpus", "show", "h100:3g.40gb"]) == 0
    out = capsys.readouterr().out
    assert "H100 SXM MIG 3g.40gb" in out
    assert "MIG 1g.10gb" in out
    assert all(len(line) <= 80 for line in out.splitlines())


def test_reserve_counts_in_every_engine():
    for engine, gpu in (("none", "h100"), ("vllm", "h100"), ("llama.cpp", "h100"), ("ollama", "h100"),
                        ("transformers", "h100"), ("mlx", "m4-max-64gb")):  # fmt: skip
        free, less = (
            llmcalc.vram("llama-3.1-8b", engine=engine, gpu=gpu, context=4096, reserve=reserve)
            for reserve in (None, "10GiB")
        )
        assert less.device.usable_bytes < free.device.usable_bytes, engine
        assert less.headroom_bytes < free.headroom_bytes, engine
