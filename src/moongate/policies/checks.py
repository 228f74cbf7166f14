"""What is left of a condition for one tool: a few comparisons of arguments, made here instead of by the library.

A check says true or false only where the library would say the same, and otherwise None: then the library is asked. So
it knows neither errors nor conversions: a member that is missing or of an unusual type is simply not for it.
`fold` is called once for each remembered decision, `ask` in every call.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any, Final

# Beyond these a comparison of an integer with a double is not exact.
EXACT: Final = 2**53

COMPARISONS: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
TEXTS: Final[dict[str, Callable[[str, str], bool]]] = {
    **COMPARISONS,
    "startsWith": str.startswith,
    "endsWith": str.endswith,
    "contains": operator.contains,
}

Arguments = dict[str, object]


class Check:
    """A part of a condition."""

    def fold(self, values: Mapping[str, object]) -> Check:
        """What is left of it where these variables are known: all but those that change from call to call."""
        del values
        return self

    def ask(self, arguments: Arguments) -> bool | None:
        """Whether it is true of these arguments; None: the library must be asked."""
        raise NotImplementedError


class Always(Check):
    """What does not depend on the arguments (any more)."""

    def __init__(self, held: bool | None) -> None:
        self.held: bool | None = held

    def ask(self, arguments: Arguments) -> bool | None:
        del arguments
        return self.held


class Known(Check):
    """What reads only what is known before the call, whatever it is: `judge` asks the library."""

    def __init__(self, judge: Callable[[Mapping[str, object]], bool | None]) -> None:
        self.judge: Callable[[Mapping[str, object]], bool | None] = judge

    def fold(self, values: Mapping[str, object]) -> Check:
        return Always(self.judge(values))

    def ask(self, arguments: Arguments) -> bool | None:
        del arguments
        return None


class Every(Check):
    """`&&`."""

    def __init__(self, parts: list[Check]) -> None:
        self.parts: list[Check] = parts

    def fold(self, values: Mapping[str, object]) -> Check:
        left, decided = _folded(self.parts, values, other=False)
        return left[0] if len(left) == 1 else decided or Every(left)

    def ask(self, arguments: Arguments) -> bool | None:
        for part in self.parts:
            held = part.ask(arguments)
            if held is not True:
                return held
        return True


class Some(Check):
    """`||`."""

    def __init__(self, parts: list[Check]) -> None:
        self.parts: list[Check] = parts

    def fold(self, values: Mapping[str, object]) -> Check:
        left, decided = _folded(self.parts, values, other=True)
        return left[0] if len(left) == 1 else decided or Some(left)

    def ask(self, arguments: Arguments) -> bool | None:
        for part in self.parts:
            held = part.ask(arguments)
            if held is not False:
                return held
        return False


def _folded(parts: list[Check], values: Mapping[str, object], *, other: bool) -> tuple[list[Check], Always | None]:
    """What is left of the parts, and what they say, if that is known: one that is `other` decides for all."""
    left: list[Check] = []
    for part in parts:
        found = part.fold(values)
        if isinstance(found, Always) and found.held is other:
            return [], found
        if not isinstance(found, Always) or found.held is None:
            left.append(found)
    return left, None if left else Always(not other)


class Not(Check):
    """`!`."""

    def __init__(self, part: Check) -> None:
        self.part: Check = part

    def fold(self, values: Mapping[str, object]) -> Check:
        found = self.part.fold(values)
        if isinstance(found, Always):
            return found if found.held is None else Always(not found.held)
        return Not(found)

    def ask(self, arguments: Arguments) -> bool | None:
        held = self.part.ask(arguments)
        return None if held is None else not held


class OfMember(Check):
    """What looks at one member of the arguments. `path` leads to it, from object to object."""

    def __init__(self, path: list[str]) -> None:
        self.name: str = path[0]
        self.below: list[str] = path[1:]

    def ask(self, arguments: Arguments) -> bool | None:
        value = arguments.get(self.name, self)  # itself where there is none: that is of no type that is looked for
        for name in self.below:
            if type(value) is not dict:
                return None
            value = value.get(name, self)
        return self.holds(value)

    def holds(self, value: object) -> bool | None:
        """Whether it is true of the member's value; None: the library must be asked."""
        raise NotImplementedError


