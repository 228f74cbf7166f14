"""What a messenger sends when: order, cancellation, mirrored headers, bounds, back-pressure."""

from __future__ import annotations

import asyncio
import json

import pytest

from moongate.protocol.jsonrpc import Envelope, parse
from moongate.protocol.revisions import check_mirrors
from moongate.testing import Exchange
from tests.proxy.messaging import (
    READY,
    answering,
    methods,
    note,
    posted,
    silent,
    talking,
)
from tests.proxy.talk import (
    call,
    event,
    initialize,
    initialized,
    modern_call,
    polite,
    result,
    run,
    until,
)


def test_what_must_keep_its_order_keeps_it() -> None:
    """Initialize and notifications are accepted before the next message leaves; requests overlap."""

    async def story() -> None:
        gate = asyncio.Event()
        together = asyncio.Event()
        running = 0

        async def script(exchange: Exchange) -> None:
            nonlocal running
            seen = exchange.seen
            if b'"initialize"' in seen.body or b"notifications/initialized" in seen.body:
                await gate.wait()
            elif b'"tools/call"' in seen.body:
                running += 1
                if running == 2:
                    together.set()
                await together.wait()
            await polite(exchange)

        async with talking(script) as (client, backend):
            said = [initialize(), READY, call(1), call(2), b'{"jsonrpc":"2.0","method":"notifications/x"}', call(3)]
            posts = [client.later(body) for body in said]
            await until(lambda: len(backend.seen) == 1)
            answer = client.later(b'{"jsonrpc":"2.0","id":"s-1","result":{}}')  # of the server's own request: at once
            await until(lambda: len(backend.seen) == 2)
            assert methods(backend) == ["initialize", "answer"]
            gate.set()
            await asyncio.gather(*posts, answer)
            order = [name for name in methods(backend) if name != "GET"]
            assert order == [
                "initialize",
                "answer",
                "notifications/initialized",
                "tools/call",
                "tools/call",
                "notifications/x",
                "tools/call",
            ]

    run(story())


def cancelled(message_id: int, **meta: object) -> bytes:
    """The client does not want the answer any more."""
    params = {"requestId": message_id, **({"_meta": meta} if meta else {})}
    return json.dumps({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params}).encode()


def test_a_cancellation_is_passed_on_in_a_session() -> None:
    """The server decides what becomes of the call; its answer, if there is one, is delivered."""

    async def story() -> None:
        heard = asyncio.Event()

        async def script(exchange: Exchange) -> None:
            if b"notifications/cancelled" in exchange.seen.body:
                heard.set()
            elif b'"tools/call"' in exchange.seen.body:
                await heard.wait()
            await polite(exchange)

        async with talking(script) as (client, backend):
            await client.shake_hands()
            asking = client.later(call(1))
            await until(lambda: "tools/call" in methods(backend))
            await client.say(cancelled(1))
            await asking
            assert client.heard[-1] == result(1)
            await client.say(cancelled(99))
            assert methods(backend)[-1] == "notifications/cancelled"

    run(story())


