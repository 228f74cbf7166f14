"""What an HTTP request sees of a stream: a head, then JSON or events (streamable HTTP, 2025-11-25, transports)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from moongate.errors import FailureClass, UpstreamError
from moongate.protocol.jsonrpc import read_answer
from moongate.upstreams.base import Request
from moongate.upstreams.streams import Stream
from moongate.wire.client import Listener
from moongate.wire.deadlines import NEVER, Deadlines
from moongate.wire.messages import ResponseHead

# A call that has not been answered for this long becomes an event stream, so that it can be resumed and kept alive.
COMMIT_SECONDS = 2.0
# A modern call cannot be resumed, and its errors have statuses as long as nothing has left.
QUIET_SECONDS = 15.0


# 2026-07-28, transports: the status of an error that is the whole answer.
STATUSES = {
    -32700: 400,
    -32600: 400,
    -32601: 404,
    -32602: 400,
    -32020: 400,
    -32021: 400,
    -32022: 400,
}


class Heads:
    """The response heads of one upstream; made anew when the route's headers may have changed, for their memos."""

    def __init__(self) -> None:
        self.json = response_head(200, {b"content-type": b"application/json"})
        self.events = response_head(
            200,
            {
                b"content-type": b"text/event-stream",
                b"cache-control": b"no-cache, no-transform",
                b"x-accel-buffering": b"no",
            },
        )
        self.accepted = response_head(202, {})

    def opening(self, *, events: bool, session: bytes) -> ResponseHead:
        """The head of an answer that opens a session."""
        fields = (self.events if events else self.json).fields
        return response_head(200, {**fields, b"mcp-session-id": session})


def response_head(status: int, fields: dict[bytes, bytes]) -> ResponseHead:
    """A head as a backend could have sent it."""
    head = ResponseHead()
    head.status = status
    head.fields = fields
    return head


def status_head(heads: Heads, message: bytes) -> ResponseHead:
    """The head of a modern answer that is one message: an error has the status of its code."""
    answer = read_answer(message)
    if answer is None or answer.error is None:
        return heads.json
    status = STATUSES.get(int(answer.error.code), 200)
    return heads.json if status == 200 else response_head(status, heads.json.fields)


class FixedReply:
    """A reply that is complete from the start; see `base.Reply`."""

    complete = True

    def __init__(self, head: ResponseHead, body: bytes = b"") -> None:
        self._head = head
        self._body = body

    async def head(self) -> ResponseHead:
        """The head."""
        return self._head

    def listen(self, listener: Listener) -> bool:  # noqa: ARG002 - nothing is waited for
        """Nothing more arrives."""
        return False

    def arrived(self) -> ResponseHead | None:
        """The head."""
        return self._head

    async def read(self, seconds: float) -> bytes:  # noqa: ARG002 - nothing is waited for
        """The body, once."""
        return self.take()

    def take(self) -> bytes:
        """The body, once."""
        body, self._body = self._body, b""
        return body

    def remaining(self) -> float:
        """No time has passed."""
        return 1.0

    def release(self) -> None:
        """Nothing is held."""

    def cancel(self) -> None:
        """Nothing is under way."""


