"""What reaches the backend, and what comes back: addresses, headers, bytes."""

from __future__ import annotations

import asyncio
import json

import pytest

from moongate.testing import Backend, Exchange, gateway
from tests.proxy.talk import (
    MODERN,
    call,
    config,
    connected,
    event,
    initialize,
    modern_call,
    pair,
    polite,
    result,
    run,
    until,
)

AWKWARD = (
    b'{ "jsonrpc" : "2.0",\r\n\t"zeta": 1, "id":12345678901234567890123456789, "alpha": 1.0e+2, "method":"tools/call",'
    b'  "params": {"arguments": {"b": -0, "a": "\\u00fc\\/", "b2": 1e400, "text": "'
    + "mòon 月 🌙".encode()
    + b'"}, "name": "moonrise", "x": null} }\n'
)


@pytest.mark.requirement("PM-03", "PM-58")
def test_the_peer_of_the_backend_is_the_gateway() -> None:
    """The connection that the backend sees is not the client's, and nothing names the client or the gateway."""

    async def story() -> None:
        peers: list[int] = []

        async def script(exchange: Exchange) -> None:
            peers.append(exchange.writer.get_extra_info("peername")[1])
            await polite(exchange)

        async with pair(script) as (gate, backend), connected(gate) as client:
            own = client.writer.get_extra_info("sockname")[1]
            assert (await client.ask(call())).status == 200
            assert peers != [own]
            assert backend.seen[0].fields["host"] == f"127.0.0.1:{backend.port}"
            assert str(gate.port).encode() not in backend.seen[0].head
            assert not {"forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-real-ip"} & set(
                backend.seen[0].fields
            )

    run(story())


@pytest.mark.requirement("PM-62")
def test_a_plain_request_arrives_with_exactly_these_headers() -> None:
    """Nothing but the documented names, each once; Host is the backend's."""

    async def story() -> None:
        async with pair(polite) as (gate, backend), connected(gate) as client:
            noise = {
                "User-Agent": "lynx/3",
                "Cookie": "moon=full",
                "Origin": f"http://127.0.0.1:{gate.port}",
                "X-Forwarded-For": "10.1.2.3",
                "X-Request-Id": "mine",
                "X-Custom": "1",
                "Accept-Encoding": "gzip, br",
                "Accept-Language": "ca",
                "Referer": "http://127.0.0.1/",
                "Sec-Fetch-Site": "same-origin",
                "Proxy-Authorization": "Basic eDp5",
                "TE": "trailers",
                "Expect": "100-continue",
                "Connection": "keep-alive",
            }
            await client.send(call(), noise, host=f"127.0.0.1:{gate.port}")
            first = await client.head()
            answer = await client.answer() if first.status == 100 else await client.body(first)
            assert answer.status == 200
            names = [name for name, _ in backend.seen[0].lines]
            assert sorted(names) == sorted(
                ["host", "accept-encoding", "accept", "accept-language", "content-type", "content-length", "user-agent"]
            )
            assert backend.seen[0].fields["accept-encoding"] == "identity"
            assert backend.seen[0].fields["host"] == f"127.0.0.1:{backend.port}"

    run(story())


@pytest.mark.parametrize(
    "connection",
    [
        [("connection", "mcp-param-city, close")],
        [("Connection", "keep-alive, Mcp-Param-City")],
        [("connection", "keep-alive"), ("connection", "mcp-param-city")],
        [("connection", "close"), ("connection", "MCP-PARAM-CITY")],
    ],
)
@pytest.mark.requirement("PM-62")
def test_what_connection_names_stops_at_the_gateway(connection: list[tuple[str, str]]) -> None:
    """Also where Connection has several lines or another case."""

    async def story() -> None:
        async with pair(polite) as (gate, backend), connected(gate) as client:
            assert (await client.ask(call(), [("mcp-param-city", "Lleida"), *connection])).status == 200
            assert "mcp-param-city" not in backend.seen[0].fields

    run(story())


