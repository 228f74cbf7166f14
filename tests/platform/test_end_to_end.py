"""From nothing to a call through an instance that was made over the API, and away again."""

from __future__ import annotations

import asyncio
import datetime as dt
import os
import signal
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from moongate.testing import Backend
from tests import patience
from tests.databases import PostgreSQL
from tests.platform.stage import Served, eventually, serving
from tests.proxy.talk import call, connected, initialize, polite, result, run

LIMIT = 60.0


async def made(api: httpx.AsyncClient, backend: Backend, **more: Any) -> dict[str, Any]:  # noqa: ANN401 - any JSON
    """An instance `moon` in front of a backend."""
    config = {"url": backend.url, "type": "streamable-http", **more}
    answer = await api.post("/instances", json={"name": "moon", "config": config})
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


async def token(api: httpx.AsyncClient, **more: Any) -> tuple[str, str]:  # noqa: ANN401 - any JSON
    """The id and the value of a token of the user `luna`."""
    await api.post("/users", json={"name": "luna", "groups": ["readers"]})
    answer = await api.post("/tokens", json={"user": "luna", **more})
    assert answer.status_code == 201, answer.text
    return answer.json()["token"]["id"], answer.json()["value"]


async def status(served: Served, value: str = "", path: str = "/mcp/moon") -> int:
    """What a call is answered with."""
    async with connected(served.port) as client:
        headers = {"authorization": f"Bearer {value}"} if value else {}
        return (await client.ask(call(), headers, path=path)).status


async def becomes(served: Served, wanted: int, value: str = "") -> float:
    """How long it takes until calls are answered so."""
    began = time.monotonic()

    async def so() -> bool:
        return await status(served, value) == wanted

    await eventually(so)
    return time.monotonic() - began


@pytest.mark.requirement("PM-21", "PM-42", "PM-59")
def test_the_whole_way(tmp_path: Path) -> None:
    """Sign in by the printed link, make an instance and a token, call; what is taken away is refused within a second,
    and open streams end.
    """

    async def story() -> None:
        async with Backend(polite) as backend, serving(tmp_path, {}) as served, served.admin() as api:
            instance = await made(api, backend)
            base = f"http://127.0.0.1:{served.port}/mcp/moon"
            doors = {"base": base, "streamableHttp": f"{base}/v1/stream", "sse": f"{base}/events"}
            assert instance["addresses"] == doors
            assert await becomes(served, 401) < patience.second()
            id_, value = await token(api, instances=["moon"])
            assert await becomes(served, 200, value) < patience.second()
            async with connected(served.port) as client:
                key = {"authorization": f"Bearer {value}"}
                opened = await client.ask(initialize(), key, path="/mcp/moon")
                session = {**key, "mcp-session-id": opened.fields["mcp-session-id"]}
                await client.send(None, session, method="GET", path="/mcp/moon")
                stream = await client.head()
                assert (stream.status, stream.fields["content-type"]) == (200, "text/event-stream")
                answer = await api.patch(f"/tokens/{id_}", json={"enabled": False})
                assert answer.status_code == 200
                assert await becomes(served, 401, value) < patience.second()
                async with asyncio.timeout(1.0):
                    await client.body(stream)  # its token is good for nothing any more
            await tokens_end(served, api)
            assert (await api.patch(f"/tokens/{id_}", json={"enabled": True})).status_code == 200
            await becomes(served, 200, value)
            await streams_end_with(served, api, value)
            assert await served.end() == 0

    run(story(), LIMIT)


async def tokens_end(served: Served, api: httpx.AsyncClient) -> None:
    """One that is deleted, one that expires."""
    id_, value = await token(api)
    await becomes(served, 200, value)
    assert (await api.delete(f"/tokens/{id_}")).status_code == 204
    assert await becomes(served, 401, value) < patience.second()
    expires = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=2)
    _, value = await token(api, expires=expires.isoformat())
    await becomes(served, 200, value)
    await becomes(served, 401, value)
    assert dt.datetime.now(dt.UTC) - expires < dt.timedelta(seconds=1)


async def streams_end_with(served: Served, api: httpx.AsyncClient, value: str) -> None:
    """Disable, enable, delete: calls are refused, and the stream is closed."""
    key = {"authorization": f"Bearer {value}"}
    for take_away in ("disable", "delete"):
        async with connected(served.port) as client:
            await client.send(None, key, method="GET", path="/mcp/moon")
            stream = await client.head()
            if take_away == "disable":
                await api.patch("/instances/moon", json={"enabled": False})
            else:
                await api.delete("/instances/moon")
            assert await becomes(served, 404, value) < patience.second()
            async with asyncio.timeout(1.0):
                await client.body(stream)
        if take_away == "disable":
            await api.patch("/instances/moon", json={"enabled": True})
            await becomes(served, 200, value)


@pytest.mark.long
def test_two_gateways_share_a_store(tmp_path: Path, postgresql: PostgreSQL) -> None:
    """What is made at one is in force at the other within a second, and taken away there, too."""

    async def story() -> None:
        document = {"store": {"url": postgresql.new_database()}}
        key = {"MOONGATE_KEY": "5a" * 32}
        first, second = tmp_path / "first", tmp_path / "second"
        for folder in (first, second):
            await asyncio.to_thread(folder.mkdir)
        async with (
            Backend(polite) as backend,
            serving(first, document, env=key) as one,
            one.admin() as api,
            serving(second, document, env=key) as other,
        ):
            await other.console()
            await made(api, backend)
            id_, value = await token(api)
            assert await becomes(other, 200, value) < 1.5
            assert await becomes(one, 200, value) < 1.5
            await api.patch(f"/tokens/{id_}", json={"enabled": False})
            assert await becomes(other, 401, value) < patience.second()
            await api.delete("/instances/moon")
            assert await becomes(other, 404, value) < patience.second()

    run(story(), LIMIT)


def test_a_platform_process_that_is_killed_comes_back(tmp_path: Path) -> None:
    """Calls go on without it; it listens at the same place again, and knows everything."""

    async def story() -> None:
        async with Backend(polite) as backend, serving(tmp_path, {}) as served, served.admin() as api:
            await made(api, backend, auth="off")
            await becomes(served, 200)
            first = served.second()
            assert first is not None
            async with connected(served.port) as client:
                for _ in range(3):
                    assert (await client.ask(call(), path="/mcp/moon")).body == result()
                killed = served.second()
                assert killed is not None
                os.kill(killed, signal.SIGKILL)
                for _ in range(50):
                    assert (await client.ask(call(), path="/mcp/moon")).body == result()

            async def back() -> bool:
                try:
                    return (await api.get("/instances/moon")).status_code == 200
                except httpx.TransportError:
                    return False

            await eventually(back, 15.0)
            assert served.second() not in {first, None}
            assert "calls go on" in served.log

    run(story(), LIMIT)
