"""Items and peaks, and formulas that show themselves."""

import importlib
import inspect

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import llmcalc
from llmcalc import formula
from llmcalc.cli.explain import MODULES
from llmcalc.estimate import Item, find_peak
from llmcalc.memory import inference
from llmcalc.memory.training import formulas as training_formulas
from llmcalc.memory.vectors import formulas as vector_formulas
from llmcalc.memory.vectors import pgvector
from llmcalc.text import formulas as text_formulas

for _module in MODULES:  # which register their formulas
    importlib.import_module(_module)

PHASES = ("load", "prefill", "decode")
RANKS = ("first", "last")

items_strategy = st.lists(
    st.tuples(
        st.lists(st.integers(0, 1000), min_size=2, max_size=2),
        st.sets(st.sampled_from(PHASES), min_size=1),
        st.sampled_from(("device", "host", "device")),
    ),
    min_size=1,
    max_size=6,
)


def made(raw):
    return [
        Item(f"item{n}", amounts, phases=sorted(phases), where=where, high=[a + 5 for a in amounts])
        for n, (amounts, phases, where) in enumerate(raw)
    ]


@given(items_strategy)
@settings(derandomize=True, deadline=None)
def test_peak_is_the_largest_sum_of_what_is_alive(raw):
    items = made(raw)
    peak = find_peak(items, RANKS, PHASES)
    sums = [
        sum(i.amounts[rank] for i in items if i.where == "device" and phase in i.phases)
        for rank in (0, 1)
        for phase in PHASES
    ]
    assert peak.total == max(sums)
    assert sum(i.bytes_at_peak for i in items if i.where == "device") == peak.total
    assert peak.low <= peak.total <= peak.high
    for item in items:
        assert item.bytes_at_peak <= item.bytes


@given(items_strategy, st.lists(st.integers(0, 2000), min_size=3, max_size=3))
@settings(derandomize=True, deadline=None)
def test_array_peaks_equal_scalar_peaks(raw, values):
    """One more item that varies moves the peak from element to element."""

    def with_item(amounts):
        return [*made(raw), Item("varying", [amounts, 0], phases=["prefill"])]

    swept = with_item(np.array(values))
    peak = find_peak(swept, RANKS, PHASES)
    for index, value in enumerate(values):
        single = with_item(value)
        expected = find_peak(single, RANKS, PHASES)
        assert np.broadcast_to(peak.total, 3)[index] == expected.total
        shares = [np.broadcast_to(i.bytes_at_peak, 3)[index] for i in swept if i.where == "device"]
        assert sum(shares) == expected.total


def test_ties_go_to_the_last_phase_and_the_first_rank():
    peak = find_peak([Item("weights", [7, 7])], RANKS, PHASES)
    assert (peak.phase, peak.rank) == ("decode", "first")


def test_a_grade_is_the_worst_of_its_parts():
    parts = [Item("a", [1], grade="exact"), Item("b", [1], grade="calibrated")]
    assert Item("whole", [2], grade="derived", items=parts).grade == "calibrated"


