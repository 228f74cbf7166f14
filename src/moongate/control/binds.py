"""From `binds` to binds of the snapshot."""

from __future__ import annotations

from collections.abc import Iterator

from moongate.control.findings import Findings
from moongate.control.hosted import build_command, inserted_secrets, refuse_http_keys
from moongate.control.nodes import Loc
from moongate.control.policies import Defaults, keepalive, needs_token, route_policies
from moongate.control.route_policies import bounds, flow_policies, reached
from moongate.control.schema.backend import RoutePolicies, ServedTls
from moongate.control.schema.binds import (
    BindEntry,
    HostEntry,
    ListenerEntry,
    MatchEntry,
    RouteEntry,
    TargetEntry,
    ValueChoice,
)
from moongate.control.targets import build_target, build_timeouts, host_address
from moongate.model.snapshot import (
    Bind,
    Command,
    Listener,
    Match,
    PathKind,
    PathMatch,
    Route,
    ServerTls,
    Target,
    Transport,
    ValueMatch,
)

# A route, the names of `Host` that it is for (None: those of its listener), and where it was written.
_Placed = tuple[Route, list[str] | None, Loc]


def compile_binds(
    entries: list[BindEntry], hosts: tuple[str, ...], defaults: Defaults, findings: Findings
) -> Iterator[Bind]:
    """One bind for each port."""
    ports: dict[int, Loc] = {}
    for index, entry in enumerate(entries):
        loc: Loc = ("binds", index)
        if entry.port and entry.port in ports:
            findings.complain(
                (*loc, "port"),
                f"{entry.port} was already given at {findings.place(ports[entry.port])}; merge the listeners",
            )
        ports.setdefault(entry.port, (*loc, "port"))
        yield Bind(hosts, entry.port, tuple(_listeners(entry, loc, defaults, findings)))


def _listeners(bind: BindEntry, loc: Loc, defaults: Defaults, findings: Findings) -> Iterator[Listener]:
    names: dict[str, Loc] = {}
    hostnames: dict[str | None, Loc] = {}
    secure: bool | None = None
    for index, entry in enumerate(bind.listeners or ()):
        here: Loc = (*loc, "listeners", index)
        name = entry.name or entry.hostname or "default"
        if name in names:
            findings.complain(
                (*here, "name"), f"this listener is called like the one at {findings.place(names[name])}; rename it"
            )
        names.setdefault(name, here)
        secure = (entry.tls is not None) if secure is None else secure
        if secure != (entry.tls is not None):
            findings.complain(
                (*here, "tls"), "on one port all listeners have tls, or none has; use another port for one kind"
            )
        for listener in _split(entry, name, here, _routes(entry, here, defaults, findings), findings):
            if listener.hostname in hostnames:
                shown = "without hostname" if listener.hostname is None else "for this hostname"
                earlier = findings.place(hostnames[listener.hostname])
                findings.complain(
                    (*here, "hostname"), f"the port already has a listener {shown} at {earlier}; merge their routes"
                )
            hostnames.setdefault(listener.hostname, here)
            yield listener


def _split(entry: ListenerEntry, name: str, loc: Loc, placed: list[_Placed], findings: Findings) -> list[Listener]:
    """Routes with hostnames of their own become listeners; each has every route that may answer under its name."""
    own = entry.hostname
    wanted: dict[str | None, None] = {own: None}
    for _, hostnames, here in placed:
        for index, own_name in enumerate(hostnames or ()):
            if own is None or covers(own, own_name):
                wanted[own_name] = None
            else:
                findings.complain(
                    (*here, "hostnames", index),
                    "is not under the listener's hostname; move the route or change the name",
                )
    tls = _server_tls(entry.tls, (*loc, "tls"), findings)
    listeners = []
    for hostname in wanted:
        fitting = [
            (route, here)
            for route, hostnames, here in placed
            if hostnames is None or (hostname is not None and any(covers(pattern, hostname) for pattern in hostnames))
        ]
        _refuse_same_match(fitting, findings)
        listeners.append(Listener(name, tuple(route for route, _ in fitting), hostname, tls))
    return listeners


def covers(pattern: str, hostname: str) -> bool:
    """Whether every name that `hostname` stands for is one that `pattern` stands for."""
    return pattern == hostname or (pattern.startswith("*.") and hostname.removeprefix("*").endswith(pattern[1:]))


