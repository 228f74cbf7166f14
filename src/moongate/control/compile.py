"""From documents to a `Snapshot`, or to every complaint about them. Pure: no files, no clock, no network."""

from __future__ import annotations

from dataclasses import dataclass, replace

from pydantic_core import PydanticCustomError

from moongate.control.access import kept_access
from moongate.control.binds import compile_binds
from moongate.control.files import Documents
from moongate.control.findings import Findings
from moongate.control.policies import Defaults
from moongate.control.schema.backend import ServedTls
from moongate.control.schema.document import Document
from moongate.control.schema.gateway import GatewayBlock, LimitsBlock, parse_listen_host
from moongate.control.schema.judge import judge
from moongate.control.schema.platform import passwords
from moongate.control.servers import server_routes
from moongate.control.settings import audit, defaults, known_names, limits, platform, tokens, warn_proxies
from moongate.control.targets import MIN_SECRET, with_secrets
from moongate.errors import Complaint, ConfigError
from moongate.model.snapshot import Bind, Listener, ServerTls, Snapshot
from moongate.policies.access_rules import AccessConfig

LOOPBACK = ("127.0.0.1", "::1")
DEFAULT_PORT = 8000
MAX_PORT = 65_535
# The listener of the `mcpServers` instances.
SERVERS_LISTENER = "mcpServers"


@dataclass(frozen=True, slots=True)
class CompileOptions:
    """What the command line says: `host` holds for every listener, `port` is that of the `mcpServers` instances."""

    host: str | None = None
    port: int | None = None


def compile_documents(documents: Documents, options: CompileOptions | None = None) -> Snapshot:
    """Raises ConfigError with all complaints: of reading, of the schema, and about what does not fit together."""
    options = options or CompileOptions()
    document, root, wrong = judge(documents.root)
    findings = Findings(root)
    kept, unfit = kept_access(documents.access)
    complaints = [*documents.complaints, *wrong, *unfit, *_judge_options(options)]
    snapshot = None
    if document is not None:
        known = known_names(documents.root) if documents.complete else None
        findings.warnings += documents.warnings
        snapshot = _snapshot(document, options, (known, documents.tokens_in_use, kept), (findings, documents.paths))
        complaints += findings.complaints
    if snapshot is None or complaints:
        raise ConfigError(tuple(_in_order(complaints, documents.paths)))
    return snapshot


def _judge_options(options: CompileOptions) -> list[Complaint]:
    complaints = []
    if options.host is not None:
        try:
            parse_listen_host(options.host)
        except PydanticCustomError as error:
            complaints.append(
                Complaint(
                    "--host", str((error.context or {}).get("text", "is not a host")).replace(", found {found}", "")
                )
            )
    if options.port is not None and not 0 <= options.port <= MAX_PORT:
        complaints.append(Complaint("--port", f"must be a number from 0 to {MAX_PORT}, found {options.port}"))
    return complaints


def _snapshot(
    document: Document,
    options: CompileOptions,
    elsewhere: tuple[dict[str, bool] | None, bool, AccessConfig | None],
    at: tuple[Findings, tuple[str, ...]],
) -> Snapshot:
    findings, paths = at
    gateway = document.gateway or GatewayBlock()
    known, in_use, kept = elsewhere
    token_entries = tokens(gateway.tokens or [], known, findings)
    common = defaults(gateway, findings, any_tokens=bool(token_entries) or in_use, kept=kept)
    hosts = _hosts(options, gateway.host)
    binds = list(compile_binds(document.binds or [], hosts, common, findings))
    if document.mcp_servers is not None or not binds:
        port = DEFAULT_PORT if options.port is None else options.port
        _refuse_same_port(binds, port, findings)
        binds.insert(0, _servers_bind(document, (hosts, port), common, findings))
    named = _with_keys(binds)
    warn_proxies(gateway, findings)
    _warn(named, findings)
    return Snapshot(
        binds=named,
        tokens=token_entries,
        limits=limits(gateway.limits or LimitsBlock()),
        prefix=gateway.prefix,
        public_url=gateway.public_url,
        hosts=frozenset(gateway.hosts or ()),
        trusted_proxies=tuple(gateway.trusted_proxies or ()),
        max_processes=gateway.max_processes,
        platform=platform(document),
        audit=audit(document),
        secrets=_secrets(document, named),
        warnings=tuple(str(warning) for warning in _in_order(findings.warnings, paths)),
    )


