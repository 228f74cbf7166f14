"""The audit trail of one data directory, opened: for whoever reads it beside a gateway, or without one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from moongate.audit.chain import key_id
from moongate.audit.ingest import Ingester
from moongate.audit.segments import journal_id
from moongate.audit.storing import read_position
from moongate.errors import StartError
from moongate.store.engine import Store, open_store

_OTHER_KEY = (
    "the records were written with another key than this one; set MOONGATE_KEY as it is set for the gateway (after a"
    " change of keys, also MOONGATE_KEY_OLD)"
)


@dataclass(frozen=True, slots=True)
class AuditPlace:
    """`keys` are the chain's, that in use first; `directory` is the journal's."""

    store: Store
    directory: Path
    keys: tuple[bytes, ...]
    ingester: Ingester


@asynccontextmanager
async def open_place(
    url: str | None, data_dir: Path, directory: Path, keys: tuple[bytes, ...]
) -> AsyncIterator[AuditPlace]:
    """Raises StartError (also if the chain was written with none of the keys), StoreAway, OSError."""
    store = await open_store(url, data_dir)
    try:
        name = await asyncio.to_thread(_journal, directory)
        position = None if name is None else await read_position(store, name)
        section = None if position is None else position.section
        if section is not None and section.key_id not in map(key_id, keys):
            raise StartError(_OTHER_KEY)
        yield AuditPlace(store, directory, keys, Ingester(store, directory, keys[0]))
    finally:
        await store.close()


def _journal(directory: Path) -> str | None:
    return journal_id(directory) if directory.is_dir() else None
