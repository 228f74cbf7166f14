"""Moongate as it is measured: tokens checked, session ids sealed, every call recorded. Nothing is switched off."""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench import payloads, plan
from bench.lanes import Door, Lane
from bench.processes import HOST, Child, free_port

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

PREFIX = "/mcp/"
_PAGE = "http://localhost:6274"
_SPREAD = 32
"""Over so many routes or tokens the calls of the scale test are spread."""


@dataclass(frozen=True, slots=True)
class Setup:
    """One gateway: a directory of its own, its core, and the ports of the servers behind it."""

    directory: Path
    core: int
    fixed: int
    streams: int

    def ordinary(self) -> dict[str, object]:
        """One instance per kind of answer, one token that may call them all."""
        servers = {answer.location: self._server(answer.location) for answer in plan.ANSWERS}
        servers["streams"] = {**self._server(""), "url": f"http://{HOST}:{self.streams}/streams"}
        return _config(servers, [_token("bench", payloads.TOKEN, sorted(servers))])

    def single(self) -> dict[str, object]:
        """One route, one token: what the scale test compares with."""
        return _config({"small": self._server("small")}, [_token("bench", payloads.TOKEN, ["small"])])

    def browser(self) -> tuple[dict[str, object], tuple[Door, ...]]:
        """One route with CORS, CSRF and a rate limit that nobody reaches; called from a page."""
        policies = {
            "cors": {"preset": "mcp", "allowOrigins": [_PAGE]},
            "csrf": {"additionalOrigins": [_PAGE]},
            "localRateLimit": [{"maxTokens": 1_000_000_000, "tokensPerFill": 1_000_000_000, "fillInterval": "1s"}],
        }
        config = _config({"small": {**self._server("small"), **policies}}, [_token("bench", payloads.TOKEN, ["small"])])
        return config, (Door(f"{PREFIX}small", origin=_PAGE),)

    def access(self) -> dict[str, object]:
        """One route with 20 access rules, of which 2 look at arguments; the call passes them all."""
        allowed = [{"allow": [f"tool:get_{number}_*"], "groups": [f"group-{number}"]} for number in range(8)]
        denied = [{"deny": [f"tool:delete_{number}*"], "sources": [f"10.{number}.0.0/16"]} for number in range(8)]
        when = 'method == "tools/call" && tool == "get_forecast" && arguments.days > '
        rules = [
            *allowed,
            *denied,
            {"allow": ["tool:get_*"], "users": ["bench"]},
            {"deny": True, "when": 'method == "tools/call" && tool == "pay" && principal.name != "bench"'},
            *({"deny": True, "when": f"{when}{days}"} for days in (100, 200)),
        ]
        server = {**self._server("small"), "access": {"rules": rules}}
        return _config({"small": server}, [_token("bench", payloads.TOKEN, ["small"])])

    def many_routes(self, count: int) -> tuple[dict[str, object], tuple[Door, ...]]:
        """So many instances, and the doors to some that are evenly spread over them."""
        names = [f"route-{number:05}" for number in range(count)]
        config = _config(dict.fromkeys(names, self._server("small")), [_token("bench", payloads.TOKEN, names)])
        return config, tuple(Door(PREFIX + name) for name in _spread(names))

    def many_tokens(self, count: int) -> tuple[dict[str, object], tuple[Door, ...]]:
        """One instance that so many tokens may call, and doors with some of the tokens."""
        names = [f"{payloads.TOKEN}-{number:05}" for number in range(count)]
        config = _config({"small": self._server("small")}, [_token(name, name, ["small"]) for name in names])
        return config, tuple(Door(f"{PREFIX}small", name) for name in _spread(names))

    def hosted(self, child: Sequence[str]) -> dict[str, object]:
        """One instance whose child all sessions share, one with a child for each."""
        command = {"command": child[0], "args": list(child[1:]), "auth": "required"}
        servers: dict[str, dict[str, object]] = {
            plan.SHARED.location: {**command, "isolation": "shared"},
            plan.EACH.location: {**command, "isolation": "session"},
        }
        return _config(servers, [_token("bench", payloads.TOKEN, sorted(servers))])

    def relay(self) -> dict[str, object]:
        """The event stub over both transports."""
        base = f"http://{HOST}:{self.streams}"
        servers = {name: {**self._server(""), "url": f"{base}/{name}"} for name in ("streams", "answer")}
        servers["sse"] = {"url": f"{base}/sse", "type": "sse", "auth": "required"}
        return _config(servers, [_token("bench", payloads.TOKEN, sorted(servers))])

    def start(self, name: str, config: dict[str, object]) -> Gateway:
        """Start it; the caller waits for its port and ends it."""
        home = self.directory / name
        home.mkdir()
        file, port = home / "gateway.json", free_port()
        file.write_text(json.dumps(config, indent=1), encoding="ascii")
        argv = [sys.executable, "-m", "moongate", "serve", "--no-console", "-f", str(file), "--port", str(port)]
        child = Child([*argv, "--data-dir", str(home / "data")], self.core, home / "output.log")
        return Gateway(child, port, home)

    def _server(self, location: str) -> dict[str, object]:
        return {"url": f"http://{HOST}:{self.fixed}/{location}", "type": "streamable-http", "auth": "required"}


@dataclass(frozen=True, slots=True)
class Gateway:
    """A running gateway."""

    child: Child
    port: int
    home: Path

    def lane(self, name: str, doors: tuple[Door, ...] = (), *, announced: bool = False) -> Lane:
        """Give the lane through it."""
        return Lane(name, self.port, PREFIX, self.child.pid, doors, announced=announced)

    def failures(self) -> int:
        """Count the records of calls that failed, in all that it has recorded. The load generator may hang up."""
        journals = (self.home / "data" / "journal").iterdir()
        lines = (line for journal in journals for line in journal.open("rb"))
        return sum(b'"failure":' in line and b'"failure":"client_closed"' not in line for line in lines)

    def recorded_bytes(self) -> int:
        """Count what it has written down: its data directory and its output."""
        files = [self.child.log, *(self.home / "data").rglob("*")]
        return sum(file.stat().st_size for file in files if file.is_file())


def _config(servers: dict[str, dict[str, object]], tokens: list[dict[str, object]]) -> dict[str, object]:
    return {"gateway": {"prefix": PREFIX.rstrip("/"), "tokens": tokens}, "mcpServers": servers}


def _token(name: str, token: str, instances: list[str]) -> dict[str, object]:
    return {"name": name, "sha256": hashlib.sha256(token.encode()).hexdigest(), "instances": instances}


def _spread(names: list[str]) -> list[str]:
    return names[:: max(1, len(names) // _SPREAD)][:_SPREAD]
