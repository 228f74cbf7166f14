"""The ordered stages. The order is part of the security model: change it only together with the reasons.

Head stages see no body:
1. host, forwarded host: a request for somebody else's name is not ours to judge further.
2. cors: before authentication, because preflights carry no credentials, and so that a foreign page learns nothing from
   a 401. It also says what every later answer, refusals included, must carry for a page to be able to read it.
3. csrf: behind cors, so that the page that is refused can read why.
4. authn: from here on it is known who asks.
5. access: who may use nothing at all, by user, group or source, is refused before his body is read.
6. rate limit by source, where no token tells callers apart.
7. redirects and fixed answers: what is left of the request is answered here, without a server.
Message stages see the envelope:
8. access: rules on method, tool, prompt, resource, arguments.
9. rate limit by principal: last, so that refused calls do not use up anybody's allowance.
"""

from __future__ import annotations

from collections.abc import Iterator

from moongate.model.exchange import Exchange
from moongate.model.snapshot import Listener, Route, Snapshot
from moongate.policies.access_rules import AccessConfig
from moongate.policies.acl import Access
from moongate.policies.answers import DirectResponseConfig, DirectResponsePolicy, RedirectConfig, RedirectPolicy
from moongate.policies.authn import TokenPolicy, Tokens
from moongate.policies.base import ALWAYS, HeadPolicy, Verdict
from moongate.policies.cors import CorsConfig, CorsPolicy
from moongate.policies.csrf import CsrfConfig, CsrfPolicy
from moongate.policies.host import HostPolicy, split_authority
from moongate.policies.origins import OwnOrigin
from moongate.policies.rate import RateLimit, RateLimitConfig
from moongate.policies.trust import OuterHostPolicy


def head_policies(
    snapshot: Snapshot,
    tokens: Tokens,
    listener: Listener,
    route: Route,
    limit: RateLimit | None,
    access: Access | None = None,
) -> tuple[HeadPolicy, ...]:
    """The head stages of one route, in order. `limit` and `access` are the route's own, shared by all its listeners."""
    names = snapshot.hosts | public_host(snapshot.public_url)
    stages: list[HeadPolicy] = []
    if listener.hostname is None:
        stages.append(HostPolicy(names))
    if snapshot.trusted_proxies and names:
        stages.append(OuterHostPolicy(names, listener.hostname))
    stages.extend(_browser_policies(snapshot, route))
    if route.auth:
        stages.append(TokenPolicy(tokens, route.name))
    if access is not None:
        stages.append(access)
    if limit is not None and limit.by_source:
        stages.append(limit)
    for config in route.policies:
        if isinstance(config, RedirectConfig):
            stages.append(RedirectPolicy(config))
        elif isinstance(config, DirectResponseConfig):
            stages.append(DirectResponsePolicy(config))
    return tuple(stages)


def rate_limit(route: Route) -> RateLimit | None:
    """The counters of a route. One that asks for no token can tell callers apart only by where they come from."""
    config = next((policy for policy in route.policies if isinstance(policy, RateLimitConfig)), None)
    return None if config is None else RateLimit(config, by_source=not route.auth)


def access_rules(route: Route) -> Access | None:
    """The gateway's rules and the route's own; None where there are none."""
    configs = [policy for policy in route.policies if isinstance(policy, AccessConfig)]
    return Access(configs, route.name) if configs else None


def _browser_policies(snapshot: Snapshot, route: Route) -> tuple[HeadPolicy, ...]:
    cors = next((policy for policy in route.policies if isinstance(policy, CorsConfig)), CorsConfig())
    csrf = next((policy for policy in route.policies if isinstance(policy, CsrfConfig)), CsrfConfig())
    own = OwnOrigin(snapshot.public_url)
    pages = CorsPolicy(cors, own)
    # A csrf block says exactly who passes. Without one, and with the preset, so do the origins that cors names.
    named = pages.origins if cors.preset or not csrf.written else None
    return pages, CsrfPolicy(csrf, own, named)


def public_host(public_url: str | None) -> frozenset[str]:
    """The host of `gateway.publicUrl`, as a set of none or one."""
    if public_url is None:
        return frozenset()
    authority = public_url.partition("://")[2].partition("/")[0]
    return frozenset({split_authority(authority)[0]})


def verdicts(policies: tuple[HeadPolicy, ...], exchange: Exchange) -> Iterator[Verdict]:
    """Each policy's verdict in order, up to the first that is final. Collects `Exchange.answer_lines`."""
    for policy in policies:
        verdict = policy.judge(exchange)
        if verdict.lines:
            exchange.answer_lines += verdict.lines
        yield verdict
        if verdict.final:
            return


def judge_head(policies: tuple[HeadPolicy, ...], exchange: Exchange) -> Verdict:
    """The verdict that refuses or answers; otherwise one that allows, for as long as all of them hold."""
    until = ALWAYS
    for verdict in verdicts(policies, exchange):
        if verdict.final:
            return verdict
        until = min(until, verdict.until)
    return Verdict("pipeline", "allowed", until=until)
