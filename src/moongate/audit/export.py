"""Records as files: one JSON object a line, or CSV that a spreadsheet does not run."""

from __future__ import annotations

import csv as table
import io
from collections.abc import AsyncIterator, Callable
from typing import Any, NamedTuple

import msgspec

Records = AsyncIterator[dict[str, Any]]

COLUMNS = (
    *("time", "requestId", "traceId", "source", "instance", "httpMethod", "path", "principal", "token"),
    *("tokenFingerprint", "tokenHeader", "status", "duration", "firstByte", "method", "target", "revision", "client"),
    *("bytesIn", "bytesOut", "argumentsDigest", "arguments", "code", "failure", "detail", "phase", "shadow", "id"),
)
# A cell that begins so is a formula to a spreadsheet (OWASP: CSV injection).
_FORMULAS = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
_ROWS_AT_ONCE = 200


async def jsonl(records: Records) -> AsyncIterator[bytes]:
    """A JSON object a line."""
    async for record in records:
        yield msgspec.json.encode(record) + b"\n"


async def csv(records: Records) -> AsyncIterator[bytes]:
    """RFC 4180 with a header line; what would be a formula begins with an apostrophe."""
    text = io.StringIO(newline="")
    writer = table.writer(text)
    writer.writerow(COLUMNS)
    count = 0
    async for record in records:
        writer.writerow([_cell(record.get(name, "")) for name in COLUMNS])
        count += 1
        if count % _ROWS_AT_ONCE == 0:
            yield text.getvalue().encode()
            text.seek(0)
            text.truncate()
    yield text.getvalue().encode()


def _cell(value: object) -> object:
    if isinstance(value, str) and value.startswith(_FORMULAS):
        return f"'{value}"
    return value


class Format(NamedTuple):
    """`write` makes bytes of records; `media` is their type (RFC 6838)."""

    media: str
    write: Callable[[Records], AsyncIterator[bytes]]


FORMATS = {"jsonl": Format("application/jsonl", jsonl), "csv": Format("text/csv; charset=utf-8", csv)}
