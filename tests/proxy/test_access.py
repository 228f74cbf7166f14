"""Access rules as clients and backends see them: who gets in, what is refused, what lists show."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from moongate.testing import Exchange, gateway
from tests.proxy.sse_talk import listening, open_session
from tests.proxy.talk import (
    call,
    connected,
    initialize,
    log_lines,
    modern_call,
    pair,
    polite,
    records,
    result,
    run,
)

TOKENS = {
    "tokens": [
        {"name": "alice", "token": "alice-token", "groups": ["readers"]},
        {"name": "bob", "token": "bob-token"},
    ]
}
ALICE, BOB = {"x-api-key": "alice-token"}, {"x-api-key": "bob-token"}


def rules(*written: dict[str, Any], mode: str = "enforce") -> dict[str, Any]:
    """An access block."""
    return {"mode": mode, "rules": list(written)}


def tools(*names: str) -> list[dict[str, Any]]:
    """Tools as a server lists them."""
    return [{"name": name, "inputSchema": {"type": "object"}} for name in names]


@pytest.mark.requirement("PM-43")
@pytest.mark.requirement("PM-45")
def test_one_user_is_allowed_and_another_denied_on_the_same_instance() -> None:
    """The one who may use nothing gets 403 before his body is read, with a record; the backend hears nothing of him."""

    async def story() -> None:
        async with (
            pair(polite, gateway_block=TOKENS, access=rules({"allow": True, "users": ["alice"]})) as (gate, backend),
            connected(gate) as client,
        ):
            refused = await client.ask(call(7), BOB)
            assert refused.failure == (403, "denied")
            assert "id" not in refused.message
            assert backend.connections == 0
            assert (await client.ask(None, BOB, method="GET")).status == 403
            assert (await client.ask(call(), ALICE)).status == 200
            assert len(backend.seen) == 1
            assert b"rule" not in client.raw
            assert b"mcpServers" not in client.raw
            record = records(gate)[0]
            assert (record["principal"], record["status"], record["failure"]) == ("bob", 403, "denied")
            assert "no rule allows anything to 'bob' from 127.0.0.1" in record["detail"]
            assert "mcpServers.one.access.rules" in record["detail"]

    run(story())


@pytest.mark.requirement("PM-44")
def test_sources_are_judged_by_what_trusted_proxies_say() -> None:
    """The proxy's word counts where it is trusted, nobody else's does."""

    async def story() -> None:
        block = {"trustedProxies": ["127.0.0.1"], "hosts": ["127.0.0.1"]}
        access = rules({"allow": True, "sources": ["10.0.0.0/8"]}, {"deny": True, "sources": ["10.9.0.0/16"]})
        async with pair(polite, gateway_block=block, access=access) as (gate, backend), connected(gate) as client:
            for source, status in (("10.1.2.3", 200), ("10.9.2.3", 403), ("192.0.2.1", 403), ("10.1.2.3", 200)):
                assert (await client.ask(call(), {"x-forwarded-for": source})).status == status
            assert (await client.ask(call())).status == 403
            assert len(backend.seen) == 2
            assert [record["source"] for record in records(gate)][:3] == ["10.1.2.3", "10.9.2.3", "192.0.2.1"]
        async with pair(polite, access=access) as (gate, backend), connected(gate) as client:
            assert (await client.ask(call(), {"x-forwarded-for": "10.1.2.3"})).status == 403
            assert backend.connections == 0

    run(story())


NOTE = b'{"jsonrpc":"2.0","method":"vendor/note"}'
REFUSED = [
    # The message, further headers; status, and whether the id comes back.
    (call(7), {}, 200, True),
    (call(7, "vendor/method"), {}, 200, True),
    (call(7, "resources/read", uri="file:///a"), {}, 200, True),
    (call(7, "completion/complete", ref={"type": "ref/prompt", "name": "p"}), {}, 200, True),
    (*modern_call(7), 403, True),
    (NOTE, {}, 403, False),
]


@pytest.mark.requirement("PM-45")
@pytest.mark.parametrize(("body", "headers", "status", "with_id"), REFUSED)
def test_a_message_is_refused_as_its_client_can_bear(
    body: bytes, headers: dict[str, str], status: int, with_id: bool
) -> None:
    """A legacy call gets its error with status 200; no connection is made, and the rule is the operator's to know."""

    async def story() -> None:
        with log_lines() as log:
            access = rules({"allow": ["tool:get_*"]})
            async with pair(polite, access=access) as (gate, backend), connected(gate) as client:
                for _ in range(2):
                    answer = await client.ask(body, headers)
                    assert answer.failure == (status, "denied")
                    assert ("id" in answer.message) is with_id
                assert backend.connections == 0
                assert b"rule" not in client.raw
                assert b"get_" not in client.raw
                assert {record["failure"] for record in records(gate)} == {"denied"}
                assert all("mcpServers.one.access.rules" in record["detail"] for record in records(gate))
        assert "to change this, set mcpServers.one.access.rules: another rule, such as {allow: [" in log.getvalue()

    run(story())


