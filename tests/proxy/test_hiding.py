"""No address and no credential of a backend in anything a client gets, or in anything that is written down."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trustme

from moongate.testing import Backend, Exchange, gateway
from tests.proxy.talk import (
    call,
    config,
    connected,
    error,
    event,
    initialize,
    log_lines,
    modern_call,
    result,
    run,
    until,
)

TOKEN = "backend-token-Zq7"
KEY = "backend-key-Wx9"
SECRETS = {"Authorization": f"Bearer {TOKEN}", "X-API-Key": KEY}


@dataclass
class Told:
    """What the client got, and what was written: log and journal."""

    client: bytes
    written: bytes


def needles(host: str, port: int) -> list[bytes]:
    """What must not be found in what a client gets."""
    return [
        f":{port}".encode(),
        f"{host}:{port}".encode(),
        b"/mcp/deep-secret-path",
        TOKEN.encode(),
        KEY.encode(),
        b"127.0.0.1:",
    ]


async def told(text: str, seconds: float = 6.0) -> Told:
    """Send one of each kind of request to a gateway of this configuration; everything it said."""
    client_bytes = b""
    with log_lines() as log:
        async with gateway(text) as gate:
            body, headers = modern_call()
            async with asyncio.timeout(seconds):
                for ask in (
                    (call(), None, "POST"),
                    (body, headers, "POST"),
                    (initialize(), None, "POST"),
                    (None, None, "GET"),
                    (None, None, "DELETE"),
                ):
                    async with connected(gate) as client:
                        await client.send(ask[0], ask[1], method=ask[2])
                        head = await client.head()
                        if head.fields.get("content-type") != "text/event-stream" or ask[2] != "GET":
                            await client.body(head)
                        client_bytes += client.raw
            journal = b"\n".join(gate.records())
    return Told(client_bytes, log.getvalue().encode() + journal)


def check(found: Told, host: str, port: int) -> None:
    """Assert that nothing leaked."""
    for needle in needles(host, port):
        assert needle not in found.client, (needle, found.client)
    for secret in (TOKEN, KEY):
        assert secret.encode() not in found.written, (secret, found.written)


def entry(url: str, **more: Any) -> str:  # noqa: ANN401 - any JSON
    """A configuration with secrets."""
    return config(url, headers=SECRETS, timeout=400, sseReadTimeout=400, **more)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
@pytest.mark.requirement("PM-31", "PM-32")
def test_a_refused_connection_tells_nothing(host: str) -> None:
    """Connection refused."""

    async def story() -> None:
        async with Backend(_nothing) as backend:
            port = backend.port
        check(await told(entry(f"http://{host}:{port}/mcp/deep-secret-path")), host, port)

    run(story())


async def _nothing(exchange: Exchange) -> None:
    await exchange.gone()


@pytest.mark.requirement("PM-31", "PM-32")
def test_a_name_that_does_not_resolve_is_not_told() -> None:
    """DNS; also user, password and key of the address."""

    async def story() -> None:
        text = config(f"http://user:{TOKEN}@no-such-moon.invalid:9431/mcp/deep-secret-path?key={KEY}")
        found = await told(text, 15.0)
        check(found, "no-such-moon.invalid", 9431)
        assert b"no-such-moon" not in found.client
        assert b"upstream_dns" in found.written

    run(story())


@asynccontextmanager
async def tls_backend(context: ssl.SSLContext) -> AsyncIterator[int]:
    """A TLS server that answers every connection with one result; its port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            body = result()
            writer.write(
                b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n"
                b"content-length: %d\r\n\r\n%b" % (len(body), body)
            )
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await server.wait_closed()


@pytest.mark.parametrize("name", ["localhost", "other.example"])
@pytest.mark.requirement("PM-31", "PM-32", "AG-20")
def test_certificates_are_verified_and_failures_tell_nothing(name: str, tmp_path: Path) -> None:
    """A certificate of an unknown authority, or for another name, is upstream_tls; the right one is accepted."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    roots = tmp_path / "roots.pem"
    authority.cert_pem.write_to_path(str(roots))

    async def story() -> None:
        async with tls_backend(context) as port:
            url = f"https://localhost:{port}/mcp/deep-secret-path"
            unknown = await told(entry(url))
            check(unknown, "localhost", port)
            assert b"upstream_tls" in unknown.client
            assert b'"failure":"upstream_tls"' in unknown.written
            known = await told(entry(url, tls={"ca": str(roots)}))
            check(known, "localhost", port)
            assert (b"HTTP/1.1 200" in known.client) == (name == "localhost")
            assert (b"upstream_tls" in known.client) == (name != "localhost")

    run(story())


@pytest.mark.parametrize("how", ["plain", "closes", "silent"])
@pytest.mark.requirement("PM-31")
def test_https_to_something_that_speaks_no_tls(how: str) -> None:
    """A plain server, one that hangs up in the handshake, one that says nothing: tls, tls, timeout."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        if how == "plain":
            writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        if how == "silent":
            await reader.read(100_000)
            await reader.read(1)
        writer.close()

    async def story() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        try:
            found = await told(entry(f"https://localhost:{port}/mcp/deep-secret-path"))
        finally:
            server.close()
        check(found, "localhost", port)
        wanted = b"upstream_timeout" if how == "silent" else b"upstream_tls"
        assert wanted in found.client, found.client[:700]

    run(story())


