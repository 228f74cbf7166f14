"""Servers over stdio (transport "stdio" of every MCP revision): a supervised child, one JSON-RPC message a line.

The child's stdin gets messages only, one write per loop turn. Of its stdout, lines that can be messages go to the
receiver as they are; all else is noise, counted and kept for the operator. Its stderr is read always, so that a child
that fills it never blocks, and the last lines are kept.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
from collections import deque
from collections.abc import Callable, Mapping

from moongate.errors import FailureClass, UpstreamError
from moongate.model.snapshot import MIB, Command
from moongate.protocol.splice import elements, read_incoming
from moongate.upstreams.base import Receiver
from moongate.upstreams.processes import ExitStatus, NoRoom, Process, Processes

log = logging.getLogger("moongate")

READ_BYTES = 64 * 1024  # a pipe's size
WAITING_BYTES = 64 * MIB
EXIT_SECONDS = 0.5  # between the end of stdout and the word of how the process ended
KEPT_LINES = 20
LINE_BYTES = 8 * 1024
SHOWN_CHARACTERS = 500
SHOWN_TOTAL = 2000
NOISE_SECONDS = 5.0
FIRST_DELAY = 0.5
LONGEST_DELAY = 30.0
LONGEST_WAIT = 1.0
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\^_])")
_BOM = b"\xef\xbb\xbf"
# How nearly all SDKs write messages: `jsonrpc` first, or last but perhaps for a short id. Others are read.
_FIRST = b'{"jsonrpc"'
_LAST = re.compile(rb'"jsonrpc"[ \t]*:[ \t]*"2\.0"[ \t]*(?:,[ \t]*"id"[ \t]*:[ \t]*(?:[0-9]+|"[^"\\]*")[ \t]*)?\}\Z')
_LAST_BYTES = 128


class LastLines:
    """The last lines of a text that may be endless, in bounded memory and time."""

    def __init__(self, redact: Callable[[str], str]) -> None:
        self._redact = redact
        self._lines: deque[bytes] = deque(maxlen=KEPT_LINES)
        self._rest = b""

    def feed(self, data: bytes, *, every: bool = False) -> list[str]:
        """A piece of it, split anywhere. With `every`, returns the lines that are complete now, fit to be logged."""
        *lines, rest = (self._rest + data).rsplit(b"\n", -1 if every else KEPT_LINES + 1)
        self._rest = rest[:LINE_BYTES]
        lines = [line[:LINE_BYTES] for line in (lines if every else lines[-KEPT_LINES:])]
        self._lines.extend(line for line in lines if line.strip())
        return [self.show(line) for line in lines if line.strip()] if every else []

    def show(self, line: bytes) -> str:
        """A line without secrets, without what could drive a terminal, and not longer than people read."""
        text = _ESCAPES.sub("", self._redact(line[:LINE_BYTES].decode("utf-8", "replace").strip())).replace("\t", " ")
        if len(text) > SHOWN_CHARACTERS:
            text = text[:SHOWN_CHARACTERS] + "..."
        return (
            text if text.isprintable() else "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
        )

    @property
    def texts(self) -> list[str]:
        """The lines, oldest first, an unfinished one last."""
        lines = [*self._lines, self._rest] if self._rest.strip() else self._lines
        return [self.show(line) for line in lines][-KEPT_LINES:]

    def __str__(self) -> str:
        return " | ".join(self.texts)[-SHOWN_TOTAL:]


class StdioChannel:
    """A `base.Channel` to one process. `judged` hears once whether it works: that it has written a message, or why it
    ended before it did.
    """

    def __init__(
        self,
        process: Process,
        command: Command,
        receiver: Receiver,
        redact: Callable[[str], str],
        judged: Callable[[bool, str], None],
    ) -> None:
        self.process = process
        self.noise = 0
        self.stderr = LastLines(redact)
        self._name = command.name
        self._limit = command.line_bytes
        self._start_seconds = command.start_seconds
        self._receiver = receiver
        self._judged = judged
        self._loop = asyncio.get_running_loop()
        self._noise = LastLines(redact)
        self._noise_at = 0.0
        self._heard = False
        self._over = False
        self._paused = False
        self._rest = bytearray()  # of a line whose end has not come: some servers write two bytes at a time
        self._out: list[bytes] = []
        self._waiting = 0
        self._writing: memoryview | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._loop.add_reader(process.stdout, self._read_stdout)
        self._loop.add_reader(process.stderr, self._read_stderr)
        process.exited.add_done_callback(self._exited)

    @property
    def noise_lines(self) -> list[str]:
        """The last lines on stdout that were no messages, without secrets."""
        return self._noise.texts

    # Towards the child.

    def write(self, message: bytes, failed: Callable[[UpstreamError], None]) -> None:
        """Send one message with the next turn of the loop; see `base.Channel`."""
        if self._over:
            return
        if self.process.stdin < 0 or self._waiting > WAITING_BYTES:
            if self.process.stdin < 0:
                error = UpstreamError(FailureClass.PROCESS_EXIT, f"{self._name!r} has closed its stdin")
            else:
                text = f"{self._name!r} does not read its stdin; {self._waiting} bytes wait for it"
                error = UpstreamError(FailureClass.UPSTREAM_TIMEOUT, text)
            self._loop.call_soon(failed, error)
            return
        if b"\n" in message or b"\r" in message:  # only white space between tokens can be one, unless it is no JSON
            message = message.replace(b"\r", b" ").replace(b"\n", b" ")
        if not self._out and self._writing is None:
            self._loop.call_soon(self._flush)
        self._out += (message, b"\n")
        self._waiting += len(message) + 1

    def _flush(self) -> None:
        stdin = self.process.stdin
        while stdin >= 0 and (self._out or self._writing):
            if self._writing is None:
                self._writing = memoryview(b"".join(self._out))
                self._out.clear()
            try:
                sent = os.write(stdin, self._writing)
            except BlockingIOError:
                self._loop.add_writer(stdin, self._flush)
                return
            except OSError:
                self._close_stdin()
                self._await_exit()
                return
            self._waiting -= sent
            self._writing = self._writing[sent:] if sent < len(self._writing) else None
        if stdin >= 0:
            self._loop.remove_writer(stdin)

    def _close_stdin(self) -> None:
        if self.process.stdin >= 0:
            self._loop.remove_writer(self.process.stdin)
            os.close(self.process.stdin)
            self.process.stdin = -1
        self._out.clear()
        self._writing = None
        self._waiting = 0

    # From the child.

    def _read_stdout(self) -> None:
        try:
            data = os.read(self.process.stdout, READ_BYTES)
        except BlockingIOError:
            return
        if data:
            self._feed(data)
        else:
            self._close_stdout()
            self._await_exit()

    def _feed(self, data: bytes) -> None:
        handled = False
        try:
            self._split(data)
            handled = True
        finally:
            if not handled:  # by a fault of our own, whose trace is logged: whoever waits must not wait in vain
                self._break_off(f"what {self._name!r} wrote could not be handled")

    def _split(self, data: bytes) -> None:
        if self._rest:
            end = data.find(b"\n")
            if end < 0:
                self._hold(data)
                return
            self._rest += data[:end]
            first = bytes(self._rest)
            self._rest.clear()
            self._line(first)
            data = data[end + 1 :]
        lines = data.split(b"\n")
        rest = lines.pop()
        for line in lines:
            self._line(line)
        if rest:
            self._hold(rest)

    def _hold(self, piece: bytes) -> None:
        if self._over:
            return
        self._rest += piece
        if len(self._rest) > self._limit:
            self._break_off(self._too_long)

    def _line(self, line: bytes) -> None:
        if self._over:  # perhaps since an earlier line of this piece
            return
        if len(line) > self._limit:
            self._break_off(self._too_long)
            return
        line = line.strip()
        if line.startswith(_FIRST) or (line and _is_message(line := line.removeprefix(_BOM))):
            if not self._heard:
                self._heard = True
                self._judged(True, "")
            self._receiver.received(line)
        elif line:
            self._noisy(line)

    def _noisy(self, line: bytes) -> None:
        self.noise += 1
        self._noise.feed(line[:LINE_BYTES] + b"\n")
        now = self._loop.time()
        if now >= self._noise_at:
            self._noise_at = now + NOISE_SECONDS
            level = logging.WARNING if self.noise == 1 else logging.INFO
            text = "hosted server %r wrote to its stdout what is no message (line %d of this kind): %s"
            log.log(level, text, self._name, self.noise, self._noise.show(line))

    def _read_stderr(self) -> None:
        try:
            data = os.read(self.process.stderr, READ_BYTES)
        except BlockingIOError:
            return
        if not data:
            self._close_stderr()
        self._keep_stderr(data)

    def _keep_stderr(self, data: bytes) -> None:
        for text in self.stderr.feed(data, every=log.isEnabledFor(logging.DEBUG)):
            log.debug("%s: %s", self._name, text)

    @property
    def _too_long(self) -> str:
        return f"{self._name!r} wrote a line of more than {self._limit} bytes"

    def _break_off(self, why: str) -> None:
        self._finish(UpstreamError(FailureClass.UPSTREAM_PROTOCOL, why))
        self._discard()
        self.process.end()

    def pause(self) -> None:
        """Stop reading stdout."""
        if not self._paused and not self._over and self.process.stdout >= 0:
            self._loop.remove_reader(self.process.stdout)
        self._paused = True

    def resume(self) -> None:
        """Go on reading stdout."""
        if self._paused and not self._over and self.process.stdout >= 0:
            self._loop.add_reader(self.process.stdout, self._read_stdout)
        self._paused = False

    # The end.

    def close(self) -> None:
        """End the process: stdin closes, SIGTERM, SIGKILL, each after its time."""
        if not self._over:
            self._over = True
            log.debug("hosted server %r: process %d is being ended", self._name, self.process.pid)
            self._flush()
            self._close_stdin()
            self._discard()
            self.process.retire()

    def _discard(self) -> None:
        """Nobody listens any more, but the child may still write while it ends in its own way."""
        self._rest.clear()
        if self.process.stdout >= 0:
            self._loop.add_reader(self.process.stdout, self._read_stdout)

    def _await_exit(self) -> None:
        """One of its pipes is closed; mostly because it has ended, and the word of how comes next."""
        if self._timer is None and not self._over:
            self._timer = self._loop.call_later(EXIT_SECONDS, self._lingers)

    def _lingers(self) -> None:
        if self._over:
            return
        error = self._failure("closed its stdin or stdout without ending")
        self._close_stdin()
        self._discard()
        self._finish(error)
        self.process.end()

    def _exited(self, future: asyncio.Future[ExitStatus]) -> None:
        """All that the program wrote is in the pipes; what others of its tree still write does not matter."""
        status = str(future.result())
        try:
            self._drain(self.process.stdout, self._feed)
            self._drain(self.process.stderr, self._keep_stderr)
            if self._rest and not self._over:
                self._noisy(bytes(self._rest).strip())
            self._rest.clear()
            if not self._over:
                self._finish(self._failure(status))
            else:
                log.debug("hosted server %r: process %d %s", self._name, self.process.pid, status)
        finally:
            self._close_stdin()
            self._close_stdout()
            self._close_stderr()

    def _drain(self, fd: int, take: Callable[[bytes], None]) -> None:
        with contextlib.suppress(BlockingIOError):
            for _ in range(MIB // READ_BYTES):
                data = os.read(fd, READ_BYTES) if fd >= 0 else b""
                if not data:
                    return
                take(data)

    def _failure(self, how: str) -> UpstreamError:
        """What its end means for who waits."""
        young = self._loop.time() - self.process.began <= self._start_seconds
        failure = FailureClass.PROCESS_EXIT if self._heard or not young else FailureClass.PROCESS_START
        before = "" if self._heard else " before it said anything"
        last = str(self.stderr)
        return UpstreamError(
            failure, f"{self._name!r} {how}{before}" + (f"; its last lines on stderr: {last}" if last else "")
        )

    def _finish(self, error: UpstreamError) -> None:
        """Tell the receiver, once."""
        if not self._over:
            self._over = True
            log.warning("hosted server: %s", error.detail)
            if not self._heard:
                self._judged(False, error.detail)
            self._receiver.closed(error)

    def _close_stdout(self) -> None:
        if self.process.stdout >= 0:
            self._loop.remove_reader(self.process.stdout)
            os.close(self.process.stdout)
            self.process.stdout = -1

    def _close_stderr(self) -> None:
        if self.process.stderr >= 0:
            self._loop.remove_reader(self.process.stderr)
            os.close(self.process.stderr)
            self.process.stderr = -1


def _is_message(line: bytes) -> bool:
    """Whether it is a JSON-RPC message, or an array with one in it; a log line in JSON is none."""
    after = line[1:65].lstrip()[:1]
    if (line[:1], after) == (b"{", b'"'):
        return _LAST.search(line, max(0, len(line) - _LAST_BYTES)) is not None or read_incoming(line) is not None
    if (line[:1], after) == (b"[", b"{"):
        return any(read_incoming(element) is not None for element in elements(line))
    return False


class StdioOpener:
    """A `base.Opener` of one command. A program that ends before it has said anything (or cannot be started) is started
    again only after a delay, 0.5 s that doubles up to 30 s; the first message of any of its processes ends that.

    `environ` is the gateway's environment; `redact` takes secrets out of a text.
    """

    def __init__(
        self, command: Command, processes: Processes, environ: Mapping[str, str], redact: Callable[[str], str]
    ) -> None:
        self.command = command
        self._processes = processes
        self._environ = environ
        self._redact = redact
        self._delay = 0.0
        self._failed_at = 0.0
        self._reason = ""

    async def open(self, receiver: Receiver) -> StdioChannel:
        """Start a process. Raises UpstreamError (PROCESS_START)."""
        wait = self._failed_at + self._delay - asyncio.get_running_loop().time()
        if self._delay and wait > LONGEST_WAIT:
            text = f"{self._reason}; it can be started again in {wait:.1f} s"
            raise UpstreamError(FailureClass.PROCESS_START, text)
        if self._delay and wait > 0:
            await asyncio.sleep(wait)
        began = asyncio.get_running_loop().time()
        try:
            process = await self._processes.spawn(self.command, self._environ)
        except NoRoom as error:
            raise UpstreamError(error.failure, f"{self.command.name!r} was not started: {error.detail}") from None
        except UpstreamError as error:
            detail = f"{self.command.name!r} could not be started: {self._redact(error.detail)}"
            log.warning("hosted server: %s", detail)
            self._failed(began, detail)
            raise UpstreamError(error.failure, detail) from None
        log.debug("hosted server %r: process %d started", self.command.name, process.pid)
        return StdioChannel(process, self.command, receiver, self._redact, lambda *how: self._judged(began, *how))

    def _judged(self, began: float, worked: bool, reason: str) -> None:
        if worked:
            self._delay = 0.0
        else:
            self._failed(began, reason)

    def _failed(self, began: float, reason: str) -> None:
        """Several that were started before the last failure was known count once."""
        self._reason = reason
        if not self._delay or began >= self._failed_at:
            self._delay = min(self._delay * 2, LONGEST_DELAY) or FIRST_DELAY
        self._failed_at = asyncio.get_running_loop().time()
