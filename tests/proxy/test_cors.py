"""Pages of other origins, through the whole gateway: who is let in, what they may read, and why not."""

from __future__ import annotations

import json
import time

import pytest

from moongate.control.secrets import load_key
from moongate.protocol.sealed import Sealer, Session
from moongate.testing import Backend, Exchange, gateway
from tests.proxy.browsing import (
    ARTICLE_HOST,
    ARTICLE_PATH,
    STRANGER,
    UI,
    allowed,
    article,
    block,
    of_page,
    preflight,
    servers,
)
from tests.proxy.sse_talk import listening
from tests.proxy.talk import (
    call,
    connected,
    event,
    initialize,
    initialized,
    log_lines,
    pair,
    polite,
    records,
    result,
    run,
)

ALICE = {"name": "alice", "token": "alice-token"}
BOB = {"name": "bob", "token": "bob-token", "instances": ["two"]}
TOKENS = {"tokens": [ALICE]}


async def conversing(exchange: Exchange) -> None:
    """A server with sessions: JSON answers, a GET stream, DELETE."""
    seen = exchange.seen
    if seen.method == "GET":
        await exchange.stream()
        await exchange.chunk(event(b'{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}'))
        await exchange.gone()
    elif seen.method == "POST" and b'"initialize"' in seen.body:
        await exchange.answer(initialized(), headers={"mcp-session-id": "backend-session-1"})
    else:
        await polite(exchange)


@pytest.mark.parametrize(
    ("cors", "origin", "granted"),
    [
        (block(UI), UI, True),
        (block("https://*.apps.example"), "https://a.apps.example", True),
        ({"allowOrigins": ["*"], "allowHeaders": ["*"]}, STRANGER, True),
        (block(UI), STRANGER, False),
        (None, STRANGER, False),
        (None, UI, False),
    ],
)
@pytest.mark.requirement("AG-30", "AG-34", "AG-35")
def test_a_preflight_is_the_gateways_to_answer(cors: dict[str, object] | None, origin: str, granted: bool) -> None:
    """204 or 403, without a token although one is needed, and the server never hears of it."""

    async def story() -> None:
        extra = {} if cors is None else {"cors": cors}
        async with pair(polite, gateway_block=TOKENS, **extra) as (gate, backend), connected(gate) as client:
            for path in ("/mcp/one", "/mcp/one/mcp", "/mcp/one/v1/stream", "/mcp/one/sse", "/mcp/one/messages"):
                answer = await preflight(client, origin, path=path)
                assert answer.status == (204 if granted else 403), path
                assert allowed(answer) == (origin if granted else None)
                assert answer.fields["x-request-id"] == records(gate)[-1]["requestId"]
                assert records(gate)[-1]["httpMethod"] == "OPTIONS"
                assert records(gate)[-1]["principal"] == "anonymous"
            assert not backend.connections

    run(story())


def test_what_is_no_preflight_is_not_answered_like_one() -> None:
    """OPTIONS without a method that it announces, or without Origin: 405, and no permission."""

    async def story() -> None:
        async with pair(polite, cors=block(UI)) as (gate, backend), connected(gate) as client:
            asked = {"access-control-request-method": "POST"}
            for headers in ({}, asked, {"origin": UI}):
                answer = await client.ask(None, headers, method="OPTIONS")
                assert answer.status == 405, headers
                assert "access-control-allow-methods" not in answer.fields
            assert not backend.connections

    run(story())


