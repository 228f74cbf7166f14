"""Origins (RFC 6454, Fetch standard section 3.2): who a page is. Parsed, compared, and matched against what the
operator wrote; pure.

Two origins are the same if scheme, host and port are; a port that is not written is the scheme's default. Hosts are
compared as browsers send them: lower case, A-labels, IPv6 in its shortest form. `null` is an opaque origin: the same as
nothing, not even as another `null`.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

from moongate.model.exchange import Exchange

DEFAULT_PORTS = {"http": 80, "https": 443}
ANY = "*"
MAX_ORIGIN = 512
MAX_PORT = 65_535

_HOST = r"[a-z0-9_-]+(?:\.[a-z0-9_-]+)*"
_SCHEME = r"([a-z][a-z0-9+.-]*)://"
_PORT = r"(?::([1-9][0-9]{0,4}))?"
_SERIALISED = re.compile(rf"{_SCHEME}(\[[0-9a-f:.]+\]|{_HOST}\.?){_PORT}", re.ASCII)
_PATTERN = re.compile(rf"{_SCHEME}\*\.({_HOST}){_PORT}", re.ASCII)


class Origin(NamedTuple):
    """`host` is lower case, IPv6 without brackets. `port` None: the scheme has no default and none was given."""

    scheme: str
    host: str
    port: int | None

    @property
    def opaque(self) -> bool:
        """Whether it is `null`: of a sandboxed frame, a local file, or a request that was redirected across sites."""
        return not self.scheme

    def __str__(self) -> str:
        """As browsers write it, without the default port."""
        if self.opaque:
            return "null"
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port in {None, DEFAULT_PORTS.get(self.scheme)} else f":{self.port}"
        return f"{self.scheme}://{host}{port}"


OPAQUE = Origin("", "", None)


@lru_cache(maxsize=1024)
def _parse(value: str) -> Origin | None:
    match = _SERIALISED.fullmatch(value.lower())
    if match is None:
        return None
    scheme, host, port = match.groups()
    if host.startswith("["):
        try:
            host = str(ipaddress.IPv6Address(host[1:-1]))
        except ValueError:
            return None
    number = DEFAULT_PORTS.get(scheme) if port is None else int(port)
    return None if number is not None and number > MAX_PORT else Origin(scheme, host, number)


def parse_origin(value: str) -> Origin | None:
    """The value of an `Origin` header (RFC 6454 section 7), OPAQUE for `null`; None if it is none: a path, a user, a
    list, an empty port, anything that a browser would not send.
    """
    if value == "null":
        return OPAQUE
    return _parse(value) if len(value) <= MAX_ORIGIN else None


class OriginPattern(NamedTuple):
    """`https://*.example.com`: every name below `example.com`, by whole labels and at least one; not itself."""

    scheme: str
    suffix: str
    port: int | None

    def matches(self, origin: Origin) -> bool:
        """Scheme and port are the pattern's, and the host ends with its labels."""
        return origin.scheme == self.scheme and origin.port == self.port and origin.host.endswith(self.suffix)


class OriginSet:
    """What the operator wrote: origins, patterns, `*`. Raises ValueError for a text that is none of them."""

    def __init__(self, texts: Iterable[str] = ()) -> None:
        exact: set[Origin] = set()
        patterns: list[OriginPattern] = []
        self.any = False
        for text in texts:
            match = _PATTERN.fullmatch(text.lower())
            if text == ANY:
                self.any = True
            elif match is not None:
                scheme, base, port = match.groups()
                number = DEFAULT_PORTS.get(scheme) if port is None else int(port)
                patterns.append(OriginPattern(scheme, f".{base}", number))
            else:
                origin = parse_origin(text)
                if origin is None or origin.opaque:
                    raise ValueError(text)
                exact.add(origin)
        self._exact = frozenset(exact)
        self._patterns = tuple(patterns)

    def names(self, origin: Origin) -> bool:
        """Whether the origin was written, or falls under a pattern; `*` names nobody. Never true of `null`."""
        return origin in self._exact or any(pattern.matches(origin) for pattern in self._patterns)

    def allows(self, origin: Origin) -> bool:
        """Whether the origin is named, or `*` stands there. Never true of `null`, which every page can make."""
        return not origin.opaque and (self.any or self.names(origin))


class OwnOrigin:
    """Which origin is the gateway's own: the one that the client asked for, or that of `gateway.publicUrl`."""

    def __init__(self, public_url: str | None = None) -> None:
        scheme, _, rest = (public_url or "").partition("://")
        self._public = parse_origin(f"{scheme}://{rest.partition('/')[0]}")

    def is_own(self, exchange: Exchange, origin: Origin) -> bool:
        """Whether a page of this origin was served where the request went.

        A browser that says `Sec-Fetch-Site: same-origin` from an https page whose request came in without TLS has
        spoken to a proxy that ends TLS: only the scheme differs then, and pages cannot write that header.
        """
        if origin.opaque:
            return False
        authority = exchange.outer_host or exchange.fields.get(b"host", b"").decode("latin-1")
        own = parse_origin(f"{'https' if exchange.secure else 'http'}://{authority}")
        if origin in (own, self._public):
            return True
        same_site = exchange.fields.get(b"sec-fetch-site") == b"same-origin"
        return same_site and not exchange.secure and origin == parse_origin(f"https://{authority}")


def read_origin(exchange: Exchange) -> tuple[str, Origin | None] | None:
    """The `Origin` of a request as it was written, and parsed (None: not an origin, or more than one). None: absent."""
    value = exchange.fields.get(b"origin")
    if value is None:
        return None
    text = value.decode("latin-1")
    if exchange.more and any(name == b"origin" for name, _ in exchange.more):
        return text, None
    return text, parse_origin(text)
