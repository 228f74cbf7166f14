"""The `moongate` command: the group of its verbs, each of which is loaded when it is called (`lazy`)."""

from __future__ import annotations

import sys
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.metadata import version
from importlib.util import find_spec
from typing import Annotated

import typer

from moongate.cli.lazy import LazyGroup

app = typer.Typer(
    cls=LazyGroup,
    help="One address in front of all your MCP servers.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _show_version(value: bool) -> None:
    if value:
        found = find_spec("moongate.telemetry")
        compiled = found is not None and str(found.origin).endswith(tuple(EXTENSION_SUFFIXES))
        print(f"moongate {version('moongate')}" + (" (compiled)" if compiled else ""))
        raise typer.Exit


@app.callback()
def main(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """One address in front of all your MCP servers."""


def run() -> None:
    """The console script."""
    app()
    sys.exit(0)
