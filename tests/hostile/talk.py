"""A client that speaks bytes, and what the tests around a whole gateway share."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import uvloop

from moongate.testing import Backend, Exchange, Gateway, gateway
from moongate.wire.server import ServerConnection

T = TypeVar("T")

SECONDS = 5.0
PATH = b"/mcp/time"
PING = b'{"jsonrpc":"2.0","id":1,"method":"ping"}'
PONG = b'{"jsonrpc":"2.0","id":1,"result":{}}'
_NO_BODY = (204, 304)


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a test on the event loop that the gateway is served with."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


@dataclass(frozen=True)
class Answer:
    """One response as it came. `fields` keep their order, names in lower case."""

    status: int
    fields: list[tuple[str, str]]
    body: bytes
    head: bytes

    def all(self, name: str) -> list[str]:
        """Every value of a field."""
        return [value for other, value in self.fields if other == name]

    def get(self, name: str) -> str | None:
        """Its first value."""
        return next(iter(self.all(name)), None)


class Client:
    """One connection. Whatever it reads is bounded in time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        """Raw bytes; a peer that has gone away meanwhile is found by whoever reads."""
        self.writer.write(data)
        try:
            await self.writer.drain()
        except ConnectionError:
            return

    async def answer(self, method: str = "POST") -> Answer:
        """The next response, interim ones included."""
        async with asyncio.timeout(SECONDS):
            return await self._answer(method)

    async def _answer(self, method: str) -> Answer:
        head = await self.reader.readuntil(b"\r\n\r\n")
        first, *rest = head[:-4].decode("latin-1").split("\r\n")
        fields = [(name.lower(), value.strip(" \t")) for name, _, value in (line.partition(":") for line in rest)]
        status = int(first.split(" ")[1])
        names = dict(fields)
        if method == "HEAD" or status < 200 or status in _NO_BODY:
            body = b""
        elif "transfer-encoding" in names:
            body = await self._chunks()
        elif "content-length" in names:
            body = await self.reader.readexactly(int(names["content-length"]))
        else:
            body = await self.reader.read()
        return Answer(status, fields, body, head)

    async def _chunks(self) -> bytes:
        body = b""
        while size := int(await self.reader.readuntil(b"\r\n"), 16):
            body += await self.reader.readexactly(size)
            assert await self.reader.readexactly(2) == b"\r\n"
        assert await self.reader.readexactly(2) == b"\r\n"
        return body

    async def rest(self) -> bytes:
        """Everything up to the end of the connection. TimeoutError if it does not end."""
        data = b""
        async with asyncio.timeout(SECONDS):
            try:
                while piece := await self.reader.read(65536):
                    data += piece
            except ConnectionError:
                return data
        return data

    async def ends(self) -> bool:
        """Whether nothing more comes and the gateway closes the connection."""
        return await self.rest() == b""

    async def call(self, body: bytes = PING, lines: bytes = b"", path: bytes = PATH) -> Answer:
        """One ordinary POST and its answer."""
        await self.send(post(body, lines, path))
        return await self.answer()

    def reset(self) -> None:
        """Vanish with RST."""
        self.writer.transport.abort()


def post(body: bytes = PING, lines: bytes = b"", path: bytes = PATH, version: bytes = b"1.1") -> bytes:
    """A sized POST; `lines` are further whole header lines."""
    return head(b"content-length: %d\r\n" % len(body) + lines, path, version) + body


def head(lines: bytes, path: bytes = PATH, version: bytes = b"1.1") -> bytes:
    """The head of a POST without framing of its own."""
    return (
        b"POST %b HTTP/%b\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
        b"accept: application/json, text/event-stream\r\n%b\r\n" % (path, version, lines)
    )


def narrow_socket() -> socket.socket:
    """A socket that takes little before its peer notices that nobody reads."""
    narrow = socket.socket()
    narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    narrow.setblocking(False)
    return narrow


@asynccontextmanager
async def narrow_client(gate: Gateway) -> AsyncIterator[tuple[Client, ServerConnection]]:
    """A client that reads only when told to, and its connection in the gateway: almost nothing fits in between."""
    narrow = narrow_socket()
    await asyncio.get_running_loop().sock_connect(narrow, ("127.0.0.1", gate.port))
    reader, writer = await asyncio.open_connection(sock=narrow, limit=1024)
    server = next(iter(gate.runtime.binds.values())).server
    try:
        assert await turned(lambda: server.connections)
        connection = next(iter(server.connections))
        pipe = connection._transport.get_extra_info("socket")
        pipe.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        yield Client(reader, writer), connection
    finally:
        writer.transport.abort()


@asynccontextmanager
async def client(port: int, *, limit: int = 1 << 24) -> AsyncIterator[Client]:
    """A connection to a gateway."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=limit)
    try:
        yield Client(reader, writer)
    finally:
        writer.transport.abort()


async def echo(exchange: Exchange) -> None:
    """The script of a well-behaved backend."""
    await exchange.answer(PONG)


def configuration(backend: Backend, limits: str = "") -> str:
    """One open instance, `time`, in front of `backend`. `limits` is the inside of a flow mapping."""
    return (
        f"gateway:\n  limits: {{{limits}}}\nmcpServers:\n"
        f"  time: {{url: '{backend.url}', type: streamable-http, timeout: 2000, sseReadTimeout: 4000}}\n"
    )


@asynccontextmanager
async def served(backend: Backend, limits: str = "") -> AsyncIterator[Gateway]:
    """A gateway in front of a running backend."""
    async with gateway(configuration(backend, limits)) as running:
        yield running


async def until(happened: asyncio.Event, seconds: float = SECONDS) -> None:
    """A bounded wait for something that is announced."""
    async with asyncio.timeout(seconds):
        await happened.wait()


async def turned(condition: Any, seconds: float = SECONDS) -> bool:  # noqa: ANN401 - any callable that gives a truth
    """A bounded wait for something that nobody announces: asked again every few turns of the loop."""
    loop = asyncio.get_running_loop()
    limit = loop.time() + seconds
    while not condition():
        if loop.time() > limit:
            return False
        await asyncio.sleep(0.005)
    return True
