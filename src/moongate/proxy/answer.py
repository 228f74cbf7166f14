"""A backend's reply on its way to the client: status, headers, bodies that are no event stream.

2xx bodies pass byte for byte. The record of a call is in the journal before the bytes that complete its answer leave,
so the last piece of a body is always written by the journal's turn.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from moongate.errors import ClientClosed, FailureClass, UpstreamError
from moongate.protocol.jsonrpc import is_json, read_answer
from moongate.proxy.call import Call
from moongate.proxy.forward import media_type
from moongate.proxy.reply import own_answer
from moongate.upstreams.base import Reply
from moongate.wire.codings import IDENTITY, Coding, coding_of
from moongate.wire.messages import MalformedMessage, ResponseHead

JSON = b"application/json"
EVENT_STREAM = b"text/event-stream"

# Bodies up to this size are passed on in one piece, and inspected whole.
SMALL = 64 * 1024
MAX_ERROR_BODY = 1024 * 1024
_WINDOW = 2048


def upstream_coding(head: ResponseHead) -> Coding:
    """The coding of a backend's body. Raises UpstreamError."""
    if b"content-encoding" not in head.fields:
        return IDENTITY
    try:
        return coding_of(head.fields)
    except MalformedMessage as error:
        raise UpstreamError(FailureClass.UPSTREAM_PROTOCOL, error.detail) from None


async def collect(reply: Reply, coding: Coding, limit: int, seconds: float) -> bytes:
    """A whole body of at most `limit` bytes. Raises UpstreamError."""
    pieces: list[bytes] = []
    size = 0
    while True:
        data = reply.take() if reply.complete else await reply.read(seconds)
        try:
            for piece in coding.decode(data):
                size += len(piece)
                if size > limit:
                    detail = f"a body of more than {limit} bytes where a short one is expected"
                    raise UpstreamError(FailureClass.UPSTREAM_PROTOCOL, detail)
                pieces.append(piece)
        except MalformedMessage as error:
            raise UpstreamError(FailureClass.UPSTREAM_PROTOCOL, error.detail) from None
        if reply.complete or not data:
            return b"".join(pieces)


def whole_answer(call: Call, reply: Reply, head: ResponseHead) -> Callable[[], None] | None:
    """The usual answer: JSON, plain, 200, all here. What sends it once it is recorded; None for any other.

    Raises UpstreamError if it is not the answer that is due.
    """
    if head.memo is None and (
        head.status != 200 or media_type(head.fields) != JSON or b"content-encoding" in head.fields
    ):
        return None
    if head.memo is None:  # only such an answer is remembered
        head.memo = call.route.response_headers.lines(head)
    body = reply.take()
    if call.expects:
        _check(call, body)
    reply.release()
    call.exchange.bytes_out = len(body)
    connection = call.connection
    return partial(connection.answer, connection.frame(200, call.lines(head), len(body)), body)


def _check(call: Call, body: bytes) -> None:
    answer = read_answer(body)
    if answer is not None:
        call.inspect(answer)
    elif not is_json(body):
        raise UpstreamError(FailureClass.UPSTREAM_PROTOCOL, "an answer that is not JSON")


async def relay_body(call: Call, reply: Reply, head: ResponseHead) -> None:
    """A 2xx answer that is no event stream. Raises UpstreamError while nothing of it has left."""
    coding = upstream_coding(head)
    short = coding is IDENTITY and (reply.complete or (head.length is not None and head.length <= SMALL))
    if short or call.initializing:
        limit = MAX_ERROR_BODY if call.initializing else max(SMALL, head.length or MAX_ERROR_BODY)
        body = await collect(reply, coding, limit, call.route.route.target.timeouts.first_byte)
        if call.expects:
            _check(call, body)
        reply.release()
        _answer_whole(call, head, body)
        return
    await _relay_pieces(call, reply, head, coding)


def _answer_whole(call: Call, head: ResponseHead, body: bytes) -> None:
    connection = call.connection
    call.exchange.bytes_out = len(body)
    framed = connection.frame(head.status, call.lines(head), len(body))
    call.admission.plan.commit(call.record(), partial(connection.answer, framed, body))


async def _relay_pieces(call: Call, reply: Reply, head: ResponseHead, coding: Coding) -> None:
    connection, exchange = call.connection, call.exchange
    seconds = call.route.route.target.timeouts.first_byte
    length = head.length if coding is IDENTITY else None
    first = last = b""
    begun = False
    try:
        while True:
            data = reply.take() if reply.complete else await reply.read(seconds)
            done = reply.complete or not data
            for piece in coding.decode(data):
                exchange.bytes_out += len(piece)
                first = first or piece[:_WINDOW]
                last = (last + piece[-_WINDOW:])[-_WINDOW:]
                if not begun:
                    begun = True
                    connection.begin(connection.frame(head.status, call.lines(head), length))
                if done and coding is IDENTITY:
                    call.inspect_windows(first, last)
                    call.admission.plan.commit(call.record(), partial(connection.end, piece))
                    reply.release()
                    return
                connection.put(piece)
                await connection.writable()
            if done:
                break
    except MalformedMessage as error:
        raise UpstreamError(FailureClass.UPSTREAM_PROTOCOL, error.detail) from None
    except ClientClosed:
        await drain(call, reply)
        raise
    if not begun:
        raise UpstreamError(FailureClass.UPSTREAM_PROTOCOL, "an empty answer")
    call.inspect_windows(first, last)
    call.admission.plan.commit(call.record(), connection.end)
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
    if head.status in (401, 403):  # it is the gateway's own credential that failed there
        reply.cancel()
        raise UpstreamError(
            FailureClass.UPSTREAM_HTTP, f"the backend refused the gateway's credential with {head.status}"
        )
    try:
        body = await collect(reply, upstream_coding(head), MAX_ERROR_BODY, call.route.route.target.timeouts.first_byte)
    except UpstreamError:
        body = b""  # the status alone is the message
    answer = read_answer(body)
    reply.release() if reply.complete else reply.cancel()
    if answer is not None and not call.route.response_headers.names_backend(body):
        if answer.error is not None:
            exchange.rpc_code = int(answer.error.code)
        _answer_whole(call, head, body)
        return
    own = own_answer(exchange, FailureClass.UPSTREAM_HTTP, added=call.route.response_headers.added)
    kept = [b"%b: %b\r\n" % (name, head.fields[name]) for name in (b"allow", b"retry-after") if name in head.fields]
    exchange.bytes_out = len(own.body)
    framed = connection.frame(head.status, own.lines + b"".join(kept), len(own.body))
    call.admission.plan.commit(call.record(), partial(connection.answer, framed, own.body))
