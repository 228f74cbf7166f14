"""What the two Python servers of the peer tests share; needs uvicorn only, so that it runs on both SDKs."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable
from typing import Any

import uvicorn

PHASES = ("new", "first quarter", "full", "last quarter")

App = Callable[[Any, Any, Any], Awaitable[None]]


def serve(app: App, path: str = "/mcp") -> None:
    """Listen on a free port, print the address, serve until SIGTERM."""
    listening = socket.create_server(("127.0.0.1", 0))
    print(f"Listening on http://127.0.0.1:{listening.getsockname()[1]}{path}", flush=True)
    config = uvicorn.Config(app, log_level="critical", lifespan="on", timeout_graceful_shutdown=1)
    uvicorn.Server(config).run(sockets=[listening])
