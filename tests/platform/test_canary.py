"""No secret is anywhere: unique ones are configured, everything is driven, failures too, then all of it is searched."""

from __future__ import annotations

import base64
import json
import secrets
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from moongate.testing import Backend, Exchange
from tests.databases import Database, PostgreSQL
from tests.platform.stage import PASSWORD, Served, serving
from tests.platform.test_end_to_end import becomes
from tests.proxy.talk import call, connected, polite, run

LIMIT = 60.0
SERVER = str(Path(__file__).parent.parent.parent / "examples" / "server.py")
GETS = (
    *("/me", "/operators", "/operators/admin", "/api-keys", "/users", "/users/luna", "/groups", "/tokens", "/access"),
    *("/instances", "/instances/moon", "/instances/filed", "/instances/sky", "/instances/moon/revisions"),
    *("/instances/moon/client-config", "/instances/filed/client-config", "/instances/moon/state"),
    *("/instances/sky/state", "/audit/records?limit=1000", "/audit/status", "/audit/verify", "/audit/export"),
    *("/audit/export?format=csv", "/settings", "/revisions?limit=1000", "/export", "/export?secrets=masked"),
    "/openapi.json",
)


class Canary:
    """Secrets by what they are, and all answers that were seen."""

    def __init__(self) -> None:
        self.secrets: dict[str, str] = {}
        self.seen: dict[str, bytes] = {}

    def make(self, kind: str) -> str:
        """A secret nobody else has."""
        numbered = f"{kind} {len(self.secrets)}"
        self.secrets[numbered] = f"{kind.replace(' ', '-')}-{secrets.token_hex(8)}"
        return self.secrets[numbered]

    def watch(self, answer: httpx.Response) -> httpx.Response:
        """Remember an answer with its headers."""
        key = f"{answer.request.method} {answer.request.url.path} {len(self.seen)}"
        self.seen[key] = answer.content + str(answer.headers).encode()
        return answer

    def found(self, place: str, content: bytes) -> list[str]:
        """The secrets that stand there, as they are or in base64."""
        hits = []
        for kind, secret in self.secrets.items():
            plain = secret.encode()
            forms = (plain, base64.b64encode(plain), base64.b64encode(b"user:" + plain), base64.b64encode(plain)[4:-4])
            if any(form in content for form in forms):
                hits.append(f"{kind} in {place}")
        return hits


def _entry(canary: Canary, url: str) -> dict[str, Any]:
    """An entry full of secrets."""
    where = url.removeprefix("http://")
    return {
        "url": f"http://user:{canary.make('userinfo')}@{where}?api_key={canary.make('query')}",
        "type": "streamable-http",
        "headers": {"X-Custom": canary.make("header"), "API-Key": canary.make("key header")},
        "auth": "off",
    }


async def _configure(canary: Canary, api: httpx.AsyncClient, backend: Backend) -> str:
    """Instances, a user and a token, and everything that is wrong about a draft; the token."""
    body = {"name": "moon", "config": _entry(canary, backend.url), "notes": "by night"}
    assert canary.watch(await api.post("/instances", json=body)).status_code == 201
    hosted = {
        "command": sys.executable,
        "args": [SERVER, f"--token={canary.make('argument')}"],
        "env": {"MOON_SECRET": canary.make("environment")},
    }
    sky = {"name": "sky", "accessMode": "hosted", "config": hosted}
    assert canary.watch(await api.post("/instances", json=sky)).status_code == 201
    masked = canary.watch(await api.get("/instances/moon")).json()["config"]
    kept = await api.put("/instances/moon", json={"config": masked, "notes": "as it was"})
    assert canary.watch(kept).json()["config"] == masked
    canary.watch(await api.patch("/instances/sky", json={"config": {**hosted, "isolation": "shared"}}))
    odd_url = f"gopher://user:{canary.make('odd userinfo')}@host/"
    for wrong in (
        {"type": "pigeon"},
        {"timeout": 0},
        {"shoe": 1},
        {"headers": 3},
        {"url": odd_url},
    ):
        draft = {"name": "odd", "config": {**_entry(canary, backend.url), **wrong}}
        assert canary.watch(await api.post("/instances", json=draft)).status_code == 422
        assert canary.watch(await api.post("/instances/test", json=draft)).status_code == 422
        pasted = {"config": json.dumps({"mcpServers": {"odd": draft["config"]}})}
        assert canary.watch(await api.post("/instances/paste", json=pasted)).status_code == 422
    canary.watch(await api.post("/users", json={"name": "luna"}))
    token = await api.post("/tokens", json={"user": "luna"})  # the one answer that holds it
    canary.secrets["token"] = token.json()["value"]
    canary.watch(
        await api.post("/operators", json={"name": "two", "role": "auditor", "password": canary.make("password")})
    )
    canary.watch(await api.post("/operators", json={"name": "", "role": "no", "password": canary.make("bad password")}))
    key = await api.post("/api-keys", json={"name": "k", "role": "auditor"})
    canary.secrets["api key"] = key.json()["value"]
    code = await api.post("/sign-in-codes", json={"role": "auditor"})
    canary.secrets["code"] = code.json()["code"]
    canary.watch(await api.post("/sign-in", json={"code": canary.make("wrong code")}))
    canary.watch(await api.post("/sign-in", json={"name": "admin", "password": canary.make("wrong password")}))
    canary.watch(await api.post("/sign-in", content=f'{{"name": "{canary.make("torn body")}'.encode()))
    return str(token.json()["value"])


