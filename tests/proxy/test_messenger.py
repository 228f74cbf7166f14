"""One client that exchanges messages, in front of streamable HTTP: what answers it becomes messages, or a failure."""

from __future__ import annotations

import asyncio
import gzip
import json

import pytest

from moongate.errors import FailureClass
from moongate.testing import Exchange, Script
from tests.proxy.messaging import (
    READY,
    answering,
    falls_silent,
    methods,
    posted,
    refusing,
    silent,
    talking,
)
from tests.proxy.talk import (
    call,
    error,
    event,
    initialize,
    initialized,
    log_lines,
    modern_call,
    polite,
    result,
    run,
    until,
)


def test_a_session_from_its_opening_to_its_end() -> None:
    """Headers of each request: accept, type, then the session id and the negotiated revision; DELETE at the end."""

    async def story() -> None:
        async with talking(polite, lines=b"user-agent: lynx\r\n") as (client, backend):
            await client.say(initialize())
            assert client.heard == [initialized()]
            first = backend.seen[0].fields
            assert first["accept"] == "application/json, text/event-stream"
            assert first["content-type"] == "application/json"
            assert first["user-agent"] == "lynx"
            assert not {"mcp-session-id", "mcp-protocol-version", "mcp-method"} & first.keys()
            await client.say(READY)
            await until(lambda: "GET" in methods(backend))
            await client.say(call(7))
            assert client.heard[1:] == [result(7)]
            await client.messenger.close()
            assert methods(backend) == ["initialize", "notifications/initialized", "GET", "tools/call", "DELETE"]
            for seen in backend.seen[1:]:
                assert seen.fields["mcp-session-id"] == "backend-session-7"
                assert seen.fields["mcp-protocol-version"] == "2025-06-18"
                assert seen.fields["user-agent"] == "lynx"
            assert backend.seen[2].fields["accept"] == "text/event-stream"

    run(story())


@pytest.mark.parametrize(
    ("body", "heard"),
    [
        (
            b' {"jsonrpc":"2.0",\r\n "id":1,\n"result":{"a":"\\n"}}\n',
            b'{"jsonrpc":"2.0",   "id":1, "result":{"a":"\\n"}}',
        ),
        (b'{"jsonrpc":"2.0","id":1.0,"result":{}}', b'{"jsonrpc":"2.0","id":1.0,"result":{}}'),
        (
            b'{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"m"}}',
            b'{"jsonrpc":"2.0","id":1,"error":{"code":-32600,"message":"m"}}',
        ),
        (
            b'{"jsonrpc":"2.0","error":{"code":-32600,"message":"m"}}',
            b'{"jsonrpc":"2.0","error":{"code":-32600,"message":"m"},"id":1}',
        ),
        (
            b'{"result":{"x":1e400},"extra":[1,{"id":3}],"id":1,"jsonrpc":"2.0"}',
            b'{"result":{"x":1e400},"extra":[1,{"id":3}],"id":1,"jsonrpc":"2.0"}',
        ),
    ],
)
def test_a_json_answer_becomes_one_line(body: bytes, heard: bytes) -> None:
    """Line breaks become spaces, nothing else changes; an error that names no request gets the id of the only one."""

    async def story() -> None:
        async with talking(answering("tools/call", lambda exchange: exchange.answer(body))) as (client, _):
            await client.say(call(1))
            assert client.heard == [heard]

    run(story())


@pytest.mark.parametrize("form", ["plain", "crlf", "many data lines", "two pieces", "gzip"])
def test_events_are_delivered_as_they_come(form: str) -> None:
    """A notification is heard while the answer is still awaited; other events' names and comments are not."""
    note = b'{"jsonrpc":"2.0","method":"notifications/progress","params":{"progress":1}}'

    async def story() -> None:
        heard = asyncio.Event()

        async def script(exchange: Exchange) -> None:
            if form == "gzip":
                await exchange.stream({"content-encoding": "gzip"})
                await exchange.chunk(gzip.compress(event(note)))
                await heard.wait()
                await exchange.chunk(gzip.compress(event(result(1))))
                await exchange.close_stream()
                return
            await exchange.stream()
            await exchange.chunk(b": hello\n\nevent: other\ndata: nonsense\n\nid\ndata\n\n")
            text = event(note)
            if form == "crlf":
                text = b"event: message\r\ndata: " + note + b"\r\n\r\n"
            elif form == "many data lines":
                text = b"data: " + note.replace(b",", b",\ndata: ") + b"\n\n"
            await exchange.chunk(text[:20])
            await exchange.chunk(text[20:])
            await heard.wait()
            await exchange.chunk(event(result(1)))
            await exchange.close_stream()

        async with talking(answering("tools/call", script)) as (client, _):
            asking = client.later(call(1))
            await until(lambda: bool(client.heard))
            assert not asking.done()
            heard.set()
            await asking
            assert [line.replace(b", ", b",") for line in client.heard] == [
                note.replace(b", ", b","),
                result(1).replace(b", ", b","),
            ]

    run(story())


