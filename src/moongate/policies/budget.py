"""What a condition may cost: nothing can stop one while it runs, so what could take long is refused when it is read.

A loop (`all`, `exists`, ...) may not stand within another, its literal lists are short, and what it reads of the
arguments of a call is bounded; regular expressions are written out and small.
"""

from __future__ import annotations

import math
import re
from typing import NamedTuple

LOOPS = frozenset({"all", "exists", "exists_one", "map", "filter"})
# For a condition with a loop: what it reads of the arguments, and the commas in it, which bound its literal lists.
MAX_ITEMS = 200
MAX_TEXT = 16 * 1024
MAX_COMMAS = 100
MAX_MATCHES = 4
MAX_PATTERN = 256
MAX_REPEATS = 200

# Texts and comments, exactly as the grammar has them: what stands outside of them matters.
_LITERAL = re.compile(
    r"""
    (?<!\w)[bB]?[rR](?:\"{3}.*?\"{3}|'{3}.*?'{3}|"[^"\r\n]*"|'[^'\r\n]*')
    | \"{3}(?:[^\\]|\\.)*?\"{3} | '{3}(?:[^\\]|\\.)*?'{3} | "(?:[^"\\\r\n]|\\.)*" | '(?:[^'\\\r\n]|\\.)*'
    | (?P<comment>//[^\n]*)
    """,
    re.DOTALL | re.VERBOSE,
)
_METHOD = re.compile(r"\.\s*([A-Za-z_]\w*)\s*\(|[()]")
_MATCHES = re.compile(r"(?<!\w)matches\s*\(")
_PATTERN = re.compile(r"\.\s*matches\s*\(\s*\"([0-9]+)\"\s*\)")
_REPEAT = re.compile(r"\{\s*([0-9]{1,9})\s*(?:,\s*([0-9]{0,9})\s*)?\}")
# It might stand for a brace.
_ESCAPE = re.compile(r"\\[uUxX0-9]")


class Cost(NamedTuple):
    """What was found: whether there are loops, and all that is called with a dot."""

    loops: bool
    methods: frozenset[str]


def judge_cost(text: str) -> Cost:
    """Judge an expression, which is one. Raises ValueError: what is too much, and what to write."""
    literals: list[str] = []

    def numbered(found: re.Match[str]) -> str:
        if found["comment"]:
            return " "
        literals.append(found[0])
        return f'"{len(literals) - 1}"'

    plain = _LITERAL.sub(numbered, text)
    calls = _METHOD.findall(plain)
    loops = not LOOPS.isdisjoint(calls)
    _judge_loops(plain)
    if loops and plain.count(",") > MAX_COMMAS:
        message = f"has a loop and more than {MAX_COMMAS} commas; write shorter lists, or several rules"
        raise ValueError(message)
    _judge_patterns(plain, literals)
    return Cost(loops, frozenset(filter(None, calls)))


def _judge_loops(plain: str) -> None:
    inside: list[bool] = []  # for each open parenthesis, whether it is in a loop
    for found in _METHOD.finditer(plain):
        within = bool(inside) and inside[-1]
        if found[0] == ")":
            del inside[-1:]
        elif within and found[1] in LOOPS:
            message = f"has a loop ({', '.join(sorted(LOOPS))}) within another; write one, or two rules"
            raise ValueError(message)
        elif within and found[1] == "matches":
            message = "has matches() within a loop; write startsWith, endsWith, contains or =="
            raise ValueError(message)
        else:
            inside.append(within or found[1] in LOOPS)


def _judge_patterns(plain: str, literals: list[str]) -> None:
    patterns = [literals[int(number)] for number in _PATTERN.findall(plain)]
    if len(patterns) != len(_MATCHES.findall(plain)):
        message = "has matches() of what is no written pattern; write it as in tool.matches('^get_')"
        raise ValueError(message)
    if len(patterns) > MAX_MATCHES:
        message = f"has matches() more than {MAX_MATCHES} times; write several rules"
        raise ValueError(message)
    for pattern in patterns:
        counts = [int(most or least) for least, most in _REPEAT.findall(pattern)]
        # A repeated group multiplies what is in it.
        total = math.prod(max(count, 1) for count in counts) if "){" in pattern else sum(counts)
        if len(pattern) > MAX_PATTERN or total > MAX_REPEATS or _ESCAPE.search(pattern):
            message = (
                f"has a pattern that is too large; write at most {MAX_PATTERN} characters, "
                f"and counts such as {{3}} of {MAX_REPEATS} in all, without \\x, \\u and \\0"
            )
            raise ValueError(message)


def is_short(waiting: list[object], items: int) -> bool:
    """Whether values, `items` in number, hold so few others and so little text that a loop may go through them."""
    size = 0
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            items += len(value)
            size += sum(map(len, value))
        elif isinstance(value, list):
            items += len(value)
        elif isinstance(value, str):
            size += len(value)
        if items > MAX_ITEMS or size > MAX_TEXT:
            return False
        if isinstance(value, dict):
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value
    return True
