"""An upstream made of a server that only exchanges messages: a hosted process, or an HTTP+SSE connection.

To the request path it looks like a streamable HTTP server with sessions. Who shares a conversation is explicit
(`Isolation`). A conversation that several clients use is opened by the gateway itself, which declares no client
capabilities; one conversation speaks one protocol revision.
"""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass, field
from importlib.metadata import version as installed

from moongate.errors import FailureClass, UpstreamError
from moongate.model.snapshot import Isolation, Timeouts
from moongate.protocol.jsonrpc import Envelope, error_message
from moongate.protocol.splice import elements, one_line, without_member
from moongate.tasks import Tasks
from moongate.upstreams.base import Opener, Reply, Request
from moongate.upstreams.conversation import (
    METHOD_NOT_FOUND,
    Conversation,
    Pending,
    Session,
    params_of,
    result_of,
)
from moongate.upstreams.streams import BridgeReply, FixedReply, Heads, Stream, response_head
from moongate.wire.deadlines import NEVER, Deadlines

REVISIONS = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25")
PRIMING = "2025-11-25"
UNNAMED = "2025-03-26"
MODERN = "modern"
MAX_SESSIONS = 10_000
SESSION_BYTES = 16
_SESSION_NOT_FOUND = -32001
_ALLOW = {b"allow": b"POST"}
_VERSION = installed("moongate")


@dataclass(frozen=True, slots=True)
class BridgeOptions:
    """`start_failure` is the class of a server that does not answer initialize within `start_seconds`."""

    name: str
    isolation: Isolation = Isolation.SESSION
    timeouts: Timeouts = field(default_factory=Timeouts)
    start_seconds: float = 60.0
    start_failure: FailureClass = FailureClass.PROCESS_START
    idle_seconds: float = 1800.0
    max_conversations: int = 32


class _Idle:
    """Looks, once an idle limit has passed, whether a conversation is still used."""

    def __init__(self, bridge: Bridge, conversation: Conversation) -> None:
        self.deadline = NEVER
        self._bridge = bridge
        self.conversation = conversation

    def expire(self) -> None:
        """Either it is idle, or it is looked at again later."""
        self._bridge.look(self)


