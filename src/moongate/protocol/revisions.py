"""Which revision of MCP speaks, and what its headers must say (2026-07-28: transports, section on standard headers).

Revisions are dates, so they compare as text. Up to 2025-11-25 a session is opened by `initialize` (legacy); from
2026-07-28 on every request stands alone and mirrors parts of its body in headers (modern).
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping, Sequence

from moongate.errors import FailureClass, Refusal
from moongate.protocol.jsonrpc import (
    CAPABILITIES_KEY,
    HEADER_MISMATCH,
    INVALID_PARAMS,
    VERSION_KEY,
    Envelope,
)
from moongate.protocol.methods import method_named

FIRST_MODERN = "2026-07-28"
BATCHES = "2025-03-26"

_DATE = re.compile(rb"\d{4}-\d{2}-\d{2}")
_SENTINEL = re.compile(rb"=\?base64\?([A-Za-z0-9+/]*={0,2})\?=")
_MIRRORS = (b"mcp-protocol-version", b"mcp-method", b"mcp-name")


def is_modern(header: bytes | None, envelope: Envelope | None) -> bool:
    """Whether a request is of the stateless era: by its version header, or by the version in its `_meta`."""
    if header is not None and _DATE.fullmatch(header) and header >= FIRST_MODERN.encode():
        return True
    return (
        envelope is not None
        and envelope.meta is not None
        and VERSION_KEY in envelope.meta
        and envelope.version is not None
        and envelope.version >= FIRST_MODERN
    )


def check_mirrors(fields: Mapping[bytes, bytes], more: Sequence[tuple[bytes, bytes]], envelope: Envelope) -> None:
    """Headers and body of a modern request must agree. Raises Refusal (400; -32602 `_meta`, -32020 headers)."""
    if more and any(name in _MIRRORS for name, _ in more):
        raise _mismatch("a routing header stands more than once")
    meta = envelope.meta
    if envelope.is_request and (meta is None or VERSION_KEY not in meta or CAPABILITIES_KEY not in meta):
        text = f"_meta must hold {VERSION_KEY} and {CAPABILITIES_KEY}"
        raise Refusal(FailureClass.BAD_REQUEST, text, code=INVALID_PARAMS, text=text)
    version = fields.get(b"mcp-protocol-version")
    if envelope.version is not None and version != envelope.version.encode():
        raise _mismatch("MCP-Protocol-Version and _meta differ")
    if not envelope.method:
        return
    if fields.get(b"mcp-method") != envelope.method.encode():
        raise _mismatch("Mcp-Method and the method of the body differ")
    name = fields.get(b"mcp-name")
    if method_named(envelope.method).mirrored:
        if name is None or envelope.target is None or decode_value(name) != envelope.target:
            raise _mismatch("Mcp-Name and the name in the body differ")
    elif name is not None and envelope.target is not None and decode_value(name) != envelope.target:
        raise _mismatch("Mcp-Name and the name in the body differ")


def decode_value(value: bytes) -> str | None:
    """A mirrored header value: plain, or base64 of UTF-8 between `=?base64?` and `?=`. None: it cannot be decoded."""
    sentinel = _SENTINEL.fullmatch(value)
    try:
        if sentinel is not None:
            decoded = base64.b64decode(sentinel[1], validate=True)
            return decoded.decode() if base64.b64encode(decoded) == sentinel[1] else None
        return value.decode("ascii")
    except (binascii.Error, UnicodeDecodeError):
        return None


def _mismatch(text: str) -> Refusal:
    return Refusal(FailureClass.BAD_REQUEST, text, code=HEADER_MISMATCH, text=f"Header mismatch: {text}")
