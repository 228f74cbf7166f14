"""The message addresses of the HTTP+SSE door: sealed, bound to principal and route, and judged like every other."""

from __future__ import annotations

import json
import os
import time

import msgspec
import pytest

from moongate.control.secrets import load_key
from moongate.protocol import sealed as sealed_ids
from moongate.protocol.sealed import Address, NotOurs, Sealer, Session
from moongate.testing import Backend, Gateway, gateway
from tests.proxy.sse_talk import listening, open_session
from tests.proxy.talk import call, connected, pair, polite, run, until

NOTE = b'{"jsonrpc":"2.0","method":"notifications/initialized"}'
TOKENS = {"tokens": [{"name": "alice", "token": "alice-token"}, {"name": "bob", "token": "bob-token"}]}
ALICE = {"authorization": "Bearer alice-token"}
BOB = {"authorization": "Bearer bob-token"}


def forged(good: str) -> list[str]:
    """Addresses that nobody was given."""
    head, token = good.split("=", 1)
    flipped = token[:30] + ("A" if token[30] != "A" else "B") + token[31:]
    return [
        head.partition("?")[0],
        f"{head}=",
        f"{head}=x",
        f"{head}={token}A",
        f"{head}={token[:-1]}",
        f"{head}={flipped}",
        f"{head}={'A' * 9000}",
        f"{head}={token}&session={token}",
        f"{head}=%C3%BC",
    ]


def test_foreign_forged_and_expired_addresses_are_404() -> None:
    """Another principal's, another route's, made up, altered, sealed with another key, expired, a session id."""

    async def story() -> None:
        async with Backend(polite) as backend:
            servers = {name: {"url": backend.url, "type": "streamable-http"} for name in ("one", "two")}
            text = json.dumps({"gateway": TOKENS, "mcpServers": servers})
            async with gateway(text) as gate, listening(gate, headers=ALICE) as client:
                before = len(backend.seen)
                head, token = client.address.split("=", 1)
                for bad in (*forged(client.address), *(f"{head}={one}" for one in sealed(gate, token))):
                    answer = await client.poster.ask(NOTE, ALICE, path=bad)
                    assert answer.failure == (404, "not_found"), bad
                assert (await client.post(NOTE, BOB)).failure == (404, "not_found")
                elsewhere = client.address.replace("/mcp/one/", "/mcp/two/")
                assert (await client.poster.ask(NOTE, ALICE, path=elsewhere)).failure == (404, "not_found")
                assert (await client.poster.ask(NOTE, path=client.address)).failure == (401, "unauthenticated")
                as_session = {**ALICE, "mcp-session-id": token}
                assert (await client.poster.ask(call(), as_session)).failure == (404, "not_found")
                assert len(backend.seen) == before
                assert (await client.post(NOTE)).status == 202

    run(story())


def sealed(gate: Gateway, token: str) -> list[str]:
    """One that has expired, one of another gateway, one of another route, one of no stream, and a session id."""
    own, foreign = Sealer(load_key(gate.data_dir, {})), Sealer(os.urandom(32))
    address = own.open_address(token.encode())
    assert address.endpoint == ""
    late, later = time.time() - 1, time.time() + 1000
    return [
        own.seal_address(Address("", address.door, "one", "alice", late)).decode(),
        foreign.seal_address(Address("", address.door, "one", "alice", later)).decode(),
        own.seal_address(Address("", address.door, "two", "alice", later)).decode(),
        own.seal_address(Address("", "nowhere", "one", "alice", later)).decode(),
        own.seal_address(Address("/backend", address.door, "one", "alice", later)).decode(),
        own.seal(Session(b"backend-session-7", "one", "alice", "2025-06-18", "", later)).decode(),
    ]


def test_neither_kind_of_token_opens_as_the_other() -> None:
    """Session ids and addresses are sealed with the same key, but not for the same use."""
    sealer = Sealer(os.urandom(32))
    address = Address("/x", "door", "one", "alice", 1.0)
    session = Session(b"x", "one", "alice", "", "", 1.0)
    assert sealer.open_address(sealer.seal_address(address)) == address
    with pytest.raises(NotOurs):
        sealer.open(sealer.seal_address(address))
    with pytest.raises(NotOurs):
        sealer.open_address(sealer.seal(session))
    with pytest.raises(NotOurs):  # whatever they look like inside
        sealer.open_address(sealer._seal(msgspec.msgpack.encode(address), sealed_ids._SESSION))