def test_a_cancelled_call_that_is_never_answered_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Most servers leave its stream open; it would stay for ever."""
    monkeypatch.setattr("moongate.proxy.messenger.CANCEL_SECONDS", 0.2)

    async def story() -> None:
        async with talking(answering("tools/call", silent)) as (client, backend):
            await client.shake_hands()
            asking = client.later(call(1))
            await until(lambda: "tools/call" in methods(backend))
            await client.say(cancelled(1))
            await asking
            assert client.heard == [initialized()]

    run(story())


def test_a_modern_request_is_cancelled_by_closing_its_stream() -> None:
    """2026-07-28: the disconnect is the cancellation; nothing is posted, no error is told."""

    async def story() -> None:
        closed = asyncio.Event()

        async def script(exchange: Exchange) -> None:
            await exchange.stream()
            await exchange.chunk(event(note(1)))
            if await exchange.gone():
                closed.set()

        async with talking(answering("tools/call", script)) as (client, backend):
            asking = client.later(modern_call(1)[0])
            await until(lambda: client.heard == [note(1)])
            await client.say(cancelled(1))
            await asking
            async with asyncio.timeout(2):
                await closed.wait()
            await client.say(cancelled(1))
            assert methods(backend) == ["tools/call"]

    run(story())


@pytest.mark.parametrize(
    ("method", "target", "name"),
    [
        ("tools/call", {"name": "moonrise"}, "moonrise"),
        ("tools/call", {"name": "Mondaufgang für alle"}, "=?base64?TW9uZGF1ZmdhbmcgZsO8ciBhbGxl?="),
        ("tools/call", {"name": "a\r\nx-evil: 1"}, "=?base64?YQ0KeC1ldmlsOiAx?="),
        ("tools/call", {"name": " a"}, "=?base64?IGE=?="),
        ("tools/call", {"name": "=?base64?YQ==?="}, "=?base64?PT9iYXNlNjQ/WVE9PT89?="),
        ("tools/call", {"name": "two words"}, "two words"),
        ("resources/read", {"uri": "file:///moon"}, "file:///moon"),
        ("prompts/get", {"name": "p"}, "p"),
        ("tasks/get", {"taskId": "t"}, "t"),
        ("tools/list", {"name": "x"}, None),
    ],
)
def test_headers_mirror_the_body_of_a_modern_request(method: str, target: dict[str, str], name: str | None) -> None:
    """Version, method and name, encoded where they are not plain; nothing of a session."""
    body, _ = modern_call(1)
    said = json.loads(body)
    said["method"] = method
    said["params"] = {**target, "_meta": said["params"]["_meta"]}
    text = json.dumps(said).encode()

    async def story() -> None:
        async with talking(polite) as (client, backend):
            await client.shake_hands()
            await client.say(text)
            fields = backend.seen[-1].fields
            assert fields["mcp-protocol-version"] == "2026-07-28"
            assert fields["mcp-method"] == method
            assert fields.get("mcp-name") == name
            assert not {"mcp-session-id", "x-evil"} & fields.keys()
            raw = backend.seen[-1]
            envelope = parse(raw.body, 100)
            assert isinstance(envelope, Envelope)
            check_mirrors({key.encode(): value.encode("latin-1") for key, value in fields.items()}, (), envelope)

    run(story())


def test_no_header_line_can_be_brought_in() -> None:
    """Neither by a version nor by a method nor by what the server says."""
    body, _ = modern_call(1)

    async def story() -> None:
        async def script(exchange: Exchange) -> None:
            if b'"initialize"' in exchange.seen.body:
                await exchange.answer(
                    initialized("2025-06-18\r\nx-evil: 1"), headers={"mcp-session-id": "backend-session-7"}
                )
            else:
                await polite(exchange)

        async with talking(script) as (client, backend):
            await client.shake_hands()
            await client.say(body.replace(b"2026-07-28", b"2026-07-28\\r\\nx-evil: 1"))
            await client.say(body.replace(b"tools/call", b"tools/call\\r\\nx-evil: 1"))
            assert len(posted(backend)) == 4
            assert not any("x-evil" in seen.fields for seen in backend.seen)

    run(story())


def test_the_requests_in_flight_are_bounded_and_answers_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the bound requests wait; what the server needs to go on does not."""
    monkeypatch.setattr("moongate.proxy.messenger.MAX_IN_FLIGHT", 3)

    async def story() -> None:
        release = asyncio.Event()

        async def script(exchange: Exchange) -> None:
            if b'"answer-' in exchange.seen.body:
                release.set()
            elif b'"tools/call"' in exchange.seen.body:
                await release.wait()
            await polite(exchange)

        async with talking(script) as (client, backend):
            posts = [client.later(call(number)) for number in range(6)]
            await until(lambda: len(backend.seen) == 3)
            await client.say(cancelled(5))  # it has not left yet: the server need not hear of it
            posts.append(client.later(b'{"jsonrpc":"2.0","id":"answer-1","result":{}}'))
            await asyncio.gather(*posts)
            assert methods(backend) == [*["tools/call"] * 3, "answer", *["tools/call"] * 2]
            assert sorted(client.heard) == sorted(map(result, range(5)))

    run(story())


def test_back_pressure_reaches_the_server() -> None:
    """While the client takes nothing, no more than a bounded part of a stream is read."""

    async def story() -> None:
        sent = 0
        taking = asyncio.Event()

        async def script(exchange: Exchange) -> None:
            nonlocal sent
            await exchange.stream()
            for number in range(2000):
                await exchange.chunk(event(note(number)[:-2] + b',"x":"' + b"y" * 10_000 + b'"}}'))
                sent += 1
            await exchange.chunk(event(result(1)))
            await exchange.close_stream()

        async with talking(answering("tools/call", script)) as (client, _):
            client.taking = taking
            taking.clear()
            asking = client.later(call(1))
            before = -1
            while before != sent or not sent:
                before = sent
                await asyncio.sleep(0.2)
            assert sent < 1500
            taking.set()
            await asking
            assert len(client.heard) == 2001

    run(story())
