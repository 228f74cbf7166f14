"""The `moongate` command: one typer app, one function a verb."""

from __future__ import annotations

import sys
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from moongate.cli import check as check_verb
from moongate.cli import schema as schema_verb
from moongate.cli import serve as serve_verb

app = typer.Typer(
    help="One address in front of all your MCP servers.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

Files = Annotated[
    list[Path] | None, typer.Option("-f", "--file", help="Configuration (YAML or JSON); may be repeated.")
]
Host = Annotated[
    str | None,
    typer.Option(help="Address to listen on, for every listener. Default: this machine only (127.0.0.1, ::1)."),
]
Port = Annotated[int | None, typer.Option(help="Port of the mcpServers instances (0: any free one). Default: 8000.")]
DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        envvar="MOONGATE_DATA_DIR",
        help="Key and journal. Default: ~/.local/share/moongate.",
        show_default=False,
    ),
]
LogLevel = Annotated[str, typer.Option(help="debug, info, warning or error.")]


def _show_version(value: bool) -> None:
    if value:
        print(f"moongate {version('moongate')}")
        raise typer.Exit


@app.callback()
def main(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """One address in front of all your MCP servers."""


@app.command()
def serve(
    file: Files = None,
    host: Host = None,
    port: Port = None,
    data_dir: DataDir = None,
    log_level: LogLevel = "info",
) -> None:
    """Run the gateway until SIGTERM or Ctrl-C. SIGHUP and changed files reload the configuration."""
    if log_level not in ("debug", "info", "warning", "error"):
        raise typer.BadParameter(f"{log_level!r} is not one of debug, info, warning, error", param_hint="--log-level")
    options = serve_verb.ServeOptions(tuple(file or ()), host, port, data_dir, log_level)
    raise typer.Exit(serve_verb.serve(options))


@app.command()
def check(
    files: Annotated[list[Path], typer.Argument(help="Configuration files, as for serve -f.")],
    host: Host = None,
    port: Port = None,
) -> None:
    """Judge configuration files without starting anything: exit code 0 if they can be used, 2 if not."""
    raise typer.Exit(check_verb.check(files, host=host, port=port))


@app.command()
def schema() -> None:
    """Print the JSON Schema of the configuration, for editors."""
    raise typer.Exit(schema_verb.schema())


def run() -> None:
    """The console script."""
    app()
    sys.exit(0)
