"""The HTTP+SSE door in front of servers that speak something else: addresses, messages both ways, ends, limits."""

from __future__ import annotations

import asyncio
import json

import pytest

from moongate.proxy import sse, sse_session
from moongate.testing import Exchange
from tests.bridge.talking import hosting
from tests.proxy.sse_talk import listening, open_session
from tests.proxy.talk import (
    call,
    connected,
    error,
    event,
    initialize,
    initialized,
    last_record,
    log_lines,
    pair,
    polite,
    records,
    result,
    run,
    settled,
    until,
)

NOTE = b'{"jsonrpc":"2.0","method":"notifications/initialized"}'
TOKENS = {"tokens": [{"name": "alice", "token": "alice-token"}, {"name": "bob", "token": "bob-token"}]}
ALICE = {"authorization": "Bearer alice-token"}
BOB = {"authorization": "Bearer bob-token"}


@pytest.mark.requirement("PM-23")
@pytest.mark.parametrize("suffix", ["/events", "/sse"])
def test_a_whole_conversation_in_front_of_streamable_http(suffix: str) -> None:
    """Initialize, call, a message of the server's own on the GET stream; the session is ended when the client goes."""

    async def story() -> None:
        listened: asyncio.Queue[Exchange] = asyncio.Queue()

        async def script(exchange: Exchange) -> None:
            if exchange.seen.method != "GET":
                await polite(exchange)
                return
            await exchange.stream()
            listened.put_nowait(exchange)
            await exchange.gone()

        async with pair(script) as (gate, backend):
            async with listening(gate, f"/mcp/one{suffix}") as client:
                fields = client.head.fields
                assert fields["content-type"] == "text/event-stream"
                assert (fields["cache-control"], fields["x-accel-buffering"]) == ("no-cache", "no")
                await open_session(client)
                answer = await client.post(call("x"))
                assert (answer.status, answer.body) == (202, b"")
                assert (await client.message())["id"] == "x"
                stream = await listened.get()
                note = b'{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}'
                await stream.chunk(event(note))
                assert await client.event() == b"event: message\ndata: " + note + b"\n\n"
                ids = {seen.fields.get("mcp-session-id") for seen in backend.seen[1:]}
                assert ids == {"backend-session-7"}
                assert b"backend-session-7" not in client.stream.raw + client.poster.raw
            await until(lambda: backend.seen[-1].method == "DELETE")
            await settled(gate)

    run(story())


def test_a_question_of_the_server_is_answered_while_its_call_waits() -> None:
    """Sampling in the middle of a call: on the stream, answered by a POST, then the result."""

    async def story() -> None:
        answered = asyncio.Event()

        async def script(exchange: Exchange) -> None:
            message = json.loads(exchange.seen.body or b"{}")
            if message.get("method") == "tools/call":
                await exchange.stream()
                await exchange.chunk(event(call(77, "sampling/createMessage", messages=[])))
                await answered.wait()
                await exchange.chunk(event(result(message["id"])))
                await exchange.close_stream()
            elif message.get("id") == 77:
                answered.set()
                await exchange.answer(b"", status="202 Accepted")
            else:
                await polite(exchange)

        async with pair(script) as (gate, _), listening(gate) as client:
            await open_session(client)
            assert (await client.post(call(5))).status == 202
            question = await client.message()
            assert question["method"] == "sampling/createMessage"
            assert (await client.post(b'{"jsonrpc":"2.0","method":"notifications/progress","params":{}}')).status == 202
            assert (await client.post(result(77))).status == 202
            assert (await client.message())["id"] == 5

    run(story())


