"""Finding records again in the database, newest first or oldest first, in pages or as a stream.

A filter finds its zones first (see `tables`), ordered by time; their records are read a few zones at a time, and one
leaves as soon as no later zone can hold one that comes before it. So nothing is read that is not needed, and never more
than a little is held.
"""

from __future__ import annotations

import base64
import binascii
import struct
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, NamedTuple

from moongate.audit.filters import Filter, Test, check_filter, tests, times, zone_condition
from moongate.audit.rows import ALL_COLUMNS, Row, to_record
from moongate.audit.storing import rows_of
from moongate.audit.tables import ZONE_BITS
from moongate.store.engine import Store

__all__ = ["Filter", "Page", "between", "check_filter", "find", "one", "stream"]

LIMIT = 100
MAX_LIMIT = 1000
_ZONES_AT_ONCE = 2000
_MOST_ZONES = 32
_MANY_ROWS = 2000
_COLUMNS = ", ".join(ALL_COLUMNS)
_CURSOR = struct.Struct(">?qq")
# Where the id, the time stand in a row.
_ID, _TIME = 0, 1


class _Place(NamedTuple):
    """A record's place in the order."""

    time: int
    id: int


@dataclass(frozen=True, slots=True)
class Page:
    """Some records, and the cursor of the page that follows (None: there is none)."""

    items: list[dict[str, Any]]
    next: str | None


async def find(
    store: Store, wanted: Filter, limit: int = LIMIT, cursor: str | None = None, ascending: bool = False
) -> Page:
    """One page, newest first unless `ascending`. Raises ValueError (filter, cursor, limit), StoreAway."""
    if not 1 <= limit <= MAX_LIMIT:
        raise ValueError(f"limit: {limit} is not between 1 and {MAX_LIMIT}")
    rows: list[Row] = []
    async with aclosing(_rows(store, wanted, _read_cursor(cursor, ascending=ascending), ascending=ascending)) as found:
        async for row in found:
            rows.append(row)
            if len(rows) > limit:
                break
    follows = None
    if len(rows) > limit:
        last = rows[limit - 1]
        follows = base64.urlsafe_b64encode(_CURSOR.pack(ascending, last[_TIME], last[_ID])).rstrip(b"=").decode()
    return Page([to_record(row) for row in rows[:limit]], follows)


async def stream(
    store: Store, wanted: Filter, ascending: bool = False, limit: int = 0
) -> AsyncIterator[dict[str, Any]]:
    """All records, or the first `limit`, in little memory. Raises ValueError, StoreAway."""
    count = 0
    async with aclosing(_rows(store, wanted, None, ascending=ascending)) as found:
        async for row in found:
            yield to_record(row)
            count += 1
            if count == limit:
                return


async def one(store: Store, request_id: str) -> list[dict[str, Any]]:
    """The records of one request, in their order: a stream has two, an array one for each message."""
    return [record async for record in stream(store, Filter(request_id=request_id), ascending=True)]


async def between(store: Store, wanted: Filter, first: int, last: int) -> list[dict[str, Any]]:
    """The records from one row id to another that fit, in the order in which they were written."""
    low, high = times(wanted)
    rows = await _Reader(store, tests(wanted), low, high).read_range(first, last)
    return [to_record(row) for row in sorted(rows)]


def _read_cursor(cursor: str | None, *, ascending: bool) -> _Place | None:
    if cursor is None:
        return None
    try:
        direction, time, place = _CURSOR.unpack(base64.b64decode(_padded(cursor), altchars=b"-_", validate=True))
    except (binascii.Error, struct.error, ValueError):
        raise ValueError("cursor: this is none of ours; leave it out to begin at the beginning") from None
    if direction != ascending:
        raise ValueError("cursor: it belongs to the other direction; leave it out to begin at the beginning")
    return _Place(time, place)


def _padded(text: str) -> str:
    return text + "=" * (-len(text) % 4)


