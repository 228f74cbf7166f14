"""Verbs whose modules are read when they are called: `moongate serve` runs for months and must not carry them.

The only place of the project that imports by name (docs/decisions: verbs are loaded when they are called). What it may
load stands in VERBS, where `tests/architecture` looks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup

# A data directory, an environment, the gateway's files; an application and the headers of its administrator.
LocalApp = Callable[
    [Path, Mapping[str, str], tuple[Path, ...]], AbstractAsyncContextManager[tuple[Any, dict[str, str]]]
]


class Verb(NamedTuple):
    """Where a verb is: `module` has an `app`, which is the verb itself or has a command of that name. `help` is what
    the list of verbs says.
    """

    module: str
    help: str


VERBS: dict[str, Verb] = {
    "serve": Verb("moongate.cli.serving", "Run the gateway until SIGTERM or Ctrl-C."),
    "check": Verb("moongate.cli.offline", "Judge configuration files without starting anything."),
    "explain": Verb("moongate.cli.offline", "Say what becomes of a request, policy by policy, and why."),
    "schema": Verb("moongate.cli.offline", "Print the JSON Schema of the configuration, for editors."),
    "connect": Verb("moongate.cli.door", "Speak stdio to the client that starts this, and HTTP to a server."),
    "instance": Verb("moongate.cli.instance", "The servers behind the gateway: create, change, test, hand out."),
    "user": Verb("moongate.cli.user", "Who may call."),
    "token": Verb("moongate.cli.token", "What callers show: made for a user, for one instance or several."),
    "access": Verb("moongate.cli.access", "The access rules that hold for all instances."),
    "audit": Verb("moongate.cli.audit", "The record of every call: find, follow, export, verify."),
    "operator": Verb("moongate.cli.operator", "Who may change all this, and with which role."),
    "apikey": Verb("moongate.cli.apikey", "Keys of programs that use the API."),
    "import": Verb("moongate.cli.importing", "Take over the servers of a client's or another gateway's file."),
    "export": Verb("moongate.cli.exporting", "Write all instances as a file, without secrets."),
    "login-link": Verb("moongate.cli.login", "A fresh one-time link to the console."),
}


# The application of the API and all that it stands on, for verbs that open the store themselves.
LOCAL = "moongate.platform_process"


class LazyGroup(TyperGroup):
    """The verbs of the command line; those in VERBS are stand-ins until one is called."""

    def __init__(self, **attributes: Any) -> None:  # noqa: ANN401 - whatever typer hands over
        super().__init__(**attributes)
        for name, verb in VERBS.items():
            self.commands[name] = TyperCommand(name, help=verb.help)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:  # noqa: ANN401 - typer does not export these types
        """The real verb in the place of its stand-in."""
        name, command, rest = super().resolve_command(ctx, args)
        if name in VERBS:
            command = load(name)
        return name, command, rest


def load(name: str) -> Any:  # noqa: ANN401 - typer does not export the type of a command
    """The command of a verb in VERBS."""
    app: typer.Typer = import_module(VERBS[name].module).app
    command = typer.main.get_command(app)
    inner = getattr(command, "commands", {}).get(name)
    return command if inner is None else inner


def local_app() -> LocalApp:
    """`platform_process.local_app`."""
    found: LocalApp = import_module(LOCAL).local_app
    return found
