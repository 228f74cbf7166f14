"""Who is signed in on the admin port, and one-time codes to get in without an account.

Both are random, given out once and kept as a digest, by which they are looked up: comparing takes no telling time.
"""

from __future__ import annotations

import hashlib
import secrets
from typing import cast

from sqlalchemy import delete, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from moongate.control.platform.failures import NotFound
from moongate.control.platform.ground import Ground
from moongate.control.platform.guesses import Guesses, Key
from moongate.control.platform.operators import Operators
from moongate.control.platform.settings import PlatformSettings
from moongate.control.platform.shapes import UNNAMED, Actor, Role
from moongate.store.tables import NAME, codes, operators, sign_ins

BYTES = 32
CODE_SECONDS = 3600.0
# Without an account one stays only as long as it takes to make one.
UNNAMED_SECONDS = 3600.0
IDLE_SECONDS = 4 * 3600.0
_TOUCH_SECONDS = 60.0


class SignIns:
    """Sign-ins end after the hours of the settings, after four hours without use, and with their account."""

    def __init__(self, ground: Ground, settings: PlatformSettings) -> None:
        self._ground = ground
        self._settings = settings

    async def start(self, actor: Actor, *, account: bool = True) -> str:
        """The value of the cookie. `account` False: who came with a code. Raises NotFound without the account."""
        value, now = secrets.token_urlsafe(BYTES), self._ground.clock()
        seconds = (await self._settings.get()).sign_in_hours * 3600.0 if account else UNNAMED_SECONDS
        row = {
            "sha256": _digest(value),
            "operator_name": actor.name if account else None,
            "role": actor.role,
            "created": now,
            "expires": now + seconds,
            "last_used": now,
        }
        try:
            async with self._ground.store.write(quiet=True) as connection:
                await connection.execute(delete(sign_ins).where(sign_ins.c.expires <= now))
                await connection.execute(insert(sign_ins).values(**row))
        except IntegrityError:
            raise NotFound(f"there is no operator {actor.name!r} any more") from None
        return value

    async def check(self, value: str) -> Actor | None:
        """Who it is, with today's role of the account; None if the sign-in is unknown or over."""
        now = self._ground.clock()
        query = (
            select(sign_ins, operators.c.role.label("account_role"), operators.c.enabled)
            .join(operators, operators.c.name == sign_ins.c.operator_name, isouter=True)
            .where(sign_ins.c.sha256 == _digest(value))
        )
        async with self._ground.store.read() as connection:
            row = (await connection.execute(query)).one_or_none()
        if row is None or row.expires <= now or row.last_used + IDLE_SECONDS <= now:
            return None
        if row.operator_name is not None and not row.enabled:
            return None
        if row.last_used < now - _TOUCH_SECONDS:
            async with self._ground.store.write(quiet=True) as connection:
                await connection.execute(update(sign_ins).where(sign_ins.c.sha256 == row.sha256).values(last_used=now))
        if row.operator_name is None:
            return Actor(UNNAMED, cast("Role", row.role))
        return Actor(row.operator_name, cast("Role", row.account_role))

    async def end(self, value: str) -> None:
        """Signs out; also what is not signed in."""
        async with self._ground.store.write(quiet=True) as connection:
            await connection.execute(delete(sign_ins).where(sign_ins.c.sha256 == _digest(value)))


class Codes:
    """One-time codes: good for one sign-in, for an hour."""

    def __init__(self, ground: Ground, guesses: Guesses, accounts: Operators) -> None:
        self._ground = ground
        self._guesses = guesses
        self._accounts = accounts

    async def make(self, role: Role = "admin", seconds: float = CODE_SECONDS) -> str:
        """A new one."""
        value, now = secrets.token_urlsafe(BYTES), self._ground.clock()
        async with self._ground.store.write(quiet=True) as connection:
            await connection.execute(delete(codes).where(codes.c.expires <= now))
            await connection.execute(
                insert(codes).values(sha256=_digest(value), role=role, created=now, expires=now + seconds)
            )
        return value

    async def first(self) -> str | None:
        """The code of the first start; None as soon as there is an account. It replaces all earlier ones."""
        if await self._accounts.any():
            return None
        async with self._ground.store.write(quiet=True) as connection:
            await connection.execute(delete(codes))
        return await self.make()

    async def redeem(self, code: str, source: str) -> Role | None:
        """What role it gives, once; None for a wrong, used or expired one. Raises TooMany."""
        key = Key(f"codes from {source[:NAME]}")
        self._guesses.check(key)
        self._guesses.failed(key)
        async with self._ground.store.write(quiet=True) as connection:
            wanted = codes.c.sha256 == _digest(code)
            row = (await connection.execute(select(codes).where(wanted).with_for_update())).one_or_none()
            await connection.execute(delete(codes).where(or_(wanted, codes.c.expires <= self._ground.clock())))
        if row is None or row.expires <= self._ground.clock():
            return None
        self._guesses.succeeded(key)
        return cast("Role", row.role)


def _digest(value: str) -> str:
    return hashlib.sha256(value.encode("utf-8", "surrogatepass")).hexdigest()
