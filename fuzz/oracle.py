"""An independent, strict reading of a client's bytes: which requests are in them, as RFC 9112 has it.

Written with regular expressions and without a line of the gateway's, so that the two can be compared: whatever reaches
a backend must be one of these requests, in this order.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_LINE = re.compile(rb"([A-Z]+) ([!-~]+) HTTP/1\.([01])\r\n")
_FIELD = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*)\r\n")
_SIZE = re.compile(rb"([0-9A-Fa-f]+)(?:[ \t]*;[\t\x20-\x7e]*)?\r\n")


class Sent(NamedTuple):
    """One request that a client has really sent."""

    method: str
    body: bytes


def requests(data: bytes) -> list[Sent]:
    """All whole requests up to the first byte that is not HTTP/1.1."""
    found: list[Sent] = []
    at = 0
    while True:
        while data.startswith(b"\r\n", at):
            at += 2
        line = _LINE.match(data, at)
        if line is None:
            return found
        at = line.end()
        fields: list[tuple[bytes, bytes]] = []
        while (field := _FIELD.match(data, at)) is not None:
            fields.append((field[1].lower(), field[2].rstrip(b" \t")))
            at = field.end()
        if not data.startswith(b"\r\n", at):
            return found
        framed = _body(data, at + 2, fields, line[3])
        if framed is None:
            return found
        body, at = framed
        found.append(Sent(line[1].decode(), body))
        options = b",".join(value for name, value in fields if name == b"connection").lower()
        if b"close" in [option.strip() for option in options.split(b",")]:
            return found


def _body(data: bytes, at: int, fields: list[tuple[bytes, bytes]], minor: bytes) -> tuple[bytes, int] | None:
    lengths = [value for name, value in fields if name == b"content-length"]
    codings = [value for name, value in fields if name == b"transfer-encoding"]
    if len(lengths) + len(codings) > 1:
        return None
    if codings:
        return _chunked(data, at) if codings[0].lower() == b"chunked" and minor == b"1" else None
    if not lengths:
        return b"", at
    if re.fullmatch(rb"[0-9]+", lengths[0]) is None:
        return None
    end = at + int(lengths[0])
    return (data[at:end], end) if end <= len(data) else None


def _chunked(data: bytes, at: int) -> tuple[bytes, int] | None:
    body = b""
    while (size := _SIZE.match(data, at)) is not None:
        at = size.end()
        length = int(size[1], 16)
        if not length:
            while (field := _FIELD.match(data, at)) is not None:
                at = field.end()
            return (body, at + 2) if data.startswith(b"\r\n", at) else None
        if data[at + length : at + length + 2] != b"\r\n":
            return None
        body += data[at : at + length]
        at += length + 2
    return None
