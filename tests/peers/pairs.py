"""Which client speaks with which server, over which ways, and what each pair observed."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.peers import plan, programs
from tests.peers.observing import STREAMABLE_HTTP

PREFIX = "/gate/mcp"
TOKEN = "alice-token"
BASIC = "Basic YW55Ym9keTphbGljZS10b2tlbg=="  # anybody:alice-token
MODERN = "2026-07-28"
LEGACY = "2025-11-25"
TALK_SECONDS = 50.0
WAYS = ("direct", "open", "locked")

_PYTHON = sys.executable
_NODE = "node"  # replaced by its path when it is started
CLIENTS: dict[str, list[str]] = {
    "sdk1": [str(programs.SDK1), "-m", "tests.peers.client_sdk1"],
    "sdk2-legacy": [_PYTHON, "-m", "tests.peers.client_sdk2", "legacy"],
    "sdk2-auto": [_PYTHON, "-m", "tests.peers.client_sdk2", "auto"],
    "ts": [_NODE, str(programs.PEERS / "client_ts.mjs")],
}
SERVERS: dict[str, list[str]] = {
    "sdk1": [str(programs.SDK1), "-m", "tests.peers.server_sdk1"],
    "sdk2": [_PYTHON, "-m", "tests.peers.server_sdk2"],
    "sdk2-json": [_PYTHON, "-m", "tests.peers.server_sdk2", "--json"],
    "ts": [_NODE, str(programs.PEERS / "server_ts.mjs")],
    "everything": [
        _NODE,
        "--import",
        (programs.PEERS / "announce.mjs").as_uri(),
        str(programs.EVERYTHING),
        "streamableHttp",
    ],
}
# Each client shows its token in another of the four ways.
CREDENTIALS: dict[str, dict[str, str]] = {
    "sdk1": {"Authorization": f"bearer {TOKEN}"},
    "sdk2-legacy": {"Authorization": BASIC},
    "sdk2-auto": {"X-API-Key": TOKEN},
    "ts": {"api-key": TOKEN},
}


def backend_token(server: str) -> str:
    """The credential that only the gateway has."""
    return f"Bearer backend-token-of-{server}"


@dataclass(frozen=True)
class Pair:
    """One client with one server: `documents` holds what the client printed, by way (see `observing`)."""

    client: str
    server: str
    server_address: str
    documents: Mapping[str, dict[str, Any]]

    @property
    def modern(self) -> bool:
        """Whether these two speak the stateless revision with each other."""
        return is_modern(self.client, self.server)

    def steps(self, way: str) -> dict[str, dict[str, Any]]:
        """The observations over one way, by the names of the steps."""
        steps: dict[str, dict[str, Any]] = self.documents[way]["steps"]
        return steps

    def results(self, step: str) -> list[Any]:
        """The results of one step over all ways."""
        observations = [self.steps(way)[step] for way in WAYS]
        assert all("result" in observation for observation in observations), observations
        return [observation["result"] for observation in observations]

    def texts(self, step: str) -> list[Any]:
        """The first text of a tool's result, over all ways."""
        return [result["content"][0]["text"] for result in self.results(step)]

    def events(self, step: str, kind: str) -> list[list[Any]]:
        """What the server sent beside the answer, over all ways."""
        return [self.steps(way)[step]["events"][kind] for way in WAYS]


def is_modern(client: str, server: str) -> bool:
    """Only one of the clients and one of the servers know the stateless revision."""
    return client == "sdk2-auto" and server.startswith("sdk2")


def plan_of(client: str, server: str, way: str) -> list[plan.Step]:
    """What this client says to this server."""
    if server == "everything":
        return plan.everything()
    kind = plan.Kind(modern=is_modern(client, server), streams=server != "sdk2-json")
    return plan.own_server(f"{client} {way}", kind)


