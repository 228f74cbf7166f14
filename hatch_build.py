"""What `pip install` and `pip wheel` do beside packing files: the hot path is compiled, where a C compiler is.

MOONGATE_COMPILE=no makes a wheel of sources alone, MOONGATE_COMPILE=yes fails where nothing can be compiled.
"""

from __future__ import annotations

import os
import runpy
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class CustomBuildHook(BuildHookInterface[Any]):
    """Adds the compiled modules to wheels."""

    _directory: tempfile.TemporaryDirectory[str] | None = None

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """See hatchling: `version` is "editable" where sources stay where they are."""
        wanted = os.environ.get("MOONGATE_COMPILE", "auto")
        if version == "editable" or wanted == "no":
            return
        compiled = runpy.run_path(str(Path(self.root, "scripts", "compiled.py")))
        if not compiled["has_compiler"]():
            if wanted == "yes":
                message = "MOONGATE_COMPILE=yes, but there is no C compiler, or no Python.h"
                raise RuntimeError(message)
            self.app.display_warning("No C compiler, or no Python.h: this wheel runs at half the speed.")
            return
        self._directory = tempfile.TemporaryDirectory(prefix="moongate-wheel-")
        made = Path(self._directory.name, "made")
        try:
            compiled["compile_into"](made)
        except subprocess.CalledProcessError as error:
            self.app.display_error(str(error.stdout)[-4000:])
            if wanted == "yes":
                raise
            self.app.display_warning("It could not be compiled: this wheel runs at half the speed.")
            return
        for path in made.rglob("*.so"):
            build_data["force_include"][str(path)] = str(path.relative_to(made))
        build_data["pure_python"] = False
        build_data["infer_tag"] = True

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:  # noqa: ARG002
        """The wheel is packed."""
        if self._directory is not None:
            self._directory.cleanup()
