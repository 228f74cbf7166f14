"""`moongate operator`: who may change the gateway, and with which role."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import typer

from moongate.cli.api import Api, Where, call, path_of
from moongate.cli.flags import takes, usage, verbs
from moongate.cli.given import confirm, secret
from moongate.cli.tables import Column, done, show_json, show_pairs, show_rows, when

app = verbs(
    "Who may change the gateway. Roles: admin, operator (not operators, keys, hosted instances), auditor (reads)."
)

Name = Annotated[str, typer.Argument(metavar="NAME", show_default=False)]
Password = Annotated[
    str | None, typer.Option("--password-file", metavar="FILE | -", help="Where the password is. Default: it is asked.")
]
STATE = "enabled", "disabled"
COLUMNS = (
    Column("name", lambda row: row["name"], needed=True),
    Column("role", lambda row: row["role"], needed=True),
    Column("state", lambda row: STATE[not row["enabled"]], needed=True),
    Column("last sign-in", lambda row: when(row["lastSignIn"]) if row["lastSignIn"] else "never"),
)


@dataclass(frozen=True, kw_only=True)
class ListFlags(Where):
    """Nothing else."""


@dataclass(frozen=True, kw_only=True)
class NameFlags(Where):
    """One operator."""

    name: Name


@dataclass(frozen=True, kw_only=True)
class CreateFlags(NameFlags):
    """A new operator."""

    role: Annotated[str, typer.Option(metavar="ROLE", help="admin, operator or auditor.")]
    password: Password = None


@dataclass(frozen=True, kw_only=True)
class EditFlags(NameFlags):
    """What is changed."""

    role: Annotated[str | None, typer.Option(metavar="ROLE", help="admin, operator or auditor.")] = None
    enabled: Annotated[
        bool | None, typer.Option("--enabled/--disabled", help="Whether to let in.", show_default=False)
    ] = None


@dataclass(frozen=True, kw_only=True)
class PasswordFlags(NameFlags):
    """A new password."""

    password: Password = None


@dataclass(frozen=True, kw_only=True)
class DeleteFlags(NameFlags):
    """One operator, for good."""

    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False


@app.command("list")
@takes(ListFlags)
def list_operators(context: typer.Context, flags: ListFlags) -> None:  # noqa: ARG001 - what `takes` hands over
    """Show all operators."""

    async def work(api: Api) -> None:
        found = await api.all("/operators")
        if flags.as_json:
            show_json(found)
        else:
            show_rows(found, COLUMNS, "There is no operator. Make one: moongate operator create NAME --role admin")

    call(flags, work)


@app.command()
@takes(CreateFlags)
def create(context: typer.Context, flags: CreateFlags) -> None:  # noqa: ARG001 - what `takes` hands over
    """Make an operator; the password is asked for, or read from a file."""
    password = secret(flags.password, f"Password for {flags.name}", "--password-file")

    async def work(api: Api) -> None:
        body = {"name": flags.name, "role": flags.role, "password": password, "enabled": True}
        _answer(flags, await api.send("POST", "/operators", body))

    call(flags, work)


@app.command()
@takes(EditFlags)
def edit(context: typer.Context, flags: EditFlags) -> None:  # noqa: ARG001 - what `takes` hands over
    """Change role or state."""
    values = {"role": flags.role, "enabled": flags.enabled}
    patch = {key: value for key, value in values.items() if value is not None}
    if not patch:
        usage("nothing is changed; name what is, such as --role", "edit")

    async def work(api: Api) -> None:
        _answer(flags, await api.send("PATCH", path_of("operators", flags.name), patch))

    call(flags, work)


@app.command()
@takes(PasswordFlags)
def password(context: typer.Context, flags: PasswordFlags) -> None:  # noqa: ARG001 - what `takes` hands over
    """Set a new password."""
    new = secret(flags.password, f"New password for {flags.name}", "--password-file")

    async def work(api: Api) -> None:
        _answer(flags, await api.send("PATCH", path_of("operators", flags.name), {"password": new}))

    call(flags, work)


@app.command()
@takes(DeleteFlags)
def delete(context: typer.Context, flags: DeleteFlags) -> None:  # noqa: ARG001 - what `takes` hands over
    """Delete an operator: no sign-in of this operator is good any more."""
    confirm(f"Delete the operator {flags.name}?", yes=flags.yes)

    async def work(api: Api) -> None:
        await api.send("DELETE", path_of("operators", flags.name))
        done(f"{flags.name} is deleted")

    call(flags, work)


def _answer(flags: Where, found: dict[str, Any]) -> None:
    if flags.as_json:
        show_json(found)
        return
    show_pairs((("name", found["name"]), ("role", found["role"]), ("state", STATE[not found["enabled"]])))
