"""Sealed session ids: nobody makes, changes, moves or outlives one."""

from __future__ import annotations

import base64
import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moongate.errors import MoongateError, Refusal
from moongate.model.exchange import Exchange
from moongate.model.principal import Principal
from moongate.protocol.sealed import NotOurs, Sealer, Session
from moongate.proxy.sessions import SealedSessions
from moongate.testing import Backend, gateway
from moongate.testing import Exchange as Call
from tests.hostile.talk import PONG, client, run

KEY = bytes(range(32))
SESSION = Session(b"upstream-session", "time", "alice", "2025-06-18", "client/1", 1000.0)
ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


def _opens(token: bytes, key: bytes = KEY) -> bool:
    try:
        Sealer(key).open(token)
    except NotOurs:
        return False
    return True


@given(st.binary(max_size=300), st.text(max_size=20), st.text(max_size=20), st.floats(allow_nan=False))
def test_what_is_sealed_is_opened(upstream: bytes, route: str, principal: str, expires: float) -> None:
    """All of it, and the token is visible ASCII that may stand in a header."""
    session = Session(upstream, route, principal, "2025-06-18", "c", expires)
    token = Sealer(KEY).seal(session)
    assert re.fullmatch(rb"[A-Za-z0-9_-]+", token)
    assert Sealer(KEY).open(token) == session


def test_no_two_are_the_same_and_none_shows_what_is_inside() -> None:
    """A fresh nonce each time; nothing readable."""
    tokens = {Sealer(KEY).seal(SESSION) for _ in range(100)}
    assert len(tokens) == 100
    for token in tokens:
        inside = base64.urlsafe_b64decode(token + b"=" * (-len(token) % 4))
        assert not any(word in inside for word in (b"upstream", b"alice", b"time"))


def test_a_changed_byte_opens_nothing() -> None:
    """Each position, each other letter of the alphabet."""
    token = Sealer(KEY).seal(SESSION)
    for at in range(len(token)):
        for other in ALPHABET:
            if other != token[at]:
                assert not _opens(token[:at] + bytes([other]) + token[at + 1 :]), (at, other)


def test_a_shortened_or_lengthened_one_opens_nothing() -> None:
    """From either end."""
    token = Sealer(KEY).seal(SESSION)
    assert not any(_opens(token[:at]) or _opens(token[at:]) for at in range(1, len(token)))
    for more in (b"A", b"AA", b"AAAA", b"=", b"==", b"====", b" ", b"\t", b"\n", b"\0", b"-", b"."):
        assert not _opens(token + more)
        assert not _opens(more + token)
        assert not _opens(token[:20] + more + token[20:])


def test_there_is_one_spelling_of_each() -> None:
    """Padding, the other alphabet and unused bits of the last letter are refused, so that a token can be compared."""
    for length in range(6):
        session = Session(b"u" * length, "t", "a", "r", "c", 1.0)
        sealed = Sealer(KEY).seal(session)
        assert _opens(sealed)
        assert not _opens(sealed + b"=" * (-len(sealed) % 4)) or not len(sealed) % 4
        for last in ALPHABET:
            assert _opens(sealed[:-1] + bytes([last])) is (last == sealed[-1])
        other = sealed.translate(bytes.maketrans(b"-_", b"+/"))
        assert _opens(other) is (other == sealed)


@given(st.binary(max_size=200))
@settings(max_examples=300)
def test_what_was_not_sealed_is_not_opened(token: bytes) -> None:
    """Any bytes at all: NotOurs and no other exception."""
    assert not _opens(token)
    assert not _opens(base64.urlsafe_b64encode(token).rstrip(b"="))


def test_another_key_opens_nothing() -> None:
    """Not even one that differs in a bit; and a key has its length."""
    token = Sealer(KEY).seal(SESSION)
    for at in range(32):
        assert not _opens(token, KEY[:at] + bytes([KEY[at] ^ 1]) + KEY[at + 1 :])
    for length in (0, 16, 31, 33):
        with pytest.raises(ValueError, match="32"):
            Sealer(bytes(length))


def test_a_huge_token_is_refused_before_it_is_decoded() -> None:
    """Whatever a head's limit lets through."""
    assert not _opens(b"A" * 10_000_000)


def _caller(name: str | None) -> Exchange:
    principal = Principal("anonymous") if name is None else Principal(name, token="token-name")
    exchange = Exchange("r", 0.0, 0.0, "POST", "/", {})
    exchange.principal = principal
    return exchange


