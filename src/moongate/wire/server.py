"""One client connection: framing, limits, deadlines, keep-alive, pipelining in order, back-pressure.

A connection has one task and handles one request at a time; what a client sends ahead waits in a bounded buffer. A
client that closes its sending half counts as gone (as in nginx and Go): that is the only prompt sign a vanished client
gives.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeAlias, cast

from moongate.tasks import Tasks
from moongate.wire.bodies import ChunkedBody, SizedBody
from moongate.wire.deadlines import NEVER, Deadlines
from moongate.wire.messages import MalformedMessage, RequestHead, RequestHeads, find_head_end
from moongate.wire.receiving import READ_AHEAD, Receiving

log = logging.getLogger(__name__)

REMEMBERED_HEADS = 4096
LINGER_SECONDS = 2.0
LINGER_BYTES = 64 * 1024 * 1024


class ServerLimits(Protocol):
    """What one connection may cost; `model.snapshot.Limits` has these."""

    @property
    def head_bytes(self) -> int: ...
    @property
    def header_count(self) -> int: ...
    @property
    def connections(self) -> int: ...
    @property
    def head_seconds(self) -> float: ...
    @property
    def body_seconds(self) -> float: ...
    @property
    def idle_seconds(self) -> float: ...
    @property
    def write_seconds(self) -> float: ...


class Underway(Protocol):
    """What was begun without the connection's task. `cut_off` is called if it cannot be waited for any longer."""

    def cut_off(self) -> None: ...


class Server:
    """The connections of one bind. New requests see what `use` was given last.

    `handler` answers a request; `at_once` may begin to answer one that came to an idle connection without the turn of a
    task, and says whether it did.
    """

    def __init__(self, handler: Handler, limits: ServerLimits, deadlines: Deadlines) -> None:
        self.handler = handler
        self.at_once: AtOnce = _never
        self.limits = limits
        self.heads = RequestHeads(limits.header_count, REMEMBERED_HEADS)
        self.deadlines = deadlines
        self.tasks = Tasks("server")
        self.connections: set[ServerConnection] = set()
        self.draining = False
        self.refused_connections = 0

    def use(self, limits: ServerLimits) -> None:
        """Other limits from now on."""
        self.limits = limits
        self.heads = RequestHeads(limits.header_count, REMEMBERED_HEADS)

    def connect(self) -> asyncio.Protocol:
        """The protocol factory for `loop.create_server`: event loops ask for the methods, not for the class."""
        return cast("asyncio.Protocol", ServerConnection(self))

    async def close(self, seconds: float) -> None:
        """Let requests in flight finish within `seconds`, then cut. Idle connections and GET streams end at once."""
        self.draining = True
        for connection in tuple(self.connections):
            connection.drain_out()
        await self.tasks.wait(seconds)
        for connection in tuple(self.connections):
            connection.abort()
        await self.tasks.close()


