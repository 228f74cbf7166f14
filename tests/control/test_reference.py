"""The documentation that comes out of the schema."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from moongate.cli.schema import schema
from moongate.control.compile import compile_documents
from moongate.control.files import load_texts
from moongate.control.schema.judge import model_at
from moongate.control.schema.reference import json_schema, markdown

PAGE = Path(__file__).resolve().parents[2] / "docs" / "configuration.md"
TOKENS = {
    "ALICE_TOKEN": "alice-token",
    "SEARCH_TOKEN": "search-token",
    "HOME_ASSISTANT_TOKEN": "home-token",
    "NOTES_KEY": "key",
}


def test_the_page_is_the_one_that_the_schema_makes() -> None:
    """Write it anew with: python -m moongate.control.schema.reference > docs/configuration.md."""
    assert PAGE.read_text("utf-8") == markdown()


def test_every_key_says_what_it_means() -> None:
    """A key without a description is a key that nobody can use."""
    document = json_schema()
    blocks: list[dict[str, Any]] = [document, *document["$defs"].values()]

    bare = [
        (block.get("description"), key)
        for block in blocks
        for key, value in block.get("properties", {}).items()
        if not value.get("description")
    ]

    assert len(blocks) > 20
    assert bare == []
    assert all(block.get("description") for block in blocks)


def test_every_block_refuses_unknown_keys() -> None:
    """Editors see them as errors too."""
    document = json_schema()

    assert all(block["additionalProperties"] is False for block in [document, *document["$defs"].values()])


def test_the_examples_on_the_page_load() -> None:
    """Each YAML block is a configuration without complaints."""
    examples = re.findall(r"```yaml\n(.*?)```", markdown(), re.DOTALL)

    assert len(examples) >= 2
    for example in examples:
        assert compile_documents(load_texts([("example.yaml", example)], TOKENS)).warnings == ()


def test_every_link_on_the_page_leads_to_a_heading() -> None:
    """The blocks that the tables name are on the page."""
    page = markdown()
    titles = re.findall(r"^## (.*)$", page, re.MULTILINE)
    headings = {"".join(char for char in title.lower() if char.isalnum() or char in "-_") for title in titles}

    links = set(re.findall(r"\(#([^)]*)\)", page))
    assert links
    assert links <= headings


@pytest.mark.requirement("AG-02")
def test_the_model_of_every_block_is_found_by_its_path() -> None:
    """Only then can a complaint about an unknown key name the allowed ones."""
    for loc in [
        (),
        ("gateway", "limits"),
        ("gateway", "tokens", 0),
        ("mcpServers", "time", "cors"),
        ("binds", 0, "listeners", 0, "tls"),
        ("binds", 0, "listeners", 0, "routes", 0, "matches", 0, "headers", 0, "value"),
        ("binds", 0, "listeners", 0, "routes", 0, "backends", 0, "mcp", "targets", 0, "mcp"),
    ]:
        assert model_at(loc) is not None, loc


def test_the_schema_verb_prints_one_json_document(capsys: pytest.CaptureFixture[str]) -> None:
    """And nothing else."""
    assert schema() == 0
    assert capsys.readouterr().out.startswith('{\n  "$schema": "https://json-schema.org/draft/2020-12/schema"')
