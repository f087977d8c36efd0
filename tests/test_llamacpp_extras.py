"""What llama.cpp loads beside a model: projector, adapters, drafts; and what its CPU re-lays out."""

import json
import subprocess
import sys

import pytest

import llmcalc
from llmcalc.errors import LlmcalcError
from llmcalc.memory.engines.llamacpp.projector import tower_of
from llmcalc.units import MIB
from test_gguf import write

EXTRAS = "projector", "lora", "draft", "repack"


def vram(model, gpu="rtx-4090", **keywords):
    keywords.setdefault("quant", "q4_k_m")
    return llmcalc.vram(model, engine="llama.cpp", gpu=gpu, **keywords)


def mib(report, name, rank=0):
    return round(report[name].amounts[rank] / MIB, 2)


def run(*words):
    done = subprocess.run(
        [sys.executable, "-m", "llmcalc", *words], capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout, done.stderr


def refused(*words):
    """The message and the remedy of a refusal on the command line."""
    code, out, told = run("vram", *words, "--engine", "llama.cpp")
    assert (code, out) == (2, "")
    assert "Traceback" not in told
    return told


def test_without_an_option_nothing_is_beside():
    report = vram("qwen3.6-27b")
    assert not [item.name for item in report if any(word in item.name for word in EXTRAS)]
    assert not any(word in key for key in report.scenario for word in ("mmproj", *EXTRAS))
    assert any("(mmproj), not counted" in told for told in report.warnings)


@pytest.mark.parametrize(
    "keywords",
    [
        {"mmproj": True}, {"lora": "r=8"}, {"draft": "qwen3-0.6b"}, {"repack": True}, {"draft_max": 4},
        {"no_mmproj_offload": True}, {"draft_quant": "q8_0"},
    ],
)  # fmt: skip
@pytest.mark.parametrize("engine", ["none", "transformers", "ollama", "mlx"])
def test_other_engines_refuse_them(engine, keywords):
    if engine == "none" and keywords.keys() & {"lora", "draft", "draft_quant"}:
        return  # the minimum knows these too
    with pytest.raises(LlmcalcError, match=r"is an option of llama\.cpp") as caught:
        llmcalc.vram("qwen3.6-27b", engine=engine, **keywords)
    assert caught.value.remedy


# -- the projector -------------------------------------------------------------------------------


def test_the_projector_of_a_real_log():
    """tests/data/logs/2026-05-cuda-draft-and-projector.log: Qwen3.6-27B, a projector of bf16."""
    report = vram("qwen3.6-27b", mmproj=True)
    item = report["projector"]
    assert round(item.high[0] / MIB, 2) == 887.99  # the converter keeps patches in fp32 beside bf16
    assert mib(report, "projector") == 884.62  # and in fp16 beside fp16
    assert mib(report, "projector_activations") == 248.10
    assert mib(report, "host_projector_activations") == 24.93
    assert report["projector_activations"].grade == "assumed"
    assert not any("(mmproj), not counted" in told for told in report.warnings)


def test_the_projector_lies_on_the_first_gpu_whatever_the_layers():
    two = vram("qwen3.6-27b", gpu="2xrtx-4090", mmproj="on", gpu_layers=0)
    assert [amount > 0 for amount in two["projector"].amounts] == [True, False]
    kept = vram("qwen3.6-27b", mmproj="on", no_mmproj_offload=True)
    assert kept["projector"].bytes == 0
    assert mib(kept, "host_projector") == 884.62
    assert mib(kept, "host_projector_activations") == 248.10  # no second copy of the image
    alone = llmcalc.vram("qwen3.6-27b", quant="q4_k_m", engine="llama.cpp", gpu_layers=0, mmproj="on")
    assert "projector" not in [item.name for item in alone]
    assert mib(alone, "host_projector") == 884.62


def test_items_beside_are_in_the_total_and_in_what_fits():
    without, more = vram("qwen3.6-27b"), vram("qwen3.6-27b", mmproj="on")
    added = more["projector"].bytes + more["projector_activations"].bytes
    assert more.total_bytes == without.total_bytes + added
    assert sum(item.bytes_at_peak for item in more if item.where == "device") == more.total_bytes
    assert more.capacity.max_context < without.capacity.max_context
    assert more.capacity.kv_bytes_per_token == without.capacity.kv_bytes_per_token
    assert more.capacity.kv_budget_bytes == without.capacity.kv_budget_bytes - added
    assert (
        vram("qwen3.6-27b", mmproj="on", fit=True).scenario["n_ctx"]
        < vram("qwen3.6-27b", fit=True).scenario["n_ctx"]
    )


@pytest.fixture
def projector_file(tmp_path):
    file = tmp_path / "mmproj.gguf"
    facts = {
        "general.architecture": "clip", "clip.projector_type": "gemma3", "clip.vision.image_size": 896,
        "clip.vision.patch_size": 14, "clip.vision.embedding_length": 1152,
        "clip.vision.feed_forward_length": 4304,
    }  # fmt: skip
    write(file, facts, [("v.blk.0.attn_q.weight", (1152, 1152)), ("v.blk.0.attn_q.bias", (5,))])
    return file


def test_a_projector_from_its_file(projector_file):
    report = vram("gemma-3-4b", mmproj=str(projector_file))
    item = report["projector"]
    assert (item.bytes, item.grade) == (2 * 1152 * 1152 + 128, "exact")  # each tensor in steps of 128
    assert item.low == item.high == item.amounts
    # the image of the warm-up is the model's own: 896 pixels, 64 x 64 patches
    assert report["host_projector_activations"].bytes == 12 * 896**2 + 16 * 4096
    assert report["projector_activations"].bytes == 12 * 896**2 + 16 * 4096 + 4 * 4096 * 6 * 1152
    on = vram("gemma-3-4b", mmproj="on")
    assert on["projector_activations"].bytes == report["projector_activations"].bytes


def test_a_projector_of_sound_has_a_range(tmp_path):
    file = tmp_path / "a.gguf"
    write(file, {"general.architecture": "clip", "general.type": "mmproj"}, [("a.x.weight", (64, 64))])
    item = vram("llama-3.1-8b", mmproj=str(file))["projector_activations"]
    assert item.low[0] == 0 < item.bytes < item.high[0]
    assert item.grade == "assumed"


@pytest.mark.parametrize(
    ("model", "patch", "side"),
    [
        ("qwen3.6-27b", 16, 46 * 2 * 16), ("gemma-3-12b-it", 14, 896), ("gemma-4-26b-a4b", 16, 16 * 3 * 16),
        ("llava-v1.5-7b", 14, 336), ("janus-1.3b", 16, 384), ("mistral-small-4-119b-2603", 14, 16 * 2 * 14),
        ("llama-4-maverick-17b-128e-instruct", 14, 448), ("fuyu-8b", 0, 0),
    ],
)  # fmt: skip
def test_the_image_of_the_warm_up(model, patch, side):
    """The model's own size, or so many tokens as tools/mtmd/clip.cpp sets for its type of projector."""
    tower = tower_of(llmcalc.model(model))
    assert (tower.patch, tower.side) == (patch, side)


def test_a_projector_that_is_none(tmp_path, projector_file):
    model = ["gemma-3-4b", "--quant", "q4_k_m"]
    assert "does not exist" in refused(*model, "--mmproj", str(tmp_path / "no.gguf"))
    word = tmp_path / "word.gguf"
    word.write_text("no file of weights, and far too long for a joke")
    assert "is not a GGUF file" in refused(*model, "--mmproj", str(word))
    other = tmp_path / "model.gguf"
    write(other, {"general.architecture": "llama"}, [("token_embd.weight", (8, 8))])
    assert "of type 'model', not 'mmproj'" in refused(*model, "--mmproj", str(other))
    assert "has no vision or audio tower" in refused("llama-3.1-8b", "--mmproj", "on")
    assert "is for a projector" in refused(*model, "--no-mmproj-offload")


def test_the_command_line_shows_a_projector(projector_file):
    code, out, told = run(
        "vram", "gemma-3-4b", "--quant", "q4_k_m", "--engine", "llama.cpp", "--gpu", "rtx-3060", "-mm", "on",
        "--explain",
    )  # fmt: skip
    assert code == 0
    assert "projector" in out
    assert "6 width" in out
    assert "warm-up" in told
    code, out, _ = run(
        "vram", "gemma-3-4b", "--quant", "q4_k_m", "--engine", "llama.cpp", "--mmproj", str(projector_file),
        "--json",
    )  # fmt: skip
    data = json.loads(out)
    assert code == 0
    assert data["scenario"]["mmproj"] == str(projector_file)
    assert "projector" in [item["name"] for item in data["items"]]


# -- adapters ------------------------------------------------------------------------------------

RERESERVED = [
    ("qwen2.5-0.5b", 16, 2048, True, 16.78, 37.51, 37.51),
    ("qwen2.5-0.5b", 256, 2048, False, 268.50, 69.26, 69.26),
    ("qwen2.5-0.5b", 2048, 2048, True, 2148.00, 37.51, 41.51),
    ("gemma-3-1b-it", 16, 2048, True, 24.88, 52.27, 52.27),
    ("gemma-3-1b-it", 1024, 2048, True, 1592.50, 52.27, 52.27),
    ("qwen3-0.6b", 64, 4096, True, 77.00, 30.01, 32.01),
    ("qwen3-0.6b", 512, 4096, False, 616.00, 154.01, 154.01),
    ("llama-3.2-1b", 64, 4096, True, 86.00, 68.01, 68.01),
    ("llama-3.2-1b", 2048, 4096, True, 2752.00, 68.01, 68.01),
]
"""llama.cpp v0.5.0 on a CPU: adapters of all linear layers, the buffer before and after they are set. [MiB]

An adapter of zeros was loaded beside a file of zeros and one token decoded, which reserves again.
"""


@pytest.mark.parametrize(("model", "rank", "context", "flash", "size", "before", "after"), RERESERVED)
def test_adapters_as_llama_cpp_prints_them(model, rank, context, flash, size, before, after):
    given = {"quant": "f16", "gpu": None, "gpu_layers": 0, "context": context, "flash_attn": flash}
    report = vram(model, lora=f"r={rank}", **given)
    assert mib(report, "host_lora") == size
    assert mib(report, "host_activations") == after
    assert mib(vram(model, **given), "host_activations") == before


def test_adapters_lie_beside_what_they_change():
    report = vram("llama-3.1-8b", lora="r=16", gpu_layers=17)
    both = report["lora"].bytes + report["host_lora"].bytes
    assert report["lora"].bytes == report["host_lora"].bytes  # 16 of 32 layers: the output has no adapter
    assert both == vram("llama-3.1-8b", lora="r=16")["lora"].bytes == 2 * 41_943_040  # PEFT's own count
    moved = vram("llama-3.1-8b", lora="r=16", override_tensor=r"ffn_.*=CPU")
    assert moved["lora"].bytes + moved["host_lora"].bytes == both
    assert moved["host_lora"].bytes == 32 * 2 * 3 * 16 * (4096 + 14336)
    two = vram("llama-3.1-8b", lora=["r=16", "r=8"])
    assert two["lora"].bytes == both + both // 2
    assert vram("llama-3.1-8b", lora="r=16,r=8")["lora"].bytes == two["lora"].bytes


ADAPTER = {"general.architecture": "llama", "general.type": "adapter", "adapter.type": "lora"}


def parts(name, rows, columns, rank=16):
    return [(f"{name}.lora_a", (rank, columns)), (f"{name}.lora_b", (rows, rank))]


def test_an_adapter_from_its_file(tmp_path):
    file = tmp_path / "adapter.gguf"
    query = parts("blk.0.attn_q.weight", 4096, 4096)
    table = [("token_embd.weight.lora_a", (128_256, 16)), ("token_embd.weight.lora_b", (4096, 16))]
    write(file, ADAPTER, [*query, *table, ("blk.0.attn_norm.weight", (4096,))])
    report = vram("llama-3.1-8b", lora=str(file))
    assert report["lora"].bytes == 2 * 2 * 16 * 4096
    assert report["host_lora"].bytes == 2 * 16 * (128_256 + 4096)  # the embedding is the host's
    assert report["lora"].grade == "exact"
    assert report.scenario["lora"] == [str(file)]


@pytest.mark.parametrize(
    ("facts", "tensors", "told"),
    [
        (ADAPTER, parts("blk.0.attn_q.weight", 4096, 2048), "are 16 x 2048 and 4096 x 16; the model's"),
        (ADAPTER, parts("blk.40.attn_q.weight", 4096, 4096), "has no tensor 'blk.40.attn_q.weight'"),
        (ADAPTER, parts("blk.0.attn_q.weight", 4096, 4096)[:1], "lacks one of its two parts"),
        (ADAPTER, [("blk.0.attn_q.weight", (8, 8))], "is no part of an adapter"),
        (ADAPTER, [], "has no tensors of an adapter"),
        (ADAPTER | {"adapter.type": "ia3"}, [], "is an adapter of type 'ia3'"),
        ({"general.architecture": "llama"}, [], "of type 'model', not 'adapter'"),
    ],
)  # fmt: skip
def test_an_adapter_that_does_not_fit(tmp_path, facts, tensors, told):
    file = tmp_path / "adapter.gguf"
    write(file, facts, tensors)
    assert told in refused("llama-3.1-8b", "--quant", "q4_k_m", "--lora", str(file))


@pytest.mark.parametrize("word", ["r=0", "r=x", "r=-1", "no.gguf", "", "r="])
def test_an_adapter_that_is_none(word):
    assert refused("llama-3.1-8b", "--quant", "q4_k_m", "--lora", word).count("\n") >= 2


def test_adapters_on_the_command_line():
    words = ["llama-3.1-8b", "--quant", "q4_k_m", "--engine", "llama.cpp", "--lora", "r=16", "--lora", "r=8"]
    code, out, told = run("vram", *words, "--json")
    assert code == 0
    assert json.loads(out)["scenario"]["lora"] == ["r=16", "r=8"]
    code, out, told = run("vram", *words)
    assert code == 0
    assert "LoRA adapters" in out
    assert "experts and routers" in told


# -- drafts --------------------------------------------------------------------------------------


def test_prediction_layers_of_a_real_log():
    """tests/data/logs/2026-vulkan-hybrid-draft.log: Qwen3.8-27B, 4 slots, 2 snapshots, -ub 2048."""
    given = {"n_ctx": 8192, "parallel": 4, "kv_unified": True, "ubatch": 2048}
    report = vram("qwen3.8-27b", draft="mtp", draft_max=2, **given)
    assert mib(report, "state") == 1795.50
    assert mib(report, "draft_kv_cache") == 32.00
    assert mib(report, "draft_activations") == 520.06
    assert mib(report, "host_draft_activations") == mib(report, "host_activations") == 112.07
    assert mib(report, "host_draft_logits") == 3.79
    assert mib(report, "kv_cache") == 512.00
    alone = vram("qwen3.8-27b", **given)
    assert report["state"].bytes == 3 * alone["state"].bytes
    assert report["weights"].bytes == alone["weights"].bytes  # the prediction layer is the draft's
    vulkan = vram("qwen3.8-27b", gpu="arc-a770", draft="mtp", draft_max=2, **given)
    assert 0.98 < mib(vulkan, "activations") / 568.53 < 1


PREDICTED = [
    ("qwen3.5-4b", 1, False, 3, 4096, 512, True, 201.00, 73.02, 68.02),
    ("qwen3.5-4b", 4, True, 2, 8192, 512, True, 603.00, 103.77, 67.02),
    ("qwen3.5-4b", 4, True, 2, 8192, 2048, True, 603.00, 308.07, 268.07),
    ("qwen3.5-4b", 4, False, 3, 8192, 512, True, 804.00, 105.77, 66.02),
    ("qwen3.5-4b", 1, False, 3, 8192, 512, False, 201.00, 315.01, 310.01),
    ("qwen3.5-0.8b", 1, False, 3, 4096, 512, True, 77.06, 46.16, 27.02),
    ("qwen3.5-0.8b", 4, True, 2, 8192, 512, True, 231.19, 66.58, 28.02),
    ("qwen3.5-0.8b", 4, True, 2, 8192, 2048, True, 231.19, 200.63, 112.07),
    ("qwen3.5-0.8b", 4, False, 3, 8192, 512, True, 308.25, 64.58, 25.02),
    ("qwen3.5-0.8b", 1, False, 3, 8192, 512, False, 77.06, 164.01, 162.01),
]
"""llama.cpp v0.5.0 on a CPU: slots, one cache, drafted, -c, -ub, -fa; states, buffers of both. [MiB]

``n_rs_seq`` and ``n_outputs_max`` were set as llama-server sets them, the draft's context as an MTP one.
"""


@pytest.mark.parametrize("row", PREDICTED)
def test_prediction_layers_as_llama_cpp_prints_them(row):
    model, slots, unified, drafted, n_ctx, ubatch, flash, state, buffer, draft = row
    report = vram(
        model, gpu=None, quant="f16", gpu_layers=0, n_ctx=n_ctx, parallel=slots, kv_unified=unified,
        ubatch=ubatch, flash_attn=flash, draft="mtp", draft_max=drafted,
    )  # fmt: skip
    assert mib(report, "host_state") == state
    assert mib(report, "host_activations") == buffer
    assert mib(report, "host_draft_activations") == draft
    assert report["host_draft_activations"].grade == "derived"


def test_prediction_layers_draft_three_tokens_by_default():
    report = vram("qwen3.5-9b", draft="mtp", parallel=2)
    assert report["state"].bytes == 4 * vram("qwen3.5-9b", parallel=2)["state"].bytes
    assert report.scenario["draft_max"] == 3
    assert any("3 snapshots" in told for told in report.warnings)
    dense = vram("glm-4.5-air", gpu="4xh100-80gb", draft="mtp")
    assert dense["state"].bytes == 0
    assert dense["draft_weights"].amounts[:3] == (0, 0, 0)  # where the head lies
    assert dense["draft_weights"].amounts[3] > 0


def test_a_draft_is_the_model_itself_in_small():
    report = vram("llama-3.1-70b", gpu="2xrtx-4090", draft="llama-3.2-1b", context=4096, parallel=2)
    own = vram("llama-3.2-1b", gpu="2xrtx-4090", context=4096, parallel=2)
    for name in ("weights", "kv_cache", "activations"):
        assert report[f"draft_{name}"].amounts == own[name].amounts
    assert report["host_draft_weights"].amounts == own["host_weights"].amounts
    assert report["host_draft_logits"].amounts == own["host_logits"].amounts
    assert sum(item.bytes_at_peak for item in report if item.where == "device") == report.total_bytes
    quantized = vram("llama-3.1-70b", gpu="2xrtx-4090", draft="llama-3.2-1b", kv_dtype="q8_0", context=4096)
    plain = vram("llama-3.1-70b", gpu="2xrtx-4090", draft="llama-3.2-1b", context=4096)
    assert quantized["draft_kv_cache"].bytes == plain["draft_kv_cache"].bytes  # it keeps its own 16 bit
    eight = vram("llama-3.1-70b", gpu="2xrtx-4090", draft="llama-3.2-1b", draft_quant="q8_0")
    assert eight["draft_weights"].bytes > report["draft_weights"].bytes


def test_a_draft_counts_in_what_fits():
    with_draft, without = vram("llama-3.1-8b", draft="llama-3.2-1b"), vram("llama-3.1-8b")
    step = with_draft.capacity.kv_bytes_per_token
    assert step == without.capacity.kv_bytes_per_token + 16 * 8 * 64 * 2 * 2
    assert with_draft.capacity.max_context < without.capacity.max_context
    long = llmcalc.vram(
        "llama-3.1-8b", quant="q4_k_m", engine="llama.cpp", draft="llama-3.2-1b", context=[1024, 2048]
    )
    assert long["draft_kv_cache"].bytes.tolist() == [32 * MIB, 64 * MIB]


def test_a_draft_of_a_hybrid_keeps_no_snapshots():
    report = vram("qwen3.8-27b", draft="qwen3.5-9b")
    assert report["state"].bytes == vram("qwen3.8-27b")["state"].bytes
    assert report["draft_state"].bytes > 0
    assert any("checkpoints" in told for told in report.warnings)


def test_more_logits_are_judged():
    """One position for each slot without a draft; with one, what is drafted too."""
    long = {"ubatch": 64, "context": 256, "parallel": 16}
    without = vram("llama-3.2-1b", gpu=None, gpu_layers=0, **long)
    more = vram("llama-3.2-1b", gpu=None, gpu_layers=0, draft="llama-3.2-1b", **long)
    assert more["host_activations"].bytes > without["host_activations"].bytes
    assert more["host_draft_activations"].bytes == without["host_activations"].bytes


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["qwen2.5-7b-instruct", "--draft", "llama-3.2-1b"], "differs by more than 128"),
        (["llama-3.1-8b", "--draft", "mtp"], "it has none"),
        (["deepseek-v3", "--draft", "mtp"], "converter leaves its prediction layers out"),
        (["llama-3.1-8b", "--draft", "1b"], "tells no layers"),
        (["llama-3.1-8b", "--draft", "nope"], "There is no model 'nope'"),
        (["llama-3.1-8b", "--draft", "bert-base-uncased"], "has no decoder"),
        (["llama-3.1-8b", "--draft-max", "3"], "--draft-max is for a draft model"),
        (["llama-3.1-8b", "--draft-quant", "q8_0"], "--draft-quant is for a draft model"),
        (["qwen3.5-9b", "--draft", "mtp", "--draft-quant", "q8_0"], "part of the model's file"),
        (["llama-3.1-8b", "--draft", "llama-3.2-1b", "--draft-quant", "awq"], "not one of its types"),
        (["llama-3.1-8b", "--draft", "llama-3.2-1b", "--draft-max", "x"], "--draft-max"),
    ],
)
def test_drafts_that_cannot_be(words, told):
    assert told in refused(words[0], "--quant", "q4_k_m", *words[1:])


