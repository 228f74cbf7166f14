"""A server that does what each message says, one JSON object a line: `{"do": NAME, ...}`. Only the standard library."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any

SLEEPER = "import signal\nwhile True: signal.pause()"
STUBBORN = "import os, signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nos.write(9, b'.')\n" + SLEEPER
PHOENIX = """
import os, signal, sys
def reborn(*_):
    if os.fork():
        os._exit(0)
    os.setsid()
signal.signal(signal.SIGTERM, reborn)
os.write(9, b".")
"""


def say(**message: object) -> None:
    """Write one message."""
    write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")


def write(data: bytes) -> None:
    """Write raw bytes."""
    view = memoryview(data)
    while view:
        view = view[os.write(1, view) :]


def show(_: dict[str, Any]) -> None:
    """Everything that it was given."""
    names = {"memory": resource.RLIMIT_DATA, "open_files": resource.RLIMIT_NOFILE, "cpu": resource.RLIMIT_CPU}
    say(
        argv=sys.argv[1:],
        env=dict(os.environ),
        cwd=os.getcwd(),  # noqa: PTH109 - started bare and often: pathlib is slow
        fds=sorted(int(fd) for fd in os.listdir("/proc/self/fd"))[:-1],  # noqa: PTH208 - see above
        pid=os.getpid(),
        group=os.getpgrp(),
        session=os.getsid(0),
        ignored=[number for number in signal.valid_signals() if signal.getsignal(number) == signal.SIG_IGN],
        blocked=[int(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, [])],
        limits={name: resource.getrlimit(kind)[0] for name, kind in names.items()},
    )


def start(message: dict[str, Any]) -> None:
    """A grandchild, started in the way that `how` says; its pid is the answer."""
    how = message["how"]
    env: dict[str, str] | None = {} if how == "clean" else None
    if how in {"double", "clean"}:
        inner, outer = os.pipe()
        pid = os.fork()
        if pid == 0:
            sleeper = subprocess.Popen([sys.executable, "-S", "-c", SLEEPER], start_new_session=True, env=env)
            os.write(outer, str(sleeper.pid).encode())
            os._exit(0)
        os.waitpid(pid, 0)
        say(pid=int(os.read(inner, 100)))
    else:
        inner, outer = os.pipe()
        os.dup2(outer, 9)
        code = {"stubborn": STUBBORN, "phoenix": PHOENIX + SLEEPER}.get(how, SLEEPER)
        argv = [sys.executable, "-S", "-c", code]
        grandchild = subprocess.Popen(argv, start_new_session=how == "session", pass_fds=[9])
        if how in {"stubborn", "phoenix"}:
            os.read(inner, 1)  # it ignores SIGTERM from now on, or is reborn by it
        say(pid=grandchild.pid)


def stubborn(_: dict[str, Any]) -> None:
    """From now on neither SIGTERM nor the end of stdin impresses it."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    say(stubborn=True)
    while sys.stdin.buffer.readline():
        pass
    while True:
        signal.pause()


def complain(message: dict[str, Any]) -> None:
    """Fill stderr."""
    for number in range(message.get("lines", 1)):
        sys.stderr.write(message["text"].replace("#", str(number)))
    sys.stderr.flush()
    say(complained=True)


def leave(message: dict[str, Any]) -> None:
    """End, by exit code or signal, after some last words."""
    write(message.get("last", "").encode())
    if "signal" in message:
        os.kill(os.getpid(), message["signal"])
    os._exit(message.get("code", 0))


def open_many(_: dict[str, Any]) -> None:
    """As many files as it may."""
    opened: list[int] = []
    try:
        while len(opened) < 10_000:
            opened.append(os.open("/dev/null", os.O_RDONLY))
    except OSError as error:
        say(opened=len(opened), errno=error.errno)
    for fd in opened:
        os.close(fd)


def burn(_: dict[str, Any]) -> None:
    """Processor time, for ever."""
    while True:
        pass


def shut(message: dict[str, Any]) -> None:
    """Close a pipe and live on."""
    os.close(message["fd"])
    while True:
        signal.pause()


DEEDS: dict[str, Callable[[dict[str, Any]], None]] = {
    "show": show,
    "start": start,
    "stubborn": stubborn,
    "complain": complain,
    "leave": leave,
    "open_many": open_many,
    "burn": burn,
    "shut": shut,
    "write": lambda message: write(message["text"].encode("latin-1")),
    "big": lambda message: say(big="x" * message["size"]),
    "size": lambda message: say(size=len(message["text"])),
    "echo": lambda message: say(**message),
    "wait": lambda _: signal.pause(),
}


if __name__ == "__main__":
    for line in sys.stdin.buffer:
        request = json.loads(line)
        DEEDS[request["do"]](request)
