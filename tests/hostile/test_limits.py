"""Limits in size and time: each has its own status, and whatever exceeds one never reaches the backend."""

from __future__ import annotations

import asyncio

import pytest

from moongate.testing import Backend
from tests.hostile.talk import PATH, PING, PONG, Client, client, echo, head, post, run, served, turned

TE = b"transfer-encoding: chunked\r\n"
LARGE = b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"x":"' + b"a" * 4000 + b'"}}'


async def _refused(limits: str, data: bytes, status: int, *, closes: bool = True) -> None:
    async with Backend(echo) as backend, served(backend, limits) as gate, client(gate.port) as peer:
        await peer.send(data)
        answer = await peer.answer()
        assert answer.status == status
        assert answer.get("x-request-id")
        if closes:
            assert answer.get("connection") == "close"
            assert await peer.ends()
        assert backend.seen == []


def test_a_head_over_its_limit_is_431() -> None:
    """Whether it ends or not."""
    run(_refused("headBytes: 2048", post(lines=b"x: " + b"a" * 3000 + b"\r\n"), 431))
    run(_refused("headBytes: 2048", b"POST /mcp/time HTTP/1.1\r\nx: " + b"a" * 3000, 431))
    run(_refused("headBytes: 2048", b"POST /" + b"a" * 3000, 431))
    run(_refused("headBytes: 2048", b"a" * 100_000, 431))


@pytest.mark.parametrize("size", [2047, 2048, 2049])
def test_the_limit_of_a_head_is_exact(size: int) -> None:
    """2,048 bytes with the empty line pass, one more does not."""

    async def work() -> None:
        bare = head(b"content-length: 40\r\nx: \r\n")
        request = head(b"content-length: 40\r\nx: " + b"a" * (size - len(bare)) + b"\r\n") + PING
        async with Backend(echo) as backend, served(backend, "headBytes: 2048") as gate, client(gate.port) as peer:
            await peer.send(request)
            assert (await peer.answer()).status == (200 if size <= 2048 else 431)

    run(work())


def test_too_many_fields_are_431() -> None:
    """Twenty pass where twenty are allowed, twenty-one do not."""

    async def work() -> None:
        async with Backend(echo) as backend, served(backend, "headerCount: 20") as gate:
            for more, status in ((16, 200), (17, 431)):
                async with client(gate.port) as peer:
                    assert (await peer.call(lines=b"x: y\r\n" * more)).status == status

    run(work())


BODIES = [
    ("sized", post(LARGE)),
    ("sized, body not sent", head(b"content-length: 4000\r\n")),
    ("sized beyond all reason", head(b"content-length: 999999999999999999\r\n")),
    ("sized, with an expectation", head(b"content-length: 4000\r\nexpect: 100-continue\r\n")),
    ("one chunk", head(TE) + b"%x\r\n%b\r\n0\r\n\r\n" % (len(LARGE), LARGE)),
    ("many chunks", head(TE) + b"".join(b"64\r\n%b\r\n" % LARGE[at : at + 100] for at in range(0, 4000, 100))),
]


@pytest.mark.parametrize("data", [data for _, data in BODIES], ids=[name for name, _ in BODIES])
def test_a_body_over_its_limit_is_413(data: bytes) -> None:
    """However it is framed, and without waiting for its end."""
    run(_refused("bodyBytes: 1000", data, 413, closes=False))


def test_a_body_over_its_limit_ends_the_connection_where_its_end_was_not_read() -> None:
    """What is left of it is never taken for a request."""
    for _, data in BODIES[1:4] + BODIES[5:]:
        run(_refused("bodyBytes: 1000", data, 413))


def test_an_expectation_gets_its_100_only_when_the_body_is_wanted() -> None:
    """`Expect: 100-continue` is answered by 100, then by the answer; on HTTP/1.0 it is ignored."""

    async def work() -> None:
        async with Backend(echo) as backend, served(backend) as gate:
            async with client(gate.port) as peer:
                await peer.send(head(b"content-length: 40\r\nexpect: 100-Continue\r\n"))
                assert (await peer.answer()).head == b"HTTP/1.1 100 Continue\r\n\r\n"
                await peer.send(PING)
                assert (await peer.answer()).body == PONG
                assert (await peer.call()).body == PONG
            async with client(gate.port) as peer:
                await peer.send(head(b"content-length: 40\r\nexpect: 100-continue\r\n", b"/nowhere"))
                assert (await peer.answer()).status == 404
                assert await peer.ends()
            async with client(gate.port) as peer:
                await peer.send(head(b"content-length: 40\r\nexpect: 100-continue\r\n", version=b"1.0") + PING)
                assert (await peer.answer()).status == 200
            assert all("expect" not in seen.fields for seen in backend.seen)

    run(work())


@pytest.mark.parametrize("value", [b"other", b"", b"100-continue, other", b"200-ok", b"100"])
def test_any_other_expectation_is_417(value: bytes) -> None:
    """Nobody promises what it does not know."""
    run(_refused("", post(lines=b"expect: " + value + b"\r\n"), 417))


async def _drip(peer: Client, data: bytes, pause: float) -> None:
    for byte in data:
        await peer.send(bytes([byte]))
        await asyncio.sleep(pause)  # the slowness is what is tested


def test_a_slow_head_is_408() -> None:
    """Bytes that trickle in do not move the limit."""

    async def work() -> None:
        async with Backend(echo) as backend, served(backend, "headTime: 300ms") as gate, client(gate.port) as peer:
            loop = asyncio.get_running_loop()
            started = loop.time()
            async with asyncio.TaskGroup() as group:
                dripping = group.create_task(_drip(peer, post(), 0.02))
                assert (await peer.answer()).status == 408
                dripping.cancel()
            assert await peer.ends()
            assert 0.25 < loop.time() - started < 2
            assert backend.seen == []

    run(work())


