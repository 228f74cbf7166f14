"""A gateway in small: hosts trees of every kind, prints their pids as JSON, and waits to be killed."""

from __future__ import annotations

import asyncio
import json
import os
import sys

import uvloop

from moongate.upstreams.processes import Processes
from tests.upstreams.hosted import PUPPET, Ear, open_puppet


async def main() -> None:
    """Two trees; one of them is stubborn."""
    processes = Processes()
    pids = []
    for how in ("same", "session", "double", "stubborn"):
        ear = Ear()
        channel = await open_puppet(processes, ear)
        pids += [channel.process.pid, (await ear.ask(channel, do="start", how=how))["pid"]]
    sys.stdout.write(json.dumps({"pids": pids, "watcher": processes.watcher_pid, "me": os.getpid()}) + "\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


if __name__ == "__main__":
    assert PUPPET.exists()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
