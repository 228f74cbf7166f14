"""A small MCP server for event streams that stay open: `python -m bench.event_stub PORT`.

POST without a session id: `initialize` is answered. POST with one: an event at once, the result a moment later.
GET: one event at once, then an open stream. `POST /kick`: one more event on each open GET stream; answers how many.
At `/answer` the result comes at once. `/sse` is HTTP+SSE: a GET names an address below `/messages`, and what is posted
there is answered on that stream at once.
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
    by_address: dict[bytes, asyncio.Transport] = field(default_factory=dict)

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
        self._address = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]

    def connection_lost(self, _exc: Exception | None) -> None:
        """Forget the stream, if this was one."""
        self._streams.open.discard(self._transport)
        self._streams.by_address.pop(self._address, None)

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
        elif self._path == b"/sse":
            self._open_sse()
        elif self._path.startswith(b"/messages/"):
            self._transport.write(b"HTTP/1.1 202 Accepted\r\nContent-Length: 8\r\n\r\nAccepted")
            self._streams.by_address[self._path].write(_chunk(payloads.SMALL_EVENT))
        elif self._session is None:
            self._transport.write(_sized(payloads.INITIALIZED, uuid.uuid4().hex.encode()))
        else:
            self._answer(self._session)

    def _answer(self, session: bytes) -> None:
        head = b"%bMcp-Session-Id: %b\r\nTransfer-Encoding: chunked\r\n\r\n" % (_STREAM_HEAD, session)
        if self._path == b"/answer":
            self._transport.write(head + _chunk(payloads.SMALL_EVENT) + b"0\r\n\r\n")
            return
        self._transport.write(head + _chunk(payloads.FIRST_EVENT))
        if self._parser.get_method() == b"GET":
            self._streams.open.add(self._transport)
        else:
            asyncio.get_running_loop().call_later(RESULT_AFTER_SECONDS, self._finish)

    def _open_sse(self) -> None:
        self._address = b"/messages/" + uuid.uuid4().hex.encode()
        endpoint = b"event: endpoint\ndata: %b\n\n" % self._address
        self._transport.write(_STREAM_HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + _chunk(endpoint))
        self._streams.open.add(self._transport)
        self._streams.by_address[self._address] = self._transport

    def _finish(self) -> None:
        self._transport.write(_chunk(payloads.SMALL_EVENT) + b"0\r\n\r\n")


async def serve(port: int) -> None:
    """Serve until the process is ended."""
    streams = Streams()
    server = await asyncio.get_running_loop().create_server(lambda: Connection(streams), HOST, port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
