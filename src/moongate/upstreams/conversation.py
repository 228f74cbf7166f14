"""One channel to a server and everybody who speaks over it: whose answer is it, whose progress, whose question.

Message ids on the channel are the gateway's own and mapped back; on a channel that several clients share, progress
tokens too. What a server says goes to the client it belongs to, or to nobody: a message whose owner cannot be known is
never handed to all.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from functools import partial

import msgspec

from moongate.errors import FailureClass, UpstreamError
from moongate.protocol.jsonrpc import INTERNAL_ERROR, Envelope, error_message
from moongate.protocol.splice import (
    SUBSCRIPTION_KEY,
    elements,
    find,
    member,
    one_line,
    read_incoming,
    read_noted,
    same,
    with_id,
    with_member,
)
from moongate.upstreams.base import Channel
from moongate.upstreams.streams import Stream

log = logging.getLogger("moongate")

METHOD_NOT_FOUND = -32601
# A server that was told of a cancellation need not answer; its caller waits no longer than this.
CANCEL_SECONDS = 1.0
# Questions of a server that nobody has answered yet.
MAX_QUESTIONS = 1000
# Finished streams of a session that can still be resumed, and what all its streams may hold for clients that are gone.
KEPT_STREAMS = 16
SESSION_BYTES = 4 * 1024 * 1024
SHARED_BYTES = 256 * 1024
# Calls of one session that are not answered.
MAX_OPEN = 256
STANDALONE = 0

SLOW_BYTES = 64 * 1024 * 1024
_CHANGED = frozenset(
    {
        "notifications/tools/list_changed",
        "notifications/prompts/list_changed",
        "notifications/resources/list_changed",
    }
)
_UPDATED = "notifications/resources/updated"
# What belongs to no request.
_UNRELATED = _CHANGED | {_UPDATED}
_PONG = b'{"jsonrpc":"2.0","id":%b,"result":{}}'


class Pending:
    """A request that the server has not answered. `client_id` and `token` are raw JSON as the client wrote them."""

    __slots__ = ("client_id", "method", "on_answer", "on_failed", "session", "stream", "token", "uri")

    def __init__(self, stream: Stream, envelope: Envelope, session: Session | None) -> None:
        self.stream = stream
        self.session = session
        self.client_id = envelope.id or b"null"
        self.method = envelope.method
        self.uri = envelope.target or ""
        self.token = b""
        self.on_answer: Callable[[bytes], None] | None = None
        self.on_failed: Callable[[], object] | None = None

    def fail(self, error: UpstreamError) -> None:
        """There will be no answer. A client that may come back for it finds an error in its place."""
        stream = self.stream
        if stream.resumable and stream.reply is None and not stream.ended:
            data = {"class": error.failure.value}
            stream.answer(error_message(INTERNAL_ERROR, "There will be no answer", data, self.client_id))
        else:
            stream.fail(error)
        if self.on_failed is not None:
            self.on_failed()


class Session:
    """One client's session on a conversation. `standalone` holds what belongs to no request of his."""

    __slots__ = ("_numbers", "conversation", "last_used", "standalone", "streams", "subscriptions", "token")

    def __init__(self, token: bytes, conversation: Conversation) -> None:
        self.token = token
        self.conversation = conversation
        self.last_used = conversation.now()
        self.subscriptions: set[str] = set()
        self._numbers = STANDALONE
        self.standalone = Stream(conversation, STANDALONE, (), resumable=True)
        self.streams: dict[int, Stream] = {}

    def stream(self, ids: tuple[bytes, ...]) -> Stream:
        """A new stream for the answers to `ids` (raw JSON), kept for resumption."""
        self._numbers += 1
        stream = Stream(self.conversation, self._numbers, ids, resumable=True)
        stream.home = self.streams
        stream.budget = SHARED_BYTES if self.conversation.shared else SESSION_BYTES
        self.streams[self._numbers] = stream
        if len(self.streams) > KEPT_STREAMS:
            self._forget_streams()
        return stream

    def _forget_streams(self) -> None:
        over = [number for number, stream in self.streams.items() if stream.ended and stream.reply is None]
        for number in over[: len(self.streams) - KEPT_STREAMS]:
            del self.streams[number]

    @property
    def busy(self) -> bool:
        """Whether its client listens, or waits for an answer."""
        return self.standalone.reply is not None or any(not stream.ended for stream in self.streams.values())

    def end(self) -> None:
        """Its streams are over; what is still asked is given up."""
        self.standalone.end()
        for stream in self.streams.values():
            if not stream.ended:
                stream.fail(UpstreamError(FailureClass.UPSTREAM_RESET, "its session was ended", final=True))
                self.conversation.abandoned(stream)
        self.streams.clear()


