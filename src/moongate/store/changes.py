"""A change made by one process is noticed by the others within a second.

A row counts the changes. SQLite: `PRAGMA data_version` of one connection says, without a lock or a read of the row,
that another connection wrote; it is asked a few times a second. PostgreSQL: LISTEN, on a connection of its own that is
made anew when it breaks, and the row is read now and then for what a broken connection did not tell.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import Protocol

from sqlalchemy.ext.asyncio import AsyncConnection

from moongate.store.engine import CHANNEL, Store
from moongate.store.failing import StoreAway, as_away

log = logging.getLogger(__name__)

POLL_SECONDS = 0.25
# How often the row is read although nothing was heard, and a database that is away is tried again.
LOOK_SECONDS = 5.0
AGAIN_SECONDS = 0.5
# How long a server may take to say that it is there.
BEAT_SECONDS = 5.0


class Changes:
    """Tells of changes of the store, one's own ones too. For one waiting task; close it when that has ended."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._woken = asyncio.Event()
        self._ears: _Ears | None = None
        self._generation = store.generation
        self._last: int | None = None
        # False while the database does not answer.
        self.reachable = True
        store.on_change.append(self._woken.set)

    async def changed(self) -> int:
        """The count of changes, as soon as it is another one than this gave last; the first time at once.

        Several changes may become one. While the database is away it waits, and goes on when it is back.
        """
        while True:
            try:
                self._woken.clear()
                count = await self._count()
                if self._generation != self._store.generation:
                    await self._drop()
                if self._ears is None:
                    self._generation = self._store.generation
                    self._ears = await _open(self._store, self._woken)
                    count = await self._count()
                self._say(reachable=True)
                if count != self._last:
                    self._last = count
                    return count
                await self._ears.wait()
            except StoreAway as away:
                self._say(reachable=False, why=str(away))
                await self._drop()
                await _pause(self._woken, AGAIN_SECONDS)

    async def close(self) -> None:
        """Gives its connection back."""
        with suppress(ValueError):
            self._store.on_change.remove(self._woken.set)
        await self._drop()

    async def _count(self) -> int:
        """A server that stands still must not keep that to itself for as long as a statement may take."""
        if self._store.dialect == "sqlite":
            return await self._store.change_count()
        with as_away():
            async with asyncio.timeout(BEAT_SECONDS):
                return await self._store.change_count()

    async def _drop(self) -> None:
        ears, self._ears = self._ears, None
        if ears is not None:
            with suppress(StoreAway):
                await ears.close()

    def _say(self, *, reachable: bool, why: str = "") -> None:
        if reachable != self.reachable:
            self.reachable = reachable
            if reachable:
                log.warning("the store is back: %s", self._store.place.shown)
            else:
                log.warning("%s; going on with what is known, and trying again", why)


class _Ears(Protocol):
    """One connection that hears what others write."""

    async def wait(self) -> None:
        """Until something may have changed, or for LOOK_SECONDS. Raises StoreAway."""

    async def close(self) -> None:
        """Ends the connection."""


async def _open(store: Store, woken: asyncio.Event) -> _Ears:
    with as_away():
        connection = await store.engine.connect()
        try:
            if store.dialect == "sqlite":
                return await _Polling.open(connection, woken)
            return await _Listening.open(connection, woken)
        except BaseException:
            await connection.invalidate()
            await connection.close()
            raise


class _Polling:
    """SQLite. The pragma answers from memory that all processes share; the file is not read."""

    def __init__(self, connection: AsyncConnection, woken: asyncio.Event) -> None:
        self._connection = connection
        self._woken = woken
        self._version = -1

    @classmethod
    async def open(cls, connection: AsyncConnection, woken: asyncio.Event) -> _Polling:
        polling = cls(connection, woken)
        polling._version = await polling._read()
        return polling

    async def _read(self) -> int:
        with as_away():
            driver = (await self._connection.get_raw_connection()).driver_connection
            if driver is None:
                raise StoreAway("the connection to the store was closed")
            async with driver.execute("PRAGMA data_version") as cursor:
                return int((await cursor.fetchone())[0])

    async def wait(self) -> None:
        looks = int(LOOK_SECONDS / POLL_SECONDS)
        while looks and not self._woken.is_set():
            await _pause(self._woken, POLL_SECONDS)
            version = await self._read()
            if version != self._version:
                self._version = version
                return
            looks -= 1

    async def close(self) -> None:
        await _end(self._connection)


class _Listening:
    """PostgreSQL: LISTEN."""

    def __init__(self, connection: AsyncConnection, woken: asyncio.Event) -> None:
        self._connection = connection
        self._woken = woken

    @classmethod
    async def open(cls, connection: AsyncConnection, woken: asyncio.Event) -> _Listening:
        driver = (await connection.get_raw_connection()).driver_connection
        if driver is None:
            raise StoreAway("the connection to the store was closed")
        driver.add_termination_listener(lambda *_: woken.set())
        await driver.add_listener(CHANNEL, lambda *_: woken.set())
        return cls(connection, woken)

    async def wait(self) -> None:
        await _pause(self._woken, LOOK_SECONDS)
        with as_away():
            driver = (await self._connection.get_raw_connection()).driver_connection
            if driver is None or driver.is_closed():
                raise StoreAway("the connection to the store broke")
            async with asyncio.timeout(BEAT_SECONDS):
                await driver.fetchval("SELECT 1")

    async def close(self) -> None:
        await _end(self._connection)


async def _end(connection: AsyncConnection) -> None:
    with as_away():
        # What listens, or reads a file that is gone, must not go back to the pool.
        await connection.invalidate()
        await connection.close()


async def _pause(woken: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await woken.wait()
