"""Every way in which a backend fails: its class and status, promptly, in answer and record, and nothing is left behind."""

from __future__ import annotations

import asyncio
import gzip
import json
import time
from collections.abc import Awaitable, Callable

import pytest

from moongate.testing import Backend, Exchange, gateway
from tests.proxy.talk import (
    call,
    config,
    connected,
    error,
    event,
    last_record,
    modern_call,
    pair,
    result,
    run,
    settled,
    until,
)

Script = Callable[[Exchange], Awaitable[None]]

HTML = b"<html><body>Gateway 10.9.8.7 is sad</body></html>"


def raw(data: bytes, *, close: bool = False, reset: bool = False) -> Script:
    """Send bytes, then close, reset, or wait until the gateway closes."""

    async def script(exchange: Exchange) -> None:
        if data:
            await exchange.send(data)
        if reset:
            exchange.reset()
        elif close:
            exchange.writer.close()
        else:
            await exchange.gone()

    return script


def head(status: str, *lines: str, body: bytes = b"", length: int | None = None) -> bytes:
    """An answer's bytes; `length` lies about the body."""
    size = len(body) if length is None else length
    text = "".join(f"{line}\r\n" for line in lines)
    return f"HTTP/1.1 {status}\r\n{text}content-length: {size}\r\n\r\n".encode() + body


JSON = "content-type: application/json"
CHUNKED_JSON = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
EVENTS = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
GZIP = "content-encoding: gzip"