def _hosts(options: CompileOptions, written: str | None) -> tuple[str, ...]:
    if options.host is not None:
        try:
            return (parse_listen_host(options.host),)
        except PydanticCustomError:
            return LOOPBACK  # complained about by _judge_options
    return LOOPBACK if written is None else (written,)


def _servers_bind(document: Document, at: tuple[tuple[str, ...], int], common: Defaults, findings: Findings) -> Bind:
    hosts, port = at
    gateway = document.gateway or GatewayBlock()
    routes = server_routes(document.mcp_servers or {}, gateway.prefix, common, findings)
    listener = Listener(SERVERS_LISTENER, tuple(routes), tls=_tls(gateway.tls, findings))
    return Bind(hosts, port, (listener,))


def _tls(written: ServedTls | None, findings: Findings) -> ServerTls | None:
    if written is None:
        return None
    return ServerTls(
        findings.file_path(("gateway", "tls", "cert"), written.cert),
        findings.file_path(("gateway", "tls", "key"), written.key),
    )


def _refuse_same_port(binds: list[Bind], port: int, findings: Findings) -> None:
    for index, bind in enumerate(binds):
        if port and bind.port == port:
            findings.complain(
                ("binds", index, "port"),
                f"{port} is also the port of the mcpServers instances; choose another one here, or start with --port",
            )


def _with_keys(binds: list[Bind]) -> tuple[Bind, ...]:
    """Routes that share their name get a longer key; one route under several hostnames keeps one key."""
    places: dict[str, set[tuple[int, str, str]]] = {}
    for bind in binds:
        for listener in bind.listeners:
            for route in listener.routes:
                places.setdefault(route.name, set()).add((bind.port, listener.name, route.where))

    def keyed(bind: Bind, listener: Listener) -> Listener:
        routes = [
            with_secrets(
                route
                if len(places[route.name]) == 1
                else replace(route, key=f"{bind.port}/{listener.name}/{route.name}")
            )
            for route in listener.routes
        ]
        return replace(listener, routes=tuple(routes))

    return tuple(replace(bind, listeners=tuple(keyed(bind, listener) for listener in bind.listeners)) for bind in binds)


def _secrets(document: Document, binds: tuple[Bind, ...]) -> frozenset[str]:
    gateway = document.gateway or GatewayBlock()
    values = [token.token for token in gateway.tokens or () if token.token is not None]
    if document.store is not None and document.store.url is not None:
        values.extend(passwords(document.store.url))
    for bind in binds:
        for listener in bind.listeners:
            for route in listener.routes:
                values.extend(route.secrets)
    return frozenset(value for value in values if len(value) >= MIN_SECRET)


def _warn(binds: tuple[Bind, ...], findings: Findings) -> None:
    if not any(listener.routes for bind in binds for listener in bind.listeners):
        findings.warn(("mcpServers",), "there is no instance: every request is answered 404")


def _in_order(complaints: list[Complaint], paths: tuple[str, ...]) -> list[Complaint]:
    """By file as they were given, then by line; each complaint once."""
    order = {path: index for index, path in enumerate(paths)}

    def position(complaint: Complaint) -> tuple[int, int]:
        file, _, line = complaint.where.rpartition(":")
        return (order.get(file or complaint.where, len(order)), int(line) if line.isdecimal() else 0)

    return sorted(dict.fromkeys(complaints), key=position)
