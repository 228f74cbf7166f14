"""Which HTTP proxy the environment wants: HTTPS_PROXY, HTTP_PROXY and NO_PROXY, as curl and Go read them.

Lower-case names win over upper-case ones. Loopback targets are never sent to a proxy. NO_PROXY holds host names (which
cover their subdomains), addresses and networks, each with an optional port, or `*`.
"""

from __future__ import annotations

import base64
import ipaddress
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from moongate.errors import StartError


class Proxy(NamedTuple):
    """`authorization`: the value for Proxy-Authorization, from the userinfo of the proxy's URL."""

    host: str
    port: int
    authorization: bytes | None


def choose_proxy(scheme: str, host: str, port: int, environ: Mapping[str, str]) -> Proxy | None:
    """The proxy for a target, None for a direct connection. Raises StartError for a proxy URL that cannot be used."""
    name = f"{scheme}_proxy"
    value = environ.get(name) or environ.get(name.upper()) or ""
    if not value or _is_local(host) or _excluded(host, port, environ.get("no_proxy") or environ.get("NO_PROXY") or ""):
        return None
    try:
        parts = urlsplit(value if "://" in value else f"http://{value}")
        proxy_port = parts.port or 80
    except ValueError:
        parts, proxy_port = urlsplit(""), 0
    if parts.scheme != "http" or not parts.hostname or not proxy_port:
        msg = f"{name.upper()} is not an address like http://host:port (a proxy reached over TLS is not supported)"
        raise StartError(msg)
    authorization = None
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        authorization = b"Basic " + base64.b64encode(pair.encode())
    return Proxy(parts.hostname, proxy_port, authorization)


def _is_local(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _excluded(host: str, port: int, no_proxy: str) -> bool:
    for entry in no_proxy.lower().split(","):
        pattern, _, wanted = entry.strip().partition(":") if entry.count(":") == 1 else (entry.strip(), "", "")
        if not pattern or (wanted and wanted != str(port)):
            continue
        if pattern == "*" or _covers(pattern.removeprefix("*"), host):
            return True
    return False


def _covers(pattern: str, host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        name = pattern.removeprefix(".")
        return host == name or host.endswith(f".{name}")
    try:
        return address in ipaddress.ip_network(pattern, strict=False)
    except ValueError:
        return False
