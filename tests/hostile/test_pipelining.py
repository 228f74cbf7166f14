"""Many requests on one connection: every one is answered, in order, however the bytes are cut."""

from __future__ import annotations

import asyncio
import json

import pytest

from moongate.testing import Backend, Exchange
from moongate.wire.server import ServerConnection
from tests.hostile.talk import PING, PONG, Answer, Client, client, echo, head, narrow_client, post, run, served, turned

TE = b"transfer-encoding: chunked\r\n"


def _numbered(number: int, lines: bytes = b"") -> bytes:
    body = b'{"jsonrpc":"2.0","id":%d,"method":"ping"}' % number
    if number % 2:
        return head(TE + lines) + b"3\r\n%b\r\n%x\r\n%b\r\n0\r\n\r\n" % (body[:3], len(body) - 3, body[3:])
    return post(body, lines)


async def _mirror(exchange: Exchange) -> None:
    number = json.loads(exchange.seen.body)["id"]
    await exchange.answer(b'{"jsonrpc":"2.0","id":%d,"result":{}}' % number)


def test_requests_in_one_packet_are_answered_in_order() -> None:
    """Two hundred of them, sized and chunked in turn."""

    async def work() -> None:
        async with Backend(_mirror) as backend, served(backend) as gate, client(gate.port) as peer:
            await peer.send(b"".join(map(_numbered, range(200))))
            answers = [json.loads((await peer.answer()).body)["id"] for _ in range(200)]
            assert answers == list(range(200))
            assert [json.loads(seen.body)["id"] for seen in backend.seen] == answers

    run(work())


def test_own_and_forwarded_answers_keep_their_order() -> None:
    """A refusal is written at once, but never before the answer to what came before it."""

    async def work() -> None:
        async with Backend(_mirror) as backend, served(backend) as gate, client(gate.port) as peer:
            wrong = b"GET /nowhere HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n"
            await peer.send((_numbered(1) + wrong + _numbered(2) + wrong) * 20)
            assert [(await peer.answer()).status for _ in range(80)] == [200, 404] * 40

    run(work())


def test_two_requests_cut_at_every_byte_are_the_same_two_requests() -> None:
    """Each cut on a connection of its own."""

    async def one(port: int, data: bytes, cut: int) -> None:
        async with client(port) as peer:
            peer.writer.write(data[:cut])
            await asyncio.sleep(0.002 * (cut % 5))  # lets the first part arrive alone
            await peer.send(data[cut:])
            assert [json.loads((await peer.answer()).body)["id"] for _ in range(2)] == [1, 2], cut

    async def work() -> None:
        data = _numbered(1) + _numbered(2)
        async with Backend(_mirror) as backend, served(backend) as gate:
            for start in range(1, len(data), 50):
                async with asyncio.TaskGroup() as group:
                    for cut in range(start, min(start + 50, len(data))):
                        group.create_task(one(gate.port, data, cut))
            assert len(backend.seen) == 2 * (len(data) - 1)

    run(work())


def test_byte_by_byte() -> None:
    """The slowest way to write two requests."""

    async def work() -> None:
        async with Backend(_mirror) as backend, served(backend) as gate, client(gate.port) as peer:
            for byte in _numbered(1) + _numbered(2):
                peer.writer.write(bytes([byte]))
                await asyncio.sleep(0)
            assert [json.loads((await peer.answer()).body)["id"] for _ in range(2)] == [1, 2]

    run(work())


async def _large(exchange: Exchange) -> None:
    await exchange.answer(b'{"jsonrpc":"2.0","id":1,"result":"' + b"a" * 60_000 + b'"}')


async def _most_waiting(connection: ServerConnection, seconds: float) -> int:
    """How many bytes waited at most for a client that does not read."""
    loop = asyncio.get_running_loop()
    most, limit = 0, loop.time() + seconds
    while loop.time() < limit and most < 2_000_000:
        await asyncio.sleep(0.002)
        most = max(most, connection._transport.get_write_buffer_size())
    return most


@pytest.mark.parametrize(
    "request_bytes", [post(), b"GET /nowhere HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n"], ids=["calls", "refusals"]
)
def test_answers_cannot_pile_up_for_a_client_that_never_reads(request_bytes: bytes) -> None:
    """While one waits to be taken no further request is carried, be its answer a backend's or the gateway's own."""

    async def work() -> None:
        async with Backend(_large) as backend, served(backend) as gate, narrow_client(gate) as (peer, connection):
            peer.writer.write(request_bytes * 20_000)
            most = await _most_waiting(connection, 2.0)
            assert most < 1_000_000, f"{most} bytes wait for a client that reads nothing"

    run(work())


