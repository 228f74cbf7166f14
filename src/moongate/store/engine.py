"""Finds, makes and migrates the database, and reads and writes it in transactions."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import Connection, event, select, text, update
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError, DisconnectionError, IntegrityError, ProgrammingError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

from moongate.errors import StartError
from moongate.store.addresses import Place, read_url
from moongate.store.failing import StoreAway, as_away
from moongate.store.tables import counters

CHANGES = "changes"
IDENTITY = "identity"
CHANNEL = "moongate_changes"
# Milliseconds that a writer waits for another one (SQLite); seconds to reach a server, and for it to answer.
BUSY_MS = 5000
CONNECT_SECONDS = 5
COMMAND_SECONDS = 30
# The execution option by which a connection says that it will write (`BEGIN IMMEDIATE` in SQLite).
WRITES = "moongate_writes"
_READING: dict[str, Any] = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
# Two processes that start at once migrate one after the other: any number that nobody else uses.
_MIGRATION_LOCK = 0x6D6F6F6E
_MIGRATIONS = Path(__file__).parent / "migrations"


class Store:
    """One database. Reading and writing raise StoreAway while it is away, and work again when it is back.

    `read` and `write` give a connection in a transaction; `write` commits at the end, or nothing at all happened, and
    says to all processes that something changed (unless `quiet`, for what nobody waits for: times of last use, audit).
    """

    def __init__(self, place: Place) -> None:
        self.place = place
        self.dialect = "sqlite" if place.file is not None else "postgresql"
        # Called after each committed change of this process; see `changes`.
        self.on_change: list[Callable[[], None]] = []
        self._engine = _engine(place)
        self._inode: tuple[int, int] | None = None
        # Grows when the file is another one than before: connections to the former one hear nothing any more.
        self.generation = 0
        # SQLite's readers see one state anyhow.
        self._reading = {} if place.file is not None else _READING

    @property
    def engine(self) -> AsyncEngine:
        """For what needs the driver itself (LISTEN, bulk loads); everything else uses `read` and `write`."""
        return self._engine

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A transaction for reading: all of it sees one state."""
        with as_away():
            await self._same_file()
            async with self._engine.connect() as plain:
                connection = await plain.execution_options(**self._reading)
                async with connection.begin():
                    yield connection

    @asynccontextmanager
    async def write(self, *, quiet: bool = False) -> AsyncIterator[AsyncConnection]:
        """A transaction for writing, committed when the block ends without an exception."""
        with as_away():
            await self._same_file()
            async with self._engine.connect() as plain:
                connection = await plain.execution_options(**{WRITES: True})
                async with connection.begin():
                    yield connection
                    if not quiet:
                        await self._count(connection)
        if not quiet:
            for called in self.on_change:
                called()

    async def change_count(self) -> int:
        """How many changes there have been; grows with each `write` that is not quiet."""
        async with self.read() as connection:
            value = await connection.scalar(select(counters.c.value).where(counters.c.name == CHANGES))
        return int(value or 0)

    async def identity(self) -> str:
        """Which store it is; copies of it say the same."""
        async with self.read() as connection:
            value = await connection.scalar(select(counters.c.value).where(counters.c.name == IDENTITY))
        return f"{int(value or 0):x}"

    async def close(self) -> None:
        """Closes all connections."""
        await self._engine.dispose()

    async def migrate(self) -> None:
        """Brings the tables up to date; two processes at once do it one after the other. Raises StartError."""
        try:
            with as_away():
                async with self._engine.connect() as plain:
                    connection = await plain.execution_options(**{WRITES: True})
                    async with connection.begin():
                        if self.dialect == "postgresql":
                            await self._check_encoding(connection)
                            await connection.execute(text(f"SELECT pg_advisory_xact_lock({_MIGRATION_LOCK})"))
                        await connection.run_sync(_upgrade)
            self._inode = self._file_identity()
        except StoreAway as error:
            raise StartError(f"{self.place.shown}: {error}") from None
        except CommandError as error:
            text_ = f"{self.place.shown}: was made by a newer version of Moongate, or is not Moongate's ({error})"
            raise StartError(text_) from None
        except (IntegrityError, ProgrammingError) as error:
            raise StartError(f"{self.place.shown}: its tables cannot be made: {error.orig}") from None

    async def _check_encoding(self, connection: AsyncConnection) -> None:
        found = await connection.scalar(text("SHOW server_encoding"))
        if found != "UTF8":
            raise StartError(
                f"{self.place.shown}: the database has the encoding {found}, which cannot hold all texts; make one with"
                " CREATE DATABASE ... ENCODING 'UTF8' TEMPLATE template0"
            )

    async def _count(self, connection: AsyncConnection) -> None:
        await connection.execute(update(counters).where(counters.c.name == CHANGES).values(value=counters.c.value + 1))
        if self.dialect == "postgresql":
            await connection.execute(text(f"SELECT pg_notify('{CHANNEL}', '')"))

    async def _same_file(self) -> None:
        """A file that was moved away stays open, and what is written to it is lost: so nothing is written to it."""
        if self.place.file is None or self._inode is None:
            return
        found = self._file_identity()
        if found is None:
            raise StoreAway(f"the store cannot be used now: the file {self.place.file} is gone")
        if found != self._inode:
            try:
                await self.migrate()
                self.generation += 1
            except StartError as error:
                raise StoreAway(f"the store cannot be used now: {error}") from None

    def _file_identity(self) -> tuple[int, int] | None:
        return None if self.place.file is None else _identity(self.place.file)


