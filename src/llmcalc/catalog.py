"""Look things up by name or alias, one entry at a time.

People edit YAML in ``data/``. A build step compiles each file into one text file that holds an
index of folded names and one Python literal per entry; a lookup searches the index and parses that
single entry. A source checkout recompiles whatever YAML is newer than its compiled file.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any

from llmcalc.errors import CatalogError, UnknownNameError, did_you_mean

KINDS = (
    "gpus",
    "models",
    "formats",
    "schemes",
    "sources",
    "class_defaults",
    "config_keys",
    "measurements",
    "runs",
    "optimizers",
    "laws",
)
_HERE = os.path.dirname(os.path.abspath(__file__))
COMPILED = os.path.join(_HERE, "_compiled")
DATA = os.path.join(os.path.dirname(os.path.dirname(_HERE)), "data")
_DROPPED = str.maketrans("", "", " ._-()")
MAGIC = "llmcalc-catalog 1"


def fold(name: str) -> str:
    """Fold a name for lookup: case, spaces, dots, dashes, underscores and parentheses do not matter.

    Examples
    --------
    >>> fold("Meta-Llama/Llama-3.1_8B")
    'metallama/llama318b'
    """
    return name.lower().translate(_DROPPED)


def compiled_path(name: str) -> str:
    """The compiled file of a catalog or derived table, brought up to date in a source checkout."""
    path = os.path.join(COMPILED, f"{name}.cat")
    newer = max((os.stat(source).st_mtime for source in sources_of(name)), default=0.0)
    try:
        current = os.stat(path).st_mtime >= newer
    except OSError:
        current = False
    if current:
        return path
    if not newer:
        raise CatalogError(
            f"The installed package lacks its {name} catalog ({path}).", "Install llmcalc-planner again."
        )
    from llmcalc import catalog_build

    return catalog_build.compile_file(_SOURCE_OF.get(name, name), name)


def sources_of(name: str) -> list[str]:
    """The YAML files behind a catalog: one, or all of a folder; none in an installed package."""
    path = os.path.join(DATA, _SOURCE_OF.get(name, name))
    if os.path.isdir(path):
        return sorted(os.path.join(path, file) for file in os.listdir(path) if file.endswith(".yaml"))
    return [f"{path}.yaml"] if os.path.isfile(f"{path}.yaml") else []


_SOURCE_OF = {"model_spans": "models", "gpu_sizes": "gpus", "law_answers": "laws"}
"""Derived tables and the YAML they are made from."""


class _File:
    """One compiled catalog, read in one go (so that a recompilation can't change it underway)."""

    __slots__ = ("data", "date", "index", "path")

    def __init__(self, kind: str) -> None:
        self.path = compiled_path(kind)
        with open(self.path, "rb") as stream:
            magic, _, self.date, length = stream.readline().decode().rstrip("\n").split("|")
            if magic != MAGIC:
                raise CatalogError(
                    f"{self.path} was compiled by another version.", "Install llmcalc-planner again."
                )
            self.index = stream.read(int(length))
            self.data = stream.read()

    def find(self, key: str) -> str | None:
        """The text behind a folded key: ``offset length`` of an entry, or ``?`` and names if ambiguous."""
        mark = b"\n" + key.encode("utf-8", "replace") + b"\t"
        at = self.index.find(mark)
        if at < 0:
            return None
        start = at + len(mark)
        return self.index[start : self.index.index(b"\n", start)].decode()

    def entry(self, place: str) -> dict[str, Any]:
        """Read one entry from its place."""
        from ast import literal_eval  # click has imported ast by now; json would cost 2 ms

        offset, length = map(int, place.split())
        value: dict[str, Any] = literal_eval(self.data[offset : offset + length].decode())
        return value

    def keys(self) -> list[str]:
        """All folded keys."""
        return [line.partition("\t")[0] for line in self.index.decode().split("\n") if line]

    def places(self) -> list[str]:
        """The places of all entries, in the order of the file, each once."""
        lines = (line.partition("\t")[2] for line in self.index.decode().split("\n") if line)
        unique = {place for place in lines if not place.startswith("?")}
        return sorted(unique, key=lambda place: int(place.split()[0]))


class Catalog:
    """The shipped catalogs, overlaid with a user's own files.

    Parameters
    ----------
    files : sequence of str
        YAML files of the user's own, besides those in `user_directory`. Later ones win.

    Examples
    --------
    >>> Catalog().lookup("gpus", "RTX-4090")["memory_mib_driver"]
    24564
    """

    def __init__(self, files: Sequence[str] = ()) -> None:
        self._files: dict[str, _File] = {}
        self._own: dict[str, dict[str, dict[str, Any]]] = {}
        self._origin: dict[int, str] = {}
        for path in [*_user_files(), *files]:
            self._add(path)

    @classmethod
    def shipped(cls) -> Catalog:
        """The shipped catalogs alone."""
        catalog = cls.__new__(cls)
        catalog._files, catalog._own, catalog._origin = {}, {}, {}
        return catalog

    def _add(self, path: str) -> None:
        from llmcalc import catalog_build

        for kind, entries in catalog_build.read_user_file(path).items():
            own = self._own.setdefault(kind, {})
            for entry in entries:
                self._origin[id(entry)] = path
                for name in catalog_build.names_of(kind, entry):
                    own[fold(name)] = entry

    def origin(self, entry: dict[str, Any]) -> str:
        """The user's file that an entry stands in; empty for shipped ones."""
        return self._origin.get(id(entry), "")

    def _file(self, kind: str) -> _File:
        if kind not in self._files:
            self._files[kind] = _File(kind)
        return self._files[kind]

    def date(self, kind: str) -> str:
        """The date of a catalog."""
        return self._file(kind).date

    def lookup(self, kind: str, name: str) -> dict[str, Any] | None:
        """Return the entry of a name or alias; None if there is none.

        Raises
        ------
        UnknownNameError
            If the word fits several entries.
        """
        exact, key = name.strip().lower(), fold(name)
        own = self._own.get(kind)
        if own and key in own:
            return own[key]
        if not key or "\n" in exact or "\t" in exact:
            return None
        file = self._file(kind)
        place = file.find(exact)
        if place is None and key != exact:
            place = file.find(key)
        if place is None:
            return None
        if place.startswith("?"):
            choices = place[1:].split("|")
            raise UnknownNameError(
                f"{name!r} fits several entries: {', '.join(choices)}.",
                f"Name one, for example {choices[0]!r}.",
            )
        return file.entry(place)

    def require(self, kind: str, name: str, what: str, command: str) -> dict[str, Any]:
        """Return the entry of a name, or refuse with the nearest names.

        Parameters
        ----------
        kind, name : str
            Catalog and name.
        what : str
            What the name stands for, in a sentence ("GPU").
        command : str
            The command that lists all, for the remedy.
        """
        entry = self.lookup(kind, name)
        if entry is not None:
            return entry
        near = self.nearest(kind, name)
        hint = f"Did you mean {' or '.join(near)}? " if near else ""
        raise UnknownNameError(f"There is no {what} {name[:80]!r} in the catalog.", f"{hint}{command}")

    def nearest(self, kind: str, name: str) -> list[str]:
        """Canonical names that begin as a cut one does, else those nearest to a misspelt one."""
        keys = [*self._own.get(kind, {}), *self._file(kind).keys()]
        start = fold(name)[:80]
        longer = sorted((key for key in keys if start and key.startswith(start)), key=len)
        found: dict[str, None] = {}
        for key in longer[:6] or did_you_mean(name.strip()[:80], keys, 6):
            own = self._own.get(kind, {}).get(key)
            place = self._file(kind).find(key)
            if own is None and place is not None and place.startswith("?"):
                for choice in place[1:].split("|"):
                    found[choice] = None
            else:
                entry = own if own is not None else self._file(kind).entry(place or "")
                found[str(entry["name"])] = None
        return list(found)[:3]

    def own(self, kind: str) -> list[dict[str, Any]]:
        """The user's own entries."""
        own: list[dict[str, Any]] = []
        for entry in self._own.get(kind, {}).values():
            if entry not in own:
                own.append(entry)
        return own

    def entries(self, kind: str) -> list[dict[str, Any]]:
        """All entries, the user's own first."""
        own = self.own(kind)
        file = self._file(kind)
        taken = {fold(str(entry["name"])) for entry in own}
        shipped = (file.entry(place) for place in file.places())
        return own + [entry for entry in shipped if fold(str(entry["name"])) not in taken]

    def table(self, name: str) -> list[list[str]]:
        """A small derived table: its rows, split at tabs."""
        with open(compiled_path(name), encoding="utf-8") as stream:
            next(stream)
            return [line.rstrip("\n").split("\t") for line in stream]


def user_directory() -> str:
    """Where a user's own catalogs lie: ``~/.config/llmcalc`` (or ``XDG_CONFIG_HOME``, ``APPDATA``)."""
    base = os.environ.get("XDG_CONFIG_HOME")
    if not base and os.name == "nt":
        base = os.environ.get("APPDATA")
    return os.path.join(base or os.path.join(os.path.expanduser("~"), ".config"), "llmcalc")


def _user_files() -> Iterable[str]:
    directory = user_directory()
    try:
        names = sorted(os.listdir(directory))
    except OSError:
        return []
    return [os.path.join(directory, name) for name in names if name.endswith((".yaml", ".yml"))]
