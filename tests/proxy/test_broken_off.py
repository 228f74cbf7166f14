"""Answers that break off once they have begun, and clients that go away before they have them."""

from __future__ import annotations

import asyncio
import json

import pytest

from moongate.testing import Exchange
from tests.proxy.talk import call, connected, event, last_record, modern_call, pair, result, run, settled, until
from tests.proxy.test_faults import CHUNKED_JSON, JSON, head

CHUNK = b'{"jsonrpc":"2.0","id":1,"result":{"t":"' + b"m" * 70_000


@pytest.mark.parametrize("sized", [False, True])
@pytest.mark.parametrize("how", ["closes", "resets", "hangs"])
def test_a_json_body_that_breaks_off_aborts_the_connection(how: str, sized: bool) -> None:
    """Once it has begun there is no other way to say so: no final chunk, no full length."""

    async def story() -> None:
        async def script(exchange: Exchange) -> None:
            if sized:
                await exchange.send(head("200 OK", JSON, body=CHUNK, length=200_000))
            else:
                await exchange.send(CHUNKED_JSON)
                await exchange.chunk(CHUNK)
            await got.wait()
            if how == "resets":
                exchange.reset()
            elif how == "closes":
                exchange.writer.close()
            else:
                await exchange.gone()

        got = asyncio.Event()
        async with pair(script, timeout=400) as (gate, backend):
            async with connected(gate) as client:
                await client.send(call())
                answer = await client.head()
                assert answer.status == 200
                await client.reader.readexactly(1000)
                got.set()
                await client.closed()
                assert not client.raw.endswith(b"0\r\n\r\n")
                record = await last_record(gate)
                assert record["failure"] == ("upstream_timeout" if how == "hangs" else "upstream_reset")
            await settled(gate, backend)

    run(story())


BREAKS: dict[str, tuple[bytes, bytes, str, str]] = {
    # What the backend sends, what the client gets of it, how it breaks, how the client's stream ends.
    "no ids": (event(b'{"jsonrpc":"2.0","method":"notifications/x"}'), b"", "resets", "error"),
    "no ids, closed": (event(b'{"jsonrpc":"2.0","method":"notifications/x"}'), b"", "closes", "error"),
    "no ids, ended": (event(b'{"jsonrpc":"2.0","method":"notifications/x"}'), b"", "ends", "error"),
    "no ids, silent": (event(b'{"jsonrpc":"2.0","method":"notifications/x"}'), b"", "hangs", "error"),
    "no ids, in an event": (event(b'{"a":1}') + b'data: {"jso', event(b'{"a":1}'), "resets", "error"),
    "ids": (event(b"", "7"), b"", "resets", "end"),
    "ids, closed": (event(b"", "7"), b"", "closes", "end"),
    "ids, silent": (event(b"", "7"), b"", "hangs", "end"),
    "ids, in an event": (event(b"", "7") + b'id: 8\ndata: {"jso', event(b"", "7"), "resets", "end"),
    "answered": (event(result()), b"", "resets", "end"),
    "answered, ids": (event(result(), "7"), b"", "closes", "end"),
    "a long event": (b"data: " + b"x" * 300_000, b"", "resets", "abort"),
    "a long event after ids": (event(b"", "7") + b"data: " + b"x" * 300_000, b"", "resets", "abort"),
}


@pytest.mark.parametrize("name", BREAKS)
def test_an_event_stream_that_breaks_off(name: str) -> None:
    """One that carried ids is ended, for the client resumes; any other gets one JSON-RPC error event."""
    sent, wanted, how, ending = BREAKS[name]
    wanted = wanted or sent
    failures = {
        "resets": "upstream_reset",
        "closes": "upstream_reset",
        "ends": "upstream_protocol",
        "hangs": "upstream_timeout",
    }

    async def story() -> None:
        async def script(exchange: Exchange) -> None:
            await exchange.stream()
            await exchange.chunk(sent)
            await got.wait()
            if how == "resets":
                exchange.reset()
            elif how == "closes":
                exchange.writer.close()
            elif how == "ends":
                await exchange.close_stream()
            else:
                await exchange.gone()

        got = asyncio.Event()
        async with pair(script, sseReadTimeout=300) as (gate, backend):
            async with connected(gate) as client:
                await client.send(call("id-9"))
                answer = await client.head()
                assert (answer.status, answer.fields["content-type"]) == (200, "text/event-stream")
                if ending == "abort":
                    await client.piece()
                    got.set()
                    await client.closed()
                    assert not client.raw.endswith(b"0\r\n\r\n")
                else:
                    first = await client.text(wanted[-20:])
                    got.set()
                    rest = (await client.body(answer)).body
                    assert first == wanted
                    if ending == "error":
                        message = json.loads(rest.removeprefix(b"event: message\ndata: "))
                        assert message["id"] == "id-9"
                        assert message["error"]["data"] == {
                            "class": failures[how],
                            "requestId": answer.fields["x-request-id"],
                        }
                    else:
                        assert rest == b""
                record = await last_record(gate)
                assert record["status"] == 200
                assert record.get("failure") == (None if name.startswith("answered") else failures[how])
            await settled(gate, backend)

    run(story())


