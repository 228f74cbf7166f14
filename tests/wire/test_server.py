"""One server connection with a handler of the test's own: what a gateway's short answers do not bring about."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import cast

import pytest

from moongate.wire import server as wire_server
from moongate.wire.deadlines import Deadlines
from moongate.wire.messages import MalformedMessage, RequestHead
from moongate.wire.server import Handler, Server, ServerConnection
from tests.hostile.talk import Client, narrow_socket, run, turned

GET = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"
LARGE = bytes(4_000_000)


@dataclass
class _Limits:
    head_bytes: int = 4096
    header_count: int = 20
    connections: int = 10
    head_seconds: float = 5.0
    body_seconds: float = 5.0
    idle_seconds: float = 0.5
    write_seconds: float = 0.5


async def _whole(connection: ServerConnection, _: RequestHead | MalformedMessage) -> None:
    connection.answer(connection.frame(200, b"", len(LARGE)), LARGE)


async def _pieces(connection: ServerConnection, _: RequestHead | MalformedMessage) -> None:
    connection.begin(connection.frame(200, b"", None))
    connection.put(LARGE)
    connection.end(b"x")


@asynccontextmanager
async def _serving(handler: Handler) -> AsyncIterator[tuple[Server, Client]]:
    loop = asyncio.get_running_loop()
    server = Server(handler, _Limits(), Deadlines(loop))
    accepting = socket.create_server(("127.0.0.1", 0))
    accepting.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)  # what is accepted inherits it
    listening = await loop.create_server(server.connect, sock=accepting)
    narrow = narrow_socket()
    await loop.sock_connect(narrow, accepting.getsockname())
    reader, writer = await asyncio.open_connection(sock=narrow, limit=4096)
    try:
        yield server, Client(reader, writer)
    finally:
        writer.transport.abort()
        listening.close()
        await server.close(0.1)


HANDLERS = pytest.mark.parametrize("handler", [_whole, _pieces])


@HANDLERS
def test_a_connection_whose_large_answer_was_taken_slowly_still_has_its_idle_limit(handler: Handler) -> None:
    """Catching up with an answer does not make a quiet connection eternal."""

    async def work() -> None:
        async with _serving(handler) as (server, peer):
            await peer.send(GET)
            await asyncio.sleep(0.1)  # the answer is stuck on its way
            assert len((await peer.answer()).body) >= len(LARGE)
            assert await turned(lambda: not server.connections, 3), "it is still open"

    run(work())


@HANDLERS
@pytest.mark.parametrize("lines", [b"", b"connection: close\r\n"], ids=["kept alive", "closing"])
def test_a_client_that_takes_nothing_of_a_large_answer_is_let_go(handler: Handler, lines: bytes) -> None:
    """After the time that it may refuse to take it."""

    async def work() -> None:
        async with _serving(handler) as (server, peer):
            await peer.send(GET[:-2] + lines + b"\r\n")
            assert await turned(lambda: len(server.connections) == 1)
            assert await turned(lambda: not server.connections, 3), "it is still open"

    run(work())


@HANDLERS
def test_a_slow_client_gets_the_whole_of_a_closing_answer(handler: Handler, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when it has sent more than was read: what was promised arrives as long as it reads on."""
    monkeypatch.setattr(wire_server, "LINGER_SECONDS", 0.2)

    async def work() -> None:
        async with _serving(handler) as (_, peer):
            await peer.send(GET[:-2] + b"connection: close\r\n\r\n" + GET * 5)
            peer.writer.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
            head = await peer.reader.readuntil(b"\r\n\r\n")
            assert b"connection: close" in head
            total = 0
            async with asyncio.timeout(10):
                while piece := await peer.reader.read(100_000):
                    total += len(piece)
                    await asyncio.sleep(0.005)  # slow, but never still
            assert total >= len(LARGE)

    run(work())


def test_one_slow_reader_does_not_stop_another() -> None:
    """Each connection waits for itself."""

    async def work() -> None:
        async with _serving(_whole) as (server, stuck):
            await stuck.send(GET)
            assert await turned(lambda: len(server.connections) == 1)
            other = _Echo()
            await asyncio.get_running_loop().create_connection(
                lambda: other, *next(iter(server.connections))._transport.get_extra_info("sockname")[:2]
            )
            other.transport.write(GET)
            assert await turned(lambda: other.received > len(LARGE), 3)
            other.transport.abort()

    run(work())


class _Echo(asyncio.Protocol):
    def __init__(self) -> None:
        self.received = 0
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self.received += len(data)
