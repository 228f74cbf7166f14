"""Session ids: sealed, bound to principal and route, and nothing of the backend's in clear."""

from __future__ import annotations

import base64
import json
import os
import time

import pytest

from moongate.control.secrets import load_key
from moongate.protocol.sealed import Sealer, Session
from moongate.testing import Backend, Exchange, Gateway, gateway
from tests.proxy.talk import (
    Client,
    call,
    connected,
    event,
    initialize,
    initialized,
    log_lines,
    pair,
    polite,
    records,
    result,
    run,
)

TOKENS = [{"name": "alice", "token": "alice-token"}, {"name": "bob", "token": "bob-token"}]
ALICE = {"authorization": "Bearer alice-token"}
BOB = {"x-api-key": "bob-token"}


async def open_session(client: Client, headers: dict[str, str] | None = None, revision: str = "2025-06-18") -> str:
    """The id that the client got."""
    answer = await client.ask(initialize(revision), headers)
    assert answer.status == 200
    return answer.fields["mcp-session-id"]


@pytest.mark.requirement("PM-29")
def test_a_session_id_is_sealed_and_never_the_backends() -> None:
    """Neither in clear nor in base64 nor in hexadecimal; two of the same differ; visible ASCII."""

    async def story() -> None:
        async with pair(polite) as (gate, backend), connected(gate) as client:
            first, second = await open_session(client), await open_session(client)
            assert first != second
            inside = base64.urlsafe_b64decode(first + "==")
            for text in (first.encode(), inside, first.lower().encode()):
                assert b"backend-session-7" not in text
                assert b"backend-session-7".hex().encode() not in text
                assert base64.b64encode(b"backend-session-7")[:20] not in text
            assert all(0x21 <= byte <= 0x7E for byte in first.encode())
            assert b"backend-session-7" not in client.raw
            assert (await client.ask(call(), {"Mcp-Session-Id": first})).status == 200
            assert backend.seen[-1].fields["mcp-session-id"] == "backend-session-7"
            assert b"backend-session-7" not in b"".join(gate.records())

    run(story())


def forged(good: str) -> list[str]:
    """Ids that nobody was given."""
    flipped = good[:20] + ("A" if good[20] != "A" else "B") + good[21:]
    return [
        "backend-session-7",
        "x",
        "",
        "=" * 8,
        good[:-1],
        good + "A",
        good + "=",
        flipped,
        good[::-1],
        "A" * 9000,
        good.swapcase(),
        "ü",
    ]


@pytest.mark.requirement("PM-29")
def test_foreign_forged_and_expired_ids_are_404() -> None:
    """Another principal's, another route's, made up, altered, sealed with another key, expired: 404, and no call."""

    async def story() -> None:
        async with Backend(polite) as backend:
            text = json.dumps(
                {
                    "gateway": {"tokens": TOKENS},
                    "mcpServers": {name: {"url": backend.url, "type": "streamable-http"} for name in ("one", "two")},
                }
            )
            with log_lines():
                async with gateway(text) as gate, connected(gate) as client:
                    good = await open_session(client, ALICE)
                    assert (await client.ask(call(), {**ALICE, "mcp-session-id": good})).status == 200
                    before = len(backend.seen)
                    for bad in (*forged(good), *_sealed(gate)):
                        await _refused(client, {**ALICE, "mcp-session-id": bad})
                    await _refused(client, {**BOB, "mcp-session-id": good})
                    await _refused(client, {**ALICE, "mcp-session-id": good}, path="/mcp/two")
                    for method in ("GET", "DELETE"):
                        answer = await client.ask(None, {**BOB, "mcp-session-id": good}, method=method)
                        assert answer.failure == (404, "not_found")
                        assert "id" not in answer.message
                    assert len(backend.seen) == before
                    assert {record["failure"] for record in records(gate)[2:]} == {"not_found"}

    run(story())


