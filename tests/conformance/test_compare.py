"""How two runs of the suite are compared."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conformance.compare import Allowed, Difference, compare, judge, main, read_baseline
from tests.conformance.results import Check, count, load


def check(status: str, name: str = "Lists", scenario: str = "tools-list") -> Check:
    """A check whose id is the same whatever its name, as the suite has them."""
    return Check(scenario, "tools", name, status, "no tools" if status == "FAILURE" else "")


def write(folder: Path, scenario: str, *checks: dict[str, str]) -> None:
    """Results as the suite leaves them."""
    place = folder / f"{scenario}-2026-11-21T10-13-25-228Z"
    place.mkdir(parents=True)
    (place / "checks.json").write_text(json.dumps(checks))


def test_equal_runs_have_no_difference() -> None:
    """The order in which checks come does not matter."""
    one = [check("SUCCESS"), check("FAILURE"), check("SUCCESS", "Calls")]
    assert compare(one, reversed(one)) == []


def test_a_failure_is_a_difference_and_says_why() -> None:
    """The message is the second run's."""
    found = compare([check("SUCCESS")], [check("FAILURE")])
    assert found == [Difference("tools-list", "tools (Lists)", ("SUCCESS",), ("FAILURE",), "no tools")]
    assert str(found[0]) == "tools-list: tools (Lists): SUCCESS -> FAILURE (no tools)"


@pytest.mark.parametrize("after", [[], [check("SKIPPED")], [check("WARNING")]])
def test_not_reached_skipped_or_only_warned_is_a_difference(after: list[Check]) -> None:
    """Scenarios that stop early must not look like scenarios that passed."""
    assert len(compare([check("SUCCESS")], after)) == 1


def test_a_repeated_id_is_compared_as_often_as_it_occurs() -> None:
    """One of two equal checks cannot hide that the other is gone or failed."""
    twice = [check("SUCCESS"), check("SUCCESS")]
    assert [item.second for item in compare(twice, [check("SUCCESS")])] == [("SUCCESS",)]
    assert [item.second for item in compare(twice, [check("SUCCESS"), check("FAILURE")])] == [("FAILURE", "SUCCESS")]


def test_results_that_change_places_between_names_are_differences() -> None:
    """Two checks of one id are still two checks."""
    before = [check("SUCCESS", "Lists"), check("FAILURE", "Calls")]
    after = [check("FAILURE", "Lists"), check("SUCCESS", "Calls")]
    assert len(compare(before, after)) == 2


def test_better_is_a_difference_too() -> None:
    """A check that only passes through the gateway shows that the gateway changes something."""
    assert len(compare([check("FAILURE")], [check("SUCCESS")])) == 1
    assert str(compare([], [check("SUCCESS")])[0]) == "tools-list: tools (Lists): not reached -> SUCCESS"


def test_results_are_read_by_scenario(tmp_path: Path) -> None:
    """Folder names lose prefix and time; checks that only inform are left out."""
    passed = {"id": "a", "name": "A", "status": "SUCCESS"}
    failed = {"id": "b", "name": "B", "status": "FAILURE", "errorMessage": "why"}
    write(tmp_path, "server-tools-list", passed, {"id": "c", "name": "C", "status": "INFO"})
    write(tmp_path, "sse-retry", failed)
    checks = load(tmp_path)
    assert checks == (Check("tools-list", "a", "A", "SUCCESS"), Check("sse-retry", "b", "B", "FAILURE", "why"))
    assert count(checks) == (1, 2)
    assert count(checks, frozenset({"tools-list"})) == (1, 1)


def test_a_folder_of_another_kind_is_refused(tmp_path: Path) -> None:
    """Results that cannot be told apart by scenario are not silently dropped."""
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "checks.json").write_text("[]")
    with pytest.raises(ValueError, match="<scenario>-<time>"):
        load(tmp_path)


def test_the_baseline_allows_what_it_names_and_nothing_else() -> None:
    """An entry holds for its transport, revision, scenario and check; one that nothing needs is reported."""
    differences = compare([check("SUCCESS"), check("SUCCESS", "Calls")], [check("FAILURE")])
    needed = Allowed("stdio", "2025-11-25", "tools-list", "tools (Lists)", "because")
    stale = Allowed("stdio", "2025-11-25", "ping", "ping (Ping)", "because")
    later = Allowed("stdio", "2026-07-28", "tools-list", "tools (Calls)", "because")
    elsewhere = Allowed("sse", "2025-11-25", "tools-list", "tools (Calls)", "because")
    unexpected, left = judge(differences, [needed, stale, later, elsewhere], "stdio", "2025-11-25")
    assert [item.check for item in unexpected] == ["tools (Calls)"]
    assert left == [stale]


def test_a_baseline_entry_needs_a_reason(tmp_path: Path) -> None:
    """Nobody accepts a difference without saying why."""
    file = tmp_path / "baseline.yml"
    file.write_text('- {transport: sse, revision: "2025-11-25", scenario: ping, check: ping (Ping), reason: " "}\n')
    with pytest.raises(ValueError, match="say in `reason`"):
        read_baseline(file)


def test_our_baseline_is_about_other_transports() -> None:
    """Where the server speaks streamable HTTP, no difference is accepted."""
    assert {entry.transport for entry in read_baseline()} <= {"stdio", "sse"}


def test_the_command_prints_the_differences(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """0 for equal folders, 1 for different ones, 2 where there is nothing to compare."""
    write(tmp_path / "one", "server-ping", {"id": "ping", "name": "Ping", "status": "SUCCESS"})
    write(tmp_path / "two", "server-ping", {"id": "ping", "name": "Ping", "status": "SKIPPED"})
    one, two = str(tmp_path / "one"), str(tmp_path / "two")
    assert main([one, one]) == 0
    assert main([one, two]) == 1
    assert "ping: ping (Ping): SUCCESS -> SKIPPED" in capsys.readouterr().out
    assert main([one, str(tmp_path / "none")]) == 2
    assert main([one]) == 2
