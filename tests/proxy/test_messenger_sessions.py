"""A messenger's session: lost and opened again, ended with its client, once for all calls."""

from __future__ import annotations

import asyncio
import json
import time

import pytest

from moongate.errors import FailureClass
from moongate.model.snapshot import Timeouts
from moongate.proxy.messenger import Unanswered
from moongate.testing import Exchange, Seen
from tests.proxy.messaging import (
    Forgetful,
    answering,
    falls_silent,
    methods,
    note,
    posted,
    refusing,
    talking,
)
from tests.proxy.talk import (
    call,
    error,
    event,
    initialize,
    initialized,
    polite,
    result,
    run,
    until,
)


def test_a_lost_session_is_opened_again_once_for_all() -> None:
    """Calls that come back with 404 go out again behind one handshake, whose answer is not delivered."""

    async def story() -> None:
        server = Forgetful()
        async with talking(server) as (client, backend):
            await client.shake_hands()
            await until(lambda: bool(server.streams))
            client.heard.clear()
            server.forget()
            await asyncio.gather(*(client.later(call(number)) for number in range(10)))
            assert sorted(client.heard) == sorted(map(result, range(10)))
            assert server.count == 2
            later = [seen for seen in backend.seen if seen.fields.get("mcp-session-id") == "session-2"]
            assert b"notifications/initialized" in later[0].body
            await until(lambda: bool(server.streams))
            assert server.streams[-1].seen.fields["mcp-session-id"] == "session-2"
            await client.messenger.close()
            assert backend.seen[-1].method == "DELETE"

    run(story())


@pytest.mark.parametrize("status", ["500 Internal Server Error", "404 Not Found", "200 OK"])
def test_a_session_that_cannot_be_opened_again_is_a_failure(status: str) -> None:
    """The calls are told, nothing is delivered for them; a later one tries again and finds the server well."""

    async def story() -> None:
        server = Forgetful()
        async with talking(server) as (client, _):
            await client.shake_hands()
            client.heard.clear()
            server.broken = status
            server.forget()
            calls = [client.later(call(number)) for number in range(5)]
            results = await asyncio.gather(*calls, return_exceptions=True)
            assert [isinstance(each, Unanswered) and each.ids for each in results] == [
                (str(number).encode(),) for number in range(5)
            ]
            assert client.heard == []
            server.broken = ""
            await client.say(call(9))
            assert client.heard == [result(9)]

    run(story())


def test_a_session_that_is_lost_again_at_once_is_a_failure() -> None:
    """A message is sent again only once."""

    async def story() -> None:
        async def script(exchange: Exchange) -> None:
            if exchange.seen.body and b"tools/call" in exchange.seen.body:
                await exchange.answer(b"", status="404 Not Found")
            else:
                await polite(exchange)

        async with talking(script) as (client, backend):
            await client.shake_hands()
            await client.fails(call(1))
            assert methods(backend).count("tools/call") == 2
            assert methods(backend).count("initialize") == 2

    run(story())


def test_without_a_session_404_is_just_an_error() -> None:
    """Nothing is opened again that was never open."""

    async def story() -> None:
        async with talking(refusing("404 Not Found")) as (client, backend):
            await client.fails(initialize())
            await client.fails(call(1))
            assert methods(backend) == ["initialize", "tools/call"]

    run(story())


def test_a_client_may_initialize_anew() -> None:
    """The session before is ended, the new one counts."""

    async def story() -> None:
        server = Forgetful()
        async with talking(server) as (client, backend):
            await client.shake_hands()
            await client.shake_hands()
            await client.say(call(1))
            assert posted(backend)[-1].fields["mcp-session-id"] == "session-2"
            await until(lambda: "DELETE" in methods(backend))
            deleted = backend.seen[methods(backend).index("DELETE")]
            assert deleted.fields["mcp-session-id"] == "session-1"

    run(story())


@pytest.mark.parametrize("how", ["silent", "reset", "refused"])
def test_closing_never_hangs(how: str) -> None:
    """DELETE is said; what the server makes of it does not matter."""

    async def story() -> None:
        async def script(exchange: Exchange) -> None:
            if how == "reset":
                exchange.reset()
            elif how == "silent":
                await exchange.gone()
            else:
                await exchange.answer(b"", status="405 Method Not Allowed")

        async with talking(answering("DELETE", script)) as (client, backend):
            await client.shake_hands()
            began = time.monotonic()
            await client.messenger.close()
            assert time.monotonic() - began < 3
            assert backend.seen[-1].method == "DELETE"
            assert (await client.fails(call(1))).failure is FailureClass.CLIENT_CLOSED
            await until(lambda: backend.open == 0)

    run(story())


