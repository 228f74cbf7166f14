"""What tests of hosted processes share: a receiver that remembers, a puppet, and a look at what is left."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from moongate.errors import UpstreamError
from moongate.model.snapshot import Command
from moongate.upstreams.processes import Processes
from moongate.upstreams.stdio import StdioChannel, StdioOpener

PUPPET = Path(__file__).parent / "children" / "puppet.py"
PATIENCE = 15.0


class Ear:
    """A receiver that remembers what it heard."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []
        self.errors: list[UpstreamError] = []
        self.unexpected: list[UpstreamError] = []
        self._news = asyncio.Event()

    def received(self, message: bytes) -> None:
        """A message."""
        self.messages.append(message)
        self._news.set()

    def closed(self, error: UpstreamError) -> None:
        """The end."""
        self.errors.append(error)
        self._news.set()

    async def next(self) -> bytes:
        """The next message that was not taken yet; fails if the channel ended instead."""
        async with asyncio.timeout(PATIENCE):
            while not self.messages:
                assert not self.errors, self.errors
                self._news.clear()
                await self._news.wait()
        return self.messages.pop(0)

    async def ask(self, channel: StdioChannel, **message: object) -> dict[str, Any]:
        """Tell the puppet what to do and take its answer."""
        tell(channel, self, **message)
        answer = json.loads(await self.next())
        assert isinstance(answer, dict)
        assert answer.pop("jsonrpc") == "2.0"
        return answer

    async def end(self) -> UpstreamError:
        """How the channel ended, told exactly once."""
        async with asyncio.timeout(PATIENCE):
            while not self.errors:
                self._news.clear()
                await self._news.wait()
        assert len(self.errors) == 1
        return self.errors[0]


def tell(channel: StdioChannel, ear: Ear, **message: object) -> None:
    """Tell the puppet what to do."""
    channel.write(json.dumps(message).encode(), ear.unexpected.append)


def puppet(*arguments: str, **changes: Any) -> Command:  # noqa: ANN401 - fields of Command
    """The command that runs the puppet."""
    command = Command("puppet", (sys.executable, "-I", "-S", str(PUPPET), *arguments), start_seconds=10.0)
    return replace(command, **changes)


def opener(processes: Processes, command: Command, environ: Mapping[str, str] | None = None) -> StdioOpener:
    """An opener that hides the word `hush`."""
    return StdioOpener(command, processes, os.environ if environ is None else environ, hide)


def hide(text: str) -> str:
    """A redactor of one secret."""
    return text.replace("hush", "[secret]")


async def open_puppet(
    processes: Processes, ear: Ear, command: Command | None = None, environ: Mapping[str, str] | None = None
) -> StdioChannel:
    """A channel to a new puppet."""
    return await opener(processes, command or puppet(), environ).open(ear)


@asynccontextmanager
async def hosting(max_processes: int = 256) -> AsyncIterator[Processes]:
    """Hosted processes; afterwards no descriptor, no task and no child of ours may be left."""
    descriptors, tasks, others = open_descriptors(), len(asyncio.all_tasks()), children_of(os.getpid())
    processes = Processes(max_processes)
    try:
        yield processes
    finally:
        async with asyncio.timeout(PATIENCE):
            await processes.close()
    assert processes.running == 0
    assert set(children_of(os.getpid())) <= set(others)
    await asyncio.sleep(0)
    assert open_descriptors() == descriptors
    assert len(asyncio.all_tasks()) == tasks


def open_descriptors() -> list[int]:
    """Our open descriptors."""
    return sorted(fd for fd in (int(entry.name) for entry in Path("/proc/self/fd").iterdir()) if _is_open(fd))


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def children_of(pid: int) -> list[int]:
    """Its children, zombies too."""
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii")
    return [int(word) for word in found.split()]


def alive(*pids: int) -> list[int]:
    """Those that are still there, zombies too."""
    return [pid for pid in pids if Path(f"/proc/{pid}").exists()]