class ServerConnection(Receiving):
    """What a handler sees of the client while it answers one request.

    `on_gone` is called once if the client vanishes, `on_drain` if the server is to stop while a stream is open.
    `underway` is what was begun at once and has not ended. How answers are written: `Answering`.
    """

    def __init__(self, server: Server) -> None:
        super().__init__(asyncio.get_running_loop())
        self.peer = ""
        self.local: tuple[str, int] = ("", 0)
        self.secure = False
        self._server = server
        self._raw_head = b""
        self._lingering = 0
        self._idle_until = 0.0
        self._head_timed = False
        self._next: RequestHead | MalformedMessage | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._work: Work | None = None
        self.underway: Underway | None = None

    # -- the transport's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has connected (and finished its TLS handshake)."""
        self._transport = cast("asyncio.Transport", transport)
        peer = transport.get_extra_info("peername")
        local = transport.get_extra_info("sockname")
        if not peer or not local:  # gone before it was here
            self._transport.abort()
            return
        # A socket for both families shows IPv4 peers as ::ffff:a.b.c.d.
        self.peer = peer[0].removeprefix("::ffff:")
        self.local = (local[0].removeprefix("::ffff:"), local[1])
        self.secure = transport.get_extra_info("sslcontext") is not None
        _watch_peer(transport.get_extra_info("socket"))
        server = self._server
        full = server.draining or len(server.connections) >= server.limits.connections
        server.connections.add(self)
        server.deadlines.watch(self)
        self.deadline = self._loop.time() + server.limits.head_seconds
        if full:
            server.refused_connections += 1
            self._closing = True
            self._offer(MalformedMessage("too many connections", 503))
        server.tasks.spawn(self._run(), "client connection")

    def data_received(self, data: bytes) -> None:
        """Bytes from the client: of the body that is being read, or of the next head."""
        if self._lingering:
            self._lingering -= len(data)
            if self._lingering <= 0:
                self._transport.abort()
        elif self._body is not None:
            self._body_data(data)
        else:
            self._buffer = self._buffer + data if self._buffer else data
            if self._busy or self._writable is not None:
                self._hold_reading()
            else:
                self._next_head()

    def eof_received(self) -> None:
        """The client will send no more."""
        self._lose()

    def connection_lost(self, _: Exception | None) -> None:
        """The connection is gone, whoever ended it."""
        self._server.connections.discard(self)
        self._server.deadlines.forget(self)
        self._lose()

    def expire(self) -> None:
        """A limit in time is over: the head or body came too slowly, nothing came, or nobody read our answer."""
        unsent = self._transport.get_write_buffer_size()
        if self._body is not None and self._body_waiter is not None and not self._body_waiter.done():
            self._body_waiter.set_exception(MalformedMessage("the request body came too slowly", 408))
        elif unsent and (self._unsent < 0 or unsent < self._unsent):  # slowly, but it is being read
            self._unsent = unsent
            self.deadline = self._loop.time() + self._write_seconds
        elif unsent or self._busy or self._lingering:
            self.abort()
        elif self._buffer:
            self._closing = True
            self._offer(MalformedMessage("the request head came too slowly", 408))
        elif self._loop.time() < self._idle_until:
            self.deadline = self._idle_until
        else:
            self._transport.close()

    def resume_writing(self) -> None:
        """The client has caught up."""
        super().resume_writing()
        if self._lingering:
            self.deadline = self._loop.time() + LINGER_SECONDS
        elif not self._busy:
            self._wait_for_request()

    # -- reading

    async def _run(self) -> None:
        handler = self._server.handler
        try:
            while not self.gone or self.underway is not None or self._work is not None:
                if self._next is None and self._work is None:
                    self._waiter = self._loop.create_future()
                    await self._waiter
                    self._waiter = None
                work, self._work = self._work, None
                if work is not None:
                    self.underway = None
                    await work()
                request, self._next = self._next, None
                if request is not None:
                    await handler(self, request)
        finally:
            self._cut_off()
            self.abort()

    def _cut_off(self) -> None:
        if self.underway is not None:
            self.underway.cut_off()

    def go_on(self, work: Work) -> None:
        """Leave what was begun at once to the connection's task. It is under way until its turn comes."""
        self._work = work
        self._wake()

    def end_at_once(self) -> None:
        """What was begun at once has ended, and maybe nobody was left to be answered."""
        self.underway = None
        if self.gone:
            self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _wait_for_request(self) -> None:
        """Idle from now on, unless a request is here already. The answer before it must leave within its own limit."""
        now = self._loop.time()
        self._unsent = -1
        self._idle_until = now + self._server.limits.idle_seconds
        self.deadline = min(self._idle_until, now + self._write_seconds)
        self._head_timed = False
        if self._buffer and self._writable is None:
            self._next_head()

    def _offer(self, request: RequestHead | MalformedMessage) -> None:
        self._busy = True
        self.deadline = NEVER
        idle = self._waiter is not None and not self._waiter.done()
        if idle and isinstance(request, RequestHead) and self._server.at_once(self, request):
            return
        self._next = request
        self._wake()

    def _next_head(self) -> None:
        limits = self._server.limits
        while self._buffer[:2] == b"\r\n":  # RFC 9112 section 2.2: empty lines before a request are forgiven
            self._buffer = self._buffer[2:]
        try:
            # Of one client, heads have mostly one length, though their sessions take turns.
            end = len(self._raw_head)
            raw = self._buffer[:end]
            head = self._server.heads.seen(raw)
            if head is None:
                end = find_head_end(self._buffer, limits.head_bytes)
                if not end:
                    if self._buffer and not self._head_timed:
                        self._head_timed = True
                        self.deadline = self._loop.time() + limits.head_seconds
                    return
                raw = self._buffer[:end]
                head = self._server.heads.parse(raw)
            self._raw_head = raw
            rest = self._buffer[end:]
            self._buffer = b""
            self._head = head
            if not head.chunked and len(rest) >= head.length:  # all of it is here, as of nearly every request
                self._received.append(rest[: head.length])
                self._buffer = rest[head.length :]
            else:
                self._body = ChunkedBody() if head.chunked else SizedBody(head.length)
                self._body_limit = READ_AHEAD
                self._body_started = self._loop.time()
                if rest:
                    self._body_data(rest)
        except MalformedMessage as error:
            self._closing = True
            self._head = self._body = None
            self._offer(error)
        else:
            self._offer(head)

    def remember_head(self) -> None:
        """The head of this request is worth recognising when it comes again, on any connection."""
        if self._head is not None:
            self._server.heads.keep(self._raw_head, self._head)

    # -- between two requests

    @property
    def _write_seconds(self) -> float:
        return self._server.limits.write_seconds

    @property
    def _body_seconds(self) -> float:
        return self._server.limits.body_seconds

    def _must_close(self) -> bool:
        return self._body is not None or self._server.draining

    def _finish(self) -> None:
        self.on_gone = self.on_drain = None
        self.end_at_once()
        self.begun = False
        self._received.clear()
        self._size = 0
        if self.gone:
            return
        if self._closing or self._server.draining:
            self._close_gently()
            return
        self._head = None
        self._busy = False
        self._go_on_reading()
        self._wait_for_request()

    def _close_gently(self) -> None:
        # Closing with unread input makes the kernel send RST, which may destroy the answer on its way (RFC 9112 section
        # 9.6).
        now = self._loop.time()
        if (self._body is None and not self._buffer) or not self._transport.can_write_eof():
            self.deadline = now + self._write_seconds
            self._transport.close()
            return
        self._lingering = LINGER_BYTES
        self.deadline = now + (LINGER_SECONDS if self._writable is None else self._write_seconds)
        self._transport.write_eof()
        self._go_on_reading()

    def abort(self) -> None:
        """End the connection without completing anything."""
        if not self.gone:
            self._transport.abort()
            self._lose()

    def drain_out(self) -> None:
        """The server is stopping: an idle connection closes, an open stream is told."""
        if not self._busy and not self._lingering:
            self._transport.close()
        elif self.on_drain is not None:
            self.on_drain()

    def _lose(self) -> None:
        if self.gone:
            return
        self.gone = True
        self.deadline = NEVER
        for waiter in (self._waiter, self._body_waiter, self._writable):
            if waiter is not None and not waiter.done():
                waiter.set_result(None)  # whoever wakes up looks at `gone`
        if self.on_gone is not None:
            on_gone, self.on_gone = self.on_gone, None
            on_gone()


Handler: TypeAlias = Callable[[ServerConnection, RequestHead | MalformedMessage], Awaitable[None]]
AtOnce: TypeAlias = Callable[[ServerConnection, RequestHead], bool]
Work: TypeAlias = Callable[[], Awaitable[None]]


def _never(_connection: ServerConnection, _request: RequestHead) -> bool:
    return False


def _watch_peer(sock: socket.socket | None) -> None:
    # A peer that lost power sends no FIN; keep-alive probes find it within about a minute and a half.
    if sock is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_KEEPIDLE"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 45)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4)
