"""`Host` must name this gateway: a page whose name was rebound to our address cannot reach us (DNS rebinding).

A listener with a hostname has been matched by it already. Elsewhere the name must be a loopback name on a loopback
address, the IP literal that the connection came in on (rebinding needs a name), the host of `gateway.publicUrl`, or in
`gateway.hosts`.
"""

from __future__ import annotations

import functools
import ipaddress

from moongate.errors import FailureClass, Refusal
from moongate.model.exchange import Exchange
from moongate.policies.base import Verdict

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})


@functools.lru_cache(maxsize=1024)
def split_authority(value: str) -> tuple[str, str]:
    """Host (lower case, without brackets and trailing dot) and port ("" if none) of a Host or an origin's authority."""
    if value.startswith("["):
        host, _, rest = value[1:].partition("]")
        return host.lower(), rest.removeprefix(":")
    host, _, port = value.partition(":")
    return host.lower().removesuffix("."), port


@functools.lru_cache(maxsize=1024)
def is_loopback(address: str) -> bool:
    """Whether an IP literal is a loopback address, IPv4-mapped ones included."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(parsed, "ipv4_mapped", None)
    return (mapped or parsed).is_loopback


class HostPolicy:
    """`hosts`: lower-case names that may stand in Host beside loopback names and the address itself."""

    name = "host"

    def __init__(self, hosts: frozenset[str]) -> None:
        self._hosts = hosts
        self._ours = Verdict(self.name, "Host is ours")

    def judge(self, exchange: Exchange) -> Verdict:
        """Deny (403) a name that is not ours."""
        value = exchange.fields.get(b"host")
        if value is None:  # HTTP/1.0; browsers, the only ones that rebinding fools, always send it
            return Verdict(self.name, "no Host (HTTP/1.0)")
        host, _ = split_authority(value.decode("ascii"))
        local = exchange.local_host.removeprefix("::ffff:")
        if host in self._hosts or host == local:
            return self._ours
        if host in LOOPBACK_NAMES and is_loopback(local):
            return Verdict(self.name, "Host is a loopback name on a loopback address")
        reason = f"Host {host!r} is not a name of this gateway"
        setting = f"gateway.hosts: [{host}]  (or gateway.publicUrl, if that is its public name)"
        return Verdict(self.name, reason, Refusal(FailureClass.DENIED, reason), setting)
