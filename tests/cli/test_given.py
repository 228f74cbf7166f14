"""References, header lines, variables and times, as users give them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import typer

from moongate.cli import given

ENVIRON = {"KEY": "hush-hush"}


def test_references_are_replaced(tmp_path: Path) -> None:
    """From the environment and from files; a literal `${` can be written."""
    (tmp_path / "key").write_text(" from a file\n", "utf-8")

    assert given.put_in("Bearer ${KEY}", ENVIRON, "--header") == "Bearer hush-hush"
    assert given.put_in(f"${{file:{tmp_path / 'key'}}}", ENVIRON, "--header") == "from a file"
    assert given.put_in("$${KEY} $KEY", ENVIRON, "--header") == "${KEY} $KEY"


def test_values_are_not_read_again() -> None:
    """What a variable holds is never taken for a reference."""
    assert given.put_in("${A}", {"A": "${B}", "B": "x"}, "--header") == "${B}"


def test_files_of_others_cannot_read_files() -> None:
    """In what is imported only variables are replaced."""
    value = {"a": ["${KEY}", "${file:/etc/hostname}", "${prompt}", "$${KEY}", 7]}

    assert given.put_in_all(value, ENVIRON) == {"a": ["hush-hush", "${file:/etc/hostname}", "${prompt}", "${KEY}", 7]}


@pytest.mark.parametrize("text", ["${NOT_SET}", "${file:not-there}", "${}", "${a b}"])
def test_wrong_references_say_the_option(text: str) -> None:
    """And not the rest of the value."""
    with pytest.raises(typer.BadParameter) as caught:
        given.put_in(f"secret {text}", ENVIRON, "--header")

    assert caught.value.param_hint == "--header"
    assert "secret" not in caught.value.message


def test_header_lines_and_variables() -> None:
    """A colon or an equals sign may stand in the value."""
    assert given.headers(["X-A: b: ${KEY}", "Y:"], ENVIRON) == {"X-A": "b: hush-hush", "Y": ""}
    assert given.variables(["KEY", "A=b=${KEY}"], ENVIRON) == {"KEY": "hush-hush", "A": "b=hush-hush"}
    with pytest.raises(typer.BadParameter):
        given.variables(["NOT_SET"], ENVIRON)


def test_times_are_dates_moments_or_spans() -> None:
    """`never` is none; a span counts from now."""
    soon = datetime.fromisoformat(str(given.moment("90d")))

    assert abs(soon - datetime.now(UTC) - timedelta(days=90)) < timedelta(minutes=1)
    assert given.moment("never") is None
    assert given.moment(None) is None
    assert given.moment("2027-01-31T12:00:00Z") == "2027-01-31T12:00:00+00:00"
    assert str(given.moment("2027-01-31")).startswith("2027-01-31T00:00:00")
    with pytest.raises(typer.BadParameter, match="90d"):
        given.moment("tomorrow")
