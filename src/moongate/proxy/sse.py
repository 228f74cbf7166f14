"""The door for clients of 2024-11-05: HTTP+SSE in front of every upstream.

GET at `<instance>/sse` or `<instance>/events` opens the stream; its first event names the address that messages are
posted to, `<instance>/messages?session=...`, with everything in it that a message needs, sealed. In front of a server
of HTTP+SSE it is a pass-through (`sse_pass`); for all others a `Messenger` is the client of the server.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections import Counter
from contextlib import suppress
from functools import partial
from urllib.parse import parse_qs, urlsplit

from moongate.errors import ClientClosed, FailureClass, Refusal
from moongate.model.exchange import Exchange
from moongate.model.snapshot import Target
from moongate.policies.host import split_authority
from moongate.protocol.jsonrpc import Envelope
from moongate.protocol.sealed import Address, NotOurs, Sealer
from moongate.proxy.call import Call
from moongate.proxy.match import Door
from moongate.proxy.messenger import Messenger, Origin, Unanswered
from moongate.proxy.sse_pass import Passage, pass_message, without
from moongate.proxy.sse_session import DoorSession
from moongate.tasks import Tasks
from moongate.upstreams.sse import passes
from moongate.wire.deadlines import Deadlines
from moongate.wire.events import encode_event
from moongate.wire.messages import RequestHead

log = logging.getLogger("moongate")

# A client that keeps one stream longer than this starts anew.
ADDRESS_SECONDS = 30 * 24 * 3600.0
MAX_STREAMS = 1000
CLOSE_SECONDS = 2.0
_NOT_CARRIED = (b"accept:", b"content-type:", b"last-event-id:", b"mcp-")
_STREAM = (
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
)


def check_method(door: Door, request: RequestHead) -> None:
    """Which methods an address takes, and what the client must accept there. Raises Refusal (405, 406)."""
    wanted = "GET" if door is Door.SSE else "POST"
    if request.method != wanted:
        text = f"method {request.method} at an address for {door.value}"
        raise Refusal(FailureClass.UNSUPPORTED, text, status=405, headers=((b"allow", wanted.encode()),))
    if door is Door.SSE and not _takes_events(request.fields.get(b"accept", b"*/*")):
        raise Refusal(FailureClass.UNSUPPORTED, "Accept leaves out text/event-stream", status=406)


def _takes_events(accept: bytes) -> bool:
    accept = accept.lower()
    return any(kind in accept for kind in (b"text/event-stream", b"text/*", b"*/*"))


class Addresses:
    """Makes the addresses that clients post to, and opens them again."""

    def __init__(self, sealer: Sealer) -> None:
        self._sealer = sealer

    def create(self, call: Call, name: str, endpoint: str) -> bytes:
        """Path and query for the client of a GET; `endpoint` is the backend's own address, or ""."""
        exchange, route = call.exchange, call.route.route
        address = Address(endpoint, name, route.key, exchange.principal.key, time.time() + ADDRESS_SECONDS)
        path = f"{_public_path(call)}{exchange.path.rpartition('/')[0]}/messages?session="
        query = call.admission.query
        more = f"&{query}" if query and any(match.query for match in route.matches) else ""
        return path.encode() + self._sealer.seal_address(address) + more.encode()

    def open(self, query: str | None, route_key: str, exchange: Exchange) -> Address:
        """What was sealed. Raises Refusal (404) for every address that is not this caller's on this route."""
        tokens = parse_qs(query or "", keep_blank_values=True).get("session", [])
        if len(tokens) != 1:
            raise unknown("it has no session")
        try:
            address = self._sealer.open_address(tokens[0].encode())
        except NotOurs:
            raise unknown("it was not made by this gateway, or its key has changed") from None
        if address.route != route_key:
            raise unknown("it belongs to another route")
        if address.principal != exchange.principal.key:
            raise unknown("it belongs to another principal")
        if address.expires <= time.time():
            raise unknown("it has expired")
        return address


def _public_path(call: Call) -> str:
    """What a proxy in front of the gateway cut off the path: the path of `gateway.publicUrl`, if the client used it."""
    url = call.admission.plan.snapshot.public_url
    if not url:
        return ""
    parts = urlsplit(url)
    host = call.exchange.outer_host or call.exchange.fields.get(b"host", b"").decode("latin-1")
    path = parts.path.rstrip("/")
    return path if path and split_authority(host)[0] == parts.hostname else ""


def unknown(why: str) -> Refusal:
    """A message address that cannot be used."""
    text = "Session not found: open the event stream again"
    return Refusal(FailureClass.NOT_FOUND, f"the message address is not usable: {why}", text=text)


