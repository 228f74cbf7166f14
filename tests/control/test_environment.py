"""`${NAME}` in values."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moongate.control.environment import expand
from moongate.control.nodes import Place, Reference, Scalar, describe, plain

PLACE = Place("f", 1)
ENV = {"A": "alpha", "B_2": "beta", "EMPTY": ""}


@pytest.mark.requirement("AG-07")
@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("${A}", "alpha"),
        ("x${A}y${B_2}z", "xalphaybetaz"),
        ("$${A}", "${A}"),
        ("$$${A}", "$${A}"),
        ("$A $ {A} {A}", "$A $ {A} {A}"),
        ("[${EMPTY}]", "[]"),
    ],
)
def test_references_are_replaced_anywhere(text: str, value: str) -> None:
    """Whole, in the middle, several, escaped, and texts that only look like one."""
    scalar = Scalar(text, PLACE)

    assert expand(scalar, ENV) == []
    assert scalar.value == value


@pytest.mark.requirement("AG-07")
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("${UNSET}", "f:1: ${UNSET}: this environment variable is not set"),
        ("${A", "f:1: a reference to an environment variable is written ${NAME}"),
        ("${}", "f:1: a reference to an environment variable is written ${NAME}"),
        ("${A:-b}", "f:1: a reference to an environment variable is written ${NAME}"),
        ("${${A}}", "f:1: a reference to an environment variable is written ${NAME}"),
    ],
)
def test_unset_and_malformed_references_are_errors(text: str, said: str) -> None:
    """Each is named with its place, and its scalar is not judged any further."""
    scalar = Scalar(text, PLACE)

    assert [str(complaint)[: len(said)] for complaint in expand(scalar, ENV)] == [said]
    assert scalar.broken


@given(st.text(), st.text(), st.text(min_size=1))
def test_a_value_is_never_read_again(before: str, after: str, value: str) -> None:
    """What a variable holds is text, whatever it looks like: `${A}` in it is not replaced again."""
    frame = before.replace("$", "") + "|", "|" + after.replace("$", "")
    scalar = Scalar(f"{frame[0]}${{V}}{frame[1]}", PLACE)

    assert expand(scalar, {"V": value}) == []
    assert scalar.value == f"{frame[0]}{value}{frame[1]}"
    assert describe(scalar, ()) == "(value of ${V})"


def test_only_a_whole_reference_may_become_a_number() -> None:
    """`${A}` alone is marked; text around it makes it plain text."""
    whole, part = Scalar("${A}", PLACE), Scalar("${A} ", PLACE)
    expand(whole, {"A": "5"})
    expand(part, {"A": "5"})

    assert isinstance(plain(whole), Reference)
    assert not isinstance(plain(part), Reference)
