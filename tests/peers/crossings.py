"""Which client reaches which server over which transport, by which door, and what was observed.

A pair of `pairs` speaks streamable HTTP on both sides. Here the server speaks stdio (the gateway hosts it) or HTTP+SSE,
and the client comes by any door: streamable HTTP, HTTP+SSE, or the stdio of `moongate connect`. What counts is that the
client observes the same as when it talks to the server directly, over the server's own transport.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.peers import pairs, plan, programs
from tests.peers.observing import STREAMABLE_HTTP
from tests.peers.pairs import CLIENTS, MODERN, target, with_node

SSE, STDIO, CONNECT = "sse", "stdio", "connect"
DOORS = (STREAMABLE_HTTP, SSE, CONNECT)
SERVERS = ("sdk1", "sdk2", "ts", "everything")
TRANSPORTS = (STDIO, SSE)
TOGETHER = ("shared", "principal")
"""Isolations in which clients share a child; without tokens all clients are one principal."""

_NODE_EVERYTHING = ["node", str(programs.EVERYTHING)]
_COMMANDS: dict[tuple[str, str], list[str]] = {
    **{(name, STDIO): [*pairs.SERVERS[name], "--stdio"] for name in ("sdk1", "sdk2", "ts")},
    **{(name, SSE): [*pairs.SERVERS[name], "--sse"] for name in ("sdk1", "sdk2", "ts")},
    ("everything", STDIO): [*_NODE_EVERYTHING, "stdio"],
    ("everything", SSE): [*pairs.SERVERS["everything"][:-1], "sse"],
}
# What the gateway adds of its own to a server that answers an unknown session: it does not belong to the comparison.
_NOT_COMPARED = {"seen", "lost", "unknown session"}


def command(server: str, transport: str) -> list[str]:
    """How a server is started."""
    return with_node(_COMMANDS[server, transport])


def connect_command(url: str, *options: str) -> list[str]:
    """The stdio door to an address."""
    return [sys.executable, "-m", "moongate", "connect", url, *options]


@dataclass(frozen=True)
class Crossing:
    """One client with one server: what the client printed, by `direct` and by door."""

    client: str
    server: str
    transport: str
    documents: Mapping[str, dict[str, Any]]

    @property
    def modern(self) -> bool:
        """Whether they speak the stateless revision with each other when nothing is between them."""
        return bool(self.document("direct")["connected"]["version"] == MODERN)

    def document(self, way: str) -> dict[str, Any]:
        """All that the client printed; its conversation must have come to its end."""
        document = self.documents[way]
        assert "failed" not in document, f"{self.client}, {self.server} over {self.transport}: {document['failed']}"
        return document

    def observed(self, way: str) -> dict[str, Any]:
        """What must be the same by every way, by step, with what was agreed on at the start."""
        document = self.document(way)
        steps = {name: seen for name, seen in document["steps"].items() if name not in _NOT_COMPARED}
        return {"connected": document["connected"], **steps}


def plan_of(client: str, server: str, transport: str, way: str) -> list[plan.Step]:
    """What this client says to this server."""
    if server == "everything":
        return plan.everything()
    kind = plan.Kind(
        modern=pairs.is_modern(client, server), requests=transport != STDIO, sessions=way == STREAMABLE_HTTP
    )
    return plan.own_server(f"{client} {way}", kind)


class Harbour:
    """Servers of all transports and one gateway. Each crossing is made once; what was observed is kept."""

    def __init__(self, addresses: Mapping[str, str], gateway: str) -> None:
        self.addresses = addresses
        self.gateway = gateway
        self._crossings: dict[tuple[str, str, str], Crossing] = {}

    def crossing(self, client: str, server: str, transport: str) -> Crossing:
        """What this client observed of this server, directly and by each door."""
        key = client, server, transport
        if key not in self._crossings:
            self._crossings[key] = self._cross(*key)
        return self._crossings[key]

    def instance(self, server: str, transport: str) -> str:
        """Where the gateway has it."""
        return f"{self.gateway}/mcp/{server}-{transport}"

    def _cross(self, client: str, server: str, transport: str) -> Crossing:
        base = self.instance(server, transport)
        targets = {
            "direct": self._direct(server, transport),
            STREAMABLE_HTTP: target(base),
            SSE: target(f"{base}/sse", transport=SSE),
            CONNECT: over_stdio(connect_command(base)),
        }
        return cross(client, server, transport, targets)

    def _direct(self, server: str, transport: str) -> dict[str, Any]:
        if transport == STDIO:
            return over_stdio(command(server, STDIO))
        return target(self.addresses[f"{server}-{SSE}"], transport=SSE)


def cross(client: str, server: str, transport: str, targets: Mapping[str, dict[str, Any]]) -> Crossing:
    """Have a client talk to a server by each of these ways; the first is the direct one."""
    plans = [plan_of(client, server, transport, way) for way in targets]
    # A server on stdio has one session. In the others all sessions share the tools that come and go. Clients without
    # sessions share a child, where nobody can tell whose a log message is while several call.
    alone = transport == STDIO and not pairs.is_modern(client, server)
    documents = pairs.talk(client, list(targets.values()), plans, together=alone)
    return Crossing(client, server, transport, dict(zip(targets, documents, strict=True)))


def over_stdio(argv: list[str]) -> dict[str, Any]:
    """A program to start and to talk to, as the client scripts want it."""
    return {"transport": STDIO, "command": argv, "headers": {}}


def configuration(addresses: Mapping[str, str]) -> str:
    """The gateway's file: all servers of both transports; those with only a `url` find theirs by themselves."""
    entries: dict[str, dict[str, Any]] = {}
    for name, url in addresses.items():
        entries[name] = {"type": "sse", "url": url}
        entries[name.replace(SSE, "auto")] = {"url": url}
    for server in SERVERS:
        program, *arguments = command(server, STDIO)
        hosted = {"command": program, "args": arguments, "env": {"PYTHONUNBUFFERED": "1"}}
        entries[f"{server}-{STDIO}"] = hosted
        entries |= {f"{server}-{isolation}": {**hosted, "isolation": isolation} for isolation in TOGETHER}
    return json.dumps({"mcpServers": entries}, indent=2)


@contextmanager
def opened(folder: Path) -> Iterator[Harbour]:
    """Start the SSE servers and the gateway, and end them. What speaks stdio is started by the gateway."""
    commands = {f"{server}-{SSE}": command(server, SSE) for server in SERVERS}
    with programs.running(commands, folder) as addresses:
        file = folder / "gateway.json"
        file.write_text(configuration(addresses))
        argv = [sys.executable, "-m", "moongate", "serve", "--no-console", "-f", str(file), "--port", "0"]
        with programs.running({"gateway": [*argv, "--data-dir", str(folder / "data")]}, folder) as started:
            yield Harbour(addresses, started["gateway"].rstrip("/"))
        pairs.check_log((folder / "gateway.log").read_text())


__all__ = ["CLIENTS", "DOORS", "SERVERS", "TRANSPORTS", "Crossing", "Harbour", "opened"]
