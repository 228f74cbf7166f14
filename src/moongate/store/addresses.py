"""The address of a database as the operator writes it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from moongate.errors import StartError

FILE = "moongate.db"
_ALLOWED = (
    "write postgresql://USER:PASSWORD@HOST/DATABASE or sqlite:///FILE, or nothing for a file in the data directory"
)
_POSTGRESQL = frozenset({"postgresql", "postgres", "postgresql+asyncpg"})
_SQLITE = frozenset({"sqlite", "sqlite+aiosqlite"})


@dataclass(frozen=True, slots=True)
class Place:
    """Where the database is. `shown` is safe to print; `file` is set for SQLite."""

    url: URL
    shown: str
    file: Path | None = None


def read_url(url: str | None, data_dir: Path) -> Place:
    """What `store.url` means. Raises StartError, which never shows what was written: a password may be in it."""
    if url is None:
        return _sqlite(data_dir / FILE)
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise StartError(f"store.url is not the address of a database; {_ALLOWED}") from None
    if parsed.drivername in _SQLITE:
        if not parsed.database or parsed.database == ":memory:" or parsed.query or parsed.host:
            raise StartError(f"store.url: for SQLite only a file can be given; {_ALLOWED}")
        return _sqlite(Path(parsed.database))
    if parsed.drivername not in _POSTGRESQL:
        raise StartError(f"store.url: {parsed.drivername} cannot be used as a store; {_ALLOWED}")
    return _postgresql(parsed)


def _sqlite(path: Path) -> Place:
    # mode=rw: a file that is gone stays gone instead of being replaced by an empty one.
    uri = URL.create("sqlite+aiosqlite", database=path.absolute().as_uri(), query={"mode": "rw", "uri": "true"})
    return Place(uri, str(path), path)


def _postgresql(parsed: URL) -> Place:
    query = dict(parsed.query)
    if "sslmode" in query:  # libpq's word for what the driver calls ssl
        query["ssl"] = query.pop("sslmode")
    shown = URL.create("postgresql", parsed.username, None, parsed.host, parsed.port, parsed.database)
    return Place(parsed.set(drivername="postgresql+asyncpg", query=query), shown.render_as_string())
