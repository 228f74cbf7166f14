"""Access rules about resources and about what messages name in other places: one thing has many spellings."""

from __future__ import annotations

import pytest

from moongate.protocol.jsonrpc import Envelope
from tests.policies.asking import Rule, access, allowed, asking, message, read

UNCLEAR = [
    message("tools/call", arguments={}),
    message("tools/call", name=5),
    message("resources/read"),
    message("resources/read", uri="a:" + "b" * 8192),
    message("completion/complete"),
    message("completion/complete", ref={"type": "ref/other", "name": "a"}),
    message("completion/complete", ref={"type": "ref/prompt"}),
    message("completion/complete", ref="ref/prompt"),
    read(
        b'{"jsonrpc":"2.0","id":1,"method":"completion/complete","params":'
        b'{"ref":{"type":"ref/prompt","name":"a","name":"b"}}}'
    ),
    message("subscriptions/listen", notifications={"resourceSubscriptions": "file:///a"}),
    message("subscriptions/listen", notifications={"resourcesubscriptions": ["file:///a"]}),
    message("subscriptions/listen", notifications=["file:///a"]),
    message("subscriptions/listen", notifications={"resourceSubscriptions": [f"a:{n}" for n in range(257)]}),
    message("subscriptions/listen", notifications={"resourceSubscriptions": ["a:" + "b" * 8000] * 9}),
    # What only looks like a method that names something.
    message("Tools/Call", name="a"),
    message("tool\u017f/call", name="a"),
    message("resources/Read", uri="file:///a"),
    message("resources/read ", uri="file:///a"),
    message("\u2003prompts/get", name="a"),
    message("tools/call\u200b", name="a"),
    message("tools/call\x00", name="a"),
]


@pytest.mark.parametrize("sent", UNCLEAR)
def test_what_cannot_be_told_is_denied(sent: tuple[Envelope, bytes]) -> None:
    """Where there are rules a message must say what it asks for; on trial it passes, and is noted."""
    assert not allowed(access({"deny": ["tool:a"]}), sent)
    by = asking()
    assert allowed(access({"deny": ["tool:a"]}, mode="shadow"), sent, by)
    assert "the rules for 'alice' from 192.0.2.1 cannot judge it" in by.shadow


SPELLINGS = [
    "file:///secret/a",
    "FILE:///secret/a",
    "file:/secret/a",
    "file://localhost/secret/a",
    "file:///public/../secret/a",
    "file:///public/%2e%2e/secret/a",
    "file:///%73ecret/a",
    "file:///%2573ecret/a",
    "file:///./secret/a",
    "file:////secret//a",
    "file:\\\\\\secret\\a",
    " file:///secret/a",
    "file:///sec\tret/a",
    "file:///x?/../secret/a",
    "file:///a/../secret/a?/../../b",
    "file:///data//../secret/a",
    "file://elsewhere/secret/a",
    "file:///secret/a?b#c",
]


@pytest.mark.parametrize("uri", SPELLINGS)
def test_a_resource_is_denied_however_it_is_written(uri: str) -> None:
    """In reading, subscribing, completing and listening."""
    rules = access({"deny": ["resource:file:///secret/*"]})
    assert not allowed(rules, message("resources/read", uri=uri))
    assert not allowed(rules, message("resources/subscribe", uri=uri))
    assert not allowed(rules, message("completion/complete", ref={"type": "ref/resource", "uri": uri}))
    assert not allowed(rules, message("subscriptions/listen", notifications={"resourceSubscriptions": ["a:b", uri]}))
    only = access({"allow": ["resource:file:///public/*"]})
    assert not allowed(only, message("resources/read", uri=uri))


def test_a_pattern_may_be_written_as_the_server_writes_its_resources() -> None:
    """Escapes in a pattern stand for what they mean too."""
    rules = access({"allow": ["resource:file:///a%20b/*", "resource:note://X/*"]})
    for uri in ("file:///a%20b/c", "file:///a%20b/c%20d", "note://X/1"):
        assert allowed(rules, message("resources/read", uri=uri)), uri
    assert not allowed(rules, message("resources/read", uri="file:///a%20b/../c"))


