"""HTTP+SSE servers that break off, lie about their address, or answer in an order of their own."""

from __future__ import annotations

import asyncio
import gzip
from contextlib import suppress

import pytest

from moongate.testing import Exchange
from tests.proxy.sse_talk import ENDPOINT, NOTE, SseServer, accept, listening, sse_pair
from tests.proxy.talk import call, connected, last_record, log_lines, records, result, run, until


def test_a_later_endpoint_elsewhere_ends_the_stream() -> None:
    """What came before it passes, it does not."""

    async def story() -> None:
        async with sse_pair() as (gate, server), listening(gate) as client:
            stream = await server.streams.get()
            await stream.chunk(b"data: before\n\nevent: endpoint\ndata: http://elsewhere.test/x\n\n")
            assert await client.event() == b"data: before\n\n"
            assert await client.ended() == b""
            assert await stream.gone()
            record = await last_record(gate, 2)
            assert (record["phase"], record["failure"]) == ("close", "upstream_protocol")

    run(story())


@pytest.mark.parametrize("tail", [[b"\nevent: end", b"point\n\n"], [b"\r\nevent:endpoint\r\n\r\n"]])
def test_a_later_endpoint_that_must_pass_in_parts_never_passes_whole(tail: list[bytes]) -> None:
    """An address so long that it is under way before it is known to be one: the connection is cut."""

    async def story() -> None:
        async with sse_pair() as (gate, server), listening(gate) as client:
            stream = await server.streams.get()
            await stream.chunk(b"data: /" + b"a" * 70_000)
            await client.stream.text(b"a" * 1000)  # it has begun to pass
            for text in tail:
                await stream.chunk(text)
            assert await stream.gone()
            with suppress(asyncio.IncompleteReadError):
                await client.ended()
            assert b"endpoint" not in client.stream.raw.partition(b"data: /a")[2]
            assert (await last_record(gate, 2))["failure"] == "upstream_protocol"

    run(story())


def test_a_compressed_stream_that_is_cut_off_is_a_protocol_error() -> None:
    """What arrived passes; the record tells that something is missing."""

    async def story() -> None:
        server = SseServer(None)

        async def script(exchange: Exchange) -> None:
            await exchange.stream({"content-encoding": "gzip"})
            await exchange.chunk(gzip.compress(ENDPOINT + b": and more\n\n")[:-8])
            await exchange.close_stream()

        server.backend.script = script
        async with sse_pair(server) as (gate, _), listening(gate) as client:
            assert await client.ended() == b": and more\n\n"
            assert (await last_record(gate, 2))["failure"] == "upstream_protocol"

    run(story())


def test_an_answer_may_overtake_the_status_of_its_post() -> None:
    """The event comes first, then the status: one record, and the POST is answered all the same."""

    async def story() -> None:
        server = SseServer()
        seen = asyncio.Event()
        server.answer = lambda _: None

        async def posted(exchange: Exchange) -> None:
            assert server.newest is not None
            await server.newest.chunk(b"data: " + result(3) + b"\n\n")
            await seen.wait()
            await accept(exchange)

        server.posted = posted
        async with sse_pair(server) as (gate, _), listening(gate) as client:
            posting = asyncio.gather(client.post(call(3)))
            assert (await client.message())["id"] == 3
            seen.set()
            assert (await posting)[0].status == 202
            assert (await last_record(gate, 2))["method"] == "tools/call"

    run(story())


def test_a_post_that_breaks_off_after_its_answer_is_accepted() -> None:
    """The call was answered on the stream and is recorded as that, once."""

    async def story() -> None:
        server = SseServer()
        seen = asyncio.Event()
        server.answer = lambda _: None

        async def posted(exchange: Exchange) -> None:
            assert server.newest is not None
            await server.newest.chunk(b"data: " + result(3) + b"\n\n")
            await seen.wait()
            exchange.reset()

        server.posted = posted
        async with sse_pair(server) as (gate, _), listening(gate) as client:
            posting = asyncio.gather(client.post(call(3)))
            assert (await client.message())["id"] == 3
            seen.set()
            assert (await posting)[0].status == 202
            record = await last_record(gate, 2)
            assert (record["method"], record.get("failure")) == ("tools/call", None)

    run(story())


def test_a_post_that_breaks_off_is_a_bad_gateway() -> None:
    """502 with the id of the call; its record is its own, and the stream goes on."""

    async def story() -> None:
        server = SseServer()
        server.answer = lambda _: None

        async def posted(exchange: Exchange) -> None:
            exchange.reset()

        server.posted = posted
        async with sse_pair(server) as (gate, _), listening(gate) as client:
            with log_lines():
                answer = await client.post(call(3))
            assert answer.failure == (502, "upstream_reset")
            assert answer.message["id"] == 3
            assert (await last_record(gate, 2))["failure"] == "upstream_reset"
            server.posted = accept
            assert (await client.post(NOTE)).status == 202

    run(story())


def test_a_call_that_waits_for_a_probe_longer_than_its_stream_lasts_is_recorded() -> None:
    """Its stream ends meanwhile: it is carried out all the same, and recorded with its status."""

    async def story() -> None:
        server = SseServer()
        server.answer = lambda _: None
        serve = server.backend.script
        gets = 0
        go_on, probing = asyncio.Event(), asyncio.Event()

        async def script(exchange: Exchange) -> None:
            nonlocal gets
            if exchange.seen.method == "GET":
                gets += 1
                if gets == 3:  # the stream of another client: what was known of the server is in doubt
                    await exchange.answer(b"busy", status="400 Bad Request", headers={"content-type": "text/plain"})
                    return
                if gets == 4:
                    probing.set()
                    await go_on.wait()
            await serve(exchange)

        server.backend.script = script
        async with sse_pair(server, type=None) as (gate, _), listening(gate) as client, connected(gate) as other:
            with log_lines():
                assert (await other.ask(method="GET", path="/mcp/one/events")).status == 400
            await client.poster.send(call(3), path=client.address)
            await probing.wait()
            client.stream.vanish()
            await until(lambda: gate.runtime.plane.doors.streams == 0)
            go_on.set()
            assert (await client.poster.answer()).status == 202
            await until(lambda: records(gate)[-1]["method"] == "tools/call")
            assert (records(gate)[-1]["status"], "failure" in records(gate)[-1]) == (202, False)

    run(story())


def test_a_call_posted_to_a_stream_that_has_just_ended_is_recorded() -> None:
    """A session that is closed awaits nothing more."""

    async def story() -> None:
        server = SseServer()
        server.answer = lambda _: None
        async with sse_pair(server) as (gate, _), listening(gate) as client:
            session = next(iter(gate.runtime.plane.doors._streams.values()))
            session.close()
            assert (await client.post(call(3))).status == 202
            assert records(gate)[-1]["method"] == "tools/call"
            assert not session.waiting

    run(story())
