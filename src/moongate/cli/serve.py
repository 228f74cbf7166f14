"""`moongate serve`: run the gateway until a signal ends it."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import uvloop

from moongate.audit.redact import RedactingFormatter
from moongate.control.compile import CompileOptions, compile_documents
from moongate.control.files import load
from moongate.control.publish import Publisher
from moongate.errors import ConfigError, StartError
from moongate.model.snapshot import Snapshot
from moongate.runtime import Runtime

OK, USAGE, CANNOT_START = 0, 2, 3
DEFAULT_FILES = ("moongate.yaml", "moongate.yml", "moongate.json")

log = logging.getLogger("moongate")


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """What the command line says. `files` empty: one of DEFAULT_FILES in the working directory."""

    files: tuple[Path, ...] = ()
    host: str | None = None
    port: int | None = None
    data_dir: Path | None = None
    log_level: str = "info"


def default_data_dir(environ: Mapping[str, str]) -> Path:
    """MOONGATE_DATA_DIR, else the user's data directory (XDG base directories)."""
    if named := environ.get("MOONGATE_DATA_DIR"):
        return Path(named)
    base = environ.get("XDG_DATA_HOME")
    return (Path(base) if base else Path.home() / ".local" / "share") / "moongate"


def serve(options: ServeOptions) -> int:
    """Serve until SIGTERM or SIGINT; the exit code."""
    setup_logging(options.log_level)
    files = options.files or tuple(Path(name) for name in DEFAULT_FILES if Path(name).exists())[:1]
    if not files:
        print(
            f"no configuration: give one with -f FILE, or put {DEFAULT_FILES[0]} here. A small one:\n\n"
            "mcpServers:\n  time:\n    url: http://127.0.0.1:9000/mcp\n    type: streamable-http",
            file=sys.stderr,
        )
        return USAGE
    compile_options = CompileOptions(host=options.host, port=options.port)

    def build() -> Snapshot:
        return compile_documents(load(files, os.environ), compile_options)

    try:
        snapshot = build()
    except ConfigError as error:
        print(error, file=sys.stderr)
        return USAGE
    runtime = Runtime(options.data_dir or default_data_dir(os.environ))
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(runtime, snapshot, Publisher(files, build, runtime.apply, runtime.refresh), options))
    except StartError as error:
        print(f"moongate cannot start: {error}", file=sys.stderr)
        return CANNOT_START
    return OK


async def _serve(runtime: Runtime, snapshot: Snapshot, publisher: Publisher, options: ServeOptions) -> None:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    await runtime.start(snapshot)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    loop.add_signal_handler(signal.SIGHUP, lambda: runtime.tasks.spawn(publisher.publish(), "reload"))
    runtime.tasks.spawn(publisher.watch(), "watch files")
    for line in start_lines(runtime, snapshot, options):
        print(line, flush=True)
    for warning in snapshot.warnings:
        log.warning("%s", warning)
    await stopping.wait()
    log.info("stopping: finishing what is in flight (at most %g s)", snapshot.limits.drain_seconds)
    # A second signal ends it at once, the usual way.
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.remove_signal_handler(number)
        signal.signal(number, signal.SIG_DFL)
    await runtime.stop()


def start_lines(runtime: Runtime, snapshot: Snapshot, options: ServeOptions) -> Sequence[str]:
    """What a person sees first: where it listens, what is there, who can reach it."""
    lines: list[str] = []
    for bind in snapshot.binds:
        opened = runtime.binds[bind.port]
        scheme = "https" if opened.certificates is not None else "http"
        for host in opened.sockets:
            shown = f"[{host}]" if ":" in host else host
            lines.append(f"Listening on {scheme}://{shown}:{opened.port}")
        first = next(iter(opened.sockets))
        base = f"{scheme}://{f'[{first}]' if ':' in first else first}:{opened.port}"
        for listener in bind.listeners:
            name = base if listener.hostname is None else f"{scheme}://{listener.hostname}:{opened.port}"
            lines += [
                f"  {route.name:<20} {name}{route.matches[0].path.value}   {'token needed' if route.auth else 'open'}"
                for route in listener.routes
            ]
    if options.host is None and all(host in ("127.0.0.1", "::1") for bind in snapshot.binds for host in bind.hosts):
        lines.append("Only this machine can connect. To open it to others: --host 0.0.0.0 (or gateway.host), and gateway.tokens.")
    return lines


def setup_logging(level: str) -> None:
    """Lines on standard error, without secrets."""
    handler = logging.StreamHandler()
    handler.setFormatter(RedactingFormatter("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%S%z"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.getLevelNamesMapping()[level.upper()])
