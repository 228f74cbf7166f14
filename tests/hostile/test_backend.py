"""Backends that attack: answers that want to be two answers, headers that want to be lines, heads without end."""

from __future__ import annotations

import asyncio
import gzip
import json

import pytest

from moongate.testing import Backend, Exchange
from tests.hostile.talk import PING, PONG, Answer, client, echo, head, post, run, served

SIZE = b"content-length: %d\r\n" % len(PONG)
JSON = b"content-type: application/json\r\n"
EVIL = b"HTTP/1.1 200 OK\r\n" + JSON + b"content-length: 13\r\nset-cookie: evil=1\r\n\r\n" + b'{"evil":true}'


def _ok(lines: bytes, body: bytes = PONG) -> bytes:
    return b"HTTP/1.1 200 OK\r\n" + JSON + lines + b"\r\n" + body


CHUNKED = b"%x\r\n%b\r\n0\r\n\r\n" % (len(PONG), PONG)
TE = b"transfer-encoding: chunked\r\n"

REFUSED = [
    ("value with bare CR", _ok(SIZE + b"x: a\rset-cookie: b\r\n")),
    ("value with bare LF", _ok(SIZE + b"x: a\nset-cookie: b\r\n")),
    ("value with NUL", _ok(SIZE + b"x: a\0b\r\n")),
    ("value with a control character", _ok(SIZE + b"x: a\x1bb\r\n")),
    ("value with DEL", _ok(SIZE + b"x: a\x7fb\r\n")),
    ("folded value", _ok(SIZE + b"x: a\r\n b\r\n")),
    ("name with a space", _ok(SIZE + b"x y: a\r\n")),
    ("space before the colon", _ok(SIZE + b"x : a\r\n")),
    ("no colon", _ok(SIZE + b"abc\r\n")),
    ("session id with a bare CR", _ok(SIZE + b"mcp-session-id: a\rb\r\n")),
    ("two lengths, the same", _ok(SIZE + SIZE)),
    ("two lengths, different", _ok(SIZE + b"content-length: 3\r\n")),
    ("length list", _ok(b"content-length: 3, 3\r\n")),
    ("length negative", _ok(b"content-length: -1\r\n")),
    ("length hexadecimal", _ok(b"content-length: 0x24\r\n")),
    ("length beyond reason", _ok(b"content-length: 99999999999999999999\r\n")),
    ("both lengths", _ok(SIZE + TE, CHUNKED)),
    ("both lengths, other order", _ok(TE + SIZE, CHUNKED)),
    ("gzip, chunked", _ok(b"transfer-encoding: gzip, chunked\r\n", CHUNKED)),
    ("chunked twice", _ok(TE + TE, CHUNKED)),
    ("identity", _ok(b"transfer-encoding: identity\r\n")),
    ("coding on HTTP/1.0", _ok(TE, CHUNKED).replace(b"1.1", b"1.0", 1)),
    ("bad chunk size", _ok(TE, b"0x24\r\n" + PONG + b"\r\n0\r\n\r\n")),
    ("chunk ended by bare LF", _ok(TE, b"24\n" + PONG + b"\n0\n\n")),
    ("chunk longer than its size", _ok(TE, b"20\r\n" + PONG + b"\r\n0\r\n\r\n")),
    ("lines ended by bare LF", _ok(SIZE).replace(b"\r\n", b"\n")),
    ("HTTP/2 status line", b"HTTP/2 200\r\n" + SIZE + b"\r\n" + PONG),
    ("status of two digits", b"HTTP/1.1 20 OK\r\n" + SIZE + b"\r\n" + PONG),
    ("status of four digits", b"HTTP/1.1 2000 OK\r\n" + SIZE + b"\r\n" + PONG),
    ("status zero", b"HTTP/1.1 000 OK\r\n" + SIZE + b"\r\n" + PONG),
    ("another protocol", b"SSH-2.0-OpenSSH_9.2p1\r\n"),
    ("another protocol with an empty line", b"220 mail.example ESMTP\r\n\r\n"),
    ("control character in the reason", b"HTTP/1.1 200 O\x00K\r\n" + JSON + SIZE + b"\r\n" + PONG),
    ("bare CR in the reason", b"HTTP/1.1 200 OK\rset-cookie: a\r\n" + JSON + SIZE + b"\r\n" + PONG),
    ("switching protocols", b"HTTP/1.1 101 Switching Protocols\r\nupgrade: h2c\r\nconnection: upgrade\r\n\r\n"),
    ("a head without end", b"HTTP/1.1 200 OK\r\nx: " + b"a" * 200_000),
    ("a head of a thousand fields", _ok(SIZE + b"x: y\r\n" * 1000)),
    ("a redirection elsewhere", b"HTTP/1.1 307 X\r\nlocation: http://other.example/\r\ncontent-length: 0\r\n\r\n"),
    ("garbage", bytes(range(256)) * 4 + b"\r\n\r\n"),
    ("closed before its answer", b""),
    ("closed in its head", b"HTTP/1.1 200 OK\r\ncontent-ty"),
    ("closed in its body", _ok(b"content-length: 1000\r\n")),
]


