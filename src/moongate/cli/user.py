"""`moongate user`: who may call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import typer

from moongate.cli.api import Api, Where, call, path_of
from moongate.cli.flags import takes, usage, verbs
from moongate.cli.given import confirm
from moongate.cli.tables import Column, done, show_json, show_pairs, show_rows, when

app = verbs("Who may call.")

Name = Annotated[str, typer.Argument(metavar="NAME", show_default=False)]
STATE = "enabled", "disabled"
COLUMNS = (
    Column("name", lambda row: row["name"], needed=True),
    Column("groups", lambda row: row["groups"], needed=True),
    Column("state", lambda row: STATE[not row["enabled"]], needed=True),
    Column("notes", lambda row: row["notes"]),
    Column("created", lambda row: when(row["created"])),
)


@dataclass(frozen=True, kw_only=True)
class ListFlags(Where):
    """What `list` is asked for."""

    words: Annotated[str | None, typer.Option("-q", "--query", help="In the name or the notes.")] = None
    group: Annotated[str | None, typer.Option(help="Members of this group.")] = None


@dataclass(frozen=True, kw_only=True)
class NameFlags(Where):
    """One user."""

    name: Name


@dataclass(frozen=True, kw_only=True)
class UserFlags(NameFlags):
    """What is known of a user."""

    notes: Annotated[str | None, typer.Option(help="What people should know.")] = None
    group: Annotated[
        list[str] | None, typer.Option("--group", help="May be repeated; '' for none. Access rules name groups.")
    ] = None
    enabled: Annotated[
        bool | None, typer.Option("--enabled/--disabled", help="Whether the user's tokens work.", show_default=False)
    ] = None


@dataclass(frozen=True, kw_only=True)
class DeleteFlags(NameFlags):
    """One user, for good."""

    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False


@app.command("list")
@takes(ListFlags)
def list_users(context: typer.Context, flags: ListFlags) -> None:  # noqa: ARG001 - what `takes` hands over
    """Show all users, or those that fit."""

    async def work(api: Api) -> None:
        found = await api.all("/users", q=flags.words, group=flags.group)
        if flags.as_json:
            show_json(found)
        else:
            show_rows(found, COLUMNS, "There is no user. Make one: moongate user create NAME")

    call(flags, work)


@app.command()
@takes(NameFlags)
def show(context: typer.Context, flags: NameFlags) -> None:  # noqa: ARG001 - what `takes` hands over
    """Show one user."""

    async def work(api: Api) -> None:
        _answer(flags, await api.get(path_of("users", flags.name)))

    call(flags, work)


@app.command()
@takes(UserFlags)
def create(context: typer.Context, flags: UserFlags) -> None:  # noqa: ARG001 - what `takes` hands over
    """Make a user, who needs a token next: moongate token create NAME."""

    async def work(api: Api) -> None:
        body = {"enabled": True, **_given(flags), "name": flags.name}
        _answer(flags, await api.send("POST", "/users", body))

    call(flags, work)


@app.command()
@takes(UserFlags)
def edit(context: typer.Context, flags: UserFlags) -> None:  # noqa: ARG001 - what `takes` hands over
    """Change what is given, keep the rest."""
    patch = _given(flags)
    if not patch:
        usage("nothing is changed; name what is, such as --group", "edit")

    async def work(api: Api) -> None:
        _answer(flags, await api.send("PATCH", path_of("users", flags.name), patch))

    call(flags, work)


@app.command()
@takes(DeleteFlags)
def delete(context: typer.Context, flags: DeleteFlags) -> None:  # noqa: ARG001 - what `takes` hands over
    """Delete a user and the user's tokens."""
    confirm(f"Delete the user {flags.name} and all tokens of this user?", yes=flags.yes)

    async def work(api: Api) -> None:
        await api.send("DELETE", path_of("users", flags.name))
        done(f"{flags.name} is deleted")

    call(flags, work)


def _given(flags: UserFlags) -> dict[str, Any]:
    groups = None if flags.group is None else [group for group in flags.group if group]
    values = {"notes": flags.notes, "groups": groups, "enabled": flags.enabled}
    return {key: value for key, value in values.items() if value is not None}


def _answer(flags: Where, found: dict[str, Any]) -> None:
    if flags.as_json:
        show_json(found)
        return
    show_pairs(
        (
            ("name", found["name"]),
            ("groups", found["groups"]),
            ("state", STATE[not found["enabled"]]),
            ("notes", found["notes"]),
            ("created", when(found["created"])),
            ("changed", when(found["updated"])),
        )
    )
