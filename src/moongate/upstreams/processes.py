"""The gateway's side of hosted processes: starts them through the watcher, hears when they end, ends their trees.

The watcher (`watcher.py`, a script that this module runs) is started with the first process, and again if it died.
Descriptors and environments go to it over one socket; see there for the messages.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import errno
import json
import logging
import os
import secrets
import signal
import socket
import subprocess
import sys
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from moongate.errors import FailureClass, UpstreamError
from moongate.model.snapshot import Command
from moongate.tasks import Tasks
from moongate.upstreams import watcher

log = logging.getLogger("moongate")

STDIN_SECONDS = 2.0  # from closing stdin to SIGTERM
TERM_SECONDS = 2.0  # from SIGTERM to SIGKILL
CLOSE_SECONDS = STDIN_SECONDS + TERM_SECONDS + 2.0
WATCHER_EXIT_SECONDS = 2.0
SOON_BETTER = {errno.ETOOMANYREFS, errno.ENOBUFS, errno.ENOMEM}  # sendmsg(2): too many descriptors on their way
RETRY_SECONDS = 0.01
SWEEPS = 40
SWEEP_PAUSE = 0.05
OWN = "MOONGATE_"


class NoRoom(UpstreamError):
    """As many processes run as there may be: not the command's fault. Always PROCESS_START."""


@dataclass(frozen=True, slots=True)
class ExitStatus:
    """How a process ended. `code`: exit code, negative for a signal, None if nobody could tell."""

    code: int | None

    def __str__(self) -> str:
        if self.code is None:
            return "ended together with its watcher"
        if self.code >= 0:
            return f"ended with exit code {self.code}"
        try:
            return f"was ended by {signal.Signals(-self.code).name}"
        except ValueError:
            return f"was ended by signal {-self.code}"


class Process:
    """One hosted process. `stdin`, `stdout`, `stderr` are non-blocking pipe ends that belong to whoever spawned it.

    `exited` has the program's own end, at once; `gone` is set when nothing is left of its tree either.
    """

    def __init__(self, name: str, end: Callable[[float], None]) -> None:
        loop = asyncio.get_running_loop()
        self.name = name
        self.pid = 0
        self.stdin = self.stdout = self.stderr = -1
        self.exited: asyncio.Future[ExitStatus] = loop.create_future()
        self.gone: asyncio.Future[None] = loop.create_future()
        self.began = loop.time()
        self._loop = loop
        self._end = end
        self._retiring: asyncio.TimerHandle | None = None

    @property
    def retired(self) -> bool:
        """Whether its end has begun."""
        return self._retiring is not None

    def end(self, grace: float = TERM_SECONDS) -> None:
        """SIGTERM to the whole tree now, SIGKILL after `grace` seconds to what is left, until nothing is."""
        if not self.gone.done():
            self._end(grace)

    def retire(self) -> None:
        """Its stdin was closed: let it end by itself for STDIN_SECONDS, then `end` it."""
        if not self.retired:
            self._retiring = self._loop.call_later(STDIN_SECONDS, self.end)

    def _started(self, pid: int) -> None:
        self.pid = pid

    def _ended(self, status: ExitStatus) -> None:
        if not self.exited.done():
            self.exited.set_result(status)

    def _vanished(self) -> None:
        if self._retiring is not None:
            self._retiring.cancel()
        if not self.gone.done():
            self.gone.set_result(None)


