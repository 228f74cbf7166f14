"""A head that comes again on one connection: what was decided for it holds, and nothing else does."""

from __future__ import annotations

import time

from moongate.control.secrets import load_key
from moongate.protocol.sealed import Sealer, Session
from tests.proxy.talk import META, MODERN, call, connected, initialize, pair, polite, records, run, until

TOKENS = {"tokens": [{"name": "alice", "token": "alice-token"}, {"name": "bob", "token": "bob-token"}]}


def padded(body: bytes, size: int = 400) -> bytes:
    """Bodies of one length, so that their heads are the same."""
    return body + b" " * (size - len(body))


def test_the_same_head_with_other_bodies() -> None:
    """Each body is judged anew: era, array rule, names, ids; each has its own record."""
    modern = call("m", _meta={f"{META}protocolVersion": MODERN, f"{META}clientCapabilities": {}})
    batch = b"[" + call(1) + b"]"

    async def story() -> None:
        async with pair(polite) as (gate, backend), connected(gate) as client:
            for body, status in (
                (initialize(), 200),
                (call(2), 200),
                (modern, 400),
                (call(3), 200),
                (batch, 400),
                (b"{", 400),
                (call(4), 200),
            ):
                answer = await client.ask(padded(body))
                assert answer.status == status, body
            assert len(backend.seen) == 4
            found = records(gate)
            assert [record["status"] for record in found] == [200, 200, 400, 200, 400, 400, 200]
            assert [record.get("method", "") for record in found[:4]] == [
                "initialize",
                "tools/call",
                "tools/call",
                "tools/call",
            ]
            assert [record.get("client", "") for record in found[:2]] == ["lynx/3", ""]
            assert [record.get("revision", "") for record in found[:2]] == ["2025-06-18", ""]
            assert len({record["requestId"] for record in found}) == 7

    run(story())


def test_heads_that_take_turns() -> None:
    """Two principals, a stranger and a wrong path on one connection are never mixed up."""

    async def story() -> None:
        async with pair(polite, gateway_block=TOKENS) as (gate, _), connected(gate) as client:
            for _ in range(3):
                for token, path, status, principal in (
                    ("alice", "/mcp/one", 200, "alice"),
                    ("bob", "/mcp/one", 200, "bob"),
                    ("other", "/mcp/one", 401, "anonymous"),
                    ("alice", "/mcp/two", 404, "anonymous"),
                    ("alice", "/mcp/one", 200, "alice"),
                    ("alice", "/mcp/one", 200, "alice"),
                ):
                    answer = await client.ask(call(), {"x-api-key": f"{token}-token"}, path=path)
                    assert answer.status == status
                    record = records(gate)[-1]
                    assert (record["status"], record["principal"]) == (status, principal)

    run(story())


def test_a_session_ends_also_for_a_head_that_comes_again() -> None:
    """The session's expiry holds although its head was let in before."""

    async def story() -> None:
        async with pair(polite) as (gate, _), connected(gate) as client:
            ends = time.time() + 0.3
            session = Session(b"backend-session-7", "one", "", "2025-06-18", "", ends)
            headers = {"mcp-session-id": Sealer(load_key(gate.data_dir, {})).seal(session).decode()}
            assert [(await client.ask(call(), headers)).status for _ in range(3)] == [200, 200, 200]
            await until(lambda: time.time() > ends)
            assert (await client.ask(call(), headers)).status == 404

    run(story())


def test_one_connection_remembers_nothing_for_another() -> None:
    """The same bytes on another connection are judged there, and a stranger's are refused after a friend's."""

    async def story() -> None:
        async with pair(polite, gateway_block=TOKENS) as (gate, backend):
            for _ in range(2):
                async with connected(gate) as friend, connected(gate) as stranger:
                    assert (await friend.ask(call(), {"x-api-key": "alice-token"})).status == 200
                    assert (await stranger.ask(call())).status == 401
                    assert (await friend.ask(call())).status == 401
            assert len(backend.seen) == 2

    run(story())


def test_chunked_and_expecting_heads_come_again() -> None:
    """Framing belongs to each request: chunked bodies, 100-continue and GET, three times each."""

    async def story() -> None:
        async with pair(polite) as (gate, backend), connected(gate) as client:
            for _ in range(3):
                await client.send(b"", {"transfer-encoding": "chunked"})
                await client.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(call()), call()))
                assert (await client.answer()).status == 200
                await client.send(b"", {"expect": "100-continue", "content-length": str(len(call()))})
                assert (await client.head()).status == 100
                await client.write(call())
                assert (await client.answer()).status == 200
                assert (await client.ask(None, method="DELETE")).status == 200
            assert [seen.method for seen in backend.seen] == ["POST", "POST", "DELETE"] * 3

    run(story())