def test_closing_ends_what_is_in_flight() -> None:
    """Each call is told, each stream closes."""

    async def story() -> None:
        async with talking(answering("tools/call", falls_silent)) as (client, backend):
            await client.shake_hands()
            asking = [client.later(call(number)) for number in range(3)]
            await until(lambda: len(client.heard) == 4)
            await client.messenger.close()
            results = await asyncio.gather(*asking, return_exceptions=True)
            assert all(isinstance(each, Unanswered) for each in results)
            client.upstream.close()
            await until(lambda: backend.open == 0)

    run(story())


def test_closing_ends_the_wait_for_a_broken_stream() -> None:
    """Nobody waits for half a minute to resume what nobody reads."""

    async def story() -> None:
        async def script(exchange: Exchange) -> None:
            await exchange.stream()
            await exchange.chunk(b"retry: 30000\nid: a\ndata:\n\n" + event(note(1)))
            exchange.reset()

        async with talking(answering("tools/call", script), Timeouts(silence=60)) as (client, backend):
            asking = client.later(call(1))
            await until(lambda: bool(client.heard) and backend.open == 0)
            await client.messenger.close()
            async with asyncio.timeout(1):
                (failure,) = await asyncio.gather(asking, return_exceptions=True)
            assert isinstance(failure, Unanswered)
            assert failure.failure is FailureClass.CLIENT_CLOSED

    run(story())


@pytest.mark.parametrize("echo", [True, False])
def test_a_server_that_says_400_of_a_lost_session(echo: bool) -> None:
    """As servers on the TypeScript SDK do: they say the same to a ping then, so the session is opened again."""

    def refusal(seen: Seen) -> bytes:
        return error(json.loads(seen.body).get("id") if echo else None, text="Bad Request: no valid session")

    async def story() -> None:
        server = Forgetful()

        async def script(exchange: Exchange) -> None:
            seen = exchange.seen
            if seen.body and seen.fields.get("mcp-session-id", server.current) != server.current:
                await exchange.answer(refusal(seen), status="400 Bad Request")
            else:
                await server(exchange)

        async with talking(script) as (client, _):
            await client.shake_hands()
            server.forget()
            await client.say(call(1))
            assert client.heard == [initialized(), result(1)]
            assert server.count == 2

    run(story())


def test_a_400_that_is_about_the_message_keeps_the_session() -> None:
    """A ping in the same session is answered, or refused in other words: the error is the answer."""

    async def story() -> None:
        async def script(exchange: Exchange) -> None:
            seen = exchange.seen
            if b'"ping"' in seen.body and b'"strict"' in seen.body:
                await exchange.answer(error("strict", text="Unknown method: ping"), status="400 Bad Request")
            elif b'"tools/call"' in seen.body:
                number = json.loads(seen.body)["id"]
                await exchange.answer(error(number, text="Unknown tool"), status="400 Bad Request")
            else:
                await polite(exchange)

        async with talking(script) as (client, backend):
            await client.shake_hands()
            await client.say(call(1))
            await client.say(call("strict"))
            assert client.heard[1:] == [error(1, text="Unknown tool"), error("strict", text="Unknown tool")]
            assert methods(backend).count("initialize") == 1

    run(story())


def test_an_answer_to_the_server_is_not_sent_to_another_session() -> None:
    """The request that it answers died with the session."""

    async def story() -> None:
        server = Forgetful()
        async with talking(server) as (client, backend):
            await client.shake_hands()
            server.forget()
            assert (await client.fails(b'{"jsonrpc":"2.0","id":"s","result":{}}')).ids == ()
            assert methods(backend).count("answer") == 1

    run(story())


def test_a_client_that_initializes_anew_need_not_wait_for_a_lost_session() -> None:
    """Its own handshake counts; what waited for the other one is told."""

    async def story() -> None:
        server = Forgetful()
        gate = asyncio.Event()

        async def script(exchange: Exchange) -> None:
            if b'"initialize"' in exchange.seen.body and server.count == 1 and not gate.is_set():
                gate.set()
                await exchange.gone()
            else:
                await server(exchange)

        async with talking(script, Timeouts(first_byte=60)) as (client, _):
            await client.shake_hands()
            server.forget()
            lost = client.later(call(1))
            await gate.wait()
            await client.shake_hands()
            with pytest.raises(Unanswered):
                await lost
            await client.say(call(2))
            assert client.heard == [initialized(), initialized(), result(2)]
            assert server.count == 2

    run(story())
