"""The chain that makes tampering evident: each record's hash covers the one before it.

The hashes are keyed (BLAKE2b, RFC 7693; the key is derived from the gateway's). Who can write to the database but has
no key cannot make a hash, so he cannot change, remove, insert or re-order a record without its being found. Each day
of a journal is a section: it begins with the seal of the day before, and its own seal covers its day, its size and its
last hash. The seals stay when retention removes records, which leaves its own sealed note. What he can do is to bring
back an earlier state of the whole database, or to remove all there is of a journal: the head of a chain, kept
elsewhere, shows that. Who has the key can do anything.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import blake2b

import msgspec

from moongate.audit.rows import MICRO, Row

HASH_BYTES = 32
_PURPOSE = b"moongate audit"
_DAY = 86_400 * MICRO
_pack = msgspec.msgpack.Encoder().encode


def chain_key(gateway_key: bytes) -> bytes:
    """The key of the chain, from the gateway's own."""
    return blake2b(b"audit chain", key=gateway_key, digest_size=HASH_BYTES, person=_PURPOSE).digest()


def key_id(key: bytes) -> str:
    """Tells keys apart."""
    return blake2b(b"key id", key=key, digest_size=8, person=_PURPOSE).hexdigest()


def keyed(key: bytes, *values: object) -> bytes:
    """The hash of `values`."""
    return blake2b(_pack(values), key=key, digest_size=HASH_BYTES, person=_PURPOSE).digest()


def link(key: bytes, before: bytes, rows: Iterable[Row]) -> list[bytes]:
    """The hash of each row, the first of which follows `before`."""
    found = []
    for row in rows:
        before = blake2b(before + _pack(row), key=key, digest_size=HASH_BYTES).digest()
        found.append(before)
    return found


def day_of(time: int) -> str:
    """The day (UTC) of a time in microseconds."""
    try:
        return datetime.fromtimestamp(time // MICRO, UTC).date().isoformat()
    except (ValueError, OverflowError, OSError):
        return "0000-00-00"


@dataclass(slots=True)
class Section:
    """A journal's records of one day: those from `first` to `last` by their place in the chain.

    `start` is what the first hash follows, `head` the last hash; `size` the bytes of the lines they came from. Of its
    records `removed` were removed from the beginning, the last of which had the hash `removed_head`. The
    `stored` ones are what the database has.
    """

    journal: str
    number: int
    day: str
    key_id: str
    first: int
    last: int
    size: int
    start: bytes
    head: bytes
    removed: int = 0
    removed_head: bytes = b""
    stored_seal: bytes = b""
    stored_removed_seal: bytes = b""

    def seal(self, key: bytes) -> bytes:
        """What covers the section, and what the next one begins with."""
        place = (self.journal, self.number, self.day, self.first, self.last, self.size)
        return keyed(key, "section", *place, self.start, self.head)

    def sealed(self, key: bytes) -> bytes:
        """Its seal; that of a section made with another key is what stands in the database."""
        return self.seal(key) if key_id(key) == self.key_id else self.stored_seal

    def removed_seal(self, key: bytes) -> bytes:
        """What covers the note of what was removed."""
        return keyed(key, "removed", self.journal, self.number, self.removed, self.removed_head)

    @property
    def count(self) -> int:
        """How many records it had."""
        return self.last - self.first + 1


def journal_seal(key: bytes, journal: str, numbers: Iterable[int], last_seal: bytes) -> bytes:
    """What covers a journal as a whole: how far it was read, what is in it, what is missing."""
    return keyed(key, "journal", journal, *numbers, last_seal)


def section_span(section: Section) -> tuple[int, int]:
    """The times (microseconds, the second excluded) of records that do not begin a new section.

    Records are written as calls end, so around midnight the days alternate: a section stays open for late ones. A clock
    that was set back by more than a day begins a new section too.
    """
    try:
        begin = int(datetime.fromisoformat(f"{section.day}T00:00:00+00:00").timestamp()) * MICRO
    except ValueError:  # the day of a time that is none
        return 0, 0
    return begin - _DAY, begin + _DAY
