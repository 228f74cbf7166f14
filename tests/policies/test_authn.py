"""Client tokens: four headers, any case, per instance, with an end."""

from __future__ import annotations

import base64
import hashlib
import json
import time
from datetime import UTC, datetime

import pytest

from moongate.control.compile import CompileOptions, compile_documents
from moongate.control.files import load_texts
from moongate.testing import Backend, gateway
from tests.proxy.talk import Answer, call, connected, pair, polite, records, run, until

TOKENS = {
    "tokens": [
        {"name": "alice", "token": "alice-token"},
        {"name": "bob", "sha256": hashlib.sha256(b"bob-token").hexdigest()},
    ]
}


def basic(text: str) -> str:
    """The credential of Basic."""
    return base64.b64encode(text.encode()).decode()


GOOD = [
    ("authorization", "Bearer alice-token"),
    ("Authorization", "bearer alice-token"),
    ("AUTHORIZATION", "BEARER alice-token"),
    ("authorization", "Bearer   alice-token"),
    ("Authorization", f"Basic {basic('anything:alice-token')}"),
    ("authorization", f"bAsIc {basic(':alice-token')}"),
    ("API-Key", "alice-token"),
    ("api-key", "alice-token"),
    ("Api-kEy", "alice-token"),
    ("X-API-Key", "alice-token"),
    ("x-api-key", "alice-token"),
    ("X-API-KEY", "bob-token"),
    ("Authorization", "Bearer bob-token"),
]

BAD = [
    [],
    [("authorization", "Bearer wrong")],
    [("authorization", "Bearer")],
    [("authorization", "Bearer ")],
    [("authorization", "alice-token")],
    [("authorization", "Token alice-token")],
    [("authorization", "Bearer Alice-Token")],
    [("authorization", f"Basic {basic('alice-token')}")],
    [("authorization", f"Basic {basic('alice-token:')}")],
    [("authorization", "Basic alice-token")],
    [("authorization", "Basic !!!")],
    [("api-key", "")],
    [("api-key", "Bearer alice-token")],
    [("x-api-key", "wrong")],
    [("authorization", "Bearer alice-token"), ("x-api-key", "bob-token")],
    [("authorization", "Bearer alice-token"), ("api-key", "wrong")],
    [("api-key", "alice-token"), ("x-api-key", "bob-token")],
    [("authorization", f"Basic {basic('alice:alice-token')}"), ("api-key", "bob-token")],
    [("authorization", "Bearer alice-token"), ("authorization", "Bearer alice-token")],
    [("authorization", "Bearer alice-token"), ("Authorization", "Bearer wrong")],
    [("x-api-key", "wrong"), ("x-api-key", "alice-token")],
    [("authorization", "Bearer alice-token, Bearer bob-token")],
    [("authorization", hashlib.sha256(b"alice-token").hexdigest())],
    [("cookie", "token=alice-token")],
    [("proxy-authorization", "Bearer alice-token")],
    [("authorization", "Negotiate x"), ("x-api-key", "alice-token")],
]


@pytest.mark.requirement("PM-35", "PM-36", "PM-37", "PM-38", "PM-39")
def test_each_header_is_accepted_in_any_case() -> None:
    """Bearer, Basic (anything:token), API-Key, X-API-Key; the record names principal and header."""

    async def story() -> None:
        async with pair(polite, gateway_block=TOKENS) as (gate, _), connected(gate) as client:
            for name, value in GOOD:
                assert (await client.ask(call(), {name: value})).status == 200, (name, value)
                record = records(gate)[-1]
                assert record["tokenHeader"] == name.lower()
                assert record["principal"] == ("bob" if "bob" in value else "alice")
            assert b"alice-token" not in b"".join(gate.records())

    run(story())


@pytest.mark.parametrize("headers", BAD, ids=str)
@pytest.mark.requirement("PM-35")
def test_everything_else_is_401_with_a_challenge(headers: list[tuple[str, str]]) -> None:
    """Missing, wrong, differing or repeated credentials; the backend never hears of them."""

    async def story() -> None:
        async with pair(polite, gateway_block=TOKENS) as (gate, backend), connected(gate) as client:
            for path in ("/mcp/one", "/mcp/one?token=alice-token"):
                answer = await client.ask(call(), headers, path=path)
                assert answer.failure == (401, "unauthenticated")
                assert answer.fields["www-authenticate"].startswith("Bearer ")
                assert "id" not in answer.message
            assert not backend.connections
            assert records(gate)[-1]["failure"] == "unauthenticated"

    run(story())


@pytest.mark.requirement("PM-35")
def test_the_same_token_in_two_headers_passes() -> None:
    """Two credentials that agree are one."""

    async def story() -> None:
        async with pair(polite, gateway_block=TOKENS) as (gate, _), connected(gate) as client:
            assert (
                await client.ask(call(), {"authorization": "Bearer alice-token", "x-api-key": "alice-token"})
            ).status == 200

    run(story())


