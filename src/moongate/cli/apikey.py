"""`moongate apikey`: keys of programs that use the API."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from moongate.cli.api import KEY_VARIABLE, Api, Where, call, path_of
from moongate.cli.flags import takes, verbs
from moongate.cli.given import confirm, moment
from moongate.cli.tables import Column, console, done, show_json, show_rows, when

app = verbs("Keys of programs that use the API.")

COLUMNS = (
    Column("id", lambda row: row["id"], needed=True),
    Column("name", lambda row: row["name"], needed=True),
    Column("role", lambda row: row["role"], needed=True),
    Column("expires", lambda row: when(row["expires"]) if row["expires"] else "never"),
    Column("last used", lambda row: when(row["lastUsed"]) if row["lastUsed"] else "never"),
    Column("fingerprint", lambda row: row["fingerprint"]),
)


@dataclass(frozen=True, kw_only=True)
class ListFlags(Where):
    """Nothing else."""


@dataclass(frozen=True, kw_only=True)
class CreateFlags(Where):
    """A new key."""

    name: Annotated[str, typer.Argument(metavar="NAME", help="What it is for.", show_default=False)]
    role: Annotated[str, typer.Option(metavar="ROLE", help="admin, operator or auditor.")]
    expires: Annotated[str | None, typer.Option(metavar="WHEN", help="2027-01-31, 90d, 12h or never.")] = None


@dataclass(frozen=True, kw_only=True)
class DeleteFlags(Where):
    """One key, for good."""

    key: Annotated[str, typer.Argument(metavar="ID", show_default=False)]
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False


@app.command("list")
@takes(ListFlags)
def list_keys(context: typer.Context, flags: ListFlags) -> None:  # noqa: ARG001 - what `takes` hands over
    """Show all keys; never their values."""

    async def work(api: Api) -> None:
        found = await api.all("/api-keys")
        if flags.as_json:
            show_json(found)
        else:
            show_rows(found, COLUMNS, "There is no key. Make one: moongate apikey create NAME --role operator")

    call(flags, work)


@app.command()
@takes(CreateFlags)
def create(context: typer.Context, flags: CreateFlags) -> None:  # noqa: ARG001 - what `takes` hands over
    """Make a key. Its value is printed now and never again."""
    body = {"name": flags.name, "role": flags.role, "expires": moment(flags.expires)}

    async def work(api: Api) -> None:
        made = await api.send("POST", "/api-keys", body)
        if flags.as_json:
            show_json(made)
            return
        console(stderr=True).print(f"The key, which is not shown again (put it into {KEY_VARIABLE}):", style="bold")
        print(made["value"])

    call(flags, work)


@app.command()
@takes(DeleteFlags)
def delete(context: typer.Context, flags: DeleteFlags) -> None:  # noqa: ARG001 - what `takes` hands over
    """Delete a key: it is refused at once."""
    confirm(f"Delete the key {flags.key}?", yes=flags.yes)

    async def work(api: Api) -> None:
        await api.send("DELETE", path_of("api-keys", flags.key))
        done(f"{flags.key} is deleted")

    call(flags, work)
