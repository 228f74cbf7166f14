"""`moongate check`: says whether configuration files can be used, and what is wrong with them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from moongate.control.addresses import RouteAddress, route_addresses
from moongate.control.compile import CompileOptions, compile_documents
from moongate.control.files import load
from moongate.control.programs import judge_programs
from moongate.errors import ConfigError

FINE = 0
WRONG = 2


def check(paths: Sequence[str | Path], host: str | None = None, port: int | None = None) -> int:
    """Print the routes and warnings (standard output, 0) or every error (standard error, 2); colours on terminals."""
    try:
        documents = load(paths, os.environ)
        snapshot = judge_programs(compile_documents(documents, CompileOptions(host, port)), documents, os.environ)
    except ConfigError as error:
        _print_errors(error)
        return WRONG
    out = _console(stderr=False)
    addresses = route_addresses(snapshot)
    names = ", ".join(str(path) for path in paths)
    out.print(f"{names}: ", end="")
    out.print("ok", style="bold green", end="")
    out.print(f", {_count(len(addresses), 'route')}")
    _print_routes(out, addresses)
    for warning in snapshot.warnings:
        out.print("warning: ", style="bold yellow", end="")
        out.print(warning)
    return FINE


def _print_routes(out: Console, addresses: Sequence[RouteAddress]) -> None:
    width = max((len(address.route.key) for address in addresses), default=0)
    longest = max((len(address.url) for address in addresses), default=0)
    for address in addresses:
        out.print(f"  {address.route.key:{width}}  ", style="bold", end="")
        out.print(f"{address.url:{longest}}  ", end="")
        door = "token required" if address.route.auth else "open to everyone who reaches it"
        out.print(f"{door}, {address.processes}" if address.processes else door, style="dim")


def _print_errors(error: ConfigError) -> None:
    out = _console(stderr=True)
    for complaint in error.complaints:
        out.print(complaint.where, style="bold", end=": " if complaint.where else "")
        out.print(complaint.text)
    out.print(_count(len(error.complaints), "error"), style="bold red")


def _console(*, stderr: bool) -> Console:
    """Plain text of the operator's: no markup, no wrapping, no guessing of colours."""
    return Console(stderr=stderr, highlight=False, markup=False, emoji=False, soft_wrap=True)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