def test_an_address_is_of_no_use_once_its_stream_has_ended() -> None:
    """404, and the client starts anew."""

    async def story() -> None:
        async with pair(polite) as (gate, _):
            async with listening(gate) as client:
                address = client.address
            await until(lambda: gate.runtime.plane.doors.streams == 0)
            async with connected(gate) as again:
                assert (await again.ask(NOTE, path=address)).failure == (404, "not_found")

    run(story())


@pytest.mark.parametrize(
    ("method", "path", "headers", "status", "allow"),
    [
        ("POST", "/mcp/one/sse", {}, 405, "GET"),
        ("POST", "/mcp/one/events", {}, 405, "GET"),
        ("DELETE", "/mcp/one/events", {}, 405, "GET"),
        ("GET", "/mcp/one/messages", {}, 405, "POST"),
        ("GET", "/mcp/one/sse", {"accept": "application/json"}, 406, None),
        ("POST", "/mcp/one/messages", {"content-type": "text/plain"}, 404, None),
        ("GET", "/mcp/one/sse/", {}, 404, None),
        ("POST", "/mcp/one/messages/", {}, 404, None),
    ],
)
def test_other_methods_and_types_are_refused(
    method: str, path: str, headers: dict[str, str], status: int, allow: str | None
) -> None:
    """405 names what is allowed, 406 where the client would not take an event stream."""

    async def story() -> None:
        async with pair(polite) as (gate, backend), connected(gate) as client:
            body = NOTE if method == "POST" else None
            answer = await client.ask(body, headers, method=method, path=path)
            assert (answer.status, answer.fields.get("allow")) == (status, allow)
            assert backend.seen == []

    run(story())


@pytest.mark.parametrize("accept", ["text/event-stream", "*/*", "text/*;q=0.5", "application/json, TEXT/EVENT-STREAM"])
def test_whoever_takes_an_event_stream_gets_one(accept: str) -> None:
    """Stock clients write the type in several ways."""

    async def story() -> None:
        async with pair(polite) as (gate, _), listening(gate, headers={"accept": accept}) as client:
            assert client.address

    run(story())


def test_policies_judge_streams_and_messages_like_all_requests() -> None:
    """A foreign host, a foreign origin, no token: refused before anything is opened, read or sent."""

    async def story() -> None:
        async with pair(polite, gateway_block=TOKENS) as (gate, backend), listening(gate, headers=ALICE) as client:
            for path, method in (("/mcp/one/sse", "GET"), (client.address, "POST")):
                for headers, host, status in (
                    (ALICE, "evil.test", 403),
                    ({**ALICE, "origin": "http://evil.test"}, "127.0.0.1", 403),
                    ({}, "127.0.0.1", 401),
                ):
                    body = NOTE if method == "POST" else None
                    async with connected(gate) as other:
                        answer = await other.ask(body, headers, method=method, path=path, host=host)
                        assert answer.status == status, (path, headers, host)
            assert backend.seen == []

    run(story())


@pytest.mark.parametrize(("host", "front"), [("gate.test", "/base"), ("127.0.0.1", "")])
def test_the_address_holds_what_a_proxy_in_front_cuts_off(host: str, front: str) -> None:
    """With `gateway.publicUrl` https://gate.test/base, for those who came by that name."""

    async def story() -> None:
        block = {"publicUrl": "https://gate.test/base"}
        async with pair(polite, gateway_block=block) as (gate, _), listening(gate, host=host) as client:
            assert client.address.startswith(f"{front}/mcp/one/messages?session=")

    run(story())


def test_the_address_leads_to_the_same_route() -> None:
    """Where a query parameter chooses the route, the address keeps it."""

    async def story() -> None:
        async with Backend(polite) as one, Backend(polite) as two:
            config = f"""
binds:
- port: 0
  listeners:
  - routes:
    - matches: [{{path: {{pathPrefix: /tools}}, query: [{{name: tenant, value: {{exact: b}}}}]}}]
      backends: [{{mcp: {{targets: [{{name: b, mcp: {{host: "{two.url}"}}}}]}}}}]
    - matches: [{{path: {{pathPrefix: /tools}}}}]
      backends: [{{mcp: {{targets: [{{name: a, mcp: {{host: "{one.url}"}}}}]}}}}]
"""
            async with gateway(config, port=None) as gate, listening(gate, "/tools/sse?tenant=b") as client:
                await open_session(client)
                assert (len(one.seen), two.seen[0].method) == (0, "POST")

    run(story())
