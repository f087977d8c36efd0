import gc
import os

import pytest

collect_ignore = ["fuzz"]  # a campaign of its own, with a library the tests do not need
collect_ignore_glob = ["oracles/*.py"]  # scripts that need PyTorch; tests that ask them skip without it


@pytest.fixture(autouse=True)
def collected():
    """Importing the command line turns the garbage collector off, which a suite can't afford."""
    gc.enable()


@pytest.fixture(autouse=True)
def no_user_catalogs(tmp_path_factory, monkeypatch):
    """Catalogs of whoever runs the tests do not count."""
    monkeypatch.setenv("XDG_CONFIG_HOME", os.fspath(tmp_path_factory.getbasetemp() / "no-config"))
    monkeypatch.setenv("COLUMNS", "80")
