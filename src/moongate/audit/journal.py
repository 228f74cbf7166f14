"""The append-only file of records: one `write` per loop turn, and no answer leaves before its record.

`commit` takes a record and what is to happen once it is written (the bytes that complete the answer leave then).
Everything that was committed in one turn of the event loop shares one write. The file survives `kill -9`; a power cut
may cost its end, unless `sync` sends each write to the disk. A full disk or a lost directory does not stop the gateway:
it says so, goes on, and counts in `lost` what was not kept; once it can be written again, a line of the journal says so
too: `{"time": ..., "lost": 7}`.

Each start begins a new file: after a power cut the end of the former one may be missing although it is in the database,
and what was written there now would be taken for that.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import re
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from moongate.audit.segments import journal_id, segment_number, segment_path, segments, sync_directory

log = logging.getLogger(__name__)

SEGMENT_BYTES = 64 * 1024 * 1024
KEEP_BYTES = 1024 * 1024 * 1024
_COMPLAIN_SECONDS = 10.0
# So many files without a record at the end, and the last one is used again: a gateway that is started over and over
# while the database is away fills no directory.
_EMPTY_SEGMENTS = 16
_LOST = re.compile(rb',"lost":([0-9]{1,18})\}\n')
_READ = 1 << 20


class Journal:
    """Segments `journal-<number>.jsonl` in a directory; the oldest are removed when all exceed `keep_bytes`.

    `directory` None keeps nothing (nothing is counted as lost then either). `failing`: the last write was in vain.
    `strict`: none is removed, writing is in vain then.
    """

    def __init__(
        self,
        directory: Path | None,
        *,
        segment_bytes: int = SEGMENT_BYTES,
        keep_bytes: int = KEEP_BYTES,
        strict: bool = False,
    ) -> None:
        self.written = 0
        self.lost = 0
        self.removed_segments = 0
        self.failing = False
        self.sync = False
        self.strict = strict
        self._directory = directory
        self._segment_bytes = segment_bytes
        self._keep_bytes = keep_bytes
        self._loop = asyncio.get_running_loop()
        self._lines: list[bytes] = []
        self._wanted = 0
        self._then: list[Callable[[], None]] = []
        self._file = -1
        self._size = 0
        self._number = 0
        # What each segment of this process has.
        self._held: dict[int, _Held] = {}
        self._complained = 0.0
        self._unsaid = 0
        if directory is not None:
            journal_id(directory)
            self._number = _last_number(directory)
            try:
                self._open_segment()
            except OSError as error:
                if not self.strict or error.errno != errno.EDQUOT:
                    raise
                self._give_up(0, str(error.strerror))

    def commit(self, line: bytes, then: Callable[[], None]) -> None:
        """Write `line` (or lines, of an array) in this turn, call `then` after it."""
        if not self._then:
            self._loop.call_soon(self.flush)
        self._lines.append(line)
        # Looking for one line end costs next to nothing, counting all of them does not.
        self._wanted += 1 if line.find(b"\n") == len(line) - 1 else line.count(b"\n")
        self._then.append(then)

    def flush(self) -> None:
        """Write what was committed, then let the answers leave."""
        lines, self._lines = self._lines, []
        waiting, self._then = self._then, []
        wanted, self._wanted = self._wanted, 0
        if self._directory is not None and lines:
            self._write(lines, wanted)
        for then in waiting:
            try:
                then()
            except Exception:
                log.exception("an answer could not be sent after its record was written")

    def _write(self, lines: list[bytes], wanted: int) -> None:
        data = lines[0] if len(lines) == 1 else b"".join(lines)
        said = 0
        try:
            if self._file < 0 or self._size >= self._segment_bytes or not os.fstat(self._file).st_nlink:
                self._open_segment()
            said = self._unsaid
            if said:
                data = b'{"time":%.6f,"lost":%d}\n%b' % (time.time(), said, data)
            written = os.write(self._file, data)
            if self.sync:
                os.fdatasync(self._file)
        except OSError as error:
            self._give_up(wanted, error.strerror or str(error))
            return
        kept = wanted + 1 if said else wanted
        if written < len(data):
            written = self._without_torn(data, written)
            kept = data.count(b"\n", 0, written)
        self._size += written
        held = self._held.get(self._number)
        if held is None:
            held = self._held[self._number] = _Held()
        if said and kept:
            self._unsaid -= said
            held.lost += said
            kept -= 1
        held.records += kept
        self.written += kept
        self.failing = kept < wanted
        if self.failing:
            self._give_up(wanted - kept, "the disk is full")

    def _without_torn(self, data: bytes, written: int) -> int:
        """Take back the record that was written in part, so that it is not both lost and there; what is left."""
        whole = data.rfind(b"\n", 0, written) + 1
        with suppress(OSError):
            os.ftruncate(self._file, self._size + whole)
            return whole
        return written

    def _give_up(self, count: int, reason: str) -> None:
        self.lost += count
        self._unsaid += count
        self.failing = True
        self._close_file()
        now = time.monotonic()
        if not self._complained or now - self._complained >= _COMPLAIN_SECONDS:
            self._complained = now
            log.error(
                "audit journal in %s cannot be written: %s; records lost so far: %d", self._directory, reason, self.lost
            )

    def _open_segment(self) -> None:
        if self._directory is None:
            return
        # A segment that was removed would take records that nobody can find again, and its number is spent.
        removed = self._file >= 0 and not os.fstat(self._file).st_nlink
        if self.strict and _total(self._directory) > self._keep_bytes:
            raise _full(self._keep_bytes)
        if not self._number or self._size >= self._segment_bytes or removed:
            self._number += 1
        self._close_file()
        journal_id(self._directory)
        before, self._size = self._size, self._open(self._directory)
        if self._number in self._held and self._size < before:  # it is another file than before
            self._close_file()
            self._number += 1
            self._size = self._open(self._directory)
        if self._size and os.pread(self._file, 1, self._size - 1) != b"\n":
            # The line that a full disk tore is ended, so that the next record has a line of its own; it is no record,
            # even if nothing but its end was missing, because it counts as lost.
            self._size += os.write(self._file, b"\0\n")
        if self.sync:
            sync_directory(self._directory)
        if not self.strict:
            self._remove_oldest(self._directory)

    def _open(self, directory: Path) -> int:
        """How large it is already."""
        path = segment_path(directory, self._number)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        return os.fstat(self._file).st_size

    def _remove_oldest(self, directory: Path) -> None:
        found = segments(directory)
        sizes = [_size(path) for path in found]
        total = sum(sizes)
        for path, size in zip(found[:-1], sizes, strict=False):
            if total <= self._keep_bytes:
                break
            total -= size
            try:
                held = self._held.pop(segment_number(path), None) or _read_held(path)
                path.unlink()
            except FileNotFoundError:  # it has just been moved to the database
                continue
            self.lost += held.records
            self._unsaid += held.records + held.lost
            self.removed_segments += 1
            log.error(
                "the oldest %d audit records were removed to stay below %d bytes, before they were in the database: %s",
                held.records,
                self._keep_bytes,
                path,
            )

    def _close_file(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def close(self) -> None:
        """Write what is left and close the file."""
        self.flush()
        self._close_file()


def _full(keep_bytes: int) -> OSError:
    """More than is to be kept waits for the database."""
    return OSError(errno.EDQUOT, f"more than {keep_bytes} bytes wait for the database")


def _last_number(directory: Path) -> int:
    """That of the last segment of before; 0 if there is none. A new one follows, unless too many are empty."""
    found = segments(directory)
    if not found:
        return 0
    last = segment_number(found[-1])
    ends = found[-_EMPTY_SEGMENTS:]
    return last if len(ends) == _EMPTY_SEGMENTS and not any(map(_size, ends)) else last + 1


def _total(directory: Path) -> int:
    return sum(map(_size, segments(directory)))


@dataclass(slots=True)
class _Held:
    """How many records a segment has, and how many its lines say were lost before."""

    records: int = 0
    lost: int = 0


def _read_held(path: Path) -> _Held:
    """Of a segment of an earlier process. Raises OSError."""
    held = _Held()
    rest = b""
    with path.open("rb") as file:
        while piece := file.read(_READ):
            whole, line_end, rest = (rest + piece).rpartition(b"\n")
            whole += line_end
            said = [int(match[1]) for match in _LOST.finditer(whole)]
            held.records += whole.count(b"\n") - len(said)
            held.lost += sum(said)
    return held


def _size(path: Path) -> int:
    """The ingester may remove a segment at any moment."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