def test_vocabularies_may_differ_by_a_little():
    report = vram("qwen2.5-7b-instruct", draft="qwen2.5-0.5b-instruct")  # 152,064 and 151,936
    assert report["draft_weights"].bytes > 0
    code, out, _ = run(
        "vram", "qwen2.5-7b-instruct", "--quant", "q4_k_m", "--engine", "llama.cpp", "--gpu", "rtx-4090",
        "-md", "qwen2.5-0.5b-instruct", "--explain",
    )  # fmt: skip
    assert code == 0
    assert "draft KV cache" in out


# -- what the CPU re-lays out --------------------------------------------------------------------

RELAID = [
    ("qwen2.5-0.5b", "q4_0", "avx2", 138.22, 191.95),
    ("qwen3-0.6b", "q4_k_m", "avx2", 167.90, 204.75),
    ("llama-3.2-1b", "q4_0", "avx2", 205.75, 522.00),
    ("qwen3-0.6b", "q2_k", "avx2", 276.84, 0),
    ("qwen3-0.6b", "q2_k", "avx512", 194.15, 82.69),
    ("llama-3.2-1b", "q2_k", "avx2", 537.50, 9.00),
    ("llama-3.2-1b", "q2_k", "avx512", 343.25, 203.25),
    ("llama-3.2-1b", "iq4_nl", "avx2", 238.75, 495.00),
    ("qwen3-0.6b", "q8_0", "avx2", 604.15, 0),
    ("gemma-3-1b-it", "q4_0", "avx512", 306.51, 374.31),
    ("deepseek-v2-lite", "q4_0", "avx2", 320.42, 8168.34),
    ("mamba2-2.7b", "q4_k_m", "avx2", 109.22, 1379.53),
]
"""llama.cpp v0.5.0 on a CPU of each kind, files loaded without mmap: ``CPU`` and ``CPU_REPACK``. [MiB]"""


