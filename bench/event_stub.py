"""A small MCP server for event streams that stay open: `python -m bench.event_stub PORT`.

POST without a session id: `initialize` is answered. POST with one: an event at once, the result a moment later.
GET: one event at once, then an open stream. `POST /kick`: one more event on each open GET stream; answers how many.
"""

from __future__ import annotations

import asyncio
import sys
import uuid
from dataclasses import dataclass, field

import httptools
import uvloop

from bench import payloads
from bench.processes import HOST

RESULT_AFTER_SECONDS = 0.01
_STREAM_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\n"


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _sized(body: bytes, session: bytes | None = None) -> bytes:
    extra = b"Mcp-Session-Id: %b\r\n" % session if session else b""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n%bContent-Length: %d\r\n\r\n"
    return head % (extra, len(body)) + body


@dataclass(slots=True)
class Streams:
    """The GET streams that are open."""

    open: set[asyncio.Transport] = field(default_factory=set)

    def kick(self) -> int:
        """Send one event on each and tell how many there are."""
        for transport in self.open:
            transport.write(_chunk(payloads.LATER_EVENT))
        return len(self.open)


class Connection(asyncio.Protocol):
    """One client connection."""

    def __init__(self, streams: Streams) -> None:
        """Share the open streams with all other connections."""
        self._streams = streams
        self._parser = httptools.HttpRequestParser(self)
        self._path = b""
        self._session: bytes | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]

    def connection_lost(self, _exc: Exception | None) -> None:
        """Forget the stream, if this was one."""
        self._streams.open.discard(self._transport)

    def data_received(self, data: bytes) -> None:
        """Feed the parser, which calls the methods below."""
        self._parser.feed_data(data)

    def on_message_begin(self) -> None:
        """Start a new request."""
        self._path, self._session = b"", None

    def on_url(self, url: bytes) -> None:
        """Collect the path."""
        self._path += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep the session id."""
        if name.lower() == b"mcp-session-id":
            self._session = value

    def on_message_complete(self) -> None:
        """Answer."""
        if self._path == b"/kick":
            self._transport.write(_sized(b"%d" % self._streams.kick()))
        elif self._session is None:
            self._transport.write(_sized(payloads.INITIALIZED, uuid.uuid4().hex.encode()))
        else:
            head = b"%bMcp-Session-Id: %b\r\nTransfer-Encoding: chunked\r\n\r\n" % (_STREAM_HEAD, self._session)
            self._transport.write(head + _chunk(payloads.FIRST_EVENT))
            if self._parser.get_method() == b"GET":
                self._streams.open.add(self._transport)
            else:
                asyncio.get_running_loop().call_later(RESULT_AFTER_SECONDS, self._finish)

    def _finish(self) -> None:
        self._transport.write(_chunk(payloads.SMALL_EVENT) + b"0\r\n\r\n")


async def serve(port: int) -> None:
    """Serve until the process is ended."""
    streams = Streams()
    server = await asyncio.get_running_loop().create_server(lambda: Connection(streams), HOST, port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
