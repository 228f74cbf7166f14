"""The words of a command line that name one server: an address, or `--` and a command."""

from __future__ import annotations

from typing import Any, Literal, get_args

import typer
from typer.core import TyperCommand

from moongate.control.line import Line, is_address

Transport = Literal["auto", "streamable-http", "sse"]
TRANSPORTS: tuple[Transport, ...] = get_args(Transport)
_DASHES = "moongate.dashes"


class WordsCommand(TyperCommand):
    """A verb that takes a command after `--`, which is all that tells the command's options from our own."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401 - typer does not export its context's base
        """Refuses a command without `--` before it can be misread."""
        ctx.meta[_DASHES] = "--" in args
        if "--" not in args and (word := self._first_word(args)) is not None and not is_address(word):
            text = (
                f"{word!r} is not an address, which begins with http:// or https://. To run a command, write -- in "
                f"front of it: moongate {self.name} -- {word} ..."
            )
            raise typer.BadParameter(text, ctx=ctx)
        return super().parse_args(ctx, args)

    def _first_word(self, args: list[str]) -> str | None:
        """The first that is neither an option nor an option's value."""
        valued = {name for param in self.params if not getattr(param, "is_flag", False) for name in param.opts}
        befores = ["", *args]
        words = (word for word, before in zip(args, befores, strict=False) if before not in valued)
        return next((word for word in words if not word.startswith("-")), None)


def read_words(context: typer.Context, words: list[str], headers: list[str], transport: str) -> Line | None:
    """The one server; None if no word names one. Raises BadParameter for what does not fit together."""
    chosen = next((known for known in TRANSPORTS if known == transport), None)
    if chosen is None:
        text = f"{transport!r} is not one of {', '.join(TRANSPORTS)}"
        raise typer.BadParameter(text, param_hint="--transport")
    if words and is_address(words[0]):
        if len(words) > 1:
            raise typer.BadParameter("one address, or -- and a command; several servers stand in a file (-f)")
        return Line(url=words[0], headers=tuple(headers), transport=chosen)
    for option, given in (("--header", bool(headers)), ("--transport", chosen != "auto")):
        if given:
            why = "a command is spoken to over stdio" if words else "there is none"
            raise typer.BadParameter(f"goes with an address, and {why}", param_hint=option)
    if context.meta.get(_DASHES) and not words:
        raise typer.BadParameter("after -- a command is expected, such as: -- uvx mcp-server-time")
    return Line(command=tuple(words)) if words else None
