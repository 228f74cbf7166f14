"""Sessions of hosted servers: who has a process of his own, when it ends, what is found again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from moongate.testing import Gateway
from moongate.upstreams.bridge import Bridge
from tests.bridge.talking import REVISION, beside, caller, hosting, messages, session, text_of
from tests.proxy.talk import call, initialize, last_record, records, run, until

TOKENS = {
    "tokens": [{"name": name, "token": f"token-of-{name}"} for name in ("ann", "bob")],
}


def bearer(name: str) -> dict[str, str]:
    """The credential of one of the callers."""
    return {"authorization": f"Bearer token-of-{name}"}


def bridge_of(gate: Gateway) -> Bridge:
    """The bridge of the only route."""
    found = gate.runtime.plane.plan.upstreams[0]
    assert isinstance(found, Bridge)
    return found


def alive(pid: int) -> bool:
    """Whether a process is there, zombies included."""
    return Path(f"/proc/{pid}").exists()


def test_a_client_of_streamable_http_uses_a_server_that_only_speaks_stdio() -> None:
    """Handshake, list and call; the version is what client and server agreed on."""

    async def story() -> None:
        async with hosting() as gate, caller(gate) as one:
            opened = await one.open("2025-06-18")
            assert opened["protocolVersion"] == "2025-06-18"
            listed = await one.client.ask(call(5, "tools/list"), one.headers)
            assert "echo" in [tool["name"] for tool in listed.message["result"]["tools"]]
            answer = await one.call("echo", "an id", text="hullo")
            assert answer.fields["content-type"] == "application/json"
            assert (answer.message["id"], text_of(answer.message)) == ("an id", "hullo")

    run(story())


def test_by_default_every_session_has_a_process_of_its_own() -> None:
    """Two sessions of one client, two processes."""

    async def story() -> None:
        async with hosting() as gate, session(gate) as one, session(gate) as two:
            assert (await one.who())["pid"] != (await two.who())["pid"]

    run(story())


def test_a_shared_server_serves_all_sessions_with_one_process_that_the_gateway_initialized() -> None:
    """Everybody meets the same process; tasks, which would have no owner there, are not offered."""

    async def story() -> None:
        async with hosting(isolation="shared", block=TOKENS) as gate, caller(gate, bearer("ann")) as one:
            opened = await one.open()
            assert opened["capabilities"] == {"tools": {"listChanged": True}, "logging": {}}
            async with session(gate, bearer("bob")) as two:
                assert (await one.who())["pid"] == (await two.who())["pid"]

    run(story())


def test_a_server_for_each_principal_is_shared_by_his_sessions_only() -> None:
    """Ann's two sessions meet one process, Bob's another."""

    async def story() -> None:
        async with (
            hosting(isolation="principal", block=TOKENS) as gate,
            session(gate, bearer("ann")) as one,
            session(gate, bearer("ann")) as two,
            session(gate, bearer("bob")) as three,
        ):
            pids = [(await each.who())["pid"] for each in (one, two, three)]
            assert pids[0] == pids[1] != pids[2]

    run(story())


def test_clients_that_keep_no_session_share_a_process_with_nobody_else() -> None:
    """A call without a session id is served, by the process of its principal."""

    async def story() -> None:
        async with hosting(block=TOKENS) as gate:
            pids = []
            for name in ("ann", "ann", "bob"):
                async with caller(gate, bearer(name)) as one:
                    pids.append((await one.who())["pid"])
            assert pids[0] == pids[1] != pids[2]

    run(story())


@pytest.mark.parametrize("isolation", ["session", "principal", "shared"])
def test_delete_ends_the_session_and_it_is_not_found_again(isolation: str) -> None:
    """404 after DELETE; a process of its own ends with it."""

    async def story() -> None:
        async with hosting(isolation=isolation) as gate, session(gate) as one:
            pid = (await one.who())["pid"]
            ended = await one.client.ask(None, one.headers, method="DELETE")
            assert ended.status == 200
            again = await one.call("echo", 9, text="x")
            assert (again.status, again.message["error"]["code"]) == (404, -32001)
            assert (await one.client.ask(None, one.headers, method="GET")).status == 404
            if isolation == "session":
                await until(lambda: not alive(pid))
            else:
                assert alive(pid)

    run(story())


def test_without_a_session_there_is_no_stream_to_open_and_nothing_to_delete() -> None:
    """GET and DELETE without a session id: 405."""

    async def story() -> None:
        async with hosting() as gate, caller(gate) as one:
            for method in ("GET", "DELETE"):
                answer = await one.client.ask(None, method=method)
                assert (answer.status, answer.fields["allow"]) == (405, "POST")

    run(story())


def test_an_unused_session_ends_with_its_process_after_the_idle_limit() -> None:
    """Nobody sends DELETE; the process goes all the same, and the client is told 404."""

    async def story() -> None:
        async with hosting(idleTime="300ms") as gate, session(gate) as one:
            pid = (await one.who())["pid"]
            await until(lambda: not alive(pid), 5)
            assert bridge_of(gate).sessions == 0
            assert (await one.call("echo", text="x")).status == 404

    run(story())


def test_a_client_that_listens_is_not_idle() -> None:
    """As long as its GET stream is open, a session stays."""

    async def story() -> None:
        async with hosting(idleTime="200ms") as gate, session(gate) as one, beside(one, gate) as ear:
            pid = (await one.who())["pid"]
            assert (await ear.listen()).status == 200
            with pytest.raises(TimeoutError):
                await until(lambda: not alive(pid), 1)
            ear.client.vanish()
            await until(lambda: not alive(pid), 5)

    run(story())


def test_when_all_processes_are_taken_the_one_that_idles_longest_makes_room() -> None:
    """The third session ends the first; a busy one is never ended for another."""

    async def story() -> None:
        async with hosting(maxProcesses=2) as gate, session(gate) as one, session(gate) as two:
            await one.start("hold")
            third = await two.client.ask(initialize(REVISION))
            assert third.status == 200
            assert (await two.call("echo", text="x")).status == 404
            headers = {"mcp-session-id": third.fields["mcp-session-id"]}
            async with beside(two, gate) as holder:
                holder.headers = headers
                await holder.start("hold")
                await until(lambda: len(records(gate)) >= 5)
                refused = await two.client.ask(initialize(REVISION))
            assert refused.failure == (502, "process_start")

    run(story())


def test_many_sessions_that_nobody_ends_cost_no_more_than_the_limit() -> None:
    """Sixty sessions are opened and left; never more than four processes are there."""

    async def story() -> None:
        async with hosting(maxProcesses=4) as gate:
            for _ in range(60):
                async with caller(gate) as one:
                    await one.open()
                assert bridge_of(gate).conversations <= 4
            assert bridge_of(gate).sessions == bridge_of(gate).conversations

    run(story())


def test_the_session_of_another_principal_is_not_found() -> None:
    """A stolen session id is worth nothing without the token it was made for."""

    async def story() -> None:
        async with hosting(block=TOKENS) as gate, session(gate, bearer("ann")) as one, caller(gate) as thief:
            thief.headers = {**one.headers, **bearer("bob")}
            assert (await thief.call("echo", text="x")).status == 404

    run(story())


def test_a_call_of_the_stateless_era_reaches_a_process_of_its_principal() -> None:
    """No handshake is made for it, and an unknown method is the status that the revision wants."""

    async def story() -> None:
        async with hosting() as gate, caller(gate) as one:
            meta = {
                "io.modelcontextprotocol/protocolVersion": "2026-07-28",
                "io.modelcontextprotocol/clientCapabilities": {},
            }
            body = call(1, "tools/call", name="echo", arguments={"text": "now"}, _meta=meta)
            headers = {"mcp-protocol-version": "2026-07-28", "mcp-method": "tools/call", "mcp-name": "echo"}
            answer = await one.client.ask(body, headers)
            assert text_of(answer.message) == "now"
            del headers["mcp-name"]
            for method in ("server/discover", "initialize"):
                unknown = await one.client.ask(call(2, method, _meta=meta), {**headers, "mcp-method": method})
                assert (unknown.status, unknown.message["error"]["code"]) == (404, -32601)

    run(story())


def test_every_call_has_its_record() -> None:
    """The journal names method, tool and outcome of calls to hosted servers as of all others."""

    async def story() -> None:
        async with hosting() as gate, session(gate) as one:
            await one.call("nothing such")
            record = await last_record(gate, 3)
            assert (record["method"], record["target"], record["code"]) == ("tools/call", "nothing such", -32602)

    run(story())


def test_an_array_of_messages_is_answered_message_by_message() -> None:
    """Revision 2025-03-26: both answers come, a notification among them is heard."""

    async def story() -> None:
        async with hosting() as gate, session(gate, revision="2025-03-26") as one:
            batch = [json.loads(call(n, name="echo", arguments={"text": f"t{n}"})) for n in (1, 2)]
            batch.append({"jsonrpc": "2.0", "method": "notifications/roots/list_changed"})
            answer = await one.client.ask(json.dumps(batch).encode(), one.headers)
            found = messages(answer.body)
            assert {(message["id"], text_of(message)) for message in found} == {(1, "t1"), (2, "t2")}
            assert "notifications/roots/list_changed" in (await one.who())["heard"]

    run(story())
