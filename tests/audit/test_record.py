"""What a record says, and what never gets into one."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import msgspec
import pytest

from moongate.audit.record import arguments
from moongate.audit.redact import MAX_ARGUMENTS, MAX_ARGUMENTS_TEXT, Redactor, fingerprint, mask
from moongate.testing import Exchange
from tests.audit.trail import audited
from tests.proxy.talk import call, connected, initialize, last_record, log_lines, pair, polite, records, run

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SECRET = "moonlight-" + "s" * 12
TOKEN = "client-" + "t" * 12
OTHER = "client-" + "u" * 12


@pytest.mark.parametrize(
    ("header", "trace"),
    [
        (f"00-{TRACE}-{PARENT}-01", TRACE),
        (f"cc-{TRACE}-{PARENT}-01-later", TRACE),
        (f"00-{TRACE}-{PARENT}-01-later", None),
        (f"ff-{TRACE}-{PARENT}-01", None),
        (f"00-{'0' * 32}-{PARENT}-01", None),
        (f"00-{TRACE}-{'0' * 16}-01", None),
        (f"00-{TRACE.upper()}-{PARENT}-01", None),
        (f"00-{TRACE[1:]}-{PARENT}-01", None),
        (f"00-{TRACE}-{PARENT}", None),
        ("secret", None),
    ],
)
def test_the_trace_id_is_recorded_if_it_is_one(header: str, trace: str | None) -> None:
    """W3C Trace Context; what has another form is somebody's text and stays out."""

    async def story() -> None:
        async with pair(polite) as (gate, _), connected(gate) as client:
            await client.ask(call(), {"traceparent": header})
            assert (await last_record(gate)).get("traceId") == trace

    run(story())


def test_two_trace_headers_are_none() -> None:
    """Nobody can say which is meant."""

    async def story() -> None:
        async with pair(polite) as (gate, _), connected(gate) as client:
            await client.ask(call(), [("traceparent", f"00-{TRACE}-{PARENT}-01")] * 2)
            assert "traceId" not in await last_record(gate)

    run(story())


@pytest.mark.requirement("PM-46", "PM-53", "PM-54")
@pytest.mark.parametrize("name", ["Authorization", "AUTHORIZATION", "API-Key", "x-api-key"])
def test_each_call_says_who_where_what_and_how_it_ended(name: str) -> None:
    """All of the acceptance line; the header's name in lower case, the token by name and fingerprint."""

    async def story() -> None:
        tokens = {"tokens": [{"name": "laptop", "user": "alice", "token": TOKEN}]}
        async with pair(polite, gateway_block=tokens) as (gate, _), connected(gate) as client:
            value = f"Bearer {TOKEN}" if name.lower() == "authorization" else TOKEN
            body = call(arguments={"moon": 1})
            answer = await client.ask(body, {name: value}, path="/mcp/one/v1/stream")
            record = await last_record(gate)
            assert record["requestId"] == answer.fields["x-request-id"]
            assert {key: record[key] for key in ("source", "path", "instance", "httpMethod", "method", "target")} == {
                "source": "127.0.0.1",
                "path": "/mcp/one/v1/stream",
                "instance": "one",
                "httpMethod": "POST",
                "method": "tools/call",
                "target": "moonrise",
            }
            assert (record["status"], record["principal"], record["token"]) == (200, "alice", "laptop")
            assert record["tokenFingerprint"] == fingerprint(TOKEN)
            assert record["tokenHeader"] == name.lower()
            assert record["argumentsDigest"] == hashlib.sha256(b'{"moon": 1}').hexdigest()[:16]
            assert "arguments" not in record
            assert 0 < record["firstByte"] <= record["duration"] < 5000
            assert record["time"] > 1_700_000_000

    run(story())


@pytest.mark.requirement("PM-48", "PM-52")
def test_an_unknown_token_is_recorded_as_a_fingerprint() -> None:
    """Two that were refused can be told apart; neither is anywhere."""

    async def story() -> None:
        tokens = {"tokens": [{"name": "alice", "token": TOKEN}]}
        async with pair(polite, gateway_block=tokens) as (gate, backend), connected(gate) as client:
            for wrong in (OTHER, OTHER[::-1]):
                assert (await client.ask(call(), {"x-api-key": wrong})).status == 401
            found = records(gate)
            assert [record["tokenFingerprint"] for record in found] == [fingerprint(OTHER), fingerprint(OTHER[::-1])]
            assert [record["failure"] for record in found] == ["unauthenticated"] * 2
            assert OTHER not in json.dumps(found)
            assert not backend.seen

    run(story())


@pytest.mark.requirement("PM-51")
def test_secrets_reach_neither_record_nor_log() -> None:
    """Configured ones and what looks like one: in path, query, tool, client's name, revision, the backend's words."""
    shaped = "mg_" + "a1B2" * 9
    headers = {"Authorization": f"Bearer {SECRET}"}

    async def echo(exchange: Exchange) -> None:
        if b'"initialize"' in exchange.seen.body:
            await polite(exchange)
        else:
            await exchange.answer(f"<{SECRET}>".encode(), status="200 OK", headers={"content-type": f"text/{SECRET}"})

    async def story() -> None:
        async with pair(echo, headers=headers) as (gate, _), connected(gate) as client:
            with log_lines() as log:
                opened = await client.ask(initialize().replace(b"lynx", f"{SECRET} {shaped}".encode()))
                session = {"mcp-session-id": opened.fields["mcp-session-id"]}
                await client.ask(call(1, name=f"tool-{SECRET}"), session)
                await client.ask(call(2, name=shaped), session)
                await client.ask(call(3), path=f"/mcp/one/{SECRET}/{shaped}?token={SECRET}")
                await client.ask(call(4), path=f"/mcp/one/{SECRET}%20x" + "y" * 5000)
                await client.ask(call(5, method=f"x/{SECRET}"), {"mcp-protocol-version": SECRET})
                await client.ask(b"{" + SECRET.encode())
            found = records(gate)
            assert len(found) == 7
            written = json.dumps(found) + log.getvalue()
            assert SECRET not in written
            assert shaped not in written
            assert found[1]["target"] == f"tool-{mask(SECRET)}"
            assert found[2]["target"] == mask(shaped)
            assert found[0]["client"].startswith(mask(SECRET))

    run(story())