def _refuse_same_match(routes: list[tuple[Route, Loc]], findings: Findings) -> None:
    seen: dict[Match, Loc] = {}
    for route, loc in routes:
        for match in route.matches:
            if seen.setdefault(match, loc) != loc:
                text = (
                    f"takes the same requests as the route at {findings.place(seen[match])}; change one of the matches"
                )
                findings.complain(loc, text)


def _server_tls(written: ServedTls | None, loc: Loc, findings: Findings) -> ServerTls | None:
    if written is None:
        return None
    return ServerTls(findings.file_path((*loc, "cert"), written.cert), findings.file_path((*loc, "key"), written.key))


def _routes(listener: ListenerEntry, loc: Loc, defaults: Defaults, findings: Findings) -> list[_Placed]:
    names: dict[str, Loc] = {}
    placed: list[_Placed] = []
    for index, entry in enumerate(listener.routes or ()):
        here = (*loc, "routes", index)
        route = _route(entry, here, defaults, findings)
        if route.name in names:
            findings.complain(
                (*here, "name"), f"this route is called like the one at {findings.place(names[route.name])}; rename it"
            )
        names.setdefault(route.name, here)
        placed.append((route, entry.hostnames, here))
    return placed


def _route(entry: RouteEntry, loc: Loc, defaults: Defaults, findings: Findings) -> Route:
    policies = entry.policies or RoutePolicies()
    here: Loc = (*loc, "policies")
    written = _written_target(entry)
    target_loc = (*loc, "backends", 0, "mcp", "targets", 0)
    if written.stdio is not None:
        refuse_http_keys(written, policies, (findings, target_loc, here))
    name = entry.name or written.name
    matches = tuple(_match(match) for match in entry.matches or ()) or (Match(),)
    target = _target(written, defaults, (findings, target_loc))
    return Route(
        key=name,
        name=name,
        matches=matches,
        target=reached(target, policies, bounds(policies.timeout, written), (findings, here)),
        policies=(
            *route_policies(policies, defaults, findings, here),
            *flow_policies(policies, matches, findings, here),
        ),
        auth=needs_token(policies, defaults, findings, here),
        body_bytes=defaults.body_bytes,
        keepalive=keepalive(policies, defaults),
        forward_headers=tuple(policies.forward_headers or ()),
        secrets=frozenset() if written.stdio is None else inserted_secrets(findings, (*target_loc, "stdio")),
        where=str(findings.place(loc)),
        inserted=frozenset(findings.inserted(loc)),
    )


def _written_target(entry: RouteEntry) -> TargetEntry:
    """What the one backend says; for a route without one, which is answered before it, a name that leads nowhere."""
    if entry.backends is None:
        return TargetEntry(name=entry.name or "", mcp=HostEntry(host="http://nowhere.invalid/"))
    return entry.backends[0].mcp.targets[0]


def _target(written: TargetEntry, defaults: Defaults, at: tuple[Findings, Loc]) -> Target | Command:
    findings, loc = at
    if written.stdio is not None:
        timeouts = build_timeouts(written, at)
        program = (*loc, "stdio", "cmd")
        return build_command(
            written.name, written.stdio.cmd, written.stdio, timeouts, defaults.body_bytes, (findings, program)
        )
    where = written.mcp or written.sse
    if where is None:  # the schema lets exactly one of the three through
        message = "a target without an address passed the schema"
        raise AssertionError(message)
    transport = Transport.STREAMABLE_HTTP if written.mcp else Transport.SSE
    return build_target(written.name, host_address(where, tls=written.tls is not None), transport, written, at)


def _match(entry: MatchEntry) -> Match:
    path = PathMatch()
    if entry.path is not None and entry.path.exact is not None:
        path = PathMatch(PathKind.EXACT, entry.path.exact)
    elif entry.path is not None and entry.path.regex is not None:
        path = PathMatch(PathKind.REGEX, entry.path.regex)
    elif entry.path is not None and entry.path.path_prefix is not None:
        path = PathMatch(PathKind.PREFIX, entry.path.path_prefix.rstrip("/"))
    return Match(
        path,
        headers=tuple(_value(condition.name, condition.value) for condition in entry.headers or ()),
        query=tuple(_value(condition.name, condition.value) for condition in entry.query or ()),
        method=entry.method,
    )


def _value(name: str, choice: ValueChoice) -> ValueMatch:
    if choice.regex is not None:
        return ValueMatch(name, choice.regex, regex=True)
    return ValueMatch(name, choice.exact or "")
