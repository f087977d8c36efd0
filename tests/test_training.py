"""Training: states, optimizers, adapters, the timeline, what fits, and what is refused."""

import ast
import json
import subprocess
import sys
import time

import numpy as np
import pytest

import llmcalc
from llmcalc.answer.training.presets import PRESETS
from llmcalc.answer.training.room import largest
from llmcalc.catalog import Catalog
from llmcalc.cli import run
from llmcalc.errors import LlmcalcError
from llmcalc.estimate import Moment, timeline_peak
from llmcalc.memory.training.optimizers import Optimizer, Shape, find_optimizer, shape_of
from llmcalc.memory.training.precisions import RECIPES
from llmcalc.model.inventory import dim

NAMES = [
    "weights", "master_weights", "gradients", "optimizer", "activations", "logits", "gathered", "buffers",
    "runtime",
]  # fmt: skip
GB = 10**9
SHORT = {"seq_len": 256}


def device_items(report):
    return [item for item in report if item.where == "device"]


def refused(**keywords):
    with pytest.raises(LlmcalcError) as caught:
        llmcalc.train(**{"model": "llama-3.2-1b", "seq_len": 256, **keywords})
    assert caught.value.exit_code == 2
    return str(caught.value)


# -- states ------------------------------------------------------------------------------------


def test_the_seed_gradients_and_adam_states_of_13b_are_78_gb():
    report = llmcalc.train(params="13b", precision="bf16")
    assert report["gradients"].bytes == 26 * GB
    assert report["optimizer"].bytes == 52 * GB
    assert report["weights"].bytes == 26 * GB
    assert report["activations"].bytes == 0


@pytest.mark.parametrize(
    ("precision", "weights", "master", "gradients", "states"),
    [
        ("bf16-mixed", 4, 0, 4, 8),  # PyTorch AMP: 16 and what is cast
        ("fp16-mixed", 4, 0, 4, 8),
        ("bf16", 2, 0, 2, 4),  # torchtune: 8
        ("bf16-fp32-states", 2, 0, 2, 8),  # 12
        ("megatron-bf16", 2, 4, 4, 8),  # Megatron-LM's table: 18
        ("fp32", 4, 0, 4, 8),
    ],
)
def test_bytes_of_a_parameter(precision, weights, master, gradients, states):
    report = llmcalc.train("llama-3.2-1b", precision=precision, optimizer="adamw-fused", **SHORT)
    number = report.model["params"]
    found = [report[name].bytes for name in ("weights", "master_weights", "gradients", "optimizer")]
    assert found == [number * size for size in (weights, master, gradients, states)]
    total = weights + master + gradients + states
    assert RECIPES[precision].per_parameter() == total
    assert f"= {total} B/param" in "  ".join(report.header)


def test_zero_paper_baseline_of_7_5b_is_120_gb():
    from llmcalc.memory.training.formulas import model_state_bytes

    assert model_state_bytes(7_500_000_000, 2, 4, 2, 8) == 120 * GB


def test_accumulated_gradients_are_there_at_the_loss():
    alone = llmcalc.train("llama-3.2-1b", precision="bf16", seq_len=4096)
    accumulated = llmcalc.train("llama-3.2-1b", precision="bf16", seq_len=4096, grad_accum=8)
    assert alone.peak.phase == accumulated.peak.phase == "loss"
    assert alone["gradients"].bytes_at_peak == 0
    assert accumulated["gradients"].bytes_at_peak == 2 * alone.model["params"]


def test_an_optimizer_in_the_backward_pass_holds_no_gradients_at_the_step():
    report = llmcalc.train("llama-3.2-1b", precision="bf16", optimizer_in_backward=True, **SHORT)
    assert "step" not in {moment.phase for moment in report.timeline.moments}
    assert report["gradients"].bytes < 2 * report.model["params"] // 4
    assert report["optimizer"].bytes == 4 * report.model["params"]
    assert llmcalc.train("llama-3.2-1b", optimizer="lomo", **SHORT)["optimizer"].bytes == 0


def test_offloaded_states_lie_on_the_host():
    report = llmcalc.train("llama-3.2-1b", precision="megatron-bf16", offload="optimizer", **SHORT)
    assert report["optimizer"].bytes == report["master_weights"].bytes == 0
    assert report.host_bytes == 12 * report.model["params"]
    less = llmcalc.train("llama-3.2-1b", precision="bf16", offload="params", **SHORT)
    assert less["weights"].bytes < 2 * less.model["params"]