@pytest.mark.requirement("PM-51")
def test_arguments_are_recorded_only_if_that_is_wanted() -> None:
    """And then without secrets: known ones, those that look so, and those that are called so."""
    given = {"moon": SECRET, "password": "hunter22", "deep": [{"apiKey": 17, "url": "https://a:bcdef@x/"}], "n": 1}

    async def story() -> None:
        keys = {"X-Key": SECRET}
        async with audited(polite, {"arguments": "record"}, headers=keys) as (gate, _), connected(gate) as client:
            await client.ask(call(arguments=given))
            record = await last_record(gate)
            assert json.loads(record["arguments"]) == {
                "moon": mask(SECRET),
                "password": mask("hunter22"),
                "deep": [{"apiKey": mask("17"), "url": f"https://{mask('a:bcdef')}@x/"}],
                "n": 1,
            }
            assert record["argumentsDigest"]

    run(story())


def test_what_is_recorded_of_arguments_is_bounded() -> None:
    """Huge ones and deep ones only as their size or their upper part; the digest is of all of it."""
    huge = b'{"x":"' + b"m" * MAX_ARGUMENTS + b'"}'
    deep = b"[" * 500 + b"]" * 500
    long = json.dumps({"x": "m " * 20_000}).encode()
    for raw, wanted in ((huge, f"[{len(huge)} bytes]"), (deep, None), (long, None), (b"{", "[unreadable]")):
        members: dict[str, Any] = json.loads(b"{" + arguments(msgspec.Raw(raw), whole=True)[1:] + b"}")
        assert members["argumentsDigest"] == hashlib.sha256(raw).hexdigest()[:16]
        assert len(members["arguments"]) <= MAX_ARGUMENTS_TEXT
        assert wanted is None or members["arguments"] == wanted
    assert arguments(None) == b""


SHAPES = {
    "bearer": ("Bearer abcdefgh", "Bearer {abcdefgh}"),
    "moongate": ("x mg_" + "a1" * 18 + " y", "x {mg_" + "a1" * 18 + "} y"),
    "jwt": ("eyJhbGciOiJI.eyJzdWIi.c2ln", "{eyJhbGciOiJI.eyJzdWIi.c2ln}"),
    "prefix": ("ghp_" + "a" * 20, "{ghp_" + "a" * 20 + "}"),
    "userinfo": ("https://me:word@host/", "https://{me:word}@host/"),
    "query": ("/a?access_token=abcdef&b=1", "/a?access_token={abcdef}&b=1"),
    "hex": ("f0" * 32, "{" + "f0" * 32 + "}"),
    "mixed": ("Ab1" * 16, "{" + "Ab1" * 16 + "}"),
}
HARMLESS = [
    "createPullRequestReviewCommentForRepository2",
    "get_weather",
    "123e4567-e89b-12d3-a456-426614174000",
    "file:///var/moon/README.md",
    "0123456789ab00000001",
    "e" * 40,
    "/mcp/one/v1/stream",
    "the token 'alice' has expired",
]


@pytest.mark.requirement("PM-51", "PM-52")
@pytest.mark.parametrize("shape", SHAPES)
def test_what_looks_like_a_secret_is_masked(shape: str) -> None:
    """Once: what was masked stays as it is."""
    text, wanted = SHAPES[shape]
    secret = wanted[wanted.index("{") + 1 : wanted.index("}")]
    cleaned = Redactor().clean(text)
    assert cleaned == wanted.replace("{" + secret + "}", mask(secret))
    assert Redactor().clean(cleaned) == cleaned


@pytest.mark.parametrize("text", HARMLESS)
def test_what_only_looks_long_stays(text: str) -> None:
    """Names of tools, addresses, commits, identifiers."""
    assert Redactor().clean(text) == text


@pytest.mark.requirement("PM-51")
def test_secrets_in_other_spellings_and_among_many() -> None:
    """As addresses and JSON spell them; with so many that they are looked up by their beginnings; at a cut."""
    odd = 'a b/"c\u00e4+d' + "e" * 8
    many = Redactor([odd, *(f"secret-{number:06}" for number in range(2000))])
    for text in ("x a%20b%2F%22c%C3%A4%2Bdeeeeeeee y", f"x {json.dumps(odd)[1:-1]} y", f"x {odd} y"):
        assert many.clean(text) == f"x {mask(odd)} y"
    assert many.clean("secret-000007") == mask("secret-000007")
    for length in range(1980, 2060):
        short = many.short("m" * length + "secret-000007" + "m" * 5000, 512)
        assert len(short) <= 512
        assert "secret-0" not in short


def test_a_flood_of_names_is_not_remembered_for_ever() -> None:
    """Every call may name another tool."""
    redactor = Redactor([SECRET])
    for number in range(10_000):
        redactor.encoded(f"tool-{number}", 64)
    assert len(redactor._encoded) <= 4096
