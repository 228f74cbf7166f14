"""`moongate instance`: the servers behind the gateway."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from moongate.cli import doors, entries
from moongate.cli.api import REFUSED, Api, Where, call, path_of
from moongate.cli.entries import EntryFlags
from moongate.cli.flags import takes, usage, verbs
from moongate.cli.given import confirm, read_text
from moongate.cli.tables import Column, Row, console, done, show_json, show_pairs, show_rows, shown, when
from moongate.control.clients import CLIENTS

app = verbs("The servers behind the gateway: create, change, test, hand out.")

Name = Annotated[str, typer.Argument(metavar="NAME", show_default=False)]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
STATE = "enabled", "disabled"

COLUMNS = (
    Column("name", lambda row: row["name"], needed=True),
    Column("address", lambda row: row["addresses"]["base"], needed=True),
    Column("mode", lambda row: row["accessMode"]),
    Column("state", lambda row: STATE[not row["enabled"]]),
    Column("from", lambda row: row.get("where") if row["source"] == "file" else "store"),
    Column("tags", lambda row: row["tags"]),
    Column("notes", lambda row: row["notes"]),
)


@dataclass(frozen=True, kw_only=True)
class ListFlags(Where):
    """What `list` is asked for."""

    words: Annotated[str | None, typer.Option("-q", "--query", help="In the name, the notes or the tags.")] = None
    tag: Annotated[str | None, typer.Option(help="With this tag.")] = None
    mode: Annotated[str | None, typer.Option(metavar="proxy | hosted", help="Of this access mode.")] = None
    source: Annotated[str | None, typer.Option(metavar="store | file", help="From there.")] = None
    enabled: Annotated[bool | None, typer.Option("--enabled/--disabled", help="Only those.", show_default=False)] = None


@app.command("list")
@takes(ListFlags)
def list_instances(context: typer.Context, flags: ListFlags) -> None:  # noqa: ARG001 - what `takes` hands over
    """Show all instances, those of files too, or those that fit."""

    async def work(api: Api) -> None:
        found = await api.all(
            "/instances",
            q=flags.words,
            tag=flags.tag,
            accessMode=flags.mode,
            source=flags.source,
            enabled=flags.enabled,
        )
        if flags.as_json:
            show_json(found)
        else:
            show_rows(found, COLUMNS, "There is no instance. Make one: moongate instance create NAME --url URL")

    call(flags, work)


@dataclass(frozen=True, kw_only=True)
class NameFlags(Where):
    """One instance."""

    name: Name


@app.command()
@takes(NameFlags)
def show(context: typer.Context, flags: NameFlags) -> None:  # noqa: ARG001 - what `takes` hands over
    """Show one instance: its addresses, its configuration with masked secrets."""

    async def work(api: Api) -> None:
        found = await api.get(path_of("instances", flags.name))
        _answer(flags, found)

    call(flags, work)


@dataclass(frozen=True, kw_only=True)
class CreateFlags(EntryFlags, Where):
    """What a new instance is made of."""

    name: Annotated[str | None, typer.Argument(metavar="NAME", show_default=False)] = None
    command: Annotated[
        list[str] | None,
        typer.Argument(metavar="-- COMMAND ARGS", help="Hosted mode: what the gateway runs.", show_default=False),
    ] = None
    paste: Annotated[
        str | None,
        typer.Option(metavar="FILE | -", help="Instead: the mcpServers JSON of a client, one or many entries."),
    ] = None
    disabled: Annotated[bool, typer.Option("--disabled", help="Not served until it is enabled.")] = False


@app.command()
@takes(CreateFlags)
def create(context: typer.Context, flags: CreateFlags) -> None:  # noqa: ARG001 - what `takes` hands over
    """Make an instance: of a server with an address (--url), of a command (--), or of pasted JSON (--paste)."""
    if flags.paste is not None:
        if flags.name is not None or flags.url is not None or flags.config is not None:
            usage("holds names and configurations; give nothing else", "--paste")
        text = read_text(flags.paste, "--paste")

        async def pasted(api: Api) -> None:
            made = await api.send("POST", "/instances/paste", {"config": text})
            items = made["items"]
            if flags.as_json:
                show_json(items)
                return
            done(f"made {len(items)} instance{'' if len(items) == 1 else 's'}")
            show_rows(items, COLUMNS[:3], "nothing was in it")

        call(flags, pasted)
        return
    if flags.name is None:
        usage("is missing: moongate instance create NAME --url URL", "NAME")
    config = entries.config(flags, tuple(flags.command or ()), os.environ)
    body: dict[str, Any] = {
        **_new(flags.name, config),
        "enabled": not flags.disabled,
        "notes": flags.notes or "",
        "tags": list(flags.tag or ()),
        "icon": flags.icon or "",
    }

    async def work(api: Api) -> None:
        _answer(flags, await api.send("POST", "/instances", body))

    call(flags, work)


@dataclass(frozen=True, kw_only=True)
class EditFlags(EntryFlags, Where):
    """What is changed."""

    name: Name
    command: Annotated[
        list[str] | None, typer.Argument(metavar="-- COMMAND ARGS", help="Another command.", show_default=False)
    ] = None
    remove: Annotated[
        list[str] | None,
        typer.Option("--remove", metavar="KEY", help="Leave out: timeout, headers.X-Key, env.NAME. May be repeated."),
    ] = None


@app.command()
@takes(EditFlags)
def edit(context: typer.Context, flags: EditFlags) -> None:  # noqa: ARG001 - what `takes` hands over
    """Change what is given, keep the rest; secrets that are not given stay."""
    given = {"notes": flags.notes, "icon": flags.icon, "tags": None if flags.tag is None else list(flags.tag)}
    patch: dict[str, Any] = {key: value for key, value in given.items() if value is not None}

    async def work(api: Api) -> None:
        path = path_of("instances", flags.name)
        before = await api.get(path)
        config = entries.changed(before["config"], flags, tuple(flags.command or ()), os.environ)
        entries.remove(config, flags.remove or ())
        if config != before["config"]:
            patch["config"] = config
            patch["accessMode"] = "hosted" if "command" in config else "proxy"
        if not patch:
            usage("nothing is changed; name what is, such as --url or --tag", "edit")
        _answer(flags, await api.send("PATCH", path, patch, revision=before.get("revision")))

    call(flags, work)


@dataclass(frozen=True, kw_only=True)
class DeleteFlags(NameFlags):
    """One instance, for good."""

    yes: Yes = False


@app.command()
@takes(DeleteFlags)
def delete(context: typer.Context, flags: DeleteFlags) -> None:  # noqa: ARG001 - what `takes` hands over
    """Delete an instance: new calls are refused at once, open streams end."""
    confirm(f"Delete the instance {flags.name}?", yes=flags.yes)

    async def work(api: Api) -> None:
        await api.send("DELETE", path_of("instances", flags.name))
        done(f"{flags.name} is deleted")

    call(flags, work)


@app.command()
@takes(NameFlags)
def enable(context: typer.Context, flags: NameFlags) -> None:  # noqa: ARG001 - what `takes` hands over
    """Serve an instance (again)."""
    call(flags, _switched(flags, enabled=True))


@app.command()
@takes(NameFlags)
def disable(context: typer.Context, flags: NameFlags) -> None:  # noqa: ARG001 - what `takes` hands over
    """Refuse new calls at once, end open streams; nothing is lost."""
    call(flags, _switched(flags, enabled=False))


def _switched(flags: NameFlags, *, enabled: bool) -> Callable[[Api], Awaitable[None]]:
    async def work(api: Api) -> None:
        found = await api.send("PATCH", path_of("instances", flags.name), {"enabled": enabled})
        if flags.as_json:
            show_json(found)
        else:
            done(f"{flags.name} is {STATE[not enabled]}")

    return work


_MARKS = {"ok": ("ok", "green"), "failed": ("failed", "bold red"), "skipped": ("-", "dim")}


@dataclass(frozen=True, kw_only=True)
class TestFlags(EntryFlags, Where):
    """A server that is an instance, or may become one."""

    __test__ = False  # for pytest

    name: Annotated[str | None, typer.Argument(metavar="NAME", show_default=False)] = None
    command: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="-- COMMAND ARGS", help="Instead: a command that is no instance yet.", show_default=False
        ),
    ] = None


@app.command()
@takes(TestFlags)
def test(context: typer.Context, flags: TestFlags) -> None:  # noqa: ARG001 - what `takes` hands over
    """Reach a server as the gateway would: resolve, connect, TLS, initialize, list its tools.

    That of an instance (NAME), or one that is not there yet (NAME and --url, or NAME and --). Exit code 1: it cannot be
    used.
    """
    if flags.name is None:
        usage("is missing: moongate instance test NAME", "NAME")
    name, draft = flags.name, flags.url is not None or flags.config is not None or bool(flags.command)
    config = entries.config(flags, tuple(flags.command or ()), os.environ) if draft else {}
    fine: list[bool] = []

    async def work(api: Api) -> None:
        if draft:
            found = await api.send("POST", "/instances/test", _new(name, config))
        else:
            found = await api.send("POST", path_of("instances", name, "test"))
        fine.append(bool(found["fine"]))
        if flags.as_json:
            show_json(found)
        else:
            _show_test(found)

    call(flags, work)
    if not all(fine):
        raise typer.Exit(REFUSED)


def _new(name: str, config: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "accessMode": "hosted" if "command" in config else "proxy", "config": config}


def _show_test(found: Row) -> None:
    out = console()
    width = max((len(step["name"]) for step in found["steps"]), default=0)
    for step in found["steps"]:
        mark, style = _MARKS.get(step["outcome"], (step["outcome"], ""))
        out.print(f"{mark:6}  ", style=style, end="")
        out.print(f"{shown(step['name']):{width}}  {step['milliseconds']:8.1f} ms  {shown(step['text'])}")
    if found["fine"]:
        out.print(
            f"the server can be used ({shown(found['transport'])}, {found['milliseconds']:.0f} ms)", style="green"
        )
        return
    out.print(f"{shown(found['failure'])}: {shown(found['meaning'])}", style="bold red")
    out.print(shown(found["advice"]))


@dataclass(frozen=True, kw_only=True)
class ClientFlags(NameFlags):
    """For which client."""

    client: Annotated[
        str | None, typer.Option(metavar="CLIENT", help=f"One of {', '.join(CLIENTS)}. Without it: all.")
    ] = None


@app.command("client-config")
@takes(ClientFlags)
def client_config(context: typer.Context, flags: ClientFlags) -> None:  # noqa: ARG001 - what `takes` hands over
    """Print what the users of an instance put into their clients; the token's place is held by a variable."""
    doors.check(flags.client)

    async def work(api: Api) -> None:
        path = path_of("instances", flags.name, "client-config")
        said = await api.get(path, client=flags.client)
        found = said["items"] if flags.client is None else [said]
        if flags.as_json:
            show_json(found)
        else:
            doors.show(found)

    call(flags, work)