def test_a_preflight_belongs_to_the_route_of_what_it_announces() -> None:
    """Two routes of one path that differ in their method: each answers for its own."""
    text = """
    binds:
      - port: 0
        listeners:
          - routes:
              - name: reads
                matches: [{path: {pathPrefix: /a}, method: GET}]
                policies: {cors: {preset: mcp, allowOrigins: ["http://reads.example"]}}
                backends: [{mcp: {targets: [{name: a, mcp: {host: "http://127.0.0.1:9/"}}]}}]
              - name: writes
                matches: [{path: {pathPrefix: /a}, method: POST}]
                policies: {cors: {preset: mcp, allowOrigins: ["http://writes.example"]}}
                backends: [{mcp: {targets: [{name: b, mcp: {host: "http://127.0.0.1:9/"}}]}}]
    """

    async def story() -> None:
        async with gateway(text) as gate, connected(gate) as client:
            for origin, method, status in (
                ("http://reads.example", "GET", 204),
                ("http://reads.example", "POST", 403),
                ("http://writes.example", "POST", 204),
                ("http://writes.example", "GET", 403),
                ("http://writes.example", "DELETE", 404),
            ):
                assert (await preflight(client, origin, method, path="/a")).status == status, (origin, method)

    run(story())


@pytest.mark.requirement("AG-31")
def test_a_page_holds_a_whole_conversation() -> None:
    """Session, call, GET stream, end of the session, with the preset: every answer is the page's to read."""

    async def story() -> None:
        async with pair(conversing, cors=block(UI)) as (gate, _), connected(gate) as client:
            opened = await client.ask(initialize(), of_page(UI))
            session = opened.fields["mcp-session-id"]
            exposed = [name.strip() for name in opened.fields["access-control-expose-headers"].split(",")]
            assert {"mcp-session-id", "www-authenticate", "x-request-id"} <= set(exposed)
            headers = of_page(UI, mcp_session_id=session)
            assert (await preflight(client, UI, "DELETE", "mcp-session-id,mcp-protocol-version")).status == 204
            called = await client.ask(call(), headers)
            async with connected(gate) as stream:
                await stream.send(None, headers, method="GET")
                head = await stream.head()
                assert b"list_changed" in await stream.text(b"\n\n")
            ended = await client.ask(None, headers, method="DELETE")
            for answer in (opened, called, head, ended):
                assert answer.status == 200
                assert allowed(answer) == UI
                assert "access-control-allow-credentials" not in answer.fields

    run(story())


async def _streaming(exchange: Exchange) -> None:
    await exchange.stream({"vary": "Accept", "access-control-allow-origin": "*"})
    await exchange.chunk(event(result(), "1"))
    await exchange.close_stream()


async def _failing(exchange: Exchange) -> None:
    await exchange.answer(b"no", status="500 No", headers={"content-type": "text/plain"})


async def _broken(exchange: Exchange) -> None:
    exchange.reset()


async def _hanging(exchange: Exchange) -> None:
    await exchange.gone()


@pytest.mark.parametrize(
    ("script", "status"),
    [(polite, 200), (_streaming, 200), (_failing, 500), (_broken, 502), (_hanging, 504)],
)
@pytest.mark.requirement("AG-31")
def test_answers_of_every_kind_can_be_read(script: object, status: int) -> None:
    """JSON, event streams, a server's error, a broken and a silent server; first time and remembered."""

    async def story() -> None:
        assert callable(script)
        async with pair(script, cors=block(UI), timeout=200) as (gate, _), connected(gate) as client:
            for _ in range(3):
                answer = await client.ask(call(), of_page(UI))
                assert answer.status == status
                assert allowed(answer) == UI
                values = [value for name, value in answer.lines if name == "access-control-allow-origin"]
                assert values == [UI]

    run(story())


