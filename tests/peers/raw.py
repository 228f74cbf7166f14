"""A session spoken by hand over httpx: for what no SDK client does, such as hanging up in the middle of an answer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from tests.peers.pairs import LEGACY, TOKEN

BOTH = "application/json, text/event-stream"
SECONDS = 15.0


def client() -> httpx.Client:
    """A client that knows the token and no proxy."""
    headers = {"Accept": BOTH, "Authorization": f"Bearer {TOKEN}"}
    return httpx.Client(headers=headers, timeout=SECONDS, trust_env=False)


def events(response: httpx.Response) -> Iterator[tuple[str | None, Any]]:
    """The id and the message of each event of an answer, as they come; the message of an empty event is None."""
    event_id, data = None, ""
    for line in response.iter_lines():
        if line.startswith("id:"):
            event_id = line[3:].strip()
        elif line.startswith("data:"):
            data += line[5:].strip()
        elif not line and (event_id is not None or data):
            yield event_id, json.loads(data) if data else None
            event_id, data = None, ""


class Session:
    """A legacy session at one address."""

    def __init__(self, http: httpx.Client, url: str) -> None:
        self.http = http
        self.url = url
        self.headers: dict[str, str] = {}
        params = {"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": {"name": "by-hand", "version": "1"}}
        with self.post("initialize", 0, params) as response:
            assert response.status_code == 200, response.read()
            (answer,) = (message for _, message in events(response) if message)
            assert answer["result"]["protocolVersion"] == LEGACY
            self.headers = {"Mcp-Session-Id": response.headers["mcp-session-id"], "MCP-Protocol-Version": LEGACY}
        with self.post("notifications/initialized", None, {}) as response:
            assert response.status_code == 202

    @contextmanager
    def post(self, method: str, number: int | None, params: dict[str, Any]) -> Iterator[httpx.Response]:
        """Send a request, or a notification if it has no number; the connection is closed when the block ends."""
        message: dict[str, Any] = {"jsonrpc": "2.0", "method": method, "params": params}
        if number is not None:
            message["id"] = number
        with self.http.stream("POST", self.url, headers=self.headers, json=message) as response:
            yield response

    @contextmanager
    def call(self, tool: str, number: int, **arguments: object) -> Iterator[httpx.Response]:
        """Call a tool, with the number as progress token."""
        params = {"name": tool, "arguments": arguments, "_meta": {"progressToken": number}}
        with self.post("tools/call", number, params) as response:
            yield response

    def answer(self, tool: str, number: int, **arguments: object) -> Any:  # noqa: ANN401 (any JSON)
        """The result of a tool."""
        with self.call(tool, number, **arguments) as response:
            assert response.status_code == 200, response.read()
            (result,) = (message["result"] for _, message in events(response) if message and "result" in message)
        return result

    @contextmanager
    def resume(self, event_id: str) -> Iterator[httpx.Response]:
        """Go on reading a stream behind one of its events."""
        headers = {**self.headers, "Last-Event-ID": event_id}
        with self.http.stream("GET", self.url, headers=headers) as response:
            yield response