class Conversation:
    """One channel. `shared`: several clients use it, or may; `strangers`: clients of several principals. It is the
    channel's `base.Receiver`.

    `on_closed` is called once when the channel has ended by itself.
    """

    def __init__(self, name: str, *, shared: bool, strangers: bool, on_closed: Callable[[Conversation], None]) -> None:
        self.name = name
        self.shared = shared
        self.strangers = strangers
        self.channel: Channel
        self.sessions: dict[bytes, Session] = {}
        self.initialized = b""
        self.error: UpstreamError | None = None
        self.dropped = 0
        self._loop = asyncio.get_running_loop()
        self.last_used = self._loop.time()
        self._on_closed = on_closed
        self._counter = 0
        self._calls: dict[bytes, Pending] = {}
        self._tokens: dict[bytes, Pending] = {}
        self._own: dict[bytes, asyncio.Future[bytes]] = {}
        self._questions: dict[bytes, None] = {}
        self._opened = shared
        self._answers = False
        self._brake = _Brake(self)

    def now(self) -> float:
        """Loop time in seconds."""
        return self._loop.time()

    @property
    def busy(self) -> bool:
        """Whether anybody waits for something."""
        return bool(self._calls or self._own) or any(session.busy for session in self.sessions.values())

    # -- towards the server

    def call(self, envelope: Envelope, body: bytes, stream: Stream, session: Session | None) -> Pending:
        """Send a request whose answer is to go to `stream`."""
        self._counter += 1
        raw = b"%d" % self._counter
        pending = Pending(stream, envelope, session)
        message = with_id(one_line(body), envelope.id or b"", raw)
        if envelope.meta is not None and (token := envelope.meta.get("progressToken")) is not None:
            pending.token = bytes(token)
            if self.shared:
                message = with_member(message, ("params", "_meta", "progressToken"), raw)
                self._tokens[raw] = pending
            else:
                self._tokens[pending.token] = pending
        self._calls[raw] = pending
        stream.open.append(raw)
        self.channel.write(message, partial(self._undelivered, raw))
        return pending

    def notify(self, envelope: Envelope, body: bytes, session: Session | None) -> None:
        """A client's notification. On a shared channel only cancellations go on: all others speak for one client."""
        if envelope.method == "notifications/cancelled":
            self._cancel(body, session)
        elif not self.shared:
            self._opened = self._opened or envelope.method == "notifications/initialized"
            self.channel.write(one_line(body), self._unheard)

    def respond(self, envelope: Envelope, body: bytes) -> None:
        """A client's answer to a question of the server; an answer to no question is dropped."""
        raw = envelope.id or b""
        asked = find(self._questions, raw)
        if asked is None:
            self.dropped += 1
            return
        del self._questions[asked]
        message = one_line(body)
        self.channel.write(message if asked == raw else with_id(message, raw, asked), self._unheard)

    async def ask(self, method: bytes, params: bytes) -> bytes:
        """A request of the gateway itself; the server's whole answer. Raises UpstreamError."""
        self._counter += 1
        raw = b"%d" % self._counter
        waiter = self._own[raw] = self._loop.create_future()
        try:
            text = b'{"jsonrpc":"2.0","id":%b,"method":"%b","params":%b}' % (raw, method, params)
            self.channel.write(text, partial(self._undelivered, raw))
            answer: bytes = await waiter
        finally:
            self._own.pop(raw, None)
        return answer

    def say(self, message: bytes) -> None:
        """A notification of the gateway itself."""
        self.channel.write(message, self._unheard)

    def _cancel(self, body: bytes, session: Session | None) -> None:
        wanted = read_noted(body).request
        if session is None and self.shared:  # whose call it is cannot be known: ids are each client's own
            self.dropped += 1
            return
        for raw, pending in self._calls.items():
            if pending.session is session and pending.method != "initialize" and same(pending.client_id, wanted):
                self.channel.write(with_member(one_line(body), ("params", "requestId"), raw), self._unheard)
                self._loop.call_later(CANCEL_SECONDS, self._cancelled, raw, pending)
                return

    def _cancelled(self, raw: bytes, pending: Pending) -> None:
        if self._calls.get(raw) is pending:
            data = {"class": "cancelled"}
            error = error_message(INTERNAL_ERROR, "The request was cancelled", data, pending.client_id)
            self._forget(raw)
            pending.stream.answer(error)

    def _undelivered(self, raw: bytes, error: UpstreamError) -> None:
        own = self._own.get(raw)
        if own is not None and not own.done():
            own.set_exception(error)
        pending = self._forget(raw)
        if pending is not None:
            pending.fail(error)

    def _unheard(self, error: UpstreamError) -> None:
        self.dropped += 1
        log.warning("%s: a message did not reach the server: %s", self.name, error.detail)

    def _forget(self, raw: bytes) -> Pending | None:
        pending = self._calls.pop(raw, None)
        if pending is not None and pending.token:
            key = raw if self.shared else pending.token
            if self._tokens.get(key) is pending:
                del self._tokens[key]
        return pending

    # -- from the server

    def received(self, message: bytes) -> None:
        """See `base.Receiver`."""
        self.last_used = self._loop.time()
        if message[:1] == b"[":
            for element in elements(message):
                self._take(element)
        else:
            self._take(message)

    def _take(self, message: bytes) -> None:
        incoming = read_incoming(message)
        if incoming is None:
            self.dropped += 1
        elif not incoming.method:
            self._answered(incoming.id, message)
        elif incoming.id:
            self._asked(incoming.method, incoming.id, message)
        else:
            try:
                self._noted(incoming.method, message)
            except ValueError:
                self.dropped += 1

    def _answered(self, raw: bytes, message: bytes) -> None:
        self._answers = True
        pending = self._forget(raw)
        if pending is None:
            own = self._own.get(raw)
            if own is not None:
                if not own.done():
                    own.set_result(message)
                return
            pending = self._only() if raw == b"null" else None
            if pending is None:
                self.dropped += 1
                return
        try:
            answer = with_id(message, raw, pending.client_id)
        except ValueError as error:
            pending.fail(UpstreamError(FailureClass.UPSTREAM_PROTOCOL, f"an unreadable answer: {error}"))
            return
        if pending.on_answer is not None:
            pending.on_answer(message)
        pending.stream.answer(answer)

    def _only(self) -> Pending | None:
        """The only request that is open; an error without id can be about no other."""
        return self._forget(next(iter(self._calls))) if self._alone else None

    @property
    def _alone(self) -> bool:
        """Whether only one call is open. Among strangers that proves nothing: one that was given up may go on."""
        return len(self._calls) == 1 and not self.strangers

    def _asked(self, method: str, raw: bytes, message: bytes) -> None:
        """A question of the server: for the client, if there is only one."""
        if method == "ping" and (self.shared or not self._opened):
            self.channel.write(_PONG % raw, self._unheard)
            return
        stream = self._personal()
        if stream is None or len(self._questions) >= MAX_QUESTIONS:
            text = "No client of this server can be asked"
            self.channel.write(error_message(METHOD_NOT_FOUND, text, {}, raw), self._unheard)
            return
        self._questions[raw] = None
        stream.push(message)

    def _personal(self) -> Stream | None:
        """Where the one client hears what belongs to no request for certain; None if there are several clients."""
        if self.shared:
            return None
        session = next(iter(self.sessions.values()), None)
        if len(self._calls) == 1 or session is None or session.standalone.reply is None:
            pending = next(reversed(self._calls.values()), None)
            if pending is not None and pending.method != "initialize" and pending.stream.talks:
                return pending.stream
        return None if session is None else session.standalone

    def _noted(self, method: str, message: bytes) -> None:
        noted = read_noted(message)
        if method == "notifications/progress":
            pending = self._tokens.get(find(self._tokens, noted.token) or b"")
            if pending is None:
                self.dropped += 1
            elif self.shared:
                pending.stream.push(with_member(message, ("params", "progressToken"), pending.token))
            else:
                pending.stream.push(message)
        elif noted.subscription and (pending := self._calls.get(noted.subscription)) is not None:
            path = ("params", "_meta", SUBSCRIPTION_KEY)
            pending.stream.push(with_member(message, path, pending.client_id))
        elif method == "notifications/cancelled":
            asked = find(self._questions, noted.request)
            if asked is not None and (stream := self._personal()) is not None:
                del self._questions[asked]
                stream.push(message)
        elif self.shared:
            if method == "notifications/message" and self._alone:
                next(iter(self._calls.values())).stream.push(message)
            elif not _told_many(self.sessions.values(), method, noted.uri, message):
                self.dropped += 1
        elif method in _UNRELATED and (session := next(iter(self.sessions.values()), None)) is not None:
            session.standalone.push(message)
        elif (stream := self._personal()) is not None:
            stream.push(message)
        else:
            self.dropped += 1

    # -- the end

    def closed(self, error: UpstreamError) -> None:
        """See `base.Receiver`."""
        if self.error is None:
            if error.failure is FailureClass.PROCESS_EXIT and not self._answers:
                error = UpstreamError(FailureClass.PROCESS_START, error.detail)
            error.final = True
            self.error = error
            self._fail_all(error)
            self._on_closed(self)

    def close(self) -> None:
        """End it: the channel closes, whoever waits gets an error."""
        if self.error is None:
            self.error = UpstreamError(FailureClass.UPSTREAM_RESET, "the gateway ended the server", final=True)
            self._fail_all(self.error)
            self.channel.close()

    def _fail_all(self, error: UpstreamError) -> None:
        calls, self._calls = self._calls, {}
        self._tokens.clear()
        for pending in calls.values():
            pending.fail(error)
        for own in self._own.values():
            if not own.done():
                own.set_exception(error)
        for session in self.sessions.values():
            session.standalone.end()

    # -- streams.Source

    def slowed(self, stream: Stream) -> None:
        """A client reads too slowly: alone it makes its server wait, among others its stream breaks."""
        if not self.shared:
            self._brake.slowed(stream)
        elif stream.unsent > SLOW_BYTES:
            stream.fail(UpstreamError(FailureClass.CLIENT_CLOSED, "the client reads too slowly", final=True))
            self.abandoned(stream)

    def eased(self, stream: Stream) -> None:
        """It has caught up."""
        if self._brake.eased(stream) and self.error is None:
            self.channel.resume()

    def abandoned(self, stream: Stream) -> None:
        """Nobody waits for the answers of a stream: the server is told so."""
        error = UpstreamError(FailureClass.CLIENT_CLOSED, "nobody waits for the answer", final=True)
        for raw in stream.open:
            pending = self._forget(raw)
            if pending is None:
                continue
            pending.fail(error)
            if self.error is None and pending.method != "initialize":
                self.say(
                    b'{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":%b,'
                    b'"reason":"nobody waits for the answer"}}' % raw
                )
        stream.fail(error)