def test_arrays_are_delivered_element_by_element() -> None:
    """In both directions of 2025-03-26: an array is posted as it is; answers come alone, from JSON and from events."""
    batch = b"[" + call("a") + b"," + call(2) + b', {"jsonrpc":"2.0","method":"notifications/x"}]'

    async def story() -> None:
        async def script(exchange: Exchange) -> None:
            if json.loads(exchange.seen.body)[0]["id"] == "a":
                await exchange.answer(b"[" + result(2) + b",\n" + result("a") + b"]")
            else:
                await exchange.stream()
                await exchange.chunk(event(b"[" + result("b") + b"]") + event(result(2)))
                await exchange.close_stream()

        async with talking(answering("array", script)) as (client, backend):
            await client.shake_hands("2025-03-26")
            client.heard.clear()
            await client.say(batch)
            assert backend.seen[-1].body == batch
            assert client.heard == [result(2), result("a")]
            await client.say(batch.replace(b'"a"', b'"b"'))
            assert client.heard[2:] == [result("b"), result(2)]

    run(story())


def test_of_an_array_only_the_missing_answers_are_missing() -> None:
    """The failure names the ids that stay unanswered, and no other."""

    async def story() -> None:
        async with talking(answering("array", lambda exchange: exchange.answer(b"[" + result(2) + b"]"))) as (
            client,
            _,
        ):
            failure = await client.fails(b"[" + call("a") + b"," + call(2) + b"," + call(3) + b"]")
            assert failure.ids == (b'"a"', b"3")
            assert client.heard == [result(2)]

    run(story())


async def no_answer(exchange: Exchange) -> None:
    """An event stream that ends too early."""
    await exchange.stream()
    await exchange.chunk(b": one\n\n")
    await exchange.close_stream()


async def cut_off(exchange: Exchange) -> None:
    """An event stream that breaks."""
    await exchange.stream()
    await exchange.chunk(event(b'{"jsonrpc":"2.0","method":"notifications/x"}'))
    exchange.reset()


async def only_comments(exchange: Exchange) -> None:
    """An event stream without a single event."""
    await exchange.stream()
    await exchange.chunk(b": one\n\n: two\n\n")
    await exchange.gone()


@pytest.mark.parametrize(
    ("script", "failure"),
    [
        (refusing("500 Internal Server Error"), FailureClass.UPSTREAM_HTTP),
        (refusing("404 Not Found"), FailureClass.UPSTREAM_HTTP),
        (refusing("302 Found"), FailureClass.UPSTREAM_PROTOCOL),
        (refusing("401 Unauthorized", error(1), "application/json"), FailureClass.UPSTREAM_HTTP),
        (
            refusing("400 Bad Request", error(1, text="backend.internal"), "application/json"),
            FailureClass.UPSTREAM_HTTP,
        ),
        (refusing("400 Bad Request", error(2), "application/json"), FailureClass.UPSTREAM_HTTP),
        (refusing("400 Bad Request", call(1), "application/json"), FailureClass.UPSTREAM_HTTP),
        (refusing("200 OK"), FailureClass.UPSTREAM_PROTOCOL),
        (refusing("202 Accepted", b"", "application/json"), FailureClass.UPSTREAM_PROTOCOL),
        (refusing("202 Accepted", b"", "text/plain"), FailureClass.UPSTREAM_PROTOCOL),
        (refusing("200 OK", b"{", "application/json"), FailureClass.UPSTREAM_PROTOCOL),
        (refusing("200 OK", result(2), "application/json"), FailureClass.UPSTREAM_PROTOCOL),
        (
            refusing("200 OK", b'{"jsonrpc":"2.0","id":1,"result":"\xff"}', "application/json"),
            FailureClass.UPSTREAM_PROTOCOL,
        ),
        (silent, FailureClass.UPSTREAM_TIMEOUT),
        (only_comments, FailureClass.UPSTREAM_TIMEOUT),
        (falls_silent, FailureClass.UPSTREAM_TIMEOUT),
        (no_answer, FailureClass.UPSTREAM_PROTOCOL),
        (cut_off, FailureClass.UPSTREAM_RESET),
    ],
)
def test_what_is_no_answer_is_a_failure_with_its_class(script: Script, failure: FailureClass) -> None:
    """Nothing hangs, nothing is swallowed: each request without an answer is told with its id, and no connection
    stays.
    """

    async def story() -> None:
        async with talking(answering("tools/call", script)) as (client, backend):
            error = await client.fails(call(1))
            assert (error.failure, error.ids) == (failure, (b"1",))
            assert not [line for line in client.heard if b'"id"' in line and b'"id": 2' not in line]
            client.upstream.close()
            await until(lambda: backend.open == 0)

    run(story())


