"""Lines that Ollama itself writes: sizes of its own engine, and of its plans for llama.cpp."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmcalc.validation import wording as w
from llmcalc.validation.devices import device
from llmcalc.validation.loads import Load
from llmcalc.validation.records import Context, Line

if TYPE_CHECKING:
    from llmcalc.validation.reader import Reader

KINDS = {"model weights": "weights", "kv cache": "kv_cache", "compute graph": "compute"}


def read_ollama(reader: Reader, text: str, number: int, raw: str) -> bool:
    """Read a line of Ollama's; False if it says nothing about memory.

    The planner also prints a plan before it starts llama.cpp, so these sizes stand in a load of
    their own. Each plan begins with the weights.
    """
    fields = {key: value.strip('"') for key, value in w.FIELD.findall(text)}
    message = fields.get("msg", "")
    if found := w.OLLAMA_VERSION.search(message):
        reader.log.version = found[1]
        return True
    if message == "inference compute":
        name = fields.get("name", "")
        one = device(reader.log, name or fields.get("library", "GPU"), fields.get("description", ""))
        total, free = w.size_in(fields.get("total", "")), w.size_in(fields.get("available", ""))
        one.total_mib, one.free_mib = total and total[0], free and free[0]
        return True
    if found := w.OFFLOADED.search(message):
        planned(reader, "layers").gpu_layers = (int(found[1]), int(found[2]))
        return True
    size = w.size_in(fields.get("size", ""))
    kind = KINDS.get(message)
    if kind is None or size is None:
        return False
    name = fields.get("device") or fields.get("buffer") or fields.get("buffer_type") or fields.get("backend")
    line = Line(number, raw, kind, name, size)
    load = planned(reader, kind)
    if kind == "weights":
        reader.add(line, load)
    else:
        if not load.contexts:
            load.contexts.append(Context())
        reader.add(line, load.contexts[0], replaces=True)
    return True


def planned(reader: Reader, kind: str) -> Load:
    """The load of Ollama's that a line belongs to."""
    load = reader.load
    begins = kind in ("weights", "layers")
    if load is None or load.engine != "ollama" or (begins and load.contexts):
        return reader.new_load(engine="ollama")
    return load
