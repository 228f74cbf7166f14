"""What the suite wrote into its output folder."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

# `server-<scenario>-<time>`; the time is there so that runs into one folder do not overwrite each other.
_FOLDER = re.compile(r"(?:server-)?(?P<scenario>.+?)-\d{4}-\d\d-\d\dT[0-9-]+Z?$")


@dataclass(frozen=True)
class Check:
    """One thing that a scenario looked at. `message` is empty unless it failed."""

    scenario: str
    id: str
    name: str
    status: str
    message: str = ""


def load(folder: Path) -> tuple[Check, ...]:
    """The checks of the run that wrote to `folder` (the suite's option `-o`), without those that only inform."""
    checks: list[Check] = []
    for file in sorted(folder.glob("*/checks.json")):
        found = _FOLDER.fullmatch(file.parent.name)
        if found is None:
            raise ValueError(f"{file.parent}: the name is not <scenario>-<time>, as the suite names its folders")
        for entry in json.loads(file.read_text()):
            if entry["status"] != "INFO":
                message = entry.get("errorMessage") or ""
                checks.append(Check(found["scenario"], entry["id"], entry["name"], entry["status"], message))
    return tuple(checks)


def count(checks: tuple[Check, ...], scenarios: frozenset[str] | None = None) -> tuple[int, int]:
    """How many checks passed and how many ended one way or the other; only those of `scenarios`, if they are named."""
    ended = [
        check.status
        for check in checks
        if check.status in {"SUCCESS", "FAILURE"} and (scenarios is None or check.scenario in scenarios)
    ]
    return ended.count("SUCCESS"), len(ended)
