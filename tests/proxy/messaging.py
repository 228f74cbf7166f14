"""A client behind a messenger, in front of a scripted server, and what the servers of these tests have in common."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest

from moongate.model.snapshot import Target, Timeouts
from moongate.protocol.jsonrpc import parse
from moongate.proxy.messenger import Messenger, Origin, Unanswered
from moongate.tasks import Tasks
from moongate.testing import Backend, Exchange, Script, Seen
from moongate.upstreams.http import HttpUpstream
from moongate.wire.deadlines import Deadlines
from tests.proxy.talk import (
    error,
    event,
    initialize,
    initialized,
    polite,
    until,
)

READY = b'{"jsonrpc":"2.0","method":"notifications/initialized"}'
LIMITS = Timeouts(connect=2.0, first_byte=1.0, silence=1.5)


def _hides(body: bytes) -> bool:
    return b"backend.internal" in body


class Client:
    """The client's side of a messenger: `heard` is what was delivered to it."""

    def __init__(self, backend: Backend, tasks: Tasks, timeouts: Timeouts, origin: Mapping[str, Any]) -> None:
        parts = urlsplit(backend.url)
        target = Target("one", "http", "127.0.0.1", parts.port or 0, parts.path, timeouts=timeouts)
        self.heard: list[bytes] = []
        self.taking = asyncio.Event()
        self.taking.set()
        self.tasks = tasks
        self.upstream = HttpUpstream(target, Deadlines(asyncio.get_running_loop()))
        more: dict[str, Any] = {"hides": _hides, **origin}
        self.messenger = Messenger(
            self.upstream, Origin("alice", timeouts=timeouts, target=target, **more), self._deliver, tasks
        )

    async def _deliver(self, message: bytes) -> None:
        await self.taking.wait()
        self.heard.append(message)

    async def say(self, body: bytes) -> None:
        """Post one message and wait for its answers."""
        await self.messenger.post(body, parse(body, 100))

    async def fails(self, body: bytes) -> Unanswered:
        """Post a message that stays without an answer; why."""
        with pytest.raises(Unanswered) as caught:
            await self.say(body)
        return caught.value

    def later(self, body: bytes) -> asyncio.Task[None]:
        """Post one message in the background."""
        return self.tasks.spawn(self.say(body), "post")

    async def shake_hands(self, revision: str = "2025-06-18") -> None:
        """Open a session."""
        await self.say(initialize(revision))
        await self.say(READY)

    async def hears(self, *expected: bytes) -> None:
        """Wait until exactly this was delivered."""
        await until(lambda: len(self.heard) >= len(expected))
        assert self.heard == list(expected)


@asynccontextmanager
async def talking(
    script: Script,
    timeouts: Timeouts = LIMITS,
    **origin: Any,  # noqa: ANN401 - what the origin has beside that
) -> AsyncIterator[tuple[Client, Backend]]:
    """A client whose messenger stands in front of a scripted server."""
    tasks = Tasks("test")
    async with Backend(script) as backend:
        client = Client(backend, tasks, timeouts, origin)
        try:
            yield client, backend
        finally:
            await client.messenger.close()
            client.upstream.close()
            await tasks.close()


def posted(backend: Backend) -> list[Seen]:
    """The POSTs that came."""
    return [seen for seen in backend.seen if seen.method == "POST"]


def methods(backend: Backend) -> list[str]:
    """What came, in order: JSON-RPC methods of POSTs, otherwise the HTTP method."""
    return [json.loads(seen.body).get("method", "answer") if seen.body else seen.method for seen in backend.seen]


def answering(method: str, script: Script) -> Script:
    """A polite backend but for one JSON-RPC or HTTP method."""

    async def both(exchange: Exchange) -> None:
        seen = exchange.seen
        said = json.loads(seen.body) if seen.body else None
        name = said.get("method", "answer") if isinstance(said, dict) else "array" if said else seen.method
        await (script if name == method else polite)(exchange)

    return both


def refusing(status: str, body: bytes = b"<h1>no</h1>", media: str = "text/html") -> Script:
    """A script that answers with a status and a body."""
    return lambda exchange: exchange.answer(body, status=status, headers={"content-type": media})


async def silent(exchange: Exchange) -> None:
    """No answer at all."""
    await exchange.gone()


async def falls_silent(exchange: Exchange) -> None:
    """An event stream that says nothing any more."""
    await exchange.stream()
    await exchange.chunk(event(b'{"jsonrpc":"2.0","method":"notifications/x"}'))
    await exchange.gone()


def note(number: int) -> bytes:
    """A progress notification."""
    return b'{"jsonrpc":"2.0","method":"notifications/progress","params":{"progress":%d}}' % number


def resumes(backend: Backend) -> list[str]:
    """The Last-Event-ID of each GET that has one."""
    return [seen.fields["last-event-id"] for seen in backend.seen if "last-event-id" in seen.fields]


class Forgetful:
    """A backend that loses its sessions when it is told to; it counts them. `script` may answer instead of it."""

    def __init__(self) -> None:
        self.count = 0
        self.current = ""
        self.broken = ""
        self.streams: list[Exchange] = []

    def forget(self) -> None:
        """Lose the session and its streams."""
        self.current = ""
        for stream in self.streams:
            stream.reset()
        self.streams.clear()

    async def __call__(self, exchange: Exchange) -> None:
        seen = exchange.seen
        if b'"initialize"' in seen.body:
            if self.broken:
                await exchange.answer(error(0), status=self.broken)
                return
            self.count += 1
            self.current = f"session-{self.count}"
            await exchange.answer(initialized(), headers={"mcp-session-id": self.current})
        elif seen.fields.get("mcp-session-id") != self.current:
            await exchange.answer(b"", status="404 Not Found")
        elif seen.method == "GET":
            await exchange.stream()
            self.streams.append(exchange)
            await exchange.gone()
        else:
            await polite(exchange)
