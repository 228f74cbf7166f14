"""HTTP+SSE, the transport of 2024-11-05: an event stream by GET, and an address of its own that messages are posted to.

The stream's first event, `endpoint`, names that address: relative in any form or absolute, but on the same origin. From
then on each `message` event is one JSON-RPC message of the server. The end of the stream is the end of the session.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, replace
from typing import Protocol, TypeGuard

from moongate.errors import FailureClass, UpstreamError
from moongate.model.snapshot import MIB, Target
from moongate.protocol.forms import Answer
from moongate.protocol.jsonrpc import Envelope, read_answer
from moongate.tasks import Tasks
from moongate.upstreams.base import Receiver, Request
from moongate.upstreams.http import HttpReply, HttpUpstream
from moongate.wire.codings import IDENTITY, Coding, coding_of
from moongate.wire.events import Splitter, parse_event
from moongate.wire.messages import MalformedMessage, ResponseHead

MESSAGE_BYTES = 64 * MIB
MAX_ADDRESS = 4096
# Messages on their way to the server, and their bytes; more means that it takes none.
MAX_POSTS = 1024
MAX_POSTED = 256 * MIB
# What a server says beside its status where no answer is due.
MAX_REMARK = 64 * 1024
PROBE_SECONDS = 5.0

_EVENT_STREAM = b"text/event-stream"
_OPEN = b"accept: text/event-stream\r\ncache-control: no-store\r\n"
_POST = b"content-type: application/json\r\naccept: application/json, text/event-stream\r\n"


@dataclass(frozen=True, slots=True)
class Plain:
    """A request of the gateway's own; see `base.Request`."""

    method: str
    lines: bytes
    body: bytes | None = None
    message: Envelope | None = None
    batch: tuple[Envelope, ...] = ()
    principal: str = ""
    session: bytes | None = None
    revision: str = ""
    modern: bool = False
    events: bool = True
    last_event_id: bytes | None = None


def endpoint_path(target: Target, opened: str, address: bytes) -> str:
    """Path and query that the data of an `endpoint` event leads to, resolved against the path that was opened.

    Raises UpstreamError (upstream_protocol) if it is empty, too long, no address, or on another origin.
    """
    path = None
    if len(address) <= MAX_ADDRESS:
        path = replace(target, path=opened).local_path(address.decode("latin-1").strip())
    if path is None:
        detail = f"the endpoint event does not name an address on {target.authority}"
        raise UpstreamError(FailureClass.UPSTREAM_PROTOCOL, detail)
    return path


async def follow(
    upstream: HttpUpstream,
    request: Request,
    path: str | None = None,
    started: Callable[[HttpReply], None] | None = None,
) -> tuple[HttpReply, ResponseHead, str]:
    """Send a request; the reply, its head, and the path that gave it. 307 and 308 on the same origin are followed once.

    `started` is told of each reply before its head is waited for. Raises UpstreamError.
    """
    path = upstream.target.path if path is None else path
    followed = False
    while True:
        reply = await upstream.send(request, path)
        if started is not None:
            started(reply)
        try:
            head = await reply.head()
        except BaseException:
            reply.cancel()
            raise
        location = head.fields.get(b"location", b"").decode("latin-1")
        moved = replace(upstream.target, path=path).local_path(location) if head.status in (307, 308) else None
        if moved is None or followed:
            return reply, head, path
        reply.cancel()
        path, followed = moved, True


def media_of(head: ResponseHead) -> bytes:
    """The lower-case type/subtype of Content-Type."""
    return head.fields.get(b"content-type", b"").partition(b";")[0].strip(b" \t").lower()


def check_stream(head: ResponseHead) -> None:
    """Raises UpstreamError unless it is the head of an event stream."""
    if head.status != 200:
        raise UpstreamError(FailureClass.UPSTREAM_HTTP, f"the backend answered the GET with {head.status}")
    if media_of(head) != _EVENT_STREAM:
        raise UpstreamError(FailureClass.UPSTREAM_PROTOCOL, "the backend answered the GET with no event stream")


def _coding(head: ResponseHead) -> Coding:
    try:
        return coding_of(head.fields)
    except MalformedMessage as error:
        raise UpstreamError(FailureClass.UPSTREAM_PROTOCOL, error.detail) from None


class Through(Protocol):
    """An upstream that may be an HTTP+SSE server, to which clients of HTTP+SSE can pass through."""

    async def through(self) -> HttpUpstream | None:
        """How the server itself is reached; None if it does not speak HTTP+SSE."""
        ...

    def refused(self) -> None:
        """A GET gave no `endpoint` event."""
        ...


def passes(upstream: object) -> TypeGuard[Through]:
    """Whether it is one. Asked for each message: `isinstance` of a protocol would cost as much as a small call."""
    return hasattr(upstream, "through")


