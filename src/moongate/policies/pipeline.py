"""The ordered stages. The order is part of the security model: change it only together with the reasons.

Head stages see no body:
1. host: a request for somebody else's name is not ours to judge further.
2. origin (later: cors, csrf): before authentication, so that a foreign page learns nothing from a 401.
3. authn: from here on it is known who asks.
4. (access by source: needs the principal, still no body. Its place is here.)
Message stages see the envelope:
5. (access rules on method, tool, arguments. Their place is here.)
6. (rate limits: last, so that refused calls do not use up anybody's allowance.)
"""

from __future__ import annotations

from moongate.model.exchange import Exchange
from moongate.model.snapshot import Listener, Route, Snapshot
from moongate.policies.authn import TokenPolicy, Tokens
from moongate.policies.base import ALWAYS, HeadPolicy, Verdict
from moongate.policies.host import HostPolicy, split_authority
from moongate.policies.origin import OriginPolicy


def head_policies(snapshot: Snapshot, tokens: Tokens, listener: Listener, route: Route) -> tuple[HeadPolicy, ...]:
    """The head stages of one route, in order."""
    stages: list[HeadPolicy] = []
    if listener.hostname is None:
        stages.append(HostPolicy(snapshot.hosts | public_host(snapshot.public_url)))
    stages.append(OriginPolicy(snapshot.public_url))
    if route.auth:
        stages.append(TokenPolicy(tokens, route.name))
    return tuple(stages)


def public_host(public_url: str | None) -> frozenset[str]:
    """The host of `gateway.publicUrl`, as a set of none or one."""
    if public_url is None:
        return frozenset()
    authority = public_url.partition("://")[2].partition("/")[0]
    return frozenset({split_authority(authority)[0]})


def judge_head(policies: tuple[HeadPolicy, ...], exchange: Exchange) -> Verdict:
    """The first verdict that refuses; otherwise one that allows, for as long as all of them hold."""
    until = ALWAYS
    for policy in policies:
        verdict = policy.judge(exchange)
        if verdict.refusal is not None:
            return verdict
        until = min(until, verdict.until)
    return Verdict("pipeline", "allowed", until=until)
