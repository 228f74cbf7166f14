"""The stock SDK on both sides: its HTTP+SSE client, the gateway, its HTTP+SSE server."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from mcp import ClientSession
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client
from mcp.types import CreateMessageResult, TextContent

from moongate.testing import gateway
from tests.proxy.talk import config, run, until

pytestmark = pytest.mark.peers


@asynccontextmanager
async def server(transport: str) -> AsyncIterator[str]:
    """The fixture server as a process; its address."""
    argv = [sys.executable, "-m", "tests.conformance.everything", "--transport", transport]
    process = await asyncio.create_subprocess_exec(*argv, stdout=asyncio.subprocess.PIPE)
    try:
        assert process.stdout is not None
        line = await process.stdout.readline()
        yield line.split()[1].decode()
    finally:
        process.terminate()
        await process.wait()


@asynccontextmanager
async def client(url: str, transport: str) -> AsyncIterator[ClientSession]:
    """A client session, initialized."""

    async def sample(context: Any, params: Any) -> CreateMessageResult:  # noqa: ANN401, ARG001 - as the SDK calls it
        return CreateMessageResult(role="assistant", content=TextContent(type="text", text="Nice moon"), model="moon")

    streams: Any = sse_client(url) if transport == "sse" else streamable_http_client(url)
    async with (
        streams as (incoming, outgoing, *_),
        ClientSession(incoming, outgoing, sampling_callback=sample) as session,
    ):
        await session.initialize()
        yield session


@pytest.mark.requirement("PM-01", "PM-26")
@pytest.mark.parametrize("door", ["sse", "http"])
@pytest.mark.parametrize(("backend", "kind"), [("sse", "sse"), ("sse", None), ("http", None)])
def test_the_stock_client_works(backend: str, door: str, kind: str | None) -> None:
    """Tools, a call, a resource, progress and logging, by both doors, with the transport named and found."""

    async def story() -> None:
        async with server(backend) as url, gateway(config(url, type=kind)) as gate:
            address = f"{gate.url}/mcp/one" + ("/events" if door == "sse" else "")
            async with client(address, door) as session:
                names = {tool.name for tool in (await session.list_tools()).tools}
                assert "test_simple_text" in names
                called = await session.call_tool("test_simple_text", {})
                assert "text" in str(called.content[0])
                assert (await session.call_tool("test_error_handling", {})).model_dump(by_alias=True)["isError"]
                heard: list[float] = []

                async def note(progress: float, total: float | None, message: str | None) -> None:  # noqa: ARG001 - named by the SDK
                    heard.append(progress)

                await session.call_tool("test_tool_with_progress", {}, progress_callback=note)
                assert len(heard) == 3
                assert (await session.list_resources()).resources
                assert "Nice moon" in str((await session.call_tool("test_sampling", {"prompt": "?"})).content)
            doors = gate.runtime.plane.doors
            await until(lambda: doors.streams == 0 and not len(doors.tasks))

    run(story())
