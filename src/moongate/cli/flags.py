"""Options that several verbs share, and the options of a verb as one dataclass: typer reads them off a signature, which
would be a long one.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar, get_type_hints

import typer

from moongate.cli.words import TRANSPORTS

Flags = TypeVar("Flags")

Files = Annotated[
    list[Path] | None, typer.Option("-f", "--file", help="Configuration (YAML or JSON); may be repeated.")
]
Host = Annotated[
    str | None,
    typer.Option(help="Address to listen on, for every listener. Default: this machine only (127.0.0.1, ::1)."),
]
Port = Annotated[int | None, typer.Option(help="Port of the mcpServers instances (0: any free one). Default: 8000.")]
DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        envvar="MOONGATE_DATA_DIR",
        help="Key and journal. Default: ~/.local/share/moongate.",
        show_default=False,
    ),
]
Headers = Annotated[
    list[str] | None,
    typer.Option(
        "--header",
        metavar="'NAME: VALUE'",
        help="With URL: sent with every request; ${NAME} is an environment variable. May be repeated.",
    ),
]
Transport = Annotated[str, typer.Option(metavar="NAME", help=f"With URL: {', '.join(TRANSPORTS)}.")]
LogLevel = Annotated[str, typer.Option(help="debug, info, warning or error.")]
LEVELS = ("debug", "info", "warning", "error")


def check_level(level: str) -> str:
    """A level of the log. Raises BadParameter."""
    if level not in LEVELS:
        raise typer.BadParameter(f"{level!r} is not one of {', '.join(LEVELS)}", param_hint="--log-level")
    return level


def usage(text: str, option: str) -> NoReturn:
    """The command line is wrong: exit code 2."""
    raise typer.BadParameter(text, param_hint=option)


def verbs(about: str) -> typer.Typer:
    """An app for the verbs of one module."""
    return typer.Typer(help=about, no_args_is_help=True, add_completion=False, rich_markup_mode=None)


def takes(shape: type[Flags]) -> Callable[[Callable[[typer.Context, Flags], None]], Callable[..., None]]:
    """A verb that is given its options as a `shape`: a dataclass whose annotations are typer's. Inherited ones come
    last in the help.
    """
    hints = get_type_hints(shape, include_extras=True)
    own = inspect.get_annotations(shape)
    given = sorted(inspect.signature(shape).parameters.values(), key=lambda field: field.name not in own)
    fields = [field.replace(annotation=hints[field.name], kind=inspect.Parameter.KEYWORD_ONLY) for field in given]
    context = inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)

    def decorate(verb: Callable[[typer.Context, Flags], None]) -> Callable[..., None]:
        def run(*, context: typer.Context, **values: Any) -> None:  # noqa: ANN401 - what typer has parsed
            verb(context, shape(**values))

        run.__name__, run.__doc__ = verb.__name__, verb.__doc__
        run.__annotations__ = {"context": typer.Context, **hints}
        vars(run)["__signature__"] = inspect.Signature([context, *fields])
        return run

    return decorate
