"""Lists show their caller what he may use: from every kind of server, behind every door, byte for byte."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from moongate.proxy import answer, streams
from moongate.testing import Exchange
from tests.proxy.listed import ALICE, ALL, BOB, BROKEN, LIST, SOME, STAFF, TOKENS, names
from tests.proxy.talk import (
    META,
    MODERN,
    Answer,
    Client,
    call,
    connected,
    event,
    initialize,
    pair,
    polite,
    records,
    result,
    run,
)


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
            # A list of that size in place of something else is not even waited for.
            assert (await client.ask(call(1, name="get_a"), BOB)).failure == (502, "upstream_protocol")

    run(story())


@pytest.mark.parametrize("as_events", [False, True])
@pytest.mark.parametrize("size", [100, 200_000])
def test_results_that_only_speak_of_tools_pass(as_events: bool, size: int) -> None:
    """Byte for byte, however long."""
    body = result(1, structuredContent={"tools": [{"name": "pay"}], "more": "x" * size}, content=['"tools":[{'])
    sent = event(body) if as_events else body

    async def script(exchange: Exchange) -> None:
        await exchange.answer(sent, headers={"content-type": "text/event-stream"} if as_events else None)

    async def story() -> None:
        async with (
            pair(script, gateway_block=TOKENS, access=STAFF) as (gate, _),
            connected(gate) as client,
        ):
            answered = await client.ask(call(1, name="get_a"), BOB)
            assert answered.body == sent
            assert "failure" not in records(gate)[0]

    run(story())


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
