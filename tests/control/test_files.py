"""Files: what can be wrong with them, and that all of it is said at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from moongate.control.compile import compile_documents
from moongate.control.files import load
from moongate.control.nodes import plain
from moongate.control.reading import MAX_BYTES
from moongate.errors import ConfigError

GOOD = "mcpServers:\n  time: {url: 'http://127.0.0.1:9000/mcp', type: sse}\n"


def complaints(*paths: Path) -> list[str]:
    """What is said about these files, without the folder's name."""
    with pytest.raises(ConfigError) as caught:
        compile_documents(load(paths, {}))
    return [str(complaint).replace(f"{paths[0].parent}/", "") for complaint in caught.value.complaints]


@pytest.mark.requirement("AG-02")
def test_files_that_cannot_be_read_do_not_hide_the_others(tmp_path: Path) -> None:
    """A missing file, a folder, a wrong encoding and a wrong key are told in one go."""
    (tmp_path / "latin.yaml").write_bytes(b"a: 1\nb: \xe4\n")
    (tmp_path / "wrong.yaml").write_text("mcpServer: {}\n", "utf-8")
    (tmp_path / "folder").mkdir()

    said = complaints(*(tmp_path / name for name in ("missing.yaml", "folder", "latin.yaml", "wrong.yaml")))

    assert said[:3] == [
        "missing.yaml: cannot be read: No such file or directory",
        "folder: cannot be read: Is a directory",
        "latin.yaml: cannot be read: line 2 is not UTF-8 text",
    ]
    assert said[3].startswith("wrong.yaml:1: unknown key 'mcpServer'; did you mean 'mcpServers'?")
    assert len(said) == 4


def test_a_file_that_is_too_large_is_refused(tmp_path: Path) -> None:
    """Before it is parsed."""
    with (tmp_path / "large.yaml").open("wb") as file:
        file.truncate(MAX_BYTES + 1)

    assert complaints(tmp_path / "large.yaml") == [f"large.yaml: cannot be read: it is larger than {MAX_BYTES} bytes"]


@pytest.mark.requirement("PM-06")
@pytest.mark.parametrize("name", ["a.yaml", "a.yml", "a.json", "a.conf", "a"])
def test_json_is_known_by_its_content(tmp_path: Path, name: str) -> None:
    """A byte order mark, tabs and Windows line ends are no obstacle, whatever the file is called."""
    file = tmp_path / name
    text = '{\n\t"mcpServers": {\n\t\t"time": {"url": "http://127.0.0.1:9000/mcp"}\n\t}\n}\n'
    file.write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())

    snapshot = compile_documents(load([file], {}))

    assert snapshot.binds[0].listeners[0].routes[0].where == f"{file}:3"


def test_braces_in_a_yaml_file_may_be_yaml(tmp_path: Path) -> None:
    """Flow style with comments is read where the name says YAML, and only there."""
    text = "{gateway: {prefix: /tools}} # no quotes\n"
    (tmp_path / "a.yaml").write_text(text, "utf-8")
    (tmp_path / "a.json").write_text(text, "utf-8")

    assert plain(load([tmp_path / "a.yaml"], {}).root) == {"gateway": {"prefix": "/tools"}}
    assert complaints(tmp_path / "a.json")[0].startswith("a.json:1: not valid JSON: a key in double quotes")


def test_the_secrets_do_not_appear_when_a_snapshot_is_printed(tmp_path: Path) -> None:
    """A snapshot that ends up in a log by accident must not bring its secrets along."""
    (tmp_path / "a.yaml").write_text(GOOD + "gateway: {tokens: [{name: alice, token: '${T}'}]}\n", "utf-8")

    snapshot = compile_documents(load([tmp_path / "a.yaml"], {"T": "alice-token"}))

    assert snapshot.secrets == {"alice-token"}
    assert "alice-token" not in repr(snapshot)
