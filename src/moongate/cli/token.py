"""`moongate token`: what callers show."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from moongate.cli import doors
from moongate.cli.api import Api, Problem, Where, call, path_of
from moongate.cli.flags import takes, usage, verbs
from moongate.cli.given import confirm, moment
from moongate.cli.tables import Column, Row, console, done, show_json, show_pairs, show_rows, when
from moongate.control.clients import CLIENTS

app = verbs("What callers show: made for a user, for one instance or several.")

Id = Annotated[str, typer.Argument(metavar="ID", help="tok_..., as `list` shows it.", show_default=False)]


def _state(row: Row) -> str:
    return "expired" if row["expired"] else "enabled" if row["enabled"] else "disabled"


def _instances(row: Row) -> str:
    return "all" if row["instances"] is None else ", ".join(row["instances"]) or "none"


COLUMNS = (
    Column("id", lambda row: row["id"], needed=True),
    Column("user", lambda row: row["user"], needed=True),
    Column("instances", _instances, needed=True),
    Column("state", _state, needed=True),
    Column("expires", lambda row: when(row["expires"]) if row["expires"] else "never"),
    Column("last used", lambda row: when(row["lastUsed"]) if row["lastUsed"] else "never"),
    Column("name", lambda row: row["name"]),
    Column("tags", lambda row: row["tags"]),
    Column("fingerprint", lambda row: row["fingerprint"]),
)


@dataclass(frozen=True, kw_only=True)
class ListFlags(Where):
    """What `list` is asked for."""

    words: Annotated[str | None, typer.Option("-q", "--query", help="Its id, fingerprint or name.")] = None
    user: Annotated[str | None, typer.Option(help="Of this user.")] = None
    instance: Annotated[str | None, typer.Option(help="Good for this instance.")] = None
    tag: Annotated[str | None, typer.Option(help="With this tag.")] = None


@dataclass(frozen=True, kw_only=True)
class TokenFlags(Where):
    """What is known of a token."""

    instance: Annotated[
        list[str] | None, typer.Option("--instance", help="Good for this one only; may be repeated. Default: all.")
    ] = None
    expires: Annotated[
        str | None, typer.Option(metavar="WHEN", help="2027-01-31, 90d, 12h or never (the default).")
    ] = None
    label: Annotated[str | None, typer.Option("--name", help="What it is for.")] = None
    tag: Annotated[list[str] | None, typer.Option("--tag", help="May be repeated.")] = None


@dataclass(frozen=True, kw_only=True)
class CreateFlags(TokenFlags):
    """A new token."""

    user: Annotated[str, typer.Argument(metavar="USER", show_default=False)]
    client: Annotated[
        str | None,
        typer.Option(metavar="CLIENT", help=f"Print the configuration of another client: {', '.join(CLIENTS)}."),
    ] = None


@dataclass(frozen=True, kw_only=True)
class IdFlags(Where):
    """One token."""

    token: Id


@dataclass(frozen=True, kw_only=True)
class EditFlags(TokenFlags, IdFlags):
    """What is changed."""

    all_instances: Annotated[bool, typer.Option("--all-instances", help="Good for all of them.")] = False


@dataclass(frozen=True, kw_only=True)
class DeleteFlags(IdFlags):
    """One token, for good."""

    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False


@app.command("list")
@takes(ListFlags)
def list_tokens(context: typer.Context, flags: ListFlags) -> None:  # noqa: ARG001 - what `takes` hands over
    """Show all tokens, or those that fit; never their values."""

    async def work(api: Api) -> None:
        found = await api.all("/tokens", q=flags.words, user=flags.user, instance=flags.instance, tag=flags.tag)
        if flags.as_json:
            show_json(found)
        else:
            show_rows(found, COLUMNS, "There is no token. Make one: moongate token create USER")

    call(flags, work)


@app.command()
@takes(CreateFlags)
def create(context: typer.Context, flags: CreateFlags) -> None:  # noqa: ARG001 - what `takes` hands over
    """Make a token. Its value is printed now and never again, with what goes into the client."""
    doors.check(flags.client)
    body = {"user": flags.user, "instances": None, "expires": None, **_given(flags)}

    async def work(api: Api) -> None:
        made = await api.send("POST", "/tokens", body)
        found = await _snippets(api, body["instances"], made["value"], flags.client)
        if flags.as_json:
            show_json({**made, "clients": found})
            return
        _answer(flags, made["token"])
        out = console()
        out.print("\nThe token, which is not shown again:", style="bold")
        print(made["value"])
        if found:
            out.print()
            doors.show(found)

    call(flags, work)


@app.command()
@takes(EditFlags)
def edit(context: typer.Context, flags: EditFlags) -> None:  # noqa: ARG001 - what `takes` hands over
    """Change what is given, keep the rest."""
    patch = _given(flags)
    if flags.all_instances:
        patch["instances"] = None
    if not patch:
        usage("nothing is changed; name what is, such as --expires", "edit")
    call(flags, _patched(flags, patch))


@app.command()
@takes(IdFlags)
def enable(context: typer.Context, flags: IdFlags) -> None:  # noqa: ARG001 - what `takes` hands over
    """Let a token work (again)."""
    call(flags, _patched(flags, {"enabled": True}))


@app.command()
@takes(IdFlags)
def disable(context: typer.Context, flags: IdFlags) -> None:  # noqa: ARG001 - what `takes` hands over
    """Refuse a token from now on, without deleting it."""
    call(flags, _patched(flags, {"enabled": False}))


@app.command()
@takes(DeleteFlags)
def delete(context: typer.Context, flags: DeleteFlags) -> None:  # noqa: ARG001 - what `takes` hands over
    """Delete a token: it is refused within a second."""
    confirm(f"Delete the token {flags.token}?", yes=flags.yes)

    async def work(api: Api) -> None:
        await api.send("DELETE", path_of("tokens", flags.token))
        done(f"{flags.token} is deleted")

    call(flags, work)


def _patched(flags: IdFlags, patch: dict[str, Any]) -> Callable[[Api], Awaitable[None]]:
    async def work(api: Api) -> None:
        _answer(flags, await api.send("PATCH", path_of("tokens", flags.token), patch))

    return work


async def _snippets(api: Api, names: list[str] | None, value: str, client: str | None) -> list[dict[str, Any]]:
    """For the first instance that the token is good for; for a token of all, only when a client is named."""
    if names is None and client is None:
        return []
    try:
        if names:
            instance = await api.get(path_of("instances", names[0]))
        else:
            instance = (await api.get("/instances", limit=1))["items"][0]
    except (Problem, IndexError):
        return []  # the token was made, and that is what must be shown
    return doors.with_token(instance, value, client)


def _given(flags: TokenFlags) -> dict[str, Any]:
    values: dict[str, Any] = {"name": flags.label, "tags": flags.tag, "instances": flags.instance}
    found = {key: value for key, value in values.items() if value is not None}
    if flags.expires is not None:
        found["expires"] = moment(flags.expires)
    return found


def _answer(flags: Where, found: dict[str, Any]) -> None:
    if flags.as_json:
        show_json(found)
        return
    show_pairs(
        (
            ("id", found["id"]),
            ("user", found["user"]),
            ("name", found["name"]),
            ("instances", _instances(found)),
            ("expires", when(found["expires"]) if found["expires"] else "never"),
            ("state", _state(found)),
            ("tags", found["tags"]),
            ("fingerprint", found["fingerprint"]),
            ("last used", when(found["lastUsed"]) if found["lastUsed"] else "never"),
        )
    )
