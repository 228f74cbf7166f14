"""Opens, keeps and ends the conversations with one server, and the sessions on them.

Nothing is kept without bound: there is a limit for conversations and one for sessions, and both end when nobody has
used them for the idle limit.
"""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass, field
from importlib.metadata import version as installed

from moongate.errors import FailureClass, UpstreamError
from moongate.model.snapshot import Isolation, Timeouts
from moongate.protocol.splice import one_line, without_member
from moongate.tasks import Tasks
from moongate.upstreams.base import Opener
from moongate.upstreams.conversation import Conversation, Session, params_of, result_of
from moongate.wire.deadlines import NEVER, Deadlines

MODERN = "modern"
MAX_SESSIONS = 10_000
SESSION_BYTES = 16
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

    def __init__(self, keeper: Keeper, conversation: Conversation) -> None:
        self.deadline = NEVER
        self._keeper = keeper
        self.conversation = conversation

    def expire(self) -> None:
        """Either it is idle, or it is looked at again later."""
        self._keeper.look(self)


class Keeper:
    """See the module. A conversation that several clients use is found by its key: principal and revision."""

    def __init__(self, opener: Opener, options: BridgeOptions, deadlines: Deadlines, tasks: Tasks) -> None:
        self.options = options
        self.closed = False
        self.sessions: dict[bytes, Session] = {}
        self.common: dict[tuple[str, str], Conversation] = {}
        self._opener = opener
        self._deadlines = deadlines
        self._tasks = tasks
        self._opening: dict[tuple[str, str], asyncio.Task[Conversation | UpstreamError]] = {}
        self._conversations: dict[Conversation, _Idle] = {}
        self._starting = 0

    def __len__(self) -> int:
        """How many conversations are open."""
        return len(self._conversations)

    def close(self) -> None:
        """End everything."""
        self.closed = True
        for opening in self._opening.values():
            opening.cancel()
        for conversation in tuple(self._conversations):
            self.end(conversation)

    def session(self, conversation: Conversation) -> Session:
        """A new session on a conversation."""
        if len(self.sessions) >= MAX_SESSIONS:
            self._make_room_for_session()
        session = Session(secrets.token_hex(SESSION_BYTES).encode(), conversation)
        self.sessions[session.token] = conversation.sessions[session.token] = session
        return session

    async def shared(self, key: tuple[str, str]) -> Conversation:
        """The conversation for `key`, opened by one and waited for by all."""
        while (conversation := self.common.get(key)) is None:
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
                conversation = await self.open(shared=True)
                if key[1] != MODERN:
                    await self._handshake(conversation, key[1])
        except TimeoutError:
            return self.late()
        except UpstreamError as error:
            return error
        else:
            self.common[key] = conversation
            opened, conversation = conversation, None
            return opened
        finally:
            self._opening.pop(key, None)
            if conversation is not None:
                self.end(conversation)

    async def _handshake(self, conversation: Conversation, revision: str) -> None:
        result = result_of(await conversation.ask(b"initialize", params_of(revision, _VERSION)))
        if not result:
            raise UpstreamError(self.options.start_failure, "the server refused to be initialized")
        if self.options.isolation is Isolation.SHARED:  # a task has no owner there that could be told from others
            result = without_member(result, ("capabilities", "tasks"))
        conversation.initialized = one_line(result)
        conversation.say(b'{"jsonrpc":"2.0","method":"notifications/initialized"}')

    async def open(self, *, shared: bool) -> Conversation:
        """A new conversation. Raises UpstreamError."""
        self._make_room()
        strangers = shared and self.options.isolation is Isolation.SHARED
        conversation = Conversation(self.options.name, shared=shared, strangers=strangers, on_closed=self._gone)
        self._starting += 1
        try:
            async with asyncio.timeout(self.options.start_seconds):
                conversation.channel = await self._opener.open(conversation)
        except TimeoutError:
            raise self.late() from None
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

    def late(self) -> UpstreamError:
        """The server did not answer in time."""
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
        self.end(min(idle, key=lambda conversation: conversation.last_used))

    def _make_room_for_session(self) -> None:
        oldest = min(self.sessions.values(), key=lambda session: (session.busy, session.last_used))
        self.drop(oldest)

    def look(self, idle: _Idle) -> None:
        """End what nobody used for the idle limit: sessions, then the conversation."""
        conversation, seconds = idle.conversation, self.options.idle_seconds
        now = conversation.now()
        for session in tuple(conversation.sessions.values()):
            if not session.busy and session.last_used + seconds <= now:
                self.drop(session)
        if conversation.error is not None:
            return
        used = max([conversation.last_used, *(session.last_used for session in conversation.sessions.values())])
        if conversation.busy or used + seconds > now:
            idle.deadline = max(used + seconds, now + min(seconds, 60.0))
        else:
            self.end(conversation)

    def drop(self, session: Session) -> None:
        """The session is over; a conversation that was its own, too."""
        self.sessions.pop(session.token, None)
        conversation = session.conversation
        conversation.sessions.pop(session.token, None)
        session.end()
        if not conversation.shared:
            self.end(conversation)

    def end(self, conversation: Conversation) -> None:
        """It is over, and with it its sessions."""
        conversation.close()
        self._gone(conversation)

    def _gone(self, conversation: Conversation) -> None:
        """The conversation has ended: its sessions are not found again."""
        idle = self._conversations.pop(conversation, None)
        if idle is not None:
            self._deadlines.forget(idle)
        for token in conversation.sessions:
            self.sessions.pop(token, None)
        for key, common in tuple(self.common.items()):
            if common is conversation:
                del self.common[key]
