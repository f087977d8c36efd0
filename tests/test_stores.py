"""Models in Ollama's store and in the hub cache, found by name."""

import json

import pytest

import llmcalc
from llmcalc.catalog import Catalog
from llmcalc.errors import UnknownNameError
from test_gguf import converted, metadata, write


def gpt2(path):
    model = llmcalc.model("gpt2")
    write(
        path, metadata(model, "gpt2", Catalog.shipped().lookup("models", "gpt2")["config"]), converted(model)
    )
    return model


def test_ollama(tmp_path, monkeypatch):
    monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path))
    (tmp_path / "blobs").mkdir()
    model = gpt2(tmp_path / "blobs" / "sha256-abc")
    folder = tmp_path / "manifests" / "some.host" / "library" / "tiny"
    folder.mkdir(parents=True)
    layers = [{"mediaType": "application/vnd.ollama.image.model", "digest": "sha256:abc"}]
    (folder / "1b").write_text(json.dumps({"layers": layers}))
    (folder / "broken").write_text("[")
    read = llmcalc.model("tiny:1b")
    assert (read.params, read.source) == (model.params, "gguf")
    assert llmcalc.model("ollama:tiny:1b").params == model.params
    for name in ("tiny:2b", "tiny:broken", "other:1b"):
        with pytest.raises(UnknownNameError):
            llmcalc.model(name)


def test_the_hub_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    folder = tmp_path / "models--someone--tiny"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("123abc")
    snapshot = folder / "snapshots" / "123abc"
    snapshot.mkdir(parents=True)
    config = Catalog.shipped().lookup("models", "gpt2")["config"]
    (snapshot / "config.json").write_text(json.dumps(config))
    assert llmcalc.model("someone/tiny").params == llmcalc.model("gpt2").params
    with pytest.raises(UnknownNameError):
        llmcalc.model("someone/else")
