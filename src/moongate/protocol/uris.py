"""URIs of resources as access rules see them: one thing can be written in many ways, and readers differ in what they
make of some of them.

What every reader takes for the same has one canonical form. What one reads as another place than the next
(`/pub/../x?/../../pub`, `https:host`, `user@host`) cannot be judged: `doubt` says why.
"""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache
from urllib.parse import unquote

# Escapes within escapes: so many times a URI is decoded; what then still changes cannot be judged.
_ROUNDS = 3
_ENDS = "".join(map(chr, range(0x21)))
_DROPPED = str.maketrans("", "", "\t\r\n")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(.*)", re.DOTALL)
_AUTHORITY = re.compile(r"//([^/?#]*)(.*)", re.DOTALL)
_PORT = re.compile(r"(.*):([0-9]{0,9})", re.DOTALL)
_TAIL = re.compile(r"[?#]")
_PARTS = re.compile(r"[/?#]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_NUMBER = re.compile(r"[0-9]+|0[xX][0-9A-Fa-f]*")
_LOCAL = frozenset({"", "localhost", "127.0.0.1", "[::1]"})
# Of these, readers take any number of slashes, a user and the default port for the same address.
_PORTS = {"http": 80, "ws": 80, "https": 443, "wss": 443, "ftp": 21}


@lru_cache(maxsize=256)
def canonical(uri: str) -> str:
    """A URI in one form (RFC 3986 section 6.2): decoded, scheme and host in lower case, without default port, `.`, `..`
    and empty segments. Not to be sent to anybody.
    """
    text = _rounds(uri.strip(_ENDS).translate(_DROPPED))[-1].replace("\\", "/")
    scheme, host, rest = _parts(text)
    if not scheme:
        return text
    if host is None:
        start = f"{scheme}://" if scheme == "file" and rest.startswith("/") else f"{scheme}:"
    else:
        host = _without_port(scheme, host.lower())
        start = f"{scheme}://" + ("" if scheme == "file" and host in _LOCAL else host)
    path = _without_tail(rest)
    if not path and host and scheme in _PORTS:
        return f"{start}/{rest}"
    return start + _without_dots(path) + rest[len(path) :]


@lru_cache(maxsize=256)
def lookalikes(uri: str) -> tuple[str, ...]:
    """What a server may take a URI for that reads less of it: without query and fragment, and without the host of a
    `file:` URI.
    """
    whole = canonical(uri)
    found = [_without_tail(whole), canonical(_without_tail(uri))]
    for text in (whole, *found):
        scheme, host, rest = _parts(text)
        if scheme == "file" and host:
            found.append("file://" + (rest or "/"))
    return tuple(dict.fromkeys(text for text in found if text not in (uri, whole)))


@lru_cache(maxsize=256)
def doubt(uri: str) -> str:
    """Why two readers might not take a URI for the same; "" if they do. It is looked at as it came and decoded."""
    if uri != uri.strip():
        return "white space around it"
    rounds = _rounds(uri)
    if unquote(rounds[-1]) != rounds[-1]:
        return "escapes within escapes"
    if "\ufffd" in rounds[-1] and "\ufffd" not in uri:
        return "escapes that are no UTF-8"
    for text in rounds:
        if found := _doubt(text):
            return found
    return ""


def _doubt(text: str) -> str:
    if _CONTROL.search(text):
        return "a control character"
    if "\\" in text:
        return "a backslash"
    if any(part.partition(";")[0] in (".", "..") for part in _PARTS.split(text)):
        return "a segment . or .."
    scheme, host, rest = _parts(text)
    if found := _doubtful_host(scheme, host, rest):
        return found
    if host is None and scheme not in ("", "file"):
        return ""  # opaque, such as urn:a:b
    path = _without_tail(rest)
    # Where the path ends, readers see before they decode.
    if any(_has_gap(decoded, scheme) for decoded in _rounds(path)):
        return "an empty segment"
    return ""


def _doubtful_host(scheme: str, host: str | None, rest: str) -> str:
    if scheme == "file":
        if host is None and not rest.startswith("/"):
            return "no / after file:"
        return "a user in its address" if "@" in (host or "") else ""
    if scheme not in _PORTS:
        return ""
    if not host:
        return f"something else than {scheme}://HOST"
    if "@" in host:
        return "a user in its address"
    name = (_PORT.fullmatch(host) or (host, host))[1]
    if not name.isascii() or name.endswith(".") or not _plain_number(name):
        return "a host that can be written otherwise"
    return ""


def _plain_number(name: str) -> bool:
    """Whether a host that is an address is written in the usual way; True for a name."""
    literal = name.startswith("[")
    if not literal and not _NUMBER.fullmatch(name.rpartition(".")[2]):
        return True
    try:
        return str(ipaddress.ip_address(name[1:-1] if literal else name)) == name.strip("[]").lower()
    except ValueError:
        return False


def _has_gap(path: str, scheme: str) -> bool:
    """Whether a path has an empty segment that is not its last. In other schemes than `file` a URL may stand in it."""
    segments = path.split("/")[1 if path.startswith("/") else 0 : -1]
    before = ""
    for segment in segments:
        if not segment and (scheme == "file" or not before.endswith(":")):
            return True
        before = segment
    return False


def _rounds(text: str) -> list[str]:
    """A text as it came, and decoded again and again."""
    found = [text]
    while len(found) <= _ROUNDS and "%" in found[-1] and (decoded := unquote(found[-1])) != found[-1]:
        found.append(decoded)
    return found


def _parts(text: str) -> tuple[str, str | None, str]:
    """Scheme ("": none), authority (None: none) and what follows."""
    found = _SCHEME.fullmatch(text)
    if found is None:
        return "", None, text
    authority = _AUTHORITY.fullmatch(found[2])
    if authority is None:
        return found[1].lower(), None, found[2]
    return found[1].lower(), authority[1], authority[2]


def _without_port(scheme: str, host: str) -> str:
    found = _PORT.fullmatch(host)
    if found is None or scheme not in _PORTS:
        return host
    if not found[2] or int(found[2]) == _PORTS[scheme]:
        return found[1]
    return f"{found[1]}:{int(found[2])}"


def _without_tail(text: str) -> str:
    """Without query and fragment."""
    return _TAIL.split(text, maxsplit=1)[0]


def _without_dots(path: str) -> str:
    if "/" not in path:
        return path
    rooted = path.startswith("/")
    segments = path.split("/")[1 if rooted else 0 :]
    kept: list[str] = []
    for segment in segments:
        if segment == "..":
            del kept[-1:]
        elif segment not in {"", "."}:
            kept.append(segment)
    if segments[-1] in {"", ".", ".."}:
        kept.append("")
    return ("/" if rooted else "") + "/".join(kept)
