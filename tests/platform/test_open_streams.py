"""Which streams end with their instance, their token, an access rule; and that no others do."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from moongate.tasks import Tasks
from moongate.testing import Backend, Exchange, Gateway, gateway
from tests.proxy.sse_talk import SseServer
from tests.proxy.talk import Answer, Client, call, connected, event, initialize, modern_call, polite, run, until
from tests.runtime.test_reload import apply

SERVER = str(Path(__file__).parent.parent.parent / "examples" / "server.py")
TOKENS = [{"name": name, "token": f"{name}-token-{name}", "groups": [name]} for name in ("alice", "bob")]
KEY = {"x-api-key": "alice-token-alice"}


async def script(exchange: Exchange) -> None:
    """A backend whose `subscriptions/listen` and GET streams have no end of their own."""
    if b"subscriptions/listen" in exchange.seen.body:
        await exchange.stream()
        await exchange.chunk(event(b'{"jsonrpc":"2.0","method":"notifications/x"}'))
        await exchange.gone()
    else:
        await polite(exchange)


def document(streamable: str, sse: str, **changes: Any) -> str:  # noqa: ANN401 - any JSON
    """Three instances; `changes` to all of them, or to `gateway`."""
    tokens = changes.pop("tokens", TOKENS)
    without = changes.pop("without", ())
    hosted = {"command": sys.executable, "args": [SERVER], "isolation": "shared"}
    servers: dict[str, dict[str, Any]] = {
        "http": {"url": streamable, "type": "streamable-http"},
        "old": {"url": sse, "type": "sse"},
        "local": hosted,
    }
    kept = {name: {**server, **changes} for name, server in servers.items() if name not in without}
    return json.dumps({"gateway": {"tokens": tokens, "limits": {"drainTime": "1s"}}, "mcpServers": kept})


class Streams:
    """Open streams by what they are, and whether they have ended."""

    def __init__(self) -> None:
        self.ended: set[str] = set()
        self.readers = Tasks("streams")

    async def read(self, name: str, client: Client, head: Answer) -> None:
        """To its end."""
        await client.body(head)
        self.ended.add(name)


@asynccontextmanager
async def opened() -> AsyncIterator[tuple[Gateway, Streams, tuple[str, str]]]:
    """A gateway with a stream of every kind."""
    async with AsyncExitStack() as stack:
        backend = await stack.enter_async_context(Backend(script))
        sse = SseServer()
        await stack.enter_async_context(sse.backend)
        urls = (backend.url, sse.backend.url.replace("/mcp", "/sse"))
        gate = await stack.enter_async_context(gateway(document(*urls)))
        found = Streams()
        stack.push_async_callback(found.readers.close)

        async def stream(name: str, path: str, headers: dict[str, str], body: bytes | None = None) -> None:
            client = await stack.enter_async_context(connected(gate))
            method = "GET" if body is None else "POST"
            await client.send(body, {**KEY, **headers}, method=method, path=path)
            head = await client.head()
            assert (name, head.status) == (name, 200)
            found.readers.spawn(found.read(name, client, head), name)

        async def session(path: str) -> str:
            async with connected(gate) as client:
                return (await client.ask(initialize(), KEY, path=path)).fields["mcp-session-id"]

        listening, headers = modern_call()
        listening = listening.replace(b'"tools/call"', b'"subscriptions/listen"')
        headers |= {"mcp-method": "subscriptions/listen"}
        del headers["mcp-name"]
        await stream("http get", "/mcp/http", {"mcp-session-id": await session("/mcp/http")})
        await stream("http listen", "/mcp/http", headers, listening)
        await stream("http door", "/mcp/http/sse", {})
        await stream("old pass", "/mcp/old/sse", {})
        await stream("local get", "/mcp/local", {"mcp-session-id": await session("/mcp/local")})
        await stream("local door", "/mcp/local/sse", {})
        await until(lambda: sum(gate.runtime.plane.streams.counts.values()) == 6)
        yield gate, found, urls


ALL = {"http get", "http listen", "http door", "old pass", "local get", "local door"}


@pytest.mark.requirement("PM-59")
def test_streams_end_with_their_instance() -> None:
    """Of every kind and transport, at once; those of other instances stay; a reload that changes nothing ends none."""

    async def story() -> None:
        async with opened() as (gate, streams, urls):
            await apply(gate, document(*urls, keepAlive="20s"))
            await apply(gate, document(*urls))
            assert streams.ended == set()
            gone: set[str] = set()
            for name in ("old", "local", "http"):
                gone |= {stream for stream in ALL if stream.startswith(name)}
                without = {stream.split(" ")[0] for stream in gone}
                await apply(gate, document(*urls, without=without))
                await until(lambda: streams.ended == gone, 1.0)  # noqa: B023 - waited for in the loop
            assert gate.runtime.plane.streams.counts.total() == 0

    run(story(), 30)


@pytest.mark.requirement("PM-42", "PM-59")
def test_streams_end_with_their_token() -> None:
    """Taken away, or limited to other instances; another one's token changes nothing."""

    async def story() -> None:
        async with opened() as (gate, streams, urls):
            await apply(gate, document(*urls, tokens=[TOKENS[0]]))
            assert streams.ended == set()
            await apply(gate, document(*urls, tokens=[{**TOKENS[0], "instances": ["local"]}, TOKENS[1]]))
            await until(lambda: streams.ended == {stream for stream in ALL if not stream.startswith("local")}, 1.0)
            await apply(gate, document(*urls, tokens=[TOKENS[1]]))
            await until(lambda: streams.ended == ALL, 1.0)

    run(story(), 30)


