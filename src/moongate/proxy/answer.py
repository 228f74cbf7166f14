"""A backend's reply on its way to the client: status, headers, bodies that are no event stream.

2xx bodies pass byte for byte. The record of a call is in the journal before the bytes that complete its answer leave,
so the last piece of a body is always written by the journal's turn.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial

from moongate.errors import ClientClosed, FailureClass, UpstreamError
from moongate.protocol.jsonrpc import is_json, may_have_failed, read_answer, read_answers
from moongate.protocol.listing import names_lists
from moongate.proxy.access import INLINE, MAX_LIST, TOO_LONG, cut_for, hides, look_through, watched
from moongate.proxy.call import Call
from moongate.proxy.forward import JSON, media_type
from moongate.proxy.reply import own_answer
from moongate.upstreams.base import Reply
from moongate.wire.codings import IDENTITY, Coding, coding_of
from moongate.wire.events import Splitter, parse_event
from moongate.wire.messages import MalformedMessage, ResponseHead

# Bodies up to this size are passed on in one piece, and inspected whole.
SMALL = 64 * 1024
MAX_ERROR_BODY = 1024 * 1024
_WINDOW = 2048
_BLANK = b" \t\r\n"


def upstream_coding(head: ResponseHead) -> Coding:
    """The coding of a backend's body. Raises UpstreamError."""
    if b"content-encoding" not in head.fields:
        return IDENTITY
    try:
        return coding_of(head.fields)
    except MalformedMessage as error:
        raise UpstreamError(FailureClass.UPSTREAM_PROTOCOL, error.detail) from None


class Pieces:
    """A body piece by piece, decoded. Its first byte is due within the first-byte limit, each further one within `gap`.

    `taken` was read before. `last`: the piece that `next` just gave is known to be the last.
    """

    def __init__(self, reply: Reply, coding: Coding, gap: float, taken: bytes = b"") -> None:
        self._reply = reply
        self._taken = taken
        self._coding = coding
        self._gap = gap
        self._started = False
        self._ended = False
        self._decoded: Iterator[bytes] = iter(())

    @property
    def last(self) -> bool:
        """Whether nothing follows; not known of coded bodies."""
        return self._ended and self._coding is IDENTITY

    async def next(self) -> bytes:
        """The next piece, b"" at the end. Raises UpstreamError."""
        reply = self._reply
        try:
            while (piece := next(self._decoded, b"")) == b"":
                if self._ended:
                    self._coding.finish()
                    return b""
                limit = self._gap if self._started else reply.remaining()
                data, self._taken = self._taken, b""
                if not data:
                    data = reply.take() if reply.complete else await reply.read(limit)
                self._started = True
                self._ended = reply.complete or not data
                self._decoded = self._coding.decode(data)
        except MalformedMessage as error:
            raise UpstreamError(FailureClass.UPSTREAM_PROTOCOL, error.detail) from None
        return piece

    async def collect(self, limit: int) -> tuple[bytes, bool]:
        """The body up to its end, and True; or what came before it grew over `limit` bytes or took too long.

        Raises UpstreamError.
        """
        found: list[bytes] = []
        size = 0
        until = time.monotonic() + max(self._reply.remaining(), 0) + self._gap
        while piece := await self.next():
            found.append(piece)
            size += len(piece)
            if size > limit or time.monotonic() > until:
                return b"".join(found), False
        return b"".join(found), True


def pieces(call: Call, reply: Reply, head: ResponseHead) -> Pieces:
    """The body of a backend's answer. Raises UpstreamError for a coding that cannot be read."""
    taken, call.taken = call.taken, b""
    return Pieces(reply, upstream_coding(head), call.route.route.target.timeouts.first_byte, taken)


def whole_answer(call: Call, reply: Reply, head: ResponseHead) -> Callable[[], None] | None:
    """The usual answers, JSON or an event stream, all here. What sends it once it is recorded; None for any other.

    Raises UpstreamError if it is not the answer that is due.
    """
    passed = call.passed(head)
    if passed.json:
        body = reply.take()
        if len(body) > INLINE and watched(call):
            call.taken = body
            return None
        if call.expects:
            _check(call, body)
        if call.admission.caller is not None and body and (cut := cut_for(call, body)) is not None:
            body = cut(body)
    elif passed.events and call.expects:
        body = reply.take()
        if call.cut is not None or (watched(call) and names_lists(body)) or not _check_events(call, body):
            call.taken = body
            return None
    else:
        return None
    reply.release()
    call.exchange.bytes_out = len(body)
    connection = call.connection
    return partial(connection.answer, connection.frame(200, call.answer_lines(head), len(body)), body)


