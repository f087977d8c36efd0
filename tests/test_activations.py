"""What autograd keeps and what is alive when, against PyTorch's own hooks and its memory tracker."""

import csv
import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest

import llmcalc
from llmcalc.errors import ConfigError
from llmcalc.memory.training.plan import LOSSES, RECIPES, Adapter, Plan
from llmcalc.memory.training.trace import trace
from llmcalc.memory.training.traits import VERIFIED

DATA = Path(__file__).parent / "data"
LINEARS = {
    "query": "q_proj",
    "key": "k_proj",
    "value": "v_proj",
    "output": "o_proj",
    "gate": "gate_proj",
    "up": "up_proj",
    "down": "down_proj",
    "qkv": "qkv_proj",
    "gate_up": "gate_up_proj",
}
LLAMA = {
    "1b": {
        "num_hidden_layers": 16,
        "hidden_size": 2048,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 64,
    },
    "3b": {
        "num_hidden_layers": 28,
        "hidden_size": 3072,
        "num_attention_heads": 24,
        "num_key_value_heads": 8,
        "head_dim": 128,
    },
}


class Adapted(Plan):
    """Adapters on some linears of a frozen model, or some layers frozen."""

    __slots__ = ("frozen", "one", "targets")

    def __init__(self, *args, targets=(), rank=8, bytes_=4, dropout=False, frozen=0, **keywords):
        super().__init__(*args, **keywords)
        self.targets, self.frozen = set(targets), frozen
        self.one = Adapter("lora", rank, bytes_, dropout)

    def trains(self, group, layer, role, part):
        if self.targets:
            return False
        return not self.frozen or not (
            group.place == "embedding" or (layer is not None and layer < self.frozen)
        )

    def adapter(self, group, layer, role):
        name = group.names.get(role, LINEARS.get(role, role)).split(".")[-1]
        return self.one if name in self.targets or LINEARS.get(role) in self.targets else None


def lines(name):
    return [json.loads(line) for line in (DATA / name).read_text().splitlines()]


def table(name):
    with (DATA / name).open(newline="") as file:
        return list(csv.DictReader(file))


def tiny(row, layers):
    """The configuration of a row of the table."""
    size = {name: int(row[name]) for name in ("hidden", "heads", "kv_heads", "ffn", "vocab")}
    if row["arch"] == "gpt2":
        return {
            "model_type": "gpt2",
            "n_layer": layers,
            "n_embd": size["hidden"],
            "n_head": size["heads"],
            "n_inner": size["ffn"],
            "vocab_size": size["vocab"],
            "n_positions": 8192,
            "tie_word_embeddings": False,
        }
    made = {
        "model_type": row["arch"],
        "num_hidden_layers": layers,
        "hidden_size": size["hidden"],
        "num_attention_heads": size["heads"],
        "num_key_value_heads": size["kv_heads"],
        "intermediate_size": size["ffn"],
        "vocab_size": size["vocab"],
        "max_position_embeddings": 8192,
        "tie_word_embeddings": False,
    }
    if row["arch"] in ("qwen3", "gemma2"):
        made["head_dim"] = size["hidden"] // size["heads"]
    if row["arch"] in ("mistral", "mixtral"):
        made["sliding_window"] = None
    if row["arch"] == "mixtral":
        made |= {"num_local_experts": 4, "num_experts_per_tok": 2}
    if row["arch"] == "gemma2":
        made |= {
            "sliding_window": 4096,
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention"][:layers],
        }
    return made


def plan_of(row):
    targets = [name for name in row["targets"].split("+") if name]
    return Adapted(
        int(row["batch"]),
        int(row["seq"]),
        element=2 if row["dtype"] == "bf16" else 4,
        attention=row["attention"],
        recompute="full" if row["checkpointing"] == "1" else "none",
        targets=targets,
        rank=int(row["rank"] or 0),
        bytes_=int(row["adapter_bytes"] or 0),
        dropout=float(row["dropout"]) > 0,
    )


