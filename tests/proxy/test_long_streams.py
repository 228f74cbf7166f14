"""What long events, arrays of answers, trickles and endless streams do to the relay."""

from __future__ import annotations

import asyncio
import json

from moongate.model.snapshot import Match, PathKind, PathMatch
from moongate.proxy.match import Router
from moongate.testing import Exchange
from tests.proxy.talk import call, connected, pair, polite, records, run
from tests.proxy.test_sessions import open_session


def test_a_long_answer_that_speaks_of_methods_is_still_the_answer() -> None:
    """A member called method deep inside a long result does not make it a request; nothing is added to the stream."""
    result = {"structuredContent": {"method": "GET", "params": {}, "text": "x" * 300_000}}
    event = b"data: " + json.dumps({"jsonrpc": "2.0", "id": 1, "result": result}).encode() + b"\n\n"

    async def story() -> None:
        async def script(exchange: Exchange) -> None:
            await exchange.stream()
            await exchange.chunk(event[:-1])
            await exchange.chunk(event[-1:])
            await asyncio.sleep(0.05)  # the end comes later than the answer
            await exchange.close_stream()

        async with pair(script) as (gate, _), connected(gate) as client:
            answer = await client.ask(call())
            assert answer.body == event
            assert "failure" not in records(gate)[0]

    run(story())


def test_an_array_is_answered_by_an_event_that_holds_an_array() -> None:
    """Revision 2025-03-26: one event with all answers is the whole answer."""
    event = b'data: [{"jsonrpc":"2.0","id":1,"result":{}},{"jsonrpc":"2.0","id":2,"result":{}}]\n\n'

    async def story() -> None:
        async def script(exchange: Exchange) -> None:
            if not exchange.seen.body.startswith(b"["):
                await polite(exchange)
                return
            await exchange.stream()
            await exchange.chunk(event)
            await asyncio.sleep(0.05)
            await exchange.close_stream()

        async with pair(script) as (gate, _), connected(gate) as client:
            old = await open_session(client, revision="2025-03-26")
            answer = await client.ask(b"[" + call(1) + b"," + call(2) + b"]", {"mcp-session-id": old})
            assert answer.body == event
            assert all("failure" not in record for record in records(gate))

    run(story())


def test_a_very_deep_path_is_not_walked_up() -> None:
    """The cost of a path does not grow with its segments squared, and it is found nowhere."""
    router = Router([(Match(PathMatch(PathKind.PREFIX, "/mcp/time")), "time")])

    assert router.find("GET", "/" * 32_000, None, {}) is None
    assert router.find("GET", "/mcp/time" + "/x" * 1000, None, {}) is None
    assert router.find("GET", "/mcp/time/v1/stream", None, {}) is not None
