"""The table of failures says what the gateway answers."""

from __future__ import annotations

from moongate.errors import FailureClass
from moongate.proxy.reply import FAILURES
from tests.docs.pages import DOCS, table, text

PAGE = text(DOCS / "failures.md")


def test_every_class_has_its_row_with_its_status() -> None:
    """In the order of the code, so that a new class has an obvious place."""
    rows = table(PAGE, "class", "status", "what it means")

    assert [(row[0].strip("`"), row[1]) for row in rows] == [
        (failure.value, str(FAILURES[failure].status)) for failure in FailureClass
    ]


def test_every_row_says_what_it_means() -> None:
    """And what to do about it."""
    for row in table(PAGE, "class", "status", "what it means"):
        assert row[2], row
        assert row[3], row


def test_exceptions_are_of_known_classes() -> None:
    """The second table names classes of the first, with another status."""
    usual = {failure.value: str(FAILURES[failure].status) for failure in FailureClass}
    rows = table(PAGE, "class", "status", "when")

    assert rows
    for row in rows:
        assert usual[row[0].strip("`")] != row[1], row


def test_the_example_is_what_a_client_gets() -> None:
    """The text of the example is that of its class."""
    failure = FAILURES[FailureClass.UPSTREAM_CONNECT]

    assert f'"code": {failure.code},' in PAGE
    assert f'"message": "{failure.text} (request ' in PAGE
