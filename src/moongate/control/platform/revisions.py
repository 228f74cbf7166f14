"""The history of everything in the store: who changed what, and when."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row, select

from moongate.control.platform.ground import MAX_PAGE, Ground, findable, from_cursor, refuse, to_cursor
from moongate.control.platform.masks import masked
from moongate.control.platform.shapes import Page, Revision, moment
from moongate.control.sealing import SealBroken
from moongate.store.tables import revisions

_MAX_ID = 2**62


class Revisions:
    """Newest first; secrets are masked."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground

    async def list(
        self, *, kind: str | None = None, name: str | None = None, limit: int = 100, cursor: str | None = None
    ) -> Page[Revision]:
        """Of everything, of one kind (`instances`, `users`, `tokens`, `access`, `operators`, ...), or of one thing."""
        query = select(revisions).order_by(revisions.c.id.desc())
        for column, wanted in ((revisions.c.kind, kind), (revisions.c.name, name)):
            if wanted is not None:
                if not findable(wanted):
                    return Page(items=[])
                query = query.where(column == wanted)
        before = from_cursor(cursor)
        if before is not None:
            if not before.isdecimal() or not before.isascii() or int(before) > _MAX_ID:
                raise refuse(("cursor", "was not given out by this list; leave it out to begin at the start"))
            query = query.where(revisions.c.id < int(before))
        limit = min(max(limit, 1), MAX_PAGE)
        async with self._ground.store.read() as connection:
            rows = (await connection.execute(query.limit(limit + 1))).all()
        items = [self._shown(row) for row in rows[:limit]]
        return Page(items=items, next=to_cursor(str(items[-1].id)) if len(rows) > limit else None)

    def _shown(self, row: Row[Any]) -> Revision:
        try:
            state = self._ground.open("revisions", f"{row.kind}/{row.name}/{row.revision}", row.state_sealed)
        except SealBroken as error:
            state = {"cannot be opened": str(error)}
        if isinstance(state.get("config"), dict):
            state["config"] = masked(state["config"])
        return Revision(
            id=row.id,
            kind=row.kind,
            name=row.name,
            revision=row.revision,
            action=row.action,
            who=row.who,
            at=moment(row.at),
            state=state,
        )
