"""Training on many GPUs: layouts, slices, pipelines, Megatron's ranks, and the literature."""

import itertools

import pytest

import llmcalc
from llmcalc.errors import LlmcalcError
from llmcalc.memory.training.parallel import formulas
from llmcalc.memory.training.parallel.communicators import communicators, nccl_bytes
from llmcalc.memory.training.parallel.mesh import Mesh
from llmcalc.memory.training.parallel.pipeline import events, stages
from llmcalc.memory.training.parallel.ranks import waiting_most
from llmcalc.memory.training.parallel.slices import part_of, sliced

SMALL = {
    "model_type": "llama", "hidden_size": 1024, "num_attention_heads": 16, "num_key_value_heads": 4,
    "intermediate_size": 2816, "vocab_size": 32000, "num_hidden_layers": 8, "max_position_embeddings": 4096,
}  # fmt: skip
MOE = {
    "model_type": "qwen3_moe", "hidden_size": 512, "num_attention_heads": 8, "num_key_value_heads": 4,
    "head_dim": 64, "intermediate_size": 1024, "moe_intermediate_size": 256, "num_experts": 16,
    "num_experts_per_tok": 4, "vocab_size": 8192, "num_hidden_layers": 8, "max_position_embeddings": 4096,
    "norm_topk_prob": True, "decoder_sparse_step": 1, "mlp_only_layers": [],
}  # fmt: skip


def megatron(model=SMALL, **keywords):
    return llmcalc.train(model, **{"like": "megatron", "metric": "allocated", "seq_len": 1024} | keywords)


# -- slices and stages ---------------------------------------------------------------------------


@pytest.mark.parametrize("tp", [2, 4])
def test_tensor_ranks_hold_the_model_once_but_for_what_is_on_all(tp):
    whole = llmcalc.model(SMALL)
    rank = sliced(whole, tp=tp)
    norms = sum(t.numel * g.count for g in whole for t in g.tensors if t.role.endswith("norm"))
    assert tp * rank.params == whole.params + (tp - 1) * norms


def test_key_heads_fewer_than_ranks_are_on_several():
    whole = llmcalc.model(SMALL)
    keys = {t.role: t.numel for g in sliced(whole, tp=8) for t in g.tensors}
    assert keys["key"] == 1024 * 64
    assert keys["query"] == 1024 * 128


def test_expert_ranks_share_experts_and_nothing_else():
    whole = llmcalc.model(MOE)
    rank = sliced(whole, ep=4)
    experts = sum(t.numel * g.count for g in whole for t in g.tensors if t.role.startswith("expert_"))
    assert whole.params - rank.params == experts * 3 // 4


