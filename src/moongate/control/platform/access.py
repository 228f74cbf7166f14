"""The gateway-wide access rules: who may use what, before an instance's own rules say more."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row
from sqlalchemy.ext.asyncio import AsyncConnection

from moongate.control.platform.ground import Change, Ground, check_revision
from moongate.control.platform.judging import judge_access
from moongate.control.platform.roles import may_write
from moongate.control.platform.settings import Values
from moongate.control.platform.shapes import Access, Actor, moment
from moongate.control.platform.size import check_size
from moongate.errors import ConfigError

KIND = "access"
NAME = "access"


class AccessRules:
    """One block, as under `gateway.access` in a file."""

    def __init__(self, ground: Ground, values: Values) -> None:
        self._ground = ground
        self._values = values

    async def get(self) -> Access:
        """As it is now."""
        async with self._ground.store.read() as connection:
            return self._shown(await self._values.row(connection, NAME))

    async def put(self, block: dict[str, Any] | None, by: Actor, revision: int | None = None) -> Access:
        """All rules; None removes them. Raises ConfigError with every complaint, Stale, Forbidden."""
        may_write(by)
        complaints = [] if block is None else judge_access(block)
        if complaints:
            raise ConfigError(tuple(complaints))
        async with self._ground.store.write() as connection:
            return await self.put_judged(connection, block, by, revision)

    async def put_judged(
        self, connection: AsyncConnection, block: dict[str, Any] | None, by: Actor, revision: int | None = None
    ) -> Access:
        """The same, in the caller's transaction, of rules that were judged."""
        row = await self._values.row(connection, NAME, hold=True)
        check_revision(row, revision, "the access rules")
        number = await self._values.put(connection, NAME, block)
        if number != row.revision:
            await check_size(self._ground, connection, "access")
            await self._ground.record(connection, Change(KIND, NAME, number, "changed", {"access": block}), by)
        return self._shown(await self._values.row(connection, NAME))

    def _shown(self, row: Row[Any]) -> Access:
        # Sealed as a setting, like all single values.
        return Access(
            access=self._values.open(row),
            revision=row.revision,
            updated=moment(row.updated) if row.revision else None,
        )
