"""The example that `make run` starts: what it prints is what works."""

from __future__ import annotations

import json
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from moongate.control.compile import compile_documents
from moongate.control.files import load
from moongate.model.snapshot import Command
from tests.docs.pages import ROOT
from tests.runtime.test_serve import environment

LIMIT = 30.0
LAST = "Ctrl-C ends everything."


def _collect(stream: IO[str], lines: queue.Queue[str]) -> None:
    for line in stream:
        lines.put(line.rstrip("\n"))


@contextmanager
def example() -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """`make run` on a free port, and what it has printed when it is ready."""
    command = [sys.executable, "scripts/run_example.py", "--port", "0"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        lines: queue.Queue[str] = queue.Queue()
        reader = threading.Thread(target=_collect, args=(process.stdout, lines))
        reader.start()
        said: list[str] = []
        try:
            while not said or LAST not in said[-1]:
                said.append(lines.get(timeout=LIMIT))
            yield process, said
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(LIMIT)
            reader.join()


def runs(pid: int, folder: Path) -> bool:
    """Whether a process is there and has this working directory."""
    try:
        return Path(f"/proc/{pid}/cwd").readlink() == folder
    except OSError:
        return False


def descendants(pid: int) -> list[int]:
    """The processes below one."""
    children = [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split()]
    return children + [below for child in children for below in descendants(child)]


def test_the_configuration_runs_the_server_beside_it() -> None:
    """Without warnings, and without anything else that must be started or set."""
    snapshot = compile_documents(load([ROOT / "examples" / "moongate.yaml"], {}))
    [route] = snapshot.binds[0].listeners[0].routes

    assert snapshot.warnings == ()
    assert isinstance(route.target, Command)
    assert (ROOT / "examples" / route.target.argv[1]).is_file()


def test_the_line_that_it_prints_calls_a_tool() -> None:
    """The gateway alone is started; it starts the server with the first call, and ends it with itself."""
    with example() as (process, said):
        call = next(line for line in said if line.startswith(("curl", "python3")))
        answer = subprocess.run(
            ["/bin/sh", "-c", call], capture_output=True, text=True, timeout=LIMIT, check=True, env=environment()
        )

        assert json.loads(answer.stdout)["result"]["structuredContent"] == {"result": 42}
        running = [pid for pid in descendants(process.pid) if runs(pid, ROOT / "examples")]
        assert running

    assert process.returncode == 0
    assert not any(runs(pid, ROOT / "examples") for pid in running)