class Park:
    """All servers, and one gateway in front of them. Each pair talks once; the observations are kept."""

    def __init__(self, servers: Mapping[str, str], gateway: str) -> None:
        self.servers = servers
        self.gateway = gateway
        self._pairs: dict[tuple[str, str], Pair] = {}

    def pair(self, client: str, server: str) -> Pair:
        """What this pair observed."""
        if (client, server) not in self._pairs:
            self._pairs[client, server] = self._talk(client, server)
        return self._pairs[client, server]

    def _talk(self, client: str, server: str) -> Pair:
        below = f"{self.gateway}{PREFIX}"
        targets = [
            target(self.servers[server]),
            target(f"{below}/{server}-open"),
            target(f"{below}/{server}/v1/stream", CREDENTIALS[client]),
        ]
        told = talk(client, targets, [plan_of(client, server, way) for way in WAYS])
        failed = [document["failed"] for document in told if "failed" in document]
        assert not failed, f"{client} with {server}:\n{failed[0]}"
        return Pair(client, server, self.servers[server], dict(zip(WAYS, told, strict=True)))


def target(url: str, headers: Mapping[str, str] | None = None, transport: str = STREAMABLE_HTTP) -> dict[str, Any]:
    """Whom to talk to, as the client scripts want it."""
    return {"transport": transport, "url": url, "headers": headers or {}}


def talk(
    client: str, targets: list[dict[str, Any]], plans: list[list[plan.Step]], *, together: bool = False
) -> list[dict[str, Any]]:
    """Have a client talk to each target, or to all at once; what it printed (see `observing`)."""
    done = _run(CLIENTS[client], json.dumps({"targets": targets, "plans": plans, "together": together}))
    assert done.returncode == 0, f"{client} with {targets}:\n{done.stderr}"
    documents: list[dict[str, Any]] = json.loads(done.stdout)
    return documents


def _run(command: Sequence[str], orders: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            with_node(command),
            cwd=programs.ROOT,
            env=programs.environment(),
            input=orders,
            capture_output=True,
            text=True,
            timeout=TALK_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as late:
        raise AssertionError(f"{command[-2:]}: no report within {TALK_SECONDS:g} s; stderr: {late.stderr!r}") from None


def with_node(command: Sequence[str]) -> list[str]:
    """The command with node's place in it."""
    return [programs.node() if word == _NODE else word for word in command]


def configuration(servers: Mapping[str, str]) -> str:
    """The gateway's file: each server is there twice, for everybody and for those with a token."""
    entries: dict[str, dict[str, Any]] = {}
    for name, url in servers.items():
        entry = {"type": "streamable-http", "url": url, "headers": {"Authorization": backend_token(name)}}
        entries[name] = {**entry, "auth": "required"}
        entries[f"{name}-open"] = {**entry, "auth": "off"}
    gateway = {"prefix": PREFIX, "tokens": [{"name": "alice", "token": TOKEN}]}
    return json.dumps({"gateway": gateway, "mcpServers": entries}, indent=2)


def check_log(log: str) -> None:
    """Nothing went wrong inside the gateway, and it wrote down no secret."""
    assert "Traceback" not in log, log
    assert " ERROR " not in log, log
    for secret in (TOKEN, BASIC.split()[1], "backend-token"):
        assert secret not in log, log


@contextmanager
def opened(folder: Path) -> Iterator[Park]:
    """Start the servers and the gateway, and end them."""
    commands = {name: with_node(command) for name, command in SERVERS.items()}
    with programs.running(commands, folder) as servers:
        file = folder / "gateway.json"
        file.write_text(configuration(servers))
        command = [_PYTHON, "-m", "moongate", "serve", "--no-console", "-f", str(file), "--port", "0"]
        command += ["--data-dir", str(folder / "data")]
        with programs.running({"gateway": command}, folder) as started:
            yield Park(servers, started["gateway"].rstrip("/"))
        check_log((folder / "gateway.log").read_text())
