"""The addresses of a snapshot's routes, as the operator gives them to clients."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from moongate.control.compile import DEFAULT_PORT, LOOPBACK, SERVERS_LISTENER
from moongate.model.snapshot import Command, Isolation, Listener, PathKind, Route, Snapshot

# Who listens everywhere is reached at loopback, whatever else reaches it.
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared, not listened on

_PROCESSES = {
    Isolation.SESSION: "a process for each session",
    Isolation.PRINCIPAL: "a process for each caller",
    Isolation.SHARED: "one process for all",
}


@dataclass(frozen=True, slots=True)
class RouteAddress:
    """One route and where clients find it; `url` ends in words for a path that is a regular expression."""

    route: Route
    url: str

    @property
    def processes(self) -> str:
        """How many processes a hosted server has, in words; empty for a server that is reached over the network."""
        target = self.route.target
        return _PROCESSES[target.isolation] if isinstance(target, Command) else ""


def route_addresses(snapshot: Snapshot, ports: Mapping[int, int] | None = None) -> tuple[RouteAddress, ...]:
    """Every route with its first match, in the order in which they were written.

    `ports` are the real ones of ports that were left to the system (0).
    """
    found: dict[tuple[str, str], RouteAddress] = {}
    for bind in snapshot.binds:
        for listener in bind.listeners:
            base = _base(snapshot, listener, bind.hosts[0], (ports or {}).get(bind.port, bind.port))
            for route in listener.routes:
                found.setdefault((route.key, route.where), RouteAddress(route, base + _path(route)))
    return tuple(found.values())


def server_base(snapshot: Snapshot, ports: Mapping[int, int] | None = None) -> str:
    """What stands before the name of an `mcpServers` instance in its address, also of one that is not there yet."""
    for bind in snapshot.binds:
        for listener in bind.listeners:
            if listener.name == SERVERS_LISTENER:
                port = (ports or {}).get(bind.port, bind.port)
                return _base(snapshot, listener, bind.hosts[0], port) + snapshot.prefix
    return (snapshot.public_url or f"http://{LOOPBACK[0]}:{DEFAULT_PORT}") + snapshot.prefix


def _base(snapshot: Snapshot, listener: Listener, first: str, port: int) -> str:
    if listener.name == SERVERS_LISTENER and snapshot.public_url is not None:
        return snapshot.public_url
    host = listener.hostname or _EVERYWHERE.get(first, first)
    scheme, usual = ("http", 80) if listener.tls is None else ("https", 443)
    bracketed = f"[{host}]" if ":" in host else host
    return f"{scheme}://{bracketed}" + ("" if port == usual else f":{port}")


def _path(route: Route) -> str:
    path = route.matches[0].path
    if path.kind is PathKind.REGEX:
        return f"/ (paths that match {path.value})"
    return path.value or "/"