async def _once(data: bytes, *, request: bytes = b"") -> tuple[Answer, Answer, Backend]:
    """The answer to a call that the backend answers with `data`, and to a second one on the same client connection."""
    calls = iter([data])

    async def script(exchange: Exchange) -> None:
        raw = next(calls, None)
        if raw is None:
            await exchange.answer(PONG)
        else:
            await exchange.send(raw)
            exchange.writer.close()

    async with Backend(script) as backend, served(backend) as gate, client(gate.port) as peer:
        await peer.send(request or post())
        first = await peer.answer()
        await peer.send(post())
        return first, await peer.answer(), backend


@pytest.mark.parametrize("data", [data for _, data in REFUSED], ids=[name for name, _ in REFUSED])
def test_answers_that_are_not_http_are_502(data: bytes) -> None:
    """One answer of ours, without a word of the backend's; the client's connection goes on, the backend's does not."""

    async def work() -> None:
        first, second, backend = await _once(data)
        assert first.status == 502
        assert json.loads(first.body)["error"]["data"]["class"] in ("upstream_protocol", "upstream_reset")
        assert first.get("set-cookie") is None
        assert first.get("x-request-id")
        assert (second.status, second.body) == (200, PONG)
        assert backend.connections == 2

    run(work())


def test_an_answer_that_breaks_off_in_its_chunks_breaks_off_at_the_client() -> None:
    """Where its head has left, the end of the connection without a last chunk must tell; a short one is a 502."""

    async def work() -> None:
        long = b'{"jsonrpc":"2.0","id":1,"result":{"text":"' + b"x" * 100_000
        with pytest.raises(asyncio.IncompleteReadError):
            await _once(_ok(TE, b"%x\r\n" % len(long) + long + b"\r\n"))
        short, _, _ = await _once(_ok(TE, b"24\r\n" + PONG + b"\r\n"))
        assert short.status == 502

    run(work())


def test_a_second_answer_behind_the_first_is_dropped_with_its_connection() -> None:
    """The bytes that nobody asked for are not the answer to the next call."""

    async def work() -> None:
        for data in (
            _ok(SIZE) + EVIL,
            _ok(TE, CHUNKED) + EVIL,
            b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n" + EVIL,
        ):
            notification = b'{"jsonrpc":"2.0","method":"notifications/initialized"}'
            first, second, backend = await _once(data, request=post(notification))
            assert first.status in (200, 202)
            assert b"evil" not in first.body + second.body
            assert (second.status, second.body) == (200, PONG)
            assert backend.connections == 2

    run(work())


def test_an_answer_that_comes_between_two_calls_is_not_taken_for_the_second() -> None:
    """Unasked bytes on a resting connection end it."""

    async def work() -> None:
        sent = asyncio.Event()

        async def script(exchange: Exchange) -> None:
            await exchange.answer(PONG)
            if not sent.is_set():
                await asyncio.sleep(0.05)  # until the connection rests
                await exchange.send(EVIL)
                sent.set()

        async with Backend(script) as backend, served(backend) as gate, client(gate.port) as peer:
            assert (await peer.call()).body == PONG
            async with asyncio.timeout(2):
                await sent.wait()
            await asyncio.sleep(0.05)  # until the gateway has seen it
            assert (await peer.call()).body == PONG
            assert backend.connections == 2

    run(work())


