"""HTTP+SSE in front of HTTP+SSE: the endpoint becomes ours, everything else passes as it is."""

from __future__ import annotations

import asyncio
import gzip
import json

import pytest

from moongate.proxy import sse_session
from moongate.testing import Exchange
from tests.proxy.sse_talk import TARGET, SseServer, accept, listening, sse_pair
from tests.proxy.talk import call, connected, error, initialize, last_record, records, result, run, settled, until

NOTE = b'{"jsonrpc":"2.0","method":"notifications/initialized"}'
FORMS = {
    "/messages/?session_id=7": "/messages/?session_id=7",
    "messages?session_id=7": "/messages?session_id=7",
    "?session_id=7": "/mcp?session_id=7",
    "http://127.0.0.1:{port}/absolute?x=1": "/absolute?x=1",
    "//127.0.0.1:{port}/scheme-relative": "/scheme-relative",
}


@pytest.mark.requirement("PM-01", "PM-23")
@pytest.mark.parametrize("suffix", ["/events", "/sse"])
def test_a_whole_conversation_passes(suffix: str) -> None:
    """Initialize, the notification, tools/list and a call: posted to our address, answered on the stream."""

    async def story() -> None:
        async with sse_pair() as (gate, server), listening(gate, f"/mcp/one{suffix}") as client:
            assert client.head.fields["content-type"] == "text/event-stream"
            assert client.head.fields["x-accel-buffering"] == "no"
            assert client.head.fields["cache-control"] == "no-cache"
            assert client.address.startswith("/mcp/one/messages?session=")
            answer = await client.post(initialize("2024-11-05"))
            assert (answer.status, answer.body) == (202, b"Accepted")
            assert (await client.message())["result"]["protocolVersion"] == "2024-11-05"
            assert (await client.post(NOTE)).status == 202
            assert (await client.post(call(1, "tools/list"))).status == 202
            assert (await client.message())["result"]["tools"][0]["name"] == "moonrise"
            assert (await client.post(call(2))).status == 202
            assert await client.event() == b"event: message\r\ndata: " + result(2) + b"\r\n\r\n"
            assert server.posts == [TARGET] * 4
            assert b"backend-7" not in client.stream.raw + client.poster.raw
            assert str(server.backend.port).encode() not in client.stream.raw + client.poster.raw

    run(story())


@pytest.mark.requirement("PM-26")
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("variant", ["plain", "crlf", "split", "gzip"])
def test_the_endpoint_points_to_the_gateway_in_every_form(form: str, variant: str) -> None:
    """Relative, absolute, query-only, without a slash, with CRLF, byte by byte, compressed: and a POST gets there."""

    async def story() -> None:
        server = SseServer(None)
        async with sse_pair(server) as (gate, _):
            data = form.format(port=server.backend.port).encode()
            first = b": hello\n\nevent: endpoint\ndata: " + data + b"\n\n"
            if variant == "crlf":
                first = first.replace(b"\n", b"\r\n")

            async def write() -> None:
                stream = await server.streams.get()
                await stream.stream({"content-encoding": "gzip"} if variant == "gzip" else None)
                if variant == "gzip":
                    await stream.chunk(gzip.compress(first))
                elif variant == "split":
                    for byte in first:
                        await stream.chunk(bytes([byte]))
                else:
                    await stream.chunk(first)

            writing = asyncio.gather(write())
            async with connected(gate) as client, connected(gate) as poster:
                await client.send(method="GET", path="/mcp/one/sse")
                head = await client.head()
                assert "content-encoding" not in head.fields
                text = await client.text(b"/messages?session=")
                while not text.endswith(b"\n\n"):
                    text += await client.piece()
                await writing
                address = text.rstrip().rpartition(b"data: ")[2].decode()
                assert address.startswith("/mcp/one/messages?session=")
                assert (await poster.ask(NOTE, path=address)).status == 202
                assert server.posts == [FORMS[form]]

    run(story())