@pytest.mark.parametrize("arch", ["llama", "qwen2", "qwen3", "mistral", "mixtral", "gemma2", "gpt2"])
def test_saved_bytes_are_those_of_pytorchs_hooks(arch):
    rows = [row for row in table("activation_rows.csv") if row["arch"] == arch]
    assert len(rows) >= 12
    for row in rows:
        two, three = (trace(llmcalc.model(tiny(row, n)), plan_of(row)).saved for n in (2, 3))
        expected = int(row["per_layer"])
        if float(row["dropout"]):  # a CPU keeps a mask as wide as an activation, a GPU one byte
            widths = {"down_proj": int(row["ffn"])}
            inputs = sum(widths.get(name, int(row["hidden"])) for name in row["targets"].split("+"))
            expected -= (int(row["adapter_bytes"]) - 1) * inputs * int(row["batch"]) * int(row["seq"])
        assert three - two == expected, row
        if row["non_layer"]:
            assert two - 2 * (three - two) == int(row["non_layer"]), row


def explained(row):
    """Rows that a GPU does not run so, or whose bytes depend on the data."""
    if row["experts"] == "eager":
        return "a loop over experts saves what the router's choice demands"
    if row["kernel"] == "composite" and row["attention"] == "sdpa" and row["model_type"] != "falcon":
        return "a CPU has no fused kernel for values of another width than keys; a GPU has"
    if row["model_type"] == "qwen3_next" and row["dtype"] == "fp32":
        return "without a cast, other copies are made of queries, keys and values"
    return ""


def test_other_families_save_what_pytorchs_hooks_see():
    checked = {}
    for row in lines("activation_oracle_more.jsonl"):
        if explained(row):
            continue
        lora = row["lora"] or {}
        plan = Adapted(
            row["batch"],
            row["seq"],
            element=2 if row["dtype"] == "bf16" else 4,
            attention=row["attention"],
            padded=row["padded"],
            recompute="full" if row["checkpointing"] else "none",
            frozen=row["frozen_layers"],
            targets=lora.get("targets", ()),
            rank=lora.get("rank", 0),
            bytes_=2 if lora.get("dtype") == "bf16" else 4,
        )
        for layers, expected in row["bytes"].items():
            config = {**row["config"], "num_hidden_layers": int(layers)}
            if config.get("layer_types"):
                config["layer_types"] = config["layer_types"][: int(layers)]
            assert trace(llmcalc.model(config), plan).saved == expected, row
        checked[row["model_type"]] = checked.get(row["model_type"], 0) + 1
    wanted = [
        "gemma3_text",
        "phi3",
        "qwen3_moe",
        "deepseek_v2",
        "deepseek_v3",
        "gpt_neox",
        "mamba2",
        "olmo2",
        "gpt_oss",
        "falcon",
        "falcon_h1",
    ]
    assert all(checked.get(family, 0) >= 13 for family in wanted)
    assert set(checked) <= set(VERIFIED)


def test_yet_more_families_save_what_pytorchs_hooks_see():
    seen = set()
    for row in lines("activation_families.jsonl"):
        plan = Plan(row["batch"], row["seq"], attention=row["attention"])
        for layers, expected in row["bytes"].items():
            config = {**row["config"], DEPTH.get(row["model_type"], "num_hidden_layers"): int(layers)}
            for key in ("layer_types", "no_rope_layers"):
                if key in config:
                    config[key] = config[key][: int(layers)]
            if row["model_type"] == "gpt_neo":
                config["attention_types"] = [[["global"], int(layers)]]
            assert trace(llmcalc.model(config), plan).saved == expected, row
        seen.add(row["model_type"])
    assert len(seen) > 20
    assert seen <= set(VERIFIED)


DEPTH = {"gpt_bigcode": "n_layer", "bloom": "n_layer", "gpt_neo": "num_layers"}


def test_dropout_keeps_a_byte_an_element():
    sizes = {"n_embd": 128, "n_head": 8, "n_inner": 512, "vocab_size": 512, "n_positions": 8192}
    sizes |= {"model_type": "gpt2", "tie_word_embeddings": False}
    for attention, scores in (("sdpa", 0), ("eager", 3 * 8 * 64)):  # a mask of the scores, and what it leaves
        none, some = (
            [
                trace(
                    llmcalc.model(
                        {**sizes, "n_layer": n, "resid_pdrop": p, "attn_pdrop": p, "embd_pdrop": p}
                    ),
                    Plan(2, 64, attention=attention),
                ).saved
                for n in (2, 3)
            ]
            for p in (0.0, 0.1)
        )
        assert (some[1] - some[0]) - (none[1] - none[0]) == (2 * 128 + scores) * 128


