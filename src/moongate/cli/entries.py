"""From options to the configuration of an instance: an entry of `mcpServers`, as files hold it."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from moongate.cli import given
from moongate.cli.flags import usage

HOSTED = ("command", "args", "env", "cwd", "isolation")
REACHED = ("url", "type", "transport", "headers", "timeout", "sseReadTimeout")


@dataclass(frozen=True, kw_only=True)
class EntryFlags:
    """The options that become a configuration."""

    url: Annotated[
        str | None, typer.Option(metavar="URL", help="Proxy mode: the server's address.", show_default=False)
    ] = None
    transport: Annotated[
        str | None, typer.Option(metavar="NAME", help="streamable-http or sse. Default: what the server speaks.")
    ] = None
    header: Annotated[
        list[str] | None,
        typer.Option(
            "--header",
            metavar="'NAME: VALUE'",
            help="Sent to the server. ${NAME} is a variable of your environment, ${file:PATH} a file, ${prompt} asks. "
            "May be repeated.",
        ),
    ] = None
    timeout: Annotated[int | None, typer.Option(metavar="MS", help="Milliseconds to the first byte.")] = None
    sse_read_timeout: Annotated[int | None, typer.Option(metavar="MS", help="Milliseconds of silence.")] = None
    env: Annotated[
        list[str] | None,
        typer.Option(
            "--env", metavar="NAME[=VALUE]", help="Hosted mode: a variable of the command; ${...} as in --header."
        ),
    ] = None
    cwd: Annotated[str | None, typer.Option(metavar="DIR", help="Hosted mode: where the command runs.")] = None
    isolation: Annotated[
        str | None, typer.Option(metavar="KIND", help="Hosted mode: session, principal or shared.")
    ] = None
    auth: Annotated[str | None, typer.Option(metavar="required | off", help="Whether callers need a token.")] = None
    config: Annotated[
        str | None, typer.Option(metavar="FILE | -", help="The entry as JSON; the options above go on top of it.")
    ] = None
    notes: Annotated[str | None, typer.Option(help="What people should know.")] = None
    tag: Annotated[list[str] | None, typer.Option("--tag", help="May be repeated.")] = None
    icon: Annotated[str | None, typer.Option(help="A picture for the console.")] = None


def config(flags: EntryFlags, command: tuple[str, ...], environ: Mapping[str, str]) -> dict[str, Any]:
    """A new configuration. Exits with 2 if nothing says what to reach or run."""
    found = changed({}, flags, command, environ)
    if not ({"url", "command"} & found.keys()):
        usage("is needed, or -- COMMAND ARGS for a server that the gateway runs", "--url")
    return found


def changed(
    before: Mapping[str, Any], flags: EntryFlags, command: tuple[str, ...], environ: Mapping[str, str]
) -> dict[str, Any]:
    """A configuration with what is given put in; what only the other mode knows goes when the mode changes."""
    found = copy.deepcopy(dict(before)) if flags.config is None else given.read_object(flags.config, "--config")
    if flags.url is not None and command:
        usage("either an address, or -- and a command", "--url")
    if flags.url is not None:
        found = {key: value for key, value in found.items() if key not in HOSTED}
        found["url"] = given.put_in(flags.url, environ, "--url")
    if command:
        found = {key: value for key, value in found.items() if key not in (*REACHED, "args")}
        found["command"], arguments = command[0], list(command[1:])
        if arguments:
            found["args"] = arguments
    if flags.header:
        found["headers"] = _merged(found.get("headers"), given.headers(flags.header, environ))
    if flags.env:
        found["env"] = {**(found.get("env") or {}), **given.variables(flags.env, environ)}
    if flags.transport is not None:
        found.pop("transport", None)
        found["type"] = flags.transport
    simple = {
        "timeout": flags.timeout,
        "sseReadTimeout": flags.sse_read_timeout,
        "cwd": flags.cwd,
        "isolation": flags.isolation,
        "auth": flags.auth,
    }
    return {**found, **{key: value for key, value in simple.items() if value is not None}}


def _merged(before: Mapping[str, str] | None, new: Mapping[str, str]) -> dict[str, str]:
    """Header names are the same in any case."""
    names = {name.lower() for name in new}
    return {**{name: value for name, value in (before or {}).items() if name.lower() not in names}, **new}


def remove(config: dict[str, Any], keys: Iterable[str]) -> None:
    """Leave out `timeout`, `headers.X-Key` and the like, in place. Exits with 2 for what is not there."""
    for key in keys:
        first, dot, rest = key.partition(".")
        block = config.get(first) if dot else config
        name = rest if dot else first
        if not isinstance(block, dict) or name not in block:
            usage(f"{key!r} is not in the configuration", "--remove")
        del block[name]