COMMON = {"layers": 3, "sequences": 13}
HEADS = {**COMMON, "kv_heads": 5, "head_dim": 7, "tokens": 11, "bytes_per_element": 2}
GPT = {"sequence": 128, "batch": 3, "hidden": 512, "heads": 8, "tensor_parallel": 4}
RUN = {"N": 7_000_000_000, "D": 140_000_000_000}
SPLIT = {"A": 482.0, "B": 2085.0, "alpha": 0.348, "beta": 0.366}
ARGUMENTS = {
    "rule_of_thumb": {"parameters": 7_000_000_000, "bytes_per_parameter": 2, "overhead": 1.2},
    "weight_bytes": {"parameters": 1_000_003, "bits": 5},
    "vector_bytes": {"vectors": 1_000_003, "dim": 765, "bits": 6},
    "pq_code_bytes": {"vectors": 1_000_003, "subvectors": 63, "bits": 5},
    "pq_codebook_bytes": {"dim": 765, "bits": 8},
    "hnsw_links": {"vectors": 1_000_003, "m": 31},
    "precomputed_table_bytes": {"lists": 4096, "subvectors": 63, "bits": 8},
    "chunks_of_document": {"tokens": 10_000, "chunk": 512, "overlap": 64},
    "hnsw_tuples_bytes": {"value": 6152, "m": 16, "level": 1},
    "ivfflat_pages": {"vectors": 1_000_003, "lists": 1000, "on_page": 29},
    "bits_of_nats": {"nats": 1.69},
    "nats_of_bits": {"bits": 2.5},
    "perplexity_of_nats": {"nats": 2.0},
    "perplexity_of_bits": {"bits": 3.0},
    "loss_of_perplexity": {"perplexity": 8.0},
    "bits_per_character": {"bits_per_token": 6.0, "chars_per_token": 4.3},
    "bits_per_byte": {"bits_per_character": 3.0, "bytes_per_char": 0.875},
    "bits_per_unit": {"bits": 2.4466, "units": 0.29335, "other_units": 1.5},
    "perplexity_per_unit": {"perplexity": 1.5, "units": 5.25, "other_units": 2.0},
    "compression_share": {"bits_per_byte": 0.93},
    "compression_factor": {"bits_per_byte": 0.93},
    "uniform_loss": {"vocabulary": 50_257},
    "divergence": {"cross_entropy": 1.94, "entropy": 1.69},
    "overhead_bytes": {"weights": 1_000_003, "numerator": 6, "denominator": 5},
    "kv_cache_bytes": HEADS,
    "window_cache_bytes": {**HEADS, "window": 9},
    "mla_cache_bytes": {
        **COMMON,
        "kv_lora_rank": 512,
        "qk_rope_head_dim": 64,
        "tokens": 11,
        "bytes_per_element": 2,
    },
    "cache_rows_bytes": {**COMMON, "row_bytes": 34, "positions": 11},
    "residual_cache_bytes": {**COMMON, "row_bytes": 34, "recent_bytes": 128, "tokens": 11, "recent": 4},
    "recurrent_state_bytes": {**COMMON, "state_elements": 77, "bytes_per_element": 4},
    "conv_state_bytes": {**COMMON, "channels": 77, "kernel": 4, "bytes_per_element": 2},
    "model_state_bytes": {
        "parameters": 1_000_003,
        "weights": 2,
        "master": 4,
        "gradients": 2,
        "states": 8,
    },
    "gradient_bytes": {"parameters": 1_000_003, "bytes_per_element": 2},
    "state_bytes": {"elements": 1_000_003, "bytes_per_element": 4},
    "blockwise_state_bytes": {"elements": 1_000_003, "bits": 4, "block": 128},
    "lora_parameters": {"rank": 16, "inputs": 4096, "outputs": 1024},
    "bottleneck_parameters": {"width": 1024, "inner": 64},
    "prefix_parameters": {"tokens": 20, "layers": 32, "key_width": 1024, "value_width": 512},
    "gpt_layer_bytes": GPT,
    "gpt_sequence_parallel_bytes": GPT,
    "gpt_selective_bytes": {key: value for key, value in GPT.items() if key != "heads"},
    "gpt_sequence_selective_bytes": {key: value for key, value in GPT.items() if key != "heads"},
    "gpt_full_recompute_bytes": {"sequence": 128, "batch": 3, "hidden": 512},
    "pipeline_bubble": {"stages": 5, "micro_batches": 16, "chunks": 2},
    "inference_flops": {"N": 7_000_000_000, "D": 2_000_000_000_000},
    "gpu_flops": {"gpus": 8, "days": 30, "peak": 10**15, "mfu": 0.4},
    "chinchilla_loss": {**RUN, **SPLIT, "E": 1.8},
    "supervised_loss": {**RUN, **SPLIT, "E": 1.2, "gamma": 0.45},
    "optimum_ratio": SPLIT,
    "optimal_params": {"C": 10**21, "G": 0.12, "alpha": 0.35, "beta": 0.37},
    "optimal_tokens": {"C": 10**21, "G": 0.12, "alpha": 0.35, "beta": 0.37},
    "balanced_tokens": {"N": RUN["N"], **SPLIT},
    "balanced_params": {"D": RUN["D"], **SPLIT},
    "optimal_reducible_loss": {"C": 10**21, "G": 0.12, **SPLIT},
    "compute_for_loss": {"reducible": 0.3, "G": 0.12, **SPLIT},
    "tokens_for_loss": {"N": RUN["N"], "reducible": 0.5, **SPLIT},
    "inference_balance": {**RUN, **SPLIT},
    "power_law": {"x": 10**21, "coefficient": 0.3, "exponent": 0.537},
    "ratio_params": {"C": 10**21, "ratio": 20},
    "power_loss": {"x": RUN["N"], "scale": 8.8e13, "exponent": 0.076},
    "kaplan_loss": {**RUN, "N_c": 6.4e13, "D_c": 1.8e13, "alpha_N": 0.076, "alpha_D": 0.103},
    "kaplan_curve": {
        "N": RUN["N"], "S": 10_000, "N_c": 6.5e13, "alpha_N": 0.077, "S_c": 2100, "alpha_S": 0.76,
    },
    "frontier_loss": {"C": 10**22, "C_0": 5.984e22, "exponent": -0.0737, "E": 0.5066},
    "overtrained_loss": {"C": 10**20, "M": 40, "E": 1.5, "a": 90.0, "b": 190.0, "eta": 0.114},
    "farseer_loss": {
        **RUN, "s": -0.1, "q": 0.05, "S": 1.0, "B": 1.0, "b": 0.05, "Q": 1.0, "A": -0.1, "a": 0.05, "E": -1.0,
    },
    "sparse_loss": {
        **RUN, "S": 0.5, "a_S": 17.0, "b_S": 0.7, "c_S": 0.5, "b_N": 0.25, "a_D": 1e8, "b_D": 0.3, "c": 0.6,
    },
    "repeated_value": {"U": 25_000_000_000, "R": 3, "R_star": 15.4},
    "effective_experts": {"E": 8, "E_start": 2.0732, "E_max": 290.4521},
    "expert_coefficient": {"coefficient": 35.91, "Ehat": 8.4, "power": -0.2285},
    "expert_exponent": {"exponent": -0.1889, "slope": 0.0098, "Ehat": 8.4},
    "experts_of_ratio": {"active_ratio": 0.25, "feedforward": 0.5},
    "routed_loss": {"N": RUN["N"], "Ehat": 8.4, "a": -0.082, "b": -0.108, "c": 0.009, "d": 1.104},
    "fine_grained_coefficient": {"a": 18.1, "g": 2.1, "G": 8, "gamma": 0.58, "X": 64, "alpha": 0.115},
    "sparse_moe_loss": {
        **RUN, "S": 0.5, "a": 16612.5, "alpha": 0.5962, "b": 5455.67, "beta": 0.3954, "c": 0.4598,
        "lam": -0.1666, "d": 17.26, "delta": 0.1603, "gamma": 0.1595, "e": 0.94,
    },
    "product_law": {**RUN, "coefficient": 1.79, "p_N": -0.713, "p_D": 0.307},
    "expert_rate": {"N": RUN["N"], "E": 8, "l_0": 8.39, "l_N": -0.81, "l_E": -0.25},
    "batch_of_loss": {"L": 2.1, "coefficient": 1.21e9, "exponent": 6.24},
    "steps_over_least": {"B": 4_000_000, "B_crit": 1_000_000},
    "tokens_over_least": {"B": 4_000_000, "B_crit": 1_000_000},
    "total_params": {"N": RUN["N"], "gamma": 47491},
    "tokens_per_character": {"V": 32_000, "c_2": 0.00639222, "c_1": -0.15811069, "c_0": 1.20470122},
    "vocabulary_loss": {
        "N": 7000.0, "N_v": 255.0, "D": 500.0, "E": 5.5, "A_1": 1.8, "a_1": 0.45, "A_2": 0.2, "a_2": 0.67,
        "B": 2.1, "beta": 0.45,
    },
    "precision_params": {"N": RUN["N"], "P": 8, "gamma": 2.6745, "n": 0.0},
    "task_accuracy": {"L": 0.8, "a": -0.75, "k": 5.0, "L_0": 1.0, "b": 1.0},
}  # fmt: skip
"""Arguments of every formula."""