class Bridge:
    """See the module. `base.Upstream`."""

    def __init__(self, opener: Opener, options: BridgeOptions, deadlines: Deadlines, tasks: Tasks) -> None:
        self.options = options
        self.heads = Heads()
        self.closed = False
        self._opener = opener
        self._deadlines = deadlines
        self._tasks = tasks
        self._sessions: dict[bytes, Session] = {}
        self._common: dict[tuple[str, str], Conversation] = {}
        self._opening: dict[tuple[str, str], asyncio.Task[Conversation | UpstreamError]] = {}
        self._conversations: dict[Conversation, _Idle] = {}
        self._starting = 0

    @property
    def conversations(self) -> int:
        """How many are open."""
        return len(self._conversations)

    @property
    def sessions(self) -> int:
        """How many sessions there are."""
        return len(self._sessions)

    def renew(self) -> None:
        """The route's headers may have changed: heads are not remembered any longer."""
        self.heads = Heads()

    # -- base.Upstream

    def send_now(self, request: Request) -> Reply | None:
        """See `base.Upstream`."""
        token = request.session
        if token is not None and not request.modern:
            session = self._sessions.get(token)
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
        conversation = self._common.get(self._key(request))
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
            return self._join(await self._shared(self._key(request)), message)
        return self._post(await self._shared(self._key(request)), None, request)

    def close(self) -> None:
        """See `base.Upstream`."""
        self.closed = True
        for opening in self._opening.values():
            opening.cancel()
        for conversation in tuple(self._conversations):
            self._end(conversation)

    # -- requests

    def _key(self, request: Request) -> tuple[str, str]:
        """Which conversation is for clients without sessions, or who share one: the principal, the revision."""
        principal = "" if self.options.isolation is Isolation.SHARED else request.principal
        if request.modern:
            return principal, MODERN
        named = request.revision or UNNAMED
        return principal, named if named in REVISIONS else REVISIONS[-1]

    def _post(self, conversation: Conversation, session: Session | None, request: Request) -> Reply:
        message, body = request.message, request.body or b""
        if message is not None and message.is_request:
            refused = self._refused(conversation, session, message) if conversation.shared else b""
            if refused:
                return FixedReply(self.heads.json, refused)
            stream = Stream(conversation, 0, 1, resumable=False) if session is None else session.stream(1)
            reply = self._reply(stream, request)
            pending = conversation.call(message, body, stream, session)
            if session is not None and message.method == "resources/subscribe":
                pending.on_answer = _Subscribed(session, pending)
            return reply
        if message is not None:
            self._tell(conversation, session, message, body)
            return FixedReply(self.heads.accepted)
        return self._post_batch(conversation, session, request)

    def _post_batch(self, conversation: Conversation, session: Session | None, request: Request) -> Reply:
        due = sum(element.is_request for element in request.batch)
        parts = list(zip(request.batch, elements((request.body or b"").strip()), strict=True))
        stream = None
        if due:
            stream = Stream(conversation, 0, due, resumable=False) if session is None else session.stream(due)
        reply = FixedReply(self.heads.accepted) if stream is None else self._reply(stream, request)
        for message, body in parts:
            if message.is_request and stream is not None:
                refused = self._refused(conversation, session, message) if conversation.shared else b""
                if refused:
                    stream.answer(refused)
                else:
                    conversation.call(message, body, stream, session)
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
            return self._initialized(conversation, client_id)
        if message.method.startswith("tasks/") and session is not None:
            return error_message(METHOD_NOT_FOUND, "Tasks are not served here", {}, client_id)
        if session is not None and message.method == "resources/unsubscribe":
            session.subscriptions.discard(message.target or "")
            if any(message.target in other.subscriptions for other in conversation.sessions.values()):
                return b'{"jsonrpc":"2.0","id":%b,"result":{}}' % client_id
        return b""

    def _listen(self, session: Session, request: Request) -> Reply:
        stream, seen = session.standalone, -1
        number, dash, sequence = (request.last_event_id or b"").partition(b"-")
        if dash and number.isdigit() and sequence.isdigit() and len(number) + len(sequence) < 20:
            stream = session.streams.get(int(number), stream)
            seen = int(sequence) if stream.number == int(number) else -1
        if seen >= 0:
            stream.rewind(seen)
        reply = BridgeReply(stream, self.heads, self._deadlines, self.options.timeouts.silence, request)
        reply.resume()
        return reply

    def _delete(self, session: Session) -> Reply:
        self._drop(session)
        return FixedReply(response_head(200, {}))

    def _lost(self, request: Request) -> Reply:
        message = request.message
        body = error_message(_SESSION_NOT_FOUND, "Session not found", {}, None if message is None else message.id)
        return FixedReply(response_head(404, self.heads.json.fields), body)

    # -- opening

    async def _initialize(self, request: Request, message: Envelope) -> Reply:
        """A client opens a session of its own: it speaks to the server itself."""
        until = asyncio.get_running_loop().time() + self.options.start_seconds
        conversation = await self._open(shared=False)
        session = self._session(conversation)
        stream = session.stream(1)
        stream.resumable = False
        limit = until - conversation.now()
        reply = BridgeReply(stream, self.heads, self._deadlines, limit, request)
        reply.opens(session.token)

        def late() -> UpstreamError:
            self._end(conversation)
            return self._late()

        def answered(answer: bytes) -> None:
            if not result_of(answer):
                asyncio.get_running_loop().call_soon(self._end, conversation)

        reply.on_late = late
        conversation.call(message, request.body or b"", stream, session).on_answer = answered
        return reply

    def _join(self, conversation: Conversation, message: Envelope) -> Reply:
        """A client opens a session on a conversation that is there already."""
        session = self._session(conversation)
        head = self.heads.opening(events=False, session=session.token)
        return FixedReply(head, self._initialized(conversation, message.id or b"null"))

    def _initialized(self, conversation: Conversation, client_id: bytes) -> bytes:
        return b'{"jsonrpc":"2.0","id":%b,"result":%b}' % (client_id, conversation.initialized)

    def _session(self, conversation: Conversation) -> Session:
        if len(self._sessions) >= MAX_SESSIONS:
            self._make_room_for_session()
        session = Session(secrets.token_hex(SESSION_BYTES).encode(), conversation)
        self._sessions[session.token] = conversation.sessions[session.token] = session
        return session

    async def _shared(self, key: tuple[str, str]) -> Conversation:
        """The conversation for `key`, opened by one and waited for by all."""
        while (conversation := self._common.get(key)) is None:
            opening = self._opening.get(key)
            if opening is None:
                opening = self._tasks.spawn(self._open_shared(key), f"open {self.options.name}")
                self._opening[key] = opening
            try:
                opened = await asyncio.shield(opening)
            except asyncio.CancelledError:
                if opening.cancelled():
                    raise UpstreamError(FailureClass.UPSTREAM_RESET, "the gateway ended the server") from None
                raise
            if isinstance(opened, UpstreamError):
                raise opened
            return opened
        return conversation

    async def _open_shared(self, key: tuple[str, str]) -> Conversation | UpstreamError:
        """A failure is returned: it is for those who wait, not for the log of background work."""
        conversation: Conversation | None = None
        try:
            async with asyncio.timeout(self.options.start_seconds):
                conversation = await self._open(shared=True)
                if key[1] != MODERN:
                    await self._handshake(conversation, key[1])
        except TimeoutError:
            return self._late()
        except UpstreamError as error:
            return error
        else:
            self._common[key] = conversation
            opened, conversation = conversation, None
            return opened
        finally:
            self._opening.pop(key, None)
            if conversation is not None:
                self._end(conversation)

    async def _handshake(self, conversation: Conversation, revision: str) -> None:
        result = result_of(await conversation.ask(b"initialize", params_of(revision, _VERSION)))
        if not result:
            raise UpstreamError(self.options.start_failure, "the server refused to be initialized")
        # Tasks have no owner that a server on a pipe could tell apart.
        conversation.initialized = one_line(without_member(result, ("capabilities", "tasks")))
        conversation.say(b'{"jsonrpc":"2.0","method":"notifications/initialized"}')

    async def _open(self, *, shared: bool) -> Conversation:
        self._make_room()
        conversation = Conversation(self.options.name, shared=shared, on_closed=self._gone)
        self._starting += 1
        try:
            async with asyncio.timeout(self.options.start_seconds):
                conversation.channel = await self._opener.open(conversation)
        except TimeoutError:
            raise self._late() from None
        finally:
            self._starting -= 1
        if self.closed:
            conversation.close()
        if conversation.error is not None:
            raise conversation.error
        idle = self._conversations[conversation] = _Idle(self, conversation)
        idle.deadline = conversation.now() + self.options.idle_seconds
        self._deadlines.watch(idle)
        return conversation

    def _late(self) -> UpstreamError:
        detail = f"the server did not answer initialize within {self.options.start_seconds:g} s"
        return UpstreamError(self.options.start_failure, detail, final=True)

    # -- ending

    def _make_room(self) -> None:
        """Another conversation must be allowed: the one that was idle longest makes room. Raises UpstreamError."""
        limit = self.options.max_conversations
        if len(self._conversations) + self._starting < limit:
            return
        idle = [conversation for conversation in self._conversations if not conversation.busy]
        if not idle:
            detail = f"all {limit} processes are in use; maxProcesses allows no more"
            raise UpstreamError(self.options.start_failure, detail)
        self._end(min(idle, key=lambda conversation: conversation.last_used))

    def _make_room_for_session(self) -> None:
        oldest = min(self._sessions.values(), key=lambda session: (session.busy, session.last_used))
        self._drop(oldest)

    def look(self, idle: _Idle) -> None:
        """End what nobody used for the idle limit: sessions, then the conversation."""
        conversation, seconds = idle.conversation, self.options.idle_seconds
        now = conversation.now()
        for session in tuple(conversation.sessions.values()):
            if not session.busy and session.last_used + seconds <= now:
                self._drop(session)
        if conversation.error is not None:
            return
        used = max([conversation.last_used, *(session.last_used for session in conversation.sessions.values())])
        if conversation.busy or used + seconds > now:
            idle.deadline = max(used + seconds, now + min(seconds, 60.0))
        else:
            self._end(conversation)

    def _drop(self, session: Session) -> None:
        """The session is over; a conversation that was its own, too."""
        self._sessions.pop(session.token, None)
        conversation = session.conversation
        conversation.sessions.pop(session.token, None)
        session.end()
        if not conversation.shared:
            self._end(conversation)

    def _end(self, conversation: Conversation) -> None:
        conversation.close()
        self._gone(conversation)

    def _gone(self, conversation: Conversation) -> None:
        """The conversation has ended: its sessions are not found again."""
        idle = self._conversations.pop(conversation, None)
        if idle is not None:
            self._deadlines.forget(idle)
        for token in conversation.sessions:
            self._sessions.pop(token, None)
        for key, common in tuple(self._common.items()):
            if common is conversation:
                del self._common[key]


class _Subscribed:
    """Notes a subscription of a session once the server has agreed."""

    def __init__(self, session: Session, pending: Pending) -> None:
        self._session = session
        self._uri = pending.uri

    def __call__(self, answer: bytes) -> None:
        if result_of(answer):
            self._session.subscriptions.add(self._uri)
