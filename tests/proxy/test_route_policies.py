"""Rate limits, redirects, fixed answers, rewriting and limits of whole requests, as clients and backends see them."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from contextlib import AsyncExitStack
from typing import Any

import pytest

from moongate.testing import Backend, Exchange, gateway
from tests.proxy.sse_talk import listening, sse_pair
from tests.proxy.talk import (
    call,
    connected,
    event,
    initialize,
    last_record,
    log_lines,
    modern_call,
    pair,
    polite,
    records,
    result,
    run,
    settled,
    until,
)

ONE = [{"maxTokens": 1, "tokensPerFill": 1, "fillInterval": "1h"}]
THREE = [{"maxTokens": 3, "tokensPerFill": 1, "fillInterval": "1h"}]
TOKENS = {"tokens": [{"name": "alice", "token": "alice-token"}, {"name": "bob", "token": "bob-token"}]}
ALICE, BOB = {"x-api-key": "alice-token"}, {"x-api-key": "bob-token"}
NOTE = b'{"jsonrpc":"2.0","method":"notifications/x"}'


def test_without_tokens_a_source_over_its_limit_gets_429() -> None:
    """Before the body is read, on every connection, also for a head that was let in before; the backend sees none."""

    async def story() -> None:
        async with pair(polite, localRateLimit=THREE) as (gate, backend), connected(gate) as client:
            assert [(await client.ask(call())).status for _ in range(4)] == [200, 200, 200, 429]
            async with connected(gate) as other:
                answer = await other.ask(call(7))
            assert answer.failure == (429, "rate_limited")
            assert "id" not in answer.message
            assert answer.fields["retry-after"] in {"3599", "3600"}
            assert len(backend.seen) == 3
            assert [record["status"] for record in records(gate)] == [200, 200, 200, 429, 429]
            record = records(gate)[-1]
            assert record["failure"] == "rate_limited"
            assert "mcpServers.one.localRateLimit[0]" in record["detail"]

    run(story())


def test_a_refused_request_is_explained_to_the_operator_only() -> None:
    """The log names caller, rule and setting; the client reads the kind and the request id."""

    async def story() -> None:
        with log_lines() as log:
            async with pair(polite, localRateLimit=ONE) as (gate, _), connected(gate) as client:
                await client.ask(call())
                answer = await client.ask(call())
                assert answer.message["error"]["message"].startswith("Too many requests (request ")
                assert b"maxTokens" not in client.raw
                assert b"localRateLimit" not in client.raw
        assert "mcpServers.one.localRateLimit[0]: maxTokens, tokensPerFill or fillInterval" in log.getvalue()

    run(story())


LEGACY = [
    # The message of a principal over its limit, further headers; status, and whether the id comes back.
    (call(7), {}, 200, True),
    (initialize(), {}, 200, True),
    (*modern_call(7), 429, True),
    (NOTE, {}, 429, False),
    (b'{"jsonrpc":"2.0","id":7,"result":{}}', {}, 429, False),
]


@pytest.mark.parametrize(("body", "headers", "status", "with_id"), LEGACY)
def test_a_principal_over_its_limit_is_told_as_its_client_can_bear(
    body: bytes, headers: dict[str, str], status: int, with_id: bool
) -> None:
    """A legacy call gets its error with status 200, because other statuses end the SDK's session; all others get 429.

    The other principal, at the same address, is not concerned.
    """

    async def story() -> None:
        async with (
            pair(polite, gateway_block=TOKENS, localRateLimit=ONE) as (gate, backend),
            connected(gate) as client,
        ):
            assert (await client.ask(call(), ALICE)).status == 200
            answer = await client.ask(body, {**ALICE, **headers})
            assert answer.failure == (status, "rate_limited")
            assert ("id" in answer.message) == with_id
            if with_id:
                assert answer.message["id"] == json.loads(body)["id"]
            assert int(answer.fields["retry-after"]) > 3500
            assert (await client.ask(call(), BOB)).status == 200
            assert len(backend.seen) == 2
            record = records(gate)[1]
            assert (record["status"], record["failure"], record["principal"]) == (status, "rate_limited", "alice")

    run(story())


def test_streams_and_ended_sessions_count_too() -> None:
    """GET and DELETE of a principal: one each, then 429 without a body that was read."""

    async def story() -> None:
        async with (
            pair(polite, gateway_block=TOKENS, localRateLimit=THREE) as (gate, _),
            connected(gate) as client,
            connected(gate) as stream,
        ):
            session = {**ALICE, "mcp-session-id": (await client.ask(initialize(), ALICE)).fields["mcp-session-id"]}
            await stream.send(None, session, method="GET")
            assert (await stream.head()).status == 200
            assert (await client.ask(None, session, method="DELETE")).status == 200
            assert (await client.ask(None, session, method="DELETE")).failure == (429, "rate_limited")

    run(story())


def test_an_array_over_the_limit_gets_an_error_for_each_of_its_calls() -> None:
    """All or none: the two that would fit are refused with the third, and count for nothing; three records."""

    async def story() -> None:
        limit = [{"maxTokens": 3, "tokensPerFill": 1, "fillInterval": "1h"}]
        async with (
            pair(polite, gateway_block=TOKENS, localRateLimit=limit) as (gate, backend),
            connected(gate) as client,
        ):
            opened = await client.ask(initialize("2025-03-26"), ALICE)
            session = {**ALICE, "mcp-session-id": opened.fields["mcp-session-id"]}
            many = b"[%b,%b,%b]" % (call("a"), NOTE, call(7))
            answer = await client.ask(many, session)
            assert answer.status == 200
            errors = json.loads(answer.body)
            assert [error["id"] for error in errors] == ["a", 7]
            assert {error["error"]["data"]["class"] for error in errors} == {"rate_limited"}
            assert [record["failure"] for record in records(gate)[1:]] == ["rate_limited"] * 3
            assert (await client.ask(b"[%b,%b]" % (call("a"), call(7)), session)).status == 200
            assert len(backend.seen) == 2

    run(story())


@pytest.mark.parametrize("through", [False, True])
def test_over_http_sse_a_refused_call_is_told_on_the_stream(through: bool) -> None:
    """There the client waits for its answer; the message itself is accepted with 202. Also in front of a server that
    speaks HTTP+SSE itself.
    """

    async def story() -> None:
        limit: dict[str, Any] = {"localRateLimit": [{"maxTokens": 2, "tokensPerFill": 1, "fillInterval": "1h"}]}
        old, new = sse_pair(gateway_block=TOKENS, **limit), pair(polite, gateway_block=TOKENS, **limit)
        async with AsyncExitStack() as stack:
            gate, _ = await (stack.enter_async_context(old) if through else stack.enter_async_context(new))
            async with listening(gate, headers=ALICE) as client:
                assert (await client.post(call(1))).status == 202
                assert (await client.message())["id"] == 1
                assert (await client.post(call(2))).status == 202
                refused = await client.message()
                assert refused["id"] == 2
                assert refused["error"]["data"]["class"] == "rate_limited"
                assert (await client.post(NOTE)).status == 429
            found = [record for record in records(gate) if record.get("failure") == "rate_limited"]
            assert [record["status"] for record in found] == [202, 429]

    run(story())


def binds(url: str, policies: dict[str, Any], **more: object) -> str:
    """A file with one route of the `binds` dialect on any free port."""
    target = {"name": "tide", "mcp": {"host": url}, **more}
    route = {"matches": [{"path": {"pathPrefix": "/tide"}}], "policies": policies}
    route["backends"] = [{"mcp": {"targets": [target]}}]
    return json.dumps({"binds": [{"port": 0, "listeners": [{"routes": [route]}]}]})


def test_redirects_and_fixed_answers_need_no_backend() -> None:
    """No connection is opened; the record is no failure; every method is answered alike."""
    routes = [
        {
            "name": "moved",
            "matches": [{"path": {"pathPrefix": "/old"}}],
            "policies": {"requestRedirect": {"path": {"prefix": "/new"}, "status": 308}},
        },
        {
            "name": "closed",
            "matches": [{"path": {"pathPrefix": "/closed"}}],
            "policies": {
                "directResponse": {"status": 503, "body": '{"closed":true}'},
                "responseHeaderModifier": {"add": {"X-Until": "noon"}},
            },
        },
    ]

    async def story() -> None:
        text = json.dumps({"binds": [{"port": 0, "listeners": [{"routes": routes}]}]})
        async with gateway(text) as gate, connected(gate) as client:
            for method, body in (("POST", call()), ("GET", None), ("DELETE", None)):
                answer = await client.ask(body, method=method, path="/old/mcp?a=b", host="127.0.0.1:99")
                assert (answer.status, answer.fields["location"]) == (308, "http://127.0.0.1:99/new/mcp?a=b")
                answer = await client.ask(body, method=method, path="/closed")
                assert (answer.status, answer.body) == (503, b'{"closed":true}')
                assert answer.fields["content-type"] == "application/json"
                assert answer.fields["x-until"] == "noon"
                assert answer.fields["x-request-id"] == records(gate)[-1]["requestId"]
            found = records(gate)
            assert [(record["instance"], record["status"]) for record in found] == [("moved", 308), ("closed", 503)] * 3
            assert not [record for record in found if "failure" in record]

    run(story())


def test_a_fixed_answer_is_given_only_to_who_may_ask() -> None:
    """Host, origin, token and the limit come first."""

    async def story() -> None:
        async with (
            pair(polite, gateway_block=TOKENS, directResponse={"status": 404}) as (gate, _),
            connected(gate) as client,
        ):
            assert (await client.ask(call(), ALICE)).status == 404
            assert (await client.ask(call(), ALICE, host="evil.example")).status == 403
            assert (await client.ask(call(), {"origin": "https://evil.example", **ALICE})).status == 403
            assert (await client.ask(call())).status == 401
        async with (
            pair(polite, localRateLimit=ONE, directResponse={"status": 404}) as (gate, _),
            connected(gate) as client,
        ):
            assert [(await client.ask(call())).status for _ in range(2)] == [404, 429]

    run(story())


def test_a_rewritten_target_is_called_by_another_name_at_another_path() -> None:
    """`Host` and path are the operator's, the connection goes to the address, and its query stays."""

    async def story() -> None:
        rewrite = {"authority": {"full": "tools.example:8443"}, "path": {"full": "/v2/mcp"}}
        async with Backend(polite) as backend:
            text = binds(f"{backend.url}?key=moon", {"urlRewrite": rewrite})
            async with gateway(text) as gate, connected(gate) as client:
                assert (await client.ask(call(), path="/tide")).status == 200
            assert backend.seen[0].target == "/v2/mcp?key=moon"
            assert backend.seen[0].fields["host"] == "tools.example:8443"

    run(story())


