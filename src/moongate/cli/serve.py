"""`moongate serve`: run the gateway until a signal ends it."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import uvloop

from moongate.cli.places import DEFAULT_FILES, default_data_dir, default_files
from moongate.companion import Console
from moongate.control.addresses import RouteAddress, route_addresses
from moongate.control.claim import claim
from moongate.control.compile import DEFAULT_PORT, LOOPBACK, CompileOptions
from moongate.control.line import Line
from moongate.control.published import NAME
from moongate.control.source import Source
from moongate.errors import ConfigError, StartError
from moongate.runtime import Runtime, Second, log_to_stderr

log = logging.getLogger("moongate")

OK, USAGE, CANNOT_START = 0, 2, 3
NO_FILE = f"""nothing to serve. One server needs no file:

  moongate serve -- uvx mcp-server-time
  moongate serve https://example.com/mcp --header 'Authorization: Bearer ${{TOKEN}}'

Several servers stand in a file: give it with -f FILE, or put {DEFAULT_FILES[0]} here. A small one:

mcpServers:
  time:
    command: uvx
    args: [mcp-server-time]
  search:
    url: http://127.0.0.1:9000/mcp"""
BEGIN = f"""There is no server yet. To begin, do one of these:
  write {DEFAULT_FILES[0]} here, with mcpServers as every MCP client has them, and start again
  moongate instance create (see --help), or the API of the console below
  or, for one server without all that: moongate serve -- uvx mcp-server-time"""
OPEN_UP = "Only this machine can connect. To let others in: --host 0.0.0.0 (or gateway.host), and gateway.tokens."
LINE_OPEN_UP = "Only this machine can connect. To let others in, write a file with gateway.host and gateway.tokens."
LINE_IS_OPEN = "Everyone who reaches this machine can call the server. To ask for tokens, write a file."


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """What the command line says. `files` empty: one of DEFAULT_FILES in the working directory, or only what the store
    holds, unless a `line` names a server. `console`: with the platform process, where there is no `line`.
    """

    files: tuple[Path, ...] = ()
    host: str | None = None
    port: int | None = None
    data_dir: Path | None = None
    log_level: str = "info"
    line: Line | None = None
    console: bool = True


def serve(options: ServeOptions) -> int:
    """Serve until SIGTERM or SIGINT; the exit code."""
    log_to_stderr(options.log_level)
    files = options.files
    if options.line is None and not files:
        files = default_files()
    data_dir = options.data_dir or default_data_dir(os.environ)
    if options.line is None and not files and not options.console and not (data_dir / NAME).exists():
        print(NO_FILE, file=sys.stderr)
        return USAGE
    compiling = CompileOptions(host=options.host, port=options.port)
    second = Second(options.log_level, _show_console) if options.console and options.line is None else None
    try:
        data_dir = _claimed(data_dir, options)
        source = Source(files, compiling, os.environ, options.line, data_dir)
        runtime = Runtime(data_dir)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(runtime.serve(source, lambda: _show_start(runtime, source), second))
    except ConfigError as error:
        print(error, file=sys.stderr)
        return USAGE
    except StartError as error:
        print(f"moongate cannot start: {error}", file=sys.stderr)
        return CANNOT_START
    return OK


def _claimed(data_dir: Path, options: ServeOptions) -> Path:
    """The directory that this process works in. Of several servers without a file the first takes the usual one, each
    other one a directory below it. Raises StartError.
    """
    try:
        claim(data_dir)
    except StartError:
        if options.line is None or options.data_dir is not None:
            raise
        data_dir = data_dir / f"port-{DEFAULT_PORT if options.port is None else options.port}"
        claim(data_dir)
        log.info("another gateway uses %s; records of this one are in %s", data_dir.parent, data_dir)
    return data_dir


def _show_start(runtime: Runtime, source: Source) -> None:
    """What a person sees first: where it listens, what is there, who can reach it."""
    snapshot, line = runtime.snapshot, source.line
    for bind in snapshot.binds:
        opened = runtime.binds[bind.port]
        scheme = "http" if opened.certificates is None else "https"
        for host in opened.sockets:
            shown = f"[{host}]" if ":" in host else host
            print(f"Listening on {scheme}://{shown}:{opened.port}")
    addresses = route_addresses(snapshot, {port: bind.port for port, bind in runtime.binds.items()})
    if line is None:
        _show_routes(addresses)
        if not addresses and not source.paths:
            print(BEGIN)
    else:
        _show_line(addresses[0].url.rstrip("/"), line.name)
    if all(host in LOOPBACK for bind in snapshot.binds for host in bind.hosts):
        print(OPEN_UP if line is None else LINE_OPEN_UP)
    elif line is not None:
        print(LINE_IS_OPEN)
    sys.stdout.flush()


def _show_console(console: Console) -> None:
    """Where the platform process answers, and how the first operator gets in."""
    print(f"Console on {console.address}")
    if console.link is not None:
        print(f"  There is no account yet. This link makes the first one; it works once:\n  {console.link}")
    sys.stdout.flush()


def _show_routes(addresses: Sequence[RouteAddress]) -> None:
    width = max((len(address.route.name) for address in addresses), default=0)
    for address in addresses:
        door = "token needed" if address.route.auth else "open"
        print(f"  {address.route.name:{width}}  {address.url}  ({door})")


def _show_line(base: str, name: str) -> None:
    """One server: its address, and what a client's configuration says about it."""
    url = f"{base}/mcp"
    snippet = json.dumps({"mcpServers": {name: {"type": "streamable-http", "url": url}}}, indent=2)
    print(f"\nThe address for MCP clients:\n  {url}\n(for older ones, over HTTP+SSE: {base}/sse)")
    print(f"\nFor the configuration of a client:\n{snippet}")
    print(f"\nFor Claude Code:\n  {shlex.join(['claude', 'mcp', 'add', '--transport', 'http', name, url])}\n")
