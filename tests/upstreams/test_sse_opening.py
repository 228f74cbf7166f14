"""Opening an HTTP+SSE connection: the endpoint in all its forms, and everything that is none."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Awaitable, Callable

import pytest

from moongate.errors import FailureClass, UpstreamError
from moongate.model.snapshot import Timeouts
from moongate.testing import Exchange
from tests.proxy.talk import call, result, run, until
from tests.upstreams.stage import (
    Heard,
    accept,
    refuse,
    stage,
    talking,
    unexpected,
)

FORMS = {
    "/messages/?session_id=7": "/messages/?session_id=7",
    "messages?session_id=7": "/deep/messages?session_id=7",
    "./messages": "/deep/messages",
    "../messages": "/messages",
    "?session_id=7": "/deep/sse?session_id=7",
    "http://127.0.0.1:{port}/absolute?x=1": "/absolute?x=1",
    "//127.0.0.1:{port}/scheme-relative": "/scheme-relative",
    "/with%20escape?a=%2F": "/with%20escape?a=%2F",
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_the_endpoint_is_found_in_every_form(form: str, end: bytes) -> None:
    """Relative, absolute, query-only, without a leading slash, with each line end: the POST goes to that address."""

    async def story() -> None:
        async with stage() as place:
            opener = place.opener(place.target("/deep/sse"))
            data = form.format(port=place.backend.port).encode()
            first = b"event: endpoint" + end + b"data: " + data + end + end + (b": more" if end == b"\r" else b"")
            async with talking(place, opener, first) as (channel, _, _):
                channel.write(call(), unexpected)
                await until(lambda: place.posts == [FORMS[form]])

    run(story())


@pytest.mark.parametrize("redirected", [False, True])
def test_split_and_compressed_streams_are_read_as_they_were_meant(redirected: bool) -> None:
    """Byte by byte, and in gzip; also behind a redirect to the same origin, whose path is what addresses build on."""

    async def story() -> None:
        async with stage() as place:

            async def script(exchange: Exchange) -> None:
                if exchange.seen.method == "POST":
                    await accept(exchange)
                elif redirected and exchange.seen.target == "/mcp":
                    await exchange.answer(b"", status="307 Temporary Redirect", headers={"location": "/slash/mcp"})
                else:
                    await exchange.stream({"content-encoding": "gzip"})
                    message = b"event: endpoint\ndata: post\n\nevent: message\ndata: " + result(1) + b"\n\n"
                    for byte in gzip.compress(message):
                        await exchange.chunk(bytes([byte]))
                    await exchange.gone()

            place.backend.script = script
            heard = Heard()
            channel = await place.opener().open(heard)
            assert await heard.messages.get() == result(1)
            channel.write(call(), unexpected)
            await until(lambda: place.posts == ["/slash/post" if redirected else "/post"])
            channel.close()
            await until(lambda: place.backend.open <= 1)

    run(story())


REFUSED = {
    "http://elsewhere.test/messages": FailureClass.UPSTREAM_PROTOCOL,
    "https://127.0.0.1/messages": FailureClass.UPSTREAM_PROTOCOL,
    "//127.0.0.1:1/messages": FailureClass.UPSTREAM_PROTOCOL,
    "file:///etc/passwd": FailureClass.UPSTREAM_PROTOCOL,
    "": FailureClass.UPSTREAM_PROTOCOL,
    "/a b": FailureClass.UPSTREAM_PROTOCOL,
    "/\xff": FailureClass.UPSTREAM_PROTOCOL,
    "/" + "a" * 5000: FailureClass.UPSTREAM_PROTOCOL,
}


@pytest.mark.parametrize("address", REFUSED)
def test_an_endpoint_elsewhere_is_refused(address: str) -> None:
    """Another origin, nothing at all, what is no address: the stream is closed, the failure has a class."""

    async def story() -> None:
        async with stage() as place:
            opening = asyncio.gather(place.opener().open(Heard()), return_exceptions=True)
            stream = await place.streams.get()
            await stream.stream()
            await stream.chunk(b"event: endpoint\ndata: " + address.encode("latin-1") + b"\n\n")
            assert await stream.gone()
            (error,) = await opening
            assert isinstance(error, UpstreamError)
            assert error.failure is REFUSED[address]
            assert address == "" or address not in error.detail

    run(story())


OPENINGS: dict[str, tuple[Callable[[Exchange], Awaitable[None]], FailureClass]] = {
    "405": (lambda it: refuse(it, "405 Method Not Allowed"), FailureClass.UPSTREAM_HTTP),
    "401": (lambda it: refuse(it, "401 Unauthorized"), FailureClass.UPSTREAM_HTTP),
    "202": (lambda it: refuse(it, "202 Accepted", "text/event-stream"), FailureClass.UPSTREAM_HTTP),
    "no stream": (lambda it: refuse(it, "200 OK", "application/json"), FailureClass.UPSTREAM_PROTOCOL),
    "ended": (lambda it: refuse(it, "200 OK", "text/event-stream"), FailureClass.UPSTREAM_RESET),
}


@pytest.mark.parametrize("opening", OPENINGS)
def test_what_is_no_event_stream_is_told_by_class(opening: str) -> None:
    """Another status, another type, a stream that ends before its endpoint; a probe says no, and who asks is told."""

    async def story() -> None:
        async with stage() as place:
            script, failure = OPENINGS[opening]
            place.backend.script = script
            opener = place.opener()
            refused: list[bool] = []
            opener.on_refused = lambda: refused.append(True)
            with pytest.raises(UpstreamError) as caught:
                await opener.open(Heard())
            assert caught.value.failure is failure
            assert bool(refused) == (failure is not FailureClass.UPSTREAM_RESET)
            assert not await opener.probe()

    run(story())


def test_a_stream_without_its_endpoint_is_given_up_in_time() -> None:
    """Head and comments come, the event does not: upstream_timeout when the first-byte limit is over, not later."""

    async def story() -> None:
        async with stage() as place:
            opener = place.opener(place.target(timeouts=Timeouts(first_byte=0.4, silence=60)))
            opening = asyncio.gather(opener.open(Heard()), return_exceptions=True)
            stream = await place.streams.get()
            await stream.stream()
            while not opening.done():
                await stream.chunk(b": still there\n\n")
                await asyncio.wait((opening,), timeout=0.1)
            (error,) = opening.result()
            assert isinstance(error, UpstreamError)
            assert error.failure is FailureClass.UPSTREAM_TIMEOUT
            assert await stream.gone()

    run(story())


def test_messages_before_the_endpoint_are_a_protocol_error() -> None:
    """Nothing may come before it but comments and events of other names."""

    async def story() -> None:
        async with stage() as place:
            opening = asyncio.gather(place.opener().open(Heard()), return_exceptions=True)
            stream = await place.streams.get()
            await stream.stream()
            await stream.chunk(b": hello\n\nevent: ping\ndata: x\n\ndata: {}\n\n")
            assert await stream.gone()
            (error,) = await opening
            assert isinstance(error, UpstreamError)
            assert error.failure is FailureClass.UPSTREAM_PROTOCOL

    run(story())
