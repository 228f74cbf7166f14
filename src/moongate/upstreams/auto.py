"""A server whose transport nobody named: streamable HTTP first, HTTP+SSE when that is refused (2025-03-26: transports,
backwards compatibility). What worked is remembered.
"""

from __future__ import annotations

import asyncio
import logging

from moongate.errors import FailureClass, UpstreamError
from moongate.model.snapshot import Transport
from moongate.protocol.jsonrpc import read_answer
from moongate.tasks import Tasks
from moongate.upstreams.base import Reply, Request, Upstream
from moongate.upstreams.bridge import Bridge
from moongate.upstreams.http import HttpUpstream
from moongate.upstreams.keeping import BridgeOptions
from moongate.upstreams.replies import FixedReply
from moongate.upstreams.sse import SseOpener
from moongate.wire.codings import coding_of
from moongate.wire.deadlines import Deadlines
from moongate.wire.messages import MalformedMessage

log = logging.getLogger("moongate")

# Statuses of a POST after which a server may yet speak HTTP+SSE.
REFUSALS = frozenset({400, 404, 405})
MAX_REFUSAL = 1024 * 1024
PROBE_AGAIN_SECONDS = 10.0
# HTTP+SSE connections to one server, on behalf of clients of streamable HTTP.
MAX_CONVERSATIONS = 1000


def over_http(http: HttpUpstream, deadlines: Deadlines, tasks: Tasks) -> Upstream:
    """The upstream of a target by its transport; `http` is how it is reached."""
    target = http.target
    if target.transport is Transport.STREAMABLE_HTTP:
        return http
    opener = SseOpener(http)
    options = BridgeOptions(
        name=target.name,
        timeouts=target.timeouts,
        start_seconds=target.timeouts.connect + target.timeouts.first_byte,
        start_failure=FailureClass.UPSTREAM_TIMEOUT,
        max_conversations=MAX_CONVERSATIONS,
    )
    sse = SseUpstream(opener, options, deadlines, tasks)
    return sse if target.transport is Transport.SSE else AutoUpstream(http, sse, opener, tasks)


class SseUpstream(Bridge):
    """A server of HTTP+SSE behind a bridge; clients of HTTP+SSE pass through to it (`Through`)."""

    def __init__(self, opener: SseOpener, options: BridgeOptions, deadlines: Deadlines, tasks: Tasks) -> None:
        super().__init__(opener, options, deadlines, tasks)
        self.opener = opener

    async def through(self) -> HttpUpstream | None:
        """How the server itself is reached."""
        return self.opener.upstream

    def refused(self) -> None:
        """The operator said that it speaks HTTP+SSE."""

    def close(self) -> None:
        """See `base.Upstream`."""
        super().close()
        self.opener.upstream.close()


class Refused(FixedReply):
    """A refusal that was read already."""

    @property
    def speaks(self) -> bool:
        """Whether it is a JSON-RPC message: then the server speaks streamable HTTP."""
        try:
            body = b"".join(coding_of(self._head.fields).decode(self._body))
        except MalformedMessage:
            return False
        return read_answer(body) is not None


class AutoUpstream:
    """See the module; `base.Upstream`. `sse` is a bridge over connections that `opener` makes."""

    def __init__(self, streamable: HttpUpstream, sse: Upstream, opener: SseOpener, tasks: Tasks) -> None:
        self._streamable = streamable
        self._sse = sse
        self._opener = opener
        self._tasks = tasks
        self._loop = asyncio.get_running_loop()
        self._decided: Upstream | None = None
        self._probing: asyncio.Task[bool] | None = None
        self._not_before = 0.0
        opener.on_refused = self.refused

    def send_now(self, request: Request) -> Reply | None:
        """See `base.Upstream`."""
        decided = self._decided
        return None if decided is None else decided.send_now(request)

    async def send(self, request: Request, path: str | None = None) -> Reply:
        """See `base.Upstream`."""
        decided = self._decided
        if decided is not None:
            return await decided.send(request, path)
        if request.method == "POST":
            return await self._try(request, path)
        # The stream of an HTTP+SSE server must not be taken for the one of a session.
        if request.method == "GET" and await self._probe():
            return await self._sse.send(request)
        return await self._streamable.send(request, path)

    async def _try(self, request: Request, path: str | None) -> Reply:
        reply = await self._streamable.send(request, path)
        try:
            head = await reply.head()
            if 200 <= head.status < 300:
                self._decided = self._streamable
            if head.status not in REFUSALS:
                return reply
            refused = Refused(head, await self._refusal(reply))
        except BaseException:
            reply.cancel()
            raise
        if not refused.speaks and await self._probe():
            return await self._sse.send(request)
        return refused

    async def _refusal(self, reply: Reply) -> bytes:
        """What it says; nothing if that is long or does not come."""
        found: list[bytes] = []
        size = 0
        try:
            while data := reply.take() if reply.complete else await reply.read(reply.remaining()):
                found.append(data)
                size += len(data)
                if size > MAX_REFUSAL:
                    reply.cancel()
                    return b""
        except UpstreamError:
            reply.cancel()
            return b""
        reply.release()
        return b"".join(found)

    async def _probe(self) -> bool:
        """Whether it speaks HTTP+SSE; asked once for all who want to know, and not again and again."""
        if self._decided is None and self._probing is None:
            if self._loop.time() < self._not_before:
                return False
            self._probing = self._tasks.spawn(self._decide(), "probe")
        if self._probing is not None:
            await asyncio.shield(self._probing)
        return self._decided is self._sse

    async def _decide(self) -> bool:
        try:
            found = await self._opener.probe()
            if found and self._decided is None:
                self._decided = self._sse
                log.info("%s speaks HTTP+SSE", self._opener.upstream.target.name)
            elif not found:
                self._not_before = self._loop.time() + PROBE_AGAIN_SECONDS
            return found
        finally:
            self._probing = None

    async def through(self) -> HttpUpstream | None:
        """How the server itself is reached, if it speaks HTTP+SSE; see `Through`."""
        return self._opener.upstream if await self._probe() else None

    def refused(self) -> None:
        """It does not speak HTTP+SSE (any more): try anew."""
        if self._decided is self._sse:
            self._decided = None

    def renew(self) -> None:
        """See `base.Upstream`."""
        self._streamable.renew()
        self._sse.renew()

    def close(self) -> None:
        """See `base.Upstream`."""
        self._streamable.close()
        self._sse.close()
