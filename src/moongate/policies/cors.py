"""Pages of other origins: who may call, what they may send, what they may read (Fetch standard section 3.3, "CORS
protocol").

The gateway goes further than the standard where the MCP transport wants it: the request of an origin that is not
allowed is 403 before any server is called, not merely unreadable. `*` is answered with names, because a literal one
does not count when credentials are on (Fetch section 3.3.5), and never covers `Authorization`. `null` is never allowed:
every page can make one with a sandboxed frame. Requests without `Origin` (SDKs, curl) are not touched.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from moongate.errors import FailureClass, Refusal
from moongate.model.exchange import Exchange
from moongate.model.snapshot import PolicyConfig
from moongate.policies.base import HeadAnswer, Verdict
from moongate.policies.origins import ANY, Origin, OriginSet, OwnOrigin, read_origin

# What clients of every MCP revision need, and the trace headers.
MCP_METHODS = ("GET", "POST", "DELETE", "OPTIONS")
MCP_REQUEST_HEADERS = (
    *("accept", "accept-language", "cache-control", "content-type"),
    *("authorization", "api-key", "x-api-key"),
    *("mcp-session-id", "mcp-protocol-version", "last-event-id", "mcp-method", "mcp-name"),
    *("traceparent", "tracestate", "baggage"),
)
MCP_PARAMETERS = "mcp-param-"
MCP_RESPONSE_HEADERS = (
    *("mcp-session-id", "mcp-protocol-version", "www-authenticate", "x-request-id", "retry-after", "last-event-id"),
    *("mcp-method", "mcp-name", "traceparent", "tracestate", "baggage"),
)
# What `*` stands for beside them when it is answered with names.
OTHER_RESPONSE_HEADERS = (
    *("allow", "date", "etag", "content-encoding", "server-timing", "warning", "deprecation", "sunset"),
    *("ratelimit", "ratelimit-policy", "x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"),
)
PRESET_MAX_AGE = 600

VARY = b"vary: Origin\r\n"
_PUBLIC = b"access-control-allow-origin: *\r\n"
_PUBLIC_PREFLIGHT = _PUBLIC + b"access-control-allow-methods: GET\r\naccess-control-allow-headers: *\r\n"
_PREFLIGHT_VARY = b"vary: Origin, Access-Control-Request-Method, Access-Control-Request-Headers\r\n"
# A page may use these whatever a preflight says (Fetch section 2.2.1).
_SAFELISTED_METHODS = frozenset({"GET", "HEAD", "POST"})
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}", re.ASCII)
_SHOWN = 200


@dataclass(frozen=True, slots=True)
class CorsConfig(PolicyConfig):
    """One `cors` block. Origins are in the form that browsers send, patterns as `https://*.example.com`; each list may
    hold `*`. `max_age` is seconds (None: the browser's own default). `setting` is where the block stands, or would.
    `written` False: there is none, and only the gateway's own origin may call.
    """

    allow_origins: tuple[str, ...] = ()
    allow_methods: tuple[str, ...] = ()
    allow_headers: tuple[str, ...] = ()
    expose_headers: tuple[str, ...] = ()
    allow_credentials: bool = False
    max_age: int | None = None
    preset: bool = False
    setting: str = "cors"
    written: bool = False


class CorsPolicy:
    """What one `cors` block says. `own` knows the gateway's own origin, which needs none."""

    name = "cors"

    def __init__(self, config: CorsConfig, own: OwnOrigin) -> None:
        self._config = config
        self._own = own
        self.origins = OriginSet(config.allow_origins)
        methods = [*(MCP_METHODS if config.preset else ()), *config.allow_methods]
        headers = [*(MCP_REQUEST_HEADERS if config.preset else ()), *config.allow_headers]
        self._methods = _names(methods)
        self._any_method = ANY in config.allow_methods
        self._headers = _names(headers)
        self._header_set = frozenset(name.lower() for name in self._headers)
        self._any_header = ANY in config.allow_headers
        self._max_age = PRESET_MAX_AGE if config.preset and config.max_age is None else config.max_age
        self._exposed = self._expose()
        self._vary = VARY if config.written else b""

    def judge(self, exchange: Exchange) -> Verdict:
        """Answer a preflight (204), or go on with the header lines for the answer; 403 for every other origin."""
        found = read_origin(exchange)
        if found is None:
            return Verdict(self.name, "no Origin", lines=self._vary)
        text, origin = found
        if origin is not None and self.origins.allows(origin):
            asked = exchange.fields.get(b"access-control-request-method")
            if exchange.method == "OPTIONS" and asked is not None:
                return self._preflight(exchange, origin, asked)
            return Verdict(self.name, f"{origin} is allowed", lines=self._allow(exchange) + self._exposed + VARY)
        if origin is not None and self._own.is_own(exchange, origin):
            return Verdict(self.name, "the gateway's own origin", lines=self._vary)
        return self._refuse(text, origin)

    def _refuse(self, text: str, origin: Origin | None) -> Verdict:
        config = self._config
        where, setting = f"{config.setting}.allowOrigins", ""
        if origin is None:
            reason = f"Origin {text[:_SHOWN]!r} is not one origin; no browser sends that"
        elif origin.opaque:
            reason = (
                "Origin null (a sandboxed frame, a local file, a redirect) is never allowed; serve the page from a web "
                f"server, and name its origin in {where}"
            )
        else:
            reason = f"pages of {origin} may not call"
            reason += "" if config.written else ": there is no cors block, so only the gateway's own may"
            setting = f"{where}: [{origin}]" if config.written else f"{config.setting}: {_preset_for(origin)}"
            setting += f"  (or gateway.publicUrl, if {origin} is the gateway's own public name)"
        return Verdict(self.name, reason, Refusal(FailureClass.DENIED, reason), setting, lines=self._vary)

    def _allow(self, exchange: Exchange) -> bytes:
        line = b"access-control-allow-origin: %b\r\n" % exchange.fields[b"origin"]
        return line + b"access-control-allow-credentials: true\r\n" if self._config.allow_credentials else line

    def _expose(self) -> bytes:
        config = self._config
        names = [*(MCP_RESPONSE_HEADERS if config.preset else ()), *config.expose_headers]
        if ANY in config.expose_headers:
            names += [*MCP_RESPONSE_HEADERS, *OTHER_RESPONSE_HEADERS]
        found = _names(names)
        if ANY in config.expose_headers and not config.allow_credentials:  # it does count, and covers what has no name
            found = (ANY, *found)
        return _line("access-control-expose-headers", found)

    def _preflight(self, exchange: Exchange, origin: Origin, asked: bytes) -> Verdict:
        """Fetch section 4.8, the server's part. What is not granted is not an error to the browser, but to the page."""
        method = asked.decode("latin-1")
        wanted = _asked(exchange.fields.get(b"access-control-request-headers", b""))
        grants_method = self._any_method and _TOKEN.fullmatch(method) is not None
        granted = [name for name in wanted if self._grants(name)]
        lines = [
            self._allow(exchange),
            _line("access-control-allow-methods", _names([*self._methods, *([method] if grants_method else [])])),
            _line("access-control-allow-headers", _names([*self._headers, *granted])),
        ]
        if self._max_age is not None:
            lines.append(b"access-control-max-age: %d\r\n" % self._max_age)
        if exchange.fields.get(b"access-control-request-private-network") == b"true" and self.origins.names(origin):
            lines.append(b"access-control-allow-private-network: true\r\n")
        answer = HeadAnswer(204, b"".join([*lines, _PREFLIGHT_VARY]))
        allowed = grants_method or method in self._methods or method in _SAFELISTED_METHODS
        missing = [name for name in wanted if name not in granted]
        if allowed and not missing:
            return Verdict(self.name, f"a preflight of {origin} is granted", answer=answer)
        reasons, settings = [], []
        if not allowed:
            reasons.append(f"the method {method[:_SHOWN]!r}")
            settings.append(f"{self._config.setting}.allowMethods: [{method[:_SHOWN]}]")
        if missing:
            shown = ", ".join(missing)[:_SHOWN]
            reasons.append(f"the header{'s' if len(missing) > 1 else ''} {shown}")
            settings.append(f"{self._config.setting}.allowHeaders: [{shown}]")
        reason = f"a preflight of {origin} is not granted {' and '.join(reasons)}"
        return Verdict(self.name, reason, setting=" and ".join(settings), answer=answer)

    def _grants(self, name: str) -> bool:
        parameter = self._config.preset and name.startswith(MCP_PARAMETERS)
        return self._any_header or name in self._header_set or parameter


def judge_public(exchange: Exchange) -> Verdict | None:
    """Documents that everybody may read (`/.well-known/*`): a preflight is answered, and every answer can be read."""
    if b"origin" not in exchange.fields:
        return None
    if exchange.method == "OPTIONS" and b"access-control-request-method" in exchange.fields:
        return Verdict("cors", "a public document", answer=HeadAnswer(204, _PUBLIC_PREFLIGHT))
    exchange.answer_lines = _PUBLIC
    return None


def _preset_for(origin: Origin) -> str:
    return f"{{preset: mcp, allowOrigins: [{origin}]}}"


def _asked(value: bytes) -> list[str]:
    """The lower-case names of Access-Control-Request-Headers; what is no header name is left out."""
    names = [part.strip(" \t").lower() for part in value.decode("latin-1").split(",")]
    return list(dict.fromkeys(name for name in names if name != ANY and _TOKEN.fullmatch(name)))


def _names(written: Iterable[str]) -> tuple[str, ...]:
    """Each name once, whatever its case, in order; without `*`."""
    first: dict[str, str] = {}
    for name in written:
        if name != ANY:
            first.setdefault(name.lower(), name)
    return tuple(first.values())


def _line(name: str, values: tuple[str, ...]) -> bytes:
    return f"{name}: {', '.join(values)}\r\n".encode("ascii") if values else b""
