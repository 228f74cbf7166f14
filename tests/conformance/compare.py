"""The difference between two runs of the suite, check by check.

`python -m tests.conformance.compare FOLDER FOLDER` prints it for two output folders and ends with 1 if there is any.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from tests.conformance.results import Check, load

BASELINE = Path(__file__).parent / "baseline.yml"


@dataclass(frozen=True)
class Difference:
    """A check that ended otherwise the second time.

    The suite uses some ids several times in one scenario, so each side is a sorted list of how they ended; an empty one
    means that the check was not reached.
    """

    scenario: str
    check: str
    first: tuple[str, ...]
    second: tuple[str, ...]
    message: str = ""

    def __str__(self) -> str:
        before, after = (", ".join(side) or "not reached" for side in (self.first, self.second))
        text = f"{self.scenario}: {self.check}: {before} -> {after}"
        return f"{text} ({self.message})" if self.message else text


@dataclass(frozen=True)
class Allowed:
    """A difference that is accepted where the server speaks this transport (http, stdio or sse), and why."""

    transport: str
    revision: str
    scenario: str
    check: str
    reason: str


def _by_name(checks: Iterable[Check]) -> Mapping[tuple[str, str], list[Check]]:
    grouped: dict[tuple[str, str], list[Check]] = defaultdict(list)
    for check in checks:
        # Where an id is used for several things, the name tells them apart.
        grouped[check.scenario, f"{check.id} ({check.name})"].append(check)
    return grouped


def compare(first: Iterable[Check], second: Iterable[Check]) -> list[Difference]:
    """Every check that is missing, new or ended otherwise in `second`, in the order of scenario and name."""
    one, other = _by_name(first), _by_name(second)
    differences: list[Difference] = []
    for key in sorted({*one, *other}):
        before, after = one.get(key, []), other.get(key, [])
        statuses = tuple(sorted(check.status for check in before)), tuple(sorted(check.status for check in after))
        if statuses[0] != statuses[1]:
            message = "; ".join(dict.fromkeys(check.message for check in after if check.message))
            differences.append(Difference(*key, *statuses, message))
    return differences


def read_baseline(file: Path = BASELINE) -> list[Allowed]:
    """The accepted differences. An entry has exactly the keys of `Allowed`, and its `reason` is not empty."""
    entries = yaml.safe_load(file.read_text()) or []
    allowed = [Allowed(**{key: str(value) for key, value in entry.items()}) for entry in entries]
    for entry in allowed:
        if not entry.reason.strip():
            raise ValueError(f"{file.name}: {entry.scenario}: {entry.check}: say in `reason` why this is accepted")
    return allowed


def judge(
    differences: Sequence[Difference], allowed: Iterable[Allowed], transport: str, revision: str
) -> tuple[list[Difference], list[Allowed]]:
    """The differences that nobody accepted, and the entries of the baseline that no difference needs any more."""
    found = {(difference.scenario, difference.check) for difference in differences}
    accepted = {
        (entry.scenario, entry.check): entry
        for entry in allowed
        if (entry.transport, entry.revision) == (transport, revision)
    }
    unexpected = [item for item in differences if (item.scenario, item.check) not in accepted]
    stale = [entry for key, entry in accepted.items() if key not in found]
    return unexpected, stale


def main(arguments: Sequence[str]) -> int:
    """Print the difference between two output folders."""
    if len(arguments) != 2:
        print("usage: python -m tests.conformance.compare FOLDER FOLDER", file=sys.stderr)
        return 2
    first, second = (load(Path(argument)) for argument in arguments)
    if not first or not second:
        print("One of the folders holds no results: there is no */checks.json in it.", file=sys.stderr)
        return 2
    differences = compare(first, second)
    for difference in differences:
        print(difference)
    print(
        f"{len(differences)} differences in {len({(check.scenario, check.id, check.name) for check in first})} checks"
    )
    return min(len(differences), 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
