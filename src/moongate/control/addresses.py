"""The addresses of a snapshot's routes, as the operator gives them to clients."""

from __future__ import annotations

from dataclasses import dataclass

from moongate.control.compile import SERVERS_LISTENER
from moongate.model.snapshot import Bind, Listener, PathKind, Route, Snapshot

# Who listens everywhere is reached at loopback, whatever else reaches it.
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared, not listened on


@dataclass(frozen=True, slots=True)
class RouteAddress:
    """One route and where clients find it; `url` ends in words for a path that is a regular expression."""

    route: Route
    url: str


def route_addresses(snapshot: Snapshot) -> tuple[RouteAddress, ...]:
    """Every route with its first match, in the order in which they were written."""
    found: dict[tuple[str, str], RouteAddress] = {}
    for bind in snapshot.binds:
        for listener in bind.listeners:
            base = _base(snapshot, bind, listener)
            for route in listener.routes:
                found.setdefault((route.key, route.where), RouteAddress(route, base + _path(route)))
    return tuple(found.values())


def _base(snapshot: Snapshot, bind: Bind, listener: Listener) -> str:
    if listener.name == SERVERS_LISTENER and snapshot.public_url is not None:
        return snapshot.public_url
    host = listener.hostname or _EVERYWHERE.get(bind.hosts[0], bind.hosts[0])
    scheme, usual = ("http", 80) if listener.tls is None else ("https", 443)
    bracketed = f"[{host}]" if ":" in host else host
    return f"{scheme}://{bracketed}" + ("" if bind.port == usual else f":{bind.port}")


def _path(route: Route) -> str:
    path = route.matches[0].path
    if path.kind is PathKind.REGEX:
        return f"/ (paths that match {path.value})"
    return path.value or "/"
