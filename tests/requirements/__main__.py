"""Prints which acceptance lines have a test and which have none yet."""

from __future__ import annotations

import sys

from tests.requirements.scan import Scan, load, missing, scan_tree, unknown


def report(scan: Scan) -> tuple[list[str], bool]:
    """The report's lines, and whether all that is promised is proved."""
    requirements = load()
    without = missing(requirements.values(), scan)
    owed = [requirement for requirement in without if requirement.claimed]
    later = [requirement for requirement in without if not requirement.claimed]
    claimed = sum(requirement.claimed for requirement in requirements.values())
    proved = scan.by_id()
    lines = [f"{name}  {len(tests)} test(s), first: {tests[0]}" for name, tests in sorted(proved.items())]
    lines += ["", f"Promised, but without a test: {len(owed)} of {claimed}"]
    lines += [f"  {requirement.id}  {requirement.text}" for requirement in owed]
    lines += ["", f"Not promised yet and without a test: {len(later)}"]
    lines += [f"  {requirement.id}  {requirement.text}" for requirement in later]
    wrong = [*scan.complaints, *(f"{place}: there is no such id" for place in unknown(requirements, scan))]
    if wrong:
        lines += ["", "Wrong marks:", *(f"  {text}" for text in wrong)]
    return lines, not owed and not wrong


if __name__ == "__main__":
    text, complete = report(scan_tree())
    print("\n".join(text))
    sys.exit(not complete)
