"""The facade: one object that holds all services over one store."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import Column, LargeBinary, Row, Table, select, update

from moongate.control.platform import access, transfer
from moongate.control.platform.access import AccessRules
from moongate.control.platform.api_keys import ApiKeys
from moongate.control.platform.documents import InForce, in_force
from moongate.control.platform.ground import Ground
from moongate.control.platform.guesses import Guesses
from moongate.control.platform.instances import KIND as INSTANCES
from moongate.control.platform.instances import Instances, Surroundings
from moongate.control.platform.operators import Operators
from moongate.control.platform.passwords import Hasher
from moongate.control.platform.revisions import Revisions
from moongate.control.platform.settings import KIND as SETTINGS
from moongate.control.platform.settings import PLATFORM, PlatformSettings, Values
from moongate.control.platform.shapes import Actor, Exported, Instance
from moongate.control.platform.sign_ins import Codes, SignIns
from moongate.control.platform.tokens import IN_USE, Tokens
from moongate.control.platform.users import Users
from moongate.control.sealing import Keys, SealBroken
from moongate.errors import StartError
from moongate.store import tables
from moongate.store.engine import Store

log = logging.getLogger(__name__)

PURPOSE = "store"
_KEY_CHECK = "key-check"
# What is sealed, and for which place.
_SEALED: tuple[tuple[Table, Column[str] | Column[int], str, Callable[[Row[Any]], str]], ...] = (
    (tables.instances, tables.instances.c.name, "config_sealed", lambda row: f"{INSTANCES}/{row.name}"),
    (tables.settings, tables.settings.c.name, "value_sealed", lambda row: f"{SETTINGS}/{row.name}"),
    (
        tables.revisions,
        tables.revisions.c.id,
        "state_sealed",
        lambda row: f"revisions/{row.kind}/{row.name}/{row.revision}",
    ),
)


class Platform:
    """All services. Every call may raise StoreAway while the database is away; the next one may work again."""

    def __init__(self, ground: Ground, surroundings: Surroundings) -> None:
        values = Values(ground)
        guesses = Guesses()
        self._ground = ground
        self._values = values
        self.tokens = Tokens(ground, values, surroundings)
        self.instances = Instances(ground, surroundings, self.tokens.forget)
        self.users = Users(ground, self.tokens.delete_of)
        self.access = AccessRules(ground, values)
        self.settings = PlatformSettings(ground, values)
        self.operators = Operators(ground, Hasher(), guesses)
        self.api_keys = ApiKeys(ground)
        self.sign_ins = SignIns(ground, self.settings)
        self.codes = Codes(ground, guesses, self.operators)
        self.revisions = Revisions(ground)

    @classmethod
    async def open(
        cls,
        store: Store,
        data_dir: Path,
        environ: Mapping[str, str],
        surroundings: Surroundings | None = None,
        clock: Callable[[], float] = time.time,
    ) -> Platform:
        """Over an open store, which stays the caller's. Raises StartError if the key is not the one it was made with.

        With a former key beside the new one, everything is sealed anew.
        """
        keys = Keys.load(data_dir, environ)
        platform = cls(Ground(store, keys.box(PURPOSE), clock), surroundings or Surroundings())
        await platform._check_key()
        if keys.old:
            count = await platform.rotate()
            if count:
                log.warning("the gateway's key is a new one: %d secrets were sealed anew; remove the former key", count)
        return platform

    async def document(self) -> InForce:
        """What the data plane shall run; see `control.published`."""
        return await in_force(self._ground, self._values)

    async def export(self, secrets: Literal["masked", "references"] = "references") -> Exported:
        """Instances and gateway-wide rules as a file."""
        return await transfer.export(self.instances, self.access, secrets)

    async def import_document(self, document: dict[str, Any], by: Actor) -> Sequence[Instance]:
        """A file's instances and gateway-wide rules; all of it, or ConfigError with every complaint."""
        return await transfer.import_document(document, by, self.instances, self.access)

    async def rotate(self) -> int:
        """Seals anew what is sealed with a former key, and says how much. What no key opens stays as it is."""
        box, count = self._ground.box, 0
        async with self._ground.store.write() as connection:
            for table, key, column, context in _SEALED:
                sealed: Column[LargeBinary] = table.c[column]
                for row in (await connection.execute(select(table))).all():
                    value = getattr(row, column)
                    if box.is_current(value):
                        continue
                    try:
                        anew = box.seal(box.open(value, context(row)), context(row))
                    except SealBroken as error:
                        log.error("left as it is: %s", error)  # noqa: TRY400 - the text says it all
                        continue
                    here = key == getattr(row, key.name)
                    await connection.execute(update(table).where(here).values({sealed.name: anew}))
                    count += 1
        return count

    async def _check_key(self) -> None:
        await self._values.seed((_KEY_CHECK, IN_USE, PLATFORM, access.NAME))
        try:
            async with self._ground.store.read() as connection:
                await self._values.get(connection, _KEY_CHECK)
        except SealBroken:
            text = (
                f"{self._ground.store.place.shown}: was made with another key; bring back the former MOONGATE_KEY or "
                "<data-dir>/key, or give it as MOONGATE_KEY_OLD or <data-dir>/key.old beside the new one"
            )
            raise StartError(text) from None
