"""Which values occur where: what a batch adds to `audit_zones` and `audit_terms`, and what a filter looks for there."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

from moongate.audit.rows import PLACE, Row
from moongate.audit.tables import ZONE_BITS

# One letter for each column that has terms.
LETTERS = {
    "instance": "i",
    "source": "s",
    "path": "p",
    "method": "m",
    "target": "t",
    "principal": "u",
    "token": "k",
    "token_fingerprint": "f",
    "token_header": "h",
    "failure": "o",
    "status": "c",
    "client": "a",
}
# Of a column with more values than this a zone only says that there are many: a client may choose a path for each call,
# but an address it has to have.
MANY = 64
_LONGEST = 200
_AFTER = "\U0010ffff"
_COLUMNS = tuple((PLACE[name], letter) for name, letter in LETTERS.items())
_TIME, _FAILURE = PLACE["time"], PLACE["failure"]
# Whose failures are asked for most: of these there are terms of their own for records that did not succeed, so that
# "what failed for alice" reads no zone in which only others failed.
_OFTEN = ("instance", "source", "target", "principal", "token", "token_fingerprint")
_OF_FAILURES = tuple((PLACE[name], LETTERS[name].upper()) for name in _OFTEN)
_UPPER = frozenset(LETTERS[name] for name in _OFTEN)


@lru_cache(4096)
def source_key(source: str) -> str:
    """An address so that a network is a range: 32 hex digits, IPv4 as mapped (RFC 4291 section 2.5.5.2)."""
    try:
        address = ipaddress.ip_address(source.partition("%")[0])
    except ValueError:
        return source[:_LONGEST]
    if isinstance(address, ipaddress.IPv4Address):
        return f"{'0' * 20}ffff{address.packed.hex()}"
    return address.packed.hex()


def term(letter: str, value: object) -> str:
    """What stands in `audit_terms` for a value."""
    text = source_key(str(value)) if letter in "sS" else str(value)[:_LONGEST]
    return f"{letter}:{text}"


def many(letter: str) -> str:
    """What stands there for all values of a zone that has many of them."""
    return f"{letter}*"


class Span(NamedTuple):
    """Terms from `low` to `high`, both included."""

    low: str
    high: str

    def of_failures(self) -> Span:
        """The same among records that did not succeed, where these have terms of their own."""
        letter = self.low[0]
        return Span(letter.upper() + self.low[1:], letter.upper() + self.high[1:]) if letter in _UPPER else self


def value_span(column: str, value: object) -> Span:
    """Where one value is."""
    found = term(LETTERS[column], value)
    return Span(found, found)


def prefix_span(column: str, prefix: str) -> Span:
    """Where all values with a beginning are."""
    found = f"{LETTERS[column]}:{prefix[:_LONGEST]}"
    return Span(found, found + _AFTER)


def network_span(network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> Span:
    """Where the addresses of a network are."""
    return Span(term("s", network.network_address), term("s", network.broadcast_address))


class ZoneRow(NamedTuple):
    """A zone and the times that a batch added to it."""

    zone: int
    low: int
    high: int


@dataclass(slots=True)
class Zones:
    """Remembers of the zone that is being filled which terms it has."""

    zone: int = -1
    seen: dict[str, set[str]] = field(default_factory=dict)

    def add(self, ids: range, rows: Sequence[Row]) -> tuple[list[ZoneRow], list[tuple[str, int]]]:
        """What rows with these ids add: zones, and pairs of term and zone."""
        zones: list[ZoneRow] = []
        terms: list[tuple[str, int]] = []
        place = 0
        while place < len(rows):
            zone = ids[place] >> ZONE_BITS
            end = min(len(rows), place + ((zone + 1) << ZONE_BITS) - ids[place])
            part = rows[place:end]
            if zone != self.zone:
                self.zone, self.seen = zone, {}
            times = [row[_TIME] for row in part]
            zones.append(ZoneRow(zone, min(times), max(times)))
            for column, letter in _COLUMNS:
                terms += [(found, zone) for found in self._fresh(letter, {row[column] for row in part})]
            failed = [row for row in part if row[_FAILURE]]
            for column, letter in _OF_FAILURES if failed else ():
                terms += [(found, zone) for found in self._fresh(letter, {row[column] for row in failed})]
            place = end
        return zones, terms

    def _fresh(self, letter: str, values: Iterable[object]) -> Iterable[str]:
        seen = self.seen.setdefault(letter, set())
        if many(letter) in seen:
            return ()
        fresh = {term(letter, value) for value in values} - seen
        if len(seen) + len(fresh) > MANY and letter not in "sS":
            fresh = {many(letter)}
        seen |= fresh
        return fresh
