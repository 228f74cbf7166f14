"""The blocks `console:`, `store:` and `audit:`: the second process, its database, and what is recorded."""

from __future__ import annotations

import re
from typing import Annotated, Literal
from urllib.parse import unquote, urlsplit

from pydantic import AfterValidator, Field, WithJsonSchema

from moongate.control.schema.values import Duration, Flag, Port, Strict, bounded, refusal

_DATABASE = re.compile(r"(?:sqlite:///.+|postgres(?:ql)?://\S+)\Z", re.DOTALL)
MAX_KEEP_BYTES = 2**50


def _database(value: str) -> str:
    try:
        if _DATABASE.match(value) and (value.startswith("sqlite") or urlsplit(value).hostname):
            return value
    except ValueError:
        pass
    raise refusal("must be postgresql://USER:PASSWORD@HOST/DATABASE or sqlite:///FILE, found {found}")


def passwords(url: str) -> list[str]:
    """What of a database's address is secret, as written and decoded."""
    password = urlsplit(url).password
    return [] if password is None else [password, unquote(password)]


DatabaseUrl = Annotated[str, AfterValidator(_database), WithJsonSchema({"type": "string", "x-kind": "address"})]


class ConsoleBlock(Strict):
    """The admin port: the REST API. Part of the second process, which also brings records into the store."""

    enabled: Flag = Field(default=True, description="`false`: no second process, no admin port.")
    host: str | None = Field(None, description="The address to listen on. Without it: loopback.")
    port: Port | None = Field(None, description="The port. Without it: 8001, or the next free one.")


class StoreBlock(Strict):
    """Where instances, users, tokens and records are kept."""

    url: DatabaseUrl | None = Field(
        None,
        description="`postgresql://USER:PASSWORD@HOST/DATABASE`, best from the environment: `${DATABASE_URL}`. Without "
        "it: SQLite, the file `moongate.db` in the data directory.",
    )


class AuditBlock(Strict):
    """What is recorded of each call, and how long it is kept."""

    mode: Literal["normal", "strict"] = Field("normal", description="`strict` refuses calls that cannot be recorded.")
    sync: Flag = Field(
        default=False, description="`true` writes every record through to the disk, so that a power cut loses none."
    )
    arguments: Literal["digest", "record"] = Field(
        "digest", description="`record` keeps the arguments of calls, without known secrets, beside their digest."
    )
    keep: Duration = Field("90d", description="How long records are kept.")
    keep_bytes: Annotated[int, bounded(1024 * 1024, MAX_KEEP_BYTES)] | None = Field(
        None, description="How much they may occupy in the store, about; the oldest go first. Without it: no limit."
    )
