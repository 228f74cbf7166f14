"""A snapshot made ready for the request path: routers, policies, upstreams, header tables. Built beside the one in
force.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field, replace

from moongate.errors import StartError
from moongate.model.exchange import Exchange
from moongate.model.snapshot import Listener, Route, Snapshot
from moongate.policies.acl import Access
from moongate.policies.authn import Tokens
from moongate.policies.base import HeadPolicy
from moongate.policies.headers import HeaderModifier
from moongate.policies.pipeline import access_rules, head_policies, rate_limit
from moongate.policies.rate import RateLimit
from moongate.policies.trust import Trust
from moongate.proxy.forward import RequestHeaders, ResponseHeaders
from moongate.proxy.match import Hosts, Router
from moongate.proxy.sessions import Sessions
from moongate.upstreams.base import Upstream

# Takes a record, and what is to happen once it is written.
Commit = Callable[[bytes, Callable[[], None]], None]
# Counts a record that is made of an exchange at a moment, in a phase (of streams: open, close).
Count = Callable[[Exchange, float, str], None]
# Makes the upstream of a route; the bytes are the header lines that every request to it carries.
UpstreamFactory = Callable[[Route, bytes], Upstream]


def _not_counted(_exchange: Exchange, _now: float, _phase: str) -> None:
    """Nobody wants to know."""


@dataclass(frozen=True, slots=True)
class RoutePlan:
    """One route, ready. Of its limits `source_limit` needs only the head; `bounded`: a whole request has a limit.

    `access` None: no rules.
    """

    route: Route
    policies: tuple[HeadPolicy, ...]
    upstream: Upstream
    request_headers: RequestHeaders
    response_headers: ResponseHeaders
    source_limit: RateLimit | None = None
    message_limit: RateLimit | None = None
    bounded: bool = False
    access: Access | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything one request needs; `binds` is by configured port, `commit` the journal's. `trust` None: of nobody.

    `routes` are all by key (one may stand under several hostnames). `left_out` says which were spared, and why; neither
    they nor the snapshot have them.
    """

    snapshot: Snapshot
    sessions: Sessions
    commit: Commit
    binds: dict[int, Hosts[Router[RoutePlan]]]
    upstreams: tuple[Upstream, ...]
    trust: Trust | None = None
    routes: dict[str, tuple[RoutePlan, ...]] = field(default_factory=dict)
    count: Count = _not_counted
    left_out: tuple[str, ...] = ()

    def without_bind(self, port: int, spared: str) -> Plan | None:
        """The same without a port that cannot be had, if only routes of `spared` are there; None: it is needed."""
        bind = next(bind for bind in self.snapshot.binds if bind.port == port)
        routes = [route for listener in bind.listeners for route in listener.routes]
        if len(self.snapshot.binds) == 1 or not routes or any(route.where != spared for route in routes):
            return None
        keys = {route.key for route in routes}
        return replace(
            self,
            snapshot=replace(self.snapshot, binds=tuple(kept for kept in self.snapshot.binds if kept is not bind)),
            binds={number: hosts for number, hosts in self.binds.items() if number != port},
            routes={key: plans for key, plans in self.routes.items() if key not in keys},
        )

    def close(self, kept: tuple[Upstream, ...] = ()) -> None:
        """Let its upstreams go, but those in `kept`; requests in flight keep their connections until they are done."""
        keep = set(map(id, kept))
        for upstream in self.upstreams:
            if id(upstream) not in keep:
                upstream.close()


def build_plan(
    snapshot: Snapshot,
    connect: UpstreamFactory,
    sessions: Sessions,
    commit: Commit,
    count: Count = _not_counted,
    spared: str | None = None,
) -> Plan:
    """Compile. Raises StartError (what `connect` raises: certificates, proxies), but not for a route whose `where` is
    `spared`: one unusable entry there must not keep back all that comes from there. It is left out.
    """
    tokens = Tokens(snapshot.tokens)
    upstreams: list[Upstream] = []
    limits: dict[str, RateLimit | None] = {}
    rules: dict[str, Access | None] = {}

    def ready(listener: Listener, route: Route) -> RoutePlan:
        modifiers = [policy for policy in route.policies if isinstance(policy, HeaderModifier)]
        requests = tuple(modifier for modifier in modifiers if modifier.direction == "request")
        responses = tuple(modifier for modifier in modifiers if modifier.direction == "response")
        request_headers = RequestHeaders(route.target, requests, route.forward_headers)
        upstream = connect(route, request_headers.fixed)
        upstreams.append(upstream)
        if route.key not in limits:  # one route may stand under several hostnames
            limits[route.key] = rate_limit(route)
            rules[route.key] = access_rules(route)
        limit = limits[route.key]
        by_source = limit is not None and limit.by_source
        timeouts = route.target.timeouts
        return RoutePlan(
            route,
            head_policies(snapshot, tokens, listener, route, limit, rules[route.key]),
            upstream,
            request_headers,
            ResponseHeaders(route.target, responses, route.secrets),
            source_limit=limit if by_source else None,
            message_limit=None if by_source else limit,
            bounded=timeouts.total is not None or timeouts.request is not None,
            access=rules[route.key],
        )

    binds: dict[int, Hosts[Router[RoutePlan]]] = {}
    routes: dict[str, tuple[RoutePlan, ...]] = {}
    left_out: dict[str, str] = {}
    for bind in snapshot.binds:
        listeners: list[tuple[str | None, Router[RoutePlan]]] = []
        for listener in bind.listeners:
            plans = list(_usable(listener, ready, spared, left_out))
            for plan in plans:
                routes[plan.route.key] = (*routes.get(plan.route.key, ()), plan)
            router = Router([(match, plan) for plan in plans for match in plan.route.matches])
            listeners.append((listener.hostname, router))
        binds[bind.port] = Hosts(listeners)
    trust = Trust(snapshot.trusted_proxies) if snapshot.trusted_proxies else None
    if left_out:
        snapshot = _without(snapshot, left_out.keys())
    said = tuple(left_out.values())
    return Plan(snapshot, sessions, commit, binds, tuple(upstreams), trust, routes, count, said)


def _usable(
    listener: Listener,
    ready: Callable[[Listener, Route], RoutePlan],
    spared: str | None,
    left_out: dict[str, str],
) -> Iterator[RoutePlan]:
    for route in listener.routes:
        try:
            yield ready(listener, route)
        except StartError as error:
            if route.where != spared:
                raise
            left_out[route.key] = f"{route.name!r} cannot be served: {error}"


def _without(snapshot: Snapshot, keys: Collection[str]) -> Snapshot:
    """Nor a port that only these needed."""

    def rest(listener: Listener) -> Listener:
        return replace(listener, routes=tuple(route for route in listener.routes if route.key not in keys))

    before = snapshot.binds
    binds = tuple(replace(bind, listeners=tuple(map(rest, bind.listeners))) for bind in before)
    needed = (
        bind
        for bind, old in zip(binds, before, strict=True)
        if bind == old or any(listener.routes for listener in bind.listeners)
    )
    return replace(snapshot, binds=tuple(needed) or binds)
