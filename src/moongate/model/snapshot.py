"""What was configured, compiled and immutable. The data plane runs from one `Snapshot` and asks nobody else.

Durations are seconds (float), sizes bytes. Header names keep the operator's spelling; they are compared ignoring case.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal
from urllib.parse import urljoin, urlsplit

from moongate.model.principal import TokenEntry

MIB = 1024 * 1024


class PolicyConfig:
    """What one policy of a route was told. Each file in `policies/` defines its own frozen subclass."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Limits:
    """What one client connection or request may cost. Each has its own answer: 431, 413, 503, 408."""

    head_bytes: int = 32 * 1024
    header_count: int = 100
    body_bytes: int = 64 * MIB
    json_depth: int = 128
    connections: int = 10_000
    head_seconds: float = 10.0
    body_seconds: float = 30.0
    idle_seconds: float = 75.0
    write_seconds: float = 60.0
    drain_seconds: float = 10.0


@dataclass(frozen=True, slots=True)
class ServerTls:
    """Certificate chain and key of a listener: PEM file paths, read again when they change."""

    cert: str
    key: str


@dataclass(frozen=True, slots=True)
class ClientTls:
    """How a backend's certificate is verified (`ca`: PEM file beside the system roots) and what we present to it."""

    ca: str | None = None
    cert: str | None = None
    key: str | None = None


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Limits towards a backend. `first_byte` runs from sending to the first body byte or non-comment event.

    `silence` then counts between bytes of an event stream. None is no limit: `total` bounds an answer that is no stream
    from turning to the backend to its last byte, `request` from the first byte of the client's request.
    """

    connect: float = 10.0
    first_byte: float = 30.0
    silence: float = 300.0
    total: float | None = None
    request: float | None = None


class Transport(StrEnum):
    """How a target is spoken to. AUTO: streamable HTTP first, HTTP+SSE when that answers 400, 404 or 405."""

    STREAMABLE_HTTP = "streamable-http"
    SSE = "sse"
    AUTO = "auto"


@dataclass(frozen=True, slots=True)
class Target:
    """One MCP server behind a route. `path` is origin-form and holds the query; `headers` go with every request.

    `host` is a DNS name in A-label form or an IP literal without brackets; `host_header` what `Host` says (None: the
    address's own).
    """

    name: str
    scheme: Literal["http", "https"]
    host: str
    port: int
    path: str
    transport: Transport = Transport.STREAMABLE_HTTP
    headers: tuple[tuple[str, str], ...] = ()
    timeouts: Timeouts = Timeouts()
    tls: ClientTls = ClientTls()
    host_header: str | None = None

    @property
    def authority(self) -> str:
        """Host and port as in an address (RFC 9110 section 7.2): no port where it is the scheme's default."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.scheme == "https" else 80) else f"{host}:{self.port}"

    @property
    def called(self) -> str:
        """The value of `Host`."""
        return self.host_header or self.authority

    def local_path(self, location: str) -> str | None:
        """Path and query of a `Location` (RFC 9110 section 10.2.2) on the same origin; None if it leads elsewhere."""
        try:
            parts = urlsplit(urljoin(f"{self.scheme}://{self.authority}{self.path}", location))
            called = urlsplit(f"{self.scheme}://{self.called}")
            usual = 443 if parts.scheme == "https" else 80
            own = ((self.host.lower(), self.port), (called.hostname, called.port or usual))
            same = parts.scheme == self.scheme and (parts.hostname, parts.port or usual) in own
        except ValueError:
            return None
        path = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
        return path if same and location and path.isascii() and path.isprintable() and " " not in path else None


class Isolation(StrEnum):
    """Who shares a process of a hosted server. SESSION: nobody (clients without sessions: per principal)."""

    SESSION = "session"
    PRINCIPAL = "principal"
    SHARED = "shared"


@dataclass(frozen=True, slots=True)
class ProcessLimits:
    """What each process of a hosted server may use (setrlimit); None: what the gateway itself may.

    `memory` is bytes of private memory (RLIMIT_DATA), `cpu_seconds` processor time.
    """

    memory: int | None = None
    open_files: int | None = None
    cpu_seconds: int | None = None


@dataclass(frozen=True, slots=True)
class Command:
    """A local server that the gateway runs and speaks to over stdio. `argv` reaches it as it is, without a shell.

    `env` adds to the gateway's environment without the variables in `withheld` and those that begin with `MOONGATE_`;
    with `clear_env` it is all there is. `cwd` None: the gateway's. `start_seconds` bounds a start up to the answer to
    initialize, `idle_seconds` how long an unused process is kept, `max_processes` how many there may be at once.
    `line_bytes`: the longest message that the server may write. `where` is file:line of the program.
    """

    name: str
    argv: tuple[str, ...] = field(repr=False)
    env: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    cwd: str | None = None
    clear_env: bool = False
    withheld: frozenset[str] = field(default=frozenset(), compare=False)
    isolation: Isolation = Isolation.SESSION
    timeouts: Timeouts = Timeouts()
    start_seconds: float = 60.0
    idle_seconds: float = 1800.0
    max_processes: int = 32
    line_bytes: int = 64 * MIB
    limits: ProcessLimits = ProcessLimits()
    where: str = field(default="", compare=False)


class PathKind(StrEnum):
    """How a path is compared; the order is also the order of precedence."""

    EXACT = "exact"
    PREFIX = "prefix"
    REGEX = "regex"


@dataclass(frozen=True, slots=True)
class PathMatch:
    """EXACT: the whole path. PREFIX: ends at a segment border, never has a trailing slash ("" is all). REGEX: full
    match.
    """

    kind: PathKind = PathKind.PREFIX
    value: str = ""


@dataclass(frozen=True, slots=True)
class ValueMatch:
    """A header or a query parameter: equal to `value`, or fully matched by it where `regex`."""

    name: str
    value: str
    regex: bool = False


@dataclass(frozen=True, slots=True)
class Match:
    """All parts must hold. `method` None is any."""

    path: PathMatch = PathMatch()
    headers: tuple[ValueMatch, ...] = ()
    query: tuple[ValueMatch, ...] = ()
    method: str | None = None


@dataclass(frozen=True, slots=True)
class Route:
    """An instance: where requests of a kind go. `key` is unique in the snapshot and stable over reloads; `name` is
    shown.

    `auth` True: a client token is needed. `matches` are alternatives; never empty. `keepalive` is the interval of
    comment lines on quiet event streams towards clients (None: none are made). `forward_headers`: client headers that
    go on to the target beside the documented ones. `secrets`: what an answer's headers and errors must not echo.
    `where` is file:line of what was written; `inserted` are the environment variables in it, with what they held.
    """

    key: str
    name: str
    matches: tuple[Match, ...]
    target: Target | Command
    policies: tuple[PolicyConfig, ...] = ()
    auth: bool = False
    body_bytes: int = 64 * MIB
    keepalive: float | None = None
    forward_headers: tuple[str, ...] = ()
    secrets: frozenset[str] = field(default=frozenset(), repr=False)
    where: str = ""
    inserted: frozenset[tuple[str, str]] = field(default=frozenset(), repr=False)


@dataclass(frozen=True, slots=True)
class Listener:
    """The routes of one hostname on a port. `hostname`: lower-case name, `*.example.com`, or None for any."""

    name: str
    routes: tuple[Route, ...]
    hostname: str | None = None
    tls: ServerTls | None = None


@dataclass(frozen=True, slots=True)
class Bind:
    """One port, on every address in `hosts`. All listeners of a port have TLS or none has."""

    hosts: tuple[str, ...]
    port: int
    listeners: tuple[Listener, ...]


@dataclass(frozen=True, slots=True)
class PlatformSettings:
    """What the second process is told: the store, the admin port, how long records are kept.

    `enabled` False: there is none. `store_url` None: SQLite in the data directory. `console_host` None: loopback;
    `console_port` None: 8001, or the next free one.
    """

    enabled: bool = True
    store_url: str | None = field(default=None, repr=False)
    console_host: str | None = None
    console_port: int | None = None
    keep_seconds: float = 90 * 86_400.0
    keep_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class AuditSettings:
    """How records are written. `strict`: calls that cannot be recorded are refused. `sync`: each write reaches the
    disk. `arguments`: those of calls are recorded beside their digest.
    """

    strict: bool = False
    sync: bool = False
    arguments: bool = False


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything the data plane needs. `hosts`: further names that `Host` may hold (lower-case, without port).

    `trusted_proxies`: networks (CIDR) whose word about the client counts.
    `max_processes`: how many hosted servers may run at once, of all routes together.
    """

    binds: tuple[Bind, ...]
    tokens: tuple[TokenEntry, ...] = ()
    limits: Limits = Limits()
    prefix: str = "/mcp"
    public_url: str | None = None
    hosts: frozenset[str] = frozenset()
    trusted_proxies: tuple[str, ...] = ()
    max_processes: int = 256
    platform: PlatformSettings = PlatformSettings()
    audit: AuditSettings = AuditSettings()
    secrets: frozenset[str] = field(default=frozenset(), repr=False)
    warnings: tuple[str, ...] = ()
