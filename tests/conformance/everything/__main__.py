"""`python -m tests.conformance.everything [--port N] [--transport http|sse|stdio]`: the fixture server as a process."""

from __future__ import annotations

import argparse
import socket
from typing import Any

import anyio
import uvicorn
from mcp.server import Server
from mcp.server.sse import SseServerTransport
from mcp.server.stdio import stdio_server
from mcp.server.transport_security import TransportSecuritySettings
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route

from tests.conformance.everything.events import Events
from tests.conformance.everything.server import Everything

_HOST = "127.0.0.1"
# How long a client waits before it comes back to a stream that was closed on it, in milliseconds.
_RETRY = 500
_NAMES = ("127.0.0.1", "localhost", "[::1]")
_SECURITY = TransportSecuritySettings(
    allowed_hosts=[f"{name}:*" for name in _NAMES], allowed_origins=[f"http://{name}:*" for name in _NAMES]
)


def _sse_app(server: Server[Any]) -> Starlette:
    """The two endpoints of the transport of 2024-11-05."""
    transport = SseServerTransport("/messages/", _SECURITY)

    async def stream(request: Request) -> Response:
        async with transport.connect_sse(request.scope, request.receive, request._send) as (incoming, outgoing):
            await server.run(incoming, outgoing, server.create_initialization_options())
        return Response()

    return Starlette(routes=[Route("/sse", stream), Mount("/messages/", transport.handle_post_message)])


async def _serve_http(app: Starlette, port: int, path: str) -> None:
    listener = socket.create_server((_HOST, port))
    # h11 removes the white space around header values, as HTTP wants it; httptools leaves what stands behind them.
    config = uvicorn.Config(app, http="h11", log_level="warning", timeout_graceful_shutdown=1)
    print(f"ready http://{_HOST}:{listener.getsockname()[1]}{path}", flush=True)
    await uvicorn.Server(config).serve(sockets=[listener])


async def _serve_stdio(server: Server[Any]) -> None:
    async with stdio_server() as (incoming, outgoing):
        await server.run(incoming, outgoing, server.create_initialization_options())


async def _serve(transport: str, port: int) -> None:
    server = Everything().server()
    match transport:
        case "http":
            app = server.streamable_http_app(event_store=Events(), retry_interval=_RETRY, transport_security=_SECURITY)
            await _serve_http(app, port, "/mcp")
        case "sse":
            await _serve_http(_sse_app(server), port, "/sse")
        case _:
            await _serve_stdio(server)


def main() -> None:
    """Read the command line and serve until the process is told to stop."""
    parser = argparse.ArgumentParser(prog="python -m tests.conformance.everything", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0, the default, takes a free one")
    parser.add_argument("--transport", choices=("http", "sse", "stdio"), default="http")
    options = parser.parse_args()
    anyio.run(_serve, options.transport, options.port)


if __name__ == "__main__":
    main()
