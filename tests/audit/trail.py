"""Words that the tests of the audit trail share: lines of a journal, a store with records in it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moongate.audit.chain import chain_key
from moongate.audit.filters import Filter
from moongate.audit.ingest import Ingester
from moongate.audit.query import stream
from moongate.audit.segments import segment_path
from moongate.store.engine import Store, open_store
from moongate.testing import Backend, Gateway, Script, gateway
from tests.databases import Database
from tests.proxy.talk import config

KEY = chain_key(b"k" * 32)
# 2027-01-15, 08:00 UTC.
NOON = 1_800_000_000.0
DAY = 86_400.0


def request_id(number: int) -> str:
    """As the gateway makes them."""
    return f"0123456789ab{number:08x}"


def line(number: int, **members: Any) -> bytes:  # noqa: ANN401 - any JSON
    """One record of the journal; the number is in its request id, and its time in milliseconds after NOON."""
    record = {
        "time": NOON + number / 1000,
        "requestId": request_id(number),
        "source": "127.0.0.1",
        "instance": "one",
        "httpMethod": "POST",
        "path": "/mcp/one",
        "principal": "alice",
        "status": 200,
        "duration": 1.5,
        "firstByte": 1.0,
        "method": "tools/call",
        "target": "moonrise",
        "revision": "2025-06-18",
        "client": "lynx/3",
        "bytesIn": 10,
        "bytesOut": 20,
        **members,
    }
    return json.dumps(record).encode() + b"\n"


@dataclass
class Trail:
    """A store, a journal, and what moves records from one to the other."""

    store: Store
    directory: Path
    ingester: Ingester

    def write(self, lines: Iterable[bytes], segment: int = 1) -> None:
        """Append to a segment."""
        with segment_path(self.directory, segment).open("ab") as file:
            file.write(b"".join(lines))

    async def moved(self) -> None:
        """All that is in the journal is in the store."""
        await self.ingester.catch_up(30)

    async def numbers(self, wanted: Filter | None = None, *, ascending: bool = True) -> list[int]:
        """The numbers of the records in the store."""
        found = stream(self.store, wanted or Filter(), ascending)
        return [int(record["requestId"][12:], 16) async for record in found]

    async def execute(self, sql: str) -> int:
        """Change something behind everybody's back; how many rows."""
        async with self.store.write(quiet=True) as connection:
            return int((await connection.exec_driver_sql(sql)).rowcount)

    async def value(self, sql: str) -> Any:  # noqa: ANN401 - whatever it is
        """The first value of the first row."""
        async with self.store.read() as connection:
            return (await connection.exec_driver_sql(sql)).scalar()


@asynccontextmanager
async def audited(
    script: Script,
    audit: dict[str, object],
    **entry: Any,  # noqa: ANN401 - any JSON
) -> AsyncIterator[tuple[Gateway, Backend]]:
    """A backend and a gateway in front of it, with a block `audit:`."""
    async with Backend(script) as backend:
        document = {**json.loads(config(backend.url, **entry)), "audit": audit}
        async with gateway(json.dumps(document)) as gate:
            yield gate, backend


@asynccontextmanager
async def trail(database: Database | Path, key: bytes = KEY) -> AsyncIterator[Trail]:
    """A store on a database, and a journal beside it."""
    place = database if isinstance(database, Database) else Database(None, database)
    directory = place.data_dir / "journal"
    await asyncio.to_thread(directory.mkdir, parents=True, exist_ok=True)
    store = await open_store(place.url, place.data_dir)
    try:
        yield Trail(store, directory, Ingester(store, directory, key))
    finally:
        await store.close()
