"""The journal file: order, rotation, and a disk that does not take it."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from moongate.audit.journal import Journal
from moongate.audit.redact import Redactor, fingerprint
from moongate.testing import Exchange
from tests.proxy.talk import (
    call,
    connected,
    event,
    initialize,
    last_record,
    modern_call,
    pair,
    polite,
    records,
    result,
    run,
    settled,
)


def on_disk(folder: Path) -> list[dict[str, object]]:
    """What a reader finds, without asking the gateway for anything."""
    files = sorted(folder.glob("journal-*.jsonl"), key=lambda path: int(path.stem.partition("-")[2]))
    return [json.loads(line) for path in files for line in path.read_bytes().splitlines()]


ANSWERS = ["json", "long json", "chunked json", "event stream", "long event", "error", "refused"]


@pytest.mark.parametrize("kind", ANSWERS)
def test_the_record_is_on_disk_when_the_answer_is_complete(kind: str) -> None:
    """Read from the client's side the moment it has the last byte (for an event stream: the answering event)."""
    body = result(1, text="m" * (300_000 if kind.startswith("long") else 3))

    async def story() -> None:
        async def script(exchange: Exchange) -> None:
            if kind in {"json", "long json"}:
                await exchange.answer(body)
            elif kind == "chunked json":
                await exchange.stream({"content-type": "application/json"})
                await exchange.chunk(body)
                await exchange.close_stream()
            elif kind == "error":
                exchange.reset()
            else:
                await exchange.stream()
                await exchange.chunk(event(body))
                await exchange.gone()

        async with pair(script) as (gate, _):
            for count in range(1, 30):
                async with connected(gate) as client:
                    await client.send(call(count), {"content-type": "text/x"} if kind == "refused" else {})
                    head = await client.head()
                    if "event" in kind:
                        await client.text(b"}}\n\n")
                    else:
                        await client.body(head)
                    found = on_disk(gate.data_dir / "journal")
                    assert [record["requestId"] for record in found].count(head.fields["x-request-id"]) == 1
                    assert len(found) == count

    run(story())


def test_one_record_per_request_and_two_per_get_stream() -> None:
    """What is in them: who, where, what, how it ended; the stream's two records have one id."""

    async def story() -> None:
        async with pair(polite) as (gate, backend):
            async with connected(gate) as client:
                opened = await client.ask(initialize("2025-06-18"))
                session = {"mcp-session-id": opened.fields["mcp-session-id"]}
                await client.ask(call(2), session)
                await client.ask(*modern_call(3))
                await client.ask(b'{"jsonrpc":"2.0","method":"notifications/initialized"}', session)
                await client.send(None, session, method="GET", path="/mcp/one/v1/stream?x=secret")
                head = await client.head()
                assert [record.get("phase") for record in records(gate)] == [None, None, None, None, "open"]
                client.vanish()
            close = await last_record(gate, 6)
            assert close["phase"] == "close"
            assert close["requestId"] == records(gate)[4]["requestId"] == head.fields["x-request-id"]
            assert close["path"] == "/mcp/one/v1/stream"
            first, second, third, fourth, *_ = records(gate)
            assert (first["method"], first["client"], first["revision"]) == ("initialize", "lynx/3", "2025-06-18")
            assert (second["method"], second["target"], second["revision"], second["client"]) == (
                "tools/call",
                "moonrise",
                "2025-06-18",
                "lynx/3",
            )
            assert (third["revision"], third["bytesIn"]) == ("2026-07-28", len(modern_call(3)[0]))
            assert (fourth["method"], fourth["status"]) == ("notifications/initialized", 202)
            for record in records(gate):
                assert (record["source"], record["instance"], record["principal"]) == ("127.0.0.1", "one", "anonymous")
                assert record["duration"] >= 0
            assert len({record["requestId"] for record in records(gate)}) == 5
            await settled(gate, None)
            assert backend.seen

    run(story())


def test_a_pipelined_burst_is_recorded_in_order() -> None:
    """Ten requests in one packet: ten answers and ten records, in their order."""

    async def story() -> None:
        async with pair(polite) as (gate, _), connected(gate) as client:
            body = call()
            request = (
                b"POST /mcp/one HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
                b"content-length: %d\r\n\r\n%b" % (len(body), body)
            )
            await client.write(request * 10)
            ids = [(await client.answer()).fields["x-request-id"] for _ in range(10)]
            assert [record["requestId"] for record in records(gate)] == ids

    run(story())


def test_segments_rotate_and_the_oldest_go(tmp_path: Path) -> None:
    """By size; what is kept never exceeds its limit by more than a segment; numbers go on after a restart; what went
    is counted.
    """
    line = b'{"n": 1, "x": "' + b"m" * 80 + b'"}\n'
    unsaid = 0

    async def story() -> None:
        nonlocal unsaid
        for _ in range(2):
            journal = Journal(tmp_path, segment_bytes=1000, keep_bytes=5000)
            for _ in range(200):
                journal.commit(line, lambda: None)
                journal.flush()
            journal.close()
            unsaid += journal._unsaid

    run(story())
    files = sorted(tmp_path.glob("journal-*"), key=lambda path: int(path.stem.partition("-")[2]))
    assert (tmp_path / "id").stat().st_mode & 0o777 == 0o600
    numbers = [int(path.stem.partition("-")[2]) for path in files]
    assert numbers == list(range(numbers[0], numbers[-1] + 1))
    assert numbers[0] > 1
    assert sum(path.stat().st_size for path in files) <= 6200
    assert all((path.stat().st_mode & 0o777) == 0o600 for path in files)
    chunks = [chunk for path in files for chunk in path.read_bytes().splitlines(keepends=True)]
    kept = [chunk for chunk in chunks if chunk == line]
    assert sum(json.loads(chunk).get("lost", 0) for chunk in chunks) + len(kept) + unsaid == 400


