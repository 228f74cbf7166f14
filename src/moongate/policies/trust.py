"""Proxies in front of the gateway: whose word about the client counts (RFC 7239 `Forwarded`, and `X-Forwarded-*`).

Only what a peer in `gateway.trustedProxies` says is believed, and of a list only what trusted proxies have appended:
read from the right, up to the first address that is not trusted. From everybody else the headers are as if they were
not there. A trusted proxy must itself set or remove both families: if they disagree, one of them is the client's
invention, and the request is refused.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple, TypeAlias

from moongate.errors import FailureClass, Refusal
from moongate.model.exchange import Exchange
from moongate.policies.base import Verdict
from moongate.policies.host import is_loopback, split_authority

IpNetwork: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network
Fields: TypeAlias = Mapping[bytes, bytes]
More: TypeAlias = Sequence[tuple[bytes, bytes]]

_FORWARDED = b"forwarded"
_FOR, _PROTO, _HOST = b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host"
HEADERS = (_FORWARDED, _FOR, _PROTO, _HOST)
# RFC 7239 section 4: pairs of a token and a token or quoted string; elements are apart by commas.
_PAIR = re.compile(r"[ \t]*([!#$%&'*+.^_`|~0-9A-Za-z-]+)=(?:\"((?:[^\"\\]|\\.)*)\"|([!#$%&'*+.^_`|~0-9A-Za-z:\[\]-]*))")
_GAP = re.compile(r"[ \t]*([,;]?)")
_ESCAPED = re.compile(r"\\(.)")
_NAMED_HOST = re.compile(r"(?:[A-Za-z0-9._~-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?", re.ASCII)
MAX_HOPS = 64


class Hop(NamedTuple):
    """What one proxy said about the request that it got; "": nothing."""

    address: str = ""
    proto: str = ""
    host: str = ""


class Outside(NamedTuple):
    """The request as the client sent it: its address, whether over TLS, the authority that it asked for.

    `source` "", `secure` None and `host` "": no proxy said so.
    """

    source: str = ""
    secure: bool | None = None
    host: str = ""


class Trust:
    """The networks of `gateway.trustedProxies`, judged when they were read."""

    def __init__(self, networks: Sequence[str]) -> None:
        self._networks = tuple(ipaddress.ip_network(network) for network in networks)
        self._trusts = lru_cache(maxsize=1024)(self._look_up)

    def trusts(self, address: str) -> bool:
        """Whether an address is a trusted proxy's; False for what is no address."""
        return self._trusts(address)

    def _look_up(self, address: str) -> bool:
        parsed = _address(address)
        return parsed is not None and any(parsed in network for network in self._networks)

    def outside(self, peer: str, fields: Fields, more: More) -> Outside | None:
        """What counts of a request's forwarding headers; None: nothing does.

        Raises Refusal (400) where the two families of a trusted peer say different things, or say nothing readable.
        """
        if not any(name in fields for name in HEADERS) or not self.trusts(peer):
            return None
        standard = self._standard(_values(_FORWARDED, fields, more))
        usual = self._usual(fields, more)
        if standard is not None and usual is not None and not _agree(standard, usual):
            detail = "Forwarded and X-Forwarded-* of a trusted proxy disagree; it must set or remove both"
            raise Refusal(FailureClass.BAD_REQUEST, detail)
        return _merged(standard, usual)

    def _standard(self, value: str) -> Outside | None:
        if not value:
            return None
        source, secure, host = "", None, ""
        for hop in reversed(_elements(value)):
            secure = _secure(hop.proto) if hop.proto else secure
            host = _authority(hop.host) if hop.host else host
            address = _plain_address(hop.address)
            if address is None:
                break
            source = address
            if not self.trusts(address):
                break
        return Outside(source, secure, host)

    def _usual(self, fields: Fields, more: More) -> Outside | None:
        if not any(name in fields for name in (_FOR, _PROTO, _HOST)):
            return None
        source, hops = "", 1
        for depth, text in enumerate(reversed(_listed(_FOR, fields, more)), 1):
            address = _plain_address(text)
            if address is None:
                break
            source, hops = address, depth
            if not self.trusts(address):
                break
        protos, hosts = _listed(_PROTO, fields, more), _listed(_HOST, fields, more)
        secure = _secure(protos[-min(hops, len(protos))]) if protos else None
        return Outside(source, secure, _authority(hosts[-min(hops, len(hosts))]) if hosts else "")


