"""What the tests of hosted servers share: a gateway with one hosted instance, and clients with sessions."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from moongate.testing import Gateway, gateway
from tests.proxy.talk import Answer, Client, call, connected, initialize

SERVER = str(Path(__file__).with_name("server.py"))
REVISION = "2025-11-25"


def hosted(*, block: Mapping[str, object] | None = None, **entry: object) -> str:
    """The text of a file with one hosted instance named `one`."""
    server = {"command": sys.executable, "args": [SERVER], **entry}
    return json.dumps(
        {"gateway": {"limits": {"drainTime": "1s"}, **(block or {})}, "mcpServers": {"one": server}},
    )


@asynccontextmanager
async def hosting(*, block: Mapping[str, object] | None = None, **entry: object) -> AsyncIterator[Gateway]:
    """A gateway that hosts the test server, with its own idea of how."""
    async with gateway(hosted(block=block, **entry)) as gate:
        yield gate


class Caller:
    """One MCP client with a session, on a connection of its own."""

    def __init__(self, client: Client, headers: Mapping[str, str]) -> None:
        self.client = client
        self.headers = dict(headers)

    async def open(self, revision: str = REVISION) -> dict[str, Any]:
        """The handshake; the result of initialize."""
        answer = await self.client.ask(initialize(revision), self.headers)
        assert answer.status == 200, answer
        self.headers |= {"mcp-session-id": answer.fields["mcp-session-id"], "mcp-protocol-version": revision}
        told = await self.client.ask(b'{"jsonrpc":"2.0","method":"notifications/initialized"}', self.headers)
        assert told.status == 202
        result = answer.message["result"]
        assert isinstance(result, dict)
        return result

    async def start(self, tool: str, message_id: object = 1, token: object = None, **arguments: object) -> None:
        """Send a tool call."""
        params: dict[str, Any] = {"name": tool, "arguments": arguments}
        if token is not None:
            params["_meta"] = {"progressToken": token}
        await self.client.send(call(message_id, **params), self.headers)

    async def call(self, tool: str, message_id: object = 1, token: object = None, **arguments: object) -> Answer:
        """A tool call and its answer."""
        await self.start(tool, message_id, token, **arguments)
        return await self.client.answer()

    async def text(self, tool: str, **arguments: object) -> str:
        """The text of a tool's plain answer."""
        answer = await self.call(tool, 1, None, **arguments)
        assert answer.status == 200, answer
        return text_of(answer.message)

    async def say(self, message: Mapping[str, object]) -> Answer:
        """Post a notification or a response."""
        return await self.client.ask(json.dumps({"jsonrpc": "2.0", **message}).encode(), self.headers)

    async def who(self) -> dict[str, Any]:
        """What the server knows of itself: its process and what it heard."""
        found = json.loads(await self.text("whoami"))
        assert isinstance(found, dict)
        return found

    async def listen(self, last: str = "") -> Answer:
        """Open the GET stream; its head."""
        resumed = {"last-event-id": last} if last else {}
        await self.client.send(None, {**self.headers, **resumed}, method="GET")
        return await self.client.head()


def text_of(message: Mapping[str, Any]) -> str:
    """The text of a tool result."""
    return str(message["result"]["content"][0]["text"])


def messages(stream: bytes) -> list[dict[str, Any]]:
    """The messages in a piece of an event stream."""
    lines = [line.removeprefix(b"data: ") for line in stream.split(b"\n") if line.startswith(b"data: ")]
    return [json.loads(line) for line in lines if line]


@asynccontextmanager
async def caller(gate: Gateway, headers: Mapping[str, str] | None = None) -> AsyncIterator[Caller]:
    """A client on a connection of its own, without session yet."""
    async with connected(gate) as client:
        yield Caller(client, headers or {})


@asynccontextmanager
async def session(
    gate: Gateway, headers: Mapping[str, str] | None = None, revision: str = REVISION
) -> AsyncIterator[Caller]:
    """A client with a session."""
    async with caller(gate, headers) as opened:
        await opened.open(revision)
        yield opened


@asynccontextmanager
async def beside(other: Caller, gate: Gateway) -> AsyncIterator[Caller]:
    """A second connection of the same client."""
    async with connected(gate) as client:
        yield Caller(client, other.headers)
