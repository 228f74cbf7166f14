"""The servers, what each of them needs, what clients say to them, and one gateway that hosts them all."""

from __future__ import annotations

import http.server
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.peers import pairs, programs
from tests.peers.plan import Step, call

BIN = programs.ROOT / ".venv-servers" / "bin"
FILESYSTEM = programs.PACKAGES / "node_modules/@modelcontextprotocol/server-filesystem/dist/index.js"
PAGE = "<html><head><title>The Moon</title></head><body><article><h1>The Moon</h1><p>{}</p></article></body></html>"
SENTENCE = "It takes 27.3 days to go around the Earth. Луна 月. "
DATE = "2026-01-02T03:04:05+0000"


def absent() -> list[str]:
    """What these tests need and `make test` has not installed yet."""
    needed = [BIN / name for name in ("mcp-server-time", "mcp-server-git", "mcp-server-fetch")]
    missing = [str(path.relative_to(programs.ROOT)) for path in (*needed, FILESYSTEM) if not path.exists()]
    return [*missing, *programs.absent()]


class _Page(http.server.BaseHTTPRequestHandler):
    """One page for everybody, and no robots.txt."""

    def do_GET(self) -> None:
        found = self.path == "/moon"
        body = PAGE.format(SENTENCE * 40).encode() if found else b"nothing"
        self.send_response(200 if found else 404)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
        """Say nothing."""


class _Site(http.server.ThreadingHTTPServer):
    """All clients come at once, and none of them waits long."""

    request_queue_size = 128


@contextmanager
def website() -> Iterator[str]:
    """A web server with one page; yields its address."""
    with _Site(("127.0.0.1", 0), _Page) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def _git(repository: Path, *arguments: str) -> None:
    author = {"GIT_AUTHOR_NAME": "Ünal", "GIT_AUTHOR_EMAIL": "u@example.com", "GIT_AUTHOR_DATE": DATE}
    committer = {"GIT_COMMITTER_NAME": "Ünal", "GIT_COMMITTER_EMAIL": "u@example.com", "GIT_COMMITTER_DATE": DATE}
    plain = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    command = ["git", "-C", str(repository), *arguments]
    subprocess.run(command, env={**os.environ, **author, **committer, **plain}, check=True, capture_output=True)


def _repository(place: Path) -> Path:
    place.mkdir()
    _git(place, "init", "--initial-branch", "main")
    (place / "moon.txt").write_text("384 400 km\n")
    _git(place, "add", "moon.txt")
    _git(place, "commit", "-m", "Измерено 月")
    (place / "moon.txt").write_text("384 399 km\n")
    return place


@dataclass(frozen=True)
class Resident:
    """A server: how it is started, and what clients say to it."""

    command: list[str]
    plan: list[Step]


def residents(folder: Path, web: str) -> dict[str, Resident]:
    """All servers. What they may touch lies in `folder`."""
    repository, directory = _repository(folder / "repository"), folder / "files"
    # Nobody writes to the shelf: all ways are used at once, and one must not see what another is writing.
    shelf = directory / "shelf"
    shelf.mkdir(parents=True)
    (shelf / "tides.txt").write_text("12 h 25 min\n")
    (directory / "moon.txt").write_text("384 400 km — далеко\n")
    return {
        "time": Resident(
            [str(BIN / "mcp-server-time"), "--local-timezone", "Europe/Berlin"],
            [
                {"name": "tools", "op": "tools"},
                call("convert", "convert_time", source_timezone="Asia/Tokyo", time="12:00", target_timezone="UTC"),
                call("unknown zone", "get_current_time", timezone="Moon/Tycho"),
                {
                    "name": "many",
                    "op": "many",
                    "tool": "convert_time",
                    "args": [
                        {"source_timezone": "Asia/Tokyo", "time": f"{hour:02}:00", "target_timezone": "UTC"}
                        for hour in range(24)
                    ],
                },
            ],
        ),
        "git": Resident(
            [str(BIN / "mcp-server-git"), "--repository", str(repository)],
            [
                {"name": "tools", "op": "tools"},
                call("status", "git_status", repo_path=str(repository)),
                call("log", "git_log", repo_path=str(repository)),
                call("unstaged", "git_diff_unstaged", repo_path=str(repository)),
                call("elsewhere", "git_status", repo_path=str(folder)),
            ],
        ),
        "fetch": Resident(
            [str(BIN / "mcp-server-fetch"), "--allow-private-ips"],
            [
                {"name": "tools", "op": "tools"},
                {"name": "prompts", "op": "prompts"},
                call("page", "fetch", url=f"{web}/moon", max_length=500),
                call("raw", "fetch", url=f"{web}/moon", raw=True, max_length=20_000),
                call("missing", "fetch", url=f"{web}/mars"),
                {"name": "prompt", "op": "prompt", "prompt": "fetch", "args": {"url": f"{web}/moon"}},
            ],
        ),
        "filesystem": Resident(
            [programs.node(), str(FILESYSTEM), str(directory)],
            [
                {"name": "tools", "op": "tools"},
                call("read", "read_text_file", path=str(directory / "moon.txt")),
                call("write", "write_file", path=str(directory / "new.txt"), content="Луна\n" * 20_000),
                call("long", "read_text_file", path=str(directory / "new.txt")),
                call("outside", "read_text_file", path=str(folder / "gateway.json")),
                call("tree", "directory_tree", path=str(shelf)),
            ],
        ),
    }


class Household:
    """All servers behind one gateway. Each client talks to each server once; what it printed is kept."""

    def __init__(self, servers: dict[str, Resident], gateway: str) -> None:
        self.servers = servers
        self.gateway = gateway
        self._told: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}

    def told(self, client: str, server: str) -> dict[str, dict[str, Any]]:
        """What a client observed, directly and by each door."""
        if (client, server) not in self._told:
            base, resident = f"{self.gateway}/mcp/{server}", self.servers[server]
            connect = [sys.executable, "-m", "moongate", "connect", base]
            ways = {
                "direct": over_stdio(resident.command),
                "streamable-http": pairs.target(base),
                "sse": pairs.target(f"{base}/sse", transport="sse"),
                "connect": over_stdio(connect),
            }
            documents = pairs.talk(client, list(ways.values()), [resident.plan] * len(ways), together=True)
            self._told[client, server] = dict(zip(ways, documents, strict=True))
        return self._told[client, server]


def over_stdio(argv: list[str]) -> dict[str, Any]:
    """A program to start and to talk to, as the client scripts want it."""
    return {"transport": "stdio", "command": argv, "headers": {}}


@contextmanager
def serving(folder: Path, file: Path, *options: str) -> Iterator[str]:
    """A gateway with this file; yields its address. Its log must not show that anything went wrong inside."""
    argv = [sys.executable, "-m", "moongate", "serve", "--no-console", "-f", str(file), *(options or ("--port", "0"))]
    with programs.running({"gateway": [*argv, "--data-dir", str(folder / "data")]}, folder) as started:
        yield started["gateway"].rstrip("/")
    pairs.check_log((folder / "gateway.log").read_text())


@contextmanager
def opened(folder: Path) -> Iterator[Household]:
    """Start everything, and end it."""
    with website() as web:
        servers = residents(folder, web)
        entries = {
            name: {"command": resident.command[0], "args": resident.command[1:]} for name, resident in servers.items()
        }
        file = folder / "gateway.json"
        file.write_text(json.dumps({"mcpServers": entries}))
        with serving(folder, file) as address:
            yield Household(servers, address)