class OuterHostPolicy:
    """A host that a trusted proxy forwards must be one of the gateway's names, where it knows them.

    Many proxies pass on a client's own `X-Forwarded-Host`; a page whose name was rebound to the proxy could write one.
    """

    name = "forwarded host"

    def __init__(self, names: frozenset[str], hostname: str | None) -> None:
        self._names = names
        self._hostname = hostname

    def judge(self, exchange: Exchange) -> Verdict:
        """Deny (403) a name that is not ours."""
        if not exchange.outer_host:
            return Verdict(self.name, "none was forwarded")
        host, _ = split_authority(exchange.outer_host)
        own, _ = split_authority(exchange.fields.get(b"host", b"").decode("latin-1"))
        if host in self._names or host == own or self._is_hostname(host) or _address(host) is not None:
            return Verdict(self.name, f"{host} is ours")
        reason = f"a trusted proxy forwards the host {host!r}, which is not a name of this gateway"
        setting = f"gateway.hosts: [{host}]"
        return Verdict(self.name, reason, Refusal(FailureClass.DENIED, reason), setting)

    def _is_hostname(self, host: str) -> bool:
        pattern = self._hostname
        if pattern is None:
            return False
        return host == pattern or (pattern.startswith("*.") and host.endswith(pattern[1:]))


def is_local(exchange: Exchange) -> bool:
    """Whether the client is a program on this machine, as far as can be known: no proxy has spoken for it."""
    through = exchange.fields.keys() & {*HEADERS, b"via"}
    return not through and is_loopback(exchange.local_host) and is_loopback(exchange.peer)


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        parsed = ipaddress.ip_address(text)
    except ValueError:
        return None
    return getattr(parsed, "ipv4_mapped", None) or parsed


def _plain_address(text: str) -> str | None:
    """An address in its one form, without port and brackets; None for `unknown`, names and nonsense."""
    text = text.strip(" \t")
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    parsed = _address(text.partition("%")[0])
    return None if parsed is None else str(parsed)


def _values(name: bytes, fields: Fields, more: More) -> str:
    """All lines of a field, joined (RFC 9110 section 5.3)."""
    if name not in fields:
        return ""
    found = [fields[name], *(value for other, value in more if other == name)]
    return b",".join(found).decode("latin-1")


def _listed(name: bytes, fields: Fields, more: More) -> list[str]:
    value = _values(name, fields, more)
    return [part.strip(" \t") for part in value.split(",")][-MAX_HOPS:] if value else []


def _elements(value: str) -> list[Hop]:
    """The elements of `Forwarded`. Raises Refusal (400): a proxy that is trusted writes it as RFC 7239 says."""
    hops: list[Hop] = []
    parts: dict[str, str] = {}
    at = 0
    while True:
        match = _PAIR.match(value, at)
        if match is not None:
            name, quoted, plain = match.groups()
            if name.lower() in parts:
                raise _unreadable()
            parts[name.lower()] = plain if quoted is None else _ESCAPED.sub(r"\1", quoted)
            at = match.end()
        gap = _GAP.match(value, at)
        mark, at = ("", at) if gap is None else (gap[1], gap.end())
        if mark != ";":
            if not mark and at < len(value):
                raise _unreadable()
            if parts:
                hops.append(_hop(parts))
            parts = {}
        if not mark:
            return hops[-MAX_HOPS:]


def _hop(parts: Mapping[str, str]) -> Hop:
    return Hop(parts.get("for", ""), parts.get("proto", ""), parts.get("host", ""))


def _secure(proto: str) -> bool:
    scheme = proto.strip(" \t").lower()
    if scheme not in {"http", "https"}:
        raise _unreadable()
    return scheme == "https"


def _authority(host: str) -> str:
    if not _NAMED_HOST.fullmatch(host):
        raise _unreadable()
    return host.lower()


def _unreadable() -> Refusal:
    return Refusal(FailureClass.BAD_REQUEST, "the forwarding headers of a trusted proxy cannot be read")


def _agree(one: Outside, other: Outside) -> bool:
    same_scheme = one.secure is None or other.secure is None or one.secure == other.secure
    same_host = not one.host or not other.host or one.host == other.host
    return (not one.source or not other.source or one.source == other.source) and same_scheme and same_host


def _merged(one: Outside | None, other: Outside | None) -> Outside | None:
    if one is None or other is None:
        return one or other
    secure = other.secure if one.secure is None else one.secure
    return Outside(one.source or other.source, secure, one.host or other.host)
