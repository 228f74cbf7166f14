"""Finding the records of one request in the journal's files: all that is there without a database."""

from __future__ import annotations

import mmap
import os
import re
from pathlib import Path
from typing import Any

import msgspec

from moongate.audit.segments import segments

REQUEST_ID = re.compile(r"[0-9a-f]{12,40}", re.ASCII)
# A request whose message was an array has a record for each element.
MAX_RECORDS = 200


def find_records(directory: Path, request_id: str) -> list[dict[str, Any]]:
    """The records of one request in the order in which they were written; empty if there are none (any more).

    A stream has one of its beginning and one of its end, an array one for each message. Raises OSError, ValueError if
    the id cannot be one.
    """
    if REQUEST_ID.fullmatch(request_id) is None:
        message = "a request id is made of 20 hexadecimal digits"
        raise ValueError(message)
    wanted = b'"requestId":"%b"' % request_id.encode("ascii")
    found: list[dict[str, Any]] = []
    for path in segments(directory):
        try:
            file = path.open("rb")
        except FileNotFoundError:  # it has just been moved to the database
            continue
        with file:
            if os.fstat(file.fileno()).st_size:
                with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
                    found += _records(text, wanted)
    return found[:MAX_RECORDS]


def _records(text: mmap.mmap, wanted: bytes) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    position = text.find(wanted)
    while position >= 0 and len(found) < MAX_RECORDS:
        start, end = text.rfind(b"\n", 0, position) + 1, text.find(b"\n", position)
        end = len(text) if end < 0 else end
        try:
            record = msgspec.json.decode(text[start:end])
        except (msgspec.DecodeError, UnicodeDecodeError):  # a line that a crash tore
            record = None
        # The id may also stand in a path that somebody asked for.
        if isinstance(record, dict) and wanted.endswith(b':"%b"' % str(record.get("requestId")).encode()):
            found.append(record)
        position = text.find(wanted, end)
    return found