Script = Callable[[Exchange, str, int], bytes]


def _error_text(exchange: Exchange, host: str, port: int) -> bytes:
    """An error message that names everything."""
    url = f"http://{host}:{port}/mcp/deep-secret-path"
    sent = exchange.seen.fields.get("authorization", "")
    return (
        f'{{"jsonrpc":"2.0","id":1,"error":{{"code":-32000,"message":"cannot POST {url} with {sent} and {KEY}",'
        f'"data":{{"url":"http:\\/\\/{host}:{port}\\/mcp"}}}}}}'
    ).encode()


STATUSES = [
    "301 Moved Permanently",
    "302 Found",
    "307 Temporary Redirect",
    "308 Permanent Redirect",
    "400 Bad Request",
    "401 Unauthorized",
    "403 Forbidden",
    "404 Not Found",
    "405 Method Not Allowed",
    "429 Too Many Requests",
    "500 Internal Server Error",
    "502 Bad Gateway",
    "503 Service Unavailable",
]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
@pytest.mark.parametrize("kind", ["application/json", "text/html", "text/event-stream"])
@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.requirement("PM-31", "PM-32")
def test_error_answers_of_a_backend_are_searched(status: str, kind: str, host: str) -> None:
    """3xx, 4xx and 5xx that name the backend in body, Location and every other header."""

    async def story() -> None:
        async def script(exchange: Exchange) -> None:
            port = backend.port
            url = f"http://{host}:{port}/mcp/deep-secret-path"
            body = _error_text(exchange, host, port)
            await exchange.answer(
                event(body) if kind == "text/event-stream" else body,
                status=status,
                headers={"content-type": kind, **_telling_headers(host, port, url)},
            )

        async with Backend(script) as backend:
            found = await told(entry(f"http://{host}:{backend.port}/mcp/deep-secret-path"))
            check(found, host, backend.port)

    run(story())


def _telling_headers(host: str, port: int, url: str) -> dict[str, str]:
    return {
        "location": f"http://{host}1:{port}/elsewhere",
        "content-location": url,
        "www-authenticate": f'Bearer resource_metadata="{url}"',
        "server": f"tide/{host}:{port}",
        "via": f"1.1 {host}:{port}",
        "link": f"<{url}>; rel=next",
        "set-cookie": f"host={host}:{port}",
        "access-control-allow-origin": f"http://{host}:{port}",
        "alt-svc": f'h2="{host}:{port}"',
        "refresh": f"1; url={url}",
        "x-backend": f"{host}:{port}",
        "x-upper": f"{host.upper()}:{port}",
        "x-url": url,
    }


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.requirement("PM-31", "PM-32")
def test_headers_of_good_answers_are_searched(streamed: bool) -> None:
    """2xx: bodies are the backend's word, but no header names it."""

    async def story() -> None:
        async def script(exchange: Exchange) -> None:
            url = f"http://localhost:{backend.port}/mcp/deep-secret-path"
            headers = {**_telling_headers("localhost", backend.port, url), "x-harmless": "moon", "mcp-session-id": "s"}
            if streamed:
                await exchange.stream(headers)
                await exchange.chunk(event(result(0 if b"initialize" in exchange.seen.body else 1)))
                if exchange.seen.method == "GET":
                    await exchange.gone()
                await exchange.close_stream()
            else:
                await exchange.answer(result(), headers=headers)

        async with Backend(script) as backend:
            found = await told(entry(f"http://localhost:{backend.port}/mcp/deep-secret-path"))
            check(found, "localhost", backend.port)
            assert found.client.lower().count(b"x-harmless: moon") == 5
            for name in _telling_headers("localhost", 1, "x"):
                if not name.startswith("x-"):
                    assert f"\r\n{name}:".encode() not in found.client.lower(), name

    run(story())


