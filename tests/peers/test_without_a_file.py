"""The one-line start (`moongate serve -- COMMAND`, `moongate serve URL`) and `moongate connect URL`, for real peers."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.peers import crossings, pairs, programs
from tests.peers.crossings import CONNECT, SERVERS, SSE, STDIO, Crossing, connect_command, over_stdio
from tests.peers.observing import STREAMABLE_HTTP
from tests.peers.pairs import CLIENTS, target

pytestmark = [pytest.mark.peers, pytest.mark.timeout(120)]

KINDS = (STREAMABLE_HTTP, SSE)
REMOTE = [(client, server, kind) for kind in KINDS for server in SERVERS for client in CLIENTS]
LOCAL = [(client, server, STDIO) for server in SERVERS for client in CLIENTS]
CONNECTED = {
    ("sdk1", "ts", STREAMABLE_HTTP),
    ("sdk2-auto", "sdk2", STREAMABLE_HTTP),
    ("ts", "everything", SSE),
    ("sdk2-legacy", "sdk1", SSE),
}
SERVED = {("ts", "sdk2", STDIO), ("sdk1", "everything", STDIO), ("sdk2-legacy", "ts", SSE)}


@pytest.fixture(scope="module")
def addresses(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[tuple[str, str], str]]:
    """Servers that listen, by name and transport."""
    absent = programs.absent()
    if absent:
        pytest.fail(f"not installed: {', '.join(absent)}; `make test` installs what these tests talk to", pytrace=False)
    commands = {f"{name} {SSE}": crossings.command(name, SSE) for name in SERVERS}
    commands |= {f"{name} {STREAMABLE_HTTP}": pairs.with_node(pairs.SERVERS[name]) for name in SERVERS}
    with programs.running(commands, tmp_path_factory.mktemp("servers")) as started:
        yield {(name, kind): started[f"{name} {kind}"] for name in SERVERS for kind in KINDS}


def check(crossing: Crossing) -> None:
    """By every way the client observed what it observed directly."""
    direct = crossing.observed("direct")
    assert len(direct) > 15
    for way in crossing.documents:
        assert crossing.observed(way) == direct, way


def served(folder: Path, names: tuple[str, str, str], direct: dict[str, Any], *words: str) -> None:
    """Start a gateway with one server, go in by every address that it prints, and check what was observed."""
    argv = [sys.executable, "-m", "moongate", "serve", "--port", "0", "--data-dir", str(folder / "data"), *words]
    with programs.running({"gateway": argv}, folder) as started:
        gateway = started["gateway"].rstrip("/")
        ways = {
            "direct": direct,
            STREAMABLE_HTTP: target(f"{gateway}/mcp"),
            SSE: target(f"{gateway}/sse", transport=SSE),
            CONNECT: over_stdio(connect_command(f"{gateway}/mcp")),
        }
        check(crossings.cross(*names, ways))
    pairs.check_log((folder / "gateway.log").read_text())


def over(every: list[tuple[str, str, str]], essential: set[tuple[str, str, str]]) -> pytest.MarkDecorator:
    """Run a test for each of these; those that are not essential are long."""
    chosen = [
        pytest.param(names, id="-".join(names), marks=() if names in essential else pytest.mark.long) for names in every
    ]
    return pytest.mark.parametrize("names", chosen)


@over(REMOTE, CONNECTED)
def test_the_stdio_door_to_a_server(addresses: Mapping[tuple[str, str], str], names: tuple[str, str, str]) -> None:
    """A client that can only start a process reaches a server over the network as if it were local."""
    _, server, kind = names
    url = addresses[server, kind]
    ways = {"direct": target(url, transport=kind), CONNECT: over_stdio(connect_command(url))}
    check(crossings.cross(*names, ways))


@over(LOCAL, SERVED)
@pytest.mark.requirement("AG-10", "AG-13")
def test_a_command_is_served_at_once(tmp_path: Path, names: tuple[str, str, str]) -> None:
    """`moongate serve -- COMMAND ARGS...`: every door is open, and what was local is remote."""
    command = crossings.command(names[1], STDIO)
    served(tmp_path, names, over_stdio(command), "--", *command)


@over(REMOTE, SERVED)
@pytest.mark.requirement("PM-01")
def test_an_address_is_served_at_once(
    addresses: Mapping[tuple[str, str], str], tmp_path: Path, names: tuple[str, str, str]
) -> None:
    """`moongate serve URL`: the transport is found, every door is open."""
    _, server, kind = names
    url = addresses[server, kind]
    served(tmp_path, names, target(url, transport=kind), url)
