"""An upstream made of a server that only exchanges messages: a hosted process, or an HTTP+SSE connection.

To the request path it looks like a streamable HTTP server with sessions. Who shares a conversation is explicit
(`Isolation`). A conversation that several clients use is opened by the gateway itself, which declares no client
capabilities; one conversation speaks one protocol revision.
"""

from __future__ import annotations

import asyncio
from functools import partial

from moongate.errors import FailureClass, UpstreamError
from moongate.model.snapshot import Isolation
from moongate.protocol.jsonrpc import Envelope, error_message
from moongate.protocol.splice import elements
from moongate.tasks import Tasks
from moongate.upstreams.base import Opener, Reply, Request
from moongate.upstreams.conversation import (
    KEPT_STREAMS,
    MAX_OPEN,
    METHOD_NOT_FOUND,
    Conversation,
    Pending,
    Session,
    result_of,
)
from moongate.upstreams.keeping import MODERN, BridgeOptions, Keeper
from moongate.upstreams.replies import BridgeReply, FixedReply, Heads, response_head, status_head
from moongate.upstreams.streams import Stream
from moongate.wire.deadlines import Deadlines

REVISIONS = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25")
PRIMING = "2025-11-25"
UNNAMED = "2025-03-26"
_SESSION_NOT_FOUND = -32001
_ALLOW = {b"allow": b"POST"}


