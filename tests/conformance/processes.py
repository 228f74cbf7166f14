"""Programs that the tests start: found ready by a line that they print, ended by their own process id."""

from __future__ import annotations

import json
import os
import queue
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).parents[2]
_START = 30
_END = 10


class NotReady(Exception):
    """The program ended, or said nothing in time; the text holds what it printed."""


def environment() -> dict[str, str]:
    """This process's environment without proxies: all servers here are on this machine."""
    return {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}


def _read(stream: IO[str], lines: queue.Queue[str | None]) -> None:
    """Pass every line on, so that the program never waits for somebody to read; None is the end."""
    for line in stream:
        lines.put(line)
    lines.put(None)


def _await(pattern: str, lines: queue.Queue[str | None], command: Sequence[str], errors: Path) -> re.Match[str]:
    deadline = time.monotonic() + _START
    said: list[str] = []
    while True:
        try:
            line = lines.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            line = None
        if line is None:
            printed = "".join(said) + errors.read_text()
            raise NotReady(
                f"{' '.join(command)}: waited {_START} s or to its end for {pattern!r}. It printed:\n{printed}"
            )
        said.append(line)
        found = re.search(pattern, line)
        if found is not None:
            return found


@contextmanager
def started(command: Sequence[str], pattern: str, errors: Path) -> Iterator[re.Match[str]]:
    """Run `command` until the block ends. Begins when a line on its stdout matches `pattern`; yields the match.

    What it writes to stderr goes to the file `errors`.
    """
    with (
        errors.open("w") as stderr,
        subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        ) as process,
    ):
        assert process.stdout is not None
        lines: queue.Queue[str | None] = queue.Queue()
        reader = threading.Thread(target=_read, args=(process.stdout, lines))
        reader.start()
        try:
            yield _await(pattern, lines, command, errors)
        finally:
            process.terminate()
            try:
                process.wait(_END)
            except subprocess.TimeoutExpired:
                process.kill()
            reader.join()


def fixture_command(transport: str) -> list[str]:
    """How the server under test is started; `transport` is http, sse or stdio."""
    return [sys.executable, "-m", "tests.conformance.everything", "--transport", transport]


@contextmanager
def everything(folder: Path, transport: str = "http") -> Iterator[str]:
    """The server under test; yields its address."""
    with started(fixture_command(transport), r"^ready (\S+)$", folder / f"everything-{transport}.log") as ready:
        yield ready[1]


def instances(http: str, sse: str) -> dict[str, dict[str, Any]]:
    """The server under test three times, by the transport that it speaks. The gateway starts the one on stdio."""
    program, *arguments = fixture_command("stdio")
    return {
        "http": {"url": http, "type": "streamable-http"},
        "stdio": {"command": program, "args": arguments},
        "sse": {"url": sse, "type": "sse"},
    }


@contextmanager
def gateway(folder: Path, servers: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """A gateway in front of `servers` (entries of its file by name); yields the address below which they are."""
    config = folder / "gateway.json"
    config.write_text(json.dumps({"mcpServers": servers}))
    command = [sys.executable, "-m", "moongate", "serve", "--no-console", "-f", str(config), "--port", "0"]
    command += ["--data-dir", str(folder / "data")]
    with started(command, r"Listening on http://[^ ]*:(\d+)", folder / "gateway.log") as listening:
        # The suite checks the names that it is called by, and wants to call localhost.
        yield f"http://localhost:{listening[1]}/mcp"
