"""Access rules about resources and about what messages name in other places: one thing has many spellings."""

from __future__ import annotations

import pytest

from moongate.protocol.jsonrpc import Envelope
from tests.policies.asking import access, allowed, asking, message, read

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