def test_bytes_beyond_an_answer_without_body_are_never_a_body() -> None:
    """204 has none, whatever its length says."""

    async def work() -> None:
        notification = b'{"jsonrpc":"2.0","method":"notifications/initialized"}'
        first, second, backend = await _once(b"HTTP/1.1 204 X\r\n" + SIZE + b"\r\n" + PONG, request=post(notification))
        assert (first.status, first.body) == (204, b"")
        assert first.get("content-length") is None
        assert second.body == PONG
        assert backend.connections == 2

    run(work())


def test_interim_answers_are_read_over() -> None:
    """100, 102 and 103 before the real one; nothing of them reaches the client."""

    async def work() -> None:
        interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </evil>\r\nset-cookie: a=b\r\n\r\n"
        first, _, _ = await _once(interim + _ok(SIZE))
        assert (first.status, first.body) == (200, PONG)
        assert b"evil" not in first.head

    run(work())


def test_a_flood_of_interim_answers_ends_with_the_time_for_an_answer() -> None:
    """They do not count as an answer, and the gateway goes on serving others meanwhile."""

    async def flood(exchange: Exchange) -> None:
        if b"flood" not in exchange.seen.body:
            await exchange.answer(PONG)
            return
        while True:
            await exchange.send(b"HTTP/1.1 100 Continue\r\n\r\n" * 100)
            await asyncio.sleep(0.002)

    async def work() -> None:
        async with (
            Backend(flood) as backend,
            served(backend) as gate,
            client(gate.port) as peer,
            client(gate.port) as other,
        ):
            await peer.send(post(b'{"jsonrpc":"2.0","id":1,"method":"flood"}'))
            for _ in range(20):
                assert (await other.call()).body == PONG
            assert (await peer.answer()).status in (502, 504)
            assert backend.connections >= 2

    run(work())


PASSING = [
    ("bytes beyond ASCII in a value", b"x: \xc3\xa4\xff\r\n"),
    ("a value without text", b"x:\r\n"),
    ("two fields of one name", b"x: 1\r\nx: 2\r\n"),
]


@pytest.mark.parametrize("lines", [lines for _, lines in PASSING], ids=[name for name, _ in PASSING])
def test_unusual_headers_pass_as_they_are(lines: bytes) -> None:
    """Byte for byte."""

    async def work() -> None:
        first, _, _ = await _once(_ok(SIZE + lines))
        assert first.status == 200
        assert first.all("x") == [line.partition(b":")[2].strip().decode("latin-1") for line in lines.splitlines()]

    run(work())


STOPPED = [
    *(b"set-cookie: a=b", b"location: /x", b"www-authenticate: Basic", b"access-control-allow-origin: *", b"server: x"),
    *(
        b"via: 1.1 x",
        b"alt-svc: h3",
        b"link: </x>",
        b"strict-transport-security: max-age=1",
        b"report-to: x",
        b"nel: x",
    ),
    *(b"x-request-id: theirs", b"proxy-authenticate: Basic", b"upgrade: h2c", b"keep-alive: timeout=1", b"trailer: x"),
    *(b"connection: x-hop, close\r\nx-hop: 1", b"connection: keep-alive\r\nConnection: x-hop\r\nx-hop: 1", b"te: x"),
    b"access-control-allow-credentials: true",
]


@pytest.mark.parametrize("line", STOPPED)
def test_headers_that_speak_for_another_origin_or_hop_stop_here(line: bytes) -> None:
    """Cookies, redirections, challenges, browsers' permissions, and what belongs to one connection."""

    async def work() -> None:
        first, _, _ = await _once(_ok(SIZE + line + b"\r\n"))
        assert first.status == 200
        allowed = {"content-type", "content-length", "x-request-id", "connection"}
        assert set(dict(first.fields)) <= allowed
        assert first.get("x-request-id") != "theirs"
        assert len(first.all("x-request-id")) == 1

    run(work())


