"""A changed configuration takes effect on the next request and disturbs nothing that is in flight."""

from __future__ import annotations

import asyncio
import json
import socket
from pathlib import Path

import pytest

from moongate.control.compile import CompileOptions, compile_documents
from moongate.control.files import load_texts
from moongate.control.publish import Publisher
from moongate.errors import StartError
from moongate.model.snapshot import Snapshot
from moongate.testing import Backend, Exchange, Gateway, gateway
from tests.proxy.talk import (
    call,
    config,
    connected,
    event,
    log_lines,
    modern_call,
    pair,
    polite,
    result,
    run,
    settled,
    until,
)


def compiled(text: str) -> Snapshot:
    """As `gateway` compiles."""
    return compile_documents(load_texts([("test.yaml", text)], {}), CompileOptions(host="127.0.0.1", port=0))


async def apply(gate: Gateway, text: str) -> None:
    """Put a configuration into force."""
    await gate.runtime.apply(compiled(text))


@pytest.mark.requirement("PM-15", "AG-06")
def test_a_header_value_holds_from_the_next_request_on() -> None:
    """On the same client connection, back and forth, for values and names."""

    async def story() -> None:
        async with pair(polite, headers={"Authorization": "Bearer one"}) as (gate, backend), connected(gate) as client:
            for value in ("two", "three", "one"):
                assert (await client.ask(call())).status == 200
                await apply(gate, config(backend.url, headers={"Authorization": f"Bearer {value}"}))
                assert (await client.ask(call())).status == 200
                assert backend.seen[-1].fields["authorization"] == f"Bearer {value}"
            await apply(gate, config(backend.url))
            assert (await client.ask(call())).status == 200
            assert "authorization" not in backend.seen[-1].fields

    run(story())


@pytest.mark.requirement("AG-06")
def test_calls_in_flight_are_not_disturbed() -> None:
    """A call that waits and one in mid-upload outlive reloads of their instance, and its end; event streams outlive the
    reloads.
    """

    async def story() -> None:
        going = asyncio.Event()
        waiting: list[str] = []

        async def script(exchange: Exchange) -> None:
            kind = exchange.seen.fields.get("user-agent", "")
            waiting.append(kind)
            if kind in {"stream", "get"}:
                await exchange.stream()
                await exchange.chunk(event(b'{"jsonrpc":"2.0","method":"notifications/x"}'))
            if kind:
                await going.wait()
            if kind in {"stream", "get"}:
                await exchange.chunk(event(result()))
                await exchange.close_stream()
            else:
                await exchange.answer(result())

        async with (
            pair(script) as (gate, backend),
            connected(gate) as plain,
            connected(gate) as stream,
            connected(gate) as get,
            connected(gate) as upload,
            connected(gate) as other,
        ):
            await plain.send(modern_call()[0], {**modern_call()[1], "user-agent": "plain"})
            await stream.send(call(), {"user-agent": "stream"})
            await get.send(None, {"user-agent": "get"}, method="GET")
            body = call()
            await upload.send(body[:9], {"content-length": str(len(body))})
            heads = [await stream.head(), await get.head()]
            await until(lambda: len(waiting) == 3)
            await apply(gate, config("http://127.0.0.1:9/elsewhere", timeout=100))
            assert gate.runtime.plane.streams.counts["one"] == 2
            await apply(gate, config("http://127.0.0.1:9/elsewhere", headers={"x-a": "b"}))
            await apply(gate, json.dumps({"mcpServers": {"two": {"url": backend.url, "type": "streamable-http"}}}))
            assert (await other.ask(call())).status == 404
            assert (await other.ask(call(), path="/mcp/two")).status == 200
            assert b"notifications/x" in (await get.body(heads[1])).body
            assert b'"class":"denied"' in (await stream.body(heads[0])).body
            going.set()
            await upload.write(body[9:])
            assert (await plain.answer()).body == result()
            assert (await upload.answer()).body == result()

    run(story())


def test_reloads_leak_nothing() -> None:
    """A hundred reloads under calls: no connection to the backend, no task is left over."""

    async def story() -> None:
        before = asyncio.all_tasks()
        async with pair(polite) as (gate, backend):
            async with connected(gate) as client:
                for number in range(100):
                    await apply(gate, config(backend.url, headers={"x-n": str(number)}))
                    assert (await client.ask(call())).status == 200
            gate.runtime.plane.plan.close()
            await settled(gate, backend)
        assert asyncio.all_tasks() == before

    run(story())


@pytest.mark.parametrize(
    "broken",
    ["mcpServers: {one: {url: 'ftp://x'}}", "{", "gateway: {tokens: [{name: a}]}\nmcpServers: {}", "unknown: 1"],
)
@pytest.mark.requirement("AG-06")
def test_a_broken_file_keeps_the_old_configuration(broken: str, tmp_path: Path) -> None:
    """It says why, with the file's name; a right one afterwards takes effect."""

    async def story() -> None:
        file = tmp_path / "gate.yaml"
        async with Backend(polite) as backend, gateway(config(backend.url)) as gate, connected(gate) as client:

            def build() -> Snapshot:
                return compile_documents(
                    load_texts([("gate.yaml", file.read_text())], {}), CompileOptions(host="127.0.0.1", port=0)
                )

            publisher = Publisher([file], build, gate.runtime.apply, gate.runtime.refresh)
            file.write_text(broken)
            with log_lines() as log:
                assert not await publisher.publish()
            assert "gate.yaml" in log.getvalue()
            assert "the old one stays" in log.getvalue()
            assert (await client.ask(call())).status == 200
            file.write_text(config(backend.url, headers={"x-n": "new"}))
            assert await publisher.publish()
            assert (await client.ask(call())).status == 200
            assert backend.seen[-1].fields["x-n"] == "new"

    run(story())


def free_port() -> int:
    """A port that nobody has."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def binds(url: str, *ports: int) -> str:
    """One listener for each port."""
    route = {
        "name": "one",
        "matches": [{"path": {"pathPrefix": "/mcp/one"}}],
        "backends": [{"mcp": {"targets": [{"name": "t", "mcp": {"host": url}}]}}],
    }
    return json.dumps({"binds": [{"port": port, "listeners": [{"routes": [route]}]} for port in ports]})


@pytest.mark.requirement("AG-06")
def test_ports_come_and_go() -> None:
    """A new port is opened, a removed one refuses; one that is taken leaves everything as it was."""

    async def story() -> None:
        first, second, taken = free_port(), free_port(), free_port()
        with socket.create_server(("127.0.0.1", taken)):
            async with Backend(polite) as backend, gateway(binds(backend.url, first), port=None) as gate:
                await apply_binds(gate, binds(backend.url, first, second))
                for port in (first, second):
                    async with connected(port) as client:
                        assert (await client.ask(call())).status == 200
                with pytest.raises(StartError, match=str(taken)):
                    await apply_binds(gate, binds(backend.url, second, taken))
                for port in (first, second):
                    async with connected(port) as client:
                        assert (await client.ask(call())).status == 200
                await apply_binds(gate, binds(backend.url, second))
                with pytest.raises(ConnectionRefusedError):
                    async with connected(first):
                        pass
                async with connected(second) as client:
                    assert (await client.ask(call())).status == 200

    run(story())


async def apply_binds(gate: Gateway, text: str) -> None:
    """Put a configuration with its own ports into force."""
    await gate.runtime.apply(compile_documents(load_texts([("test.yaml", text)], {}), CompileOptions(host="127.0.0.1")))
