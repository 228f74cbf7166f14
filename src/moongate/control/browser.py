"""From `cors` and `csrf` blocks to what the data plane runs, and advice about what a browser will make of them."""

from __future__ import annotations

from collections.abc import Iterable

from moongate.control.findings import Findings
from moongate.control.nodes import Loc, dotted
from moongate.control.schema.browser import ANY, Cors, Csrf, parse_origins
from moongate.control.schema.durations import parse_duration
from moongate.policies.cors import CorsConfig
from moongate.policies.csrf import CsrfConfig

# What no client of MCP in a browser can do without. (Accept needs no permission.)
_SENT = ("Content-Type", "Mcp-Session-Id", "Mcp-Protocol-Version", "Last-Event-ID", "Mcp-Method", "Mcp-Name")
_READ = ("Mcp-Session-Id", "WWW-Authenticate")
_PRESET = "or write preset: mcp, which has them all"


def build_cors(written: Cors | None, default: CorsConfig, findings: Findings, loc: Loc) -> CorsConfig:
    """The policy of the block at `loc`, or the default that holds where there is none."""
    if written is None:
        return default if default.written else CorsConfig(setting=dotted(loc))
    origins = written.allow_origins or []
    _warn_slashes(origins, findings, (*loc, "allowOrigins"))
    _warn_wide(origins, findings, (*loc, "allowOrigins"))
    if not origins:
        findings.warn(loc, "allowOrigins names no origin: only pages of the gateway's own origin may call")
    config = CorsConfig(
        allow_origins=_canonical(origins),
        allow_methods=tuple(written.allow_methods or ()),
        allow_headers=tuple(written.allow_headers or ()),
        expose_headers=tuple(written.expose_headers or ()),
        allow_credentials=written.allow_credentials,
        max_age=None if written.max_age is None else int(parse_duration(written.max_age)),
        preset=written.preset == "mcp",
        setting=dotted(loc),
        written=True,
    )
    _advise_on_stars(written, findings, loc)
    if origins and not config.preset:
        _advise_on_lists(config, findings, loc)
    return config


def build_csrf(written: Csrf | None, default: CsrfConfig, findings: Findings, loc: Loc) -> CsrfConfig:
    """The policy of the block at `loc`, or the default that holds where there is none."""
    if written is None:
        return default if default.written else CsrfConfig(setting=dotted(loc))
    origins = written.additional_origins or []
    here = (*loc, "additionalOrigins")
    _warn_slashes(origins, findings, here)
    _warn_wide(origins, findings, here)
    if ANY in origins:
        text = "* lets every web page call in the name of whoever visits it; name the origins that may"
        findings.warn((*here, origins.index(ANY)), text)
    return CsrfConfig(_canonical(origins), setting=dotted(loc), written=True)


def advise_on_any(written: Cors, csrf: CsrfConfig, findings: Findings, loc: Loc) -> None:
    """`*` among the origins of the block at `loc` lets pages read; calls need an origin that is named."""
    origins = written.allow_origins or []
    named = set(origins) - {ANY} if written.preset or not csrf.written else set()
    if ANY in origins and not named and not csrf.additional_origins:
        here = (*loc, "allowOrigins", origins.index(ANY))
        text = (
            "* alone lets pages read, but not call: POST and DELETE need an origin that is named, here or under "
            "csrf.additionalOrigins, and are refused with 403 otherwise"
        )
        findings.warn(here, text)


def advise_on_closed(written: Csrf, cors: CorsConfig, findings: Findings, loc: Loc) -> None:
    """Origins that the `csrf` block at `loc` names in vain, because `cors` refuses them before."""
    allowed = cors.allow_origins
    if ANY in allowed or any("*." in origin for origin in allowed):
        return
    for index, origin in enumerate(written.additional_origins or ()):
        if parse_origins(origin) not in allowed:
            text = "cors does not allow this origin, so its pages are refused all the same; name it there too"
            findings.warn((*loc, "additionalOrigins", index), text)


def _canonical(origins: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(parse_origins(origin) for origin in origins))


def _warn_slashes(origins: list[str], findings: Findings, loc: Loc) -> None:
    for index, origin in enumerate(origins):
        if origin.endswith("/"):
            here = (*loc, index)
            text = "it without" if findings.references(here) else parse_origins(origin)
            findings.warn(here, f"the trailing slash is ignored: an origin has no path; write {text}")


def _warn_wide(origins: list[str], findings: Findings, loc: Loc) -> None:
    for index, origin in enumerate(origins):
        base = parse_origins(origin).partition("://*.")[2].partition(":")[0]
        if base and "." not in base and base != "localhost":
            text = "stands for every name of a whole top-level domain; write a longer one, or name the origins"
            findings.warn((*loc, index), text)


def _advise_on_stars(written: Cors, findings: Findings, loc: Loc) -> None:
    if not written.allow_credentials:
        return
    origins, exposed = written.allow_origins or [], written.expose_headers or []
    if ANY in origins:
        findings.warn(
            (*loc, "allowOrigins", origins.index(ANY)),
            "* together with allowCredentials lets every web page read what this route answers to its visitor's "
            "credentials; name the origins that may",
        )
    if ANY in exposed:
        findings.warn(
            (*loc, "exposeHeaders", exposed.index(ANY)),
            "together with allowCredentials browsers read * as a name; the gateway sends the names that it knows "
            "instead: list here what a server adds beside them",
        )


def _advise_on_lists(config: CorsConfig, findings: Findings, loc: Loc) -> None:
    if not {ANY, "DELETE"} & set(config.allow_methods):
        text = f"DELETE is not listed, so pages cannot end their sessions; add it, {_PRESET}"
        findings.warn((*loc, "allowMethods"), text)
    missing = _missing(_SENT, config.allow_headers)
    if missing:
        text = f"clients of MCP also send {', '.join(missing)}; add {_it(missing)}, {_PRESET}"
        findings.warn((*loc, "allowHeaders"), text)
    unread = _missing(_READ, config.expose_headers)
    if unread:
        text = f"clients of MCP must read {', '.join(unread)}; add {_it(unread)}, {_PRESET}"
        findings.warn((*loc, "exposeHeaders"), text)


def _missing(needed: tuple[str, ...], listed: tuple[str, ...]) -> list[str]:
    have = {name.lower() for name in listed}
    return [] if ANY in have else [name for name in needed if name.lower() not in have]


def _it(names: list[str]) -> str:
    return "it" if len(names) == 1 else "them"
