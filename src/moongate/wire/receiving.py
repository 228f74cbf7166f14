"""The body half of a client connection: a request's body, within a limit in size and in time, with back-pressure."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Callable
from typing import cast

from moongate.errors import ClientClosed
from moongate.wire.answering import Answering
from moongate.wire.bodies import Body
from moongate.wire.deadlines import NEVER
from moongate.wire.messages import MalformedMessage, RequestHead

# A request body must arrive at this rate at least (bytes a second), beside the fixed allowance `body_seconds`.
MIN_BODY_RATE = 16 * 1024
# What may wait unread: of a body that nobody has asked for yet, of requests that are not due yet.
READ_AHEAD = 64 * 1024


class Receiving(Answering):
    """Receives the body of the request that is being answered. A body that nobody asks for is not read."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self.on_gone: Callable[[], None] | None = None
        self.on_drain: Callable[[], None] | None = None
        self._buffer = b""
        self._busy = False
        self._body: Body | None = None
        self._received: list[bytes] = []
        self._size = 0
        self._body_limit = READ_AHEAD
        self._body_started = 0.0
        self._body_waiter: asyncio.Future[None] | None = None
        self._reading = True

    @property
    @abstractmethod
    def _body_seconds(self) -> float:
        """The fixed allowance for a body to arrive."""

    @abstractmethod
    def abort(self) -> None:
        """End the connection without completing anything."""

    def _body_data(self, data: bytes) -> None:
        body = cast("Body", self._body)
        waiter = self._body_waiter
        try:
            payload = body.feed(data)
        except MalformedMessage as error:
            self._closing = True
            if not self._busy:
                raise
            if waiter is not None and not waiter.done():
                waiter.set_exception(error)
            self._hold_reading(force=True)
            return
        self._received.append(payload)
        self._size += len(payload)
        if body.done:
            self._body = None
            self._buffer = body.rest
        elif self._size > self._body_limit:
            self._hold_reading(force=True)
        elif waiter is not None:
            self._extend_body_deadline()
        if waiter is not None and not waiter.done() and (body.done or self._size > self._body_limit):
            waiter.set_result(None)

    def _extend_body_deadline(self) -> None:
        self.deadline = self._body_started + self._body_seconds + self._size / MIN_BODY_RATE

    def _hold_reading(self, *, force: bool = False) -> None:
        if (self.on_drain or self.on_gone) is not None and len(self._buffer) > READ_AHEAD:
            self.abort()  # behind a stream without end it would never be read, nor would the client's leaving be seen
        elif self._reading and (force or len(self._buffer) > READ_AHEAD):
            self._reading = False
            self._transport.pause_reading()

    def _go_on_reading(self) -> None:
        if not self._reading and not self.gone:
            self._reading = True
            self._transport.resume_reading()

    def waiting_body(self) -> int:
        """How long the request body is, if all of it is here; otherwise -1."""
        if self._body is not None or self._size or len(self._received) > 1:
            return -1
        return len(self._received[0]) if self._received else 0

    def body_now(self, limit: int) -> bytes | None:
        """The whole request body if all of it is here, else None: then `read_body` waits for it. Spares a coroutine."""
        if self._body is not None or self._size or len(self._received) > 1:
            return None
        body = self._received.pop() if self._received else b""
        if len(body) > limit:
            raise _too_large(limit)
        return body

    async def read_body(self, limit: int) -> bytes:
        """The whole request body. Raises MalformedMessage (413 over `limit` bytes, 408 too slow, 400), ClientClosed."""
        head = cast("RequestHead", self._head)
        if head.length > limit or self._size > limit:
            raise _too_large(limit)
        if self._body is not None:
            if self._closing:
                raise MalformedMessage("a malformed body")
            if not self._size and head.fields.get(b"expect") is not None and head.minor:
                self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self._body_limit = limit
            self._body_waiter = self._loop.create_future()
            self._extend_body_deadline()
            self._go_on_reading()
            if self.gone:
                raise ClientClosed
            try:
                await self._body_waiter
            finally:
                self._body_waiter = None
                self.deadline = NEVER
            if self.gone:
                raise ClientClosed
            if self._size > limit:
                raise _too_large(limit)
        received, self._received = self._received, []
        return received[0] if len(received) == 1 else b"".join(received)


def _too_large(limit: int) -> MalformedMessage:
    return MalformedMessage(f"a request body of more than {limit} bytes", 413)
