"""From `mcpServers` to routes: each entry is an instance at `<gateway prefix>/<name>`."""

from __future__ import annotations

from collections.abc import Iterator

from moongate.control.findings import Findings
from moongate.control.hosted import build_command, inserted_secrets, refuse_http_keys
from moongate.control.nodes import Loc
from moongate.control.policies import Defaults, keepalive, needs_token, route_policies
from moongate.control.route_policies import bounds, flow_policies, reached
from moongate.control.schema.addresses import parse_url
from moongate.control.schema.mcp_servers import ServerEntry
from moongate.control.targets import build_target, build_timeouts
from moongate.model.snapshot import Command, Match, PathKind, PathMatch, Route, Target, Transport


def server_routes(
    entries: dict[str, ServerEntry], prefix: str, defaults: Defaults, findings: Findings
) -> Iterator[Route]:
    """One route for each entry that is not disabled."""
    for name, entry in entries.items():
        if not entry.off:
            yield _route(name, entry, prefix, defaults, findings)


def _route(name: str, entry: ServerEntry, prefix: str, defaults: Defaults, findings: Findings) -> Route:
    loc: Loc = ("mcpServers", name)
    matches = (Match(PathMatch(PathKind.PREFIX, f"{prefix}/{name}")),)
    target = _target(name, entry, defaults, (findings, loc))
    return Route(
        key=name,
        name=name,
        matches=matches,
        target=reached(target, entry, bounds(entry, entry), (findings, loc)),
        policies=(*route_policies(entry, defaults, findings, loc), *flow_policies(entry, matches, findings, loc)),
        auth=needs_token(entry, defaults, findings, loc),
        body_bytes=defaults.body_bytes,
        keepalive=keepalive(entry, defaults),
        forward_headers=tuple(entry.forward_headers or ()),
        secrets=frozenset() if entry.command is None else inserted_secrets(findings, loc),
        where=str(findings.place(loc)),
        inserted=frozenset(findings.inserted(loc)),
    )


def _target(name: str, entry: ServerEntry, defaults: Defaults, at: tuple[Findings, Loc]) -> Target | Command:
    findings, loc = at
    if entry.command is None:
        protocol = entry.type or entry.transport
        transport = Transport.AUTO if protocol is None else Transport(protocol)
        return build_target(name, parse_url(entry.url or ""), transport, entry, at)
    if entry.env_file:
        text = "is not read; write the variables under env, with ${NAME} for what the gateway's own environment holds"
        findings.complain((*loc, "envFile"), text)
    refuse_http_keys(entry, entry, (findings, loc, loc))
    timeouts = build_timeouts(entry, at)
    return build_command(name, entry.command, entry, timeouts, defaults.body_bytes, (findings, (*loc, "command")))
