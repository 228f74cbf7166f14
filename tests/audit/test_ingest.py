"""From the journal to the database: each record exactly once, nothing lost, what is wrong is counted."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import insert

from moongate.audit.ingest import Ingester
from moongate.audit.segments import journal_id, segment_path, segments
from moongate.audit.status import status
from moongate.audit.verify import verify
from moongate.store.failing import StoreAway
from moongate.store.tables import tokens, users
from moongate.tasks import Tasks
from tests.audit.trail import KEY, NOON, line, trail
from tests.databases import Database
from tests.proxy.talk import run, until


@pytest.mark.requirement("PM-55")
def test_each_record_is_moved_once(database: Database) -> None:
    """In several portions, over several segments; a segment that is wholly in the store goes, the last one stays."""

    async def story() -> None:
        async with trail(database) as found:
            found.write(map(line, range(700)))
            await found.moved()
            found.write(map(line, range(700, 900)))
            found.write(map(line, range(900, 1000)), segment=2)
            await found.moved()
            await found.moved()
            assert await found.numbers() == list(range(1000))
            assert [path.name for path in segments(found.directory)] == ["journal-2.jsonl"]
            assert (await status(found.store, found.directory))["waitingBytes"] == 0
            assert (await verify(found.store, [KEY])).ok

    run(story())


@pytest.mark.requirement("PM-55")
def test_what_is_no_record_is_counted_and_skipped(database: Database, caplog: pytest.LogCaptureFixture) -> None:
    """Torn in the middle and at the end, empty, somebody else's, bytes without a meaning; the log says where."""

    async def story() -> None:
        async with trail(database) as found:
            torn = line(2)[:50]
            wrong = [torn + b"\n", b"\n", b"[1]\n", b'{"n": 1}\n', b"\xff\xfe\n", b"\0" * 70 + b"\n"]
            found.write([line(1), *wrong, line(3), torn])
            await found.moved()
            assert await found.numbers() == [1, 3]
            found.write([line(4)], segment=2)
            await found.moved()
            assert await found.numbers() == [1, 3, 4]
            assert (await status(found.store, found.directory))["damaged"] == 6

    run(story())
    assert f"journal-1.jsonl: the line at byte {len(line(1))} is no record" in caplog.text


def test_half_a_line_waits_for_its_other_half(database: Database) -> None:
    """A line that is being written is no torn one."""

    async def story() -> None:
        async with trail(database) as found:
            found.write([line(1), line(2)[:30]])
            await found.moved()
            assert await found.numbers() == [1]
            found.write([line(2)[30:]])
            await found.moved()
            assert await found.numbers() == [1, 2]

    run(story())


@pytest.mark.requirement("PM-55")
def test_what_was_lost_before_is_shown(database: Database) -> None:
    """What the journal says that it could not write, and segments that were removed before they were read."""

    async def story() -> None:
        async with trail(database) as found:
            found.write([line(1), b'{"time":1.0,"lost":7}\n', line(2)], segment=3)
            await found.moved()
            found.write([line(3)], segment=6)
            await found.moved()
            shown = await status(found.store, found.directory)
            assert (shown["records"], shown["lost"]) == (3, 7)
            assert shown["journals"][0]["missingSegments"] == 2 + 2

    run(story())


def test_a_record_of_a_newer_version_is_kept_whole(database: Database) -> None:
    """Members that are not known stay; numbers and texts that no database takes are made to fit."""

    async def story() -> None:
        async with trail(database) as found:
            odd = line(1, newer={"a": [1]}, code=10**30, status=10**9, target="a\0b", bytesIn=2**70)
            found.write([odd, line(2)])
            await found.moved()
            assert await found.numbers() == [1, 2]
            assert (await verify(found.store, [KEY])).ok
            more = await found.value("SELECT more FROM audit_records ORDER BY id LIMIT 1")
            assert more == '{"newer":{"a":[1]}}'

    run(story())


