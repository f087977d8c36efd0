"""PPO and GRPO: roles, phases, the engine beside the training, classes of GPUs, and what is refused."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import llmcalc
from llmcalc.answer.training.rl.frameworks import FRAMEWORKS, PHASES
from llmcalc.cli import run
from llmcalc.errors import LlmcalcError
from llmcalc.memory.training.plan import Plan
from llmcalc.memory.training.trace import trace
from llmcalc.memory.training.value_head import scored
from llmcalc.units import GIB

DATA = Path(__file__).parent / "data"
SMALL = {"model": "llama-3.2-1b", "prompt": 128, "output": 128}
ROWS = [json.loads(line) for line in (DATA / "policy_losses.jsonl").read_text().splitlines()]


def grpo(**keywords):
    return llmcalc.train(**{**SMALL, "rl": "grpo", **keywords})


def ppo(**keywords):
    return llmcalc.train(**{**SMALL, "rl": "ppo", **keywords})


def refused(**keywords):
    with pytest.raises(LlmcalcError) as caught:
        llmcalc.train(**{**SMALL, "rl": "grpo", **keywords})
    assert caught.value.exit_code == 2
    return str(caught.value)


def roles(report):
    return {row["role"]: row for row in report.rl.roles}


def phases(report):
    return {row["phase"]: row for row in report.rl.phases}


# -- log-probabilities ---------------------------------------------------------------------------


def _traced(row):
    model = llmcalc.model(
        {
            "model_type": "llama", "hidden_size": row["width"], "num_attention_heads": 1,
            "num_key_value_heads": 1, "intermediate_size": 64, "vocab_size": row["vocabulary"],
            "num_hidden_layers": 1, "tie_word_embeddings": False,
        }
    )  # fmt: skip
    answers = row["answers"] if row["loss"] == "log-probs" else 0
    autocast = row["wide"] and row["loss"] == "log-probs"
    plan = Plan(
        row["sequences"], row["seq"], loss=row["loss"], autocast=autocast, weight_element=2,
        answers=answers, no_grad=not row["trains"],
    )  # fmt: skip
    return trace(model, plan)


@pytest.mark.parametrize("row", [row for row in ROWS if row["trains"]])
def test_log_probabilities_hold_what_pytorch_holds(row):
    found = _traced(row)
    forward = next(m for m in found.moments if (m.phase, m.where) == ("forward", "head"))
    loss = next(m for m in found.moments if m.phase == "loss")
    layers = found.saved - found.parts["logits"]  # what the layers keep is not in the oracle
    # Inside its kernel the log-sum-exp of one long sequence makes exponentials, which no watcher sees.
    inside = 2 * row["saved"] if row["wide"] and row["sequences"] == 1 and not row["loss"][9:] else 0
    assert forward.total - layers == pytest.approx(max(row["forward"], inside), rel=0.01)
    assert found.parts["logits"] == pytest.approx(row["saved"], rel=0.01)
    assert loss.total - layers == pytest.approx(row["backward"], rel=0.01)


@pytest.mark.parametrize("row", [row for row in ROWS if not row["trains"]])
def test_passes_without_gradients_keep_nothing(row):
    found = _traced(row)
    forward = next(m for m in found.moments if (m.phase, m.where) == ("forward", "head"))
    assert found.saved == 0
    inside = 4 * row["answers"] * row["vocabulary"] if row["wide"] and row["sequences"] == 1 else 0
    assert row["forward"] * 0.985 <= forward.total <= row["forward"] * 1.015 + inside


def test_logits_of_eight_answers_of_20k_tokens_are_78_gib():
    # Unsloth's table of GRPO on Llama-3.1-8B tells 78.3 GB for TRL: 8 x 20,480 tokens in fp32.
    plan = Plan(8, 2 * 20_480, loss="log-probs", autocast=True, answers=20_480, recompute="full")
    assert trace(llmcalc.model("llama-3.1-8b"), plan).parts["logits"] / GIB == pytest.approx(78.3, rel=0.03)


def test_a_critic_has_a_scalar_head():
    policy = llmcalc.model("llama-3.2-1b")  # whose head is the embedding's table
    assert scored(policy).params == policy.params + 2048 + 1
    assert scored(scored(policy)).params == scored(policy).params


RUNS = [json.loads(line) for line in (DATA / "rl_runs.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("row", RUNS, ids=[row["name"] for row in RUNS])
def test_published_runs(row):
    way = "zero" if "zero" in row["options"] else "fsdp"
    pytest.importorskip(f"llmcalc.memory.training.parallel.{way}")
    report = llmcalc.train(**row["options"])
    found = report.total_bytes
    if row["phase"] == "step":  # of a run's first step, before which there are no states
        moments = [
            m.total for m in report.timeline.moments if (m.phase, m.where) == ("policy_update", "step")
        ]
        found = max(moments) + report["runtime"].bytes
    assert found / GIB == pytest.approx(row["measured_gib"], rel=row["within"])


# -- properties ----------------------------------------------------------------------------------


def test_grpo_has_no_critic_and_ppo_one_more_trained_model():
    assert set(roles(grpo())) == {"policy", "reference", "rollout"}
    found = roles(ppo())
    assert set(found) == {"policy", "reference", "critic", "rollout"}
    assert [name for name, row in found.items() if row["trained_params"]] == ["policy", "critic"]
    assert "critic_update" in phases(ppo())
    assert "critic_update" not in phases(grpo())
    assert ppo()["optimizer"].bytes > grpo()["optimizer"].bytes + 8 * llmcalc.model("llama-3.2-1b").params


@pytest.mark.parametrize("like", [None, "trl", "verl", "openrlhf"])
@pytest.mark.parametrize("algorithm", ["grpo", "ppo"])
def test_items_add_up_and_the_peak_is_the_largest_phase(like, algorithm):
    report = llmcalc.train(
        **SMALL, rl=algorithm, like=like, micro_batch=2, gpu="h100", reward="qwen2.5-0.5b", sleep="on"
    )
    shares = sum(item.bytes_at_peak for item in report if item.where == "device")
    assert shares == report.total_bytes
    told = phases(report)
    assert report.peak.phase == max(told, key=lambda phase: told[phase]["tensor_bytes"])
    assert list(told) == [phase for phase in PHASES if phase in told]
    peak = told[report.peak.phase]
    assert sum(peak["roles"].values()) == peak["tensor_bytes"]
    low, high = report.range_bytes
    assert low <= report.total_bytes <= high
    for item in report:
        for part in item.items:
            assert part.bytes <= item.bytes, (item.name, part.name)


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_sleep_frees_the_engine_during_updates(engine):
    awake, asleep = (grpo(rollout=engine, gpu="h100", sleep=word) for word in ("off", "on"))
    before, after = phases(awake)["policy_update"], phases(asleep)["policy_update"]
    told = asleep.rl.facts["rollout"]
    assert before["tensor_bytes"] - after["tensor_bytes"] == told["awake_bytes"] - told["asleep_bytes"]
    freed = sum(awake.timeline.engine.parts.get(name, 0) for name in ("weights", "kv_cache", "activations"))
    assert told["awake_bytes"] - told["asleep_bytes"] == freed
    assert phases(awake)["rollout"] == {**phases(asleep)["rollout"], "is_peak": False}
    assert phases(asleep)["sync"]["tensor_bytes"] < phases(awake)["sync"]["tensor_bytes"]


def test_level_one_copies_the_weights_to_the_host():
    first, second = (grpo(gpu="h100", sleep=level) for level in (1, 2))
    assert first.total_bytes == second.total_bytes
    weights = first.timeline.engine.parts["weights"]
    assert first.host_bytes - second.host_bytes == weights


def test_colocated_needs_at_least_what_the_training_alone_needs():
    alone = grpo(rollout="none", reference="none")
    for more in ({}, {"sleep": "on"}, {"rollout": "transformers"}, {"rollout": "sglang"}):
        assert grpo(**more).total_bytes >= alone.total_bytes
    assert grpo(rollout="none").total_bytes > alone.total_bytes


def test_separate_gpus_need_less_each_and_no_less_together():
    together = grpo(gpu="h100")
    apart = grpo(gpu="h100", placement="separate", rollout_gpus=1)
    trainer, rollout = apart.rl.classes
    assert (trainer["name"], rollout["name"]) == ("trainer", "rollout")
    assert trainer["total_bytes"] < together.total_bytes
    assert trainer["total_bytes"] + rollout["total_bytes"] >= together.total_bytes
    assert {row["verdict"] for row in apart.rl.classes} == {"fits"}
    assert apart["rollout_engine"].bytes == 0


def test_each_class_has_its_own_verdict():
    report = llmcalc.train(
        "llama-3.1-8b", rl="ppo", gpu="h100", method="lora", placement="rollout,critic,reward",
        reward="llama-3.3-70b-instruct", rollout_gpus=2, prompt=128, output=128,
    )  # fmt: skip
    told = {row["name"]: row for row in report.rl.classes}
    assert list(told) == ["trainer", "critic", "reward", "rollout"]
    assert told["trainer"]["verdict"] == told["rollout"]["verdict"] == "fits"
    assert told["reward"]["verdict"] == report.verdict == "does_not_fit"
    assert report.peak.rank == "reward"
    assert told["trainer"]["roles"] == ["policy", "reference"]


def test_what_waits_on_the_host_lowers_the_other_phases():
    plain, moved = (ppo(rollout="none", idle_offload=words) for words in (None, "optimizer,params,reference"))
    for phase in phases(plain):
        assert phases(moved)[phase]["tensor_bytes"] < phases(plain)[phase]["tensor_bytes"]
    assert moved.host_bytes > 0
    assert roles(moved)["policy"]["resident_bytes"] == 0
    # The critic's states wait while the policy is updated, and come back for its own step.
    assert roles(moved)["critic"]["peak_bytes"] == roles(plain)["critic"]["peak_bytes"]


def test_adapters_share_their_reference():
    found = roles(grpo(method="lora"))
    assert found["reference"]["shares_weights"]
    assert found["reference"]["resident_bytes"] == 0
    assert roles(grpo())["reference"]["resident_bytes"] == 2 * llmcalc.model("llama-3.2-1b").params


def test_frameworks_differ_where_their_code_does():
    trl, verl, openrlhf = (
        ppo(like=name, gpu="h200", gpu_memory_utilization=0.3) for name in ("trl", "verl", "openrlhf")
    )
    assert "critic_update" not in phases(trl)  # one step updates both
    assert phases(trl)["policy_update"]["tensor_bytes"] > phases(verl)["policy_update"]["tensor_bytes"]
    assert phases(verl)["sync"]["roles"]["policy"] >= 2 * GIB + roles(verl)["policy"]["resident_bytes"]
    assert any(part.name == "further contexts" for part in openrlhf["runtime"].items)
    assert not any(part.name == "further contexts" for part in verl["runtime"].items)
    assert trl.timeline.engine.parts["runtime"] < verl.timeline.engine.parts["runtime"]


def test_a_forward_batch_of_its_own():
    assert (
        phases(grpo(forward_batch=8))["log_probs"]["tensor_bytes"]
        > phases(grpo(forward_batch=1))["log_probs"]["tensor_bytes"]
    )
    assert (
        phases(grpo(forward_batch=8))["policy_update"]["tensor_bytes"]
        == phases(grpo(forward_batch=1))["policy_update"]["tensor_bytes"]
    )


def test_fused_log_probabilities_hold_no_logits():
    plain, fused = (
        grpo(micro_batch=8, output=1024, loss=loss, rollout="none") for loss in ("eager", "fused")
    )
    assert fused.total_bytes < plain.total_bytes


def test_several_gpus_share_engines_and_answers():
    report = llmcalc.train(
        "llama-3.2-1b",
        rl="grpo",
        gpu="4xh100",
        rollout_tp=2,
        prompts=64,
        group_size=8,
        prompt=128,
        output=128,
    )
    told = report.rl.facts["rollout"]
    assert (told["replicas"], told["sequences"], report.rl.facts["answers"]) == (2, 256, 512)
    stages = llmcalc.train(
        "llama-3.2-1b", rl="ppo", gpu="4xh100", pp=4, grad_accum=4, prompt=128, output=128, rollout_tp=4
    )
    assert stages.rl.classes[0]["gpus"] == 4
    assert sum(item.bytes_at_peak for item in stages if item.where == "device") == stages.total_bytes


def test_answers_that_find_no_page_are_told():
    report = grpo(gpu="rtx-4090", method="lora", prompts=512, output=4096, prompt=512)
    assert report.rl.facts["rollout"]["holds_sequences"] < 4096
    assert any("wait" in note for note in report.warnings)


def test_an_engine_without_room_does_not_fit():
    report = llmcalc.train("llama-3.1-8b", rl="grpo", method="lora", gpu="rtx-4090", prompt=64, output=64)
    assert report.verdict == "does_not_fit"
    assert any("raise --gpu-memory-utilization" in note for note in report.warnings)


def test_advice_names_what_iterations_can_change():
    asked = {
        "model": "qwen2.5-3b", "rl": "grpo", "gpu": "l40s", "precision": "bf16", "method": "lora",
        "prompt": 128, "output": 128, "gpu_memory_utilization": 0.6, "micro_batch": 16,
    }  # fmt: skip
    report = llmcalc.train(**asked)
    assert report.verdict == "does_not_fit"
    best = next(row for row in report.alternatives if "sleep" in row["keywords"])
    assert best["verdict"] == "fits"
    again = llmcalc.train(**{**asked, **best["keywords"]})
    assert again.verdict == "fits"
    assert report.total_bytes - again.total_bytes == best["gain_bytes"]


def test_room_grows_the_answers():
    report = grpo(gpu="h100")
    batch, seq = report.capacity.max_micro_batch, report.capacity.max_seq_len
    assert grpo(gpu="h100", micro_batch=batch).headroom_bytes >= 0
    assert grpo(gpu="h100", micro_batch=batch + 1, group_size=8).headroom_bytes < 0
    assert grpo(gpu="h100", output=seq - 128).headroom_bytes >= 0


# -- bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keywords", "problem", "remedy"),
    [
        ({"rl": "dpo"}, "--rl 'dpo' is not known", "ppo"),
        ({"group_size": 1}, "nothing to compare", "--group-size 2"),
        ({"critic": "same"}, "GRPO has none", "--rl ppo"),
        ({"rl": "ppo", "critic": "none"}, "PPO needs values", "--critic same"),
        ({"reward": "same"}, "does not judge itself", "--reward rule"),
        ({"placement": "separate"}, "how many GPUs", "--rollout-gpus"),
        ({"rollout_gpus": 2}, "on GPUs of its own", "--placement separate"),
        ({"gpu": "8xh100", "rollout_tp": 3}, "does not divide the 8 GPUs", "1, 2, 4 or 8"),
        (
            {"placement": "separate", "rollout_gpus": 6, "rollout_tp": 4},
            "does not divide the 6",
            "--rollout-tp",
        ),
        ({"placement": "elsewhere"}, "--placement 'elsewhere'", "colocated, separate"),
        ({"sleep": "deep"}, "--sleep 'deep'", "1 or 2"),
        ({"sleep": "on", "placement": "separate", "rollout_gpus": 1}, "has its own", "colocated"),
        ({"gpu_memory_utilization": 2}, "--gpu-memory-utilization is 2", "0.3"),
        ({"rollout": "none", "sleep": "on"}, "--rollout none has none", "vllm"),
        ({"rollout": "transformers", "rollout_tp": 2}, "for a serving engine", "vllm"),
        ({"rollout": "transformers", "tp": 2}, "whole model on each GPU", "vllm"),
        ({"idle_offload": "policy"}, "--idle-offload 'policy'", "optimizer"),
        ({"seq_len": 512}, "is not --prompt 128 + --output 128", "Leave --seq-len out"),
        ({"loss": "chunked"}, "not for log-probabilities", "fused"),
        ({"micro_batch": 16, "prompts": 1}, "fewer than the 16 sequences", "--prompts 2"),
        ({"teacher": "llama-3.1-8b"}, "distillation", "Leave --teacher out"),
        ({"metric": "memtracker"}, "one step", "nvidia-smi"),
        ({"reward": "7b"}, "bare count", "Name a model"),
        ({"model": "1b"}, "bare count", "Name a model"),
        ({"rl": None, "group_size": 8}, "about reinforcement learning", "--rl grpo"),
    ],
)
def test_refusals(keywords, problem, remedy):
    told = refused(**keywords)
    assert problem in told
    assert remedy in told


def test_mistakes_are_told_together():
    told = refused(group_size=1, sleep="deep", reward="no-such-model", placement="separate", rollout_gpus=1)
    assert "nothing to compare" in told
    told = refused(reward="no-such-model", precision="bf17")
    assert "no-such-model" in told
    assert "bf17" in told


def test_dpo_is_as_before():
    pairs = llmcalc.train("llama-3.2-1b", seq_len=256, reference="same")
    assert pairs.rl is None
    assert pairs.total_bytes > llmcalc.train("llama-3.2-1b", seq_len=256).total_bytes


# -- reports -------------------------------------------------------------------------------------

CALL = ["train", "llama-3.2-1b", "--rl", "grpo", "--gpu", "h100", "--prompt", "128", "--output", "128"]


def spoken(*words):
    return subprocess.run(
        [sys.executable, "-m", "llmcalc", *CALL, *words], capture_output=True, text=True, check=False
    )


def test_the_command_tells_phases_and_roles():
    found = spoken("--sleep", "on", "--timeline")
    assert found.returncode == 0
    for words in (
        "weight sync",
        "rollout",
        "log-probabilities",
        "policy update",
        "<- peak",
        "role",
        "reference",
    ):
        assert words in found.stdout
    assert all(len(line) <= 80 for line in found.stdout.splitlines() if not line.startswith("  role"))


def test_json_is_additive():
    told = json.loads(spoken("--json", "--placement", "separate", "--rollout-gpus", "2").stdout)
    assert {row["name"] for row in told["rl"]["classes"]} == {"trainer", "rollout"}
    assert told["rl"]["algorithm"] == "grpo"
    assert told["scenario"]["rl"] == "grpo"
    assert told["scenario"]["placement"] == "separate"
    names = [item["name"] for item in told["items"]]
    assert names.index("rollout_engine") == names.index("runtime") - 1
    assert "rl" not in llmcalc.train("llama-3.2-1b", seq_len=256).to_dict()


def test_the_command_refuses_in_two_lines():
    found = spoken("--group-size", "1")
    assert found.returncode == 2
    assert found.stdout == ""
    assert len(found.stderr.strip().splitlines()) == 2


def test_python_and_check():
    found = spoken("--python")
    assert "rl='grpo'" in found.stdout
    assert spoken("--check").returncode == 0
    assert run([*CALL[:4], "--gpu", "rtx-4090", "--check"]) == 1


@pytest.mark.parametrize("kind", ["markdown", "html", "latex", "csv"])
def test_every_format_has_the_engine(kind):
    report = ppo(gpu="h100")
    text = getattr(report, f"to_{kind}")()
    assert "rollout" in text
    if kind != "csv":
        assert "critic update" in text


def test_a_picture_of_an_iteration(tmp_path):
    pytest.importorskip("matplotlib")
    report = ppo(gpu="h100", sleep="on")
    report.plot(str(tmp_path / "iteration.png"))
    assert (tmp_path / "iteration.png").stat().st_size > 10_000


def test_frameworks_are_told_by_their_sources():
    known = llmcalc.catalog.Catalog.shipped()
    for frame in FRAMEWORKS.values():
        assert known.lookup("sources", frame.source), frame.name