class SseChannel:
    """One session with the server; see `base.Channel`. It is made by `SseOpener`."""

    def __init__(self, upstream: HttpUpstream, receiver: Receiver, tasks: Tasks, message_bytes: int) -> None:
        self._upstream = upstream
        self._receiver = receiver
        self._tasks = tasks
        self._message_bytes = message_bytes
        self._loop = asyncio.get_running_loop()
        self._work: set[asyncio.Task[None]] = set()
        self._splitter = Splitter()
        self._blocks: deque[bytes] = deque()
        self._decoded: Iterator[bytes] = iter(())
        self._reply: HttpReply
        self._coding: Coding
        self._opened = ""
        self._path = ""
        self._over = False
        self._resumed: asyncio.Future[None] | None = None
        self._posted = 0
        self._barrier: asyncio.Future[None] | None = None

    async def connect(self) -> None:
        """Open the stream and wait for its first event within the first-byte limit. Raises UpstreamError."""
        self._reply, head, self._opened = await follow(self._upstream, Plain("GET", _OPEN))
        try:
            check_stream(head)
            self._coding = _coding(head)
            while not self._path:
                self._event(await self._block())
        except BaseException:
            self._reply.cancel()
            raise

    def start(self) -> None:
        """Hand over what comes, from now on."""
        self._spawn(self._read(), "read")

    # -- from the server

    async def _block(self) -> bytes:
        """The next event as it came. Raises UpstreamError, also when the stream ends."""
        reply = self._reply
        timeouts = self._upstream.target.timeouts
        while not self._blocks:
            try:
                piece = next(self._decoded, b"")
                if not piece:
                    seconds = timeouts.silence if self._path else reply.remaining()
                    data = reply.take() if reply.complete else await reply.read(seconds)
                    if not data:
                        raise UpstreamError(FailureClass.UPSTREAM_RESET, "the backend closed its event stream")
                    self._decoded = self._coding.decode(data)
                    continue
            except MalformedMessage as error:
                raise UpstreamError(FailureClass.UPSTREAM_PROTOCOL, error.detail) from None
            if self._coding is not IDENTITY:  # a little may become very much
                await asyncio.sleep(0)
            self._blocks.extend(self._splitter.feed(piece))
            if self._splitter.held > self._message_bytes:
                detail = f"an event of more than {self._message_bytes} bytes"
                raise UpstreamError(FailureClass.UPSTREAM_PROTOCOL, detail)
        return self._blocks.popleft()

    async def _read(self) -> None:
        end = _unforeseen()
        try:
            while True:
                if self._resumed is not None:
                    await self._resumed
                self._event(await self._block())
        except UpstreamError as error:
            if error.failure is FailureClass.UPSTREAM_TIMEOUT:
                silence = self._upstream.target.timeouts.silence
                error = UpstreamError(error.failure, f"the event stream was silent for {silence:g} s")
            end = error
        finally:  # whatever it was: nobody reads the stream any more
            self._end(end)

    def _event(self, block: bytes) -> None:
        event = parse_event(block)
        if event.name == b"endpoint":
            self._path = endpoint_path(self._upstream.target, self._opened, event.data or b"")
        elif event.name in (b"", b"message") and event.data:
            if not self._path:
                detail = "the event stream does not begin with an endpoint event"
                raise UpstreamError(FailureClass.UPSTREAM_PROTOCOL, detail)
            # Between two data lines stands white space of the JSON: inside its strings there are no line breaks.
            self._receiver.received(event.data.replace(b"\n", b" ") if b"\n" in event.data else event.data)

    def pause(self) -> None:
        """See `base.Channel`: what the connection still takes in is bounded."""
        if self._resumed is None and not self._over:
            self._resumed = self._loop.create_future()

    def resume(self) -> None:
        """See `base.Channel`."""
        resumed, self._resumed = self._resumed, None
        if resumed is not None and not resumed.done():
            resumed.set_result(None)

    # -- to the server

    def write(self, message: bytes, failed: Callable[[UpstreamError], None]) -> None:
        """See `base.Channel`. Notifications and initialize keep their order, and what follows waits for them; requests
        and answers overlap, because some servers answer a POST only when the call has run.
        """
        if self._over:
            return
        if len(self._work) > MAX_POSTS or self._posted + len(message) > MAX_POSTED:
            detail = "the backend takes no more messages: too many wait"
            self._loop.call_soon(failed, UpstreamError(FailureClass.UPSTREAM_TIMEOUT, detail))
            return
        before = self._barrier
        done: asyncio.Future[None] | None = None
        if _keeps_order(read_answer(message)):
            self._barrier = done = self._loop.create_future()
        self._posted += len(message)
        self._spawn(self._post(message, failed, before, done), "post")

    async def _post(
        self,
        message: bytes,
        failed: Callable[[UpstreamError], None],
        before: asyncio.Future[None] | None,
        done: asyncio.Future[None] | None,
    ) -> None:
        try:
            if before is not None and not before.done():
                await asyncio.wait((before,))
            await self._send(message)
        except UpstreamError as error:
            if not self._over:
                failed(error)
        finally:
            self._posted -= len(message)
            if done is not None:
                done.cancel()

    async def _send(self, message: bytes) -> None:
        reply, head, _ = await follow(self._upstream, Plain("POST", _POST, message), self._path)
        try:
            if head.status in (404, 410):
                self._end(UpstreamError(FailureClass.UPSTREAM_HTTP, f"the backend ended the session ({head.status})"))
            elif not 200 <= head.status < 300:
                detail = f"the backend answered a message with {head.status}"
                failure = FailureClass.UPSTREAM_HTTP if head.status >= 400 else FailureClass.UPSTREAM_PROTOCOL
                raise UpstreamError(failure, detail)
            else:
                await self._remark(reply, head)
                reply.release()
                return
        finally:
            reply.cancel()

    async def _remark(self, reply: HttpReply, head: ResponseHead) -> None:
        """Some servers answer in the POST itself; all others say at most a word there."""
        json = media_of(head) == b"application/json"
        limit = self._message_bytes if json else MAX_REMARK
        timeouts = self._upstream.target.timeouts
        found: list[bytes] = []
        size = 0
        try:
            coding = coding_of(head.fields)
            async with asyncio.timeout(timeouts.silence):
                while size <= limit:
                    data = reply.take() if reply.complete else await reply.read(timeouts.first_byte)
                    if not data:
                        break
                    for piece in coding.decode(data):
                        size += len(piece)
                        if json and size <= limit:
                            found.append(piece)
        except (MalformedMessage, TimeoutError):
            return
        except UpstreamError:
            if json and head.status != 202:
                raise  # it may have been the answer
            return  # the message is accepted; whether that was said to its end does not matter
        body = b"".join(found)
        if body and size <= limit and read_answer(body) is not None and not self._over:
            self._hear(b" ".join(body.splitlines()))

    def _hear(self, message: bytes) -> None:
        end: UpstreamError | None = _unforeseen()
        try:
            self._receiver.received(message)
            end = None
        finally:
            if end is not None:
                self._end(end)

    # -- the end

    def _spawn(self, work: Coroutine[None, None, None], name: str) -> None:
        task = self._tasks.spawn(work, name)
        self._work.add(task)
        task.add_done_callback(self._work.discard)

    def close(self) -> None:
        """See `base.Channel`."""
        if self._over:
            return
        self._over = True
        self._blocks.clear()
        self._reply.cancel()
        current = asyncio.current_task()
        for task in tuple(self._work):
            if task is not current:
                task.cancel()

    def _end(self, error: UpstreamError) -> None:
        if not self._over:
            self.close()
            self._receiver.closed(error)


