"""Layouts of a cluster: the table equals single answers, what is fixed stays, what is refused says why."""

import csv
import io
import itertools
import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

import llmcalc
from llmcalc.answer.training.layouts import Search
from llmcalc.catalog import Catalog
from llmcalc.errors import LlmcalcError
from llmcalc.memory.training.parallel.mesh import Mesh
from llmcalc.memory.training.parallel.pipeline import events, heaviest, steady

MEGATRON = {"like": "megatron", "seq_len": 4096}
MOE = {"model_type": "mixtral", "hidden_size": 1024, "num_attention_heads": 16, "num_key_value_heads": 8,
       "intermediate_size": 2048, "num_hidden_layers": 14, "num_local_experts": 8, "num_experts_per_tok": 2,
       "vocab_size": 32000, "max_position_embeddings": 32768}  # fmt: skip
MIXED = {"model_type": "deepseek_v3", "hidden_size": 512, "num_attention_heads": 8, "num_key_value_heads": 8,
         "intermediate_size": 1536, "moe_intermediate_size": 256, "num_hidden_layers": 13,
         "first_k_dense_replace": 3, "n_routed_experts": 16, "n_shared_experts": 1, "num_experts_per_tok": 4,
         "n_group": 4, "topk_group": 2, "vocab_size": 32000, "q_lora_rank": 256, "kv_lora_rank": 128,
         "qk_nope_head_dim": 64, "qk_rope_head_dim": 32, "v_head_dim": 64,
         "max_position_embeddings": 8192}  # fmt: skip
SCHEMA = Path(__file__).parents[1] / "docs" / "schema" / "layouts.schema.json"


