"""Catalogs: what is edited is what is read; errors name file, entry and field."""

import json

import pytest

import llmcalc
from llmcalc import catalog_build
from llmcalc.answer.training.rl.frameworks import FRAMEWORKS
from llmcalc.catalog import DATA, Catalog, fold
from llmcalc.errors import CatalogError, UnknownNameError
from llmcalc.memory.training.precisions import RECIPES

CATALOG = Catalog.shipped()


@pytest.mark.parametrize(
    "kind", ["gpus", "models", "formats", "texts", "tokenizers", "optimizers", "laws", "sources"]
)
def test_compiled_says_what_the_yaml_says(kind):
    raw = catalog_build.load_yaml(f"{DATA}/{kind}.yaml")[kind]
    if kind == "sources":
        raw = [{"name": name, **entry} for name, entry in raw.items()]
    assert CATALOG.entries(kind) == [{k: v for k, v in entry.items() if v is not None} for entry in raw]
    for entry in raw:
        for name in catalog_build.names_of(kind, entry):
            assert CATALOG.lookup(kind, name)["name"] == entry["name"], name


def test_class_defaults_compiled():
    raw = catalog_build.load_yaml(f"{DATA}/class_defaults.yaml")["classes"]
    for name in ("llama", "gemma3_text", "deepseek_v3"):
        assert CATALOG.lookup("class_defaults", name) == {"name": name, **raw[name]}


def test_sources_resolve():
    known = [entry["name"] for entry in CATALOG.entries("sources")]
    for kind in ("gpus", "models", "formats", "schemes", "texts", "tokenizers", "optimizers", "laws"):
        entries = CATALOG.entries(kind)
        assert catalog_build.unresolved_sources(entries, known) == []
        assert all(entry.get("sources") for entry in entries), kind
    kinds = ("gpus", "models", "formats", "schemes", "texts", "tokenizers", "optimizers", "laws")
    cited = json.dumps([CATALOG.entries(kind) for kind in kinds])
    cited += " ".join(recipe.source for recipe in RECIPES.values())
    report = llmcalc.train("llama-3.2-1b", method="qlora", seq_len=128)
    cited += " ".join(item.source for item in report)
    cited += " ".join(
        part.source
        for item in llmcalc.train("llama-3.2-1b", like="megatron", tp=2, seq_len=128)
        for part in (item, *item.items)
    )
    for version in (1, 2):
        report = llmcalc.train("llama-3.2-1b", fsdp=version, dp=2, seq_len=128)
        cited += report["gathered"].source
    cited += " ".join(item.source for item in llmcalc.train("llama-3.2-1b", rl="grpo", seq_len=128))
    cited += " ".join(frame.source for frame in FRAMEWORKS.values())
    assert [name for name in known if name not in cited] == []


def test_low_confidence_stays_marked():
    levels = {entry["confidence"] for entry in CATALOG.entries("gpus")}
    assert levels == {"verified", "single-source", "medium", "low", "derived"}


def test_names_fold():
    assert fold("Meta-Llama/Llama_3.1 (8B)") == "metallama/llama318b"
    for name in (
        "LLAMA-3.1-8B",
        "llama 3.1 8b",
        "llama_3_1_8b",
        "meta-llama/Llama-3.1-8B",
        "Meta-Llama-3.1-8B",
    ):
        assert CATALOG.lookup("models", name)["name"] == "llama-3.1-8b"


def test_names_that_fold_alike_are_told_apart_by_their_spelling():
    assert CATALOG.lookup("models", "opt-13b")["name"] == "opt-13b"
    assert CATALOG.lookup("models", "opt-1.3b")["name"] == "opt-1.3b"
    with pytest.raises(UnknownNameError, match=r"opt-13b, opt-1\.3b|opt-1\.3b, opt-13b"):
        CATALOG.lookup("models", "opt13b")


def test_an_ambiguous_word_names_the_choices():
    with pytest.raises(UnknownNameError, match=r"mistral-7b-v0\.1"):
        CATALOG.lookup("models", "mistral-7b")


def test_ambiguous_words_lead_to_entries():
    for kind in ("gpus", "models"):
        for word, names in catalog_build.load_yaml(f"{DATA}/{kind}.yaml")["ambiguous"].items():
            assert len(names) > 1
            for name in names:
                assert CATALOG.lookup(kind, name) is not None, (word, name)


OWN = """\
gpus:
  - name: My Card
    aliases: [my-card]
    vendor: Acme
    memory_gb: 40
models:
  - name: my-model
    config: {model_type: llama, hidden_size: 64, num_hidden_layers: 2, num_attention_heads: 4,
             num_key_value_heads: 2, intermediate_size: 96, vocab_size: 128, max_position_embeddings: 2048}
"""


def test_own_catalog(tmp_path, monkeypatch):
    file = tmp_path / "own.yaml"
    file.write_text(OWN, encoding="utf-8")
    report = llmcalc.vram("My Model", gpu="2xmycard", catalog=str(file))
    assert report.model["name"] == "my-model"
    assert report.device.name == "My Card"
    folder = tmp_path / "llmcalc"
    folder.mkdir()
    (folder / "mine.yaml").write_text(OWN, encoding="utf-8")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert llmcalc.vram("my-model", gpu="my card").total_bytes == report.total_bytes + (
        llmcalc.vram("my-model", gpu="my card").total_bytes - report.total_bytes
    )
    assert llmcalc.model("my-model").params == llmcalc.model("my-model", catalog=str(file)).params


def test_own_entries_win(tmp_path):
    file = tmp_path / "own.yaml"
    file.write_text("gpus: [{name: RTX 4090, vendor: Me, memory_gb: 48}]", encoding="utf-8")
    assert Catalog([str(file)]).lookup("gpus", "rtx-4090")["memory_gb"] == 48
    names = [entry["name"] for entry in Catalog([str(file)]).entries("gpus")]
    assert names.count("RTX 4090") == 1


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("gpus: [{name: A, vendor: B, memory_gb: 8, memroy_gb: 9}]", ["entry A", "memroy_gb", "memory_gb"]),
        ("gpus: [{name: A, vendor: B, memory_gb: lots}]", ["entry A", "memory_gb"]),
        ("gpus: [{vendor: B, memory_gb: 8}]", ["number 1", "name"]),
        ("models: [{name: m}]", ["entry m", "config"]),
        ("models: [{name: m, config: [1]}]", ["entry m", "config"]),
        ("gups: []", ["gups", "gpus"]),
        ("gpus: {name: A}", ["gpus", "list"]),
        ("- 1", ["no catalog"]),
        ("gpus: [", ["not valid YAML"]),
        ("gpus: [{name: A, name: B, vendor: C}]", ["twice"]),
    ],
)
def test_errors_name_file_entry_and_field(tmp_path, text, parts):
    file = tmp_path / "own.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(CatalogError) as caught:
        Catalog([str(file)])
    for part in ("own.yaml", *parts):
        assert part in str(caught.value)


def test_a_cut_name_is_told_what_it_begins():
    with pytest.raises(UnknownNameError) as caught:
        llmcalc.model("flan-t5")
    assert "flan-t5-base" in caught.value.remedy
    with pytest.raises(UnknownNameError, match="gemma-4-31b"):
        llmcalc.model("gemma-4")


def test_ollamas_spelling_without_its_store(monkeypatch, tmp_path):
    monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path))
    found = llmcalc.model("llama3.1:8b")
    assert found.params == 8_030_261_248
    assert any("Ollama" in warning for warning in found.warnings)


def test_llama_4_scout_has_its_whole_tower():
    assert llmcalc.model("llama-4-scout").params == 108_641_793_536  # as published