def test_a_record_that_cannot_be_stored_keeps_no_other_out(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever the database has against it: it is counted and named, all others are moved."""

    async def story() -> None:
        async with trail(database) as found:
            await found.execute(
                "CREATE TRIGGER odd BEFORE INSERT ON audit_records WHEN new.target = 'odd'"
                " BEGIN SELECT RAISE(ABORT, 'this one not'); END"
                if database.server is None
                else "ALTER TABLE audit_records ADD CONSTRAINT odd CHECK (target <> 'odd')"
            )
            lines = [line(number, target="odd" if number == 7 else "even") for number in range(20)]
            found.write(lines)
            await found.moved()
            assert await found.numbers() == [number for number in range(20) if number != 7]
            assert (await status(found.store, found.directory))["damaged"] == 1
            assert (await verify(found.store, [KEY])).ok
            assert f"byte {sum(map(len, lines[:7]))} is no record" in caplog.text

    run(story())


def test_a_journal_has_one_name(tmp_path: Path) -> None:
    """Whoever asks first makes it; all at once get the same; a damaged one is made anew."""
    with ThreadPoolExecutor(16) as many:
        names = set(many.map(journal_id, [tmp_path] * 64))
    assert len(names) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["id"]
    (tmp_path / "id").write_text("half")
    assert journal_id(tmp_path) == journal_id(tmp_path) != names.pop()


def test_tokens_know_when_they_were_last_used(database: Database) -> None:
    """The latest of a batch, never an earlier one; nobody has to look at the store again because of it."""
    plain = {"revision": 1, "created": 1.0, "updated": 1.0, "enabled": True}

    async def story() -> None:
        async with trail(database) as found:
            async with found.store.write() as connection:
                await connection.execute(insert(users).values(name="alice", notes="", **plain))
                token = {"id": "tok_a", "user_name": "alice", "name": "", "sha256": "0" * 64, "tags": [], **plain}
                await connection.execute(insert(tokens).values(**token))
            before = await found.store.change_count()
            found.write(line(number, token="tok_a" if number < 8 else "of a file") for number in range(10))
            await found.moved()
            assert await found.value("SELECT last_used FROM tokens") == NOON + 0.007
            found.write([line(11, token="tok_a", time=NOON - 5)])
            await found.moved()
            assert await found.value("SELECT last_used FROM tokens") == NOON + 0.007
            assert await found.store.change_count() == before

    run(story())


def test_two_that_read_one_journal_do_not_double_it(database: Database) -> None:
    """Without the lock, too: the place in the store tells them."""

    async def story() -> None:
        async with trail(database) as found:
            found.write(map(line, range(3000)))
            other = Ingester(found.store, found.directory, KEY)

            async def move(ingester: Ingester) -> None:
                while await ingester.step():
                    pass

            await asyncio.gather(
                move(found.ingester), move(other), Ingester(found.store, found.directory, KEY).catch_up()
            )
            found.write(map(line, range(3000, 6000)))
            await asyncio.gather(move(found.ingester), move(other))
            assert await found.numbers() == list(range(6000))
            assert (await verify(found.store, [KEY])).ok

    run(story())


def test_several_journals_in_one_database(database: Database, tmp_path: Path) -> None:
    """Each has its own chain; what they hold is found together, in the order of time."""

    async def story() -> None:
        async with trail(database) as found:
            elsewhere = tmp_path / "elsewhere"
            await asyncio.to_thread(elsewhere.mkdir)
            found.write(map(line, range(0, 400, 2)))
            await asyncio.to_thread(segment_path(elsewhere, 1).write_bytes, b"".join(map(line, range(1, 400, 2))))
            await asyncio.gather(found.moved(), Ingester(found.store, elsewhere, KEY).catch_up(30))
            assert await found.numbers() == list(range(400))
            assert await found.numbers(ascending=False) == list(range(399, -1, -1))
            checked = await verify(found.store, [KEY])
            assert checked.ok
            assert len(checked.heads) == 2

    run(story())


@pytest.mark.requirement("PM-55")
def test_a_database_that_is_away_is_waited_for(database: Database, caplog: pytest.LogCaptureFixture) -> None:
    """Records stay in the journal, the log says so; once it is back they are moved, each once."""
    server, file = database.server, database.data_dir / "moongate.db"
    aside = file.with_name("aside.db")

    def lose() -> None:
        if server is not None:
            server.stop()
        else:
            file.rename(aside)

    def find() -> None:
        if server is not None:
            server.start()
        else:
            aside.rename(file)

    async def story() -> None:
        async with trail(database) as found:
            tasks = Tasks("test")
            tasks.spawn(found.ingester.run(), "ingest")
            found.write(map(line, range(10)))
            await until(lambda: found.ingester.counts.ingested == 10, 10)
            lose()
            found.write(map(line, range(10, 20)))
            await until(lambda: found.ingester.counts.away, 15)
            with pytest.raises(StoreAway):
                await found.numbers()
            find()
            await until(lambda: found.ingester.counts.ingested == 20, 20)
            await tasks.close()
            assert await found.numbers() == list(range(20))
            assert not found.ingester.counts.away

    run(story(), limit=50)
    assert "audit records wait in" in caplog.text
    assert "are moved to the store again" in caplog.text


def test_a_journal_that_begins_anew_is_read_from_there(tmp_path: Path) -> None:
    """Somebody has emptied the directory."""

    async def story() -> None:
        async with trail(tmp_path) as found:
            found.write(map(line, range(10)), segment=4)
            await found.moved()
            segment_path(found.directory, 4).unlink()
            found.write([line(10)], segment=1)
            await found.moved()
            assert await found.numbers() == list(range(11))

    run(story())


MOVE = """
import asyncio, logging, resource, sys
from pathlib import Path
from moongate.audit.ingest import Ingester
from moongate.audit.chain import chain_key
from moongate.store.engine import open_store

async def main():
    data = Path(sys.argv[1])
    if len(sys.argv) > 3:
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), resource.RLIM_INFINITY))
    store = await open_store(sys.argv[2] or None, data)
    await Ingester(store, data / "journal", chain_key(b"k" * 32)).run()