@pytest.mark.requirement("PM-13", "PM-14", "PM-29")
def test_configured_headers_arrive_with_every_kind_of_request() -> None:
    """Authorization, keys and arbitrary names, byte for byte, on initialize, POST, notification, GET and DELETE."""
    headers = {
        "Authorization": "Bearer  backend-token==",
        "API-Key": "k1",
        "X-API-Key": "k2",
        "X-Tide-Mark": 'a "b", ü; c',
        "User-Agent": "tide-gateway",
    }

    async def story() -> None:
        async with (
            pair(polite, headers=headers) as (gate, backend),
            connected(gate) as client,
            connected(gate) as other,
        ):
            opened = await client.ask(initialize(), {"User-Agent": "lynx"})
            session = {"mcp-session-id": opened.fields["mcp-session-id"], "mcp-protocol-version": "2025-06-18"}
            note = b'{"jsonrpc":"2.0","method":"notifications/initialized"}'
            assert (await client.ask(note, session)).status == 202
            assert (
                await client.ask(call(), {**session, "Authorization": "Bearer client-token", "api-key": "c"})
            ).status == 200
            await other.send(None, {**session, "last-event-id": "e-41"}, method="GET")
            assert (await other.head()).fields["content-type"] == "text/event-stream"
            assert (await client.ask(None, session, method="DELETE")).status == 200
            assert [seen.method for seen in backend.seen] == ["POST", "POST", "POST", "GET", "DELETE"]
            for seen in backend.seen:
                raw = dict(line.split(b": ", 1) for line in seen.head.split(b"\r\n")[1:-2])
                for name, value in headers.items():
                    assert raw[name.encode()] == value.encode()
                    assert [other_name for other_name, _ in seen.lines].count(name.lower()) == 1
            for seen in backend.seen[1:]:
                assert seen.fields["mcp-session-id"] == "backend-session-7"
                assert seen.fields["mcp-protocol-version"] == "2025-06-18"
            assert backend.seen[3].fields["last-event-id"] == "e-41"

    run(story())


@pytest.mark.requirement("PM-33", "PM-34")
def test_nothing_of_the_clients_credentials_reaches_the_backend() -> None:
    """Not in a header, not in the query, and the configured value stands alone."""

    async def story() -> None:
        tokens = [{"name": "alice", "token": "alice-token"}]
        async with (
            pair(polite, gateway_block={"tokens": tokens}, headers={"X-API-Key": "backend-key"}) as (gate, backend),
            connected(gate) as client,
        ):
            for name, value in (
                ("Authorization", "Bearer alice-token"),
                ("Authorization", "Basic eDphbGljZS10b2tlbg=="),
                ("API-Key", "alice-token"),
                ("x-api-key", "alice-token"),
            ):
                answer = await client.ask(
                    call(),
                    {name: value, "Cookie": "t=alice-token", "X-Token": "alice-token"},
                    path="/mcp/one?token=alice-token&api_key=alice-token",
                )
                assert answer.status == 200
            for seen in backend.seen:
                assert b"alice-token" not in seen.head
                assert b"YWxpY2UtdG9rZW4" not in seen.head
                assert b"eDphbGljZS10b2tlbg" not in seen.head
                assert seen.target == "/mcp"
                assert [value for header, value in seen.lines if header == "x-api-key"] == ["backend-key"]
                assert "authorization" not in seen.fields

    run(story())


@pytest.mark.parametrize("prefix", ["/mcp", "/a/b/c", "/edge/v2.1/mcp_x"])
@pytest.mark.requirement("PM-22", "PM-24", "PM-25")
def test_the_aliases_below_any_prefix(prefix: str) -> None:
    """The bare address, its slash, /mcp and /v1/stream are one address; everything else below is 404."""

    async def story() -> None:
        async with pair(polite, gateway_block={"prefix": prefix}) as (gate, backend), connected(gate) as client:
            base = f"{prefix.rstrip('/')}/one"
            for suffix in ("", "/", "/mcp", "/v1/stream", "?x=1", "/v1/stream?x=1"):
                assert (await client.ask(call(), path=base + suffix)).status == 200, suffix
            assert {seen.target for seen in backend.seen} == {"/mcp"}
            count = len(backend.seen)
            for suffix in ("/v1", "/v1/", "/v1/stream/x", "/mcp/mcp", "/other", "//", "/../one", "x", "/%6dcp", ";x"):
                assert (await client.ask(call(), path=base + suffix)).failure == (404, "not_found"), suffix
            assert (await client.ask(call(), path="/one/one")).status == 404
            assert len(backend.seen) == count

    run(story())


@pytest.mark.parametrize("path", ["", "/", "/api/mcp/", "/a%20b/mcp?key=v&x=%2F", "/deep/er?q"])
@pytest.mark.requirement("AG-20")
def test_the_target_is_called_at_exactly_its_path(path: str) -> None:
    """Path and query as they were written, whatever the client's address was."""

    async def story() -> None:
        async with (
            Backend(polite) as backend,
            gateway(config(f"http://127.0.0.1:{backend.port}{path}")) as gate,
            connected(gate) as client,
        ):
            assert (await client.ask(call(), path="/mcp/one/v1/stream?mine=1")).status == 200
            assert backend.seen[0].target == (path or "/")

    run(story())


def _bodies() -> list[tuple[str, bytes]]:
    big = json.dumps(
        {"jsonrpc": "2.0", "id": "ü", "method": "tools/call", "params": {"name": "n", "z": "月" * 350_000}},
        ensure_ascii=False,
    )
    return [("awkward", AWKWARD), ("big", big.encode()), ("plain", call())]


