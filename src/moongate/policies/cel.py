"""Conditions of access rules: expressions in CEL, the Common Expression Language.

An expression is read, and judged, when the configuration is; it runs when a call needs it. The library is loaded with
the first condition: who writes none does not pay for it.
"""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from types import ModuleType
from typing import TYPE_CHECKING

from moongate.model.snapshot import PolicyConfig
from moongate.policies.budget import LOOPS, is_short, judge_cost
from moongate.policies.checks import Check
from moongate.policies.simple import Ask, read_simple

VARIABLES = ("principal", "source", "instance", "method", "tool", "prompt", "resource", "arguments", "headers", "now")
# Other at each call; what reads none of them may be remembered.
CHANGING = frozenset({"arguments", "headers", "now"})
# What is known before a message is read.
OF_HEAD = frozenset({"principal", "source", "instance", "headers", "now"})
OF_PRINCIPAL = ("name", "groups", "token")
MAX_EXPRESSION = 4096

_FUNCTIONS = frozenset(
    {
        *("size", "contains", "startsWith", "endsWith", "matches", "type", "dyn", "has"),
        *LOOPS,
        *("int", "uint", "double", "string", "bytes", "timestamp", "duration"),
        *("getFullYear", "getMonth", "getDate", "getDayOfMonth", "getDayOfWeek", "getDayOfYear"),
        *("getHours", "getMinutes", "getSeconds", "getMilliseconds"),
    }
)
# Strings and comments.
_STRING = re.compile(
    r"""\"{3}.*?\"{3}|'{3}.*?'{3}|"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|//[^\n]*""",
    re.DOTALL,
)
_BOUND = re.compile(r"\.\s*(?:all|exists|exists_one|map|filter)\s*\(\s*([A-Za-z_]\w*)\s*,")
_NAME = re.compile(r"[A-Za-z_]\w*")
_OF_PRINCIPAL = re.compile(r"(?<![\w.])principal\s*\.\s*([A-Za-z_]\w*)")
_ARGUMENTS = re.compile(r"(?<![\w.])arguments(?!\w)(?:\s*\.\s*([A-Za-z_]\w*)(?!\w|\s*\())?")
_FLAT = "arguments__"
# What makes it hard to tell names from texts.
_UNUSUAL = re.compile(r"""\\|//|\"{3}|'{3}|arguments__|\.\s+arguments""")
_POSITION = re.compile(r"<input>:(\d+):(\d+): (.*)")
_EXPECTING = re.compile(r" expecting \{.*")
_FAILED = object()
_SAMPLE: dict[str, object] = {
    "principal": {"name": "", "groups": [], "token": ""},
    **dict.fromkeys(("source", "instance", "method", "tool", "prompt", "resource"), ""),
    "arguments": {},
    "headers": {},
    "now": datetime(2026, 1, 1, tzinfo=UTC),
}


