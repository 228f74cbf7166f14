"""Durations: the accepted forms, and everything else."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moongate.control.schema.durations import PATTERN, format_duration, parse_duration


@pytest.mark.requirement("AG-05")
@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("100s", 100.0),
        ("500ms", 0.5),
        ("1m", 60.0),
        ("1h30m", 5400.0),
        ("1.5s", 1.5),
        ("0s", 0.0),
        ("2d", 172_800.0),
        ("1d2h3m4s5ms", 93_784.005),
    ],
)
def test_the_accepted_forms(text: str, seconds: float) -> None:
    """A number with a unit, or several from the largest to the smallest."""
    assert parse_duration(text) == seconds
    assert re.search(PATTERN, text)


@pytest.mark.requirement("AG-05")
@pytest.mark.parametrize(
    "text",
    ["", "100", "s", "1 s", " 1s", "1s ", "-1s", "1s1m", "1s1s", "1S", "1e3s", "1.s", ".5s", "\u0661s", "1s\n"],
)
def test_everything_else_is_refused_with_the_forms(text: str) -> None:
    """The refusal names what may be written, also for a bare number."""
    with pytest.raises(ValueError, match="500ms, 100s, 1m or 1h30m"):
        parse_duration(text)


@given(st.integers(min_value=0, max_value=365 * 86_400_000))
def test_what_is_formatted_is_read_back(milliseconds: int) -> None:
    """Exact to the millisecond, for every duration that may be configured."""
    assert round(parse_duration(format_duration(milliseconds / 1000)) * 1000) == milliseconds