class IsTrue(OfMember):
    """The member alone."""

    def holds(self, value: object) -> bool | None:
        return value if isinstance(value, bool) else None


class Has(Check):
    """`has(...)`; only the last member may be missing."""

    def __init__(self, path: list[str]) -> None:
        self.holders: list[str] = path[:-1]
        self.name: str = path[-1]

    def ask(self, arguments: Arguments) -> bool | None:
        found: dict[str, object] = arguments
        for name in self.holders:
            value = found.get(name)
            if type(value) is not dict:
                return None
            found = value
        return self.name in found


class OfWhole(OfMember):
    """A comparison with a whole number."""

    def __init__(self, path: list[str], operation: str, number: int) -> None:
        super().__init__(path)
        self.compare: Callable[[Any, Any], bool] = COMPARISONS[operation]
        self.number: int = number
        self.exact: bool = -EXACT <= number <= EXACT

    def holds(self, value: object) -> bool | None:
        if type(value) is int or (self.exact and type(value) is float):
            return self.compare(value, self.number)
        return None


class OfDouble(OfMember):
    """A comparison with a double."""

    def __init__(self, path: list[str], operation: str, number: float) -> None:
        super().__init__(path)
        self.compare: Callable[[Any, Any], bool] = COMPARISONS[operation]
        self.number: float = number

    def holds(self, value: object) -> bool | None:
        if type(value) is float or (type(value) is int and -EXACT <= value <= EXACT):
            return self.compare(value, self.number)
        return None


class OfText(OfMember):
    """A comparison with a text, or a question such as `startsWith`. Texts are in the order of their characters."""

    def __init__(self, path: list[str], operation: str, text: str) -> None:
        super().__init__(path)
        self.compare: Callable[[str, str], bool] = TEXTS[operation]
        self.text: str = text

    def holds(self, value: object) -> bool | None:
        return self.compare(value, self.text) if isinstance(value, str) else None


class OfKnown(OfMember):
    """The same with a text that is known before the call: `known` asks the library."""

    def __init__(self, path: list[str], operation: str, known: Callable[[Mapping[str, object]], object]) -> None:
        super().__init__(path)
        self.path: list[str] = path
        self.operation: str = operation
        self.known: Callable[[Mapping[str, object]], object] = known

    def fold(self, values: Mapping[str, object]) -> Check:
        found = self.known(values)
        return OfText(self.path, self.operation, found) if isinstance(found, str) else Always(None)

    def holds(self, value: object) -> bool | None:
        del value
        return None


class OfConstant(OfMember):
    """`==` and `!=` with true, false or null."""

    def __init__(self, path: list[str], operation: str, constant: bool | None) -> None:
        super().__init__(path)
        self.same: bool = operation == "=="
        self.constant: bool | None = constant

    def holds(self, value: object) -> bool | None:
        if value is not None and not isinstance(value, (bool, int, float, str)):
            return None
        return (value is self.constant) is self.same


class OneOf(OfMember):
    """`in` a list of texts, or of whole numbers."""

    def __init__(self, path: list[str], texts: frozenset[str], numbers: frozenset[int]) -> None:
        super().__init__(path)
        self.texts: frozenset[str] = texts
        self.numbers: frozenset[int] = numbers

    def holds(self, value: object) -> bool | None:
        if isinstance(value, str):
            return value in self.texts
        return value in self.numbers if type(value) is int else None


class Includes(OfMember):
    """A text `in` the member, which is a list."""

    def __init__(self, path: list[str], text: str) -> None:
        super().__init__(path)
        self.text: str = text

    def holds(self, value: object) -> bool | None:
        return self.text in value if isinstance(value, list) else None


class Size(OfMember):
    """`size` compared with a number. The library counts the bytes of texts: it is asked where they are not ASCII."""

    def __init__(self, path: list[str], operation: str, number: int) -> None:
        super().__init__(path)
        self.compare: Callable[[Any, Any], bool] = COMPARISONS[operation]
        self.number: int = number

    def holds(self, value: object) -> bool | None:
        if isinstance(value, str):
            return self.compare(len(value), self.number) if value.isascii() else None
        if isinstance(value, (list, dict)):
            return self.compare(len(value), self.number)
        return None
