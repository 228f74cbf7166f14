"""Bytes in flight: nobody's slowness fills memory, whoever goes away is noticed, and a stop finishes what it can."""

from __future__ import annotations

import asyncio
import resource
from pathlib import Path

import pytest

from moongate.testing import Backend, Exchange, Gateway
from moongate.upstreams.http import HttpUpstream
from moongate.wire.server import ServerConnection
from tests.hostile.talk import PING, PONG, Client, client, echo, head, narrow_client, post, run, served, turned

STREAM = b"GET /mcp/time HTTP/1.1\r\nhost: 127.0.0.1\r\naccept: text/event-stream\r\n\r\n"
MIB = 1024 * 1024


def _resident() -> int:
    """Bytes of this process that are in memory now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def _descriptors() -> int:
    """How many files and sockets this process has open."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


async def _flood(exchange: Exchange) -> None:
    """Fifty megabytes of events, as fast as they are taken."""
    await exchange.stream()
    event = b"data: " + b"x" * (64 * 1024 - 8) + b"\n\n"
    sent = 0
    while sent < 50 * MIB:
        await exchange.chunk(event)
        sent += len(event)
    await exchange.chunk(b"data: " + PONG + b"\n\n")
    await exchange.close_stream()


def _buffered(gate: Gateway, connection: ServerConnection) -> int:
    """What the gateway itself holds of a stream: unread pieces of the backend, unsent ones to the client."""
    upstream = gate.runtime.plane.plan.upstreams[0]
    assert isinstance(upstream, HttpUpstream)
    return sum(other._waiting for other in upstream._pool._open) + connection._transport.get_write_buffer_size()


@pytest.mark.parametrize("request_bytes", [STREAM, post()], ids=["GET stream", "POST answered by a stream"])
def test_a_slow_client_holds_back_the_backend(request_bytes: bytes) -> None:
    """The gateway keeps less than two megabytes of fifty while the client reads nothing, and loses none of it."""

    async def work() -> None:
        async with Backend(_flood) as backend, served(backend) as gate, narrow_client(gate) as (peer, connection):
            await peer.send(request_bytes)
            most = 0
            for _ in range(200):
                await asyncio.sleep(0.005)
                most = max(most, _buffered(gate, connection))
            assert 0 < most < 2 * MIB, most

    run(work())


def test_fifty_megabytes_pass_whole() -> None:
    """Every byte, in order, with bounded memory on the way."""

    async def work() -> None:
        async with Backend(_flood) as backend, served(backend) as gate, client(gate.port, limit=256 * 1024) as peer:
            await peer.send(post())
            await peer.reader.readuntil(b"\r\n\r\n")
            total, most = 0, 0
            connection = next(iter(gate.runtime.binds[0].server.connections))
            async with asyncio.timeout(30):
                while size := int(await peer.reader.readuntil(b"\r\n"), 16):
                    total += len(await peer.reader.readexactly(size + 2)) - 2
                    most = max(most, _buffered(gate, connection))
            assert total == 800 * 64 * 1024 + len(b"data: " + PONG + b"\n\n")
            assert most < 2 * MIB

    run(work())


