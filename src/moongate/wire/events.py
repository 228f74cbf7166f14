"""Event streams (server-sent events), incremental and pure: the WHATWG HTML standard, section 9.2.

A relay needs to know where events end (to insert a comment, to end a broken stream cleanly, to record a call before the
bytes that complete it) but must not alter a byte. `Splitter` cuts a stream into whole events as they came.
"""

from __future__ import annotations

import re
from typing import NamedTuple

# An event that is longer than this is passed on in parts instead of being held until it is complete.
HOLD_BYTES = 64 * 1024

# Two line ends in a row. A CR is a line end of its own only if no LF follows.
_BOUNDARY = re.compile(rb"(?:\r\n|\n|\r(?!\n))(?:\r\n|\n|\r(?!\n))")
_OVERLAP = 3

COMMENT = b": keep-alive\n\n"


class Event(NamedTuple):
    """One parsed event. `data` None: no data field; `fields` False: only comments (nothing is dispatched)."""

    data: bytes | None
    name: bytes
    id: bytes | None
    fields: bool


class Splitter:
    """Cuts a stream at event boundaries. `partial`: part of an event that is too long to hold was already given out."""

    def __init__(self, hold: int = HOLD_BYTES) -> None:
        self.partial = False
        self._hold = hold
        self._tail = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """The events that `data` completes, each with its blank line. Joined with `overflow` they are the stream."""
        if not self._tail:
            found = [match.end() for match in _BOUNDARY.finditer(data)]
            if not found:
                self._tail += data
                return []
            events = [data[start:end] for start, end in zip([0, *found], found, strict=False)]
            self._tail += data[found[-1] :]
            return events
        start = max(0, len(self._tail) - _OVERLAP)
        self._tail += data
        events = []
        position = 0
        for match in _BOUNDARY.finditer(self._tail, start):
            events.append(bytes(self._tail[position : match.end()]))
            position = match.end()
        if position:
            del self._tail[:position]
        return events

    def overflow(self) -> bytes:
        """The beginning of an unfinished event, if it is too long to hold; call it after each `feed`."""
        if len(self._tail) <= self._hold + _OVERLAP:
            return b""
        # The last bytes stay, so that a boundary that is still to come is seen whole.
        piece = bytes(self._tail[:-_OVERLAP])
        del self._tail[:-_OVERLAP]
        return piece

    @property
    def held(self) -> int:
        """Bytes of an unfinished event that were not given out."""
        return len(self._tail)

    def rest(self) -> bytes:
        """What is held when the stream ends: an unfinished event, which every reader discards."""
        return bytes(self._tail)


def parse_event(block: bytes) -> Event:
    """One event as cut by `Splitter`. A leading byte order mark is ignored, as are fields that the standard does not
    know.
    """
    data: list[bytes] = []
    name = b""
    event_id: bytes | None = None
    fields = False
    for line in block.removeprefix(b"\xef\xbb\xbf").splitlines():
        if not line or line[:1] == b":":
            continue
        fields = True
        key, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if key == b"data":
            data.append(value)
        elif key == b"event":
            name = value
        elif key == b"id" and b"\0" not in value:
            event_id = value
    return Event(b"\n".join(data) if data else None, name, event_id, fields)


def with_data(block: bytes, data: bytes) -> bytes:
    """The same event with other data, which must be free of CR (JSON can be made so); all other lines stay."""
    kept: list[bytes] = []
    at = None
    for line in block.splitlines(keepends=True):
        key = line.removeprefix(b"\xef\xbb\xbf").partition(b":")[0].rstrip(b"\r\n")
        if key != b"data":
            kept.append(line)
        elif at is None:
            at = len(kept)
            end = line[len(line.rstrip(b"\r\n")) :]
            kept += [b"data: " + part + end for part in data.split(b"\n")]
    return b"".join(kept)


def encode_event(data: bytes, name: bytes = b"message") -> bytes:
    """One event with `data`, which must be free of CR (JSON is)."""
    lines = [b"event: ", name, b"\n"]
    for line in data.split(b"\n"):
        lines += [b"data: ", line, b"\n"]
    return b"".join([*lines, b"\n"])
