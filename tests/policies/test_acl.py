"""Access rules as tables: who asks for what, and whether he gets it."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moongate.model.principal import Principal
from moongate.policies import acl
from moongate.policies.access_rules import Glob
from moongate.policies.base import ALWAYS
from moongate.protocol.jsonrpc import Envelope
from tests.policies.asking import ALICE, BOB, Rule, access, allowed, asking, message, read, tool, verdict

PATTERNS = [
    # A pattern, what it is about, and what it is not about.
    (
        "tool:get_*",
        [tool("get_time"), tool("get_")],
        [tool("get"), tool("forget_x"), message("prompts/get", name="get_x")],
    ),
    ("tool:*_all", [tool("delete_all"), tool("_all")], [tool("delete_all2"), tool("all")]),
    ("tool:a*b*c", [tool("abc"), tool("a1b2c"), tool("abbbc")], [tool("acb"), tool("ab"), tool("abcd")]),
    ("tool:*", [tool("x"), tool("a/b:c\nd")], [message("resources/read", uri="tool:x"), message("tasks/list")]),
    ("tool:a.b", [tool("a.b")], [tool("axb"), tool("A.B"), tool("a.b ")]),
    ("tool:[ab]?", [tool("[ab]?")], [tool("a1")]),
    ("prompt:p", [message("prompts/get", name="p")], [tool("p"), message("prompts/get", name="pp")]),
    ("method:tools/*", [tool("x")], [message("prompts/get", name="x"), message("resources/read", uri="a:b")]),
    ("method:vendor/thing", [message("vendor/thing")], [message("vendor/things"), tool("vendor/thing")]),
    ("method:tasks/list", [message("tasks/list")], [message("vendor/tasks/list")]),
    ("*", [tool("x"), message("vendor/x"), message("resources/read", uri="a:b")], []),
    ("resource:file:///logs/*", [message("resources/read", uri="file:///logs/a/b:c?d")], [tool("file:///logs/a")]),
    ("resource:*", [message("resources/read", uri="x"), message("resources/subscribe", uri="x")], [tool("x")]),
    ("resource:*:*", [message("resources/unsubscribe", uri="note://a")], [message("resources/read", uri="note")]),
    (
        "prompt:greet",
        [message("completion/complete", ref={"type": "ref/prompt", "name": "greet"}, argument={})],
        [message("completion/complete", ref={"type": "ref/resource", "uri": "greet"}, argument={})],
    ),
    (
        "resource:note://*",
        [message("completion/complete", ref={"type": "ref/resource", "uri": "note://{id}"}, argument={})],
        [message("completion/complete", ref={"type": "ref/prompt", "name": "note://a"}, argument={})],
    ),
]


@pytest.mark.parametrize(("pattern", "about", "others"), PATTERNS)
def test_a_pattern_stands_for_whole_names_of_its_kind(
    pattern: str, about: list[tuple[Envelope, bytes]], others: list[tuple[Envelope, bytes]]
) -> None:
    """An allow rule lets through what it is about and nothing else; a deny rule the other way round."""
    allow, deny = access({"allow": [pattern]}), access({"deny": [pattern]})
    for sent in about:
        assert (allowed(allow, sent), allowed(deny, sent)) == (True, False), sent
    for sent in others:
        assert (allowed(allow, sent), allowed(deny, sent)) == (False, True), sent


@given(st.text("ab*", max_size=8), st.text("ab\n", max_size=12))
def test_a_glob_is_what_its_regular_expression_would_be(pattern: str, name: str) -> None:
    """In linear time, which a regular expression does not promise."""
    expression = ".*".join(map(re.escape, pattern.split("*")))
    assert Glob(pattern).matches(name) is (re.fullmatch(expression, name, re.DOTALL) is not None)


COMMON = [
    message("initialize", protocolVersion="2025-06-18", capabilities={}, clientInfo={"name": "a", "version": "1"}),
    message("ping"),
    message("server/discover"),
    message("logging/setLevel", level="info"),
    *(message(f"{kind}/list") for kind in ("tools", "prompts", "resources", "resources/templates")),
    message("subscriptions/listen", notifications={"toolsListChanged": True}),
    message("tasks/get", taskId="t"),
    message("tasks/result", taskId="t"),
    message("notifications/initialized"),
    message("notifications/of/some/vendor"),
    read(b'{"jsonrpc":"2.0","id":1,"result":{}}'),
]


@pytest.mark.parametrize("sent", COMMON, ids=lambda sent: sent[0].method or "response")
def test_what_belongs_to_every_conversation_need_not_be_allowed(sent: tuple[Envelope, bytes]) -> None:
    """Rules about tools and arguments do not break it; one about its method does, and so does one about everything."""
    about_tools = access({"allow": ["tool:get_*"]}, {"deny": True, "when": "arguments.amount > 100"})
    assert allowed(about_tools, sent)
    if sent[0].method:
        assert not allowed(access({"deny": [f"method:{sent[0].method}"]}), sent)
    assert not allowed(access({"deny": True, "users": ["alice"]}), sent)


RULES: list[tuple[list[Rule], dict[str, bool]]] = [
    ([], {"a": True}),
    ([{"deny": ["tool:b"]}], {"a": True, "b": False}),
    ([{"allow": ["tool:a"]}], {"a": True, "b": False}),
    ([{"allow": ["tool:*"]}, {"deny": ["tool:b"]}], {"a": True, "b": False}),
    ([{"deny": ["tool:b"]}, {"allow": ["tool:b"]}], {"a": False, "b": False}),
    ([{"allow": ["tool:a"], "users": ["alice"]}], {"a": True, "b": False}),
    ([{"allow": ["tool:a"], "groups": ["readers"]}], {"a": True, "b": False}),
    ([{"allow": ["tool:a"], "groups": ["others"], "users": ["alice"]}], {"a": True, "b": False}),
    ([{"allow": ["tool:a"], "groups": ["readers"], "users": ["bob"]}], {"a": True, "b": False}),
    ([{"allow": True}, {"deny": True, "users": ["bob"]}], {"a": True, "b": True}),
    ([{"allow": ["tool:a"], "sources": ["192.0.2.0/24"]}], {"a": True, "b": False}),
    ([{"allow": ["tool:a", "tool:b"]}, {"deny": ["tool:b"], "sources": ["198.51.100.7"]}], {"a": True, "b": True}),
    ([{"allow": True, "when": 'tool.startsWith("a")'}], {"a": True, "ab": True, "b": False}),
    ([{"allow": True, "when": '"staff" in principal.groups && principal.token == "tok-1"'}], {"a": True}),
    ([{"deny": True, "when": 'instance == "one" && method == "tools/call"'}], {"a": False}),
    ([{"deny": True, "when": 'source == "192.0.2.1"'}], {"a": False}),
    ([{"deny": ["tool:b"], "when": 'principal.name.matches("^a")'}], {"a": True, "b": False}),
]


@pytest.mark.parametrize(("written", "expected"), RULES)
def test_rules_are_combined(written: list[Rule], expected: dict[str, bool]) -> None:
    """Deny beats allow whatever the order, and once there is any allow rule, what no rule allows is denied."""
    if not written:
        return
    rules = access(*written)
    assert {name: allowed(rules, tool(name)) for name in expected} == expected


def test_rules_of_the_gateway_and_of_the_instance_both_hold() -> None:
    """What either denies is denied, and each has its own allow rules."""
    rules = access({"allow": ["tool:a", "tool:b", "tool:c"]}, {"deny": ["tool:b"]}, gateway=[{"deny": ["tool:c"]}])
    assert [allowed(rules, tool(name)) for name in "abcd"] == [True, False, False, False]

    rules = access({"deny": ["tool:b"]}, gateway=[{"allow": ["tool:a", "tool:b"]}])
    assert [allowed(rules, tool(name)) for name in "abc"] == [True, False, False]


SOURCES = [
    ("10.0.0.0/8", "10.1.2.3", True),
    ("10.0.0.0/8", "11.1.2.3", False),
    ("10.0.0.0/8", "::ffff:10.1.2.3", True),
    ("2001:db8::/32", "2001:db8::1", True),
    ("2001:db8::/32", "10.1.2.3", False),
    ("fe80::/10", "fe80::1%eth0", True),
    ("192.0.2.7", "192.0.2.7", True),
]


@pytest.mark.requirement("PM-44")
@pytest.mark.parametrize(("network", "source", "inside"), SOURCES)
def test_sources_are_addresses_and_networks(network: str, source: str, inside: bool) -> None:
    """Allowed and denied alike; with nothing else in the rule the head is enough to refuse."""
    by = asking(source=source)
    assert (access({"allow": True, "sources": [network]}).judge(by).refusal is None) is inside
    assert (access({"deny": True, "sources": [network]}).judge(by).refusal is None) is not inside


def test_an_address_that_cannot_be_read_is_never_allowed() -> None:
    """It is in every denied network and in no allowed one."""
    by = asking(source="somewhere")
    assert access({"allow": True, "sources": ["0.0.0.0/0"]}).judge(by).refusal is not None
    assert access({"deny": True, "sources": ["10.0.0.0/8"]}).judge(by).refusal is not None


HEADS: list[tuple[list[Rule], bool]] = [
    ([{"allow": True, "users": ["alice"]}], True),
    ([{"allow": ["tool:a"], "users": ["alice"]}], True),
    ([{"allow": ["tool:a"], "users": ["alice", "bob"]}], False),
    ([{"allow": ["tool:a"]}, {"deny": True, "users": ["bob"]}], True),
    ([{"deny": True, "groups": ["readers"]}], False),
    ([{"deny": ["tool:*", "prompt:*"], "users": ["bob"]}], False),
    ([{"allow": True, "when": 'principal.name == "alice"'}], True),
    ([{"allow": True, "when": 'tool == "a"'}], False),
    ([{"deny": True, "when": 'principal.name == "bob" && tool == "a"'}], False),
    ([{"deny": True, "when": '"x-team" in headers'}], False),
    ([{"deny": True, "when": 'headers["x-team"] == "red"'}], True),
    ([{"allow": ["tool:a"], "when": '"x-team" in headers'}], True),
    ([{"deny": True, "when": 'now > timestamp("2020-01-01T00:00:00Z")'}], True),
]


@pytest.mark.parametrize(("written", "refused"), HEADS)
def test_who_may_use_nothing_is_refused_by_the_head(written: list[Rule], refused: bool) -> None:
    """The body need not be read for a rule about everything, or where no rule could ever allow him anything."""
    assert (access(*written).judge(asking(BOB)).refusal is not None) is refused


def test_a_verdict_that_depends_on_the_time_is_asked_for_again() -> None:
    """The head is remembered for a second at most, all others for good."""
    timed = access({"deny": True, "when": 'now < timestamp("2020-01-01T00:00:00Z")'}).judge(asking())
    assert timed.refusal is None
    assert timed.until <= time.time() + 1.0
    assert access({"allow": True}).judge(asking()).until == ALWAYS
    assert access({"deny": ["tool:a"], "when": "now == now && tool == 'b'"}).judge(asking()).until == ALWAYS


PAY: Rule = {"deny": True, "when": 'method == "tools/call" && tool == "pay" && arguments.amount > 100'}
ARGUMENTS = [
    (PAY, tool("pay", amount=100), True),
    (PAY, tool("pay", amount=101), False),
    (PAY, tool("pay", amount=100.5), False),
    (PAY, tool("pay", amount="101"), False),
    (PAY, tool("pay"), False),
    (PAY, tool("other", amount=101), True),
    (PAY, message("tools/call", name="pay"), False),
    (PAY, message("tools/call", name="pay", arguments=None), False),
    (PAY, message("tools/call", name="pay", arguments=[1]), False),
    (PAY, message("resources/read", uri="a:b"), True),
    (PAY, message("tools/list"), True),
    (PAY, tool("pay", amount=1, note="x" * 64 * 1024), False),
    (PAY, tool("other", amount=1, note="x" * 64 * 1024), True),
    (PAY, tool("pay", amount=1, other=2**63 - 1), True),
    (PAY, tool("pay", amount=1, other=2**63), False),
    (PAY, tool("pay", amount=1, other=-(2**63) - 1), False),
    (PAY, tool("pay", amount=1, note="12345678901234567890123"), True),
    (PAY, tool("pay", amount=1, deep={"a": [{"b": 10**30}]}), False),
    ({"allow": ["tool:pay"], "when": "arguments.amount <= 100"}, tool("pay", amount=100), True),
    ({"allow": ["tool:pay"], "when": "arguments.amount <= 100"}, tool("pay", amount=101), False),
    ({"allow": ["tool:pay"], "when": "arguments.amount <= 100"}, tool("pay"), False),
    ({"allow": ["tool:pay"], "when": "has(arguments.amount)"}, tool("pay"), False),
    ({"deny": ["tool:pay"], "when": "!has(arguments.ticket)"}, tool("pay", ticket="7"), True),
    ({"deny": ["tool:pay"], "when": "!has(arguments.ticket)"}, tool("pay"), False),
    ({"deny": ["tool:pay"], "when": 'arguments.to.exists(a, a == "eve")'}, tool("pay", to=["bob", "eve"]), False),
    ({"deny": ["tool:pay"], "when": 'arguments.to.exists(a, a == "eve")'}, tool("pay", to=["bob"]), True),
    (
        {"deny": ["prompt:p"], "when": 'arguments.a == "b"'},
        message("prompts/get", name="p", arguments={"a": "b"}),
        False,
    ),
    (
        {"deny": ["prompt:p"], "when": 'arguments.a == "b"'},
        message("prompts/get", name="p", arguments={"a": "c"}),
        True,
    ),
    ({"deny": ["tool:a"], "when": "arguments.x / 0 == 1"}, tool("a", x=1), False),
    ({"deny": ["tool:a"], "when": "arguments.x + 9223372036854775807 > 0"}, tool("a", x=1), False),
]


@pytest.mark.parametrize(("rule", "sent", "expected"), ARGUMENTS)
def test_rules_read_arguments(rule: Rule, sent: tuple[Envelope, bytes], expected: bool) -> None:
    """What is too long, too large for 64 bits, missing or of another type is denied, where it matters at all."""
    assert allowed(access(rule), sent) is expected


TWICE = [
    b'{"amount":1,"amount":1000}',
    b'{"amount":1000,"amount":1}',
    b'{"amount":1,"Amount":1000}',
    b'{"amount":1,"\\u0061mount":1000}',
    b'{"amount":1,"deep":{"x":1,"x":2}}',
    b'{"amount":1,"deep":[{"x":1,"X":2}]}',
    b'{"amount":1e999}',
]


@pytest.mark.parametrize("arguments", TWICE)
def test_arguments_that_two_parsers_could_read_differently_are_denied(arguments: bytes) -> None:
    """Otherwise the backend might see another amount than the rule."""
    rules = access({"deny": ["tool:pay"], "when": "arguments.amount > 100"})
    sent = read(b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"pay","arguments":%b}}' % arguments)
    assert not allowed(rules, sent)
    plain = read(sent[1].replace(arguments, b'{"amount":1,"note":"a \\"quoted\\": \\\\"}'))
    assert allowed(rules, plain)


def test_headers_are_seen_without_credentials() -> None:
    """Names are in lower case; a header that is not there is an error, and denies."""
    rules = access({"allow": ["tool:*"], "when": 'headers["x-team"] == "red" && !("authorization" in headers)'})
    by = asking(x_team="red", authorization="Bearer something")
    assert allowed(rules, tool("a"), by)
    assert not allowed(rules, tool("a"), asking(x_team="blue"))
    assert not allowed(rules, tool("a"), asking())


def test_the_time_is_read_at_each_call() -> None:
    """A rule on the time is never remembered."""
    rules = access({"deny": ["tool:a"], "when": 'now > timestamp("2020-01-01T00:00:00Z") && now.getFullYear() > 2020'})
    assert not allowed(rules, tool("a"))
    assert allowed(rules, tool("b"))


def test_callers_are_told_apart() -> None:
    """By user, groups and address, also after one of them was remembered."""
    rules = access({"allow": ["tool:a"], "groups": ["readers"]}, {"deny": ["tool:a"], "sources": ["10.0.0.0/8"]})
    for _ in range(2):
        assert allowed(rules, tool("a"), asking(ALICE))
        assert not allowed(rules, tool("a"), asking(ALICE, "10.0.0.1"))
        assert not allowed(rules, tool("a"), asking(BOB))
        assert not allowed(rules, tool("a"), asking(Principal("alice", "tok-1")))


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many names, long names and many callers cost no more memory, and are judged as before."""
    monkeypatch.setattr(acl, "MAX_DECISIONS", 8)
    monkeypatch.setattr(acl, "MAX_CALLERS", 4)
    rules = access({"allow": ["tool:get_*"]})
    for number in range(50):
        by = asking(source=f"192.0.2.{number}")
        assert allowed(rules, tool(f"get_{number}"), by)
        assert not allowed(rules, tool(f"set_{number}" + "x" * 1000), by)
        assert len(rules._decisions) <= 8
        assert len(rules._callers) <= 4


