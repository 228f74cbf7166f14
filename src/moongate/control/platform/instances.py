"""Instances: those of the store, and beside them, read-only, those that stand in files."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import ValidationError
from sqlalchemy import Row, delete, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from moongate.control.platform.certificates import judge_files, may_name_files
from moongate.control.platform.failures import Exists, NotFound, ReadOnly
from moongate.control.platform.ground import Change, Ground, check_revision, existing, findable, page, refuse
from moongate.control.platform.judging import access_mode, judge_instance, meaningful, read_pasted, without_switch
from moongate.control.platform.masks import masked, restored
from moongate.control.platform.roles import may_write
from moongate.control.platform.shapes import (
    AccessMode,
    Actor,
    Addresses,
    Instance,
    InstanceNew,
    InstancePatch,
    InstancePut,
    Page,
    moment,
)
from moongate.control.platform.size import check_size
from moongate.control.sealing import SealBroken
from moongate.errors import Complaint, ConfigError
from moongate.store.tables import instances

KIND = "instances"
# Takes a deleted instance out of what names it, in the transaction of the connection.
Forget = Callable[[AsyncConnection, str, Actor], Awaitable[None]]
# What else belongs into a transaction.
Also = Callable[[AsyncConnection], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class FileInstance:
    """An instance that a file holds. `config` is the entry as it is written, best before `${NAME}` is replaced."""

    name: str
    where: str
    config: dict[str, Any]
    enabled: bool = True


def _no_files() -> Sequence[FileInstance]:
    return ()


def _default_base(name: str) -> str:
    return f"http://127.0.0.1:8000/mcp/{name}"


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the services know of the gateway around them: the instances of its files, and where clients find a name."""

    files: Callable[[], Sequence[FileInstance]] = field(default=_no_files)
    base: Callable[[str], str] = field(default=_default_base)

    def addresses(self, name: str) -> Addresses:
        """All of them."""
        base = self.base(name)
        return Addresses(base=base, streamable_http=f"{base}/v1/stream", sse=f"{base}/events")

    def file(self, name: str) -> FileInstance | None:
        """The file's instance of that name."""
        return next((found for found in self.files() if found.name == name), None)


async def instance_names(ground: Ground, surroundings: Surroundings) -> set[str]:
    """All instances that there are, of files and of the store."""
    async with ground.store.read() as connection:
        stored = (await connection.scalars(select(instances.c.name))).all()
    return {*stored, *(found.name for found in surroundings.files())}


@dataclass(frozen=True, slots=True)
class InstanceFilter:
    """Which instances to list; `q` is looked for in name, notes and tags."""

    q: str | None = None
    tag: str | None = None
    access_mode: AccessMode | None = None
    source: Literal["store", "file"] | None = None
    enabled: bool | None = None

    def matches(self, instance: Instance) -> bool:
        """Whether an instance belongs to the list."""
        texts = (instance.name, instance.notes, *instance.tags)
        return (
            (self.q is None or any(self.q.lower() in text.lower() for text in texts))
            and (self.tag is None or self.tag in instance.tags)
            and (self.access_mode is None or self.access_mode == instance.access_mode)
            and (self.source is None or self.source == instance.source)
            and (self.enabled is None or self.enabled == instance.enabled)
        )


