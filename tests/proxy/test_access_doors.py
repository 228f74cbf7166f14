"""Lists are filtered behind every door: in front of hosted servers, and for clients and servers of HTTP+SSE."""

from __future__ import annotations

import json
from contextlib import AsyncExitStack
from typing import Any

import pytest

from moongate.control.compile import CompileOptions, compile_documents
from moongate.control.files import load_texts
from moongate.testing import Exchange
from tests.bridge.talking import hosting, session
from tests.proxy.listed import ALICE, ALL, BOB, BROKEN, LIST, STAFF, TOKENS, names
from tests.proxy.sse_talk import SseServer, listening, open_session, sse_pair
from tests.proxy.sse_talk import answer as sse_answer
from tests.proxy.talk import (
    call,
    config,
    connected,
    event,
    initialize,
    pair,
    records,
    result,
    run,
)


@pytest.mark.parametrize("kind", ["sse", "streamable-http"])
@pytest.mark.parametrize("body", BROKEN)
def test_a_list_that_cannot_be_filtered_is_an_error_at_the_door_of_http_sse(kind: str, body: bytes) -> None:
    """The client is told on its stream, which goes on."""
    body = body.replace(b"\n", b"").replace(b'"id":1', b'"id":5')

    def answered(message: dict[str, Any]) -> bytes | None:
        return body if message.get("method") == "tools/list" else sse_answer(message)

    async def script(exchange: Exchange) -> None:
        found = answered(json.loads(exchange.seen.body)) if exchange.seen.body else None
        await exchange.answer(found or b"", status="200 OK" if found else "202 Accepted")

    async def story() -> None:
        async with AsyncExitStack() as stack:
            server = SseServer()
            server.answer = answered
            if kind == "sse":
                gate, _ = await stack.enter_async_context(sse_pair(server, gateway_block=TOKENS, access=STAFF))
            else:
                gate, _ = await stack.enter_async_context(pair(script, gateway_block=TOKENS, access=STAFF))
            client = await stack.enter_async_context(listening(gate, headers=BOB))
            await open_session(client)
            assert (await client.post(call(5, "tools/list"))).status == 202
            refused = await client.message()
            assert (refused["id"], refused["error"]["data"]["class"]) == (5, "upstream_protocol")
            assert (await client.post(call(6, name="get_a"))).status == 202
            assert (await client.message())["id"] == 6
            assert b"pay" not in client.stream.raw
            found = [record for record in records(gate) if record["method"] == "tools/list"]
            assert [record["failure"] for record in found] == ["upstream_protocol"]

    run(story())


HOSTED = {"rules": [{"allow": ["tool:e*"]}, {"deny": ["tool:env"]}]}


def test_lists_of_a_hosted_server_are_filtered_behind_both_doors() -> None:
    """Over streamable HTTP and over HTTP+SSE."""

    async def story() -> None:
        async with hosting(access=HOSTED) as gate:
            async with session(gate) as one:
                answer = await one.client.ask(LIST, one.headers)
                message = (
                    answer.message if answer.body.startswith(b"{") else json.loads(answer.body.split(b"data: ")[1])
                )
                assert names(message) == ["echo"]
                assert "error" in (await one.call("env", names=[])).message
                assert await one.text("echo", text="heard") == "heard"
            async with listening(gate) as client:
                await open_session(client)
                await client.post(call(5, "tools/list"))
                assert names(await client.message()) == ["echo"]

    run(story())


@pytest.mark.parametrize("kind", ["sse", "streamable-http"])
def test_lists_are_filtered_at_the_door_of_http_sse(kind: str) -> None:
    """In front of a server that speaks the same, whose stream passes through, and of one that does not."""

    def answered(message: dict[str, Any]) -> bytes | None:
        if message.get("method") == "initialize":
            version = message["params"]["protocolVersion"]
            return result(
                message["id"], protocolVersion=version, capabilities={}, serverInfo={"name": "t", "version": "1"}
            )
        if message.get("method") == "tools/list":
            return ALL.replace(b"\n", b"").replace(b'"id":1', b'"id":%d' % message["id"])
        return result(message["id"], structuredContent={"tools": [{"name": "pay"}]}) if "id" in message else None

    async def script(exchange: Exchange) -> None:
        seen = exchange.seen
        found = answered(json.loads(seen.body)) if seen.body else None
        if found is None:
            await exchange.answer(b"", status="202 Accepted" if seen.method == "POST" else "405 No")
        else:
            await exchange.answer(found)

    async def story() -> None:
        async with AsyncExitStack() as stack:
            if kind == "sse":
                server = SseServer()
                server.answer = answered
                gate, _ = await stack.enter_async_context(sse_pair(server, gateway_block=TOKENS, access=STAFF))
            else:
                gate, _ = await stack.enter_async_context(pair(script, gateway_block=TOKENS, access=STAFF))
            for who, seen in ((BOB, ["get_a", "get_b"]), (ALICE, ["get_a", "pay", "get_b"])):
                client = await stack.enter_async_context(listening(gate, headers=who))
                await open_session(client)
                assert (await client.post(call(5, "tools/list"))).status == 202
                assert names(await client.message()) == seen
                assert (await client.post(call(6, name="get_a"))).status == 202
                assert (await client.message())["result"]["structuredContent"] == {"tools": [{"name": "pay"}]}

    run(story())