def _sealed(gate: Gateway) -> list[str]:
    """One that has expired; one that another gateway made; one of another route."""
    session = Session(b"backend-session-7", "one", "alice", "2025-06-18", "", time.time() - 1)
    fresh = Session(b"backend-session-7", "one", "alice", "2025-06-18", "", time.time() + 1000)
    other = Session(b"backend-session-7", "two", "alice", "2025-06-18", "", time.time() + 1000)
    own = Sealer(load_key(gate.data_dir, {}))
    return [own.seal(session).decode(), Sealer(os.urandom(32)).seal(fresh).decode(), own.seal(other).decode()]


async def _refused(client: Client, headers: dict[str, str], path: str = "/mcp/one") -> None:
    answer = await client.ask(call("s"), headers, path=path)
    assert answer.failure == (404, "not_found"), headers
    assert answer.message.get("id", "s") == "s"  # the head decides, so the body may not have been read


def test_two_session_headers_are_refused() -> None:
    """Two ids cannot both be meant."""

    async def story() -> None:
        async with pair(polite) as (gate, backend), connected(gate) as client:
            good = await open_session(client)
            answer = await client.ask(call(), [("mcp-session-id", good), ("Mcp-Session-Id", good)])
            assert answer.failure == (400, "bad_request")
            assert len(backend.seen) == 1

    run(story())


@pytest.mark.parametrize("how", ["json", "chunked json", "event stream", "event stream with ids"])
@pytest.mark.parametrize("revision", ["2025-03-26", "2025-06-18", "2025-11-25"])
def test_initialize_may_be_answered_in_any_form(how: str, revision: str) -> None:
    """The revision that the backend chose is in the session, whatever form its answer has."""

    async def story() -> None:
        async def script(exchange: Exchange) -> None:
            body = initialized(revision)
            if b'"initialize"' not in exchange.seen.body:
                await polite(exchange)
            elif how == "json":
                await exchange.answer(body, headers={"mcp-session-id": "backend-session-7"})
            elif how == "chunked json":
                await exchange.stream({"content-type": "application/json", "mcp-session-id": "backend-session-7"})
                await exchange.chunk(body[:30])
                await exchange.chunk(body[30:])
                await exchange.close_stream()
            else:
                await exchange.stream({"mcp-session-id": "backend-session-7"})
                if "ids" in how:
                    await exchange.chunk(b"id: 1\nretry: 100\ndata:\n\n: c\n\n")
                await exchange.chunk(event(body))
                await exchange.close_stream()

        async with pair(script) as (gate, backend), connected(gate) as client:
            answer = await client.ask(initialize("2025-11-25"))
            assert initialized(revision) in answer.body
            session = {"mcp-session-id": answer.fields["mcp-session-id"]}
            batch = b"[" + call(1) + b", " + call(2) + b"]"
            answer = await client.ask(batch, session)
            assert answer.status == (200 if revision == "2025-03-26" else 400)
            assert len(backend.seen) == (2 if revision == "2025-03-26" else 1)
            assert records(gate)[-1]["revision"] == revision

    run(story())


def test_arrays_pass_only_in_sessions_of_2025_03_26() -> None:
    """Without a session, with a header only, or empty: 400 and -32600; in such a session byte for byte."""

    async def story() -> None:
        async with pair(polite) as (gate, backend), connected(gate) as client:
            batch = b" [\n" + call(1) + b"," + b'{"jsonrpc":"2.0","method":"notifications/x"}' + b"]"
            old = await open_session(client, revision="2025-03-26")
            new = await open_session(client, revision="2025-06-18")
            for headers in (
                {},
                {"mcp-protocol-version": "2025-03-26"},
                {"mcp-session-id": new},
                {"mcp-session-id": new, "mcp-protocol-version": "2025-03-26"},
            ):
                answer = await client.ask(batch, headers)
                assert answer.failure == (400, "bad_request")
                assert answer.message["error"]["code"] == -32600
            assert len(backend.seen) == 2
            assert (await client.ask(batch, {"mcp-session-id": old})).status == 200
            assert backend.seen[-1].body == batch
            for bad in (b"[]", b"[1]", b"[" + batch + b"]", b"[" + call() + b",", b'[{"jsonrpc":"2.0","id":1}]'):
                assert (await client.ask(bad, {"mcp-session-id": old})).status == 400
            assert len(backend.seen) == 3

    run(story())


