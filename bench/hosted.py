"""Servers that speak stdio: Moongate beside `mcp-proxy` (Python) and `supergateway` (Node.js), all with the same child.

`mcp-proxy` gives one child to all sessions, `supergateway` (stateful) one to each; Moongate does both. What is not
installed is not measured, and the report says so.
"""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from bench.lanes import Door, Lane
from bench.processes import BenchError, Child, free_port, tool

if TYPE_CHECKING:
    from bench.gateway import Setup
    from bench.load import Result, Spread, Wrk
    from bench.plan import Answer, Scenario

MOONGATE, PROXY, SUPERGATEWAY = "moongate", "mcp-proxy", "supergateway"
PEERS = (PROXY, SUPERGATEWAY)
_ROOT = Path(__file__).parents[1]
_PROXY = _ROOT / ".venv-bench" / "bin" / "mcp-proxy"
_SUPERGATEWAY = _ROOT / "bench" / "node" / "node_modules" / "supergateway" / "dist" / "index.js"
_NODE = Path(sys.executable).with_name("node")
_DOORS = (Door("/mcp"),)


@dataclass(slots=True)
class Found:
    """The results, and why a lane is missing from them."""

    results: list[Result] = field(default_factory=list)
    absent: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def result(self, answer: Answer, connections: int) -> Result | None:
        """Find a scenario's result."""
        wanted = (answer, connections)
        return next((one for one in self.results if (one.scenario.answer, one.scenario.connections) == wanted), None)

    def rate(self, answer: Answer, connections: int, lane: str) -> Spread | None:
        """Give the calls per second of a lane."""
        result = self.result(answer, connections)
        return result.spread(lane, lambda sample: sample.rate) if result else None

    def better_peer(self, answer: Answer, connections: int) -> str | None:
        """Name the peer that made more calls per second; None if there is none at all."""
        rates = {peer: self.rate(answer, connections, peer) for peer in PEERS}
        measured = {peer: rate.median for peer, rate in rates.items() if rate}
        return max(measured, key=lambda peer: measured[peer]) if measured else None

    def times(self, answer: Answer, connections: int, peer: str) -> Spread | None:
        """Divide Moongate's calls per second by a peer's, round by round."""
        result = self.result(answer, connections)
        return result.ratio(MOONGATE, peer) if result else None


@dataclass(frozen=True, slots=True)
class Hosting:
    """Who hosts the child on `setup.core`; the child runs on `child_core`, beside the load generator."""

    setup: Setup
    wrk: Wrk
    child_core: int

    @property
    def child(self) -> list[str]:
        """Give the command that everybody hosts."""
        return [tool("taskset"), "-c", str(self.child_core), sys.executable, "-S", "-m", "bench.stdio_stub"]

    def measure(self, scenario: Scenario, found: Found) -> Result:
        """Run a scenario on every lane that there is; each has its processes for this scenario only."""
        name = f"hosted-{scenario.answer.location}-{scenario.connections}"
        with contextlib.ExitStack() as stack:
            gateway = self.setup.start(name, self.setup.hosted(self.child))
            stack.enter_context(gateway.child).wait_for_port(gateway.port)
            lanes = [gateway.lane(MOONGATE, announced=True)]
            for peer, start in ((PROXY, self._proxy), (SUPERGATEWAY, self._supergateway)):
                try:
                    lanes.append(start(gateway.home, stack))
                except BenchError as reason:
                    found.absent[peer] = str(reason)
            result = self.wrk.take_turns(scenario, lanes)
            gateway.child.check()
            if failures := gateway.failures():
                found.problems.append(f"{name}: {failures} calls failed inside the gateway")
        found.results.append(result)
        return result

    def _proxy(self, home: Path, stack: contextlib.ExitStack) -> Lane:
        _must_exist(_PROXY)
        port = free_port()
        argv = [str(_PROXY), "--port", str(port), "--pass-environment", "--log-level", "ERROR", "--", *self.child]
        return self._started(PROXY, argv, port, home, stack)

    def _supergateway(self, home: Path, stack: contextlib.ExitStack) -> Lane:
        _must_exist(_SUPERGATEWAY)
        _must_exist(_NODE)
        port = free_port()
        argv = [_node(), str(_SUPERGATEWAY), "--stdio", " ".join(self.child), "--port", str(port)]
        argv += ["--outputTransport", "streamableHttp", "--stateful", "--logLevel", "none"]
        return self._started(SUPERGATEWAY, argv, port, home, stack)

    def _started(self, name: str, argv: list[str], port: int, home: Path, stack: contextlib.ExitStack) -> Lane:
        child = stack.enter_context(Child(argv, self.setup.core, home / f"{name}.log"))
        child.wait_for_port(port)
        return Lane(name, port, pid=child.pid, doors=_DOORS, exact=False, announced=True)


def _must_exist(program: Path) -> None:
    if not program.exists():
        raise BenchError(f"{program.relative_to(_ROOT)} is not there; scripts/bootstrap.sh bench installs it")


def _node() -> str:
    """Give the real node; the one beside Python is a script that starts it."""
    return subprocess.run([_NODE, "-p", "process.execPath"], capture_output=True, text=True, check=True).stdout.strip()


def versions() -> list[str]:
    """Give the peers with their pinned versions, and those that are not installed as such."""
    pinned = re.search(r"^mcp-proxy==(.+)$", (_ROOT / "constraints-bench.txt").read_text("utf-8"), re.MULTILINE)
    package = json.loads((_ROOT / "bench" / "node" / "package.json").read_text("utf-8"))
    known = {PROXY: pinned[1] if pinned else "", SUPERGATEWAY: package["dependencies"][SUPERGATEWAY]}
    places = {PROXY: _PROXY, SUPERGATEWAY: _SUPERGATEWAY}
    return [f"{name} {known[name]}" if places[name].exists() else f"{name} (not installed)" for name in PEERS]
