"""Simple conditions, checked without the library: whatever a check says, the library says the same."""

from __future__ import annotations

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from moongate.policies.acl import Access
from moongate.policies.cel import Condition, ConditionConfig
from moongate.policies.checks import COMPARISONS, Always, Check, Every, Not, OfText, OfWhole
from tests.policies.asking import access, tool, verdict

KNOWN: dict[str, object] = {
    "principal": {"name": "alice", "groups": ["staff"], "token": "tok-1"},
    **dict.fromkeys(("prompt", "resource"), ""),
    "source": "192.0.2.1",
    "instance": "one",
    "method": "tools/call",
    "tool": "pay",
}

# -- expressions

WHOLE = st.sampled_from([0, 1, 2, -1, 3, 2**53, 2**53 + 1, -(2**53) - 1, 2**63 - 1, -(2**63)]) | st.integers(-9, 9)
DOUBLE = st.sampled_from([0.0, -0.0, 1.0, 2.5, -1.5, 2.0**53, 2.0**63, 1e300]) | st.floats(-9, 9)
TEXTS = st.sampled_from(["", "a", "b", "ab", "alice", "pay", "é", "日", "😀", "\uffff", "/of/alice/x"])
MEMBERS = st.sampled_from(["a", "a", "a", "b", "b", "size"])
QUOTES = st.sampled_from("\"'")
BLANK = st.sampled_from(["", "", " ", "\n\t"])
COMPARED = st.sampled_from(["==", "!=", "<", "<=", ">", ">="])
SAME = st.sampled_from(["==", "!="])


def written(number: float) -> str:
    """A double as CEL has them here: always with a point."""
    text = repr(number)
    return text if "." in text else text.replace("e", ".0e")


@st.composite
def quoted(draw: st.DrawFn) -> str:
    """A text, in either quotes."""
    quote = draw(QUOTES)
    return quote + draw(TEXTS) + quote


@st.composite
def paths(draw: st.DrawFn, *, plain: bool = False) -> str:
    """A member of the arguments, or of one of its members."""
    path = "arguments"
    for member in draw(st.sampled_from([1, 1, 1, 2]).flatmap(lambda n: st.lists(MEMBERS, min_size=n, max_size=n))):
        quote = draw(QUOTES)
        path += f".{member}" if plain or draw(st.integers(0, 4)) else f"[{quote}{member}{quote}]"
    return path


NUMBERS = WHOLE.map(str) | DOUBLE.map(written)
LISTS = st.lists(quoted(), min_size=1, max_size=3) | st.lists(WHOLE.map(str), min_size=1, max_size=3)
TOLD = st.sampled_from(["tool", "principal.name", "'/of/' + principal.name", "source", '"pa" + "y"'])
# What reads no arguments: also what is no condition, or an error.
LASTING = st.sampled_from(
    [
        *("true", "false", 'tool == "pay"', "tool != 'pay'", '"staff" in principal.groups', "principal.groups == []"),
        *("source.startsWith('192.')", "tool.matches('^p')", "principal.groups.exists(g, g == 'staff')", "1 % 0 == 1"),
        *("1", "tool", "(tool == 'x' ? true : false)", "!(tool == 'x')", "size(tool) > 2", "instance == 'one'"),
    ]
)


def joined(*parts: st.SearchStrategy[str] | str) -> st.SearchStrategy[str]:
    """One after the other, with white space between them."""
    made = [st.just(part) if isinstance(part, str) else part for part in parts]
    return st.tuples(*(strategy for part in made for strategy in (BLANK, part)), BLANK).map("".join)


ATOMS = st.one_of(
    joined(paths(), COMPARED, NUMBERS),
    joined(NUMBERS, COMPARED, paths()),
    joined(paths(), COMPARED, quoted()),
    joined(quoted(), COMPARED, paths()),
    joined(paths(), SAME, st.sampled_from(["true", "false", "null"])),
    joined(paths(), COMPARED, TOLD),
    joined(TOLD, COMPARED, paths()),
    joined(paths(), " in ", "[", LISTS.map(" , ".join), "]"),
    joined(quoted(), " in ", paths()),
    joined("size", "(", paths(), ")", COMPARED, WHOLE.map(str)),
    joined(WHOLE.map(str), COMPARED, paths(), ".", "size", "(", ")"),
    joined(paths(), ".", st.sampled_from(["startsWith", "endsWith", "contains"]), "(", quoted() | TOLD, ")"),
    joined("has", "(", paths(plain=True), ")"),
    joined("!", "has(", paths(plain=True), ")"),
    paths(),
    joined("!", paths()),
    LASTING,
)