def test_litgpts_own_code():
    for row in lines("activation_litgpt.jsonl"):
        if row["model_type"] in ("gemma", "gpt_neox", "falcon") and row["lora_targets"]:
            continue  # adapters on parts of fused matrices are the choice of targets' matter
        names = {"q": "q_proj", "k": "k_proj", "v": "v_proj", "projection": "o_proj"}
        targets = [names.get(name, name) for name in row["lora_targets"].split(",") if name]
        if "mlp" in targets:
            targets += ["gate_proj", "up_proj", "down_proj"]
        if "head" in targets:
            targets += ["unembedding", "embedding"]
        plan = Adapted(
            row["batch"],
            row["seq"],
            recipe="litgpt",
            loss="chunked",
            targets=targets,
            rank=row["rank"],
            bytes_=2,
        )
        found = {
            n: trace(llmcalc.model({**row["config"], "num_hidden_layers": int(n)}), plan).saved
            for n in row["bytes"]
        }
        if row["model_type"] != "gemma":  # of which the oracle leaves out that norms add one to their weights
            assert found["3"] - found["2"] == row["bytes"]["3"] - row["bytes"]["2"], row
        assert abs(found["3"] - row["bytes"]["3"]) < 5000, row  # shifted labels and what chunks add


# -- peaks -------------------------------------------------------------------------------------


def within(found, expected, share):
    return math.isclose(found, expected, rel_tol=share)


def test_peaks_are_those_of_the_memory_tracker():
    for row in lines("activation_peaks.jsonl"):
        lora = row["lora"] or {}
        config = dict(
            model_type="llama",
            vocab_size=128256,
            intermediate_size=8192,
            max_position_embeddings=131072,
            tie_word_embeddings=True,
            **LLAMA[row["model"][-2:]],
        )
        plan = Adapted(
            row["B"],
            row["S"],
            element=2 if row["autocast"] else row["bytes"],
            weight_element=row["bytes"],
            autocast=row["autocast"],
            attention=row["attn"],
            padded=True,
            watched=True,
            recompute="full" if row["grad_ckpt"] else "none",
            keep_logits=row["keep_logits"],
            targets=lora.get("t", ()),
            rank=lora.get("r", 0),
        )
        peak, worst = (
            row["peak"],
            max(trace(llmcalc.model(config), plan).moments, key=lambda moment: moment.total),
        )
        if row["foreach"]:  # the optimizer's own temporary comes later, and is more
            assert worst.total + row["peak"]["PARAM"] < peak["Total"]
            continue
        assert within(worst.activations + worst.logits + worst.buffers, peak["ACT"] + peak["TEMP"], 1e-4), row
        assert worst.gradients == peak["GRAD"], row
        assert within(worst.total, peak["ACT"] + peak["TEMP"] + peak["GRAD"], 1e-4), row


PHASES = {"forward": ("forward",), "backward": ("loss", "backward")}


def test_each_phase_of_whole_steps():
    errors = []
    for row in lines("training_peaks.jsonl"):
        if row["micro_batches"] > 1:
            continue
        lora, wide = row["lora"] or {}, 2 if row["dtype"] == "bf16" else 4
        plan = Adapted(
            row["batch"],
            row["seq"],
            element=2 if row["autocast"] else wide,
            weight_element=wide,
            autocast=row["autocast"],
            attention=row["attention"],
            padded=row.get("masked", not row["real"]),
            watched=True,
            recompute="full" if row["checkpointing"] else "none",
            keep_logits=row["keep_logits"],
            targets=lora.get("targets", ()),
            rank=lora.get("rank", 0),
            bytes_=2 if lora.get("dtype") == "bf16" else 4,
            frozen=row["frozen_layers"],
            inputs_require_grad=bool(lora) and row["checkpointing"],
        )
        moments = trace(llmcalc.model(row["config"]), plan).moments
        for phase, names in PHASES.items():
            if phase in row["phases"]:
                seen = row["phases"][phase]
                expected = sum(seen.get(kind, 0) for kind in ("ACT", "TEMP", "GRAD"))
                found = max(moment.total for moment in moments if moment.phase in names)
                errors.append(abs(found - expected) / expected)
    assert len(errors) > 80
    assert sorted(errors)[int(0.95 * len(errors))] < 0.001
    assert max(errors) < 0.03  # the step before leaves an input and its gradient where adapters checkpoint