@pytest.mark.requirement("AG-31")
def test_every_refusal_can_be_read_by_a_page_that_may_call() -> None:
    """401 with its challenge, 403, 404 of a session, 405, 413, 415 and 400."""
    limits: dict[str, object] = {"limits": {"drainTime": "1s", "bodyBytes": 2000}}

    async def story() -> None:
        async with Backend(polite) as backend:
            entry = {"url": backend.url, "type": "streamable-http", "cors": block(UI)}
            text = {"gateway": {"tokens": [ALICE, BOB], **limits}, "mcpServers": {"one": entry, "two": entry}}
            async with gateway(json.dumps(text)) as gate:
                alice = of_page(UI, authorization="Bearer alice-token")
                key = load_key(gate.data_dir, {})
                gone = Sealer(key).seal(Session(b"b", "one", "alice", "2025-06-18", "", time.time() - 1)).decode()
                cases = [
                    (call(), of_page(UI), "POST", 401),
                    (call(), of_page(UI, authorization="Bearer wrong"), "POST", 401),
                    (call(), of_page(UI, x_api_key="bob-token"), "POST", 403),
                    (call(), {**alice, "mcp-session-id": gone}, "POST", 404),
                    (call(), {**alice, "mcp-session-id": "forged"}, "POST", 404),
                    (None, alice, "PUT", 405),
                    (call(text="x" * 3000), alice, "POST", 413),
                    (call(), {**alice, "content-type": "text/plain"}, "POST", 415),
                    (b"{", alice, "POST", 400),
                ]
                for body, headers, method, status in cases:
                    async with connected(gate) as client:
                        answer = await client.ask(body, headers, method=method)
                        assert answer.status == status, (headers, answer)
                        assert allowed(answer) == UI
                        if status == 401:
                            assert "www-authenticate" in answer.fields
                            assert "www-authenticate" in answer.fields["access-control-expose-headers"]
            assert not backend.connections

    run(story())


@pytest.mark.requirement("AG-31")
def test_one_call_too_many_can_be_read() -> None:
    """429 with Retry-After, which is exposed by name."""
    once = [{"maxTokens": 1, "tokensPerFill": 1, "fillInterval": "60s"}]

    async def story() -> None:
        async with pair(polite, cors=block(UI), localRateLimit=once) as (gate, _), connected(gate) as client:
            assert (await client.ask(call(), of_page(UI))).status == 200
            answer = await client.ask(call(), of_page(UI))
            assert answer.failure == (429, "rate_limited")
            assert allowed(answer) == UI
            assert "retry-after" in answer.fields
            assert "retry-after" in answer.fields["access-control-expose-headers"]

    run(story())


def test_clients_of_http_and_sse_can_be_pages_too() -> None:
    """The stream, and the answer to a message posted to it."""

    async def story() -> None:
        async with (
            pair(polite, cors=block(UI)) as (gate, _),
            listening(gate, "/mcp/one/sse", of_page(UI)) as client,
        ):
            assert allowed(client.head) == UI
            answer = await client.post(initialize(), of_page(UI))
            assert answer.status == 202
            assert allowed(answer) == UI

    run(story())


@pytest.mark.requirement("AG-33")
def test_without_an_origin_nothing_changes() -> None:
    """What curl and SDKs send is answered as it is without any block, but for `Vary`."""

    async def story() -> None:
        kept = []
        for extra in ({}, {"cors": block(UI)}, {"cors": {"allowOrigins": ["*"], "allowCredentials": True}}):
            async with pair(polite, **extra) as (gate, backend), connected(gate) as client:
                answer = await client.ask(call())
                lines = [item for item in answer.lines if item[0] not in {"x-request-id", "vary"}]
                kept.append((answer.status, lines, answer.body, len(backend.seen)))
                assert ("vary" in answer.fields) == bool(extra)
        assert kept[0] == kept[1] == kept[2]
        assert kept[0][0] == 200

    run(story())