class SseDoors:
    """The open streams of this process, and what their clients post."""

    def __init__(self, sealer: Sealer, deadlines: Deadlines) -> None:
        self.addresses = Addresses(sealer)
        self.tasks = Tasks("sse door")
        self._deadlines = deadlines
        self._streams: dict[str, DoorSession] = {}
        self._messengers: dict[str, Messenger] = {}
        self._counts: Counter[str] = Counter()

    @property
    def streams(self) -> int:
        """How many are open."""
        return len(self._streams)

    @property
    def counts(self) -> Counter[str]:
        """How many are open, by the instance's name."""
        return Counter(session.call.route.route.name for session in self._streams.values())

    async def forward(self, call: Call) -> None:
        """Answer a judged request. Raises Refusal, UpstreamError, ClientClosed."""
        if call.exchange.method == "GET":
            await self._open(call)
        else:
            await self._post(call)

    def refuse(self, call: Call, refusal: Refusal) -> bool:
        """Tell the client of a call on its stream, where it waits for the answer; False if that cannot be done."""
        address = call.admission.address
        session = None if address is None else self._streams.get(address.door)
        return session is not None and call.expects and session.refuse(call, refusal)

    async def close(self) -> None:
        """The streams have ended; what they leave at the servers is taken away."""
        await self.tasks.wait(CLOSE_SECONDS)
        await self.tasks.close()

    async def _open(self, call: Call) -> None:
        key = call.route.route.key
        if self._counts[key] >= MAX_STREAMS:
            detail = f"{MAX_STREAMS} clients of HTTP+SSE are at this route"
            raise Refusal(FailureClass.RATE_LIMITED, detail, status=503)
        session = DoorSession(call, secrets.token_urlsafe(16), self._deadlines)
        self._counts[key] += 1
        self._streams[session.name] = session
        try:
            upstream = call.route.upstream
            http = await upstream.through() if passes(upstream) else None
            if http is None or not passes(upstream):
                await self._converse(session)
                return
            try:
                await Passage(session, http, partial(self.addresses.create, call, session.name)).run()
            finally:
                if not session.begun and not call.connection.gone:
                    upstream.refused()
        finally:
            session.close()
            del self._streams[session.name]
            self._counts[key] -= 1
            if not self._counts[key]:
                del self._counts[key]

    # -- in front of what does not speak HTTP+SSE

    async def _converse(self, session: DoorSession) -> None:
        call = session.call
        connection, exchange = call.connection, call.exchange
        over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def end() -> None:
            if not over.done():
                over.set_result(None)

        async def deliver(message: bytes) -> None:
            try:
                await session.deliver(message)
            except ClientClosed:
                end()

        messenger = Messenger(call.route.upstream, _origin(call), deliver, self.tasks)
        self._messengers[session.name] = messenger
        connection.on_gone = connection.on_drain = end
        try:
            exchange.record_head(200)
            own = call.route.response_headers.own(list(_STREAM))
            await session.begin(own + call.own_lines)
            await session.send(encode_event(self.addresses.create(call, session.name, ""), b"endpoint"))
            if not connection.gone:
                await over
            session.finish()
        except ClientClosed:
            if not session.begun:
                raise
            session.finish()
        finally:
            del self._messengers[session.name]
            self.tasks.spawn(messenger.close(), "close")

    async def _post(self, call: Call) -> None:
        address = call.admission.address
        if address is None:
            raise unknown("it has no session")
        if address.endpoint:
            upstream = call.route.upstream
            http = await upstream.through() if passes(upstream) else None
            if http is None:
                raise unknown("the server does not speak HTTP+SSE any more")
            await pass_message(call, http, address.endpoint, self._streams.get(address.door))
            return
        session = self._streams.get(address.door)
        messenger = self._messengers.get(address.door)
        if session is None or messenger is None or call.body is None:
            raise unknown("its stream has ended")
        session.take_on(call)
        call.exchange.record_head(202)
        own = call.route.response_headers.own([])
        lines = own + call.own_lines
        framed = call.connection.frame(202, lines, 0)
        body, message = call.body, call.message or list(call.batch)
        call.body = None
        # Whoever posts one message after the other must not wait for the first: the answer may need the second.
        self.tasks.spawn(_carry(session, messenger, call, (body, message)), "message")
        if session.awaits(call):
            call.connection.answer(framed)  # the event that answers the call brings its record
        else:
            call.admission.plan.commit(call.record(), partial(call.connection.answer, framed))


async def _carry(
    session: DoorSession, messenger: Messenger, call: Call, message: tuple[bytes, Envelope | list[Envelope]]
) -> None:
    """See a message to its end. What answers it passes `deliver`; if there is no answer, the client is told."""
    try:
        await messenger.post(*message)
        session.forget(call)
    except Unanswered as error:
        if session.closed:
            return
        log.warning("%s %s: %s: %s", call.exchange.request_id, call.exchange.route, error.failure.value, error.detail)
        if error.ids:
            with suppress(ClientClosed):  # its record is written
                await session.fail(call, error)
        else:
            session.forget(call)
    finally:
        session.lay_down(call)


def _origin(call: Call) -> Origin:
    target = call.route.route.target
    return Origin(
        principal=call.principal,
        lines=without(call.lines, _NOT_CARRIED),
        timeouts=target.timeouts,
        target=target if isinstance(target, Target) else None,
        hides=call.route.response_headers.tells,
    )
