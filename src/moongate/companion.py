"""Starts the platform process beside the data plane, keeps it running, and speaks with it.

The two speak over a socket pair, in lines of JSON. The data plane says what the other needs (`settings`, `gateway`) and
answers questions; it asks nothing itself. If the platform process dies, calls go on and it is started again, later with
every try that failed soon. If the data plane dies, the pair closes and the platform process ends.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import sys
from collections.abc import Awaitable, Callable, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from moongate.control.published import NAME
from moongate.errors import ConfigError, MoongateError, StartError
from moongate.model.snapshot import PlatformSettings
from moongate.tasks import Tasks

log = logging.getLogger("moongate")

MODULE = "moongate.platform_process"
DATABASE = "moongate.db"
# One line may hold the whole configuration with its secrets.
LINE_BYTES = 256 * 1024 * 1024
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 30.0
# One that ran this long did not fail at its start.
SETTLED_SECONDS = 30.0
STOP_SECONDS = 15.0
# How long one may take to end that has closed the pair.
END_SECONDS = 2.0
PUBLICATION_SECONDS = 30.0
# What Python and the loader need; everything else goes over the pair, where nobody else reads it.
_INHERITED = (
    "PATH",
    "HOME",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "LD_LIBRARY_PATH",
    "TMPDIR",
    "TZ",
    "PYTHONPATH",
    "PYTHONHOME",
)

Answer = Callable[[str, dict[str, Any]], Awaitable[dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class Console:
    """The platform process listens at `address`. `link` signs the first operator in, once."""

    address: str
    link: str | None = None


def awaits_publication(data_dir: Path, settings: PlatformSettings, *, sealed: bool = False) -> bool:
    """Whether there is a store that has never told what is in it: then nobody knows yet who may call. `sealed`: it has,
    but that cannot be opened.
    """
    store = settings.store_url is not None or (data_dir / DATABASE).exists()
    return store and (sealed or not (data_dir / NAME).exists())


class Companion:
    """See the module. `answer` gets the name of a question and what goes with it; `listening` is called when the
    platform process is ready, with something new to say, `on_published` when it has published. `settings` is for JSON.
    """

    def __init__(self, settings: dict[str, Any], answer: Answer, listening: Callable[[Console], None]) -> None:
        self.on_published: Callable[[], None] | None = None
        self._settings = settings
        self._answer = answer
        self._listening = listening
        self._gateway: dict[str, Any] = {}
        self._force: dict[str, Any] = {}
        self._tasks = Tasks("platform process")
        self._writer: asyncio.StreamWriter | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._published = asyncio.Event()
        self._why = "it did not start in time"
        self._stopping = False
        self._renewing = False
        self._port: int | None = None
        self._console: Console | None = None

    @property
    def pid(self) -> int | None:
        """Its process id, while it runs."""
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Start it, and again whenever it ends."""
        if len(self._tasks):
            return
        self._tasks.spawn(self._run(), "run")

    def introduce(self, gateway: dict[str, Any]) -> None:
        """What will be in force, as far as it is known before the start."""
        self._gateway = gateway

    def tell(self, settings: dict[str, Any], gateway: dict[str, Any]) -> None:
        """What is in force now. With other settings it is started anew."""
        self._gateway = gateway
        if settings == self._settings:
            self._say({"gateway": gateway})
            return
        self._settings = settings
        self._port = None
        self._renewing = True
        self._say({"stop": True})

    def tell_force(self, force: dict[str, Any]) -> None:
        """Whether what was published last is in force (`fine`), and how much of it was left out (`leftOut`)."""
        self._force = force
        self._say({"force": force})

    def give_up(self) -> None:
        """Nobody waits for the first publication any more."""
        self._published.set()

    async def publication(self) -> None:
        """Wait for the first one, or `give_up`. Raises StartError if there is none within PUBLICATION_SECONDS."""
        try:
            async with asyncio.timeout(PUBLICATION_SECONDS):
                await self._published.wait()
        except TimeoutError:
            text = (
                f"there is a store, but what is in it is not known yet, and so not who may call: {self._why}; "
                "bring the store back, or choose another --data-dir"
            )
            raise StartError(text) from None

    async def stop(self, seconds: float = STOP_SECONDS) -> None:
        """End it; it brings what the journal holds into the store first, within `seconds`."""
        self._stopping = True
        self._say({"stop": True})
        process = self._process
        if process is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await process.wait()
        await self._tasks.close()

    # -- its life

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        pause = 0.0
        while True:
            began = loop.time()
            self._renewing = False
            ended = await self._live()
            if self._stopping:
                return
            if self._renewing:
                continue
            pause = (
                FIRST_PAUSE
                if loop.time() - began > SETTLED_SECONDS
                else max(FIRST_PAUSE, min(pause * 2, LONGEST_PAUSE))
            )
            log.error("the platform process %s; calls go on, it is started again in %g s", ended, pause)
            await asyncio.sleep(pause)

    async def _live(self) -> str:
        """One life; how it ended, in words."""
        ours, theirs = socket.socketpair()
        with closing(theirs):
            reader, writer = await asyncio.open_connection(sock=ours, limit=LINE_BYTES)
            try:
                self._process = process = await self._spawn(theirs)
            except OSError as error:
                writer.close()
                return f"could not be started ({error.strerror})"
        self._writer = writer
        self._say({"settings": {**self._settings, "portBefore": self._port}})
        self._say({"gateway": self._gateway})
        self._say({"force": self._force})
        try:
            await self._hear(reader)
            # How it ended is told by its exit code; one that hangs is of no use without its end of the pair.
            with suppress(TimeoutError):
                async with asyncio.timeout(STOP_SECONDS if self._stopping or self._renewing else END_SECONDS):
                    await process.wait()
        finally:
            self._writer = self._process = None
            writer.close()
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    process.kill()
        code = await process.wait()
        return f"was ended by signal {-code}" if code < 0 else f"has ended with exit code {code}"

    async def _spawn(self, theirs: socket.socket) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",  # nothing in the working directory is a module of ours
            "-m",
            MODULE,
            str(theirs.fileno()),
            pass_fds=[theirs.fileno()],
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            env={name: os.environ[name] for name in _INHERITED if name in os.environ},
            start_new_session=True,  # Ctrl-C is for the gateway, which ends it
        )

    # -- what is said

    def _say(self, message: dict[str, Any]) -> None:
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(_line(message))

    async def _hear(self, reader: asyncio.StreamReader) -> None:
        with suppress(OSError, ValueError):  # what cannot be read is its end, too
            while line := await reader.readline():
                message = json.loads(line)
                if "ask" in message:
                    self._tasks.spawn(self._reply(message), f"answer {message['ask']}")
                else:
                    self._heard(message)

    async def _reply(self, message: Mapping[str, Any]) -> None:
        try:
            answer: dict[str, Any] = {"answer": await self._answer(message["ask"], message.get("with") or {})}
        except ConfigError as error:
            answer = {"complaints": [[complaint.where, complaint.text] for complaint in error.complaints]}
        except MoongateError as error:
            answer = {"error": str(error)}
        self._say({"id": message["id"], **answer})

    def _heard(self, message: Mapping[str, Any]) -> None:
        match message.get("said"):
            case "published":
                self._published.set()
                if self.on_published is not None:
                    self.on_published()
            case "waiting":
                self._why = str(message["why"])
            case "listening":
                self._port = message["port"]
                console = Console(message["address"], message.get("link"))
                if console != self._console:
                    self._console = console
                    self._listening(console)
            case other:
                log.error("the platform process said what nobody understands: %r", other)


def _line(message: dict[str, Any]) -> bytes:
    """Fast, because requests wait meanwhile; variables of the environment may hold what is not UTF-8."""
    try:
        return msgspec.json.encode(message) + b"\n"
    except UnicodeEncodeError:
        return json.dumps(message).encode() + b"\n"