@pytest.mark.parametrize(("model", "quant", "cpu", "kept", "relaid"), RELAID)
def test_repacked_as_llama_cpp_prints_it(model, quant, cpu, kept, relaid):
    report = vram(model, gpu=None, quant=quant, gpu_layers=0, repack=cpu, context=2048)
    assert abs(mib(report, "host_weights") - kept) < 0.02
    assert abs(mib(report, "host_repack") - relaid) < 0.02


def test_what_is_relaid_is_counted_once():
    given = {"gpu": None, "gpu_layers": 0, "quant": "q4_0", "context": 2048}
    whole, apart = vram("llama-3.1-8b", **given), vram("llama-3.1-8b", repack="on", **given)
    assert whole["host_weights"].bytes == apart["host_weights"].bytes + apart["host_repack"].bytes
    assert whole.host_bytes == apart.host_bytes
    assert apart["host_repack"].grade == apart["host_weights"].grade == "assumed"
    assert any("avx512 or neon" in told for told in apart.warnings)
    assert vram("llama-3.1-8b", repack="avx2", **given)["host_repack"].grade == "derived"
    off = vram("llama-3.1-8b", repack=False, **given)
    assert [item.name for item in off] == [item.name for item in whole]
    assert off.scenario["repack"] == "off"


def test_beside_a_gpu_that_pins_memory_nothing_is_relaid():
    report = vram("llama-3.1-8b", gpu_layers=10, repack="on")
    assert "host_repack" not in [item.name for item in report] or report["host_repack"].bytes == 0
    assert any("re-lays out nothing" in told for told in report.warnings)
    metal = vram("llama-3.1-8b", gpu="m4-max-64gb", gpu_layers=10, repack="on")
    assert metal["host_repack"].bytes > 0
    assert "neon" in metal["host_repack"].note
    split = vram("llama-3.1-8b", gpu="m4-max-64gb", gpu_layers=10)
    assert split.host_bytes == metal.host_bytes  # its head is on the GPU, so that nothing is copied