logging.basicConfig()
asyncio.run(main())
"""


@pytest.mark.requirement("PM-55")
def test_a_full_disk_of_the_database_is_waited_for(tmp_path: Path) -> None:
    """What does not fit stays in the journal, the log says so; with room again, each is there once."""
    place, count = Database(None, tmp_path), 20_000

    async def story() -> None:
        async with trail(place) as found:
            found.write(map(line, range(count)))
            size = (tmp_path / "moongate.db").stat().st_size
        full = [sys.executable, "-c", MOVE, str(tmp_path), "", str(size + 3_000_000)]
        process = await asyncio.create_subprocess_exec(*full, stderr=asyncio.subprocess.PIPE)
        assert process.stderr is not None
        said = await process.stderr.readuntil(b"audit records wait in")
        process.kill()
        said += await process.stderr.read()
        await process.wait()
        assert b"the store cannot be used now" in said
        async with trail(place) as found:
            assert await found.value("SELECT count(*) FROM audit_records") < count
            await found.moved()
            assert await found.numbers() == list(range(count))
            assert (await verify(found.store, [KEY])).ok

    run(story(), limit=50)


def test_an_ingester_that_is_killed_loses_and_doubles_nothing(database: Database) -> None:
    """SIGKILL at random moments, while several segments are being moved."""
    dice = random.Random(7)
    count = 60_000

    async def story() -> None:
        async with trail(database) as found:
            for segment in range(6):
                found.write(map(line, range(segment * 10_000, (segment + 1) * 10_000)), segment=segment + 1)
            arguments = [sys.executable, "-c", MOVE, str(database.data_dir), database.url or ""]
            for _ in range(3):
                before = await found.value("SELECT count(*) FROM audit_records")
                process = await asyncio.to_thread(subprocess.Popen, arguments, stderr=subprocess.DEVNULL)
                while before < count and await found.value("SELECT count(*) FROM audit_records") == before:  # noqa: ASYNC110 - another process works
                    await asyncio.sleep(0.01)
                await asyncio.sleep(dice.random() * 0.1)
                os.kill(process.pid, signal.SIGKILL)
                await asyncio.to_thread(process.wait)
            await found.moved()
            assert await found.value("SELECT count(*) FROM audit_records") == count
            assert await found.value("SELECT count(DISTINCT request_id) FROM audit_records") == count
            assert (await verify(found.store, [KEY])).ok

    run(story(), limit=50)
