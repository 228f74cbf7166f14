"""What a messenger remembers: its session, each message on its way, how far a stream was read."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from moongate.model.snapshot import MIB, Target, Timeouts
from moongate.protocol.jsonrpc import Envelope
from moongate.proxy.inbound import Event, Message, id_key
from moongate.proxy.turns import Turn
from moongate.upstreams.base import Reply

MAX_RETRY_SECONDS = 30.0
# Resuming: the wait where the server does not say, and at least, doubled with every try that brought nothing.
RETRY_SECONDS = 1.0
_LEAST_SECONDS = 0.05
_REMEMBERED_IDS = 256


def _hides_nothing(_: bytes) -> bool:
    return False


@dataclass(frozen=True, slots=True)
class Origin:
    """Whose messages these are, and what holds for all of them.

    `principal` is the caller's `Principal.key`; `lines` are header lines that go with every request, complete with line
    ends, without accept, content-type and mcp-*. `target`: redirects on the same origin are followed (None: none are).
    `message_bytes` bounds one message of the server. `hides` says whether an error body must not reach the client.
    """

    principal: str
    lines: bytes = b""
    timeouts: Timeouts = field(default_factory=Timeouts)
    target: Target | None = None
    message_bytes: int = 64 * MIB
    hides: Callable[[bytes], bool] = _hides_nothing


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One request to the upstream; see `base.Request`."""

    method: str
    lines: bytes
    principal: str
    body: bytes | None = None
    message: Envelope | None = None
    batch: tuple[Envelope, ...] = ()
    session: bytes | None = None
    revision: str = ""
    modern: bool = False
    last_event_id: bytes | None = None
    events: bool = True


@dataclass(eq=False, slots=True)
class Session:
    """What `initialize` brought: the server's session id and the negotiated revision."""

    id: bytes | None = None
    revision: str = ""


@dataclass(eq=False, slots=True)
class Flight:
    """One message of the client on its way, until all its answers are there.

    `due`: raw ids of requests that are not answered yet. `opens`: the session that an initialize opens. `silent`: its
    answer is not for the client (a lost session is opened again). `started`: something of it may have left. `unwanted`:
    the client has cancelled it, and is not told if no answer comes.
    """

    body: bytes = b""
    message: Envelope | None = None
    batch: tuple[Envelope, ...] = ()
    due: list[bytes] = field(default_factory=list)
    modern: bool = False
    opens: Session | None = None
    silent: bool = False
    started: bool = False
    failed: bool = False
    cancelled: bool = False
    unwanted: bool = False
    turn: Turn | None = None
    reply: Reply | None = None

    @property
    def method(self) -> str:
        """The method of a single message, empty for responses and arrays."""
        return "" if self.message is None else self.message.method

    @property
    def is_response(self) -> bool:
        """Whether the client answers the server."""
        return self.message is not None and not self.message.method

    def awaits(self, answer: Message) -> bool:
        """Whether this is one of the answers that are due."""
        return self._due(answer) is not None

    def took(self, answer: Message) -> bool:
        """The same; it is not due any more then."""
        raw = self._due(answer)
        if raw is None:
            return False
        self.due.remove(raw)
        return True

    def _due(self, answer: Message) -> bytes | None:
        spelt = bytes(answer.parsed.id)
        key = id_key(spelt)
        for raw in self.due:
            if raw == spelt or (key is not None and key == id_key(raw)):
                return raw
        return None

    def cancel(self) -> None:
        """Stop: nobody waits for the answer."""
        self.cancelled = True
        if self.reply is not None:
            self.reply.cancel()


class Track:
    """How far a stream was read: what resuming it needs (2025-11-25: transports, resumability).

    `moved`: when something new came last (monotonic seconds). `failures`: tries since then that brought nothing.
    """

    def __init__(self) -> None:
        self.last_id: bytes | None = None
        self.retry: float | None = None
        self.moved = time.monotonic()
        self.failures = 0
        self._known: deque[bytes] = deque(maxlen=_REMEMBERED_IDS)

    def is_new(self, event: Event) -> bool:
        """Note an event; False if it was there before the stream was resumed."""
        if event.retry is not None:
            self.retry = min(event.retry, MAX_RETRY_SECONDS)
        if event.id is not None:
            if event.id in self._known:
                return False
            self._known.append(event.id)
            self.last_id = event.id
        self.moved = time.monotonic()
        self.failures = 0
        return True

    def pause(self, otherwise: float = RETRY_SECONDS) -> float:
        """Seconds until the next try: what the server said, longer with every try that brought nothing."""
        wanted = otherwise if self.retry is None else max(self.retry, _LEAST_SECONDS)
        return min(wanted * 2.0 ** min(max(self.failures - 1, 0), 10), MAX_RETRY_SECONDS)
