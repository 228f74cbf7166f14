"""What monitoring sees: Prometheus text whose size no client decides, health, and the children of hosted servers."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import httpx
import pytest

from moongate.testing import Backend
from tests.platform.stage import Served, eventually, serving
from tests.proxy.talk import call, connected, initialize, polite, run

LIMIT = 60.0
SERVER = str(Path(__file__).parent.parent.parent / "examples" / "server.py")
LINE = re.compile(r"(moongate_[a-z_]+)(?:\{(.*)\})? (-?[0-9.e+-]+|\+Inf|NaN)")


async def scraped(served: Served) -> dict[str, float]:
    """All samples by name and labels; the text has the form that Prometheus takes."""
    async with httpx.AsyncClient(trust_env=False) as client:
        answer = await client.get(f"{await served.console()}/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    found: dict[str, float] = {}
    typed: set[str] = set()
    for line in answer.text.splitlines():
        if line.startswith("# TYPE "):
            name = line.split(" ")[2]
            assert name not in typed
            typed.add(name)
        elif not line.startswith("#"):
            match = LINE.fullmatch(line)
            assert match is not None, line
            assert re.sub(r"_(bucket|sum|count)$", "", match[1]) in typed or match[1] in typed
            key = f"{match[1]}{{{match[2] or ''}}}"
            assert key not in found
            found[key] = float(match[3])
    assert answer.text.endswith("\n")
    return found


@pytest.mark.requirement("PM-60")
def test_counters_tell_what_was_carried(tmp_path: Path) -> None:
    """Requests, classes of failures, latency, streams, connections, the journal and the ingester."""

    async def story() -> None:
        async with Backend(polite) as backend:
            servers = {
                "moon": {"url": backend.url, "type": "streamable-http"},
                "dark": {"url": "http://127.0.0.1:9/", "type": "streamable-http"},
            }
            async with serving(tmp_path, {"mcpServers": servers}) as served:
                await served.console()
                async with connected(served.port) as client, connected(served.port) as listening:
                    for number in range(30):
                        await client.ask(call(number), path="/mcp/moon")
                    for number in range(50):
                        await client.ask(call(1, f"made/up{number}"), path="/mcp/moon")
                        await client.ask(call(), path=f"/mcp/unknown{number}")
                    assert (await client.ask(call(), path="/mcp/dark")).status == 502
                    opened = await client.ask(initialize(), path="/mcp/moon")
                    session = {"mcp-session-id": opened.fields["mcp-session-id"]}
                    await listening.send(None, session, method="GET", path="/mcp/moon")
                    await listening.head()
                    found = await scraped(served)
                    assert found['moongate_requests_total{instance="moon",method="tools/call"}'] == 30
                    assert found['moongate_requests_total{instance="moon",method="other"}'] == 50
                    assert found['moongate_requests_total{instance="",method="POST"}'] == 50
                    assert found['moongate_failures_total{instance="",class="not_found"}'] == 50
                    assert found['moongate_failures_total{instance="dark",class="upstream_connect"}'] == 1
                    duration = 'moongate_request_duration_seconds_%s{instance="moon",method="tools/call"%s}'
                    assert found[duration % ("bucket", ',le="+Inf"')] == found[duration % ("count", "")] == 30
                    assert found[duration % ("sum", "")] > 0
                    assert found['moongate_streams{instance="moon"}'] == 1
                    assert found["moongate_connections{}"] == 2
                    assert found["moongate_up{}"] == found["moongate_store_up{}"] == 1
                    assert found["moongate_journal_lost_total{}"] == 0
                    written = found["moongate_journal_written_total{}"]
                    assert written >= 130

                    async def ingested() -> bool:
                        return (await scraped(served))["moongate_audit_ingested_total{}"] >= written

                    await eventually(ingested)
                    assert len(found) < 200
                    assert "made" not in str(found)
                    assert "unknown" not in str(found)

    run(story(), LIMIT)


@pytest.mark.requirement("PM-60")
def test_hosted_servers_are_seen(tmp_path: Path) -> None:
    """State, starts, exits and memory of each child: in the metrics, and at the instance."""

    async def story() -> None:
        servers = {"sky": {"command": sys.executable, "args": [SERVER], "isolation": "shared"}}
        async with serving(tmp_path, {"mcpServers": servers}) as served, served.admin() as api:
            async with connected(served.port) as client:
                assert (await client.ask(initialize(), path="/mcp/sky")).status == 200
            found = await scraped(served)
            assert found['moongate_child_processes{instance="sky",state="running"}'] == 1
            assert found['moongate_child_starts_total{instance="sky"}'] == 1
            assert found['moongate_child_exits_total{instance="sky"}'] == 0
            assert found['moongate_child_memory_bytes{instance="sky"}'] > 1_000_000
            state = (await api.get("/instances/sky/state")).json()
            assert (state["inForce"], state["sessions"], state["requests"]) == (True, 1, 1)
            (process,) = state["children"]["processes"]
            assert process["state"] == "running"
            assert process["memory"] > 1_000_000

    run(story(), LIMIT)
