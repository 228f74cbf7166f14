"""The database side of ingesting: where a journal stands, and one batch in one transaction. The driver's own SQL."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Float, String, bindparam, or_, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from moongate.audit.batch import Batch, Position
from moongate.audit.chain import Section
from moongate.audit.rows import ALL_COLUMNS
from moongate.audit.tables import PLACE_BITS
from moongate.store.engine import Store
from moongate.store.tables import tokens

log = logging.getLogger(__name__)

# Told, in the transaction of a batch, which tokens were used and when (Unix time).
TokenUse = Callable[[AsyncConnection, Mapping[str, float]], Awaitable[None]]

_SECTION = (
    *("journal", "number", "day", "key_id", "first", "last", "size", "start", "head", "seal"),
    *("removed", "removed_head", "removed_seal"),
)


def numbered(store: Store, sql: str) -> str:
    """`sql` with `?` for each value, as the driver of the store wants it."""
    if store.dialect == "sqlite":
        return sql
    pieces = sql.split("?")
    return "".join(f"{piece}${place}" for place, piece in enumerate(pieces[:-1], 1)) + pieces[-1]


async def rows_of(
    store: Store, connection: AsyncConnection, sql: str, values: Sequence[object] = ()
) -> list[tuple[Any, ...]]:
    """What a query finds."""
    found = await connection.exec_driver_sql(numbered(store, sql), tuple(values))
    return [tuple(row) for row in found.all()]


async def one_state(store: Store, connection: AsyncConnection) -> None:
    """All that this transaction reads from now on is as it is now; has to be its first statement."""
    if store.dialect == "postgresql":
        await connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")


async def changed(store: Store, connection: AsyncConnection, sql: str, values: Sequence[object] = ()) -> int:
    """How many rows a statement has changed."""
    done = await connection.exec_driver_sql(numbered(store, sql), tuple(values))
    return int(done.rowcount)


class RacedError(Exception):
    """Another process has moved the journal on meanwhile; nothing was written."""


async def read_positions(store: Store, connection: AsyncConnection, journal: str | None = None) -> list[Position]:
    """Where all journals stand (or one), without their sections."""
    sql = (
        "SELECT number, id, segment, place, records, sections, damaged, lost, missing_segments, seal"
        " FROM audit_journals"
    )
    if journal is None:
        found = await rows_of(store, connection, f"{sql} ORDER BY number")
    else:
        found = await rows_of(store, connection, f"{sql} WHERE id = ?", (journal,))
    return [replace(Position(*row[:-1]), stored_seal=bytes(row[-1])) for row in found]


async def read_position(store: Store, journal: str) -> Position | None:
    """Where a journal stands; None if it was never read. Raises StoreAway."""
    async with store.read() as connection:
        found = await read_positions(store, connection, journal)
        if not found:
            return None
        [position] = found
        sections = await read_sections(store, connection, position.number, journal, only=position.sections)
    return replace(position, section=sections[0] if sections else None)


async def read_sections(
    store: Store, connection: AsyncConnection, number: int, journal: str, only: int | None = None
) -> list[Section]:
    """The sections of a journal in their order, or `only` the one with this number."""
    sql = f"SELECT {', '.join(_SECTION)} FROM audit_sections WHERE journal = ?"  # noqa: S608 - names of columns
    values: tuple[int, ...] = (number,)
    if only is not None:
        sql, values = f"{sql} AND number = ?", (number, only)
    found = []
    for row in await rows_of(store, connection, f"{sql} ORDER BY number", values):
        number_, day, key, first, last, size, start, head, seal, removed, removed_head, removed_seal = row[1:]
        section = Section(journal, number_, day, key, first, last, size, bytes(start), bytes(head), removed)
        section.removed_head, section.stored_seal = bytes(removed_head), bytes(seal)
        section.stored_removed_seal = bytes(removed_seal)
        found.append(section)
    return found


async def begin_journal(store: Store, journal: str, key: bytes, begin: tuple[int, int] = (0, 0)) -> Position:
    """Make its row. `begin`: the segment, and the place in it, where it begins; what was before it is damage. Raises
    StoreAway.
    """
    segment, place = begin
    while True:
        try:
            async with store.write(quiet=True) as connection:
                highest = await rows_of(store, connection, "SELECT coalesce(max(number), 0) FROM audit_journals")
                position = Position(highest[0][0] + 1, journal, segment, place, damaged=int(segment > 0))
                await changed(
                    store,
                    connection,
                    "INSERT INTO audit_journals (number, id, segment, place, records, sections, damaged, lost,"
                    " missing_segments, seal) VALUES (?, ?, ?, ?, 0, 0, ?, 0, 0, ?)",
                    (position.number, journal, segment, place, position.damaged, position.seal(key)),
                )
        except IntegrityError:  # another process was faster: with this journal, or with this number
            known = await read_position(store, journal)
            if known is not None:
                return known
        else:
            return position


_MOMENT = bindparam("moment", type_=Float)
_TOUCH = (
    update(tokens)
    .where(
        tokens.c.id == bindparam("token", type_=String), or_(tokens.c.last_used.is_(None), tokens.c.last_used < _MOMENT)
    )
    .values(last_used=_MOMENT)
)


async def touch_tokens(connection: AsyncConnection, used: Mapping[str, float]) -> None:
    """Notes in the store's own tokens when each was last used; those of files are not there, and are left out."""
    if used:
        # In one order, so that two that do so at once do not wait for each other.
        values = [{"token": token, "moment": moment} for token, moment in sorted(used.items())]
        await connection.execute(_TOUCH, values)