def test_a_tied_head_of_a_type_that_is_relaid_is_a_copy():
    given = {"gpu": None, "gpu_layers": 0, "quant": "q8_0", "context": 2048}
    whole, apart = vram("llama-3.2-1b", **given), vram("llama-3.2-1b", repack="neon", **given)
    head = 128_256 * 2048 // 32 * 34
    assert apart.host_bytes == whole.host_bytes + head


def test_a_cpu_that_is_none():
    assert "Use on, off, avx2" in refused("llama-3.1-8b", "--quant", "q4_0", "--repack", "sse")


def test_all_of_them_together_on_the_command_line():
    words = [
        "qwen3.8-27b", "--quant", "q4_0", "--engine", "llama.cpp", "--gpu", "2xrtx-3090", "-ngl", "40",
        "--mmproj", "on", "--lora", "r=16", "--draft", "mtp", "--repack", "avx2",
    ]  # fmt: skip
    code, out, _ = run("vram", *words, "--json")
    data = json.loads(out)
    assert code == 0
    assert (
        sum(item["bytes_at_peak"] for item in data["items"] if item["where"] == "device")
        == (data["total_bytes"])
    )
    code, out, _ = run("vram", *words, "--python")
    assert "mmproj='on', lora=['r=16'], draft='mtp', repack='avx2'" in out
    call = out.strip().splitlines()[-1]
    assert eval(call, {"llmcalc": llmcalc}).total_bytes == data["total_bytes"]
    code, out, told = run("fit", *words[:7], "--mmproj", "on", "--draft", "qwen3.5-9b", "--ctx", "8k")
    assert code in (0, 1, 3), told


@pytest.mark.parametrize("name", ["mmproj", "lora", "draft", "repack"])
def test_more_context_never_needs_less_beside_it(name):
    given = {"mmproj": {"mmproj": "on"}, "lora": {"lora": "r=64"}, "draft": {"draft": "mtp"}}
    extra = given.get(name, {"repack": "on"})
    totals = [vram("qwen3.5-9b", context=tokens, **extra).total_bytes for tokens in (512, 4096, 32_768)]
    assert totals == sorted(totals)
    assert totals[1] >= vram("qwen3.5-9b", context=4096).total_bytes


def test_fit_spells_out_what_is_beside():
    more = {"mmproj": "on", "lora": "r=8", "draft": "mtp", "repack": "off"}
    report = vram("qwen3.8-27b", gpu="2xrtx-3090", fit=True, **more)
    told = next(hint for hint in report.hints if "llama-server -m" in hint)
    for words in ("--mmproj MMPROJ.gguf", "--lora ADAPTER.gguf", "--spec-type draft-mtp", "--no-repack"):
        assert words in told