@pytest.mark.parametrize(("name", "body"), _bodies(), ids=lambda value: value if isinstance(value, str) else "")
@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.requirement("PM-30")
def test_request_bodies_arrive_byte_for_byte(name: str, body: bytes, chunked: bool) -> None:
    """Unknown fields, key order, big integers, white space, a megabyte, other scripts; sized and chunked."""

    async def story() -> None:
        async with pair(polite_raw) as (gate, backend), connected(gate) as client:
            if chunked:
                await client.send(b"", {"transfer-encoding": "chunked"})
                for start in range(0, len(body), 60_001):
                    part = body[start : start + 60_001]
                    await client.write(b"%x;ext=1\r\n%b\r\n" % (len(part), part))
                await client.write(b"0\r\n\r\n")
                answer = await client.answer()
            else:
                answer = await client.ask(body)
            assert answer.status == 200, (name, answer.body)
            assert backend.seen[0].body == body

    run(story())


async def polite_raw(exchange: Exchange) -> None:
    """Answers without reading the message."""
    await exchange.answer(result())


ANSWER = (
    b'\r\n {"zeta" : {"n": 123456789012345678901234567890, "e": 1E+2},"jsonrpc":"2.0","id" : 1,'
    b'\t"result":{"content":[],'
    b'"text":"' + "mòon 月 \\ud83c\\udf19 🌙".encode() + b'", "z":0, "a":-0.0}}\n\n'
)


@pytest.mark.parametrize("how", ["sized", "chunked", "split", "until-close"])
@pytest.mark.parametrize("size", [0, 70_000, 1_000_000])
@pytest.mark.requirement("PM-30", "PM-28")
def test_answers_come_back_byte_for_byte(how: str, size: int) -> None:
    """A 2xx body is never altered, however it is framed."""
    body = ANSWER.replace(b'"z":0', b'"z":"' + b"m" * size + b'"')

    async def story() -> None:
        async def script(exchange: Exchange) -> None:
            await _answer(exchange, how, body)

        async with pair(script) as (gate, _), connected(gate) as client:
            answer = await client.ask(call())
            assert (answer.status, answer.body == body) == (200, True)

    run(story())


async def _answer(exchange: Exchange, how: str, body: bytes) -> None:
    if how == "sized":
        await exchange.answer(body)
        return
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json; charset=utf-8\r\n"
    if how == "until-close":
        await exchange.send(head + b"connection: close\r\n\r\n" + body)
        exchange.writer.close()
        return
    await exchange.send(head + b"transfer-encoding: chunked\r\n\r\n")
    step = 4099 if how == "split" else len(body)
    for start in range(0, len(body), step):
        await exchange.chunk(body[start : start + step])
        if how == "split":
            await asyncio.sleep(0)
    await exchange.close_stream()


@pytest.mark.parametrize("kind", ["json", "event stream", "chunked json"])
@pytest.mark.requirement("PM-28")
def test_ten_megabytes_arrive_intact(kind: str) -> None:
    """As JSON and as one event of that size."""
    body = result(1, text="moon" * 2_600_000)

    async def story() -> None:
        async def script(exchange: Exchange) -> None:
            if kind == "json":
                await exchange.answer(body)
                return
            await (
                exchange.stream() if kind == "event stream" else exchange.stream({"content-type": "application/json"})
            )
            sent = event(body, "9") if kind == "event stream" else body
            for start in range(0, len(sent), 1_000_003):
                await exchange.chunk(sent[start : start + 1_000_003])
            await exchange.close_stream()

        async with pair(script) as (gate, _), connected(gate) as client:
            answer = await client.ask(call())
            assert answer.body == (event(body, "9") if kind == "event stream" else body)

    run(story())