@pytest.mark.requirement("PM-27")
def test_everything_else_passes_byte_for_byte() -> None:
    """Events whose data begins with a slash, other names, ids, comments, line ends, half an event at the end."""

    async def story() -> None:
        texts = [
            b"event: message\ndata: /messages/?session_id=backend-7\n\n",
            b"data: /sse\n\n",
            b"event: endpoints\r\ndata: /x\r\n\r\n",
            b": comment\n\n",
            b"id: 4\nretry: 100\ndata: one\ndata: two\n\n",
            b'event: message\ndata: {"jsonrpc":"2.0","id":9,"result":{"text":"event: endpoint"}}\n\n',
            b"data: " + b"/long" * 60_000 + b"\n\n",
            b"event: message\ndata: half",
        ]
        async with sse_pair() as (gate, server), listening(gate) as client:
            stream = await server.streams.get()
            for text in texts:
                await stream.chunk(text)
            await stream.close_stream()
            assert await client.ended() == b"".join(texts)

    run(story())


@pytest.mark.requirement("PM-26")
def test_a_later_endpoint_event_is_rewritten_too() -> None:
    """Also in the middle of the stream, and in a field order that nobody writes."""

    async def story() -> None:
        async with sse_pair() as (gate, server), listening(gate) as client:
            stream = await server.streams.get()
            await stream.chunk(b"data: /other?session_id=backend-8\nevent: endpoint\n\n")
            event = await client.event()
            assert event.startswith(b"event: endpoint\ndata: /mcp/one/messages?session=")
            client.address = event.rstrip().rpartition(b" ")[2].decode()
            assert (await client.post(NOTE)).status == 202
            assert server.posts == ["/other?session_id=backend-8"]
            assert b"backend-8" not in client.stream.raw

    run(story())


@pytest.mark.requirement("PM-18", "PM-19")
def test_silence_ends_the_stream_and_any_byte_resets_it() -> None:
    """`sseReadTimeout` of half a second: comments every 0.3 s keep the stream; then it ends after about 0.5 s."""

    async def story() -> None:
        async with sse_pair(sseReadTimeout=500) as (gate, server), listening(gate) as client:
            stream = await server.streams.get()
            for _ in range(5):
                await stream.chunk(b":\n\n")
                assert await client.event() == b":\n\n"
                await stream.stays(0.3)
            started = asyncio.get_running_loop().time()
            assert await client.ended() == b""
            assert 0.05 < asyncio.get_running_loop().time() - started < 0.6
            assert await stream.gone()
            record = await last_record(gate, 2)
            assert (record["phase"], record["failure"]) == ("close", "upstream_timeout")

    run(story())


def test_the_first_event_is_due_in_time() -> None:
    """Head and comments prove nothing: 504 after `timeout`, as long as nothing has left."""

    async def story() -> None:
        server = SseServer(None)
        async with sse_pair(server, timeout=400) as (gate, _), connected(gate) as client:
            await client.send(method="GET", path="/mcp/one/sse")
            stream = await server.streams.get()
            await stream.stream()
            await stream.chunk(b": hello\n\n")
            assert (await client.answer()).failure == (504, "upstream_timeout")
            assert await stream.gone()

    run(story())


@pytest.mark.parametrize(
    ("status", "media", "expected"),
    [
        ("404 Not Found", "text/plain", (404, "upstream_http")),
        ("401 Unauthorized", "text/plain", (502, "upstream_http")),
        ("500 Internal Server Error", "text/html", (500, "upstream_http")),
        ("302 Found", "text/html", (502, "upstream_http")),
        ("200 OK", "application/json", (502, "upstream_protocol")),
        ("200 OK", "text/event-stream", (502, "upstream_protocol")),
    ],
)
def test_what_is_no_stream_is_answered_by_class(status: str, media: str, expected: tuple[int, str]) -> None:
    """The backend's error status, our class; and what is no event stream with an endpoint is a bad gateway."""

    async def story() -> None:
        server = SseServer(None)

        async def script(exchange: Exchange) -> None:
            await exchange.answer(
                b"data: 1\n\n", status=status, headers={"content-type": media, "location": "http://x.test"}
            )

        server.backend.script = script
        async with sse_pair(server) as (gate, _), connected(gate) as client:
            answer = await client.ask(method="GET", path="/mcp/one/sse")
            assert answer.failure == expected
            assert (await last_record(gate))["failure"] == expected[1]

    run(story())