REFUSED = [
    ("another route", "other", "alice", 999.0),
    ("another principal", "time", "bob", 999.0),
    ("nobody", "time", None, 999.0),
    ("the moment it expires", "time", "alice", 1000.0),
    ("long after", "time", "alice", 10_000_000.0),
    ("a route with the same beginning", "tim", "alice", 999.0),
]


@pytest.mark.parametrize(
    ("route", "name", "now"), [entry[1:] for entry in REFUSED], ids=[entry[0] for entry in REFUSED]
)
def test_it_is_good_for_one_caller_on_one_route_for_a_time(route: str, name: str | None, now: float) -> None:
    """Everything else looks like an unknown session: 404 and one text."""
    token = Sealer(KEY).seal(SESSION)
    assert SealedSessions(Sealer(KEY), lambda: 999.0).open(token, "time", _caller("alice")) == SESSION
    with pytest.raises(Refusal) as caught:
        SealedSessions(Sealer(KEY), lambda: now).open(token, route, _caller(name))
    with pytest.raises(Refusal) as unknown:
        SealedSessions(Sealer(KEY), lambda: 999.0).open(b"garbage", "time", _caller("alice"))
    assert (caught.value.failure, caught.value.text) == (unknown.value.failure, unknown.value.text)


def test_an_anonymous_session_is_no_named_callers() -> None:
    """Nor is a caller who is named "anonymous" nobody."""
    sessions = SealedSessions(Sealer(KEY), lambda: 0.0)
    token = sessions.create(b"u", "time", _caller(None))
    assert sessions.open(token, "time", _caller(None)).upstream == b"u"
    for name in ("alice", "anonymous"):
        with pytest.raises(Refusal):
            sessions.open(token, "time", _caller(name))


def test_a_backends_id_is_never_cut() -> None:
    """It comes back as it was, or no session is made of it."""
    sessions = SealedSessions(Sealer(KEY), lambda: 0.0)
    for length in (1, 4095, 4096, 4097, 6000):
        try:
            token = sessions.create(b"u" * length, "time", _caller(None))
        except MoongateError:
            assert length > 4096
        else:
            assert len(sessions.open(token, "time", _caller(None)).upstream) == length


INITIALIZE = (
    b'{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{}}}'
)


@pytest.mark.requirement("PM-29")
def test_over_the_wire_a_foreign_id_is_unknown() -> None:
    """Alice's session is not Bob's, not another instance's, and a forged one is nobody's; the backend hears of none."""

    async def script(call: Call) -> None:
        if b"initialize" in call.seen.body:
            answer = {"jsonrpc": "2.0", "id": 1, "result": {"protocolVersion": "2025-06-18", "capabilities": {}}}
            await call.answer(json.dumps(answer).encode(), headers={"mcp-session-id": "upstream-session"})
        else:
            await call.answer(PONG)

    async def work() -> None:
        async with Backend(script) as backend:
            config = (
                "gateway:\n  tokens: [{name: alice, token: alice-token}, {name: bob, token: bob-token}]\nmcpServers:\n"
                f"  time: {{url: '{backend.url}', type: streamable-http}}\n"
                f"  other: {{url: '{backend.url}', type: streamable-http}}\n"
            )
            async with gateway(config) as gate, client(gate.port) as peer:
                alice, bob = (b"authorization: Bearer %b\r\n" % name for name in (b"alice-token", b"bob-token"))
                opened = await peer.call(INITIALIZE, alice)
                session = (opened.get("mcp-session-id") or "").encode()
                assert b"upstream-session" not in opened.head
                line = b"mcp-session-id: %b\r\n" % session
                assert (await peer.call(lines=alice + line)).status == 200
                seen = len(backend.seen)
                for lines, path in (
                    (bob + line, b"/mcp/time"),
                    (alice + line, b"/mcp/other"),
                    (alice + b"mcp-session-id: upstream-session\r\n", b"/mcp/time"),
                    (alice + b"mcp-session-id: %b\r\n" % session[::-1], b"/mcp/time"),
                    (alice + b"mcp-session-id:\r\n", b"/mcp/time"),
                ):
                    answer = await peer.call(lines=lines, path=path)
                    assert answer.status == 404
                    assert json.loads(answer.body)["error"]["data"]["class"] == "not_found"
                assert len(backend.seen) == seen
                assert (await peer.call(lines=alice + line, path=b"/mcp/time/v1/stream")).status == 200

    run(work())
