"""Lists on event streams: unfinished events, answers in odd forms, streams that were open before the rules changed."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from moongate.control.compile import CompileOptions, compile_documents
from moongate.control.files import load_texts
from moongate.testing import Exchange, Gateway
from tests.proxy.listed import ALL, BOB, LIST, SOME, STAFF, TOKENS, names
from tests.proxy.sse_talk import SseServer, listening, open_session, sse_pair
from tests.proxy.sse_talk import answer as sse_answer
from tests.proxy.talk import call, config, connected, event, initialize, pair, polite, result, run

ONE_LINE = ALL.replace(b"\n", b"")
DENY = {"rules": [{"deny": ["tool:pay"]}]}


async def put_into_force(gate: Gateway, url: str, **changes: Any) -> None:  # noqa: ANN401 - any JSON
    """Another configuration of the same instance."""
    documents = load_texts([("test.yaml", config(url, **changes))], {})
    await gate.runtime.apply(compile_documents(documents, CompileOptions(host="127.0.0.1", port=0)))


@pytest.mark.parametrize("method", ["tools/list", "tools/call"])
def test_an_unfinished_event_at_the_end_is_not_shown(method: str) -> None:
    """Nobody has looked through it; who sees everything gets it as ever."""
    sent = event(result(1)) + event(ONE_LINE)[:-1]

    async def story() -> None:
        async def script(exchange: Exchange) -> None:
            await exchange.stream()
            await exchange.chunk(sent)
            await exchange.close_stream()

        async with pair(script, access=DENY) as (gate, _), connected(gate) as client:
            found = await client.ask(call(1, method, name="get_a"))
            assert found.body == event(result(1))
        async with pair(script) as (gate, _), connected(gate) as client:
            assert (await client.ask(call(1, method, name="get_a"))).body == sent

    run(story())


def test_an_unfinished_event_at_the_end_of_a_stream_of_http_sse_is_not_shown() -> None:
    """As on any other stream."""

    async def story() -> None:
        async with sse_pair(access=DENY) as (gate, server), listening(gate) as client:
            await open_session(client)
            stream = server.newest
            assert stream is not None
            await stream.chunk(event(b'{"jsonrpc":"2.0","method":"x"}') + event(ONE_LINE)[:-1])
            assert await client.message() == {"jsonrpc": "2.0", "method": "x"}
            await stream.close_stream()
            stream.over.set()
            assert b"pay" not in await client.ended()

    run(story())


TOOLS = json.dumps(json.loads(ALL)["result"]["tools"]).encode()
ODD = [
    b'{"id":5,"result":{"tools":%b}}',
    b' [{"jsonrpc":"2.0","id":5,"result":{"tools":%b}}]',
    b'[{"id":5,"result":{"tools":%b}}]',
    b'{"jsonrpc":"2.0","id":5,"method":"x","result":{"tools":%b}}',
    b'{"jsonrpc":"2.0","id":5,"error":7,"result":{"tools":%b}}',
    b'{"jsonrpc":"2.0","id":5,"error":"no","result":{"tools":%b}}',
]


@pytest.mark.parametrize("body", ODD)
@pytest.mark.parametrize("method", ["tools/list", "tools/call"])
def test_an_answer_in_an_odd_form_shows_no_more(body: bytes, method: str) -> None:
    """On the stream of HTTP+SSE, which passes what it cannot read as an answer."""

    async def story() -> None:
        server = SseServer()
        server.answer = lambda message: None if message.get("id") == 5 else sse_answer(message)
        async with (
            sse_pair(server, gateway_block=TOKENS, access=STAFF) as (gate, _),
            listening(gate, headers=BOB) as client,
        ):
            await open_session(client)
            assert (await client.post(call(5, method, name="get_a"))).status == 202
            stream = server.newest
            assert stream is not None
            await stream.chunk(b"data: " + body % TOOLS + b"\n\n")
            shown = await client.stream.text(b"get_b")
            assert b"get_a" in shown
            assert b"pay" not in client.stream.raw

    run(story())


def test_an_open_stream_is_filtered_by_the_rules_that_are_in_force() -> None:
    """Rules that come, change and go while a client listens."""

    async def story() -> None:
        queue: asyncio.Queue[bytes] = asyncio.Queue()

        async def script(exchange: Exchange) -> None:
            if exchange.seen.method != "GET":
                await polite(exchange)
                return
            await exchange.stream()
            await exchange.chunk(b": open\n\n")
            while True:
                await exchange.chunk(await queue.get())

        async with pair(script, gateway_block=TOKENS) as (gate, backend), connected(gate) as client:
            opened = await client.ask(initialize(), BOB)
            headers = {**BOB, "mcp-session-id": opened.fields["mcp-session-id"], "accept": "text/event-stream"}
            await client.send(None, headers, method="GET")
            assert (await client.head()).status == 200
            assert await client.text(b": open\n\n") == b": open\n\n"
            told, some = event(ONE_LINE), event(SOME.replace(b"\n", b""))
            for access, seen in ((None, told), (STAFF, some), (None, told), (DENY, some), (STAFF, some), (None, told)):
                await put_into_force(gate, backend.url, gateway=TOKENS, access=access)
                await queue.put(told)
                assert await client.text(b"\n\n") == seen

    run(story())


def test_a_stream_of_http_sse_is_filtered_by_the_rules_that_are_in_force() -> None:
    """Without another message of its client."""

    async def story() -> None:
        async with sse_pair() as (gate, server), listening(gate) as client:
            await open_session(client)
            stream = server.newest
            assert stream is not None
            for access, count in ((None, 3), (DENY, 2), (None, 3)):
                await put_into_force(gate, server.backend.url, type="sse", access=access)
                await stream.chunk(event(ONE_LINE.replace(b'"id":1', b'"id":77')))
                assert len(names(await client.message())) == count

    run(story())


@pytest.mark.parametrize("method", ["tools/list", "tools/call"])
def test_a_large_answer_that_comes_at_once_is_filtered(method: str) -> None:
    """One that others need not wait for while it is looked through."""
    many = [{"name": name, "description": "x" * 40_000} for name in ("get_a", "pay", "get_b")]

    async def script(exchange: Exchange) -> None:
        await exchange.answer(result(1, tools=many) if b"list" in exchange.seen.body else result(1, text="y" * 200_000))

    async def story() -> None:
        async with pair(script, access=DENY) as (gate, _), connected(gate) as client:
            found = await client.ask(call(1, method, name="get_a"))
            if method == "tools/list":
                assert names(found.message) == ["get_a", "get_b"]
            else:
                assert found.body == result(1, text="y" * 200_000)
            assert (await client.ask(LIST)).status == 200

    run(story())