@pytest.mark.requirement("PM-35", "PM-41")
def test_the_switch_and_the_instances() -> None:
    """Off: anonymous works, whatever credential is sent. On: only tokens of the instance."""
    block = {
        "tokens": [
            {"name": "alice", "token": "alice-token", "instances": ["first"]},
            {"name": "all", "token": "all-token"},
            {"name": "nowhere", "token": "nowhere-token", "instances": ["open"]},
        ]
    }
    wanted = {
        "first": {None: 401, "alice": 200, "all": 200, "nowhere": 403},
        "second": {None: 401, "alice": 403, "all": 200, "nowhere": 403},
        "open": {None: 200, "alice": 200, "all": 200, "nowhere": 200, "wrong": 200},
    }

    async def story() -> None:
        async with Backend(polite) as backend:
            servers = {name: {"url": backend.url, "type": "streamable-http"} for name in ("first", "second", "open")}
            servers["open"]["auth"] = "off"
            text = json.dumps({"gateway": block, "mcpServers": servers})
            async with gateway(text) as gate, connected(gate) as client:
                for instance, answers in wanted.items():
                    for name, status in answers.items():
                        headers = {"authorization": f"Bearer {name}-token"} if name else {}
                        answer = await client.ask(call(), headers, path=f"/mcp/{instance}")
                        assert answer.status == status, (instance, name)
                        assert instance.encode() not in answer.body or status == 200
                assert b"-token" not in b"".join(seen.head for seen in backend.seen)

    run(story())


@pytest.mark.requirement("PM-35")
def test_required_without_tokens_refuses_everybody() -> None:
    """`auth: required` does not fall back to open when nobody has a token."""

    async def story() -> None:
        async with pair(polite, auth="required") as (gate, backend), connected(gate) as client:
            for headers in ({}, {"authorization": "Bearer x"}):
                assert (await client.ask(call(), headers)).status == 401
            assert not backend.connections

    run(story())


@pytest.mark.requirement("PM-40")
def test_the_two_examples_combined() -> None:
    """A client token and a backend token both in Authorization; the examples' addresses and headers as printed."""

    async def story() -> None:
        async with (
            pair(
                polite,
                gateway_block={"prefix": "/gateway_prefix", **TOKENS},
                headers={"Authorization": "Bearer backend-token"},
            ) as (gate, backend),
            connected(gate) as client,
        ):
            answer = await client.ask(
                call(), {"Authorization": "Bearer alice-token"}, path="/gateway_prefix/one/v1/stream"
            )
            assert answer.status == 200
            answer = await client.ask(call(), {"API-Key": "alice-token"}, path="/gateway_prefix/one/v1/stream")
            assert answer.status == 200
            assert [seen.fields["authorization"] for seen in backend.seen] == ["Bearer backend-token"] * 2
            assert all(b"alice-token" not in seen.head for seen in backend.seen)
            assert (
                await client.ask(call(), {"Authorization": "Bearer backend-token"}, path="/gateway_prefix/one")
            ).status == 401

    run(story())


@pytest.mark.requirement("PM-42")
def test_an_expired_token_is_refused_within_a_second() -> None:
    """It works until its moment and not after it; also with its session and its open connection."""
    ends = int(time.time()) + 2
    moment = datetime.fromtimestamp(ends, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    block = {
        "tokens": [
            {"name": "alice", "token": "alice-token", "expires": moment},
            {"name": "past", "token": "past-token", "expires": "2020-01-01"},
            {"name": "future", "token": "future-token", "expires": "2199-01-01"},
        ]
    }

    async def story() -> None:
        async with pair(polite, gateway_block=block) as (gate, _), connected(gate) as client:

            async def ask(name: str) -> Answer:
                return await client.ask(call(), {"x-api-key": f"{name}-token"})

            assert [(await ask(name)).status for name in ("alice", "past", "future")] == [200, 401, 200]
            await until(lambda: time.time() >= ends + 0.02)
            answer = await ask("alice")
            assert answer.failure == (401, "unauthenticated")
            assert "expired" not in answer.message["error"]["message"]

    run(story())


@pytest.mark.requirement("PM-42")
def test_a_deleted_token_is_refused_on_the_next_request() -> None:
    """After a reload without it, on the same connection and in the same session."""

    async def story() -> None:
        async with pair(polite, gateway_block=TOKENS) as (gate, backend), connected(gate) as client:
            assert (await client.ask(call(), {"x-api-key": "alice-token"})).status == 200
            text = json.dumps(
                {"gateway": {"tokens": TOKENS["tokens"][1:]}, "mcpServers": {"one": {"url": backend.url}}}
            )
            await gate.runtime.apply(
                compile_documents(load_texts([("f", text)], {}), CompileOptions(host="127.0.0.1", port=0))
            )
            assert (await client.ask(call(), {"x-api-key": "alice-token"})).status == 401
            assert (await client.ask(call(), {"x-api-key": "bob-token"})).status == 200

    run(story())
