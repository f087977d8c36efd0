"""llama.cpp asked for its memory: a library that loads headers without weights and prints what it would take.

``.ci/oracle`` fetches the library. It runs in a process of its own, since a check that fails inside it ends
the process: ``ask`` starts one.
"""

import ctypes
import json
import os
import platform
import re
import subprocess
import sys
from ctypes import c_bool, c_float, c_int32, c_size_t, c_uint32, c_void_p
from pathlib import Path

LIBRARY = "libllama.v0.5.0.so"
"""The layouts below are of this release."""

ROOT = Path(__file__).resolve().parent.parent.parent
UNPACKED = ROOT / ".oracle" / "package" / "bins" / "linux-x64"
VARIABLE = "LLAMA_CPP_LIBRARIES"
"""Names the folder of the libraries. Where it is set, they have to be there."""

CACHE_TYPES = {"f32": 0, "f16": 1, "q4_0": 2, "q5_1": 7, "q8_0": 8, "bf16": 30}
DEBUG = 1
LOG = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, c_void_p)

SIZES = {
    "kv_cache": re.compile(r"llama_kv_cache: size = +([\d.]+) MiB"),
    "state": re.compile(r"llama_memory_recurrent: size = +([\d.]+) MiB"),
    "logits": re.compile(r" output buffer size = +([\d.]+) MiB"),
    "activations": re.compile(r" compute buffer size = +([\d.]+) MiB"),
}
"""Lines of the log with a size, by what it is of; windows have a cache of their own."""

UNUSED = re.compile(r"unused tensor \S+ \(size = (\d+) bytes\) -- ignoring")


class ModelParameters(ctypes.Structure):
    _fields_ = [
        *((name, c_void_p) for name in ("devices", "tensor_buft_overrides")),
        *((name, c_int32) for name in ("n_gpu_layers", "split_mode", "load_mode", "lazy_mode", "main_gpu")),
        *((name, c_void_p) for name in ("tensor_split", "progress_callback", "progress_user_data")),
        ("kv_overrides", c_void_p),
        *((name, c_bool) for name in ("vocab_only", "check_tensors", "use_extra_bufts", "no_host")),
        *((name, c_bool) for name in ("no_alloc", "load_mtp")),
    ]


class ContextParameters(ctypes.Structure):
    _fields_ = [
        *((name, c_uint32) for name in ("n_ctx", "n_batch", "n_ubatch", "n_seq_max", "n_rs_seq")),
        *((name, c_uint32) for name in ("n_outputs_max", "n_outputs_max_per_seq")),
        *((name, c_int32) for name in ("n_threads", "n_threads_batch", "ctx_type", "rope_scaling_type")),
        *((name, c_int32) for name in ("pooling_type", "attention_type", "flash_attn_type")),
        *((name, c_float) for name in ("rope_freq_base", "rope_freq_scale", "yarn_ext_factor")),
        *((name, c_float) for name in ("yarn_attn_factor", "yarn_beta_fast", "yarn_beta_slow")),
        ("yarn_orig_ctx", c_uint32),
        ("defrag_thold", c_float),
        *((name, c_void_p) for name in ("cb_eval", "cb_eval_user_data")),
        *((name, c_int32) for name in ("type_k", "type_v")),
        *((name, c_void_p) for name in ("abort_callback", "abort_callback_data")),
        *((name, c_bool) for name in ("embeddings", "offload_kqv", "no_perf", "op_offload", "swa_full")),
        ("kv_unified", c_bool),
        ("samplers", c_void_p),
        ("n_samplers", c_size_t),
        ("ctx_other", c_void_p),
    ]


def libraries():
    """The folder of the libraries, or why they can't be had.

    Returns
    -------
    folder : Path or None
        Where they lie.
    reason : str
        Why not.
    """
    stated = os.environ.get(VARIABLE)
    folder = Path(stated) if stated else UNPACKED
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return None, "llama.cpp's library is one for Linux on x86-64"
    if not (folder / LIBRARY).is_file():
        return None, f"{VARIABLE if stated else '.oracle/'} has no {LIBRARY}: .ci/oracle fetches it"
    return folder, ""


