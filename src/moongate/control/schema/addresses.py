"""Addresses that operators write: backends' URLs, host names, the public URL (RFC 3986, RFC 9110 section 4.2)."""

from __future__ import annotations

import base64
import ipaddress
import re
from dataclasses import dataclass
from typing import Literal
from urllib.parse import quote, unquote_to_bytes

from moongate.control.schema.values import refusal

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^/?#]*)(.*)\Z", re.DOTALL)
_CONTROL_OR_SPACE = re.compile(r"[\x00-\x20\x7f-\xa0\u1680\u2000-\u200f\u2028-\u202f\u205f-\u2064\u3000\ufeff]")
_NEVER_IN_URL = re.compile(r'["<>\\^`{|}]')
# Bits before the IPv4 address in an IPv6 address that maps one.
_MAPPED = 96
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\Z")
# IDNA 2003, which the standard library has, and IDNA 2008 read these differently: another host might be reached.
_DEVIATIONS = frozenset("\u00df\u03c2\u200c\u200d\u1e9e")
_ASCII_PRINTABLE = "".join(map(chr, range(0x21, 0x7F)))
MAX_HOST = 253
MAX_PORT = 65_535


@dataclass(frozen=True, slots=True)
class Address:
    """Where a backend is. `path` is origin-form with its query; `basic` is the credential that stood in the URL."""

    scheme: Literal["http", "https"]
    host: str
    port: int
    path: str
    basic: str | None = None


def parse_url(text: str) -> Address:
    """An absolute http(s) URL; raises a refusal that names the reason."""
    if not text:
        raise refusal("is empty; write an address such as http://127.0.0.1:9000/mcp")
    if _CONTROL_OR_SPACE.search(text):
        raise refusal("an address cannot hold spaces, line breaks or control characters")
    match = _URL.match(text)
    if match is None:
        raise refusal(
            "is not a full address; write scheme, host and path, such as https://example.com/mcp, found {found}"
        )
    scheme = match.group(1).lower()
    if scheme not in {"http", "https"}:
        raise refusal("only http:// and https:// can be called, found {found}")
    if "#" in match.group(3):
        raise refusal("an address cannot have a fragment (#...); remove it or write %23")
    path = _path(match.group(3))
    userinfo, at, authority = match.group(2).rpartition("@")
    host, port = _host_and_port(authority)
    basic = _basic(userinfo) if at else None
    secure = scheme == "https"
    return Address("https" if secure else "http", host, port or (443 if secure else 80), path, basic)


def _path(rest: str) -> str:
    if _NEVER_IN_URL.search(rest):
        raise refusal(
            'the characters "<>\\^`{|} cannot stand in an address; percent-encode them, or fill in the <placeholder>'
        )
    if _BAD_ESCAPE.search(rest):
        raise refusal("after % two hexadecimal digits are expected; a literal % is written %25")
    path = rest if rest.startswith("/") else "/" + rest
    return quote(path, safe=_ASCII_PRINTABLE)


def _host_and_port(authority: str) -> tuple[str, int | None]:
    literal = re.fullmatch(r"(\[[^\]]*\])(?::(.*))?", authority)
    host, colon, port = (
        authority.partition(":") if literal is None else (literal.group(1), literal.group(2), literal.group(2))
    )
    if literal is None and authority.count(":") > 1:
        raise refusal("an IPv6 address stands in brackets, such as http://[::1]:9000/mcp")
    if not host:
        raise refusal("the host is missing; write an address such as http://127.0.0.1:9000/mcp")
    has_port = bool(colon) if literal is None else colon is not None
    return parse_host(host), parse_port(port or "") if has_port else None


def parse_port(text: str) -> int:
    """The digits after the colon."""
    if not re.fullmatch(r"[0-9]{1,5}", text) or not 0 < int(text) <= MAX_PORT:
        raise refusal(
            "the port must be a number from 1 to 65535, after a single colon (IPv6 addresses stand in [brackets])"
        )
    return int(text)


def parse_host(text: str) -> str:
    """A DNS name in A-label form, lower case, or an IP literal without brackets."""
    if text.startswith("["):
        return _ipv6(text)
    if ":" in text:
        raise refusal("must be a host name without port, or an IPv6 address in brackets, such as [::1]")
    if "%" in text:
        raise refusal("a host name cannot hold %")
    name = (text.removesuffix(".")).lower()
    if re.fullmatch(r"[0-9]+|0x[0-9a-f]*", name.rpartition(".")[2]):
        return _ipv4(name)
    if not name.isascii():
        name = _a_label(name)
    if len(name) > MAX_HOST or not all(_LABEL.match(label) for label in name.split(".")):
        raise refusal("is not a host name: letters, digits, '-' and '_' in parts of 1 to 63, separated by dots")
    return name


def _ipv4(name: str) -> str:
    try:
        return str(ipaddress.IPv4Address(name))
    except ValueError as error:
        raise refusal("is not an IPv4 address; write four numbers from 0 to 255") from error


def _ipv6(text: str) -> str:
    try:
        address = ipaddress.IPv6Address(text[1:-1] if text.endswith("]") else "")
    except ValueError as error:
        raise refusal("is not an IPv6 address; write one such as [2001:db8::1]") from error
    if address.scope_id is not None:
        raise refusal("an IPv6 address with a zone (%...) cannot be used; write a name or an address without zone")
    return str(address)


def _a_label(name: str) -> str:
    if _DEVIATIONS & set(name):
        raise refusal("this host name has letters that programs read differently; write it in its ASCII form (xn--...)")
    try:
        return name.encode("idna").decode("ascii").lower()
    except UnicodeError as error:
        raise refusal("is not an international host name; write it in its ASCII form (xn--...)") from error


def _basic(userinfo: str) -> str:
    """The Basic credential (RFC 7617) of the user and password in front of the @."""
    if "@" in userinfo or _BAD_ESCAPE.search(userinfo):
        raise refusal("in the user and password of an address @ is written %40 and % is written %25")
    user, _, password = userinfo.partition(":")
    decoded = [unquote_to_bytes(part) for part in (user, password)]
    if any(byte < 0x20 or byte == 0x7F for part in decoded for byte in part) or b":" in decoded[0]:
        raise refusal(
            "the user in an address cannot hold a colon or control characters, nor can the password hold the latter"
        )
    credential = base64.b64encode(b":".join(decoded)).decode("ascii")
    return f"Basic {credential}"


def parse_hostname(text: str) -> str:
    """A listener's or route's hostname: exact, or `*.example.com`."""
    if text == "*":
        raise refusal("* alone is not needed: leave hostname out for any name")
    if "*" in text:
        if not text.startswith("*.") or "*" in text[2:]:
            raise refusal("a wildcard is one leading *., such as *.example.com, found {found}")
        return "*." + parse_host(text[2:])
    return parse_host(text)


def parse_network(text: str) -> str:
    """An address, or a network in CIDR form. Raises a refusal."""
    try:
        network = ipaddress.ip_network(text, strict=True)
    except ValueError as error:
        message = "must be an address or a network such as 10.0.0.0/8 (no bits set after the prefix), found {found}"
        raise refusal(message) from error
    mapped = getattr(network.network_address, "ipv4_mapped", None)
    if mapped is not None and network.prefixlen >= _MAPPED:
        short = f"10.0.0.0/{network.prefixlen - _MAPPED}" if network.prefixlen < network.max_prefixlen else "10.0.0.1"
        raise refusal(
            f"is IPv4 in the form of IPv6, which no address has here; write it as in {short}, found {{found}}"
        )
    return text
