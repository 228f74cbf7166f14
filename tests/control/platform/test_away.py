"""The database is away for a while: one typed error, and everything works again when it is back."""

from __future__ import annotations

from pathlib import Path

import pytest

from moongate.control.platform.platform import Platform
from moongate.store.failing import StoreAway
from tests.control.platform.stage import OPERATOR, make_instance, make_token, make_user, opened, run
from tests.databases import Database, PostgreSQL


async def all_away(platform: Platform) -> None:
    """Every service says the same."""
    for call in (
        platform.instances.list(),
        platform.users.list(),
        platform.tokens.list(),
        platform.access.get(),
        platform.operators.list(),
        platform.api_keys.list(),
        platform.settings.get(),
        platform.revisions.list(),
        platform.document(),
        platform.codes.make(),
        platform.sign_ins.check("x"),
        make_user(platform, "bob"),
        make_instance(platform, "late"),
    ):
        with pytest.raises(StoreAway):
            await call


def test_a_server_that_restarts(postgresql: PostgreSQL, tmp_path: Path) -> None:
    """PostgreSQL stops and starts."""
    database = Database(postgresql.new_database(), tmp_path, postgresql)

    async def story() -> None:
        async with opened(database) as platform:
            await make_user(platform)
            postgresql.stop()
            try:
                await all_away(platform)
            finally:
                postgresql.start()
            await make_token(platform)
            assert [user.name for user in (await platform.users.list()).items] == ["alice"]

    run(story)


def test_a_file_that_is_moved_away_and_back(tmp_path: Path) -> None:
    """SQLite's file goes and comes back."""
    database = Database(None, tmp_path)

    async def story() -> None:
        async with opened(database) as platform:
            await make_instance(platform)
            file = tmp_path / "moongate.db"
            file.rename(tmp_path / "elsewhere")
            await all_away(platform)
            (tmp_path / "elsewhere").rename(file)
            await platform.instances.delete("time", OPERATOR)

    run(story)
