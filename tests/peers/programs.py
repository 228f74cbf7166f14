"""Finds the interpreters and packages that the peers need; starts programs, waits until they listen, ends them."""

from __future__ import annotations

import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import IO

ROOT = Path(__file__).parents[2]
NODE = Path(sys.executable).with_name("node")
SDK1 = ROOT / ".venv-sdk1" / "bin" / "python"
PACKAGES = ROOT / "tests" / "node"
EVERYTHING = PACKAGES / "node_modules/@modelcontextprotocol/server-everything/dist/index.js"
PEERS = Path(__file__).parent
START_SECONDS = 20.0
END_SECONDS = 5.0


class NotListening(Exception):
    """A program ended, or did not say in time where it listens; the text holds what it printed."""


def absent() -> list[str]:
    """What the peers need and `make test` has not installed yet."""
    missing = [str(path.relative_to(ROOT)) for path in (SDK1, EVERYTHING) if not path.exists()]
    return missing if NODE.exists() else [*missing, f"node (beside {sys.executable})"]


@cache
def node() -> str:
    """The real node. The one beside Python is a script that starts it, and signals sent to the script stay there."""
    found = subprocess.run([NODE, "-p", "process.execPath"], capture_output=True, text=True, timeout=30, check=True)
    return found.stdout.strip()


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment without proxies (all peers are on this machine), and where the Node packages are."""
    own = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    return {**own, "PEER_MODULES": str(PACKAGES), **(extra or {})}


def _read(stream: IO[str], lines: queue.Queue[str | None]) -> None:
    """Pass every line on, so that the program never waits for somebody to read; None is the end."""
    for line in stream:
        lines.put(line)
    lines.put(None)


class Program:
    """A started program."""

    def __init__(self, command: Sequence[str], log: Path, extra: Mapping[str, str] | None = None) -> None:
        self.command = command
        self.log = log
        with log.open("w") as errors:
            self.process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=environment(extra),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._reader = threading.Thread(target=_read, args=(self.process.stdout, self._lines), daemon=True)
        self._reader.start()

    def address(self) -> str:
        """What stands behind `Listening on` in its output. Raises NotListening."""
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                line = self._lines.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                line = None
            if line is None:
                said = f"no address within {START_SECONDS:g} s, but:\n{self.log.read_text()}"
                raise NotListening(f"{' '.join(self.command)}: {said}")
            if line.startswith("Listening on "):
                return line.split()[2]

    def end(self) -> None:
        """Ask it to end, insist after a while."""
        self.process.terminate()
        try:
            self.process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(END_SECONDS)
        self._reader.join(END_SECONDS)
        assert not self._reader.is_alive(), f"{self.command} has left a process behind"
        if self.process.stdout is not None:
            self.process.stdout.close()


@contextmanager
def running(commands: Mapping[str, Sequence[str]], folder: Path) -> Iterator[dict[str, str]]:
    """Run several programs at once until the block ends; yields their addresses by name. `PORT` is 0 for all."""
    programs: dict[str, Program] = {}
    try:
        for name, command in commands.items():
            programs[name] = Program(command, folder / f"{name}.log", {"PORT": "0"})
        yield {name: program.address() for name, program in programs.items()}
    finally:
        for program in programs.values():
            program.end()
