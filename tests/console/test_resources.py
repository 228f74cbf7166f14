"""What the API does with instances, tokens and records, from outside."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from moongate.testing import Backend
from tests.console.conftest import Api
from tests.proxy.talk import call, connected, polite, run


def within(seconds: float, holds: Callable[[], bool]) -> None:
    """Ask until it is so."""
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until


@pytest.mark.requirement("PM-06")
def test_pasted_json_becomes_instances(api: Api) -> None:
    """As text or object, with or without the outer key; all of it, or every complaint and nothing."""
    entries = {
        "paste-a": {"url": "http://127.0.0.1:9/sse", "type": "sse", "headers": {"Authorization": "Bearer " + "p" * 12}},
        "paste-b": {"url": "http://127.0.0.1:9/mcp", "transport": "streamable-http", "timeout": 5000},
    }
    with api.client("admin") as client:
        bad = {"mcpServers": {**entries, "paste-c": {"url": "ftp://x"}, "paste-d": {"type": "sse"}}}
        refused = client.post("/api/v1/instances/paste", json={"config": bad})
        assert refused.status_code == 422
        assert {error["where"].split(":")[0] for error in refused.json()["errors"]} == {
            "instance paste-c",
            "instance paste-d",
        }
        assert client.get("/api/v1/instances?q=paste").json()["items"] == []
        for pasted in ({"mcpServers": entries}, json.dumps({"mcpServers": entries}), entries):
            made = client.post("/api/v1/instances/paste", json={"config": pasted})
            assert made.status_code == 201, made.text
            assert [item["name"] for item in made.json()["items"]] == ["paste-a", "paste-b"]
            for item in made.json()["items"]:
                client.delete(f"/api/v1/instances/{item['name']}")


def test_lists_are_paged_and_filtered(api: Api) -> None:
    """By the cursor of the page before; filters are combined."""
    with api.client("operator") as client:
        for number in range(5):
            body = {"name": f"page-{number}", "tags": ["odd" if number % 2 else "even"], "config": {"url": "http://h/"}}
            assert client.post("/api/v1/instances", json=body).status_code == 201
        seen: list[str] = []
        cursor: str | None = ""
        while cursor is not None:
            page = client.get(f"/api/v1/instances?q=page-&limit=2{cursor}").json()
            seen += [item["name"] for item in page["items"]]
            cursor = None if page["next"] is None else f"&cursor={page['next']}"
        assert seen == [f"page-{number}" for number in range(5)]
        odd = client.get("/api/v1/instances?q=page-&tag=odd&accessMode=proxy&source=store&enabled=true").json()
        assert [item["name"] for item in odd["items"]] == ["page-1", "page-3"]
        filed = client.get("/api/v1/instances?source=file").json()["items"]
        assert [(item["name"], item["source"]) for item in filed] == [("filed", "file")]
        assert filed[0]["where"].endswith("gate.json:1")
        for number in range(5):
            client.delete(f"/api/v1/instances/page-{number}")


def test_two_who_change_the_same_notice(api: Api) -> None:
    """The second one's If-Match is stale: 412, and nothing is lost."""
    with api.client("operator") as client:
        client.post("/api/v1/users", json={"name": "shared"})
        tag = client.get("/api/v1/users/shared").headers["etag"]
        first = client.patch("/api/v1/users/shared", json={"notes": "first"}, headers={"if-match": tag})
        second = client.patch("/api/v1/users/shared", json={"notes": "second"}, headers={"if-match": tag})
        assert (first.status_code, second.status_code) == (200, 412)
        assert client.get("/api/v1/users/shared").json()["notes"] == "first"
        client.delete("/api/v1/users/shared")


@pytest.mark.requirement("PM-21")
def test_snippets_hold_the_address(api: Api) -> None:
    """For each client, and all at once."""
    base = f"http://127.0.0.1:{api.port}/mcp/filed"
    with api.client("auditor") as client:
        assert client.get("/api/v1/instances/filed").json()["addresses"]["base"] == base
        every = client.get("/api/v1/instances/filed/client-config").json()["items"]
        assert len(every) == 6
        for snippet in every:
            one = client.get(f"/api/v1/instances/filed/client-config?client={snippet['client']}").json()
            assert one == snippet
            assert base in one["text"]
        assert client.get("/api/v1/instances/filed/client-config?client=abacus").status_code == 422


def test_a_connection_test_says_what_failed(api: Api) -> None:
    """In words and by class, for drafts and for what is saved."""
    with api.client("operator") as client:
        draft = {"name": "dark", "config": {"url": "http://127.0.0.1:9/mcp", "type": "streamable-http"}}
        for answer in (
            client.post("/api/v1/instances/test", json=draft),
            client.post("/api/v1/instances/filed/test"),
        ):
            assert answer.status_code == 200
            found = answer.json()
            assert (found["fine"], found["failure"]) == (False, "upstream_connect")
            assert found["meaning"]
            assert [step["outcome"] for step in found["steps"]].count("failed") == 1

    async def story() -> None:
        async with Backend(polite) as backend:
            draft = {"name": "light", "config": {"url": backend.url, "type": "streamable-http"}}
            found = await asyncio.to_thread(_tested, api, draft)
            assert [step["outcome"] for step in found["steps"]][:2] == ["ok", "ok"]

    run(story(), 30)


def _tested(api: Api, draft: dict[str, Any]) -> dict[str, Any]:
    with api.client("operator") as client:
        return dict(client.post("/api/v1/instances/test", json=draft).json())


