"""Single values in the store: settings that people change, and marks that the gateway keeps for itself."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from sqlalchemy import Row, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from moongate.control.platform.ground import Change, Ground, check_revision
from moongate.control.platform.roles import only_admins
from moongate.control.platform.shapes import Actor, Settings, SettingsPut, moment
from moongate.store.tables import settings

KIND = "settings"
PLATFORM = "platform"


class Values:
    """Sealed values by name. One that was never put is None, with revision 0."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground

    async def row(self, connection: AsyncConnection, name: str, *, hold: bool = False) -> Row[Any]:
        """The row of a name that was seeded; `hold`: nobody else changes it before the transaction ends."""
        query = select(settings).where(settings.c.name == name)
        return (await connection.execute(query.with_for_update() if hold else query)).one()

    async def seed(self, names: Sequence[str]) -> None:
        """Makes the rows, so that of two who put a value for the first time one waits for the other."""
        async with self._ground.store.read() as connection:
            there = set((await connection.scalars(select(settings.c.name))).all())
        for name in names:
            if name not in there:
                sealed = self._ground.seal(KIND, name, None)
                with suppress(IntegrityError):  # another process was faster
                    async with self._ground.store.write(quiet=True) as connection:
                        await connection.execute(
                            insert(settings).values(
                                name=name, value_sealed=sealed, revision=0, updated=self._ground.clock()
                            )
                        )

    async def get(self, connection: AsyncConnection, name: str) -> Any:
        """The value."""
        sealed = await connection.scalar(select(settings.c.value_sealed).where(settings.c.name == name))
        return None if sealed is None else self._ground.open(KIND, name, sealed)

    def open(self, row: Row[Any]) -> Any:
        """The value of a row."""
        return self._ground.open(KIND, row.name, row.value_sealed)

    async def put(self, connection: AsyncConnection, name: str, value: object) -> int:
        """Sets it and gives its revision; nothing is written if it already is that."""
        row = await self.row(connection, name, hold=True)
        if self.open(row) == value:
            return int(row.revision)
        await connection.execute(
            update(settings)
            .where(settings.c.name == name)
            .values(
                value_sealed=self._ground.seal(KIND, name, value),
                revision=row.revision + 1,
                updated=self._ground.clock(),
            )
        )
        return int(row.revision) + 1


class PlatformSettings:
    """What holds for the platform, beside what the files say."""

    def __init__(self, ground: Ground, values: Values) -> None:
        self._ground = ground
        self._values = values

    async def get(self) -> Settings:
        """As it is now, or the defaults."""
        async with self._ground.store.read() as connection:
            return self._shown(await self._values.row(connection, PLATFORM))

    async def put(self, new: SettingsPut, by: Actor, revision: int | None = None) -> Settings:
        """All of it; only admins. Raises Stale, Forbidden."""
        only_admins(by)
        async with self._ground.store.write() as connection:
            row = await self._values.row(connection, PLATFORM, hold=True)
            check_revision(row, revision, "the settings")
            state = new.model_dump(by_alias=True)
            number = await self._values.put(connection, PLATFORM, state)
            if number != row.revision:
                await self._ground.record(connection, Change(KIND, PLATFORM, number, "changed", state), by)
            return self._shown(await self._values.row(connection, PLATFORM))

    def _shown(self, row: Row[Any]) -> Settings:
        put = SettingsPut.model_validate(self._values.open(row) or {})
        return Settings(
            **put.model_dump(), revision=row.revision, updated=moment(row.updated) if row.revision else None
        )
