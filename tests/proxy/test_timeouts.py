"""`timeout` and `sseReadTimeout`: when they cut, and what they never cut."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest

from moongate.testing import Exchange
from tests.proxy.talk import call, connected, event, last_record, modern_call, pair, result, run, settled

NOTE = event(b'{"jsonrpc":"2.0","method":"notifications/x"}')


@pytest.mark.parametrize("modern", [False, True])
@pytest.mark.requirement("PM-16", "PM-50")
def test_a_slow_backend_fails_after_timeout_milliseconds(modern: bool) -> None:
    """300 against a backend that needs 2 s: 504 after 0.3 to 0.6 s."""
    body, headers = modern_call() if modern else (call(), {})

    async def story() -> None:
        async def script(exchange: Exchange) -> None:
            async with asyncio.timeout(2):
                await exchange.gone()

        async with pair(script, timeout=300) as (gate, backend), connected(gate) as client:
            started = time.monotonic()
            answer = await client.ask(body, headers)
            assert 0.3 <= time.monotonic() - started <= 0.6
            assert answer.failure == (504, "upstream_timeout")
            client.vanish()
            await settled(gate, backend)

    run(story())


async def _late_head(exchange: Exchange) -> None:
    await asyncio.sleep(0.7)
    await exchange.send(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 40\r\n\r\n")
    await exchange.gone()


async def _late_chunked_head(exchange: Exchange) -> None:
    await asyncio.sleep(0.7)
    await exchange.send(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n")
    await exchange.gone()


async def _late_stream(exchange: Exchange) -> None:
    await asyncio.sleep(0.7)
    await exchange.stream()
    await exchange.gone()


async def _comments(exchange: Exchange) -> None:
    await exchange.stream()
    try:
        while True:
            await exchange.chunk(b": still here\n\n")
            await asyncio.sleep(0.05)
    except ConnectionError:
        pass


async def _late_error(exchange: Exchange) -> None:
    await asyncio.sleep(0.7)
    await exchange.send(
        b"HTTP/1.1 500 Internal Server Error\r\ncontent-type: application/json\r\ncontent-length: 40\r\n\r\n"
    )
    await exchange.gone()


@pytest.mark.parametrize("script", [_late_head, _late_chunked_head, _late_stream, _comments, _late_error])
@pytest.mark.requirement("PM-16", "PM-17")
def test_timeout_runs_to_the_first_body_byte_or_event(script: Callable[[Exchange], Awaitable[None]]) -> None:
    """A head, or comments on a stream, prove nothing and do not start the limit anew."""

    async def story() -> None:
        async with pair(script, timeout=1000) as (gate, _), connected(gate) as client:
            started = time.monotonic()
            answer = await client.ask(call())
            assert 1.0 <= time.monotonic() - started <= 1.35
            if script is _comments:  # they were passed on, so the error comes as an event
                assert answer.status == 200
                assert b'"class":"upstream_timeout"' in answer.body.rpartition(b": still here\n\n")[2]
            else:
                assert answer.status == (500 if script is _late_error else 504)

    run(story())


@pytest.mark.parametrize("kind", ["json", "chunked json", "event stream"])
@pytest.mark.requirement("PM-17")
def test_timeout_never_cuts_what_still_delivers(kind: str) -> None:
    """`timeout` 300 and an answer that takes 1.2 s to come, with something every 150 ms."""

    async def story() -> None:
        body = result(1, text="m" * 90_000)

        async def script(exchange: Exchange) -> None:
            if kind == "json":
                await exchange.send(
                    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
                )
            else:
                await exchange.stream({"content-type": "application/json"} if kind == "chunked json" else None)
            step = len(body) // 8 + 1
            for start in range(0, len(body), step):
                part = body[start : start + step]
                if kind == "event stream":
                    await exchange.chunk(NOTE)
                else:
                    await (exchange.send(part) if kind == "json" else exchange.chunk(part))
                await asyncio.sleep(0.15)
            if kind == "event stream":
                await exchange.chunk(event(result()))
            if kind != "json":
                await exchange.close_stream()

        async with pair(script, timeout=300, sseReadTimeout=400) as (gate, _), connected(gate) as client:
            answer = await client.ask(call())
            assert answer.body == (8 * NOTE + event(result()) if kind == "event stream" else body)

    run(story())


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.requirement("PM-18")
def test_silence_closes_a_stream(method: str) -> None:
    """500 on a stream that goes silent ends it after about half a second."""

    async def story() -> None:
        async def script(exchange: Exchange) -> None:
            await exchange.stream()
            await exchange.chunk(NOTE)
            await exchange.gone()

        async with pair(script, sseReadTimeout=500) as (gate, backend), connected(gate) as client:
            await client.send(call() if method == "POST" else None, method=method)
            head = await client.head()
            assert await client.text(b"\n\n") == NOTE
            started = time.monotonic()
            rest = (await client.body(head)).body
            assert 0.4 <= time.monotonic() - started <= 0.8
            assert (b"upstream_timeout" in rest) == (method == "POST")
            record = await last_record(gate, 2 if method == "GET" else 1)
            assert record["failure"] == "upstream_timeout"
            client.vanish()
            await settled(gate, backend)

    run(story())


async def _talking(seconds: float, what: bytes) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.stream()
        try:
            while True:
                await exchange.chunk(what)
                await asyncio.sleep(0.3)
        except ConnectionError:
            pass

    async with pair(script, timeout=400, sseReadTimeout=500) as (gate, _), connected(gate) as client:
        await client.send(None, method="GET")
        await client.head()
        started = time.monotonic()
        while time.monotonic() - started < seconds:
            assert await client.piece() == what


@pytest.mark.parametrize("what", [NOTE, b": comment\n\n"], ids=["events", "comments"])
@pytest.mark.requirement("PM-18", "PM-17")
def test_a_stream_with_data_lives(what: bytes) -> None:
    """Something every 300 ms with a limit of 500: it lives, on comments too."""
    run(_talking(2.5, what))


@pytest.mark.long
@pytest.mark.timeout(200)
@pytest.mark.requirement("PM-18")
def test_a_stream_with_data_lives_for_minutes() -> None:
    """The same for two minutes."""

    async def story() -> None:
        await _talking(120, NOTE)

    with asyncio.Runner() as runner:
        runner.run(story())


@pytest.mark.requirement("PM-18")
def test_comments_are_inserted_where_they_are_wanted() -> None:
    """`keepAlive`: comment lines on a quiet stream, between whole events only."""

    async def story() -> None:
        async def script(exchange: Exchange) -> None:
            await exchange.stream()
            await exchange.chunk(NOTE + b'data: {"jsonrpc"')
            await asyncio.sleep(0.5)
            await exchange.chunk(b':"2.0","id":1,"result":{}}\n\n')
            await exchange.close_stream()

        async with pair(script, keepAlive="100ms") as (gate, _), connected(gate) as client:
            answer = await client.ask(call())
            assert answer.body.count(b": keep-alive\n\n") >= 2
            assert answer.body.replace(b": keep-alive\n\n", b"") == NOTE + event(
                b'{"jsonrpc":"2.0","id":1,"result":{}}'
            )

    run(story())


@pytest.mark.requirement("PM-16")
def test_the_backend_may_take_its_time_up_to_the_limit() -> None:
    """An answer just before the limit arrives whole."""

    async def story() -> None:
        async def script(exchange: Exchange) -> None:
            await asyncio.sleep(0.25)
            await exchange.answer(result())

        async with pair(script, timeout=500) as (gate, _), connected(gate) as client:
            assert (await client.ask(call())).status == 200

    run(story())
