"""What one request, or the rest of a session, has to tell its client: messages in order, kept a while for resumption.

A `Stream` is filled by a conversation with a server and read by the reply of an HTTP request; the request may go away
and another one (GET with `Last-Event-ID`) take its place. Streamable HTTP: 2025-11-25, transports, "Resumability".
"""

from __future__ import annotations

from collections import deque
from typing import Protocol

from moongate.errors import FailureClass, UpstreamError
from moongate.protocol.jsonrpc import INTERNAL_ERROR, error_message

# Sent messages of one stream that are kept for a client that lost its connection.
KEPT_BYTES = 128 * 1024
KEPT_MESSAGES = 256
# Unsent messages of a stream that nobody reads; the oldest go first.
UNREAD_BYTES = 1024 * 1024
# Unsent bytes of a stream that somebody reads too slowly, before the server is made to wait.
HIGH_WATER = 1024 * 1024


class Reader(Protocol):
    """A request that reads a stream."""

    def wake(self) -> None:
        """Something happened on it."""
        ...


class Source(Protocol):
    """Whom a stream belongs to."""

    def slowed(self, stream: Stream) -> None:
        """The client reads more slowly than the server writes."""
        ...

    def eased(self, stream: Stream) -> None:
        """It has caught up, or is gone."""
        ...

    def abandoned(self, stream: Stream) -> None:
        """Nobody will read the answers that are due on the stream."""
        ...


class Stream:
    """One stream. `ids`: raw ids of the requests it answers, `due` how many of them are awaited (a standalone stream
    has none and no end of its own). `open`: the ids that the server knows them by.

    `home` is where it is found again. `resumable`: its events carry ids, `<number>-<sequence>`. `plain`: the client
    takes nothing but the answer.
    """

    __slots__ = (
        "_kept",
        "_kept_bytes",
        "_lost",
        "_sequence",
        "budget",
        "due",
        "ended",
        "error",
        "home",
        "ids",
        "number",
        "open",
        "plain",
        "queue",
        "reply",
        "resumable",
        "source",
        "standalone",
        "unsent",
    )

    def __init__(self, source: Source, number: int, ids: tuple[bytes, ...], *, resumable: bool) -> None:
        self.source = source
        self.number = number
        self.ids = ids
        self.open: list[bytes] = []
        self.due = len(ids)
        self.standalone = not ids
        self.budget = KEPT_BYTES
        self._lost = 0
        self.resumable = resumable
        self.queue: deque[tuple[int, bytes]] = deque()
        self.plain = False
        self.home: dict[int, Stream] | None = None
        self.unsent = 0
        self.ended = False
        self.error: UpstreamError | None = None
        self.reply: Reader | None = None
        self._sequence = 0
        self._kept: deque[tuple[int, bytes]] = deque()
        self._kept_bytes = 0

    def push(self, message: bytes) -> None:
        """One message of the server that is no answer."""
        if not self.plain:
            self._add(message)

    @property
    def talks(self) -> bool:
        """Whether somebody is there who takes more than the answer."""
        return self.reply is not None and not self.plain

    def _add(self, message: bytes) -> None:
        self._sequence += 1
        self.queue.append((self._sequence, message))
        self.unsent += len(message)
        reply = self.reply
        if reply is not None:
            reply.wake()
            if self.unsent > HIGH_WATER and not self.ended:
                self.source.slowed(self)
        else:
            self._bound()

    def _bound(self) -> None:
        """Nobody reads: what is kept for later has a limit, for the stream and for all streams of its session."""
        limit = min(UNREAD_BYTES, self.budget) if self.standalone else self.budget
        while self.queue and (self.unsent > limit or len(self.queue) > KEPT_MESSAGES):
            sequence, message = self.queue.popleft()
            self.unsent -= len(message)
            self._lost = sequence
        if self._lost and self.ended and not self.queue:
            self._replace()
        self._bound_session()

    @property
    def size(self) -> int:
        """Bytes that it holds."""
        return self.unsent + self._kept_bytes

    def _bound_session(self) -> None:
        if self.home is None or self.size <= KEPT_BYTES:
            return
        total = sum(stream.size for stream in self.home.values())
        for number, stream in tuple(self.home.items()):
            if total <= self.budget:
                break
            if stream is not self and stream.ended and stream.reply is None:
                total -= stream.size
                del self.home[number]

    def _replace(self) -> None:
        """The answers are gone; who comes back for them is told."""
        for raw in self.ids:
            self._sequence += 1
            data = {"class": FailureClass.UPSTREAM_RESET.value}
            text = error_message(INTERNAL_ERROR, "The answer was too large to be kept", data, raw)
            self.queue.append((self._sequence, text))
            self.unsent += len(text)
        self._lost = 0

    def answer(self, message: bytes) -> None:
        """One of the answers that are due."""
        self.due -= 1
        if self.due <= 0:
            self.ended = True
        self._add(message)

    def fail(self, error: UpstreamError) -> None:
        """There will be no (further) answer."""
        if not self.ended:
            self.ended = True
            self.error = error
            if self.reply is not None:
                self.reply.wake()

    def end(self) -> None:
        """Nothing more is to come."""
        self.ended = True
        if self.reply is not None:
            self.reply.wake()

    def take(self) -> bytes:
        """Everything unsent, as events."""
        queue = self.queue
        number, resumable = self.number, self.resumable
        events = []
        while queue:
            sequence, message = item = queue.popleft()
            if resumable:
                events.append(b"id: %d-%d\nevent: message\ndata: %b\n\n" % (number, sequence, message))
                self._keep(item)
            else:
                events.append(b"event: message\ndata: %b\n\n" % message)
        self._emptied()
        return b"".join(events)

    def _emptied(self) -> None:
        slow = self.unsent > HIGH_WATER
        self.unsent = 0
        if slow:
            self.source.eased(self)

    def take_alone(self) -> bytes:
        """Everything unsent, as one JSON body."""
        messages = [message for _, message in self.queue]
        self.queue.clear()
        self._emptied()
        return messages[0] if len(messages) == 1 else b"[" + b",".join(messages) + b"]"

    def _keep(self, item: tuple[int, bytes]) -> None:
        self._kept.append(item)
        self._kept_bytes += len(item[1])
        while len(self._kept) > KEPT_MESSAGES or (
            self._kept_bytes > KEPT_BYTES and (len(self._kept) > 1 or self._kept_bytes > self.budget)
        ):
            sequence, message = self._kept.popleft()
            self._kept_bytes -= len(message)
            self._lost = sequence
        self._bound_session()

    def rewind(self, sequence: int) -> None:
        """A client comes back that has seen everything up to `sequence`."""
        again = [item for item in self._kept if item[0] > sequence]
        if sequence < self._lost and self.ended and not self.queue and not again:
            self._replace()
            return
        self._kept = deque(item for item in self._kept if item[0] <= sequence)
        self._kept_bytes = sum(len(message) for _, message in self._kept)
        self.queue.extendleft(reversed(again))
        self.unsent = sum(len(message) for _, message in self.queue)

    def attach(self, reply: Reader) -> None:
        """From now on `reply` reads it; one that did so before is at its end."""
        before, self.reply = self.reply, reply
        if before is not None:
            before.wake()

    def orphaned(self) -> None:
        """The client had its time to come back."""
        if self.reply is None and not self.ended:
            self.source.abandoned(self)

    def detach(self, reply: Reader) -> None:
        """`reply` reads no more."""
        if self.reply is reply:
            self.reply = None
            if self.unsent > HIGH_WATER:
                self.source.eased(self)
