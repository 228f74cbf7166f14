"""Standard input and output of a program that a client has started: pipes, sockets, files or terminals alike.

Event loops cannot wait for regular files, and making a terminal non-blocking would change it for everybody who shares
it. So each side has a thread; this is no part of the data plane, where that would cost too much.
"""

from __future__ import annotations

import asyncio
import os
import queue
import select
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from moongate.errors import ClientClosed
from moongate.model.snapshot import MIB

MAX_LINE = 64 * MIB
# What was read and is not dealt with yet; each line counts some more than its bytes. Beyond it nothing is read.
MAX_PENDING = 128 * MIB
LINE_COST = 64 * 1024
_READ = 256 * 1024
_GONE = select.POLLHUP | select.POLLERR | select.POLLNVAL
JOIN_SECONDS = 1.0


class Line(NamedTuple):
    """One line without its end; `too_long`: of a line over MAX_LINE nothing is kept."""

    data: bytes
    too_long: bool = False

    @property
    def cost(self) -> int:
        """What it counts for as long as it is not done with."""
        return len(self.data) + LINE_COST


class Lines:
    """Cuts what is read into lines, in time that grows with its length only."""

    def __init__(self, limit: int = MAX_LINE) -> None:
        self._limit = limit
        self._parts: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> list[Line]:
        """The lines that `data` completes, empty ones left out."""
        first, *more = data.split(b"\n")
        self._keep(first)
        found = []
        for part in more:
            found += self.rest()
            self._keep(part)
        return found

    def _keep(self, part: bytes) -> None:
        self._size += len(part)
        if self._size > self._limit:
            self._parts.clear()
        elif part:
            self._parts.append(part)

    def rest(self) -> list[Line]:
        """The line that has begun, at most one."""
        too_long = self._size > self._limit
        data = b"".join(self._parts).strip(b" \t\r")
        self._parts, self._size = [], 0
        return [Line(data, too_long)] if data or too_long else []


class Input:
    """Lines from a descriptor. Back-pressure: while MAX_PENDING is exceeded nothing is read, until lines are `done`.

    `hung_up` is set when the other side has gone, also while nothing is read.
    """

    def __init__(self, fd: int, loop: asyncio.AbstractEventLoop) -> None:
        self.hung_up = asyncio.Event()
        self._fd = fd
        self._loop = loop
        self._lines: asyncio.Queue[Line | None] = asyncio.Queue()
        self._wake, self._waker = os.pipe()
        self._lock = threading.Lock()
        self._pending = 0
        self._waiting = False
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="input", daemon=True)

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    async def line(self) -> Line | None:
        """The next line, None at the end."""
        return await self._lines.get()

    def done(self, line: Line) -> None:
        """A line is dealt with."""
        with self._lock:
            self._pending -= line.cost
            wake, self._waiting = self._waiting, False
            if wake and not self._stopped:
                os.write(self._waker, b".")

    def stop(self) -> None:
        """Read no more."""
        with self._lock:
            self._stopped = True
        os.write(self._waker, b".")
        self._thread.join(JOIN_SECONDS)
        if not self._thread.is_alive():
            os.close(self._wake)
            os.close(self._waker)

    def _run(self) -> None:
        # The loop may be closed before a thread that hangs in a read comes back.
        with suppress(RuntimeError):
            self._read()
            self._loop.call_soon_threadsafe(self._lines.put_nowait, None)
            self._loop.call_soon_threadsafe(self.hung_up.set)

    def _read(self) -> None:
        poll = select.poll()
        poll.register(self._wake, select.POLLIN)
        lines = Lines()
        gone = False
        while not self._stopped:
            with self._lock:
                self._waiting = full = self._pending > MAX_PENDING
            if full and gone:
                with suppress(KeyError):
                    poll.unregister(self._fd)
            else:
                poll.register(self._fd, 0 if full else select.POLLIN)
            ready = dict(poll.poll())
            if self._wake in ready:
                os.read(self._wake, 1024)
            elif full and not gone and ready.get(self._fd, 0) & _GONE:
                gone = True
                self._loop.call_soon_threadsafe(self.hung_up.set)
            elif not full and self._fd in ready:
                data = self._take()
                self._hand_over(lines.feed(data) if data else lines.rest())
                if not data:
                    return

    def _take(self) -> bytes:
        try:
            return os.read(self._fd, _READ)
        except OSError:  # a terminal that has gone, or a descriptor that was never there
            return b""

    def _hand_over(self, lines: list[Line]) -> None:
        with self._lock:
            self._pending += sum(line.cost for line in lines)
        for line in lines:
            self._loop.call_soon_threadsafe(self._lines.put_nowait, line)


class Output:
    """Lines to a descriptor. `broken` is called, once, when nobody reads any more."""

    def __init__(self, fd: int, loop: asyncio.AbstractEventLoop, broken: Callable[[], object]) -> None:
        self._fd = fd
        self._loop = loop
        self._broken = broken
        self._gone = False
        self._waiting: queue.SimpleQueue[tuple[bytes, asyncio.Future[None]] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="output", daemon=True)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    async def write(self, line: bytes) -> None:
        """Write one line and its end; returns when the reader has room for more. Raises ClientClosed."""
        if not self._gone:
            written = self._loop.create_future()
            self._waiting.put((line, written))
            await written
        if self._gone:
            raise ClientClosed

    def stop(self) -> None:
        """Write what waits, if the reader takes it soon."""
        self._waiting.put(None)
        self._thread.join(JOIN_SECONDS)

    def _run(self) -> None:
        # The loop may be closed before a thread that hangs in a write comes back.
        with suppress(RuntimeError):
            while (item := self._waiting.get()) is not None:
                line, written = item
                if not self._gone:
                    self._write(line)
                self._loop.call_soon_threadsafe(_finish, written)

    def _write(self, line: bytes) -> None:
        rest = memoryview(line + b"\n")
        try:
            while rest:
                rest = rest[os.write(self._fd, rest) :]
        except OSError:
            self._gone = True
            self._loop.call_soon_threadsafe(self._broken)


def _finish(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
