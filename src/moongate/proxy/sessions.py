"""What must be remembered between requests. Today all of it travels in the session id itself, sealed."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from moongate.errors import FailureClass, Refusal, UpstreamError
from moongate.model.exchange import Exchange
from moongate.protocol.sealed import NotOurs, Sealer, Session

# A client that keeps one session longer than this starts anew (404, then initialize).
SESSION_SECONDS = 7 * 24 * 3600.0
MAX_UPSTREAM_ID = 4096
# Ids that were opened lately; opening one again costs more than everything else that is done with it.
OPENED = 4096


class Sessions(Protocol):
    """Hands out session ids and finds them again; a shared store can stand behind it."""

    def open(self, token: bytes, route_key: str, exchange: Exchange) -> Session:
        """The session of a client's id. Raises Refusal (404) for every id that is not this caller's on this route."""
        ...

    def create(self, upstream: bytes, route_key: str, exchange: Exchange) -> bytes:
        """A new id for the backend's `upstream` id, bound to route, principal, and revision of `exchange`. Raises
        UpstreamError.
        """
        ...


class SealedSessions:
    """Session ids that carry their own state; nothing is kept that could not be opened again."""

    def __init__(self, sealer: Sealer, now: Callable[[], float] = time.time) -> None:
        self._sealer = sealer
        self._now = now
        self._opened: dict[bytes, Session] = {}

    def open(self, token: bytes, route_key: str, exchange: Exchange) -> Session:
        """See `Sessions.open`."""
        session = self._opened.get(token)
        if session is None:
            try:
                session = self._sealer.open(token)
            except NotOurs:
                raise _unknown("it was not made by this gateway, or its key has changed") from None
            if len(self._opened) >= OPENED:
                self._opened.clear()
            self._opened[token] = session
        if session.route != route_key:
            raise _unknown("it belongs to another route")
        if session.principal != exchange.principal.key:
            raise _unknown("it belongs to another principal")
        if session.expires <= self._now():
            raise _unknown("it has expired")
        return session

    def create(self, upstream: bytes, route_key: str, exchange: Exchange) -> bytes:
        """See `Sessions.create`."""
        if len(upstream) > MAX_UPSTREAM_ID:
            detail = f"a session id of more than {MAX_UPSTREAM_ID} bytes"
            raise UpstreamError(FailureClass.UPSTREAM_PROTOCOL, detail)
        return self._sealer.seal(
            Session(
                upstream=upstream,
                route=route_key,
                principal=exchange.principal.key,
                revision=exchange.revision[:32],
                client=exchange.client,
                expires=self._now() + SESSION_SECONDS,
            )
        )


def _unknown(why: str) -> Refusal:
    text = "Session not found: start a new one with initialize"
    return Refusal(FailureClass.NOT_FOUND, f"Mcp-Session-Id is not usable: {why}", text=text)
