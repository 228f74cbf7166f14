"""`python -m tests.conformance`: the suite against the fixture server, directly and through the gateway, as a table."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests.conformance.compare import compare, judge, read_baseline
from tests.conformance.processes import NotReady, everything, gateway, instances
from tests.conformance.suite import REQUIRED, REVISIONS, Run, SuiteMissing, run

_ROW = "{:<12} {:<8} {:>16} {:>16} {:>13} {:>13}   {}"
_TRANSPORTS = ("http", "stdio", "sse")


def _of(counts: tuple[int, int]) -> str:
    return f"{counts[0]}/{counts[1]}"


def _report(transport: str, direct: Run, through: Run) -> bool:
    """Print one row and the differences below it; True if all is as it must be."""
    differences = compare(direct.checks, through.checks)
    unexpected, stale = judge(differences, read_baseline(), transport, direct.revision)
    summary = f"{len(differences)} differences" if differences else "none"
    counts = (direct.scored, through.scored, direct.total, through.total)
    print(_ROW.format(direct.revision, transport, *map(_of, counts), summary))
    for difference in differences:
        print(f"  {'!' if difference in unexpected else 'allowed'} {difference}")
    for entry in stale:
        print(f"  ! baseline.yml allows {entry.scenario}: {entry.check}, but there is no such difference")
    return not unexpected and not stale


def _is_strong(direct: Run) -> bool:
    """Whether the server under test passes all required checks itself."""
    number = REQUIRED[direct.revision]
    if direct.scored == (number, number) and not direct.exit_code:
        return True
    print(f"  ! the server under test does not pass all {number} required checks itself; the suite said:")
    print(direct.output)
    return False


def main() -> int:
    """Run everything; 0 if nothing was lost on the way through the gateway."""
    print(_ROW.format("", "server", "required direct", "through gateway", "all direct", "gateway", "differences"))
    good = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with everything(folder) as url, everything(folder, "sse") as sse, gateway(folder, instances(url, sse)) as base:
            for revision in REVISIONS:
                direct = run(url.replace("127.0.0.1", "localhost"), revision, folder / f"direct-{revision}")
                good.append(_is_strong(direct))
                for transport in _TRANSPORTS:
                    through = run(f"{base}/{transport}", revision, folder / f"{transport}-{revision}")
                    good.append(_report(transport, direct, through))
    return 0 if all(good) else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (NotReady, SuiteMissing) as problem:
        sys.exit(str(problem))
