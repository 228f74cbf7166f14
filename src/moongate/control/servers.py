"""From `mcpServers` to routes: each entry is an instance at `<gateway prefix>/<name>`."""

from __future__ import annotations

from collections.abc import Iterator

from moongate.control.findings import Findings
from moongate.control.nodes import Loc
from moongate.control.policies import Defaults, judge_browser, keepalive, needs_token, route_policies
from moongate.control.schema.addresses import parse_url
from moongate.control.schema.mcp_servers import ServerEntry
from moongate.control.targets import build_target
from moongate.model.snapshot import Match, PathKind, PathMatch, Route, Transport


def server_routes(
    entries: dict[str, ServerEntry], prefix: str, defaults: Defaults, findings: Findings
) -> Iterator[Route]:
    """One route for each entry that is not disabled."""
    for name, entry in entries.items():
        if not entry.off and entry.url is not None:
            yield _route(name, entry, entry.url, prefix, (defaults, findings))


def _route(name: str, entry: ServerEntry, url: str, prefix: str, with_: tuple[Defaults, Findings]) -> Route:
    defaults, findings = with_
    loc: Loc = ("mcpServers", name)
    protocol = entry.type or entry.transport
    judge_browser(entry, defaults, findings, loc)
    return Route(
        key=name,
        name=name,
        matches=(Match(PathMatch(PathKind.PREFIX, f"{prefix}/{name}")),),
        target=build_target(
            name,
            parse_url(url),
            Transport.AUTO if protocol is None else Transport(protocol),
            entry,
            (findings, loc),
        ),
        policies=route_policies(entry),
        auth=needs_token(entry, defaults, findings, loc),
        body_bytes=defaults.body_bytes,
        keepalive=keepalive(entry, defaults),
        forward_headers=tuple(entry.forward_headers or ()),
        where=str(findings.place(loc)),
    )
