"""One upstream connection, and the pool per origin.

A connection carries one request at a time. `send` gives the response head; `read` gives the body piece by piece, with
back-pressure: nothing is read from the socket while `HIGH_WATER` bytes wait. Limits in time are set by the caller
through `deadline`, so that connecting, first byte and silence are told apart.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Protocol, cast

from moongate.errors import FailureClass, UpstreamError
from moongate.wire.alike import ResponseHeads
from moongate.wire.bodies import Body, ChunkedBody, SizedBody, UntilClose
from moongate.wire.deadlines import NEVER, Deadlines
from moongate.wire.messages import MalformedMessage, ResponseHead

HIGH_WATER = 256 * 1024
MAX_INTERIM = 20
# So many requests leave together. More would have left the processor's cache before they are written.
TOGETHER: Final = 32
# uvicorn and Node close idle connections after 5 s without saying so; a reused one must be younger.
IDLE_SECONDS = 4.0
SWITCHING_PROTOCOLS = 101


class Listener(Protocol):
    """Who wants to hear of a reply without waiting for it."""

    def heard(self) -> None:
        """More has arrived, or nothing can."""
        ...


class UpstreamConnection:
    """One connection to an origin. `reusable` once the body has been read to its end and both sides allow another.

    `listener` is told once, when something of the response is here or nothing more will be.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.deadline = NEVER
        self.head: ResponseHead | None = None
        self.complete = False
        self.closed = False
        self.received = 0
        self.heads = ResponseHeads()
        self.outbox: Outbox | None = None
        self.listener: Listener | None = None
        self.on_idle_lost: Callable[[UpstreamConnection], None] | None = None
        self._loop = loop
        self._transport: asyncio.Transport
        self._leaving = b""
        self._buffer = b""
        self._body: Body | None = None
        self._pieces: list[bytes] = []
        self._waiting = 0
        self._interim = 0
        self._paused = False
        self._busy = False
        self._error: UpstreamError | None = None
        self._waiter: asyncio.Future[None] | None = None

    # -- the transport's side

    def pause_writing(self) -> None:
        """Nothing to do: a request leaves whole."""

    def resume_writing(self) -> None:
        """Nothing to do."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Connected, TLS included."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Bytes of a response; bytes that nobody asked for end the connection."""
        try:
            if self._body is not None and not self.complete:
                self._take(self._body.feed(data))
            elif self._busy and self.head is None:
                self._buffer = self._buffer + data if self._buffer else data
                self._find_head()
            else:
                self._fail(FailureClass.UPSTREAM_PROTOCOL, "bytes beyond the end of the response")
        except MalformedMessage as error:
            self._fail(FailureClass.UPSTREAM_PROTOCOL, error.detail)

    def _find_head(self) -> None:
        while (found := self.heads.read(self._buffer)) is not None:
            head, end = found
            if head.status == SWITCHING_PROTOCOLS:
                self._fail(FailureClass.UPSTREAM_PROTOCOL, "the backend switched protocols unasked")
                return
            if head.status >= 200:
                self._begin(head, end)
                return
            self._interim += 1
            if self._interim > MAX_INTERIM:
                self._fail(FailureClass.UPSTREAM_PROTOCOL, f"more than {MAX_INTERIM} interim responses")
                return
            self._buffer = self._buffer[end:]  # interim responses (1xx) are read over

    def _begin(self, head: ResponseHead, end: int) -> None:
        self.head = head
        rest, self._buffer = self._buffer[end:], b""
        if head.length is not None and len(rest) == head.length:  # all of it is here, as of nearly every answer
            self.complete = True
            self.received = len(rest)
            if rest:
                self._pieces.append(rest)
            self._wake()
            return
        self._body = _body(head)
        self._take(self._body.feed(rest) if rest else b"")

    def _take(self, payload: bytes) -> None:
        body = cast("Body", self._body)
        if payload:
            self.received += len(payload)
            self._pieces.append(payload)
            self._waiting += len(payload)
            if self._waiting > HIGH_WATER and not self._paused:
                self._paused = True
                self._transport.pause_reading()
        if body.done:
            self.complete = True
            if body.rest:
                self._fail(FailureClass.UPSTREAM_PROTOCOL, "bytes beyond the end of the response")
        self._wake()

    def eof_received(self) -> None:
        """The backend has closed its side."""
        self._ended(clean=True)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self._ended(clean=exc is None)

    def _ended(self, *, clean: bool) -> None:
        if self.closed:
            return
        self.closed = True
        self.deadline = NEVER
        if self.on_idle_lost is not None:
            self.on_idle_lost(self)
        if self._busy and not self.complete:
            if clean and isinstance(self._body, UntilClose):
                self.complete = True
            elif self._error is None:
                state = "before its response" if self.head is None else "in the middle of its response"
                self._error = UpstreamError(FailureClass.UPSTREAM_RESET, f"the backend closed the connection {state}")
        self._wake()

    def _wake(self) -> None:
        if self.listener is not None:
            listener, self.listener = self.listener, None
            listener.heard()
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _fail(self, failure: FailureClass, detail: str) -> None:
        if self._error is None:
            self._error = UpstreamError(failure, detail)
        self.close()

    def expire(self) -> None:
        """The limit in time that the caller set is over."""
        self._fail(FailureClass.UPSTREAM_TIMEOUT, "the backend did not answer in time")

    # -- the caller's side

    def start(self, head: bytes, body: bytes) -> None:
        """Write one request. The connection must be idle."""
        self._busy = True
        self.complete = False
        self.head = self._body = self._error = self.listener = None
        self.received = self._interim = 0
        if len(body) > HIGH_WATER:
            self._transport.writelines((head, body))
        elif self.outbox is not None:
            self._leaving = head + body
            self.outbox.add(self)
        else:
            self._transport.write(head + body)

    def leave(self) -> None:
        """Write what waits for the end of this turn of the loop."""
        leaving, self._leaving = self._leaving, b""
        if leaving and not self.closed:
            self._transport.write(leaving)

    async def response(self) -> ResponseHead:
        """The response's head. Raises UpstreamError. A short answer is usually complete when this returns."""
        while (head := self.head) is None:
            await self.more()
        return head

    async def read(self) -> bytes:
        """The next piece of the body, b"" at its end. Raises UpstreamError, after all pieces that arrived before it."""
        while not self._pieces:
            if self.complete:
                return b""
            await self.more()
        return self.take()

    def take(self) -> bytes:
        """All pieces that are here now."""
        pieces, self._pieces = self._pieces, []
        self._waiting = 0
        if self._paused:
            self._paused = False
            if not self.closed:
                self._transport.resume_reading()
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def more(self) -> asyncio.Future[None]:
        """Wakes whoever awaits it when something has happened. Raises UpstreamError if nothing can happen any more."""
        if self._error is not None:
            raise self._error
        if self.closed:
            raise UpstreamError(FailureClass.UPSTREAM_RESET, "the backend closed the connection")
        self._waiter = waiter = self._loop.create_future()
        return waiter

    def fail_with(self, error: UpstreamError) -> None:
        """Make whoever waits see `error`; the connection is closed."""
        self._error = error
        self.close()

    @property
    def reusable(self) -> bool:
        """Whether another request may follow."""
        return self.complete and not self.closed and self.head is not None and self.head.keep_alive and not self._pieces

    @property
    def unsent(self) -> int:
        """Bytes of the request that have not left yet."""
        return len(self._leaving) + self._transport.get_write_buffer_size()

    def rest(self, now: float) -> None:
        """Back to the pool."""
        self._busy = False
        self.head = self._body = None
        self.deadline = now + IDLE_SECONDS

    def close(self) -> None:
        """Close at once, whatever is in flight; TLS gets no long goodbye."""
        if not self.closed:
            self._transport.abort()
            self._ended(clean=False)


