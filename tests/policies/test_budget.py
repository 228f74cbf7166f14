"""What a condition may cost: nothing can stop one, so that it must be cheap by the way it is written."""

from __future__ import annotations

import re
import time

import pytest

from moongate.policies.budget import MAX_ITEMS, MAX_TEXT
from moongate.policies.cel import Condition, ConditionConfig, Prepared
from tests.policies.asking import access, allowed, tool

DIGITS = "[0,1,2,3,4,5,6,7,8,9]"
WITHIN = "has a loop (all, exists, exists_one, filter, map) within another"
BOMB = "true"
for _number in range(12):
    BOMB = f"{DIGITS}.all(x{_number}, {BOMB})"

TOO_MUCH = [
    (BOMB, WITHIN),
    ("arguments.a.exists(x, arguments.a.exists(y, x == y))", WITHIN),
    ("arguments.a.exists(x, (x > 1) && size([(arguments.b.map(y, (y)))]) == 1)", WITHIN),
    ("arguments.a.map(x, x.filter(y, true)) == []", WITHIN),
    # What stands in texts and comments opens and closes nothing.
    ("arguments.a.all(x, tool == ')' || arguments.a.all(y, true))", WITHIN),
    ("arguments.a.all(x, tool == '\\') ' || arguments.a.all(y, true))", WITHIN),
    ("arguments.a.all(x, tool == r'\\' || arguments.a.all(y, true) || tool == r'\\')", WITHIN),
    ('arguments.a.all(x, """ ") """ == tool || arguments.a.all(y, true))', WITHIN),
    ("arguments.a.all(x, b')' == b')' || arguments.a.all(y, true))", WITHIN),
    ("arguments.a.all(x, // )\n arguments.a // '\n\t. all\n(y, true))", WITHIN),
    ("[1].existsOne(x, [1].existsOne(y, true))", "there is no function existsOne"),
    ("[" + "1," * 101 + "1].all(x, x == 1)", "has a loop and more than 100 commas"),
    ("arguments.a.all(x, x.matches('a'))", "has matches() within a loop"),
    ("tool.matches(arguments.x)", "has matches() of what is no written pattern"),
    ("tool.matches('a' + 'b')", "has matches() of what is no written pattern"),
    ("matches(tool, 'a')", "has matches() of what is no written pattern"),
    (" || ".join(["tool.matches('a')"] * 5), "has matches() more than 4 times"),
    ("tool.matches('" + "a" * 256 + "')", "has a pattern that is too large"),
    ("tool.matches('a{201}')", "has a pattern that is too large"),
    ("tool.matches('(a{50}){20}')", "has a pattern that is too large"),
    ("tool.matches('a\\x7b1000}')", "has a pattern that is too large"),
    ("tool.matches('a\\1731000}')", "has a pattern that is too large"),
]


@pytest.mark.parametrize(("text", "complaint"), TOO_MUCH)
def test_what_might_take_for_ever_is_refused_unread(text: str, complaint: str) -> None:
    """Before it runs for the first time."""
    before = time.monotonic()
    with pytest.raises(ValueError, match="^" + re.escape(complaint)):
        ConditionConfig.read(text)
    assert time.monotonic() - before < 1


FINE = [
    ("arguments.a.exists(x, x == 1) && arguments.b.all(y, y == 1)", True),
    ("arguments.a.filter(x, x > 1).exists(x, x == 1)", True),
    ("[arguments.a.all(z, z == 1)].all(x, x)", True),
    ("arguments.a.all(x, x != '.all(')", True),
    ("tool in [" + ",".join(f'"{number}"' for number in range(300)) + "]", False),
    ("tool == 'x.all(y, z.all('", False),
    ("tool.matches('^[A-Z]{2}[0-9]{2}[A-Z0-9]{11,30}$')", False),
    (r"tool.matches(r'^(\d{1,3}[.]){3}\d{1,3}$')", False),
    ("tool == 'matches('", False),
]


@pytest.mark.parametrize(("text", "loops"), FINE)
def test_what_is_cheap_is_accepted(text: str, loops: bool) -> None:
    """Loops one after the other, long lists without a loop, small patterns."""
    assert ConditionConfig.read(text).loops is loops


def test_what_a_loop_reads_is_bounded() -> None:
    """In items and in text, on all levels, of the members that the condition reads."""
    condition = Condition(ConditionConfig.read("arguments.to.exists(x, x == 'z')"))
    fits: list[object] = [
        ["a"] * (MAX_ITEMS - 1),
        ["a" * MAX_TEXT],
        [["a"] * 90, {"b": ["c"] * 90}],
    ]
    over: list[object] = [
        ["a"] * MAX_ITEMS,
        ["a" * MAX_TEXT, "b"],
        [["a"] * 100, {"b": ["c"] * 100}],
        [{"a" * MAX_TEXT: "b"}],
    ]
    prepared = Prepared([condition], {})
    for value in fits:
        arguments = {"to": value, "body": "x" * 60_000, "more": [0] * 1000}
        assert condition.holds({"arguments": arguments}) is False
        assert prepared.ask([condition], arguments) == [False]
    for value in over:
        assert condition.holds({"arguments": {"to": value}}) is None
        assert prepared.ask([condition], {"to": value}) == [None]


def test_a_call_that_a_loop_cannot_go_through_is_denied() -> None:
    """By a rule that denies as by one that allows."""
    when = "arguments.to.exists(x, x == 'z')"
    short, long = tool("mail", to=["a"]), tool("mail", to=["a"] * 201)
    deny = access({"deny": ["tool:mail"], "when": when})
    assert (allowed(deny, short), allowed(deny, long)) == (True, False)
    allow = access({"allow": ["tool:mail"], "when": when})
    assert (allowed(allow, tool("mail", to=["z"])), allowed(allow, tool("mail", to=["z"] * 201))) == (True, False)
    whole = access({"deny": ["tool:*"], "when": "arguments.exists(x, x == 'z')"})
    assert (allowed(whole, short), allowed(whole, long)) == (True, False)


def test_the_dearest_condition_is_cheap() -> None:
    """As much work as can be written, on as much as is let in."""
    body = " && ".join(["arguments.b.c.d == 1"] * 160)
    condition = Condition(ConditionConfig.read(f"arguments.a.all(x, {body})"))
    values = {"arguments": {"a": [1] * 190, "b": {"c": {"d": 1, "t": "x" * 16_000}}}}
    before = time.perf_counter()
    assert condition.holds(values) is True
    assert time.perf_counter() - before < 1
