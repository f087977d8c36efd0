import os

import pytest


@pytest.fixture(autouse=True)
def no_user_catalogs(tmp_path_factory, monkeypatch):
    """Catalogs of whoever runs the tests do not count."""
    monkeypatch.setenv("XDG_CONFIG_HOME", os.fspath(tmp_path_factory.getbasetemp() / "no-config"))
    monkeypatch.setenv("COLUMNS", "80")