def _body(head: ResponseHead) -> Body:
    if head.chunked:
        return ChunkedBody()
    return UntilClose() if head.length is None else SizedBody(head.length)


@dataclass(frozen=True, slots=True)
class Origin:
    """Where connections of a pool lead. `context` None: plain HTTP. `proxy` is an HTTP proxy's address."""

    host: str
    port: int
    context: ssl.SSLContext | None = None
    proxy: tuple[str, int] | None = None
    proxy_authorization: bytes | None = None


class Outbox:
    """Requests that leave together at the end of a turn of the loop, behind all that was read in it.

    Written one by one, each would wake the server, which would answer one by one, and each answer would have a turn of
    its own, with a record that is written alone.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: list[UpstreamConnection] = []
        self._scheduled = False

    def add(self, connection: UpstreamConnection) -> None:
        """Have `connection.leave` called."""
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._end_turn)
        self._waiting.append(connection)
        if len(self._waiting) >= TOGETHER:
            self._flush()

    def _end_turn(self) -> None:
        self._scheduled = False
        self._flush()

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        for connection in waiting:
            connection.leave()


class Pool:
    """Idle connections to one origin, the youngest first, and how to make another (`opener`).

    `own_name`: the lower-case name of the response field whose value differs from answer to answer.
    """

    def __init__(self, origin: Origin, deadlines: Deadlines, connect_seconds: float, own_name: bytes = b"") -> None:
        self.origin = origin
        self._own_name = own_name
        self.closed = False
        self._deadlines = deadlines
        self._connect_seconds = connect_seconds
        self._heads = ResponseHeads(own_name)
        self._outbox = Outbox(asyncio.get_running_loop())
        self._idle: list[UpstreamConnection] = []
        self._open: set[UpstreamConnection] = set()
        self._loop = asyncio.get_running_loop()
        self.opener: Callable[[Origin, asyncio.AbstractEventLoop, float], Awaitable[UpstreamConnection]]
        self.opener = open_connection

    def idle(self) -> UpstreamConnection | None:
        """A connection that is ready now, or None. Nothing has been written to it since its last answer."""
        while self._idle:
            connection = self._idle.pop()
            if not connection.closed:
                connection.deadline = NEVER
                return connection
        return None

    async def connect(self) -> UpstreamConnection:
        """A new connection. Raises UpstreamError (dns, connect, tls, timeout)."""
        try:
            async with asyncio.timeout(self._connect_seconds):
                connection = await self.opener(self.origin, self._loop, self._connect_seconds)
        except TimeoutError:
            detail = f"no connection within {self._connect_seconds:g} s"
            raise UpstreamError(FailureClass.UPSTREAM_TIMEOUT, detail) from None
        if connection.closed:
            raise UpstreamError(FailureClass.UPSTREAM_RESET, "the backend closed the connection at once")
        connection.heads = self._heads
        connection.outbox = self._outbox
        connection.on_idle_lost = self._lost
        self._open.add(connection)
        self._deadlines.watch(connection)
        return connection

    def release(self, connection: UpstreamConnection) -> None:
        """Take back a connection: kept if another request may follow, closed otherwise."""
        # A backend may answer before it has read the request: what is left of it would stand before the next one.
        if connection.reusable and not self.closed and not connection.unsent:
            connection.rest(self._loop.time())
            self._idle.append(connection)
        else:
            connection.close()

    def forget_heads(self) -> None:
        """Heads that were remembered are parsed anew: what their readers noted with them may not hold any more."""
        self._heads = ResponseHeads(self._own_name)
        for connection in self._open:
            connection.heads = self._heads

    def _lost(self, connection: UpstreamConnection) -> None:
        self._open.discard(connection)
        self._deadlines.forget(connection)
        if connection in self._idle:
            self._idle.remove(connection)

    def close(self) -> None:
        """Close idle connections now, busy ones when they come back."""
        self.closed = True
        for connection in tuple(self._idle):
            connection.close()


async def open_connection(origin: Origin, loop: asyncio.AbstractEventLoop, seconds: float) -> UpstreamConnection:
    """Resolve and connect, address by address, each with its share of `seconds`; then the proxy's tunnel and TLS."""
    host, port = origin.proxy or (origin.host, origin.port)
    try:
        addresses = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise UpstreamError(FailureClass.UPSTREAM_DNS, f"{host} does not resolve: {error.strerror or error}") from None
    tunnel = origin.proxy is not None and origin.context is not None
    failure = UpstreamError(FailureClass.UPSTREAM_CONNECT, f"{host} has no address")
    for *_, address in addresses:
        try:
            async with asyncio.timeout(seconds / len(addresses)):
                _, protocol = await loop.create_connection(
                    lambda: cast("asyncio.Protocol", UpstreamConnection(loop)),
                    str(address[0]),
                    port,
                    ssl=None if tunnel else origin.context,
                    server_hostname=None if tunnel or origin.context is None else origin.host,
                )
            connection = cast("UpstreamConnection", protocol)
            if tunnel:
                return await _tunnel(connection, origin, loop)
        except TimeoutError:
            failure = UpstreamError(FailureClass.UPSTREAM_TIMEOUT, f"no connection to {host} within {seconds:g} s")
        except ssl.SSLError as error:
            failure = UpstreamError(FailureClass.UPSTREAM_TLS, f"TLS with {origin.host}: {_reason(error)}")
        except OSError as error:
            failure = _unreachable(origin, error)
        else:
            return connection
    raise failure


