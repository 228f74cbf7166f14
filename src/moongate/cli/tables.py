"""What the API answers, for people: tables that fit the terminal, pairs of name and value; and for scripts: JSON.

Texts come from others (names, notes, what servers say), so nothing in them can drive a terminal.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.table import Table

Row = Mapping[str, Any]
NOTHING = "-"
# What JSON does not escape itself.
_CONTROLS = re.compile(r"[\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_GAP = 2
MANY = 10_000


@dataclass(frozen=True, slots=True)
class Column:
    """`value` makes a cell of a row. `needed` columns stay in narrow terminals, others give way, the last one first."""

    title: str
    value: Callable[[Row], object]
    needed: bool = False


def console(*, stderr: bool = False) -> Console:
    """Plain text: no markup, no guessing of colours; where there is no terminal, lines are as long as they are."""
    terminal = (sys.stderr if stderr else sys.stdout).isatty()
    width = None if terminal else MANY
    return Console(stderr=stderr, highlight=False, markup=False, emoji=False, soft_wrap=True, width=width)


def show_json(value: object) -> None:
    """For scripts; also here nothing can drive a terminal."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    print(_CONTROLS.sub(lambda match: f"\\u{ord(match[0]):04x}", text))


def show_rows(rows: Sequence[Row], columns: Sequence[Column], empty: str) -> None:
    """A table; where even its needed columns do not fit, one block for each row. `empty` says that there are none."""
    out = console()
    if not rows:
        out.print(empty)
        return
    cells = [[shown(column.value(row)) for column in columns] for row in rows]
    kept = fitting(columns, cells, out.width)
    if kept is None:
        for number, row in enumerate(cells):
            if number:
                out.print()
            _pairs(out, [(column.title, text) for column, text in zip(columns, row, strict=True)])
        return
    table = Table(box=None, padding=(0, _GAP, 0, 0), pad_edge=False, header_style="bold")
    for index in kept:
        table.add_column(columns[index].title.upper(), overflow="fold", style="bold" if index == 0 else None)
    for row in cells:
        table.add_row(*(row[index] for index in kept))
    out.print(table, soft_wrap=False)


def fitting(columns: Sequence[Column], cells: Sequence[Sequence[str]], width: int) -> list[int] | None:
    """The columns that fit side by side; None if the needed ones do not."""
    widths = [
        max(len(column.title), *(len(row[index]) for row in cells)) + _GAP for index, column in enumerate(columns)
    ]
    kept = list(range(len(columns)))
    while sum(widths[index] for index in kept) - _GAP > width:
        spare = [index for index in kept if not columns[index].needed]
        if not spare:
            return None
        kept.remove(spare[-1])
    return kept


def show_pairs(pairs: Sequence[tuple[str, object]]) -> None:
    """Names and values below each other; those without a value are left out."""
    _pairs(console(), [(name, shown(value)) for name, value in pairs if value not in (None, "", [], {})])


def _pairs(out: Console, pairs: Sequence[tuple[str, str]]) -> None:
    width = max((len(name) for name, _ in pairs), default=0)
    for name, text in pairs:
        out.print(f"{name:{width}}  ", style="bold", end="")
        out.print(text.replace("\n", "\n" + " " * (width + _GAP)))


def shown(value: object) -> str:
    """A value as a cell."""
    if value is None or value in ("", []):
        return NOTHING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(shown(item) for item in value)
    if isinstance(value, dict):
        return "\n".join(safe(line) for line in json.dumps(value, indent=2, ensure_ascii=False).splitlines())
    return safe(str(value))


def when(text: object) -> str:
    """An RFC 3339 time in the time of this machine, without fractions."""
    if not isinstance(text, str):
        return NOTHING
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return safe(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return moment.astimezone().strftime("%Y-%m-%d %H:%M")


def safe(text: str) -> str:
    """Without what could drive a terminal."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)


def done(text: str) -> None:
    """What has happened, for people who watch; scripts read the exit code."""
    console(stderr=True).print(safe(text))
