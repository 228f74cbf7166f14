"""`moongate serve`: run the gateway until a signal ends it."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import uvloop

from moongate.control.addresses import RouteAddress, route_addresses
from moongate.control.compile import LOOPBACK, CompileOptions
from moongate.control.line import Line
from moongate.control.source import Source
from moongate.errors import ConfigError, StartError
from moongate.runtime import Runtime, log_to_stderr

OK, USAGE, CANNOT_START = 0, 2, 3
DEFAULT_FILES = ("moongate.yaml", "moongate.yml", "moongate.json")
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
OPEN_UP = "Only this machine can connect. To let others in: --host 0.0.0.0 (or gateway.host), and gateway.tokens."
LINE_OPEN_UP = "Only this machine can connect. To let others in, write a file with gateway.host and gateway.tokens."
LINE_IS_OPEN = "Everyone who reaches this machine can call the server. To ask for tokens, write a file."


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """What the command line says. `files` empty: one of DEFAULT_FILES in the working directory, unless a `line` names
    a server.
    """

    files: tuple[Path, ...] = ()
    host: str | None = None
    port: int | None = None
    data_dir: Path | None = None
    log_level: str = "info"
    line: Line | None = None


def default_data_dir(environ: Mapping[str, str]) -> Path:
    """MOONGATE_DATA_DIR, else the user's data directory (XDG base directories)."""
    if named := environ.get("MOONGATE_DATA_DIR"):
        return Path(named)
    base = environ.get("XDG_DATA_HOME")
    return (Path(base) if base else Path.home() / ".local" / "share") / "moongate"


def serve(options: ServeOptions) -> int:
    """Serve until SIGTERM or SIGINT; the exit code."""
    log_to_stderr(options.log_level)
    files = options.files
    if options.line is None and not files:
        files = tuple(Path(name) for name in DEFAULT_FILES if Path(name).exists())[:1]
        if not files:
            print(NO_FILE, file=sys.stderr)
            return USAGE
    compiling = CompileOptions(host=options.host, port=options.port)
    data_dir = options.data_dir or default_data_dir(os.environ)
    source = Source(files, compiling, os.environ, options.line, data_dir)
    runtime = Runtime(data_dir)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(runtime.serve(source, lambda: _show_start(runtime, options.line)))
    except ConfigError as error:
        print(error, file=sys.stderr)
        return USAGE
    except StartError as error:
        print(f"moongate cannot start: {error}", file=sys.stderr)
        return CANNOT_START
    return OK


def _show_start(runtime: Runtime, line: Line | None) -> None:
    """What a person sees first: where it listens, what is there, who can reach it."""
    snapshot = runtime.snapshot
    for bind in snapshot.binds:
        opened = runtime.binds[bind.port]
        scheme = "http" if opened.certificates is None else "https"
        for host in opened.sockets:
            shown = f"[{host}]" if ":" in host else host
            print(f"Listening on {scheme}://{shown}:{opened.port}")
    addresses = route_addresses(snapshot, {port: bind.port for port, bind in runtime.binds.items()})
    if line is None:
        _show_routes(addresses)
    else:
        _show_line(addresses[0].url.rstrip("/"), line.name)
    if all(host in LOOPBACK for bind in snapshot.binds for host in bind.hosts):
        print(OPEN_UP if line is None else LINE_OPEN_UP)
    elif line is not None:
        print(LINE_IS_OPEN)
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
