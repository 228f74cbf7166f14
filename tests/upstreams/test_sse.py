"""HTTP+SSE towards a server: messages both ways, their order, silence, and every end."""

from __future__ import annotations

import asyncio
import json

import pytest

from moongate.errors import FailureClass
from moongate.model.snapshot import Timeouts
from moongate.testing import Exchange
from moongate.upstreams.sse import MAX_POSTS
from tests.proxy.talk import call, initialize, log_lines, result, run, until
from tests.upstreams.stage import (
    NOTE,
    READY,
    Failures,
    Heard,
    accept,
    refuse,
    stage,
    talking,
    unexpected,
)


def test_messages_are_heard_one_by_one_on_one_line_each() -> None:
    """With and without an event name, over several data lines, behind the endpoint; other names are no messages."""

    async def story() -> None:
        async with stage() as place:
            first = READY + b"data: " + result(1) + b"\n\n"
            async with talking(place, first=first) as (_, heard, stream):
                assert await heard.messages.get() == result(1)
                await stream.chunk(b"event: ping\ndata: {}\n\n: comment\n\nid: 5\n\ndata:\n\n")
                await stream.chunk(b'event: message\r\ndata: {"jsonrpc":"2.0",\r\ndata: "method":"x"}\r\n\r\n')
                assert await heard.messages.get() == b'{"jsonrpc":"2.0", "method":"x"}'
                await stream.chunk(b'event: message\ndata: "/looks/like/an/address"\n\n')
                assert await heard.messages.get() == b'"/looks/like/an/address"'
                assert heard.messages.empty()

    run(story())


def test_a_big_message_comes_in_one_piece_in_good_time() -> None:
    """Forty megabytes in one event, as pieces of the network's size."""

    async def story() -> None:
        async with stage() as place, talking(place) as (_, heard, stream):
            big = b'{"jsonrpc":"2.0","id":1,"result":"' + b"m" * (40 << 20) + b'"}'
            await stream.chunk(b"event: message\ndata: " + big + b"\n\n")
            assert await heard.messages.get() == big

    run(story())


def test_an_event_over_the_limit_ends_the_channel() -> None:
    """Memory stays bounded whatever a server sends."""

    async def story() -> None:
        async with stage() as place, talking(place, place.opener(limit=100_000)) as (_, heard, stream):
            await stream.chunk(b"data: " + b"m" * 300_000)
            assert (await heard.end).failure is FailureClass.UPSTREAM_PROTOCOL

    run(story())


def test_silence_is_counted_and_any_byte_resets_it() -> None:
    """Comments keep a stream alive for longer than the limit; then it is silent, and the channel is at its end."""

    async def story() -> None:
        async with stage() as place:
            opener = place.opener(place.target(timeouts=Timeouts(first_byte=5, silence=0.5)))
            async with talking(place, opener) as (_, heard, stream):
                for _ in range(5):
                    await stream.chunk(b":")
                    await asyncio.wait((heard.end,), timeout=0.3)
                    assert not heard.end.done()
                before = asyncio.get_running_loop().time()
                error = await heard.end
                assert error.failure is FailureClass.UPSTREAM_TIMEOUT
                assert asyncio.get_running_loop().time() - before < 0.5
                assert await stream.gone()

    run(story())


@pytest.mark.parametrize("clean", [True, False])
def test_a_stream_that_ends_ends_the_channel_once(clean: bool) -> None:
    """Properly or by a reset: upstream_reset, and a message written after it does no harm."""

    async def story() -> None:
        async with stage() as place:
            async with talking(place) as (channel, heard, stream):
                if clean:
                    await stream.close_stream()
                else:
                    stream.reset()
                assert (await heard.end).failure is FailureClass.UPSTREAM_RESET
                channel.write(call(), unexpected)
                channel.close()
            assert place.posts == []

    run(story())


def test_the_receiver_hears_nothing_after_close() -> None:
    """The stream closes at once, and what is on its way is dropped."""

    async def story() -> None:
        async with stage() as place:
            held = asyncio.Event()
            started = asyncio.Event()

            async def never(_: Exchange) -> None:
                started.set()
                await held.wait()

            place.posted = never
            async with talking(place) as (channel, heard, stream):
                channel.write(call(), unexpected)
                await started.wait()
                channel.close()
                assert await stream.gone()
                assert not heard.end.done()
            held.set()

    run(story())


