"""Somebody writes to the database: nothing of ours is lost over it, and it is found, also later."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import aclosing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from moongate.audit.filters import Filter
from moongate.audit.ingest import Ingester
from moongate.audit.rows import ALL_COLUMNS
from moongate.audit.status import status
from moongate.audit.storing import touch_tokens
from moongate.audit.tables import PLACE_BITS
from moongate.audit.tail import Tail
from moongate.audit.verify import verify
from moongate.console.audit import _events
from moongate.errors import StartError
from moongate.store.engine import open_store
from moongate.store.tables import tokens, users
from moongate.tasks import Tasks
from moongate.testing import Exchange
from tests.audit.trail import KEY, NOON, Trail, line, request_id, trail
from tests.databases import Database
from tests.proxy.talk import call, connected, last_record, pair, polite, run, until

WHOLE = "what is kept of the journal as a whole"


async def findings(found: Trail) -> list[str]:
    """What verify says."""
    return [finding.text for finding in (await verify(found.store, [KEY])).findings]


@pytest.mark.requirement("PM-55")
def test_a_row_in_the_way_stops_nothing(database: Database, caplog: pytest.LogCaptureFixture) -> None:
    """After the end of the chain, where a later record belongs: it goes, all of ours come, and verify says so for ever;
    by the ingester that runs.
    """
    columns = ", ".join("id + 3" if name == "id" else name for name in ALL_COLUMNS)

    async def story() -> None:
        async with trail(database) as found:
            found.write(map(line, range(5)))
            await found.moved()
            last = (1 << PLACE_BITS) + 5
            await found.execute(f"INSERT INTO audit_records SELECT {columns} FROM audit_records WHERE id = {last}")  # noqa: S608 - ours
            assert await findings(found) == ["records were inserted after the end of the chain"]
            tasks = Tasks("test")
            tasks.spawn(found.ingester.run(), "ingest")
            found.write(map(line, range(5, 15)))
            await until(lambda: found.ingester.counts.ingested == 15, 10)
            await tasks.close()
            assert await found.numbers() == list(range(15))
            shown = await status(found.store, found.directory)
            assert (shown["records"], shown["damaged"]) == (15, 1)
            for _ in range(2):
                said = await findings(found)
                assert len(said) == 1
                assert said[0].startswith(WHOLE)
                found.write([line(15)])
                await Ingester(found.store, found.directory, KEY).catch_up()

    run(story())
    assert "somebody has put 1 rows after the end of the chain" in caplog.text


@pytest.mark.parametrize("column", ["segment", "place", "damaged", "lost", "missing_segments"])
def test_what_was_read_and_lost_is_sealed(tmp_path: Path, column: str, caplog: pytest.LogCaptureFixture) -> None:
    """Whoever resets what was lost, or has records skipped, is found; also after more records have come."""

    async def story() -> None:
        async with trail(tmp_path) as found:
            found.write([line(1), b'{"time":1.0,"lost":77}\n', b"torn{\n", line(2)], segment=2)
            await found.moved()
            assert (await verify(found.store, [KEY])).ok
            wanted = {"place": len(line(3)) + await found.value("SELECT place FROM audit_journals")}
            found.write([line(3)], segment=2)
            await found.execute(f"UPDATE audit_journals SET {column} = {wanted.get(column, 0)}")  # noqa: S608 - ours
            assert (await findings(found))[0].startswith(WHOLE)
            await Ingester(found.store, found.directory, KEY).catch_up()
            found.write([line(4)], segment=3)
            await Ingester(found.store, found.directory, KEY).catch_up()
            assert (await findings(found))[0].startswith(WHOLE)
            assert 4 in await found.numbers()

    run(story())
    assert "somebody has changed in the database how far the journal" in caplog.text


def test_another_key_is_no_change(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """After a change of keys the journal goes on, and both verify it."""
    other = KEY[::-1]

    async def story() -> None:
        async with trail(tmp_path) as found:
            found.write([line(1)])
            await found.moved()
            ingester = Ingester(found.store, found.directory, other)
            await ingester.catch_up()
            found.write([line(2)], segment=2)
            await ingester.catch_up()
            await Ingester(found.store, found.directory, other).catch_up()
            assert (await verify(found.store, [other, KEY])).ok

    run(story())
    assert "somebody" not in caplog.text


def test_text_is_found_as_it_was_written(database: Database) -> None:
    """Capitals that are not of ASCII, signs that mean something to databases."""

    async def story() -> None:
        async with trail(database) as found:
            found.write([line(1, target="\u00c4rger_\u00f6ffnen"), line(2, target="100% \\ Moon")])
            await found.moved()
            for text in ("\u00c4rger", "\u00c4RGER_", "rger_\u00f6", "R_\u00f6FF"):
                assert await found.numbers(Filter(text=text)) == [1]
            for text in ("100%", "% \\ m", "MOON"):
                assert await found.numbers(Filter(text=text)) == [2]
            assert await found.numbers(Filter(text="1_0%")) == []

    run(story())


def test_a_tail_leaves_out_nothing_that_fits_because_of_what_does_not(database: Database) -> None:
    """Rare ones among many; too many that fit are counted, of all journals together."""

    async def story() -> None:
        async with trail(database) as found:
            found.write(map(line, range(5)))
            await found.moved()
            rare = Tail(found.store, Filter(user="bob"), every=0.01, most=10)
            common = Tail(found.store, Filter(), every=0.01, most=10)
            await rare.start()
            await common.start()
            found.write(line(n, principal="bob" if n % 1000 == 500 else "alice") for n in range(5, 8000))
            await found.moved()
            assert [(await anext(rare))["requestId"] for _ in range(8)] == [
                request_id(number) for number in range(500, 8000, 1000)
            ]
            assert rare.dropped == 0
            assert [(await anext(common))["requestId"] for _ in range(10)] == list(map(request_id, range(7990, 8000)))
            assert common.dropped == 7995 - 10

    run(story())


def test_who_follows_is_told_what_is_left_out(tmp_path: Path) -> None:
    """An event between the records, with how many; once."""

    async def story() -> None:
        async with trail(tmp_path) as found:
            tail = Tail(found.store, Filter(), every=0.01, most=10)
            await tail.start()
            found.write(map(line, range(100)))
            await found.moved()
            services: Any = SimpleNamespace(tails=0)
            async with aclosing(_events(services, tail)) as events:
                said = [await anext(events) for _ in range(12)]
            assert said[1] == b'event: dropped\ndata: {"count": 90}\n\n'
            assert [text.split(b"\n")[0] for text in said[2:]] == [b"event: record"] * 10
            assert services.tails == 0

    run(story())


@pytest.mark.requirement("PM-55")
def test_many_tokens_are_noted_at_once(database: Database) -> None:
    """Hundreds in a batch; again only when the last use is some time later; in two ingesters at once."""
    plain = {"revision": 1, "created": 1.0, "updated": 1.0, "enabled": True}
    names = [f"tok_{number:04}" for number in range(500)]

    async def story() -> None:
        async with trail(database) as found:
            async with found.store.write() as connection:
                await connection.execute(insert(users).values(name="alice", notes="", **plain))
                rows = [
                    {"id": name, "user_name": "alice", "name": "", "sha256": f"{name:0>64}", "tags": [], **plain}
                    for name in names
                ]
                await connection.execute(insert(tokens), rows)
            written: list[int] = []

            async def noted(connection: AsyncConnection, used: Mapping[str, float]) -> None:
                written.append(len(used))
                await touch_tokens(connection, used)

            ingester = Ingester(found.store, found.directory, KEY, noted)
            for seconds in (0, 5, 40):
                found.write(line(n, token=name, time=NOON + seconds) for n, name in enumerate(names))
                await ingester.catch_up()
            assert sum(written) == 1000
            assert await found.value("SELECT min(last_used) FROM tokens") == NOON + 40
            async with found.store.write() as connection:
                await touch_tokens(connection, {"tok_0001": NOON, "of a file": NOON + 99})
            assert await found.value("SELECT min(last_used) FROM tokens") == NOON + 40

    run(story())


def test_a_database_that_cannot_hold_all_texts_is_refused(database: Database) -> None:
    """Before anything is written to it."""
    server = database.server
    if server is None:
        return
    server.sql("CREATE DATABASE narrow ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0", "postgres")

    async def story() -> None:
        with pytest.raises(StartError, match="encoding LATIN1"):
            await open_store(server.url("narrow"), database.data_dir)

    run(story())


@pytest.mark.parametrize("code", ["1e400", "-1e999", '"x"', "7", "1.5", "1" + "0" * 30])
def test_an_error_with_any_code_is_one(code: str) -> None:
    """Numbers beyond all, and what is none."""

    async def script(exchange: Exchange) -> None:
        if b"initialize" in exchange.seen.body:
            await polite(exchange)
        else:
            await exchange.answer(b'{"jsonrpc":"2.0","id":1,"error":{"code":%b,"message":"x"}}' % code.encode())

    async def story() -> None:
        async with pair(script) as (gate, _), connected(gate) as client:
            assert (await client.ask(call(1))).status == 200
            record = await last_record(gate)
            assert record["failure"] == "jsonrpc_error"
            assert record.get("code") == {"7": 7, "1.5": 1, "1" + "0" * 30: 10**30}.get(code)

    run(story())
