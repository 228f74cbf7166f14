"""What the gateway itself refuses about messages, and how it says so."""

from __future__ import annotations

import base64
import json

import pytest

from tests.proxy.talk import META, MODERN, call, connected, modern_call, pair, polite, records, run

LIT = {"mcp-protocol-version": MODERN, "mcp-method": "tools/call", "mcp-name": "moonrise"}


def _meta(**more: object) -> dict[str, object]:
    return {f"{META}protocolVersion": MODERN, f"{META}clientCapabilities": {}, **more}


def _sentinel(text: str) -> str:
    return f"=?base64?{base64.b64encode(text.encode()).decode()}?="


MODERN_CASES: dict[str, tuple[bytes, dict[str, str], int]] = {
    # body, headers, JSON-RPC code (0: passes)
    "right": (*modern_call("m"), 0),
    "name in base64": (call("m", name="mön", _meta=_meta()), {**LIT, "mcp-name": _sentinel("mön")}, 0),
    "plain name in base64": (call("m", _meta=_meta()), {**LIT, "mcp-name": _sentinel("moonrise")}, 0),
    "name of spaces in base64": (call("m", name=" a ", _meta=_meta()), {**LIT, "mcp-name": _sentinel(" a ")}, 0),
    "a resource": (
        call("m", "resources/read", uri="moon://x", _meta=_meta()),
        {**LIT, "mcp-method": "resources/read", "mcp-name": "moon://x"},
        0,
    ),
    "no name needed": (call("m", "tools/list", _meta=_meta()), {**LIT, "mcp-method": "tools/list"}, 0),
    "no version header": (
        call("m", _meta=_meta()),
        {k: v for k, v in LIT.items() if k != "mcp-protocol-version"},
        -32020,
    ),
    "another version": (call("m", _meta=_meta()), {**LIT, "mcp-protocol-version": "2026-09-09"}, -32020),
    "an old version header": (call("m", _meta=_meta()), {**LIT, "mcp-protocol-version": "2025-11-25"}, -32020),
    "no method header": (call("m", _meta=_meta()), {k: v for k, v in LIT.items() if k != "mcp-method"}, -32020),
    "another method": (call("m", _meta=_meta()), {**LIT, "mcp-method": "tools/list"}, -32020),
    "method in another case": (call("m", _meta=_meta()), {**LIT, "mcp-method": "Tools/Call"}, -32020),
    "no name header": (call("m", _meta=_meta()), {k: v for k, v in LIT.items() if k != "mcp-name"}, -32020),
    "another name": (call("m", _meta=_meta()), {**LIT, "mcp-name": "moonset"}, -32020),
    "another name in base64": (call("m", _meta=_meta()), {**LIT, "mcp-name": _sentinel("moonset")}, -32020),
    "bad base64": (call("m", _meta=_meta()), {**LIT, "mcp-name": "=?base64?!?="}, -32020),
    "name in raw UTF-8": (call("m", name="mön", _meta=_meta()), {**LIT, "mcp-name": "mön"}, -32020),
    "another uri": (
        call("m", "resources/read", uri="moon://x", _meta=_meta()),
        {**LIT, "mcp-method": "resources/read", "mcp-name": "moon://y"},
        -32020,
    ),
    "no name in the body": (
        json.dumps({"jsonrpc": "2.0", "id": "m", "method": "tools/call", "params": {"_meta": _meta()}}).encode(),
        LIT,
        -32020,
    ),
    "no _meta": (call("m"), LIT, -32602),
    "no params": (b'{"jsonrpc":"2.0","id":"m","method":"tools/list"}', {**LIT, "mcp-method": "tools/list"}, -32602),
    "no capabilities": (call("m", _meta={f"{META}protocolVersion": MODERN}), LIT, -32602),
    "no version in _meta": (call("m", _meta={f"{META}clientCapabilities": {}}), LIT, -32602),
}


@pytest.mark.parametrize("name", MODERN_CASES)
def test_headers_of_2026_07_28_are_held_against_the_body(name: str) -> None:
    """400 with -32020 or -32602 and the request's id; nothing reaches the backend."""
    body, headers, code = MODERN_CASES[name]

    async def story() -> None:
        async with pair(polite) as (gate, backend), connected(gate) as client:
            answer = await client.ask(body, headers)
            if not code:
                assert (answer.status, backend.seen[0].body) == (200, body)
                return
            assert answer.failure == (400, "bad_request")
            assert answer.message["error"]["code"] == code
            assert answer.message["id"] == "m"
            assert not backend.seen
            assert records(gate)[-1]["failure"] == "bad_request"
            assert (await client.ask(*modern_call())).status == 200  # the connection is good for another

    run(story())