def _lazily(name: str) -> ModuleType:
    """A module that is loaded when it is first used."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.loader is None:
        raise ModuleNotFoundError(name=name)
    spec.loader = importlib.util.LazyLoader(spec.loader)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


if TYPE_CHECKING:
    import cel
else:
    cel = sys.modules.get("cel") or _lazily("cel")


@dataclass(frozen=True, slots=True)
class ConditionConfig(PolicyConfig):
    """An expression that was judged. `reads`: its variables; `members`: what it reads of the arguments (None: perhaps
    all of them). `loops`: it goes through lists (once each, not within one another), so that its arguments are bounded.
    """

    source: str
    reads: frozenset[str]
    members: frozenset[str] | None = None
    loops: bool = False

    @staticmethod
    def read(text: str) -> ConditionConfig:
        """Judge an expression. Raises ValueError: what is wrong with it, and what to write."""
        if len(text) > MAX_EXPRESSION:
            message = f"must be at most {MAX_EXPRESSION} characters"
            raise ValueError(message)
        program = _compiled(text)
        cost = judge_cost(text)
        plain = _STRING.sub('""', text)
        bound = frozenset(_BOUND.findall(text))
        names = frozenset(program.variables())
        _check_names(names - bound)
        # The library has loops of other names, which it calls no functions.
        _check_functions(frozenset(program.functions()) | cost.methods)
        for member in _OF_PRINCIPAL.findall(plain):
            if member not in OF_PRINCIPAL and "principal" not in bound:
                message = f"principal has no {member}; it has {', '.join(OF_PRINCIPAL)}"
                raise ValueError(message)
        sample = _guarded(program.execute, _SAMPLE)
        if sample is not _FAILED and not isinstance(sample, bool):
            message = 'must be a condition, which is true or false, such as tool == "pay"'
            raise ValueError(message)
        members = _ARGUMENTS.findall(text)  # in strings and comments too: one too many does no harm
        reads = names & frozenset(VARIABLES)
        return ConditionConfig(text, reads, frozenset(members) if all(members) else None, cost.loops)

    @property
    def changing(self) -> bool:
        """Whether it may say something else at the next call that asks for the same."""
        return not self.reads.isdisjoint(CHANGING)

    @property
    def of_head(self) -> bool:
        """Whether it looks at nothing that only the message says."""
        return self.reads <= OF_HEAD


class Condition:
    """An expression, ready to run."""

    def __init__(self, config: ConditionConfig) -> None:
        self.reads = config.reads
        self.changing = config.changing
        self._lasting = config.reads - CHANGING
        self.members = config.members
        self.loops = config.loops
        self._program = _compiled(config.source)
        self._flat = _flattened(config, self._program)
        simple = config.reads & CHANGING == {"arguments"} and not config.loops
        self.check: Check | None = read_simple(config.source, _asking) if simple else None
        """The same without the library, as far as it goes; None where it is not simple."""

    @property
    def flat(self) -> bool:
        """Whether it can be asked with the members that it reads as variables of their own."""
        return self._flat is not None

    def holds(self, values: Mapping[str, object]) -> bool | None:
        """Whether it is true; None: it cannot be evaluated. `values` has at least what it `reads`."""
        needed = {name: values[name] for name in self.reads}
        arguments = needed.get("arguments")
        if self.members is not None and isinstance(arguments, dict):  # what is handed over costs time
            needed["arguments"] = {name: arguments[name] for name in self.members if name in arguments}
        if not self.takes(arguments):
            return None
        found = _guarded(self._program.execute, needed)
        return found if isinstance(found, bool) else None

    def takes(self, arguments: object) -> bool:
        """Whether what it reads of the arguments is short enough for its loops."""
        if not self.loops or not isinstance(arguments, dict):
            return True
        names = arguments.keys() if self.members is None else self.members & arguments.keys()
        return is_short([arguments[name] for name in names], len(names))

    def in_context(self, context: cel.Context, *, flat: bool) -> bool | None:
        """The same with values that were handed over before."""
        program = self._flat if flat and self._flat is not None else self._program
        found = _guarded(program.execute, context)
        return found if isinstance(found, bool) else None

    def holds_always(self, values: Mapping[str, object]) -> bool | None:
        """The same whatever arguments, headers and time are, because the rest decides, as in `false && ...`; None: it
        depends on them.
        """
        found = _guarded(self._program.execute, {name: values[name] for name in self._lasting})
        return found if isinstance(found, bool) else None


class Prepared:
    """Conditions that of all that changes read the arguments only, with everything else filled in: handing a value over
    costs more than the condition itself. Not for several threads.
    """

    def __init__(self, conditions: Sequence[Condition], values: Mapping[str, object]) -> None:
        self._context = cel.Context(dict(values))
        members = [condition.members for condition in conditions]
        self._members = None if None in members else frozenset().union(*(found for found in members if found))
        flat = self._members is not None and all(condition.flat for condition in conditions)
        self._flat = [(name, _FLAT + name) for name in self._members or ()] if flat else []

    @staticmethod
    def fits(conditions: Sequence[Condition]) -> bool:
        """Whether conditions are of that kind."""
        return all(condition.reads & CHANGING == {"arguments"} for condition in conditions)

    def ask(self, conditions: Sequence[Condition], arguments: dict[str, object]) -> list[bool | None]:
        """Whether each is true; None: it cannot be evaluated."""
        context = self._context
        if self._flat and (found := self._ask_flat(conditions, arguments)) is not None:
            return found
        needed = arguments
        if self._members is not None:
            needed = {name: arguments[name] for name in self._members if name in arguments}
        if _guarded(context.add_variable, "arguments", needed) is _FAILED:
            return [None] * len(conditions)
        found = [
            condition.in_context(context, flat=False) if condition.takes(arguments) else None
            for condition in conditions
        ]
        context.add_variable("arguments", None)
        return found

    def _ask_flat(self, conditions: Sequence[Condition], arguments: dict[str, object]) -> list[bool | None] | None:
        """The same, in half the time; None: not all members are there."""
        context = self._context
        for name, variable in self._flat:
            value = arguments.get(name, _FAILED)
            if value is _FAILED or _guarded(context.add_variable, variable, value) is _FAILED:
                return None
        found = [
            condition.in_context(context, flat=True) if condition.takes(arguments) else None for condition in conditions
        ]
        for _, variable in self._flat:
            context.add_variable(variable, None)
        return found


def _flattened(config: ConditionConfig, program: cel.Program) -> cel.Program | None:
    """The same expression with a variable for each member of the arguments that it reads; None if that might change it.

    Handing over a number costs a tenth of handing over an object with it.
    """
    text = config.source
    if not config.members or _UNUSUAL.search(text) or "arguments" in "".join(_STRING.findall(text)):
        return None
    try:
        flat = _compiled(_ARGUMENTS.sub(rf"{_FLAT}\1", text))
    except ValueError:  # has() takes nothing else
        return None
    wanted = (frozenset(program.variables()) - {"arguments"}) | {_FLAT + name for name in config.members}
    return flat if frozenset(flat.variables()) == wanted else None


def _compiled(text: str) -> cel.Program:
    """Raises ValueError."""
    try:
        return cel.compile(text)
    except ValueError as error:
        raise ValueError(_words(str(error))) from None
    except BaseException as error:
        if isinstance(error, (KeyboardInterrupt, SystemExit)):
            raise
        message = "cannot be read"
        raise ValueError(message) from None


def _asking(text: str) -> Ask:
    """Raises ValueError."""
    program = _compiled(text)
    reads = frozenset(program.variables()) & frozenset(VARIABLES)

    def ask(values: Mapping[str, object]) -> object:
        return _guarded(program.execute, {name: values[name] for name in reads})

    return ask


def _words(text: str) -> str:
    found = _POSITION.search(text)
    if found is None:
        return "is not an expression"
    line, column, what = found.groups()
    at = f"character {column}" if line == "1" else f"line {line}, character {column}"
    return f"is not an expression: {_EXPECTING.sub('', what.strip()).removeprefix('Syntax error: ')} (at {at})"


def _check_names(names: frozenset[str]) -> None:
    unknown = sorted(names - frozenset(VARIABLES))
    if unknown:
        message = f"there is no variable {unknown[0]}; there are: {', '.join(VARIABLES)}"
        raise ValueError(message)


def _check_functions(names: frozenset[str]) -> None:
    unknown = sorted(name for name in names - _FUNCTIONS if _NAME.fullmatch(name))
    if unknown:
        message = f"there is no function {unknown[0]}; there are: {', '.join(sorted(_FUNCTIONS))}"
        raise ValueError(message)


def _guarded(work: Callable[..., object], *values: object) -> object:
    """What it gives, `_FAILED` for every error. What the library says of one may hold arguments: nobody is told."""
    try:
        return work(*values)
    except BaseException as error:  # a panic of the library is no Exception
        if isinstance(error, (KeyboardInterrupt, SystemExit)):
            raise
        return _FAILED
