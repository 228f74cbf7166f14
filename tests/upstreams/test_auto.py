"""A server whose transport nobody named finds its transport by itself, once."""

from __future__ import annotations

import asyncio
import json

import pytest

from moongate.testing import Exchange
from moongate.upstreams import sse
from tests.proxy.sse_talk import TARGET, SseServer, answer, listening, sse_pair
from tests.proxy.talk import (
    Client,
    call,
    connected,
    error,
    initialize,
    log_lines,
    modern_call,
    pair,
    polite,
    run,
    until,
)

NOTE = b'{"jsonrpc":"2.0","method":"notifications/initialized"}'


class Both(SseServer):
    """A server of HTTP+SSE that answers a POST to the address of its stream with `status`."""

    def __init__(self, status: str = "405 Method Not Allowed", body: bytes = b"no") -> None:
        super().__init__()
        self.status = status
        self.body = body
        self.posted = self._posted
        self.answer = self._answers
        self._elsewhere = False

    async def _posted(self, exchange: Exchange) -> None:
        self._elsewhere = exchange.seen.target != TARGET
        if self._elsewhere:
            await exchange.answer(self.body, status=self.status, headers={"content-type": "text/plain"})
        else:
            await exchange.answer(b"", status="202 Accepted")

    def _answers(self, message: dict[str, object]) -> bytes | None:
        return None if self._elsewhere else answer(message)


async def open_session(client: Client) -> dict[str, str]:
    """Initialize over streamable HTTP; the headers that go on."""
    first = await client.ask(initialize())
    assert first.status == 200, first.body
    headers = {"mcp-session-id": first.fields["mcp-session-id"]}
    assert (await client.ask(NOTE, headers)).status == 202
    return headers


@pytest.mark.requirement("PM-01")
@pytest.mark.parametrize("status", ["400 Bad Request", "404 Not Found", "405 Method Not Allowed"])
def test_a_server_that_refuses_the_post_is_tried_as_http_sse(status: str) -> None:
    """The call that found it out succeeds; what worked is remembered, and the log says it once."""

    async def story() -> None:
        with log_lines() as log:
            async with sse_pair(Both(status), type=None) as (gate, server), connected(gate) as client:
                headers = await open_session(client)
                called = await client.ask(call(2), headers)
                assert called.status == 200
                assert json.loads(called.body)["id"] == 2
                methods = [(seen.method, seen.target) for seen in server.backend.seen]
                assert methods[:3] == [("POST", "/mcp"), ("GET", "/mcp"), ("GET", "/mcp")]
                assert methods[3:] == [("POST", TARGET)] * 3
                await client.ask(initialize())
                assert ("POST", "/mcp") not in [(seen.method, seen.target) for seen in server.backend.seen[1:]]
        assert log.getvalue().count("speaks HTTP+SSE") == 1

    run(story())


def test_a_server_of_streamable_http_is_never_probed() -> None:
    """Its first 2xx decides; a later 404 to a lost session is passed on as it is."""

    async def story() -> None:
        async def script(exchange: Exchange) -> None:
            if b"tools/call" in exchange.seen.body:
                await exchange.answer(error(1, -32001), status="404 Not Found")
            else:
                await polite(exchange)

        async with pair(script, type=None) as (gate, backend), connected(gate) as client:
            headers = await open_session(client)
            assert (await client.ask(call(), headers)).status == 404
            assert [seen.method for seen in backend.seen] == ["POST", "POST", "POST"]

    run(story())


def test_a_refusal_in_json_rpc_is_no_reason_to_probe() -> None:
    """A modern server says 400 with a code: that is its answer."""

    async def story() -> None:
        async def script(exchange: Exchange) -> None:
            await exchange.answer(error(1, -32022), status="400 Bad Request")

        async with pair(script, type=None) as (gate, backend), connected(gate) as client:
            body, headers = modern_call()
            answered = await client.ask(body, headers)
            assert (answered.status, answered.body) == (400, error(1, -32022))
            assert [seen.method for seen in backend.seen] == ["POST"]

    run(story())


