"""The call that made a report, as a shell or Python would repeat it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llmcalc.formula import is_array

LISTED = (
    "catalog", "gpu", "lora", "quant", "engine", "with_models", "lora_targets", "trainable", "freeze",
    "modules_to_save", "offload",
)  # fmt: skip
"""Keywords that may be lists, which a shell writes with commas or several times."""


COMMANDS = {"layouts": ("train", "--layouts")}
"""Functions that are an option of another one's command."""


class Call:
    """The call that made a report, to be repeated from a shell or from Python.

    Parameters
    ----------
    function : str
        Name of the public function, which is the command's too.
    asked : mapping
        All its keywords, as given; None and False mean not given.
    """

    __slots__ = ("asked", "function")

    def __init__(self, function: str, asked: Mapping[str, Any]) -> None:
        self.function = function
        self.asked = {key: value for key, value in asked.items() if value is not None and value is not False}

    def python(self) -> str:
        """The call of the Python API."""
        words = [
            self._first(value) if key in ("model", "models") else f"{key}={self._shown(value)}"
            for key, value in self.asked.items()
        ]
        return f"llmcalc.{self.function}({', '.join(words)})"

    def shell(self) -> str:
        """The command line; for inputs that a shell can't name, see `shown`."""
        import shlex

        command, *last = COMMANDS.get(self.function, (self.function,))
        words = ["llmcalc", command]
        for key, value in self.asked.items():
            option = "--with" if key == "with_models" else f"--{key.replace('_', '-')}"
            if value is True:
                words += [option, "on"] if key in ("mmproj", "repack") else [option]
                continue
            if key == "models":
                words += [shlex.quote(self._plain(one)) for one in value]
                continue
            several = key in LISTED and isinstance(value, (list, tuple))
            many = value if several else [value]
            for one in many if key == "catalog" else [",".join(map(self._plain, many))]:
                words += (
                    [shlex.quote(self._plain(one))] if key == "model" else [option, shlex.quote(str(one))]
                )
        return " ".join([*words, *last])

    def shown(self) -> str:
        """The command line where there is one, else the call of the Python API."""
        for key, value in self.asked.items():
            named = key in (*LISTED, "models") and isinstance(value, (list, tuple))
            if isinstance(value, dict) or (is_array(value) and not named):
                return self.python()
        return self.shell()

    def _first(self, value: Any) -> str:
        """The model of a call: text stays text, whatever it looks like."""
        if isinstance(value, str):
            return repr(value)
        if isinstance(value, (list, tuple)):
            return f"[{', '.join(map(self._first, value))}]"
        return self._shown(value)

    @staticmethod
    def _plain(value: Any) -> str:
        return str(getattr(value, "name", value))

    @staticmethod
    def _shown(value: Any) -> str:
        if isinstance(value, str) and value.isascii() and value.isdigit():
            return value.lstrip("0") or "0"
        if isinstance(value, (str, bool, int, float, dict)):
            return repr(value)
        if is_array(value):
            values = list(value.tolist()) if hasattr(value, "tolist") else list(value)
            return repr(values) if len(values) <= 64 else repr(values[:3])[:-1] + ", ...]"
        return repr(getattr(value, "name", value))
