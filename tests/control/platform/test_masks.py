"""Secrets go in and never come out; a mask that comes back keeps its secret, in its place and for its server only."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moongate.audit.redact import mask as mask_of_logs
from moongate.control.platform.masks import MASK, mask, masked, referenced, restored

SECRET = "swordfish-" + "0a1B" * 4
HIDDEN: list[tuple[dict[str, Any], str]] = [
    ({"headers": {"Authorization": f"Bearer {SECRET}", "Accept": "x"}}, SECRET),
    ({"env": {"DEBUG": SECRET}}, SECRET),
    ({"requestHeaderModifier": {"add": {"X-A": SECRET}}}, SECRET),
    ({"requestHeaderModifier": {"set": {"X-A": SECRET}}}, SECRET),
    ({"url": f"https://user:{SECRET}@example.com/mcp"}, SECRET),
    ({"url": f"https://{SECRET}@example.com/mcp"}, SECRET),
    ({"url": f"https://example.com/mcp?api_key={SECRET}&page=1"}, SECRET),
    ({"url": f"https://example.com/mcp?x={SECRET}"}, SECRET),
    ({"url": f"https://example.com/s/{SECRET}/mcp"}, SECRET),
    ({"url": f"https://example.com/{SECRET}"}, SECRET),
    ({"args": ["--token", "abc"]}, "abc"),
    ({"args": ["--api-key=abc"]}, "abc"),
    ({"args": ["-e", "GITHUB_TOKEN=abc"]}, "abc"),
    ({"args": ["--header", "Authorization: Bearer abcdefgh"]}, "abcdefgh"),
    ({"args": ["postgresql://u:abc@db/x"]}, "abc"),
    ({"args": ["https://example.com/?sig=abc"]}, "abc"),
    ({"args": ["run", SECRET]}, SECRET),
    ({"description": f"use sk-{SECRET}"}, SECRET),
    ({"directResponse": {"body": f"http://u:{SECRET}@h/"}}, SECRET),
]


@pytest.mark.parametrize(("config", "secret"), HIDDEN)
@pytest.mark.requirement("PM-57")
def test_what_is_secret_is_not_shown_and_comes_back(config: dict[str, Any], secret: str) -> None:
    """The mask in place of the secret; the whole sent back is what was there before; a file gets a reference."""
    shown = masked(config)
    assert secret not in json.dumps(shown)
    assert MASK.search(json.dumps(shown))
    assert restored(shown, config) == (config, [])
    written = json.dumps(referenced(config, lambda place: f"OF {place}"))
    assert secret not in written
    assert "${OF " in written


@pytest.mark.parametrize(
    "config",
    [
        {"url": "https://example.com:8443/mcp/v1/stream?page=2", "type": "sse", "timeout": 5},
        {"command": "npx", "args": ["-y", "@modelcontextprotocol/server-everything", "stdio", "--port", "8080"]},
        {"command": "uvx", "args": ["mcp-server-git", "--repository", "/srv/repositories/project"], "cwd": "/srv"},
        {"args": ["--author", "somebody"], "access": {"rules": [{"allow": ["tool:get_*"], "users": ["alice"]}]}},
    ],
)
def test_what_is_no_secret_is_shown(config: dict[str, Any]) -> None:
    """Addresses, programs, ordinary arguments and rules can be read and edited."""
    assert masked(config) == config


def test_the_mask_is_that_of_the_logs() -> None:
    """A mask in the console and the one in a log line are the same for the same secret."""
    assert mask(SECRET) == mask_of_logs(SECRET)


STORED = {"url": "https://example.com/mcp", "headers": {"X-Key": "one", "X-Other": "two"}}


@pytest.mark.parametrize(
    ("sent", "where"),
    [
        ({"headers": {"X-Key": mask("two")}}, "headers.X-Key"),
        ({"headers": {"X-New": mask("one")}}, "headers.X-New"),
        ({"headers": {"X-Key": mask("three")}}, "headers.X-Key"),
        ({"url": f"https://example.com/{mask('one')}"}, "url"),
        ({"description": f"it is {mask('one')}"}, "description"),
        ({"env": {"X-Key": mask("one")}}, "env.X-Key"),
    ],
)
def test_a_mask_in_another_place_is_refused(sent: dict[str, Any], where: str) -> None:
    """A mask of another secret, of none, or moved to where it could be read, stands for nothing."""
    _, complaints = restored({**STORED, **sent}, STORED)
    assert [complaint.where for complaint in complaints] == [where]
    assert "write the value itself" in complaints[0].text
    assert restored(sent, None)[1]


def test_a_header_keeps_its_secret_under_another_case() -> None:
    """Names of headers have no case."""
    config, complaints = restored({**STORED, "headers": {"x-key": mask("one")}}, STORED)
    assert (config["headers"], complaints) == ({"x-key": "one"}, [])


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.example/mcp",
        "http://example.com/mcp",
        "https://example.com:444/mcp",
        "https://example.com@evil.example/mcp",
        "https://example.com.evil.example/mcp",
    ],
)
@pytest.mark.requirement("PM-57")
def test_kept_secrets_do_not_follow_to_another_server(url: str) -> None:
    """Who may write an instance but not read its secrets cannot have them sent to a server of his own."""
    _, complaints = restored({**masked(STORED), "url": url}, STORED)
    assert [complaint.where for complaint in complaints] == ["url"]
    assert "another server" in complaints[0].text
    assert restored({**masked(STORED), "url": "https://EXAMPLE.com:443/other"}, STORED)[1] == []
    assert restored({**STORED, "url": url}, STORED)[1] == []


LEAF = st.text(max_size=30) | st.sampled_from([SECRET, "a b", "--token", "https://u:p@h/x?key=v", "Bearer abcdefghijk"])


@given(
    st.fixed_dictionaries(
        {
            "url": st.sampled_from(["https://example.com/a", f"https://u:{SECRET}@example.com/?token={SECRET}"]),
            "headers": st.dictionaries(st.sampled_from(["X-A", "X-B", "x-c"]), LEAF),
            "env": st.dictionaries(st.sampled_from(["A", "B"]), LEAF),
            "args": st.lists(LEAF, max_size=5),
        }
    )
)
def test_masking_and_back_is_the_same_for_anything(config: dict[str, Any]) -> None:
    """Whatever is stored, what is shown can be sent back."""
    if not MASK.search(json.dumps(config)):
        assert restored(masked(config), config) == (config, [])
