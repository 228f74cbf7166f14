"""Client tokens: made at random, shown once, kept as a digest."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Float, Row, String, bindparam, delete, insert, or_, select, update
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
    page,
    refuse,
)
from moongate.control.platform.instances import Surroundings, instance_names
from moongate.control.platform.roles import may_write
from moongate.control.platform.settings import Values
from moongate.control.platform.shapes import (
    Actor,
    Page,
    Token,
    TokenMade,
    TokenNew,
    TokenPatch,
    moment,
    moment_or_none,
    seconds_of,
)
from moongate.control.platform.size import check_size
from moongate.control.schema.judge import nearest
from moongate.store.tables import tokens, users

KIND = "tokens"
PREFIX = "mg"
# The setting that stays once a token was ever made.
IN_USE = "tokens-in-use"
FINGERPRINT = 8


def is_token(value: str) -> bool:
    """Whether a text has the form of a token of ours, checksum included."""
    return is_value(PREFIX, value)


@dataclass(frozen=True, slots=True)
class TokenFilter:
    """Which tokens to list; `q` is looked for in id, name, user and tags, or is a fingerprint."""

    user: str | None = None
    instance: str | None = None
    tag: str | None = None
    q: str | None = None
    enabled: bool | None = None

    def matches(self, token: Token) -> bool:
        """Whether a token belongs to the list (`user` was asked of the database)."""
        texts = (token.id, token.name, token.user, *token.tags)
        return (
            (self.instance is None or token.instances is None or self.instance in token.instances)
            and (self.tag is None or self.tag in token.tags)
            and (self.enabled is None or self.enabled == token.enabled)
            and (
                self.q is None
                or self.q.lower() == token.fingerprint
                or any(self.q.lower() in text.lower() for text in texts)
            )
        )


class Tokens:
    """A token is good for all instances, or for some that there are when it is made."""

    def __init__(self, ground: Ground, values: Values, surroundings: Surroundings) -> None:
        self._ground = ground
        self._values = values
        self._surroundings = surroundings

    async def list(
        self, wanted: TokenFilter | None = None, *, limit: int = 100, cursor: str | None = None
    ) -> Page[Token]:
        """By id."""
        wanted = wanted or TokenFilter()
        query = select(tokens).order_by(tokens.c.id)
        if wanted.user is not None:
            if not findable(wanted.user):
                return Page(items=[])
            query = query.where(tokens.c.user_name == wanted.user)
        async with self._ground.store.read() as connection:
            rows = (await connection.execute(query)).all()
        found = sorted((self._shown(row) for row in rows), key=lambda token: token.id)
        return page([token for token in found if wanted.matches(token)], lambda token: token.id, limit, cursor)

    async def get(self, id_: str) -> Token:
        """Raises NotFound."""
        async with self._ground.store.read() as connection:
            query = select(tokens).where(tokens.c.id == id_)
            row = (await connection.execute(query)).one_or_none() if findable(id_) else None
        if row is None:
            raise NotFound(f"there is no token {id_!r}")
        return self._shown(row)

    async def find(self, text: str) -> Sequence[Token]:
        """Those with that id, or that fingerprint (eight hexadecimal digits)."""
        if not findable(text):
            return []
        lowered = text.lower()
        is_print = len(lowered) == FINGERPRINT and set(lowered) <= set("0123456789abcdef")
        by_print = [tokens.c.sha256.startswith(lowered)] if is_print else []
        async with self._ground.store.read() as connection:
            query = select(tokens).where(or_(tokens.c.id == text, *by_print)).order_by(tokens.c.id)
            return [self._shown(row) for row in (await connection.execute(query)).all()]

    async def create(self, new: TokenNew, by: Actor) -> TokenMade:
        """With the value, for the first and last time. Raises ConfigError, Forbidden."""
        may_write(by)
        await self._judge(new.instances)
        value, now = make_value(PREFIX), self._ground.clock()
        async with self._ground.store.write() as connection:
            query = select(users.c.name).where(users.c.name == new.user).with_for_update()
            if await connection.scalar(query) is None:
                raise refuse(("user", f"there is no user {new.user!r}; make the user first"))
            id_ = new_id("tok")
            await connection.execute(
                insert(tokens).values(
                    id=id_,
                    user_name=new.user,
                    name=new.name,
                    sha256=hashlib.sha256(value.encode()).hexdigest(),
                    tags=new.tags,
                    instances=new.instances,
                    expires=seconds_of(new.expires),
                    enabled=new.enabled,
                    revision=1,
                    created=now,
                    updated=now,
                )
            )
            await self._values.put(connection, IN_USE, value=True)
            await check_size(self._ground, connection, "instances")
            return TokenMade(token=await self._recorded(connection, id_, "created", by), value=value)

    async def patch(self, id_: str, new: TokenPatch, by: Actor, revision: int | None = None) -> Token:
        """What `new` names; `instances` and `expires` may be set to None. Raises NotFound, Stale, ConfigError."""
        may_write(by)
        given = new.model_fields_set
        changed: dict[str, Any] = {
            name: getattr(new, name)
            for name in ("name", "tags", "enabled")
            if name in given and getattr(new, name) is not None
        }
        if "instances" in given:
            before = (await self.get(id_)).instances or []
            await self._judge([name for name in new.instances or () if name not in before])
            changed["instances"] = new.instances
        if "expires" in given:
            changed["expires"] = seconds_of(new.expires)
        async with self._ground.store.write() as connection:
            row = await existing(connection, tokens, tokens.c.id, id_)
            check_revision(row, revision, f"the token {id_!r}")
            await connection.execute(
                update(tokens)
                .where(tokens.c.id == id_)
                .values(**changed, revision=row.revision + 1, updated=self._ground.clock())
            )
            await check_size(self._ground, connection, "instances")
            return await self._recorded(connection, id_, "changed", by)

    async def delete(self, id_: str, by: Actor, revision: int | None = None) -> None:
        """It is refused within a second. Raises NotFound, Stale, Forbidden."""
        may_write(by)
        async with self._ground.store.write() as connection:
            row = await existing(connection, tokens, tokens.c.id, id_)
            check_revision(row, revision, f"the token {id_!r}")
            await connection.execute(delete(tokens).where(tokens.c.id == id_))
            await self._ground.record(
                connection, Change(KIND, id_, row.revision + 1, "deleted", self._state(self._shown(row))), by
            )

    async def delete_of(self, connection: AsyncConnection, user: str, by: Actor) -> None:
        """All tokens of a user, in the caller's transaction."""
        for row in (await connection.execute(select(tokens).where(tokens.c.user_name == user))).all():
            change = Change(KIND, row.id, row.revision + 1, "deleted", self._state(self._shown(row)))
            await self._ground.record(connection, change, by)
        await connection.execute(delete(tokens).where(tokens.c.user_name == user))

    async def forget(self, connection: AsyncConnection, instance: str, by: Actor) -> None:
        """Tokens that name an instance lose it; one that is left without any is good for nothing."""
        limited = select(tokens.c.id, tokens.c.instances, tokens.c.revision).where(tokens.c.instances.is_not(None))
        for row in (await connection.execute(limited)).all():
            if instance in row.instances:
                rest = [name for name in row.instances if name != instance]
                await connection.execute(
                    update(tokens)
                    .where(tokens.c.id == row.id)
                    .values(instances=rest, revision=row.revision + 1, updated=self._ground.clock())
                )
                await self._recorded(connection, row.id, "changed", by)

    async def touch(self, connection: AsyncConnection, used: Mapping[str, float]) -> None:
        """When tokens were last used, by id (Unix seconds); in the caller's transaction. Unknown ids are left out."""
        values = [{"token": id_, "moment": at} for id_, at in sorted(used.items()) if findable(id_)]
        if values:
            at = bindparam("moment", type_=Float)
            later = or_(tokens.c.last_used.is_(None), tokens.c.last_used < at)
            wanted = tokens.c.id == bindparam("token", type_=String)
            await connection.execute(update(tokens).where(wanted, later).values(last_used=at), values)

    async def _judge(self, wanted: Sequence[str] | None) -> None:
        if not wanted:
            return
        known = await instance_names(self._ground, self._surroundings)
        complaints = []
        for name in wanted:
            if name not in known:
                near = nearest(name, sorted(known))
                meant = f"did you mean {near}?" if near else f"there are: {', '.join(sorted(known)[:20]) or 'none'}"
                complaints.append(("instances", f"there is no instance {name!r}; {meant}"))
        if complaints:
            raise refuse(*complaints)

    async def _recorded(self, connection: AsyncConnection, id_: str, action: str, by: Actor) -> Token:
        row = await existing(connection, tokens, tokens.c.id, id_)
        token = self._shown(row)
        await self._ground.record(connection, Change(KIND, id_, row.revision, action, self._state(token)), by)
        return token

    def _state(self, token: Token) -> dict[str, Any]:
        return token.model_dump(
            by_alias=True, include={"user", "name", "tags", "instances", "expires", "enabled", "fingerprint"}
        )

    def _shown(self, row: Row[Any]) -> Token:
        return Token(
            id=row.id,
            user=row.user_name,
            name=row.name,
            tags=row.tags,
            instances=row.instances,
            expires=moment_or_none(row.expires),
            expired=row.expires is not None and row.expires <= self._ground.clock(),
            enabled=row.enabled,
            created=moment(row.created),
            updated=moment(row.updated),
            last_used=moment_or_none(row.last_used),
            fingerprint=row.sha256[:FINGERPRINT],
            revision=row.revision,
        )