# -- properties --------------------------------------------------------------------------------

MODELS = ("llama-3.2-1b", "gemma-3-4b", "qwen3-30b-a3b", "gpt-oss-20b", "deepseek-v2-lite", "phi-2")


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(
    "keywords",
    [
        {},
        {"recompute": "full"},
        {"recompute": 2},
        {"attention": "eager"},
        {"padded": True},
        {"recompute": "selective", "attention": "eager"},
        {"recipe": "liger", "loss": "fused"},
        {"recipe": "litgpt", "loss": "chunked"},
        {"attention": "flash", "padded": True},
    ],
    ids=str,
)
def test_arrays_equal_single_steps(name, keywords):
    model = llmcalc.model(name)
    batch, seq = np.array([1, 2, 1, 3, 2]), np.array([64, 130, 5000, 4096, 700])
    whole = trace(model, Plan(batch, seq, **keywords))
    peaks = np.max([moment.total for moment in whole.moments], axis=0)
    for i, (sequences, tokens) in enumerate(zip(batch.tolist(), seq.tolist(), strict=True)):
        one = trace(model, Plan(sequences, tokens, **keywords))
        assert one.saved == whole.saved[i]
        assert max(moment.total for moment in one.moments) == peaks[i]
        assert one.saved == sum(one.parts.values())
        assert sum(amounts[i] for amounts in whole.parts.values()) == one.saved


def test_ranks_may_be_arrays():
    model, ranks = llmcalc.model("llama-3.2-1b"), np.array([4, 8, 64])
    whole = trace(model, Adapted(np.array([1, 1, 2]), 128, targets=["q_proj"], rank=ranks))
    singles = [
        trace(model, Adapted(batch, 128, targets=["q_proj"], rank=rank)).saved
        for batch, rank in zip((1, 1, 2), (4, 8, 64), strict=True)
    ]
    assert whole.saved.tolist() == singles


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("loss", LOSSES)
def test_more_of_anything_needs_more(recipe, loss):
    model = llmcalc.model("llama-3.2-1b")
    traces = [
        trace(model, Plan(b, s, recipe=recipe, loss=loss))
        for b, s in ((1, 256), (1, 512), (2, 512), (4, 512))
    ]
    for smaller, larger in itertools.pairwise(traces):
        assert smaller.saved < larger.saved
        assert max(m.total for m in smaller.moments) < max(m.total for m in larger.moments)
    for moment in (moment for one in traces for moment in one.moments):
        assert min(moment.activations, moment.logits, moment.gradients, moment.buffers) >= 0, moment


def test_checkpointing_keeps_the_inputs_of_layers():
    model = llmcalc.model("llama-3.2-1b")
    stored, none = trace(model, Plan(1, 1024, recompute="full")), trace(model, Plan(1, 1024))
    inputs = 16 * 2 * 2048 * 1024
    outside = none.saved - 16 * (20 * 2048 + 4 * 512 + 4 * 32 + 8 * 8192 + 8) * 1024
    assert stored.saved == inputs + outside - 2 * 2 * 64 * 1024  # the rotations are saved by layers
    fourth = trace(model, Plan(1, 1024, recompute=4))
    assert fourth.saved == stored.saved - 12 * 2 * 2048 * 1024
    assert trace(model, Plan(1, 1024, recompute=1)).saved == stored.saved
    peaks = [max(m.total for m in one.moments if m.phase == "backward") for one in (stored, fourth, none)]
    assert peaks == sorted(peaks)


def test_selective_recomputation_drops_the_scores():
    model = llmcalc.model("gpt2")
    none, some = (
        trace(model, Plan(1, 1024, attention="eager", recompute=how)) for how in ("none", "selective")
    )
    assert "scores" in none.parts
    assert "scores" not in some.parts
    flash = trace(model, Plan(1, 1024))
    assert some.saved < flash.saved < none.saved