def run(*words):
    command = [sys.executable, "-m", "llmcalc", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def refused(model="llama-3.1-8b", **keywords):
    with pytest.raises(LlmcalcError) as caught:
        llmcalc.layouts(model, **{"gpu": "8xh100-80gb", **MEGATRON, **keywords})
    assert caught.value.exit_code == 2
    return str(caught.value)


# -- the same figures ----------------------------------------------------------------------------

CASES = {
    "megatron": ("llama-3.1-8b", "32xh100-80gb", {"like": "megatron"}),
    "uneven layers": ("llama-3.2-3b", "16xh100-80gb", {"like": "megatron", "pp": "8,16", "vpp": "1,2"}),
    "stages as given": ("llama-3.2-1b", "8xa100-80gb-sxm", {**MEGATRON, "pp": 4, "stage_layers": "3,5,5,3"}),
    "chunks": ("llama-3.2-1b", "16xh100-80gb", {**MEGATRON, "pp": "2,4", "global_batch": 64}),
    "gpipe": ("llama-3.2-1b", "8xh100-80gb", {**MEGATRON, "schedule": "gpipe", "grad_accum": 6}),
    "one pass": ("llama-3.2-1b", "8xh100-80gb", {"seq_len": 2048, "grad_accum": 1}),
    "blocks": ("llama-3.1-8b", "16xh100-80gb", {**MEGATRON, "recompute": "first-3,first-12,every-3,full"}),
    "long": ("llama-3.1-8b", "16xh100-80gb", {"like": "megatron", "seq_len": "64k", "tp": "2,4"}),
    "experts": (MOE, "16xh100-80gb", {"like": "megatron", "seq_len": 2048}),
    "experts, capacity": (MOE, "16xh100-80gb", {**MEGATRON, "capacity_factor": 1.25, "imbalance": 1.3}),
    "dense layers first": (MIXED, "16xh100-80gb", {"like": "megatron", "seq_len": 2048}),
    "transformers": ("llama-3.2-3b", "8xh100-80gb", {"seq_len": 2048}),
    "adapters": ("llama-3.1-8b", "4xrtx-4090", {"method": "qlora", "seq_len": 1024}),
    "compiled": ("llama-3.2-1b", "8xh100-80gb", {"compile": True, "seq_len": 2048}),
    "offloaded": ("llama-3.2-1b", "8xh100-80gb", {"offload": "gradients,optimizer", "seq_len": 2048}),
    "in backward": ("llama-3.2-1b", "8xh100-80gb", {"optimizer_in_backward": True, "seq_len": 2048}),
    "allocated": ("llama-3.2-1b", "8xh100-80gb", {**MEGATRON, "metric": "allocated"}),
    "other layers": ("gemma-2-9b", "8xh100-80gb", {"seq_len": 2048}),
}
NUMBER = 12


@pytest.mark.parametrize(("model", "gpu", "settings"), CASES.values(), ids=CASES.keys())
def test_rows_are_what_train_tells(model, gpu, settings):
    table = llmcalc.layouts(model, gpu=gpu, **settings)
    by_sharing = {}
    for row in table.found:
        by_sharing.setdefault(row.sharing, []).append(row)
    for rows in by_sharing.values():
        for row in random.Random(5).sample(rows, min(NUMBER, len(rows))):
            keywords = {key: value for key, value in table.keywords(row).items() if value is not None}
            report = llmcalc.train(**keywords)
            if row.quick:
                table.refine(row)
            assert report.total_bytes == row.total, keywords
            assert report.range_bytes == (row.low, row.high), keywords
            assert (report.held_bytes, report.verdict) == (row.process, row.verdict), keywords
            assert (report.peak.rank, report.peak.phase) == (row.rank, row.phase), keywords
            assert report.timeline.shares.get("activations", 0) == row.activations, keywords
            assert report.scenario["bubble"] == round(row.mesh.bubble, 4)


def test_nothing_is_refused_that_train_accepts():
    settings = {**MEGATRON, "global_batch": 16, "micro_batch": 1, "recompute": "full", "zero": 1}
    table = llmcalc.layouts("llama-3.2-1b", gpu="8xh100-80gb", **settings)
    found = {(*row.degrees[:4], row.mesh.sequence_parallel) for row in table.found}
    for tp, pp, vpp, parallel in itertools.product((1, 2, 4, 8), (1, 2, 4, 8), (1, 2, 4, 8), (False, True)):
        if tp * pp > 8 or (tp == 1 and parallel):
            continue
        try:
            llmcalc.train("llama-3.2-1b", gpu="8xh100-80gb", tp=tp, pp=pp, vpp=vpp,
                          sequence_parallel="on" if parallel else "off", **settings)  # fmt: skip
        except LlmcalcError:
            assert (tp, pp, vpp, 1, parallel) not in found
        else:
            assert (tp, pp, vpp, 1, parallel) in found


# -- situations of a pipeline --------------------------------------------------------------------


@pytest.mark.parametrize(("pp", "vpp"), [(2, 1), (5, 1), (8, 1), (2, 3), (3, 2), (4, 4), (8, 2)])
def test_more_micro_batches_bring_no_new_situation(pp, vpp):
    for stage in range(pp):
        few = steady(Mesh(pp=pp, vpp=vpp, micro_batches=pp * 40))
        known = set(events(Mesh(pp=pp, vpp=vpp, micro_batches=few), stage))
        for number in (few, few + pp, pp * 10, pp * 25):
            assert set(events(Mesh(pp=pp, vpp=vpp, micro_batches=number), stage)) == known


@pytest.mark.parametrize("schedule", ["1f1b", "gpipe"])
def test_the_heaviest_situations_are_the_worst_for_any_sizes(schedule):
    dice = random.Random(1)
    for _ in range(40):
        pp = dice.choice((2, 3, 4))
        vpp = dice.choice((1, 2, 3)) if schedule == "1f1b" else 1
        mesh = Mesh(pp=pp, vpp=vpp, micro_batches=pp * dice.randint(1, 6), schedule=schedule)
        stage, sizes = dice.randrange(pp), [dice.randint(0, 99) for _ in range(vpp)]

        def most(told, sizes=sizes):
            found = {}
            for kind, chunk, waiting in told:
                total = sum(number * size for number, size in zip(waiting, sizes, strict=True))
                found[kind, chunk] = max(found.get((kind, chunk), 0), total)
            return found

        kept = [(kind, chunk, one) for kind, chunk, many in heaviest(mesh, stage) for one in many]
        assert most(kept) == most(events(mesh, stage))


def test_layers_recomputed_first_are_as_many_in_every_chunk():
    """The first chunk's pass must not decide how many layers of the next are run so."""
    common = {**MEGATRON, "pp": 2, "gpu": "2xh100-80gb", "grad_accum": 8}
    none, first, full = (
        llmcalc.train("llama-3.2-1b", vpp=2, recompute=word, **common)["activations"].bytes
        for word in ("none", "first-2", "full")
    )
    assert full < first < none
    assert abs(2 * first - none - full) < 0.1 * none  # 2 of the 4 layers of each chunk


# -- what is searched ----------------------------------------------------------------------------


def test_degrees_that_are_given_stay():
    table = llmcalc.layouts(
        "llama-3.1-8b", gpu="16xh100-80gb", **MEGATRON, tp=2, pp="2,4", sequence_parallel=True,
        micro_batch=2, recompute="selective", zero=1, global_batch=64,
    )  # fmt: skip
    assert {row.mesh.tp for row in table.found} == {2}
    assert {row.mesh.pp for row in table.found} == {2, 4}
    assert {(row.batch, row.recompute, row.sharing) for row in table.found} == {
        (2, "selective", "distributed optimizer")
    }
    for row in table.found:
        mesh = row.mesh
        assert mesh.sequence_parallel
        assert mesh.gpus == 16
        assert row.batch * mesh.dp * mesh.micro_batches == 64


def test_all_gpus_are_used_and_the_batch_is_kept():
    table = llmcalc.layouts("llama-3.2-1b", gpu="8xh100-80gb", **MEGATRON)
    assert {row.mesh.gpus for row in table.found} == {8}
    assert {row.batch * row.mesh.dp * row.mesh.micro_batches for row in table.found} == {8}
    assert any("one for each GPU" in note for note in table.warnings)


def test_context_ranks_come_with_long_sequences_alone():
    short = llmcalc.layouts("llama-3.1-8b", gpu="8xh100-80gb", **MEGATRON)
    assert {row.mesh.cp for row in short.found} == {1}
    table = llmcalc.layouts("llama-3.1-8b", gpu="8xh100-80gb", like="megatron", seq_len="32k")
    assert {row.mesh.cp for row in table.found} == {1, 2, 4}
    assert any("--cp 1" in note for note in table.warnings)


def test_experts_alone_are_shared_among_expert_ranks():
    dense = llmcalc.layouts("llama-3.2-1b", gpu="8xh100-80gb", **MEGATRON)
    assert {row.mesh.ep for row in dense.found} == {1}
    table = llmcalc.layouts(MOE, gpu="8xh100-80gb", **MEGATRON)
    assert {row.mesh.ep for row in table.found} == {1, 2, 4, 8}


def test_the_order_is_the_stated_one():
    table = llmcalc.layouts("llama-3.1-8b", gpu="16xh100-80gb", **MEGATRON)
    verdicts = [row.verdict for row in table.found]
    assert verdicts == sorted(verdicts, key=["fits", "too_close", "does_not_fit"].index)
    fitting = [row for row in table.found if row.verdict == "fits"]
    assert [row.mesh.bubble for row in fitting] == sorted(row.mesh.bubble for row in fitting)
    shown = table.shown
    assert len(shown) == 20
    assert shown[0] is table.found[0]
    assert [table.found.index(row) for row in shown] == sorted(table.found.index(row) for row in shown)


@pytest.mark.parametrize(("model", "settings"), [("llama-3.1-8b", MEGATRON), ("mixtral-8x7b", MEGATRON)])
def test_more_gpus_never_need_more_on_each(model, settings):
    least = []
    for number in (2, 4, 8, 16):
        table = llmcalc.layouts(model, gpu=f"{number}xh100-80gb", grad_accum=8, **settings)
        least.append(min(row.total for row in table.found))
    assert least == sorted(least, reverse=True)


def test_a_layout_that_is_cheaper_needs_no_less():
    """Recomputation and sequence parallelism never add: else they were no choice."""
    table = llmcalc.layouts("llama-3.1-8b", gpu="8xh100-80gb", **MEGATRON, zero=1)
    by = {
        (row.degrees, row.batch, row.recompute, row.mesh.sequence_parallel): row.total for row in table.found
    }
    for (degrees, batch, recompute, parallel), total in by.items():
        if recompute == "full":
            assert total <= by[degrees, batch, "none", parallel]
        if parallel:
            assert total <= by[degrees, batch, recompute, False]


# -- fewest GPUs and advice ----------------------------------------------------------------------


def test_fewest_gpus_hold_it_and_fewer_do_not():
    report = llmcalc.train("llama-3.1-70b", gpu="64xh100-80gb", tp=8, pp=4, grad_accum=16, **MEGATRON)
    fewest = report.fewest
    assert report.verdict == "fits"
    assert 16 <= fewest["gpus"] <= 64  # 18 bytes a parameter are 1,270 GB
    again = llmcalc.train("llama-3.1-70b", gpu=f"{fewest['gpus']}xh100-80gb", **MEGATRON | fewest["keywords"])
    assert again.verdict == "fits"
    assert again.headroom_bytes == fewest["headroom_bytes"]
    half = llmcalc.layouts(
        "llama-3.1-70b", gpu=f"{fewest['gpus'] // 2}xh100-80gb", micro_batch=1, grad_accum=16,
        recompute="none", vpp=1, **MEGATRON,
    )  # fmt: skip
    assert half.number("fits") == 0
    assert "fewest GPUs" in report.to_text()
    assert report.to_dict()["fewest_gpus"]["gpus"] == fewest["gpus"]


def test_fewest_gpus_of_what_one_card_does_not_hold():
    report = llmcalc.train("llama-3.1-8b", gpu="h100-80gb", seq_len=4096)
    assert report.verdict == "does_not_fit"
    assert report.fewest["gpus"] > 1
    fits = llmcalc.train("llama-3.2-1b", gpu="h100-80gb", seq_len=1024)
    assert fits.verdict == "fits"
    assert fits.fewest is None


def test_advice_keeps_the_gpus():
    report = llmcalc.train("llama-3.1-70b", gpu="32xh100-80gb", tp=4, sequence_parallel="off", **MEGATRON)
    assert report.verdict == "does_not_fit"
    changes = {row["change"]: row for row in report.alternatives}
    assert any("--sequence-parallel on" in change for change in changes)
    for row in report.alternatives:
        asked = {"tp": 4, "sequence_parallel": "off", **MEGATRON, **row["keywords"]}
        again = llmcalc.train("llama-3.1-70b", gpu="32xh100-80gb", **asked)
        assert again.gpus == 32
        assert report.total_bytes - again.total_bytes == row["gain_bytes"]


# -- formats -------------------------------------------------------------------------------------


def test_json_follows_its_schema():
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    for table in (
        llmcalc.layouts("llama-3.2-1b", gpu="8xh100-80gb", **MEGATRON),
        llmcalc.layouts(MOE, gpu="8xh100-80gb", **MEGATRON, top=3),
        llmcalc.layouts("llama-3.1-405b", gpu="8xrtx-4090", **MEGATRON),
    ):
        document = json.loads(table.to_json())
        validator.validate(document)
        assert document["estimated"] == len(table) == sum(document["verdicts"].values())
        assert len(document["layouts"]) == (len(table.fitting) or len(table.shown))
    assert not validator.is_valid({**document, "layouts": [{**document["layouts"][0], "total_bytes": "1"}]})


def test_csv_has_a_row_for_each_layout_that_fits():
    table = llmcalc.layouts("llama-3.2-1b", gpu="8xh100-80gb", **MEGATRON)
    rows = list(csv.DictReader(io.StringIO(table.to_csv())))
    assert len(rows) == len(table.fitting)
    assert [int(row["total_bytes"]) for row in rows] == [row.total for row in table.fitting]


def test_a_frame_has_all():
    table = llmcalc.layouts("llama-3.2-1b", gpu="8xh100-80gb", **MEGATRON)
    frame = table.to_frame()
    assert list(frame["total_bytes"]) == [row.total for row in table.found]


@pytest.mark.parametrize("kind", ["markdown", "latex", "html"])
def test_documents_end_with_how_to_reproduce_them(kind):
    table = llmcalc.layouts("llama-3.2-1b", gpu="8xh100-80gb", **MEGATRON)
    assert "llmcalc train llama-3.2-1b" in getattr(table, f"to_{kind}")().splitlines()[-1].replace("\\", "")


def test_the_command_line(tmp_path):
    common = (
        "train",
        "llama-3.2-1b",
        "--like",
        "megatron",
        "--seq-len",
        "4k",
        "--gpu",
        "8xh100-80gb",
        "--layouts",
    )
    shown = run(*common, "--top", "3", "--check", "--plot", str(tmp_path / "layouts.png"))
    assert shown.returncode == 0, shown.stderr
    assert (tmp_path / "layouts.png").stat().st_size > 10_000
    lines = shown.stdout.splitlines()
    assert max(map(len, lines[:-1])) <= 80
    again = run(*lines[-1].split()[1:], "--json")  # the command of the first row
    first = json.loads(run(*common, "--json").stdout)["layouts"][0]
    assert json.loads(again.stdout)["total_bytes"] == first["total_bytes"]
    python = run(*common, "--python")
    assert "llmcalc.layouts('llama-3.2-1b', gpu='8xh100-80gb'" in python.stdout
    explained = run(*common, "--explain")
    assert "Narayanan" in explained.stdout


def test_exit_codes():
    words = ("--like", "megatron", "--layouts", "--check", "--gpu")
    assert run("train", "llama-3.1-70b", *words, "8xrtx-4090").returncode == 1
    close = ("--tp", "8", "--pp", "1", "--zero", "1", "--sequence-parallel", "on", "--recompute", "none")
    needs = llmcalc.layouts(
        "llama-3.2-1b", gpu="8x80GiB", like="megatron", tp=8, pp=1, zero=1, sequence_parallel=True,
        recompute="none", micro_batch=1,
    ).found[0]  # fmt: skip
    size = f"8x{needs.process // 2**20 + 620}MiB"  # what it needs, and what the driver takes
    done = run("train", "llama-3.2-1b", *close, "--micro-batch", "1", *words, size)
    assert done.returncode == 3, done.stdout


# -- bad input -----------------------------------------------------------------------------------


def test_bad_input_names_its_remedy():
    assert "--gpu 64xh100-80gb" in refused(gpu="h100-80gb")
    assert "--gpu 64xh100-80gb" in refused(gpu=None)
    assert "one type" in refused(gpu="8xh100-80gb,8xh200")
    assert "above 0" in refused(top=0)
    assert "uses all 8 GPUs" in refused(tp=3)
    assert "does not divide" in refused(tp=8, model="qwen2-0.5b")
    assert "no experts" in refused(ep=2)
    assert "not a number" in refused(tp="1,2,x")
    assert "empty value" in refused(micro_batch="1,,2")
    assert "--global-batch" in refused(global_batch=7, micro_batch=2)
    assert "bare count" in refused(model="13b")
    assert "Did you mean micro_batch" in refused(micro_batches=2)
    assert "--recompute" in refused(recompute="some,full")
    assert "frozen model" in refused(teacher="llama-3.1-70b")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--top", "3"), "Add --layouts"),
        (("--layouts", "--top", "0"), "above 0"),
        (("--layouts", "--timeline"), "--timeline"),
        (("--layouts", "--plot"), "requires an argument"),
        (("--layouts", "--plot", "x.foo"), "picture suffix"),
        (("--layouts", "--gpu", "h100"), "names one"),
    ],
)
def test_bad_input_on_the_command_line(words, told):
    given = words if "--gpu" in words else ("--gpu", "8xh100-80gb", *words)
    done = run("train", "llama-3.2-1b", "--like", "megatron", "--seq-len", "1k", *given)
    assert done.returncode == 2
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_a_search_answers_many_questions_with_one_store():
    """What is kept from one space must not leak into another."""
    book, device = Catalog(), llmcalc.layouts("llama-3.2-1b", gpu="8xh100-80gb", **MEGATRON).device
    from llmcalc.answer.training.asked import KEYWORDS
    from llmcalc.answer.training.layout_space import space_of

    given = dict.fromkeys(KEYWORDS) | MEGATRON
    inventory = llmcalc.model("llama-3.2-1b")
    search = Search(inventory, book, given, device)
    space = space_of(search.resolved(), given, inventory, 8)
    first = [row.total for row in search.rows(space)]
    assert [row.total for row in search.rows(space)] == first
