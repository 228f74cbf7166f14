"""Removes the oldest records: those over an age, and as many as are over a size. In small transactions.

The chain stays whole: of each day a sealed note says how many records were removed, and which hash the last of them
had. A size is that of the records as text, as the journal had them; what the database needs beside is about as much as
it saves.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncConnection

from moongate.audit.chain import Section, key_id
from moongate.audit.rows import MICRO
from moongate.audit.storing import changed, read_positions, read_sections, rows_of
from moongate.audit.tables import PLACE_BITS, ZONE_BITS
from moongate.store.engine import Store
from moongate.store.failing import StoreAway

log = logging.getLogger(__name__)

AT_ONCE = 2000
EVERY_SECONDS = 600.0
_FIRST_SECONDS = 5.0


async def keep(
    store: Store, keys: Sequence[bytes], keep_seconds: float, keep_bytes: int | None, every: float = EVERY_SECONDS
) -> None:
    """Apply retention again and again until cancelled. `keys` are the chain's, that in use first."""
    await asyncio.sleep(min(_FIRST_SECONDS, every))
    while True:
        try:
            removed = await apply_retention(store, keys, keep_seconds, keep_bytes)
        except StoreAway as error:
            log.warning("old audit records stay for now: %s", error)
        else:
            if removed:
                log.info("%d old audit records were removed", removed)
        await asyncio.sleep(every)


async def apply_retention(
    store: Store,
    keys: Sequence[bytes],
    keep_seconds: float,
    keep_bytes: int | None = None,
    now: float | None = None,
) -> int:
    """How many records were removed. `now` is Unix time (None: it is). Raises StoreAway."""
    cutoff = (time.time() if now is None else now) - keep_seconds
    removed = 0
    kept: list[tuple[str, int, Section]] = []
    for number, section in await _sections(store):
        target = await _aged(store, number, section, cutoff)
        left, count = await _remove(store, keys, number, section, target)
        removed += count
        if left.removed < left.count:
            kept.append((left.day, number, left))
    if keep_bytes is None:
        return removed
    total = sum(_size(section) for _, _, section in kept)
    for _, number, section in sorted(kept, key=lambda item: item[:2]):
        if total <= keep_bytes:
            break
        size = _size(section)
        each = max(1, section.size // section.count)
        over = min(section.count - section.removed, -(-(total - keep_bytes) // each))
        left, count = await _remove(store, keys, number, section, section.removed + over)
        removed += count
        total -= size - _size(left)
    return removed


async def _sections(store: Store) -> list[tuple[int, Section]]:
    """All that still have records, with the number of their journal."""
    found: list[tuple[int, Section]] = []
    async with store.read() as connection:
        for position in await read_positions(store, connection):
            sections = await read_sections(store, connection, position.number, position.journal)
            found += [(position.number, section) for section in sections if section.removed < section.count]
    return found


def _size(section: Section) -> int:
    """What is left of its bytes."""
    return section.size * (section.count - section.removed) // max(section.count, 1)


async def _aged(store: Store, number: int, section: Section, cutoff: float) -> int:
    """How many records at the beginning of a section are older than `cutoff`."""
    try:
        begin = datetime.fromisoformat(f"{section.day}T00:00:00+00:00")
        limit = datetime.fromtimestamp(cutoff, UTC)
    except (ValueError, OverflowError, OSError):
        return section.removed
    if begin + timedelta(days=1) <= limit:
        return section.count
    if begin > limit:
        return section.removed
    base = number << PLACE_BITS
    async with store.read() as connection:
        found = await rows_of(
            store,
            connection,
            "SELECT min(id) FROM audit_records WHERE id BETWEEN ? AND ? AND time >= ?",
            (base + section.first + section.removed, base + section.last, int(cutoff * MICRO)),
        )
    young = found[0][0]
    return section.count if young is None else young - base - section.first


async def _remove(
    store: Store, keys: Sequence[bytes], number: int, section: Section, target: int
) -> tuple[Section, int]:
    """Remove from the beginning until `target` are removed; the section as it is then, and how many it were."""
    key = next((key for key in keys if key_id(key) == section.key_id), keys[0])
    begun = section.removed
    base = number << PLACE_BITS
    while section.removed < target:
        goal = min(target, section.removed + AT_ONCE)
        last = base + section.first + goal - 1
        async with store.write(quiet=True) as connection:
            found = await rows_of(store, connection, "SELECT hash FROM audit_records WHERE id = ?", (last,))
            if not found:  # tampered with: what is there goes, and the chain will say so
                log.error("audit record %d of %s is missing; see moongate audit verify", last - base, section.journal)
            head = bytes(found[0][0]) if found else b""
            after = replace(section, removed=goal, removed_head=head)
            moved = await changed(
                store,
                connection,
                "UPDATE audit_sections SET removed = ?, removed_head = ?, removed_seal = ?"
                " WHERE journal = ? AND number = ? AND removed = ?",
                (goal, head, after.removed_seal(key), number, section.number, section.removed),
            )
            if moved != 1:  # another process removes too
                break
            await _delete(store, connection, base + section.first + section.removed, last)
        section = after
        await asyncio.sleep(0)
    return section, section.removed - begun


async def _delete(store: Store, connection: AsyncConnection, first: int, last: int) -> None:
    """Records from one id to another, and the zones that have none left then; never the one that is being filled."""
    await changed(store, connection, "DELETE FROM audit_records WHERE id BETWEEN ? AND ?", (first, last))
    begin, end = first >> ZONE_BITS, (last + 1) >> ZONE_BITS
    # The first one may still have records of the day before.
    left = await rows_of(
        store,
        connection,
        "SELECT count(*) FROM (SELECT 1 FROM audit_records WHERE id BETWEEN ? AND ? LIMIT 1) AS found",
        (begin << ZONE_BITS, first),
    )
    for table in ("audit_zones", "audit_terms"):
        sql = f"DELETE FROM {table} WHERE zone >= ? AND zone < ?"  # noqa: S608 - one of two names
        await changed(store, connection, sql, (begin + left[0][0], end))