def _check_events(call: Call, body: bytes) -> bool:
    """Whether the stream ends with an event and holds the answer."""
    splitter = Splitter()
    due = call.due
    for block in splitter.feed(body):
        data = parse_event(block).data
        for answer in read_answers(data) if data else ():
            call.inspect(answer)
            due -= 1
    return due <= 0 and not splitter.held


def _check(call: Call, body: bytes) -> None:
    answer = read_answer(body)
    if answer is not None:
        call.inspect(answer, suspect=may_have_failed(body))
    elif not is_json(body):
        raise UpstreamError(FailureClass.UPSTREAM_PROTOCOL, "an answer that is not JSON")


async def relay_body(call: Call, reply: Reply, head: ResponseHead) -> None:
    """A 2xx answer that is no event stream. Raises UpstreamError while nothing of it has left.

    A short one is held until it is whole: then it can be judged. A long one must at least begin like JSON.
    """
    body = pieces(call, reply, head)
    limit = MAX_LIST if call.cut is not None else MAX_ERROR_BODY if call.initializing else SMALL
    first, whole = await body.collect(limit)
    if whole:
        if call.expects:
            _check(call, first)
        if first and (call.expects or call.cut is None or media_type(head.fields) == JSON):
            first = await look_through(call, first)
        reply.release()
        _answer_whole(call, head, first)
    elif await hides(call, first):
        raise UpstreamError(FailureClass.UPSTREAM_PROTOCOL, TOO_LONG)
    elif call.expects and (first.lstrip(_BLANK)[:1] not in (b"{", b"[") or call.initializing):
        raise UpstreamError(FailureClass.UPSTREAM_PROTOCOL, "a long answer that is not JSON")
    else:
        gone = False
        try:
            await _relay_pieces(call, reply, head, first, body)
        except ClientClosed:
            gone = True
        if gone:  # not in the handler, where compiled code must not wait
            await drain(call, reply)
            raise ClientClosed


def _answer_whole(call: Call, head: ResponseHead, body: bytes) -> None:
    connection = call.connection
    call.exchange.bytes_out = len(body)
    framed = connection.frame(head.status, call.answer_lines(head), len(body))
    call.admission.plan.commit(call.record(), partial(connection.answer, framed, body))


async def _relay_pieces(call: Call, reply: Reply, head: ResponseHead, piece: bytes, body: Pieces) -> None:
    connection, exchange = call.connection, call.exchange
    length = None if b"content-encoding" in head.fields else head.length
    connection.begin(connection.frame(head.status, call.answer_lines(head), length))
    first = piece[:_WINDOW]
    last = b""
    while piece:
        exchange.bytes_out += len(piece)
        last = (last + piece[-_WINDOW:])[-_WINDOW:]
        if body.last:
            break
        connection.put(piece)
        await connection.writable()
        piece = await body.next()
    call.inspect_windows(first, last)
    call.admission.plan.commit(call.record(), partial(connection.end, piece))
    reply.release()


async def drain(call: Call, reply: Reply) -> None:
    """The client is gone. A legacy call goes on at the backend: its answer is read to the end. Others are stopped."""
    if call.modern or not call.expects:
        reply.cancel()
        return
    try:
        while not reply.complete and await reply.read(call.route.route.target.timeouts.silence):
            pass
    except UpstreamError:
        pass  # nobody is left to hear of it
    reply.take()
    reply.release()


async def relay_failure(call: Call, reply: Reply, head: ResponseHead) -> None:
    """A 4xx or 5xx: its body passes if it is a JSON-RPC message, otherwise ours replaces it. Raises UpstreamError."""
    exchange, connection = call.exchange, call.connection
    exchange.fail(FailureClass.UPSTREAM_HTTP, f"the backend answered {head.status}")
    if head.status in (401, 403, 407):  # it is the gateway's own credential that failed there
        reply.cancel()
        raise UpstreamError(
            FailureClass.UPSTREAM_HTTP, f"the backend refused the gateway's credential with {head.status}"
        )
    try:
        body, whole = await pieces(call, reply, head).collect(MAX_ERROR_BODY)
    except UpstreamError:
        body, whole = b"", False  # the status alone is the message
    answer = read_answer(body) if whole else None
    if answer is not None:
        body = await look_through(call, body)
    if whole:
        reply.release()
    else:
        reply.cancel()
    if answer is not None and not call.route.response_headers.tells(body):
        if answer.error is not None:
            exchange.rpc_code = answer.error.code
        _answer_whole(call, head, body)
        return
    own = own_answer(exchange, FailureClass.UPSTREAM_HTTP, route=call.route.response_headers)
    kept = [b"%b: %b\r\n" % (name, head.fields[name]) for name in (b"allow", b"retry-after") if name in head.fields]
    exchange.bytes_out = len(own.body)
    framed = connection.frame(head.status, own.lines + b"".join(kept), len(own.body))
    call.admission.plan.commit(call.record(), partial(connection.answer, framed, own.body))
