"""Shipped fakes: what tests of Moongate, and of what is built on it, share.

`gateway` runs a whole data plane in this process from the text of a configuration file. `Backend` is a scripted
upstream: it accepts real connections, remembers every request byte for byte, and answers what the test says.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from moongate.control.compile import CompileOptions, compile_documents
from moongate.control.files import load_texts
from moongate.runtime import Runtime
from moongate.tasks import Tasks

LIMIT_SECONDS = 15.0


@dataclass
class Seen:
    """One request as a backend saw it. `head` is the raw head; header names in `fields` are lower-case."""

    head: bytes
    body: bytes
    method: str = ""
    target: str = ""
    fields: dict[str, str] = field(default_factory=dict)
    lines: list[tuple[str, str]] = field(default_factory=list)


class Exchange:
    """One request and the connection to answer it on."""

    def __init__(self, seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.seen = seen
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        """Raw bytes."""
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self, body: bytes, *, status: str = "200 OK", headers: Mapping[str, str] | None = None) -> None:
        """A sized answer, JSON unless `headers` say otherwise."""
        fields = {"content-type": "application/json", **(headers or {})}
        lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        await self.send(f"HTTP/1.1 {status}\r\n{lines}content-length: {len(body)}\r\n\r\n".encode() + body)

    async def stream(self, headers: Mapping[str, str] | None = None) -> None:
        """The head of a chunked event stream; `event` and `close_stream` follow."""
        fields = {"content-type": "text/event-stream", **(headers or {})}
        lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        await self.send(f"HTTP/1.1 200 OK\r\n{lines}transfer-encoding: chunked\r\n\r\n".encode())

    async def chunk(self, data: bytes) -> None:
        """One chunk."""
        await self.send(b"%x\r\n%b\r\n" % (len(data), data))

    async def close_stream(self) -> None:
        """The last chunk."""
        await self.send(b"0\r\n\r\n")

    async def gone(self) -> bool:
        """Wait until the gateway has closed the connection; True then."""
        try:
            return await self.reader.read(1) == b""
        except ConnectionError:
            return True

    def reset(self) -> None:
        """Close with RST."""
        self.writer.transport.abort()


Script = Callable[[Exchange], Awaitable[None]]


class Backend:
    """A scripted upstream. `script` is called for each request; `seen` holds them all, `connections` counts."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.seen: list[Seen] = []
        self.connections = 0
        self.open = 0
        self.port = 0
        self._tasks = Tasks("backend")
        self._server: asyncio.Server

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, limit=1 << 27)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self._tasks.close()

    @property
    def url(self) -> str:
        """The address for a configuration."""
        return f"http://127.0.0.1:{self.port}/mcp"

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._tasks.spawn(self._serve(reader, writer), "connection")

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open += 1
        try:
            while True:
                seen = await _read_request(reader)
                self.seen.append(seen)
                await self.script(Exchange(seen, reader, writer))
                if writer.is_closing():
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            self.open -= 1
            writer.close()


async def _read_request(reader: asyncio.StreamReader) -> Seen:
    head = await reader.readuntil(b"\r\n\r\n")
    first, *rest = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
    lines = [(name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in rest)]
    fields = dict(lines)
    body = await reader.readexactly(int(fields.get("content-length", "0")))
    method, target, _ = first.split(" ")
    return Seen(head, body, method, target, fields, lines)


@dataclass
class Gateway:
    """A gateway under test. `port` is its first listener's; `records` reads its journal."""

    runtime: Runtime
    port: int
    data_dir: Path

    @property
    def url(self) -> str:
        """The base address."""
        return f"http://127.0.0.1:{self.port}"

    def records(self) -> list[bytes]:
        """The journal's lines."""
        self.runtime.journal.flush()
        return [
            line
            for path in sorted((self.data_dir / "journal").glob("*.jsonl"))
            for line in path.read_bytes().splitlines()
        ]


@asynccontextmanager
async def gateway(
    config: str, *, environ: Mapping[str, str] | None = None, host: str | None = "127.0.0.1", port: int | None = 0
) -> AsyncIterator[Gateway]:
    """A gateway in this process, from the text of a file, on free ports. Raises ConfigError, StartError."""
    environment = dict(environ or {})
    snapshot = compile_documents(load_texts([("test.yaml", config)], environment), CompileOptions(host=host, port=port))
    with tempfile.TemporaryDirectory() as directory:
        runtime = Runtime(Path(directory), environment)
        await runtime.start(snapshot)
        try:
            yield Gateway(runtime, next(iter(runtime.binds.values())).port, Path(directory))
        finally:
            async with asyncio.timeout(LIMIT_SECONDS):
                await runtime.stop()
