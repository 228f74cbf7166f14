"""A running `moongate connect`, and the client that has started it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import IO, Any

from moongate.testing import Backend
from tests.proxy.talk import initialize
from tests.runtime.test_serve import environment

READY = b'{"jsonrpc":"2.0","method":"notifications/initialized"}'
LINE = 1 << 27


class Client:
    """Who has started it: writes lines to it and reads lines from it."""

    def __init__(self, process: Process, errors: Path) -> None:
        self.process = process
        self._errors = errors

    @property
    def errors(self) -> str:
        """Its log so far."""
        return self._errors.read_text("utf-8")

    async def say(self, *lines: bytes) -> None:
        """Write lines."""
        assert self.process.stdin is not None
        self.process.stdin.write(b"".join(line + b"\n" for line in lines))
        await self.process.stdin.drain()

    async def line(self) -> bytes:
        """The next line, b"" at the end."""
        assert self.process.stdout is not None
        line = await self.process.stdout.readline()
        assert not line or line.endswith(b"\n")
        return line.removesuffix(b"\n")

    async def hear(self) -> Any:  # noqa: ANN401 - any JSON
        """The next message."""
        return json.loads(await self.line())

    async def ask(self, body: bytes) -> Any:  # noqa: ANN401 - any JSON
        """Say one thing and hear the next."""
        await self.say(body)
        return await self.hear()

    async def shake_hands(self, revision: str = "2025-06-18") -> Any:  # noqa: ANN401 - any JSON
        """Open a session; the answer to initialize."""
        answer = await self.ask(initialize(revision))
        await self.say(READY)
        return answer

    def close(self) -> None:
        """Close its standard input."""
        assert self.process.stdin is not None
        self.process.stdin.close()

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    async def ended(self, seconds: float = 8.0) -> int:
        """Its exit code."""
        async with asyncio.timeout(seconds):
            return await self.process.wait()


@asynccontextmanager
async def started(
    folder: Path,
    url: str,
    *options: str,
    env: dict[str, str] | None = None,
    stdin: int | IO[bytes] = PIPE,
    stdout: int | IO[bytes] = PIPE,
) -> AsyncIterator[Client]:
    """`moongate connect` until the block ends."""
    errors = folder / "errors.log"
    with errors.open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "moongate", "connect", url, *options),
            stdin=stdin,
            stdout=stdout,
            stderr=log,
            env=environment(**(env or {})),
            limit=LINE,
        )
    try:
        yield Client(process, errors)
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()


def memory(pid: int) -> int:
    """Resident bytes of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE")


def said(backend: Backend) -> list[str]:
    """What came to the server: JSON-RPC methods, or HTTP methods of requests without a body."""
    return [json.loads(seen.body).get("method", "answer") if seen.body else seen.method for seen in backend.seen]
