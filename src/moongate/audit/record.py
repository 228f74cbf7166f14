"""One line of the journal for each request, refused ones too: JSON, in the order of the fields below.

`time` is Unix time in seconds; `duration` and `firstByte` are milliseconds; `bytesIn` and `bytesOut` count bodies only.
Arguments, credentials and header values are never part of it.
"""

from __future__ import annotations

import msgspec

from moongate.model.exchange import Exchange


class Record(msgspec.Struct, rename="camel", omit_defaults=True, gc=False):
    """What is kept. `failure` and `detail` are absent when the call succeeded; `phase` tells a GET stream's two records."""

    time: float
    request_id: str
    source: str
    instance: str
    http_method: str
    path: str
    status: int
    duration: float
    first_byte: float = 0.0
    principal: str = ""
    token: str = ""
    token_header: str = ""
    method: str = ""
    target: str = ""
    revision: str = ""
    client: str = ""
    code: int = 0
    failure: str = ""
    detail: str = ""
    bytes_in: int = 0
    bytes_out: int = 0
    phase: str = ""


_ENCODE = msgspec.json.Encoder().encode
MAX_TEXT = 512


def encode(exchange: Exchange, now: float, phase: str = "") -> bytes:
    """One line, with its line end. `now` is monotonic, of the clock of `exchange.started`."""
    principal = exchange.principal
    return _ENCODE(
        Record(
            time=exchange.time,
            request_id=exchange.request_id,
            source=exchange.source,
            instance=exchange.route,
            http_method=exchange.method,
            path=exchange.path[:MAX_TEXT],
            status=exchange.status,
            duration=int((now - exchange.started) * 1e6) / 1000,
            first_byte=int((exchange.first_byte - exchange.started) * 1e6) / 1000 if exchange.first_byte else 0.0,
            principal=principal.name,
            token=principal.token or "",
            token_header=exchange.token_header,
            method=exchange.rpc_method[:MAX_TEXT],
            target=exchange.rpc_target[:MAX_TEXT],
            revision=exchange.revision[:32],
            client=exchange.client,
            code=exchange.rpc_code or 0,
            failure=exchange.failure.value if exchange.failure is not None else "",
            detail=exchange.detail[:MAX_TEXT],
            bytes_in=exchange.bytes_in,
            bytes_out=exchange.bytes_out,
            phase=phase,
        )
    ) + b"\n"
