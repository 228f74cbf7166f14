"""From the `gateway:` block to limits, tokens and defaults."""

from __future__ import annotations

import hashlib

from moongate.control.access import build_access
from moongate.control.browser import advise_on_any, build_cors, build_csrf
from moongate.control.findings import Findings
from moongate.control.nodes import STORE, Loc, Mapping, Scalar, Sequence, find
from moongate.control.policies import Defaults
from moongate.control.schema.document import Document
from moongate.control.schema.durations import parse_duration
from moongate.control.schema.gateway import GatewayBlock, LimitsBlock, TokenItem, parse_expiry
from moongate.control.schema.judge import nearest
from moongate.control.schema.platform import AuditBlock, ConsoleBlock
from moongate.model.principal import TokenEntry
from moongate.model.snapshot import AuditSettings, Limits, PlatformSettings
from moongate.policies.access_rules import AccessConfig
from moongate.policies.cors import CorsConfig
from moongate.policies.csrf import CsrfConfig


def limits(block: LimitsBlock) -> Limits:
    """Seconds and bytes."""
    return Limits(
        head_bytes=block.head_bytes,
        header_count=block.header_count,
        body_bytes=block.body_bytes,
        json_depth=block.json_depth,
        connections=block.connections,
        head_seconds=parse_duration(block.head_time),
        body_seconds=parse_duration(block.body_time),
        idle_seconds=parse_duration(block.idle_time),
        write_seconds=parse_duration(block.write_time),
        drain_seconds=parse_duration(block.drain_time),
    )


def platform(document: Document) -> PlatformSettings:
    """What the second process is told."""
    console = document.console or ConsoleBlock()
    audit = document.audit or AuditBlock()
    return PlatformSettings(
        enabled=console.enabled,
        store_url=None if document.store is None else document.store.url,
        console_host=console.host,
        console_port=console.port,
        keep_seconds=parse_duration(audit.keep),
        keep_bytes=audit.keep_bytes,
    )


def audit(document: Document) -> AuditSettings:
    """How records are written."""
    block = document.audit or AuditBlock()
    return AuditSettings(strict=block.mode == "strict", sync=block.sync, arguments=block.arguments == "record")


def defaults(
    block: GatewayBlock, findings: Findings, *, any_tokens: bool, kept: AccessConfig | None = None
) -> Defaults:
    """What holds for routes that say nothing, and access rules for all of them; `kept` are the store's."""
    here: Loc = ("gateway",)
    cors = build_cors(block.cors, CorsConfig(), findings, (*here, "cors"))
    csrf = build_csrf(block.csrf, CsrfConfig(), findings, (*here, "csrf"))
    if block.cors is not None:
        advise_on_any(block.cors, csrf, findings, (*here, "cors"))
    return Defaults(
        auth=any_tokens,
        body_bytes=(block.limits or LimitsBlock()).body_bytes,
        keepalive=None if block.keep_alive is None else parse_duration(block.keep_alive),
        any_tokens=any_tokens,
        cors=cors,
        csrf=csrf,
        access=tuple(filter(None, (build_access(block.access, findings, (*here, "access")), kept))),
    )


def warn_proxies(block: GatewayBlock, findings: Findings) -> None:
    """What may surprise about trusted proxies."""
    for index, network in enumerate(block.trusted_proxies or ()):
        if network.endswith("/0"):
            text = "trusts everybody: any client may then say who and where it is; name the proxies' own addresses"
            findings.warn(("gateway", "trustedProxies", index), text)
    if block.trusted_proxies and not block.public_url and not block.hosts:
        text = (
            "without gateway.publicUrl or gateway.hosts any X-Forwarded-Host that these proxies pass on counts as the "
            "gateway's own name; name it there"
        )
        findings.warn(("gateway", "trustedProxies"), text)


def tokens(items: list[TokenItem], known: dict[str, bool] | None, findings: Findings) -> tuple[TokenEntry, ...]:
    """The client tokens as digests. `known`: all names of instances (None: a file could not be read)."""
    names: dict[str, Loc] = {}
    digests: dict[bytes, Loc] = {}
    entries = []
    for index, item in enumerate(items):
        loc: Loc = ("gateway", "tokens", index)
        digest = bytes.fromhex(item.sha256) if item.sha256 else hashlib.sha256((item.token or "").encode()).digest()
        if item.name in names:
            findings.complain(
                (*loc, "name"), f"a token of this name already stands at {findings.place(names[item.name])}; rename it"
            )
        if digest in digests:
            findings.complain(
                loc,
                f"this is the same token as the one at {findings.place(digests[digest])}; every entry needs its own",
            )
        names.setdefault(item.name, loc)
        digests.setdefault(digest, loc)
        if item.token is not None and not findings.references((*loc, "token")):
            findings.warn(
                (*loc, "token"),
                "the token stands here in plain text; write ${NAME} for an environment variable, or its sha256",
            )
        _judge_instances(item, known, findings, loc)
        entries.append(
            TokenEntry(
                name=item.name,
                sha256=digest,
                instances=None if item.instances is None else frozenset(item.instances),
                expires=None if item.expires is None else parse_expiry(item.expires),
                user=item.user or "",
                groups=frozenset(item.groups or ()),
            ),
        )
    return tuple(entries)


def _judge_instances(item: TokenItem, known: dict[str, bool] | None, findings: Findings, loc: Loc) -> None:
    if findings.place(loc).file == STORE:
        return  # an instance that just left its file must not keep all else from being published
    for index, instance in enumerate(item.instances or ()):
        here = (*loc, "instances", index)
        if known is not None and instance not in known:
            named = sorted(name for name, may_be_shown in known.items() if may_be_shown)
            near = nearest(instance, named)
            meant = f"; did you mean {near}?" if near else f"; there are: {', '.join(named) or 'none'}"
            findings.complain(here, f"there is no instance {findings.found(here)}{meant}")


def known_names(root: Mapping) -> dict[str, bool]:
    """All instances that are written, also disabled and faulty ones: their names, and whether these may be shown."""
    names: dict[str, bool] = {}
    servers = find(root, ("mcpServers",)).node
    if isinstance(servers, Mapping):
        names.update(dict.fromkeys(servers.entries, True))
    for bind in _items(root, ("binds",)):
        for listener in _items(root, (*bind, "listeners")):
            for route in _items(root, (*listener, "routes")):
                name = _text(root, (*route, "name")) or _text(
                    root, (*route, "backends", 0, "mcp", "targets", 0, "name")
                )
                if name is not None:
                    names.setdefault(str(name.value), not name.references)
    return names


def _items(root: Mapping, loc: Loc) -> list[Loc]:
    node = find(root, loc).node
    return [(*loc, index) for index in range(len(node.items))] if isinstance(node, Sequence) else []


def _text(root: Mapping, loc: Loc) -> Scalar | None:
    node = find(root, loc).node
    return node if isinstance(node, Scalar) and isinstance(node.value, str) else None
