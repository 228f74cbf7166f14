"""HTTP+SSE in front of HTTP+SSE: the backend's stream passes byte for byte, but for its `endpoint` events.

The address that the client gets instead holds the backend's own, sealed: whichever worker gets a message can pass it
on.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial

from moongate.errors import ClientClosed, FailureClass, UpstreamError
from moongate.protocol.forms import Answer
from moongate.protocol.jsonrpc import is_json, looks_like_answer, read_answer, read_answers
from moongate.protocol.listing import may_list
from moongate.proxy.access import TOO_LONG, look_through, watched
from moongate.proxy.answer import pieces, relay_failure, upstream_coding
from moongate.proxy.call import Call
from moongate.proxy.sse_session import DoorSession
from moongate.upstreams.base import Reply
from moongate.upstreams.http import HttpUpstream
from moongate.upstreams.sse import Plain, check_stream, endpoint_path, follow
from moongate.wire.codings import Coding
from moongate.wire.events import HOLD_BYTES, Splitter, encode_event, parse_event, with_data
from moongate.wire.messages import MalformedMessage, ResponseHead

MAX_ANSWER = 64 * 1024 * 1024
_WINDOW = 2048
_ID = rb'"id"[ \t]*:[ \t]*("(?:[^"\\]|\\.){0,512}"|-?[0-9][0-9.eE+-]{0,32})[ \t]*'
_VERSION = rb'"jsonrpc"[ \t]*:[ \t]*"2\.0"[ \t]*'
# How SDKs write responses: the id stands before the result, or behind it.
_ID_FIRST = re.compile(rb"data:[ \t]*\{[ \t]*(?:" + _VERSION + rb",[ \t]*)?" + _ID + rb",")
_ID_LAST = re.compile(rb",[ \t]*" + _ID + rb"(?:,[ \t]*" + _VERSION + rb")?\}[ \t\r\n]*\Z")
# An endpoint event in one that is too long to be held.
_HIDDEN = re.compile(rb"[\r\n]event: ?endpoint[\r\n]")
_SEAM = 20


class Passage:
    """One stream from a backend to a client. `address` makes the client's message address of the backend's path."""

    def __init__(self, session: DoorSession, http: HttpUpstream, address: Callable[[str], bytes]) -> None:
        self._session = session
        self._call = session.call
        self._http = http
        self._address = address
        self._splitter = Splitter() if self._call.cut is None else Splitter(MAX_ANSWER)
        self._opened = ""
        self._held: list[bytes] = []
        self._first = b""
        self._seam = b""

    async def run(self) -> None:
        """Relay to the end. Raises UpstreamError while nothing has left."""
        call, session = self._call, self._session
        lines = without(call.lines, (b"accept:",)) + b"accept: text/event-stream\r\n"
        reply, head, self._opened = await follow(self._http, Plain("GET", lines), started=self._stop_with)
        try:
            if head.status >= 400:
                await relay_failure(call, reply, head)
                return
            check_stream(head)
            coding = upstream_coding(head)
            await self._relay(reply, head, coding)
        except ClientClosed:
            self._end(None)
        except UpstreamError as error:
            if not session.begun and not call.connection.gone:
                raise
            self._end(None if session.draining or call.connection.gone else error)
        finally:
            reply.cancel()

    def _end(self, error: UpstreamError | None, last: bytes = b"") -> None:
        if self._session.begun:
            self._session.finish(error, last)
        else:
            raise ClientClosed

    def _stop_with(self, reply: Reply) -> None:
        connection = self._call.connection

        def drain() -> None:
            self._session.draining = True
            reply.cancel()

        connection.on_gone, connection.on_drain = reply.cancel, drain
        if connection.gone:
            reply.cancel()

    async def _relay(self, reply: Reply, head: ResponseHead, coding: Coding) -> None:
        silence = self._http.target.timeouts.silence
        session = self._session
        try:
            while True:
                limit = silence if session.begun else reply.remaining()
                data = reply.take() if reply.complete else await reply.read(limit)
                if not data:
                    break
                for piece in coding.decode(data):
                    await self._piece(piece, head)
            coding.finish()
        except MalformedMessage as error:
            raise UpstreamError(FailureClass.UPSTREAM_PROTOCOL, error.detail) from None
        if not session.begun:
            raise UpstreamError(FailureClass.UPSTREAM_PROTOCOL, "the event stream ended without an endpoint event")
        closed = UpstreamError(FailureClass.UPSTREAM_RESET, "the backend closed its event stream")
        # An unfinished event was not looked through; every reader that keeps to the standard discards it.
        rest = b"" if session.cut is not None and not session.partial else self._splitter.rest()
        self._end(closed if session.waiting else None, rest)

    async def _piece(self, data: bytes, head: ResponseHead) -> None:
        session = self._session
        out: list[bytes] = []
        answers: list[tuple[Answer, int]] = []
        try:
            for block in self._splitter.feed(data):
                if session.partial:
                    await self._rest(block)
                elif session.begun:
                    if shown := await self._event(block, answers):
                        out.append(shown)
                else:
                    await self._begin(block, head)
        finally:  # what came before an event that cannot pass
            if answers:
                await session.settle(answers)
            if out:
                await session.send(b"".join(out) if len(out) > 1 else out[0])
        if not session.begun:
            if self._splitter.held + sum(map(len, self._held)) > HOLD_BYTES:
                raise UpstreamError(FailureClass.UPSTREAM_PROTOCOL, "too much before the endpoint event")
        elif overflow := self._splitter.overflow():
            if self._session.cut is not None:
                raise UpstreamError(FailureClass.UPSTREAM_PROTOCOL, TOO_LONG)
            if not session.partial:
                session.partial = True
                self._first = overflow[:_WINDOW]
                self._seam = b"\n"
            self._check_hidden(overflow)
            await session.send(overflow)

    async def _begin(self, block: bytes, head: ResponseHead) -> None:
        """Hold everything until the endpoint is known: whether this is HTTP+SSE at all decides on the status."""
        event = parse_event(block)
        if event.name != b"endpoint":
            if event.data is not None and event.name in (b"", b"message"):
                detail = "the event stream does not begin with an endpoint event"
                raise UpstreamError(FailureClass.UPSTREAM_PROTOCOL, detail)
            self._held.append(block)
            return
        own = self._endpoint(event.data or b"")
        self._call.exchange.record_head(200)
        await self._session.begin(self._lines(head))
        await self._session.send(b"".join([*self._held, own]))
        self._held.clear()

    def _lines(self, head: ResponseHead) -> bytes:
        lines = self._call.passed(head).lines + self._call.own_lines
        for name, value in ((b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no")):
            if name not in head.fields:
                lines += b"%b: %b\r\n" % (name, value)
        return lines

    def _endpoint(self, data: bytes) -> bytes:
        return encode_event(self._address(endpoint_path(self._http.target, self._opened, data)), b"endpoint")

    async def _event(self, block: bytes, answers: list[tuple[Answer, int]]) -> bytes:
        """What goes on of an event; responses in it are added to `answers`."""
        event = parse_event(block)
        if event.name == b"endpoint":
            return self._endpoint(event.data or b"")
        cuts = self._session.cut is not None
        if event.data and (self._session.waiting or cuts):
            found = read_answers(event.data)
            if cuts and not found and not is_json(event.data):
                raise UpstreamError(FailureClass.UPSTREAM_PROTOCOL, "an event that is not JSON")
            if cuts and (data := await self._session.shown(event.data, found)) != event.data:
                block = with_data(block, data) if data else b""
            answers += [(answer, len(block)) for answer in found]
        return block

    async def _rest(self, block: bytes) -> None:
        """The end of an event that was too long to hold."""
        self._check_hidden(block)
        session, first = self._session, self._first
        if session.waiting and looks_like_answer(first):
            last = block[-_WINDOW:]
            found = _ID_FIRST.search(first) or _ID_LAST.search(last)
            if found is not None:
                await session.settle_windows(found[1], first, last)
        session.partial = False
        await session.send(block)

    def _check_hidden(self, data: bytes) -> None:
        text = self._seam + data
        self._seam = text[-_SEAM:]
        if _HIDDEN.search(text):
            raise UpstreamError(FailureClass.UPSTREAM_PROTOCOL, "an endpoint event that is too long")


def without(lines: bytes, names: tuple[bytes, ...]) -> bytes:
    """Header lines but those that begin with one of `names` (lower-case)."""
    kept = [line for line in lines.split(b"\r\n") if line and not line.lower().startswith(names)]
    return b"".join([line + b"\r\n" for line in kept])


async def pass_message(call: Call, http: HttpUpstream, endpoint: str, session: DoorSession | None) -> None:
    """Post a message to the backend's own address and pass its answer back. `session`: the stream, if it is here.

    Raises UpstreamError, ClientClosed, Refusal.
    """
    if session is not None:
        session.add(call)
    try:
        reply, head, _ = await follow(http, Plain("POST", call.lines, call.body), endpoint)
        call.body = None
        try:
            await _pass_reply(call, reply, head, session)
        finally:
            reply.cancel()
    except UpstreamError:
        if call.exchange.recorded:  # its answer has passed on the stream meanwhile
            call.connection.answer(call.connection.frame(202, call.own_lines, 0))
            return
        if session is not None:
            session.drop(call)
        raise
    except BaseException:
        if session is not None:
            session.drop(call)
        raise


async def _pass_reply(call: Call, reply: Reply, head: ResponseHead, session: DoorSession | None) -> None:
    exchange, connection = call.exchange, call.connection
    if not exchange.recorded:
        exchange.record_head(head.status)
    if head.status >= 300:
        if exchange.recorded or head.status < 400:
            raise UpstreamError(FailureClass.UPSTREAM_PROTOCOL, f"the backend answered a message with {head.status}")
        if session is not None:
            session.drop(call)
        await relay_failure(call, reply, head)
        return
    body, whole = await pieces(call, reply, head).collect(MAX_ANSWER)
    if not whole:
        raise UpstreamError(FailureClass.UPSTREAM_PROTOCOL, "an answer to a message that is too long")
    reply.release()
    answer = read_answer(body) if call.expects and body else None
    if answer is not None or (body and watched(call) and may_list(body)):
        body = await look_through(call, body)
    if answer is not None and answer.method is None and not exchange.recorded:
        call.inspect(answer)
        if session is not None:
            session.drop(call)
    waits = session is not None and session.awaits(call)
    if not waits and not exchange.recorded:
        exchange.bytes_out = len(body)
    lines = call.passed(head).lines + call.own_lines
    answering = partial(connection.answer, connection.frame(head.status, lines, len(body)), body)
    if waits or exchange.recorded:
        answering()  # the event that answers the call brings its record
    else:
        call.admission.plan.commit(call.record(), answering)