async def write_batch(store: Store, before: Position, batch: Batch, key: bytes, used: TokenUse) -> None:
    """All of a batch, or nothing. Raises RacedError, StoreAway."""
    async with store.write(quiet=True) as connection:
        await _move(store, connection, before, batch.after, key)
        if batch.rows:
            await _make_room(store, connection, before, batch, key)
            await _insert(store, connection, batch)
            await _insert_sections(store, connection, before.number, batch.sections, key)
        if batch.used:
            await used(connection, batch.used)


async def _move(store: Store, connection: AsyncConnection, before: Position, after: Position, key: bytes) -> None:
    moved = await changed(
        store,
        connection,
        "UPDATE audit_journals SET segment = ?, place = ?, records = ?, sections = ?, damaged = ?, lost = ?,"
        " missing_segments = ?, seal = ? WHERE number = ? AND segment = ? AND place = ? AND records = ?",
        (
            *(after.segment, after.place, after.records, after.sections, after.damaged, after.lost),
            *(after.missing_segments, after.seal(key), before.number, before.segment, before.place, before.records),
        ),
    )
    if moved != 1:
        raise RacedError


async def _make_room(store: Store, connection: AsyncConnection, before: Position, batch: Batch, key: bytes) -> None:
    """Rows that somebody else has put where these belong go: after the end of the chain there is nothing of ours.

    That they were there is counted as damage, and the seal of the journal says for ever that it was changed.
    """
    base = before.number << PLACE_BITS
    found = await rows_of(
        store,
        connection,
        "SELECT id FROM audit_records WHERE id BETWEEN ? AND ? LIMIT 1",
        (batch.rows[0][0], batch.rows[-1][0]),
    )
    if not found:
        return
    removed = await changed(
        store,
        connection,
        "DELETE FROM audit_records WHERE id BETWEEN ? AND ?",
        (base + before.records + 1, base + (1 << PLACE_BITS) - 1),
    )
    log.error(
        "somebody has put %d rows after the end of the chain of journal %s, from record %d on; they were removed,"
        " because records belong there; moongate audit verify will say so",
        removed,
        before.journal,
        found[0][0] - base,
    )
    batch.after = replace(batch.after, damaged=batch.after.damaged + removed, intact=False)
    await changed(
        store,
        connection,
        "UPDATE audit_journals SET damaged = ?, seal = ? WHERE number = ?",
        (batch.after.damaged, batch.after.seal(key), before.number),
    )


async def _insert(store: Store, connection: AsyncConnection, batch: Batch) -> None:
    if store.dialect == "postgresql":
        raw: Any = (await connection.get_raw_connection()).driver_connection
        await raw.copy_records_to_table("audit_records", records=batch.rows, columns=ALL_COLUMNS)
    else:
        marks = ", ".join("?" * len(ALL_COLUMNS))
        sql = f"INSERT INTO audit_records ({', '.join(ALL_COLUMNS)}) VALUES ({marks})"  # noqa: S608 - names of columns
        await connection.exec_driver_sql(sql, batch.rows)
    await connection.exec_driver_sql(
        numbered(
            store,
            "INSERT INTO audit_zones (zone, low, high) VALUES (?, ?, ?) ON CONFLICT (zone) DO UPDATE SET"
            " low = CASE WHEN excluded.low < audit_zones.low THEN excluded.low ELSE audit_zones.low END,"
            " high = CASE WHEN excluded.high > audit_zones.high THEN excluded.high ELSE audit_zones.high END",
        ),
        [tuple(zone) for zone in batch.zones],
    )
    if batch.terms:
        await connection.exec_driver_sql(
            numbered(store, "INSERT INTO audit_terms (term, zone) VALUES (?, ?) ON CONFLICT DO NOTHING"), batch.terms
        )


async def _insert_sections(
    store: Store, connection: AsyncConnection, number: int, sections: Sequence[Section], key: bytes
) -> None:
    marks = ", ".join("?" * len(_SECTION))
    sql = (
        f"INSERT INTO audit_sections ({', '.join(_SECTION)}) VALUES ({marks}) ON CONFLICT (journal, number)"  # noqa: S608 - names of columns
        " DO UPDATE SET last = excluded.last, size = excluded.size, head = excluded.head, seal = excluded.seal"
    )
    for section in sections:
        place = (number, section.number, section.day, section.key_id, section.first, section.last, section.size)
        kept = (section.removed, section.removed_head, section.removed_seal(key) if section.removed else b"")
        await changed(store, connection, sql, (*place, section.start, section.head, section.seal(key), *kept))
