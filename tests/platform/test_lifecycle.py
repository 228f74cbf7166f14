"""How the two processes begin, end, and do without each other."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from moongate.companion import Companion
from moongate.platform_process import listen
from moongate.testing import Backend
from tests.databases import PostgreSQL
from tests.platform.stage import Served, eventually, processes_of, serving
from tests.platform.test_end_to_end import becomes, made, status, token
from tests.proxy.talk import call, connected, polite, result, run

LIMIT = 60.0


async def _ready(served: Served) -> int:
    async with httpx.AsyncClient(trust_env=False) as client:
        return (await client.get(f"{await served.console()}/readyz")).status_code


def _ingested(data_dir: Path) -> int:
    with closing(sqlite3.connect(data_dir / "moongate.db")) as database:
        return int(database.execute("SELECT count(*) FROM audit_records").fetchone()[0])


@pytest.mark.requirement("PM-55")
def test_a_clean_stop_leaves_every_record_in_the_store(tmp_path: Path) -> None:
    """The platform process ends after the gateway, when it has brought in what the journal holds."""

    async def story() -> None:
        async with Backend(polite) as backend:
            servers = {"moon": {"url": backend.url, "type": "streamable-http"}}
            async with serving(tmp_path, {"mcpServers": servers}) as served:
                await served.console()
                async with connected(served.port) as client:
                    for _ in range(200):
                        assert (await client.ask(call(), path="/mcp/moon")).body == result()
                assert await served.end() == 0
                assert _ingested(served.data_dir) == 200
                assert processes_of(served.data_dir) == []

    run(story(), LIMIT)


def test_the_platform_process_ends_with_a_gateway_that_is_killed(tmp_path: Path) -> None:
    """It notices by the pair, and leaves nothing behind."""

    async def story() -> None:
        async with serving(tmp_path, {}) as served:
            console = await served.console()
            assert served.second() is not None
            assert await served.end(signal.SIGKILL) == -signal.SIGKILL

            async def gone() -> bool:
                return processes_of(served.data_dir) == []

            await eventually(gone, 5.0)
            async with httpx.AsyncClient(trust_env=False) as client:
                with pytest.raises(httpx.ConnectError):
                    await client.get(f"{console}/healthz")

    run(story(), LIMIT)


def test_what_is_published_is_served_without_a_store(tmp_path: Path) -> None:
    """Instances and tokens come from the sealed file; nothing of it can be read there; a store that was never read
    keeps the gateway from starting without it.
    """

    async def story() -> None:
        async with Backend(polite) as backend:
            async with serving(tmp_path, {}) as served, served.admin() as api:
                await made(api, backend, headers={"X-Key": "backend-" + "k" * 12})
                _, value = await token(api)
                await becomes(served, 200, value)
                assert await served.end() == 0
            published = served.data_dir / "published"
            assert backend.url.encode() not in published.read_bytes()
            assert published.stat().st_mode & 0o077 == 0
            async with serving(tmp_path, None, "--no-console") as alone:
                assert (await status(alone), await status(alone, value)) == (401, 200)
                assert alone.second() is None
            published.unlink()
            async with serving(tmp_path, {}, "--no-console", wait=False) as refused:
                assert await refused.process.wait() == 3
                assert "never read" in refused.log
            async with serving(tmp_path, {}) as waited:  # it listens when it knows who may call
                assert (await status(waited), await status(waited, value)) == (401, 200)

    run(story(), LIMIT)


def test_it_can_be_turned_off(tmp_path: Path) -> None:
    """By the option and by the file: one process, no admin port, no database."""

    async def story() -> None:
        for document, options in (({"console": {"enabled": False}}, ()), ({}, ("--no-console",))):
            async with serving(tmp_path, document, *options) as served:
                assert served.second() is None
                assert not any("Console" in line for line in served.said)
                assert not (served.data_dir / "moongate.db").exists()

    run(story(), LIMIT)


def test_without_anything_it_says_how_to_begin(tmp_path: Path) -> None:
    """A bare `moongate serve`: an empty gateway with its console."""

    async def story() -> None:
        async with serving(tmp_path) as served:
            await served.code()
            said = "\n".join(served.said)
            assert "There is no server yet" in said
            assert "moongate serve -- uvx mcp-server-time" in said
            async with served.admin() as api:
                assert (await api.get("/instances")).json() == {"items": [], "next": None}

    run(story(), LIMIT)


def test_a_taken_port_is_said_and_the_next_one_is_used(tmp_path: Path) -> None:
    """The usual port moves on; one that was asked for does not, and calls go on without the console."""

    async def story() -> None:
        async with Backend(polite) as backend:
            servers = {"moon": {"url": backend.url, "type": "streamable-http"}}
            with socket.create_server(("127.0.0.1", 0)) as taken:
                port = taken.getsockname()[1]
                async with serving(tmp_path, {"console": {"port": port}, "mcpServers": servers}) as served:

                    async def said() -> bool:
                        return f"cannot listen on 127.0.0.1 port {port}" in served.log

                    await eventually(said)
                    assert await status(served) == 200

    run(story(), LIMIT)
    usual: dict[str, None] = {"host": None, "port": None}
    with listen(usual) as one, listen(usual) as other:
        assert 8001 <= one.getsockname()[1] < other.getsockname()[1] < 8100


def test_calls_go_on_while_the_database_is_away(tmp_path: Path, postgresql: PostgreSQL) -> None:
    """Gone in the middle, and gone at a start: clients notice nothing; /readyz and the API say so; it comes back."""

    async def story() -> None:
        document = {"store": {"url": postgresql.new_database()}}
        async with Backend(polite) as backend:
            async with serving(tmp_path, document) as served, served.admin() as api:
                await made(api, backend)
                _, value = await token(api)
                await becomes(served, 200, value)
                assert await _ready(served) == 200
                await asyncio.to_thread(postgresql.stop)
                try:
                    assert await status(served, value) == 200
                    answer = await api.get("/instances")
                    assert (answer.status_code, answer.json()["title"]) == (503, "Service Unavailable")
                    assert int(answer.headers["retry-after"]) > 0
                    await eventually(lambda: _is(served, 503))
                    await served.end()
                    await _without_a_store(tmp_path, document, value)
                finally:
                    postgresql.start()
            async with serving(tmp_path, document) as back:
                assert await status(back, value) == 200
                await back.console()
                await eventually(lambda: _is(back, 200))

    run(story(), LIMIT)


async def _is(served: Served, wanted: int) -> bool:
    return await _ready(served) == wanted


async def _without_a_store(folder: Path, document: Mapping[str, object], value: str) -> None:
    async with serving(folder, document) as served:
        assert (await status(served), await status(served, value)) == (401, 200)
        assert await _ready(served) == 503
        password = str(json.dumps(document)).partition("moongate:")[2].partition("@")[0]
        assert password not in served.log
        assert "trying again" in served.log


def test_tokens_for_instances_of_files_come_and_go_with_them(tmp_path: Path) -> None:
    """A token that is only for an instance of a file is of use while that stands there."""

    async def story() -> None:
        async with Backend(polite) as backend:
            servers = {name: {"url": backend.url, "type": "streamable-http"} for name in ("moon", "sun")}
            async with serving(tmp_path, {"mcpServers": servers}) as served, served.admin() as api:
                _, value = await token(api, instances=["moon"])
                file = tmp_path / "gate.json"
                document = json.loads(await asyncio.to_thread(file.read_text, "utf-8"))
                for names, wanted in ((["moon"], 200), (["sun"], 404), (["moon", "sun"], 200)):
                    document["mcpServers"] = {name: servers[name] for name in names}
                    await asyncio.to_thread(file.write_text, json.dumps(document), "utf-8")
                    await becomes(served, wanted, value)
                await served.end()
            (served.data_dir / "published").unlink()
            async with serving(tmp_path, {"mcpServers": servers}) as again:
                assert await status(again, value) == 200

    run(story(), LIMIT)


def test_how_a_platform_process_ended_is_said(caplog: pytest.LogCaptureFixture) -> None:
    """With its exit code, though it closes the pair before it ends; one that did not understand its settings here."""

    async def answer(_question: str, _about: dict[str, object]) -> dict[str, object]:
        return {}

    async def story() -> None:
        companion = Companion({}, answer, lambda _: None)
        companion.start()

        async def said() -> bool:
            return "has ended with exit code 1" in caplog.text

        await eventually(said)
        await companion.stop()

    run(story(), LIMIT)
