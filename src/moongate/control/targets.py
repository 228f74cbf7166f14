"""From what is written about a backend to a `Target`, and the secrets that are in it."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from dataclasses import replace
from urllib.parse import parse_qsl

from moongate.control.findings import Findings
from moongate.control.hosted import command_secrets
from moongate.control.nodes import Loc
from moongate.control.schema.addresses import Address, parse_host, parse_url
from moongate.control.schema.backend import Reach
from moongate.control.schema.binds import HostEntry
from moongate.model.snapshot import ClientTls, Command, Route, Target, Timeouts, Transport
from moongate.policies.headers import HeaderModifier

# A shorter limit is most likely a number of seconds.
SUSPICIOUS_MS = 100
MIN_SECRET = 4
# Values of these headers are no secrets, and masking them would hide ordinary words.
_PUBLIC_HEADERS = frozenset({"accept", "accept-language", "content-type", "origin", "user-agent"})
_SECRET_PARAMETER = re.compile(r"key|token|secret|passw|auth|sig|cred", re.IGNORECASE)


def host_address(entry: HostEntry, *, tls: bool) -> Address:
    """The address of a target of the `binds` dialect; a bare host is http unless the target has a `tls` block."""
    if "://" in entry.host or entry.port is None or entry.path is None:
        return parse_url(entry.host)
    return Address("https" if tls else "http", parse_host(entry.host), entry.port, entry.path)


def build_target(name: str, address: Address, transport: Transport, reach: Reach, at: tuple[Findings, Loc]) -> Target:
    """`at`: where complaints go, and the path of the block that `reach` was written in."""
    findings, loc = at
    headers = list((reach.headers or {}).items())
    if address.basic is not None:
        clash = next((header for header, _ in headers if header.lower() == "authorization"), None)
        if clash is not None:
            findings.complain(
                (*loc, "headers", clash),
                "the address already holds a user and password, which become the Authorization header; keep one of "
                "them",
            )
        headers.append(("Authorization", address.basic))
    return Target(
        name=name,
        scheme=address.scheme,
        host=address.host,
        port=address.port,
        path=address.path,
        transport=transport,
        headers=tuple(headers),
        timeouts=build_timeouts(reach, at),
        tls=_client_tls(address, reach, findings, loc),
    )


def build_timeouts(reach: Reach, at: tuple[Findings, Loc]) -> Timeouts:
    """`at`: where complaints go, and the path of the block that `reach` was written in."""
    findings, loc = at
    if reach.timeout < SUSPICIOUS_MS:
        findings.warn(
            (*loc, "timeout"), f"{findings.found((*loc, 'timeout'))} is milliseconds: hardly any server answers so fast"
        )
    first_byte = reach.timeout / 1000
    return Timeouts(
        connect=min(Timeouts().connect, first_byte),
        first_byte=first_byte,
        silence=reach.sse_read_timeout / 1000,
    )


def _client_tls(address: Address, reach: Reach, findings: Findings, loc: Loc) -> ClientTls:
    if reach.tls is None:
        return ClientTls()
    if address.scheme != "https":
        findings.complain((*loc, "tls"), "the address is http, which has no certificates; write https, or remove tls")
    paths = {
        key: None if written is None else findings.file_path((*loc, "tls", key), written)
        for key, written in (("ca", reach.tls.ca), ("cert", reach.tls.cert), ("key", reach.tls.key))
    }
    return ClientTls(**paths)


def with_secrets(route: Route) -> Route:
    """The route, told what must not be echoed."""
    secrets = {*route.secrets, *route_secrets(route)}
    return replace(route, secrets=frozenset(secret for secret in secrets if len(secret) >= MIN_SECRET))


def route_secrets(route: Route) -> Iterator[str]:
    """Everything towards the backend that must not appear in a log: credentials whole, and without their scheme."""
    target = route.target
    if isinstance(target, Command):
        yield from command_secrets(target)
    pairs = list(target.headers) if isinstance(target, Target) else []
    for policy in route.policies:
        if isinstance(policy, HeaderModifier) and policy.direction == "request":
            pairs += [*policy.add, *policy.set]
    for name, value in pairs:
        if name.lower() not in _PUBLIC_HEADERS:
            yield value
            scheme, _, credential = value.partition(" ")
            if scheme.lower() in {"bearer", "basic", "token", "apikey", "api-key"}:
                yield credential.strip()
            if scheme.lower() == "basic":
                yield from _password(credential)
    for name, value in parse_qsl(target.path.partition("?")[2]) if isinstance(target, Target) else ():
        if _SECRET_PARAMETER.search(name):
            yield value


def _password(credential: str) -> Iterator[str]:
    try:
        decoded = base64.b64decode(credential, validate=True).decode()
    except ValueError:
        return
    yield decoded.partition(":")[2]
