"""A backend's reply on its way to the client: status, headers, bodies that are no event stream.

2xx bodies pass byte for byte. The record of a call is in the journal before the bytes that complete its answer leave, so
the last piece of a body is always written by the journal's turn.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from functools import partial

from moongate.audit.record import encode
from moongate.errors import ClientClosed, FailureClass, UpstreamError
from moongate.model.exchange import Exchange
from moongate.protocol.jsonrpc import Answer, Envelope, is_json, negotiated_version, read_answer, tool_failed
from moongate.protocol.sealed import Session
from moongate.proxy.forward import media_type
from moongate.proxy.plan import RoutePlan
from moongate.proxy.reply import own_answer
from moongate.proxy.sessions import Sessions
from moongate.upstreams.base import Reply
from moongate.wire.codings import IDENTITY, Coding, coding_of
from moongate.wire.messages import MalformedMessage, RequestHead, ResponseHead
from moongate.wire.server import ServerConnection

JSON = b"application/json"
EVENT_STREAM = b"text/event-stream"

# Bodies up to this size are passed on in one piece, and inspected whole.
SMALL = 64 * 1024
MAX_ERROR_BODY = 1024 * 1024
_WINDOW = 2048
_ERROR_CODE = re.compile(rb'"error"\s*:\s*\{[^{}]{0,512}?"code"\s*:\s*(-?\d{1,9})')
_TOOL_ERROR = re.compile(rb'"isError"\s*:\s*true')

Commit = Callable[[bytes, Callable[[], None]], None]


class Call:
    """What one request takes along on its way. `expects`: an answer to a JSON-RPC request is due."""

    __slots__ = (
        "commit", "connection", "exchange", "expects", "head", "message", "modern", "route", "session", "session_token",
        "sessions",
    )  # fmt: skip

    def __init__(
        self,
        connection: ServerConnection,
        head: RequestHead,
        exchange: Exchange,
        route: RoutePlan,
        commit: Commit,
        sessions: Sessions,
    ) -> None:
        self.connection = connection
        self.head = head
        self.exchange = exchange
        self.route = route
        self.commit = commit
        self.sessions = sessions
        self.message: Envelope | None = None
        self.expects = False
        self.modern = False
        self.session: Session | None = None
        self.session_token: bytes | None = None

    def lines(self, head: ResponseHead) -> bytes:
        """The header lines of the answer: what passes, the request id, the client's own session id."""
        passed = self.route.response_headers.lines(head)
        request_id = self.exchange.request_id.encode()
        upstream = head.fields.get(b"mcp-session-id")
        if upstream is None or self.modern:
            return b"%bx-request-id: %b\r\n" % (passed, request_id)
        return b"%bx-request-id: %b\r\nmcp-session-id: %b\r\n" % (passed, request_id, self._session_id(upstream))

    def _session_id(self, upstream: bytes) -> bytes:
        if self.session is not None and self.session_token is not None and self.session.upstream == upstream:
            return self.session_token
        return self.sessions.create(upstream, self.route.route.key, self.exchange)

    def record(self, phase: str = "") -> bytes:
        """The exchange as it stands, as one line of the journal."""
        return encode(self.exchange, time.perf_counter(), phase)

    def finish(self, then: Callable[[], None]) -> None:
        """Record the exchange, then do what completes its answer."""
        if self.connection.gone:
            self.exchange.fail(FailureClass.CLIENT_CLOSED, "the client went away before its answer")
        self.exchange.recorded = True
        self.commit(self.record(), then)

    @property
    def initializing(self) -> bool:
        """Whether the answer opens a session, so that its revision must be known before its head leaves."""
        return self.message is not None and self.message.method == "initialize" and not self.modern

    def inspect(self, answer: Answer) -> None:
        """Note in the exchange how the call itself ended."""
        exchange = self.exchange
        if answer.error is not None:
            exchange.rpc_code = int(answer.error.code)
            exchange.fail(FailureClass.JSONRPC_ERROR, "")
        elif self.message is not None and self.message.method == "tools/call" and tool_failed(answer):
            exchange.fail(FailureClass.TOOL_ERROR, "")
        elif self.initializing:
            exchange.revision = negotiated_version(answer) or exchange.revision

    def inspect_windows(self, first: bytes, last: bytes) -> None:
        """The same for an answer too long to be held: its first and last bytes tell, in all that SDKs write."""
        if (error := _ERROR_CODE.search(first)) is not None and b'"result"' not in first[: error.start()]:
            self.exchange.rpc_code = int(error[1])
            self.exchange.fail(FailureClass.JSONRPC_ERROR, "")
        elif self.message is not None and self.message.method == "tools/call":
            if _TOOL_ERROR.search(last) or _TOOL_ERROR.search(first):
                self.exchange.fail(FailureClass.TOOL_ERROR, "")


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


async def relay_body(call: Call, reply: Reply, head: ResponseHead) -> None:
    """A 2xx answer that is no event stream. Raises UpstreamError while nothing of it has left."""
    coding = upstream_coding(head)
    plain = coding is IDENTITY
    if plain and reply.complete:  # as of nearly every answer
        _answer_whole(call, head, _checked(call, reply.take(), head))
        reply.release()
        return
    short = plain and head.length is not None and head.length <= SMALL
    if short or call.initializing:
        body = await collect(reply, coding, MAX_ERROR_BODY, call.route.route.target.timeouts.first_byte)
        _answer_whole(call, head, _checked(call, body, head))
        reply.release()
        return
    await _relay_pieces(call, reply, head, coding)


def _checked(call: Call, body: bytes, head: ResponseHead) -> bytes:
    if not call.expects:
        return body
    answer = read_answer(body)
    if answer is not None:
        call.inspect(answer)
    elif not body or (media_type(head.fields) == JSON and not is_json(body)):
        raise UpstreamError(FailureClass.UPSTREAM_PROTOCOL, "an answer that is not JSON")
    return body


def _answer_whole(call: Call, head: ResponseHead, body: bytes) -> None:
    connection = call.connection
    call.exchange.bytes_out = len(body)
    framed = connection.frame(head.status, call.lines(head), len(body))
    call.finish(partial(connection.answer, framed, body))


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
                    call.finish(partial(connection.end, piece))
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
    call.finish(connection.end)
    reply.release()


async def drain(call: Call, reply: Reply) -> None:
    """The client is gone. A legacy call goes on at the backend, so its answer is read to the end; others are stopped."""
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
        raise UpstreamError(FailureClass.UPSTREAM_HTTP, f"the backend refused the gateway's credential with {head.status}")
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
    call.finish(partial(connection.answer, framed, own.body))
