"""The connection test: every step against real servers, every failure in its class, no secret in what is said."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import ssl
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme
import uvloop

from moongate.errors import ConfigError
from moongate.probing import probe_config
from moongate.testing import Backend, Exchange
from tests.peers import programs

SECRET = "hush-hush-" + "q7" * 8
MODERN = "2026-07-28"
PEER = [sys.executable, "-m", "tests.peers.server_sdk2"]


@pytest.fixture(scope="module")
def peers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A server on the official SDK, over each transport."""
    commands = {"http": PEER, "sse": [*PEER, "--sse"]}
    with programs.running(commands, tmp_path_factory.mktemp("peers")) as addresses:
        yield addresses


def run(work: Coroutine[Any, Any, dict[str, Any]]) -> dict[str, Any]:
    """The result of a test, within a limit."""

    async def bounded() -> dict[str, Any]:
        async with asyncio.timeout(30):
            return await work

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(bounded())


def tried(config: dict[str, Any], seconds: float = 20.0) -> dict[str, Any]:
    """Test one entry."""
    return run(probe_config(config, os.environ, seconds))


def names(found: dict[str, Any]) -> list[tuple[str, str]]:
    """The steps and how they ended."""
    return [(step["name"], step["outcome"]) for step in found["steps"]]


def scripted(
    script: Callable[[Exchange], Coroutine[Any, Any, None]], seconds: float = 20.0, **more: object
) -> dict[str, Any]:
    """Test a server that answers what the script says."""

    async def story() -> dict[str, Any]:
        async with Backend(script) as backend:
            return await probe_config({"url": backend.url, **more}, os.environ, seconds)

    return run(story())


@pytest.mark.parametrize(
    ("address", "kind", "transport"),
    [
        ("http", None, "streamable-http"),
        ("http", "streamable-http", "streamable-http"),
        ("sse", None, "sse"),
        ("sse", "sse", "sse"),
    ],
)
def test_a_server_with_an_address(peers: dict[str, str], address: str, kind: str | None, transport: str) -> None:
    """Over both transports, named or found out: every step, what it is, what it can do."""
    config = {"url": peers[address]} | ({"type": kind} if kind else {})

    found = tried(config)

    assert names(found) == [
        ("resolve", "ok"),
        ("connect", "ok"),
        ("tls", "skipped"),
        ("initialize", "ok"),
        ("tools/list", "ok"),
        ("close", "ok"),
    ], found
    assert (found["fine"], found["transport"], found["revision"]) == (True, transport, "2025-11-25")
    assert found["server"] == {"name": "peer-sdk2", "version": "1.0.0"}
    assert found["tools"]["count"] == 16
    assert "echo" in found["tools"]["names"]
    assert all(step["milliseconds"] >= 0 for step in found["steps"])


def test_a_hosted_server_is_started_and_ended(tmp_path: Path) -> None:
    """Nothing of it is left."""
    script = tmp_path / "server.py"
    pid = tmp_path / "pid"
    text = f"import os, runpy, sys\nopen({str(pid)!r}, 'w').write(str(os.getpid()))\n"
    text += f"sys.path.insert(0, {str(programs.ROOT)!r})\nsys.argv.append('--stdio')\n"
    script.write_text(text + "runpy.run_module('tests.peers.server_sdk2', run_name='__main__')\n", "utf-8")

    found = tried({"command": sys.executable, "args": [str(script)]})

    assert (found["fine"], found["transport"], found["tools"]["count"]) == (True, "stdio", 16), found
    assert not Path(f"/proc/{pid.read_text('utf-8')}").exists()


