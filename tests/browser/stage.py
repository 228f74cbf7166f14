"""What stands behind the pages: a server on the official SDK, two gateways, and the sites of other origins."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.browser import pages
from tests.browser.relay import Relay, relay
from tests.peers import pairs, programs

HERE = Path(__file__).parent
PREFIX = "/gate/mcp"
TOKEN = "alice-token"
FRIEND = "http://friend.test"
STRANGER = "http://stranger.test"
REBOUND = "http://rebound.test"
ARTICLE = "http://your-host:3101/mcp/home-assistant"
ARTICLE_PAGE = "http://your-web-ui-host-origin"
ARTICLE_TARGET = "http://192.168.1.68:8123/api/mcp"


@dataclass(frozen=True, slots=True)
class Stage:
    """Addresses. `names` is what the names mean in Chromium, `stranger` is the site of the page that nobody knows.

    `rebound` is what REBOUND means just now; `watched` lies before the server of the instance `watched` and counts.
    """

    gateway: str
    names: Mapping[str, str]
    script: Path
    stranger: str
    rebound: Relay
    watched: Relay
    folder: Path

    def instance(self, name: str, door: str = "") -> str:
        """An instance's address at the gateway."""
        return f"{self.gateway}{PREFIX}/{name}{door}"

    def log(self, name: str) -> list[str]:
        """What a gateway (`gateway`, `article`) has told its operator so far."""
        return (self.folder / f"{name}.log").read_text("utf-8").splitlines()

    def refusals(self, name: str) -> list[str]:
        """The same, of refusals only."""
        return [line for line in self.log(name) if " refused by " in line]


def configuration(server: str, watched: str) -> dict[str, Any]:
    """Instances with and without a `cors` block, open and locked."""
    preset = {"preset": "mcp", "allowOrigins": [FRIEND]}
    entry = {"type": "streamable-http", "url": server, "auth": "off"}
    return {
        "gateway": {"prefix": PREFIX, "tokens": [{"name": "alice", "token": TOKEN}]},
        "mcpServers": {
            "closed": entry,
            "watched": {**entry, "url": watched},
            "open": {**entry, "cors": preset},
            "locked": {**entry, "auth": "required", "cors": preset},
            "cookies": {**entry, "cors": {**preset, "allowCredentials": True}},
            "anybody": {**entry, "cors": {"preset": "mcp", "allowOrigins": ["*"]}},
        },
    }


def article(server: str) -> str:
    """The article's file as it was printed, with a server that exists."""
    text = (HERE / "article.yaml").read_text("utf-8")
    assert text.count(ARTICLE_TARGET) == 1
    return text.replace(ARTICLE_TARGET, server)


def authority(url: str) -> str:
    """Host and port of an address."""
    return url.partition("://")[2].partition("/")[0]


@contextmanager
def opened(folder: Path) -> Iterator[Stage]:
    """Start all of it, and end it."""
    script = pages.bundle(folder)
    with ExitStack() as stack:
        servers = stack.enter_context(programs.running({"ts": pairs.with_node(pairs.SERVERS["ts"])}, folder))
        server = servers["ts"]
        watched = stack.enter_context(relay(authority(server)))
        files = {
            "gateway": json.dumps(configuration(server, server.replace(authority(server), watched.address)), indent=2),
            "article": article(server),
        }
        gateways = stack.enter_context(programs.running(_commands(files, folder), folder))
        friend, stranger = (stack.enter_context(pages.site(script)) for _ in range(2))
        rebound = stack.enter_context(relay(stranger))
        names = {
            authority(FRIEND): friend,
            authority(STRANGER): stranger,
            authority(REBOUND): rebound.address,
            f"{authority(ARTICLE_PAGE)}:80": friend,
            authority(ARTICLE): authority(gateways["article"]),
        }
        yield Stage(gateways["gateway"].rstrip("/"), names, script, stranger, rebound, watched, folder)
    for name in files:
        pairs.check_log((folder / f"{name}.log").read_text("utf-8"))


def _commands(files: Mapping[str, str], folder: Path) -> dict[str, list[str]]:
    commands = {}
    for name, text in files.items():
        file = folder / f"{name}.yaml"
        file.write_text(text, "utf-8")
        serve = [sys.executable, "-m", "moongate", "serve", "--no-console", "-f", str(file)]
        commands[name] = [*serve, "--host", "127.0.0.1", "--port", "0", "--data-dir", str(folder / f"{name}-data")]
    return commands