VALUES = {
    "tokens": 96, "outputs": 24, "inputs": 16, "rank": 4, "flops": 1e15, "moved": 1e9, "pairs": 4656,
    "query_width": 24, "value_width": 16, "window": 32, "chunk": 32, "reach": 8, "parameters": 7_000_000,
    "trained": 1_000_000, "width": 2, "states": 8, "channels": 64, "kernel": 4, "hours": 120, "days": 3,
    "base": 0.35, "kwh": 700, "grams": 385, "watts": 700, "share": 0.75, "pue": 1.25, "experts": 64,
    "layers": 12, "hidden": 512, "sequence": 128, "passes": 3, "peak": 1e15, "used": 0.5,
    "attention_width": 512, "heads": 8, "ffn": 2048, "vocabulary": 32_000, "batch": 4, "price": 2, "gpus": 8,
    "throughput": 2500, "busy": 0.5,
    "bandwidth": 3e12, "state": 64, "per_element": 7, "embedding": 1_000_000, "examples": 1000, "epochs": 3,
    "context": 512, "seconds": 2.5, "ranks": 8, "largest_layer": 100_000, "shared": 2,
}  # fmt: skip
"""What the others are called with, by the names of their arguments."""

for _name in sorted(set(formula.REGISTRY) - set(ARGUMENTS)):
    _names = inspect.signature(inspect.unwrap(formula.get(_name))).parameters
    ARGUMENTS[_name] = {one: VALUES[one] for one in _names}