def test_several_subscriptions_are_judged_one_by_one() -> None:
    """One that is denied refuses all; a list without any is part of every conversation."""
    rules = access({"allow": ["resource:note://*"]})
    for names, expected in (([], True), (["note://a"], True), (["note://a", "file:///b"], False)):
        sent = message("subscriptions/listen", notifications={"resourceSubscriptions": names})
        assert allowed(rules, sent) is expected


def test_what_is_remembered_of_one_kind_is_not_taken_for_another() -> None:
    """A prompt and a resource of one name; a subscription after one without resources."""
    rules = access({"allow": ["prompt:x"]})
    for _ in range(2):
        assert allowed(rules, message("completion/complete", ref={"type": "ref/prompt", "name": "x"}))
        assert not allowed(rules, message("completion/complete", ref={"type": "ref/resource", "uri": "x"}))
    rules = access({"deny": ["resource:*"]})
    for _ in range(2):
        assert allowed(rules, message("subscriptions/listen", notifications={}))
        assert not allowed(rules, message("subscriptions/listen", notifications={"resourceSubscriptions": ["a:b"]}))


WEB = [
    "https://host/secret/x",
    "https:host/secret/x",
    "https:///host/secret/x",
    "https://host:443/secret/x",
    "https://host:/secret/x",
    "https://u@host/secret/x",
    "https://host./secret/x",
    "HTTPS://HOST/secret/x?y",
]


@pytest.mark.parametrize("uri", WEB)
def test_an_address_is_denied_however_it_is_written(uri: str) -> None:
    """As browsers and libraries read addresses of the web."""
    assert not allowed(access({"deny": ["resource:https://host/secret/*"]}), message("resources/read", uri=uri))
    assert not allowed(access({"allow": ["resource:https://host/pub/*"]}), message("resources/read", uri=uri))


@pytest.mark.parametrize(
    "uri", ["file:///pub/../etc/passwd?/../../pub/y", "file:///pub/%2e%2e/etc/passwd#/../../pub/y"]
)
def test_a_query_does_not_lead_back_to_what_is_allowed(uri: str) -> None:
    """Whoever reads the path alone is somewhere else."""
    rules = access({"allow": ["resource:file:///pub/*"]})
    assert not allowed(rules, message("resources/read", uri=uri))
    assert allowed(rules, message("resources/read", uri="file:///pub/y?z=1"))


def test_what_a_server_might_understand_can_be_denied_and_need_not_be_allowed() -> None:
    """A rule against one file holds for it with a query; one that allows a host's files is enough for them."""
    rules = access({"deny": ["resource:note://a/b"]})
    assert not allowed(rules, message("resources/read", uri="note://a/b?x"))
    assert not allowed(rules, message("resources/read", uri="note://a/b#x"))
    assert allowed(rules, message("resources/read", uri="note://a/bc?x"))
    rules = access({"allow": ["resource:file://docs/*", "resource:note://a?*"]})
    assert allowed(rules, message("resources/read", uri="file://docs/x"))
    assert allowed(rules, message("resources/read", uri="note://a?x"))


RULES: list[tuple[Rule, bool]] = [
    ({"deny": ["tool:a"]}, True),
    ({"allow": ["resource:*"]}, True),
    ({"deny": True, "users": ["bob"]}, True),
    ({"deny": ["method:resources/subscribe"]}, True),
    ({"deny": ["resource:note://*"]}, False),
    ({"deny": True, "when": 'resource == "note://a"'}, False),
]


@pytest.mark.parametrize(("rule", "passes"), RULES)
def test_uris_must_be_plain_where_rules_tell_resources_apart(rule: Rule, passes: bool) -> None:
    """Rules for tools alone do not change which resources can be read, nor do those on trial."""
    odd = message("resources/read", uri="file:///a/../b")
    assert allowed(access(rule), odd) is passes
    assert allowed(access(rule, mode="shadow"), odd)
    assert allowed(access(rule, mode="shadow", gateway=[{"deny": ["tool:a"]}]), odd)


def test_methods_that_nobody_knows_are_no_lookalikes() -> None:
    """They are judged by their name, as ever."""
    rules = access({"deny": ["tool:a"]})
    for method in ("vendor/Thing", "tools/call2", "Notifications/x"):
        assert allowed(rules, message(method, name="a"))
