"""The journal's files: `journal-<number>.jsonl`, numbered as they were begun, and `id`, which names the journal."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

ID_FILE = "id"
_ID_LENGTH = 24


def segment_path(directory: Path, number: int) -> Path:
    """The file of a segment."""
    return directory / f"journal-{number}.jsonl"


def segment_number(segment: Path) -> int:
    """The number in its name."""
    return int(segment.stem.partition("-")[2])


def segments(directory: Path) -> list[Path]:
    """All that are there, oldest first."""
    return sorted((path for path in directory.glob("journal-[0-9]*.jsonl") if _is_segment(path)), key=segment_number)


def journal_id(directory: Path) -> str:
    """What tells this journal from all others, also in a database that several gateways share. Made at its first use.

    Raises OSError.
    """
    path = directory / ID_FILE
    found = _read(path)
    if found:
        return found
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    # Written beside and linked: of two that make one at once, one wins, and a crash leaves no half one.
    beside = directory / f".id-{secrets.token_hex(8)}"
    with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "w") as file:
        file.write(secrets.token_hex(_ID_LENGTH // 2) + "\n")
    try:
        os.link(beside, path)
    except FileExistsError:
        if not _read(path):  # damaged: what another has just made is whole
            beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
    return _read(path)


def _read(path: Path) -> str:
    try:
        text = path.read_text("ascii", "replace").strip()
    except FileNotFoundError:
        return ""
    return text if len(text) == _ID_LENGTH and text.isalnum() else ""


def _is_segment(path: Path) -> bool:
    return path.stem.partition("-")[2].isdecimal()