class _Link:
    """The watcher process and the socket to it. `heard` gets its messages; `lost` is called once, when it is gone."""

    def __init__(self, heard: Callable[[dict[str, Any]], None], lost: Callable[[_Link], None]) -> None:
        """Raises OSError."""
        self.mark = secrets.token_hex(8)
        self._heard = heard
        self._lost = lost
        self._loop = asyncio.get_running_loop()
        self._inbox = bytearray()
        self._outbox: deque[tuple[memoryview, tuple[int, ...]]] = deque()
        self._socket, theirs = socket.socketpair()
        self._socket.setblocking(False)
        inherited = {name: value for name in ("LD_LIBRARY_PATH",) if (value := os.environ.get(name)) is not None}
        try:
            self.process = subprocess.Popen(  # noqa: S603 - our own script
                [sys.executable, "-I", "-S", watcher.__file__, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env=inherited,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        except OSError:
            self._socket.close()
            raise
        finally:
            theirs.close()
        self._loop.add_reader(self._socket.fileno(), self._readable)

    @property
    def open(self) -> bool:
        """Whether it can be spoken to."""
        return self._socket.fileno() >= 0

    def send(self, message: dict[str, object], fds: tuple[int, ...] = ()) -> None:
        """Queue a message; `fds` go with it and are closed here once they are there."""
        text = json.dumps(message).encode()
        self._outbox.append((memoryview(watcher.LENGTH.pack(len(text)) + text), fds))
        if len(self._outbox) == 1:
            self._flush()

    def _flush(self) -> None:
        waiting = self._outbox
        while waiting and self.open:
            data, fds = waiting[0]
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
            try:
                sent = self._socket.sendmsg([data], rights)
            except BlockingIOError:
                self._loop.add_writer(self._socket.fileno(), self._flush)
                return
            except OSError as error:
                if error.errno in SOON_BETTER:
                    self._loop.call_later(RETRY_SECONDS, self._flush)
                else:
                    self.close()
                return
            _close_all(fds)
            waiting[0] = (data[sent:], ())
            if sent == len(data):
                waiting.popleft()
        if self.open:
            self._loop.remove_writer(self._socket.fileno())

    def _readable(self) -> None:
        try:
            data = self._socket.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.close()
            return
        self._inbox += data
        size = watcher.LENGTH.size
        while len(self._inbox) >= size:
            end = size + watcher.LENGTH.unpack_from(self._inbox)[0]
            if len(self._inbox) < end:
                return
            message = json.loads(self._inbox[size:end])
            del self._inbox[:end]
            self._heard(message)

    def close(self) -> None:
        """Close the socket: the watcher ends what it has, and itself."""
        if self.open:
            self._loop.remove_reader(self._socket.fileno())
            self._loop.remove_writer(self._socket.fileno())
            self._socket.close()
            for _, fds in self._outbox:
                _close_all(fds)
            self._outbox.clear()
            self._lost(self)

    async def collect(self) -> None:
        """Wait for the watcher's own end, within limits."""
        deadline = self._loop.time() + WATCHER_EXIT_SECONDS
        while self.process.poll() is None:
            if self._loop.time() > deadline:
                self.process.kill()
            await asyncio.sleep(0.005)


class Processes:
    """All hosted processes of a gateway. `max_processes` bounds how many trees there may be at once.

    `starts` and `exits` count programs (`started` and `ended`: by server); `running` is how many trees there are now.
    """

    def __init__(self, max_processes: int = 256, tasks: Tasks | None = None) -> None:
        self.max_processes = max_processes
        self.starts = 0
        self.exits = 0
        self.started: Counter[str] = Counter()
        self.ended: Counter[str] = Counter()
        self._tasks = tasks or Tasks("processes")
        self._live: dict[int, Process] = {}
        self._starting: dict[int, asyncio.Future[None]] = {}
        self._commands: dict[int, Command] = {}
        self._cleaning: set[asyncio.Task[None]] = set()
        self._link: _Link | None = None
        self._number = 0
        self._closed = False

    @property
    def running(self) -> int:
        """Trees that are not gone yet."""
        return len(self._live)

    @property
    def live(self) -> tuple[Process, ...]:
        """The trees that are not gone yet."""
        return tuple(self._live.values())

    @property
    def watcher_pid(self) -> int | None:
        """The watcher's process id, None before the first start."""
        return self._link.process.pid if self._link is not None else None

    async def spawn(self, command: Command, environ: Mapping[str, str]) -> Process:
        """Start a program; `environ` is the gateway's environment. Returns when it runs, within its start limit.

        Raises UpstreamError (PROCESS_START) with the reason; NoRoom where it is not the command's fault.
        """
        if self._closed:
            raise NoRoom(FailureClass.PROCESS_START, "the gateway is being stopped")
        if self.running >= self.max_processes:
            text = f"{self.running} processes are running, no more are allowed (gateway.maxProcesses)"
            raise NoRoom(FailureClass.PROCESS_START, text)
        self._number += 1
        number = self._number
        try:
            link = self._link = self._link or _Link(self._heard, self._lost)
            request = _request(command, environ, f"{link.mark}-{number}")
            process = Process(command.name, lambda grace: self._end(link, number, grace))
            theirs = _open_pipes(process)
        except OSError as error:
            reason = f"no process can be started: {error.strerror}"
            raise NoRoom(FailureClass.PROCESS_START, reason) from error
        started = asyncio.get_running_loop().create_future()
        self._live[number], self._starting[number], self._commands[number] = process, started, command
        link.send({"do": "spawn", "id": number, **request}, theirs)
        try:
            async with asyncio.timeout(command.start_seconds):
                await started
        except BaseException as error:
            _close_all((process.stdin, process.stdout, process.stderr))
            process.end(0.0)
            if isinstance(error, TimeoutError):
                reason = f"the program could not be started within {command.start_seconds:g} s"
                raise UpstreamError(FailureClass.PROCESS_START, reason) from None
            raise
        finally:
            self._starting.pop(number, None)
        return process

    def _end(self, link: _Link, number: int, grace: float) -> None:
        if link.open:
            link.send({"do": "end", "id": number, "grace": grace})

    def _heard(self, message: dict[str, Any]) -> None:
        number = message["id"]
        process = self._live.get(number)
        if process is None:
            return
        started = self._starting.get(number)
        if "pid" in message:
            self.starts += 1
            self.started[process.name] += 1
            process._started(message["pid"])  # noqa: SLF001 - a Process is the public half of this class
            if started is not None and not started.done():
                started.set_result(None)
        elif "error" in message:
            stage, code = message["error"]
            reason = _reason(self._commands[number], stage, code)
            self._forget(number, started, UpstreamError(FailureClass.PROCESS_START, reason))
        elif "code" in message:
            self.exits += 1
            self.ended[process.name] += 1
            process._ended(ExitStatus(message["code"]))  # noqa: SLF001 - see above
        else:
            if message["left"]:
                log.error("hosted server %r: %d processes could not be ended", process.name, message["left"])
            self._forget(number, started, UpstreamError(FailureClass.PROCESS_START, "it did not start in time"))

    def _forget(self, number: int, started: asyncio.Future[None] | None, error: UpstreamError) -> None:
        if started is not None and not started.done():
            started.set_exception(error)
        process = self._live.pop(number)
        del self._commands[number]
        process._ended(ExitStatus(None))  # noqa: SLF001 - see _heard
        process._vanished()  # noqa: SLF001 - see _heard

    def _lost(self, link: _Link) -> None:
        """The watcher is gone, wanted or not; it cannot end anything any more."""
        self._link = None
        pids = [process.pid for process in self._live.values() if process.pid]
        if not self._closed:
            log.error("the watcher process has ended; %d hosted servers end with it", len(self._live))
            for pid in pids:
                watcher.send(-pid, signal.SIGKILL)
        for number in tuple(self._live):
            error = UpstreamError(FailureClass.PROCESS_START, "the watcher process has ended")
            self._forget(number, self._starting.get(number), error)
        cleaning = self._tasks.spawn(self._clean_up(link, pids), "watcher's end")
        self._cleaning.add(cleaning)
        cleaning.add_done_callback(self._cleaning.discard)

    async def _clean_up(self, link: _Link, pids: list[int]) -> None:
        await link.collect()
        mark = f"{watcher.MARK}={link.mark}-".encode()
        for _ in range(SWEEPS if pids else 0):
            if await asyncio.to_thread(_sweep, mark, pids):
                return
            await asyncio.sleep(SWEEP_PAUSE)

    async def close(self) -> None:
        """End every tree within CLOSE_SECONDS, then the watcher. Owners have closed stdin where that matters."""
        self._closed = True
        for process in self._live.values():
            if not process.retired:
                process.end()
        if self._live:
            await asyncio.wait([process.gone for process in self._live.values()], timeout=CLOSE_SECONDS)
        if self._link is not None:
            self._link.close()
        if self._cleaning:
            await asyncio.wait(self._cleaning, timeout=WATCHER_EXIT_SECONDS * 2)


def child_environment(command: Command, environ: Mapping[str, str]) -> dict[str, str]:
    """What a program's environment is made of, `environ` being the gateway's."""
    inherited = {} if command.clear_env else environ
    kept = {
        name: value for name, value in inherited.items() if name not in command.withheld and not name.startswith(OWN)
    }
    return {**kept, **dict(command.env)}


def _request(command: Command, environ: Mapping[str, str], mark: str) -> dict[str, object]:
    """The watcher's words for a command. Raises UpstreamError for what no system takes."""
    child = {**child_environment(command, environ), watcher.MARK: mark}
    if not command.argv or not command.argv[0]:
        raise UpstreamError(FailureClass.PROCESS_START, "there is no command to run")
    for name, value in child.items():
        if not name or "=" in name or "\0" in name or "\0" in value:
            text = f"environment variable {name!r} cannot be set: its name is empty or has '=', or there is a NUL byte"
            raise UpstreamError(FailureClass.PROCESS_START, text)
    if any("\0" in text for text in (*command.argv, command.cwd or "")):
        raise UpstreamError(FailureClass.PROCESS_START, "a NUL byte stands in its arguments or its working directory")
    limits = command.limits
    try:
        return {
            "argv": [_text(text) for text in command.argv],
            "env": [[_text(name), _text(value)] for name, value in child.items()],
            "cwd": None if command.cwd is None else _text(command.cwd),
            "path": _text(child.get("PATH") or environ.get("PATH") or os.defpath),
            "limits": [limits.memory, limits.open_files, limits.cpu_seconds],
            "mark": mark,
        }
    except UnicodeEncodeError as error:
        text = f"a text in its command or environment cannot be written in the system's encoding, {error.encoding}"
        raise UpstreamError(FailureClass.PROCESS_START, text) from None


def _text(text: str) -> str:
    """The system's bytes of a text, each as one character."""
    return os.fsencode(text).decode("latin-1")


def _open_pipes(process: Process) -> tuple[int, int, int]:
    """Give a process its ends; returns those for the program. Raises OSError."""
    opened: list[int] = []
    try:
        for _ in range(3):
            opened += os.pipe()
    except OSError:
        _close_all(opened)
        raise
    stdin, process.stdin, process.stdout, stdout, process.stderr, stderr = opened
    for fd in (process.stdin, process.stdout, process.stderr):
        os.set_blocking(fd, False)
    return stdin, stdout, stderr


def _close_all(fds: tuple[int, ...] | list[int]) -> None:
    for fd in fds:
        os.close(fd)


def _reason(command: Command, stage: str, code: int) -> str:
    """Why a program did not start, in plain words."""
    program, cwd, words = command.argv[0], command.cwd, os.strerror(code)
    known = {
        ("exec", "ENOENT"): f"{program!r} does not exist" if "/" in program else f"{program!r} was not found on PATH",
        ("exec", "EACCES"): f"{program!r} is not executable",
        ("exec", "ENOEXEC"): f"{program!r} is not a program (a script begins with #! and its interpreter)",
        ("exec", "E2BIG"): "its arguments and environment are too long for the system",
        ("interpreter", "ENOENT"): f"{program!r} needs an interpreter or loader that does not exist",
        ("cwd", "ENOENT"): f"its working directory {cwd!r} does not exist",
        ("cwd", "ENOTDIR"): f"its working directory {cwd!r} is not a directory",
        ("cwd", "EACCES"): f"its working directory {cwd!r} may not be entered",
        ("limits", "EPERM"): "its limits cannot be set: they are above the gateway's own",
    }
    other = {
        "exec": f"{program!r} cannot be run: {words}",
        "cwd": f"its working directory {cwd!r} cannot be used: {words}",
        "limits": f"its limits cannot be set: {words}",
        "fork": f"no process can be made: {words}",
    }
    return known.get((stage, _errno_name(code))) or other.get(stage) or f"it could not be started: {words}"


def _errno_name(code: int) -> str:
    return errno.errorcode.get(code, "")


def _sweep(mark: bytes, pids: list[int]) -> bool:
    """End what a dead watcher left behind, and collect what became our own child. True when nothing is left."""
    for pid in pids:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
    left = [pid for pid in watcher.process_table() if watcher.has_mark(pid, mark)] if watcher.has_proc() else []
    for pid in left:
        watcher.send(pid, signal.SIGKILL)
    pids += left
    return not left
