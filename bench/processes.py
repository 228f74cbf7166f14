"""Processes of the benchmark: started pinned to a core, watched through /proc, ended by their own id."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

HOST = "127.0.0.1"
_TICKS = os.sysconf("SC_CLK_TCK")


class BenchError(Exception):
    """The benchmark cannot go on: a tool is missing, or something it started did not come up."""


def tool(name: str) -> str:
    """Give the path of a program; Debian keeps nginx where users do not look."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    if found is None:
        raise BenchError(f"{name} was not found; on Debian: apt-get install {name}")
    return found


def cores() -> tuple[int, int]:
    """Choose two cores, one for the gateway, one for load and stub: not two threads of one core, if that can be."""
    usable = sorted(os.sched_getaffinity(0))
    first, others = usable[0], usable[1:]
    if not others:
        raise BenchError("two CPU cores are needed (one for the gateway, one for load and stub), found one")
    listed = Path(f"/sys/devices/system/cpu/cpu{first}/topology/thread_siblings_list")
    siblings = listed.read_text(encoding="ascii").replace("-", ",").strip().split(",") if listed.exists() else []
    return first, next((core for core in others if str(core) not in siblings), others[0])


def free_port() -> int:
    """Give a loopback port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


class Child:
    """One process, pinned to `core`, its output in `log`. Leaving the `with` block ends it."""

    def __init__(self, argv: Sequence[str], core: int, log: Path, env: Mapping[str, str] | None = None) -> None:
        """Start it; `env` is added to this process's environment."""
        self.name = Path(argv[0]).name if "-m" not in argv else argv[argv.index("-m") + 1]
        self.log = log
        with log.open("ab") as output:
            # taskset replaces itself, so the id is the program's own
            self._process = subprocess.Popen(
                [tool("taskset"), "-c", str(core), *argv],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(env or {})},
            )
        self.pid = self._process.pid

    def __enter__(self) -> Self:
        """Give itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        """Ask it to end; after ten seconds, end it."""
        if self._process.poll() is not None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def check(self) -> None:
        """Raise when it has ended by itself, with the end of what it wrote."""
        code = self._process.poll()
        if code is not None:
            raise BenchError(self._story(f"ended with {code}"))

    def wait_for_port(self, port: int, seconds: float = 60.0) -> None:
        """Return as soon as something accepts on `port`."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.check()
            if accepts(port):
                return
            pause(0.001)
        raise BenchError(self._story(f"did not listen on {port} within {seconds:.0f} s"))

    def wait_for_worker(self, seconds: float = 10.0) -> int:
        """Give the id of its first child, as soon as there is one: nginx listens before it has a worker."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.check()
            if found := workers(self.pid):
                return found[0]
            pause(0.001)
        raise BenchError(self._story(f"had no worker within {seconds:.0f} s"))

    def _story(self, what: str) -> str:
        tail = self.log.read_text(encoding="utf-8", errors="replace")[-2000:]
        return f"{self.name} {what}; it wrote:\n{tail}"


def pause(seconds: float) -> None:
    """Wait; this process has nothing else to do."""
    time.sleep(seconds)  # noqa: TID251 - no loop runs here, and what is awaited gives no sign of its own


def accepts(port: int) -> bool:
    """Tell whether something accepts connections on `port`."""
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0


def workers(pid: int) -> tuple[int, ...]:
    """Give the children of a process."""
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
    return tuple(int(child) for child in listed.split())


def cpu_seconds(pid: int) -> float:
    """Give the processor time that a process has used, in user and kernel mode."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def memory(pid: int) -> tuple[int, int]:
    """Give resident (RSS) and proportional (PSS) memory of a process in bytes."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()[1:]
    sizes = {name: int(rest.split()[0]) * 1024 for name, _, rest in (line.partition(":") for line in rollup)}
    return sizes["Rss"], sizes["Pss"]
