"""A scripted server of HTTP+SSE, and who listens to a channel to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from moongate.errors import UpstreamError
from moongate.model.snapshot import Target, Timeouts, Transport
from moongate.testing import Backend, Exchange
from moongate.upstreams.http import HttpUpstream
from moongate.upstreams.sse import SseChannel, SseOpener
from moongate.wire.deadlines import Deadlines

READY = b"event: endpoint\ndata: /messages?session_id=7\n\n"
NOTE = b'{"jsonrpc":"2.0","method":"notifications/initialized"}'


class Heard:
    """A receiver that remembers."""

    def __init__(self) -> None:
        self.messages: asyncio.Queue[bytes] = asyncio.Queue()
        self.end: asyncio.Future[UpstreamError] = asyncio.get_running_loop().create_future()

    def received(self, message: bytes) -> None:
        """See `Receiver`."""
        self.messages.put_nowait(message)

    def closed(self, error: UpstreamError) -> None:
        """See `Receiver`; a second time is an error."""
        self.end.set_result(error)


class Failures:
    """What `write` reports."""

    def __init__(self) -> None:
        self.errors: asyncio.Queue[UpstreamError] = asyncio.Queue()

    def __call__(self, error: UpstreamError) -> None:
        self.errors.put_nowait(error)


def unexpected(error: UpstreamError) -> None:
    """A message that must arrive did not."""
    raise AssertionError(error.detail)


class Stream(Exchange):
    """The backend's end of a GET stream. Several may wait for its end."""

    def __init__(self, exchange: Exchange) -> None:
        super().__init__(exchange.seen, exchange.reader, exchange.writer)
        self.over = asyncio.Event()

    async def gone(self) -> bool:
        """Wait until the gateway has closed the connection."""
        await self.over.wait()
        return True


class Stage:
    """A backend whose GET stream the test writes, and whose POSTs `posted` answers (202 unless told otherwise)."""

    def __init__(self) -> None:
        self.streams: asyncio.Queue[Stream] = asyncio.Queue()
        self.backend = Backend(self._serve)
        self.posted: Callable[[Exchange], Awaitable[None]] = accept

    async def _serve(self, exchange: Exchange) -> None:
        if exchange.seen.method == "GET":
            stream = Stream(exchange)
            self.streams.put_nowait(stream)
            await exchange.gone()
            stream.over.set()
        else:
            await self.posted(exchange)

    def target(self, path: str = "/mcp", timeouts: Timeouts = Timeouts(first_byte=2, silence=5)) -> Target:  # noqa: B008 - frozen
        """Where it is."""
        return Target("one", "http", "127.0.0.1", self.backend.port, path, Transport.SSE, (), timeouts)

    def opener(self, target: Target | None = None, limit: int = 1 << 26) -> SseOpener:
        """An opener for it."""
        deadlines = Deadlines(asyncio.get_running_loop())
        return SseOpener(HttpUpstream(target or self.target(), deadlines), limit)

    @property
    def posts(self) -> list[str]:
        """Where messages were posted to."""
        return [seen.target for seen in self.backend.seen if seen.method == "POST"]


async def accept(exchange: Exchange) -> None:
    """What SDK servers say to every message."""
    await exchange.answer(b"Accepted", status="202 Accepted", headers={"content-type": "text/plain"})


@asynccontextmanager
async def stage() -> AsyncIterator[Stage]:
    """A backend to play on."""
    found = Stage()
    async with found.backend:
        yield found


@asynccontextmanager
async def talking(
    place: Stage, opener: SseOpener | None = None, first: bytes = READY
) -> AsyncIterator[tuple[SseChannel, Heard, Stream]]:
    """A channel, what it hears, and the backend's end of its stream."""
    heard = Heard()

    async def begin() -> Stream:
        stream = await place.streams.get()
        await stream.stream()
        await stream.chunk(first)
        return stream

    channel, stream = await asyncio.gather((opener or place.opener()).open(heard), begin())
    yield channel, heard, stream
    channel.close()
    assert await stream.gone()


async def refuse(exchange: Exchange, status: str, media: str = "text/plain") -> None:
    """A short answer of one's own."""
    await exchange.answer(b"no", status=status, headers={"content-type": media})