def test_a_moving_average_is_one_more_copy():
    plain, more = (llmcalc.train("llama-3.2-1b", ema=ema, **SHORT) for ema in (False, True))
    assert more["weights"].bytes - plain["weights"].bytes == 4 * plain.model["params"]


def test_a_checkpoint_has_weights_and_states():
    report = llmcalc.train("llama-3.2-1b", precision="megatron-bf16", **SHORT)
    assert report["checkpoint"].where == "disk"
    assert report["checkpoint"].bytes == 14 * report.model["params"]
    adapters = llmcalc.train("llama-3.2-3b", method="lora", lora_r=32, lora_targets="q_proj,v_proj", **SHORT)
    # PEFT's file of that adapter has 36,715,216 bytes, names and shapes included.
    assert adapters["checkpoint"].items[0].bytes == 36_700_160


# -- optimizers --------------------------------------------------------------------------------

MATRIX = Shape(1, 1024, 4096, frozenset({"all", "matrix", "hidden"}))
VECTOR = Shape(1, 1024, 1, frozenset({"all", "vector", "outside"}))
TABLE = Shape(1, 32000, 4096, frozenset({"all", "matrix", "outside", "embedding"}))


def states(name, shape, element=2, **keywords):
    return sum(
        size for _, size, _ in find_optimizer(name, Catalog.shipped(), **keywords).states(shape, element)
    )


