"""A raw HTTP/1.1 client that keeps every byte it was given, and the words that all tests of the request path share."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import uvloop

from moongate.audit.redact import RedactingFormatter
from moongate.testing import Backend, Exchange, Gateway, Script, gateway

LIMIT = 20.0
JSON_TYPES = {"content-type": "application/json", "accept": "application/json, text/event-stream"}
MODERN = "2026-07-28"
META = "io.modelcontextprotocol/"


def run(story: Coroutine[Any, Any, None], limit: float = LIMIT) -> None:
    """Run one test on the event loop that the product runs on, within a limit in seconds."""

    async def bounded() -> None:
        async with asyncio.timeout(limit):
            await story

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(bounded())


async def until(condition: Callable[[], bool], seconds: float = 3.0) -> None:
    """Wait for something that is about to happen. Raises TimeoutError."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - what is waited for lies in the gateway and has no event
            await asyncio.sleep(0.005)


@dataclass
class Answer:
    """One answer. Header names are lower-case; `lines` has repeated ones too."""

    status: int
    lines: list[tuple[str, str]]
    body: bytes = b""
    fields: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.fields = dict(self.lines)

    @property
    def message(self) -> dict[str, Any]:
        """The body as one JSON object."""
        found = json.loads(self.body)
        assert isinstance(found, dict)
        return found

    @property
    def failure(self) -> tuple[int, str]:
        """Status, and the class in the JSON-RPC error."""
        return self.status, self.message["error"]["data"]["class"]


class Client:
    """One connection. `raw` is all that ever came over it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.raw = b""

    async def write(self, data: bytes) -> None:
        """Raw bytes."""
        self.writer.write(data)
        await self.writer.drain()

    async def send(
        self,
        body: bytes | None = None,
        headers: Mapping[str, str] | list[tuple[str, str]] | None = None,
        *,
        method: str = "POST",
        path: str = "/mcp/one",
        host: str = "127.0.0.1",
    ) -> None:
        """One request; a POST gets the usual types unless `headers` name them."""
        given = list(headers.items()) if isinstance(headers, Mapping) else list(headers or ())
        names = {name.lower() for name, _ in given}
        usual = JSON_TYPES if method == "POST" else {"accept": "text/event-stream"}
        lines = [("host", host), *((name, value) for name, value in usual.items() if name not in names), *given]
        if body is not None and not {"transfer-encoding", "content-length"} & names:
            lines.append(("content-length", str(len(body))))
        head = f"{method} {path} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in lines) + "\r\n"
        await self.write(head.encode("utf-8") + (body or b""))

    async def head(self) -> Answer:
        """The head of the next answer."""
        raw = await self.reader.readuntil(b"\r\n\r\n")
        self.raw += raw
        first, *rest = raw.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
        lines = [(name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in rest)]
        assert first.startswith("HTTP/1.1 "), first
        return Answer(int(first.split(" ")[1]), lines)

    async def piece(self) -> bytes:
        """The payload of the next chunk, b"" for the last one."""
        size = await self.reader.readuntil(b"\r\n")
        data = await self.reader.readexactly(int(size, 16) + 2)
        assert data.endswith(b"\r\n")
        self.raw += size + data
        return data[:-2]

    async def text(self, wanted: bytes) -> bytes:
        """Pieces until `wanted` has come; all of them."""
        found = b""
        while wanted not in found:
            piece = await self.piece()
            assert piece, f"the stream ended without {wanted!r}: {found!r}"
            found += piece
        return found

    async def body(self, head: Answer) -> Answer:
        """The rest of an answer whose head was read."""
        if head.fields.get("transfer-encoding") == "chunked":
            pieces = []
            while piece := await self.piece():
                pieces.append(piece)
            head.body = b"".join(pieces)
        elif head.status not in {204, 304}:
            head.body = await self.reader.readexactly(int(head.fields["content-length"]))
            self.raw += head.body
        return head

    async def answer(self) -> Answer:
        """The next answer, whole."""
        return await self.body(await self.head())

    async def ask(
        self,
        body: bytes | None = None,
        headers: Mapping[str, str] | list[tuple[str, str]] | None = None,
        *,
        method: str = "POST",
        path: str = "/mcp/one",
        host: str = "127.0.0.1",
    ) -> Answer:
        """A request and its answer."""
        await self.send(body, headers, method=method, path=path, host=host)
        return await self.answer()

    async def closed(self) -> bool:
        """Read to the end of the connection; whether it was closed cleanly."""
        try:
            while data := await self.reader.read(1 << 16):
                self.raw += data
        except ConnectionError:
            return False
        return True

    def vanish(self) -> None:
        """Go away without a word."""
        self.writer.transport.abort()


@asynccontextmanager
async def connected(gate: Gateway | int) -> AsyncIterator[Client]:
    """A client of a gateway (or of a port)."""
    port = gate if isinstance(gate, int) else gate.port
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 26)
    try:
        yield Client(reader, writer)
    finally:
        writer.transport.abort()


def config(url: str, *, gateway: Mapping[str, object] | None = None, **entry: Any) -> str:  # noqa: ANN401 - any JSON
    """The text of a file with one instance named `one`."""
    server = {"url": url, "type": "streamable-http", **entry}
    block = {"limits": {"drainTime": "1s"}, **(gateway or {})}
    return json.dumps({"gateway": block, "mcpServers": {"one": server}})


@asynccontextmanager
async def pair(
    script: Script,
    *,
    gateway_block: Mapping[str, object] | None = None,
    **entry: Any,  # noqa: ANN401 - any JSON
) -> AsyncIterator[tuple[Gateway, Backend]]:
    """A backend and a gateway in front of it; `url` among the entry's keys leads elsewhere."""
    async with Backend(script) as backend:
        url = str(entry.pop("url", backend.url))
        async with gateway(config(url, gateway=gateway_block, **entry)) as gate:
            yield gate, backend