def test_an_answer_that_nobody_asked_for_shows_no_more() -> None:
    """On the stream of HTTP+SSE the answer to a message of another process may come: it is filtered as well."""

    async def story() -> None:
        async with (
            sse_pair(gateway_block=TOKENS, access=STAFF) as (gate, server),
            listening(gate, headers=BOB) as client,
        ):
            await open_session(client)
            stream = server.newest
            assert stream is not None
            await stream.chunk(event(ALL.replace(b"\n", b"").replace(b'"id":1', b'"id":99')))
            assert names(await client.message()) == ["get_a", "get_b"]
            await stream.chunk(
                event(BROKEN[1].replace(b'"id":1', b'"id":99')) + event(b'{"jsonrpc":"2.0","method":"x"}')
            )
            assert await client.message() == {"jsonrpc": "2.0", "method": "x"}
            await stream.chunk(event(BROKEN[1].replace(b'"id":1', b'"id":99')))
            await stream.chunk(event(b'{"jsonrpc":"2.0","method":"y"}'))
            assert await client.message() == {"jsonrpc": "2.0", "method": "y"}
            await stream.chunk(event(b"no JSON, but tools"))
            assert b"no JSON" not in await client.ended()

    run(story())


def test_an_id_that_is_used_twice_opens_no_way_around() -> None:
    """The answer to a list is filtered although its id is meanwhile that of another call."""

    async def story() -> None:
        server = SseServer()
        server.answer = lambda message: None if message.get("id") == 5 else sse_answer(message)
        async with (
            sse_pair(server, gateway_block=TOKENS, access=STAFF) as (gate, _),
            listening(gate, headers=BOB) as client,
        ):
            await open_session(client)
            stream = server.newest
            assert stream is not None
            for _ in range(2):
                assert (await client.post(call(5, "tools/list"))).status == 202
                assert (await client.post(call(5, "ping"))).status == 202
                await stream.chunk(event(ALL.replace(b"\n", b"").replace(b'"id":1', b'"id":5.0')))
                assert names(await client.message()) == ["get_a", "get_b"]

    run(story())


def test_rules_that_come_into_force_hold_for_streams_that_are_open() -> None:
    """A client of HTTP+SSE keeps its stream; its next list is filtered."""

    async def story() -> None:
        server = SseServer()
        server.answer = lambda message: (
            ALL.replace(b"\n", b"").replace(b'"id":1', b'"id":%d' % message["id"])
            if message.get("method") == "tools/list"
            else sse_answer(message)
        )
        async with sse_pair(server) as (gate, _), listening(gate) as client:
            await open_session(client)
            for access, seen in ((None, 3), ({"rules": [{"deny": ["tool:pay"]}]}, 2), (None, 3)):
                text = config(server.backend.url, type="sse", access=access)
                documents = load_texts([("test.yaml", text)], {})
                await gate.runtime.apply(compile_documents(documents, CompileOptions(host="127.0.0.1", port=0)))
                assert (await client.post(call(7, "tools/list"))).status == 202
                assert len(names(await client.message())) == seen

    run(story())


def test_a_server_of_http_sse_is_filtered_behind_streamable_http() -> None:
    """The gateway is its client, and gives back what the caller may see."""

    async def story() -> None:
        rules = {"rules": [{"deny": ["tool:moonrise"]}]}
        async with sse_pair(access=rules) as (gate, _), connected(gate) as client:
            opened = await client.ask(initialize())
            named = opened.fields.get("mcp-session-id")
            answer = await client.ask(LIST, {} if named is None else {"mcp-session-id": named})
            text = answer.body if answer.body.startswith(b"{") else answer.body.split(b"data: ")[1]
            assert names(json.loads(text)) == []

    run(story())
