"""What the two Python client scripts share; the standard library only, so that it runs beside both SDKs.

A script reads `{"targets": [target, ...], "plans": [[step, ...], ...], "together": bool}` from standard input, talks to
one target after the other or to all at once, and prints one list: for each target
`{"connected": ..., "steps": {name: observation}, "http": {...}, "ended": status}`. A target is
`{"transport": "streamable-http" | "sse", "url", "headers"}` or `{"transport": "stdio", "command", "headers": {}}`. A
conversation that ends before its last step is `{"failed": why}`.
An observation is `{"result": ...}` or `{"error": {"code", "message"}}`, with `events` when the step watches any.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
import traceback
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

STREAMABLE_HTTP = "streamable-http"
STEP_SECONDS = 10.0
LONG_TEXT = 1000
ELICITED = {"name": "Ünal 月"}
ROOTS = [("file:///moon/base", "base"), ("file:///m%C3%A5ne", "måne")]
SAMPLED = "a grey stone 🌑"


def shrink(value: object) -> object:
    """The same value with long texts replaced by their length and digest."""
    if isinstance(value, str) and len(value) > LONG_TEXT:
        return {"length": len(value), "sha256": hashlib.sha256(value.encode()).hexdigest()}
    if isinstance(value, Mapping):
        return {key: shrink(item) for key, item in value.items()}
    return [shrink(item) for item in value] if isinstance(value, list) else value


def raw_request(method: str, session: str | None, version: str) -> dict[str, Any]:
    """Arguments, for httpx of either generation, of a request that no SDK makes for us."""
    headers = {"MCP-Protocol-Version": version, "Accept": "application/json, text/event-stream"}
    if session is not None:
        headers["Mcp-Session-Id"] = session
    body = {"jsonrpc": "2.0", "id": 4711, "method": "tools/list"} if method == "POST" else None
    return {"method": method, "headers": headers, "json": body}


class Events:
    """What the server sent besides answers, in order of arrival."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, Any]] = []
        self._news = asyncio.Event()

    def add(self, kind: str, params: object) -> None:
        """Note a notification or a request of the server."""
        if isinstance(params, dict):
            params = {key: value for key, value in params.items() if key not in {"_meta", "progressToken"}}
        self.seen.append((kind, params))
        self._news.set()

    async def since(self, start: int, watch: Mapping[str, int]) -> dict[str, list[Any]]:
        """Wait until as many of each kind as asked for have come after `start`; all of those kinds that have come."""
        while True:
            found = {kind: [params for seen, params in self.seen[start:] if seen == kind] for kind in watch}
            if all(len(found[kind]) >= watch[kind] for kind in watch):
                return found
            self._news.clear()
            await self._news.wait()


class Trace:
    """What crossed the HTTP layer of one client."""

    def __init__(self) -> None:
        self.exchanges: set[str] = set()
        self.request_ids: list[str | None] = []
        self.session: str | None = None
        self.stream_open = asyncio.Event()

    def note(self, method: str, sent: Mapping[str, str], status: int, headers: Mapping[str, str]) -> None:
        """Note one answer: its method, whether it resumes a stream, its status and media type."""
        what = f"{method} to resume" if "last-event-id" in sent else method
        media_type = headers.get("content-type", "-").split(";")[0]
        self.exchanges.add(f"{what} {status} {media_type}")
        self.request_ids.append(headers.get("x-request-id"))
        self.session = headers.get("mcp-session-id", self.session)
        if method == "GET":
            self.stream_open.set()

    def report(self) -> dict[str, Any]:
        """What to print; compared between runs but for the ids."""
        return {"exchanges": sorted(self.exchanges), "session": self.session, "requestIds": self.request_ids}


async def observe(act: Callable[[], Awaitable[Any]], error: type[Exception]) -> dict[str, Any]:
    """The observation of one action: its result, the server's error, or that it took too long."""
    try:
        async with asyncio.timeout(STEP_SECONDS):
            return {"result": shrink(await act())}
    except TimeoutError:
        return {"timeout": STEP_SECONDS}
    except error as failure:
        code = getattr(getattr(failure, "error", failure), "code", None)
        return {"error": {"code": code, "message": str(failure)}}


def run(converse: Callable[[dict[str, Any], list[dict[str, Any]]], Awaitable[dict[str, Any]]]) -> None:
    """Read the orders, converse with one target after the other, print what was observed."""
    orders = json.load(sys.stdin)

    async def together(conversations: list[Awaitable[dict[str, Any]]]) -> list[dict[str, Any]]:
        ends = await asyncio.gather(*conversations, return_exceptions=True)
        return [
            {"failed": "".join(traceback.format_exception(end))} if isinstance(end, BaseException) else end
            for end in ends
        ]

    async def everything() -> list[dict[str, Any]]:
        conversations = [
            converse(target, plan) for target, plan in zip(orders["targets"], orders["plans"], strict=True)
        ]
        if orders["together"]:
            return await together(conversations)
        return [end for conversation in conversations for end in await together([conversation])]

    print(json.dumps(asyncio.run(everything())))
