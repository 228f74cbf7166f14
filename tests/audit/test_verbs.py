"""`moongate audit`: on any data directory, beside a running gateway, and through its API."""

from __future__ import annotations

import asyncio
import csv
import json
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from moongate.audit.segments import segment_path
from moongate.testing import Backend
from tests.audit.trail import NOON, line, request_id
from tests.cli.calling import Line, Serving, serving
from tests.proxy.talk import call, config, connected, polite, run


def recorded(tmp_path: Path, count: int = 120) -> Line:
    """A data directory with a journal that nobody has moved yet."""
    data = tmp_path / "data"
    (data / "journal").mkdir(parents=True)
    segment_path(data / "journal", 1).write_bytes(b"".join(map(line, range(count))))
    return Line(data)


@pytest.mark.requirement("PM-47")
def test_list_works_on_any_data_directory(tmp_path: Path) -> None:
    """One JSON object a line, newest first; 0 is all; filters; a table for people."""
    audit = recorded(tmp_path)
    lines = audit("audit", "list", "--json", "--limit", "0").out.splitlines()
    assert [json.loads(text)["requestId"] for text in lines] == [request_id(number) for number in range(119, -1, -1)]
    assert len(audit("audit", "list", "--json").out.splitlines()) == 50
    since = ("--since", str(NOON + 0.1), "--oldest-first")
    chosen = audit("audit", "list", "--json", "--user", "alice", "--tool", "moon*", "--limit", "3", *since)
    assert [json.loads(text)["requestId"] for text in chosen.out.splitlines()] == [
        request_id(n) for n in (100, 101, 102)
    ]
    table = audit("audit", "list", "--limit", "2").out.splitlines()
    assert table[0].split()[:3] == ["TIME", "USER", "INSTANCE"]
    assert request_id(119) in table[1]
    assert audit("audit", "list", "--user", "nobody").out == "There is no such record.\n"
    assert audit("audit", "list", "--json", "--user", "nobody").out == ""


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--outcome", "fine"), "ok, refused, failed"),
        (("--source", "1.2"), "10.0.0.0/8"),
        (("--since", "yesterday"), "15m, 2h, 7d ago"),
        (("--status", "x"), "--status"),
    ],
)
def test_wrong_questions_are_explained(tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    """Exit code 2, and what would be right."""
    found = recorded(tmp_path, 1)("audit", "list", *words)
    assert found.code == 2
    assert said in found.all


def test_a_directory_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    """A misspelt name finds nothing, and says so."""
    found = Line(tmp_path / "nowhere")("audit", "list")
    assert (found.code, "nowhere" in found.err) == (2, True)
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.requirement("PM-55")
def test_show_export_verify_and_status(tmp_path: Path) -> None:
    """One request, all as CSV, the chain with a head that was kept, the counts."""
    audit = recorded(tmp_path)
    assert audit.json("audit", "show", request_id(7))["requestId"] == request_id(7)
    assert "alice" in audit("audit", "show", request_id(7)).out
    assert audit("audit", "show", request_id(999)).code == 1
    file = tmp_path / "records.csv"
    assert audit("audit", "export", "--format", "csv", "--oldest-first", "-o", str(file)).code == 0
    assert file.stat().st_mode & 0o777 == 0o600
    with file.open(newline="") as text:
        assert [row["requestId"] for row in csv.DictReader(text)] == [request_id(number) for number in range(120)]
    assert audit("audit", "export", "-o", str(file)).code == 2
    assert len(audit("audit", "export").out.splitlines()) == 120
    head = audit.json("audit", "verify")["heads"][0]
    kept = f"{head['journal']}:{head['records']}:{head['hash']}"
    assert kept in audit("audit", "verify").out
    assert audit("audit", "verify", "--head", kept).code == 0
    wrong = audit("audit", "verify", "--head", kept.replace(":120:", ":121:"))
    assert (wrong.code, "an earlier state" in wrong.err) == (1, True)
    assert audit("audit", "verify", "--head", "x").code == 2
    assert audit.json("audit", "status")["records"] == 120
    assert "lost" in audit("audit", "status").out


def listed(audit: Line) -> list[str]:
    """All request ids, oldest first."""
    found = audit("audit", "list", "--json", "--limit", "0", "--oldest-first").out.splitlines()
    return [json.loads(text)["requestId"] for text in found]


def from_elsewhere(gate: Serving, audit: Line, seen: list[str]) -> None:
    """The same through the API, as an auditor."""
    key = audit("apikey", "create", "tests", "--role", "auditor").out.strip()
    remote = Line(gate.folder / "elsewhere", "--server", gate.console, "--api-key", key)
    assert listed(remote) == seen
    found = remote("audit", "list", "--json", "--limit", "7", "--tool", "moon*", "--token-header", "nothing").out
    assert found == ""
    assert remote.json("audit", "show", seen[3])["requestId"] == seen[3]
    assert len(remote("audit", "export", "--outcome", "ok").out.splitlines()) == len(seen)
    assert remote.json("audit", "verify")["ok"]
    assert remote.json("audit", "status")["records"] == len(seen)
    assert remote("audit", "list", "--outcome", "fine").code != 0
    follow = ("--server", gate.console, "--api-key", key)
    assert followed(*follow, old=2, more=partial(ask_twice, gate.port, seen))[:2] == seen[-4:-2]


def ask_twice(port: int, seen: list[str]) -> None:
    """Two more calls."""

    async def story() -> None:
        async with connected(port) as client:
            seen.extend([(await client.ask(call(number))).fields["x-request-id"] for number in range(2)])

    run(story())


@pytest.mark.requirement("PM-46", "PM-47", "PM-55")
def test_beside_a_running_gateway_nothing_is_missing(tmp_path: Path) -> None:
    """All that was answered when the question was asked is in the answer; without the gateway, too."""

    async def story() -> None:
        async with Backend(polite) as backend:
            with serving(tmp_path, config(backend.url)) as gate:
                audit = Line(tmp_path / "data")
                seen: list[str] = []
                for _ in range(3):
                    async with connected(gate.port) as client:
                        seen += [(await client.ask(call(number))).fields["x-request-id"] for number in range(40)]
                    assert await asyncio.to_thread(listed, audit) == seen
                await asyncio.to_thread(from_elsewhere, gate, audit, seen)
            assert await asyncio.to_thread(listed, audit) == seen

    run(story(), limit=50)
    assert Line(tmp_path / "data")("audit", "verify").code == 0


def test_the_gateways_key_is_needed(tmp_path: Path) -> None:
    """With another one nothing is moved into the chain, and none is made; with the former one beside, it goes on."""
    audit = recorded(tmp_path)
    ours, other = "ab" * 32, "cd" * 32
    assert audit("audit", "verify", env={"MOONGATE_KEY": ours}).code == 0
    assert "MOONGATE_KEY" in audit("audit", "list").err
    assert not (tmp_path / "data" / "key").exists()
    wrong = audit("audit", "list", env={"MOONGATE_KEY": other})
    assert (wrong.code, "another key" in wrong.err) == (1, True)
    with segment_path(tmp_path / "data" / "journal", 1).open("ab") as file:
        file.write(line(500))
    both = {"MOONGATE_KEY": other, "MOONGATE_KEY_OLD": ours}
    assert len(audit("audit", "list", "--json", "--limit", "0", env=both).out.splitlines()) == 121
    assert audit("audit", "verify", env=both).code == 0
    assert audit("audit", "verify", env={"MOONGATE_KEY": other}).code == 1


@pytest.mark.requirement("PM-51")
def test_no_file_of_the_data_directory_holds_a_secret(tmp_path: Path) -> None:
    """A backend's credential, a client's token and those of strangers: not in the database, the journal, the log."""
    backends, ours, theirs = ("-".join([word, "q" * 9]) for word in ("backends", "clients", "strangers"))

    async def story() -> None:
        async with Backend(polite) as backend:
            tokens = {"tokens": [{"name": "alice", "token": ours}]}
            text = config(backend.url, gateway=tokens, headers={"X-Key": backends})
            with serving(tmp_path, text) as gate:
                async with connected(gate.port) as client:
                    for token in (ours, theirs):
                        await client.ask(call(1, name=f"x-{ours}", arguments={"a": theirs}), {"x-api-key": token})
                        path = f"/mcp/one/{backends}?key={ours}"
                        await client.ask(call(2), {"authorization": f"Bearer {token}"}, path=path)
                assert len(await asyncio.to_thread(listed, Line(tmp_path / "data"))) == 4

    run(story(), limit=50)
    written = [path for path in tmp_path.rglob("*") if path.is_file() and path.name != "moongate.yaml"]
    assert {"moongate.db", "journal-1.jsonl", "errors.log"} <= {path.name for path in written}
    for path in written:
        held = path.read_bytes()
        assert [secret for secret in (backends, ours, theirs) if secret.encode() in held] == [], path


def followed(*words: str, old: int, more: Callable[[], None]) -> list[str]:
    """What `tail` shows: `old` ones, then two that `more` makes; it ends by Ctrl-C."""
    command = [sys.executable, "-m", "moongate", "audit", "tail", "--json", "-n", str(old), "--user", "a*", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd="/") as process:
        assert process.stdout is not None
        try:
            seen = [json.loads(process.stdout.readline())["requestId"] for _ in range(old)]
            more()
            seen += [json.loads(process.stdout.readline())["requestId"] for _ in range(2)]
            process.send_signal(signal.SIGINT)
            assert process.wait(10) == 0
        finally:
            process.kill()
    return seen


def test_tail_shows_records_as_they_come(tmp_path: Path) -> None:
    """Old ones first, if wanted, then new ones that fit."""
    audit = recorded(tmp_path, 5)

    def more() -> None:
        with segment_path(tmp_path / "data" / "journal", 1).open("ab") as file:
            file.write(line(5) + line(6, principal="bob") + line(7))

    seen = followed("--data-dir", str(audit.data_dir), old=2, more=more)
    assert seen == list(map(request_id, (3, 4, 5, 7)))
