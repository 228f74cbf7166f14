"""Headers that mirror the body of a modern request (2026-07-28: transports, section on standard headers).

The other direction of `revisions.check_mirrors`: what a client writes. Nothing that a body holds can end a header line.
"""

from __future__ import annotations

import base64
import re

from moongate.protocol.jsonrpc import Envelope
from moongate.protocol.methods import method_named

_PLAIN = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")
_SENTINEL = "=?base64?"


def encode_value(text: str) -> bytes:
    """A header value: as it is where it is visible ASCII, otherwise base64 of its UTF-8 between `=?base64?` and `?=`.

    What looks like the encoded form is encoded too, so that nothing is decoded that was not meant to be.
    """
    if _PLAIN.fullmatch(text) and not text.startswith(_SENTINEL):
        return text.encode("ascii")
    return b"=?base64?%b?=" % base64.b64encode(text.encode("utf-8", "surrogatepass"))


def mirror_lines(envelope: Envelope) -> bytes:
    """The header lines that a modern message carries: version, method, and the name where the method has one."""
    lines = b""
    if envelope.version is not None:
        lines += b"mcp-protocol-version: %b\r\n" % encode_value(envelope.version)
    if envelope.method:
        lines += b"mcp-method: %b\r\n" % encode_value(envelope.method)
        if envelope.target is not None and method_named(envelope.method).mirrored:
            lines += b"mcp-name: %b\r\n" % encode_value(envelope.target)
    return lines
