"""Runs the official conformance suite (npm, pinned in tests/node/package.json)."""

from __future__ import annotations

import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import yaml

from tests.conformance.processes import ROOT, environment
from tests.conformance.results import Check, count, load

REVISIONS = ("2025-11-25", "2026-07-28")
# Checks in the scenarios that each revision requires of a server.
REQUIRED = {"2025-11-25": 70, "2026-07-28": 120}

_NODE = Path(sys.executable).parent / "node"
_PACKAGE = ROOT / "tests/node/node_modules/@modelcontextprotocol/conformance"
_PROGRAM = _PACKAGE / "dist/index.js"
_LIMIT = 120


class SuiteMissing(Exception):
    """Node.js or the suite is not where `make test` puts them."""


def command(*arguments: str) -> list[str]:
    """The command line of the suite; raises `SuiteMissing`."""
    for file in (_NODE, _PROGRAM):
        if not file.exists():
            raise SuiteMissing(
                f"{file} does not exist. `make test` and `make conformance` install it; run one of them."
            )
    return [str(_NODE), str(_PROGRAM), *arguments]


def required(revision: str) -> frozenset[str]:
    """The scenarios that a server must pass, from the suite's own list."""
    listed = yaml.safe_load((_PACKAGE / f"requirements/{revision}.yaml").read_text())
    return frozenset(listed["server"])


@dataclass(frozen=True)
class Run:
    """One run over all scenarios of a revision."""

    revision: str
    exit_code: int
    checks: tuple[Check, ...]
    output: str

    @property
    def scored(self) -> tuple[int, int]:
        """Required checks: passed and all."""
        return count(self.checks, required(self.revision))

    @property
    def total(self) -> tuple[int, int]:
        """All checks, also of scenarios that a revision does not require: passed and all."""
        return count(self.checks)


def run(url: str, revision: str, folder: Path) -> Run:
    """Run the server scenarios of `revision` against the server at `url`; `folder` must not exist yet."""
    return _run(["server", "--url", url, "--requirements", revision], revision, folder)


def run_client(scenario: str, revision: str, folder: Path, *, through: bool) -> Run:
    """Run one client scenario: the suite is the server, the client is ours, maybe with a gateway between them."""
    client = [sys.executable, "-m", "tests.conformance.client", *(["--through"] if through else [])]
    limit = ["--timeout", str(_LIMIT * 1000 // 2)]
    arguments = ["client", "--command", shlex.join(client), "--scenario", scenario, "--spec-version", revision, *limit]
    return _run(arguments, revision, folder)


def _run(arguments: list[str], revision: str, folder: Path) -> Run:
    done = subprocess.run(
        command(*arguments, "-o", str(folder)),
        check=False,
        cwd=ROOT,
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_LIMIT,
    )
    return Run(revision, done.returncode, load(folder), done.stdout + done.stderr)
