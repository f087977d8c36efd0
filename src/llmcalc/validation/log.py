"""Read start-up logs of llama.cpp, ik_llama.cpp and Ollama."""

from __future__ import annotations

import os
from pathlib import Path

from llmcalc.errors import InputError
from llmcalc.units import MIB
from llmcalc.validation.loads import Breakdown, Device, Load, Log
from llmcalc.validation.reader import LINE_MOST, Reader
from llmcalc.validation.records import Cache, Context, Line, is_host
from llmcalc.validation.wording import OTHERS

__all__ = [
    "Breakdown", "Cache", "Context", "Device", "Line", "Load", "Log", "is_host", "read_log", "read_log_file",
]  # fmt: skip

MOST = 64 * MIB
"""The longest log. [B]"""

SAVE = "Save what the program prints: llama-server ... 2> server.log."
VERBOSE = "Recent llama.cpp prints its buffers only with -lv 4; Ollama writes them into its server log."
SHORTEN = "Keep the part from the start to the first request."


def read_log(text: str, name: str = "The log") -> Log:
    """Read the start-up log of llama.cpp, ik_llama.cpp or Ollama.

    Parameters
    ----------
    text : str
        The log. Time stamps and other prefixes, colours and mixed line ends do no harm.
    name : str
        What errors call it.

    Returns
    -------
    Log
        What it says; `Log.missing` names what a complete start-up log would add.

    Raises
    ------
    InputError
        If it is empty, binary or too long, of another program, or without any size.

    Examples
    --------
    >>> log = read_log("load_tensors:      CUDA0 model buffer size =  4403.49 MiB")
    >>> log.main.mib("weights", device="CUDA0")
    4403.49
    >>> log.missing[0]
    "the model's hyperparameters"
    """
    if len(text) > MOST:
        raise InputError(f"{name} is longer than 64 MiB.", SHORTEN)
    if not text.strip():
        raise InputError(f"{name} is empty.", SAVE)
    if "\0" in text[:LINE_MOST]:
        raise InputError(f"{name} is not text.", SAVE)
    reader = Reader()
    for number, line in enumerate(text.split("\n"), 1):
        if line and not line.isspace():
            reader.feed(number, line)
    log = reader.log
    if log.main is None and not any(load.lines for load in log.loads) and not log.breakdown:
        if reader.known:
            raise InputError(f"{name} holds no size of weights, caches or buffers.", VERBOSE)
        raise InputError(
            f"{name} is {_program(text)}, not a start-up log of llama.cpp, Ollama, vLLM or SGLang.", SAVE
        )
    return log


def _program(text: str) -> str:
    """Which other program a log seems to be of."""
    start = text[:MIB].lower()
    for program, marks in OTHERS:
        if any(mark in start for mark in marks):
            return f"a log of {program}, it seems"
    return "a log of another program"


def read_log_file(path: str | os.PathLike[str]) -> Log:
    """Read the log in a file: UTF-8, or UTF-16 as Windows PowerShell writes it.

    Parameters
    ----------
    path : str or path
        The file.

    Raises
    ------
    InputError
        As `read_log`; also if the file can't be read.
    """
    return read_log(read_text(path), str(Path(path)))


def read_text(path: str | os.PathLike[str]) -> str:
    """The text of a log's file.

    Raises
    ------
    InputError
        If it can't be read, is too long, or is no text.
    """
    file = Path(path)
    try:
        size = file.stat().st_size
        data = b"" if size > MOST else file.read_bytes()
    except OSError as error:
        raise InputError(f"{file} can't be read: {error.strerror}.", "Name a log file.") from error
    if size > MOST:
        raise InputError(f"{file} is longer than 64 MiB.", SHORTEN)
    return decode(data, str(file))


def decode(data: bytes, name: str) -> str:
    """Text of a log's bytes."""
    if data[:4] == b"GGUF":
        raise InputError(f"{name} is a model file, not a log.", SAVE)
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return data.decode("utf-16", "replace")
    start = data[:LINE_MOST]
    if b"\0" in start:
        # Without a mark every second byte of plain text is zero in UTF-16.
        odd, even = start[1::2].count(0), start[::2].count(0)
        if max(odd, even) < len(start) * 0.4 or min(odd, even):
            raise InputError(f"{name} is not text.", SAVE)
        return data.decode("utf-16-le" if odd else "utf-16-be", "replace")
    return data.decode("utf-8-sig", "replace")
