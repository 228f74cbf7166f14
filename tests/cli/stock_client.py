"""A stock client (the official Python SDK) with the configuration that was copied: `mcpServers` JSON on standard input.

It may connect to the port that is its argument and to nothing else, as a client outside of a private network. Prints
the names of the tools and what a tool has answered.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from typing import Any

import httpx2
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client


def only(port: int) -> None:
    """Let this process connect to one port."""

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "socket.connect" and isinstance(arguments[1], tuple) and arguments[1][1] != port:
            message = f"{arguments[1]} is not reachable from here"
            raise ConnectionRefusedError(message)

    sys.addaudithook(hook)


def _filled(value: str) -> str:
    return re.sub(r"\$\{(?:env:)?(\w+)\}", lambda match: os.environ.get(match[1], match[0]), value)


async def main(entry: dict[str, Any]) -> None:
    """Connect as the entry says, list, call."""
    if "command" in entry:
        environment = {**os.environ, **entry.get("env", {})}
        transport: Any = stdio_client(
            StdioServerParameters(command=entry["command"], args=entry["args"], env=environment)
        )
    else:
        headers = {name: _filled(value) for name, value in entry.get("headers", {}).items()}
        http = httpx2.AsyncClient(headers=headers, trust_env=False, timeout=20)
        transport = streamable_http_client(entry["url"], http_client=http)
    async with asyncio.timeout(25), Client(transport) as client:
        tools = await client.list_tools()
        answer = await client.call_tool("echo", {"text": "from outside"})
    print(json.dumps({"tools": [tool.name for tool in tools.tools], "said": answer.content[0].text}))  # type: ignore[union-attr]


if __name__ == "__main__":
    only(int(sys.argv[1]))
    [found] = json.load(sys.stdin)["mcpServers"].values()
    asyncio.run(main(found))
