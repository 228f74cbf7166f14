"""The journal over power cuts, restarts, full disks, a database that is away: nothing doubled, losses counted."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from moongate.audit.ingest import Ingester
from moongate.audit.journal import Journal
from moongate.audit.segments import journal_begin, journal_id, segment_number, segment_path, segments
from moongate.audit.status import status
from moongate.audit.verify import verify
from moongate.tasks import Tasks
from tests.audit.trail import KEY, audited, line, trail
from tests.databases import Database
from tests.proxy.talk import call, connected, polite, run, until


def write(journal: Journal, lines: list[bytes]) -> None:
    """One write for each."""
    for each in lines:
        journal.commit(each, lambda: None)
        journal.flush()


@pytest.mark.requirement("PM-55")
@pytest.mark.parametrize("left", [0, 60])
@pytest.mark.parametrize("fresh", [5, 200])
def test_a_power_cut_doubles_nothing_and_loses_nothing_new(tmp_path: Path, left: int, fresh: int) -> None:
    """The end of the journal never reached the disk, its records are in the database; the gateway is quicker than the
    ingester, whether it writes more than there was or less.
    """

    async def story() -> None:
        async with trail(tmp_path) as found:
            journal = Journal(found.directory)
            write(journal, [line(number) for number in range(100)])
            journal.close()
            await found.moved()
            last = segments(found.directory)[-1]
            await asyncio.to_thread(os.truncate, last, last.stat().st_size * left // 100)
            assert not await found.ingester.step()
            journal = Journal(found.directory)
            write(journal, [line(number) for number in range(100, 100 + fresh)])
            await found.moved()
            journal.close()
            assert await found.numbers() == list(range(100 + fresh))
            shown = await status(found.store, found.directory)
            assert (shown["damaged"], shown["journals"][0]["missingSegments"]) == (1, 0)
            assert (await verify(found.store, [KEY])).ok
            assert len(segments(found.directory)) == 1

    run(story())


def test_many_restarts_leave_few_files(tmp_path: Path) -> None:
    """With records and without; while nobody reads them, too; all are moved once."""

    async def story() -> None:
        async with trail(tmp_path) as found:
            for number in range(60):
                journal = Journal(found.directory)
                if number % 3 == 0:
                    write(journal, [line(number)])
                journal.close()
            assert len(segments(found.directory)) == 60
            for _ in range(60):
                Journal(found.directory).close()
            assert len(segments(found.directory)) <= 76
            await found.moved()
            assert await found.numbers() == list(range(0, 60, 3))
            assert len(segments(found.directory)) == 1
            for number in range(60, 90):
                journal = Journal(found.directory)
                write(journal, [line(number)])
                journal.close()
                await found.moved()
                assert len(segments(found.directory)) == 1
            shown = await status(found.store, found.directory)
            assert (shown["records"], shown["damaged"], shown["lost"]) == (50, 0, 0)
            assert shown["journals"][0]["missingSegments"] == 0

    run(story())


PARTS = """
import asyncio, json, os, resource, sys
from pathlib import Path
from moongate.audit.journal import Journal
from tests.audit.trail import line

async def main():
    folder = Path(sys.argv[1])
    journal = Journal(folder)
    path = folder / "journal-1.jsonl"
    size = len(line(0))
    for cut in range(size + 2):
        resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + size + cut, resource.RLIM_INFINITY))
        for number in range(3):
            journal.commit(line(cut * 10 + number), lambda: None)
        journal.flush()
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        journal.commit(line(cut * 10 + 5), lambda: None)
        journal.flush()
    journal.close()
    print(json.dumps([journal.written, journal.lost]))

asyncio.run(main())
"""


@pytest.mark.requirement("PM-55")
def test_a_record_is_there_or_lost_never_both(tmp_path: Path) -> None:
    """A disk that takes part of a write, cut at every place: just before the end of a line, too."""

    async def story() -> None:
        async with trail(tmp_path) as found:
            done = await asyncio.to_thread(
                subprocess.run,
                [sys.executable, "-c", PARTS, str(found.directory)],
                capture_output=True,
                check=True,
                timeout=30,
            )
            written, lost = json.loads(done.stdout)
            await found.moved()
            numbers = await found.numbers()
            assert (len(numbers), len(set(numbers))) == (written, written)
            assert written + lost == 4 * (len(line(0)) + 2)
            shown = await status(found.store, found.directory)
            assert (shown["lost"], shown["damaged"]) == (lost, 0)

    run(story())


@pytest.mark.requirement("PM-55")
def test_what_is_removed_unread_is_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Of this process and of one before, also what a removed segment said was lost."""

    async def story() -> None:
        async with trail(tmp_path) as found:
            unsaid = 0
            for begin in (0, 500):
                journal = Journal(found.directory, segment_bytes=10_000, keep_bytes=50_000)
                write(journal, [line(number) for number in range(begin, begin + 500)])
                journal.close()
                assert 300 < journal.lost < 600
                unsaid += journal._unsaid
            await found.moved()
            numbers = await found.numbers()
            shown = await status(found.store, found.directory)
            assert 50 < len(numbers) < 250
            assert shown["lost"] + unsaid + len(numbers) == 1000

    run(story())
    assert "records were removed to stay below 50000 bytes, before they were in the database" in caplog.text