def test_a_client_that_never_reads_its_answer_is_let_go() -> None:
    """Within the time that it may refuse to read, the connection is gone."""

    async def huge(exchange: Exchange) -> None:
        await exchange.answer(b'{"jsonrpc":"2.0","id":1,"result":"' + b"a" * 8_000_000 + b'"}')

    async def work() -> None:
        limits = "writeTime: 300ms, idleTime: 300ms"
        async with Backend(huge) as backend, served(backend, limits) as gate, narrow_client(gate) as (peer, connection):
            await peer.send(post())
            assert await turned(lambda: connection.gone, 2.0)
            assert not gate.runtime.binds[0].server.connections

    run(work())


@pytest.mark.parametrize("lines", [b"", b"connection: close\r\n"], ids=["kept alive", "closing"])
def test_a_client_that_never_reads_a_short_answer_is_let_go(lines: bytes) -> None:
    """An answer that was written in one piece is no reason to wait for ever, kept alive or not."""

    async def work() -> None:
        limits = "writeTime: 300ms, idleTime: 300ms"
        async with (
            Backend(_large) as backend,
            served(backend, limits) as gate,
            narrow_client(gate) as (peer, connection),
        ):
            await peer.send(post(lines=lines))
            assert await turned(lambda: connection._transport.get_write_buffer_size() > 0, 2.0)
            assert await turned(lambda: connection.gone, 3.0)
            assert not gate.runtime.binds[0].server.connections

    run(work())


def test_an_idle_connection_ends_also_when_its_last_answer_was_taken_slowly() -> None:
    """The limit on a quiet connection is not lost when the client catches up."""

    async def work() -> None:
        async with (
            Backend(_large) as backend,
            served(backend, "idleTime: 500ms") as gate,
            narrow_client(gate) as (peer, _),
        ):
            await peer.send(post())
            await asyncio.sleep(0.1)  # the answer is stuck in between
            assert len((await peer.answer()).body) > 60_000
            assert await peer.ends()

    run(work())


async def _one_zero(peer: Client, lines: bytes) -> Answer:
    await peer.send(post(lines=lines, version=b"1.0"))
    return await peer.answer()


def test_http_1_0_closes_unless_asked() -> None:
    """Keep-alive is the exception there, and is confirmed."""

    async def work() -> None:
        async with Backend(echo) as backend, served(backend) as gate:
            async with client(gate.port) as peer:
                answer = await _one_zero(peer, b"")
                assert (answer.status, answer.get("connection")) == (200, "close")
                assert await peer.ends()
            async with client(gate.port) as peer:
                for _ in range(3):
                    answer = await _one_zero(peer, b"connection: Keep-Alive\r\n")
                    assert (answer.status, answer.get("connection")) == (200, "keep-alive")
                assert (await _one_zero(peer, b"connection: keep-alive, close\r\n")).get("connection") == "close"
                assert await peer.ends()

    run(work())


def test_http_1_0_gets_streams_without_chunks() -> None:
    """An event stream ends with the connection, also where keep-alive was asked for."""
    long = b": " + b"x" * 1_000_000 + b"\n\n"  # too long to have arrived whole with its head

    async def stream(exchange: Exchange) -> None:
        await exchange.stream()
        await exchange.chunk(long)
        await exchange.chunk(b"data: " + PONG + b"\n\n")
        await exchange.close_stream()

    async def work() -> None:
        async with Backend(stream) as backend, served(backend) as gate, client(gate.port) as peer:
            answer = await _one_zero(peer, b"connection: keep-alive\r\n")
            assert answer.get("transfer-encoding") is None
            assert answer.get("connection") == "close"
            assert answer.body == long + b"data: " + PONG + b"\n\n"

    run(work())


def test_connection_close_is_kept_to() -> None:
    """Nothing behind the last request of a connection is read."""

    async def work() -> None:
        async with Backend(echo) as backend, served(backend) as gate, client(gate.port) as peer:
            await peer.send(post(lines=b"connection: x, CLOSE\r\n") + post() * 3)
            answer = await peer.answer()
            assert (answer.status, answer.get("connection")) == (200, "close")
            assert await peer.ends()
            assert len(backend.seen) == 1

    run(work())


