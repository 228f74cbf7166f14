"""A platform on a database of its own, and a clock that tests turn."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from moongate.control.platform.instances import Surroundings
from moongate.control.platform.platform import Platform
from moongate.control.platform.shapes import Actor, Instance, InstanceNew, TokenMade, TokenNew, UserNew
from moongate.store.engine import open_store
from tests.databases import Database

SECONDS = 30
ADMIN = Actor("ada", "admin")
OPERATOR = Actor("otto", "operator")
AUDITOR = Actor("audrey", "auditor")
URL = "http://127.0.0.1:9000/mcp"


class Clock:
    """Unix seconds."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def opened(
    database: Database,
    surroundings: Surroundings | None = None,
    clock: Clock | None = None,
    environ: dict[str, str] | None = None,
) -> AsyncIterator[Platform]:
    """All services over the database; several of them share it."""
    store = await open_store(database.url, database.data_dir)
    try:
        yield await Platform.open(store, database.data_dir, environ or {}, surroundings, clock or Clock())
    finally:
        await store.close()


def run(story: Callable[[], Coroutine[None, None, None]]) -> None:
    """One story within its time."""

    async def bounded() -> None:
        async with asyncio.timeout(SECONDS):
            await story()

    asyncio.run(bounded())


def entry(**more: object) -> dict[str, Any]:
    """An entry that can be served."""
    return {"url": URL, "type": "streamable-http", **more}


async def make_instance(platform: Platform, name: str = "time", **config: object) -> Instance:
    """A stored instance."""
    new = InstanceNew.model_validate({"name": name, "config": entry(**config)})
    return await platform.instances.create(new, OPERATOR)


async def make_user(platform: Platform, name: str = "alice", *groups: str) -> None:
    """A user."""
    await platform.users.create(UserNew.model_validate({"name": name, "groups": list(groups)}), OPERATOR)


async def make_token(platform: Platform, user: str = "alice", **more: object) -> TokenMade:
    """A token."""
    return await platform.tokens.create(TokenNew.model_validate({"user": user, **more}), OPERATOR)
