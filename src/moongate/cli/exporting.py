"""`moongate export`: all instances as a file, with `${NAME}` in the place of every secret."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import typer
import yaml

from moongate.cli.api import Api, Where, call
from moongate.cli.flags import takes, usage, verbs
from moongate.cli.tables import console, safe, show_json

app = verbs("Write a file.")

FORMATS = ("yaml", "json", "mcpServers")
# What other programs know of an entry; the rest is the gateway's.
_COMMON = ("type", "url", "headers", "command", "args", "env", "cwd", "timeout")


@dataclass(frozen=True, kw_only=True)
class ExportFlags(Where):
    """What is written."""

    format: Annotated[
        str,
        typer.Option(metavar="FORMAT", help="yaml or json: a file for `serve -f`. mcpServers: for other programs."),
    ] = "yaml"


@app.command()
@takes(ExportFlags)
def export(context: typer.Context, flags: ExportFlags) -> None:  # noqa: ARG001 - what `takes` hands over
    """Write all instances of the store to standard output: a file that can be served, imported, kept in a repository.

    Secrets are never in it: each is ${NAME}, and the names to set are listed (on standard error, or with --json).
    """
    if flags.format not in FORMATS:
        usage(f"{flags.format!r} is not one of {', '.join(FORMATS)}", "--format")

    async def work(api: Api) -> None:
        found = await api.get("/export")
        document, variables = found["document"], found["variables"]
        if flags.format == "mcpServers":
            document = {"mcpServers": _common(document.get("mcpServers") or {})}
        if flags.as_json:
            show_json({"document": document, "variables": variables})
            return
        if flags.format == "yaml":
            print(yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=110), end="")
        else:
            show_json(document)
        if variables:
            console(stderr=True).print(safe(f"To be set where it is served: {', '.join(variables)}"))

    call(flags, work)


def _common(servers: dict[str, Any]) -> dict[str, Any]:
    """Without what only this gateway knows."""
    return {name: {key: entry[key] for key in _COMMON if key in entry} for name, entry in servers.items()}
