"""How `moongate connect` ends: with its client, soon, whatever hangs, and without a word too many."""

from __future__ import annotations

import asyncio
import signal
import time
from pathlib import Path

import pytest

from moongate.testing import Backend, Exchange
from tests.connect.started import said, started
from tests.proxy.talk import call, modern_call, polite, result, run, until


def test_calls_in_flight_finish_when_the_client_closes_its_side(tmp_path: Path) -> None:
    """Their answers are written, then the session is ended."""

    async def story() -> None:
        release = asyncio.Event()

        async def script(exchange: Exchange) -> None:
            if b'"tools/call"' in exchange.seen.body:
                await release.wait()
            await polite(exchange)

        async with Backend(script) as backend, started(tmp_path, backend.url) as client:
            await client.shake_hands()
            await client.say(call(1), call(2))
            await until(lambda: len(backend.seen) == 5)
            client.close()
            release.set()
            assert sorted([await client.line(), await client.line()]) == [result(1), result(2)]
            assert await client.line() == b""
            assert await client.ended() == 0
            assert said(backend)[-1] == "DELETE"

    run(story())


async def hangs(exchange: Exchange) -> None:
    """A server that never answers a call, nor the end of the session."""
    if b'"tools/call"' in exchange.seen.body or exchange.seen.method == "DELETE":
        await exchange.gone()
    else:
        await polite(exchange)


@pytest.mark.parametrize("how", ["end of input", "client gone", "SIGTERM", "SIGINT", "SIGHUP"])
def test_it_ends_with_its_client_whatever_hangs(tmp_path: Path, how: str) -> None:
    """Exit code 0, within seconds, at once on a signal; what stays unanswered is said; no trace is logged."""

    async def story() -> None:
        async with Backend(hangs) as backend, started(tmp_path, backend.url) as client:
            await client.shake_hands()
            await client.say(call(1))
            await until(lambda: "tools/call" in said(backend))
            began = time.monotonic()
            if how.startswith("SIG"):
                client.signal(signal.Signals[how])
            else:
                client.close()
            if how == "client gone":
                assert client.process.stdout is not None
                client.process._transport.get_pipe_transport(1).close()  # type: ignore[attr-defined]
            else:
                assert (await client.hear())["error"]["data"] == {"class": "client_closed"}
            assert await client.ended(12) == 0
            assert time.monotonic() - began < (4 if how.startswith("SIG") else 9)
            await until(lambda: backend.open == 0)
        assert "Traceback" not in client.errors

    run(story())


@pytest.mark.parametrize("what", ["a cancelled call", "a subscription"])
def test_what_nobody_waits_for_holds_nobody_up(tmp_path: Path, what: str) -> None:
    """Most servers never answer a cancelled call, and a subscription has no end; when the client closes its side,
    nothing more is written, and the end comes soon.
    """
    cancel = b'{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}'

    async def story() -> None:
        async def script(exchange: Exchange) -> None:
            seen = exchange.seen
            await (exchange.gone() if b'"id": 1,' in seen.body else polite(exchange))

        async with Backend(script) as backend, started(tmp_path, backend.url) as client:
            await client.shake_hands()
            if what == "a subscription":
                await client.say(modern_call(1)[0].replace(b"tools/call", b"subscriptions/listen"))
                await until(lambda: "subscriptions/listen" in said(backend))
            else:
                await client.say(call(1))
                await until(lambda: "tools/call" in said(backend))
                await client.say(cancel)
                await until(lambda: "notifications/cancelled" in said(backend))
            began = time.monotonic()
            client.close()
            assert await client.line() == b""
            assert await client.ended() == 0
            assert time.monotonic() - began < 2

    run(story())


def test_a_reader_that_goes_away_ends_it(tmp_path: Path) -> None:
    """Nobody reads its output any more: it ends without a word, although its input is still open."""

    async def story() -> None:
        async with Backend(polite) as backend, started(tmp_path, backend.url) as client:
            await client.shake_hands()
            client.process._transport.get_pipe_transport(1).close()  # type: ignore[attr-defined]
            await client.say(call(1))
            assert await client.ended() == 0
            assert said(backend)[-1] == "DELETE"
        assert "Traceback" not in client.errors

    run(story())