def test_a_failure_is_told_on_the_stream_with_the_id_of_its_call() -> None:
    """502 in front, or a backend that breaks off: a JSON-RPC error with class and request id; the stream goes on."""

    async def story() -> None:
        async def script(exchange: Exchange) -> None:
            if b"tools/call" in exchange.seen.body:
                exchange.reset()
            else:
                await polite(exchange)

        async with pair(script) as (gate, _), listening(gate) as client:
            await open_session(client)
            with log_lines():
                answer = await client.post(call("broken"))
            assert answer.status == 202
            message = await client.message()
            assert message["id"] == "broken"
            assert message["error"]["data"] == {
                "class": "upstream_reset",
                "requestId": answer.fields["x-request-id"],
            }
            record = records(gate)[-1]
            assert record["requestId"] == answer.fields["x-request-id"]
            assert (record["failure"], record["target"]) == ("upstream_reset", "moonrise")
            assert (await client.post(call(2, "ping"))).status == 202
            assert (await client.message())["id"] == 2

    run(story())


def test_calls_are_recorded_with_their_outcome() -> None:
    """One record for each message, in the order in which they ended; the stream's own two besides."""

    async def story() -> None:
        async def script(exchange: Exchange) -> None:
            if b"tools/call" in exchange.seen.body:
                await exchange.answer(error(json.loads(exchange.seen.body)["id"], -32602))
            else:
                await polite(exchange)

        async with pair(script) as (gate, _):
            async with listening(gate) as client:
                await open_session(client)
                await client.post(call(2))
                await client.message()
                client.stream.vanish()
                await until(lambda: len(records(gate)) == 5)
            found = records(gate)
            assert [record.get("phase", record["method"]) for record in found] == [
                "open",
                "initialize",
                "notifications/initialized",
                "tools/call",
                "close",
            ]
            assert (found[3]["code"], found[3]["client"], found[3]["revision"]) == (-32602, "lynx/3", "2024-11-05")
            assert "failure" not in found[4]

    run(story())


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 400),
        (b'{"jsonrpc":"2.0","id":1,"id":2,"method":"x"}', 400),
        (b'[{"jsonrpc":"2.0","id":1,"method":"ping"}]', 400),
        (b'{"jsonrpc":"2.0","id":1,"method":"' + b"x" * 3000 + b'"}', 413),
    ],
)
def test_messages_are_judged_like_every_post(body: bytes, status: int) -> None:
    """Malformed, ambiguous, an array, too large: refused, and the stream is none the worse."""

    async def story() -> None:
        block = {"limits": {"bodyBytes": 2000, "drainTime": "1s"}}
        async with pair(polite, gateway_block=block) as (gate, _), listening(gate) as client:
            await open_session(client)
            assert (await client.post(body)).status == status
            async with connected(gate) as client.poster:
                assert (await client.post(call(2))).status == 202
                assert (await client.message())["id"] == 2

    run(story())


def test_a_client_that_goes_away_leaves_nothing() -> None:
    """In the middle of a call: the session ends at the backend, the call is recorded, no task or connection is left."""

    async def story() -> None:
        waiting = asyncio.Event()
        held = asyncio.Event()

        async def script(exchange: Exchange) -> None:
            if b"tools/call" in exchange.seen.body:
                waiting.set()
                await held.wait()
            await polite(exchange)

        async with pair(script) as (gate, backend):
            async with listening(gate) as client:
                await open_session(client)
                await client.post(call(2))
                await waiting.wait()
                client.stream.vanish()
                await until(lambda: len(records(gate)) == 5)
                assert records(gate)[3]["failure"] == "client_closed"
            held.set()
            await until(lambda: any(seen.method == "DELETE" for seen in backend.seen))
            await settled(gate)
            doors = gate.runtime.plane.doors
            await until(lambda: not len(doors.tasks))
            assert doors.streams == 0

    run(story())


def test_comments_keep_a_quiet_stream_alive() -> None:
    """Between events, at the instance's interval; without one there is a default."""

    async def story() -> None:
        async with pair(polite, keepAlive="200ms") as (gate, _), listening(gate) as client:
            assert await client.event() == b": keep-alive\n\n"
            assert await client.event() == b": keep-alive\n\n"

    run(story())
    assert 5 <= sse_session.KEEPALIVE_SECONDS <= 25


