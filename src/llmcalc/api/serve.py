"""`llmcalc.serve_command`: the command that starts a server by a plan."""

from __future__ import annotations

from typing import Any

from llmcalc.errors import InputError
from llmcalc.report import Report, Reports


class Command(str):
    """A command line, quoted for a shell, with what to do besides.

    Attributes
    ----------
    words : list of str
        The same unquoted, as `subprocess.run` takes it.
    notes : list of str
        Such as which file a word stands for.
    """

    words: list[str]
    notes: list[str]


def serve_command(report: Report | Reports | Any) -> Command:
    """The start command that matches an estimate.

    Parameters
    ----------
    report : Report
        What `llmcalc.vram` or `llmcalc.fit` returned for an engine that serves.

    Returns
    -------
    Command
        One line for a shell; its ``words`` and ``notes``.

    Raises
    ------
    InputError
        For several GPUs at once, no engine, arrays, or a bare count.

    Examples
    --------
    >>> from llmcalc import vram
    >>> plan = vram("llama-3.1-8b", engine="vllm", gpu="2xl4", context=16_384, kv_dtype="fp8")
    >>> print(serve_command(plan).replace(" --", "\\n  --"))
    vllm serve meta-llama/Llama-3.1-8B
      --tensor-parallel-size 2
      --max-model-len 16384
      --max-num-seqs 256
      --gpu-memory-utilization 0.92
      --kv-cache-dtype fp8
    """
    import shlex

    from llmcalc.answer.serving import serve_words

    if not isinstance(report, Report) or report.plan is None:
        raise InputError(
            "--serve-command is for one model on one kind of GPU.", "Name one: --gpu h100 or --gpu 2xl4."
        )
    inventory, scenario = report.plan
    words, notes = serve_words(inventory, scenario, report)
    made = Command(shlex.join(words))
    made.words, made.notes = words, notes
    return made
