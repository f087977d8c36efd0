"""Puts each line of a start-up log where it belongs."""

from __future__ import annotations

from llmcalc.units import MIB
from llmcalc.validation import wording as w
from llmcalc.validation.devices import read_device
from llmcalc.validation.loads import Breakdown, Load, Log
from llmcalc.validation.ollama import read_ollama
from llmcalc.validation.records import Cache, Context, Line

LINE_MOST = 4096
"""Of a longer line only the beginning is read. [characters]"""

WORDS_MOST = 6
"""Of the words of a line that could be a function's name, so many are looked at. [-]"""

IK_SETTINGS = ("mla_attn", "attn_max_b", "fused_moe", "fused_up_gate")
"""Settings that only ik_llama.cpp prints."""


class Reader:
    """Reads line after line and puts each size where it belongs."""

    def __init__(self) -> None:
        self.log = Log()
        self.load: Load | None = None
        self.clip: Load | None = None
        self.context: Context | None = None
        self.role = "model"  # of the next load
        self.context_role = "model"  # of the next context
        self.label = ""  # of the next cache
        self.cells: int | None = None  # of the next cache
        self.computed = False  # whether the context has a compute buffer
        self.family = "CUDA"  # of the devices that are numbered next
        self.known = False  # whether any line was ours

    def feed(self, number: int, raw: str) -> None:
        """Read one line."""
        if len(raw) > LINE_MOST:
            raw = raw[:LINE_MOST]
        if "\x1b" in raw:
            raw = w.COLOUR.sub("", raw)
        words = unwrap(raw).split()
        text = raw.strip()
        tried = 0
        for place, word in enumerate(words):
            if word[-1] == ":" and len(word) > 4 and (name := w.function_of(word)):
                tried += 1
                if self.dispatch(name, " ".join(words[place + 1 :]), number, text):
                    self.known = True
                    break
                if tried == WORDS_MOST:
                    break
        else:
            self.other(" ".join(words), number, text)
        if " ollama[" in text:
            self.log.program = "ollama"

    def other(self, line: str, number: int, text: str) -> None:
        """Read a line that names no function."""
        if "source=" in line and ".go:" in line:
            self.log.program = "ollama"
            self.known |= read_ollama(self, line, number, text)
        elif (" buffer type overrid" in line and self.overridden(line)) or read_device(self, "", line):
            self.known = True
        elif "build" in text and (found := w.BUILD_INFO.search(text)):
            self.log.build, self.log.commit, self.known = int(found[1]), found[2], True

    def dispatch(self, name: str, rest: str, number: int, text: str) -> bool:
        """Read what one function printed; False if it is none of ours."""
        if name in w.META:
            return self.meta(name, rest, number, text)
        if name in w.TENSORS:
            return self.tensors(rest, number, text)
        if name in w.CONTEXT:
            return self.setting(rest, number, text)
        if name in w.TABLE:
            return self.row(rest)
        if name == "init" or name.startswith(w.CACHE):
            return self.cache(name, rest, number, text)
        if name in w.LOADER:
            return self.loader(rest)
        if name in w.CLIP:
            return self.projector(rest, number, text)
        if "LoRA buffer size" in rest:
            return self.buffer(rest, number, text, "lora")
        if name in w.FIT and (found := w.PROJECTED.search(rest)):
            line = Line(number, text, "projected", found[3], w.amount(found[1], found[2]), total=True)
            self.log.lines.append(line)
            return True
        if name in w.BUILD and self.build(name, rest):
            return True
        if "n_slots" in rest and (found := w.SLOTS.search(rest)):
            return self.slots(found[1], found[2], found[3])
        if "draft" in rest and ("loading draft model" in rest or "creating MTP draft context" in rest):
            if "creating MTP" in rest:
                self.context_role, self.context = "draft", None
                if self.load is not None and (found := w.TARGET.search(rest)):
                    self.load.path = self.load.path or found[1]
            else:
                self.role = "draft"
            return True
        return read_device(self, name, rest)

    # Where things belong

    def new_load(self, path: str | None = None, engine: str = "llama.cpp") -> Load:
        """Begin a load, in the role announced before."""
        self.load = Load(self.role, engine, path)
        self.log.loads.append(self.load)
        self.role = self.context_role = "model"
        self.context = None
        return self.load

    def loading(self) -> Load:
        """The load that a line about a model belongs to: a new one once a context has been made."""
        if self.load is None or self.load.contexts or self.load.engine != "llama.cpp":
            return self.new_load()
        return self.load

    def running(self) -> Context:
        """The context that a line belongs to."""
        if self.context is None:
            if self.load is None or self.load.engine != "llama.cpp":
                self.new_load()
            assert self.load is not None
            self.context = Context(self.context_role)
            self.context_role = "model"
            self.label, self.cells, self.computed = "", None, False
            self.load.contexts.append(self.context)
            if self.load.arch is None and "n_ctx" in self.load.meta:  # logs of mid-2023
                self.context.settings["n_ctx"] = self.load.meta["n_ctx"]
        return self.context

    def add(self, line: Line, owner: Load | Context, replaces: bool = False) -> Line:
        """Keep a line; where a buffer was printed before, that line no longer counts."""
        if replaces:
            earlier = owner.latest.get((line.kind, line.device))
            if earlier is not None:
                earlier.superseded = True
            owner.latest[line.kind, line.device] = line
        self.computed = self.computed or (line.kind == "compute" and owner is self.context)
        owner.lines.append(line)
        self.log.lines.append(line)
        return line

    # The model

    def loader(self, rest: str) -> bool:
        """The file and its keys."""
        if found := w.LOADED.search(rest):
            self.new_load(found[2]).tensors = int(found[1])
        elif rest.startswith("loading model from "):
            self.new_load(rest[19:])
        elif (found := w.KEY.match(rest)) and self.load is not None:
            if not found[1].startswith("tokenizer."):
                self.load.keys[found[1]] = found[3]
        elif (found := w.TENSOR_TYPE.match(rest)) and self.load is not None:
            self.load.tensor_types[found[1]] = int(found[2])
        else:
            return "GGUF" in rest or "metadata" in rest
        return True

    def meta(self, name: str, rest: str, number: int, text: str) -> bool:
        """A hyperparameter, or in logs of mid-2023 a size."""
        found = w.SETTING.match(rest)
        if name == "llama_model_load_internal" and self.tensors(rest, number, text):
            return True
        if not found:
            return True
        key, value = found[1], found[2].strip()
        load = self.loading()
        if key in ("arch", "file format", "format") and "arch" in load.meta:
            load = self.new_load()
        size = w.size_in(value)
        if key in ("model size", "file size") and size:
            load.size_bytes = round(size[0] * MIB)
            if bits := w.BITS.search(value):
                load.bits_per_weight = float(bits[1].replace(",", "."))
        elif key in ("file type", "model ftype", "ftype"):
            named = value.partition("(")[2].rstrip(")") if key == "ftype" and "(" in value else value
            load.file_type = named.removeprefix("mostly ")
        elif key == "model params" and (params := w.PARAMS.match(value)):
            scale = {"K": 3, "M": 6, "B": 9, "T": 12}[params[2]]
            load.params = round(float(params[1].replace(",", ".")) * 10**scale)
        elif key == "model size":
            load.meta["model type"] = value
        elif not key.endswith("token"):
            load.meta[key] = value
        if key == "vocab_only" and value == "1":
            load.role = "vocab"
        if key == "no_alloc" and value == "1":
            load.dry = True
        return True

    def tensors(self, rest: str, number: int, text: str) -> bool:
        """Weights on each device."""
        if found := w.OFFLOADED.search(rest):
            self.loading().gpu_layers = (int(found[1]), int(found[2]))
            return True
        if "buffer size" in rest:
            return self.buffer(rest, number, text, "weights")
        if " buffer type overrid" in rest:
            return self.overridden(rest)
        return self.old_size(rest, number, text)

    def overridden(self, rest: str) -> bool:
        """A tensor that was put elsewhere."""
        found = w.OVERRIDDEN.search(rest)
        if found:
            self.loading().overridden.append((found[1], found[2]))
        return found is not None

    def old_size(self, rest: str, number: int, text: str) -> bool:
        """A size in the wording of 2023."""
        for pattern, kind, device in w.OLD_SIZES:
            if found := pattern.match(rest):
                line = Line(number, text, kind, device, w.amount(found[1], found[2]), total=kind == "vram")
                if kind == "kv_cache":
                    self.in_cache(line)
                else:
                    owner = self.context or self.load or self.new_load()
                    self.add(line, self.loading() if kind == "weights" else owner)
                return True
        return False

    def buffer(self, rest: str, number: int, text: str, kind: str) -> bool:
        """A buffer of weights or of an adapter."""
        found = w.BUFFER.match(rest)
        if not found:
            return False
        load = self.loading() if kind == "weights" else self.load or self.new_load()
        line = Line(number, text, kind, found[1], w.amount(found[3], found[4]))
        if kind == "weights":
            # Only a pass that measures prints zero for every device.
            first = not load.lines
            load.dry = load.meta.get("no_alloc") == "1" or (line.mib == 0 and (first or load.dry))
        self.add(line, load)
        return True

    # Its contexts

    def slots(self, many: str, each: str | None, unified: str | None) -> bool:
        """What the server says of its slots, after all contexts: they are the first context's."""
        load = self.log.main
        if load is not None and load.context is not None:
            told = {"n_slots": many, "n_ctx_slot": each, "kv_unified": unified}
            for name, value in told.items():
                if value is not None:
                    load.context.settings.setdefault(name, value)
        return True

    def setting(self, rest: str, number: int, text: str) -> bool:
        """A setting or a buffer of a context."""
        if rest.startswith("constructing"):
            self.context = None
            self.running()
        elif found := w.BUFFER.match(rest):
            kind = (found[2] or "compute ").strip()
            if kind == "KV":
                return self.cache("llama_kv_cache", rest, number, text)
            line = Line(number, text, kind, found[1], w.amount(found[3], found[4]))
            self.add(line, self.running(), replaces=True)
        elif found := w.FLASH.match(rest):
            self.running().settings["flash_attn"] = found[1]
        elif "self" in rest and (found := w.CACHE_SIZE.search(rest)):
            self.cache_size(rest, number, text)
        elif self.old_size(rest, number, text):
            return True
        elif found := w.SETTING.match(rest):
            key, value = found[1], found[2].strip()
            if key in ("n_ctx", "n_seq_max") and self.context is not None and key in self.context.settings:
                self.context = None  # a second context begins with the same settings
            self.running().settings[key] = value
            if key in IK_SETTINGS:
                self.log.program = "ik_llama.cpp"
        return True

    def cache(self, name: str, rest: str, number: int, text: str) -> bool:
        """A cache of keys and values, or a state."""
        if found := w.CREATING.match(rest):
            self.running()
            self.label, self.cells = found[1].strip(), w.whole(found[2] or "")
        elif "using full-size SWA cache" in rest:
            self.running().settings["swa_full"] = "1"
        elif found := w.BUFFER.match(rest):
            recurrent = found[2] in ("RS ", "state ") or "recurrent" in name
            kind = "state" if recurrent else "kv_swa" if self.label == "SWA" else "kv_cache"
            self.in_cache(Line(number, text, kind, found[1], w.amount(found[3], found[4])))
        elif (found := w.CACHE_SIZE.match(rest)) or (found := w.STATE_SIZE.match(rest)):
            self.cache_size(rest, number, text, "recurrent" in name or " ratio = " in rest)
        elif found := w.CELLS.match(rest):
            told = {f"type_{key}": value for key, value in w.CACHE_TYPES.findall(rest)}
            self.running().settings.update(told | {"kv_size": found[1]})
        elif self.old_size(rest, number, text):
            return True
        else:
            return name != "init"
        return True

    def in_cache(self, line: Line) -> None:
        """Put a buffer into its cache: a new one if the present one is complete or holds the device."""
        if self.computed:
            self.context = None  # caches come before compute buffers: this context began unseen
        context = self.running()
        last = context.caches[-1] if context.caches else None
        label = "" if line.kind == "state" else self.label
        if (
            last is None
            or last.total is not None
            or (last.kind, last.label) != (line.kind, label)
            or line.device in last.devices
        ):
            last = Cache(line.kind, label, self.cells if label else None)
            context.caches.append(last)
        last.devices.add(line.device)
        last.lines.append(self.add(line, context))

    def cache_size(self, rest: str, number: int, text: str, recurrent: bool = False) -> None:
        """The sum of a cache, with its parts."""
        found = w.STATE_SIZE.match(rest) if " ratio = " in rest else w.CACHE_SIZE.search(rest)
        assert found is not None
        context, state = self.running(), " ratio = " in rest
        cache = context.caches[-1] if context.caches else None
        again = cache is not None and cache.total is not None and " self " in f" {rest}"
        if cache is None or (cache.total is not None and not again):
            kind = "state" if recurrent else "kv_swa" if self.label == "SWA" else "kv_cache"
            cache = Cache(kind, "" if recurrent else self.label, None if recurrent else self.cells)
            context.caches.append(cache)
        size = w.amount(found[2], found[3]) if state else w.amount(found[1], found[2])
        line = self.add(Line(number, text, cache.kind, None, size, total=True), context)
        cache.total = cache.total or line
        if not state and found[3]:
            cache.cells, cache.layers, cache.sequences = int(found[3]), int(found[4]), int(found[5])
            cache.streams = int(found[6]) if found[6] else None
            cache.snapshots = int(found[7]) if found[7] else None
        for part, form, mib in w.CACHE_PART.findall(rest):
            cache.parts[part] = (form, float(mib.replace(",", ".")))

    # The rest

    def projector(self, rest: str, number: int, text: str) -> bool:
        """A projector for images or sound."""
        if self.clip is None or (
            rest.startswith("model name") and any(line.kind == "mmproj" for line in self.clip.lines)
        ):
            self.clip = Load("mmproj")
            self.log.loads.append(self.clip)
        if found := w.CLIP_BACKEND.search(rest):
            self.clip.meta["backend"] = found[1]
        elif found := w.CLIP_SIZE.search(rest):
            kind = "mmproj_compute" if found[1].startswith("compute") else "mmproj"
            line = Line(number, text, kind, self.clip.meta.get("backend"), w.amount(found[2], found[3]))
            self.add(line, self.clip, replaces=True)
        elif found := w.BUFFER.match(rest):
            line = Line(number, text, "mmproj_compute", found[1], w.amount(found[3], found[4]))
            self.add(line, self.clip, replaces=True)
        elif ": " in rest:
            key, _, value = rest.partition(": ")
            self.clip.meta[key] = value.strip()
        return True

    def row(self, rest: str) -> bool:
        """A row of the table printed at the end."""
        found = w.ROW.match(rest)
        if found:
            numbers = [int(digits) for digits in w.DIGITS.findall(found[3])[:7]]
            inner = numbers[2:6] if "(" in found[3] else numbers[:4]
            if len(inner) == 4:
                used, model, context, compute = inner
                row = Breakdown(found[1], found[2] or "", (used, model, context, compute))
                if len(numbers) == 7:
                    row.total, row.free, row.unaccounted = numbers[0], numbers[1], numbers[6]
                self.log.breakdown.append(row)
        return True

    def build(self, name: str, rest: str) -> bool:
        """Number and commit of the build."""
        line = f"build: {rest}" if name == "build" else rest
        found = w.BUILD_NUMBER.search(line) or w.BUILD_INFO.search(line)
        if found:
            self.log.build, self.log.commit = int(found[1]), found[2]
        elif name == "version" and (version := w.VERSION.match(rest)):
            number = version[2] or version[1]
            self.log.build = int(number) if number.isdigit() else None
            self.log.commit = version[3]
            self.log.version = None if version[1].isdigit() else version[1]
        elif tag := w.BUILD_TAG.search(rest):
            self.log.build, self.log.commit = int(tag[1]), tag[2]
        else:
            return False
        return True


def unwrap(raw: str) -> str:
    """The message inside a line of JSON (Docker, `--log-jsonl`); any other line as it is."""
    if not raw.startswith("{"):
        return raw
    import json

    try:
        record = json.loads(raw)
    except (ValueError, RecursionError):
        return raw
    found = [record[key] for key in ("log", "msg") if isinstance(record.get(key), str)]
    return found[0] if found else raw