class _Brake:
    """Makes a server wait while a stream of its client is read too slowly."""

    def __init__(self, conversation: Conversation) -> None:
        self._conversation = conversation
        self._slow: set[Stream] = set()

    def slowed(self, stream: Stream) -> None:
        """It is too slow."""
        if stream not in self._slow:
            self._slow.add(stream)
            self._conversation.channel.pause()

    def eased(self, stream: Stream) -> bool:
        """It has caught up; whether the server may go on."""
        if stream not in self._slow:
            return False
        self._slow.discard(stream)
        return not self._slow


def _told_many(sessions: Iterable[Session], method: str, uri: str, message: bytes) -> bool:
    """What concerns everybody goes to everybody, an update to its subscribers. False: it is neither."""
    if method not in _UNRELATED:
        return False
    for session in sessions:
        if method != _UPDATED or uri in session.subscriptions:
            session.standalone.push(message)
    return True


def result_of(answer: bytes) -> bytes:
    """The raw `result` of an answer, b"" if it is an error. Raises nothing."""
    try:
        return member(answer, ("result",))
    except ValueError:
        return b""


def params_of(version: str, client_version: str) -> bytes:
    """The params of an initialize request of the gateway itself: it declares no client capabilities."""
    return msgspec.json.encode(
        {
            "protocolVersion": version,
            "capabilities": {},
            "clientInfo": {"name": "moongate", "version": client_version},
        }
    )