def branches(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Expressions of expressions."""
    return st.one_of(
        st.tuples(inner, st.sampled_from(["&&", " && ", "||", " || "]), inner).map("".join),
        joined("(", inner, ")"),
        joined("!", "(", inner, ")"),
        joined("!", "!", "(", inner, ")"),
    )


SIMPLE = ATOMS | st.recursive(ATOMS, branches, max_leaves=6)
# The same with more of CEL, in the order in which its operators bind.
SUMS = st.one_of(
    paths(), NUMBERS, quoted(), TOLD, st.sampled_from(["arguments", "-arguments.a", "!arguments.a", "[1]"])
)
STRANGE = st.one_of(
    SIMPLE,
    SIMPLE.map("!".__add__),
    joined(SUMS, st.sampled_from(["==", "<", "+", "-", " in ", "*", "%"]), SUMS, COMPARED, SUMS),
    joined("!", SUMS, COMPARED, SUMS),
    joined(SIMPLE, "?", SIMPLE, ":", SIMPLE),
    joined(SIMPLE, SAME, SIMPLE),
    joined(paths(), ".exists(a, a == 1)", "||", SIMPLE),
    joined("[arguments.a].exists(arguments, arguments == 1)", "&&", SIMPLE),
    joined("-", paths(), COMPARED, NUMBERS),
    joined(
        SUMS, COMPARED, st.sampled_from(["1u", "0x1", "01", "1e0", ".5", "r'a'", "b'a'", "'''a'''", '"\\x61"', "[]"])
    ),
    joined(
        paths(), " in ", st.sampled_from(["[]", "[1, 'a']", "[1.0]", "[true]", "{'a': 1}", "arguments", "[1] + [2]"])
    ),
    joined(SIMPLE, "// a comment\n", st.sampled_from(["&& false", "|| true", ""])),
    joined(paths(), ".size(1) == 1"),
    joined("size(", paths(), ",", paths(), ") == 1"),
    joined(SUMS, ".startsWith(", SUMS, ")"),
)

# -- arguments

LEAVES = st.one_of(st.none(), st.booleans(), WHOLE, DOUBLE, TEXTS)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(MEMBERS, inner, max_size=3),
    max_leaves=5,
)
ANY = LEAVES | WHOLE | DOUBLE | TEXTS | st.lists(TEXTS, max_size=3) | st.dictionaries(MEMBERS, LEAVES) | VALUES
ARGUMENTS = st.fixed_dictionaries({"a": ANY}, optional={"b": ANY, "size": ANY})


def simple(text: str) -> tuple[Condition, Check | None]:
    """A condition, and what is left to be checked of it."""
    condition = Condition(ConditionConfig.read(text))
    return condition, None if condition.check is None else condition.check.fold(KNOWN)


def agree(condition: Condition, check: Check | None, calls: list[dict[str, object]]) -> None:
    """What the check says, if there is one and it knows, is what the library says."""
    for arguments in calls if check is not None else ():
        held = None if check is None else check.ask(arguments)
        assert held is None or held is condition.holds({**KNOWN, "arguments": arguments}), arguments


def readable(text: str) -> ConditionConfig | None:
    """A condition; None where the library sees that it is none."""
    try:
        return ConditionConfig.read(text)
    except ValueError:
        return None


LITERALS = [
    *("0", "1", "-1", "2", "9007199254740992", "-9007199254740992", "9007199254740993", "9223372036854775807"),
    *("-9223372036854775808", "0.0", "-0.0", "1.0", "1.5", "9007199254740992.0", "-9007199254740992.0", "1.0e300"),
    *("9223372036854775807.0", '""', "'a'", '"ab"', '"é"', '"日"', '"\uffff"', "'😀'", "tool", "tool + 'x'"),
]
EVERY = [
    *(f"arguments.a {operator} {literal}" for operator in COMPARISONS for literal in LITERALS),
    *(f"{literal} {operator} arguments.a" for operator in COMPARISONS for literal in LITERALS),
    *(f"arguments.a {operator} {constant}" for operator in ("==", "!=") for constant in ("true", "false", "null")),
    *(f"size(arguments.a) {operator} {number}" for operator in COMPARISONS for number in (-1, 0, 1, 2, 3, 4)),
    *(f"2 {operator} arguments.a.size()" for operator in COMPARISONS),
    *(f"arguments.a.{method}({text})" for method in ("startsWith", "endsWith", "contains") for text in LITERALS[17:]),
    *("arguments.a in [0, 1, 9007199254740993]", "arguments.a in ['', 'a', 'é', 'x']", "'a' in arguments.a"),
    *("arguments.a == principal", "arguments.a != principal", "arguments.a != principal + 'x'"),
    *(
        "arguments.a",
        "!arguments.a",
        "has(arguments.a)",
        "has(arguments.a.b)",
        "!has(arguments.a.b)",
        "arguments.a.b == 1",
    ),
]
NUMBERS_OF_ALL_KINDS = [
    0,
    1,
    2,
    2**53,
    2**53 + 1,
    2**53 + 2,
    2**63 - 1,
    2**63 - 512,
    0.5,
    1.0,
    1.5,
    2.0**53,
    2.0**63,
    1e300,
]
EVERY_VALUE: list[object] = [
    *(None, True, False, *NUMBERS_OF_ALL_KINDS, *(-number for number in NUMBERS_OF_ALL_KINDS), -(2**63)),
    *("", "a", "ab", "b", "aé", "é", "日", "日本", "\uffff", "😀", "a😀", "pay", "payx", "0", "true", "null"),
    *([], ["a"], ["b", "a"], ["a", 1], [1, None], [["a"]], [1.0, True], [{"a": 1}, "a"], [[], {}, ""]),
    *({}, {"a": 1}, {"b": 1}, {"b": None}, {"b": {"b": 1}}),
]


@pytest.mark.parametrize("text", EVERY)
def test_each_comparison_with_each_kind_of_value_is_what_the_library_says_it_is(text: str) -> None:
    """Also where the member is missing."""
    condition, check = simple(text)
    assert check is not None
    agree(condition, check, [{}, *({"a": value} for value in EVERY_VALUE)])


DECIDED: list[tuple[str, dict[str, object], bool]] = [
    ("arguments.a > 100", {"a": 101}, True),
    ("arguments.a > 100", {"a": 3}, False),
    ("100 >= arguments.a", {"a": 100.5}, False),
    ("arguments.a < 2.5", {"a": 2}, True),
    ('arguments.a == "x" || arguments["a"] != "y"', {"a": "y"}, False),
    ("arguments.a == true && arguments.b == null", {"a": True, "b": None}, True),
    ("arguments.a.b.c <= 1", {"a": {"b": {"c": 1}}}, True),
    ("arguments.a in ['x', 'y']", {"a": "y"}, True),
    ("arguments.a in [1, -2]", {"a": -1}, False),
    ("'x' in arguments.a", {"a": ["y", "x"]}, True),
    ("size(arguments.a) > 2 && arguments.b.size() == 1", {"a": "abc", "b": [1]}, True),
    ('arguments.a.startsWith("/of/" + principal.name + "/")', {"a": "/of/alice/x"}, True),
    ('!(arguments.a.endsWith(".md") || arguments.a.contains(".."))', {"a": "x.md"}, False),
    ("has(arguments.a) && arguments.a > 1", {}, False),
    ("!has(arguments.a.b)", {"a": {}}, True),
    ("arguments.a && !arguments.b", {"a": True, "b": False}, True),
    ('arguments.a == principal.name && tool == "pay"', {"a": "alice"}, True),
    ('"staff" in principal.groups && tool.matches("^p") && arguments.a != principal.token', {"a": "b"}, True),
]


@pytest.mark.parametrize(("text", "arguments", "expected"), DECIDED)
def test_the_library_is_not_needed_for_ordinary_arguments(
    text: str, arguments: dict[str, object], expected: bool
) -> None:
    """Of the types that a condition is about."""
    condition, check = simple(text)
    assert check is not None
    assert check.ask(arguments) is expected
    agree(condition, check, [arguments])


LEFT = [
    ('method == "tools/call" && tool == "pay" && arguments.a > 1', OfWhole),
    ('tool == "other" || arguments.a > 1', OfWhole),
    ('!(tool == "other" || arguments.a > 1)', Not),
    ('tool == "other" && arguments.a > 1', Always),
    ('tool == "pay" || arguments.a > 1', Always),
    ('arguments.a == principal.name && "x" != "y"', OfText),
    ("tool && arguments.a > 1", Every),
]


@pytest.mark.parametrize(("text", "kind"), LEFT)
def test_what_is_known_before_the_call_is_not_asked_in_it(text: str, kind: type[Check]) -> None:
    """Nothing of it is left; what is no condition stays, for the library to say so."""
    assert type(simple(text)[1]) is kind


NOT_SIMPLE = [
    *(
        "arguments.a + 1 > 2",
        "tool == 'pay' ? false : true || arguments.a == 1",
        "!arguments.a == true",
        "arguments.a == arguments.b",
    ),
    *("arguments.a.exists(x, x == 1)", "arguments.a.matches('x')", "arguments.a < true", "arguments.a == 1u"),
    *("arguments.a == 'x' // comment", "arguments.a == r'x'", 'arguments.a == """x"""', "arguments.a == '\\n'"),
    *("arguments.a in [1, 'x']", "arguments.a in []", "arguments.a in [1.5]", "1 in arguments.a", "arguments == {}"),
    *("headers['a'] == 'b' && arguments.a == 1", "now == now && arguments.a == 1", "arguments.a == [1]"),
    *("principal.groups.exists(g, g == 'a') && arguments.a == 'x'", "size(arguments) == 0", "'a' in arguments"),
    *(
        "size(arguments.a) > 1.5",
        "arguments.a == type(tool)",
        "arguments.a > -arguments.b",
        "arguments['a' + 'b'] == 1",
    ),
]


@pytest.mark.parametrize("text", NOT_SIMPLE)
def test_everything_else_is_the_library_s(text: str) -> None:
    """A loop also where it reads no arguments: what a condition with one reads of them is bounded."""
    assert simple(text)[1] is None


def groups(rules: Access) -> list[bool]:
    """Of each rule that is left in what is remembered, whether the library was asked."""
    left = [
        one for found in rules._decisions.values() for part in found.pending for one in (*part.denies, *part.allows)
    ]
    return [one.group.prepared is not None for one in left]


def test_the_library_is_asked_when_a_check_does_not_know() -> None:
    """A refusal is the same either way, and names the first rule that denies."""
    rules = access(
        {"deny": ["tool:pay"], "when": "arguments.a == 100"},
        {"deny": ["tool:pay"], "when": "arguments.b.exists(x, x == 1)"},
        {"deny": ["tool:pay"], "when": "arguments.a > 50"},
        {"deny": ["tool:pay"], "when": "arguments.b.exists(x, x == 2)"},
        {"allow": ["tool:*"], "when": "arguments.a > 0"},
    )

    def said(**arguments: object) -> str:
        found = verdict(rules, tool("pay", **arguments))
        return found.setting if found.refusal is not None else found.reason

    own = "mcpServers.one.access.rules"
    assert said(a=100, b=[]) == f"{own}[0]"
    assert groups(rules) == [False] * 5
    assert said(a=51, b=[]) == f"{own}[2]"
    assert said(a=51, b=[1]) == f"{own}[1]"
    assert said(a=1, b=[2]) == f"{own}[3]"
    assert said(a=1, b=[]) == f"tool 'pay' (tools/call) is allowed by {own}[4]"
    assert groups(rules) == [False, True, False, True, False]
    assert said(a="101", b=[]) == f"{own}[2]"  # the first is false, the second an error
    assert groups(rules) == [True] * 5
    assert said(b=[]) == f"{own}[0]"
    assert "cannot be evaluated" in verdict(rules, tool("pay", b=[])).reason
    assert said(a=0, b=[]).startswith(f"{own}: another rule")


def test_a_rule_that_allows_is_checked_too() -> None:
    """Without any that denies."""
    rules = access({"allow": ["tool:pay"], "when": "arguments.a <= 100"})
    assert verdict(rules, tool("pay", a=100)).refusal is None
    assert verdict(rules, tool("pay", a=101)).refusal is not None
    assert groups(rules) == [False]


def test_arguments_that_cannot_be_judged_are_not_checked_either() -> None:
    """Not even by a check that would look at a harmless member."""
    rules = access({"deny": ["tool:pay"], "when": "arguments.a > 100"})
    assert verdict(rules, tool("pay", a=1)).refusal is None
    other = access({"deny": ["tool:pay"], "when": '"x-team" in headers'})
    for more in ({"b": 2**63}, {"B": 1, "b": 1}, {"b": "x" * 64 * 1024}):
        found = verdict(rules, tool("pay", a=1, **more))
        assert found.refusal is not None
        assert "cannot be evaluated" in found.reason
        assert verdict(other, tool("pay", **more)).refusal is None


@settings(max_examples=400)
@given(SIMPLE, st.lists(ARGUMENTS, min_size=1, max_size=8))
@example("arguments.a > 9007199254740992.0", [{"a": 2**53 + 1}, {"a": 2**53}])
@example("arguments.a > 9007199254740993", [{"a": 2.0**53}])
@example("size(arguments.a) == 1 || arguments.a.size() == 2", [{"a": "é"}, {"a": "é"}])
@example("arguments.a == 1 && arguments.a == true", [{"a": True}, {"a": 1}])
def test_a_simple_condition_is_what_the_library_says_it_is(text: str, calls: list[dict[str, object]]) -> None:
    """Whatever the arguments; and it is known to be simple, unless it reads no arguments or is never a condition."""
    config = readable(text)
    assume(config is not None)
    assume(config is None or "arguments" in config.reads)
    condition, check = simple(text)
    assert check is not None or "exists" in text
    agree(condition, check, calls)


@settings(max_examples=400)
@given(STRANGE, st.lists(ARGUMENTS, min_size=1, max_size=8))
def test_what_is_not_simple_is_not_taken_for_it(text: str, calls: list[dict[str, object]]) -> None:
    """However it is written: either nothing is checked, or the library says the same."""
    config = readable(text)
    assume(config is not None)
    agree(*simple(text), calls)
