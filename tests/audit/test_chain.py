"""Tampering is found, and said where; retention leaves a chain that can be verified."""

# ruff: noqa: S608 - what an attacker writes

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from moongate.audit.chain import chain_key
from moongate.audit.ingest import Ingester
from moongate.audit.retention import AT_ONCE, apply_retention
from moongate.audit.status import status
from moongate.audit.verify import Verification, verify
from tests.audit.trail import DAY, KEY, NOON, Trail, line, request_id, trail
from tests.databases import Database, PostgreSQL
from tests.proxy.talk import run

BASE = 1 << 40
COPY = "INSERT INTO audit_records SELECT {id}" + "".join(
    f", {name}"
    for name in (
        *("time", "request_id", "trace_id", "source", "instance", "http_method", "path", "principal", "token"),
        *("token_fingerprint", "token_header", "status", "duration", "first_byte", "method", "target", "revision"),
        *("client", "bytes_in", "bytes_out", "arguments_digest", "arguments", "code", "failure", "detail", "phase"),
        *("shadow", "more", "hash"),
    )
)

CUT_SECTION = (
    f"UPDATE audit_sections SET last = 1990, head = (SELECT hash FROM audit_records WHERE id = {BASE + 1990})"
    " WHERE number = 2"
)

# What an attacker does, at which record it is found, and what is said.
TAMPERING: dict[str, tuple[list[str], int, str]] = {
    "changed": ([f"UPDATE audit_records SET principal = 'mallory' WHERE id = {BASE + 700}"], 700, request_id(699)),
    "time": ([f"UPDATE audit_records SET time = time + 1 WHERE id = {BASE + 1500}"], 1500, "changed"),
    "hash": ([f"UPDATE audit_records SET hash = substr(hash, 2) WHERE id = {BASE + 9}"], 9, "changed"),
    "removed": ([f"DELETE FROM audit_records WHERE id BETWEEN {BASE + 30} AND {BASE + 32}"], 30, "3 records before"),
    "first": ([f"DELETE FROM audit_records WHERE id = {BASE + 1}"], 1, "1 records before"),
    "swapped": (
        [
            f"UPDATE audit_records SET id = 5 WHERE id = {BASE + 700}",
            f"UPDATE audit_records SET id = {BASE + 700} WHERE id = {BASE + 701}",
            f"UPDATE audit_records SET id = {BASE + 701} WHERE id = 5",
        ],
        700,
        "stands in another's place",
    ),
    "appended": ([f"{COPY.format(id=BASE + 2001)} FROM audit_records WHERE id = {BASE + 7}"], 2001, "inserted"),
    "end": (
        [
            f"DELETE FROM audit_records WHERE id > {BASE + 1990}",
            CUT_SECTION,
            "UPDATE audit_journals SET records = 1990",
        ],
        0,
        "what is kept of the day",
    ),
    "last day": (
        [
            f"DELETE FROM audit_records WHERE id > {BASE + 1000}",
            "DELETE FROM audit_sections WHERE number = 2",
            "UPDATE audit_journals SET records = 1000, sections = 1",
        ],
        0,
        "an earlier state",
    ),
    "first day": (
        [f"DELETE FROM audit_records WHERE id <= {BASE + 1000}", "DELETE FROM audit_sections WHERE number = 1"],
        1001,
        "a whole day before",
    ),
    "retention": (
        [
            f"DELETE FROM audit_records WHERE id <= {BASE + 10}",
            "UPDATE audit_sections SET removed = 10, removed_head = head WHERE number = 1",
        ],
        1,
        "retention",
    ),
    "hidden": (["DELETE FROM audit_terms WHERE term = 'u:alice' AND zone % 2 = 1"], 0, "filters may miss"),
    "zone": ([f"DELETE FROM audit_zones WHERE zone = {(BASE + 600) >> 9}"], 0, "filters may miss"),
    "stranger": ([f"{COPY.format(id=9 * BASE + 1)} FROM audit_records WHERE id = {BASE + 7}"], 0, "no chain"),
    "journal": (["DELETE FROM audit_journals"], 0, "no chain"),
}


def two_days(count: int = 1000) -> list[bytes]:
    """So many records on each of two days."""
    days = [line(number) for number in range(count)]
    return days + [line(number, time=NOON + DAY + number / 1000) for number in range(count, 2 * count)]


async def checked(found: Trail) -> Verification:
    """What verify says with the right key."""
    return await verify(found.store, [KEY])


# What is not plain SQL of one kind differs between databases.
ON_BOTH = ("changed", "end", "retention")


@pytest.mark.parametrize("how", TAMPERING)
def test_tampering_is_found(tmp_path: Path, how: str) -> None:
    """Whatever was done without the key: verify says at which record; before, nothing was wrong."""
    tampered(Database(None, tmp_path), how)


@pytest.mark.parametrize("how", ON_BOTH)
def test_tampering_is_found_in_postgresql(postgresql: PostgreSQL, tmp_path: Path, how: str) -> None:
    """The same."""
    tampered(Database(postgresql.new_database(), tmp_path, postgresql), how)


def tampered(database: Database, how: str) -> None:
    """Do it, and look."""
    statements, record, text = TAMPERING[how]

    async def story() -> None:
        async with trail(database) as found:
            found.write(two_days())
            await found.moved()
            before = await checked(found)
            assert (before.ok, before.records, before.days) == (True, 2000, 2)
            for statement in statements:
                assert await found.execute(statement)
            after = await checked(found)
            assert not after.ok
            assert any(text in finding.text and record in {0, finding.record} for finding in after.findings), after

    run(story())