@pytest.mark.parametrize("status", ["400 Bad Request", "404 Not Found", "500 Internal Server Error"])
@pytest.mark.parametrize("raw_id", [b"1", b"null", b""])
def test_a_jsonrpc_error_beside_a_status_is_the_answer(status: str, raw_id: bytes) -> None:
    """2026-07-28 puts its errors into 400 and 404; an error without id belongs to the request."""
    body = b'{"jsonrpc":"2.0","id":%b,"error":{"code":-32601,"message":"m"}}' % raw_id
    if not raw_id:
        body = body.replace(b'"id":,', b"")

    async def story() -> None:
        async with talking(answering("tools/call", refusing(status, body, "application/json"))) as (client, _):
            await client.say(modern_call(1)[0])
            (heard,) = client.heard
            assert json.loads(heard) == {"jsonrpc": "2.0", "id": 1, "error": {"code": -32601, "message": "m"}}

    run(story())


@pytest.mark.parametrize("form", ["json", "chunked json", "event"])
def test_a_message_that_is_too_long_is_refused(form: str) -> None:
    """The size of one message is bounded, in every form; a long one within the bound arrives."""

    async def story() -> None:
        async def script(exchange: Exchange) -> None:
            size = 70_000 if b'"name": "large"' in exchange.seen.body else 60_000
            body = result(1, text="x" * size)
            if form == "json":
                await exchange.answer(body)
                return
            await exchange.stream({} if form == "event" else {"content-type": "application/json"})
            await exchange.chunk(event(body) if form == "event" else body)
            await exchange.close_stream()

        async with talking(answering("tools/call", script), message_bytes=65_536) as (client, _):
            await client.say(call(1))
            assert len(client.heard[0]) > 60_000
            assert (await client.fails(call(1, name="large"))).failure is FailureClass.UPSTREAM_PROTOCOL

    run(story())


def test_events_that_are_no_messages_are_left_out() -> None:
    """They would break a client that reads lines; the answer still comes."""

    async def story() -> None:
        async def script(exchange: Exchange) -> None:
            await exchange.stream()
            await exchange.chunk(event(b"hello") + event(b'{"a":1}') + event(b"[1]") + event(result(1)))
            await exchange.close_stream()

        with log_lines() as log:
            async with talking(answering("tools/call", script)) as (client, _):
                await client.say(call(1))
                assert client.heard == [result(1)]
            assert log.getvalue().count("is left out") == 1

    run(story())


def test_a_redirect_on_the_same_origin_is_followed_and_remembered() -> None:
    """SDK servers ask for a missing slash; elsewhere is refused."""

    async def story() -> None:
        async def script(exchange: Exchange) -> None:
            if exchange.seen.target == "/mcp":
                elsewhere = b'"elsewhere"' in exchange.seen.body
                to = "http://127.0.0.1:9/mcp/" if elsewhere else "/mcp/"
                await exchange.answer(b"", status="307 Temporary Redirect", headers={"location": to})
            else:
                await polite(exchange)

        async with talking(script) as (client, backend):
            assert (await client.fails(call("elsewhere"))).failure is FailureClass.UPSTREAM_PROTOCOL
            await client.shake_hands()
            await client.say(call(1))
            assert client.heard == [initialized(), result(1)]
            assert [seen.target for seen in posted(backend)] == ["/mcp", "/mcp", "/mcp/", "/mcp/", "/mcp/"]

    run(story())
