"""Which store it is, whose locks are on its file, and a server that stands still."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

from moongate.store import changes as listening
from moongate.store.changes import Changes
from moongate.store.engine import open_store
from moongate.tasks import Tasks
from tests.databases import Database, PostgreSQL
from tests.store.test_engine import add, run

_COUNT = """
import sqlite3, sys
database = sqlite3.connect(sys.argv[1])
print(database.execute("SELECT count(*) FROM codes").fetchone()[0])
database.close()
"""


def test_a_store_knows_which_one_it_is(database: Database, tmp_path: Path) -> None:
    """It says the same each time, and no other store says it."""

    async def story() -> None:
        store = await open_store(database.url, database.data_dir)
        known = await store.identity()
        await store.close()
        again = await open_store(database.url, database.data_dir)
        assert await again.identity() == known
        await again.close()
        other = await open_store(None, tmp_path / "other")
        assert await other.identity() not in {known, "0"}
        await other.close()

    run(story)


def test_opening_a_store_twice_keeps_its_locks(tmp_path: Path) -> None:
    """Another process that opens and closes the file must not take the log away that this one writes to."""

    def count() -> str:
        return subprocess.run(
            [sys.executable, "-c", _COUNT, str(tmp_path / "moongate.db")],
            capture_output=True,
            text=True,
            check=True,
            timeout=20,
        ).stdout.strip()

    async def story() -> None:
        store = await open_store(None, tmp_path)
        await add(store, "a")
        await (await open_store(None, tmp_path)).close()
        assert await asyncio.to_thread(count) == "1"
        await add(store, "b")
        assert await asyncio.to_thread(count) == "2"
        await store.close()

    run(story)
    with closing(sqlite3.connect(tmp_path / "moongate.db")) as database:
        assert database.execute("SELECT count(*) FROM codes").fetchone() == (2,)


def _tree(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(found for child in children for found in _tree(int(child)))]


def test_a_server_that_stands_still_is_noticed(postgresql: PostgreSQL, tmp_path: Path) -> None:
    """Its connections stay open and say nothing: it counts as away after one beat that had no answer."""

    async def story() -> None:
        store = await open_store(postgresql.new_database(), tmp_path)
        changes = Changes(store)
        await changes.changed()
        tasks = Tasks("changes")
        tasks.spawn(changes.changed(), "listen")
        frozen = _tree(postgresql.pid)
        for pid in frozen:
            os.kill(pid, signal.SIGSTOP)
        try:
            await _until(changes, reachable=False, seconds=listening.LOOK_SECONDS + listening.BEAT_SECONDS + 1)
        finally:
            for pid in frozen:
                os.kill(pid, signal.SIGCONT)
        await _until(changes, reachable=True, seconds=10)
        await tasks.close()
        await changes.close()
        await store.close()

    async def bounded() -> None:
        async with asyncio.timeout(40):
            await story()

    asyncio.run(bounded())


async def _until(changes: Changes, *, reachable: bool, seconds: float) -> None:
    async with asyncio.timeout(seconds):
        while changes.reachable != reachable:  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0.05)
