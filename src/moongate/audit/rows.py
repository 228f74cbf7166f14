"""A line of the journal as a row of the database, and a row as the record that people read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

MICRO = 1_000_000
# Well inside of what databases hold, so that borders of times can lie beyond.
BIGGEST = 2**62 - 1
_STATUS_LIMIT = 2**15 - 1


class _Line(msgspec.Struct, rename="camel", gc=False):
    """What a line of the journal has. `lost`: no record, but how many could not be written before it."""

    time: float
    request_id: str = ""
    trace_id: str = ""
    source: str = ""
    instance: str = ""
    http_method: str = ""
    path: str = ""
    principal: str = ""
    token: str = ""
    token_fingerprint: str = ""
    token_header: str = ""
    status: int = 0
    duration: float = 0.0
    first_byte: float = 0.0
    method: str = ""
    target: str = ""
    revision: str = ""
    client: str = ""
    bytes_in: int = 0
    bytes_out: int = 0
    arguments_digest: str = ""
    arguments: str = ""
    code: int | float = 0
    failure: str = ""
    detail: str = ""
    phase: str = ""
    shadow: str = ""
    lost: int = 0


class _Strict(_Line, rename="camel", forbid_unknown_fields=True, gc=False):
    pass


_DECODE = msgspec.json.Decoder(_Strict).decode
_DECODE_NEWER = msgspec.json.Decoder(_Line).decode
_KNOWN = frozenset(_Line.__struct_encode_fields__)
# In the order of a Row; `id` stands before, the hash after them.
COLUMNS = (
    *("time", "request_id", "trace_id", "source", "instance", "http_method", "path", "principal", "token"),
    *(
        "token_fingerprint",
        "token_header",
        "status",
        "duration",
        "first_byte",
        "method",
        "target",
        "revision",
        "client",
    ),
    *("bytes_in", "bytes_out", "arguments_digest", "arguments", "code", "failure", "detail", "phase", "shadow", "more"),
)
ALL_COLUMNS = ("id", *COLUMNS, "hash")
PLACE = {name: place for place, name in enumerate(COLUMNS)}
_CAMEL = tuple(name.split("_")[0] + "".join(map(str.title, name.split("_")[1:])) for name in COLUMNS)
_MILLISECONDS = frozenset({"duration", "firstByte"})
# Left out of a record where they are empty.
_OPTIONAL = frozenset(
    {"traceId", "token", "tokenFingerprint", "tokenHeader", "argumentsDigest", "arguments", "code", "failure"}
    | {"detail", "phase", "shadow"}
)

Row = tuple[Any, ...]


class Lost(NamedTuple):
    """A line that says that records could not be written."""

    records: int


def read_line(line: bytes) -> Row | Lost | None:
    """The values of `COLUMNS`; None if the line is no record (torn, or not ours). Raises nothing."""
    more = ""
    try:
        try:
            found: _Line = _DECODE(line)
        except msgspec.ValidationError:  # members that this version does not know are kept as they are
            found, more = _DECODE_NEWER(line), _unknown(line)
        if not found.request_id:
            return Lost(min(found.lost, BIGGEST)) if found.lost > 0 else None
        row = _row(found, more)
    except (ValueError, OverflowError, RecursionError):  # msgspec's errors are ValueErrors
        return None
    return row if b"\\u0000" not in line and _fits(row) else tuple(map(_fitting, row, COLUMNS))


def _row(found: _Line, more: str) -> Row:
    return (
        round(found.time * MICRO),
        found.request_id[:64],
        found.trace_id[:32],
        found.source,
        found.instance,
        found.http_method,
        found.path,
        found.principal,
        found.token,
        found.token_fingerprint,
        found.token_header,
        found.status,
        round(found.duration * 1000),
        round(found.first_byte * 1000),
        found.method,
        found.target,
        found.revision,
        found.client,
        found.bytes_in,
        found.bytes_out,
        found.arguments_digest,
        found.arguments,
        found.code.__trunc__(),
        found.failure,
        found.detail,
        found.phase,
        found.shadow,
        more,
    )


def _fits(row: Row) -> bool:
    numbers: tuple[int, ...] = (row[0], row[12], row[13], row[18], row[19], row[22])
    return abs(int(row[11])) <= _STATUS_LIMIT and min(numbers) >= -BIGGEST and max(numbers) <= BIGGEST


def _unknown(line: bytes) -> str:
    members = msgspec.json.decode(line)
    unknown = {name: value for name, value in members.items() if name not in _KNOWN}
    return msgspec.json.encode(unknown).decode()


def _fitting(value: Any, name: str) -> Any:  # noqa: ANN401 - text or number
    """What every database can hold: PostgreSQL knows no NUL in texts, and numbers have their sizes."""
    if isinstance(value, str):
        return value.replace("\0", "\ufffd").replace("\\u0000", "\\ufffd")
    biggest = _STATUS_LIMIT if name == "status" else BIGGEST
    return max(-biggest, min(value, biggest))


def to_record(row: Sequence[Any]) -> dict[str, Any]:
    """A row of the database (`ALL_COLUMNS`) as the record that the journal held, with the row's `id`."""
    record: dict[str, Any] = {"id": str(row[0])}
    for name, value in zip(_CAMEL, row[1:-1], strict=True):
        if name == "time":
            record[name] = value / MICRO
        elif name in _MILLISECONDS:
            record[name] = value / 1000
        elif name == "more":
            if value:
                record.update(msgspec.json.decode(value))
        elif value or name not in _OPTIONAL:
            record[name] = value
    return record
