"""What `generate` leaves room for: the longest context, the most sequences, rows of beams and samples."""

import copy

import pytest

import llmcalc
from llmcalc.answer.generation import Trials
from llmcalc.errors import LlmcalcError
from llmcalc.memory.engines.transformers.ledger import Ledger


def ask(model, **asked):
    return llmcalc.vram(model, engine="transformers", **asked)


EDGES = [
    ("olmo-3-7b-think", {"gpu": "64GiB", "sequences": 2}),
    ("gemma-3-27b", {"gpu": "h100", "padding": True}),
    ("gemma-3-4b", {"gpu": "24GiB", "cache": "static", "sequences": 3}),
    ("qwen3-14b", {"gpu": "2xm4-max-64gb", "cache": "offloaded", "sequences": 64, "engine_version": "4.57"}),
    ("deepseek-v3", {"gpu": "16xh100"}),
    ("gpt-oss-20b", {"gpu": "rtx-4090", "pp": 1}),
    ("qwen3-4b", {"gpu": "24GiB", "prefill_chunk_size": 1000, "padding": True, "sequences": 8}),
    ("llama-3.1-8b", {"gpu": "3xrtx-3090", "padding": True, "attention": "sdpa", "sequences": 4}),
    ("t5-large", {"gpu": "12GiB", "allow_overlong": True}),
    ("falcon-h1-3b-instruct", {"gpu": "24GiB", "state_kernels": False}),
]


@pytest.mark.parametrize(("model", "asked"), EDGES, ids=lambda v: v if isinstance(v, str) else "")
def test_the_longest_context_fits_and_nothing_beyond(model, asked):
    asked = {**asked, "allow_overlong": True}
    found = ask(model, context=1024, **asked)
    most = found.capacity.max_context
    assert most > 64
    assert ask(model, context=most, **asked).headroom_bytes >= 0
    for more in (1, 15, 16, 17, 100, 4096):
        assert ask(model, context=most + more, **asked).headroom_bytes < 0, more
    assert found.capacity.safe_context <= most
    assert ask(model, context=found.capacity.safe_context, **asked).verdict == "fits"


def test_a_length_of_whole_rows_needs_less_than_the_one_before():
    """A mask whose rows are not a multiple of 16 is copied once more, so need is no curve that only rises."""
    asked = {"padding": True, "gpu": "12GiB", "engine_version": "4.48"}
    found = ask("qwen3-0.6b", **asked)
    most = found.capacity.max_context
    assert most % 16 == 0
    assert ask("qwen3-0.6b", context=most - 1, **asked).headroom_bytes < 0
    assert ask("qwen3-0.6b", context=most, **asked).headroom_bytes >= 0


def test_an_output_keeps_its_length():
    found = ask("gemma-3-4b", prompt=500, output=100, sequences=2, gpu="24GiB", padding=True)
    most = found.capacity.max_context
    for tokens, fits in ((most, True), (most + 1, False), (most + 16, False)):
        again = ask("gemma-3-4b", prompt=tokens - 100, output=100, sequences=2, gpu="24GiB", padding=True)
        assert (again.headroom_bytes >= 0) is fits


@pytest.mark.parametrize("more", [{}, {"beams": 3, "prompt": 900, "output": 100}])
def test_the_most_sequences_fit_and_one_more_does_not(more):
    asked = {"gpu": "2xrtx-4090", **(more or {"context": 2048})}
    most = ask("gemma-3-4b", **asked).capacity.max_concurrency
    for number, fits in ((most, True), (most + 1, False)):
        assert (ask("gemma-3-4b", sequences=number, **asked).headroom_bytes >= 0) is fits


@pytest.mark.parametrize("gpu", ["h100", "4xh100"])
def test_trials_are_the_reports_own_sums(gpu, monkeypatch):
    """The room that a trial finds for what was asked is the headroom that the report shows."""
    made = []
    original = Trials.__init__
    monkeypatch.setattr(Trials, "__init__", lambda self, *rest: (original(self, *rest), made.append(self))[0])
    for more in ({}, {"cache": "offloaded"}, {"cache": "static", "sequences": 3}, {"attention": "eager"}):
        found = ask("gemma-3-12b", context=3000, gpu=gpu, **more)
        trials, many = made[-1], more.get("sequences", 1)
        assert trials.room(3000, many) == found.headroom_bytes
        assert trials.room(3000, many, True) == found.device.usable_low - found.range_bytes[1]