def _unforeseen() -> UpstreamError:
    """What those hear who wait while our own handling of a message fails; the log has the trace."""
    return UpstreamError(FailureClass.UPSTREAM_PROTOCOL, "what the backend said could not be handled")


def _keeps_order(message: Answer | None) -> bool:
    return message is None or (message.method is not None and (not len(message.id) or message.method == "initialize"))


class _Nobody:
    """The receiver of a probe."""

    def received(self, message: bytes) -> None:
        """Nothing is heard."""

    def closed(self, error: UpstreamError) -> None:
        """Nobody asked."""


def _ignore() -> None:
    """Nobody wants to know."""


class SseOpener:
    """Makes channels to one HTTP+SSE server; see `base.Opener`. `upstream` is how its origin is reached.

    `on_refused` is called when the server turns out not to speak HTTP+SSE.
    """

    def __init__(self, upstream: HttpUpstream, message_bytes: int = MESSAGE_BYTES) -> None:
        self.on_refused: Callable[[], None] = _ignore
        self.upstream = upstream
        self._message_bytes = message_bytes
        self._tasks = Tasks("sse")

    async def open(self, receiver: Receiver) -> SseChannel:
        """See `base.Opener`."""
        channel = SseChannel(self.upstream, receiver, self._tasks, self._message_bytes)
        try:
            await channel.connect()
        except UpstreamError as error:
            if error.failure in (FailureClass.UPSTREAM_HTTP, FailureClass.UPSTREAM_PROTOCOL):
                self.on_refused()
            raise
        channel.start()
        return channel

    async def probe(self) -> bool:
        """Whether a GET gives an `endpoint` event, soon."""
        channel = SseChannel(self.upstream, _Nobody(), self._tasks, MAX_REMARK)
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                await channel.connect()
        except (UpstreamError, TimeoutError):
            return False
        channel.close()
        return True
