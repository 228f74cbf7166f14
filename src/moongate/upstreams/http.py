"""Streamable HTTP: requests over a keep-alive pool to one origin.

A request is sent again only when it provably never left: a pooled connection that closed before a byte was written is
skipped by the pool. `Accept-Encoding: identity`, because answers are passed on as they come.
"""

from __future__ import annotations

import asyncio
import ssl

from moongate.errors import FailureClass, UpstreamError
from moongate.model.snapshot import Target
from moongate.upstreams.base import Request
from moongate.upstreams.proxies import Proxy
from moongate.wire.client import Listener, Origin, Pool, UpstreamConnection
from moongate.wire.deadlines import NEVER, Deadlines
from moongate.wire.messages import ResponseHead, decimal


class HttpReply:
    """A reply on one pooled connection; see `base.Reply`."""

    __slots__ = ("_connection", "_first_byte", "_loop", "_over", "_pool")

    def __init__(
        self, connection: UpstreamConnection, pool: Pool, loop: asyncio.AbstractEventLoop, limit: float
    ) -> None:
        self._connection = connection
        self._pool = pool
        self._loop = loop
        self._first_byte = loop.time() + limit
        self._over = False

    @property
    def complete(self) -> bool:
        """Whether the whole body has arrived."""
        return self._connection.complete

    async def head(self) -> ResponseHead:
        """The response's head within the first-byte limit."""
        connection = self._connection
        connection.deadline = self._first_byte
        while (head := connection.head) is None:
            await connection.more()
        connection.deadline = NEVER
        return head

    def listen(self, listener: Listener) -> bool:
        """See `base.Reply`."""
        connection = self._connection
        connection.deadline = self._first_byte
        connection.listener = listener
        return True

    def arrived(self) -> ResponseHead | None:
        """See `base.Reply`."""
        connection = self._connection
        head = connection.head
        if head is None or not connection.complete or head.status in (307, 308):
            return None
        connection.deadline = NEVER
        return head

    async def read(self, seconds: float) -> bytes:
        """The next piece within `seconds`."""
        connection = self._connection
        connection.deadline = self._loop.time() + seconds
        data = await connection.read()
        connection.deadline = NEVER
        return data

    def take(self) -> bytes:
        """What is here."""
        return self._connection.take()

    def remaining(self) -> float:
        """Seconds left of the first-byte limit; zero or less when it is over."""
        return self._first_byte - self._loop.time()

    def release(self) -> None:
        """Back to the pool, or closed if there is more to come."""
        if not self._over:
            self._over = True
            self._pool.release(self._connection)

    def cancel(self) -> None:
        """Close the connection; whoever waits gets UpstreamError."""
        if not self._over:
            self._over = True
            self._connection.fail_with(UpstreamError(FailureClass.UPSTREAM_RESET, "cancelled by the gateway"))


class HttpUpstream:
    """One target over HTTP. `context` is the TLS context for https, `proxy` what the environment chose."""

    def __init__(
        self,
        target: Target,
        deadlines: Deadlines,
        context: ssl.SSLContext | None = None,
        proxy: Proxy | None = None,
        lines: bytes = b"",
    ) -> None:
        self.target = target
        self._loop = asyncio.get_running_loop()
        self._pool = Pool(
            Origin(
                target.host,
                target.port,
                context,
                None if proxy is None else (proxy.host, proxy.port),
                None if proxy is None else proxy.authorization,
            ),
            deadlines,
            target.timeouts.connect,
            b"mcp-session-id",
        )
        fixed = b"host: " + target.called.encode() + b"\r\naccept-encoding: identity\r\n" + lines
        self._absolute = b""
        if proxy is not None and context is None:
            self._absolute = b"http://" + target.authority.encode()
            if proxy.authorization is not None:
                fixed += b"proxy-authorization: " + proxy.authorization + b"\r\n"
        self._fixed = fixed
        self._starts = {method: self._line(method, target.path) for method in ("POST", "GET", "DELETE")}

    def _line(self, method: str, path: str) -> bytes:
        return b"%b %b%b HTTP/1.1\r\n%b" % (method.encode(), self._absolute, path.encode("ascii"), self._fixed)

    def send_now(self, request: Request) -> HttpReply | None:
        """See `base.Upstream`."""
        connection = self._pool.idle()
        if connection is None:
            return None
        return self._start(connection, self._starts[request.method], request.lines, request.body)

    async def send(self, request: Request, path: str | None = None) -> HttpReply:
        """See `base.Upstream`."""
        method = request.method
        start = self._starts[method] if path is None else self._line(method, path)
        connection = self._pool.idle() or await self._pool.connect()
        return self._start(connection, start, request.lines, request.body)

    def _start(self, connection: UpstreamConnection, start: bytes, lines: bytes, body: bytes | None) -> HttpReply:
        if body is None:
            connection.start(b"%b%b\r\n" % (start, lines), b"")
        else:
            connection.start(b"%b%bcontent-length: %b\r\n\r\n" % (start, lines, decimal(len(body))), body)
        return HttpReply(connection, self._pool, self._loop, self.target.timeouts.first_byte)

    def renew(self) -> None:
        """See `base.Upstream`: what was remembered of heads is forgotten."""
        self._pool.forget_heads()

    def close(self) -> None:
        """See `base.Upstream`."""
        self._pool.close()
