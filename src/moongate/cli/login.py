"""`moongate login-link`: into the console without a password, once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from moongate.cli.api import Api, Where, call
from moongate.cli.flags import takes, verbs
from moongate.cli.tables import console, show_json, when

app = verbs("A one-time link to the console.")


@dataclass(frozen=True, kw_only=True)
class LinkFlags(Where):
    """What the link is good for."""

    role: Annotated[str, typer.Option(metavar="ROLE", help="admin, operator or auditor.")] = "admin"
    minutes: Annotated[int, typer.Option(min=1, max=24 * 60, help="How long it is good.")] = 10


@app.command("login-link")
@takes(LinkFlags)
def login_link(context: typer.Context, flags: LinkFlags) -> None:  # noqa: ARG001 - what `takes` hands over
    """Print a fresh one-time link to the console."""

    async def work(api: Api) -> None:
        made = await api.send("POST", "/sign-in-codes", {"role": flags.role, "seconds": flags.minutes * 60})
        if flags.as_json:
            show_json(made)
            return
        print(made.get("link") or f"/sign-in#code={made['code']}")
        note = f"Good once, until {when(made['expires'])}."
        if not made.get("link"):
            note += " Put the address of the console in front of it, which the gateway prints at its start."
        console(stderr=True).print(note)

    call(flags, work)
