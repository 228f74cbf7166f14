"""`moongate connect` as a program: what it carries, how it ends, what it never shows."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import time
from asyncio.subprocess import DEVNULL
from pathlib import Path

import pytest
import trustme

from moongate.testing import Backend, Exchange
from tests.connect.started import READY, memory, said, started
from tests.proxy.talk import call, error, event, initialize, initialized, modern_call, polite, result, run
from tests.runtime.test_serve import moongate

NOTE = b'{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"moon"}}'
QUESTION = b'{"jsonrpc":"2.0","id":"s-1","method":"roots/list"}'
ROOTS = b'{"jsonrpc":"2.0","id":"s-1","result":{"roots":[]}}'


def test_a_conversation_in_both_directions(tmp_path: Path) -> None:
    """Calls, notifications and server requests, on the streams of calls and on the GET stream; then a clean end."""

    async def story() -> None:
        answered = asyncio.Event()

        async def script(exchange: Exchange) -> None:
            seen = exchange.seen
            if seen.method == "GET":
                await exchange.stream()
                await exchange.chunk(event(NOTE))
                await exchange.gone()
            elif b'"tools/call"' in seen.body:
                await exchange.stream()
                await exchange.chunk(event(QUESTION))
                await answered.wait()
                await exchange.chunk(event(result(7)))
                await exchange.close_stream()
            else:
                if seen.body == ROOTS:
                    answered.set()
                await polite(exchange)

        async with Backend(script) as backend, started(tmp_path, backend.url) as client:
            assert await client.ask(initialize()) == json.loads(initialized())
            await client.say(READY)
            assert await client.line() == NOTE
            assert await client.ask(call(7)) == json.loads(QUESTION)
            assert await client.ask(ROOTS) == json.loads(result(7))
            client.close()
            assert await client.line() == b""
            assert await client.ended() == 0
            assert said(backend)[-1] == "DELETE"
            assert backend.seen[-1].fields["mcp-session-id"] == "backend-session-7"
            assert sorted(said(backend)[:-1]) == sorted(
                ["initialize", "notifications/initialized", "GET", "tools/call", "answer"]
            )
        assert "Traceback" not in client.errors

    run(story())


def test_a_client_of_the_stateless_revision(tmp_path: Path) -> None:
    """Its headers are made from the body; its cancellation closes the stream."""

    async def story() -> None:
        closed = asyncio.Event()

        async def script(exchange: Exchange) -> None:
            if b'"slow"' in exchange.seen.body:
                await exchange.stream()
                await exchange.chunk(event(NOTE))
                await exchange.gone()
                closed.set()
            else:
                await polite(exchange)

        async with Backend(script) as backend, started(tmp_path, backend.url) as client:
            assert await client.ask(modern_call(1)[0]) == json.loads(result(1))
            assert backend.seen[0].fields["mcp-name"] == "moonrise"
            assert backend.seen[0].fields["mcp-protocol-version"] == "2026-07-28"
            assert await client.ask(modern_call("slow")[0]) == json.loads(NOTE)
            cancel = '{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"slow"}}'
            await client.say(cancel.encode())
            async with asyncio.timeout(5):
                await closed.wait()
            assert await client.ask(modern_call(2)[0]) == json.loads(result(2))
            client.close()
            assert await client.ended() == 0
            assert said(backend) == ["tools/call"] * 3

    run(story())


def test_lines_that_are_no_messages(tmp_path: Path) -> None:
    """Each is answered with an error without an id, and the next one is read."""

    async def story() -> None:
        async with Backend(polite) as backend, started(tmp_path, backend.url) as client:
            for line, code in (
                (b"hello", -32700),
                (b'{"jsonrpc":"2.0","id":1', -32700),
                (b'{"jsonrpc":"2.0","id":1,"method":"\xff"}', -32700),
                (b"[]", -32600),
                (b'{"id":1,"method":"ping"}', -32600),
                (b'{"jsonrpc":"2.0","id":1,"id":2,"method":"ping"}', -32600),
            ):
                answer = await client.ask(line)
                assert answer["id"] is None
                assert answer["error"]["code"] == code, line
            await client.say(b"", b" \t", b"\r")
            assert await client.ask(b'{"jsonrpc":"2.0","id":9,"method":"ping"}\r') == json.loads(result(9))
            assert len(backend.seen) == 1

    run(story())


def test_a_server_that_cannot_be_reached(tmp_path: Path) -> None:
    """An error for each request, none for a notification; when the server is there, the same process reaches it."""

    async def story() -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        async with started(tmp_path, f"http://127.0.0.1:{port}/mcp") as client:
            for number in (1, 2):
                await client.say(READY)
                answer = await client.ask(call(number))
                assert answer["id"] == number
                assert answer["error"]["data"] == {"class": "upstream_connect"}
                assert "Connection refused" in answer["error"]["message"]
            backend = Backend(polite)
            server = await asyncio.start_server(backend._accept, "127.0.0.1", port)
            async with server:
                assert await client.ask(call(3)) == json.loads(result(3))
            client.close()
            assert await client.ended() == 0
            await backend._tasks.close()

    run(story())


def test_a_lost_session_and_a_broken_stream(tmp_path: Path) -> None:
    """The client notices nothing: the session is opened again, the stream is resumed."""

    async def story() -> None:
        sessions: list[str] = []

        async def script(exchange: Exchange) -> None:
            seen = exchange.seen
            if b'"initialize"' in seen.body:
                sessions.append(f"session-{len(sessions)}")
                await exchange.answer(initialized(), headers={"mcp-session-id": sessions[-1]})
            elif seen.fields.get("mcp-session-id") != sessions[-1]:
                await exchange.answer(b"", status="404 Not Found")
            elif "last-event-id" in seen.fields:
                assert seen.fields["last-event-id"] == "one"
                await exchange.stream()
                await exchange.chunk(event(result(2), "two"))
                await exchange.close_stream()
            elif b'"id": 2' in seen.body:
                await exchange.stream()
                await exchange.chunk(b"retry: 10\nid: one\ndata:\n\n")
                exchange.reset()
            else:
                await polite(exchange)

        async with Backend(script) as backend, started(tmp_path, backend.url) as client:
            await client.shake_hands()
            assert await client.ask(call(1)) == json.loads(result(1))
            sessions.append("another")
            assert await client.ask(call(2)) == json.loads(result(2))
            assert sessions[-1] == "session-2"

    run(story())


@pytest.mark.parametrize("kind", ["files", "sockets", "nothing"])
def test_what_stands_for_input_and_output(tmp_path: Path, kind: str) -> None:
    """Regular files, sockets as Node makes them, /dev/null; a last line without its end counts."""
    lines = b"\n".join([initialize(), READY, call(1)])

    async def story() -> None:
        async with Backend(polite) as backend:
            if kind == "files":
                (tmp_path / "in").write_bytes(lines)
                with (tmp_path / "in").open("rb") as source, (tmp_path / "out").open("wb") as sink:
                    async with started(tmp_path, backend.url, stdin=source, stdout=sink) as client:
                        assert await client.ended() == 0
                assert (tmp_path / "out").read_bytes() == initialized() + b"\n" + result(1) + b"\n"
            elif kind == "sockets":
                ours, theirs = socket.socketpair()
                ours.setblocking(False)
                async with started(tmp_path, backend.url, stdin=theirs.fileno(), stdout=theirs.fileno()) as client:
                    theirs.close()
                    reader, writer = await asyncio.open_connection(sock=ours)
                    writer.write(lines)
                    writer.write_eof()
                    assert await reader.read() == initialized() + b"\n" + result(1) + b"\n"
                    assert await client.ended() == 0
                    writer.close()
            else:
                async with started(tmp_path, backend.url, stdin=DEVNULL, stdout=DEVNULL) as client:
                    assert await client.ended() == 0
                assert backend.seen == []

    run(story())


@pytest.mark.timeout(90)
def test_long_messages_both_ways(tmp_path: Path) -> None:
    """24 MB in one line, as JSON and as an event, within seconds."""
    text = "moon" * 6_000_000

    async def story() -> None:
        async def script(exchange: Exchange) -> None:
            body = result(1, text=text)
            if b'"stream"' in exchange.seen.body[:200]:
                await exchange.stream()
                await exchange.chunk(event(body))
                await exchange.close_stream()
            else:
                await exchange.answer(body)

        async with Backend(script) as backend, started(tmp_path, backend.url) as client:
            for kind in ("json", "stream"):
                began = time.monotonic()
                body = call(1, kind=kind, text=text)
                saying = asyncio.gather(client.say(body), client.line())
                _, line = await saying
                assert line == result(1, text=text)
                assert backend.seen[-1].body == body
                assert time.monotonic() - began < 10

    run(story())


def test_a_client_that_reads_slowly_holds_up_the_server(tmp_path: Path) -> None:
    """What it has not taken does not pile up here."""

    async def story() -> None:
        sent = 0
        filler = b'{"jsonrpc":"2.0","method":"notifications/message","params":{"data":"%b"}}' % (b"x" * 100_000)

        async def script(exchange: Exchange) -> None:
            nonlocal sent
            await exchange.stream()
            for _ in range(1000):
                await exchange.chunk(event(filler))
                sent += 1
            await exchange.chunk(event(result(1)))
            await exchange.close_stream()

        async with Backend(script) as backend, started(tmp_path, backend.url) as client:
            assert client.process.stdout is not None
            transport = client.process._transport.get_pipe_transport(1)  # type: ignore[attr-defined]
            await client.say(call(1))
            await client.line()
            transport.pause_reading()
            before = -1
            while before != sent:
                before = sent
                await asyncio.sleep(0.3)
            assert sent < 500
            assert memory(client.process.pid) < 150 * 1024 * 1024
            transport.resume_reading()
            while b'"id"' not in await client.line():
                pass
            assert sent == 1000

    run(story())


SECRETS = ("env-secret-1", "literal-secret-2", "url-password-3", "query-secret-4", "dXJsLXVzZXI6dXJsLXBhc3N3b3JkLTM=")


@pytest.mark.parametrize("level", ["info", "debug"])
def test_no_secret_is_shown(tmp_path: Path, level: str) -> None:
    """Neither from headers nor from the environment nor from the address: not in the log, not in errors."""

    async def story() -> None:
        async def script(exchange: Exchange) -> None:
            if b'"break"' in exchange.seen.body:
                exchange.reset()
            elif b'"refuse"' in exchange.seen.body:
                await exchange.answer(exchange.seen.head, status="401 Unauthorized")
            elif b'"away"' in exchange.seen.body:
                location = "http://env-secret-1.invalid/query-secret-4"
                await exchange.answer(b"", status="307 Temporary Redirect", headers={"location": location})
            else:
                await polite(exchange)

        async with Backend(script) as backend:
            url = f"http://url-user:url-password-3@127.0.0.1:{backend.port}/mcp?api_key=query-secret-4"
            options = ["--header", "X-One: Bearer ${ONE}", "--header", "X-Two: literal-secret-2"]
            options += ["--log-level", level]
            heard = b""
            async with started(tmp_path, url, *options, env={"ONE": "env-secret-1"}) as client:
                await client.shake_hands()
                for name in ("fine", "break", "refuse", "away"):
                    await client.say(call(1, name=name))
                    heard += await client.line()
                await client.say(b"literal-secret-2", b'{"jsonrpc":"2.0","literal-secret-2":1,"literal-secret-2":2}')
                heard += await client.line() + await client.line()
                client.close()
                assert await client.ended() == 0
            fields = backend.seen[0].fields
            assert fields["x-one"] == "Bearer env-secret-1"
            assert fields["x-two"] == "literal-secret-2"
            assert fields["authorization"] == f"Basic {SECRETS[-1]}"
            assert backend.seen[0].target == "/mcp?api_key=query-secret-4"
            for secret in SECRETS:
                assert secret not in client.errors
                assert secret.encode() not in heard

    run(story())


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["localhost:9000"], "is not an address"),
        (["ftp://localhost/"], "http"),
        (["http://localhost:99999/"], "1 to 65535"),
        (["http://localhost/", "--header", "secret-value-1"], "X-Key: value"),
        (["http://localhost/", "--header", "X-One: ${NOT_THERE}"], "NOT_THERE"),
        (["http://localhost/", "--header", "Host: there"], "backend"),
        (["http://localhost/", "--transport", "carrier-pigeon"], "streamable-http"),
        (["http://localhost/", "--log-level", "loud"], "warning"),
        (["https://localhost/", "--ca", "/nowhere/ca.pem"], "ca.pem"),
        (["http://localhost/", "--ca", __file__], "https"),
        ([], "URL"),
    ],
)
def test_what_cannot_be_meant_is_told_at_once(arguments: list[str], told: str) -> None:
    """Exit code 2, on standard error, without a value that may be secret; nothing on standard output."""
    done = moongate("connect", *arguments)
    assert done.returncode == 2
    assert told in " ".join(done.stderr.split())
    assert "secret-value-1" not in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_a_file_without_certificates_is_told_at_once(tmp_path: Path) -> None:
    """It could not start."""
    file = tmp_path / "ca.pem"
    file.write_text("no certificate")
    done = moongate("connect", "https://localhost/", "--ca", str(file))
    assert done.returncode == 3
    assert "cannot be used for TLS" in done.stderr


def test_https_with_a_private_authority(tmp_path: Path) -> None:
    """With `--ca` the server is trusted, without it every request says why not."""

    async def story() -> None:
        authority = trustme.CA()
        file = tmp_path / "ca.pem"
        authority.cert_pem.write_to_path(file)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("localhost", "127.0.0.1").configure_cert(context)
        backend = Backend(polite)
        server = await asyncio.start_server(backend._accept, "127.0.0.1", 0, ssl=context)
        url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/mcp"
        async with server:
            async with started(tmp_path, url, "--ca", str(file)) as client:
                assert await client.ask(call(1)) == json.loads(result(1))
            async with started(tmp_path, url) as client:
                answer = await client.ask(call(1))
                assert answer["error"]["data"] == {"class": "upstream_tls"}
        await backend._tasks.close()

    run(story())


def test_errors_of_the_server_are_passed_on(tmp_path: Path) -> None:
    """As it wrote them."""

    async def story() -> None:
        async def script(exchange: Exchange) -> None:
            await exchange.answer(error(5, -32601, "no such thing"), status="404 Not Found")

        async with Backend(script) as backend, started(tmp_path, backend.url) as client:
            assert await client.ask(call(5)) == json.loads(error(5, -32601, "no such thing"))

    run(story())


def test_messages_reach_the_server_in_their_order(tmp_path: Path) -> None:
    """A hundred notifications, as fast as they can be written."""

    async def story() -> None:
        numbers = range(100)
        async with Backend(polite) as backend, started(tmp_path, backend.url) as client:
            await client.say(
                *(b'{"jsonrpc":"2.0","method":"notifications/x","params":{"number":%d}}' % number for number in numbers)
            )
            assert await client.ask(call(1)) == json.loads(result(1))
            bodies = [json.loads(seen.body) for seen in backend.seen]
            assert [body["params"]["number"] for body in bodies[:-1]] == list(numbers)
            assert bodies[-1]["method"] == "tools/call"

    run(story())
