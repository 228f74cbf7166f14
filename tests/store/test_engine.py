"""The store: transactions, migrations, changes seen by others, and a database that goes away and comes back."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path

import pytest
from sqlalchemy import Connection, func, insert, select
from sqlalchemy.exc import IntegrityError

from moongate.errors import StartError
from moongate.store import engine
from moongate.store.changes import Changes
from moongate.store.engine import Store, open_store
from moongate.store.failing import StoreAway
from moongate.store.tables import codes, metadata
from tests.databases import Database, PostgreSQL

SECONDS = 20


def run(story: Callable[[], Coroutine[None, None, None]]) -> None:
    """One story within its time."""

    async def bounded() -> None:
        async with asyncio.timeout(SECONDS):
            await story()

    asyncio.run(bounded())


async def add(store: Store, *added: str) -> None:
    """Rows of no importance, in one transaction."""
    async with store.write() as connection:
        for name in added:
            await connection.execute(insert(codes).values(sha256=name, role="admin", created=1.0, expires=2.0))


async def names(store: Store) -> list[str]:
    """The rows that `add` made."""
    async with store.read() as connection:
        return list((await connection.scalars(select(codes.c.sha256).order_by(codes.c.sha256))).all())


def test_what_is_written_is_there_for_another(database: Database) -> None:
    """Two stores on one database: what one commits the other reads; what fails in the middle never was."""

    async def story() -> None:
        one = await open_store(database.url, database.data_dir)
        two = await open_store(database.url, database.data_dir)
        await add(one, "a")
        assert await names(two) == ["a"]
        with pytest.raises(IntegrityError):
            await add(two, "b", "a")
        assert await names(one) == ["a"]
        assert await one.change_count() == 1
        await one.close()
        await two.close()

    run(story)


def test_migrating_makes_the_tables_that_the_code_knows(database: Database) -> None:
    """From nothing to the newest revision: every column that `tables` names is there; again, nothing changes."""

    async def story() -> None:
        store = await open_store(database.url, database.data_dir)
        async with store.read() as connection:
            for table in metadata.sorted_tables:
                rows = (await connection.execute(select(func.count()).select_from(table))).scalar_one()
                assert rows == (2 if table.name == "counters" else 0)
                await connection.execute(select(table))
        await add(store, "kept")
        await store.migrate()
        assert await names(store) == ["kept"]
        await store.close()

    run(story)


def test_a_migration_that_breaks_off_leaves_nothing(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """All steps are one transaction: what fails at its end is as if it had not begun, and the next start does it."""

    def broken(connection: Connection) -> None:
        whole(connection)
        raise OSError("the power went out")

    async def story() -> None:
        with pytest.raises(StartError, match="the power went out"):
            await open_store(database.url, database.data_dir)
        monkeypatch.undo()
        store = await open_store(database.url, database.data_dir)
        await add(store, "a")
        assert await store.change_count() == 1
        await store.close()

    whole = engine._upgrade
    monkeypatch.setattr(engine, "_upgrade", broken)
    run(story)


def test_two_that_start_at_once_migrate_one_after_the_other(database: Database) -> None:
    """Several processes may open an empty database together; all of them can use it."""

    async def story() -> None:
        stores = await asyncio.gather(*(open_store(database.url, database.data_dir) for _ in range(4)))
        for number, store in enumerate(stores):
            await add(store, str(number))
        assert await names(stores[0]) == ["0", "1", "2", "3"]
        for store in stores:
            await store.close()

    run(story)


def test_writers_wait_for_each_other(database: Database) -> None:
    """Many writers on several stores: none fails, none is lost, each is counted."""

    async def story() -> None:
        stores = [await open_store(database.url, database.data_dir) for _ in range(2)]
        await asyncio.gather(*(add(stores[number % 2], f"{number:03}") for number in range(40)))
        assert len(await names(stores[0])) == 40
        assert await stores[1].change_count() == 40
        for store in stores:
            await store.close()

    run(story)


def test_a_change_is_noticed_within_a_second(database: Database) -> None:
    """Another store's write wakes the waiting one; its own writes do too, quiet ones do not."""

    async def story() -> None:
        one = await open_store(database.url, database.data_dir)
        two = await open_store(database.url, database.data_dir)
        changes = Changes(two)
        assert await changes.changed() == 0
        for number in range(3):
            async with asyncio.TaskGroup() as group:
                heard = group.create_task(_within(1.0, changes))
                await add(one if number % 2 else two, str(number))
            assert heard.result() == number + 1
        async with one.write(quiet=True) as connection:
            await connection.execute(insert(codes).values(sha256="q", role="admin", created=1.0, expires=2.0))
        with pytest.raises(TimeoutError):
            await _within(0.6, changes)
        await changes.close()
        await one.close()
        await two.close()

    run(story)


