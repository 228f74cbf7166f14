"""What people see: tables that fit, and nothing that could drive their terminal."""

from __future__ import annotations

import pytest

from moongate.cli.tables import Column, fitting, shown, when

COLUMNS = (
    Column("name", lambda row: row["name"], needed=True),
    Column("address", lambda row: row["address"], needed=True),
    Column("mode", lambda row: row["mode"]),
    Column("tags", lambda row: row["tags"]),
)
CELLS = [["time", "http://127.0.0.1:8000/mcp/time", "proxy", "a, b"]]


@pytest.mark.parametrize(
    ("width", "kept"),
    [(400, [0, 1, 2, 3]), (49, [0, 1, 2, 3]), (48, [0, 1, 2]), (43, [0, 1, 2]), (36, [0, 1]), (35, None), (1, None)],
)
def test_columns_give_way_from_the_end(width: int, kept: list[int] | None) -> None:
    """Needed ones stay; where even they do not fit, each row becomes a block."""
    assert fitting(COLUMNS, CELLS, width) == kept


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        ("", "-"),
        ([], "-"),
        (True, "yes"),
        (False, "no"),
        (0, "0"),
        (["a", "b"], "a, b"),
        ("red\x1b[31m\nline", "red�[31m�line"),
        ({"a": "\x1b"}, '{\n  "a": "\\u001b"\n}'),
        ({"a": "\u009b"}, '{\n  "a": "�"\n}'),
    ],
)
def test_values_as_cells(value: object, text: str) -> None:
    """Each kind has one spelling; control characters are replaced."""
    assert shown(value) == text


def test_times_are_this_machines() -> None:
    """Minutes are enough; what is no time is shown as it is."""
    assert len(when("2026-11-21T16:30:01.123Z")) == len("2026-11-21 16:30")
    assert when("soon\x1b") == "soon�"
    assert when(None) == "-"
