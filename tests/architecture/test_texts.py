"""No file of the project knows the machine that it was written on, or where packages come from."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.architecture.rules import ROOT
from tests.architecture.texts import (
    MACHINE_PATHS,
    REGISTRIES,
    addresses_in_lock,
    forbidden_words,
    ignored_names,
    project_files,
)
from tests.architecture.verdict import expect_none


def read(file: Path) -> str:
    """A file as text; bytes that are none do not matter here."""
    return file.read_text("utf-8", errors="replace")


def test_no_file_names_a_machine_or_a_registry() -> None:
    """Absolute paths of one machine and hosts of package registries are in no file."""
    found = [f"{file.relative_to(ROOT)}:{word}" for file in project_files() for word in forbidden_words(read(file))]

    expect_none(found)


def test_lock_files_hold_versions_and_no_addresses() -> None:
    """Lock files say what and which version, not from where."""
    found = [
        f"{file.relative_to(ROOT)}: {line}"
        for file in project_files()
        for line in addresses_in_lock(file.name, read(file))
    ]

    expect_none(found)


def test_the_reading_of_gitignore_is_sound() -> None:
    """Only plain names stand there, so that matching names is all there is to it."""
    assert [name for name in ignored_names() if "/" in name or name.startswith("!")] == []


def test_project_files_are_those_that_git_would_take(tmp_path: Path) -> None:
    """Ignored files and folders are left out, everything else is read, at any depth."""
    (tmp_path / ".gitignore").write_text("*.pyc\n.venv*/\n", "utf-8")
    for name in ("a.py", "a.pyc", ".venv-x/b.py", ".git/config", "deep/er/c.txt", "deep/d.pyc"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("", "utf-8")

    found = {str(file.relative_to(tmp_path)) for file in project_files(tmp_path)}

    assert found == {".gitignore", "a.py", "deep/er/c.txt"}


@pytest.mark.parametrize("path", MACHINE_PATHS)
def test_machine_paths_are_found(path: str) -> None:
    """An absolute path is found at the start, in quotes and after a sign; a part of a longer path is not one."""
    for text in (f"{path}x", f'open("{path}x")', f"file://{path}x", f"A={path}x"):
        assert len(forbidden_words(text)) == 1, text
    for text in (f"docs{path}x", f"..{path}x", f"$HOME{path}x"):
        assert forbidden_words(text) == [], text


@pytest.mark.parametrize("host", REGISTRIES)
def test_registry_hosts_are_found(host: str) -> None:
    """A registry is found in any address, with the line that it is in."""
    assert forbidden_words(f"x\nsee {host}/simple") == [f"2 {host}"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("package-lock.json", '      "resolved": "x",'),
        ("package-lock.json", '      "version": "git+ssh://example.com/x",'),
        ("constraints.txt", "x @ file:x.whl"),
        ("constraints-sdk1.txt", "--index-url https://example.com"),
    ],
)
def test_addresses_in_lock_files_are_found(name: str, text: str) -> None:
    """Each way of saying where a package comes from is found in lock files, and only looked for there."""
    assert addresses_in_lock(name, f"a\n{text}\n") == [text.strip()]
    assert addresses_in_lock("notes.md", text) == []
