"""What the store holds comes into force, whatever one entry of it is like; and nothing else opens the gateway."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from moongate.control.published import NAME, write_published
from moongate.control.secrets import load_key
from moongate.testing import Backend
from tests.platform.stage import Served, eventually, free_port, serving
from tests.platform.test_end_to_end import becomes, made, status, token
from tests.proxy.talk import polite, run

LIMIT = 60.0
DENY = {"access": {"rules": [{"deny": True, "sources": ["127.0.0.1"]}]}}


async def _said(served: Served, text: str) -> None:
    async def so() -> bool:
        return text in served.log

    try:
        await eventually(so)
    except TimeoutError:
        raise AssertionError(served.log) from None


async def _readiness(served: Served, **wanted: bool) -> None:
    """It becomes so."""
    found: dict[str, Any] = {}

    async def so() -> bool:
        async with httpx.AsyncClient(trust_env=False) as client:
            found.update((await client.get(f"{await served.console()}/readyz")).json())
        return wanted.items() <= found.items()

    try:
        await eventually(so)
    except TimeoutError:
        raise AssertionError((found, served.log)) from None


def _publish(data_dir: Path, servers: dict[str, object], *, tokens: tuple[dict[str, str], ...] = ()) -> None:
    data_dir.mkdir(exist_ok=True)
    document = {"mcpServers": servers, "gateway": {"tokens": list(tokens)}}
    write_published(data_dir, load_key(data_dir, {}), document, tokens_in_use=True)


def test_one_unusable_entry_keeps_nothing_else_back(tmp_path: Path) -> None:
    """An instance of the store that cannot be served is left out, at a start and later; a revocation beside it holds. A
    file's keeps the gateway from starting.
    """
    (tmp_path / "no.pem").write_text("this is no certificate", "utf-8")
    bad = {"url": "https://127.0.0.1:9/mcp", "tls": {"ca": str(tmp_path / "no.pem")}, "auth": "required"}
    value = "token-" + "a" * 12
    tokens = ({"name": "tok_1", "token": value},)

    async def story() -> None:
        async with Backend(polite) as backend, serving(tmp_path, {"console": {"enabled": False}}) as served:
            moon = {"url": backend.url, "type": "streamable-http", "auth": "required"}
            _publish(served.data_dir, {"moon": moon, "bad": bad}, tokens=tokens)
            await becomes(served, 200, value)
            assert await status(served, value, "/mcp/bad") == 404
            _publish(served.data_dir, {"moon": moon, "bad": bad})
            await becomes(served, 401, value)
            assert served.log.count("left out of what the store holds: 'bad' cannot be served") == 1
            await served.end()
            async with serving(tmp_path, None, "--no-console") as again:
                assert (await status(again, value), await status(again, value, "/mcp/bad")) == (401, 404)
            async with serving(tmp_path, {"mcpServers": {"file": bad}}, "--no-console", wait=False) as refused:
                assert await refused.process.wait() == 3

    run(story(), LIMIT)


def test_a_port_only_the_store_needs_keeps_nothing_back(tmp_path: Path) -> None:
    """The port of the instances is opened with the first one of the store; if it is taken, the rest goes on."""

    async def story() -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            target = {"name": "moon", "mcp": {"host": "http://127.0.0.1:9/mcp"}}
            routes = [{"matches": [{"path": {"pathPrefix": "/moon"}}], "backends": [{"mcp": {"targets": [target]}}]}]
            binds = [{"port": free_port(), "listeners": [{"routes": routes}]}]
            port = str(taken.getsockname()[1])
            _publish(tmp_path / "data", {"sun": {"url": "http://127.0.0.1:9/mcp"}})
            document = {"binds": binds, "console": {"enabled": False}}
            async with serving(tmp_path, document, "--port", port) as served:
                assert await status(served, "", "/moon") == 401
                assert f"the instances of the store have no port: cannot listen on 127.0.0.1 port {port}" in served.log

    run(story(), LIMIT)


def test_nothing_but_the_store_itself_takes_its_word_back(tmp_path: Path) -> None:
    """A reload while the published file is missing, a value that does not open, a console that is turned off: what was
    in force stays so, the platform process lives, and /readyz says it.
    """

    async def story() -> None:
        async with Backend(polite) as backend:
            servers = {"moon": {"url": backend.url, "type": "streamable-http"}}
            async with serving(tmp_path, {"mcpServers": servers}) as served, served.admin() as api:
                _, value = await token(api)
                await becomes(served, 401)
                second = served.second()
                assert second is not None
                os.kill(second, signal.SIGSTOP)
                published = (served.data_dir / NAME).read_bytes()
                (served.data_dir / NAME).unlink()
                served.process.send_signal(signal.SIGHUP)
                await _said(served, "published is missing")
                assert (await status(served), await status(served, value)) == (401, 200)
                (served.data_dir / NAME).write_bytes(published)
                os.kill(second, signal.SIGCONT)
                await _readiness(served, ready=True)
                file = tmp_path / "gate.json"
                text = file.read_text("utf-8")
                file.write_text(json.dumps({**json.loads(text), "console": {"enabled": False}}), "utf-8")
                await _said(served, "console.enabled) needs a restart")
                await _readiness(served, ready=False, store=True, published=False)
                metrics = (await api.get(f"{await served.console()}/metrics")).text
                assert "\nmoongate_publication_in_force 0\n" in metrics
                assert (await status(served), served.second()) == (401, second)
                file.write_text(text, "utf-8")
                await _readiness(served, ready=True)
                with closing(sqlite3.connect(served.data_dir / "moongate.db", timeout=5)) as database, database:
                    database.execute("UPDATE settings SET value_sealed = x'00' WHERE name = 'access'")
                    database.execute("UPDATE counters SET value = value + 1 WHERE name = 'changes'")
                await _readiness(served, ready=False, store=True, published=False)
                assert served.second() == second

    run(story(), LIMIT)


@pytest.mark.parametrize("how", ["lost", "sealed"])
def test_a_lost_store_opens_nothing(how: str, tmp_path: Path) -> None:
    """An empty store in place of the one that was published from is not published before somebody says so. What cannot
    be opened any more is made again from the store.
    """

    async def story() -> None:
        async with Backend(polite) as backend:
            servers = {"moon": {"url": backend.url, "type": "streamable-http"}}
            document = {"mcpServers": servers}
            async with serving(tmp_path, document) as served, served.admin() as api:
                _, value = await token(api)
                await becomes(served, 401)
                assert (await api.put("/access", json=DENY)).status_code == 200
                await becomes(served, 403, value)
                await served.end()
            published = served.data_dir / NAME
            if how == "sealed":
                published.write_bytes(b"x" * 100)
                async with serving(tmp_path, document, "--no-console", wait=False) as refused:
                    assert await refused.process.wait() == 2
                async with serving(tmp_path, document) as again:
                    assert (await status(again), await status(again, value)) == (401, 403)
                return
            for path in served.data_dir.glob("moongate.db*"):
                path.unlink()
            async with serving(tmp_path, document) as empty:
                await _readiness(empty, ready=False, store=True, published=False)
                assert "the store is not the one" in empty.log
                assert (await status(empty), await status(empty, value)) == (401, 403)
                await empty.end()
            published.unlink()
            async with serving(tmp_path, document) as accepted:
                await _readiness(accepted, ready=True)
                assert await status(accepted) == 200

    run(story(), LIMIT)


def test_a_taken_admin_port_holds_nothing_up(tmp_path: Path) -> None:
    """What the store holds is published and records are brought in; the console comes when the port is free."""

    async def story() -> None:
        async with Backend(polite) as backend:
            async with serving(tmp_path, {}) as served, served.admin() as api:
                await made(api, backend)
                _, value = await token(api)
                await becomes(served, 200, value)
                await served.end()
            (served.data_dir / NAME).unlink()
            with socket.create_server(("127.0.0.1", 0)) as taken:
                console = {"console": {"port": taken.getsockname()[1]}}
                async with serving(tmp_path, console) as again:
                    assert (await status(again), await status(again, value)) == (401, 200)
                    await _said(again, f"cannot listen on 127.0.0.1 port {taken.getsockname()[1]}")
                    taken.close()
                    await _readiness(again, ready=True)

    run(story(), LIMIT)


def test_signals_are_heard_while_it_waits_for_the_store(tmp_path: Path) -> None:
    """SIGHUP changes nothing then; SIGTERM ends it well."""

    async def story() -> None:
        store = {"store": {"url": f"postgresql://nobody:{'p' * 12}@127.0.0.1:{free_port()}/none"}}
        async with serving(tmp_path, store, wait=False) as served:
            await _said(served, "waiting for what the store holds")
            served.process.send_signal(signal.SIGHUP)
            await _said(served, "trying again")
            assert served.process.returncode is None
            assert await served.end() == 0
            assert "Traceback" not in served.log
        assert "p" * 12 not in await asyncio.to_thread(served.errors.read_text, "utf-8")

    run(story(), LIMIT)
