"""The words of HTTP+SSE tests: a scripted server of 2024-11-05, and a raw client of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

from moongate.testing import Backend, Exchange, Gateway, gateway
from tests.proxy.talk import Answer, Client, config, connected, initialize, result

ENDPOINT = b"event: endpoint\ndata: /messages/?session_id=backend-7\n\n"
NOTE = b'{"jsonrpc":"2.0","method":"notifications/initialized"}'
TARGET = "/messages/?session_id=backend-7"


class Stream(Exchange):
    """The backend's end of a GET stream. Several may wait for its end."""

    def __init__(self, exchange: Exchange) -> None:
        super().__init__(exchange.seen, exchange.reader, exchange.writer)
        self.over = asyncio.Event()

    async def gone(self) -> bool:
        """Wait until the gateway has closed the connection."""
        await self.over.wait()
        return True

    async def stays(self, seconds: float) -> None:
        """It is still open for so long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.over.wait()
        assert not self.over.is_set()


class SseServer:
    """A scripted HTTP+SSE server. `first` is what its streams begin with; None: the test writes them, head and all.

    POSTs get 202, and what `answer` makes of the message is sent on the newest stream.
    """

    def __init__(self, first: bytes | None = ENDPOINT) -> None:
        self.first = first
        self.streams: asyncio.Queue[Stream] = asyncio.Queue()
        self.newest: Stream | None = None
        self.backend = Backend(self._serve)
        self.posted: Callable[[Exchange], Awaitable[None]] = accept
        self.answer: Callable[[dict[str, Any]], bytes | None] = answer

    async def _serve(self, exchange: Exchange) -> None:
        if exchange.seen.method == "GET":
            stream = self.newest = Stream(exchange)
            if self.first is not None:
                await stream.stream()
                await stream.chunk(self.first)
            self.streams.put_nowait(stream)
            await exchange.gone()
            stream.over.set()
            return
        await self.posted(exchange)
        data = self.answer(json.loads(exchange.seen.body)) if exchange.seen.body else None
        if data is not None and self.newest is not None:
            await self.newest.chunk(b"event: message\r\ndata: " + data + b"\r\n\r\n")

    @property
    def posts(self) -> list[str]:
        """Where messages were posted to."""
        return [seen.target for seen in self.backend.seen if seen.method == "POST"]


async def accept(exchange: Exchange) -> None:
    """What SDK servers say to every message."""
    await exchange.answer(b"Accepted", status="202 Accepted", headers={"content-type": "text/plain"})


def answer(message: dict[str, Any]) -> bytes | None:
    """What a server with one tool answers."""
    if message.get("method") == "initialize":
        version = message["params"]["protocolVersion"]
        return result(
            message["id"], protocolVersion=version, capabilities={}, serverInfo={"name": "tide", "version": "1"}
        )
    if message.get("method") == "tools/list":
        return result(message["id"], tools=[{"name": "moonrise", "inputSchema": {"type": "object"}}])
    return result(message["id"]) if "id" in message and "method" in message else None


@asynccontextmanager
async def sse_pair(
    server: SseServer | None = None,
    *,
    gateway_block: Mapping[str, object] | None = None,
    environ: Mapping[str, str] | None = None,
    **entry: Any,  # noqa: ANN401 - any JSON
) -> AsyncIterator[tuple[Gateway, SseServer]]:
    """A server of HTTP+SSE (one that is not running yet) and a gateway in front of it."""
    server = server or SseServer()
    entry = {"type": "sse", **entry}
    async with AsyncExitStack() as stack:
        if not server.backend.port:
            await stack.enter_async_context(server.backend)
        text = config(server.backend.url, gateway=gateway_block, **entry)
        yield await stack.enter_async_context(gateway(text, environ=environ)), server


class SseClient:
    """A client of 2024-11-05. `address` is what the endpoint event named."""

    def __init__(self, stream: Client, poster: Client, head: Answer) -> None:
        self.stream = stream
        self.poster = poster
        self.head = head
        self.address = ""
        self.headers: dict[str, str] = {}
        self._text = b""

    async def event(self) -> bytes:
        """The next event, comments included, as it came."""
        while (end := self._end()) < 0:
            piece = await self.stream.piece()
            assert piece, f"the stream has ended: {self._text!r}"
            self._text += piece
        found, self._text = self._text[:end], self._text[end:]
        return found

    def _end(self) -> int:
        ends = [self._text.find(mark) + len(mark) for mark in (b"\n\n", b"\r\n\r\n") if mark in self._text]
        return min(ends, default=-1)

    async def message(self) -> dict[str, Any]:
        """The next message."""
        while not (event := await self.event()).startswith((b"data:", b"event: message")):
            assert event.startswith(b":"), event
        found = json.loads(b"\n".join(line[5:] for line in event.splitlines() if line.startswith(b"data:")))
        assert isinstance(found, dict)
        return found

    async def ended(self) -> bytes:
        """What comes until the stream ends properly."""
        rest = self._text
        while piece := await self.stream.piece():
            rest += piece
        return rest

    async def post(self, body: bytes, headers: Mapping[str, str] | None = None) -> Answer:
        """One message."""
        return await self.poster.ask(body, {**self.headers, **(headers or {})}, path=self.address)


@asynccontextmanager
async def listening(
    gate: Gateway,
    path: str = "/mcp/one/events",
    headers: Mapping[str, str] | None = None,
    host: str = "127.0.0.1",
) -> AsyncIterator[SseClient]:
    """A client whose stream is open and whose address is known."""
    async with connected(gate) as stream, connected(gate) as poster:
        await stream.send(headers=headers, method="GET", path=path, host=host)
        head = await stream.head()
        assert head.status == 200, (await stream.body(head)).body
        client = SseClient(stream, poster, head)
        client.headers = dict(headers or {})
        first = await client.event()
        name, data = first.rstrip().split(b"\n")
        assert name == b"event: endpoint"
        client.address = data.removeprefix(b"data: ").decode()
        yield client


async def open_session(client: SseClient) -> None:
    """The handshake."""
    assert (await client.post(initialize("2024-11-05"))).status == 202
    assert (await client.message())["result"]["protocolVersion"] == "2024-11-05"
    assert (await client.post(NOTE)).status == 202