class Bridge:
    """See the module. `base.Upstream`."""

    def __init__(self, opener: Opener, options: BridgeOptions, deadlines: Deadlines, tasks: Tasks) -> None:
        self.options = options
        self.heads = Heads()
        self._deadlines = deadlines
        self._kept = Keeper(opener, options, deadlines, tasks)

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._kept.closed

    @property
    def conversations(self) -> int:
        """How many are open."""
        return len(self._kept)

    @property
    def sessions(self) -> int:
        """How many sessions there are."""
        return len(self._kept.sessions)

    def renew(self) -> None:
        """The route's headers may have changed: heads are not remembered any longer."""
        self.heads = Heads()

    # -- base.Upstream

    def send_now(self, request: Request) -> Reply | None:
        """See `base.Upstream`."""
        token = request.session
        if token is not None and not request.modern:
            session = self._kept.sessions.get(token)
            if session is None or session.conversation.error is not None:
                return self._lost(request)
            session.last_used = session.conversation.now()
            if request.method == "POST":
                return self._post(session.conversation, session, request)
            return self._listen(session, request) if request.method == "GET" else self._delete(session)
        if request.method != "POST":
            return FixedReply(response_head(405, _ALLOW))
        if request.message is not None and request.message.method == "initialize" and not request.modern:
            return None
        conversation = self._kept.common.get(self._key(request))
        return None if conversation is None else self._post(conversation, None, request)

    async def send(self, request: Request, path: str | None = None) -> Reply:  # noqa: ARG002 - there are no redirects
        """See `base.Upstream`."""
        reply = self.send_now(request)
        if reply is not None:
            return reply
        if self.closed:
            raise UpstreamError(FailureClass.UPSTREAM_RESET, "the configuration has changed; try again")
        message = request.message
        if message is not None and message.method == "initialize" and not request.modern:
            if self.options.isolation is Isolation.SESSION:
                return await self._initialize(request, message)
            return self._join(await self._kept.shared(self._key(request)), message)
        return self._post(await self._kept.shared(self._key(request)), None, request)

    def close(self) -> None:
        """See `base.Upstream`."""
        self._kept.close()

    # -- requests

    def _key(self, request: Request) -> tuple[str, str]:
        """Which conversation is for clients without sessions, or who share one: the principal, the revision."""
        principal = "" if self.options.isolation is Isolation.SHARED else request.principal
        if request.modern:
            return principal, MODERN
        message = request.message
        opening = message is not None and message.method == "initialize" and message.version
        named = opening or request.revision or UNNAMED
        return principal, named if named in REVISIONS else REVISIONS[-1]

    def _post(self, conversation: Conversation, session: Session | None, request: Request) -> Reply:
        message, body = request.message, request.body or b""
        if message is not None and message.is_request:
            refused = self._refused(conversation, session, message) if conversation.shared else b""
            if refused:
                return FixedReply(status_head(self.heads, refused) if request.modern else self.heads.json, refused)
            stream = self._stream(conversation, session, (message.id or b"null",))
            reply = self._reply(stream, request)
            self._call(conversation, session, (message, body), stream)
            return reply
        if message is not None:
            self._tell(conversation, session, message, body)
            return FixedReply(self.heads.accepted)
        return self._post_batch(conversation, session, request)

    def _stream(self, conversation: Conversation, session: Session | None, ids: tuple[bytes, ...]) -> Stream:
        if session is None:
            return Stream(conversation, 0, ids, resumable=False)
        if len(session.streams) >= MAX_OPEN + KEPT_STREAMS:
            raise UpstreamError(FailureClass.RATE_LIMITED, f"the session has {MAX_OPEN} calls that are not answered")
        return session.stream(ids)

    def _call(
        self, conversation: Conversation, session: Session | None, said: tuple[Envelope, bytes], stream: Stream
    ) -> None:
        pending = conversation.call(*said, stream, session)
        if session is not None and pending.method == "resources/subscribe":
            pending.on_answer = _Subscribed(session, pending)

    def _post_batch(self, conversation: Conversation, session: Session | None, request: Request) -> Reply:
        ids = tuple(element.id or b"null" for element in request.batch if element.is_request)
        parts = list(zip(request.batch, elements((request.body or b"").strip()), strict=True))
        stream = None
        if ids:
            stream = self._stream(conversation, session, ids)
        reply = FixedReply(self.heads.accepted) if stream is None else self._reply(stream, request)
        for message, body in parts:
            if message.is_request and stream is not None:
                refused = self._refused(conversation, session, message) if conversation.shared else b""
                if refused:
                    stream.answer(refused)
                else:
                    self._call(conversation, session, (message, body), stream)
            else:
                self._tell(conversation, session, message, body)
        return reply

    def _tell(self, conversation: Conversation, session: Session | None, message: Envelope, body: bytes) -> None:
        if message.method:
            conversation.notify(message, body, session)
        else:
            conversation.respond(message, body)

    def _reply(self, stream: Stream, request: Request) -> BridgeReply:
        reply = BridgeReply(stream, self.heads, self._deadlines, self.options.timeouts.first_byte, request)
        if stream.resumable and request.revision >= PRIMING:
            reply.prime()
        return reply

    def _refused(self, conversation: Conversation, session: Session | None, message: Envelope) -> bytes:
        """The gateway's own answer to what must not reach a server that others use too; b"": it may."""
        client_id = message.id or b"null"
        if message.method == "initialize":
            if conversation.initialized:
                return self._initialized(conversation, client_id)
            return error_message(METHOD_NOT_FOUND, "There is no handshake in this revision", {}, client_id)
        if message.method.startswith("tasks/") and self.options.isolation is Isolation.SHARED:
            return error_message(METHOD_NOT_FOUND, "Tasks are not served here", {}, client_id)
        if message.method == "resources/unsubscribe":
            if session is not None:
                session.subscriptions.discard(message.target or "")
            if any(message.target in other.subscriptions for other in conversation.sessions.values()):
                return b'{"jsonrpc":"2.0","id":%b,"result":{}}' % client_id
        return b""

    def _listen(self, session: Session, request: Request) -> Reply:
        stream, seen = session.standalone, -1
        number, dash, sequence = (request.last_event_id or b"").partition(b"-")
        if dash and number.isdigit() and sequence.isdigit() and len(number) + len(sequence) < 20:
            found = stream if int(number) == stream.number else session.streams.get(int(number))
            if found is None:  # forgotten: it has an end, so that nobody waits on it
                return FixedReply(self.heads.events)
            stream, seen = found, int(sequence)
        if seen >= 0:
            stream.rewind(seen)
        reply = BridgeReply(stream, self.heads, self._deadlines, self.options.timeouts.silence, request)
        reply.resume()
        return reply

    def _delete(self, session: Session) -> Reply:
        self._kept.drop(session)
        return FixedReply(response_head(200, {}))

    def _lost(self, request: Request) -> Reply:
        message = request.message
        body = error_message(_SESSION_NOT_FOUND, "Session not found", {}, None if message is None else message.id)
        return FixedReply(response_head(404, self.heads.json.fields), body)

    # -- opening

    async def _initialize(self, request: Request, message: Envelope) -> Reply:
        """A client opens a session of its own: it speaks to the server itself."""
        until = asyncio.get_running_loop().time() + self.options.start_seconds
        conversation = await self._kept.open(shared=False)
        session = self._kept.session(conversation)
        stream = session.stream((message.id or b"null",))
        stream.resumable = False
        limit = until - conversation.now()
        reply = BridgeReply(stream, self.heads, self._deadlines, limit, request)
        reply.opens(session.token)

        def late() -> UpstreamError:
            self._kept.end(conversation)
            return self._kept.late()

        def answered(answer: bytes) -> None:
            if not result_of(answer):
                asyncio.get_running_loop().call_soon(self._kept.end, conversation)

        reply.on_late = late
        pending = conversation.call(message, request.body or b"", stream, session)
        pending.on_answer = answered
        pending.on_failed = partial(asyncio.get_running_loop().call_soon, self._kept.end, conversation)
        return reply

    def _join(self, conversation: Conversation, message: Envelope) -> Reply:
        """A client opens a session on a conversation that is there already."""
        session = self._kept.session(conversation)
        head = self.heads.opening(events=False, session=session.token)
        return FixedReply(head, self._initialized(conversation, message.id or b"null"))

    def _initialized(self, conversation: Conversation, client_id: bytes) -> bytes:
        return b'{"jsonrpc":"2.0","id":%b,"result":%b}' % (client_id, conversation.initialized)


class _Subscribed:
    """Notes a subscription of a session once the server has agreed."""

    def __init__(self, session: Session, pending: Pending) -> None:
        self._session = session
        self._uri = pending.uri

    def __call__(self, answer: bytes) -> None:
        if result_of(answer):
            self._session.subscriptions.add(self._uri)
