"""The journal's files: `journal-<number>.jsonl`, numbered as they were begun, and `id`, which names the journal."""

from __future__ import annotations

import fcntl
import logging
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

log = logging.getLogger(__name__)

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
    return _known(directory).id


def journal_begin(directory: Path) -> tuple[int, int]:
    """The segment, and the place in it, where a journal begins that had to get another name; else (0, 0).

    Raises OSError.
    """
    known = _known(directory)
    return known.segment, known.place


class _Known(NamedTuple):
    id: str
    segment: int = 0
    place: int = 0


def _known(directory: Path) -> _Known:
    path = directory / ID_FILE
    found = _read(path)
    if found is not None:
        return found
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    made = _Known(secrets.token_hex(_ID_LENGTH // 2))
    # Written beside and linked: of two that make one at once, one wins, and a crash leaves no half one.
    with _beside(directory, made) as beside:
        try:
            os.link(beside, path)
        except FileExistsError:
            _mend(directory, path, made)
    sync_directory(directory)
    return _read(path) or made


def _mend(directory: Path, path: Path, made: _Known) -> None:
    """Another name for a journal whose name was lost, unless another process was faster: what there is already may be
    in the database under the former name, so it begins after that.
    """
    with path.open("r+b") as damaged:
        fcntl.flock(damaged, fcntl.LOCK_EX)
        if _read(path) is not None:
            return
        found = segments(directory)
        if found:
            last = found[-1]
            made = made._replace(segment=segment_number(last), place=last.stat().st_size)
            for before in found[:-1]:
                before.rename(before.with_name(f"before-{before.name}"))
            log.error(
                "%s is damaged: the journal gets a new name and begins anew at byte %d of %s; records before that which"
                " are not in the database yet stay in the files",
                path,
                made.place,
                last,
            )
        with _beside(directory, made) as beside:
            beside.replace(path)


@contextmanager
def _beside(directory: Path, made: _Known) -> Iterator[Path]:
    """A file on the disk with this name in it, beside the one that is to have it."""
    beside = directory / f".id-{secrets.token_hex(8)}"
    try:
        with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "w") as file:
            file.write(f"{made.id} {made.segment} {made.place}\n" if made.segment else f"{made.id}\n")
            file.flush()
            os.fsync(file.fileno())
        yield beside
    finally:
        beside.unlink(missing_ok=True)


def _read(path: Path) -> _Known | None:
    try:
        words = path.read_text("ascii", "replace").split()
    except FileNotFoundError:
        return None
    if len(words) not in (1, 3) or len(words[0]) != _ID_LENGTH or not words[0].isalnum():
        return None
    return _Known(words[0], *map(int, words[1:])) if all(map(_is_number, words[1:])) else None


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < _ID_LENGTH


def sync_directory(directory: Path) -> None:
    """What was made, renamed or removed in it is on the disk then. Raises OSError."""
    number = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def _is_segment(path: Path) -> bool:
    return path.stem.partition("-")[2].isdecimal()
