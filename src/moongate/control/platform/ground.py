"""What all services stand on: the store, the seal, the clock, and the history that every change is written into."""

from __future__ import annotations

import base64
import binascii
import json
import re
import secrets
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Row, Table, delete, func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from moongate.control.platform.failures import NotFound, Stale
from moongate.control.platform.shapes import Actor, Page
from moongate.control.sealing import Box
from moongate.errors import Complaint, ConfigError
from moongate.store.engine import Store
from moongate.store.tables import NAME, revisions

T = TypeVar("T")

# What is kept of the history of one thing.
KEPT_REVISIONS = 100
MAX_PAGE = 1000
_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_RANDOM, _CHECK = 30, 6
_NEVER = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


@dataclass(frozen=True)
class Ground:
    """`box` seals what may hold secrets; `clock` gives Unix seconds."""

    store: Store
    box: Box
    clock: Callable[[], float] = field(default=time.time)

    def seal(self, kind: str, name: str, value: object) -> bytes:
        """JSON, sealed for one row."""
        return self.box.seal(json.dumps(value, separators=(",", ":")).encode(), f"{kind}/{name}")

    def open(self, kind: str, name: str, sealed: bytes) -> Any:
        """What was sealed for that row. Raises SealBroken."""
        return json.loads(self.box.open(sealed, f"{kind}/{name}"))

    async def record(self, connection: AsyncConnection, change: Change, by: Actor) -> None:
        """Writes one change into the history."""
        where = f"{change.kind}/{change.name}/{change.revision}"
        await connection.execute(
            insert(revisions).values(
                kind=change.kind,
                name=change.name,
                revision=change.revision,
                action=change.action,
                who=by.name,
                at=self.clock(),
                state_sealed=self.seal("revisions", where, change.state),
            )
        )
        mine = (revisions.c.kind == change.kind) & (revisions.c.name == change.name)
        if change.revision > KEPT_REVISIONS:
            await connection.execute(
                delete(revisions).where(mine, revisions.c.revision <= change.revision - KEPT_REVISIONS)
            )

    async def next_revision(self, connection: AsyncConnection, kind: str, name: str) -> int:
        """The number of a new thing's first revision: above those of a former one of that name."""
        mine = (revisions.c.kind == kind) & (revisions.c.name == name)
        last = await connection.scalar(select(func.max(revisions.c.revision)).where(mine))
        return int(last or 0) + 1


@dataclass(frozen=True, slots=True)
class Change:
    """One line of the history. `state` is the whole thing, in REST form, with its secrets."""

    kind: str
    name: str
    revision: int
    action: str
    state: dict[str, Any]


async def existing(connection: AsyncConnection, table: Table, key: ColumnElement[str], value: str) -> Row[Any]:
    """The row of that key, held until the end of the transaction. Raises NotFound."""
    row = None
    if findable(value):
        row = (await connection.execute(select(table).where(key == value).with_for_update())).one_or_none()
    if row is None:
        raise NotFound(f"there is no {value!r} among the {table.name.replace('_', ' ')}")
    return row


def findable(name: str) -> bool:
    """Whether it could be the name of something; anything else must not reach the database, which would stumble."""
    return len(name) <= NAME and _NEVER.search(name) is None


def check_revision(row: Row[Any], seen: int | None, what: str) -> None:
    """Raises Stale if the caller saw another revision than there is."""
    if seen is not None and seen != row.revision:
        raise Stale(
            f"{what} was changed meanwhile: you saw revision {seen}, it is {row.revision} now; look again",
            row.revision,
        )


def refuse(*complaints: tuple[str, str]) -> ConfigError:
    """Pairs of where and what is wrong there."""
    return ConfigError(tuple(Complaint(where, text) for where, text in complaints))


def to_cursor(key: str) -> str:
    """The opaque place after which the next page begins."""
    return base64.urlsafe_b64encode(key.encode()).decode().rstrip("=")


def from_cursor(cursor: str | None) -> str | None:
    """Raises ConfigError for one that was not given out."""
    if cursor is None:
        return None
    try:
        key = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        key = "\0"
    if not findable(key):
        raise refuse(("cursor", "was not given out by this list; leave it out to begin at the start"))
    return key


def page(items: Sequence[T], key: Callable[[T], str], limit: int, cursor: str | None) -> Page[T]:
    """Cuts one page out of a whole list that is sorted by `key`."""
    limit = min(max(limit, 1), MAX_PAGE)
    after = from_cursor(cursor)
    rest = [item for item in items if after is None or key(item) > after]
    return Page(items=rest[:limit], next=to_cursor(key(rest[limit - 1])) if len(rest) > limit else None)


def make_value(prefix: str) -> str:
    """A random credential: prefix, 30 characters (178 bits), and 6 that check them, so that a typo is not looked up."""
    random = "".join(secrets.choice(_ALPHABET) for _ in range(_RANDOM))
    return f"{prefix}_{random}{_checksum(prefix, random)}"


def is_value(prefix: str, value: str) -> bool:
    """Whether a text has the form and the checksum of such a credential."""
    head, _, rest = value.partition("_")
    random, check = rest[:_RANDOM], rest[_RANDOM:]
    return head == prefix and len(rest) == _RANDOM + _CHECK and check == _checksum(prefix, random)


def _checksum(prefix: str, random: str) -> str:
    number = zlib.crc32(f"{prefix}_{random}".encode("utf-8", "surrogatepass"))
    digits = ""
    for _ in range(_CHECK):
        number, digit = divmod(number, len(_ALPHABET))
        digits = _ALPHABET[digit] + digits
    return digits


def new_id(prefix: str) -> str:
    """A short name for something that has no name of its own."""
    return f"{prefix}_" + "".join(secrets.choice(_ALPHABET) for _ in range(12))
