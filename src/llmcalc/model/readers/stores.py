"""Models that other programs keep on this machine: Ollama's store and the Hugging Face hub cache."""

from __future__ import annotations

import os
from typing import Any

MODEL_LAYER = "application/vnd.ollama.image.model"
MAX_MANIFEST = 1 << 20


def find(name: str) -> str | None:
    """The path of a model by its name in a local store, or None.

    ``llama3.1:8b`` (or ``ollama:llama3.1``) is looked for in Ollama's store, ``org/name`` in the hub
    cache. `OLLAMA_MODELS`, `HF_HUB_CACHE` and `HF_HOME` move them, as for the programs themselves.
    """
    if "\0" in name:
        return None
    if ":" in name and "/" not in name.partition(":")[0]:
        return _ollama(name.removeprefix("ollama:"))
    if name.count("/") == 1 and not name.startswith((".", "/", "~")):
        return _hub(name)
    return None


def _ollama(name: str) -> str | None:
    model, _, tag = name.partition(":")
    if not model or {"..", ""} & set(model.split("/")):
        return None
    root = os.environ.get("OLLAMA_MODELS") or os.path.join(os.path.expanduser("~"), ".ollama", "models")
    manifests = os.path.join(root, "manifests")
    owner = () if "/" in model else ("library",)
    try:
        hosts = sorted(os.listdir(manifests))
    except OSError:
        return None
    for host in hosts:
        blob = _blob(os.path.join(manifests, host, *owner, *model.split("/"), tag or "latest"), root)
        if blob is not None:
            return blob
    return None


def _blob(manifest: str, root: str) -> str | None:
    """The weight file that a manifest names."""
    import json

    try:
        if not os.path.isfile(manifest) or os.path.getsize(manifest) > MAX_MANIFEST:
            return None
        with open(manifest, "rb") as stream:
            layers: Any = json.load(stream).get("layers", [])
    except (OSError, ValueError, AttributeError, RecursionError):
        return None
    for layer in layers if isinstance(layers, list) else []:
        if isinstance(layer, dict) and layer.get("mediaType") == MODEL_LAYER:
            digest = str(layer.get("digest", "")).replace(":", "-")
            path = os.path.join(root, "blobs", os.path.basename(digest))
            return path if os.path.isfile(path) else None
    return None


def _hub(name: str) -> str | None:
    home = os.environ.get("HF_HOME") or os.path.join(os.path.expanduser("~"), ".cache", "huggingface")
    cache = os.environ.get("HF_HUB_CACHE") or os.path.join(home, "hub")
    folder = os.path.join(cache, "models--" + name.replace("/", "--"))
    try:
        with open(os.path.join(folder, "refs", "main"), encoding="utf-8") as stream:
            revision = stream.read(200).strip()
    except (OSError, UnicodeDecodeError):
        return None
    snapshot = os.path.join(folder, "snapshots", os.path.basename(revision))
    return snapshot if os.path.isdir(snapshot) else None
