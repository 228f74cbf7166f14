"""Conditions: what is wrong with an expression is said when it is read, and none of it is paid for before."""

from __future__ import annotations

import subprocess
import sys

import pytest

from moongate.policies.cel import MAX_EXPRESSION, Condition, ConditionConfig, Prepared

READS = [
    # An expression, the variables that it reads, and what it reads of the arguments (None: perhaps everything).
    ('tool == "a"', {"tool"}, set()),
    ('"tool" == "now" || true', set(), set()),
    ('principal.groups.exists(g, g == "a")', {"principal"}, set()),
    ("arguments.amount > 100", {"arguments"}, {"amount"}),
    ("has(arguments.a) && arguments.b.c == 1", {"arguments"}, {"a", "b"}),
    ("arguments . amount > 100", {"arguments"}, {"amount"}),
    ('arguments["amount"] > 100', {"arguments"}, None),
    ("arguments.size() == 0", {"arguments"}, None),
    ("size(arguments) == 0", {"arguments"}, None),
    ('"a" in arguments && arguments.a == 1', {"arguments"}, None),
    ("arguments.exists(name, name == 'a') && arguments.a == 1", {"arguments"}, None),
    ("// it's a comment about arguments\n!has(arguments.a) || 'x' == tool", {"arguments", "tool"}, None),
    ("[1].exists(tool, tool == 1)", {"tool"}, set()),
    ('headers["arguments"] == "a"', {"headers"}, None),
    ("now.getHours() < 6 && instance == source", {"now", "instance", "source"}, set()),
]


@pytest.mark.parametrize(("text", "reads", "members"), READS)
def test_it_is_known_what_an_expression_reads(text: str, reads: set[str], members: set[str] | None) -> None:
    """That decides what may be remembered, and what is handed over."""
    found = ConditionConfig.read(text)
    assert found.reads == reads
    assert found.members == members


WRONG = [
    ("", "is not an expression"),
    ("tool = 'a'", "is not an expression: token recognition error"),
    ("tool == 'a' &&\n", "is not an expression"),
    ("(" * 500 + "true" + ")" * 500, "is not an expression"),
    ("tool == name", "there is no variable name; there are: principal, source,"),
    ("request.tool == 'a'", "there is no variable request"),
    ("principal.user == 'a'", "principal has no user; it has name, groups, token"),
    ("tool.lower() == 'a'", "there is no function lower; there are: all,"),
    ("tool", "must be a condition"),
    ("arguments", "must be a condition"),
    ("1 + 1", "must be a condition"),
    ("tool == '" + "a" * MAX_EXPRESSION + "'", "must be at most 4096 characters"),
]


@pytest.mark.parametrize(("text", "complaint"), WRONG)
def test_a_mistake_is_found_when_it_is_read(text: str, complaint: str) -> None:
    """And it is said what there is instead."""
    with pytest.raises(ValueError, match="^" + complaint.replace("(", r"\(")):
        ConditionConfig.read(text)


ALWAYS = [
    ("tool == 'pay' && arguments.amount > 1", "other", False),
    ("tool == 'pay' && arguments.amount > 1", "pay", None),
    ("arguments.amount > 1 && tool == 'pay'", "other", False),
    ("tool != 'pay' || has(arguments.x)", "other", True),
    ("tool == 'pay' ? arguments.x == 1 : true", "other", True),
    ("!(tool == 'pay') || headers['a'] == 'b'", "pay", None),
    ("has(arguments.x)", "pay", None),
    ("size(arguments) == 0 || now == now", "pay", None),
    ("tool == 'pay'", "pay", True),
]


@pytest.mark.parametrize(("text", "tool", "expected"), ALWAYS)
def test_what_the_arguments_cannot_change_is_known_without_them(text: str, tool: str, expected: bool | None) -> None:
    """As CEL says of `&&`, `||` and `?:`: one side may decide alone."""
    assert Condition(ConditionConfig.read(text)).holds_always({"tool": tool}) is expected


FLAT = [
    # An expression, and whether the members that it reads can be handed over one by one.
    ("arguments.n > 100 && tool == 'pay'", True),
    ("arguments.n > 100 || arguments.m.x == 'a'", True),
    ("arguments.to.exists(to, to == arguments.from)", True),
    ("arguments.n.size() == 1", True),
    ("has(arguments.n)", False),
    ("has(arguments.n.x)", True),
    ("arguments['n'] == 1", False),
    ("arguments.n == 'arguments.n'", False),
    ("arguments.n == 'a' // arguments.n", False),
    ("arguments.n == r'\\' && tool == 'arguments.m'", False),
    ("[{'arguments': 1}].exists(x, x. arguments == arguments.n)", False),
    ("arguments__n == 1 || arguments.n == 1", False),
]
VALUES: list[dict[str, object]] = [
    {},
    {"n": 101},
    {"n": 1, "m": {"x": "a"}},
    {"n": "a"},
    {"n": {"x": 1}},
    {"n": [1]},
    {"n": None},
    {"to": ["a", "b"], "from": "b"},
    {"to": ["a", "b"], "from": 1},
]


@pytest.mark.parametrize(("text", "flat"), FLAT)
def test_what_is_handed_over_faster_says_the_same(text: str, flat: bool) -> None:
    """In any order of calls: what one call has is not there for the next."""
    if "__" in text:
        with pytest.raises(ValueError, match="no variable"):
            ConditionConfig.read(text)
        return
    condition = Condition(ConditionConfig.read(text))
    assert condition.flat is flat
    prepared = Prepared([condition], {"tool": "pay"})
    for arguments in [*VALUES, *reversed(VALUES)]:
        found = condition.holds({"tool": "pay", "arguments": arguments})
        assert prepared.ask([condition], arguments) == [found], arguments


def test_a_condition_sees_the_members_that_it_reads() -> None:
    """One that is not there is an error; a value of another type is one too."""
    condition = Condition(ConditionConfig.read("arguments.amount > 100 && arguments.to != 'eve'"))
    values = [
        {"amount": 101, "to": "a", "more": "x" * 100},
        {"amount": 1},
        {"amount": 101},
        {"amount": "101", "to": "a"},
    ]
    assert [condition.holds({"arguments": value}) for value in values] == [True, False, None, None]


def test_the_library_is_loaded_with_the_first_condition() -> None:
    """Who writes no condition does not pay for it."""
    code = (
        "import sys, moongate.cli.main, moongate.runtime; from moongate.policies.cel import ConditionConfig; "
        "print('cel.cel' in sys.modules, ConditionConfig.read('true').reads, 'cel.cel' in sys.modules)"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    assert shown.stdout == "False frozenset() True\n"
