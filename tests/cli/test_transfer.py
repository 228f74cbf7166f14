"""Import and export: what goes in comes out, without secrets."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from moongate.control.compile import compile_documents
from moongate.control.files import load_texts
from tests.cli.calling import Line
from tests.control.test_imports import BINDS, CODEX

FILE = {
    "mcpServers": {
        "search": {"url": "https://a.example/mcp", "type": "http", "headers": {"X-Key": "${SEARCH_KEY}"}},
        "files": {"command": "npx", "args": ["-y", "server"], "env": {"TOKEN": "hush-hush-2"}, "alwaysAllow": ["x"]},
    }
}


@pytest.fixture
def moongate(tmp_path: Path) -> Line:
    """The command line on an empty store."""
    return Line(tmp_path / "data")


@pytest.fixture
def file(tmp_path: Path) -> str:
    """A client's file."""
    path = tmp_path / "mcp.json"
    path.write_text(json.dumps(FILE, indent=1), "utf-8")
    return str(path)


def test_a_dry_run_says_what_would_come_and_what_not(moongate: Line, file: str) -> None:
    """With the variables that are missing; nothing is changed."""
    shown = moongate("import", file, "--dry-run")

    assert shown.code == 0
    assert [line.split()[:2] for line in shown.out.splitlines()[1:3]] == [["search", "proxy"], ["files", "hosted"]]
    assert "SEARCH_KEY (not set)" in shown.out
    assert "alwaysAllow" in shown.out
    assert "hush" not in shown.all
    assert moongate.json("instance", "list") == []


def test_nothing_comes_while_a_variable_is_missing(moongate: Line, file: str) -> None:
    """Half an import would be hard to repeat."""
    refused = moongate("import", file)

    assert refused.code == 2
    assert "SEARCH_KEY" in refused.err
    assert moongate.json("instance", "list") == []


def test_an_import_is_repeated_only_on_demand(moongate: Line, file: str) -> None:
    """A name that is taken is said, with the way to replace it."""
    env = {"SEARCH_KEY": "hush-hush-1"}
    first = moongate("import", file, "--tag", "imported", env=env)
    second = moongate("import", file, env=env)
    third = moongate("import", file, "--replace", env=env)

    assert (first.code, second.code, third.code) == (0, 1, 0)
    assert second.out.count("the name is taken") == 2
    assert third.out.count("replaced") == 2
    assert [found["name"] for found in moongate.json("instance", "list", "--tag", "imported")] == []
    assert "hush" not in first.all + second.all + third.all + moongate("instance", "show", "files").all


@pytest.mark.parametrize(("name", "text", "count"), [("config.toml", CODEX, 2), ("config.yaml", BINDS, 3)])
def test_other_dialects_come_too(moongate: Line, tmp_path: Path, name: str, text: str, count: int) -> None:
    """Codex and agentgateway."""
    (tmp_path / name).write_text(text, "utf-8")
    env = {"DOCS_TOKEN": "one-value", "TEAM_KEY": "another", "KEY": "third"}

    said = moongate("import", str(tmp_path / name), env=env)

    assert said.out.count("taken over") >= count - 1, said.all
    assert len(moongate.json("instance", "list")) >= count - 1


def test_an_export_can_be_served_and_imported(moongate: Line, file: str, tmp_path: Path) -> None:
    """Each secret is a reference whose name is listed; with these set, the file is as good as the store."""
    moongate("import", file, env={"SEARCH_KEY": "hush-hush-1"})
    written = moongate("export")
    names = moongate.json("export")["variables"]
    environment = dict.fromkeys(names, "value-of-it")

    assert "hush" not in written.all
    assert all(name in written.err for name in names)
    assert len(names) == 2
    snapshot = compile_documents(load_texts([("export.yaml", written.out)], environment))
    assert {route.name for route in snapshot.binds[0].listeners[0].routes} == {"search", "files"}
    (tmp_path / "export.yaml").write_text(written.out, "utf-8")
    other = Line(tmp_path / "other")
    assert other("import", str(tmp_path / "export.yaml"), env=environment).code == 0
    assert yaml.safe_load(other("export").out) == yaml.safe_load(written.out)


def test_an_export_for_other_programs_has_common_keys_only(moongate: Line, file: str) -> None:
    """What is the gateway's own is left out."""
    moongate("import", file, env={"SEARCH_KEY": "hush-hush-1"})
    moongate("instance", "edit", "search", "--auth", "off")

    found = json.loads(moongate("export", "--format", "mcpServers").out)["mcpServers"]

    assert found["search"].keys() == {"url", "type", "headers"}
    assert "auth" in json.loads(moongate("export", "--format", "json").out)["mcpServers"]["search"]