@pytest.mark.requirement("AG-34", "AG-35")
def test_a_page_that_may_not_call_is_refused_before_any_server_is_called() -> None:
    """403 with kind and request id; record, log and, on this machine, the body say which setting would allow it."""

    async def story() -> None:
        with log_lines() as log:
            for extra, setting in (
                ({}, f"mcpServers.one.cors: {{preset: mcp, allowOrigins: [{STRANGER}]}}"),
                ({"cors": block(UI)}, f"mcpServers.one.cors.allowOrigins: [{STRANGER}]"),
                ({"cors": {"allowOrigins": [UI]}}, f"mcpServers.one.cors.allowOrigins: [{STRANGER}]"),
            ):
                async with pair(polite, **extra) as (gate, backend), connected(gate) as client:
                    for method, body in (("POST", call()), ("GET", None), ("DELETE", None)):
                        answer = await client.ask(body, of_page(STRANGER), method=method)
                        assert answer.failure == (403, "denied")
                        record = records(gate)[-1]
                        assert answer.message["error"]["data"]["requestId"] == record["requestId"]
                        assert answer.fields["x-request-id"] == record["requestId"]
                        assert record["failure"] == "denied"
                        for text in (record["detail"], log.getvalue(), answer.message["error"]["message"]):
                            assert "cors: pages of http://stranger.example may not call" in text
                            assert setting in text
                        assert allowed(answer) is None
                    assert not backend.connections

    run(story())


@pytest.mark.requirement("AG-34")
def test_who_is_not_at_this_machine_is_told_the_kind_only() -> None:
    """A proxy has spoken for somebody else: the setting stays in the log and the record."""

    async def story() -> None:
        async with pair(polite) as (gate, _), connected(gate) as client:
            for name, value in (
                ("x-forwarded-for", "198.51.100.7"),
                ("forwarded", "for=198.51.100.7"),
                ("via", "1.1 p"),
            ):
                answer = await client.ask(call(), {**of_page(STRANGER), name: value})
                assert answer.failure == (403, "denied")
                assert b"cors" not in answer.body
                assert b"stranger" not in answer.body
                assert "mcpServers.one.cors" in records(gate)[-1]["detail"]

    run(story())


@pytest.mark.requirement("AG-35")
def test_the_own_origin_needs_no_block() -> None:
    """Pages that were served under the gateway's own name, with and without Fetch Metadata."""

    async def story() -> None:
        async with pair(polite) as (gate, _), connected(gate) as client:
            host = f"127.0.0.1:{gate.port}"
            for site in ({}, {"sec-fetch-site": "same-origin"}):
                for method, body in (("POST", call()), ("DELETE", None)):
                    headers = {"origin": f"http://{host}", **site}
                    answer = await client.ask(body, headers, method=method, host=host)
                    assert answer.status == 200
                    assert allowed(answer) is None

    run(story())


def test_the_articles_lists_work_for_a_page() -> None:
    """Its file unchanged: whatever headers are asked for are granted, and the session id is exposed by name."""

    async def story() -> None:
        async with article(conversing) as (gate, backend), connected(gate) as client:
            where = {"path": ARTICLE_PATH, "host": ARTICLE_HOST}
            asked = "authorization,content-type,mcp-protocol-version,mcp-session-id,x-anything"
            answer = await preflight(client, UI, "POST", asked, **where)
            assert answer.status == 204
            assert allowed(answer) == UI
            assert answer.fields["access-control-allow-credentials"] == "true"
            granted = {name.strip().lower() for name in answer.fields["access-control-allow-headers"].split(",")}
            assert set(asked.split(",")) <= granted
            assert answer.fields["access-control-max-age"] == "100"
            opened = await client.ask(initialize(), of_page(UI), **where)
            assert opened.status == 200
            assert "mcp-session-id" in opened.fields
            exposed = {name.strip().lower() for name in opened.fields["access-control-expose-headers"].split(",")}
            assert {"mcp-session-id", "www-authenticate", "x-request-id"} <= exposed
            assert "*" not in exposed
            called = await client.ask(call(), of_page(UI, mcp_session_id=opened.fields["mcp-session-id"]), **where)
            assert (called.status, allowed(called)) == (200, UI)
            assert len(backend.seen) == 2

    run(story())


