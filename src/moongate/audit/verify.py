"""Goes through all chains and finds what was changed, removed, inserted or re-ordered; says which day and record."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from moongate.audit.batch import Position
from moongate.audit.chain import HASH_BYTES, Section, key_id, link
from moongate.audit.rows import ALL_COLUMNS, PLACE, Row
from moongate.audit.storing import one_state, read_positions, read_sections, rows_of
from moongate.audit.tables import PLACE_BITS, ZONE_BITS
from moongate.audit.zones import Zones, many
from moongate.store.engine import Store

MAX_FINDINGS = 100
_ZONES_AT_ONCE = 8
_COLUMNS = ", ".join(ALL_COLUMNS)
_REQUEST = PLACE["request_id"] + 1


@dataclass(frozen=True, slots=True)
class Finding:
    """Something wrong: in which journal, on which day, at which record of the chain (0: not at one), and what."""

    journal: str
    day: str
    record: int
    text: str


@dataclass(frozen=True, slots=True)
class Head:
    """The end of a chain. Kept elsewhere, it proves later that nothing before it was taken away."""

    journal: str
    day: str
    records: int
    hash: str


@dataclass(slots=True)
class Verification:
    """What was found; `removed` records were taken away by retention, which is no finding. At most `MAX_FINDINGS`."""

    records: int = 0
    removed: int = 0
    days: int = 0
    findings: list[Finding] = field(default_factory=list)
    heads: list[Head] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.findings

    def json(self) -> dict[str, Any]:
        """For programs."""
        return {"ok": self.ok, **asdict(self)}


async def verify(store: Store, keys: Sequence[bytes], heads: Sequence[str] = ()) -> Verification:
    """Check everything against the chain's keys (the one in use, and those of before).

    `heads` were kept elsewhere: `JOURNAL:RECORDS:HASH`. Raises ValueError if one is none, StoreAway.
    """
    wanted = [_read_head(head) for head in heads]
    found = Verification()
    async with store.read() as connection:
        positions = await read_positions(store, connection)
    for position in positions:
        journal = _Journal(store, {key_id(key): key for key in keys}, position.journal, found)
        await journal.check()
    await _strangers(store, {position.number for position in positions}, found)
    for head in wanted:
        await _compare(store, {position.journal: position for position in positions}, head, found)
    return found


def _read_head(text: str) -> Head:
    journal, _, rest = text.strip().partition(":")
    count, _, made = rest.partition(":")
    try:
        if len(bytes.fromhex(made)) == HASH_BYTES:
            return Head(journal, "", int(count), made.lower())
    except ValueError:
        pass
    raise ValueError(f"head: {text!r} is not JOURNAL:RECORDS:HASH, as moongate audit verify prints it")


async def _compare(store: Store, positions: dict[str, Position], head: Head, found: Verification) -> None:
    """Whether a head that was kept elsewhere is still part of its chain."""
    position = positions.get(head.journal)
    if position is None:
        found.findings.append(Finding(head.journal, "", head.records, "all of this journal was removed"))
        return
    async with store.read() as connection:
        sections = await read_sections(store, connection, position.number, position.journal)
        place = (position.number << PLACE_BITS) + head.records
        rows = await rows_of(store, connection, "SELECT hash FROM audit_records WHERE id = ?", (place,))
    section = next((section for section in sections if section.first <= head.records <= section.last), None)
    if section is None:
        text = "the chain ends before the head that was kept: its end was removed, or an earlier state brought back"
        found.findings.append(Finding(head.journal, "", head.records, text))
        return
    known = {section.last: section.head, section.first + section.removed - 1: section.removed_head}
    stored = bytes(rows[0][0]) if rows else known.get(head.records)
    if stored is not None and stored.hex() != head.hash:
        text = "the chain is not the one of the head that was kept"
        found.findings.append(Finding(head.journal, section.day, head.records, text))


async def _strangers(store: Store, known: set[int], found: Verification) -> None:
    """Records of no journal."""
    place = -1
    async with store.read() as connection:
        while True:
            rows = await rows_of(store, connection, "SELECT min(id) FROM audit_records WHERE id > ?", (place,))
            if rows[0][0] is None:
                return
            number = rows[0][0] >> PLACE_BITS
            if number not in known:
                found.findings.append(
                    Finding("", "", 0, f"there are records of a journal ({number}) that has no chain")
                )
            place = ((number + 1) << PLACE_BITS) - 1


class _Journal:
    """Checks one chain; adds to `found`."""

    def __init__(self, store: Store, keys: dict[str, bytes], journal: str, found: Verification) -> None:
        self._store = store
        self._keys = keys
        self._journal = journal
        self._found = found
        self._day = ""
        self._number = 0

    async def check(self) -> None:
        """The chain from its beginning to its head, as it stood when this began."""
        store = self._store
        async with store.read() as connection:
            await one_state(store, connection)
            [position] = await read_positions(store, connection, self._journal)
            sections = await read_sections(store, connection, position.number, self._journal)
            last = await rows_of(
                store,
                connection,
                "SELECT max(id) FROM audit_records WHERE id BETWEEN ? AND ?",
                (self._id(position, 0), self._id(position, (1 << PLACE_BITS) - 1)),
            )
        self._number = position.number
        before: Section | None = None
        for section in sections:
            self._day = section.day
            self._border(section, before)
            await self._section(section)
            before = section
        self._end(position, before)
        if last[0][0] is not None and last[0][0] > self._id(position, position.records):
            self._say(position.records + 1, "records were inserted after the end of the chain")
        self._found.days += len({section.day for section in sections})
        if before is not None:
            self._found.heads.append(Head(self._journal, before.day, before.last, before.head.hex()))

    def _say(self, record: int, text: str) -> None:
        if len(self._found.findings) < MAX_FINDINGS:
            self._found.findings.append(Finding(self._journal, self._day, record, text))

    @staticmethod
    def _id(position: Position, place: int) -> int:
        return (position.number << PLACE_BITS) + place

    def _border(self, section: Section, before: Section | None) -> None:
        """What is kept of a day, and how it follows the one before."""
        if section.number != (1 if before is None else before.number + 1):
            self._say(section.first, "a whole day before this one was removed")
        elif section.start != (b"" if before is None else before.stored_seal):
            self._say(section.first, "the day does not continue the one before")
        if section.first != (1 if before is None else before.last + 1):
            self._say(section.first, "records between this day and the one before were removed")
        key = self._keys.get(section.key_id)
        if key is None:
            self._say(section.first, f"the day was written with another key ({section.key_id}): give that one too")
            return
        if section.seal(key) != section.stored_seal:
            self._say(0, "what is kept of the day (first and last record, hashes, size) was changed")
        if section.removed and not any(
            section.removed_seal(known) == section.stored_removed_seal for known in self._keys.values()
        ):
            self._say(section.first, "the note of what retention has removed was changed")

    def _end(self, position: Position, last: Section | None) -> None:
        position = replace(position, section=last)
        reached = 0 if last is None else last.last
        if (0 if last is None else last.number) < position.sections or reached < position.records:
            self._say(reached, "the end of the chain was removed")
        elif not any(position.seal(key) == position.stored_seal for key in self._keys.values()):
            self._say(
                0,
                "what is kept of the journal as a whole (how far it was read, what was lost) was changed, or an earlier"
                " state was brought back",
            )

    async def _section(self, section: Section) -> None:
        """All records of a day; again if retention was faster."""
        key = self._keys.get(section.key_id)
        if key is None:
            return
        while True:
            said, counted = len(self._found.findings), self._found.records
            await self._records(section, key)
            if len(self._found.findings) == said:
                break
            async with self._store.read() as connection:
                [now] = await read_sections(self._store, connection, self._number, self._journal, only=section.number)
            if now.removed == section.removed:
                break
            del self._found.findings[said:]
            self._found.records = counted
            section = now
        self._found.removed += section.removed

    async def _records(self, section: Section, key: bytes) -> None:
        base = self._number << PLACE_BITS
        expected = section.first + section.removed
        head = section.removed_head if section.removed else section.start
        begin, end = base + section.first, base + section.last
        while begin <= end:
            border = min(end, (((begin >> ZONE_BITS) + _ZONES_AT_ONCE) << ZONE_BITS) - 1)
            rows, terms, zones = await self._read(begin, border)
            expected, head = await asyncio.to_thread(self._check_rows, rows, key, expected, head)
            self._check_zones(rows, terms, zones)
            begin = border + 1
        if expected <= section.last:
            self._say(expected, f"{section.last - expected + 1} records at the end of the day were removed")
        elif head != section.head:
            self._say(section.last, "the last record does not have the hash that is kept of the day")

    async def _read(
        self, begin: int, border: int
    ) -> tuple[list[Row], set[tuple[int, str]], dict[int, tuple[int, int]]]:
        """Records, terms and zones from one id to another."""
        store = self._store
        zones = (begin >> ZONE_BITS, border >> ZONE_BITS)
        async with store.read() as connection:
            await one_state(store, connection)
            rows = await rows_of(
                store,
                connection,
                f"SELECT {_COLUMNS} FROM audit_records WHERE id BETWEEN ? AND ? ORDER BY id",  # noqa: S608 - names of columns
                (begin, border),
            )
            terms = await rows_of(
                store, connection, "SELECT zone, term FROM audit_terms WHERE zone BETWEEN ? AND ?", zones
            )
            spans = await rows_of(
                store, connection, "SELECT zone, low, high FROM audit_zones WHERE zone BETWEEN ? AND ?", zones
            )
        return rows, {(zone, term) for zone, term in terms}, {zone: (low, high) for zone, low, high in spans}

    def _check_rows(self, rows: list[Row], key: bytes, expected: int, head: bytes) -> tuple[int, bytes]:
        """Hashes and places; returns what is expected next."""
        base = self._number << PLACE_BITS
        made = link(key, head, [row[1:-1] for row in rows])
        self._found.records += len(rows)
        if [row[0] for row in rows] == list(range(base + expected, base + expected + len(rows))) and made == [
            bytes(row[-1]) for row in rows
        ]:
            return expected + len(rows), made[-1] if made else head
        for row in rows:
            place, stored = row[0] - base, bytes(row[-1])
            if place < expected:
                self._say(place, f"request {row[_REQUEST]}: it was inserted where retention had removed records")
                continue
            if place > expected:
                self._say(expected, f"{place - expected} records before request {row[_REQUEST]} were removed")
            elif link(key, head, [row[1:-1]])[0] != stored:
                self._say(place, f"request {row[_REQUEST]}: it was changed, or stands in another's place")
            expected, head = place + 1, stored
        return expected, head

    def _check_zones(self, rows: list[Row], terms: set[tuple[int, str]], spans: dict[int, tuple[int, int]]) -> None:
        """What finds records: if a term or a time were missing there, a filter would not find them."""
        place = 0
        while place < len(rows):
            zone = rows[place][0] >> ZONE_BITS
            end = next((at for at in range(place, len(rows)) if rows[at][0] >> ZONE_BITS != zone), len(rows))
            part = rows[place:end]
            # Numbers of their own: whether ids follow each other was said before.
            wanted, values = Zones().add(
                range(zone << ZONE_BITS, (zone << ZONE_BITS) + len(part)), [row[1:-1] for row in part]
            )
            low, high = spans.get(zone, (1, 0))
            fits = low <= wanted[0].low and wanted[0].high <= high
            if not fits or any((zone, term) not in terms and (zone, many(term[0])) not in terms for term, _ in values):
                first = part[0][0] - (self._number << PLACE_BITS)
                self._say(first, f"what finds the {len(part)} records from here on was changed: filters may miss them")
            place = end
