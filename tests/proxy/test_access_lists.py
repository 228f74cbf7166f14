"""Lists show their caller what he may use: from every kind of server, behind every door, byte for byte."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack
from typing import Any

import pytest

from moongate.control.compile import CompileOptions, compile_documents
from moongate.control.files import load_texts
from moongate.proxy import answer, streams
from moongate.testing import Exchange
from tests.bridge.talking import hosting, session
from tests.proxy.sse_talk import SseServer, listening, open_session, sse_pair
from tests.proxy.sse_talk import answer as sse_answer
from tests.proxy.talk import (
    META,
    MODERN,
    Answer,
    Client,
    call,
    config,
    connected,
    event,
    initialize,
    pair,
    polite,
    records,
    result,
    run,
)

TOKENS = {
    "tokens": [
        {"name": "alice", "token": "alice-token", "groups": ["staff"]},
        {"name": "bob", "token": "bob-token"},
    ]
}
ALICE, BOB = {"x-api-key": "alice-token"}, {"x-api-key": "bob-token"}
STAFF = {"rules": [{"allow": True, "groups": ["staff"]}, {"allow": ["tool:get_*", "prompt:p", "resource:note://*"]}]}

TOOLS = b'{"name":"get_a","inputSchema":{"type" : "object"}}', b'{ "name":"pay","inputSchema":{}}', b'{"name":"get_b"}'
ALL = b'{"jsonrpc":"2.0","id":1,"result":{"tools": [%b , %b,\n%b ],"nextCursor":"b"}}' % TOOLS
SOME = b'{"jsonrpc":"2.0","id":1,"result":{"tools": [%b,\n%b ],"nextCursor":"b"}}' % (TOOLS[0], TOOLS[2])
LIST = call(1, "tools/list")


def names(message: dict[str, Any], member: str = "tools") -> list[str]:
    """The items of a list."""
    return [item.get("uri") or item.get("uriTemplate") or item["name"] for item in message["result"][member]]


def test_a_json_list_loses_what_its_caller_may_not_use() -> None:
    """Who may use everything gets every byte, who may use less gets the same without it."""

    async def story() -> None:
        async def script(exchange: Exchange) -> None:
            await exchange.answer(ALL)

        async with (
            pair(script, gateway_block=TOKENS, access=STAFF) as (gate, _),
            connected(gate) as client,
        ):
            for who, body in ((ALICE, ALL), (BOB, SOME), (ALICE, ALL), (BOB, SOME)):
                answer = await client.ask(LIST, who)
                assert answer.body == body
            found = records(gate)
            assert [record["bytesOut"] for record in found[:2]] == [len(ALL), len(SOME)]

    run(story())


LISTS = [
    ("prompts/list", {"prompts": [{"name": "p"}, {"name": "q"}]}, ["p"]),
    (
        "resources/list",
        {"resources": [{"uri": "note://a", "name": "x"}, {"uri": "file:///a", "name": "p"}]},
        ["note://a"],
    ),
    (
        "resources/templates/list",
        {"resourceTemplates": [{"uriTemplate": "file:///{x}"}, {"uriTemplate": "note://{x}"}]},
        ["note://{x}"],
    ),
]


@pytest.mark.parametrize(("method", "content", "seen"), LISTS)
def test_prompts_resources_and_templates_are_filtered_too(
    method: str, content: dict[str, Any], seen: list[str]
) -> None:
    """Each by the rule that holds for using one, also if a server sends one in answer to something else."""

    async def story() -> None:
        async def script(exchange: Exchange) -> None:
            await exchange.answer(result(1, **content))

        async with (
            pair(script, gateway_block=TOKENS, access=STAFF) as (gate, _),
            connected(gate) as client,
        ):
            assert names((await client.ask(call(1, method), BOB)).message, next(iter(content))) == seen
            assert (await client.ask(call(1, method), ALICE)).body == result(1, **content)
            assert names((await client.ask(call(1, name="get_a"), BOB)).message, next(iter(content))) == seen

    run(story())


def test_a_filtered_list_is_not_for_shared_caches() -> None:
    """In 2026-07-28 the answer says for whom it may be kept."""

    async def story() -> None:
        body = ALL.replace(b'"nextCursor"', b'"resultType":"complete","cacheScope":"public","ttlMs":9,"nextCursor"')

        async def script(exchange: Exchange) -> None:
            await exchange.answer(body)

        meta = {f"{META}protocolVersion": MODERN, f"{META}clientCapabilities": {}}
        headers = {"mcp-protocol-version": MODERN, "mcp-method": "tools/list"}
        async with (
            pair(script, gateway_block=TOKENS, access=STAFF) as (gate, _),
            connected(gate) as client,
        ):
            for who in (ALICE, BOB):
                answer = await client.ask(call(1, "tools/list", _meta=meta), {**who, **headers})
                assert answer.message["result"]["cacheScope"] == "private"
                assert answer.message["result"]["ttlMs"] == 9

    run(story())


@pytest.mark.parametrize("slow", [False, True])
def test_the_answer_in_an_event_stream_is_filtered_and_nothing_else(slow: bool) -> None:
    """Notifications, comments, ids and line ends stay as the server wrote them."""
    note = (
        event(b'{"jsonrpc":"2.0","method":"notifications/message","params":{"tools":[{"name":"pay"}]}}')
        + b": quiet\n\n"
    )
    fields = b"event: message\r\nid: 7\r\n: hello\r\ndata:%b\r\nretry: 5\r\n\r\n"
    sent = note + fields % ALL.replace(b"\n", b"\r\ndata: ")
    lines = SOME.split(b"\n")
    seen = note + (fields % b"\r\n".join((b" " + lines[0], b"data: " + lines[1])))

    async def story() -> None:
        async def script(exchange: Exchange) -> None:
            await exchange.stream()
            for piece in (sent[:10], sent[10:-30], sent[-30:]) if slow else (sent,):
                await exchange.chunk(piece)
                await asyncio.sleep(0.02 if slow else 0)
            await exchange.close_stream()

        async with (
            pair(script, gateway_block=TOKENS, access=STAFF) as (gate, _),
            connected(gate) as client,
        ):
            assert (await client.ask(LIST, ALICE)).body == sent
            assert (await client.ask(LIST, BOB)).body == seen

    run(story())


def test_a_list_that_comes_again_on_a_resumed_stream_is_filtered() -> None:
    """Whoever hangs up and comes back with the event's id sees no more than before."""

    async def story() -> None:
        async def script(exchange: Exchange) -> None:
            if exchange.seen.method != "GET":
                await polite(exchange)
                return
            assert exchange.seen.fields["last-event-id"] == "6"
            await exchange.stream()
            await exchange.chunk(event(ALL.replace(b"\n", b" "), "7"))
            await exchange.close_stream()

        async with (
            pair(script, gateway_block=TOKENS, access=STAFF) as (gate, _),
            connected(gate) as client,
        ):
            opened = await client.ask(initialize("2025-11-25"), BOB)
            headers = {**BOB, "mcp-session-id": opened.fields["mcp-session-id"], "last-event-id": "6"}
            answer = await client.ask(None, headers, method="GET")
            assert answer.body == event(SOME.replace(b"\n", b" "), "7")

    run(story())


