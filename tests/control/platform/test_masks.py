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
    ({"urlRewrite": {"path": {"full": f"/s/{SECRET}/mcp"}}}, SECRET),
    ({"directResponse": {"body": f"http://u:{SECRET}@h/"}}, SECRET),
]


@pytest.mark.parametrize(("config", "secret"), HIDDEN)
@pytest.mark.requirement("PM-57")
def test_what_is_secret_is_not_shown_and_comes_back(config: dict[str, Any], secret: str) -> None:
    """The mask in place of the secret; the whole sent back is what was there before; a file gets a reference."""
    shown = masked(config)
    assert secret not in json.dumps(shown)
    assert MASK.search(json.dumps(shown))
    assert masked(shown) == shown
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


def test_kept_secrets_do_not_follow_to_another_name_for_the_server() -> None:
    """Behind one address there may be the servers of many; `Host` says which of them is meant."""
    moved = {**masked(STORED), "urlRewrite": {"authority": {"full": "evil.example"}}}
    assert [complaint.where for complaint in restored(moved, STORED)[1]] == ["url"]
    assert restored({**masked(STORED), "urlRewrite": {"authority": "auto"}}, STORED)[1] == []


PASSWORD = "user:" + "pa55"
ADDRESS = {"url": f"https://{PASSWORD}@example.com/x/{SECRET}?api_key=abc1&page=2"}
USER, PATH, KEY = mask(PASSWORD), mask(SECRET), mask("abc1")


@pytest.mark.parametrize(
    "url",
    [
        f"https://example.com/x?page={KEY}",
        f"https://example.com/x?token={KEY}",
        f"https://example.com/x/{KEY}",
        f"https://example.com/{USER}",
        f"https://example.com/x?page={USER}",
        f"https://example.com/x?page=http://{USER}@example.com/",
        f"https://example.com/x?page=1?api_key={KEY}",
        f"https://{KEY}@example.com/x",
        f"https://example.com/{PATH}",
        f"https://example.com/x/y/{PATH}",
        f"https://example.com/x/a{PATH}!",
        f"https://example.com/x?page={PATH}",
        f"https://example.com/x?api_key=1&a{KEY}=1",
        f"https://example.com/x#api_key={KEY}",
    ],
)
@pytest.mark.requirement("PM-57")
def test_a_mask_stays_in_its_place_of_an_address(url: str) -> None:
    """User and password, a parameter, a part of the path: elsewhere it could be shown, or would mean another thing."""
    config, complaints = restored({"url": url}, ADDRESS)
    assert {complaint.where for complaint in complaints} == {"url"}
    assert "no secret that is kept here" in complaints[0].text
    kept = f"https://{USER}@example.com/y/{PATH}/z?page=3&api_key={KEY}"
    config, complaints = restored({"url": kept}, ADDRESS)
    assert (config, complaints) == ({"url": f"https://{PASSWORD}@example.com/y/{SECRET}/z?page=3&api_key=abc1"}, [])


ARGS = {"args": ["--token", "abc", "-e", "API_KEY=def", f"postgresql://u:{PASSWORD}@db/x", SECRET]}


@pytest.mark.parametrize(
    "args",
    [
        ["--name", mask("abc")],
        [mask("abc")],
        ["--password", mask("abc")],
        ["-e", f"NAME={mask('def')}"],
        ["-e", f"OTHER_KEY={mask('def')}"],
        ["--token", mask("def")],
        [f"postgresql://{mask('u:' + PASSWORD)}@evil/x"],
        [f"postgresql://db/{mask('u:' + PASSWORD)}"],
        ["--name", PATH],
        [f"--name={PATH}"],
    ],
)
def test_a_mask_stays_with_its_argument(args: list[str]) -> None:
    """Arguments may be added and moved; a secret stays behind its flag, under its name, with its server."""
    _, complaints = restored({"args": args}, ARGS)
    assert [complaint.where.partition("[")[0] for complaint in complaints] == ["args"]
    moved = [mask(SECRET), "-v", f"postgresql://{mask('u:' + PASSWORD)}@db/y", "--token", mask("abc")]
    assert restored({"args": moved}, ARGS) == (
        {"args": [SECRET, "-v", f"postgresql://u:{PASSWORD}@db/y", "--token", "abc"]},
        [],
    )


def test_what_stands_in_the_environment_is_no_secret() -> None:
    """A file's instance is shown as it is written: with the names of its variables."""
    config = {"headers": {"Authorization": "Bearer ${NOTES_KEY}", "X-A": "${A}", "X-B": "${A} and more"}}
    shown = masked(config)["headers"]
    assert (shown["Authorization"], shown["X-A"]) == ("Bearer ${NOTES_KEY}", "${A}")
    assert shown["X-B"] == mask("${A} and more")


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
