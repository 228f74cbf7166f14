"""How fast records move from the journal to SQLite, and how fast a filter finds some of them among millions.

`python -m bench.ingest [RECORDS]`; 2,000,000 records need about a gigabyte in the temporary directory.
"""

from __future__ import annotations

import asyncio
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from moongate.audit.chain import chain_key
from moongate.audit.ingest import Ingester
from moongate.audit.query import Filter, find
from moongate.audit.segments import segment_path
from moongate.audit.verify import verify
from moongate.store.engine import open_store

USUAL = 300_000
SEGMENT = 64 * 1024 * 1024
KEY = chain_key(bytes(32))
BEGIN = 1_790_000_000.0
DAY = 86_400.0


def records(count: int, seed: int = 1) -> Iterator[bytes]:
    """Lines as the gateway writes them: 20 users, 30 tools, 12 instances, 200 addresses, one failure in 50."""
    dice = random.Random(seed)
    users = [f"user-{number}" for number in range(20)]
    tools = [f"get_thing_{number}" for number in range(30)]
    for number in range(count):
        failed = dice.random() < 0.02
        rare = number % 50_000 == 777
        instance = "rare" if rare else f"instance-{dice.randrange(12)}"
        record = {
            "time": BEGIN + number * 0.05,
            "requestId": f"0123456789ab{number:08x}",
            "source": f"10.1.0.{dice.randrange(200)}" if not rare else "192.168.7.7",
            "instance": instance,
            "httpMethod": "POST",
            "path": f"/mcp/{instance}/v1/stream",
            "principal": "rare-user" if rare else (user := dice.choice(users)),
            "token": "tok_rare" if rare else f"tok_{user}",
            "tokenFingerprint": "aaaa0001" if rare else f"{users.index(user):08x}",
            "tokenHeader": "authorization",
            "status": 502 if failed else 200,
            "duration": round(dice.random() * 20, 3),
            "firstByte": round(dice.random() * 10, 3),
            "method": "tools/call",
            "target": "rare_tool" if rare else dice.choice(tools),
            "revision": "2025-06-18",
            "client": "bench/1.0",
            "bytesIn": 180,
            "bytesOut": 320,
            "argumentsDigest": f"{dice.getrandbits(64):016x}",
        }
        if failed:
            record["failure"] = "upstream_connect"
        yield msgspec.json.encode(record) + b"\n"


def write_journal(directory: Path, count: int) -> None:
    """Segments full of records."""
    directory.mkdir(parents=True)
    number, size = 1, 0
    file = segment_path(directory, number).open("wb", buffering=1 << 20)
    for line in records(count):
        if size >= SEGMENT:
            file.close()
            number, size = number + 1, 0
            file = segment_path(directory, number).open("wb", buffering=1 << 20)
        file.write(line)
        size += len(line)
    file.close()


FILTERS = {
    "newest": Filter(),
    "user": Filter(user="rare-user"),
    "usual user": Filter(user="user-3"),
    "instance": Filter(instance="rare"),
    "tool": Filter(target="rare_tool"),
    "network": Filter(source="192.168.0.0/16"),
    "token": Filter(token="aaaa0001"),  # noqa: S106 - a fingerprint
    "failed": Filter(outcome="failed"),
    "refused": Filter(outcome="refused"),
    "user and failed": Filter(user="user-3", outcome="failed"),
    "path": Filter(path="/mcp/rare/*"),
    "request id": Filter(request_id="0123456789ab00001234"),
    "a day": Filter(since=BEGIN + 2000, until=BEGIN + 3000, user="user-3"),
    "token header": Filter(token_header="API-Key"),  # noqa: S106 - a name
}


async def measure(count: int) -> None:
    """Prints what was measured."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name) / "journal"
        write_journal(directory, count)
        size = sum(path.stat().st_size for path in directory.glob("journal-*"))
        store = await open_store(None, Path(name))
        ingester = Ingester(store, directory, KEY)
        begin, used = time.perf_counter(), time.process_time()
        await ingester.catch_up(3600)
        seconds, used = time.perf_counter() - begin, time.process_time() - used
        database = await asyncio.to_thread(_size, Path(name))
        print(f"ingested {count} records ({size / count:.0f} bytes each) in {seconds:.2f} s: {count / seconds:,.0f}/s")
        print(f"processor time: {used / count * 1e6:.1f} us a record, which makes {count / used:,.0f}/s of one core")
        print(f"database: {database / count:.0f} bytes a record")
        for name_, wanted in FILTERS.items():
            begin = time.perf_counter()
            page = await find(store, wanted, limit=100)
            print(f"{name_:>16}: {(time.perf_counter() - begin) * 1e3:7.1f} ms, {len(page.items)} records")
        begin = time.perf_counter()
        found = await verify(store, [KEY])
        print(f"verified {found.records} records in {time.perf_counter() - begin:.2f} s, fine: {found.ok}")
        await store.close()


def _size(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.glob("moongate.db*"))


if __name__ == "__main__":
    asyncio.run(measure(int(sys.argv[1]) if len(sys.argv) > 1 else USUAL))
