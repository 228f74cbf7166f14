"""Programs and folders of hosted servers that are not there: warnings with the line where they were written."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from moongate.control.compile import compile_documents
from moongate.control.files import load_texts
from moongate.control.programs import judge_programs


def executable(file: Path) -> None:
    """Make a program that could be started."""
    file.write_text("#!/bin/sh\n", "utf-8")
    file.chmod(0o755)


def warnings(folder: Path, text: str, environ: Mapping[str, str] | None = None) -> list[str]:
    """What is said about a file in `folder`, without the folder's name."""
    environ = {"PATH": str(folder / "bin"), **(environ or {})}
    documents = load_texts([(str(folder / "gate.yaml"), text)], environ)
    judged = judge_programs(compile_documents(documents), documents, environ)
    return [warning.replace(f"{folder}/", "") for warning in judged.warnings]


@pytest.fixture(name="folder")
def a_folder(tmp_path: Path) -> Path:
    """`bin/there` and `own/only` are programs, `plain` is a file, `empty` a folder."""
    for name in ("bin", "own", "empty"):
        (tmp_path / name).mkdir()
    executable(tmp_path / "bin" / "there")
    executable(tmp_path / "own" / "only")
    (tmp_path / "plain").write_text("x", "utf-8")
    return tmp_path


@pytest.mark.requirement("AG-16")
def test_what_cannot_be_started_is_told_with_its_line(folder: Path) -> None:
    """One warning for each, at the line of the command; a program that is there is not mentioned."""
    text = """
mcpServers:
  fine: {command: there}
  path: {command: ./bin/there}
  below: {command: ./there, cwd: bin}
  missing:
    args: [x]
    command: gone
  missing-path: {command: bin/gone}
  plain: {command: ./plain}
  folder: {command: ./empty}
  arguments: {command: "there --token hush"}
  no-folder: {command: there, cwd: nowhere}
  file-folder: {command: there, cwd: plain}
  off: {command: gone, disabled: true}
"""

    assert warnings(folder, text) == [
        "gate.yaml:8: missing: the program 'gone' is not found on the PATH; install it, or write its whole path",
        "gate.yaml:9: missing-path: the program 'bin/gone' does not exist",
        (
            "gate.yaml:10: plain: the program 'plain' cannot be executed; make it executable, or write its "
            "interpreter here and the file into args"
        ),
        "gate.yaml:11: folder: the program 'empty' is a folder",
        (
            "gate.yaml:12: arguments: there is no program of this name with spaces; write 'there' and put the rest "
            "into args"
        ),
        "gate.yaml:13: no-folder: the folder 'nowhere' does not exist; the server cannot run in it",
        "gate.yaml:14: file-folder: the folder 'plain' is not a folder; the server cannot run in it",
    ]


def test_the_path_is_the_one_that_the_server_will_have(folder: Path) -> None:
    """From its `env`, or else the gateway's; without either the system's."""
    own = f"env: {{PATH: {folder / 'own'}}}"
    text = f"""
mcpServers:
  own: {{command: only, {own}}}
  own-alone: {{command: only, {own}, clearEnv: true}}
  inherited: {{command: only}}
  other: {{command: there, {own}}}
  cleared: {{command: there, clearEnv: true}}
"""

    assert [warning.split(" ")[1] for warning in warnings(folder, text)] == ["inherited:", "other:"]
    assert warnings(folder, "mcpServers: {system: {command: sh}, own: {command: there}}", {"PATH": ""}) == [
        "gate.yaml:1: own: the program 'there' is not found on the PATH; install it, or write its whole path"
    ]


def test_a_relative_path_variable_is_looked_at_from_the_folder_of_the_server(folder: Path) -> None:
    """As the system does it."""
    text = f"mcpServers: {{a: {{command: only, cwd: {folder}, env: {{PATH: own}}}}, b: {{command: only}}}}"

    assert [warning.split(" ")[1] for warning in warnings(folder, text)] == ["b:"]


def test_targets_of_binds_are_looked_at_too(folder: Path) -> None:
    """Once, even where the route stands in several listeners."""
    text = """
binds:
- port: 3101
  listeners:
  - routes:
    - name: r
      hostnames: [a.example.com, b.example.com]
      backends:
      - mcp:
          targets:
          - name: t
            stdio:
              cmd: gone
"""

    assert warnings(folder, text) == [
        "gate.yaml:13: t: the program 'gone' is not found on the PATH; install it, or write its whole path"
    ]


def test_what_came_from_the_environment_is_named_and_not_shown(folder: Path) -> None:
    """A program's name and a folder's too."""
    environ = {"PROGRAM": "hush-program", "FOLDER": "hush-folder"}

    said = warnings(
        folder, 'mcpServers: {a: {command: "${PROGRAM}"}, b: {command: there, cwd: "${FOLDER}"}}', environ=environ
    )

    assert said == [
        (
            "gate.yaml:1: a: the program '(value of ${PROGRAM})' is not found on the PATH; install it, or write its "
            "whole path"
        ),
        "gate.yaml:1: b: the folder '(value of ${FOLDER})' does not exist; the server cannot run in it",
    ]