def test_an_earlier_state_is_shown_by_a_head_that_was_kept(database: Database) -> None:
    """What the chain alone cannot show: all of it was removed, or an older state of everything brought back."""

    async def story() -> None:
        async with trail(database) as found:
            found.write(two_days())
            await found.moved()
            head = (await checked(found)).heads[0]
            kept = f"{head.journal}:{head.records}:{head.hash}"
            found.write([line(5000)])
            await found.moved()
            assert (await verify(found.store, [KEY], [kept])).ok
            assert not (await verify(found.store, [KEY], [f"{head.journal}:{head.records + 5}:{head.hash}"])).ok
            assert not (await verify(found.store, [KEY], [f"{head.journal}:{head.records - 1}:{head.hash}"])).ok
            for table in ("journals", "sections", "records", "zones", "terms"):
                await found.execute(f"DELETE FROM audit_{table}")
            assert (await checked(found)).ok
            assert not (await verify(found.store, [KEY], [kept])).ok
            with pytest.raises(ValueError, match="JOURNAL:RECORDS:HASH"):
                await verify(found.store, [KEY], ["x"])

    run(story())


def test_a_new_key_continues_the_chain(database: Database) -> None:
    """What was written with the key of before is verified with it; without it, it says so."""
    new = chain_key(b"n" * 32)

    async def story() -> None:
        async with trail(database) as found:
            found.write(map(line, range(10)))
            await found.moved()
            found.write(map(line, range(10, 20)))
            await Ingester(found.store, found.directory, new).catch_up()
            both = await verify(found.store, [new, KEY])
            assert (both.ok, both.records) == (True, 20)
            only = await verify(found.store, [new])
            assert "another key" in only.findings[0].text
            await found.execute(f"UPDATE audit_records SET status = 1 WHERE id = {BASE + 3}")
            assert not (await verify(found.store, [new, KEY])).ok

    run(story())


async def everything_is_fine(found: Trail, numbers: list[int], removed: int) -> None:
    """The chain, the filters, the counts."""
    after = await checked(found)
    assert (after.findings, after.records, after.removed) == ([], len(numbers), removed)
    assert await found.numbers() == numbers
    shown = await status(found.store, found.directory)
    assert (shown["records"], shown["journals"][0]["removed"]) == (len(numbers), removed)


@pytest.mark.requirement("PM-55")
def test_retention_by_age_keeps_the_chain(database: Database) -> None:
    """A whole day, part of a day, all of it: what is left verifies, what was removed is counted, new records follow."""

    async def story() -> None:
        async with trail(database) as found:
            found.write(two_days())
            await found.moved()
            assert await apply_retention(found.store, [KEY], 10 * DAY, now=NOON + DAY) == 0
            assert await apply_retention(found.store, [KEY], DAY, now=NOON + DAY + 0.3) == 300
            await everything_is_fine(found, list(range(300, 2000)), 300)
            assert await apply_retention(found.store, [KEY], DAY, now=NOON + 2 * DAY + 1.5) == 1200
            await everything_is_fine(found, list(range(1500, 2000)), 1500)
            assert await apply_retention(found.store, [KEY], 1, now=NOON + 9 * DAY) == 500
            await everything_is_fine(found, [], 2000)
            found.write(line(number, time=NOON + 9 * DAY + number) for number in range(2000, 2100))
            await found.moved()
            await everything_is_fine(found, list(range(2000, 2100)), 2000)
            assert not await apply_retention(found.store, [KEY], DAY, now=NOON + 9 * DAY)

    run(story())


@pytest.mark.requirement("PM-55")
def test_retention_by_size_keeps_the_newest(database: Database) -> None:
    """The oldest go, until what is left is not over the size."""

    async def story() -> None:
        async with trail(database) as found:
            found.write(two_days(AT_ONCE + 500))
            await found.moved()
            each = len(line(1))
            removed = await apply_retention(found.store, [KEY], 10 * DAY, 100 * each, now=NOON + DAY)
            left = await found.numbers()
            assert 80 <= len(left) <= 110
            assert left == list(range(removed, 2 * AT_ONCE + 1000))
            await everything_is_fine(found, left, removed)
            assert not await apply_retention(found.store, [KEY], 10 * DAY, 100 * each, now=NOON + DAY)

    run(story())


def test_verify_while_records_come_and_go(database: Database) -> None:
    """Ingester and retention work meanwhile; verify finds nothing wrong."""

    async def story() -> None:
        async with trail(database) as found:
            found.write(two_days(2000))
            await found.moved()

            async def more() -> None:
                for number in range(5):
                    found.write(map(line, range(10_000 + number * 300, 10_000 + (number + 1) * 300)))
                    await found.moved()

            async def fewer() -> None:
                for number in range(8):
                    await apply_retention(found.store, [KEY], DAY, now=NOON + DAY + number / 4)

            async def look() -> None:
                for _ in range(4):
                    assert (await checked(found)).findings == []

            await asyncio.gather(more(), fewer(), look())

    run(story(), limit=40)


def test_days_around_midnight_and_clocks_set_back(database: Database) -> None:
    """Records end after midnight that began before it; a day that comes again after two is a new section."""
    midnight = 1_800_057_600.0
    times: list[Callable[[int], float]] = [
        lambda number: midnight - 5 + number % 11,
        lambda number: midnight + 3 * DAY + number,
        lambda number: midnight - 20 * DAY + number,
        lambda number: midnight + number,
    ]

    async def story() -> None:
        async with trail(database) as found:
            for place, moment in enumerate(times):
                found.write(line(number, time=moment(number)) for number in range(place * 30, place * 30 + 30))
            await found.moved()
            assert await found.value("SELECT count(*) FROM audit_sections") == 5
            assert (await checked(found)).ok

    run(story())