@pytest.mark.parametrize("data", [b"", b"\r\n"], ids=["nothing", "an empty line"])
def test_a_client_that_never_begins_is_let_go(data: bytes) -> None:
    """No request, no answer: the connection just ends."""

    async def work() -> None:
        async with Backend(echo) as backend, served(backend, "headTime: 200ms") as gate, client(gate.port) as peer:
            await peer.send(data)
            assert await peer.ends()

    run(work())


def test_empty_lines_do_not_keep_a_connection() -> None:
    """A line end now and then does not move the limit of the head either."""

    async def work() -> None:
        async with (
            Backend(echo) as backend,
            served(backend, "headTime: 300ms") as gate,
            client(gate.port) as peer,
            asyncio.timeout(3),
            asyncio.TaskGroup() as group,
        ):
            dripping = group.create_task(_drip(peer, b"\r\n" * 100, 0.02))
            await peer.rest()
            dripping.cancel()

    run(work())


@pytest.mark.parametrize("framing", [b"content-length: 40\r\n", TE], ids=["sized", "chunked"])
def test_a_slow_body_is_408(framing: bytes) -> None:
    """The client that stops in its body is told so and let go."""

    async def work() -> None:
        async with Backend(echo) as backend, served(backend, "bodyTime: 300ms") as gate, client(gate.port) as peer:
            await peer.send(head(framing) + b"2" if framing == TE else head(framing) + PING[:10])
            answer = await peer.answer()
            assert (answer.status, answer.get("connection")) == (408, "close")
            assert await peer.ends()
            assert backend.seen == []

    run(work())


def test_an_idle_connection_ends() -> None:
    """After an answer, when nothing follows."""

    async def work() -> None:
        async with Backend(echo) as backend, served(backend, "idleTime: 200ms") as gate, client(gate.port) as peer:
            assert (await peer.call()).status == 200
            assert await peer.ends()
            assert not gate.runtime.binds[0].server.connections

    run(work())


def test_an_idle_connection_ends_after_a_large_answer_too() -> None:
    """The limit is not lost when the client was slow to take the answer before."""

    async def large(exchange: object) -> None:
        await exchange.answer(b'{"jsonrpc":"2.0","id":1,"result":"' + b"a" * 8_000_000 + b'"}')  # type: ignore[attr-defined]

    async def work() -> None:
        limits = "idleTime: 300ms, writeTime: 5s"
        async with Backend(large) as backend, served(backend, limits) as gate, client(gate.port, limit=4096) as peer:
            await peer.send(post())
            assert len((await peer.answer()).body) > 8_000_000
            assert await peer.ends()

    run(work())


def test_a_head_has_its_own_time_after_an_idle_phase() -> None:
    """A request that begins at the end of the idle time may still take the time of a head."""

    async def work() -> None:
        limits = "idleTime: 400ms, headTime: 5s"
        async with Backend(echo) as backend, served(backend, limits) as gate, client(gate.port) as peer:
            assert (await peer.call()).status == 200
            await asyncio.sleep(0.2)  # half of the idle time
            request = post()
            await peer.send(request[:30])
            await asyncio.sleep(0.4)  # beyond its end
            await peer.send(request[30:])
            assert (await peer.answer()).status == 200

    run(work())


def test_connections_over_the_limit_are_503() -> None:
    """The one too many is told so at once; when another one ends, there is room again."""

    async def work() -> None:
        async with Backend(echo) as backend, served(backend, "connections: 2") as gate:
            async with client(gate.port) as first, client(gate.port) as second:
                assert (await first.call()).status == 200
                assert (await second.call()).status == 200
                async with client(gate.port) as third:
                    answer = await third.answer()
                    assert (answer.status, answer.get("connection")) == (503, "close")
                    assert await third.ends()
            server = gate.runtime.binds[0].server
            assert await turned(lambda: not server.connections)
            async with client(gate.port) as fourth:
                assert (await fourth.call()).status == 200

    run(work())


def test_the_answer_to_a_connection_too_many_carries_a_request_id() -> None:
    """Every answer that the data plane writes does."""

    async def work() -> None:
        async with Backend(echo) as backend, served(backend, "connections: 1") as gate, client(gate.port) as first:
            assert (await first.call()).status == 200
            async with client(gate.port) as second:
                answer = await second.answer()
                assert answer.status == 503
                assert answer.get("x-request-id")

    run(work())


def test_a_body_that_breaks_off_leaves_no_trace_at_the_backend() -> None:
    """Half a message is no message."""

    async def work() -> None:
        async with Backend(echo) as backend, served(backend) as gate:
            for data in (head(b"content-length: 40\r\n") + PING[:20], head(TE) + b"28\r\n" + PING[:20]):
                async with client(gate.port) as peer:
                    await peer.send(data)
                    peer.writer.write_eof()
                    assert await peer.ends()
            assert backend.seen == []

    run(work())


@pytest.mark.parametrize("framing", [b"content-length: 40\r\n", TE], ids=["sized", "chunked"])
def test_a_body_error_frees_the_connection_as_soon_as_the_client_has_gone(framing: bytes) -> None:
    """A refused body does not hold its connection until a timer ends it."""

    async def work() -> None:
        async with Backend(echo) as backend, served(backend, "bodyTime: 300ms") as gate:
            server = gate.runtime.binds[0].server
            async with client(gate.port) as peer:
                await peer.send(head(framing, PATH))
                assert await turned(lambda: len(server.connections) == 1)
                await peer.send(b"zz\r\n" if framing == TE else b"{")
                assert (await peer.answer()).status in (400, 408)
            assert await turned(lambda: not server.connections, 1.0)

    run(work())