@pytest.mark.parametrize("status", ["200 OK", "404 Not Found", "500 Internal Server Error"])
@pytest.mark.requirement("PM-32")
def test_an_echoed_secret_does_not_pass_in_headers_or_errors(status: str) -> None:
    """A backend that echoes our credential in a header or an error's text cannot hand it to the client."""

    async def story() -> None:
        async def script(exchange: Exchange) -> None:
            sent = exchange.seen.fields["authorization"]
            body = result() if status.startswith("200") else error(1, -32000, f"{sent} was not liked, nor was {KEY}")
            await exchange.answer(
                body, status=status, headers={"x-echo": exchange.seen.fields["authorization"], "x-key": KEY}
            )

        async with Backend(script) as backend:
            check(await told(entry(backend.url)), "127.0.0.1", backend.port)

    run(story())


@pytest.mark.requirement("PM-31")
def test_the_address_behind_a_name_does_not_pass_in_errors() -> None:
    """A backend that is configured by name tells its address in an error, as a failed connection of its own would."""

    async def story() -> None:
        async def script(exchange: Exchange) -> None:
            body = error(1, -32603, f"connect ECONNREFUSED 127.0.0.1:{backend.port}")
            await exchange.answer(
                body, status="500 Internal Server Error", headers={"x-served-by": f"127.0.0.1:{backend.port}"}
            )

        async with Backend(script) as backend:
            check(await told(entry(f"http://localhost:{backend.port}/mcp")), "localhost", backend.port)

    run(story())


@pytest.mark.requirement("PM-31", "PM-32")
def test_garbage_and_resets_tell_nothing() -> None:
    """Garbage that names the backend and its secrets is not quoted, neither to the client nor in a log."""

    async def story() -> None:
        async def script(exchange: Exchange) -> None:
            number = len(backend.seen) % 4
            text = f"localhost:{backend.port} {TOKEN} {KEY}".encode()
            if number == 0:
                await exchange.send(text + b"\r\n\r\n")
            elif number == 1:
                await exchange.send(b"HTTP/1.1 200 OK\r\n" + text + b"\r\n\r\n")
            elif number == 2:
                await exchange.send(
                    b"HTTP/1.1 200 " + text + b"\r\ncontent-type: text/" + text + b"\r\ncontent-length: 0\r\n\r\n"
                )
            else:
                await exchange.send(
                    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: " + text + b"\r\n\r\n"
                )
            exchange.reset()

        async with Backend(script) as backend:
            found = await told(entry(f"http://localhost:{backend.port}/mcp/deep-secret-path"))
            check(found, "localhost", backend.port)

    run(story())


@pytest.mark.requirement("PM-31", "PM-32")
def test_a_stream_that_breaks_tells_nothing() -> None:
    """The error event that the gateway makes names neither address nor credential."""

    async def story() -> None:
        async def script(exchange: Exchange) -> None:
            await exchange.stream()
            await exchange.chunk(b": hi\n\n")
            await exchange.chunk(event(b'{"jsonrpc":"2.0","method":"notifications/x"}'))
            exchange.reset()

        async with Backend(script) as backend:
            found = await told(entry(f"http://localhost:{backend.port}/mcp/deep-secret-path"))
            check(found, "localhost", backend.port)
            assert b"upstream_reset" in found.client

    run(story())


@pytest.mark.requirement("PM-61")
def test_an_unknown_instance_tells_nothing_of_others() -> None:
    """404 in the same words for every unknown address; no name of an instance in it."""

    async def story() -> None:
        text = '{"gateway": {"tokens": [{"name": "alice", "token": "alice-token"}]}, "mcpServers": {"tides": {"url": "http://127.0.0.1:9/"}}}'
        async with gateway(text) as gate:
            answers = set()
            for path in (
                "/mcp/tide",
                "/mcp/tidess",
                "/mcp/Tides",
                "/mcp",
                "/",
                "/mcp/",
                "/other",
                "/mcp/tides/other",
                "/.well-known/x",
            ):
                for headers in ({}, {"authorization": "Bearer alice-token"}):
                    async with connected(gate) as client:
                        answer = await client.ask(call(), headers, path=path)
                        assert answer.failure == (404, "not_found")
                        assert "id" not in answer.message
                        names = tuple(sorted(name for name, _ in answer.lines))
                        answers.add((answer.message["error"]["message"].partition(" (request")[0], names))
                        assert b"tides" not in client.raw
            assert len(answers) == 1
            await until(lambda: len(gate.records()) == 18)

    run(story())