class BridgeReply:
    """One request's view of a stream; see `base.Reply`.

    The answer alone is a JSON body; anything before it, or a quiet time, makes an event stream. `limit`: seconds until
    the server must have said something. `modern`: an error gets the HTTP status of its code (2026-07-28, transports).
    """

    __slots__ = (
        "_clock",
        "_commit_at",
        "_committed",
        "_events",
        "_first_byte",
        "_heads",
        "_limit",
        "_loop",
        "_modern",
        "_over",
        "_primed",
        "_session",
        "_spoken",
        "_stopped",
        "_stream",
        "_timed_out",
        "_waiter",
        "deadline",
        "on_late",
    )

    def __init__(self, stream: Stream, heads: Heads, clock: Deadlines, limit: float, request: Request) -> None:
        self.deadline = NEVER
        self.on_late: Callable[[], UpstreamError] | None = None
        self._stream = stream
        self._heads = heads
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        now = self._loop.time()
        self._limit = limit
        self._first_byte = now + limit
        self._modern = request.modern
        self._events = events = request.events or stream.standalone
        stream.plain = not events
        self._commit_at = now + (QUIET_SECONDS if request.modern else COMMIT_SECONDS) if events else NEVER
        self._committed = stream.standalone
        self._spoken = stream.standalone
        self._primed = True
        self._over = False
        self._timed_out = False
        self._stopped = False
        self._session = b""
        self._waiter: asyncio.Future[None] | None = None
        stream.attach(self)

    def opens(self, session: bytes) -> None:
        """The answer's head hands out a session id."""
        self._session = session
        self._commit_at = NEVER

    def resume(self) -> None:
        """It goes on with a stream: always as events, whatever is there."""
        self._committed = self._spoken = self._events = True
        self._stream.plain = False

    def prime(self) -> None:
        """If the stream begins before the server said anything, it begins with an event id (2025-11-25)."""
        self._primed = False

    @property
    def complete(self) -> bool:
        """Whether all that will come is here."""
        stream = self._stream
        return (stream.ended and stream.error is None) or stream.reply is not self

    def wake(self) -> None:
        """Something happened on the stream."""
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def expire(self) -> None:
        """A limit in time is over."""
        now = self._loop.time()
        if not self._committed and self._commit_at <= now:
            self._committed = True
        else:
            self._timed_out = True
        self.wake()

    async def _wait(self, until: float) -> None:
        self._waiter = self._loop.create_future()
        self.deadline = until
        self._clock.watch(self)
        try:
            await self._waiter
        finally:
            self._waiter = None
            self.deadline = NEVER
            self._clock.forget(self)
        if self._stopped:
            raise UpstreamError(FailureClass.UPSTREAM_RESET, "cancelled by the gateway")
        if self._timed_out:
            if self.on_late is not None:
                raise self.on_late()
            # The call is given up: there is nothing to come back for.
            final = not self._stream.standalone
            raise UpstreamError(FailureClass.UPSTREAM_TIMEOUT, "the server did not answer in time", final=final)

    def listen(self, listener: Listener) -> bool:  # noqa: ARG002 - which form it has, time may decide
        """See `base.Reply`."""
        return False

    def arrived(self) -> ResponseHead | None:
        """See `base.Reply`."""
        return None

    async def head(self) -> ResponseHead:
        """The head, as soon as it is known which form the answer has."""
        stream = self._stream
        while not self._committed:
            if stream.queue:
                self._spoken = True
                if not self._events:
                    if stream.ended:
                        break
                elif stream.ended and len(stream.queue) == 1:
                    break
                else:
                    self._committed = True
                    continue
            if stream.error is not None:
                raise stream.error
            if stream.reply is not self:
                raise _replaced()
            await self._wait(min(self._first_byte, self._commit_at))
        if self._session:
            return self._heads.opening(events=self._committed, session=self._session)
        if self._committed:
            return self._heads.events
        return status_head(self._heads, stream.queue[0][1]) if self._modern else self._heads.json

    async def read(self, seconds: float) -> bytes:
        """The next events within `seconds`."""
        stream = self._stream
        until = self._loop.time() + seconds
        while not stream.queue:
            if not self._primed:
                break
            if stream.reply is not self:
                return b""
            if stream.error is not None:
                raise stream.error
            if stream.ended:
                return b""
            await self._wait(until if self._spoken else min(until, self._first_byte))
        return self.take()

    def take(self) -> bytes:
        """What is here."""
        stream = self._stream
        if stream.reply is not self:
            return b""
        if not self._committed:
            return stream.take_alone()
        if self._primed or stream.queue:
            self._primed = True
            self._spoken = self._spoken or bool(stream.queue)
            return stream.take()
        self._primed = True
        return b"id: %d-0\ndata: \n\n" % stream.number

    def remaining(self) -> float:
        """Seconds left of the first-byte limit."""
        return self._first_byte - self._loop.time()

    def release(self) -> None:
        """The request is done with the stream."""
        if not self._over:
            self._over = True
            stream = self._stream
            stream.detach(self)
            if not self._committed and stream.home is not None:  # an answer without ids: nobody can come back for it
                stream.home.pop(stream.number, None)

    def cancel(self) -> None:
        """The request is gone: what can be resumed goes on, anything else is given up."""
        if self._over:
            return
        self._over = True
        stream = self._stream
        stream.detach(self)
        if not stream.standalone and not stream.ended:
            if self._timed_out or not stream.resumable:
                stream.source.abandoned(stream)
            else:
                self._loop.call_later(self._limit, stream.orphaned)
        self._stopped = True
        self.wake()


def _replaced() -> UpstreamError:
    return UpstreamError(FailureClass.UPSTREAM_RESET, "another request took over its stream")
