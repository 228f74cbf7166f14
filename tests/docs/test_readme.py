"""What a reader copies or follows works: links, configurations, commands."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from moongate.cli.lazy import VERBS, load
from moongate.cli.main import app
from moongate.control.compile import compile_documents
from moongate.control.files import load_texts
from moongate.proxy.match import SUFFIXES
from tests.docs.pages import DOCS, ROOT, anchors, blocks, broken_links, code, pages, table, text

README = text(ROOT / "README.md")
NAMES = [str(page.relative_to(ROOT)) for page in pages()]
_COMMAND = re.compile(r"(?:^|[\s/])moongate (-{1,2}[a-z]+|[a-z]+)((?: [^|;&]*)?)")


def help_of(*words: str) -> str:
    """What the command line says about itself."""
    result = CliRunner().invoke(app, [*words, "--help"], env={"COLUMNS": "200", "NO_COLOR": "1"})
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.parametrize("name", NAMES)
def test_relative_links_resolve(name: str) -> None:
    """Each leads to a file of the project, and to a heading where it names one."""
    assert list(broken_links(ROOT / name)) == []


def test_broken_links_are_found(tmp_path: Path) -> None:
    """A missing file, a missing heading and a way out of the project are complaints; addresses are left alone."""
    page = tmp_path / "page.md"
    page.write_text("# One two\n[a](#one-two) [b](#three) [c](gone.md) [d](..) [e](https://example.com/x)\n", "utf-8")

    assert list(broken_links(page, tmp_path)) == ["#three", "gone.md", ".."]
    assert anchors(text(page)) == {"one-two"}


def test_the_pages_have_links_and_configurations() -> None:
    """Otherwise the tests beside this one would look at nothing."""
    assert len(NAMES) > 10
    assert "docs/data-flow.svg" in README
    assert all(f"docs/{page}" in README for page in ("headers.md", "failures.md", "configuration.md", "benchmarks.md"))


@pytest.mark.parametrize("name", NAMES)
def test_yaml_blocks_load(name: str) -> None:
    """Each is a configuration without errors and without warnings, given the variables that it names."""
    for block in blocks(text(ROOT / name), "yaml"):
        environment = {variable: f"made-up-{variable}" for variable in re.findall(r"\$\{(\w+)\}", block)}
        snapshot = compile_documents(load_texts([(f"{name}.yaml", block)], environment))

        assert snapshot.warnings == ()
        assert any(listener.routes for bind in snapshot.binds for listener in bind.listeners)


@pytest.mark.parametrize("name", NAMES)
def test_json_blocks_are_json(name: str) -> None:
    """A reader may copy them."""
    for block in blocks(text(ROOT / name), "json"):
        assert isinstance(json.loads(block), dict)


@pytest.mark.parametrize("name", NAMES)
def test_the_command_line_knows_what_pages_call(name: str) -> None:
    """Each verb and option that follows `moongate` in a page is in the help."""
    known = help_of()
    for line in code(text(ROOT / name)):
        for first, rest in _COMMAND.findall(line):
            listed = re.search(rf"^ *{re.escape(first)}\b", known, re.MULTILINE)
            assert listed, f"moongate {first} is not in the help"
            options = re.findall(r"(?<=\s)--?[a-z][a-z-]*", rest.partition(" -- ")[0])
            inner = getattr(load(first), "commands", {}) if first in VERBS else {}
            words = [first, *rest.split()[:1]] if inner else [first]
            assert len(words) == 1 or words[1] in inner, line
            assert not options or set(options) <= set(re.findall(r"--?[a-z][a-z-]*", help_of(*words))), line


def test_the_readme_names_every_verb() -> None:
    """A verb that nobody hears of is not there."""
    for verb in VERBS:
        assert f"moongate {verb}" in README, verb


def test_the_readme_names_every_target_of_the_makefile() -> None:
    """And no other: what `make` lists, but the list itself."""
    listed = set(re.findall(r"^([a-z-]+):.*##", text(ROOT / "Makefile"), re.MULTILINE)) - {"help"}

    assert set(re.findall(r"\bmake ([a-z][a-z-]*)", "\n".join(code(README)))) == listed


def test_the_readme_names_every_ending_of_an_address() -> None:
    """The aliases are those of the router."""
    cells = " ".join(row[0] for row in table(README, "address", "speaks"))
    endings = set(re.findall(r"/mcp/time(/[a-z0-9/]+)?`", cells))

    assert endings == SUFFIXES.keys() - {"/"}


def test_decisions_are_numbered_without_gaps() -> None:
    """Each page begins with its number and has its three parts."""
    found = sorted((DOCS / "decisions").glob("*.md"))

    assert [page.name[:4] for page in found] == [f"{number:03}-" for number in range(1, len(found) + 1)]
    for page in found:
        assert text(page).startswith(f"# {page.name[:3]}: ")
        assert all(f"**{part}.**" in text(page) for part in ("Context", "Decision", "Consequences")), page.name