async def _rows(store: Store, wanted: Filter, after: _Place | None, *, ascending: bool) -> AsyncGenerator[Row]:
    conditions = tests(wanted)
    low, high = times(wanted)
    if after is not None:
        low, high = (max(low, after.time), high) if ascending else (low, min(high, after.time + 1))
    reader = _Reader(store, conditions, low, high)
    if wanted.request_id is not None:  # has an index of its own
        for row in _ordered(await reader.read([]), after, ascending=ascending):
            yield row
        return
    waiting: list[Row] = []
    zones = _Zones(reader, ascending=ascending)
    count = 1
    while group := await zones.take(count):
        fresh = await reader.read([zone for zone, _ in group])
        waiting = _ordered(waiting + fresh, after, ascending=ascending)
        border = await zones.border()
        ready = len(waiting) if border is None else _ready(waiting, border, ascending=ascending)
        for row in waiting[:ready]:
            yield row
        del waiting[:ready]
        count = max(1, count // 2) if len(fresh) > _MANY_ROWS else min(_MOST_ZONES, count * 2)


def _ordered(rows: list[Row], after: _Place | None, *, ascending: bool) -> list[Row]:
    if after is not None:
        rows = [row for row in rows if (_place(row) > after if ascending else _place(row) < after)]
    return sorted(rows, key=_place, reverse=not ascending)


def _ready(waiting: Sequence[Row], border: int, *, ascending: bool) -> int:
    """How many come before everything that begins at `border`."""
    count = 0
    for row in waiting:
        if (row[_TIME] >= border) if ascending else (row[_TIME] <= border):
            break
        count += 1
    return count


def _place(row: Row) -> tuple[int, int]:
    return row[_TIME], row[_ID]


class _Reader:
    """Reads what fits the conditions, from `low` to before `high`."""

    def __init__(self, store: Store, conditions: Sequence[Test], low: int, high: int) -> None:
        self.store = store
        self.low = low
        self.high = high
        self.conditions = conditions

    async def read(self, zones: Sequence[int]) -> list[Row]:
        """The records in these zones; none named: in all."""
        return await self._read([(low << ZONE_BITS, ((high + 1) << ZONE_BITS) - 1) for low, high in _ranges(zones)])

    async def read_range(self, first: int, last: int) -> list[Row]:
        """The records from one id to another."""
        return await self._read([(first, last)])

    async def _read(self, ranges: Sequence[tuple[int, int]]) -> list[Row]:
        sql = ["time >= ?", "time < ?", *(test.sql for test in self.conditions)]
        values: list[object] = [self.low, self.high]
        values += [value for test in self.conditions for value in test.values]
        if ranges:
            sql.insert(0, "(" + " OR ".join(["id BETWEEN ? AND ?"] * len(ranges)) + ")")
            values[:0] = [end for both in ranges for end in both]
        query = f"SELECT {_COLUMNS} FROM audit_records WHERE {' AND '.join(sql)}"  # noqa: S608 - values are apart
        async with self.store.read() as connection:
            found = await rows_of(self.store, connection, query, values)
        checks = [test.holds for test in self.conditions if test.holds is not None]
        return [row for row in found if all(holds(row) for holds in checks)] if checks else found


def _ranges(zones: Sequence[int]) -> list[tuple[int, int]]:
    """First and last of those that follow each other."""
    found: list[tuple[int, int]] = []
    for zone in sorted(zones):
        if found and found[-1][1] == zone - 1:
            found[-1] = (found[-1][0], zone)
        else:
            found.append((zone, zone))
    return found


class _Zones:
    """The zones that may hold what is wanted, in the order of their latest time (or of their earliest)."""

    def __init__(self, reader: _Reader, *, ascending: bool) -> None:
        self._reader = reader
        self._ascending = ascending
        self._known: list[tuple[int, int]] = []
        self._last: tuple[int, int] | None = None
        self._all = False

    async def take(self, count: int) -> list[tuple[int, int]]:
        """The next zones, each with its time; fewer at the end."""
        await self._fill(count)
        taken = self._known[:count]
        del self._known[:count]
        return taken

    async def border(self) -> int | None:
        """The time of the next one; None if there is none."""
        await self._fill(1)
        return self._known[0][1] if self._known else None

    async def _fill(self, count: int) -> None:
        if self._all or len(self._known) >= count:
            return
        reader = self._reader
        column, compare, order = ("low", ">", "ASC") if self._ascending else ("high", "<", "DESC")
        sql, values = zone_condition(reader.conditions)
        parts = ["z.high >= ?", "z.low < ?", *([sql] if sql else [])]
        values = [reader.low, reader.high, *values]
        if self._last is not None:
            zone, time = self._last
            parts.append(f"(z.{column} {compare} ? OR (z.{column} = ? AND z.zone {compare} ?))")
            values += [time, time, zone]
        query = (
            f"SELECT z.zone, z.{column} FROM audit_zones z WHERE {' AND '.join(parts)}"  # noqa: S608 - values are apart
            f" ORDER BY z.{column} {order}, z.zone {order} LIMIT {_ZONES_AT_ONCE}"
        )
        async with reader.store.read() as connection:
            found = await rows_of(reader.store, connection, query, values)
        self._known += [(zone, time) for zone, time in found]
        self._all = len(found) < _ZONES_AT_ONCE
        if found:
            self._last = (found[-1][0], found[-1][1])
