"""From the policies of a route to what the data plane runs, and warnings about what it does not run yet."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from moongate.control.findings import Findings
from moongate.control.nodes import Loc
from moongate.control.schema.backend import Policies, RequestModifier, ResponseModifier
from moongate.control.schema.browser import Cors, parse_origin
from moongate.control.schema.durations import parse_duration
from moongate.model.snapshot import PolicyConfig
from moongate.policies.headers import HeaderModifier


@dataclass(frozen=True, slots=True)
class Defaults:
    """What holds where a route says nothing, and what its warnings depend on."""

    auth: bool
    body_bytes: int
    keepalive: float | None
    any_tokens: bool
    # Paths of the `cors` and `csrf` blocks, for one warning about all of them.
    browser: list[Loc] = field(default_factory=list)


def route_policies(policies: Policies) -> tuple[PolicyConfig, ...]:
    """The policies that the data plane has, in the order of its pipeline."""
    configs = [
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


def judge_browser(policies: Policies, defaults: Defaults, findings: Findings, loc: Loc) -> None:
    """Warn about origins and `*`, and note that the blocks are there."""
    if policies.cors is not None:
        defaults.browser.append((*loc, "cors"))
        origins = (*loc, "cors", "allowOrigins")
        _warn_slashes(policies.cors.allow_origins, findings, origins)
        _warn_any_origin(policies.cors, findings, origins)
    if policies.csrf is not None:
        defaults.browser.append((*loc, "csrf"))
        _warn_slashes(policies.csrf.additional_origins, findings, (*loc, "csrf", "additionalOrigins"))


def _warn_slashes(origins: list[str] | None, findings: Findings, loc: Loc) -> None:
    for index, origin in enumerate(origins or ()):
        if origin.endswith("/"):
            here = (*loc, index)
            text = "it without" if findings.references(here) else parse_origin(origin)
            findings.warn(here, f"the trailing slash is ignored: an origin has no path; write {text}")


def _warn_any_origin(cors: Cors, findings: Findings, loc: Loc) -> None:
    if cors.allow_credentials and "*" in (cors.allow_origins or ()):
        here = (*loc, (cors.allow_origins or []).index("*"))
        findings.warn(
            here,
            "* together with allowCredentials lets every web page call this route with its visitor's credentials and "
            "read the "
            "answers; name the origins that may",
        )


def warn_browser(defaults: Defaults, findings: Findings) -> None:
    """One warning for all blocks, at the first of them."""
    if defaults.browser:
        more = len(defaults.browser) - 1
        also = f" (nor {more} more such block{'s' if more > 1 else ''})" if more else ""
        findings.warn(
            defaults.browser[0],
            f"checked, but not enforced yet{also}: until then every request of a page of a foreign origin is refused "
            f"with 403",
        )
