"""Simple conditions, read into checks: comparisons of arguments with literals, joined by `&&`, `||` and `!`.

What reads no arguments may be anything: the library is asked about it, once. Whatever else is not known here for
certain makes the whole condition the library's.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final

from moongate.policies.checks import (
    COMPARISONS,
    TEXTS,
    Check,
    Every,
    Has,
    Includes,
    IsTrue,
    Known,
    Not,
    OfConstant,
    OfDouble,
    OfKnown,
    OfText,
    OfWhole,
    OneOf,
    Size,
    Some,
)

# Compiles an expression. What it gives takes the values of variables, and gives that of the expression.
Ask = Callable[[Mapping[str, object]], object]
Compile = Callable[[str], Ask]

_TOKEN: Final = re.compile(
    r"""
    [ \t\r\n]* (?:
      (?P<text>"[^"\\\r\n]*" | '[^'\\\r\n]*')
    | (?P<number>(?:0|[1-9][0-9]*)(?:\.[0-9]+(?:[eE][+-]?[0-9]+)?)?)(?![\w.])
    | (?P<name>[A-Za-z_][A-Za-z0-9_]*)
    | (?P<sign>&& | \|\| | [=!<>]= | [<>!()\[\]{},.?:+*%-])
    )
    """,
    re.VERBOSE,
)
# Texts may hold anything there, quotes included.
_LONG: Final = ('"""', "'''")
_CHANGING: Final = frozenset({"arguments", "headers", "now"})
# Texts that are known before the call, and what joins them.
_TEXTS: Final = frozenset({"method", "tool", "prompt", "resource", "source", "instance", "principal", "+", "."})
_OF_PRINCIPAL: Final = frozenset({"name", "token"})
_OPERATIONS: Final = frozenset({*COMPARISONS, "in"})
_METHODS: Final = frozenset(TEXTS) - frozenset(COMPARISONS)
_TURNED: Final = {"==": "==", "!=": "!=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}
_CONSTANTS: Final[dict[str, bool | None]] = {"true": True, "false": False, "null": None}
_OPENING: Final = frozenset("([{")
_CLOSING: Final = frozenset(")]}")


class _NotSimpleError(ValueError):
    """It is the library's."""


def read_simple(text: str, compile_: Compile) -> Check | None:
    """What checks an expression, which is one; None if it is not simple. `compile_` may raise ValueError."""
    if any(quotes in text for quotes in _LONG):
        return None
    try:
        reader = _Reader(text, compile_)
        return reader.either(0, len(reader.tokens))
    except (ValueError, RecursionError):
        return None


class _Reader:
    """Ranges of tokens are numbers of the first and of the one behind the last."""

    def __init__(self, text: str, compile_: Compile) -> None:
        self._text = text
        self._compile = compile_
        self.tokens: list[str] = []
        self._spans: list[tuple[int, int]] = []
        self._depths: list[int] = []
        at, depth, end = 0, 0, len(text.rstrip(" \t\r\n"))
        while at < end:
            found = _TOKEN.match(text, at)
            if found is None or found.lastgroup is None:
                raise _NotSimpleError
            token = found[found.lastgroup]
            depth -= token in _CLOSING
            self.tokens.append(token)
            self._spans.append(found.span(found.lastgroup))
            self._depths.append(depth)
            depth += token in _OPENING
            at = found.end()

    def either(self, start: int, end: int) -> Check:
        """An expression: `||` of `&&`."""
        if start == end or self._stand(start, end, frozenset("?:")):
            raise _NotSimpleError
        found = [self._both(*part) for part in self._parts(start, end, "||")]
        return found[0] if len(found) == 1 else Some(found)

    def _both(self, start: int, end: int) -> Check:
        found = [self._one(*part) for part in self._parts(start, end, "&&")]
        return found[0] if len(found) == 1 else Every(found)

    def _one(self, start: int, end: int) -> Check:
        if start >= end:
            raise _NotSimpleError
        if _CHANGING.isdisjoint(self.tokens[start:end]):
            return self._known(start, end)
        operations = self._stand(start, end, _OPERATIONS)
        if len(operations) == 1:
            at = operations[0]
            return self._relation((start, at), self.tokens[at], (at + 1, end))
        if operations:
            raise _NotSimpleError
        if self.tokens[start] == "!":
            return Not(self._one(start + 1, end))
        if self.tokens[start] == "(" and self._closes(start, end):
            return self.either(start + 1, end - 1)
        return self._question(start, end)

    def _known(self, start: int, end: int) -> Check:
        ask = self._compile(self._written(start, end))

        def judge(values: Mapping[str, object]) -> bool | None:
            found = ask(values)
            return found if isinstance(found, bool) else None

        return Known(judge)

    def _question(self, start: int, end: int) -> Check:
        """What stands without an operator: `has(...)`, a method of a text, or a member."""
        tokens = self.tokens
        if tokens[start : start + 2] == ["has", "("] and self._closes(start + 1, end):
            return Has(self._needed(start + 2, end - 1))
        if tokens[end - 1] != ")":
            return IsTrue(self._needed(start, end))
        opening = end - 2
        while opening > start and self._depths[opening] > self._depths[end - 1]:
            opening -= 1
        method = tokens[opening - 1]
        if tokens[opening] != "(" or method not in _METHODS or opening - 2 <= start or tokens[opening - 2] != ".":
            raise _NotSimpleError
        return self._of_text(self._needed(start, opening - 2), method, (opening + 1, end - 1))

    def _relation(self, left: tuple[int, int], operation: str, right: tuple[int, int]) -> Check:
        path = self._path(*left)
        if operation == "in":
            if path is not None:
                return self._one_of(path, right)
            return Includes(self._needed(*right), self._text_at(*left))
        sized = None if path is not None else self._sized(*left)
        if path is None and sized is None:
            left, operation, right = right, _TURNED[operation], left
            path, sized = self._path(*left), self._sized(*left)
        if sized is not None:
            return Size(sized, operation, int(self._number(*right)))
        if path is None:
            raise _NotSimpleError
        return self._compared(path, operation, right)

    def _compared(self, path: list[str], operation: str, with_: tuple[int, int]) -> Check:
        start, end = with_
        token = self.tokens[start] if start < end else ""
        if token[:1] == "-" or token[:1].isdigit():
            number = self._number(start, end)
            if "." in number:
                return OfDouble(path, operation, float(number))
            return OfWhole(path, operation, int(number))
        if token in _CONSTANTS:
            if end - start != 1 or operation not in {"==", "!="}:
                raise _NotSimpleError
            return OfConstant(path, operation, _CONSTANTS[token])
        return self._of_text(path, operation, with_)

    def _of_text(self, path: list[str], operation: str, with_: tuple[int, int]) -> Check:
        start, end = with_
        if end - start == 1 and self.tokens[start][0] in "\"'":
            return OfText(path, operation, self._text_at(start, end))
        for number in range(start, end):
            token = self.tokens[number]
            of_principal = token in _OF_PRINCIPAL and self.tokens[number - 2 : number] == ["principal", "."]
            if token not in _TEXTS and token[0] not in "\"'" and not of_principal:
                raise _NotSimpleError
        return OfKnown(path, operation, self._compile(self._written(start, end)))

    def _one_of(self, path: list[str], list_: tuple[int, int]) -> Check:
        start, end = list_
        if end - start < 3 or self.tokens[start] != "[" or not self._closes(start, end):
            raise _NotSimpleError
        parts = self._parts(start + 1, end - 1, ",")
        if all(self.tokens[first : first + 1] and self.tokens[first][0] in "\"'" for first, _ in parts):
            return OneOf(path, frozenset(self._text_at(*part) for part in parts), frozenset())
        return OneOf(path, frozenset(), frozenset(int(self._number(*part)) for part in parts))

    # -- the smallest parts

    def _path(self, start: int, end: int) -> list[str] | None:
        """The members that lead to a value of the arguments; None if it is none."""
        tokens = self.tokens[start:end]
        if len(tokens) < 3 or tokens[0] != "arguments":
            return None
        path: list[str] = []
        at = 1
        while at < len(tokens):
            if tokens[at] == "." and tokens[at + 1 : at + 2] and tokens[at + 1][0] not in "\"'":
                path.append(tokens[at + 1])
                at += 2
            elif tokens[at] == "[" and tokens[at + 2 : at + 3] == ["]"] and tokens[at + 1][0] in "\"'":
                path.append(tokens[at + 1][1:-1])
                at += 3
            else:
                return None
        return path

    def _needed(self, start: int, end: int) -> list[str]:
        path = self._path(start, end)
        if path is None:
            raise _NotSimpleError
        return path

    def _sized(self, start: int, end: int) -> list[str] | None:
        """The members that lead to what `size` is asked of, in one of its two forms."""
        tokens = self.tokens
        if tokens[start : start + 2] == ["size", "("] and self._closes(start + 1, end):
            return self._path(start + 2, end - 1)
        if end - start > 4 and tokens[end - 4 : end] == [".", "size", "(", ")"]:
            return self._path(start, end - 4)
        return None

    def _number(self, start: int, end: int) -> str:
        """As it is written; one that is not whole has a point, and is a ValueError to who needs a whole one."""
        minus = start < end and self.tokens[start] == "-"
        if end - start != 1 + minus or not self.tokens[end - 1][0].isdigit():
            raise _NotSimpleError
        return ("-" if minus else "") + self.tokens[end - 1]

    def _text_at(self, start: int, end: int) -> str:
        if end - start != 1 or self.tokens[start][0] not in "\"'":
            raise _NotSimpleError
        return self.tokens[start][1:-1]

    # -- where things stand

    def _written(self, start: int, end: int) -> str:
        return self._text[self._spans[start][0] : self._spans[end - 1][1]]

    def _stand(self, start: int, end: int, tokens: frozenset[str]) -> list[int]:
        """Where any of these stands outside of brackets."""
        depth = self._depths[start]
        return [at for at in range(start, end) if self._depths[at] == depth and self.tokens[at] in tokens]

    def _parts(self, start: int, end: int, parting: str) -> list[tuple[int, int]]:
        """What a token outside of brackets parts."""
        found = []
        for at in self._stand(start, end, frozenset({parting})) if start < end else ():
            found.append((start, at))
            start = at + 1
        return [*found, (start, end)]

    def _closes(self, opening: int, end: int) -> bool:
        """Whether a bracket is closed by the last token before `end`."""
        depth = self._depths[opening]
        closing = next((at for at in range(opening + 1, end) if self._depths[at] == depth), end)
        return closing == end - 1