@pytest.mark.parametrize("name", ["mcp-protocol-version", "mcp-method", "mcp-name"])
def test_a_routing_header_twice_is_refused(name: str) -> None:
    """Also where both agree."""

    async def story() -> None:
        body, headers = modern_call("m")
        async with pair(polite) as (gate, backend), connected(gate) as client:
            answer = await client.ask(body, [*headers.items(), (name.title(), headers[name])])
            assert answer.status == 400
            assert answer.message["error"]["code"] in {-32020, -32600}
            assert not backend.seen

    run(story())


BAD = {
    "not JSON": (b"{moon", -32700),
    "empty": (b"", -32700),
    "not UTF-8": (b'{"jsonrpc":"2.0","id":1,"method":"x\xff"}', -32700),
    "a number": (b"7", -32600),
    "null": (b"null", -32600),
    "no version": (b'{"id":1,"method":"x"}', -32600),
    "old version": (b'{"jsonrpc":"1.0","id":1,"method":"x"}', -32600),
    "method twice": (b'{"jsonrpc":"2.0","id":1,"method":"tools/list","method":"tools/call"}', -32600),
    "method twice, escaped": (b'{"jsonrpc":"2.0","id":1,"method":"tools/list","m\\u0065thod":"tools/call"}', -32600),
    "Method": (b'{"jsonrpc":"2.0","id":1,"method":"tools/list","Method":"tools/call"}', -32600),
    "name twice": (b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","name":"b"}}', -32600),
    "Name": (b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","NAME":"b"}}', -32600),
    "_meta twice": (
        b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"_meta":{},"name":"a","_meta":{"x":1}}}',
        -32600,
    ),
    "too deep": (b'{"jsonrpc":"2.0","id":1,"method":"x","params":{"a":' + b"[" * 200 + b"]" * 200 + b"}}", -32600),
    "id null": (b'{"jsonrpc":"2.0","id":null,"method":"x"}', -32600),
    "id object": (b'{"jsonrpc":"2.0","id":{},"method":"x"}', -32600),
    "two messages": (b'{"jsonrpc":"2.0","id":1,"method":"x"}{"jsonrpc":"2.0","id":2,"method":"y"}', -32700),
    "a byte order mark": (b'\xef\xbb\xbf{"jsonrpc":"2.0","id":1,"method":"x"}', -32700),
}


@pytest.mark.parametrize("name", BAD)
def test_what_two_parsers_could_read_differently_is_refused(name: str) -> None:
    """400 without id; the backend never hears of it; the connection goes on."""
    body, code = BAD[name]

    async def story() -> None:
        async with pair(polite) as (gate, backend), connected(gate) as client:
            answer = await client.ask(body)
            assert answer.failure == (400, "bad_request")
            assert answer.message["error"]["code"] == code
            assert answer.message.get("id") is None
            assert not backend.seen
            assert (await client.ask(call())).status == 200

    run(story())


IDS = [1, 0, -5, 2**63, 10**40, 1.5, "x", "", "ünï 月 🌙", 'q"\\\n\u0000', "x" * 5000]


@pytest.mark.parametrize("message_id", IDS, ids=lambda value: str(value)[:10].encode("ascii", "replace").decode())
@pytest.mark.requirement("PM-50")
def test_the_id_of_a_refused_or_failed_request_is_echoed(message_id: object) -> None:
    """Any string or number, in a refusal after the body and in an upstream failure."""

    async def story() -> None:
        async with pair(polite) as (gate, backend), connected(gate) as client:
            body, headers = modern_call(message_id)
            answer = await client.ask(body, {**headers, "mcp-method": "tools/list"})
            assert (answer.status, answer.message["id"]) == (400, message_id)
            port = backend.port
        async with pair(polite, url=f"http://127.0.0.1:{port}/gone") as (gate, _), connected(gate) as client:
            raw = json.dumps({"id": message_id, "jsonrpc": "2.0", "method": "x"}, ensure_ascii=False).encode()
            answer = await client.ask(raw)
            assert (answer.status, answer.message["id"]) == (502, message_id)
            assert answer.message["jsonrpc"] == "2.0"

    run(story())