@pytest.mark.requirement("AG-38")
def test_the_articles_delete_is_not_granted_and_explained() -> None:
    """204 without DELETE among the methods; log and record name the list that lacks it."""

    async def story() -> None:
        with log_lines() as log:
            async with article(polite) as (gate, backend), connected(gate) as client:
                answer = await preflight(client, UI, "DELETE", "mcp-session-id", path=ARTICLE_PATH, host=ARTICLE_HOST)
                assert answer.status == 204
                assert answer.fields["access-control-allow-methods"] == "GET, POST, OPTIONS"
                setting = "binds[0].listeners[0].routes[0].policies.cors.allowMethods: [DELETE]"
                assert setting in records(gate)[-1]["detail"]
                assert setting in log.getvalue()
                assert not backend.connections

    run(story())


def test_levels_of_one_policy() -> None:
    """The gateway's block holds where a route has none; a route's own replaces it."""

    async def story() -> None:
        async with Backend(polite) as backend:
            entry = {"url": backend.url, "type": "streamable-http"}
            text = {
                "gateway": {"cors": block(UI)},
                "mcpServers": {"common": entry, "own": {**entry, "cors": block("http://own.example")}},
            }
            async with gateway(json.dumps(text)) as gate, connected(gate) as client:
                for path, origin, status in (
                    ("/mcp/common", UI, 200),
                    ("/mcp/common", "http://own.example", 403),
                    ("/mcp/own", UI, 403),
                    ("/mcp/own", "http://own.example", 200),
                ):
                    answer = await client.ask(call(), of_page(origin), path=path)
                    assert answer.status == status, (path, origin)
                    assert allowed(answer) == (origin if status == 200 else None)

    run(story())


def test_remembered_heads_keep_origins_apart() -> None:
    """The same request of a page that may, one that may not, and of no page, in turn on one connection."""

    async def story() -> None:
        async with pair(polite, cors=block(UI)) as (gate, _), connected(gate) as client:
            for _ in range(3):
                for headers, status, origin in (
                    (of_page(UI), 200, UI),
                    (of_page(STRANGER), 403, None),
                    ({}, 200, None),
                ):
                    answer = await client.ask(call(), headers)
                    assert (answer.status, allowed(answer)) == (status, origin)

    run(story())


def test_documents_that_everybody_may_read() -> None:
    """Clients look for OAuth metadata from pages: the plain 404 can be read, and its preflight is granted."""

    async def story() -> None:
        async with pair(polite) as (gate, backend), connected(gate) as client:
            path = "/.well-known/oauth-protected-resource/mcp/one"
            answer = await preflight(client, STRANGER, "GET", "mcp-protocol-version", path=path)
            assert (answer.status, allowed(answer)) == (204, "*")
            answer = await client.ask(None, of_page(STRANGER), method="GET", path=path)
            assert (answer.status, allowed(answer)) == (404, "*")
            assert "access-control-allow-origin" not in (await client.ask(None, method="GET", path=path)).fields
            assert not backend.connections

    run(story())


def test_a_backend_cannot_open_what_the_policy_closes() -> None:
    """Its own Access-Control headers stop at the gateway, with and without a block."""

    async def generous(exchange: Exchange) -> None:
        await exchange.answer(
            result(), headers={"access-control-allow-origin": "*", "access-control-allow-credentials": "true"}
        )

    async def story() -> None:
        for extra, origin in (({}, None), ({"cors": block(UI)}, UI)):
            async with pair(generous, **extra) as (gate, _), connected(gate) as client:
                headers = {} if origin is None else of_page(origin)
                answer = await client.ask(call(), headers)
                assert answer.status == 200
                assert allowed(answer) == origin
                assert "access-control-allow-credentials" not in answer.fields

    run(story())


def test_a_file_says_what_pages_will_miss() -> None:
    """The warnings of a start are those of a check."""

    async def story() -> None:
        entry = {"url": "http://127.0.0.1:9/mcp", "cors": {"allowOrigins": [UI]}}
        async with gateway(servers(one=entry)) as gate:
            said = "\n".join(gate.runtime.snapshot.warnings)
            for words in ("DELETE is not listed", "clients of MCP also send", "must read Mcp-Session-Id"):
                assert words in said

    run(story())
