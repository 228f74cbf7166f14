"""The options of a verb as one dataclass: typer reads them off a signature, which would be a long one."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeVar, get_type_hints

import typer

Flags = TypeVar("Flags")


def takes(shape: type[Flags]) -> Callable[[Callable[[typer.Context, Flags], None]], Callable[..., None]]:
    """A verb that is given its options as a `shape`: a dataclass whose annotations are typer's."""
    hints = get_type_hints(shape, include_extras=True)
    given = inspect.signature(shape).parameters.values()
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