@app.command()
@takes(NameFlags)
def revisions(context: typer.Context, flags: NameFlags) -> None:  # noqa: ARG001 - what `takes` hands over
    """Who changed what, and when; the newest first."""

    async def work(api: Api) -> None:
        found = await api.all(path_of("instances", flags.name, "revisions"))
        if flags.as_json:
            show_json(found)
        else:
            show_rows(found, REVISIONS, "There is no revision.")

    call(flags, work)


@app.command()
@takes(NameFlags)
def state(context: typer.Context, flags: NameFlags) -> None:  # noqa: ARG001 - what `takes` hands over
    """What is going on there now, with --server: streams, sessions, processes, counters since the gateway's start."""

    async def work(api: Api) -> None:
        found = await api.get(path_of("instances", flags.name, "state"))
        if flags.as_json:
            show_json(found)
            return
        failures = [f"{name} {count}" for name, count in found["failures"].items()]
        show_pairs(
            (
                ("in force", found["inForce"]),
                ("open streams", found["streams"]),
                ("sessions", found["sessions"]),
                ("requests", found["requests"]),
                ("failures", ", ".join(failures) or "none"),
                ("processes", found["children"]),
            )
        )

    call(flags, work)


REVISIONS = (
    Column("revision", lambda row: row["revision"], needed=True),
    Column("when", lambda row: when(row["at"]), needed=True),
    Column("who", lambda row: row["who"], needed=True),
    Column("what", lambda row: row["action"]),
)


def _answer(flags: Where, found: Row) -> None:
    """One instance."""
    if flags.as_json:
        show_json(found)
        return
    addresses = found["addresses"]
    show_pairs(
        (
            ("name", found["name"]),
            ("streamable HTTP", addresses["streamableHttp"]),
            ("HTTP+SSE", addresses["sse"]),
            ("mode", found["accessMode"]),
            ("state", STATE[not found["enabled"]]),
            ("from", found.get("where") or found["source"]),
            ("tags", found["tags"]),
            ("notes", found["notes"]),
            ("configuration", found["config"]),
            ("revision", found.get("revision")),
            ("changed", when(found.get("updated")) if found.get("updated") else None),
        )
    )
