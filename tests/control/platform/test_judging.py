"""What may be stored: the compiler's verdict, said about instances and their fields."""

from __future__ import annotations

import json
from typing import Any

import pytest

from moongate.control.platform.judging import access_mode, judge_access, judge_instance, read_pasted
from tests.control.platform.stage import URL

PROXY: list[tuple[str, dict[str, Any], str, str]] = [
    ("PM-04", {"url": URL, "type": "websocket"}, "type", "must be sse or streamable-http, found 'websocket'"),
    ("PM-05", {"command": "npx"}, "command", "use hosted mode"),
    ("PM-05", {"type": "stdio"}, "type", "use hosted mode"),
    ("PM-05", {"transport": "stdio", "url": URL}, "transport", "use hosted mode"),
    ("PM-05", {"command": "npx", "url": URL}, "command", "use hosted mode"),
    ("PM-07", {"type": "sse"}, "url", "is missing"),
    ("PM-07", {"url": ""}, "url", "is empty"),
    ("PM-07", {"url": None}, "url", "is missing"),
    ("PM-07", {"url": "example.com/mcp"}, "url", "is not a full address"),
    ("PM-07", {"url": "ftp://example.com/"}, "url", "only http:// and https://"),
    ("PM-07", {"url": "http://exa mple/"}, "url", "spaces"),
    ("PM-10", {"url": URL, "type": "sse", "transport": "streamable-http"}, "transport", "differ here"),
    ("PM-11", {"url": URL, "transport": "http"}, "transport", "write streamable-http"),
    ("PM-11", {"url": URL, "type": "SSE"}, "type", "must be sse or streamable-http"),
    ("PM-20", {"url": URL, "timeout": 0}, "timeout", "above 0"),
    ("PM-20", {"url": URL, "timeout": -1}, "timeout", "milliseconds"),
    ("PM-20", {"url": URL, "sseReadTimeout": "1s"}, "sseReadTimeout", "milliseconds"),
    ("PM-20", {"url": URL, "timeout": True}, "timeout", "milliseconds"),
    ("", {"url": URL, "headers": {"X": "${KEY}"}}, "headers.X", "references"),
    ("", {"url": URL, "headers": {"X": "[secret 00000000]"}}, "headers.X", "is a mask"),
    ("", {"url": URL, "header": {}}, "", "unknown key 'header'; did you mean 'headers'?"),
    ("", {"url": URL, "tls": {"crt": "x"}}, "tls", "unknown key 'crt'; did you mean 'cert'?"),
    ("", {"url": URL, "headers": {"Host": "x"}}, "headers.Host", "cannot be set"),
    ("", {"url": URL, "description": float("nan")}, "", "not JSON"),
    ("", {"url": URL, "description": "\ud800"}, "", "not JSON"),
    ("", {"url": URL, "description": "x" * 300_000}, "", "larger than"),
]


@pytest.mark.parametrize(("line", "config", "field", "said"), PROXY)
@pytest.mark.requirement("PM-04", "PM-05", "PM-07", "PM-10", "PM-11", "PM-20")
def test_a_wrong_entry_is_refused_with_its_field(line: str, config: dict[str, Any], field: str, said: str) -> None:
    """Each complaint names the instance and the field, what is wrong and what is allowed."""
    complaints = judge_instance("time", "proxy", config)
    assert complaints, line
    assert complaints[0].where == (f"instance time: {field}" if field else "instance time")
    assert said in complaints[0].text
    assert "mcpServers" not in complaints[0].text


@pytest.mark.parametrize("name", ["time", "n" * 128, "a.b"])
@pytest.mark.parametrize("key", ["type", "transport"])
@pytest.mark.parametrize("protocol", ["sse", "streamable-http"])
@pytest.mark.requirement("PM-04", "PM-08", "PM-09", "PM-12")
def test_both_protocols_are_accepted_under_both_keys(name: str, key: str, protocol: str) -> None:
    """`type` and `transport` mean the same; headers may be left out."""
    assert judge_instance(name, "proxy", {"url": URL, key: protocol}) == []
    wrong = judge_instance(name, "proxy", {"url": URL, key: protocol, "timeout": 0})
    assert wrong[0].where.endswith(": timeout")