def test_a_server_without_sessions_is_discovered() -> None:
    """One that only knows the stateless revision refuses initialize, and is asked what it is."""

    async def modern(exchange: Exchange) -> None:
        asked = json.loads(exchange.seen.body)
        if asked["method"] == "initialize":
            error = {"code": -32022, "message": "no", "data": {"supported": [MODERN]}}
            body = {"jsonrpc": "2.0", "id": asked["id"], "error": error}
            await exchange.answer(json.dumps(body).encode(), status="400 Bad Request")
            return
        assert exchange.seen.fields["mcp-protocol-version"] == MODERN
        info = {"io.modelcontextprotocol/serverInfo": {"name": "new", "version": "3"}}
        result: dict[str, Any] = {"resultType": "complete", "ttlMs": 0, "cacheScope": "private"}
        if asked["method"] == "server/discover":
            result |= {"supportedVersions": [MODERN], "capabilities": {"tools": {}}, "_meta": info}
        else:
            result |= {"tools": [{"name": "only", "inputSchema": {"type": "object"}}]}
        await exchange.answer(json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": result}).encode())

    found = scripted(modern)

    assert ("server/discover", "ok") in names(found), found
    assert (found["fine"], found["revision"], found["tools"]["names"]) == (True, MODERN, ["only"])
    assert found["server"] == {"name": "new", "version": "3"}


@contextmanager
def _closed_port() -> Iterator[int]:
    """A port that nobody listens on, and nobody else can take."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


def test_nobody_listens() -> None:
    """The step, the class, the words, and what to do."""
    with _closed_port() as port:
        found = tried({"url": f"http://127.0.0.1:{port}/mcp"})

    assert names(found) == [("resolve", "ok"), ("connect", "failed")]
    assert (found["fine"], found["failure"]) == (False, "upstream_connect")
    assert "refused" in found["detail"]
    assert found["meaning"].startswith("No connection")
    assert found["advice"]


def test_a_name_that_does_not_resolve() -> None:
    """DNS has a class of its own."""
    found = tried({"url": "http://no-such-name.invalid/mcp"})

    assert names(found) == [("resolve", "failed")]
    assert found["failure"] == "upstream_dns"


def test_a_certificate_that_is_not_trusted(tmp_path: Path) -> None:
    """Fails in the TLS step; with the authority under tls.ca that step is fine."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = served_by(authority)

    async def story(config: dict[str, Any]) -> dict[str, Any]:
        async def closing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(1)
            writer.transport.abort()

        server = await asyncio.start_server(closing, "127.0.0.1", 0, ssl=context)
        port = server.sockets[0].getsockname()[1]
        async with server:
            return await probe_config({"url": f"https://localhost:{port}/mcp", **config}, os.environ, 10)

    stranger = run(story({}))
    known = run(story({"tls": {"ca": str(tmp_path / "ca.pem")}}))

    assert names(stranger)[-1] == ("tls", "failed")
    assert stranger["failure"] == "upstream_tls"
    assert "does not verify" in stranger["detail"]
    assert ("tls", "ok") in names(known)
    assert "valid until" in next(step["text"] for step in known["steps"] if step["name"] == "tls")
    assert known["failure"] == "upstream_reset"


def served_by(authority: trustme.CA) -> ssl.SSLContext:
    """A server's side of TLS for localhost."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    return context


def test_a_server_that_says_nothing_is_given_up() -> None:
    """Within the limit of the test, whatever the entry's own limits are."""

    async def silent(exchange: Exchange) -> None:
        await exchange.gone()

    found = scripted(silent, 1.0)

    assert (found["failure"], names(found)[-2]) == ("upstream_timeout", ("initialize", "failed"))
    assert found["milliseconds"] < 5000


@pytest.mark.parametrize(
    ("status", "body", "failure"),
    [
        ("401 Unauthorized", b"{}", "upstream_http"),
        ("500 Oh", b"oh", "upstream_http"),
        ("200 OK", b"<html>", "upstream_protocol"),
        ("200 OK", b'{"jsonrpc":"2.0","id":1,"error":{"code":-32603,"message":"never"}}', "jsonrpc_error"),
        ("200 OK", b'{"jsonrpc":"2.0","id":1,"result":7}', "upstream_protocol"),
    ],
)
def test_wrong_answers_have_their_class(status: str, body: bytes, failure: str) -> None:
    """What the server says wrong fails the step that met it."""

    async def wrong(exchange: Exchange) -> None:
        await exchange.answer(body, status=status)

    found = scripted(wrong, type="streamable-http")

    assert (found["fine"], found["failure"]) == (False, failure), found


@pytest.mark.parametrize(
    ("arguments", "word"), [(["-c", "import sys; sys.exit('no such key')"], "no such key"), (["-c", "pass"], "code 0")]
)
def test_a_command_that_ends_at_once(arguments: list[str], word: str) -> None:
    """Its last words are in the detail."""
    found = tried({"command": sys.executable, "args": arguments})

    assert found["failure"] == "process_start"
    assert word in found["detail"]


def test_no_secret_is_said() -> None:
    """Also when the server repeats it in its name, its tools and its errors; nothing it says can drive a terminal."""

    async def parrot(exchange: Exchange) -> None:
        asked = json.loads(exchange.seen.body)
        heard = exchange.seen.fields.get("x-key", "")
        if "id" not in asked:
            await exchange.answer(b"", status="202 Accepted")
        elif asked["method"] == "initialize":
            info = {"name": f"{heard}\u001b[31m", "version": "1"}
            result = {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": info}
            await exchange.answer(json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": result}).encode())
        else:
            error = {"code": -1, "message": f"not with {heard}"}
            await exchange.answer(json.dumps({"jsonrpc": "2.0", "id": asked["id"], "error": error}).encode())

    found = scripted(parrot, headers={"X-Key": SECRET}, type="streamable-http")

    assert found["failure"] == "jsonrpc_error"
    assert "[secret " in found["detail"]
    assert SECRET not in json.dumps(found)
    assert "\\u001b" not in json.dumps(found)


def test_a_proxy_is_used_and_named() -> None:
    """As the gateway would: the steps say that they are about the proxy."""

    async def proxy(exchange: Exchange) -> None:
        assert exchange.seen.target == "http://nowhere.invalid/mcp"
        asked = json.loads(exchange.seen.body)
        result = {"protocolVersion": "2025-11-25", "capabilities": {}, "serverInfo": {"name": "far", "version": "1"}}
        if "id" not in asked:
            await exchange.answer(b"", status="202 Accepted")
        else:
            await exchange.answer(json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": result}).encode())

    async def story() -> dict[str, Any]:
        async with Backend(proxy) as backend:
            environ = {"http_proxy": f"http://127.0.0.1:{backend.port}"}
            return await probe_config({"url": "http://nowhere.invalid/mcp", "type": "streamable-http"}, environ, 10)

    found = run(story())

    assert found["fine"], found
    assert found["tools"] is None
    assert found["steps"][1]["text"].startswith("of the proxy: 127.0.0.1 port ")
    assert ("tools/list", "skipped") in names(found)


def test_a_draft_that_makes_no_sense_is_refused() -> None:
    """By the judge of all configurations, before anything is tried."""
    with pytest.raises(ConfigError, match="url"):
        tried({"url": "ftp://x"})
