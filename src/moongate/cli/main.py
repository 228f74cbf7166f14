"""The `moongate` command: one typer app, one function a verb."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from moongate.cli import check as check_verb
from moongate.cli import connect as connect_verb
from moongate.cli import explain as explain_verb
from moongate.cli import schema as schema_verb
from moongate.cli import serve as serve_verb
from moongate.cli.flags import takes
from moongate.cli.words import TRANSPORTS, WordsCommand, read_words
from moongate.control.line import is_address

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
Server = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="URL | -- COMMAND ARGS",
        help="One server, without a file: its address (https://...), or -- and the command that runs it.",
        show_default=False,
    ),
]
Headers = Annotated[
    list[str] | None,
    typer.Option(
        "--header",
        metavar="'NAME: VALUE'",
        help="With URL: sent with every request; ${NAME} is an environment variable. May be repeated.",
    ),
]
Transport = Annotated[str, typer.Option(metavar="NAME", help=f"With URL: {', '.join(TRANSPORTS)}.")]
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


@app.command(cls=WordsCommand)
@takes(ServeFlags)
def serve(context: typer.Context, flags: ServeFlags) -> None:
    """Run the gateway until SIGTERM or Ctrl-C: servers from files, or one that stands on the command line.

    SIGHUP and changed files reload the configuration.
    """
    level, files = flags.log_level, tuple(flags.file or ())
    if level not in ("debug", "info", "warning", "error"):
        raise typer.BadParameter(f"{level!r} is not one of debug, info, warning, error", param_hint="--log-level")
    line = read_words(context, flags.server or [], flags.header or [], flags.transport)
    if line is not None and files:
        raise typer.BadParameter("either files, or one server on the command line", param_hint="-f")
    options = serve_verb.ServeOptions(files, flags.host, flags.port, flags.data_dir, level, line)
    raise typer.Exit(serve_verb.serve(options))


@app.command()
def check(
    files: Annotated[list[Path], typer.Argument(help="Configuration files, as for serve -f.")],
    host: Host = None,
    port: Port = None,
) -> None:
    """Judge configuration files without starting anything: exit code 0 if they can be used, 2 if not."""
    raise typer.Exit(check_verb.check(files, host=host, port=port))


@dataclass(frozen=True, slots=True)
class ExplainFlags:
    """The words and options of `explain`."""

    method: Annotated[str | None, typer.Argument(help="GET, POST, DELETE, or OPTIONS for a preflight.")] = None
    url: Annotated[str | None, typer.Argument(metavar="URL", help="An address, or a path such as /mcp/time.")] = None
    file: Files = None
    host: Annotated[str | None, typer.Option(help="What Host says. Default: the host of URL.")] = None
    origin: Annotated[str | None, typer.Option(help="The origin of the page that asks.")] = None
    token: Annotated[str | None, typer.Option(help="The client's token; never printed.")] = None
    header: Annotated[
        list[str] | None, typer.Option("--header", metavar="'NAME: VALUE'", help="May be repeated; never printed.")
    ] = None
    source: Annotated[str, typer.Option(metavar="ADDRESS", help="Where the request comes from.")] = "127.0.0.1"
    message: Annotated[
        str | None, typer.Option(metavar="JSON", help="The JSON-RPC message, or @ and the name of a file.")
    ] = None
    port: Port = None
    request: Annotated[
        str | None, typer.Option(metavar="ID", help="Instead: what became of a request, by its X-Request-Id.")
    ] = None
    data_dir: DataDir = None
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False


@app.command()
@takes(ExplainFlags)
def explain(context: typer.Context, flags: ExplainFlags) -> None:  # noqa: ARG001 - what `takes` hands over
    """Say what becomes of a request, policy by policy, and which setting would change it. No server is called.

    Exit code 0 if it goes on to a server or is answered as configured, 1 if not, 2 if the question is wrong.
    """
    if flags.request is not None:
        if flags.method is not None:
            raise typer.BadParameter("either a request id, or METHOD and URL", param_hint="--request")
        raise typer.Exit(explain_verb.recorded(flags.request, flags.data_dir, as_json=flags.as_json))
    if flags.method is None or flags.url is None:
        raise typer.BadParameter("METHOD and URL are needed, such as: moongate explain POST /mcp/time")
    question = explain_verb.Question(
        method=flags.method,
        url=flags.url,
        files=tuple(flags.file or ()),
        host=flags.host,
        origin=flags.origin,
        token=flags.token,
        headers=tuple(flags.header or ()),
        source=flags.source,
        message=flags.message,
        port=flags.port,
        data_dir=flags.data_dir,
    )
    raise typer.Exit(explain_verb.explained(question, as_json=flags.as_json))


@app.command()
def schema() -> None:
    """Print the JSON Schema of the configuration, for editors."""
    raise typer.Exit(schema_verb.schema())


@app.command()
def connect(
    context: typer.Context,
    url: Annotated[str, typer.Argument(metavar="URL", help="The server's address (https://...).")],
    header: Headers = None,
    transport: Transport = "auto",
    ca: Annotated[
        Path | None,
        typer.Option(metavar="FILE", exists=True, dir_okay=False, help="PEM file of a private authority, for https."),
    ] = None,
    log_level: LogLevel = "info",
) -> None:
    """Speak stdio to the client that starts this, and streamable HTTP or HTTP+SSE to URL.

    For clients that can only start a process. Messages go to standard output, the log to standard error.
    """
    if log_level not in ("debug", "info", "warning", "error"):
        raise typer.BadParameter(f"{log_level!r} is not one of debug, info, warning, error", param_hint="--log-level")
    if not is_address(url):
        text = f"{url!r} is not an address, which begins with http:// or https://"
        raise typer.BadParameter(text, param_hint="URL")
    line = read_words(context, [url], header or [], transport)
    if line is not None:
        raise typer.Exit(connect_verb.connect(connect_verb.ConnectOptions(line, ca, log_level)))


def run() -> None:
    """The console script."""
    app()
    sys.exit(0)
