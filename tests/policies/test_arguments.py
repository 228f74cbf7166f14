"""Arguments are read as every JSON parser reads them, or not at all."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec import Raw

from moongate.policies.arguments import MAX_ARGUMENTS, read_arguments


class Unclear(Exception):
    """Two parsers might read it differently."""


def members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object, if its members differ."""
    if len({key.casefold() for key, _ in pairs}) != len(pairs):
        raise Unclear
    return dict(pairs)


def number(text: str) -> int:
    """A whole number of 64 bits."""
    if not -(2**63) <= int(text) < 2**63:
        raise Unclear
    return int(text)


def plainly(text: str) -> dict[str, Any] | None:
    """A plain reading."""
    try:
        found = json.loads(text, object_pairs_hook=members, parse_int=number)
    except Unclear:
        return None
    return found if isinstance(found, dict) else None


# As they are written in JSON.
KEYS = st.sampled_from(["a", "A", "b", "B", "ß", "ss", "k:k", r"\u0061", r"\"a", r"\\", "1234567890123456789012", ""])
BLANK = st.sampled_from(["", "", " ", "\n\t"])
WHOLE = ["0", "-0", "1", "9223372036854775807", "9223372036854775808", "-9223372036854775808", "-9223372036854775809"]
NUMBERS = st.sampled_from([*WHOLE, "1" * 30, "1.5", "1e2", "1e30", "-0.0", "12345678901234567890.5"])
TEXTS = st.sampled_from(["", "a", "a:b", r"\"", r"\\", r"\\\":", "[{", "é", "12345678901234567890"]).map(
    lambda text: f'"{text}"'
)
LEAVES = NUMBERS | TEXTS | st.sampled_from(["true", "false", "null"])


def objects(values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Objects as they are written, members that stand twice included."""
    parts = st.tuples(BLANK, KEYS, BLANK, BLANK, values, BLANK)
    pairs = parts.map(lambda p: f'{p[0]}"{p[1]}"{p[2]}:{p[3]}{p[4]}{p[5]}')
    return st.lists(pairs, max_size=3).map(lambda found: "{" + ",".join(found) + "}")


NESTED = st.recursive(LEAVES, lambda inner: objects(inner) | st.lists(inner).map(lambda v: "[" + ",".join(v) + "]"))


@settings(max_examples=400)
@given(objects(LEAVES) | objects(NESTED | LEAVES))
@example('{"a":[{"b":1}],"b":{"b":[]}}')
@example('{"a":[9223372036854775808]}')
@example('{"a":{"a":1,"A":2}}')
@example('{"a":{"a":1,"a":1}}')
def test_arguments_are_what_a_plain_reading_says(text: str) -> None:
    """On all levels, to the type of each number."""
    assert repr(read_arguments(Raw(text))) == repr(plainly(text))


@pytest.mark.parametrize("text", ["[1]", "1", '"a"', "true", "1e999", '{"a":1e999}'])
def test_what_is_no_object_is_not_read(text: str) -> None:
    """Neither is a number that no double holds."""
    assert read_arguments(Raw(text)) is None


def test_arguments_are_read_up_to_a_size() -> None:
    """The limit is on what was sent."""
    fits = b'{"a":"%b"}' % (b"x" * (MAX_ARGUMENTS - 8))
    assert read_arguments(Raw(fits)) == {"a": "x" * (MAX_ARGUMENTS - 8)}
    assert read_arguments(Raw(fits.replace(b":", b": "))) is None
    assert read_arguments(Raw()) == read_arguments(Raw(b"null")) == {}