def test_in_shadow_mode_everything_passes_and_is_noted() -> None:
    """The first rule that would have denied it, and what would change that; an allowed call notes nothing."""
    rules = access({"allow": ["tool:a"], "users": ["alice"]}, PAY, mode="shadow")
    for who, sent, noted in (
        (ALICE, tool("a"), ""),
        (ALICE, tool("b"), "no rule allows tool 'b'"),
        (ALICE, tool("pay", amount=200), "no rule allows tool 'pay'"),
        (BOB, tool("a"), "no rule allows anything to 'bob'"),
    ):
        by = asking(who)
        assert allowed(rules, sent, by)
        assert noted in by.shadow
        assert bool(noted) is bool(by.shadow)
    by = asking()
    assert allowed(access(PAY, mode="shadow"), tool("pay", amount=200), by)
    assert "mcpServers.one.access.rules[0]" in by.shadow


def test_rules_on_trial_change_nothing_about_those_in_force() -> None:
    """The gateway's rules deny although the instance's are in shadow mode."""
    rules = access({"deny": ["tool:a"]}, mode="shadow", gateway=[{"deny": ["tool:b"]}])
    assert [allowed(rules, tool(name)) for name in "abc"] == [True, False, True]


def test_the_operator_reads_rule_and_setting() -> None:
    """Which rule decided, or what a rule would have to say; never the arguments."""
    rules = access({"allow": ["tool:a"]}, {"deny": ["tool:a"], "when": "arguments.x > 1"})
    denied = verdict(rules, tool("a", x=1234567))
    assert denied.setting == "mcpServers.one.access.rules[1]"
    assert denied.words.startswith("access: tool 'a' (tools/call) is denied to 'alice' from 192.0.2.1 by the rule deny")
    assert "1234567" not in denied.words
    missing = verdict(rules, tool("b"))
    assert missing.setting == "mcpServers.one.access.rules: another rule, such as {allow: ['tool:b']}"
    assert verdict(rules, tool("a", x=1)).reason.endswith("is allowed by mcpServers.one.access.rules[0]")