def test_records_are_found_followed_and_exported(api: Api) -> None:
    """A call is found at once, by its filters, in the tail, in JSON lines and CSV."""

    async def calls() -> list[str]:
        async with connected(api.port) as client:
            answers = [await client.ask(call(), path=path) for path in ("/mcp/filed", "/mcp/nowhere")]
            return [answer.fields["x-request-id"] for answer in answers]

    with (
        api.client("auditor") as client,
        client.stream("GET", "/api/v1/audit/tail?outcome=upstream_connect") as tail,
    ):
        assert tail.headers["content-type"].startswith("text/event-stream")
        lines = tail.iter_lines()
        assert next(lines).startswith(":")
        with asyncio.Runner() as runner:
            failed, unknown = runner.run(calls())
        with api.client("auditor") as other:
            found = other.get(f"/api/v1/audit/records?requestId={failed}").json()["items"]
            assert [record["failure"] for record in found] == ["upstream_connect"]
            assert other.get(f"/api/v1/audit/records/{unknown}").json()["items"][0]["failure"] == "not_found"
            (told,) = other.get(f"/api/v1/audit/records/{failed}").json()["items"]
            assert told["meaning"]
            assert told["advice"]
            assert other.get("/api/v1/audit/records/" + "0" * 20).status_code == 404
            refused = other.get("/api/v1/audit/records?outcome=refused&path=/mcp/now*").json()["items"]
            assert unknown in [record["requestId"] for record in refused]
            assert other.get("/api/v1/audit/records?until=2020-01-01").json()["items"] == []
            exported = other.get("/api/v1/audit/export?instance=filed&outcome=failed")
            assert failed in [json.loads(line)["requestId"] for line in exported.text.splitlines()]
            table = csv.DictReader(io.StringIO(other.get("/api/v1/audit/export?format=csv").text))
            assert failed in [row["requestId"] for row in table]
            assert other.get("/api/v1/audit/verify").json()["ok"] is True
            assert other.get("/api/v1/audit/status").json()["records"] >= 2
        data = next(line for line in lines if line.startswith("data: "))
        assert json.loads(data.removeprefix("data: "))["requestId"] == failed


def test_a_request_is_explained(api: Api) -> None:
    """By the gateway that runs, without being sent; what cannot be asked says why."""
    with api.client("auditor") as client:
        question = {"url": "/mcp/filed", "message": call().decode()}
        found = client.post("/api/v1/explain", json=question).json()
        assert (found["fine"], found["outcome"], found["route"]) == (True, "forwarded", "filed")
        unknown = client.post("/api/v1/explain", json={"url": "/mcp/nowhere"}).json()
        assert (unknown["fine"], unknown["failure"]) == (False, "not_found")
        odd = client.post("/api/v1/explain", json={"url": "http://[", "method": "GET"})
        assert odd.status_code == 422


def test_what_is_exported_can_be_imported(api: Api) -> None:
    """References stand where secrets were; the names of the variables are told."""
    with api.client("admin") as client:
        config = {"url": "http://127.0.0.1:9/mcp", "headers": {"X-Key": "q" * 16}, "auth": "off"}
        client.post("/api/v1/instances", json={"name": "carried", "config": config})
        exported = client.get("/api/v1/export").json()
        assert "q" * 16 not in json.dumps(exported)
        entry = exported["document"]["mcpServers"]["carried"]
        assert entry["headers"]["X-Key"] == "${" + exported["variables"][0] + "}"
        client.delete("/api/v1/instances/carried")
        entry["headers"]["X-Key"] = "r" * 16
        made = client.post("/api/v1/import", json={"document": {"mcpServers": {"carried": entry}}})
        assert [item["name"] for item in made.json()["items"]] == ["carried"]
        client.delete("/api/v1/instances/carried")


@pytest.mark.requirement("PM-61")
def test_an_unknown_instance_tells_nothing(api: Api) -> None:
    """Unknown, disabled and misspelt: the same 404, without a name in it."""

    async def answers() -> set[tuple[int, bytes]]:
        async with connected(api.port) as client:
            found = [await client.ask(call(), path=f"/mcp/{name}") for name in ("hidden", "hiden", "hidden2", "filed2")]
            return {(one.status, one.body.replace(one.fields["x-request-id"].encode(), b"")) for one in found}

    with api.client("operator") as client:
        body = {"name": "hidden", "enabled": False, "config": {"url": "http://127.0.0.1:9/"}}
        assert client.post("/api/v1/instances", json=body).status_code == 201
    with asyncio.Runner() as runner:
        ((status, text),) = runner.run(answers())
    assert status == 404
    assert b"hid" not in text
    assert b"filed" not in text


@pytest.mark.requirement("PM-60")
def test_from_elsewhere_metrics_need_a_role(api: Api) -> None:
    """Also when a proxy on this machine asks for somebody else; health says nothing but that it is there."""
    proxied = {"x-forwarded-for": "203.0.113.9"}
    with api.client(**proxied) as stranger, api.client("auditor", **proxied) as auditor, api.client() as local:
        assert stranger.get("/metrics").status_code == 401
        assert auditor.get("/metrics").status_code == 200
        assert local.get("/metrics").status_code == 200
        assert stranger.get("/healthz").json() == {"status": "ok"}
        assert stranger.get("/readyz").json() == {"ready": True, "gateway": True, "store": True, "published": True}


def test_nothing_of_it_is_cached_or_named_by_others(api: Api) -> None:
    """An API key in the address is not one."""
    with api.client() as client:
        assert client.get(f"/api/v1/me?key={api.keys['admin']}").status_code == 401
        assert client.get("/api/v1/me", headers={"x-api-key": api.keys["admin"]}).status_code == 401
        basic = httpx.BasicAuth("admin", api.keys["admin"])
        assert client.get("/api/v1/me", auth=basic).status_code == 401
