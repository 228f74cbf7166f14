"""Where things are when the command line does not say."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

DEFAULT_FILES = ("moongate.yaml", "moongate.yml", "moongate.json")


def default_data_dir(environ: Mapping[str, str]) -> Path:
    """MOONGATE_DATA_DIR, else the user's data directory (XDG base directories)."""
    if named := environ.get("MOONGATE_DATA_DIR"):
        return Path(named)
    base = environ.get("XDG_DATA_HOME")
    return (Path(base) if base else Path.home() / ".local" / "share") / "moongate"


def default_files() -> tuple[Path, ...]:
    """The configuration of the working directory, if there is one."""
    return tuple(Path(name) for name in DEFAULT_FILES if Path(name).exists())[:1]
