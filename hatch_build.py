"""Compile the YAML catalogs into the wheel."""

from __future__ import annotations

import os
import sys
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class CustomBuildHook(BuildHookInterface):
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        source = os.path.join(self.root, "src")
        sys.path.insert(0, source)
        try:
            from llmcalc import catalog_build

            catalog_build.compile_all()
        finally:
            sys.path.remove(source)
