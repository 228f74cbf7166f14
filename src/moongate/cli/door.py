"""The verb `connect`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from moongate.cli import connect as connect_verb
from moongate.cli.flags import Headers, LogLevel, Transport, check_level, verbs
from moongate.cli.words import read_words
from moongate.control.line import is_address

app = verbs("The stdio door.")


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
    check_level(log_level)
    if not is_address(url):
        text = f"{url!r} is not an address, which begins with http:// or https://"
        raise typer.BadParameter(text, param_hint="URL")
    line = read_words(context, [url], header or [], transport)
    if line is not None:
        raise typer.Exit(connect_verb.connect(connect_verb.ConnectOptions(line, ca, log_level)))