async def _within(seconds: float, changes: Changes) -> int:
    async with asyncio.timeout(seconds):
        return await changes.changed()


_WRITER = """
import asyncio, sys
from pathlib import Path
from moongate.store.engine import open_store
from tests.store.test_engine import add

async def main():
    store = await open_store(sys.argv[1] or None, Path(sys.argv[2]))
    for number in range(1_000_000):
        await add(store, f"{number:06}")
        print(number, flush=True)

asyncio.run(main())
"""


def test_a_writer_that_is_killed_loses_nothing_it_said(database: Database) -> None:
    """Killed (-9) in the middle of writing: what it said it wrote is there, in order, and others go on at once."""
    command = [sys.executable, "-c", _WRITER, database.url or "", str(database.data_dir)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        said = [writer.stdout.readline() for _ in range(50)]
        os.kill(writer.pid, signal.SIGKILL)
        said += writer.stdout.readlines()
    complete = [int(line) for line in said if line.endswith("\n")]

    async def story() -> None:
        store = await open_store(database.url, database.data_dir)
        found = [int(name) for name in await names(store)]
        assert found == list(range(len(found)))
        assert len(found) >= len(complete) >= 50
        assert await store.change_count() == len(found)
        await add(store, "after")
        await store.close()

    run(story)


def test_a_server_that_is_away_comes_back_by_itself(postgresql: PostgreSQL, tmp_path: Path) -> None:
    """PostgreSQL stops: one typed error, promptly; it starts again: the same store works, and changes are heard."""
    url = postgresql.new_database()

    async def story() -> None:
        store = await open_store(url, tmp_path)
        other = await open_store(url, tmp_path)
        changes = Changes(store)
        assert await changes.changed() == 0
        async with asyncio.TaskGroup() as group:
            heard = group.create_task(changes.changed())
            postgresql.stop()
            try:
                for _ in range(2):
                    with pytest.raises(StoreAway) as raised:
                        await add(other, "lost")
                    assert postgresql.password not in str(raised.value)
            finally:
                postgresql.start()
            await add(other, "kept")
        assert heard.result() == 1
        assert await names(store) == ["kept"]
        await changes.close()
        await store.close()
        await other.close()

    run(story)


def test_a_file_that_is_gone_is_not_replaced_by_an_empty_one(tmp_path: Path) -> None:
    """The file is moved away: StoreAway, and nothing is written to it; it comes back: everything works again."""

    async def story() -> None:
        store = await open_store(None, tmp_path)
        changes = Changes(store)
        await add(store, "a")
        assert await changes.changed() == 1
        file = tmp_path / "moongate.db"
        file.rename(tmp_path / "elsewhere")
        for _ in range(2):
            with pytest.raises(StoreAway, match="is gone"):
                await add(store, "b")
        assert not file.exists()
        (tmp_path / "elsewhere").rename(file)
        await add(store, "c")
        assert await names(store) == ["a", "c"]
        assert await _within(2, changes) == 2
        await changes.close()
        await store.close()

    run(story)


def test_a_backup_that_is_put_in_place_is_used(tmp_path: Path) -> None:
    """The file is replaced by another one while it is open: that one is read, written and listened to."""

    async def story() -> None:
        store = await open_store(None, tmp_path)
        other = await open_store(None, tmp_path / "backup")
        await add(other, "from the backup")
        await other.close()
        changes = Changes(store)
        assert await changes.changed() == 0
        for name in ("moongate.db-wal", "moongate.db-shm"):
            (tmp_path / name).unlink()
        (tmp_path / "backup" / "moongate.db").replace(tmp_path / "moongate.db")
        assert await names(store) == ["from the backup"]
        other = await open_store(None, tmp_path)
        assert await _within(7, changes) == 1
        await add(other, "later")
        assert await _within(1, changes) == 2
        await changes.close()
        await store.close()
        await other.close()

    run(story)


def test_a_locked_file_is_away_not_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another program holds the file for longer than a writer waits: StoreAway, reading goes on, then writing too."""
    monkeypatch.setattr(engine, "BUSY_MS", 200)

    async def story() -> None:
        store = await open_store(None, tmp_path)
        await add(store, "a")
        with sqlite3.connect(tmp_path / "moongate.db") as greedy:
            greedy.execute("BEGIN IMMEDIATE")
            with pytest.raises(StoreAway, match="locked"):
                await add(store, "b")
            assert await names(store) == ["a"]
            greedy.rollback()
        greedy.close()
        await add(store, "c")
        await store.close()

    run(story)


def test_a_full_disk_is_away_not_broken(tmp_path: Path) -> None:
    """Nothing more fits into the file: StoreAway, what was there is there; with room again, writing goes on."""

    async def story() -> None:
        store = await open_store(None, tmp_path)
        await add(store, "a")
        async with store.engine.connect() as connection:
            pages = (await connection.exec_driver_sql("PRAGMA page_count")).scalar_one()
            await connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
        many = [f"{number:060}" for number in range(500)]
        with pytest.raises(StoreAway, match="full"):
            await add(store, *many)
        assert await names(store) == ["a"]
        async with store.engine.connect() as connection:
            await connection.exec_driver_sql("PRAGMA max_page_count = 1000000")
        await add(store, *many)
        assert len(await names(store)) == 501
        await store.close()

    run(story)


def test_the_file_is_its_users_alone(tmp_path: Path) -> None:
    """The file, and what SQLite keeps beside it, can be read by nobody else; a wider mode is narrowed."""

    async def story() -> None:
        store = await open_store(None, tmp_path / "data")
        await add(store, "a")
        found = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "data").iterdir()}
        assert set(found) == {"moongate.db", "moongate.db-wal", "moongate.db-shm"}
        assert set(found.values()) == {0o600}
        await store.close()
        (tmp_path / "data" / "moongate.db").chmod(0o644)
        await (await open_store(None, tmp_path / "data")).close()
        assert (tmp_path / "data" / "moongate.db").stat().st_mode & 0o777 == 0o600

    run(story)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("mysql://root:swordfish@db/x", "mysql cannot be used"),
        ("swordfish", "not the address of a database"),
        ("postgresql://u:swordfish@127.0.0.1:port/x", "not the address"),
        ("postgresql://u:swordfish@127.0.0.1:1/x", "postgresql://u@127.0.0.1:1/x: the store cannot be reached"),
        ("postgresql://u:swordfish@no-such-host.invalid/x", "cannot be reached"),
        ("sqlite:///:memory:", "only a file"),
        ("sqlite://", "only a file"),
        ("sqlite:////proc/none/x.db", "cannot be made or opened"),
        ("postgresql://u:swordfish@127.0.0.1:1/x?foo=swordfish", "cannot be used as they are (foo)"),
    ],
)
def test_a_store_that_cannot_be_opened_says_why_and_no_password(url: str, said: str, tmp_path: Path) -> None:
    """A wrong address, a server that is not there: a reason to act on, without what stands before the @."""

    async def story() -> None:
        with pytest.raises(StartError) as raised:
            await open_store(url, tmp_path)
        assert said in str(raised.value)
        assert "swordfish" not in str(raised.value)

    run(story)


def test_a_wrong_password_is_not_repeated(postgresql: PostgreSQL, tmp_path: Path) -> None:
    """The server refuses: the message names the user, never the password."""
    url = postgresql.url("postgres").replace(postgresql.password, "swordfish")

    async def story() -> None:
        with pytest.raises(StartError, match="password authentication failed") as raised:
            await open_store(url, tmp_path)
        assert "swordfish" not in str(raised.value)

    run(story)


def test_a_database_of_a_newer_version_is_refused(database: Database) -> None:
    """An older program leaves the tables of a newer one alone."""

    async def story() -> None:
        store = await open_store(database.url, database.data_dir)
        async with store.write() as connection:
            await connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
        with pytest.raises(StartError, match="newer version"):
            await open_store(database.url, database.data_dir)
        await store.close()

    run(story)


def test_something_that_is_no_database_is_refused(tmp_path: Path) -> None:
    """A file with other content is named, not overwritten."""
    (tmp_path / "moongate.db").write_text("this is not a database" * 100)

    async def story() -> None:
        with pytest.raises(StartError, match=r"moongate\.db: the store cannot be used now: file is not a database"):
            await open_store(None, tmp_path)

    run(story)
    assert (tmp_path / "moongate.db").read_text() == "this is not a database" * 100
