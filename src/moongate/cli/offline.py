"""Verbs about files that start nothing: `check`, `explain`, `schema`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from moongate.cli import check as check_verb
from moongate.cli import explain as explain_verb
from moongate.cli import schema as schema_verb
from moongate.cli.flags import DataDir, Files, Host, Port, takes, verbs

app = verbs("Judge files, explain what becomes of requests.")


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
