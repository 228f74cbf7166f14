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
from typing import Final

import msgspec

from moongate.audit.redact import RedactingFormatter
from moongate.model.exchange import Exchange

MAX_TEXT: Final = 512
_JSON: Final = msgspec.json.Encoder().encode
# W3C Trace Context, section 3.2.2: version, trace id, parent id, flags; later versions may add more.
_TRACEPARENT = re.compile(
    rb"(?!ff)(?P<version>[0-9a-f]{2})-(?P<trace>[0-9a-f]{32})-(?P<parent>[0-9a-f]{16})-[0-9a-f]{2}(?P<more>-.*)?"
)
_DIGITS: Final = [b"%03d" % number for number in range(1000)]
_DECIMALS: Final = [b"%d" % number for number in range(1000)]
_NO_TRACE, _NO_PARENT = b"0" * 32, b"0" * 16


def facts(exchange: Exchange) -> bytes:
    """The members that the request's head decides, without braces: the same for every request with the same head."""
    principal = exchange.principal
    again = RedactingFormatter.redactor.again
    optional = {
        "token": principal.token,
        "tokenFingerprint": exchange.token_print,
        "tokenHeader": exchange.token_header,
        "traceId": _trace_id(exchange),
    }
    members = {
        "source": exchange.source,
        "instance": exchange.route,
        "httpMethod": again(exchange.method, MAX_TEXT)[:32],
        "path": again(exchange.path, MAX_TEXT),
        "principal": principal.name,
        **{name: value for name, value in optional.items() if value},
    }
    return _JSON(members)[1:-1]


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


def arguments(raw: msgspec.Raw | None, *, whole: bool = False) -> bytes:
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
        said = {"code": exchange.rpc_code, "failure": failure, "detail": detail, "phase": phase, "shadow": shadow}
        members = {name: value for name, value in said.items() if value}
        outcome = b"," + _JSON(members)[1:-1] if members else b""
    # Whole numbers of microseconds, and only bytes to be joined: formatting floats costs more than all the rest.
    return (
        b'{"time":%b,"requestId":"%b",%b,"status":%b,"duration":%b,"firstByte":%b,'
        b'"method":%b,"target":%b,"revision":%b,"client":%b,"bytesIn":%b,"bytesOut":%b%b%b}\n'
    ) % (
        _seconds(exchange.time),
        exchange.request_id.encode(),
        facts(exchange) if known is None else known,
        _decimal(exchange.status),
        _milliseconds(now - started),
        _milliseconds(exchange.first_byte - started) if exchange.first_byte else b"0.000",
        encoded(exchange.rpc_method, MAX_TEXT),
        encoded(exchange.rpc_target, MAX_TEXT),
        encoded(exchange.revision, 32),
        encoded(exchange.client, 128),
        _decimal(exchange.bytes_in),
        _decimal(exchange.bytes_out),
        exchange.arguments,
        outcome,
    )


def _seconds(time: float) -> bytes:
    """Unix time with six digits."""
    micros = int(time * 1e6 + 0.5)
    seconds, rest = micros // 1_000_000, micros % 1_000_000
    return b"%b.%b%b" % (_decimal(seconds), _DIGITS[rest // 1000], _DIGITS[rest % 1000])


def _milliseconds(seconds: float) -> bytes:
    """A duration with three digits."""
    micros = int(seconds * 1e6 + 0.5)
    return b"%b.%b" % (_decimal(micros // 1000), _DIGITS[micros % 1000])


def _decimal(number: int) -> bytes:
    return _DECIMALS[number] if 0 <= number < 1000 else b"%d" % number