def test_what_is_frozen_saves_nothing():
    class Frozen(Plan):
        def trains(self, group, layer, role, part):
            return False

    model = llmcalc.model("llama-3.2-1b")
    nothing = trace(model, Frozen(1, 512))
    assert nothing.saved == 0
    assert all(moment.gradients == 0 for moment in nothing.moments)
    last = [trace(model, Adapted(1, 512, frozen=layers)).saved for layers in (0, 8, 15, 16)]
    assert last == sorted(last, reverse=True)
    layer = (20 * 2048 + 4 * 512 + 4 * 32 + 8 * 8192 + 8) * 512
    assert last[1] - last[2] == 7 * layer


def test_gradients_add_up_to_all_parameters():
    for name in ("llama-3.2-1b", "qwen3-30b-a3b", "phi-2", "gemma-3-1b", "gpt-oss-20b"):
        model = llmcalc.model(name)
        last = trace(model, Plan(1, 64)).moments[-1]
        table_ = next(t.numel for g in model for t in g.tensors if t.role == "embedding")
        assert 2 * model.params == last.gradients + 2 * table_  # whose own gradient has just been made


def test_a_gradient_used_at_once_does_not_stay():
    model = llmcalc.model("llama-3.2-1b")
    at_once, kept = (trace(model, Plan(1, 64, in_backward=on)) for on in (True, False))
    assert max(m.gradients for m in at_once.moments) < max(m.gradients for m in kept.moments) / 2


def test_the_peak_of_the_loss_is_fourteen_bytes_a_logit():
    model, tokens = llmcalc.model("llama-3.2-3b"), 2048
    kept, dropped = (trace(model, Plan(1, tokens, keep_logits=on)) for on in (True, False))
    loss = {id(one): next(m for m in one.moments if m.phase == "loss").total for one in (kept, dropped)}
    assert loss[id(kept)] - loss[id(dropped)] == 2 * 128256 * tokens
    inside = trace(model, Plan(1, tokens, loss="none"))
    assert loss[id(kept)] - inside.saved == pytest.approx((14 * 128256 + 2 * 3072) * tokens, rel=1e-5)
    fused, chunked, eager = (
        max(m.total for m in trace(model, Plan(4, tokens, loss=how)).moments)
        for how in ("fused", "chunked", "eager")
    )
    assert chunked < eager
    assert fused < eager


def test_what_is_not_known_is_refused():
    with pytest.raises(ConfigError, match="only a count is known"):
        trace(llmcalc.model("13b"), Plan(1, 128))
    with pytest.raises(ConfigError, match="not known"):
        trace(llmcalc.model("mamba-130m"), Plan(1, 128))


def test_a_hundred_thousand_steps_are_quick():
    import time

    rng = np.random.default_rng(1)
    batch, seq = rng.integers(1, 33, 100_000), rng.integers(64, 8192, 100_000)
    start = time.process_time()
    made = trace(llmcalc.model("llama-3.1-8b"), Plan(batch, seq, recompute="full"))
    assert made.saved.shape == (100_000,)
    assert time.process_time() - start < 5


# -- live --------------------------------------------------------------------------------------


def test_a_model_that_really_runs():
    torch = pytest.importorskip("torch")
    pytest.importorskip("transformers")
    import transformers

    sizes = {
        "hidden_size": 96,
        "num_attention_heads": 6,
        "num_key_value_heads": 2,
        "intermediate_size": 176,
        "vocab_size": 320,
        "num_hidden_layers": 2,
        "max_position_embeddings": 512,
        "tie_word_embeddings": True,
    }
    config = transformers.Qwen3Config(head_dim=24, **sizes)
    model = transformers.AutoModelForCausalLM.from_config(
        config, dtype=torch.bfloat16, attn_implementation="sdpa"
    )
    model.train()
    own = {t.untyped_storage()._cdata for t in (*model.parameters(), *model.buffers())}
    seen, kept = {}, []

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            seen[storage._cdata] = storage.nbytes()
        kept.append(tensor)
        return tensor

    ids = torch.randint(0, 320, (3, 40))
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model(input_ids=ids, labels=ids, use_cache=False)
    described = llmcalc.model(dict(model_type="qwen3", head_dim=24, use_sliding_window=False, **sizes))
    assert trace(described, Plan(3, 40)).saved == sum(seen.values())
