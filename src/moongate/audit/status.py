"""How the audit trail is: what was recorded, moved, lost and removed."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from moongate.audit.batch import Position
from moongate.audit.chain import Section
from moongate.audit.rows import MICRO
from moongate.audit.segments import journal_id, segment_number, segments
from moongate.audit.storing import one_state, read_positions, read_sections, rows_of
from moongate.store.engine import Store


async def status(store: Store, directory: Path) -> dict[str, Any]:
    """Camel-case JSON. `waitingBytes`: in the journal of `directory` (None for other gateways'). Raises StoreAway."""
    own = await asyncio.to_thread(_own, directory)
    journals: list[dict[str, Any]] = []
    async with store.read() as connection:
        await one_state(store, connection)
        for position in await read_positions(store, connection):
            sections = await read_sections(store, connection, position.number, position.journal)
            journals.append(_journal(position, sections, own))
        span = await rows_of(store, connection, "SELECT min(low), max(high) FROM audit_zones")
    oldest, newest = span[0]
    if own is not None and all(journal["journal"] != own[0] for journal in journals):
        journals.append(_journal(Position(0, own[0]), [], own))
    return {
        "records": sum(journal["records"] for journal in journals),
        "lost": sum(journal["lost"] for journal in journals),
        "damaged": sum(journal["damaged"] for journal in journals),
        "waitingBytes": next((journal["waitingBytes"] for journal in journals if journal["here"]), 0),
        "oldest": None if oldest is None else oldest / MICRO,
        "newest": None if newest is None else newest / MICRO,
        "journals": journals,
    }


def _journal(
    position: Position, sections: list[Section], own: tuple[str, list[tuple[int, int]]] | None
) -> dict[str, Any]:
    here = own is not None and own[0] == position.journal
    waiting = None
    if own is not None and here:
        # A power cut may have taken the end of what was read.
        waiting = sum(
            max(0, size - position.place) if number == position.segment else size
            for number, size in own[1]
            if number >= position.segment
        )
    removed = sum(section.removed for section in sections)
    head = sections[-1] if sections else None
    return {
        "journal": position.journal,
        "here": here,
        "ingested": position.records,
        "records": position.records - removed,
        "removed": removed,
        "damaged": position.damaged,
        "lost": position.lost,
        "missingSegments": position.missing_segments,
        "waitingBytes": waiting,
        "bytes": sum(section.size * (section.count - section.removed) // section.count for section in sections),
        "days": len({section.day for section in sections}),
        "head": None if head is None else {"day": head.day, "records": head.last, "hash": head.head.hex()},
    }


def _own(directory: Path) -> tuple[str, list[tuple[int, int]]] | None:
    """The journal's name, and its segments with their sizes; None if there is none."""
    if not directory.is_dir():
        return None
    sizes = []
    for path in segments(directory):
        try:
            sizes.append((segment_number(path), path.stat().st_size))
        except FileNotFoundError:
            continue
    return journal_id(directory), sizes