def test_strict_removes_nothing(tmp_path: Path) -> None:
    """It says that it fails instead; also after a restart; with room again it goes on."""

    async def story() -> None:
        async with trail(tmp_path) as found:
            journal = Journal(found.directory, segment_bytes=10_000, keep_bytes=50_000, strict=True)
            write(journal, [line(number) for number in range(500)])
            assert not journal.written > 300
            assert journal.written + journal.lost == 500
            assert journal.removed_segments == 0
            journal.close()
            again = Journal(found.directory, segment_bytes=10_000, keep_bytes=50_000, strict=True)
            write(again, [line(1000)])
            assert (again.written, again.lost, again.failing) == (0, 1, True)
            await found.moved()
            write(again, [line(1001)])
            assert (again.written, again.failing) == (1, False)
            again.close()
            await found.moved()
            assert await found.numbers() == [*range(journal.written), 1001]
            assert (await status(found.store, found.directory))["lost"] == 1

    run(story())


def test_strict_refuses_calls_while_the_journal_is_full() -> None:
    """503, and nothing of what was promised is removed."""

    async def story() -> None:
        async with audited(polite, {"mode": "strict"}) as (gate, backend), connected(gate) as client:
            journal = gate.runtime.journal
            assert journal.strict
            journal._segment_bytes, journal._keep_bytes = 1, 1000
            for number in range(1, 20):
                if (await client.ask(call(number))).status != 200:
                    break
            heard = len(backend.seen)
            assert (await client.ask(call(20))).failure == (503, "internal")
            assert len(backend.seen) == heard
            assert len(gate.records()) == journal.written >= 2
            for path in segments(gate.data_dir / "journal"):
                path.unlink()
            await client.ask(call(21))
            assert (await client.ask(call(22))).status == 200

    run(story())


@pytest.mark.parametrize("text", ["", "half", "0" * 24 + " x y", "0" * 24 + " 1"])
def test_a_lost_name_doubles_nothing(tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture) -> None:
    """What there is may be in the database under the former name: it stays where it is, and what is new is moved."""

    async def story() -> None:
        async with trail(tmp_path) as found:
            journal = Journal(found.directory, segment_bytes=10_000)
            write(journal, [line(number) for number in range(100)])
            await found.moved()
            write(journal, [line(number) for number in range(100, 200)])
            before = await asyncio.to_thread(journal_id, found.directory)
            (found.directory / "id").write_text(text)
            await Ingester(found.store, found.directory, KEY).catch_up()
            assert await found.numbers() == list(range(100))
            write(journal, [line(number) for number in range(200, 300)])
            journal.close()
            journal = Journal(found.directory)
            write(journal, [line(300)])
            journal.close()
            await Ingester(found.store, found.directory, KEY).catch_up()
            numbers = await found.numbers()
            assert numbers == [*range(100), *range(200, 301)]
            name, begin = journal_id(found.directory), journal_begin(found.directory)
            assert name != before
            assert begin[0] > 1
            assert await asyncio.to_thread(lambda: list(found.directory.glob("before-journal-*.jsonl")))
            assert (await verify(found.store, [KEY])).ok
            shown = await status(found.store, found.directory)
            assert {journal["journal"]: journal["damaged"] for journal in shown["journals"]} == {before: 0, name: 1}

    run(story())
    assert "the journal gets a new name" in caplog.text


def test_a_name_is_on_the_disk_before_it_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file, and the directory that names it."""
    synced: list[str] = []
    real = os.fsync

    def noted(number: int) -> None:
        synced.append(Path(f"/proc/self/fd/{number}").readlink().name)
        real(number)

    monkeypatch.setattr(os, "fsync", noted)
    folder = tmp_path / "journal"
    journal_id(folder)
    journal_id(folder)
    assert [name[:4] for name in synced] == [".id-", "jour"]


@pytest.mark.requirement("PM-55")
def test_a_gateway_that_is_started_again_goes_on(database: Database, caplog: pytest.LogCaptureFixture) -> None:
    """While the ingester runs all the time."""
    caplog.set_level(logging.ERROR)

    def moved(ingester: Ingester, count: int) -> bool:
        return ingester.counts.ingested == count

    async def story() -> None:
        async with trail(database) as found:
            tasks = Tasks("test")
            tasks.spawn(found.ingester.run(), "ingest")
            for number in range(5):
                journal = Journal(found.directory)
                write(journal, [line(number)])
                journal.close()
                await until(partial(moved, found.ingester, number + 1), 10)
            await tasks.close()
            assert await found.numbers() == list(range(5))
            assert segment_path(found.directory, 5) == segments(found.directory)[-1]
            assert segment_number(segments(found.directory)[0]) >= 4

    run(story())
    assert not caplog.records