def call(message_id: object = 1, method: str = "tools/call", **params: Any) -> bytes:  # noqa: ANN401 - any JSON
    """A JSON-RPC request; tools/call calls `moonrise`."""
    if method == "tools/call":
        params = {"name": "moonrise", "arguments": {}, **params}
    return json.dumps({"jsonrpc": "2.0", "id": message_id, "method": method, "params": params}).encode()


def modern_call(message_id: object = 1, **params: Any) -> tuple[bytes, dict[str, str]]:  # noqa: ANN401 - any JSON
    """A call of 2026-07-28 and the headers that mirror it."""
    meta = {f"{META}protocolVersion": MODERN, f"{META}clientCapabilities": {}}
    headers = {"mcp-protocol-version": MODERN, "mcp-method": "tools/call", "mcp-name": "moonrise"}
    return call(message_id, _meta=meta, **params), headers


def result(message_id: object = 1, **content: object) -> bytes:
    """The answer to a request."""
    return json.dumps({"jsonrpc": "2.0", "id": message_id, "result": content or {"content": []}}).encode()


def error(message_id: object = 1, code: int = -32000, text: str = "no moon tonight") -> bytes:
    """The error to a request."""
    return json.dumps({"jsonrpc": "2.0", "id": message_id, "error": {"code": code, "message": text}}).encode()


def event(data: bytes, event_id: str = "") -> bytes:
    """One event."""
    return (f"id: {event_id}\n".encode() if event_id else b"") + b"data: " + data + b"\n\n"


def initialize(revision: str = "2025-06-18") -> bytes:
    """The request that opens a session."""
    return call(0, "initialize", protocolVersion=revision, capabilities={}, clientInfo={"name": "lynx", "version": "3"})


def initialized(revision: str = "2025-06-18") -> bytes:
    """Its answer."""
    return result(0, protocolVersion=revision, capabilities={}, serverInfo={"name": "tide", "version": "1"})


async def polite(exchange: Exchange) -> None:
    """A backend with one session, `backend-session-7`, that answers everything at once."""
    seen = exchange.seen
    if seen.method == "GET":
        await exchange.stream()
        await exchange.gone()
    elif seen.method == "DELETE":
        await exchange.answer(b"", status="200 OK")
    elif b'"initialize"' in seen.body:
        asked = json.loads(seen.body)["params"]["protocolVersion"]
        await exchange.answer(initialized(asked), headers={"Mcp-Session-Id": "backend-session-7"})
    elif b'"id"' not in seen.body:
        await exchange.answer(b"", status="202 Accepted")
    else:
        message = json.loads(seen.body)
        await exchange.answer(result(message["id"] if isinstance(message, dict) else 1))


def records(gate: Gateway) -> list[dict[str, Any]]:
    """The journal, parsed."""
    return [json.loads(line) for line in gate.records()]


async def last_record(gate: Gateway, count: int = 1) -> dict[str, Any]:
    """The last record, once there are `count`."""
    await until(lambda: len(gate.records()) >= count)
    found = records(gate)
    assert len(found) == count, found
    return found[-1]


async def settled(gate: Gateway, backend: Backend | None = None) -> None:
    """Wait until nothing is left of any request: no connection on either side, no task."""
    server = next(iter(gate.runtime.binds.values())).server
    if backend is not None:
        await until(lambda: backend.open == 0)
    await until(lambda: not server.connections and not len(server.tasks))


@contextmanager
def log_lines() -> Iterator[io.StringIO]:
    """What the operator's log says meanwhile."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(RedactingFormatter("%(levelname)s %(message)s"))
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        yield stream
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
