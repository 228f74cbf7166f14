"""Looks through all files of the project for words that must not be in any of them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

from tests.architecture.rules import ROOT

# Put together from parts, so that this file does not hold what it looks for.
MACHINE_PATHS = tuple("/" + "/".join(parts) for parts in (("work", ""), ("root", ""), ("tmp", ""), ("home", "")))
REGISTRIES = tuple(".".join(parts) for parts in (("registry", "npmjs"), ("pythonhosted", "org"), ("pypi", "org")))
FORBIDDEN = re.compile(
    "|".join(
        [
            rf"(?<![\w.$)}}-]){path}"
            for path in MACHINE_PATHS  # an absolute path, not the middle of one
        ]
        + [re.escape(host) for host in REGISTRIES]
    )
)
LOCK_FILES = ("constraints*.txt", "package-lock.json")
ADDRESS_IN_LOCK = re.compile(r'"resolved"|^(?!\s*#).*(?:://|@ |--index|--find-links)', re.MULTILINE)


def ignored_names(root: Path = ROOT) -> list[str]:
    """The patterns of .gitignore; plain names only, so that this reading of them is the same as git's."""
    lines = (root / ".gitignore").read_text("utf-8").splitlines()
    return [line.rstrip("/") for line in lines if line and not line.startswith("#")]


def project_files(root: Path = ROOT) -> Iterator[Path]:
    """What is in the project or about to be: every file that git would not ignore (git itself need not be there)."""
    skipped = [".git", *ignored_names(root)]
    waiting = [root]
    while waiting:
        for entry in sorted(waiting.pop().iterdir()):
            if any(fnmatch(entry.name, pattern) for pattern in skipped) or entry.is_symlink():
                continue
            if entry.is_dir():
                waiting.append(entry)
            else:
                yield entry


def forbidden_words(text: str) -> list[str]:
    """Machine paths and registry hosts in a text, with their lines."""
    return [
        f"{number} {found[0]}" for number, line in enumerate(text.splitlines(), 1) for found in FORBIDDEN.finditer(line)
    ]


def addresses_in_lock(name: str, text: str) -> list[str]:
    """Where a lock file says from where, not only what and which version. Addresses of sponsors are no sources."""
    if not any(fnmatch(name, pattern) for pattern in LOCK_FILES):
        return []
    lines = [line for line in text.splitlines() if not (name.endswith(".json") and '"url": "https://' in line)]
    return [line.strip() for line in lines if ADDRESS_IN_LOCK.search(line)]
