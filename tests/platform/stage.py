"""A whole gateway with its platform process, started as users start it, and a client of its API."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from moongate.tasks import Tasks
from tests.runtime.test_serve import environment

START = 40.0
PASSWORD = "correct-horse-" + "b" * 8


async def eventually(holds: Callable[[], Awaitable[bool]], seconds: float = 10.0) -> None:
    """Wait until something is so."""
    async with asyncio.timeout(seconds):
        while not await holds():  # noqa: ASYNC110 - another process tells nothing by itself
            await asyncio.sleep(0.02)


@dataclass
class Served:
    """A running `moongate serve`. `said` is its standard output so far, `errors` the file of its log."""

    process: asyncio.subprocess.Process
    data_dir: Path
    errors: Path
    said: list[str] = field(default_factory=list)
    _grown: asyncio.Event = field(default_factory=asyncio.Event)

    async def hear(self) -> None:
        """Read what it says."""
        assert self.process.stdout is not None
        while line := await self.process.stdout.readline():
            self.said.append(line.decode().rstrip("\n"))
            self._grown.set()

    async def line(self, pattern: str, seconds: float = START) -> re.Match[str]:
        """The last line that matches, as soon as there is one."""
        async with asyncio.timeout(seconds):
            while True:
                for line in reversed(self.said):
                    if match := re.search(pattern, line):
                        return match
                self._grown.clear()
                await self._grown.wait()

    @property
    def port(self) -> int:
        """Where clients call."""
        return next(int(line.rpartition(":")[2]) for line in self.said if line.startswith("Listening on http://127"))

    async def console(self) -> str:
        """The admin address."""
        return (await self.line(r"^Console on (\S+)"))[1]

    async def code(self) -> str:
        """The code of the link that was printed."""
        return (await self.line(r"/sign-in#code=(\S+)"))[1]

    @property
    def log(self) -> str:
        """Its standard error."""
        return self.errors.read_text("utf-8")

    def second(self) -> int | None:
        """The process id of the platform process."""
        for child in Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split():
            with suppress(OSError):
                if b"moongate.platform_process" in Path(f"/proc/{child}/cmdline").read_bytes():
                    return int(child)
        return None

    @asynccontextmanager
    async def api(self, **headers: str) -> AsyncIterator[httpx.AsyncClient]:
        """A client of the API that has not signed in."""
        base = await self.console() + "/api/v1"
        async with httpx.AsyncClient(base_url=base, headers=headers, timeout=15, trust_env=False) as client:
            yield client

    @asynccontextmanager
    async def admin(self) -> AsyncIterator[httpx.AsyncClient]:
        """A client with an admin's API key; the first of them makes the account by the printed link."""
        console = await self.console()
        async with self.api(origin=console) as browser:
            if (await browser.post("/sign-in", json={"name": "admin", "password": PASSWORD})).status_code != 200:
                first = {"code": await self.code(), "name": "admin", "password": PASSWORD}
                answer = await browser.post("/sign-in", json=first)
                assert answer.status_code == 200, answer.text
            made = await browser.post("/api-keys", json={"name": "tests", "role": "admin"})
            assert made.status_code == 201, made.text
        async with self.api(authorization=f"Bearer {made.json()['value']}") as client:
            yield client

    async def end(self, number: int = signal.SIGTERM, seconds: float = 25.0) -> int:
        """End it; its exit code."""
        self.process.send_signal(number)
        async with asyncio.timeout(seconds):
            return await self.process.wait()


@asynccontextmanager
async def serving(
    folder: Path,
    document: Mapping[str, Any] | None = None,
    *options: str,
    env: Mapping[str, str] | None = None,
    wait: bool = True,
) -> AsyncIterator[Served]:
    """`moongate serve` in a folder, on free ports, with the document as its file (None: without a file)."""
    words = ["--port", "0", "--data-dir", str(folder / "data"), *options]
    if document is not None:
        console = {"port": free_port(), **document.get("console", {})}
        file = folder / "gate.json"
        file.write_text(json.dumps({**document, "console": console}), "utf-8")
        words = ["-f", str(file), *words]
    errors = folder / "errors.log"
    with errors.open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "moongate", "serve", *words),
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
            cwd=folder,
            env=environment(**(env or {})),
        )
    served = Served(process, folder / "data", errors)
    tasks = Tasks("stage")
    tasks.spawn(served.hear(), "hear")
    try:
        if wait:
            try:
                await served.line(r"^Listening on http://127")
            except TimeoutError:
                raise AssertionError(served.log) from None
        yield served
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        await tasks.wait(5)  # its pipe is at its end then
        await tasks.close()


def free_port() -> int:
    """One that nobody has now."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


def processes_of(folder: Path) -> list[int]:
    """Platform processes that still run for a data directory: they hold its database open."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                if any(str(fd.readlink()).startswith(str(folder)) for fd in (entry / "fd").iterdir()):
                    found.append(int(entry.name))
    return found