VISIBLE: list[tuple[list[Rule], list[str]]] = [
    ([{"deny": ["tool:b"]}], ["a", "c"]),
    ([{"allow": ["tool:b"]}], ["b"]),
    ([{"allow": ["tool:b"], "when": "arguments.x > 1"}], ["b"]),
    ([{"deny": ["tool:b"], "when": "arguments.x > 1"}], ["a", "b", "c"]),
    ([{"deny": ["tool:b"], "when": '"x-team" in headers'}], ["a", "c"]),
    ([{"allow": ["tool:b"], "when": '"x-other" in headers'}, {"allow": ["tool:c"]}], ["c"]),
    ([{"allow": ["tool:a"], "when": "now == now"}], ["a"]),
    ([{"deny": ["method:tools/call"]}], []),
    ([{"allow": ["method:tools/*"]}], ["a", "b", "c"]),
    ([{"allow": True, "when": 'method == "tools/call" && tool == "c" && arguments.x > 1'}], ["c"]),
    ([{"allow": ["prompt:*"]}], []),
]


@pytest.mark.parametrize(("written", "seen"), VISIBLE)
def test_a_list_shows_what_might_be_called(written: list[Rule], seen: list[str]) -> None:
    """Whatever depends on arguments stays visible."""
    rules, by = access(*written), asking(x_team="red")
    caller = rules.caller(by)
    for _ in range(2):
        assert [name for name in "abc" if rules.visible(caller, by, "tool", name)] == seen
