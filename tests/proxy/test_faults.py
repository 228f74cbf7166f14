"""Every way in which a backend fails: its class and status, promptly, in answer and record; nothing is left behind."""

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
    last_record,
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
    "resets in the first event": (raw(EVENTS + b'9\r\ndata: {"j\r\n', reset=True), 502, "upstream_reset"),
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
    "gives two lengths": (
        raw(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n{}"),
        502,
        "upstream_protocol",
    ),
    "gives length and chunks": (
        raw(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"),
        502,
        "upstream_protocol",
    ),
    "sends a bad chunk": (raw(CHUNKED_JSON + b"zz\r\n"), 502, "upstream_protocol"),
    "sends an endless head": (raw(b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 20_000), 502, "upstream_protocol"),
    "switches protocols": (
        raw(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n"),
        502,
        "upstream_protocol",
    ),
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
    "redirects to another origin": (
        raw(head("307 Temporary Redirect", "location: http://127.0.0.2:9/mcp")),
        502,
        "upstream_protocol",
    ),
    "redirects to another scheme": (
        raw(head("308 Permanent Redirect", "location: https://127.0.0.1/mcp")),
        502,
        "upstream_protocol",
    ),
    "redirects for ever": (raw(head("307 Temporary Redirect", "location: /mcp")), 502, "upstream_protocol"),
    "answers 401": (
        raw(head("401 Unauthorized", JSON, 'www-authenticate: Bearer realm="10.9.8.7"', body=error())),
        502,
        "upstream_http",
    ),
    "answers 403": (raw(head("403 Forbidden", "content-type: text/html", body=HTML)), 502, "upstream_http"),
    "answers 404 with a page": (raw(head("404 Not Found", "content-type: text/html", body=HTML)), 404, "upstream_http"),
    "answers 405 with a page": (raw(head("405 Method Not Allowed", "allow: GET", body=HTML)), 405, "upstream_http"),
    "answers 429 with nothing": (raw(head("429 Too Many Requests", "retry-after: 7")), 429, "upstream_http"),
    "answers 500 with a page": (
        raw(head("500 Internal Server Error", "content-type: text/html", body=HTML)),
        500,
        "upstream_http",
    ),
    "answers 500 with other JSON": (
        raw(head("500 Internal Server Error", JSON, body=b'{"at": "10.9.8.7"}')),
        500,
        "upstream_http",
    ),
    "answers 503 and hangs": (raw(head("503 Service Unavailable", JSON, length=50)), 503, "upstream_http"),
    "answers 500 and resets": (
        raw(head("500 Internal Server Error", JSON, length=50), reset=True),
        500,
        "upstream_http",
    ),
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
    [
        ("400 Bad Request", error(1, -32602)),
        ("404 Not Found", error(1, -32001)),
        ("405 Method Not Allowed", error()),
        ("429 Too Many Requests", error(1, -32029)),
        ("500 Internal Server Error", error(1, -32603)),
        ("503 Service Unavailable", error()),
    ],
)
def test_an_error_status_with_a_message_passes(status: str, message: bytes) -> None:
    """A 4xx or 5xx whose body is JSON-RPC is the backend's word to the client, byte for byte."""

    async def story() -> None:
        padded = b" " + message + b"\n"
        async with (
            pair(raw(head(status, JSON, "retry-after: 7", "allow: POST", body=padded))) as (gate, _),
            connected(gate) as client,
        ):
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
    [
        (error(1, -32044), "jsonrpc_error", -32044),
        (result(1, content=[], isError=True), "tool_error", None),
        (result(), None, None),
        (result(1, content=[{"type": "text", "text": '"error":{"code":-1}, "isError": true'}]), None, None),
        (result(1, content=["x" * 200_000], isError=True), "tool_error", None),
    ],
    ids=["error", "tool error", "fine", "fine, with traps", "long tool error"],
)
def test_the_failure_of_the_call_itself_is_recorded(
    body: bytes, failure: str | None, code: int | None, compressed: bool, chunked: bool
) -> None:
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
            assert (first.body, first.method, first.fields["x-key"]) == (
                second.body,
                second.method,
                second.fields["x-key"],
            )

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
