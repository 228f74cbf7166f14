"""The class of each failure is in its record, apart from all others, and is said in words."""

from __future__ import annotations

import asyncio
import json
import socket
from typing import Any

import pytest

from moongate.audit.filters import FAILED, REFUSED, Filter
from moongate.audit.meanings import MEANINGS
from moongate.errors import FailureClass
from moongate.testing import Exchange, Gateway, Script
from tests.audit.trail import line, trail
from tests.databases import Database
from tests.proxy.talk import call, connected, error, last_record, pair, polite, records, result, run, until


def closed_port() -> int:
    """One on which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


async def resets(exchange: Exchange) -> None:
    """Gone in the middle of the answer."""
    exchange.reset()


async def silent(exchange: Exchange) -> None:
    """Never answers."""
    await exchange.gone()


async def chatters(exchange: Exchange) -> None:
    """Neither JSON nor an event stream."""
    await exchange.answer(b"hello", headers={"content-type": "text/plain"})


async def fails(exchange: Exchange) -> None:
    """An error status."""
    await exchange.answer(b"{}", status="500 Internal Server Error")


async def errs(exchange: Exchange) -> None:
    """A JSON-RPC error."""
    await exchange.answer(error())


async def complains(exchange: Exchange) -> None:
    """A tool that says it failed."""
    await exchange.answer(result(1, content=[], isError=True))


async def no_tls(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Speaks plain HTTP to who expects TLS."""
    writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    writer.close()


NETWORK: dict[str, tuple[Script, dict[str, Any], int]] = {
    "upstream_dns": (polite, {"url": "http://nowhere.invalid/mcp"}, 502),
    "upstream_connect": (polite, {"url": f"http://127.0.0.1:{closed_port()}/mcp"}, 502),
    "upstream_tls": (polite, {}, 502),
    "upstream_reset": (resets, {}, 502),
    "upstream_timeout": (silent, {"timeout": 200}, 504),
    "upstream_protocol": (chatters, {}, 502),
    "upstream_http": (fails, {}, 500),
    "jsonrpc_error": (errs, {}, 200),
    "tool_error": (complains, {}, 200),
}


@pytest.mark.requirement("PM-48", "PM-49", "PM-50")
@pytest.mark.parametrize("failure", NETWORK)
def test_each_way_a_backend_fails_has_its_class(failure: str) -> None:
    """In the record, with the status that the client got; its own answers carry the call's id."""
    script, entry, status = NETWORK[failure]

    async def story() -> None:
        if failure == "upstream_tls":
            plain = await asyncio.start_server(no_tls, "127.0.0.1", 0)
            port = plain.sockets[0].getsockname()[1]
            async with plain, pair(script, url=f"https://127.0.0.1:{port}/mcp") as (gate, _):
                await asked(gate)
        else:
            async with pair(script, **entry) as (gate, _):
                await asked(gate)

    async def asked(gate: Gateway) -> None:
        async with connected(gate) as client:
            answer = await client.ask(call(7 if status >= 500 else 1))
            record = await last_record(gate)
            assert (record["failure"], record["status"], answer.status) == (failure, status, status)
            if status >= 500:
                assert answer.message["id"] == 7
                assert answer.message["error"]["data"]["requestId"] == record["requestId"]
            else:
                assert record["method"] == "tools/call"

    run(story())


@pytest.mark.requirement("PM-49")
def test_a_client_that_goes_away_is_recorded_as_such() -> None:
    """Its call was cut off by nobody else."""

    async def story() -> None:
        async with pair(silent) as (gate, backend):
            async with connected(gate) as client:
                await client.send(call())
                await until(lambda: bool(backend.seen))
                client.vanish()
            await gate.runtime.stop()
            assert [record["failure"] for record in records(gate)] == ["client_closed"]

    run(story())


@pytest.mark.requirement("PM-49", "PM-47")
def test_every_class_is_found_and_said_in_words(database: Database) -> None:
    """By its name, and as refused or failed; a sentence on what it is, and one on what to do."""

    async def story() -> None:
        async with trail(database) as found:
            classes = list(FailureClass)
            found.write(line(number, failure=failure.value) for number, failure in enumerate(classes))
            found.write([line(len(classes))])
            await found.moved()
            for number, failure in enumerate(classes):
                assert await found.numbers(Filter(outcome=failure.value)) == [number]
            refused = await found.numbers(Filter(outcome="refused"))
            failed = await found.numbers(Filter(outcome="failed"))
            assert [classes[number] for number in refused] == list(REFUSED)
            assert sorted(classes[number] for number in failed) == sorted(FAILED)
            assert await found.numbers(Filter(outcome="ok")) == [len(classes)]

    run(story())
    assert all(meaning.what.endswith(".") and meaning.do for meaning in MEANINGS.values())
    assert json.dumps(sorted(MEANINGS)) == json.dumps(sorted(FailureClass))