def test_a_client_that_does_not_read_holds_up_its_server() -> None:
    """Back-pressure: what is not delivered stays at the backend, not in memory."""

    async def story() -> None:
        big = event(b'{"jsonrpc":"2.0","method":"notifications/message","params":{"data":"' + b"m" * 1_000_000 + b'"}}')
        sent = 0

        async def script(exchange: Exchange) -> None:
            nonlocal sent
            if exchange.seen.method != "GET":
                await polite(exchange)
                return
            await exchange.stream()
            while sent < 40:
                await exchange.chunk(big)
                sent += 1
            await exchange.gone()

        async with pair(script) as (gate, _), listening(gate) as client:
            client.stream.reader._limit = 1 << 16  # type: ignore[attr-defined]
            await open_session(client)
            await until(lambda: sent > 1)
            before = -1
            while sent != before:
                before = sent
                await asyncio.sleep(0.3)
            assert sent < 30

            async def read_all() -> None:
                for _ in range(40):
                    assert (await client.message())["method"] == "notifications/message"

            await read_all()
            assert sent == 40

    run(story())


def test_streams_and_calls_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The third stream of a route is refused while two are open, as is the third call while two are unanswered."""
    monkeypatch.setattr(sse, "MAX_STREAMS", 2)
    monkeypatch.setattr(sse_session, "MAX_MESSAGES", 2)

    async def story() -> None:
        held = asyncio.Event()

        async def script(exchange: Exchange) -> None:
            if b"tools/call" in exchange.seen.body:
                await held.wait()
            await polite(exchange)

        async with pair(script) as (gate, _), listening(gate) as client:
            await open_session(client)
            async with listening(gate), connected(gate) as third:
                answer = await third.ask(method="GET", path="/mcp/one/sse")
                assert answer.failure == (503, "rate_limited")
            await until(lambda: gate.runtime.plane.doors.streams == 1)
            async with listening(gate):
                pass
            for number in (1, 2):
                assert (await client.post(call(number))).status == 202
            answer = await client.post(call(3))
            assert answer.failure == (429, "rate_limited")
            held.set()
            assert {(await client.message())["id"] for _ in range(2)} == {1, 2}

    run(story())


def test_one_id_used_twice_is_recorded_twice() -> None:
    """A client that repeats an id before the first is answered: no record is lost."""

    async def story() -> None:
        held = asyncio.Event()

        async def script(exchange: Exchange) -> None:
            if b"tools/call" in exchange.seen.body:
                await held.wait()
            await polite(exchange)

        async with pair(script) as (gate, _), listening(gate) as client:
            await open_session(client)
            await client.post(call(4))
            await client.post(call(4))
            held.set()
            await client.message()
            await client.message()
            await until(lambda: [record["method"] for record in records(gate)].count("tools/call") == 2)

    run(story())


def test_a_draining_gateway_ends_streams_and_sessions() -> None:
    """The client sees a proper end, the backend a DELETE."""

    async def story() -> None:
        async with pair(polite) as (gate, backend), listening(gate) as client:
            await open_session(client)
            stopping = asyncio.gather(next(iter(gate.runtime.binds.values())).server.close(2.0))
            assert await client.ended() == b""
            await stopping
            await until(lambda: backend.seen[-1].method == "DELETE")
            assert (await last_record(gate, 4))["phase"] == "close"

    run(story())


def test_the_handshake_of_another_revision_is_the_servers_to_judge() -> None:
    """The door hides nothing: what the server negotiates is what the client gets."""

    async def story() -> None:
        async def script(exchange: Exchange) -> None:
            if b'"initialize"' in exchange.seen.body:
                await exchange.answer(initialized("2025-11-25"))
            else:
                await polite(exchange)

        async with pair(script) as (gate, backend), listening(gate) as client:
            await client.post(initialize("2024-11-05"))
            assert (await client.message())["result"]["protocolVersion"] == "2025-11-25"
            await client.post(NOTE)
            await until(lambda: len(backend.seen) >= 2)
            assert backend.seen[1].fields["mcp-protocol-version"] == "2025-11-25"

    run(story())


@pytest.mark.parametrize("spelt", ["1e400", "-1E+999"])
def test_an_id_that_cannot_be_read_is_recorded_like_any_other(spelt: str) -> None:
    """A number beyond all that we know: answered, failed, or left alone by its client."""
    body = b'{"jsonrpc":"2.0","id":%b,"method":"tools/call","params":{"name":"moonrise"}}' % spelt.encode()

    async def story() -> None:
        held, waiting = asyncio.Event(), asyncio.Event()
        calls = 0

        async def script(exchange: Exchange) -> None:
            nonlocal calls
            if b"tools/call" not in exchange.seen.body:
                await polite(exchange)
                return
            calls += 1
            if calls == 1:
                await exchange.answer(b'{"jsonrpc":"2.0","id":%b,"result":{"isError":true}}' % spelt.encode())
            elif calls == 2:
                exchange.reset()
            else:
                waiting.set()
                await held.wait()

        async with pair(script) as (gate, _):
            async with listening(gate) as client:
                await open_session(client)
                assert (await client.post(body)).status == 202
                assert b'"id":%b,"result"' % spelt.encode() in await client.event()
                assert records(gate)[-1]["failure"] == "tool_error"
                with log_lines():
                    await client.post(body)
                assert b'"id":%b,"error"' % spelt.encode() in await client.event()
                assert records(gate)[-1]["failure"] == "upstream_reset"
                await client.post(body)
                await waiting.wait()
                client.stream.vanish()
                await until(lambda: len(records(gate)) == 7)
            held.set()
            found = [(record["method"], record.get("failure")) for record in records(gate)[3:6]]
            assert found == [("tools/call", kind) for kind in ("tool_error", "upstream_reset", "client_closed")]

    run(story())


def test_a_call_that_is_not_awaited_is_recorded_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """One too many to await: no call goes without a record, and all are told how they ended."""
    monkeypatch.setattr(sse_session, "MAX_PENDING", 1)

    async def story() -> None:
        async def script(exchange: Exchange) -> None:
            if b"tools/call" in exchange.seen.body:
                arrived.append(exchange)
                await held.wait()
                exchange.reset()
            else:
                await polite(exchange)

        arrived: list[Exchange] = []
        held = asyncio.Event()
        async with pair(script) as (gate, _), listening(gate) as client:
            await open_session(client)
            for number in (1, 2):
                await client.post(call(number))
            await until(lambda: len(arrived) == 2)
            with log_lines():
                held.set()
                assert {(await client.message())["id"] for _ in range(2)} == {1, 2}
            found = [record.get("failure") for record in records(gate) if record["method"] == "tools/call"]
            assert found == [None, "upstream_reset"]

    run(story())


def test_a_process_that_ends_in_a_call_is_named_as_the_cause() -> None:
    """Also where the call has reported progress, so that its stream could be resumed from another server."""

    async def story() -> None:
        async with hosting() as gate, listening(gate) as client:
            await open_session(client)
            await client.post(call(5, name="hold", arguments={"tell": True}, _meta={"progressToken": "t"}))
            assert (await client.message())["method"] == "notifications/progress"
            with log_lines():
                await client.post(call(6, name="crash", arguments={"last": "bye"}))
                told = [await client.message() for _ in range(2)]
            assert {(message["id"], message["error"]["data"]["class"]) for message in told} == {
                (5, "process_exit"),
                (6, "process_exit"),
            }
            for record in records(gate)[-2:]:
                assert record["failure"] == "process_exit"
                assert "exit code" in record["detail"]

    run(story())
