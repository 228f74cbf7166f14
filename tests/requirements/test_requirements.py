"""Acceptance lines and tests stay linked in both directions."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.requirements.scan import Requirement, load, missing, scan_source, scan_tree, unknown


def test_every_mark_names_a_known_line() -> None:
    """A mistyped id is an error, not a requirement that silently has no test."""
    scan = scan_tree()

    assert unknown(load(), scan) == []
    assert scan.complaints == ()


def test_every_promised_line_has_a_test() -> None:
    """What this release promises is proved by at least one test that runs."""
    claimed = [requirement for requirement in load().values() if requirement.claimed]

    owed = [f"{requirement.id} {requirement.text}" for requirement in missing(claimed, scan_tree())]

    assert not owed, "promised, but without a test:\n" + "\n".join(owed)


def test_the_lines_are_readable() -> None:
    """Each line is one sentence, and ids look like ids."""
    for requirement in load().values():
        group, _, number = requirement.id.partition("-")
        assert group in {"PM", "AG"}, requirement
        assert len(number) == 2, requirement
        assert number.isdecimal(), requirement
        assert requirement.text.endswith("."), requirement


MARKED = '''
import pytest

{outer}

@pytest.mark.requirement({inner})
{extra}
def {name}():
    """One sentence."""
'''


def marked(*, inner: str = '"PM-02"', outer: str = "", extra: str = "", name: str = "test_x") -> str:
    """A test file with one marked function."""
    return MARKED.format(inner=inner, outer=outer, extra=extra, name=name)


def test_marks_are_found_where_pytest_finds_them() -> None:
    """On functions, on classes and their methods, in pytestmark, in parameters and in tables of parameters."""
    source = """
import pytest
TABLE = [pytest.param(1, marks=pytest.mark.requirement("PM-06"))]
pytestmark = [pytest.mark.peers, pytest.mark.requirement("PM-01")]

@pytest.mark.requirement("PM-02", "PM-03")
def test_function(): ...

@pytest.mark.requirement("PM-04")
class TestClass:
    @pytest.mark.parametrize("x", [pytest.param(1, marks=pytest.mark.requirement("PM-05"))])
    async def test_method(self, x): ...

@pytest.mark.parametrize("x", TABLE)
def test_table(x): ...
"""
    found = scan_source(source, "tests/test_x.py").by_id()

    assert found == {
        "PM-01": [
            "tests/test_x.py:7 test_function",
            "tests/test_x.py:12 TestClass.test_method",
            "tests/test_x.py:15 test_table",
        ],
        "PM-02": ["tests/test_x.py:7 test_function"],
        "PM-03": ["tests/test_x.py:7 test_function"],
        "PM-04": ["tests/test_x.py:12 TestClass.test_method"],
        "PM-05": ["tests/test_x.py:12 TestClass.test_method"],
        "PM-06": ["tests/test_x.py:15 test_table"],
    }


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        (marked(inner="WANTED"), "write ids as texts"),
        (marked(inner=""), "write ids as texts"),
        (marked(extra="@pytest.mark.skip"), "proves nothing"),
        (marked(extra='@pytest.mark.xfail(reason="later")'), "proves nothing"),
        (marked(outer="pytestmark = pytest.mark.skip"), "proves nothing"),
        (marked(name="helper"), "is on no test"),
        (marked(outer="proves = pytest.mark.requirement"), "is on no test"),
    ],
)
def test_marks_that_prove_nothing_are_errors(source: str, complaint: str) -> None:
    """A mark counts only on a test that runs, with ids that can be read from the source."""
    (found,) = scan_source(source, "tests/test_x.py").complaints

    assert complaint in found


def test_unknown_and_missing_ids_are_told(tmp_path: Path) -> None:
    """An id without a line and a line without a test both come out of the comparison."""
    folder = tmp_path / "tests"
    folder.mkdir()
    (folder / "test_x.py").write_text(marked(inner='"PM-99"'), "utf-8")
    lines = {"PM-02": Requirement("PM-02", "It works.", claimed=True)}

    scan = scan_tree(folder)

    assert unknown(lines, scan) == ["tests/test_x.py:8 test_x: PM-99"]
    assert missing(lines.values(), scan) == [lines["PM-02"]]