async def _drive(canary: Canary, served: Served, api: httpx.AsyncClient, token: str) -> None:
    """Calls that succeed and fail, tests of connections, explanations, and every list."""
    for name in ("moon", "sky", "filed"):
        canary.watch(await api.post(f"/instances/{name}/test"))
    for url in ("http://127.0.0.1:9/", "https://127.0.0.1:9/", "http://no-such-host.invalid/"):
        canary.watch(await api.post("/instances/test", json={"name": "odd", "config": _entry(canary, url)}))
    guess = canary.make("guessed token")
    async with connected(served.port) as client:
        for path in ("/mcp/moon", "/mcp/filed", "/mcp/nowhere", f"/mcp/moon?token={token}"):
            for value in (token, guess):
                headers = {"authorization": f"Bearer {value}", "x-api-key": value}
                answer = await client.ask(call(), headers, path=path)
                canary.seen[f"call {path} {len(canary.seen)}"] = answer.body + str(answer.lines).encode()
    for value in (token, guess):
        question = {"url": "/mcp/moon", "headers": {"authorization": f"Bearer {value}"}, "message": call().decode()}
        assert canary.watch(await api.post("/explain", json=question)).status_code == 200
    for path in GETS:
        assert (path, canary.watch(await api.get(path)).status_code) == (path, 200)
    async with httpx.AsyncClient(base_url=await served.console(), trust_env=False) as stranger:
        for path in ("/metrics", "/readyz", "/healthz", "/sign-in"):
            canary.watch(await stranger.get(path))
    canary.watch(await api.post("/import", json={"document": {"mcpServers": {"moon": {}}}}))
    canary.watch(await api.delete("/instances/sky"))


async def _echo(exchange: Exchange) -> None:
    """A backend that answers with everything it was sent, in an error status every other time."""
    if exchange.seen.method == "POST" and b"tools/call" in exchange.seen.body:
        told = json.dumps(
            {"jsonrpc": "2.0", "id": 1, "error": {"code": -32000, "message": exchange.seen.head.decode()}}
        )
        await exchange.answer(
            told.encode(), status="500 Oh No", headers={"X-Echo": str(exchange.seen.fields.get("x-custom"))}
        )
    else:
        await polite(exchange)


def _held(folder: Path) -> Mapping[str, bytes]:
    """Every file below a folder but those that hold secrets on purpose: what the operator wrote."""
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != "gate.json"}


@pytest.mark.requirement("PM-32", "PM-51", "PM-57")
def test_no_secret_is_anywhere(tmp_path: Path) -> None:
    """Not in an answer, a log, a file or a table; a secret that is shown once is in that one answer."""
    _search(tmp_path, Database(None, tmp_path / "data"))


@pytest.mark.long
@pytest.mark.requirement("PM-32", "PM-51", "PM-57")
def test_no_secret_is_anywhere_in_postgresql(tmp_path: Path, postgresql: PostgreSQL) -> None:
    """The same with a server that has a password."""
    _search(tmp_path, Database(postgresql.new_database(), tmp_path / "data", postgresql))


def _search(tmp_path: Path, database: Database) -> None:
    canary = Canary()
    filed = canary.make("reference")

    async def story() -> None:
        async with Backend(_echo) as backend:
            servers = {"filed": {"url": backend.url, "headers": {"X-Ref": "${FILED}"}}}
            document: dict[str, Any] = {"mcpServers": servers}
            if database.url is not None:
                document["store"] = {"url": "${STORE_URL}"}
            env = {"FILED": filed, "STORE_URL": database.url or ""}
            async with (
                serving(tmp_path, document, "--log-level", "debug", env=env) as served,
                served.admin() as api,
            ):
                canary.secrets["admin password"] = PASSWORD
                canary.secrets["admin key"] = api.headers["authorization"].removeprefix("Bearer ")
                token = await _configure(canary, api, backend)
                await becomes(served, 500, token)
                await _drive(canary, served, api, token)
                await served.end()
                said = "\n".join(line for line in served.said if "#code=" not in line)
            hits = canary.found("standard output", said.encode())
            for place, content in (canary.seen | dict(_held(tmp_path))).items():
                hits += canary.found(place, content)
            if database.server is not None and database.url is not None:
                hits += canary.found("the database", database.server.dump(database.url))
                canary.secrets["database password"] = database.server.password
                hits += canary.found("standard error", served.log.encode())
            assert not hits, "\n".join(hits)
            assert len(canary.secrets) > 40
            assert len(canary.seen) > 60
            assert served.log

    run(story(), LIMIT)
