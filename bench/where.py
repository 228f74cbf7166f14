"""Where each microsecond of a call goes: the gateway is looked at with perf while it works, and what its core does is
sorted by what it is for.

Each sample is a stack. What counts is the innermost function of Moongate in it, and whether the kernel was at work for
it; frames of the interpreter and of libraries belong to whoever called them.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from bench.processes import pause

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from bench.lanes import Lane
    from bench.load import Wrk
    from bench.plan import Scenario

_HERTZ = 2_000
_FRAME = re.compile(r"\s+[0-9a-f]+ (\S+?)(?:\+0x[0-9a-f]+)? \(")
_OURS = re.compile(r"CPyDef_([a-z_]+?)___")
_SYSTEM = ("entry_SYSCALL", "do_syscall")
_OTHER = "the rest: interpreter, memory, clock"
_LOOP = "event loop (uvloop, libuv)"
_KERNEL = {
    "client": "kernel: sending the request to the backend",
    "answering": "kernel: sending the answer to the client",
    "journal": "kernel: writing records",
    "uv__read": "kernel: reading request and answer",
    "uv__io_poll": "kernel: waiting for events",
}
_KERNEL_OTHER = "kernel: anything else"
_PARTS = {
    "HTTP with the client": ("server", "receiving", "answering", "messages", "bodies"),
    "HTTP with the backend": ("client", "alike", "http"),
    "reading the message and its answer": ("jsonrpc", "methods", "revisions"),
    "access rules": ("access", "acl", "facts", "arguments", "checks", "simple", "listing", "asks"),
    "record, journal, counters": ("record", "redact", "journal", "telemetry"),
    "the request path: admission, session, headers": ("handle", "admit", "call", "answer", "exchange", "forward"),
}
_PART_OF = {module: part for part, modules in _PARTS.items() for module in modules}


def measure(wrk: Wrk, lane: Lane, scenario: Scenario) -> list[tuple[str, float]]:
    """Give what a call is spent on, in microseconds of processor time, most first; empty without perf or stacks."""
    perf = shutil.which("perf")
    if perf is None or lane.pid is None:
        return []
    with tempfile.TemporaryDirectory(prefix="moongate-perf-") as directory:
        data = Path(directory, "perf.data")
        watching = threading.Thread(target=_record, args=(perf, lane.pid, data, scenario.seconds))
        watching.start()
        result = wrk.take_turns(scenario, (lane,))
        watching.join()
        if not data.exists():
            return []
        command = [perf, "script", "-i", str(data), "-F", "ip,sym,dso"]
        script = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False).stdout
    found = Counter(_purpose(stack) for stack in _stacks(script.splitlines()))
    sample = result.samples[lane.name][0]
    total = found.total()
    if not total or not any(name in _PARTS for name in found):  # not compiled: the stacks do not say
        return []
    per_call = sample.cpu / sample.calls * 1e6
    return [(name, count / total * per_call) for name, count in found.most_common()]


def _record(perf: str, pid: int, data: Path, seconds: float) -> None:
    """Watch for the middle of a round: before it, sessions are opened and everything is warmed up."""
    pause(min(2.0, seconds / 3))
    options = ["-q", "-e", "cpu-clock", "-F", str(_HERTZ), "--call-graph", "dwarf,4096", "-p", str(pid)]
    command = [perf, "record", *options, "-o", str(data), "--", "sleep", f"{seconds / 2:.1f}"]
    began = time.monotonic()
    done = subprocess.run(command, capture_output=True, check=False, timeout=seconds + 60)
    if done.returncode and time.monotonic() - began < seconds / 2:  # perf may not be allowed here
        data.unlink(missing_ok=True)


def _stacks(lines: Iterable[str]) -> Iterator[list[str]]:
    """Give the names of the functions of each sample, innermost first."""
    stack: list[str] = []
    for line in [*lines, ""]:
        if not line.strip():
            if stack:
                yield stack
            stack = []
        elif (frame := _FRAME.match(line)) is not None:
            stack.append(frame[1])


def _purpose(stack: list[str]) -> str:
    ours = next((found[1] for name in stack if (found := _OURS.match(name))), None)
    if any(name.startswith(_SYSTEM) for name in stack):
        who = ours if ours in _KERNEL else next((name for name in stack if name in _KERNEL), "")
        return _KERNEL.get(who or "", _KERNEL_OTHER)
    if ours is not None:
        return _PART_OF.get(ours, _OTHER)
    return _LOOP if any("uvloop" in name or name.startswith("uv_") for name in stack) else _OTHER
