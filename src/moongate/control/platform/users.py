"""Users are who calls. Groups are what access rules call several of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from sqlalchemy import Row, delete, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from moongate.control.platform.failures import Exists, NotFound
from moongate.control.platform.ground import Change, Ground, check_revision, existing, findable, page
from moongate.control.platform.roles import may_write
from moongate.control.platform.shapes import Actor, Group, Page, User, UserNew, UserPatch, UserPut, moment
from moongate.control.platform.size import check_size
from moongate.store.tables import user_groups, users

KIND = "users"
# Deletes all tokens of a user, in the transaction of the connection.
DeleteTokens = Callable[[AsyncConnection, str, Actor], Awaitable[None]]


class Users:
    """Deleting a user deletes the tokens of that user; disabling one takes them out of force."""

    def __init__(self, ground: Ground, delete_tokens: DeleteTokens) -> None:
        self._ground = ground
        self._delete_tokens = delete_tokens

    async def list(
        self, *, q: str | None = None, group: str | None = None, limit: int = 100, cursor: str | None = None
    ) -> Page[User]:
        """By name; `q` is looked for in name, notes and groups."""
        async with self._ground.store.read() as connection:
            rows = (await connection.execute(select(users).order_by(users.c.name))).all()
            groups = await _groups(connection)
        found = [_shown(row, groups.get(row.name, ())) for row in rows]
        wanted = [
            user
            for user in sorted(found, key=lambda user: user.name)
            if (group is None or group in user.groups)
            and (q is None or any(q.lower() in text.lower() for text in (user.name, user.notes, *user.groups)))
        ]
        return page(wanted, lambda user: user.name, limit, cursor)

    async def groups(self) -> Sequence[Group]:
        """All groups with their members."""
        async with self._ground.store.read() as connection:
            members = await _groups(connection)
        names = sorted({group for groups in members.values() for group in groups})
        return [
            Group(name=name, users=sorted(user for user, groups in members.items() if name in groups)) for name in names
        ]

    async def get(self, name: str) -> User:
        """Raises NotFound."""
        async with self._ground.store.read() as connection:
            query = select(users).where(users.c.name == name)
            row = (await connection.execute(query)).one_or_none() if findable(name) else None
            if row is None:
                raise NotFound(f"there is no user {name!r}")
            return _shown(row, (await _groups(connection, name)).get(name, ()))

    async def create(self, new: UserNew, by: Actor) -> User:
        """Raises Exists, Forbidden."""
        may_write(by)
        now = self._ground.clock()
        try:
            async with self._ground.store.write() as connection:
                revision = await self._ground.next_revision(connection, KIND, new.name)
                await connection.execute(
                    insert(users).values(
                        name=new.name,
                        notes=new.notes,
                        enabled=new.enabled,
                        revision=revision,
                        created=now,
                        updated=now,
                    )
                )
                await _set_groups(connection, new.name, new.groups)
                return await self._recorded(connection, new.name, "created", by)
        except IntegrityError:
            raise Exists(f"there is already a user {new.name!r}; choose another name, or change that one") from None

    async def replace(self, name: str, new: UserPut, by: Actor, revision: int | None = None) -> User:
        """Everything but the name. Raises NotFound, Stale, Forbidden."""
        return await self._change(name, lambda _user: new, by, revision)

    async def patch(self, name: str, new: UserPatch, by: Actor, revision: int | None = None) -> User:
        """What `new` names. Raises NotFound, Stale, Forbidden."""
        given = new.model_dump(exclude_unset=True, exclude_none=True, by_alias=True)
        return await self._change(name, lambda user: UserPut.model_validate({**_state(user), **given}), by, revision)

    async def delete(self, name: str, by: Actor, revision: int | None = None) -> None:
        """With all tokens of the user; the history keeps them. Raises NotFound, Stale, Forbidden."""
        may_write(by)
        async with self._ground.store.write() as connection:
            row = await existing(connection, users, users.c.name, name)
            check_revision(row, revision, f"the user {name!r}")
            user = _shown(row, (await _groups(connection, name)).get(name, ()))
            await self._delete_tokens(connection, name, by)
            await connection.execute(delete(users).where(users.c.name == name))
            change = Change(KIND, name, row.revision + 1, "deleted", _state(user))
            await self._ground.record(connection, change, by)

    async def _change(self, name: str, new: Callable[[User], UserPut], by: Actor, revision: int | None) -> User:
        may_write(by)
        async with self._ground.store.write() as connection:
            row = await existing(connection, users, users.c.name, name)
            check_revision(row, revision, f"the user {name!r}")
            put = new(_shown(row, (await _groups(connection, name)).get(name, ())))
            await connection.execute(
                update(users)
                .where(users.c.name == name)
                .values(notes=put.notes, enabled=put.enabled, revision=row.revision + 1, updated=self._ground.clock())
            )
            await _set_groups(connection, name, put.groups)
            await check_size(self._ground, connection, "groups")
            return await self._recorded(connection, name, "changed", by)

    async def _recorded(self, connection: AsyncConnection, name: str, action: str, by: Actor) -> User:
        row = await existing(connection, users, users.c.name, name)
        user = _shown(row, (await _groups(connection, name)).get(name, ()))
        await self._ground.record(connection, Change(KIND, name, row.revision, action, _state(user)), by)
        return user


async def _groups(connection: AsyncConnection, name: str | None = None) -> dict[str, Sequence[str]]:
    query = select(user_groups).order_by(user_groups.c.group_name)
    found: dict[str, list[str]] = {}
    for row in await connection.execute(query if name is None else query.where(user_groups.c.user_name == name)):
        found.setdefault(row.user_name, []).append(row.group_name)
    return {user: sorted(groups) for user, groups in found.items()}


async def _set_groups(connection: AsyncConnection, name: str, groups: Sequence[str]) -> None:
    await connection.execute(delete(user_groups).where(user_groups.c.user_name == name))
    if groups:
        rows = [{"user_name": name, "group_name": group} for group in groups]
        await connection.execute(insert(user_groups), rows)


def _state(user: User) -> dict[str, Any]:
    return {"notes": user.notes, "groups": user.groups, "enabled": user.enabled}


def _shown(row: Row[Any], groups: Sequence[str]) -> User:
    return User(
        name=row.name,
        notes=row.notes,
        groups=[*groups],
        enabled=row.enabled,
        revision=row.revision,
        created=moment(row.created),
        updated=moment(row.updated),
    )
