"""The verb `serve`: its words and options."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from moongate.cli import serve as serve_verb
from moongate.cli.flags import DataDir, Files, Headers, Host, LogLevel, Port, Transport, check_level, takes, verbs
from moongate.cli.words import WordsCommand, read_words

app = verbs("The gateway.")

Server = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="URL | -- COMMAND ARGS",
        help="One server, without a file: its address (https://...), or -- and the command that runs it.",
        show_default=False,
    ),
]


@dataclass(frozen=True, slots=True)
class ServeFlags:
    """The words and options of `serve`."""

    server: Server = None
    file: Files = None
    header: Headers = None
    transport: Transport = "auto"
    host: Host = None
    port: Port = None
    data_dir: DataDir = None
    log_level: LogLevel = "info"
    no_console: Annotated[
        bool, typer.Option("--no-console", help="Without the second process: no API, no store, files only.")
    ] = False


@app.command(cls=WordsCommand)
@takes(ServeFlags)
def serve(context: typer.Context, flags: ServeFlags) -> None:
    """Run the gateway until SIGTERM or Ctrl-C: servers from files, or one that stands on the command line.

    SIGHUP and changed files reload the configuration.
    """
    level, files = check_level(flags.log_level), tuple(flags.file or ())
    line = read_words(context, flags.server or [], flags.header or [], flags.transport)
    if line is not None and files:
        raise typer.BadParameter("either files, or one server on the command line", param_hint="-f")
    options = serve_verb.ServeOptions(files, flags.host, flags.port, flags.data_dir, level, line, not flags.no_console)
    raise typer.Exit(serve_verb.serve(options))