def test_the_lists_in_the_answers_to_an_array_are_filtered() -> None:
    """Also where only one of its calls asks for a list."""

    async def story() -> None:
        async def script(exchange: Exchange) -> None:
            if exchange.seen.body.startswith(b"["):
                await exchange.answer(b"[%b,%b]" % (result(2), ALL))
            else:
                await polite(exchange)

        async with (
            pair(script, gateway_block=TOKENS, access=STAFF) as (gate, _),
            connected(gate) as client,
        ):
            opened = await client.ask(initialize("2025-03-26"), BOB)
            headers = {**BOB, "mcp-session-id": opened.fields["mcp-session-id"]}
            answer = await client.ask(b"[%b,%b]" % (LIST, call(2, name="get_a")), headers)
            assert answer.body == b"[%b,%b]" % (result(2), SOME)

    run(story())


@pytest.mark.parametrize("as_events", [False, True])
def test_a_large_list_is_filtered_whole(as_events: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Larger than what is passed on in one piece; one over the limit is refused, and said why in the record."""
    many = [{"name": f"{'get' if number % 2 else 'set'}_{number}", "description": "x" * 500} for number in range(4000)]

    async def script(exchange: Exchange) -> None:
        body = result(1, tools=many)
        if not as_events:
            await exchange.answer(body)
            return
        await exchange.stream()
        for start in range(0, len(body), 100_000):
            piece = body[start : start + 100_000]
            await exchange.chunk((b"" if start else b"data: ") + piece)
        await exchange.chunk(b"\n\n")
        await exchange.close_stream()

    async def asked(client: Client) -> Answer:
        found = await client.ask(LIST, BOB)
        if as_events and found.status == 200:
            found.body = found.body.removeprefix(b"data: ")
        return found

    async def story() -> None:
        async with (
            pair(script, gateway_block=TOKENS, access=STAFF) as (gate, _),
            connected(gate) as client,
        ):
            found = await asked(client)
            assert names(found.message) == [tool["name"] for tool in many if tool["name"].startswith("get")]
            for module in (answer, streams):
                monkeypatch.setattr(module, "MAX_LIST", 1_000_000)
            assert (await asked(client)).failure == (502, "upstream_protocol")
            assert "filtered by access rules" in records(gate)[-1]["detail"]
            assert (await client.ask(call(1, name="get_a"), BOB)).status == 200

    run(story())


BROKEN = [
    ALL.replace(b'"nextCursor":"b"', b'"tools":[]'),
    b'{"jsonrpc":"2.0","id":1,"result":{"tools":{"pay":{}}}}',
    b'{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"pay"}],"Tools":[]}}',
]


@pytest.mark.parametrize("body", BROKEN)
@pytest.mark.parametrize("as_events", [False, True])
def test_a_list_that_cannot_be_filtered_is_not_shown(body: bytes, as_events: bool) -> None:
    """Two readers might see two lists in it."""

    async def script(exchange: Exchange) -> None:
        if as_events:
            await exchange.answer(event(body.replace(b"\n", b"")), headers={"content-type": "text/event-stream"})
        else:
            await exchange.answer(body)

    async def story() -> None:
        async with (
            pair(script, gateway_block=TOKENS, access=STAFF) as (gate, _),
            connected(gate) as client,
        ):
            found = await client.ask(LIST, BOB)
            assert found.failure == (502, "upstream_protocol")
            assert b"pay" not in client.raw

    run(story())


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


def test_errors_and_other_answers_stay_as_they_are() -> None:
    """An error in place of a list, and the answer to the end of a session."""

    async def script(exchange: Exchange) -> None:
        if exchange.seen.method == "DELETE":
            await exchange.answer(b"", headers={"content-type": "application/json"})
        else:
            await exchange.answer(b'{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"no tools"}}')

    async def story() -> None:
        async with (
            pair(script, gateway_block=TOKENS, access=STAFF) as (gate, _),
            connected(gate) as client,
        ):
            assert (await client.ask(LIST, BOB)).message["error"]["code"] == -32601
            assert (await client.ask(None, BOB, method="DELETE")).status == 200

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