def test_one_refused_element_refuses_the_array() -> None:
    """Each element has its record, each call its error; the backend hears of none."""

    async def story() -> None:
        access = rules({"deny": ["tool:pay"], "when": "arguments.amount > 100"})
        async with pair(polite, access=access) as (gate, backend), connected(gate) as client:
            opened = await client.ask(initialize("2025-03-26"))
            session = {"mcp-session-id": opened.fields["mcp-session-id"]}
            fine, wrong = (call(n, name="pay", arguments={"amount": amount}) for n, amount in ((1, 1), (2, 101)))
            before = len(backend.seen)
            answer = await client.ask(b" [%b,%b] " % (fine, wrong), session)
            assert answer.status == 200
            errors = json.loads(answer.body)
            assert [(one["id"], one["error"]["data"]["class"]) for one in errors] == [(1, "denied"), (2, "denied")]
            assert len(backend.seen) == before
            assert [record["failure"] for record in records(gate)[-2:]] == ["denied", "denied"]
            assert (await client.ask(b"[%b,%b]" % (fine, fine), session)).status == 200

    run(story())


def test_callers_on_one_connection_are_told_apart() -> None:
    """What is remembered of a head is that head's alone."""

    async def story() -> None:
        access = rules({"allow": ["tool:moonrise"], "groups": ["readers"]}, {"allow": ["tool:other"]})
        async with (
            pair(polite, gateway_block=TOKENS, access=access) as (gate, _),
            connected(gate) as client,
        ):
            for who, denied in ((ALICE, False), (BOB, True), (ALICE, False), (BOB, True)):
                assert ("error" in (await client.ask(call(), who)).message) is denied

    run(story())


def test_rules_of_the_whole_gateway_hold_beside_the_instances_own() -> None:
    """A call must pass both; refused calls use up nobody's allowance."""

    async def story() -> None:
        limit = [{"maxTokens": 1, "tokensPerFill": 1, "fillInterval": "1h"}]
        block = {"access": rules({"deny": ["tool:b"]})}
        access = rules({"allow": ["tool:a", "tool:b"]})
        async with (
            pair(polite, gateway_block={**TOKENS, **block}, access=access, localRateLimit=limit) as (gate, backend),
            connected(gate) as client,
        ):
            for name, failure in (("b", "denied"), ("c", "denied"), ("a", None), ("a", "rate_limited")):
                found = (await client.ask(call(1, name=name), ALICE)).message
                assert (found["error"]["data"]["class"] if "error" in found else None) == failure
            assert len(backend.seen) == 1

    run(story())


def test_rules_on_trial_refuse_nothing_and_are_recorded() -> None:
    """The record says what would have been denied, by which rule; lists stay whole."""

    async def story() -> None:
        access = rules({"deny": ["tool:pay"]}, {"deny": True, "users": ["bob"]}, mode="shadow")
        listed = result(1, tools=tools("pay", "look"))

        async def script(exchange: Exchange) -> None:
            await exchange.answer(listed if b"tools/list" in exchange.seen.body else result())

        async with (
            pair(script, gateway_block=TOKENS, access=access) as (gate, backend),
            connected(gate) as client,
        ):
            assert (await client.ask(call(1, name="look"), ALICE)).status == 200
            assert (await client.ask(call(1, name="pay"), ALICE)).body == result()
            assert (await client.ask(call(1, "tools/list"), ALICE)).body == listed
            assert (await client.ask(call(1, name="look"), BOB)).status == 200
            assert len(backend.seen) == 4
            noted = [record.get("shadow", "") for record in records(gate)]
            assert [bool(text) for text in noted] == [False, True, False, True]
            assert "mcpServers.one.access.rules[0]" in noted[1]
            assert "mcpServers.one.access.rules[1]" in noted[3]
            assert all("failure" not in record for record in records(gate))

    run(story())


def test_a_call_at_the_door_of_http_sse_is_refused_on_its_stream() -> None:
    """Who may use nothing does not get a stream at all."""

    async def story() -> None:
        access = rules({"allow": ["tool:look"], "users": ["alice"]})
        async with pair(polite, gateway_block=TOKENS, access=access) as (gate, backend):
            async with connected(gate) as client:
                assert (await client.ask(None, BOB, method="GET", path="/mcp/one/sse")).failure == (403, "denied")
                assert backend.connections == 0
            async with listening(gate, headers=ALICE) as client:
                await open_session(client)
                before = len(backend.seen)
                assert (await client.post(call(5, name="pay"))).status == 202
                refused = await client.message()
                assert (refused["id"], refused["error"]["data"]["class"]) == (5, "denied")
                assert (await client.post(call(6, name="look"))).status == 202
                assert (await client.message())["id"] == 6
                assert sum(b"tools/call" in seen.body for seen in backend.seen[before:]) == 1

    run(story())


@pytest.mark.requirement("PM-45")
def test_a_refused_call_starts_no_process(tmp_path: Path) -> None:
    """A hosted server is not started for somebody who may not use it."""
    marker = tmp_path / "started"

    async def story(denied: list[str]) -> None:
        server = {"command": "touch", "args": [str(marker)], "access": rules({"deny": denied})}
        async with gateway(json.dumps({"mcpServers": {"one": server}})) as gate, connected(gate) as client:
            answer = await client.ask(initialize())
            assert ("denied" in answer.failure) is not marker.exists()

    run(story(["method:initialize", "tool:*"]))
    assert not marker.exists()
    run(story(["tool:*"]))
    assert marker.exists()