def test_a_slow_backend_does_not_make_an_upload_grow() -> None:
    """Twenty megabytes that nobody takes cost about twenty, not a multiple of them."""

    async def work() -> None:
        arrived, go = asyncio.Event(), asyncio.Event()

        async def stuck(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            arrived.set()
            async with asyncio.timeout(10):
                await go.wait()
            writer.close()

        server = await asyncio.start_server(stuck, "127.0.0.1", 0, limit=1024)
        backend = Backend(echo)
        backend.port = server.sockets[0].getsockname()[1]
        before = _resident()
        async with served(backend) as gate, client(gate.port) as peer:
            peer.writer.write(head(b"content-length: %d\r\n" % (20 * MIB)))
            piece = PING[:-1] + b" " * (MIB - len(PING)) + b" "
            for number in range(20):
                await peer.send(piece if not number else b" " * (MIB - 1) + (b"}" if number == 19 else b" "))
            async with asyncio.timeout(10):
                await arrived.wait()
            grown = _resident() - before
            go.set()
            server.close()
        assert grown < 100 * MIB, grown

    run(work())


@pytest.mark.parametrize("way", ["FIN", "RST"])
@pytest.mark.parametrize("stage", ["idle", "head", "body", "waiting", "stream"])
def test_a_client_that_vanishes_is_noticed_at_once(way: str, stage: str) -> None:
    """Whatever it was doing: its connection is gone within a second, and no task of it stays."""

    async def work() -> None:
        asked, never = asyncio.Event(), asyncio.Event()

        async def script(exchange: Exchange) -> None:
            asked.set()
            if stage == "stream":
                await exchange.stream()
                await exchange.gone()
            elif stage == "waiting":
                async with asyncio.timeout(1):
                    await never.wait()

        data = {
            "idle": b"",
            "head": post()[:20],
            "body": post()[:-5],
            "waiting": post(),
            "stream": STREAM,
        }[stage]
        async with Backend(script) as backend, served(backend) as gate:
            server = gate.runtime.binds[0].server
            async with client(gate.port) as peer:
                await peer.send(data)
                assert await turned(lambda: len(server.connections) == 1)
                if stage in ("waiting", "stream"):
                    async with asyncio.timeout(5):
                        await asked.wait()
                _vanish(peer, way)
                assert await turned(lambda: not server.connections, 1)
            if stage == "stream":
                assert await turned(lambda: not server.tasks, 1)
                assert await turned(lambda: backend.open == 0, 1)

    run(work())


def _vanish(peer: Client, way: str) -> None:
    if way == "RST":
        peer.reset()
    else:
        peer.writer.close()


def test_a_client_that_vanishes_behind_unread_requests_is_noticed() -> None:
    """Also when so much is pipelined behind a quiet stream that reading has stopped."""

    async def work() -> None:
        async def quiet(exchange: Exchange) -> None:
            await exchange.stream()
            await exchange.gone()

        async with Backend(quiet) as backend, served(backend) as gate:
            server = gate.runtime.binds[0].server
            async with client(gate.port) as peer:
                await peer.send(STREAM)
                await peer.reader.readuntil(b"\r\n\r\n")
                await peer.send(post() * 2000)
                peer.reset()
            assert await turned(lambda: not server.connections, 2)

    run(work())


async def _stop(gate: Gateway) -> float:
    loop = asyncio.get_running_loop()
    started = loop.time()
    async with asyncio.timeout(8):
        for bind in gate.runtime.binds.values():
            bind.close_sockets()
            await bind.server.close(gate.runtime.plane.plan.snapshot.limits.drain_seconds)
    return loop.time() - started


def test_a_stop_finishes_what_is_in_flight() -> None:
    """Idle connections end at once; a call is answered, then its connection ends; nobody else gets in."""

    async def work() -> None:
        asked, go = asyncio.Event(), asyncio.Event()

        async def script(exchange: Exchange) -> None:
            if b"slow" in exchange.seen.body:
                asked.set()
                async with asyncio.timeout(5):
                    await go.wait()
            await exchange.answer(PONG)

        slow = b'{"jsonrpc":"2.0","id":1,"method":"slow"}'
        async with (
            Backend(script) as backend,
            served(backend, "drainTime: 5s") as gate,
            client(gate.port) as idle,
            client(gate.port) as busy,
            client(gate.port) as begun,
        ):
            assert (await idle.call()).status == 200
            await begun.send(post()[:30])
            await busy.send(post(slow) + post())
            async with asyncio.timeout(5):
                await asked.wait()
            async with asyncio.TaskGroup() as group:
                stopping = group.create_task(_stop(gate))
                assert await idle.ends()
                assert await begun.ends()
                assert not stopping.done()
                go.set()
                answer = await busy.answer()
                assert (answer.status, answer.get("connection")) == (200, "close")
                assert await busy.ends()
            assert stopping.result() < 4
            assert len(backend.seen) == 2
            with pytest.raises(ConnectionError):
                await asyncio.open_connection("127.0.0.1", gate.port)

    run(work())


def test_a_stop_cuts_what_takes_too_long() -> None:
    """At the limit, not before and not long after."""

    async def work() -> None:
        asked = asyncio.Event()

        async def script(exchange: Exchange) -> None:
            asked.set()
            await exchange.gone()

        async with Backend(script) as backend, served(backend, "drainTime: 300ms") as gate, client(gate.port) as peer:
            await peer.send(post())
            async with asyncio.timeout(5):
                await asked.wait()
            assert 0.25 < await _stop(gate) < 2
            assert b"HTTP/1.1 200" not in await peer.rest()

    run(work())


def test_a_stop_ends_open_streams_cleanly() -> None:
    """A GET stream has no end of its own: it gets its last chunk at once."""

    async def work() -> None:
        async def script(exchange: Exchange) -> None:
            await exchange.stream()
            await exchange.gone()

        async with Backend(script) as backend, served(backend, "drainTime: 5s") as gate, client(gate.port) as peer:
            await peer.send(STREAM)
            await peer.reader.readuntil(b"\r\n\r\n")
            assert await _stop(gate) < 1
            assert await peer.rest() == b"0\r\n\r\n"

    run(work())


def test_nothing_is_left_open_after_many_broken_calls() -> None:
    """Neither descriptors nor tasks: clients that vanish at every point of a call."""

    async def work() -> None:
        async with Backend(echo) as backend, served(backend) as gate:
            async with client(gate.port) as peer:
                assert (await peer.call()).status == 200
            server = gate.runtime.binds[0].server
            assert await turned(lambda: not server.connections)
            before = _descriptors()
            data = post() + STREAM
            for cut in range(1, len(data), 3):
                async with client(gate.port) as peer:
                    await peer.send(data[:cut])
            assert await turned(lambda: not server.connections and not server.tasks)
            assert await turned(lambda: _descriptors() <= before + 4)

    run(work())
