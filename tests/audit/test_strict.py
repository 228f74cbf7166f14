"""`audit.mode: strict` and `audit.sync`: what happens when records cannot be kept."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from moongate.audit.journal import Journal
from tests.audit.trail import audited
from tests.proxy.talk import call, connected, initialize, pair, polite, run


def lose(folder: Path) -> None:
    """The directory can be written no more."""
    folder.rename(folder.with_name("aside"))
    folder.write_text("in the way")


def find(folder: Path) -> None:
    """It can again."""
    folder.unlink()
    folder.with_name("aside").rename(folder)


def test_strict_refuses_what_it_cannot_record() -> None:
    """503 with the call's id, and the backend hears nothing; once records can be kept again, calls go on."""

    async def story() -> None:
        async with audited(polite, {"mode": "strict"}) as (gate, backend), connected(gate) as client:
            assert (await client.ask(call(1))).status == 200
            folder = gate.data_dir / "journal"
            gate.runtime.journal._segment_bytes = 1
            lose(folder)
            await client.ask(call(2))  # the journal is not known to be unwritable yet
            heard = len(backend.seen)
            for number in (3, 4):
                refused = await client.ask(call(number))
                assert refused.failure == (503, "internal")
                assert refused.message["id"] == number
            assert (await client.ask(initialize())).status == 503
            assert len(backend.seen) == heard
            find(folder)
            assert (await client.ask(call(5))).status == 503  # whose record is what tries
            assert (await client.ask(call(6))).status == 200
            written = [record for record in gate.records() if b'"lost"' in record]
            assert len(written) == 1
            assert gate.runtime.journal.lost == 4

    run(story())


@pytest.mark.requirement("PM-55")
def test_without_it_calls_go_on_and_losses_are_counted() -> None:
    """The default: the gateway serves, says so, counts."""

    async def story() -> None:
        async with pair(polite) as (gate, _), connected(gate) as client:
            folder = gate.data_dir / "journal"
            gate.runtime.journal._segment_bytes = 1
            await client.ask(call(0))
            lose(folder)
            for number in range(1, 4):
                assert (await client.ask(call(number))).status == 200
            find(folder)
            assert gate.runtime.journal.lost == 3

    run(story())


@contextmanager
def syncs(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """How often the disk was waited for."""
    found: list[int] = []
    real = os.fdatasync

    def counted(file: int) -> None:
        found.append(file)
        real(file)

    monkeypatch.setattr(os, "fdatasync", counted)
    yield found


def test_sync_waits_for_the_disk_before_answers_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once for each write; not at all without it."""

    async def story() -> None:
        with syncs(monkeypatch) as found:
            async with audited(polite, {"sync": True}) as (gate, _), connected(gate) as client:
                for number in range(1, 4):
                    await client.ask(call(number))
                    assert len(found) == number
            count = len(found)
            async with pair(polite) as (gate, _), connected(gate) as client:
                await client.ask(call())
            assert len(found) == count

    run(story())


def test_a_segment_that_was_taken_away_is_not_written_again(tmp_path: Path) -> None:
    """Its number is spent: what comes has another place."""

    async def story() -> None:
        journal = Journal(tmp_path)
        for number in range(3):
            journal.commit(b'{"n":%d}\n' % number, lambda: None)
            journal.flush()
            if number == 1:
                (tmp_path / "journal-1.jsonl").unlink()
        journal.close()
        names = await asyncio.to_thread(lambda: sorted(path.name for path in tmp_path.glob("journal-*")))
        assert names == ["journal-2.jsonl"]
        assert (journal.written, journal.lost) == (3, 0)

    run(story())
