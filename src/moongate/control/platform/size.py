"""How large what the data plane gets may become: a document that is larger would not be read at all."""

from __future__ import annotations

from sqlalchemy import String, cast, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from moongate.control.platform.ground import Ground, refuse
from moongate.control.reading import MAX_BYTES
from moongate.store.tables import instances, settings, tokens, user_groups, users

# JSON grows by spaces, and by what is not ASCII.
_SPACED, _ESCAPED = 1.5, 12
_OF_TOKEN = 400
_OF_ENTRY = 200
TOO_LARGE = (
    "everything in force would be up to {found} MB, and at most {most} MB can be brought into force; make it smaller, "
    "or disable or delete what is not needed: instances with long configurations, tokens that name many instances, "
    "users in many groups"
)


async def check_size(ground: Ground, connection: AsyncConnection, field: str) -> None:
    """Raises ConfigError if what the transaction has made is too large, and larger than what there was before."""
    found = await _size(connection)
    if found <= MAX_BYTES:
        return
    async with ground.store.read() as before:
        if found <= await _size(before):
            return
    raise refuse((field, TOO_LARGE.format(found=round(found / 1e6, 1), most=round(MAX_BYTES / 1e6, 1))))


async def _size(connection: AsyncConnection) -> int:
    """An upper bound, without opening anything."""
    owned = tokens.join(users)
    on = (tokens.c.enabled.is_(True), users.c.enabled.is_(True))
    listed = func.coalesce(func.length(cast(tokens.c.instances, String)), 0)
    entry = _OF_TOKEN + listed + func.length(tokens.c.user_name) * _ESCAPED
    groups = owned.join(user_groups, user_groups.c.user_name == tokens.c.user_name)
    parts = (
        select(func.sum(func.length(instances.c.config_sealed) * _SPACED + _OF_ENTRY)).where(
            instances.c.enabled.is_(True)
        ),
        select(func.sum(func.length(settings.c.value_sealed) * _SPACED)),
        select(func.sum(entry)).select_from(owned).where(*on),
        select(func.sum(func.length(user_groups.c.group_name) * _ESCAPED)).select_from(groups).where(*on),
    )
    row = (await connection.execute(select(*(part.scalar_subquery() for part in parts)))).one()
    return int(sum(value or 0 for value in row))