def _unreachable(origin: Origin, error: OSError) -> UpstreamError:
    hung_up = isinstance(error, ConnectionResetError | ConnectionAbortedError | BrokenPipeError)
    if hung_up and origin.context is not None:
        return UpstreamError(FailureClass.UPSTREAM_TLS, f"{origin.host} hung up during the TLS handshake")
    host, port = origin.proxy or (origin.host, origin.port)
    reason = error.strerror or str(error) or type(error).__name__
    return UpstreamError(FailureClass.UPSTREAM_CONNECT, f"{host} port {port}: {reason}")


def _reason(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate does not verify: {error.verify_message}"
    return error.reason or str(error)


async def _tunnel(
    connection: UpstreamConnection, origin: Origin, loop: asyncio.AbstractEventLoop
) -> UpstreamConnection:
    # RFC 9110 section 9.3.6: a 2xx to CONNECT has no body; what follows is the tunnel.
    host = f"[{origin.host}]" if ":" in origin.host else origin.host
    authority = f"{host}:{origin.port}".encode()
    lines = [b"CONNECT ", authority, b" HTTP/1.1\r\nhost: ", authority, b"\r\n"]
    if origin.proxy_authorization is not None:
        lines += [b"proxy-authorization: ", origin.proxy_authorization, b"\r\n"]
    connection.start(b"".join([*lines, b"\r\n"]), b"")
    try:
        head = await connection.response()
    except BaseException:
        connection.close()
        raise
    if not 200 <= head.status < 300:
        connection.close()
        raise UpstreamError(FailureClass.UPSTREAM_CONNECT, f"the proxy answered CONNECT with {head.status}")
    inner = UpstreamConnection(loop)
    transport = await loop.start_tls(
        connection._transport,  # noqa: SLF001 - the same class: the tunnel's protocol is exchanged for the inner one
        cast("asyncio.Protocol", inner),
        cast("ssl.SSLContext", origin.context),
        server_hostname=origin.host,
    )
    inner.connection_made(cast("asyncio.Transport", transport))
    return inner