# What the backend does -> status and class. Nothing of an answer has left when these happen.
CASES: dict[str, tuple[Script, int, str]] = {
    "closes before its head": (raw(b"", close=True), 502, "upstream_reset"),
    "resets before its head": (raw(b"", reset=True), 502, "upstream_reset"),
    "closes in its head": (raw(b"HTTP/1.1 200 OK\r\ncontent-ty", close=True), 502, "upstream_reset"),
    "resets in its head": (raw(b"HTTP/1.1 200 OK\r\ncontent-ty", reset=True), 502, "upstream_reset"),
    "closes in a short body": (raw(head("200 OK", JSON, body=b'{"jso', length=99), close=True), 502, "upstream_reset"),
    "resets in a short body": (raw(head("200 OK", JSON, body=b'{"jso', length=99), reset=True), 502, "upstream_reset"),
    "resets before the body": (raw(CHUNKED_JSON, reset=True), 502, "upstream_reset"),
    "closes before the first event": (raw(EVENTS, close=True), 502, "upstream_reset"),
    "resets in the first event": (raw(EVENTS + b"9\r\ndata: {\"j\r\n", reset=True), 502, "upstream_reset"),
    "hangs before its head": (raw(b""), 504, "upstream_timeout"),
    "hangs in its head": (raw(b"HTTP/1.1 200 OK\r\n"), 504, "upstream_timeout"),
    "hangs after its head": (raw(head("200 OK", JSON, length=40)), 504, "upstream_timeout"),
    "hangs after a chunked head": (raw(CHUNKED_JSON), 504, "upstream_timeout"),
    "hangs after an event stream's head": (raw(EVENTS), 504, "upstream_timeout"),
    "hangs after an interim response": (raw(b"HTTP/1.1 103 Early Hints\r\n\r\n"), 504, "upstream_timeout"),
    "hangs in a short body": (raw(head("200 OK", JSON, body=b'{"jso', length=99)), 504, "upstream_timeout"),
    "sends garbage": (raw(b"\x00\x01\x02 moon\r\n\r\n"), 502, "upstream_protocol"),
    "sends garbage in its status": (raw(b"HTTP/1.1 2x0 OK\r\n\r\n"), 502, "upstream_protocol"),
    "speaks HTTP/2": (raw(b"HTTP/2 200\r\n\r\n"), 502, "upstream_protocol"),
    "sends a bad header": (raw(b"HTTP/1.1 200 OK\r\nbad header: x\r\n\r\n"), 502, "upstream_protocol"),
    "ends lines with LF": (raw(b"HTTP/1.1 200 OK\ncontent-length: 2\n\n{}"), 502, "upstream_protocol"),
    "gives two lengths": (raw(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n{}"), 502, "upstream_protocol"),
    "gives length and chunks": (
        raw(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"),
        502,
        "upstream_protocol",
    ),
    "sends a bad chunk": (raw(CHUNKED_JSON + b"zz\r\n"), 502, "upstream_protocol"),
    "sends an endless head": (raw(b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 20_000), 502, "upstream_protocol"),
    "switches protocols": (raw(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n"), 502, "upstream_protocol"),
    "answers an empty 200": (raw(head("200 OK", JSON)), 502, "upstream_protocol"),
    "answers an empty 200 without type": (raw(head("200 OK")), 502, "upstream_protocol"),
    "answers an empty chunked 200": (raw(CHUNKED_JSON + b"0\r\n\r\n"), 502, "upstream_protocol"),
    "answers 204": (raw(b"HTTP/1.1 204 No Content\r\n\r\n"), 502, "upstream_protocol"),
    "answers 200 with a page": (raw(head("200 OK", "content-type: text/html", body=HTML)), 502, "upstream_protocol"),
    "answers 200 with text": (raw(head("200 OK", "content-type: text/plain", body=result())), 502, "upstream_protocol"),
    "answers JSON that is none": (raw(head("200 OK", JSON, body=HTML)), 502, "upstream_protocol"),
    "answers JSON cut short": (raw(head("200 OK", JSON, body=result()[:-3])), 502, "upstream_protocol"),
    "answers a request with 202": (raw(head("202 Accepted")), 502, "upstream_protocol"),
    "answers a request with 202 and a type": (raw(head("202 Accepted", JSON)), 502, "upstream_protocol"),
    "ends its event stream without a word": (raw(EVENTS + b"0\r\n\r\n"), 502, "upstream_protocol"),
    "sends a bad chunk for an event": (raw(EVENTS + b"-1\r\n"), 502, "upstream_protocol"),
    "answers 301": (raw(head("301 Moved Permanently", "location: /mcp/")), 502, "upstream_protocol"),
    "answers 302": (raw(head("302 Found", "location: http://10.9.8.7/")), 502, "upstream_protocol"),
    "answers 303": (raw(head("303 See Other", "location: /mcp/")), 502, "upstream_protocol"),
    "answers 304": (raw(b"HTTP/1.1 304 Not Modified\r\n\r\n"), 502, "upstream_protocol"),
    "answers 307 without a place": (raw(head("307 Temporary Redirect")), 502, "upstream_protocol"),
    "redirects to another origin": (raw(head("307 Temporary Redirect", "location: http://127.0.0.2:9/mcp")), 502, "upstream_protocol"),
    "redirects to another scheme": (raw(head("308 Permanent Redirect", "location: https://127.0.0.1/mcp")), 502, "upstream_protocol"),
    "redirects for ever": (raw(head("307 Temporary Redirect", "location: /mcp")), 502, "upstream_protocol"),
    "answers 401": (raw(head("401 Unauthorized", JSON, 'www-authenticate: Bearer realm="10.9.8.7"', body=error())), 502, "upstream_http"),
    "answers 403": (raw(head("403 Forbidden", "content-type: text/html", body=HTML)), 502, "upstream_http"),
    "answers 404 with a page": (raw(head("404 Not Found", "content-type: text/html", body=HTML)), 404, "upstream_http"),
    "answers 405 with a page": (raw(head("405 Method Not Allowed", "allow: GET", body=HTML)), 405, "upstream_http"),
    "answers 429 with nothing": (raw(head("429 Too Many Requests", "retry-after: 7")), 429, "upstream_http"),
    "answers 500 with a page": (raw(head("500 Internal Server Error", "content-type: text/html", body=HTML)), 500, "upstream_http"),
    "answers 500 with other JSON": (raw(head("500 Internal Server Error", JSON, body=b'{"at": "10.9.8.7"}')), 500, "upstream_http"),
    "answers 503 and hangs": (raw(head("503 Service Unavailable", JSON, length=50)), 503, "upstream_http"),
    "answers 500 and resets": (raw(head("500 Internal Server Error", JSON, length=50), reset=True), 500, "upstream_http"),
    "compresses badly": (raw(head("200 OK", JSON, GZIP, body=b"not gzip at all, oh no")), 502, "upstream_protocol"),
    "compresses a page": (raw(head("200 OK", JSON, GZIP, body=gzip.compress(HTML))), 502, "upstream_protocol"),
    "compresses half": (raw(head("200 OK", JSON, GZIP, body=gzip.compress(result())[:-12])), 502, "upstream_protocol"),
    "compresses unknown": (raw(head("200 OK", JSON, "content-encoding: br", body=b"xxxx")), 502, "upstream_protocol"),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.requirement("PM-50")
def test_each_fault_has_its_class(name: str) -> None:
    """Status, class, and the request's id, in answer and record; nothing of the backend; nothing leaks."""
    script, status, failure = CASES[name]

    async def story() -> None:
        before = asyncio.all_tasks()
        async with pair(script, timeout=400, sseReadTimeout=400) as (gate, backend):
            async with connected(gate) as client:
                started = time.monotonic()
                answer = await client.ask(call("låg-7"))
                assert time.monotonic() - started < 1.2
                assert answer.failure == (status, failure)
                assert answer.message["id"] == "låg-7"
                assert answer.message["error"]["data"]["requestId"] == answer.fields["x-request-id"]
                assert b"10.9.8.7" not in client.raw
                record = await last_record(gate)
                assert (record["status"], record["failure"]) == (status, failure)
                assert record["requestId"] == answer.fields["x-request-id"]
                assert (record["method"], record["target"]) == ("tools/call", "moonrise")
                # The connection is good for another try.
                assert (await client.ask(call(2))).failure == (status, failure)
            await until(lambda: len(asyncio.all_tasks() - before) <= backend.open)
            gate.runtime.plane.plan.close()
            await settled(gate, backend)
            assert len(gate.runtime.tasks) == 0
        assert asyncio.all_tasks() == before

    run(story())


@pytest.mark.requirement("PM-50")
def test_a_backend_that_refuses_or_does_not_resolve() -> None:
    """502 with upstream_connect or upstream_dns, at once."""

    async def story() -> None:
        async with Backend(raw(b"")) as backend:
            port = backend.port
        for url, failure in (
            (f"http://127.0.0.1:{port}/mcp", "upstream_connect"),
            (f"http://localhost:{port}/mcp", "upstream_connect"),
            ("http://no-such-moon.invalid/mcp", "upstream_dns"),
        ):
            async with gateway(config(url)) as gate, connected(gate) as client:
                started = time.monotonic()
                answer = await client.ask(call(7))
                assert time.monotonic() - started < 5
                assert answer.failure == (502, failure)
                assert answer.message["id"] == 7
                assert (await last_record(gate))["failure"] == failure

    run(story())


@pytest.mark.parametrize(
    ("status", "message"),
    [("400 Bad Request", error(1, -32602)), ("404 Not Found", error(1, -32001)), ("405 Method Not Allowed", error()),
     ("429 Too Many Requests", error(1, -32029)), ("500 Internal Server Error", error(1, -32603)), ("503 Service Unavailable", error())],
)  # fmt: skip
def test_an_error_status_with_a_message_passes(status: str, message: bytes) -> None:
    """A 4xx or 5xx whose body is JSON-RPC is the backend's word to the client, byte for byte."""

    async def story() -> None:
        padded = b" " + message + b"\n"
        async with pair(raw(head(status, JSON, "retry-after: 7", "allow: POST", body=padded))) as (gate, _), connected(gate) as client:
            answer = await client.ask(call())
            assert (answer.status, answer.body) == (int(status[:3]), padded)
            assert (answer.fields["retry-after"], answer.fields["allow"]) == ("7", "POST")
            record = await last_record(gate)
            assert (record["failure"], record["code"]) == ("upstream_http", json.loads(message)["error"]["code"])

    run(story())


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize(
    ("body", "failure", "code"),
    [(error(1, -32044), "jsonrpc_error", -32044), (result(1, content=[], isError=True), "tool_error", None), (result(), None, None),
     (result(1, content=[{"type": "text", "text": '"error":{"code":-1}, "isError": true'}]), None, None),
     (result(1, content=["x" * 200_000], isError=True), "tool_error", None)],
    ids=["error", "tool error", "fine", "fine, with traps", "long tool error"],
)  # fmt: skip
def test_the_failure_of_the_call_itself_is_recorded(body: bytes, failure: str | None, code: int | None, compressed: bool, chunked: bool) -> None:
    """jsonrpc_error and tool_error are read off the passing answer, also a compressed or chunked one."""
    sent = gzip.compress(body) if compressed else body

    async def story() -> None:
        async def script(exchange: Exchange) -> None:
            lines = {"content-encoding": "gzip"} if compressed else {}
            if not chunked:
                await exchange.answer(sent, headers=lines)
                return
            await exchange.stream({"content-type": "application/json", **lines})
            await exchange.chunk(sent[:20])
            await asyncio.sleep(0.01)
            await exchange.chunk(sent[20:])
            await exchange.close_stream()

        async with pair(script) as (gate, _), connected(gate) as client:
            answer = await client.ask(call())
            assert (answer.status, answer.body) == (200, body)
            assert "content-encoding" not in answer.fields
            record = await last_record(gate)
            assert (record.get("failure"), record.get("code")) == (failure, code)

    run(story())


@pytest.mark.parametrize("code", ["99999999999999999999999999", "-1e3", "1e400", '"E_MOON"', "null", "1.5"])
def test_odd_error_codes_pass_and_are_recorded(code: str) -> None:
    """A backend's error code may be any JSON; the answer passes and leaves a record."""
    body = f'{{"jsonrpc":"2.0","id":1,"error":{{"code":{code},"message":"x"}}}}'.encode()

    async def story() -> None:
        async with pair(raw(head("200 OK", JSON, body=body))) as (gate, _), connected(gate) as client:
            answer = await client.ask(call())
            assert (answer.status, answer.body) == (200, body)
            assert (await last_record(gate))["status"] == 200

    run(story())


def test_json_in_pieces_that_is_none() -> None:
    """A chunked body that is not JSON does not pass as JSON just because it came in two packets."""

    async def story() -> None:
        async def script(exchange: Exchange) -> None:
            await exchange.send(CHUNKED_JSON)
            await exchange.chunk(HTML)
            await asyncio.sleep(0.05)
            await exchange.close_stream()

        async with pair(script) as (gate, _), connected(gate) as client:
            assert (await client.ask(call())).failure == (502, "upstream_protocol")

    run(story())


@pytest.mark.parametrize("split", [False, True])
def test_interim_responses_are_read_over(split: bool) -> None:
    """100, 102 and 103 before the answer do not disturb it."""

    async def story() -> None:
        async def script(exchange: Exchange) -> None:
            for status in ("100 Continue", "102 Processing", "103 Early Hints"):
                await exchange.send(f"HTTP/1.1 {status}\r\nlink: </x>\r\n\r\n".encode())
                if split:
                    await asyncio.sleep(0.01)
            await exchange.answer(result())

        async with pair(script) as (gate, _), connected(gate) as client:
            answer = await client.ask(call())
            assert (answer.status, answer.body) == (200, result())

    run(story())


@pytest.mark.parametrize("status", ["307 Temporary Redirect", "308 Permanent Redirect"])
@pytest.mark.parametrize("absolute", [False, True])
def test_a_redirect_on_the_same_origin_is_followed_once(status: str, absolute: bool) -> None:
    """Method, body and headers go along; the client does not notice."""

    async def story() -> None:
        async def script(exchange: Exchange) -> None:
            if exchange.seen.target == "/mcp/?x=1":
                await exchange.answer(result())
                return
            place = f"http://127.0.0.1:{backend.port}/mcp/?x=1" if absolute else "/mcp/?x=1"
            await exchange.answer(b"", status=status, headers={"location": place})

        async with pair(script, headers={"x-key": "backend-key"}) as (gate, backend), connected(gate) as client:
            answer = await client.ask(call())
            assert (answer.status, answer.body) == (200, result())
            assert "location" not in answer.fields
            first, second = backend.seen
            assert (first.body, first.method, first.fields["x-key"]) == (second.body, second.method, second.fields["x-key"])

    run(story())


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
    failures = {"resets": "upstream_reset", "closes": "upstream_reset", "ends": "upstream_protocol", "hangs": "upstream_timeout"}

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
                        assert message["error"]["data"] == {"class": failures[how], "requestId": answer.fields["x-request-id"]}
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

        async def script(exchange: Exchange) -> None:
            stopped.append(await exchange.gone())

        body, headers = modern_call()
        async with pair(script) as (gate, backend), connected(gate) as client:
            await client.send(body, headers)
            client.writer.write_eof()
            await until(lambda: stopped == [True], 1.0)
            await settled(gate, backend)

    run(story())


def test_many_faults_at_once_leak_nothing() -> None:
    """200 calls, each of which fails in another way or whose client goes, leave no connection and no task."""
    scripts = [script for script, _, failure in CASES.values() if failure != "upstream_timeout"]

    async def story() -> None:
        number = 0

        async def script(exchange: Exchange) -> None:
            nonlocal number
            number += 1
            await scripts[number % len(scripts)](exchange)

        before = asyncio.all_tasks()

        async def one(gate_port: int, index: int) -> None:
            async with connected(gate_port) as client:
                await client.send(call(index))
                if index % 4:
                    await client.head()

        async with pair(script, timeout=1000) as (gate, backend):
            await asyncio.gather(*(one(gate.port, index) for index in range(200)))
            await until(lambda: len(gate.records()) >= 200)
            gate.runtime.plane.plan.close()
            await settled(gate, backend)
        assert asyncio.all_tasks() == before

    run(story())
