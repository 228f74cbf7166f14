"""What an upstream says, as single messages: event streams and JSON bodies read within limits in time and size.

For those who hand messages on one by one (`messenger`); the request path passes bytes on and does not use this.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from moongate.errors import FailureClass, UpstreamError
from moongate.model.snapshot import Timeouts
from moongate.protocol.forms import Answer
from moongate.protocol.jsonrpc import read_answer
from moongate.protocol.splice import elements, one_line, with_member
from moongate.proxy.answer import Pieces, upstream_coding
from moongate.upstreams.base import Reply
from moongate.wire.events import Splitter, parse_event
from moongate.wire.messages import MalformedMessage, ResponseHead

# An id goes back in a header line (Last-Event-ID); longer ones, or such with control characters, are not kept.
_EVENT_ID = re.compile(rb"[^\x00-\x1f\x7f]{1,4096}")
_RETRY = re.compile(rb"(?:\A|[\r\n])retry: ?([0-9]{1,9})(?=[\r\n])")
_BLANK = b" \t\r\n"
_ID = msgspec.json.Decoder(str | int | float)


class Event(NamedTuple):
    """One event that is more than a comment. `data` is empty where it carries no message; `retry` is in seconds."""

    data: bytes
    id: bytes | None
    retry: float | None


class Message(NamedTuple):
    """One JSON-RPC message on one line, as the server wrote it but for line breaks between tokens."""

    line: bytes
    parsed: Answer

    @property
    def is_answer(self) -> bool:
        """Whether it is a response."""
        return self.parsed.method is None


class EventReader:
    """The events of one stream. The first one is due within the first-byte limit unless `started`; then `silence`
    counts between bytes.
    """

    def __init__(
        self, reply: Reply, head: ResponseHead, timeouts: Timeouts, limit: int, *, started: bool = False
    ) -> None:
        self._reply = reply
        self._coding = upstream_coding(head)
        self._silence = timeouts.silence
        self._limit = limit
        self._started = started
        self._ended = False
        self._until: float | None = None
        self._splitter = Splitter()
        self._decoded: Iterator[bytes] = iter(())

    def end_within(self, seconds: float) -> None:
        """All that was waited for is there: the stream may last `seconds` more, whatever it brings."""
        if self._until is None:
            self._until = time.monotonic() + seconds

    async def next(self) -> list[Event]:
        """The next events, none at the end. Raises UpstreamError."""
        try:
            while True:
                piece = next(self._decoded, b"")
                if piece:
                    if events := self._events(piece):
                        self._started = True
                        return events
                elif self._ended:
                    self._coding.finish()
                    return []
                else:
                    await self._more()
        except MalformedMessage as error:
            raise UpstreamError(FailureClass.UPSTREAM_PROTOCOL, error.detail) from None

    async def _more(self) -> None:
        reply = self._reply
        seconds = self._silence if self._started else reply.remaining()
        if self._until is not None:
            seconds = self._until - time.monotonic()
        data = reply.take() if reply.complete else await reply.read(seconds)
        self._ended = reply.complete or not data  # asked at once: more may come while somebody is waited for
        self._decoded = self._coding.decode(data)

    def _events(self, piece: bytes) -> list[Event]:
        found = []
        blocks = self._splitter.feed(piece)
        if max(self._splitter.held, *map(len, blocks), 0) > self._limit:
            raise UpstreamError(FailureClass.UPSTREAM_PROTOCOL, f"an event of more than {self._limit} bytes")
        for block in blocks:
            event = parse_event(block)
            if event.fields:
                retry = _RETRY.search(block)
                known = event.id is not None and _EVENT_ID.fullmatch(event.id)
                data = event.data if event.name in (b"", b"message") else None
                found.append(
                    Event(data or b"", event.id if known else None, None if retry is None else int(retry[1]) / 1000)
                )
        return found


async def read_whole(reply: Reply, head: ResponseHead, timeouts: Timeouts, limit: int) -> bytes:
    """A body up to its end. Raises UpstreamError, also if it is longer than `limit` or takes longer than `silence`."""
    pieces = Pieces(reply, upstream_coding(head), timeouts.first_byte)
    until = time.monotonic() + max(reply.remaining(), 0) + timeouts.silence
    found: list[bytes] = []
    size = 0
    while piece := await pieces.next():
        found.append(piece)
        size += len(piece)
        if size > limit:
            raise UpstreamError(FailureClass.UPSTREAM_PROTOCOL, f"an answer of more than {limit} bytes")
        if time.monotonic() > until:
            raise UpstreamError(FailureClass.UPSTREAM_TIMEOUT, "the answer was not complete in time")
    return b"".join(found)


def messages(data: bytes) -> list[Message]:
    """The messages that a body or an event holds: one, or the elements of an array. Raises UpstreamError."""
    found = []
    for element in elements(data.strip(_BLANK)):
        parsed = read_answer(element) if element.isascii() or _is_text(element) else None
        if parsed is None:
            raise UpstreamError(FailureClass.UPSTREAM_PROTOCOL, "an answer that is not a JSON-RPC message")
        found.append(Message(one_line(element), parsed))
    return found


def _is_text(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def id_key(raw: bytes) -> str | int | float | None:
    """An id to compare with others, however it is spelt. None: it is neither a string nor a number."""
    try:
        found: str | int | float = _ID.decode(raw)
    except ValueError:
        return None
    return found


def named(message: Message, due: list[bytes]) -> Message:
    """A response that names no request, with the id of the only one that is due fitted in; its values stay as they
    are.
    """
    if not message.is_answer or len(due) != 1 or bytes(message.parsed.id) not in (b"", b"null"):
        return message
    message.parsed.id = msgspec.Raw(due[0])
    return Message(with_member(message.line, ("id",), due[0]), message.parsed)
