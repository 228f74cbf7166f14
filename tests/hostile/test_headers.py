"""Header fields as a weapon: what `Connection` names, names that imitate, values that want to become lines."""

from __future__ import annotations

import asyncio

import pytest

from moongate.testing import Backend, Exchange, gateway
from tests.hostile.talk import PING, PONG, client, configuration, echo, post, run, served

INITIALIZE = (
    b'{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{}}}'
)
INITIALIZED = b'{"jsonrpc":"2.0","id":1,"result":{"protocolVersion":"2025-06-18","capabilities":{}}}'
VERSION = "io.modelcontextprotocol/protocolVersion"
MODERN = (
    b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"add","_meta":{"%b":"2026-07-28",'
    b'"io.modelcontextprotocol/clientCapabilities":{}}}}' % VERSION.encode()
)
MIRRORS = b"mcp-protocol-version: 2026-07-28\r\nmcp-method: tools/call\r\nmcp-name: add\r\n"


async def _sessions(exchange: Exchange) -> None:
    if b"initialize" in exchange.seen.body:
        await exchange.answer(INITIALIZED, headers={"mcp-session-id": "upstream-session"})
    else:
        await exchange.answer(PONG)


@pytest.mark.requirement("PM-29")
@pytest.mark.parametrize("option", [b"mcp-session-id", b"Mcp-Session-Id, close", b"keep-alive, MCP-SESSION-ID"])
def test_connection_cannot_take_the_session_off_a_request(option: bytes) -> None:
    """A request that came with a session is never carried without it, nor with the client's own id."""

    async def work() -> None:
        async with Backend(_sessions) as backend, served(backend) as gate, client(gate.port) as peer:
            opened = await peer.call(INITIALIZE)
            session = (opened.get("mcp-session-id") or "").encode()
            assert session
            assert session != b"upstream-session"
            answer = await peer.call(lines=b"mcp-session-id: %b\r\nconnection: %b\r\n" % (session, option))
            if answer.status == 200:
                assert backend.seen[1].fields["mcp-session-id"] == "upstream-session"
            else:
                assert answer.status == 400
                assert len(backend.seen) == 1

    run(work())


def test_two_sessions_in_one_request_are_refused() -> None:
    """Which of them is meant is not for anybody to guess."""

    async def work() -> None:
        async with Backend(_sessions) as backend, served(backend) as gate, client(gate.port) as peer:
            session = ((await peer.call(INITIALIZE)).get("mcp-session-id") or "").encode()
            for lines in (b"mcp-session-id: %b\r\nmcp-session-id: %b\r\n" % (session, session),):
                assert (await peer.call(lines=lines)).status == 400
            assert (await peer.call(lines=b"mcp-session-id: %b,%b\r\n" % (session, session))).status == 404
            assert len(backend.seen) == 1

    run(work())


@pytest.mark.parametrize("name", [b"mcp-protocol-version", b"mcp-method", b"mcp-name", b"content-type"])
def test_what_was_judged_is_what_the_backend_sees(name: bytes) -> None:
    """A header that the gateway has judged a call by is not taken off it by `Connection`: carried whole or refused."""

    async def work() -> None:
        async with Backend(echo) as backend, served(backend) as gate, client(gate.port) as peer:
            answer = await peer.call(MODERN, MIRRORS + b"connection: " + name + b"\r\n")
            if answer.status == 200:
                assert name.decode() in backend.seen[0].fields
            else:
                assert answer.status == 400
                assert not backend.seen

    run(work())


@pytest.mark.parametrize(
    "connection",
    [
        b"connection: , Mcp-Param-A ,\t mcp-param-b\r\nCONNECTION: traceparent\r\n",
        b"connection: keep-alive\r\nconnection: mcp-param-a, mcp-param-b, traceparent\r\n",
        b"connection:\r\nconnection: mcp-param-a, mcp-param-b, traceparent\r\n",
        b"connection: close, mcp-param-a, mcp-param-b, TRACEPARENT\r\n",
    ],
)
def test_what_connection_names_stops_at_the_gateway(connection: bytes) -> None:
    """Several lines of it, in any case, with blanks and empty options."""

    async def work() -> None:
        fields = b"mcp-param-a: 1\r\nmcp-param-b: 2\r\nmcp-param-c: 3\r\ntraceparent: 00-1\r\n"
        for lines in (connection + fields, fields + connection):
            async with Backend(echo) as backend, served(backend) as gate, client(gate.port) as peer:
                assert (await peer.call(lines=lines)).status == 200
                seen = backend.seen[0].fields
                assert {"mcp-param-a", "mcp-param-b", "traceparent", "connection"} & set(seen) == set()
                assert seen["mcp-param-c"] == "3"

    run(work())


@pytest.mark.requirement("PM-34")
def test_connection_cannot_take_the_backends_credential_off_a_request() -> None:
    """What the operator configured goes with every request, whatever the client names."""

    async def work() -> None:
        async with Backend(echo) as backend:
            config = (
                "mcpServers:\n"
                f"  time: {{url: '{backend.url}', type: streamable-http, headers: {{Authorization: backend-secret}}}}\n"
            )
            async with gateway(config) as gate, client(gate.port) as peer:
                lines = b"connection: authorization, host, content-length\r\nauthorization: client-secret\r\n"
                assert (await peer.call(lines=lines)).status == 200
                seen = backend.seen[0]
                assert [value for name, value in seen.lines if name == "authorization"] == ["backend-secret"]
                assert seen.fields["host"] == f"127.0.0.1:{backend.port}"
                assert b"client-secret" not in seen.head

    run(work())


IMITATIONS = [
    *(
        b"x-forwarded-for: 1.2.3.4",
        b"x-forwarded-host: other.example",
        b"x-forwarded-proto: https",
        b"forwarded: for=1.2.3.4",
    ),
    *(b"x-real-ip: 1.2.3.4", b"x-original-url: /admin", b"x-rewrite-url: /admin", b"x-http-method-override: DELETE"),
    *(
        b"cookie: a=b",
        b"authorization: Bearer x-token",
        b"proxy-authorization: Basic eDp5",
        b"x-api-key: x",
        b"api-key: x",
    ),
    *(b"content_length: 5", b"transfer_encoding: chunked", b"x-content-length: 0", b"te: trailers", b"trailer: x"),
    *(b"keep-alive: timeout=5", b"proxy-connection: keep-alive", b"content-encoding: identity", b"range: bytes=0-1"),
    *(b"via: 1.1 x", b"accept-encoding: gzip", b"if-none-match: *", b"x-request-id: mine", b"max-forwards: 0"),
    *(b"mcp_session_id: x", b"mcp-session_id: x", b"content-disposition: x", b"sec-fetch-mode: cors", b"early-data: 1"),
]


@pytest.mark.requirement("PM-33")
def test_only_listed_headers_reach_a_backend() -> None:
    """Names that other servers act on, or take for framing, stop at the gateway."""

    async def work() -> None:
        async with Backend(echo) as backend, served(backend) as gate, client(gate.port) as peer:
            for line in IMITATIONS:
                backend.seen.clear()
                assert (await peer.call(lines=line + b"\r\n")).status == 200, line
                sent = {"host", "accept-encoding", "content-type", "accept", "content-length"}
                assert set(backend.seen[0].fields) == sent, line
                assert backend.seen[0].fields["accept-encoding"] == "identity"

    run(work())


def test_a_request_id_of_the_clients_is_never_taken_over() -> None:
    """Every answer carries one of ours, and no two the same."""

    async def work() -> None:
        async with Backend(echo) as backend, served(backend) as gate, client(gate.port) as peer:
            ids = []
            for path, method in (
                (b"/mcp/time", b"POST"),
                (b"/nowhere", b"POST"),
                (b"/mcp/time", b"PUT"),
                (b"/mcp/time", b"POST"),
            ):
                await peer.send(post(lines=b"x-request-id: mine\r\n", path=path).replace(b"POST", method, 1))
                ids += (await peer.answer()).all("x-request-id")
            await peer.send(b"broken\r\n\r\n")
            ids += (await peer.answer()).all("x-request-id")
            assert len(ids) == len(set(ids)) == 5
            assert "mine" not in ids
            assert len(backend.seen) == 2

    run(work())


@pytest.mark.parametrize(
    "path", [b"/mcp/time%0d%0aset-cookie:%20a=b", b"/mcp/x%E5%98%8A%E5%98%8Dset-cookie:a", b"/nowhere?a=%u000a"]
)
def test_nothing_of_an_address_becomes_a_header(path: bytes) -> None:
    """Escaped line ends are refused, look-alikes stay text that nobody repeats."""

    async def work() -> None:
        async with Backend(echo) as backend, served(backend) as gate, client(gate.port) as peer:
            answer = await peer.call(path=path)
            assert answer.status in (400, 404)
            assert answer.get("set-cookie") is None
            assert set(dict(answer.fields)) <= {"content-type", "x-request-id", "date", "content-length", "connection"}
            assert backend.seen == []

    run(work())


def test_nothing_of_a_message_becomes_a_header() -> None:
    """Ids, methods and names come back in JSON only, escaped as they were."""

    async def refusing(exchange: Exchange) -> None:
        await exchange.answer(b"no", status="500 Internal Server Error", headers={"content-type": "text/plain"})

    async def work() -> None:
        async with Backend(refusing) as backend, served(backend) as gate, client(gate.port) as peer:
            nasty = rb'{"jsonrpc":"2.0","id":"\r\nset-cookie: a=b\r\n\r\n","method":"x\r\ny: z"}'
            answer = await peer.call(nasty)
            assert answer.status == 500
            assert answer.get("set-cookie") is None
            assert rb'"\r\nset-cookie: a=b\r\n\r\n"' in answer.body

    run(work())


@pytest.mark.parametrize("kind", [b"content-type", b"last-event-id", b"mcp-protocol-version", b"mcp-session-id"])
def test_headers_that_decide_may_stand_once(kind: bytes) -> None:
    """A second one is 400, also when it says the same."""

    async def work() -> None:
        async with Backend(echo) as backend, served(backend) as gate, client(gate.port) as peer:
            value = b"application/json" if kind == b"content-type" else b"1"
            lines = b"%b: %b\r\n" % (kind, value)
            assert (await peer.call(lines=lines * (1 if kind == b"content-type" else 2))).status == 400
            assert backend.seen == []

    run(work())


def test_a_foreign_origin_and_a_foreign_host_never_reach_the_body() -> None:
    """403 before anything is read, and the connection ends because the body was not."""

    async def work() -> None:
        async with Backend(echo) as backend, served(backend) as gate:
            for data in (
                post(lines=b"origin: http://other.example\r\n"),
                post(lines=b"origin: null\r\n"),
                post(lines=b"origin: http://127.0.0.1:%d\r\norigin: http://other.example\r\n" % gate.port),
                post().replace(b"127.0.0.1", b"other.example", 1),
                post().replace(b"127.0.0.1", b"127.0.0.1.other.example", 1),
            ):
                async with client(gate.port) as peer:
                    await peer.send(data[: -len(PING)] + b" " * 10)
                    answer = await peer.answer()
                    assert (answer.status, answer.get("connection")) == (403, "close")
                    assert await peer.ends()
            assert backend.seen == []

    run(work())


def test_a_client_that_half_closes_counts_as_gone() -> None:
    """Its call is not answered, its connection ends, a GET stream's upstream is closed at once."""

    async def work() -> None:
        closed = asyncio.Event()
        opened = asyncio.Event()

        async def stream(exchange: Exchange) -> None:
            await exchange.stream()
            opened.set()
            if await exchange.gone():
                closed.set()

        async with Backend(stream) as backend, served(backend) as gate, client(gate.port) as peer:
            await peer.send(b"GET /mcp/time HTTP/1.1\r\nhost: 127.0.0.1\r\naccept: text/event-stream\r\n\r\n")
            await peer.reader.readuntil(b"\r\n\r\n")
            async with asyncio.timeout(2):
                await opened.wait()
                peer.writer.write_eof()
                await closed.wait()
            assert await peer.ends()
            assert backend.connections == 1

    run(work())


def test_the_configuration_of_these_tests_is_the_usual_one() -> None:
    """No authentication, no special host: what the tests show holds for the defaults."""
    backend = Backend(echo)
    assert "auth" not in configuration(backend)
    assert "hosts" not in configuration(backend)