class Instances:
    """Writing raises ConfigError with every complaint, Exists, NotFound, ReadOnly, Stale and Forbidden.

    Hosted instances run commands as the gateway's user: only admins write them.
    """

    def __init__(self, ground: Ground, surroundings: Surroundings, forget: Forget) -> None:
        self._ground = ground
        self._surroundings = surroundings
        self._forget = forget

    async def list(
        self, wanted: InstanceFilter | None = None, *, limit: int = 100, cursor: str | None = None
    ) -> Page[Instance]:
        """By name; where a file and the store have the same name, the file's counts."""
        async with self._ground.store.read() as connection:
            rows = (await connection.execute(select(instances))).all()
        every = {row.name: self._shown(row) for row in rows}
        every |= {found.name: self._of_file(found) for found in self._surroundings.files()}
        wanted = wanted or InstanceFilter()
        found = [every[name] for name in sorted(every) if wanted.matches(every[name])]
        return page(found, lambda instance: instance.name, limit, cursor)

    async def get(self, name: str) -> Instance:
        """Raises NotFound."""
        found = self._surroundings.file(name)
        return self._of_file(found) if found is not None else self._shown(await self._row(name))

    async def config(self, name: str) -> dict[str, Any]:
        """The entry with its secrets, as the data plane gets it. Never for an answer."""
        if (found := self._surroundings.file(name)) is not None:
            text = f"the secrets of {name!r} stand in a file ({found.where}), which only the gateway itself reads"
            raise ReadOnly(f"{text}; test it as a draft: moongate instance test {name} --url URL, or -- COMMAND ARGS")
        row = await self._row(name)
        config: dict[str, Any] = self._ground.open(KIND, name, row.config_sealed)
        return config

    async def stored(self) -> dict[str, tuple[dict[str, Any], bool]]:
        """Every entry of the store with its secrets, and whether it is on. Never for an answer."""
        async with self._ground.store.read() as connection:
            rows = (await connection.execute(select(instances))).all()
        return {
            row.name: (self._ground.open(KIND, row.name, row.config_sealed), row.enabled)
            for row in sorted(rows, key=lambda row: str(row.name))
        }

    async def create(self, new: InstanceNew, by: Actor) -> Instance:
        """The instance as it is stored."""
        (made,) = await self._create([new], by)
        return made

    async def paste(
        self, pasted: str | dict[str, Any], by: Actor, mode: AccessMode | None = None, also: Also | None = None
    ) -> Sequence[Instance]:
        """One instance for each entry of a pasted block; all of them, or none and every complaint.

        Without `mode` an entry with a command is hosted; with it, one that does not fit is refused. `also` happens in
        the same transaction.
        """
        entries, complaints = read_pasted(pasted)
        news = []
        for entry in entries:
            values = {
                "name": entry.name,
                "accessMode": mode or access_mode(entry.config),
                "enabled": entry.enabled,
                "config": entry.config,
            }
            try:
                news.append(InstanceNew.model_validate(values))
            except ValidationError:
                text = "is not a name: letters, digits, '.', '_' and '-', at most 128; rename it"
                complaints.append(Complaint(f"instance {entry.name[:60]!r}", text))
        return await self._create(news, by, complaints, also)

    async def draft(self, new: InstanceNew, by: Actor) -> dict[str, Any]:
        """The entry of an instance that is not stored (yet), judged, with the secrets its masks stand for.

        For a connection test; never for an answer.
        """
        may_write(by, new.access_mode)
        kept = None
        try:
            row = await self._row(new.name)
            may_write(by, row.access_mode)
            kept = self._ground.open(KIND, new.name, row.config_sealed)
        except NotFound:
            pass
        config, _, complaints = _judged(new.name, new, kept, by)
        if complaints:
            raise ConfigError(tuple(complaints))
        return config

    async def replace(self, name: str, new: InstancePut, by: Actor, revision: int | None = None) -> Instance:
        """Everything but the name; what is left out gets its default."""
        return await self._change(name, lambda _row: (new, True), by, revision)

    async def patch(self, name: str, new: InstancePatch, by: Actor, revision: int | None = None) -> Instance:
        """What `new` names; nothing else."""
        given = new.model_dump(exclude_unset=True, exclude_none=True, by_alias=True)

        def changed(row: Row[Any]) -> tuple[InstancePut, bool]:
            return InstancePut.model_validate({**self._state(row), **given}), "config" in given

        return await self._change(name, changed, by, revision)

    async def delete(self, name: str, by: Actor, revision: int | None = None) -> None:
        """The history keeps it. Tokens lose it, so that they are not good for a later one of the same name."""
        may_write(by)
        try:
            await self._row(name)
        except NotFound:
            self._refuse_file(name)  # one that is in the store too, behind the file's, may go
            raise
        async with self._ground.store.write() as connection:
            row = await existing(connection, instances, instances.c.name, name)
            may_write(by, row.access_mode)
            check_revision(row, revision, f"the instance {name!r}")
            await connection.execute(delete(instances).where(instances.c.name == name))
            await self._forget(connection, name, by)
            change = Change(KIND, name, row.revision + 1, "deleted", self._state(row))
            await self._ground.record(connection, change, by)

    async def _create(
        self,
        news: Iterable[InstanceNew],
        by: Actor,
        complaints: Sequence[Complaint] = (),
        also: Also | None = None,
    ) -> Sequence[Instance]:
        wrong = [*complaints]
        ready: list[tuple[InstanceNew, dict[str, Any], bool]] = []
        for new in news:
            may_write(by, new.access_mode)
            config, enabled, found = _judged(new.name, new, None, by)
            wrong += found
            ready.append((new, config, enabled))
        taken = await self._taken([new.name for new, _, _ in ready])
        if not wrong and len(ready) == 1 and taken:
            ((name, text),) = taken.items()
            raise Exists(f"there is already an instance {name!r}{text}; choose another name, or change that one")
        wrong += [
            Complaint(f"instance {name}", f"there is already one of this name{text}; rename it")
            for name, text in taken.items()
        ]
        if wrong:
            raise ConfigError(tuple(wrong))
        now = self._ground.clock()
        try:
            async with self._ground.store.write() as connection:
                made = [
                    self._shown(await self._insert(connection, new, (config, enabled, now), by))
                    for new, config, enabled in ready
                ]
                if also is not None:
                    await also(connection)
                await check_size(self._ground, connection, "config")
                return made
        except IntegrityError:
            raise Exists("somebody else took one of the names in this moment; look again") from None

    async def _insert(
        self, connection: AsyncConnection, new: InstanceNew, made: tuple[dict[str, Any], bool, float], by: Actor
    ) -> Row[Any]:
        config, enabled, now = made
        revision = await self._ground.next_revision(connection, KIND, new.name)
        values = {
            "name": new.name,
            "access_mode": new.access_mode,
            "enabled": enabled,
            "notes": new.notes,
            "tags": new.tags,
            "icon": new.icon,
            "config_sealed": self._ground.seal(KIND, new.name, config),
        }
        await connection.execute(insert(instances).values(**values, revision=revision, created=now, updated=now))
        row = await existing(connection, instances, instances.c.name, new.name)
        await self._ground.record(connection, Change(KIND, new.name, revision, "created", self._state(row)), by)
        return row

    async def _change(
        self, name: str, new: Callable[[Row[Any]], tuple[InstancePut, bool]], by: Actor, revision: int | None
    ) -> Instance:
        """`new` gives all of it, and whether the configuration is a new one."""
        self._refuse_file(name)
        async with self._ground.store.write() as connection:
            row = await existing(connection, instances, instances.c.name, name)
            check_revision(row, revision, f"the instance {name!r}")
            put, anew = new(row)
            may_write(by, row.access_mode)
            may_write(by, put.access_mode)
            sealed, enabled = row.config_sealed, put.enabled
            kept, broken = self._opened(row)
            # What cannot be opened now, perhaps can with the right key.
            if anew or not broken:
                config, enabled, complaints = _judged(name, put, kept, by)
                same = config == meaningful(kept) and put.access_mode == row.access_mode
                # What is only switched off, or noted, need not please a newer version's judge.
                if complaints and not (same and (row.enabled or not enabled)):
                    raise ConfigError(tuple(complaints))
                sealed = self._ground.seal(KIND, name, config) if anew else sealed
            elif put.access_mode != row.access_mode:
                raise refuse((f"instance {name}: accessMode", f"needs the configuration again: {broken}"))
            await connection.execute(
                update(instances)
                .where(instances.c.name == name)
                .values(
                    access_mode=put.access_mode,
                    enabled=enabled,
                    notes=put.notes,
                    tags=put.tags,
                    icon=put.icon,
                    config_sealed=sealed,
                    revision=row.revision + 1,
                    updated=self._ground.clock(),
                )
            )
            row = await existing(connection, instances, instances.c.name, name)
            await check_size(self._ground, connection, "config")
            await self._ground.record(connection, Change(KIND, name, row.revision, "changed", self._state(row)), by)
        return self._shown(row)

    async def _row(self, name: str) -> Row[Any]:
        async with self._ground.store.read() as connection:
            query = select(instances).where(instances.c.name == name)
            row = (await connection.execute(query)).one_or_none() if findable(name) else None
        if row is None:
            raise NotFound(f"there is no instance {name!r}")
        return row

    async def _taken(self, names: Sequence[str]) -> dict[str, str]:
        """Names that are no longer free, and where they are taken, if not in the store."""
        async with self._ground.store.read() as connection:
            stored = (await connection.scalars(select(instances.c.name).where(instances.c.name.in_(names)))).all()
        files = {found.name: f" in a file ({found.where})" for found in self._surroundings.files()}
        return {**dict.fromkeys(stored, ""), **{name: files[name] for name in names if name in files}}

    def _refuse_file(self, name: str) -> None:
        found = self._surroundings.file(name)
        if found is not None:
            raise ReadOnly(f"the instance {name!r} stands in a file ({found.where}); change it there")

    def _state(self, row: Row[Any]) -> dict[str, Any]:
        """Everything that can be changed, in REST form, with its secrets."""
        return {
            "accessMode": row.access_mode,
            "enabled": row.enabled,
            "notes": row.notes,
            "tags": row.tags,
            "icon": row.icon,
            "config": self._opened(row)[0],
        }

    def _opened(self, row: Row[Any]) -> tuple[dict[str, Any], str]:
        """The entry, or an empty one and why it cannot be opened: then it can still be deleted or written anew."""
        try:
            return self._ground.open(KIND, row.name, row.config_sealed), ""
        except SealBroken as error:
            return {}, str(error)

    def _shown(self, row: Row[Any]) -> Instance:
        config, broken = self._opened(row)
        return Instance(
            name=row.name,
            access_mode=row.access_mode,
            enabled=row.enabled,
            notes=row.notes,
            tags=row.tags,
            icon=row.icon,
            config=masked(config),
            source="store",
            where=broken,
            addresses=self._surroundings.addresses(row.name),
            revision=row.revision,
            created=moment(row.created),
            updated=moment(row.updated),
        )

    def _of_file(self, found: FileInstance) -> Instance:
        return Instance(
            name=found.name,
            access_mode="hosted" if access_mode(found.config) == "hosted" else "proxy",
            enabled=found.enabled,
            notes="",
            tags=[],
            icon="",
            config=masked(found.config),
            source="file",
            where=found.where,
            addresses=self._surroundings.addresses(found.name),
            revision=None,
            created=None,
            updated=None,
        )


def _judged(
    name: str, put: InstancePut, kept: dict[str, Any] | None, by: Actor
) -> tuple[dict[str, Any], bool, list[Complaint]]:
    """The entry to store, whether the instance is on, and every complaint. Raises Forbidden."""
    config, on = without_switch(meaningful(put.config))
    config, unknown = restored(config, kept)
    may_name_files(by, config, kept)
    where = f"instance {name}"
    complaints = [Complaint(f"{where}: {complaint.where}", complaint.text) for complaint in unknown]
    if not complaints:
        complaints = judge_instance(name, put.access_mode, config)
    if not complaints:
        complaints = [Complaint(f"{where}: {wrong.where}", wrong.text) for wrong in judge_files(config)]
    return config, put.enabled and on, complaints