def test_notifications_keep_their_order_and_requests_overlap() -> None:
    """What follows initialize and a notification waits for their status; a request that takes long holds up nobody."""

    async def story() -> None:
        async with stage() as place:
            gates = {name: asyncio.Event() for name in ("initialize", "notifications/initialized", "slow")}
            arrived: list[str] = []

            async def posted(exchange: Exchange) -> None:
                method = json.loads(exchange.seen.body)["method"]
                arrived.append(method)
                if method in gates:
                    await gates[method].wait()
                await accept(exchange)

            place.posted = posted
            async with talking(place) as (channel, _, _):
                channel.write(initialize(), unexpected)
                channel.write(NOTE, unexpected)
                channel.write(call(2, "slow"), unexpected)
                channel.write(call(3, "fast"), unexpected)
                channel.write(b'{"jsonrpc":"2.0","method":"notifications/cancelled"}', unexpected)
                await until(lambda: arrived == ["initialize"])
                gates["initialize"].set()
                await until(lambda: arrived == ["initialize", "notifications/initialized"])
                gates["notifications/initialized"].set()
                await until(lambda: len(arrived) == 5)
                assert set(arrived[2:]) == {"slow", "fast", "notifications/cancelled"}
                gates["slow"].set()

    run(story())


def test_an_answer_on_the_post_itself_is_heard() -> None:
    """Some servers answer there; a word that is no message is not taken for one."""

    async def story() -> None:
        async with stage() as place:

            async def posted(exchange: Exchange) -> None:
                message = json.loads(exchange.seen.body)
                body = b'{"detail":"fine"}' if message["id"] == 1 else b'{"jsonrpc":"2.0",\n"id":2,"result":{}}'
                await exchange.answer(body)

            place.posted = posted
            async with talking(place) as (channel, heard, _):
                channel.write(call(1), unexpected)
                channel.write(call(2), unexpected)
                assert await heard.messages.get() == b'{"jsonrpc":"2.0", "id":2,"result":{}}'
                assert heard.messages.empty()

    run(story())


@pytest.mark.parametrize("media", ["text/plain", "application/json"])
def test_an_acceptance_that_breaks_off_is_one(media: str) -> None:
    """202 says it all: the answer comes on the stream, and the sender is told of no failure."""

    async def story() -> None:
        async with stage() as place:
            place.posted = lambda exchange: break_off(exchange, "202 Accepted", media)
            async with talking(place) as (channel, heard, stream):
                failures = Failures()
                channel.write(call(1), failures)
                await until(lambda: len(place.posts) == 1)
                await until(lambda: len(channel._work) == 1)  # only the stream is read any more
                await stream.chunk(b"data: " + result(1) + b"\n\n")
                assert await heard.messages.get() == result(1)
                assert failures.errors.empty()

    run(story())


def test_an_answer_on_the_post_itself_that_breaks_off_is_a_failure() -> None:
    """It was to come there, and nowhere else."""

    async def story() -> None:
        async with stage() as place:
            place.posted = lambda exchange: break_off(exchange, "200 OK", "application/json")
            async with talking(place) as (channel, heard, _):
                failures = Failures()
                channel.write(call(1), failures)
                assert (await failures.errors.get()).failure is FailureClass.UPSTREAM_RESET
                assert not heard.end.done()

    run(story())


async def break_off(exchange: Exchange, status: str, media: str) -> None:
    """An answer whose end never comes."""
    head = f"HTTP/1.1 {status}\r\ncontent-type: {media}\r\ncontent-length: 99\r\n\r\n"
    exchange.writer.write(head.encode() + b"{")
    await exchange.writer.drain()
    exchange.writer.close()


class Stumbler(Heard):
    """Cannot handle what is not ASCII."""

    def received(self, message: bytes) -> None:
        """See `Receiver`."""
        message.decode("ascii")
        super().received(message)