async def open_store(url: str | None, data_dir: Path) -> Store:
    """The database of `url`, or `<data-dir>/moongate.db`, with all tables. Raises StartError, never with a password."""
    place = read_url(url, data_dir)
    if place.file is not None:
        await asyncio.to_thread(_make_file, place.file)
    try:
        store = Store(place)
    except (ArgumentError, TypeError, ValueError) as error:
        raise StartError(f"{place.shown}: cannot be used as the address of a store: {type(error).__name__}") from None
    try:
        await store.migrate()
    except (TypeError, ValueError):
        await store.close()
        if not place.url.query or place.file is not None:
            raise
        names = ", ".join(sorted(place.url.query))
        text_ = f"{place.shown}: store.url has parameters that cannot be used as they are ({names}); take them away"
        raise StartError(text_) from None
    except BaseException:
        await store.close()
        raise
    return store


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _make_file(path: Path) -> None:
    """The file exists, and is its user's alone; what SQLite keeps beside it gets the same permissions.

    One that is there is not opened: closing it would give up the locks that this process has on it (fcntl(2)).
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with suppress(FileExistsError):
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        if path.stat().st_mode & 0o077:
            path.chmod(0o600)
    except OSError as error:
        text_ = f"{path}: cannot be made or opened: {error.strerror}; choose another --data-dir, or a store.url"
        raise StartError(text_) from None


def _engine(place: Place) -> AsyncEngine:
    if place.file is None:
        return create_async_engine(
            place.url,
            pool_pre_ping=True,
            pool_size=5,
            pool_timeout=10,
            hide_parameters=True,
            connect_args={"timeout": CONNECT_SECONDS, "command_timeout": COMMAND_SECONDS},
        )
    engine = create_async_engine(
        place.url,
        pool_size=5,
        pool_timeout=10,
        hide_parameters=True,
        connect_args={"isolation_level": None, "timeout": BUSY_MS / 1000},
    )
    file = place.file

    def opened(connection: DBAPIConnection, record: ConnectionPoolEntry) -> None:
        record.info["file"] = _identity(file)
        _prepare_sqlite(connection)

    def taken(_connection: DBAPIConnection, record: ConnectionPoolEntry, _proxy: object) -> None:
        # To another file than the one that is there now: the pool opens a new one in its place.
        if record.info["file"] != _identity(file):
            raise DisconnectionError

    event.listen(engine.sync_engine, "connect", opened)
    event.listen(engine.sync_engine, "checkout", taken)
    event.listen(engine.sync_engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: DBAPIConnection) -> None:
    cursor = connection.cursor()
    for pragma in (
        f"busy_timeout = {BUSY_MS}",
        "journal_mode = WAL",
        "synchronous = FULL",
        "foreign_keys = ON",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    # A writer takes its place at once; turning from reader to writer in the middle would fail under load.
    writes = connection.get_execution_options().get(WRITES)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _upgrade(connection: Connection) -> None:
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
