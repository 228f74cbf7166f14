"""The answering half of a client connection: frames answers and hands them to the transport, with back-pressure."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from typing import Final

from moongate.errors import ClientClosed
from moongate.wire.deadlines import NEVER
from moongate.wire.messages import RequestHead, decimal, status_line

# Bodies up to this size are joined with their heads instead of being given to the kernel in two pieces.
JOIN_BYTES: Final = 64 * 1024
_OK: Final = status_line(200)


class Answering(ABC):
    """Answers one request at a time: either one `answer`, or `begin`, any number of `put`, and `end`.

    `gone`: the client went away, what is written is dropped. `begun`: the head of an answer has left, its end has not.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.gone = False
        self.begun = False
        self.deadline = NEVER
        self._loop = loop
        self._transport: asyncio.Transport
        self._head: RequestHead | None = None
        self._closing = False
        self._chunking = False
        self._unsent = -1
        self._writable: asyncio.Future[None] | None = None

    @property
    @abstractmethod
    def _write_seconds(self) -> float:
        """How long a client may leave an answer unread."""

    @abstractmethod
    def _must_close(self) -> bool:
        """Whether the connection cannot carry another request after this answer."""

    @abstractmethod
    def _finish(self) -> None:
        """The answer is complete."""

    def pause_writing(self) -> None:
        """The client reads more slowly than we write."""
        self._writable = self._loop.create_future()
        self._unsent = -1
        self.deadline = self._loop.time() + self._write_seconds

    def resume_writing(self) -> None:
        """It has caught up."""
        self.deadline = NEVER
        if self._writable is not None:
            if not self._writable.done():
                self._writable.set_result(None)
            self._writable = None

    def frame(self, status: int, fields: bytes, length: int | None) -> bytes:
        """An answer's head: status line, `fields` (whole lines), framing. `length` None: a stream follows."""
        head = self._head
        if head is None or not head.keep_alive or self._must_close():
            self._closing = True
        self._chunking = False
        if length is not None and not self._closing and head is not None and head.minor and status != 204:
            line = _OK if status == 200 else status_line(status)
            return b"%b%bcontent-length: %b\r\n\r\n" % (line, fields, decimal(length))
        parts = [status_line(status), fields]
        if length is not None:
            if status != 204:
                parts.append(b"content-length: %d\r\n" % length)
        elif head is not None and head.minor:
            parts.append(b"transfer-encoding: chunked\r\n")
            self._chunking = True
        else:
            self._closing = True
        if self._closing:
            parts.append(b"connection: close\r\n")
        elif head is not None and not head.minor:
            parts.append(b"connection: keep-alive\r\n")
        parts.append(b"\r\n")
        return b"".join(parts)

    def answer(self, framed: bytes, body: bytes = b"") -> None:
        """The whole answer at once; nothing happens if the client is gone."""
        if not self.gone:
            if self._head is not None and self._head.method == "HEAD":
                body = b""
            if len(body) > JOIN_BYTES:
                self._transport.writelines((framed, body))
            else:
                self._transport.write(framed + body)
        self._finish()

    def begin(self, framed: bytes) -> None:
        """The head of an answer whose body follows in pieces."""
        self.begun = True
        if not self.gone:
            self._transport.write(framed)

    @property
    def stalled(self) -> bool:
        """Whether the client has to read before more should be written."""
        return self._writable is not None

    def put(self, data: bytes) -> None:
        """One piece of the body. Raises ClientClosed. Follow it with `await writable()` where more may come."""
        if self.gone:
            raise ClientClosed
        if self._chunking:
            self._transport.writelines((b"%x\r\n" % len(data), data, b"\r\n"))
        else:
            self._transport.write(data)

    async def writable(self) -> None:
        """Wait until the client has read enough for more. Raises ClientClosed."""
        if self._writable is not None:
            await self._writable
        if self.gone:
            raise ClientClosed

    def end(self, data: bytes = b"") -> None:
        """The last piece, and the end of the answer."""
        if not self.gone:
            if self._chunking:
                last = b"%x\r\n%b\r\n0\r\n\r\n" % (len(data), data) if data else b"0\r\n\r\n"
                self._transport.write(last)
            elif data:
                self._transport.write(data)
        self._finish()
