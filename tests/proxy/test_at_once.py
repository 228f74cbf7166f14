"""A call whose head came before is begun at once, no turn of a task needed. Nothing else is different."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from moongate.tasks import Tasks
from moongate.testing import Backend, Exchange, Gateway
from moongate.wire.messages import RequestHead
from moongate.wire.server import ServerConnection
from tests.proxy.talk import (
    Answer,
    Client,
    call,
    config,
    connected,
    error,
    event,
    modern_call,
    pair,
    polite,
    records,
    result,
    run,
    settled,
    until,
)
from tests.proxy.test_faults import JSON, head
from tests.runtime.test_reload import apply

Script = Callable[[Exchange], Awaitable[None]]


@dataclass
class Begun:
    """What `at_once` said, request by request."""

    said: list[bool] = field(default_factory=list)


def watched(gate: Gateway) -> Begun:
    """Listen to what `at_once` says from now on."""
    server = next(iter(gate.runtime.binds.values())).server
    begun, before = Begun(), server.at_once

    def at_once(connection: ServerConnection, request: RequestHead) -> bool:
        said = before(connection, request)
        begun.said.append(said)
        return said

    server.at_once = at_once
    return begun


@asynccontextmanager
async def warm(script: Script, **entry: Any) -> AsyncIterator[tuple[Gateway, Backend, Client, Begun]]:  # noqa: ANN401
    """A gateway, and a client whose head it knows: the first call was answered politely, `script` gets the others."""
    calls = 0

    async def turn(exchange: Exchange) -> None:
        nonlocal calls
        calls += 1
        await (polite(exchange) if calls == 1 else script(exchange))

    async with pair(turn, **entry) as (gate, backend), connected(gate) as client:
        begun = watched(gate)
        assert (await client.ask(call())).status == 200
        assert begun.said == [False]
        yield gate, backend, client, begun


async def _gone(exchange: Exchange) -> None:
    await exchange.gone()


async def _closes(exchange: Exchange) -> None:
    exchange.writer.close()


async def _resets(exchange: Exchange) -> None:
    exchange.reset()


async def _interim(exchange: Exchange) -> None:
    await exchange.send(b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n")
    await exchange.answer(result())


async def _in_two(exchange: Exchange) -> None:
    whole = head("200 OK", JSON, body=result())
    for byte in (whole[:20], whole[20:-9], whole[-9:]):
        await exchange.send(byte)
        await asyncio.sleep(0.02)


async def _events(exchange: Exchange) -> None:
    await exchange.stream()
    await exchange.chunk(event(b'{"jsonrpc":"2.0","method":"notifications/x"}'))
    await exchange.chunk(event(result()))
    await exchange.close_stream()


async def _redirects(exchange: Exchange) -> None:
    if exchange.seen.target == "/mcp":
        await exchange.answer(b"", status="307 Temporary Redirect", headers={"location": "/mcp/"})
    else:
        await exchange.answer(result())


async def _breaks_off(exchange: Exchange) -> None:
    await exchange.send(head("200 OK", JSON, body=b'{"jsonrpc"', length=100))
    exchange.writer.close()


def _answers(body: bytes, **answer: Any) -> Script:  # noqa: ANN401 - what `answer` takes
    async def script(exchange: Exchange) -> None:
        await exchange.answer(body, **answer)

    return script


# What the backend does -> what the client and the record must say.
ENDS: dict[str, tuple[Script, int, str | None]] = {
    "answers": (_answers(result()), 200, None),
    "answers an error": (_answers(error()), 200, "jsonrpc_error"),
    "fails as a tool": (_answers(result(isError=True, content=[])), 200, "tool_error"),
    "answers at length": (_answers(result(text="x" * 300_000)), 200, None),
    "answers in pieces": (_in_two, 200, None),
    "answers after a hint": (_interim, 200, None),
    "answers in events": (_events, 200, None),
    "redirects": (_redirects, 200, None),
    "accepts": (_answers(b"", status="202 Accepted"), 502, "upstream_protocol"),
    "refuses": (_answers(b"no", status="503 Busy"), 503, "upstream_http"),
    "speaks otherwise": (_answers(b"<html>", headers={"content-type": "text/html"}), 502, "upstream_protocol"),
    "lies": (_answers(b"{"), 502, "upstream_protocol"),
    "closes": (_closes, 502, "upstream_reset"),
    "resets": (_resets, 502, "upstream_reset"),
    "breaks off": (_breaks_off, 502, "upstream_reset"),
    "is silent": (_gone, 504, "upstream_timeout"),
}


def essence(answer: Answer) -> tuple[int, bytes, list[str]]:
    """What must be the same, whatever way a call went."""
    own = answer.fields["x-request-id"].encode()
    return answer.status, answer.body.replace(own, b"ID"), sorted(name for name, _ in answer.lines if name != "date")


@pytest.mark.parametrize("name", ENDS)
def test_it_ends_as_it_would_without(name: str) -> None:
    """Whatever the backend does: the same answer and record for the first call of a head and for the second."""
    script, status, failure = ENDS[name]

    async def story() -> None:
        async with pair(script, timeout=300) as (gate, backend), connected(gate) as cold:
            plain = await cold.ask(call())
        async with warm(script, timeout=300) as (gate, backend, client, begun):
            answer = await client.ask(call())
            assert begun.said == [False, True]
            assert essence(answer) == essence(plain)
            assert answer.status == status
            found = records(gate)
            assert [record.get("failure") for record in found] == [None, failure]
            assert found[1]["status"] == status
            assert found[1]["requestId"] == answer.fields["x-request-id"]
            client.vanish()
            await settled(gate)
            gate.runtime.plane.plan.close()
            await settled(gate, backend)

    run(story())


@pytest.mark.parametrize("modern", [False, True], ids=["legacy", "modern"])
@pytest.mark.parametrize("then", ["answers", "resets", "never"])
def test_a_client_that_leaves_meanwhile(then: str, modern: bool) -> None:
    """Its call has one record that says so, and nothing is left of it; a modern call is stopped at the backend."""
    body, headers = modern_call() if modern else (call(), {})

    async def story() -> None:
        here, went = asyncio.Event(), asyncio.Event()
        stopped: list[bool] = []

        async def script(exchange: Exchange) -> None:
            if not first.is_set():
                first.set()
                await polite(exchange)
                return
            here.set()
            await went.wait()
            if modern or then == "never":
                stopped.append(await exchange.gone())
            elif then == "resets":
                exchange.reset()
            else:
                await exchange.answer(result())

        first = asyncio.Event()
        async with pair(script, timeout=400) as (gate, backend), connected(gate) as client:
            begun = watched(gate)
            assert (await client.ask(body, headers)).status == 200
            await client.send(body, headers)
            await here.wait()
            assert begun.said == [False, True]
            client.vanish()
            server = next(iter(gate.runtime.binds.values())).server
            await until(lambda: not server.connections)
            went.set()
            await until(lambda: len(gate.records()) == 2)
            assert records(gate)[1]["failure"] == "client_closed"
            await settled(gate)
            gate.runtime.plane.plan.close()
            await settled(gate, backend)
            assert stopped == ([True] if modern or then == "never" else [])

    run(story())


@pytest.mark.parametrize("modern", [False, True], ids=["legacy", "modern"])
@pytest.mark.parametrize("then", ["never", "late"])
@pytest.mark.parametrize("connection", ["kept", "new"])
def test_a_gateway_that_stops_meanwhile(connection: str, then: str, modern: bool) -> None:
    """It waits as long as it may; then the call is cut off, and recorded once, whatever the backend says later."""
    body, headers = modern_call() if modern else (call(), {})
    answered = {"connection": "close"} if connection == "new" else {}

    async def story() -> None:
        first, here, late = asyncio.Event(), asyncio.Event(), asyncio.Event()

        async def script(exchange: Exchange) -> None:
            if not first.is_set():
                first.set()
                await exchange.answer(result(), headers=answered)
                return
            here.set()
            if then == "late":
                await late.wait()
                await exchange.answer(result())
            await exchange.gone()

        async with pair(script) as (gate, backend), connected(gate) as client:
            begun = watched(gate)
            assert (await client.ask(body, headers)).status == 200
            await client.send(body, headers)
            await here.wait()
            assert begun.said == [False, True]
            server = next(iter(gate.runtime.binds.values())).server
            await server.close(0.1)
            late.set()
            await until(lambda: backend.open == 0)
            found = records(gate)
            assert [record.get("failure") for record in found] == [None, "client_closed"]
            await client.closed()

    run(story())


def test_a_gateway_that_stops_lets_it_finish() -> None:
    """Within its limit."""

    async def story() -> None:
        here, go = asyncio.Event(), asyncio.Event()

        async def script(exchange: Exchange) -> None:
            here.set()
            await go.wait()
            await exchange.answer(result())

        async with warm(script, gateway_block={"limits": {"drainTime": "5s"}}) as (gate, _, client, _):
            await client.send(call())
            await here.wait()
            closing = Tasks("test").spawn(gate.runtime.stop(), "closing")
            await asyncio.sleep(0)
            go.set()
            assert (await client.answer()).status == 200
            await closing
            assert [record["status"] for record in records(gate)] == [200, 200]

    run(story())


def test_calls_sent_ahead_are_answered_in_order() -> None:
    """Ten calls in one piece: each is judged, sent and answered, one after the other."""

    async def story() -> None:
        async with warm(polite) as (gate, _, client, begun):
            lengths = {len(call(number)) for number in range(10, 20)}
            assert len(lengths) == 1
            one = io_head(len(call(10)))
            await client.write(b"".join(one + call(number) for number in range(10, 20)))
            answers = [(await client.answer()).message["id"] for _ in range(10)]
            assert answers == list(range(10, 20))
            assert begun.said[1:].count(True) >= 1
            assert len({record["requestId"] for record in records(gate)}) == 11

    run(story())


def io_head(length: int) -> bytes:
    """The head that `Client.send` writes."""
    lines = ["POST /mcp/one HTTP/1.1", "host: 127.0.0.1", "content-type: application/json"]
    lines += ["accept: application/json, text/event-stream", f"content-length: {length}"]
    return "\r\n".join([*lines, "", ""]).encode()


@pytest.mark.parametrize("body", [b"{", b"[]", call().replace(b'"id": 1', b'"id": 1, "id": 2'), b""])
def test_what_is_refused_is_refused_at_once(body: bytes) -> None:
    """A message that cannot be judged never reaches the backend, and the connection goes on."""

    async def story() -> None:
        async with warm(polite) as (gate, backend, client, begun):
            answer = await client.ask(body)
            assert answer.failure == (400, "bad_request")
            assert (await client.ask(call())).status == 200
            assert begun.said == [False, True, True]
            assert len(backend.seen) == 2
            assert [record["status"] for record in records(gate)] == [200, 400, 200]

    run(story())


def test_bodies_that_are_long_or_come_late_take_their_turn() -> None:
    """What has to be waited for is not begun at once, and what is too large is refused as ever."""
    long = call(text="x" * 100_000)

    async def story() -> None:
        async with warm(polite, gateway_block={"limits": {"bodyBytes": 200_000}}) as (_, _, client, begun):
            assert (await client.ask(long)).status == 200
            await client.send(b"", {"content-length": str(len(call()))})
            await until(lambda: len(begun.said) == 3)
            await client.write(call())
            assert (await client.answer()).status == 200
            assert (await client.ask(call(text="x" * 300_000))).failure == (413, "too_large")
            assert begun.said == [False, False, False, False]

    run(story())


def test_a_reload_meanwhile() -> None:
    """A call in flight ends as the old configuration says; the next ones as the new one does, for heads alike."""

    async def story() -> None:
        here, go = asyncio.Event(), asyncio.Event()

        async def script(exchange: Exchange) -> None:
            here.set()
            await go.wait()
            await exchange.answer(result(), headers={"x-debug": "1"})

        async with pair(script) as (gate, backend), connected(gate) as client:
            go.set()
            assert (await client.ask(call())).fields["x-debug"] == "1"
            go.clear()
            here.clear()
            await client.send(call())
            await here.wait()
            await apply(gate, config(backend.url, responseHeaderModifier={"remove": ["x-debug"]}))
            go.set()
            assert (await client.answer()).fields["x-debug"] == "1"
            for _ in range(3):
                assert "x-debug" not in (await client.ask(call())).fields

    run(story())


def test_reloads_without_a_call_in_between() -> None:
    """What is remembered of a backend that nobody has called can be forgotten, too."""

    async def story() -> None:
        async with pair(polite) as (gate, backend), connected(gate) as client:
            for depth in (101, 102):
                await apply(gate, config(backend.url, gateway={"limits": {"jsonDepth": depth}}))
            assert (await client.ask(call())).status == 200

    run(story())
