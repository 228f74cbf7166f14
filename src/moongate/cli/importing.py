"""`moongate import`: the servers of a client's or another gateway's file become instances."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import typer

from moongate.cli.api import REFUSED, USAGE, Api, Problem, Where, call, path_of
from moongate.cli.flags import takes, verbs
from moongate.cli.given import put_in_all, read_text
from moongate.cli.tables import Column, console, done, safe, show_json, show_rows
from moongate.control.imports.found import Found, Imported
from moongate.control.imports.read import read_import
from moongate.control.imports.references import names
from moongate.errors import ConfigError

app = verbs("Take over servers.")

COLUMNS = (
    Column("name", lambda row: row["name"], needed=True),
    Column("mode", lambda row: row["mode"], needed=True),
    Column("what becomes of it", lambda row: row["outcome"], needed=True),
    Column("server", lambda row: row["server"]),
    Column("variables", lambda row: row["variables"]),
    Column("from", lambda row: row["where"]),
)
NOTES = (
    Column("where", lambda row: row["where"], needed=True),
    Column("instance", lambda row: row["instance"]),
    Column("", lambda row: "not taken" if row["lost"] else "changed", needed=True),
    Column("what", lambda row: row["text"], needed=True),
)


@dataclass(frozen=True, kw_only=True)
class ImportFlags(Where):
    """What is taken over, and how."""

    source: Annotated[
        str,
        typer.Argument(
            metavar="FILE | -",
            help="mcp.json, claude_desktop_config.json, .vscode/mcp.json, Codex's config.toml, agentgateway's YAML.",
            show_default=False,
        ),
    ]
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would come, and what not.")] = False
    replace: Annotated[bool, typer.Option("--replace", help="Also those whose name is taken.")] = False
    tag: Annotated[list[str] | None, typer.Option("--tag", help="For all that come. May be repeated.")] = None


@app.command("import")
@takes(ImportFlags)
def import_file(context: typer.Context, flags: ImportFlags) -> None:  # noqa: ARG001 - what `takes` hands over
    """Take over the servers of a client's or another gateway's file; what cannot be taken over is listed.

    Variables that the file names (${NAME}) are read from your environment now, and what they hold is stored sealed.
    """
    text = read_text(flags.source, "FILE")
    try:
        imported = read_import(text, "standard input" if flags.source == "-" else Path(flags.source).name)
    except ConfigError as error:
        for complaint in error.complaints:
            console(stderr=True).print(safe(str(complaint)))
        raise typer.Exit(USAGE) from None
    unset = sorted({name for server in imported.servers for name in names(server.config) if name not in os.environ})
    if unset and not flags.dry_run:
        _show(flags, imported, [_row(server, "not taken") for server in imported.servers])
        text = f"Nothing was taken over: set {', '.join(unset)} in the environment, and import again."
        console(stderr=True).print(text, style="bold red")
        raise typer.Exit(USAGE)
    failed: list[str] = []

    async def work(api: Api) -> None:
        rows = [await _take(api, flags, server) for server in imported.servers]
        _show(flags, imported, rows)
        failed.extend(row["name"] for row in rows if row["refused"])

    call(flags, work)
    if unset:
        console(stderr=True).print(f"To be set in the environment first: {', '.join(unset)}")
    if failed:
        raise typer.Exit(REFUSED)


async def _take(api: Api, flags: ImportFlags, server: Found) -> dict[str, Any]:
    """One server; its row."""
    path = path_of("instances", server.name)
    try:
        taken = bool(await api.get(path))
    except Problem as problem:
        if problem.status != 404:
            raise
        taken = False
    if taken and not flags.replace:
        return _row(server, "the name is taken; --replace would replace it", refused=True)
    if flags.dry_run:
        return _row(server, "would replace the instance" if taken else "would come")
    body = {
        "accessMode": "hosted" if server.hosted else "proxy",
        "enabled": server.enabled,
        "tags": list(flags.tag or ()),
        "config": put_in_all(server.config, os.environ),
    }
    try:
        if taken:
            await api.send("PUT", path, body)
        else:
            await api.send("POST", "/instances", {**body, "name": server.name})
    except Problem as problem:
        if not 400 <= problem.status < 500 or problem.status in {401, 403}:
            raise
        return _row(server, "refused: " + "; ".join(problem.lines), refused=True)
    return _row(server, "replaced" if taken else "taken over")


def _row(server: Found, outcome: str, *, refused: bool = False) -> dict[str, Any]:
    config = server.config
    return {
        "name": server.name,
        "mode": "hosted" if server.hosted else "proxy",
        "outcome": outcome if server.enabled else f"{outcome} (disabled)",
        "server": str(config["command"]) if server.hosted else _host(str(config["url"])),
        "variables": [name if name in os.environ else f"{name} (not set)" for name in names(config)],
        "where": server.where,
        "refused": refused,
    }


def _host(url: str) -> str | None:
    """Of the address only the host: the rest may hold secrets."""
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None


def _show(flags: ImportFlags, imported: Imported, rows: list[dict[str, Any]]) -> None:
    notes = [
        {"where": note.where, "instance": note.entry or None, "lost": note.lost, "text": note.text}
        for note in imported.notes
    ]
    if flags.as_json:
        show_json({"kind": imported.kind, "dryRun": flags.dry_run, "instances": rows, "notes": notes})
        return
    done(f"a file of {imported.kind}" if imported.kind != "a list of servers" else imported.kind)
    show_rows(rows, COLUMNS, "There is no server in it that could be taken over.")
    if notes:
        console().print()
        show_rows(notes, NOTES, "")
