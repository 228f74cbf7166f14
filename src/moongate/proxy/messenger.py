"""One client that exchanges messages, in front of an upstream that is streamable-HTTP-shaped.

An MCP client transport (2025-11-25 and 2026-07-28: transports): it posts what the client says, reads what answers it,
keeps session id and revision, listens to the GET stream, resumes streams that carry event ids, and opens a lost session
anew. The doors of those who do not speak streamable HTTP stand on it: HTTP+SSE and stdio.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Awaitable, Callable

from moongate.errors import ClientClosed, FailureClass, UpstreamError
from moongate.protocol.jsonrpc import Envelope
from moongate.protocol.revisions import is_modern
from moongate.protocol.splice import member
from moongate.proxy.carrier import PASSING, Carrier
from moongate.proxy.flights import Flight, Origin, Session, Track
from moongate.proxy.forward import EVENT_STREAM, media_type
from moongate.proxy.inbound import id_key
from moongate.proxy.turns import Turns
from moongate.tasks import Tasks
from moongate.upstreams.base import Upstream
from moongate.wire.messages import ResponseHead

__all__ = ["Messenger", "Origin", "Unanswered"]

log = logging.getLogger("moongate")

MAX_IN_FLIGHT = 256
# How long the answer to a request may take that the client has cancelled.
CANCEL_SECONDS = 10.0
DELETE_SECONDS = 1.5
# The GET stream: the wait before it is opened again, doubled each time it was of no use; of use is one that lasts.
LISTEN_SECONDS = 0.5
LASTING_SECONDS = 5.0

_PING = b'{"jsonrpc":"2.0","id":%b,"method":"ping"}'
_SESSION_ID = re.compile(rb"[\x21-\x7e]{1,4096}")


class Unanswered(UpstreamError):
    """There will be no (further) answer. `ids` are the raw ids of the requests that stay without one."""

    def __init__(self, failure: FailureClass, detail: str, ids: tuple[bytes, ...]) -> None:
        super().__init__(failure, detail)
        self.ids = ids


class Messenger:
    """One client that exchanges messages, in front of an upstream that is streamable-HTTP-shaped.

    `deliver` gets one JSON-RPC message of the server, on one line without line end, and waits while the client is slow;
    several may be under way at once. `tasks` is where the GET stream and a re-opening live.
    """

    def __init__(
        self, upstream: Upstream, origin: Origin, deliver: Callable[[bytes], Awaitable[None]], tasks: Tasks
    ) -> None:
        self._carrier = Carrier(upstream, origin, deliver)
        self._tasks = tasks
        self._loop = asyncio.get_running_loop()
        self._turns = Turns()
        self._slots = asyncio.Semaphore(MAX_IN_FLIGHT)
        self._session = Session()
        self._opener: Flight | None = None
        self._initialized: Flight | None = None
        self._flights: set[Flight] = set()
        self._reopening: asyncio.Task[UpstreamError | None] | None = None
        self._listening: asyncio.Task[None] | None = None

    @property
    def revision(self) -> str:
        """What was negotiated; empty before."""
        return self._session.revision

    # -- what the client says

    async def post(self, body: bytes, message: Envelope | list[Envelope]) -> None:
        """Send one message of the client and deliver everything that answers it; returns when the answer is complete.

        Messages go out in the order of the calls. Raises Unanswered (an UpstreamError) if there will be no (further)
        answer: the caller says so to the client. A request that the client cancels ends without one.
        """
        flight = _flight(body, message)
        if flight.method == "notifications/cancelled":
            await self._cancel(flight)
            return
        if not flight.is_response:  # the server waits for those, perhaps before it goes on with anything else
            shared = flight.due and flight.method != "initialize"
            flight.turn = self._turns.share() if shared else self._turns.alone()
        await self._fly(flight)

    async def _fly(self, flight: Flight) -> None:
        turn = flight.turn
        self._flights.add(flight)
        try:
            if turn is not None:
                await turn.begin()
            if flight.due:
                async with self._slots:
                    await self._exchange(flight)
            else:
                await self._exchange(flight)
        except UpstreamError as error:
            due = tuple(flight.due)
            if self._carrier.closed and not flight.unwanted:
                raise Unanswered(FailureClass.CLIENT_CLOSED, "the session was ended", due) from None
            if not flight.unwanted:
                raise Unanswered(error.failure, error.detail, due) from None
        finally:
            self._flights.discard(flight)
            flight.reply = None
            if turn is not None:
                turn.end()

    async def _cancel(self, flight: Flight) -> None:
        """A cancellation: passed on where the server must hear of it; to a modern one a closed stream says it."""
        try:
            key = id_key(member(flight.body, ("params", "requestId")))
        except ValueError:
            key = None
        single = [one for one in self._flights if not one.batch and one.method != "initialize"]
        named = next((one for one in single if key is not None and key in map(id_key, one.due)), None)
        if named is None and (flight.modern or not self._session.revision):
            return
        if named is not None:
            named.unwanted = True
            if named.modern or not named.started:
                named.cancel()
                return
            self._loop.call_later(CANCEL_SECONDS, named.cancel)  # most servers do not answer it any more
            if named.turn is not None:
                await named.turn.ended()
        flight.turn = self._turns.share()
        await self._fly(flight)

    async def _exchange(self, flight: Flight) -> None:
        session = self._session
        if flight.modern:
            session = Session()
        elif flight.method == "initialize":
            session = flight.opens = Session()
            if self._reopening is not None and not flight.silent:
                self._reopening.cancel()
        elif self._reopening is not None and not (flight.silent or flight.is_response):
            await self._reopen(session)
            session = self._session
        if flight.cancelled:
            return
        reply, head = await self._carrier.post(flight, session)
        if head.status >= 400:
            body = await self._carrier.refusal(reply, head)
            kept = session.id is None or flight.silent or flight.is_response
            if kept or not await self._is_lost(flight, session, head.status, body):
                await self._carrier.refused(flight, head.status, body)
                return
            await self._reopen(session)
            session = self._session
            reply, head = await self._carrier.post(flight, session)  # it was not carried out
        if head.status < 300:
            try:
                self._accepted(flight, head)
            except UpstreamError:
                reply.cancel()
                raise
        await self._carrier.read(flight, session, reply, head)

    def _accepted(self, flight: Flight, head: ResponseHead) -> None:
        if flight.opens is not None:
            found = head.fields.get(b"mcp-session-id")
            if found is not None and not _SESSION_ID.fullmatch(found):
                raise UpstreamError(FailureClass.UPSTREAM_PROTOCOL, "a session id that is not visible ASCII")
            flight.opens.id = found
            before, self._session = self._session, flight.opens
            if not flight.silent:
                self._opener = flight
                self._initialized = None
                self._stop_listening()
                self._tasks.spawn(self._end(before), "end the session before")
        elif not flight.due and flight.turn is not None:
            flight.turn.end()
        if flight.method == "notifications/initialized" and not flight.modern:
            self._initialized = flight
            self._stop_listening()
            self._listening = self._tasks.spawn(self._listen(self._session), "GET stream")

    # -- the session

    async def _is_lost(self, flight: Flight, session: Session, status: int, body: bytes) -> bool:
        """404 says so. Some servers answer 400 for a session that they do not know: then they answer the same to a
        ping, which is always allowed.
        """
        if status != 400 or not body or flight.batch or not flight.due:
            return status == 404
        raw_id = flight.due[0]
        ping = Flight(_PING % raw_id, Envelope("ping", raw_id), due=[raw_id], silent=True)
        try:
            reply, head = await self._carrier.post(ping, session)
            if head.status == 400:
                return await self._carrier.refusal(reply, head) == body
        except UpstreamError:
            return False
        reply.cancel()
        return head.status == 404

    async def _reopen(self, lost: Session) -> None:
        """Open a lost session anew, once for all who miss it. Raises UpstreamError."""
        if self._reopening is None:
            if self._session is not lost:
                return  # somebody has done it
            self._reopening = self._tasks.spawn(self._handshake(lost), "open a lost session anew")
        reopening = self._reopening
        await asyncio.wait((reopening,))  # its end is not that of those who wait for it, nor theirs its
        if reopening.cancelled():
            raise UpstreamError(FailureClass.CLIENT_CLOSED, "the client has gone")
        error = reopening.result()
        if error is not None:
            detail = f"the session was lost and could not be opened again: {error.detail}"
            raise UpstreamError(error.failure, detail)

    async def _handshake(self, lost: Session) -> UpstreamError | None:
        try:
            await self._shake_hands()
        except (UpstreamError, ClientClosed) as error:
            opened, self._session = self._session, lost
            if opened is not lost:
                self._tasks.spawn(self._end(opened), "end a session that was opened in vain")
            if isinstance(error, UpstreamError):
                return error
            return UpstreamError(FailureClass.CLIENT_CLOSED, "the client has gone")
        finally:
            self._reopening = None
        log.info("the server had lost the session; it was opened again")
        return None

    async def _shake_hands(self) -> None:
        opener, initialized = self._opener, self._initialized
        if opener is None or opener.message is None or opener.message.id is None:
            raise UpstreamError(FailureClass.UPSTREAM_HTTP, "the server does not know the session")
        flight = Flight(opener.body, opener.message, due=[opener.message.id], silent=True)
        await self._exchange(flight)
        if flight.failed:
            raise UpstreamError(FailureClass.UPSTREAM_PROTOCOL, "the server refused to initialize")
        if initialized is not None:
            await self._exchange(Flight(initialized.body, initialized.message, silent=True))

    async def _end(self, session: Session) -> None:
        """Say that the session is over; nobody waits for what the server says to it."""
        if session.id is None:
            return
        try:
            async with asyncio.timeout(DELETE_SECONDS):
                await self._carrier.delete(session)
        except (TimeoutError, UpstreamError):
            log.debug("the end of the session did not reach the server")

    def finish(self) -> None:
        """The client says no more: what it has cancelled is not waited for any longer, nor what has no end."""
        for flight in tuple(self._flights):
            if flight.unwanted or flight.method == "subscriptions/listen":
                flight.unwanted = True
                flight.cancel()

    async def close(self) -> None:
        """The client is gone: streams end, the session is ended with DELETE, within `DELETE_SECONDS`."""
        if self._carrier.closed:
            return
        self._carrier.close()
        self._stop_listening()
        if self._reopening is not None:
            self._reopening.cancel()
        for flight in tuple(self._flights):
            flight.cancel()
        await self._end(self._session)

    # -- the GET stream

    def _stop_listening(self) -> None:
        if self._listening is not None:
            self._listening.cancel()
            self._listening = None

    async def _listen(self, session: Session) -> None:
        """Deliver what the server says unasked, as long as the session lasts."""
        track = Track()
        opened = False
        while not self._carrier.closed:
            flight = Flight()
            self._flights.add(flight)
            began = time.monotonic()
            track.failures += 1
            try:
                status = await self._listen_once(flight, session, track)
            except ClientClosed:
                return
            finally:
                self._flights.discard(flight)
            if status == 404 and opened:
                self._reopening = self._reopening or self._tasks.spawn(self._handshake(session), "open anew")
                return
            if 400 <= status < 500 and status not in PASSING and track.last_id is None:
                return
            if status >= 400:
                track.last_id = None  # perhaps it is only that which the server does not know
            opened = opened or status == 200
            if time.monotonic() - began > LASTING_SECONDS:
                track.failures = 0
            await asyncio.sleep(track.pause(LISTEN_SECONDS))

    async def _listen_once(self, flight: Flight, session: Session, track: Track) -> int:
        """One GET stream to its end; the status of its answer, 0 for none."""
        try:
            reply, head = await self._carrier.get(flight, session, track)
        except UpstreamError:
            return 0
        if head.status == 200 and media_type(head.fields) == EVENT_STREAM:
            await self._carrier.follow(flight, track, reply, head, started=True)
            return 200
        reply.cancel()
        return 405 if head.status == 200 else head.status


def _flight(body: bytes, message: Envelope | list[Envelope]) -> Flight:
    batch = tuple(message) if isinstance(message, list) else ()
    single = None if isinstance(message, list) else message
    due = [part.id for part in batch or (single,) if part is not None and part.id is not None and part.method]
    return Flight(body, single, batch, due, modern=single is not None and is_modern(None, single))