def test_a_server_of_neither_kind_gives_its_own_answer_and_is_not_probed_again_and_again() -> None:
    """One probe for all who ask at once; its result holds for a while."""

    async def story() -> None:
        async def script(exchange: Exchange) -> None:
            await exchange.answer(b"nothing here", status="404 Not Found", headers={"content-type": "text/plain"})

        async with pair(script, type=None) as (gate, backend):

            async def ask() -> None:
                async with connected(gate) as client:
                    assert (await client.ask(initialize())).failure == (404, "upstream_http")

            await asyncio.gather(*(ask() for _ in range(5)))
            await ask()
            methods = [seen.method for seen in backend.seen]
            assert (methods.count("POST"), methods.count("GET")) == (6, 1)

    run(story())


def test_a_probe_does_not_wait_for_an_endpoint_forever(monkeypatch: pytest.MonkeyPatch) -> None:
    """A streamable server may open a stream on every GET and say nothing on it."""
    monkeypatch.setattr(sse, "PROBE_SECONDS", 0.3)

    async def story() -> None:
        async def script(exchange: Exchange) -> None:
            if exchange.seen.method == "GET":
                await exchange.stream()
                await exchange.gone()
            else:
                await exchange.answer(b"?", status="400 Bad Request", headers={"content-type": "text/plain"})

        async with pair(script, type=None) as (gate, backend), connected(gate) as client:
            assert (await client.ask(call())).failure == (400, "upstream_http")
            await until(lambda: backend.open == 0)

    run(story())


def test_a_stream_of_http_sse_is_not_taken_for_the_stream_of_a_session() -> None:
    """After a restart of the gateway a client may come with a GET first: it gets 404, and no endpoint."""

    async def story() -> None:
        key = {"MOONGATE_KEY": "cd" * 32}
        server = Both()
        async with sse_pair(server, type=None, environ=key) as (gate, _), connected(gate) as client:
            headers = await open_session(client)
            async with sse_pair(server, type=None, environ=key) as (restarted, _), connected(restarted) as again:
                listened = await again.ask(headers=headers, method="GET")
                assert listened.status == 404
                assert b"endpoint" not in again.raw
                assert (await again.ask(call(), headers)).status == 404

    run(story())


def test_a_server_that_stops_speaking_http_sse_is_tried_anew() -> None:
    """It was replaced: the first client hears an error, the next one is served over streamable HTTP."""

    async def story() -> None:
        async with sse_pair(Both(), type=None) as (gate, server), connected(gate) as client:
            await open_session(client)
            server.backend.script = polite_without_get
            failed = await client.ask(initialize())
            assert failed.message["error"]["data"]["class"] == "upstream_http"
            assert (await client.ask(initialize())).status == 200

    run(story())


async def polite_without_get(exchange: Exchange) -> None:
    """Streamable HTTP without a stream of its own."""
    if exchange.seen.method == "GET":
        await exchange.answer(b"", status="405 Method Not Allowed")
    else:
        await polite(exchange)


@pytest.mark.parametrize("speaks_sse", [True, False])
def test_the_sse_door_in_front_of_an_unnamed_transport(speaks_sse: bool) -> None:
    """It passes through where the server speaks HTTP+SSE, and translates where it does not."""

    async def story() -> None:
        server = Both()
        if not speaks_sse:
            server.backend.script = polite_without_get
        async with sse_pair(server, type=None) as (gate, _), listening(gate) as client:
            assert (await client.post(initialize("2024-11-05"))).status == 202
            assert (await client.message())["result"]["protocolVersion"] == "2024-11-05"
            posted = [seen.target for seen in server.backend.seen if seen.method == "POST"]
            assert posted == ([TARGET] if speaks_sse else ["/mcp"])

    run(story())


def test_a_call_without_a_session_reaches_an_http_sse_server() -> None:
    """The gateway opens the conversation itself."""

    async def story() -> None:
        async with sse_pair(Both(), type=None) as (gate, _), connected(gate) as client:
            called = await client.ask(call(9))
            assert called.status == 200
            assert json.loads(called.body)["id"] == 9

    run(story())