def ask(folder, file, settings):
    """What llama.cpp prints for a file at each of several settings.

    Parameters
    ----------
    folder : Path
        Where the libraries lie.
    file : Path
        A GGUF file.
    settings : list of dict
        Fields of its context's parameters that differ from the defaults; formats of the cache by name.

    Returns
    -------
    list of dict
        For each setting the sizes that it prints, by the words of `SIZES` [MiB], and the ``weights`` that
        it uses [B].
    """
    done = subprocess.run(
        [sys.executable, __file__, str(folder), str(file)],
        input=json.dumps(settings), capture_output=True, text=True, check=False, timeout=300,
        env={**os.environ, "GGML_NO_BACKTRACE": "1"},
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"llama.cpp ended with {done.returncode}: {done.stderr[-2000:]}")
    return json.loads(done.stdout)


class Library:
    """llama.cpp in this process."""

    def __init__(self, folder):
        self.log, self.unused = [], 0
        base, ggml, self.llama = (
            ctypes.CDLL(str(next(folder.glob(pattern))), mode=ctypes.RTLD_GLOBAL)
            for pattern in ("libggml-base.so", "libggml.v*.so", LIBRARY)
        )
        self.held = (base, LOG(self._told))  # a callback must outlive its last call
        self._declare()
        self.llama.llama_log_set(self.held[1], None)
        ggml.ggml_backend_load_all_from_path(str(folder).encode())
        self.llama.llama_backend_init()

    def _declare(self):
        llama = self.llama
        llama.llama_model_default_params.restype = ModelParameters
        llama.llama_context_default_params.restype = ContextParameters
        llama.llama_model_load_from_file.argtypes = [ctypes.c_char_p, ModelParameters]
        llama.llama_init_from_model.argtypes = [c_void_p, ContextParameters]
        llama.llama_model_load_from_file.restype = llama.llama_init_from_model.restype = c_void_p
        llama.llama_model_size.argtypes = llama.llama_free.argtypes = [c_void_p]
        llama.llama_model_size.restype = ctypes.c_uint64
        context, model = llama.llama_context_default_params(), llama.llama_model_default_params()
        known = (context.n_ctx, context.n_ubatch, context.type_k, context.type_v, context.flash_attn_type)
        if known != (512, 512, 1, 1, -1) or not context.offload_kqv or not model.use_extra_bufts:
            raise RuntimeError(f"This {LIBRARY} has other structures than that of its release.")

    def _told(self, level, words, _):
        if level != DEBUG:
            self.log.append((words or b"").decode(errors="replace"))

    def load(self, file):
        """A model without its weights."""
        wanted = self.llama.llama_model_default_params()
        wanted.no_alloc, wanted.use_extra_bufts, wanted.load_mode = True, False, 0
        model = self._checked(self.llama.llama_model_load_from_file(str(file).encode(), wanted))
        self.unused = sum(map(int, UNUSED.findall("".join(self.log))))
        return model

    def sizes(self, model, setting):
        """What it prints for a context."""
        wanted = self.llama.llama_context_default_params()
        for name, value in setting.items():
            setattr(wanted, name, CACHE_TYPES.get(value, value))
        self.log.clear()
        context = self._checked(self.llama.llama_init_from_model(model, wanted))
        printed = "".join(self.log)
        self.llama.llama_free(context)
        found = {name: [float(size) for size in line.findall(printed)] for name, line in SIZES.items()}
        return found | {"weights": self.llama.llama_model_size(model) - self.unused}

    def _checked(self, made):
        if not made:
            raise RuntimeError("".join(self.log)[-2000:])
        return made


if __name__ == "__main__":
    library = Library(Path(sys.argv[1]))
    loaded = library.load(sys.argv[2])
    print(json.dumps([library.sizes(loaded, setting) for setting in json.load(sys.stdin)]))
