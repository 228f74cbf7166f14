"""Accounts of those who may sign in on the admin port."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from sqlalchemy import Row, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from moongate.control.platform.failures import Exists, Needed, NotFound
from moongate.control.platform.ground import Change, Ground, check_revision, existing, findable
from moongate.control.platform.guesses import OF_NAME, OF_SOURCE, Guesses, Key
from moongate.control.platform.passwords import Hasher
from moongate.control.platform.roles import only_admins
from moongate.control.platform.shapes import (
    MAX_PASSWORD,
    Actor,
    Operator,
    OperatorNew,
    OperatorPatch,
    Role,
    moment,
    moment_or_none,
)
from moongate.store.tables import NAME, operators, sign_ins

KIND = "operators"


class Operators:
    """Only admins see and write accounts; there is always one admin left who can sign in."""

    def __init__(self, ground: Ground, hasher: Hasher, guesses: Guesses) -> None:
        self._ground = ground
        self._hasher = hasher
        self._guesses = guesses

    async def list(self) -> Sequence[Operator]:
        """By name."""
        async with self._ground.store.read() as connection:
            rows = (await connection.execute(select(operators))).all()
        return sorted(map(_shown, rows), key=lambda operator: operator.name)

    async def get(self, name: str) -> Operator:
        """Raises NotFound."""
        row = await self._row(name)
        if row is None:
            raise NotFound(f"there is no operator {name!r}")
        return _shown(row)

    async def any(self) -> bool:
        """Whether there is an account at all."""
        async with self._ground.store.read() as connection:
            return bool(await connection.scalar(select(func.count()).select_from(operators)))

    async def create(self, new: OperatorNew, by: Actor) -> Operator:
        """Raises Exists, Forbidden."""
        only_admins(by)
        hashed, now = await self._hasher.hash(new.password), self._ground.clock()
        try:
            async with self._ground.store.write() as connection:
                revision = await self._ground.next_revision(connection, KIND, new.name)
                await connection.execute(
                    insert(operators).values(
                        name=new.name,
                        role=new.role,
                        password_hash=hashed,
                        enabled=new.enabled,
                        revision=revision,
                        created=now,
                        updated=now,
                    )
                )
                return await self._recorded(connection, new.name, "created", by)
        except IntegrityError:
            raise Exists(f"there is already an operator {new.name!r}") from None

    async def patch(self, name: str, new: OperatorPatch, by: Actor, revision: int | None = None) -> Operator:
        """What `new` names; a new password, a role or a switch ends all sign-ins of the account."""
        if not (by.name == name and new.model_fields_set == {"password"}):
            only_admins(by)
        given = new.model_dump(exclude_unset=True, exclude_none=True)
        password = given.pop("password", None)
        if password is not None:
            given["password_hash"] = await self._hasher.hash(password)
        async with self._ground.store.write() as connection:
            row = await existing(connection, operators, operators.c.name, name)
            check_revision(row, revision, f"the operator {name!r}")
            await connection.execute(
                update(operators)
                .where(operators.c.name == name)
                .values(**given, revision=row.revision + 1, updated=self._ground.clock())
            )
            await self._keep_an_admin(connection)
            if given:
                await connection.execute(delete(sign_ins).where(sign_ins.c.operator_name == name))
            return await self._recorded(connection, name, "changed", by)

    async def delete(self, name: str, by: Actor, revision: int | None = None) -> None:
        """With its sign-ins. API keys that it made stay; they say who made them."""
        only_admins(by)
        async with self._ground.store.write() as connection:
            row = await existing(connection, operators, operators.c.name, name)
            check_revision(row, revision, f"the operator {name!r}")
            await connection.execute(delete(operators).where(operators.c.name == name))
            await self._keep_an_admin(connection)
            change = Change(KIND, name, row.revision + 1, "deleted", _state(_shown(row)))
            await self._ground.record(connection, change, by)

    async def check(self, name: str, password: str, source: str) -> Actor | None:
        """Who signs in, or None for a wrong name or password. `source` is where from. Raises TooMany."""
        who, place = name[:NAME], source[:NAME]
        keys = (Key(f"{who!r} from {place}"), Key(f"name {who}", OF_NAME), Key(f"source {place}", OF_SOURCE))
        self._guesses.check(*keys)
        # Counted before it is known to be wrong: guesses made at the same time must not slip through together.
        self._guesses.failed(*keys)
        row = await self._row(name)
        usable = row is not None and row.enabled
        right = await self._hasher.matches(
            password[: MAX_PASSWORD + 1], row.password_hash if usable and row is not None else None
        )
        if not right or row is None:
            return None
        self._guesses.succeeded(*keys)
        async with self._ground.store.write(quiet=True) as connection:
            await connection.execute(
                update(operators).where(operators.c.name == name).values(last_sign_in=self._ground.clock())
            )
        return Actor(row.name, cast("Role", row.role))

    async def _row(self, name: str) -> Row[Any] | None:
        async with self._ground.store.read() as connection:
            query = select(operators).where(operators.c.name == name)
            return (await connection.execute(query)).one_or_none() if findable(name) else None

    async def _keep_an_admin(self, connection: AsyncConnection) -> None:
        # Held, so that of two who remove each other one waits.
        able = select(operators.c.name).where(operators.c.role == "admin", operators.c.enabled.is_(True))
        if not (await connection.execute(able.with_for_update())).all():
            raise Needed("this is the last admin who can sign in; make another one first")

    async def _recorded(self, connection: AsyncConnection, name: str, action: str, by: Actor) -> Operator:
        operator = _shown(await existing(connection, operators, operators.c.name, name))
        change = Change(KIND, name, operator.revision, action, _state(operator))
        await self._ground.record(connection, change, by)
        return operator


def _state(operator: Operator) -> dict[str, Any]:
    return {"role": operator.role, "enabled": operator.enabled}


def _shown(row: Row[Any]) -> Operator:
    return Operator(
        name=row.name,
        role=row.role,
        enabled=row.enabled,
        created=moment(row.created),
        updated=moment(row.updated),
        last_sign_in=moment_or_none(row.last_sign_in),
        revision=row.revision,
    )