def test_figures_are_found_when_they_are_asked_for(monkeypatch):
    tried = []
    original = Trials._needs
    monkeypatch.setattr(Trials, "_needs", lambda self, *key: (tried.append(key), original(self, *key))[1])
    found = ask("llama-3.1-8b", gpu="24GiB")
    assert not tried
    assert found.capacity.max_context == found.capacity.max_context > 0
    assert len(tried) <= 6
    copied = copy.copy(found.capacity)
    assert copied.to_dict() == found.capacity.to_dict()
    with pytest.raises(AttributeError):
        found.capacity.nonsense  # noqa: B018


# -- several outputs of a prompt -------------------------------------------------------------------


def test_samples_are_rows_of_the_batch():
    several = ask("llama-3.1-8b", prompt=1000, output=200, samples=4)
    rows = ask("llama-3.1-8b", prompt=1000, output=200, sequences=4)
    assert several.total_bytes == rows.total_bytes
    assert several.minimum_bytes < rows.minimum_bytes  # at least the prompt is needed once
    assert several.scenario["samples"] == 4


def test_a_beam_search_scores_and_sorts():
    """Three fp32 rows of the vocabulary while scoring; a layer's keys copied; all before 4.42."""
    asked = {"prompt": 30_000, "output": 1000}
    beams, rows = ask("llama-3.1-8b", beams=4, **asked), ask("llama-3.1-8b", samples=4, **asked)
    assert beams["kv_cache"].bytes == rows["kv_cache"].bytes
    layer = 4 * 31_000 * 8 * 128 * 2
    scores = 3 * 4 * 4 * 128_256
    assert abs(beams["decode_buffers"].bytes - layer - scores) < 2**20
    old = ask("llama-3.1-8b", beams=4, engine_version="4.40", **asked)
    assert old["decode_buffers"].bytes > beams["kv_cache"].bytes * 0.95


def test_what_saves_nothing_in_a_padded_batch_is_refused():
    for more in ({"shared_prefix": 100}, {"prompt": [100, 900]}):
        with pytest.raises(LlmcalcError, match="up to the longest"):
            ask("llama-3.1-8b", **{"prompt": 1000, "output": 50, **more})


# -- placement, options, notes ---------------------------------------------------------------------


def test_the_fewest_gpus_are_priced_as_they_would_be_asked_for():
    fewest = ask("llama-3.1-70b", gpu="h100").fewest
    assert (fewest["gpus"], fewest["tp"], fewest["pp"]) == (2, 1, 2)
    again = ask("llama-3.1-70b", gpu="2xh100")
    assert again.headroom_bytes == fewest["headroom_bytes"]
    assert again.scenario["pp"] == 2
    asked = ask("llama-3.1-70b", gpu="h100", tp=1).fewest  # tensor ranks were chosen
    assert (asked["tp"], asked["pp"]) == (2, 1)


def test_a_static_cache_that_is_too_short_and_a_misspelt_kernel():
    with pytest.raises(LlmcalcError, match=r"(?s)shorter than the context, 100 .*--max-cache-len 100"):
        ask("llama-3.1-8b", cache="static", max_cache_len=5, context=100)
    assert ask("llama-3.1-8b", cache="static", max_cache_len=200, gpu="h100").capacity.max_context == 200
    with pytest.raises(LlmcalcError, match=r"Did you mean flash\?"):
        ask("llama-3.1-8b", attention="flash3")


def test_compare_marks_eager_attention():
    text = llmcalc.compare("gpt-oss-20b", engine="vllm,transformers", gpu="24GiB", context=8192).to_text()
    row = next(line for line in text.splitlines() if line.strip().startswith("transformers"))
    assert " *  " in row
    assert "* transformers: eager attention" in text
    assert "*" not in llmcalc.compare("llama-3.1-8b", engine="vllm,transformers").to_text()


def test_a_ledger_remembers_its_peak():
    ledger = Ledger(5)
    made = ledger.make(10, "a")
    assert ledger.parts == {"caches": 5, "a": 10}
    ledger.drop(made)
    ledger.make(3, "b")
    assert (ledger.peak, ledger.parts) == (15, {"caches": 5, "a": 10})
    ledger.make(30, "c")
    assert (ledger.peak, ledger.parts) == (38, {"caches": 5, "a": 0, "b": 3, "c": 30})
