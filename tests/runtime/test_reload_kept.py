"""What lives longer than a request outlives a reload that does not concern it."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable

import pytest

from moongate.testing import Exchange, gateway
from tests.proxy.sse_talk import SseServer
from tests.proxy.talk import call, connected, initialize, run
from tests.runtime.test_reload import apply


@pytest.mark.parametrize("named", [True, False])
def test_sessions_at_http_sse_servers_survive_a_reload_that_concerns_others(named: bool) -> None:
    """With the transport named or found, and with other headers for the client from then on."""

    async def story() -> None:
        server = SseServer()
        async with server.backend:
            told = {"url": server.backend.url, "type": "sse"} if named else {"url": server.backend.url}
            if not named:
                server.posted = refusing_streamable(server)
            before = {"mcpServers": {"one": told}}
            async with gateway(json.dumps(before)) as gate, connected(gate) as client:
                opened = await client.ask(initialize())
                assert opened.status == 200, opened
                headers = {"mcp-session-id": opened.fields["mcp-session-id"]}
                assert (await client.ask(call(1), headers)).status == 200
                modified = {**told, "responseHeaderModifier": {"set": {"X-Shown": "now"}}}
                more = {"mcpServers": {"one": modified, "two": {"url": "http://127.0.0.1:9/mcp"}}}
                await apply(gate, json.dumps(more))
                answer = await client.ask(call(2), headers)
                assert (answer.status, answer.fields.get("x-shown")) == (200, "now")
                assert len([seen for seen in server.backend.seen if seen.method == "GET"]) <= 2
                await apply(gate, json.dumps({"mcpServers": {"one": {**told, "headers": {"X-Other": "value"}}}}))
                assert (await client.ask(call(3), headers)).status == 404

    run(story())


def refusing_streamable(server: SseServer) -> Callable[[Exchange], Awaitable[None]]:
    """A server that takes posts at its message address only."""
    usual = server.posted

    async def posted(exchange: Exchange) -> None:
        if exchange.seen.target == "/mcp":
            await exchange.answer(b"", status="405 Method Not Allowed")
        else:
            await usual(exchange)

    return posted
