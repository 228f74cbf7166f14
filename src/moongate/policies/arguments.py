"""The arguments of a call, as conditions see them: read at once, and not at all where two readers might differ."""

from __future__ import annotations

import re
from typing import Annotated, Final, cast

import msgspec

MAX_ARGUMENTS: Final = 64 * 1024

_LEAST: Final = -(2**63)
_MOST: Final = 2**63 - 1
_LONG_NUMBER: Final = re.compile(rb"[0-9]{19}")
_MEMBERS: Final = msgspec.json.Decoder(dict[str, object])
# The usual arguments: nothing in them is nested, and 64 bits hold every number.
_Plain = dict[str, Annotated[int, msgspec.Meta(ge=_LEAST, le=_MOST)] | float | str | bool | None]
_PLAIN: Final[msgspec.json.Decoder[dict[str, object]]] = msgspec.json.Decoder(cast("type[dict[str, object]]", _Plain))
_UNREADABLE: Final = (msgspec.DecodeError, RecursionError, UnicodeDecodeError)


def read_arguments(written: msgspec.Raw) -> dict[str, object] | None:
    """Arguments as a condition sees them; None: none may judge them.

    That is what is too long, no object, holds a number that 64 bits cannot hold, or what two parsers could read
    differently: a member that stands twice, or two that differ only in case.
    """
    if len(written) > MAX_ARGUMENTS:
        return None
    raw = bytes(written)
    if not raw or raw == b"null":
        return {}
    try:
        found = _PLAIN.decode(raw)
    except _UNREADABLE:
        return _read_nested(raw)
    count = len(found)
    if count > 1:
        names = "".join(found)  # of lower-case names, which most are, no two differ only in case
        if not (names.isascii() and names == names.lower()) and len(set(map(str.casefold, found))) != count:
            return None
    return found if count == raw.count(b":") or count == _colons(raw) else None


def _read_nested(raw: bytes) -> dict[str, object] | None:
    try:
        found = _MEMBERS.decode(raw)
    except _UNREADABLE:
        return None
    count = _members(found, numbers=_LONG_NUMBER.search(raw) is not None)
    return found if count == raw.count(b":") or count == _colons(raw) else None


def _colons(raw: bytes) -> int:
    """How many there are outside of texts: one for each member, also for those that the decoder has left out."""
    return b"".join(raw.replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"')[::2]).count(b":")


def _members(found: dict[str, object], *, numbers: bool) -> int:
    """How many members there are on all levels; -1 if any value cannot be judged. `numbers`: some might be too long."""
    count = 0
    waiting: list[object] = [found]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            if len({key.casefold() for key in value}) != len(value):
                return -1
            count += len(value)
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value
        elif numbers and isinstance(value, int) and not _LEAST <= value <= _MOST:
            return -1
    return count
