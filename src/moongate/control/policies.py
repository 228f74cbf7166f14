"""From the policies of a route to what the data plane runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from moongate.control.access import advise_on_strangers, build_access
from moongate.control.browser import advise_on_any, advise_on_closed, build_cors, build_csrf
from moongate.control.findings import Findings
from moongate.control.nodes import Loc
from moongate.control.schema.backend import Policies, RequestModifier, ResponseModifier
from moongate.control.schema.durations import parse_duration
from moongate.model.snapshot import PolicyConfig
from moongate.policies.access_rules import AccessConfig
from moongate.policies.cors import CorsConfig
from moongate.policies.csrf import CsrfConfig
from moongate.policies.headers import HeaderModifier


@dataclass(frozen=True, slots=True)
class Defaults:
    """What holds where a route says nothing, and what its warnings depend on."""

    auth: bool
    body_bytes: int
    keepalive: float | None
    any_tokens: bool
    cors: CorsConfig
    csrf: CsrfConfig
    access: tuple[AccessConfig, ...] = ()


def route_policies(policies: Policies, defaults: Defaults, findings: Findings, loc: Loc) -> tuple[PolicyConfig, ...]:
    """The policies that the data plane has, in the order of its pipeline; `loc` is where they stand."""
    cors = build_cors(policies.cors, defaults.cors, findings, (*loc, "cors"))
    csrf = build_csrf(policies.csrf, defaults.csrf, findings, (*loc, "csrf"))
    if policies.cors is not None:
        advise_on_any(policies.cors, csrf, findings, (*loc, "cors"))
    if policies.csrf is not None:
        advise_on_closed(policies.csrf, cors, findings, (*loc, "csrf"))
    if not (defaults.auth if policies.auth is None else policies.auth == "required"):
        advise_on_strangers(policies.access, findings, (*loc, "access"))
    configs = [
        cors,
        csrf,
        *defaults.access,
        build_access(policies.access, findings, (*loc, "access")),
        _modifier("request", policies.request_header_modifier),
        _modifier("response", policies.response_header_modifier),
    ]
    return tuple(config for config in configs if config is not None)


def _modifier(
    direction: Literal["request", "response"],
    written: RequestModifier | ResponseModifier | None,
) -> HeaderModifier | None:
    if written is None or not (written.add or written.set or written.remove):
        return None
    return HeaderModifier(
        direction=direction,
        add=tuple((written.add or {}).items()),
        set=tuple((written.set or {}).items()),
        remove=tuple(written.remove or ()),
    )


def needs_token(policies: Policies, defaults: Defaults, findings: Findings, loc: Loc) -> bool:
    """Whether the route needs a client token; `loc` is where its policies stand."""
    if policies.auth == "required" and not defaults.any_tokens:
        findings.warn((*loc, "auth"), "a token is required, but gateway.tokens has no entries: every call gets 401")
    return defaults.auth if policies.auth is None else policies.auth == "required"


def keepalive(policies: Policies, defaults: Defaults) -> float | None:
    """Seconds between comment lines on quiet event streams."""
    return defaults.keepalive if policies.keep_alive is None else parse_duration(policies.keep_alive)
