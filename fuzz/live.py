"""A whole gateway under mutated requests: it answers or closes, never hangs, and its backend sees nothing malformed.

What the backend has seen is compared with an independent reading of the client's bytes (`oracle`): the same requests in
the same order, less those that were refused; each framed by one length, with no header that has to stop at the gateway.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fuzz.mutate import mutated, pieces
from fuzz.oracle import requests
from fuzz.pure import Broken, hold
from moongate.testing import Backend, Exchange, Gateway, gateway

SECONDS = 5.0
ALLOWED = frozenset(
    {
        *("host", "accept-encoding", "accept", "accept-language", "content-type", "content-length", "last-event-id"),
        *(
            "mcp-protocol-version",
            "mcp-method",
            "mcp-name",
            "mcp-session-id",
            "user-agent",
            "traceparent",
            "tracestate",
        ),
    }
)
END = b"\r\nGET /end HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n"
ANSWER = b'{"jsonrpc":"2.0","id":1,"result":{}}'


class Live:
    """The gateway and its backend."""

    def __init__(self, gate: Gateway, backend: Backend) -> None:
        self.gate = gate
        self.backend = backend

    async def one(self, data: bytes, chance: random.Random) -> None:
        """Send one input in pieces, then a request that must be answered on a new connection."""
        self.backend.seen.clear()
        answers = await self._talk(data, chance)
        self._check(data, answers)
        probe = b'{"jsonrpc":"2.0","id":1,"method":"probe"}'
        head = b"POST /mcp/time HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\nconnection: close\r\n"
        alive = await self._talk(head + b"content-length: %d\r\n\r\n" % len(probe) + probe, None)
        if not alive.startswith(b"HTTP/1.1 200 ") or not alive.endswith(ANSWER):
            raise Broken(f"an ordinary call is not answered any more: {alive[:200]!r}")

    async def _talk(self, data: bytes, chance: random.Random | None) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.gate.port)
        try:
            async with asyncio.timeout(SECONDS):
                try:
                    for piece in [data] if chance is None else pieces(chance, data):
                        writer.write(piece)
                        await writer.drain()
                    if chance is not None:
                        writer.write(END)
                    return await reader.read()
                except ConnectionError:
                    return b""
        except TimeoutError:
            raise Broken("neither an answer nor the end of the connection") from None
        finally:
            writer.transport.abort()

    def _check(self, data: bytes, answers: bytes) -> None:
        for seen in self.backend.seen:
            if seen.target != "/mcp" or seen.method not in ("POST", "GET", "DELETE"):
                raise Broken(f"the backend got {seen.method} {seen.target}")
            names = [name for name, _ in seen.lines]
            foreign = {name for name in names if name not in ALLOWED and not name.startswith("mcp-param-")}
            if foreign or names.count("content-length") > 1 or names.count("host") != 1:
                raise Broken(f"the backend got the headers {sorted(names)}")
            if seen.method == "POST":
                self._check_body(seen.body)
        if answers and not answers.startswith(b"HTTP/1.1 "):
            raise Broken(f"an answer begins with {answers[:40]!r}")
        if b"set-cookie" in answers.lower() and b"set-cookie" not in data.lower():
            raise Broken("an answer sets a cookie")

        left = iter(requests(data + END))
        for seen in self.backend.seen:
            if not any(
                (seen.method, seen.body) == (sent.method, sent.body if sent.method == "POST" else b"") for sent in left
            ):
                raise Broken(f"the backend got a request that was not sent: {seen.method} {seen.body[:200]!r}")

    def _check_body(self, body: bytes) -> None:
        try:
            json.loads(body)
        except (ValueError, RecursionError):
            raise Broken(f"the backend got a body that is not JSON: {body[:200]!r}") from None


class _Errors(logging.Handler):
    """Collects what the gateway reports as its own fault."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


async def _script(exchange: Exchange) -> None:
    if exchange.seen.method == "GET":
        await exchange.stream()
        await exchange.close_stream()
    else:
        await exchange.answer(ANSWER)


@asynccontextmanager
async def live() -> AsyncIterator[Live]:
    """A gateway with short limits in front of a checking backend."""
    limits = "headTime: 300ms, bodyTime: 300ms, idleTime: 300ms, writeTime: 2s, jsonDepth: 64"
    async with Backend(_script) as backend:
        config = (
            f"gateway: {{limits: {{{limits}}}}}\n"
            f"mcpServers:\n  time: {{url: '{backend.url}', type: streamable-http, timeout: 2000}}\n"
        )
        async with gateway(config) as gate:
            yield Live(gate, backend)


async def drive(seed: str, corpus: list[bytes], seconds: float) -> tuple[int, bytes | None, str]:
    """Run for some time: inputs sent, and the one that failed with its reason."""
    chance = random.Random(seed)
    errors = _Errors()
    logging.getLogger().addHandler(errors)
    loop = asyncio.get_running_loop()
    end, count, data = loop.time() + seconds, 0, b""
    try:
        async with live() as target:
            while loop.time() < end:
                data = mutated(chance, corpus)
                count += 1
                await target.one(data, random.Random(f"{seed} {count}"))
                hold(not errors.lines, "".join(errors.lines[:1]))
    except (Broken, OSError, TimeoutError) as error:
        return count, data, f"{type(error).__name__}: {error}"
    finally:
        logging.getLogger().removeHandler(errors)
    return count, None, ""


def again(data: bytes, seed: str) -> str:
    """Send one input once more, cut as `seed` has it: what is wrong, empty if nothing is."""

    async def work() -> None:
        async with live() as target:
            await target.one(data, random.Random(seed))

    try:
        asyncio.run(work())
    except Broken as error:
        return str(error)
    return ""