@pytest.mark.parametrize(
    ("name", "matrix", "vector", "table"),
    [
        ("adamw", 4 * MATRIX.numel, 4 * 1024, 4 * TABLE.numel),
        ("sgd", 0, 0, 0),
        ("sgd-momentum", 2 * MATRIX.numel, 2 * 1024, 2 * TABLE.numel),
        ("lion", 2 * MATRIX.numel, 2 * 1024, 2 * TABLE.numel),
        ("adafactor", 4 * (1024 + 4096), 4 * 1024, 4 * (32000 + 4096)),
        ("adafactor-beta1", 4 * (1024 + 4096 + MATRIX.numel), 8 * 1024, 4 * (36096 + TABLE.numel)),
        (
            "adamw-8bit",
            2 * (MATRIX.numel + MATRIX.numel // 64),
            8 * 1024,
            2 * (TABLE.numel + TABLE.numel // 64),
        ),
        ("muon", 2 * MATRIX.numel, 4 * 1024, 4 * TABLE.numel),
        ("galore", 2 * 128 * (2 * 4096 + 1024), 4 * 1024, 4 * TABLE.numel),
        ("apollo-mini", 2 * 2 * 4096, 4 * 1024, 4 * TABLE.numel),
        ("adam-mini", 4 * MATRIX.numel + 4, 4 * 1024 + 4, 8 * TABLE.numel),
        ("soap", 2 * 2 * (MATRIX.numel + 1024**2 + 4096**2), 4 * 1024, 4 * TABLE.numel),
        ("lomo", 0, 0, 0),
    ],
)
def test_states_by_shape(name, matrix, vector, table):
    assert [states(name, shape) for shape in (MATRIX, VECTOR, TABLE)] == [matrix, vector, table]


def test_adam_mini_keeps_one_second_moment_for_each_head():
    query = shape_of("query", (dim(heads=32, head_dim=128), dim(hidden=4096)), "layer")
    assert states("adam-mini", query) == 4 * query.numel + 4 * 32


def test_8_bit_states_of_embeddings_stay_wide_where_the_trainer_asks():
    assert states("adamw-8bit", TABLE, wide_embedding=True) == 8 * TABLE.numel
    assert states("adamw-8bit", MATRIX, wide_embedding=True) == states("adamw-8bit", MATRIX)


def test_small_tensors_keep_fp32_beside_8_bit_states():
    least = Shape(1, 4096, 1, frozenset({"all", "vector", "outside"}))
    assert states("adamw-8bit", least) == 2 * (4096 + 4 * 16)
    assert states("adamw-8bit", Shape(1, 4095, 1, least.kinds)) == 8 * 4095
    report = llmcalc.train("llama-3.2-1b", precision="bf16", optimizer="adamw-8bit", **SHORT)
    assert any("fewer than 4,096 elements" in line for line in report.warnings)


def test_paged_states_may_lie_on_the_host():
    report = llmcalc.train("llama-3.2-1b", precision="bf16", optimizer="paged-adamw-8bit", **SHORT)
    assert report["optimizer"].bytes < 1 << 20
    assert 2 * report.model["params"] < report.host_bytes < 2.05 * report.model["params"]


def test_foreach_makes_one_more_copy_and_fused_none():
    # Measured with PyTorch's MemTracker: 5.01 times the parameters' bytes in bf16 at the step.
    foreach = llmcalc.train("llama-3.2-1b", precision="bf16", metric="memtracker", seq_len=128)
    fused = llmcalc.train("llama-3.2-1b", precision="bf16", optimizer="adamw-fused", seq_len=128)
    size = 2 * foreach.model["params"]
    assert foreach.peak.phase == "step"
    assert foreach.total_bytes == pytest.approx(5.01 * size, rel=2e-3)
    assert foreach["optimizer"].bytes == 3 * size
    assert fused["optimizer"].bytes == 2 * size


@pytest.mark.parametrize("entry", Catalog.shipped().entries("optimizers"), ids=lambda entry: entry["name"])
def test_every_optimizer_has_sources_and_an_estimate(entry):
    book = Catalog.shipped()
    assert entry["sources"]
    assert all(book.lookup("sources", name) for name in entry["sources"])
    assert Optimizer(entry).states(MATRIX, 2) or not entry.get("states")
    report = llmcalc.train("llama-3.2-1b", optimizer=entry["name"], precision="bf16", **SHORT)
    assert report["optimizer"].bytes >= 0


def test_optimizers_command(capsys):
    assert run(["optimizers", "--search", "muon", "--json"]) == 0
    assert [row["name"] for row in json.loads(capsys.readouterr().out)["rows"]] == ["muon"]
    assert run(["optimizers", "show", "adafactor"]) == 0
    assert "rows_columns" in capsys.readouterr().out


# -- the trainable part ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "method", "rank", "targets", "trained"),
    [
        ("gpt-3", "lora", 1, "q,v", 4_718_592),  # LoRA paper: 4.7 M
        ("gpt-3", "lora", 8, "q_proj,v_proj", 37_748_736),  # 37.7 M
        ("llama-3.2-3b", "lora", 32, "q_proj,v_proj", 9_175_040),  # PEFT's own counts
        ("llama-3.2-3b", "lora", 64, "q_proj,v_proj", 18_350_080),
        ("llama-3.2-3b", "dora", 32, "q_proj,v_proj", 9_289_728),
        ("llama-2-7b", "lora", 8, "q,v", 4_194_304),  # litgpt's
        ("llama-2-13b", "lora", 8, "q,v", 6_553_600),
        ("phi-1.5", "lora", 8, "q,v", 1_572_864),
        ("llama-3.2-3b", "lora", 10, "gate_proj,up_proj,down_proj", 9_461_760),
    ],
)
def test_trained_parameters_are_published_ones(model, method, rank, targets, trained):
    report = llmcalc.train(model, method=method, lora_r=rank, lora_targets=targets, seq_len=128)
    assert report.model["trainable_params"] == trained
    assert report["gradients"].bytes == 4 * trained
    assert report["optimizer"].items[0].bytes == 4 * trained


def test_the_seed_share_of_gpt_3():
    report = llmcalc.train("gpt-3", method="lora", lora_r=1, lora_targets="q,v", seq_len=128)
    assert f"{100 * report.model['trainable_params'] / report.model['params']:.4f}" == "0.0027"


def test_all_linear_is_what_peft_takes():
    report = llmcalc.train("llama-3.1-8b", method="lora", lora_r=16, **SHORT)
    assert report.model["trainable_params"] == 41_943_040
    experts = llmcalc.train("qwen3-30b-a3b", method="lora", **SHORT)
    assert any("no adapters on them" in line for line in experts.warnings)


def test_rank_stabilized_scaling_needs_nothing():
    plain, scaled = (llmcalc.train("llama-3.2-1b", method="lora", rslora=on, **SHORT) for on in (False, True))
    assert plain.total_bytes == scaled.total_bytes


def test_queries_of_a_fused_projection():
    part = llmcalc.train("gpt-neox-20b", method="lora", lora_r=8, lora_targets="q,v", **SHORT)
    # One down matrix for both, as litgpt lays them out: 2 x 8 rows in, 2 x 6,144 rows out.
    assert part.model["trainable_params"] == 44 * (16 * 6144 + 8 * 2 * 6144)


def test_bottleneck_adapters_are_about_3_percent():
    # Houlsby et al. train 3.6 % of BERT-large on GLUE, with 8 to 256.
    report = llmcalc.train("bert-large-cased", method="bottleneck", adapter_size=100, seq_len=128)
    assert report.model["trainable_params"] == 2 * 24 * (2 * 1024 * 100 + 1024 + 100)
    assert 0.025 < report.model["trainable_params"] / report.model["params"] < 0.035
    half = llmcalc.train(
        "bert-large-cased", method="bottleneck", adapter_size=100, adapter_kind="pfeiffer", seq_len=128
    )
    assert 2 * half.model["trainable_params"] == report.model["trainable_params"]


def test_the_last_quarter_of_the_layers_is_about_25_percent():
    report = llmcalc.train("llama-2-7b", method="freeze", trainable="last-8", precision="bf16", **SHORT)
    assert report.model["trainable_params"] == 8 * 202_383_360
    assert 0.23 < report.model["trainable_params"] / report.model["params"] < 0.27
    assert report["gradients"].bytes == 2 * report.model["trainable_params"]


def test_words_for_parts():
    def trained(**keywords):
        return llmcalc.train("llama-3.2-3b", precision="bf16", **SHORT, **keywords).model["trainable_params"]

    whole = trained()
    layers = trained(method="freeze", trainable="layers")
    assert trained(freeze="embedding") == whole - 128256 * 3072
    assert trained(method="freeze", last_layers=28) == layers
    assert trained(method="freeze", trainable="norms") == (2 * 28 + 1) * 3072
    assert trained(method="freeze", trainable="first-14,last-14") == layers


def test_prompts_and_prefixes():
    prompt = llmcalc.train("llama-2-7b", method="prompt", virtual_tokens=20, **SHORT)
    prefix = llmcalc.train("llama-2-7b", method="prefix", virtual_tokens=20, **SHORT)
    assert prompt.model["trainable_params"] == 20 * 4096
    assert prefix.model["trainable_params"] == 20 * 32 * 2 * 4096


def test_modules_saved_whole_stand_beside_frozen_ones():
    plain = llmcalc.train("llama-3.1-8b", method="lora", **SHORT)
    saved = llmcalc.train("llama-3.1-8b", method="lora", modules_to_save="lm_head", precision="bf16", **SHORT)
    head = 128256 * 4096
    assert saved.model["trainable_params"] - plain.model["trainable_params"] == head
    assert saved["weights"].bytes - plain["weights"].bytes == 2 * head


def test_16_bit_adapters():
    wide, narrow = (
        llmcalc.train("llama-3.2-3b", method="lora", adapter_dtype=dtype, precision="bf16", **SHORT)
        for dtype in ("fp32", "bf16")
    )
    number = wide.model["trainable_params"]
    assert wide["weights"].bytes - narrow["weights"].bytes == 2 * number
    assert wide["gradients"].bytes == 2 * narrow["gradients"].bytes == 4 * number


# -- QLoRA -------------------------------------------------------------------------------------


def test_qlora_of_65b_stays_under_48_gb():
    report = llmcalc.train(
        "llama-65b", method="qlora", lora_r=64, seq_len=512, recompute="full", optimizer="paged-adamw",
        gpu="a6000",
    )  # fmt: skip
    assert report.range_bytes[1] < 48 * GB
    assert report.verdict == "fits"


def test_the_base_is_stored_as_vram_stores_it():
    report = llmcalc.train("llama-3.1-8b", method="qlora", kbit_upcast="off", **SHORT)
    stored = llmcalc.vram("llama-3.1-8b", quant="nf4-dq")["weights"].bytes
    adapters = 4 * report.model["trainable_params"]
    assert report["weights"].bytes == stored + adapters
    assert report.scenario["quant"] == "nf4-dq"


def test_preparation_for_k_bit_training_widens_what_is_not_quantized():
    # PEFT 0.21.2 casts every 16-bit parameter to fp32 that is no 4-bit one: here embedding, head, norms.
    on, off = (
        llmcalc.train("llama-3.1-8b", method="qlora", kbit_upcast=word, **SHORT) for word in ("on", "off")
    )
    left = 2 * 128256 * 4096 + (2 * 32 + 1) * 4096
    assert on["weights"].bytes - off["weights"].bytes == 2 * left
    narrow = llmcalc.train("llama-3.1-8b", method="qlora", adapter_dtype="bf16", **SHORT)
    assert narrow.scenario["kbit_upcast"] is False


# -- the timeline ------------------------------------------------------------------------------

CASES = {
    "full": {"precision": "bf16"},
    "accumulated": {"grad_accum": 4},
    "checkpointed": {"recompute": "full", "precision": "bf16"},
    "every": {"recompute": "every-2", "precision": "bf16"},
    "adapters": {"method": "lora"},
    "quantized": {"method": "qlora"},
    "reference": {"reference": "same", "precision": "bf16"},
    "teacher": {"teacher": "llama-3.2-3b", "precision": "bf16"},
    "compiled": {"compile": "on"},
    "offloaded": {"offload": "optimizer,gradients", "precision": "bf16"},
}


@pytest.mark.parametrize("keywords", CASES.values(), ids=CASES.keys())
@pytest.mark.parametrize("seq", [128, 4096])
def test_shares_at_the_peak_add_up_and_no_moment_is_higher(keywords, seq):
    report = llmcalc.train("llama-3.2-1b", seq_len=seq, **keywords)
    assert [item.name for item in device_items(report)] == NAMES
    assert sum(item.bytes_at_peak for item in device_items(report)) == report.total_bytes
    most = max(report.timeline.moments, key=lambda moment: moment.total)
    assert report.total_bytes == most.total + report["runtime"].bytes
    assert report.peak.phase == most.phase
    low, high = report.range_bytes
    assert low <= report.total_bytes <= high
    for item in device_items(report):
        assert item.bytes_at_peak <= item.bytes
        assert item.bytes <= sum(part.bytes for part in item.items) or not item.items
    assert report.timeline.moments[0].phase == "load"


def test_more_never_needs_less():
    def total(**keywords):
        return llmcalc.train("llama-3.2-1b", **{"seq_len": 1024, "precision": "bf16", **keywords}).total_bytes

    assert total() < total(micro_batch=2) < total(micro_batch=4)
    assert total() < total(seq_len=2048)
    assert total(recompute="full") <= total(recompute="every-2") <= total()
    assert total(method="lora", lora_r=8) < total(method="lora", lora_r=64)
    assert total(method="lora", adapter_dtype="bf16") < total()


def test_a_larger_sequence_moves_the_peak_from_the_step_to_the_loss():
    report = llmcalc.train("llama-3.2-1b", precision="bf16", seq_len=np.array([128, 8192]))
    assert report.peak.phase == ["step", "loss"]
    for index, seq in enumerate((128, 8192)):
        one = llmcalc.train("llama-3.2-1b", precision="bf16", seq_len=seq)
        assert one.total_bytes == report.total_bytes[index]
        for item in device_items(one):
            share = np.broadcast_to(report[item.name].bytes_at_peak, 2)[index]
            assert item.bytes_at_peak == share, item.name


def test_peak_of_moments_takes_the_first_of_equals():
    moments = [Moment("forward", "a", {"x": 3}), Moment("backward", "b", {"x": 1, "y": 2})]
    assert timeline_peak(moments) == ("forward", "a", {"x": 3})


def test_timeline_is_printed_in_80_columns(capsys):
    assert run(["train", "llama-3.2-1b", "--seq-len", "2k", "--precision", "bf16", "--timeline"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert sum("<- peak" in line for line in lines) == 1
    assert any(line.startswith("  step optimizer") for line in lines)


def test_the_plot_is_drawn(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    file = tmp_path / "step.png"
    assert run(["train", "llama-3.2-1b", "--seq-len", "2k", "--gpu", "a10g", "--plot", str(file)]) == 0
    assert file.stat().st_size > 10_000
    capsys.readouterr()


def test_a_reference_doubles_the_sequences():
    plain = llmcalc.train("llama-3.2-1b", precision="bf16", seq_len=1024, micro_batch=2)
    pairs = llmcalc.train("llama-3.2-1b", precision="bf16", seq_len=1024, reference="same")
    assert pairs["activations"].bytes == plain["activations"].bytes
    assert pairs["weights"].bytes == 2 * plain["weights"].bytes
    adapters = llmcalc.train("llama-3.2-1b", method="lora", seq_len=1024, reference="same")
    assert (
        adapters["weights"].bytes
        == llmcalc.train("llama-3.2-1b", method="lora", seq_len=1024)["weights"].bytes
    )


def test_metrics_count_more_and_more():
    totals = [
        llmcalc.train("llama-3.2-1b", metric=metric, **SHORT).total_bytes
        for metric in ("memtracker", "allocated", "reserved", "nvidia-smi")
    ]
    assert totals == sorted(totals)
    made = llmcalc.train("llama-3.2-1b", **SHORT).to_dict()["metrics"]
    assert [
        made[name] for name in ("tensors_bytes", "allocated_bytes", "reserved_bytes", "nvidia_smi_bytes")
    ] == totals


# -- backwards ---------------------------------------------------------------------------------


def test_what_fits_does_and_one_more_does_not():
    report = llmcalc.train("llama-3.2-3b", method="lora", seq_len=1024, gpu="rtx-4090")
    room, device = report.capacity, report.device
    for key, keyword, most in (
        ("max_micro_batch", "micro_batch", 1), ("max_seq_len", "seq_len", 8), ("max_lora_r", "lora_r", 1),
    ):  # fmt: skip
        found = getattr(room, key)
        base = {"seq_len": 1024, "method": "lora", "gpu": "rtx-4090"}
        limit = {"max_micro_batch": 1 << 16, "max_seq_len": 131072, "max_lora_r": 1024}[key]
        fits = llmcalc.train("llama-3.2-3b", **{**base, keyword: found})
        assert fits.total_bytes <= device.usable_bytes
        if found < limit:
            more = llmcalc.train("llama-3.2-3b", **{**base, keyword: found + most})
            assert more.total_bytes > device.usable_bytes
        safe = getattr(room, key.replace("max", "safe"))
        assert safe <= found


@pytest.mark.parametrize("edge", [0, 1, 5, 99, 100])
def test_largest_finds_the_edge(edge):
    for start in (1, 7, 100):
        assert largest(lambda n: 10 * n, 10 * edge + 5, 100, start) == edge
        assert largest(lambda n: n * n, edge * edge, 100, start) == edge
        assert largest(lambda n: max(400, 10 * n), 10 * edge + 5, 100, start) == (edge if edge >= 40 else 0)


def test_changes_that_help_come_with_their_price():
    report = llmcalc.train("llama-3.2-3b", seq_len=4096, gpu="rtx-4090")
    assert report.verdict == "does_not_fit"
    assert report.alternatives
    order = [row["verdict"] for row in report.alternatives]
    assert order == sorted(order, key=["fits", "too_close", "does_not_fit"].index)
    for row in report.alternatives:
        assert row["gain_bytes"] > 0
        assert row["price"]
        again = llmcalc.train("llama-3.2-3b", gpu="rtx-4090", **{"seq_len": 4096, **row["keywords"]})
        assert report.total_bytes - again.total_bytes == row["gain_bytes"]
        assert again.verdict == row["verdict"]


def test_the_largest_models_of_a_card():
    reports = llmcalc.train(
        gpu="rtx-4090", method="qlora", seq_len=512, recompute="full", optimizer="paged-adamw-8bit"
    )
    sizes = [report.model["params"] for report in reports]
    assert sizes == sorted(sizes, reverse=True)
    assert all(report.verdict == "fits" for report in reports)
    assert sizes[0] > 20 * GB


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_shown_and_give_way(name):
    report = llmcalc.train("llama-3.2-1b", like=name, method="lora", seq_len=512)
    for key in ("precision", "optimizer"):
        assert report.scenario[key] == PRESETS[name][key]
        assert report.origins[key] == f"--like {name}"
    assert f"like {name}" in report.header
    own = llmcalc.train("llama-3.2-1b", like=name, method="lora", seq_len=512, optimizer="sgd")
    assert own.scenario["optimizer"] == "sgd"
    assert own.origins["optimizer"] == "given"


def test_litgpt_has_a_head_of_its_own():
    tied, own = (
        llmcalc.train("llama-3.2-1b", precision="bf16", untied_head=on, **SHORT) for on in ("off", "on")
    )
    assert own["weights"].bytes - tied["weights"].bytes == 2 * 128256 * 2048


def test_the_call_can_be_repeated():
    report = llmcalc.train(
        "llama-3.2-1b", method="lora", keep_logits=False, lora_targets=["q_proj", "v_proj"], **SHORT
    )
    assert eval(report.call.python(), {"llmcalc": llmcalc}).total_bytes == report.total_bytes
    assert "--keep-logits off" in report.call.shell()
    assert "--lora-targets q_proj" in report.call.shell()


SHOWN = {
    "one": {"model": "llama-3.2-1b", "gpu": "rtx-4090"},
    "several": {"model": "llama-3.2-1b", "gpu": "h100,rtx-4090"},
    "lengths": {"model": "llama-3.2-1b", "gpu": "h100", "seq_len": np.array([512, 1024])},
    "ranks": {"model": "llama-3.2-1b", "method": "lora", "lora_r": np.array([8, 16])},
    "batches": {"model": "llama-3.2-1b", "micro_batch": np.array([8, 16])},
    "count": {"model": "13b", "precision": "bf16", "gpu": "h200"},
}


@pytest.mark.parametrize("keywords", SHOWN.values(), ids=SHOWN.keys())
def test_every_format_shows_a_training_step(keywords):
    report = llmcalc.train(**{"seq_len": 512, **keywords})
    for kind in ("text", "markdown", "latex", "html", "csv", "json"):
        assert getattr(report, f"to_{kind}")()
    assert "forward" in report.explain()
    assert len(report.to_frame())
    pytest.importorskip("matplotlib")
    assert report.plot() is not None


# -- bad input ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keywords", "words"),
    [
        ({"method": "lora", "lora_targets": "q_prj"}, ["no module 'q_prj'", "Did you mean q_proj"]),
        ({"method": "lora", "lora_targets": "qproj,nothing"}, ["'qproj', 'nothing'", "q_proj"]),
        ({"method": "lora", "lora_targets": ""}, ["names no module", "all-linear"]),
        ({"method": "lora", "lora_r": 0}, ["--lora-r"]),
        ({"method": "lora", "lora_r": 513}, ["above the width of k_proj, 512", "Use --lora-r 512 or less"]),
        ({"method": "lora", "lora_dropout": 1}, ["--lora-dropout", "0.05"]),
        ({"method": "lora", "adapter_dtype": "int8"}, ["--adapter-dtype 'int8'"]),
        ({"method": "lora", "trainable": "last-2"}, ["leaves the model frozen", "--modules-to-save"]),
        ({"method": "lorra"}, ["Did you mean lora"]),
        ({"micro_batch": 0}, ["--micro-batch"]),
        ({"grad_accum": 0}, ["--grad-accum"]),
        ({"seq_len": "256k"}, ["above the 131,072 tokens", "--allow-overlong"]),
        ({"seq_len": 512, "context": 512}, ["given twice"]),
        ({"optimizer": "adamv"}, ["Did you mean", "llmcalc optimizers"]),
        ({"optimizer_rank": 8}, ["projects to no rank"]),
        ({"precision": "bf17"}, ["--precision 'bf17'", "Did you mean"]),
        ({"recompute": "every-0"}, ["every-N"]),
        ({"recompute": "every-99"}, ["16 layers"]),
        ({"attention": "flsh"}, ["Did you mean flash"]),
        ({"offload": "optimiser"}, ["Did you mean optimizer"]),
        ({"like": "torchtun"}, ["Did you mean torchtune"]),
        ({"optimizer_in_backward": True, "grad_accum": 4}, ["gradients that last", "--grad-accum 1"]),
        ({"optimizer": "lomo", "grad_accum": 2}, ["another --optimizer"]),
        ({"quant": "nf4"}, ["for frozen weights", "--method qlora"]),
        ({"method": "freeze"}, ["does not say what is trained", "--trainable last-8"]),
        ({"method": "freeze", "trainable": "last-17"}, ["16 layers"]),
        ({"method": "freeze", "trainable": "heads"}, ["Did you mean head"]),
        ({"gpu": "h100", "reserve": "100GiB"}, ["leaves nothing"]),
        ({"padded": "maybe"}, ["Use on or off"]),
        ({"reference": "13b"}, ["bare count"]),
        ({"model": "13b", "method": "lora"}, ["needs a model with layers"]),
        ({"model": "gpt-oss-20b"}, ["stored as", "--method lora"]),
        ({"model": "gpt-oss-20b", "method": "qlora"}, ["already stored as", "--method lora"]),
    ],
)  # fmt: skip
def test_bad_input_is_one_clear_error(keywords, words):
    told = refused(**keywords)
    for word in words:
        assert word in told
    assert "Traceback" not in told


def test_all_mistakes_are_told_together():
    told = refused(micro_batch=0, optimizer="adamv", recompute="some")
    assert all(word in told for word in ("1. ", "2. ", "3. "))


def test_arrays_have_one_length():
    assert "different lengths" in refused(micro_batch=np.array([1, 2]), seq_len=np.array([1, 2, 3]))


# -- speed -------------------------------------------------------------------------------------


@pytest.mark.parametrize("keyword", ["micro_batch", "seq_len", "lora_r"])
def test_100_000_settings_at_once(keyword):
    many = np.arange(1, 100_001) if keyword != "lora_r" else np.arange(1, 100_001) % 512 + 1
    start = time.process_time()
    report = llmcalc.train("llama-3.2-1b", method="lora", **{"seq_len": 512, keyword: many}, gpu="h100")
    assert time.process_time() - start < 10
    assert len(report.total_bytes) == len(report.verdict) == 100_000
    shares = sum(np.broadcast_to(item.bytes_at_peak, 100_000) for item in device_items(report))
    assert (shares == report.total_bytes).all()
    for index in (0, 777, 99_999):
        one = llmcalc.train(
            "llama-3.2-1b", method="lora", **{"seq_len": 512, keyword: int(many[index])}, gpu="h100"
        )
        assert one.total_bytes == report.total_bytes[index]


def test_one_answer_imports_nothing_heavy():
    heavy = ("numpy", "json", "pydantic", "yaml", "matplotlib", "fractions")
    arguments = ["train", "llama-3.1-8b", "--method", "qlora", "--seq-len", "2k", "--gpu", "rtx-4090"]
    script = (
        "import sys\nfrom llmcalc.cli import run\n"
        f"code = run({arguments!r})\nprint([code, [m for m in {heavy!r} if m in sys.modules]])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    code, loaded = ast.literal_eval(done.stdout.splitlines()[-1])
    assert code == 0
    assert "numpy" not in loaded
    assert not {"pydantic", "yaml", "matplotlib", "json"} & set(loaded)


# -- what a card must hold ----------------------------------------------------------------------------


@pytest.mark.parametrize("metric", ["allocated", "reserved"])
def test_the_verdict_is_of_the_process_whatever_a_metric_counts(metric):
    asked = {"method": "lora", "seq_len": 1040, "gpu": "24GiB"}
    whole = llmcalc.train("llama-3.1-8b", **asked)
    part = llmcalc.train("llama-3.1-8b", metric=metric, **asked)
    assert part.total_bytes < whole.total_bytes
    assert (part.verdict, part.headroom_bytes) == (whole.verdict, whole.headroom_bytes)
    assert part.capacity.max_seq_len == whole.capacity.max_seq_len


def test_the_longest_sequence_is_true_there_and_false_beyond():
    asked = {"method": "lora", "gpu": "24GiB"}
    longest = llmcalc.train("llama-3.1-8b", seq_len=512, **asked).capacity.max_seq_len
    assert llmcalc.train("llama-3.1-8b", seq_len=longest, **asked).headroom_bytes >= 0
    assert llmcalc.train("llama-3.1-8b", seq_len=longest + 1, **asked).headroom_bytes < 0


def test_to_be_safe_holds_with_compiled_code_too():
    asked = {"method": "lora", "gpu": "a100-40gb-pcie", "seq_len": 1024, "compile": True}
    safe = llmcalc.train("phi-3-mini-4k-instruct", **asked).capacity.safe_micro_batch
    assert llmcalc.train("phi-3-mini-4k-instruct", micro_batch=safe, **asked).verdict == "fits"


@pytest.mark.parametrize(
    ("keywords", "words"),
    [
        ({"lora_r": 8}, "--method full has none"),
        ({"lora_targets": "q_proj"}, "--method full has none"),
        ({"method": "qlora", "quant": "none"}, "Use --method lora"),
        ({"offload": True}, "--offload is True"),
    ],
)
def test_nothing_is_ignored(keywords, words):
    with pytest.raises(llmcalc.LlmcalcError) as caught:
        llmcalc.train("llama-3.2-1b", seq_len=512, **keywords)
    assert words in str(caught.value)


def test_one_gpu_may_say_so():
    plain = llmcalc.train("llama-3.2-1b", seq_len=512)
    assert llmcalc.train("llama-3.2-1b", seq_len=512, zero=0, fsdp="off").total_bytes == plain.total_bytes


def test_other_words_for_the_same():
    asked = {"seq_len": 512, "precision": "bf16"}
    plain = llmcalc.train("llama-3.2-1b", recompute="full", **asked)
    other = llmcalc.train("llama-3.2-1b", recompute=True, attention="flash_attention_2", **asked)
    assert plain.total_bytes == other.total_bytes


def test_parts_of_what_is_not_there_at_the_peak_are_not_there():
    found = llmcalc.train("pythia-410m", method="qlora", precision="bf16", seq_len=1, quant="int8")
    for item in found:
        if not item.bytes_at_peak:
            assert not any(part.bytes_at_peak for part in item.items)
