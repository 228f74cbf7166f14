"""From bytes of the journal to what is written to the database: pure, so that it can run in a thread."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, field, replace

from moongate.audit.chain import Section, day_of, journal_seal, key_id, link, section_span
from moongate.audit.rows import BIGGEST, MICRO, PLACE, Lost, Row, read_line
from moongate.audit.tables import PLACE_BITS
from moongate.audit.zones import ZoneRow, Zones

# Stands in place of the seal of a journal once what it covered was changed by somebody: no seal is as short.
CHANGED = b"changed"
_TIME, _TOKEN = PLACE["time"], PLACE["token"]


@dataclass(frozen=True, slots=True)
class Position:
    """How far a journal is in the database: `place` bytes of `segment`, which made `records` in `sections`.

    `damaged` lines were no records, `lost` records were never written, `missing_segments` were gone before they were
    read. `intact`: nobody has changed the row of the journal, as far as is known; `stored_seal` is what stands there.
    """

    number: int
    journal: str
    segment: int = 0
    place: int = 0
    records: int = 0
    sections: int = 0
    damaged: int = 0
    lost: int = 0
    missing_segments: int = 0
    section: Section | None = None
    intact: bool = True
    stored_seal: bytes = b""

    def seal(self, key: bytes) -> bytes:
        """What covers the journal as a whole."""
        if not self.intact:
            return CHANGED
        last = b"" if self.section is None else self.section.sealed(key)
        read = (self.segment, self.place, self.records, self.sections)
        return journal_seal(key, self.journal, (*read, self.damaged, self.lost, self.missing_segments), last)

    def checked(self, key: bytes) -> Position:
        """As it was read from the database; not `intact` if it is not what was written there.

        What another key has sealed cannot be told here; `verify` knows all keys.
        """
        section = self.section
        if self.stored_seal == CHANGED or (section is None and self.sections):
            return replace(self, intact=False)
        if section is None or section.key_id != key_id(key) or self.seal(key) == self.stored_seal:
            return self
        return replace(self, intact=False)


@dataclass(slots=True)
class Batch:
    """What one transaction writes. `rows` begin with their id and end with their hash; `used`: tokens and when."""

    after: Position
    rows: list[Row] = field(default_factory=list)
    sections: list[Section] = field(default_factory=list)
    zones: list[ZoneRow] = field(default_factory=list)
    terms: list[tuple[str, int]] = field(default_factory=list)
    used: dict[str, float] = field(default_factory=dict)
    damaged: list[int] = field(default_factory=list)


def make_batch(before: Position, data: bytes, key: bytes, zones: Zones) -> Batch:
    """The records in `data`, which is whole lines from `before.place` on. `zones` is changed."""
    batch = Batch(before)
    rows: list[Row] = []
    sizes: list[int] = []
    lost = 0
    place = before.place
    for line in data.split(b"\n")[:-1]:
        found = read_line(line) if line else None
        if found is None:
            if line:
                batch.damaged.append(place)
        elif isinstance(found, Lost):
            lost += found.records
        else:
            rows.append(found)
            sizes.append(len(line) + 1)
        place += len(line) + 1
    after = replace(
        before,
        place=place,
        records=before.records + len(rows),
        damaged=before.damaged + len(batch.damaged),
        lost=min(before.lost + lost, BIGGEST),
    )
    hashes: list[bytes] = []
    if rows:
        hashes, batch.sections = _chain(before, rows, sizes, key)
        last = batch.sections[-1]
        after = replace(after, section=last, sections=last.number)
        first = (before.number << PLACE_BITS) + before.records + 1
        ids = range(first, first + len(rows))
        batch.rows = [(number, *row, made) for number, row, made in zip(ids, rows, hashes, strict=True)]
        batch.zones, batch.terms = zones.add(ids, rows)
        batch.used = {row[_TOKEN]: row[_TIME] / MICRO for row in rows if row[_TOKEN]}
    batch.after = after
    return batch


def _chain(
    before: Position, rows: Sequence[Row], sizes: Sequence[int], key: bytes
) -> tuple[list[bytes], list[Section]]:
    """The hashes of rows, and the sections that they are in (the last one of before, and new ones)."""
    hashes: list[bytes] = []
    touched: list[Section] = []
    section = copy(before.section)
    own = key_id(key)
    place = 0
    while place < len(rows):
        if section is None or section.key_id != own or not _stays(section, rows[place]):
            section = _next_section(before, section, rows[place], key, before.records + place + 1)
        low, high = section_span(section)
        end = next((at for at in range(place + 1, len(rows)) if not low <= rows[at][_TIME] < high), len(rows))
        made = link(key, section.head, rows[place:end])
        section = replace(
            section, last=section.last + len(made), size=section.size + sum(sizes[place:end]), head=made[-1]
        )
        hashes += made
        touched.append(section)
        place = end
    return hashes, touched


def _stays(section: Section, row: Row) -> bool:
    low, high = section_span(section)
    return bool(low <= row[_TIME] < high)


def _next_section(before: Position, section: Section | None, row: Row, key: bytes, first: int) -> Section:
    start = b"" if section is None else section.sealed(key)
    number = 1 if section is None else section.number + 1
    return Section(before.journal, number, day_of(row[_TIME]), key_id(key), first, first - 1, 0, start, start)