@pytest.mark.parametrize("on_stream", [True, False])
def test_what_cannot_be_handled_ends_the_channel(on_stream: bool) -> None:
    """The fault may be our own: whoever waits is told, the stream closes, and the log has the trace."""
    odd = b'{"jsonrpc":"2.0","id":1,"result":"\xc3\xa9"}'

    async def story() -> None:
        async with stage() as place:
            place.posted = lambda exchange: exchange.answer(odd)
            heard = Stumbler()
            opening = asyncio.gather(place.opener().open(heard))
            stream = await place.streams.get()
            await stream.stream()
            await stream.chunk(READY)
            channel = (await opening)[0]
            if on_stream:
                await stream.chunk(b"data: " + odd + b"\n\n")
            else:
                channel.write(call(1), unexpected)
            assert (await heard.end).failure is FailureClass.UPSTREAM_PROTOCOL
            assert await stream.gone()
            assert heard.messages.empty()

    with log_lines() as log:
        run(story())
    assert "UnicodeDecodeError" in log.getvalue()


@pytest.mark.parametrize(
    ("status", "failure"),
    [
        ("500 Internal Server Error", FailureClass.UPSTREAM_HTTP),
        ("401 Unauthorized", FailureClass.UPSTREAM_HTTP),
        ("302 Found", FailureClass.UPSTREAM_PROTOCOL),
    ],
)
def test_a_message_that_is_not_taken_fails_alone(status: str, failure: FailureClass) -> None:
    """Its sender is told by class; the next one goes through."""

    async def story() -> None:
        async with stage() as place:
            place.posted = lambda exchange: refuse(exchange, status)
            async with talking(place) as (channel, heard, _):
                failures = Failures()
                channel.write(call(1), failures)
                assert (await failures.errors.get()).failure is failure
                place.posted = accept
                channel.write(call(2), unexpected)
                await until(lambda: len(place.posts) == 2)
                assert not heard.end.done()

    run(story())


@pytest.mark.parametrize("status", ["404 Not Found", "410 Gone"])
def test_an_address_that_is_gone_ends_the_channel(status: str) -> None:
    """The server has forgotten the session: everybody who waits hears it at once."""

    async def story() -> None:
        async with stage() as place:
            place.posted = lambda exchange: refuse(exchange, status)
            async with talking(place) as (channel, heard, stream):
                channel.write(call(1), unexpected)
                assert (await heard.end).failure is FailureClass.UPSTREAM_HTTP
                assert await stream.gone()

    run(story())


def test_too_many_messages_on_their_way_are_refused() -> None:
    """A server that takes none does not fill the memory."""

    async def story() -> None:
        async with stage() as place:
            held = asyncio.Event()

            async def slow(exchange: Exchange) -> None:
                await held.wait()
                await accept(exchange)

            place.posted = slow
            async with talking(place) as (channel, _, _):
                failures = Failures()
                channel.write(NOTE, unexpected)
                for number in range(MAX_POSTS):
                    channel.write(call(number), failures)
                assert (await failures.errors.get()).failure is FailureClass.UPSTREAM_TIMEOUT
                assert len(place.posts) <= 1
            held.set()

    run(story())


def test_a_paused_channel_is_not_read() -> None:
    """Nobody takes what comes: the backend feels it, the silence does not count, and nothing is lost."""

    async def story() -> None:
        async with stage() as place:
            opener = place.opener(place.target(timeouts=Timeouts(first_byte=5, silence=0.4)))
            async with talking(place, opener) as (channel, heard, stream):
                channel.pause()
                await stream.chunk(b"data: 1\n\n")
                first = await heard.messages.get()  # one that was waited for already
                await stream.chunk(b"data: 2\n\n")
                await asyncio.wait((heard.end,), timeout=0.6)
                assert (first, heard.messages.empty(), heard.end.done()) == (b"1", True, False)
                channel.resume()
                assert await heard.messages.get() == b"2"

    run(story())


def test_a_probe_leaves_nothing_behind() -> None:
    """It says yes as soon as the endpoint is there, and closes the stream."""

    async def story() -> None:
        async with stage() as place:
            probing = asyncio.gather(place.opener().probe())
            stream = await place.streams.get()
            await stream.stream()
            await stream.chunk(READY)
            assert (await probing)[0]
            assert await stream.gone()

    run(story())