def test_each_element_of_an_array_has_its_own_record() -> None:
    """Architecture, section 2, step 6."""

    async def story() -> None:
        async with pair(polite) as (gate, _), connected(gate) as client:
            old = await open_session(client, revision="2025-03-26")
            assert (
                await client.ask(b"[" + call(1) + b"," + call(2, "tools/list") + b"]", {"mcp-session-id": old})
            ).status == 200
            assert sorted(record["method"] for record in records(gate)[1:]) == ["tools/call", "tools/list"]

    run(story())


def test_later_answers_carry_the_clients_own_id() -> None:
    """Where the backend repeats its id, the client sees the one that it holds; where it gives none, none is made."""

    async def story() -> None:
        async def script(exchange: Exchange) -> None:
            if b"initialize" in exchange.seen.body:
                await polite(exchange)
            elif b'"quiet"' in exchange.seen.body:
                await exchange.answer(result("quiet"))
            elif exchange.seen.method == "GET":
                await exchange.stream({"mcp-session-id": "backend-session-7"})
                await exchange.close_stream()
            elif b'"stream"' in exchange.seen.body:
                await exchange.stream({"mcp-session-id": "backend-session-7"})
                await exchange.chunk(event(result("stream")))
                await exchange.close_stream()
            else:
                status = "404 Not Found" if b'"lost"' in exchange.seen.body else "200 OK"
                await exchange.answer(result("loud"), status=status, headers={"mcp-session-id": "backend-session-7"})

        async with pair(script) as (gate, _), connected(gate) as client:
            good = await open_session(client)
            session = {"mcp-session-id": good}
            assert "mcp-session-id" not in (await client.ask(call("quiet"), session)).fields
            for name in ("loud", "stream", "lost"):
                assert (await client.ask(call(name), session)).fields["mcp-session-id"] == good
            assert (await client.ask(None, session, method="GET")).fields["mcp-session-id"] == good
            assert b"backend-session-7" not in client.raw

    run(story())


def test_no_session_is_invented() -> None:
    """A backend without sessions has none behind the gateway."""

    async def story() -> None:
        async def script(exchange: Exchange) -> None:
            await exchange.answer(initialized() if b"initialize" in exchange.seen.body else result())

        async with pair(script) as (gate, backend), connected(gate) as client:
            assert "mcp-session-id" not in (await client.ask(initialize())).fields
            assert (await client.ask(call())).status == 200
            assert "mcp-session-id" not in backend.seen[-1].fields

    run(story())


@pytest.mark.requirement("PM-29")
def test_delete_and_a_dead_session() -> None:
    """DELETE reaches the backend with its own id; its 404 afterwards reaches the client as 404."""

    async def story() -> None:
        ended = False

        async def script(exchange: Exchange) -> None:
            nonlocal ended
            if exchange.seen.method == "DELETE":
                ended = True
            if ended and exchange.seen.method == "POST":
                await exchange.answer(b"<h1>gone</h1>", status="404 Not Found", headers={"content-type": "text/html"})
            else:
                await polite(exchange)

        async with pair(script) as (gate, backend), connected(gate) as client:
            session = {"mcp-session-id": await open_session(client)}
            assert (await client.ask(None, session, method="DELETE")).status == 200
            assert backend.seen[-1].fields["mcp-session-id"] == "backend-session-7"
            answer = await client.ask(call("z"), session)
            assert answer.failure == (404, "upstream_http")
            assert answer.message["id"] == "z"

    run(story())


def test_a_session_survives_a_restart_with_the_same_key() -> None:
    """The id carries its own state: any gateway that has the key can serve it."""
    environ = {"MOONGATE_KEY": "ab" * 32}

    async def story() -> None:
        async with Backend(polite) as backend:
            text = json.dumps({"mcpServers": {"one": {"url": backend.url, "type": "streamable-http"}}})
            async with gateway(text, environ=environ) as gate, connected(gate) as client:
                good = await open_session(client)
            async with gateway(text, environ=environ) as gate, connected(gate) as client:
                assert (await client.ask(call(), {"mcp-session-id": good})).status == 200

    run(story())
