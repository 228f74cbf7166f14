"""Access rules against a plain reading of them: whatever is remembered or decided in advance changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from moongate.model.principal import Principal
from tests.policies.asking import Rule, access, asking, message, verdict

USERS = ("alice", "bob")
TOOLS = ("a", "b", "ab")
SOURCES = ("10.0.0.1", "192.0.2.1")
MISSING, TEXT = object(), "x"


class Asked(NamedTuple):
    """One call."""

    user: str
    source: str
    tool: str
    number: Any


def more_than_one(asked: Asked) -> bool | None:
    """`arguments.n > 1`; None is an error."""
    return None if asked.number is MISSING or asked.number == TEXT else bool(asked.number > 1)


def both(one: bool | None, other: bool | None) -> bool | None:
    """`&&` of CEL: an error on one side does not matter if the other is false."""
    if one is False or other is False:
        return False
    return None if one is None or other is None else True


def either(one: bool | None, other: bool | None) -> bool | None:
    """`||` of CEL."""
    if one is True or other is True:
        return True
    return None if one is None or other is None else False


CONDITIONS: dict[str, Callable[[Asked], bool | None]] = {
    "": lambda _: True,
    'tool == "a"': lambda asked: asked.tool == "a",
    'principal.name == "bob"': lambda asked: asked.user == "bob",
    "arguments.n > 1": more_than_one,
    'tool == "a" && arguments.n > 1': lambda asked: both(asked.tool == "a", more_than_one(asked)),
    'arguments.n > 1 && tool == "a"': lambda asked: both(asked.tool == "a", more_than_one(asked)),
    'arguments.n > 1 || source == "10.0.0.1"': lambda asked: either(more_than_one(asked), asked.source == "10.0.0.1"),
    "!has(arguments.n)": lambda asked: asked.number is MISSING,
    '"x-no" in headers': lambda _: False,
    'headers["x-no"] == "a"': lambda _: None,
    "now.getFullYear() > 2000 && arguments.n > 1": more_than_one,
}
PATTERNS: dict[str, Callable[[str], bool]] = {
    "*": lambda _: True,
    "tool:a": lambda tool: tool == "a",
    "tool:a*": lambda tool: tool.startswith("a"),
    "tool:*b": lambda tool: tool.endswith("b"),
    "method:tools/*": lambda _: True,
    "prompt:*": lambda _: False,
}


def written() -> st.SearchStrategy[Rule]:
    """One rule."""
    patterns = st.lists(st.sampled_from(sorted(PATTERNS)), min_size=1, max_size=2)
    about = {
        "users": st.lists(st.sampled_from(USERS), min_size=1, max_size=2),
        "sources": st.just(["10.0.0.0/8"]),
        "when": st.sampled_from(sorted(CONDITIONS)[1:]),
    }
    return st.tuples(st.sampled_from(["allow", "deny"]), patterns, st.fixed_dictionaries({}, optional=about)).map(
        lambda parts: {parts[0]: parts[1], **parts[2]}
    )


def holds(rule: Rule, asked: Asked) -> bool | None:
    """Whether a rule is about a call; None: its condition cannot be evaluated."""
    if asked.user not in rule.get("users", USERS):
        return False
    if "sources" in rule and not asked.source.startswith("10."):
        return False
    patterns = rule.get("allow") or rule["deny"]
    if not any(PATTERNS[pattern](asked.tool) for pattern in patterns):
        return False
    return CONDITIONS[rule.get("when", "")](asked)


def passes(rules: list[Rule], asked: Asked) -> bool:
    """Deny beats allow, errors deny, and once there is any allow rule, what no rule allows is denied."""
    if any(holds(rule, asked) is not False for rule in rules if "deny" in rule):
        return False
    allows = [rule for rule in rules if "allow" in rule]
    return not allows or any(holds(rule, asked) is True for rule in allows)


ASKED = st.builds(
    Asked,
    st.sampled_from(USERS),
    st.sampled_from(SOURCES),
    st.sampled_from(TOOLS),
    st.sampled_from([MISSING, TEXT, 0, 1, 2]),
)


@given(st.lists(written(), max_size=5), st.lists(written(), max_size=2), st.lists(ASKED, min_size=1, max_size=12))
def test_every_call_gets_what_a_plain_reading_of_the_rules_says(
    own: list[Rule], common: list[Rule], calls: list[Asked]
) -> None:
    """Whoever asked before, and for whatever."""
    if not own and not common:
        return
    rules = access(*own, gateway=common)
    for asked in calls:
        by = asking(Principal(asked.user, "t"), asked.source)
        arguments = {} if asked.number is MISSING else {"n": asked.number}
        found = verdict(rules, message("tools/call", name=asked.tool, arguments=arguments), by)
        assert (found.refusal is None) is (passes(own, asked) and passes(common, asked)), (asked, found)
        caller = rules.caller(by)
        if found.refusal is None:
            assert rules.visible(caller, by, "tool", asked.tool)
