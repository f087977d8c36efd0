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
