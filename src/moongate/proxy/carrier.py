"""One message over streamable HTTP: its request, what answers it, resuming a stream that breaks before the answer.

`Carrier` knows nothing of order and of lost sessions: that is `messenger`.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

from moongate.errors import FailureClass, UpstreamError
from moongate.model.snapshot import MIB
from moongate.protocol.jsonrpc import negotiated_version
from moongate.protocol.mirrors import mirror_lines
from moongate.proxy.flights import Flight, Origin, Outgoing, Session, Track
from moongate.proxy.forward import EVENT_STREAM, JSON, media_type
from moongate.proxy.inbound import Event, EventReader, Message, messages, named, read_whole
from moongate.upstreams.base import Reply, Upstream
from moongate.wire.messages import ResponseHead

log = logging.getLogger("moongate")

MAX_ERROR_BODY = MIB
# How long a stream may stay open behind its last answer.
SETTLE_SECONDS = 1.0
MAX_FAILED_RESUMES = 5

# Reading a larger message would hold up everybody else's.
_INLINE_READING = MIB

_POST = b"accept: application/json, text/event-stream\r\ncontent-type: application/json\r\n"
_GET = b"accept: text/event-stream\r\n"
_REVISION = re.compile(r"[0-9A-Za-z.-]{1,32}")
# The server may come to accept these later; all other 4xx are final.
PASSING = frozenset({408, 409, 425, 429})


class Carrier:
    """The way to one upstream for one client; see `Messenger`."""

    def __init__(self, upstream: Upstream, origin: Origin, deliver: Callable[[bytes], Awaitable[None]]) -> None:
        self._over = asyncio.Event()
        self._upstream = upstream
        self._origin = origin
        self._deliver = deliver
        self._path: str | None = None
        self._complained = False

    @property
    def closed(self) -> bool:
        """Whether the client has gone."""
        return self._over.is_set()

    def close(self) -> None:
        """Send nothing more, wait for nothing more."""
        self._over.set()

    # -- requests

    async def post(self, flight: Flight, session: Session) -> tuple[Reply, ResponseHead]:
        """Post a message; the reply and its head. Raises UpstreamError."""
        lines = _POST + self._origin.lines + _session_lines(session)
        revision = session.revision
        if flight.modern and flight.message is not None:
            lines += mirror_lines(flight.message)
            revision = flight.message.version or ""
        request = Outgoing(
            "POST",
            lines,
            self._origin.principal,
            flight.body,
            flight.message,
            flight.batch,
            session.id,
            revision,
            flight.modern,
        )
        return await self._open(flight, request)

    async def get(self, flight: Flight, session: Session, track: Track) -> tuple[Reply, ResponseHead]:
        """Listen, or resume after `track.last_id`. Raises UpstreamError."""
        lines = _GET + self._origin.lines + _session_lines(session)
        if track.last_id is not None:
            lines += b"last-event-id: %b\r\n" % track.last_id
        request = Outgoing(
            "GET",
            lines,
            self._origin.principal,
            session=session.id,
            revision=session.revision,
            last_event_id=track.last_id,
        )
        return await self._open(flight, request)

    async def delete(self, session: Session) -> None:
        """End a session. Raises UpstreamError."""
        lines = self._origin.lines + _session_lines(session)
        request = Outgoing(
            "DELETE", lines, self._origin.principal, session=session.id, revision=session.revision, events=False
        )
        reply = await self._upstream.send(request, self._path)
        try:
            await reply.head()
        finally:
            reply.cancel()

    async def _open(self, flight: Flight, request: Outgoing) -> tuple[Reply, ResponseHead]:
        """Send it, and once more where the server redirects on the same origin (RFC 9110 section 15.4)."""
        flight.started = True
        reply = await self._send(flight, request, self._path)
        if flight.turn is not None and not flight.turn.alone:
            flight.turn.end()
        head = await _head(reply)
        if head.status not in (307, 308):
            return reply, head
        reply.cancel()
        target = self._origin.target
        location = head.fields.get(b"location", b"").decode("latin-1")
        path = None if target is None else target.local_path(location)
        if path is None:
            raise UpstreamError(FailureClass.UPSTREAM_PROTOCOL, f"the server redirects ({head.status}) to elsewhere")
        reply = await self._send(flight, request, path)
        head = await _head(reply)
        if head.status < 300:
            self._path = path
        return reply, head

    async def _send(self, flight: Flight, request: Outgoing, path: str | None) -> Reply:
        if self.closed:
            raise UpstreamError(FailureClass.CLIENT_CLOSED, "the client has gone")
        reply = self._upstream.send_now(request) if path is None else None
        if reply is None:
            reply = await self._upstream.send(request, path)
        flight.reply = reply
        if flight.cancelled or self.closed:
            reply.cancel()
        return reply

    # -- answers

    async def read(self, flight: Flight, session: Session, reply: Reply, head: ResponseHead) -> None:
        """Deliver what answers a posted message; returns when nothing is due any more. Raises UpstreamError."""
        if head.status >= 400:
            await self.refused(flight, head.status, await self.refusal(reply, head))
            return
        if head.status >= 300:
            reply.cancel()
            raise UpstreamError(FailureClass.UPSTREAM_PROTOCOL, f"the server answered {head.status}")
        try:
            if media_type(head.fields) == EVENT_STREAM:
                await self._stream(flight, session, reply, head)
                return  # it has let go of the reply, or of several
            if flight.due:
                await self._body(flight, reply, head)
            else:
                await read_whole(reply, head, self._origin.timeouts, MAX_ERROR_BODY)
        except BaseException:
            reply.cancel()
            raise
        reply.release()

    async def _body(self, flight: Flight, reply: Reply, head: ResponseHead) -> None:
        if media_type(head.fields) != JSON:
            detail = f"the server answered {head.status} with neither JSON nor an event stream"
            raise UpstreamError(FailureClass.UPSTREAM_PROTOCOL, detail)
        body = await read_whole(reply, head, self._origin.timeouts, self._origin.message_bytes)
        for message in await _read(body):
            await self._hear(flight, named(message, flight.due))
        if flight.due:
            raise UpstreamError(FailureClass.UPSTREAM_PROTOCOL, "the answer of another request")

    async def refusal(self, reply: Reply, head: ResponseHead) -> bytes:
        """The body of a 4xx or 5xx, nothing where it cannot be had; the reply is over then."""
        try:
            body = await read_whole(reply, head, self._origin.timeouts, MAX_ERROR_BODY)
        except UpstreamError:
            body = b""  # the status alone is the message
        except BaseException:
            reply.cancel()
            raise
        if reply.complete:
            reply.release()
        else:
            reply.cancel()
        return body

    async def refused(self, flight: Flight, status: int, body: bytes) -> None:
        """A 4xx or 5xx: its body is the answer if it is one. Raises UpstreamError if not."""
        refusal = UpstreamError(FailureClass.UPSTREAM_HTTP, f"the server answered {status}")
        # 401, 403 and 407 speak of the credential that was sent, which is not the client's.
        if not flight.due or flight.batch or status in (401, 403, 407) or self._origin.hides(body):
            raise refusal
        try:
            found = messages(body)
        except UpstreamError:
            raise refusal from None
        answer = named(found[0], flight.due) if len(found) == 1 else None
        if answer is None or not answer.is_answer or not flight.awaits(answer):
            raise refusal
        await self._hear(flight, answer)

    async def _stream(self, flight: Flight, session: Session, reply: Reply, head: ResponseHead) -> None:
        """An event stream, resumed while it carries event ids and the answer is missing."""
        track = Track()
        broken = await self.follow(flight, track, reply, head, started=not flight.due)
        while flight.due and not flight.cancelled:
            if broken is not None and broken.final:
                raise broken
            if track.last_id is None or flight.modern or self.closed:
                detail = "the event stream ended without the answer"
                raise broken or UpstreamError(FailureClass.UPSTREAM_PROTOCOL, detail)
            broken = await self._resume(flight, session, track, broken)
        if flight.due and self.closed:
            raise broken or UpstreamError(FailureClass.CLIENT_CLOSED, "the client has gone")

    async def follow(
        self, flight: Flight, track: Track, reply: Reply, head: ResponseHead, *, started: bool
    ) -> UpstreamError | None:
        """Read one stream to its end, and let go of it; what broke it. `started`: silence is no failure to answer."""
        expects = bool(flight.due)
        try:
            reader = EventReader(reply, head, self._origin.timeouts, self._origin.message_bytes, started=started)
            while events := await reader.next():
                for event in events:
                    if track.is_new(event) and event.data:
                        await self._event(flight, event)
                if expects and not flight.due:
                    reader.end_within(SETTLE_SECONDS)
        except UpstreamError as error:
            reply.cancel()
            return error
        except BaseException:
            reply.cancel()
            raise
        reply.release()
        return None

    async def _resume(
        self, flight: Flight, session: Session, track: Track, broken: UpstreamError | None
    ) -> UpstreamError | None:
        """Wait as the server said and go on with a stream that broke. Raises UpstreamError if that cannot be."""
        quiet = time.monotonic() - track.moved
        if track.failures > MAX_FAILED_RESUMES or quiet > self._origin.timeouts.silence:
            raise broken or UpstreamError(FailureClass.UPSTREAM_TIMEOUT, "the event stream ended without the answer")
        with suppress(TimeoutError):
            async with asyncio.timeout(track.pause()):
                await self._over.wait()
        if flight.cancelled or self.closed:
            return broken
        track.failures += 1
        try:
            reply, head = await self.get(flight, session, track)
        except UpstreamError as failed:
            return failed
        if head.status == 200 and media_type(head.fields) == EVENT_STREAM:
            return await self.follow(flight, track, reply, head, started=True)
        reply.cancel()
        refused = UpstreamError(FailureClass.UPSTREAM_HTTP, f"resuming an event stream was answered {head.status}")
        if 400 <= head.status < 500 and head.status not in PASSING:
            raise refused
        return refused

    async def _event(self, flight: Flight, event: Event) -> None:
        try:
            found = await _read(event.data)
        except UpstreamError as error:
            if not self._complained:
                self._complained = True
                log.warning("an event of the server is left out, as all like it will be: %s", error.detail)
            return
        for message in found:
            await self._hear(flight, message)

    async def _hear(self, flight: Flight, message: Message) -> None:
        if message.is_answer and flight.took(message):
            if flight.opens is not None:
                flight.opens.revision = negotiated_version(message.parsed)
                flight.failed = message.parsed.error is not None
            if flight.silent:
                return
        if not flight.cancelled:
            await self._deliver(message.line)


async def _read(data: bytes) -> list[Message]:
    return await asyncio.to_thread(messages, data) if len(data) > _INLINE_READING else messages(data)


def _session_lines(session: Session) -> bytes:
    lines = b""
    if session.id is not None:
        lines += b"mcp-session-id: %b\r\n" % session.id
    if _REVISION.fullmatch(session.revision):
        lines += b"mcp-protocol-version: %b\r\n" % session.revision.encode("ascii")
    return lines


async def _head(reply: Reply) -> ResponseHead:
    try:
        return await reply.head()
    except BaseException:
        reply.cancel()
        raise