@pytest.mark.parametrize("clean", [True, False])
def test_a_backend_that_closes_ends_the_clients_stream(clean: bool) -> None:
    """Properly or not: the client sees a proper end at once, and the calls that wait are recorded."""

    async def story() -> None:
        server = SseServer()
        server.answer = lambda _: None
        async with sse_pair(server) as (gate, _), listening(gate) as client:
            stream = await server.streams.get()
            assert (await client.post(call(5))).status == 202
            if clean:
                await stream.close_stream()
            else:
                stream.reset()
            assert await client.ended() == b""
            await until(lambda: len(records(gate)) == 3)
            pending, closing = records(gate)[1:]
            assert (pending["method"], pending["failure"]) == ("tools/call", "upstream_reset")
            assert closing["phase"] == "close"

    run(story())


def test_a_client_that_goes_away_closes_the_backends_stream() -> None:
    """At once; nothing is left, and its calls in flight are recorded as client_closed."""

    async def story() -> None:
        server = SseServer()
        server.answer = lambda _: None
        async with sse_pair(server) as (gate, _):
            async with listening(gate) as client:
                stream = await server.streams.get()
                assert (await client.post(call(5))).status == 202
                client.stream.vanish()
                assert await stream.gone()
                await until(lambda: len(records(gate)) == 3)
                assert records(gate)[1]["failure"] == "client_closed"
                assert "failure" not in records(gate)[2]
                assert gate.runtime.plane.doors.streams == 0
            await settled(gate)

    run(story())


def test_a_call_is_recorded_when_its_answer_passes() -> None:
    """Method, tool, outcome and client of each call, before the event leaves; notifications when they are accepted."""

    async def story() -> None:
        server = SseServer()
        async with sse_pair(server) as (gate, _), listening(gate) as client:
            await client.post(initialize("2024-11-05"))
            await client.message()
            await client.post(NOTE)
            server.answer = lambda message: result(message["id"], content=[], isError=True)
            await client.post(call("a"))
            await client.message()
            server.answer = lambda message: error(message["id"], -32602)
            await client.post(call(7))
            await client.message()
            found = records(gate)
            assert [record["method"] for record in found] == [
                "",
                "initialize",
                "notifications/initialized",
                "tools/call",
                "tools/call",
            ]
            assert found[0]["phase"] == "open"
            assert (found[3]["failure"], found[3]["target"], found[3]["client"]) == ("tool_error", "moonrise", "lynx/3")
            assert (found[4]["failure"], found[4]["code"]) == ("jsonrpc_error", -32602)
            assert {record["status"] for record in found[1:]} == {202}
            assert {record["revision"] for record in found[3:]} == {"2024-11-05"}
            assert len({record["requestId"] for record in found}) == 5
            assert "session" not in json.dumps(found)

    run(story())


@pytest.mark.parametrize("last", [False, True])
def test_a_long_answer_is_recorded_too(last: bool) -> None:
    """One that passes in parts: its id stands before the result or behind it."""

    async def story() -> None:
        server = SseServer()
        body = b'"result":{"content":[{"type":"text","text":"' + b"m" * 300_000 + b'"}],"isError":true}'
        long = b"{" + body + b',"jsonrpc":"2.0","id":8}' if last else b'{"jsonrpc":"2.0","id":8,' + body + b"}"
        server.answer = lambda _: long
        async with sse_pair(server) as (gate, _), listening(gate) as client:
            await client.post(call(8))
            assert (await client.message())["id"] == 8
            record = records(gate)[-1]
            assert (record["method"], record["failure"]) == ("tools/call", "tool_error")

    run(story())


