"""Finding the records of one request in the journal."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from moongate.audit.finding import MAX_RECORDS, find_records
from moongate.audit.meanings import MEANINGS
from moongate.errors import FailureClass
from tests.docs.pages import DOCS, table, text

_LINK = re.compile(r"\[([^]]*)\]\([a-z.]+\)")
ONE, TWO = "0123456789ab00000001", "0123456789ab00000002"


def segment(directory: Path, number: int, *lines: str) -> None:
    """One file of the journal."""
    (directory / f"journal-{number}.jsonl").write_text("".join(f"{line}\n" for line in lines), "utf-8")


def record(request_id: str, status: int, path: str = "/") -> str:
    """One line of it."""
    escaped = path.replace('"', '\\"')
    return f'{{"time":1.0,"requestId":"{request_id}","path":"{escaped}","status":{status}}}'


def test_records_are_found_in_all_segments_in_order(tmp_path: Path) -> None:
    """Segments by number, not by name; others' records are left out; empty files do no harm."""
    segment(tmp_path, 9, record(ONE, 1), record(TWO, 2), record(ONE, 3))
    segment(tmp_path, 10, record(TWO, 4), record(ONE, 5))
    segment(tmp_path, 11)
    assert [found["status"] for found in find_records(tmp_path, ONE)] == [1, 3, 5]
    assert [found["status"] for found in find_records(tmp_path, TWO)] == [2, 4]
    assert find_records(tmp_path, "f" * 20) == []
    assert find_records(tmp_path / "nowhere", ONE) == []


def test_what_only_looks_like_the_record_is_none(tmp_path: Path) -> None:
    """A path with the id in it, a line that a crash tore, a last line without its end, bytes that are no text."""
    file = tmp_path / "journal-1.jsonl"
    torn = record(ONE, 1)[:40]
    lines = [record(TWO, 2, f'/"requestId":"{ONE}"'), torn, f'["requestId":"{ONE}"]', record(ONE, 3)]
    file.write_bytes(b"\xff\xfe\n" + "\n".join(lines).encode())
    assert [found["status"] for found in find_records(tmp_path, ONE)] == [3]


def test_the_answer_is_bounded(tmp_path: Path) -> None:
    """However many records have the id."""
    segment(tmp_path, 1, *(record(ONE, number) for number in range(MAX_RECORDS + 50)))
    segment(tmp_path, 2, record(ONE, 1))
    assert len(find_records(tmp_path, ONE)) == MAX_RECORDS


@pytest.mark.parametrize("request_id", ["", "0123", "..", "0123456789ab0000000g", f"{ONE}\n", 'a"b', ONE.upper() + "!"])
def test_what_is_no_id_is_refused(tmp_path: Path, request_id: str) -> None:
    """Before any file is read."""
    with pytest.raises(ValueError, match="20 hexadecimal digits"):
        find_records(tmp_path, request_id)


def test_the_meanings_are_those_of_the_documentation() -> None:
    """One row for each class, in the same words."""
    rows = table(text(DOCS / "failures.md"), "class", "status", "what it means")
    plain = [[_LINK.sub(r"\1", cell.replace("`", "")) for cell in row] for row in rows]
    assert [(row[0], row[2], row[3]) for row in plain] == [
        (failure.value, meaning.what, meaning.do) for failure, meaning in MEANINGS.items()
    ]
    assert list(MEANINGS) == list(FailureClass)
