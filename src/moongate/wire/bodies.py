"""Body framing without I/O (RFC 9112 sections 6 and 7): bytes in, payload out.

llhttp cannot be stopped at the end of a message, so whatever follows a body on the same connection would be parsed
before it may be judged. These decoders stop exactly there and hand back the `rest`.
"""

from __future__ import annotations

import re
from typing import Protocol

from moongate.wire.messages import MalformedMessage

MAX_LINE = 4096
MAX_TRAILERS = 16 * 1024

# Chunk extensions are ignored as section 7.1.1 wants, but only visible characters may stand in them.
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})(?:[ \t]*;[\t\x20-\x7e]*)?\r\n")
_TRAILER = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[\t\x20-\x7e\x80-\xff]*\r\n")


class Body(Protocol):
    """`feed` returns the payload in `data`; once `done`, `rest` holds what came after the body."""

    done: bool
    rest: bytes

    def feed(self, data: bytes) -> bytes: ...


class SizedBody:
    """`Content-Length: length`."""

    __slots__ = ("done", "left", "rest")

    def __init__(self, length: int) -> None:
        self.left = length
        self.done = length == 0
        self.rest = b""

    def feed(self, data: bytes) -> bytes:
        """Payload of `data`; anything beyond the length goes to `rest`."""
        if len(data) > self.left:
            self.rest = data[self.left :]
            data = data[: self.left]
        self.left -= len(data)
        self.done = not self.left
        return data


class UntilClose:
    """A response body that ends with its connection (RFC 9112 section 6.3, rule 8)."""

    __slots__ = ("done", "rest")

    def __init__(self) -> None:
        self.done = False
        self.rest = b""

    def feed(self, data: bytes) -> bytes:
        """All of it."""
        return data


class ChunkedBody:
    """`Transfer-Encoding: chunked`. Trailers are checked and dropped. Raises MalformedMessage."""

    __slots__ = ("_held", "_left", "_state", "_trailers", "done", "rest")

    def __init__(self) -> None:
        self.done = False
        self.rest = b""
        self._state = "size"
        self._left = 0
        self._held = b""
        self._trailers = 0

    def feed(self, data: bytes) -> bytes:
        """Payload of `data`, joined over its chunks."""
        if self._held:
            data, self._held = self._held + data, b""
        payload: list[bytes] = []
        position = 0
        while not self.done and position < len(data):
            if self._state == "data":
                piece = data[position : position + self._left]
                payload.append(piece)
                position += len(piece)
                self._left -= len(piece)
                if not self._left:
                    self._state = "end"
                continue
            end = data.find(b"\n", position) + 1
            if not end:
                self._hold(data[position:])
                break
            if end - position > MAX_LINE:
                self._hold(data[position:end])
            self._line(data[position:end])
            position = end
        if self.done:
            self.rest = data[position:]
        return payload[0] if len(payload) == 1 else b"".join(payload)

    def _hold(self, partial: bytes) -> None:
        if len(partial) > MAX_LINE:
            raise MalformedMessage("a chunk line without end")
        self._held = partial

    def _line(self, line: bytes) -> None:
        if self._state == "end":
            if line != b"\r\n":
                raise MalformedMessage("chunk data longer than its size")
            self._state = "size"
        elif self._state == "size":
            size = _CHUNK_SIZE.fullmatch(line)
            if size is None:
                raise MalformedMessage("a bad chunk size")
            self._left = int(size[1], 16)
            self._state = "data" if self._left else "trailer"
        elif line == b"\r\n":
            self.done = True
        else:
            self._trailers += len(line)
            if self._trailers > MAX_TRAILERS or _TRAILER.fullmatch(line) is None:
                raise MalformedMessage("a bad trailer")
