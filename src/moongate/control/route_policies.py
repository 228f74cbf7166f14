"""From the policies that redirect, answer, rewrite and bound to what the data plane runs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from moongate.control.findings import Findings
from moongate.control.nodes import Loc, dotted
from moongate.control.schema.addresses import parse_host
from moongate.control.schema.backend import Policies, Reach
from moongate.control.schema.durations import parse_duration
from moongate.control.schema.route_policies import RequestRedirect, RouteTimeout, UrlRewrite, parse_authority
from moongate.model.snapshot import Command, Match, PathKind, PolicyConfig, Target, Timeouts
from moongate.policies.answers import DirectResponseConfig, RedirectConfig
from moongate.policies.rate import BucketConfig, RateLimitConfig

_KEEPS_METHOD = (307, 308)


def flow_policies(
    policies: Policies, matches: tuple[Match, ...], findings: Findings, loc: Loc
) -> Iterator[PolicyConfig]:
    """Rate limits and answers of the gateway's own; `loc` is where the policies stand."""
    if policies.local_rate_limit:
        yield RateLimitConfig(
            tuple(
                BucketConfig(
                    size=entry.max_tokens,
                    fill=entry.tokens_per_fill,
                    interval=parse_duration(entry.fill_interval),
                    setting=dotted((*loc, "localRateLimit", index)),
                )
                for index, entry in enumerate(policies.local_rate_limit)
            )
        )
    if policies.request_redirect is not None and policies.direct_response is not None:
        text = "requestRedirect and directResponse both answer every request; keep one of them"
        findings.complain((*loc, "directResponse"), text)
    if policies.request_redirect is not None:
        yield _redirect(policies.request_redirect, matches, findings, (*loc, "requestRedirect"))
    if policies.direct_response is not None:
        yield DirectResponseConfig(
            policies.direct_response.status, policies.direct_response.body, dotted((*loc, "directResponse"))
        )


@dataclass(frozen=True, slots=True)
class Bounds:
    """Limits of whole requests, in seconds. `waits`: a limit for the first byte was written, and counts on."""

    request: float | None
    backend: float | None
    waits: bool

    def on(self, timeouts: Timeouts) -> Timeouts:
        """The limits with these. Where no first byte was spoken of, the whole request's limit is all there is."""
        given = [seconds for seconds in (self.request, self.backend) if seconds is not None]
        if not given:
            return timeouts
        tightest = min(given)
        return replace(
            timeouts,
            connect=min(timeouts.connect, tightest),
            first_byte=min(timeouts.first_byte, tightest) if self.waits else tightest,
            total=self.backend,
            request=self.request,
        )


def bounds(written: RouteTimeout | None, reach: Reach) -> Bounds:
    """What is written about whole requests; `reach` has the limit for the first byte."""
    request = None if written is None else written.request_timeout
    backend = None if written is None else written.backend_request_timeout
    return Bounds(
        None if request is None else parse_duration(request),
        None if backend is None else parse_duration(backend),
        waits="timeout" in reach.model_fields_set,
    )


def _redirect(written: RequestRedirect, matches: tuple[Match, ...], findings: Findings, loc: Loc) -> RedirectConfig:
    prefixes: tuple[str, ...] = ()
    if written.path is not None and written.path.prefix is not None:
        if any(match.path.kind is not PathKind.PREFIX for match in matches):
            text = "replaces what a pathPrefix took, and this route also takes other paths; write full"
            findings.complain((*loc, "path", "prefix"), text)
        prefixes = tuple(match.path.value for match in matches)
    if written.status not in _KEEPS_METHOD:
        text = (
            f"MCP clients send POST, and after {written.status} repeat it as GET, if at all; write status: 308, or "
            f"307 if it may change"
        )
        findings.warn((*loc, "status"), text)
    host, port = None, None
    authority = written.authority
    if authority is not None and authority.full is not None:
        host, port = parse_authority(authority.full)
    elif authority is not None and authority.host is not None:
        host = parse_host(authority.host)
    elif authority is not None:
        port = authority.port
    return RedirectConfig(
        status=written.status,
        scheme=written.scheme,
        host=host,
        port=port,
        drop_port=written.scheme is not None or (authority is not None and authority.full is not None),
        path=None if written.path is None else written.path.full,
        prefix=None if written.path is None else written.path.prefix,
        prefixes=prefixes,
        setting=dotted(loc),
    )


def reached(target: Target | Command, policies: Policies, bounds: Bounds, at: tuple[Findings, Loc]) -> Target | Command:
    """The target as `urlRewrite` and the limits of whole requests change it; `at`: where the policies stand."""
    findings, loc = at
    target = replace(target, timeouts=bounds.on(target.timeouts))
    written = policies.url_rewrite
    if written is None:
        return target
    here: Loc = (*loc, "urlRewrite")
    if isinstance(target, Command):
        if written.authority is not None or written.path is not None:
            findings.complain(here, "a local server is spoken to over stdio, which has no addresses; remove this")
        return target
    if written.path is not None and written.path.prefix is not None:
        text = (
            "changes nothing: the server is called at exactly the path of its address; write the path there, or "
            "path: {full: ...} here"
        )
        findings.warn((*here, "path", "prefix"), text)
    return _rewritten(target, written)


def _rewritten(target: Target, written: UrlRewrite) -> Target:
    authority, path = written.authority, written.path
    if authority is not None:
        host, port = target.host, target.port
        if authority.full is not None:
            named, own_port = parse_authority(authority.full)
            host, port = named, own_port or (443 if target.scheme == "https" else 80)
        elif authority.host is not None:
            host = parse_host(authority.host)
        elif authority.port is not None:
            port = authority.port
        target = replace(target, host_header=replace(target, host=host, port=port).authority)
    if path is not None and path.full is not None:
        query = target.path.partition("?")[2]
        target = replace(target, path=f"{path.full}?{query}" if query else path.full)
    return target