def test_a_rewritten_name_is_neither_a_way_out_nor_told_to_clients() -> None:
    """A redirect of the backend to the name it was called by is followed at its own address; a header with it stops."""

    async def story() -> None:
        async def script(exchange: Exchange) -> None:
            if exchange.seen.target == "/mcp":
                location = {"location": "http://tools.example/mcp/"}
                await exchange.answer(b"", status="307 Temporary Redirect", headers=location)
            else:
                told = {"x-node": "node of tools.example", "x-fine": "fine"}
                await exchange.answer(result(), headers=told)

        async with pair(script, urlRewrite={"authority": {"full": "tools.example"}}) as (gate, backend):
            async with connected(gate) as client:
                answer = await client.ask(call())
            assert answer.status == 200
            assert answer.fields["x-fine"] == "fine"
            assert "x-node" not in answer.fields
            assert [seen.target for seen in backend.seen] == ["/mcp", "/mcp/"]
            assert {seen.fields["host"] for seen in backend.seen} == {"tools.example"}

    run(story())


async def _slow_body(exchange: Exchange) -> None:
    await exchange.send(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n")
    try:
        while True:
            await exchange.send(b" ")
            await asyncio.sleep(0.05)
    except ConnectionError:
        pass


async def _silent(exchange: Exchange) -> None:
    await exchange.gone()


@pytest.mark.parametrize("script", [_slow_body, _silent])
@pytest.mark.parametrize("key", ["requestTimeout", "backendRequestTimeout"])
def test_an_answer_that_takes_longer_than_allowed_as_a_whole_is_504(script: Any, key: str) -> None:  # noqa: ANN401 - a script
    """However steadily it drips: its last byte counts, not the next one. The backend's connection is closed."""
    entry: dict[str, Any] = {key: "300ms"}

    async def story() -> None:
        async with pair(script, **entry) as (gate, backend), connected(gate) as client:
            started = time.monotonic()
            answer = await client.ask(call(3))
            assert 0.25 <= time.monotonic() - started <= 0.8
            assert answer.failure == (504, "upstream_timeout")
            assert answer.message["id"] == 3
            client.vanish()
            await settled(gate, backend)

    run(story())


def test_a_long_answer_that_has_begun_is_broken_off() -> None:
    """Without a final chunk, so that nobody takes it for whole; the record says why."""

    async def story() -> None:
        async def script(exchange: Exchange) -> None:
            await exchange.send(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 999999\r\n\r\n{")
            await exchange.send(b" " * 200_000)
            await exchange.gone()

        async with pair(script, requestTimeout="300ms") as (gate, backend), connected(gate) as client:
            await client.send(call())
            assert (await client.head()).status == 200
            await client.closed()
            record = await last_record(gate)
            assert record["failure"] == "upstream_timeout"
            assert "requestTimeout" in record["detail"]
            await settled(gate, backend)

    run(story())


@pytest.mark.parametrize("key", ["requestTimeout", "backendRequestTimeout"])
def test_an_event_stream_that_has_begun_is_not_cut(key: str) -> None:
    """Neither the answer to a call, nor the stream of a session, nor that of HTTP+SSE."""
    entry: dict[str, Any] = {key: "250ms"}

    async def story() -> None:
        async def script(exchange: Exchange) -> None:
            if exchange.seen.method == "GET":
                await exchange.stream()
                await asyncio.sleep(0.5)
                await exchange.chunk(event(NOTE))
                await exchange.gone()
            else:
                await exchange.stream()
                await exchange.chunk(event(NOTE))
                await asyncio.sleep(0.5)
                await exchange.chunk(event(result(json.loads(exchange.seen.body)["id"])))
                await exchange.close_stream()

        async with (
            pair(script, **entry) as (gate, _),
            connected(gate) as client,
            connected(gate) as stream,
            listening(gate) as old,
        ):
            await stream.send(None, method="GET")
            answer = await client.ask(call())
            assert answer.status == 200
            assert b'"result"' in answer.body
            assert (await stream.head()).status == 200
            await stream.text(NOTE)
            await old.post(call(5))
            assert (await old.message())["method"] == "notifications/x"
            assert (await old.message())["id"] == 5

    run(story())


def test_the_time_for_the_body_is_the_clients() -> None:
    """A body that does not come within requestTimeout is 408, not the backend's fault."""

    async def story() -> None:
        async with pair(polite, requestTimeout="250ms") as (gate, backend), connected(gate) as client:
            await client.send(None, {"content-length": "100"})
            answer = await client.answer()
            assert answer.failure == (408, "bad_request")
            assert not backend.seen

    run(story())


def test_a_limit_of_the_whole_stands_in_for_the_first_byte() -> None:
    """Where `timeout` is not written, a slow server has all of requestTimeout; where it is, the tighter one counts."""

    async def story() -> None:
        async def script(exchange: Exchange) -> None:
            await asyncio.sleep(0.5)
            await exchange.answer(result())

        for more, status in (({}, 200), ({"timeout": 200}, 504)):
            async with Backend(script) as backend:
                text = binds(backend.url, {"timeout": {"requestTimeout": "5s"}}, **more)
                async with gateway(text) as gate, connected(gate) as client:
                    assert (await client.ask(call(), path="/tide")).status == status
                    client.vanish()
                    await settled(gate)

    run(story())


def test_a_reload_begins_counting_anew_and_other_routes_are_not_concerned() -> None:
    """One route's limit is its own."""

    async def story() -> None:
        async with Backend(polite) as backend:
            servers = {
                "one": {"url": backend.url, "type": "streamable-http", "localRateLimit": ONE},
                "two": {"url": backend.url, "type": "streamable-http"},
            }
            async with gateway(json.dumps({"mcpServers": servers})) as gate, connected(gate) as client:
                assert [(await client.ask(call())).status for _ in range(2)] == [200, 429]
                assert (await client.ask(call(), path="/mcp/two")).status == 200
                await gate.runtime.apply(gate.runtime.snapshot)
                assert (await client.ask(call())).status == 200
                await until(lambda: len(records(gate)) == 4)

    run(story())


_HOSTED = """
import json, sys
for line in sys.stdin:
    message = json.loads(line)
    if message.get("method") == "initialize":
        version = message["params"]["protocolVersion"]
        info = {"name": "tide", "version": "1"}
        result = {"protocolVersion": version, "capabilities": {}, "serverInfo": info}
    elif "id" in message and message["params"]["name"] != "never":
        result = {"content": []}
    else:
        continue
    print(json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result}), flush=True)
"""


def test_a_local_server_that_is_too_slow_for_one_call_answers_the_next() -> None:
    """The call is 504 after its limit, and the session goes on."""

    async def story() -> None:
        server = {"command": sys.executable, "args": ["-c", _HOSTED], "requestTimeout": "4s"}
        server["backendRequestTimeout"] = "600ms"
        async with gateway(json.dumps({"mcpServers": {"one": server}})) as gate, connected(gate) as client:
            # The start counts too, and may take longer than that: until it has, the answer is 504 as well.
            while (opened := await client.ask(initialize())).status == 504:
                pass
            assert opened.status == 200
            session = {"mcp-session-id": opened.fields["mcp-session-id"]}
            assert (await client.ask(call(2), session)).status == 200
            assert (await client.ask(call(3, name="never"), session)).failure == (504, "upstream_timeout")
            assert (await client.ask(call(4), session)).message["id"] == 4

    run(story())