def test_a_torn_line_spoils_only_itself(tmp_path: Path) -> None:
    """After a crash in the middle of a line the next record has a line of its own."""

    async def story() -> None:
        (tmp_path / "journal-1.jsonl").write_bytes(b'{"n": 1}\n{"n": 2, "to')
        journal = Journal(tmp_path)
        journal.commit(b'{"n": 3}\n', lambda: None)
        journal.close()
        assert (tmp_path / "journal-1.jsonl").read_bytes() == b'{"n": 1}\n{"n": 2, "to'
        assert (tmp_path / "journal-2.jsonl").read_bytes() == b'{"n": 3}\n'

    run(story())


def test_one_answer_that_cannot_leave_takes_no_other_along(tmp_path: Path) -> None:
    """What is to happen after a write happens for each record of the turn."""
    left: list[int] = []

    def breaks() -> None:
        raise RuntimeError("this connection is broken")

    async def story() -> None:
        journal = Journal(tmp_path)
        journal.commit(b"{}\n", lambda: left.append(1))
        journal.commit(b"{}\n", breaks)
        journal.commit(b"{}\n", lambda: left.append(2))
        with contextlib.suppress(RuntimeError):
            journal.flush()
        assert left == [1, 2]
        journal.close()

    run(story())


FULL = """
import asyncio, json, resource, sys
from moongate.audit.journal import Journal
from pathlib import Path

async def main():
    journal = Journal(Path(sys.argv[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
    left = []
    for number in range(50):
        journal.commit(json.dumps({"n": number, "x": "m" * 80}).encode() + b"\\n", lambda: left.append(1))
        journal.flush()
    full = (journal.written, journal.lost, len(left))
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    journal.commit(b'{"n": 99}\\n', lambda: None)
    journal.close()
    print(json.dumps([*full, journal.written]))

asyncio.run(main())
"""


def test_a_full_disk_is_counted_and_nothing_stops(tmp_path: Path) -> None:
    """Every answer leaves; written and lost add up; the file holds exactly what was counted; it goes on afterwards, and
    says in its place how many are missing.
    """
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path)], capture_output=True, text=True, timeout=30, check=True
    )
    written, lost, left, after = json.loads(done.stdout)
    assert (written + lost, left, after) == (50, 50, written + 1)
    assert lost > 30
    lines = (tmp_path / "journal-1.jsonl").read_bytes().splitlines()
    whole = [line for line in lines if line.endswith(b"}")]
    assert len(whole) == after + 1
    assert json.loads(whole[-1]) == {"n": 99}
    assert json.loads(whole[-2])["lost"] == lost


@pytest.mark.parametrize("how", ["directory removed", "file removed"])
def test_a_lost_directory_is_counted(how: str) -> None:
    """Records that nobody can find again are lost; the gateway answers all the same, and says so."""

    async def story() -> None:
        async with pair(polite) as (gate, _), connected(gate) as client:
            assert (await client.ask(call())).status == 200
            folder = gate.data_dir / "journal"
            for path in folder.iterdir():
                path.unlink()
            if how == "directory removed":
                folder.rmdir()
            for _ in range(3):
                assert (await client.ask(call())).status == 200
            assert gate.runtime.journal.lost + len(gate.records()) == 3

    run(story())


def test_a_directory_that_takes_no_new_segment_is_counted(tmp_path: Path) -> None:
    """The next segment cannot be made: counted, and the answers leave; when it can again, records are kept again."""
    left: list[int] = []
    folder, aside = tmp_path / "journal", tmp_path / "aside"

    def lose() -> None:
        folder.rename(aside)
        folder.write_text("in the way")

    def find() -> None:
        folder.unlink()
        aside.rename(folder)

    async def story() -> None:
        journal = Journal(folder, segment_bytes=10)
        for number, before in ((1, None), (2, lose), (3, None), (4, find)):
            if before is not None:
                before()
            journal.commit(b'{"number": %d}\n' % number, partial(left.append, number))
            journal.flush()
        assert (journal.written, journal.lost, left) == (2, 2, [1, 2, 3, 4])
        journal.close()

    run(story())


def test_secrets_are_replaced_by_fingerprints() -> None:
    """Longer ones first, two apart, credentials by their shape, anywhere in a text."""
    redactor = Redactor(["moon", "moonrise-token", "a+b.c*d", "x"])
    cleaned = redactor.clean("moonrise-token moon a+b.c*d Bearer unknown-token-1 x")
    for secret in ("moonrise-token", "a+b.c*d", "unknown-token-1"):
        assert secret not in cleaned
    assert fingerprint("moonrise-token") in cleaned
    assert fingerprint("moon") in cleaned
    assert cleaned.endswith(" x")