def test_an_answer_on_the_post_itself_passes_and_is_recorded_once() -> None:
    """Some servers answer there: status and body are passed on as they are."""

    async def story() -> None:
        server = SseServer()
        server.answer = lambda _: None

        async def posted(exchange: Exchange) -> None:
            await exchange.answer(error(3, -32000))

        server.posted = posted
        async with sse_pair(server) as (gate, _), listening(gate) as client:
            answer = await client.post(call(3))
            assert (answer.status, answer.body) == (200, error(3, -32000))
            record = await last_record(gate, 2)
            assert (record["code"], record["status"]) == (-32000, 200)

    run(story())


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("404 Not Found", (404, "upstream_http")),
        ("400 Bad Request", (400, "upstream_http")),
        ("403 Forbidden", (502, "upstream_http")),
        ("302 Found", (502, "upstream_protocol")),
    ],
)
def test_a_message_that_the_backend_refuses(status: str, expected: tuple[int, str]) -> None:
    """Its status, our words, one record; the stream goes on."""

    async def story() -> None:
        server = SseServer()
        server.answer = lambda _: None

        async def posted(exchange: Exchange) -> None:
            await exchange.answer(b"/secret/path", status=status, headers={"content-type": "text/plain"})

        server.posted = posted
        async with sse_pair(server) as (gate, _), listening(gate) as client:
            answer = await client.post(call(3))
            assert answer.failure == expected
            assert answer.message["id"] == 3
            assert b"secret" not in answer.body
            assert (await last_record(gate, 2))["failure"] == expected[1]
            server.posted = accept
            assert (await client.post(NOTE)).status == 202

    run(story())


def test_calls_that_are_never_answered_do_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that cancels much stays welcome: the oldest calls are recorded, the newest are awaited."""
    monkeypatch.setattr(sse_session, "MAX_PENDING", 2)

    async def story() -> None:
        server = SseServer()
        server.answer = lambda message: result(5) if message["id"] == 5 else None
        async with sse_pair(server) as (gate, _), listening(gate) as client:
            for number in range(1, 6):
                assert (await client.post(call(number))).status == 202
            assert (await client.message())["id"] == 5
            found = records(gate)[1:]
            assert [(record["method"], record.get("failure")) for record in found] == [("tools/call", None)] * 4

    run(story())


def test_comments_keep_a_quiet_stream_alive() -> None:
    """At the interval that the instance names, between events only."""

    async def story() -> None:
        async with sse_pair(keepAlive="200ms") as (gate, server), listening(gate) as client:
            assert await client.event() == b": keep-alive\n\n"
            stream = await server.streams.get()
            await stream.chunk(b"data: " + b"x" * 100_000)  # a part of an event is under way
            await stream.chunk(b"y" * 10)
            await stream.stays(0.5)
            await stream.chunk(b"\n\n")
            assert b"keep-alive" not in await client.event()

    run(story())


@pytest.mark.requirement("PM-13")
def test_the_operators_credential_goes_with_the_get_and_every_post() -> None:
    """Byte for byte, and the client's own stays here."""

    async def story() -> None:
        secret = "Bearer Mo0n+/=~ x"
        tokens = {"tokens": [{"name": "alice", "token": "alice-token"}]}
        headers = {"Authorization": secret}
        alice = {"authorization": "Bearer alice-token", "cookie": "a=b"}
        async with (
            sse_pair(gateway_block=tokens, headers=headers) as (gate, server),
            listening(gate, headers=alice) as client,
        ):
            assert (await client.post(initialize())).status == 202
            assert (await client.post(NOTE)).status == 202
            assert [seen.method for seen in server.backend.seen] == ["GET", "POST", "POST"]
            assert {seen.fields["authorization"] for seen in server.backend.seen} == {secret}
            assert all(b"alice" not in seen.head and b"cookie" not in seen.head for seen in server.backend.seen)
            assert server.backend.seen[0].fields["accept"] == "text/event-stream"

    run(story())


def test_a_message_needs_nothing_but_its_address() -> None:
    """The stream is at another worker, which has the same key: the POST goes through and is recorded at once."""

    async def story() -> None:
        key = {"MOONGATE_KEY": "ab" * 32}
        server = SseServer()
        async with (
            sse_pair(server, environ=key) as (gate, _),
            sse_pair(server, environ=key) as (other, _),
            listening(gate) as client,
            connected(other) as elsewhere,
        ):
            assert (await elsewhere.ask(call(4), path=client.address)).status == 202
            assert (await client.message())["id"] == 4
            assert (await last_record(other))["status"] == 202

    run(story())


def test_a_draining_gateway_ends_streams_properly() -> None:
    """Both sides see an end."""

    async def story() -> None:
        async with sse_pair() as (gate, server), listening(gate) as client:
            stream = await server.streams.get()
            stopping = asyncio.gather(next(iter(gate.runtime.binds.values())).server.close(2.0))
            assert await client.ended() == b""
            assert await stream.gone()
            await stopping

    run(story())