def test_head_gets_a_head_only() -> None:
    """Nothing follows it but the next answer."""

    async def work() -> None:
        async with Backend(echo) as backend, served(backend) as gate, client(gate.port) as peer:
            for path, status in ((b"/mcp/time", 405), (b"/nowhere", 404)):
                await peer.send(b"HEAD " + path + b" HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n" + post())
                answer = await peer.answer("HEAD")
                assert answer.status == status
                assert int(answer.get("content-length") or 0) > 0
                assert (await peer.answer()).body == PONG

    run(work())


def test_an_upgrade_is_ignored() -> None:
    """Java's HttpClient offers h2c with its first POST; the body behind it is a body, and more may follow."""

    async def work() -> None:
        offer = b"connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAEAAEAAAAIAAAAB\r\n"
        async with Backend(echo) as backend, served(backend) as gate, client(gate.port) as peer:
            await peer.send(
                post(lines=offer) + post() + head(TE + offer) + b"28\r\n" + PING + b"\r\n0\r\n\r\n" + post()
            )
            assert [(await peer.answer()).body for _ in range(4)] == [PONG] * 4
            assert all(seen.body == PING for seen in backend.seen)
            assert not {"upgrade", "http2-settings", "connection"} & set(backend.seen[0].fields)

    run(work())


@pytest.mark.parametrize("method", [b"TRACE", b"OPTIONS", b"PUT", b"PATCH", b"CONNECT", b"SEARCH", b"SOURCE"])
def test_other_methods_are_405(method: bytes) -> None:
    """TRACE echoes nothing; the connection stays, and the bodies are not forwarded."""

    async def work() -> None:
        async with Backend(echo) as backend, served(backend) as gate, client(gate.port) as peer:
            secret = b"authorization: Bearer alice-token\r\n"
            await peer.send(method + b" /mcp/time HTTP/1.1\r\nhost: 127.0.0.1\r\n" + secret + b"\r\n" + post())
            answer = await peer.answer()
            assert answer.status == 405
            assert answer.get("allow") == "GET, POST, DELETE"
            assert b"alice-token" not in answer.head + answer.body
            assert (await peer.answer()).body == PONG
            assert len(backend.seen) == 1

    run(work())


ADDRESSES = [
    *(b"*", b"/", b"//", b"//mcp/time", b"/mcp//time", b"//127.0.0.1/mcp/time", b"/mcp/time//", b"/mcp/time/x"),
    *(
        b"/mcp/time/..",
        b"/mcp/time/../time",
        b"/mcp/./time",
        b"/mcp/%74ime",
        b"/mcp%2Ftime",
        b"/mcp/time%2F",
        b"/MCP/time",
    ),
    *(b"/mcp/time;x=y", b"/mcp/time/mcp/", b"/mcp/time%3Fa", b"/mcp/Time", b"/mcp/time/v1/stream/"),
]


@pytest.mark.parametrize("target", ADDRESSES)
def test_addresses_that_only_resemble_an_instance_are_404(target: bytes) -> None:
    """Paths are compared as they are; nothing is decoded, joined or folded."""

    async def work() -> None:
        async with Backend(echo) as backend, served(backend) as gate, client(gate.port) as peer:
            assert (await peer.call(path=target)).status == 404
            assert (await peer.call()).status == 200
            assert len(backend.seen) == 1

    run(work())


def test_a_body_that_nobody_reads_is_never_a_request() -> None:
    """GET and DELETE with a body, and bodies of refused requests: what follows the body is the next request."""

    async def work() -> None:
        async with Backend(echo) as backend, served(backend) as gate:
            inner = post(b'{"jsonrpc":"2.0","id":666,"method":"smuggled"}')
            for method, path in ((b"DELETE", b"/mcp/time"), (b"GET", b"/nowhere"), (b"PUT", b"/mcp/time")):
                for framing, body in (
                    (b"content-length: %d\r\n" % len(inner), inner),
                    (TE, b"%x\r\n%b\r\n0\r\n\r\n" % (len(inner), inner)),
                ):
                    backend.seen.clear()
                    async with client(gate.port) as peer:
                        await peer.send(
                            method + b" " + path + b" HTTP/1.1\r\nhost: 127.0.0.1\r\n" + framing + b"\r\n" + body
                        )
                        await peer.answer()
                        await peer.send(post())
                        data = await peer.rest() if peer.reader.at_eof() else (await peer.answer()).head
                        assert b" 200 " in data or not data
                    assert all(seen.body in (b"", PING) for seen in backend.seen)
                    assert b"smuggled" not in b"".join(seen.head + seen.body for seen in backend.seen)

    run(work())
