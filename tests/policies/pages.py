"""What a browser makes of header lines: the client's side of the Fetch standard's CORS protocol, for tables."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

SAFELISTED_METHODS = {"GET", "HEAD", "POST"}
SAFELISTED_RESPONSE = {
    *("cache-control", "content-language", "content-length", "content-type", "expires", "last-modified", "pragma")
}
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")


@dataclass(frozen=True)
class Page:
    """A page of an origin, and whether it calls in the credentials mode `include`."""

    origin: str
    credentials: bool = False

    def may_read(self, lines: bytes) -> bool:
        """The CORS check (section 4.10)."""
        fields = read_lines(lines)
        allowed = fields.get("access-control-allow-origin", [])
        if allowed == ["*"] and not self.credentials:
            return True
        if allowed != [self.origin]:
            return False
        return not self.credentials or fields.get("access-control-allow-credentials") == ["true"]

    def may_send(self, status: int, lines: bytes, method: str, headers: Iterable[str] = ()) -> bool:
        """The end of the CORS-preflight fetch (section 4.8). `headers`: names that are not safelisted."""
        if not self.may_read(lines) or not 200 <= status <= 299:
            return False
        fields = read_lines(lines)
        methods = _list(fields.get("access-control-allow-methods", []))
        names = [name.lower() for name in _list(fields.get("access-control-allow-headers", []))]
        any_method, any_name = not self.credentials and "*" in methods, not self.credentials and "*" in names
        if method not in SAFELISTED_METHODS and method not in methods and not any_method:
            return False
        return all(name.lower() in names or (any_name and name.lower() != "authorization") for name in headers)

    def sees(self, lines: bytes, name: str) -> bool:
        """Whether a readable response's header is exposed (sections 3.3.4 and 4.1)."""
        exposed = [item.lower() for item in _list(read_lines(lines).get("access-control-expose-headers", []))]
        star = "*" in exposed and not self.credentials
        return self.may_read(lines) and (star or name.lower() in exposed or name.lower() in SAFELISTED_RESPONSE)


def read_lines(lines: bytes) -> dict[str, list[str]]:
    """Header lines by lower-case name. Fails on what is none."""
    found: dict[str, list[str]] = {}
    for line in lines.decode("ascii").split("\r\n")[:-1]:
        name, colon, value = line.partition(": ")
        assert colon, line
        assert _TOKEN.match(name), line
        assert "\n" not in value, line
        assert "\r" not in value, line
        found.setdefault(name.lower(), []).append(value)
    assert lines.endswith(b"\r\n") or not lines
    return found


def _list(values: list[str]) -> list[str]:
    items = [item.strip() for value in values for item in value.split(",")]
    assert all(_TOKEN.match(item) for item in items), values
    return items