def test_megatron_pads_the_vocabulary_on_each_rank():
    odd = llmcalc.model({**SMALL, "vocab_size": 32001})
    table = next(t for g in sliced(odd, tp=4, pads=True) for t in g.tensors if t.role == "embedding")
    assert table.shape == (32256 // 4, 1024)


@pytest.mark.parametrize(("pp", "vpp"), [(1, 1), (2, 1), (4, 2), (8, 1)])
def test_stages_hold_every_layer_once(pp, vpp):
    whole = llmcalc.model(SMALL)
    found = stages(Mesh(pp=pp, vpp=vpp, dp=2), 8)
    layers = sorted(layer for stage in found for span, _, _ in stage.chunks for layer in span)
    assert layers == list(range(8))
    assert [stage.is_first for stage in found] == [True] + [False] * (pp - 1)
    assert [stage.is_last for stage in found] == [False] * (pp - 1) + [True]
    parts = [
        part_of(whole, {n for s, _, _ in stage.chunks for n in s}, stage.is_first, stage.is_last)
        for stage in found
    ]
    assert sum(part.params for part in parts) == whole.params


def test_a_tied_table_is_on_the_first_and_the_last_stage():
    tied = llmcalc.model({**SMALL, "tie_word_embeddings": True})
    parts = [part_of(tied, range(4 * n, 4 * n + 4), n == 0, n == 1) for n in range(2)]
    assert sum(part.params for part in parts) == tied.params + 32000 * 1024


# -- schedules -----------------------------------------------------------------------------------


def test_1f1b_holds_a_micro_batch_for_each_stage_after():
    assert [waiting_most(Mesh(pp=4, micro_batches=16), stage) for stage in range(4)] == [[3], [2], [1], [0]]


def test_few_micro_batches_are_all_there_is():
    assert waiting_most(Mesh(pp=8, micro_batches=2), 0) == [1]


def test_gpipe_holds_all():
    assert waiting_most(Mesh(pp=4, micro_batches=16, schedule="gpipe"), 3) == [15]


@pytest.mark.parametrize(("pp", "vpp", "m"), [(4, 2, 8), (2, 3, 4), (8, 2, 16)])
def test_interleaving_holds_more_by_the_published_factor(pp, vpp, m):
    """Korthikanti et al. 2022, section 4.2.3: 1 + (p - 1)/(p v) of a stage's layers for p micro-batches."""
    chunks = 1 + sum(waiting_most(Mesh(pp=pp, vpp=vpp, micro_batches=m), 0))
    assert chunks / vpp == pytest.approx(pp * (1 + (pp - 1) / (pp * vpp)))


@pytest.mark.parametrize(("pp", "vpp", "m"), [(1, 1, 3), (4, 1, 8), (4, 2, 8), (2, 4, 4)])
def test_every_forward_pass_has_its_backward(pp, vpp, m):
    from llmcalc.memory.training.parallel.pipeline import passes

    for stage in range(pp):
        mesh, there = Mesh(pp=pp, vpp=vpp, micro_batches=m), [0] * vpp
        for kind, chunk in passes(mesh, stage):
            there[chunk] += 1 if kind == "forward" else -1
            assert there[chunk] >= 0
        assert there == [0] * vpp
        assert min(min(waiting) for _, _, waiting in events(mesh, stage)) >= 0


# -- a step --------------------------------------------------------------------------------------


def test_one_stage_of_a_pipeline_is_the_whole_step():
    """The layers of all stages together, at one micro-batch, keep what one GPU keeps."""
    one, two = megatron(dp=2, tp=1), megatron(dp=1, pp=2, grad_accum=1)
    kept = [rank["items"] for rank in two.ranks]
    for name in ("weights", "gradients"):
        assert sum(items[name] for items in kept) == one[name].bytes


def test_items_add_up_and_the_worst_rank_is_the_total():
    report = megatron(tp=2, pp=2, dp=2, grad_accum=4)
    assert sum(item.bytes_at_peak for item in report if item.where == "device") == report.total_bytes
    assert report.total_bytes == max(rank["total_bytes"] for rank in report.ranks)
    assert report.peak.rank in {rank["name"] for rank in report.ranks}
    assert sum(rank["gpus"] for rank in report.ranks) == 8 == report.gpus


@pytest.mark.parametrize(
    "change", [{"tp": 4}, {"dp": 4}, {"cp": 2}, {"recompute": "full"}, {"pp": 2, "grad_accum": 1}]
)
def test_more_sharing_never_needs_more(change):
    base = {"tp": 2, "dp": 2}
    assert megatron(**base | change).total_bytes <= megatron(**base).total_bytes


@pytest.mark.parametrize(
    "module", ["layernorm", "mlp", "mlp,layernorm", "moe", "moe_act", "moe,layernorm", "core_attn,moe_act"]
)
def test_recomputed_modules_keep_less(module):
    model = MOE if "moe" in module else SMALL
    kept = megatron(model, tp=1, dp=2)["activations"].bytes
    less = megatron(model, tp=1, dp=2, recompute="selective", recompute_modules=module)["activations"].bytes
    assert less < kept
    assert less > megatron(model, tp=1, dp=2, recompute="full")["activations"].bytes


def experts_of(model):
    return sum(t.numel * g.count for g in model for t in g.tensors if t.role.startswith("expert_"))


def test_experts_are_shared_by_their_own_ranks():
    whole, half = megatron(MOE, dp=8), megatron(MOE, dp=8, ep=4)
    experts = experts_of(llmcalc.model(MOE))
    assert whole["weights"].bytes - half["weights"].bytes == 2 * experts * 3 // 4
    # Of eight ranks two hold the same experts: their states are cut in two, where all else is cut in eight.
    assert half["optimizer"].bytes == pytest.approx(
        8 * (experts // 4 // 2 + (llmcalc.model(MOE).params - experts) // 8), rel=1e-3
    )


def test_imbalance_costs_memory():
    even, odd = megatron(MOE, dp=8, ep=4), megatron(MOE, dp=8, ep=4, imbalance=2)
    assert odd["activations"].bytes > even["activations"].bytes


def test_brief_walks_find_the_same_peak():
    """Of many equal layers two at each end decide."""
    from llmcalc.answer.training.ask import resolve
    from llmcalc.answer.training.many import Ranks
    from llmcalc.answer.training.question import Question
    from llmcalc.catalog import Catalog
    from llmcalc.memory.training.parallel.ranks import trace_stage

    book = Catalog.shipped()
    for model, pp, vpp, recompute in itertools.product((SMALL, MOE), (1, 2), (1, 2), ("none", "full")):
        if vpp > 1 and pp == 1:
            continue
        inventory = llmcalc.model({**model, "num_hidden_layers": 32})
        given = {
            "like": "megatron", "pp": pp, "vpp": vpp if pp > 1 else None, "dp": 2, "grad_accum": 4,
            "recompute": recompute, "seq_len": 512,
        }  # fmt: skip
        asked = resolve(inventory, book, given)
        ranks = Ranks(Question(inventory, asked, book), 1, 512, 16)
        for stage in stages(asked.mesh, 32):
            full, brief = (trace_stage(ranks.run, asked.mesh, stage, one) for one in (False, True))
            assert max(m.total for m in full.moments) == max(m.total for m in brief.moments)
            assert len(brief.moments) < len(full.moments)


# -- the literature ------------------------------------------------------------------------------

FIGURE_7 = {
    # heads, width: percent of tensor parallelism alone with sequence parallelism, selective, both, full
    "22B": (64, 6144, 66.84, 49.42, 16.18, 7.64),
    "175B": (96, 12288, 62.04, 56.53, 18.49, 8.71),
    "530B": (128, 20480, 58.31, 62.04, 20.27, 9.42),
    "1T": (160, 25600, 58.31, 62.04, 20.27, 9.42),
}


@pytest.mark.parametrize("name", FIGURE_7)
def test_korthikanti_figure_7(name):
    heads, hidden, *printed = FIGURE_7[name]
    whole = formulas.gpt_layer_bytes(2048, 1, hidden, heads, 8)
    made = [
        formulas.gpt_sequence_parallel_bytes(2048, 1, hidden, heads, 8),
        formulas.gpt_selective_bytes(2048, 1, hidden, 8),
        formulas.gpt_sequence_selective_bytes(2048, 1, hidden, 8),
        formulas.gpt_full_recompute_bytes(2048, 1, hidden),
    ]
    for value, percent in zip(made, printed, strict=True):
        assert 100 * value / whole == pytest.approx(percent, abs=0.15)


def test_narayanan_bubble():
    """Section 2.2: (p - 1)/m, and 1/v of it interleaved."""
    assert formulas.pipeline_bubble(8, 32, 1) == Mesh(pp=8, micro_batches=32).bubble == 7 / 32
    assert Mesh(pp=8, vpp=2, micro_batches=32).bubble == 7 / 64


def test_nccl_measured_among_four():
    """NVIDIA/nccl issue 964: 688 MB for a group of four A100."""
    low, middle, _ = nccl_bytes(communicators(Mesh(dp=4)))
    assert low < 688e6 <= middle * 1.001


# -- bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keywords", "words"),
    [
        ({"tp": 3, "gpu": "8xh100"}, ["3 does not divide 16 attention heads", "--tp 1, 2, 4 or 8"]),
        ({"pp": 3, "gpu": "8xh100"}, ["3 GPUs", "there are 8", "divisor of 8"]),
        ({"tp": 2, "dp": 2, "gpu": "8xh100"}, ["4 GPUs; there are 8", "--dp 4"]),
        ({"tp": 3, "gpu": "8xh100"}, ["does not divide 16 attention heads", "--tp 1, 2, 4 or 8"]),
        ({"like": None, "model": {**SMALL, "vocab_size": 32001}, "tp": 2}, ["config, 32,001", "pads it"]),
        ({"tp": 32, "dp": 1}, ["does not divide 16 attention heads", "--tp 1, 2"]),
        ({"pp": 9, "dp": 1}, ["more than the 8 layers", "--pp 1 to 8"]),
        ({"pp": 4, "vpp": 3}, ["does not divide the 8 layers", "--vpp 2"]),
        ({"pp": 2, "vpp": 2, "grad_accum": 3}, ["multiples of --pp 2", "--grad-accum 4"]),
        ({"vpp": 2, "dp": 2}, ["there is one"]),
        ({"pp": 2, "vpp": 2, "schedule": "gpipe", "grad_accum": 2}, ["GPipe has one chunk"]),
        ({"pp": 2, "stage_layers": "4,5"}, ["adds up to 9", "8"]),
        ({"pp": 2, "stage_layers": "4,2,2"}, ["names 3 stages; there are 2"]),
        ({"ep": 2, "dp": 2}, ["has no experts", "Leave --ep out"]),
        ({"model": MOE, "ep": 5, "dp": 5}, ["does not divide 16 experts"]),
        ({"model": MOE, "ep": 8, "dp": 4}, ["does not divide the 4 ranks", "--ep 1, 2 or 4"]),
        ({"zero": 3, "dp": 8}, ["distributed optimizer", "--zero 1"]),
        ({"dp": 4, "micro_batch": 2, "grad_accum": 2, "global_batch": 32}, ["contradicts", "which is 16"]),
        ({"gpu": "h100,8xh100"}, ["different layouts", "same number"]),
        ({"schedule": "gpipe"}, ["there is one"]),
        ({"dp": 2, "capacity_factor": 0}, ["factor such as"]),
        ({"dp": 2, "recompute_modules": "mlp"}, ["goes with --recompute selective"]),
        ({"dp": 2, "recompute": "selective", "recompute_modules": "mpl"}, ["Did you mean mlp"]),
    ],
)  # fmt: skip
def test_bad_layouts_are_one_clear_error(keywords, words):
    model = keywords.pop("model", SMALL)
    with pytest.raises(LlmcalcError) as caught:
        megatron(model, **keywords)
    told = str(caught.value)
    for word in words:
        assert word in told, told


def test_an_array_that_moves_the_worst_stage_is_refused_not_guessed():
    import numpy as np

    asked = {"tp": 2, "pp": 2, "dp": 2, "grad_accum": 4}
    lengths = np.array([128, 1024, 16384])
    worst = [llmcalc.train("llama-3.2-1b", seq_len=int(one), **asked).peak.rank for one in lengths]
    assert len(set(worst)) == 2
    with pytest.raises(LlmcalcError, match="not the same for all values"):
        llmcalc.train("llama-3.2-1b", seq_len=lengths, **asked)