def test_an_answer_without_length_ends_with_its_connection() -> None:
    """HTTP/1.0 style, and the client gets it framed."""

    async def work() -> None:
        for version in (b"1.0", b"1.1"):
            first, second, backend = await _once(b"HTTP/%b 200 OK\r\n%b\r\n%b" % (version, JSON, PONG))
            assert (first.status, first.body, second.body) == (200, PONG, PONG)
            assert backend.connections == 2

    run(work())


def test_a_compressed_bomb_stays_small() -> None:
    """Where a body must be read it is read up to a limit; the client hears that the answer cannot be used."""

    async def work() -> None:
        bomb = gzip.compress(b"[" + b"0," * 20_000_000 + b"0]")
        lines = b"content-encoding: gzip\r\ncontent-length: %d\r\n" % len(bomb)
        initialize = b'{"jsonrpc":"2.0","id":1,"method":"initialize","params":{}}'
        first, second, _ = await _once(_ok(lines, bomb), request=post(initialize))
        assert (first.status, second.status) == (502, 200)

    run(work())


@pytest.mark.parametrize("coding", [b"br", b"zstd", b"gzip, gzip", b"compress", b"x"])
def test_codings_that_nobody_asked_for_are_502(coding: bytes) -> None:
    """We ask for identity; what cannot be undone is not passed on as if it were."""

    async def work() -> None:
        first, _, _ = await _once(_ok(SIZE + b"content-encoding: " + coding + b"\r\n"))
        assert first.status == 502

    run(work())


def test_a_truncated_compressed_answer_is_never_passed_on_as_whole() -> None:
    """The frame is complete, the compressed stream in it is not."""

    async def work() -> None:
        whole = b'{"jsonrpc":"2.0","id":1,"result":"' + b"".join(b"%d" % n for n in range(200_000)) + b'"}'
        packed = gzip.compress(whole)[:-20_000]
        lines = b"content-encoding: gzip\r\ncontent-length: %d\r\n" % len(packed)

        async def script(exchange: Exchange) -> None:
            await exchange.send(_ok(lines, packed))

        async with Backend(script) as backend, served(backend) as gate, client(gate.port) as peer:
            await peer.send(post())
            try:
                answer = await peer.answer()
            except (asyncio.IncompleteReadError, ConnectionError):
                return  # broken off: the client can tell
            assert answer.status == 502, f"{len(answer.body)} of {len(whole)} bytes came as if they were all"

    run(work())


def test_a_backend_that_answers_before_the_request_is_complete_is_not_used_again() -> None:
    """What is left of the upload would be read as the next request by a backend that did not wait for it."""

    async def work() -> None:
        large = b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"x":"' + b"a" * 12_000_000 + b'"}}'
        heads: list[bytes] = []
        done = asyncio.Event()

        async def early(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            heads.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(_ok(SIZE))
            await done.wait()
            writer.close()

        server = await asyncio.start_server(early, "127.0.0.1", 0)
        backend = Backend(echo)
        backend.port = server.sockets[0].getsockname()[1]
        async with served(backend) as gate, client(gate.port) as peer:
            try:
                await peer.send(post(large))
                assert (await peer.answer()).body == PONG
                await peer.send(post())
                assert (await peer.answer()).body == PONG
                assert len(heads) == 2, "the second request went behind an upload that nobody has taken"
            finally:
                done.set()
                server.close()

    run(work())


def test_what_a_client_pipelines_never_shares_a_packet_with_another_call() -> None:
    """A backend sees one request at a time on each connection, in plain framing."""

    async def work() -> None:
        async def script(exchange: Exchange) -> None:
            await asyncio.sleep(0)
            assert not exchange.reader._buffer  # type: ignore[attr-defined]
            await exchange.answer(PONG)

        async with Backend(script) as backend, served(backend) as gate, client(gate.port) as peer:
            chunked = head(TE) + b"%x\r\n%b\r\n0\r\n\r\n" % (len(PING), PING)
            await peer.send((post() + chunked) * 20)
            assert [(await peer.answer()).body for _ in range(40)] == [PONG] * 40
            assert {seen.fields["content-length"] for seen in backend.seen} == {str(len(PING))}

    run(work())