def test_every_formula_is_listed_here():
    assert set(ARGUMENTS) == set(formula.REGISTRY)


@pytest.mark.parametrize("name", ARGUMENTS)
def test_printed_text_is_what_is_computed(name):
    function = formula.get(name)
    helpers = {
        "ceil_div": formula.ceil_div,
        "smaller": formula.smaller,
        "larger": formula.larger,
        "exp": formula.exp,
        "log": formula.log,
    }
    value = function(**ARGUMENTS[name])
    assert eval(formula.expression(function), {**helpers, **ARGUMENTS[name]}) == value
    shown = formula.substituted(function, ARGUMENTS[name])
    digits = "".join(c for i, c in enumerate(shown) if not (c == "," and shown[i + 1].isdigit()))
    assert eval(digits, helpers) == value


@pytest.mark.parametrize("name", ARGUMENTS)
def test_formulas_take_arrays_in_every_argument(name):
    function = formula.get(name)
    scalar = function(**ARGUMENTS[name])
    for argument, value in ARGUMENTS[name].items():
        swept = function(**{**ARGUMENTS[name], argument: np.array([value, value])})
        assert swept.shape == (2,)
        assert (swept == scalar).all()


@pytest.mark.parametrize("name", ARGUMENTS)
def test_formulas_are_documented(name):
    function = formula.get(name)
    doc = inspect.getdoc(function)
    for section in ("Parameters", "Returns", "Examples", "References"):
        assert f"{section}\n{'-' * len(section)}" in doc
    assert ">>>" in doc
    for parameter in inspect.signature(inspect.unwrap(function)).parameters:
        assert parameter in doc


def test_explanations_name_formula_values_origin_and_source():
    text = llmcalc.vram("gemma-3-27b", context="128k", gpu="h200").explain()
    for part in (
        "window_cache_bytes = 2 * layers",
        "smaller(131,072, 1,024)",
        "window = 1,024  (the model)",
        "tokens = 131,072  (given)",
        "sequences = 1  (default)",
        "Beltagy et al. 2020",
        "catalog entry gemma-3-27b-it",
        "assumed",
    ):
        assert part in text


def test_numpy_scalars_are_numbers():
    assert inference.weight_bytes(np.int64(3), 16) == 6
    assert training_formulas.gradient_bytes(np.int64(3), 2) == 6
    assert vector_formulas.vector_bytes(np.int64(3), 8, 8) == 24
    assert pgvector.hnsw_tuples_bytes(np.int64(6152), 16, 0) == 6432
    assert text_formulas.compression_share(np.float64(4)) == 0.5
    assert llmcalc.vram("llama-3.1-8b", context=np.int64(8192))["kv_cache"].bytes == 2**30