VANISH = ["head", "upload", "thinking", "json", "stream", "stream, silent"]


@pytest.mark.parametrize("modern", [False, True], ids=["legacy", "modern"])
@pytest.mark.parametrize("stage", VANISH)
def test_a_client_that_vanishes(stage: str, modern: bool) -> None:
    """A legacy call goes on at the backend; one of 2026-07-28 is stopped at once; the record says client_closed."""
    body, headers = modern_call() if modern else (call(), {})

    async def story() -> None:
        stopped: list[bool] = []
        here, went = asyncio.Event(), asyncio.Event()

        async def script(exchange: Exchange) -> None:
            if stage == "json":
                await exchange.send(head("200 OK", JSON, body=CHUNK, length=len(CHUNK) + 3))
            elif stage.startswith("stream"):
                await exchange.stream()
                await exchange.chunk(event(b'{"jsonrpc":"2.0","method":"notifications/x"}'))
            here.set()
            await went.wait()
            if modern:
                stopped.append(await exchange.gone())
                return
            if stage == "thinking":
                await exchange.answer(result())
            elif stage == "json":
                await exchange.send(b'"}}')
            else:
                if stage == "stream":
                    await exchange.chunk(event(b'{"jsonrpc":"2.0","method":"notifications/y"}'))
                    await asyncio.sleep(0.05)
                await exchange.chunk(event(result()))
                await exchange.close_stream()
            stopped.append(exchange.writer.is_closing())

        async with pair(script) as (gate, backend):
            async with connected(gate) as client:
                if stage == "head":
                    await client.write(b"POST /mcp/one HTTP/1.1\r\nhost: 127")
                elif stage == "upload":
                    await client.send(body[:-5], {**headers, "content-length": str(len(body))})
                else:
                    await client.send(body, headers)
                    await here.wait()
                    if stage != "thinking":
                        await client.head()
                client.vanish()
            if stage not in {"head", "upload"}:
                server = next(iter(gate.runtime.binds.values())).server
                await until(lambda: not server.connections)
                went.set()
                await until(lambda: bool(stopped))
                assert stopped == [modern]
                assert (await last_record(gate))["failure"] == "client_closed"
            elif stage == "upload":
                record = await last_record(gate)
                assert (record["failure"], record["instance"]) == ("client_closed", "one")
            await settled(gate)
            gate.runtime.plane.plan.close()
            await settled(gate, backend)

    run(story())


def test_a_get_stream_is_stopped_when_its_client_vanishes() -> None:
    """The backend sees its stream closed at once."""

    async def story() -> None:
        stopped: list[bool] = []

        async def script(exchange: Exchange) -> None:
            await exchange.stream()
            stopped.append(await exchange.gone())

        async with pair(script) as (gate, backend):
            async with connected(gate) as client:
                await client.send(None, method="GET")
                assert (await client.head()).status == 200
                client.vanish()
                await until(lambda: stopped == [True], 1.0)
            await settled(gate, backend)

    run(story())


def test_a_half_closed_client_is_gone() -> None:
    """A client that ends its sending side before its answer has vanished (documented in the server)."""

    async def story() -> None:
        stopped: list[bool] = []
        here = asyncio.Event()

        async def script(exchange: Exchange) -> None:
            here.set()
            stopped.append(await exchange.gone())

        body, headers = modern_call()
        async with pair(script) as (gate, backend), connected(gate) as client:
            await client.send(body, headers)
            await here.wait()
            client.writer.write_eof()
            await until(lambda: stopped == [True], 1.0)
            await settled(gate, backend)

    run(story())