def test_requests_refused_by_their_head_get_an_error_without_id() -> None:
    """Their body is never read, also not an endless one; each answer names its own record."""
    tokens = {"tokens": [{"name": "alice", "token": "alice-token"}]}
    good = {"authorization": "Bearer alice-token"}
    cases: list[tuple[dict[str, str], str, str, int, str]] = [
        ({}, "POST", "/mcp/one", 401, "unauthenticated"),
        ({**good, "origin": "http://evil.example"}, "POST", "/mcp/one", 403, "denied"),
        (good, "POST", "/mcp/none", 404, "not_found"),
        ({**good, "content-type": "text/plain"}, "POST", "/mcp/one", 415, "unsupported"),
        ({**good, "content-encoding": "gzip"}, "POST", "/mcp/one", 415, "unsupported"),
        (good, "PUT", "/mcp/one", 405, "unsupported"),
        (good, "OPTIONS", "/mcp/one", 405, "unsupported"),
        (good, "POST", "/mcp/one/sse", 405, "unsupported"),
        (good, "POST", "/mcp/one/events", 405, "unsupported"),
    ]

    async def story() -> None:
        async with pair(polite, gateway_block=tokens) as (gate, backend):
            for count, (headers, method, path, status, failure) in enumerate(cases, 1):
                async with connected(gate) as client:
                    unfinished = {"content-length": "1000", "x-request-id": "mine", **headers}
                    await client.send(b'{"jsonrpc"', unfinished, method=method, path=path)
                    answer = await client.answer()
                    assert answer.failure == (status, failure)
                    assert "id" not in answer.message
                    record = records(gate)[-1]
                    assert len(records(gate)) == count
                    assert record["requestId"] == answer.fields["x-request-id"] != "mine"
                    assert (record["status"], record["failure"], record["path"]) == (status, failure, path)
                    if status == 405:
                        assert "allow" in answer.fields
            assert not backend.connections

    run(story())


def test_malformed_heads_are_answered_and_recorded() -> None:
    """400, 417, 431 with a JSON-RPC error, a request id and a record; the connection is closed."""
    heads = [
        (b"MOON\r\n\r\n", 400),
        (b"GET /mcp/one HTTP/1.1\r\n\r\n", 400),
        (b"POST  /mcp/one HTTP/1.1\r\nhost: x\r\n\r\n", 400),
        (b"POST /mcp/one HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n", 400),
        (b"POST /mcp/one HTTP/1.1\r\nhost: 127.0.0.1\r\nexpect: moon\r\n\r\n", 417),
        (b"POST /mcp/one HTTP/1.1\r\nhost: 127.0.0.1\r\n" + b"x: y\r\n" * 150 + b"\r\n", 431),
        (b"POST /mcp/one HTTP/1.1\r\nhost: 127.0.0.1\r\nx: " + b"y" * 40_000, 431),
    ]

    async def story() -> None:
        async with pair(polite) as (gate, backend):
            for count, (head, status) in enumerate(heads, 1):
                async with connected(gate) as client:
                    await client.write(head)
                    answer = await client.answer()
                    assert answer.status == status
                    assert answer.fields["connection"] == "close"
                    record = records(gate)[-1]
                    assert len(records(gate)) == count
                    assert (record["status"], record["requestId"]) == (status, answer.fields["x-request-id"])
                    assert await client.closed()
            assert not backend.connections

    run(story())


def test_a_body_over_the_limit_is_413() -> None:
    """By its length before it is sent, and by counting where it is chunked."""

    async def story() -> None:
        async with pair(polite, gateway_block={"limits": {"bodyBytes": 2048}}) as (gate, backend):
            async with connected(gate) as client:
                await client.send(b"x", {"content-length": "5000"})
                assert (await client.answer()).failure == (413, "too_large")
            async with connected(gate) as client:
                await client.send(b"", {"transfer-encoding": "chunked"})
                await client.write(b"1000\r\n" + b" " * 4096 + b"\r\n0\r\n\r\n")
                assert (await client.answer()).failure == (413, "too_large")
            assert [record["status"] for record in records(gate)] == [413, 413]
            assert not backend.connections

    run(story())


def test_one_connection_too_many_has_a_request_id_too() -> None:
    """Every answer of the data plane carries X-Request-Id (architecture, section 11)."""

    async def story() -> None:
        async with pair(polite, gateway_block={"limits": {"connections": 1}}) as (gate, _), connected(gate) as client:
            assert (await client.ask(call())).status == 200
            async with connected(gate) as other:
                answer = await other.answer()
                assert answer.status == 503
                assert "x-request-id" in answer.fields

    run(story())
