"""A messenger's streams: those of calls are resumed, the GET stream is opened again; nothing comes twice."""

from __future__ import annotations

import asyncio
import time
from itertools import pairwise

import pytest

from moongate.errors import FailureClass
from moongate.testing import Exchange, Script
from tests.proxy.messaging import (
    Forgetful,
    answering,
    methods,
    note,
    refusing,
    resumes,
    talking,
)
from tests.proxy.talk import (
    call,
    event,
    polite,
    result,
    run,
    until,
)


def resumable(*turns: list[bytes], retry: int | None = 50, status: str = "200 OK") -> Script:
    """A backend whose stream for a tool call breaks behind each of `turns` but the last; the GETs go on with it."""
    left = list(turns)

    async def script(exchange: Exchange) -> None:
        seen = exchange.seen
        resumed = seen.method == "GET" and "last-event-id" in seen.fields
        if not resumed and b'"tools/call"' not in seen.body:
            await polite(exchange)
        elif resumed and status != "200 OK":
            await exchange.answer(b"", status=status)
        elif not left:
            await exchange.stream()
            await exchange.close_stream()
        else:
            await exchange.stream()
            if retry is not None:
                await exchange.chunk(b"retry: %d\n\n" % retry)
            for data in left.pop(0):
                await exchange.chunk(data)
            if left:
                exchange.reset()
            else:
                await exchange.close_stream()

    return script


def test_a_broken_stream_with_event_ids_is_resumed_until_the_answer() -> None:
    """Always by GET with the last id, in the same session; what comes again is not delivered again."""
    turns = [
        [b"id: a\ndata:\n\n"],
        [event(note(1), "b"), event(note(2), "c")],
        [event(note(2), "c"), event(note(3), "d")],
        [event(result(1), "e")],
    ]

    async def story() -> None:
        async with talking(resumable(*turns)) as (client, backend):
            await client.shake_hands()
            client.heard.clear()
            await client.say(call(1))
            assert client.heard == [note(1), note(2), note(3), result(1)]
            assert resumes(backend) == ["a", "c", "d"]
            assert all(seen.fields["mcp-session-id"] == "backend-session-7" for seen in backend.seen[1:])

    run(story())


def test_the_server_says_how_long_to_wait() -> None:
    """`retry` is honoured to the millisecond's order; without it a second passes."""

    async def story() -> None:
        for retry, least, most in ((400, 0.4, 0.9), (None, 1.0, 1.6), (999_999_999, 3.0, 60.0)):
            turns = [[b"id: a\ndata:\n\n"], [event(result(1), "b")]]
            async with talking(resumable(*turns, retry=retry)) as (client, _):
                began = time.monotonic()
                asking = client.later(call(1))
                done, _ = await asyncio.wait((asking,), timeout=3.0)
                assert least <= time.monotonic() - began < most
                assert bool(done) is (most < 3)

    run(story())


@pytest.mark.parametrize("status", ["405 Method Not Allowed", "400 Bad Request", "404 Not Found"])
def test_a_server_that_refuses_to_resume_is_asked_once(status: str) -> None:
    """The request fails at once then, as with a server without event ids."""

    async def story() -> None:
        script = resumable([event(note(1), "a")], [event(result(1), "b")], status=status)
        async with talking(script) as (client, backend):
            await client.shake_hands()
            failure = await client.fails(call(1))
            assert (failure.failure, failure.ids) == (FailureClass.UPSTREAM_HTTP, (b"1",))
            assert resumes(backend) == ["a"]

    run(story())


@pytest.mark.parametrize("status", ["500 Internal Server Error", "200 OK"])
def test_resuming_without_progress_ends(status: str) -> None:
    """A bounded number of tries, further and further apart."""

    async def story() -> None:
        async with talking(resumable([event(note(1), "a")], retry=1, status=status)) as (client, backend):
            began = time.monotonic()
            await client.fails(call(1))
            assert 2 <= len(resumes(backend)) <= 6
            assert time.monotonic() - began < 6

    run(story())


@pytest.mark.parametrize("status", ["405 Method Not Allowed", "404 Not Found", "406 Not Acceptable", "400 Bad Request"])
def test_a_server_without_a_get_stream_is_asked_once(status: str) -> None:
    """It simply has none."""

    async def story() -> None:
        async with talking(answering("GET", refusing(status))) as (client, backend):
            await client.shake_hands()
            await until(lambda: "GET" in methods(backend))
            await client.say(call(1))
            await until(lambda: not len(client.tasks))
            assert methods(backend) == ["initialize", "notifications/initialized", "GET", "tools/call"]

    run(story())


def test_the_get_stream_is_opened_again_where_it_broke() -> None:
    """With the last event id, and without doubles; first soon, then later and later."""

    async def story() -> None:
        opened: list[float] = []

        async def script(exchange: Exchange) -> None:
            opened.append(time.monotonic())
            if len(opened) in {2, 3}:
                exchange.reset()
                return
            await exchange.stream()
            if len(opened) == 1:
                await exchange.chunk(event(note(1), "a") + event(note(2), "b"))
                exchange.reset()
                return
            await exchange.chunk(event(note(2), "b") + event(note(3), "c"))
            await exchange.gone()

        async with talking(answering("GET", script)) as (client, backend):
            await client.shake_hands()
            client.heard.clear()
            await until(lambda: len(client.heard) == 3, 8.0)
            assert client.heard == [note(1), note(2), note(3)]
            assert resumes(backend) == ["b", "b", "b"]
            gaps = [later - sooner for sooner, later in pairwise(opened)]
            assert 0.4 < gaps[0] < 0.9
            assert gaps[1] >= gaps[0] * 0.9
            assert gaps[2] > gaps[1] * 1.5

    run(story())


def test_a_lost_session_is_noticed_on_the_get_stream() -> None:
    """A server that has restarted can be heard again without a call in between."""

    async def story() -> None:
        server = Forgetful()
        async with talking(server) as (client, _):
            await client.shake_hands()
            await until(lambda: bool(server.streams))
            server.forget()
            await until(lambda: bool(server.streams))
            await server.streams[0].chunk(event(note(7)))
            await until(lambda: note(7) in client.heard)
            assert server.count == 2

    run(story())
