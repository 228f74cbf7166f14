"""Connections to backends: used again only when that is safe, never after they have closed, and none is lost."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import cast

import pytest

from moongate.errors import FailureClass, UpstreamError
from moongate.testing import Backend, Exchange, Gateway, gateway
from moongate.upstreams.http import HttpUpstream
from moongate.wire import client as wire_client
from moongate.wire.client import Origin, Pool, UpstreamConnection
from moongate.wire.deadlines import Deadlines
from tests.hostile.talk import PONG, client, echo, post, run, served, turned

REQUEST = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


@asynccontextmanager
async def _pool(port: int, host: str = "127.0.0.1") -> AsyncIterator[Pool]:
    pool = Pool(Origin(host, port), Deadlines(asyncio.get_running_loop()), 2.0)
    try:
        yield pool
    finally:
        pool.close()
        for connection in tuple(pool._open):
            connection.close()


def _pool_of(gate: Gateway) -> Pool:
    upstream = gate.runtime.plane.plan.upstreams[0]
    assert isinstance(upstream, HttpUpstream)
    return upstream._pool


@asynccontextmanager
async def _listening(
    serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[int]:
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def _exchange(pool: Pool) -> UpstreamConnection:
    connection = pool.idle() or await pool.connect()
    connection.start(REQUEST, b"")
    async with asyncio.timeout(2):
        await connection.response()
        assert await connection.read() == b"ok"
    pool.release(connection)
    return connection


def test_a_connection_is_used_again() -> None:
    """One after the other, the youngest first."""

    async def work() -> None:
        async with Backend(lambda exchange: exchange.send(OK)) as backend, _pool(backend.port) as pool:
            first = await _exchange(pool)
            assert await _exchange(pool) is first
            assert backend.connections == 1

    run(work())


@pytest.mark.parametrize("way", ["FIN", "RST"])
def test_a_connection_that_the_backend_has_closed_is_not_used(way: str) -> None:
    """Resting connections are watched; a call meets a new one instead."""

    async def work() -> None:
        async def script(exchange: Exchange) -> None:
            await exchange.send(OK)
            if way == "RST":
                exchange.reset()
            else:
                exchange.writer.close()

        async with Backend(script) as backend, _pool(backend.port) as pool:
            first = await _exchange(pool)
            assert await turned(lambda: first.closed)
            assert pool.idle() is None
            assert await _exchange(pool) is not first
            assert backend.connections == 2

    run(work())


def test_a_connection_that_was_sent_something_unasked_is_not_used() -> None:
    """It belongs to no request, so nobody may read it as an answer."""

    async def work() -> None:
        async def script(exchange: Exchange) -> None:
            await exchange.send(OK)
            await asyncio.sleep(0.02)
            await exchange.send(OK)

        async with Backend(script) as backend, _pool(backend.port) as pool:
            first = await _exchange(pool)
            assert await turned(lambda: first.closed)
            assert pool.idle() is None

    run(work())


def test_a_resting_connection_ends_before_backends_end_theirs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its age is limited, whether it is asked for or not."""
    monkeypatch.setattr(wire_client, "IDLE_SECONDS", 0.2)

    async def work() -> None:
        async with Backend(lambda exchange: exchange.send(OK)) as backend, _pool(backend.port) as pool:
            first = await _exchange(pool)
            assert await turned(lambda: first.closed, 2)
            assert pool.idle() is None
            assert not pool._open
            assert not pool._deadlines._watched

    run(work())


