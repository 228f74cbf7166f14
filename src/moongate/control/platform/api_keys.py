"""Keys for programs that use the API: made at random, shown once, kept as a digest."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, cast

from sqlalchemy import Row, delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from moongate.control.platform.failures import NotFound
from moongate.control.platform.ground import (
    Change,
    Ground,
    check_revision,
    existing,
    findable,
    is_value,
    make_value,
    new_id,
)
from moongate.control.platform.roles import only_admins
from moongate.control.platform.shapes import (
    Actor,
    ApiKey,
    ApiKeyMade,
    ApiKeyNew,
    ApiKeyPatch,
    Role,
    moment,
    moment_or_none,
    seconds_of,
)
from moongate.store.tables import api_keys

KIND = "api_keys"
PREFIX = "mgk"
# How exact the time of last use is: a write for each request would cost more than the request.
_TOUCH_SECONDS = 60.0


class ApiKeys:
    """Only admins see and write them."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground

    async def list(self) -> Sequence[ApiKey]:
        """By id."""
        async with self._ground.store.read() as connection:
            rows = (await connection.execute(select(api_keys))).all()
        return sorted(map(self._shown, rows), key=lambda key: key.id)

    async def get(self, id_: str) -> ApiKey:
        """Raises NotFound."""
        async with self._ground.store.read() as connection:
            query = select(api_keys).where(api_keys.c.id == id_)
            row = (await connection.execute(query)).one_or_none() if findable(id_) else None
        if row is None:
            raise NotFound(f"there is no API key {id_!r}")
        return self._shown(row)

    async def create(self, new: ApiKeyNew, by: Actor) -> ApiKeyMade:
        """With the value, for the first and last time. Raises Forbidden."""
        only_admins(by)
        value, id_, now = make_value(PREFIX), new_id("key"), self._ground.clock()
        async with self._ground.store.write() as connection:
            await connection.execute(
                insert(api_keys).values(
                    id=id_,
                    name=new.name,
                    role=new.role,
                    sha256=_digest(value),
                    expires=seconds_of(new.expires),
                    enabled=True,
                    made_by=by.name,
                    revision=1,
                    created=now,
                    updated=now,
                )
            )
            return ApiKeyMade(api_key=await self._recorded(connection, id_, "created", by), value=value)

    async def patch(self, id_: str, new: ApiKeyPatch, by: Actor, revision: int | None = None) -> ApiKey:
        """What `new` names. Raises NotFound, Stale, Forbidden."""
        only_admins(by)
        given = new.model_dump(exclude_unset=True, exclude_none=True)
        if "expires" in new.model_fields_set:
            given["expires"] = seconds_of(new.expires)
        async with self._ground.store.write() as connection:
            row = await existing(connection, api_keys, api_keys.c.id, id_)
            check_revision(row, revision, f"the API key {id_!r}")
            await connection.execute(
                update(api_keys)
                .where(api_keys.c.id == id_)
                .values(**given, revision=row.revision + 1, updated=self._ground.clock())
            )
            return await self._recorded(connection, id_, "changed", by)

    async def delete(self, id_: str, by: Actor, revision: int | None = None) -> None:
        """Raises NotFound, Stale, Forbidden."""
        only_admins(by)
        async with self._ground.store.write() as connection:
            row = await existing(connection, api_keys, api_keys.c.id, id_)
            check_revision(row, revision, f"the API key {id_!r}")
            await connection.execute(delete(api_keys).where(api_keys.c.id == id_))
            change = Change(KIND, id_, row.revision + 1, "deleted", _state(self._shown(row)))
            await self._ground.record(connection, change, by)

    async def check(self, value: str) -> Actor | None:
        """Whose key it is; None for one that is unknown, disabled or expired."""
        if not is_value(PREFIX, value):
            return None
        now = self._ground.clock()
        async with self._ground.store.read() as connection:
            # By its digest: what an attacker could learn from the time of the look-up is of no use to him.
            query = select(api_keys).where(api_keys.c.sha256 == _digest(value))
            row = (await connection.execute(query)).one_or_none()
        if row is None or not row.enabled or (row.expires is not None and row.expires <= now):
            return None
        if row.last_used is None or row.last_used < now - _TOUCH_SECONDS:
            async with self._ground.store.write(quiet=True) as connection:
                await connection.execute(update(api_keys).where(api_keys.c.id == row.id).values(last_used=now))
        return Actor(f"{row.name} ({row.id})", cast("Role", row.role))

    async def _recorded(self, connection: AsyncConnection, id_: str, action: str, by: Actor) -> ApiKey:
        key = self._shown(await existing(connection, api_keys, api_keys.c.id, id_))
        await self._ground.record(connection, Change(KIND, id_, key.revision, action, _state(key)), by)
        return key

    def _shown(self, row: Row[Any]) -> ApiKey:
        return ApiKey(
            id=row.id,
            name=row.name,
            role=row.role,
            expires=moment_or_none(row.expires),
            expired=row.expires is not None and row.expires <= self._ground.clock(),
            enabled=row.enabled,
            made_by=row.made_by,
            created=moment(row.created),
            updated=moment(row.updated),
            last_used=moment_or_none(row.last_used),
            fingerprint=row.sha256[:8],
            revision=row.revision,
        )


def _digest(value: str) -> str:
    return hashlib.sha256(value.encode()).hexdigest()


def _state(key: ApiKey) -> dict[str, Any]:
    return key.model_dump(by_alias=True, include={"name", "role", "expires", "enabled", "fingerprint"})
