"""One line of the journal for each request, refused ones too: JSON.

`time` is Unix time in seconds; `duration` and `firstByte` are milliseconds; `bytesIn` and `bytesOut` count bodies only.
`failure`, `detail` and `code` are absent when the call succeeded; `phase` tells a GET stream's two records apart.
Arguments, credentials and header values are never part of it.
"""

from __future__ import annotations

import msgspec

from moongate.model.exchange import Exchange

MAX_TEXT = 512
_JSON = msgspec.json.Encoder().encode


class _Facts(msgspec.Struct, rename="camel", omit_defaults=True, gc=False):
    source: str
    instance: str
    http_method: str
    path: str
    principal: str
    token: str = ""
    token_header: str = ""


class _Outcome(msgspec.Struct, rename="camel", omit_defaults=True, gc=False):
    code: int = 0
    failure: str = ""
    detail: str = ""
    phase: str = ""


def facts(exchange: Exchange) -> bytes:
    """The members that the request's head decides, without braces: the same for every request with the same head."""
    principal = exchange.principal
    return _JSON(
        _Facts(
            source=exchange.source,
            instance=exchange.route,
            http_method=exchange.method,
            path=exchange.path[:MAX_TEXT],
            principal=principal.name,
            token=principal.token or "",
            token_header=exchange.token_header,
        )
    )[1:-1]


def encode(exchange: Exchange, now: float, phase: str = "", known: bytes | None = None) -> bytes:
    """One line, with its line end. `now` is monotonic, of the clock of `exchange.started`; `known` are its `facts`."""
    started = exchange.started
    outcome = b""
    if exchange.failure is not None or phase or exchange.rpc_code:
        failure = "" if exchange.failure is None else exchange.failure.value
        encoded = _JSON(_Outcome(exchange.rpc_code or 0, failure, exchange.detail[:MAX_TEXT], phase))
        outcome = b"," + encoded[1:-1]
    return (
        b'{"time":%.6f,"requestId":"%b",%b,"status":%d,"duration":%.3f,"firstByte":%.3f,'
        b'"method":%b,"target":%b,"revision":%b,"client":%b,"bytesIn":%d,"bytesOut":%d%b}\n'
    ) % (
        exchange.time,
        exchange.request_id.encode(),
        facts(exchange) if known is None else known,
        exchange.status,
        (now - started) * 1e3,
        (exchange.first_byte - started) * 1e3 if exchange.first_byte else 0.0,
        _JSON(exchange.rpc_method[:MAX_TEXT]),
        _JSON(exchange.rpc_target[:MAX_TEXT]),
        _JSON(exchange.revision[:32]),
        _JSON(exchange.client),
        exchange.bytes_in,
        exchange.bytes_out,
        outcome,
    )