KEPT = [
    (b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok", False),
    (b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok", False),
    (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok!", False),
    (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", True),
    (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nx: y\r\n\r\n", True),
    (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n0\r\n\r\n", False),
    (b"HTTP/1.1 100 C\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", True),
]


@pytest.mark.parametrize(("answer", "kept"), KEPT)
def test_when_a_connection_is_kept(answer: bytes, kept: bool) -> None:
    """Only after an answer that ended exactly, from a backend that does not close."""

    async def work() -> None:
        async with Backend(lambda exchange: exchange.send(answer)) as backend, _pool(backend.port) as pool:
            first = await _exchange(pool)
            assert (pool.idle() is first) is kept

    run(work())


def test_a_connection_with_an_unread_answer_is_not_kept() -> None:
    """Whoever stops in mid-answer closes it."""

    async def work() -> None:
        async with Backend(lambda exchange: exchange.send(OK[:-1])) as backend, _pool(backend.port) as pool:
            connection = await pool.connect()
            connection.start(REQUEST, b"")
            await connection.response()
            pool.release(connection)
            assert connection.closed
            assert pool.idle() is None
            assert not pool._open

    run(work())


def test_backends_that_close_at_once_leave_nothing_behind() -> None:
    """Neither in the pool nor under the clock, however early they close."""

    async def closing(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    async def work() -> None:
        async with _listening(closing) as port, _pool(port) as pool:
            for _ in range(200):
                connection = await pool.connect()
                connection.start(REQUEST, b"")
                with pytest.raises(UpstreamError) as caught:
                    async with asyncio.timeout(2):
                        await connection.response()
                assert caught.value.failure is FailureClass.UPSTREAM_RESET
                pool.release(connection)
            assert await turned(lambda: not pool._open and not pool._deadlines._watched, 2), len(pool._open)

    run(work())


def test_a_connection_lost_between_connecting_and_use_leaves_nothing_behind() -> None:
    """The backend closes while the gateway's own task has not come to its turn."""

    async def work() -> None:
        listening = socket.create_server(("127.0.0.1", 0))
        try:
            async with _pool(listening.getsockname()[1]) as pool:
                loop = asyncio.get_running_loop()
                connection = UpstreamConnection(loop)
                protocol = cast("asyncio.Protocol", connection)
                transport, _ = await loop.create_connection(lambda: protocol, *listening.getsockname())
                transport.abort()
                assert await turned(lambda: connection.closed)

                async def lost(*_: object) -> UpstreamConnection:
                    return connection

                pool.opener = lost
                with pytest.raises(UpstreamError):
                    await pool.connect()
                assert not pool._open
                assert not pool._deadlines._watched
        finally:
            listening.close()

    run(work())


def test_a_post_is_never_sent_twice() -> None:
    """A backend that reads it and then closes gets it once; the client hears of it."""

    async def work() -> None:
        async def script(exchange: Exchange) -> None:
            if len(backend.seen) == 1:
                await exchange.answer(PONG)
            else:
                exchange.reset()

        async with Backend(script) as backend, served(backend) as gate, client(gate.port) as peer:
            assert (await peer.call()).status == 200
            assert (await peer.call()).status == 502
            assert len(backend.seen) == 2
            assert backend.connections == 1

    run(work())


def test_a_call_after_the_backend_closed_its_resting_connections_succeeds() -> None:
    """Nobody notices but the backend, which sees a new connection."""

    async def work() -> None:
        async def script(exchange: Exchange) -> None:
            await exchange.answer(PONG)
            exchange.writer.close()

        async with Backend(script) as backend, served(backend) as gate, client(gate.port) as peer:
            for number in range(1, 6):
                assert (await peer.call()).status == 200
                assert await turned(lambda: backend.open == 0)
                pool = _pool_of(gate)
                assert await turned(lambda pool=pool: not pool._open)
                assert backend.connections == number

    run(work())


def test_calls_at_once_have_connections_of_their_own_and_share_them_later() -> None:
    """No answer waits behind another one."""

    async def work() -> None:
        together = asyncio.Barrier(20)

        async def script(exchange: Exchange) -> None:
            if len(backend.seen) <= 20:
                async with asyncio.timeout(5):
                    await together.wait()
            await exchange.answer(PONG)

        async def call(port: int) -> None:
            async with client(port) as peer:
                assert (await peer.call()).status == 200

        async with Backend(script) as backend, served(backend) as gate:
            async with asyncio.TaskGroup() as group:
                for _ in range(20):
                    group.create_task(call(gate.port))
            assert backend.connections == 20
            for _ in range(5):
                await call(gate.port)
            assert backend.connections == 20

    run(work())


def _ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


@pytest.mark.skipif(not _ipv6(), reason="this machine has no IPv6 loopback")
def test_a_backend_on_ipv6() -> None:
    """Its address is a literal in brackets, in the configuration and in `Host`."""

    async def work() -> None:
        backend = Backend(echo)
        server = await asyncio.start_server(backend._accept, "::1", 0, limit=1 << 20)
        backend.port = server.sockets[0].getsockname()[1]
        try:
            config = f"mcpServers:\n  time: {{url: 'http://[::1]:{backend.port}/mcp', type: streamable-http}}\n"
            async with gateway(config) as gate, client(gate.port) as peer:
                assert (await peer.call()).body == PONG
                assert backend.seen[0].fields["host"] == f"[::1]:{backend.port}"
        finally:
            server.close()
            await backend._tasks.close()

    run(work())


def test_a_client_that_goes_away_in_a_legacy_call_leaves_a_usable_connection() -> None:
    """The answer is read to its end, the connection goes back to the pool, the next call uses it."""

    async def work() -> None:
        asked, go = asyncio.Event(), asyncio.Event()

        async def script(exchange: Exchange) -> None:
            asked.set()
            async with asyncio.timeout(5):
                await go.wait()
            await exchange.answer(PONG)

        async with Backend(script) as backend, served(backend) as gate:
            async with client(gate.port) as peer:
                await peer.send(post())
                async with asyncio.timeout(5):
                    await asked.wait()
            server = gate.runtime.binds[0].server
            assert await turned(lambda: not server.connections)
            go.set()
            async with client(gate.port) as peer:
                pool = _pool_of(gate)
                assert await turned(lambda: len(pool._idle) == 1)
                assert (await peer.call()).body == PONG
            assert backend.connections == 1

    run(work())
