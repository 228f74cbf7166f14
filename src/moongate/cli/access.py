"""`moongate access`: the rules that hold for all instances."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer
import yaml

from moongate.cli.api import Api, Where, call
from moongate.cli.flags import takes, usage, verbs
from moongate.cli.given import read_text
from moongate.cli.tables import console, done, safe, show_json

app = verbs("The access rules that hold for all instances; an instance's own stand in its configuration.")


@dataclass(frozen=True, kw_only=True)
class ShowFlags(Where):
    """Nothing else."""


@dataclass(frozen=True, kw_only=True)
class SetFlags(Where):
    """What holds from now on."""

    rules: Annotated[
        str | None, typer.Argument(metavar="FILE | -", help="The block `access`, YAML or JSON.", show_default=False)
    ] = None
    none: Annotated[bool, typer.Option("--none", help="Instead: no rules at all.")] = False


@app.command()
@takes(ShowFlags)
def show(context: typer.Context, flags: ShowFlags) -> None:  # noqa: ARG001 - what `takes` hands over
    """Show the rules, as `set` takes them."""

    async def work(api: Api) -> None:
        found = await api.get("/access")
        if flags.as_json:
            show_json(found)
        elif found["access"] is None:
            console().print("There are no rules: every token may do what its instances offer.")
        else:
            text = yaml.safe_dump(found["access"], sort_keys=False, allow_unicode=True)
            print("\n".join(safe(line) for line in text.rstrip("\n").split("\n")))

    call(flags, work)


@app.command("set")
@takes(SetFlags)
def set_rules(context: typer.Context, flags: SetFlags) -> None:  # noqa: ARG001 - what `takes` hands over
    """Replace the rules; they hold from the next call on."""
    if (flags.rules is None) != flags.none:
        usage("give the file that holds the rules (- for standard input), or --none", "FILE")
    block: object = None
    if flags.rules is not None:
        try:
            block = yaml.safe_load(read_text(flags.rules, "FILE"))
        except yaml.YAMLError as error:
            usage(f"{flags.rules} is neither YAML nor JSON: {safe(str(error))}", "FILE")
        if isinstance(block, dict) and set(block) == {"access"}:
            block = block["access"]
        if not isinstance(block, dict):
            usage(f"{flags.rules} must hold a block with mode and rules", "FILE")

    async def work(api: Api) -> None:
        before = await api.get("/access")
        found = await api.send("PUT", "/access", {"access": block}, revision=before.get("revision"))
        if flags.as_json:
            show_json(found)
        else:
            done("the rules are in force" if block is not None else "there are no rules any more")

    call(flags, work)
