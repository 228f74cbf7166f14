"""What is to be served, read again and again."""

from __future__ import annotations

from pathlib import Path

import pytest

from moongate.control.compile import CompileOptions
from moongate.control.line import Line
from moongate.control.source import Source
from moongate.errors import ConfigError


def test_files_are_read_anew_each_time(tmp_path: Path) -> None:
    """With warnings about programs that are not there; a file that has become wrong is refused."""
    file = tmp_path / "gate.yaml"
    source = Source((file,), CompileOptions(), {"PATH": str(tmp_path)})

    file.write_text("mcpServers: {time: {command: clock}}", "utf-8")
    assert [warning.split(": ")[1] for warning in source.read().warnings] == ["time"]

    (tmp_path / "clock").write_text("#!/bin/sh\n", "utf-8")
    (tmp_path / "clock").chmod(0o755)
    assert source.read().warnings == ()

    file.write_text("mcpServers: {time: {comand: clock}}", "utf-8")
    with pytest.raises(ConfigError, match="did you mean 'command'"):
        source.read()


def test_a_line_needs_no_files() -> None:
    """It gives the same each time."""
    source = Source((), CompileOptions(), {"TOKEN": "hush"}, Line(url="http://127.0.0.1:9/", headers=("X: ${TOKEN}",)))

    assert source.read() == source.read()
    assert [route.name for route in source.read().binds[0].listeners[0].routes] == ["server"]
