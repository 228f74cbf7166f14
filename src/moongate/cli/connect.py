"""`moongate connect`: the stdio door to a server, for clients that can only start a process."""

from __future__ import annotations

import asyncio
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import uvloop

from moongate.connecting import Connection, read_destination
from moongate.control.line import Line
from moongate.errors import ConfigError, StartError
from moongate.runtime import log_to_stderr

OK, USAGE, CANNOT_START = 0, 2, 3
STDIN, STDOUT = 0, 1


@dataclass(frozen=True, slots=True)
class ConnectOptions:
    """What the command line says."""

    line: Line
    ca: Path | None = None
    log_level: str = "info"


def connect(options: ConnectOptions) -> int:
    """Carry messages until the client closes its side or a signal comes; the exit code. Only messages go to stdout."""
    log_to_stderr(options.log_level)
    try:
        for descriptor in (STDIN, STDOUT):
            os.fstat(descriptor)
    except OSError:
        print("moongate connect speaks over standard input and output, and one of them is closed", file=sys.stderr)
        return USAGE
    try:
        destination = read_destination(options.line, None if options.ca is None else str(options.ca), os.environ)
        connection = Connection(destination, os.environ)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return USAGE
    except StartError as error:
        print(f"moongate cannot start: {error}", file=sys.stderr)
        return CANNOT_START
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(connection.run((STDIN, STDOUT)))
    return OK