def test_streams_end_with_an_access_rule() -> None:
    """One that keeps the caller out altogether."""

    async def story() -> None:
        async with opened() as (gate, streams, urls):
            await apply(gate, document(*urls, access={"rules": [{"deny": True, "users": ["bob"]}]}))
            assert streams.ended == set()
            await apply(gate, document(*urls, access={"rules": [{"deny": True, "users": ["alice"]}]}))
            await until(lambda: streams.ended == ALL, 1.0)
            async with connected(gate) as client:
                assert (await client.ask(call(), KEY, path="/mcp/http")).status == 403

    run(story(), 30)


@asynccontextmanager
async def answering(**token: Any) -> AsyncIterator[tuple[Gateway, Client, Answer, str]]:  # noqa: ANN401 - any JSON
    """A gateway, and a call that is answered by an event stream which has no end of its own; `token` is alice's."""

    async def slow(exchange: Exchange) -> None:
        await exchange.stream()
        await exchange.chunk(event(b'{"jsonrpc":"2.0","method":"notifications/x"}'))
        await exchange.gone()

    async with Backend(slow) as backend, SseServer().backend as old:
        tokens = [{**TOKENS[0], **token}, TOKENS[1]]
        urls = (backend.url, old.url)
        async with gateway(document(*urls, tokens=tokens)) as gate, connected(gate) as client:
            await client.send(call(), KEY, path="/mcp/http")
            head = await client.head()
            assert head.status == 200
            yield gate, client, head, document(*urls, tokens=tokens[1:])


@pytest.mark.requirement("PM-59")
def test_a_call_that_is_answered_by_a_stream_ends_with_its_token() -> None:
    """With an error for the call, and a record that says why; nothing more of the backend's reaches the client."""

    async def story() -> None:
        async with answering() as (gate, client, head, without):
            await apply(gate, without)
            body = (await client.body(head)).body
            assert body.startswith(b'data: {"jsonrpc":"2.0","method":"notifications/x"}')
            assert b'"class":"denied"' in body
            [record] = map(json.loads, gate.records())
            assert (record["status"], record["failure"]) == (200, "denied")
            assert gate.runtime.plane.streams.counts.total() == 0

    run(story(), 30)


def test_streams_end_when_their_token_expires() -> None:
    """On time, without any reload; also a call that is answered by a stream."""

    async def story() -> None:
        expires = datetime.now(UTC) + timedelta(seconds=2)
        async with (
            answering(expires=expires.isoformat()) as (gate, client, head, _),
            connected(gate) as listening,
        ):
            await listening.send(None, KEY, method="GET", path="/mcp/http")
            opened = await listening.head()
            assert opened.status == 200
            assert b'"class":"denied"' in (await client.body(head)).body
            await listening.body(opened)
            assert -0.1 < (datetime.now(UTC) - expires).total_seconds() < 1.0

    run(story(), 30)