def test_hosted_runs_commands_only() -> None:
    """An address needs access mode proxy; a command is needed."""
    assert judge_instance("a", "hosted", {"command": "npx", "args": ["-y", "x"], "type": "stdio"}) == []
    assert "access mode proxy" in judge_instance("a", "hosted", {"url": URL})[0].text
    assert "is missing" in judge_instance("a", "hosted", {"args": []})[0].text
    assert [access_mode(config) for config in ({"command": "x"}, {"type": "stdio"}, {"url": URL}, {})] == [
        "hosted",
        "hosted",
        "proxy",
        "proxy",
    ]


def test_deep_nesting_is_refused_not_followed() -> None:
    """A bottomless value is a complaint, never an internal failure."""
    deep: dict[str, Any] = {}
    for _ in range(5000):
        deep = {"a": deep}
    assert judge_instance("a", "proxy", {"url": URL, "description": deep})
    for _ in range(20):
        deep = {"a": deep}
    shallow = json.loads('{"a":' * 100 + "1" + "}" * 100)
    assert "nested deeper" in judge_instance("a", "proxy", {"url": URL, "description": shallow})[0].text


@pytest.mark.parametrize(
    ("pasted", "names"),
    [
        ('{"mcpServers": {"a": {"url": "http://h"}, "b": {"command": "x"}}}', ["a", "b"]),
        ('{"servers": {"a": {"url": "http://h"}}, "$schema": "x"}', ["a"]),
        ('{"a": {"url": "http://h"}}', ["a"]),
        ("mcpServers:\n  a:\n    url: http://h\n", ["a"]),
        ('"mcpServers": {"a": {"url": "http://h"}}', ["a"]),
        ({"mcpServers": {"a": {"url": "http://h"}}}, ["a"]),
    ],
)
def test_what_clients_keep_can_be_pasted(pasted: str | dict[str, Any], names: list[str]) -> None:
    """As text or already read, with or without the outer block, JSON or YAML."""
    entries, complaints = read_pasted(pasted)
    assert ([entry.name for entry in entries], complaints) == (names, [])


@pytest.mark.parametrize(
    ("pasted", "said"),
    [
        ("", "is not a block of servers"),
        ("[]", "is not a block of servers"),
        ("{", "not valid JSON"),
        ('{"mcpServers": {}}', "holds no servers"),
        ('{"mcpServers": []}', "holds no servers"),
        ('{"url": "http://h"}', "one server without its name"),
        ('{"x": 1}', "has no mcpServers"),
        ('{"mcpServers": {"a": 1}}', "must be a block"),
        ('{"mcpServers": {"a": {"url": "http://h"}}, "gateway": {}}', "'gateway' cannot be pasted"),
        ('{"mcpServers": {"a": {"url": "http://h"}, "a": {"url": "http://i"}}}', "a"),
        ("a: " + "x" * 17_000_000, "is larger than"),
    ],
)
def test_what_cannot_be_pasted_says_why(pasted: str, said: str) -> None:
    """A text that holds no servers, or more than servers."""
    _, complaints = read_pasted(pasted)
    assert any(said in complaint.text for complaint in complaints)


def test_switches_of_client_files_are_the_instances_switch() -> None:
    """`disabled: true` and `enabled: false` become the switch of the instance."""
    entries, _ = read_pasted({"mcpServers": {"a": {"url": URL, "disabled": True}, "b": {"url": URL, "enabled": True}}})
    assert [(entry.config, entry.enabled) for entry in entries] == [({"url": URL}, False), ({"url": URL}, True)]


def test_access_rules_are_judged_too() -> None:
    """A rule that cannot be understood is refused with its place."""
    assert judge_access({"rules": [{"allow": ["tool:get_*"], "users": ["alice"]}]}) == []
    (complaint,) = judge_access({"rules": [{"allow": ["tool:x"], "sources": ["10.0.0.1/8"]}]})
    assert complaint.where.startswith("access: rules[0].sources")
