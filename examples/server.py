"""A small MCP server on the official Python SDK, to have something behind the gateway.

It speaks over stdio, for the gateway starts it (see moongate.yaml). With `--port` it speaks streamable HTTP at `/mcp`
and prints its address as its first line; port 0 takes any free port.
"""

from __future__ import annotations

import argparse
import asyncio
import socket
from datetime import UTC, datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import uvicorn
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError

server = MCPServer(
    "moongate-example",
    instructions="Tools to try a gateway with: add, echo, time_now, countdown.",
    log_level="WARNING",
)


@server.tool()
def add(a: int, b: int) -> int:
    """Add two integers."""
    return a + b


@server.tool()
def echo(text: str) -> str:
    """Give back the text as it came."""
    return text


@server.tool()
def time_now(zone: str = "UTC") -> str:
    """Tell the time in a zone, for example UTC or Europe/Berlin."""
    try:
        return datetime.now(UTC if zone == "UTC" else ZoneInfo(zone)).isoformat(timespec="seconds")
    except (ZoneInfoNotFoundError, ValueError) as error:
        message = f"There is no time zone {zone!r} here. Write UTC, or a name such as Europe/Berlin."
        raise ToolError(message) from error


@server.tool()
async def countdown(ctx: Context, start: int = 5, pause: float = 0.5) -> str:
    """Count down from `start` with a pause (seconds) before each step, and report progress at every step."""
    for step in range(start):
        await asyncio.sleep(pause)
        await ctx.report_progress(step + 1, start, f"{start - step - 1} to go")
    return "Lift-off"


@server.resource("example://about", mime_type="text/plain")
def about() -> str:
    """Say what this server is."""
    return "A small MCP server, reached through Moongate.\n"


@server.prompt()
def haiku(topic: str = "the moon") -> str:
    """Ask for a haiku."""
    return f"Write a haiku about {topic}. Three lines of five, seven and five syllables, nothing else."


def main() -> None:
    """Serve over stdio until it is closed, or over HTTP until SIGINT or SIGTERM."""
    parser = argparse.ArgumentParser(description=server.instructions)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, help="speak streamable HTTP on this port (0: any free one), not stdio")
    options = parser.parse_args()
    if options.port is None:
        server.run("stdio")
        return
    listening = socket.create_server((options.host, options.port))
    print(f"Listening on http://{options.host}:{listening.getsockname()[1]}/mcp", flush=True)
    config = uvicorn.Config(server.streamable_http_app(host=options.host), log_level="warning")
    uvicorn.Server(config).run(sockets=[listening])


if __name__ == "__main__":
    main()