@pytest.mark.requirement("PM-28")
def test_an_event_is_with_the_client_before_the_next_is_made() -> None:
    """No buffering: the backend makes its second event only after the client has the first."""

    async def story() -> None:
        got_first = asyncio.Event()

        async def script(exchange: Exchange) -> None:
            await exchange.stream()
            await exchange.chunk(b": priming\n\nid: 1\nretry: 3000\ndata: first\n\n")
            await got_first.wait()
            await exchange.chunk(event(result()))
            await exchange.close_stream()

        async with pair(script) as (gate, _), connected(gate) as client:
            await client.send(call())
            assert (await client.head()).status == 200
            assert await client.text(b"data: first\n\n") == b": priming\n\nid: 1\nretry: 3000\ndata: first\n\n"
            got_first.set()
            assert await client.text(b"result") == event(result())
            assert await client.piece() == b""

    run(story())


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
@pytest.mark.requirement("PM-30", "PM-28")
def test_event_streams_keep_every_byte(line_end: str) -> None:
    """Ids, retry lines, comments, names, unknown fields, other line ends, split at every byte."""
    stream = (
        ":hello\n\nid: 7\nevent: message\nretry: 10\ndata: \n\n"
        'data:{"jsonrpc":"2.0",\ndata:"method":"notifications/x"}\n\n'
        "foo: bar\n\n"
        'event: message\nid: ü\ndata: {"jsonrpc":"2.0","id":1,"result":{"a":"月"}}\n\n: bye\n\ndata: after\n\n'
    ).replace("\n", line_end)

    async def story() -> None:
        async def script(exchange: Exchange) -> None:
            await exchange.stream({"cache-control": "no-cache", "x-accel-buffering": "no"})
            raw = stream.encode()
            for index in range(len(raw)):
                await exchange.chunk(raw[index : index + 1])
                await asyncio.sleep(0)
            await exchange.close_stream()

        async with pair(script) as (gate, _), connected(gate) as client:
            answer = await client.ask(call())
            assert answer.body == stream.encode()
            assert answer.fields["content-type"] == "text/event-stream"
            assert answer.fields["x-accel-buffering"] == "no"
            assert answer.fields["cache-control"] == "no-cache"

    run(story())


@pytest.mark.parametrize("split", [False, True], ids=["at once", "end in a packet of its own"])
@pytest.mark.parametrize(
    "request_body", [b'{"jsonrpc":"2.0","method":"notifications/initialized"}', b'{"jsonrpc":"2.0","id":4,"result":{}}']
)
@pytest.mark.requirement("PM-29")
def test_a_chunked_202_stays_a_202(split: bool, request_body: bytes) -> None:
    """Node's servers accept notifications so: a chunked body of nothing, whose end may come later than its head."""

    async def story() -> None:
        async def script(exchange: Exchange) -> None:
            await exchange.send(
                b"HTTP/1.1 202 Accepted\r\ntransfer-encoding: chunked\r\n\r\n" + (b"" if split else b"0\r\n\r\n")
            )
            if split:
                await asyncio.sleep(0.05)
                await exchange.close_stream()

        async with pair(script) as (gate, _), connected(gate) as client:
            answer = await client.ask(request_body)
            assert (answer.status, answer.body) == (202, b"")

    run(story())


@pytest.mark.parametrize("status", ["200 OK", "202 Accepted", "204 No Content"])
@pytest.mark.requirement("PM-29")
def test_delete_keeps_its_meaning_however_it_is_framed(status: str) -> None:
    """An empty answer to DELETE that ends with its connection, or has no body at all."""

    async def story() -> None:
        async def script(exchange: Exchange) -> None:
            if exchange.seen.method != "DELETE":
                await polite(exchange)
                return
            await exchange.send(f"HTTP/1.1 {status}\r\nconnection: close\r\n\r\n".encode())
            exchange.writer.close()

        async with pair(script) as (gate, _), connected(gate) as client:
            opened = await client.ask(initialize())
            session = {"mcp-session-id": opened.fields["mcp-session-id"]}
            answer = await client.ask(None, session, method="DELETE")
            assert (answer.status, answer.body) == (int(status[:3]), b"")

    run(story())


@pytest.mark.requirement("PM-29")
def test_mirrored_and_parameter_headers_go_along() -> None:
    """2026-07-28: version, method, name and Mcp-Param-* reach the backend as they came."""

    async def story() -> None:
        async with pair(polite) as (gate, backend), connected(gate) as client:
            body, headers = modern_call()
            answer = await client.ask(
                body, {**headers, "Mcp-Param-City": "=?base64?TGxlaWRh?=", "mcp-session-id": "old"}
            )
            assert answer.status == 200
            fields = backend.seen[0].fields
            assert fields["mcp-protocol-version"] == MODERN
            assert fields["mcp-method"] == "tools/call"
            assert fields["mcp-name"] == "moonrise"
            assert fields["mcp-param-city"] == "=?base64?TGxlaWRh?="
            assert "mcp-session-id" not in fields

    run(story())


@pytest.mark.requirement("PM-28")
def test_a_slow_reader_holds_the_backend_back() -> None:
    """Back-pressure: while the client reads nothing, the backend cannot send on for ever."""

    async def story() -> None:
        sent = 0

        async def script(exchange: Exchange) -> None:
            nonlocal sent
            await exchange.stream()
            for _ in range(1000):
                await exchange.chunk(event(b"x" * 60_000))
                sent += 60_000
            await exchange.close_stream()

        async with pair(script) as (gate, _), connected(gate) as client:
            client.writer.transport.pause_reading()  # type: ignore[attr-defined]
            await client.send(call())
            with pytest.raises(TimeoutError):
                await until(lambda: sent >= 40_000_000, 1.0)
            client.vanish()

    run(story())
