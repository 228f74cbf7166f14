"""One line of the journal for each request, refused ones too: JSON.

`time` is Unix time in seconds; `duration` and `firstByte` are milliseconds; `bytesIn` and `bytesOut` count bodies only.
`failure`, `detail` and `code` are absent when the call succeeded; `phase` tells a GET stream's two records apart;
`shadow` is what access rules on trial would have denied.
Credentials and header values are never part of it, and every text that a client or a backend chose has passed the
redactor. Of a call's arguments there is a digest; the arguments themselves (redacted) only if the operator wants so.
"""

from __future__ import annotations

import hashlib
import re

import msgspec

from moongate.audit.redact import RedactingFormatter
from moongate.model.exchange import Exchange

MAX_TEXT = 512
_JSON = msgspec.json.Encoder().encode
# W3C Trace Context, section 3.2.2: version, trace id, parent id, flags; later versions may add more.
_TRACEPARENT = re.compile(
    rb"(?!ff)(?P<version>[0-9a-f]{2})-(?P<trace>[0-9a-f]{32})-(?P<parent>[0-9a-f]{16})-[0-9a-f]{2}(?P<more>-.*)?"
)
_NO_TRACE, _NO_PARENT = b"0" * 32, b"0" * 16


class _Facts(msgspec.Struct, rename="camel", omit_defaults=True, gc=False):
    source: str
    instance: str
    http_method: str
    path: str
    principal: str
    token: str = ""
    token_fingerprint: str = ""
    token_header: str = ""
    trace_id: str = ""


class _Outcome(msgspec.Struct, rename="camel", omit_defaults=True, gc=False):
    code: int = 0
    failure: str = ""
    detail: str = ""
    phase: str = ""
    shadow: str = ""


def facts(exchange: Exchange) -> bytes:
    """The members that the request's head decides, without braces: the same for every request with the same head."""
    principal = exchange.principal
    again = RedactingFormatter.redactor.again
    return _JSON(
        _Facts(
            source=exchange.source,
            instance=exchange.route,
            http_method=again(exchange.method, MAX_TEXT)[:32],
            path=again(exchange.path, MAX_TEXT),
            principal=principal.name,
            token=principal.token or "",
            token_fingerprint=exchange.token_print,
            token_header=exchange.token_header,
            trace_id=_trace_id(exchange),
        )
    )[1:-1]


def _trace_id(exchange: Exchange) -> str:
    header = exchange.fields.get(b"traceparent")
    if header is None or any(name == b"traceparent" for name, _ in exchange.more):
        return ""
    found = _TRACEPARENT.fullmatch(header)
    if found is None or found["trace"] == _NO_TRACE or found["parent"] == _NO_PARENT:
        return ""
    if found["version"] == b"00" and found["more"] is not None:
        return ""
    return found["trace"].decode()


def arguments(raw: msgspec.Raw | bytes | None, *, whole: bool = False) -> bytes:
    """What a record says of a call's arguments: the first 16 hex digits of the SHA-256 of their JSON as it was sent.

    `whole`: and the arguments without secrets, as a text.
    """
    if not raw:
        return b""
    digest = b',"argumentsDigest":"%b"' % hashlib.sha256(raw).hexdigest()[:16].encode()
    if not whole:
        return digest
    return b'%b,"arguments":%b' % (digest, _JSON(RedactingFormatter.redactor.arguments(raw)))


def encode(exchange: Exchange, now: float, phase: str = "", known: bytes | None = None) -> bytes:
    """One line, with its line end. `now` is monotonic, of the clock of `exchange.started`; `known` are its `facts`."""
    started = exchange.started
    redactor = RedactingFormatter.redactor
    encoded = redactor.encoded
    outcome = b""
    if exchange.failure is not None or phase or exchange.rpc_code or exchange.shadow:
        failure = "" if exchange.failure is None else exchange.failure.value
        detail = redactor.short(exchange.detail, MAX_TEXT) if exchange.detail else ""
        shadow = redactor.short(exchange.shadow, MAX_TEXT) if exchange.shadow else ""
        outcome = b"," + _JSON(_Outcome(exchange.rpc_code or 0, failure, detail, phase, shadow))[1:-1]
    return (
        b'{"time":%.6f,"requestId":"%b",%b,"status":%d,"duration":%.3f,"firstByte":%.3f,'
        b'"method":%b,"target":%b,"revision":%b,"client":%b,"bytesIn":%d,"bytesOut":%d%b%b}\n'
    ) % (
        exchange.time,
        exchange.request_id.encode(),
        facts(exchange) if known is None else known,
        exchange.status,
        (now - started) * 1e3,
        (exchange.first_byte - started) * 1e3 if exchange.first_byte else 0.0,
        encoded(exchange.rpc_method, MAX_TEXT),
        encoded(exchange.rpc_target, MAX_TEXT),
        encoded(exchange.revision, 32),
        encoded(exchange.client, 128),
        exchange.bytes_in,
        exchange.bytes_out,
        exchange.arguments,
        outcome,
    )
